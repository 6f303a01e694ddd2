//! The lane of a session whose peer sends long frames: their payload does not come to user space.
//!
//! ```text
//!   ordinary --asked--> entering --entered--> header --long frame--> collecting --complete--> header
//!      ^                   |                    |  ^                      |
//!      |                   |                    |  +-- other frames ------+-- target busy, pipe full --+
//!      +---- refused ------+------- left -------+------------------------------------------------------+
//! ```
//!
//! Frame by frame, the driver reads a header and asks what to do with the frame
//! ([`ShardCore::lane_header`]). The payload of a long one it moves from the socket to a pipe of the kernel;
//! once all of it is there, it leaves behind a header of its own as one send of the target's session. So a slow
//! sender never holds the receiver's session inside a frame. Everything else is received as ever, but to the
//! length, so that nothing behind the frame is read.
//!
//! Here: who gets a lane, what goes by it, when it is left. Not here: pipes and sockets (the driver).
//!
//! Invariant: the frames of a stream leave in order: one goes by the lane only while nothing else waits for
//! its session, and the next header is looked at after it has been handed over.
//! Bound: `LANES_MAX` lanes; each holds one frame, within the stream's credit.

use std::time::Duration;

use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::event::{Action, Directory, SessionKey, Slot, StreamKey};
use super::session::{Parser, Phase};
use super::stream::{Other, Piece, StreamState};
use super::{Cause, ShardCore, Violation};
use crate::lease::Lease;

/// What the driver does next with a session in the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneStep {
    /// Receive at most so many bytes, hand them to [`ShardCore::received`], ask [`ShardCore::lane_next`].
    Bytes(u32),
    /// Collect the payload, then ask [`ShardCore::lane_collected`].
    Collect {
        /// What leaves in front of it.
        header: [u8; HEADER_LEN],
        /// Bytes of the payload.
        length: u32,
        /// Where it will go.
        target: Slot,
    },
    /// Read a header and hand it to [`ShardCore::lane_header`].
    Header,
    /// Receive as ever: the session is out of the lane.
    Leave,
}

/// What becomes of a payload that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneVerdict {
    /// Nobody wants it any more.
    Discard,
    /// Read it into memory and hand it to [`ShardCore::lane_read`].
    Read,
    /// An [`Action::Send`] takes it along.
    Sent,
    /// Its session is sending: ask again when something has happened, or shortly.
    Wait,
}

/// What a session remembers to find out whether a lane is worth it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneRecord {
    /// Frames and bytes since the last look.
    frames: u32,
    bytes: u32,
    /// No lane before this second.
    not_before_s: u32,
}

/// A session in the lane, or on its way there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lane {
    /// One bit for each of the last frames, the latest lowest: it did not go by the lane.
    strikes: u16,
    /// The frame that is being collected: stream and length.
    collecting: Option<(StreamKey, u32)>,
    /// When it was complete, if its target was busy then.
    complete_at: Option<Now>,
}

impl Lane {
    const fn note(&mut self, is_strike: bool) {
        self.strikes = self.strikes << 1 | is_strike as u16;
    }
}

