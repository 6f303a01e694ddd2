//! In which order the relays are tried for a destination.
//!
//! Here: over which relay a destination was reached last, which relays do not have it, and the order
//! that follows. Not here: how far the relays are (`selection` hands their order in), clocks (the time
//! is handed in), asking.
//!
//! ```text
//!              reached(r)                 has no one(r)             time
//!   unknown ------------> reached over r ---------------> not at r ------> unknown
//!                           |   ^  lost(r), time -> unknown  |
//!                           |   '---------- reached(r) ------'
//! ```
//!
//! Invariant: no relay is both the one a destination was reached over and one that does not have it.
//! Bound: `ROUTES_MAX` destinations, each with one place a relay; the least recently used goes.

use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::NEGATIVE_ANSWER_TIME;
use ringway_proto::time::Now;

use crate::error::Refusal;
use crate::recent::Recent;

/// What is known of destinations. Relays are numbers: their place in the configuration.
#[derive(Debug)]
pub(crate) struct Routes {
    known: Recent<PublicKey, Route>,
    /// How long a destination is looked for first where it was reached last.
    entry_time: Duration,
}

/// The order for one dial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Relays to ask, the first one first.
    pub(crate) order: Vec<usize>,
    /// The relay over which the destination was reached last; it is the first of `order`.
    pub(crate) entry: Option<usize>,
    /// What the nearest of the relays that are not asked has answered before.
    pub(crate) refusal: Option<Refusal>,
    /// How many relays are not asked.
    pub(crate) spared_count: u32,
}

/// What is known of one destination.
#[derive(Debug, Default)]
struct Route {
    reached: Option<Reached>,
    negatives: Vec<Negative>,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    relay: usize,
    until: Now,
}

/// An answer "not here".
#[derive(Clone, Copy, Debug)]
struct Negative {
    relay: usize,
    refusal: Refusal,
    until: Now,
}

impl Routes {
    pub(crate) fn new(entry_time: Duration) -> Self {
        Self {
            known: Recent::new(ROUTES_MAX),
            entry_time,
        }
    }

    /// Returns in which order the relays of `by_distance` are to be asked for `destination`: the one
    /// over which it was reached last, then the nearest; not those that have just said that they do
    /// not have it.
    pub(crate) fn plan(
        &mut self,
        destination: &PublicKey,
        by_distance: &[usize],
        now: Now,
    ) -> Plan {
        let mut plan = Plan::default();
        if let Some(route) = self.known.used(destination) {
            route.settle(now);
            plan.entry = route
                .reached
                .map(|reached| reached.relay)
                .filter(|relay| by_distance.contains(relay));
            plan.order.extend(plan.entry);
            for relay in by_distance {
                if let Some(negative) = route.negative(*relay) {
                    plan.spared_count += 1;
                    plan.refusal = plan.refusal.or(Some(negative.refusal));
                } else if plan.entry != Some(*relay) {
                    plan.order.push(*relay);
                }
            }
            self.forget_if_empty(destination);
        } else {
            plan.order.extend(by_distance);
        }
        plan
    }

    /// Notes that `destination` was reached over `relay`.
    pub(crate) fn reached(&mut self, destination: &PublicKey, relay: usize, now: Now) {
        let until = now + self.entry_time;
        let route = self.known.used_or_new(*destination);
        route.negatives.retain(|negative| negative.relay != relay);
        route.reached = Some(Reached { relay, until });
    }

    /// Notes that `relay` has said not to have `destination`.
    pub(crate) fn refused(
        &mut self,
        destination: &PublicKey,
        relay: usize,
        refusal: Refusal,
        now: Now,
    ) {
        let route = self.known.used_or_new(*destination);
        route.settle(now);
        route.lose(relay);
        route.negatives.retain(|negative| negative.relay != relay);
        route.negatives.push(Negative {
            relay,
            refusal,
            until: now + NEGATIVE_ANSWER_TIME,
        });
    }

    /// Notes that `destination` did not answer over `relay`, which need not mean that it is gone.
    pub(crate) fn lost(&mut self, destination: &PublicKey, relay: usize) {
        if let Some(route) = self.known.used(destination) {
            route.lose(relay);
            self.forget_if_empty(destination);
        }
    }

    /// Notes that the session with `relay` was lost: whoever was reached over it is anywhere now.
    pub(crate) fn relay_lost(&mut self, relay: usize) {
        self.known.retain(|route| {
            route.lose(relay);
            !route.is_empty()
        });
    }

    /// Returns how many destinations something is remembered of.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    fn forget_if_empty(&mut self, destination: &PublicKey) {
        if self
            .known
            .used(destination)
            .is_some_and(|route| route.is_empty())
        {
            self.known.remove(destination);
        }
    }
}

impl Route {
    /// Forgets what is too old.
    fn settle(&mut self, now: Now) {
        self.reached = self.reached.filter(|reached| now < reached.until);
        self.negatives.retain(|negative| now < negative.until);
    }

    fn lose(&mut self, relay: usize) {
        self.reached = self.reached.filter(|reached| reached.relay != relay);
    }

    fn negative(&self, relay: usize) -> Option<&Negative> {
        self.negatives
            .iter()
            .find(|negative| negative.relay == relay)
    }

    fn is_empty(&self) -> bool {
        self.reached.is_none() && self.negatives.is_empty()
    }
}

/// Most destinations that are remembered.
///
/// One costs about 200 bytes, so all of them less than 1 MiB. Past it a dial merely asks the nearest
/// relay first.
pub(crate) const ROUTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
