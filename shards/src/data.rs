//! The data thread of a shard: pumps ring and core.
//!
//! Here: the one loop of a shard, its policy of waiting. Not here: how commands reach it (`handle`), what
//! the events mean (`core`), the system calls (`ring`), the other thread of the shard (`service`).
//!
//! A turn: submit and wait in one system call; hand what happened, what other shards sent, what the
//! service executor computed and what time it is to the core; carry out what it asks for. At most a
//! quantum of each a turn, so that no source of work shuts out another.
//!
//! Waiting: with input at hand, not at all. After activity, poll shared memory for `spin`, because
//! sleeping costs more than relaying (75 us a round trip against 21 us; docs/internals/uring.md, finding
//! 2). Then sleep until the core's next deadline: an idle shard makes no system call.

mod handle;
mod placing;
mod stalls;
mod trimming;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crossbeam::utils::CachePadded;
use ringway_proto::dialect::Dialect;
use ringway_proto::limits::TURN_QUANTUM;
use ringway_proto::time::Now;
use rustix::io::Errno;

use crate::core::Action;
use crate::core::Arrival;
use crate::core::ConnectFault;
use crate::core::DialKey;
use crate::core::LookedUp;
use crate::core::Message;
use crate::core::RecvEnd;
use crate::core::ShardCore;
use crate::core::ShardId;
use crate::core::Slot;
use crate::core::Source;
use crate::directory::SessionDirectory;
use crate::mailbox::Mailboxes;
use crate::mailbox::SleepFlag;
use crate::resolver::Resolver;
use crate::ring;
use crate::ring::Completion;
use crate::ring::ConnectOptions;
use crate::ring::ReceiveEnd;
use crate::ring::Ring;
use crate::ring::RingHandle;
use crate::ring::RingLease;
use crate::ring::Wait;
use crate::service::ServicePort;
use crate::snapshot::DataNumbers;
use crate::snapshot::ShardAudit;
use crate::snapshot::ShardSnapshot;

pub(crate) use self::handle::DIAL_ANSWER_BYTES;
pub(crate) use self::handle::Doorbell;
pub(crate) use self::handle::Inbox;
pub use self::handle::{CommandError, PendingDial, ShardHandle};
pub(crate) use self::placing::Placing;

use self::handle::{COMMANDS_MAX, Command, DialAnswer, Dialer};

use self::stalls::Stalls;
use self::trimming::Trimming;

/// What a data thread is made of.
pub(crate) struct Parts {
    pub(crate) shard: ShardId,
    pub(crate) ring: Ring,
    pub(crate) core: ShardCore<RingLease, SessionDirectory>,
    pub(crate) mailboxes: Mailboxes<Message<RingLease>>,
    /// The rings of all shards, by number.
    pub(crate) rings: Vec<RingHandle>,
    pub(crate) service: ServicePort,
    pub(crate) placing: Placing,
    /// What each listener of the ring speaks, by its number.
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) epoch: Instant,
    pub(crate) spin: Duration,
    /// Congestion control of the connections that the shard makes.
    pub(crate) congestion: Option<String>,
    /// Whom to ask about peers that no link has told of.
    pub(crate) resolvers: Resolvers,
}

/// Who knows of the parties of each dialect.
pub(crate) struct Resolvers {
    pub(crate) registry: Option<Arc<dyn Resolver>>,
    pub(crate) discovery: Option<Arc<dyn Resolver>>,
}

impl Resolvers {
    fn of(&self, dialect: Dialect) -> Option<&dyn Resolver> {
        match dialect {
            Dialect::Native => self.registry.as_deref(),
            _ => self.discovery.as_deref(),
        }
    }

    const fn is_none(&self) -> bool {
        self.registry.is_none() && self.discovery.is_none()
    }
}

/// The state of the loop.
pub(crate) struct DataThread {
    parts: Parts,
    sleep: Arc<CachePadded<SleepFlag>>,
    /// The flag says asleep, unless somebody has woken this shard.
    is_lying: bool,
    completions: Vec<Completion>,
    /// Who waits for a dial; as many as the core lets be under way.
    dialers: BTreeMap<DialKey, Dialer>,
    numbers: DataNumbers,
    trimming: Trimming,
    stalls: Stalls,
    active_at: Now,
    /// The core wants no connections.
    is_accept_paused: bool,
    is_draining: bool,
    /// Set by a shutdown: when to give up waiting for the last socket.
    ends_at: Option<Now>,
}

