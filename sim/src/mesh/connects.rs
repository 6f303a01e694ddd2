//! Connects of one relay to another, and whose the local ports are.
//!
//! Here: what the kernel makes of a connect, and a book of local ports kept apart from the core's. Not here:
//! the connection that stands (`network`).
//!
//! Invariant: no two live sockets of a relay share a local port, and none is used again before it has rested.

use core::net::SocketAddr;

use ringway_shards::core::{ConnectFault, DialKey, Slot};

use super::driver::{Input, Seat};
use super::event::Event;
use super::network::Owner;
use super::world::{Mesh, PORT_REST, address};

/// A connect that a shard has begun.
#[derive(Debug)]
pub(super) struct Connect {
    shard: usize,
    dial: DialKey,
    source: SocketAddr,
    target: usize,
    slot: Option<Slot>,
    /// `None`: it will stand.
    fault: Option<ConnectFault>,
    is_over: bool,
}

/// A local port that a socket has, or that rests until then.
#[derive(Debug, Clone, Copy)]
pub(super) enum Port {
    Resting(u64),
    Taken,
}

impl Connect {
    /// Returns what the core calls it, and where it comes from.
    pub(super) const fn names(&self) -> (DialKey, SocketAddr) {
        (self.dial, self.source)
    }

    pub(super) const fn slot(&self) -> Option<Slot> {
        self.slot
    }
}

const ECANCELED: i32 = 125;
const ECONNREFUSED: i32 = 111;
const ENFILE: i32 = 23;

impl Mesh {
    /// A shard wants a connection to another relay.
    pub(super) fn start_connect(
        &mut self,
        shard: usize,
        dial: DialKey,
        source: SocketAddr,
        to: SocketAddr,
    ) {
        let own = self.shards[shard].relay;
        self.take_port(own, source);
        let found = (0..self.relays.len()).find(|relay| address(*relay) == to);
        let Some(target) = found else {
            return self.fail(format!("shard {shard} dials {to}, which nobody named"));
        };
        self.trace(|| format!("shard {shard} connects from {source} to relay {target}"));
        let slot = self.free_slot(shard);
        let number = self.connects.len();
        let refused = ConnectFault::Peer(ECONNREFUSED);
        let is_bad = !self.is_calm && self.rng.chance(self.options.faults.connect);
        let is_hung = is_bad && self.rng.chance(40);
        let fault = match slot {
            None => Some(ConnectFault::Local(ENFILE)),
            Some(_) => is_bad.then_some(refused),
        };
        self.connects.push(Connect {
            shard,
            dial,
            source,
            target,
            slot,
            fault,
            is_over: false,
        });
        if let Some(seat) = slot.and_then(|slot| self.seat(shard, slot)) {
            *seat = Seat::Dialing;
        }
        let delay = 2 * self.network_delay();
        if !is_hung {
            self.at(delay, Event::Outcome { connect: number });
        }
    }

    /// The core gives a connect up. The kernel may be faster.
    pub(super) fn cancel_connect(&mut self, shard: usize, dial: DialKey) {
        let number = self
            .connects
            .iter()
            .position(|connect| connect.shard == shard && connect.dial == dial);
        let Some(number) = number else {
            return self.fail(format!("shard {shard} cancels what nobody dialed"));
        };
        if !self.connects[number].is_over {
            self.connects[number].fault = Some(ConnectFault::Peer(ECANCELED));
            self.at(1_000, Event::Outcome { connect: number });
        }
    }

    /// The kernel knows what became of a connect.
    pub(super) fn outcome(&mut self, number: usize) {
        let Connect {
            shard,
            target,
            slot,
            fault,
            source,
            is_over,
            ..
        } = self.connects[number];
        if is_over || self.shards[shard].is_dead {
            return;
        }
        self.connects[number].is_over = true;
        let is_down = !self.relays[target].is_up;
        let fault = fault.or_else(|| is_down.then_some(ConnectFault::Peer(ECONNREFUSED)));
        let (Some(slot), None) = (slot, fault) else {
            self.counts.connects_failed += 1;
            if let Some(seat) = slot.and_then(|slot| self.seat(shard, slot)) {
                *seat = Seat::Free;
            }
            let fault = fault.unwrap_or(ConnectFault::Local(ENFILE));
            return self.push(shard, Input::ConnectFailed(number, fault));
        };
        let wire = self.connect(Owner::Shard(shard), target);
        let end = &mut self.wires[wire].ends[0];
        end.slot = Some(slot);
        end.source = Some(source);
        if let Some(seat) = self.seat(shard, slot) {
            *seat = Seat::Wire(wire, 0);
        }
        self.push(shard, Input::Connected(number));
    }

    /// A shard binds a socket to a local port.
    pub(super) fn take_port(&mut self, relay: usize, source: SocketAddr) {
        match self.ports.insert((relay, source), Port::Taken) {
            Some(Port::Taken) => self.fail(format!("{source} belongs to a live socket")),
            Some(Port::Resting(until)) if until > self.now => {
                self.fail(format!("{source} has not rested"));
            }
            _ => {}
        }
    }

    /// The socket is gone.
    pub(super) fn rest_port(&mut self, relay: usize, source: SocketAddr) {
        let until = (self.clock() + PORT_REST).as_nanos();
        self.ports.insert((relay, source), Port::Resting(until));
    }
}
