//! A run as one of several that share a clock.
//!
//! Here: where the runs wait for each other, and when the phases of their scenario end. Not here: what a
//! scenario is made of (`scenario`).
//!
//! Time zero is when the last run is set up, plus the warm-up. A run that begins in a later phase does not
//! wait; its set-up is part of that phase. All of them cut their intervals at the same moments, so that an
//! interval belongs to one phase.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where runs wait until all of them are set up.
#[derive(Debug)]
pub struct Rendezvous {
    warmup: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    missing: usize,
    zero: Option<Instant>,
}

impl Rendezvous {
    /// Returns a place where `parties` runs wait for each other; they then load for `warmup` before time
    /// zero.
    #[must_use]
    pub fn new(parties: usize, warmup: Duration) -> Self {
        let zero = (parties == 0).then(Instant::now);
        Self {
            warmup,
            state: Mutex::new(State {
                missing: parties,
                zero,
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits for all parties; returns time zero, or nothing when `interrupt` came first.
    pub(super) fn arrive(&self, interrupt: &AtomicBool) -> Option<Instant> {
        self.leave();
        self.zero(interrupt)
    }

    /// Counts a party as there, although it will not come: one that failed.
    pub fn leave(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.missing = state.missing.saturating_sub(1);
        if state.missing == 0 && state.zero.is_none() {
            state.zero = Some(Instant::now() + self.warmup);
            self.changed.notify_all();
        }
    }

    /// Waits until time zero is known; nothing when `interrupt` came first.
    pub fn zero(&self, interrupt: &AtomicBool) -> Option<Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(zero) = state.zero {
                return Some(zero);
            }
            if interrupt.load(Ordering::Acquire) {
                return None;
            }
            let waited = self.changed.wait_timeout(state, LOOK_TIME);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The phases of a run, counted from the scenario's time zero.
#[derive(Debug, Clone)]
pub struct Stage<'a> {
    /// Where it waits for the others.
    pub rendezvous: &'a Rendezvous,
    /// Whether it is set up before time zero.
    pub is_first: bool,
    /// Number of its first phase.
    pub phase: u32,
    /// When each of its phases ends.
    pub ends: Vec<Duration>,
}

/// Longest time to notice an interrupt.
const LOOK_TIME: Duration = Duration::from_millis(50);

/// Which phase it is, and when the next one begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Phases {
    /// Number of the present one.
    pub(super) number: u32,
    /// When it and those after it end.
    ends: Vec<Instant>,
}

impl Phases {
    pub(super) fn new(stage: &Stage<'_>, zero: Instant) -> Self {
        Self {
            number: stage.phase,
            ends: stage.ends.iter().map(|end| zero + *end).collect(),
        }
    }

    /// Returns whether the present phase is over and another follows.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.ends.len() > 1 && self.ends.first().is_some_and(|end| *end <= now)
    }

    /// Enters the phase of `now`.
    pub(super) fn enter(&mut self, now: Instant) {
        while self.is_over(now) {
            self.ends.remove(0);
            self.number += 1;
        }
    }

    /// Returns the time left in the present phase.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let end = self.ends.first()?;
        Some(end.saturating_duration_since(now))
    }

    /// Returns the time left in all of them.
    pub(super) fn left_in_all(&self, now: Instant) -> Option<Duration> {
        let end = self.ends.last()?;
        Some(end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn everybody_gets_the_same_time_zero() {
        let warmup = Duration::from_secs(7);
        let rendezvous = Rendezvous::new(3, warmup);
        let never = AtomicBool::new(false);
        let begun = Instant::now();
        let zeros: Vec<_> = thread::scope(|scope| {
            let waiting: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| rendezvous.arrive(&never)))
                .collect();
            // The third fails, which keeps nobody waiting.
            rendezvous.leave();
            waiting.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(zeros[0], zeros[1]);
        assert!(zeros[0].unwrap() >= begun + warmup);
        assert_eq!(rendezvous.zero(&never), zeros[0]);
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let rendezvous = Rendezvous::new(2, Duration::ZERO);
        assert_eq!(rendezvous.arrive(&AtomicBool::new(true)), None);
    }

    #[test]
    fn phases_follow_each_other_and_the_last_one_stays() {
        let rendezvous = Rendezvous::new(0, Duration::ZERO);
        let zero = Instant::now();
        let second = Duration::from_secs(1);
        let stage = Stage {
            rendezvous: &rendezvous,
            is_first: false,
            phase: 1,
            ends: vec![second * 3, second * 5, second * 6],
        };
        let mut phases = Phases::new(&stage, zero);
        let mut numbers = Vec::new();
        for at in [0, 2, 3, 4, 5, 9] {
            let now = zero + second * at;
            phases.enter(now);
            numbers.push(phases.number);
        }
        assert_eq!(numbers, [1, 1, 2, 2, 3, 3]);
        assert_eq!(phases.left(zero + second * 5), Some(second));
        let whole = Phases::new(&stage, zero);
        assert_eq!(whole.left_in_all(zero), Some(second * 6));
        assert_eq!(Phases::default().left(zero), None);
    }
}
