//! The world of a run with several relays, and the loop over its events.
//!
//! Here: the relays, how they start and end, the queue of events. Not here: what they mean to each.
//!
//! Bound: `STEPS_MAX` events.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::handshake::Offer;
use ringway_proto::limits::{STREAMS_MAX, WINDOW_INITIAL};
use ringway_proto::time::Now;
use ringway_shards::core::{
    AdmissionLimits, AllowedRelays, CoreConfig, MeshConfig, Proxies, QueueLimits, RelayAddress,
    ShardId,
};
use ringway_shards::ports::{PortSet, PortsConfig};

use super::book::Open;
use super::connects::{Connect, Port};
use super::driver::{Input, Shard};
use super::event::Event;
use super::network::Wire;
use super::options::Options;
use super::peer::{Client, Note};
use super::routes::Routes;
use crate::agenda::{Agenda, print_trace};
use crate::driver::SimDirectory;
use crate::keys::Keys;
use crate::options::SECOND;
use crate::rng::{Rng, mix};
use crate::world::Counts;

/// Most events of a run; the largest runs that end need a tenth of it.
const STEPS_MAX: u64 = 6_000_000;

/// One relay, through all its lives.
#[derive(Debug)]
pub(super) struct Relay {
    /// Those of its present life.
    pub(super) shards: Vec<usize>,
    pub(super) directory: SimDirectory,
    pub(super) is_up: bool,
    pub(super) is_draining: bool,
    pub(super) is_shut_down: bool,
    pub(super) life: u32,
    /// Relays that the registry names to it.
    pub(super) wanted: Vec<usize>,
    /// Others that it ever wanted a link with, for the configuration or the registry.
    pub(super) ever_wanted: Vec<usize>,
    /// Opens that its peers have made.
    pub(super) opens: u64,
}

/// Everything there is in a run.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) options: Options,
    pub(super) keys: Arc<Keys>,
    pub(super) relays: Vec<Relay>,
    /// Of all lives of all relays.
    pub(super) shards: Vec<Shard>,
    pub(super) wires: Vec<Wire>,
    pub(super) connects: Vec<Connect>,
    pub(super) ports: BTreeMap<(usize, SocketAddr), Port>,
    /// `None`: being worked on.
    pub(super) clients: Vec<Option<Box<Client>>>,
    /// Of each client.
    pub(super) notes: Vec<Note>,
    pub(super) opens: Vec<Open>,
    /// Parties of a run with routes.
    pub(super) routes: Routes,
    pub(super) counts: Counts,
    /// Faults have stopped.
    pub(super) is_calm: bool,
    /// The relays end for good.
    pub(super) is_ending: bool,
    /// The first thing that a checker found wrong.
    pub(super) failure: Option<String>,
    pub(super) trace_hash: u64,
    agenda: Agenda<Event>,
    is_traced: bool,
}

/// Returns where a relay listens.
pub(super) fn address(relay: usize) -> SocketAddr {
    let port = 7_100 + u16::try_from(relay).unwrap_or(0);
    SocketAddr::new([127, 0, 0, 9].into(), port)
}

/// Returns the local ports of a relay.
fn ports() -> PortsConfig {
    PortsConfig {
        sources: vec![[127, 0, 0, 1].into()],
        range: PortSet::range(40_000, 40_063),
        quarantine: PORT_REST,
        dials_max: 16,
    }
}

/// Rest of a local port.
pub(super) const PORT_REST: Duration = Duration::from_secs(1);

impl Mesh {
    pub(super) fn new(seed: u64, relays: Option<usize>, is_traced: bool) -> Self {
        let mut rng = Rng::new(mix(seed ^ 0x6d65_7368));
        let options = Options::draw(&mut rng, relays);
        Self::with(rng, options, is_traced)
    }

    /// Returns the world of a run with these settings.
    pub(super) fn with(mut rng: Rng, options: Options, is_traced: bool) -> Self {
        let now = rng.below(1_000_000 * SECOND);
        let relays = options.relays.iter().map(|relay| Relay {
            shards: Vec::new(),
            directory: SimDirectory::default(),
            is_up: false,
            is_draining: false,
            is_shut_down: false,
            life: 0,
            wanted: Vec::new(),
            ever_wanted: relay.names.clone(),
            opens: 0,
        });
        Self {
            now,
            rng,
            keys: Keys::shared(),
            relays: relays.collect(),
            options,
            shards: Vec::new(),
            wires: Vec::new(),
            connects: Vec::new(),
            ports: BTreeMap::new(),
            clients: Vec::new(),
            notes: Vec::new(),
            opens: Vec::new(),
            routes: Routes::default(),
            counts: Counts::default(),
            is_calm: false,
            is_ending: false,
            failure: None,
            trace_hash: 0,
            agenda: Agenda::new(),
            is_traced,
        }
    }

