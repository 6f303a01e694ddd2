//! The sockets, peers and cores of a run.
//!
//! Here: what an operation does, and the driver that carries out the actions of the cores. Not here: what
//! must hold (`shard_core`), which bytes are right (`book`).
//!
//! Invariant: the driver does to a core what the data thread may do: one send in flight for each socket,
//! no slot reused before its close was reported, messages of a pair of shards in order.

mod dials;
mod dmsg;
mod drive;
mod keys;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Identities;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::peer::{PeerConfig, PeerSession};
use ringway_proto::time::Now;
use ringway_shards::core::{
    AdmissionLimits, Arrival, CoreConfig, Job, MeshConfig, Message, Proxies, QueueLimits, RecvEnd,
    ShardCore, ShardId, Slot, Source, Timeouts,
};
use ringway_shards::ports::{PortSet, PortsConfig};

use self::dials::Dials;
use self::keys::{identity, other_spelling, relay_dmsg};
use self::socket::{Party, Socket};
use super::book::{Book, End};
use super::operation::{Operation, Setting, Step};
use crate::hostile::Hostile;
use crate::memory::{HeapLease, Map, Memory};

pub(super) const SHARDS: usize = 2;
pub(super) const SLOTS: usize = 4;

/// Streams that the relay offers to each session.
pub(super) const STREAMS_MAX: u32 = 16;

const SOCKETS: usize = SHARDS * SLOTS;
const UNIX_NS: u64 = 1_700_000_000_000_000_000;

/// Rounds in which everything must have come to rest: a byte crosses the relay in a handful.
pub(super) const ROUNDS_MAX: u32 = 20_000;

/// What one shard's driver has not done yet.
#[derive(Default)]
struct Late {
    mail: VecDeque<(ShardId, Message<HeapLease>)>,
    jobs: Vec<Job>,
    closes: Vec<usize>,
    holds_mail: bool,
    holds_jobs: bool,
    holds_closes: bool,
}

/// What there is to know of a connection for as long as the run lasts.
#[derive(Clone, Copy)]
struct Connection {
    /// It said only what an honest peer says.
    is_honest: bool,
    /// Whose it is.
    key: Option<PublicKey>,
    /// When the core was told of it.
    accepted_at: Now,
}

