//! What a discovery has done and has, for `/metrics` and `/health`.
//!
//! Here: the numbers, written by its tasks and read by others. Not here: what they count.

use ringway_proto::dmsg::entry::answer::Answer;

use crate::numbers::{Number, Shown};

/// The numbers of a discovery.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Servers that stand, as of the last cleaning.
    pub(crate) servers: Number,
    /// Clients that stand, as of the last cleaning.
    pub(crate) clients: Number,
    /// Entries written anew.
    pub(crate) written: Number,
    /// Entries that replaced one of their party.
    pub(crate) iterated: Number,
    /// Entries deleted by their party.
    pub(crate) deleted: Number,
    /// Entries deleted by a key of the list.
    pub(crate) deregistered: Number,
    /// Entries and lists read.
    pub(crate) reads: Number,
    /// Reads of parties that have no entry.
    pub(crate) missed: Number,
    /// Requests refused for what they say.
    pub(crate) invalid: Number,
    /// Of these, for their signature.
    pub(crate) unsigned: Number,
    /// Of these, for a sequence or time that is not greater.
    pub(crate) late: Number,
    /// Writes refused because their source has written too much.
    pub(crate) shed: Number,
    /// Writes refused because there is no room.
    pub(crate) full: Number,
    /// Requests that the store did not answer.
    pub(crate) store_errors: Number,
    /// Connections there are.
    pub(crate) connections: Number,
    /// Connections taken.
    pub(crate) accepted: Number,
    /// Connections ended because others needed the place.
    pub(crate) connections_shed: Number,
    /// Connections not taken because there was no place.
    pub(crate) connections_refused: Number,
    /// Connections ended because they were too slow, or silent for too long.
    pub(crate) connections_slow: Number,
}

impl Numbers {
    /// Counts an answer that refuses a request.
    pub(crate) fn refused(&self, answer: Answer) {
        match answer {
            Answer::NotFound | Answer::NoServers => return self.missed.count(),
            Answer::TooMany => return self.shed.count(),
            Answer::Full => return self.full.count(),
            Answer::Down | Answer::Unexpected => return self.store_errors.count(),
            Answer::Unauthorized => self.unsigned.count(),
            Answer::WrongSequence | Answer::WrongTime | Answer::Outdated => self.late.count(),
            _ => {}
        }
        self.invalid.count();
    }
}

/// Every number.
pub(crate) const SHOWN: &[Shown<Numbers>] = &[
    Shown::gauge(
        "ringway_discovery_servers_current",
        "Entries of servers that stand, as of the last cleaning.",
        |n| n.servers.read(),
    ),
    Shown::gauge(
        "ringway_discovery_clients_current",
        "Entries of clients that stand, as of the last cleaning.",
        |n| n.clients.read(),
    ),
    Shown::counter(
        "ringway_discovery_written_total",
        "Entries written of parties that had none.",
        |n| n.written.read(),
    ),
    Shown::counter(
        "ringway_discovery_iterated_total",
        "Entries that replaced an earlier one of their party.",
        |n| n.iterated.read(),
    ),
    Shown::counter(
        "ringway_discovery_deleted_total",
        "Entries deleted by their party.",
        |n| n.deleted.read(),
    ),
    Shown::counter(
        "ringway_discovery_deregistered_total",
        "Entries deleted by a key that may do so (--whitelist).",
        |n| n.deregistered.read(),
    ),
    Shown::counter(
        "ringway_discovery_reads_total",
        "Entries and lists read.",
        |n| n.reads.read(),
    ),
    Shown::counter(
        "ringway_discovery_missed_total",
        "Reads of parties without an entry, and of lists without a server.",
        |n| n.missed.read(),
    ),
    Shown::counter(
        "ringway_discovery_invalid_total",
        "Requests refused for what they say.",
        |n| n.invalid.read(),
    ),
    Shown::counter(
        "ringway_discovery_unsigned_total",
        "Of these, those whose signature is not the party's.",
        |n| n.unsigned.read(),
    ),
    Shown::counter(
        "ringway_discovery_late_total",
        "Of these, those whose sequence or time is not greater than what stands, or whose clock is wrong.",
        |n| n.late.read(),
    ),
    Shown::counter(
        "ringway_discovery_shed_total",
        "Writes refused because their source has written too much (--writes-per-s-max).",
        |n| n.shed.read(),
    ),
    Shown::counter(
        "ringway_discovery_full_total",
        "Writes refused because there is no room (--clients-max, --servers-max, --memory-max).",
        |n| n.full.read(),
    ),
    Shown::counter(
        "ringway_discovery_store_errors_total",
        "Requests that the store did not answer.",
        |n| n.store_errors.read(),
    ),
    Shown::gauge(
        "ringway_discovery_connections_current",
        "Connections of HTTP there are.",
        |n| n.connections.read(),
    ),
    Shown::counter(
        "ringway_discovery_connections_total",
        "Connections of HTTP taken.",
        |n| n.accepted.read(),
    ),
    Shown::counter(
        "ringway_discovery_connections_shed_total",
        "Silent connections ended because others needed the place.",
        |n| n.connections_shed.read(),
    ),
    Shown::counter(
        "ringway_discovery_connections_refused_total",
        "Connections not taken because all places were in use.",
        |n| n.connections_refused.read(),
    ),
    Shown::counter(
        "ringway_discovery_connections_slow_total",
        "Connections ended because they were too slow, or silent for too long.",
        |n| n.connections_slow.read(),
    ),
];
