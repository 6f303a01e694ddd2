//! The relay's route setup of one shard, as a value: questions of peers in, questions to hops out.
//!
//! Here: slots, the bounded queue, one stream to each hop, running setups. Not here: the session below
//! (`party`), what a group asks of its hops (`ringway_proto::route::GroupSetup`), what is right (`book`).
//!
//! It does what the relay's own service does, which is made of tasks and sockets and so cannot run here.
//!
//! Bound: `slots` setups at once, `waiting_max` in the queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::ROUTE_SETUP_TIMEOUT;
use ringway_proto::reason::Reason;
use ringway_proto::route::group_setup::Ask;
use ringway_proto::route::{
    GroupSetup, HopReply, HopRequest, Message, Refusal, SetUp, SetupReply, SetupRequest,
};
use ringway_proto::time::Now;

use super::book::{Book, Trouble};

/// A service that is wrong on purpose, to see that the checks bite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It answers twice.
    AnswersTwice,
    /// It takes nothing back.
    ForgetsRelease,
    /// It asks for the rules of no hop but the first.
    ForgetsRules,
    /// It ends no stream to a hop.
    KeepsStreams,
    /// It does not give a slot back.
    KeepsSlots,
    /// It does not answer what was refused.
    Mute,
}

/// What the session below is to do.
#[derive(Debug)]
pub(super) enum Command {
    Finish(u32),
    Open(PublicKey),
    Write(u32, Vec<u8>),
}

/// The service of one shard.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) free: usize,
    pub(super) slots: usize,
    waiting_max: usize,
    waiting: VecDeque<Work>,
    runs: BTreeMap<usize, Run>,
    hops: BTreeMap<PublicKey, HopStream>,
    /// Questions without an answer.
    asks: BTreeMap<u32, Asked>,
    /// Streams of those who ask.
    visits: BTreeMap<u32, Visit>,
    pub(super) commands: VecDeque<Command>,
    is_up: bool,
    is_draining: bool,
    /// Of its sessions; streams of another one are gone.
    life: u64,
    pub(super) fault: Option<Fault>,
}

#[derive(Debug)]
struct Visit {
    key: PublicKey,
    /// Questions without an answer.
    open: usize,
    is_ending: bool,
}

#[derive(Debug)]
struct Work {
    setup: usize,
    source: PublicKey,
    request: SetUp,
    stream: u32,
    life: u64,
    received: Now,
}

#[derive(Debug)]
struct Run {
    group: GroupSetup,
    work: Work,
    /// It stood, and nobody waited for it.
    is_given_up: bool,
}

#[derive(Debug)]
struct Asked {
    setup: usize,
    number: u32,
    hop: PublicKey,
}

#[derive(Debug)]
struct HopStream {
    stream: Option<u32>,
    is_open: bool,
    /// Questions that wait for the stream.
    queue: Vec<u8>,
    idle_since: Now,
}

impl Service {
    pub(super) fn new(slots: usize, waiting_max: usize) -> Self {
        Self {
            free: slots,
            slots,
            waiting_max,
            waiting: VecDeque::new(),
            runs: BTreeMap::new(),
            hops: BTreeMap::new(),
            asks: BTreeMap::new(),
            visits: BTreeMap::new(),
            commands: VecDeque::new(),
            is_up: false,
            is_draining: false,
            life: 0,
            fault: None,
        }
    }

