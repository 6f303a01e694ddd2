//! A played scenario as text and as JSON.
//!
//! Here: both forms. Not here: their numbers (`scenarios::played`).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::file::ScenarioFile;
use super::played::{GroupPlayed, PhaseSum, Played};
use crate::assert::Checked;
use crate::latency::Summary;
use crate::machine::Machine;
use crate::report::{self, Verdict, float};
use crate::sockets::Ledger;

/// Name and version of the document.
const SCHEMA: &str = "ringway-loadgen-scenario/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    scenario: &'a str,
    question: &'a str,
    failure: &'a str,
    verdict: &'static str,
    seed: u64,
    machine: &'a Machine,
    phases: Vec<PhaseDocument<'a>>,
    groups: Vec<GroupDocument<'a>>,
    asserts: &'a [Checked],
    leftovers: &'a [String],
}

#[derive(Serialize)]
struct PhaseDocument<'a> {
    name: &'a str,
    seconds: f64,
}

#[derive(Serialize)]
struct GroupDocument<'a> {
    name: &'a str,
    verdict: &'static str,
    error: Option<&'a str>,
    phases: BTreeMap<&'a str, SumDocument<'a>>,
    /// The document that a run of the group alone would have.
    run: Option<Value>,
}

#[derive(Serialize)]
struct SumDocument<'a> {
    seconds: f64,
    messages: u64,
    bytes: u64,
    rounds: u64,
    failures: u64,
    latencies: BTreeMap<&'static str, Summary>,
    sockets: Option<&'a Ledger>,
    relay_cores: Option<f64>,
    relay_rss_bytes: Option<u64>,
}

/// Returns the document of a scenario.
#[must_use]
pub fn document(scenario: &ScenarioFile, played: &Played, machine: &Machine) -> String {
    let phases = scenario.phases.iter().map(|phase| PhaseDocument {
        name: &phase.name,
        seconds: phase.time.as_secs_f64(),
    });
    let groups = played.groups.iter().map(|group| GroupDocument {
        name: &group.name,
        verdict: group.verdict().word(),
        error: group.result.as_ref().err().map(String::as_str),
        phases: named(scenario, group)
            .map(|(name, sum)| (name, sum_document(sum)))
            .collect(),
        run: group.result.as_ref().ok().and_then(|outcome| {
            serde_json::from_str(&report::document(&group.plan, outcome, machine)).ok()
        }),
    });
    let document = Document {
        schema: SCHEMA,
        scenario: &scenario.name,
        question: &scenario.question,
        failure: &scenario.failure,
        verdict: played.verdict().word(),
        seed: scenario.seed,
        machine,
        phases: phases.collect(),
        groups: groups.collect(),
        asserts: &played.asserts,
        leftovers: &played.leftovers,
    };
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn sum_document(sum: &PhaseSum) -> SumDocument<'_> {
    SumDocument {
        seconds: sum.seconds,
        messages: sum.messages,
        bytes: sum.bytes,
        rounds: sum.rounds,
        failures: sum.failures,
        latencies: sum
            .latencies
            .named()
            .map(|(name, times)| (name, times.summary()))
            .collect(),
        sockets: sum.sockets.as_ref(),
        relay_cores: sum.relay_cores(),
        relay_rss_bytes: sum.relay_rss_bytes(),
    }
}

/// Returns the phases of a group by name.
fn named<'a>(
    scenario: &'a ScenarioFile,
    group: &'a GroupPlayed,
) -> impl Iterator<Item = (&'a str, &'a PhaseSum)> {
    group.phases.iter().filter_map(|(number, sum)| {
        let phase = scenario.phases.get(*number)?;
        Some((phase.name.as_str(), sum))
    })
}

/// Returns a scenario as text: question, numbers by group and phase, port ledger, asserts, verdict.
#[must_use]
pub fn table(scenario: &ScenarioFile, played: &Played, machine: &Machine) -> String {
    let mut out = format!("{}: {}\n\n", scenario.name, scenario.question.trim());
    out.push_str(&format!(
        "{:<16} {:<12} {:>11} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7}\n",
        "group",
        "phase",
        "a second",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "errors",
        "estab.",
        "TIME_W.",
        "server"
    ));
    for group in &played.groups {
        for (phase, sum) in named(scenario, group) {
            out.push_str(&row(group, phase, sum));
        }
    }
    let with_ledger = played.groups.iter().filter_map(|group| {
        let outcome = group.result.as_ref().ok()?;
        (!outcome.ledger.is_empty()).then_some((group, outcome))
    });
    out.push_str(&format!("\n{}", report::ledger_head("group")));
    for (group, outcome) in with_ledger {
        for row in &outcome.ledger {
            out.push_str(&report::ledger_row(&group.name, row));
        }
    }
    out.push('\n');
    for group in &played.groups {
        match &group.result {
            Err(why) => out.push_str(&format!("failed         {}: {why}\n", group.name)),
            Ok(outcome) => {
                for (name, count) in outcome.tally.failures.iter() {
                    out.push_str(&format!(
                        "failed         {}: {count} x {name}\n",
                        group.name
                    ));
                }
                for (name, count) in outcome.expected.iter() {
                    out.push_str(&format!(
                        "as expected    {}: {count} x {name}\n",
                        group.name
                    ));
                }
                if !outcome.is_on_time {
                    out.push_str(&format!("UNTRUSTWORTHY  {}: {}\n", group.name, LATE));
                }
            }
        }
    }
    for leftover in &played.leftovers {
        out.push_str(&format!("left over      {leftover}\n"));
    }
    for assert in &played.asserts {
        out.push_str(&format!("{assert}\n"));
    }
    let verdict = played.verdict();
    out.push_str(&format!("verdict        {}\n", verdict.word()));
    if verdict == Verdict::Failed {
        out.push_str(&format!("a failure is   {}\n", scenario.failure.trim()));
    }
    out.push_str(&format!("machine        {machine}\n"));
    out
}

/// What a late generator means.
const LATE: &str = "the generator did not keep its own schedule; do not use its times";

fn row(group: &GroupPlayed, phase: &str, sum: &PhaseSum) -> String {
    let done = if group.plan.scenario.has_traffic() {
        sum.messages
    } else {
        sum.rounds
    };
    // What ended after the last interval has no time of its own.
    let a_second = if sum.seconds > 0.0 {
        float(done) / sum.seconds
    } else {
        0.0
    };
    let times = if sum.latencies.response.count() > 0 {
        &sum.latencies.response
    } else {
        &sum.latencies.service
    };
    let micros = |quantile: f64| {
        if times.count() == 0 {
            return "-".to_owned();
        }
        format!("{:.0}", times.quantile(quantile).as_secs_f64() * 1e6)
    };
    let sockets = |state: &str| {
        let ledger = sum.sockets.as_ref();
        ledger.map_or_else(
            || "-".to_owned(),
            |ledger| ledger.of_generator(state).to_string(),
        )
    };
    let cores = sum
        .relay_cores()
        .map_or_else(|| "-".to_owned(), |cores| format!("{cores:.2}"));
    format!(
        "{:<16} {phase:<12} {a_second:>11.0} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {cores:>7}\n",
        group.name,
        micros(0.5),
        micros(0.99),
        micros(0.999),
        sum.failures,
        sockets("ESTABLISHED"),
        sockets("TIME_WAIT"),
    )
}
