//! The data plane as the control plane uses it.
//!
//! Here: settings in the data plane's words, the start with its error texts, snapshots, the end. Not
//! here: anything of a socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::place::Locator;
use ringway_proto::dmsg;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::dmsg::open::PeerAnnounce;
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::SecretKey;
use ringway_proto::limits;
use ringway_shards::ring::{ListenError, RingConfig};
use ringway_shards::set::{
    AdmissionLimits, DmsgConfig, LaunchError, MeshConfig, Placement, QueueLimits, RelayAddress,
    ShardSet, ShardSetConfig, ShardSnapshot,
};

use super::discoveries::Discoveries;
use super::fleet::Fleet;
use super::{ShardView, Shards};
use crate::capacity::{Capacity, spare_slots};
use crate::config::Config;
use crate::failure::Failure;
use crate::geo::Database;
use crate::local_ports;
use crate::preflight;
use crate::relay_name::RelayName;

/// The running shards.
#[derive(Debug)]
pub(crate) struct Plane {
    shards: ShardSet,
}

impl Plane {
    /// Starts the shards and returns when every one of them runs.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] with the first cause; nothing is left running.
    pub(crate) fn launch(
        config: &Config,
        capacity: &Capacity,
        secret: &SecretKey,
        dmsg: Option<&dmsg::key::SecretKey>,
        fleet: &Fleet,
        discoveries: Option<&Arc<Discoveries>>,
    ) -> Result<Self, Failure> {
        let entry = fleet.entry(config, secret);
        let mesh = MeshConfig {
            entry: entry.ok(),
            ..mesh(config, secret, dmsg)?
        };
        let config = ShardSetConfig {
            mesh,
            resolver: fleet.resolver(config),
            dmsg: dmsg_config(config, dmsg, discoveries)?,
            ..set_config(config, capacity, secret)
        };
        let shards = ShardSet::launch(&config).map_err(failure)?;
        Ok(Self { shards })
    }

    /// Returns where peers connect, with the port the kernel chose.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.shards.address()
    }

    /// Returns where clients of the dmsg dialect connect, with the port the kernel chose.
    pub(crate) const fn dmsg_address(&self) -> Option<SocketAddr> {
        self.shards.dmsg_address()
    }

    /// Returns the shards themselves.
    pub(crate) const fn shards(&self) -> &ShardSet {
        &self.shards
    }

    /// Returns how connections are shared out among the shards.
    pub(crate) const fn placement(&self) -> Placement {
        self.shards.placement()
    }

    /// Takes nothing new from now on; sessions are told, and end with their last stream.
    pub(crate) fn drain(&self) {
        self.shards.drain();
    }

    /// Ends every shard at once, and says so in the log when one did not let go of everything.
    pub(crate) fn end(self) {
        for ShardSnapshot { shard, audit, .. } in self.shards.shutdown() {
            if !audit.is_zero() {
                tracing::error!(shard = shard.0, ?audit, "a shard ended with something left");
            }
        }
    }
}

impl Shards for Plane {
    fn view(&self) -> Vec<ShardView> {
        let view = |snapshot: ShardSnapshot| ShardView {
            shard: snapshot.shard.0,
            stats: snapshot.stats,
            audit: snapshot.shard_audit,
            ring: snapshot.ring,
            data: snapshot.data,
            stalls: snapshot.stalls,
            recorder: snapshot.recorder,
        };
        self.shards
            .snapshots(SNAPSHOT_TIMEOUT)
            .into_iter()
            .map(view)
            .collect()
    }

    fn shards_count(&self) -> usize {
        self.shards.handles().len()
    }
}

/// Returns how many shards the settings ask for.
pub(crate) fn shards_count(config: &Config) -> u16 {
    match (config.shards, &config.cores) {
        (Some(count), _) => count,
        (None, Some(cores)) => u16::try_from(cores.len()).unwrap_or(u16::MAX),
        (None, None) => {
            let cores = available_parallelism().map_or(1, usize::from);
            u16::try_from(cores)
                .unwrap_or(u16::MAX)
                .min(SHARDS_AUTOMATIC_MAX)
        }
    }
}

fn set_config(config: &Config, capacity: &Capacity, secret: &SecretKey) -> ShardSetConfig {
    let ring = RingConfig::default();
    let keepalive_s = u16::try_from(config.timeouts.keepalive.as_secs()).unwrap_or(u16::MAX);
    ShardSetConfig {
        shards_count: capacity.shards,
        cores: config
            .cores
            .iter()
            .flatten()
            .map(|core| usize::from(*core))
            .collect(),
        placement: config.placement,
        listen: config.listen,
        joins_address: false,
        backlog: config.backlog,
        congestion: preflight::congestion(config),
        spin: config.spin,
        admission: AdmissionLimits {
            sessions_max: capacity.sessions_max,
            handshakes_max: config.handshakes_max,
            handshakes_source_max: config.handshakes_source_max,
            accepts_per_s_max: config.accepts_per_s_max,
            streams_max: config.shard_streams_max,
            ..AdmissionLimits::for_sockets(capacity.sockets_max)
        },
        queue: QueueLimits {
            session_bytes_max: config.session_queue_bytes_max,
            shard_bytes_max: config.shard_queue_bytes_max,
        },
        timeouts: config.timeouts,
        identity: Arc::new(RelayIdentity::new(secret)),
        dmsg: None,
        offer: Offer {
            capabilities: 0,
            streams_max: config.streams_max,
            stream_window: limits::WINDOW_INITIAL,
            keepalive_s,
        },
        ports: local_ports::ports_config(config),
        mesh: MeshConfig::default(),
        resolver: None,
        has_services: config.services.is_any(),
        ring: RingConfig {
            sockets_max: capacity.sockets_max.saturating_add(spare_slots(config)),
            blocks_max: blocks_max(config.receive_bytes_max, &ring),
            zero_copy_min: config.zero_copy_min,
            napi: config.napi,
            ..ring
        },
    }
}

