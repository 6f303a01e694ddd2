//! The relay's main job on real sockets: two peers that know each other only by public key exchange
//! bytes through it, on one shard and across two.
//!
//! Each test ends with the relay shut down and its audit at zero.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure in a helper of a test fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use ringway_client::{Address, Client, Config, Listener, RelayAddress, SecretKey, Stream};
use ringway_proto::handshake::RelayIdentity;
use ringway_shards::core::{Directory as _, ShardId};
use ringway_shards::set::{ShardSet, ShardSetConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A relay in this process.
struct Relay {
    set: ShardSet,
    address: RelayAddress,
}

impl Relay {
    fn start(shards_count: u16) -> Self {
        raise_descriptor_limit();
        let secret = SecretKey::from_seed([200; 32]);
        let identity = Arc::new(RelayIdentity::new(&secret));
        let config = ShardSetConfig {
            shards_count,
            ..ShardSetConfig::new(identity).with_sockets(8_191)
        };
        let set = ShardSet::launch(&config).unwrap();
        let address = RelayAddress::new(secret.public(), set.address());
        Self { set, address }
    }

    /// Connects a peer whose session lands on `shard`: the kernel spreads connections over the
    /// listeners by their source port, so another connection may land elsewhere.
    async fn peer_on(&self, shard: u16, seed: u8) -> Client {
        for attempt in 0..64 {
            let mut key = [seed; 32];
            key[0] = attempt;
            let secret = SecretKey::from_seed(key);
            let client = Client::connect(secret, Config::new([self.address]))
                .await
                .unwrap();
            let place = self.set.directory().lookup(&client.key()).unwrap();
            if place.shard == ShardId(shard) {
                return client;
            }
            client.close().await;
        }
        panic!("64 connections and none on shard {shard}");
    }

    /// Shuts down and asserts that nothing is left.
    fn end(self) {
        for snapshot in self.set.shutdown() {
            assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
            assert_eq!(snapshot.stats.broken_laws(), Vec::<String>::new());
            assert_eq!(snapshot.ring.sockets_opened, snapshot.ring.sockets_closed);
        }
    }
}

/// Takes the whole of the hard limit: the tests hold thousands of sockets in one process.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

/// Two peers and a listener of the second.
async fn pair(relay: &Relay, first: u16, second: u16) -> (Client, Client, Listener) {
    let a = relay.peer_on(first, 1).await;
    let b = relay.peer_on(second, 2).await;
    let listener = b.listen(80).unwrap();
    (a, b, listener)
}

async fn bridge(a: &Client, b: &Client, listener: &Listener) -> (Stream, Stream) {
    let (dialled, accepted) = tokio::join!(a.dial(Address::new(b.key(), 80)), listener.accept());
    (dialled.unwrap(), accepted.unwrap())
}

/// The byte at a position of the direction's pattern: 251 is prime to every buffer size in between.
fn fill(buffer: &mut [u8], position: u64, salt: u8) {
    for (index, byte) in (position..).zip(buffer) {
        *byte = u8::try_from(index % 251).unwrap() ^ salt;
    }
}

async fn send_pattern(stream: &mut (impl tokio::io::AsyncWrite + Unpin), count: u64, salt: u8) {
    let mut buffer = vec![0; 65_536];
    let mut position = 0;
    while position < count {
        let length = usize::try_from((count - position).min(65_536)).unwrap();
        fill(&mut buffer[..length], position, salt);
        stream.write_all(&buffer[..length]).await.unwrap();
        position += length as u64;
    }
    stream.shutdown().await.unwrap();
}

async fn check_pattern(stream: &mut (impl tokio::io::AsyncRead + Unpin), count: u64, salt: u8) {
    let mut buffer = vec![0; 65_536];
    let mut expected = vec![0; 65_536];
    let mut position = 0;
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        if length == 0 {
            break;
        }
        fill(&mut expected[..length], position, salt);
        assert!(
            buffer[..length] == expected[..length],
            "wrong bytes at {position}"
        );
        position += length as u64;
    }
    assert_eq!(position, count, "the stream ended early");
}

