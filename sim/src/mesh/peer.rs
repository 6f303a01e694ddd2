//! Peers of a mesh: the real peer session with an application on it.
//!
//! Here: connecting, opens, answers, the session's events and end. Not here: bytes of streams (`streams`),
//! what is right (`book`).

mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringway_proto::key::Address;
use ringway_proto::peer::{
    IncomingRequest, OpenStreamError, PeerConfig, PeerEvent, PeerSession, StreamId,
};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::book::{End, Side};
use super::event::Event;
use super::network::Owner;
use super::world::Mesh;
use crate::checks::State;
use crate::honest::UNIX_NS;
use crate::options::{MS, SECOND};

/// What the checkers know of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) identity: usize,
    pub(super) relay: usize,
    pub(super) wire: usize,
    pub(super) is_ready: bool,
    pub(super) is_over: bool,
    /// The fault that it has met.
    pub(super) hurt: Option<&'static str>,
}

/// One session of a peer.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    session: PeerSession,
    apps: BTreeMap<u32, App>,
    offers: BTreeMap<u32, (IncomingRequest, usize)>,
    /// Opens that are not begun.
    waiting: VecDeque<usize>,
    timer_at: u64,
}

/// What the application knows of a stream; the rest is in the book.
#[derive(Debug, Clone, Copy)]
struct App {
    open: usize,
    side: Side,
}

impl Mesh {
    /// A peer connects to a relay that takes peers, unless it has a session.
    pub(super) fn join(&mut self, identity: usize) {
        if self.is_ending || self.session_of(identity).is_some() {
            return;
        }
        self.connect_peer(identity, None);
    }

    /// Returns the newest session of a key.
    pub(super) fn session_of(&self, identity: usize) -> Option<usize> {
        self.notes
            .iter()
            .rposition(|note| note.identity == identity && !note.is_over)
    }

    /// Connects a peer to any relay but one.
    pub(super) fn connect_peer(&mut self, identity: usize, but: Option<usize>) {
        let is_open = |relay: &usize| {
            let there = &self.relays[*relay];
            there.is_up && !there.is_draining && Some(*relay) != but
        };
        let open: Vec<usize> = (0..self.relays.len()).filter(is_open).collect();
        if open.is_empty() {
            return self.at(SECOND, Event::Join { identity });
        }
        let relay = open[self.rng.index(open.len())];
        // Newest session wins, whether or not this one comes to its end first.
        for number in 0..self.notes.len() {
            let note = self.notes[number];
            if note.identity == identity && note.relay == relay && !note.is_over {
                self.hurt(number, "replaced");
            }
        }
        let number = self.clients.len();
        let wire = self.connect(Owner::Peer(number), relay);
        let secret = Arc::clone(&self.keys.peers[identity].0);
        let public = self.keys.relays[relay].public();
        let config = PeerConfig::new(UNIX_NS + self.now);
        let random = self.rng.bytes_32();
        let session = PeerSession::connect(secret, public, config, random, self.clock());
        let session = match session {
            Ok(session) => session,
            Err(error) => return self.fail(format!("no session can be begun: {error}")),
        };
        self.clients.push(Some(Box::new(Client {
            number,
            session,
            apps: BTreeMap::new(),
            offers: BTreeMap::new(),
            waiting: VecDeque::new(),
            timer_at: u64::MAX,
        })));
        self.notes.push(Note {
            identity,
            relay,
            wire,
            is_ready: false,
            is_over: false,
            hurt: None,
        });
        self.trace(|| {
            format!("client {number} (key {identity}) connects to relay {relay}: {wire}")
        });
        self.at(0, Event::Pump { client: number });
    }

    /// Notes that a session has met a fault: its end is not the relay's doing.
    pub(super) fn hurt(&mut self, client: usize, why: &'static str) {
        self.trace(|| format!("client {client} hurt: {why}"));
        self.notes[client].hurt.get_or_insert(why);
    }

    /// Gives a session what its socket has, at most a piece; returns whether there is more.
    pub(super) fn read_socket(&mut self, session: &mut PeerSession, wire: usize) -> bool {
        let count = self.rng.size(1, self.options.piece_max);
        let end = &mut self.wires[wire].ends[0];
        let bytes = end.inbound.read(count);
        let is_ended = end.inbound.has_fin || end.is_reset;
        let has_more = end.inbound.arrived() > 0;
        if bytes.is_empty() {
            if is_ended {
                session.eof(self.clock());
            }
            return false;
        }
        // An error comes again as the last event.
        let _comes_as_event = session.receive(&bytes, self.clock());
        self.room_made(wire, 0);
        has_more || is_ended
    }

