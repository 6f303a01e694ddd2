//! Streams between two parties over a relay of the tests' own.

use std::io::ErrorKind;
use std::sync::Arc;

use ringway_client::{
    Address, Client, Config, DialError, ListenError, Listener, PingError, Reason, StreamError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::mini_relay::{Fault, MiniRelay};
use crate::peers::{bytes, connect, dial_many, echo, exchange, pair, secret};

async fn relay() -> MiniRelay {
    MiniRelay::start(&secret(), Fault::None).await
}

/// Returns the stream error inside an I/O error.
fn stream_error(error: &std::io::Error) -> Option<&StreamError> {
    error.get_ref()?.downcast_ref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_are_byte_exact_in_both_directions() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    echo(bob.listen(80).expect("a free port"));
    for len in [0, 1, 2, 16_383, 16_384, 16_385, 262_143, 262_145, 3_000_001] {
        let stream = alice
            .dial(Address::new(bob.key(), 80))
            .await
            .expect("a dial");
        assert_eq!(stream.peer(), Address::new(bob.key(), 80));
        let data = Arc::new(bytes(7, len));
        let back = exchange(stream, Arc::clone(&data))
            .await
            .expect("an exchange");
        assert!(back == *data, "{len} bytes differ");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_carries_2000_streams_at_a_time() {
    let relay = relay().await;
    let alice = connect(&[relay.address]).await;
    let config = Config {
        backlog_max: 2_048,
        ..Config::new([relay.address])
    };
    let bob = Client::connect(secret(), config).await.expect("a session");
    echo(bob.listen(80).expect("a free port"));
    let streams = dial_many(&alice, Address::new(bob.key(), 80), 2_000).await;
    assert_eq!(alice.status()[0].streams_count, 2_000);

    let mut exchanges = JoinSet::new();
    for (index, stream) in (0..).zip(streams) {
        let data = Arc::new(bytes(index, 5_000));
        exchanges.spawn(async move {
            let back = exchange(stream, Arc::clone(&data))
                .await
                .expect("an exchange");
            back == *data
        });
    }
    assert!(
        exchanges
            .join_all()
            .await
            .into_iter()
            .all(|is_same| is_same)
    );
    assert_eq!(alice.status()[0].streams_count, 0);
}

#[tokio::test]
async fn half_close_ends_one_direction() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    a.write_all(b"question").await.expect("a write");
    a.shutdown().await.expect("a shutdown");
    a.shutdown()
        .await
        .expect("a second shutdown changes nothing");
    let error = a
        .write_all(b"more")
        .await
        .expect_err("the direction has ended");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(matches!(
        stream_error(&error),
        Some(StreamError::LocalFinished)
    ));

    let mut text = String::new();
    b.read_to_string(&mut text).await.expect("the question");
    assert_eq!(text, "question");
    b.write_all(b"answer")
        .await
        .expect("the other direction goes on");
    b.shutdown().await.expect("a shutdown");
    text.clear();
    a.read_to_string(&mut text).await.expect("the answer");
    assert_eq!(text, "answer");
    assert_eq!(a.read(&mut [0; 8]).await.expect("the end stays the end"), 0);
}

#[tokio::test]
async fn dropping_an_unfinished_stream_resets_it() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, b, listener) = pair(&alice, &bob, 80).await;
    drop(b);
    let error = a.read(&mut [0; 8]).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(matches!(stream_error(&error), Some(StreamError::PeerReset)));
    let error = a.write_all(b"x").await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop((a, listener));

    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    a.reset();
    assert_eq!(
        b.read(&mut [0; 8]).await.expect_err("a reset").kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn what_was_written_before_a_shutdown_arrives_though_the_stream_is_dropped() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    // More than a window, so that some waits in the session when the stream goes.
    let data = bytes(3, 300_000);
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    let mut back = Vec::new();
    let write = async {
        a.write_all(&data).await.expect("writes");
        a.shutdown().await.expect("a shutdown");
        drop(a);
    };
    let (_, read) = tokio::join!(write, b.read_to_end(&mut back));
    read.expect("all of it");
    assert!(back == data);
    // Nobody reads what Bob writes: he learns it by a reset.
    b.write_all(b"late").await.expect("taken");
    assert_eq!(
        b.read(&mut [0; 8]).await.map_err(|error| error.kind()),
        Ok(0),
        "the end that was read stays"
    );
}

#[tokio::test]
async fn writing_to_a_party_that_dropped_its_stream_after_a_shutdown_resets() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    a.shutdown().await.expect("a shutdown");
    drop(a);
    let mut chunk = vec![0; 16_384];
    let error = loop {
        // At most a window is taken before the reset comes.
        if let Err(error) = b.write_all(&chunk).await {
            break error;
        }
        chunk.fill(1);
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stalls_its_own_stream_only() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut slow, mut unread, listener) = pair(&alice, &bob, 80).await;
    let data = bytes(9, 4_000_000);
    let stalled = tokio::spawn({
        let data = data.clone();
        async move {
            slow.write_all(&data).await.expect("writes");
            slow.shutdown().await.expect("a shutdown");
        }
    });
    echo(listener);
    let mut others = JoinSet::new();
    for seed in 0..4 {
        let stream = alice
            .dial(Address::new(bob.key(), 80))
            .await
            .expect("a dial");
        let data = Arc::new(bytes(seed, 1_000_000));
        others.spawn(async move {
            exchange(stream, Arc::clone(&data))
                .await
                .expect("an exchange")
                == *data
        });
    }
    assert!(others.join_all().await.into_iter().all(|is_same| is_same));
    assert!(
        !stalled.is_finished(),
        "nobody has read: 4 MB exceed every window so far"
    );
    let mut back = Vec::new();
    unread.read_to_end(&mut back).await.expect("all of it");
    assert!(back == data);
    stalled.await.expect("the writer ends");
}

