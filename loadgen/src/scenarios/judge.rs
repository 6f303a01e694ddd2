//! What must hold in a scenario, and whether it did.
//!
//! Here: the part of a scenario that an assert is about (`GROUP/PHASE: ASSERT`), and its numbers. Not here:
//! the asserts themselves (`assert`).
//!
//! | text | is about |
//! |---|---|
//! | `open.p99 < 5ms` | all groups over all phases |
//! | `flood: errors < 0.1%` | one group over all its phases |
//! | `others/flood: response.p99 < 3x calm` | one group in one phase, compared with another phase |

use std::str::FromStr;

use super::file::ScenarioFile;
use super::played::{GroupPlayed, PhaseSum};
use crate::assert::{Assert, Checked, Measures, Numbers};
use crate::latency::Latencies;
use crate::report::float;
use crate::sockets::Ledger;

/// An assert, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopedAssert {
    group: Option<String>,
    phase: Option<String>,
    assert: Assert,
}

impl FromStr for ScopedAssert {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scope, assert)) = text.split_once(':') else {
            return Ok(Self {
                group: None,
                phase: None,
                assert: text.parse()?,
            });
        };
        let (group, phase) = match scope.split_once('/') {
            Some((group, phase)) => (group, Some(phase.trim().to_owned())),
            None => (scope, None),
        };
        Ok(Self {
            group: Some(group.trim().to_owned()),
            phase,
            assert: assert.parse()?,
        })
    }
}

impl ScopedAssert {
    /// Returns what is wrong with its names.
    pub(super) fn wrong(&self, scenario: &ScenarioFile) -> Option<String> {
        let group = match &self.group {
            None => None,
            Some(name) => {
                let found = scenario.groups.iter().find(|group| group.name == *name);
                if found.is_none() {
                    return Some(format!(
                        "an assert is about group '{name}', which there is not"
                    ));
                }
                found
            }
        };
        if self.assert.beside().is_some() && self.phase.is_none() {
            return Some("an assert compares with a phase: write GROUP/PHASE: in front".into());
        }
        for phase in [self.phase.as_deref(), self.assert.beside()]
            .into_iter()
            .flatten()
        {
            let (first, last) = group.map_or((0, 0), |group| scenario.span(group));
            let own = scenario.phases.get(first..last).unwrap_or_default();
            if !own.iter().any(|own| own.name == phase) {
                let group = self.group.as_deref().unwrap_or("?");
                return Some(format!(
                    "an assert is about phase '{phase}', which group '{group}' is not there in"
                ));
            }
        }
        None
    }

    /// Returns whether it held.
    pub(super) fn check(&self, scenario: &ScenarioFile, groups: &[GroupPlayed]) -> Checked {
        let sums = |phase: Option<&str>| {
            let mut sum = Sum::default();
            for group in groups {
                if self.group.as_ref().is_none_or(|name| *name == group.name) {
                    sum.add(group, phase, scenario);
                }
            }
            sum
        };
        let sum = sums(self.phase.as_deref());
        let beside = self.assert.beside().map(|phase| sums(Some(phase)));
        let measures = beside.as_ref().map(Sum::measures);
        let mut checked = self.assert.check_beside(&sum.measures(), measures.as_ref());
        checked.text = match (&self.group, &self.phase) {
            (Some(group), Some(phase)) => format!("{group}/{phase}: {}", checked.text),
            (Some(group), None) => format!("{group}: {}", checked.text),
            (None, _) => checked.text,
        };
        checked
    }
}

/// The numbers of some groups in some phases.
#[derive(Debug, Default)]
struct Sum {
    latencies: Latencies,
    has_pace: bool,
    done: u64,
    numbers: Numbers,
}

impl Sum {
    fn add(&mut self, group: &GroupPlayed, phase: Option<&str>, scenario: &ScenarioFile) {
        let place = phase.and_then(|name| scenario.phases.iter().position(|p| p.name == name));
        let mut sum = PhaseSum::default();
        for (number, part) in &group.phases {
            if place.is_none_or(|place| place == *number) {
                sum.merge(part);
            }
        }
        self.latencies.merge(&sum.latencies);
        self.has_pace |= group.plan.pace.is_some();
        self.done += if group.plan.scenario.has_traffic() {
            sum.messages
        } else {
            sum.rounds
        };
        // What is not of a phase counts for the whole time: what never arrived, what was left over.
        let failures = match (place, &group.result) {
            (None, Ok(outcome)) => outcome.tally.failures.total() + outcome.expected.total(),
            _ => sum.failures,
        };
        let seconds = sum.seconds.max(f64::MIN_POSITIVE);
        for (name, value) in [
            ("errors", float(failures)),
            ("messages_per_second", float(sum.messages) / seconds),
            ("rounds_per_second", float(sum.rounds) / seconds),
            ("bytes_per_second", float(sum.bytes) / seconds),
        ] {
            *self.numbers.entry(name).or_default() += value;
        }
        if let Some(cores) = sum.relay_cores() {
            self.numbers.insert("relay.cores", cores);
        }
        if let Some(ledger) = &sum.sockets {
            self.add_ports(ledger);
        }
        if place.is_none() {
            let unavailable = float(group.unavailable());
            *self.numbers.entry("ports.addr_not_avail").or_default() += unavailable;
        }
    }

    fn add_ports(&mut self, ledger: &Ledger) {
        for (name, states) in PORTS {
            let count: u64 = states.iter().map(|state| ledger.of_generator(state)).sum();
            // Groups look at the same address; their counts are not added.
            let entry = self.numbers.entry(name).or_default();
            *entry = entry.max(float(count));
        }
    }

    fn measures(&self) -> Measures<'_> {
        Measures::new(
            &self.latencies,
            self.has_pace,
            Some(self.done),
            self.numbers.clone(),
        )
    }
}

/// States of the generator's sockets by metric.
const PORTS: [(&str, &[&str]); 4] = [
    ("ports.established", &["ESTABLISHED"]),
    ("ports.time_wait", &["TIME_WAIT"]),
    ("ports.fin_wait", &["FIN_WAIT1", "FIN_WAIT2"]),
    ("ports.close_wait", &["CLOSE_WAIT"]),
];
