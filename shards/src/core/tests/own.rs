//! The relay as a peer of its own: who may be it, who reaches it, whom it reaches, what comes back.

use std::time::Duration;

use ringway_proto::limits::PORT_QUARANTINE_VIRTUAL;
use ringway_proto::peer::PeerEvent;
use ringway_proto::reason::Reason;

use super::harness::Harness;
use super::mesh::{Mesh, key_byte};
use super::{pattern, refused_with};
use crate::core::RecvEnd;

/// The key of the harness' relay is made from it.
const RELAY: u8 = 200;

fn is_ready(harness: &mut Harness, wire: usize) -> bool {
    let events = harness.take_events(wire);
    events
        .iter()
        .any(|event| matches!(event, PeerEvent::Ready { .. }))
}

#[test]
fn peers_reach_services_of_their_shard_byte_for_byte() {
    for shard in [0, 1] {
        let mut harness = Harness::new(2);
        let services = [harness.attach(RELAY, 0), harness.attach(RELAY, 1)];
        assert!(services.iter().all(|wire| is_ready(&mut harness, *wire)));
        let peer = harness.connect(1, shard);
        let (opened, accepted) = harness.bridge(peer, services[shard], RELAY);
        let bytes = pattern(700_000);
        let service = (services[shard], accepted);
        assert!(harness.transfer((peer, opened), service, &bytes) == bytes);
        assert!(harness.transfer(service, (peer, opened), &bytes) == bytes);
        let messages: u64 = harness
            .cores
            .iter()
            .map(|core| core.stats().messages_received)
            .sum();
        assert_eq!(messages, 0, "the stream stays on one shard");
        harness.assert_clean();
    }
}

#[test]
fn own_session_is_no_session_of_a_peer() {
    let mut harness = Harness::new(1);
    let own = harness.attach(RELAY, 0);
    assert!(is_ready(&mut harness, own));
    let stats = harness.cores[0].stats();
    assert_eq!((stats.sessions_opened, stats.sessions_current), (0, 0));
    assert_eq!(
        (stats.own_sessions_opened, stats.own_sessions_current),
        (1, 1)
    );
    assert_eq!(harness.cores[0].audit().own_sessions, 1);
    harness.end(own, RecvEnd::Eof);
    let stats = harness.cores[0].stats();
    assert_eq!(
        (stats.own_sessions_current, stats.own_sessions_ended),
        (0, 1)
    );
    harness.assert_clean();
}

#[test]
fn own_session_takes_no_place_of_a_peer() {
    let mut harness = Harness::with(1, |config| config.admission.sockets_max = 2);
    harness.attach(RELAY, 0);
    harness.connect(1, 0);
    assert!(harness.is_accepting[0], "one place is left");
    harness.connect(2, 0);
    assert!(!harness.is_accepting[0]);
    harness.assert_clean();
}

#[test]
fn nobody_from_outside_is_the_relay_and_nobody_inside_is_another() {
    let mut harness = Harness::new(1);
    let stranger = harness.connect(RELAY, 0);
    assert!(!is_ready(&mut harness, stranger));
    let other = harness.attach(7, 0);
    assert!(!is_ready(&mut harness, other));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.handshakes_failed.of(Reason::NotAllowed), 2);
    assert_eq!((stats.own_sessions_opened, stats.sessions_opened), (0, 0));
    harness.assert_clean();
}

#[test]
fn without_services_the_relay_has_no_listener() {
    let mut harness = Harness::new(1);
    let peer = harness.connect(1, 0);
    harness.open(peer, RELAY, 80);
    harness.run();
    let refused = refused_with(&mut harness, peer);
    assert_eq!(refused, Some(Reason::NoListener.code()));
    harness.assert_clean();
}

#[test]
fn newer_own_session_takes_the_place_of_the_older() {
    let mut harness = Harness::new(1);
    let older = harness.attach(RELAY, 0);
    let newer = harness.attach(RELAY, 0);
    assert!(is_ready(&mut harness, newer));
    assert_eq!(harness.cores[0].stats().own_sessions_current, 1);
    harness.end(older, RecvEnd::Eof);
    let peer = harness.connect(1, 0);
    harness.bridge(peer, newer, RELAY);
    harness.assert_clean();
}

