//! What one thread measured.
//!
//! Here: counters and histograms of the time that counts, and totals of the whole run. Not here: when
//! that time begins (`worker`).
//!
//! Invariant: at the end of a complete run `messages_sent = messages_received` over all threads.

use std::time::Duration;

use ringway_proto::time::Now;

use crate::failures::Failures;
use crate::latency::Latencies;
use crate::payload::Head;

/// One thread's numbers; those of several threads add up.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Times of messages, handshakes or opens that ended while it counted.
    pub latencies: Latencies,
    /// Messages that arrived while it counted; there and back are two.
    pub messages: u64,
    /// Stream bytes that arrived while it counted.
    pub bytes: u64,
    /// Handshakes, opens or round trips that ended while it counted.
    pub rounds: u64,
    /// Everything that went wrong in the whole run.
    pub failures: Failures,
    /// Messages sent in the whole run.
    pub messages_sent: u64,
    /// Messages received in the whole run.
    pub messages_received: u64,
    /// Due messages that were never sent: the relay was slower than the rate.
    pub messages_unsent: u64,
    /// Whether the last message of each stream had arrived completely.
    pub partial_messages: u64,
    /// Processor time of the thread while it counted.
    pub cpu: Duration,
    /// Time that counted.
    pub measured: Duration,
}

impl Tally {
    /// Forgets what was measured so far, not the totals.
    pub(crate) fn begin(&mut self) {
        self.latencies.reset();
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
        self.measured = self.measured.max(other.measured);
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
            cpu: Duration::from_secs(1),
            measured: Duration::from_secs(3),
            ..Tally::default()
        };
        a.merge(&b);
        assert_eq!((a.messages, a.bytes), (7, 70));
        assert_eq!(a.cpu, Duration::from_secs(2));
        assert_eq!(a.measured, Duration::from_secs(3));
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
