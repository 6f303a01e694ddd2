//! Outbound connections of the shards: who asks, what the kernel makes of it, whose port it is.
//!
//! Here: the plan of the dials of a run, the driver's side of each (connected, refused, silent, port
//! taken, late after a cancel), a book of local ports kept apart from the core's, and what must hold of
//! both. Not here: connections of peers (`network`).
//!
//! Chance comes from a generator of its own, so that a seed without dials is the run it was before.
//! Model: of a dialed connection only its life counts; what is said on it belongs to a later protocol,
//! and bytes of the far side are an offence.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use ringway_proto::limits::{DIAL_TIMEOUT, PORT_ASIDE};
use ringway_proto::time::Now;
use ringway_shards::core::{ConnectFault, DialError, DialKey, Dialed, RecvEnd, SessionKey, Slot};
use ringway_shards::ports::{PortSet, PortsConfig};

use crate::driver::Input;
use crate::event::Event;
use crate::lease::SimLease;
use crate::options::{MS, SECOND};
use crate::rng::Rng;
use crate::world::World;

/// A step in the life of a dial.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DialStep {
    /// Somebody asks for it.
    Ask,
    /// The kernel has closed its socket.
    Closed,
    /// The far side closes, breaks or speaks.
    FarSide,
    /// Whoever asked has had enough of it.
    HangUp,
    /// The kernel knows what became of the connect with this number.
    Outcome(u32),
}

/// What a shard finds of its dials when it wakes.
#[derive(Debug)]
pub(crate) enum DialInput {
    Ask(usize),
    Closed(Slot, SocketAddr),
    ConnectFailed(usize, SocketAddr, ConnectFault),
    Connected(usize, Slot),
    Ended(usize, Slot, RecvEnd),
    HangUp(SessionKey),
}

/// What the kernel makes of a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Connected,
    Failed(ConnectFault),
    /// Nothing is ever heard.
    Silent,
}

/// A socket that the driver made for a dial.
#[derive(Debug, Clone, Copy)]
struct Socket {
    slot: Slot,
    source: SocketAddr,
    is_closing: bool,
    /// The core was told that it stands.
    is_connected: bool,
    is_recv_over: bool,
}

/// One dial of a run.
#[derive(Debug)]
pub(crate) struct Dial {
    shard: usize,
    target: SocketAddr,
    asked_at: Option<u64>,
    key: Option<DialKey>,
    /// What whoever asked was told; at most once.
    is_answered: bool,
    place: Option<SessionKey>,
    socket: Option<Socket>,
    fate: Fate,
    connects: u32,
    is_cancelled: bool,
}

/// Who has a local port of a shard, told by the actions and inputs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Dial,
    /// Resting until then.
    Rest(u64),
}

/// All dials of a run and the books about them.
#[derive(Debug)]
pub(crate) struct Dials {
    rng: Rng,
    pub(crate) config: PortsConfig,
    pub(crate) list: Vec<Dial>,
    ports: BTreeMap<SocketAddr, Holder>,
    /// The socket of each slot, by shard.
    slots: BTreeMap<(usize, u32), usize>,
    /// Faults in percent.
    taken: u64,
    failed: u64,
    silent: u64,
}

const ECANCELED: i32 = 125;
const ECONNREFUSED: i32 = 111;
const ENFILE: i32 = 23;