#[test]
fn streams_of_the_relay_hold_a_port_of_the_shards_slice() {
    // Of two shards the first has 49,152 to 57,343.
    for (shard, port, foreign) in [(0, 50_000, 60_000), (1, 60_000, 50_000)] {
        let mut harness = Harness::new(2);
        let own = harness.attach(RELAY, shard);
        // On the other shard, so that legs of both kinds give the port back.
        let peer = harness.connect(1, 1 - shard);
        let in_use = |harness: &Harness| harness.cores[shard].audit().virtual_ports;

        harness.open_from(own, foreign, 1, 80);
        harness.run();
        let refused = refused_with(&mut harness, own);
        assert_eq!(refused, Some(Reason::VirtualPortsExhausted.code()));
        assert_eq!(in_use(&harness), 0);

        let opened = harness.open_from(own, port, 1, 80);
        harness.run();
        let accepted = harness.accept(peer);
        harness.run();
        assert_eq!(in_use(&harness), 1);
        harness.open_from(own, port, 1, 80);
        harness.run();
        let refused = refused_with(&mut harness, own);
        assert_eq!(refused, Some(Reason::VirtualPortsExhausted.code()));
        assert_eq!(in_use(&harness), 1, "the refused stream took none");

        let bytes = pattern(300_000);
        assert!(harness.transfer((own, opened), (peer, accepted), &bytes) == bytes);
        harness.session(own).finish(opened).unwrap();
        harness.session(peer).finish(accepted).unwrap();
        harness.run();
        assert_eq!(in_use(&harness), 0);
        harness.open_from(own, port, 1, 80);
        harness.run();
        let refused = refused_with(&mut harness, own);
        assert_eq!(
            refused,
            Some(Reason::VirtualPortsExhausted.code()),
            "it rests"
        );
        harness.pass(PORT_QUARANTINE_VIRTUAL);
        harness.open_from(own, port, 1, 80);
        harness.run();
        assert_eq!(in_use(&harness), 1);
        harness.assert_clean();
    }
}

#[test]
fn own_sessions_death_gives_every_port_back_at_once() {
    let mut harness = Harness::new(1);
    let own = harness.attach(RELAY, 0);
    let peer = harness.connect(1, 0);
    for port in 50_000..50_100 {
        harness.open_from(own, port, 1, 80);
        harness.run();
        if port % 2 == 0 {
            harness.accept(peer);
        }
    }
    harness.run();
    assert_eq!(harness.cores[0].audit().virtual_ports, 100);
    harness.end(own, RecvEnd::Error(104));
    let audit = harness.cores[0].audit();
    assert_eq!((audit.virtual_ports, audit.streams), (0, 0));
    harness.assert_clean();
}

#[test]
fn drain_ends_the_own_session_with_its_last_stream() {
    let mut harness = Harness::new(1);
    let own = harness.attach(RELAY, 0);
    let peer = harness.connect(1, 0);
    let (opened, accepted) = harness.bridge(peer, own, RELAY);
    let now = harness.now;
    harness.cores[0].drain(now);
    harness.run();
    assert_eq!(harness.cores[0].stats().own_sessions_current, 1);
    harness.session(peer).finish(opened).unwrap();
    harness.session(own).finish(accepted).unwrap();
    harness.run();
    assert_eq!(harness.cores[0].stats().own_sessions_current, 0);
    harness.cores[0].attached(crate::core::Slot(9), now);
    assert_eq!(
        harness.cores[0]
            .stats()
            .handshakes_failed
            .of(Reason::Draining),
        1
    );
}

#[test]
fn services_of_a_linked_relay_are_reached_over_the_link() {
    let mut mesh = Mesh::new(&[1, 2], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    let services: Vec<_> = (0..2)
        .map(|shard| mesh.relays[1].attach(key_byte(1), shard))
        .collect();
    mesh.run();
    let caller = (0, mesh.peer(0, 1, 0));
    let opened = mesh.open(caller, key_byte(1));
    let asked = services.into_iter().find(|wire| {
        let events = &mesh.relays[1].wires[*wire].events;
        events
            .iter()
            .any(|event| matches!(event, PeerEvent::Incoming { .. }))
    });
    let service = (1, asked.expect("a service was asked"));
    let accepted = mesh.relays[1].accept(service.1);
    mesh.run();
    let bytes = pattern(400_000);
    assert!(mesh.transfer((caller, opened), (service, accepted), &bytes) == bytes);
    assert!(mesh.transfer((service, accepted), (caller, opened), &bytes) == bytes);

    // And that relay's services reach a peer of the first one.
    let back = mesh.relays[1].open_from(service.1, 60_000, 1, 80);
    mesh.run();
    let refused = mesh.refusal(service);
    let port = if refused.is_some() { 50_000 } else { 60_000 };
    let back = match refused {
        Some(_) => mesh.relays[1].open_from(service.1, port, 1, 80),
        None => back,
    };
    mesh.run();
    let there = mesh.relays[0].accept(caller.1);
    mesh.run();
    assert!(mesh.transfer((service, back), (caller, there), &bytes) == bytes);
    mesh.finish();
}
