//! What a route group asks of each of its hops.
//!
//! Here: how many ids a hop is asked for, and the rules that the ids get. Not here: asking (`group_setup`).
//!
//! ```text
//!   forward   S ----> F1 ----> F2 ----> D       F1, F2: Intermediary; D: Destination
//!   reverse   S <---- R2 <---- R1 <---- D       R1, R2: Intermediary; S has its id already
//! ```
//!
//! Each rule names the id that the next hop has reserved, so rules can be written only when all ids are
//! known; after that their order matters for the destination alone, which begins to send when it has its
//! rule.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::group_setup::{GroupPlan, GroupRules};
use super::{HopRequest, RouteId, Rule, RuleKind, SetUp, SetupReply};
use crate::key::PublicKey;

/// The hops of a group and what they reserve.
#[derive(Debug)]
pub struct Plan {
    source: PublicKey,
    set_up: SetUp,
}

/// The rules of each hop.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    /// Those of the hops in between.
    between: BTreeMap<PublicKey, Vec<Rule>>,
    /// Those of the destination: its own one.
    destination: Vec<Rule>,
    /// Id of the first hop, which the source sends to.
    forward_id: RouteId,
}

impl Plan {
    /// Returns the plan of a request of `source` that has been checked.
    #[must_use]
    pub const fn new(source: PublicKey, set_up: SetUp) -> Self {
        Self { source, set_up }
    }

    fn rules_of(&self, reserved: &BTreeMap<PublicKey, Vec<RouteId>>) -> Option<Rules> {
        let SetUp {
            forward, reverse, ..
        } = &self.set_up;
        let mut left: BTreeMap<PublicKey, Vec<RouteId>> = reserved.clone();
        let mut take = |hop: &PublicKey| left.get_mut(hop)?.pop();
        let ahead: Vec<RouteId> = forward
            .iter()
            .skip(1)
            .map(&mut take)
            .collect::<Option<_>>()?;
        let mut back: Vec<RouteId> = between(reverse)
            .iter()
            .map(&mut take)
            .collect::<Option<_>>()?;
        back.push(self.set_up.reverse_id);

        let mut rules = Rules {
            forward_id: *ahead.first()?,
            ..Rules::default()
        };
        for (path, ids) in [(forward, &ahead), (reverse, &back)] {
            for (hops, ids) in path.windows(3).zip(ids.windows(2)) {
                let ([previous, hop, next], [id, next_id]) = (hops, ids) else {
                    continue;
                };
                let kind = RuleKind::Intermediary {
                    next: *next,
                    next_id: *next_id,
                };
                let rule = self.rule(*id, *previous, kind);
                rules.between.entry(*hop).or_default().push(rule);
            }
        }
        let kind = RuleKind::Destination {
            group: self.set_up.group,
            source: self.source,
            source_port: self.set_up.source_port,
            destination_port: self.set_up.destination_port,
            next: *reverse.get(1)?,
            next_id: *back.first()?,
        };
        let previous = *forward.get(forward.len().checked_sub(2)?)?;
        rules.destination = vec![self.rule(*ahead.last()?, previous, kind)];
        Some(rules)
    }

    fn rule(&self, id: RouteId, previous: PublicKey, kind: RuleKind) -> Rule {
        Rule {
            id,
            keep_alive_ms: self.set_up.keep_alive_ms(),
            previous,
            kind,
        }
    }
}

impl GroupPlan for Plan {
    type Request = HopRequest;
    type Answer = SetupReply;

    fn counts(&self) -> BTreeMap<PublicKey, u8> {
        // The source has its id already.
        let hops = self.set_up.forward.iter().skip(1);
        let mut counts = BTreeMap::new();
        for hop in hops.chain(between(&self.set_up.reverse)) {
            *counts.entry(*hop).or_insert(0) += 1;
        }
        counts
    }

    fn destination(&self) -> PublicKey {
        self.set_up.destination
    }

    fn reserve(&self, count: u8) -> HopRequest {
        HopRequest::Reserve { count }
    }

    fn release(&self, ids: Vec<RouteId>) -> HopRequest {
        HopRequest::Release { ids }
    }

