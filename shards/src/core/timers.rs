//! Timer wheel of one shard.
//!
//! Here: a hashed wheel whose cost does not depend on how many timers exist: setting, cancelling and
//! firing one are each a few pointer moves. Not here: what a timer means.
//!
//! ```text
//!   buckets, one a tick:   [ 0 ][ 1 ][ 2 ] ... [ 511 ]      each the head of a doubly linked list
//!                                  |
//!   nodes, one a timer:          node <-> node <-> node     in one table, free ones chained
//! ```
//!
//! Invariant: a timer exists exactly as long as its owner holds the [`TimerKey`]: an owner that ends
//! cancels it, so nothing is left behind that fires for nobody. A timer fires at or after its time, at
//! most one tick later than the driver asks, and once.
//! Bound: one timer a session, one a stream and one a dial; 32 bytes each.
//! Units: nanoseconds; one tick is 2^27 ns = 134 ms, the horizon 511 ticks = 68.6 s. What lies
//! beyond the horizon is put at its end and looked at again there.

use ringway_proto::time::Now;

use super::dial::DialKey;
use super::event::{SessionKey, StreamKey};

/// Whose deadline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    Dial(DialKey),
    /// Number of a wanted relay.
    Link(u32),
    Session(SessionKey),
    Stream(StreamKey),
}

/// What its owner holds of a timer that has not fired. Not `Copy`: there is one for each timer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    due_tick: u64,
    timer: Timer,
    /// Incremented when the node is freed, so that a key that was kept too long is noticed.
    generation: u32,
    bucket: u16,
    older: u32,
    newer: u32,
}

/// The nodes of one tick, in the order in which they were put there.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Vec<Bucket>,
    /// One bit a bucket that has nodes.
    occupied: [u64; WORDS],
    nodes: Vec<Node>,
    idle: Vec<u32>,
    /// Ticks before this one have fired.
    tick: u64,
    /// The first tick after the time last seen: nothing new fires before it.
    floor: u64,
    len: u32,
    /// Generation of a node that is new to the table: no key of a trimmed one has it.
    generation_floor: u32,
}

const TICK_SHIFT: u32 = 27;
const BUCKETS: u64 = 512;
const WORDS: usize = 8;
/// Ticks ahead of the present one that a node may be put: less than the buckets, so that a node that is
/// put back never lands in the bucket that is being emptied.
const HORIZON: u64 = BUCKETS - 1;
/// Nodes kept for the next timers when none is left.
const IDLE_NODES_MAX: usize = 1_024;
const NONE: u32 = u32::MAX;
const EMPTY: Bucket = Bucket {
    oldest: NONE,
    newest: NONE,
};

impl Wheel {
    /// Memory of one timer: its node, and its place in the list of idle ones.
    pub(super) const ENTRY_BYTES: usize = size_of::<Node>() + size_of::<u32>();

    pub(super) fn new(now: Now) -> Self {
        let tick = now.as_nanos() >> TICK_SHIFT;
        Self {
            buckets: vec![EMPTY; WORDS * 64],
            occupied: [0; WORDS],
            nodes: Vec::new(),
            idle: Vec::new(),
            tick,
            floor: tick,
            len: 0,
            generation_floor: 0,
        }
    }

