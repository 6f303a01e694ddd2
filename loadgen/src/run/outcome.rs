//! From the numbers of all threads to the outcome of a run.
//!
//! Here: what is missing, what is left over, which figures belong to which scenario. Not here: how they
//! are shown (`report`).

use std::time::Duration;

use super::{Middle, Outcome, RelayCost, Run, loiters};
use crate::books::Books;
use crate::findings::{Findings, LoiterFindings, SetupFindings, growth};
use crate::ledger;
use crate::plan::{Host, KillPhase, Loiter, Plan, Scenario};
use crate::report;
use crate::tally::Tally;

impl Run<'_> {
    pub(super) fn outcome(&self, mut tally: Tally, middle: Middle) -> Outcome {
        let missing = tally.messages_sent.abs_diff(tally.messages_received);
        for _ in 0..missing.min(1) {
            tally
                .failures
                .count(&format!("messages that never arrived: {missing}"));
        }
        let mut special = middle.special;
        if let Some(measured) = special.measured {
            tally.measured = measured;
        }
        self.close_books(&mut special.findings, &mut special.problems);
        finish(&mut special.findings, &tally);
        special
            .problems
            .extend(loiters::problem(&self.plan, &tally));
        if self.plan.scenario == Scenario::Setups {
            let found = SetupFindings {
                hops: self.plan.hops,
                setups: tally.setups,
                asked: tally.hops,
            };
            // What failed may have left anything with its hops.
            let is_clean = tally.failures.total() == 0;
            special
                .problems
                .extend(found.problem().filter(|_| is_clean));
            special.findings.setups = Some(found);
        }
        if tally.streams_accepted != tally.streams_reset {
            special.problems.push(format!(
                "the standing sessions accepted {} streams and saw {} resets",
                tally.streams_accepted, tally.streams_reset
            ));
        }
        for problem in &special.problems {
            tally.failures.count(problem);
        }
        let expected = tally.failures.take_expected(&self.plan.expects);
        let ledger = ledger::rows(
            &self.plan,
            &tally.classes,
            middle.held.as_ref(),
            &Host::look(),
        );
        let relay = match (self.before, middle.start, middle.end) {
            (Some(before), Some(start), Some(end)) => Some(RelayCost { before, start, end }),
            _ => None,
        };
        Outcome {
            is_on_time: tally.latencies.is_on_time(self.plan.lag_percent_max)
                && !is_saturated(&self.plan, &tally),
            tally,
            relay,
            is_complete: special.is_complete,
            setup: middle.setup,
            findings: special.findings,
            expected,
            ledger,
            inside: middle.inside,
        }
    }

    /// Compares the relay's books with those before the first connection. All sockets are closed by now.
    fn close_books(&self, findings: &mut Findings, problems: &mut Vec<String>) {
        let Some(before) = &self.books else {
            return;
        };
        match Books::settle(&self.plan, before) {
            Ok(settled) => {
                let left = settled.leftovers.iter();
                problems.extend(left.map(|name| format!("left over after the run: {name}")));
                findings.books_after = Some(settled.books);
            }
            Err(problem) => problems.push(problem),
        }
        findings.books_before = Some(before.clone());
    }
}

/// Returns whether the threads of a run with a clock had no time left: what they were late with they may
/// not even have noticed.
fn is_saturated(plan: &Plan, tally: &Tally) -> bool {
    // One without a clock works as fast as it can.
    plan.pace.is_some() && report::is_busy(plan, tally)
}

