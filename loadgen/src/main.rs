//! The `ringway-loadgen` program.
//!
//! Here: flags in, results out, exit status. Not here: everything between.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use mimalloc::MiMalloc;
use ringway_loadgen::cli::{Cli, Command, Task};
use ringway_loadgen::crew;
use ringway_loadgen::machine::Machine;
use ringway_loadgen::null_server::NullServer;
use ringway_loadgen::plan::{Host, Plan};
use ringway_loadgen::recording::Recording;
use ringway_loadgen::report::{self, Verdict};
use ringway_loadgen::run::{self, Outcome, RunError};

use crate::reporter::Reporter;

mod judge;
mod reporter;
mod scene;
mod screen;
mod signals;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// First line of a log.
const TITLE: &str = concat!("ringway-loadgen ", env!("CARGO_PKG_VERSION"));
/// The run failed.
const FAILED: u8 = 1;
/// The plan makes no sense.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let interrupt = Arc::new(AtomicBool::new(false));
    let command = match Cli::parse().task {
        Task::Run(command) => command,
        Task::NullServer(flags) => {
            signals::watch(&interrupt);
            if flags.until_stdin_closes {
                signals::watch_stdin(&interrupt);
            }
            return serve(&flags.server(), &interrupt);
        }
        Task::Knee(flags) => {
            signals::watch(&interrupt);
            return judge::knee(&flags, &interrupt);
        }
        Task::Report(flags) => return judge::report(&flags),
        Task::Member => {
            // Signals are for the process that conducts; this one ends with its standard input.
            signals::watch(&interrupt);
            return member();
        }
        Task::Diff(flags) => return judge::diff(&flags),
        Task::Scenarios(flags) => return scene::list(&flags),
        Task::Scenario(flags) => {
            signals::watch(&interrupt);
            return scene::run(&flags, &interrupt);
        }
    };
    let mut plan = command.plan();
    let is_live = command.is_live() && reporter::can_be_live();
    plan.tells_intervals |= is_live;
    if let Err(error) = plan.check(&Host::look()) {
        for problem in error.problems {
            complain(&problem);
        }
        return ExitCode::from(REFUSED);
    }
    let recording = match command.out().map(|out| Recording::create(out, TITLE)) {
        None => None,
        Some(Ok(recording)) => Some(recording),
        Some(Err(error)) => {
            complain(&format!("--out: {error}"));
            return ExitCode::from(REFUSED);
        }
    };
    signals::watch(&interrupt);
    let mut reporter = Reporter::new(recording, &plan, is_live, &interrupt);
    let result = run::run(&plan, &interrupt, &mut |news| reporter.tell(&news));
    let recording = reporter.end();
    match result {
        Ok(outcome) => finish(&command, &plan, &outcome, recording),
        Err(error) => {
            complain(&error.to_string());
            if let RunError::Setup { failures, .. } = &error {
                for (name, count) in failures.iter() {
                    complain(&format!("  {count} x {name}"));
                }
            }
            let interrupted = interrupt.load(Ordering::Acquire);
            ExitCode::from(if interrupted { 130 } else { FAILED })
        }
    }
}

/// Carries out part of a run.
fn member() -> ExitCode {
    let input = io::BufReader::new(io::stdin());
    match crew::serve(input, io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// Serves until an interrupt.
fn serve(server: &NullServer, interrupt: &AtomicBool) -> ExitCode {
    let result = server.run(interrupt, |address| {
        // Whoever waits for this line may connect.
        drop(writeln!(io::stdout().lock(), "listening {address}"));
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::from(FAILED)
        }
    }
}

/// Shows and writes the result; returns the exit status.
fn finish(
    command: &Command,
    plan: &Plan,
    outcome: &Outcome,
    recording: Option<Recording>,
) -> ExitCode {
    let machine = Machine::look();
    let document = report::document(plan, outcome, &machine);
    let to_stdout = command.json().is_some_and(|path| path == Path::new("-"));
    let text = if to_stdout {
        document.clone()
    } else if io::stdout().is_terminal() {
        report::table(plan, outcome, &machine)
    } else {
        report::line(plan, outcome)
    };
    if let Err(error) = writeln!(io::stdout().lock(), "{}", text.trim_end())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return ExitCode::from(FAILED);
    }
    for (name, count) in outcome.tally.failures.iter() {
        complain(&format!("{count} x {name}"));
    }
    // A recording that could not go on has said so, and is gone.
    let is_recorded = match recording.map(|it| it.finish(&document, &outcome.tally.latencies)) {
        None => command.out().is_none(),
        Some(Ok(())) => true,
        Some(Err(error)) => {
            complain(&format!("--out: {error}"));
            false
        }
    };
    if let Some(path) = command.json().filter(|_| !to_stdout)
        && let Err(error) = fs::write(path, document + "\n")
    {
        complain(&format!("cannot write {}: {error}", path.display()));
        return ExitCode::from(FAILED);
    }
    if !is_recorded {
        return ExitCode::from(FAILED);
    }
    ExitCode::from(Verdict::of(outcome).status())
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
fn complain(line: &str) {
    drop(writeln!(io::stderr().lock(), "ringway-loadgen: {line}"));
}
