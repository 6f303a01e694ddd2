//! What waits to be sent to one session, and in which order it leaves.
//!
//! Three queues, in the order of a send:
//! 1. control: answers, resets, pings, and one window update a stream that has grants pending;
//! 2. the batch: frames in the order they came, while the session keeps up;
//! 3. the backlog: once the batch is full, each stream queues its own frames, and deficit round robin
//!    (Shreedhar and Varghese 1995) shares the session, so that one bulk stream cannot sit in front
//!    of another stream's keystroke.
//!
//! Here: queueing and building batches. Not here: the system call, and who may send how much (windows).
//!
//! Invariant: the frames of one stream leave in order: a frame goes to the batch only while no stream
//! of the session has a queue of its own. One batch is in flight a session.
//! Bound: bytes held by reference stay under `SESSION_REFERENCED_MAX` plus one receive; beyond it they
//! are copied out of the receive memory. All bytes waiting stay under `SESSION_QUEUE_MAX` a session and
//! `SHARD_QUEUE_MAX` a shard; the stream that would exceed them is reset with reason 208.

use std::collections::VecDeque;

use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::limits::{
    BATCH_BYTES_MAX, COPY_THRESHOLD, DRR_QUANTUM, SESSION_QUEUE_MAX, SESSION_REFERENCED_MAX,
    SHARD_QUEUE_MAX,
};
use ringway_proto::time::Now;

use super::event::{Action, Directory, Slot, StreamKey};
use super::session::{Phase, Session};
use super::stream::{Piece, StreamState};
use super::{Common, ShardCore, Streams};
use crate::batch::{Batch, ChunkPool};
use crate::lease::Lease;

/// Frames go straight to the batch until it holds this many bytes; then streams queue for themselves.
/// Two full socket writes of 32 KiB: more does not make a send cheaper, and it is what a keystroke
/// may have to wait behind.
const DIRECT_BYTES_MAX: usize = 65_536;

/// Idle egress boxes kept by a shard, so that a ping-pong session does not allocate each time.
const IDLE_EGRESS_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Egress<L> {
    /// Control frames in order.
    control: Vec<u8>,
    /// Streams with grants to announce, each once (`Stream::unannounced`).
    grants: Vec<StreamKey>,
    /// The next send.
    batch: Batch<L>,
    /// Streams with a queue, in round-robin order.
    backlog: VecDeque<StreamKey>,
    /// Bytes in control, batch and queues.
    queued_bytes: usize,
    /// Bytes by reference in batch, queues and in flight.
    referenced_bytes: usize,
    /// Bytes by reference in flight.
    referenced_in_flight: usize,
    is_sending: bool,
    is_dirty: bool,
    /// When the batch in flight was handed to the driver.
    sending_since: Now,
}

impl<L: Lease> Egress<L> {
    fn new() -> Self {
        Self {
            control: Vec::new(),
            grants: Vec::new(),
            batch: Batch::new(),
            backlog: VecDeque::new(),
            queued_bytes: 0,
            referenced_bytes: 0,
            referenced_in_flight: 0,
            is_sending: false,
            is_dirty: false,
            sending_since: Now::ZERO,
        }
    }

    pub(super) const fn is_sending(&self) -> bool {
        self.is_sending
    }

    pub(super) const fn sending_since(&self) -> Now {
        self.sending_since
    }

    pub(super) const fn control_bytes(&self) -> usize {
        self.control.len()
    }

    /// Returns whether frames have to queue by stream.
    fn is_congested(&self) -> bool {
        !self.backlog.is_empty() || self.batch.len() >= DIRECT_BYTES_MAX || self.batch.is_full()
    }

    pub(super) fn is_drained(&self) -> bool {
        !self.is_sending
            && self.control.is_empty()
            && self.grants.is_empty()
            && self.batch.is_empty()
            && self.backlog.is_empty()
    }

    fn push_direct(&mut self, piece: Piece<L>, chunks: &mut ChunkPool) {
        self.queued_bytes += piece.len();
        self.referenced_bytes += piece.leased_bytes();
        push_piece(&mut self.batch, piece, chunks);
    }
}

