//! Evictions: a second session of a key takes the place of the first.
//!
//! Here: whose turn it is, what the older session must be told, when an eviction is over. Not here:
//! connecting and the handshake (`setup`).
//!
//! Each key has two places; in turn the idle one connects while the other stands. An eviction begins with the
//! connect and is over when the new session stands and the old one has been told 202 and is gone.
//!
//! Invariant: at most one of the two places of a key connects.

use std::sync::atomic::Ordering;

use ringway_proto::reason::Reason;

use super::Worker;
use super::session::Step;
use crate::plan::Scenario;

impl Worker {
    /// Connects the idle places of keys whose other place stands.
    pub(super) fn evict_more(&mut self) {
        let keys = self.sessions.len() / 2;
        let mut tries = 0;
        while self.connecting < self.plan.concurrency
            && self.due.is_any()
            && tries < keys
            && !self.quantum.is_spent()
        {
            tries += 1;
            let key = self.evict_next;
            self.evict_next = if key + 1 < keys { key + 1 } else { 0 };
            let Some(idle) = self.idle_place(key) else {
                continue;
            };
            tries = 0;
            self.sessions[idle].due = self.due.take();
            self.sessions[idle].is_heir = true;
            self.connect(idle);
        }
    }

    /// Returns the place of a key that may connect: it is idle, and the other one stands for good.
    fn idle_place(&self, key: usize) -> Option<usize> {
        let pair = [2 * key, 2 * key + 1];
        let is_idle = |index: &usize| matches!(self.sessions[*index].step, Step::Idle);
        let idle = *pair.iter().find(|index| is_idle(index))?;
        let other = &self.sessions[idle ^ 1];
        (matches!(other.step, Step::Live) && !other.is_heir).then_some(idle)
    }

    /// The new session stands; if the old one is gone already, that was all.
    pub(super) fn on_evict_live(&mut self, index: usize) {
        if self.sessions[index].is_heir && !matches!(self.sessions[index ^ 1].step, Step::Live) {
            self.end_eviction(index);
        }
    }

    /// A session that stood is told to go, and why; it closes at once, as peers do.
    pub(super) fn on_evicted(&mut self, index: usize, code: u16) {
        if code != Reason::Replaced.code() {
            self.tally.failures.count_reason("evict: go away", code);
            self.note_failure();
        }
        let heir = index ^ 1;
        let is_due = self.sessions[heir].is_heir;
        self.end_session(index);
        if is_due && matches!(self.sessions[heir].step, Step::Live) {
            self.end_eviction(heir);
        }
    }

    fn end_eviction(&mut self, heir: usize) {
        let session = &mut self.sessions[heir];
        session.is_heir = false;
        let (due, started) = (session.due.take(), session.started);
        self.tally.timed(due, started, self.now);
        self.tally.rounds += 1;
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// A session that stood is gone without a word.
    pub(super) fn on_evicted_silently(&mut self, index: usize) {
        self.fail("evict: a session ended without being told why");
        self.on_evicted(index, Reason::Replaced.code());
    }

    /// Returns whether a session that stands may be evicted.
    pub(super) fn is_evictable(&self, index: usize) -> bool {
        let is_live = matches!(self.sessions[index].step, Step::Live);
        self.plan.scenario == Scenario::Evict && is_live
    }
}
