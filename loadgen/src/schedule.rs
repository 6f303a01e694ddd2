//! When each event is due, by the clock and never by the answers.
//!
//! Here: the due times of one thread's events: messages, opens, connects. Not here: sending, and how
//! the rate goes over time (`plan::shape`).
//!
//! The run's events are spread over its threads in proportion to what each owns. Even arrivals lie where
//! the count of events by the rate's line passes a whole number, and threads share the numbers; random
//! ones (a Poisson process) lie where it passes the sum of exponential gaps, and those of several
//! threads are again one. An event that could not start in time stays due, so a relay that stalls is
//! charged for every event it delayed (open loop, no coordinated omission).
//!
//! Invariant: due times never go back; they are computed from the count, so no rounding adds up.
//! Units: nanoseconds; exact to one for 104 days of load.

use std::sync::Arc;

use ringway_proto::time::Now;

use crate::plan::{Arrivals, RateLine};
use crate::report::float;

/// Due events of a thread that wait for their beginning; past it the schedule waits, too. A run that
/// comes there is hopelessly behind, and says so in its verdict.
pub(crate) const BACKLOG_MAX: usize = 1 << 22;

/// The due times of one thread's events.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start: Now,
    line: Arc<RateLine>,
    /// Piece of the line that the next event lies in.
    piece: usize,
    /// Events of the whole run for one of this thread.
    stride: f64,
    /// Events of the whole run before the next one of this thread.
    count: f64,
    /// Random gaps between events; even ones if absent.
    random: Option<fastrand::Rng>,
    next: Now,
}

/// Whose events they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Senders of this thread, or whatever its part is measured in.
    pub(crate) own: u64,
    /// Those of all threads.
    pub(crate) total: u64,
    /// Number of the thread.
    pub(crate) thread: u32,
    /// Number of threads.
    pub(crate) threads: u32,
}

impl Schedule {
    /// Returns the schedule of a thread. Random arrivals depend on `seed` and the thread alone.
    pub(crate) fn new(
        start: Now,
        line: &Arc<RateLine>,
        arrivals: Arrivals,
        seed: u64,
        share: Share,
    ) -> Self {
        let stride = float(share.total) / float(share.own);
        let random = match arrivals {
            Arrivals::Even => None,
            Arrivals::Poisson => {
                let thread = u64::from(share.thread).wrapping_mul(GOLDEN);
                Some(fastrand::Rng::with_seed(seed.wrapping_add(thread)))
            }
        };
        let mut schedule = Self {
            start,
            line: Arc::clone(line),
            piece: 0,
            stride,
            // Threads do not send in step.
            count: stride * f64::from(share.thread) / f64::from(share.threads.max(1)),
            random,
            next: start,
        };
        if share.own == 0 {
            schedule.next = Now::MAX;
            return schedule;
        }
        if let Some(random) = &mut schedule.random {
            schedule.count = stride * gap(random);
        }
        schedule.find();
        schedule
    }

    /// Returns when the next event is due; [`Now::MAX`] when there is none any more.
    pub(crate) const fn due(&self) -> Now {
        self.next
    }

    /// Returns when the next event is due, and goes on to the one behind it.
    pub(crate) fn take(&mut self) -> Now {
        let due = self.next;
        if due < Now::MAX {
            self.count += match &mut self.random {
                None => self.stride,
                Some(random) => self.stride * gap(random),
            };
            self.find();
        }
        due
    }

    /// Ends the schedule: nothing is due any more.
    pub(crate) const fn stop(&mut self) {
        self.next = Now::MAX;
    }

    /// Finds the time of the next event.
    fn find(&mut self) {
        let pieces = self.line.pieces();
        loop {
            let Some(piece) = pieces.get(self.piece) else {
                self.next = Now::MAX;
                return;
            };
            let at = piece.time_of(self.count);
            let end = pieces
                .get(self.piece + 1)
                .map_or(f64::INFINITY, |next| next.start_ns);
            if at < end {
                let after = clip(at);
                let due = self.start.as_nanos().saturating_add(after);
                self.next = Now::from_nanos(due).max(self.next);
                return;
            }
            self.piece += 1;
        }
    }
}

/// A random gap between two events of a Poisson process whose mean gap is 1.
fn gap(random: &mut fastrand::Rng) -> f64 {
    // 1 - [0, 1) is never 0.
    -(1.0 - random.f64()).ln()
}

