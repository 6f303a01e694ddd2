//! Shards under simulation: what the data thread, its ring, the mailboxes and the executor do.
//!
//! Here: turns, actions, completions. Not here: the network (`network`), peers (`honest`, `raw`).
//!
//! Invariant: slot reuse only after its close is reported; one send in flight a slot; mail of an
//! ordered pair stays in order.

use core::net::SocketAddr;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use ringway_proto::entry::PeerEntry;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::HOLDERS_MAX;
use ringway_proto::time::Now;
use ringway_shards::core::{
    Action, Arrival, CoreConfig, Directory, Holder, JobResult, LookedUp, Message, Outdated, Place,
    RecvEnd, Registration, ShardCore, ShardId, Slot, Source,
};

use crate::dials::DialInput;
use crate::event::Event;
use crate::lease::{Account, SimLease};
use crate::network::{SendOp, Way};
use crate::options::MS;
use crate::resources::Book;
use crate::rng::Rng;
use crate::world::World;

/// The directory that all shards share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDirectory {
    here: Rc<RefCell<BTreeMap<PublicKey, Registration>>>,
    there: Rc<RefCell<BTreeMap<PublicKey, Vec<Holder>>>>,
    announcers: Rc<RefCell<BTreeMap<PublicKey, Place>>>,
}

impl SimDirectory {
    pub(crate) fn len(&self) -> usize {
        self.here.borrow().len()
    }

    /// Returns everything that links have told.
    pub(crate) fn told(&self) -> Vec<(PublicKey, Holder)> {
        let there = self.there.borrow();
        let told = there
            .iter()
            .flat_map(|(key, holders)| holders.iter().map(|holder| (*key, *holder)));
        told.collect()
    }
}

impl Directory for SimDirectory {
    fn insert(
        &self,
        key: PublicKey,
        registration: Registration,
        _: Option<&PeerEntry>,
    ) -> Result<Option<Place>, Outdated> {
        let mut map = self.here.borrow_mut();
        if map
            .get(&key)
            .is_some_and(|there| registration.is_outdated_by(there))
        {
            return Err(Outdated);
        }
        Ok(map.insert(key, registration).map(|older| older.place))
    }

    fn remove(&self, key: &PublicKey, place: Place) {
        let mut map = self.here.borrow_mut();
        if map.get(key).is_some_and(|there| there.place == place) {
            map.remove(key);
        }
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        self.here.borrow().get(key).map(|there| there.place)
    }

    fn keys(&self) -> Vec<PublicKey> {
        self.here.borrow().keys().copied().collect()
    }

    fn claim_announcer(&self, relay: PublicKey, link: Place) -> bool {
        *self.announcers.borrow_mut().entry(relay).or_insert(link) == link
    }

    fn drop_announcer(&self, relay: &PublicKey, link: Place) {
        let mut announcers = self.announcers.borrow_mut();
        if announcers.get(relay) == Some(&link) {
            announcers.remove(relay);
        }
    }

    fn announcers(&self) -> Vec<ShardId> {
        let shards: BTreeSet<_> = self.announcers.borrow().values().map(|l| l.shard).collect();
        shards.into_iter().collect()
    }

    fn announcer(&self, relay: &PublicKey) -> Option<Place> {
        self.announcers.borrow().get(relay).copied()
    }

    fn note_relay(&self, _: PublicKey, _: Option<SocketAddr>) {}

    fn hold(&self, key: PublicKey, holder: Holder) {
        let mut there = self.there.borrow_mut();
        let holders = there.entry(key).or_default();
        if !holders.contains(&holder) && holders.len() < HOLDERS_MAX {
            holders.push(holder);
        }
    }

    fn release(&self, key: &PublicKey, link: Place) {
        let mut there = self.there.borrow_mut();
        let Some(holders) = there.get_mut(key) else {
            return;
        };
        holders.retain(|holder| holder.link != link);
        if holders.is_empty() {
            there.remove(key);
        }
    }

    fn holders(&self, key: &PublicKey) -> Vec<Holder> {
        self.there.borrow().get(key).cloned().unwrap_or_default()
    }
}

/// What a shard finds when it wakes.
#[derive(Debug)]
pub(crate) enum Input {
    Accepted(Slot, Arrival),
    Closed(Slot),
    Computed(Box<JobResult>),
    Dial(DialInput),
    Drain,
    Kick(PublicKey),
    Message(usize, Box<Message<SimLease>>),
    Received(Slot, SimLease),
    RecvEnded(Slot, usize, RecvEnd),
    Sent(Slot, SendOp),
    Shutdown,
}

