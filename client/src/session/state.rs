//! What is behind a session's mutex.
//!
//! Here: the proto session, one slot a stream, who waits for what, and the reaction to each event.
//! Not here: the socket, the lock, records.
//!
//! A slot lives as long as its handle, and longer when the handle went after it had shut its
//! direction down: then the bytes that were written still leave, as those of a closed TCP socket do,
//! and the stream is reset only if the other side goes on sending.
//!
//! Invariant: `pending` of a slot is empty, or the proto session has cut a write short and will say
//! when it can go on.
//! Bound: `pending` is at most one record; slots are at most `streams_max`.

mod react;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_proto::key::Address;
use ringway_proto::peer::{OpenStreamError, PeerSession, StreamId};
use ringway_proto::time::Now;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, Effects, SessionParts};
use crate::error::{DialError, Refusal, SessionError, StreamError};
use crate::listener::Listeners;

/// How far a session has come.
#[derive(Debug)]
enum Phase {
    Handshake,
    Ready,
    Ended(Arc<SessionError>),
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct State {
    peer: PeerSession,
    phase: Phase,
    slots: HashMap<StreamId, Slot>,
    dials: HashMap<StreamId, Answer>,
    pings: Vec<oneshot::Sender<Duration>>,
    listeners: Arc<Listeners>,
    handshake_timeout: Duration,
    record_payload_max: usize,
    /// Wakes the driver when there is something to send or to notice.
    driver: Option<Waker>,
    is_socket_full: bool,
    over: Option<oneshot::Sender<()>>,
    /// The relay takes no new streams; its reason when it gave one.
    gone_away: Option<Option<Refusal>>,
    /// What broke the socket, until the session has ended with it.
    broken: Option<std::io::Error>,
    closing: Option<Closing>,
    /// Since when there is no stream and no dial; `None` while there is one.
    idle_since: Option<Instant>,
}

/// A goodbye of ours.
#[derive(Clone, Copy, Debug)]
struct Closing {
    until: Option<Instant>,
}

/// One open stream.
#[derive(Debug, Default)]
struct Slot {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Bytes written that the proto session has not taken yet, from `pending_from` on.
    pending: Vec<u8>,
    pending_from: usize,
    finish: Finish,
    /// The other side has finished and everything was read.
    is_remote_finished: bool,
    /// The handle has gone; what was written still leaves.
    is_orphan: bool,
    error: Option<StreamError>,
}

/// How far this side's end of a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Finish {
    #[default]
    Open,
    /// Asked for, but bytes still wait in `pending`.
    Wanted,
    Done,
}

// ---- What the application asks -------------------------------------------------------------------

impl State {
    pub(super) fn new(parts: SessionParts) -> Self {
        Self {
            peer: parts.peer,
            phase: Phase::Handshake,
            slots: HashMap::new(),
            dials: HashMap::new(),
            pings: Vec::new(),
            listeners: parts.listeners,
            handshake_timeout: parts.handshake_timeout,
            record_payload_max: parts.record_payload_max,
            driver: None,
            is_socket_full: false,
            over: Some(parts.over),
            gone_away: None,
            broken: None,
            closing: None,
            idle_since: Some(Instant::now()),
        }
    }

    pub(super) fn open(
        &mut self,
        now: Now,
        destination: Address,
        source_port: u16,
        random: [u8; 32],
        answer: Answer,
    ) -> Result<StreamId, DialError> {
        if let Phase::Ended(error) = &self.phase {
            return Err(DialError::RelaySession(Arc::clone(error)));
        }
        // Also tells the proto session the time from which the open's deadline counts.
        self.handle_timeout(now);
        let timestamp_ns = unix_time_ns().unwrap_or_default();
        match self
            .peer
            .open(destination, source_port, timestamp_ns, random)
        {
            Ok(id) => {
                self.dials.insert(id, answer);
                Ok(id)
            }
            Err(error) => Err(match error {
                OpenStreamError::LocalKey => DialError::LocalKey,
                OpenStreamError::LocalQueue => DialError::LocalQueue,
                OpenStreamError::LocalStreams { .. } | OpenStreamError::LocalStreamIds => {
                    DialError::LocalStreams
                }
                _ => DialError::LocalNoSession,
            }),
        }
    }

    /// Takes back an open that was not answered yet; does nothing for one that was.
    pub(super) fn cancel_open(&mut self, id: StreamId) {
        if self.dials.remove(&id).is_some() {
            self.reset_at_peer(id);
        }
    }

    pub(super) fn ping(&mut self, now: Now, answer: oneshot::Sender<Duration>) {
        if matches!(self.phase, Phase::Ready) && self.pings.len() < PINGS_MAX {
            self.pings.push(answer);
            self.peer.ping(now);
        }
    }

