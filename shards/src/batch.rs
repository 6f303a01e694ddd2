//! Batches: what one gather send owns.
//!
//! Here: the segments of a send, copied ones in pooled chunks and leased ones by reference, and the
//! bookkeeping of partial sends. Not here: choosing what goes into a batch (`core::egress`) and the
//! system call (`ring`).
//!
//! Invariant: `bytes` is the sum of the segments' lengths not yet sent, `leased_bytes` that of the leased
//! ones. A chunk never reallocates, so its bytes keep their address while the batch moves between core and
//! ring.
//! Units: bytes.

use std::collections::VecDeque;

use ringway_proto::limits::{BATCH_SEGMENTS_MAX, CHUNK_BYTES};

use crate::lease::Lease;

/// One contiguous part of a [`Batch`].
#[derive(Debug)]
enum Segment<L> {
    /// Bytes `start..end` of chunk number `chunk` of the same batch.
    Copied {
        chunk: usize,
        start: usize,
        end: usize,
    },
    /// Bytes by reference in receive memory.
    Leased(L),
    /// Bytes that waited outside the receive memory.
    Owned { bytes: Vec<u8>, start: usize },
}

/// Everything one gather send needs, owned until the kernel reports its completion.
#[derive(Debug)]
pub struct Batch<L> {
    segments: VecDeque<Segment<L>>,
    chunks: Vec<Vec<u8>>,
    bytes: usize,
    leased_bytes: usize,
    tag: u64,
}

