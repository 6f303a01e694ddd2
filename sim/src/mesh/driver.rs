//! The shards of the relays of a mesh: turns, actions, completions.
//!
//! Here: what a data thread, its ring, the mailboxes and the executor do. Not here: connects (`connects`),
//! the network (`network`), what must hold (`checks`), what the registry says (`registry`).
//!
//! Invariant: slot reuse only after its close is reported; one send in flight a slot; mail of an ordered pair
//! stays in order; what comes for a shard of a relay that was killed is lost.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringway_proto::dialect::Dialect;
use ringway_proto::time::Now;
use ringway_shards::batch::Batch;
use ringway_shards::core::{
    Action, ConnectFault, CoreConfig, JobResult, LookedUp, Lookup, Message, RecvEnd, RelayAddress,
    ShardCore, ShardId, Slot, Source,
};
use ringway_shards::lease::Lease;

use super::event::Event;
use super::network::Owner;
use super::world::Mesh;
use crate::driver::{SimDirectory, fire_timers, put_back, take_some};
use crate::lease::{Account, SimLease};
use crate::network::SendOp;

/// What a shard finds when it wakes.
#[derive(Debug)]
pub(super) enum Input {
    Accepted(Slot, Source),
    Attached(Slot),
    Closed(Slot, Option<SocketAddr>),
    Computed(Box<JobResult>),
    ConnectFailed(usize, ConnectFault),
    Connected(usize),
    Drain,
    LookedUp(Lookup, LookedUp),
    Message(usize, Box<Message<SimLease>>),
    Received(Slot, SimLease),
    RecvEnded(Slot, usize, usize, RecvEnd),
    Sent(Slot, SendOp),
    Shutdown,
    Want(Vec<RelayAddress>),
}

/// What a slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    Free,
    /// A connect under way.
    Dialing,
    /// An end of a connection.
    Wire(usize, usize),
}

/// One shard and its kernel side.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) core: ShardCore<SimLease, SimDirectory>,
    pub(super) relay: usize,
    pub(super) account: Arc<Account>,
    pub(super) seats: Vec<Seat>,
    /// When the last socket of a slot was closed.
    pub(super) closed_at: BTreeMap<u32, u64>,
    pub(super) received_bytes: u64,
    /// Questions to the registry without an answer.
    pub(super) questions: u64,
    /// Its relay was killed, or has ended.
    pub(super) is_dead: bool,
    inbox: VecDeque<Input>,
    backlog: VecDeque<usize>,
    mail_due: Vec<u64>,
    timer_at: u64,
    is_awake: bool,
    is_paused: bool,
}

impl Shard {
    pub(super) fn new(config: CoreConfig, directory: SimDirectory, relay: usize, now: u64) -> Self {
        let slots = usize::try_from(config.admission.sockets_max).unwrap_or(0) + 1;
        let shards = usize::from(config.shards_count);
        Self {
            core: ShardCore::new(config, directory, Now::from_nanos(now)),
            relay,
            account: Arc::default(),
            seats: vec![Seat::Free; slots],
            closed_at: BTreeMap::new(),
            received_bytes: 0,
            questions: 0,
            is_dead: false,
            inbox: VecDeque::new(),
            backlog: VecDeque::new(),
            mail_due: vec![0; shards],
            timer_at: u64::MAX,
            is_awake: false,
            is_paused: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.seats.iter().all(|seat| *seat == Seat::Free)
    }

    /// Ends with its process: what it was told is forgotten.
    pub(super) fn die(&mut self) {
        self.is_dead = true;
        self.inbox.clear();
        self.backlog.clear();
    }
}

const ECANCELED: i32 = 125;

impl Mesh {
    /// Gives a shard an input and wakes it.
    pub(super) fn push(&mut self, shard: usize, input: Input) {
        if !self.shards[shard].is_dead {
            self.shards[shard].inbox.push_back(input);
            self.wake(shard);
        }
    }

    pub(super) fn wake(&mut self, shard: usize) {
        if !self.shards[shard].is_awake {
            self.shards[shard].is_awake = true;
            let delay = self.rng.skewed(0, self.options.turn_delay_max);
            self.at(delay, Event::Turn { shard });
        }
    }

    /// A connection stands in a listener's queue.
    pub(super) fn reach_listener(&mut self, wire: usize) {
        let Owner::Shard(shard) = self.wires[wire].ends[1].owner else {
            return;
        };
        if self.shards[shard].is_dead {
            self.wires[wire].ends[1].is_closed = true;
            return self.reset_later(wire, 0);
        }
        self.shards[shard].backlog.push_back(wire);
        self.accept(shard);
    }

    pub(super) fn free_slot(&self, shard: usize) -> Option<Slot> {
        let seats = &self.shards[shard].seats;
        let free = seats.iter().position(|seat| *seat == Seat::Free)?;
        Some(Slot(u32::try_from(free).ok()?))
    }

