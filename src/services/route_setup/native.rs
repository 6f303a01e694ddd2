//! Route setup for peers of the native dialect: port 36 of the relay's key.
//!
//! Here: the streams of those who ask, and what is done with each question. Not here: what becomes of a setup
//! that may begin (the module above), what a group asks of its hops (`ringway_proto::route::plan`), paths
//! (`paths`).
//!
//! Bound: `ROUTE_REQUESTS_MAX` questions of one stream without an answer, after which it is not read.
//! Source: docs/routes.md.

use ringway_client::{Client, PublicKey, Reason, Stream};
use ringway_proto::limits::{ROUTE_MESSAGE_MAX, ROUTE_REQUESTS_MAX};
use ringway_proto::route::plan::Plan;
use ringway_proto::route::{
    Message, MessageError, MessageReader, Refusal, SetupReply, SetupRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use crate::services::door::{Door, Visit};
use crate::services::{Stage, at_least};

use super::conversation::Messages;
use super::hops::Hops;
use super::paths::Paths;
use super::{Asker, Job, STREAMS_MAX, Setups, Task};

/// The service on one shard.
#[derive(Clone)]
pub(in crate::services) struct NativeSetup {
    setups: Setups,
    hops: Hops<Messages>,
    paths: Paths,
    own_key: PublicKey,
}

/// Where one answer goes.
#[derive(Debug)]
pub(super) struct Answer {
    id: u32,
    replies: mpsc::Sender<Message<SetupReply>>,
}

impl Answer {
    /// Hands the answer over; returns whether the stream is still there. It never waits: there is room for
    /// every question that is open.
    fn reply(self, body: SetupReply) -> bool {
        let message = Message { id: self.id, body };
        self.replies.try_send(message).is_ok()
    }
}

impl Asker<SetupReply> for Answer {
    fn is_gone(&self) -> bool {
        self.replies.is_closed()
    }

    fn give(self, outcome: Result<SetupReply, Refusal>) -> bool {
        self.reply(outcome.unwrap_or_else(SetupReply::Refused))
    }
}

impl NativeSetup {
    /// Returns the service of one shard, over its client.
    pub(in crate::services) fn new(client: Client, setups: &Setups, paths: Paths) -> Self {
        Self {
            own_key: client.key(),
            hops: setups.hops(client),
            setups: setups.clone(),
            paths,
        }
    }

    /// Serves until the relay drains; then what was asked is answered.
    pub(in crate::services) async fn serve(self, door: Door, stage: watch::Receiver<Stage>) {
        let talk = move |stream, visit, stage| self.clone().talk(stream, visit, stage);
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
                self.setups.numbers.broken.count();
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
                    answer(id).reply(SetupReply::Refused(refusal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Answers a question, or sees to it that it is.
    fn take(&self, source: PublicKey, request: SetupRequest, answer: Answer) {
        if let SetupRequest::SetUp(_) = request {
            self.setups.numbers.received.count();
        }
        if let Err(refusal) = self.check(&source, &request) {
            if let SetupRequest::SetUp(_) = request {
                self.setups.numbers.refuse(&refusal);
            }
            answer.reply(SetupReply::Refused(refusal));
            return;
        }
        let reply = match request {
            SetupRequest::SetUp(set_up) => {
                let plan = Plan::new(source, set_up);
                let hops = self.hops.clone();
                let task = Task { plan, hops, answer };
                return self.setups.enter(Job::Native(task));
            }
            SetupRequest::Find(find) => self.paths.find(&source, &find),
            SetupRequest::Announce(announce) => self.paths.announce(source, &announce),
            SetupRequest::Withdraw => self.paths.withdraw(&source),
        };
        answer.reply(reply);
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

/// Bytes read at once: a setup of three hops has 400.
const READ_BYTES: usize = 4_096;

const _: () = assert!(READ_BYTES <= ROUTE_MESSAGE_MAX);
