//! Settings of one shard core.
//!
//! Here: the bounds and times that an operator may change, with the defaults of the protocol. Not here:
//! where they come from (the relay's configuration), bounds that nobody may change
//! (`ringway_proto::limits`).
//!
//! Units: bytes, `Duration`.

use ::core::net::SocketAddr;
use std::collections::BTreeSet;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::entry::RelayEntry;
use ringway_proto::handshake::Offer;
use ringway_proto::key::PublicKey;
use ringway_proto::limits;

use super::event::ShardId;
use super::proxied::Proxies;
use crate::ports::ShardPorts;

/// Settings of one shard core.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// This shard's number.
    pub shard: ShardId,
    /// Shards of the relay.
    pub shards_count: u16,
    /// The relay's own key.
    pub own_key: PublicKey,
    /// Its key in the dmsg dialect, if it speaks that one too.
    pub dmsg_key: Option<PublicKey>,
    /// Whose word on where a client of that dialect comes from is believed.
    pub proxies: Proxies,
    /// What the relay tells each peer in the handshake.
    pub offer: Offer,
    /// Who gets in.
    pub admission: AdmissionLimits,
    /// What may wait.
    pub queue: QueueLimits,
    /// When things end by themselves.
    pub timeouts: Timeouts,
    /// The shard's slices of the ports.
    pub ports: ShardPorts,
    /// Other relays.
    pub mesh: MeshConfig,
    /// Random value of the stream id tables, unknown to peers, so that chosen ids do not collide.
    pub hash_seed: u64,
}

impl CoreConfig {
    /// Returns whether a key is the relay's own, in whichever dialect.
    #[must_use]
    pub fn is_own(&self, key: &PublicKey) -> bool {
        *key == self.own_key || Some(*key) == self.dmsg_key
    }
}

/// Bounds of what peers may bring into being. The order in which those up to a session act stands in
/// `admission`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Sockets the shard may hold: at most one less than the ring's file table, because at a full
    /// table the kernel drops a client it has already accepted (measured, kernel 6.18).
    pub sockets_max: u32,
    /// Sessions the shard may hold; the sockets beyond tell peers that it is full.
    pub sessions_max: u32,
    /// Handshakes in progress.
    pub handshakes_max: u32,
    /// Handshakes in progress from one source.
    pub handshakes_source_max: u32,
    /// Connections accepted in a second.
    pub accepts_per_s_max: u32,
    /// Bytes that peers have sent ahead of their verdicts.
    pub pipelined_bytes_max: u64,
    /// Stream legs of the shard.
    pub streams_max: u32,
}

impl AdmissionLimits {
    /// Returns the default bounds for `sockets_max` sockets.
    #[must_use]
    pub const fn for_sockets(sockets_max: u32) -> Self {
        Self {
            sockets_max,
            sessions_max: sockets_max,
            handshakes_max: limits::HANDSHAKES_MAX,
            handshakes_source_max: limits::HANDSHAKES_SOURCE_MAX,
            accepts_per_s_max: limits::ACCEPTS_PER_S_MAX,
            pipelined_bytes_max: limits::PIPELINED_SHARD_MAX,
            streams_max: limits::SHARD_STREAMS_MAX,
        }
    }
}

/// Other relays, and what they may bring into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// Relays that the shard keeps a link with.
    pub relays: Vec<RelayAddress>,
    /// Who else may make links.
    pub allowed: AllowedRelays,
    /// Links of the shard.
    pub links_max: u32,
    /// Streams open at a time on one link.
    pub link_streams_max: u32,
    /// Streams open at a time on all links of the shard.
    pub forwarded_streams_max: u32,
    /// Whether other relays are told who the peers are. Without it they have to ask the registry.
    pub announces_peers: bool,
    /// Whether there is a registry to ask about peers that no link has told of.
    pub has_registry: bool,
    /// Whether there is a discovery to ask about clients of the dmsg dialect. Without one the servers that
    /// links stand with are asked in turn.
    pub has_discovery: bool,
    /// Servers of the dmsg dialect that may say of themselves that they are such, besides those that this
    /// relay knows.
    pub announcing: AllowedRelays,
    /// This relay's own word that it is such a server, signed, for those that it makes links with. They do
    /// not look at its age.
    pub announcement: Option<Vec<u8>>,
    /// What the relay tells others about itself when it begins a link.
    pub entry: Option<RelayEntry>,
}

impl Default for MeshConfig {
    /// No other relay.
    fn default() -> Self {
        Self {
            relays: Vec::new(),
            allowed: AllowedRelays::Listed(BTreeSet::new()),
            links_max: limits::LINKS_MAX,
            link_streams_max: limits::LINK_STREAMS_MAX,
            forwarded_streams_max: limits::FORWARDED_STREAMS_MAX,
            announces_peers: true,
            has_registry: false,
            has_discovery: false,
            announcing: AllowedRelays::Listed(BTreeSet::new()),
            announcement: None,
            entry: None,
        }
    }
}

impl MeshConfig {
    /// Returns whether there is somebody to ask where a party is.
    pub(super) const fn has_directory_of(&self, dialect: Dialect) -> bool {
        match dialect {
            Dialect::Native => self.has_registry,
            _ => self.has_discovery,
        }
    }

    /// Returns whether a relay may make a link.
    #[must_use]
    pub fn allows(&self, key: &PublicKey) -> bool {
        let is_allowed = match &self.allowed {
            AllowedRelays::All => true,
            AllowedRelays::Listed(keys) => keys.contains(key),
        };
        is_allowed || self.relays.iter().any(|relay| relay.key == *key)
    }
}

/// Who a relay is and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    /// Its key.
    pub key: PublicKey,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Relays that may make links without being dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedRelays {
    /// Whoever proves to have a key.
    All,
    /// These.
    Listed(BTreeSet<PublicKey>),
}

/// Bounds of what waits to be sent. How they share it out stands in `egress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes that wait for one session.
    pub session_bytes_max: u32,
    /// Bytes that wait for all sessions of the shard.
    pub shard_bytes_max: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            session_bytes_max: limits::SESSION_QUEUE_MAX,
            shard_bytes_max: limits::SHARD_QUEUE_MAX,
        }
    }
}

/// Times after which something ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept to session.
    pub handshake: Duration,
    /// From a stream's first frame to the answer of its open.
    pub open: Duration,
    /// Silence after which a peer is asked for a sign of life; it has `KEEPALIVE_MISSED_MAX` more of
    /// them to give one.
    pub keepalive: Duration,
    /// Silence of a bridge of which one direction has ended.
    pub half_closed: Duration,
    /// Silence of a bridge.
    pub bridge_idle: Duration,
    /// No byte taken by a peer for which bytes wait.
    pub send_stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: limits::HANDSHAKE_TIMEOUT,
            open: limits::OPEN_TIMEOUT,
            keepalive: limits::KEEPALIVE_INTERVAL,
            half_closed: limits::HALF_CLOSED_TIMEOUT,
            bridge_idle: limits::BRIDGE_IDLE_TIMEOUT,
            send_stall: limits::SEND_STALL_TIMEOUT,
        }
    }
}
