//! The subcommands, one file each.
//!
//! Here: how a command ends. Not here: what it does (its file), what it knows (the library).

mod apply;
mod check;
mod plan;
mod prove;
mod render;
mod rollback;
mod target;
mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

/// The subcommands and their flags.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare kernel and limits of this host and user with what a relay needs
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),
    /// Say what a number of sessions takes: relays, cores, memory, ports, and where the next limit is
    #[command(after_help = plan::EXAMPLES)]
    Plan(Box<plan::PlanCommand>),

    /// Print the files that bring a host to a target, each value with its reason and source
    #[command(after_help = render::EXAMPLES)]
    Render(render::Render),

    /// Show what would change on this host; with --write do it, after what was there is on disk
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::Apply),

    /// Restore what the host had before an apply
    #[command(after_help = rollback::EXAMPLES)]
    Rollback(rollback::Rollback),

    /// Measure what this host does on its loopback, to compare before and after a change
    #[command(after_help = prove::EXAMPLES)]
    Prove(prove::Prove),

    /// Say what the kernel counts that a relay suffers from, while it happens
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::Watch),
}

impl Command {
    /// Does what the command line says.
    pub(crate) fn run(&self) -> ExitCode {
        match self {
            Self::Check(check) => check.run(),
            Self::Plan(plan) => plan.run(),
            Self::Render(render) => render.run(),
            Self::Apply(apply) => apply.run(),
            Self::Rollback(rollback) => rollback.run(),
            Self::Prove(prove) => prove.run(),
            Self::Watch(watch) => watch.run(),
        }
    }
}

/// Ends a command that has printed its result: 1 when that failed or `is_failed`. A reader that has gone is
/// no failure.
fn end(printed: io::Result<()>, is_failed: bool) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write the output: {error}"));
            ExitCode::from(1)
        }
        _ => ExitCode::from(u8::from(is_failed)),
    }
}

/// Ends a command that could not do what it was asked for.
fn fail(why: &dyn std::fmt::Display) -> ExitCode {
    complain(format_args!("{why}"));
    ExitCode::from(1)
}

/// Prints a result as JSON, on several lines.
fn print_json(result: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, result)?;
    writeln!(out)
}

/// Returns an error with the file it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Prints a line to standard error, if anybody reads it.
fn complain(line: std::fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "ringway-tune: {line}"));
}
