//! The rounds of a churn.
//!
//! Here: opening and closing rounds, the books after each. Not here: cycles (`worker::churn`), what is
//! compared (`books`).
//!
//! A round ends with every connection of it closed; only the standing sessions remain. The relay then has
//! [`SETTLE_TIME`](crate::books::SETTLE_TIME) to own what it owned before the first round.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::{News, POLL_TIME, REPORT_TIME, Run, RunError, STALL_TIME, Special};
use crate::books::{Books, Settled};
use crate::findings::{ChurnFindings, Findings, Round};
use crate::plan::Plan;

impl Run<'_> {
    /// Runs all rounds, or as many as make sense.
    pub(super) fn conduct_rounds(&mut self) -> Result<Special, RunError> {
        let plan = Arc::clone(&self.plan);
        let standing = Books::at_rest(&plan).map_err(RunError::Books)?;
        let mut special = Special::complete();
        let mut rounds = Vec::new();
        let mut ran = Duration::ZERO;
        for number in 1..=plan.churn.rounds {
            let begun = Instant::now();
            let cycles = self.progress().rounds;
            self.set_gate(2 * number - 1);
            special.is_complete &= self.pass_round(number, &mut special.problems);
            let took = begun.elapsed();
            ran += took;
            self.set_gate(2 * number);
            if let Some(problem) = self.close_round(number) {
                special.problems.push(problem);
            }
            let settled = match settle(&plan, &standing) {
                Ok(settled) => settled,
                Err(problem) => {
                    special.problems.push(problem);
                    special.is_complete = false;
                    break;
                }
            };
            for leftover in &settled.leftovers {
                let problem = format!("left over after round {number}: {leftover}");
                special.problems.push(problem);
            }
            let round = Round {
                number,
                cycles: self.progress().rounds - cycles,
                seconds: took.as_secs_f64(),
                settle_seconds: settled.took.as_secs_f64(),
                books: settled.books,
                leftovers: settled.leftovers,
            };
            (self.report)(News::Round(&round));
            rounds.push(round);
            if !special.is_complete {
                break;
            }
        }
        special.measured = Some(ran);
        special.findings = Findings {
            churn: Some(ChurnFindings {
                rounds,
                seconds: ran.as_secs_f64(),
                ..ChurnFindings::default()
            }),
            ..Findings::default()
        };
        Ok(special)
    }

    /// Waits for the end of a round; false when it was cut short.
    fn pass_round(&mut self, number: u32, problems: &mut Vec<String>) -> bool {
        let is_counted = self.plan.churn.cycles.is_some();
        let time = self.plan.duration / self.plan.churn.rounds.max(1);
        let wanted = self.plan.placement.threads.saturating_mul(number);
        let (begun, mut told) = (Instant::now(), Instant::now());
        let mut last = (0, Instant::now());
        loop {
            let exhausted = self.shared.workers_exhausted.load(Ordering::Acquire);
            if (is_counted && exhausted >= wanted) || (!is_counted && begun.elapsed() >= time) {
                return true;
            }
            let progress = self.progress();
            let seen = progress.rounds + progress.failures;
            if seen != last.0 {
                last = (seen, Instant::now());
            }
            if last.1.elapsed() > STALL_TIME {
                problems.push("no cycle ended for 10 s: the relay does not answer".into());
                return false;
            }
            if self.shared.is_given_up.load(Ordering::Acquire) {
                problems.push("given up: the relay is gone, or fails every cycle".into());
                return false;
            }
            if self.is_interrupted() || self.crew.has_ended() {
                return false;
            }
            if told.elapsed() >= REPORT_TIME {
                told = Instant::now();
                (self.report)(News::Progress(progress));
            }
            self.look_at_clock();
            thread::sleep(ROUND_POLL_TIME);
        }
    }

    /// Waits until no connection of a round is left; returns what is wrong otherwise.
    fn close_round(&self, number: u32) -> Option<String> {
        let wanted = self.plan.placement.threads.saturating_mul(number);
        let begun = Instant::now();
        while self.shared.workers_settled.load(Ordering::Acquire) < wanted {
            let is_over = self.crew.has_ended();
            if begun.elapsed() > STALL_TIME || is_over {
                let streams = self.progress().streams;
                return Some(format!(
                    "round {number} did not end: {streams} streams of the standing sessions were not \
                     reset, or cycles hang"
                ));
            }
            thread::sleep(POLL_TIME);
        }
        None
    }
}

/// Waits until the relay owns what it owned before; where others load it too, only looks.
fn settle(plan: &Plan, before: &Books) -> Result<Settled, String> {
    if plan.shares_relay {
        return Ok(Settled {
            books: Books::take(plan)?,
            took: Duration::ZERO,
            leftovers: Vec::new(),
        });
    }
    Books::settle(plan, before)
}

/// Time between two looks at a round: the end of a round is seen this late.
const ROUND_POLL_TIME: Duration = Duration::from_millis(10);
