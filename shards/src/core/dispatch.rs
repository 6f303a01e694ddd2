//! Received bytes: parsing frames in place and forwarding them.
//!
//! A frame of a bridged stream is forwarded where it lies: its header gets the other leg's stream id,
//! and consecutive frames for the same destination become one range. A range under `COPY_THRESHOLD`
//! is copied into the destination's batch, a longer one is split off the lease and travels by
//! reference. A Data frame that arrives in parts is re-framed: each part leaves at once with a header
//! of its own, so that a stalled sender never holds the receiver's session inside a frame.
//!
//! Here: the frame loop. Not here: what control frames change (`open`, `bridge`), queueing (`egress`).
//!
//! Invariant: between two frames `run`, when there is one, ends where the next frame begins.
//! Bad input: every violation ends this session with Go Away 1 and its reason, and no other.

use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::limits::{COPY_THRESHOLD, DRR_QUANTUM};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::bridge::GRANT_MAX;
use super::event::{Action, Directory, Message, ShardId, Slot, StreamKey};
use super::session::{Parser, Phase, Session};
use super::stream::{Other, Piece, StreamState};
use super::{Cause, ShardCore, Violation};
use crate::lease::Lease;

/// Answers to pings and opens wait in the control queue; a peer that asks without reading is cut off
/// here. Twice what opens of others may take there (`open::CONTROL_BYTES_MAX`), so that they alone
/// never lead here, and room for the refusals of `STREAMS_MAX` opens that came in one turn.
const ANSWERS_BYTES_MAX: usize = 1_572_864;

/// The same on a shard where as much waits as may: who does not read its answers then is the one to go.
const ANSWERS_BYTES_FULL_MAX: usize = 16_384;

/// Consecutive frames that leave together: from `start` to where the parser is.
#[derive(Debug, Clone, Copy)]
struct Run {
    target: Target,
    start: usize,
    frames: u32,
}

impl Run {
    /// Returns whether a frame for `other` that lies behind the run and ends at `end` belongs to it. Whether
    /// its session keeps up was asked when the run began; nothing was queued since.
    #[inline]
    fn takes(&self, other: Other, end: usize) -> bool {
        let has_room = || end - self.start <= DRR_QUANTUM as usize;
        match (self.target, other) {
            (Target::Session(slot), Other::Local { session, .. }) => slot == session.slot,
            (Target::Stream(key), Other::Local { stream, .. }) => key == stream && has_room(),
            (Target::Remote(there, key), Other::Remote { shard, stream }) => {
                there == shard && key == stream && has_room()
            }
            _ => false,
        }
    }
}

