//! What the events of the proto session do to the state.
//!
//! Here: the reaction to each event, and what a session's end is called. Not here: what the
//! application and the driver ask (`state`).

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::Address;
use ringway_proto::peer::{self, IncomingRequest, PeerEvent, StreamId};
use ringway_proto::reason::Reason;

use super::{Finish, Phase, Slot, State};
use crate::error::{DialError, Refusal, SessionError, StreamError};
use crate::session::{Effects, Opened, Session, StreamHandle};
use crate::stream::Stream;

impl State {
    /// Takes the events that wait and notes what is to be done about them.
    pub(in crate::session) fn settle(&mut self, session: &Arc<Session>, effects: &mut Effects) {
        while let Some(event) = self.peer.poll_event() {
            self.on_event(event, session, effects);
        }
        self.note_idleness();
        let has_output = self.peer.wants_transmit() && !self.is_socket_full;
        let needs_driver = has_output || self.closing.is_some() || self.is_ended();
        if needs_driver && let Some(driver) = self.driver.take() {
            effects.wakes.push(driver);
        }
    }

    fn on_event(&mut self, event: PeerEvent, session: &Arc<Session>, effects: &mut Effects) {
        match event {
            PeerEvent::Closed { error } => {
                let error = self.session_error(error);
                self.end(effects, error);
            }
            PeerEvent::Finished { stream } => self.on_finished(stream, effects),
            PeerEvent::GoAway { code } => {
                self.gone_away = Some(refusal_of_go_away(code));
                self.announce_over(effects);
            }
            PeerEvent::Incoming {
                stream,
                source,
                port,
                request,
            } => {
                self.on_incoming((stream, source, port), request, session, effects);
            }
            PeerEvent::Opened { stream, keys } => {
                self.slots.insert(stream, Slot::default());
                let handle = StreamHandle {
                    session: Arc::clone(session),
                    id: stream,
                };
                match self.dials.remove(&stream) {
                    Some(answer) => effects.opened.push((answer, Ok(Opened { handle, keys }))),
                    None => effects.abandoned.push(handle),
                }
            }
            PeerEvent::OpenRefused {
                stream,
                reason_code,
            } => {
                if let Some(answer) = self.dials.remove(&stream) {
                    let refusal = Refusal::from_code(reason_code);
                    effects
                        .opened
                        .push((answer, Err(DialError::Refused(refusal))));
                }
            }
            PeerEvent::Pong { rtt } => {
                effects
                    .pongs
                    .extend(self.pings.drain(..).map(|answer| (answer, rtt)));
            }
            PeerEvent::Readable { stream } => self.on_readable(stream, effects),
            PeerEvent::Ready { .. } => self.phase = Phase::Ready,
            PeerEvent::Reset { stream } => self.on_reset(stream, effects),
            PeerEvent::Writable { stream } => self.on_writable(stream, effects),
            // `Refused` is followed by `Closed`, which says the same.
            _ => {}
        }
    }

    /// Tells the supervisor, once, that the session takes no new streams.
    pub(super) fn announce_over(&mut self, effects: &mut Effects) {
        if let Some(over) = self.over.take() {
            effects.over = Some(over);
        }
    }

    fn on_incoming(
        &mut self,
        (id, source, port): (StreamId, Address, u16),
        request: IncomingRequest,
        session: &Arc<Session>,
        effects: &mut Effects,
    ) {
        let permit = match self.listeners.try_reserve(port, &source.key) {
            Ok(permit) => permit,
            Err(no_place) => {
                self.refuse(id, request, no_place.reason());
                effects.no_places.push(no_place);
                return;
            }
        };
        let mut random = [0; 32];
        if getrandom::fill(&mut random).is_err() {
            self.refuse(id, request, Reason::RefusedByDestination);
            effects.unused.push(permit);
            return;
        }
        match self.peer.accept(id, request, random) {
            Ok(keys) => {
                self.slots.insert(id, Slot::default());
                let handle = StreamHandle {
                    session: Arc::clone(session),
                    id,
                };
                let stream = Stream::accepted(handle, &keys, source, port, self.record_payload_max);
                effects.incoming.push((permit, stream));
            }
            Err(error) => {
                tracing::debug!(%source, port, %error, "incoming stream not accepted");
                effects.unused.push(permit);
            }
        }
    }

