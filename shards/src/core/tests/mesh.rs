//! Several relays, their links, and what becomes of them.

use ::core::net::SocketAddr;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::peer::{PeerEvent, StreamId};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::harness::{Connect, Harness, secret};
use crate::core::{
    AdmissionLimits, AllowedRelays, ConnectFault, CoreConfig, CoreStats, Directory, RecvEnd,
    RelayAddress, Slot,
};

const ECONNREFUSED: i32 = 111;

/// A connection from one relay to another.
#[derive(Debug)]
pub(super) struct LinkWire {
    /// Relay, shard, slot of the side that dialed.
    pub(super) from: (usize, usize, Slot),
    /// Relay and its wire.
    pub(super) to: (usize, usize),
    /// Bytes neither come nor go, and neither side is told.
    pub(super) is_cut: bool,
}

/// A relay and one of its wires.
pub(super) type Peer = (usize, usize);

/// Relays with keys 100, 101 and so on at ports 7100, 7101 and so on.
pub(super) struct Mesh {
    pub(super) relays: Vec<Harness>,
    pub(super) wires: Vec<LinkWire>,
    /// Relays that nobody can connect to.
    pub(super) is_down: Vec<bool>,
    /// The shard of each relay that gets the next link.
    next_shard: Vec<usize>,
}

pub(super) fn key_byte(relay: usize) -> u8 {
    100 + u8::try_from(relay).unwrap()
}

fn address(relay: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 9], 7_100 + u16::try_from(relay).unwrap()))
}

pub(super) fn relay_address(relay: usize) -> RelayAddress {
    RelayAddress {
        key: secret(key_byte(relay)).public(),
        address: address(relay),
    }
}

impl Mesh {
    /// Relays of `shards` shards each; relay `n` wants links with those that `wants` names.
    pub(super) fn new(shards: &[u16], wants: &[&[usize]]) -> Self {
        Self::with(shards, wants, |_, _| {})
    }

    pub(super) fn with(
        shards: &[u16],
        wants: &[&[usize]],
        change: impl Fn(usize, &mut CoreConfig),
    ) -> Self {
        let relays = shards
            .iter()
            .zip(wants)
            .enumerate()
            .map(|(relay, (shards, wants))| {
                Harness::of_relay(key_byte(relay), *shards, |config| {
                    config.mesh.relays = wants.iter().map(|other| relay_address(*other)).collect();
                    config.mesh.allowed = AllowedRelays::All;
                    change(relay, config);
                })
            });
        Self {
            relays: relays.collect(),
            wires: Vec::new(),
            is_down: vec![false; shards.len()],
            next_shard: vec![0; shards.len()],
        }
    }

