//! Data plane of Ringway: one shard for each CPU core.
//!
//! Here: the shard core as a value ([`core`]), the `io_uring` ring that drives it ([`ring`]), the threads
//! and mailboxes around them ([`set`]). Not here: configuration, HTTP, the directory of other relays.

pub mod batch;
pub mod core;
pub mod directory;
pub mod lease;
pub mod mailbox;
pub mod memory;
pub mod ports;
pub mod probe;
pub mod ring;
pub mod set;

mod data;
mod load;
mod placement;
mod resolver;
mod service;
mod snapshot;