    fn refuse(&mut self, id: StreamId, request: IncomingRequest, reason: Reason) {
        if let Err(error) = self.peer.refuse(id, request, reason) {
            tracing::debug!(%reason, %error, "incoming stream not refused");
        }
    }

    fn on_readable(&mut self, id: StreamId, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if !slot.is_orphan {
            effects.wakes.extend(slot.reader.take());
        } else if self.has_unread(id) {
            self.reset_at_peer(id);
            self.slots.remove(&id);
        }
    }

    fn on_writable(&mut self, id: StreamId, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.pending.is_empty() {
            return;
        }
        let Ok(taken) = self.peer.write(id, &slot.pending[slot.pending_from..]) else {
            return;
        };
        slot.pending_from += taken;
        if slot.pending_from < slot.pending.len() {
            return;
        }
        slot.pending = Vec::new();
        effects.wakes.extend(slot.writer.take());
        if slot.finish == Finish::Wanted {
            slot.finish = Finish::Done;
            if let Err(error) = self.peer.finish(id) {
                tracing::debug!(%error, "stream not finished");
            }
        }
        self.forget_closed_orphan(id);
    }

    fn on_finished(&mut self, id: StreamId, effects: &mut Effects) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.is_remote_finished = true;
            effects.wakes.extend(slot.reader.take());
        }
        self.forget_closed_orphan(id);
    }

    fn on_reset(&mut self, id: StreamId, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if slot.error.is_none() && !slot.is_closed() {
            slot.error = Some(StreamError::PeerReset);
        }
        slot.pending = Vec::new();
        slot.wake_all(effects);
        if slot.is_orphan {
            self.slots.remove(&id);
        }
    }

    fn forget_closed_orphan(&mut self, id: StreamId) {
        if self
            .slots
            .get(&id)
            .is_some_and(|slot| slot.is_orphan && slot.is_closed())
        {
            self.slots.remove(&id);
        }
    }

    fn session_error(&mut self, error: peer::SessionError) -> SessionError {
        use peer::SessionError as E;
        let is_handshake = matches!(self.phase, Phase::Handshake);
        match error {
            E::PeerHandshake(error) => SessionError::RelayHandshake(error),
            E::PeerHandshakeTimeout => SessionError::RelayHandshakeTimeout(self.handshake_timeout),
            E::PeerRefused {
                reason,
                retry_after_ms,
            } => SessionError::RelayRefused {
                refusal: reason.into(),
                retry_after: (retry_after_ms > 0)
                    .then(|| Duration::from_millis(u64::from(retry_after_ms))),
            },
            E::PeerClosed | E::PeerTruncated if is_handshake => SessionError::RelayHandshakeCut,
            E::PeerClosed | E::PeerTruncated => match (self.gone_away, self.broken.take()) {
                (Some(Some(refusal)), _) => SessionError::RelayClosed(Some(refusal)),
                (_, Some(error)) => SessionError::RelayLost(error),
                (_, None) if error == E::PeerClosed => SessionError::RelayClosed(None),
                (_, None) => SessionError::RelayProtocol(error),
            },
            E::PeerSilent => SessionError::RelaySilent,
            error => SessionError::RelayProtocol(error),
        }
    }
}

/// Returns the reason a Go Away stands for; none for the plain goodbye.
fn refusal_of_go_away(code: u32) -> Option<Refusal> {
    match code {
        0 => None,
        GO_AWAY_REASON_MIN.. => u16::try_from(code).ok().map(Refusal::from_code),
        _ => Some(Reason::ProtocolError.into()),
    }
}

/// Go Away codes from here on are reasons.
const GO_AWAY_REASON_MIN: u32 = 100;
