//! What becomes of an open while a registry is asked, and of the relays that one names.

use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::LOOKUPS_MAX;
use ringway_proto::reason::Reason;

use super::harness::secret;
use super::mesh::{Mesh, Peer, key_byte, relay_address};
use super::pattern;
use crate::core::{LookedUp, Lookup};

/// Relays that tell each other nothing, so that every open asks the registry; `wants` as for [`Mesh::new`].
fn asking(shards: &[u16], wants: &[&[usize]]) -> Mesh {
    let mut mesh = Mesh::with(shards, wants, |_, config| {
        config.mesh.announces_peers = false;
        config.mesh.has_registry = true;
    });
    mesh.pass(Duration::from_secs(1));
    mesh
}

fn relay_key(relay: usize) -> PublicKey {
    secret(key_byte(relay)).public()
}

impl Mesh {
    /// Returns the questions that a relay's shards have put.
    fn questions(&mut self, relay: usize) -> Vec<(usize, Lookup)> {
        std::mem::take(&mut self.relays[relay].lookups)
    }

    /// Answers a question.
    fn answer(&mut self, relay: usize, (shard, lookup): (usize, Lookup), answer: LookedUp) {
        let now = self.relays[relay].now;
        self.relays[relay].cores[shard].looked_up(lookup, answer, now);
        self.run();
    }

    /// Opens a stream and answers the question that it leads to.
    fn open_and_answer(&mut self, from: Peer, byte: u8, answer: LookedUp) {
        self.open(from, byte);
        let questions = self.questions(from.0);
        assert_eq!(questions.len(), 1);
        assert_eq!(questions[0].1.key, secret(byte).public());
        self.answer(from.0, questions[0], answer);
    }
}

#[test]
fn peer_is_reached_where_the_registry_says_from_every_shard() {
    let mut mesh = asking(&[2, 2], &[&[1], &[]]);
    let b = (1, mesh.peer(1, 2, 1));
    for shard in 0..2 {
        let byte = 10 + u8::try_from(shard).unwrap();
        let a = (0, mesh.peer(0, byte, shard));
        let opened = mesh.open(a, 2);
        assert_eq!(mesh.stats(0, shard).lookups_current, 1);
        let question = mesh.questions(0)[0];
        assert_eq!(question.0, shard);
        mesh.answer(0, question, LookedUp::At(relay_key(1)));
        let accepted = mesh.relays[1].accept(b.1);
        mesh.run();
        let bytes = pattern(300_000);
        assert_eq!(mesh.transfer((a, opened), (b, accepted), &bytes), bytes);
        assert_eq!(mesh.transfer((b, accepted), (a, opened), &bytes), bytes);
        assert_eq!(mesh.stats(0, shard).lookups_found, 1);
        assert_eq!(mesh.stats(0, shard).lookups_current, 0);
    }
    mesh.finish();
}

#[test]
fn shard_without_a_link_of_its_own_uses_another_one_s() {
    // The relay that dials has one shard, so that one shard of the other has no link.
    let mut mesh = asking(&[1, 2], &[&[1], &[]]);
    let links = mesh.links(1);
    let without = links.iter().position(|links| *links == 0).unwrap();
    let b = (0, mesh.peer(0, 2, 0));
    let a = (1, mesh.peer(1, 1, without));
    let opened = mesh.open(a, 2);
    let question = mesh.questions(1)[0];
    mesh.answer(1, question, LookedUp::At(relay_key(0)));
    let accepted = mesh.relays[0].accept(b.1);
    mesh.run();
    let bytes = pattern(100_000);
    assert_eq!(mesh.transfer((a, opened), (b, accepted), &bytes), bytes);
    mesh.finish();
}

