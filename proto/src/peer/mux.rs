//! The stream multiplexer of one session: yamux version 0.
//!
//! Here: the calls of the owner. `mux/entry.rs` is one stream, `mux/flow.rs` what follows from
//! reading and sending, `mux/input.rs` takes frames apart, `mux/output.rs` builds them. Not here:
//! handshake, opens, time-outs (`session`).
//!
//! A new stream is in *setup*: its first bytes are an open object and the owner's business.
//! Arrivals on it are reported by [`Mux::poll_setup`] instead of events until [`Mux::release`].
//! First objects travel among the control frames, so they leave in the order in which they were
//! sealed.
//!
//! Invariant: the bytes queued for a stream are within its send window, so a session's queue drains
//! as fast as its socket, and no stream can hold it against the others.
//! Invariant: a stream with bytes or a FIN to send is in `active` once; an id in `active`,
//! `blocked` or `setup` whose stream is gone is skipped.
//! Bound: `MuxConfig`, `CONTROL_BYTES_MAX`, `EVENTS_MAX`; the three id queues hold a stream once
//! each and lose ids of gone streams in the order of arrival.
//! Source: hashicorp yamux spec.md; docs/protocol.md section 3.

mod entry;
mod flow;
mod input;
mod output;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use bytes::BytesMut;

use self::entry::{Stream, StreamFlags};
use self::input::Input;
use super::chunks::Chunks;
use super::config::{CONTROL_BYTES_MAX, MuxConfig};
use super::error::{MuxError, OpenStreamError, StreamError};
use super::event::MuxEvent;
use super::stream::{Action, State, StateEvent, StreamId};
use crate::frame::{Flags, GoAwayCode, Header};
use crate::limits::{WINDOW_INITIAL, WINDOW_MAX};
use crate::time::Now;

/// Which side of the TCP connection this is; it decides the parity of the stream ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Opens even ids.
    Accepting,
    /// Opens odd ids.
    Connecting,
}

/// Streams of one session. See the module's documentation for setup.
#[derive(Debug)]
pub struct Mux {
    config: MuxConfig,
    streams: BTreeMap<StreamId, Box<Stream>>,
    /// Next id of ours.
    next_id: u32,
    /// Largest id the remote side opened, 0 before the first.
    remote_id_max: u32,
    input: Input,
    /// Whole frames that go before all data, first in first out.
    control: Chunks,
    /// Streams with something to send, in turn.
    active: VecDeque<StreamId>,
    /// Streams whose writer waits for room in the session's queue.
    blocked: VecDeque<StreamId>,
    /// Streams in setup on which something happened.
    setup: VecDeque<StreamId>,
    events: VecDeque<MuxEvent>,
    /// Sum of the streams' send queues.
    queued: usize,
    growth_left: u32,
    ping: Option<Ping>,
    ping_value: u32,
    pinged_at: Now,
    rtt: Option<Duration>,
    /// Latest time a caller gave.
    now: Now,
    is_going_away: bool,
    /// The code with which the remote side said that it takes no new streams.
    remote_going_away: Option<u32>,
    is_closed: bool,
}

/// The ping that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Ping {
    value: u32,
    sent_at: Now,
    /// Whether the answer becomes an event.
    is_asked: bool,
}
impl Mux {
    /// Returns a multiplexer without streams.
    #[must_use]
    pub fn new(side: Side, mut config: MuxConfig, now: Now) -> Self {
        config.window_initial = config.window_initial.clamp(WINDOW_INITIAL, WINDOW_MAX);
        config.window_max = config.window_max.clamp(config.window_initial, WINDOW_MAX);
        config.stream_send_bytes_max = config.stream_send_bytes_max.max(1);
        config.send_queue_bytes_max = config.send_queue_bytes_max.max(1);
        Self {
            growth_left: config.window_growth_bytes_max,
            config,
            streams: BTreeMap::new(),
            next_id: match side {
                Side::Connecting => 1,
                Side::Accepting => 2,
            },
            remote_id_max: 0,
            input: Input::default(),
            control: Chunks::default(),
            active: VecDeque::new(),
            blocked: VecDeque::new(),
            setup: VecDeque::new(),
            events: VecDeque::new(),
            queued: 0,
            ping: None,
            ping_value: 0,
            pinged_at: now,
            rtt: None,
            now,
            is_going_away: false,
            remote_going_away: None,
            is_closed: false,
        }
    }

