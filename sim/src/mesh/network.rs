//! TCP connections of a mesh: from peers to relays, and from relay to relay.
//!
//! Here: a connection as two ends that are alike, whoever has them, with delays, pieces, bounded buffers,
//! FIN, RST and silence. Not here: what the ends do with their bytes.
//!
//! Model: as in the runs with one relay (`network`), whose pipes these are. A silent connection takes bytes
//! until its buffers are full and neither delivers nor tells anything.

use core::net::SocketAddr;

use ringway_shards::core::{RecvEnd, Slot};

use super::driver::{Input, Seat};
use super::event::Event;
use super::routes::RouteEvent;
use super::world::Mesh;
use crate::lease::SimLease;
use crate::network::{Pipe, SendOp};

/// Who has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// This party of a run with routes.
    Party(usize),
    /// This client.
    Peer(usize),
    /// This shard.
    Shard(usize),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    pub(super) slot: Option<Slot>,
    /// Where a shard dialed from.
    pub(super) source: Option<SocketAddr>,
    /// Bytes on their way to this end.
    pub(super) inbound: Pipe,
    pub(super) op: Option<SendOp>,
    /// The kernel has seen an RST.
    pub(super) is_reset: bool,
    pub(super) is_recv_over: bool,
    /// The owner has closed it, or is gone.
    pub(super) is_closed: bool,
}

/// One TCP connection; end 0 is the one that began it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [End; 2],
    pub(super) is_silent: bool,
    /// Nothing arrives before this time.
    held_until: u64,
}

impl Wire {
    /// Returns whether it is one between relays that stands.
    pub(super) fn is_link(&self) -> bool {
        matches!(self.ends[0].owner, Owner::Shard(_))
            && self.ends.iter().all(|end| !end.is_closed && !end.is_reset)
    }
}

const ECONNRESET: i32 = 104;

impl Mesh {
    /// Makes a connection to one of a relay's shards, which hears of it later; returns its number.
    pub(super) fn connect(&mut self, owner: Owner, relay: usize) -> usize {
        let shards = &self.relays[relay].shards;
        let shard = shards[self.rng.index(shards.len())];
        let wire = self.lay_wire(owner, shard);
        let delay = self.network_delay();
        self.at(delay, Event::Accept { wire });
        wire
    }

    /// Attaches a socket pair to a shard, whose other end the owner has; returns its number.
    pub(super) fn attach(&mut self, owner: Owner, shard: usize) -> usize {
        let wire = self.lay_wire(owner, shard);
        let Some(slot) = self.free_slot(shard) else {
            self.fail(format!("shard {shard} has no slot for a service"));
            return wire;
        };
        if let Some(seat) = self.seat(shard, slot) {
            *seat = Seat::Wire(wire, 1);
        }
        self.wires[wire].ends[1].slot = Some(slot);
        self.push(shard, Input::Attached(slot));
        wire
    }

    fn lay_wire(&mut self, owner: Owner, shard: usize) -> usize {
        let capacity = self.options.socket_bytes;
        let end = |owner| End {
            owner,
            slot: None,
            source: None,
            inbound: Pipe::new(capacity),
            op: None,
            is_reset: false,
            is_recv_over: false,
            is_closed: false,
        };
        self.wires.push(Wire {
            ends: [end(owner), end(Owner::Shard(shard))],
            is_silent: false,
            held_until: 0,
        });
        self.wires.len() - 1
    }

    pub(super) fn network_delay(&mut self) -> u64 {
        self.rng
            .range(self.options.delay_min, self.options.delay_max)
    }

    /// Lets nothing arrive on a connection for a while.
    pub(super) fn hold(&mut self, wire: usize, time: u64) {
        self.wires[wire].held_until = self.now + time;
    }

    /// Sends bytes from an end; returns how many the kernel took.
    pub(super) fn write(&mut self, wire: usize, side: usize, bytes: &[u8]) -> usize {
        let delay = self.network_delay();
        let due = (self.now + delay).max(self.wires[wire].held_until);
        let pushed = self.wires[wire].ends[1 - side].inbound.push(bytes, due);
        let Some((count, due)) = pushed else {
            return 0;
        };
        self.when(
            due,
            Event::Arrive {
                wire,
                side: 1 - side,
            },
        );
        count
    }

    /// Something is due at an end.
    pub(super) fn arrive(&mut self, wire: usize, side: usize) {
        if self.wires[wire].is_silent {
            return;
        }
        let now = self.now;
        let end = &mut self.wires[wire].ends[side];
        end.inbound.land(now);
        if end.is_closed {
            end.inbound.drop_all();
            return self.reset_later(wire, 1 - side);
        }
        self.readable(wire, side);
    }

    fn readable(&mut self, wire: usize, side: usize) {
        match self.wires[wire].ends[side].owner {
            Owner::Party(party) => self.at(0, RouteEvent::Read { party }.into()),
            Owner::Peer(client) => self.at(0, Event::Read { client }),
            Owner::Shard(shard) => self.relay_read(shard, wire, side),
        }
    }

