//! What only some scenarios find: rounds of a churn, lives of connections that loiter, windows with and
//! without slow readers.
//!
//! Here: the values that reports show. Not here: how they come about (`run`), their text (`report`).
//!
//! Units: seconds in what is written, nanoseconds in histograms.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::books::Books;
use crate::latency::Summary;
use crate::tally::HopTally;

/// What a scenario found beside the numbers that all have.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Findings {
    /// `churn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnFindings>,
    /// `slowloris`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slowloris: Option<SlowlorisFindings>,
    /// `slow-reader`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_reader: Option<SlowReaderFindings>,
    /// `setups`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setups: Option<SetupFindings>,
    /// Before the first connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books_before: Option<Books>,
    /// After the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books_after: Option<Books>,
}

/// Cycles of connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChurnFindings {
    /// Cycles that came to their phase and were killed there, by phase.
    pub cycles: BTreeMap<&'static str, u64>,
    /// Cycles that ended otherwise; the reasons are among the failures.
    pub cycles_failed: u64,
    /// Time in which cycles ran.
    pub seconds: f64,
    /// Cycles a second in that time.
    pub cycles_per_second: f64,
    /// Streams that the standing sessions accepted.
    pub streams_accepted: u64,
    /// Streams that were reset under the standing sessions.
    pub streams_reset: u64,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// One round of a churn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// From 1.
    pub number: u32,
    /// Cycles killed in it.
    pub cycles: u64,
    /// Time in which they ran.
    pub seconds: f64,
    /// From the last close to balanced books.
    pub settle_seconds: f64,
    /// The relay's books after it.
    pub books: Books,
    /// What was left over; empty when the books are balanced.
    pub leftovers: Vec<String>,
}

/// Connections that never finish their handshake.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SlowlorisFindings {
    /// By kind.
    pub kinds: BTreeMap<&'static str, LoiterFindings>,
    /// Connections that the relay had not ended when the time was over.
    pub open_at_end: u64,
    /// Most connections that were open at one look.
    pub open_most: u64,
    /// The relay's memory at that look, with `--relay-pid`.
    pub rss_plateau_bytes: Option<u64>,
    /// What one of them added to it.
    pub rss_bytes_per_socket: Option<f64>,
}

/// Connections of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoiterFindings {
    /// Connected.
    pub connected: u64,
    /// Ended by the relay, by how.
    pub ends: BTreeMap<String, u64>,
    /// Time from connected to the end.
    pub life: Summary,
}

/// Routes over several peers, in the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SetupFindings {
    /// Peers behind the asker of each.
    pub hops: u32,
    /// Those that stand.
    pub setups: u64,
    /// What the hops were asked for.
    #[serde(flatten)]
    pub asked: HopTally,
}

impl SetupFindings {
    /// Returns the rules of one setup: one for each direction and peer, but for the ends.
    #[must_use]
    pub const fn rules_each(&self) -> u64 {
        (2 * self.hops as u64).saturating_sub(1)
    }

    /// Returns what is wrong if each setup that stands has its rules, and nothing was reserved or released
    /// beside: when all of them stand, that must be so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let HopTally {
            ids_reserved,
            rules_added,
            ids_released,
        } = self.asked;
        let wanted = self.setups * self.rules_each();
        let is_right = (ids_reserved, rules_added, ids_released) == (wanted, wanted, 0);
        (!is_right).then(|| {
            format!(
                "{} setups of {} rules: hops reserved {ids_reserved} ids, got {rules_added} rules, released \
                 {ids_released}",
                self.setups,
                self.rules_each()
            )
        })
    }
}

/// Windows with and without slow readers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SlowReaderFindings {
    /// The windows.
    pub windows: Vec<Window>,
    /// Median of the windows without slow readers.
    pub bytes_per_second_off: f64,
    /// Median of those with them.
    pub bytes_per_second_on: f64,
    /// The second divided by the first.
    pub ratio: f64,
    /// How slow sessions and streams ended, as their peers saw it.
    pub ends: BTreeMap<String, u64>,
    /// Sessions that the relay ended meanwhile, by reason, with `--admin`.
    pub relay_sessions_closed: BTreeMap<String, u64>,
    /// Stream legs that the relay reset meanwhile, by reason, with `--admin`.
    pub relay_streams_reset: BTreeMap<String, u64>,
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Window {
    /// Whether slow readers were there.
    pub is_slow: bool,
    /// Its length.
    pub seconds: f64,
    /// Bytes that arrived at the fast pairs.
    pub bytes: u64,
    /// The relay's memory at its end, with `--relay-pid`.
    pub rss_bytes: Option<u64>,
}

impl Window {
    /// Returns the bytes a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
        let bytes = self.bytes as f64;
        bytes / self.seconds.max(f64::MIN_POSITIVE)
    }
}

impl SlowReaderFindings {
    /// Returns the medians and the ratio of `windows`.
    #[must_use]
    pub fn of(windows: Vec<Window>) -> Self {
        let rates = |is_slow: bool| {
            let those = windows.iter().filter(move |w| w.is_slow == is_slow);
            median(those.map(Window::bytes_per_second).collect())
        };
        let (off, on) = (rates(false), rates(true));
        Self {
            bytes_per_second_off: off,
            bytes_per_second_on: on,
            ratio: if off > 0.0 { on / off } else { 0.0 },
            windows,
            ..Self::default()
        }
    }
}

/// Returns the median; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (_, None) => 0.0,
        (1, Some(value)) => *value,
        (_, Some(value)) => f64::midpoint(values[middle - 1], *value),
    }
}

/// Returns what grew between two counts by name, without names that did not.
#[must_use]
pub fn growth(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let grown = after.iter().map(|(name, count)| {
        let earlier = before.get(name).copied().unwrap_or(0);
        (name.clone(), count.saturating_sub(earlier))
    });
    grown.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(is_slow: bool, bytes: u64) -> Window {
        Window {
            is_slow,
            seconds: 2.0,
            bytes,
            rss_bytes: None,
        }
    }

    #[test]
    fn windows_are_compared_by_their_medians() {
        let bytes = [200, 180, 220, 2, 1_000, 190];
        let windows = bytes.into_iter().enumerate();
        let found = SlowReaderFindings::of(windows.map(|(n, b)| window(n % 2 == 1, b)).collect());
        assert!((found.bytes_per_second_off - 110.0).abs() < 1e-9);
        assert!((found.bytes_per_second_on - 90.0).abs() < 1e-9);
        assert!((found.ratio - 90.0 / 110.0).abs() < 1e-9);
    }

    #[test]
    fn the_median_of_few_values_is_their_middle() {
        assert!(median(Vec::new()).abs() < 1e-9);
        assert!((median(vec![3.0]) - 3.0).abs() < 1e-9);
        assert!((median(vec![1.0, 4.0]) - 2.5).abs() < 1e-9);
        assert!(SlowReaderFindings::of(Vec::new()).ratio.abs() < 1e-9);
    }

    #[test]
    fn only_growth_is_reported() {
        let count = |list: &[(&str, u64)]| {
            list.iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        let grown = growth(
            &count(&[("a", 1), ("b", 2)]),
            &count(&[("a", 4), ("b", 2), ("c", 5)]),
        );
        assert_eq!(grown, count(&[("a", 3), ("c", 5)]));
    }
}