/// Returns what the shards need to speak the dmsg dialect, if they are to.
fn dmsg_config(
    config: &Config,
    secret: Option<&dmsg::key::SecretKey>,
    discoveries: Option<&Arc<Discoveries>>,
) -> Result<Option<DmsgConfig>, Failure> {
    let Some((listen, secret)) = config.dmsg.listen.zip(secret) else {
        return Ok(None);
    };
    Ok(Some(DmsgConfig {
        listen,
        identity: Arc::new(Identity::new(secret.clone())),
        proxies: config.dmsg.proxies.clone(),
        discovery: discoveries.map(|discoveries| Arc::<Discoveries>::clone(discoveries) as _),
        locator: locator(config)?,
    }))
}

/// Opens the database that says where addresses are, if there is one.
fn locator(config: &Config) -> Result<Option<Arc<dyn Locator>>, Failure> {
    let Some(path) = &config.dmsg.geo_database else {
        return Ok(None);
    };
    let database = Database::open(path)?;
    tracing::info!(?database, "read the database of places");
    Ok(Some(Arc::new(database)))
}

/// Returns the other relays, with their addresses.
fn mesh(
    config: &Config,
    secret: &SecretKey,
    dmsg: Option<&dmsg::key::SecretKey>,
) -> Result<MeshConfig, Failure> {
    let own = secret.public();
    let own_dmsg = dmsg.map(|secret| secret.public());
    let announcement = |secret: &dmsg::key::SecretKey| {
        let is_wanted = config.dmsg.announces_itself;
        is_wanted.then(|| own_announcement(secret)).flatten()
    };
    let address = |relay: &RelayName| {
        if relay.key == own || Some(relay.key) == own_dmsg {
            let list = match relay.key.dialect() {
                Dialect::Native => "mesh.relays",
                _ => "dmsg.peers",
            };
            let why = format!("{list} names this relay itself: take its own key out of the list");
            return Err(Failure::Check(why));
        }
        Ok(RelayAddress {
            key: relay.key,
            address: relay.resolve()?,
        })
    };
    Ok(MeshConfig {
        relays: config
            .relays
            .iter()
            .chain(&config.dmsg.peers)
            .map(address)
            .collect::<Result<_, _>>()?,
        allowed: config.allowed_relays.clone(),
        links_max: config.links_max,
        announces_peers: config.announces_peers,
        announcing: config.dmsg.allowed.clone(),
        announcement: dmsg.and_then(announcement),
        ..MeshConfig::default()
    })
}

/// Returns the word of this relay that it is a server of the dmsg dialect.
fn own_announcement(secret: &dmsg::key::SecretKey) -> Option<Vec<u8>> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let announcement = PeerAnnounce {
        timestamp_ns: i64::try_from(since.ok()?.as_nanos()).ok()?,
        source: secret.public(),
    };
    announcement.encode(secret).ok()
}

/// Returns the receive blocks that fit in `bytes`, those at rest at least.
fn blocks_max(bytes: u64, ring: &RingConfig) -> u16 {
    let blocks = bytes / u64::from(ring.block_bytes);
    u16::try_from(blocks).unwrap_or(u16::MAX).max(ring.blocks)
}

/// Returns the failure of a launch, in the words of the command line.
fn failure(error: LaunchError) -> Failure {
    const FLAG: &str = "--listen ADDRESS:PORT";
    match error {
        LaunchError::Listen(ListenError::AddressInUse { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::AddrInUse.into())
        }
        LaunchError::Listen(ListenError::AddressUnknown { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::AddrNotAvailable.into())
        }
        LaunchError::Listen(ListenError::Permission { address }) => {
            Failure::listen(address, FLAG, io::ErrorKind::PermissionDenied.into())
        }
        LaunchError::Listen(_) => Failure::host("cannot listen", error),
        _ => Failure::host("cannot start the shards", error),
    }
}

/// Longest wait for a shard's snapshot; a turn takes microseconds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);

/// Most shards that are started without being asked for, the most the configuration accepts.
const SHARDS_AUTOMATIC_MAX: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_memory_becomes_blocks() {
        let ring = RingConfig::default();
        let default = Config::default().receive_bytes_max;
        assert_eq!(blocks_max(default, &ring), ring.blocks_max);
        assert_eq!(blocks_max(8 << 20, &ring), 32);
        assert_eq!(blocks_max(0, &ring), 32, "those at rest");
        assert_eq!(blocks_max(8 << 30, &ring), 32_768);
    }

    #[test]
    fn shards_follow_count_then_cores_then_host() {
        let config = |shards, cores| Config {
            shards,
            cores,
            ..Config::default()
        };
        assert_eq!(shards_count(&config(Some(3), None)), 3);
        assert_eq!(shards_count(&config(None, Some(vec![0, 5]))), 2);
        assert!(shards_count(&config(None, None)) >= 1);
    }
}