    pub(super) fn close(&mut self, until: Option<Instant>) {
        if self.closing.is_none() {
            self.peer.go_away();
        }
        self.closing = Some(Closing { until });
    }

    /// Closes if there was no stream for `idle_min`; else returns after which time there may be none.
    pub(super) fn close_if_idle(&mut self, idle_min: Duration) -> Result<(), Duration> {
        let idle = self
            .idle_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        if self.idle_since.is_none() || idle < idle_min {
            return Err(idle_min - idle);
        }
        self.close(None);
        Ok(())
    }

    /// Notes whether there are streams, after each act.
    pub(super) fn note_idleness(&mut self) {
        let is_idle = self.slots.is_empty() && self.dials.is_empty();
        if is_idle != self.idle_since.is_some() {
            self.idle_since = is_idle.then(Instant::now);
        }
    }

    pub(super) fn poll_read(
        &mut self,
        id: StreamId,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Poll::Ready(Err(StreamError::PeerReset));
        };
        if let Some(error) = &slot.error {
            return Poll::Ready(Err(error.clone()));
        }
        if slot.is_remote_finished {
            return Poll::Ready(Ok(0));
        }
        match self.peer.read(id, buf) {
            Ok(0) => match &self.phase {
                Phase::Ended(error) => {
                    Poll::Ready(Err(StreamError::RelaySession(Arc::clone(error))))
                }
                Phase::Handshake | Phase::Ready => {
                    keep(&mut slot.reader, cx);
                    Poll::Pending
                }
            },
            Ok(n) => Poll::Ready(Ok(n)),
            Err(_) => Poll::Ready(Err(self.stream_error())),
        }
    }

    pub(super) fn poll_writable(
        &mut self,
        id: StreamId,
        cx: &Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        let slot = match self.writable_slot(id) {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if slot.finish != Finish::Open {
            return Poll::Ready(Err(StreamError::LocalFinished));
        }
        if slot.pending.is_empty() {
            return Poll::Ready(Ok(()));
        }
        keep(&mut slot.writer, cx);
        Poll::Pending
    }

    pub(super) fn write(&mut self, id: StreamId, bytes: &mut Vec<u8>) -> Result<(), StreamError> {
        self.writable_slot(id)?;
        let taken = self
            .peer
            .write(id, bytes)
            .map_err(|_| self.stream_error())?;
        if taken < bytes.len()
            && let Some(slot) = self.slots.get_mut(&id)
        {
            slot.pending_from = taken;
            mem::swap(&mut slot.pending, bytes);
        }
        bytes.clear();
        Ok(())
    }

    pub(super) fn poll_finish(
        &mut self,
        id: StreamId,
        cx: &Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        if self
            .slots
            .get(&id)
            .is_some_and(|slot| slot.finish == Finish::Done)
        {
            return Poll::Ready(Ok(()));
        }
        let slot = match self.writable_slot(id) {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if !slot.pending.is_empty() {
            slot.finish = Finish::Wanted;
            keep(&mut slot.writer, cx);
            return Poll::Pending;
        }
        slot.finish = Finish::Done;
        Poll::Ready(self.peer.finish(id).map_err(|_| self.stream_error()))
    }

    pub(super) fn reset(&mut self, id: StreamId) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.error.is_none()
        {
            slot.error = Some(StreamError::PeerReset);
            slot.pending = Vec::new();
            self.reset_at_peer(id);
        }
    }

    /// The handle has gone.
    pub(super) fn release(&mut self, id: StreamId) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.reader = None;
        slot.writer = None;
        slot.is_orphan = true;
        let has_shut_down = slot.finish != Finish::Open;
        let is_over = slot.error.is_some() || slot.is_closed();
        if !is_over && (!has_shut_down || self.has_unread(id)) {
            self.reset_at_peer(id);
            self.slots.remove(&id);
        } else if is_over || matches!(self.phase, Phase::Ended(_)) {
            self.slots.remove(&id);
        }
    }

    pub(super) fn streams_count(&self) -> u32 {
        u32::try_from(self.slots.len() + self.dials.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready) && self.gone_away.is_none() && self.closing.is_none()
    }

    pub(super) fn error(&self) -> Option<Arc<SessionError>> {
        match (&self.phase, self.gone_away) {
            (Phase::Ended(error), _) => Some(Arc::clone(error)),
            (_, Some(refusal)) => Some(Arc::new(SessionError::RelayClosed(refusal))),
            (Phase::Handshake | Phase::Ready, None) => None,
        }
    }

    fn writable_slot(&mut self, id: StreamId) -> Result<&mut Slot, StreamError> {
        if let Phase::Ended(error) = &self.phase {
            return Err(StreamError::RelaySession(Arc::clone(error)));
        }
        let slot = self.slots.get_mut(&id).ok_or(StreamError::PeerReset)?;
        match &slot.error {
            Some(error) => Err(error.clone()),
            None => Ok(slot),
        }
    }

    /// Why the proto session does not know a stream that has a slot.
    fn stream_error(&self) -> StreamError {
        match &self.phase {
            Phase::Ended(error) => StreamError::RelaySession(Arc::clone(error)),
            Phase::Handshake | Phase::Ready => StreamError::PeerReset,
        }
    }

    /// Whether bytes came that were not read.
    fn has_unread(&self, id: StreamId) -> bool {
        self.peer.readable_bytes(id) > 0
    }

    /// Resets a stream that the proto session may have forgotten already.
    fn reset_at_peer(&mut self, id: StreamId) {
        if let Err(error) = self.peer.reset(id) {
            tracing::trace!(stream = %id, %error, "stream was gone before its reset");
        }
    }
}

