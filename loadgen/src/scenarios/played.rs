//! What came of a scenario.
//!
//! Here: the values. Not here: how they come about (`scenarios::play`), their text (`scenarios::show`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::assert::Checked;
use crate::intervals::Interval;
use crate::latency::Latencies;
use crate::plan::Plan;
use crate::process::ProcessSample;
use crate::report::Verdict;
use crate::run::Outcome;
use crate::sockets::Ledger;

/// What came of a scenario.
#[derive(Debug)]
pub struct Played {
    /// The groups, as the file has them.
    pub groups: Vec<GroupPlayed>,
    /// The asserts, as the file has them; empty when the scenario did not come to its end.
    pub asserts: Vec<Checked>,
    /// What the first relay still owned when all groups were gone.
    pub leftovers: Vec<String>,
    /// Whether somebody ended it early.
    pub is_interrupted: bool,
}

/// What came of a group.
#[derive(Debug)]
pub struct GroupPlayed {
    /// Its name.
    pub name: String,
    /// What it was told to do.
    pub plan: Plan,
    /// What it did, or why there is nothing to tell.
    pub result: Result<Outcome, String>,
    /// What it measured, by number of the phase.
    pub phases: BTreeMap<usize, PhaseSum>,
}

/// What a group measured in a phase.
#[derive(Debug, Clone, Default)]
pub struct PhaseSum {
    /// Time of its intervals.
    pub seconds: f64,
    /// Times of what ended in it.
    pub latencies: Latencies,
    /// Messages that arrived.
    pub messages: u64,
    /// Stream bytes that arrived.
    pub bytes: u64,
    /// Handshakes, opens, connects or round trips that ended.
    pub rounds: u64,
    /// Things that went wrong, expected or not.
    pub failures: u64,
    /// The kernel's sockets of the target at its end.
    pub sockets: Option<Ledger>,
    /// The server's process at the end of its first and of its last interval.
    relay: Option<[ProcessSample; 2]>,
    /// Time between the two.
    relay_time: Duration,
}

impl PhaseSum {
    /// Adds an interval; `failures` are those that came with it.
    pub(super) fn add(&mut self, interval: &Interval, failures: u64) {
        self.latencies.merge(&interval.latencies);
        self.messages += interval.messages;
        self.bytes += interval.bytes;
        self.rounds += interval.rounds;
        self.failures += failures;
        if interval.seen.is_after {
            return;
        }
        self.seconds += interval.length.as_secs_f64();
        if interval.seen.sockets.is_some() {
            self.sockets.clone_from(&interval.seen.sockets);
        }
        let Some(sample) = interval.seen.relay else {
            return;
        };
        match &mut self.relay {
            None => self.relay = Some([sample; 2]),
            Some([_, last]) => {
                *last = sample;
                self.relay_time += interval.length;
            }
        }
    }

    /// Adds a later phase.
    pub(super) fn merge(&mut self, later: &Self) {
        self.seconds += later.seconds;
        self.latencies.merge(&later.latencies);
        self.messages += later.messages;
        self.bytes += later.bytes;
        self.rounds += later.rounds;
        self.failures += later.failures;
        if later.sockets.is_some() {
            self.sockets.clone_from(&later.sockets);
        }
        self.relay = match (self.relay, later.relay) {
            (Some([first, before]), Some([start, last])) => {
                // The time between the two phases is that of one interval, which neither has.
                let gap = start.cpu_since(&before);
                let is_idle = gap.is_zero();
                self.relay_time += later.relay_time;
                Some([first, if is_idle { last } else { shift(last, gap) }])
            }
            (one, other) => {
                self.relay_time += later.relay_time;
                one.or(other)
            }
        };
    }

    /// Returns the processor seconds a second of the server's process.
    #[must_use]
    pub fn relay_cores(&self) -> Option<f64> {
        let [first, last] = self.relay?;
        let time = self.relay_time.as_secs_f64();
        (time > 0.0).then(|| last.cpu_since(&first).as_secs_f64() / time)
    }

    /// Returns the resident memory of the server's process at the end.
    #[must_use]
    pub fn relay_rss_bytes(&self) -> Option<u64> {
        self.relay.map(|[_, last]| last.rss_bytes)
    }
}

/// Takes processor time out of a sample.
fn shift(mut sample: ProcessSample, gap: Duration) -> ProcessSample {
    let gap = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
    sample.cpu_ns = sample.cpu_ns.saturating_sub(gap);
    sample
}

impl GroupPlayed {
    /// Returns the verdict on the group alone.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.result {
            Ok(outcome) => Verdict::of(outcome),
            Err(_) => Verdict::Failed,
        }
    }

    /// Returns the connects of the group that found no free port.
    #[must_use]
    pub fn unavailable(&self) -> u64 {
        let ledger = self.result.iter().flat_map(|outcome| &outcome.ledger);
        ledger.map(|row| row.addr_not_avail + row.addr_in_use).sum()
    }
}

impl Played {
    /// Returns the verdict on the whole: the worst of the groups, and failed when an assert did not hold.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts: Vec<Verdict> = self.groups.iter().map(GroupPlayed::verdict).collect();
        let has = |verdict| verdicts.contains(&verdict);
        if self.is_interrupted {
            Verdict::Interrupted
        } else if !self.leftovers.is_empty()
            || has(Verdict::Failed)
            || self.asserts.iter().any(|assert| !assert.has_held)
        {
            Verdict::Failed
        } else if has(Verdict::Interrupted) {
            Verdict::Interrupted
        } else if has(Verdict::Untrustworthy) {
            Verdict::Untrustworthy
        } else {
            Verdict::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervals::Seen;

    fn interval(cpu_ms: u64, failures: u64) -> Interval {
        Interval {
            length: Duration::from_secs(1),
            rounds: 10,
            seen: Seen {
                failures,
                relay: Some(ProcessSample {
                    cpu_ns: cpu_ms * 1_000_000,
                    ..ProcessSample::default()
                }),
                ..Seen::default()
            },
            ..Interval::default()
        }
    }

    #[test]
    fn cores_are_those_of_the_own_intervals() {
        let mut calm = PhaseSum::default();
        for cpu in [1_000, 1_100, 1_200] {
            calm.add(&interval(cpu, 0), 0);
        }
        let mut storm = PhaseSum::default();
        for cpu in [2_200, 2_700, 3_200] {
            storm.add(&interval(cpu, 0), 1);
        }
        let cores = |sum: &PhaseSum| (sum.relay_cores().unwrap() * 1_000.0).round() / 1_000.0;
        assert_eq!((cores(&calm), cores(&storm)), (0.1, 0.5));
        calm.merge(&storm);
        assert_eq!((calm.rounds, calm.failures), (60, 3));
        // Four intervals of known cost: 0.2 and 1.0 s in them.
        assert!((cores(&calm) - 0.3).abs() < 1e-9, "{}", cores(&calm));
        assert_eq!(PhaseSum::default().relay_cores(), None);
    }
}