#[test]
fn registry_without_an_answer_is_a_refusal_with_its_own_reason() {
    let mut mesh = asking(&[1, 1], &[&[1], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    for (answer, reason) in [
        (LookedUp::Nowhere, Reason::UnknownDestination),
        (LookedUp::Unavailable, Reason::DirectoryUnavailable),
        // A relay that there is no link with.
        (LookedUp::At(relay_key(7)), Reason::UnknownDestination),
    ] {
        mesh.open_and_answer(a, 2, answer);
        assert_eq!(mesh.refusal(a), Some(reason));
    }
    let stats = mesh.stats(0, 0);
    assert_eq!((stats.lookups_sent, stats.lookups_unlinked), (3, 1));
    assert_eq!(stats.forwards_sent, 0);
    mesh.finish();
}

#[test]
fn answer_that_comes_after_its_open_has_gone_reaches_nobody() {
    let mut mesh = asking(&[1, 1], &[&[1], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    mesh.peer(1, 2, 0);
    // The opener leaves.
    mesh.open(a, 2);
    let first = mesh.questions(0)[0];
    mesh.relays[0].end(a.1, crate::core::RecvEnd::Eof);
    mesh.run();
    // Another one waits too long, and is told.
    let c = (0, mesh.peer(0, 3, 0));
    mesh.open(c, 2);
    let second = mesh.questions(0)[0];
    mesh.pass(Duration::from_secs(11));
    assert_eq!(mesh.refusal(c), Some(Reason::DialTimeout));
    for question in [first, second] {
        mesh.answer(0, question, LookedUp::At(relay_key(1)));
    }
    assert_eq!(mesh.stats(0, 0).forwards_sent, 0);
    assert_eq!(mesh.stats(0, 0).lookups_current, 0);
    mesh.finish();
}

#[test]
fn peer_that_has_come_here_meanwhile_is_reached_here() {
    let mut mesh = asking(&[2, 1], &[&[1], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    let opened = mesh.open(a, 2);
    let question = mesh.questions(0)[0];
    let b = (0, mesh.peer(0, 2, 1));
    mesh.answer(0, question, LookedUp::At(relay_key(1)));
    let accepted = mesh.relays[0].accept(b.1);
    mesh.run();
    let bytes = pattern(100_000);
    assert_eq!(mesh.transfer((a, opened), (b, accepted), &bytes), bytes);
    assert_eq!(mesh.stats(0, 0).forwards_sent, 0);
    mesh.finish();
}

#[test]
fn registry_is_asked_once_an_open_and_a_relay_that_said_no_not_again() {
    let mut mesh = asking(&[1, 1], &[&[1], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    // The registry is wrong: the relay does not have the peer.
    mesh.open_and_answer(a, 2, LookedUp::At(relay_key(1)));
    assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
    assert_eq!(mesh.questions(0), []);
    assert_eq!(mesh.stats(0, 0).forwards_sent, 1);
    mesh.open_and_answer(a, 2, LookedUp::At(relay_key(1)));
    assert_eq!(mesh.refusal(a), Some(Reason::UnknownDestination));
    assert_eq!(mesh.stats(0, 0).forwards_sent, 1, "it said no a moment ago");
    mesh.finish();
}

#[test]
fn registry_is_asked_when_the_relay_that_was_told_of_has_the_peer_no_more() {
    let mut mesh = asking(&[1, 1, 1], &[&[1, 2], &[], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    let c = (2, mesh.peer(2, 5, 0));
    let told = mesh.relays[0].cores[0].links_for_tests()[0];
    mesh.relays[0].believe(0, told, relay_key(1), 5);
    let opened = mesh.open(a, 5);
    let question = mesh.questions(0)[0];
    mesh.answer(0, question, LookedUp::At(relay_key(2)));
    let accepted = mesh.relays[2].accept(c.1);
    mesh.run();
    let bytes = pattern(100_000);
    assert_eq!(mesh.transfer((a, opened), (c, accepted), &bytes), bytes);
    mesh.relays[0].disbelieve(0, told, 5);
    mesh.finish();
}

#[test]
fn questions_that_wait_are_bounded() {
    let mut mesh = asking(&[1, 1], &[&[1], &[]]);
    let a = (0, mesh.peer(0, 1, 0));
    for _ in 0..LOOKUPS_MAX {
        mesh.relays[0].open(a.1, 2, 80);
    }
    mesh.run();
    let questions = mesh.questions(0);
    assert_eq!(questions.len(), LOOKUPS_MAX as usize);
    mesh.open(a, 2);
    assert_eq!(mesh.refusal(a), Some(Reason::DirectoryUnavailable));
    assert_eq!(mesh.questions(0), []);
    for question in questions {
        let now = mesh.relays[0].now;
        mesh.relays[0].cores[0].looked_up(question.1, LookedUp::Nowhere, now);
    }
    mesh.run();
    mesh.open_and_answer(a, 2, LookedUp::Nowhere);
    assert_eq!(mesh.stats(0, 0).lookups_current, 0);
    mesh.finish();
}

#[test]
fn relays_that_the_registry_names_are_linked_with_and_forgotten_ones_dialed_no_more() {
    let mut mesh = asking(&[2, 1, 1], &[&[], &[], &[]]);
    let want = |mesh: &mut Mesh, relays: &[usize]| {
        let named: Vec<_> = relays.iter().map(|relay| relay_address(*relay)).collect();
        let now = mesh.relays[0].now;
        for core in &mut mesh.relays[0].cores {
            core.want_relays(Dialect::Native, &named, now);
        }
        mesh.pass(Duration::from_secs(1));
    };
    // Its own name among them is nothing to dial.
    want(&mut mesh, &[0, 1]);
    assert_eq!(mesh.links(0), [1, 1]);
    want(&mut mesh, &[0, 1]);
    assert_eq!(mesh.opened(0), 2, "they stand");
    // Another one takes its place: the link stays, but is not made again.
    want(&mut mesh, &[2]);
    assert_eq!(mesh.links(0), [2, 2]);
    mesh.kill(1);
    mesh.is_down[1] = false;
    mesh.pass(Duration::from_secs(60));
    assert_eq!(mesh.links(0), [1, 1]);
    // Back in the registry, it is dialed again.
    want(&mut mesh, &[1, 2]);
    assert_eq!(mesh.links(0), [2, 2]);
    // Not one more after a drain.
    let now = mesh.relays[0].now;
    for core in &mut mesh.relays[0].cores {
        core.drain(now);
    }
    mesh.run();
    want(&mut mesh, &[1, 2]);
    assert_eq!(mesh.links(0), [0, 0]);
    mesh.finish();
}