    pub(super) fn seat(&mut self, shard: usize, slot: Slot) -> Option<&mut Seat> {
        let index = usize::try_from(slot.0).ok()?;
        self.shards[shard].seats.get_mut(index)
    }

    fn accept(&mut self, shard: usize) {
        while !self.shards[shard].is_paused {
            let Some(wire) = self.shards[shard].backlog.pop_front() else {
                return;
            };
            let Some(slot) = self.free_slot(shard) else {
                return self.fail(format!("shard {shard} accepts beyond its table"));
            };
            if let Some(seat) = self.seat(shard, slot) {
                *seat = Seat::Wire(wire, 1);
            }
            self.wires[wire].ends[1].slot = Some(slot);
            self.trace(|| format!("shard {shard} accepts wire {wire} in slot {}", slot.0));
            // Every party has an address of its own.
            let from = match self.wires[wire].ends[0].owner {
                Owner::Party(client) | Owner::Peer(client) => client + 1_000,
                Owner::Shard(other) => self.shards[other].relay,
            };
            let from = Ipv4Addr::from(u32::try_from(from).unwrap_or(0));
            self.push(shard, Input::Accepted(slot, Source::of(from.into())));
            self.relay_read(shard, wire, 1);
        }
    }

    pub(super) fn send_done(&mut self, wire: usize, side: usize) {
        let end = &mut self.wires[wire].ends[side];
        let Owner::Shard(shard) = end.owner else {
            return;
        };
        if let (Some(op), Some(slot)) = (end.op.take(), end.slot) {
            self.push(shard, Input::Sent(slot, op));
        }
    }

    pub(super) fn close_done(&mut self, wire: usize, side: usize) {
        let end = &mut self.wires[wire].ends[side];
        let (Owner::Shard(shard), Some(slot)) = (end.owner, end.slot) else {
            return;
        };
        if end.op.is_some() {
            // A ring reports a close behind the last operation of its socket.
            return self.at(1_000, Event::CloseDone { wire, side });
        }
        end.slot = None;
        let source = end.source;
        if let Some(seat) = self.seat(shard, slot) {
            *seat = Seat::Free;
        }
        // What it has told goes in the turns behind this.
        self.shards[shard].closed_at.insert(slot.0, self.now);
        self.push(shard, Input::Closed(slot, source));
    }

    /// Mail that was sent has come.
    pub(super) fn mail(&mut self, source: usize, target: usize, message: Box<Message<SimLease>>) {
        self.push(target, Input::Message(source, message));
    }

    /// One turn of a shard.
    pub(super) fn turn(&mut self, shard: usize) {
        if self.shards[shard].is_dead {
            return;
        }
        let now = Now::from_nanos(self.now);
        self.shards[shard].is_awake = false;
        let timers_first = self.rng.chance(50);
        if timers_first {
            fire_timers(&mut self.shards[shard].core, now);
        }
        let (inputs, later) = take_some(&mut self.shards[shard].inbox, &mut self.rng);
        for input in inputs {
            self.input(shard, input, now);
        }
        if !timers_first {
            fire_timers(&mut self.shards[shard].core, now);
        }
        self.shards[shard].core.collect_ports(now);
        self.shards[shard].core.flush();
        self.actions(shard);
        if self.rng.chance(5) {
            self.shards[shard].core.trim();
            self.counts.trims += 1;
        }
        if put_back(&mut self.shards[shard].inbox, later) {
            self.wake(shard);
        }
        self.check_shard(shard);
        if let Some(deadline) = self.shards[shard].core.next_deadline() {
            let due = deadline.as_nanos();
            let timer_at = self.shards[shard].timer_at;
            if timer_at <= self.now || due < timer_at {
                self.shards[shard].timer_at = due;
                self.when(due, Event::Turn { shard });
            }
        }
    }

    fn input(&mut self, shard: usize, input: Input, now: Now) {
        let Shard {
            core,
            received_bytes,
            questions,
            relay,
            ..
        } = &mut self.shards[shard];
        match input {
            Input::Accepted(slot, source) => core.accepted(slot, source, now),
            Input::Attached(slot) => core.attached(slot, Dialect::Native, now),
            Input::Closed(slot, source) => {
                core.closed(slot);
                let relay = *relay;
                if let Some(source) = source {
                    self.rest_port(relay, source);
                }
            }
            Input::Computed(result) => core.computed(*result, now),
            Input::ConnectFailed(connect, fault) => {
                let (dial, source) = self.connects[connect].names();
                core.connect_failed(dial, fault, now);
                let relay = *relay;
                self.rest_port(relay, source);
            }
            Input::Connected(connect) => {
                let dial = self.connects[connect].names().0;
                if let Some(slot) = self.connects[connect].slot() {
                    core.connected(dial, slot, now);
                }
            }
            Input::Drain => core.drain(now),
            Input::LookedUp(lookup, answer) => {
                *questions -= 1;
                core.looked_up(lookup, answer, now);
            }
            Input::Message(source, message) => {
                core.message(ShardId(u16::try_from(source).unwrap_or(0)), *message, now);
            }
            Input::Received(slot, lease) => {
                *received_bytes += lease.len() as u64;
                core.received(slot, lease, now);
            }
            Input::RecvEnded(slot, wire, side, end) => {
                if !self.wires[wire].ends[side].is_closed {
                    core.receive_ended(slot, end, now);
                }
            }
            Input::Sent(slot, op) => {
                let result = op.result.unwrap_or(Err(ECANCELED));
                core.sent(slot, op.batch, result, now);
            }
            Input::Shutdown => core.shutdown(now),
            Input::Want(relays) => core.want_relays(Dialect::Native, &relays, now),
        }
    }