impl DataThread {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            sleep: parts.mailboxes.sleep_flag(),
            is_lying: false,
            parts,
            completions: Vec::new(),
            dialers: BTreeMap::new(),
            numbers: DataNumbers::default(),
            trimming: Trimming::default(),
            stalls: Stalls::default(),
            active_at: Now::ZERO,
            is_accept_paused: false,
            is_draining: false,
            ends_at: None,
        }
    }

    /// Runs the shard until it is shut down; returns its last snapshot.
    pub(crate) fn run(mut self) -> ShardSnapshot {
        loop {
            let wait = self.wait();
            self.numbers.turns += 1;
            self.numbers.sleeps += u64::from(wait != Wait::No);
            let turned = self.parts.ring.turn(wait, &mut self.completions);
            self.get_up();
            if let Err(error) = turned {
                ring_failed(self.parts.shard, &error);
            }
            let now = self.now();
            if wait == Wait::No {
                self.stalls.end(now);
            }
            self.stalls.begin(now);
            if self.take_in(now) {
                self.active_at = now;
            }
            if self
                .parts
                .core
                .next_deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                self.stalls.turn.had_timers = true;
                self.parts.core.handle_timeout(now);
            }
            if self.parts.ring.is_memory_short() {
                self.parts.core.relieve(now);
            }
            self.parts.core.collect_ports(now);
            self.parts.core.flush();
            self.carry_out(now);
            self.regulate_accept();
            let held = self.parts.core.held_count();
            if self.trimming.is_due(held, now) {
                self.stalls.turn.has_trimmed = true;
                self.trim(now);
            }
            if self.is_over(now) {
                return self.snapshot();
            }
        }
    }

    /// Hands everything that has happened to the core; returns whether anything has.
    fn take_in(&mut self, now: Now) -> bool {
        let mut count = self.completions.len();
        self.stalls.turn.completions = u32::try_from(count).unwrap_or(u32::MAX);
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.completions = completions;
        let Parts {
            mailboxes,
            core,
            service,
            ..
        } = &mut self.parts;
        let messages = mailboxes.receive(TURN_QUANTUM, |source, message| {
            core.message(shard_id(source), message, now);
        });
        count += usize::from(messages > 0);
        self.stalls.turn.messages = messages;
        for _ in 0..TURN_QUANTUM {
            let Some(result) = service.next(now) else {
                break;
            };
            core.computed(result, now);
            self.stalls.turn.results += 1;
            count += 1;
        }
        if let Some(result) = service.compute_stalled(now) {
            self.numbers.jobs_stalled += 1;
            self.stalls.turn.results += 1;
            core.computed(result, now);
        }
        self.obey(now);
        count > 0
    }

    fn complete(&mut self, completion: Completion, now: Now) {
        let Parts {
            ring,
            core,
            placing,
            dialects,
            ..
        } = &mut self.parts;
        match completion {
            Completion::Arrived { .. }
            | Completion::HandedIn { .. }
            | Completion::HandedOver { .. }
            | Completion::HandOverFailed { .. } => self.place(&completion),
            Completion::Accepted {
                slot,
                address,
                listener,
            } => {
                let dialect = dialects.get(usize::from(listener)).copied();
                let arrival = Arrival {
                    dialect: dialect.unwrap_or_default(),
                    source: address.map_or(Source::UNKNOWN, Source::of),
                    address,
                };
                core.accepted(Slot(slot.0), arrival, now);
                ring.receive(slot);
            }
            Completion::AcceptFailed { errno } => {
                tracing::warn!(errno, shard = self.parts.shard.0, "accept failed");
            }
            Completion::Closed { slot } => {
                placing.left(slot);
                core.closed(Slot(slot.0));
            }
            Completion::Received { slot, lease } => core.received(Slot(slot.0), lease, now),
            Completion::ReceiveEnded { slot, end } => {
                let end = match end {
                    ReceiveEnd::Eof => RecvEnd::Eof,
                    ReceiveEnd::Error(errno) => RecvEnd::Error(errno),
                };
                core.receive_ended(Slot(slot.0), end, now);
            }
            Completion::Sent {
                slot,
                batch,
                result,
            } => {
                core.sent(Slot(slot.0), batch, result, now);
            }
            Completion::Connected { slot, token } => {
                if let Some(dialect) = attached_dialect(token) {
                    core.attached(Slot(slot.0), dialect, now);
                } else {
                    placing.connected(slot);
                    core.connected(DialKey::from_token(token), Slot(slot.0), now);
                }
                ring.receive(slot);
            }
            Completion::ConnectFailed { token, errno } if attached_dialect(token).is_some() => {
                let shard = self.parts.shard.0;
                tracing::warn!(errno, shard, "no room for the relay's own session");
            }
            Completion::ConnectFailed { token, errno } => {
                core.connect_failed(DialKey::from_token(token), connect_fault(errno), now);
            }
            Completion::Released { batch } => core.released(batch),
            // It has done its work by ending the wait.
            Completion::Woken => {}
        }
    }

    /// Sees to it that a connection gets to the shard with the least load.
    fn place(&mut self, completion: &Completion) {
        let may_leave = !self.is_draining && self.ends_at.is_none();
        let Parts {
            ring,
            rings,
            placing,
            shard,
            ..
        } = &mut self.parts;
        let ring_of = |target: Option<u16>| rings.get(usize::from(target?));
        match *completion {
            Completion::Arrived { slot } => match ring_of(placing.arrived(slot, may_leave)) {
                Some(target) => ring.hand_over(slot, target),
                None => ring.keep(slot),
            },
            Completion::HandedIn { slot } => placing.came_in(slot),
            Completion::HandedOver { slot } => placing.went(slot),
            Completion::HandOverFailed { slot, errno } => {
                let target = placing.stays(slot);
                tracing::debug!(shard = shard.0, ?target, errno, "hand-over failed");
                ring.keep(slot);
                // It may have stopped accepting for the place that was kept for this one.
                if let Some(target) = ring_of(target) {
                    ring.wake(target);
                }
            }
            _ => {}
        }
    }

    /// Does what ordinary threads have asked for.
    fn obey(&mut self, now: Now) {
        let inbox = Arc::clone(&self.parts.inbox);
        if !self.is_draining && inbox.is_draining.load(Ordering::Acquire) {
            self.is_draining = true;
            self.parts.ring.unlisten();
            self.parts.core.drain(now);
        }
        if self.ends_at.is_none() && inbox.is_ending.load(Ordering::Acquire) {
            self.ends_at = Some(now + SHUTDOWN_TIMEOUT);
            self.parts.ring.unlisten();
            self.parts.core.shutdown(now);
        }
        while let Some(dialed) = inbox.abandoned.pop() {
            let is_there = self.parts.core.hang_up(dialed, now);
            tracing::trace!(is_there, "nobody has taken a dialed connection");
        }
        if !self.parts.resolvers.is_none() {
            for _ in 0..TURN_QUANTUM {
                let Some((lookup, answer)) = inbox.answers.pop() else {
                    break;
                };
                self.parts.core.looked_up(lookup, answer, now);
            }
        }
        for _ in 0..COMMANDS_MAX {
            let is_heard = match inbox.commands.pop() {
                None => return,
                Some(Command::Attach(dialect, socket)) => {
                    self.parts.ring.adopt(socket, attach_token(dialect));
                    true
                }
                Some(Command::Dial(target, answer)) => self.dial(target, answer, now),
                Some(Command::HangUp(dialed, answer)) => answer
                    .try_send(self.parts.core.hang_up(dialed, now))
                    .is_ok(),
                Some(Command::Kick(key, answer)) => {
                    answer.try_send(self.parts.core.kick(&key, now)).is_ok()
                }
                Some(Command::Snapshot(answer)) => answer.try_send(self.snapshot()).is_ok(),
                Some(Command::Want(dialect, relays)) => {
                    self.parts.core.want_relays(dialect, &relays, now);
                    true
                }
            };
            tracing::trace!(is_heard, "command answered");
        }
    }

    /// Starts a dial, or answers at once that it cannot be; returns whether that was heard.
    fn dial(&mut self, target: SocketAddr, answer: DialAnswer, now: Now) -> bool {
        match self.parts.core.dial(target, now) {
            Ok(dial) => {
                let permit = self.parts.placing.permit();
                self.dialers.insert(dial, (answer, permit));
                true
            }
            Err(error) => answer.send(Err(error)),
        }
    }

    /// Does what the core has asked for.
    fn carry_out(&mut self, now: Now) {
        let Parts {
            core,
            ring,
            mailboxes,
            rings,
            service,
            congestion,
            resolvers,
            shard,
            ..
        } = &mut self.parts;
        while let Some(action) = core.poll_action() {
            match action {
                Action::CancelSend { slot } => ring.cancel_send(ring::Slot(slot.0)),
                Action::CancelConnect { dial } => ring.cancel_connect(dial.token()),
                Action::Connect {
                    dial,
                    source,
                    target,
                } => {
                    let options = ConnectOptions {
                        source: Some(source),
                        port_range: Some(core.local_port_bounds()),
                        congestion: congestion.clone(),
                        closes_with_fin: false,
                    };
                    if let Err(error) = ring.connect(target, &options, dial.token()) {
                        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                        core.connect_failed(dial, connect_fault(errno.raw_os_error()), now);
                    }
                }
                Action::Dialed { dial, outcome } => {
                    let is_heard = self
                        .dialers
                        .remove(&dial)
                        .is_some_and(|(answer, _permit)| answer.send(outcome));
                    tracing::trace!(is_heard, "dial answered");
                }
                Action::Close { slot } => ring.close(ring::Slot(slot.0)),
                Action::Compute(job) => service.submit(job, now),
                Action::Doubt { key } => {
                    if let Some(resolver) = resolvers.of(key.dialect()) {
                        resolver.doubt(key);
                    }
                }
                Action::LookUp(lookup) => {
                    let is_asked = resolvers
                        .of(lookup.key.dialect())
                        .is_some_and(|resolver| resolver.look_up(*shard, lookup));
                    if !is_asked {
                        core.looked_up(lookup, LookedUp::Unavailable, now);
                        // The turn has flushed before; the shard may sleep behind this.
                        core.flush();
                    }
                }
                Action::Message { target, message } => {
                    self.numbers.messages_sent += 1;
                    mailboxes.send(usize::from(target.0), message);
                }
                Action::PauseAccept => self.is_accept_paused = true,
                Action::ResumeAccept => self.is_accept_paused = false,
                Action::Send { slot, batch } => ring.send(ring::Slot(slot.0), batch),
            }
        }
        mailboxes.flush(|target| {
            if let Some(handle) = rings.get(target) {
                self.numbers.wakes_sent += 1;
                ring.wake(handle);
            }
        });
        service.flush();
    }

    /// Gives back what a load that has gone needed.
    fn trim(&mut self, now: Now) {
        let Parts {
            core,
            ring,
            placing,
            service,
            ..
        } = &mut self.parts;
        core.trim();
        ring.trim();
        placing.trim();
        ring::release_heap();
        service.trim();
        self.numbers.trims += 1;
        let took = self.now().saturating_since(now);
        tracing::debug!(shard = self.parts.shard.0, ?took, "memory given back");
    }

    /// Accepts when both the core and the service executor can take more, and tells the other shards.
    fn regulate_accept(&mut self) {
        let is_over = self.is_draining || self.ends_at.is_some();
        let is_busy = self.is_accept_paused || self.parts.service.backlog_len() > 0;
        self.parts.placing.set_shut(is_over || is_busy);
        let is_full = self.parts.placing.is_full() || self.parts.ring.is_nearly_full();
        if is_busy || is_full {
            self.parts.ring.pause_accept();
        } else {
            self.parts.ring.resume_accept();
        }
    }

    /// Chooses how the next turn waits. See the module's page.
    fn wait(&mut self) -> Wait {
        if self.has_input() {
            return Wait::No;
        }
        let deadline = self.deadline();
        let spins_until = self.active_at + self.parts.spin;
        let may_spin = !self.parts.spin.is_zero() && !self.parts.service.is_computing();
        if may_spin && self.now() < spins_until {
            if self.parts.ring.has_requests() {
                return Wait::No;
            }
            if self.spin(spins_until.min(deadline)) {
                return Wait::No;
            }
        }
        self.sleep.lie_down();
        self.is_lying = true;
        if self.has_input() {
            return Wait::No;
        }
        if deadline == Now::MAX {
            self.stalls.lose();
            return Wait::Forever;
        }
        let now = self.now();
        let left = deadline.saturating_since(now);
        if left.is_zero() {
            Wait::No
        } else {
            self.stalls.end(now);
            Wait::For(left)
        }
    }

    fn get_up(&mut self) {
        if std::mem::take(&mut self.is_lying) {
            self.sleep.get_up();
        }
    }

    /// Looks for input until `until`; returns whether there is some.
    fn spin(&mut self, until: Now) -> bool {
        loop {
            if self.has_input() {
                self.numbers.spins_hit += 1;
                return true;
            }
            if self.now() >= until {
                self.numbers.spins_missed += 1;
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Returns whether a turn would find something. Costs no system call.
    fn has_input(&mut self) -> bool {
        self.parts.ring.is_ready()
            || self.parts.mailboxes.has_mail()
            || self.parts.service.has_result()
            || !self.parts.inbox.commands.is_empty()
            || !self.parts.inbox.abandoned.is_empty()
            || !self.parts.inbox.answers.is_empty()
            || (!self.is_draining && self.parts.inbox.is_draining.load(Ordering::Acquire))
            || (self.ends_at.is_none() && self.parts.inbox.is_ending.load(Ordering::Acquire))
    }

    /// Returns when the next turn must be, if nothing happens.
    fn deadline(&self) -> Now {
        let mut deadline = self.parts.core.next_deadline().unwrap_or(Now::MAX);
        if let Some(ends_at) = self.ends_at {
            deadline = deadline.min(ends_at);
            if self.parts.placing.count() > 0 {
                // A connection on its way here may yet stay where it was, and nobody says so.
                deadline = deadline.min(self.now() + LANDING_RETRY);
            }
        }
        if let Some(due) = self.trimming.deadline() {
            deadline = deadline.min(due);
        }
        if let Some(stalls_at) = self.parts.service.stalls_at() {
            deadline = deadline.min(stalls_at);
        }
        if self.parts.mailboxes.outbox_len() > 0 {
            // The target does not say when there is room.
            deadline = deadline.min(self.now() + OUTBOX_RETRY);
        }
        deadline
    }

    /// Returns whether a shutdown is complete, or has taken too long.
    fn is_over(&mut self, now: Now) -> bool {
        let Some(ends_at) = self.ends_at else {
            return false;
        };
        let is_empty = self.parts.core.is_drained()
            && self.parts.core.audit().is_zero()
            && self.parts.ring.numbers().sockets_current == 0
            && self.parts.placing.count() == 0;
        if !is_empty && now >= ends_at {
            let audit = self.parts.core.audit();
            tracing::error!(
                shard = self.parts.shard.0,
                ?audit,
                "shard ends with something left"
            );
        }
        is_empty || now >= ends_at
    }

    fn snapshot(&mut self) -> ShardSnapshot {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let now = self.now();
        self.parts.core.collect_ports(now);
        let audit = self.parts.core.audit();
        let ring = self.parts.ring.numbers();
        let data = DataNumbers {
            mailbox_current: count(self.parts.mailboxes.inbound_len()),
            outbox_current: count(self.parts.mailboxes.outbox_len()),
            jobs_current: u64::from(self.parts.service.outstanding()),
            jobs_waiting_current: count(self.parts.service.backlog_len()),
            connections_current: u64::from(self.parts.placing.count()),
            turns_stalled: self.stalls.count(),
            turn_longest_us: self.stalls.longest_us(),
            ..self.numbers
        };
        ShardSnapshot {
            shard: self.parts.shard,
            audit,
            shard_audit: ShardAudit::new(audit, &ring, &data),
            stats: self.parts.core.stats().clone(),
            recorder: self.parts.core.recorder().clone(),
            ring,
            data,
            stalls: self.stalls.kept(),
            is_drained: self.parts.core.is_drained(),
        }
    }

    fn now(&self) -> Now {
        since(self.parts.epoch)
    }
}

/// Returns the time since `epoch`, which all shards share.
pub(crate) fn since(epoch: Instant) -> Now {
    Now::ZERO + epoch.elapsed()
}

/// Returns whose fault a failed connect is.
fn connect_fault(errno: i32) -> ConnectFault {
    match Errno::from_raw_os_error(errno) {
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => ConnectFault::PortTaken,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::PERM => {
            ConnectFault::Local(errno)
        }
        _ => ConnectFault::Peer(errno),
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).unwrap_or(u16::MAX))
}

#[expect(
    clippy::panic,
    reason = "a shard without its ring must not keep sessions; restart"
)]
fn ring_failed(shard: ShardId, error: &ring::RingError) -> ! {
    panic!(
        "ring of shard {}: {error}: {:?}",
        shard.0,
        std::error::Error::source(error)
    )
}

/// Returns the token of sockets that are attached; no dial has it (`core::DialKey::token`), of which there
/// are fewer.
fn attach_token(dialect: Dialect) -> u64 {
    u64::MAX - dialect.index() as u64
}

/// Returns the dialect of an attached socket, when the token is that of one.
fn attached_dialect(token: u64) -> Option<Dialect> {
    Dialect::ALL
        .into_iter()
        .find(|dialect| attach_token(*dialect) == token)
}

/// How often a full mailbox is tried again.
const OUTBOX_RETRY: Duration = Duration::from_micros(200);

/// How often a shard that ends looks whether a connection on its way to it has come to nothing.
const LANDING_RETRY: Duration = Duration::from_millis(1);

/// Longest wait of a shutdown for the last socket to close.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
