//! What was measured, in words and as JSON.

use std::fmt::Write;

use atdd::config::DiskSize;
use atdd::domain::SECTOR_SIZE_U64;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::{Plan, Tally};
use crate::output::columns;

/// The longest bar of a histogram.
const BAR_CELLS: u64 = 40;

const MEBIBYTE: u64 = 1 << 20;

/// A table, and how the latencies are distributed.
pub(crate) fn as_text(plan: &Plan, tally: &Tally) -> String {
    let block =
        DiskSize::from_sectors(plan.block_sectors).expect("a block is no larger than a disk");
    let order = if plan.sequential {
        "sequential"
    } else {
        "random"
    };
    let seconds = tally.elapsed.as_secs_f64();
    let mut text = format!(
        "{order} blocks of {block}, {} at a time, {}% reads, {seconds:.1} s\n\n",
        plan.depth, plan.read_percent
    );
    let mut rows = vec![TITLES.map(str::to_owned)];
    let measured = [("read", &tally.reads), ("write", &tally.writes)];
    let measured = measured
        .into_iter()
        .filter(|(_, latencies)| !latencies.is_empty());
    rows.extend(
        measured
            .clone()
            .map(|(name, latencies)| row(name, latencies, plan, tally)),
    );
    text.push_str(&columns(&rows));
    for (name, latencies) in measured {
        write!(text, "\nlatency of a {name}\n{}", bars(latencies)).expect("a string takes it");
    }
    text
}

const TITLES: [&str; 9] = [
    "",
    "per second",
    "MiB/s",
    "mean",
    "50%",
    "90%",
    "99%",
    "99.9%",
    "longest",
];

fn row(name: &str, latencies: &Histogram<u64>, plan: &Plan, tally: &Tally) -> [String; 9] {
    let tenths = throughput(latencies, plan, tally) * 10 / MEBIBYTE;
    let at = |quantile| in_units(latencies.value_at_quantile(quantile));
    [
        name.to_owned(),
        rate(latencies, tally).to_string(),
        format!("{}.{}", tenths / 10, tenths % 10),
        mean(latencies),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        in_units(latencies.max()),
    ]
}

fn mean(latencies: &Histogram<u64>) -> String {
    let sum: u64 = latencies
        .iter_recorded()
        .map(|step| step.value_iterated_to() * step.count_since_last_iteration())
        .sum();
    in_units(sum / latencies.len().max(1))
}

/// Requests a second.
fn rate(latencies: &Histogram<u64>, tally: &Tally) -> u64 {
    per_second(latencies.len(), tally)
}

/// Bytes a second.
fn throughput(latencies: &Histogram<u64>, plan: &Plan, tally: &Tally) -> u64 {
    let block_bytes = plan.block_sectors * SECTOR_SIZE_U64;
    per_second(latencies.len() * block_bytes, tally)
}

fn per_second(count: u64, tally: &Tally) -> u64 {
    let millis = u64::try_from(tally.elapsed.as_millis()).unwrap_or(u64::MAX);
    count.saturating_mul(1000) / millis.max(1)
}

/// One bar for each power of two, from the shortest latency to the longest.
fn bars(latencies: &Histogram<u64>) -> String {
    let first = latencies.min().max(1).ilog2();
    let last = latencies.max().max(1).ilog2();
    let counts: Vec<_> = (first..=last)
        .map(|power| (power, latencies.count_between(1 << power, (2 << power) - 1)))
        .collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut text = String::new();
    for (power, count) in counts {
        let cells = usize::try_from((count * BAR_CELLS).div_ceil(most.max(1))).unwrap_or(0);
        let from = in_units(1 << power);
        let bar = "#".repeat(cells);
        writeln!(text, "  from {from:>8} {bar:<40} {count}").expect("a string takes it");
    }
    text
}

/// Microseconds in the unit that suits them.
fn in_units(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} us"),
        10_000..10_000_000 => format!("{}.{} ms", micros / 1000, micros / 100 % 10),
        _ => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

/// The same for programs.
pub(crate) fn as_json(plan: &Plan, tally: &Tally) -> Value {
    let seconds = tally.elapsed.as_secs_f64();
    let measured = |latencies: &Histogram<u64>| {
        let at = |quantile| latencies.value_at_quantile(quantile);
        json!({
            "count": latencies.len(),
            "per_second": rate(latencies, tally),
            "bytes_per_second": throughput(latencies, plan, tally),
            "latency_us": {
                "mean": latencies.mean(),
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p99_9": at(0.999),
                "max": latencies.max(),
            },
        })
    };
    json!({
        "depth": plan.depth,
        "read_percent": plan.read_percent,
        "block_bytes": plan.block_sectors * SECTOR_SIZE_U64,
        "sequential": plan.sequential,
        "seconds": seconds,
        "reads": measured(&tally.reads),
        "writes": measured(&tally.writes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn measured() -> (Plan, Tally) {
        let plan = Plan {
            depth: 8,
            read_percent: 100,
            block_sectors: 2,
            blocks: 100,
            duration: Duration::from_secs(2),
            sequential: false,
        };
        let mut reads = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        let writes = reads.clone();
        for micros in [100, 100, 100, 900] {
            reads.record(micros).unwrap();
        }
        let elapsed = plan.duration;
        (
            plan,
            Tally {
                reads,
                writes,
                elapsed,
            },
        )
    }

    #[test]
    fn what_was_measured_is_shown_and_the_rest_is_not() {
        let (plan, tally) = measured();
        let text = as_text(&plan, &tally);
        assert!(
            text.starts_with("random blocks of 8KiB, 8 at a time, 100% reads, 2.0 s\n"),
            "{text}"
        );
        let row = text.lines().find(|line| line.starts_with("read ")).unwrap();
        let cells: Vec<_> = row.split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells[1].trim(), "2");
        assert!(row.contains("300 us") && row.contains("900 us"), "{row}");
        assert!(!text.contains("write"), "{text}");
        let bars: Vec<_> = text
            .lines()
            .filter(|line| line.contains(" from "))
            .collect();
        assert_eq!(bars.len(), 4, "64, 128, 256 and 512 us");
        assert!(bars[0].contains(&"#".repeat(40)) && bars[0].ends_with(" 3"));
    }

    #[test]
    fn programs_get_numbers() {
        let (plan, tally) = measured();
        let json = as_json(&plan, &tally);
        assert_eq!(json["reads"]["count"], 4);
        assert_eq!(json["reads"]["latency_us"]["p50"], 100);
        assert_eq!(json["writes"]["count"], 0);
        assert_eq!(json["block_bytes"], 8192);
        assert_eq!(json["reads"]["bytes_per_second"], 16384);
    }

    #[test]
    fn latencies_have_units() {
        for (micros, shown) in [
            (85, "85 us"),
            (9_999, "9999 us"),
            (10_560, "10.5 ms"),
            (12_340_000, "12.3 s"),
        ] {
            assert_eq!(in_units(micros), shown);
        }
    }
}
