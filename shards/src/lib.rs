//! Data plane of Ringway: one shard for each CPU core.
//!
//! Here: the shard core as a value (`core`), the `io_uring` ring that drives it ([`ring`]), the threads
//! and mailboxes around them. Not here: configuration, HTTP, the directory of other relays.

pub mod batch;
pub mod core;
pub mod lease;
pub mod ring;