/// One shard and its kernel side.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) core: ShardCore<SimLease, SimDirectory>,
    pub(crate) account: Arc<Account>,
    pub(crate) slots: Vec<Option<usize>>,
    pub(crate) received_bytes: u64,
    pub(crate) book: Book,
    inbox: VecDeque<Input>,
    backlog: VecDeque<usize>,
    mail_due: Vec<u64>,
    timer_at: u64,
    turns: u64,
    is_awake: bool,
    is_paused: bool,
}

impl Shard {
    pub(crate) fn new(
        config: CoreConfig,
        directory: SimDirectory,
        shards: usize,
        now: u64,
    ) -> Self {
        let slots = usize::try_from(config.admission.sockets_max).unwrap_or(0) + 1;
        Self {
            core: ShardCore::new(config, directory, Now::from_nanos(now)),
            account: Arc::default(),
            slots: vec![None; slots],
            received_bytes: 0,
            book: Book::default(),
            inbox: VecDeque::new(),
            backlog: VecDeque::new(),
            mail_due: vec![0; shards],
            timer_at: u64::MAX,
            turns: 0,
            is_awake: false,
            is_paused: false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.inbox.is_empty()
    }
}

const ECANCELED: i32 = 125;

/// Turns of a shard from one trim to the next.
const TRIM_TURNS: u64 = 16;

impl World {
    /// Gives a shard an input and wakes it.
    pub(crate) fn push(&mut self, shard: usize, input: Input) {
        self.shards[shard].inbox.push_back(input);
        self.wake(shard);
    }

    fn wake(&mut self, shard: usize) {
        if !self.shards[shard].is_awake {
            self.shards[shard].is_awake = true;
            let delay = self.rng.skewed(0, self.options.turn_delay_max);
            self.at(delay, Event::Turn { shard });
        }
    }

    /// A connection stands in the listener's queue.
    pub(crate) fn reach_listener(&mut self, conn: usize) {
        let shard = self.conns[conn].shard;
        self.conns[conn].has_waited = self.shards[shard].is_paused;
        self.counts.accepts_delayed += u64::from(self.shards[shard].is_paused);
        self.shards[shard].backlog.push_back(conn);
        self.accept(shard);
    }

    /// A slot has become free: the kernel may go on accepting.
    pub(crate) fn accept_more(&mut self, shard: usize) {
        self.accept(shard);
    }

    fn accept(&mut self, shard: usize) {
        while !self.shards[shard].is_paused {
            let Some(conn) = self.shards[shard].backlog.pop_front() else {
                return;
            };
            let free = (0..self.shards[shard].slots.len()).find(|slot| {
                self.shards[shard].slots[*slot].is_none() && !self.dials.has_slot(shard, *slot)
            });
            let Some(free) = free else {
                // The file table is full: the kernel drops the connection.
                self.hurt_client(conn, "file table full");
                self.cut(conn);
                continue;
            };
            let slot = Slot(u32::try_from(free).unwrap_or(u32::MAX));
            self.shards[shard].slots[free] = Some(conn);
            self.conns[conn].slot = Some(slot);
            self.trace(|| format!("shard {shard} accepts connection {conn} in slot {}", slot.0));
            let arrival = Arrival {
                dialect: self.dialect_of(conn),
                ..Arrival::from(self.source_of(conn))
            };
            self.note_accept(shard);
            self.push(shard, Input::Accepted(slot, arrival));
            self.relay_read(conn);
        }
    }

    /// The relay's kernel hands over what has arrived.
    pub(crate) fn relay_read(&mut self, conn: usize) {
        let entry = &self.conns[conn];
        let Some(slot) = entry.slot else { return };
        if entry.is_recv_over {
            return;
        }
        let (shard, client) = (entry.shard, entry.client);
        let mut has_read = false;
        while self.conns[conn].up.arrived() > 0 {
            if self.shards[shard].account.bytes() >= self.options.ring_bytes_max {
                // No buffer is free (ENOBUFS): the driver arms the receive again when one is.
                self.counts.ring_full += 1;
                self.note_starved(shard);
                // A turn, in which the shard looks after its memory.
                self.wake(shard);
                self.at(MS, Event::Arrive { conn, way: Way::Up });
                return;
            }
            let count = self.rng.size(1, self.options.piece_max);
            let bytes = self.conns[conn].up.read(count);
            let lease = SimLease::new(bytes, self.now, &self.shards[shard].account);
            self.push(shard, Input::Received(slot, lease));
            self.note_heard(conn);
            has_read = true;
        }
        let entry = &mut self.conns[conn];
        let end = if entry.is_reset_at_relay {
            Some(RecvEnd::Error(104))
        } else if entry.up.has_fin {
            Some(RecvEnd::Eof)
        } else {
            None
        };
        if let Some(end) = end {
            entry.is_recv_over = true;
            self.push(shard, Input::RecvEnded(slot, conn, end));
        }
        if has_read {
            self.pump_later(client);
        }
    }

