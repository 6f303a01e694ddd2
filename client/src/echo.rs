//! The service on port 7, which answers pings.
//!
//! Here: the service, and what it is asked. Not here: the asking side
//! ([`Client::ping`](crate::Client::ping)).
//!
//! A native party echoes what comes. One of the dmsg dialect answers the byte 9 with the byte 10, as the
//! control service of Skywire's clients does, and takes nothing else.
//! Source: docs/dmsg.md "Ports of clients".
//! Bound: [`STREAMS_MAX`] streams at a time and as many that wait, each for at most [`LIFETIME`].

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
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
                streams.spawn(timeout(LIFETIME, answer(stream)));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
        }
    }
}

async fn answer(stream: Stream) -> std::io::Result<()> {
    match stream.peer().key.dialect() {
        Dialect::Dmsg => pong(stream).await,
        _ => echo(stream).await,
    }
}

/// Answers each ping with a pong, until either side ends or anything else comes.
async fn pong(mut stream: Stream) -> std::io::Result<()> {
    let mut buf = [0; PINGS_MAX];
    loop {
        let n = stream.read(&mut buf).await?;
        let pings = &mut buf[..n];
        if n == 0 || pings.iter().any(|byte| *byte != DMSG_PING) {
            return stream.shutdown().await;
        }
        pings.fill(DMSG_PONG);
        stream.write_all(pings).await?;
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

/// What a ping sends and what it expects.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) question: Vec<u8>,
    pub(crate) answer: Vec<u8>,
}

impl Probe {
    /// Returns the ping for a party that speaks `dialect`.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub(crate) fn new(dialect: Dialect) -> Result<Self, getrandom::Error> {
        if dialect == Dialect::Dmsg {
            return Ok(Self {
                question: vec![DMSG_PING],
                answer: vec![DMSG_PONG],
            });
        }
        let mut question = vec![0; PROBE_BYTES];
        getrandom::fill(&mut question)?;
        Ok(Self {
            answer: question.clone(),
            question,
        })
    }
}

/// Bytes of a native ping.
const PROBE_BYTES: usize = 16;

/// A ping of the dmsg dialect.
const DMSG_PING: u8 = 9;

/// Its answer.
const DMSG_PONG: u8 = 10;

/// Pings of the dmsg dialect that are answered at a time.
const PINGS_MAX: usize = 64;

/// Streams echoed at a time; pings are short.
const STREAMS_MAX: usize = 64;

/// Streams that wait; more are refused with reason 305.
const STREAMS_WAITING_MAX: u32 = 64;

/// Longest life of one echo stream.
const LIFETIME: Duration = Duration::from_secs(60);

/// Bytes echoed at a time: a ping is 16, the rest is courtesy.
const BUFFER_BYTES: usize = 4_096;
