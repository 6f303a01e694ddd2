//! Gather sends: what one owns until it completes.
//!
//! Here: the table of sends in flight. Not here: what goes into a batch (`core::egress`).
//!
//! Invariant: batch, slices and header of a send are owned by its boxed table entry from submission to
//! completion; growing the table moves no memory the kernel knows.

#![expect(
    unsafe_code,
    reason = "the kernel reads batches by address; docs/internals/unsafe.md"
)]

use std::fmt;
use std::io::IoSlice;
use std::slice;

use io_uring::opcode;
use io_uring::types::Fixed;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use socket2::MsgHdr;

use super::buffers::RingLease;
use super::op::Kind;
use super::op::Tag;
use super::op::index_of;
use super::op::place_of;
use super::setup::Kernel;
use crate::batch::Batch;

/// A gather send in flight.
struct Send {
    slot: u32,
    /// From `start` to `finish`.
    is_in_flight: bool,
    batch: Batch<RingLease>,
    /// The slices of `batch`.
    slices: Vec<IoSlice<'static>>,
    /// Points to `slices`.
    header: MsgHdr<'static, 'static, 'static>,
}

/// The gather sends in flight; at most one a slot.
pub(super) struct Sends {
    #[expect(
        clippy::vec_box,
        reason = "the kernel knows the addresses: they must not move"
    )]
    table: Vec<Box<Send>>,
    idle: Vec<u32>,
}

impl Sends {
    /// Memory of one send in flight, what its batch points to excepted: box, slices, places in the
    /// tables.
    pub(super) const SEND_BYTES: usize = size_of::<Send>()
        + SLICES_TYPICAL * size_of::<IoSlice<'static>>()
        + size_of::<Box<Send>>()
        + size_of::<u32>();

    pub(super) const fn new() -> Self {
        Self {
            table: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Takes the batch and submits it on `slot`; returns the tag of the operation.
    ///
    /// The kernel reports once, when all is sent or sending has failed (`MSG_WAITALL`).
    pub(super) fn start(
        &mut self,
        kernel: &mut Kernel,
        slot: u32,
        generation: u32,
        batch: Batch<RingLease>,
    ) -> Tag {
        let index = self.idle.pop().unwrap_or_else(|| {
            let slices = Vec::with_capacity(SLICES_TYPICAL);
            let op = Send {
                slot,
                is_in_flight: false,
                batch: Batch::new(),
                slices,
                header: MsgHdr::new(),
            };
            self.table.push(Box::new(op));
            index_of(self.table.len() - 1)
        });
        let op = &mut self.table[place_of(index)];
        op.slot = slot;
        op.is_in_flight = true;
        op.batch = batch;
        op.slices.clear();
        let slices = &mut op.slices;
        op.batch.for_each_slice(|bytes| {
            if slices.len() < SLICES_MAX && !bytes.is_empty() {
                slices.push(IoSlice::new(unbound(bytes)));
            }
        });
        op.header = MsgHdr::new().with_buffers(unbound(&op.slices));
        // `MsgHdr` is a transparent wrapper of `msghdr`.
        let header = &raw const op.header;
        let tag = Tag::new(Kind::Send, generation, index);
        let entry = opcode::SendMsg::new(Fixed(slot), header.cast())
            .flags(SEND_FLAGS)
            .build()
            .user_data(tag.encode());
        // SAFETY: the boxed operation owns header, slices and batch; nothing changes them before
        // `finish` takes the operation back on its completion, and `Ring::drop` leaks what has none.
        unsafe { kernel.push_entry(entry) };
        tag
    }

    /// Ends an operation; returns its slot and its batch.
    pub(super) fn finish(&mut self, index: u32) -> Option<(u32, Batch<RingLease>)> {
        let op = self.table.get_mut(place_of(index))?;
        if !std::mem::take(&mut op.is_in_flight) {
            return None;
        }
        let batch = std::mem::take(&mut op.batch);
        op.slices.clear();
        op.header = MsgHdr::new();
        if self.idle.len() >= IDLE_SLICES_MAX {
            op.slices = Vec::new();
        }
        self.idle.push(index);
        Some((op.slot, batch))
    }

    /// Frees idle operations behind the last one in flight.
    pub(super) fn trim(&mut self) {
        while self.table.pop_if(|op| !op.is_in_flight).is_some() {}
        let len = self.table.len();
        self.table.shrink_to_fit();
        self.idle.retain(|index| place_of(*index) < len);
        self.idle.shrink_to_fit();
    }

    /// Returns the operations in flight.
    pub(super) fn count(&self) -> usize {
        self.table.len() - self.idle.len()
    }

    /// Gives up the memory of all operations without freeing it.
    pub(super) fn leak(&mut self) {
        for op in self.table.drain(..) {
            Box::leak(op);
        }
        self.idle.clear();
    }
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends")
            .field("count", &self.count())
            .finish()
    }
}

/// Returns the slice without its lifetime. Private to the tables of operations: the result never
/// outlives the operation that owns what it points to.
fn unbound<T>(slice: &[T]) -> &'static [T] {
    // SAFETY: pointer and length come from a valid slice; the operation that owns the memory (a batch,
    // or a vector of slices) keeps it in place until `finish` has dropped every copy of the result.
    unsafe { slice::from_raw_parts(slice.as_ptr(), slice.len()) }
}

/// `MSG_WAITALL`: the kernel goes on with a short send by itself. `MSG_NOSIGNAL`: a closed peer is an
/// error, not a signal. Source: `io_uring_enter(2)`, `IORING_OP_SENDMSG` (5.18 for `MSG_WAITALL`).
const SEND_FLAGS: u32 = SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits();

/// `UIO_MAXIOV`: the kernel refuses more.
const SLICES_MAX: usize = 1_024;

/// Slices of a usual batch, so that building one does not allocate.
pub(super) const SLICES_TYPICAL: usize = 72;

/// Idle operations that keep the memory of their slices: 1.2 MiB a ring. After a burst of one send to
/// each of many sessions, as a drain is, the rest gives it back: it would be 1.2 KB a session for ever.
const IDLE_SLICES_MAX: usize = 1_024;