impl Dials {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6469_616c);
        let count = if rng.chance(50) { 0 } else { rng.size(1, 60) };
        let sources = rng.pick(&["", "127.0.0.1", "127.0.0.1 127.0.0.2"], "");
        let sources = sources.split_whitespace();
        let ports = u16::try_from(rng.range(8, 40)).unwrap_or(8);
        let rest = rng.pick(&[0, 1, 300, 1_000, 5_000], 1_000);
        let config = PortsConfig {
            sources: sources.filter_map(|source| source.parse().ok()).collect(),
            range: PortSet::range(40_000, 40_000 + ports),
            quarantine: Duration::from_millis(rest),
            dials_max: rng.pick(&[1, 3, 16, 256], 16),
        };
        let percent = |rng: &mut Rng| if rng.chance(50) { 0 } else { rng.below(40) };
        let (taken, failed, silent) = (percent(&mut rng), percent(&mut rng), percent(&mut rng));
        let mut dials = Self {
            rng,
            config,
            list: Vec::new(),
            ports: BTreeMap::new(),
            slots: BTreeMap::new(),
            taken,
            failed,
            silent,
        };
        for _ in 0..count {
            let is_v4 = dials.rng.chance(80);
            let target = if is_v4 {
                [10, 0, 0, 9].into()
            } else {
                [0xfd00, 0, 0, 0, 0, 0, 0, 9].into()
            };
            dials.list.push(Dial {
                shard: 0,
                target: SocketAddr::new(target, 7_100),
                asked_at: None,
                key: None,
                is_answered: false,
                place: None,
                socket: None,
                fate: Fate::Silent,
                connects: 0,
                is_cancelled: false,
            });
        }
        dials
    }

    pub(crate) fn is_over(&self) -> bool {
        self.list
            .iter()
            .all(|dial| dial.asked_at.is_some() && dial.is_answered && dial.socket.is_none())
    }

    pub(crate) fn has_slot(&self, shard: usize, slot: usize) -> bool {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.slots.contains_key(&(shard, slot))
    }

    fn fate(&mut self) -> Fate {
        let rng = &mut self.rng;
        if rng.chance(self.taken) {
            Fate::Failed(ConnectFault::PortTaken)
        } else if rng.chance(self.failed) {
            Fate::Failed(ConnectFault::Peer(ECONNREFUSED))
        } else if rng.chance(self.silent) {
            Fate::Silent
        } else {
            Fate::Connected
        }
    }

    fn of_key(&self, shard: usize, key: DialKey) -> Option<usize> {
        let mut dials = self.list.iter();
        dials.position(|dial| dial.shard == shard && dial.key == Some(key))
    }
}

impl World {
    pub(crate) fn plan_dials(&mut self) {
        let shards = self.shards.len();
        let span = self.options.workload_ns;
        for number in 0..self.dials.list.len() {
            let delay = self.dials.rng.skewed(0, span);
            self.dials.list[number].shard = self.dials.rng.index(shards);
            self.dial_at(delay, number, DialStep::Ask);
        }
    }

    fn dial_at(&mut self, delay: u64, dial: usize, step: DialStep) {
        self.at(delay, Event::Dial { dial, step });
    }

    pub(crate) fn dial_step(&mut self, number: usize, step: DialStep) {
        let dial = &self.dials.list[number];
        let shard = dial.shard;
        match step {
            DialStep::Ask => self.push(shard, Input::Dial(DialInput::Ask(number))),
            DialStep::Closed => self.dial_closed(number),
            DialStep::FarSide => self.far_side(number),
            DialStep::HangUp => {
                if let Some(place) = dial.place {
                    self.push(shard, Input::Dial(DialInput::HangUp(place)));
                }
            }
            DialStep::Outcome(connect) if connect == dial.connects => self.outcome(number),
            DialStep::Outcome(_) => {}
        }
    }

    pub(crate) fn dial_input(&mut self, shard: usize, input: DialInput, now: Now) {
        match input {
            DialInput::Ask(dial) => self.ask_dial(shard, dial, now),
            DialInput::Closed(slot, source) => {
                self.rest(source, self.dials.config.quarantine);
                self.shards[shard].core.closed(slot);
            }
            DialInput::ConnectFailed(dial, source, fault) => {
                let rest = match fault {
                    ConnectFault::PortTaken => PORT_ASIDE,
                    ConnectFault::Local(_) | ConnectFault::Peer(_) => self.dials.config.quarantine,
                };
                self.rest(source, rest);
                if let Some(key) = self.dials.list[dial].key {
                    self.shards[shard].core.connect_failed(key, fault, now);
                }
            }
            DialInput::Connected(dial, slot) => {
                if let Some(key) = self.dials.list[dial].key {
                    self.shards[shard].core.connected(key, slot, now);
                }
            }
            DialInput::Ended(dial, slot, end) => {
                // The driver drops it with the socket.
                let socket = self.dials.list[dial].socket;
                if socket.is_some_and(|socket| socket.slot == slot && !socket.is_closing) {
                    self.shards[shard].core.receive_ended(slot, end, now);
                }
            }
            DialInput::HangUp(session) => {
                self.shards[shard].core.hang_up(session, now);
            }
        }
    }

