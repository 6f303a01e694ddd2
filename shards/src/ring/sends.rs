//! Gather sends: what one owns until it completes.
//!
//! Here: the table of sends in flight. Not here: what goes into a batch (`core::egress`).
//!
//! Invariant: batch, slices and header of a send are owned by its boxed table entry from submission to the
//! last completion; growing the table moves no memory the kernel knows.
//!
//! A send without a copy has two completions: it is sent (the owner gets a stand-in for the batch and may
//! send the next one), and the kernel has let go of its memory, which is when the peer's host has
//! acknowledged the last byte. Bound: [`ZERO_COPY_BYTES_MAX`] held that way; beyond it sends are copied.
//! Source: `io_uring_enter(2)`, `IORING_OP_SEND_ZC`.

#![expect(
    unsafe_code,
    reason = "the kernel reads batches by address; docs/internals/unsafe.md"
)]

use std::fmt;
use std::io::IoSlice;
use std::slice;

use io_uring::cqueue;
use io_uring::opcode;
use io_uring::types::Fixed;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use socket2::MsgHdr;

use super::buffers::RingLease;
use super::files::Origin;
use super::files::SlotState;
use super::op::Kind;
use super::op::Tag;
use super::op::index_of;
use super::op::place_of;
use super::setup::Cqe;
use super::setup::Kernel;
use crate::batch::Batch;

/// A gather send in flight.
struct Send {
    slot: u32,
    state: State,
    /// Bytes that the kernel gets by reference; none of an ordinary send.
    zero_copy_bytes: u64,
    batch: Batch<RingLease>,
    /// The slices of `batch`.
    slices: Vec<IoSlice<'static>>,
    /// Points to `slices`.
    header: MsgHdr<'static, 'static, 'static>,
}

/// Where a send is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody's.
    Idle,
    /// Submitted; no completion yet.
    InFlight,
    /// Sent, and the kernel may read its memory again.
    Held,
}

/// What a completion says of a send.
#[derive(Debug)]
pub(super) enum Told {
    /// The kernel has let go of a batch; whether it had to copy it.
    Released {
        batch: Batch<RingLease>,
        is_copied: bool,
    },
    /// The send has ended.
    Sent { slot: u32, batch: Batch<RingLease> },
}

/// The gather sends in flight, at most one a slot, and those whose memory the kernel holds.
pub(super) struct Sends {
    #[expect(
        clippy::vec_box,
        reason = "the kernel knows the addresses: they must not move"
    )]
    table: Vec<Box<Send>>,
    idle: Vec<u32>,
    zero_copy_min: Option<usize>,
    zero_copy_bytes: u64,
    zero_copy_sends: u64,
}

impl Sends {
    /// Memory of one send in flight, what its batch points to excepted: box, slices, places in the
    /// tables.
    pub(super) const SEND_BYTES: usize = size_of::<Send>()
        + SLICES_TYPICAL * size_of::<IoSlice<'static>>()
        + size_of::<Box<Send>>()
        + size_of::<u32>();

    /// Returns an empty table. Sends of at least `zero_copy_min` bytes go without a copy.
    pub(super) fn new(zero_copy_min: Option<u32>) -> Self {
        Self {
            table: Vec::new(),
            idle: Vec::new(),
            zero_copy_min: zero_copy_min.map(|min| usize::try_from(min).unwrap_or(usize::MAX)),
            zero_copy_bytes: 0,
            zero_copy_sends: 0,
        }
    }

    /// Takes the batch and submits it on `slot`; returns the tag of the operation.
    ///
    /// The kernel reports when all is sent or sending has failed (`MSG_WAITALL`), and once more when it has
    /// let go of memory that it did not copy.
    pub(super) fn start(
        &mut self,
        kernel: &mut Kernel,
        (slot, state): (u32, SlotState),
        batch: Batch<RingLease>,
    ) -> Tag {
        let index = self.idle.pop().unwrap_or_else(|| {
            let slices = Vec::with_capacity(SLICES_TYPICAL);
            let op = Send {
                slot,
                state: State::Idle,
                zero_copy_bytes: 0,
                batch: Batch::new(),
                slices,
                header: MsgHdr::new(),
            };
            self.table.push(Box::new(op));
            index_of(self.table.len() - 1)
        });
        let zero_copy_bytes = match state.origin {
            Origin::Network => self.zero_copy_bytes_of(&batch),
            Origin::Pair => 0,
        };
        self.zero_copy_bytes += zero_copy_bytes;
        let op = &mut self.table[place_of(index)];
        op.slot = slot;
        op.state = State::InFlight;
        op.zero_copy_bytes = zero_copy_bytes;
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
        let tag = Tag::new(Kind::Send, state.generation, index);
        let entry = if zero_copy_bytes > 0 {
            self.zero_copy_sends += 1;
            opcode::SendMsgZc::new(Fixed(slot), header.cast())
                .ioprio(REPORT_USAGE)
                .flags(SEND_FLAGS)
                .build()
        } else {
            opcode::SendMsg::new(Fixed(slot), header.cast())
                .flags(SEND_FLAGS)
                .build()
        };
        let entry = entry.user_data(tag.encode());
        // SAFETY: the boxed operation owns header, slices and batch; nothing changes them before
        // `finish` takes the operation back on its last completion, and `Ring::drop` leaks what has none.
        unsafe { kernel.push_entry(entry) };
        tag
    }

