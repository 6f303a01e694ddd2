//! How ordinary threads reach a data thread, and how what it connected reaches them.
//!
//! Here: commands, their answers, the doorbell. Not here: what the data thread does with them (`data`).
//!
//! Invariant: a dialed connection has an owner at any time: the data thread, whoever took it, or the list of
//! abandoned ones, which the drop of an outcome that nobody took puts it on.
//! Bound: [`COMMANDS_MAX`] commands a shard wait; the flags of a drain and of an end never meet a full queue.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use ringway_proto::dialect::Dialect;
use ringway_proto::key::PublicKey;

use crate::core::DialError;
use crate::core::DialKey;
use crate::core::Dialed;
use crate::core::LookedUp;
use crate::core::Lookup;
use crate::core::RelayAddress;
use crate::core::SessionKey;
use crate::core::ShardId;
use crate::load::LoadPermit;
use crate::mailbox::SleepFlag;
use crate::ring::Waker;
use crate::snapshot::ShardSnapshot;

/// Why a command did not reach its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Its queue is full: commands come faster than the shard turns. Try again later.
    #[error("shard {0} has too many commands waiting")]
    Busy(u16),
}

/// Reaches a shard from any ordinary thread.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    shard: ShardId,
    inbox: Arc<Inbox>,
    doorbell: Doorbell,
}

/// What ordinary threads leave for a data thread.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) commands: ArrayQueue<Command>,
    /// Dialed connections that nobody has taken. Bound: the sockets of the shard, each once.
    pub(super) abandoned: Arc<SegQueue<SessionKey>>,
    /// Answers of the registry. Bound: `LOOKUPS_MAX`, one a question.
    pub(super) answers: SegQueue<(Lookup, LookedUp)>,
    /// These two must not meet a full queue.
    pub(super) is_draining: AtomicBool,
    pub(super) is_ending: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Command {
    Attach(Dialect, OwnedFd),
    Dial(SocketAddr, DialAnswer),
    HangUp(SessionKey, mpsc::SyncSender<bool>),
    Kick(PublicKey, mpsc::SyncSender<bool>),
    Snapshot(mpsc::SyncSender<ShardSnapshot>),
    Want(Dialect, Vec<RelayAddress>),
}

/// Where the outcome of a dial goes.
#[derive(Debug)]
pub(super) struct DialAnswer {
    sender: mpsc::SyncSender<Delivery>,
    abandoned: Arc<SegQueue<SessionKey>>,
    doorbell: Doorbell,
}

/// Memory of one dial that is waited for: the place in the table and the slot of the channel.
pub(crate) const DIAL_ANSWER_BYTES: usize = size_of::<(DialKey, Dialer)>() + size_of::<Delivery>();

/// Who waits for a dial, and the permit of the connection that it may become.
pub(super) type Dialer = (DialAnswer, LoadPermit);

impl DialAnswer {
    /// Hands the outcome over; returns whether somebody may still take it.
    pub(super) fn send(self, outcome: Result<Dialed, DialError>) -> bool {
        let Self {
            sender,
            abandoned,
            doorbell,
        } = self;
        let delivery = Delivery {
            outcome: Some(outcome),
            abandoned,
            doorbell,
        };
        sender.try_send(delivery).is_ok()
    }
}

/// An outcome on its way. A connection that is dropped with it is hung up, wherever that happens: in the
/// hands of the data thread, or in a channel whose receiver has gone.
#[derive(Debug)]
struct Delivery {
    outcome: Option<Result<Dialed, DialError>>,
    abandoned: Arc<SegQueue<SessionKey>>,
    doorbell: Doorbell,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(Ok(dialed)) = self.outcome.take() {
            self.abandoned.push(dialed.place.session);
            self.doorbell.ring();
        }
    }
}

/// A dial under way. Dropped before its outcome was taken, it closes the connection.
#[derive(Debug)]
#[must_use = "a dropped dial is hung up"]
pub struct PendingDial(mpsc::Receiver<Delivery>);

impl PendingDial {
    /// Waits for the outcome. The connection is then the caller's to hang up.
    ///
    /// # Errors
    /// When it does not come within `timeout`, or never, because the shard has ended.
    pub fn recv_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Result<Dialed, DialError>, mpsc::RecvTimeoutError> {
        let mut delivery = self.0.recv_timeout(timeout)?;
        delivery
            .outcome
            .take()
            .ok_or(mpsc::RecvTimeoutError::Disconnected)
    }
}

/// Wakes a data thread if it sleeps.
#[derive(Debug, Clone)]
pub(crate) struct Doorbell {
    flag: Arc<CachePadded<SleepFlag>>,
    waker: Waker,
}

