//! Receive memory: blocks lent to the kernel, leases on what it wrote.
//!
//! Here: the provided-buffer ring, its blocks, [`RingLease`], [`LooseBlock`]. Not here: the receive
//! operations.
//!
//! ```text
//!            provide                    bytes arrive                   last lease dropped
//!   idle ------------------> provided ----------------> retired -----------------------> idle
//!    ^ new block, when few are           (full, or the kernel      (found by `recycle`,
//!      left, up to `blocks_max`           says it is done)           at the end of a turn)
//! ```
//!
//! With an incremental ring (Linux 6.12) one block takes many receives one after the other; before
//! that a block takes one receive.
//!
//! Invariant: the kernel writes only behind `filled` of a provided block; a lease covers only bytes
//! before it; leases of a block are disjoint, because each starts where the one before ended and a
//! lease only shrinks or splits. So no byte is ever reachable from two places.
//! Bound: `blocks_max * block_bytes` bytes a ring.
//! Source: `io_uring_register(2)` `IORING_REGISTER_PBUF_RING`, `io_uring_setup_buf_ring(3)`.

#![expect(
    unsafe_code,
    reason = "the kernel writes to this memory; docs/internals/unsafe.md"
)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ptr;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use io_uring::types::BufRingEntry;
use rustix::mm::Advice;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;

use super::RingError;
use super::setup::Kernel;
use crate::lease::Lease;

/// The buffer group of the receive ring.
pub(super) const GROUP: u16 = 0;

/// A lease on bytes that the kernel received.
///
/// Exclusive: no other lease covers these bytes, and the kernel is done with them. It may go to
/// another thread, and may outlive the ring.
pub struct RingLease {
    block: Arc<Block>,
    start: u32,
    len: u32,
}

impl Lease for RingLease {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let pointer = self.block.pointer(self.start);
        // SAFETY: `start..start + len` lies in the block (checked when the lease was made, and leases
        // only shrink), is initialised (anonymous memory starts as zeros), is written by no one else
        // (module invariant), and lives as long as `self.block`.
        unsafe { slice::from_raw_parts(pointer.as_ptr(), to_usize(self.len)) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let pointer = self.block.pointer(self.start);
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference to the range.
        unsafe { slice::from_raw_parts_mut(pointer.as_ptr(), to_usize(self.len)) }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        let count = self.checked(count);
        self.start += count;
        self.len -= count;
    }

    #[inline]
    fn split_to(&mut self, count: usize) -> Self {
        let count = self.checked(count);
        let front = Self {
            block: Arc::clone(&self.block),
            start: self.start,
            len: count,
        };
        self.start += count;
        self.len -= count;
        front
    }

    #[inline]
    fn len(&self) -> usize {
        to_usize(self.len)
    }
}

impl RingLease {
    /// Returns `count` as a block offset.
    #[inline]
    fn checked(&self, count: usize) -> u32 {
        assert!(count <= to_usize(self.len), "lease is shorter than asked");
        u32::try_from(count).unwrap_or(self.len)
    }
}

impl fmt::Debug for RingLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingLease")
            .field("start", &self.start)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A block that its owner fills in place of the kernel: leases of a ring without a ring, to count what the
/// relay does with received bytes.
#[derive(Debug)]
pub struct LooseBlock(Arc<Block>);

impl LooseBlock {
    /// Maps a block of `len` bytes.
    ///
    /// # Errors
    /// When the kernel has no memory.
    pub fn new(len: u32) -> io::Result<Self> {
        let memory = Arc::new(Mapping::new(to_usize(len))?);
        Ok(Self(Arc::new(Block {
            memory,
            offset: 0,
            len,
        })))
    }

    /// Copies `bytes` to the start of the block and returns a lease on them. `None`: a lease of before is
    /// still out, or they do not fit.
    #[must_use]
    pub fn fill(&mut self, bytes: &[u8]) -> Option<RingLease> {
        let len = u32::try_from(bytes.len()).ok()?;
        let is_free = Arc::get_mut(&mut self.0).is_some_and(|block| len <= block.len);
        if !is_free {
            return None;
        }
        let mut lease = RingLease {
            block: Arc::clone(&self.0),
            start: 0,
            len,
        };
        lease.bytes_mut().copy_from_slice(bytes);
        Some(lease)
    }
}

