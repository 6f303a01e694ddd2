//! The shard core: every session, stream, bridge and timer of one CPU core, as a value.
//!
//! Here: the public face of [`ShardCore`]. Not here: sockets, clocks, threads. The data thread
//! (`data`) and the simulator are two drivers of the same core: they hand in what happened and
//! carry out the [`Action`]s it asks for.
//!
//! The methods are of three kinds:
//! - inputs: [`ShardCore::accepted`], [`ShardCore::attached`], [`ShardCore::received`],
//!   [`ShardCore::receive_ended`],
//!   [`ShardCore::sent`], [`ShardCore::closed`], [`ShardCore::computed`], [`ShardCore::message`],
//!   [`ShardCore::handle_timeout`], [`ShardCore::relieve`], [`ShardCore::trim`], [`ShardCore::drain`],
//!   [`ShardCore::shutdown`], [`ShardCore::kick`], [`ShardCore::dial`], [`ShardCore::hang_up`],
//!   [`ShardCore::connected`], [`ShardCore::connect_failed`], [`ShardCore::looked_up`],
//!   [`ShardCore::want_relays`];
//! - outputs: [`ShardCore::poll_action`], [`ShardCore::next_deadline`], and the views
//!   [`ShardCore::audit`], [`ShardCore::stats`].
//!
//! A driver hands in any number of inputs, calls `collect_ports` and `flush`, and carries out the
//! actions in order. Ports come back with their time because a port's rest begins when it is collected.
//!
//! Invariant: no system call, no clock, no randomness. Time never runs backwards between inputs.

mod admission;
mod announce;
mod bridge;
mod collect;
mod config;
mod dial;
mod dispatch;
mod dmsg;
mod egress;
mod ending;
mod event;
mod forward;
mod gate;
mod link;
mod open;
mod own;
mod proxied;
mod recorder;
mod session;
mod sizes;
mod source;
mod stats;
mod stream;
mod table;
mod timers;
mod trim;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

pub use self::config::{
    AdmissionLimits, AllowedRelays, CoreConfig, MeshConfig, QueueLimits, RelayAddress, Timeouts,
};
pub use self::dial::{ConnectFault, DialError, DialKey, Dialed};
pub use self::event::{
    Action, Arrival, Directory, Holder, Job, JobResult, LookedUp, Lookup, Message, OpenMessage,
    Outdated, Place, RecvEnd, Registration, SessionKey, ShardId, Slot, StreamKey,
};
pub use self::proxied::{Prefix, Proxies};
pub use self::recorder::Recorder;
pub(crate) use self::sizes::CoreSizes;
pub use self::source::Source;
pub use self::stats::{Audit, ByReason, CoreStats, DialectStats, Law};

use self::dial::Dial;
use self::egress::Egress;
use self::forward::{Checks, Negatives};
use self::gate::AcceptGate;
use self::link::Links;
use self::own::{Own, VirtualPorts};
use self::session::{Live, Session};
use self::source::SourceTable;
use self::stream::Stream;
use self::table::SlotTable;
use self::timers::{Timer, Wheel};
use self::waiting::WaitList;
use crate::batch::{Batch, ChunkPool};
use crate::lease::Lease;
use crate::ports::LocalPorts;

type Streams<L> = SlotTable<Stream<L>>;

/// Everything one shard owns. See the module documentation for how to drive it.
#[derive(Debug)]
pub struct ShardCore<L: Lease, D: Directory> {
    config: CoreConfig,
    directory: D,
    sessions: Vec<Session<L>>,
    /// Generation of a slot that is new to `sessions`: no key of a trimmed one has it.
    sessions_floor: u32,
    streams: Streams<L>,
    /// Connects that are with the driver.
    dials: SlotTable<Dial>,
    links: Links,
    own: Own,
    negatives: Negatives,
    checks: Checks,
    local_ports: LocalPorts,
    virtual_ports: VirtualPorts,
    wheel: Wheel,
    gate: AcceptGate,
    sources: SourceTable,
    waiting: WaitList,
    common: Common<L>,
    now: Now,
    is_draining: bool,
    is_accept_paused: bool,
}

/// What sessions and streams share.
#[derive(Debug)]
struct Common<L> {
    actions: VecDeque<Action<L>>,
    /// Slots with something to send.
    dirty: Vec<Slot>,
    /// Draining sessions that may have lost their last stream.
    emptied: Vec<Slot>,
    chunks: ChunkPool,
    batches_idle: Vec<Batch<L>>,
    #[expect(
        clippy::vec_box,
        reason = "a session holds a box; the pool keeps the allocation"
    )]
    egress_idle: Vec<Box<Egress<L>>>,
    batches_in_flight: u64,
    queued_bytes: u64,
    /// Bytes that peers have sent ahead of their verdicts.
    pipelined_bytes: u64,
    /// When receive memory may be relieved again.
    relieve_at: Now,
    stats: CoreStats,
    recorder: Recorder,
}

