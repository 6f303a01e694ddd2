//! The relay's settings.
//!
//! Here: the settings as the rest of the program uses them, with their defaults. `keys` is the one
//! table of all keys, `file` reads TOML, `deployment` the file around all others, `resolve` joins flags,
//! environment, file, deployment and defaults. Not here: what a setting does.
//!
//! Precedence: flag, then environment, then file, then deployment, then default.

mod deployment;
mod dmsg;
mod effective;
mod file;
mod keys;
mod origin;
mod problems;
mod resolve;
mod units;
mod values;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits;
use ringway_shards::set::{AllowedRelays, Placement, Timeouts};

use crate::access::KeySet;
use crate::relay_name::RelayName;

pub(crate) use deployment::{Deployment, VARIABLE as DEPLOY_VARIABLE};
pub(crate) use dmsg::DmsgChoice;
pub(crate) use effective::{Effective, Resolved};
pub(crate) use keys::KEYS;
pub use problems::Problems;
pub(crate) use resolve::{Settings, resolve};
pub(crate) use units::{parse_address, parse_duration, parse_size, size_text};

/// Where a relay listens when nothing else is said.
pub(crate) const LISTEN_DEFAULT: SocketAddr = loopback(7100);

/// Where a relay's admin endpoint listens when nothing else is said.
pub(crate) const ADMIN_DEFAULT: SocketAddr = loopback(7180);

/// Settings of one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where peers connect.
    pub(crate) listen: SocketAddr,
    /// Shards; `None` is one for each core the process may use.
    pub(crate) shards: Option<u16>,
    /// Cores the shards are pinned to, in order; `None` takes the allowed ones in order.
    pub(crate) cores: Option<Vec<u16>>,
    /// How new connections are shared out among the shards.
    pub(crate) placement: Placement,
    /// The relay's key file; `None` is `relay.key` in the state directory.
    pub(crate) key_file: Option<PathBuf>,
    /// What becomes of a host that is not as the relay needs it.
    pub(crate) preflight: Preflight,
    /// Where the admin endpoint listens; `None` is off.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Most sessions of each shard; `None` is what the host allows.
    pub(crate) sessions_max: Option<u32>,
    /// Most handshakes in progress on each shard.
    pub(crate) handshakes_max: u32,
    /// Most of them from one source.
    pub(crate) handshakes_source_max: u32,
    /// Most connections that each shard accepts in a second.
    pub(crate) accepts_per_s_max: u32,
    /// Most streams of each session.
    pub(crate) streams_max: u32,
    /// Most stream legs of each shard.
    pub(crate) shard_streams_max: u32,
    /// Most bytes that wait for one session.
    pub(crate) session_queue_bytes_max: u32,
    /// Most bytes that wait for all sessions of a shard.
    pub(crate) shard_queue_bytes_max: u64,
    /// Most receive memory of a shard, bytes.
    pub(crate) receive_bytes_max: u64,
    /// When things end by themselves.
    pub(crate) timeouts: Timeouts,
    /// Congestion control of the relay's TCP connections; `None` is the host's.
    pub(crate) congestion: Congestion,
    /// Connections the kernel holds before the relay accepts them.
    pub(crate) backlog: u32,
    /// Addresses the relay dials from; empty is the kernel's choice.
    pub(crate) port_sources: Vec<IpAddr>,
    /// First and last local port the relay dials from; `None` is what the host sets aside.
    pub(crate) port_range: Option<(u16, u16)>,
    /// How long a local port rests after its use.
    pub(crate) port_quarantine: Duration,
    /// Outbound connections that one shard makes at once.
    pub(crate) dials_max: u32,
    /// Relays to keep links with.
    pub(crate) relays: Vec<RelayName>,
    /// Who else may make links.
    pub(crate) allowed_relays: AllowedRelays,
    /// Links of one shard.
    pub(crate) links_max: u32,
    /// Whether other relays are told over links who the peers are.
    pub(crate) announces_peers: bool,
    /// Where a fleet keeps which relay has which peer.
    pub(crate) registry: RegistryChoice,
    /// What the names of its keys begin with.
    pub(crate) registry_prefix: String,
    /// How long this relay's lease there lasts without renewal.
    pub(crate) lease: Duration,
    /// Where other relays reach this one.
    pub(crate) announce: Announce,
    /// What the relay offers on its own key.
    pub(crate) services: ServiceChoice,
    /// What it offers to clients of the dmsg dialect.
    pub(crate) dmsg: DmsgChoice,
    /// How long a data thread looks for work before it blocks.
    pub(crate) spin: Duration,
    /// How long a sleeping data thread polls the queues of network cards first.
    pub(crate) napi: Option<Duration>,
    /// Sends of at least so many bytes go without a copy.
    pub(crate) zero_copy_min: Option<u32>,
    /// How long a drain may take.
    pub(crate) drain_timeout: Duration,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Which log lines are written, as `tracing` filters are.
    pub(crate) log_level: String,
}

impl Config {
    /// Returns whether the relay may have links with others.
    pub(crate) fn has_links(&self) -> bool {
        let allows_nobody =
            matches!(&self.allowed_relays, AllowedRelays::Listed(keys) if keys.is_empty());
        !self.relays.is_empty() || !allows_nobody
    }
}

