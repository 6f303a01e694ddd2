//! The port ledger as text.
//!
//! Here: a head and a line for each class. Not here: the values (`ledger`).

use crate::ledger::LedgerRow;

/// Returns the head of the table; `first` names its first column.
#[must_use]
pub fn ledger_head(first: &str) -> String {
    format!(
        "{first:<16} {:<16} {:<21} {:>8} {:>8} {:>6} {:>6} {:>7} {:>8} {:>8} {:>9} {:>9} {:>9}\n",
        "source",
        "destination",
        "estab.",
        "TIME_W.",
        "other",
        "bound",
        "range",
        "no port",
        "in use",
        "connects",
        "p50 us",
        "p99 us"
    )
}

/// Returns the line of a class.
#[must_use]
pub fn ledger_row(first: &str, row: &LedgerRow) -> String {
    let bound = row
        .bound_only
        .map_or_else(|| "-".to_owned(), |count| count.to_string());
    format!(
        "{first:<16} {:<16} {:<21} {:>8} {:>8} {:>6} {bound:>6} {:>7} {:>8} {:>8} {:>9} {:>9.1} {:>9.1}\n",
        row.source,
        row.destination.to_string(),
        row.established,
        row.time_wait,
        row.other,
        row.range,
        row.addr_not_avail,
        row.addr_in_use,
        row.connect.count,
        super::float(row.connect.p50_ns) / 1e3,
        super::float(row.connect.p99_ns) / 1e3,
    )
}
