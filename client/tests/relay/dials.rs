//! Which relays a dial asks, in which order, and what it remembers.
//!
//! Here: real dials over several relays. Not here: which sessions are kept (`nearest`), the order as
//! such (unit tests of `routes`).

use std::time::Duration;

use ringway_client::{
    Address, Client, Config, DialError, Reason, Refusal, SecretKey, SessionState, SessionStatus,
};

use crate::mini_relay::Fault;
use crate::nearest::{Place, pass, settled};
use crate::peers::{connect, echo, secret, until};

fn is_unknown<T>(dialled: Result<T, DialError>) -> bool {
    let refusal = dialled.err().and_then(|error| error.refusal());
    refusal.and_then(Refusal::reason) == Some(Reason::UnknownDestination)
}

/// Connects the party of `secret` to one relay, where it echoes on port 80.
async fn echo_at(secret: &SecretKey, place: &Place) -> Client {
    let secret = SecretKey::from_seed(*secret.seed());
    let party = Client::connect(secret, Config::new([place.address]))
        .await
        .expect("a session");
    echo(party.listen(80).expect("a free port"));
    party
}

/// How many relays a session is being made with.
fn connecting_count(all: &[SessionStatus]) -> usize {
    let connecting = |one: &&SessionStatus| one.state == SessionState::Connecting;
    all.iter().filter(connecting).count()
}

#[tokio::test]
async fn a_negative_answer_spares_a_second_question_for_a_while() {
    let place = Place::start(Fault::None).await;
    let alice = connect(&[place.address]).await;
    let bob_secret = secret();
    let bob_address = Address::new(bob_secret.public(), 80);
    assert!(is_unknown(alice.dial(bob_address).await));
    assert_eq!(place.relay.opens_count(), 1);

    let _bob = echo_at(&bob_secret, &place).await;
    assert!(is_unknown(alice.dial(bob_address).await), "the old answer");
    assert_eq!(place.relay.opens_count(), 1);
    let other = Address::new(secret().public(), 80);
    assert!(is_unknown(alice.dial(other).await));
    assert_eq!(place.relay.opens_count(), 2, "others are asked for");

    pass(Duration::from_secs(5)).await;
    alice
        .dial(bob_address)
        .await
        .expect("the answer is too old");
    assert_eq!(place.relay.opens_count(), 3);
    let stats = alice.stats();
    assert_eq!((stats.negative_hits, stats.relays_asked), (1, 3));
    assert_eq!((stats.dials, stats.dials_reached), (4, 1));
    assert_eq!(stats.dials_failed.unknown_destination, 3);
}

#[tokio::test]
async fn remembered_answers_use_no_ports() {
    let place = Place::start(Fault::None).await;
    let alice = connect(&[place.address]).await;
    let nobody = Address::new(secret().public(), 80);
    // More than there are ports, each of which would rest for a while.
    for _ in 0..20_000 {
        assert!(is_unknown(alice.dial(nobody).await));
    }
    let stats = alice.stats();
    assert_eq!(stats.dials_failed.unknown_destination, 20_000);
    assert_eq!(stats.relays_asked + stats.negative_hits, 20_000);
}

#[tokio::test]
async fn a_party_that_moved_is_reached_in_the_same_dial() {
    let places = [
        Place::start(Fault::None).await,
        Place::start(Fault::None).await,
    ];
    let alice = settled(&[places[0].address, places[1].address], 0).await;
    let bob_secret = secret();
    let address = Address::new(bob_secret.public(), 80);
    let bob = echo_at(&bob_secret, &places[0]).await;
    let stream = alice.dial(address).await.expect("bob is at the first");
    assert_eq!(stream.relay(), places[0].address);
    bob.close().await;
    // If the second relay was asked as well, its answer is too old by then; the entry is not.
    pass(Duration::from_secs(6)).await;

    let _bob = echo_at(&bob_secret, &places[1]).await;
    let before = alice.stats();
    let stream = alice.dial(address).await.expect("bob is at the second");
    assert_eq!(stream.relay(), places[1].address);
    let after = alice.stats();
    assert_eq!(after.entry_hits - before.entry_hits, 1);
    assert_eq!(after.relays_asked - before.relays_asked, 2);
    assert_eq!((before.peers_moved, after.peers_moved), (0, 1));

    alice
        .dial(address)
        .await
        .expect("where it was reached last");
    let last = alice.stats();
    assert_eq!(last.relays_asked - after.relays_asked, 1);
    assert_eq!((last.entry_hits, last.entries), (after.entry_hits + 1, 1));
}

