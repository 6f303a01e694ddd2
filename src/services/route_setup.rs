//! Route setup: port 36 of the relay's key.
//!
//! Here: the streams of those who ask, and what is done with each question. Not here: who may run and who
//! waits (`gate`), what a group asks of its hops (`ringway_proto::route::group_setup`), how they are asked
//! (`hops`, `run`), paths (`paths`).
//!
//! Permit before work: a setup is checked, then takes a slot; only with one is a task started and a hop
//! reached. Without a free slot it lies in a bounded queue, and when that is full the answer is 501 at
//! once. The time of a setup counts from its arrival, its wait included.
//!
//! Bound: the gate's; `ROUTE_REQUESTS_MAX` questions of one stream without an answer, after which it is not
//! read.
//! Source: docs/routes.md.

mod gate;
mod hops;
pub(crate) mod numbers;
pub(crate) mod paths;
mod run;

use std::sync::Arc;
use std::time::Duration;

use ringway_client::{Client, PublicKey, Reason, Stream};
use ringway_proto::limits::{ROUTE_MESSAGE_MAX, ROUTE_REQUESTS_MAX};
use ringway_proto::route::{
    Message, MessageError, MessageReader, Refusal, SetUp, SetupReply, SetupRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::door::{Door, Visit};
use super::{Stage, at_least};

use self::gate::{Entry, Gate, Permit};
use self::hops::Hops;
use self::numbers::{Numbers, Phase};
use self::paths::Paths;
use self::run::Run;

pub(super) use self::gate::slots_of;

/// What all streams of a shard share.
#[derive(Clone)]
pub(super) struct RouteSetup {
    gate: Arc<Gate<Work>>,
    hops: Hops,
    numbers: Arc<Numbers>,
    paths: Paths,
    own_key: PublicKey,
    timeout: Duration,
}

/// Bounds of route setup on one shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Setups at once.
    pub(super) slots: usize,
    /// Setups that wait.
    pub(super) waiting_max: usize,
    /// Longest time of one, its wait included.
    pub(super) timeout: Duration,
}

/// A setup on its way to a slot.
#[derive(Debug)]
struct Work {
    source: PublicKey,
    request: SetUp,
    answer: Answer,
    received: Instant,
}

/// Where one answer goes.
#[derive(Debug)]
struct Answer {
    id: u32,
    replies: mpsc::Sender<Message<SetupReply>>,
}

impl Answer {
    /// Hands the answer over; returns whether the stream is still there. It never waits: there is room for
    /// every question that is open.
    fn give(self, body: SetupReply) -> bool {
        let message = Message { id: self.id, body };
        self.replies.try_send(message).is_ok()
    }
}

impl RouteSetup {
    /// Returns the service of one shard, over its client.
    pub(super) fn new(client: Client, bounds: Bounds, numbers: Arc<Numbers>, paths: Paths) -> Self {
        Self {
            gate: Gate::new(bounds.slots, bounds.waiting_max),
            own_key: client.key(),
            hops: Hops::new(client, Arc::clone(&numbers)),
            numbers,
            paths,
            timeout: bounds.timeout,
        }
    }

    /// Serves until the relay drains; then what was asked is answered.
    pub(super) async fn serve(self, door: Door, stage: watch::Receiver<Stage>) {
        let of_streams = stage.clone();
        let talk = move |stream, visit| self.clone().talk(stream, visit, of_streams.clone());
        door.serve(STREAMS_MAX, stage, talk).await;
    }

    /// One stream, from its first question to its end.
    async fn talk(self, mut stream: Stream, visit: Visit, mut stage: watch::Receiver<Stage>) {
        let source = visit.key();
        let (replies, mut answers) = mpsc::channel(ROUTE_REQUESTS_MAX);
        let mut reader = MessageReader::new();
        let mut input = vec![0; READ_BYTES];
        let mut output = Vec::new();
        let mut open = 0_usize;
        let mut is_ending = false;
        loop {
            if let Err(error) = self.take_all(source, &mut reader, &replies, &mut open) {
                tracing::debug!(peer = %source, %error, "stream of route setup ended");
                return last_word(&mut stream, error).await;
            }
            if is_ending && open == 0 {
                drop(stream.shutdown().await);
                return;
            }
            tokio::select! {
                answer = answers.recv() => {
                    let mut next = answer;
                    while let Some(message) = next {
                        open -= 1;
                        encode(&message, &mut output);
                        next = answers.try_recv().ok();
                    }
                    if stream.write_all(&output).await.is_err() {
                        return;
                    }
                    output.clear();
                }
                read = stream.read(&mut input), if !is_ending && open < ROUTE_REQUESTS_MAX => {
                    match read {
                        Ok(0) => is_ending = true,
                        Ok(count) => reader.push(input.get(..count).unwrap_or_default()),
                        Err(_) => return,
                    }
                }
                () = at_least(&mut stage, Stage::Draining), if !is_ending => is_ending = true,
            }
        }
    }

