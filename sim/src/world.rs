//! The world of one run: everything there is, and the loop over events.
//!
//! Here: the queue of events and who gets each. Not here: what they mean to each.
//!
//! Bound: `STEPS_MAX` events; a run that needs more is stuck in a circle and fails.

use std::sync::Arc;

use ringway_proto::handshake::Offer;
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::time::Now;
use ringway_shards::core::{CoreConfig, MeshConfig, Proxies, ShardId};

use crate::agenda::{Agenda, print_trace};
use crate::checks::{Open, Target};
use crate::dialects::Dialects;
use crate::dials::Dials;
use crate::driver::{Input, Shard, SimDirectory};
use crate::event::Event;
use crate::honest::Honest;
use crate::keys::Keys;
use crate::network::Conn;
use crate::options::{Options, SECOND};
use crate::raw::Raw;
use crate::rng::{Rng, mix};
use crate::stranger::Stranger;

/// Most events of a run; the largest runs that end need a third of it.
const STEPS_MAX: u64 = 6_000_000;

/// What happened in one or many runs.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "names of the printed summary")]
pub struct Counts {
    pub events: u64,
    pub opens: u64,
    pub opens_accepted: u64,
    pub opens_refused: u64,
    pub streams_completed: u64,
    pub bytes: u64,
    pub opens_across: u64,
    pub sessions: u64,
    pub sessions_dmsg: u64,
    pub messages: u64,
    pub resets: u64,
    pub vanished: u64,
    pub leaves: u64,
    pub kicks: u64,
    pub replaced: u64,
    pub outdated: u64,
    pub drains: u64,
    pub shutdowns: u64,
    pub lost_wakes: u64,
    pub short_sends: u64,
    pub ring_full: u64,
    pub stream_resets: u64,
    pub adversaries: u64,
    pub adversary_moves: u64,
    pub strangers: u64,
    pub dials: u64,
    pub dials_connected: u64,
    pub dials_refused: u64,
    pub tight_limits: u64,
    pub handshakes_shed: u64,
    pub sessions_refused: u64,
    pub accepts_delayed: u64,
    pub reliefs: u64,
    pub trims: u64,
    pub sends_cancelled: u64,
    pub sends_crossed: u64,
    pub readers_slow: u64,
    pub readers_stopped: u64,
    pub slow_consumers: u64,
    pub half_closed: u64,
    pub idle_resets: u64,
    pub relays: u64,
    pub links_opened: u64,
    pub peer_sets: u64,
    pub forwards: u64,
    pub forwards_again: u64,
    pub lookups: u64,
    pub lookups_wrong: u64,
    pub links_cut: u64,
    pub links_reset: u64,
    pub links_delayed: u64,
    pub connects_failed: u64,
    pub relays_killed: u64,
    pub relays_drained: u64,
    pub wants_changed: u64,
    pub peers_moved: u64,
    pub probes: u64,
    pub probes_reached: u64,
    pub setups: u64,
    pub setups_stand: u64,
    pub setups_refused: u64,
    pub setups_busy: u64,
    pub askers_gone: u64,
    pub hop_streams: u64,
    pub hop_questions: u64,
    pub hop_refusals: u64,
    pub hop_silences: u64,
    pub hop_lies: u64,
    pub hop_delays: u64,
    pub hops_died: u64,
    pub services_lost: u64,
}

