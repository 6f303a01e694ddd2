//! With which relays a session is kept.
//!
//! Here: the smoothed distance of each relay, and the set that follows from it. Not here: making and
//! ending sessions (`supervisor`), sessions that a dial asks for, clocks.
//!
//! The relays stand in a line: first the *regular* ones, which are the `kept_max` nearest, then the
//! others, both by distance, those never measured last. Kept is the shortest front part of the line
//! with `kept_max` relays in it that are not down; so a regular relay that is down is tried again, and
//! the next one stands in for it. A relay that was never tried is kept until it has been, so that its
//! distance becomes known.
//!
//! A relay that has its place gives it up only to one that is nearer by more than `MARGIN_SHARE`, at
//! least `MARGIN_MIN`: two relays at about the same distance do not take turns.
//!
//! Invariant: the kept set depends on what was reported, not on how often the same was.

use std::cmp::Reverse;
use std::time::Duration;

use crate::config::RELAYS_MAX;

/// A set of relays, by their place in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelaySet(u16);

/// What decides about each relay.
#[derive(Debug)]
pub(crate) struct Selection {
    candidates: Vec<Candidate>,
    regular: RelaySet,
    kept: RelaySet,
    kept_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    /// Round trip, smoothed.
    rtt: Option<Duration>,
    /// A session stood or an attempt failed.
    is_tried: bool,
    /// The last attempt failed, or the last session was lost.
    is_down: bool,
}

impl RelaySet {
    pub(crate) const fn contains(self, relay: usize) -> bool {
        relay < RELAYS_MAX && self.0 & (1 << relay) != 0
    }

    pub(crate) const fn insert(&mut self, relay: usize) {
        if relay < RELAYS_MAX {
            self.0 |= 1 << relay;
        }
    }

    #[must_use]
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Selection {
    /// Returns the state before any relay was tried: all of them are to be.
    pub(crate) fn new(relays_count: usize, kept_max: usize) -> Self {
        let mut selection = Self {
            candidates: vec![Candidate::default(); relays_count.min(RELAYS_MAX)],
            regular: RelaySet::default(),
            kept: RelaySet::default(),
            kept_max: kept_max.max(1),
        };
        selection.settle();
        selection
    }

    /// Notes that a session with `relay` stands.
    pub(crate) fn admitted(&mut self, relay: usize) {
        self.change(relay, |candidate| {
            candidate.is_tried = true;
            candidate.is_down = false;
        });
    }

    /// Notes that a session with `relay` could not be made, or was lost.
    pub(crate) fn failed(&mut self, relay: usize) {
        self.change(relay, |candidate| {
            candidate.is_tried = true;
            candidate.is_down = true;
        });
    }

    /// Notes a round trip to `relay`.
    pub(crate) fn measured(&mut self, relay: usize, rtt: Duration) {
        self.change(relay, |candidate| {
            candidate.rtt = Some(match candidate.rtt {
                Some(before) => before - before / SMOOTHING + rtt / SMOOTHING,
                None => rtt,
            });
        });
    }

    /// Returns the relays with which a session is to be kept.
    pub(crate) const fn kept(&self) -> RelaySet {
        self.kept
    }

    /// Returns the smoothed round trip to `relay`.
    pub(crate) fn rtt(&self, relay: usize) -> Option<Duration> {
        self.candidates.get(relay).and_then(|one| one.rtt)
    }

    /// Returns all relays, the nearest first, those never measured last.
    pub(crate) fn by_distance(&self) -> Vec<usize> {
        let mut line: Vec<usize> = (0..self.candidates.len()).collect();
        line.sort_by_key(|relay| self.rtt(*relay).unwrap_or(Duration::MAX));
        line
    }

    fn change(&mut self, relay: usize, act: impl FnOnce(&mut Candidate)) {
        if let Some(candidate) = self.candidates.get_mut(relay) {
            act(candidate);
            self.settle();
        }
    }

    /// Chooses until the choice stands: who has got a place in the first round is harder to move in
    /// the second.
    fn settle(&mut self) {
        for _ in 0..=self.candidates.len() {
            let before = self.kept;
            self.choose();
            if self.kept == before {
                break;
            }
        }
    }

    fn choose(&mut self) {
        let mut line: Vec<usize> = (0..self.candidates.len()).collect();
        line.sort_by_key(|relay| self.standing(*relay, self.regular));
        let mut others = line.split_off(self.kept_max.min(line.len()));
        self.regular = RelaySet::default();
        for relay in &line {
            self.regular.insert(*relay);
        }
        others.sort_by_key(|relay| self.standing(*relay, self.kept));
        line.append(&mut others);
        self.kept = self.front(&line);
    }

    /// Returns the front part of the line, and whoever was never tried.
    fn front(&self, line: &[usize]) -> RelaySet {
        let mut kept = RelaySet::default();
        let mut up_count = 0;
        for relay in line {
            let candidate = self.candidates.get(*relay).copied().unwrap_or_default();
            if up_count < self.kept_max || !candidate.is_tried {
                kept.insert(*relay);
                up_count += usize::from(!candidate.is_down);
            }
        }
        kept
    }

    /// Where a relay stands among others of which those in `placed` have a place.
    fn standing(&self, relay: usize, placed: RelaySet) -> (Duration, Reverse<bool>, Duration) {
        let is_placed = placed.contains(relay);
        let rtt = self.rtt(relay).unwrap_or(Duration::MAX);
        let distance = if is_placed && rtt < Duration::MAX {
            nearer(rtt)
        } else {
            rtt
        };
        (distance, Reverse(is_placed), rtt)
    }
}

/// Returns the distance with which a relay defends its place.
fn nearer(rtt: Duration) -> Duration {
    rtt.saturating_sub((rtt / MARGIN_SHARE).max(MARGIN_MIN))
}

/// A new measurement counts for one part in so many.
///
/// A single slow answer moves the distance by a quarter of what it was slower, a lasting change is
/// taken over to nine tenths after eight measurements.
const SMOOTHING: u32 = 4;

/// A kept relay gives way to one that is nearer by more than one part in so many of its distance.
const MARGIN_SHARE: u32 = 5;

/// Differences below this do not matter: they are smaller than those between two answers of a host.
const MARGIN_MIN: Duration = Duration::from_millis(1);

const _: () = assert!(RELAYS_MAX <= 16, "a set has 16 bits");

#[cfg(test)]
mod tests;
