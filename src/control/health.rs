//! The relay's state as one JSON document.
//!
//! Here: the document, which `ringway status` reads back, and the check of the counters' laws. Not
//! here: HTTP.
//!
//! The format is stable: fields are added, never renamed.

pub(crate) mod dmsg;

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_shards::core::{ByReason, CoreStats};
use ringway_shards::ports::PortUse;
use serde::{Deserialize, Serialize};

use super::{COMMIT, Relay, ShardView, VERSION, metrics};
use crate::registry::start::View;

/// What `/health` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Always `ringway-relay`.
    pub(crate) service: String,
    /// Version of the binary.
    pub(crate) version: String,
    /// Commit of the binary.
    pub(crate) commit: String,
    /// The relay's public key.
    pub(crate) key: String,
    /// Where peers connect.
    pub(crate) listen: String,
    /// How new connections are shared out among the shards, as `placement` in the configuration.
    #[serde(default)]
    pub(crate) placement: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Start, RFC 3339.
    pub(crate) started: String,
    /// Seconds since the start.
    pub(crate) uptime_s: u64,
    /// Whether peers can connect.
    pub(crate) ready: bool,
    /// Whether the relay is ending.
    pub(crate) draining: bool,
    /// Bounds in force.
    pub(crate) limits: Limits,
    /// Its registry; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<RegistryState>,
    /// What tools of Skywire read, beside all this; absent without the dmsg dialect.
    #[serde(flatten)]
    pub(crate) dmsg: Option<dmsg::DmsgState>,
    /// The counters' laws and whether they hold.
    pub(crate) consistency: Consistency,
    /// Every shard.
    pub(crate) shards: Vec<Shard>,
}

/// Bounds in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// What the relay can hold and what stops it there, as `ringway serve` prints it.
    #[serde(default)]
    pub(crate) capacity: String,
    /// Sessions of each shard.
    pub(crate) shard_sessions_max: u32,
    /// Handshakes in progress on each shard.
    pub(crate) shard_handshakes_max: u32,
    /// Of these, from one source.
    #[serde(default)]
    pub(crate) source_handshakes_max: u32,
    /// Connections that each shard accepts in a second.
    #[serde(default)]
    pub(crate) shard_accepts_per_s_max: u32,
    /// Streams of each session.
    pub(crate) session_streams_max: u32,
    /// Stream legs of each shard.
    #[serde(default)]
    pub(crate) shard_streams_max: u32,
    /// Receive window that a stream may grow to, bytes.
    pub(crate) stream_window_bytes_max: u32,
    /// Bytes that may wait for one session.
    pub(crate) session_queue_bytes_max: u32,
    /// Bytes that may wait on one shard.
    pub(crate) shard_queue_bytes_max: u64,
    /// Receive memory of a shard, bytes.
    #[serde(default)]
    pub(crate) shard_receive_bytes_max: u64,
    /// What the process may hold when every queue is full, bytes.
    #[serde(default)]
    pub(crate) memory_bytes_max: u64,
    /// Time for a handshake.
    pub(crate) handshake_timeout_ms: u64,
    /// Time for an open.
    pub(crate) dial_timeout_ms: u64,
    /// Silence after which a peer is asked for a sign of life.
    #[serde(default)]
    pub(crate) keepalive_ms: u64,
    /// Time without data after which a bridge ends of which one direction has ended.
    #[serde(default)]
    pub(crate) half_closed_timeout_ms: u64,
    /// Time without data after which a bridge ends.
    pub(crate) bridge_idle_timeout_ms: u64,
    /// Time for which a peer may take no byte.
    #[serde(default)]
    pub(crate) send_stall_timeout_ms: u64,
}

/// How the registry stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegistryState {
    /// Which one.
    pub(crate) name: String,
    /// Whether it answers.
    pub(crate) up: bool,
    /// Relays that hold leases there.
    pub(crate) relays: u64,
    /// Peers of this relay that stand there.
    pub(crate) peers: u64,
    /// Peers whose places are still to be written or taken out.
    pub(crate) pending: u64,
}

