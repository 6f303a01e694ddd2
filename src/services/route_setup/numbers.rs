//! What route setup counts and measures.
//!
//! Here: counters that every shard's service adds to, the time of each phase, how both are shown. Not here:
//! how they get out (`control::metrics`, `control::histograms`).
//!
//! Invariant: `received = current + waiting + done + sum(refused)`, whenever no request is being looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use ringway_proto::reason::Reason;
use ringway_proto::route::Refusal;

use crate::numbers::{Number, Shown};

/// All of them, of all shards.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Setups that were asked for.
    pub(crate) received: Number,
    /// Those that have a permit.
    pub(crate) current: Number,
    /// Those that wait for one.
    pub(crate) waiting: Number,
    /// Those that stand.
    pub(crate) done: Number,
    /// Streams opened to hops.
    pub(crate) hops_opened: Number,
    /// Streams to hops now.
    pub(crate) hops_current: Number,
    /// Streams of askers that ended because something came on them that is no message.
    pub(crate) broken: Number,
    /// Ids that a hop may still hold because it did not say what it has reserved.
    pub(crate) undone_blindly: Number,
    refused: Mutex<BTreeMap<Reason, u64>>,
    phases: Mutex<Phases>,
}

/// Parts of a setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// For a permit.
    Wait,
    /// Until every hop has reserved its ids.
    Reserve,
    /// Until every hop has its rules.
    Rules,
    /// Taking back what was reserved.
    Undo,
    /// All of it, from request to answer.
    Whole,
}

impl Phase {
    /// All phases, in their order.
    pub(crate) const ALL: [Self; 5] = [
        Self::Wait,
        Self::Reserve,
        Self::Rules,
        Self::Undo,
        Self::Whole,
    ];

    /// Returns its name among the histograms.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wait => "setup_wait",
            Self::Reserve => "setup_reserve",
            Self::Rules => "setup_rules",
            Self::Undo => "setup_undo",
            Self::Whole => "setup",
        }
    }

    /// Returns its name as a metric, and what it is.
    pub(crate) const fn metric(self) -> (&'static str, &'static str) {
        match self {
            Self::Wait => (
                "ringway_setup_wait_seconds",
                "Of route setups: from the request to the permit.",
            ),
            Self::Reserve => (
                "ringway_setup_reserve_seconds",
                "Of route setups: until every hop has reserved its ids.",
            ),
            Self::Rules => (
                "ringway_setup_rules_seconds",
                "Of route setups: until every hop has its rules.",
            ),
            Self::Undo => (
                "ringway_setup_undo_seconds",
                "Of route setups that fail: taking back what was reserved.",
            ),
            Self::Whole => (
                "ringway_setup_seconds",
                "Of route setups: from the request to the answer.",
            ),
        }
    }
}

type Phases = BTreeMap<Phase, Histogram<u64>>;

impl Numbers {
    /// Counts hops of whom a setup does not know what they hold.
    pub(super) fn left(&self, hops: usize) {
        let hops = u64::try_from(hops).unwrap_or(u64::MAX);
        self.undone_blindly.add(hops);
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, refusal: &Refusal) {
        let reason = refusal.reason().unwrap_or(Reason::ProtocolError);
        *lock(&self.refused).entry(reason).or_insert(0) += 1;
    }

    /// Records how long a phase took.
    pub(crate) fn record(&self, phase: Phase, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut phases = lock(&self.phases);
        if let Some(histogram) = phases.get_mut(&phase) {
            histogram.saturating_record(us.max(1));
        } else if let Ok(mut histogram) = Histogram::new_with_bounds(1, LONGEST_US, 3) {
            histogram.saturating_record(us.max(1));
            phases.insert(phase, histogram);
        }
    }

    /// Returns the refusals by reason.
    pub(crate) fn refused(&self) -> BTreeMap<Reason, u64> {
        lock(&self.refused).clone()
    }

    /// Returns the times of a phase, if there were any, microseconds.
    pub(crate) fn phase_us(&self, phase: Phase) -> Option<Histogram<u64>> {
        lock(&self.phases).get(&phase).cloned()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers that are shown.
pub(crate) const SHOWN: &[Shown<Numbers>] = &[
    Shown::counter(
        "ringway_setups_received_total",
        "Route setups that peers asked for. setups_received = setups_current + setups_waiting + setups_done + sum(setups_refused)",
        |numbers| numbers.received.read(),
    ),
    Shown::gauge(
        "ringway_setups_current",
        "Route setups that have a permit (services.setups_max).",
        |numbers| numbers.current.read(),
    ),
    Shown::gauge(
        "ringway_setups_waiting_current",
        "Route setups that wait for a permit (services.setups_waiting_max).",
        |numbers| numbers.waiting.read(),
    ),
    Shown::counter(
        "ringway_setups_done_total",
        "Route setups after which the routes stood.",
        |numbers| numbers.done.read(),
    ),
    Shown::counter(
        "ringway_setup_hops_opened_total",
        "Streams that the relay opened to hops of routes.",
        |numbers| numbers.hops_opened.read(),
    ),
    Shown::gauge(
        "ringway_setup_hops_current",
        "Streams to hops of routes now; an idle one ends after some seconds.",
        |numbers| numbers.hops_current.read(),
    ),
    Shown::counter(
        "ringway_setup_streams_broken_total",
        "Streams of askers that ended because something came on them that is no message, or no call.",
        |numbers| numbers.broken.read(),
    ),
    Shown::counter(
        "ringway_setups_undone_blindly_total",
        "Hops that were left without knowing what they had reserved; they forget it after 10 s.",
        |numbers| numbers.undone_blindly.read(),
    ),
];

/// Longest time that is told apart from longer ones.
const LONGEST_US: u64 = 60_000_000;
