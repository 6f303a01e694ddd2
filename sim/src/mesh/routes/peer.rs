//! What peers and the service say to each other: questions, answers, and hops that fail on purpose.
//!
//! Here: messages of all four kinds of stream, what a hop does with a question. Not here: bytes and sessions
//! (`party`), the service's work (`service`), what hops hold (`book`).

use ringway_proto::reason::Reason;
use ringway_proto::route::{
    HopReply, HopRequest, Message, Refusal, RouteId, SetupReply, SetupRequest,
};

use super::super::world::Mesh;
use super::RouteEvent;
use super::book::Trouble;
use super::party::{Kind, Party, Role};
use crate::options::{MS, SECOND};

impl Party {
    /// Takes the messages that a stream has.
    pub(super) fn messages(&mut self, mesh: &mut Mesh, stream: u32, kind: Kind) {
        let now = mesh.clock();
        while let Some(talk) = self.talks.get_mut(&stream) {
            let wrong = match (kind, self.role) {
                (Kind::Ask, _) => match talk.reader.next_message::<SetupReply>() {
                    Ok(None) => return,
                    Ok(Some(message)) => {
                        self.answered(mesh, stream, &message);
                        continue;
                    }
                    Err(error) => error,
                },
                (Kind::Hop, Role::Peer(identity)) => match talk.reader.next_message() {
                    Ok(None) => return,
                    Ok(Some(message)) => {
                        self.carry_hop(mesh, identity, stream, message);
                        continue;
                    }
                    Err(error) => error,
                },
                (Kind::Serve, Role::Service(shard)) => match talk.reader.next_message() {
                    Ok(None) => return,
                    Ok(Some(message)) => {
                        let routes = &mut mesh.routes;
                        routes.services[shard].asked(stream, message, &mut routes.book, now);
                        continue;
                    }
                    Err(error) => error,
                },
                (Kind::ToHop(hop), Role::Service(shard)) => match talk.reader.next_message() {
                    Ok(None) => return,
                    Ok(Some(message)) => {
                        let routes = &mut mesh.routes;
                        routes.services[shard].hop_answered(message, &mut routes.book, now);
                        continue;
                    }
                    Err(_) => {
                        self.reset(stream);
                        return self.lose(mesh, stream, Kind::ToHop(hop), None);
                    }
                },
                _ => return,
            };
            return mesh.fail(format!("{kind:?} stream {stream}: {wrong}"));
        }
    }

    /// The other side has ended its direction in order.
    pub(super) fn other_ends(&mut self, mesh: &mut Mesh, stream: u32, kind: Kind) {
        match (kind, self.role) {
            (Kind::Ask, _) => {
                let open = mesh.routes.book.asker_gone((self.number, stream));
                if open > 0 && !mesh.relays[0].is_draining {
                    mesh.fail(format!("the service ends with {open} questions open"));
                }
                self.end(stream);
            }
            (Kind::Hop, _) => self.end(stream),
            (Kind::Serve, Role::Service(shard)) => mesh.routes.services[shard].visit_ends(stream),
            (Kind::ToHop(_), _) => {
                self.end(stream);
                self.lose(mesh, stream, kind, None);
            }
            (Kind::Serve, Role::Peer(_)) => {}
        }
    }

    /// A stream is gone.
    pub(super) fn lose(&self, mesh: &mut Mesh, stream: u32, kind: Kind, refused: Option<u16>) {
        let now = mesh.clock();
        let routes = &mut mesh.routes;
        match (kind, self.role) {
            (Kind::Ask, _) => {
                let open = routes.book.asker_gone((self.number, stream));
                let note = routes.notes[self.number];
                let shard = mesh.shard_of(note.wire);
                let is_excused = note.is_hurt
                    || mesh.is_ending
                    || shard.is_none_or(|shard| mesh.now < mesh.routes.service_trouble[shard]);
                if open > 0 && !is_excused {
                    mesh.fail(format!(
                        "the stream of {open} questions was lost: {refused:?}"
                    ));
                }
            }
            (Kind::Serve, Role::Service(shard)) => routes.services[shard].visit_lost(stream),
            (Kind::ToHop(hop), Role::Service(shard)) => {
                if refused == Some(Reason::VirtualPortsExhausted.code()) {
                    return mesh.fail(format!("shard {shard} refuses a port of its slice"));
                }
                let book = &mut routes.book;
                routes.services[shard].hop_failed(&hop, Some(stream), book, now);
            }
            _ => {}
        }
    }