/// Numbers of the receive memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferNumbers {
    /// Blocks allocated.
    pub blocks: u64,
    /// Blocks the kernel may write to.
    pub provided: u64,
    /// Blocks the kernel is done with and leases still hold.
    pub pinned: u64,
    /// Blocks of which a lease holds a part, whether the kernel is done with them or not.
    pub leased: u64,
    /// Blocks at rest.
    pub idle: u64,
    /// Whether the kernel fills blocks incrementally.
    pub is_incremental: bool,
}

/// The receive memory of one ring.
#[derive(Debug)]
pub(super) struct Buffers {
    ring: BlockRing,
    blocks: Vec<Entry>,
    /// Entries of `blocks` without memory.
    vacant: Vec<u16>,
    /// Blocks at rest.
    idle: Vec<u16>,
    /// Blocks the kernel is done with and leases may still hold.
    retired: VecDeque<u16>,
    provided: u16,
    block_bytes: u32,
    blocks_max: u16,
    is_incremental: bool,
}

#[derive(Debug)]
struct Entry {
    block: Option<Arc<Block>>,
    /// Bytes the kernel has reported.
    filled: u32,
    is_provided: bool,
}

impl Entry {
    /// Returns whether somebody besides this table holds the block.
    fn is_leased(&self) -> bool {
        self.block
            .as_ref()
            .is_some_and(|block| Arc::strong_count(block) > 1)
    }
}

impl Buffers {
    /// Allocates `count` blocks (a power of two) and lends them to the kernel.
    ///
    /// Takes an incremental ring unless the kernel has none or `incremental` forbids it.
    pub(super) fn new(
        kernel: &Kernel,
        count: u16,
        bytes: [u32; 2],
        blocks_max: u16,
        incremental: bool,
    ) -> Result<Self, RingError> {
        let ring = BlockRing::new(count)
            .map_err(|error| RingError::local("mapping the buffer ring", error))?;
        let is_incremental = incremental && ring.register(kernel, INCREMENTAL).is_ok();
        if !is_incremental {
            ring.register(kernel, 0)
                .map_err(RingError::from_buffer_ring)?;
        }
        let [incremental_bytes, plain_bytes] = bytes;
        let block_bytes = if is_incremental {
            incremental_bytes
        } else {
            plain_bytes
        };
        let memory = Mapping::new(to_usize(u32::from(count)) * to_usize(block_bytes))
            .map_err(|error| RingError::local("mapping the receive buffers", error))?;
        memory.prefer_huge_pages();
        let memory = Arc::new(memory);
        let mut buffers = Self {
            ring,
            blocks: Vec::with_capacity(usize::from(count)),
            vacant: Vec::new(),
            idle: Vec::new(),
            retired: VecDeque::new(),
            provided: 0,
            block_bytes,
            blocks_max: blocks_max.max(count),
            is_incremental,
        };
        for id in 0..count {
            let offset = u32::from(id) * block_bytes;
            let block = Block {
                memory: Arc::clone(&memory),
                offset,
                len: block_bytes,
            };
            buffers.blocks.push(Entry {
                block: Some(Arc::new(block)),
                filled: 0,
                is_provided: false,
            });
            buffers.idle.push(id);
        }
        buffers.provide();
        Ok(buffers)
    }

    /// Turns a completed receive of `len` bytes into a lease. `is_done` says that the kernel will not
    /// use the block again.
    pub(super) fn take(&mut self, id: u16, len: u32, is_done: bool) -> RingLease {
        let entry = &mut self.blocks[usize::from(id)];
        let block = entry.block.as_ref().filter(|_| entry.is_provided);
        let Some(block) = block else {
            bug("receive in a block that was not provided")
        };
        let start = entry.filled;
        assert!(
            len <= self.block_bytes - start,
            "receive beyond the end of its block"
        );
        let lease = RingLease {
            block: Arc::clone(block),
            start,
            len,
        };
        entry.filled += len;
        if is_done || entry.filled == self.block_bytes {
            entry.is_provided = false;
            self.provided -= 1;
            self.retired.push_back(id);
        }
        lease
    }

    /// Takes back blocks whose leases are gone and lends idle ones to the kernel, without a system
    /// call. Returns whether the kernel has blocks.
    pub(super) fn recycle(&mut self) -> bool {
        if self.provided < self.ring.count {
            for _ in 0..self.retired.len().min(SCAN_MAX) {
                let Some(id) = self.retired.pop_front() else {
                    break;
                };
                if self.is_unused(id) {
                    self.idle.push(id);
                } else {
                    self.retired.push_back(id);
                }
            }
            while self.provided_soon() < self.ring.count / 4 && self.allocate() {}
            self.provide();
            self.trim();
        }
        self.provided > 0
    }

