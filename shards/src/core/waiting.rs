//! Handshakes that wait for their peer, in the order in which they last heard from it.
//!
//! Here: a list through the sessions, so that the one to shed is found at once. Not here: when one is
//! shed (`admission`).
//!
//! Invariant: exactly the handshakes whose next message the peer owes stand in the list; one that the
//! executor computes does not.
//! Bound: no memory of its own but two slots.

use super::event::Slot;
use super::session::{Links, Session};

/// The ends of the list.
#[derive(Debug, Default)]
pub(super) struct WaitList {
    oldest: Option<Slot>,
    newest: Option<Slot>,
    len: u32,
}

impl WaitList {
    /// Puts a handshake at the end: it has just been heard from.
    pub(super) fn push<L>(&mut self, sessions: &mut [Session<L>], slot: Slot) {
        let older = self.newest;
        let Some(handshake) = handshake(sessions, slot) else {
            return;
        };
        handshake.waiting = Some(Links { older, newer: None });
        self.newest = Some(slot);
        self.len += 1;
        match older.and_then(|older| links(sessions, older)) {
            Some(links) => links.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }

    /// Takes a handshake out, if it is in.
    pub(super) fn remove<L>(&mut self, sessions: &mut [Session<L>], slot: Slot) {
        let Some(Links { older, newer }) =
            handshake(sessions, slot).and_then(|handshake| handshake.waiting.take())
        else {
            return;
        };
        self.len -= 1;
        match older.and_then(|older| links(sessions, older)) {
            Some(links) => links.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| links(sessions, newer)) {
            Some(links) => links.older = older,
            None => self.newest = older,
        }
    }

    /// Returns the handshake that has waited longest.
    pub(super) const fn oldest(&self) -> Option<Slot> {
        self.oldest
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }
}

fn handshake<L>(
    sessions: &mut [Session<L>],
    slot: Slot,
) -> Option<&mut super::session::Handshake<L>> {
    sessions.get_mut(slot.0 as usize)?.handshake_mut()
}

fn links<L>(sessions: &mut [Session<L>], slot: Slot) -> Option<&mut Links> {
    handshake(sessions, slot)?.waiting.as_mut()
}
