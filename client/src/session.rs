//! One session to one relay, as the streams and the client see it.
//!
//! Here: the shared state behind its mutex, and the handle of a stream. Not here: the socket (the
//! driver's task has it), records, which session a dial takes.
//!
//! Everything that touches the state goes through [`Session::with`]: it locks, acts, takes the events
//! that the act has caused, unlocks, and only then wakes tasks and hands over streams. So nothing of
//! another task ever runs under the lock.
//!
//! Invariant: the lock is held for copies and, when another peer opens a stream, for that stream's
//! handshake; never over an await.

mod driver;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ringway_proto::key::Address;
use ringway_proto::kk::RecordKeys;
use ringway_proto::peer::{PeerSession, StreamId};
use ringway_proto::time::Now;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::RelayAddress;
use crate::error::{DialError, SessionError, StreamError};
use crate::listener::{Listeners, NoPlace};
use crate::stream::Stream;

pub(crate) use driver::Driver;
use state::State;
pub(crate) use state::unix_time_ns;

/// A session, shared by its driver, its streams and the client.
#[derive(Debug)]
pub(crate) struct Session {
    relay: RelayAddress,
    /// Where the session's clock starts.
    epoch: Instant,
    state: Mutex<State>,
}

/// What a session is made of.
pub(crate) struct SessionParts {
    pub(crate) relay: RelayAddress,
    pub(crate) epoch: Instant,
    pub(crate) peer: PeerSession,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) record_payload_max: usize,
    /// Told once when the session takes no new streams any more.
    pub(crate) over: oneshot::Sender<()>,
}

/// An open stream of a session: bytes, not records. Dropping it lets go of the stream.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    session: Arc<Session>,
    id: StreamId,
}

/// A dial that was accepted.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) handle: StreamHandle,
    pub(crate) keys: RecordKeys,
}

/// Answers an open of ours.
type Answer = oneshot::Sender<Result<Opened, DialError>>;

/// What is to be done once the lock is free.
#[derive(Debug, Default)]
struct Effects {
    wakes: Vec<Waker>,
    opened: Vec<(Answer, Result<Opened, DialError>)>,
    incoming: Vec<(OwnedPermit<Stream>, Stream)>,
    pongs: Vec<(oneshot::Sender<Duration>, Duration)>,
    dropped_pings: Vec<oneshot::Sender<Duration>>,
    over: Option<oneshot::Sender<()>>,
    /// Streams that nobody waits for any more, and places in queues that were not needed: dropping
    /// them may lock this session again.
    abandoned: Vec<StreamHandle>,
    unused: Vec<OwnedPermit<Stream>>,
    no_places: Vec<NoPlace>,
}

impl Session {
    pub(crate) fn new(parts: SessionParts) -> Arc<Self> {
        Arc::new(Self {
            relay: parts.relay,
            epoch: parts.epoch,
            state: Mutex::new(State::new(parts)),
        })
    }

    /// Opens a stream and waits for the destination's answer.
    ///
    /// # Cancel
    ///
    /// Dropping the future resets the stream.
    pub(crate) async fn open(
        self: &Arc<Self>,
        destination: Address,
        source_port: u16,
        random: [u8; 32],
    ) -> Result<Opened, DialError> {
        let (answer, answered) = oneshot::channel();
        let id =
            self.with(|state, now| state.open(now, destination, source_port, random, answer))?;
        let _guard = DialGuard {
            session: Arc::clone(self),
            id,
        };
        answered.await.unwrap_or(Err(DialError::LocalClosed))
    }

    /// Asks the relay for an answer; the receiver fails when the session ends first.
    pub(crate) fn ping(self: &Arc<Self>) -> oneshot::Receiver<Duration> {
        let (answer, answered) = oneshot::channel();
        self.with(|state, now| state.ping(now, answer));
        answered
    }

    /// Says goodbye; the driver leaves when what was written has left, at the latest at `until`.
    /// Without `until` it leaves when the last stream has ended.
    pub(crate) fn close(self: &Arc<Self>, until: Option<Instant>) {
        self.with(|state, _| state.close(until));
    }

    /// Lets the session go if it has had no stream for `idle_min`; else says after which time to ask
    /// again.
    pub(crate) fn close_if_idle(self: &Arc<Self>, idle_min: Duration) -> Result<(), Duration> {
        self.with(|state, _| state.close_if_idle(idle_min))
    }

    pub(crate) fn streams_count(&self) -> u32 {
        self.lock().streams_count()
    }

    /// Whether the relay admitted the session and it still takes new streams.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock().is_ready()
    }

    /// What the session ended with, or is about to end with; `None` while it stands.
    pub(crate) fn error(&self) -> Option<Arc<SessionError>> {
        self.lock().error()
    }

    /// Runs `act` on the state, then what follows from it.
    fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut State, Now) -> R) -> R {
        let now = self.now();
        let mut effects = Effects::default();
        let result = {
            let mut state = self.lock();
            let result = act(&mut state, now);
            state.settle(self, &mut effects);
            result
        };
        effects.carry_out();
        result
    }

    fn now(&self) -> Now {
        let nanos = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Now::from_nanos(nanos)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamHandle {
    /// Reads bytes; `Ok(0)` for a non-empty `buf` means that the other side has finished.
    pub(crate) fn poll_read(
        &self,
        cx: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, StreamError>> {
        self.session
            .with(|state, _| state.poll_read(self.id, cx, buf))
    }

    /// Waits until [`StreamHandle::write`] takes bytes.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        self.session
            .with(|state, _| state.poll_writable(self.id, cx))
    }

    /// Takes all of `bytes`: what the session does not take at once stays with it, and
    /// [`StreamHandle::poll_writable`] waits until that has gone.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), StreamError> {
        self.session.with(|state, _| state.write(self.id, bytes))
    }

    /// Finishes this direction; ready once everything written is with the session.
    pub(crate) fn poll_finish(&self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        self.session.with(|state, _| state.poll_finish(self.id, cx))
    }

    /// Resets the stream: the other side gets an error.
    pub(crate) fn reset(&self) {
        self.session.with(|state, _| state.reset(self.id));
    }

    pub(crate) fn relay(&self) -> RelayAddress {
        self.session.relay
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.session.with(|state, _| state.release(self.id));
    }
}

/// Takes back an open that nobody waits for any more.
struct DialGuard {
    session: Arc<Session>,
    id: StreamId,
}

impl Drop for DialGuard {
    fn drop(&mut self) {
        self.session.with(|state, _| state.cancel_open(self.id));
    }
}

impl Effects {
    fn carry_out(self) {
        for waker in self.wakes {
            waker.wake();
        }
        for (answer, opened) in self.opened {
            // The dialler may have gone; then the stream goes with its handle.
            drop(answer.send(opened));
        }
        for (permit, stream) in self.incoming {
            permit.send(stream);
        }
        for (answer, rtt) in self.pongs {
            if answer.send(rtt).is_err() {
                tracing::trace!("nobody waits for the pong");
            }
        }
        drop((
            self.dropped_pings,
            self.abandoned,
            self.unused,
            self.no_places,
        ));
        if let Some(over) = self.over
            && over.send(()).is_err()
        {
            tracing::trace!("nobody waits for the end of the session");
        }
    }
}
