//! The traffic of the demonstration: bytes whose every position is known to both sides.
//!
//! A stream carries one block over and over; the receiver compares each byte with the block at that
//! position, so a lost, doubled or moved byte is found.

use std::time::Duration;

use hdrhistogram::Histogram;
use ringway_client::{Address, Client, Listener, PublicKey, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::failure::Failure;

/// What the bulk part moved.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Bytes from the opener to the acceptor.
    pub(super) there_bytes: u64,
    /// Bytes from the acceptor to the opener.
    pub(super) back_bytes: u64,
    /// First byte to last end.
    pub(super) time: Duration,
}

/// What the round trips took.
#[derive(Debug)]
pub(super) struct PingPong {
    /// Nanoseconds.
    pub(super) times: Histogram<u64>,
}

/// Takes streams on both ports until the value is dropped.
///
/// # Errors
///
/// [`Failure::Host`] when a port cannot be listened on.
pub(super) fn serve(acceptor: &Client, length: Duration) -> Result<JoinSet<()>, Failure> {
    let listen = |port| {
        acceptor
            .listen(port)
            .map_err(|error| Failure::host("a peer cannot listen", error))
    };
    let mut services = JoinSet::new();
    services.spawn(serve_bulk(listen(BULK_PORT)?, length));
    services.spawn(serve_echo(listen(ECHO_PORT)?));
    Ok(services)
}

/// Moves blocks both ways over `streams` streams for `length`.
///
/// # Errors
///
/// [`Failure::Check`] when a byte differs, [`Failure::Host`] when a stream breaks.
pub(super) async fn bulk(
    opener: &Client,
    acceptor: PublicKey,
    streams: u16,
    length: Duration,
) -> Result<Bulk, Failure> {
    let mut tasks = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..streams {
        open.push(dial(opener, acceptor, BULK_PORT).await?);
    }
    let started = Instant::now();
    for stream in open {
        tasks.spawn(exchange(stream, length));
    }
    let (mut there_bytes, mut back_bytes) = (0, 0);
    while let Some(outcome) = tasks.join_next().await {
        let outcome = outcome.map_err(|error| Failure::host("a stream's task broke", error))?;
        let (sent, received) = outcome?;
        there_bytes += sent;
        back_bytes += received;
    }
    Ok(Bulk {
        there_bytes,
        back_bytes,
        time: started.elapsed(),
    })
}

/// Sends 64 bytes and waits for them, over and over for `length`.
///
/// # Errors
///
/// [`Failure::Check`] when an echo differs, [`Failure::Host`] when the stream breaks.
pub(super) async fn ping_pong(
    opener: &Client,
    acceptor: PublicKey,
    length: Duration,
) -> Result<PingPong, Failure> {
    let broke = |error| Failure::host("the stream of the round trips broke", error);
    let mut stream = dial(opener, acceptor, ECHO_PORT).await?;
    let mut times = Histogram::new_with_bounds(1, TIME_MAX_NANOS, 3)
        .map_err(|error| Failure::host("cannot make a histogram", error))?;
    let block = block();
    let started = Instant::now();
    let mut count: usize = 0;
    while started.elapsed() < length {
        let from = count % (BLOCK_BYTES - MESSAGE_BYTES);
        let message = block.get(from..from + MESSAGE_BYTES).unwrap_or_default();
        let mut echo = [0; MESSAGE_BYTES];
        let sent = Instant::now();
        let trip = async {
            stream.write_all(message).await?;
            stream.read_exact(&mut echo).await
        };
        match timeout(STALL_TIMEOUT, trip).await {
            Ok(outcome) => outcome.map_err(broke)?,
            Err(error) => return Err(Failure::host("a round trip did not end", error)),
        };
        let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        times.saturating_record(nanos);
        if echo != *message {
            return Err(Failure::Check(format!(
                "round trip {count} came back changed"
            )));
        }
        count += 1;
    }
    stream.shutdown().await.map_err(broke)?;
    Ok(PingPong { times })
}

async fn dial(opener: &Client, acceptor: PublicKey, port: u16) -> Result<Stream, Failure> {
    opener
        .dial(Address::new(acceptor, port))
        .await
        .map_err(|error| Failure::host("a peer cannot dial the other", error))
}

async fn serve_bulk(listener: Listener, length: Duration) {
    let mut streams = JoinSet::new();
    while let Ok(stream) = listener.accept().await {
        // A broken exchange shows on the opener's side, which reports it.
        streams.spawn(async move { drop(exchange(stream, length).await) });
    }
}

async fn serve_echo(listener: Listener) {
    while let Ok(mut stream) = listener.accept().await {
        let mut message = [0; MESSAGE_BYTES];
        // One stream at a time is all the opener makes; its end ends the loop.
        while stream.read_exact(&mut message).await.is_ok() {
            if stream.write_all(&message).await.is_err() {
                break;
            }
        }
        drop(stream.shutdown().await);
    }
}

/// Sends for `length` while it receives until the other side ends; returns both counts.
async fn exchange(stream: Stream, length: Duration) -> Result<(u64, u64), Failure> {
    let (reader, writer) = split(stream);
    let sending = tokio::spawn(send(writer, length));
    let received = receive(reader).await?;
    let sent = sending
        .await
        .map_err(|error| Failure::host("a stream's task broke", error))??;
    Ok((sent, received))
}

async fn send(mut writer: WriteHalf<Stream>, length: Duration) -> Result<u64, Failure> {
    let broke = |error| Failure::host("a stream broke while sending", error);
    let block = block();
    let started = Instant::now();
    let mut sent = 0;
    while started.elapsed() < length {
        writer.write_all(&block).await.map_err(broke)?;
        sent += u64::try_from(block.len()).unwrap_or(0);
    }
    writer.shutdown().await.map_err(broke)?;
    Ok(sent)
}

async fn receive(mut reader: ReadHalf<Stream>) -> Result<u64, Failure> {
    let block = block();
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut position: usize = 0;
    let mut received: u64 = 0;
    loop {
        let read = match timeout(STALL_TIMEOUT, reader.read(&mut buffer)).await {
            Ok(read) => read.map_err(|e| Failure::host("a stream broke while receiving", e))?,
            Err(error) => return Err(Failure::host("a stream stalled", error)),
        };
        let mut bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(received);
        }
        while !bytes.is_empty() {
            let expected = block.get(position..).unwrap_or_default();
            let (here, later) = bytes.split_at(bytes.len().min(expected.len()));
            if here != expected.get(..here.len()).unwrap_or_default() {
                return Err(Failure::Check(format!("a byte after {received} differs")));
            }
            received += u64::try_from(here.len()).unwrap_or(0);
            position = (position + here.len()) % BLOCK_BYTES;
            bytes = later;
        }
    }
}

/// Returns the block: bytes of a linear congruential generator, without a period inside the block.
fn block() -> Vec<u8> {
    let mut state: u32 = 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..BLOCK_BYTES).map(|_| next()).collect()
}

/// Ports of the acceptor.
const BULK_PORT: u16 = 80;
const ECHO_PORT: u16 = 81;

/// Bytes of a round trip.
const MESSAGE_BYTES: usize = 64;

/// Bytes of the block; a prime, so that no buffer of the way divides it and hides a moved byte.
const BLOCK_BYTES: usize = 65_521;

/// Longest time without a byte: on one host anything longer is a hang.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest round trip the histogram tells apart: one minute.
const TIME_MAX_NANOS: u64 = 60_000_000_000;