    pub(crate) fn send_done(&mut self, conn: usize) {
        let entry = &mut self.conns[conn];
        let shard = entry.shard;
        if let (Some(op), Some(slot)) = (entry.op.take(), entry.slot) {
            self.push(shard, Input::Sent(slot, op));
        }
    }

    pub(crate) fn close_done(&mut self, conn: usize) {
        let shard = self.conns[conn].shard;
        let Some(slot) = self.conns[conn].slot else {
            return;
        };
        if self.conns[conn].op.is_some() {
            // A ring reports a close behind the last operation of its socket.
            return self.at(1_000, Event::CloseDone { conn });
        }
        self.push(shard, Input::Closed(slot));
        let index = usize::try_from(slot.0).unwrap_or(usize::MAX);
        self.shards[shard].slots[index] = None;
        self.accept(shard);
    }

    /// Mail that was sent has come.
    pub(crate) fn mail(&mut self, source: usize, target: usize, message: Box<Message<SimLease>>) {
        self.shards[target]
            .inbox
            .push_back(Input::Message(source, message));
        if self.rng.chance(self.options.faults.lost_wake) && !self.shards[target].is_awake {
            // Found when something else wakes the shard, at the latest by its own look-around.
            self.counts.lost_wakes += 1;
            let delay = self.rng.below(200_000_000);
            self.at(delay, Event::Turn { shard: target });
        } else {
            self.wake(target);
        }
    }

    /// One turn of a shard.
    pub(crate) fn turn(&mut self, shard: usize) {
        let now = Now::from_nanos(self.now);
        self.shards[shard].is_awake = false;
        let book = &mut self.shards[shard].book;
        book.pushed_before_turn = book.pushed;
        let timers_first = self.rng.chance(50);
        if timers_first {
            fire_timers(&mut self.shards[shard].core, now);
        }
        let (inputs, later) = take_some(&mut self.shards[shard].inbox, &mut self.rng);
        for input in inputs {
            self.input(shard, input, now);
            if self.options.actions_between && self.rng.chance(30) {
                self.actions(shard);
            }
        }
        if !timers_first {
            fire_timers(&mut self.shards[shard].core, now);
        }
        self.shards[shard].core.collect_ports(now);
        self.relieve(shard, now);
        self.shards[shard].core.flush();
        self.actions(shard);
        self.trim(shard);
        if put_back(&mut self.shards[shard].inbox, later) {
            self.wake(shard);
        }
        self.check_shard(shard);
        self.check_holdings(shard);
        if let Some(deadline) = self.shards[shard].core.next_deadline() {
            let due = deadline.as_nanos();
            let timer_at = self.shards[shard].timer_at;
            if timer_at <= self.now || due < timer_at {
                self.shards[shard].timer_at = due;
                self.when(due, Event::Turn { shard });
            }
        }
    }

    /// Receive memory runs short at half, as with the ring's blocks.
    fn relieve(&mut self, shard: usize, now: Now) {
        let entry = &mut self.shards[shard];
        if entry.account.bytes() > self.options.ring_bytes_max / 2 {
            let before = entry.core.stats().reliefs;
            entry.core.relieve(now);
            self.counts.reliefs += entry.core.stats().reliefs - before;
            self.note_short(shard);
        } else {
            entry.book.short_since = None;
            entry.book.reliefs.clear();
        }
    }

    /// Gives memory back far more often than a data thread does, whatever goes on.
    fn trim(&mut self, shard: usize) {
        let entry = &mut self.shards[shard];
        entry.turns += 1;
        if entry.turns.is_multiple_of(TRIM_TURNS) {
            entry.core.trim();
            self.counts.trims += 1;
        }
    }