impl Counts {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for ((_, sum), (_, more)) in self.fields_mut().into_iter().zip(other.fields()) {
            *sum += more;
        }
    }

    /// Returns every count with its name.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        copy.fields_mut()
            .into_iter()
            .map(|(name, count)| (name, *count))
            .collect()
    }

    #[expect(clippy::too_many_lines, reason = "a line for each count")]
    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 71] {
        [
            ("events", &mut self.events),
            ("opens", &mut self.opens),
            ("opens accepted", &mut self.opens_accepted),
            ("opens refused", &mut self.opens_refused),
            ("streams completed", &mut self.streams_completed),
            ("bytes delivered", &mut self.bytes),
            ("opens refused between dialects", &mut self.opens_across),
            ("sessions", &mut self.sessions),
            ("sessions of the dmsg dialect", &mut self.sessions_dmsg),
            ("messages between shards", &mut self.messages),
            ("connections reset", &mut self.resets),
            ("peers vanished", &mut self.vanished),
            ("peers left", &mut self.leaves),
            ("sessions kicked", &mut self.kicks),
            ("sessions replaced", &mut self.replaced),
            (
                "connections that came to their end behind a newer one",
                &mut self.outdated,
            ),
            ("drains under load", &mut self.drains),
            ("shutdowns under load", &mut self.shutdowns),
            ("wake-ups lost", &mut self.lost_wakes),
            ("short sends", &mut self.short_sends),
            ("receives without memory", &mut self.ring_full),
            ("streams reset", &mut self.stream_resets),
            ("adversaries", &mut self.adversaries),
            ("adversary moves", &mut self.adversary_moves),
            ("strangers", &mut self.strangers),
            ("dials", &mut self.dials),
            ("dials connected", &mut self.dials_connected),
            ("dials refused at once", &mut self.dials_refused),
            ("runs with tight limits", &mut self.tight_limits),
            ("handshakes shed", &mut self.handshakes_shed),
            ("sessions refused with 203", &mut self.sessions_refused),
            ("connections that waited", &mut self.accepts_delayed),
            ("reliefs of memory", &mut self.reliefs),
            ("memory given back", &mut self.trims),
            ("sends cancelled", &mut self.sends_cancelled),
            ("sends that crossed it", &mut self.sends_crossed),
            ("peers that read drops", &mut self.readers_slow),
            ("peers that stop reading", &mut self.readers_stopped),
            ("ends with 208", &mut self.slow_consumers),
            ("half-closed streams", &mut self.half_closed),
            ("idle bridges reset", &mut self.idle_resets),
            ("relays", &mut self.relays),
            ("links", &mut self.links_opened),
            ("sets of peers told", &mut self.peer_sets),
            ("forwards", &mut self.forwards),
            ("forwards to a second relay", &mut self.forwards_again),
            ("lookups", &mut self.lookups),
            (
                "lookups answered wrongly, late or not",
                &mut self.lookups_wrong,
            ),
            ("links cut in silence", &mut self.links_cut),
            ("links reset", &mut self.links_reset),
            ("links delayed", &mut self.links_delayed),
            ("connects of links that failed", &mut self.connects_failed),
            ("relays killed", &mut self.relays_killed),
            ("relays drained and started anew", &mut self.relays_drained),
            ("changes of the wanted relays", &mut self.wants_changed),
            ("peers that moved to another relay", &mut self.peers_moved),
            ("pairs tried at the end", &mut self.probes),
            ("of these reached", &mut self.probes_reached),
            ("route setups", &mut self.setups),
            ("of these stand", &mut self.setups_stand),
            ("of these refused", &mut self.setups_refused),
            ("refused with 501", &mut self.setups_busy),
            ("askers that went", &mut self.askers_gone),
            ("streams to hops", &mut self.hop_streams),
            ("questions to hops", &mut self.hop_questions),
            ("of these refused by hops", &mut self.hop_refusals),
            ("of these not answered", &mut self.hop_silences),
            ("of these answered wrongly", &mut self.hop_lies),
            ("of these answered late", &mut self.hop_delays),
            ("hops that died", &mut self.hops_died),
            ("sessions of services lost", &mut self.services_lost),
        ]
    }
}

/// One party at the other end of a connection.
#[derive(Debug)]
pub(crate) enum Client {
    Adversary(Box<Raw>),
    Honest(Box<Honest>),
    Stranger(Box<Stranger>),
    /// Being worked on.
    Taken,
}