    fn rules(
        &self,
        reserved: &BTreeMap<PublicKey, Vec<RouteId>>,
    ) -> Option<GroupRules<HopRequest, SetupReply>> {
        let rules = self.rules_of(reserved)?;
        let between = rules.between.into_iter();
        let between = between.map(|(hop, rules)| (hop, HopRequest::AddRules { rules }));
        Some(GroupRules {
            between: between.collect(),
            destination: HopRequest::AddRules {
                rules: rules.destination,
            },
            answer: SetupReply::SetUp {
                forward_id: rules.forward_id,
                keep_alive_ms: self.set_up.keep_alive_ms(),
            },
        })
    }
}

/// Returns the hops of a path without its ends.
fn between(path: &[PublicKey]) -> &[PublicKey] {
    path.get(1..path.len().saturating_sub(1))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::GroupName;
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::native([byte; 32])
    }

    fn set_up(forward: &[u8], reverse: &[u8]) -> SetUp {
        let path = |bytes: &[u8]| bytes.iter().copied().map(key).collect();
        SetUp {
            destination: key(*forward.last().unwrap()),
            forward: path(forward),
            reverse: path(reverse),
            source_port: 50_000,
            destination_port: 80,
            group: GroupName([9; 16]),
            keep_alive_ms: 0,
            reverse_id: RouteId(77),
        }
    }

    /// Follows packets of `id` from hop to hop; returns the hops, the last one's rule and the id there.
    fn walk(rules: &Rules, mut hop: u8, mut from: u8, mut id: RouteId) -> (Vec<u8>, RouteId) {
        let mut seen = vec![hop];
        while let Some(rule) = rules
            .between
            .get(&key(hop))
            .and_then(|rules| rules.iter().find(|rule| rule.id == id))
        {
            assert_eq!(
                rule.previous,
                key(from),
                "a packet comes from the hop before"
            );
            let (next, next_id) = rule.kind.next();
            (from, hop) = (hop, (0..=255).find(|byte| key(*byte) == next).unwrap());
            id = next_id;
            seen.push(hop);
        }
        (seen, id)
    }

    #[test]
    fn packets_reach_both_ends_over_exactly_the_paths() {
        for (forward, reverse) in [
            (&[1, 2][..], &[2, 1][..]),
            (&[1, 3, 2], &[2, 3, 1]),
            (&[1, 3, 4, 2], &[2, 4, 3, 1]),
            (&[1, 3, 4, 5, 2], &[2, 6, 1]),
            (&[1, 2], &[2, 3, 4, 1]),
        ] {
            let set_up = set_up(forward, reverse);
            let plan = Plan::new(key(1), set_up.clone());
            let mut next = 100;
            let reserved: BTreeMap<_, Vec<_>> = plan
                .counts()
                .into_iter()
                .map(|(hop, count)| {
                    let ids = (0..count).map(|_| {
                        next += 1;
                        RouteId(next)
                    });
                    (hop, ids.collect())
                })
                .collect();
            let rules = plan.rules_of(&reserved).unwrap();
            let (there, id) = walk(&rules, forward[1], 1, rules.forward_id);
            assert_eq!(there, forward[1..]);
            let [destination] = &rules.destination[..] else {
                panic!("one rule");
            };
            assert_eq!(destination.id, id);
            assert_eq!(destination.previous, key(forward[forward.len() - 2]));
            let (first, first_id) = destination.kind.next();
            assert_eq!(first, key(reverse[1]));
            let (back, id) = walk(&rules, reverse[1], 2, first_id);
            assert_eq!((back, id), (reverse[1..].to_vec(), RouteId(77)));
            let used: usize = rules.between.values().map(Vec::len).sum();
            let asked: u8 = plan.counts().values().sum();
            assert_eq!(used + 1, usize::from(asked), "no id is without a rule");
        }
    }

    #[test]
    fn hop_that_reserves_too_few_ids_makes_no_rules() {
        let set_up = set_up(&[1, 3, 2], &[2, 3, 1]);
        let plan = Plan::new(key(1), set_up);
        assert_eq!(plan.counts(), [(key(2), 1), (key(3), 2)].into());
        let reserved = [(key(2), vec![RouteId(1)]), (key(3), vec![RouteId(2)])];
        assert_eq!(plan.rules_of(&reserved.into()), None);
    }
}
