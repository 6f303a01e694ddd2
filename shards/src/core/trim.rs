//! What a core keeps for the next sessions, given back when there are far fewer than there were.
//!
//! Here: tables cut off behind their last entry in use, pools emptied. Not here: when (`data::trimming`),
//! the ring's share (`ring`).
//!
//! Invariant: an entry that is new to a table after a trim has a generation that no key of an earlier entry
//! in its place has, so that keys in jobs and messages under way still find nothing.

use super::ShardCore;
use super::event::Directory;
use super::session::{Phase, Session};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Returns how many things of those there are that tables grow with: sockets, streams, dials.
    #[must_use]
    pub fn held_count(&self) -> u64 {
        let tables = u64::from(self.streams.len()) + u64::from(self.dials.len());
        self.common.stats.sockets_current + tables
    }

    /// Gives back memory that only more sessions and streams than there are would need.
    ///
    /// Costs a look at every free entry of the tables, so it is for quiet moments.
    pub fn trim(&mut self) {
        while let Some(last) = self.sessions.pop_if(|session| is_vacant(session)) {
            self.sessions_floor = self.sessions_floor.max(last.generation);
        }
        self.sessions.shrink_to_fit();
        self.streams.trim();
        self.dials.trim();
        self.checks.trim();
        self.wheel.trim();
        self.common.trim();
    }
}

impl<L: Lease> super::Common<L> {
    fn trim(&mut self) {
        self.actions.shrink_to_fit();
        self.dirty.shrink_to_fit();
        self.emptied.shrink_to_fit();
        self.chunks.trim();
        self.batches_idle = Vec::new();
        self.egress_idle = Vec::new();
    }
}

/// Returns whether nothing refers to the slot. Its generation has changed with the last close.
fn is_vacant<L>(session: &Session<L>) -> bool {
    matches!(session.phase, Phase::Free)
        && session.egress.is_none()
        && session.timer.is_none()
        && session.permit.is_none()
}
