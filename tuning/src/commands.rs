//! The subcommands, one file each.
//!
//! Here: how a command ends. Not here: what it does (its file), what it knows (the library).

mod check;
mod prove;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;

/// The subcommands and their flags.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare kernel and limits of this host and user with what a relay needs
    #[command(after_help = check::EXAMPLES)]
    Check(check::Check),

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
            Self::Prove(prove) => prove.run(),
            Self::Watch(watch) => watch.run(),
        }
    }
}

/// Ends a command that has printed its result: 1 when that failed or `is_failed`. A reader that has gone is no
/// failure.
fn end(printed: io::Result<()>, is_failed: bool) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format_args!("cannot write the output: {error}"));
            ExitCode::from(1)
        }
        _ => ExitCode::from(u8::from(is_failed)),
    }
}

/// Prints a line to standard error, if anybody reads it.
fn complain(line: std::fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "ringway-tune: {line}"));
}
