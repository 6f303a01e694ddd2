//! The log of turns that took too long.
//!
//! Here: which turns are kept, and what each did. Not here: what a turn is (`data`).
//!
//! A turn ends where the loop reads the clock anyway: before it sleeps, or when the next turn begins. So
//! the log costs one comparison a turn. A turn before a sleep without any deadline is not seen.
//! Bound: [`STALLS_MAX`] turns, the oldest goes first.

use std::collections::VecDeque;
use std::time::Duration;

use ringway_proto::time::Now;

use crate::snapshot::StalledTurn;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// The turn that runs.
    began: Option<Now>,
    /// What it has done so far.
    pub(super) turn: StalledTurn,
    kept: VecDeque<StalledTurn>,
    count: u64,
    longest_us: u64,
}

impl Stalls {
    /// A turn begins.
    pub(super) fn begin(&mut self, now: Now) {
        self.began = Some(now);
        self.turn = StalledTurn::default();
    }

    /// The turn that runs, if one does, is over.
    pub(super) fn end(&mut self, now: Now) {
        if let Some(began) = self.began.take() {
            let took = now.saturating_since(began);
            if took > STALL {
                self.keep(began, took);
            }
        }
    }

    /// The turn that runs is followed by a sleep of unknown length: when it ended is not known.
    pub(super) const fn lose(&mut self) {
        self.began = None;
    }

    /// Returns the turns that are kept, oldest first.
    pub(super) fn kept(&self) -> Vec<StalledTurn> {
        self.kept.iter().copied().collect()
    }

    /// Returns how many there were.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Returns how long the longest took, microseconds.
    pub(super) const fn longest_us(&self) -> u64 {
        self.longest_us
    }

    #[cold]
    fn keep(&mut self, began: Now, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        self.longest_us = self.longest_us.max(took_us);
        if self.kept.len() >= STALLS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(StalledTurn {
            began_ms: began.as_nanos() / 1_000_000,
            took_us,
            ..self.turn
        });
    }
}

/// A turn that takes longer is kept: a thousand times what one takes, and what a person at a terminal
/// begins to feel.
const STALL: Duration = Duration::from_millis(10);

/// Turns that are kept; 40 bytes each.
const STALLS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Now {
        Now::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn only_turns_that_took_too_long_are_kept_with_what_they_did() {
        let mut stalls = Stalls::default();
        stalls.end(at_ms(100));
        stalls.begin(at_ms(100));
        stalls.end(at_ms(110));
        assert_eq!((stalls.count(), stalls.kept()), (0, vec![]));
        stalls.begin(at_ms(200));
        stalls.turn.completions = 7;
        stalls.end(at_ms(225));
        stalls.end(at_ms(999));
        stalls.begin(at_ms(1_000));
        stalls.lose();
        stalls.end(at_ms(9_000));
        let kept = StalledTurn {
            began_ms: 200,
            took_us: 25_000,
            completions: 7,
            ..StalledTurn::default()
        };
        assert_eq!((stalls.count(), stalls.longest_us()), (1, 25_000));
        assert_eq!(stalls.kept(), [kept]);
        stalls.begin(at_ms(9_000));
        assert_eq!(stalls.turn, StalledTurn::default(), "each begins anew");
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut stalls = Stalls::default();
        for number in 0..100 {
            stalls.begin(at_ms(number * 1_000));
            stalls.end(at_ms(number * 1_000 + 11 + number));
        }
        let kept = stalls.kept();
        assert_eq!((stalls.count(), kept.len()), (100, STALLS_MAX));
        assert_eq!((kept[0].began_ms, kept[63].began_ms), (36_000, 99_000));
        assert_eq!(stalls.longest_us(), 110_000);
    }
}
