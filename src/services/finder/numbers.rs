//! What a route finder has done and has, for `/metrics`.
//!
//! Here: the numbers, written by one task and read by others. Not here: what they count.

use crate::registry::numbers::Number;

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

/// A number as `/metrics` shows it.
pub(crate) struct Shown {
    /// Name of the metric.
    pub(crate) name: &'static str,
    /// Its help.
    pub(crate) help: &'static str,
    /// `counter` or `gauge`.
    pub(crate) kind: &'static str,
    /// Its value.
    pub(crate) read: fn(&Numbers) -> u64,
}

const fn shown(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&Numbers) -> u64,
) -> Shown {
    Shown {
        name,
        help,
        kind,
        read,
    }
}

/// Every number.
pub(crate) const SHOWN: &[Shown] = &[
    shown(
        "ringway_finder_announced_total",
        "counter",
        "Sets of transports taken from peers.",
        |n| n.announced.read(),
    ),
    shown(
        "ringway_finder_refused_total",
        "counter",
        "Sets of transports refused: too large, malformed, or nothing free.",
        |n| n.refused.read(),
    ),
    shown(
        "ringway_finder_withdrawn_total",
        "counter",
        "Sets of transports that peers withdrew.",
        |n| n.withdrawn.read(),
    ),
    shown(
        "ringway_finder_expired_total",
        "counter",
        "Sets of transports that were not announced again in time.",
        |n| n.expired.read(),
    ),
    shown(
        "ringway_finder_finds_total",
        "counter",
        "Questions for paths answered.",
        |n| n.finds.read(),
    ),
    shown(
        "ringway_finder_nowhere_total",
        "counter",
        "Of these, those without a path.",
        |n| n.nowhere.read(),
    ),
    shown(
        "ringway_finder_cut_total",
        "counter",
        "Of these, those whose search its limit of visits has cut.",
        |n| n.cut.read(),
    ),
    shown(
        "ringway_finder_visits_total",
        "counter",
        "Ends of transports looked at by all searches.",
        |n| n.visits.read(),
    ),
    shown(
        "ringway_finder_peers_current",
        "gauge",
        "Peers whose sets of transports stand.",
        |n| n.peers.read(),
    ),
    shown(
        "ringway_finder_ends_current",
        "gauge",
        "Ends of transports that stand; one that both sides have announced has two.",
        |n| n.ends.read(),
    ),
    shown(
        "ringway_finder_keys_current",
        "gauge",
        "Keys remembered: peers with sets, and peers that these name.",
        |n| n.keys.read(),
    ),
    shown(
        "ringway_finder_memory_bytes_current",
        "gauge",
        "Memory of the sets of transports.",
        |n| n.memory_bytes.read(),
    ),
];