    /// Gives the pages of blocks without leases back to the host. The blocks stay lent to the kernel: a
    /// receive into one gets fresh pages.
    ///
    /// That includes the block that is half filled: a single page in use would have `khugepaged` make a huge
    /// page of what lies around it again (`max_ptes_none`).
    pub(super) fn release(&mut self) {
        for id in 0..u16::try_from(self.blocks.len()).unwrap_or(u16::MAX) {
            if self.is_unused(id)
                && let Some(block) = &self.blocks[usize::from(id)].block
            {
                block.release();
            }
        }
    }

    /// Takes the memory away from the kernel.
    pub(super) fn unregister(&self, kernel: &Kernel) {
        if let Err(error) = kernel.submitter().unregister_buf_ring(GROUP) {
            tracing::debug!(%error, "unregistering the buffer ring");
        }
    }

    /// Returns the present numbers.
    pub(super) fn numbers(&self) -> BufferNumbers {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        BufferNumbers {
            blocks: count(self.blocks.len() - self.vacant.len()),
            provided: u64::from(self.provided),
            pinned: count(self.retired.len()),
            leased: count(self.blocks.iter().filter(|entry| entry.is_leased()).count()),
            idle: count(self.idle.len()),
            is_incremental: self.is_incremental,
        }
    }

    /// Returns whether leases hold half of the memory there may be, or more.
    pub(super) fn is_short(&self) -> bool {
        self.retired.len() * 2 >= usize::from(self.blocks_max)
    }

    pub(super) const fn is_incremental(&self) -> bool {
        self.is_incremental
    }

    /// Returns whether no lease holds the block.
    fn is_unused(&mut self, id: u16) -> bool {
        // `get_mut` answers with acquire ordering: what the last holder did to the bytes on its thread
        // is over before the kernel gets them again.
        let entry = &mut self.blocks[usize::from(id)];
        entry
            .block
            .as_mut()
            .is_some_and(|block| Arc::get_mut(block).is_some())
    }

    fn provided_soon(&self) -> u16 {
        self.provided
            .saturating_add(u16::try_from(self.idle.len()).unwrap_or(u16::MAX))
    }

    /// Allocates one more block; false at the bound, or when the kernel has no memory.
    fn allocate(&mut self) -> bool {
        let in_use = self.blocks.len() - self.vacant.len();
        if in_use >= usize::from(self.blocks_max) {
            return false;
        }
        let memory = match Mapping::new(to_usize(self.block_bytes)) {
            Ok(memory) => Arc::new(memory),
            Err(error) => {
                tracing::debug!(%error, "no memory for another receive block");
                return false;
            }
        };
        let block = Block {
            memory,
            offset: 0,
            len: self.block_bytes,
        };
        let entry = Entry {
            block: Some(Arc::new(block)),
            filled: 0,
            is_provided: false,
        };
        let id = match self.vacant.pop() {
            Some(id) => {
                self.blocks[usize::from(id)] = entry;
                id
            }
            None => {
                self.blocks.push(entry);
                u16::try_from(self.blocks.len() - 1).unwrap_or(u16::MAX)
            }
        };
        self.idle.push(id);
        true
    }

    /// Lends idle blocks to the kernel until its ring is full.
    fn provide(&mut self) {
        let before = self.provided;
        while self.provided < self.ring.count {
            let Some(id) = self.idle.pop() else { break };
            let entry = &mut self.blocks[usize::from(id)];
            let Some(block) = &entry.block else { continue };
            entry.filled = 0;
            entry.is_provided = true;
            self.ring.write(block, id);
            self.provided += 1;
        }
        if self.provided != before {
            self.ring.publish();
        }
    }

    /// Frees blocks beyond a ring's worth at rest.
    fn trim(&mut self) {
        while self.idle.len() > usize::from(self.ring.count) {
            let Some(id) = self.idle.pop() else { return };
            self.blocks[usize::from(id)].block = None;
            self.vacant.push(id);
        }
    }
}

/// One block of receive memory.
struct Block {
    memory: Arc<Mapping>,
    offset: u32,
    len: u32,
}

impl Block {
    /// Returns the address of byte `start`.
    #[inline]
    fn pointer(&self, start: u32) -> NonNull<u8> {
        assert!(start <= self.len, "offset beyond the end of its block");
        let offset = to_usize(self.offset) + to_usize(start);
        // SAFETY: a block lies within its mapping (`Buffers::new`, `Buffers::allocate`, `LooseBlock::new`)
        // and `start` within the block, so the result points into the mapping or one past its end.
        unsafe { self.memory.base.add(offset) }
    }