    fn input(&mut self, shard: usize, input: Input, now: Now) {
        self.trace(|| format!("shard {shard} <- {}", describe(&input)));
        self.note_input(shard, &input);
        let Shard {
            core,
            received_bytes,
            ..
        } = &mut self.shards[shard];
        match input {
            Input::Accepted(slot, arrival) => core.accepted(slot, arrival, now),
            Input::Closed(slot) => core.closed(slot),
            Input::Computed(result) => core.computed(*result, now),
            Input::Dial(input) => self.dial_input(shard, input, now),
            Input::Drain => core.drain(now),
            Input::Kick(key) => {
                core.kick(&key, now);
            }
            Input::Message(source, message) => {
                core.message(ShardId(u16::try_from(source).unwrap_or(0)), *message, now);
            }
            Input::Received(slot, lease) => {
                *received_bytes += ringway_shards::lease::Lease::len(&lease) as u64;
                core.received(slot, lease, now);
            }
            Input::RecvEnded(slot, conn, end) => {
                if !self.conns[conn].is_closing {
                    core.receive_ended(slot, end, now);
                }
            }
            Input::Sent(slot, op) => {
                let result = op.result.unwrap_or(Err(ECANCELED));
                core.sent(slot, op.batch, result, now);
            }
            Input::Shutdown => core.shutdown(now),
        }
        self.note_full(shard);
    }

    fn note_input(&mut self, shard: usize, input: &Input) {
        let conn = match input {
            Input::Accepted(slot, _) => self.conn_of(shard, *slot),
            _ => None,
        };
        let book = &mut self.shards[shard].book;
        match input {
            Input::Accepted(..) => {
                book.accepts_pending -= 1;
                book.pushed += 1;
            }
            Input::Computed(_) => {
                book.jobs -= 1;
                book.pushed += 1;
            }
            _ => {}
        }
        let pushed = book.pushed;
        if let Some(entry) = conn.and_then(|conn| self.conns.get_mut(conn)) {
            entry.accepted_at = self.now;
            entry.heard_at = self.now;
            entry.pushed_at = pushed;
        }
    }

    fn actions(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].core.poll_action() {
            match action {
                Action::CancelConnect { dial } => self.cancel_connect(shard, dial),
                Action::CancelSend { slot } => self.cancel_send(shard, slot),
                Action::Close { slot } => {
                    if !self.close_dialed(shard, slot) {
                        self.close_slot(shard, slot);
                    }
                }
                Action::Connect { dial, source, .. } => self.start_connect(shard, dial, source),
                Action::Dialed { dial, outcome } => self.dial_answered(shard, dial, outcome),
                // There is no registry, so that nobody is asked.
                // Nobody here remembers answers.
                Action::Doubt { .. } => {}
                Action::LookUp(lookup) => {
                    let core = &mut self.shards[shard].core;
                    let now = Now::from_nanos(self.now);
                    core.looked_up(lookup, LookedUp::Unavailable, now);
                }
                Action::Compute(job) => {
                    self.shards[shard].book.jobs += 1;
                    let random = self.rng.bytes_32();
                    let result = Box::new(job.run(&self.keys.relay, random));
                    let delay = self.rng.skewed(0, self.options.compute_delay_max);
                    self.at(delay, Event::Computed { shard, result });
                }
                Action::Message { target, message } => {
                    let target = usize::from(target.0);
                    let delay = self.rng.skewed(0, self.options.mail_delay_max);
                    let due = &mut self.shards[shard].mail_due[target];
                    *due = (*due).max(self.now + delay);
                    let due = *due;
                    self.counts.messages += 1;
                    let message = Box::new(message);
                    self.when(
                        due,
                        Event::Mail {
                            source: shard,
                            target,
                            message,
                        },
                    );
                }
                Action::PauseAccept => self.shards[shard].is_paused = true,
                Action::ResumeAccept => self.shards[shard].is_paused = false,
                Action::Send { slot, batch } => self.send(shard, slot, batch),
            }
        }
        // The ring looks at what the core has settled on at the end of the turn.
        self.accept(shard);
    }

    fn conn_of(&self, shard: usize, slot: Slot) -> Option<usize> {
        let index = usize::try_from(slot.0).ok()?;
        self.shards[shard].slots.get(index).copied().flatten()
    }

    fn send(&mut self, shard: usize, slot: Slot, batch: ringway_shards::batch::Batch<SimLease>) {
        let Some(conn) = self.conn_of(shard, slot) else {
            return self.fail(format!(
                "shard {shard} sends on slot {} without a socket",
                slot.0
            ));
        };
        if self.conns[conn].op.is_some() {
            return self.fail(format!(
                "shard {shard} has two sends in flight on slot {}",
                slot.0
            ));
        }
        if self.conns[conn].is_closing {
            return self.fail(format!(
                "shard {shard} sends on slot {} after its close",
                slot.0
            ));
        }
        if batch.is_empty() {
            return self.fail(format!("shard {shard} sends nothing on slot {}", slot.0));
        }
        self.trace(|| {
            format!(
                "shard {shard} sends {} bytes on connection {conn}",
                batch.len()
            )
        });
        let now = self.now;
        let pushed = self.shards[shard].book.pushed_before_turn;
        let entry = &mut self.conns[conn];
        if !std::mem::take(&mut entry.is_rest_next) {
            entry.sends += 1;
            entry.pushed_at = entry.pushed_at.max(pushed);
        }
        entry.stuck_since.get_or_insert(now);
        entry.op = Some(SendOp {
            batch,
            offset: 0,
            result: None,
        });
        self.progress_send(conn);
    }