// ---- What the driver does ------------------------------------------------------------------------

impl State {
    /// The driver runs: nobody needs to wake it.
    pub(super) fn driver_runs(&mut self) {
        self.driver = None;
    }

    /// The driver is about to sleep. Unless it `is_idle` it waits for the socket, and more to send does
    /// not matter.
    pub(super) fn driver_sleeps(&mut self, cx: &Context<'_>, is_idle: bool) {
        self.is_socket_full = !is_idle;
        keep(&mut self.driver, cx);
    }

    pub(super) fn receive(&mut self, now: Now, bytes: &[u8]) {
        // What follows from the error comes as an event.
        if let Err(error) = self.peer.receive(bytes, now) {
            tracing::debug!(%error, "session failed");
        }
    }

    pub(super) fn eof(&mut self, now: Now) {
        self.peer.eof(now);
    }

    pub(super) fn break_off(&mut self, now: Now, error: std::io::Error) {
        self.broken = Some(error);
        self.peer.eof(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        if let Some(unix_time_ns) = unix_time_ns() {
            self.peer.set_unix_time(unix_time_ns, now);
        }
        self.peer.handle_timeout(now);
    }

    pub(super) fn transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        self.peer.transmit(out, bytes_max)
    }

    pub(super) fn wants_transmit(&self) -> bool {
        self.peer.wants_transmit()
    }

    pub(super) fn next_deadline(&self) -> Option<Now> {
        self.peer.next_deadline()
    }

    pub(super) fn closing_until(&self) -> Option<Instant> {
        self.closing.and_then(|closing| closing.until)
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(super) fn has_come_through(&self) -> bool {
        !matches!(self.phase, Phase::Handshake)
    }

    /// Whether a goodbye of ours is complete: what was written has left, or its time is over.
    pub(super) fn is_drained(&self) -> bool {
        let Some(closing) = self.closing else {
            return false;
        };
        match closing.until {
            Some(until) if until <= Instant::now() => true,
            Some(_) => !self.peer.wants_transmit() && self.slots.values().all(Slot::has_left),
            None => !self.peer.wants_transmit() && self.slots.is_empty() && self.dials.is_empty(),
        }
    }

    /// The driver leaves: whatever still waits fails.
    pub(super) fn end(&mut self, effects: &mut Effects, error: SessionError) {
        if self.is_ended() {
            return;
        }
        let error = Arc::new(error);
        self.phase = Phase::Ended(Arc::clone(&error));
        for (_, answer) in self.dials.drain() {
            effects
                .opened
                .push((answer, Err(DialError::RelaySession(Arc::clone(&error)))));
        }
        effects.dropped_pings.append(&mut self.pings);
        self.announce_over(effects);
        self.slots.retain(|_, slot| !slot.is_orphan);
        for slot in self.slots.values_mut() {
            slot.pending = Vec::new();
            slot.wake_all(effects);
        }
    }
}

impl Slot {
    /// Whether both directions have ended in good order.
    fn is_closed(&self) -> bool {
        self.finish == Finish::Done && self.is_remote_finished
    }

    /// Whether a goodbye need not wait for this stream: nothing that was written is on its way.
    ///
    /// A stream that was shut down counts until the other side has finished too: a relay that sees
    /// the session end first resets the stream, and a reset overtakes bytes.
    fn has_left(&self) -> bool {
        self.error.is_some()
            || match self.finish {
                Finish::Open => self.pending.is_empty(),
                Finish::Wanted => false,
                Finish::Done => self.is_remote_finished,
            }
    }

    fn wake_all(&mut self, effects: &mut Effects) {
        effects.wakes.extend(self.reader.take());
        effects.wakes.extend(self.writer.take());
    }
}

/// Stores the task's waker unless it is there already.
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

/// Returns nanoseconds since 1970; `None` before 1970 and after 2554.
pub(crate) fn unix_time_ns() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Callers that wait for one answer of the relay; more get none.
const PINGS_MAX: usize = 64;