#[tokio::test]
async fn refused_dials_carry_their_reason() {
    let relay = relay().await;
    let alice = connect(&[relay.address]).await;
    let config = Config {
        backlog_max: 1,
        ..Config::new([relay.address])
    };
    let bob = Client::connect(secret(), config).await.expect("a session");

    let refusal = |result: Result<ringway_client::Stream, DialError>| {
        let refusal = result.expect_err("a refusal").refusal().expect("a reason");
        assert!(!refusal.text().is_empty());
        refusal.reason()
    };
    let nobody = Address::new(secret().public(), 80);
    assert_eq!(
        refusal(alice.dial(nobody).await),
        Some(Reason::UnknownDestination)
    );
    let silent = Address::new(bob.key(), 80);
    assert_eq!(refusal(alice.dial(silent).await), Some(Reason::NoListener));

    let listener = bob.listen(80).expect("a free port");
    let first = alice
        .dial(silent)
        .await
        .expect("the only place in the backlog");
    assert_eq!(
        refusal(alice.dial(silent).await),
        Some(Reason::RefusedByDestination)
    );
    let accepted = listener.accept().await.expect("a stream");
    assert_eq!(
        accepted.peer(),
        Address::new(alice.key(), first.local_port())
    );

    drop(listener);
    assert_eq!(refusal(alice.dial(silent).await), Some(Reason::NoListener));
    assert_eq!(alice.status()[0].streams_count, 1);
}

#[tokio::test]
async fn a_port_has_one_listener_at_a_time() {
    let relay = relay().await;
    let alice = connect(&[relay.address]).await;
    let in_use = |result: Result<Listener, ListenError>, port| {
        assert_eq!(result.err(), Some(ListenError::LocalPortInUse { port }));
    };
    let listener = alice.listen(80).expect("a free port");
    in_use(alice.listen(80), 80);
    drop(listener);
    let listener = alice.listen(80).expect("free again");
    in_use(alice.listen(7), 7);
    alice.close().await;
    assert!(listener.accept().await.is_err());
    assert_eq!(alice.listen(81).err(), Some(ListenError::LocalClosed));
}

#[tokio::test]
async fn a_changed_record_ends_the_stream_with_an_error() {
    let relay = MiniRelay::start(&secret(), Fault::Flip).await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    a.write_all(b"text").await.expect("a write");
    let error = b.read(&mut [0; 8]).await.expect_err("a bad record");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(matches!(
        stream_error(&error),
        Some(StreamError::PeerRecord)
    ));
    let error = b.read(&mut [0; 8]).await.expect_err("the error stays");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let error = a.read(&mut [0; 8]).await.expect_err("the stream was reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_end_inside_a_record_is_a_truncation() {
    let relay = MiniRelay::start(&secret(), Fault::Cut).await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    a.write_all(b"text").await.expect("a write");
    let error = b
        .read_to_end(&mut Vec::new())
        .await
        .expect_err("a truncation");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(matches!(
        stream_error(&error),
        Some(StreamError::PeerTruncated)
    ));
}

#[tokio::test]
async fn pings_measure_the_relay_and_the_peer() {
    let relay = relay().await;
    let alice = connect(&[relay.address]).await;
    let config = Config {
        answer_ping: false,
        ..Config::new([relay.address])
    };
    let mute = Client::connect(secret(), config).await.expect("a session");
    alice.ping_relay().await.expect("a round trip");
    assert!(alice.status()[0].rtt.is_some());
    mute.ping(alice.key()).await.expect("an echo");
    match alice.ping(mute.key()).await {
        Err(PingError::Dial(error)) => {
            let reason = error.refusal().and_then(ringway_client::Refusal::reason);
            assert_eq!(reason, Some(Reason::NoListener));
        }
        other => panic!("{other:?}"),
    }
    drop(
        mute.listen(7)
            .expect("the port is free without the echo service"),
    );
}

#[tokio::test]
async fn an_open_that_nobody_waits_for_is_taken_back() {
    let relay = MiniRelay::start(&secret(), Fault::Swallow).await;
    let alice = connect(&[relay.address]).await;
    let mut dial = Box::pin(alice.dial(Address::new(secret().public(), 80)));
    while relay.legs_count() == 0 {
        tokio::select! {
            biased;
            _ = &mut dial => panic!("nobody answers"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(dial);
    while relay.legs_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(alice.status()[0].streams_count, 0);
}

#[tokio::test]
async fn close_waits_for_what_was_written() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    let data = bytes(5, 200_000);
    a.write_all(&data).await.expect("writes");
    a.shutdown().await.expect("a shutdown");
    let mut back = Vec::new();
    let read = async {
        b.read_to_end(&mut back).await.expect("all of it");
        b.shutdown().await.expect("a shutdown");
    };
    tokio::join!(alice.close(), read);
    assert!(back == data);
    assert!(matches!(
        alice.dial(Address::new(bob.key(), 80)).await,
        Err(DialError::LocalClosed)
    ));
    alice.close().await;
}

#[tokio::test]
async fn streams_outlive_the_client_they_came_from() {
    let relay = relay().await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, mut b, _listener) = pair(&alice, &bob, 80).await;
    drop(alice);
    a.write_all(b"still here").await.expect("a write");
    a.shutdown().await.expect("a shutdown");
    let mut text = String::new();
    b.read_to_string(&mut text).await.expect("the text");
    assert_eq!(text, "still here");
    b.shutdown().await.expect("a shutdown");
    assert_eq!(a.read(&mut [0; 8]).await.expect("the end"), 0);
}
