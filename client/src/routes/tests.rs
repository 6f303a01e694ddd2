//! What the order of relays must obey, whatever happened before.
//!
//! Here: rules by example, then a model of plain lists. Not here: dials.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringway_proto::reason::Reason;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ENTRY_TIME: Duration = Duration::from_secs(60);
const RELAYS: [usize; 4] = [2, 0, 3, 1];

fn key(byte: u8) -> PublicKey {
    PublicKey::native([byte; 32])
}

fn at(seconds: u64) -> Now {
    Now::ZERO + SECOND * u32::try_from(seconds).expect("small")
}

fn unknown() -> Refusal {
    Reason::UnknownDestination.into()
}

#[test]
fn a_destination_is_looked_for_where_it_was_reached_last() {
    let mut routes = Routes::new(ENTRY_TIME);
    assert_eq!(routes.plan(&key(1), &RELAYS, at(0)).order, RELAYS);
    routes.reached(&key(1), 3, at(0));
    let plan = routes.plan(&key(1), &RELAYS, at(59));
    assert_eq!((plan.order, plan.entry), (vec![3, 2, 0, 1], Some(3)));
    assert_eq!(routes.plan(&key(2), &RELAYS, at(59)).entry, None);
    let plan = routes.plan(&key(1), &RELAYS, at(60));
    assert_eq!((plan.order, plan.entry), (RELAYS.to_vec(), None));
    assert_eq!(routes.len(), 0, "what is too old is forgotten");
}

#[test]
fn a_relay_without_the_destination_is_left_out_for_a_while() {
    let mut routes = Routes::new(ENTRY_TIME);
    routes.reached(&key(1), 0, at(0));
    routes.refused(&key(1), 0, unknown(), at(1));
    routes.refused(&key(1), 3, Reason::ForwardedTwice.into(), at(2));
    let plan = routes.plan(&key(1), &RELAYS, at(5));
    assert_eq!((plan.order, plan.entry), (vec![2, 1], None));
    assert_eq!((plan.spared_count, plan.refusal), (2, Some(unknown())));
    let plan = routes.plan(&key(1), &RELAYS, at(6));
    assert_eq!((plan.order, plan.spared_count), (vec![2, 0, 1], 1));
    assert_eq!(routes.plan(&key(1), &RELAYS, at(7)).order, RELAYS);
}

#[test]
fn the_end_of_a_session_ends_the_entries_of_its_relay() {
    let mut routes = Routes::new(ENTRY_TIME);
    for (destination, relay) in [(1, 0), (2, 1), (3, 0)] {
        routes.reached(&key(destination), relay, at(0));
    }
    routes.relay_lost(0);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes.plan(&key(1), &RELAYS, at(1)).entry, None);
    assert_eq!(routes.plan(&key(2), &RELAYS, at(1)).entry, Some(1));
    routes.lost(&key(2), 0);
    assert_eq!(routes.plan(&key(2), &RELAYS, at(1)).entry, Some(1));
    routes.lost(&key(2), 1);
    assert_eq!(routes.len(), 0);
}

#[test]
fn the_least_recently_used_destination_goes() {
    let mut routes = Routes::new(ENTRY_TIME);
    let wide_key = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PublicKey::native(bytes)
    };
    for number in 0..ROUTES_MAX {
        routes.reached(&wide_key(number), 1, at(0));
    }
    assert_eq!(routes.plan(&wide_key(0), &RELAYS, at(1)).entry, Some(1));
    routes.reached(&wide_key(ROUTES_MAX), 1, at(1));
    assert_eq!(routes.len(), ROUTES_MAX);
    assert_eq!(routes.plan(&wide_key(0), &RELAYS, at(1)).entry, Some(1));
    assert_eq!(routes.plan(&wide_key(1), &RELAYS, at(1)).entry, None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Lost(u8, usize),
    Pass(u8),
    Reached(u8, usize),
    Refused(u8, usize),
    RelayLost(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (destination, relay) = (0..3_u8, 0..4_usize);
    prop_oneof![
        1 => (destination.clone(), relay.clone()).prop_map(|(d, r)| Step::Lost(d, r)),
        3 => (0..40_u8).prop_map(Step::Pass),
        4 => (destination.clone(), relay.clone()).prop_map(|(d, r)| Step::Reached(d, r)),
        4 => (destination, relay.clone()).prop_map(|(d, r)| Step::Refused(d, r)),
        1 => relay.prop_map(Step::RelayLost),
    ]
}

proptest! {
    /// The model remembers when each thing ends, and looks everything up.
    #[test]
    fn the_plan_is_what_was_learned_and_nothing_else(
        steps in prop::collection::vec(step(), 0..80),
        by_distance in Just(RELAYS.to_vec()).prop_shuffle(),
    ) {
        let mut routes = Routes::new(ENTRY_TIME);
        let mut reached: BTreeMap<u8, (usize, u64)> = BTreeMap::new();
        let mut refused: BTreeMap<(u8, usize), u64> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Lost(d, r) => {
                    routes.lost(&key(d), r);
                    reached.retain(|one, (relay, _)| *one != d || *relay != r);
                }
                Step::Pass(seconds) => now += u64::from(seconds),
                Step::Reached(d, r) => {
                    routes.reached(&key(d), r, at(now));
                    reached.insert(d, (r, now + 60));
                    refused.remove(&(d, r));
                }
                Step::Refused(d, r) => {
                    routes.refused(&key(d), r, unknown(), at(now));
                    refused.insert((d, r), now + 5);
                    reached.retain(|one, (relay, _)| *one != d || *relay != r);
                }
                Step::RelayLost(r) => {
                    routes.relay_lost(r);
                    reached.retain(|_, (relay, _)| *relay != r);
                }
            }
            for d in 0..3 {
                let plan = routes.plan(&key(d), &by_distance, at(now));
                let entry = reached.get(&d).filter(|(_, until)| now < *until);
                prop_assert_eq!(plan.entry, entry.map(|(relay, _)| *relay));
                let is_out = |r: &usize| refused.get(&(d, *r)).is_some_and(|until| now < *until);
                let others = by_distance.iter().filter(|r| Some(**r) != plan.entry && !is_out(r));
                let order: Vec<usize> = plan.entry.into_iter().chain(others.copied()).collect();
                prop_assert_eq!(&plan.order, &order);
                let spared = by_distance.iter().filter(|r| is_out(r)).count();
                prop_assert_eq!(usize::try_from(plan.spared_count), Ok(spared));
                prop_assert_eq!(plan.refusal.is_some(), spared > 0);
            }
        }
    }
}
