//! Timer wheel of one shard.
//!
//! Here: a hashed wheel whose cost does not depend on how many sessions exist. Not here: what a timer
//! means. A timer is never cancelled: when it fires, the owner looks whether the deadline still
//! stands and sets another one if not.
//!
//! Invariant: an entry fires at or after its time, at most one tick later than the driver asks.
//! Units: nanoseconds; one tick is 2^27 ns = 134 ms, the horizon 512 ticks = 68.7 s. What lies
//! beyond the horizon is put at its end and looked at again there.

use ringway_proto::time::Now;

use super::event::{SessionKey, StreamKey};

/// Whose deadline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    Session(SessionKey),
    Stream(StreamKey),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    due_tick: u64,
    timer: Timer,
}

#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Vec<Entry>>,
    /// One bit a bucket that has entries.
    occupied: [u64; WORDS],
    /// Ticks before this one have fired.
    tick: u64,
    len: u32,
}

const TICK_SHIFT: u32 = 27;
const BUCKETS: u64 = 512;
const WORDS: usize = 8;

impl Wheel {
    pub(super) fn new(now: Now) -> Self {
        let mut buckets = Vec::new();
        buckets.resize_with(512, Vec::new);
        Self {
            buckets,
            occupied: [0; WORDS],
            tick: now.as_nanos() >> TICK_SHIFT,
            len: 0,
        }
    }

    /// Lets `timer` fire at `due`, or at the next tick when that has passed.
    pub(super) fn insert(&mut self, due: Now, timer: Timer) {
        let due_tick = (due.as_nanos() >> TICK_SHIFT) + 1;
        self.put(Entry { due_tick, timer });
    }

    /// Moves everything due by `now` to `fired`.
    pub(super) fn advance(&mut self, now: Now, fired: &mut Vec<Timer>) {
        let end = now.as_nanos() >> TICK_SHIFT;
        if end < self.tick {
            return;
        }
        // After a jump of more than one turn of the wheel every bucket is looked at once.
        let first = self.tick.max(end.saturating_sub(BUCKETS - 1));
        let mut later = Vec::new();
        for tick in first..=end {
            let bucket = bucket_of(tick);
            if self.occupied[bucket / 64] & (1 << (bucket % 64)) == 0 {
                continue;
            }
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            let entries = std::mem::take(&mut self.buckets[bucket]);
            self.len -= u32::try_from(entries.len()).unwrap_or(u32::MAX);
            for entry in entries {
                if entry.due_tick <= end {
                    fired.push(entry.timer);
                } else {
                    later.push(entry);
                }
            }
        }
        self.tick = end + 1;
        for entry in later {
            self.put(entry);
        }
    }

    /// Returns when [`Wheel::advance`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Now> {
        if self.len == 0 {
            return None;
        }
        (self.tick..self.tick + BUCKETS)
            .find(|tick| {
                let bucket = bucket_of(*tick);
                self.occupied[bucket / 64] & (1 << (bucket % 64)) != 0
            })
            .map(|tick| Now::from_nanos(tick << TICK_SHIFT))
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    fn put(&mut self, entry: Entry) {
        let tick = entry.due_tick.clamp(self.tick, self.tick + BUCKETS - 1);
        let bucket = bucket_of(tick);
        self.buckets[bucket].push(entry);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.len += 1;
    }
}

// The cast is exact: the remainder is below 512.
const fn bucket_of(tick: u64) -> usize {
    (tick % BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn timer(index: u32) -> Timer {
        Timer::Stream(StreamKey {
            index,
            generation: 0,
        })
    }

    proptest! {
        #[test]
        fn each_timer_fires_once_and_never_early(
            dues in proptest::collection::vec(0_u64..200_000, 1..60),
            steps in proptest::collection::vec(1_u64..30_000, 1..60),
        ) {
            let mut wheel = Wheel::new(Now::default());
            for (index, due) in (0_u32..).zip(&dues) {
                wheel.insert(Now::default() + Duration::from_millis(*due), timer(index));
            }
            let mut fired_at = vec![None; dues.len()];
            let mut now_ms = 0;
            for step in steps.into_iter().chain([400_000]) {
                now_ms += step;
                let mut fired = Vec::new();
                wheel.advance(Now::default() + Duration::from_millis(now_ms), &mut fired);
                for timer in fired {
                    let Timer::Stream(key) = timer else { unreachable!("only streams here") };
                    let place = &mut fired_at[key.index as usize];
                    prop_assert!(place.is_none());
                    *place = Some(now_ms);
                }
                for (due, fired) in dues.iter().zip(&fired_at) {
                    if let Some(at) = fired {
                        prop_assert!(at >= due);
                    } else {
                        prop_assert!(now_ms < due + 270, "due {due} not fired at {now_ms}");
                    }
                }
            }
            prop_assert_eq!(wheel.len(), 0);
            prop_assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn next_deadline_reaches_the_timer() {
        let mut wheel = Wheel::new(Now::default());
        wheel.insert(Now::default() + Duration::from_secs(300), timer(1));
        let mut fired = Vec::new();
        let mut wakeups = 0;
        while fired.is_empty() {
            let deadline = wheel.next_deadline().unwrap();
            wheel.advance(deadline, &mut fired);
            wakeups += 1;
            assert!(
                wakeups < 10,
                "a distant timer must not wake the shard often"
            );
        }
    }
}
