//! Runs in which the relay sets routes up over its own sessions.
//!
//! ```text
//! setups under faults ---> calm: sessions come back, what nobody uses is forgotten
//!        ---> setups that must stand ---> the end: setups while the relay drains, shutdown
//! ```
//!
//! One relay; each of its shards has a session of the relay's own key, behind which stands the service of
//! route setup. Peers ask it, and are hops for each other: with tables of ids and rules, they refuse, are
//! silent, lie and are late; they die and come back, and the service's sessions are lost and attached again.
//!
//! Here: the phases of such a run, its events, who gets them. Not here: the shards, wires and clock, which
//! are those of a mesh of one relay (`mesh`).
//!
//! Bound: `CALM_NS` of virtual time after the last fault, `PROBES_NS` for the setups behind it, `END_NS` for
//! the end.

mod book;
mod faults;
mod options;
mod party;
mod peer;
mod service;

use std::collections::VecDeque;

use ringway_proto::limits::EPHEMERAL_PORT_MIN;
use ringway_proto::route::{GroupName, RouteId, SetUp, SetupReply};
use ringway_proto::time::Now;
use ringway_shards::ports::PortSet;

use super::driver::Input;
use super::event::Event;
use super::network::Owner;
use super::world::Mesh;
use crate::options::SECOND;
use crate::rng::{Rng, mix};
use crate::run::Outcome;

use self::book::Book;
use self::faults::RouteFault;
use self::options::{RouteOptions, draw_network};
use self::party::{Note, Party, Role};
use self::service::{Fault, Service};

/// Time in which everything comes back and is forgotten: peers that have vanished are found after five
/// intervals of 30 s, a half-closed stream after 60 s, a rule after `KEEP_ALIVES_MS`.
const CALM_NS: u64 = 400 * SECOND;

/// Time for the setups that are tried without faults: theirs, and that of idle streams to hops.
const PROBES_NS: u64 = 60 * SECOND;

/// Longest wait for the end of a shutdown.
const END_NS: u64 = 20 * SECOND;

/// Keep-alive times that are asked for: longer than a setup takes; 0: the usual one.
const KEEP_ALIVES_MS: [u32; 3] = [0, 20_000, 60_000];

