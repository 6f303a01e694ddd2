#![no_main]
//! Two shard cores, four sockets each, and operations on them in any order: honest peers that open,
//! write, finish and reset; sockets that take little, fail or end; bytes no honest peer would send. At
//! the end everything is closed and the books of both cores must be empty.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_fuzz::{HeapLease, Map, Memory};
use ringway_proto::dialect::Dialect;
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;
use ringway_shards::batch::Batch;
use ringway_shards::core::{Action, CoreConfig, Message, RecvEnd, ShardCore, ShardId, Slot};

#[derive(Arbitrary, Debug)]
struct Input {
    operations: Vec<Operation>,
    piece: u8,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Accept {
        socket: u8,
        key: u8,
    },
    Drain {
        shard: bool,
    },
    Eof {
        socket: u8,
    },
    Error {
        socket: u8,
    },
    Finish {
        socket: u8,
        which: u8,
    },
    Frame {
        socket: u8,
        kind: u8,
        flags: u8,
        stream: u8,
        length: u32,
    },
    HoldSends {
        socket: u8,
        is_held: bool,
    },
    Kick {
        key: u8,
    },
    Open {
        socket: u8,
        key: u8,
        port: u8,
    },
    Raw {
        socket: u8,
        bytes: Vec<u8>,
    },
    Reset {
        socket: u8,
        which: u8,
    },
    ShortSends {
        socket: u8,
        bytes: u16,
    },
    Tick {
        ms: u16,
    },
    Write {
        socket: u8,
        which: u8,
        bytes: u16,
    },
}

const SHARDS: usize = 2;
const SLOTS: usize = 4;
const SOCKETS: usize = SHARDS * SLOTS;
const UNIX_NS: u64 = 1_700_000_000_000_000_000;

/// Rounds in which everything must have come to rest: a byte crosses the relay in a handful.
const ROUNDS_MAX: u32 = 20_000;

fuzz_target!(|input: Input| {
    let mut run = Run::new(input.piece);
    for operation in input.operations.iter().take(300) {
        run.step(operation);
        run.settle();
    }
    run.end();
});

/// One accepted socket, seen from the network.
struct Socket {
    peer: Option<PeerSession>,
    streams: Vec<StreamId>,
    held: VecDeque<Batch<HeapLease>>,
    is_held: bool,
    send_bytes_max: usize,
    is_receiving: bool,
}

struct Run {
    cores: Vec<ShardCore<HeapLease, Map>>,
    mailboxes: Vec<VecDeque<(ShardId, Message<HeapLease>)>>,
    sockets: Vec<Option<Socket>>,
    identity: RelayIdentity,
    memory: Memory,
    directory: Map,
    now: Now,
    piece: usize,
    randoms: u64,
}

