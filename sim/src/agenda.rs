//! What is to happen, in order: by time, then in the order in which it was planned, so that equal times do
//! not depend on the queue.
//!
//! Here: the queue of events of any kind, and how a line of the trace looks. Not here: the kinds.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::Write;

use crate::options::SECOND;

/// Events that are still to happen.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    planned: BinaryHeap<Planned<E>>,
    /// Of all that were ever planned.
    count: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) const fn new() -> Self {
        Self {
            planned: BinaryHeap::new(),
            count: 0,
        }
    }

    /// Plans an event.
    pub(crate) fn plan(&mut self, at: u64, event: E) {
        self.count += 1;
        let number = self.count;
        self.planned.push(Planned { at, number, event });
    }

    /// Takes the next event with its time, unless that is behind `until`.
    pub(crate) fn next(&mut self, until: u64) -> Option<(u64, E)> {
        if self.planned.peek()?.at > until {
            return None;
        }
        self.planned.pop().map(|next| (next.at, next.event))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    /// Reversed: the heap gives the earliest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Prints a line of the trace.
pub(crate) fn print_trace(now: u64, line: &str) {
    let (seconds, nanos) = (now / SECOND, now % SECOND);
    // A closed pipe ends the reader's interest, not the run.
    drop(writeln!(
        std::io::stderr().lock(),
        "{seconds}.{nanos:09} {line}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_times_keep_the_order_of_planning() {
        let mut agenda = Agenda::new();
        for (at, event) in [(7, 'c'), (5, 'a'), (5, 'b'), (9, 'd')] {
            agenda.plan(at, event);
        }
        let taken: Vec<_> = std::iter::from_fn(|| agenda.next(7)).collect();
        assert_eq!(taken, [(5, 'a'), (5, 'b'), (7, 'c')]);
        assert_eq!(agenda.next(u64::MAX), Some((9, 'd')));
        assert_eq!(agenda.next(u64::MAX), None);
    }
}
