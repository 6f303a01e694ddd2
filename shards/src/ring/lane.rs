//! Lanes: payload that goes from socket to socket through a pipe of the kernel.
//!
//! Here: the lanes of a ring, with the plain system calls that move payload: recv(2) of headers, splice(2)
//! from the socket of the source. Not here: what goes by a lane (`core::lane`), the way out (`flight`).
//!
//! Sockets live in the file table, which splice(2) does not know, and io_uring's own splice goes through
//! worker threads (docs/internals/uring.md B). So a lane has plain descriptors of its sockets
//! (`IORING_OP_FIXED_FD_INSTALL`, 6.8), and an epoll(7) of all lanes, which the ring watches, says when one can
//! go on. A close drops the descriptors first, since the socket lives as long as the last of them.
//!
//! Invariant: a lane has its pipe, or a flight has it, or it is broken and a new one is due.
//! Bound: [`LANES_MAX`]; a lane has four descriptors and a pipe of [`PIPE_BYTES`].

mod flight;
mod lift;

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::event::epoll::CreateFlags;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

use self::flight::Flight;
use self::lift::Lift;
use super::Completion;
use super::ReceiveEnd;
use super::Ring;
use super::Slot;
use super::files::Phase;
use super::files::Receive;
use super::files::Standing;
use super::op::Plain;
use super::op::Tag;

/// How far a step of a lane came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneProgress<T> {
    /// Nothing more is there yet.
    Blocked,
    /// It is done.
    Done(T),
    /// The connection has ended.
    Ended(ReceiveEnd),
    /// It cannot be done: no more fits in the pipe, or there is no descriptor. Read out what there is.
    Full,
}

/// A pipe and what is in it.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes: u32,
}

/// Where a lane's payload goes.
#[derive(Debug)]
struct Target {
    slot: u32,
    generation: u32,
    /// Absent until the kernel has made it.
    file: Option<OwnedFd>,
    is_refused: bool,
    /// The kernel keeps the rest of a segment back for what comes next.
    is_corked: bool,
}

/// The socket of a source.
#[derive(Debug)]
struct Lane {
    slot: u32,
    generation: u32,
    file: Option<OwnedFd>,
    /// The multishot receive has ended.
    is_stopped: bool,
    is_refused: bool,
    is_entered: bool,
    is_readable: bool,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    pipe: Option<Pipe>,
    /// A flight has the pipe and the target's descriptor.
    is_out: bool,
    target: Option<Target>,
}

/// The lanes of a ring.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    table: Vec<Lane>,
    flights: Vec<Flight>,
    lifts: Vec<Lift>,
    serial: u32,
    epoll: Option<OwnedFd>,
    is_watched: bool,
    /// What is reported with the next turn.
    ready: Vec<Completion>,
}

impl Lanes {
    /// Returns whether there is anything to look after.
    #[inline]
    pub(super) const fn is_idle(&self) -> bool {
        self.table.is_empty() && self.flights.is_empty() && self.ready.is_empty()
    }

    #[inline]
    pub(super) const fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns lanes, flights and descriptors on their way.
    pub(super) const fn count(&self) -> usize {
        self.table.len() + self.flights.len() + self.lifts.len()
    }

