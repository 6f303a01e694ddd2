//! Cores, peers and the wires between them, in memory.

use ::core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Identities;
use ringway_proto::dialect::peer;
use ringway_proto::dmsg;
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::limits::{STREAMS_MAX, WINDOW_INITIAL};
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::time::Now;

use crate::core::{
    Action, AdmissionLimits, Arrival, CoreConfig, DialError, DialKey, Dialed, Directory, Holder,
    Lookup, MeshConfig, Message, Place, Proxies, QueueLimits, RecvEnd, SessionKey, ShardCore,
    ShardId, Slot, Source, Timeouts,
};
use crate::directory::SessionDirectory;
use crate::lease::Lease;
use crate::ports::{PortSet, PortsConfig};

/// Lease on heap memory that counts how many are alive.
#[derive(Debug)]
pub(super) struct HeapLease {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl HeapLease {
    pub(super) fn new(bytes: &[u8], alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self {
            bytes: bytes.to_vec(),
            alive: Arc::clone(alive),
        }
    }
}

impl Drop for HeapLease {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease for HeapLease {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn advance(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
    fn split_to(&mut self, count: usize) -> Self {
        let rest = self.bytes.split_off(count);
        let front = std::mem::replace(&mut self.bytes, rest);
        self.alive.fetch_add(1, Ordering::Relaxed);
        Self {
            bytes: front,
            alive: Arc::clone(&self.alive),
        }
    }
}

pub(super) type Core = ShardCore<HeapLease, SessionDirectory>;

/// One peer's connection.
pub(super) struct Wire {
    pub(super) session: Option<PeerSession>,
    pub(super) shard: usize,
    pub(super) slot: Slot,
    /// The peer reads what the relay sends.
    pub(super) is_reading: bool,
    /// Bytes that came from the relay for a wire without a session of ours.
    pub(super) raw: Vec<u8>,
    pub(super) events: VecDeque<PeerEvent>,
    pub(super) is_closed: bool,
    /// Bytes that the kernel has taken of the send that waits; told when it is cancelled.
    pub(super) taken_bytes: usize,
    waiting: Vec<crate::batch::Batch<HeapLease>>,
}

/// A socket that the relay has dialed, when a test wants to see what it sends on it.
#[derive(Debug, Default)]
pub(super) struct Far {
    /// Bytes that came from the relay.
    pub(super) out: Vec<u8>,
    pub(super) is_closed: bool,
}

/// A connect that a test answers by hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connect {
    pub(super) shard: usize,
    pub(super) dial: DialKey,
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
}

pub(super) struct Harness {
    pub(super) connects: VecDeque<Connect>,
    /// Dialed sockets by shard and slot.
    pub(super) far: BTreeMap<(usize, Slot), Far>,
    pub(super) cancelled: Vec<DialKey>,
    pub(super) dialed: Vec<(DialKey, Result<Dialed, DialError>)>,
    /// Questions to the registry, with the shards that ask.
    pub(super) lookups: Vec<(usize, Lookup)>,
    /// What the registry was told to forget.
    pub(super) doubts: Vec<PublicKey>,
    /// Slots of dialed sockets that were closed, when `holds_closes` is set.
    pub(super) closes_held: Vec<Slot>,
    pub(super) holds_closes: bool,
    pub(super) cores: Vec<Core>,
    /// The one that all cores share.
    pub(super) directory: SessionDirectory,
    pub(super) wires: Vec<Wire>,
    pub(super) now: Now,
    pub(super) alive: Arc<AtomicUsize>,
    /// Bytes handed to the core in pieces of at most this size.
    pub(super) piece_max: usize,
    /// Bytes handed to the cores so far.
    pub(super) handed_in: u64,
    /// Whether each shard wants connections.
    pub(super) is_accepting: Vec<bool>,
    relay: SecretKey,
    identity: Identities,
    mailboxes: VecDeque<(usize, usize, Message<HeapLease>)>,
    next_slot: Vec<u32>,
    seed: u8,
}

/// Eight local ports of one address for all shards, three connects at once.
pub(super) fn ports() -> PortsConfig {
    PortsConfig {
        sources: vec!["127.0.0.1".parse().unwrap()],
        range: PortSet::range(20_000, 20_007),
        quarantine: Duration::from_secs(1),
        dials_max: 3,
    }
}

/// The identity in the dmsg dialect that is made from `byte`.
pub(super) fn dmsg_identity(byte: u8) -> Arc<Identity> {
    let secret = dmsg::key::SecretKey::from_bytes([byte; 32]).unwrap();
    Arc::new(Identity::new(secret))
}

pub(super) fn secret(byte: u8) -> SecretKey {
    SecretKey::from_seed([byte; 32])
}

impl Harness {
    pub(super) fn new(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    /// As `new`, with other settings.
    pub(super) fn with(shards: u16, change: impl Fn(&mut CoreConfig)) -> Self {
        Self::of_relay(200, shards, change)
    }

    /// As `with`, for the relay whose key is made from `byte`.
    pub(super) fn of_relay(byte: u8, shards: u16, change: impl Fn(&mut CoreConfig)) -> Self {
        let relay = secret(byte);
        let directory = SessionDirectory::default();
        let now = Now::from_nanos(1_000_000_000);
        let cores = (0..shards)
            .map(|shard| {
                let mut config = CoreConfig {
                    shard: ShardId(shard),
                    shards_count: shards,
                    own_key: relay.public(),
                    dmsg_key: None,
                    proxies: Proxies::NONE,
                    offer: Offer {
                        capabilities: 0,
                        streams_max: STREAMS_MAX,
                        stream_window: WINDOW_INITIAL,
                        keepalive_s: 30,
                    },
                    admission: AdmissionLimits {
                        handshakes_max: 50,
                        handshakes_source_max: 50,
                        ..AdmissionLimits::for_sockets(100)
                    },
                    queue: QueueLimits::default(),
                    timeouts: Timeouts::default(),
                    ports: ports().of_shard(shard, shards),
                    mesh: MeshConfig::default(),
                    hash_seed: 0x9e37_79b9_7f4a_7c15,
                };
                change(&mut config);
                ShardCore::new(config, directory.clone(), now)
            })
            .collect();
        Self {
            connects: VecDeque::new(),
            far: BTreeMap::new(),
            cancelled: Vec::new(),
            dialed: Vec::new(),
            lookups: Vec::new(),
            doubts: Vec::new(),
            closes_held: Vec::new(),
            holds_closes: false,
            cores,
            directory,
            wires: Vec::new(),
            now,
            alive: Arc::new(AtomicUsize::new(0)),
            piece_max: usize::MAX,
            handed_in: 0,
            is_accepting: vec![true; usize::from(shards)],
            identity: Identities::new(RelayIdentity::new(&relay), Some(dmsg_identity(byte))),
            relay,
            mailboxes: VecDeque::new(),
            next_slot: vec![0; usize::from(shards)],
            seed: 0,
        }
    }

    fn random(&mut self) -> [u8; 32] {
        self.seed = self.seed.wrapping_add(1);
        let mut random = [self.seed; 32];
        random[0] = 77;
        random
    }

    /// Connects a peer whose key is made from `byte` to a shard.
    pub(super) fn connect(&mut self, byte: u8, shard: usize) -> usize {
        let wire = self.connect_raw(shard);
        self.shake_hands(byte, wire);
        wire
    }

    /// Lets a peer begin its handshake on a socket that was accepted before.
    pub(super) fn shake_hands(&mut self, byte: u8, wire: usize) {
        let relay = self.relay.public();
        self.shake_hands_as(secret(byte).into(), relay, wire);
    }

    fn shake_hands_as(&mut self, identity: peer::Identity, relay: PublicKey, wire: usize) {
        let random = self.random();
        let session = PeerSession::connect(
            identity,
            relay,
            PeerConfig::new(1_700_000_000_000_000_000),
            random,
            self.now,
        )
        .unwrap();
        self.wires[wire].session = Some(session);
        self.run();
    }

    /// Connects a socket that a test drives by hand.
    pub(super) fn connect_raw(&mut self, shard: usize) -> usize {
        self.connect_from(shard, [192, 0, 2, 1])
    }

    /// Makes the relay believe that another one has the peer made from `byte`.
    pub(super) fn believe(&self, shard: u16, link: SessionKey, relay: PublicKey, byte: u8) {
        let link = Place {
            shard: ShardId(shard),
            session: link,
        };
        self.directory
            .hold(secret(byte).public(), Holder { relay, link });
    }

    /// Takes that back.
    pub(super) fn disbelieve(&self, shard: u16, link: SessionKey, byte: u8) {
        let link = Place {
            shard: ShardId(shard),
            session: link,
        };
        self.directory.release(&secret(byte).public(), link);
    }

    /// Lets a connect of the relay stand; what it sends there is kept.
    pub(super) fn stand(&mut self, connect: Connect) -> Slot {
        let slot = Slot(self.next_slot[connect.shard]);
        self.next_slot[connect.shard] += 1;
        self.far.insert((connect.shard, slot), Far::default());
        self.cores[connect.shard].connected(connect.dial, slot, self.now);
        slot
    }

    /// Hands bytes to the core as if they came on a socket that it has dialed.
    pub(super) fn inject_far(&mut self, (shard, slot): (usize, Slot), bytes: &[u8]) {
        self.handed_in += bytes.len() as u64;
        for piece in bytes.chunks(self.piece_max.max(1)) {
            let lease = HeapLease::new(piece, &self.alive);
            self.cores[shard].received(slot, lease, self.now);
        }
    }

    /// Forgets wires that are all closed, so that the next one gets the first slot again.
    pub(super) fn use_slots_again(&mut self) {
        assert!(self.wires.iter().all(|wire| wire.is_closed));
        self.wires.clear();
        self.next_slot.fill(0);
    }

    /// Connects a socket to the listener of the dmsg dialect.
    pub(super) fn connect_dmsg(&mut self, shard: usize, address: [u8; 4]) -> usize {
        let slot = Slot(self.next_slot[shard]);
        self.next_slot[shard] += 1;
        let address = IpAddr::from(address);
        let arrival = Arrival {
            dialect: Dialect::Dmsg,
            source: Source::of(address),
            address: Some(address),
        };
        self.cores[shard].accepted(slot, arrival, self.now);
        self.wire(shard, slot)
    }

    /// Connects a socket from an address.
    pub(super) fn connect_from(&mut self, shard: usize, address: [u8; 4]) -> usize {
        let slot = Slot(self.next_slot[shard]);
        self.next_slot[shard] += 1;
        let source = Source::of(IpAddr::from(address));
        self.cores[shard].accepted(slot, source, self.now);
        self.wire(shard, slot)
    }

    /// Attaches the relay's own session to a shard: its peer has the relay's key.
    pub(super) fn attach(&mut self, byte: u8, shard: usize) -> usize {
        let wire = self.attach_raw(shard, Dialect::Native);
        self.shake_hands(byte, wire);
        wire
    }

    /// The same in the dmsg dialect.
    pub(super) fn attach_dmsg(&mut self, byte: u8, shard: usize) -> usize {
        let wire = self.attach_raw(shard, Dialect::Dmsg);
        self.shake_hands_dmsg(byte, wire);
        wire
    }

    /// Attaches a socket that a test drives by hand.
    pub(super) fn attach_raw(&mut self, shard: usize, dialect: Dialect) -> usize {
        let slot = Slot(self.next_slot[shard]);
        self.next_slot[shard] += 1;
        self.cores[shard].attached(slot, dialect, self.now);
        self.wire(shard, slot)
    }

    /// Connects a peer of the dmsg dialect whose key is made from `byte` to a shard.
    pub(super) fn join_dmsg(&mut self, byte: u8, shard: usize) -> usize {
        let wire = self.connect_dmsg(shard, [192, 0, 2, 1]);
        self.shake_hands_dmsg(byte, wire);
        wire
    }

    fn shake_hands_dmsg(&mut self, byte: u8, wire: usize) {
        let relay = self.identity.dmsg().unwrap().public();
        self.shake_hands_as(dmsg_identity(byte).into(), relay, wire);
    }

    fn wire(&mut self, shard: usize, slot: Slot) -> usize {
        self.wires.push(Wire {
            session: None,
            shard,
            slot,
            is_reading: true,
            raw: Vec::new(),
            events: VecDeque::new(),
            is_closed: false,
            taken_bytes: 0,
            waiting: Vec::new(),
        });
        self.wires.len() - 1
    }

    /// Hands bytes to the core as if they came on the wire.
    pub(super) fn inject(&mut self, wire: usize, bytes: &[u8]) {
        let (shard, slot) = (self.wires[wire].shard, self.wires[wire].slot);
        self.handed_in += bytes.len() as u64;
        for piece in bytes.chunks(self.piece_max.max(1)) {
            let lease = HeapLease::new(piece, &self.alive);
            self.cores[shard].received(slot, lease, self.now);
        }
    }

    /// The peer's socket closes or breaks.
    pub(super) fn end(&mut self, wire: usize, end: RecvEnd) {
        let (shard, slot) = (self.wires[wire].shard, self.wires[wire].slot);
        self.wires[wire].session = None;
        self.cores[shard].receive_ended(slot, end, self.now);
        self.run();
    }

    /// Lets time pass and timers fire.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let step = Duration::from_millis(500).min(end.saturating_since(self.now));
            self.now = self.now + step;
            for core in &mut self.cores {
                core.handle_timeout(self.now);
            }
            self.run();
        }
    }

