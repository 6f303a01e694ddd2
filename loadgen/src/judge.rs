//! The tasks that judge or show runs: `knee`, `diff` and `report`.
//!
//! Here: windows run, results printed, exit status. Not here: the search and the comparison.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway_loadgen::assert::{Checked, Measures, Numbers};
use ringway_loadgen::cli::{DiffFlags, KneeFlags, Over, ReportFlags};
use ringway_loadgen::diff::{Diff, Input};
use ringway_loadgen::knee::{End, Estimate, Search, Seen};
use ringway_loadgen::machine::Machine;
use ringway_loadgen::plan::Host;
use ringway_loadgen::recording::condensed::Condensed;
use ringway_loadgen::recording::{self, PAGE};
use ringway_loadgen::report::{Figures, page};
use ringway_loadgen::run::{self, RunError};
use serde_json::{Value, json};

use crate::{FAILED, REFUSED, complain};

const UNTRUSTWORTHY: u8 = 3;
const INTERRUPTED: u8 = 130;

/// What one window of a search showed.
struct Window {
    value: u64,
    phase: &'static str,
    seen: Seen,
    checks: Vec<Checked>,
    /// Why it could not begin to count.
    problem: Option<String>,
    /// Cores that the relay and the generator used.
    cores: [Option<f64>; 2],
}

/// Searches a knee with real windows.
pub(crate) fn knee(flags: &KneeFlags, interrupt: &AtomicBool) -> ExitCode {
    let search = flags.check().and_then(|()| Search::new(flags.limits()));
    let mut search = match search {
        Ok(search) => search,
        Err(why) => return refuse(&why),
    };
    // A search that ends at a plan that cannot be would have been for nothing.
    let (limits, unit) = (flags.limits(), flags.unit());
    for value in [limits.from * unit, limits.max * unit] {
        if let Err(error) = flags.plan(value).check(&Host::look()) {
            for problem in error.problems {
                complain(&format!("{} {value}: {problem}", flags.over.name()));
            }
            return ExitCode::from(REFUSED);
        }
    }
    let mut windows = Vec::new();
    while let Some(value) = search.next_value() {
        let window = match look(flags, value * unit, search.phase(), interrupt) {
            Ok(window) => window,
            Err(_) if interrupt.load(Ordering::Acquire) => {
                complain(&format!(
                    "interrupted after {} windows: there is no knee yet",
                    windows.len()
                ));
                return ExitCode::from(INTERRUPTED);
            }
            Err(why) => {
                complain(&why);
                return ExitCode::from(FAILED);
            }
        };
        // Nothing is known to work yet: most likely the server is not there.
        if let (true, Some(problem)) = (windows.is_empty(), &window.problem) {
            complain(&format!(
                "{} {}: {problem}; lower --from, or look whether the server is there",
                flags.over.name(),
                window.value
            ));
            return ExitCode::from(FAILED);
        }
        let line = window.line(flags.over, windows.len() + 1);
        drop(writeln!(io::stderr().lock(), "{line}"));
        search.observe(window.seen);
        windows.push(window);
    }
    conclude(flags, &search, &windows)
}

/// Runs one window.
fn look(
    flags: &KneeFlags,
    value: u64,
    phase: &'static str,
    interrupt: &AtomicBool,
) -> Result<Window, String> {
    let at = |problem: &dyn std::fmt::Display| format!("{} {value}: {problem}", flags.over.name());
    let plan = flags.plan(value);
    plan.check(&Host::look()).map_err(|error| at(&error))?;
    let mut window = Window {
        value,
        phase,
        seen: Seen::Missed,
        checks: Vec::new(),
        problem: None,
        cores: [None; 2],
    };
    let outcome = run::run(&plan, interrupt, &mut |_| {});
    if interrupt.load(Ordering::Acquire) {
        return Err("interrupted".into());
    }
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // A server beyond its knee may well refuse.
        Err(RunError::Setup { what, failures }) => {
            let names = failures
                .iter()
                .map(|(name, count)| format!(", {count} x {name}"));
            window.problem = Some(what + &names.collect::<String>());
            return Ok(window);
        }
        Err(error) => return Err(at(&error)),
    };
    let measures = Measures::of(&plan, &outcome, Numbers::new());
    window.checks = flags.slo.iter().map(|slo| slo.check(&measures)).collect();
    // Failures are for the objective to judge.
    if !outcome.is_on_time {
        window.seen = Seen::Untrustworthy;
    } else if window.checks.iter().all(|check| check.has_held) {
        window.seen = Seen::Met;
    }
    let figures = Figures::of(&plan, &outcome);
    window.cores = [
        figures.relay.map(|relay| relay.cores),
        Some(figures.generator.cores),
    ];
    Ok(window)
}

impl Window {
    /// Returns the line of a window, with its number from 1.
    fn line(&self, over: Over, number: usize) -> String {
        let (over, value, phase) = (over.name(), self.value, self.phase);
        let verdict = match self.seen {
            Seen::Met => "met",
            Seen::Missed => "missed",
            Seen::Untrustworthy => "not counted, the generator was late",
        };
        format!(
            "window {number} ({phase}), {over} {value}: {verdict}; {}",
            self.reasons()
        )
    }