    /// Returns the bytes of a batch if it is to be sent without a copy.
    fn zero_copy_bytes_of(&self, batch: &Batch<RingLease>) -> u64 {
        let bytes = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let is_worth_it = self.zero_copy_min.is_some_and(|min| batch.len() >= min);
        let has_room = self.zero_copy_bytes.saturating_add(bytes) <= ZERO_COPY_BYTES_MAX;
        if is_worth_it && has_room { bytes } else { 0 }
    }

    /// Takes a completion of an operation. The last one ends it.
    pub(super) fn finish(&mut self, index: u32, cqe: Cqe) -> Option<Told> {
        let op = self.table.get_mut(place_of(index))?;
        match op.state {
            State::Idle => None,
            State::InFlight if cqueue::more(cqe.flags) => {
                op.state = State::Held;
                let sent = usize::try_from(cqe.result).unwrap_or(0);
                Some(Told::Sent {
                    slot: op.slot,
                    batch: op.batch.stand_in(sent),
                })
            }
            State::InFlight => {
                let slot = op.slot;
                let batch = self.end(index)?;
                Some(Told::Sent { slot, batch })
            }
            State::Held => {
                let is_copied = cqe.result.cast_unsigned() & USAGE_COPIED != 0;
                let batch = self.end(index)?;
                Some(Told::Released { batch, is_copied })
            }
        }
    }

    /// Makes an operation nobody's; returns its batch.
    fn end(&mut self, index: u32) -> Option<Batch<RingLease>> {
        let op = self.table.get_mut(place_of(index))?;
        op.state = State::Idle;
        self.zero_copy_bytes -= std::mem::take(&mut op.zero_copy_bytes);
        let batch = std::mem::take(&mut op.batch);
        op.slices.clear();
        op.header = MsgHdr::new();
        if self.idle.len() >= IDLE_SLICES_MAX {
            op.slices = Vec::new();
        }
        self.idle.push(index);
        Some(batch)
    }

    /// Frees idle operations behind the last one in flight.
    pub(super) fn trim(&mut self) {
        while self.table.pop_if(|op| op.state == State::Idle).is_some() {}
        let len = self.table.len();
        self.table.shrink_to_fit();
        self.idle.retain(|index| place_of(*index) < len);
        self.idle.shrink_to_fit();
    }

    /// Returns how many sends went without a copy.
    pub(super) const fn zero_copy_sends(&self) -> u64 {
        self.zero_copy_sends
    }

    /// Returns the bytes that the kernel has of such sends.
    pub(super) const fn zero_copy_bytes(&self) -> u64 {
        self.zero_copy_bytes
    }

    /// Returns the operations in flight, those included whose memory the kernel holds.
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

/// `IORING_SEND_ZC_REPORT_USAGE` (6.2): the second completion says whether the kernel had to copy.
const REPORT_USAGE: u16 = 1 << 3;

/// `IORING_NOTIF_USAGE_ZC_COPIED`.
const USAGE_COPIED: u32 = 1 << 31;

/// Most bytes that the kernel may hold of sends without a copy: a quarter of the receive memory that a ring
/// has by default, where most of them lie.
const ZERO_COPY_BYTES_MAX: u64 = 64 << 20;

/// `UIO_MAXIOV`: the kernel refuses more.
const SLICES_MAX: usize = 1_024;

/// Slices of a usual batch, so that building one does not allocate.
pub(super) const SLICES_TYPICAL: usize = 72;

/// Idle operations that keep the memory of their slices: 1.2 MiB a ring. After a burst of one send to
/// each of many sessions, as a drain is, the rest gives it back: it would be 1.2 KB a session for ever.
const IDLE_SLICES_MAX: usize = 1_024;