    fn config_of(&mut self, number: usize, shard: u16, shards_count: u16) -> CoreConfig {
        let relay = &self.options.relays[number];
        let named = relay.names.iter().map(|other| self.relay_address(*other));
        let allowed = match &relay.allowed {
            None => AllowedRelays::All,
            Some(list) => {
                let keys = list.iter().map(|other| self.keys.relays[*other].public());
                AllowedRelays::Listed(keys.collect())
            }
        };
        CoreConfig {
            shard: ShardId(shard),
            shards_count,
            own_key: self.keys.relays[number].public(),
            dmsg_key: None,
            proxies: Proxies::NONE,
            offer: Offer {
                capabilities: 0,
                streams_max: STREAMS_MAX,
                stream_window: WINDOW_INITIAL,
                keepalive_s: 30,
            },
            ports: ports().of_shard(shard, shards_count),
            admission: AdmissionLimits::for_sockets(64),
            queue: QueueLimits::default(),
            timeouts: self.options.timeouts,
            mesh: MeshConfig {
                relays: named.collect(),
                allowed,
                announces_peers: relay.announces_peers,
                has_registry: self.options.has_registry,
                ..MeshConfig::default()
            },
            hash_seed: self.rng.next_u64(),
        }
    }

    pub(super) fn relay_address(&self, relay: usize) -> RelayAddress {
        RelayAddress {
            key: self.keys.relays[relay].public(),
            address: address(relay),
        }
    }

    /// A relay begins a life, with a directory of its own.
    pub(super) fn start(&mut self, number: usize) {
        if self.relays[number].is_up {
            return;
        }
        let count = self.options.relays[number].shards;
        let shards_count = u16::try_from(count).unwrap_or(1);
        let directory = SimDirectory::default();
        let first = self.shards.len();
        for shard in 0..shards_count {
            let config = self.config_of(number, shard, shards_count);
            let shard = Shard::new(config, directory.clone(), number, self.now);
            self.shards.push(shard);
        }
        let relay = &mut self.relays[number];
        relay.shards = (first..first + count).collect();
        relay.directory = directory;
        relay.is_up = true;
        relay.is_draining = false;
        relay.is_shut_down = false;
        relay.life += 1;
        self.trace(|| format!("relay {number} starts with shards from {first}"));
        for shard in first..first + count {
            self.wake(shard);
        }
        self.tell_wanted(number);
    }

    /// Tells the shards of a relay whom the registry names.
    pub(super) fn tell_wanted(&mut self, number: usize) {
        let wanted = self.relays[number].wanted.clone();
        let named: Vec<_> = wanted
            .iter()
            .map(|other| self.relay_address(*other))
            .collect();
        for shard in self.relays[number].shards.clone() {
            self.push(shard, Input::Want(named.clone()));
        }
    }

    pub(super) fn clock(&self) -> Now {
        Now::from_nanos(self.now)
    }

    /// Lets an event happen at a time.
    pub(super) fn when(&mut self, at: u64, event: Event) {
        self.agenda.plan(at.max(self.now), event);
    }

    /// Lets an event happen after a delay.
    pub(super) fn at(&mut self, delay: u64, event: Event) {
        self.when(self.now + delay, event);
    }

    /// Notes what a checker found; the first finding counts.
    pub(super) fn fail(&mut self, sentence: String) {
        self.trace(|| format!("FAILED: {sentence}"));
        self.failure.get_or_insert(sentence);
    }

    /// Prints a line of the trace.
    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            print_trace(self.now, &line());
        }
    }

    /// Runs until `until`, or until `is_done`; looks at the latter now and then.
    pub(super) fn run_until(&mut self, until: u64, is_done: impl Fn(&Self) -> bool) {
        while self.failure.is_none() {
            if self.counts.events.is_multiple_of(64) && is_done(self) {
                return;
            }
            let Some((at, event)) = self.agenda.next(until) else {
                self.now = until.max(self.now);
                return;
            };
            self.now = at;
            self.counts.events += 1;
            if self.counts.events > STEPS_MAX {
                return self.fail(format!("still busy after {STEPS_MAX} events"));
            }
            let (kind, whom) = event.fingerprint();
            let word = mix(at ^ (kind << 56) ^ ((whom as u64) << 32));
            self.trace_hash = mix(self.trace_hash ^ word);
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accept { wire } => self.reach_listener(wire),
            Event::Answer { client, stream } => {
                self.with_client(client, |client, mesh| client.answer(mesh, stream));
            }
            Event::Answered {
                shard,
                lookup,
                answer,
            } => self.answered(shard, lookup, answer),
            Event::Arrive { wire, side } => self.arrive(wire, side),
            Event::CloseDone { wire, side } => self.close_done(wire, side),
            Event::Computed { shard, result } => self.push(shard, Input::Computed(result)),
            Event::Fault { fault } => self.inject(fault),
            Event::Join { identity } => self.join(identity),
            Event::Leave { client } => self.leave(client),
            Event::Look => self.look(),
            Event::Mail {
                source,
                target,
                message,
            } => self.mail(source, target, message),
            Event::Open { open } => self.begin_open(open),
            Event::Outcome { connect } => self.outcome(connect),
            Event::Pump { client } => self.with_client(client, Client::pump),
            Event::Read { client } => self.with_client(client, Client::read),
            Event::Routes(event) => self.handle_route(event),
            Event::Reset { wire, side } => self.reset(wire, side),
            Event::Retire { relay, life } => self.retire(relay, life),
            Event::SendDone { wire, side } => self.send_done(wire, side),
            Event::Start { relay } => self.start(relay),
            Event::Turn { shard } => self.turn(shard),
        }
    }

    pub(super) fn with_client(&mut self, number: usize, work: impl FnOnce(&mut Client, &mut Self)) {
        if let Some(mut client) = self.clients.get_mut(number).and_then(Option::take) {
            work(&mut client, self);
            self.clients[number] = Some(client);
        }
    }
}