    fn actions(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].core.poll_action() {
            match action {
                Action::CancelConnect { dial } => self.cancel_connect(shard, dial),
                Action::CancelSend { slot } => {
                    self.counts.sends_cancelled += 1;
                    if let Some((wire, side)) = self.wire_of(shard, slot) {
                        self.end_early(wire, side);
                    }
                }
                Action::Close { slot } => self.close_slot(shard, slot),
                Action::Compute(job) => {
                    let random = self.rng.bytes_32();
                    let identity = &self.keys.relays[self.shards[shard].relay];
                    let result = Box::new(job.run(identity, random));
                    let delay = self.rng.skewed(0, self.options.compute_delay_max);
                    self.at(delay, Event::Computed { shard, result });
                }
                Action::Connect {
                    dial,
                    source,
                    target,
                } => self.start_connect(shard, dial, source, target),
                Action::Dialed { .. } => {
                    self.fail(format!(
                        "shard {shard} answers a dial that nobody asked for"
                    ));
                }
                // The registry of a run remembers no answers.
                Action::Doubt { .. } => {}
                Action::LookUp(lookup) => self.look_up(shard, lookup),
                Action::Message { target, message } => self.send_mail(shard, target, message),
                Action::PauseAccept => self.shards[shard].is_paused = true,
                Action::ResumeAccept => self.shards[shard].is_paused = false,
                Action::Send { slot, batch } => self.send(shard, slot, batch),
            }
        }
        self.accept(shard);
    }

    fn send_mail(&mut self, shard: usize, target: ShardId, message: Message<SimLease>) {
        let place = usize::from(target.0);
        let relay = &self.relays[self.shards[shard].relay];
        let own = relay.shards.iter().position(|other| *other == shard);
        let (Some(source), Some(target)) = (own, relay.shards.get(place).copied()) else {
            return self.fail(format!("shard {shard} writes to nobody"));
        };
        let delay = self.rng.skewed(0, self.options.mail_delay_max);
        let due = &mut self.shards[shard].mail_due[place];
        *due = (*due).max(self.now + delay);
        let due = *due;
        self.counts.messages += 1;
        let message = Box::new(message);
        self.when(
            due,
            Event::Mail {
                source,
                target,
                message,
            },
        );
    }

    fn wire_of(&self, shard: usize, slot: Slot) -> Option<(usize, usize)> {
        let index = usize::try_from(slot.0).ok()?;
        match self.shards[shard].seats.get(index)? {
            Seat::Wire(wire, side) => Some((*wire, *side)),
            Seat::Dialing | Seat::Free => None,
        }
    }

    fn send(&mut self, shard: usize, slot: Slot, batch: Batch<SimLease>) {
        let Some((wire, side)) = self.wire_of(shard, slot) else {
            return self.fail(format!("shard {shard} sends without a socket"));
        };
        let end = &mut self.wires[wire].ends[side];
        if end.op.is_some() || end.is_closed || batch.is_empty() {
            return self.fail(format!(
                "shard {shard} sends on slot {}: two at once, after its close, or nothing",
                slot.0
            ));
        }
        end.op = Some(SendOp {
            batch,
            offset: 0,
            result: None,
        });
        self.progress_send(wire, side);
    }

    /// The kernel gives a send back with what it has taken of it.
    fn end_early(&mut self, wire: usize, side: usize) {
        let Some(op) = &self.wires[wire].ends[side].op else {
            return;
        };
        if op.result.is_none() {
            let offset = u32::try_from(op.offset).unwrap_or(u32::MAX);
            let taken = if offset > 0 {
                Ok(offset)
            } else {
                Err(ECANCELED)
            };
            self.end_send(wire, side, taken);
        }
    }

    fn close_slot(&mut self, shard: usize, slot: Slot) {
        let found = self.wire_of(shard, slot);
        let Some((wire, side)) =
            found.filter(|(wire, side)| !self.wires[*wire].ends[*side].is_closed)
        else {
            return self.fail(format!("shard {shard} closes slot {} twice", slot.0));
        };
        self.trace(|| format!("shard {shard} closes wire {wire}"));
        self.end_early(wire, side);
        self.close_end(wire, side, true);
        let delay = self.completion_delay();
        self.at(delay, Event::CloseDone { wire, side });
    }
}
