//! Bytes that leave.
//!
//! Here: which stream sends, the frames, the memory they are built in. Not here: when messages are due.
//!
//! A large message is a frame in memory of its own that was filled once; sending it again writes 36
//! bytes. Small messages are copied side by side. Either way one gather send a session is in flight, and
//! its memory comes back with the completion.
//!
//! Invariant: a frame is built only within the stream's credit.

use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_shards::ring::{ReceiveEnd, Slot};

use super::quantum::Request;
use super::session::{Part, Stage, Step, Stream};
use super::{Sending, Worker, place};
use crate::payload::{Filling, HEAD_LEN, Head};
use crate::plan::{Mode, Payload, Plan, Scenario};
use crate::records::record_bytes;

/// Bytes after which a batch is sent: long enough to spread the cost of a send, short enough for the
/// second-level cache.
const BATCH_BYTES: usize = 131_072;
/// Frames of this size or more are not copied.
const LARGE_BYTES: usize = 4_096;
/// Mark of a batch that begins with control frames.
const CONTROL: u64 = 1;
/// Memory of sent messages that is kept for the next ones.
const SPARE_MAX: usize = 256;

/// Where frames are built.
#[derive(Debug)]
pub(super) struct Memory {
    /// Large frames, filled.
    frames: Vec<Vec<u8>>,
    /// Other memory, empty.
    spares: Vec<Vec<u8>>,
    batches: Vec<Sending>,
    /// A message before it is sealed.
    scratch: Vec<u8>,
    shape: Shape,
}

/// The sizes of a run's frames.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// 0 in plain runs.
    header_bytes: usize,
    /// Bytes of a frame's payload.
    body_bytes: u32,
    is_large: bool,
    is_sealed: bool,
    verify: bool,
}

impl Memory {
    pub(super) fn new(plan: &Plan, filling: &Filling) -> Self {
        let is_plain = plan.scenario == Scenario::Plain;
        let is_sealed = plan.traffic.payload == Payload::Sealed;
        let message = filling.message_bytes();
        let body = if is_sealed {
            record_bytes(super::dialect(plan), message)
        } else {
            message
        };
        let mut scratch = vec![0; HEAD_LEN];
        scratch.extend_from_slice(filling.of(0));
        Self {
            frames: Vec::new(),
            spares: Vec::new(),
            batches: Vec::new(),
            scratch,
            shape: Shape {
                header_bytes: if is_plain { 0 } else { HEADER_LEN },
                body_bytes: u32::try_from(body).unwrap_or(u32::MAX),
                is_large: body >= LARGE_BYTES,
                is_sealed,
                verify: plan.traffic.verify,
            },
        }
    }

    fn spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    /// Takes back what a batch was made of.
    fn recycle(&mut self, mut batch: Sending) {
        let frame_bytes = self.shape.header_bytes + place(self.shape.body_bytes);
        let keeps_filling = self.shape.is_large && !self.shape.is_sealed;
        // The first part of a marked batch is control frames, whatever its length.
        let mut is_control = batch.tag() == CONTROL;
        batch.set_tag(0);
        while let Some(mut bytes) = batch.take_owned() {
            let is_frame = !std::mem::take(&mut is_control);
            if keeps_filling && is_frame && bytes.len() == frame_bytes {
                self.frames.push(bytes);
            } else if self.spares.len() < SPARE_MAX {
                bytes.clear();
                self.spares.push(bytes);
            }
        }
        if self.batches.len() < SPARE_MAX {
            self.batches.push(batch);
        }
    }

    /// Returns a large frame with `head`, ready to be sent.
    fn large(&mut self, stream: &mut Stream, head: Head, filling: &Filling) -> Vec<u8> {
        if self.shape.is_sealed {
            let mut frame = self.spare();
            self.append(stream, head, filling, &mut frame);
            return frame;
        }
        let Some(mut frame) = self.frames.pop() else {
            let mut frame = Vec::new();
            self.append(stream, head, filling, &mut frame);
            return frame;
        };
        let start = self.shape.header_bytes;
        if start > 0 {
            self.header(stream.id).encode_into(&mut frame);
        }
        let (place, text) = frame[start..].split_at_mut(HEAD_LEN);
        place.copy_from_slice(&head.encode());
        if self.shape.verify {
            text.copy_from_slice(filling.of(head.sequence));
        }
        frame
    }

    /// Appends a frame with `head` to `out`.
    fn append(&mut self, stream: &mut Stream, head: Head, filling: &Filling, out: &mut Vec<u8>) {
        if self.shape.header_bytes > 0 {
            out.extend_from_slice(&self.header(stream.id).encode());
        }
        let Some(records) = &mut stream.records else {
            out.extend_from_slice(&head.encode());
            out.extend_from_slice(filling.of(head.sequence));
            return;
        };
        self.scratch[..HEAD_LEN].copy_from_slice(&head.encode());
        if self.shape.verify {
            self.scratch[HEAD_LEN..].copy_from_slice(filling.of(head.sequence));
        }
        records
            .seal(&self.scratch, out)
            .expect("the plan keeps messages below the longest record");
    }

    const fn header(&self, id: u32) -> Header {
        Header::data(id, Flags::NONE, self.shape.body_bytes)
    }
}

