//! The relay as a peer of its own: who may be it, who reaches it, whom it reaches, what comes back.

use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::limits::PORT_QUARANTINE_VIRTUAL;
use ringway_proto::peer::PeerEvent;
use ringway_proto::reason::Reason;

use super::harness::{Harness, dmsg_identity};
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
    harness.cores[0].attached(crate::core::Slot(9), Dialect::Native, now);
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

/// A relay that speaks both dialects.
fn bilingual(shards: u16) -> Harness {
    Harness::with(shards, |config| {
        config.dmsg_key = Some(dmsg_identity(RELAY).public());
    })
}

#[test]
fn each_dialect_has_an_own_session_that_its_peers_reach() {
    for shard in [0, 1] {
        let mut harness = bilingual(2);
        let services = [0, 1].map(|shard| {
            let pair = [
                harness.attach(RELAY, shard),
                harness.attach_dmsg(RELAY, shard),
            ];
            assert!(pair.iter().all(|wire| is_ready(&mut harness, *wire)));
            pair
        });
        let stats = harness.cores[shard].stats();
        assert_eq!(stats.own_sessions_current, 2);
        let peer = harness.join_dmsg(1, shard);
        assert!(is_ready(&mut harness, peer));
        let opened = harness.open_dmsg(peer, 50_000, RELAY);
        harness.run();
        let service = services[shard][Dialect::Dmsg.index()];
        let accepted = harness.accept(service);
        harness.run();
        let bytes = pattern(700_000);
        let (peer, service) = ((peer, opened), (service, accepted));
        assert!(harness.transfer(peer, service, &bytes) == bytes);
        assert!(harness.transfer(service, peer, &bytes) == bytes);

        let native = harness.connect(1, shard);
        harness.bridge(native, services[shard][Dialect::Native.index()], RELAY);
        harness.assert_clean();
    }
}

#[test]
fn a_dialect_without_an_own_session_has_no_listener() {
    let mut harness = bilingual(1);
    harness.attach(RELAY, 0);
    let peer = harness.join_dmsg(1, 0);
    harness.open_dmsg(peer, 50_000, RELAY);
    harness.run();
    // The dialect has no word for it.
    let refused = refused_with(&mut harness, peer);
    assert_eq!(refused, Some(Reason::Unexplained.code()));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.opens_refused.of(Reason::NoListener), 1);
    harness.assert_clean();
}

#[test]
fn nobody_from_outside_is_the_relay_in_the_other_dialect_either() {
    let mut harness = bilingual(1);
    let stranger = harness.join_dmsg(RELAY, 0);
    assert!(!is_ready(&mut harness, stranger));
    let other = harness.attach_dmsg(7, 0);
    assert!(!is_ready(&mut harness, other));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.handshakes_failed.of(Reason::NotAllowed), 2);
    assert_eq!((stats.own_sessions_opened, stats.sessions_opened), (0, 0));
    // The right key, but a handshake of the other dialect.
    let native = harness.attach_raw(0, Dialect::Dmsg);
    harness.shake_hands(RELAY, native);
    assert!(!is_ready(&mut harness, native));
    assert_eq!(harness.cores[0].stats().own_sessions_opened, 0);
    harness.assert_clean();
}

#[test]
fn the_end_of_one_own_session_is_not_that_of_the_other() {
    let mut harness = bilingual(1);
    let own = [harness.attach(RELAY, 0), harness.attach_dmsg(RELAY, 0)];
    harness.end(own[Dialect::Native.index()], RecvEnd::Eof);
    assert_eq!(harness.cores[0].stats().own_sessions_current, 1);
    let peer = harness.join_dmsg(1, 0);
    let opened = harness.open_dmsg(peer, 50_000, RELAY);
    harness.run();
    let accepted = harness.accept(own[Dialect::Dmsg.index()]);
    harness.run();
    let (peer, service) = ((peer, opened), (own[Dialect::Dmsg.index()], accepted));
    let bytes = pattern(1_000);
    assert!(harness.transfer(peer, service, &bytes) == bytes);
    // A newer one of the same dialect takes its place.
    harness.attach_dmsg(RELAY, 0);
    assert_eq!(harness.cores[0].stats().own_sessions_current, 1);
    harness.assert_clean();
}

#[test]
fn each_key_has_ports_of_its_own() {
    let mut harness = bilingual(1);
    let native = harness.attach(RELAY, 0);
    let dmsg = harness.attach_dmsg(RELAY, 0);
    let peers = [harness.connect(1, 0), harness.join_dmsg(1, 0)];
    let in_use = |harness: &Harness| harness.cores[0].audit().virtual_ports;
    harness.open_from(native, 50_000, 1, 80);
    harness.open_dmsg(dmsg, 50_000, 1);
    harness.run();
    let accepted = peers.map(|peer| harness.accept(peer));
    harness.run();
    assert_eq!(in_use(&harness), 2);
    harness.open_dmsg(dmsg, 50_000, 1);
    harness.run();
    let refused = refused_with(&mut harness, dmsg);
    assert_eq!(refused, Some(Reason::Unexplained.code()));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.opens_refused.of(Reason::VirtualPortsExhausted), 1);
    for (peer, stream) in peers.into_iter().zip(accepted) {
        harness.session(peer).reset(stream).unwrap();
    }
    harness.run();
    assert_eq!(in_use(&harness), 0);
    harness.assert_clean();
}
