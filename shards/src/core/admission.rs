//! From an accepted socket to an established session.
//!
//! Here: collecting handshake messages, handing the expensive steps to the executor, the verdict, the
//! directory, and who is turned away when there is not room for all. Not here: the cryptography
//! (`ringway_proto::handshake`).
//!
//! Shedding, in the order in which it acts; what stands further up costs less:
//!
//! | what there is too much of | what happens | what it costs the relay |
//! |---|---|---|
//! | connections a second | they wait in the kernel's backlog | nothing |
//! | sockets, or handshakes being computed | the same | nothing |
//! | unfinished handshakes of one source | the new connection is reset (212) | an accept and a close |
//! | unfinished handshakes | the one that has waited longest for its peer is reset (212) | its memory |
//! | bytes sent ahead of the verdict | that peer is reset (212) | its memory |
//! | sessions | the handshake is made, its verdict says 203 and when to come back | three Diffie-Hellman |
//!
//! An established session is never ended for a new one, but for one of the same key that was accepted
//! after it.
//!
//! Invariant: nothing here waits for anything but the peer and the executor; the deadline covers both.
//! Bound: a handshake holds one message (`HANDSHAKE_MESSAGE_MAX`) and at most `PIPELINED_MAX` bytes
//! behind it, all of them `pipelined_bytes_max`; `AdmissionLimits` has the rest.

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Established;
use ringway_proto::entry::PeerEntry;
use ringway_proto::handshake::{Extension, ExtensionKind, Role};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{
    HANDSHAKE_FOLD_AFTER, HANDSHAKES_UNFOLDED_MAX, LINGER_TIMEOUT, PIPELINED_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::Sealer;
use ringway_proto::time::Now;
use ringway_proto::verdict::Verdict;

use super::collect::take;
use super::event::{
    Action, Arrival, Directory, Job, JobResult, Message, Outdated, Place, Progress, Registration,
    SessionKey, Slot, Step,
};
use super::session::{Handshake, LinkSide, Live, Phase, Stage};
use super::{Cause, ShardCore};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A socket was accepted into `slot`.
    ///
    /// # Panics
    /// When the slot holds a socket: the driver reported an accept twice or lost a close.
    pub fn accepted(&mut self, slot: Slot, arrival: impl Into<Arrival>, now: Now) {
        let arrival = arrival.into();
        self.now = now;
        self.claim(slot);
        self.gate.pass(now);
        let refusal = if self.is_draining {
            Some(Reason::Draining)
        } else if !self
            .sources
            .try_add(arrival.source, self.config.admission.handshakes_source_max)
        {
            Some(Reason::TooManyHandshakes)
        } else {
            None
        };
        match refusal {
            Some(reason) => {
                self.common.stats.handshakes_failed.count(reason);
                self.close(slot);
            }
            None => self.begin_handshake(slot, arrival),
        }
        self.regulate_accept();
    }

    pub(super) fn begin_handshake(&mut self, slot: Slot, arrival: Arrival) {
        let handshakes_max = u64::from(self.config.admission.handshakes_max);
        self.shed_handshakes(handshakes_max.saturating_sub(1));
        self.common.stats.handshakes_current += 1;
        if let Some(session) = self.sessions.get_mut(slot.0 as usize) {
            session.phase = Phase::Handshake(Box::new(Handshake {
                accepted_at: self.now,
                arrival,
                stage: match arrival.dialect {
                    Dialect::Dmsg => Stage::Header,
                    _ => Stage::Message1,
                },
                waiting: None,
                collected: Vec::new(),
                pipelined: Vec::new(),
                pipelined_bytes: 0,
            }));
        }
        self.waiting.push(&mut self.sessions, slot);
        self.set_session_timer(slot, self.now + self.config.timeouts.handshake);
    }

    /// Gives handshakes up that wait for their peers, the longest first, until `left` are in progress or
    /// the executor has all that are left.
    fn shed_handshakes(&mut self, left: u64) {
        while self.common.stats.handshakes_current > left
            && let Some(oldest) = self.waiting.oldest()
        {
            self.common.stats.handshakes_shed += 1;
            self.fail_handshake(oldest, Reason::TooManyHandshakes);
        }
    }

    /// Bytes of a peer that is not yet known.
    pub(super) fn collect_handshake(&mut self, slot: Slot, mut lease: L) {
        let is_first = |handshake: &mut Handshake<L>| matches!(handshake.stage, Stage::Header);
        if self.handshake_mut(slot).is_some_and(is_first)
            && let Err(reason) = self.take_header(slot, &mut lease)
        {
            return self.fail_handshake(slot, reason);
        }
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        if handshake.stage.is_collecting() {
            let dialect = handshake.arrival.dialect;
            let length = |prefix: &[u8]| message_length(dialect, prefix);
            let taken = match take(&mut handshake.collected, lease.bytes(), length) {
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
        let bytes = lease.len();
        handshake.pipelined_bytes += bytes;
        handshake.pipelined.push(lease);
        self.common.pipelined_bytes += bytes as u64;
        if self.common.pipelined_bytes > self.config.admission.pipelined_bytes_max {
            self.fail_handshake(slot, Reason::TooManyHandshakes);
        }
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
                Step::Message1 {
                    dialect: handshake.arrival.dialect,
                    offer,
                    message,
                }
            }
            Stage::Message3(responder) => Step::Message3 { responder, message },
            Stage::Message3Folded(responder) => Step::Message3Folded { responder, message },
            stage @ (Stage::Header | Stage::Computing1 | Stage::Computing3) => {
                handshake.stage = stage;
                return;
            }
        };
        self.waiting.remove(&mut self.sessions, session.slot);
        self.common
            .actions
            .push_back(Action::Compute(Job { session, step }));
    }

    /// The executor has finished a step.
    pub fn computed(&mut self, result: JobResult, now: Now) {
        self.now = now;
        if matches!(result.outcome, Ok(Progress::RequestChecked { .. })) {
            self.end_check();
        }
        let slot = result.session.slot;
        let is_current = self
            .sessions
            .get(slot.0 as usize)
            .is_some_and(|session| session.generation == result.session.generation);
        if !is_current {
            return;
        }
        if self.is_linking(slot) {
            return self.link_computed(result.session, result.outcome);
        }
        let outcome = match result.outcome {
            Ok(Progress::AddressAnswered { stream, response }) => {
                return self.address_answered(stream, response.as_deref());
            }
            Ok(Progress::AnnouncementChecked { stream, response }) => {
                return self.announcement_checked(stream, response.as_deref());
            }
            outcome => outcome,
        };
        if let Ok(Progress::RequestChecked {
            stream,
            request,
            is_valid,
        }) = outcome
        {
            return self.request_checked(stream, &request, is_valid);
        }
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        match outcome {
            Err(error) => self.fail_handshake(slot, error.reason()),
            Ok(Progress::Reply { responder, message }) => {
                handshake.stage = Stage::Message3(responder);
                let fold_at = now + HANDSHAKE_FOLD_AFTER;
                let due = fold_at.min(handshake.accepted_at + self.config.timeouts.handshake);
                self.waiting.push(&mut self.sessions, slot);
                self.set_session_timer(slot, due);
                if self.waiting.len() > HANDSHAKES_UNFOLDED_MAX {
                    self.fold(slot);
                }
                self.push_control(slot, &message);
                // A burst may have come in while the executor had all there were.
                self.shed_handshakes(u64::from(self.config.admission.handshakes_max));
                self.regulate_accept();
            }
            Ok(Progress::Established(established)) => self.establish(slot, *established),
            // Not steps of a handshake that a peer began.
            Ok(
                Progress::AddressAnswered { .. }
                | Progress::AnnouncementChecked { .. }
                | Progress::LinkHello { .. }
                | Progress::LinkAnswer { .. }
                | Progress::RequestChecked { .. },
            ) => {}
        }
    }

    /// A handshake's timer fired: its time is over, or it has waited long enough to be made small.
    pub(super) fn handshake_timeout(&mut self, slot: Slot) {
        let timeout = self.config.timeouts.handshake;
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        let due = handshake.accepted_at + timeout;
        if due <= self.now {
            return self.fail_handshake(slot, Reason::HandshakeTimeout);
        }
        self.fold(slot);
        self.set_session_timer(slot, due);
    }

    /// Makes the state of a handshake small that waits for message 3.
    fn fold(&mut self, slot: Slot) {
        let Some(handshake) = self.handshake_mut(slot) else {
            return;
        };
        handshake.stage = match std::mem::replace(&mut handshake.stage, Stage::Message1) {
            Stage::Message3(responder) => match responder.fold() {
                Ok(folded) => Stage::Message3Folded(Box::new(folded)),
                Err(responder) => Stage::Message3(responder),
            },
            other => other,
        };
    }

    fn establish(&mut self, slot: Slot, established: Established) {
        let Established {
            key,
            role,
            mut sealer,
            opener,
            extensions,
            ..
        } = established;
        let place = Place {
            shard: self.config.shard,
            session: self.sessions[slot.0 as usize].key(slot),
        };
        let is_own = self.config.is_own(&key);
        let role = match key.dialect() {
            Dialect::Native => role,
            _ if self.is_known_relay(&key) => Role::Relay,
            _ => Role::Peer,
        };
        let mut reason = self.admit(slot, &key, role);
        if reason == Reason::Accepted && role == Role::Peer && !is_own {
            reason = self.register(slot, key, place, &extensions);
        }
        if !self.tell_verdict(slot, &mut sealer, (key.dialect(), reason)) {
            self.directory.remove(&key, place);
            return self.fail_handshake(slot, Reason::BadHandshake);
        }
        let Some(handshake) = self.leave_handshake(slot) else {
            return;
        };
        if reason != Reason::Accepted {
            self.common.stats.handshakes_failed.count(reason);
            self.linger(slot);
            return self.regulate_accept();
        }
        if !is_own {
            self.common.stats.sessions_opened += 1;
            self.common.stats.sessions_current += 1;
            let of_dialect = self.common.stats.of_dialect_mut(key.dialect());
            of_dialect.sessions_opened += 1;
            of_dialect.sessions_current += 1;
            self.common
                .recorder
                .handshake(self.now.saturating_since(handshake.accepted_at));
        }
        let session = &mut self.sessions[slot.0 as usize];
        let link = (role == Role::Relay).then_some(LinkSide::Accepted);
        let mut live = Live::new(key, link, (sealer, opener), self.now);
        if key.dialect() == Dialect::Dmsg {
            live.address = handshake.arrival.address.map(Box::new);
        }
        session.phase = Phase::Live(Box::new(live));
        if link.is_some() {
            self.note_announcement(key, &extensions);
            self.link_up(key, place.session);
        } else if is_own {
            self.own_up(place.session);
        } else {
            self.announce(&key);
        }
        self.set_keepalive_timer(slot);
        self.regulate_accept();
        for lease in handshake.pipelined {
            self.take_received(slot, lease);
        }
    }

    /// Tells a peer whether it gets a session, where its dialect has a word for it; false when that cannot be
    /// sealed.
    fn tell_verdict(
        &mut self,
        slot: Slot,
        sealer: &mut Sealer,
        (dialect, reason): (Dialect, Reason),
    ) -> bool {
        if !dialect.has_verdict() {
            if reason != Reason::Accepted {
                self.push_go_away(slot, u32::from(reason.code()));
            }
            return true;
        }
        let mut verdict = Vec::new();
        let plain = Verdict {
            reason,
            retry_after_ms: self.retry_after_ms(reason, slot),
        }
        .encode();
        let is_sealed = sealer.seal(&plain, &mut verdict).is_ok();
        self.push_control(slot, &verdict);
        is_sealed
    }

    /// Decides whether a peer gets a session.
    fn admit(&self, slot: Slot, key: &PublicKey, role: Role) -> Reason {
        if self.is_draining {
            Reason::Draining
        } else if !self.may_have(slot, key) {
            Reason::NotAllowed
        } else if role == Role::Relay {
            self.admit_link(key)
        } else if self.config.is_own(key) {
            Reason::Accepted
        } else if self.common.stats.sessions_current
            >= u64::from(self.config.admission.sessions_max)
            && self.directory.lookup(key).is_none()
        {
            // A key that is here already takes its older session's place.
            Reason::TooManySessions
        } else {
            Reason::Accepted
        }
    }

    /// Enters a session in the directory and ends the one whose place it takes. An older connection
    /// that comes to its end only now is told what it would have been told had it been in time.
    fn register(
        &mut self,
        slot: Slot,
        key: PublicKey,
        place: Place,
        extensions: &[Extension],
    ) -> Reason {
        let entry = extensions
            .iter()
            .find(|extension| extension.kind == ExtensionKind::Entry)
            .map(|extension| PeerEntry::decode(&extension.value));
        let Ok(entry) = entry.transpose() else {
            return Reason::BadHandshake;
        };
        let Some(handshake) = self.handshake_mut(slot) else {
            return Reason::BadHandshake;
        };
        let registration = Registration {
            place,
            accepted_at: handshake.accepted_at,
        };
        match self.directory.insert(key, registration, entry.as_ref()) {
            Ok(None) => Reason::Accepted,
            Ok(Some(older)) => {
                self.evict(older);
                Reason::Accepted
            }
            Err(Outdated) => Reason::Replaced,
        }
    }

    /// Returns when a refused peer may come back. Spread by the relay, since peers do not know how many
    /// of them were turned away.
    fn retry_after_ms(&self, reason: Reason, slot: Slot) -> u32 {
        let (least_ms, spread_ms) = match reason {
            Reason::Draining => (1_000, 9_000),
            Reason::TooManySessions => (5_000, 25_000),
            _ => return 0,
        };
        let mixed =
            (self.now.as_nanos() ^ u64::from(slot.0)).wrapping_mul(self.config.hash_seed | 1);
        least_ms + u32::try_from((mixed >> 32) % spread_ms).unwrap_or(0)
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
        if self.leave_handshake(slot).is_none() {
            return;
        }
        self.common.stats.handshakes_failed.count(reason);
        self.close(slot);
        self.regulate_accept();
    }

    /// Takes a handshake out of every table that counts it. The caller gives the slot its next phase.
    pub(super) fn leave_handshake(&mut self, slot: Slot) -> Option<Box<Handshake<L>>> {
        self.waiting.remove(&mut self.sessions, slot);
        let session = self.sessions.get_mut(slot.0 as usize)?;
        let handshake = match std::mem::replace(&mut session.phase, Phase::Closing) {
            Phase::Handshake(handshake) => handshake,
            other => {
                session.phase = other;
                return None;
            }
        };
        self.sources.remove(handshake.arrival.source);
        self.common.stats.handshakes_current -= 1;
        self.common.pipelined_bytes -= handshake.pipelined_bytes as u64;
        Some(handshake)
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

    /// Stops accepting before there is too much of something, and starts again with some distance.
    pub(super) fn regulate_accept(&mut self) {
        let limits = self.config.admission;
        let has_sockets = self.sockets_promised() < u64::from(limits.sockets_max);
        let stats = &self.common.stats;
        let computing = stats.handshakes_current - u64::from(self.waiting.len());
        let handshakes_max = u64::from(limits.handshakes_max);
        if !self.is_accept_paused {
            if !has_sockets || computing >= handshakes_max || self.gate.is_shut() {
                self.is_accept_paused = true;
                self.common.actions.push_back(Action::PauseAccept);
            }
        } else if !self.is_draining
            && has_sockets
            && computing * 4 <= handshakes_max * 3
            && self.gate.may_open(self.now)
        {
            self.is_accept_paused = false;
            self.common.actions.push_back(Action::ResumeAccept);
        }
    }

    /// Returns when accepting may go on, where only time is missing.
    pub(super) fn accept_deadline(&self) -> Option<Now> {
        let is_missing = self.is_accept_paused && !self.is_draining && self.gate.is_low();
        is_missing.then(|| self.gate.opens_at())
    }

    fn handshake_mut(&mut self, slot: Slot) -> Option<&mut Handshake<L>> {
        self.sessions.get_mut(slot.0 as usize)?.handshake_mut()
    }
}

pub(super) fn message_length(dialect: Dialect, prefix: &[u8]) -> Result<Option<usize>, Reason> {
    let length = dialect.message_len(prefix);
    length.map_err(|error| error.reason())
}
