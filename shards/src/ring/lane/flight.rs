//! Flights: payload on its way out of a pipe.
//!
//! Here: splice(2) to the socket, events of the sockets. Not here: how payload gets
//! into the pipe (`lane`).
//!
//! A flight belongs to the socket that it goes to: when its source dies it goes on, so that nobody's session is
//! left inside a frame. To its user it is a send like any other, its batch comes back with `Sent`.
//!
//! Invariant: one flight a socket, and no gather send beside it.

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::Lanes;
use super::Pipe;
use super::Target;
use super::waiting;
use crate::batch::Batch;
use crate::ring::Completion;
use crate::ring::Ring;
use crate::ring::RingLease;
use crate::ring::Slot;
use crate::ring::op::Plain;
use crate::ring::op::Tag;
use crate::ring::setup::Cqe;

/// Payload on its way to a socket.
#[derive(Debug)]
pub(super) struct Flight {
    slot: u32,
    target: Target,
    pipe: Pipe,
    /// The lane that gets pipe and descriptor back: slot and generation.
    lane: (u32, u32),
    /// Absent while the user has it: the send was cancelled, and may go on.
    batch: Option<Batch<RingLease>>,
    /// Bytes of this send that the kernel has taken.
    sent: u32,
}

impl Flight {
    /// Sends what can be sent; absent while the socket takes no more.
    fn pump(&mut self) -> Option<Result<u32, i32>> {
        while self.pipe.bytes > 0 {
            let file = self.target.file.as_ref()?;
            let count = usize::try_from(self.pipe.bytes).unwrap_or(usize::MAX);
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let moved = rustix::pipe::splice(&self.pipe.read, None, file, None, count, flags);
            match moved {
                // A pipe that is not empty gives something; a socket that takes nothing is gone.
                Ok(0) => return Some(Err(Errno::PIPE.raw_os_error())),
                Ok(count) => self.book(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // What was taken before counts; the next send meets the error.
                Err(_) if self.sent > 0 => return Some(Ok(self.sent)),
                Err(error) => return Some(Err(error.raw_os_error())),
            }
        }
        Some(Ok(self.sent))
    }

    fn book(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(self.pipe.bytes);
        self.pipe.bytes -= count;
        self.sent += count;
    }

    /// Returns how far it has come, for a send that is ended early.
    fn so_far(&self) -> Result<u32, i32> {
        if self.sent > 0 {
            Ok(self.sent)
        } else {
            Err(Errno::CANCELED.raw_os_error())
        }
    }
}

impl Ring {
    /// Sends a batch whose payload lies in the pipe of lane `pipe`, or goes on with one.
    pub(in crate::ring) fn send_piped(&mut self, slot: Slot, batch: Batch<RingLease>, pipe: u32) {
        let lanes = &mut self.lanes;
        let place = lanes
            .flights
            .iter()
            .position(|flight| flight.slot == slot.0);
        let place = place.or_else(|| lanes.take_off(slot.0, pipe));
        let Some(flight) = place.and_then(|place| lanes.flights.get_mut(place)) else {
            // Its target was dropped: nobody will send what the pipe holds.
            self.lane_discard(Slot(pipe));
            let result = Err(Errno::CANCELED.raw_os_error());
            self.lanes.ready.push(Completion::Sent {
                slot,
                batch,
                result,
            });
            return;
        };
        assert!(flight.batch.is_none(), "one send at a time on a socket");
        (flight.batch, flight.sent) = (Some(batch), 0);
        lanes.fly(slot.0);
    }

    /// Something happened to a socket of a lane.
    pub(in crate::ring) fn on_lanes(
        &mut self,
        tag: Tag,
        cqe: Cqe,
        completions: &mut Vec<Completion>,
    ) {
        if tag.generation == WATCH && !io_uring::cqueue::more(cqe.flags) {
            self.lanes.is_watched = false;
        }
        self.lanes.look();
        self.lanes.report(completions);
    }

