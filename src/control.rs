//! The control plane: what an operator sees and does.
//!
//! Here: the picture of a relay that all of it works on. `pages` shows it, `admin` serves that over HTTP,
//! `health` and `metrics` write it, `drain` ends a relay. Not here: the data plane; it is asked for
//! snapshots and told commands, and its sockets are never touched.

pub(crate) mod admin;
pub(crate) mod discoveries;
pub(crate) mod drain;
pub(crate) mod fleet;
pub(crate) mod health;
pub(crate) mod histograms;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod plane;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use ringway_proto::key::PublicKey;
use ringway_shards::core::{CoreStats, Recorder};
use ringway_shards::ring::RingNumbers;
use ringway_shards::set::{DataNumbers, Placement, ShardAudit, StalledTurn};

use self::discoveries::Discoveries;
use crate::capacity::Capacity;
use crate::config::Config;
use crate::registry::start::View;

/// What stays the same for the life of a relay, and whether it drains.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Its public key.
    pub(crate) key: PublicKey,
    /// Its settings.
    pub(crate) config: Config,
    /// How many sessions it holds, and why not more.
    pub(crate) capacity: Capacity,
    /// Where it really listens.
    pub(crate) listen: std::net::SocketAddr,
    /// Its key and address in the dmsg dialect, if it speaks that one too.
    pub(crate) dmsg: Option<(PublicKey, std::net::SocketAddr)>,
    /// How connections are shared out among its shards.
    pub(crate) placement: Placement,
    /// When it started, for people.
    pub(crate) started: SystemTime,
    /// When it started, for the uptime.
    pub(crate) started_at: Instant,
    /// Its discoveries of the dmsg dialect, if it has some.
    pub(crate) discoveries: Option<Arc<Discoveries>>,
    /// Its registry, if it has one.
    pub(crate) registry: Option<View>,
    /// Whether it is ending.
    pub(crate) is_draining: AtomicBool,
}

impl Relay {
    /// A relay of so many shards with the default settings, that nobody has started.
    #[cfg(test)]
    pub(crate) fn of_shards(shards: u16) -> Self {
        use crate::capacity::Stop;
        use crate::config::LISTEN_DEFAULT;

        Self {
            key: PublicKey::native([7; 32]),
            config: Config::default(),
            capacity: Capacity {
                shards,
                sessions_max: 19_999,
                sockets_max: 19_999,
                stop: Stop::OpenFiles(20_000),
                memory_bytes_max: 3 << 30,
            },
            listen: LISTEN_DEFAULT,
            dmsg: None,
            placement: Placement::default(),
            started: SystemTime::UNIX_EPOCH,
            started_at: Instant::now(),
            discoveries: None,
            registry: None,
            is_draining: AtomicBool::new(false),
        }
    }

    /// Whether the relay is ending and takes nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

/// One shard at one moment.
#[derive(Debug, Clone)]
pub(crate) struct ShardView {
    /// Its number.
    pub(crate) shard: u16,
    /// Its counters.
    pub(crate) stats: CoreStats,
    /// What it owns.
    pub(crate) audit: ShardAudit,
    /// Its ring's numbers.
    pub(crate) ring: RingNumbers,
    /// Its data thread's numbers.
    pub(crate) data: DataNumbers,
    /// Its last turns that took too long, oldest first.
    pub(crate) stalls: Vec<StalledTurn>,
    /// Its latencies.
    pub(crate) recorder: Recorder,
}

impl ShardView {
    /// A shard that has done nothing yet.
    #[cfg(test)]
    pub(crate) fn quiet(shard: u16) -> Self {
        Self {
            shard,
            stats: CoreStats::default(),
            audit: ShardAudit::default(),
            ring: RingNumbers::default(),
            data: DataNumbers::default(),
            stalls: Vec::new(),
            recorder: Recorder::default(),
        }
    }
}

/// Something that can be asked for the state of every shard.
pub(crate) trait Shards: Send + Sync + 'static {
    /// Returns every shard's state, in the order of their numbers.
    fn view(&self) -> Vec<ShardView>;

    /// Returns how many shards there are; one that does not answer is missing in the view.
    fn shards_count(&self) -> usize;
}

/// Version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit the binary was built from; builds of releases set `RINGWAY_COMMIT`.
pub(crate) const COMMIT: &str = match option_env!("RINGWAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
