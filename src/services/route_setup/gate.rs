//! Permit before work: how many setups run at once, and who waits.
//!
//! Here: the slots of one shard and the bounded queue before them. Not here: what is done with a slot.
//!
//! ```text
//!   enter: a slot is free ------> Go, with the permit
//!          none, queue has room -> Waits: nothing is started, the work lies in the queue
//!          none, queue full -----> Full: the work comes back at once
//!   leave: the permit goes to the first that waits, or back
//! ```
//!
//! Invariant: permits out + free slots = all slots; work waits only while no slot is free.
//! Bound: `slots` permits, `waiting_max` in the queue.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Slots for work of one kind.
#[derive(Debug)]
pub(super) struct Gate<T> {
    inner: Mutex<Inner<T>>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    free: usize,
    waiting: VecDeque<T>,
}

/// The right to do one piece of work. Dropping it gives the slot back.
#[derive(Debug)]
#[must_use = "a dropped permit gives its slot back"]
pub(super) struct Permit<T> {
    gate: Arc<Gate<T>>,
}

/// What becomes of work that asks for a slot.
#[derive(Debug)]
pub(super) enum Entry<T> {
    /// It has none, and there is no room to wait.
    Full(T),
    /// It has one.
    Go(Permit<T>, T),
    /// It will have one.
    Waits,
}

impl<T> Gate<T> {
    /// Returns a gate with all slots free.
    pub(super) fn new(slots: usize, waiting_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                free: slots,
                waiting: VecDeque::new(),
            }),
            waiting_max,
        })
    }

    /// Asks for a slot.
    pub(super) fn enter(self: &Arc<Self>, work: T) -> Entry<T> {
        let mut inner = self.lock();
        if inner.free > 0 {
            inner.free -= 1;
            // Somebody may wait although a slot is free, when the one before was dropped and not left.
            let work = match inner.waiting.pop_front() {
                None => work,
                Some(first) => {
                    inner.waiting.push_back(work);
                    first
                }
            };
            let gate = Arc::clone(self);
            return Entry::Go(Permit { gate }, work);
        }
        if inner.waiting.len() >= self.waiting_max {
            return Entry::Full(work);
        }
        inner.waiting.push_back(work);
        Entry::Waits
    }

    /// Returns how many wait.
    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Permit<T> {
    /// Passes the slot to the first that waits; gives it back when nobody does.
    pub(super) fn leave(self) -> Option<(Self, T)> {
        let next = self.gate.lock().waiting.pop_front()?;
        Some((self, next))
    }
}

impl<T> Drop for Permit<T> {
    fn drop(&mut self) {
        self.gate.lock().free += 1;
    }
}

/// Returns the part of one shard of something that all share, evenly.
pub(in crate::services) fn slots_of(shard: u16, shards_count: u16, all: u32) -> usize {
    let count = u32::from(shards_count.max(1));
    let more = u32::from(u32::from(shard) < all % count);
    usize::try_from(all / count + more).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn full_gate_starts_nothing_and_a_full_queue_says_so_at_once() {
        let gate = Gate::new(1, 1);
        let Entry::Go(permit, 1) = gate.enter(1) else {
            panic!("a slot was free");
        };
        assert!(matches!(gate.enter(2), Entry::Waits));
        assert!(matches!(gate.enter(3), Entry::Full(3)));
        let (permit, work) = permit.leave().expect("somebody waits");
        assert_eq!(work, 2);
        assert!(permit.leave().is_none());
        assert!(matches!(gate.enter(4), Entry::Go(_, 4)));
    }

    #[test]
    fn slots_add_up() {
        for shards in 1..=20_u16 {
            let sum: usize = (0..shards).map(|shard| slots_of(shard, shards, 20)).sum();
            assert_eq!(sum, 20, "{shards} shards");
        }
        assert_eq!((slots_of(19, 256, 20), slots_of(20, 256, 20)), (1, 0));
    }

    proptest! {
        #[test]
        fn slots_are_never_lost_and_work_goes_in_order(
            slots in 1_usize..4,
            waiting_max in 0_usize..4,
            steps in proptest::collection::vec(0_u8..3, 0..200),
        ) {
            let gate = Gate::new(slots, waiting_max);
            let mut permits = Vec::new();
            let mut started = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match (step, permits.pop()) {
                    (0, last) => {
                        permits.extend(last);
                        match gate.enter(number) {
                            Entry::Go(permit, work) => {
                                permits.push(permit);
                                started.push(work);
                            }
                            Entry::Waits => prop_assert!(gate.waiting_count() <= waiting_max),
                            Entry::Full(work) => {
                                prop_assert_eq!(work, number);
                                prop_assert_eq!(gate.waiting_count(), waiting_max);
                            }
                        }
                    }
                    (1, Some(permit)) => if let Some((permit, work)) = Permit::leave(permit) {
                        permits.push(permit);
                        started.push(work);
                    },
                    // A permit that is dropped by whoever fails.
                    (_, permit) => drop(permit),
                }
                prop_assert_eq!(gate.lock().free + permits.len(), slots);
            }
            let mut sorted = started.clone();
            sorted.sort_unstable();
            prop_assert_eq!(started, sorted, "first come, first served");
        }
    }
}
