//! The echo service on port 7, which answers pings.
//!
//! Here: the service. Not here: the asking side ([`Client::ping`](crate::Client::ping)).
//!
//! Bound: [`STREAMS_MAX`] streams at a time and as many that wait, each for at most [`LIFETIME`].

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::PING_PORT;
use crate::listener::{Listener, Listeners};
use crate::stream::Stream;

/// Starts the service; it ends when the client is closed.
pub(crate) fn start(listeners: &Arc<Listeners>, key: PublicKey) {
    // Nobody else can have taken the port yet.
    if let Ok(listener) = Listener::bind(listeners, key, PING_PORT, STREAMS_WAITING_MAX, None) {
        tokio::spawn(serve(listener));
    }
}

async fn serve(listener: Listener) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if streams.len() < STREAMS_MAX => {
                let Ok(stream) = accepted else { return };
                streams.spawn(timeout(LIFETIME, echo(stream)));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
        }
    }
}

/// Sends back what comes, until either side ends.
async fn echo(mut stream: Stream) -> std::io::Result<()> {
    let mut buf = vec![0; BUFFER_BYTES];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buf[..n]).await?;
    }
}

/// Streams echoed at a time; pings are short.
const STREAMS_MAX: usize = 64;

/// Streams that wait; more are refused with reason 305.
const STREAMS_WAITING_MAX: u32 = 64;

/// Longest life of one echo stream.
const LIFETIME: Duration = Duration::from_secs(60);

/// Bytes echoed at a time: a ping is 16, the rest is courtesy.
const BUFFER_BYTES: usize = 4_096;
