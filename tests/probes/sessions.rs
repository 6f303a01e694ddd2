//! One key in two places, and a relay that holds as many sessions as it may.

use std::time::Duration;

use ringway_client::Address;
use ringway_proto::reason::Reason;
use ringway_shards::set::AdmissionLimits;

use crate::raw::{Begun, Raw, connect};
use crate::relay::{Options, Relay};

/// A byte there, as a proof that the session of a key is reached.
fn reaches(dialer: &mut Raw, target: &mut Raw) {
    let (near, far) = dialer.bridge(target);
    dialer.write(near, b"!");
    target.expect(far, b"!");
}

#[test]
fn the_newest_session_of_a_key_is_reachable_a_hundred_times_in_a_row() {
    let relay = Relay::with_shards(2);
    let mut dialer = Raw::admitted(&relay, 0);
    let mut newest = Raw::admitted(&relay, 1);
    for _ in 0..100 {
        let older = std::mem::replace(&mut newest, Raw::admitted(&relay, 1));
        // Reachable at once: the relay does not wait for the older one to leave.
        reaches(&mut dialer, &mut newest);
        assert_eq!(older.dismissed(), u32::from(Reason::Replaced.code()));
    }
    relay.until("sessions", 2, |shard| shard.audit.sessions);
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::Replaced)),
        100
    );
    drop((dialer, newest));
    relay.until_empty();
    relay.end();
}

#[test]
fn a_connection_from_before_that_ends_its_handshake_late_replaces_nobody() {
    let relay = Relay::with_shards(2);
    let mut dialer = Raw::admitted(&relay, 0);
    let mut newest: Option<Raw> = None;
    for number in 0..20 {
        let mut begun = Begun::new(&relay, 1);
        begun.send();
        // It is accepted now, and message 3 is on its way for long.
        let (mut late, message_3) = begun.answered();
        let replaced = newest.replace(Raw::admitted(&relay, 1));
        late.send(&message_3);
        let verdict = late.verdict();
        assert_eq!(verdict.reason, Reason::Replaced, "{number}");
        assert_eq!(verdict.retry_after_ms, 0);
        reaches(&mut dialer, newest.as_mut().unwrap());
        if let Some(replaced) = replaced {
            assert_eq!(replaced.dismissed(), u32::from(Reason::Replaced.code()));
        }
        late.kill();
    }
    assert_eq!(relay.handshakes_failed(Reason::Replaced), 20);
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::Replaced)),
        19
    );
    drop((dialer, newest));
    relay.until_empty();
    relay.end();
}

#[test]
fn of_three_sessions_of_a_key_the_last_one_stays() {
    let relay = Relay::with_shards(2);
    let mut dialer = Raw::admitted(&relay, 0);
    let first = Raw::admitted(&relay, 1);
    let second = Raw::admitted(&relay, 1);
    let mut third = Raw::admitted(&relay, 1);
    // Nobody has read the goodbyes yet.
    reaches(&mut dialer, &mut third);
    for older in [first, second] {
        assert_eq!(older.dismissed(), u32::from(Reason::Replaced.code()));
    }
    reaches(&mut dialer, &mut third);
    // When the newest leaves there is nobody, whatever came before it.
    third.kill();
    relay.until("sessions", 1, |shard| shard.audit.sessions);
    let open = dialer.open(Address::new(crate::relay::secret_of(1).public(), 80));
    assert_eq!(dialer.response(open), Reason::UnknownDestination);
    drop(dialer);
    relay.until_empty();
    relay.end();
}

#[test]
fn a_full_relay_with_silent_connections_serves_its_sessions_and_admits_the_next() {
    let mut options = Options::shards(1);
    options.admission = AdmissionLimits::for_sockets(10);
    // The silent ones stay for as long as the test.
    options.timeouts.handshake = Duration::from_secs(3_600);
    let relay = Relay::start(options);
    let mut peers: Vec<_> = (0..8).map(|number| Raw::admitted(&relay, number)).collect();
    let silent = [connect(relay.address()), connect(relay.address())];
    relay.until("sockets", 10, |shard| shard.audit.sockets);
    // One more is in the kernel's queue, with its first message.
    let mut next = Begun::new(&relay, 8);
    next.send();
    for source in 0..8 {
        let (left, right) = peers.split_at_mut(4);
        reaches(&mut left[source % 4], &mut right[source / 2]);
    }
    peers.pop().unwrap().kill();
    let (mut next, message_3) = next.answered();
    next.send(&message_3);
    assert_eq!(next.verdict().reason, Reason::Accepted);
    reaches(&mut next, &mut peers[0]);
    assert_eq!(relay.sum(|shard| shard.audit.handshakes), 2, "still silent");
    drop((silent, next, peers));
    relay.until_empty();
    relay.end();
}

#[test]
fn a_peer_too_many_is_told_203_and_when_to_come_back_and_gets_the_next_place() {
    let mut options = Options::shards(1);
    options.admission.sessions_max = 4;
    let relay = Relay::start(options);
    let mut peers: Vec<_> = (0..4).map(|number| Raw::admitted(&relay, number)).collect();
    let knock = |number| {
        let mut begun = Begun::new(&relay, number);
        begun.send();
        let (mut raw, message_3) = begun.answered();
        raw.send(&message_3);
        let verdict = raw.verdict();
        (raw, verdict)
    };
    for number in 4..24 {
        let (raw, verdict) = knock(number);
        assert_eq!(verdict.reason, Reason::TooManySessions);
        assert!(verdict.retry_after_ms > 0, "{verdict:?}");
        raw.kill();
    }
    assert_eq!(relay.handshakes_failed(Reason::TooManySessions), 20);
    // A key that is here needs no place of its own.
    let (mut again, verdict) = knock(3);
    assert_eq!(verdict.reason, Reason::Accepted);
    reaches(&mut peers[0], &mut again);
    peers.remove(1).kill();
    relay.until("sessions", 3, |shard| shard.audit.sessions);
    let (mut next, verdict) = knock(24);
    assert_eq!(verdict.reason, Reason::Accepted);
    reaches(&mut next, &mut peers[0]);
    drop((again, next, peers));
    relay.until_empty();
    relay.end();
}
