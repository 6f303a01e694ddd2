//! Text for people: standard output for answers, standard error for complaints.
//!
//! Here: the two ways to print and a table with aligned columns. Not here: logs (`tracing`, standard
//! error) and progress (`cli::progress`).

use std::fmt;
use std::io::{self, Write};

use crate::failure::Failure;

/// Prints one line of the answer.
///
/// # Errors
///
/// [`Failure::Host`] when standard output cannot be written. A reader that went away (`| head`) is no
/// error: there is nobody left to tell.
pub(crate) fn say(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::host("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Rows of cells, printed with the first column left-aligned and the others right-aligned.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row; the first one is the heading.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(String::len).max().unwrap_or(0)
            })
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "{cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
        }
        Ok(())
    }
}

/// Returns bytes as people read them: `1.5 GB`. Powers of ten, as network rates are given.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const STEPS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    for (size, name) in STEPS {
        if bytes >= size {
            let hundredths = u128::from(bytes) * 100 / u128::from(size);
            return format!("{}.{:02} {name}", hundredths / 100, hundredths % 100);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_names_left_and_numbers_right() {
        let mut table = Table::default();
        table.row(["shard".into(), "sessions".into()]);
        table.row(["0".into(), "12".into()]);
        assert_eq!(table.to_string(), "shard  sessions\n0            12");
    }

    #[test]
    fn bytes_are_cut_at_two_digits() {
        assert_eq!(bytes_text(999), "999 B");
        assert_eq!(bytes_text(1_500), "1.50 kB");
        assert_eq!(bytes_text(2_345_678_901), "2.34 GB");
    }
}