    /// Gives the block's pages back to the host, with what is in them. Only for a block without leases.
    fn release(&self) {
        let pointer = self.pointer(0).as_ptr().cast();
        // SAFETY: the block lies within its mapping, private and anonymous. No lease refers to its bytes
        // (`Buffers::release`), and the kernel writes them only within a turn of this thread.
        let released =
            unsafe { rustix::mm::madvise(pointer, to_usize(self.len), Advice::LinuxDontNeed) };
        if let Err(error) = released {
            tracing::debug!(%error, "receive memory stays with the process");
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Anonymous memory, zeroed by the kernel, unmapped on drop.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain memory that any thread may unmap; access to its bytes is handed out in
// disjoint ranges only (module invariant).
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives an address and no access; see `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Asks for huge pages: fewer address look-ups while the kernel copies. Only advice.
    fn prefer_huge_pages(&self) {
        let base = self.base.as_ptr().cast();
        // SAFETY: the range is this mapping; the advice changes how it is backed, not its contents.
        let advised = unsafe { rustix::mm::madvise(base, self.len, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::debug!(%error, "no huge pages for receive buffers");
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of `new`; every range of it holds an `Arc` of this mapping,
        // so none is left; the kernel has had it taken away by `Ring::drop`, or by `recycle`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        if let Err(error) = unmapped {
            tracing::error!(%error, "unmapping receive memory");
        }
    }
}

/// The ring through which the kernel takes blocks: an array of entries, and a tail in the unused field
/// of the first.
struct BlockRing {
    memory: Mapping,
    count: u16,
    tail: u16,
}

impl BlockRing {
    fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let len = usize::from(count) * size_of::<BufRingEntry>();
        Ok(Self {
            memory: Mapping::new(len)?,
            count,
            tail: 0,
        })
    }

    fn register(&self, kernel: &Kernel, flags: u16) -> io::Result<()> {
        let address = u64::try_from(self.memory.base.as_ptr().addr()).unwrap_or(u64::MAX);
        let submitter = kernel.submitter();
        // SAFETY: the mapping is page-aligned, holds `count` entries and lives in `Buffers`, which
        // `Ring` drops after the kernel's ring.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, flags) }
    }

    /// Writes the next entry. The kernel sees it after [`BlockRing::publish`].
    fn write(&mut self, block: &Block, id: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let base = self.memory.base.cast::<BufRingEntry>();
        // SAFETY: `place < count`, so the entry lies within the mapping.
        let mut entry = unsafe { base.add(place) };
        // SAFETY: entries are plain integers, any bytes are valid; the kernel does not touch an entry
        // between consuming it and the next publish, and of the first entry's last field, the tail,
        // which is not written here, it only reads.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(u64::try_from(block.pointer(0).as_ptr().addr()).unwrap_or(u64::MAX));
        entry.set_len(block.len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all entries written so far.
    fn publish(&self) {
        let base = self.memory.base.cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of the registered ring, as this function asks.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: the tail is an aligned `u16` in memory that lives as long as `self`, and is only ever
        // accessed atomically: here, and by the kernel, which reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl fmt::Debug for BlockRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockRing")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::panic,
    reason = "kernel and process disagree about memory: stop before using it"
)]
fn bug(what: &str) -> ! {
    panic!("{what}")
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// `IOU_PBUF_RING_INC` (6.12): a block takes many receives.
const INCREMENTAL: u16 = 2;

/// Retired blocks looked at in a turn; the rest waits for the next one. 64 cache misses are 5 us.
const SCAN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_block_is_filled_again_when_its_leases_are_gone() {
        let mut block = LooseBlock::new(4_096).unwrap();
        let mut lease = block.fill(b"headpayload").unwrap();
        let head = lease.split_to(4);
        assert_eq!(
            (head.bytes(), lease.bytes()),
            (&b"head"[..], &b"payload"[..])
        );
        drop(lease);
        assert!(block.fill(b"more").is_none(), "one lease is still out");
        drop(head);
        assert_eq!(block.fill(b"more").unwrap().bytes(), b"more");
        assert!(block.fill(&[0; 4_097]).is_none(), "does not fit");
        assert_eq!(block.fill(&[1; 4_096]).unwrap().len(), 4_096);
    }
}
