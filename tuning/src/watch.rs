//! What the kernel counted between two moments, and what that means for a relay.
//!
//! Here: two snapshots to signs, each with a verdict in words and the fix. Not here: which counters there are
//! (`table`), which fill levels (`gauges`), ports by connection (`ports`), reading (`snapshot`), sums of a
//! whole watch (`totals`).
//!
//! Invariant: `signs` reads no file. A counter that went backwards or is gone is a sign of its own, never a
//! difference.
//! Units: counts since the host started, as the kernel keeps them; rates are a second.

mod gauges;
mod ports;
mod snapshot;
mod table;
mod totals;
mod watcher;

use std::time::Duration;

use serde::Serialize;

pub use ports::{Class, Ports, Use};
pub use snapshot::Snapshot;
pub use totals::{Total, Totals};
pub use watcher::{Flow, Interval, Watcher};

pub(crate) use table::difference;

/// How much a sign says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Worth knowing beside something else; alone it is what networks do.
    Note,
    /// The counter cannot be compared: nothing is known of this interval.
    Unknown,
    /// Peers notice it.
    Bad,
}

impl Weight {
    /// Returns the word that lines begin with.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Unknown => "UNKNOWN",
            Self::Bad => "BAD",
        }
    }
}

/// How full something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Level {
    /// What there is now.
    pub now: u64,
    /// What there may be.
    pub most: u64,
}

impl Level {
    /// Returns the fill level in per cent, rounded down; a limit of 0 is full.
    pub(crate) fn percent(self) -> u64 {
        self.now
            .saturating_mul(100)
            .checked_div(self.most)
            .unwrap_or(100)
    }
}

/// Something that happened between two snapshots, or stands at its limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sign {
    /// Stable name: the kernel's, for a counter.
    pub name: &'static str,
    /// How much it says.
    pub weight: Weight,
    /// How often it happened; none for a fill level and for what is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<u64>,
    /// The same a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// How full it is, for a fill level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The verdict in words.
    pub says: String,
    /// What to do; empty when nothing is.
    pub fix: String,
}

/// Returns what happened from one snapshot to the next, the worst first.
#[must_use]
pub fn signs(before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Vec<Sign> {
    let mut signs = table::signs(before, after, elapsed);
    signs.extend(gauges::signs(before, after));
    signs.sort_by_key(|sign| std::cmp::Reverse(sign.weight));
    signs
}

/// Returns one line for each counter and fill level that this host does not tell, with the file that was
/// tried.
#[must_use]
pub fn unknowns(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = table::unknowns(snapshot);
    lines.extend(gauges::unknowns(snapshot));
    lines
}

/// Returns a count a second.
fn rate(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        float(count) / seconds
    } else {
        0.0
    }
}

/// Returns a count as the nearest number with a fraction.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts above 2^53 are shown rounded"
)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