/// Sends `count` bytes in both directions at once and checks every one of them.
async fn exchange(a: Stream, b: Stream, count: u64) {
    let (mut a_read, mut a_write) = tokio::io::split(a);
    let (mut b_read, mut b_write) = tokio::io::split(b);
    tokio::join!(
        send_pattern(&mut a_write, count, 0),
        check_pattern(&mut b_read, count, 0),
        send_pattern(&mut b_write, count, 0x55),
        check_pattern(&mut a_read, count, 0x55),
    );
}

async fn transfers(shards_count: u16, first: u16, second: u16, sizes: &[u64]) {
    let relay = Relay::start(shards_count);
    let (a, b, listener) = pair(&relay, first, second).await;
    for size in sizes {
        let (from, to) = bridge(&a, &b, &listener).await;
        exchange(from, to, *size).await;
    }
    a.close().await;
    b.close().await;
    relay.end();
}

const SIZES: [u64; 9] = [
    1,
    2,
    1_023,
    1_024,
    16_384,
    16_385,
    65_537,
    1 << 20,
    32 << 20,
];
const GIB: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_exact_in_both_directions_on_one_shard() {
    transfers(1, 0, 0, &SIZES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_exact_in_both_directions_across_two_shards() {
    transfers(2, 0, 1, &SIZES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gibibyte_each_way_on_one_shard() {
    transfers(1, 0, 0, &[GIB]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gibibyte_each_way_across_two_shards() {
    transfers(2, 0, 1, &[GIB]).await;
}

/// As many streams as a session may have, all open at once, each with bytes both ways.
async fn many_streams(shards_count: u16, second: u16) {
    const STREAMS: usize = 2_000;
    let relay = Relay::start(shards_count);
    let a = relay.peer_on(0, 1).await;
    let b = relay.peer_on(second, 2).await;
    let listener = b.listen(80).unwrap();
    let mut dialled = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..STREAMS {
        let (from, to) = bridge(&a, &b, &listener).await;
        dialled.push(from);
        accepted.push(to);
    }
    let legs: u64 = relay
        .set
        .snapshots(Duration::from_secs(5))
        .iter()
        .map(|s| s.audit.streams)
        .sum();
    assert_eq!(legs, 2 * STREAMS as u64);
    let mut tasks = tokio::task::JoinSet::new();
    for (from, to) in dialled.into_iter().zip(accepted) {
        tasks.spawn(exchange(from, to, 10_000));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    a.close().await;
    b.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_on_one_session() {
    many_streams(1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_across_two_shards() {
    many_streams(2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_sessions_at_once() {
    const SESSIONS: u16 = 5_000;
    let relay = Relay::start(2);
    let mut tasks = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        // A bounded number of handshakes at a time, as a fleet with jitter would do.
        if tasks.len() >= 128 {
            let client: Result<Client, _> = tasks.join_next().await.unwrap().unwrap();
            clients.push(client.unwrap());
        }
        let mut key = [9; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        let config = Config::new([relay.address]);
        tasks.spawn(Client::connect(SecretKey::from_seed(key), config));
    }
    while let Some(client) = tasks.join_next().await {
        clients.push(client.unwrap().unwrap());
    }
    let snapshots = relay.set.snapshots(Duration::from_secs(5));
    let sessions: u64 = snapshots
        .iter()
        .map(|snapshot| snapshot.audit.sessions)
        .sum();
    assert_eq!(sessions, u64::from(SESSIONS));
    // They are not only there: the first and the last talk to each other.
    let listener = clients[clients.len() - 1].listen(80).unwrap();
    let (from, to) = bridge(&clients[0], &clients[clients.len() - 1], &listener).await;
    exchange(from, to, 100_000).await;
    for client in clients {
        client.close().await;
    }
    relay.end();
}