/// Everything of a run with routes that is not of a mesh; empty in others.
#[derive(Debug, Default)]
pub(super) struct Routes {
    options: RouteOptions,
    /// `None`: being worked on.
    parties: Vec<Option<Box<Party>>>,
    /// Of each party.
    notes: Vec<Note>,
    services: Vec<Service>,
    /// Until when the loss of a service's session may be seen.
    service_trouble: Vec<u64>,
    /// When each service looks again.
    timers: Vec<u64>,
    /// Setups that each peer will ask for.
    waiting: Vec<VecDeque<usize>>,
    book: Book,
    /// Of streams to hops, by shard.
    ports: Vec<u16>,
    peer_ports: u16,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum RouteEvent {
    /// A peer asks for a setup.
    Ask { setup: usize },
    /// A session of the services is attached, unless there is one.
    Attach { shard: usize },
    /// Something breaks.
    Fault { fault: RouteFault },
    /// A peer connects, unless it has a session.
    Join { identity: usize },
    /// A peer gives up what it has asked.
    Leave { party: usize, stream: u32 },
    /// A party looks at its session.
    Pump { party: usize },
    /// A party reads its socket.
    Read { party: usize },
    /// A hop answers.
    Reply {
        party: usize,
        stream: u32,
        bytes: Vec<u8>,
    },
    /// A service looks at its clock.
    Tick { shard: usize },
}

impl From<RouteEvent> for Event {
    fn from(event: RouteEvent) -> Self {
        Self::Routes(event)
    }
}

impl RouteEvent {
    /// Returns a number for its kind and whom it concerns.
    pub(super) fn fingerprint(&self) -> (u64, usize) {
        match self {
            Self::Ask { setup } => (30, *setup),
            Self::Attach { shard } => (31, *shard),
            Self::Fault { fault } => (32, *fault as usize),
            Self::Join { identity } => (33, *identity),
            Self::Leave { party, .. } => (34, *party),
            Self::Pump { party } => (35, *party),
            Self::Read { party } => (36, *party),
            Self::Reply { party, bytes, .. } => (37, *party + 1_000 * bytes.len()),
            Self::Tick { shard } => (38, *shard),
        }
    }
}

/// Runs one seed.
#[must_use]
pub fn run_routes(seed: u64, is_traced: bool) -> Outcome {
    run_with(seed, is_traced, None)
}

fn run_with(seed: u64, is_traced: bool, fault: Option<Fault>) -> Outcome {
    let mut mesh = begin(seed, is_traced);
    mesh.trace(|| format!("seed {seed}: {:?} {:?}", mesh.routes.options, mesh.options));
    for service in &mut mesh.routes.services {
        service.fault = fault;
    }
    mesh.plan_routes();
    let workload_end = mesh.now + mesh.options.workload_ns;
    mesh.run_until(workload_end, |_| false);
    mesh.calm_routes();
    mesh.check_rest();
    mesh.probe_routes();
    mesh.check_rest();
    mesh.end_routes();
    mesh.tally();
    Outcome {
        counts: mesh.counts,
        failure: mesh.failure,
        trace_hash: mesh.trace_hash,
    }
}

fn begin(seed: u64, is_traced: bool) -> Mesh {
    let mut rng = Rng::new(mix(seed ^ 0x0072_6f75_7465));
    let network = draw_network(&mut rng);
    let options = RouteOptions::draw(&mut rng);
    let shards = network.relays[0].shards;
    let identities = network.identities;
    let mut mesh = Mesh::with(rng, network, is_traced);
    let keys = mesh.keys.peers.iter().take(identities).map(|(_, key)| *key);
    mesh.routes = Routes {
        options,
        services: (0..shards)
            .map(|_| Service::new(options.slots, options.waiting_max))
            .collect(),
        service_trouble: vec![0; shards],
        timers: vec![u64::MAX; shards],
        waiting: vec![VecDeque::new(); identities],
        book: Book::new(keys.collect()),
        ports: vec![0; shards],
        ..Routes::default()
    };
    mesh
}

impl Mesh {
    pub(super) fn handle_route(&mut self, event: RouteEvent) {
        match event {
            RouteEvent::Ask { setup } => self.ask_for(setup),
            RouteEvent::Attach { shard } => self.attach_service(shard),
            RouteEvent::Fault { fault } => self.inject_route(fault),
            RouteEvent::Join { identity } => {
                if !self.is_ending && self.party_of(Role::Peer(identity)).is_none() {
                    self.begin_party(Role::Peer(identity));
                }
            }
            RouteEvent::Leave { party, stream } => {
                self.with_party(party, |party, mesh| party.leave(mesh, stream));
            }
            RouteEvent::Pump { party } => self.with_party(party, Party::pump),
            RouteEvent::Read { party } => self.with_party(party, Party::read),
            RouteEvent::Reply {
                party,
                stream,
                bytes,
            } => self.with_party(party, |party, mesh| {
                party.say(stream, &bytes);
                party.pump(mesh);
            }),
            RouteEvent::Tick { shard } => self.tick_service(shard),
        }
        self.settle_services();
        if let Some(failure) = self.routes.book.failure.take() {
            self.fail(failure);
        }
    }

    /// Carries out what services want, and sets their clocks.
    fn settle_services(&mut self) {
        for shard in 0..self.routes.services.len() {
            if !self.routes.services[shard].commands.is_empty()
                && let Some(party) = self.party_of(Role::Service(shard))
            {
                self.with_party(party, Party::pump);
            }
            let due = self.routes.services[shard].next_deadline();
            if let Some(due) = due.map(Now::as_nanos)
                && (self.routes.timers[shard] <= self.now || due < self.routes.timers[shard])
            {
                self.routes.timers[shard] = due.max(self.now + 1);
                self.when(due.max(self.now + 1), RouteEvent::Tick { shard }.into());
            }
        }
    }

