//! The client in the dmsg dialect: the same streams, listeners, pings and services over the other wire.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use ringway_client::{
    Address, Client, Config, ConnectError, DialError, DmsgSecretKey, Inside, Reason, Refusal,
    RelayAddress, Router, RouterConfig, SecretKey, SessionError,
};
use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::limits::EPHEMERAL_PORT_MIN;
use ringway_proto::ports::PortSet;
use ringway_shards::set::{DmsgConfig, ShardSet, ShardSetConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::peers::{bytes, dial_many, echo, exchange, pair};
use crate::relay::Relay;

static NEXT_SEED: AtomicU8 = AtomicU8::new(1);

/// Returns a secret that no other test of this file has.
fn secret() -> DmsgSecretKey {
    of_seed(NEXT_SEED.fetch_add(1, Ordering::Relaxed))
}

fn of_seed(seed: u8) -> DmsgSecretKey {
    DmsgSecretKey::from_bytes([seed; 32]).expect("a scalar of the curve")
}

/// Starts a relay that speaks both dialects; its address is that of dmsg.
pub(crate) fn start(shards_count: u16) -> Relay {
    let native = RelayIdentity::new(&SecretKey::from_seed([249; 32]));
    let dmsg = Arc::new(Identity::new(of_seed(249)));
    let key = dmsg.public();
    let config = ShardSetConfig {
        shards_count,
        dmsg: Some(DmsgConfig::new(([127, 0, 0, 1], 0).into(), dmsg)),
        has_services: true,
        ..ShardSetConfig::new(Arc::new(native)).with_sockets(255)
    };
    let set = ShardSet::launch(&config).expect("a relay");
    let address = RelayAddress::new(key, set.dmsg_address().expect("a listener"));
    Relay { set, address }
}

async fn connect(relay: &Relay) -> Client {
    Client::connect(secret(), Config::new([relay.address]))
        .await
        .expect("the relay admits everybody")
}

/// Connects a party whose session is on `shard`.
async fn connect_on(relay: &Relay, shard: u16) -> Client {
    for _ in 0..64 {
        let client = connect(relay).await;
        if relay.shard_of(&client.key()) == Some(shard) {
            return client;
        }
        client.close().await;
    }
    unreachable!("64 sessions and none on shard {shard}");
}

/// Returns the relay as a peer of its own on a shard.
async fn services(relay: &Relay, shard: usize) -> Client {
    let handle = relay.set.handles()[shard].clone();
    let number = handle.shard().0;
    let shards = u16::try_from(relay.set.handles().len()).expect("few shards");
    let ports = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX).slice(number, shards);
    let inside = Inside::new(ports, move || {
        let (ours, theirs) = UnixStream::pair()?;
        let attached = handle.attach(Dialect::Dmsg, theirs);
        attached.map_err(std::io::Error::other)?;
        Ok(ours)
    });
    let unused = RelayAddress::new(relay.address.key, ([0, 0, 0, 0], 0).into());
    let config = Config {
        inside: Some(inside),
        ..Config::new([unused])
    };
    let client = Client::connect(of_seed(249), config).await;
    client.expect("an own session")
}