    /// The core is asked: a refusal is its answer at once.
    fn ask_dial(&mut self, shard: usize, number: usize, now: Now) {
        let target = self.dials.list[number].target;
        let actions = self.shards[shard].core.stats().dials_pending;
        let result = self.shards[shard].core.dial(target, now);
        self.dials.list[number].asked_at = Some(self.now);
        self.counts.dials += 1;
        match result {
            Ok(key) => self.dials.list[number].key = Some(key),
            Err(error) => {
                self.dials.list[number].is_answered = true;
                self.counts.dials_refused += 1;
                if self.shards[shard].core.stats().dials_pending != actions {
                    self.fail(format!("dial {number} was refused and left something"));
                }
                self.check_dial_refusal(shard, number, &error);
            }
        }
    }

    /// A refusal must be right by the books of this side.
    fn check_dial_refusal(&mut self, shard: usize, number: usize, error: &DialError) {
        let target = self.dials.list[number].target;
        let of_shard = |dial: &&Dial| dial.shard == shard && dial.key.is_some();
        let pending = self.dials.list.iter().filter(of_shard).filter(|dial| {
            !dial.is_answered || dial.socket.is_some_and(|socket| !socket.is_connected)
        });
        let pending = pending.count();
        // They have ports that no action has named yet.
        let unnamed = self.dials.list.iter().filter(of_shard);
        let unnamed = unnamed.filter(|dial| !dial.is_answered && dial.socket.is_none());
        let unnamed = unnamed.count();
        let is_right = match error {
            DialError::LocalDraining => self.is_draining,
            DialError::LocalDials { have, max, .. } => have >= max && pending > 0,
            DialError::LocalPorts(_) => self.free_ports(shard, target) <= unnamed,
            DialError::LocalSockets { have, max, .. } => *have >= u64::from(*max),
            DialError::LocalSource { .. } => {
                let mut sources = self.dials.config.sources.iter();
                !self.dials.config.sources.is_empty()
                    && sources.all(|source| source.is_ipv4() != target.is_ipv4())
            }
            _ => false,
        };
        if !is_right {
            self.fail(format!("dial {number} to {target} was refused: {error}"));
        }
    }

    /// Returns the ports of a shard that neither a socket nor a rest keeps.
    fn free_ports(&self, shard: usize, target: SocketAddr) -> usize {
        let count = u16::try_from(self.shards.len()).unwrap_or(1);
        let number = u16::try_from(shard).unwrap_or(0);
        let ports = self.dials.config.of_shard(number, count);
        let is_free = |address: SocketAddr| match self.dials.ports.get(&address) {
            None => true,
            Some(Holder::Dial) => false,
            Some(Holder::Rest(end)) => *end <= self.now,
        };
        let mut free = 0;
        for port in ports.range.iter() {
            if ports.sources == [None] {
                // One budget for both families: a port is free when neither has it.
                let v4 = SocketAddr::new([0; 4].into(), port);
                let v6 = SocketAddr::new([0_u16; 8].into(), port);
                free += usize::from(is_free(v4) && is_free(v6));
                continue;
            }
            let sources = ports.sources.iter().flatten();
            let usable = sources.filter(|source| source.is_ipv4() == target.is_ipv4());
            free += usable
                .filter(|source| is_free(SocketAddr::new(**source, port)))
                .count();
        }
        free
    }

