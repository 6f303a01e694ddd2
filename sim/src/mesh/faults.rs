//! Faults of links, relays and peers of a mesh.
//!
//! Here: what each does. Not here: when they come (`mesh`), the registry's (`registry`).

use super::driver::Input;
use super::event::{Event, Fault};
use super::options::some;
use super::world::Mesh;
use crate::options::{MS, SECOND};

/// From the shutdown of a relay that has drained until nothing of it may be left.
const RETIRE_NS: u64 = 20 * SECOND;

impl Mesh {
    pub(super) fn inject(&mut self, fault: Fault) {
        self.trace(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Break | Fault::Move | Fault::Vanish => self.trouble_peer(fault),
            Fault::Cut | Fault::Delay | Fault::Reset => self.trouble_link(fault),
            Fault::Drain | Fault::Kill | Fault::Want => self.trouble_relay(fault),
        }
    }

    fn trouble_link(&mut self, fault: Fault) {
        let links: Vec<usize> = (0..self.wires.len())
            .filter(|wire| self.wires[*wire].is_link() && !self.wires[*wire].is_silent)
            .collect();
        if links.is_empty() {
            return;
        }
        let wire = links[self.rng.index(links.len())];
        self.trace(|| format!("it is wire {wire}"));
        match fault {
            Fault::Cut => {
                self.counts.links_cut += 1;
                self.wires[wire].is_silent = true;
            }
            Fault::Delay => {
                self.counts.links_delayed += 1;
                let time = self.rng.skewed(100 * MS, 25 * SECOND);
                self.hold(wire, time);
            }
            _ => {
                self.counts.links_reset += 1;
                self.break_wire(wire);
            }
        }
    }

    fn trouble_relay(&mut self, fault: Fault) {
        let number = self.rng.index(self.relays.len());
        let relay = &mut self.relays[number];
        if !relay.is_up {
            return;
        }
        match fault {
            Fault::Kill => {
                self.counts.relays_killed += 1;
                let pause = self.rng.skewed(100 * MS, 40 * SECOND);
                self.stop(number);
                self.at(pause, Event::Start { relay: number });
            }
            Fault::Drain if !relay.is_draining => {
                self.counts.relays_drained += 1;
                self.drain(number);
                let life = self.relays[number].life;
                let pause = self.rng.skewed(0, 20 * SECOND);
                let relay = number;
                self.at(pause, Event::Retire { relay, life });
            }
            Fault::Want => {
                self.counts.wants_changed += 1;
                let wanted = some(&mut self.rng, self.relays.len(), number, 50);
                let relay = &mut self.relays[number];
                relay.ever_wanted.extend(&wanted);
                relay.wanted = wanted;
                self.tell_wanted(number);
            }
            _ => {}
        }
    }

    /// The process of a relay ends.
    fn stop(&mut self, number: usize) {
        self.trace(|| format!("relay {number} stops"));
        self.hurt_peers_of(number, "its relay is gone");
        self.relays[number].is_up = false;
        for shard in self.relays[number].shards.clone() {
            self.shards[shard].die();
            self.drop_ends_of(shard);
        }
        // Its host's kernel has closed the sockets: a new process may bind to their ports.
        self.ports.retain(|(relay, _), _| *relay != number);
    }

    pub(super) fn drain(&mut self, number: usize) {
        self.hurt_peers_of(number, "its relay drains");
        self.relays[number].is_draining = true;
        for shard in self.relays[number].shards.clone() {
            self.push(shard, Input::Drain);
        }
    }

    /// A relay that has drained is shut down, then looked at, then started anew.
    pub(super) fn retire(&mut self, number: usize, life: u32) {
        let relay = &mut self.relays[number];
        if relay.life != life || !relay.is_up || self.is_ending {
            return;
        }
        let shards = relay.shards.clone();
        if !std::mem::replace(&mut relay.is_shut_down, true) {
            for shard in shards {
                self.push(shard, Input::Shutdown);
            }
            let relay = number;
            return self.at(RETIRE_NS, Event::Retire { relay, life });
        }
        self.check_relay_end(number);
        self.stop(number);
        let pause = self.rng.skewed(0, 5 * SECOND);
        self.at(pause, Event::Start { relay: number });
    }

    fn hurt_peers_of(&mut self, relay: usize, why: &'static str) {
        for client in 0..self.notes.len() {
            if self.notes[client].relay == relay && !self.notes[client].is_over {
                self.hurt(client, why);
            }
        }
    }

    fn trouble_peer(&mut self, fault: Fault) {
        let identity = self.rng.index(self.options.identities);
        let Some(client) = self.session_of(identity) else {
            return;
        };
        let note = self.notes[client];
        match fault {
            Fault::Break => {
                self.counts.resets += 1;
                self.hurt(client, "connection broken");
                self.break_wire(note.wire);
            }
            Fault::Vanish => {
                self.counts.vanished += 1;
                self.hurt(client, "vanished");
                self.wires[note.wire].is_silent = true;
                self.with_client(client, |client, mesh| client.leave(mesh));
            }
            _ => {
                self.counts.peers_moved += 1;
                if self.rng.chance(50) {
                    self.leave(client);
                    return self.connect_peer(identity, Some(note.relay));
                }
                // For a while it is at both, then at one of them.
                self.connect_peer(identity, Some(note.relay));
                let newer = self.session_of(identity).unwrap_or(client);
                let client = if self.rng.chance(50) { client } else { newer };
                let delay = self.rng.skewed(100 * MS, 30 * SECOND);
                self.at(delay, Event::Leave { client });
            }
        }
    }

    /// A peer goes from a relay.
    pub(super) fn leave(&mut self, client: usize) {
        let note = self.notes[client];
        if note.is_over {
            return;
        }
        self.hurt(client, "left");
        self.with_client(client, |client, mesh| client.leave(mesh));
        // Others want to reach it while the news is on its way.
        for _ in 0..self.rng.below(4) {
            let mut open = self.draw_open();
            open.to = note.identity;
            self.opens.push(open);
            let open = self.opens.len() - 1;
            let delay = self.rng.skewed(0, 2 * self.options.delay_max);
            self.at(delay, Event::Open { open });
        }
    }
}