    /// The kernel of a relay hands over what has arrived.
    pub(super) fn relay_read(&mut self, shard: usize, wire: usize, side: usize) {
        let end = &self.wires[wire].ends[side];
        let Some(slot) = end.slot.filter(|_| !end.is_recv_over && !end.is_closed) else {
            return;
        };
        let mut has_read = false;
        while self.wires[wire].ends[side].inbound.arrived() > 0 {
            let count = self.rng.size(1, self.options.piece_max);
            let bytes = self.wires[wire].ends[side].inbound.read(count);
            let lease = SimLease::new(bytes, self.now, &self.shards[shard].account);
            self.push(shard, Input::Received(slot, lease));
            has_read = true;
        }
        let end = &mut self.wires[wire].ends[side];
        let ended = if end.is_reset {
            Some(RecvEnd::Error(ECONNRESET))
        } else {
            end.inbound.has_fin.then_some(RecvEnd::Eof)
        };
        if let Some(ended) = ended {
            end.is_recv_over = true;
            self.push(shard, Input::RecvEnded(slot, wire, side, ended));
        }
        if has_read {
            self.room_made(wire, side);
        }
    }

    /// An end has read: the other one may go on sending.
    pub(super) fn room_made(&mut self, wire: usize, side: usize) {
        match self.wires[wire].ends[1 - side].owner {
            Owner::Party(party) => self.at(0, RouteEvent::Pump { party }.into()),
            Owner::Peer(client) => self.at(0, Event::Pump { client }),
            Owner::Shard(_) => self.progress_send(wire, 1 - side),
        }
    }

    /// An RST reaches an end some time later.
    pub(super) fn reset_later(&mut self, wire: usize, side: usize) {
        let delay = self.network_delay();
        let due = (self.now + delay).max(self.wires[wire].held_until);
        self.when(due, Event::Reset { wire, side });
    }

    /// An RST reaches an end; of what is in flight nothing arrives any more.
    pub(super) fn reset(&mut self, wire: usize, side: usize) {
        let keeps = self.rng.chance(50);
        let Wire {
            ends, is_silent, ..
        } = &mut self.wires[wire];
        let end = &mut ends[side];
        if *is_silent || end.is_reset || end.is_closed {
            return;
        }
        end.is_reset = true;
        if keeps {
            end.inbound.drop_flights();
        } else {
            end.inbound.drop_all();
        }
        if end.op.as_ref().is_some_and(|op| op.result.is_none()) {
            self.end_send(wire, side, Err(ECONNRESET));
        }
        self.readable(wire, side);
    }

    /// Both ends see an RST now.
    pub(super) fn break_wire(&mut self, wire: usize) {
        self.reset(wire, 0);
        self.reset(wire, 1);
    }

    /// An owner closes its end: relays linger for nothing, so that theirs is an RST.
    pub(super) fn close_end(&mut self, wire: usize, side: usize, with_reset: bool) {
        let delay = self.network_delay();
        let now = self.now;
        let Wire {
            ends,
            is_silent,
            held_until,
        } = &mut self.wires[wire];
        let end = &mut ends[side];
        if end.is_closed {
            return;
        }
        end.is_closed = true;
        end.is_recv_over = true;
        end.inbound.drop_all();
        if *is_silent || end.is_reset {
            return;
        }
        if with_reset {
            return self.reset_later(wire, 1 - side);
        }
        let due = (now + delay).max(*held_until);
        if let Some(due) = ends[1 - side].inbound.finish(due) {
            self.when(
                due,
                Event::Arrive {
                    wire,
                    side: 1 - side,
                },
            );
        }
        // The window that the unread bytes held is open again.
        self.progress_send(wire, 1 - side);
    }

    /// The kernel of a relay goes on with a send.
    pub(super) fn progress_send(&mut self, wire: usize, side: usize) {
        let is_short = self.rng.chance(self.options.faults.short_send);
        let ends = &self.wires[wire].ends;
        let Some(op) = ends[side].op.as_ref().filter(|op| op.result.is_none()) else {
            return;
        };
        if ends[side].is_reset {
            return self.end_send(wire, side, Err(ECONNRESET));
        }
        let total = op.batch.len();
        let mut wanted = ends[1 - side].inbound.room().min(total - op.offset);
        if is_short && wanted > 1 {
            wanted = self.rng.size(1, wanted);
        }
        let bytes = op.next_bytes(wanted);
        if bytes.len() != wanted {
            return self.fail(format!("a batch of {total} bytes has fewer in its slices"));
        }
        let taken = self.write(wire, side, &bytes);
        let Some(op) = &mut self.wires[wire].ends[side].op else {
            return;
        };
        op.offset += taken;
        let offset = op.offset;
        if offset == total || (is_short && offset > 0) {
            self.counts.short_sends += u64::from(offset < total);
            self.end_send(wire, side, Ok(u32::try_from(offset).unwrap_or(u32::MAX)));
        }
    }

    pub(super) fn end_send(&mut self, wire: usize, side: usize, result: Result<u32, i32>) {
        if let Some(op) = &mut self.wires[wire].ends[side].op {
            op.result = Some(result);
            let delay = self.completion_delay();
            self.at(delay, Event::SendDone { wire, side });
        }
    }

    pub(super) fn completion_delay(&mut self) -> u64 {
        self.rng.skewed(0, self.options.completion_delay_max)
    }

    /// The host of a shard closes everything that it has, as at the end of a process.
    pub(super) fn drop_ends_of(&mut self, shard: usize) {
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                let end = &mut self.wires[wire].ends[side];
                if end.owner == Owner::Shard(shard) && !end.is_closed {
                    end.op = None;
                    end.slot = None;
                    self.close_end(wire, side, true);
                }
            }
        }
        self.shards[shard].seats.fill(Seat::Free);
    }
}