    /// Carries everything out until nothing moves.
    pub(super) fn run(&mut self) {
        for _ in 0..100_000 {
            let mut moved = self.peers_to_cores();
            for shard in 0..self.cores.len() {
                self.cores[shard].collect_ports(self.now);
                self.cores[shard].flush();
                while let Some(action) = self.cores[shard].poll_action() {
                    moved = true;
                    self.act(shard, action);
                }
            }
            while let Some((source, target, message)) = self.mailboxes.pop_front() {
                moved = true;
                let source = ShardId(u16::try_from(source).unwrap());
                self.cores[target].message(source, message, self.now);
            }
            if !moved {
                self.check();
                return;
            }
        }
        panic!("the cores never come to rest");
    }

    fn peers_to_cores(&mut self) -> bool {
        let mut moved = false;
        for wire in 0..self.wires.len() {
            if self.wires[wire].is_closed {
                continue;
            }
            let mut out = Vec::new();
            let Wire {
                session, events, ..
            } = &mut self.wires[wire];
            if let Some(session) = session {
                session.transmit(&mut out, 1 << 20);
                while let Some(event) = session.poll_event() {
                    moved = true;
                    events.push_back(event);
                }
            }
            if !out.is_empty() {
                moved = true;
                self.inject(wire, &out);
            }
        }
        moved
    }

