//! TCP connections of the virtual network.
//!
//! Here: one connection as two pipes, with bounded buffers, delays, pieces of any size, FIN, RST at
//! any byte and peers that vanish. Not here: what the two ends do with their bytes.
//!
//! Model: a written byte is in flight, then arrived, then read; flight and arrival together are
//! bounded by the socket buffers. RST overtakes nothing that has arrived; of what is in flight
//! nothing arrives any more. The relay closes with linger 0, so its close is an RST as well.

use std::collections::VecDeque;

use ringway_shards::batch::Batch;
use ringway_shards::core::Slot;

use crate::event::Event;
use crate::lease::SimLease;
use crate::world::World;

/// Direction of a pipe, seen from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    arrived: usize,
    flights: VecDeque<(u64, usize)>,
    capacity: usize,
    due_last: u64,
    written: u64,
    delivered: u64,
    fin_due: Option<u64>,
    pub(crate) has_fin: bool,
    /// The connection breaks when this many bytes have arrived.
    cut_at: Option<u64>,
}

impl Conn {
    /// Returns the longest silence so far in which the peer's host took what was sent.
    pub(crate) fn silent_ns(&self, now: u64) -> u64 {
        if self.completed_at >= self.heard_at {
            self.silent_ns_max.max(now - self.heard_at)
        } else {
            self.silent_ns_max
        }
    }
}

impl Pipe {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            flights: VecDeque::new(),
            capacity,
            due_last: 0,
            written: 0,
            delivered: 0,
            fin_due: None,
            has_fin: false,
            cut_at: None,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) const fn arrived(&self) -> usize {
        self.arrived
    }

    pub(crate) fn read(&mut self, count_max: usize) -> Vec<u8> {
        let count = self.arrived.min(count_max);
        self.arrived -= count;
        self.bytes.drain(..count).collect()
    }

    /// Takes what there is room for; returns how many bytes and when they arrive.
    pub(crate) fn push(&mut self, bytes: &[u8], due: u64) -> Option<(usize, u64)> {
        let count = self.room().min(bytes.len());
        if count == 0 {
            return None;
        }
        self.bytes.extend(&bytes[..count]);
        self.written += count as u64;
        self.due_last = self.due_last.max(due);
        self.flights.push_back((self.due_last, count));
        Some((count, self.due_last))
    }

    /// Puts FIN behind what was written; returns when it arrives.
    pub(crate) fn finish(&mut self, due: u64) -> Option<u64> {
        if self.fin_due.is_some() || self.has_fin {
            return None;
        }
        self.due_last = self.due_last.max(due);
        self.fin_due = Some(self.due_last);
        self.fin_due
    }

    /// Lets arrive what is due.
    pub(crate) fn land(&mut self, now: u64) {
        while let Some((due, count)) = self.flights.front().copied() {
            if due > now {
                break;
            }
            self.flights.pop_front();
            self.arrived += count;
            self.delivered += count as u64;
        }
        if self.flights.is_empty() && self.fin_due.is_some_and(|due| due <= now) {
            self.has_fin = true;
        }
    }

    pub(crate) fn drop_flights(&mut self) {
        self.bytes.truncate(self.arrived);
        self.flights.clear();
        self.fin_due = None;
    }

    pub(crate) fn drop_all(&mut self) {
        self.arrived = 0;
        self.drop_flights();
    }
}

/// A send that the relay's kernel works on.
#[derive(Debug)]
pub(crate) struct SendOp {
    pub(crate) batch: Batch<SimLease>,
    pub(crate) offset: usize,
    pub(crate) result: Option<Result<u32, i32>>,
}

impl SendOp {
    /// Returns the next `wanted` bytes.
    pub(crate) fn next_bytes(&self, wanted: usize) -> Vec<u8> {
        let mut skip = self.offset;
        let mut bytes = Vec::with_capacity(wanted);
        self.batch.for_each_slice(|slice| {
            let from = skip.min(slice.len());
            skip -= from;
            let count = (slice.len() - from).min(wanted - bytes.len());
            bytes.extend_from_slice(&slice[from..from + count]);
        });
        bytes
    }
}

