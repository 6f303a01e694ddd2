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
use serde::{Deserialize, Serialize};

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

/// Where a run is: what the conductor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instructions {
    phase: u8,
    gate: u32,
    tick: u32,
}

/// What workers tell, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Counts that only grow, in the order of [`Shared::grown`].
    grown: [u64; 5],
    /// Counts that go both ways, and those of workers, in the order of [`Shared::states`].
    states: [u32; 7],
    is_given_up: bool,
}

impl Shared {
    /// Returns where the run is.
    pub(crate) fn instructions(&self) -> Instructions {
        Instructions {
            phase: self.phase.load(Ordering::Acquire),
            gate: self.gate(),
            tick: self.tick(),
        }
    }

    /// Goes where the run is. What lies behind is no news.
    pub(crate) fn follow(&self, instructions: Instructions) {
        self.set_tick(instructions.tick);
        self.set_gate(instructions.gate);
        self.phase.fetch_max(instructions.phase, Ordering::AcqRel);
    }

    /// Returns whether everything is to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase() == Phase::Close
    }

    /// Returns what the workers have done so far. What a worker counts before it says that it has done its
    /// part is in it whenever that word is.
    pub(crate) fn counters(&self) -> Counters {
        let is_given_up = self.is_given_up.load(Ordering::Acquire);
        let states = self.states().map(|state| state.load(Ordering::Acquire));
        let grown = self.grown().map(|count| count.load(Ordering::Acquire));
        Counters {
            grown,
            states,
            is_given_up,
        }
    }

    /// Adds what workers of another process did between two moments.
    pub(crate) fn add(&self, before: &Counters, after: &Counters) {
        for ((count, before), after) in self.grown().iter().zip(before.grown).zip(after.grown) {
            count.fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
        }
        // Adding wraps around, so that what became less is taken away.
        for ((state, before), after) in self.states().iter().zip(before.states).zip(after.states) {
            state.fetch_add(after.wrapping_sub(before), Ordering::AcqRel);
        }
        self.is_given_up
            .fetch_or(after.is_given_up, Ordering::AcqRel);
    }

    const fn grown(&self) -> [&AtomicU64; 5] {
        [
            &self.failures,
            &self.messages_sent,
            &self.messages_received,
            &self.rounds,
            &self.bytes_received,
        ]
    }

    const fn states(&self) -> [&AtomicU32; 7] {
        [
            &self.sessions_up,
            &self.streams_up,
            &self.slow_open,
            &self.slow_deaf,
            &self.workers_drained,
            &self.workers_exhausted,
            &self.workers_settled,
        ]
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
    fn counters_of_processes_add_up_as_they_grow_and_shrink() {
        let (all, one, other) = (Shared::new(None), Shared::new(None), Shared::new(None));
        let mut told = [Counters::default(); 2];
        let carry = |told: &mut [Counters; 2]| {
            for (told, from) in told.iter_mut().zip([&one, &other]) {
                let now = from.counters();
                all.add(told, &now);
                *told = now;
            }
        };
        for (up, down) in [(5, 0), (0, 4), (7, 1)] {
            for _ in 0..up {
                bump(&one.sessions_up);
                bump(&other.sessions_up);
                other.rounds.fetch_add(1, Ordering::AcqRel);
            }
            for _ in 0..down {
                unbump(&one.sessions_up);
            }
            carry(&mut told);
        }
        other.is_given_up.store(true, Ordering::Release);
        carry(&mut told);
        assert_eq!(all.sessions_up.load(Ordering::Acquire), 7 + 12);
        assert_eq!(all.rounds.load(Ordering::Acquire), 12);
        assert!(all.is_given_up.load(Ordering::Acquire));
    }

    #[test]
    fn instructions_lead_forward_only() {
        let (conductor, process) = (Shared::new(None), Shared::new(None));
        conductor.enter(Phase::Warmup);
        conductor.set_gate(1);
        let early = conductor.instructions();
        conductor.enter(Phase::Measure);
        conductor.set_tick(3);
        process.follow(conductor.instructions());
        process.follow(early);
        assert_eq!(process.phase(), Phase::Measure);
        assert_eq!((process.gate(), process.tick()), (1, 3));
        assert!(!process.is_closing());
    }

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