impl From<&View> for RegistryState {
    fn from(view: &View) -> Self {
        let numbers = &view.numbers;
        Self {
            name: view.name.clone(),
            up: numbers.up.read() == 1,
            relays: numbers.relays.read(),
            peers: numbers.written.read(),
            pending: numbers.pending.read(),
        }
    }
}

/// The check of the counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Consistency {
    /// Whether every law holds on every shard.
    pub(crate) ok: bool,
    /// The laws.
    pub(crate) laws: Vec<LawState>,
}

impl Consistency {
    /// Returns the laws that do not hold, with the shards and both sides; empty when all do.
    pub(crate) fn broken_text(&self) -> String {
        let one = |law: &LawState| {
            let places: Vec<String> = law
                .broken
                .iter()
                .map(|(shard, left, right)| format!("shard {shard}: {left} is not {right}"))
                .collect();
            format!("{} ({})", law.law, places.join(", "))
        };
        let broken: Vec<String> = self.laws.iter().filter(|law| !law.holds).map(one).collect();
        broken.join("; ")
    }
}

/// One law.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LawState {
    /// The equation.
    pub(crate) law: String,
    /// Whether it holds on every shard.
    pub(crate) holds: bool,
    /// Where it does not: shard, left side, right side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) broken: Vec<(u16, u64, u64)>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// Its number.
    pub(crate) shard: u16,
    /// Sockets now, but for those that lead to the relay's own services.
    pub(crate) sockets: u64,
    /// Connections that the shards count for this one when they choose, those on their way to it included.
    #[serde(default)]
    pub(crate) connections: u64,
    /// Handshakes now.
    pub(crate) handshakes: u64,
    /// Sessions now.
    pub(crate) sessions: u64,
    /// Stream legs now.
    pub(crate) streams: u64,
    /// Sessions since the start.
    pub(crate) sessions_opened: u64,
    /// Sessions that their peer ended.
    pub(crate) sessions_left: u64,
    /// Sessions whose connection broke.
    pub(crate) sessions_lost: u64,
    /// Sessions that the relay ended, by reason.
    pub(crate) sessions_closed: BTreeMap<String, u64>,
    /// Handshakes that failed, by reason.
    pub(crate) handshakes_failed: BTreeMap<String, u64>,
    /// Opens since the start.
    pub(crate) opens_received: u64,
    /// Opens that became bridges.
    pub(crate) opens_accepted: u64,
    /// Opens that were refused, by reason.
    pub(crate) opens_refused: BTreeMap<String, u64>,
    /// Stream legs that the relay reset, by reason.
    pub(crate) streams_reset: BTreeMap<String, u64>,
    /// Bytes from sockets.
    pub(crate) received_bytes: u64,
    /// Bytes to sockets.
    pub(crate) sent_bytes: u64,
    /// Payload forwarded.
    pub(crate) forwarded_bytes: u64,
    /// Connections now that the relay has dialed.
    #[serde(default)]
    pub(crate) dialed: u64,
    /// Local TCP ports, over all source addresses.
    #[serde(default)]
    pub(crate) local_ports: Ports,
    /// Ephemeral ports of the relay's own keys, all together.
    #[serde(default)]
    pub(crate) virtual_ports: Ports,
    /// How long a frame took from the services of the shard to its data thread and back, microseconds; absent
    /// without services, or when none came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) round_trip_us: Option<u64>,
    /// Sessions of the shard with the relay's own services: one in each dialect while there are any.
    #[serde(default)]
    pub(crate) own_sessions: u64,
    /// What the shard owns at this moment, its own session left out; all zeros when nobody is connected.
    pub(crate) audit: BTreeMap<String, u64>,
    /// Numbers of its ring and its data thread.
    #[serde(default)]
    pub(crate) ring: BTreeMap<String, u64>,
}

/// How full a budget of ports is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// Ports of the shard.
    pub(crate) budget: u32,
    /// In use.
    pub(crate) in_use: u32,
    /// Most in use at once since the start.
    pub(crate) high_water: u32,
    /// Resting after their use, or taken by other programs.
    pub(crate) quarantined: u32,
    /// Requests that found none.
    pub(crate) refused: u64,
}

