//! When a relay's entry is written to one discovery, and with which sequence.
//!
//! ```text
//!             absent, found            due                  written
//!   Unknown ---------------> Known(n) -----> write n ----------------> Known(n + 1)
//!      ^                                        | wrong sequence or time
//!      +----------------------------------------+   (at most CONFLICTS_MAX times, then a pause)
//! ```
//!
//! Here: a pure state machine; times and outcomes go in, the next step comes out. Not here: requests,
//! entries.
//!
//! Invariant: between two writes lies [`CHANGE_PAUSE`] at least, whatever changes; after a failure a pause
//! that grows. While the discovery answers, the entry is refreshed twice in its life.
//! Source: docs/dmsg.md, the section on entries.

use std::time::Duration;

use ringway_proto::dmsg::entry::SERVER_REFRESH;
use tokio::time::Instant;

/// Where a relay stands with one discovery.
#[derive(Debug)]
pub(super) struct Registration {
    /// What to write next, once it is known what stands there.
    next: Option<Next>,
    written: Option<Written>,
    /// Nothing is done before.
    rest_until: Option<Instant>,
    failures: u32,
    conflicts: u32,
}

/// What a later entry has to exceed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// The sequence to write.
    pub(super) sequence: u64,
    /// The earliest time to write, nanoseconds since 1970.
    pub(super) timestamp_ns_min: i64,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    at: Instant,
    available: u32,
    refresh_at: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read what stands there.
    Read,
    /// Nothing before this time, or a change.
    Wait(Instant),
    /// Write an entry.
    Write(Next),
}

impl Registration {
    /// Returns one that knows nothing of the discovery.
    pub(super) const fn new() -> Self {
        Self {
            next: None,
            written: None,
            rest_until: None,
            failures: 0,
            conflicts: 0,
        }
    }

    /// Returns what is to be done while the relay takes `available` sessions.
    pub(super) fn poll(&self, available: u32, now: Instant) -> Step {
        if let Some(end) = self.rest_until
            && now < end
        {
            return Step::Wait(end);
        }
        if let Some(written) = self.written {
            let has_changed = written.available != available;
            let due_at = match has_changed {
                true => written.refresh_at.min(written.at + CHANGE_PAUSE),
                false => written.refresh_at,
            };
            if now < due_at {
                return Step::Wait(due_at);
            }
        }
        match self.next {
            None => Step::Read,
            Some(next) => Step::Write(next),
        }
    }

    /// The discovery has said what stands there: sequence and time of an entry, or nothing.
    pub(super) fn found(&mut self, stands: Option<(u64, i64)>) {
        self.next = Some(match stands {
            None => Next::default(),
            Some((sequence, timestamp_ns)) => Next {
                sequence: sequence.saturating_add(1),
                timestamp_ns_min: timestamp_ns,
            },
        });
    }

    /// The entry was written. `chance` is a random number: relays that started together drift apart.
    pub(super) fn written(&mut self, what: (Next, i64, u32), now: Instant, chance: u32) {
        let (next, timestamp_ns, available) = what;
        self.next = Some(Next {
            sequence: next.sequence.saturating_add(1),
            timestamp_ns_min: timestamp_ns,
        });
        self.written = Some(Written {
            at: now,
            available,
            refresh_at: now + part_of(SERVER_REFRESH, chance),
        });
        self.rest_until = None;
        self.failures = 0;
        self.conflicts = 0;
    }

    /// Something else stands there than was known; returns whether that was so too often to be tried again at
    /// once.
    pub(super) fn conflicted(&mut self, now: Instant, chance: u32) -> bool {
        self.next = None;
        self.conflicts += 1;
        let is_stubborn = self.conflicts > CONFLICTS_MAX;
        if is_stubborn {
            self.failed(now, chance);
        }
        is_stubborn
    }

    /// The discovery did not answer, or refused the entry.
    pub(super) fn failed(&mut self, now: Instant, chance: u32) {
        // Whether a write has arrived is unknown.
        self.next = None;
        self.conflicts = 0;
        let pause = RETRY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rest_until = Some(now + part_of(pause, chance));
    }

    /// Returns how often in a row it has failed.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns whether the entry was written so lately that it still stands.
    pub(super) fn is_standing(&self, life: Duration, now: Instant) -> bool {
        self.written.is_some_and(|written| now < written.at + life)
    }
}

/// Returns three quarters to the whole of a time.
fn part_of(time: Duration, chance: u32) -> Duration {
    let share = (f64::from(chance) / f64::from(u32::MAX)).mul_add(0.25, 0.75);
    time.mul_f64(share)
}

/// Shortest time between two writes.
pub(super) const CHANGE_PAUSE: Duration = Duration::from_secs(1);

/// Conflicts in a row that are resolved at once: another discovery's copy, a restart, a second relay with
/// this key.
const CONFLICTS_MAX: u32 = 5;