    fn act(&mut self, shard: usize, action: Action<HeapLease>) {
        match action {
            Action::CancelSend { slot } => self.cancel_send(shard, slot),
            Action::CancelConnect { dial } => self.cancelled.push(dial),
            Action::Close { slot } if self.is_dialed(shard, slot) && self.holds_closes => {
                self.closes_held.push(slot);
            }
            Action::Close { slot } if self.is_dialed(shard, slot) => {
                if let Some(far) = self.far.get_mut(&(shard, slot)) {
                    far.is_closed = true;
                }
                self.cores[shard].closed(slot);
            }
            Action::Connect {
                dial,
                source,
                target,
            } => self.connects.push_back(Connect {
                shard,
                dial,
                source,
                target,
            }),
            Action::Dialed { dial, outcome } => self.dialed.push((dial, outcome)),
            Action::Close { slot } => self.close(shard, slot),
            Action::Doubt { key } => self.doubts.push(key),
            Action::LookUp(lookup) => self.lookups.push((shard, lookup)),
            Action::Compute(job) => {
                let random = self.random();
                let result = job.run(&self.identity, random);
                self.cores[shard].computed(result, self.now);
            }
            Action::Message { target, message } => {
                self.mailboxes
                    .push_back((shard, usize::from(target.0), message));
            }
            Action::PauseAccept => self.is_accepting[shard] = false,
            Action::ResumeAccept => self.is_accepting[shard] = true,
            Action::Send { slot, batch } if self.far.contains_key(&(shard, slot)) => {
                let far = self.far.entry((shard, slot)).or_default();
                batch.for_each_slice(|slice| far.out.extend_from_slice(slice));
                let count = u32::try_from(batch.len()).unwrap();
                self.cores[shard].sent(slot, batch, Ok(count), self.now);
            }
            Action::Send { slot, batch } => {
                let wire = self.wire_of(shard, slot);
                self.wires[wire].waiting.push(batch);
                self.deliver(wire);
            }
        }
    }

