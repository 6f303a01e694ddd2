//! Opens that other relays are asked for, and the streams that come of them.

use std::time::Duration;

use ringway_proto::limits::{NEGATIVE_ANSWER_TIME, REQUEST_CHECKS_MAX};
use ringway_proto::reason::Reason;

use super::harness::secret;
use super::mesh::{Mesh, Peer, key_byte};
use super::pattern;
use crate::core::{Action, RecvEnd};

#[test]
fn streams_are_forwarded_byte_for_byte() {
    // Shards of both relays: the destination's may be another one than the link's.
    for (shards, from, to) in [
        ([1, 1], 0, 0),
        ([2, 2], 0, 1),
        ([2, 2], 1, 0),
        ([1, 3], 0, 2),
    ] {
        let mut mesh = Mesh::new(&shards, &[&[1], &[]]);
        mesh.pass(Duration::from_secs(1));
        let a = (0, mesh.peer(0, 1, from));
        let b = (1, mesh.peer(1, 2, to));
        let (opened, accepted) = mesh.bridge(a, b, 2);
        let bytes = pattern(1_500_000);
        assert!(
            mesh.transfer((a, opened), (b, accepted), &bytes) == bytes,
            "{shards:?}"
        );
        assert!(
            mesh.transfer((b, accepted), (a, opened), &bytes) == bytes,
            "{shards:?}"
        );
        // And one the other way, over whichever link there is.
        let (opened, accepted) = mesh.bridge(b, a, 1);
        assert!(
            mesh.transfer((b, opened), (a, accepted), &bytes) == bytes,
            "{shards:?}"
        );
        let sent: u64 = (0..2)
            .flat_map(|relay| {
                mesh.relays[relay]
                    .cores
                    .iter()
                    .map(|core| core.stats().forwards_sent)
            })
            .sum();
        assert_eq!(sent, 2, "nobody was asked in vain");
        mesh.finish();
    }
}

#[test]
fn a_thousand_streams_share_one_link_and_end_with_it() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    let callers: Vec<Peer> = (1..=2).map(|byte| (0, mesh.peer(0, byte, 0))).collect();
    let b = (1, mesh.peer(1, 9, 0));
    let mut ends = Vec::new();
    for number in 0..1_000 {
        let caller = callers[number % callers.len()];
        ends.push((caller, mesh.bridge(caller, b, 9)));
    }
    for (number, (caller, (opened, accepted))) in ends.iter().enumerate().step_by(97) {
        let bytes = &pattern(5_000)[number..];
        assert_eq!(
            mesh.transfer((*caller, *opened), (b, *accepted), bytes),
            bytes
        );
    }
    let own = mesh.relays[1].wires.len();
    assert_eq!(mesh.stats(0, 0).streams_current, 2 * 1_000 + 2);
    // The link breaks: its streams end, and nothing else.
    let local = (0, mesh.peer(0, 3, 0));
    let (kept, kept_there) = mesh.bridge(callers[0], local, 3);
    let wire = mesh.wires.pop().unwrap();
    mesh.is_down[1] = true;
    let now = mesh.relays[0].now;
    mesh.relays[0].far.clear();
    mesh.relays[0].cores[0].receive_ended(wire.from.2, RecvEnd::Error(104), now);
    mesh.relays[1].end(wire.to.1, RecvEnd::Error(104));
    mesh.run();
    assert_eq!(mesh.stats(0, 0).streams_current, 2);
    assert_eq!(mesh.stats(1, 0).streams_current, 0);
    assert_eq!(mesh.relays[1].wires.len(), own);
    let bytes = pattern(10_000);
    assert_eq!(
        mesh.transfer((callers[0], kept), (local, kept_there), &bytes),
        bytes
    );
    mesh.finish();
}

#[test]
fn peer_that_is_nowhere_is_refused_without_asking_anybody() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    mesh.open(a, 77);
    assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
    assert_eq!(mesh.stats(0, 0).forwards_sent, 0);
    mesh.finish();
}