    /// The core wants a connection: the driver makes a socket and installs it.
    pub(crate) fn start_connect(&mut self, shard: usize, key: DialKey, source: SocketAddr) {
        // The action may come out in the call that returns the key.
        let Some(number) = self.dials.of_key(shard, key) else {
            return self.fail(format!("shard {shard} connects for nobody"));
        };
        self.trace(|| format!("shard {shard} connects dial {number} from {source}"));
        match self.dials.ports.get(&source) {
            Some(Holder::Dial) => {
                return self.fail(format!("dial {number}: {source} belongs to a live socket"));
            }
            Some(Holder::Rest(end)) if *end > self.now => {
                return self.fail(format!("dial {number}: {source} has not rested"));
            }
            _ => {}
        }
        if self.dials.list[number].socket.is_some() {
            return self.fail(format!("dial {number} has two sockets"));
        }
        self.dials.ports.insert(source, Holder::Dial);
        let free = (0..self.shards[shard].slots.len()).find(|slot| {
            self.shards[shard].slots[*slot].is_none() && !self.dials.has_slot(shard, *slot)
        });
        let fate = self.dials.fate();
        let dial = &mut self.dials.list[number];
        dial.connects += 1;
        dial.fate = fate;
        let Some(free) = free else {
            // The file table is full.
            let fault = ConnectFault::Local(ENFILE);
            return self.push(
                shard,
                Input::Dial(DialInput::ConnectFailed(number, source, fault)),
            );
        };
        let slot = Slot(u32::try_from(free).unwrap_or(u32::MAX));
        dial.socket = Some(Socket {
            slot,
            source,
            is_closing: false,
            is_connected: false,
            is_recv_over: false,
        });
        let connect = dial.connects;
        self.dials.slots.insert((shard, slot.0), number);
        if fate != Fate::Silent {
            let delay = self.dials.rng.skewed(0, 12 * SECOND);
            self.dial_at(delay, number, DialStep::Outcome(connect));
        }
    }

    /// The core gives a connect up. The kernel may be faster.
    pub(crate) fn cancel_connect(&mut self, shard: usize, key: DialKey) {
        let Some(number) = self.dials.of_key(shard, key) else {
            return self.fail(format!("shard {shard} cancels what nobody dialled"));
        };
        let is_late = self.dials.rng.chance(30);
        let delay = self.dials.rng.skewed(0, 10 * MS);
        let dial = &mut self.dials.list[number];
        if dial.is_cancelled {
            return self.fail(format!("dial {number} was cancelled twice"));
        }
        dial.is_cancelled = true;
        // What waits in the inbox already has happened.
        let is_pending = dial.socket.is_some_and(|socket| !socket.is_connected);
        if !is_pending {
            return;
        }
        dial.connects += 1;
        dial.fate = if is_late && dial.fate != Fate::Silent {
            dial.fate
        } else {
            Fate::Failed(ConnectFault::Peer(ECANCELED))
        };
        let connect = dial.connects;
        self.dial_at(delay, number, DialStep::Outcome(connect));
    }

    fn outcome(&mut self, number: usize) {
        let dial = &mut self.dials.list[number];
        let (shard, fate) = (dial.shard, dial.fate);
        let Some(socket) = &mut dial.socket else {
            return;
        };
        match fate {
            Fate::Silent => {}
            Fate::Connected => {
                socket.is_connected = true;
                let slot = socket.slot;
                self.push(shard, Input::Dial(DialInput::Connected(number, slot)));
                if self.dials.rng.chance(60) {
                    let delay = self.dials.rng.skewed(0, 20 * SECOND);
                    self.dial_at(delay, number, DialStep::FarSide);
                }
            }
            Fate::Failed(fault) => {
                let (slot, source) = (socket.slot, socket.source);
                dial.socket = None;
                self.dials.slots.remove(&(shard, slot.0));
                self.push(
                    shard,
                    Input::Dial(DialInput::ConnectFailed(number, source, fault)),
                );
                self.accept_more(shard);
            }
        }
    }

    fn rest(&mut self, source: SocketAddr, rest: Duration) {
        let end = (Now::from_nanos(self.now) + rest).as_nanos();
        self.dials.ports.insert(source, Holder::Rest(end));
    }