/// See the module.
pub(super) struct World {
    pub(super) cores: Vec<ShardCore<HeapLease, Map>>,
    pub(super) memory: Memory,
    pub(super) directory: Map,
    pub(super) queue: QueueLimits,
    pub(super) dials: Dials,
    late: Vec<Late>,
    sockets: Vec<Option<Socket>>,
    book: Book,
    connections: Vec<Connection>,
    identity: Identities,
    now: Now,
    piece: usize,
    randoms: u64,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let native = RelayIdentity::new(&SecretKey::from_seed([1; 32]));
        let identity = Identities::new(native, Some(relay_dmsg()));
        let directory = Map::default();
        let now = Now::from_nanos(1_000_000_000);
        let queue = if setting.is_tight {
            QueueLimits {
                session_bytes_max: 524_288,
                shard_bytes_max: 1_048_576,
            }
        } else {
            QueueLimits::default()
        };
        let slice_ports = 1 + u16::from(setting.slice_ports % 4);
        let ports = PortsConfig {
            range: PortSet::range(
                dials::PORT_MIN,
                dials::PORT_MIN + slice_ports * number(SHARDS) - 1,
            ),
            dials_max: dials::DIALS_MAX,
            ..PortsConfig::default()
        };
        let cores = (0..SHARDS)
            .map(|shard| {
                let config = CoreConfig {
                    shard: ShardId(number(shard)),
                    shards_count: number(SHARDS),
                    own_key: identity.public(),
                    dmsg_key: identity.dmsg().map(|identity| identity.public()),
                    proxies: match setting.believes_all {
                        true => Proxies::All,
                        false => Proxies::NONE,
                    },
                    offer: Offer {
                        capabilities: 0,
                        streams_max: STREAMS_MAX,
                        stream_window: 262_144,
                        keepalive_s: 30,
                    },
                    admission: AdmissionLimits {
                        handshakes_max: 1 + u32::from(setting.handshakes_max % 4),
                        handshakes_source_max: 1 + u32::from(setting.handshakes_source_max % 4),
                        ..AdmissionLimits::for_sockets(u32::try_from(SLOTS).expect("four slots"))
                    },
                    queue,
                    ports: ports.of_shard(number(shard), number(SHARDS)),
                    timeouts: Timeouts::default(),
                    mesh: MeshConfig::default(),
                    hash_seed: 7,
                };
                ShardCore::new(config, directory.clone(), now)
            })
            .collect();
        Self {
            cores,
            memory: Memory::default(),
            directory,
            queue,
            dials: Dials::new(slice_ports),
            late: (0..SHARDS).map(|_| Late::default()).collect(),
            sockets: (0..SOCKETS).map(|_| None).collect(),
            book: Book::default(),
            connections: Vec::new(),
            identity,
            now,
            piece: usize::from(setting.piece).max(1) * 16,
            randoms: 0,
        }
    }

    /// Returns the sockets of a shard whose close was not reported.
    pub(super) fn sockets_count(&self, shard: usize) -> u64 {
        self.sockets[shard * SLOTS..][..SLOTS]
            .iter()
            .flatten()
            .count() as u64
    }

    /// Returns the sends of a shard that have not completed.
    pub(super) fn batches_count(&self, shard: usize) -> u64 {
        let sockets = self.sockets[shard * SLOTS..][..SLOTS].iter().flatten();
        sockets.filter(|socket| socket.sending.is_some()).count() as u64
    }

    pub(super) fn is_mail_empty(&self) -> bool {
        self.late.iter().all(|late| late.mail.is_empty())
    }

    /// Does one operation; what follows from it is left to [`World::settle`].
    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Common(operation) => self.step_of_relay(operation),
            Step::Dmsg(operation) => self.step_of_dmsg(operation),
        }
    }

    /// What happens at the relay itself.
    fn step_of_relay(&mut self, operation: &Operation) {
        match operation {
            Operation::Accept { socket, key } => {
                self.accept_honest(*socket, &identity(Dialect::Native, *key));
            }
            Operation::AcceptHostile { socket, key } => {
                self.accept_hostile(*socket, identity(Dialect::Native, *key));
            }
            Operation::AcceptStranger { socket } => {
                self.accept(*socket, Party::Nobody, Dialect::Native, None);
            }
            Operation::ConnectOutcome { which, outcome } => {
                self.connect_outcome(*which, *outcome);
            }
            Operation::Dial { shard, is_v6 } => self.dial(usize::from(*shard), *is_v6),
            Operation::Drain { shard } => self.cores[usize::from(*shard)].drain(self.now),
            Operation::Eof { socket } => self.end_receiving(*socket, RecvEnd::Eof),
            Operation::Error { socket } => self.end_receiving(*socket, RecvEnd::Error(104)),
            Operation::HangUp { which } => self.hang_up(*which),
            Operation::HoldCloses { shard, is_held } => {
                self.late[usize::from(*shard)].holds_closes = *is_held;
            }
            Operation::HoldJobs { shard, is_held } => {
                self.late[usize::from(*shard)].holds_jobs = *is_held;
            }
            Operation::HoldMail { shard, is_held } => {
                self.late[usize::from(*shard)].holds_mail = *is_held;
            }
            Operation::Kick { key } => {
                for dialect in Dialect::ALL {
                    let key = identity(dialect, *key).public();
                    for core in &mut self.cores {
                        core.kick(&key, self.now);
                    }
                }
            }
            Operation::Raw { socket, bytes } => self.raw(*socket, bytes),
            Operation::Relieve { shard } => self.cores[usize::from(*shard)].relieve(self.now),
            Operation::Shutdown { shard } => self.cores[usize::from(*shard)].shutdown(self.now),
            Operation::Tick { ms } => {
                self.advance(self.now + Duration::from_millis(u64::from(*ms)));
            }
            Operation::TickToDeadline { shard } => {
                if let Some(deadline) = self.cores[usize::from(*shard)].next_deadline() {
                    self.advance(self.now.max(deadline));
                }
            }
            _ => self.step_of_peer(operation),
        }
    }

    /// What one party does in its session, and what becomes of its socket.
    fn step_of_peer(&mut self, operation: &Operation) {
        match operation {
            Operation::Answer {
                socket,
                reason_code,
                has_hash,
                is_signed,
            } => {
                if let Some(hostile) = self.hostile(*socket) {
                    hostile.answer(*reason_code, *has_hash, *is_signed);
                }
            }
            Operation::FailSend { socket } => self.fail_send(*socket),
            Operation::Finish { socket, which } => {
                self.with_stream(*socket, *which, |peer, end| _ = peer.finish(end.stream));
            }
            Operation::Frame {
                socket,
                kind,
                flags,
                stream,
                length,
            } => {
                let mut bytes = vec![0, *kind % 5, 0, *flags, 0, 0, 0, *stream];
                bytes.extend_from_slice(&length.to_be_bytes());
                if let Some(hostile) = self.hostile(*socket) {
                    hostile.say(&bytes);
                } else {
                    self.raw(*socket, &bytes);
                }
            }
            Operation::HoldSends { socket, is_held } => {
                if let Some(socket) = self.socket(*socket) {
                    socket.is_held = *is_held;
                }
            }
            Operation::Open { socket, key, port } => self.open(*socket, *key, *port, false),
            Operation::Ping { socket } => {
                let now = self.now;
                if let Some(Party::Honest(peer)) = self.party(*socket) {
                    peer.ping(now);
                }
            }
            Operation::Request {
                socket,
                key,
                stream,
                wrong,
            } => {
                if let Some(hostile) = self.hostile(*socket) {
                    let to = Address::new(identity(hostile.dialect(), *key).public(), 7);
                    hostile.request(u32::from(*stream), to, UNIX_NS, *wrong);
                }
            }
            Operation::Reset { socket, which } => {
                self.with_stream(*socket, *which, |peer, end| _ = peer.reset(end.stream));
            }
            Operation::ShortSends { socket, bytes } => {
                if let Some(socket) = self.socket(*socket) {
                    socket.send_bytes_max = usize::from(*bytes).max(1);
                }
            }
            Operation::Write {
                socket,
                which,
                bytes,
            } => self.write(*socket, *which, usize::from(*bytes)),
            _ => {}
        }
    }

    fn accept_honest(&mut self, socket: u8, identity: &Identity) {
        let random = self.random();
        let peer = PeerSession::connect(
            identity.clone(),
            self.relay_key(identity.dialect()),
            PeerConfig::new(UNIX_NS),
            random,
            self.now,
        );
        let party = peer.map_or(Party::Nobody, |peer| Party::Honest(Box::new(peer)));
        self.accept(socket, party, identity.dialect(), Some(identity.public()));
    }

    fn accept_hostile(&mut self, socket: u8, identity: Identity) {
        let random = self.random();
        let (dialect, key) = (identity.dialect(), identity.public());
        let hostile = Hostile::connect(identity, &self.relay_key(dialect), random);
        let party = Party::Hostile(Box::new(hostile));
        self.accept(socket, party, dialect, Some(key));
    }

    fn accept(&mut self, socket: u8, party: Party, dialect: Dialect, key: Option<PublicKey>) {
        let index = usize::from(socket) % SOCKETS;
        if self.sockets[index].is_some() {
            return;
        }
        let is_honest = matches!(party, Party::Honest(_));
        let connection = self.connect(is_honest, key);
        self.sockets[index] = Some(Socket::new(party, connection));
        // Three places: one of a source's sockets may be refused for the others.
        let address = Ipv4Addr::new(127, 0, 0, socket / 8 % 3).into();
        let arrival = Arrival {
            dialect,
            source: Source::of(address),
            address: Some(address),
        };
        self.cores[index / SLOTS].accepted(slot_of(index), arrival, self.now);
    }

    /// Returns the relay's key in a dialect.
    fn relay_key(&self, dialect: Dialect) -> PublicKey {
        match (dialect, self.identity.dmsg()) {
            (Dialect::Dmsg, Some(identity)) => identity.public(),
            _ => self.identity.public(),
        }
    }

    /// Notes a connection; returns its number.
    fn connect(&mut self, is_honest: bool, key: Option<PublicKey>) -> u64 {
        self.connections.push(Connection {
            is_honest,
            key,
            accepted_at: self.now,
        });
        self.connections.len() as u64 - 1
    }

    fn connection(&mut self, number: u64) -> &mut Connection {
        &mut self.connections[usize_of(number)]
    }

    /// An honest peer asks for a key of its own dialect, or for one of the other spelled as one of its own.
    fn open(&mut self, socket: u8, key: u8, port: u8, is_across: bool) {
        let random = self.random();
        let source_port = self.book.next_port();
        let index = usize::from(socket) % SOCKETS;
        if let Some(socket) = &mut self.sockets[index]
            && let Some(own) = self.connections[usize_of(socket.connection)].key
            && let Party::Honest(peer) = &mut socket.party
            && let Some(key) = match is_across {
                true => other_spelling(own.dialect(), key),
                false => Some(identity(own.dialect(), key).public()),
            }
            && let destination = Address::new(key, u16::from(port))
            && let Ok(stream) = peer.open(destination, source_port, UNIX_NS, random)
        {
            let entry = Some(self.book.opened(socket.connection, is_across));
            let side = 0;
            socket.ends.push(End {
                stream,
                entry,
                side,
            });
        }
    }

    fn write(&mut self, socket: u8, which: u8, count: usize) {
        let index = usize::from(socket) % SOCKETS;
        if let Some(socket) = &mut self.sockets[index]
            && let Some(end) = socket.end(which)
            && let Party::Honest(peer) = &mut socket.party
        {
            let bytes = self.book.bytes(end, count);
            if let Ok(count) = peer.write(end.stream, &bytes) {
                self.book.wrote(end, count);
            }
        }
    }

    /// Bytes that nobody answers for: whoever holds the connection is not honest any more.
    fn raw(&mut self, socket: u8, bytes: &[u8]) {
        let index = usize::from(socket) % SOCKETS;
        let Some(socket) = &self.sockets[index] else {
            return;
        };
        let (number, is_receiving) = (socket.connection, socket.is_receiving);
        self.connection(number).is_honest = false;
        if is_receiving && !bytes.is_empty() {
            let lease = self.memory.lease(bytes);
            self.cores[index / SLOTS].received(slot_of(index), lease, self.now);
        }
    }

    fn end_receiving(&mut self, socket: u8, end: RecvEnd) {
        let index = usize::from(socket) % SOCKETS;
        let Some(socket) = &mut self.sockets[index] else {
            return;
        };
        if std::mem::take(&mut socket.is_receiving) {
            socket.party = Party::Nobody;
            self.cores[index / SLOTS].receive_ended(slot_of(index), end, self.now);
        }
    }

    /// The send in flight of a socket fails, as after a reset.
    fn fail_send(&mut self, socket: u8) {
        let index = usize::from(socket) % SOCKETS;
        if let Some(socket) = &mut self.sockets[index]
            && let Some(batch) = socket.sending.take()
        {
            socket.party = Party::Nobody;
            self.cores[index / SLOTS].sent(slot_of(index), batch, Err(32), self.now);
        }
    }

    /// Lets time pass for everybody. A core that has just done what was due must not ask again at once,
    /// or the data thread would never block.
    fn advance(&mut self, now: Now) {
        self.now = now;
        for core in &mut self.cores {
            core.handle_timeout(now);
            assert!(
                core.next_deadline().is_none_or(|deadline| deadline > now),
                "a deadline that has passed"
            );
        }
        for socket in self.sockets.iter_mut().flatten() {
            if let Party::Honest(peer) = &mut socket.party {
                peer.handle_timeout(now);
            }
        }
    }

    fn with_stream(&mut self, socket: u8, which: u8, act: impl FnOnce(&mut PeerSession, End)) {
        if let Some(socket) = self.socket(socket)
            && let Some(end) = socket.end(which)
            && let Party::Honest(peer) = &mut socket.party
        {
            act(peer, end);
        }
    }

    fn hostile(&mut self, socket: u8) -> Option<&mut Hostile> {
        match self.party(socket) {
            Some(Party::Hostile(hostile)) => Some(hostile),
            Some(Party::Honest(_) | Party::Nobody) | None => None,
        }
    }

    fn party(&mut self, socket: u8) -> Option<&mut Party> {
        self.socket(socket).map(|socket| &mut socket.party)
    }

    fn socket(&mut self, socket: u8) -> Option<&mut Socket> {
        self.sockets[usize::from(socket) % SOCKETS].as_mut()
    }

    /// Returns 32 bytes that no earlier call returned.
    fn random(&mut self) -> [u8; 32] {
        self.randoms += 1;
        let mut random = [0x11; 32];
        random[..8].copy_from_slice(&self.randoms.to_be_bytes());
        random
    }
}

/// Returns the number of a shard, or how many there are.
fn number(shard: usize) -> u16 {
    u16::try_from(shard).expect("two shards")
}

/// Returns the place of a connection in the run.
fn usize_of(connection: u64) -> usize {
    usize::try_from(connection).expect("a count of operations")
}

fn slot_of(index: usize) -> Slot {
    Slot(u32::try_from(index % SLOTS).expect("four slots"))
}
