//! What the registry's service has done and has, for `/metrics` and `/health`.
//!
//! Here: the numbers, written by one task and read by others. Not here: what they count.

use crate::numbers::{Number, Shown};

/// The numbers of one registry.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// 1 while the registry answers.
    pub(crate) up: Number,
    /// Relays that hold leases, as last read.
    pub(crate) relays: Number,
    /// Peers of this relay that stand in it.
    pub(crate) written: Number,
    /// Peers of this relay that differ from what stands in it.
    pub(crate) pending: Number,
    /// Peers that are remembered.
    pub(crate) remembered: Number,
    /// Connections made.
    pub(crate) connects: Number,
    /// Calls that failed, connects included.
    pub(crate) errors: Number,
    /// Leases renewed.
    pub(crate) renewals: Number,
    /// Of these, those that had lapsed before: everything was written anew.
    pub(crate) lapses: Number,
    /// Renewals that found a later process with this relay's key.
    pub(crate) taken: Number,
    /// Places written or taken out.
    pub(crate) writes: Number,
    /// Questions answered from memory.
    pub(crate) hits: Number,
    /// Of these, those answered while the registry was down.
    pub(crate) stale: Number,
    /// Records not believed because the peer has not signed them.
    pub(crate) forged: Number,
    /// Records and leases not believed because newer ones were seen.
    pub(crate) rolled_back: Number,
    /// Records not believed because their relay holds no such lease.
    pub(crate) orphaned: Number,
    /// Records taken out because their relay is gone.
    pub(crate) reaped: Number,
    /// Peers that other relays have told changes of.
    pub(crate) notices: Number,
}

/// Every number.
pub(crate) const SHOWN: &[Shown<Numbers>] = &[
    Shown::gauge(
        "ringway_registry_up",
        "1 while the registry answers.",
        |n| n.up.read(),
    ),
    Shown::gauge(
        "ringway_registry_relays_current",
        "Relays that hold leases in the registry, as last read.",
        |n| n.relays.read(),
    ),
    Shown::gauge(
        "ringway_registry_peers_current",
        "Peers of this relay whose places stand in the registry.",
        |n| n.written.read(),
    ),
    Shown::gauge(
        "ringway_registry_pending_current",
        "Peers whose places are still to be written or taken out.",
        |n| n.pending.read(),
    ),
    Shown::gauge(
        "ringway_registry_remembered_current",
        "Peers whose places are remembered.",
        |n| n.remembered.read(),
    ),
    Shown::counter(
        "ringway_registry_connects_total",
        "Connections made to the registry.",
        |n| n.connects.read(),
    ),
    Shown::counter(
        "ringway_registry_errors_total",
        "Calls to the registry that failed, connects included.",
        |n| n.errors.read(),
    ),
    Shown::counter(
        "ringway_registry_renewals_total",
        "Times this relay renewed its lease.",
        |n| n.renewals.read(),
    ),
    Shown::counter(
        "ringway_registry_lapses_total",
        "Of these, those that found it lapsed: all places were written anew.",
        |n| n.lapses.read(),
    ),
    Shown::counter(
        "ringway_registry_taken_total",
        "Renewals that found a process with this relay's key that started later: two relays have one key.",
        |n| n.taken.read(),
    ),
    Shown::counter(
        "ringway_registry_writes_total",
        "Places written or taken out.",
        |n| n.writes.read(),
    ),
    Shown::counter(
        "ringway_registry_hits_total",
        "Questions of shards answered from memory.",
        |n| n.hits.read(),
    ),
    Shown::counter(
        "ringway_registry_stale_total",
        "Of these, those answered while the registry was down.",
        |n| n.stale.read(),
    ),
    Shown::counter(
        "ringway_registry_forged_total",
        "Places not believed because the peer has not signed them.",
        |n| n.forged.read(),
    ),
    Shown::counter(
        "ringway_registry_rolled_back_total",
        "Places and leases not believed because newer ones were seen.",
        |n| n.rolled_back.read(),
    ),
    Shown::counter(
        "ringway_registry_orphaned_total",
        "Places not believed because their relay holds no such lease.",
        |n| n.orphaned.read(),
    ),
    Shown::counter(
        "ringway_registry_reaped_total",
        "Places that this relay took out because their relay is gone.",
        |n| n.reaped.read(),
    ),
    Shown::counter(
        "ringway_registry_notices_total",
        "Changes of places that other relays have told.",
        |n| n.notices.read(),
    ),
];
