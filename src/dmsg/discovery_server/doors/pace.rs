//! When a connection is too slow.
//!
//! ```text
//!             heard              begin               answered            flushed
//!   Silent ----------> Reading ----------> Serving ----------> Writing ----------> Silent
//!     ^ a new one starts at Reading        (body, store)         wrote: it moves
//! ```
//!
//! Here: a pure state machine; times go in. Not here: sockets.
//!
//! Bound: [`READ_TIME`] for a head, [`SERVE_TIME`] for a body and the answer, [`WRITE_TIME`] without a byte
//! taken and [`WRITE_TIME_MAX`] in all for writing, [`SILENCE_MAX`] between two requests.

use std::time::Duration;

use tokio::time::Instant;

/// What a connection is doing, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    doing: Doing,
    since: Instant,
    /// When a byte was last taken.
    moved_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Reading,
    Serving,
    Silent,
    Writing,
}

impl Pace {
    /// A connection has been taken: whoever comes has something to say.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            doing: Doing::Reading,
            since: now,
            moved_at: now,
        }
    }

    /// Bytes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        if self.doing == Doing::Silent {
            self.turn(Doing::Reading, now);
        }
    }

    /// The head of a request is whole.
    pub(super) fn begin(&mut self, now: Instant) {
        self.turn(Doing::Serving, now);
    }

    /// The answer is made.
    pub(super) fn answered(&mut self, now: Instant) {
        if self.doing == Doing::Serving {
            self.turn(Doing::Writing, now);
        }
    }

    /// Bytes were taken.
    pub(super) const fn wrote(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// All bytes were taken.
    pub(super) fn flushed(&mut self, now: Instant) {
        if self.doing == Doing::Writing {
            self.turn(Doing::Silent, now);
        }
    }

    /// Returns since when it has been silent; none if it is not.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        (self.doing == Doing::Silent).then_some(self.since)
    }

    /// Returns whether it has had its time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.since);
        let still = now.saturating_duration_since(self.moved_at.max(self.since));
        match self.doing {
            Doing::Reading => time > READ_TIME,
            Doing::Serving => time > SERVE_TIME,
            Doing::Silent => time > SILENCE_MAX,
            Doing::Writing => still > WRITE_TIME || time > WRITE_TIME_MAX,
        }
    }

    const fn turn(&mut self, doing: Doing, now: Instant) {
        self.doing = doing;
        self.since = now;
    }
}

/// Longest time for the head of a request.
const READ_TIME: Duration = Duration::from_secs(3);

/// Longest time for the body and the answer of the store, which have limits of their own: this is for what
/// they overlook.
const SERVE_TIME: Duration = Duration::from_secs(15);

/// Longest time without a byte taken of an answer.
const WRITE_TIME: Duration = Duration::from_secs(3);

/// Longest time for an answer: a list of 100,000 clients at 2 Mbit/s.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest silence between two requests. Clients of Go let go after 90 s: who closes first must not be the
/// one that does not know whether a request is under way.
const SILENCE_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a connection.
    type Event = fn(&mut Pace, Instant);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_step_has_its_time() {
        let start = Instant::now();
        let steps: [(Event, u64); 5] = [
            (|_, _| {}, 3),
            (Pace::begin, 15),
            (Pace::answered, 3),
            (Pace::flushed, 120),
            (Pace::heard, 3),
        ];
        let mut pace = Pace::new(start);
        let mut now = start;
        for (step, seconds) in steps {
            now += s(1);
            step(&mut pace, now);
            let since = pace.since;
            assert!(!pace.is_overdue(since + s(seconds)), "{pace:?}");
            assert!(pace.is_overdue(since + s(seconds) + s(1)), "{pace:?}");
            assert_eq!(pace.silent_since().is_some(), seconds == 120);
        }
    }

    #[test]
    fn head_that_drips_has_no_more_time_than_one_that_does_not_come() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for second in 0..=3 {
            pace.heard(start + s(second));
            assert!(!pace.is_overdue(start + s(second)));
        }
        assert!(pace.is_overdue(start + s(4)));
    }

    #[test]
    fn reader_that_takes_a_little_has_longer_but_not_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin(start);
        pace.answered(start);
        for second in (2..=30).step_by(2) {
            pace.wrote(start + s(second));
            assert!(!pace.is_overdue(start + s(second)), "{second}");
        }
        pace.wrote(start + s(31));
        assert!(pace.is_overdue(start + s(31)));
        let mut still = Pace::new(start);
        still.begin(start);
        still.answered(start);
        assert!(still.is_overdue(start + s(4)));
    }

    #[test]
    fn flush_before_the_answer_is_no_end_of_it() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.flushed(now);
        assert_eq!(pace.silent_since(), None);
        pace.begin(now);
        pace.flushed(now);
        assert_eq!(pace.silent_since(), None);
        pace.answered(now);
        pace.heard(now);
        assert_eq!(pace.silent_since(), None, "bytes of the next one have come");
        pace.flushed(now);
        assert_eq!(pace.silent_since(), Some(now));
    }
}