    /// Carries everything out until nothing moves.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            for relay in &mut self.relays {
                relay.run();
            }
            let mut moved = false;
            for relay in 0..self.relays.len() {
                while let Some(connect) = self.relays[relay].connects.pop_front() {
                    moved = true;
                    self.connect(relay, connect);
                }
            }
            for wire in 0..self.wires.len() {
                moved |= self.carry(wire);
            }
            if !moved {
                return;
            }
        }
        panic!("the relays never come to rest");
    }

    pub(super) fn connect(&mut self, from: usize, connect: Connect) {
        let to = (0..self.relays.len())
            .find(|relay| address(*relay) == connect.target && !self.is_down[*relay]);
        let now = self.relays[from].now;
        let Some(to) = to else {
            let fault = ConnectFault::Peer(ECONNREFUSED);
            self.relays[from].cores[connect.shard].connect_failed(connect.dial, fault, now);
            return;
        };
        let slot = self.relays[from].stand(connect);
        let shard = self.next_shard[to];
        self.next_shard[to] = (shard + 1) % self.relays[to].cores.len();
        let wire = self.relays[to].connect_raw(shard);
        self.wires.push(LinkWire {
            from: (from, connect.shard, slot),
            to: (to, wire),
            is_cut: false,
        });
    }

    /// Moves bytes and ends of one connection; returns whether there were any.
    pub(super) fn carry(&mut self, wire: usize) -> bool {
        let LinkWire { from, to, is_cut } = self.wires[wire];
        if is_cut {
            return false;
        }
        let (relay, shard, slot) = from;
        let Some(far) = self.relays[relay].far.get_mut(&(shard, slot)) else {
            return false;
        };
        let there = std::mem::take(&mut far.out);
        let is_closed = far.is_closed;
        let back = std::mem::take(&mut self.relays[to.0].wires[to.1].raw);
        let is_back_closed = self.relays[to.0].wires[to.1].is_closed;
        if !there.is_empty() && !is_back_closed {
            self.relays[to.0].inject(to.1, &there);
        }
        if !back.is_empty() && !is_closed {
            self.relays[relay].inject_far((shard, slot), &back);
        }
        if is_closed || is_back_closed {
            self.relays[relay].far.remove(&(shard, slot));
            if is_closed && !is_back_closed {
                self.relays[to.0].end(to.1, RecvEnd::Eof);
            }
            if is_back_closed && !is_closed {
                let now = self.relays[relay].now;
                self.relays[relay].cores[shard].receive_ended(slot, RecvEnd::Eof, now);
            }
            return true;
        }
        !there.is_empty() || !back.is_empty()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            let step = Duration::from_millis(100).min(end.saturating_since(self.now()));
            for relay in &mut self.relays {
                relay.pass(step);
            }
            self.run();
        }
    }

    pub(super) fn now(&self) -> Now {
        self.relays[0].now
    }

    pub(super) fn stats(&self, relay: usize, shard: usize) -> &CoreStats {
        self.relays[relay].cores[shard].stats()
    }

    /// Returns the links of each shard of a relay.
    pub(super) fn links(&self, relay: usize) -> Vec<u64> {
        let cores = self.relays[relay].cores.iter();
        cores.map(|core| core.stats().links_current).collect()
    }

    /// Returns the links that a relay's shards have opened in all.
    pub(super) fn opened(&self, relay: usize) -> u64 {
        let cores = self.relays[relay].cores.iter();
        cores.map(|core| core.stats().links_opened).sum()
    }

    /// Ends a relay at once, as a kill does; its peers are told by their kernels.
    pub(super) fn kill(&mut self, relay: usize) {
        self.is_down[relay] = true;
        let wires = std::mem::take(&mut self.wires);
        for wire in wires {
            let (from, to) = (wire.from, wire.to);
            if from.0 == relay && !self.relays[to.0].wires[to.1].is_closed {
                self.relays[to.0].end(to.1, RecvEnd::Error(104));
            } else if to.0 == relay && self.relays[from.0].far.remove(&(from.1, from.2)).is_some() {
                let now = self.relays[from.0].now;
                let core = &mut self.relays[from.0].cores[from.1];
                core.receive_ended(from.2, RecvEnd::Error(104), now);
            } else if from.0 != relay && to.0 != relay {
                self.wires.push(wire);
            }
        }
    }

    /// Connects a peer whose key is made from `byte`; returns its wire.
    pub(super) fn peer(&mut self, relay: usize, byte: u8, shard: usize) -> usize {
        let wire = self.relays[relay].connect(byte, shard);
        self.run();
        wire
    }

    /// Opens a stream without waiting for the answer.
    pub(super) fn open(&mut self, (relay, wire): Peer, byte: u8) -> StreamId {
        let stream = self.relays[relay].open(wire, byte, 80);
        self.run();
        stream
    }

    /// Opens a stream and lets the destination accept; returns both ends.
    pub(super) fn bridge(&mut self, from: Peer, to: Peer, byte: u8) -> (StreamId, StreamId) {
        let opened = self.open(from, byte);
        let accepted = self.relays[to.0].accept(to.1);
        self.run();
        let events = self.relays[from.0].take_events(from.1);
        assert!(
            events.iter().any(
                |event| matches!(event, PeerEvent::Opened { stream, .. } if *stream == opened)
            ),
            "{events:?}"
        );
        (opened, accepted)
    }

    /// Returns the reason with which the last open of a peer was refused.
    pub(super) fn refusal(&mut self, (relay, wire): Peer) -> Option<Reason> {
        let events = self.relays[relay].take_events(wire);
        events.into_iter().find_map(|event| match event {
            PeerEvent::OpenRefused { reason_code, .. } => Reason::from_code(reason_code),
            _ => None,
        })
    }

    /// Sends all of `bytes` from one end and returns what the other end read.
    pub(super) fn transfer(
        &mut self,
        from: (Peer, StreamId),
        to: (Peer, StreamId),
        bytes: &[u8],
    ) -> Vec<u8> {
        let ((from, out), (to, into)) = (from, to);
        let mut received = Vec::new();
        let mut sent = 0;
        let mut buffer = vec![0; 65_536];
        for _ in 0..100_000 {
            if sent < bytes.len() {
                let session = self.relays[from.0].session(from.1);
                sent += session.write(out, &bytes[sent..]).unwrap();
            }
            self.run();
            loop {
                let count = self.relays[to.0]
                    .session(to.1)
                    .read(into, &mut buffer)
                    .unwrap();
                if count == 0 {
                    break;
                }
                received.extend_from_slice(&buffer[..count]);
            }
            if received.len() >= bytes.len() {
                return received;
            }
        }
        panic!("{} of {} bytes arrived", received.len(), bytes.len());
    }

    /// Returns how many relays the shard knows to have the peer made from `byte`.
    pub(super) fn holders(&self, relay: usize, byte: u8) -> Vec<PublicKey> {
        let holders = self.relays[relay].directory.holders(&secret(byte).public());
        holders.into_iter().map(|holder| holder.relay).collect()
    }

    /// Asserts that no relay but those killed owns anything after its end.
    pub(super) fn finish(mut self) {
        for relay in 0..self.relays.len() {
            let now = self.relays[relay].now;
            for shard in 0..self.relays[relay].cores.len() {
                self.relays[relay].cores[shard].shutdown(now);
            }
        }
        self.wires.iter_mut().for_each(|wire| wire.is_cut = true);
        for relay in &mut self.relays {
            relay.far.clear();
            relay.connects.clear();
            relay.assert_clean();
        }
    }
}

