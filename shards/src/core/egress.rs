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
//! Bound: bytes held by reference stay under `SESSION_REFERENCED_MAX` plus one receive; beyond it, and
//! when receive memory runs short ([`ShardCore::relieve`]), they are copied out of the receive memory.
//! All bytes waiting or in flight stay under [`QueueLimits`], shared out like this:
//!
//! ```text
//!   0                                        3/4                   1   of shard_bytes_max
//!   |----- sessions that do not keep up ------|---- all others ----|
//! ```
//!
//! A session with little waiting (`SESSION_QUEUE_SMALL`) may always add to it until the shard is full.
//! One with more may have as much as is still free of the first three quarters, so that each further slow
//! session takes half of what is left and none the room of those that keep up. (Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998.) The stream that would
//! exceed its bound is reset with reason 208.

use std::collections::VecDeque;
use std::time::Duration;

use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::limits::{
    BATCH_BYTES_MAX, COPY_THRESHOLD, DRR_QUANTUM, SESSION_QUEUE_SMALL, SESSION_REFERENCED_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::config::QueueLimits;
use super::event::{Action, Directory, Message, ShardId, Slot, StreamKey};
use super::session::{Phase, Session};
use super::stream::{Piece, StreamState};
use super::{Cause, Common, ShardCore, Streams};
use crate::batch::{Batch, ChunkPool};
use crate::lease::Lease;

/// Frames go straight to the batch until it holds this many bytes; then streams queue for themselves.
/// Two full socket writes of 32 KiB: more does not make a send cheaper, and it is what a keystroke
/// may have to wait behind.
pub(super) const DIRECT_BYTES_MAX: usize = 65_536;

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
    /// Bytes in control, batch and queues, and in flight.
    queued_bytes: usize,
    in_flight_bytes: usize,
    /// Bytes by reference in batch, queues and in flight.
    referenced_bytes: usize,
    /// Bytes by reference in flight.
    referenced_in_flight: usize,
    /// When a batch was handed to the driver, or last seen to move; `None`: none is in flight.
    sending_since: Option<Now>,
    /// The send in flight is being cancelled.
    cancel: Option<Cancel>,
    is_dirty: bool,
}

/// Why a send in flight is cancelled. It always goes on if it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancel {
    /// To copy its bytes out of the receive memory.
    Relieve,
    /// To see whether the peer has taken any of it.
    Stall,
}

impl<L: Lease> Egress<L> {
    fn new() -> Self {
        Self {
            control: Vec::new(),
            grants: Vec::new(),
            batch: Batch::new(),
            backlog: VecDeque::new(),
            queued_bytes: 0,
            in_flight_bytes: 0,
            referenced_bytes: 0,
            referenced_in_flight: 0,
            sending_since: None,
            cancel: None,
            is_dirty: false,
        }
    }

    pub(super) const fn sending_since(&self) -> Option<Now> {
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
        self.sending_since.is_none()
            && self.control.is_empty()
            && self.grants.is_empty()
            && self.batch.is_empty()
            && self.backlog.is_empty()
    }

    /// Copies everything that waits out of the receive memory; what is in flight stays.
    fn copy_out(&mut self, streams: &mut Streams<L>) {
        self.batch.copy_out();
        for key in &self.backlog {
            if let Some(stream) = streams.get_mut(*key) {
                for piece in &mut stream.queue {
                    piece.copy_out();
                }
            }
        }
        self.referenced_bytes = self.referenced_in_flight;
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

    /// Returns whether frames for this session have to queue by stream, where bounds are looked at.
    #[inline]
    pub(super) fn is_congested(&self, slot: Slot) -> bool {
        self.is_full()
            || self
                .sessions
                .get(slot.0 as usize)
                .and_then(|session| session.egress.as_ref())
                .is_some_and(|egress| egress.is_congested())
    }

    /// Returns whether as much waits on the shard as may.
    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.common.queued_bytes >= self.config.queue.shard_bytes_max
    }

