//! The streams between neighbours, which carry packets both ways.
//!
//! Here: opening and accepting them, emptying a neighbour's queue, reading what comes. Not here: what a
//! packet does (`state`).
//!
//! A stream serves both ways. When both sides open one at the same time, each writes on its own and reads
//! both: so the order of packets is kept each way.
//! Bound: [`STREAMS_MAX`] accepted streams; more wait with the listener.

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::ROUTE_NEIGHBOURS_MAX;
use ringway_proto::route::{PacketReader, ROUTE_PACKET_PORT};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::shared::Shared;
use crate::listener::Listener;
use crate::stream::Stream;

/// Accepts streams of neighbours until the router is stopped.
pub(crate) async fn serve(shared: Arc<Shared>, listener: Listener) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if streams.len() < STREAMS_MAX => {
                let Ok(stream) = accepted else { return };
                streams.spawn(accepted_stream(Arc::clone(&shared), stream));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            () = shared.stopped() => return,
        }
    }
}

async fn accepted_stream(shared: Arc<Shared>, stream: Stream) {
    let neighbour = stream.peer().key;
    match shared.with(|state, fx| state.adopt(&neighbour, fx.now)) {
        Some(generation) => run(shared, neighbour, stream, generation).await,
        // Nothing is expected of this one.
        None if !shared.with(|state, _| state.is_used(&neighbour)) => {}
        None => {
            // There is one to write on already; the other half stays so that the stream is not reset.
            let (reader, _writer) = split(stream);
            read(&shared, neighbour, reader).await;
        }
    }
}

/// Opens the stream to a neighbour and serves it.
pub(crate) async fn connect(shared: Arc<Shared>, neighbour: PublicKey, generation: u64) {
    let dial = shared
        .client
        .dial(Address::new(neighbour, ROUTE_PACKET_PORT));
    let stream = tokio::select! {
        stream = dial => stream,
        () = shared.stopped() => return,
    };
    match stream {
        Ok(stream) => run(shared, neighbour, stream, generation).await,
        Err(error) => {
            tracing::debug!(%neighbour, %error, "a neighbour on routes cannot be reached");
            shared.with(|state, fx| state.neighbour_lost(&neighbour, generation, fx));
        }
    }
}

async fn run(shared: Arc<Shared>, neighbour: PublicKey, stream: Stream, generation: u64) {
    let (reader, writer) = split(stream);
    tokio::select! {
        () = read(&shared, neighbour, reader) => {}
        () = write(&shared, neighbour, writer, generation) => {}
        () = shared.stopped() => {}
    }
    shared.with(|state, fx| state.neighbour_lost(&neighbour, generation, fx));
}

/// Empties a neighbour's queue until it is lost or let go.
async fn write(
    shared: &Arc<Shared>,
    neighbour: PublicKey,
    mut writer: WriteHalf<Stream>,
    generation: u64,
) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    loop {
        batch.clear();
        let Some(wake) = take_batch(shared, &neighbour, generation, &mut batch) else {
            // Let go: the other side reads the end and does the same. What comes meanwhile is lost.
            drop(timeout(STALL_TIMEOUT, writer.shutdown()).await);
            return;
        };
        if batch.is_empty() {
            wake.notified().await;
            continue;
        }
        match timeout(STALL_TIMEOUT, writer.write_all(&batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Takes what waits for a neighbour; `None` when this stream does not serve it any more.
fn take_batch(
    shared: &Arc<Shared>,
    neighbour: &PublicKey,
    generation: u64,
    batch: &mut Vec<u8>,
) -> Option<Arc<Notify>> {
    shared.with(|state, fx| {
        let one = state.neighbours.get_mut(neighbour)?;
        if one.generation != generation {
            return None;
        }
        one.take(BATCH_BYTES, batch);
        let wake = Arc::clone(&one.wake);
        if !batch.is_empty() {
            state.pump_to(neighbour, fx);
        }
        Some(wake)
    })
}

/// Reads packets until the stream ends or is malformed.
async fn read(shared: &Arc<Shared>, neighbour: PublicKey, mut reader: ReadHalf<Stream>) {
    let mut packets = PacketReader::new();
    let mut buf = vec![0; BATCH_BYTES];
    loop {
        let n = tokio::select! {
            n = reader.read(&mut buf) => n.unwrap_or(0),
            () = shared.stopped() => 0,
        };
        if n == 0 {
            return;
        }
        packets.push(buf.get(..n).unwrap_or_default());
        let done = shared.with(|state, fx| {
            while let Some((head, payload)) = packets.next_packet()? {
                state.packet(&neighbour, head, payload, fx);
            }
            Ok::<(), ringway_proto::route::PacketError>(())
        });
        if let Err(error) = done {
            tracing::debug!(%neighbour, %error, "a neighbour on routes broke the protocol");
            return;
        }
    }
}

/// Bytes written or read at a time.
const BATCH_BYTES: usize = 65_536;

/// Streams of neighbours served at a time: each may have one of its own beside ours.
const STREAMS_MAX: usize = 2 * ROUTE_NEIGHBOURS_MAX;

/// Longest time in which a neighbour takes nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
