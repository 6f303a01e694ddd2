//! What `ringway route serve` says of itself, as JSON.
//!
//! Here: the forms, which the asking commands read again. Not here: the endpoint (`control`).

use std::collections::BTreeMap;

use ringway_client::{GroupStatus, PublicKey, Router, RouterStats, RuleStatus};
use ringway_proto::route::FoundPath;
use serde::{Deserialize, Serialize};

/// What a router holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Held {
    /// The party.
    pub(super) key: PublicKey,
    pub(super) rules: Vec<Rule>,
    pub(super) groups: Vec<Group>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) id: u32,
    pub(super) kind: String,
    pub(super) previous: Option<PublicKey>,
    pub(super) next: Option<PublicKey>,
    pub(super) next_id: Option<u32>,
    pub(super) group: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) peer: PublicKey,
    pub(super) peer_port: u16,
    pub(super) local_port: u16,
    pub(super) is_opener: bool,
    pub(super) has_path: bool,
    pub(super) forward: Vec<PublicKey>,
    pub(super) reroutes: u64,
    pub(super) rtt_us: Option<u64>,
}

/// Paths that were found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) paths: Vec<FoundPath>,
    /// Why there are none.
    pub(super) error: Option<String>,
}

/// Counters by name, in the order of their names; those by reason have it behind a dot.
pub(super) type Counters = BTreeMap<String, u64>;

impl Held {
    pub(super) fn of(router: &Router) -> Self {
        Self {
            key: router.key(),
            rules: router.rules().into_iter().map(rule).collect(),
            groups: router.groups().into_iter().map(group).collect(),
        }
    }
}

/// Returns the counters of a router.
pub(super) fn counters(stats: &RouterStats) -> Counters {
    let dropped = stats.dropped;
    let single = [
        ("announcements", stats.announcements),
        ("bytes_forwarded", stats.bytes_forwarded),
        ("dropped.neighbours", dropped.neighbours),
        ("dropped.not_authentic", dropped.not_authentic),
        ("dropped.queue", dropped.queue),
        ("dropped.unknown_id", dropped.unknown_id),
        ("dropped.wrong_neighbour", dropped.wrong_neighbour),
        ("groups", stats.groups),
        ("hop_requests", stats.hop_requests),
        ("neighbours", stats.neighbours),
        ("packets_delivered", stats.packets_delivered),
        ("packets_forwarded", stats.packets_forwarded),
        ("reroutes", stats.reroutes),
        ("reroutes_failed", stats.reroutes_failed),
        ("reserved", stats.reserved),
        ("rules", stats.rules),
        ("setups", stats.setups),
    ];
    let by_reason = [
        ("hop_requests_refused", &stats.hop_requests_refused),
        ("setups_failed", &stats.setups_failed),
    ];
    let numbered = by_reason.into_iter().flat_map(|(name, counts)| {
        let one = move |(reason, count): (&u16, &u64)| (format!("{name}.{reason}"), *count);
        counts.iter().map(one)
    });
    let single = single.map(|(name, count)| (name.to_owned(), count));
    single.into_iter().chain(numbered).collect()
}

fn rule(status: RuleStatus) -> Rule {
    Rule {
        id: status.id.0,
        kind: status.kind.to_owned(),
        previous: status.previous,
        next: status.next.map(|(next, _)| next),
        next_id: status.next.map(|(_, id)| id.0),
        group: status.group.map(|name| name.to_string()),
    }
}

fn group(status: GroupStatus) -> Group {
    let micros = |rtt: std::time::Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    Group {
        name: status.name.to_string(),
        peer: status.peer.key,
        peer_port: status.peer.port,
        local_port: status.local_port,
        is_opener: status.is_opener,
        has_path: status.has_path,
        forward: status.forward,
        reroutes: status.reroutes,
        rtt_us: status.rtt.map(micros),
    }
}