#[test]
fn second_relay_is_asked_when_the_first_has_the_peer_no_more() {
    let mut mesh = Mesh::new(&[1, 1, 1], &[&[1, 2], &[], &[]]);
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    let c = (2, mesh.peer(2, 5, 0));
    // The peer tells relay 1 later, so that one is asked first; then it leaves, and the word is on its way.
    let gone = mesh.peer(1, 5, 0);
    assert_eq!(mesh.holders(0, 5).len(), 2);
    let to_first = mesh.wires.iter().position(|wire| wire.to.0 == 1).unwrap();
    mesh.wires[to_first].is_cut = true;
    mesh.relays[1].end(gone, RecvEnd::Eof);
    mesh.relays[1].run();
    let opened = mesh.relays[0].open(a.1, 5, 80);
    mesh.relays[0].run();
    // Its link is whole again: the request arrives in front of the news.
    let raw = std::mem::take(&mut mesh.relays[1].wires[mesh.wires[to_first].to.1].raw);
    mesh.wires[to_first].is_cut = false;
    mesh.run();
    mesh.relays[0].inject_far((0, mesh.wires[to_first].from.2), &raw);
    mesh.run();
    let accepted = mesh.relays[2].accept(c.1);
    mesh.run();
    assert_eq!(mesh.stats(0, 0).forwards_sent, 2);
    assert_eq!(mesh.stats(0, 0).forwards_again, 1);
    let bytes = pattern(300_000);
    assert_eq!(mesh.transfer((a, opened), (c, accepted), &bytes), bytes);
    mesh.finish();
}

#[test]
fn relay_that_said_no_is_not_asked_again_for_a_while() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    // What this relay believes of the other one is wrong, for whatever reason.
    let told = mesh.relays[0].cores[0].links_for_tests()[0];
    mesh.relays[0].believe(0, told, secret(key_byte(1)).public(), 6);
    for round in 1..=3 {
        mesh.open(a, 6);
        assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
        assert_eq!(mesh.stats(0, 0).forwards_sent, 1);
        assert_eq!(mesh.stats(0, 0).forwards_spared, round - 1);
    }
    mesh.pass(NEGATIVE_ANSWER_TIME);
    mesh.open(a, 6);
    assert_eq!(mesh.stats(0, 0).forwards_sent, 2);
    mesh.relays[0].disbelieve(0, told, 6);
    mesh.finish();
}

#[test]
fn request_is_forwarded_once_and_no_further() {
    // 0 - 1 - 2 in a row: the peer of 2 is two hops from 0.
    let mut mesh = Mesh::new(&[1, 1, 1], &[&[1], &[2], &[]]);
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    mesh.peer(2, 5, 0);
    let told = mesh.relays[0].cores[0].links_for_tests()[0];
    mesh.relays[0].believe(0, told, secret(key_byte(1)).public(), 5);
    mesh.open(a, 5);
    assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
    assert_eq!(mesh.stats(1, 0).forwards_received, 1);
    assert_eq!(mesh.stats(1, 0).forwards_sent, 0);
    assert_eq!(mesh.stats(1, 0).opens_refused.of(Reason::ForwardedTwice), 1);
    mesh.relays[0].disbelieve(0, told, 5);
    mesh.finish();
}

#[test]
fn streams_of_links_are_bounded() {
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |relay, config| {
        if relay == 1 {
            config.mesh.link_streams_max = 3;
        }
    });
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    let b = (1, mesh.peer(1, 2, 0));
    for _ in 0..3 {
        mesh.bridge(a, b, 2);
    }
    mesh.open(a, 2);
    assert_eq!(mesh.refusal(a), Some(Reason::TooManyStreams));
    mesh.finish();
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |relay, config| {
        if relay == 0 {
            config.mesh.forwarded_streams_max = 2;
        }
    });
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    let b = (1, mesh.peer(1, 2, 0));
    for _ in 0..2 {
        mesh.bridge(a, b, 2);
    }
    mesh.open(a, 2);
    assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
    mesh.finish();
}

#[test]
fn signatures_of_forwarded_requests_go_to_the_executor_a_few_at_a_time() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    let a = (0, mesh.peer(0, 1, 0));
    let b = (1, mesh.peer(1, 2, 0));
    let count = 3 * REQUEST_CHECKS_MAX;
    for _ in 0..count {
        mesh.relays[0].open(a.1, 2, 80);
    }
    mesh.relays[0].run();
    for wire in 0..mesh.wires.len() {
        mesh.carry(wire);
    }
    // What the relay that is asked has given its executor before that has done anything.
    let core = &mut mesh.relays[1].cores[0];
    let mut jobs = Vec::new();
    while let Some(action) = core.poll_action() {
        match action {
            Action::Compute(job) => jobs.push(job),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(jobs.len(), REQUEST_CHECKS_MAX);
    // Openers that leave meanwhile make room, and nobody else has to wait for them.
    mesh.relays[0].end(a.1, RecvEnd::Eof);
    mesh.relays[1].compute(0, jobs);
    mesh.run();
    mesh.relays[1].take_events(b.1);
    let again = (0, mesh.peer(0, 3, 0));
    mesh.bridge(again, b, 2);
    mesh.finish();
}
