//! When intervals end, and what is seen then.
//!
//! Here: the conductor's side. Not here: putting parts together (`intervals`).

use std::time::{Duration, Instant};

use super::{News, Run};
use crate::intervals::Seen;
use crate::process::ProcessSample;
use crate::sockets::Ledger;

/// Length of an interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// Share of the time that reading the kernel's list of sockets may take: one part of so many.
const LEDGER_PART: u32 = 50;

impl Run<'_> {
    /// Ends the present interval when it is long enough, and tells those that are complete.
    pub(super) fn look_at_clock(&mut self) {
        let now = Instant::now();
        let is_over = |(_, start): (Instant, Instant)| {
            now.saturating_duration_since(start) >= INTERVAL || self.phases.is_over(now)
        };
        if self.clock.is_some_and(is_over) {
            self.end_interval();
        }
        while let Some(interval) = self.collector.complete() {
            (self.report)(News::Interval(&interval));
        }
    }

    pub(super) fn end_interval(&mut self) {
        let Some((zero, start)) = self.clock else {
            return;
        };
        let now = Instant::now();
        let is_last =
            self.phases.is_over(now) || self.phases.left_in_all(now) == Some(Duration::ZERO);
        let seen = self.see(is_last);
        let tick = self.collector.end(start - zero, now - start, seen);
        self.clock = Some((zero, now));
        self.phases.enter(now);
        self.shared.set_tick(tick);
        self.wake_all();
    }

    /// All threads have ended: what is left is complete, or never will be.
    pub(super) fn tell_the_rest(&mut self) {
        if let Some((zero, start)) = self.clock.take() {
            // What arrived while the run drained.
            let seen = Seen {
                is_after: true,
                ..self.see(false)
            };
            self.collector.end(start - zero, start.elapsed(), seen);
        }
        while let Some(interval) = self
            .collector
            .complete()
            .or_else(|| self.collector.give_up())
        {
            (self.report)(News::Interval(&interval));
        }
    }

    /// Looks around; at the end of a phase also where that costs time.
    fn see(&mut self, is_last: bool) -> Seen {
        let progress = self.progress();
        let relay = self
            .plan
            .relay_pid
            .and_then(|pid| ProcessSample::take(pid).ok());
        Seen {
            phase: self.phases.number,
            is_after: false,
            sessions: progress.sessions,
            streams: progress.streams,
            failures: progress.failures,
            relay,
            sockets: self.look_at_sockets(is_last),
        }
    }

    /// Keeps the most that was seen waiting in the kernel.
    pub(super) fn note_queues(&mut self, ledger: Option<&Ledger>) {
        if let Some(ledger) = ledger {
            let before = self.queues.unwrap_or_default();
            self.queues = Some(before.max(ledger.queues));
        }
    }

    /// Counts the sockets of the target, unless their number makes that a load of its own.
    fn look_at_sockets(&mut self, is_last: bool) -> Option<Ledger> {
        if !is_last && self.sockets_again.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let begun = Instant::now();
        let ledger = Ledger::take(self.plan.target.socket()).ok();
        self.note_queues(ledger.as_ref());
        self.sockets_again = Some(begun + begun.elapsed() * LEDGER_PART);
        ledger
    }
}