impl<L: Lease> Batch<L> {
    /// Returns a batch without segments.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            chunks: Vec::new(),
            bytes: 0,
            leased_bytes: 0,
            tag: 0,
        }
    }

    /// Returns the mark that the owner of the batch has put on it.
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// Marks the batch, so that its owner knows it again when it comes back.
    pub const fn set_tag(&mut self, tag: u64) {
        self.tag = tag;
    }

    /// Returns the bytes that are still to be sent.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Returns whether nothing is left to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether another segment fits ([`BATCH_SEGMENTS_MAX`]).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.segments.len() >= BATCH_SEGMENTS_MAX
    }

    /// Returns the bytes held by reference in receive memory.
    #[must_use]
    pub const fn leased_bytes(&self) -> usize {
        self.leased_bytes
    }

    /// Appends a copy of `bytes`, taking chunks from `pool` as needed.
    pub fn push_copy(&mut self, mut bytes: &[u8], pool: &mut ChunkPool) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            bytes = self.fill_chunk(bytes, pool);
        }
    }

    /// Copies what fits into the last chunk, or into a new one if that is full; returns the rest.
    #[inline]
    fn fill_chunk<'a>(&mut self, bytes: &'a [u8], pool: &mut ChunkPool) -> &'a [u8] {
        let is_full = |chunk: &Vec<u8>| chunk.len() == chunk.capacity();
        if self.chunks.last().is_none_or(is_full) {
            self.chunks.push(pool.take());
        }
        let last = self.chunks.len() - 1;
        let filled = &mut self.chunks[last];
        let from = filled.len();
        let (now, later) = bytes.split_at(bytes.len().min(filled.capacity() - from));
        filled.extend_from_slice(now);
        let to = filled.len();
        match self.segments.back_mut() {
            // What is copied goes to the end of the last chunk, so it follows this segment.
            Some(Segment::Copied { chunk, end, .. }) if *chunk == last => *end = to,
            _ => self.segments.push_back(Segment::Copied {
                chunk: last,
                start: from,
                end: to,
            }),
        }
        later
    }

    /// Appends a range by reference.
    #[inline]
    pub fn push_lease(&mut self, lease: L) {
        self.bytes += lease.len();
        self.leased_bytes += lease.len();
        self.segments.push_back(Segment::Leased(lease));
    }

    /// Appends bytes that are owned already.
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Owned { bytes, start: 0 });
    }

    /// Puts bytes that are owned already in front of everything else.
    pub fn prepend_owned(&mut self, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.segments.push_front(Segment::Owned { bytes, start: 0 });
    }

    /// Takes the first segment out if its bytes are owned, so that their memory can be used again.
    pub fn take_owned(&mut self) -> Option<Vec<u8>> {
        match self.segments.pop_front()? {
            Segment::Owned { bytes, start } => {
                self.bytes -= bytes.len() - start;
                Some(bytes)
            }
            other @ (Segment::Copied { .. } | Segment::Leased(_)) => {
                self.segments.push_front(other);
                None
            }
        }
    }

    /// Calls `visit` with each contiguous slice still to be sent, in order.
    ///
    /// At most [`BATCH_SEGMENTS_MAX`] plus the few that a copy split over chunks adds. The slices keep
    /// their addresses until the batch is changed or dropped, also when it is moved.
    pub fn for_each_slice<'a>(&'a self, mut visit: impl FnMut(&'a [u8])) {
        for segment in &self.segments {
            match segment {
                Segment::Copied { chunk, start, end } => visit(&self.chunks[*chunk][*start..*end]),
                Segment::Leased(lease) => visit(lease.bytes()),
                Segment::Owned { bytes, start } => visit(&bytes[*start..]),
            }
        }
    }

    /// Returns the number of slices that [`Batch::for_each_slice`] visits.
    #[must_use]
    pub fn segments_count(&self) -> usize {
        self.segments.len()
    }

    /// Forgets the first `count` bytes: they are sent.
    ///
    /// # Panics
    /// When `count` exceeds [`Batch::len`]: the kernel never reports more than it was given.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "sent more than was queued");
        self.bytes -= count;
        if self.bytes == 0 {
            // Nearly every send ends like this.
            self.segments.clear();
            self.leased_bytes = 0;
            return;
        }
        while count > 0 {
            let Some(front) = self.segments.front_mut() else {
                return;
            };
            let (len, leased) = match front {
                Segment::Copied { start, end, .. } => (*end - *start, 0),
                Segment::Leased(lease) => (lease.len(), lease.len()),
                Segment::Owned { bytes, start } => (bytes.len() - *start, 0),
            };
            self.leased_bytes -= leased.min(count);
            if count >= len {
                self.segments.pop_front();
                count -= len;
                continue;
            }
            match front {
                Segment::Copied { start, .. } | Segment::Owned { start, .. } => *start += count,
                Segment::Leased(lease) => lease.advance(count),
            }
            count = 0;
        }
    }

    /// Copies what it holds by reference, so that the receive memory is free for others.
    pub fn copy_out(&mut self) {
        for segment in &mut self.segments {
            if let Segment::Leased(lease) = segment {
                let bytes = lease.bytes().to_vec();
                *segment = Segment::Owned { bytes, start: 0 };
            }
        }
        self.leased_bytes = 0;
    }

    /// Empties the batch: leases are dropped, chunks go back to `pool`.
    pub fn clear(&mut self, pool: &mut ChunkPool) {
        self.segments.clear();
        self.bytes = 0;
        self.leased_bytes = 0;
        for chunk in self.chunks.drain(..) {
            pool.give_back(chunk);
        }
    }
}

impl<L: Lease> Default for Batch<L> {
    fn default() -> Self {
        Self::new()
    }
}

/// Idle chunks of one shard, kept for the next copy.
#[derive(Debug, Default)]
pub struct ChunkPool {
    idle: Vec<Vec<u8>>,
    taken: u32,
}

/// Chunks kept while idle: 64 x 32 KiB = 2 MiB a shard; a burst beyond that is freed again.
const IDLE_MAX: usize = 64;

impl ChunkPool {
    /// Returns a chunk with room for [`CHUNK_BYTES`].
    // Once in 32 KiB: inlined it would only crowd the copy of each frame.
    #[inline(never)]
    pub fn take(&mut self) -> Vec<u8> {
        self.taken += 1;
        self.idle
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
    }

    /// Takes a chunk back.
    pub fn give_back(&mut self, mut chunk: Vec<u8>) {
        self.taken -= 1;
        if self.idle.len() < IDLE_MAX {
            chunk.clear();
            self.idle.push(chunk);
        }
    }

    /// Returns the chunks that are out in batches.
    #[must_use]
    pub const fn taken_count(&self) -> u32 {
        self.taken
    }
}