    /// Takes the questions that have arrived, as many as may be open.
    ///
    /// # Errors
    ///
    /// Where the next message begins is not known any more.
    fn take_all(
        &self,
        source: PublicKey,
        reader: &mut MessageReader,
        replies: &mpsc::Sender<Message<SetupReply>>,
        open: &mut usize,
    ) -> Result<(), MessageError> {
        let answer = |id| Answer {
            id,
            replies: replies.clone(),
        };
        while *open < ROUTE_REQUESTS_MAX {
            match reader.next_message::<SetupRequest>() {
                Ok(Some(message)) => {
                    *open += 1;
                    self.take(source, message.body, answer(message.id));
                }
                Ok(None) => break,
                Err(MessageError::PeerBody { id: Some(id) }) => {
                    *open += 1;
                    let refusal = Refusal::new(Reason::BadRoute, "is not well formed");
                    let refusal = refusal.with_field("request");
                    answer(id).give(SetupReply::Refused(refusal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers a question, or sees to it that it is.
    fn take(&self, source: PublicKey, request: SetupRequest, answer: Answer) {
        if let SetupRequest::SetUp(_) = request {
            self.numbers.received.count();
        }
        if let Err(refusal) = self.check(&source, &request) {
            if let SetupRequest::SetUp(_) = request {
                self.numbers.refuse(&refusal);
            }
            answer.give(SetupReply::Refused(refusal));
            return;
        }
        let reply = match request {
            SetupRequest::SetUp(request) => {
                return self.enter(Work {
                    source,
                    request,
                    answer,
                    received: Instant::now(),
                });
            }
            SetupRequest::Find(find) => self.paths.find(&source, &find),
            SetupRequest::Announce(announce) => self.paths.announce(source, &announce),
            SetupRequest::Withdraw => self.paths.withdraw(&source),
        };
        answer.give(reply);
    }

    fn check(&self, source: &PublicKey, request: &SetupRequest) -> Result<(), Refusal> {
        request.check(source)?;
        if let SetupRequest::SetUp(set_up) = request {
            for (field, path) in [("forward", &set_up.forward), ("reverse", &set_up.reverse)] {
                if path.contains(&self.own_key) {
                    let what = "names this relay, which is no hop";
                    return Err(Refusal::new(Reason::BadRoute, what).with_field(field));
                }
            }
        }
        Ok(())
    }

    /// Starts a setup if there is a slot for it.
    fn enter(&self, work: Work) {
        match self.gate.enter(work) {
            Entry::Go(permit, work) => {
                self.numbers.current.count();
                tokio::spawn(self.clone().run(permit, work));
            }
            Entry::Waits => self.numbers.waiting.count(),
            Entry::Full(work) => {
                let what = "as many setups wait as may: ask again a little later";
                let refusal = Refusal::new(Reason::RouteBusy, what);
                self.numbers.refuse(&refusal);
                work.answer.give(SetupReply::Refused(refusal));
            }
        }
    }

    /// Runs a setup, and then those that wait for its slot.
    async fn run(self, permit: Permit<Work>, work: Work) {
        let mut next = Some((permit, work));
        while let Some((permit, work)) = next {
            self.run_one(work).await;
            self.numbers.current.sub();
            next = permit.leave();
            if next.is_some() {
                self.numbers.waiting.sub();
                self.numbers.current.count();
            }
        }
    }

    async fn run_one(&self, work: Work) {
        let Work {
            source,
            request,
            answer,
            received,
        } = work;
        let numbers = &self.numbers;
        let deadline = received + self.timeout;
        numbers.record(Phase::Wait, received.elapsed());
        if answer.replies.is_closed() {
            let refusal = Refusal::new(Reason::RouteTimeout, "who asked has gone");
            return numbers.refuse(&refusal);
        }
        if deadline <= Instant::now() {
            let what = "its turn did not come in time";
            let refusal = Refusal::new(Reason::RouteTimeout, what);
            numbers.refuse(&refusal);
            answer.give(SetupReply::Refused(refusal));
            return;
        }
        let mut run = Run::new(source, request, deadline);
        run.drive(&self.hops, numbers).await;
        let reply = run.setup().reply();
        match &reply {
            SetupReply::Refused(refusal) => numbers.refuse(refusal),
            _ => numbers.done.count(),
        }
        numbers.record(Phase::Whole, received.elapsed());
        if !answer.give(reply) {
            run.give_up(&self.hops, numbers).await;
        }
        numbers.left(run.setup().left_blindly());
    }
}

/// Says why a stream ends, by the id 0, and ends it.
async fn last_word(stream: &mut Stream, error: MessageError) {
    let field = match error {
        MessageError::PeerVersion(_) => "version",
        MessageError::PeerEmpty | MessageError::PeerTooLong { .. } => "length",
        _ => "request",
    };
    let refusal = Refusal::new(Reason::BadRoute, &error.to_string()).with_field(field);
    let last = Message {
        id: 0,
        body: SetupReply::Refused(refusal),
    };
    let mut output = Vec::new();
    encode(&last, &mut output);
    if stream.write_all(&output).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

/// Appends a reply; one that is too long for the wire, which none is, becomes a refusal.
fn encode(message: &Message<SetupReply>, out: &mut Vec<u8>) {
    if let Err(error) = message.encode(out) {
        let refusal = Refusal::new(Reason::RouteBusy, &error.to_string());
        let instead = Message {
            id: message.id,
            body: SetupReply::Refused(refusal),
        };
        if instead.encode(out).is_err() {
            tracing::error!(%error, "a reply of route setup was lost");
        }
    }
}

/// Streams that one shard serves at once; more wait, and past the backlog are refused (305).
const STREAMS_MAX: usize = 1_024;

/// Bytes read at once: a setup of three hops has 400.
const READ_BYTES: usize = 4_096;

const _: () = assert!(READ_BYTES <= ROUTE_MESSAGE_MAX);
