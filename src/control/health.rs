//! The relay's state as one JSON document.
//!
//! Here: the document, which `ringway status` reads back, and the check of the counters' laws. Not
//! here: HTTP.
//!
//! The format is stable: fields are added, never renamed.

use std::collections::BTreeMap;

use ringway_shards::core::{Audit, ByReason};
use ringway_shards::ports::PortUse;
use serde::{Deserialize, Serialize};

use super::{COMMIT, Relay, ShardView, VERSION, metrics};

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
    /// The counters' laws and whether they hold.
    pub(crate) consistency: Consistency,
    /// Every shard.
    pub(crate) shards: Vec<Shard>,
}

/// Bounds in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
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
    /// Receive window that a stream may grow to, bytes.
    pub(crate) stream_window_bytes_max: u32,
    /// Bytes that may wait for one session.
    pub(crate) session_queue_bytes_max: u32,
    /// Bytes that may wait on one shard.
    pub(crate) shard_queue_bytes_max: u64,
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
    /// Sockets now.
    pub(crate) sockets: u64,
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
    /// Ephemeral ports of the relay's own key.
    #[serde(default)]
    pub(crate) virtual_ports: Ports,
    /// What the shard owns at this moment; all zeros when nobody is connected.
    pub(crate) audit: BTreeMap<String, u64>,
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

/// Returns the document. A relay is ready while all of its `shards_count` shards answer.
pub(crate) fn health(relay: &Relay, shards: &[ShardView], shards_count: usize) -> Health {
    let is_draining = relay.is_draining();
    Health {
        service: "ringway-relay".to_owned(),
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        key: relay.key.to_string(),
        listen: relay.listen.to_string(),
        pid: std::process::id(),
        started: humantime::format_rfc3339_seconds(relay.started).to_string(),
        uptime_s: relay.started_at.elapsed().as_secs(),
        ready: !is_draining && shards.len() == shards_count,
        draining: is_draining,
        limits: limits(relay),
        consistency: consistency(shards),
        shards: shards.iter().map(shard).collect(),
    }
}

fn limits(relay: &Relay) -> Limits {
    use ringway_proto::limits;

    let timeouts = relay.config.timeouts;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Limits {
        shard_sessions_max: relay.config.sessions_max,
        shard_handshakes_max: relay.config.handshakes_max,
        source_handshakes_max: relay.config.handshakes_source_max,
        shard_accepts_per_s_max: relay.config.accepts_per_s_max,
        session_streams_max: relay.config.streams_max,
        stream_window_bytes_max: limits::WINDOW_MAX,
        session_queue_bytes_max: limits::SESSION_QUEUE_MAX,
        shard_queue_bytes_max: limits::SHARD_QUEUE_MAX,
        handshake_timeout_ms: millis(timeouts.handshake),
        dial_timeout_ms: millis(timeouts.open),
        keepalive_ms: millis(timeouts.keepalive),
        half_closed_timeout_ms: millis(timeouts.half_closed),
        bridge_idle_timeout_ms: millis(timeouts.bridge_idle),
        send_stall_timeout_ms: millis(timeouts.send_stall),
    }
}

fn consistency(shards: &[ShardView]) -> Consistency {
    let state = |law: &metrics::Law| {
        let sides = |view: &ShardView| {
            let (left, right) = (law.sides)(&view.stats);
            (left != right).then_some((view.shard, left, right))
        };
        let broken: Vec<_> = shards.iter().filter_map(sides).collect();
        LawState {
            law: law.text.to_owned(),
            holds: broken.is_empty(),
            broken,
        }
    };
    let laws: Vec<LawState> = metrics::LAWS.iter().map(state).collect();
    Consistency {
        ok: laws.iter().all(|law| law.holds),
        laws,
    }
}

fn shard(view: &ShardView) -> Shard {
    let stats = &view.stats;
    Shard {
        shard: view.shard,
        sockets: stats.sockets_current,
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
        audit: audit(&view.audit),
    }
}

fn counts(counters: &ByReason) -> BTreeMap<String, u64> {
    metrics::by_reason(counters)
        .map(|(reason, count)| (reason.label().to_owned(), count))
        .collect()
}

fn audit(audit: &Audit) -> BTreeMap<String, u64> {
    let fields = [
        ("sockets", audit.sockets),
        ("handshakes", audit.handshakes),
        ("sources", audit.sources),
        ("pipelined_bytes", audit.pipelined_bytes),
        ("sessions", audit.sessions),
        ("streams", audit.streams),
        ("timers", audit.timers),
        ("queued_bytes", audit.queued_bytes),
        ("batches_in_flight", audit.batches_in_flight),
        ("chunks", audit.chunks),
        ("dials", audit.dials),
        ("local_ports", audit.local_ports),
        ("virtual_ports", audit.virtual_ports),
    ];
    fields.map(|(name, count)| (name.to_owned(), count)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Instant, SystemTime};

    use ringway_proto::key::PublicKey;
    use ringway_proto::reason::Reason;

    use ringway_shards::core::CoreStats;

    use super::*;
    use crate::config::{Config, LISTEN_DEFAULT};

    fn relay(is_draining: bool) -> Relay {
        Relay {
            key: PublicKey::native([7; 32]),
            config: Config::default(),
            listen: LISTEN_DEFAULT,
            started: SystemTime::UNIX_EPOCH,
            started_at: Instant::now(),
            is_draining: AtomicBool::new(is_draining),
        }
    }

    fn view(stats: CoreStats) -> ShardView {
        ShardView {
            shard: 0,
            stats,
            audit: Audit::default(),
        }
    }

    #[test]
    fn document_reads_back_what_it_wrote() {
        let mut stats = CoreStats::default();
        stats.sockets_opened = 1;
        stats.sockets_closed = 1;
        stats.sessions_opened = 1;
        stats.sessions_closed.count(Reason::Idle);
        let health = health(&relay(false), &[view(stats)], 1);
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
        let health = health(&relay(false), &[view(stats)], 1);
        assert!(!health.consistency.ok);
        assert_eq!(health.consistency.laws[0].broken, [(0, 2, 0)]);
        assert!(health.consistency.laws[2].holds);
    }

    #[test]
    fn draining_relay_is_not_ready() {
        let health = health(&relay(true), &[view(CoreStats::default())], 1);
        assert!(health.draining && !health.ready);
    }

    #[test]
    fn relay_with_a_silent_shard_is_not_ready() {
        let health = health(&relay(false), &[view(CoreStats::default())], 2);
        assert!(!health.ready);
    }
}