/// Where a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A session of this shard that keeps up: frames of all its streams in the order they came.
    Session(Slot),
    /// One stream of a congested session of this shard.
    Stream(StreamKey),
    /// One stream of another shard.
    Remote(ShardId, StreamKey),
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Bytes came in on a socket.
    pub fn received(&mut self, slot: Slot, lease: L, now: Now) {
        self.now = now;
        self.common.stats.bytes_received += lease.len() as u64;
        self.take_received(slot, lease);
    }

    /// Gives bytes, counted already, to what the slot is in the middle of.
    pub(super) fn take_received(&mut self, slot: Slot, lease: L) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        match &mut session.phase {
            Phase::Handshake(_) => self.collect_handshake(slot, lease),
            Phase::Live(live) => {
                live.heard_at = now;
                let parser = std::mem::take(&mut live.parser);
                self.dispatch(slot, parser, lease);
            }
            Phase::Linking(_) => self.collect_link(slot, lease),
            // The relay speaks first on a connection that it made, and has said nothing yet.
            Phase::Dialed => self.end_dialed(slot, Cause::Reason(Reason::ProtocolError)),
            // The peer does not know yet that its session is over.
            Phase::Free | Phase::Closing | Phase::Lingering => {}
        }
    }

    fn dispatch(&mut self, slot: Slot, mut parser: Parser, lease: L) {
        let mut input = Input {
            lease,
            pos: 0,
            run: None,
            now_s: self.now_s(),
        };
        let outcome = self.frames(slot, &mut parser, &mut input);
        self.flush_run(&mut input);
        match outcome {
            Ok(()) => {
                if let Some(live) = self.live_mut(slot) {
                    live.parser = parser;
                }
            }
            Err(Violation(reason)) => {
                if let Some(session) = self.sessions.get(slot.0 as usize) {
                    // Who does not read cannot be told.
                    let tell = reason != Reason::SlowConsumer;
                    self.end_session(session.key(slot), Cause::Reason(reason), tell);
                }
            }
        }
    }

    fn frames(
        &mut self,
        slot: Slot,
        parser: &mut Parser,
        input: &mut Input<L>,
    ) -> Result<(), Violation> {
        loop {
            if parser.remaining > 0 {
                if input.rest() == 0 {
                    return Ok(());
                }
                self.body(parser, input)?;
                continue;
            }
            if parser.header_len == 0 {
                self.forward(slot, parser, input);
            }
            // Only forwarded frames belong to a run; whatever else comes ends it.
            self.flush_run(input);
            let Some(header) = input.header(parser) else {
                return Ok(());
            };
            let header = Header::decode(&header).map_err(|error| Violation(error.reason()))?;
            self.common.stats.frames_received += 1;
            if header.kind == FrameKind::Data && !header.flags.intersects(Flags::SYN) {
                self.data(slot, header, parser)?;
            } else {
                self.control(slot, header, parser)?;
            }
        }
    }

    /// Forwards the next frames where they lie, as long as each is plain data of a bridged stream. The hot
    /// path: a function of its own, so that what it looks at for each frame stays in registers.
    #[inline(never)]
    fn forward(&mut self, slot: Slot, parser: &mut Parser, input: &mut Input<L>) {
        while let Some((id, length)) = input.plain_data() {
            let key = self.find(slot, id);
            let Some((key, stream)) = key.and_then(|key| Some((key, self.streams.get_mut(key)?)))
            else {
                return;
            };
            // An empty frame says nothing, costs its sender no window, and would fill the queue of a slow
            // receiver.
            if stream.state != StreamState::Bridged
                || stream.has_ended_in
                || length == 0
                || length > stream.credit
                || matches!(stream.other, Other::None)
            {
                return;
            }
            stream.credit -= length;
            stream.touched_s = input.now_s;
            let (other, other_id) = (stream.other, stream.other_id);
            let count = input.payload_here(length);
            let end = input.pos + HEADER_LEN + count as usize;
            if !input.run.is_some_and(|run| run.takes(other, end)) {
                self.flush_run(input);
                let Some(target) = self.target(other) else {
                    return;
                };
                input.run = Some(Run {
                    target,
                    start: input.pos,
                    frames: 0,
                });
            }
            input.rewrite(other_id, count);
            if count < length {
                parser.remaining = length - count;
                parser.stream = Some(key);
                parser.is_last = false;
            }
        }
    }

    /// Returns where frames for the other leg go.
    fn target(&self, other: Other) -> Option<Target> {
        match other {
            Other::Local { stream, session } if self.is_congested(session.slot) => {
                Some(Target::Stream(stream))
            }
            Other::Local { session, .. } => Some(Target::Session(session.slot)),
            Other::Remote { shard, stream } => Some(Target::Remote(shard, stream)),
            Other::None => None,
        }
    }

    /// A Data frame without SYN that is not forwarded in place: its payload goes through [`Self::body`].
    fn data(&mut self, slot: Slot, header: Header, parser: &mut Parser) -> Result<(), Violation> {
        let key = self.find(slot, header.stream_id);
        if key.is_none() {
            self.check_known(slot, header.stream_id)?;
        }
        self.begin_frame(key, header, parser)
    }

    fn begin_frame(
        &mut self,
        key: Option<StreamKey>,
        header: Header,
        parser: &mut Parser,
    ) -> Result<(), Violation> {
        parser.remaining = header.length;
        parser.stream = key;
        parser.is_last = header.flags.intersects(Flags::FIN);
        let Some(key) = key else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let is_wrong = match stream.state {
            StreamState::Announcing => true,
            StreamState::Hearing => header.flags.intersects(Flags::FIN | Flags::RST),
            _ => stream.has_ended_in,
        };
        if is_wrong || header.length > stream.credit {
            return Err(Violation(Reason::ProtocolError));
        }
        stream.credit -= header.length;
        if header.flags.intersects(Flags::RST) {
            self.on_reset(key);
            parser.stream = None;
            return Ok(());
        }
        if header.flags.intersects(Flags::ACK) {
            self.on_acknowledge(key, 0);
        }
        if header.length == 0 && parser.is_last {
            self.on_fin(key)?;
        }
        Ok(())
    }

    /// The next bytes of a Data frame's payload whose header is not in front of them.
    fn body(&mut self, parser: &mut Parser, input: &mut Input<L>) -> Result<(), Violation> {
        let available = input.rest().min(parser.remaining as usize);
        let stream = parser
            .stream
            .and_then(|key| Some((key, self.streams.get(key)?)));
        let taken = match stream {
            None => {
                input.pos += available;
                available
            }
            Some((key, stream)) if stream.state == StreamState::Bridged => {
                let piece = input.take(available);
                self.forward_piece(key, piece);
                available
            }
            Some((key, _)) => {
                let end = input.pos + available;
                let bytes = input.lease.bytes().get(input.pos..end).unwrap_or_default();
                let taken = self.collect_object(key, bytes)?;
                input.pos += taken;
                taken
            }
        };
        parser.remaining -= u32::try_from(taken).unwrap_or(parser.remaining);
        if parser.remaining == 0
            && parser.is_last
            && let Some(key) = parser.stream.take()
        {
            self.on_fin(key)?;
        }
        Ok(())
    }

    /// Payload of a bridged stream that needs a header of its own.
    fn forward_piece(&mut self, key: StreamKey, payload: L) {
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.touched_s = now_s;
        self.common.stats.payload_bytes_forwarded += payload.len() as u64;
        match stream.other {
            Other::Local { stream: other, .. } => self.piece_from_there(other, payload),
            Other::Remote {
                shard,
                stream: other,
            } => {
                let message = Message::Piece {
                    stream: other,
                    range: payload,
                };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {}
        }
    }

    /// Queues payload on a leg with a header of this leg's id.
    pub(super) fn piece_from_there(&mut self, key: StreamKey, payload: L) {
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.has_ended_out || stream.state == StreamState::Flushing {
            return;
        }
        stream.touched_s = now_s;
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let header = Header::data(stream.id, Flags::NONE, length).encode();
        if let Some(slot) = self.direct_slot(key) {
            self.push_direct_copy(slot, &header);
            self.push_direct_range(slot, payload);
            return;
        }
        let piece = if payload.len() < COPY_THRESHOLD {
            let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(payload.bytes());
            Piece::Owned(bytes)
        } else {
            Piece::Headed { header, payload }
        };
        if self.push_stream(key, piece).is_err() {
            self.break_bridge(key, Reason::SlowConsumer);
        }
    }

    /// Queues complete frames that another shard has rewritten.
    pub(super) fn frames_from_there(&mut self, key: StreamKey, range: L) {
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.has_ended_out || stream.state == StreamState::Flushing {
            return;
        }
        stream.touched_s = now_s;
        match self.direct_slot(key) {
            Some(slot) => self.push_direct_range(slot, range),
            None => self.push_frames(key, range),
        }
    }

    /// Queues complete frames of a stream whose session does not keep up.
    fn push_frames(&mut self, key: StreamKey, range: L) {
        let piece = if range.len() < COPY_THRESHOLD {
            Piece::Owned(range.bytes().to_vec())
        } else {
            Piece::Leased(range)
        };
        if self.push_stream(key, piece).is_err() {
            self.break_bridge(key, Reason::SlowConsumer);
        }
    }

    /// Hands the run to its destination.
    #[inline]
    fn flush_run(&mut self, input: &mut Input<L>) {
        let Some(run) = input.run.take() else { return };
        let length = input.pos - run.start;
        let stats = &mut self.common.stats;
        stats.frames_received += u64::from(run.frames);
        stats.payload_bytes_forwarded += (length - run.frames as usize * HEADER_LEN) as u64;
        if let Target::Session(slot) = run.target
            && length < COPY_THRESHOLD
        {
            let bytes = input
                .lease
                .bytes()
                .get(run.start..input.pos)
                .unwrap_or_default();
            self.push_direct_copy(slot, bytes);
            return;
        }
        input.lease.advance(run.start);
        let range = input.lease.split_to(length);
        input.pos = 0;
        match run.target {
            Target::Session(slot) => self.push_direct_lease(slot, range),
            Target::Stream(key) => self.push_frames(key, range),
            Target::Remote(shard, stream) => {
                let message = Message::Frames { stream, range };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
        }
    }

    /// Every frame but plain data.
    fn control(
        &mut self,
        slot: Slot,
        header: Header,
        parser: &mut Parser,
    ) -> Result<(), Violation> {
        match header.kind {
            FrameKind::Data => {
                self.on_syn(slot, header.stream_id, 0)?;
                let key = self.find(slot, header.stream_id);
                self.begin_frame(key, header, parser)
            }
            FrameKind::GoAway => {
                if let Some(live) = self.live_mut(slot) {
                    live.peer_is_leaving = true;
                }
                Ok(())
            }
            FrameKind::Ping => self.ping(slot, header),
            FrameKind::WindowUpdate => self.window_update(slot, header),
        }
    }

    /// Returns the bytes of answers that may wait for a session before it may ask for no more.
    pub(super) const fn answers_bytes_max(&self) -> usize {
        if self.is_full() {
            ANSWERS_BYTES_FULL_MAX
        } else {
            ANSWERS_BYTES_MAX
        }
    }

    fn ping(&mut self, slot: Slot, header: Header) -> Result<(), Violation> {
        if header.flags.intersects(Flags::ACK) {
            if let Some(live) = self.live_mut(slot) {
                live.pings_missed = 0;
            }
            return Ok(());
        }
        let waiting = self
            .sessions
            .get(slot.0 as usize)
            .and_then(|session| session.egress.as_ref())
            .map_or(0, |egress| egress.control_bytes());
        if waiting > self.answers_bytes_max() {
            return Err(Violation(Reason::SlowConsumer));
        }
        self.push_control(slot, &Header::ping(Flags::ACK, header.length).encode());
        Ok(())
    }

    fn window_update(&mut self, slot: Slot, header: Header) -> Result<(), Violation> {
        let (id, flags) = (header.stream_id, header.flags);
        if flags.intersects(Flags::SYN) {
            self.on_syn(slot, id, header.length)?;
        }
        let Some(key) = self.find(slot, id) else {
            return self.check_known(slot, id);
        };
        if flags.intersects(Flags::RST) {
            if self.is_of_link(key) {
                return Err(Violation(Reason::ProtocolError));
            }
            self.on_reset(key);
            return Ok(());
        }
        if flags.intersects(Flags::ACK) && self.is_answering(key) {
            if header.length > GRANT_MAX {
                return Err(Violation(Reason::ProtocolError));
            }
            self.on_acknowledge(key, header.length);
        } else if !flags.intersects(Flags::SYN) {
            self.on_grant(key, header.length)?;
        }
        if flags.intersects(Flags::FIN) {
            self.on_fin(key)?;
        }
        Ok(())
    }

    fn is_answering(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| {
            stream.state == StreamState::Answering
                && stream
                    .opening
                    .as_ref()
                    .is_some_and(|opening| !opening.is_acknowledged)
        })
    }

    #[inline]
    fn find(&self, slot: Slot, id: u32) -> Option<StreamKey> {
        let live = self.sessions.get(slot.0 as usize)?.live()?;
        live.ids.get(id, self.config.hash_seed)
    }

    /// A frame for a stream that is not open: gone streams are ignored, streams that never were are a
    /// violation.
    fn check_known(&self, slot: Slot, id: u32) -> Result<(), Violation> {
        let session = self.sessions.get(slot.0 as usize);
        let Some(live) = session.and_then(Session::live) else {
            return Ok(());
        };
        let was_opened = if live.is_of_peer(id) {
            id <= live.peer_id_last
        } else {
            id != 0 && id < live.own_id_next
        };
        if was_opened {
            Ok(())
        } else {
            Err(Violation(Reason::ProtocolError))
        }
    }
}

