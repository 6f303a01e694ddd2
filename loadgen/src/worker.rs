//! One thread of a run: a ring, sessions, streams.
//!
//! Here: the loop, the phases, who connects or opens next. Not here: handshakes (`setup`), opens
//! (`open`), frames that arrive (`input`), bytes that leave (`output`).
//!
//! The generator must cost less than what it drives, so the data path works on frame headers: large
//! frames are built once and get 36 new bytes each time they are sent; received bytes are counted and
//! checked by position in the receive memory, never copied.
//!
//! Both sessions of a pair live on one thread. The relay deals sessions out to its shards by itself, so
//! pairs cross its shards no less for that.

mod churn;
mod due;
mod evict;
mod handover;
mod hop;
mod ids;
mod input;
mod loiter;
mod objects;
mod open;
mod output;
mod party;
mod patience;
mod quantum;
mod routes;
mod session;
mod setup;
mod slow;
mod storm;
mod tuples;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::key::PublicKey;
use ringway_proto::time::Now;
use ringway_shards::batch::Batch;
use ringway_shards::ring::{
    Completion, ConnectOptions, ListenOptions, Listener, Ring, RingConfig, RingError, RingLease,
    Slot, Wait, Waker,
};

use self::churn::Cycles;
use self::due::Due;
use self::handover::Handover;
use self::loiter::Loiters;
use self::party::Party;
use self::patience::Patience;
use self::quantum::Quantum;
use self::routes::Routes;
use self::session::{Part, Session, SlowState, Step, Stream};
use self::slow::SlowPairs;
use self::storm::Storms;
use self::tuples::Tuples;
use crate::intervals::Contribution;
use crate::payload::{Filling, HEAD_LEN};
use crate::plan::{End, Mode, Placement, Plan, PortChoice, STANDING, Scenario, Target};
use crate::process;
use crate::schedule::{BACKLOG_MAX, Schedule, Share};
use crate::shared::{Phase, Shared};
use crate::tally::Tally;