/// Everything there is in a run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) options: Options,
    pub(crate) dialects: Dialects,
    pub(crate) keys: Arc<Keys>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) directory: SimDirectory,
    pub(crate) conns: Vec<Conn>,
    pub(crate) clients: Vec<Client>,
    pub(crate) opens: Vec<Open>,
    pub(crate) dials: Dials,
    pub(crate) counts: Counts,
    pub(crate) is_draining: bool,
    pub(crate) is_shut_down: bool,
    /// The first thing that a checker found wrong.
    pub(crate) failure: Option<String>,
    pub(crate) trace_hash: u64,
    agenda: Agenda<Event>,
    is_traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, dialects: Dialects, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let options = Options::draw(seed, &mut rng);
        let dials = Dials::draw(seed);
        let shards_count = u16::try_from(options.shards).unwrap_or(1);
        let keys = Keys::shared();
        let directory = SimDirectory::default();
        let now = rng.below(1_000_000 * SECOND);
        let shards = (0..options.shards)
            .map(|number| {
                let shard = u16::try_from(number).unwrap_or(0);
                let config = CoreConfig {
                    shard: ShardId(shard),
                    shards_count,
                    own_key: keys.relay_public,
                    dmsg_key: dialects.has_dmsg().then_some(keys.relay_dmsg),
                    proxies: Proxies::NONE,
                    offer: Offer {
                        capabilities: 0,
                        streams_max: options.streams_max,
                        stream_window: WINDOW_INITIAL,
                        keepalive_s: 30,
                    },
                    ports: dials.config.of_shard(shard, shards_count),
                    admission: options.limits.admission(&options),
                    queue: options.limits.queue,
                    timeouts: options.limits.timeouts,
                    mesh: MeshConfig::default(),
                    hash_seed: rng.next_u64(),
                };
                Shard::new(config, directory.clone(), options.shards, now)
            })
            .collect();
        Self {
            now,
            rng,
            options,
            dialects,
            keys,
            shards,
            directory,
            conns: Vec::new(),
            clients: Vec::new(),
            opens: Vec::new(),
            dials,
            counts: Counts::default(),
            is_draining: false,
            is_shut_down: false,
            failure: None,
            trace_hash: 0,
            agenda: Agenda::new(),
            is_traced,
        }
    }

    pub(crate) fn clock(&self) -> Now {
        Now::from_nanos(self.now)
    }

    /// Lets an event happen at a time.
    pub(crate) fn when(&mut self, at: u64, event: Event) {
        self.agenda.plan(at.max(self.now), event);
    }

    /// Lets an event happen after a delay.
    pub(crate) fn at(&mut self, delay: u64, event: Event) {
        self.when(self.now + delay, event);
    }

    /// Notes what a checker found; the first finding counts.
    pub(crate) fn fail(&mut self, sentence: String) {
        self.trace(|| format!("FAILED: {sentence}"));
        if self.failure.is_none() {
            self.failure = Some(sentence);
        }
    }

    /// Prints a line of the trace.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            print_trace(self.now, &line());
        }
    }

    /// Runs until `until`, or until `is_done`; returns whether it was done.
    pub(crate) fn run_until(&mut self, until: u64, is_done: impl Fn(&Self) -> bool) -> bool {
        let mut looked = 0_u32;
        while self.failure.is_none() {
            looked += 1;
            // Looking costs more than most events.
            if looked.is_multiple_of(16) && is_done(self) {
                return true;
            }
            let Some((at, event)) = self.agenda.next(until) else {
                self.now = until.max(self.now);
                return is_done(self);
            };
            self.now = at;
            self.trace_hash = mix(self.trace_hash ^ at);
            self.counts.events += 1;
            if self.counts.events > STEPS_MAX {
                self.fail(format!("still busy after {STEPS_MAX} events"));
                return false;
            }
            self.handle(event);
        }
        false
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accept { conn } => self.reach_listener(conn),
            Event::Act {
                client,
                stream,
                act,
            } => self.act(client, stream, act),
            Event::Adversary { client } => self.adversary_moves(client),
            Event::Arrive { conn, way } => self.arrive(conn, way),
            Event::CloseDone { conn } => self.close_done(conn),
            Event::Computed { shard, result } => self.push(shard, Input::Computed(result)),
            Event::Dial { dial, step } => self.dial_step(dial, step),
            Event::Fault { fault } => self.inject(fault),
            Event::Join { kind } => self.join(kind),
            Event::Look => self.look(),
            Event::Mail {
                source,
                target,
                message,
            } => self.mail(source, target, message),
            Event::Open { open } => self.begin_open(open),
            Event::Pump { client } => self.pump(client),
            Event::Read { client } => self.read(client),
            Event::ResetPeer { conn } => self.reset_peer(conn),
            Event::ResetRelay { conn } => self.reset_relay(conn),
            Event::SendDone { conn } => self.send_done(conn),
            Event::Slow { client, pace } => self.change_pace(client, pace),
            Event::Turn { shard } => self.turn(shard),
        }
    }

    /// The client reads its socket, now or when it gets round to it.
    pub(crate) fn peer_readable(&mut self, conn: usize) {
        let client = self.conns[conn].client;
        match &mut self.clients[client] {
            Client::Honest(honest) => {
                if honest.is_read_planned {
                    return;
                }
                honest.is_read_planned = true;
                let delay = honest.read_delay();
                self.at(delay, Event::Read { client });
            }
            Client::Adversary(_) | Client::Stranger(_) => self.at(0, Event::Read { client }),
            Client::Taken => {}
        }
    }

    fn read(&mut self, client: usize) {
        match std::mem::replace(&mut self.clients[client], Client::Taken) {
            Client::Honest(mut honest) => {
                honest.read(self);
                self.clients[client] = Client::Honest(honest);
            }
            Client::Adversary(mut raw) => {
                raw.read(self);
                self.clients[client] = Client::Adversary(raw);
            }
            Client::Stranger(mut stranger) => {
                stranger.read(self);
                self.clients[client] = Client::Stranger(stranger);
            }
            Client::Taken => {}
        }
    }

    pub(crate) fn pump_later(&mut self, client: usize) {
        self.at(0, Event::Pump { client });
    }

    fn pump(&mut self, client: usize) {
        match std::mem::replace(&mut self.clients[client], Client::Taken) {
            Client::Honest(mut honest) => {
                honest.pump(self);
                self.clients[client] = Client::Honest(honest);
            }
            Client::Adversary(mut raw) => {
                raw.transmit(self);
                self.clients[client] = Client::Adversary(raw);
            }
            other @ (Client::Stranger(_) | Client::Taken) => self.clients[client] = other,
        }
    }

    pub(crate) fn with_honest(&mut self, client: usize, work: impl FnOnce(&mut Honest, &mut Self)) {
        match std::mem::replace(&mut self.clients[client], Client::Taken) {
            Client::Honest(mut honest) => {
                work(&mut honest, self);
                self.clients[client] = Client::Honest(honest);
            }
            other => self.clients[client] = other,
        }
    }

    fn adversary_moves(&mut self, client: usize) {
        if let Client::Adversary(mut raw) =
            std::mem::replace(&mut self.clients[client], Client::Taken)
        {
            raw.step(self);
            self.clients[client] = Client::Adversary(raw);
        }
    }

    /// Notes that a client has met a fault: what becomes of its streams is not its doing.
    pub(crate) fn hurt(&mut self, client: usize, why: &'static str) {
        self.trace(|| format!("client {client} hurt: {why}"));
        if let Client::Honest(honest) = &mut self.clients[client] {
            honest.hurt.get_or_insert(why);
            let identity = honest.identity;
            self.hurt_opens_to(identity, why);
        }
        let now = self.now;
        for open in self.opens.iter_mut().filter(|open| open.involves(client)) {
            open.hurt.get_or_insert((why, now));
        }
    }

    /// Returns the fault that a session of an open's target has met, ready or not.
    pub(crate) fn hurt_session_of(&self, target: Target) -> Option<&'static str> {
        self.clients.iter().find_map(|client| match client {
            Client::Honest(honest)
                if target == Target::Peer(honest.identity)
                    && (!honest.is_over || self.conns[honest.conn].is_silent) =>
            {
                honest.hurt.or(honest.slow)
            }
            _ => None,
        })
    }

    /// Notes that opens under way to a key may have met a session with a fault.
    pub(crate) fn hurt_opens_to(&mut self, identity: usize, why: &'static str) {
        let now = self.now;
        let under_way = self
            .opens
            .iter_mut()
            .filter(|open| open.target == Target::Peer(identity) && open.started.is_some());
        for open in under_way {
            open.hurt.get_or_insert((why, now));
        }
    }

    pub(crate) fn hurt_client(&mut self, conn: usize, why: &'static str) {
        let client = self.conns[conn].client;
        self.hurt(client, why);
    }
}
