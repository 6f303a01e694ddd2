//! Fuzz targets of Ringway: what must hold whatever bytes come in.
//!
//! Here: one module for each target, with a function `run` that takes the bytes of one input and panics
//! when something does not hold; [`TARGETS`] lists them, [`corpus`] runs them over stored inputs. The
//! binaries of `fuzz_targets` hand the same functions to libFuzzer. Not here: unit and property tests of
//! the parts (`proto/tests`, `shards/src/core/tests.rs`).
//!
//! Invariant: a target knows rules, not numbers that happen to come out; an input decides everything
//! (no clock, no randomness), so a failing one fails again.

#![forbid(unsafe_code)]

pub mod canary;
#[cfg(feature = "config")]
pub mod config;
pub mod corpus;
pub mod dmsg_entry;
pub mod dmsg_gob;
pub mod dmsg_handshake;
pub mod dmsg_open;
pub mod dmsg_sealed;
pub mod frame;
pub mod handshake;
pub mod open_objects;
pub mod peer_session;
pub mod proxy_header;
pub mod record;
pub mod route;
pub mod sealed;
pub mod shard_core;

mod hostile;
mod memory;

use arbitrary::{Arbitrary, Unstructured};

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of its binary and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes one input; panics when something does not hold.
    pub run: fn(&[u8]),
}

/// The targets that must hold, in the order of their cost. [`canary`] is not among them: it must fail.
pub const TARGETS: &[Target] = &[
    target("frame", frame::run),
    target("proxy_header", proxy_header::run),
    target("open_objects", open_objects::run),
    target("handshake", handshake::run),
    target("dmsg_entry", dmsg_entry::run),
    target("record", record::run),
    target("sealed", sealed::run),
    target("dmsg_gob", dmsg_gob::run),
    target("dmsg_open", dmsg_open::run),
    target("dmsg_handshake", dmsg_handshake::run),
    target("dmsg_sealed", dmsg_sealed::run),
    target("route", route::run),
    #[cfg(feature = "config")]
    target("config", config::run),
    target("peer_session", peer_session::run),
    target("dmsg_peer", peer_session::run_dmsg),
    target("shard_core", shard_core::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Makes a structured input of bytes as libFuzzer's macro does, so that a stored input means the same
/// in both. Nothing when the bytes are too few.
fn structured<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    if bytes.len() < T::size_hint(0).0 {
        return None;
    }
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}
