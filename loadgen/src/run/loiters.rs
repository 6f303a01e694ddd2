//! Holding connections that never finish their handshake.
//!
//! Here: the time they are held, the relay's memory meanwhile. Not here: the connections
//! (`worker::loiter`).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{News, REPORT_TIME, Run, RunError, STALL_TIME, Special};
use crate::findings::{Findings, SlowlorisFindings};
use crate::plan::Plan;
use crate::report::float;
use crate::tally::Tally;

impl Run<'_> {
    /// Makes the connections and holds them for the plan's time from the last one on, or until the relay
    /// has ended all of them.
    pub(super) fn conduct_loiters(&mut self) -> Result<Special, RunError> {
        let plan = Arc::clone(&self.plan);
        let mut special = Special::complete();
        let (mut begun, mut told) = (Instant::now(), Instant::now());
        let mut last = (0, Instant::now());
        let mut found = SlowlorisFindings::default();
        loop {
            let progress = self.progress();
            let connected = u64::from(progress.sessions);
            let open = connected.saturating_sub(progress.rounds);
            // The plateau is the look with most connections; of several, the last.
            if open > 0 && open >= found.open_most {
                found.open_most = open;
                found.rss_plateau_bytes = self.look()?.map(|sample| sample.rss_bytes);
            }
            let made = connected + progress.failures;
            let is_all = made >= u64::from(plan.sessions);
            if made != last.0 {
                last = (made, Instant::now());
                begun = last.1;
            }
            if !is_all && last.1.elapsed() > STALL_TIME {
                special.is_complete = false;
                let problem = format!(
                    "{made} of {} connections: no progress for 10 s",
                    plan.sessions
                );
                special.problems.push(problem);
                break;
            }
            if is_all && (open == 0 || begun.elapsed() >= plan.duration) {
                break;
            }
            if self.is_interrupted() || self.crew.has_ended() {
                special.is_complete = false;
                break;
            }
            if told.elapsed() >= REPORT_TIME {
                told = Instant::now();
                (self.report)(News::Progress(progress));
            }
            self.look_at_clock();
            thread::sleep(LOOK_TIME);
        }
        let before = self.before.map(|sample| sample.rss_bytes);
        found.rss_bytes_per_socket = match (before, found.rss_plateau_bytes) {
            (Some(before), Some(plateau)) if found.open_most > 0 => {
                Some((float(plateau) - float(before)) / float(found.open_most))
            }
            _ => None,
        };
        special.findings = Findings {
            slowloris: Some(found),
            ..Findings::default()
        };
        Ok(special)
    }
}

/// Returns what is wrong with the lives of the connections.
pub(super) fn problem(plan: &Plan, tally: &Tally) -> Option<String> {
    let open = open_at_end(tally);
    (open > 0 && plan.duration > LIFE_MAX).then(|| {
        format!(
            "connections without a handshake that the relay still held after {:?}: {open}",
            plan.duration
        )
    })
}

/// Returns the connections that the relay had not ended.
pub(super) fn open_at_end(tally: &Tally) -> u64 {
    let kinds = tally.loiters.iter();
    kinds
        .map(|kind| kind.connected.saturating_sub(kind.ends.total()))
        .sum()
}

/// Longest life of a handshake that never ends: the 5 s that the protocol allows, and 2 s for a machine
/// that is busy with thousands of them.
const LIFE_MAX: Duration = Duration::from_secs(7);
/// Time between two looks at the relay's memory.
const LOOK_TIME: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::LoiterTally;

    #[test]
    fn connections_that_were_not_ended_are_counted() {
        let mut tally = Tally::default();
        assert_eq!(open_at_end(&tally), 0);
        let mut kind = LoiterTally {
            connected: 3,
            ..LoiterTally::default()
        };
        kind.ends.count("reset");
        tally.loiters = vec![kind; 2];
        assert_eq!(open_at_end(&tally), 4);
    }
}
