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
use ringway_loadgen::intervals::Interval;
use ringway_loadgen::machine::Machine;
use ringway_loadgen::null_server::NullServer;
use ringway_loadgen::plan::{Host, Plan};
use ringway_loadgen::recording::Recording;
use ringway_loadgen::report::{self, Verdict};
use ringway_loadgen::run::{self, News, Outcome, Progress, RunError};

mod judge;
mod scene;

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
            watch_interrupts(&interrupt);
            if flags.until_stdin_closes {
                watch_stdin(&interrupt);
            }
            return serve(&flags.server(), &interrupt);
        }
        Task::Knee(flags) => {
            watch_interrupts(&interrupt);
            return judge::knee(&flags, &interrupt);
        }
        Task::Report(flags) => return judge::report(&flags),
        Task::Diff(flags) => return judge::diff(&flags),
        Task::Scenarios(flags) => return scene::list(&flags),
        Task::Scenario(flags) => {
            watch_interrupts(&interrupt);
            return scene::run(&flags, &interrupt);
        }
    };
    let plan = command.plan();
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
    watch_interrupts(&interrupt);
    let mut reporter = Reporter::new(recording);
    let result = run::run(&plan, &interrupt, &mut |news| reporter.tell(&news));
    reporter.clear();
    match result {
        Ok(outcome) => finish(&command, &plan, &outcome, reporter.recording.take()),
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

/// Sets `interrupt` when standard input closes.
fn watch_stdin(interrupt: &Arc<AtomicBool>) {
    let interrupt = Arc::clone(interrupt);
    let watch = move || {
        drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
        interrupt.store(true, Ordering::Release);
    };
    let thread = std::thread::Builder::new().name("stdin".into());
    if thread.spawn(watch).is_err() {
        complain("no thread for standard input: its end will not be seen");
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

/// Sets `interrupt` at the first interrupt or request to end; the second ends the process at once.
fn watch_interrupts(interrupt: &Arc<AtomicBool>) {
    let interrupt = Arc::clone(interrupt);
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            for _ in 0..2 {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                if interrupt.swap(true, Ordering::AcqRel) {
                    std::process::abort();
                }
            }
        });
    };
    let thread = std::thread::Builder::new().name("signals".into());
    if thread.spawn(watch).is_err() {
        complain("no thread for signals: an interrupt will end the run without a result");
    }
}

/// The line that tells how a run goes; silent unless standard error is a terminal.
struct Reporter {
    is_terminal: bool,
    is_shown: bool,
    last: Progress,
    recording: Option<Recording>,
}

impl Reporter {
    fn new(recording: Option<Recording>) -> Self {
        Self {
            recording,
            is_terminal: io::stderr().is_terminal(),
            is_shown: false,
            last: Progress::default(),
        }
    }

    fn tell(&mut self, news: &News<'_>) {
        let line = match news {
            News::Interval(interval) => return self.record(interval),
            News::Progress(progress) => return self.show(*progress),
            News::Round(round) => report::round_line(round),
            News::Window(number, window) => report::window_line(*number, window),
        };
        self.clear();
        drop(writeln!(io::stderr().lock(), "{line}"));
    }

    /// Writes an interval; the first one that cannot be written is the last.
    fn record(&mut self, interval: &Interval) {
        let result = self.recording.as_mut().map(|it| it.interval(interval));
        if let Some(Err(error)) = result {
            self.recording = None;
            self.clear();
            complain(&format!(
                "--out: {error}; the run goes on without its files"
            ));
        }
    }

    fn show(&mut self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        self.is_shown = true;
        let line = format!(
            "\r\x1b[K{} sessions, {} streams, {} messages/s, {} MB/s, {} rounds/s, {} failures",
            progress.sessions,
            progress.streams,
            progress.messages.saturating_sub(self.last.messages),
            progress.bytes.saturating_sub(self.last.bytes) / 1_000_000,
            progress.rounds.saturating_sub(self.last.rounds),
            progress.failures,
        );
        self.last = progress;
        drop(write!(io::stderr().lock(), "{line}"));
    }

    fn clear(&self) {
        if self.is_shown {
            drop(write!(io::stderr().lock(), "\r\x1b[K"));
        }
    }
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
fn complain(line: &str) {
    drop(writeln!(io::stderr().lock(), "ringway-loadgen: {line}"));
}
