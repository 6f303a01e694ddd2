//! Routes of every shape: which way packets would take by their rules, and in which order visors are told.

use alloc::vec;

use proptest::prelude::*;

use super::super::TransportId;
use super::*;
use crate::key::Address;
use crate::route::GroupSetup;
use crate::time::Now;

fn key(byte: u8) -> PublicKey {
    let mut bytes = [byte; 33];
    bytes[0] = 2;
    PublicKey::dmsg(bytes)
}

/// Hops over these visors; the transports are named by both ends of a hop.
fn hops(visors: &[u8]) -> Vec<Hop> {
    let hop = |pair: &[u8]| {
        let mut transport = [0; 16];
        transport[..2].copy_from_slice(pair);
        Hop {
            transport: TransportId(transport),
            from: key(pair[0]),
            to: key(pair[1]),
        }
    };
    visors.windows(2).map(hop).collect()
}

fn route(forward: &[u8], reverse: &[u8]) -> BidirectionalRoute {
    let end = |byte: &u8, port| Address::new(key(*byte), port);
    BidirectionalRoute {
        descriptor: RouteDescriptor {
            source: end(forward.first().unwrap(), 50_000),
            destination: end(forward.last().unwrap(), 80),
        },
        keep_alive: Duration::from_secs(30),
        forward: hops(forward),
        reverse: hops(reverse),
    }
}

/// Ids that no two visors share.
fn reserved(plan: &RoutePlan) -> BTreeMap<PublicKey, Vec<RouteId>> {
    let mut next = 0;
    let mut id = || {
        next += 1;
        RouteId(next)
    };
    let counts = plan.counts().into_iter();
    counts
        .map(|(visor, count)| (visor, (0..count).map(|_| id()).collect()))
        .collect()
}

/// Follows a packet from the visor of a rule; returns the transports it takes and the rule that ends it.
fn walk(first: &Rule, tables: &BTreeMap<RouteId, Rule>) -> (Vec<TransportId>, Rule) {
    let (mut at, mut taken) = (*first, Vec::new());
    loop {
        match at.kind {
            RuleKind::Consume { .. } => return (taken, at),
            RuleKind::Forward {
                next, transport, ..
            }
            | RuleKind::Intermediary { next, transport } => {
                taken.push(transport);
                at = tables[&next];
            }
        }
    }
}

fn paths() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (0_u8..6, 0_u8..6).prop_map(|(ahead, back)| {
        let between = |first: u8, count: u8| first..first + count;
        let forward = [1].into_iter().chain(between(3, ahead)).chain([2]);
        // Some visors are on both ways, some on one.
        let reverse = [2].into_iter().chain(between(6, back)).chain([1]);
        (forward.collect(), reverse.collect())
    })
}

proptest! {
    #[test]
    fn packets_take_the_transports_of_the_route_and_end_under_its_descriptor(
        (forward, reverse) in paths(),
    ) {
        let route = route(&forward, &reverse);
        prop_assert_eq!(route.check(), Ok(()));
        let plan = RoutePlan::new(route.clone());
        let reserved = reserved(&plan);
        let rules = plan.rules(&reserved).unwrap();
        let RouterCall::AddEdgeRules(destination) = &rules.destination else {
            panic!("the destination gets the rules of an end");
        };
        let mut tables = BTreeMap::new();
        let mut add = |visor: PublicKey, rule: &Rule| {
            prop_assert!(reserved[&visor].contains(&rule.id), "of another visor");
            prop_assert_eq!(tables.insert(rule.id, *rule), None, "an id has one rule");
            Ok(())
        };
        for (visor, call) in &rules.between {
            let RouterCall::AddIntermediaryRules(rules) = call else {
                panic!("visors between the ends get rules for what passes");
            };
            for rule in rules {
                add(*visor, rule)?;
            }
        }
        for (visor, edge) in [(key(2), &**destination), (key(1), &rules.answer)] {
            add(visor, &edge.forward)?;
            add(visor, &edge.reverse)?;
        }
        let asked: usize = reserved.values().map(Vec::len).sum();
        prop_assert_eq!(tables.len(), asked, "no id is without a rule");

        let (there, back) = (route.descriptor, route.descriptor.inverted());
        for (from, to, hops, descriptor) in [
            (&rules.answer, &**destination, &route.forward, there),
            (&**destination, &rules.answer, &route.reverse, back),
        ] {
            let (taken, last) = walk(&from.forward, &tables);
            let transports: Vec<_> = hops.iter().map(|hop| hop.transport).collect();
            prop_assert_eq!(taken, transports);
            prop_assert_eq!(last, to.reverse);
            prop_assert_eq!(last.kind, RuleKind::Consume { descriptor });
            prop_assert_eq!(to.descriptor, descriptor, "the group of what arrives");
        }
    }
}

