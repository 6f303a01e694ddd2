//! The client against the real relay, over real sockets.

mod dmsg;
mod inside;
#[path = "../relay/peers.rs"]
mod peers;
mod relay;
mod rogue;

use std::sync::Arc;
use std::time::Duration;

use peers::{bytes, connect, dial_many, echo, exchange, pair, secret, until};
use relay::{Relay, start_relay, start_relay_at};
use ringway_client::{
    Address, Client, Config, DialError, PublicKey, Reason, Refusal, SessionError, SessionState,
};
use ringway_shards::core::Directory as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

impl Relay {
    /// Connects a party whose session is on `shard`: the kernel spreads connections by source port.
    async fn connect_on(&self, shard: u16) -> Client {
        for _ in 0..64 {
            let client = connect(&[self.address]).await;
            if self.shard_of(&client.key()) == Some(shard) {
                return client;
            }
            client.close().await;
        }
        unreachable!("64 sessions and none on shard {shard}");
    }

    fn shard_of(&self, key: &PublicKey) -> Option<u16> {
        self.set.directory().lookup(key).map(|place| place.shard.0)
    }

    /// Ends the relay and asserts that nothing is left in it.
    fn end(self) {
        for snapshot in self.set.shutdown() {
            assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
            assert_eq!(snapshot.ring.sockets_opened, snapshot.ring.sockets_closed);
        }
    }
}