    fn tick_service(&mut self, shard: usize) {
        let now = self.clock();
        let routes = &mut self.routes;
        routes.services[shard].handle_timeout(&mut routes.book, now);
    }

    /// Returns the shard at the other end of a party's wire.
    fn shard_of(&self, wire: usize) -> Option<usize> {
        match self.wires[wire].ends[1].owner {
            Owner::Shard(shard) => Some(shard),
            Owner::Party(_) | Owner::Peer(_) => None,
        }
    }

    /// Returns the source port of the next stream to a hop: of the shard's slice, and not used for long.
    fn next_port(&mut self, shard: usize) -> u16 {
        let count = u16::try_from(self.routes.services.len()).unwrap_or(1);
        let number = u16::try_from(shard).unwrap_or(0);
        let slice = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX).slice(number, count);
        let next = usize::from(self.routes.ports[shard]);
        self.routes.ports[shard] = self.routes.ports[shard].wrapping_add(1);
        let ports: Vec<u16> = slice.iter().collect();
        ports.get(next % ports.len().max(1)).copied().unwrap_or(0)
    }

    fn next_peer_port(&mut self) -> u16 {
        self.routes.peer_ports = (self.routes.peer_ports + 1) % 20_000;
        20_000 + self.routes.peer_ports
    }

    fn plan_routes(&mut self) {
        let span = self.options.workload_ns;
        self.start(0);
        for shard in 0..self.routes.services.len() {
            self.at(0, RouteEvent::Attach { shard }.into());
        }
        for identity in 0..self.options.identities {
            let delay = if self.rng.chance(80) {
                0
            } else {
                self.rng.skewed(0, span)
            };
            self.at(delay, RouteEvent::Join { identity }.into());
        }
        let in_bursts = self.rng.chance(60);
        let mut at = 0;
        for _ in 0..self.routes.options.setups {
            if !in_bursts || self.rng.chance(20) {
                at = self.rng.below(span);
            }
            self.plan_setup(at);
        }
        self.plan_route_faults(span);
    }

    /// Plans a setup between any two peers, over any others.
    fn plan_setup(&mut self, delay: u64) {
        let identities = self.options.identities;
        let source = self.rng.index(identities);
        let destination = (source + 1 + self.rng.index(identities - 1)) % identities;
        let mut paths = [(); 2].map(|()| {
            let mut path = vec![source];
            for hop in 0..identities {
                if hop != source && hop != destination && self.rng.chance(35) {
                    let at = 1 + self.rng.index(path.len());
                    path.insert(at, hop);
                }
            }
            path.push(destination);
            path
        });
        paths[1].reverse();
        if !self.is_calm && self.rng.chance(self.routes.options.wrong) {
            paths[0].push(source);
        }
        let key = |identity: usize| self.keys.peers[identity].1;
        let [forward, reverse] = paths.map(|path| path.into_iter().map(key).collect());
        let (source_key, destination) = (key(source), key(destination));
        let mut group = [0; 16];
        group.copy_from_slice(&self.rng.bytes_32()[..16]);
        let number = u32::try_from(self.routes.book.setups.len()).unwrap_or(0);
        let request = SetUp {
            destination,
            forward,
            reverse,
            source_port: 50_000,
            destination_port: 80,
            group: GroupName(group),
            keep_alive_ms: self.rng.pick(&KEEP_ALIVES_MS, 0),
            reverse_id: RouteId(1_000_000 + number),
        };
        let setup = self.routes.book.add(source, source_key, request);
        self.at(delay, RouteEvent::Ask { setup }.into());
    }

