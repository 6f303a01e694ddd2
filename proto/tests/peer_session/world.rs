//! Peers, a relay in memory and the time, driven until nothing moves.

use core::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg;
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::RecordKeys;
use ringway_proto::peer::{IncomingRequest, PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::time::Now;

use super::mirror::Mirror;

/// Wall clock at the start of every world, ns since 1970.
pub(crate) const UNIX_NS: u64 = 1_700_000_000_000_000_000;

pub(crate) struct World {
    dialect: Dialect,
    pub(crate) mirror: Mirror,
    pub(crate) peers: Vec<PeerSession>,
    pub(crate) events: Vec<Vec<PeerEvent>>,
    pub(crate) now: Now,
    /// Bytes a turn carries, each way and peer.
    pub(crate) turn_bytes: usize,
    /// Lengths of the pieces in which a turn arrives, repeated.
    pub(crate) pieces: Vec<usize>,
    pub(crate) latency: Duration,
    randoms: u8,
}

impl World {
    /// Two native peers that are ready.
    pub(crate) fn new() -> Self {
        Self::of(Dialect::Native)
    }

    /// Two peers that are ready.
    pub(crate) fn of(dialect: Dialect) -> Self {
        let mut world = Self::empty_of(dialect);
        world.connect(config());
        world.connect(config());
        world.settle();
        for events in &mut world.events {
            assert!(matches!(events.remove(0), PeerEvent::Ready { .. }));
            assert!(events.is_empty());
        }
        world
    }

    pub(crate) fn empty() -> Self {
        Self::empty_of(Dialect::Native)
    }

    pub(crate) fn empty_of(dialect: Dialect) -> Self {
        Self {
            dialect,
            mirror: Mirror::new(dialect),
            peers: Vec::new(),
            events: Vec::new(),
            now: Now::from_nanos(1_000),
            turn_bytes: 65_536,
            pieces: vec![usize::MAX],
            latency: Duration::ZERO,
            randoms: 0,
        }
    }

    pub(crate) fn connect(&mut self, config: PeerConfig) -> usize {
        let n = self.mirror.accept();
        let relay = self.mirror.public();
        let random = self.random();
        let identity: Identity = match self.dialect {
            Dialect::Dmsg => dmsg_secret(n).into(),
            _ => secret(n).into(),
        };
        self.peers
            .push(PeerSession::connect(identity, relay, config, random, self.now).unwrap());
        self.events.push(Vec::new());
        n
    }

    pub(crate) fn random(&mut self) -> [u8; 32] {
        self.randoms = self.randoms.wrapping_add(1);
        let mut random = [self.randoms; 32];
        random[0] = 7;
        random
    }

    pub(crate) fn unix_ns(&self) -> u64 {
        UNIX_NS + self.now.as_nanos() - 1_000
    }

    /// Carries what a peer has to send to the relay.
    pub(crate) fn carry_up(&mut self, n: usize) -> usize {
        let mut wire = Vec::new();
        let moved = self.peers[n].transmit(&mut wire, self.turn_bytes);
        assert_eq!(moved, wire.len());
        self.mirror.receive(n, &wire);
        moved
    }

    /// Carries what the relay has for a peer, in pieces; polls its events.
    pub(crate) fn carry_down(&mut self, n: usize) -> usize {
        let output = &mut self.mirror.legs[n].output;
        let wire: Vec<_> = output.drain(..output.len().min(self.turn_bytes)).collect();
        let mut rest = wire.as_slice();
        for piece in self.pieces.clone().into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            // An error is seen as an event as well.
            let result = self.peers[n].receive(now, self.now);
            assert_eq!(result.err(), self.peers[n].error());
            rest = later;
            self.poll(n);
        }
        self.poll(n);
        wire.len()
    }

    pub(crate) fn poll(&mut self, n: usize) {
        while let Some(event) = self.peers[n].poll_event() {
            self.events[n].push(event);
        }
    }

    /// One turn, which takes the latency: all peers send, then all receive.
    pub(crate) fn turn(&mut self) -> usize {
        self.now = self.now + self.latency;
        let up: usize = (0..self.peers.len()).map(|n| self.carry_up(n)).sum();
        let down: usize = (0..self.peers.len()).map(|n| self.carry_down(n)).sum();
        up + down
    }

    /// Carries until nothing moves; returns how many bytes did.
    pub(crate) fn settle(&mut self) -> usize {
        let mut total = 0;
        for _ in 0..1_000_000 {
            let moved = self.turn();
            if moved == 0 {
                return total;
            }
            total += moved;
        }
        panic!("the world never settles");
    }

    /// Lets time pass, calling every peer at its deadlines.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..10_000 {
            let next = self
                .peers
                .iter()
                .filter_map(PeerSession::next_deadline)
                .min();
            match next.filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            for n in 0..self.peers.len() {
                self.peers[n].handle_timeout(self.now);
                self.poll(n);
            }
        }
        self.now = end;
    }

    pub(crate) fn address(&self, n: usize, port: u16) -> Address {
        Address {
            key: self.peers[n].public_key(),
            port,
        }
    }

    pub(crate) fn open(&mut self, from: usize, to: usize, port: u16) -> StreamId {
        let destination = self.address(to, port);
        self.open_to(from, destination)
    }

    pub(crate) fn open_to(&mut self, from: usize, destination: Address) -> StreamId {
        let (timestamp, random) = (self.unix_ns(), self.random());
        self.peers[from]
            .open(destination, 50_000, timestamp, random)
            .unwrap()
    }

    /// Opens a stream and has it accepted; returns both sides' ids and keys.
    pub(crate) fn join(&mut self, from: usize, to: usize) -> [(StreamId, RecordKeys); 2] {
        let near = self.open(from, to, 7);
        self.settle();
        let (far, request) = self.incoming(to);
        let random = self.random();
        let far_keys = self.peers[to].accept(far, request, random).unwrap();
        self.settle();
        match self.take_event(from) {
            PeerEvent::Opened { stream, keys } if stream == near => [(near, keys), (far, far_keys)],
            other => panic!("{other:?}"),
        }
    }

    /// Takes the first event of a peer.
    pub(crate) fn take_event(&mut self, n: usize) -> PeerEvent {
        assert!(!self.events[n].is_empty(), "peer {n} has no event");
        self.events[n].remove(0)
    }

    pub(crate) fn incoming(&mut self, n: usize) -> (StreamId, IncomingRequest) {
        match self.take_event(n) {
            PeerEvent::Incoming {
                stream, request, ..
            } => (stream, request),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read_all(&mut self, n: usize, stream: StreamId) -> Vec<u8> {
        let mut out = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            let read = self.peers[n].read(stream, &mut buffer).unwrap();
            if read == 0 {
                return out;
            }
            out.extend_from_slice(&buffer[..read]);
        }
    }

    /// Writes all of `bytes` while the other side reads; returns what was read.
    pub(crate) fn transfer(
        &mut self,
        from: (usize, StreamId),
        to: (usize, StreamId),
        bytes: &[u8],
    ) -> Vec<u8> {
        let mut read = Vec::new();
        let mut rest = bytes;
        while read.len() < bytes.len() {
            let n = self.peers[from.0].write(from.1, rest).unwrap();
            rest = &rest[n..];
            let moved = self.settle();
            let got = self.read_all(to.0, to.1);
            assert!(n + moved + got.len() > 0, "transfer stands still");
            read.extend_from_slice(&got);
        }
        read
    }
}

pub(crate) fn secret(n: usize) -> SecretKey {
    SecretKey::from_seed([u8::try_from(n + 1).unwrap(); 32])
}

pub(crate) fn dmsg_secret(n: usize) -> dmsg::key::SecretKey {
    dmsg::key::SecretKey::from_bytes([u8::try_from(n + 1).unwrap(); 32]).unwrap()
}

pub(crate) fn public(n: usize) -> PublicKey {
    secret(n).public()
}

pub(crate) fn config() -> PeerConfig {
    PeerConfig::new(UNIX_NS)
}