    /// Lets `timer` fire at `due`, or at the next tick when that has passed, instead of the timer that
    /// `key` names.
    ///
    /// # Panics
    /// As for [`Wheel::cancel`].
    pub(super) fn set(&mut self, key: &mut Option<TimerKey>, due: Now, timer: Timer) {
        self.cancel(key);
        let due_tick = ((due.as_nanos() >> TICK_SHIFT) + 1).max(self.floor);
        let node = Node {
            due_tick,
            timer,
            generation: self.generation_floor,
            bucket: 0,
            older: NONE,
            newer: NONE,
        };
        let index = match self.idle.pop() {
            Some(index) => {
                let place = &mut self.nodes[place_of(index)];
                *place = Node {
                    generation: place.generation,
                    ..node
                };
                index
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        self.len += 1;
        let generation = self.nodes[place_of(index)].generation;
        self.link(index);
        *key = Some(TimerKey { index, generation });
    }

    /// Takes the timer back that `key` names, if any.
    ///
    /// # Panics
    /// When the timer has fired: its owner must forget the key then ([`Wheel::pop_due`]).
    pub(super) fn cancel(&mut self, key: &mut Option<TimerKey>) {
        let Some(TimerKey { index, generation }) = key.take() else {
            return;
        };
        assert!(
            self.nodes[place_of(index)].generation == generation,
            "a timer was cancelled after it had fired"
        );
        self.unlink(index);
        self.free(index);
    }

    /// Returns a timer that is due by `now`; its owner must forget the key it holds.
    pub(super) fn pop_due(&mut self, now: Now) -> Option<Timer> {
        let end = now.as_nanos() >> TICK_SHIFT;
        self.floor = self.floor.max(end + 1);
        if self.len == 0 {
            self.tick = self.floor;
        }
        while self.tick <= end {
            let bucket = bucket_of(self.tick);
            let index = self.buckets[bucket].oldest;
            if index == NONE {
                self.tick += 1;
                continue;
            }
            self.unlink(index);
            let node = self.nodes[place_of(index)];
            if node.due_tick <= end {
                self.free(index);
                return Some(node.timer);
            }
            // Beyond the horizon when it was put here: further on, since it is due after `end`.
            self.link(index);
        }
        None
    }

    /// Returns when [`Wheel::pop_due`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Now> {
        if self.len == 0 {
            return None;
        }
        // Once around from the present bucket, word by word: the loop asks in every turn, and on a quiet
        // shard the next timer is hundreds of buckets away.
        let (first, behind) = (bucket_of(self.tick) / 64, self.tick % 64);
        (0_u64..).zip(0..=WORDS).find_map(|(step, place)| {
            let mut word = self.occupied[(first + place) % WORDS];
            if place == 0 {
                word &= u64::MAX << behind;
            }
            let tick = self.tick - behind + step * 64 + u64::from(word.trailing_zeros());
            (word != 0).then(|| Now::from_nanos(tick << TICK_SHIFT))
        })
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Puts a node at the end of the list of its tick.
    fn link(&mut self, index: u32) {
        let due_tick = self.nodes[place_of(index)].due_tick;
        let tick = due_tick.clamp(self.tick, self.tick + HORIZON);
        let number = bucket_of(tick);
        let bucket = &mut self.buckets[number];
        let older = std::mem::replace(&mut bucket.newest, index);
        if older == NONE {
            bucket.oldest = index;
            self.occupied[number / 64] |= 1 << (number % 64);
        } else {
            self.nodes[place_of(older)].newer = index;
        }
        let node = &mut self.nodes[place_of(index)];
        node.bucket = u16::try_from(number).unwrap_or(0);
        (node.older, node.newer) = (older, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            bucket,
            older,
            newer,
            ..
        } = self.nodes[place_of(index)];
        let number = usize::from(bucket);
        match older {
            NONE => self.buckets[number].oldest = newer,
            older => self.nodes[place_of(older)].newer = newer,
        }
        match newer {
            NONE => self.buckets[number].newest = older,
            newer => self.nodes[place_of(newer)].older = older,
        }
        if self.buckets[number].oldest == NONE {
            self.occupied[number / 64] &= !(1 << (number % 64));
        }
    }

    fn free(&mut self, index: u32) {
        let node = &mut self.nodes[place_of(index)];
        node.generation = node.generation.wrapping_add(1);
        self.idle.push(index);
        self.len -= 1;
        if self.len == 0 && self.nodes.len() > IDLE_NODES_MAX {
            // A burst of sessions has gone: so does what it needed. No key is left that names a node.
            self.nodes = Vec::new();
            self.idle = Vec::new();
        }
    }

    /// Gives back the memory of idle nodes behind the last one in use.
    pub(super) fn trim(&mut self) {
        let mut is_idle = vec![false; self.nodes.len()];
        for index in &self.idle {
            is_idle[place_of(*index)] = true;
        }
        let in_use = is_idle.iter().rposition(|is_idle| !is_idle);
        let len = in_use.map_or(0, |last| last + 1);
        for node in self.nodes.drain(len..) {
            self.generation_floor = self.generation_floor.max(node.generation);
        }
        self.nodes.shrink_to_fit();
        self.idle.retain(|index| place_of(*index) < len);
        self.idle.shrink_to_fit();
    }
}

// The cast is exact: the remainder is below 512.
const fn bucket_of(tick: u64) -> usize {
    (tick % BUCKETS) as usize
}

fn place_of(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
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

    fn number(timer: Timer) -> usize {
        let Timer::Stream(key) = timer else {
            unreachable!("only streams here")
        };
        key.index as usize
    }

    fn at_ms(ms: u64) -> Now {
        Now::default() + Duration::from_millis(ms)
    }

    /// What is done to one timer, and how much later.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Cancel(usize),
        Pass(u64),
        Set(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_usize..20).prop_map(Step::Cancel),
            prop_oneof![1_u64..2_000, 1_u64..200_000].prop_map(Step::Pass),
            (0_usize..20, 0_u64..200_000).prop_map(|(timer, after)| Step::Set(timer, after)),
        ]
    }

