//! Parties of a run with routes: a session over a wire, and messages on its streams.
//!
//! Here: the service's session and those of the peers, alike; streams as messages in and out. Not here: what
//! is said in them (`peer`, `service`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::peer::{IncomingRequest, PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::reason::Reason;
use ringway_proto::route::{MessageReader, ROUTE_SETUP_PORT};
use ringway_proto::time::Now;

use super::super::network::Owner;
use super::super::world::Mesh;
use super::book::{GRACE_NS, Trouble};
use super::service::Command;
use super::{RouteEvent, Routes};
use crate::honest::UNIX_NS;
use crate::keys::Keys;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// That of a peer with this identity.
    Peer(usize),
    /// That of the relay's services on this shard.
    Service(usize),
}

/// What is known of a session from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) role: Role,
    pub(super) wire: usize,
    pub(super) is_ready: bool,
    pub(super) is_over: bool,
    /// A fault has touched it.
    pub(super) is_hurt: bool,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A peer asks the relay.
    Ask,
    /// A peer is asked as a hop.
    Hop,
    /// The service answers a peer.
    Serve,
    /// The service asks this hop.
    ToHop(PublicKey),
}

/// A stream.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that a trace shows by name"
)]
pub(super) struct Talk {
    pub(super) kind: Kind,
    pub(super) reader: MessageReader,
    /// What is not written yet.
    out: Vec<u8>,
    is_open: bool,
    /// Nothing comes behind what is there.
    is_ending: bool,
    has_finished: bool,
    has_seen_fin: bool,
}

/// One session.
#[derive(Debug)]
pub(in crate::mesh) struct Party {
    pub(super) number: usize,
    pub(super) role: Role,
    pub(super) session: PeerSession,
    pub(super) talks: BTreeMap<u32, Talk>,
    timer_at: u64,
}

impl Mesh {
    /// Begins a session; returns its number.
    pub(super) fn begin_party(&mut self, role: Role) -> usize {
        let number = self.routes.parties.len();
        let owner = Owner::Party(number);
        let relay = self.keys.relays[0].public();
        let (wire, secret) = match role {
            Role::Peer(identity) => {
                let secret = Arc::clone(&self.keys.peers[identity].0);
                (self.connect(owner, 0), secret)
            }
            Role::Service(shard) => {
                let secret = Arc::new(Keys::relay_secret(0));
                (self.attach(owner, shard), secret)
            }
        };
        let config = PeerConfig::new(UNIX_NS + self.now);
        let random = self.rng.bytes_32();
        let session = match PeerSession::connect(secret, relay, config, random, self.clock()) {
            Ok(session) => session,
            Err(error) => {
                self.fail(format!("no session can be begun: {error}"));
                return number;
            }
        };
        self.trace(|| format!("party {number} is {role:?} on wire {wire}"));
        self.routes.parties.push(Some(Box::new(Party {
            number,
            role,
            session,
            talks: BTreeMap::new(),
            timer_at: u64::MAX,
        })));
        self.routes.notes.push(Note {
            role,
            wire,
            is_ready: false,
            is_over: false,
            is_hurt: false,
        });
        self.at(0, RouteEvent::Pump { party: number }.into());
        number
    }

    pub(super) fn with_party(&mut self, number: usize, work: impl FnOnce(&mut Party, &mut Self)) {
        if let Some(mut party) = self.routes.parties.get_mut(number).and_then(Option::take) {
            if !self.routes.notes[number].is_over {
                work(&mut party, self);
            }
            self.routes.parties[number] = Some(party);
        }
    }

    /// Returns the newest session of a role that is not over.
    pub(super) fn party_of(&self, role: Role) -> Option<usize> {
        let notes = &self.routes.notes;
        notes
            .iter()
            .rposition(|note| note.role == role && !note.is_over)
    }
}

impl Party {
    /// Reads a piece off the socket.
    pub(super) fn read(&mut self, mesh: &mut Mesh) {
        let wire = mesh.routes.notes[self.number].wire;
        if mesh.read_socket(&mut self.session, wire) {
            let party = self.number;
            mesh.at(0, RouteEvent::Read { party }.into());
        }
        self.pump(mesh);
    }

    /// Does what is due, takes events, writes and sends.
    pub(super) fn pump(&mut self, mesh: &mut Mesh) {
        self.session.handle_timeout(mesh.clock());
        while let Some(event) = self.session.poll_event() {
            self.event(mesh, event);
            if mesh.routes.notes[self.number].is_over {
                return;
            }
        }
        match self.role {
            Role::Peer(identity) => self.ask_what_waits(mesh, identity),
            Role::Service(shard) => self.carry_out(mesh, shard),
        }
        self.write_talks();
        let wire = mesh.routes.notes[self.number].wire;
        mesh.transmit(&mut self.session, wire);
        let due = self.session.next_deadline().map(Now::as_nanos);
        if let Some(due) = due.filter(|due| self.timer_at <= mesh.now || *due < self.timer_at) {
            self.timer_at = due;
            let party = self.number;
            mesh.when(due, RouteEvent::Pump { party }.into());
        }
    }

