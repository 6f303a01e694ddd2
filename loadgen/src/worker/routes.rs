//! Route setup: peers that ask the relay for routes, and their streams.
//!
//! Here: whose turn it is, requests and their answers, the bytes of both kinds of streams. Not here: what a
//! hop answers (`hop`), opening streams (`open`).
//!
//! The dialers of a thread ask, its acceptors are the hops. Each asker keeps one stream to port 36 of the
//! relay. Both kinds of streams have a true handshake and sealed records, as those of peers. A setup begins
//! when it is asked for and is over when the relay says that the routes stand.
//!
//! Bound: `ROUTE_REQUESTS_MAX` setups of a stream without an answer, as many as the relay reads;
//! [`UNSENT_MAX`] bytes that wait for the relay to take them.

use std::sync::atomic::Ordering;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::key::Address;
use ringway_proto::limits::{EPHEMERAL_PORT_MIN, ROUTE_REQUESTS_MAX};
use ringway_proto::open::OpenRequest;
use ringway_proto::route::{
    GroupName, HopRequest, Message, MessageReader, ROUTE_SETUP_PORT, RouteId, SetUp, SetupReply,
    SetupRequest,
};
use ringway_proto::time::Now;
use serde::Serialize;

use super::hop::Hop;
use super::session::{Part, Session, Stage};
use super::{Worker, place};
use crate::plan::{Plan, Scenario, Target};
use crate::records::Records;
use crate::shared::{Phase, bump};

/// Bytes of one frame at most.
const FRAME_BYTES: usize = 16_384;
/// Bytes that wait for a window: a relay has no more questions on their way to a hop than its window holds.
const UNSENT_MAX: usize = 262_144;
/// Port that the routes are for; nobody listens there, since no route carries packets.
const PORT: u16 = 80;

/// The askers and hops of a thread.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By the ordinal of their session among the acceptors.
    hops: Vec<Hop>,
    /// Streams that ask.
    askers: Vec<u32>,
    /// Place of the one whose turn it is.
    next_asker: usize,
    /// Setups that were asked for; decides which hops are next.
    asked: u64,
    /// Setups without an answer.
    open: u32,
}

/// What only a stream of route setup has.
#[derive(Debug, Default)]
pub(super) struct RouteStream {
    reader: MessageReader,
    /// Sealed bytes that the window has no room for.
    unsent: Vec<u8>,
    /// Setups without an answer.
    open: Vec<Asked>,
    next_id: u32,
}

/// A setup on its way.
#[derive(Debug)]
struct Asked {
    id: u32,
    due: Option<Now>,
    started: Now,
    /// The hop that the asker's packets go to.
    first: usize,
}

impl Routes {
    pub(super) fn new(plan: &Plan, sessions: &[Session]) -> Self {
        let is_hop = |session: &&Session| session.part == Part::Acceptor;
        let count = match plan.scenario {
            Scenario::Setups => sessions.iter().filter(is_hop).count(),
            _ => 0,
        };
        Self {
            hops: (0..count).map(|_| Hop::new()).collect(),
            ..Self::default()
        }
    }

    /// Returns whether every setup has its answer.
    pub(super) const fn is_quiet(&self) -> bool {
        self.open == 0
    }

    fn next_asker(&mut self) -> Option<u32> {
        let stream = self
            .askers
            .get(self.next_asker)
            .or_else(|| self.askers.first());
        let stream = stream.copied();
        let next = self.next_asker + 1;
        self.next_asker = if next < self.askers.len() { next } else { 0 };
        stream
    }
}

impl Worker {
    /// Asks for routes, as far as concurrency and clock go.
    pub(super) fn ask_more(&mut self) {
        let mut full = 0;
        while self.routes.open < self.plan.concurrency
            && self.due.is_any()
            && full < self.routes.askers.len()
        {
            let Some(stream) = self.routes.next_asker() else {
                return;
            };
            let route = self.streams[place(stream)].route.as_ref();
            if route.is_none_or(|route| route.open.len() >= ROUTE_REQUESTS_MAX) {
                full += 1;
                continue;
            }
            full = 0;
            let due = self.due.take();
            if let Err(name) = self.ask(stream, due) {
                let index = place(self.streams[place(stream)].session);
                self.drop_session(index, name);
            }
        }
    }

