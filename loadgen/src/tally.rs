//! What one thread measured.
//!
//! Here: counters and histograms of the time that counts, and totals of the whole run. Not here: when
//! that time begins (`worker`).
//!
//! Invariant: at the end of a complete run `messages_sent = messages_received` over all threads.

use std::time::Duration;

use ringway_proto::time::Now;
use serde::{Deserialize, Serialize};

use crate::failures::Failures;
use crate::latency::{Latencies, Times};
use crate::ledger::ClassTally;
use crate::payload::Head;
use crate::plan::KillPhase;

/// One thread's numbers; those of several threads add up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Times of messages, handshakes or opens that ended while it counted.
    pub latencies: Latencies,
    /// Messages that arrived while it counted; there and back are two.
    pub messages: u64,
    /// Stream bytes that arrived while it counted.
    pub bytes: u64,
    /// Handshakes, opens, setups or round trips that ended while it counted.
    pub rounds: u64,
    /// Everything that went wrong in the whole run.
    pub failures: Failures,
    /// Messages sent in the whole run.
    pub messages_sent: u64,
    /// Messages received in the whole run.
    pub messages_received: u64,
    /// Messages, handshakes or opens that were due and never begun: the relay was slower than the rate.
    pub messages_unsent: u64,
    /// Whether the last message of each stream had arrived completely.
    pub partial_messages: u64,
    /// Processor time of the thread while it counted.
    pub cpu: Duration,
    /// Part of that time in which it looked for work and found none.
    pub looked: Duration,
    /// Time that counted.
    pub measured: Duration,
    /// Cycles of a churn that were killed in their phase, in the order of [`KillPhase::ALL`].
    pub cycles: [u64; KillPhase::ALL.len()],
    /// Cycles of a churn that ended otherwise.
    pub cycles_failed: u64,
    /// Streams that the standing sessions of a churn accepted, and that were reset under them.
    pub streams_accepted: u64,
    /// See `streams_accepted`.
    pub streams_reset: u64,
    /// Connections that never finish a handshake, in the order of
    /// [`Loiter::ALL`](crate::plan::Loiter::ALL); empty in other runs.
    pub loiters: Vec<LoiterTally>,
    /// Connects by the class of their source, over the whole run.
    pub classes: Vec<ClassTally>,
    /// How slow sessions and streams ended, by name. No failures: they are what such a run is about.
    pub slow_ends: Failures,
    /// Routes that were set up in the whole run.
    pub setups: u64,
    /// What the hops of these routes did.
    pub hops: HopTally,
}

/// What hops of routes did in the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopTally {
    /// Ids reserved.
    pub ids_reserved: u64,
    /// Rules that ids got.
    pub rules_added: u64,
    /// Ids released.
    pub ids_released: u64,
}

/// Connections of one kind that never finish a handshake.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoiterTally {
    /// Connected.
    pub connected: u64,
    /// How the relay ended them, by name.
    pub ends: Failures,
    /// Time from connected to the end.
    pub life: Times,
}

impl Tally {
    /// Forgets what was measured so far, not the totals.
    pub(crate) fn begin(&mut self) {
        self.latencies.reset();
        self.looked = Duration::ZERO;
        self.messages = 0;
        self.bytes = 0;
        self.rounds = 0;
    }

    /// Adds another thread's numbers. Times that counted do not add up: the longest is kept.
    pub fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.rounds += other.rounds;
        self.failures.merge(&other.failures);
        self.messages_sent += other.messages_sent;
        self.messages_received += other.messages_received;
        self.messages_unsent += other.messages_unsent;
        self.partial_messages += other.partial_messages;
        self.cpu += other.cpu;
        self.looked += other.looked;
        self.measured = self.measured.max(other.measured);
        for (sum, count) in self.cycles.iter_mut().zip(other.cycles) {
            *sum += count;
        }
        self.cycles_failed += other.cycles_failed;
        self.streams_accepted += other.streams_accepted;
        self.streams_reset += other.streams_reset;
        self.slow_ends.merge(&other.slow_ends);
        self.setups += other.setups;
        self.hops.ids_reserved += other.hops.ids_reserved;
        self.hops.rules_added += other.hops.rules_added;
        self.hops.ids_released += other.hops.ids_released;
        for (class, theirs) in other.classes.iter().enumerate() {
            self.class(class).merge(theirs);
        }
        self.loiters.resize_with(
            self.loiters.len().max(other.loiters.len()),
            LoiterTally::default,
        );
        for (sum, kind) in self.loiters.iter_mut().zip(&other.loiters) {
            sum.connected += kind.connected;
            sum.ends.merge(&kind.ends);
            sum.life.merge(&kind.life);
        }
    }

    /// Returns the numbers of a class of connections.
    #[inline]
    pub(crate) fn class(&mut self, class: usize) -> &mut ClassTally {
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, ClassTally::default);
        }
        &mut self.classes[class]
    }

    /// Counts the end of a cycle's beginning, a handshake or an open.
    pub(crate) fn timed(&mut self, due: Option<Now>, started: Now, now: Now) {
        if let Some(due) = due {
            self.latencies.response.record(now.saturating_since(due));
        }
        self.latencies.service.record(now.saturating_since(started));
    }

    /// Counts the end of a message's journey.
    #[inline]
    pub(crate) fn done(&mut self, head: Head, now: Now, has_rate: bool) {
        // Without a rate nothing is due: the moment of sending is the only start there is.
        if has_rate {
            self.latencies
                .response
                .record(now.saturating_since(head.due));
        }
        self.latencies
            .service
            .record(now.saturating_since(head.sent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let mut a = Tally {
            messages: 3,
            bytes: 30,
            cpu: Duration::from_secs(1),
            measured: Duration::from_secs(2),
            ..Tally::default()
        };
        let b = Tally {
            messages: 4,
            bytes: 40,
            setups: 2,
            hops: HopTally {
                rules_added: 10,
                ..HopTally::default()
            },
            cpu: Duration::from_secs(1),
            measured: Duration::from_secs(3),
            ..Tally::default()
        };
        a.merge(&b);
        assert_eq!((a.setups, a.hops.rules_added), (2, 10));
        assert_eq!((a.messages, a.bytes), (7, 70));
        assert_eq!(a.cpu, Duration::from_secs(2));
        assert_eq!(a.measured, Duration::from_secs(3));
    }

    #[test]
    fn cycles_and_lives_add_up_too() {
        let mut a = Tally::default();
        let mut b = Tally::default();
        b.cycles[2] = 5;
        b.loiters = vec![LoiterTally::default(); 3];
        b.loiters[1].connected = 1;
        b.loiters[1].ends.count("reset");
        b.loiters[1].life.record(Duration::from_secs(5));
        for _ in 0..2 {
            a.merge(&b);
        }
        assert_eq!((a.cycles[2], a.loiters[1].connected), (10, 2));
        assert_eq!(a.loiters[1].ends.total(), 2);
        assert_eq!(a.loiters[1].life.count(), 2);
    }

    #[test]
    fn without_a_rate_only_the_service_time_counts() {
        let mut tally = Tally::default();
        tally.done(Head::default(), Now::from_nanos(5), false);
        assert_eq!(tally.latencies.response.count(), 0);
        assert_eq!(tally.latencies.service.count(), 1);
        tally.done(Head::default(), Now::from_nanos(5), true);
        assert_eq!(tally.latencies.response.count(), 1);
    }
}
