//! What a bidirectional route asks of each visor.
//!
//! Here: how many ids a visor is asked for, and the rules that the ids get. Not here: asking
//! (`crate::route::group_setup`), the rules' bytes (`rule`).
//!
//! ```text
//!   forward   S ----> F ----> D       S: Forward; F: Intermediary; D: Consume
//!   reverse   S <---- R <---- D       D: Forward; R: Intermediary; S: Consume
//! ```
//!
//! Every visor reserves an id for each route that it is on, the ends as well. A rule names the id that the
//! next visor has reserved. Each end is told its two rules at once, the source in the answer to its call;
//! they stand under the descriptor of the route that ends there.
//! Source: docs/dmsg.md "Calls of route setup".

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{
    BidirectionalRoute, EdgeRules, Failure, Hop, RouteDescriptor, RouterCall, RouterReply, Rule,
    RuleKind,
};
use crate::key::PublicKey;
use crate::reason::Reason;
use crate::route::group_setup::{GroupPlan, GroupRules};
use crate::route::{HopReply, Refusal, RouteId};

/// The visors of a bidirectional route and what they reserve.
#[derive(Debug)]
pub struct RoutePlan {
    route: BidirectionalRoute,
}

/// The rules of one direction.
struct Direction {
    /// What leaves where it begins.
    forward: Rule,
    between: Vec<(PublicKey, Rule)>,
    /// What arrives where it ends.
    consume: Rule,
}

impl RoutePlan {
    /// Returns the plan of a route that [`BidirectionalRoute::check`] has passed.
    #[must_use]
    pub const fn new(route: BidirectionalRoute) -> Self {
        Self { route }
    }

    /// Returns the rules of one direction, with ids from those that are left.
    fn direction(
        &self,
        descriptor: RouteDescriptor,
        hops: &[Hop],
        left: &mut BTreeMap<PublicKey, Vec<RouteId>>,
    ) -> Option<Direction> {
        let mut take = |visor: &PublicKey| left.get_mut(visor)?.pop();
        let mut id = take(&hops.first()?.from)?;
        let mut forward = None;
        let mut between = Vec::with_capacity(hops.len());
        for hop in hops {
            let (next, transport) = (take(&hop.to)?, hop.transport);
            if forward.is_none() {
                forward = Some(self.rule(
                    id,
                    RuleKind::Forward {
                        descriptor,
                        next,
                        transport,
                    },
                ));
            } else {
                let kind = RuleKind::Intermediary { next, transport };
                between.push((hop.from, self.rule(id, kind)));
            }
            id = next;
        }
        Some(Direction {
            forward: forward?,
            between,
            consume: self.rule(id, RuleKind::Consume { descriptor }),
        })
    }

    fn rule(&self, id: RouteId, kind: RuleKind) -> Rule {
        Rule {
            id,
            keep_alive: self.route.keep_alive.min(RULE_KEEP_ALIVE_MAX),
            kind,
        }
    }
}

impl GroupPlan for RoutePlan {
    type Request = RouterCall;
    type Answer = EdgeRules;

    fn counts(&self) -> BTreeMap<PublicKey, u8> {
        self.route.visors()
    }

    fn destination(&self) -> PublicKey {
        self.route.descriptor.destination.key
    }

    fn reserve(&self, count: u8) -> RouterCall {
        RouterCall::ReserveIds(count)
    }

    fn release(&self, ids: Vec<RouteId>) -> RouterCall {
        RouterCall::DelRules(ids)
    }

    fn rules(
        &self,
        reserved: &BTreeMap<PublicKey, Vec<RouteId>>,
    ) -> Option<GroupRules<RouterCall, EdgeRules>> {
        let mut left = reserved.clone();
        let (there, back) = (self.route.descriptor, self.route.descriptor.inverted());
        let ahead = self.direction(there, &self.route.forward, &mut left)?;
        let behind = self.direction(back, &self.route.reverse, &mut left)?;
        let mut between: BTreeMap<PublicKey, Vec<Rule>> = BTreeMap::new();
        for (visor, rule) in ahead.between.into_iter().chain(behind.between) {
            between.entry(visor).or_default().push(rule);
        }
        let between = between.into_iter();
        let between =
            between.map(|(visor, rules)| (visor, RouterCall::AddIntermediaryRules(rules)));
        let destination = EdgeRules {
            descriptor: there,
            forward: behind.forward,
            reverse: ahead.consume,
        };
        Some(GroupRules {
            between: between.collect(),
            destination: RouterCall::AddEdgeRules(Box::new(destination)),
            answer: EdgeRules {
                descriptor: back,
                forward: ahead.forward,
                reverse: behind.consume,
            },
        })
    }
}

/// Returns what a visor has said, in the words of [`GroupSetup`](crate::route::GroupSetup).
#[must_use]
pub fn hop_reply(reply: Result<RouterReply, Failure>) -> HopReply {
    let refused = |message: &str| HopReply::Refused(Refusal::new(Reason::HopRefused, message));
    match reply {
        Ok(RouterReply::Reserved(ids)) => HopReply::Reserved { ids },
        Ok(RouterReply::Done(true)) => HopReply::Done,
        Ok(RouterReply::Done(false)) => refused("did not do what it was asked"),
        Err(failure) => refused(&failure.message),
    }
}

/// Longest time without a packet for which a visor is asked to keep a rule.
///
/// Visors ask for half a minute (2024) to ten minutes (2026) and refresh their routes themselves; what stays
/// longer than this after its ends are gone is of no use to anybody.
pub const RULE_KEEP_ALIVE_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;
