//! Several relays that carry one demand.
//!
//! Here: how many there are, what each of them has to carry, what goes between them, what their registry
//! does, how they stand the loss of one. Not here: the sums of one relay (`load`).
//!
//! Assumptions, all of them written into the plan: sessions are spread evenly; every relay is linked with
//! every other one, shard by shard; a stream is forwarded over one link at most; without another word peers
//! are equally likely on any relay. The relays that are left when the spare ones are away carry everything.

use ringway_proto::limits::{ACCEPTS_PER_S_MAX, ANNOUNCED_MAX, HANDSHAKE_TIMEOUT, LINKS_MAX};
use serde::Serialize;

use super::costs::Costs;
use super::limits::{self, Limit, Room};
use super::load::{self, Load, Sum};
use super::{Demand, whole};

/// All relays together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// Relays, the spare ones included.
    pub relays: u32,
    /// Shards of each.
    pub shards: f64,
    /// Links of all relays: sessions between them, each counted once.
    pub links: f64,
    /// Payload that is forwarded, bytes a second in all.
    pub forwarded: f64,
    /// The same between two relays, in each direction.
    pub forwarded_pair: f64,
    /// Whether linked relays tell each other who their peers are.
    pub is_announced: bool,
    /// What relays tell each other of peers that come and go, bytes a second in all.
    pub announcements: f64,
    /// What the registry has to do, if there is one.
    pub registry: Option<Registry>,
    /// How peers come back after a relay has died.
    pub storm: Storm,
    /// What the fullest relay carries.
    pub(crate) load: Load,
}

/// Load of a registry in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Registry {
    /// Places of peers.
    pub places: f64,
    /// Its memory for them, bytes.
    pub memory: f64,
    /// Places that are written a second.
    pub changes: f64,
    /// Commands of leases a second.
    pub leases: f64,
    /// Questions for places a second, at most.
    pub questions: f64,
    /// Processor time for all of it, cores.
    pub cores: f64,
    /// Redis servers that carry this with half of a core each.
    pub nodes: f64,
}

/// All peers of a relay come back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Storm {
    /// Sessions that come to each relay: its own after a restart.
    pub sessions: f64,
    /// The time they are given, seconds.
    pub wanted: f64,
    /// The time their handshakes take at least, if the relay does nothing else, seconds.
    pub least: f64,
    /// Handshakes a second of each shard within the wanted time.
    pub rate: f64,
    /// Connections that the kernel has to hold for each shard.
    pub backlog: f64,
}

impl Fleet {
    /// Finds the fewest relays that carry the demand, or takes as many as it names.
    ///
    /// # Errors
    /// When no number of relays carries it; the text says what is short on the last one tried.
    pub(crate) fn of(demand: &Demand, costs: &Costs, room: &Room) -> Result<Self, String> {
        let least = demand.spare.saturating_add(1);
        let fits = |relays: u32| {
            let load = load_of(demand, costs, room, relays);
            let limits = limits::limits(&load, costs, room);
            match limits.iter().find(|limit| limit.is_exceeded()) {
                None => Ok(load),
                Some(limit) => Err(*limit),
            }
        };
        if let Some(relays) = demand.relays {
            let load = load_of(demand, costs, room, relays);
            return Ok(Self::with(demand, costs, relays, load));
        }
        let mut short = None;
        for relays in least..=RELAYS_MAX {
            match fits(relays) {
                Ok(load) => return Ok(Self::with(demand, costs, relays, load)),
                Err(limit) => short = Some(limit),
            }
        }
        Err(none_fits(short))
    }

    fn with(demand: &Demand, costs: &Costs, relays: u32, load: Load) -> Self {
        let count = f64::from(relays);
        let pairs = count * (count - 1.0) / 2.0;
        let all = demand.bits / 8.0;
        let forwarded = all * load.forwarded;
        let is_announced = load.announced > 0.0;
        let changes = 2.0 * demand.connects;
        Self {
            relays,
            shards: load.shards,
            links: pairs * load.shards,
            forwarded,
            forwarded_pair: match pairs > 0.0 {
                true => forwarded / pairs / 2.0,
                false => 0.0,
            },
            is_announced,
            announcements: match is_announced {
                true => changes * (count - 1.0) * ANNOUNCED_WIRE,
                false => 0.0,
            },
            registry: (load.registry > 0.0).then(|| Registry::of(demand, &load, count)),
            storm: Storm::of(demand, costs, &load),
            load,
        }
    }

    /// Returns the settings of each relay that differ from what it would do by itself, with the reason.
    pub(crate) fn settings(&self, room: &Room) -> Vec<(&'static str, String, &'static str)> {
        let mut settings = Vec::new();
        let load = &self.load;
        if load.shards > room.cores {
            settings.push((
                "shards",
                format!("{}", load.shards),
                "more than cores, for their tables of sockets; threads then share cores",
            ));
        }
        let legs = (2.0 * load.streams / load.shards * SPREAD).ceil();
        if legs > DEFAULT_LEGS {
            settings.push((
                "limits.shard_streams_max",
                format!("{legs}"),
                "stream legs of a shard, a quarter more than an even spread has",
            ));
        }
        if load.links > f64::from(LINKS_MAX) {
            settings.push((
                "mesh.links_max",
                format!("{}", (load.links * SPREAD).ceil()),
                "a link of each shard with each other relay",
            ));
        }
        if self.relays > 1 && !self.is_announced {
            settings.push((
                "mesh.announce_peers",
                "\"off\"".to_owned(),
                "more peers than a relay is told of",
            ));
            settings.push((
                "mesh.registry",
                "\"redis://...\"".to_owned(),
                "relays ask it where a peer is",
            ));
        }
        if self.storm.backlog > DEFAULT_BACKLOG {
            settings.push((
                "tcp.backlog",
                format!("{}", self.storm.backlog.min(BACKLOG_MAX)),
                "connections that wait while all peers come back; net.core.somaxconn bounds it",
            ));
        }
        settings
    }
}

