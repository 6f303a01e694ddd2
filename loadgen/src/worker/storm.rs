//! A storm: all sessions die at once and come back.
//!
//! Here: when they die, when each is due again, what happens to one that is refused. Not here: connecting and
//! the handshake (`setup`).
//!
//! ```text
//!   live --storm--> closing -> idle, due at a random time of the spread -> connecting .. live
//!                                ^                                             |
//!                                '------ again after a growing pause <---------' refused
//! ```
//!
//! The response counts from when a session was due for the first time, so every refusal and every pause is in
//! it. A session that is not back when the next storm comes, or at the end, has failed.
//!
//! Bound: one entry of 16 bytes for each session that is not live.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringway_proto::time::Now;

use super::session::Step;
use super::setup::later;
use super::{Worker, place};
use crate::plan::Scenario;
use crate::shared::{Phase, unbump};

/// First pause after a refusal; each further one is twice as long, at random between half and all of it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// The storms of a thread.
#[derive(Debug)]
pub(super) struct Storms {
    /// Sessions that are not live and not connecting, by when they are due.
    due: BinaryHeap<Reverse<(Now, u32)>>,
    /// When the next storm comes.
    next_at: Option<Now>,
    has_begun: bool,
    random: fastrand::Rng,
}

impl Storms {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            due: BinaryHeap::new(),
            next_at: None,
            has_begun: false,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Returns when something is to be done.
    pub(super) fn next(&self) -> Option<Now> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        match (due, self.next_at) {
            (Some(due), Some(next)) => Some(due.min(next)),
            (due, next) => due.or(next),
        }
    }
}

impl Worker {
    /// Lets a storm come, and connects whoever is due.
    pub(super) fn storm_more(&mut self) {
        self.now = self.shared.now();
        let is_first = !self.storms.has_begun;
        if is_first || self.storms.next_at.is_some_and(|at| at <= self.now) {
            self.storms.has_begun = true;
            self.storms.next_at = self.plan.storm.every.map(|every| later(self.now, every));
            self.kill_all();
        }
        while self.connecting < self.plan.concurrency {
            let Some(Reverse((at, index))) = self.storms.due.peek().copied() else {
                return;
            };
            if at > self.now || self.quantum.is_spent() {
                return;
            }
            self.storms.due.pop();
            let session = place(index);
            if self.sessions[session].tries == 0 {
                let lag = self.now.saturating_since(at);
                self.tally.latencies.lag.record(lag);
            }
            self.connect(session);
        }
    }

    fn kill_all(&mut self) {
        let spread = u64::try_from(self.plan.storm.spread.as_nanos()).unwrap_or(u64::MAX);
        for index in 0..self.sessions.len() {
            if !matches!(self.sessions[index].step, Step::Live) {
                self.fail("storm: a session was not back when the next one came");
                continue;
            }
            let wait = self.storms.random.u64(0..=spread);
            let due = later(self.now, Duration::from_nanos(wait));
            self.sessions[index].due = Some(due);
            self.sessions[index].tries = 0;
            unbump(&self.shared.sessions_up);
            self.end_session(index);
        }
    }

    /// A session of a storm has no socket any more: it is due later.
    pub(super) fn on_storm_closed(&mut self, index: usize) {
        if !self.storms.has_begun || self.phase > Phase::Measure {
            return;
        }
        let session = &mut self.sessions[index];
        let due = *session.due.get_or_insert(self.now);
        let at = if session.tries == 0 {
            due
        } else {
            let pause = PAUSE_FIRST.saturating_mul(1 << session.tries.saturating_sub(1).min(8));
            let pause = u64::try_from(pause.min(PAUSE_MAX).as_nanos()).unwrap_or(u64::MAX);
            let pause = self.storms.random.u64(pause / 2..=pause);
            later(self.now, Duration::from_nanos(pause))
        };
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.storms.due.push(Reverse((at, index)));
    }

    /// A session of a storm stands again.
    pub(super) fn on_storm_live(&mut self, index: usize) {
        if !self.storms.has_begun {
            return;
        }
        let session = &mut self.sessions[index];
        let (due, started) = (session.due.take(), session.started);
        session.tries = 0;
        self.tally.timed(due, started, self.now);
        self.tally.rounds += 1;
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the sessions that did not come back.
    pub(super) fn finish_storm(&mut self) {
        if self.plan.scenario != Scenario::Storm {
            return;
        }
        for index in 0..self.sessions.len() {
            if !matches!(self.sessions[index].step, Step::Live) {
                self.fail("storm: a session was not back at the end");
            }
        }
    }

    /// Returns whether a session comes back after a storm.
    pub(super) fn is_stormy(&self) -> bool {
        self.plan.scenario == Scenario::Storm
    }

    /// Notes that a session was refused.
    pub(super) fn on_storm_refused(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        session.tries = session.tries.saturating_add(1);
        if matches!(session.step, Step::Live) {
            unbump(&self.shared.sessions_up);
        }
    }
}
