//! The `ringway-tune` command: checks a host against what a relay is meant to hold, plans for it, and writes
//! what it needs.
//!
//! Exit codes: 0 nothing failed, 1 a check failed, something bad was seen, or a file could not be read or
//! written; 2 usage.

#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

use clap::Parser;

/// Checks and plans hosts for Ringway relays
#[derive(Debug, Parser)]
#[command(name = "ringway-tune", version)]
struct CommandLine {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    CommandLine::parse().command.run()
}