    /// Appends what is to be reported.
    #[inline]
    pub(super) fn report(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.ready);
    }

    fn of(&mut self, slot: Slot) -> Option<&mut Lane> {
        self.table.iter_mut().find(|lane| lane.slot == slot.0)
    }

    /// Returns whether the receive of a slot is to end.
    #[inline]
    pub(super) fn is_stopping(&self, slot: u32) -> bool {
        let mut lanes = self.table.iter();
        lanes.any(|lane| lane.slot == slot && !lane.is_stopped)
    }

    /// The receive has ended.
    pub(super) fn stopped(&mut self, slot: u32) {
        if let Some(lane) = self.of(Slot(slot)) {
            lane.is_stopped = true;
        }
        self.settle(slot);
    }

    /// Reports a lane that is complete, or one that cannot be.
    fn settle(&mut self, slot: u32) {
        let place = self.table.iter().position(|lane| lane.slot == slot);
        let Some((place, lane)) = place.and_then(|at| Some((at, self.table.get_mut(at)?))) else {
            return;
        };
        if !lane.is_stopped || lane.is_entered {
            return;
        }
        let slot = Slot(slot);
        if lane.is_refused {
            self.table.swap_remove(place);
            self.ready.push(Completion::LaneRefused { slot });
        } else if lane.file.is_some() {
            lane.is_entered = true;
            self.ready.push(Completion::LaneEntered { slot });
        }
    }

    /// Returns the epoll of the lanes.
    fn epoll(&mut self) -> io::Result<&OwnedFd> {
        let epoll = match self.epoll.take() {
            Some(epoll) => epoll,
            None => epoll::create(CreateFlags::CLOEXEC)?,
        };
        Ok(self.epoll.insert(epoll))
    }

    /// Drops a descriptor of a socket.
    fn release(epoll: Option<&OwnedFd>, file: OwnedFd) {
        if let Some(epoll) = epoll {
            // Other descriptors of the socket live on, so that it would stay registered.
            let deleted = epoll::delete(epoll, &file);
            tracing::trace!(?deleted, "a descriptor leaves the lane");
        }
        drop(file);
    }

    fn drop_lane(&mut self, slot: u32) {
        let Some(place) = self.table.iter().position(|lane| lane.slot == slot) else {
            return;
        };
        let mut lane = self.table.swap_remove(place);
        lane.rest();
        let files = [lane.file, lane.target.and_then(|target| target.file)];
        for file in files.into_iter().flatten() {
            Self::release(self.epoll.as_ref(), file);
        }
    }

    /// Gives up everything of a socket that is about to be closed.
    pub(super) fn close(&mut self, slot: u32) {
        self.drop_lane(slot);
        for lane in &mut self.table {
            if lane
                .target
                .as_ref()
                .is_some_and(|target| target.slot == slot)
                && let Some(file) = lane.target.take().and_then(|target| target.file)
            {
                Self::release(self.epoll.as_ref(), file);
            }
        }
        self.end_flight(slot);
    }
}

impl Ring {
    /// Takes a socket out of the multishot receive and into a lane: `LaneEntered` follows, or `LaneRefused`,
    /// after which it has to be received from as before.
    pub fn enter_lane(&mut self, slot: Slot) {
        let Some(state) = self.slots.of_mut(slot.0) else {
            return;
        };
        if state.phase != Phase::Open || state.standing != Standing::Known {
            return;
        }
        let generation = state.generation;
        let has_room = self.has_lanes && self.lanes.table.len() < LANES_MAX;
        let pipe = if has_room { Pipe::new().ok() } else { None };
        if pipe.is_none() || self.lanes.epoll().is_err() {
            self.lanes.ready.push(Completion::LaneRefused { slot });
            return;
        }
        let is_stopped = match state.receive {
            Receive::Armed => {
                let tag = Tag::new(super::op::Kind::Receive, generation, slot.0);
                self.kernel.push(Plain::Cancel { tag });
                false
            }
            Receive::Starved => {
                state.receive = Receive::Ended;
                true
            }
            Receive::Ended | Receive::Idle => true,
        };
        self.lanes.table.push(Lane {
            slot: slot.0,
            generation,
            file: None,
            is_stopped,
            is_refused: false,
            is_entered: false,
            is_readable: true,
            header: [0; HEADER_BYTES],
            header_len: 0,
            pipe,
            is_out: false,
            target: None,
        });
        self.lift(slot.0, slot.0, generation);
    }

    /// Takes a socket out of the lane; what its pipe holds is lost.
    pub fn leave_lane(&mut self, slot: Slot) {
        self.lanes.drop_lane(slot.0);
    }

    /// Returns whether the pipe of a lane is on its way out with payload.
    #[must_use]
    pub fn is_lane_out(&self, slot: Slot) -> bool {
        let mut lanes = self.lanes.table.iter();
        lanes.any(|lane| lane.slot == slot.0 && lane.is_out)
    }

