//! The relay binary: command line, configuration, control plane.
//!
//! Here: one module for each subcommand, the settings and where they come from, the admin endpoint,
//! the start and the end of a relay. Not here: sockets of the data plane (`ringway-shards`), the wire
//! (`ringway-proto`), what peers do (`ringway-client`).
//!
//! Invariant: no function here touches a descriptor of the data plane.

#![forbid(unsafe_code)]

mod access;
mod capacity;
mod cli;
mod config;
mod control;
mod dmsg;
mod failure;
mod geo;
mod key_file;
mod lan;
mod local_ports;
mod numbers;
mod output;
mod preflight;
mod proc_text;
mod registry;
mod relay_name;
mod services;
mod small_file;

pub use config::Problems;
pub use failure::Failure;
pub use key_file::KeyFileError;

use std::ffi::OsString;

/// Runs the command that `arguments` name, the program's own name first.
///
/// # Errors
///
/// [`Failure`] knows its exit code and how to report itself; `main` does both.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    cli::run(arguments)
}