/// One TCP connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that a trace shows by name"
)]
pub(crate) struct Conn {
    pub(crate) client: usize,
    pub(crate) shard: usize,
    pub(crate) slot: Option<Slot>,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) op: Option<SendOp>,
    /// The peer's kernel has seen an RST.
    pub(crate) is_reset_at_peer: bool,
    /// The relay's kernel has seen an RST.
    pub(crate) is_reset_at_relay: bool,
    pub(crate) is_recv_over: bool,
    pub(crate) is_closing: bool,
    pub(crate) is_closed_by_peer: bool,
    /// The peer has vanished: nothing from it arrives and it reads nothing.
    pub(crate) is_silent: bool,
    /// It waited for the relay to accept.
    pub(crate) has_waited: bool,
    /// When the relay's core was told of it.
    pub(crate) accepted_at: u64,
    /// When the relay last read bytes of it.
    pub(crate) heard_at: u64,
    /// Longest time without bytes of it although its host had taken all that was sent.
    pub(crate) silent_ns_max: u64,
    /// When the relay's last whole send was taken.
    pub(crate) completed_at: u64,
    /// Since when nothing is taken of what the relay sends; `None`: nothing waits.
    pub(crate) stuck_since: Option<u64>,
    /// What its shard had put behind it when it last moved in its handshake (`Shard::pushed`).
    pub(crate) pushed_at: u64,
    /// Sends that the relay has begun, without rests of short ones.
    pub(crate) sends: u64,
    /// The next send is the rest of a short one.
    pub(crate) is_rest_next: bool,
}

const ECONNRESET: i32 = 104;

impl World {
    /// Opens a connection to a shard; returns its number.
    pub(crate) fn connect(&mut self, client: usize) -> usize {
        let shard = self.rng.index(self.shards.len());
        let capacity = self.options.socket_bytes;
        let conn = Conn {
            client,
            shard,
            slot: None,
            up: Pipe::new(capacity),
            down: Pipe::new(capacity),
            op: None,
            is_reset_at_peer: false,
            is_reset_at_relay: false,
            is_recv_over: false,
            is_closing: false,
            is_closed_by_peer: false,
            is_silent: false,
            has_waited: false,
            accepted_at: 0,
            heard_at: 0,
            silent_ns_max: 0,
            completed_at: 0,
            stuck_since: None,
            pushed_at: 0,
            sends: 0,
            is_rest_next: false,
        };
        self.conns.push(conn);
        let number = self.conns.len() - 1;
        let delay = self.network_delay();
        self.at(delay, Event::Accept { conn: number });
        number
    }

    /// Breaks the connection once a random number of further bytes has arrived.
    pub(crate) fn cut_later(&mut self, conn: usize) {
        let further = self.rng.skewed(0, 200_000);
        let is_up = self.rng.chance(50);
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let pipe = if is_up {
            &mut entry.up
        } else {
            &mut entry.down
        };
        pipe.cut_at = Some(pipe.delivered + further);
    }

    pub(crate) fn network_delay(&mut self) -> u64 {
        self.rng
            .range(self.options.delay_min, self.options.delay_max)
    }

    /// Puts bytes on a pipe; returns how many it took.
    pub(crate) fn write(&mut self, conn: usize, way: Way, bytes: &[u8]) -> usize {
        let delay = self.network_delay();
        let now = self.now;
        let Some(entry) = self.conns.get_mut(conn) else {
            return 0;
        };
        if way == Way::Up && entry.is_silent {
            return bytes.len();
        }
        let pipe = if way == Way::Up {
            &mut entry.up
        } else {
            &mut entry.down
        };
        let Some((count, due)) = pipe.push(bytes, now + delay) else {
            return 0;
        };
        self.when(due, Event::Arrive { conn, way });
        count
    }

    /// Sends FIN behind what was written.
    pub(crate) fn fin(&mut self, conn: usize, way: Way) {
        let delay = self.network_delay();
        let now = self.now;
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if way == Way::Up && entry.is_silent {
            return;
        }
        let pipe = if way == Way::Up {
            &mut entry.up
        } else {
            &mut entry.down
        };
        if let Some(due) = pipe.finish(now + delay) {
            self.when(due, Event::Arrive { conn, way });
        }
    }

    /// Something is due on a pipe.
    pub(crate) fn arrive(&mut self, conn: usize, way: Way) {
        let now = self.now;
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if entry.is_silent && way == Way::Down {
            return;
        }
        let pipe = if way == Way::Up {
            &mut entry.up
        } else {
            &mut entry.down
        };
        pipe.land(now);
        if pipe.cut_at.is_some_and(|at| pipe.delivered >= at) {
            pipe.cut_at = None;
            self.hurt_client(conn, "connection cut");
            self.counts.resets += 1;
            return self.cut(conn);
        }
        match way {
            Way::Up => self.relay_read(conn),
            Way::Down if self.conns[conn].is_closed_by_peer => {
                self.conns[conn].down.drop_all();
                let delay = self.network_delay();
                self.at(delay, Event::ResetRelay { conn });
            }
            Way::Down => self.peer_readable(conn),
        }
    }

    /// Both ends see an RST now.
    pub(crate) fn cut(&mut self, conn: usize) {
        self.trace(|| format!("connection {conn} is cut"));
        self.reset_peer(conn);
        self.reset_relay(conn);
    }

