//! Frames out: control frames first, then the streams in turn.
//!
//! Here: what `transmit` appends. Not here: who queued it.
//!
//! A stream in turn sends one frame of up to a quantum and goes to the end of the queue; alone it
//! sends up to `FRAME_PAYLOAD_MAX`. FIN rides on the last data frame, unless the dialect has it apart.
//!
//! Invariant: a data frame is appended whole; only control frames may be cut at `bytes_max`, and
//! their rest is what the next call begins with.

use alloc::vec::Vec;

use super::super::config::FRAME_PAYLOAD_MAX;
use super::entry::StreamFlags;
use super::{Flags, Header, Mux, StreamId, to_u32, to_usize};
use crate::frame::HEADER_LEN;
use crate::limits::DRR_QUANTUM;

impl Mux {
    /// Appends up to `bytes_max` pending bytes to `out`; returns how many.
    pub fn transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        let mut done = self.control.append_to(out, bytes_max);
        while done < bytes_max {
            let Some(id) = self.active.pop_front() else {
                break;
            };
            let room = bytes_max - done;
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.flags.clear(StreamFlags::ACTIVE);
            let turn = if self.active.is_empty() {
                FRAME_PAYLOAD_MAX
            } else {
                DRR_QUANTUM
            };
            let wanted = stream.unsent.len().min(to_usize(turn));
            if room < HEADER_LEN + wanted.min(FRAGMENT_BYTES_MIN) {
                stream.flags.try_set(StreamFlags::ACTIVE);
                self.active.push_front(id);
                if done > 0 {
                    break;
                }
                // The caller's room is tiny: build a small frame aside and cut that.
                done += self.transmit_cut(id, out, room);
                break;
            }
            done += self.transmit_frame(id, out, wanted.min(room - HEADER_LEN));
        }
        self.unblock();
        done
    }

    /// Returns whether `transmit` has something to append.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty() || !self.active.is_empty()
    }

    fn transmit_cut(&mut self, id: StreamId, out: &mut Vec<u8>, room: usize) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else {
            return 0;
        };
        stream.flags.clear(StreamFlags::ACTIVE);
        self.active.pop_front();
        let wanted = stream.unsent.len().min(FRAGMENT_BYTES_MIN);
        let mut frame = Vec::with_capacity(HEADER_LEN + wanted);
        self.transmit_frame(id, &mut frame, wanted);
        self.control.push(&frame, frame.len());
        self.control.append_to(out, room)
    }

    /// Appends one frame with `n` payload bytes of the stream, or its bare FIN.
    fn transmit_frame(&mut self, id: StreamId, out: &mut Vec<u8>, n: usize) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else {
            return 0;
        };
        let is_empty = n == stream.unsent.len();
        let has_fin = is_empty && stream.flags.has(StreamFlags::FIN_PENDING);
        let is_fin = has_fin && (n == 0 || !self.config.dialect.ends_apart());
        if n == 0 && !is_fin {
            return 0;
        }
        let flags = if is_fin { Flags::FIN } else { Flags::NONE };
        let header = if n == 0 {
            Header::window_update(id.as_u32(), flags, 0)
        } else {
            Header::data(id.as_u32(), flags, to_u32(n))
        };
        out.extend_from_slice(&header.encode());
        stream.unsent.append_to(out, n);
        self.queued -= n;
        if is_fin {
            stream.flags.clear(StreamFlags::FIN_PENDING);
            self.remove_if_done(id);
        } else {
            if !is_empty || has_fin {
                self.activate(id);
            }
            self.raise_writable(id);
        }
        HEADER_LEN + n
    }

    /// Wakes the writers that waited for room in the session's queue.
    fn unblock(&mut self) {
        if self.queued > to_usize(self.config.send_queue_bytes_max) / 2 {
            return;
        }
        while let Some(id) = self.blocked.pop_front() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.flags.clear(StreamFlags::BLOCKED);
                self.raise_writable(id);
            }
        }
    }
}

/// Smallest piece of a longer queue worth a frame of its own when the caller's room ends.
const FRAGMENT_BYTES_MIN: usize = 1_024;