impl Run {
    fn new(piece: u8) -> Self {
        let identity = RelayIdentity::new(&SecretKey::from_seed([1; 32]));
        let directory = Map::default();
        let now = Now::from_nanos(1_000_000_000);
        let cores = (0..SHARDS)
            .map(|shard| {
                let config = CoreConfig {
                    shard: ShardId(u16::try_from(shard).expect("two shards")),
                    own_key: identity.public(),
                    dialect: Dialect::Native,
                    offer: Offer {
                        capabilities: 0,
                        streams_max: 16,
                        stream_window: 262_144,
                        keepalive_s: 30,
                    },
                    sockets_max: u32::try_from(SLOTS).expect("four slots"),
                    handshakes_max: 4,
                    hash_seed: 7,
                };
                ShardCore::new(config, directory.clone(), now)
            })
            .collect();
        Self {
            cores,
            mailboxes: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            sockets: (0..SOCKETS).map(|_| None).collect(),
            identity,
            memory: Memory::default(),
            directory,
            now,
            piece: usize::from(piece).max(1) * 16,
            randoms: 0,
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Accept { socket, key } => self.accept(*socket, *key),
            Operation::Drain { shard } => self.cores[usize::from(*shard)].drain(self.now),
            Operation::Eof { socket } => self.end_receiving(*socket, RecvEnd::Eof),
            Operation::Error { socket } => self.end_receiving(*socket, RecvEnd::Error(104)),
            Operation::Finish { socket, which } => {
                self.with_stream(*socket, *which, |peer, stream| _ = peer.finish(stream));
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
                self.raw(*socket, &bytes);
            }
            Operation::HoldSends { socket, is_held } => {
                if let Some(socket) = self.socket(*socket) {
                    socket.is_held = *is_held;
                }
            }
            Operation::Kick { key } => {
                let key = secret(*key).public();
                for core in &mut self.cores {
                    core.kick(&key, self.now);
                }
            }
            Operation::Open { socket, key, port } => {
                let destination = Address::new(secret(*key).public(), u16::from(*port));
                let random = self.random();
                if let Some(socket) = self.socket(*socket)
                    && let Some(peer) = &mut socket.peer
                    && let Ok(stream) = peer.open(destination, 50_000, UNIX_NS, random)
                {
                    socket.streams.push(stream);
                }
            }
            Operation::Raw { socket, bytes } => self.raw(*socket, bytes),
            Operation::Reset { socket, which } => {
                self.with_stream(*socket, *which, |peer, stream| _ = peer.reset(stream));
            }
            Operation::ShortSends { socket, bytes } => {
                if let Some(socket) = self.socket(*socket) {
                    socket.send_bytes_max = usize::from(*bytes).max(1);
                }
            }
            Operation::Tick { ms } => {
                self.now = self.now + Duration::from_millis(u64::from(*ms));
                for core in &mut self.cores {
                    core.handle_timeout(self.now);
                }
                for socket in self.sockets.iter_mut().flatten() {
                    if let Some(peer) = &mut socket.peer {
                        peer.handle_timeout(self.now);
                    }
                }
            }
            Operation::Write {
                socket,
                which,
                bytes,
            } => {
                let payload = vec![0xc3; usize::from(*bytes)];
                self.with_stream(*socket, *which, |peer, stream| {
                    _ = peer.write(stream, &payload);
                });
            }
        }
    }

    fn accept(&mut self, socket: u8, key: u8) {
        let index = usize::from(socket) % SOCKETS;
        let random = self.random();
        if self.sockets[index].is_some() {
            return;
        }
        let peer = PeerSession::connect(
            Arc::new(secret(key)),
            self.identity.public(),
            PeerConfig::new(UNIX_NS),
            random,
            self.now,
        );
        self.sockets[index] = Some(Socket {
            peer: peer.ok(),
            streams: Vec::new(),
            held: VecDeque::new(),
            is_held: false,
            send_bytes_max: usize::MAX,
            is_receiving: true,
        });
        self.cores[index / SLOTS].accepted(slot_of(index), self.now);
    }

    fn raw(&mut self, socket: u8, bytes: &[u8]) {
        let index = usize::from(socket) % SOCKETS;
        if self.sockets[index]
            .as_ref()
            .is_some_and(|socket| socket.is_receiving)
            && !bytes.is_empty()
        {
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
            socket.peer = None;
            self.cores[index / SLOTS].receive_ended(slot_of(index), end, self.now);
        }
    }

