//! What a router counts, and what it holds.
//!
//! Here: the counters and the views. Not here: who counts.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::route::{GroupName, RouteId};

/// Counters of a [`Router`](crate::Router) since its start, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterStats {
    /// Rules now.
    pub rules: u64,
    /// Ids now that are reserved and have no rule.
    pub reserved: u64,
    /// Route groups that end here now.
    pub groups: u64,
    /// Neighbours with a packet stream now.
    pub neighbours: u64,
    /// Packets of others passed on.
    pub packets_forwarded: u64,
    /// Bytes of these packets.
    pub bytes_forwarded: u64,
    /// Packets of groups that end here.
    pub packets_delivered: u64,
    /// Packets that were dropped, by why.
    pub dropped: PacketsDropped,
    /// Groups that got another path after the first was lost.
    pub reroutes: u64,
    /// Groups whose path was lost and that got no other one.
    pub reroutes_failed: u64,
    /// Routes that relays have set up for this peer.
    pub setups: u64,
    /// Setups that failed, by the number of the reason; 0 when there was none.
    pub setups_failed: BTreeMap<u16, u64>,
    /// Requests of relays that were carried out.
    pub hop_requests: u64,
    /// Requests that were refused, by the number of the reason.
    pub hop_requests_refused: BTreeMap<u16, u64>,
    /// Announcements that relays have taken.
    pub announcements: u64,
}

/// Packets dropped by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketsDropped {
    /// There are as many neighbours as may be.
    pub neighbours: u64,
    /// They do not open: somebody changed them, or they are of another group.
    pub not_authentic: u64,
    /// The neighbour's queue, or the route's share of it, is full.
    pub queue: u64,
    /// There is no rule for the id.
    pub unknown_id: u64,
    /// The rule is for packets of another neighbour.
    pub wrong_neighbour: u64,
}

impl PacketsDropped {
    /// Returns how many there are.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.neighbours + self.not_authentic + self.queue + self.unknown_id + self.wrong_neighbour
    }
}

/// One entry of a router's table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStatus {
    /// Its id.
    pub id: RouteId,
    /// `reserved`, `intermediary`, `destination` or `own`.
    pub kind: &'static str,
    /// The peer that packets come from.
    pub previous: Option<PublicKey>,
    /// The peer that packets go to, on or back, and their id there.
    pub next: Option<(PublicKey, RouteId)>,
    /// The group that ends here.
    pub group: Option<GroupName>,
}

/// One route group that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatus {
    /// Its name.
    pub name: GroupName,
    /// Who is at the other end.
    pub peer: Address,
    /// The port at this end.
    pub local_port: u16,
    /// Whether this end has opened it.
    pub is_opener: bool,
    /// The peers of its forward path, at the end that has opened it.
    pub forward: Vec<PublicKey>,
    /// Whether it has a path now.
    pub has_path: bool,
    /// How often its path has changed.
    pub reroutes: u64,
    /// Its round trip.
    pub rtt: Option<Duration>,
}
