//! With which relays a client has sessions: the nearest, those that stand in, those a dial needs.
//!
//! Here: real sessions with several relays. Not here: which relays a dial asks (`dials`), the choice as
//! such (unit tests of `selection`).
//!
//! Time is moved by hand, in one step that is longer than whatever it waits for; nothing is measured.

use std::time::Duration;

use ringway_client::{Address, Client, Config, RelayAddress, SecretKey, SessionState, Stats};
use tokio::io::AsyncReadExt;

use crate::mini_relay::{Fault, MiniRelay};
use crate::peers::{bytes, connect, echo, exchange, secret, until};

/// Moves the clock of this test.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A relay that can be started again.
pub(crate) struct Place {
    secret: SecretKey,
    pub(crate) address: RelayAddress,
    pub(crate) relay: MiniRelay,
}

impl Place {
    pub(crate) async fn start(fault: Fault) -> Self {
        let secret = secret();
        let relay = MiniRelay::start(&secret, fault).await;
        Self {
            secret,
            address: relay.address,
            relay,
        }
    }

    /// Ends the relay; another one of the same key comes in its place.
    pub(crate) async fn replace(self, fault: Fault) -> Self {
        let Self {
            secret,
            address,
            relay,
        } = self;
        relay.kill().await;
        let relay = MiniRelay::start_at(&secret, fault, address.socket).await;
        Self {
            secret,
            address,
            relay,
        }
    }
}

/// Connects a party to relays of which the last `far_count` are far, and waits until it has sessions
/// with the others only.
pub(crate) async fn settled(relays: &[RelayAddress], far_count: usize) -> Client {
    let near_count = relays.len() - far_count;
    let config = Config {
        sessions_min: u32::try_from(near_count).expect("small"),
        ..Config::new(relays.iter().copied())
    };
    let client = Client::connect(secret(), config).await.expect("a session");
    until(&client, |_, stats| {
        stats.sessions_made == relays.len() as u64
    })
    .await;
    pass(LONGER_THAN_IDLE).await;
    until(&client, |_, stats| stats.sessions == near_count as u64).await;
    client
}

/// Longer than `session_idle`.
pub(crate) const LONGER_THAN_IDLE: Duration = Duration::from_secs(61);

fn sessions_add_up(stats: &Stats) -> bool {
    stats.sessions_made == stats.sessions + stats.sessions_lost + stats.sessions_reaped
}

#[tokio::test]
async fn the_nearest_relays_are_kept_and_the_others_let_go() {
    let far = Place::start(Fault::Far).await;
    let (near, also_near) = (
        Place::start(Fault::None).await,
        Place::start(Fault::None).await,
    );
    let alice = connect(&[far.address, near.address, also_near.address]).await;
    until(&alice, |all, stats| {
        stats.sessions == 3 && all[1].rtt.is_some() && all[2].rtt.is_some()
    })
    .await;
    let kept: Vec<bool> = alice.status().iter().map(|one| one.is_kept).collect();
    assert_eq!(kept, [false, true, true]);
    assert!(
        alice.status()[0].state.is_ready(),
        "it is not idle for long"
    );

    pass(LONGER_THAN_IDLE).await;
    until(&alice, |all, _| all[0].state == SessionState::OnDemand).await;
    assert!(alice.status()[1..].iter().all(|one| one.state.is_ready()));
    let stats = alice.stats();
    assert_eq!((stats.sessions_reaped, stats.sessions_lost), (1, 0));
    assert!(sessions_add_up(&stats), "{stats}");
    alice.close().await;
}

#[tokio::test]
async fn another_relay_stands_in_for_one_that_died() {
    let near = Place::start(Fault::None).await;
    let far = Place::start(Fault::Far).await;
    let alice = settled(&[near.address, far.address], 1).await;
    assert_eq!(far.relay.accepted_count(), 1);

    let Place {
        secret,
        address,
        relay,
    } = near;
    relay.kill().await;
    until(&alice, |all, _| all[1].state.is_ready()).await;
    assert!(!alice.status()[0].state.is_ready());
    assert!(alice.status().iter().all(|one| one.is_kept));
    assert_eq!(far.relay.accepted_count(), 2);
    let stats = alice.stats();
    assert_eq!((stats.sessions_lost, stats.sessions_on_demand), (1, 0));

    let back = MiniRelay::start_at(&secret, Fault::None, address.socket).await;
    until(&alice, |all, _| all[0].state.is_ready()).await;
    assert!(!alice.status()[1].is_kept);
    pass(LONGER_THAN_IDLE).await;
    until(&alice, |all, _| all[1].state == SessionState::OnDemand).await;
    assert!(alice.status()[0].state.is_ready());
    assert_eq!(back.accepted_count(), 1);
    let stats = alice.stats();
    assert!(sessions_add_up(&stats), "{stats}");
}

#[tokio::test]
async fn a_session_on_demand_lasts_as_long_as_it_is_used() {
    let near = Place::start(Fault::None).await;
    let far = Place::start(Fault::Far).await;
    let alice = settled(&[near.address, far.address], 1).await;
    let bob = connect(&[far.address]).await;
    echo(bob.listen(80).expect("a free port"));

    let stream = alice.dial(Address::new(bob.key(), 80)).await;
    let stream = stream.expect("bob is at the far relay");
    assert_eq!(stream.relay(), far.address);
    let stats = alice.stats();
    assert_eq!((stats.sessions_on_demand, stats.relays_asked), (1, 2));

    pass(LONGER_THAN_IDLE).await;
    let data = std::sync::Arc::new(bytes(1, 10_000));
    let back = exchange(stream, std::sync::Arc::clone(&data)).await;
    assert!(back.expect("the session stands") == *data);
    assert!(alice.status()[1].state.is_ready());

    until(&alice, |all, _| all[1].streams_count == 0).await;
    pass(LONGER_THAN_IDLE).await;
    until(&alice, |all, _| all[1].state == SessionState::OnDemand).await;
    assert_eq!(alice.stats().sessions_reaped, 2);
}

#[tokio::test]
async fn a_kept_session_is_never_let_go() {
    let near = Place::start(Fault::None).await;
    let alice = connect(&[near.address]).await;
    let bob = connect(&[near.address]).await;
    echo(bob.listen(80).expect("a free port"));
    pass(LONGER_THAN_IDLE).await;
    let mut stream = alice
        .dial(Address::new(bob.key(), 80))
        .await
        .expect("both sessions stand");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"word")
        .await
        .expect("a write");
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.expect("the echo");
    assert_eq!(&word, b"word");
    assert_eq!(near.relay.accepted_count(), 2);
    assert_eq!(alice.stats().sessions_reaped, 0);
}