    fn cancel_send(&mut self, shard: usize, slot: Slot) {
        let wire = self.wire_of(shard, slot);
        for batch in std::mem::take(&mut self.wires[wire].waiting) {
            let count = std::mem::take(&mut self.wires[wire].taken_bytes);
            let mut bytes = Vec::new();
            batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            let result = match count {
                0 => Err(125),
                count => Ok(u32::try_from(count).unwrap()),
            };
            if let Some(session) = self.wires[wire].session.as_mut() {
                let _shows_in_events = session.receive(&bytes[..count], self.now);
            }
            self.cores[shard].sent(slot, batch, result, self.now);
        }
    }

    /// The relay closes an accepted socket.
    fn close(&mut self, shard: usize, slot: Slot) {
        let wire = self.wire_of(shard, slot);
        self.wires[wire].is_closed = true;
        for batch in std::mem::take(&mut self.wires[wire].waiting) {
            self.cores[shard].sent(slot, batch, Err(125), self.now);
        }
        let Wire {
            session, events, ..
        } = &mut self.wires[wire];
        if let Some(session) = session {
            session.eof(self.now);
            while let Some(event) = session.poll_event() {
                events.push_back(event);
            }
        }
        self.cores[shard].closed(slot);
    }

    /// Does what a test has taken out of the core.
    pub(super) fn compute(&mut self, shard: usize, jobs: Vec<crate::core::Job>) {
        for job in jobs {
            self.act(shard, Action::Compute(job));
        }
    }

