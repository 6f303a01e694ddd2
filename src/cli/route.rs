//! `ringway route`: paths of several parties, as a hop and as an end.
//!
//! Here: the subcommands. Not here: routes (`ringway_client::Router`).

mod control;
mod dial;
mod find;
mod serve;
mod view;

use clap::{Args as ClapArgs, Subcommand};

use crate::failure::Failure;

/// Be a hop of routes, find paths, and reach services over several parties
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Find(find::Args),
    Dial(dial::Args),
    Ls(control::Ls),
    Stats(control::Stats),
}

const EXAMPLES: &str = "\
Examples:
  ringway route serve --relay KEY@127.0.0.1:7100 --neighbour KEY
  ringway route serve --relay KEY@127.0.0.1:7100 --listen-port 80 --to 127.0.0.1:8080
  ringway route find KEY
  ringway route dial --relay KEY@127.0.0.1:7100 --via KEY,KEY --listen 127.0.0.1:9000 KEY:80
  ringway route ls

A route is a path of parties that a relay sets up. Each hop sees its two neighbours and how much
passes; what the two ends say to each other is sealed from end to end.";

/// Runs the subcommand.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Find(args) => find::run(args),
        Command::Dial(args) => dial::run(args),
        Command::Ls(args) => control::ls(args),
        Command::Stats(args) => control::stats(args),
    }
}