    /// An answer has come.
    fn answered(&mut self, mesh: &mut Mesh, stream: u32, message: &Message<SetupReply>) {
        let own = self.number;
        let setup = usize::try_from(message.id).unwrap_or(usize::MAX);
        let asked = mesh
            .routes
            .book
            .setups
            .get(setup)
            .and_then(|setup| setup.asked);
        if asked != Some((own, stream)) {
            return mesh.fail(format!("party {own} got the answer of setup {setup}"));
        }
        mesh.trace(|| format!("party {own} hears of setup {setup}: {:?}", message.body));
        match &message.body {
            SetupReply::Refused(refusal) => {
                mesh.counts.setups_refused += 1;
                let is_busy = refusal.reason() == Some(Reason::RouteBusy);
                mesh.counts.setups_busy += u64::from(is_busy);
            }
            _ => mesh.counts.setups_stand += 1,
        }
        let now = mesh.now;
        mesh.routes.book.answered(setup, &message.body, now);
        let is_last = mesh.routes.book.unanswered((own, stream)) == 0;
        if is_last && (mesh.is_calm || mesh.rng.chance(50)) {
            self.end(stream);
        }
    }

    /// Asks for the setups that wait.
    pub(super) fn ask_what_waits(&mut self, mesh: &mut Mesh, identity: usize) {
        if !mesh.routes.notes[self.number].is_ready {
            return;
        }
        while let Some(setup) = mesh.routes.waiting[identity].pop_front() {
            let relay = mesh.keys.relays[0].public();
            let port = mesh.next_peer_port();
            let found = self.asking();
            let Some(stream) = found.or_else(|| self.open(mesh, relay, port, Kind::Ask)) else {
                // A relay that drains takes no new streams.
                if !mesh.relays[0].is_draining {
                    mesh.fail(format!("party {} cannot ask", self.number));
                }
                return;
            };
            let now = mesh.now;
            let book = &mut mesh.routes.book;
            book.send(setup, (self.number, stream), now);
            let body = SetupRequest::SetUp(book.setups[setup].request.clone());
            let id = u32::try_from(setup).unwrap_or(u32::MAX);
            let mut bytes = Vec::new();
            if let Err(error) = (Message { id, body }).encode(&mut bytes) {
                return mesh.fail(format!("a question that cannot be asked: {error}"));
            }
            self.say(stream, &bytes);
            mesh.counts.setups += 1;
            if !mesh.is_calm && mesh.rng.chance(mesh.routes.options.leave) {
                let delay = mesh.rng.skewed(0, 2 * SECOND);
                let party = self.number;
                mesh.at(delay, RouteEvent::Leave { party, stream }.into());
            }
        }
    }

    /// Whoever asks goes without waiting.
    pub(super) fn leave(&mut self, mesh: &mut Mesh, stream: u32) {
        if self.talks.contains_key(&stream) {
            mesh.counts.askers_gone += 1;
            self.reset(stream);
            // It may have asked nothing that is open.
            let _count = mesh.routes.book.asker_gone((self.number, stream));
        }
        self.pump(mesh);
    }

    /// A hop is asked: it does so, or fails as this run has it.
    fn carry_hop(
        &mut self,
        mesh: &mut Mesh,
        identity: usize,
        stream: u32,
        message: Message<HopRequest>,
    ) {
        let key = mesh.keys.peers[identity].1;
        let Message { id, body } = message;
        mesh.counts.hop_questions += 1;
        let Some(setup) = mesh.routes.book.asked_by(id) else {
            return mesh.fail(format!("hop {identity} is asked what nobody asks"));
        };
        if let Err(refusal) = body.check(&key) {
            return mesh.fail(format!("hop {identity} is asked wrongly: {refusal}"));
        }
        let mut delay = mesh.rng.skewed(0, 200 * MS);
        let reply = match mesh.draw_mood() {
            Mood::Good => mesh.do_hop(identity, setup, body),
            Mood::Late => {
                mesh.routes.book.note(setup, identity, Trouble::Late);
                delay = mesh.rng.skewed(200 * MS, 14 * SECOND);
                mesh.do_hop(identity, setup, body)
            }
            Mood::Lying => return self.lie(mesh, identity, stream, id),
            Mood::Refusing => {
                mesh.routes.book.note(setup, identity, Trouble::Refused);
                HopReply::Refused(Refusal::new(Reason::RelayCapacity, "not now"))
            }
            Mood::Silent => {
                mesh.routes.book.note(setup, identity, Trouble::Silent);
                // It may do it all the same.
                if mesh.rng.chance(50) {
                    let _nobody_hears = mesh.do_hop(identity, setup, body);
                }
                return;
            }
        };
        reply_later(mesh, self.number, (stream, id), reply, delay);
    }