    /// Opens a stream; returns its id.
    pub(super) fn open(
        &mut self,
        mesh: &mut Mesh,
        to: PublicKey,
        port: u16,
        kind: Kind,
    ) -> Option<u32> {
        let destination = Address::new(to, ROUTE_SETUP_PORT);
        let random = mesh.rng.bytes_32();
        let opened = self
            .session
            .open(destination, port, UNIX_NS + mesh.now, random);
        let stream = opened.ok()?.as_u32();
        mesh.counts.opens += 1;
        self.talks.insert(stream, Talk::new(kind, false));
        Some(stream)
    }

    /// Puts bytes behind what a stream has to write.
    pub(super) fn say(&mut self, stream: u32, bytes: &[u8]) {
        if let Some(talk) = self.talks.get_mut(&stream) {
            talk.out.extend_from_slice(bytes);
        }
    }

    /// Nothing more will be said on a stream.
    pub(super) fn end(&mut self, stream: u32) {
        if let Some(talk) = self.talks.get_mut(&stream) {
            talk.is_ending = true;
        }
    }

    /// Returns the stream over which a peer asks, if it may ask more there.
    pub(super) fn asking(&self) -> Option<u32> {
        let mut talks = self.talks.iter();
        let is_it = |talk: &Talk| talk.kind == Kind::Ask && !talk.is_ending && !talk.has_seen_fin;
        talks
            .find(|(_, talk)| is_it(talk))
            .map(|(stream, _)| *stream)
    }

    /// Resets a stream; it is gone.
    pub(super) fn reset(&mut self, stream: u32) {
        // It may be gone already.
        let _may_be_gone = self.session.reset(StreamId::new(stream));
        self.talks.remove(&stream);
    }

    fn carry_out(&mut self, mesh: &mut Mesh, shard: usize) {
        if !mesh.routes.notes[self.number].is_ready {
            return;
        }
        while let Some(command) = mesh.routes.services[shard].commands.pop_front() {
            match command {
                Command::Finish(stream) => self.end(stream),
                Command::Open(hop) => {
                    let port = mesh.next_port(shard);
                    mesh.counts.hop_streams += 1;
                    match self.open(mesh, hop, port, Kind::ToHop(hop)) {
                        Some(stream) => mesh.routes.services[shard].opening(&hop, stream),
                        // A relay that drains takes no new streams.
                        None if mesh.relays[0].is_draining => {
                            let now = mesh.clock();
                            let Routes { services, book, .. } = &mut mesh.routes;
                            services[shard].hop_failed(&hop, None, book, now);
                        }
                        None => {
                            mesh.fail(format!("shard {shard}: no stream to a hop can be opened"));
                        }
                    }
                }
                Command::Write(stream, bytes) => self.say(stream, &bytes),
            }
        }
    }

    fn write_talks(&mut self) {
        let mut done = Vec::new();
        for (stream, talk) in self.talks.iter_mut().filter(|(_, talk)| talk.is_open) {
            let id = StreamId::new(*stream);
            if !talk.out.is_empty()
                && let Ok(taken) = self.session.write(id, &talk.out)
            {
                talk.out.drain(..taken);
            }
            if talk.is_ending && talk.out.is_empty() && !talk.has_finished {
                talk.has_finished = self.session.finish(id).is_ok();
            }
            if talk.has_finished && talk.has_seen_fin {
                done.push(*stream);
            }
        }
        for stream in done {
            self.talks.remove(&stream);
        }
    }