/// A peer broke the protocol: its session ends for this reason.
#[derive(Debug, Clone, Copy)]
struct Violation(Reason);

/// Why a session ends.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// The peer closed.
    Left,
    /// The connection broke.
    Lost,
    /// The relay ended it.
    Reason(Reason),
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Returns a core without sessions.
    #[must_use]
    pub fn new(config: CoreConfig, directory: D, now: Now) -> Self {
        let shard = config.shard.0;
        let mut core = Self {
            gate: AcceptGate::new(config.admission.accepts_per_s_max, now),
            sources: SourceTable::default(),
            waiting: WaitList::default(),
            local_ports: LocalPorts::new(shard, &config.ports),
            virtual_ports: VirtualPorts::new(&config),
            links: Links::new(&config.mesh.relays),
            own: Own::default(),
            negatives: Negatives::default(),
            checks: Checks::default(),
            config,
            directory,
            sessions: Vec::new(),
            sessions_floor: 0,
            streams: SlotTable::new(),
            dials: SlotTable::new(),
            wheel: Wheel::new(now),
            common: Common {
                actions: VecDeque::new(),
                dirty: Vec::new(),
                emptied: Vec::new(),
                chunks: ChunkPool::default(),
                batches_idle: Vec::new(),
                egress_idle: Vec::new(),
                batches_in_flight: 0,
                queued_bytes: 0,
                pipelined_bytes: 0,
                relieve_at: now,
                stats: CoreStats::default(),
                recorder: Recorder::default(),
            },
            now,
            is_draining: false,
            is_accept_paused: false,
        };
        core.note_ports();
        core.want_links();
        core
    }

    /// Lets every timer fire that is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some(timer) = self.wheel.pop_due(now) {
            match timer {
                Timer::Dial(key) => self.dial_timeout(key),
                Timer::Link(relay) => self.link_timeout(relay),
                Timer::Session(key) => self.session_timeout(key),
                Timer::Stream(key) => self.stream_timeout(key),
            }
        }
        if self.accept_deadline().is_some_and(|due| due <= now) {
            self.gate.refill(now);
            self.regulate_accept();
        }
    }

    /// Returns the next action to carry out.
    pub fn poll_action(&mut self) -> Option<Action<L>> {
        self.common.actions.pop_front()
    }

    /// Returns when [`ShardCore::handle_timeout`] has something to do, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        // What waits for the next turn is due, whatever else is.
        if self.is_withdrawing() || self.has_own_checks() {
            return Some(self.now);
        }
        let accept = self.accept_deadline();
        self.wheel.next_deadline().into_iter().chain(accept).min()
    }

    /// Counts everything the core owns.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit {
            sockets: self.common.stats.sockets_current,
            handshakes: self.common.stats.handshakes_current,
            sources: self.sources.len() as u64,
            sessions: self.common.stats.sessions_current,
            streams: u64::from(self.streams.len()),
            timers: u64::from(self.wheel.len()),
            pipelined_bytes: self.common.pipelined_bytes,
            queued_bytes: self.common.queued_bytes,
            batches_in_flight: self.common.batches_in_flight,
            chunks: u64::from(self.common.chunks.taken_count()),
            dials: u64::from(self.dials.len()),
            local_ports: u64::from(self.common.stats.local_ports.in_use),
            virtual_ports: u64::from(self.common.stats.virtual_ports.in_use),
            links: self.common.stats.links_current,
            own_sessions: self.common.stats.own_sessions_current,
            announced: self.common.stats.announced_current,
        }
    }

    /// Returns the counters.
    #[must_use]
    pub const fn stats(&self) -> &CoreStats {
        &self.common.stats
    }

    /// Returns the latency histograms.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.common.recorder
    }

    fn live_mut(&mut self, slot: Slot) -> Option<&mut Live> {
        self.sessions.get_mut(slot.0 as usize)?.live_mut()
    }

    const fn now_s(&self) -> u32 {
        seconds_of(self.now)
    }
}

/// Seconds since the epoch of `Now`; wraps after 136 years.
#[expect(
    clippy::cast_possible_truncation,
    reason = "wraps after 136 years of uptime"
)]
const fn seconds_of(now: Now) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}