    /// Sends what a session has to send, as far as its socket takes it.
    pub(super) fn transmit(&mut self, session: &mut PeerSession, wire: usize) {
        let mut out = Vec::new();
        while session.wants_transmit() {
            let ends = &self.wires[wire].ends;
            let is_dead = ends[0].is_reset || ends[0].is_closed;
            let room = if is_dead {
                65_536
            } else {
                ends[1].inbound.room()
            };
            if room == 0 {
                return;
            }
            let count = self.rng.size(1, room.min(65_536));
            out.clear();
            if session.transmit(&mut out, count) == 0 {
                return;
            }
            if out.len() > count || (!is_dead && self.write(wire, 0, &out) < out.len()) {
                return self.fail(format!("a session on wire {wire}: more than {count} bytes"));
            }
        }
    }

    /// An open begins at whichever session its key has.
    pub(super) fn begin_open(&mut self, number: usize) {
        let Some(client) = self.session_of(self.opens[number].from) else {
            self.opens[number].is_void = true;
            return;
        };
        self.with_client(client, |client, mesh| {
            client.waiting.push_back(number);
            client.pump(mesh);
        });
    }
}

impl Client {
    fn is_over(&self, mesh: &Mesh) -> bool {
        mesh.notes[self.number].is_over
    }

    /// Reads a piece off the socket.
    pub(super) fn read(&mut self, mesh: &mut Mesh) {
        if self.is_over(mesh) {
            return;
        }
        let wire = mesh.notes[self.number].wire;
        if mesh.read_socket(&mut self.session, wire) {
            let client = self.number;
            mesh.at(0, Event::Read { client });
        }
        self.pump(mesh);
    }

    /// Does what is due, takes events, sends.
    pub(super) fn pump(&mut self, mesh: &mut Mesh) {
        if self.is_over(mesh) {
            return;
        }
        self.session.handle_timeout(mesh.clock());
        self.start_opens(mesh);
        while let Some(event) = self.session.poll_event() {
            self.event(mesh, event);
        }
        self.transmit(mesh);
        if let Some(due) = self.session.next_deadline().map(Now::as_nanos)
            && (self.timer_at <= mesh.now || due < self.timer_at)
        {
            self.timer_at = due;
            let client = self.number;
            mesh.when(due, Event::Pump { client });
        }
    }

    fn transmit(&mut self, mesh: &mut Mesh) {
        let wire = mesh.notes[self.number].wire;
        mesh.transmit(&mut self.session, wire);
    }

    fn start_opens(&mut self, mesh: &mut Mesh) {
        while let Some(number) = self.waiting.front().copied() {
            if !mesh.notes[self.number].is_ready {
                return;
            }
            let open = &mesh.opens[number];
            let destination = Address::new(mesh.keys.peers[open.to].1, 80);
            let source_port = open.source_port;
            let random = mesh.rng.bytes_32();
            let opened = self
                .session
                .open(destination, source_port, UNIX_NS + mesh.now, random);
            match opened {
                Ok(stream) => {
                    let own = self.number;
                    mesh.trace(|| format!("client {own} opens {number} as {stream:?}"));
                    mesh.counts.opens += 1;
                    mesh.relays[mesh.notes[own].relay].opens += 1;
                    mesh.opens[number].started = Some(mesh.now);
                    mesh.opens[number].near = Some(End::new(own));
                    let side = Side::Near;
                    let open = number;
                    self.apps.insert(stream.as_u32(), App { open, side });
                }
                Err(OpenStreamError::LocalStreams { .. } | OpenStreamError::LocalQueue) => return,
                Err(_) => mesh.opens[number].is_void = true,
            }
            self.waiting.pop_front();
        }
    }