/// First pause after a failure; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest pause: an entry stands for 120 s, so three attempts fall into its life.
const RETRY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringway_proto::dmsg::entry::SERVER_TIME;

    use super::*;

    /// The whole of each pause.
    const MOST: u32 = u32::MAX;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn write(sequence: u64, timestamp_ns_min: i64) -> Step {
        Step::Write(Next {
            sequence,
            timestamp_ns_min,
        })
    }

    /// A registration whose entry has just been written with sequence 6 and 9 sessions.
    fn written(now: Instant) -> Registration {
        let mut registration = Registration::new();
        assert_eq!(registration.poll(9, now), Step::Read);
        registration.found(Some((5, 70)));
        let Step::Write(next) = registration.poll(9, now) else {
            panic!("nothing to write");
        };
        assert_eq!(Step::Write(next), write(6, 70));
        registration.written((next, 80, 9), now, MOST);
        registration
    }

    #[test]
    fn entry_follows_what_stands_and_is_refreshed_in_time() {
        let now = Instant::now();
        let registration = written(now);
        assert_eq!(registration.poll(9, now), Step::Wait(now + s(60)));
        assert_eq!(registration.poll(9, now + s(60)), write(7, 80));
        assert!(registration.is_standing(SERVER_TIME, now + s(119)));
        assert!(!registration.is_standing(SERVER_TIME, now + s(120)));
        let mut first = Registration::new();
        first.found(None);
        assert_eq!(first.poll(9, now), write(0, 0));
    }

    #[test]
    fn changes_are_told_soon_and_never_more_than_once_a_second() {
        let now = Instant::now();
        let registration = written(now);
        assert_eq!(registration.poll(8, now), Step::Wait(now + s(1)));
        assert_eq!(registration.poll(8, now + s(1)), write(7, 80));
        // It was taken back before it was told.
        assert_eq!(registration.poll(9, now + s(1)), Step::Wait(now + s(60)));
    }

    #[test]
    fn conflict_is_resolved_at_once_and_a_stubborn_one_after_a_pause() {
        let now = Instant::now();
        let mut registration = written(now);
        let later = now + s(60);
        for conflict in 1..=5 {
            assert!(!registration.conflicted(later, MOST));
            assert_eq!(registration.poll(9, later), Step::Read, "{conflict}");
            registration.found(Some((100 * conflict, 1)));
            assert_eq!(registration.poll(9, later), write(100 * conflict + 1, 1));
        }
        assert!(registration.conflicted(later, MOST));
        assert_eq!(registration.poll(9, later), Step::Wait(later + s(1)));
        assert_eq!(registration.poll(9, later + s(1)), Step::Read);
    }

    #[test]
    fn pauses_grow_and_end_with_the_first_success() {
        let mut now = Instant::now();
        let mut registration = Registration::new();
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            registration.failed(now, MOST);
            assert_eq!(registration.poll(9, now), Step::Wait(now + s(pause)));
            now += s(pause);
            assert_eq!(registration.poll(9, now), Step::Read);
        }
        assert_eq!(registration.failures(), 7);
        registration.found(None);
        registration.written((Next::default(), 1, 9), now, MOST);
        assert_eq!(registration.failures(), 0);
        registration.failed(now, 0);
        let pause = Duration::from_millis(750);
        assert_eq!(registration.poll(8, now), Step::Wait(now + pause));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Change(u32),
        Pass(u64),
        Outcome(u8, u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..9_u32).prop_map(Event::Change),
            (0..90_000_u64).prop_map(Event::Pass),
            (any::<u8>(), any::<u32>()).prop_map(|(kind, chance)| Event::Outcome(kind, chance)),
        ]
    }

    proptest! {
        /// Whatever happens: writes are a second apart, sequences only grow, no step waits for what is past,
        /// and with a discovery that answers the last word of the relay is told within the time of a refresh.
        #[test]
        fn writes_are_apart_and_the_last_word_is_told(events in prop::collection::vec(event(), 0..200)) {
            let mut registration = Registration::new();
            let mut now = Instant::now();
            let (mut available, mut told, mut stands) = (0, None, None::<(u64, i64)>);
            let mut last_write = None::<Instant>;
            let mut perform = |registration: &mut Registration, kind: u8, chance, now, available| {
                match registration.poll(available, now) {
                    Step::Wait(until) => assert!(until > now),
                    Step::Read if kind % 4 == 3 => registration.failed(now, chance),
                    Step::Read => registration.found(stands),
                    Step::Write(next) => match kind % 4 {
                        0 | 1 => {
                            assert!(last_write.is_none_or(|last| now >= last + CHANGE_PAUSE));
                            assert!(stands.is_none_or(|(sequence, _)| next.sequence > sequence));
                            last_write = Some(now);
                            stands = Some((next.sequence, 0));
                            told = Some(available);
                            registration.written((next, 0, available), now, chance);
                        }
                        2 => drop(registration.conflicted(now, chance)),
                        _ => registration.failed(now, chance),
                    },
                }
                told
            };
            for event in events {
                match event {
                    Event::Change(count) => available = count,
                    Event::Pass(ms) => now += Duration::from_millis(ms),
                    Event::Outcome(kind, chance) => {
                        perform(&mut registration, kind, chance, now, available);
                    }
                }
            }
            let mut last = None;
            for _ in 0..4 {
                now += s(60);
                for _ in 0..2 {
                    last = perform(&mut registration, 0, 0, now, available);
                }
            }
            prop_assert_eq!(last, Some(available));
        }
    }
}