#[test]
fn relay_links_with_the_one_it_names_from_each_shard() {
    let mut mesh = Mesh::new(&[2, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    assert_eq!((mesh.links(0), mesh.links(1)), (vec![1, 1], vec![2]));
    // An outbound link is a connection that the relay has dialed, an accepted one a session.
    assert_eq!(mesh.stats(0, 0).dialed_current, 1);
    assert_eq!(mesh.stats(0, 0).sessions_current, 0);
    assert_eq!(mesh.stats(1, 0).sessions_current, 2);
    // Pings on both sides keep it standing.
    mesh.pass(Duration::from_secs(120));
    assert_eq!((mesh.links(0), mesh.links(1)), (vec![1, 1], vec![2]));
    assert_eq!(mesh.opened(0), 2);
    mesh.finish();
}

#[test]
fn relays_that_name_each_other_come_to_rest() {
    for shards in [[1, 1], [2, 2], [1, 3]] {
        let mut mesh = Mesh::new(&shards, &[&[1], &[0]]);
        mesh.pass(Duration::from_secs(5));
        let (links, opened) = (
            [mesh.links(0), mesh.links(1)],
            [mesh.opened(0), mesh.opened(1)],
        );
        for links in &links {
            assert!(
                links.iter().all(|count| *count >= 1),
                "{shards:?}: {links:?}"
            );
        }
        // Whatever came of both dialing at once stays as it is.
        mesh.pass(Duration::from_secs(300));
        assert_eq!([mesh.links(0), mesh.links(1)], links, "{shards:?}");
        assert_eq!([mesh.opened(0), mesh.opened(1)], opened, "{shards:?}");
        mesh.finish();
    }
}

#[test]
fn relay_that_nobody_allows_gets_no_link_and_asks_ever_more_rarely() {
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |relay, config| {
        if relay == 1 {
            config.mesh.allowed = AllowedRelays::Listed([secret(7).public()].into());
        }
    });
    mesh.pass(Duration::from_secs(60));
    assert_eq!((mesh.links(0), mesh.links(1)), (vec![0], vec![0]));
    let refused = mesh.stats(0, 0).links_failed.of(Reason::NotAllowed);
    assert_eq!(
        mesh.stats(1, 0).handshakes_failed.of(Reason::NotAllowed),
        refused
    );
    // 0.5, 1, 2, 4, 8, 16 and 30 s apart at most, half of that at least.
    assert!((5..=9).contains(&refused), "{refused}");
    mesh.pass(Duration::from_secs(300));
    let more = mesh.stats(0, 0).links_failed.of(Reason::NotAllowed) - refused;
    assert!((10..=20).contains(&more), "{more}");
    mesh.finish();
}

#[test]
fn relay_on_the_list_gets_its_link() {
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |relay, config| {
        if relay == 1 {
            config.mesh.allowed = AllowedRelays::Listed([secret(key_byte(0)).public()].into());
        }
    });
    mesh.pass(Duration::from_secs(1));
    assert_eq!((mesh.links(0), mesh.links(1)), (vec![1], vec![1]));
    mesh.finish();
}