impl LaneRecord {
    /// Adds what was received; returns whether it is time to look at the sum.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both are those of one receive, which is less than 4 GiB"
    )]
    pub(super) const fn add(&mut self, frames: u64, bytes: usize, look_bytes: u32) -> bool {
        self.frames = self.frames.wrapping_add(frames as u32);
        self.bytes = self.bytes.wrapping_add(bytes as u32);
        self.bytes >= look_bytes
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A session has received much since the last look: asks for a lane if its frames are long.
    #[cold]
    pub(super) fn look_at_lengths(&mut self, slot: Slot) {
        let now_s = self.now_s();
        let Some(limits) = self.config.lane else {
            return;
        };
        let has_room = self.common.stats.lanes_current < LANES_MAX;
        let Some(live) = self
            .sessions
            .get_mut(slot.0 as usize)
            .and_then(super::session::Session::live_mut)
        else {
            return;
        };
        let LaneRecord {
            frames,
            bytes,
            not_before_s,
        } = live.lane_record;
        live.lane_record = LaneRecord {
            not_before_s,
            ..LaneRecord::default()
        };
        let mean_min = u64::from(limits.frame_bytes_min) * 5 / 4;
        let is_long = u64::from(frames) * mean_min <= u64::from(bytes);
        if !has_room || !is_long || live.lane.is_some() || now_s < not_before_s {
            return;
        }
        // The frame that came in parts last stands for the rest, if there was one.
        let stream = live.parser.stream.and_then(|key| self.streams.get(key));
        let is_far = stream.is_some_and(|stream| !matches!(stream.other, Other::Local { .. }));
        if !is_far {
            live.lane = Some(Box::default());
            self.common.stats.lanes_current += 1;
            self.common.actions.push_back(Action::EnterLane { slot });
        }
    }

    /// The driver has no lane for the session, or has taken it out at a frame's end: it receives as ever.
    pub fn lane_left(&mut self, slot: Slot, is_refused: bool, now: Now) {
        self.now = now;
        self.common.stats.lanes_refused += u64::from(is_refused);
        self.leave_lane(slot);
    }

    fn leave_lane(&mut self, slot: Slot) {
        let pause_s = self.config.lane.map_or(0, |limits| limits.pause_s);
        let not_before_s = self.now_s().saturating_add(pause_s);
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        live.lane_record = LaneRecord {
            not_before_s,
            ..LaneRecord::default()
        };
        if live.lane.take().is_some() {
            self.common.stats.lanes_current -= 1;
        }
    }

    /// Bytes have come on the socket of a session in the lane, which may have to wait for more.
    pub fn lane_heard(&mut self, slot: Slot, now: Now) {
        self.now = now;
        let now_s = self.now_s();
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        live.heard_at = now;
        let collecting = live.lane.as_ref().and_then(|lane| lane.collecting);
        if let Some(stream) = collecting.and_then(|(key, _)| self.streams.get_mut(key)) {
            stream.touched_s = now_s;
        }
    }

    /// Says what the driver reads next: after it has entered the lane, and after each step.
    pub fn lane_next(&mut self, slot: Slot, now: Now) -> LaneStep {
        self.now = now;
        let Some(live) = self.live_mut(slot) else {
            return LaneStep::Leave;
        };
        let Some(lane) = &live.lane else {
            return LaneStep::Leave;
        };
        let (remaining, begun) = (live.parser.remaining, u32::from(live.parser.header_len));
        if remaining > 0 {
            return LaneStep::Bytes(remaining);
        }
        if begun > 0 {
            return LaneStep::Bytes(HEADER_BYTES - begun);
        }
        if lane.strikes.count_ones() >= STRIKES_MAX {
            self.leave_lane(slot);
            return LaneStep::Leave;
        }
        LaneStep::Header
    }

    /// The next header of a session in the lane: says what to do with the frame.
    pub fn lane_header(&mut self, slot: Slot, header: [u8; HEADER_LEN], now: Now) -> LaneStep {
        self.now = now;
        let frame_bytes_min = self
            .config
            .lane
            .map_or(u32::MAX, |limits| limits.frame_bytes_min);
        self.common.stats.bytes_received += HEADER_LEN as u64;
        let Some(live) = self.live_mut(slot) else {
            return LaneStep::Leave;
        };
        live.heard_at = now;
        let mut parser = std::mem::take(&mut live.parser);
        let long = Header::plain_data(&header)
            .filter(|(_, length)| *length >= frame_bytes_min)
            .and_then(|(id, length)| self.take_long(slot, id, length));
        let outcome = match long {
            Some(_) => Ok(()),
            None => self.take_short(slot, &header, &mut parser),
        };
        match outcome {
            Ok(()) => {
                if let Some(live) = self.live_mut(slot) {
                    live.parser = parser;
                }
            }
            Err(Violation(reason)) => self.end_for(slot, reason),
        }
        long.unwrap_or_else(|| self.lane_next(slot, now))
    }

    /// Books a long frame that goes by the lane, if it may.
    fn take_long(&mut self, slot: Slot, id: u32, length: u32) -> Option<LaneStep> {
        let now_s = self.now_s();
        let is_full = self.is_full();
        let key = self.find(slot, id)?;
        let stream = self.streams.get_mut(key)?;
        let Other::Local { session, .. } = stream.other else {
            return None;
        };
        let is_plain = stream.state == StreamState::Bridged && !stream.has_ended_in;
        // A stream to oneself has one socket at both ends, which a lane does not know.
        let is_own = session.slot == slot;
        if !is_plain || is_own || length > stream.credit || is_full {
            return None;
        }
        stream.credit -= length;
        stream.touched_s = now_s;
        let header = Header::data(stream.other_id, Flags::NONE, length).encode();
        self.common.stats.frames_received += 1;
        let lane = self.live_mut(slot)?.lane.as_mut()?;
        lane.note(false);
        lane.collecting = Some((key, length));
        lane.complete_at = None;
        Some(LaneStep::Collect {
            header,
            length,
            target: session.slot,
        })
    }

    /// Any other frame: its payload, if it has one, is received as ever.
    fn take_short(
        &mut self,
        slot: Slot,
        header: &[u8; HEADER_LEN],
        parser: &mut Parser,
    ) -> Result<(), Violation> {
        let header = Header::decode(header).map_err(|error| Violation(error.reason()))?;
        if header.kind == FrameKind::Data
            && let Some(lane) = self.live_mut(slot).and_then(|live| live.lane.as_mut())
        {
            lane.note(true);
        }
        self.take_header(slot, header, parser)
    }

    /// The payload is complete.
    pub fn lane_collected(&mut self, slot: Slot, now: Now) -> LaneVerdict {
        self.now = now;
        let Some(lane) = self.live_mut(slot).and_then(|live| live.lane.as_mut()) else {
            return LaneVerdict::Discard;
        };
        let Some((key, length)) = lane.collecting else {
            return LaneVerdict::Discard;
        };
        let complete_at = *lane.complete_at.get_or_insert(now);
        let Some((target, session)) = self.lane_target(key) else {
            self.finish_collecting(slot, length);
            return LaneVerdict::Discard;
        };
        if !self.is_idle(target, session) {
            let is_late = now.saturating_since(complete_at) >= BUSY_MAX;
            return if is_late {
                LaneVerdict::Read
            } else {
                LaneVerdict::Wait
            };
        }
        self.finish_collecting(slot, length);
        self.common.stats.payload_bytes_forwarded += u64::from(length);
        self.common.stats.lane_frames += 1;
        self.common.stats.lane_bytes += u64::from(length);
        self.push_piped(target, session.slot, slot, length);
        LaneVerdict::Sent
    }

    /// What was collected was read into memory: because its target was busy for long, or because no more
    /// fits in the pipe. The rest of the payload, if there is one, is received as ever.
    pub fn lane_read(&mut self, slot: Slot, payload: Vec<u8>, now: Now) {
        self.now = now;
        let count = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        live.heard_at = now;
        let Some(lane) = live.lane.as_mut() else {
            return;
        };
        let Some((key, length)) = lane.collecting else {
            return;
        };
        // Two more strikes than a frame that was never collected: this one was copied in vain.
        lane.note(true);
        lane.note(true);
        live.parser.stream = Some(key);
        live.parser.remaining = length.saturating_sub(count);
        live.parser.is_last = false;
        self.finish_collecting(slot, count);
        if count > 0 && self.lane_target(key).is_some() {
            self.common.stats.payload_bytes_forwarded += u64::from(count);
            self.push_read(key, count, &payload);
        }
    }

    /// Queues a payload that was read, with a header of the other leg.
    fn push_read(&mut self, key: StreamKey, count: u32, payload: &[u8]) {
        let Some((target, _)) = self.lane_target(key) else {
            return;
        };
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(target) else {
            return;
        };
        stream.touched_s = now_s;
        let header = Header::data(stream.id, Flags::NONE, count).encode();
        let piece = Piece::Owned([header.as_slice(), payload].concat());
        if self.push_stream(target, piece).is_err() {
            self.break_bridge(target, Reason::SlowConsumer);
        }
    }

    fn finish_collecting(&mut self, slot: Slot, bytes: u32) {
        let now = self.now;
        self.common.stats.bytes_received += u64::from(bytes);
        if let Some(live) = self.live_mut(slot) {
            live.heard_at = now;
            if let Some(lane) = live.lane.as_mut() {
                lane.collecting = None;
                lane.complete_at = None;
            }
        }
    }

    /// Returns the other leg and its session, while it takes data.
    fn lane_target(&self, key: StreamKey) -> Option<(StreamKey, SessionKey)> {
        let stream = self.streams.get(key)?;
        let Other::Local {
            stream: target,
            session,
        } = stream.other
        else {
            return None;
        };
        let other = self.streams.get(target)?;
        let takes = !other.has_ended_out && other.state == StreamState::Bridged;
        takes.then_some((target, session))
    }

    /// Returns whether nothing is on its way to the session, and nothing waits for it.
    fn is_idle(&self, target: StreamKey, key: SessionKey) -> bool {
        let is_queued = self
            .streams
            .get(target)
            .is_some_and(|stream| !stream.queue.is_empty());
        let session = self.sessions.get(key.slot.0 as usize);
        !is_queued
            && session.is_some_and(|session| {
                let is_there =
                    session.generation == key.generation && matches!(session.phase, Phase::Live(_));
                let egress = session.egress.as_ref();
                is_there && egress.is_none_or(|egress| egress.is_drained())
            })
    }

    fn end_for(&mut self, slot: Slot, reason: Reason) {
        if let Some(session) = self.sessions.get(slot.0 as usize) {
            // Who does not read cannot be told.
            let tell = reason != Reason::SlowConsumer;
            self.end_session(session.key(slot), Cause::Reason(reason), tell);
        }
    }
}

/// Length of a header.
#[expect(clippy::cast_possible_truncation, reason = "12")]
const HEADER_BYTES: u32 = HEADER_LEN as u32;

/// Lanes of a shard: each has a pipe of 256 KiB, of the 64 MiB that a user's pipes may hold
/// (`fs.pipe-user-pages-soft`), and four descriptors.
pub(crate) const LANES_MAX: u64 = 32;

/// Of the last 16 data frames so many may not have gone by the lane before it is left.
const STRIKES_MAX: u32 = 6;

/// How long a payload waits for its session to finish another send before it is read into memory: what comes
/// behind it, for other sessions perhaps, waits as well.
const BUSY_MAX: Duration = Duration::from_millis(2);