/// What a relay offers on its own key, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceChoice {
    /// Who may read its state on port 80.
    pub(crate) http: KeySet,
    /// Who may use port 81.
    pub(crate) debug: KeySet,
    /// Whether port 36 sets up routes.
    pub(crate) has_route_setup: bool,
    /// Who may ask it to.
    pub(crate) route_setup: KeySet,
    /// The relay that knows which transports there are; `None` is this one.
    pub(crate) route_finder: Option<PublicKey>,
    /// Setups at once, over all shards.
    pub(crate) setups_max: u32,
    /// Setups that wait for one of these to end, over all shards.
    pub(crate) setups_waiting_max: u32,
    /// Longest time of one setup, its wait included.
    pub(crate) setup_timeout: Duration,
}

impl ServiceChoice {
    /// Returns whether there is anything to reach on the relay's key.
    pub(crate) fn is_any(&self) -> bool {
        !self.http.is_empty() || self.has_route_setup || !self.debug.is_empty()
    }
}

impl Default for ServiceChoice {
    fn default() -> Self {
        Self {
            http: KeySet::All,
            debug: KeySet::none(),
            has_route_setup: true,
            route_setup: KeySet::All,
            route_finder: None,
            setups_max: limits::ROUTE_SETUPS_MAX,
            setups_waiting_max: 256,
            setup_timeout: limits::ROUTE_SETUP_TIMEOUT,
        }
    }
}

/// Where a fleet keeps which relay has which peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RegistryChoice {
    /// In a file of this relay: the relays it has had links with.
    Embedded,
    /// Nowhere.
    Off,
    /// In Redis or Valkey, at this URL.
    Redis(String),
}

/// Where other relays are told to reach this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announce {
    /// Where it listens, unless that is every address of the host.
    Automatic,
    /// Here.
    At(SocketAddr),
    /// Nowhere: it only dials out.
    Off,
}

impl Announce {
    /// Returns the address that others are told, for a relay that listens at `listen`.
    pub(crate) fn address(self, listen: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Automatic => {
                let is_one = !listen.ip().is_unspecified() && listen.port() != 0;
                is_one.then_some(listen)
            }
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }
}

/// Which congestion control the relay asks the kernel for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Congestion {
    /// `cubic` where the kernel lets this process use it, the host's default elsewhere.
    Automatic,
    /// The one with this name.
    Named(String),
    /// The host's default.
    System,
}

/// What becomes of a host that is not as the relay needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preflight {
    /// It is not looked at.
    Off,
    /// The relay does not start where a check fails.
    Strict,
    /// What is wrong is said, and the relay starts if it can.
    Warn,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: LISTEN_DEFAULT,
            shards: None,
            cores: None,
            placement: Placement::default(),
            key_file: None,
            preflight: Preflight::Warn,
            admin_listen: Some(ADMIN_DEFAULT),
            sessions_max: None,
            handshakes_max: limits::HANDSHAKES_MAX,
            handshakes_source_max: limits::HANDSHAKES_SOURCE_MAX,
            accepts_per_s_max: limits::ACCEPTS_PER_S_MAX,
            streams_max: limits::STREAMS_MAX,
            shard_streams_max: limits::SHARD_STREAMS_MAX,
            session_queue_bytes_max: limits::SESSION_QUEUE_MAX,
            shard_queue_bytes_max: limits::SHARD_QUEUE_MAX,
            receive_bytes_max: limits::RECEIVE_MEMORY_MAX,
            timeouts: Timeouts::default(),
            congestion: Congestion::Automatic,
            backlog: ringway_shards::set::BACKLOG_DEFAULT,
            port_sources: Vec::new(),
            port_range: None,
            port_quarantine: limits::PORT_QUARANTINE_LOCAL,
            dials_max: limits::DIALS_MAX,
            relays: Vec::new(),
            allowed_relays: AllowedRelays::Listed(BTreeSet::new()),
            links_max: limits::LINKS_MAX,
            announces_peers: true,
            registry: RegistryChoice::Embedded,
            registry_prefix: "ringway:".to_owned(),
            lease: LEASE_DEFAULT,
            announce: Announce::Automatic,
            services: ServiceChoice::default(),
            dmsg: DmsgChoice::default(),
            spin: ringway_shards::set::SPIN_DEFAULT,
            napi: None,
            zero_copy_min: None,
            drain_timeout: DRAIN_TIMEOUT_DEFAULT,
            log_format: LogFormat::Text,
            log_level: "warn".to_owned(),
        }
    }
}

/// Most sessions of a shard whatever the host allows, and the most that may be asked for.
///
/// The slots of a table of this size cost the kernel 16 MB a shard before the first of them is used;
/// a host whose limits are higher than this has been set up without a limit in mind.
pub(crate) const SESSIONS_MAX_MAX: u32 = 1_000_000;

/// Longest drain by default: under systemd's 90 s before SIGKILL, long enough for most transfers.
const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Lease by default: a relay that dies is believed to live for so long; it renews three times as often.
const LEASE_DEFAULT: Duration = Duration::from_secs(15);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