fn refusal(error: &DialError) -> Option<Reason> {
    error.refusal().and_then(Refusal::reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_are_byte_exact_on_one_shard_and_across_two() {
    let relay = start(2);
    let alice = connect_on(&relay, 0).await;
    for shard in [0, 1] {
        let bob = connect_on(&relay, shard).await;
        echo(bob.listen(80).expect("a free port"));
        // Around the payload of a record and the window, and over many windows.
        for len in [0, 1, 4_070, 4_071, 262_144, 262_145, 5_000_001] {
            let stream = alice.dial(Address::new(bob.key(), 80)).await;
            let data = Arc::new(bytes(3, len));
            let back = exchange(stream.expect("a dial"), Arc::clone(&data)).await;
            assert!(back.expect("an exchange") == *data, "{len} bytes differ");
        }
        bob.close().await;
    }
    alice.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_and_reset_pass_the_relay() {
    let relay = start(2);
    let (alice, bob) = (connect_on(&relay, 0).await, connect_on(&relay, 1).await);
    let (mut a, mut b, listener) = pair(&alice, &bob, 80).await;
    assert_eq!(b.peer(), Address::new(alice.key(), a.local_port()));
    a.write_all(b"question").await.expect("a write");
    a.shutdown().await.expect("a shutdown");
    let mut text = String::new();
    b.read_to_string(&mut text).await.expect("the question");
    assert_eq!(text, "question");
    b.write_all(b"answer").await.expect("a write");
    b.shutdown().await.expect("a shutdown");
    text.clear();
    a.read_to_string(&mut text).await.expect("the answer");
    assert_eq!(text, "answer");
    drop((a, b, listener));

    let (mut a, b, _listener) = pair(&alice, &bob, 80).await;
    drop(b);
    let error = a.read(&mut [0; 8]).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(a);
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_carries_1000_streams_at_a_time() {
    let relay = start(2);
    let alice = connect(&relay).await;
    let config = Config {
        backlog_max: 1_024,
        ..Config::new([relay.address])
    };
    let bob = Client::connect(secret(), config).await.expect("a session");
    echo(bob.listen(80).expect("a free port"));
    let streams = dial_many(&alice, Address::new(bob.key(), 80), 1_000).await;
    let mut exchanges = JoinSet::new();
    for (seed, stream) in (0..).zip(streams) {
        let data = Arc::new(bytes(seed, 5_000));
        exchanges.spawn(async move {
            let back = exchange(stream, Arc::clone(&data)).await;
            back.expect("an exchange") == *data
        });
    }
    while let Some(is_same) = exchanges.join_next().await {
        assert!(is_same.expect("no panic"));
    }
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_come_at_once_and_the_destinations_say_why() {
    let relay = start(1);
    let config = Config {
        // Longer than the test may take: what is silent would not pass.
        dial_timeout: Duration::from_secs(3_600),
        ..Config::new([relay.address])
    };
    let alice = Client::connect(secret(), config).await.expect("a session");
    let bob = connect(&relay).await;
    let _listener = bob
        .listen_for(81, |_| Err(Reason::NotAllowed))
        .expect("a free port");
    let dial = async |key, port| {
        let refused = alice.dial(Address::new(key, port)).await;
        refusal(&refused.expect_err("a refusal"))
    };
    assert_eq!(dial(bob.key(), 99).await, Some(Reason::NoListener));
    assert_eq!(dial(bob.key(), 81).await, Some(Reason::NotAllowed));
    let nobody = ringway_client::Identity::from(of_seed(200)).public();
    assert_eq!(dial(nobody, 80).await, Some(Reason::Unexplained));
    let own = relay.address.key;
    assert_eq!(dial(own, 80).await, Some(Reason::Unexplained));
    assert!(alice.status()[0].state.is_ready());
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_is_found_at_any_relay() {
    let start_of = |seed| {
        let native = RelayIdentity::new(&SecretKey::from_seed([seed; 32]));
        let dmsg = Arc::new(Identity::new(of_seed(seed)));
        let key = dmsg.public();
        let config = ShardSetConfig {
            dmsg: Some(DmsgConfig::new(([127, 0, 0, 1], 0).into(), dmsg)),
            ..ShardSetConfig::new(Arc::new(native)).with_sockets(255)
        };
        let set = ShardSet::launch(&config).expect("a relay");
        let address = RelayAddress::new(key, set.dmsg_address().expect("a listener"));
        Relay { set, address }
    };
    let relays = [240, 241].map(start_of);
    let config = Config::new(relays.iter().map(|relay| relay.address));
    let alice = Client::connect(secret(), config).await.expect("a session");
    for home in &relays {
        let bob = connect(home).await;
        echo(bob.listen(80).expect("a free port"));
        // One of the two resets without a word, which does not mean that nobody has him.
        let stream = alice.dial(Address::new(bob.key(), 80)).await;
        assert_eq!(stream.expect("a dial").relay(), home.address);
        bob.close().await;
    }
    alice.close().await;
    relays.into_iter().for_each(Relay::end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_those_of_the_dialect() {
    let relay = start(1);
    let (alice, bob) = (connect(&relay).await, connect(&relay).await);
    alice.ping_relay().await.expect("an answer of the relay");
    alice.ping(bob.key()).await.expect("an answer of the party");
    // Several at once, then something else.
    let mut stream = alice
        .dial(Address::new(bob.key(), 7))
        .await
        .expect("a dial");
    stream.write_all(&[9, 9]).await.expect("a write");
    let mut pongs = [0; 2];
    stream.read_exact(&mut pongs).await.expect("two answers");
    assert_eq!(pongs, [10, 10]);
    stream.write_all(b"hello").await.expect("a write");
    assert_eq!(stream.read(&mut pongs).await.expect("an end"), 0);
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_reached_and_reach_peers() {
    let relay = start(2);
    let services = [services(&relay, 0).await, services(&relay, 1).await];
    for service in &services {
        echo(service.listen(80).expect("a free port"));
    }
    let data = Arc::new(bytes(9, 2_000_001));
    for shard in [0, 1] {
        let peer = connect_on(&relay, shard).await;
        let to_relay = peer.dial(Address::new(relay.address.key, 80)).await;
        let back = exchange(to_relay.expect("a dial"), Arc::clone(&data)).await;
        assert!(back.expect("an exchange") == *data, "to the relay");
        echo(peer.listen(90).expect("a free port"));
        let own = &services[usize::from(shard)];
        let to_peer = own.dial(Address::new(peer.key(), 90)).await;
        let back = exchange(to_peer.expect("a dial"), Arc::clone(&data)).await;
        assert!(back.expect("an exchange") == *data, "from the relay");
        peer.close().await;
    }
    for service in services {
        service.close().await;
    }
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_session_of_the_same_key_takes_over() {
    let relay = start(2);
    let config = Config {
        backoff_min: Duration::from_secs(3_600),
        backoff_max: Duration::from_secs(3_600),
        ..Config::new([relay.address])
    };
    let first = Client::connect(of_seed(230), config)
        .await
        .expect("a session");
    let mut watch = first.watch();
    let second = Client::connect(of_seed(230), Config::new([relay.address])).await;
    let second = second.expect("a session");
    let waiting = watch.wait_for(|all| !all[0].state.is_ready()).await;
    let waiting = waiting.expect("a change")[0].clone();
    let refusal = waiting.error.and_then(|error| error.refusal());
    assert_eq!(refusal.and_then(Refusal::reason), Some(Reason::Replaced));
    assert!(second.status()[0].state.is_ready());
    tokio::join!(first.close(), second.close());
    relay.end();
}

#[tokio::test]
async fn dialects_do_not_mix_and_that_is_said() {
    let relay = start(1);
    let native = SecretKey::from_seed([31; 32]);
    let error = Client::connect(native, Config::new([relay.address])).await;
    let error = error.expect_err("another dialect");
    assert!(matches!(error, ConnectError::LocalDialect { .. }));
    assert!(error.to_string().contains("66 digits"), "{error}");

    let alice = connect(&relay).await;
    let native = SecretKey::from_seed([31; 32]).public();
    let error = alice.dial(Address::new(native, 80)).await;
    assert!(matches!(error, Err(DialError::LocalDialect)));
    let router = Router::start(alice.clone(), RouterConfig::default());
    let error = router.expect_err("routes are native").to_string();
    assert!(error.contains("dmsg"), "{error}");
    alice.close().await;
    relay.end();
}

/// Connects to a relay that answers message 1 with these bytes and then ends the connection.
async fn answered_with(answer: &'static [u8]) -> Arc<SessionError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let key = ringway_client::Identity::from(of_seed(251)).public();
    let address = RelayAddress::new(key, listener.local_addr().expect("an address"));
    let relay = async {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut message_1 = [0; 51];
        socket.read_exact(&mut message_1).await.expect("message 1");
        socket.write_all(answer).await.expect("a write");
        socket.shutdown().await.expect("a shutdown");
        socket
    };
    let client = Client::connect(secret(), Config::new([address]));
    let (_socket, refused) = tokio::join!(relay, client);
    match refused {
        Err(ConnectError::Relay { error, .. }) => error,
        other => unreachable!("no handshake, and yet {other:?}"),
    }
}

#[tokio::test]
async fn a_relay_that_breaks_the_handshake_is_named() {
    assert!(matches!(
        *answered_with(b"").await,
        SessionError::RelayHandshakeCut
    ));
    assert!(matches!(
        *answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        SessionError::RelayHandshake(_)
    ));
    let relay = start(1);
    let other = ringway_client::Identity::from(of_seed(252)).public();
    let wrong = RelayAddress::new(other, relay.address.socket);
    match Client::connect(secret(), Config::new([wrong])).await {
        Err(ConnectError::Relay { error, .. }) => {
            assert!(matches!(*error, SessionError::RelayHandshakeCut), "{error}");
        }
        other => panic!("{other:?}"),
    }
    relay.end();
}
