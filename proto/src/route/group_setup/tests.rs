//! The setup against hops that answer in any order, late, wrongly or never.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::GroupName;
use super::*;

fn key(byte: u8) -> PublicKey {
    PublicKey::native([byte; 32])
}

fn at(ms: u64) -> Now {
    Now::from_nanos(ms * 1_000_000)
}

const DEADLINE_MS: u64 = 10_000;

fn request(forward: &[u8], reverse: &[u8]) -> SetUp {
    let path = |bytes: &[u8]| bytes.iter().copied().map(key).collect();
    SetUp {
        destination: key(*forward.last().unwrap()),
        forward: path(forward),
        reverse: path(reverse),
        source_port: 50_000,
        destination_port: 80,
        group: GroupName([1; 16]),
        keep_alive_ms: 0,
        reverse_id: RouteId(5),
    }
}

/// The tables of all hops.
#[derive(Debug, Default)]
struct Hops {
    next: u32,
    reserved: BTreeMap<PublicKey, BTreeSet<RouteId>>,
    rules: BTreeMap<PublicKey, BTreeSet<RouteId>>,
}

impl Hops {
    fn carry_out(&mut self, ask: &Ask) -> HopReply {
        match &ask.request {
            HopRequest::Reserve { count } => {
                let ids: Vec<RouteId> = (0..*count)
                    .map(|_| {
                        self.next += 1;
                        RouteId(self.next)
                    })
                    .collect();
                self.reserved.entry(ask.hop).or_default().extend(&ids);
                HopReply::Reserved { ids }
            }
            HopRequest::AddRules { rules } => {
                for rule in rules {
                    let table = self.reserved.entry(ask.hop).or_default();
                    assert!(
                        table.remove(&rule.id),
                        "a rule for an id that is not reserved"
                    );
                    self.rules.entry(ask.hop).or_default().insert(rule.id);
                }
                HopReply::Done
            }
            HopRequest::Release { ids } => {
                for id in ids {
                    self.reserved.entry(ask.hop).or_default().remove(id);
                    self.rules.entry(ask.hop).or_default().remove(id);
                }
                HopReply::Done
            }
        }
    }

    fn holds(&self, hop: &PublicKey) -> usize {
        let count = |table: &BTreeMap<PublicKey, BTreeSet<RouteId>>| {
            table.get(hop).map_or(0, BTreeSet::len)
        };
        count(&self.reserved) + count(&self.rules)
    }
}

#[test]
fn rules_of_the_destination_come_last() {
    let mut setup = GroupSetup::new(
        key(1),
        request(&[1, 2, 3, 4], &[4, 3, 2, 1]),
        at(DEADLINE_MS),
    );
    let mut hops = Hops::default();
    let mut order = Vec::new();
    while let Some(ask) = setup.poll_ask() {
        let reply = hops.carry_out(&ask);
        if matches!(ask.request, HopRequest::AddRules { .. }) {
            order.push(ask.hop);
        }
        setup.answered(ask.number, Ok(reply), at(1));
    }
    assert_eq!(order.len(), 3);
    assert_eq!(order[2], key(4));
    assert!(setup.is_over());
    assert!(
        matches!(setup.reply(), SetupReply::SetUp { forward_id, keep_alive_ms: 30_000 } if forward_id != RouteId::NONE)
    );
    setup.give_up(Refusal::new(Reason::RouteTimeout, "nobody waits"), at(2));
    while let Some(ask) = setup.poll_ask() {
        let reply = hops.carry_out(&ask);
        setup.answered(ask.number, Ok(reply), at(2));
    }
    assert_eq!(setup.phase(), SetupPhase::Refused);
    assert!((2..5).all(|hop| hops.holds(&key(hop)) == 0));
}

#[test]
fn silent_hop_is_named_and_what_it_says_late_is_taken_back() {
    let mut setup = GroupSetup::new(key(1), request(&[1, 2, 3], &[3, 2, 1]), at(DEADLINE_MS));
    let mut hops = Hops::default();
    let first = setup.poll_ask().unwrap();
    let second = setup.poll_ask().unwrap();
    let reply = hops.carry_out(&first);
    setup.answered(first.number, Ok(reply), at(1));
    assert_eq!(setup.next_deadline(), Some(at(DEADLINE_MS)));
    setup.handle_timeout(at(DEADLINE_MS));
    let SetupReply::Refused(refusal) = setup.reply() else {
        panic!("it failed");
    };
    assert_eq!(refusal.reason(), Some(Reason::RouteTimeout));
    assert_eq!(refusal.hop, Some(second.hop));
    assert_eq!(setup.left_blindly(), 1);
    let release = setup.poll_ask().unwrap();
    assert_eq!(release.hop, first.hop);
    let reply = hops.carry_out(&second);
    setup.answered(second.number, Ok(reply), at(DEADLINE_MS + 1));
    let late = setup.poll_ask().unwrap();
    for ask in [release, late] {
        assert!(!setup.is_over());
        let reply = hops.carry_out(&ask);
        setup.answered(ask.number, Ok(reply), at(DEADLINE_MS + 2));
    }
    assert!(setup.is_over());
    assert_eq!(setup.left_blindly(), 0);
    assert_eq!(hops.holds(&first.hop) + hops.holds(&second.hop), 0);
}

