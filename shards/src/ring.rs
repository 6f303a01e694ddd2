//! One `io_uring` ring with sockets in it: accept, connect, receive, send, close, wake.
//!
//! Here: the whole of what the data plane asks of the kernel, behind a safe interface; this module's
//! files hold the only unsafe code of the workspace. Not here: what the bytes mean. The shard's data
//! thread drives a ring, and so does the load generator.
//!
//! # Driving a ring
//!
//! A [`Ring`] belongs to the thread that made it. Ask for things with [`Ring::listen`],
//! [`Ring::connect`], [`Ring::receive`], [`Ring::send`], [`Ring::close`]; nothing happens before the
//! next [`Ring::turn`], which submits everything at once, waits if told to, and appends what happened
//! to a vector of [`Completion`]s that the caller keeps and reuses.
//!
//! ```no_run
//! use ringway_shards::batch::Batch;
//! use ringway_shards::lease::Lease;
//! use ringway_shards::ring::{Completion, ConnectOptions, Ring, RingConfig, Wait};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut ring = Ring::new(&RingConfig { sockets_max: 64, ..RingConfig::default() })?;
//! ring.connect("127.0.0.1:4000".parse()?, &ConnectOptions::default(), 7)?;
//! let mut completions = Vec::new();
//! loop {
//!     ring.turn(Wait::Forever, &mut completions)?;
//!     for completion in completions.drain(..) {
//!         match completion {
//!             Completion::Connected { slot, token: _ } => {
//!                 ring.receive(slot); // once; it stays armed until `ReceiveEnded`
//!                 let mut batch = Batch::new();
//!                 batch.push_owned(b"hello".to_vec());
//!                 ring.send(slot, batch); // one at a time a slot: the next after `Sent`
//!             }
//!             Completion::Received { slot, lease } => {
//!                 println!("{} bytes", lease.len());
//!                 ring.close(slot); // `Closed` follows, and nothing of this socket after it
//!             }
//!             Completion::Closed { slot: _ } => return Ok(()),
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! For each slot the order is: `Accepted` or `Connected`; `Received`, `ReceiveEnded`, `Sent` in any
//! number; `Closed`. Where connections change rings there is `Arrived` or `HandedIn` before `Accepted`, and
//! `HandedOver` in place of all else (`ring/arrivals.rs`). A slot number is used again only after its
//! `Closed` or `HandedOver`. Leases may be kept as long as needed, on any thread; a ring whose memory is all
//! held receives nothing until some comes back.
//!
//! Invariant: `opened = closed + open` ([`RingNumbers`]) at any time.
//! Source: docs/internals/uring.md.

mod accept;
mod arrivals;
mod buffers;
mod completion;
mod config;
mod connects;
mod files;
mod names;
mod op;
mod pages;
mod sends;
mod setup;
mod socket;
mod steer;
mod wake;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use io_uring::opcode;
use ringway_proto::limits::TURN_QUANTUM;
use rustix::io::Errno;
use rustix::process::Resource;

use crate::batch::Batch;

pub use self::buffers::BufferNumbers;
pub use self::buffers::LooseBlock;
pub use self::buffers::RingLease;
pub use self::completion::Completion;
pub use self::completion::ReceiveEnd;
pub use self::completion::Slot;
pub use self::config::RingConfig;
pub use self::config::RingError;
pub use self::config::RingNumbers;
pub use self::pages::huge_pages_only_where_asked;
pub(crate) use self::pages::release_heap;
pub use self::setup::Wait;
pub use self::socket::ConnectOptions;
pub use self::socket::ListenError;
pub use self::socket::ListenOptions;
pub use self::socket::Listener;
pub(crate) use self::socket::check_source;
pub use self::steer::steer_by_source;
pub use self::wake::RingHandle;
pub use self::wake::Waker;

use self::accept::Accepts;
use self::buffers::Buffers;
use self::connects::Connects;
use self::files::Phase;
use self::files::Receive;
use self::files::SlotState;
use self::files::Slots;
use self::files::Standing;
use self::files::Vacated;
use self::names::Names;
use self::op::Kind;
use self::op::Plain;
use self::op::Tag;
use self::sends::Sends;
use self::sends::Told;
use self::setup::Cqe;
use self::setup::Kernel;
use self::setup::REAP_MAX;

