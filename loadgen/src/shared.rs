//! What the threads of a run tell each other.
//!
//! Here: the phase, which only the conductor moves, and counters, which only workers move. Not here:
//! measurements; each worker keeps its own and hands them over at the end.
//!
//! Invariant: phases and gates only go forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use ringway_proto::time::Now;

use crate::plan::RateLine;

/// What all workers do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Sessions are made.
    Connect,
    /// Streams are opened.
    Open,
    /// Load runs and does not count.
    Warmup,
    /// Load runs and counts.
    Measure,
    /// Nothing new is sent; what is on its way arrives.
    Drain,
    /// Everything is closed.
    Close,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Connect,
        Self::Open,
        Self::Warmup,
        Self::Measure,
        Self::Drain,
        Self::Close,
    ];

    /// Returns whether load runs.
    pub(crate) const fn is_loaded(self) -> bool {
        matches!(self, Self::Warmup | Self::Measure)
    }
}

/// The state all threads of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    epoch: Instant,
    /// How the rate goes over time, if events begin by the clock.
    pub(crate) line: Option<Arc<RateLine>>,
    phase: AtomicU8,
    /// Sessions that stand, or connections in plain runs.
    pub(crate) sessions_up: AtomicU32,
    /// Streams that are open.
    pub(crate) streams_up: AtomicU32,
    /// Things that went wrong, of any kind.
    pub(crate) failures: AtomicU64,
    /// Messages sent and received since the start, for the end of a plain run and for progress.
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    /// Handshakes or opens done, for progress.
    pub(crate) rounds: AtomicU64,
    /// Stream bytes received since the start.
    pub(crate) bytes_received: AtomicU64,
    /// Number of the present interval; a worker that sees a new one hands over what it measured.
    tick: AtomicU32,
    /// Workers that have nothing on its way any more.
    pub(crate) workers_drained: AtomicU32,
    /// Number of the present gate; the conductor opens and closes rounds and windows with it. Odd in a
    /// round of a churn, even with slow readers.
    gate: AtomicU32,
    /// Workers that have killed their share of cycles, summed over rounds.
    pub(crate) workers_exhausted: AtomicU32,
    /// Workers that have nothing of a round any more, summed over rounds.
    pub(crate) workers_settled: AtomicU32,
    /// Slow sessions that are not closed.
    pub(crate) slow_open: AtomicU32,
    /// Slow sessions that do not read any more.
    pub(crate) slow_deaf: AtomicU32,
    /// Whether a worker saw that going on makes no sense.
    pub(crate) is_given_up: AtomicBool,
}

impl Shared {
    pub(crate) fn new(line: Option<RateLine>) -> Self {
        Self {
            epoch: Instant::now(),
            line: line.map(Arc::new),
            phase: AtomicU8::new(0),
            sessions_up: AtomicU32::new(0),
            streams_up: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            tick: AtomicU32::new(0),
            workers_drained: AtomicU32::new(0),
            gate: AtomicU32::new(0),
            workers_exhausted: AtomicU32::new(0),
            workers_settled: AtomicU32::new(0),
            slow_open: AtomicU32::new(0),
            slow_deaf: AtomicU32::new(0),
            is_given_up: AtomicBool::new(false),
        }
    }

    /// Reads the clock of the run.
    #[inline]
    pub(crate) fn now(&self) -> Now {
        let nanos = self.epoch.elapsed().as_nanos();
        Now::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        let index = usize::from(self.phase.load(Ordering::Acquire));
        Phase::ALL.get(index).copied().unwrap_or(Phase::Close)
    }

    /// Returns the number of the present gate.
    #[inline]
    pub(crate) fn gate(&self) -> u32 {
        self.gate.load(Ordering::Acquire)
    }

    pub(crate) fn set_gate(&self, gate: u32) {
        self.gate.fetch_max(gate, Ordering::AcqRel);
    }

    /// Returns the number of the present interval.
    #[inline]
    pub(crate) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Acquire)
    }

    pub(crate) fn set_tick(&self, tick: u32) {
        self.tick.fetch_max(tick, Ordering::AcqRel);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let index = Phase::ALL.iter().position(|other| *other == phase);
        let index = index.and_then(|index| u8::try_from(index).ok());
        self.phase
            .fetch_max(index.unwrap_or(u8::MAX), Ordering::AcqRel);
    }
}

/// Adds to a counter that only tells progress.
#[inline]
pub(crate) fn bump(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::AcqRel);
}

/// Takes back what [`bump`] added.
#[inline]
pub(crate) fn unbump(counter: &AtomicU32) {
    counter.fetch_sub(1, Ordering::AcqRel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_go_forward() {
        let shared = Shared::new(None);
        for phase in Phase::ALL {
            shared.enter(phase);
            assert_eq!(shared.phase(), phase);
        }
        shared.enter(Phase::Connect);
        assert_eq!(shared.phase(), Phase::Close);
    }
}
