//! `growth`: what a message, an open and a round trip cost beside ever more sessions or streams.
//!
//! Here: flags, the table. Not here: the measurement (`ringway_bench::growth`).

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringway_bench::growth::{FIGURES, Growth, Standing, find};
use ringway_bench::programs::Programs;
use ringway_bench::report::{self, median_and_spread};
use ringway_bench::{figures::Results, network, programs};

/// Measure how the relay's cost grows with the sessions, or the streams, that stand on it.
///
/// Builds what it needs, starts every program itself, in a private network namespace, and ends it again.
/// Prints a Markdown table to standard output; tells how it goes on standard error.
#[derive(Debug, Parser)]
#[command(name = "growth")]
struct Flags {
    /// Sessions that stand without a stream, in ascending steps
    #[arg(
        long,
        value_name = "COUNTS",
        value_delimiter = ',',
        default_value = "10,1000,10000,100000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    sessions: Vec<u32>,
    /// Streams that stand, instead of sessions
    #[arg(
        long,
        value_name = "COUNTS",
        value_delimiter = ',',
        conflicts_with = "sessions",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    streams: Vec<u32>,
    /// Shards of the relay, all on its one core [default: one for each 15,000 sessions]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=128))]
    shards: Option<u16>,
    /// Relays one after the other
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Congestion control for everybody
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
}

/// Sessions of a shard: a ring has as many sockets as the process may open files, 20,000 on many hosts.
const SHARD_SESSIONS: u32 = 15_000;

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tell(&problem);
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), String> {
    let programs = Programs::beside_this()?;
    if !network::is_inside() {
        programs.build()?;
        return Err(network::enter());
    }
    let congestion = network::prepare(&flags.congestion)?;
    let (standing, mut steps) = if flags.streams.is_empty() {
        (Standing::Sessions, flags.sessions.clone())
    } else {
        (Standing::Streams, flags.streams.clone())
    };
    steps.sort_unstable();
    steps.dedup();
    let most = steps.last().copied().unwrap_or(0);
    let shards = match (flags.shards, standing) {
        (Some(shards), _) => usize::from(shards),
        (None, Standing::Streams) => 1,
        (None, Standing::Sessions) => {
            usize::try_from(most.div_ceil(SHARD_SESSIONS)).unwrap_or(usize::MAX)
        }
    };
    let allowed = programs::allowed_cores();
    let first = allowed.first().copied().unwrap_or(0);
    let growth = Growth {
        standing,
        steps,
        rounds: flags.rounds,
        time: Duration::from_secs(flags.seconds),
        shards,
        cores: [first, allowed.last().copied().unwrap_or(first)],
    };
    let results = growth.run(&programs, &mut tell)?;
    let mut text = table(&growth, &results);
    text.push_str(&format!(
        "\nMedian [smallest-largest] of {} rounds with measurements of {} s; {} shards on one core, the load on \
         the other; congestion control {congestion}.\n",
        flags.rounds, flags.seconds, growth.shards
    ));
    report::print(&text)
}

fn table(growth: &Growth, results: &Results) -> String {
    let mut out = String::from("| figure | unit |");
    for step in &growth.steps {
        out.push_str(&format!(" {step} {} |", growth.standing.name()));
    }
    out.push_str(&format!(
        "\n|---|---|{}\n",
        "---|".repeat(growth.steps.len())
    ));
    for (figure, unit) in FIGURES {
        out.push_str(&format!("| {figure} | {unit} |"));
        for step in &growth.steps {
            let cell = find(results, figure, *step).and_then(median_and_spread);
            out.push_str(&format!(" {} |", cell.as_deref().unwrap_or("-")));
        }
        out.push('\n');
    }
    out
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
fn tell(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