    fn reasons(&self) -> String {
        let checks = self.checks.iter().map(ToString::to_string);
        checks
            .chain(self.problem.clone())
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn document(&self) -> Value {
        let [relay, generator] = self.cores;
        json!({
            "value": self.value,
            "phase": self.phase,
            "seen": self.seen.word(),
            "checks": self.checks,
            "problem": self.problem,
            "relay_cores": relay,
            "generator_cores": generator,
        })
    }
}

fn conclude(flags: &KneeFlags, search: &Search, windows: &[Window]) -> ExitCode {
    let last = windows.last().map(Window::reasons).unwrap_or_default();
    let found = match search.end() {
        Some(End::Found(found)) => Some(found.in_units_of(flags.unit())),
        _ => None,
    };
    let (mut text, status) = match (search.end(), found) {
        (Some(End::Found(_)), Some(found)) => (knee_text(flags.over, &found), 0),
        (Some(End::FirstMisses), _) => (
            format!("no knee: the first value misses already ({last}); lower --from"),
            FAILED,
        ),
        (Some(End::MaximumMeets), _) => (
            format!("no knee: the largest value still meets the objective ({last}); raise --max"),
            FAILED,
        ),
        (Some(End::Untrustworthy(value)), _) => (
            format!(
                "no knee: the generator was late at {} {}, again and again; give it cores of its own \
                 (--threads, --cpu), or lower --max",
                flags.over.name(),
                value * flags.unit()
            ),
            UNTRUSTWORTHY,
        ),
        _ => ("no knee: the search did not end".into(), FAILED),
    };
    let met = windows.iter().filter(|window| window.seen == Seen::Met);
    let met: Vec<&Window> = met.collect();
    let per_core = |of: usize| {
        let used = met
            .iter()
            .filter_map(|window| Some((window.value, window.cores[of]?)));
        found?.per_core(&used.collect::<Vec<_>>())
    };
    let each = [per_core(0), per_core(1)];
    for (name, each) in ["relay", "generator"].iter().zip(each) {
        if let Some(each) = each {
            text.push_str(&format!(", {each:.0} a core of the {name}"));
        }
    }
    text.push_str(&format!(" ({} windows)", search.probes()));
    let document = json!({
        "schema": "ringway-loadgen-knee/1",
        "scenario": flags.command.plan().name(),
        "over": flags.over.name(),
        "slo": flags.slo.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "machine": Machine::look(),
        "result": found,
        "conclusion": text,
        "relay_per_core": each[0],
        "generator_per_core": each[1],
        "windows": windows.iter().map(Window::document).collect::<Vec<_>>(),
    });
    show(&text, &document, flags.command.json(), status)
}

fn knee_text(over: Over, found: &Estimate) -> String {
    let what = match over {
        Over::Rate => "a second",
        Over::Sessions => "sessions",
    };
    format!(
        "knee: {:.0} {what} (95 % interval {:.0} to {:.0})",
        found.knee, found.low, found.high
    )
}

/// Compares two results.
pub(crate) fn diff(flags: &DiffFlags) -> ExitCode {
    let result = Input::read(&flags.a)
        .and_then(|a| Input::read(&flags.b).map(|b| (a, b)))
        .and_then(|(a, b)| Diff::of(&a, &b, flags.threshold));
    let diff = match result {
        Ok(diff) => diff,
        Err(error) => return refuse(&error.to_string()),
    };
    let document = json!({"schema": "ringway-loadgen-diff/1", "diff": diff});
    let status = diff.verdict.status();
    show(&diff.to_string(), &document, flags.json.as_ref(), status)
}

/// Makes the page of a recording again.
pub(crate) fn report(flags: &ReportFlags) -> ExitCode {
    let page = match Condensed::read(&flags.directory) {
        Ok(condensed) => page::page(&condensed),
        Err(error) => return refuse(&error.to_string()),
    };
    let path = flags
        .output
        .clone()
        .unwrap_or_else(|| flags.directory.join(PAGE));
    if path == Path::new("-") {
        return match io::stdout().lock().write_all(page.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("cannot write standard output: {error}"));
                ExitCode::from(FAILED)
            }
            _ => ExitCode::SUCCESS,
        };
    }
    if let Err(error) = recording::write(&path, &page) {
        complain(&format!("cannot write {error}"));
        return ExitCode::from(FAILED);
    }
    complain(&format!("wrote {}", path.display()));
    ExitCode::SUCCESS
}

fn refuse(why: &str) -> ExitCode {
    complain(why);
    ExitCode::from(REFUSED)
}

/// Prints the text, or the document instead; returns `status` unless that fails.
fn show(text: &str, document: &Value, json: Option<&PathBuf>, status: u8) -> ExitCode {
    let is_stdout = json.is_some_and(|path| path == Path::new("-"));
    let pretty = format!("{document:#}");
    let shown = if is_stdout { &pretty } else { text };
    if let Err(error) = writeln!(io::stdout().lock(), "{}", shown.trim_end())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return ExitCode::from(FAILED);
    }
    if let Some(path) = json.filter(|_| !is_stdout)
        && let Err(error) = fs::write(path, pretty + "\n")
    {
        complain(&format!("cannot write {}: {error}", path.display()));
        return ExitCode::from(FAILED);
    }
    ExitCode::from(status)
}
