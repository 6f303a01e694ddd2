//! From an accepted socket to an established session.
//!
//! Here: collecting handshake messages, handing the expensive steps to the executor, the verdict, the
//! directory. Not here: the cryptography (`ringway_proto::handshake`).
//!
//! Invariant: nothing here waits for anything but the peer and the executor; the deadline covers both.
//! Bound: a handshake holds one message (`HANDSHAKE_MESSAGE_MAX`) and at most `PIPELINED_MAX` bytes
//! behind it; at most `handshakes_max` are in progress, then the shard stops accepting and new
//! connections wait in the kernel's backlog.

use ringway_proto::handshake::{Established, Role, message_len};
use ringway_proto::limits::{HANDSHAKE_TIMEOUT, LINGER_TIMEOUT, PIPELINED_MAX};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;
use ringway_proto::verdict::Verdict;

use super::event::{
    Action, Directory, Job, JobResult, Message, Place, Progress, SessionKey, Slot, Step,
};
use super::session::{Handshake, Live, Parser, Phase, Session, Stage};
use super::table::IdTable;
use super::{Cause, ShardCore};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A socket was accepted into `slot`.
    ///
    /// # Panics
    /// When the slot holds a socket: the driver reported an accept twice or lost a close.
    pub fn accepted(&mut self, slot: Slot, now: Now) {
        self.now = now;
        let index = slot.0 as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, Session::free);
        }
        assert!(
            matches!(self.sessions[index].phase, Phase::Free),
            "slot accepted while in use"
        );
        self.common.stats.sockets_opened += 1;
        self.common.stats.sockets_current += 1;
        self.common.stats.handshakes_current += 1;
        self.sessions[index].phase = Phase::Handshake(Box::new(Handshake {
            started: now,
            stage: Stage::Message1,
            collected: Vec::new(),
            pipelined: Vec::new(),
            pipelined_bytes: 0,
        }));
        self.set_session_timer(slot, now + HANDSHAKE_TIMEOUT);
        if self.is_draining {
            self.fail_handshake(slot, Reason::Draining);
        }
        self.regulate_accept();
    }

    /// Bytes of a peer that is not yet known.
    pub(super) fn collect_handshake(&mut self, slot: Slot, mut lease: L) {
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        if matches!(handshake.stage, Stage::Message1 | Stage::Message3(_)) {
            let taken = match take_message(&mut handshake.collected, lease.bytes()) {
                Ok(taken) => taken,
                Err(reason) => return self.fail_handshake(slot, reason),
            };
            lease.advance(taken.bytes);
            if taken.is_complete {
                let key = SessionKey {
                    slot,
                    generation: self.sessions[slot.0 as usize].generation,
                };
                self.start_step(key);
            }
        }
        if lease.is_empty() {
            return;
        }
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        // Only behind message 3 may anything follow without an answer.
        if !matches!(handshake.stage, Stage::Computing3)
            || handshake.pipelined_bytes + lease.len() > PIPELINED_MAX
        {
            return self.fail_handshake(slot, Reason::BadHandshake);
        }
        handshake.pipelined_bytes += lease.len();
        handshake.pipelined.push(lease);
    }

    fn start_step(&mut self, session: SessionKey) {
        let offer = self.config.offer;
        let Some(handshake) = self.handshake_mut(session.slot) else {
            return;
        };
        let mut message = std::mem::take(&mut handshake.collected);
        message.drain(..2);
        let step = match std::mem::replace(&mut handshake.stage, Stage::Computing3) {
            Stage::Message1 => {
                handshake.stage = Stage::Computing1;
                Step::Message1 { offer, message }
            }
            Stage::Message3(responder) => Step::Message3 { responder, message },
            stage @ (Stage::Computing1 | Stage::Computing3) => {
                handshake.stage = stage;
                return;
            }
        };
        self.common
            .actions
            .push_back(Action::Compute(Job { session, step }));
    }

    /// The executor has finished a step.
    pub fn computed(&mut self, result: JobResult, now: Now) {
        self.now = now;
        let slot = result.session.slot;
        let is_current = self
            .sessions
            .get(slot.0 as usize)
            .is_some_and(|session| session.generation == result.session.generation);
        if !is_current {
            return;
        }
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        match result.outcome {
            Err(error) => self.fail_handshake(slot, error.reason()),
            Ok(Progress::Reply { responder, message }) => {
                handshake.stage = Stage::Message3(responder);
                self.push_control(slot, &message);
            }
            Ok(Progress::Established(established)) => self.establish(slot, *established),
        }
    }

    fn establish(&mut self, slot: Slot, established: Established) {
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        let pipelined = std::mem::take(&mut handshake.pipelined);
        let started = handshake.started;
        let Established {
            key,
            role,
            mut sealer,
            opener,
            ..
        } = established;
        let reason = self.admit(&key, role);
        let mut verdict = Vec::new();
        let plain = Verdict {
            reason,
            retry_after_ms: 0,
        }
        .encode();
        if sealer.seal(&plain, &mut verdict).is_err() {
            return self.fail_handshake(slot, Reason::BadHandshake);
        }
        self.push_control(slot, &verdict);
        self.common.stats.handshakes_current -= 1;
        if reason != Reason::Accepted {
            self.common.stats.handshakes_failed.count(reason);
            self.linger(slot);
            return self.regulate_accept();
        }
        self.common.stats.sessions_opened += 1;
        self.common.stats.sessions_current += 1;
        self.common
            .recorder
            .handshake(self.now.saturating_since(started));
        let session = &mut self.sessions[slot.0 as usize];
        session.phase = Phase::Live(Box::new(Live {
            key,
            sealer,
            opener,
            parser: Parser::default(),
            ids: IdTable::default(),
            peer_id_last: 0,
            own_id_next: 2,
            received_at: self.now,
            pings_missed: 0,
            peer_is_leaving: false,
            is_draining: false,
            is_emptied: false,
        }));
        let place = Place {
            shard: self.config.shard,
            session: session.key(slot),
        };
        self.set_keepalive_timer(slot);
        if let Some(older) = self.directory.insert(key, place) {
            self.evict(older);
        }
        self.regulate_accept();
        for lease in pipelined {
            self.take_received(slot, lease);
        }
    }

    /// Decides whether a peer gets a session.
    fn admit(&self, key: &ringway_proto::key::PublicKey, role: Role) -> Reason {
        if self.is_draining {
            Reason::Draining
        } else if role == Role::Relay || *key == self.config.own_key {
            // Links need an allow list, which this relay does not have.
            Reason::NotAllowed
        } else {
            Reason::Accepted
        }
    }

    fn evict(&mut self, older: Place) {
        if older.shard == self.config.shard {
            self.end_session(older.session, Cause::Reason(Reason::Replaced), true);
        } else {
            let message = Message::Evict {
                session: older.session,
            };
            self.common.actions.push_back(Action::Message {
                target: older.shard,
                message,
            });
        }
    }

    /// Ends a connection that never became a session; there are no keys to say why with.
    pub(super) fn fail_handshake(&mut self, slot: Slot, reason: Reason) {
        self.common.stats.handshakes_current -= 1;
        self.common.stats.handshakes_failed.count(reason);
        self.close(slot);
        self.regulate_accept();
    }

    /// Keeps a socket open until the peer has read what was queued for it and has closed.
    ///
    /// The relay does not close first: the side that does keeps the port in `TIME_WAIT` for 60 s.
    pub(super) fn linger(&mut self, slot: Slot) {
        let until = self.now + LINGER_TIMEOUT;
        if let Some(session) = self.sessions.get_mut(slot.0 as usize) {
            session.phase = Phase::Lingering;
        }
        self.set_session_timer(slot, until);
    }

    /// Stops accepting one socket before the table is full or too many handshakes are in progress,
    /// and starts again with some distance.
    pub(super) fn regulate_accept(&mut self) {
        let stats = &self.common.stats;
        let sockets_max = u64::from(self.config.sockets_max);
        let handshakes_max = u64::from(self.config.handshakes_max);
        if self.is_accept_paused {
            if !self.is_draining
                && stats.sockets_current < sockets_max
                && stats.handshakes_current * 4 <= handshakes_max * 3
            {
                self.is_accept_paused = false;
                self.common.actions.push_back(Action::ResumeAccept);
            }
        } else if stats.sockets_current >= sockets_max || stats.handshakes_current >= handshakes_max
        {
            self.is_accept_paused = true;
            self.common.actions.push_back(Action::PauseAccept);
        }
    }

    fn handshake_mut(&mut self, slot: Slot) -> Option<&mut Handshake<L>> {
        match &mut self.sessions.get_mut(slot.0 as usize)?.phase {
            Phase::Handshake(handshake) => Some(handshake),
            Phase::Free | Phase::Live(_) | Phase::Lingering | Phase::Closing => None,
        }
    }
}

struct Taken {
    bytes: usize,
    is_complete: bool,
}

/// Moves the bytes of one length-prefixed message from `input` to `collected`.
fn take_message(collected: &mut Vec<u8>, input: &[u8]) -> Result<Taken, Reason> {
    let mut bytes = 0;
    loop {
        let total = message_len(collected).map_err(|error| error.reason())?;
        let wanted = total.unwrap_or(2) - collected.len();
        if wanted == 0 {
            return Ok(Taken {
                bytes,
                is_complete: true,
            });
        }
        let rest = input.get(bytes..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Taken {
                bytes,
                is_complete: false,
            });
        }
        let count = wanted.min(rest.len());
        collected.extend_from_slice(&rest[..count]);
        bytes += count;
    }
}
