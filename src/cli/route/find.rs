//! `ringway route find`: asks the relay of a running `ringway route serve` for paths.

use clap::Args as ClapArgs;
use ringway_client::PublicKey;
use ringway_proto::limits::ROUTE_PATHS_MAX;

use super::control::{ControlArgs, ask, say_json};
use super::view::Found;
use crate::failure::Failure;
use crate::output::say;

/// Find paths from the party of a running `ringway route serve` to another one
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the paths end
    #[arg(value_name = "KEY")]
    destination: PublicKey,

    /// Paths at most, which share no party but their ends
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(1..=PATHS_MAX)
    )]
    paths: u8,

    /// Fewest hops first
    #[arg(long, conflicts_with = "latency")]
    hops: bool,

    /// Least latency first; this is the default
    #[arg(long)]
    latency: bool,

    /// Print the paths as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    control: ControlArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway route find KEY
  ringway route find KEY --paths 8 --hops --json

Each line is one path: its latency and its parties from here to there; --via of `ringway route dial`
takes those between the ends. Exits with 1 when there is none.";

const PATHS_MAX: i64 = 8;

const _: () = assert!(ROUTE_PATHS_MAX == 8);

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let page = format!(
        "/find?destination={}&paths={}&by_hops={}",
        args.destination, args.paths, args.hops
    );
    let found: Found = ask(args.control.control, &page)?;
    if let Some(error) = found.error {
        return Err(Failure::Check(error));
    }
    if args.json {
        say_json(&found.paths)?;
    } else {
        for path in &found.paths {
            let hops: Vec<String> = path.hops.iter().map(ToString::to_string).collect();
            say(format_args!("{} us  {}", path.latency_us, hops.join(",")))?;
        }
    }
    match found.paths.is_empty() {
        false => Ok(()),
        true => Err(Failure::Check(format!(
            "no path to {} is known: both ends of every hop must have announced it",
            args.destination
        ))),
    }
}