#[test]
fn links_are_bounded() {
    let bound = |relay: usize, config: &mut CoreConfig| {
        config.mesh.links_max = if relay == 0 { 1 } else { 64 };
    };
    let mut mesh = Mesh::with(&[1, 1, 1], &[&[], &[0], &[0]], bound);
    mesh.pass(Duration::from_secs(2));
    assert_eq!(mesh.links(0), [1]);
    let refused: u64 = (1..3)
        .map(|relay| {
            mesh.stats(relay, 0)
                .links_failed
                .of(Reason::TooManySessions)
        })
        .sum();
    assert!(refused > 0);
    mesh.finish();
}

#[test]
fn killed_relay_is_linked_again_when_it_is_back() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    mesh.kill(1);
    mesh.run();
    assert_eq!(mesh.links(0), [0]);
    assert_eq!(mesh.stats(0, 0).links_lost, 1);
    mesh.pass(Duration::from_secs(20));
    assert_eq!(mesh.links(0), [0]);
    assert!(
        mesh.stats(0, 0)
            .links_failed
            .of(Reason::RefusedByDestination)
            >= 4
    );
    mesh.is_down[1] = false;
    mesh.pass(Duration::from_secs(31));
    assert_eq!(mesh.links(0), [1]);
    mesh.finish();
}

#[test]
fn link_that_is_cut_is_noticed_within_seconds_and_made_again() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    mesh.wires[0].is_cut = true;
    mesh.is_down[1] = true;
    mesh.pass(Duration::from_secs(25));
    assert_eq!(
        mesh.links(0),
        [0],
        "four intervals of 5 s without a sign of life"
    );
    assert_eq!(mesh.stats(0, 0).links_closed.of(Reason::Idle), 1);
    mesh.is_down[1] = false;
    mesh.pass(Duration::from_secs(31));
    assert_eq!(mesh.links(0), [1]);
    mesh.finish();
}

#[test]
fn handshake_of_a_link_that_hangs_ends_by_its_timeout() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[]]);
    // The other side never answers.
    mesh.relays[0].pass(Duration::from_millis(200));
    let connect = mesh.relays[0].connects.pop_front().unwrap();
    mesh.relays[0].stand(connect);
    mesh.relays[0].pass(Duration::from_secs(6));
    let failed = &mesh.stats(0, 0).links_failed;
    assert_eq!(failed.of(Reason::HandshakeTimeout), 1);
    assert_eq!(mesh.stats(0, 0).dialed_current, 0);
    mesh.finish();
}

#[test]
fn another_relay_than_the_one_wanted_cannot_answer() {
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |relay, config| {
        if relay == 0 {
            // The address of relay 1 with the key of another.
            config.mesh.relays[0].key = secret(55).public();
        }
    });
    mesh.pass(Duration::from_secs(2));
    assert_eq!((mesh.links(0), mesh.links(1)), (vec![0], vec![0]));
    assert!(mesh.stats(1, 0).handshakes_failed.of(Reason::BadHandshake) > 0);
    mesh.finish();
}

#[test]
fn drain_ends_links_without_streams_and_dials_no_more() {
    let mut mesh = Mesh::new(&[1, 1], &[&[1], &[0]]);
    mesh.pass(Duration::from_secs(1));
    let now = mesh.relays[0].now;
    mesh.relays[0].cores[0].drain(now);
    mesh.is_down[0] = true;
    mesh.pass(Duration::from_secs(3));
    assert_eq!(mesh.links(0), [0]);
    assert!(mesh.relays[0].cores[0].is_drained());
    assert_eq!(mesh.relays[0].cores[0].audit().timers, 0);
    mesh.finish();
}

#[test]
fn peers_are_announced_as_they_come_and_go() {
    // Two shards each: every shard tells of its own peers.
    let mut mesh = Mesh::new(&[2, 2], &[&[1], &[0]]);
    mesh.peer(0, 1, 0);
    mesh.peer(0, 2, 1);
    mesh.pass(Duration::from_secs(1));
    let relay = secret(key_byte(0)).public();
    for byte in [1, 2] {
        assert_eq!(
            mesh.holders(1, byte),
            [relay],
            "a peer from before the link"
        );
        assert_eq!(
            mesh.holders(0, byte),
            [],
            "nobody tells a relay of its own peers"
        );
    }
    let third = mesh.peer(0, 3, 1);
    assert_eq!(mesh.holders(1, 3), [relay]);
    mesh.relays[0].end(third, RecvEnd::Eof);
    mesh.run();
    assert_eq!(mesh.holders(1, 3), []);
    // Of one that comes again and again the last word counts.
    for shard in [0, 1, 0] {
        mesh.peer(0, 2, shard);
    }
    assert_eq!(mesh.holders(1, 2), [relay]);
    mesh.kill(0);
    mesh.pass(Duration::from_millis(300));
    assert_eq!((mesh.holders(1, 1), mesh.holders(1, 2)), (vec![], vec![]));
    mesh.finish();
}