    proptest! {
        #[test]
        fn each_timer_that_stands_fires_once_and_never_early(
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let mut wheel = Wheel::new(Now::default());
            let mut keys: Vec<Option<TimerKey>> = (0..20).map(|_| None).collect();
            let mut dues: Vec<Option<u64>> = vec![None; 20];
            let mut now_ms = 0;
            for step in steps.into_iter().chain([Step::Pass(400_000), Step::Pass(300)]) {
                match step {
                    Step::Cancel(timer) => {
                        wheel.cancel(&mut keys[timer]);
                        dues[timer] = None;
                    }
                    Step::Pass(ms) => {
                        now_ms += ms;
                        while let Some(fired) = wheel.pop_due(at_ms(now_ms)) {
                            let timer = number(fired);
                            keys[timer] = None;
                            let due = dues[timer].take();
                            prop_assert!(due.is_some(), "fired after its cancel, or twice");
                            prop_assert!(due.is_some_and(|due| now_ms >= due));
                        }
                        for due in dues.iter().flatten() {
                            prop_assert!(now_ms < due + 270, "due {} at {}", due, now_ms);
                        }
                    }
                    Step::Set(place, after_ms) => {
                        let due_ms = now_ms + after_ms;
                        let name = timer(u32::try_from(place).unwrap());
                        wheel.set(&mut keys[place], at_ms(due_ms), name);
                        dues[place] = Some(due_ms);
                    }
                }
                let standing = dues.iter().flatten().count();
                prop_assert_eq!(wheel.len() as usize, standing);
                let mut ticks = wheel.tick..wheel.tick + BUCKETS;
                let next = ticks.find(|tick| wheel.buckets[bucket_of(*tick)].oldest != NONE);
                prop_assert_eq!(next.is_some(), standing > 0);
                prop_assert_eq!(
                    wheel.next_deadline(),
                    next.map(|tick| Now::from_nanos(tick << TICK_SHIFT))
                );
            }
            prop_assert_eq!(wheel.len(), 0);
        }
    }

    #[test]
    fn next_deadline_reaches_the_timer() {
        let mut wheel = Wheel::new(Now::default());
        let mut key = None;
        wheel.set(&mut key, at_ms(300_000), timer(1));
        let mut wakeups = 0;
        while wheel.pop_due(wheel.next_deadline().unwrap()).is_none() {
            wakeups += 1;
            assert!(
                wakeups < 10,
                "a distant timer must not wake the shard often"
            );
        }
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn timer_set_while_others_fire_waits_for_its_own_tick() {
        let mut wheel = Wheel::new(Now::default());
        let mut key = None;
        wheel.set(&mut key, at_ms(100), timer(1));
        let now = at_ms(10_000);
        assert_eq!(wheel.pop_due(now), Some(timer(1)));
        key = None;
        // Due at once: not before the next tick, or a shard could go round for ever.
        wheel.set(&mut key, at_ms(0), timer(1));
        assert_eq!(wheel.pop_due(now), None);
        assert_eq!(wheel.pop_due(at_ms(10_300)), Some(timer(1)));
    }

    #[test]
    fn memory_of_a_burst_goes_with_it() {
        let mut wheel = Wheel::new(Now::default());
        let mut keys: Vec<Option<TimerKey>> = (0..5_000).map(|_| None).collect();
        for key in &mut keys {
            wheel.set(key, at_ms(5_000), timer(0));
        }
        for key in &mut keys {
            wheel.cancel(key);
        }
        assert_eq!((wheel.len(), wheel.nodes.capacity()), (0, 0));
    }

    #[test]
    fn trimmed_wheel_keeps_the_timers_that_stand() {
        let mut wheel = Wheel::new(Now::default());
        let mut keys: Vec<Option<TimerKey>> = (0..900).map(|_| None).collect();
        for (key, place) in keys.iter_mut().zip(0..) {
            wheel.set(key, at_ms(100), timer(place));
        }
        for key in keys
            .iter_mut()
            .filter(|key| key.as_ref().unwrap().index != 40)
        {
            wheel.cancel(key);
        }
        wheel.trim();
        assert_eq!((wheel.len(), wheel.nodes.capacity()), (1, 41));
        // New nodes take the places of old ones, and nobody is confused.
        let mut new: Vec<Option<TimerKey>> = (0..900).map(|_| None).collect();
        for (key, place) in new.iter_mut().zip(1_000..) {
            wheel.set(key, at_ms(200), timer(place));
        }
        let mut fired: Vec<_> = std::iter::from_fn(|| wheel.pop_due(at_ms(1_000)))
            .map(number)
            .collect();
        fired.sort_unstable();
        let expected: Vec<_> = std::iter::once(40).chain(1_000..1_900).collect();
        assert_eq!(fired, expected);
        wheel.trim();
        assert_eq!((wheel.nodes.capacity(), wheel.idle.capacity()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "after it had fired")]
    fn cancelling_what_has_fired_is_a_bug() {
        let mut wheel = Wheel::new(Now::default());
        let mut key = None;
        wheel.set(&mut key, at_ms(100), timer(1));
        assert!(wheel.pop_due(at_ms(1_000)).is_some());
        wheel.cancel(&mut key);
    }
}
