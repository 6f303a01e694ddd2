//! What a route finder has done and has, for `/metrics`.
//!
//! Here: the numbers, written by one task and read by others. Not here: what they count.

use crate::numbers::{Number, Shown};

/// The numbers of one finder.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Sets of transports taken.
    pub(crate) announced: Number,
    /// Sets refused: too large, malformed, or nothing free.
    pub(crate) refused: Number,
    /// Sets withdrawn.
    pub(crate) withdrawn: Number,
    /// Sets that have expired.
    pub(crate) expired: Number,
    /// Questions answered.
    pub(crate) finds: Number,
    /// Of these, those without a path.
    pub(crate) nowhere: Number,
    /// Of these, those whose search its limit has cut.
    pub(crate) cut: Number,
    /// Ends looked at by all searches.
    pub(crate) visits: Number,
    /// Peers whose sets stand.
    pub(crate) peers: Number,
    /// Ends of transports in these sets.
    pub(crate) ends: Number,
    /// Keys remembered: peers with sets, and peers that sets name.
    pub(crate) keys: Number,
    /// Memory of it all.
    pub(crate) memory_bytes: Number,
}

/// Every number.
pub(crate) const SHOWN: &[Shown<Numbers>] = &[
    Shown::counter(
        "ringway_finder_announced_total",
        "Sets of transports taken from peers.",
        |n| n.announced.read(),
    ),
    Shown::counter(
        "ringway_finder_refused_total",
        "Sets of transports refused: too large, malformed, or nothing free.",
        |n| n.refused.read(),
    ),
    Shown::counter(
        "ringway_finder_withdrawn_total",
        "Sets of transports that peers withdrew.",
        |n| n.withdrawn.read(),
    ),
    Shown::counter(
        "ringway_finder_expired_total",
        "Sets of transports that were not announced again in time.",
        |n| n.expired.read(),
    ),
    Shown::counter(
        "ringway_finder_finds_total",
        "Questions for paths answered.",
        |n| n.finds.read(),
    ),
    Shown::counter(
        "ringway_finder_nowhere_total",
        "Of these, those without a path.",
        |n| n.nowhere.read(),
    ),
    Shown::counter(
        "ringway_finder_cut_total",
        "Of these, those whose search its limit of visits has cut.",
        |n| n.cut.read(),
    ),
    Shown::counter(
        "ringway_finder_visits_total",
        "Ends of transports looked at by all searches.",
        |n| n.visits.read(),
    ),
    Shown::gauge(
        "ringway_finder_peers_current",
        "Peers whose sets of transports stand.",
        |n| n.peers.read(),
    ),
    Shown::gauge(
        "ringway_finder_ends_current",
        "Ends of transports that stand; one that both sides have announced has two.",
        |n| n.ends.read(),
    ),
    Shown::gauge(
        "ringway_finder_keys_current",
        "Keys remembered: peers with sets, and peers that these name.",
        |n| n.keys.read(),
    ),
    Shown::gauge(
        "ringway_finder_memory_bytes_current",
        "Memory of the sets of transports.",
        |n| n.memory_bytes.read(),
    ),
];
