//! Honest peers: the real peer session with an application on it.
//!
//! Here: opens, answers, writing, reading, finishing as planned, and telling the checkers what was
//! seen. Not here: what is right (`checks`).

mod streams;

use std::collections::{BTreeMap, VecDeque};

use ringway_proto::dialect::Dialect;
use ringway_proto::key::Address;
use ringway_proto::peer::{
    IncomingRequest, OpenStreamError, PeerConfig, PeerEvent, PeerSession, SessionError, StreamId,
};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use crate::checks::{Answer, State, Target};
use crate::event::{Act, Event};
use crate::network::Way;
use crate::options::{MS, SECOND};
use crate::slow::{DROP_BYTES_MAX, Pace};
use crate::world::{Client, World};

/// Unix time at the beginning of virtual time, ns.
pub(crate) const UNIX_NS: u64 = 1_800_000_000 * SECOND;

/// One session of an honest peer.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that a trace shows by name"
)]
pub(crate) struct Honest {
    number: usize,
    pub(crate) identity: usize,
    pub(crate) conn: usize,
    session: PeerSession,
    apps: BTreeMap<u32, App>,
    offers: BTreeMap<u32, (IncomingRequest, Option<usize>)>,
    waiting: VecDeque<usize>,
    opens_early: bool,
    pub(crate) is_ready: bool,
    pub(crate) is_over: bool,
    /// The fault that this session has met.
    pub(crate) hurt: Option<&'static str>,
    /// Between two reads of the socket.
    pub(crate) socket_delay: u64,
    pub(crate) is_read_planned: bool,
    pub(crate) pace: Pace,
    /// It has read slowly: its streams may come to nothing, its session not.
    pub(crate) slow: Option<&'static str>,
    stream_delay: u64,
    timer_at: u64,
}

/// What the application knows of a stream.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that a trace shows by name"
)]
struct App {
    /// `None`: opened by an adversary.
    open: Option<usize>,
    side: usize,
    written: u64,
    total: u64,
    received: u64,
    is_readable: bool,
    is_read_planned: bool,
    is_finish_planned: bool,
    has_finished: bool,
    has_seen_fin: bool,
    /// When it may write again.
    talk_at: u64,
}

impl App {
    const fn new(open: Option<usize>, side: usize, total: u64) -> Self {
        Self {
            open,
            side,
            written: 0,
            total,
            received: 0,
            is_readable: false,
            is_read_planned: false,
            is_finish_planned: false,
            has_finished: false,
            has_seen_fin: false,
            talk_at: 0,
        }
    }
}

impl World {
    /// Adds an honest peer that connects now.
    pub(crate) fn add_honest(&mut self, identity: usize) -> usize {
        let number = self.clients.len();
        self.clients.push(Client::Taken);
        let conn = self.connect(number);
        let mut config = PeerConfig::new(UNIX_NS + self.now);
        config.mux.window_max = self.options.window_max;
        let random = self.rng.bytes_32();
        let session = PeerSession::connect(
            self.identity(identity),
            self.relay_key(self.dialects.of(identity)),
            config,
            random,
            self.clock(),
        );
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                self.fail(format!("no session can be begun: {error}"));
                return number;
            }
        };
        let faults = self.options.faults;
        let socket_delay = if self.rng.chance(faults.slow_socket) {
            self.rng.skewed(100_000, 20 * MS)
        } else {
            0
        };
        let stream_delay = if self.rng.chance(faults.slow_stream) {
            self.rng.skewed(100_000, 100 * MS)
        } else {
            0
        };
        let opens_early = self.rng.chance(30);
        self.clients[number] = Client::Honest(Box::new(Honest {
            number,
            identity,
            conn,
            session,
            apps: BTreeMap::new(),
            offers: BTreeMap::new(),
            waiting: VecDeque::new(),
            opens_early,
            is_ready: false,
            is_over: false,
            hurt: None,
            socket_delay,
            is_read_planned: false,
            pace: Pace::Normal,
            slow: None,
            stream_delay,
            timer_at: u64::MAX,
        }));
        self.trace(|| format!("client {number} (key {identity}) connects as connection {conn}"));
        self.pump_later(number);
        if self.rng.chance(faults.reset) {
            self.cut_later(conn);
        }
        self.plan_pace(number);
        number
    }

    /// An open begins at whichever session its key has.
    pub(crate) fn begin_open(&mut self, number: usize) {
        let identity = self.opens[number].identity;
        let client = self.clients.iter().rposition(|client| {
            matches!(client, Client::Honest(honest) if honest.identity == identity && !honest.is_over)
        });
        let Some(client) = client else {
            self.opens[number].is_void = true;
            return;
        };
        self.with_honest(client, |honest, world| {
            honest.waiting.push_back(number);
            honest.pump(world);
        });
    }

    pub(crate) fn act(&mut self, client: usize, stream: u32, act: Act) {
        self.with_honest(client, |honest, world| {
            if honest.is_over {
                return;
            }
            match act {
                Act::Answer => honest.answer(world, stream),
                Act::Cancel => honest.cancel(world, stream),
                Act::Finish => honest.finish(world, stream),
                Act::Talk => honest.work(world, stream),
                Act::Read => {
                    if let Some(app) = honest.apps.get_mut(&stream) {
                        app.is_read_planned = false;
                    }
                    honest.read_stream(world, stream, true);
                }
            }
            honest.pump(world);
        });
    }
}