    fn event(&mut self, mesh: &mut Mesh, event: PeerEvent) {
        let own = self.number;
        mesh.trace(|| {
            let text = format!("{event:?}");
            format!(
                "client {own}: {}",
                text.get(..text.len().min(120)).unwrap_or_default()
            )
        });
        match event {
            PeerEvent::Closed { error } => self.session_over(mesh, &format!("ended: {error}")),
            PeerEvent::Finished { stream } => self.saw_fin(mesh, stream.as_u32()),
            PeerEvent::GoAway { code } if code != 0 => {
                self.session_over(mesh, &format!("was ended by the relay with {code}"));
            }
            PeerEvent::Incoming {
                stream,
                source,
                request,
                ..
            } => self.incoming(mesh, stream.as_u32(), source, request),
            PeerEvent::OpenRefused {
                stream,
                reason_code,
            } => {
                if let Some(app) = self.apps.remove(&stream.as_u32()) {
                    mesh.check_refusal(app.open, reason_code);
                    mesh.end_stream(app.open, app.side, State::Refused(reason_code));
                }
            }
            PeerEvent::Opened { stream, .. } => {
                if let Some(app) = self.apps.get(&stream.as_u32()).copied() {
                    mesh.check_answer_time(app.open);
                    mesh.counts.opens_accepted += 1;
                    mesh.end_stream(app.open, app.side, State::Open);
                    self.work(mesh, stream.as_u32());
                }
            }
            PeerEvent::Readable { stream } => self.read_stream(mesh, stream.as_u32()),
            PeerEvent::Ready { .. } => {
                mesh.notes[own].is_ready = true;
                mesh.counts.sessions += 1;
                self.start_opens(mesh);
            }
            PeerEvent::Reset { stream } => self.was_reset(mesh, stream.as_u32()),
            PeerEvent::Writable { stream } => self.work(mesh, stream.as_u32()),
            _ => {}
        }
    }

    fn incoming(
        &mut self,
        mesh: &mut Mesh,
        stream: u32,
        source: Address,
        request: IncomingRequest,
    ) {
        let from = mesh.keys.find(&source.key);
        let number = mesh.opens.iter().position(|open| {
            Some(open.from) == from && open.source_port == source.port && open.started.is_some()
        });
        let own = self.number;
        let Some(number) = number else {
            return mesh.fail(format!("client {own} got an open that nobody made"));
        };
        mesh.check_arrival(number, mesh.notes[own].identity);
        let open = &mut mesh.opens[number];
        open.far.push(End::new(own));
        let side = Side::Far(open.far.len() - 1);
        self.apps.insert(stream, App { open: number, side });
        self.offers.insert(stream, (request, number));
        if mesh.rng.chance(70) {
            return self.answer(mesh, stream);
        }
        let delay = mesh.rng.skewed(0, 500 * MS);
        let client = own;
        mesh.at(delay, Event::Answer { client, stream });
    }

    /// Accepts or refuses an open.
    pub(super) fn answer(&mut self, mesh: &mut Mesh, stream: u32) {
        let Some((request, number)) = self.offers.remove(&stream) else {
            return;
        };
        let Some(app) = self.apps.get(&stream).copied() else {
            return;
        };
        let id = StreamId::new(stream);
        if mesh.opens[number].is_refused {
            // Gone already when the opener has given up.
            let _may_be_gone = self.session.refuse(id, request, Reason::NoListener);
            self.apps.remove(&stream);
            let state = State::Refused(Reason::NoListener.code());
            mesh.end_stream(number, app.side, state);
        } else {
            let random = mesh.rng.bytes_32();
            if self.session.accept(id, request, random).is_ok() {
                mesh.end_stream(number, app.side, State::Open);
                self.work(mesh, stream);
            } else {
                self.apps.remove(&stream);
                mesh.end_stream(number, app.side, State::Reset);
            }
        }
        self.pump(mesh);
    }

    /// Goes without a word, or the connection has vanished.
    pub(super) fn leave(&mut self, mesh: &mut Mesh) {
        self.session.eof(mesh.clock());
        self.session_over(mesh, "left");
    }

    /// The session has ended: what was received is read, the rest is told.
    fn session_over(&mut self, mesh: &mut Mesh, how: &str) {
        if self.is_over(mesh) {
            return;
        }
        let own = self.number;
        let note = mesh.notes[own];
        mesh.notes[own].is_over = true;
        mesh.trace(|| format!("client {own}: session {how}"));
        let relay = &mesh.relays[note.relay];
        if note.hurt.is_none() && relay.is_up && !relay.is_draining && !mesh.is_ending {
            mesh.fail(format!(
                "session of client {own}, which no fault has touched, {how}"
            ));
        }
        let streams: Vec<u32> = self.apps.keys().copied().collect();
        for stream in streams {
            self.read_stream(mesh, stream);
        }
        while let Some(event) = self.session.poll_event() {
            if let PeerEvent::Finished { stream } = event {
                self.saw_fin(mesh, stream.as_u32());
            }
        }
        for app in std::mem::take(&mut self.apps).into_values() {
            mesh.end_stream(app.open, app.side, State::SessionOver);
        }
        for number in std::mem::take(&mut self.waiting) {
            mesh.opens[number].is_void = true;
        }
        self.transmit(mesh);
        let with_reset = mesh.rng.chance(30);
        mesh.close_end(note.wire, 0, with_reset);
        let delay = mesh.rng.skewed(0, 10 * SECOND);
        let identity = note.identity;
        mesh.at(delay, Event::Join { identity });
    }
}
