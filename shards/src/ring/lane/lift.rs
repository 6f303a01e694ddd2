//! Plain descriptors of sockets that live in the file table.
//!
//! Here: asking the kernel for one, and what it is then for. Not here: what is done with it.
//!
//! Invariant: a descriptor that comes when nobody wants it any more is closed at once.

#![expect(
    unsafe_code,
    reason = "a descriptor arrives as a number; docs/internals/unsafe.md"
)]

use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;

use super::Lanes;
use super::flight::OUT;
use super::set_nonblocking;
use super::watch;
use crate::ring::Completion;
use crate::ring::Ring;
use crate::ring::Slot;
use crate::ring::op::GENERATION_MASK;
use crate::ring::op::Plain;
use crate::ring::op::Tag;
use crate::ring::setup::Cqe;

/// A descriptor on its way.
#[derive(Debug)]
pub(super) struct Lift {
    serial: u32,
    /// The lane that wants it, and the socket it is of: the lane's own, or that of its target.
    lane: u32,
    slot: u32,
    generation: u32,
}

impl Ring {
    /// Asks for a descriptor of the socket in `slot`.
    pub(super) fn lift(&mut self, lane: u32, slot: u32, generation: u32) {
        self.lanes.serial = self.lanes.serial.wrapping_add(1) & GENERATION_MASK;
        let serial = self.lanes.serial;
        self.lanes.lifts.push(Lift {
            serial,
            lane,
            slot,
            generation,
        });
        self.kernel.push(Plain::Lift { slot, serial });
    }

    pub(in crate::ring) fn on_lift(
        &mut self,
        tag: Tag,
        cqe: Cqe,
        completions: &mut Vec<Completion>,
    ) {
        // SAFETY: the kernel has made the descriptor for this request, and reports it this once.
        let file = (cqe.result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(cqe.result) });
        let mut lifts = self.lanes.lifts.iter();
        let Some(place) = lifts.position(|lift| lift.serial == tag.generation) else {
            return;
        };
        let lift = self.lanes.lifts.swap_remove(place);
        self.lanes.lifted(&lift, file);
        self.lanes.report(completions);
    }
}

impl Lanes {
    fn lifted(&mut self, lift: &Lift, file: Option<OwnedFd>) {
        let Self { table, epoll, .. } = self;
        let Some(lane) = table.iter_mut().find(|lane| lane.slot == lift.lane) else {
            return;
        };
        let is_own = lift.lane == lift.slot && lane.generation == lift.generation;
        let events = if is_own {
            EventFlags::IN | EventFlags::RDHUP
        } else {
            EventFlags::OUT
        };
        let token = u64::from(lift.slot) | if is_own { 0 } else { OUT };
        let file = file.filter(|file| {
            set_nonblocking(file).is_ok()
                && epoll
                    .as_ref()
                    .is_some_and(|epoll| watch(epoll, file, token, events).is_ok())
        });
        if is_own && lane.file.is_none() {
            lane.is_refused = file.is_none();
            lane.file = file;
            return self.settle(lift.lane);
        }
        let target = lane.target.as_mut().filter(|target| {
            target.slot == lift.slot
                && target.generation == lift.generation
                && target.file.is_none()
        });
        match target {
            Some(target) => {
                target.is_refused = file.is_none();
                target.file = file;
                let slot = Slot(lift.lane);
                self.ready.push(Completion::LaneReady { slot });
            }
            None => {
                if let Some(file) = file {
                    Self::release(self.epoll.as_ref(), file);
                }
            }
        }
    }
}