    /// The peer's kernel sees an RST.
    pub(crate) fn reset_peer(&mut self, conn: usize) {
        let keeps = self.rng.chance(50);
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if entry.is_reset_at_peer || entry.is_silent {
            return;
        }
        entry.is_reset_at_peer = true;
        if keeps {
            entry.down.drop_flights();
        } else {
            entry.down.drop_all();
        }
        self.peer_readable(conn);
    }

    /// The relay's kernel sees an RST.
    pub(crate) fn reset_relay(&mut self, conn: usize) {
        let keeps = self.rng.chance(50);
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if entry.is_reset_at_relay {
            return;
        }
        entry.is_reset_at_relay = true;
        if keeps {
            entry.up.drop_flights();
        } else {
            entry.up.drop_all();
        }
        if let Some(op) = &mut entry.op
            && op.result.is_none()
        {
            op.result = Some(Err(ECONNRESET));
            let delay = self.completion_delay();
            self.at(delay, Event::SendDone { conn });
        }
        self.relay_read(conn);
    }

    /// The relay has read bytes of a peer.
    pub(crate) fn note_heard(&mut self, conn: usize) {
        let now = self.now;
        let entry = &mut self.conns[conn];
        entry.silent_ns_max = entry.silent_ns(now);
        entry.heard_at = now;
    }

    /// Closes the peer's end for good.
    pub(crate) fn peer_close(&mut self, conn: usize, with_reset: bool) {
        let delay = self.network_delay();
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if entry.is_closed_by_peer {
            return;
        }
        entry.is_closed_by_peer = true;
        if entry.is_silent || entry.is_reset_at_peer {
            return;
        }
        entry.down.drop_all();
        if with_reset {
            entry.up.drop_flights();
            self.at(delay, Event::ResetRelay { conn });
        } else {
            self.fin(conn, Way::Up);
            // The window that the unread bytes held is open again.
            self.progress_send(conn);
        }
    }

    /// The relay closes its end.
    pub(crate) fn relay_close(&mut self, conn: usize) {
        let delay = self.network_delay();
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        entry.is_recv_over = true;
        entry.up.drop_all();
        if entry.is_reset_at_relay {
            return;
        }
        entry.is_reset_at_relay = true;
        self.at(delay, Event::ResetPeer { conn });
    }

    /// The relay's kernel goes on with a send.
    pub(crate) fn progress_send(&mut self, conn: usize) {
        let is_short = self.rng.chance(self.options.faults.short_send);
        self.progress(conn, is_short);
    }

    fn progress(&mut self, conn: usize, is_short: bool) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Some(op) = entry.op.as_ref().filter(|op| op.result.is_none()) else {
            return;
        };
        if entry.is_reset_at_relay {
            return self.end_send(conn, Err(ECONNRESET));
        }
        let room = entry.down.room();
        let total = op.batch.len();
        let mut wanted = room.min(total - op.offset);
        if is_short && wanted > 1 {
            wanted = self.rng.size(1, wanted);
        }
        let bytes = op.next_bytes(wanted);
        if bytes.len() != wanted {
            return self.fail(format!("a batch of {total} bytes has fewer in its slices"));
        }
        let taken = self.write(conn, Way::Down, &bytes);
        let Some(op) = self.conns.get_mut(conn).and_then(|entry| entry.op.as_mut()) else {
            return;
        };
        op.offset += taken;
        let offset = op.offset;
        let is_over = offset == total || (is_short && offset > 0);
        if taken > 0 {
            let now = self.now;
            self.conns[conn].stuck_since = (!is_over).then_some(now);
            if offset == total {
                self.conns[conn].completed_at = now;
            }
        }
        if is_over {
            if offset < total {
                self.counts.short_sends += 1;
                self.conns[conn].is_rest_next = true;
            }
            self.end_send(conn, Ok(u32::try_from(offset).unwrap_or(u32::MAX)));
        }
    }

    /// The relay's kernel has sent everything although it was told to stop.
    pub(crate) fn cross_cancel(&mut self, conn: usize) {
        let entry = &mut self.conns[conn];
        let Some(op) = entry.op.as_ref() else { return };
        let left = op.batch.len() - op.offset;
        // The buffer grows for it, as the kernel's do: what the peer takes still makes room.
        entry.down.capacity = entry.down.capacity.max(entry.down.bytes.len() + left);
        self.progress(conn, false);
    }

    pub(crate) fn end_send(&mut self, conn: usize, result: Result<u32, i32>) {
        if let Some(op) = self.conns.get_mut(conn).and_then(|entry| entry.op.as_mut()) {
            op.result = Some(result);
            let delay = self.completion_delay();
            self.at(delay, Event::SendDone { conn });
        }
    }

    pub(crate) fn completion_delay(&mut self) -> u64 {
        self.rng.skewed(0, self.options.completion_delay_max)
    }
}