/// Keeps the seeds of threads apart: 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn clip(nanos: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast clips, and times are not negative"
    )]
    let clipped = nanos as u64;
    clipped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Shape;

    const SECOND_NS: u64 = 1_000_000_000;

    fn line(text: &str) -> Arc<RateLine> {
        let shape: Shape = text.parse().unwrap();
        Arc::new(shape.line(Duration::ZERO, Duration::from_secs(10)).unwrap())
    }

    fn share(own: u64, total: u64, thread: u32, threads: u32) -> Share {
        Share {
            own,
            total,
            thread,
            threads,
        }
    }

    fn even(text: &str, share: Share) -> Schedule {
        Schedule::new(Now::ZERO, &line(text), Arrivals::Even, 1, share)
    }

    fn skip(schedule: &mut Schedule, count: u64) -> Now {
        for _ in 0..count {
            schedule.take();
        }
        schedule.due()
    }

    #[test]
    fn one_thread_sends_the_whole_rate() {
        let mut schedule = even("1000", share(4, 4, 0, 1));
        assert_eq!(schedule.take(), Now::ZERO);
        assert_eq!(schedule.take(), Now::from_nanos(1_000_000));
        assert_eq!(skip(&mut schedule, 998), Now::from_nanos(SECOND_NS));
    }

    #[test]
    fn a_thread_sends_its_share() {
        // 3 of 4 streams: 750 of 1,000 messages a second.
        let mut schedule = even("1000", share(3, 4, 0, 2));
        assert_eq!(skip(&mut schedule, 750), Now::from_nanos(SECOND_NS));
        // The other thread starts half an interval of its own later.
        let mut other = even("1000", share(1, 4, 1, 2));
        assert_eq!(other.due(), Now::from_nanos(2_000_000));
        assert_eq!(skip(&mut other, 250), Now::from_nanos(1_002_000_000));
        assert_eq!(even("1000", share(0, 4, 1, 2)).due(), Now::MAX);
    }

    #[test]
    fn odd_rates_do_not_drift() {
        let mut schedule = even("3", share(1, 1, 0, 1));
        let hours = skip(&mut schedule, 3 * 86_400);
        let apart = hours.as_nanos().abs_diff(86_400 * SECOND_NS);
        assert!(apart <= 1, "{apart} ns");
    }

    #[test]
    fn a_shape_is_followed() {
        // A ramp from 0 to 200 in 10 s: half of its 1,000 events come after 7.07 s.
        let mut schedule = even("ramp:0..200", share(1, 1, 0, 1));
        let middle = skip(&mut schedule, 500).as_nanos();
        assert!(middle.abs_diff(7_071_067_811) < 10, "{middle}");
        let end = skip(&mut schedule, 500).as_nanos();
        assert!(end.abs_diff(10 * SECOND_NS) < 10, "{end}");
        // Behind it the last rate goes on.
        let after = skip(&mut schedule, 200).as_nanos();
        assert!(after.abs_diff(11 * SECOND_NS) < 10, "{after}");
    }

    #[test]
    fn a_rate_that_ends_has_no_event_behind_its_end() {
        let mut schedule = even("ramp:100..0", share(1, 1, 0, 1));
        let mut count = 0;
        while schedule.take() < Now::MAX {
            count += 1;
            assert!(count <= 501);
        }
        assert!((499..=501).contains(&count), "{count}");
        assert_eq!(schedule.take(), Now::MAX);
    }

    #[test]
    fn due_times_never_go_back() {
        for arrivals in [Arrivals::Even, Arrivals::Poisson] {
            let line = line("burst:1000,999999,100ms,7ms");
            let start = Now::from_nanos(7);
            let mut schedule = Schedule::new(start, &line, arrivals, 3, share(7, 13, 2, 3));
            let mut last = start;
            for _ in 0..100_000 {
                let due = schedule.take();
                assert!(due >= last);
                last = due;
            }
        }
    }

    #[test]
    fn random_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let line = line("10000");
        let mut counts = vec![0_u32; 10_000];
        for thread in 0..2 {
            let share = share(1, 2, thread, 2);
            let mut schedule = Schedule::new(Now::ZERO, &line, Arrivals::Poisson, 42, share);
            loop {
                let due = schedule.take().as_nanos();
                // Of both threads together, in windows of a millisecond: 10 on average.
                let Some(count) = counts.get_mut(usize::try_from(due / 1_000_000).unwrap()) else {
                    break;
                };
                *count += 1;
            }
        }
        let windows = f64::from(u32::try_from(counts.len()).unwrap());
        let mean = counts.iter().map(|c| f64::from(*c)).sum::<f64>() / windows;
        let square = |count: &u32| (f64::from(*count) - mean).powi(2);
        let variance = counts.iter().map(square).sum::<f64>() / windows;
        // Four standard errors of each.
        assert!((mean - 10.0).abs() < 0.13, "mean {mean}");
        assert!((variance - mean).abs() < 0.6, "variance {variance}");
    }

    #[test]
    fn the_same_seed_gives_the_same_times_and_threads_differ() {
        let times = |seed, thread| {
            let share = share(1, 2, thread, 2);
            let line = line("1000");
            let mut schedule = Schedule::new(Now::ZERO, &line, Arrivals::Poisson, seed, share);
            (0..100).map(|_| schedule.take()).collect::<Vec<_>>()
        };
        assert_eq!(times(1, 0), times(1, 0));
        assert_ne!(times(1, 0), times(2, 0));
        assert_ne!(times(1, 0), times(1, 1));
    }
}
