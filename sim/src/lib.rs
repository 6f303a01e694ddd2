//! Deterministic simulator of Ringway: shard cores, peers and the network between them as values.
//!
//! A run builds one to four [`ShardCore`](ringway_shards::core::ShardCore)s, honest peers (the real
//! [`PeerSession`](ringway_proto::peer::PeerSession)), adversaries that speak after a valid handshake
//! what they like, and strangers that never get so far. A virtual network carries bytes in pieces of
//! any size with delays, bounded buffers, FIN, RST at any byte and peers that vanish; a virtual clock
//! jumps to the next event. One seed decides everything: sizes, which kinds of fault the run has, and
//! every draw.
//!
//! ```text
//! cargo run --release -p ringway-sim -- --seeds 200             seeds 0 to 199, after seeds.txt
//! cargo run --release -p ringway-sim -- --seed 1234 --trace     one run, with its events
//! cargo run --release -p ringway-sim -- --relays 0 --seeds 200  runs of two to four linked relays
//! cargo run --release -p ringway-sim -- --dmsg --seeds 200      runs with peers of the dmsg dialect
//! cargo run --release -p ringway-sim -- --routes --seeds 200    runs in which the relay sets routes up
//! ```
//!
//! In runs with peers of the dmsg dialect ([`run_dmsg`]) each honest peer has a dialect, and everything else
//! is as in the run of the same seed without. Opens between dialects are refused, and for the right reason.
//!
//! Runs of several relays ([`run_mesh`]) have other faults and checks, which `mesh` lists; so have those
//! with route setup ([`run_routes`]), which `mesh::routes` lists.
//!
//! Checkers know the protocol only:
//! - every byte of a stream arrives in order, or its end (reset, refusal, close) is reported;
//! - never a byte that was not sent; FIN only behind all bytes;
//! - every open ends within its time-out, with a reason that fits what was asked;
//! - a session that no fault has touched completes everything, whatever others send;
//! - a dial is answered once and in time, a refusal at once; no two live sockets share a local port, and
//!   none is used again before it has rested;
//! - the counters obey their laws, what waits is bounded, receive memory is given back in time;
//! - who is turned away, cut off or reaped is so for a reason, and in time;
//! - after the end nothing is owned: audit, leases, directory, sockets;
//! - bounded steps and bounded virtual time.
//!
//! Here: the library behind the program `ringway-sim`. Not here: real sockets (`tests`).

#![forbid(unsafe_code)]

mod agenda;
mod checks;
mod content;
mod dialects;
mod dials;
mod driver;
mod event;
mod honest;
mod keys;
mod lease;
mod limits;
mod mesh;
mod network;
mod options;
mod raw;
mod resources;
mod rng;
mod run;
mod slow;
mod stranger;
mod world;

pub use mesh::{run_mesh, run_routes};
pub use run::{Outcome, run, run_dmsg};
pub use world::Counts;