impl Worker {
    /// Notes that a session has something to send.
    #[inline]
    pub(super) fn mark_dirty(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty
                .push_back(u32::try_from(index).unwrap_or(u32::MAX));
        }
    }

    /// Notes that a stream may have something to send.
    #[inline]
    pub(super) fn wake_stream(&mut self, index: u32) {
        let is_wanted = self.is_ready(&self.streams[place(index)]);
        let stream = &mut self.streams[place(index)];
        if stream.is_ready || !is_wanted {
            return;
        }
        stream.is_ready = true;
        let session = place(stream.session);
        self.sessions[session].ready.push_back(index);
        self.mark_dirty(session);
    }

    /// Returns whether a stream has a message to send and may send it.
    #[inline]
    fn is_ready(&self, stream: &Stream) -> bool {
        if !matches!(stream.stage, Stage::Open) || stream.credit < self.memory.shape.body_bytes {
            return false;
        }
        if !stream.is_dialer {
            return !stream.echoes.is_empty();
        }
        self.phase.is_loaded() && stream.due > 0 && stream.waiting < self.in_flight
    }

    /// Sends what the dirty sessions have, as far as the turn's quantum goes.
    pub(super) fn flush(&mut self) {
        for _ in 0..self.dirty.len() {
            if self.quantum.is_spent() {
                return;
            }
            let Some(index) = self.dirty.pop_front() else {
                return;
            };
            let index = place(index);
            self.sessions[index].is_dirty = false;
            self.flush_session(index);
        }
    }

    fn flush_session(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let is_up = matches!(session.step, Step::Shaking(_) | Step::Judged | Step::Live);
        let Some(slot) = session.slot.filter(|_| is_up && !session.is_sending) else {
            return;
        };
        if session.control.is_empty() && session.ready.is_empty() {
            return;
        }
        let mut batch = self.memory.batches.pop().unwrap_or_default();
        let mut small = self.memory.spare();
        small.append(&mut session.control);
        if session.control.capacity() > LARGE_BYTES {
            session.control = Vec::new();
        }
        if self.memory.shape.is_large && !small.is_empty() {
            batch.set_tag(CONTROL);
            batch.push_owned(std::mem::take(&mut small));
        }
        while batch.len() + small.len() < BATCH_BYTES && !batch.is_full() {
            let Some(stream) = self.sessions[index].ready.pop_front() else {
                break;
            };
            self.send_message(stream, &mut batch, &mut small);
        }
        if !small.is_empty() {
            batch.push_owned(small);
        } else if small.capacity() > 0 {
            self.memory.spares.push(small);
        }
        if batch.is_empty() {
            self.memory.recycle(batch);
            return;
        }
        self.sessions[index].is_sending = true;
        self.quantum.spend(Request::Send);
        self.ring.send(slot, batch);
    }

    /// Sends the next message of a stream, and lets it wait for its next turn if it has more.
    fn send_message(&mut self, index: u32, batch: &mut Sending, small: &mut Vec<u8>) {
        self.streams[place(index)].is_ready = false;
        if !self.is_ready(&self.streams[place(index)]) {
            return;
        }
        let now = self.now;
        let mode = self.plan.traffic.mode;
        let is_plain = self.memory.shape.header_bytes == 0;
        let stream = &mut self.streams[place(index)];
        let head = match stream.echoes.pop_front() {
            // An echo keeps the times of its message.
            Some(head) => head,
            None => {
                let due = stream.due_times.pop_front();
                self.backlog -= usize::from(due.is_some());
                Head {
                    sequence: stream.sent,
                    due: due.unwrap_or(now),
                    sent: now,
                }
            }
        };
        stream.sent += 1;
        // Echoes were counted when they became due; what is sent to a slow reader never arrives.
        self.tally.messages_sent += u64::from(stream.is_dialer && !stream.is_slow());
        if !is_plain {
            stream.credit -= self.memory.shape.body_bytes;
        }
        if stream.is_dialer {
            stream.waiting += u32::from(mode == Mode::PingPong);
            if stream.due != u64::MAX {
                stream.due -= 1;
            }
        }
        if self.memory.shape.is_large {
            let frame = self.memory.large(stream, head, &self.filling);
            batch.push_owned(frame);
        } else {
            self.memory.append(stream, head, &self.filling, small);
        }
        if self.is_ready(&self.streams[place(index)]) {
            let stream = &mut self.streams[place(index)];
            stream.is_ready = true;
            self.sessions[place(stream.session)].ready.push_back(index);
        }
    }

    pub(super) fn on_sent(&mut self, slot: Slot, batch: Sending, result: Result<u32, i32>) {
        let want = batch.len();
        self.memory.recycle(batch);
        let Some(index) = self.session_of(slot) else {
            return;
        };
        self.sessions[index].is_sending = false;
        match result {
            Ok(sent) if place(sent) == want => {
                let session = &self.sessions[index];
                if !session.ready.is_empty() || !session.control.is_empty() {
                    self.mark_dirty(index);
                } else if session.cycle.dies_when_sent {
                    self.kill(index);
                }
            }
            Ok(_) => self.drop_session(index, "send: cut short"),
            Err(_) if matches!(self.sessions[index].step, Step::Closing) => {}
            Err(errno) if self.sessions[index].part == Part::Loiterer => {
                self.on_loiter_ended(index, ReceiveEnd::Error(errno));
            }
            Err(errno) => {
                let error = rustix::io::Errno::from_raw_os_error(errno);
                self.drop_session(index, &format!("send: {error}"));
            }
        }
    }
}