fn push_piece<L: Lease>(batch: &mut Batch<L>, piece: Piece<L>, chunks: &mut ChunkPool) {
    match piece {
        Piece::Leased(lease) => batch.push_lease(lease),
        Piece::Headed { header, payload } => {
            batch.push_copy(&header, chunks);
            batch.push_lease(payload);
        }
        Piece::Owned(bytes) if bytes.len() < COPY_THRESHOLD => batch.push_copy(&bytes, chunks),
        Piece::Owned(bytes) => batch.push_owned(bytes),
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Returns the egress of a slot, allocated on first use, and marks it for the next flush.
    fn egress(&mut self, slot: Slot) -> Option<&mut Egress<L>> {
        egress_at(&mut self.sessions, &mut self.common, slot)
    }

    /// Returns whether frames for this session have to queue by stream.
    #[inline]
    pub(super) fn is_congested(&self, slot: Slot) -> bool {
        self.sessions
            .get(slot.0 as usize)
            .and_then(|session| session.egress.as_ref())
            .is_some_and(|egress| egress.is_congested())
    }

    /// Queues control bytes: they leave before any data.
    pub(super) fn push_control(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(egress) = self.egress(slot) else {
            return;
        };
        egress.control.extend_from_slice(bytes);
        egress.queued_bytes += bytes.len();
        self.common.queued_bytes += bytes.len() as u64;
    }

    /// Queues a window update of a stream; several before the next send become one.
    pub(super) fn push_grant(&mut self, key: StreamKey, delta: u32) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let slot = stream.session.slot;
        let is_first = stream.unannounced == 0;
        // Bounded with the stream's credit.
        stream.unannounced = stream.unannounced.saturating_add(delta);
        let Some(egress) = self.egress(slot) else {
            return;
        };
        if is_first {
            egress.grants.push(key);
        }
    }

    /// Copies whole frames straight into the batch. The caller has seen that the session keeps up.
    #[inline]
    pub(super) fn push_direct_copy(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(egress) = egress_at(&mut self.sessions, &mut self.common, slot) else {
            return;
        };
        let common = &mut self.common;
        egress.queued_bytes += bytes.len();
        common.queued_bytes += bytes.len() as u64;
        egress.batch.push_copy(bytes, &mut common.chunks);
    }

    /// Appends whole frames to the batch, by reference while the session's mark allows it.
    pub(super) fn push_direct(&mut self, slot: Slot, piece: Piece<L>) {
        let len = piece.len() as u64;
        let Some(egress) = egress_at(&mut self.sessions, &mut self.common, slot) else {
            return;
        };
        let common = &mut self.common;
        common.queued_bytes += len;
        let piece = within_mark(piece, egress.referenced_bytes);
        egress.push_direct(piece, &mut common.chunks);
    }

    /// Queues whole frames of a stream, in the batch or behind its earlier frames.
    ///
    /// # Errors
    /// When the bytes waiting would exceed the session's or the shard's bound; nothing is queued.
    pub(super) fn push_stream(&mut self, key: StreamKey, piece: Piece<L>) -> Result<(), QueueFull> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let slot = stream.session.slot;
        let must_queue = !stream.queue.is_empty();
        if !must_queue && !self.is_congested(slot) {
            self.push_direct(slot, piece);
            return Ok(());
        }
        let len = piece.len();
        if self.common.queued_bytes + len as u64 > SHARD_QUEUE_MAX {
            return Err(QueueFull);
        }
        let Some(egress) = self.egress(slot) else {
            return Ok(());
        };
        if egress.queued_bytes + len > SESSION_QUEUE_MAX as usize {
            return Err(QueueFull);
        }
        let piece = within_mark(piece, egress.referenced_bytes);
        egress.queued_bytes += len;
        egress.referenced_bytes += piece.leased_bytes();
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        if !stream.is_in_backlog {
            stream.is_in_backlog = true;
            egress_of(&mut self.sessions, slot, |egress| {
                egress.backlog.push_back(key);
            });
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        match (stream.queue.back_mut(), piece) {
            // Small frames behind small frames share one allocation.
            (Some(Piece::Owned(last)), Piece::Owned(bytes))
                if last.len() + bytes.len() <= DRR_QUANTUM as usize =>
            {
                last.extend_from_slice(&bytes);
            }
            (_, piece) => stream.queue.push_back(piece),
        }
        self.common.queued_bytes += len as u64;
        Ok(())
    }

    /// Drops what a stream still has queued: it is reset or its session is gone.
    pub(super) fn drop_queue(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let slot = stream.session.slot;
        let queue = std::mem::take(&mut stream.queue);
        let bytes: usize = queue.iter().map(Piece::len).sum();
        let leased: usize = queue.iter().map(Piece::leased_bytes).sum();
        if bytes == 0 {
            return;
        }
        self.common.queued_bytes -= bytes as u64;
        egress_of(&mut self.sessions, slot, |egress| {
            egress.queued_bytes -= bytes;
            egress.referenced_bytes -= leased;
        });
    }

    /// Drops everything queued for a session; with `keep_control` what tells the peer why stays.
    pub(super) fn drop_egress(&mut self, slot: Slot, keep_control: bool) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        let Some(egress) = session.egress.as_mut() else {
            return;
        };
        let backlog = std::mem::take(&mut egress.backlog);
        for key in backlog {
            self.drop_queue(key);
            self.remove_flushed(key, true);
        }
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        let Some(egress) = session.egress.as_mut() else {
            return;
        };
        egress.grants.clear();
        egress.batch.clear(&mut self.common.chunks);
        if !keep_control {
            egress.control = Vec::new();
        }
        let left = egress.control.len();
        self.common.queued_bytes -= (egress.queued_bytes - left) as u64;
        egress.queued_bytes = left;
        egress.referenced_bytes = egress.referenced_in_flight;
        self.release_egress(slot);
    }

    /// Ends a turn: turns what is queued into sends.
    pub fn flush(&mut self) {
        self.end_emptied();
        let mut dirty = std::mem::take(&mut self.common.dirty);
        for slot in dirty.drain(..) {
            self.flush_slot(slot);
        }
        // Nothing marks a slot dirty while flushing; keep the allocation.
        self.common.dirty = dirty;
    }

    fn flush_slot(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        if matches!(session.phase, Phase::Closing | Phase::Free) {
            return;
        }
        let generation = session.generation;
        let Some(egress) = session.egress.as_mut() else {
            return;
        };
        egress.is_dirty = false;
        if egress.is_sending {
            return;
        }
        let common = &mut self.common;
        if !egress.grants.is_empty() {
            write_grants(egress, &mut self.streams, common);
        }
        if !egress.control.is_empty() {
            egress
                .batch
                .prepend_owned(std::mem::take(&mut egress.control));
        }
        let finished = fill_from_backlog(egress, &mut self.streams, common);
        if egress.batch.is_empty() {
            self.finish_flushed(finished);
            self.release_egress(slot);
            return;
        }
        let mut batch = std::mem::replace(
            &mut egress.batch,
            common.batches_idle.pop().unwrap_or_default(),
        );
        batch.set_tag(u64::from(generation));
        let len = batch.len();
        egress.queued_bytes -= len;
        common.queued_bytes -= len as u64;
        egress.referenced_in_flight = batch.leased_bytes();
        egress.is_sending = true;
        egress.sending_since = self.now;
        common.batches_in_flight += 1;
        common.actions.push_back(Action::Send { slot, batch });
        self.finish_flushed(finished);
    }

    /// Takes a batch back from the driver.
    pub fn sent(&mut self, slot: Slot, mut batch: Batch<L>, result: Result<u32, i32>, now: Now) {
        self.now = now;
        let is_current = self.sessions.get(slot.0 as usize).is_some_and(|session| {
            u64::from(session.generation) == batch.tag()
                && !matches!(session.phase, Phase::Closing | Phase::Free)
        });
        if let Ok(count) = result {
            self.common.stats.bytes_sent += u64::from(count);
            batch.advance((count as usize).min(batch.len()));
        }
        // A kernel that takes nothing has lost the connection; going round would spin.
        let failed = !matches!(result, Ok(count) if count > 0);
        if is_current && !failed && !batch.is_empty() {
            self.common.stats.sends_short += 1;
            self.common.actions.push_back(Action::Send { slot, batch });
            return;
        }
        self.common.stats.sends_completed += 1;
        self.common.batches_in_flight -= 1;
        batch.clear(&mut self.common.chunks);
        if self.common.batches_idle.len() < IDLE_EGRESS_MAX {
            self.common.batches_idle.push(batch);
        }
        if !is_current {
            return;
        }
        if failed {
            self.lose_connection(slot);
            return;
        }
        let Some(egress) = self.egress(slot) else {
            return;
        };
        egress.is_sending = false;
        egress.referenced_bytes -= egress.referenced_in_flight;
        egress.referenced_in_flight = 0;
    }

    /// Gives a drained egress back to the pool, so that an idle session holds none.
    fn release_egress(&mut self, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        if session
            .egress
            .as_ref()
            .is_some_and(|egress| egress.is_drained() && !egress.is_dirty)
            && let Some(egress) = session.egress.take()
            && self.common.egress_idle.len() < IDLE_EGRESS_MAX
        {
            self.common.egress_idle.push(egress);
        }
    }

    fn finish_flushed(&mut self, finished: Vec<StreamKey>) {
        for key in finished {
            self.remove_flushed(key, false);
        }
    }
}

