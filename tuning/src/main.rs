//! The `ringway-tune` command: checks a host against what a relay is meant to hold.
//!
//! Exit codes: 0 nothing failed, 1 a check failed or the output could not be written, 2 usage.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::{Parser, Subcommand};
use ringway_tuning::{Congestion, Finding, Target, Verdict, preflight};

/// Checks a host for a Ringway relay
#[derive(Debug, Parser)]
#[command(name = "ringway-tune", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare kernel and limits of this host and user with what a relay needs
    #[command(after_help = EXAMPLES)]
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Shards of the relay [default: one for each core of this process]
    #[arg(long, value_name = "COUNT", help_heading = "Target")]
    shards: Option<u32>,

    /// Sessions each shard is to hold
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 16_384,
        help_heading = "Target"
    )]
    sessions_max: u32,

    /// Connections the kernel is to hold before the relay accepts them
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4_096,
        help_heading = "Target"
    )]
    backlog: u32,

    /// Port the relay listens on
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 7_100,
        help_heading = "Target"
    )]
    listen_port: u16,

    /// Congestion control: "auto", "system" or a name
    #[arg(
        long,
        value_name = "NAME",
        default_value = "auto",
        help_heading = "Target"
    )]
    congestion: String,

    /// Print one JSON array in place of the table
    #[arg(long, help_heading = "Output")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ringway-tune check
  ringway-tune check --sessions-max 100000 --json

Exits with 1 when a check fails. Limits are those of this process: run it as the relay's user, in the
relay's service.";

fn main() -> ExitCode {
    let Command::Check(check) = CommandLine::parse().command;
    let findings = preflight(&check.target());
    let printed = match check.json {
        true => print_json(&findings),
        false => print_table(&findings),
    };
    let is_failed = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Fail);
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            drop(writeln!(
                io::stderr(),
                "ringway-tune: cannot write the findings: {error}"
            ));
            ExitCode::from(1)
        }
        _ => ExitCode::from(u8::from(is_failed)),
    }
}

impl Check {
    fn target(&self) -> Target {
        let cores = available_parallelism().map_or(1, usize::from);
        Target {
            shards: self
                .shards
                .unwrap_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX)),
            sessions_max: self.sessions_max,
            backlog: self.backlog,
            listen_port: self.listen_port,
            congestion: match self.congestion.as_str() {
                "auto" => Congestion::Automatic,
                "system" => Congestion::System,
                name => Congestion::Named(name.to_owned()),
            },
        }
    }
}

fn print_json(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, findings)?;
    writeln!(out)
}

fn print_table(findings: &[Finding]) -> io::Result<()> {
    let width =
        |pick: fn(&Finding) -> &str| findings.iter().map(|f| pick(f).len()).max().unwrap_or(0);
    let check_width = width(|finding| finding.check);
    let needed_width = width(|finding| &finding.needed);
    let mut out = io::stdout().lock();
    for Finding {
        check,
        verdict,
        measured,
        needed,
        why,
        fix,
    } in findings
    {
        writeln!(
            out,
            "{verdict}  {check:<check_width$}  needs {needed:<needed_width$}  has {measured}"
        )?;
        if *verdict != Verdict::Pass {
            writeln!(out, "      why: {why}\n      fix: {fix}")?;
        }
    }
    out.flush()
}