    /// Returns whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.waiting.is_empty() && self.hops.is_empty()
    }

    /// The session stands.
    pub(super) fn up(&mut self) {
        self.is_up = true;
    }

    /// The session is lost with all its streams.
    pub(super) fn lost(&mut self, book: &mut Book, now: Now) {
        self.is_up = false;
        self.life += 1;
        self.visits.clear();
        self.commands.clear();
        for setup in self.runs.keys().copied() {
            book.hurt(setup);
        }
        let hops: Vec<PublicKey> = self.hops.keys().copied().collect();
        for hop in hops {
            self.hop_failed(&hop, None, book, now);
        }
    }

    /// The relay drains: what was asked is answered, no more is read.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        let streams: Vec<u32> = self.visits.keys().copied().collect();
        for stream in streams {
            self.visit_ends(stream);
        }
    }

    /// A peer has opened a stream.
    pub(super) fn visited(&mut self, stream: u32, key: PublicKey) {
        let visit = Visit {
            key,
            open: 0,
            is_ending: self.is_draining,
        };
        self.visits.insert(stream, visit);
        if self.is_draining {
            self.visit_ends(stream);
        }
    }

    /// A peer asks no more on its stream.
    pub(super) fn visit_ends(&mut self, stream: u32) {
        if let Some(visit) = self.visits.get_mut(&stream) {
            visit.is_ending = true;
            if visit.open == 0 {
                self.visits.remove(&stream);
                self.commands.push_back(Command::Finish(stream));
            }
        }
    }

    /// A stream of a peer is gone.
    pub(super) fn visit_lost(&mut self, stream: u32) {
        self.visits.remove(&stream);
    }

    /// A peer asks.
    pub(super) fn asked(
        &mut self,
        stream: u32,
        message: Message<SetupRequest>,
        book: &mut Book,
        now: Now,
    ) {
        let Some(visit) = self
            .visits
            .get_mut(&stream)
            .filter(|visit| !visit.is_ending)
        else {
            return;
        };
        visit.open += 1;
        let source = visit.key;
        let setup = usize::try_from(message.id).unwrap_or(usize::MAX);
        let SetupRequest::SetUp(request) = message.body else {
            return book.fail(format!("a question that nobody asked: {message:?}"));
        };
        let known = book.setups.get_mut(setup);
        let is_known = |setup: &&mut super::book::Setup| {
            setup.source == source && setup.request == request && !setup.is_taken
        };
        let Some(entry) = known.filter(is_known) else {
            return book.fail(format!(
                "setup {setup} came otherwise than it was asked for"
            ));
        };
        entry.is_taken = true;
        entry.has_waited = self.free == 0;
        let checked = request.check(&source);
        let work = Work {
            setup,
            source,
            request,
            stream,
            life: self.life,
            received: now,
        };
        if let Err(refusal) = checked {
            self.refuse(&work, refusal, book, now);
        } else if self.free > 0 {
            self.free -= 1;
            self.begin(Some(work), book, now);
        } else if self.waiting.len() < self.waiting_max {
            self.waiting.push_back(work);
        } else {
            entry.is_full = true;
            let refusal = Refusal::new(Reason::RouteBusy, "as many setups wait as may");
            self.refuse(&work, refusal, book, now);
        }
    }

    /// A stream to a hop is being opened, or cannot be.
    pub(super) fn opening(&mut self, hop: &PublicKey, stream: u32) {
        if let Some(entry) = self.hops.get_mut(hop) {
            entry.stream = Some(stream);
        }
    }

    /// A hop has taken its stream.
    pub(super) fn opened(&mut self, hop: &PublicKey, stream: u32, now: Now) {
        let Some(entry) = self.hops.get_mut(hop) else {
            return;
        };
        if entry.stream == Some(stream) {
            entry.is_open = true;
            entry.idle_since = now;
            let bytes = std::mem::take(&mut entry.queue);
            self.commands.push_back(Command::Write(stream, bytes));
        }
    }

    /// A hop answers.
    pub(super) fn hop_answered(&mut self, message: Message<HopReply>, book: &mut Book, now: Now) {
        let Some(asked) = self.asks.remove(&message.id) else {
            return;
        };
        if let Some(hop) = self.hops.get_mut(&asked.hop) {
            hop.idle_since = now;
        }
        if let Some(run) = self.runs.get_mut(&asked.setup) {
            run.group.answered(asked.number, Ok(message.body), now);
            self.drive(asked.setup, book, now);
        }
    }

    /// A stream to a hop has ended; `None`: whichever it is.
    pub(super) fn hop_failed(
        &mut self,
        hop: &PublicKey,
        stream: Option<u32>,
        book: &mut Book,
        now: Now,
    ) {
        let entry = self.hops.get(hop);
        if entry.is_none_or(|entry| stream.is_some() && entry.stream != stream) {
            return;
        }
        self.hops.remove(hop);
        let lost: Vec<u32> = self
            .asks
            .iter()
            .filter(|(_, asked)| asked.hop == *hop)
            .map(|(id, _)| *id)
            .collect();
        let mut setups = BTreeSet::new();
        for asked in lost.into_iter().filter_map(|id| self.asks.remove(&id)) {
            if let Some(run) = self.runs.get_mut(&asked.setup) {
                run.group.answered(asked.number, Err(unreachable()), now);
                setups.insert(asked.setup);
            }
        }
        for setup in setups {
            self.drive(setup, book, now);
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, book: &mut Book, now: Now) {
        let due: Vec<usize> = self
            .runs
            .iter()
            .filter(|(_, run)| run.group.next_deadline().is_some_and(|due| due <= now))
            .map(|(setup, _)| *setup)
            .collect();
        for setup in due {
            if let Some(run) = self.runs.get_mut(&setup) {
                run.group.handle_timeout(now);
            }
            self.drive(setup, book, now);
        }
        let idle: Vec<PublicKey> = self
            .hops
            .keys()
            .filter(|hop| self.idle_at(hop).is_some_and(|due| due <= now))
            .copied()
            .collect();
        for hop in idle {
            let stream = self.hops.remove(&hop).and_then(|hop| hop.stream);
            self.commands.extend(stream.map(Command::Finish));
        }
    }

    /// Returns when there is something to do.
    pub(super) fn next_deadline(&self) -> Option<Now> {
        let runs = self
            .runs
            .values()
            .filter_map(|run| run.group.next_deadline());
        let idle = self.hops.keys().filter_map(|hop| self.idle_at(hop));
        runs.chain(idle).min()
    }

    /// Returns when the stream of a hop ends, if nobody asks.
    fn idle_at(&self, hop: &PublicKey) -> Option<Now> {
        let entry = self.hops.get(hop).filter(|entry| entry.is_open)?;
        let is_asked = self.asks.values().any(|asked| asked.hop == *hop);
        let is_kept = is_asked || self.fault == Some(Fault::KeepsStreams);
        (!is_kept).then(|| entry.idle_since + IDLE_TIME)
    }

    /// Begins with a slot what was asked, or else what waits.
    fn begin(&mut self, work: Option<Work>, book: &mut Book, now: Now) {
        let mut next = work.or_else(|| self.waiting.pop_front());
        while let Some(work) = next.take() {
            let deadline = work.received + ROUTE_SETUP_TIMEOUT;
            let refusal = if !self.is_there(&work) {
                Refusal::new(Reason::RouteTimeout, "who asked has gone")
            } else if deadline <= now {
                Refusal::new(Reason::RouteTimeout, "its turn did not come in time")
            } else {
                let setup = work.setup;
                let group = GroupSetup::new(work.source, work.request.clone(), deadline);
                let run = Run {
                    group,
                    work,
                    is_given_up: false,
                };
                self.runs.insert(setup, run);
                return self.drive(setup, book, now);
            };
            self.refuse(&work, refusal, book, now);
            next = self.waiting.pop_front();
        }
        if self.fault != Some(Fault::KeepsSlots) {
            self.free += 1;
        }
    }

    /// Carries a setup on as far as it goes now.
    fn drive(&mut self, setup: usize, book: &mut Book, now: Now) {
        loop {
            let Some(run) = self.runs.get_mut(&setup) else {
                return;
            };
            let Some(ask) = run.group.poll_ask() else {
                break;
            };
            let is_release = matches!(ask.request, HopRequest::Release { .. });
            let is_rule = matches!(ask.request, HopRequest::AddRules { .. });
            let is_forgotten = (is_release && self.fault == Some(Fault::ForgetsRelease))
                || (is_rule && self.fault == Some(Fault::ForgetsRules));
            if is_forgotten {
                run.group.answered(ask.number, Ok(HopReply::Done), now);
            } else if self.is_up {
                self.ask(setup, ask, book, now);
            } else {
                run.group.answered(ask.number, Err(unreachable()), now);
            }
        }
        if self.runs.get(&setup).is_some_and(|run| run.group.is_over()) {
            self.over(setup, book, now);
        }
    }

    fn ask(&mut self, setup: usize, ask: Ask, book: &mut Book, now: Now) {
        let Ask {
            number,
            hop,
            request,
        } = ask;
        if let Err(refusal) = request.check(&hop) {
            return book.fail(format!("setup {setup} asks what is wrong: {refusal}"));
        }
        let id = book.ask(setup);
        let mut bytes = Vec::new();
        if let Err(error) = (Message { id, body: request }).encode(&mut bytes) {
            return book.fail(format!("setup {setup} asks too much: {error}"));
        }
        self.asks.insert(id, Asked { setup, number, hop });
        let commands = &mut self.commands;
        let entry = self.hops.entry(hop).or_insert_with(|| {
            commands.push_back(Command::Open(hop));
            HopStream {
                stream: None,
                is_open: false,
                queue: Vec::new(),
                idle_since: now,
            }
        });
        match entry.stream.filter(|_| entry.is_open) {
            Some(stream) => commands.push_back(Command::Write(stream, bytes)),
            None => entry.queue.extend(bytes),
        }
    }

    /// A setup stands or is refused: its asker hears of it, or it is taken back.
    fn over(&mut self, setup: usize, book: &mut Book, now: Now) {
        let Some(mut run) = self.runs.remove(&setup) else {
            return;
        };
        // Who has not answered by now did not do so in time.
        let late: Vec<u32> = self
            .asks
            .iter()
            .filter(|(_, asked)| asked.setup == setup)
            .map(|(id, _)| *id)
            .collect();
        for asked in late.into_iter().filter_map(|id| self.asks.remove(&id)) {
            if let Some(hop) = book.find(&asked.hop) {
                book.note(setup, hop, Trouble::Late);
            }
        }
        let reply = run.group.reply();
        let began = run.work.received.as_nanos();
        book.over(setup, reply.clone(), began, now.as_nanos());
        let is_refused = matches!(reply, SetupReply::Refused(_));
        let is_given = run.is_given_up || self.give(&run.work, reply);
        if !is_refused && !is_given {
            let refusal = Refusal::new(Reason::RouteTimeout, "who asked has gone");
            run.group.give_up(refusal, now);
            run.is_given_up = true;
            self.runs.insert(setup, run);
            return self.drive(setup, book, now);
        }
        self.begin(None, book, now);
    }

    fn refuse(&mut self, work: &Work, refusal: Refusal, book: &mut Book, now: Now) {
        let reply = SetupReply::Refused(refusal);
        let began = work.received.as_nanos();
        if book.setups[work.setup].has_waited {
            // Its turn may come later than its time: a slot takes as long as a setup does.
            book.over(work.setup, reply.clone(), now.as_nanos(), now.as_nanos());
        } else {
            book.over(work.setup, reply.clone(), began, now.as_nanos());
        }
        // Whoever has gone does not wait for it.
        let _may_have_gone = self.give(work, reply);
    }

    fn is_there(&self, work: &Work) -> bool {
        work.life == self.life && self.visits.contains_key(&work.stream)
    }

    /// Hands an answer over; returns whether the stream is still there.
    fn give(&mut self, work: &Work, reply: SetupReply) -> bool {
        if !self.is_there(work) {
            return false;
        }
        let is_refused = matches!(reply, SetupReply::Refused(_));
        let message = Message {
            id: u32::try_from(work.setup).unwrap_or(u32::MAX),
            body: reply,
        };
        let mut bytes = Vec::new();
        if message.encode(&mut bytes).is_err() || (is_refused && self.fault == Some(Fault::Mute)) {
            bytes.clear();
        }
        if self.fault == Some(Fault::AnswersTwice) {
            bytes.extend_from_within(..);
        }
        self.commands.push_back(Command::Write(work.stream, bytes));
        if let Some(visit) = self.visits.get_mut(&work.stream) {
            visit.open -= 1;
            if visit.is_ending {
                self.visit_ends(work.stream);
            }
        }
        true
    }
}

fn unreachable() -> Refusal {
    Refusal::new(Reason::HopUnreachable, "its stream ended")
}

/// A stream to a hop without a question ends after this time, as in the relay.
const IDLE_TIME: Duration = Duration::from_secs(5);
