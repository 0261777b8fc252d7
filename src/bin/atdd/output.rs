//! Words for the user. `println!` would panic when nobody reads them any more.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// Prints what was asked for on stdout. A reader that has seen enough is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("stdout cannot be written")
        }
        _ => Ok(()),
    }
}

/// Says on stderr what the user should know. What is going on matters more than its being heard.
pub(crate) fn notice(text: &str) {
    let mut stderr = io::stderr().lock();
    if writeln!(stderr, "{text}").is_err() {
        tracing::trace!("nobody reads stderr");
    }
}

/// Rows of cells, in columns that are as wide as they need to be.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}
