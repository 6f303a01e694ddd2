//! Route setup for visors of Skywire: port 36 of the relay's key of the dmsg dialect.
//!
//! Here: the streams of those who ask, and what is done with each call. Not here: what becomes of a setup
//! that may begin (the module above), what a route asks of its visors (`ringway_proto::dmsg::rpc`), Go's
//! calls.
//!
//! Who asks is the source of the route, unlike at Skywire's own node, which sets up anybody's routes for
//! anybody: a visor trusts its setup nodes to put rules into its table.
//!
//! Bound: `CALLS_MAX` calls of one stream without an answer, after which it is not read.
//! Source: docs/dmsg.md "Calls of route setup".

use ringway_client::{Client, PublicKey, Reason, Stream};
use ringway_proto::dmsg::rpc::{
    BidirectionalRoute, CALLS_MAX, CallId, EdgeRules, Health, RoutePlan, RpcError, Server,
    SetupCall, SetupGateway, SetupReply,
};
use ringway_proto::route::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use crate::control::VERSION;
use crate::services::door::{Door, Visit};
use crate::services::{Stage, at_least};

use super::conversation::Calls;
use super::hops::Hops;
use super::{Asker, Job, STREAMS_MAX, Setups, Task};

/// The service on one shard.
#[derive(Clone)]
pub(in crate::services) struct DmsgSetup {
    setups: Setups,
    hops: Hops<Calls>,
    own_key: PublicKey,
}

/// A reply, and the call it is to.
type Reply = (CallId, Result<SetupReply, String>);

/// Where one reply goes.
pub(super) struct Answer {
    id: CallId,
    replies: mpsc::Sender<Reply>,
}

impl Answer {
    /// Hands the reply over; returns whether the stream is still there. It never waits: there is room for
    /// every call that is open.
    fn reply(self, reply: Result<SetupReply, String>) -> bool {
        self.replies.try_send((self.id, reply)).is_ok()
    }
}

impl Asker<EdgeRules> for Answer {
    fn is_gone(&self) -> bool {
        self.replies.is_closed()
    }

    fn give(self, outcome: Result<EdgeRules, Refusal>) -> bool {
        let reply = outcome.map(SetupReply::DialRouteGroup);
        self.reply(reply.map_err(|refusal| refusal.to_string()))
    }
}

impl DmsgSetup {
    /// Returns the service of one shard, over its client.
    pub(in crate::services) fn new(client: Client, setups: &Setups) -> Self {
        Self {
            own_key: client.key(),
            hops: setups.hops(client),
            setups: setups.clone(),
        }
    }

    /// Serves until the relay drains; then what was asked is answered.
    pub(in crate::services) async fn serve(self, door: Door, stage: watch::Receiver<Stage>) {
        let talk = move |stream, visit, stage| self.clone().talk(stream, visit, stage);
        door.serve(STREAMS_MAX, stage, talk).await;
    }

    /// One stream, from its first call to its end.
    async fn talk(self, mut stream: Stream, visit: Visit, mut stage: watch::Receiver<Stage>) {
        let asker = visit.key();
        let (replies, mut answers) = mpsc::channel(CALLS_MAX);
        let mut server = Server::new();
        let mut input = vec![0; READ_BYTES];
        let mut output = Vec::new();
        let mut open = 0_usize;
        let mut is_ending = false;
        loop {
            if let Err(error) = self.take_all(asker, &mut server, &replies, &mut open) {
                self.setups.numbers.broken.count();
                tracing::debug!(peer = %asker, %error, "stream of route setup ended");
                return;
            }
            if is_ending && open == 0 {
                drop(stream.shutdown().await);
                return;
            }
            tokio::select! {
                answer = answers.recv() => {
                    let mut next = answer;
                    while let Some((id, reply)) = next {
                        open -= 1;
                        write(&mut server, &id, reply, &mut output);
                        next = answers.try_recv().ok();
                    }
                    if stream.write_all(&output).await.is_err() {
                        return;
                    }
                    output.clear();
                }
                read = stream.read(&mut input), if !is_ending && open < CALLS_MAX => {
                    match read {
                        // Go's clients close a stream when they do not wait any more; what was asked is void.
                        Ok(0) | Err(_) => return,
                        Ok(count) => server.push(input.get(..count).unwrap_or_default()),
                    }
                }
                () = at_least(&mut stage, Stage::Draining), if !is_ending => is_ending = true,
            }
        }
    }

    /// Takes the calls that have arrived, as many as may be open.
    ///
    /// # Errors
    ///
    /// Where the next call begins is not known any more.
    fn take_all(
        &self,
        asker: PublicKey,
        server: &mut Server<SetupGateway>,
        replies: &mpsc::Sender<Reply>,
        open: &mut usize,
    ) -> Result<(), RpcError> {
        while *open < CALLS_MAX {
            let Some(asked) = server.next_call()? else {
                break;
            };
            *open += 1;
            let answer = Answer {
                id: asked.id,
                replies: replies.clone(),
            };
            match asked.call {
                Ok(SetupCall::DialRouteGroup(route)) => self.take(asker, route, answer),
                Ok(SetupCall::HealthCheck) => {
                    answer.reply(Ok(SetupReply::HealthCheck(health())));
                }
                Err(refused) => {
                    answer.reply(Err(refused.text));
                }
            }
        }
        Ok(())
    }

    /// Sees to it that a route is set up, or refuses it.
    fn take(&self, asker: PublicKey, route: BidirectionalRoute, answer: Answer) {
        self.setups.numbers.received.count();
        if let Err(text) = self.check(&asker, &route) {
            let refusal = Refusal::new(Reason::BadRoute, &text);
            self.setups.numbers.refuse(&refusal);
            answer.reply(Err(text));
            return;
        }
        let plan = RoutePlan::new(route);
        let hops = self.hops.clone();
        self.setups.enter(Job::Dmsg(Task { plan, hops, answer }));
    }

    fn check(&self, asker: &PublicKey, route: &BidirectionalRoute) -> Result<(), String> {
        route.check().map_err(|error| error.to_string())?;
        if route.descriptor.source.key != *asker {
            return Err("bidirectional route does not begin with who asks for it".to_owned());
        }
        if route.visors().contains_key(&self.own_key) {
            return Err("bidirectional route names this relay, which is no visor".to_owned());
        }
        Ok(())
    }
}

/// Appends a reply; one that has no place in a call, which none is, becomes a refusal.
fn write(
    server: &mut Server<SetupGateway>,
    id: &CallId,
    reply: Result<SetupReply, String>,
    out: &mut Vec<u8>,
) {
    let reply = reply.as_ref().map_err(String::as_str);
    if let Err(error) = server.reply(id, reply, out)
        && server.reply(id, Err(&error.to_string()), out).is_err()
    {
        tracing::error!(%error, "a reply of route setup was lost");
    }
}

/// What visors read of a setup node before they choose one.
fn health() -> Health {
    Health {
        status: "OK".to_owned(),
        version: VERSION.to_owned(),
        ..Health::default()
    }
}

/// Bytes read at once: a route of three hops has 900.
const READ_BYTES: usize = 4_096;