    fn ask(&mut self, stream: u32, due: Option<Now>) -> Result<(), &'static str> {
        let index = place(self.streams[place(stream)].session);
        let (first, set_up) = self.set_up(index);
        let started = self.shared.now();
        let entry = &mut self.streams[place(stream)];
        let (Some(route), Some(records)) = (&mut entry.route, &mut entry.records) else {
            return Err("setup: no stream");
        };
        // An id stands for one of few open questions, and 0 for none of them.
        route.next_id = route.next_id.wrapping_add(1).max(1);
        let id = route.next_id;
        route.write(records, id, SetupRequest::SetUp(set_up))?;
        route.open.push(Asked {
            id,
            due,
            started,
            first,
        });
        self.routes.asked += 1;
        self.routes.open += 1;
        self.send_route(stream);
        Ok(())
    }

    /// Returns the next request of a session, and the hop that is first on its path.
    fn set_up(&self, index: usize) -> (usize, SetUp) {
        let number = self.routes.asked;
        let count = self.routes.hops.len().max(1);
        let first = usize::try_from(number).unwrap_or(usize::MAX) % count;
        let hops = (0..place(self.plan.hops)).map(|step| {
            // Acceptors and dialers alternate.
            self.sessions[2 * ((first + step) % count)].key
        });
        let forward: Vec<_> = std::iter::once(self.sessions[index].key)
            .chain(hops)
            .collect();
        let mut group = [0; 16];
        group[..4].copy_from_slice(&self.index.to_be_bytes());
        group[8..].copy_from_slice(&number.to_be_bytes());
        let set_up = SetUp {
            destination: forward.last().copied().unwrap_or(self.sessions[index].key),
            reverse: forward.iter().rev().copied().collect(),
            forward,
            source_port: EPHEMERAL_PORT_MIN,
            destination_port: PORT,
            group: GroupName(group),
            keep_alive_ms: 0,
            reverse_id: RouteId(u32::try_from(number % 1_000_000).unwrap_or(0) + 1),
        };
        (first, set_up)
    }

    /// The relay has accepted the stream of an asker.
    pub(super) fn on_asker_open(&mut self, stream: u32) {
        self.opening -= 1;
        self.streams[place(stream)].route = Some(Box::default());
        self.routes.askers.push(stream);
        bump(&self.shared.streams_up);
    }

    /// Takes bytes of a stream: answers to an asker, questions to a hop.
    pub(super) fn on_route_bytes(
        &mut self,
        index: usize,
        stream: u32,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        let entry = &mut self.streams[place(stream)];
        let is_asker = entry.is_dialer;
        let (Some(mut route), Some(mut records)) = (entry.route.take(), entry.records.take())
        else {
            return Err("protocol: bytes on a stream without keys");
        };
        let mut result = records
            .open(bytes, |plain| route.reader.push(plain))
            .map_err(|_| "stream: a record does not open");
        if result.is_ok() && is_asker {
            result = self.on_replies(&mut route);
        } else if result.is_ok() {
            result = self.on_questions(index, &mut route, &mut records);
        }
        let entry = &mut self.streams[place(stream)];
        entry.route = Some(route);
        entry.records = Some(records);
        result?;
        self.send_route(stream);
        Ok(())
    }

    fn on_replies(&mut self, route: &mut RouteStream) -> Result<(), &'static str> {
        while let Some(message) = route
            .reader
            .next_message::<SetupReply>()
            .map_err(|_| "protocol: malformed answer to a setup")?
        {
            let is_it = |asked: &Asked| asked.id == message.id;
            let Some(at) = route.open.iter().position(is_it) else {
                return Err("protocol: answer to a setup that nobody asked for");
            };
            let asked = route.open.swap_remove(at);
            self.routes.open -= 1;
            match message.body {
                SetupReply::SetUp { forward_id, .. } => self.on_set_up(&asked, forward_id),
                SetupReply::Refused(refusal) => {
                    let failures = &mut self.tally.failures;
                    failures.count_reason("setup refused", refusal.reason);
                    self.note_failure();
                }
                SetupReply::Announced { .. }
                | SetupReply::Done
                | SetupReply::Elsewhere { .. }
                | SetupReply::Paths { .. } => {
                    return Err("protocol: another answer than a setup has");
                }
            }
        }
        Ok(())
    }

    /// The routes stand.
    fn on_set_up(&mut self, asked: &Asked, forward_id: RouteId) {
        let hop = self.routes.hops.get(asked.first);
        if !hop.is_some_and(|hop| hop.has_rule(forward_id)) {
            self.fail("setup: its first hop has no rule for its id");
            return;
        }
        self.tally.timed(asked.due, asked.started, self.now);
        self.tally.setups += 1;
        self.tally.rounds += 1;
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
    }

    fn on_questions(
        &mut self,
        index: usize,
        route: &mut RouteStream,
        records: &mut Records,
    ) -> Result<(), &'static str> {
        while let Some(message) = route
            .reader
            .next_message::<HopRequest>()
            .map_err(|_| "protocol: malformed question to a hop")?
        {
            let Some(hop) = self.routes.hops.get_mut(index / 2) else {
                return Err("protocol: question to a peer that is no hop");
            };
            let key = &self.sessions[index].key;
            let answer = hop.answer(key, &message.body, &mut self.tally.hops);
            if let Some(name) = answer.fault {
                self.fail(name);
            }
            route.write(records, message.id, answer.reply)?;
        }
        Ok(())
    }

    /// Sends what a stream has to send, as far as its window goes.
    pub(super) fn send_route(&mut self, stream: u32) {
        let entry = &mut self.streams[place(stream)];
        let (Some(route), Stage::Open) = (&mut entry.route, &entry.stage) else {
            return;
        };
        let index = place(entry.session);
        let all = route.unsent.len().min(place(entry.credit));
        if all == 0 {
            return;
        }
        let control = &mut self.sessions[index].control;
        for bytes in route.unsent[..all].chunks(FRAME_BYTES) {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            entry.credit = entry.credit.saturating_sub(len);
            control.extend_from_slice(&Header::data(entry.id, Flags::NONE, len).encode());
            control.extend_from_slice(bytes);
        }
        route.unsent.drain(..all);
        self.mark_dirty(index);
    }

    /// A stream is gone, and with it what was asked on it.
    pub(super) fn forget_route(&mut self, stream: u32) {
        let Some(route) = self.streams[place(stream)].route.take() else {
            return;
        };
        self.routes.askers.retain(|other| *other != stream);
        self.routes.next_asker = 0;
        for _ in route.open {
            self.routes.open -= 1;
            if self.phase < Phase::Close {
                self.fail("setup: its stream ended");
            }
        }
    }

    /// Counts what has no answer at the end.
    pub(super) fn finish_routes(&mut self) {
        for _ in 0..self.routes.open {
            self.fail("setup: no answer until the end");
        }
    }
}