/// Moves data of many sizes from one party to another and back.
async fn transfer(alice: &Client, bob: &Client) {
    echo(bob.listen(80).expect("a free port"));
    for len in [0, 1, 16_385, 262_145, 5_000_001] {
        let stream = alice
            .dial(Address::new(bob.key(), 80))
            .await
            .expect("a dial");
        let data = Arc::new(bytes(3, len));
        let back = exchange(stream, Arc::clone(&data))
            .await
            .expect("an exchange");
        assert!(back == *data, "{len} bytes differ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_are_byte_exact_on_one_shard_and_across_two() {
    let relay = start_relay(2);
    let alice = relay.connect_on(0).await;
    let (near, far) = (relay.connect_on(0).await, relay.connect_on(1).await);
    transfer(&alice, &near).await;
    transfer(&alice, &far).await;
    transfer(&far, &alice).await;
    tokio::join!(alice.close(), near.close(), far.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_and_reset_pass_the_relay() {
    let relay = start_relay(2);
    let (alice, bob) = (relay.connect_on(0).await, relay.connect_on(1).await);
    let (mut a, mut b, listener) = pair(&alice, &bob, 80).await;
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
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop(a);
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_carries_2000_streams_at_a_time() {
    let relay = start_relay(1);
    let alice = connect(&[relay.address]).await;
    let config = Config {
        backlog_max: 2_048,
        ..Config::new([relay.address])
    };
    let bob = Client::connect(secret(), config).await.expect("a session");
    echo(bob.listen(80).expect("a free port"));
    let streams = dial_many(&alice, Address::new(bob.key(), 80), 2_000).await;
    let mut exchanges = JoinSet::new();
    for (seed, stream) in (0..).zip(streams) {
        let data = Arc::new(bytes(seed, 5_000));
        exchanges.spawn(async move {
            exchange(stream, Arc::clone(&data))
                .await
                .expect("an exchange")
                == *data
        });
    }
    assert!(
        exchanges
            .join_all()
            .await
            .into_iter()
            .all(|is_same| is_same)
    );
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test]
async fn refusals_come_with_their_reason() {
    let relay = start_relay(2);
    let alice = connect(&[relay.address]).await;
    let bob = connect(&[relay.address]).await;
    for (key, reason) in [
        (secret().public(), Reason::UnknownDestination),
        (bob.key(), Reason::NoListener),
    ] {
        let error = alice
            .dial(Address::new(key, 80))
            .await
            .expect_err("a refusal");
        assert_eq!(error.refusal().and_then(Refusal::reason), Some(reason));
    }
    alice.ping(bob.key()).await.expect("an echo");
    alice.ping_relay().await.expect("a round trip");
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test]
async fn a_newer_session_of_the_same_key_takes_over() {
    let relay = start_relay(2);
    let seed = *secret().seed();
    let identity = || ringway_client::SecretKey::from_seed(seed);
    let config = Config {
        // Longer than the test: the first client does not come back meanwhile.
        backoff_min: Duration::from_secs(3_600),
        backoff_max: Duration::from_secs(3_600),
        ..Config::new([relay.address])
    };
    let first = Client::connect(identity(), config)
        .await
        .expect("a session");
    let mut watch = first.watch();
    let second = Client::connect(identity(), Config::new([relay.address])).await;
    let second = second.expect("a session");
    let waiting = watch
        .wait_for(|all| matches!(all[0].state, SessionState::Waiting { .. }))
        .await
        .expect("a change")[0]
        .clone();
    let refusal = waiting.error.and_then(|error| error.refusal());
    assert_eq!(refusal.and_then(Refusal::reason), Some(Reason::Replaced));
    assert!(second.status()[0].state.is_ready());
    tokio::join!(first.close(), second.close());
    relay.end();
}

#[tokio::test]
async fn a_session_comes_back_after_the_relay_died() {
    let relay = start_relay(1);
    let relay_secret = ringway_client::SecretKey::from_seed([250; 32]);
    let socket = relay.address.socket;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, b, _listener) = pair(&alice, &bob, 80).await;
    let (mut watch_a, mut watch_b) = (alice.watch(), bob.watch());
    relay.end();
    a.read(&mut [0; 8]).await.expect_err("the session ended");
    for watch in [&mut watch_a, &mut watch_b] {
        watch
            .wait_for(|all| !all[0].state.is_ready())
            .await
            .expect("a change");
    }
    assert!(matches!(
        alice.dial(Address::new(bob.key(), 80)).await,
        Err(DialError::LocalNoSession)
    ));
    drop((a, b));
    let relay = start_relay_at(&relay_secret, 1, socket);
    alice.ready().await.expect("a session");
    bob.ready().await.expect("a session");
    alice.ping(bob.key()).await.expect("all is well again");
    tokio::join!(alice.close(), bob.close());
    relay.end();
}

#[tokio::test]
async fn a_party_is_found_at_any_relay_though_sessions_are_few() {
    let start = |_| start_relay_at(&secret(), 1, ([127, 0, 0, 1], 0).into());
    let relays: Vec<Relay> = (0..3).map(start).collect();
    let config = Config {
        sessions_min: 1,
        session_idle: Duration::ZERO,
        ..Config::new(relays.iter().map(|relay| relay.address))
    };
    let alice = Client::connect(secret(), config).await.expect("a session");
    until(&alice, |_, stats| {
        stats.sessions_made >= 3 && stats.sessions == 1
    })
    .await;
    for home in &relays {
        let bob = connect(&[home.address]).await;
        echo(bob.listen(80).expect("a free port"));
        let stream = alice.dial(Address::new(bob.key(), 80)).await;
        let stream = stream.expect("bob is at one of them");
        assert_eq!(stream.relay(), home.address);
        let data = Arc::new(bytes(4, 100_000));
        let back = exchange(stream, Arc::clone(&data)).await;
        assert!(back.expect("an exchange") == *data);
        until(&alice, |_, stats| stats.sessions == 1).await;
        bob.close().await;
    }
    let stats = alice.stats();
    assert!(stats.sessions_on_demand >= 2, "{stats}");
    assert_eq!((stats.dials_reached, stats.dials_failed.sum()), (3, 0));
    alice.close().await;
    relays.into_iter().for_each(Relay::end);
}

#[tokio::test]
async fn a_wrong_relay_key_is_found_out() {
    let relay = start_relay(1);
    let wrong = ringway_client::RelayAddress::new(secret().public(), relay.address.socket);
    match Client::connect(secret(), Config::new([wrong])).await {
        Err(ringway_client::ConnectError::Relay { error, .. }) => {
            assert!(
                matches!(*error, SessionError::RelayHandshakeCut),
                "{error:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    relay.end();
}
