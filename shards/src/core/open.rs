//! From a new stream to a bridge: request, destination, answer.
//!
//! ```text
//!   opener A            A's shard                    B's shard             destination B
//!   SYN, request  ->  Collecting -> Asked  --Open-->  Answering  ->  SYN, request (re-sealed)
//!                                          <--Opened--
//!   ACK           <-                       <--Acknowledged--     <-  ACK, window
//!   response      <-  Bridged or gone      <--Answered--         <-  response
//! ```
//!
//! Here: everything up to the answer. Not here: forwarding after it (`bridge`, `dispatch`).
//!
//! Invariant: every open ends in exactly one of accepted, refused with a reason, cancelled; the opener
//! gets an answer unless it has gone. The request and the response have the same sealed size on both
//! legs, so the windows of the legs stay equal without correction.

use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::open::OpenResponse;
use ringway_proto::reason::Reason;

use super::bridge::GRANT_MAX;
use super::collect::take;
use super::event::{
    Action, Directory, Message, OpenMessage, Place, SessionKey, ShardId, Slot, StreamKey,
};
use super::forward::of_another_relay;
use super::session::{Live, Session};
use super::stream::{Other, Stream, StreamState};
use super::{ShardCore, Violation};
use crate::lease::Lease;

/// Opens beyond `streams_max` that may wait for their named refusal; past them a stream is reset.
const REFUSALS_PENDING_MAX: u32 = 64;

/// An open towards a session with more control bytes waiting is refused: the peer does not read.
///
/// 3,200 opens of 244 bytes: a burst of `STREAMS_MAX` opens may come in one turn, before anything of
/// it could be sent.
const CONTROL_BYTES_MAX: usize = 786_432;

