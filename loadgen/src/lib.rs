//! Load generator of Ringway: its own client engine, driven hard, measured honestly.
//!
//! Here: plans, runs, results; the binary is a thin shell around them. Not here: anything of the
//! relay's data plane but the ring and its batches; the generator must not share the relay's mistakes.
//!
//! A [`plan::Plan`] is checked against the host ([`plan::Plan::check`]), carried out ([`run::run`]) and
//! shown ([`report`]).

#![forbid(unsafe_code)]

pub mod assert;
pub mod books;
pub mod cli;
pub mod crew;
pub mod diff;
pub mod failures;
pub mod findings;
pub mod health;
pub mod inside;
pub mod intervals;
pub mod knee;
pub mod latency;
pub mod ledger;
pub mod live;
pub mod machine;
pub mod netns;
pub mod null_server;
pub mod plan;
pub mod process;
pub mod recording;
pub mod report;
pub mod run;
pub mod scenarios;
pub mod servers;
pub mod sockets;
pub mod sources;
pub mod tally;

mod hlog;
mod payload;
mod records;
mod schedule;
mod shared;
mod worker;