/// The bytes waiting are at their bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueFull;

/// Copies a piece out of the receive memory when the session already holds its share of it.
fn within_mark<L: Lease>(piece: Piece<L>, referenced: usize) -> Piece<L> {
    if referenced + piece.leased_bytes() <= SESSION_REFERENCED_MAX as usize {
        return piece;
    }
    match piece {
        Piece::Leased(lease) => Piece::Owned(lease.bytes().to_vec()),
        Piece::Headed { header, payload } => {
            let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(payload.bytes());
            Piece::Owned(bytes)
        }
        Piece::Owned(_) => piece,
    }
}

#[inline]
fn egress_at<'a, L: Lease>(
    sessions: &'a mut [Session<L>],
    common: &mut Common<L>,
    slot: Slot,
) -> Option<&'a mut Egress<L>> {
    let session = sessions.get_mut(slot.0 as usize)?;
    let egress = session.egress.get_or_insert_with(|| {
        common
            .egress_idle
            .pop()
            .unwrap_or_else(|| Box::new(Egress::new()))
    });
    if !egress.is_dirty {
        egress.is_dirty = true;
        common.dirty.push(slot);
    }
    Some(egress)
}

fn egress_of<L: Lease>(
    sessions: &mut [Session<L>],
    slot: Slot,
    change: impl FnOnce(&mut Egress<L>),
) {
    if let Some(egress) = sessions
        .get_mut(slot.0 as usize)
        .and_then(|session| session.egress.as_mut())
    {
        change(egress);
    }
}

