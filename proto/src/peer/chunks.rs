//! A byte queue made of chunks.
//!
//! Here: append with one copy, read by copy or by whole chunk. Not here: windows, limits.
//!
//! One contiguous buffer would have to be moved when it grows and would keep its largest size; a
//! chunk is allocated once, filled, handed out and freed.
//!
//! Invariant: `len` is the sum of the chunks' lengths, and no chunk is empty.
//! Bound: callers push no more than the window or the queue limit of the stream. Memory is at most
//! `len` plus one chunk of `CHUNK_BYTES_MAX`, plus 32 bytes of descriptor a chunk; chunks behind
//! the first hold at least `CHUNK_BYTES_MIN`, so one-byte pieces cost no descriptor each.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Buf, BytesMut};

/// Bytes in order, first in first out.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    queue: VecDeque<BytesMut>,
    len: usize,
}

impl Chunks {
    /// Appends a copy of `bytes`. `expected` is how many bytes are known to follow in the same
    /// frame, these included: a new chunk is made large enough to hold them in one piece.
    pub(super) fn push(&mut self, mut bytes: &[u8], expected: usize) {
        self.len += bytes.len();
        let mut chunk_bytes_min = 0;
        if let Some(back) = self.queue.back_mut() {
            let spare = back.capacity() - back.len();
            let (now, later) = bytes.split_at(spare.min(bytes.len()));
            back.extend_from_slice(now);
            bytes = later;
            chunk_bytes_min = CHUNK_BYTES_MIN;
        }
        if bytes.is_empty() {
            return;
        }
        let capacity = expected
            .min(CHUNK_BYTES_MAX)
            .max(bytes.len())
            .max(chunk_bytes_min);
        let mut chunk = BytesMut::with_capacity(capacity);
        chunk.extend_from_slice(bytes);
        self.queue.push_back(chunk);
    }

    /// Removes up to `out.len()` bytes into `out`.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(front) = self.queue.front_mut() else {
                break;
            };
            let n = front.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&front[..n]);
            done += n;
            self.consume_front(n);
        }
        done
    }

    /// Removes up to `bytes_max` bytes and appends them to `out`.
    pub(super) fn append_to(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        let mut done = 0;
        while done < bytes_max {
            let Some(front) = self.queue.front_mut() else {
                break;
            };
            let n = front.len().min(bytes_max - done);
            out.extend_from_slice(&front[..n]);
            done += n;
            self.consume_front(n);
        }
        done
    }

    /// Removes the first chunk as it is.
    pub(super) fn pop(&mut self) -> Option<BytesMut> {
        let chunk = self.queue.pop_front()?;
        self.len -= chunk.len();
        self.release_if_empty();
        Some(chunk)
    }

    /// Drops everything and frees the memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Copies the first bytes into `out` without removing them; returns how many there were.
    pub(super) fn peek(&self, out: &mut [u8]) -> usize {
        let mut done = 0;
        for chunk in &self.queue {
            if done == out.len() {
                break;
            }
            let n = chunk.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&chunk[..n]);
            done += n;
        }
        done
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn consume_front(&mut self, n: usize) {
        self.len -= n;
        let Some(front) = self.queue.front_mut() else {
            return;
        };
        if n < front.len() {
            front.advance(n);
        } else {
            self.queue.pop_front();
            self.release_if_empty();
        }
    }

    /// An idle stream keeps no chunk and only a small descriptor table.
    fn release_if_empty(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > DESCRIPTORS_KEPT_MAX {
            self.queue = VecDeque::new();
        }
    }
}

/// Smallest chunk behind another one. Streams of tiny frames would otherwise pay a descriptor and
/// an allocation a frame; a reader that is behind wastes at most this much once.
const CHUNK_BYTES_MIN: usize = 4_096;

/// Largest chunk made ahead of the bytes it is for: a header alone cannot make us allocate more.
const CHUNK_BYTES_MAX: usize = 65_536;

/// Descriptors (32 bytes each) an empty queue may keep.
const DESCRIPTORS_KEPT_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_the_pieces() {
        let mut chunks = Chunks::default();
        let all: Vec<u8> = (0..=255).cycle().take(50_000).collect();
        for piece in all.chunks(777) {
            chunks.push(piece, piece.len());
        }
        assert_eq!(chunks.len(), all.len());
        let mut out = vec![0; 10_001];
        assert_eq!(chunks.read(&mut out), out.len());
        assert_eq!(chunks.append_to(&mut out, 9_999), 9_999);
        while let Some(chunk) = chunks.pop() {
            out.extend_from_slice(&chunk);
        }
        assert_eq!(out, all);
        assert!(chunks.is_empty());
    }

    #[test]
    fn pieces_of_one_frame_share_a_chunk() {
        let mut chunks = Chunks::default();
        for left in (1..=1_000).rev() {
            chunks.push(&[7], left);
        }
        assert_eq!(chunks.pop().map(|chunk| chunk.len()), Some(1_000));
    }

    #[test]
    fn one_byte_frames_share_chunks() {
        let mut chunks = Chunks::default();
        for _ in 0..10_000 {
            chunks.push(&[7], 1);
        }
        assert!(chunks.queue.len() <= 2 + 10_000 / CHUNK_BYTES_MIN);
    }

    #[test]
    fn peek_crosses_chunks_and_removes_nothing() {
        let mut chunks = Chunks::default();
        chunks.push(&[1], 1);
        chunks.push(&[2, 3], 2);
        let mut out = [0; 2];
        assert_eq!(chunks.peek(&mut out), 2);
        assert_eq!(out, [1, 2]);
        assert_eq!(chunks.len(), 3);
    }
}
