//! The pool against a model of sets, and the slices against their promise.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;

const REST: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Now {
    Now::from_nanos(ms * 1_000_000)
}

#[test]
fn every_port_is_given_once_and_comes_back_after_its_rest() {
    let mut pool = PortPool::new(&PortSet::range(100, 299), REST);
    let taken: BTreeSet<u16> = (0..200).filter_map(|_| pool.try_take(at(0))).collect();
    assert_eq!(taken, (100..300).collect());
    assert_eq!(pool.try_take(at(0)), None);
    pool.give(177, at(0));
    assert_eq!(pool.try_take(at(999)), None);
    assert_eq!(pool.usage().quarantined, 1);
    assert_eq!(pool.try_take(at(1_000)), Some(177));
    assert_eq!(pool.usage().high_water, 200);
    assert_eq!(pool.usage().refused, 2);
}

#[test]
fn port_rests_until_the_others_had_their_turn() {
    let mut pool = PortPool::new(&PortSet::range(100, 102), Duration::ZERO);
    let mut order = Vec::new();
    for _ in 0..4 {
        let port = pool.try_take(at(0)).unwrap();
        pool.give(port, at(0));
        order.push(port);
    }
    assert_eq!(order, [100, 101, 102, 100]);
}

#[test]
fn port_that_is_named_is_taken_only_when_it_is_free() {
    let mut pool = PortPool::new(&PortSet::range(100, 299), REST);
    assert!(pool.try_take_port(299, at(0)));
    assert!(!pool.try_take_port(299, at(0)), "in use");
    for foreign in [0, 99, 300, u16::MAX] {
        assert!(
            !pool.try_take_port(foreign, at(0)),
            "{foreign} is not of the pool"
        );
    }
    pool.give(299, at(0));
    assert!(!pool.try_take_port(299, at(999)), "at rest");
    assert!(pool.try_take_port(299, at(1_000)));
    let usage = pool.usage();
    assert_eq!((usage.in_use, usage.high_water, usage.refused), (1, 1, 6));
    // The others come once each, as if nobody had named one.
    let taken: BTreeSet<u16> = (0..199).filter_map(|_| pool.try_take(at(1_000))).collect();
    assert_eq!(taken, (100..299).collect());
    assert_eq!(pool.try_take(at(1_000)), None);
}

#[test]
fn foreign_port_is_put_aside_for_longer_than_a_rest() {
    let mut pool = PortPool::new(&PortSet::range(7, 7), REST);
    assert_eq!(pool.try_take(at(0)), Some(7));
    pool.mark_foreign(7);
    pool.give(7, at(0));
    assert_eq!(pool.try_take(at(1_000)), None);
    let end = Now::ZERO + PORT_ASIDE;
    assert_eq!(pool.try_take(end), Some(7));
    // The mark was for that use only.
    pool.give(7, end);
    assert_eq!(pool.try_take(end + REST), Some(7));
}

#[test]
fn pool_of_the_whole_range_and_of_nothing_work() {
    let mut whole = PortPool::new(&PortSet::range(0, u16::MAX), REST);
    let count = (0..70_000).filter_map(|_| whole.try_take(at(0))).count();
    assert_eq!(count, 65_535);
    let mut nothing = PortPool::new(&PortSet::new(), REST);
    assert_eq!(nothing.try_take(at(0)), None);
}

#[test]
#[should_panic(expected = "a port came back twice")]
fn port_that_comes_back_twice_is_a_bug() {
    let mut pool = PortPool::new(&PortSet::range(1, 9), REST);
    let port = pool.try_take(at(0)).unwrap();
    pool.give(port, at(0));
    pool.give(port, at(0));
}

#[test]
#[should_panic(expected = "not of this pool")]
fn port_of_another_pool_is_a_bug() {
    PortPool::new(&PortSet::range(100, 199), REST).give(300, at(0));
}

/// A set with holes.
fn sets() -> impl Strategy<Value = PortSet> {
    let holes = prop::collection::vec(any::<u16>(), 0..20);
    (any::<u16>(), 0_u16..2_000, holes).prop_map(|(first, length, holes)| {
        let mut set = PortSet::range(first, first.saturating_add(length));
        for hole in holes {
            set.remove(first.saturating_add(hole % 2_000));
        }
        set
    })
}

#[derive(Debug, Clone)]
enum Step {
    Take,
    Give(prop::sample::Index),
    GiveForeign(prop::sample::Index),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Take),
        2 => any::<prop::sample::Index>().prop_map(Step::Give),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveForeign),
        1 => (0_u64..12_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn slices_are_disjoint_and_cover_the_set_but_for_a_remainder(set in sets(), count in 1_u16..70) {
        let mut covered = BTreeSet::new();
        let mut sizes = BTreeSet::new();
        for index in 0..count {
            let slice = set.slice(index, count);
            sizes.insert(slice.len());
            for port in slice.iter() {
                prop_assert!(set.contains(port));
                prop_assert!(covered.insert(port), "{port} is in two slices");
            }
        }
        prop_assert_eq!(sizes.len(), 1);
        let left_out = set.len() - u32::try_from(covered.len()).unwrap();
        prop_assert!(left_out < u32::from(count));
        prop_assert!(set.slice(count, count).is_empty());
    }

    #[test]
    fn pool_agrees_with_a_model_of_sets(set in sets(), steps in steps()) {
        let mut pool = PortPool::new(&set, REST);
        let mut free: BTreeSet<u16> = set.iter().collect();
        let mut used: Vec<u16> = Vec::new();
        let mut resting: Vec<(Now, u16)> = Vec::new();
        let (mut now, mut refused, mut high_water) = (at(5), 0, 0);
        for step in steps {
            resting.retain(|(end, port)| {
                if *end <= now {
                    free.insert(*port);
                }
                *end > now
            });
            match step {
                Step::Take => match pool.try_take(now) {
                    Some(port) => {
                        prop_assert!(free.remove(&port), "{port} was not free");
                        used.push(port);
                    }
                    None => {
                        prop_assert!(free.is_empty());
                        refused += 1;
                    }
                },
                Step::Give(index) if !used.is_empty() => {
                    let port = used.swap_remove(index.index(used.len()));
                    pool.give(port, now);
                    resting.push((now + REST, port));
                }
                Step::GiveForeign(index) if !used.is_empty() => {
                    let port = used.swap_remove(index.index(used.len()));
                    pool.mark_foreign(port);
                    pool.give(port, now);
                    resting.push((now + PORT_ASIDE, port));
                }
                Step::Give(_) | Step::GiveForeign(_) => {}
                Step::Wait(ms) => {
                    now = now + Duration::from_millis(ms);
                    pool.settle(now);
                    resting.retain(|(end, port)| {
                        if *end <= now {
                            free.insert(*port);
                        }
                        *end > now
                    });
                }
            }
            let usage = pool.usage();
            high_water = high_water.max(used.len());
            prop_assert_eq!(usage.in_use as usize, used.len());
            prop_assert_eq!(usage.quarantined as usize, resting.len());
            prop_assert_eq!(usage.refused, refused);
            prop_assert_eq!(usage.high_water as usize, high_water);
            prop_assert_eq!(usage.total as usize, free.len() + used.len() + resting.len());
        }
    }
}
