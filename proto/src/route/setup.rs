//! What a peer asks a relay about routes, and what the relay answers.
//!
//! Here: the messages on a stream to [`ROUTE_SETUP_PORT`](super::ROUTE_SETUP_PORT) of a relay. Not here:
//! framing (`message`), which of them are refused (`check`).
//!
//! The asker is the authenticated peer of the stream; no message repeats its key.
//! Variants stand in the order of their numbers on the wire; new ones come last.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::bounded;
use super::{GroupName, Refusal, RouteId};
use crate::key::PublicKey;

/// A question of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupRequest {
    /// Set up the two routes of a group, or new ones for a group that is there.
    SetUp(SetUp),
    /// Find paths from the asker to a peer.
    Find(Find),
    /// These are the peers the asker can reach; what it announced before is void.
    Announce(Announce),
    /// What the asker has announced is void.
    Withdraw,
}

/// Two routes to set up: one to the destination, one back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUp {
    /// Where the forward route ends.
    pub destination: PublicKey,
    /// Every peer from the asker to the destination, both included.
    #[serde(deserialize_with = "bounded::list")]
    pub forward: Vec<PublicKey>,
    /// Every peer from the destination to the asker, both included.
    #[serde(deserialize_with = "bounded::list")]
    pub reverse: Vec<PublicKey>,
    /// Port of the asker, for the destination to see.
    pub source_port: u16,
    /// Port of the destination that the group is for.
    pub destination_port: u16,
    /// Name of the group.
    pub group: GroupName,
    /// Time without a packet after which a hop forgets its rule; 0 for the usual one.
    pub keep_alive_ms: u32,
    /// What the asker has reserved in its own table for packets that come back.
    pub reverse_id: RouteId,
}

/// A question for paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// Where the paths end.
    pub destination: PublicKey,
    /// How many paths at most, which share no peer but their ends.
    pub paths_max: u8,
    /// How many peers a path may have, both ends included; 0 for as many as are allowed.
    pub hops_max: u8,
    /// Which paths are better.
    pub by: FindBy,
    /// Peers that no path may have between its ends: hops that have failed.
    #[serde(deserialize_with = "bounded::list")]
    pub avoid: Vec<PublicKey>,
}

/// What makes a path better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindBy {
    /// The sum of its latencies, then the number of its hops.
    Latency,
    /// The number of its hops, then the sum of its latencies.
    Hops,
}

/// The full set of transports of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Peers that the asker can reach.
    #[serde(deserialize_with = "bounded::list")]
    pub transports: Vec<Transport>,
    /// Time after which the set is void unless it is announced again.
    pub ttl_ms: u32,
}

/// A peer that can be reached, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transport {
    /// The peer.
    pub peer: PublicKey,
    /// Half of a measured round trip.
    pub latency_us: u32,
}

/// An answer of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupReply {
    /// The routes stand.
    SetUp {
        /// What the asker's packets carry towards the second peer of the forward path.
        forward_id: RouteId,
        /// Time without a packet after which hops forget their rules.
        keep_alive_ms: u32,
    },
    /// Nothing was done; what had been done was undone.
    Refused(Refusal),
    /// Paths, best first; none when there is none.
    Paths {
        /// The paths.
        #[serde(deserialize_with = "bounded::list")]
        paths: Vec<FoundPath>,
    },
    /// The announcement counts.
    Announced {
        /// Time until it does not any more, from now.
        expires_ms: u32,
    },
    /// Done.
    Done,
    /// The relay keeps no transports: ask the one that does, on the same port of its key.
    Elsewhere {
        /// The relay.
        relay: PublicKey,
    },
}

/// A path that a finder knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPath {
    /// Every peer from the asker to the destination, both included.
    #[serde(deserialize_with = "bounded::list")]
    pub hops: Vec<PublicKey>,
    /// Sum of the latencies of its transports.
    pub latency_us: u64,
}
