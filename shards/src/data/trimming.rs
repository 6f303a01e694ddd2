//! When a shard gives memory back that its present load does not need.
//!
//! Here: the decision. Not here: what is given back (`core::trim`, `ring`).
//!
//! Tables and pools stay as large as the load once was, so that a load that comes and goes pays for them
//! once. A load that has fallen under half of what it was, and stays there for [`DELAY`], is another one.
//! Cost: a look at all tables and the heap's pages, 2.6 ms after 19,000 sessions.

use std::time::Duration;

use ringway_proto::time::Now;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// The most since the last trim.
    peak: u64,
    /// When to look again, once the load has fallen.
    due: Option<Now>,
}

impl Trimming {
    /// Takes notice of what the shard holds; returns whether it should give back what it does not need.
    pub(super) fn is_due(&mut self, held: u64, now: Now) -> bool {
        self.peak = self.peak.max(held);
        let has_fallen = self.peak >= PEAK_MIN && held < self.peak / 2;
        match self.due {
            None if has_fallen => self.due = Some(now + DELAY),
            Some(due) if due <= now => {
                self.due = None;
                if has_fallen {
                    self.peak = held;
                }
                return has_fallen;
            }
            None | Some(_) => {}
        }
        false
    }

    /// Returns when to ask again, if nothing happens before.
    pub(super) const fn deadline(&self) -> Option<Now> {
        self.due
    }
}

/// A load under this is not worth a look: a quarter of a megabyte.
const PEAK_MIN: u64 = 256;

/// How long a load must have fallen: longer than a relay's peers take to come back after they lost it.
const DELAY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at_s(s: u64) -> Now {
        Now::ZERO + Duration::from_secs(s)
    }

    #[test]
    fn load_that_has_gone_for_good_is_trimmed_once() {
        let mut trimming = Trimming::default();
        assert!(!trimming.is_due(10_000, at_s(1)));
        assert!(!trimming.is_due(5_000, at_s(2)));
        assert_eq!(trimming.deadline(), None, "half of it is still there");
        assert!(!trimming.is_due(4_999, at_s(3)));
        assert_eq!(trimming.deadline(), Some(at_s(13)));
        assert!(!trimming.is_due(0, at_s(12)));
        assert!(trimming.is_due(0, at_s(13)));
        assert_eq!(trimming.deadline(), None);
        assert!(!trimming.is_due(0, at_s(100)));
        assert_eq!(trimming.deadline(), None);
    }

    #[test]
    fn load_that_comes_back_keeps_its_memory() {
        let mut trimming = Trimming::default();
        assert!(!trimming.is_due(10_000, at_s(1)));
        assert!(!trimming.is_due(0, at_s(2)));
        assert!(!trimming.is_due(9_000, at_s(11)));
        assert!(!trimming.is_due(9_000, at_s(12)), "it is back");
        assert!(!trimming.is_due(100, at_s(20)));
        assert_eq!(trimming.deadline(), Some(at_s(30)), "and goes again");
    }

    #[test]
    fn small_loads_are_left_alone() {
        let mut trimming = Trimming::default();
        assert!(!trimming.is_due(PEAK_MIN - 1, at_s(1)));
        assert!(!trimming.is_due(0, at_s(2)));
        assert_eq!(trimming.deadline(), None);
    }
}
