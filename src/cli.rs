//! The command line.
//!
//! Here: the list of subcommands. One module each does the work; `args` holds what several of them
//! take. Not here: what a configuration key accepts.

mod args;
mod check_config;
mod config;
mod curl;
mod demo;
mod dmsg_discovery;
mod expose;
mod forward;
mod keygen;
mod lan;
mod ping;
mod progress;
mod route;
mod runtime;
mod serve;
mod status;
mod tunnel;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Relay server for parties that know each other only by public key.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Keygen(keygen::Args),
    Ping(ping::Args),
    Expose(expose::Args),
    Forward(forward::Args),
    Route(route::Args),
    Curl(curl::Args),
    Status(status::Args),
    CheckConfig(check_config::Args),
    Config(config::Args),
    Demo(demo::Args),
    DmsgDiscovery(dmsg_discovery::Args),
}

/// Parses and runs a command line, the program's own name first.
///
/// # Errors
///
/// [`Failure`].
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    match CommandLine::try_parse_from(arguments)?.command {
        Command::Serve(args) => serve::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::Expose(args) => expose::run(&args),
        Command::Forward(args) => forward::run(&args),
        Command::Route(args) => route::run(&args),
        Command::Curl(args) => curl::run(&args),
        Command::Status(args) => status::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DmsgDiscovery(args) => dmsg_discovery::run(&args),
    }
}

const EXAMPLES: &str = "\
Examples:
  ringway demo                                        everything at once, on this host
  ringway serve                                       a relay on 127.0.0.1:7100
  ringway expose --relay KEY@ADDRESS:PORT --port 80 --to 127.0.0.1:8080
  ringway forward --relay KEY@ADDRESS:PORT --listen 127.0.0.1:9000 --to KEY:80

Exit codes: 0 done, 1 the host, the network or a check said no, 2 the command line or the
configuration is wrong, 3 a drain passed its deadline.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
