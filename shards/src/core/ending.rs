//! How sessions end, and what their end gives back.
//!
//! Here: session death in one step, closing of sockets, drain, the session timer. Not here: how a
//! stream ends while its session lives (`bridge`).
//!
//! Invariant: the call that ends a session removes it from the directory, removes its streams, tells
//! the surviving legs, drops its queues and its timer's meaning. Only the socket outlives it: until
//! the driver reports the close, or for `LINGER_TIMEOUT` where the peer is to be told why.

use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, FrameKind, Header};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{KEEPALIVE_MISSED_MAX, LINK_KEEPALIVE_INTERVAL};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::config::Timeouts;
use super::event::{Action, Directory, RecvEnd, SessionKey, Slot};
use super::session::{LinkSide, Live, Phase};
use super::timers::Timer;
use super::{Cause, ShardCore};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Receiving on a socket ended: the peer closed, or the connection is gone.
    pub fn receive_ended(&mut self, slot: Slot, end: RecvEnd, now: Now) {
        self.now = now;
        match end {
            RecvEnd::Eof => self.connection_ended(slot, Cause::Left),
            RecvEnd::Error(_) => self.connection_ended(slot, Cause::Lost),
        }
    }

    /// A send failed: the connection is gone.
    pub(super) fn lose_connection(&mut self, slot: Slot) {
        self.connection_ended(slot, Cause::Lost);
    }

    fn connection_ended(&mut self, slot: Slot, cause: Cause) {
        let Some(session) = self.sessions.get(slot.0 as usize) else {
            return;
        };
        let key = session.key(slot);
        match session.phase {
            Phase::Free | Phase::Closing => {}
            Phase::Handshake(_) => {
                if self.leave_handshake(slot).is_some() {
                    self.common.stats.handshakes_abandoned += 1;
                    self.close(slot);
                    self.regulate_accept();
                }
            }
            Phase::Dialed => self.end_dialed(slot, cause),
            Phase::Linking(_) => self.end_linking(slot, cause, None),
            Phase::Live(_) => self.end_session(key, cause, false),
            Phase::Lingering => self.close(slot),
        }
    }

    /// Ends an established session; with `tell`, the peer is told the reason first.
    pub(super) fn end_session(&mut self, key: SessionKey, cause: Cause, tell: bool) {
        let Some(session) = self.sessions.get_mut(key.slot.0 as usize) else {
            return;
        };
        if session.generation != key.generation || session.live().is_none() {
            return;
        }
        let place = super::event::Place {
            shard: self.config.shard,
            session: key,
        };
        let Phase::Live(mut live) = std::mem::replace(&mut session.phase, Phase::Closing) else {
            return;
        };
        let is_own = self.config.is_own(&live.key);
        if !is_own && live.side() != Some(LinkSide::Begun) {
            let stats = &mut self.common.stats;
            stats.sessions_current -= 1;
            stats.of_dialect_mut(live.dialect()).sessions_current -= 1;
            match cause {
                Cause::Left => stats.sessions_left += 1,
                Cause::Lost => stats.sessions_lost += 1,
                Cause::Reason(reason) => stats.sessions_closed.count(reason),
            }
        }
        match live.link.take() {
            None if is_own => self.own_down(key),
            None => {
                self.directory.remove(&live.key, place);
                self.announce(&live.key);
            }
            Some(link) => self.link_down(live.key, key, *link, cause),
        }
        for stream in live.ids.take_all() {
            self.orphan(stream);
        }
        self.drop_egress(key.slot, tell);
        if !tell {
            return self.close(key.slot);
        }
        let code = match cause {
            // What is no error must not look like one to peers that know no reasons.
            Cause::Reason(Reason::Draining) if live.dialect() == Dialect::Dmsg => 0,
            Cause::Reason(Reason::ProtocolError) => 1,
            Cause::Reason(reason) => u32::from(reason.code()),
            Cause::Left | Cause::Lost => 0,
        };
        self.linger(key.slot);
        self.push_go_away(key.slot, code);
    }

    pub(super) fn push_go_away(&mut self, slot: Slot, code: u32) {
        let frame = Header {
            kind: FrameKind::GoAway,
            flags: Flags::NONE,
            stream_id: 0,
            length: code,
        };
        self.push_control(slot, &frame.encode());
    }

    /// Tells the driver to close a socket. Everything but the socket itself is given back here.
    pub(super) fn close(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        session.phase = Phase::Closing;
        self.wheel.cancel(&mut session.timer);
        self.drop_egress(slot, false);
        self.common.actions.push_back(Action::Close { slot });
    }

    /// The driver has closed the socket: the slot is free.
    ///
    /// # Panics
    /// When the core did not ask for it.
    pub fn closed(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        assert!(
            matches!(session.phase, Phase::Closing),
            "closed a socket nobody gave up"
        );
        session.phase = Phase::Free;
        session.generation = session.generation.wrapping_add(1);
        session.egress = None;
        // The socket is gone: its port may rest.
        session.permit = None;
        let was_attached = std::mem::take(&mut session.is_attached);
        self.common.stats.attached_closed += u64::from(was_attached);
        self.common.stats.sockets_closed += 1;
        self.common.stats.sockets_current -= 1;
        self.regulate_accept();
    }

    /// Takes nothing new, tells every peer, and ends each session with its last stream.
    pub fn drain(&mut self, now: Now) {
        self.now = now;
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        if !self.is_accept_paused {
            self.is_accept_paused = true;
            self.common.actions.push_back(Action::PauseAccept);
        }
        self.forget_links();
        self.give_up_dials();
        for slot in self.slots() {
            match self.sessions[slot.0 as usize].phase {
                Phase::Dialed => self.end_dialed(slot, Cause::Reason(Reason::Draining)),
                Phase::Linking(_) => {
                    self.end_linking(slot, Cause::Reason(Reason::Draining), None);
                }
                _ => {}
            }
            let Some(live) = self
                .sessions
                .get_mut(slot.0 as usize)
                .and_then(super::session::Session::live_mut)
            else {
                continue;
            };
            live.is_draining = true;
            if live.streams_count() == 0 {
                self.note_emptied(slot);
            } else {
                self.push_go_away(slot, 0);
            }
        }
    }

    /// Closes everything that is left, at once.
    pub fn shutdown(&mut self, now: Now) {
        self.drain(now);
        for slot in self.slots() {
            let key = self.sessions[slot.0 as usize].key(slot);
            match self.sessions[slot.0 as usize].phase {
                Phase::Free | Phase::Closing => {}
                Phase::Dialed => self.end_dialed(slot, Cause::Reason(Reason::Draining)),
                Phase::Linking(_) => {
                    self.end_linking(slot, Cause::Reason(Reason::Draining), None);
                }
                Phase::Handshake(_) => self.fail_handshake(slot, Reason::Draining),
                Phase::Live(_) => {
                    self.end_session(key, Cause::Reason(Reason::Draining), false);
                }
                Phase::Lingering => self.close(slot),
            }
        }
    }

    /// Returns whether a drain has reached its end: no socket and no connect is left.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.is_draining && self.common.stats.sockets_current == 0 && self.dials.len() == 0
    }

    /// Ends the session of `key` if this shard has it; returns whether it had.
    pub fn kick(&mut self, key: &PublicKey, now: Now) -> bool {
        self.now = now;
        match self.directory.lookup(key) {
            Some(place) if place.shard == self.config.shard => {
                self.end_session(place.session, Cause::Reason(Reason::NotAllowed), true);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Ends draining sessions whose last stream is gone and whose last bytes have left.
    pub(super) fn end_emptied(&mut self) {
        if self.common.emptied.is_empty() {
            return;
        }
        let mut emptied = std::mem::take(&mut self.common.emptied);
        emptied.retain(|slot| {
            let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
                return false;
            };
            let key = session.key(*slot);
            let is_sending = session
                .egress
                .as_ref()
                .is_some_and(|egress| !egress.is_drained());
            let Some(live) = session.live_mut() else {
                return false;
            };
            if live.streams_count() != 0 {
                live.is_emptied = false;
                return false;
            }
            // The tail of the last stream may still wait; `sent` leads here again.
            if !is_sending {
                self.end_session(key, Cause::Reason(Reason::Draining), true);
            }
            is_sending
        });
        emptied.append(&mut self.common.emptied);
        self.common.emptied = emptied;
    }

    /// Notes that a draining session has no stream.
    pub(super) fn note_emptied(&mut self, slot: Slot) {
        if let Some(live) = self.live_mut(slot)
            && !live.is_emptied
        {
            live.is_emptied = true;
            self.common.emptied.push(slot);
        }
    }

    pub(super) fn set_session_timer(&mut self, slot: Slot, due: Now) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        let key = session.key(slot);
        self.wheel.set(&mut session.timer, due, Timer::Session(key));
    }

    /// Sets the timer to the next look at the peer: for a sign of life, or for a byte that it took.
    pub(super) fn set_keepalive_timer(&mut self, slot: Slot) {
        let Timeouts {
            keepalive,
            send_stall,
            ..
        } = self.config.timeouts;
        let Some(session) = self.sessions.get(slot.0 as usize) else {
            return;
        };
        let Some(live) = session.live() else { return };
        let mut due = live.heard_at + interval(live, keepalive) * (live.pings_missed + 1);
        if let Some(since) = session.egress.as_ref().and_then(|e| e.sending_since()) {
            due = due.min(since + send_stall);
        }
        self.set_session_timer(slot, due);
    }

    /// The session's timer fired.
    pub(super) fn session_timeout(&mut self, key: SessionKey) {
        let slot = key.slot;
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        assert!(
            session.generation == key.generation,
            "the timer of a session that has ended fired"
        );
        session.timer = None;
        match &mut session.phase {
            // A dialed connection has no timer of its own: there is nothing it waits for.
            Phase::Free | Phase::Dialed | Phase::Closing => {}
            Phase::Handshake(_) => self.handshake_timeout(slot),
            Phase::Linking(_) => {
                let cause = Cause::Reason(Reason::HandshakeTimeout);
                self.end_linking(slot, cause, None);
            }
            Phase::Lingering => self.close(slot),
            Phase::Live(_) => {
                self.look_at_send(slot);
                self.look_for_life(key);
            }
        }
    }

    /// A peer that has been silent for long is asked for a sign of life, or has given none.
    fn look_for_life(&mut self, key: SessionKey) {
        let keepalive = self.config.timeouts.keepalive;
        let now = self.now;
        let Some(live) = self.live_mut(key.slot) else {
            return;
        };
        let keepalive = interval(live, keepalive);
        let silence = now.saturating_since(live.heard_at);
        if silence < keepalive {
            live.pings_missed = 0;
        } else if silence >= keepalive * (live.pings_missed + 1) {
            if live.pings_missed >= KEEPALIVE_MISSED_MAX {
                return self.end_session(key, Cause::Reason(Reason::Idle), true);
            }
            live.pings_missed += 1;
            let ping = Header::ping(Flags::SYN, live.pings_missed).encode();
            self.push_control(key.slot, &ping);
        }
        self.set_keepalive_timer(key.slot);
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + use<L, D> {
        (0..u32::try_from(self.sessions.len()).unwrap_or(u32::MAX)).map(Slot)
    }
}

/// Returns the silence after which the other side is asked for a sign of life.
fn interval(live: &Live, keepalive: Duration) -> Duration {
    match live.link {
        None => keepalive,
        Some(_) => keepalive.min(LINK_KEEPALIVE_INTERVAL),
    }
}