impl Honest {
    /// Returns the time until it reads again.
    pub(crate) const fn read_delay(&self) -> u64 {
        match self.pace {
            Pace::Drops(interval) => interval,
            Pace::Normal | Pace::Still => self.socket_delay,
        }
    }

    /// Returns why its streams may come to nothing.
    fn hurt(&self) -> Option<&'static str> {
        self.hurt.or(self.slow)
    }

    /// Reads a piece off the socket.
    pub(crate) fn read(&mut self, world: &mut World) {
        self.is_read_planned = false;
        if self.is_over {
            return;
        }
        let is_reset = world.conns[self.conn].is_reset_at_peer;
        if self.pace == Pace::Still && !is_reset {
            return;
        }
        let count_max = if matches!(self.pace, Pace::Drops(_)) && !is_reset {
            DROP_BYTES_MAX
        } else if self.socket_delay > 0 {
            (world.options.socket_bytes / 4).max(1)
        } else {
            world.options.piece_max
        };
        let count = world.rng.size(1, count_max);
        let conn = &mut world.conns[self.conn];
        let bytes = conn.down.read(count);
        let is_at_end = bytes.is_empty() && (conn.down.has_fin || conn.is_reset_at_peer);
        if is_at_end {
            self.session.eof(world.clock());
        } else if !bytes.is_empty() {
            // An error comes again as the last event.
            let _comes_as_event = self.session.receive(&bytes, world.clock());
            world.progress_send(self.conn);
        }
        let conn = &world.conns[self.conn];
        let has_more = conn.down.arrived() > 0 || conn.is_reset_at_peer || conn.down.has_fin;
        if !is_at_end && has_more {
            self.is_read_planned = true;
            let delay = if is_reset {
                self.socket_delay
            } else {
                self.read_delay()
            };
            world.at(
                delay,
                Event::Read {
                    client: self.number,
                },
            );
        }
        self.pump(world);
    }

    /// Does what is due, takes events, sends.
    pub(crate) fn pump(&mut self, world: &mut World) {
        if self.is_over {
            return;
        }
        // Also tells the session the time from which the deadlines of its opens count.
        self.session.handle_timeout(world.clock());
        self.start_opens(world);
        while let Some(event) = self.session.poll_event() {
            self.event(world, event);
        }
        self.transmit(world);
        if let Some(due) = self.session.next_deadline().map(Now::as_nanos)
            && (self.timer_at <= world.now || due < self.timer_at)
        {
            self.timer_at = due;
            world.when(
                due,
                Event::Pump {
                    client: self.number,
                },
            );
        }
    }

    /// Goes without a word.
    pub(crate) fn leave(&mut self, world: &mut World, with_reset: bool) {
        world.peer_close(self.conn, with_reset);
        self.session.eof(world.clock());
        self.pump(world);
    }

    fn transmit(&mut self, world: &mut World) {
        let mut out = Vec::new();
        while self.session.wants_transmit() {
            let conn = &world.conns[self.conn];
            let room = if conn.is_silent || conn.is_reset_at_peer || conn.is_closed_by_peer {
                65_536
            } else {
                conn.up.room()
            };
            if room == 0 {
                return;
            }
            let count = world.rng.size(1, room.min(65_536));
            out.clear();
            if self.session.transmit(&mut out, count) == 0 {
                return;
            }
            if out.len() > count {
                let (have, want) = (out.len(), count);
                world.fail(format!(
                    "client {}: transmit gave {have} of {want} bytes",
                    self.number
                ));
            }
            let conn = &world.conns[self.conn];
            if !(conn.is_silent || conn.is_reset_at_peer || conn.is_closed_by_peer) {
                world.write(self.conn, Way::Up, &out);
            }
        }
    }

    fn start_opens(&mut self, world: &mut World) {
        while let Some(number) = self.waiting.front().copied() {
            let may_open = self.is_ready || (self.opens_early && self.session.offer().is_some());
            if !may_open {
                return;
            }
            let open = &world.opens[number];
            let destination = Address::new(world.destination(open), open.plan.port);
            let (source_port, cancel) = (open.source_port, open.plan.cancel);
            let random = world.rng.bytes_32();
            let timestamp_ns = UNIX_NS + world.now;
            match self
                .session
                .open(destination, source_port, timestamp_ns, random)
            {
                Ok(stream) => {
                    self.waiting.pop_front();
                    self.opened(world, number, stream.as_u32());
                    if let Some(delay) = cancel {
                        let (client, stream) = (self.number, stream.as_u32());
                        world.at(
                            delay,
                            Event::Act {
                                client,
                                stream,
                                act: Act::Cancel,
                            },
                        );
                    }
                }
                Err(OpenStreamError::LocalStreams { .. } | OpenStreamError::LocalQueue) => return,
                Err(_) => {
                    self.waiting.pop_front();
                    world.opens[number].is_void = true;
                }
            }
        }
    }

    fn opened(&mut self, world: &mut World, number: usize, stream: u32) {
        world.counts.opens += 1;
        let target = world.opens[number].target;
        let (own, own_identity) = (self.number, self.identity);
        // The destination's session, if there is one that no fault has touched.
        let there = match target {
            Target::Peer(identity) if identity == own_identity => Some((own, self.hurt())),
            Target::Peer(identity) => {
                world
                    .clients
                    .iter()
                    .enumerate()
                    .rev()
                    .find_map(|(number, client)| match client {
                        Client::Honest(honest)
                            if honest.identity == identity
                                && honest.is_ready
                                && !honest.is_over =>
                        {
                            Some((number, honest.hurt()))
                        }
                        _ => None,
                    })
            }
            Target::Adversary(_) | Target::Nobody | Target::Relay => None,
        };
        let now = world.now;
        let hurt = self
            .hurt()
            .or_else(|| there.and_then(|(_, hurt)| hurt))
            .or_else(|| world.hurt_session_of(target))
            .map(|why| (why, now));
        let open = &mut world.opens[number];
        open.started = Some(now);
        open.ends[0].state = State::Opening;
        open.clients = [Some(own), there.map(|(number, _)| number)];
        open.was_there = there.is_some() && (target != Target::Peer(own_identity) || self.is_ready);
        open.hurt = open.hurt.or(hurt);
        let app = App::new(Some(number), 0, open.plan.bytes[0]);
        self.apps.insert(stream, app);
        world.trace(|| format!("client {own} opens {number} as stream {stream} to {target:?}"));
    }

    fn closed(&mut self, world: &mut World, error: SessionError) {
        if world.check_refused(self.conn, self.identity, error) {
            self.hurt.get_or_insert("refused by a full relay");
        }
        if let SessionError::PeerRefused {
            reason: Reason::Replaced,
            ..
        } = error
        {
            world.counts.outdated += 1;
            world.check_replaced(self.conn, self.identity);
        }
        self.session_over(world, &format!("ended: {error}"));
    }

    fn event(&mut self, world: &mut World, event: PeerEvent) {
        world.trace(|| {
            let text = format!("{event:?}");
            format!(
                "client {}: {}",
                self.number,
                text.get(..text.len().min(120)).unwrap_or_default()
            )
        });
        match event {
            PeerEvent::Closed { error } => self.closed(world, error),
            PeerEvent::Finished { stream } => self.saw_fin(world, stream.as_u32()),
            // Before that it is a refusal, and the end says so.
            PeerEvent::GoAway { code } if code != 0 && self.is_ready => {
                if code == u32::from(Reason::Replaced.code()) {
                    world.check_replaced(self.conn, self.identity);
                }
                self.session_over(world, &format!("was ended by the relay with {code}"));
            }
            PeerEvent::Incoming {
                stream,
                source,
                port,
                request,
            } => {
                self.incoming(world, stream.as_u32(), source, port, request);
            }
            PeerEvent::OpenRefused {
                stream,
                reason_code,
            } => {
                if let Some(number) = self.apps.remove(&stream.as_u32()).and_then(|app| app.open) {
                    world.check_refusal(number, reason_code);
                    world.opens[number].ends[0].state = State::Refused(reason_code);
                }
                self.start_opens(world);
            }
            PeerEvent::Opened { stream, .. } => {
                let stream = stream.as_u32();
                if let Some(number) = self.apps.get(&stream).and_then(|app| app.open) {
                    world.check_answer_time(number);
                    world.check_dialects(number);
                    world.counts.opens_accepted += 1;
                    world.opens[number].ends[0].state = State::Open;
                }
                self.work(world, stream);
            }
            PeerEvent::Readable { stream } => {
                let stream = stream.as_u32();
                if let Some(app) = self.apps.get_mut(&stream) {
                    app.is_readable = true;
                }
                self.read_stream(world, stream, false);
            }
            PeerEvent::Ready { .. } => {
                self.is_ready = true;
                world.counts.sessions += 1;
                let is_dmsg = world.dialects.of(self.identity) == Dialect::Dmsg;
                world.counts.sessions_dmsg += u64::from(is_dmsg);
                if world.rng.chance(20) {
                    self.session.ping(world.clock());
                }
                self.start_opens(world);
            }
            PeerEvent::Reset { stream } => self.was_reset(world, stream.as_u32()),
            PeerEvent::Writable { stream } => self.work(world, stream.as_u32()),
            _ => {}
        }
    }

    fn incoming(
        &mut self,
        world: &mut World,
        stream: u32,
        source: Address,
        port: u16,
        request: IncomingRequest,
    ) {
        let identity = world.keys.find(&source.key);
        let number = world.opens.iter().position(|open| {
            Some(open.identity) == identity
                && open.source_port == source.port
                && open.started.is_some()
        });
        let own = self.number;
        let Some(number) = number else {
            if identity.is_none_or(|identity| identity < crate::keys::ADVERSARY_FIRST) {
                return world.fail(format!("client {own} got an open that nobody made"));
            }
            self.offers.insert(stream, (request, None));
            return self.answer(world, stream);
        };
        let open = &mut world.opens[number];
        if open.ends[1].state != State::Unknown {
            return world.fail(format!("open {number} reached its destination twice"));
        }
        if open.target != Target::Peer(self.identity) || open.plan.port != port {
            return world.fail(format!("open {number} reached client {own}, port {port}"));
        }
        open.ends[1].state = State::Opening;
        open.clients[1] = Some(own);
        world.check_dialects(number);
        let open = &mut world.opens[number];
        let now = world.now;
        open.hurt = open.hurt.or_else(|| self.hurt().map(|why| (why, now)));
        let answer = open.plan.answer;
        self.offers.insert(stream, (request, Some(number)));
        match answer {
            Answer::Accept { delay } if delay > 0 => {
                world.at(
                    delay,
                    Event::Act {
                        client: own,
                        stream,
                        act: Act::Answer,
                    },
                );
            }
            Answer::Accept { .. } | Answer::Refuse(_) => self.answer(world, stream),
            Answer::Never => {}
        }
    }

    fn answer(&mut self, world: &mut World, stream: u32) {
        let Some((request, open)) = self.offers.remove(&stream) else {
            return;
        };
        let id = StreamId::new(stream);
        let refusal = match open.map(|number| world.opens[number].plan.answer) {
            Some(Answer::Refuse(reason)) => Some(reason),
            Some(_) => None,
            None => world.rng.chance(20).then_some(Reason::NoListener),
        };
        if let Some(reason) = refusal {
            // Gone already when the opener has given up.
            let _may_be_gone = self.session.refuse(id, request, reason);
            if let Some(number) = open {
                world.opens[number].ends[1].state = State::Refused(reason.code());
            }
            return;
        }
        let random = world.rng.bytes_32();
        if self.session.accept(id, request, random).is_err() {
            if let Some(number) = open {
                world.opens[number].ends[1].state = State::Reset;
            }
            return;
        }
        let total = match open {
            Some(number) => {
                world.opens[number].ends[1].state = State::Open;
                world.opens[number].plan.bytes[1]
            }
            None => world.rng.skewed(0, 20_000),
        };
        self.apps.insert(stream, App::new(open, 1, total));
        self.work(world, stream);
    }
}