    /// Where a connection comes from: an address of its own, or one that many share.
    pub(crate) fn source_of(&self, conn: usize) -> Source {
        let client = u32::try_from(self.conns[conn].client).unwrap_or(u32::MAX);
        let client = match self.options.limits.sources {
            0 => client,
            sources => client % sources,
        };
        Source::of(core::net::Ipv4Addr::from(client).into())
    }

    fn cancel_send(&mut self, shard: usize, slot: Slot) {
        let Some(conn) = self.conn_of(shard, slot) else {
            return self.fail(format!(
                "shard {shard} cancels a send on slot {} without a socket",
                slot.0
            ));
        };
        self.counts.sends_cancelled += 1;
        let crossing = self.options.limits.crossing;
        let is_reset = self.conns[conn].is_reset_at_relay;
        if crossing > 0 && !is_reset && self.rng.chance(crossing) {
            self.counts.sends_crossed += 1;
            self.cross_cancel(conn);
        }
        self.end_early(conn);
    }

    /// The kernel gives a send back with what it has taken of it.
    fn end_early(&mut self, conn: usize) {
        if let Some(op) = &self.conns[conn].op
            && op.result.is_none()
        {
            let offset = u32::try_from(op.offset).unwrap_or(u32::MAX);
            let result = if offset > 0 {
                Ok(offset)
            } else {
                Err(ECANCELED)
            };
            self.end_send(conn, result);
        }
    }

    fn close_slot(&mut self, shard: usize, slot: Slot) {
        let Some(conn) = self
            .conn_of(shard, slot)
            .filter(|conn| !self.conns[*conn].is_closing)
        else {
            return self.fail(format!("shard {shard} closes slot {} twice", slot.0));
        };
        self.trace(|| format!("shard {shard} closes connection {conn}"));
        self.check_turned_away(conn);
        self.conns[conn].is_closing = true;
        self.end_early(conn);
        self.relay_close(conn);
        let delay = self.completion_delay();
        self.at(delay, Event::CloseDone { conn });
    }
}

fn describe(input: &Input) -> String {
    match input {
        Input::Accepted(slot, _) => format!("accepted slot {}", slot.0),
        Input::Closed(slot) => format!("closed slot {}", slot.0),
        Input::Computed(_) => "computed".into(),
        Input::Dial(input) => format!("{input:?}"),
        Input::Drain => "drain".into(),
        Input::Kick(key) => format!("kick {key}"),
        Input::Message(source, message) => {
            let text = format!("{message:?}");
            format!(
                "from shard {source}: {}",
                text.get(..text.len().min(100)).unwrap_or_default()
            )
        }
        Input::Received(slot, lease) => {
            let bytes = ringway_shards::lease::Lease::bytes(lease);
            format!(
                "slot {} received {}: {:02x?}",
                slot.0,
                bytes.len(),
                &bytes[..bytes.len().min(28)]
            )
        }
        Input::RecvEnded(slot, _, end) => format!("slot {} receive ended {end:?}", slot.0),
        Input::Sent(slot, op) => {
            format!("slot {} sent {:?} of {}", slot.0, op.result, op.batch.len())
        }
        Input::Shutdown => "shutdown".into(),
    }
}

/// Takes what a turn takes in: now and then only a part, as a turn's quantum does; returns the rest as well.
pub(crate) fn take_some<I>(inbox: &mut VecDeque<I>, rng: &mut Rng) -> (VecDeque<I>, VecDeque<I>) {
    let mut inputs = std::mem::take(inbox);
    let count = if rng.chance(20) {
        rng.size(1, inputs.len())
    } else {
        inputs.len()
    };
    let later = inputs.split_off(count.min(inputs.len()));
    (inputs, later)
}

/// Puts the rest back in front of what has come meanwhile; returns whether there is any.
pub(crate) fn put_back<I>(inbox: &mut VecDeque<I>, later: VecDeque<I>) -> bool {
    let is_some = !later.is_empty();
    let newer = std::mem::replace(inbox, later);
    inbox.extend(newer);
    is_some
}

/// Lets a shard do what is due.
pub(crate) fn fire_timers(core: &mut ShardCore<SimLease, SimDirectory>, now: Now) {
    if core.next_deadline().is_some_and(|due| due <= now) {
        core.handle_timeout(now);
    }
}
