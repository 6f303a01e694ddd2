//! What tests say often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ringway_client::{
    Address, Client, Config, Listener, RelayAddress, SecretKey, SessionStatus, Stats, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

static NEXT_SEED: AtomicU8 = AtomicU8::new(1);

/// Returns a secret that no other part of the test process has.
pub(crate) fn secret() -> SecretKey {
    SecretKey::from_seed([NEXT_SEED.fetch_add(1, Ordering::Relaxed); 32])
}

/// Connects a new party to these relays.
pub(crate) async fn connect(relays: &[RelayAddress]) -> Client {
    let config = Config::new(relays.iter().copied());
    Client::connect(secret(), config)
        .await
        .expect("the relay admits everybody")
}

/// Waits until a client's sessions and counters are as wanted.
pub(crate) async fn until(client: &Client, is_so: impl Fn(&[SessionStatus], &Stats) -> bool) {
    let mut watch = client.watch();
    while !is_so(&client.status(), &client.stats()) {
        watch.changed().await.expect("the client is there");
    }
}

/// Opens a stream from one party to another and returns both ends.
pub(crate) async fn pair(from: &Client, to: &Client, port: u16) -> (Stream, Stream, Listener) {
    let listener = to.listen(port).expect("a free port");
    let (dialled, accepted) =
        tokio::join!(from.dial(Address::new(to.key(), port)), listener.accept());
    (
        dialled.expect("a dial"),
        accepted.expect("a stream"),
        listener,
    )
}

/// Opens `count` streams, all open at the end, with a few dials under way at a time: a burst of all of
/// them would measure how fast this machine computes handshakes, against the dial timeout.
pub(crate) async fn dial_many(from: &Client, to: Address, count: usize) -> Vec<Stream> {
    let mut dials = JoinSet::new();
    let mut streams = Vec::with_capacity(count);
    for started in 0..count {
        let from = from.clone();
        dials.spawn(async move { from.dial(to).await });
        if started >= DIALS_UNDER_WAY {
            streams.extend(dials.join_next().await);
        }
    }
    streams.extend(dials.join_all().await.into_iter().map(Ok));
    let streams = streams.into_iter();
    streams
        .map(|dial| dial.expect("no panic").expect("a dial"))
        .collect()
}

const DIALS_UNDER_WAY: usize = 32;

/// Echoes every stream of a listener until the client is closed.
pub(crate) fn echo(listener: Listener) {
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            tokio::spawn(async move {
                let mut buf = vec![0; 65_536];
                loop {
                    match stream.read(&mut buf).await {
                        Ok(0) => return stream.shutdown().await,
                        Ok(n) => stream.write_all(&buf[..n]).await?,
                        Err(error) => return Err(error),
                    }
                }
            });
        }
    });
}

/// Returns `len` bytes that depend on `seed` and do not repeat soon.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Sends `data`, ends the direction and returns what comes back.
pub(crate) async fn exchange(stream: Stream, data: Arc<Vec<u8>>) -> std::io::Result<Vec<u8>> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&data).await?;
        writer.shutdown().await
    };
    let mut back = Vec::with_capacity(data.len());
    let (written, read) = tokio::join!(write, reader.read_to_end(&mut back));
    written?;
    read?;
    Ok(back)
}
