//! What a host has, and where a growing load meets its end.
//!
//! Here: the room of a host, need against room for each resource, the number of sessions at which each is
//! used up. Not here: the sums (`load`), how many relays a fleet has (`fleet`).
//!
//! Growth means: sessions grow and everything that belongs to them in the same measure, streams, traffic and
//! connects. Links, shards and tables stay as they are.

use ringway_proto::limits::FORWARDED_STREAMS_MAX;
use serde::Serialize;

use super::costs::Costs;
use super::load::{self, Load, Sum, Term};
use super::whole;
use crate::host::Host;

/// What one host of a relay has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Room {
    /// Cores for data threads.
    pub cores: f64,
    /// Shards of a relay: one for each core, or more where open files are short.
    pub shards: f64,
    /// Memory, bytes.
    pub memory: f64,
    /// Open files of a process, which is also the size of a ring's table of sockets.
    pub open_files: f64,
    /// Local ports for outgoing connections, to each destination from each address.
    pub ports: f64,
    /// Network card in each direction, bytes a second; none is no limit.
    pub network: Option<f64>,
    /// Share of cores, memory and network that a plan may use.
    pub share: f64,
}

impl Room {
    /// Reads what this host has; what cannot be read is left to the caller to ask for.
    #[must_use]
    pub fn of_host(host: &Host) -> PartialRoom {
        PartialRoom {
            memory: host.memory_available.map(whole),
            open_files: host.nofile.and_then(|limit| limit.hard).map(whole),
            ports: host
                .port_range
                .map(|(first, last)| f64::from(last) - f64::from(first) + 1.0),
        }
    }

    const fn available(&self, resource: Resource) -> Option<f64> {
        match resource {
            Resource::Cores => Some(self.cores * self.share),
            Resource::Memory => Some(self.memory * self.share),
            Resource::Sockets => Some(self.open_files),
            Resource::Ports => Some(self.ports),
            Resource::Forwarded => Some(FORWARDED_MAX),
            Resource::Network => match self.network {
                Some(network) => Some(network * self.share),
                None => None,
            },
        }
    }
}

/// What a host tells of its room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartialRoom {
    /// Memory that is free, bytes.
    pub memory: Option<f64>,
    /// Open files of a process, at most.
    pub open_files: Option<f64>,
    /// Ports of `ip_local_port_range`.
    pub ports: Option<f64>,
}

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Cores.
    Cores,
    /// Memory of process and kernel together.
    Memory,
    /// Table slots of a shard.
    Sockets,
    /// Forwarded streams of a shard.
    Forwarded,
    /// Local ports to one destination.
    Ports,
    /// The network card.
    Network,
}

impl Resource {
    /// All of them, in the order of tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::Cores,
        Self::Memory,
        Self::Sockets,
        Self::Forwarded,
        Self::Ports,
        Self::Network,
    ];

    /// Returns the word that tables show.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Memory => "memory",
            Self::Sockets => "sockets of a shard",
            Self::Forwarded => "forwarded streams of a shard",
            Self::Ports => "local ports to one destination",
            Self::Network => "network",
        }
    }
}

/// Need of a resource against what there is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limit {
    /// The resource.
    pub resource: Resource,
    /// What the load needs.
    pub needed: f64,
    /// What there is for it, reserves taken off.
    pub available: f64,
    /// Sessions of this relay at which it would be used up; none when sessions do not matter for it.
    pub sessions: Option<f64>,
}

impl Limit {
    /// Returns whether there is too little.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.needed > self.available
    }
}

/// Returns need and room of every resource that is bounded.
pub(crate) fn limits(load: &Load, costs: &Costs, room: &Room) -> Vec<Limit> {
    let terms = load::terms(load, costs);
    let bounded = Resource::ALL
        .into_iter()
        .filter_map(|resource| Some((resource, room.available(resource)?)));
    bounded
        .map(|(resource, available)| Limit {
            resource,
            needed: needed(resource, load, &terms),
            available,
            sessions: sessions_at(resource, load, costs, available),
        })
        .collect()
}

/// Returns what the load needs of a resource.
pub(crate) fn needed(resource: Resource, load: &Load, terms: &[Term]) -> f64 {
    let total = |sum| load::total(terms, sum);
    match resource {
        Resource::Cores => total(Sum::Processor),
        Resource::Memory => total(Sum::ProcessMemory) + total(Sum::KernelMemory),
        Resource::Sockets => total(Sum::Slots),
        Resource::Forwarded => load.streams_forwarded() / load.shards,
        // All links of a relay may go to one destination each; those of all shards go to the same one.
        Resource::Ports => load.shards,
        Resource::Network => total(Sum::Network),
    }
}

/// Returns the load with `factor` times the sessions and all that belongs to them.
pub(crate) fn scaled(load: &Load, factor: f64) -> Load {
    Load {
        sessions: load.sessions * factor,
        streams: load.streams * factor,
        payload: load.payload * factor,
        connects: load.connects * factor,
        opens: load.opens * factor,
        busy: load.busy * factor,
        ..*load
    }
}

/// Returns the sessions at which the need reaches `available`; needs are straight lines of the load.
fn sessions_at(resource: Resource, load: &Load, costs: &Costs, available: f64) -> Option<f64> {
    let need = |factor: f64| {
        let load = scaled(load, factor);
        needed(resource, &load, &load::terms(&load, costs))
    };
    let (none, one) = (need(0.0), need(1.0));
    let slope = one - none;
    let factor = (available - none) / slope;
    (slope > 0.0 && factor.is_finite()).then(|| (factor * load.sessions).max(0.0))
}

/// Forwarded streams of a shard. Source: docs/limits.md.
const FORWARDED_MAX: f64 = FORWARDED_STREAMS_MAX as f64;