impl From<PortUse> for Ports {
    fn from(usage: PortUse) -> Self {
        Self {
            budget: usage.total,
            in_use: usage.in_use,
            high_water: usage.high_water,
            quarantined: usage.quarantined,
            refused: usage.refused,
        }
    }
}

/// Round trips to the data threads by shard; none where nothing came back.
pub(crate) type RoundTrips = [(u16, Option<Duration>)];

/// Returns the document. A relay is ready while all of its `shards_count` shards answer, and their data
/// threads send frames back where there are services to look for that.
pub(crate) fn health(
    relay: &Relay,
    shards: &[ShardView],
    shards_count: usize,
    round_trips: &RoundTrips,
) -> Health {
    let is_draining = relay.is_draining();
    Health {
        service: "ringway-relay".to_owned(),
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        key: relay.key.to_string(),
        listen: relay.listen.to_string(),
        placement: relay.placement.name().to_owned(),
        pid: std::process::id(),
        started: humantime::format_rfc3339_seconds(relay.started).to_string(),
        uptime_s: relay.started_at.elapsed().as_secs(),
        ready: !is_draining
            && shards.len() == shards_count
            && round_trips.iter().all(|(_, time)| time.is_some()),
        draining: is_draining,
        limits: limits(relay),
        registry: relay.registry.as_ref().map(RegistryState::from),
        dmsg: dmsg::state(relay),
        consistency: consistency(shards),
        shards: shards.iter().map(|view| shard(view, round_trips)).collect(),
    }
}

/// Returns the bounds in force.
pub(crate) fn limits(relay: &Relay) -> Limits {
    use ringway_proto::limits;

    let timeouts = relay.config.timeouts;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Limits {
        capacity: relay.capacity.to_string(),
        shard_sessions_max: relay.capacity.sessions_max,
        shard_handshakes_max: relay.config.handshakes_max,
        source_handshakes_max: relay.config.handshakes_source_max,
        shard_accepts_per_s_max: relay.config.accepts_per_s_max,
        session_streams_max: relay.config.streams_max,
        shard_streams_max: relay.config.shard_streams_max,
        stream_window_bytes_max: limits::WINDOW_MAX,
        session_queue_bytes_max: relay.config.session_queue_bytes_max,
        shard_queue_bytes_max: relay.config.shard_queue_bytes_max,
        shard_receive_bytes_max: relay.config.receive_bytes_max,
        memory_bytes_max: relay.capacity.memory_bytes_max,
        handshake_timeout_ms: millis(timeouts.handshake),
        dial_timeout_ms: millis(timeouts.open),
        keepalive_ms: millis(timeouts.keepalive),
        half_closed_timeout_ms: millis(timeouts.half_closed),
        bridge_idle_timeout_ms: millis(timeouts.bridge_idle),
        send_stall_timeout_ms: millis(timeouts.send_stall),
    }
}

fn consistency(shards: &[ShardView]) -> Consistency {
    let core = CoreStats::LAWS.iter().map(|law| {
        law_state(law.text, shards, |view: &ShardView| {
            (law.sides)(&view.stats)
        })
    });
    let ring = metrics::SHARD_LAWS
        .iter()
        .map(|law| law_state(law.text, shards, law.sides));
    let laws: Vec<LawState> = core.chain(ring).collect();
    Consistency {
        ok: laws.iter().all(|law| law.holds),
        laws,
    }
}

fn law_state(
    text: &str,
    shards: &[ShardView],
    sides: impl Fn(&ShardView) -> (u64, u64),
) -> LawState {
    let broken: Vec<_> = shards
        .iter()
        .filter_map(|view| {
            let (left, right) = sides(view);
            (left != right).then_some((view.shard, left, right))
        })
        .collect();
    LawState {
        law: text.to_owned(),
        holds: broken.is_empty(),
        broken,
    }
}