/// Why a worker could not go on. Everything else is counted and the run goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("cannot pin a thread to core {cpu}: {source}")]
    Pin { cpu: u32, source: io::Error },
    #[error("{0}")]
    Hello(&'static str),
    #[error(transparent)]
    Listen(#[from] ringway_shards::ring::ListenError),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// One thread's state.
pub(crate) struct Worker {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    index: u32,
    ring: Ring,
    target: SocketAddr,
    /// Whether its sessions speak the dmsg dialect.
    is_dmsg: bool,
    /// A key that nobody has, for opens to nobody.
    nobody: PublicKey,
    patience: Patience,
    tuples: Tuples,
    /// Session of each slot.
    by_slot: Vec<u32>,
    sessions: Vec<Session>,
    /// Sessions that are made once, in front of those that come and go.
    standing: usize,
    cycles: Cycles,
    loiters: Loiters,
    slow: SlowPairs,
    storms: Storms,
    /// Key whose turn it is to be evicted.
    evict_next: usize,
    routes: Routes,
    streams: Vec<Stream>,
    idle_streams: Vec<u32>,
    /// Sessions with something to send.
    dirty: VecDeque<u32>,
    quantum: Quantum,
    filling: Filling,
    memory: output::Memory,
    /// Messages that a stream may have on their way.
    in_flight: u32,
    /// Streams that send, by ordinal.
    senders: Vec<u32>,
    /// When messages are due; they go to the senders in turn.
    messages: Option<Schedule>,
    /// The sender of the next one.
    next_sender: usize,
    /// Messages that are due and not sent.
    backlog: usize,
    /// Everything else that is due.
    due: Due,
    /// Sessions that were begun, for the next one to connect.
    begun: u32,
    connecting: u32,
    opening: u32,
    /// Streams asked for, for the next session to dial.
    opened: u64,
    phase: Phase,
    now: Now,
    measured_from: Now,
    cpu_from: Duration,
    is_drained: bool,
    /// What was measured since the last interval ended, and totals.
    tally: Tally,
    handover: Handover,
    /// What `shared` knows of the tally: messages sent, received, bytes.
    published: [u64; 3],
}

impl Worker {
    /// Makes the thread's ring and sessions. Call it on the thread that will run it.
    pub(crate) fn new(
        plan: &Arc<Plan>,
        shared: &Arc<Shared>,
        index: u32,
        sender: mpsc::Sender<Contribution>,
    ) -> Result<Self, WorkerError> {
        pin(plan, index)?;
        let sockets_max = plan.sockets_per_thread();
        let mut ring = Ring::new(&RingConfig {
            sockets_max,
            blocks: BLOCKS,
            blocks_max: BLOCKS_MAX,
            ..RingConfig::default()
        })?;
        if let Target::Proxy { listen, .. } = plan.target {
            ring.listen(Listener::bind(&ListenOptions {
                address: listen,
                backlog: 4_096,
                congestion: plan.placement.congestion.clone(),
                closes_with_fin: false,
            })?);
        }
        let message_bytes = usize::try_from(plan.traffic.message_bytes).unwrap_or(usize::MAX);
        let filling = Filling::new(message_bytes.max(HEAD_LEN));
        let now = shared.now();
        let (sessions, standing) = sessions(plan, index).map_err(WorkerError::Hello)?;
        let nobody = Party::new(dialect(plan)).map_err(WorkerError::Hello)?;
        Ok(Self {
            is_dmsg: plan.is_dmsg(),
            nobody: nobody.public(),
            patience: Patience::new(plan),
            cycles: Cycles::new(&sessions),
            loiters: Loiters::new(plan, now).map_err(WorkerError::Hello)?,
            slow: SlowPairs::default(),
            storms: Storms::new(plan.seed.wrapping_add(u64::from(index))),
            evict_next: 0,
            routes: Routes::new(plan, &sessions),
            sessions,
            standing,
            memory: output::Memory::new(plan, &filling),
            in_flight: match plan.traffic.mode {
                Mode::Bulk => u32::MAX,
                Mode::PingPong => plan.traffic.in_flight,
            },
            filling,
            target: plan.target.socket(),
            tuples: tuples(plan, index),
            by_slot: vec![u32::MAX; usize::try_from(sockets_max).unwrap_or(0)],
            streams: Vec::new(),
            idle_streams: Vec::new(),
            dirty: VecDeque::new(),
            quantum: Quantum::default(),
            senders: Vec::new(),
            messages: None,
            next_sender: 0,
            backlog: 0,
            due: Due::default(),
            begun: 0,
            connecting: 0,
            opening: 0,
            opened: 0,
            phase: Phase::Connect,
            now,
            measured_from: now,
            cpu_from: Duration::ZERO,
            is_drained: false,
            tally: Tally::default(),
            handover: Handover::new(sender),
            published: [0; 3],
            plan: Arc::clone(plan),
            shared: Arc::clone(shared),
            index,
            ring,
        })
    }

    /// Returns what ends the worker's sleep from another thread.
    pub(crate) fn waker(&self) -> Waker {
        self.ring.waker()
    }

    /// Runs until the run is over; returns what was measured.
    pub(crate) fn run(mut self) -> Result<Tally, WorkerError> {
        let mut completions = Vec::new();
        loop {
            let phase = self.shared.phase();
            self.hand_over_if_asked();
            while self.phase < phase {
                self.advance_phase();
            }
            self.quantum.start(self.next_due().is_some());
            if self.is_dmsg {
                self.look_at_patience();
            }
            self.advance();
            self.flush();
            self.publish();
            if self.phase == Phase::Close && self.close_all() {
                return Ok(self.tally);
            }
            let wait = self.wait();
            let begun = matches!(wait, Wait::No).then(|| self.shared.now());
            self.ring.turn(wait, &mut completions)?;
            self.now = self.shared.now();
            let counts = self.phase == Phase::Measure && completions.is_empty();
            if let Some(begun) = begun.filter(|_| counts) {
                // Looking for work and finding none costs a processor, and nobody misses it.
                self.tally.looked += self.now.saturating_since(begun);
            }
            for completion in completions.drain(..) {
                self.on_completion(completion);
            }
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Received { slot, lease } => self.on_received(slot, &lease),
            Completion::Sent {
                slot,
                batch,
                result,
            } => self.on_sent(slot, batch, result),
            Completion::Connected { slot, token } => self.on_connected(slot, token),
            Completion::ConnectFailed { token, errno } => self.on_connect_failed(token, errno),
            Completion::Accepted { slot, .. } => self.on_accepted(slot),
            Completion::ReceiveEnded { slot, end } => self.on_receive_ended(slot, end),
            Completion::Closed { slot } => self.on_closed(slot),
            Completion::AcceptFailed { errno } => {
                self.tally.failures.count_errno("accept", errno);
                self.note_failure();
            }
            // Its ring keeps what it accepts, and copies what it sends.
            Completion::Arrived { .. }
            | Completion::HandedIn { .. }
            | Completion::HandedOver { .. }
            | Completion::HandOverFailed { .. }
            | Completion::Released { .. }
            | Completion::Woken => {}
        }
    }

    /// Enters the next phase.
    fn advance_phase(&mut self) {
        self.now = self.shared.now();
        self.phase = match self.phase {
            Phase::Connect => Phase::Open,
            Phase::Open => {
                self.start_traffic();
                Phase::Warmup
            }
            Phase::Warmup => {
                self.tally.begin();
                self.handover.begin();
                self.measured_from = self.now;
                self.cpu_from = process::thread_cpu();
                Phase::Measure
            }
            Phase::Measure => {
                self.finish_storm();
                self.tally.cpu = process::thread_cpu().saturating_sub(self.cpu_from);
                self.tally.measured = self.now.saturating_since(self.measured_from);
                Phase::Drain
            }
            Phase::Drain | Phase::Close => {
                self.finish_tally();
                self.hand_over_the_rest();
                Phase::Close
            }
        };
    }

    fn finish_tally(&mut self) {
        for index in &self.senders {
            if let Some(stream) = self.streams.get(place(*index)) {
                let waiting = stream.due_times.len();
                self.tally.messages_unsent += u64::try_from(waiting).unwrap_or(u64::MAX);
            }
        }
        if self.plan.scenario != Scenario::Churn {
            let waiting = u64::try_from(self.due.len()).unwrap_or(u64::MAX);
            self.tally.messages_unsent += waiting;
        }
        self.finish_routes();
        let partial = self
            .streams
            .iter()
            .filter(|s| !s.assembler.is_between_messages());
        self.tally.partial_messages = u64::try_from(partial.count()).unwrap_or(u64::MAX);
    }

    /// Begins what may begin now.
    fn advance(&mut self) {
        match (self.phase, self.plan.scenario) {
            (Phase::Connect, Scenario::Handshakes | Scenario::Slowloris) => {}
            (Phase::Connect, _) => self.connect_more(),
            (Phase::Open, Scenario::Setups | Scenario::SlowReader | Scenario::Steady) => {
                self.open_more(Some(self.streams_own()));
            }
            (Phase::Warmup | Phase::Measure, Scenario::Churn) => self.cycle_more(),
            (Phase::Warmup | Phase::Measure, Scenario::Slowloris) => self.loiter_more(),
            (Phase::Warmup | Phase::Measure, Scenario::SlowReader) => self.slow_more(),
            (Phase::Measure, Scenario::Storm) => self.storm_more(),
            (Phase::Warmup | Phase::Measure, Scenario::Evict) => {
                self.release_events();
                self.evict_more();
            }
            (Phase::Warmup | Phase::Measure, Scenario::Handshakes) => {
                self.release_events();
                self.connect_again();
            }
            (Phase::Warmup | Phase::Measure, Scenario::Opens) => {
                self.release_events();
                self.open_more(None);
            }
            (Phase::Warmup | Phase::Measure, Scenario::Setups) => {
                self.release_events();
                self.ask_more();
            }
            (Phase::Warmup | Phase::Measure, _) => self.release_due(),
            (Phase::Drain, _) => self.check_drained(),
            (Phase::Open | Phase::Close, _) => {}
        }
    }

    /// Hands out the messages that are due by the clock.
    fn release_due(&mut self) {
        if self.messages.is_none() {
            return;
        }
        let now = self.shared.now();
        for _ in 0..RELEASE_QUANTUM {
            let Some(schedule) = &mut self.messages else {
                return;
            };
            if schedule.due() > now || self.backlog == BACKLOG_MAX {
                return;
            }
            let due = schedule.take();
            self.backlog += 1;
            self.now = now;
            self.tally.latencies.lag.record(now.saturating_since(due));
            let Some(index) = self.senders.get(self.next_sender).copied() else {
                return;
            };
            self.next_sender = (self.next_sender + 1) % self.senders.len();
            if let Some(stream) = self.streams.get_mut(place(index)) {
                stream.due += 1;
                stream.due_times.push_back(due);
            }
            self.wake_stream(index);
        }
    }

    /// Notes what else is due by the clock.
    fn release_events(&mut self) {
        self.now = self.shared.now();
        let lag = &mut self.tally.latencies.lag;
        self.due.release(self.now, u64::MAX, lag);
    }

    /// Returns when events of this thread are due that owns `own` of `total` of what they are dealt out
    /// to, from now on; nothing without a pace.
    fn schedule(&self, own: u64, total: u64) -> Option<Schedule> {
        let pace = self.plan.pace.as_ref()?;
        let line = self.shared.line.as_ref()?;
        let share = Share {
            own,
            total,
            thread: self.index,
            threads: self.plan.placement.threads,
        };
        Some(Schedule::new(
            self.now,
            line,
            pace.arrivals,
            self.plan.seed,
            share,
        ))
    }

    /// Starts the clock, or sends at full speed.
    fn start_traffic(&mut self) {
        let threads = u64::from(self.plan.placement.threads);
        match self.plan.scenario {
            Scenario::Evict | Scenario::Handshakes | Scenario::Opens | Scenario::Setups => {
                let schedule = self.schedule(1, threads);
                return self.due.start(schedule);
            }
            Scenario::Churn | Scenario::Idle | Scenario::Slowloris | Scenario::Storm => return,
            Scenario::Plain | Scenario::SlowReader | Scenario::Steady => {}
        }
        let own = u64::try_from(self.senders.len()).unwrap_or(u64::MAX);
        let total = u64::from(self.plan.streams_total());
        self.messages = self.schedule(own, total);
        if self.messages.is_some() {
            return;
        }
        let mode = self.plan.traffic.mode;
        self.phase = Phase::Warmup;
        for index in self.senders.clone() {
            if let Some(stream) = self.streams.get_mut(place(index)) {
                stream.due = match mode {
                    Mode::Bulk => u64::MAX,
                    Mode::PingPong => u64::from(self.in_flight),
                };
            }
            self.wake_stream(index);
        }
    }

    /// Reports once that everything sent from here has arrived.
    fn check_drained(&mut self) {
        let is_quiet = match self.plan.scenario {
            Scenario::Churn => self.cycles.is_quiet(),
            Scenario::SlowReader | Scenario::Steady => {
                self.tally.messages_sent == self.tally.messages_received
            }
            Scenario::Plain => {
                // In this order: both only grow, so that equal means equal at one moment.
                let received = self.shared.messages_received.load(Ordering::Acquire);
                received == self.shared.messages_sent.load(Ordering::Acquire)
            }
            Scenario::Opens => self.opening == 0,
            Scenario::Setups => self.routes.is_quiet(),
            Scenario::Evict | Scenario::Handshakes => self.connecting == 0,
            Scenario::Idle | Scenario::Slowloris | Scenario::Storm => true,
        };
        if is_quiet && !self.is_drained {
            self.is_drained = true;
            crate::shared::bump(&self.shared.workers_drained);
        }
    }

    /// Closes what is open; true when nothing is left.
    fn close_all(&mut self) -> bool {
        for index in 0..self.sessions.len() {
            self.close_session(index);
        }
        let is_open = |session: &Session| !matches!(session.step, Step::Idle | Step::Gone);
        !self.sessions.iter().any(is_open)
    }

    /// Returns when the clock has something next, if there is a clock.
    fn next_due(&self) -> Option<Now> {
        if !self.phase.is_loaded() {
            return None;
        }
        let messages_at = self.messages.as_ref().map(Schedule::due);
        messages_at
            .or_else(|| self.due.next_at())
            .or_else(|| self.storms.next())
    }

    fn wait(&self) -> Wait {
        if self.plan.placement.is_spinning && self.phase < Phase::Close {
            return Wait::No;
        }
        if self.quantum.is_short() {
            return Wait::No;
        }
        let due = [self.next_due(), self.patience.next_ping()];
        if let Some(due) = due.into_iter().flatten().min() {
            let left = due.saturating_since(self.now);
            return match left.checked_sub(SPIN_TIME) {
                None => Wait::No,
                Some(left) => Wait::For(left.min(IDLE_WAIT)),
            };
        }
        Wait::For(IDLE_WAIT)
    }

    fn session_of(&self, slot: Slot) -> Option<usize> {
        let session = *self.by_slot.get(place(slot.0))?;
        (session != u32::MAX).then(|| place(session))
    }

    fn note_failure(&self) {
        self.shared.failures.fetch_add(1, Ordering::AcqRel);
    }

    fn fail(&mut self, name: &str) {
        self.tally.failures.count(name);
        self.note_failure();
    }

    /// Returns the streams that this thread opens before the load starts.
    fn streams_own(&self) -> u64 {
        let pairs = self.plan.share(self.plan.pairs(), self.index);
        u64::from(pairs) * u64::from(self.plan.streams)
    }
}

/// Pins the calling thread to its core, if the plan has one for it.
fn pin(plan: &Plan, index: u32) -> Result<(), WorkerError> {
    let cpus = &plan.placement.cpus;
    if cpus.is_empty() {
        return Ok(());
    }
    let cpu = cpus[place(index) % cpus.len()];
    process::pin(cpu).map_err(|source| WorkerError::Pin { cpu, source })
}

fn tuples(plan: &Plan, index: u32) -> Tuples {
    let Placement {
        threads,
        sources,
        ports,
        port_choice,
        congestion,
        ..
    } = &plan.placement;
    let has_end = matches!(plan.scenario, Scenario::Churn | Scenario::Handshakes);
    let ends_with_fin = matches!(plan.churn.end, End::Fin | End::Peer);
    let options = ConnectOptions {
        congestion: congestion.clone(),
        closes_with_fin: has_end && ends_with_fin,
        ..ConnectOptions::default()
    };
    let ports = ports.and_then(|ports| ports.slice(index, *threads));
    Tuples::new(sources, ports, *port_choice == PortChoice::Own, options)
}

/// Returns the thread's sessions, pairs side by side, and how many of them are made once; those that
/// come and go follow.
fn sessions(plan: &Plan, index: u32) -> Result<(Vec<Session>, usize), &'static str> {
    let pair: &[Part] = &[Part::Acceptor, Part::Dialer];
    let alone: &[Part] = if plan.target.is_plain() {
        &[Part::Client]
    } else {
        &[Part::Alone]
    };
    let (parts, count): (&[Part], u32) = match plan.scenario {
        Scenario::Churn => (&[Part::Acceptor], STANDING),
        Scenario::Handshakes => (alone, plan.concurrency),
        Scenario::Idle | Scenario::Storm => (alone, plan.share(plan.sessions, index)),
        Scenario::Evict => (
            &[Part::Alone, Part::Alone],
            plan.share(plan.sessions, index),
        ),
        Scenario::Plain => (&[Part::Client], plan.share(plan.sessions, index)),
        Scenario::Slowloris => (&[Part::Loiterer], plan.share(plan.sessions, index)),
        Scenario::Opens | Scenario::Setups | Scenario::SlowReader | Scenario::Steady => {
            (pair, plan.share(plan.pairs(), index))
        }
    };
    let mut sessions = Vec::new();
    let dialect = dialect(plan);
    add_sessions(&mut sessions, dialect, parts, count)?;
    if plan.scenario == Scenario::Evict {
        for pair in sessions.chunks_exact_mut(2) {
            let (keys, key) = (pair[0].keys.clone(), pair[0].key);
            (pair[1].keys, pair[1].key) = (keys, key);
        }
    }
    let standing = sessions.len();
    match plan.scenario {
        Scenario::Churn => {
            let count = plan.concurrency;
            add_sessions(&mut sessions, dialect, &[Part::Churner], count)?;
        }
        Scenario::SlowReader => {
            let count = plan.share(plan.slow.pairs, index);
            add_sessions(&mut sessions, dialect, pair, count)?;
        }
        _ => {}
    }
    for session in &mut sessions[standing..] {
        session.slow = (plan.scenario == Scenario::SlowReader).then(SlowState::default);
    }
    Ok((sessions, standing))
}

fn add_sessions(
    sessions: &mut Vec<Session>,
    dialect: Dialect,
    parts: &[Part],
    count: u32,
) -> Result<(), &'static str> {
    for _ in 0..count {
        for part in parts {
            let keys = match part {
                Part::Client | Part::Loiterer | Part::Sink => Party::nobody(),
                Part::Acceptor | Part::Alone | Part::Churner | Part::Dialer => Party::new(dialect)?,
            };
            let own = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
            let partner = match part {
                Part::Churner => churn::standing_partner(own),
                _ => own ^ 1,
            };
            sessions.push(Session::new(*part, partner, keys));
        }
    }
    Ok(())
}

/// Returns the dialect that the sessions speak; with plain connections nobody asks.
fn dialect(plan: &Plan) -> Dialect {
    plan.dialect()
        .map_or_else(Dialect::default, |name| name.dialect())
}

/// Returns an index of a table.
#[inline]
fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// What a batch of this generator is.
type Sending = Batch<RingLease>;

/// Receive memory of a thread: 8 blocks of 256 KiB are a core's second-level cache, so that what is
/// received is checked where it was copied.
const BLOCKS: u16 = 8;
const BLOCKS_MAX: u16 = 64;
/// Time before a due message that is spent looking rather than sleeping: a sleep ends some 50 us late.
const SPIN_TIME: Duration = Duration::from_micros(80);
/// Longest sleep; the conductor wakes sleepers when the phase changes.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Due messages handed out before the ring is looked at again.
const RELEASE_QUANTUM: u32 = 1_024;
