//! Frames in: from received bytes to queues and events.
//!
//! Here: finding frames in any split of the bytes and what each does to its stream. Not here: what
//! goes out.
//!
//! Payload is copied once, from the caller's bytes to the queue of its stream; it is not waited
//! for.
//!
//! Invariant: `header_len < HEADER_LEN` between calls, and `payload_left > 0` only while the
//! payload of `stream` is under way; a stream that ends meanwhile has the rest of the frame
//! discarded.

use super::super::config::RTT_INTERVAL;
use super::entry::StreamFlags;
use super::{Action, Flags, Header, Mux, MuxError, MuxEvent, Now, StateEvent, StreamId};
use super::{State, to_u32, to_usize};
use crate::frame::{FrameKind, HEADER_LEN};
use crate::limits::WINDOW_MAX;

/// Where the parser is.
#[derive(Debug, Default)]
pub(super) struct Input {
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// Whose payload is under way; 0 discards it.
    stream: u32,
    payload_left: u32,
    is_fin: bool,
}

impl Mux {
    /// Takes received bytes, in any split.
    ///
    /// # Errors
    ///
    /// See [`MuxError`]; the caller closes the session, with [`Mux::close`] and a Go Away.
    pub fn receive(&mut self, mut bytes: &[u8], now: Now) -> Result<(), MuxError> {
        self.now = now;
        while !bytes.is_empty() {
            if self.input.payload_left > 0 {
                let n = bytes.len().min(to_usize(self.input.payload_left));
                let (payload, rest) = bytes.split_at(n);
                self.on_payload(payload);
                bytes = rest;
            } else if let Some(header) = self.next_header(&mut bytes) {
                self.on_header(Header::decode(&header)?)?;
                self.check_bounds()?;
            }
        }
        if self.ping.is_none() && now.saturating_since(self.pinged_at) >= RTT_INTERVAL {
            self.probe(now);
        }
        Ok(())
    }

    /// Returns whether the bytes so far end inside a frame.
    #[must_use]
    pub const fn is_inside_frame(&self) -> bool {
        self.input.header_len > 0 || self.input.payload_left > 0
    }

    fn next_header(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEADER_LEN]> {
        let input = &mut self.input;
        if input.header_len == 0
            && let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>()
        {
            *bytes = rest;
            return Some(*header);
        }
        let n = bytes.len().min(HEADER_LEN - input.header_len);
        let (part, rest) = bytes.split_at(n);
        input.header[input.header_len..input.header_len + n].copy_from_slice(part);
        input.header_len += n;
        *bytes = rest;
        if input.header_len < HEADER_LEN {
            return None;
        }
        input.header_len = 0;
        Some(input.header)
    }

    fn on_header(&mut self, header: Header) -> Result<(), MuxError> {
        let meaningless = MuxError::PeerFrameMeaningless {
            stream: StreamId::new(header.stream_id),
            flags: header.flags.bits(),
        };
        let is_session = matches!(header.kind, FrameKind::Ping | FrameKind::GoAway);
        if is_session != (header.stream_id == 0) {
            return Err(meaningless);
        }
        match header.kind {
            FrameKind::Data | FrameKind::WindowUpdate => {
                if header.flags.contains(Flags::SYN | Flags::ACK) {
                    return Err(meaningless);
                }
                self.on_stream_frame(header)
            }
            FrameKind::Ping if header.flags == Flags::SYN => {
                self.push_answer(Header::ping(Flags::ACK, header.length))
            }
            FrameKind::Ping if header.flags == Flags::ACK => {
                self.on_pong(header.length);
                Ok(())
            }
            FrameKind::GoAway if header.flags.is_empty() => {
                self.remote_going_away = Some(header.length);
                self.events.push_back(MuxEvent::GoAway {
                    code: header.length,
                });
                Ok(())
            }
            FrameKind::Ping | FrameKind::GoAway => Err(meaningless),
        }
    }