/// Received bytes under the parser.
struct Input<L> {
    lease: L,
    pos: usize,
    run: Option<Run>,
    /// Second in which they came.
    now_s: u32,
}

impl<L: Lease> Input<L> {
    #[inline]
    fn rest(&self) -> usize {
        self.lease.len() - self.pos
    }

    /// Returns stream and length of the frame at `pos` if it is plain data and its header is complete.
    #[inline]
    fn plain_data(&self) -> Option<(u32, u32)> {
        let header = self.lease.bytes().get(self.pos..)?.first_chunk()?;
        Header::plain_data(header)
    }

    /// Returns how much of a payload of `length` bytes lies behind the header at `pos`.
    #[inline]
    fn payload_here(&self, length: u32) -> u32 {
        let here = self.rest().saturating_sub(HEADER_LEN);
        u32::try_from(here).map_or(length, |here| here.min(length))
    }

    /// Gives the frame at `pos` the other leg's id and the length of what has come of it, and moves on.
    #[inline]
    fn rewrite(&mut self, other_id: u32, count: u32) {
        let bytes = self.lease.bytes_mut().get_mut(self.pos..);
        if let Some(header) = bytes.and_then(|bytes| bytes.first_chunk_mut()) {
            *header = Header::data(other_id, Flags::NONE, count).encode();
        }
        self.pos += HEADER_LEN + count as usize;
        if let Some(run) = &mut self.run {
            run.frames += 1;
        }
    }

    /// Returns the next header. There is no run. `None`: the bytes have run out; what there is of a
    /// header is kept in the parser.
    fn header(&mut self, parser: &mut Parser) -> Option<[u8; HEADER_LEN]> {
        let bytes = self.lease.bytes().get(self.pos..)?;
        if bytes.is_empty() {
            return None;
        }
        let have = usize::from(parser.header_len);
        let count = bytes.len().min(HEADER_LEN - have);
        parser
            .header
            .get_mut(have..have + count)?
            .copy_from_slice(&bytes[..count]);
        self.pos += count;
        if have + count < HEADER_LEN {
            parser.header_len = u8::try_from(have + count).unwrap_or(0);
            return None;
        }
        parser.header_len = 0;
        Some(parser.header)
    }

    /// Splits off the next `count` bytes. There is no run.
    fn take(&mut self, count: usize) -> L {
        self.lease.advance(self.pos);
        self.pos = 0;
        self.lease.split_to(count)
    }
}
