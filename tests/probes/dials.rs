//! Dials that lead nowhere.
//!
//! A relay of this kind that was measured answered none of them: the dialer waited 20 s, the relay kept
//! 7 KiB for each, and after 16,384 of them the dialer's ports were gone.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_client::{Address, Client, DialError, Refusal, Stream};
use ringway_proto::reason::Reason;
use tokio::task::JoinSet;

use crate::raw::{Event, Raw};
use crate::relay::{DEADLINE, Options, Relay, secret_of};

#[test]
fn a_dial_to_a_key_that_is_not_here_is_refused_before_the_next_answer() {
    let relay = Relay::with_shards(2);
    let mut peer = Raw::admitted(&relay, 0);
    let request = peer.request(Address::new(secret_of(77).public(), 80));
    for _ in 0..100 {
        let (id, frames) = peer.sealed(&request);
        peer.send(&frames);
        // The refusal is there before the answer to what was sent right behind the open.
        let before = peer.ping(id);
        assert_eq!(before, [Event::Response(id, Reason::UnknownDestination)]);
    }
    assert_eq!(relay.opens_refused(Reason::UnknownDestination), 100);
    assert_eq!(relay.sum(|shard| shard.audit.streams), 0);
    drop(peer);
    relay.until_empty();
    relay.end();
}

fn reason_of(dialled: Result<Stream, DialError>) -> Option<Reason> {
    dialled.err()?.refusal().and_then(Refusal::reason)
}

#[tokio::test]
async fn a_dial_to_a_port_without_a_listener_is_told_301() {
    let relay = Relay::with_shards(2);
    let (dialer, target) = (relay.client(0).await, relay.client(1).await);
    for port in [1, 80, 49_151, 65_535] {
        let dialled = dialer.dial(Address::new(target.key(), port)).await;
        assert_eq!(reason_of(dialled), Some(Reason::NoListener), "port {port}");
    }
    // A relay of this version has no services on its own key.
    let dialled = dialer.dial(Address::new(relay.key(), 80)).await;
    assert_eq!(reason_of(dialled), Some(Reason::NoListener));
    assert_eq!(relay.opens_refused(Reason::NoListener), 5);
    tokio::join!(dialer.close(), target.close());
    relay.until_empty();
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_never_answers_costs_its_dialers_302_and_the_relay_nothing() {
    const DIALS: u64 = 200;
    let mut options = Options::shards(2);
    options.timeouts.open = Duration::from_secs(2);
    let relay = Relay::start(options);
    let mut mute = Raw::admitted(&relay, 0);
    let dialer = relay.client(1).await;
    let mut dials = JoinSet::new();
    for _ in 0..DIALS {
        let (dialer, destination) = (dialer.clone(), mute.address());
        dials.spawn(async move { reason_of(dialer.dial(destination).await) });
    }
    // The mute one takes every frame, it only never answers.
    let mut asked = Vec::new();
    for _ in 0..DIALS {
        asked.push(mute.asked().0);
    }
    while let Some(refusal) = dials.join_next().await {
        assert_eq!(refusal.unwrap(), Some(Reason::DialTimeout));
    }
    assert_eq!(relay.opens_refused(Reason::DialTimeout), DIALS);
    relay.until("streams", 0, |shard| shard.audit.streams);
    // It hears that nobody waits any more, and its session is as good as before.
    let mut resets = Vec::new();
    for event in mute.ping(1) {
        match event {
            Event::Reset(id) => resets.push(id),
            event => panic!("{event:?}"),
        }
    }
    resets.sort_unstable();
    asked.sort_unstable();
    assert_eq!(resets, asked);
    let mut other = Raw::admitted(&relay, 2);
    let (near, far) = other.bridge(&mut mute);
    other.write(near, b"at last");
    mute.expect(far, b"at last");
    drop((mute, other));
    dialer.close().await;
    relay.until_empty();
    relay.end();
}

/// Dials, and waits for a port where there is none: a fast machine uses them faster than they come back
/// from their rest.
async fn dial(dialer: &Client, destination: Address) -> Result<Stream, DialError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match dialer.dial(destination).await {
            Err(DialError::LocalPorts { .. }) => {
                assert!(Instant::now() < deadline, "ports do not come back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            dialled => return dialled,
        }
    }
}

/// Dials unknown keys, one after the other: for the same one the client would not ask again.
async fn dial_in_vain(dialer: Client, numbers: Range<u32>) {
    for number in numbers {
        let nobody = Address::new(secret_of(number).public(), 80);
        let refusal = reason_of(dial(&dialer, nobody).await);
        assert_eq!(refusal, Some(Reason::UnknownDestination));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_failed_dials_over_one_session_leave_no_stream_and_no_port() {
    const DIALS: u32 = 20_000;
    let relay = Relay::with_shards(1);
    let dialer = relay.client(0).await;
    let mut dials = JoinSet::new();
    for first in (1_000..1_000 + DIALS).step_by(400) {
        dials.spawn(dial_in_vain(dialer.clone(), first..first + 400));
    }
    while let Some(done) = dials.join_next().await {
        done.unwrap();
    }
    // More than the client has ports: each came back.
    let refused_count = relay.opens_refused(Reason::UnknownDestination);
    assert_eq!(refused_count, u64::from(DIALS));
    assert_eq!(dialer.status()[0].streams_count, 0);
    let audit = relay.snapshots()[0].audit;
    assert_eq!((audit.streams, audit.sessions), (0, 1));
    assert_eq!((audit.queued_bytes, audit.chunks), (0, 0));
    assert!(relay.snapshots()[0].stats.opens_pending == 0);
    let target = relay.client(1).await;
    let listener = Arc::new(target.listen(80).unwrap());
    let (dialled, accepted) = tokio::join!(
        dial(&dialer, Address::new(target.key(), 80)),
        listener.accept()
    );
    drop((dialled.unwrap(), accepted.unwrap(), listener));
    tokio::join!(dialer.close(), target.close());
    relay.until_empty();
    relay.end();
}