    /// A hop answers what is not so.
    fn lie(&mut self, mesh: &mut Mesh, identity: usize, stream: u32, id: u32) {
        let Some(setup) = mesh.routes.book.asked_by(id) else {
            return;
        };
        mesh.routes.book.note(setup, identity, Trouble::Lied);
        let lie = match mesh.rng.below(4) {
            0 => HopReply::Done,
            1 => HopReply::Reserved { ids: Vec::new() },
            2 => HopReply::Reserved {
                ids: vec![RouteId::NONE; 2],
            },
            _ => {
                // No message at all: the stream ends, and all that was asked over it fails.
                let now = mesh.now;
                mesh.routes
                    .book
                    .trouble(identity, Trouble::Gone, now + SECOND);
                return self.say(stream, &[0xff; 9]);
            }
        };
        reply_later(mesh, self.number, (stream, id), lie, 0);
    }
}

/// How a hop takes a question.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Good,
    Late,
    Lying,
    Refusing,
    Silent,
}

impl Mesh {
    /// Draws how a hop takes a question, and counts it.
    fn draw_mood(&mut self) -> Mood {
        let faults = self.routes.options;
        if self.is_calm {
            Mood::Good
        } else if self.rng.chance(faults.refuse) {
            self.counts.hop_refusals += 1;
            Mood::Refusing
        } else if self.rng.chance(faults.silent) {
            self.counts.hop_silences += 1;
            Mood::Silent
        } else if self.rng.chance(faults.lie) {
            self.counts.hop_lies += 1;
            Mood::Lying
        } else if self.rng.chance(faults.late) {
            self.counts.hop_delays += 1;
            Mood::Late
        } else {
            Mood::Good
        }
    }

    /// A hop does what it is asked.
    fn do_hop(&mut self, identity: usize, setup: usize, request: HopRequest) -> HopReply {
        let now = self.now;
        let book = &mut self.routes.book;
        book.forget(now);
        let hop = &mut book.hops[identity];
        match request {
            HopRequest::AddRules { rules } => {
                if hop.add_rules(rules, now) {
                    return HopReply::Done;
                }
                let troubles = &mut book.setups[setup].troubles;
                let has = |trouble| troubles.contains(&(identity, trouble));
                // What comes after the time of a reservation finds none.
                if !(has(Trouble::Died) || has(Trouble::Late) || has(Trouble::Lied)) {
                    let sentence = format!(
                        "setup {setup} has rules for ids that hop {identity} does not hold"
                    );
                    book.fail(sentence);
                    return HopReply::Done;
                }
                troubles.insert((identity, Trouble::Refused));
                HopReply::Refused(Refusal::new(Reason::BadRoute, "an id is not reserved"))
            }
            HopRequest::Release { ids } => {
                for id in ids {
                    hop.ids.remove(&id);
                }
                HopReply::Done
            }
            HopRequest::Reserve { count } => HopReply::Reserved {
                ids: hop.reserve(setup, count, now),
            },
        }
    }
}

/// Answers a question, by its stream and number.
fn reply_later(
    mesh: &mut Mesh,
    party: usize,
    (stream, id): (u32, u32),
    reply: HopReply,
    delay: u64,
) {
    let mut bytes = Vec::new();
    if let Err(error) = (Message { id, body: reply }).encode(&mut bytes) {
        return mesh.fail(format!("an answer that cannot be said: {error}"));
    }
    let event = RouteEvent::Reply {
        party,
        stream,
        bytes,
    };
    mesh.at(delay, event.into());
}