    /// Moves bytes, messages and results until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut is_moving = false;
            for index in 0..SOCKETS {
                is_moving |= self.transmit(index);
            }
            for shard in 0..SHARDS {
                while let Some((source, message)) = self.mailboxes[shard].pop_front() {
                    self.cores[shard].message(source, message, self.now);
                    is_moving = true;
                }
                self.cores[shard].flush();
                while let Some(action) = self.cores[shard].poll_action() {
                    self.act(shard, action);
                    is_moving = true;
                }
            }
            for index in 0..SOCKETS {
                is_moving |= self.release(index);
            }
            if !is_moving {
                return;
            }
        }
        panic!("still moving after {ROUNDS_MAX} rounds");
    }

    /// Hands the relay what the peer of a socket has to say.
    fn transmit(&mut self, index: usize) -> bool {
        let mut out = Vec::new();
        let bytes_max = self.piece;
        let randoms = [self.random(), self.random()];
        let Some(socket) = &mut self.sockets[index] else {
            return false;
        };
        let Some(peer) = &mut socket.peer else {
            return false;
        };
        while let Some(event) = peer.poll_event() {
            match event {
                PeerEvent::Incoming {
                    stream,
                    port,
                    request,
                    ..
                } if port % 4 == 0 => {
                    _ = peer.refuse(stream, request, Reason::NoListener);
                }
                PeerEvent::Incoming {
                    stream, request, ..
                } => {
                    if peer.accept(stream, request, randoms[0]).is_ok() {
                        socket.streams.push(stream);
                    }
                }
                // A stream on an odd place is never read: a slow consumer.
                PeerEvent::Readable { stream } if stream.as_u32() % 4 < 3 => {
                    while matches!(peer.read(stream, &mut [0; 16_384]), Ok(count) if count > 0) {}
                }
                _ => {}
            }
        }
        if peer.transmit(&mut out, bytes_max) == 0 || !socket.is_receiving {
            return false;
        }
        let lease = self.memory.lease(&out);
        self.cores[index / SLOTS].received(slot_of(index), lease, self.now);
        true
    }

    fn act(&mut self, shard: usize, action: Action<HeapLease>) {
        match action {
            Action::Close { slot } => {
                let index = shard * SLOTS + slot.0 as usize;
                if let Some(socket) = self.sockets[index].take() {
                    for batch in socket.held {
                        self.cores[shard].sent(slot, batch, Err(125), self.now);
                    }
                }
                self.cores[shard].closed(slot);
            }
            Action::Compute(job) => {
                let random = self.random();
                let result = job.run(&self.identity, random);
                self.cores[shard].computed(result, self.now);
            }
            Action::Message { target, message } => {
                let source = ShardId(u16::try_from(shard).expect("two shards"));
                self.mailboxes[usize::from(target.0)].push_back((source, message));
            }
            Action::PauseAccept | Action::ResumeAccept => {}
            Action::Send { slot, batch } => {
                let index = shard * SLOTS + slot.0 as usize;
                let socket = self.sockets[index]
                    .as_mut()
                    .expect("a send on an open socket");
                assert!(socket.held.is_empty(), "two sends in flight on one socket");
                socket.held.push_back(batch);
            }
        }
    }

    /// Completes the send in flight of a socket, unless it is held.
    fn release(&mut self, index: usize) -> bool {
        let Some(socket) = &mut self.sockets[index] else {
            return false;
        };
        if socket.is_held {
            return false;
        }
        let Some(batch) = socket.held.pop_front() else {
            return false;
        };
        let mut bytes = Vec::new();
        batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
        assert_eq!(bytes.len(), batch.len());
        assert!(!bytes.is_empty(), "an empty send");
        bytes.truncate(socket.send_bytes_max);
        if let Some(peer) = &mut socket.peer {
            // An honest peer may refuse what a dishonest one has brought about; it then hangs up.
            if peer.receive(&bytes, self.now).is_err() {
                socket.peer = None;
            }
        }
        let count = u32::try_from(bytes.len()).expect("a batch is bounded");
        self.cores[index / SLOTS].sent(slot_of(index), batch, Ok(count), self.now);
        true
    }

    /// Closes everything and looks at the books.
    fn end(mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            socket.is_held = false;
        }
        for core in &mut self.cores {
            core.shutdown(self.now);
        }
        self.settle();
        // What lingers has a second to leave.
        self.now = self.now + Duration::from_secs(2);
        for core in &mut self.cores {
            core.handle_timeout(self.now);
        }
        self.settle();
        for core in &self.cores {
            assert!(core.is_drained(), "a socket is left: {:?}", core.audit());
            assert!(
                core.audit().is_zero(),
                "something is left: {:?}",
                core.audit()
            );
            assert_eq!(core.stats().broken_laws(), Vec::<String>::new());
        }
        assert!(self.directory.is_empty(), "a key is left in the directory");
        assert_eq!(
            self.memory.leased_bytes(),
            0,
            "receive memory is left under lease"
        );
    }

    fn with_stream(&mut self, socket: u8, which: u8, act: impl FnOnce(&mut PeerSession, StreamId)) {
        let Some(socket) = self.socket(socket) else {
            return;
        };
        let count = socket.streams.len();
        if count > 0
            && let Some(peer) = &mut socket.peer
        {
            act(peer, socket.streams[usize::from(which) % count]);
        }
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

/// Returns one of four keys: few, so that sessions of one key meet.
fn secret(key: u8) -> SecretKey {
    SecretKey::from_seed([0x20 + key % 4; 32])
}

fn slot_of(index: usize) -> Slot {
    Slot(u32::try_from(index % SLOTS).expect("four slots"))
}