    /// Lowers the stream limit, to what the remote side offers.
    pub fn limit_streams(&mut self, streams_max: u32) {
        self.config.streams_max = self.config.streams_max.min(streams_max);
    }

    /// Returns whether `open` would find room now.
    ///
    /// # Errors
    ///
    /// What `open` would return.
    pub fn check_open(&self) -> Result<(), OpenStreamError> {
        if self.is_closed {
            return Err(OpenStreamError::Closed);
        }
        if self.is_going_away || self.remote_going_away.is_some() {
            return Err(OpenStreamError::GoingAway);
        }
        if self.next_id > u32::MAX - 2 {
            return Err(OpenStreamError::LocalStreamIds);
        }
        let have = self.streams_count();
        let want = self.config.streams_max;
        if have >= want {
            return Err(OpenStreamError::LocalStreams { have, want });
        }
        if self.is_flooded() {
            return Err(OpenStreamError::LocalQueue);
        }
        Ok(())
    }

    /// Opens a stream, in setup, whose first bytes are `first` (at most a sealed object).
    ///
    /// # Errors
    ///
    /// See [`OpenStreamError`]; nothing was sent.
    pub fn open(&mut self, first: &[u8]) -> Result<StreamId, OpenStreamError> {
        self.check_open()?;
        let id = StreamId::new(self.next_id);
        self.next_id += 2;
        self.insert(id, State::Opening);
        self.push_control(Header::window_update(
            id.as_u32(),
            Flags::SYN,
            self.window_delta(),
        ));
        self.push_first(id, Flags::NONE, first);
        Ok(id)
    }

    /// Acknowledges a stream of the remote side, if that was not done at once; `first` are the first
    /// bytes of the answer. With `is_last` they are all that is sent and the stream is forgotten.
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when the stream is gone, [`StreamError::NotOpen`] when it waits for
    /// no acknowledgement.
    pub fn acknowledge(
        &mut self,
        id: StreamId,
        first: &[u8],
        is_last: bool,
    ) -> Result<(), StreamError> {
        let dialect = self.config.dialect;
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        let is_acknowledged = stream.flags.has(StreamFlags::ACKNOWLEDGED);
        match stream.state {
            State::Offered => stream.state = stream.state.on(StateEvent::LocalAck).0,
            // The remote side finished before our answer: it can still read it.
            State::RemoteClosed => {}
            State::Open if is_acknowledged && stream.flags.has(StreamFlags::SETUP) => {}
            State::Opening | State::Open | State::LocalClosed | State::Closed => {
                return Err(StreamError::NotOpen);
            }
        }
        let ack = if is_acknowledged {
            Flags::NONE
        } else {
            Flags::ACK
        };
        if is_last && !dialect.ends_apart() {
            self.push_first(id, ack | Flags::FIN, first);
        } else {
            if !is_acknowledged {
                let delta = self.window_delta();
                self.push_control(Header::window_update(id.as_u32(), Flags::ACK, delta));
            }
            self.push_first(id, Flags::NONE, first);
            if is_last {
                self.push_control(Header::window_update(id.as_u32(), Flags::FIN, 0));
            }
        }
        if is_last {
            self.forget(id);
        }
        Ok(())
    }

    /// Ends the setup of a stream: from now on it raises events, at once for what is there.
    /// `path_rtt` is the round trip to the other end, if known; it steers the window's growth.
    pub fn release(&mut self, id: StreamId, path_rtt: Option<Duration>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.flags.clear(StreamFlags::SETUP);
        stream.path_rtt = path_rtt;
        if !stream.received.is_empty() && stream.flags.try_set(StreamFlags::READABLE) {
            self.events.push_back(MuxEvent::Readable { stream: id });
        }
        self.raise_finished(id);
    }