/// What a hop does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answers,
    AnswersWrongly,
    CannotBeAsked,
    IsSilent,
    Refuses,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Answers),
        1 => Just(Fate::AnswersWrongly),
        1 => Just(Fate::CannotBeAsked),
        1 => Just(Fate::IsSilent),
        1 => Just(Fate::Refuses),
    ]
}

fn paths() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (1_usize..5, 0_usize..5, any::<bool>()).prop_map(|(ahead, back, is_same)| {
        let forward: Vec<u8> = (1..=u8::try_from(ahead).unwrap() + 1).collect();
        let mut reverse: Vec<u8> = forward.iter().rev().copied().collect();
        if !is_same {
            let last = *forward.last().unwrap();
            reverse = vec![last];
            reverse.extend((100..).take(back));
            reverse.push(1);
        }
        (forward, reverse)
    })
}

proptest! {
    #[test]
    fn whatever_hops_do_it_ends_and_leaves_nothing_with_those_that_answer(
        (forward, reverse) in paths(),
        fates in proptest::collection::vec(fate(), 40),
        picks in proptest::collection::vec(any::<u16>(), 200),
    ) {
        let mut setup = GroupSetup::new(key(1), request(&forward, &reverse), at(DEADLINE_MS));
        let mut hops = Hops::default();
        let mut fates = fates.into_iter();
        let mut picks = picks.into_iter();
        let mut pending: Vec<(u32, Result<HopReply, Refusal>)> = Vec::new();
        let mut unreliable = BTreeSet::new();
        let mut now = 0;
        for _ in 0..1_000 {
            while let Some(ask) = setup.poll_ask() {
                // Who fails to release holds what it held; that is no fault of the setup.
                let is_release = matches!(ask.request, HopRequest::Release { .. });
                let fate = fates.next().unwrap_or(Fate::Answers);
                if fate != Fate::Answers && fate != Fate::AnswersWrongly && (is_release || fate == Fate::IsSilent) {
                    unreliable.insert(ask.hop);
                }
                let answer = match fate {
                    Fate::Answers => Ok(hops.carry_out(&ask)),
                    Fate::AnswersWrongly => match hops.carry_out(&ask) {
                        HopReply::Reserved { mut ids } => {
                            // It says less than it did.
                            unreliable.insert(ask.hop);
                            ids.pop();
                            Ok(HopReply::Reserved { ids })
                        }
                        reply => Ok(reply),
                    },
                    Fate::CannotBeAsked => Err(Refusal::new(Reason::HopUnreachable, "gone")),
                    Fate::IsSilent => {
                        hops.carry_out(&ask);
                        continue;
                    }
                    Fate::Refuses => Ok(HopReply::Refused(Refusal::new(Reason::RelayCapacity, "full"))),
                };
                pending.push((ask.number, answer));
            }
            if setup.is_over() {
                break;
            }
            if pending.is_empty() {
                now = setup.next_deadline().expect("it is not over").as_nanos() / 1_000_000;
                setup.handle_timeout(at(now));
                continue;
            }
            let pick = usize::from(picks.next().unwrap_or(0)) % pending.len();
            let (number, answer) = pending.swap_remove(pick);
            now += 1;
            setup.answered(number, answer, at(now));
        }
        prop_assert!(setup.is_over(), "{:?}", setup.phase());
        prop_assert!(now <= DEADLINE_MS + 2_000);
        let all = forward.iter().chain(&reverse).copied().map(key);
        for hop in all.filter(|hop| *hop != key(1) && !unreliable.contains(hop)) {
            match setup.reply() {
                SetupReply::Refused(_) => prop_assert_eq!(hops.holds(&hop), 0),
                _ => prop_assert!(hops.holds(&hop) > 0),
            }
        }
        if let SetupReply::SetUp { .. } = setup.reply() {
            let reserved: usize = hops.reserved.values().map(BTreeSet::len).sum();
            prop_assert_eq!(reserved, 0, "every id has its rule");
        }
    }
}