    /// Returns the session of a leg whose frames may go straight to the batch: it keeps up, and none of
    /// the leg's wait.
    #[inline]
    pub(super) fn direct_slot(&self, key: StreamKey) -> Option<Slot> {
        let stream = self.streams.get(key)?;
        let slot = stream.session.slot;
        (stream.queue.is_empty() && !self.is_congested(slot)).then_some(slot)
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
    // Also where it has other callers: 20 instructions of 360 for a copied frame of 64 B.
    #[expect(clippy::inline_always, reason = "measured: bench/counts.json, copy-64")]
    #[inline(always)]
    pub(super) fn push_direct_copy(&mut self, slot: Slot, bytes: &[u8]) {
        let Some(egress) = egress_at(&mut self.sessions, &mut self.common, slot) else {
            return;
        };
        let common = &mut self.common;
        egress.queued_bytes += bytes.len();
        common.queued_bytes += bytes.len() as u64;
        egress.batch.push_copy(bytes, &mut common.chunks);
    }

    /// The same with a range that may go by reference.
    pub(super) fn push_direct_range(&mut self, slot: Slot, range: L) {
        if range.len() < COPY_THRESHOLD {
            self.push_direct_copy(slot, range.bytes());
        } else {
            self.push_direct_lease(slot, range);
        }
    }

    /// The same by reference, while the session's mark allows it.
    #[expect(
        clippy::inline_always,
        reason = "measured: bench/counts.json, reference-1k"
    )]
    #[inline(always)]
    pub(super) fn push_direct_lease(&mut self, slot: Slot, range: L) {
        let len = range.len();
        let Some(egress) = egress_at(&mut self.sessions, &mut self.common, slot) else {
            return;
        };
        self.common.queued_bytes += len as u64;
        egress.queued_bytes += len;
        if egress.referenced_bytes + len > SESSION_REFERENCED_MAX as usize {
            egress.batch.push_owned(range.bytes().to_vec());
        } else {
            egress.referenced_bytes += len;
            egress.batch.push_lease(range);
        }
    }

    /// Appends whole frames to the batch, by reference while the session's mark allows it.
    fn push_direct(&mut self, slot: Slot, piece: Piece<L>) {
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
        if let Some(slot) = self.direct_slot(key) {
            self.push_direct(slot, piece);
            return Ok(());
        }
        let Self {
            streams,
            sessions,
            common,
            config,
            ..
        } = self;
        let Some(stream) = streams.get_mut(key) else {
            return Ok(());
        };
        let Some(egress) = egress_at(sessions, common, stream.session.slot) else {
            return Ok(());
        };
        let len = piece.len();
        let (shard_bytes, session_bytes) = (common.queued_bytes, egress.queued_bytes as u64);
        if !may_wait(config.queue, shard_bytes, session_bytes, len as u64) {
            return Err(QueueFull);
        }
        let piece = within_mark(piece, egress.referenced_bytes);
        common.queued_bytes += len as u64;
        egress.queued_bytes += len;
        egress.referenced_bytes += piece.leased_bytes();
        if !stream.is_in_backlog {
            stream.is_in_backlog = true;
            egress.backlog.push_back(key);
        }
        match (stream.queue.back_mut(), piece) {
            // Small frames behind small frames share one allocation.
            (Some(Piece::Owned(last)), Piece::Owned(bytes))
                if last.len() + bytes.len() <= DRR_QUANTUM as usize =>
            {
                last.extend_from_slice(&bytes);
            }
            (_, piece) => stream.queue.push_back(piece),
        }
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
        // What is in flight is the kernel's until `sent`.
        let left = egress.control.len() + egress.in_flight_bytes;
        self.common.queued_bytes -= (egress.queued_bytes - left) as u64;
        egress.queued_bytes = left;
        egress.referenced_bytes = egress.referenced_in_flight;
        self.release_egress(slot);
    }

    /// Ends a turn: turns what is queued into sends.
    pub fn flush(&mut self) {
        self.check_own();
        self.end_emptied();
        self.flush_announcements();
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
        if egress.sending_since.is_some() {
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
        egress.in_flight_bytes = batch.len();
        egress.referenced_in_flight = batch.leased_bytes();
        egress.sending_since = Some(self.now);
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
        let count = result.map_or(0, |count| (count as usize).min(batch.len()));
        self.common.stats.bytes_sent += count as u64;
        batch.advance(count);
        let next = if is_current {
            self.after_send(slot, &mut batch, count, result)
        } else {
            Next::Done
        };
        if next == Next::GoOn {
            self.common.queued_bytes -= count as u64;
            self.common.actions.push_back(Action::Send { slot, batch });
            return;
        }
        self.common.queued_bytes -= (count + batch.len()) as u64;
        self.common.stats.sends_completed += 1;
        self.common.batches_in_flight -= 1;
        batch.clear(&mut self.common.chunks);
        if self.common.batches_idle.len() < IDLE_EGRESS_MAX {
            self.common.batches_idle.push(batch);
        }
        match next {
            Next::Done | Next::GoOn => {}
            Next::Lost => self.lose_connection(slot),
            Next::Stalled => self.end_stalled(slot),
        }
    }

    /// Takes the memory of a batch back that was sent without a copy, and reported sent before.
    pub fn released(&mut self, mut batch: Batch<L>) {
        batch.clear(&mut self.common.chunks);
        if self.common.batches_idle.len() < IDLE_EGRESS_MAX {
            self.common.batches_idle.push(batch);
        }
    }

    /// Brings the books of a session up to date with a send; `batch` is what is left of it.
    fn after_send(
        &mut self,
        slot: Slot,
        batch: &mut Batch<L>,
        count: usize,
        result: Result<u32, i32>,
    ) -> Next {
        let now = self.now;
        let Some(egress) = egress_at(&mut self.sessions, &mut self.common, slot) else {
            return Next::Done;
        };
        let cancel = egress.cancel.take();
        let next = match (result, cancel) {
            (Ok(_), _) if batch.is_empty() => Next::Done,
            (Ok(_), _) if count > 0 => Next::GoOn,
            (Err(ECANCELED), Some(Cancel::Relieve)) => Next::GoOn,
            (Err(ECANCELED), Some(Cancel::Stall)) => Next::Stalled,
            // A kernel that takes nothing has lost the connection; going round would spin.
            (Ok(_) | Err(_), _) => Next::Lost,
        };
        if next != Next::GoOn {
            egress.queued_bytes -= egress.in_flight_bytes;
            egress.in_flight_bytes = 0;
            egress.referenced_bytes -= egress.referenced_in_flight;
            egress.referenced_in_flight = 0;
            egress.sending_since = None;
            return next;
        }
        if cancel == Some(Cancel::Relieve) {
            batch.copy_out();
        }
        egress.queued_bytes -= count;
        egress.in_flight_bytes -= count;
        let referenced = batch.leased_bytes();
        egress.referenced_bytes -= egress.referenced_in_flight - referenced;
        egress.referenced_in_flight = referenced;
        if count > 0 {
            let since = egress.sending_since.replace(now);
            let was_stuck = since.is_some_and(|since| now.saturating_since(since) >= STUCK_MIN);
            if was_stuck && let Some(live) = self.live_mut(slot) {
                // Its peer's host has acknowledged bytes that were stuck: a sign of life, while the
                // relay's pings are stuck behind the rest.
                live.heard_at = now;
            }
        }
        if cancel.is_none() {
            self.common.stats.sends_short += 1;
        }
        next
    }

    /// A peer has taken no byte for too long.
    fn end_stalled(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get(slot.0 as usize) {
            let key = session.key(slot);
            self.end_session(key, Cause::Reason(Reason::SlowConsumer), false);
        }
    }

    /// Asks the kernel how far a send has come that takes long.
    pub(super) fn look_at_send(&mut self, slot: Slot) {
        let (now, stall) = (self.now, self.config.timeouts.send_stall);
        let is_long = |since: Now| now.saturating_since(since) >= stall;
        egress_of(&mut self.sessions, slot, |egress| {
            if egress.sending_since.is_some_and(is_long) && egress.cancel.is_none() {
                egress.cancel = Some(Cancel::Stall);
                self.common.actions.push_back(Action::CancelSend { slot });
            }
        });
    }

    /// Receive memory runs short: copies out of it what waits for sessions that do not keep up, here and
    /// on the other shards. Costs a look at every session, so at most one each `RELIEVE_PAUSE`.
    pub fn relieve(&mut self, now: Now) {
        self.now = now;
        if now < self.common.relieve_at {
            return;
        }
        self.relieve_here();
        self.tell_others(|| Message::Relieve);
    }

    /// Tells every other shard the same.
    pub(super) fn tell_others(&mut self, message: impl Fn() -> Message<L>) {
        let own = self.config.shard;
        for target in (0..self.config.shards_count).map(ShardId) {
            if target != own {
                let message = message();
                self.common
                    .actions
                    .push_back(Action::Message { target, message });
            }
        }
    }

    pub(super) fn relieve_here(&mut self) {
        let now = self.now;
        self.common.relieve_at = now + RELIEVE_PAUSE;
        self.common.stats.reliefs += 1;
        for (index, session) in (0_u32..).zip(&mut self.sessions) {
            let Some(egress) = session.egress.as_mut() else {
                continue;
            };
            if egress.referenced_bytes > egress.referenced_in_flight {
                egress.copy_out(&mut self.streams);
            }
            let is_slow = egress
                .sending_since
                .is_some_and(|since| now.saturating_since(since) >= RELIEVE_AGE);
            if is_slow && egress.referenced_in_flight > 0 && egress.cancel.is_none() {
                egress.cancel = Some(Cancel::Relieve);
                let slot = Slot(index);
                self.common.actions.push_back(Action::CancelSend { slot });
            }
        }
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

/// What to do after a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is over, whatever came of it.
    Done,
    /// Send the rest.
    GoOn,
    /// The connection is gone.
    Lost,
    /// The peer does not read.
    Stalled,
}

/// Returns whether `len` more bytes may wait for a session that has `session` of the `shard` bytes
/// waiting on all. See the module's page.
const fn may_wait(limits: QueueLimits, shard: u64, session: u64, len: u64) -> bool {
    let QueueLimits {
        session_bytes_max,
        shard_bytes_max,
    } = limits;
    if shard + len > shard_bytes_max {
        return false;
    }
    let wanted = session + len;
    if wanted <= SESSION_QUEUE_SMALL as u64 {
        return true;
    }
    let shared = shard_bytes_max - shard_bytes_max / 4;
    wanted <= session_bytes_max as u64 && wanted <= shared.saturating_sub(shard)
}

/// Copies a piece out of the receive memory when the session already holds its share of it.
fn within_mark<L: Lease>(mut piece: Piece<L>, referenced: usize) -> Piece<L> {
    if referenced + piece.leased_bytes() > SESSION_REFERENCED_MAX as usize {
        piece.copy_out();
    }
    piece
}

/// `ECANCELED`. Source: errno(3).
const ECANCELED: i32 = 125;

/// Time between two looks at all sessions: 100 us for 20,000 of them, so 0.2 % of the core.
const RELIEVE_PAUSE: Duration = Duration::from_millis(50);

/// A send that moved after so long had found the socket full; one that moved sooner may just have found
/// room in it, which says nothing of the peer.
const STUCK_MIN: Duration = Duration::from_millis(50);

/// A send that has been in flight for so long belongs to a session that does not keep up.
const RELIEVE_AGE: Duration = Duration::from_millis(20);

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