    fn event(&mut self, mesh: &mut Mesh, event: PeerEvent) {
        let own = self.number;
        mesh.trace(|| {
            let text = format!("{event:?}");
            format!(
                "party {own}: {}",
                text.get(..text.len().min(120)).unwrap_or_default()
            )
        });
        match event {
            PeerEvent::Closed { error } => self.over(mesh, &error.to_string()),
            PeerEvent::Finished { stream } => {
                let stream = stream.as_u32();
                if let Some(talk) = self.talks.get_mut(&stream) {
                    talk.has_seen_fin = true;
                    let kind = talk.kind;
                    self.other_ends(mesh, stream, kind);
                }
            }
            PeerEvent::GoAway { code } if code != 0 => self.over(mesh, "the relay ends it"),
            PeerEvent::Incoming {
                stream,
                source,
                port,
                request,
            } => {
                if port != ROUTE_SETUP_PORT {
                    mesh.fail(format!("party {own} is asked for port {port}"));
                }
                self.incoming(mesh, stream, source, request);
            }
            PeerEvent::OpenRefused {
                stream,
                reason_code,
            } => self.gone(mesh, stream.as_u32(), Some(reason_code)),
            PeerEvent::Opened { stream, .. } => self.was_opened(mesh, stream.as_u32()),
            PeerEvent::Readable { stream } => self.hear(mesh, stream),
            PeerEvent::Ready { .. } => {
                mesh.counts.sessions += 1;
                mesh.routes.notes[own].is_ready = true;
                match self.role {
                    Role::Peer(identity) => mesh.hop_changed(identity, true),
                    Role::Service(shard) => mesh.routes.services[shard].up(),
                }
            }
            PeerEvent::Reset { stream } => self.gone(mesh, stream.as_u32(), None),
            _ => {}
        }
    }

    /// The other side has taken a stream.
    fn was_opened(&mut self, mesh: &mut Mesh, stream: u32) {
        mesh.counts.opens_accepted += 1;
        let Some(talk) = self.talks.get_mut(&stream) else {
            return;
        };
        talk.is_open = true;
        if let (Kind::ToHop(hop), Role::Service(shard)) = (talk.kind, self.role) {
            let now = mesh.clock();
            mesh.routes.services[shard].opened(&hop, stream, now);
        }
    }

    fn incoming(
        &mut self,
        mesh: &mut Mesh,
        id: StreamId,
        source: Address,
        request: IncomingRequest,
    ) {
        let stream = id.as_u32();
        let kind = match self.role {
            Role::Peer(identity) => {
                if source.key != mesh.keys.relays[0].public() {
                    return mesh.fail(format!("hop {identity} is asked by {source}"));
                }
                let refusal = mesh.routes.options.stream_refusal;
                if !mesh.is_calm && mesh.rng.chance(refusal) {
                    mesh.counts.opens_refused += 1;
                    let until = mesh.now + GRACE_NS;
                    mesh.routes.book.trouble(identity, Trouble::Gone, until);
                    let _may_be_gone = self.session.refuse(id, request, Reason::NoListener);
                    return;
                }
                Kind::Hop
            }
            Role::Service(shard) => {
                mesh.routes.services[shard].visited(stream, source.key);
                Kind::Serve
            }
        };
        let random = mesh.rng.bytes_32();
        if self.session.accept(id, request, random).is_ok() {
            self.talks.insert(stream, Talk::new(kind, true));
        }
    }

    /// Reads a stream and takes the messages in it.
    fn hear(&mut self, mesh: &mut Mesh, id: StreamId) {
        let stream = id.as_u32();
        loop {
            let mut bytes = vec![0; mesh.rng.size(1, 4_096)];
            let Ok(count) = self.session.read(id, &mut bytes) else {
                return;
            };
            let Some(talk) = self.talks.get_mut(&stream).filter(|_| count > 0) else {
                return;
            };
            mesh.counts.bytes += count as u64;
            talk.reader.push(&bytes[..count]);
            let kind = talk.kind;
            self.messages(mesh, stream, kind);
        }
    }

    /// A stream is gone, refused or reset.
    fn gone(&mut self, mesh: &mut Mesh, stream: u32, refused: Option<u16>) {
        let Some(talk) = self.talks.remove(&stream) else {
            return;
        };
        self.lose(mesh, stream, talk.kind, refused);
    }

    /// The session has ended.
    pub(super) fn over(&mut self, mesh: &mut Mesh, how: &str) {
        let own = self.number;
        let note = &mut mesh.routes.notes[own];
        if std::mem::replace(&mut note.is_over, true) {
            return;
        }
        let Note { wire, is_hurt, .. } = *note;
        mesh.trace(|| format!("party {own} has ended: {how}"));
        if !is_hurt && !mesh.is_ending {
            mesh.fail(format!(
                "party {own}, which no fault has touched, has ended: {how}"
            ));
        }
        mesh.transmit(&mut self.session, wire);
        let with_reset = mesh.rng.chance(30);
        mesh.close_end(wire, 0, with_reset);
        mesh.party_over(self.role);
        let talks = std::mem::take(&mut self.talks);
        for (stream, talk) in talks {
            self.lose(mesh, stream, talk.kind, None);
        }
    }
}

impl Talk {
    fn new(kind: Kind, is_open: bool) -> Self {
        Self {
            kind,
            reader: MessageReader::new(),
            out: Vec::new(),
            is_open,
            is_ending: false,
            has_finished: false,
            has_seen_fin: false,
        }
    }
}
