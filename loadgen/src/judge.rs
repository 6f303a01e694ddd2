//! The tasks that judge runs: `knee` and `diff`.
//!
//! Here: windows run, results printed, exit status. Not here: the search and the comparison.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use ringway_loadgen::assert::{Checked, Measures, Numbers};
use ringway_loadgen::cli::{DiffFlags, KneeFlags};
use ringway_loadgen::diff::{Diff, Input};
use ringway_loadgen::knee::{End, Search, Seen};
use ringway_loadgen::plan::Host;
use ringway_loadgen::report::Figures;
use ringway_loadgen::run;
use serde_json::{Value, json};

use crate::{FAILED, REFUSED, complain};

const UNTRUSTWORTHY: u8 = 3;
const INTERRUPTED: u8 = 130;

/// Searches a knee with real windows.
pub(crate) fn knee(flags: &KneeFlags, interrupt: &AtomicBool) -> ExitCode {
    let mut search = match Search::new(flags.limits()) {
        Ok(search) => search,
        Err(why) => return refuse(&why),
    };
    let mut probes = Vec::new();
    let mut last_met: Option<(u64, Figures)> = None;
    while let Some(value) = search.next_value() {
        let plan = flags.plan(value);
        if let Err(error) = plan.check(&Host::look()) {
            error.problems.iter().for_each(|problem| complain(problem));
            return ExitCode::from(if probes.is_empty() { REFUSED } else { FAILED });
        }
        let result = run::run(&plan, interrupt, &mut |_| {});
        if interrupt.load(Ordering::Acquire) {
            return ExitCode::from(INTERRUPTED);
        }
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                complain(&format!("window at {value}: {error}"));
                return ExitCode::from(FAILED);
            }
        };
        let measures = Measures::of(&plan, &outcome, Numbers::new());
        let checks: Vec<Checked> = flags.slo.iter().map(|slo| slo.check(&measures)).collect();
        // Failures are for the objective to judge: a relay beyond its knee may well refuse.
        let seen = if !outcome.is_on_time {
            Seen::Untrustworthy
        } else if checks.iter().all(|check| check.has_held) {
            Seen::Met
        } else {
            Seen::Missed
        };
        let texts: Vec<String> = checks.iter().map(ToString::to_string).collect();
        complain(&format!("{value}: {seen:?}: {}", texts.join("; ")));
        probes.push(json!({"value": value, "seen": format!("{seen:?}"), "checks": checks}));
        if seen == Seen::Met {
            last_met = Some((value, Figures::of(&plan, &outcome)));
        }
        search.observe(seen);
    }
    conclude(flags, &search, &probes, last_met)
}

fn conclude(
    flags: &KneeFlags,
    search: &Search,
    probes: &[Value],
    last_met: Option<(u64, Figures)>,
) -> ExitCode {
    let (mut text, status) = match search.end() {
        Some(End::Found(found)) => (
            format!(
                "knee {:.0} (95 % interval {:.0} to {:.0})",
                found.knee, found.low, found.high
            ),
            0,
        ),
        Some(End::FirstMisses) => (
            "the first value misses already: lower --from".into(),
            FAILED,
        ),
        Some(End::MaximumMeets) => ("the maximum still meets: raise --max".into(), FAILED),
        Some(End::Untrustworthy(value)) => (
            format!("the generator was late at {value}, again and again"),
            UNTRUSTWORTHY,
        ),
        None => ("the search did not end".into(), FAILED),
    };
    let per_core = |value: u64, cores: f64| {
        let value = f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        (cores > 0.0).then(|| value / cores)
    };
    let capacity = last_met.map(|(value, figures)| {
        let relay = figures.relay.and_then(|relay| per_core(value, relay.cores));
        (relay, per_core(value, figures.generator.cores))
    });
    let (relay, generator) = capacity.unwrap_or_default();
    for (name, each) in [("relay", relay), ("generator", generator)] {
        if let Some(each) = each {
            text.push_str(&format!(", {each:.0} a core of the {name}"));
        }
    }
    text.push_str(&format!(", {} probes", search.probes()));
    let found = match search.end() {
        Some(End::Found(found)) => Some(found),
        _ => None,
    };
    let document = json!({
        "schema": "ringway-loadgen-knee/1",
        "result": found,
        "conclusion": text,
        "relay_per_core": relay,
        "generator_per_core": generator,
        "probes": probes,
    });
    show(&text, &document, flags.command.json(), status)
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
