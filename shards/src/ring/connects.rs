//! Outbound connections: what one owns until it stands.
//!
//! Here: installing a socket in the file table and connecting it. Not here: its options (`socket`).
//!
//! Invariant: descriptor cell and address of a connect are owned by its boxed table entry from
//! submission to completion; growing the table moves no memory the kernel knows.

#![expect(
    unsafe_code,
    reason = "the kernel reads addresses and writes a cell; docs/internals/unsafe.md"
)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

use io_uring::opcode;
use io_uring::types::Fixed;
use rustix::io::Errno;
use socket2::SockAddr;

use super::Ring;
use super::completion::Completion;
use super::completion::Slot;
use super::error_of;
use super::files::Phase;
use super::files::Standing;
use super::files::Successor;
use super::op::Kind;
use super::op::Plain;
use super::op::Tag;
use super::op::index_of;
use super::op::place_of;
use super::setup::Cqe;
use super::setup::Kernel;
use super::socket;
use super::socket::ConnectOptions;

/// An outbound connection being made.
pub(super) struct Connect {
    pub(super) token: u64,
    /// The slot, once installed.
    pub(super) slot: Option<u32>,
    /// Why it failed, once it has.
    pub(super) errno: i32,
    /// Whoever asked has given it up.
    is_cancelled: bool,
    /// Dropped once the file table holds the socket.
    pub(super) socket: Option<OwnedFd>,
    /// Where to; none for a socket that is connected already.
    address: Option<SockAddr>,
    /// In: the descriptor. Out: the slot the kernel chose. Written by the kernel.
    cell: AtomicI32,
}

/// The outbound connections being made.
pub(super) struct Connects {
    table: Vec<Option<Box<Connect>>>,
    idle: Vec<u32>,
}

impl Connects {
    /// Memory of one connect: box and places in the tables.
    pub(super) const CONNECT_BYTES: usize =
        size_of::<Connect>() + size_of::<Option<Box<Connect>>>() + size_of::<u32>();