#[test]
fn visor_that_reserves_too_few_ids_makes_no_rules() {
    let plan = RoutePlan::new(route(&[1, 3, 2], &[2, 3, 1]));
    assert_eq!(
        plan.counts(),
        [(key(1), 2), (key(2), 2), (key(3), 2)].into()
    );
    let mut reserved = reserved(&plan);
    reserved.get_mut(&key(3)).unwrap().pop();
    assert_eq!(plan.rules(&reserved), None);
}

#[test]
fn rules_are_kept_for_an_hour_at_most() {
    let mut route = route(&[1, 2], &[2, 1]);
    route.keep_alive = Duration::from_nanos(u64::MAX);
    let plan = RoutePlan::new(route);
    let rules = plan.rules(&reserved(&plan)).unwrap();
    assert_eq!(rules.answer.forward.keep_alive, RULE_KEEP_ALIVE_MAX);
}

#[test]
fn routes_that_come_to_a_visor_twice_are_refused() {
    use super::super::RpcError::{PeerRoute, PeerRouteLoop};
    for (forward, reverse, error) in [
        (&[1, 3, 4, 3, 2][..], &[2, 1][..], PeerRouteLoop),
        (&[1, 2], &[2, 3, 2, 1], PeerRouteLoop),
        (&[1, 2], &[2, 1, 3, 1], PeerRouteLoop),
        (&[1, 1], &[1, 1], PeerRouteLoop),
        (&[1, 2], &[2, 3], PeerRoute),
    ] {
        assert_eq!(
            route(forward, reverse).check(),
            Err(error),
            "{forward:?} {reverse:?}"
        );
    }
}

/// Carries a setup on with visors that do what they are asked, but one that refuses to add rules; returns
/// what was asked of whom.
fn drive(setup: &mut GroupSetup<RoutePlan>, refuses: Option<u8>) -> Vec<(PublicKey, RouterCall)> {
    let (mut asked, mut next) = (Vec::new(), 0);
    while let Some(ask) = setup.poll_ask() {
        let is_rule = matches!(
            ask.request,
            RouterCall::AddEdgeRules(_) | RouterCall::AddIntermediaryRules(_)
        );
        let reply = match &ask.request {
            RouterCall::ReserveIds(count) => {
                let ids = (0..*count).map(|_| {
                    next += 1;
                    RouteId(next)
                });
                Ok(RouterReply::Reserved(ids.collect()))
            }
            _ if is_rule && refuses.map(key) == Some(ask.hop) => Err(Failure {
                code: Failure::ADD_RULES,
                message: "does not transit".into(),
            }),
            RouterCall::DelRules(_) if ask.hop == key(1) => {
                // A visor of 2024.
                Err(Failure::parse("rpc: can't find method RPCGateway.DelRules"))
            }
            _ => Ok(RouterReply::Done(true)),
        };
        asked.push((ask.hop, ask.request));
        setup.answered(ask.number, Ok(hop_reply(reply)), Now::ZERO);
    }
    assert!(setup.is_over());
    asked
}

#[test]
fn destination_is_told_last_and_the_source_in_the_answer() {
    let plan = RoutePlan::new(route(&[1, 3, 4, 2], &[2, 4, 1]));
    let mut setup = GroupSetup::of_plan(plan, Now::from_nanos(1));
    assert!(setup.outcome().is_none());
    let asked = drive(&mut setup, None);
    let Some(Ok(answer)) = setup.outcome() else {
        panic!("it stands");
    };
    assert_eq!(answer.descriptor.destination.key, key(1));
    let told: Vec<_> = asked.iter().skip(4).collect();
    let [
        (third, one),
        (fourth, two),
        (destination, RouterCall::AddEdgeRules(_)),
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!([*third, *fourth, *destination], [key(3), key(4), key(2)]);
    let rules = |call: &RouterCall| match call {
        RouterCall::AddIntermediaryRules(rules) => rules.len(),
        call => panic!("{call:?}"),
    };
    assert_eq!([rules(one), rules(two)], [1, 2]);
}

#[test]
fn refusal_of_one_visor_has_all_forget_their_ids() {
    for refuses in [3, 2] {
        let plan = RoutePlan::new(route(&[1, 3, 2], &[2, 3, 1]));
        let mut setup = GroupSetup::of_plan(plan, Now::from_nanos(1));
        let asked = drive(&mut setup, Some(refuses));
        let Some(Err(refusal)) = setup.outcome() else {
            panic!("it is refused");
        };
        assert_eq!(
            (refusal.reason(), refusal.hop),
            (Some(Reason::HopRefused), Some(key(refuses)))
        );
        assert!(refusal.message.contains("does not transit"), "{refusal}");
        let forgot = asked.iter().filter_map(|(visor, call)| match call {
            RouterCall::DelRules(ids) => Some((*visor, ids.len())),
            _ => None,
        });
        let forgot: Vec<_> = forgot.collect();
        assert_eq!(forgot, vec![(key(1), 2), (key(2), 2), (key(3), 2)]);
        assert_eq!(setup.left_blindly(), 0);
    }
}
