//! The service on port 36, where relays ask this peer for rules.
//!
//! Here: who may ask, reading requests and answering them. Not here: what a request does (`state`).
//!
//! Bound: [`STREAMS_MAX`] streams, each with one request under way and silent for at most [`IDLE_TIMEOUT`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::route::{HopReply, HopRequest, Message, MessageError, MessageReader, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::shared::Shared;
use crate::listener::Listener;
use crate::stream::Stream;

/// Serves relays until the router is stopped.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: Listener,
    setup_relays: BTreeSet<PublicKey>,
) {
    let setup_relays = Arc::new(setup_relays);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if streams.len() < STREAMS_MAX => {
                let Ok(stream) = accepted else { return };
                let is_trusted = setup_relays.contains(&stream.peer().key);
                streams.spawn(relay(Arc::clone(&shared), stream, is_trusted));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            () = shared.stopped() => return,
        }
    }
}

async fn relay(shared: Arc<Shared>, mut stream: Stream, is_trusted: bool) {
    let relay = stream.peer().key;
    if let Err(error) = requests(&shared, &mut stream, is_trusted).await {
        tracing::debug!(%relay, %error, "a stream of a relay's route setup ended");
    }
}

async fn requests(
    shared: &Arc<Shared>,
    stream: &mut Stream,
    is_trusted: bool,
) -> std::io::Result<()> {
    let mut reader = MessageReader::new();
    let mut buf = vec![0; BUFFER_BYTES];
    let mut out = Vec::new();
    loop {
        let n = match timeout(IDLE_TIMEOUT, stream.read(&mut buf)).await {
            Ok(read) => read?,
            Err(_) => 0,
        };
        if n == 0 {
            return stream.shutdown().await;
        }
        reader.push(buf.get(..n).unwrap_or_default());
        loop {
            let reply = match reader.next_message::<HopRequest>() {
                Ok(None) => break,
                Ok(Some(request)) => answer(shared, request, is_trusted),
                Err(MessageError::PeerBody { id: Some(id) }) => Message {
                    id,
                    body: HopReply::Refused(malformed()),
                },
                Err(error) => return Err(std::io::Error::other(error)),
            };
            reply.encode(&mut out).map_err(std::io::Error::other)?;
        }
        stream.write_all(&out).await?;
        out.clear();
        if !is_trusted {
            return stream.shutdown().await;
        }
    }
}

fn answer(
    shared: &Arc<Shared>,
    request: Message<HopRequest>,
    is_trusted: bool,
) -> Message<HopReply> {
    let Message { id, body } = request;
    let body = shared.with(|state, fx| {
        if is_trusted {
            return state.hop_request(body, fx);
        }
        let refusal = Refusal::new(Reason::NotAllowed, "this peer takes no rules from that key");
        let counted = state.stats.hop_requests_refused.entry(refusal.reason);
        *counted.or_default() += 1;
        HopReply::Refused(refusal)
    });
    Message { id, body }
}

fn malformed() -> Refusal {
    Refusal::new(Reason::ProtocolError, "malformed request")
}

/// Streams of relays at a time; a relay needs one for each of its shards.
const STREAMS_MAX: usize = 256;

/// Longest silence of a relay's stream; the next request opens another one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes read at a time: a request is shorter.
const BUFFER_BYTES: usize = 4_096;
