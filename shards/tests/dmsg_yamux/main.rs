//! The relay's frames against a yamux that others wrote: libp2p's, as client behind our handshake over TCP.
//!
//! It is strict: an answer to a ping that it did not send, a frame over its window or a stream opened twice
//! end its connection, and with it a test. Each test ends with the relay shut down and its audit at zero.

#![expect(
    clippy::unwrap_used,
    reason = "a failure in a helper of a test fails the test"
)]
#![expect(
    clippy::disallowed_types,
    reason = "clients of a relay are no shards: their tasks share what they have"
)]

mod party;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use party::{Party, Stream};
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::frame::{Flags, FrameKind};
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::{self, PublicKey};
use ringway_shards::set::{DmsgConfig, ShardSet, ShardSetConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// A relay in this process.
struct Relay {
    set: ShardSet,
    key: PublicKey,
}

impl Relay {
    fn start(shards_count: u16) -> Self {
        Self::with(shards_count, |_| {})
    }

    fn with(shards_count: u16, change: impl FnOnce(&mut ShardSetConfig)) -> Self {
        let native = RelayIdentity::new(&key::SecretKey::from_seed([200; 32]));
        let identity = Identity::new(SecretKey::from_bytes([200; 32]).unwrap());
        let key = identity.public();
        let mut config = ShardSetConfig {
            shards_count,
            dmsg: Some(DmsgConfig::new(
                ([127, 0, 0, 1], 0).into(),
                Arc::new(identity),
            )),
            ..ShardSetConfig::new(Arc::new(native)).with_sockets(255)
        };
        change(&mut config);
        let set = ShardSet::launch(&config).unwrap();
        Self { set, key }
    }

    async fn party(&self, seed: u8) -> Party {
        Party::connect(self.key, self.set.dmsg_address().unwrap(), seed).await
    }

    /// Two parties, and a stream from the first to the second.
    async fn pair(&self) -> (Party, Party, Stream, Stream) {
        let (a, b) = tokio::join!(self.party(1), self.party(2));
        self.stands(&b.key()).await;
        let (dialled, accepted) = tokio::join!(a.dial(b.key()), b.accept());
        (a, b, dialled, accepted)
    }

    /// Waits until a session stands, which this dialect tells nobody.
    async fn stands(&self, key: &PublicKey) {
        self.until(|set| directory_has(set, key)).await;
    }

    async fn until(&self, is_so: impl Fn(&ShardSet) -> bool) {
        while !is_so(&self.set) {
            sleep(Duration::from_millis(1)).await;
        }
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

fn directory_has(set: &ShardSet, key: &PublicKey) -> bool {
    use ringway_shards::core::Directory as _;
    set.directory().lookup(key).is_some()
}

/// Bytes that differ from each other at every distance that a buffer has.
fn pattern(salt: u8, len: usize) -> Vec<u8> {
    (0..251).cycle().map(|byte| byte ^ salt).take(len).collect()
}

/// Reads to the end.
async fn read_all(stream: &mut Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Says how reading goes on.
async fn outcome(stream: &mut Stream) -> Result<usize, io::ErrorKind> {
    let read = stream.read(&mut [0; 1]).await;
    read.map_err(|error| error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_both_ways_over_many_windows() {
    for shards in [1, 2] {
        let relay = Relay::start(shards);
        let (a, b, mut near, mut far) = relay.pair().await;
        let (there, back) = (pattern(0, 3_000_001), pattern(0x55, 2_000_003));
        let (mut near_read, mut near_write) = tokio::io::split(near);
        let (mut far_read, mut far_write) = tokio::io::split(far);
        let (mut got_there, mut got_back) = (vec![0; there.len()], vec![0; back.len()]);
        let moved = tokio::try_join!(
            near_write.write_all(&there),
            far_read.read_exact(&mut got_there),
            far_write.write_all(&back),
            near_read.read_exact(&mut got_back),
        );
        moved.unwrap();
        assert!(got_there == there && got_back == back, "bytes differ");
        near = near_read.unsplit(near_write);
        far = far_read.unsplit(far_write);
        drop((near, far));
        tokio::join!(a.close(), b.close());
        relay.end();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_direction_ends_and_the_other_goes_on() {
    let relay = Relay::start(2);
    let (a, b, mut near, mut far) = relay.pair().await;
    let bytes = pattern(7, 700_000);
    let question = async {
        near.write_all(&bytes).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let ((), heard) = tokio::join!(question, read_all(&mut far));
    assert!(heard == bytes, "the question differs");
    let answer = async {
        far.write_all(&bytes).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let ((), heard) = tokio::join!(answer, read_all(&mut near));
    assert!(heard == bytes, "the answer differs");
    let streams = |set: &ShardSet| -> u64 {
        let all = set.snapshots(Duration::from_secs(5));
        all.iter().map(|one| one.audit.streams).sum()
    };
    relay.until(|set| streams(set) == 0).await;
    tokio::join!(a.close(), b.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_reaches_the_other_side() {
    let relay = Relay::start(2);
    let (a, b, near, mut far) = relay.pair().await;
    drop(near);
    // To a reader of libp2p a reset is an end; only what it may still write tells them apart.
    assert_eq!(outcome(&mut far).await, Ok(0));
    let written = far.write(b"x").await.unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::WriteZero);
    let (mut near, far) = tokio::join!(a.dial(b.key()), b.accept());
    drop(far);
    assert_eq!(outcome(&mut near).await, Ok(0));
    assert!(near.write(b"x").await.is_err());
    drop(near);
    tokio::join!(a.close(), b.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_acknowledged_at_once_and_reset_when_nobody_is_there() {
    let relay = Relay::start(1);
    let a = relay.party(1).await;
    let nobody = Identity::new(SecretKey::from_bytes([99; 32]).unwrap()).public();
    let (mut stream, _asked) = a.ask(nobody).await;
    let refused = a.read_object(&mut stream).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
    let acks = a.tap.received(FrameKind::WindowUpdate, Flags::ACK);
    let resets = a.tap.received(FrameKind::WindowUpdate, Flags::RST);
    let ids = |headers: Vec<_>| -> Vec<u32> {
        let headers: Vec<ringway_proto::frame::Header> = headers;
        headers.iter().map(|header| header.stream_id).collect()
    };
    assert_eq!((ids(acks), ids(resets)), (vec![1], vec![1]));
    a.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered_in_both_directions() {
    let relay = Relay::with(1, |config| {
        config.timeouts.keepalive = Duration::from_millis(20);
    });
    let a = relay.party(1).await;
    let pings = || a.tap.received(FrameKind::Ping, Flags::SYN);
    while pings().len() < 5 {
        sleep(Duration::from_millis(1)).await;
    }
    let answers = a.tap.sent(FrameKind::Ping, Flags::ACK);
    assert!(answers.len() >= 4, "{} answers", answers.len());
    // Its own first ping stood right behind message 3.
    let sent = a.tap.sent(FrameKind::Ping, Flags::SYN);
    let answered = a.tap.received(FrameKind::Ping, Flags::ACK);
    let values = |headers: &[ringway_proto::frame::Header]| -> Vec<u32> {
        headers.iter().map(|header| header.length).collect()
    };
    assert_eq!(values(&sent), values(&answered));
    assert!(!sent.is_empty());
    a.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_that_goes_away_takes_its_streams_along() {
    let relay = Relay::start(2);
    let (a, b, near, mut far) = relay.pair().await;
    drop(near);
    let gone = a.key();
    let tap = Arc::clone(&a.tap);
    a.close().await;
    assert_eq!(tap.sent(FrameKind::GoAway, Flags::NONE).len(), 1);
    assert_eq!(outcome(&mut far).await, Ok(0));
    relay.until(|set| !directory_has(set, &gone)).await;
    drop(far);
    b.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_drains_says_so_and_closes() {
    let relay = Relay::start(1);
    let a = relay.party(1).await;
    relay.stands(&a.key()).await;
    let tap = Arc::clone(&a.tap);
    relay.set.drain();
    let end = a.ended().await;
    assert!(matches!(end, yamux::ConnectionError::Closed), "{end}");
    let farewells = tap.received(FrameKind::GoAway, Flags::NONE);
    assert_eq!(farewells.len(), 1);
    assert_eq!(farewells[0].length, 0, "in good order");
    relay.end();
}

/// Echoes `count` streams, each from its first byte to its end.
async fn echo(party: &Party, count: u16) {
    let mut echoes = JoinSet::new();
    for _ in 0..count {
        let stream = party.accept().await;
        echoes.spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
    }
    while let Some(done) = echoes.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_streams_at_once_each_with_its_own_bytes() {
    const STREAMS: u16 = 300;
    let relay = Relay::start(2);
    let (a, b) = tokio::join!(relay.party(1), relay.party(2));
    relay.stands(&b.key()).await;
    let (a, to) = (Arc::new(a), b.key());
    // So many are dialled at a time, and all of them are open when the first byte goes.
    let places = Arc::new(Semaphore::new(8));
    let all_open = Arc::new(Barrier::new(STREAMS.into()));
    let mut talks = JoinSet::new();
    for number in 0..STREAMS {
        let (a, places, all_open) = (Arc::clone(&a), Arc::clone(&places), Arc::clone(&all_open));
        talks.spawn(async move {
            let place = places.acquire_owned().await.unwrap();
            let mut stream = a.dial(to).await;
            drop(place);
            all_open.wait().await;
            let bytes = pattern(number.to_be_bytes()[1], 5_000 + usize::from(number));
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(read_all(&mut stream).await == bytes, "stream {number}");
        });
    }
    let talk = async {
        while let Some(done) = talks.join_next().await {
            done.unwrap();
        }
    };
    tokio::join!(echo(&b, STREAMS), talk);
    let a = Arc::into_inner(a).unwrap();
    tokio::join!(a.close(), b.close());
    relay.end();
}