    fn on_stream_frame(&mut self, header: Header) -> Result<(), MuxError> {
        let id = StreamId::new(header.stream_id);
        if header.flags.contains(Flags::SYN) {
            self.on_syn(id)?;
        }
        let payload = header.payload_bytes();
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.on_gone(id, payload);
        };
        if header.flags.contains(Flags::RST) {
            self.on_reset(id);
            return self.on_gone(id, payload);
        }
        if header.flags.contains(Flags::ACK) {
            stream.state = stream.state.on(StateEvent::RemoteAck).0;
        }
        if header.kind == FrameKind::WindowUpdate {
            let left = stream.send_left.checked_add(header.length);
            stream.send_left = left.ok_or(MuxError::PeerWindowOverflow { stream: id })?;
            self.raise_writable(id);
        } else if payload > 0 {
            if !stream.recv.try_receive(payload) {
                let want = stream.recv.left();
                return Err(MuxError::PeerWindowExceeded {
                    stream: id,
                    have: payload,
                    want,
                });
            }
            let (next, action) = stream.state.on(StateEvent::RemoteData);
            match action {
                Action::Proceed => stream.state = next,
                Action::Ignore => return self.on_gone(id, payload),
                Action::Reset => {
                    self.fail_stream(id)?;
                    return self.on_gone(id, payload);
                }
            }
            self.input.stream = id.as_u32();
            self.input.payload_left = payload;
            self.input.is_fin = header.flags.contains(Flags::FIN);
            return Ok(());
        }
        if header.flags.contains(Flags::FIN) {
            self.on_fin(id);
        }
        Ok(())
    }

    fn on_syn(&mut self, id: StreamId) -> Result<(), MuxError> {
        let dialect = self.config.dialect;
        let is_ours = id.as_u32() % 2 == self.next_id % 2;
        let is_reused = if dialect.stream_ids_are_monotonic() {
            id.as_u32() <= self.remote_id_max
        } else {
            self.streams.contains_key(&id)
        };
        if is_ours || is_reused {
            return Err(MuxError::PeerStreamReused { stream: id });
        }
        self.remote_id_max = self.remote_id_max.max(id.as_u32());
        let acknowledges = dialect.acknowledges_at_once();
        if acknowledges {
            // Also before a reset: Go's yamux waits for it, and ends the session if it does not come.
            let delta = self.window_delta();
            self.push_answer(Header::window_update(id.as_u32(), Flags::ACK, delta))?;
        }
        if self.is_going_away || self.streams_count() >= self.config.streams_max {
            return self.push_answer(Header::window_update(id.as_u32(), Flags::RST, 0));
        }
        self.insert(id, State::Offered);
        if acknowledges && let Some(stream) = self.streams.get_mut(&id) {
            stream.state = stream.state.on(StateEvent::LocalAck).0;
            stream.flags.try_set(StreamFlags::ACKNOWLEDGED);
        }
        self.queue_setup(id);
        Ok(())
    }

    /// A frame for a stream that is not in the table: late, or for a stream that never was.
    fn on_gone(&mut self, id: StreamId, payload: u32) -> Result<(), MuxError> {
        let is_ours = id.as_u32() % 2 == self.next_id % 2;
        let was_opened = if is_ours {
            id.as_u32() < self.next_id
        } else {
            id.as_u32() <= self.remote_id_max
        };
        if !was_opened {
            return Err(MuxError::PeerStreamUnknown { stream: id });
        }
        if payload > WINDOW_MAX {
            let (have, want) = (payload, WINDOW_MAX);
            return Err(MuxError::PeerWindowExceeded {
                stream: id,
                have,
                want,
            });
        }
        self.input.stream = 0;
        self.input.payload_left = payload;
        self.input.is_fin = false;
        Ok(())
    }

    fn on_payload(&mut self, payload: &[u8]) {
        let id = StreamId::new(self.input.stream);
        let expected = to_usize(self.input.payload_left);
        self.input.payload_left -= to_u32(payload.len());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.received.push(payload, expected);
            if stream.flags.has(StreamFlags::SETUP) {
                self.queue_setup(id);
            } else if stream.flags.try_set(StreamFlags::READABLE) {
                self.events.push_back(MuxEvent::Readable { stream: id });
            }
        }
        if self.input.payload_left == 0 && self.input.is_fin {
            self.on_fin(id);
        }
    }

    fn on_fin(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.state = stream.state.on(StateEvent::RemoteFin).0;
        if stream.flags.has(StreamFlags::SETUP) {
            self.queue_setup(id);
        }
        self.raise_finished(id);
    }

    /// The stream is gone, by the remote side's will or fault.
    fn on_reset(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.flags.has(StreamFlags::SETUP) {
            self.queue_setup(id);
        } else {
            self.events.push_back(MuxEvent::Reset { stream: id });
        }
        self.forget(id);
    }

    fn fail_stream(&mut self, id: StreamId) -> Result<(), MuxError> {
        self.on_reset(id);
        self.push_answer(Header::window_update(id.as_u32(), Flags::RST, 0))
    }

    fn on_pong(&mut self, value: u32) {
        if let Some(ping) = self.ping.take_if(|ping| ping.value == value) {
            let rtt = self.now.saturating_since(ping.sent_at);
            self.rtt = Some(rtt);
            if ping.is_asked {
                self.events.push_back(MuxEvent::Pong { rtt });
            }
        }
    }

    fn queue_setup(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.flags.try_set(StreamFlags::SETUP_QUEUED)
        {
            self.setup.push_back(id);
        }
    }

    /// Queues a frame that the remote side made us send.
    fn push_answer(&mut self, header: Header) -> Result<(), MuxError> {
        if self.is_flooded() {
            return Err(MuxError::PeerFlood);
        }
        self.push_control(header);
        Ok(())
    }
}