#[tokio::test]
async fn a_dial_goes_on_without_the_relay_that_died() {
    let mut places = vec![
        Place::start(Fault::None).await,
        Place::start(Fault::None).await,
    ];
    let addresses = [places[0].address, places[1].address];
    let (alice, bob) = (settled(&addresses, 0).await, settled(&addresses, 0).await);
    echo(bob.listen(80).expect("a free port"));
    let address = Address::new(bob.key(), 80);
    let first = alice.dial(address).await.expect("bob is at both").relay();
    let died = places.remove(usize::from(first == addresses[1]));
    died.relay.kill().await;
    let second = alice.dial(address).await.expect("bob is at the other");
    assert_eq!(second.relay(), places[0].address);
}

#[tokio::test]
async fn sessions_for_a_dial_are_made_two_at_a_time() {
    let near = Place::start(Fault::None).await;
    let mut addresses = vec![near.address];
    let mut far = Vec::new();
    for _ in 0..4 {
        let place = Place::start(Fault::Far).await;
        addresses.push(place.address);
        far.push(place);
    }
    let alice = settled(&addresses, 4).await;
    let mut silent = Vec::new();
    for place in far {
        silent.push(place.replace(Fault::Silent).await);
    }

    let dialler = alice.clone();
    let address = Address::new(secret().public(), 80);
    let dial = tokio::spawn(async move { dialler.dial(address).await });
    let states = |all: &[SessionStatus]| all[1..].iter().map(|one| one.state).collect::<Vec<_>>();
    let (connecting, on_demand) = (SessionState::Connecting, SessionState::OnDemand);
    until(&alice, |all, _| connecting_count(all) >= 2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        states(&alice.status()),
        [connecting, connecting, on_demand, on_demand]
    );
    // Half of the dial's time: the first two have had their share of it.
    pass(Duration::from_secs(5)).await;
    until(&alice, |all, _| {
        states(all)[2..] == [connecting, connecting]
    })
    .await;
    assert_eq!(connecting_count(&alice.status()), 2);
    pass(Duration::from_secs(5)).await;
    let dialled = dial.await.expect("no panic");
    assert!(matches!(dialled, Err(DialError::Timeout(_))), "{dialled:?}");
    until(&alice, |all, _| connecting_count(all) == 0).await;
    assert_eq!(alice.stats().relays_asked, 1, "only the near one answered");
}

#[tokio::test]
async fn a_dial_that_nobody_waits_for_takes_its_demands_back() {
    let near = Place::start(Fault::None).await;
    let far = Place::start(Fault::Far).await;
    let alice = settled(&[near.address, far.address], 1).await;
    let _silent = far.replace(Fault::Silent).await;
    let mut dial = Box::pin(alice.dial(Address::new(secret().public(), 80)));
    tokio::select! {
        biased;
        _ = &mut dial => panic!("nobody answers"),
        () = until(&alice, |all, _| all[1].state == SessionState::Connecting) => {}
    }
    drop(dial);
    until(&alice, |all, _| all[1].state == SessionState::OnDemand).await;
    let stats = alice.stats();
    assert_eq!((stats.dials, stats.dials_cancelled), (1, 1));
    assert_eq!(stats.sessions_failed, 0);
}

#[tokio::test]
async fn a_silent_relay_leaves_time_for_the_second_phase() {
    let near = Place::start(Fault::Swallow).await;
    let far = Place::start(Fault::Far).await;
    let alice = settled(&[near.address, far.address], 1).await;
    let bob = echo_at(&secret(), &far).await;
    let dialler = alice.clone();
    let address = Address::new(bob.key(), 80);
    let dial = tokio::spawn(async move { dialler.dial(address).await });
    while near.relay.opens_count() == 0 {
        tokio::task::yield_now().await;
    }
    pass(Duration::from_secs(5)).await;
    let stream = dial
        .await
        .expect("no panic")
        .expect("bob is at the far one");
    assert_eq!(stream.relay(), far.address);
    assert_eq!(alice.stats().relays_asked, 2);
}

#[tokio::test]
async fn a_dial_asks_the_relays_that_are_still_to_be_tried() {
    let near = Place::start(Fault::None).await;
    let bob = echo_at(&secret(), &near).await;
    let silent = Place::start(Fault::Silent).await;
    let config = Config::new([silent.address, near.address]);
    let alice = Client::start(secret(), config).expect("relays");
    // No session stands yet: the dial waits for one instead of failing.
    let stream = alice.dial(Address::new(bob.key(), 80)).await;
    assert_eq!(stream.expect("bob is there").relay(), near.address);
    let stats = alice.stats();
    assert_eq!((stats.sessions, stats.sessions_on_demand), (1, 0));
}
