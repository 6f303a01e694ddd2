//! Benchmarks of Ringway: against other relays, against the machine, against its own past.
//!
//! Here: what `compare` is made of: the programs it starts, the network they meet in, the contest, its
//! figures; `floor`: what the machine itself allows; `growth`: cost beside many sessions and streams;
//! `counts`: instructions of the hot paths. Not here: load; that is `ringway-loadgen`, started as a program
//! like the relays.
//!
//! A benchmark of time reports, and no test depends on a figure of it. Instructions are counted exactly and
//! held against a baseline.

#![forbid(unsafe_code)]

pub mod contest;
pub mod counts;
pub mod figures;
pub mod floor;
pub mod growth;
pub mod lane;
pub mod network;
pub mod pipe;
pub mod plots;
pub mod programs;
pub mod proxies;
pub mod report;
