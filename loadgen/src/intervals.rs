//! A run second by second.
//!
//! Here: what one interval holds, and how the parts of the threads become one. Not here: who looks at
//! the clock (`run`), how intervals are kept (`recording`) or shown (`report`).
//!
//! The conductor counts ticks; a thread that sees a new one hands over what it measured since its last.
//! An interval is complete when every thread has handed over for its tick or a later one, so a thread
//! that is busy for seconds delays intervals and loses nothing.
//!
//! Invariant: the intervals of a run add up to its tally: what comes after the last tick, while messages
//! are still on their way, is an interval of its own.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::latency::Latencies;
use crate::process::ProcessSample;
use crate::sockets::Ledger;

/// What happened between two ticks.
#[derive(Debug, Clone, Default)]
pub struct Interval {
    /// Time from when it began to count.
    pub start: Duration,
    /// How long it is.
    pub length: Duration,
    /// Times of what ended in it.
    pub latencies: Latencies,
    /// Messages that arrived.
    pub messages: u64,
    /// Stream bytes that arrived.
    pub bytes: u64,
    /// Handshakes, opens, connects or round trips that ended.
    pub rounds: u64,
    /// What was seen at its end.
    pub seen: Seen,
}

/// What the conductor sees at the end of an interval.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Number of the phase that it belongs to, from 0; 0 in a run without phases.
    pub phase: u32,
    /// Whether the time that counts was over: only what arrived late is in it.
    pub is_after: bool,
    /// Sessions that stand; where they come and go, those that were made so far.
    pub sessions: u32,
    /// Streams that are open.
    pub streams: u32,
    /// Things that went wrong since the start of the run.
    pub failures: u64,
    /// The relay's process, if its id is known.
    pub relay: Option<ProcessSample>,
    /// The kernel's sockets of the address that is connected to.
    pub sockets: Option<Ledger>,
}

/// What one thread measured between two ticks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contribution {
    pub(crate) thread: usize,
    pub(crate) tick: u32,
    pub(crate) latencies: Latencies,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) rounds: u64,
}

/// Puts the parts together.
#[derive(Debug)]
pub(crate) struct Collector {
    sender: mpsc::Sender<Contribution>,
    receiver: mpsc::Receiver<Contribution>,
    /// Last tick that each thread has handed over for.
    handed: Vec<u32>,
    /// Intervals that are not complete, the oldest first.
    open: VecDeque<Interval>,
    /// Tick of the oldest.
    first: u32,
}

impl Collector {
    pub(crate) fn new(threads: usize) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            sender,
            receiver,
            handed: vec![0; threads],
            open: VecDeque::new(),
            first: 1,
        }
    }

    /// Returns where a thread hands over.
    pub(crate) fn sender(&self) -> mpsc::Sender<Contribution> {
        self.sender.clone()
    }

    /// Notes that an interval has ended; returns its tick.
    pub(crate) fn end(&mut self, start: Duration, length: Duration, seen: Seen) -> u32 {
        self.open.push_back(Interval {
            start,
            length,
            seen,
            ..Interval::default()
        });
        self.first + u32::try_from(self.open.len()).unwrap_or(u32::MAX) - 1
    }

    /// Takes what the threads have handed over; returns the oldest interval if it is complete.
    pub(crate) fn complete(&mut self) -> Option<Interval> {
        for part in self.receiver.try_iter() {
            if let Some(handed) = self.handed.get_mut(part.thread) {
                *handed = part.tick;
            }
            let place = usize::try_from(part.tick.saturating_sub(self.first)).unwrap_or(usize::MAX);
            // A thread that ends hands over for all ticks there will ever be.
            let last = self.open.len().saturating_sub(1);
            if let Some(interval) = self.open.get_mut(place.min(last)) {
                interval.latencies.merge(&part.latencies);
                interval.messages += part.messages;
                interval.bytes += part.bytes;
                interval.rounds += part.rounds;
            }
        }
        if self.handed.iter().any(|handed| *handed < self.first) {
            return None;
        }
        let interval = self.open.pop_front()?;
        self.first += 1;
        Some(interval)
    }

    /// Returns the oldest interval although a thread that has ended will never hand over for it.
    pub(crate) fn give_up(&mut self) -> Option<Interval> {
        self.first += 1;
        self.open.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(thread: usize, tick: u32, messages: u64) -> Contribution {
        let mut latencies = Latencies::default();
        for _ in 0..messages {
            latencies.service.record(Duration::from_millis(1));
        }
        Contribution {
            thread,
            tick,
            latencies,
            messages,
            bytes: 0,
            rounds: 0,
        }
    }

    fn end(collector: &mut Collector, second: u64) -> u32 {
        let start = Duration::from_secs(second);
        collector.end(start, Duration::from_secs(1), Seen::default())
    }

    #[test]
    fn an_interval_waits_for_all_threads() {
        let mut collector = Collector::new(2);
        let sender = collector.sender();
        assert!(collector.complete().is_none());
        let tick = end(&mut collector, 0);
        assert_eq!(tick, 1);
        sender.send(part(0, tick, 3)).unwrap();
        assert!(collector.complete().is_none());
        sender.send(part(1, tick, 4)).unwrap();
        let interval = collector.complete().unwrap();
        assert_eq!(
            (interval.messages, interval.latencies.service.count()),
            (7, 7)
        );
        assert!(collector.complete().is_none());
    }

    #[test]
    fn a_thread_that_misses_a_tick_hands_over_with_the_next() {
        let mut collector = Collector::new(2);
        let sender = collector.sender();
        let first = end(&mut collector, 0);
        sender.send(part(0, first, 1)).unwrap();
        let second = end(&mut collector, 1);
        sender.send(part(0, second, 2)).unwrap();
        sender.send(part(1, second, 5)).unwrap();
        let counts: Vec<_> = std::iter::from_fn(|| collector.complete())
            .map(|interval| (interval.start.as_secs(), interval.messages))
            .collect();
        assert_eq!(counts, [(0, 1), (1, 7)]);
    }

    #[test]
    fn the_last_part_of_a_thread_belongs_to_the_last_interval() {
        let mut collector = Collector::new(1);
        let sender = collector.sender();
        let tick = end(&mut collector, 0);
        sender.send(part(0, tick, 1)).unwrap();
        sender.send(part(0, u32::MAX, 2)).unwrap();
        end(&mut collector, 1);
        let counts: Vec<_> = std::iter::from_fn(|| collector.complete())
            .map(|interval| interval.messages)
            .collect();
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn what_a_dead_thread_owes_is_given_up() {
        let mut collector = Collector::new(2);
        let sender = collector.sender();
        let tick = end(&mut collector, 0);
        sender.send(part(0, tick, 3)).unwrap();
        assert!(collector.complete().is_none());
        assert_eq!(collector.give_up().unwrap().messages, 3);
        assert!(collector.give_up().is_none());
    }
}