    /// Arms the watch of the lanes.
    pub(in crate::ring) fn watch_lanes(&mut self) {
        if !self.lanes.is_watched
            && let Some(epoll) = &self.lanes.epoll
        {
            self.lanes.is_watched = true;
            let epoll = std::os::fd::AsRawFd::as_raw_fd(epoll);
            self.kernel.push(Plain::WatchLanes { epoll });
        }
    }
}

impl Lanes {
    /// Moves pipe and descriptor of a lane into a flight; returns its place.
    fn take_off(&mut self, slot: u32, pipe: u32) -> Option<usize> {
        let lane = self.of(Slot(pipe))?;
        let is_aimed = |target: &mut Target| target.slot == slot && target.file.is_some();
        let mut target = lane.target.take_if(is_aimed)?;
        // With more on its way behind it the last segment may be filled.
        let has_more = lane
            .file
            .as_ref()
            .is_some_and(|file| waiting(file) > MORE_MIN);
        target.cork(has_more);
        let Some(pipe) = lane.pipe.take() else {
            lane.target = Some(target);
            return None;
        };
        lane.is_out = true;
        let flight = Flight {
            slot,
            target,
            pipe,
            lane: (lane.slot, lane.generation),
            batch: None,
            sent: 0,
        };
        self.flights.push(flight);
        Some(self.flights.len() - 1)
    }

    /// Goes on with the flight to a socket.
    fn fly(&mut self, slot: u32) {
        let place = self.flights.iter().position(|flight| flight.slot == slot);
        let Some((place, flight)) = place.and_then(|at| Some((at, self.flights.get_mut(at)?)))
        else {
            return;
        };
        if flight.batch.is_none() {
            return;
        }
        let Some(result) = flight.pump() else { return };
        let Some(batch) = flight.batch.take() else {
            return;
        };
        if flight.pipe.bytes == 0 {
            let flight = self.flights.swap_remove(place);
            self.land(flight);
        }
        let slot = Slot(slot);
        self.ready.push(Completion::Sent {
            slot,
            batch,
            result,
        });
    }

    /// Gives pipe and descriptor back to the lane, if it is still there.
    fn land(&mut self, flight: Flight) {
        let Flight {
            target, pipe, lane, ..
        } = flight;
        let (slot, generation) = lane;
        let back = self
            .of(Slot(slot))
            .filter(|lane| lane.generation == generation && lane.is_out);
        match back {
            Some(lane) => {
                lane.is_out = false;
                lane.pipe = Some(pipe);
                lane.target = Some(target);
            }
            None => self.drop_target(target),
        }
    }

    fn drop_target(&self, mut target: Target) {
        target.cork(false);
        if let Some(file) = target.file {
            Self::release(self.epoll.as_ref(), file);
        }
    }

    /// Cancels a flight's send: its batch comes back, and may be sent on.
    pub(in crate::ring) fn cancel(&mut self, slot: u32) -> bool {
        let mut flights = self.flights.iter_mut();
        let Some(flight) = flights.find(|flight| flight.slot == slot) else {
            return false;
        };
        let result = flight.so_far();
        if let Some(batch) = flight.batch.take() {
            let slot = Slot(slot);
            self.ready.push(Completion::Sent {
                slot,
                batch,
                result,
            });
        }
        true
    }

    /// Ends the flight to a socket that is about to be closed.
    pub(super) fn end_flight(&mut self, slot: u32) {
        self.cancel(slot);
        let Some(place) = self.flights.iter().position(|flight| flight.slot == slot) else {
            return;
        };
        let flight = self.flights.swap_remove(place);
        let (lane, generation) = flight.lane;
        self.drop_target(flight.target);
        if let Some(lane) = self
            .of(Slot(lane))
            .filter(|lane| lane.generation == generation)
        {
            lane.is_out = false;
        }
    }

    /// Looks at what has happened to sockets.
    fn look(&mut self) {
        let Some(epoll) = self.epoll.take() else {
            return;
        };
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let at_once = Timespec::default();
        // It does not wait, so that no signal interrupts it.
        let buffer = rustix::buffer::spare_capacity(&mut events);
        let found = epoll::wait(&epoll, buffer, Some(&at_once));
        tracing::trace!(?found, "sockets of lanes");
        self.epoll = Some(epoll);
        for event in events {
            let token = event.data.u64();
            let slot = u32::try_from(token & !OUT).unwrap_or(u32::MAX);
            if token & OUT != 0 {
                self.fly(slot);
            } else if let Some(lane) = self.of(Slot(slot)) {
                lane.is_readable = true;
                let slot = Slot(slot);
                self.ready.push(Completion::LaneReady { slot });
            }
        }
    }
}

/// In a token: the socket is a target's.
pub(super) const OUT: u64 = 1 << 32;

/// Bytes that wait in a source behind a frame: enough to be worth keeping the rest of a segment back for.
const MORE_MIN: u64 = 16_384;

/// What marks the watch among the completions of the lanes.
const WATCH: u32 = 1;

/// Events of one look: more than there are descriptors, since what is left over would be told to nobody.
const EVENTS_MAX: usize = 128;