    /// A peer that has a session asks for a setup.
    fn ask_for(&mut self, setup: usize) {
        let identity = self.routes.book.setups[setup].identity;
        if let Some(party) = self.party_of(Role::Peer(identity))
            && self.routes.notes[party].is_ready
        {
            self.routes.waiting[identity].push_back(setup);
            self.with_party(party, Party::pump);
        }
    }

    /// Faults stop, everybody comes back, and time passes.
    fn calm_routes(&mut self) {
        self.is_calm = true;
        for shard in 0..self.routes.services.len() {
            self.at(0, RouteEvent::Attach { shard }.into());
        }
        for identity in 0..self.options.identities {
            self.at(0, RouteEvent::Join { identity }.into());
        }
        self.run_until(self.now + CALM_NS, |_| false);
        self.end_asking();
        self.run_until(self.now + PROBES_NS, |_| false);
    }

    /// Peers end the streams over which they ask, once all is answered.
    fn end_asking(&mut self) {
        for number in 0..self.routes.parties.len() {
            self.with_party(number, |party, mesh| {
                while let Some(stream) = party.asking() {
                    party.end(stream);
                }
                party.pump(mesh);
            });
        }
        self.settle_services();
    }

    /// Setups that must stand, since there are no faults any more: no more at a time than may run.
    fn probe_routes(&mut self) {
        let first = self.routes.book.setups.len();
        for number in 0..4 {
            self.plan_setup(number * SECOND);
        }
        self.run_until(self.now + PROBES_NS, |_| false);
        let mut probes = self.routes.book.setups.iter().skip(first);
        let stands = |reply: &Option<_>| matches!(reply, Some(SetupReply::SetUp { .. }));
        if let Some(probe) = probes.find(|probe| probe.answers != 1 || !stands(&probe.reply)) {
            let sentence = format!("a setup without faults does not stand: {probe:?}");
            self.fail(sentence);
        }
        self.end_asking();
        self.run_until(self.now + PROBES_NS, |_| false);
    }

    /// Nothing is under way: what must be left and what must not.
    fn check_rest(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let now = self.now;
        self.routes.book.check_rest(now);
        self.failure = self.routes.book.failure.take();
        for (number, service) in self.routes.services.iter().enumerate() {
            let audit = self.shards[number].core.audit();
            let (streams, ports, queued) = (audit.streams, audit.virtual_ports, audit.queued_bytes);
            let wrong = if !service.is_idle() || service.free != service.slots {
                let (free, slots) = (service.free, service.slots);
                format!("the service of shard {number} has {free} of {slots} slots, or is busy")
            } else if streams + ports + queued + audit.batches_in_flight > 0 {
                format!("shard {number} is idle, and owns {audit:?}")
            } else if audit.own_sessions != 1 {
                format!(
                    "shard {number} has {} sessions of its own",
                    audit.own_sessions
                )
            } else {
                continue;
            };
            self.failure.get_or_insert(wrong);
        }
    }

    /// Setups while the relay drains, shutdown, and what must be left: nothing.
    fn end_routes(&mut self) {
        if self.failure.is_some() {
            return;
        }
        if self.rng.chance(50) {
            for _ in 0..self.rng.size(1, 6) {
                self.plan_setup(0);
            }
            let pause = self.rng.skewed(0, SECOND);
            self.run_until(self.now + pause, |_| false);
        }
        self.is_ending = true;
        for setup in &mut self.routes.book.setups {
            setup.is_hurt = true;
        }
        if self.rng.chance(60) {
            self.relays[0].is_draining = true;
            for shard in self.relays[0].shards.clone() {
                self.push(shard, Input::Drain);
                self.routes.services[shard].drain();
            }
            self.settle_services();
        }
        let pause = self.rng.skewed(0, 20 * SECOND);
        self.run_until(self.now + pause, |_| false);
        for shard in self.relays[0].shards.clone() {
            self.push(shard, Input::Shutdown);
        }
        self.run_until(self.now + END_NS, |_| false);
        if self.failure.is_none() {
            self.check_relay_end(0);
        }
    }
}

#[cfg(test)]
mod tests;