/// Adds the threads' numbers to the findings.
fn finish(findings: &mut Findings, tally: &Tally) {
    if let Some(churn) = &mut findings.churn {
        let phases = KillPhase::ALL.into_iter().zip(tally.cycles);
        let killed = phases.filter(|(_, count)| *count > 0);
        churn.cycles = killed.map(|(phase, count)| (phase.name(), count)).collect();
        churn.cycles_failed = tally.cycles_failed;
        churn.streams_accepted = tally.streams_accepted;
        churn.streams_reset = tally.streams_reset;
        let seconds = Duration::from_secs_f64(churn.seconds);
        churn.cycles_per_second = per_second(tally.cycles.iter().sum(), seconds);
    }
    if let Some(slowloris) = &mut findings.slowloris {
        let kinds = Loiter::ALL.into_iter().zip(&tally.loiters);
        let kinds = kinds.map(|(kind, tally)| {
            let found = LoiterFindings {
                connected: tally.connected,
                ends: names(tally.ends.iter()),
                life: tally.life.summary(),
            };
            (kind.name(), found)
        });
        slowloris.kinds = kinds.collect();
        slowloris.open_at_end = loiters::open_at_end(tally);
    }
    if let Some(slow) = &mut findings.slow_reader {
        slow.ends = names(tally.slow_ends.iter());
        let before = findings.books_before.as_ref();
        let before = before.and_then(|books| books.health.as_ref());
        let after = findings.books_after.as_ref();
        let after = after.and_then(|books| books.health.as_ref());
        if let (Some(before), Some(after)) = (before, after) {
            slow.relay_sessions_closed = growth(&before.sessions_closed, &after.sessions_closed);
            slow.relay_streams_reset = growth(&before.streams_reset, &after.streams_reset);
        }
    }
}

fn names<'a>(
    counts: impl Iterator<Item = (&'a str, u64)>,
) -> std::collections::BTreeMap<String, u64> {
    counts
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

fn per_second(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
    let count = count as f64;
    count / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{ChurnFindings, SlowlorisFindings};
    use crate::plan::{Arrivals, Pace, Shape, Target};
    use crate::tally::{HopTally, LoiterTally};

    #[test]
    fn threads_without_time_left_are_saturated_only_with_a_clock() {
        let target = Target::Tcp("127.0.0.1:1".parse().unwrap());
        let mut plan = Plan::new(Scenario::Opens, target);
        plan.placement.threads = 2;
        let tally = |cpu_ms| Tally {
            cpu: Duration::from_millis(cpu_ms),
            measured: Duration::from_secs(1),
            ..Tally::default()
        };
        assert!(!is_saturated(&plan, &tally(2_000)));
        plan.pace = Some(Pace {
            shape: Shape::Constant(5),
            arrivals: Arrivals::Even,
        });
        assert!(is_saturated(&plan, &tally(1_900)));
        assert!(!is_saturated(&plan, &tally(1_700)));
        // Looking for work is no work.
        let mut spinning = tally(2_000);
        spinning.looked = Duration::from_millis(300);
        assert!(!is_saturated(&plan, &spinning));
    }

    #[test]
    fn setups_have_a_rule_for_each_direction_and_hop() {
        let asked = HopTally {
            ids_reserved: 50,
            rules_added: 50,
            ids_released: 0,
        };
        let found = SetupFindings {
            hops: 3,
            setups: 10,
            asked,
        };
        assert_eq!((found.rules_each(), found.problem()), (5, None));
        let too_few = HopTally {
            rules_added: 49,
            ..asked
        };
        let taken_back = HopTally {
            ids_released: 1,
            ..asked
        };
        for asked in [too_few, taken_back, HopTally::default()] {
            let problem = SetupFindings { asked, ..found }.problem().unwrap();
            assert!(problem.starts_with("10 setups of 5 rules"), "{problem}");
        }
    }

    #[test]
    fn findings_name_phases_and_kinds() {
        let mut tally = Tally::default();
        tally.cycles[KillPhase::MidFrame.place()] = 30;
        tally.loiters = vec![LoiterTally::default(); 3];
        tally.loiters[1].connected = 2;
        let mut findings = Findings {
            churn: Some(ChurnFindings {
                seconds: 2.0,
                ..ChurnFindings::default()
            }),
            slowloris: Some(SlowlorisFindings::default()),
            ..Findings::default()
        };
        finish(&mut findings, &tally);
        let churn = findings.churn.unwrap();
        assert_eq!(churn.cycles, [("mid-frame", 30)].into());
        assert!((churn.cycles_per_second - 15.0).abs() < 1e-9);
        let slowloris = findings.slowloris.unwrap();
        assert_eq!(slowloris.kinds["trickle"].connected, 2);
        assert_eq!(slowloris.open_at_end, 2);
    }
}
