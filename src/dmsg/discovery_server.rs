//! A dmsg discovery: where servers and clients of dmsg leave their signed entries, and read those of others.
//!
//! ```text
//!   connections --> doors --> api --> rules    who may write and delete what
//!                              |
//!                              +----> store    a file of this process, or Redis
//! ```
//!
//! Here: what a discovery is made of. Not here: entries and answers themselves
//! (`ringway_proto::dmsg::entry`), the command line (`cli::dmsg_discovery`).
//!
//! Invariant: what stands in a store has been verified when it was written, and was newer than what it
//! replaced.
//! Bound: [`Limits`] of connections, `embedded::Bounds` of entries, `rates` of writes.

pub(crate) mod api;
pub(crate) mod doors;
pub(crate) mod embedded;
pub(crate) mod numbers;
pub(crate) mod pages;
pub(crate) mod rates;
pub(crate) mod record;
pub(crate) mod redis;
pub(crate) mod rules;
pub(crate) mod store;

use std::time::Duration;

/// Which connections a discovery takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// At once.
    pub(crate) connections_max: u32,
    /// At once of one source.
    pub(crate) connections_source_max: u32,
}

/// Longest time for the body of a request, and for the answer of a store.
pub(crate) const STEP_TIME: Duration = Duration::from_secs(3);

/// How often entries that have expired are taken out.
pub(crate) const CLEAN_INTERVAL: Duration = Duration::from_secs(10);