fn shard(view: &ShardView, round_trips: &RoundTrips) -> Shard {
    let round_trip = round_trips
        .iter()
        .find(|(shard, _)| *shard == view.shard)
        .and_then(|(_, time)| *time);
    let stats = &view.stats;
    Shard {
        shard: view.shard,
        sockets: stats.sockets_current - stats.attached_current(),
        connections: view.data.connections_current,
        handshakes: stats.handshakes_current,
        sessions: stats.sessions_current,
        streams: stats.streams_current,
        sessions_opened: stats.sessions_opened,
        sessions_left: stats.sessions_left,
        sessions_lost: stats.sessions_lost,
        sessions_closed: counts(&stats.sessions_closed),
        handshakes_failed: counts(&stats.handshakes_failed),
        opens_received: stats.opens_received,
        opens_accepted: stats.opens_accepted,
        opens_refused: counts(&stats.opens_refused),
        streams_reset: counts(&stats.streams_reset),
        received_bytes: stats.bytes_received,
        sent_bytes: stats.bytes_sent,
        forwarded_bytes: stats.payload_bytes_forwarded,
        dialed: stats.dialed_current,
        local_ports: stats.local_ports.into(),
        virtual_ports: stats.virtual_ports.into(),
        round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        own_sessions: stats.own_sessions_current,
        audit: audit(view),
        ring: ring(view),
    }
}

fn counts(counters: &ByReason) -> BTreeMap<String, u64> {
    metrics::by_reason(counters)
        .map(|(reason, count)| (reason.label().to_owned(), count))
        .collect()
}

