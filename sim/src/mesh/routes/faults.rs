//! Faults of peers and of the service's sessions in a run with routes.
//!
//! Here: what each does, and what the book is told of it. Not here: what hops do wrong in their answers
//! (`peer`).

use super::super::world::Mesh;
use super::RouteEvent;
use super::book::{GRACE_NS, Trouble};
use super::party::Role;
use crate::options::{MS, SECOND};

/// Faults at a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::mesh) enum RouteFault {
    /// A peer's connection breaks.
    Break,
    /// A peer's process dies, and its table with it.
    Die,
    /// Nothing arrives at a peer and from it for a while.
    Hold,
    /// A session of the services is lost, or another one takes its place.
    Lose,
    /// A peer vanishes without a word.
    Vanish,
}

impl Mesh {
    pub(super) fn plan_route_faults(&mut self, span: u64) {
        let options = self.routes.options;
        let kinds = [
            (options.breaks, RouteFault::Break),
            (options.deaths, RouteFault::Die),
            (options.holds, RouteFault::Hold),
            (options.losses, RouteFault::Lose),
            (options.vanishes, RouteFault::Vanish),
        ];
        for (count, fault) in kinds {
            for _ in 0..count {
                let delay = self.rng.below(span);
                self.at(delay, RouteEvent::Fault { fault }.into());
            }
        }
    }

    pub(super) fn inject_route(&mut self, fault: RouteFault) {
        self.trace(|| format!("fault: {fault:?}"));
        if matches!(fault, RouteFault::Lose) {
            return self.lose_service();
        }
        let identity = self.rng.index(self.options.identities);
        let Some(party) = self.party_of(Role::Peer(identity)) else {
            return;
        };
        let wire = self.routes.notes[party].wire;
        self.routes.notes[party].is_hurt = true;
        let now = self.now;
        match fault {
            RouteFault::Hold => {
                self.counts.links_delayed += 1;
                let time = self.rng.skewed(100 * MS, 20 * SECOND);
                self.hold(wire, time);
                // What it is opened meanwhile may time out.
                for trouble in [Trouble::Late, Trouble::Gone] {
                    self.routes
                        .book
                        .trouble(identity, trouble, now + time + GRACE_NS);
                }
                return;
            }
            RouteFault::Vanish => {
                self.counts.vanished += 1;
                self.wires[wire].is_silent = true;
                self.with_party(party, |party, mesh| party.over(mesh, "vanished"));
            }
            RouteFault::Die => {
                self.counts.hops_died += 1;
                self.routes.book.die(identity, now);
                self.with_party(party, |party, mesh| party.over(mesh, "died"));
            }
            RouteFault::Break | RouteFault::Lose => {
                self.counts.resets += 1;
                self.break_wire(wire);
            }
        }
        self.hop_changed(identity, false);
    }

    /// The session of a hop stands from now on, or does not.
    pub(super) fn hop_changed(&mut self, identity: usize, is_there: bool) {
        let until = self.now + GRACE_NS;
        let book = &mut self.routes.book;
        book.hops[identity].is_there = is_there;
        book.trouble(identity, Trouble::Gone, until);
    }

    /// A session is over: its owner comes back after a while.
    pub(super) fn party_over(&mut self, role: Role) {
        let delay = self.rng.skewed(0, 5 * SECOND);
        match role {
            Role::Peer(identity) => {
                self.hop_changed(identity, false);
                self.routes.waiting[identity].clear();
                self.at(delay, RouteEvent::Join { identity }.into());
            }
            Role::Service(shard) => {
                let now = self.clock();
                self.routes.service_trouble[shard] = self.now + delay + GRACE_NS;
                let routes = &mut self.routes;
                routes.services[shard].lost(&mut routes.book, now);
                self.at(delay, RouteEvent::Attach { shard }.into());
            }
        }
    }

    /// A session of the relay's key is attached to a shard that has none.
    pub(super) fn attach_service(&mut self, shard: usize) {
        if !self.is_ending && self.party_of(Role::Service(shard)).is_none() {
            self.routes.service_trouble[shard] = self.now + GRACE_NS;
            self.begin_party(Role::Service(shard));
        }
    }

    fn lose_service(&mut self) {
        let shard = self.rng.index(self.routes.services.len());
        let Some(party) = self.party_of(Role::Service(shard)) else {
            return;
        };
        self.counts.services_lost += 1;
        self.routes.notes[party].is_hurt = true;
        let wire = self.routes.notes[party].wire;
        self.routes.service_trouble[shard] = self.now + 10 * SECOND;
        // All that it has under way, and what is on its way to it, may fail.
        for number in 0..self.routes.book.setups.len() {
            let setup = &self.routes.book.setups[number];
            let at = setup.asked.filter(|_| setup.answers == 0);
            let at = at.and_then(|(party, _)| self.shard_of(self.routes.notes[party].wire));
            if at == Some(shard) {
                self.routes.book.hurt(number);
            }
        }
        self.break_wire(wire);
    }
}
