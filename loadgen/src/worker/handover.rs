//! What a thread measured, handed over interval by interval.
//!
//! Here: the thread's side. Not here: how the parts of all threads become an interval (`intervals`).
//!
//! Invariant: at the end the tally holds everything again, whatever was handed over before.

use std::sync::mpsc;

use super::Worker;
use crate::intervals::Contribution;
use crate::latency::Latencies;

/// The thread's side of the intervals.
#[derive(Debug)]
pub(super) struct Handover {
    sender: mpsc::Sender<Contribution>,
    tick: u32,
    /// Times that were handed over.
    latencies: Latencies,
    /// Messages, bytes and rounds that were.
    counts: [u64; 3],
}

impl Handover {
    pub(super) fn new(sender: mpsc::Sender<Contribution>) -> Self {
        Self {
            sender,
            tick: 0,
            latencies: Latencies::default(),
            counts: [0; 3],
        }
    }

    /// The time that counts begins.
    pub(super) fn begin(&mut self) {
        self.latencies.reset();
        self.counts = [0; 3];
    }
}

impl Worker {
    /// Hands over when the conductor has ended an interval.
    #[inline]
    pub(super) fn hand_over_if_asked(&mut self) {
        let tick = self.shared.tick();
        if tick > self.handover.tick {
            self.hand_over(tick);
        }
    }

    /// Hands over what came behind the last interval, and makes the tally whole.
    pub(super) fn hand_over_the_rest(&mut self) {
        self.hand_over(u32::MAX);
        std::mem::swap(&mut self.tally.latencies, &mut self.handover.latencies);
    }

    fn hand_over(&mut self, tick: u32) {
        let latencies = std::mem::take(&mut self.tally.latencies);
        self.handover.latencies.merge(&latencies);
        let counts = [self.tally.messages, self.tally.bytes, self.tally.rounds];
        let before = std::mem::replace(&mut self.handover.counts, counts);
        let part = Contribution {
            thread: super::place(self.index),
            tick,
            latencies,
            messages: counts[0].saturating_sub(before[0]),
            bytes: counts[1].saturating_sub(before[1]),
            rounds: counts[2].saturating_sub(before[2]),
        };
        self.handover.tick = tick;
        // The conductor may have given up.
        drop(self.handover.sender.send(part));
    }
}
