//! The numbers of one run that asserts are compared with.
//!
//! Here: their names. Not here: the asserts.

use super::Numbers;
use crate::latency::{Latencies, Times};
use crate::plan::Plan;
use crate::report::{Figures, float};
use crate::run::Outcome;

/// What a run measured, by the names of metrics.
#[derive(Debug)]
pub struct Measures<'a> {
    latencies: &'a Latencies,
    has_pace: bool,
    /// Rounds or messages, failed ones not among them.
    done: Option<u64>,
    numbers: Numbers,
}

impl<'a> Measures<'a> {
    /// Returns measures from their parts: `done` is what failures are a share of.
    #[must_use]
    pub const fn new(
        latencies: &'a Latencies,
        has_pace: bool,
        done: Option<u64>,
        numbers: Numbers,
    ) -> Self {
        Self {
            latencies,
            has_pace,
            done,
            numbers,
        }
    }

    /// Returns what a run measured; `more` are numbers that others counted.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &'a Outcome, more: Numbers) -> Self {
        let figures = Figures::of(plan, outcome);
        let tally = &outcome.tally;
        let mut numbers = more;
        let failures = float(tally.failures.total());
        numbers.insert("errors", failures);
        numbers.insert("messages_per_second", figures.messages_per_second);
        numbers.insert("rounds_per_second", figures.rounds_per_second);
        numbers.insert("bytes_per_second", figures.bytes_per_second);
        numbers.insert("generator.cores", figures.generator.cores);
        if let Some(relay) = figures.relay {
            numbers.insert("relay.cores", relay.cores);
        }
        if let Some(bytes) = figures.relay_bytes_per_session {
            numbers.insert("relay.bytes_per_session", bytes);
        }
        let done = if plan.scenario.has_traffic() {
            tally.messages
        } else {
            tally.rounds
        };
        Self::new(&tally.latencies, plan.pace.is_some(), Some(done), numbers)
    }

    pub(super) fn times(&self, name: &str) -> Option<&Times> {
        let times = match name {
            "response" => &self.latencies.response,
            "service" => &self.latencies.service,
            "lag" => &self.latencies.lag,
            _ if self.has_pace => &self.latencies.response,
            _ => &self.latencies.service,
        };
        (times.count() > 0).then_some(times)
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    pub(super) fn errors_percent(&self) -> Option<f64> {
        let failed = self.number("errors")?;
        let all = float(self.done?) + failed;
        (all > 0.0).then(|| failed * 100.0 / all)
    }
}