    /// Reads the next header.
    pub fn lane_header(&mut self, slot: Slot) -> LaneProgress<[u8; HEADER_BYTES]> {
        let Some(lane) = self.lanes.of(slot) else {
            return LaneProgress::Blocked;
        };
        let Some(file) = lane.file.as_ref().filter(|_| lane.is_readable) else {
            return LaneProgress::Blocked;
        };
        while lane.header_len < HEADER_BYTES {
            let rest = lane.header.get_mut(lane.header_len..).unwrap_or_default();
            match rustix::net::recv(file, rest, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return LaneProgress::Ended(ReceiveEnd::Eof),
                Ok((count, _)) => lane.header_len += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    lane.is_readable = false;
                    lane.rest();
                    return LaneProgress::Blocked;
                }
                Err(error) => return LaneProgress::Ended(ReceiveEnd::Error(error.raw_os_error())),
            }
        }
        lane.header_len = 0;
        LaneProgress::Done(lane.header)
    }

    /// Moves payload into the pipe until `length` bytes are there, behind `header`, that may leave for `target`.
    pub fn lane_collect(
        &mut self,
        slot: Slot,
        header: &[u8; HEADER_BYTES],
        length: u32,
        target: Slot,
    ) -> LaneProgress<()> {
        self.aim(slot, target);
        let Some(lane) = self.lanes.of(slot) else {
            return LaneProgress::Blocked;
        };
        if lane.pipe.is_none() && !lane.is_out {
            lane.pipe = Pipe::new().ok();
        }
        let (Some(file), Some(pipe)) = (&lane.file, &mut lane.pipe) else {
            return LaneProgress::Full;
        };
        if pipe.bytes == 0 && !pipe.begin(header) {
            return LaneProgress::Full;
        }
        let length = HEADER_COUNT + length;
        let mut is_again = false;
        while pipe.bytes < length {
            if !lane.is_readable {
                return LaneProgress::Blocked;
            }
            match pipe.fill(file, length - pipe.bytes) {
                Ok(0) => return LaneProgress::Ended(ReceiveEnd::Eof),
                Ok(count) => {
                    pipe.bytes += count;
                    is_again = false;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if waiting(file) == 0 => {
                    lane.is_readable = false;
                    lane.rest();
                    return LaneProgress::Blocked;
                }
                // Bytes wait but do not fit, unless they came just now.
                Err(Errno::AGAIN) if is_again => return LaneProgress::Full,
                Err(Errno::AGAIN) => is_again = true,
                Err(error) => return LaneProgress::Ended(ReceiveEnd::Error(error.raw_os_error())),
            }
        }
        match &lane.target {
            Some(target) if target.is_refused => LaneProgress::Full,
            Some(target) if target.file.is_none() => LaneProgress::Blocked,
            // Without a target its session is gone: nobody will send it.
            Some(_) | None => LaneProgress::Done(()),
        }
    }

    /// Points a lane at the socket that its payload goes to.
    fn aim(&mut self, slot: Slot, target: Slot) {
        let state = self.slots.of(target.0);
        let open =
            state.filter(|state| state.phase == Phase::Open && state.standing == Standing::Known);
        let generation = open.map(|state| state.generation);
        let Some(lane) = self.lanes.table.iter_mut().find(|lane| lane.slot == slot.0) else {
            return;
        };
        let is_there = lane
            .target
            .as_ref()
            .is_some_and(|aimed| aimed.slot == target.0 && Some(aimed.generation) == generation);
        if is_there || lane.is_out {
            return;
        }
        lane.rest();
        if let Some(file) = lane.target.take().and_then(|target| target.file) {
            Lanes::release(self.lanes.epoll.as_ref(), file);
        }
        let Some(generation) = generation else { return };
        lane.target = Some(Target {
            slot: target.0,
            generation,
            file: None,
            is_refused: false,
            is_corked: false,
        });
        self.lift(slot.0, target.0, generation);
    }

    /// Lets go what the kernel keeps back: nothing comes behind it soon.
    pub fn lane_rests(&mut self, slot: Slot) {
        if let Some(lane) = self.lanes.of(slot) {
            lane.rest();
        }
    }

    /// Reads the payload that a lane's pipe holds.
    pub fn lane_read_out(&mut self, slot: Slot) -> Vec<u8> {
        let Some(lane) = self.lanes.of(slot) else {
            return Vec::new();
        };
        let Some(mut pipe) = lane.pipe.take() else {
            return Vec::new();
        };
        let mut bytes = pipe.read_out();
        bytes.drain(..bytes.len().min(HEADER_BYTES));
        if pipe.bytes == 0 {
            lane.pipe = Some(pipe);
        }
        bytes
    }

    /// Throws away what a lane's pipe holds.
    pub fn lane_discard(&mut self, slot: Slot) {
        if let Some(lane) = self.lanes.of(slot) {
            // A new one comes when it is needed.
            lane.pipe = lane.pipe.take().filter(|pipe| pipe.bytes == 0);
        }
    }
}

