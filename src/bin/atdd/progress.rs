//! The progress of what takes long, on stderr if that is a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner needs no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// A bar that appears after a while.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// Of so many bytes, if that is known.
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        let template = match bytes {
            Some(_) => "{bar:24} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes} {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).expect("the template is a constant");
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        Self {
            bar: bar.with_style(style),
            began: Instant::now(),
        }
    }

    /// So many more bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        if self.bar.is_hidden() && self.began.elapsed() >= SHOWN_AFTER {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes);
    }

    /// What was done in all, if it took so long that somebody may have wondered. The bar is gone
    /// then, and nothing else says how it ended.
    pub(crate) fn summary(&self, done: &str, bytes: u64) -> Option<String> {
        let took = self.began.elapsed();
        if bytes == 0 || took < SHOWN_AFTER {
            return None;
        }
        self.bar.finish_and_clear();
        Some(in_words(done, bytes, took))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn in_words(done: &str, bytes: u64, took: Duration) -> String {
    let millis = took.as_millis().max(1);
    let rate = u128::from(bytes) * 1000 / millis;
    let tenths = millis / 100;
    format!(
        "{} {done} in {}.{} s, {}/s",
        in_units(bytes.into()),
        tenths / 10,
        tenths % 10,
        in_units(rate)
    )
}

/// Bytes in the largest unit of which there is one.
fn in_units(bytes: u128) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, unit)) = unit else {
        return format!("{bytes} bytes");
    };
    let tenths = (bytes * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, _) if whole >= 10 => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_in_units_that_people_read() {
        let said = in_words("written", 300 << 20, Duration::from_millis(4210));
        assert_eq!(said, "300 MiB written in 4.2 s, 71 MiB/s");
        for (bytes, said) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (4096, "4 KiB"),
            (1_600_000, "1.5 MiB"),
            (5 << 40, "5 TiB"),
        ] {
            assert_eq!(in_units(bytes), said);
        }
    }
}
