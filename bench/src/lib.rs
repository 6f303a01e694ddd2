//! Benchmarks of Ringway against other relays, in one run on one machine.
//!
//! Here: what `compare` is made of: the programs it starts, the network they meet in, the contest, its
//! figures; and `floor`: what the machine itself allows. Not here: load; that is `ringway-loadgen`, started
//! as a program like the relays.
//!
//! A benchmark reports. No test depends on a figure of it.

#![forbid(unsafe_code)]

pub mod contest;
pub mod figures;
pub mod floor;
pub mod network;
pub mod pipe;
pub mod plots;
pub mod programs;
pub mod proxies;
pub mod report;