    /// Drops a stream without a word to the remote side.
    pub fn forget(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            self.queued -= stream.unsent.len();
            self.growth_left = self
                .growth_left
                .saturating_add(stream.recv.size() - self.config.window_initial);
        }
    }

    /// Resets a stream; it is gone at once, both directions.
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when it was gone already.
    pub fn reset(&mut self, id: StreamId) -> Result<(), StreamError> {
        if self.abort(id) {
            Ok(())
        } else {
            Err(StreamError::Unknown)
        }
    }

    /// Resets a stream if it is there; returns whether it was.
    pub(super) fn abort(&mut self, id: StreamId) -> bool {
        let is_known = self.streams.contains_key(&id);
        if is_known {
            self.forget(id);
            if !self.is_closed {
                self.push_control(Header::window_update(id.as_u32(), Flags::RST, 0));
            }
        }
        is_known
    }

    /// Queues bytes; returns how many were taken. When fewer than given, a
    /// [`MuxEvent::Writable`] follows.
    ///
    /// # Errors
    ///
    /// See [`StreamError`].
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        let session_left = to_usize(self.config.send_queue_bytes_max).saturating_sub(self.queued);
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        stream.check_writable()?;
        let stream_left =
            to_usize(self.config.stream_send_bytes_max).saturating_sub(stream.unsent.len());
        let room = session_left
            .min(stream_left)
            .min(to_usize(stream.send_left));
        let n = bytes.len().min(room);
        if n < bytes.len() {
            stream.flags.try_set(StreamFlags::WANTS_WRITE);
            if session_left == n && stream.flags.try_set(StreamFlags::BLOCKED) {
                self.blocked.push_back(id);
            }
        }
        if n > 0 {
            stream.send_left -= to_u32(n);
            stream.unsent.push(&bytes[..n], n);
            self.queued += n;
            self.activate(id);
        }
        Ok(n)
    }

    /// Ends our direction, behind what is queued.
    ///
    /// # Errors
    ///
    /// [`StreamError::Finished`] the second time, else as `write`.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        stream.check_writable()?;
        let (next, action) = stream.state.on(StateEvent::LocalFin);
        if action != Action::Proceed {
            return Err(StreamError::NotOpen);
        }
        stream.state = next;
        stream.flags.try_set(StreamFlags::FIN_PENDING);
        stream.flags.clear(StreamFlags::WANTS_WRITE);
        self.activate(id);
        Ok(())
    }

    /// Reads received bytes; 0 when there are none now. The end is a [`MuxEvent::Finished`].
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when the stream is gone.
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<usize, StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        let n = stream.received.read(out);
        self.consumed(id, n);
        Ok(n)
    }

    /// Takes the next chunk of received bytes without copying it, of any length; the caller may
    /// change it in place. `None` when there is none now.
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when the stream is gone.
    pub fn read_chunk(&mut self, id: StreamId) -> Result<Option<BytesMut>, StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Unknown)?;
        let Some(chunk) = stream.received.pop() else {
            return Ok(None);
        };
        self.consumed(id, chunk.len());
        Ok(Some(chunk))
    }

    /// Sends a ping whose answer becomes a [`MuxEvent::Pong`]. While one waits, the caller shares
    /// its answer.
    pub fn ping(&mut self, now: Now) {
        self.now = now;
        match &mut self.ping {
            Some(ping) => ping.is_asked = true,
            None => self.send_ping(now, true),
        }
    }

    /// Sends a ping without an event; it replaces one that waits.
    pub fn probe(&mut self, now: Now) {
        let is_asked = self.ping.is_some_and(|ping| ping.is_asked);
        self.send_ping(now, is_asked);
    }

    /// Announces that no new streams are taken; open ones go on.
    pub fn go_away(&mut self) {
        if !self.is_going_away && !self.is_closed {
            self.is_going_away = true;
            self.push_control(Header::go_away(GoAwayCode::Normal));
        }
    }

    /// Ends the session. With a code, `transmit` still yields the control frames and a Go Away;
    /// queued data is dropped. What was received can still be read.
    pub fn close(&mut self, code: Option<GoAwayCode>) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        if let Some(code) = code {
            self.push_control(Header::go_away(code));
        } else {
            self.control.clear();
        }
        for stream in self.streams.values_mut() {
            stream.unsent.clear();
        }
        self.queued = 0;
        self.active = VecDeque::new();
        self.blocked = VecDeque::new();
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<MuxEvent> {
        loop {
            let event = self.events.pop_front();
            if event.is_none() && self.events.capacity() > EVENTS_KEPT_MAX {
                self.events = VecDeque::new();
            }
            match event? {
                MuxEvent::Readable { stream } => {
                    let Some(entry) = self.streams.get_mut(&stream) else {
                        continue;
                    };
                    entry.flags.clear(StreamFlags::READABLE);
                    if entry.received.is_empty() {
                        continue;
                    }
                }
                MuxEvent::Writable { stream } => {
                    let Some(entry) = self.streams.get_mut(&stream) else {
                        continue;
                    };
                    entry.flags.clear(StreamFlags::WRITABLE);
                }
                MuxEvent::Finished { stream } => {
                    let Some(entry) = self.streams.get_mut(&stream) else {
                        continue;
                    };
                    entry.flags.try_set(StreamFlags::FINISHED_POLLED);
                    self.remove_if_done(stream);
                }
                MuxEvent::GoAway { .. } | MuxEvent::Pong { .. } | MuxEvent::Reset { .. } => {}
            }
            return event;
        }
    }

    /// Returns the next stream in setup on which something happened: bytes, FIN, or a reset (then
    /// [`Mux::state`] is `None`). A stream that appears for the first time is new.
    pub fn poll_setup(&mut self) -> Option<StreamId> {
        let id = self.setup.pop_front()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.flags.clear(StreamFlags::SETUP_QUEUED);
        }
        Some(id)
    }

    /// Copies the first received bytes of a stream without reading them; returns how many.
    #[must_use]
    pub fn peek(&self, id: StreamId, out: &mut [u8]) -> usize {
        self.streams
            .get(&id)
            .map_or(0, |stream| stream.received.peek(out))
    }

    /// Returns how many received bytes wait to be read.
    #[must_use]
    pub fn readable_bytes(&self, id: StreamId) -> usize {
        self.streams
            .get(&id)
            .map_or(0, |stream| stream.received.len())
    }

    /// Returns how many bytes of a stream wait for `transmit`.
    #[must_use]
    pub fn unsent_bytes(&self, id: StreamId) -> usize {
        self.streams
            .get(&id)
            .map_or(0, |stream| stream.unsent.len())
    }

    /// Returns the receive window of a stream.
    #[must_use]
    pub fn window_bytes(&self, id: StreamId) -> Option<u32> {
        self.streams.get(&id).map(|stream| stream.recv.size())
    }

    /// Returns the state of a stream, `None` when it is gone.
    #[must_use]
    pub fn state(&self, id: StreamId) -> Option<State> {
        self.streams.get(&id).map(|stream| stream.state)
    }

    /// Returns whether the owner has not released the stream yet.
    pub(super) fn is_in_setup(&self, id: StreamId) -> bool {
        self.streams
            .get(&id)
            .is_some_and(|stream| stream.flags.has(StreamFlags::SETUP))
    }

    /// Returns the code with which the remote side said that it takes no new streams, if it did.
    #[must_use]
    pub const fn remote_going_away(&self) -> Option<u32> {
        self.remote_going_away
    }

    /// Returns how many streams there are.
    #[must_use]
    pub fn streams_count(&self) -> u32 {
        to_u32(self.streams.len())
    }

    /// Returns the last measured round trip to the remote side of this session.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Returns whether the session was closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns whether the remote side makes us send without reading what we send.
    pub(super) fn is_flooded(&self) -> bool {
        self.control.len() >= CONTROL_BYTES_MAX
    }
}

/// Event slots an idle session may keep.
const EVENTS_KEPT_MAX: usize = 64;

/// Widens; `usize` has at least 32 bits on every target this crate builds for.
fn to_usize(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Narrows a length that is bounded by a window or by the stream limit.
fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