/// Returns what others make the shard own. Its own session with its services is left out: a socket with its
/// slot and a timer, for as long as the relay runs.
fn audit(view: &ShardView) -> BTreeMap<String, u64> {
    let audit = &view.audit;
    let core = &audit.core;
    let attached = view.stats.attached_current();
    let fields = [
        ("sockets", core.sockets.saturating_sub(attached)),
        ("handshakes", core.handshakes),
        ("sources", core.sources),
        ("pipelined_bytes", core.pipelined_bytes),
        ("sessions", core.sessions),
        ("streams", core.streams),
        ("timers", core.timers.saturating_sub(attached)),
        ("queued_bytes", core.queued_bytes),
        ("batches_in_flight", core.batches_in_flight),
        ("chunks", core.chunks),
        ("dials", core.dials),
        ("local_ports", core.local_ports),
        ("virtual_ports", core.virtual_ports),
        ("links", core.links),
        ("announced", core.announced),
        ("descriptors", audit.descriptors.saturating_sub(attached)),
        ("sends_in_flight", audit.sends_in_flight),
        ("connects_in_flight", audit.connects_in_flight),
        ("handovers_in_flight", audit.hand_overs_in_flight),
        ("receives_starved", audit.receives_starved),
        ("blocks_leased", audit.blocks_leased),
        ("jobs", audit.jobs),
        ("mailbox_messages", audit.mailbox_messages),
        ("outbox_messages", audit.outbox_messages),
        ("connections", audit.connections),
    ];
    fields.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Numbers of ring, receive memory and data thread.
fn ring(view: &ShardView) -> BTreeMap<String, u64> {
    let (ring, buffers, data) = (&view.ring, &view.ring.buffers, &view.data);
    let fields = [
        ("descriptors_opened", ring.sockets_opened),
        ("descriptors_closed", ring.sockets_closed),
        ("descriptors_current", ring.sockets_current),
        ("handovers_started", ring.hand_overs_started),
        ("handovers", ring.hand_overs),
        ("handovers_failed", ring.hand_overs_failed),
        ("handovers_current", ring.hand_overs_current),
        ("handovers_received", ring.hand_ins),
        ("sends_current", ring.sends_current),
        ("receive_blocks", buffers.blocks),
        ("receive_blocks_leased", buffers.leased),
        ("receive_blocks_pinned", buffers.pinned),
        ("receives_starved", ring.receives_starved),
        ("completions", ring.completions),
        ("completions_overflowed", ring.completions_overflowed),
        ("completions_stale", ring.completions_stale),
        ("closes_chased", ring.closes_chased),
        ("accepts_failed", ring.accepts_failed),
        ("turns", data.turns),
        ("sleeps", data.sleeps),
        ("mailbox_depth", data.mailbox_current),
        ("outbox_messages", data.outbox_current),
        ("jobs", data.jobs_current),
    ];
    fields.map(|(name, count)| (name.to_owned(), count)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use ringway_proto::reason::Reason;

    use ringway_shards::core::CoreStats;

    use super::*;

    fn relay(is_draining: bool) -> Relay {
        let relay = Relay::of_shards(1);
        relay.is_draining.store(is_draining, Ordering::Relaxed);
        relay
    }

    fn view(stats: CoreStats) -> ShardView {
        let mut view = ShardView::quiet(0);
        view.ring.sockets_current = stats.sockets_current;
        view.ring.sockets_opened = stats.sockets_current;
        view.stats = stats;
        view
    }

    #[test]
    fn document_reads_back_what_it_wrote() {
        let mut stats = CoreStats::default();
        stats.sockets_opened = 1;
        stats.sockets_closed = 1;
        stats.sessions_opened = 1;
        stats.sessions_closed.count(Reason::Idle);
        let health = health(&relay(false), &[view(stats)], 1, &[]);
        assert!(health.ready && health.consistency.ok);
        assert_eq!(health.started, "1970-01-01T00:00:00Z");
        assert_eq!(health.shards[0].sessions_closed["idle"], 1);
        let text = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), health);
    }

    #[test]
    fn broken_law_is_named_with_shard_and_sides() {
        let mut stats = CoreStats::default();
        stats.sockets_opened = 2;
        let health = health(&relay(false), &[view(stats)], 1, &[]);
        assert!(!health.consistency.ok);
        assert_eq!(health.consistency.laws[0].broken, [(0, 2, 0)]);
        assert!(health.consistency.laws[2].holds);
    }

    #[test]
    fn slot_that_the_ring_counts_wrongly_makes_a_relay_unhealthy() {
        let mut wrong = view(CoreStats::default());
        wrong.ring.sockets_current = 1;
        let health = health(&relay(false), &[wrong], 1, &[]);
        assert!(!health.consistency.ok);
        let text = health.consistency.broken_text();
        assert!(
            text.contains("descriptors_opened = descriptors_closed + descriptors_current (shard 0: 0 is not 1)"),
            "{text}"
        );
    }

    #[test]
    fn audit_and_capacity_are_shown_whole() {
        let mut busy = view(CoreStats::default());
        busy.audit.blocks_leased = 3;
        busy.data.mailbox_current = 9;
        let health = health(&relay(false), &[busy], 1, &[]);
        assert_eq!(health.shards[0].audit["blocks_leased"], 3);
        assert_eq!(health.shards[0].ring["mailbox_depth"], 9);
        assert_eq!(health.shards[0].audit.len(), 25);
        assert!(
            health
                .limits
                .capacity
                .starts_with("19999 sessions (1 shard x 19999;"),
            "{}",
            health.limits.capacity
        );
        assert_eq!(health.limits.shard_sessions_max, 19_999);
    }

    #[test]
    fn draining_relay_is_not_ready() {
        let health = health(&relay(true), &[view(CoreStats::default())], 1, &[]);
        assert!(health.draining && !health.ready);
    }

    #[test]
    fn relay_whose_data_thread_sends_nothing_back_is_not_ready() {
        let one = |round_trip| {
            let shards = [view(CoreStats::default())];
            health(&relay(false), &shards, 1, &[(0, round_trip)])
        };
        let alive = one(Some(Duration::from_micros(120)));
        assert!(alive.ready);
        assert_eq!(alive.shards[0].round_trip_us, Some(120));
        assert!(!one(None).ready);
    }

    #[test]
    fn relay_with_a_silent_shard_is_not_ready() {
        let health = health(&relay(false), &[view(CoreStats::default())], 2, &[]);
        assert!(!health.ready);
    }
}