impl Lane {
    /// Lets go what the kernel keeps back for the target.
    fn rest(&mut self) {
        if let Some(target) = &mut self.target {
            target.cork(false);
        }
    }
}

impl Target {
    /// Has the kernel keep the rest of a segment back, or let it go. A frame of 64 KiB and its header are a little
    /// longer than the longest segment, and the rest costs as much as a whole one.
    fn cork(&mut self, is_corked: bool) {
        if let Some(file) = &self.file
            && is_corked != self.is_corked
        {
            let done = rustix::net::sockopt::set_tcp_cork(file, is_corked);
            self.is_corked = done.map_or(self.is_corked, |()| is_corked);
        }
    }
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES)?;
        Ok(Self {
            read,
            write,
            bytes: 0,
        })
    }

    /// Puts the header into the empty pipe; false when the kernel has no page for it.
    fn begin(&mut self, header: &[u8; HEADER_BYTES]) -> bool {
        let is_there = rustix::io::write(&self.write, header) == Ok(HEADER_BYTES);
        if is_there {
            self.bytes = HEADER_COUNT;
        }
        is_there
    }

    /// Moves bytes in.
    fn fill(&self, file: &OwnedFd, count: u32) -> rustix::io::Result<u32> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = rustix::pipe::splice(file, None, &self.write, None, count, flags)?;
        Ok(u32::try_from(moved).unwrap_or(u32::MAX))
    }

    fn read_out(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.bytes).unwrap_or(0)];
        let mut have = 0;
        while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&self.read, rest) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a pipe has less in it than was put there");
                    break;
                }
            }
        }
        bytes.truncate(have);
        self.bytes -= u32::try_from(have).unwrap_or(self.bytes);
        bytes
    }
}

/// Returns the bytes that wait in a socket.
fn waiting(file: &OwnedFd) -> u64 {
    rustix::io::ioctl_fionread(file).unwrap_or(0)
}

/// splice(2) waits on a socket unless the socket itself says that it must not; operations of the ring do not
/// look at that flag.
fn set_nonblocking(file: impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)
}

/// Watches a descriptor: `token` comes back with its events.
fn watch(
    epoll: &OwnedFd,
    file: &OwnedFd,
    token: u64,
    events: EventFlags,
) -> rustix::io::Result<()> {
    epoll::add(
        epoll,
        file,
        EventData::new_u64(token),
        events | EventFlags::ET,
    )
}

/// Bytes of a frame's header.
const HEADER_BYTES: usize = ringway_proto::frame::HEADER_LEN;

/// The same.
#[expect(clippy::cast_possible_truncation, reason = "12")]
const HEADER_COUNT: u32 = HEADER_BYTES as u32;

/// Lanes of a ring: as many as the core gives out.
const LANES_MAX: usize = 32;

/// What a lane's pipe holds: 64 pieces of a page each at least, or of what the network card puts together.
const PIPE_BYTES: usize = 262_144;