    pub(super) const fn new() -> Self {
        Self {
            table: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Takes a socket and asks the kernel for a slot for it.
    pub(super) fn install(
        &mut self,
        kernel: &mut Kernel,
        socket: OwnedFd,
        address: Option<SockAddr>,
        token: u64,
    ) {
        let cell = AtomicI32::new(socket.as_raw_fd());
        let op = Box::new(Connect {
            token,
            slot: None,
            errno: 0,
            is_cancelled: false,
            socket: Some(socket),
            address,
            cell,
        });
        let cell = op.cell.as_ptr();
        let index = self.idle.pop().unwrap_or_else(|| {
            self.table.push(None);
            index_of(self.table.len() - 1)
        });
        self.table[place_of(index)] = Some(op);
        let entry = opcode::FilesUpdate::new(cell, 1)
            .offset(ALLOCATE)
            .build()
            .user_data(Tag::new(Kind::Install, 0, index).encode());
        // SAFETY: the boxed operation owns the cell and stays in the table until its completion.
        unsafe { kernel.push_entry(entry) };
    }

    /// Notes that the socket was installed; returns the slot the kernel chose.
    pub(super) fn installed(&mut self, index: u32) -> Option<u32> {
        let op = self.table.get_mut(place_of(index))?.as_mut()?;
        op.socket = None;
        let slot = u32::try_from(op.cell.load(Ordering::Acquire)).ok()?;
        op.slot = Some(slot);
        Some(slot)
    }

    /// Connects the installed socket.
    pub(super) fn start(&self, kernel: &mut Kernel, index: u32, generation: u32) {
        let Some(Some(op)) = self.table.get(place_of(index)) else {
            return;
        };
        let (Some(slot), Some(address)) = (op.slot, &op.address) else {
            return;
        };
        let entry = opcode::Connect::new(Fixed(slot), address.as_ptr().cast(), address.len())
            .build()
            .user_data(Tag::new(Kind::Connect, generation, index).encode());
        // SAFETY: the boxed operation owns the address and stays in the table until its completion.
        unsafe { kernel.push_entry(entry) };
    }

    /// Gives up a connect; returns its slot if it has one. Bound: looks through the connects under way.
    pub(super) fn cancel(&mut self, token: u64) -> Option<u32> {
        let mut table = self.table.iter_mut().flatten();
        let op = table.find(|op| op.token == token)?;
        op.is_cancelled = true;
        op.slot
    }

    /// Returns the slot of a connect.
    pub(super) fn slot_of(&self, index: u32) -> Option<u32> {
        self.table.get(place_of(index))?.as_ref()?.slot
    }

    /// Returns whether the socket is connected as soon as it is installed.
    pub(super) fn is_adopted(&self, index: u32) -> bool {
        let op = self.table.get(place_of(index)).and_then(Option::as_ref);
        op.is_some_and(|op| op.address.is_none())
    }

    pub(super) fn is_cancelled(&self, index: u32) -> bool {
        let op = self.table.get(place_of(index)).and_then(Option::as_ref);
        op.is_some_and(|op| op.is_cancelled)
    }

    /// Notes why a connect failed; it ends when its socket is closed.
    pub(super) fn fail(&mut self, index: u32, errno: i32) {
        if let Some(Some(op)) = self.table.get_mut(place_of(index)) {
            op.errno = errno;
        }
    }

    /// Ends an operation.
    pub(super) fn finish(&mut self, index: u32) -> Option<Connect> {
        let op = self.table.get_mut(place_of(index))?.take()?;
        self.idle.push(index);
        Some(*op)
    }

    /// Returns the operations in flight.
    pub(super) fn count(&self) -> usize {
        self.table.len() - self.idle.len()
    }

    /// Gives up the memory of all operations without freeing it.
    pub(super) fn leak(&mut self) {
        for op in self.table.drain(..).flatten() {
            Box::leak(op);
        }
        self.idle.clear();
    }
}

impl Ring {
    /// Connects to `target`. `Connected` or `ConnectFailed` with `token` follows.
    ///
    /// # Errors
    /// When the socket could not be made; then nothing follows.
    pub fn connect(
        &mut self,
        target: SocketAddr,
        options: &ConnectOptions,
        token: u64,
    ) -> io::Result<()> {
        self.numbers.connects_started += 1;
        let socket = socket::outbound(target, options)?;
        self.connects
            .install(&mut self.kernel, socket, Some(target.into()), token);
        Ok(())
    }

    /// Takes a stream socket that is connected, one of a pair. `Connected` or `ConnectFailed` with `token`
    /// follows.
    pub fn adopt(&mut self, socket: OwnedFd, token: u64) {
        self.connects.install(&mut self.kernel, socket, None, token);
    }

    /// Gives up a connect. `ConnectFailed` follows with `ECANCELED`, or `Connected` if it was made first.
    pub fn cancel_connect(&mut self, token: u64) {
        let slot = self.connects.cancel(token);
        if let Some(state) = slot.and_then(|slot| self.slots.of(slot))
            && state.is_connecting
            && let Some(index) = state.connect
        {
            let tag = Tag::new(Kind::Connect, state.generation, index);
            self.kernel.push(Plain::Cancel { tag });
        }
    }

    pub(super) fn on_install(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        // The kernel reports how many it installed, or an errno.
        if cqe.result == 1
            && let Some(slot) = self.connects.installed(tag.index)
        {
            self.move_in(slot, Successor::Installed(tag.index), completions);
            return;
        }
        if let Some(op) = self.connects.finish(tag.index) {
            let errno = error_of(cqe.result).unwrap_or(Errno::NFILE).raw_os_error();
            completions.push(Completion::ConnectFailed {
                token: op.token,
                errno,
            });
        }
    }

    pub(super) fn on_connect(&mut self, tag: Tag, cqe: Cqe, completions: &mut Vec<Completion>) {
        let Some(slot) = self.connects.slot_of(tag.index) else {
            return;
        };
        let Some(state) = self.slots.of_mut(slot) else {
            return;
        };
        state.is_connecting = false;
        if cqe.result == 0 && state.phase == Phase::Open {
            state.standing = Standing::Known;
            state.connect = None;
            if let Some(op) = self.connects.finish(tag.index) {
                completions.push(Completion::Connected {
                    slot: Slot(slot),
                    token: op.token,
                });
            }
            return;
        }
        let errno = error_of(cqe.result).unwrap_or(Errno::CANCELED);
        self.fail_connect(tag.index, slot, errno);
        self.settle(slot, completions);
    }

    /// Closes a socket that did not get its connection. The end of the close leads to the report, since
    /// until then the socket has its port.
    pub(super) fn fail_connect(&mut self, index: u32, slot: u32, errno: Errno) {
        self.connects.fail(index, errno.raw_os_error());
        self.close(Slot(slot));
    }
}

impl fmt::Debug for Connects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connects")
            .field("count", &self.count())
            .finish()
    }
}

/// `IORING_FILE_INDEX_ALLOC`: the kernel chooses the slot (6.0).
const ALLOCATE: i32 = -1;
