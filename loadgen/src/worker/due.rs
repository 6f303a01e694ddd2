//! What is due by the clock and has not begun: cycles, handshakes, opens.
//!
//! Here: the queue between the schedule and whoever has a place for the next one. Not here: messages;
//! each stream has its own queue (`output`).
//!
//! Bound: [`BACKLOG_MAX`] events of 8 bytes.

use std::collections::VecDeque;

use ringway_proto::time::Now;

use crate::latency::Times;
use crate::schedule::{BACKLOG_MAX, Schedule};

/// Events taken from the schedule before the ring is looked at again.
const RELEASE_QUANTUM: usize = 1_024;

/// Events that are due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Without one, something is always due.
    schedule: Option<Schedule>,
    times: VecDeque<Now>,
}

impl Due {
    /// Begins anew: with a schedule, or with something always due.
    pub(super) fn start(&mut self, schedule: Option<Schedule>) {
        self.schedule = schedule;
        self.times.clear();
    }

    /// Ends the schedule; what is due stays.
    pub(super) fn stop(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.stop();
        }
    }

    /// Notes up to `count` events that have become due, and how late that was noticed.
    pub(super) fn release(&mut self, now: Now, count: u64, lag: &mut Times) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for _ in 0..count.min(RELEASE_QUANTUM) {
            if schedule.due() > now || self.times.len() == BACKLOG_MAX {
                return;
            }
            let due = schedule.take();
            lag.record(now.saturating_since(due));
            self.times.push_back(due);
        }
    }

    /// Returns whether an event may begin.
    pub(super) fn is_any(&self) -> bool {
        self.schedule.is_none() || !self.times.is_empty()
    }

    /// Takes an event; returns when it was due, if there is a clock.
    pub(super) fn take(&mut self) -> Option<Now> {
        self.times.pop_front()
    }

    /// Returns how many events wait.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Returns when the next event becomes due, if there is a clock.
    pub(super) fn next_at(&self) -> Option<Now> {
        self.schedule.as_ref().map(Schedule::due)
    }
}
