//! What a relay has done with discoveries, for `/metrics` and `/health`.
//!
//! Here: the numbers, written by one thread and read by others. Not here: what they count.
//!
//! Laws: asks = hits + found + nowhere + stale + unavailable, once no question waits; refused are apart.

use crate::numbers::{Number, Shown};

/// The numbers of all discoveries of a relay.
#[derive(Debug, Default)]
pub(crate) struct DiscoveryNumbers {
    /// Discoveries that answered when they were asked last.
    pub(crate) up: Number,
    /// Discoveries in which the relay's entry stands.
    pub(crate) registered: Number,
    /// Entries written.
    pub(crate) writes: Number,
    /// Writes after which something else stood there than was known.
    pub(crate) conflicts: Number,
    /// Of these, those in which a later time stood there: a second relay has this key.
    pub(crate) taken: Number,
    /// Writes that a discovery refused.
    pub(crate) rejected: Number,
    /// Of these, those because of the clock.
    pub(crate) clock: Number,
    /// Entries deleted at the end.
    pub(crate) deleted: Number,
    /// Requests without an answer in time, or with none that can be understood.
    pub(crate) errors: Number,
    /// Lists of servers read.
    pub(crate) lists: Number,
    /// Servers in them.
    pub(crate) servers: Number,
    /// Questions about clients.
    pub(crate) asks: Number,
    /// Of these, those answered from memory.
    pub(crate) hits: Number,
    /// Those with a place.
    pub(crate) found: Number,
    /// Those about clients that are nowhere.
    pub(crate) nowhere: Number,
    /// Those answered from memory because no discovery answered.
    pub(crate) stale: Number,
    /// Those that nobody could answer.
    pub(crate) unavailable: Number,
    /// Questions not taken because too many waited.
    pub(crate) refused: Number,
    /// Entries of clients that the client has not signed.
    pub(crate) forged: Number,
    /// Clients that are remembered.
    pub(crate) remembered: Number,
}

/// Every number.
pub(crate) const SHOWN: &[Shown<DiscoveryNumbers>] = &[
    Shown::gauge(
        "ringway_dmsg_discoveries_up",
        "Discoveries that answered when they were asked last.",
        |n| n.up.read(),
    ),
    Shown::gauge(
        "ringway_dmsg_registered_current",
        "Discoveries in which this relay's entry stands.",
        |n| n.registered.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_writes_total",
        "Times this relay's entry was written to a discovery.",
        |n| n.writes.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_conflicts_total",
        "Writes that found another sequence or time than was known; they are tried again.",
        |n| n.conflicts.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_taken_total",
        "Of these, those that found an entry of this key which this relay has not written: two relays have one key.",
        |n| n.taken.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_rejected_total",
        "Writes of this relay's entry that a discovery refused.",
        |n| n.rejected.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_clock_total",
        "Of these, those because the clock here and the discovery's differ.",
        |n| n.clock.read(),
    ),
    Shown::counter(
        "ringway_dmsg_entry_deleted_total",
        "Times this relay's entry was deleted at its end.",
        |n| n.deleted.read(),
    ),
    Shown::counter(
        "ringway_dmsg_discovery_errors_total",
        "Requests to discoveries without an answer in time, or with none that can be understood.",
        |n| n.errors.read(),
    ),
    Shown::counter(
        "ringway_dmsg_server_lists_total",
        "Lists of servers read from discoveries.",
        |n| n.lists.read(),
    ),
    Shown::gauge(
        "ringway_dmsg_servers_current",
        "Other servers that discoveries have told of.",
        |n| n.servers.read(),
    ),
    Shown::counter(
        "ringway_dmsg_asks_total",
        "Questions where a client is; asks = hits + found + nowhere + stale + unavailable, once none waits.",
        |n| n.asks.read(),
    ),
    Shown::counter(
        "ringway_dmsg_hits_total",
        "Questions answered from memory.",
        |n| n.hits.read(),
    ),
    Shown::counter(
        "ringway_dmsg_found_total",
        "Questions that a discovery answered with a place.",
        |n| n.found.read(),
    ),
    Shown::counter(
        "ringway_dmsg_nowhere_total",
        "Questions about clients that no discovery has.",
        |n| n.nowhere.read(),
    ),
    Shown::counter(
        "ringway_dmsg_stale_total",
        "Questions answered from memory because no discovery answered.",
        |n| n.stale.read(),
    ),
    Shown::counter(
        "ringway_dmsg_unavailable_total",
        "Questions that nobody could answer.",
        |n| n.unavailable.read(),
    ),
    Shown::counter(
        "ringway_dmsg_asks_refused_total",
        "Questions not taken because too many waited.",
        |n| n.refused.read(),
    ),
    Shown::counter(
        "ringway_dmsg_forged_total",
        "Entries of clients not believed because the client has not signed them.",
        |n| n.forged.read(),
    ),
    Shown::gauge(
        "ringway_dmsg_remembered_current",
        "Clients whose places are remembered.",
        |n| n.remembered.read(),
    ),
];