impl Doorbell {
    pub(crate) const fn new(flag: Arc<CachePadded<SleepFlag>>, waker: Waker) -> Self {
        Self { flag, waker }
    }

    /// Call after putting something where the data thread looks.
    pub(crate) fn ring(&self) {
        if self.flag.must_wake() {
            self.waker.wake();
        }
    }
}

impl ShardHandle {
    pub(crate) fn new(shard: ShardId, doorbell: Doorbell) -> Self {
        let inbox = Arc::new(Inbox {
            commands: ArrayQueue::new(COMMANDS_MAX),
            abandoned: Arc::default(),
            answers: SegQueue::new(),
            is_draining: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        });
        Self {
            shard,
            inbox,
            doorbell,
        }
    }

    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Returns the shard's number.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Takes nothing new from now on: stops listening, tells every peer, ends each session with its last
    /// stream.
    pub fn drain(&self) {
        self.inbox.is_draining.store(true, Ordering::Release);
        self.doorbell.ring();
    }

    /// Ends the session of `key` if this shard holds it; the receiver gets whether it did.
    ///
    /// # Errors
    /// [`CommandError::Busy`]. The receiver reports a closed channel when the shard ends first.
    pub fn kick(&self, key: PublicKey) -> Result<mpsc::Receiver<bool>, CommandError> {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.command(Command::Kick(key, answer))?;
        Ok(receiver)
    }

    /// Connects the shard to `target`; the dial gets the connection or why there is none: what lacks on
    /// this side within a turn, what the target does within `DIAL_TIMEOUT`. A connection that nobody takes
    /// is closed.
    ///
    /// # Errors
    /// As for [`ShardHandle::kick`].
    pub fn dial(&self, target: SocketAddr) -> Result<PendingDial, CommandError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let answer = DialAnswer {
            sender,
            abandoned: Arc::clone(&self.inbox.abandoned),
            doorbell: self.doorbell.clone(),
        };
        self.command(Command::Dial(target, answer))?;
        Ok(PendingDial(receiver))
    }

    /// Closes a connection that was dialed on this shard; the receiver gets whether it was still there.
    ///
    /// # Errors
    /// As for [`ShardHandle::kick`].
    pub fn hang_up(&self, dialed: SessionKey) -> Result<mpsc::Receiver<bool>, CommandError> {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.command(Command::HangUp(dialed, answer))?;
        Ok(receiver)
    }

    /// Asks for a snapshot; the receiver gets it within a turn.
    ///
    /// # Errors
    /// As for [`ShardHandle::kick`].
    pub fn snapshot(&self) -> Result<mpsc::Receiver<ShardSnapshot>, CommandError> {
        let (answer, receiver) = mpsc::sync_channel(1);
        self.command(Command::Snapshot(answer))?;
        Ok(receiver)
    }

    /// Sets the relays that the registry names: the shard keeps links with them, besides those that its
    /// configuration names.
    ///
    /// # Errors
    /// As for [`ShardHandle::kick`].
    pub fn want_relays(
        &self,
        dialect: Dialect,
        relays: Vec<RelayAddress>,
    ) -> Result<(), CommandError> {
        self.command(Command::Want(dialect, relays))
    }

    /// Makes the shard take one end of a socket pair for a connection of the relay with itself, in a dialect:
    /// whoever has the other end and the relay's key of that dialect gets a session over it, over which the
    /// shard's streams to and from that key run. A second one of a dialect takes the place of the first. The
    /// end is closed when the shard has no room.
    ///
    /// # Errors
    /// As for [`ShardHandle::kick`].
    pub fn attach(&self, dialect: Dialect, socket: UnixStream) -> Result<(), CommandError> {
        self.command(Command::Attach(dialect, socket.into()))
    }

    /// Answers a question that the shard has put to its [`Resolver`](crate::set::Resolver). Once each.
    pub fn answer(&self, lookup: Lookup, answer: LookedUp) {
        self.inbox.answers.push((lookup, answer));
        self.doorbell.ring();
    }

    /// Closes everything and ends the shard.
    pub(crate) fn shutdown(&self) {
        self.inbox.is_ending.store(true, Ordering::Release);
        self.doorbell.ring();
    }

    fn command(&self, command: Command) -> Result<(), CommandError> {
        self.inbox
            .commands
            .push(command)
            .map_err(|_| CommandError::Busy(self.shard.0))?;
        self.doorbell.ring();
        Ok(())
    }
}

/// Commands that wait for a shard; each is answered within a turn.
pub(super) const COMMANDS_MAX: usize = 64;