    /// The kernel takes `count` bytes of the send that waits, and says so.
    pub(super) fn take_short(&mut self, wire: usize, count: usize) {
        let (shard, slot) = (self.wires[wire].shard, self.wires[wire].slot);
        for batch in std::mem::take(&mut self.wires[wire].waiting) {
            let mut bytes = Vec::new();
            batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            if let Some(session) = self.wires[wire].session.as_mut() {
                let _shows_in_events = session.receive(&bytes[..count], self.now);
            }
            let count = u32::try_from(count).unwrap();
            self.cores[shard].sent(slot, batch, Ok(count), self.now);
        }
        self.run();
    }

    /// Lets the relay's sends arrive.
    pub(super) fn deliver(&mut self, wire: usize) {
        if !self.wires[wire].is_reading {
            return;
        }
        let (shard, slot) = (self.wires[wire].shard, self.wires[wire].slot);
        for batch in std::mem::take(&mut self.wires[wire].waiting) {
            let mut bytes = Vec::new();
            batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            assert_eq!(bytes.len(), batch.len());
            match self.wires[wire].session.as_mut() {
                Some(session) => {
                    // An error of the peer's side shows in its events.
                    let _shows_in_events = session.receive(&bytes, self.now);
                }
                None => self.wires[wire].raw.extend_from_slice(&bytes),
            }
            let count = u32::try_from(bytes.len()).unwrap();
            self.cores[shard].sent(slot, batch, Ok(count), self.now);
        }
    }