    /// Whoever asked is told.
    pub(crate) fn dial_answered(
        &mut self,
        shard: usize,
        key: DialKey,
        outcome: Result<Dialed, DialError>,
    ) {
        let Some(number) = self.dials.of_key(shard, key) else {
            return self.fail(format!(
                "shard {shard} answers a dial that nobody asked for"
            ));
        };
        self.trace(|| format!("dial {number}: {outcome:?}"));
        let dial = &mut self.dials.list[number];
        if std::mem::replace(&mut dial.is_answered, true) {
            return self.fail(format!("dial {number} was answered twice"));
        }
        let took = self.now - dial.asked_at.unwrap_or(self.now);
        // The time-out, two ticks of the wheel, and turns that come late.
        let timeout = u64::try_from(DIAL_TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
        if took > timeout + 600 * MS {
            self.fail(format!("dial {number} was answered after {} ms", took / MS));
        }
        let dial = &mut self.dials.list[number];
        match outcome {
            Ok(dialed) => {
                self.counts.dials_connected += 1;
                let has_socket = dial
                    .socket
                    .is_some_and(|socket| socket.is_connected && socket.source == dialed.source);
                if !has_socket || dialed.target != dial.target {
                    return self.fail(format!("dial {number} stands, but not its socket"));
                }
                dial.place = Some(dialed.place.session);
                let delay = self.dials.rng.skewed(0, 20 * SECOND);
                self.dial_at(delay, number, DialStep::HangUp);
                if self.dials.rng.chance(10) {
                    // A second time, with a name that is stale by then.
                    self.dial_at(delay + SECOND, number, DialStep::HangUp);
                }
            }
            Err(error) => {
                let is_right = match error {
                    DialError::LocalDraining => self.is_draining,
                    DialError::PeerSilent { .. } => took >= timeout,
                    _ => true,
                };
                if !is_right {
                    self.fail(format!("dial {number} after {} ms: {error}", took / MS));
                }
            }
        }
    }

    /// Closes the socket of a dial; returns whether the slot has one.
    pub(crate) fn close_dialed(&mut self, shard: usize, slot: Slot) -> bool {
        let Some(number) = self.dials.slots.get(&(shard, slot.0)).copied() else {
            return false;
        };
        if let Some(socket) = &mut self.dials.list[number].socket {
            if std::mem::replace(&mut socket.is_closing, true) {
                self.fail(format!("shard {shard} closes slot {} twice", slot.0));
            }
            let delay = self.dials.rng.skewed(0, 10 * MS);
            self.dial_at(delay, number, DialStep::Closed);
        }
        true
    }

    fn dial_closed(&mut self, number: usize) {
        let shard = self.dials.list[number].shard;
        let Some(socket) = self.dials.list[number].socket.take() else {
            return;
        };
        self.dials.slots.remove(&(shard, socket.slot.0));
        self.push(
            shard,
            Input::Dial(DialInput::Closed(socket.slot, socket.source)),
        );
        self.accept_more(shard);
    }

    fn far_side(&mut self, number: usize) {
        let what = self.dials.rng.below(3);
        let dial = &mut self.dials.list[number];
        let shard = dial.shard;
        let Some(socket) = &mut dial.socket else {
            return;
        };
        if socket.is_closing || socket.is_recv_over {
            return;
        }
        socket.is_recv_over = true;
        let slot = socket.slot;
        match what {
            0 => self.push(
                shard,
                Input::Dial(DialInput::Ended(number, slot, RecvEnd::Eof)),
            ),
            1 => self.push(
                shard,
                Input::Dial(DialInput::Ended(number, slot, RecvEnd::Error(104))),
            ),
            _ => {
                let lease = SimLease::new(vec![1; 5], self.now, &self.shards[shard].account);
                self.push(shard, Input::Received(slot, lease));
            }
        }
    }

    /// Returns what is wrong with the dials after the end, if anything.
    pub(crate) fn dials_left(&self) -> Option<String> {
        let asked = self
            .dials
            .list
            .iter()
            .filter(|dial| dial.asked_at.is_some());
        let unanswered = asked.filter(|dial| !dial.is_answered).count();
        let sockets = self.dials.slots.len();
        let ports = self.dials.ports.values();
        let held = ports.filter(|holder| **holder == Holder::Dial).count();
        (unanswered + sockets + held > 0).then(|| {
            format!(
                "{unanswered} dials unanswered, {sockets} of their sockets and {held} ports left"
            )
        })
    }
}