/// Highest stream id the relay gives out (docs/protocol.md rule 3.6: no id twice in 2^31 openings).
const STREAM_ID_MAX: u32 = u32::MAX - 1;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A peer opens a stream.
    pub(super) fn on_syn(&mut self, slot: Slot, id: u32, extra: u32) -> Result<(), Violation> {
        let seed = self.config.hash_seed;
        let answers_bytes_max = self.answers_bytes_max();
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return Ok(());
        };
        let key = session.key(slot);
        let waiting = session
            .egress
            .as_ref()
            .map_or(0, |egress| egress.control_bytes());
        let Some(live) = session.live_mut() else {
            return Ok(());
        };
        let dialect = live.dialect();
        let is_fresh = if dialect.stream_ids_are_monotonic() {
            id > live.peer_id_last
        } else {
            live.ids.get(id, seed).is_none()
        };
        if id == 0 || !live.is_of_peer(id) || !is_fresh || extra > GRANT_MAX {
            return Err(Violation(Reason::ProtocolError));
        }
        live.peer_id_last = live.peer_id_last.max(id);
        if waiting > answers_bytes_max {
            return Err(Violation(Reason::SlowConsumer));
        }
        self.common.stats.opens_received += 1;
        self.common.stats.of_dialect_mut(dialect).opens_received += 1;
        let streams_max = live.streams_max(&self.config);
        let finds_room = live.streams_count() < streams_max + REFUSALS_PENDING_MAX;
        let is_acknowledged = dialect.acknowledges_at_once();
        if is_acknowledged {
            // Also before a reset: Go's yamux ends a session in which this one does not come.
            self.push_control(slot, &Header::window_update(id, Flags::ACK, 0).encode());
        }
        if !finds_room {
            self.common
                .stats
                .opens_refused
                .count(Reason::TooManyStreams);
            self.push_control(slot, &Header::window_update(id, Flags::RST, 0).encode());
            return Ok(());
        }
        self.common.stats.opens_pending += 1;
        let deadline = self.now + self.config.timeouts.open;
        let mut stream = Stream::opening(key, id, StreamState::Collecting, self.now);
        if let Some(opening) = stream.opening.as_mut() {
            opening.window_extra = extra;
            opening.is_acknowledged = is_acknowledged;
        }
        match self.insert_stream(slot, id, stream) {
            Some(stream) => self.set_stream_timer(stream, deadline),
            None => {
                self.common.stats.opens_pending -= 1;
                self.common.stats.opens_refused.count(Reason::RelayCapacity);
                self.push_control(slot, &Header::window_update(id, Flags::RST, 0).encode());
            }
        }
        Ok(())
    }

    pub(super) fn insert_stream(
        &mut self,
        slot: Slot,
        id: u32,
        stream: Stream<L>,
    ) -> Option<StreamKey> {
        if self.streams.len() >= self.config.admission.streams_max {
            return None;
        }
        let key = self.streams.insert(stream).ok()?;
        self.common.stats.streams_opened += 1;
        self.common.stats.streams_current += 1;
        let seed = self.config.hash_seed;
        if let Some(live) = self.live_mut(slot) {
            live.ids.insert(id, key, seed);
        }
        Some(key)
    }

    /// Stream bytes before the bridge: part of a sealed object. Returns how many were taken.
    pub(super) fn collect_object(
        &mut self,
        key: StreamKey,
        bytes: &[u8],
    ) -> Result<usize, Violation> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(bytes.len());
        };
        let state = stream.state;
        let Some(opening) = stream.opening.as_mut() else {
            return Ok(bytes.len());
        };
        if state == StreamState::Asked {
            // The opener must wait for the answer: it has no keys yet.
            self.abort_open(key, Reason::ProtocolError);
            return Ok(bytes.len());
        }
        let slot = stream.session.slot;
        let session = self.sessions.get(slot.0 as usize).and_then(Session::live);
        let Some(dialect) = session.map(Live::dialect) else {
            return Ok(bytes.len());
        };
        let length = |prefix: &[u8]| object_length(dialect, prefix);
        let taken = take(&mut opening.object, bytes, length).map_err(Violation)?;
        if !taken.is_complete {
            return Ok(taken.bytes);
        }
        let object = std::mem::take(&mut opening.object);
        match state {
            StreamState::Collecting => self.request_complete(slot, key, object)?,
            StreamState::Answering => self.response_complete(slot, key, object)?,
            StreamState::Hearing => self.hear(slot, key, object)?,
            StreamState::Announcing
            | StreamState::Asked
            | StreamState::Bridged
            | StreamState::Flushing => {}
        }
        Ok(taken.bytes)
    }

    fn request_complete(
        &mut self,
        slot: Slot,
        key: StreamKey,
        mut object: Vec<u8>,
    ) -> Result<(), Violation> {
        let is_draining = self.is_draining;
        let session = self.sessions.get_mut(slot.0 as usize);
        let Some(live) = session.and_then(Session::live_mut) else {
            return Ok(());
        };
        let (peer, dialect) = (live.key, live.dialect());
        if dialect.is_ping(&object) {
            self.answer_ping(key);
            return Ok(());
        }
        let is_link = live.link.is_some();
        let is_full = live.streams_count() > live.streams_max(&self.config);
        let sealed = object.get_mut(2..).unwrap_or_default();
        let request = live
            .opener
            .open(sealed)
            .map_err(|error| Violation(error.reason()))?;
        let head = dialect.decode_request(request);
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let Some(opening) = stream.opening.as_mut() else {
            return Ok(());
        };
        opening.hash = dialect.request_hash(request);
        stream.state = StreamState::Asked;
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                if let Some(server) = dialect.decode_announcement(request) {
                    self.take_announcement(key, server, request);
                    return Ok(());
                }
                self.refuse(key, error.reason());
                return Ok(());
            }
        };
        let refusal = if is_draining {
            Some(Reason::Draining)
        } else if is_full {
            Some(Reason::TooManyStreams)
        } else if head.source.key != peer
            && !(self.is_link_now(slot) && dialect.is_forwarded(&head))
        {
            Some(Reason::NotAllowed)
        } else if head.forwarded && !is_link {
            Some(Reason::ForwardedTwice)
        } else if self.config.is_own(&peer) {
            self.take_own_port(key, dialect, head.source.port).err()
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.refuse(key, reason);
            return Ok(());
        }
        if head.source.key == peer && !dialect.checks_every_request() {
            self.route(key, request, &head.destination.key, !is_link);
        } else {
            self.check_request(slot, key, request);
        }
        Ok(())
    }

    /// Asks whoever has a session of the destination: this relay, or else others if they may be asked.
    pub(super) fn route(
        &mut self,
        key: StreamKey,
        request: &[u8],
        destination: &PublicKey,
        may_forward: bool,
    ) {
        if self.config.is_own(destination) {
            return self.ask_own(key, destination.dialect(), request);
        }
        match self.directory.lookup(destination) {
            None if self.speaks_otherwise(destination) => self.refuse(key, Reason::OtherDialect),
            None if may_forward => self.forward_request(key, request, destination),
            None => self.refuse(key, Reason::ForwardedTwice),
            Some(place) => self.ask_at(key, place, request),
        }
    }

    /// Asks a session, here or on another shard.
    pub(super) fn ask_at(&mut self, key: StreamKey, place: Place, request: &[u8]) {
        if place.shard == self.config.shard {
            self.ask_here(key, place.session, request);
        } else {
            self.ask_there(key, place.shard, place.session, request);
        }
    }

    fn ask_here(&mut self, key: StreamKey, target: SessionKey, request: &[u8]) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_ref() else {
            return;
        };
        let origin = Other::Local {
            stream: key,
            session: stream.session,
        };
        let ask = Ask {
            origin,
            origin_id: stream.id,
            hash: opening.hash,
            window_extra: opening.window_extra,
        };
        match self.ask(target, request, ask) {
            Err(reason) => self.refuse(key, reason),
            Ok((other, other_id)) => {
                if let Some(stream) = self.streams.get_mut(key) {
                    stream.other = Other::Local {
                        stream: other,
                        session: target,
                    };
                    stream.other_id = other_id;
                }
            }
        }
    }

    fn ask_there(&mut self, key: StreamKey, shard: ShardId, target: SessionKey, request: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let origin_id = stream.id;
        let Some(opening) = stream.opening.as_mut() else {
            return;
        };
        let message = Message::Open(Box::new(OpenMessage {
            origin: key,
            origin_id,
            target,
            request: request.to_vec(),
            hash: opening.hash,
            // What the opener grants from here on waits for `Opened`.
            window_extra: std::mem::take(&mut opening.window_extra),
        }));
        self.common.actions.push_back(Action::Message {
            target: shard,
            message,
        });
    }

    /// Another shard asks for a stream towards a session of this one.
    pub(super) fn asked_from(&mut self, source: ShardId, open: OpenMessage) {
        let OpenMessage {
            origin,
            origin_id,
            target,
            request,
            hash,
            window_extra,
        } = open;
        let ask = Ask {
            origin: Other::Remote {
                shard: source,
                stream: origin,
            },
            origin_id,
            hash,
            window_extra,
        };
        let message = match self.ask(target, &request, ask) {
            Ok((other, other_id)) => Message::Opened {
                stream: origin,
                other,
                other_id,
            },
            Err(reason) => Message::OpenFailed {
                stream: origin,
                reason,
            },
        };
        self.common.actions.push_back(Action::Message {
            target: source,
            message,
        });
    }

    /// Opens the leg towards the destination and sends it the request.
    pub(super) fn ask(
        &mut self,
        target: SessionKey,
        request: &[u8],
        ask: Ask,
    ) -> Result<(StreamKey, u32), Reason> {
        let slot = target.slot;
        let session = self
            .sessions
            .get_mut(slot.0 as usize)
            .ok_or(Reason::UnknownDestination)?;
        if session.generation != target.generation {
            return Err(Reason::UnknownDestination);
        }
        let waiting = session
            .egress
            .as_ref()
            .map_or(0, |egress| egress.control_bytes());
        let live = session.live_mut().ok_or(Reason::UnknownDestination)?;
        if live.peer_is_leaving || live.is_draining {
            return Err(Reason::UnknownDestination);
        }
        if live.streams_count() >= live.streams_max(&self.config) {
            return Err(Reason::TooManyStreams);
        }
        if waiting > CONTROL_BYTES_MAX || live.own_id_next >= STREAM_ID_MAX {
            return Err(Reason::RelayCapacity);
        }
        let id = live.own_id_next;
        live.own_id_next += 2;
        let mut frames = vec![0; 2 * HEADER_LEN];
        live.sealer
            .seal(request, &mut frames)
            .map_err(|_| Reason::RelayCapacity)?;
        write_open(&mut frames, id, ask.window_extra);
        // The opener's leg has the timer of the open; when it gives up, this one is told.
        let mut stream = Stream::opening(target, id, StreamState::Answering, self.now);
        stream.other = ask.origin;
        stream.other_id = ask.origin_id;
        stream.credit = WINDOW_INITIAL.saturating_add(ask.window_extra);
        if let Some(opening) = stream.opening.as_mut() {
            opening.hash = ask.hash;
        }
        let key = self
            .insert_stream(slot, id, stream)
            .ok_or(Reason::RelayCapacity)?;
        self.push_control(slot, &frames);
        Ok((key, id))
    }

    /// The leg towards the destination stands on another shard.
    pub(super) fn opened_there(
        &mut self,
        source: ShardId,
        key: StreamKey,
        other: StreamKey,
        other_id: u32,
    ) {
        let Some(stream) = self
            .streams
            .get_mut(key)
            .filter(|stream| stream.state == StreamState::Asked)
        else {
            // The opener has gone meanwhile.
            let message = Message::Reset { stream: other };
            self.common.actions.push_back(Action::Message {
                target: source,
                message,
            });
            return;
        };
        stream.other = Other::Remote {
            shard: source,
            stream: other,
        };
        stream.other_id = other_id;
        let extra = stream
            .opening
            .as_mut()
            .map_or(0, |o| std::mem::take(&mut o.window_extra));
        if extra > 0 {
            let message = Message::Grant {
                stream: other,
                delta: extra,
            };
            self.common.actions.push_back(Action::Message {
                target: source,
                message,
            });
        }
    }

    /// The destination has acknowledged the stream.
    pub(super) fn on_acknowledge(&mut self, key: StreamKey, delta: u32) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if let Some(opening) = stream.opening.as_mut() {
            opening.is_acknowledged = true;
        }
        match stream.other {
            Other::Local { stream: origin, .. } => self.acknowledged(origin, delta),
            Other::Remote {
                shard,
                stream: origin,
            } => {
                let message = Message::Acknowledged {
                    stream: origin,
                    delta,
                };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {}
        }
    }

    /// Passes the destination's ACK and window to the opener.
    pub(super) fn acknowledged(&mut self, key: StreamKey, delta: u32) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_mut() else {
            return;
        };
        if opening.is_acknowledged {
            // The relay has acknowledged by itself, without a window of the destination's.
            if delta > 0 && self.dialect_of(key) == Some(Dialect::Dmsg) {
                self.granted(key, delta);
            }
            return;
        }
        opening.is_acknowledged = true;
        // Grants before the answer count as well; `granted` bounds what comes later.
        stream.credit = stream.credit.saturating_add(delta);
        let slot = stream.session.slot;
        let frame = Header::window_update(stream.id, Flags::ACK, delta).encode();
        self.push_control(slot, &frame);
    }

    fn response_complete(
        &mut self,
        slot: Slot,
        key: StreamKey,
        mut object: Vec<u8>,
    ) -> Result<(), Violation> {
        let Some(live) = self.live_mut(slot) else {
            return Ok(());
        };
        let dialect = live.dialect();
        let sealed = object.get_mut(2..).unwrap_or_default();
        let response = live
            .opener
            .open(sealed)
            .map_err(|error| Violation(error.reason()))?;
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let hash = stream.opening.as_ref().map(|opening| opening.hash);
        let head = dialect
            .decode_response(response)
            .ok()
            .filter(|head| Some(head.request_hash) == hash);
        let Some(head) = head else {
            // Not an answer to this request: the destination loses this stream, the opener is told.
            self.abort_open(key, Reason::RefusedByDestination);
            return Ok(());
        };
        let (other, id) = (stream.other, stream.id);
        if other == Other::None && dialect == Dialect::Dmsg {
            // The answer to this relay's own announcement.
            self.remove_stream(key);
            self.end_unanswered(slot, id);
            return Ok(());
        }
        let is_accepted = head.is_accepted();
        if is_accepted {
            stream.state = StreamState::Bridged;
            stream.opening = None;
            let due = self.now + self.bridge_timeout(false);
            self.set_stream_timer(key, due);
        }
        match other {
            Other::Local { stream: origin, .. } => self.answered(origin, response),
            Other::Remote {
                shard,
                stream: origin,
            } => {
                let message = Message::Answered {
                    stream: origin,
                    response: response.to_vec(),
                };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {}
        }
        if !is_accepted {
            self.remove_stream(key);
            if dialect == Dialect::Dmsg {
                self.end_unanswered(slot, id);
            }
        }
        Ok(())
    }

    /// Passes the answer to the opener.
    pub(super) fn answered(&mut self, key: StreamKey, response: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.state != StreamState::Asked {
            return;
        }
        let Some(dialect) = self.dialect_of(key) else {
            return;
        };
        let Ok(head) = dialect.decode_response(response) else {
            return;
        };
        if !head.is_accepted() {
            let reason =
                Reason::from_code(head.reason_code).unwrap_or(Reason::RefusedByDestination);
            // What a relay says is not signed; what the destination says is its last word.
            if self.is_forwarding(key) && !OpenResponse::is_signed(response) {
                return self.refuse(key, of_another_relay(reason));
            }
            self.common.stats.opens_refused.count(reason);
            self.finish_open(key, response, Flags::FIN);
            self.remove_stream(key);
            return;
        }
        self.common.stats.opens_accepted += 1;
        self.common.stats.of_dialect_mut(dialect).opens_accepted += 1;
        self.finish_open(key, response, Flags::NONE);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.state = StreamState::Bridged;
            stream.opening = None;
            self.wheel.cancel(&mut stream.timer);
        }
    }

    /// Refuses an open in the relay's own name, unless another relay can be asked.
    pub(super) fn refuse(&mut self, key: StreamKey, reason: Reason) {
        if self.forward_on(key, reason) {
            return;
        }
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_ref() else {
            return;
        };
        let hash = opening.hash;
        let dialect = self.dialect_of(key).unwrap_or_default();
        self.common.stats.opens_refused.count(reason);
        match dialect.encode_refusal(&hash, reason) {
            Some(response) => self.finish_open(key, &response, Flags::FIN),
            None => {
                self.answer_noted(key);
                self.end_refused(key, reason);
            }
        }
        self.remove_stream(key);
    }

    /// An open has its answer: it is no longer pending.
    fn answer_noted(&mut self, key: StreamKey) {
        self.common.stats.opens_pending -= 1;
        let stream = self.streams.get(key);
        if let Some(opening) = stream.and_then(|stream| stream.opening.as_ref()) {
            let waited = self.now.saturating_since(opening.started);
            self.common.recorder.open(waited);
        }
    }

    /// Returns what the peer of a leg speaks.
    pub(super) fn dialect_of(&self, key: StreamKey) -> Option<Dialect> {
        let slot = self.streams.get(key)?.session.slot;
        let live = self.sessions.get(slot.0 as usize)?.live()?;
        Some(live.dialect())
    }

    /// Sends the response on the opener's leg; the open is no longer pending.
    pub(super) fn finish_open(&mut self, key: StreamKey, response: &[u8], flags: Flags) {
        self.answer_noted(key);
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_ref() else {
            return;
        };
        let flags = if opening.is_acknowledged {
            flags
        } else {
            flags.union(Flags::ACK)
        };
        let (slot, id) = (stream.session.slot, stream.id);
        let mut frame = vec![0; HEADER_LEN];
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        if live.sealer.seal(response, &mut frame).is_err() {
            return;
        }
        let ends_apart = live.dialect().ends_apart() && flags.intersects(Flags::FIN);
        let flags = match ends_apart {
            true => flags.without(Flags::FIN),
            false => flags,
        };
        let length = u32::try_from(frame.len() - HEADER_LEN).unwrap_or(0);
        Header::data(id, flags, length).encode_into(&mut frame);
        self.push_control(slot, &frame);
        if ends_apart {
            self.end_unanswered(slot, id);
        }
    }

    /// Ends an open from either leg: the opener is refused, the destination's leg is reset.
    pub(super) fn abort_open(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let other = stream.other;
        match stream.state {
            StreamState::Collecting => {
                self.common.stats.opens_pending -= 1;
                self.common.stats.opens_refused.count(reason);
                self.reset_stream(key, reason);
            }
            StreamState::Asked => {
                self.refuse(key, reason);
                self.reset_other(other, reason);
            }
            StreamState::Answering => {
                self.reset_stream(key, reason);
                self.fail_origin(other, reason);
            }
            StreamState::Announcing
            | StreamState::Bridged
            | StreamState::Flushing
            | StreamState::Hearing => {}
        }
    }

    /// The opener has given up or has gone; `key` is about to be removed by the caller.
    pub(super) fn cancel_open(&mut self, other: Other) {
        self.common.stats.opens_pending -= 1;
        self.common.stats.opens_cancelled += 1;
        self.reset_other(other, Reason::Accepted);
    }

    /// Tells the opener's leg that there will be no answer.
    pub(super) fn fail_origin(&mut self, origin: Other, reason: Reason) {
        match origin {
            Other::Local { stream, .. } => self.refuse(stream, reason),
            Other::Remote { shard, stream } => {
                let message = Message::OpenFailed { stream, reason };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {}
        }
    }
}

/// What the destination's leg has to know of the opener's.
pub(super) struct Ask {
    pub(super) origin: Other,
    pub(super) origin_id: u32,
    pub(super) hash: RequestHash,
    pub(super) window_extra: u32,
}

pub(super) fn object_length(dialect: Dialect, prefix: &[u8]) -> Result<Option<usize>, Reason> {
    let length = dialect.object_len(prefix);
    length.map_err(|error| error.reason())
}

/// Writes the two headers in front of a sealed request: the SYN and the Data frame.
fn write_open(frames: &mut [u8], id: u32, window_extra: u32) {
    let length = u32::try_from(frames.len() - 2 * HEADER_LEN).unwrap_or(0);
    Header::window_update(id, Flags::SYN, window_extra).encode_into(frames);
    if let Some(second) = frames.get_mut(HEADER_LEN..) {
        Header::data(id, Flags::NONE, length).encode_into(second);
    }
}
