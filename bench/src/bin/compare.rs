//! `compare`: this relay, well-known proxies and a bare byte pipe, in one run.
//!
//! Here: flags, order of the steps, where results go. Not here: the steps (`ringway_bench`).

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringway_bench::contest::Contest;
use ringway_bench::programs::Programs;
use ringway_bench::proxies::{Contender, Installed};
use ringway_bench::report::{self, Machine};
use ringway_bench::{network, plots, programs};

/// Measure this relay, well-known proxies and a bare byte pipe side by side, in a private network namespace.
///
/// Builds what it needs, starts every program itself and ends it again. Prints a Markdown table to
/// standard output; tells how it goes on standard error.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Flags {
    /// Rounds; contenders alternate within each
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Seconds that count in each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// One round of one second: shows that everything works, proves nothing
    #[arg(long)]
    quick: bool,
    /// Congestion control for everybody
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
    /// Measure in the present network namespace, with its congestion control
    #[arg(long)]
    here: bool,
    /// Cores: the relay's first, then the load's
    #[arg(
        long,
        value_name = "CORES",
        value_delimiter = ',',
        default_value = "0,1"
    )]
    cores: Vec<u32>,
    /// Measure only cases whose name has this in it
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure only contenders whose name has this in it
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    contenders: Vec<String>,
    /// Draw the figures as SVG files in this directory
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// Write all samples as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
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
        if !flags.here {
            return Err(format!("{}; or measure here with --here", network::enter()));
        }
    }
    let congestion = if flags.here {
        network::in_use().map_err(|error| format!("no loopback: {error}"))?
    } else {
        network::prepare(&flags.congestion)?
    };
    let installed = Installed::look();
    for missing in installed.missing() {
        tell(missing);
    }
    let contenders = Contender::ALL.into_iter().filter(|contender| {
        let mut parts = flags.contenders.iter();
        flags.contenders.is_empty() || parts.any(|part| contender.name().contains(part.as_str()))
    });
    let (rounds, seconds) = if flags.quick {
        (1, 1)
    } else {
        (flags.rounds, flags.seconds)
    };
    let contest = Contest {
        rounds,
        time: Duration::from_secs(seconds),
        contenders: contenders.collect(),
        installed: installed.clone(),
        only: flags.only.clone(),
        cores: usable(&flags.cores)?,
    };
    let machine = Machine::look(congestion, &installed);
    let results = contest.run(&programs, &mut progress)?;
    let seconds = contest.time.as_secs_f64();
    let text = report::markdown(&results, &machine, rounds, seconds);
    if let Some(directory) = &flags.plots {
        plots::write(&results, directory)
            .map_err(|error| format!("cannot draw in {}: {error}", directory.display()))?;
    }
    if let Some(path) = &flags.json {
        let document = report::json(&results, &machine, rounds, seconds);
        fs::write(path, document + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    report::print(&text)
}

/// Returns the cores of the list that this process may use.
fn usable(cores: &[u32]) -> Result<Vec<u32>, String> {
    let allowed = programs::allowed_cores();
    let cores: Vec<u32> = cores
        .iter()
        .copied()
        .filter(|core| allowed.contains(core))
        .collect();
    match cores.len() {
        0 => Err("--cores names no core that this process may use".into()),
        1 => {
            tell("one core only: relay and load share it, figures are not comparable with others");
            Ok(cores)
        }
        _ => Ok(cores),
    }
}

fn progress(line: &str) {
    if io::stderr().is_terminal() {
        drop(write!(io::stderr().lock(), "\r\x1b[K{line}"));
    } else {
        tell(line);
    }
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
fn tell(line: &str) {
    let start = if io::stderr().is_terminal() {
        "\r\x1b[K"
    } else {
        ""
    };
    drop(writeln!(io::stderr().lock(), "{start}{line}"));
}
