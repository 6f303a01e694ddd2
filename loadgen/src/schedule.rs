//! When each message is due, by the clock and never by the answers.
//!
//! Here: the arithmetic of a constant rate spread over threads and streams. Not here: sending.
//!
//! The run sends `rate` messages a second over all its streams. A thread owns some of the streams and
//! the same share of the rate; its message number `n` belongs to its stream `n % streams` and is due at
//! `start + n / (rate * share)`. A stream that could not send in time keeps its due messages, so a relay
//! that stalls is charged for every message it delayed (open loop, no coordinated omission).
//!
//! Invariant: `due_at` is monotonic in `n` and drifts by no rounding, since it multiplies first.
//! Units: nanoseconds; u128 inside, so that 2^64 messages do not wrap.

use ringway_proto::time::Now;

/// The due times of one thread's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    start: Now,
    /// Messages a second of the whole run.
    rate: u64,
    /// Streams of the whole run.
    streams_total: u64,
    /// Streams of this thread.
    streams_own: u64,
}

impl Schedule {
    /// Returns the schedule of a thread with `streams_own` of `streams_total` streams.
    ///
    /// Threads start one after the other within the first interval, so that they do not send in step.
    pub(crate) fn new(start: Now, rate: u64, streams: [u64; 2], thread: [u64; 2]) -> Self {
        let [streams_own, streams_total] = streams;
        let [index, threads] = thread;
        let period = interval_ns(1, rate, streams_total, streams_own);
        let offset = period * u128::from(index) / u128::from(threads.max(1));
        let start = start.as_nanos().saturating_add(clip(offset));
        Self {
            start: Now::from_nanos(start),
            rate,
            streams_total,
            streams_own,
        }
    }

    /// Returns when message `number` of this thread is due.
    pub(crate) fn due_at(&self, number: u64) -> Now {
        let after = interval_ns(number, self.rate, self.streams_total, self.streams_own);
        Now::from_nanos(self.start.as_nanos().saturating_add(clip(after)))
    }

    /// Returns the number of message `sequence` of the thread's stream `ordinal`.
    pub(crate) const fn number_of(&self, ordinal: u64, sequence: u64) -> u64 {
        sequence
            .saturating_mul(self.streams_own)
            .saturating_add(ordinal)
    }
}

/// Returns the time that `count` messages of a thread take.
fn interval_ns(count: u64, rate: u64, streams_total: u64, streams_own: u64) -> u128 {
    let own = u128::from(rate.max(1)) * u128::from(streams_own.max(1));
    u128::from(count) * NANOS_PER_SECOND * u128::from(streams_total) / own
}

fn clip(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_sends_the_whole_rate() {
        let schedule = Schedule::new(Now::ZERO, 1_000, [4, 4], [0, 1]);
        assert_eq!(schedule.due_at(0), Now::ZERO);
        assert_eq!(schedule.due_at(1), Now::from_nanos(1_000_000));
        assert_eq!(schedule.due_at(1_000), Now::from_nanos(1_000_000_000));
    }

    #[test]
    fn a_thread_sends_the_share_of_its_streams() {
        // 3 of 4 streams: 750 of 1,000 messages a second.
        let schedule = Schedule::new(Now::ZERO, 1_000, [3, 4], [0, 2]);
        assert_eq!(schedule.due_at(750), Now::from_nanos(1_000_000_000));
        // The other thread starts half an interval of its own later.
        let other = Schedule::new(Now::ZERO, 1_000, [1, 4], [1, 2]);
        assert_eq!(other.due_at(0), Now::from_nanos(2_000_000));
        assert_eq!(other.due_at(250), Now::from_nanos(1_002_000_000));
    }

    #[test]
    fn odd_rates_do_not_drift() {
        let schedule = Schedule::new(Now::ZERO, 3, [1, 1], [0, 1]);
        let year = 3 * 31_536_000;
        assert_eq!(
            schedule.due_at(year),
            Now::from_nanos(31_536_000 * 1_000_000_000)
        );
    }

    #[test]
    fn streams_take_turns() {
        let schedule = Schedule::new(Now::ZERO, 10, [5, 5], [0, 1]);
        assert_eq!(schedule.number_of(0, 0), 0);
        assert_eq!(schedule.number_of(4, 0), 4);
        assert_eq!(schedule.number_of(0, 1), 5);
        assert_eq!(schedule.number_of(3, 7), 38);
    }

    #[test]
    fn due_times_never_go_back() {
        let schedule = Schedule::new(Now::from_nanos(7), 999_999, [7, 13], [2, 3]);
        let mut last = Now::ZERO;
        for number in 0..10_000 {
            let due = schedule.due_at(number);
            assert!(due >= last);
            last = due;
        }
    }
}