#[test]
fn what_an_ended_link_has_told_is_due_at_once() {
    let mut mesh = Mesh::new(&[1, 1], &[&[], &[0]]);
    mesh.peer(0, 1, 0);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.holders(1, 1).len(), 1);
    mesh.kill(0);
    let now = mesh.now();
    let core = &mut mesh.relays[1].cores[0];
    assert_eq!(
        core.next_deadline(),
        Some(now),
        "a shard may not sleep on it"
    );
    core.flush();
    assert!(core.next_deadline().is_none_or(|due| due > now));
    assert_eq!(mesh.holders(1, 1), []);
    mesh.finish();
}

#[test]
fn another_link_goes_on_telling_when_the_one_that_did_is_gone() {
    let mut mesh = Mesh::new(&[2, 1], &[&[1], &[]]);
    mesh.pass(Duration::from_secs(1));
    mesh.peer(0, 1, 0);
    mesh.peer(0, 2, 1);
    let relay = secret(key_byte(0)).public();
    for round in 0..4 {
        // Whichever of the two links it is that dies; it is made again.
        let wire = mesh.wires.remove(round % 2);
        let (_, shard, slot) = wire.from;
        let now = mesh.relays[0].now;
        mesh.relays[0].far.remove(&(shard, slot));
        let core = &mut mesh.relays[0].cores[shard];
        core.receive_ended(slot, RecvEnd::Error(104), now);
        mesh.relays[1].end(wire.to.1, RecvEnd::Error(104));
        mesh.run();
        for byte in [1, 2] {
            assert_eq!(mesh.holders(1, byte), [relay], "round {round}");
        }
        mesh.pass(Duration::from_secs(2));
        assert_eq!(mesh.links(0), [1, 1]);
        let told = mesh.stats(1, 0).announced_current;
        assert_eq!(told, 2, "by one link and not by both");
    }
    mesh.finish();
}

#[test]
fn another_link_of_the_same_shard_goes_on_telling() {
    let mut mesh = Mesh::new(&[1, 2], &[&[], &[0]]);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.links(0), [2]);
    mesh.peer(0, 1, 0);
    let relay = secret(key_byte(0)).public();
    for round in 0..4 {
        let wire = mesh.wires.remove(round % 2);
        let (_, shard, slot) = wire.from;
        let now = mesh.relays[1].now;
        mesh.relays[1].far.remove(&(shard, slot));
        let core = &mut mesh.relays[1].cores[shard];
        core.receive_ended(slot, RecvEnd::Error(104), now);
        mesh.relays[0].end(wire.to.1, RecvEnd::Error(104));
        mesh.run();
        assert_eq!(mesh.links(0), [1]);
        assert_eq!(mesh.holders(1, 1), [relay], "round {round}");
        mesh.pass(Duration::from_secs(2));
        assert_eq!(mesh.links(0), [2]);
    }
    mesh.finish();
}

#[test]
fn many_peers_are_announced_whole_though_they_do_not_fit_in_a_window() {
    let mut mesh = Mesh::with(&[1, 1], &[&[1], &[]], |_, config| {
        config.admission = AdmissionLimits::for_sockets(400);
    });
    // 241 peers are told of again and again: more than one window of sets.
    let wires: Vec<usize> = (0..=99)
        .chain(110..=250)
        .map(|byte| mesh.peer(0, byte, 0))
        .collect();
    for _ in 0..60 {
        mesh.pass(Duration::from_secs(1));
        let sets = mesh.stats(0, 0).peer_sets_sent;
        // The other side asks as if it had missed something.
        let slot = mesh.relays[0].cores[0].links_for_tests()[0].slot;
        mesh.relays[0].cores[0].begin_set(slot);
        mesh.pass(Duration::from_millis(300));
        assert!(mesh.stats(0, 0).peer_sets_sent >= sets + 20);
    }
    assert!(mesh.stats(0, 0).peer_sets_sent * 410 > 2 * 262_144);
    assert_eq!(mesh.stats(1, 0).announced_current, wires.len() as u64);
    assert_eq!(mesh.stats(1, 0).peer_sets_missed, 0);
    mesh.finish();
}
