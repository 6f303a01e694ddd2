//! The lanes of a shard: between what the core says of a frame and what the ring does with it.
//!
//! Here: the steps of a lane, in order. Not here: what goes by one (`core::lane`), system calls (`ring::lane`).
//!
//! Invariant: a lane is out of the table in the turn in which its socket is closed, so no step is asked of the
//! core for a slot that somebody else has meanwhile.
//! Bound: a frame a lane and turn.

use std::time::Duration;

use ringway_proto::frame::HEADER_LEN;
use ringway_proto::time::Now;

use super::Parts;
use super::receive_end;
use crate::core::LaneStep;
use crate::core::LaneVerdict;
use crate::core::Slot;
use crate::ring;
use crate::ring::LaneProgress;

/// What a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The ring receives for it.
    Bytes,
    /// Payload, on its way into the pipe.
    Collect {
        header: [u8; HEADER_LEN],
        length: u32,
        target: Slot,
    },
    /// Its target, which is busy.
    Complete,
    /// The ring gets it ready.
    Entering,
    /// A header, once the pipe is back.
    Header,
}

#[derive(Debug)]
struct Lane {
    slot: Slot,
    stage: Stage,
    /// When the pipe left for the target.
    left_at: Now,
}

/// The lanes of a shard.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    table: Vec<Lane>,
    /// A lane has made all the steps it may in a turn.
    has_more: bool,
}

impl Lanes {
    /// Returns whether there is no lane.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns whether a lane goes on at once.
    #[inline]
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Notes that the core wants a lane for a socket.
    pub(super) fn enter(&mut self, slot: Slot) {
        self.table.push(Lane {
            slot,
            stage: Stage::Entering,
            left_at: Now::ZERO,
        });
    }

    /// Forgets the lane of a socket.
    #[inline]
    pub(super) fn forget(&mut self, slot: Slot) {
        if !self.table.is_empty() {
            self.table.retain(|lane| lane.slot != slot);
        }
    }

    /// The ring has no lane for a socket.
    pub(super) fn refused(&mut self, slot: Slot, parts: &mut Parts, now: Now) {
        self.forget(slot);
        parts.core.lane_left(slot, true, now);
        parts.ring.receive(ring::Slot(slot.0));
    }

    /// What the ring was asked for has come: the lane itself, or bytes.
    pub(super) fn go_on(&mut self, slot: Slot, parts: &mut Parts, now: Now) {
        let Some(place) = self.table.iter().position(|lane| lane.slot == slot) else {
            return;
        };
        let stage = self.table.get(place).map(|lane| lane.stage);
        if !matches!(stage, Some(Stage::Bytes | Stage::Entering)) {
            return;
        }
        let step = parts.core.lane_next(slot, now);
        self.apply(place, step, parts);
    }

    /// Goes on with every lane that can; returns whether one has.
    pub(super) fn pump(&mut self, parts: &mut Parts, now: Now) -> bool {
        let mut has_moved = false;
        self.has_more = false;
        // From the end, since a lane that is left gives its place to the last.
        for place in (0..self.table.len()).rev() {
            let mut left = STEPS_MAX;
            while left > 0 && self.step(place, parts, now) {
                left -= 1;
            }
            has_moved |= left < STEPS_MAX;
            self.has_more |= left == 0;
        }
        has_moved
    }

    /// Returns whether a lane waits for something that nobody tells it of.
    pub(super) fn is_waiting(&self, parts: &Parts) -> bool {
        self.table.iter().any(|lane| {
            lane.stage == Stage::Complete
                || (lane.stage == Stage::Header && parts.ring.is_lane_out(ring::Slot(lane.slot.0)))
        })
    }

    /// Makes one step; returns whether there may be another.
    fn step(&mut self, place: usize, parts: &mut Parts, now: Now) -> bool {
        let Some(lane) = self.table.get_mut(place) else {
            return false;
        };
        let slot = lane.slot;
        let socket = ring::Slot(slot.0);
        let step = match lane.stage {
            Stage::Bytes | Stage::Entering => return false,
            Stage::Header if parts.ring.is_lane_out(socket) => {
                if now.saturating_since(lane.left_at) < OUT_MAX {
                    return false;
                }
                // Its target takes the frame slowly; what comes behind it may be for others.
                parts.core.lane_left(slot, false, now);
                LaneStep::Leave
            }
            Stage::Header => match parts.ring.lane_header(socket) {
                LaneProgress::Blocked | LaneProgress::Full => return false,
                LaneProgress::Done(header) => parts.core.lane_header(slot, header, now),
                LaneProgress::Ended(end) => return self.ended(place, receive_end(end), parts, now),
            },
            Stage::Collect {
                header,
                length,
                target,
            } => {
                match parts
                    .ring
                    .lane_collect(socket, &header, length, ring::Slot(target.0))
                {
                    LaneProgress::Blocked => return false,
                    LaneProgress::Done(()) => {
                        lane.stage = Stage::Complete;
                        return true;
                    }
                    LaneProgress::Full => read(slot, parts, now),
                    LaneProgress::Ended(end) => {
                        return self.ended(place, receive_end(end), parts, now);
                    }
                }
            }
            Stage::Complete => match parts.core.lane_collected(slot, now) {
                LaneVerdict::Discard => {
                    parts.ring.lane_discard(socket);
                    parts.core.lane_next(slot, now)
                }
                LaneVerdict::Read => read(slot, parts, now),
                LaneVerdict::Sent => {
                    // The next header once the send was carried out.
                    (lane.stage, lane.left_at) = (Stage::Header, now);
                    return false;
                }
                LaneVerdict::Wait => {
                    parts.ring.lane_rests(socket);
                    return false;
                }
            },
        };
        self.apply(place, step, parts)
    }

    /// Does what the core says; returns whether there may be another step.
    fn apply(&mut self, place: usize, step: LaneStep, parts: &mut Parts) -> bool {
        let Some(lane) = self.table.get_mut(place) else {
            return false;
        };
        let socket = ring::Slot(lane.slot.0);
        lane.stage = match step {
            LaneStep::Bytes(count) => {
                parts.ring.receive_once(socket, count);
                Stage::Bytes
            }
            LaneStep::Collect {
                header,
                length,
                target,
            } => Stage::Collect {
                header,
                length,
                target,
            },
            LaneStep::Header => Stage::Header,
            LaneStep::Leave => {
                self.table.swap_remove(place);
                parts.ring.leave_lane(socket);
                parts.ring.receive(socket);
                return false;
            }
        };
        true
    }

    /// The connection of a lane has ended.
    fn ended(
        &mut self,
        place: usize,
        end: crate::core::RecvEnd,
        parts: &mut Parts,
        now: Now,
    ) -> bool {
        let lane = self.table.swap_remove(place);
        parts.ring.leave_lane(ring::Slot(lane.slot.0));
        parts.core.receive_ended(lane.slot, end, now);
        false
    }
}

/// Reads what was collected into memory.
fn read(slot: Slot, parts: &mut Parts, now: Now) -> LaneStep {
    let payload = parts.ring.lane_read_out(ring::Slot(slot.0));
    parts.core.lane_read(slot, payload, now);
    parts.core.lane_next(slot, now)
}

/// Steps of a lane and turn: those of one frame, and of short ones before it.
const STEPS_MAX: u32 = 8;

/// How long a frame may take to leave before its source goes back to ordinary receives.
const OUT_MAX: Duration = Duration::from_millis(5);

/// How often a lane looks again that waits for something nobody tells it of.
pub(super) const LOOK_AGAIN: Duration = Duration::from_micros(500);
