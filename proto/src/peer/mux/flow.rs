//! What follows from reading, writing and sending: grants, wake-ups, the end of a stream.
//!
//! Here: the inner steps that the calls of the application and the frames have in common. Not here:
//! those calls and the frames.

use alloc::boxed::Box;

use super::super::chunks::Chunks;
use super::super::config::EVENTS_MAX;
use super::super::window::{Growth, RecvWindow};
use super::entry::{Stream, StreamFlags};
use super::{Flags, Header, Mux, MuxError, MuxEvent, Now, Ping, State, StreamId, to_u32, to_usize};
use crate::limits::WINDOW_INITIAL;

impl Mux {
    pub(super) fn window_delta(&self) -> u32 {
        self.config.window_initial - WINDOW_INITIAL
    }

    pub(super) fn insert(&mut self, id: StreamId, state: State) {
        let stream = Stream {
            state,
            flags: StreamFlags(StreamFlags::SETUP),
            send_left: WINDOW_INITIAL,
            recv: RecvWindow::new(self.config.window_initial, self.now),
            received: Chunks::default(),
            unsent: Chunks::default(),
            path_rtt: None,
        };
        self.streams.insert(id, Box::new(stream));
    }

    /// Queues the first bytes of a stream as a frame of their own, ahead of all data.
    pub(super) fn push_first(&mut self, id: StreamId, flags: Flags, first: &[u8]) {
        if first.is_empty() && flags.is_empty() {
            return;
        }
        let length = to_u32(first.len());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_left = stream.send_left.saturating_sub(length);
        }
        self.push_control(Header::data(id.as_u32(), flags, length));
        self.control.push(first, first.len());
    }

    pub(super) fn push_control(&mut self, header: Header) {
        let bytes = header.encode();
        self.control.push(&bytes, CONTROL_CHUNK_BYTES);
    }

    pub(super) fn activate(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.flags.try_set(StreamFlags::ACTIVE)
        {
            self.active.push_back(id);
        }
    }

    /// Accounts `n` bytes that the application read and sends the grant that may be due.
    pub(super) fn consumed(&mut self, id: StreamId, n: usize) {
        if n == 0 || self.is_closed {
            self.raise_finished(id);
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // Both legs of a bridge count: twice our own round trip until the owner knows better.
        let rtt = stream.path_rtt.or_else(|| self.rtt.map(|rtt| rtt * 2));
        let growth = Growth {
            rtt,
            size_max: self.config.window_max,
            session_left: &mut self.growth_left,
        };
        let grant = stream.recv.consume(to_u32(n), self.now, growth);
        if let Some(delta) = grant
            && !stream.state.is_remote_closed()
        {
            self.push_control(Header::window_update(id.as_u32(), Flags::NONE, delta));
        }
        self.raise_finished(id);
    }

    /// Raises `Finished` once the remote side has finished and all was read.
    pub(super) fn raise_finished(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.state.is_remote_closed()
            && stream.received.is_empty()
            && !stream.flags.has(StreamFlags::SETUP)
            && stream.flags.try_set(StreamFlags::FINISHED)
        {
            self.events.push_back(MuxEvent::Finished { stream: id });
        }
    }

    /// Raises `Writable` if a writer waits and finds room.
    pub(super) fn raise_writable(&mut self, id: StreamId) {
        let stream_max = to_usize(self.config.stream_send_bytes_max);
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.flags.has(StreamFlags::WANTS_WRITE)
            && stream.send_left > 0
            && stream.unsent.len() <= stream_max / 2
        {
            if self.queued >= to_usize(self.config.send_queue_bytes_max) {
                if stream.flags.try_set(StreamFlags::BLOCKED) {
                    self.blocked.push_back(id);
                }
                return;
            }
            stream.flags.clear(StreamFlags::WANTS_WRITE);
            if stream.flags.try_set(StreamFlags::WRITABLE) {
                self.events.push_back(MuxEvent::Writable { stream: id });
            }
        }
    }

    /// A stream ends when both sides have finished, our FIN left and the owner knows of the other.
    pub(super) fn remove_if_done(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(&id)
            && stream.state == State::Closed
            && stream.flags.has(StreamFlags::FINISHED_POLLED)
            && !stream.flags.has(StreamFlags::FIN_PENDING)
        {
            self.forget(id);
        }
    }

    pub(super) fn send_ping(&mut self, now: Now, is_asked: bool) {
        if self.is_closed {
            return;
        }
        self.now = now;
        self.pinged_at = now;
        self.ping_value = self.ping_value.wrapping_add(1);
        self.ping = Some(Ping {
            value: self.ping_value,
            sent_at: now,
            is_asked,
        });
        self.push_control(Header::ping(Flags::SYN, self.ping_value));
    }

    pub(super) fn check_bounds(&self) -> Result<(), MuxError> {
        if self.events.len() > EVENTS_MAX {
            return Err(MuxError::LocalEvents);
        }
        Ok(())
    }
}

/// Room for 80 control frames; made only while some wait.
const CONTROL_CHUNK_BYTES: usize = 960;
