//! Asking a relay for routes.
//!
//! Here: one stream for each relay, shared by all that ask, with several requests under way. Not here: what
//! is asked (`router`, `repair`, `announce`).
//!
//! Bound: [`ROUTE_REQUESTS_MAX`] requests under way a relay, each for [`ANSWER_TIMEOUT`] at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{ROUTE_REQUESTS_MAX, ROUTE_SETUP_TIMEOUT};
use ringway_proto::route::{Message, MessageReader, ROUTE_SETUP_PORT, SetupReply, SetupRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::error::RouteError;
use super::shared::Shared;
use crate::stream::Stream;

/// A request on its way to the stream's task.
#[derive(Debug)]
struct Asked {
    body: SetupRequest,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<SetupReply, RouteError>>;

/// The streams to relays.
#[derive(Debug, Default)]
pub(crate) struct Setups {
    streams: Mutex<BTreeMap<PublicKey, mpsc::Sender<Asked>>>,
}

impl Setups {
    fn sender(&self, shared: &Arc<Shared>, relay: PublicKey) -> (mpsc::Sender<Asked>, bool) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = streams.get(&relay)
            && !sender.is_closed()
        {
            return (sender.clone(), true);
        }
        let (sender, receiver) = mpsc::channel(ROUTE_REQUESTS_MAX);
        tokio::spawn(serve(Arc::clone(shared), relay, receiver));
        streams.insert(relay, sender.clone());
        (sender, false)
    }
}

/// Asks a relay and waits for its answer; a refusal is an error.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    relay: PublicKey,
    body: SetupRequest,
) -> Result<SetupReply, RouteError> {
    let asking = async {
        let (sender, is_old) = shared.setups.sender(shared, relay);
        let reply = ask_on(&sender, relay, body.clone()).await;
        match reply {
            // A stream that has stood for long may have been let go just now.
            Err(RouteError::RelayLost(_)) if is_old => {
                let (sender, _) = shared.setups.sender(shared, relay);
                ask_on(&sender, relay, body).await
            }
            reply => reply,
        }
    };
    match timeout(ANSWER_TIMEOUT, asking).await {
        Ok(Ok(SetupReply::Refused(refusal))) => Err(RouteError::RelayRefused(refusal)),
        Ok(reply) => reply,
        Err(_) => Err(RouteError::Timeout(ANSWER_TIMEOUT)),
    }
}

/// Asks a relay about transports: one that keeps none names the one that does.
pub(crate) async fn ask_finder(
    shared: &Arc<Shared>,
    relay: PublicKey,
    body: SetupRequest,
) -> Result<SetupReply, RouteError> {
    match ask(shared, relay, body.clone()).await? {
        SetupReply::Elsewhere { relay } => ask(shared, relay, body).await,
        reply => Ok(reply),
    }
}

async fn ask_on(
    sender: &mpsc::Sender<Asked>,
    relay: PublicKey,
    body: SetupRequest,
) -> Result<SetupReply, RouteError> {
    let (answer, answered) = oneshot::channel();
    let lost = RouteError::RelayLost(relay);
    if sender.send(Asked { body, answer }).await.is_err() {
        return Err(lost);
    }
    answered.await.unwrap_or(Err(lost))
}

/// Opens the stream to a relay and serves those who ask, until it ends or nobody has asked for long.
async fn serve(shared: Arc<Shared>, relay: PublicKey, mut asked: mpsc::Receiver<Asked>) {
    let dial = shared.client.dial(Address::new(relay, ROUTE_SETUP_PORT));
    let stream = match dial.await {
        Ok(stream) => stream,
        Err(error) => {
            asked.close();
            while let Ok(one) = asked.try_recv() {
                let error = error.clone();
                drop(
                    one.answer
                        .send(Err(RouteError::RelayUnreachable { relay, error })),
                );
            }
            return;
        }
    };
    if let Err(error) = exchange(&shared, stream, asked).await {
        tracing::debug!(%relay, %error, "the stream to a relay's route setup ended");
    }
}

async fn exchange(
    shared: &Arc<Shared>,
    stream: Stream,
    mut asked: mpsc::Receiver<Asked>,
) -> std::io::Result<()> {
    let (reader, mut writer) = split(stream);
    let (replies_in, mut replies) = mpsc::channel(ROUTE_REQUESTS_MAX);
    let reading = tokio::spawn(read_replies(reader, replies_in));
    let mut pending: BTreeMap<u32, Answer> = BTreeMap::new();
    let mut next_id = 0_u32;
    let mut out = Vec::new();
    let done = loop {
        pending.retain(|_, answer| !answer.is_closed());
        tokio::select! {
            one = asked.recv(), if pending.len() < ROUTE_REQUESTS_MAX => {
                let Some(Asked { body, answer }) = one else { break Ok(()) };
                next_id = next_id.wrapping_add(1);
                out.clear();
                let request = Message { id: next_id, body };
                if request.encode(&mut out).is_err() {
                    continue;
                }
                pending.insert(next_id, answer);
                if let Err(error) = writer.write_all(&out).await {
                    break Err(error);
                }
            }
            reply = replies.recv() => {
                let Some(Message { id, body }) = reply else { break Ok(()) };
                if let Some(answer) = pending.remove(&id) {
                    drop(answer.send(Ok(body)));
                }
            }
            () = tokio::time::sleep(IDLE_TIMEOUT), if pending.is_empty() => break Ok(()),
            () = tokio::time::sleep(ANSWER_TIMEOUT), if !pending.is_empty() => {}
            () = shared.stopped() => break Ok(()),
        }
    };
    // Who asks from now on opens another stream; who waits for an answer here is told.
    asked.close();
    drop(pending);
    drop(timeout(IDLE_TIMEOUT, writer.shutdown()).await);
    reading.abort();
    done
}

async fn read_replies(
    mut stream: ReadHalf<Stream>,
    replies: mpsc::Sender<Message<SetupReply>>,
) -> std::io::Result<()> {
    let mut reader = MessageReader::new();
    let mut buf = vec![0; BUFFER_BYTES];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        reader.push(buf.get(..n).unwrap_or_default());
        while let Some(reply) = reader.next_message().map_err(std::io::Error::other)? {
            if replies.send(reply).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Longest wait for an answer: what a setup may take, and the way there and back.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(ROUTE_SETUP_TIMEOUT.as_secs() + 2);

/// Time without a request after which the stream is let go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes read at a time.
const BUFFER_BYTES: usize = 16_384;