/// One ring and its sockets. See the module's page for how to drive it.
pub struct Ring {
    // Dropped in this order: the kernel's side first, then the memory it was lent.
    kernel: Kernel,
    buffers: Buffers,
    sends: Sends,
    connects: Connects,
    names: Names,
    slots: Slots,
    accepts: Accepts,
    waker: Waker,
    handle: RingHandle,
    is_wake_armed: bool,
    /// Slots whose receive waits for a block.
    starved: VecDeque<u32>,
    /// Batches for sockets that are not open; they go back with the next turn.
    refused: Vec<(Slot, Batch<RingLease>)>,
    /// Slots whose close completed while operations were in flight; looked at in the next turn.
    lingering: Vec<u32>,
    /// Hand-overs under way.
    handing: u32,
    numbers: RingNumbers,
}

/// Memory of one slot of the file table, in this process.
pub(crate) const SLOT_BYTES: usize = Slots::SLOT_BYTES;

/// Memory of one connect under way.
pub(crate) const CONNECT_BYTES: usize = Connects::CONNECT_BYTES;

/// Memory of one send in flight.
pub(crate) const SEND_BYTES: usize = Sends::SEND_BYTES;

impl Ring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// See [`RingError`]; each says how to fix it.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        let limit = rustix::process::getrlimit(Resource::Nofile)
            .current
            .unwrap_or(u64::MAX);
        let want = u64::from(config.sockets_max);
        if want > limit {
            return Err(RingError::FileLimit { want, have: limit });
        }
        let kernel = Kernel::new(config.entries)?;
        if let Some(time) = config.napi {
            kernel.poll_cards(time)?;
        }
        if config.zero_copy_min.is_some() && !kernel.has(opcode::SendMsgZc::CODE) {
            return Err(RingError::Unsupported {
                feature: "IORING_OP_SENDMSG_ZC, which tcp.zero_copy asks for",
                since: "6.1",
            });
        }
        kernel
            .submitter()
            .register_files_sparse(config.sockets_max)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::MFILE) => RingError::FileLimit { want, have: limit },
                Some(Errno::NOMEM) => RingError::Memory,
                _ => RingError::local("registering the file table", error),
            })?;
        let bytes = [config.block_bytes, config.block_bytes_plain];
        let buffers = Buffers::new(
            &kernel,
            config.blocks,
            bytes,
            config.blocks_max,
            config.incremental,
        )?;
        let waker = Waker::new().map_err(|error| RingError::local("eventfd", error))?;
        let handle = kernel
            .duplicate()
            .map_err(|error| RingError::local("dup", error))?;
        Ok(Self {
            kernel,
            buffers,
            sends: Sends::new(config.zero_copy_min),
            connects: Connects::new(),
            names: Names::new(),
            slots: Slots::new(config.sockets_max),
            accepts: Accepts::default(),
            waker,
            handle: RingHandle::new(handle),
            is_wake_armed: false,
            starved: VecDeque::new(),
            refused: Vec::new(),
            lingering: Vec::new(),
            handing: 0,
            numbers: RingNumbers::default(),
        })
    }

    /// Stops accepting and closes all listeners: the kernel refuses further connections to them.
    pub fn unlisten(&mut self) {
        self.accepts.unlisten(&mut self.kernel);
    }

    /// Stops accepting; connections wait in the backlog. Those accepted before the kernel has seen
    /// this are still reported.
    pub fn pause_accept(&mut self) {
        self.accepts.pause(&mut self.kernel);
    }

    /// Accepts again after [`Ring::pause_accept`].
    pub fn resume_accept(&mut self) {
        self.accepts.resume();
    }

    /// Starts receiving on a socket; it goes on until `ReceiveEnded` or `Closed`. After `ReceiveEnded`
    /// it may be asked for again.
    pub fn receive(&mut self, slot: Slot) {
        let Some(state) = self.slots.of_mut(slot.0) else {
            return;
        };
        if state.phase != Phase::Open
            || state.standing != Standing::Known
            || !matches!(state.receive, Receive::Idle | Receive::Ended)
        {
            return;
        }
        state.receive = Receive::Armed;
        self.kernel.push(Plain::Receive {
            slot: slot.0,
            generation: state.generation,
        });
    }

    /// Stops receiving: `ReceiveEnded` with `ECANCELED` follows, unless the receive ended by itself
    /// before. Bytes that arrive later stay in the kernel, and fill the window of the socket.
    pub fn stop_receive(&mut self, slot: Slot) {
        let state = self.slots.of(slot.0);
        let state = state.filter(|state| state.phase == Phase::Open);
        if let Some([Some(receive), _]) = state.map(|state| state.tags(slot.0)) {
            self.kernel.push(Plain::Cancel { tag: receive });
        }
    }

    /// Sends a batch; `Sent` follows, with `ECANCELED` if the socket is not open any more.
    ///
    /// # Panics
    /// When a send is in flight on the slot already: two gather sends could interleave their bytes.
    pub fn send(&mut self, slot: Slot, batch: Batch<RingLease>) {
        let state = self.slots.of_mut(slot.0);
        let is_usable = |state: &&mut SlotState| {
            state.phase == Phase::Open && state.standing == Standing::Known
        };
        let Some(state) = state.filter(is_usable) else {
            self.refused.push((slot, batch));
            return;
        };
        assert!(state.send.is_none(), "one send at a time on a socket");
        let tag = self.sends.start(&mut self.kernel, (slot.0, *state), batch);
        state.send = Some(tag.index);
    }

    /// Cancels the send in flight on a socket, if there is one: its `Sent` says how many bytes the
    /// kernel had taken, or `ECANCELED` for none.
    pub fn cancel_send(&mut self, slot: Slot) {
        let Some(state) = self.slots.of(slot.0) else {
            return;
        };
        if state.phase == Phase::Open
            && let Some(index) = state.send
        {
            let tag = Tag::new(Kind::Send, state.generation, index);
            self.kernel.push(Plain::Cancel { tag });
        }
    }

    /// Cancels what is in flight on a socket and closes it; `Closed` follows when both are done. A
    /// socket with bytes in flight is reset.
    pub fn close(&mut self, slot: Slot) {
        let Some(state) = self.slots.of_mut(slot.0) else {
            return;
        };
        if state.phase != Phase::Open {
            return;
        }
        state.phase = Phase::Closing;
        // A close alone does not end a multishot receive, which keeps the socket: the peer would see
        // it open for ever (docs/internals/uring.md E). Cancelling by user data finds the operation in a
        // hash table; by descriptor the kernel walks all armed operations of the ring: 223 us a close
        // among 8,100 armed receives against 9.5 us (kernel 6.18, the ignored test
        // `cost_of_a_close_among_many_armed_receives`).
        let close = Plain::Close {
            slot: slot.0,
            generation: state.generation,
        };
        match state.tags(slot.0) {
            [None, None] => self.kernel.push(close),
            [Some(tag), None] | [None, Some(tag)] => {
                self.kernel.push_linked(&[Plain::Cancel { tag }, close]);
            }
            [Some(receive), Some(send)] => self.kernel.push_linked(&[
                Plain::Cancel { tag: receive },
                Plain::Cancel { tag: send },
                close,
            ]),
        }
    }

    /// Wakes another ring with the next turn of this one.
    pub fn wake(&mut self, target: &RingHandle) {
        self.kernel.push(Plain::Message { ring: target.fd() });
    }

    /// Submits what was asked for, waits as told, and appends what happened to `completions`: at most
    /// a quantum, the rest with the next turn.
    ///
    /// # Errors
    /// When the ring itself fails, which leaves it useless.
    pub fn turn(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Result<(), RingError> {
        self.numbers.turns += 1;
        self.prepare();
        let wait = self.bounded(wait);
        for (slot, batch) in self.refused.drain(..) {
            let result = Err(Errno::CANCELED.raw_os_error());
            completions.push(Completion::Sent {
                slot,
                batch,
                result,
            });
        }
        self.kernel.enter(wait)?;
        let mut cqes = [Cqe::default(); REAP_MAX];
        let mut handled = 0;
        while handled < TURN_QUANTUM {
            let count = self.kernel.reap(&mut cqes);
            for cqe in &cqes[..count] {
                self.complete(*cqe, completions);
            }
            handled = handled.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            if count < REAP_MAX {
                break;
            }
        }
        self.numbers.completions += u64::from(handled);
        Ok(())
    }

    /// Returns whether a turn without waiting would find completions. Costs no system call.
    pub fn is_ready(&mut self) -> bool {
        !self.refused.is_empty() || self.kernel.is_ready()
    }

    /// Returns whether something was asked for that no turn has submitted yet.
    pub fn has_requests(&mut self) -> bool {
        self.kernel.has_requests()
    }

    /// Returns what other rings need to wake this one.
    #[must_use]
    pub fn handle(&self) -> RingHandle {
        self.handle.clone()
    }

    /// Returns what ordinary threads need to wake this ring.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns the address of the first listener.
    #[must_use]
    pub fn listen_address(&self) -> Option<SocketAddr> {
        self.accepts.address(0)
    }

    /// Returns the slots of the file table.
    #[must_use]
    pub fn sockets_max(&self) -> u32 {
        self.slots.capacity()
    }

    /// Returns whether one slot at most is free, those of sockets that are being closed or handed over not
    /// counted as such: another accept could find the table full.
    #[must_use]
    pub const fn is_nearly_full(&self) -> bool {
        self.slots.used() + 1 >= self.slots.capacity()
    }

    /// Returns the open sockets.
    pub fn open_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.open_slots().map(Slot)
    }

    /// Returns whether leases hold so much of the receive memory that what waits should be copied out.
    #[must_use]
    pub fn is_memory_short(&self) -> bool {
        self.buffers.is_short()
    }

    /// Gives back memory that only more sockets and more traffic than there are would need. What is in
    /// flight, lent or leased stays.
    pub fn trim(&mut self) {
        self.slots.trim();
        self.sends.trim();
        self.buffers.release();
    }

    /// Returns the counters and gauges.
    pub fn numbers(&mut self) -> RingNumbers {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        RingNumbers {
            sockets_opened: self.slots.opened(),
            sockets_closed: self.slots.closed(),
            sockets_current: u64::from(self.slots.used()),
            sends_current: count(self.sends.count()),
            connects_current: count(self.connects.count()),
            hand_overs_current: u64::from(self.handing),
            completions_overflowed: u64::from(self.kernel.overflows_count()),
            starved_current: count(self.starved.len()),
            zero_copy_sends: self.sends.zero_copy_sends(),
            zero_copy_bytes_current: self.sends.zero_copy_bytes(),
            buffers: self.buffers.numbers(),
            ..self.numbers
        }
    }

    /// Re-arms what has ended by itself.
    fn prepare(&mut self) {
        if self.buffers.recycle() {
            self.feed_starved();
        }
        if !self.is_wake_armed {
            self.is_wake_armed = true;
            self.kernel.push(Plain::WatchWake {
                eventfd: self.waker.fd(),
            });
        }
        self.accepts.arm(&mut self.kernel);
        self.chase();
    }

    fn feed_starved(&mut self) {
        while let Some(slot) = self.starved.pop_front() {
            let Some(state) = self.slots.of_mut(slot) else {
                continue;
            };
            if state.phase == Phase::Open && state.receive == Receive::Starved {
                state.receive = Receive::Armed;
                let generation = state.generation;
                self.kernel.push(Plain::Receive { slot, generation });
            }
        }
    }

    /// Cancels once more what outlived the close of its socket. The linked cancel normally ends it;
    /// this covers a link torn by a full queue, which would leak the socket.
    fn chase(&mut self) {
        for slot in self.lingering.drain(..) {
            let Some(state) = self.slots.of_mut(slot) else {
                continue;
            };
            if state.phase != Phase::Closing || state.is_chased {
                continue;
            }
            state.is_chased = true;
            self.numbers.closes_chased += 1;
            for tag in state.tags(slot).into_iter().flatten() {
                self.kernel.push(Plain::Cancel { tag });
            }
        }
    }

    /// Shortens a wait that nobody would end.
    fn bounded(&self, wait: Wait) -> Wait {
        if !self.refused.is_empty() {
            return Wait::No;
        }
        let limit = if !self.starved.is_empty() {
            // The block may be held by another shard, which does not say when it lets go.
            STARVED_POLL
        } else if let Some(limit) = self.accepts.wait_max() {
            limit
        } else {
            return wait;
        };
        match wait {
            Wait::Forever => Wait::For(limit),
            Wait::For(duration) => Wait::For(duration.min(limit)),
            Wait::No => Wait::No,
        }
    }

    fn complete(&mut self, cqe: Cqe, completions: &mut Vec<Completion>) {
        let Some(tag) = Tag::decode(cqe.user_data) else {
            self.numbers.completions_stale += 1;
            return;
        };
        match tag.kind {
            Kind::Accept => self.on_accept(tag, cqe, completions),
            // Reported only when there was nothing to cancel or to shut down, which is no news.
            Kind::Cancel | Kind::Shutdown => {}
            Kind::Close => self.on_close(tag, completions),
            Kind::Connect => self.on_connect(tag, cqe, completions),
            Kind::HandIn => self.on_hand_in(tag, cqe, completions),
            Kind::HandOver => self.on_hand_over(tag, cqe, completions),
            Kind::Install => self.on_install(tag, cqe, completions),
            Kind::Name => self.on_name(tag, cqe, completions),
            Kind::Receive => self.on_receive(tag, cqe, completions),
            Kind::Send => self.on_send(tag, cqe, completions),
            Kind::Wake => {
                self.numbers.wakes += 1;
                if tag.generation == 1 && !io_uring::cqueue::more(cqe.flags) {
                    self.is_wake_armed = false;
                }
                completions.push(Completion::Woken);
            }
        }
    }

    fn on_close(&mut self, tag: Tag, completions: &mut Vec<Completion>) {
        let slot = tag.index;
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        if state.phase != Phase::Closing || !is_current(state.generation, tag) {
            self.numbers.completions_stale += 1;
            return;
        }
        state.is_closed = true;
        if !state.is_quiet() {
            self.lingering.push(slot);
        }
        self.settle(slot, completions);
    }

    fn on_receive(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let slot = tag.index;
        let lease = self.lease(cqe);
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        if state.phase == Phase::Free || !is_current(state.generation, tag) {
            self.numbers.completions_stale += 1;
            return;
        }
        let is_open = state.phase == Phase::Open;
        let is_over = !io_uring::cqueue::more(cqe.flags);
        if is_over {
            state.receive = Receive::Ended;
        }
        if let Some(lease) = lease {
            if is_open {
                completions.push(Completion::Received {
                    slot: Slot(slot),
                    lease,
                });
            }
            if is_over && is_open {
                // Ended with data: the completion queue was full. Go on.
                state.receive = Receive::Armed;
                let generation = state.generation;
                self.kernel.push(Plain::Receive { slot, generation });
            }
        } else if is_open {
            match error_of(cqe.result) {
                Some(Errno::NOBUFS) => {
                    state.receive = Receive::Starved;
                    self.numbers.receives_starved += 1;
                    self.starved.push_back(slot);
                }
                Some(Errno::AGAIN | Errno::INTR) => {
                    state.receive = Receive::Armed;
                    let generation = state.generation;
                    self.kernel.push(Plain::Receive { slot, generation });
                }
                error => {
                    let end = error.map_or(ReceiveEnd::Eof, |error| {
                        ReceiveEnd::Error(error.raw_os_error())
                    });
                    completions.push(Completion::ReceiveEnded {
                        slot: Slot(slot),
                        end,
                    });
                }
            }
        }
        self.settle(slot, completions);
    }

    /// Returns the bytes of a receive; also notes that the kernel is done with a block.
    fn lease(&mut self, cqe: Cqe) -> Option<RingLease> {
        let id = io_uring::cqueue::buffer_select(cqe.flags)?;
        let len = u32::try_from(cqe.result).ok()?;
        let is_incremental = self.buffers.is_incremental();
        if is_incremental && len == 0 {
            // Nothing was taken from the block; kernels before 6.17 lack the flag here.
            return None;
        }
        let is_done = !is_incremental || !io_uring::cqueue::buffer_more(cqe.flags);
        Some(self.buffers.take(id, len, is_done)).filter(|_| len > 0)
    }

    fn on_send(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let (slot, batch) = match self.sends.finish(tag.index, cqe) {
            None => return,
            Some(Told::Released { batch, is_copied }) => {
                self.numbers.zero_copy_copied += u64::from(is_copied);
                completions.push(Completion::Released { batch });
                return;
            }
            Some(Told::Sent { slot, batch }) => (slot, batch),
        };
        if let Some(state) = self.slots.of_mut(slot) {
            state.send = None;
        }
        let result = u32::try_from(cqe.result).map_err(|_| errno_of(cqe.result));
        completions.push(Completion::Sent {
            slot: Slot(slot),
            batch,
            result,
        });
        self.settle(slot, completions);
    }

    /// Ends the slot's use if its socket is closed and quiet, and lets the successor in.
    fn settle(&mut self, slot: u32, completions: &mut Vec<Completion>) {
        let Some(state) = self.slots.of(slot) else {
            return;
        };
        if state.phase != Phase::Closing || !state.is_quiet() {
            return;
        }
        let Vacated {
            successor,
            is_announced,
            connect,
        } = self.slots.vacate(slot);
        self.accepts.slot_freed();
        if is_announced {
            completions.push(Completion::Closed { slot: Slot(slot) });
        }
        if let Some(op) = connect.and_then(|index| self.connects.finish(index)) {
            completions.push(Completion::ConnectFailed {
                token: op.token,
                errno: op.errno,
            });
        }
        if let Some(successor) = successor {
            self.move_in(slot, successor, completions);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Memory of operations in flight may be freed only after their completions. Cancelling is
        // immediate for sockets; what is not back after the bounded wait is leaked, not freed. A receive
        // writes only while this thread is inside `turn` (`DEFER_TASKRUN`), so after the last turn none
        // does, whatever handles other rings still hold.
        self.unlisten();
        self.kernel.cancel_all(DROP_WAIT);
        let mut completions = Vec::new();
        for _ in 0..DROP_TURNS {
            let is_quiet =
                self.sends.count() == 0 && self.connects.count() == 0 && self.names.count() == 0;
            if is_quiet && self.accepts.is_idle() && !self.slots.is_receiving() {
                break;
            }
            if self.turn(Wait::For(DROP_WAIT), &mut completions).is_err() {
                break;
            }
            completions.clear();
        }
        if self.sends.count() > 0 || self.connects.count() > 0 || self.names.count() > 0 {
            tracing::error!("a ring ends with operations in flight; their memory is leaked");
            self.sends.leak();
            self.connects.leak();
            self.names.leak();
        }
        // Closes the sockets now; without it a kernel worker does so some time later.
        if let Err(error) = self.kernel.submitter().unregister_files() {
            tracing::debug!(%error, "unregistering the file table");
        }
        self.buffers.unregister(&self.kernel);
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("buffers", &self.buffers)
            .field("sends", &self.sends)
            .field("connects", &self.connects)
            .finish_non_exhaustive()
    }
}

const fn is_current(generation: u32, tag: Tag) -> bool {
    generation & op::GENERATION_MASK == tag.generation
}

/// Returns the error of a result, if it is one.
fn error_of(result: i32) -> Option<Errno> {
    ERRORS
        .contains(&result)
        .then(|| Errno::from_raw_os_error(-result))
}

/// Returns the errno of a failed result.
fn errno_of(result: i32) -> i32 {
    error_of(result).unwrap_or(Errno::IO).raw_os_error()
}

/// Results that are errors. Source: `MAX_ERRNO` of the kernel.
const ERRORS: std::ops::Range<i32> = -4_095..0;

/// How often a starved ring looks for returned blocks that nobody tells it of.
const STARVED_POLL: Duration = Duration::from_millis(1);

/// Wait of each of the [`DROP_TURNS`] in which a dropped ring gets its operations back.
const DROP_WAIT: Duration = Duration::from_millis(50);

/// See [`DROP_WAIT`].
const DROP_TURNS: u32 = 20;