impl RouteStream {
    /// Seals a message.
    fn write<B: Serialize>(
        &mut self,
        records: &mut Records,
        id: u32,
        body: B,
    ) -> Result<(), &'static str> {
        if self.unsent.len() > UNSENT_MAX {
            return Err("setup: the relay does not read what it is told");
        }
        let mut plain = Vec::new();
        let message = Message { id, body };
        message
            .encode(&mut plain)
            .map_err(|_| "setup: a message that is too long")?;
        records
            .seal(&plain, &mut self.unsent)
            .map_err(|_| "setup: sealing")
    }
}

/// Returns where the askers' streams go, of a run that has askers.
pub(super) fn destination(plan: &Plan) -> Option<Address> {
    match (plan.scenario, plan.target) {
        (Scenario::Setups, Target::Relay(relay)) => Some(Address::new(relay.key, ROUTE_SETUP_PORT)),
        _ => None,
    }
}

/// Checks who opens a stream to a hop, and to which port.
pub(super) fn check_open(plan: &Plan, request: &[u8]) -> Result<(), &'static str> {
    let Some(relay) = destination(plan) else {
        return Ok(());
    };
    let request = OpenRequest::decode(request).map_err(|_| "protocol: request")?;
    if request.source.key != relay.key {
        return Err("protocol: somebody else than the relay asks a hop");
    }
    if request.destination.port != relay.port {
        return Err("protocol: a hop is asked on another port");
    }
    Ok(())
}
