//! Two results beside each other.
//!
//! Here: which numbers differ by more than their own spread, which settings differ. Not here: measuring.
//!
//! A difference counts when every round of one run lies beyond every round of the other: with five rounds
//! each that is chance once in 126 times.

use serde::Serialize;

use super::report::{Better, Metric, Report};

/// What became of the numbers and settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The numbers that both runs have.
    pub changes: Vec<Change>,
    /// Settings that differ, with both values; null is what could not be read.
    pub settings: Vec<(String, Option<String>, Option<String>)>,
    /// What makes the two hard to compare.
    pub notes: Vec<String>,
}

/// One number in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name of the number.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Median before.
    pub before: f64,
    /// Median after.
    pub after: f64,
    /// After divided by before; none when there is nothing to divide by.
    pub ratio: Option<f64>,
    /// Whether the difference is larger than the spread.
    pub outcome: Outcome,
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Beyond the spread, to the better.
    Better,
    /// Within the spread: no difference can be told.
    Same,
    /// Beyond the spread, to the worse.
    Worse,
}

/// Compares an earlier result with a later one.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let earlier = |metric: &Metric| before.metrics.iter().find(|old| old.name == metric.name);
    let changes = after
        .metrics
        .iter()
        .filter_map(|metric| Some(change(earlier(metric)?, metric)))
        .collect();
    let names = before.settings.keys().chain(after.settings.keys());
    let mut names: Vec<&String> = names.collect();
    names.sort();
    names.dedup();
    let value = |report: &Report, name: &String| report.settings.get(name).cloned().flatten();
    let settings = names
        .into_iter()
        .map(|name| (name.clone(), value(before, name), value(after, name)))
        .filter(|(_, before, after)| before != after)
        .collect();
    Comparison {
        changes,
        settings,
        notes: notes(before, after),
    }
}

fn change(before: &Metric, after: &Metric) -> Change {
    let (old, new) = (before.median(), after.median());
    let ((old_low, old_high), (new_low, new_high)) = (before.range(), after.range());
    let outcome = match after.better {
        Better::Higher if new_low > old_high => Outcome::Better,
        Better::Higher if new_high < old_low => Outcome::Worse,
        Better::Lower if new_high < old_low => Outcome::Better,
        Better::Lower if new_low > old_high => Outcome::Worse,
        Better::Higher | Better::Lower => Outcome::Same,
    };
    Change {
        name: after.name.clone(),
        unit: after.unit.clone(),
        before: old,
        after: new,
        ratio: (old > 0.0).then(|| new / old),
        outcome,
    }
}

fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if before.version != after.version {
        let (old, new) = (before.version.escape_debug(), &after.version);
        notes.push(format!(
            "the earlier run was made by version {old}, this one by {new}"
        ));
    }
    // Rounds of another length meet another share of what else the host does.
    if (before.seconds - after.seconds).abs() > after.seconds / 4.0 {
        notes.push(format!(
            "the earlier run took {:.1} s, this one {:.1} s: compare runs of the same --duration",
            before.seconds, after.seconds
        ));
    }
    if before.storm.asked != after.storm.asked {
        notes.push(format!(
            "the earlier run was made with --backlog {}, this one with {}",
            before.storm.asked, after.storm.asked
        ));
    }
    let has = |report: &Report, name: &str| report.metrics.iter().any(|other| other.name == name);
    let only = |here: &Report, there: &Report, which: &str| {
        let missing = here.metrics.iter().filter(|m| !has(there, &m.name));
        let note = |metric: &Metric| {
            let name = metric.name.escape_debug();
            format!("only the {which} run has {name}")
        };
        missing.map(note).collect::<Vec<_>>()
    };
    notes.extend(only(before, after, "earlier"));
    notes.extend(only(after, before, "later"));
    notes
}