    /// Returns whether no peer's wire is in the slot.
    fn is_dialed(&self, shard: usize, slot: Slot) -> bool {
        let mut wires = self.wires.iter();
        !wires.any(|wire| wire.shard == shard && wire.slot == slot)
    }

    pub(super) fn wire_of(&self, shard: usize, slot: Slot) -> usize {
        self.wires
            .iter()
            .position(|wire| wire.shard == shard && wire.slot == slot)
            .unwrap()
    }

    fn check(&self) {
        for core in &self.cores {
            assert_eq!(core.stats().broken_laws(), Vec::<String>::new());
        }
    }

    /// Asserts that nothing is owned any more.
    pub(super) fn assert_clean(&mut self) {
        for shard in 0..self.cores.len() {
            self.cores[shard].shutdown(self.now);
        }
        self.run();
        for core in &self.cores {
            assert!(core.is_drained());
            assert!(core.audit().is_zero(), "{:?}", core.audit());
        }
        assert_eq!(self.alive.load(Ordering::Relaxed), 0, "leases leaked");
    }

    pub(super) fn session(&mut self, wire: usize) -> &mut PeerSession {
        self.wires[wire].session.as_mut().unwrap()
    }

    pub(super) fn take_events(&mut self, wire: usize) -> Vec<PeerEvent> {
        self.wires[wire].events.drain(..).collect()
    }

    /// Opens a stream to the peer made from `byte`, without waiting for the answer.
    pub(super) fn open(&mut self, from: usize, byte: u8, port: u16) -> StreamId {
        self.open_from(from, 50_000, byte, port)
    }

    /// The same with a source port.
    pub(super) fn open_from(&mut self, from: usize, source: u16, byte: u8, port: u16) -> StreamId {
        self.open_at(from, source, Address::new(secret(byte).public(), port))
    }

    /// Opens a stream from a port to the peer of the dmsg dialect made from `byte`.
    pub(super) fn open_dmsg(&mut self, from: usize, source: u16, byte: u8) -> StreamId {
        self.open_at(from, source, Address::new(dmsg_identity(byte).public(), 80))
    }

    /// Opens a stream to whoever has a key.
    pub(super) fn open_key(&mut self, from: usize, key: PublicKey) -> StreamId {
        self.open_at(from, 50_000, Address::new(key, 80))
    }

    fn open_at(&mut self, from: usize, source: u16, address: Address) -> StreamId {
        let random = self.random();
        self.session(from)
            .open(address, source, 1_700_000_000_000_000_000, random)
            .unwrap()
    }

    /// Opens a stream and lets the destination accept; returns both ends.
    pub(super) fn bridge(&mut self, from: usize, to: usize, byte: u8) -> (StreamId, StreamId) {
        let opened = self.open(from, byte, 80);
        self.run();
        let accepted = self.accept(to);
        self.run();
        assert!(
            self.take_events(from).iter().any(
                |event| matches!(event, PeerEvent::Opened { stream, .. } if *stream == opened)
            )
        );
        (opened, accepted)
    }

    /// Accepts the open that waits at a peer.
    pub(super) fn accept(&mut self, to: usize) -> StreamId {
        let random = self.random();
        let events = self.take_events(to);
        let incoming = events.into_iter().find_map(|event| match event {
            PeerEvent::Incoming {
                stream, request, ..
            } => Some((stream, request)),
            _ => None,
        });
        let (stream, request) = incoming.expect("an open request");
        self.session(to).accept(stream, request, random).unwrap();
        stream
    }

    /// Sends all of `bytes` from one end and returns what the other end read.
    pub(super) fn transfer(
        &mut self,
        from: (usize, StreamId),
        to: (usize, StreamId),
        bytes: &[u8],
    ) -> Vec<u8> {
        let mut received = Vec::new();
        let mut sent = 0;
        let mut buffer = vec![0; 65_536];
        for _ in 0..1_000_000 {
            if sent < bytes.len() {
                sent += self.session(from.0).write(from.1, &bytes[sent..]).unwrap();
            }
            self.run();
            loop {
                let count = self.session(to.0).read(to.1, &mut buffer).unwrap();
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
}