impl Registry {
    fn of(demand: &Demand, load: &Load, relays: f64) -> Self {
        let places = whole(demand.sessions);
        let changes = 2.0 * demand.connects;
        let leases = relays * LEASE_COMMANDS;
        // Each relay remembers an answer for half a minute, so the same question comes once in that time.
        let questions = demand.opens() * load.forwarded;
        let cores = (changes + leases + questions) * COMMAND_SECONDS;
        Self {
            places,
            memory: places * PLACE_BYTES,
            changes,
            leases,
            questions,
            cores,
            nodes: (cores / REDIS_SHARE).ceil().max(1.0),
        }
    }
}

impl Storm {
    fn of(demand: &Demand, costs: &Costs, load: &Load) -> Self {
        let wanted = demand.returning.as_secs_f64();
        let rate = load.sessions / wanted / load.shards;
        let computed = 1e6 / costs.processor.handshake_us.most;
        let accepted = f64::from(ACCEPTS_PER_S_MAX).min(computed);
        // What comes faster than it is accepted waits; and a shard may look away for a moment.
        let waiting = (rate - accepted).max(0.0) * wanted.min(HANDSHAKE_TIMEOUT.as_secs_f64());
        Self {
            sessions: load.sessions,
            wanted,
            least: load.sessions / load.shards / computed,
            rate,
            backlog: (waiting + rate * PAUSE_SECONDS).ceil(),
        }
    }
}

/// Returns what the fullest of so many relays carries while the spare ones are away.
fn load_of(demand: &Demand, costs: &Costs, room: &Room, relays: u32) -> Load {
    let count = f64::from(relays);
    let carrying = f64::from(relays.saturating_sub(demand.spare).max(1));
    let sessions = whole(demand.sessions) / carrying;
    let forwarded = match relays {
        1 => 0.0,
        _ => demand.forwarded.unwrap_or(1.0 - 1.0 / count),
    };
    let others = whole(demand.sessions) - sessions;
    let is_announced = relays > 1 && others <= f64::from(ANNOUNCED_MAX);
    let load = Load {
        sessions,
        streams: sessions * demand.streams / 2.0 * (1.0 + forwarded),
        payload: demand.bits / 8.0 / carrying,
        message: f64::from(demand.message),
        together: demand.together,
        connects: demand.connects / carrying,
        opens: demand.opens() / carrying,
        forwarded,
        links: count - 1.0,
        announced: match is_announced {
            true => others,
            false => 0.0,
        },
        registry: match relays > 1 && !is_announced {
            true => REGISTRY_CONNECTIONS,
            false => 0.0,
        },
        slow: demand.slow,
        round_trip: demand.round_trip.as_secs_f64(),
        busy: 0.0,
        shards: room.shards,
        sessions_max: room.open_files.min(SESSIONS_MAX),
    };
    let busy = load::total(&load::terms(&load, costs), Sum::Processor);
    Load {
        busy: busy.min(room.shards),
        ..load
    }
}

fn none_fits(short: Option<Limit>) -> String {
    short.map_or_else(
        || "no number of relays carries it".to_owned(),
        |limit| {
            format!(
                "no number of relays up to {RELAYS_MAX} carries it: even then {} is short ({:.3e} needed, {:.3e} \
                 there); larger hosts, fewer spare relays or a smaller demand",
                limit.resource.label(),
                limit.needed,
                limit.available
            )
        },
    )
}

/// Most relays of a fleet: the largest `mesh.links_max` and the relay itself. Source: docs/config.md.
const RELAYS_MAX: u32 = 4_097;

/// Most sessions of a shard, whatever the open files. Source: docs/config.md, `limits.sessions_max`.
const SESSIONS_MAX: f64 = 1e6;

/// Defaults of the relay. Source: docs/config.md, `limits.shard_streams_max`, `tcp.backlog` and its largest
/// value.
const DEFAULT_LEGS: f64 = 262_144.0;
const DEFAULT_BACKLOG: f64 = 4_096.0;
const BACKLOG_MAX: f64 = 65_535.0;

/// Bytes that tell another relay of one peer: its key, a share of the frame and the sealed object around it.
/// Source: docs/limits.md, `SEALED_OBJECT_MAX` and `PEER_SET_KEYS_MAX`: 428 bytes for 12.
const ANNOUNCED_WIRE: f64 = 428.0 / 12.0;

/// Share of an even spread that the fullest shard may have more.
const SPREAD: f64 = 1.25;

/// Connections of a relay with Redis: one for commands, one for notices.
const REGISTRY_CONNECTIONS: f64 = 2.0;

/// Commands of a relay at rest, a second. Measured: docs/operations.md, "What a registry costs".
const LEASE_COMMANDS: f64 = 4.0;

/// Processor time of Redis for a place that is written, seconds; a question is taken to cost as much.
/// Measured: docs/operations.md.
const COMMAND_SECONDS: f64 = 17e-6;

/// Bytes of a place in Redis. Measured: docs/operations.md.
const PLACE_BYTES: f64 = 315.0;

/// Share of its one core that a Redis server is planned with.
const REDIS_SHARE: f64 = 0.5;

/// Time for which a shard may accept nothing: many times its longest turn under load, seconds.
const PAUSE_SECONDS: f64 = 0.1;