fn write_grants<L: Lease>(
    egress: &mut Egress<L>,
    streams: &mut Streams<L>,
    common: &mut Common<L>,
) {
    for key in egress.grants.drain(..) {
        let Some(stream) = streams.get_mut(key) else {
            continue;
        };
        let delta = std::mem::take(&mut stream.unannounced);
        let frame = Header::window_update(stream.id, Flags::NONE, delta).encode();
        egress.control.extend_from_slice(&frame);
        egress.queued_bytes += HEADER_LEN;
        common.queued_bytes += HEADER_LEN as u64;
    }
}

/// Deficit round robin over the backlog; returns the streams whose last frames went out.
fn fill_from_backlog<L: Lease>(
    egress: &mut Egress<L>,
    streams: &mut Streams<L>,
    common: &mut Common<L>,
) -> Vec<StreamKey> {
    let mut finished = Vec::new();
    while egress.batch.len() < BATCH_BYTES_MAX && !egress.batch.is_full() {
        let Some(key) = egress.backlog.pop_front() else {
            break;
        };
        let Some(stream) = streams.get_mut(key) else {
            continue;
        };
        stream.deficit += i64::from(DRR_QUANTUM);
        while stream.deficit > 0 && !egress.batch.is_full() {
            let Some(piece) = stream.queue.pop_front() else {
                break;
            };
            stream.deficit -= i64::try_from(piece.len()).unwrap_or(i64::MAX);
            push_piece(&mut egress.batch, piece, &mut common.chunks);
        }
        if !stream.queue.is_empty() {
            egress.backlog.push_back(key);
            continue;
        }
        stream.is_in_backlog = false;
        stream.deficit = 0;
        if stream.state == StreamState::Flushing {
            finished.push(key);
        }
    }
    finished
}
