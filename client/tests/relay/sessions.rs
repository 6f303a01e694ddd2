//! Sessions to relays that refuse, are silent, die and come back.

use std::time::Duration;

use ringway_client::{
    Address, Client, Config, ConnectError, DialError, Reason, RelayAddress, SessionError,
    SessionState,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::mini_relay::{Fault, MiniRelay};
use crate::peers::{bytes, connect, echo, exchange, pair, secret};

/// Connects in vain and returns the error of the session.
async fn connect_error(config: Config) -> std::sync::Arc<SessionError> {
    match Client::connect(secret(), config).await {
        Err(ConnectError::Relay { error, .. }) => error,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_names_its_reason_and_when_to_come_again() {
    let relay = MiniRelay::start(&secret(), Fault::Refuse(Reason::Draining, 1_500)).await;
    let error = connect_error(Config::new([relay.address])).await;
    match &*error {
        SessionError::RelayRefused {
            refusal,
            retry_after,
        } => {
            assert_eq!(refusal.reason(), Some(Reason::Draining));
            assert_eq!(*retry_after, Some(Duration::from_millis(1_500)));
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("shutting down"), "{error}");
}

#[tokio::test]
async fn a_relay_with_another_key_gets_no_session() {
    let relay = MiniRelay::start(&secret(), Fault::None).await;
    let wrong = RelayAddress::new(secret().public(), relay.address.socket);
    let error = connect_error(Config::new([wrong])).await;
    assert!(
        matches!(*error, SessionError::RelayHandshakeCut),
        "{error:?}"
    );
    assert_eq!(relay.accepted_count(), 0);
}

#[tokio::test]
async fn nobody_at_the_address_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let socket = listener.local_addr().expect("a bound listener");
    drop(listener);
    let error = connect_error(Config::new([RelayAddress::new(secret().public(), socket)])).await;
    assert!(
        matches!(*error, SessionError::RelayUnreachable(_)),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_relay_is_given_up_after_the_handshake_timeout() {
    let relay = MiniRelay::start(&secret(), Fault::Silent).await;
    let started = Instant::now();
    let error = connect_error(Config::new([relay.address])).await;
    assert!(
        matches!(*error, SessionError::RelayHandshakeTimeout(_)),
        "{error:?}"
    );
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_client_without_relays_is_refused_at_once() {
    let result = Client::connect(secret(), Config::default()).await;
    assert!(matches!(result, Err(ConnectError::LocalNoRelay)));
}

#[tokio::test]
async fn the_most_telling_failure_is_reported() {
    let refusing = MiniRelay::start(&secret(), Fault::Refuse(Reason::NotAllowed, 0)).await;
    let wrong = RelayAddress::new(secret().public(), refusing.address.socket);
    let result = Client::connect(secret(), Config::new([wrong, refusing.address])).await;
    let refusal = result.expect_err("no session").refusal().expect("a reason");
    assert_eq!(refusal.reason(), Some(Reason::NotAllowed));
}

#[tokio::test]
async fn a_session_comes_back_after_the_relay_died() {
    let relay_secret = secret();
    let relay = MiniRelay::start(&relay_secret, Fault::None).await;
    let socket = relay.address.socket;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (mut a, _b, listener) = pair(&alice, &bob, 80).await;
    let mut watch = alice.watch();

    relay.kill().await;
    let error = a.read(&mut [0; 8]).await.expect_err("the session ended");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    watch
        .wait_for(|all| !all[0].state.is_ready())
        .await
        .expect("a change");
    assert!(alice.status()[0].error.is_some());
    let dialled = alice.dial(Address::new(bob.key(), 80)).await;
    assert!(
        matches!(dialled, Err(DialError::LocalNoSession)),
        "{dialled:?}"
    );

    let relay = MiniRelay::start_at(&relay_secret, Fault::None, socket).await;
    alice.ready().await.expect("a session");
    bob.ready().await.expect("a session");
    assert_eq!(relay.accepted_count(), 2);
    assert!(alice.status()[0].error.is_none());
    echo(listener);
    alice.ping(bob.key()).await.expect("all is well again");
    alice
        .dial(Address::new(bob.key(), 80))
        .await
        .expect("the listener is still there");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_session_does_not_fight_for_its_place() {
    let relay = MiniRelay::start(&secret(), Fault::None).await;
    let alice = connect(&[relay.address]).await;
    let mut watch = alice.watch();
    relay.go_away(202);
    let waiting = watch
        .wait_for(|all| matches!(all[0].state, SessionState::Waiting { .. }))
        .await
        .expect("a change")[0]
        .clone();
    let refusal = waiting
        .error
        .and_then(|error| error.refusal())
        .expect("a reason");
    assert_eq!(refusal.reason(), Some(Reason::Replaced));
}

#[tokio::test]
async fn open_streams_go_on_after_the_relay_said_goodbye() {
    let relay = MiniRelay::start(&secret(), Fault::None).await;
    let (alice, bob) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let (a, b, _listener) = pair(&alice, &bob, 80).await;
    let mut watch = alice.watch();
    relay.go_away(0);
    watch
        .wait_for(|all| !all[0].state.is_ready())
        .await
        .expect("a change");
    let data = std::sync::Arc::new(bytes(1, 100_000));
    let back = tokio::spawn(exchange(b, std::sync::Arc::clone(&data)));
    let there = exchange(a, std::sync::Arc::clone(&data))
        .await
        .expect("an exchange");
    assert!(there == *data);
    assert!(back.await.expect("no panic").expect("an exchange") == *data);
}

#[tokio::test]
async fn a_dial_tries_a_second_relay() {
    let (first, second) = (
        MiniRelay::start(&secret(), Fault::None).await,
        MiniRelay::start(&secret(), Fault::None).await,
    );
    let alice = connect(&[first.address, second.address]).await;
    let mut watch = alice.watch();
    watch
        .wait_for(|all| all.iter().all(|one| one.state.is_ready()))
        .await
        .expect("two sessions");
    for home in [&first, &second] {
        let bob = connect(&[home.address]).await;
        echo(bob.listen(80).expect("a free port"));
        let stream = alice
            .dial(Address::new(bob.key(), 80))
            .await
            .expect("one of the two");
        assert_eq!(stream.relay(), home.address);
        bob.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_without_an_answer_ends_after_its_timeout() {
    let relay = MiniRelay::start(&secret(), Fault::Swallow).await;
    let alice = connect(&[relay.address]).await;
    let started = Instant::now();
    let dialled = alice.dial(Address::new(secret().public(), 80)).await;
    assert!(matches!(dialled, Err(DialError::Timeout(_))), "{dialled:?}");
    assert_eq!(started.elapsed().as_secs(), 10);
}
