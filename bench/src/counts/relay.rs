//! A relay without threads and sockets: its real cores, mailboxes and receive memory, and peers.
//!
//! Here: what the data thread does in a turn, with everything that is the relay's work run under a [`Meter`].
//! Not here: what is asked of it (`cases`).
//!
//! Invariant: peers, the executor's jobs and the copies that stand for the kernel's are never counted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ringway_proto::dialect::handshake::Identities;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::limits::{STREAMS_MAX, TURN_QUANTUM, WINDOW_INITIAL};
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::time::Now;
use ringway_shards::batch::Batch;
use ringway_shards::core::{
    Action, AdmissionLimits, CoreConfig, CoreStats, Job, MeshConfig, Message, Proxies, QueueLimits,
    ShardCore, ShardId, Slot, Source, Timeouts,
};
use ringway_shards::directory::SessionDirectory;
use ringway_shards::mailbox::{Mailboxes, mailboxes};
use ringway_shards::ports::PortsConfig;
use ringway_shards::ring::{LooseBlock, RingLease};

use super::cases::Meter;

/// One shard: its core and its ends of the mailboxes.
pub(super) struct Shard {
    pub(super) core: ShardCore<RingLease, SessionDirectory>,
    pub(super) mailboxes: Mailboxes<Message<RingLease>>,
    /// Address and length of what a send gathers, as the ring keeps them.
    slices: Vec<(usize, usize)>,
    slots: u32,
}

/// One peer and its connection.
struct Peer {
    session: PeerSession,
    shard: usize,
    slot: Slot,
    events: VecDeque<PeerEvent>,
    /// What the relay sends to it is taken and forgotten.
    is_deaf: bool,
}

pub(super) struct Relay {
    pub(super) shards: Vec<Shard>,
    pub(super) now: Now,
    peers: Vec<Peer>,
    memory: Memory,
    secret: SecretKey,
    identity: Identities,
    randoms: u64,
}

impl Relay {
    /// Returns a relay with this many shards and nobody connected.
    pub(super) fn new(shards_count: u16) -> Self {
        let secret = SecretKey::from_seed([200; 32]);
        let directory = SessionDirectory::default();
        let now = Now::from_nanos(1_000_000_000);
        let shards = (0..shards_count)
            .zip(mailboxes(usize::from(shards_count)))
            .map(|(shard, mailboxes)| Shard {
                core: ShardCore::new(config(&secret, shard, shards_count), directory.clone(), now),
                mailboxes,
                slices: Vec::new(),
                slots: 0,
            })
            .collect();
        Self {
            shards,
            now,
            peers: Vec::new(),
            memory: Memory::default(),
            identity: RelayIdentity::new(&secret).into(),
            secret,
            randoms: 0,
        }
    }

    /// Connects a peer to a shard; returns its number.
    pub(super) fn connect(&mut self, shard: usize) -> Result<usize, String> {
        let number = self.peers.len();
        let session = PeerSession::connect(
            Arc::new(secret_of(number)),
            self.secret.public(),
            PeerConfig::new(UNIX_TIME_NS),
            self.random(),
            self.now,
        )
        .map_err(|error| format!("peer {number} cannot connect: {error}"))?;
        let Shard { core, slots, .. } = &mut self.shards[shard];
        let slot = Slot(*slots);
        *slots += 1;
        core.accepted(slot, Source::UNKNOWN, self.now);
        self.peers.push(Peer {
            session,
            shard,
            slot,
            events: VecDeque::new(),
            is_deaf: false,
        });
        self.settle(Meter::Off)?;
        self.peers[number].events.clear();
        if self.peers[number].session.is_ready() {
            Ok(number)
        } else {
            Err(format!("peer {number} was not admitted"))
        }
    }

    /// Joins two peers by a stream; returns its ids on both legs.
    pub(super) fn bridge(&mut self, from: usize, to: usize) -> Result<(u32, u32), String> {
        let opened = self.open(from, to)?;
        self.settle(Meter::Off)?;
        let accepted = self.accept(to)?;
        self.settle(Meter::Off)?;
        let is_opened = |event: &PeerEvent| matches!(event, PeerEvent::Opened { stream, .. } if *stream == opened);
        match self.peers[from].events.drain(..).find(is_opened) {
            Some(_) => Ok((opened.as_u32(), accepted.as_u32())),
            None => Err("a stream was not opened".to_owned()),
        }
    }

    /// Asks for a stream to a peer, connected or not.
    pub(super) fn open(&mut self, from: usize, to: usize) -> Result<StreamId, String> {
        let random = self.random();
        let address = Address::new(secret_of(to).public(), 80);
        self.peers[from]
            .session
            .open(address, 50_000, UNIX_TIME_NS, random)
            .map_err(|error| format!("peer {from} cannot open: {error}"))
    }

    /// Accepts the oldest open that waits at a peer.
    pub(super) fn accept(&mut self, to: usize) -> Result<StreamId, String> {
        let random = self.random();
        let Peer {
            session, events, ..
        } = &mut self.peers[to];
        while let Some(event) = events.pop_front() {
            if let PeerEvent::Incoming {
                stream, request, ..
            } = event
            {
                session
                    .accept(stream, request, random)
                    .map_err(|error| format!("peer {to} cannot accept: {error}"))?;
                return Ok(stream);
            }
        }
        Err(format!("no open request has come to peer {to}"))
    }

    /// Gives a stream up.
    pub(super) fn reset(&mut self, peer: usize, stream: StreamId) -> Result<(), String> {
        let reset = self.peers[peer].session.reset(stream);
        reset.map_err(|error| format!("peer {peer} cannot reset: {error}"))
    }

    /// Returns the events of a peer.
    pub(super) fn take_events(&mut self, peer: usize) -> VecDeque<PeerEvent> {
        std::mem::take(&mut self.peers[peer].events)
    }

    /// From now on what the relay sends to a peer is forgotten, and the peer says nothing by itself.
    pub(super) fn silence(&mut self, peer: usize) {
        self.peers[peer].is_deaf = true;
    }

    /// A peer takes as much on a stream as any case sends; it is silenced.
    pub(super) fn take_all(&mut self, peer: usize, stream: u32) -> Result<(), String> {
        self.silence(peer);
        let grant = Header::window_update(stream, Flags::NONE, GRANT);
        self.receive(Meter::Off, peer, &grant.encode())?;
        self.settle(Meter::Off)
    }

    /// The relay receives bytes of a peer.
    pub(super) fn receive(
        &mut self,
        meter: Meter,
        peer: usize,
        bytes: &[u8],
    ) -> Result<(), String> {
        let lease = self.memory.lease(bytes)?;
        let Peer { shard, slot, .. } = self.peers[peer];
        let (core, now) = (&mut self.shards[shard].core, self.now);
        meter.run(|| core.received(slot, lease, now));
        Ok(())
    }

    /// The rest of a shard's turn: what was received leaves it. Sends arrive at once and in full.
    pub(super) fn turn(&mut self, meter: Meter, shard: usize) -> Result<bool, String> {
        let now = self.now;
        let mut has_acted = false;
        let core = &mut self.shards[shard].core;
        meter.run(|| end_turn(core, now));
        loop {
            let Shard {
                core, mailboxes, ..
            } = &mut self.shards[shard];
            let Some(action) = meter.run(|| core.poll_action()) else {
                break;
            };
            has_acted = true;
            match action {
                Action::Compute(job) => self.compute(shard, job),
                Action::Message { target, message } => {
                    meter.run(|| mailboxes.send(usize::from(target.0), message));
                }
                Action::PauseAccept | Action::ResumeAccept => {}
                Action::Send { slot, batch } => self.send(meter, shard, slot, batch)?,
                other => return Err(format!("nothing here leads to {other:?}")),
            }
        }
        let mailboxes = &mut self.shards[shard].mailboxes;
        meter.run(|| mailboxes.flush(|_| {}));
        Ok(has_acted)
    }

    /// A shard takes in what others have told it; returns how much.
    pub(super) fn take_mail(&mut self, meter: Meter, shard: usize) -> u32 {
        let now = self.now;
        let Shard {
            core, mailboxes, ..
        } = &mut self.shards[shard];
        meter.run(|| {
            mailboxes.receive(TURN_QUANTUM, |source, message| {
                let source = ShardId(u16::try_from(source).unwrap_or(u16::MAX));
                core.message(source, message, now);
            })
        })
    }

    /// Sends a batch, and takes it back.
    pub(super) fn send(
        &mut self,
        meter: Meter,
        shard: usize,
        slot: Slot,
        batch: Batch<RingLease>,
    ) -> Result<(), String> {
        let (now, len) = (self.now, batch.len());
        let Shard { core, slices, .. } = &mut self.shards[shard];
        meter.run(|| {
            slices.clear();
            batch.for_each_slice(|bytes| slices.push((bytes.as_ptr().addr(), bytes.len())));
        });
        let mut peers = self.peers.iter_mut();
        let peer = peers.find(|peer| peer.shard == shard && peer.slot == slot);
        let Some(peer) = peer else {
            return Err("a send to nobody".to_owned());
        };
        if !peer.is_deaf {
            let mut bytes = Vec::with_capacity(len);
            batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            let heard = peer.session.receive(&bytes, now);
            heard.map_err(|error| format!("a peer does not take what the relay sends: {error}"))?;
        }
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        meter.run(|| core.sent(slot, batch, Ok(count), now));
        Ok(())
    }

    /// Lets everything happen until nothing does.
    pub(super) fn settle(&mut self, meter: Meter) -> Result<(), String> {
        for _ in 0..TURNS_MAX {
            let mut has_moved = false;
            for peer in 0..self.peers.len() {
                let bytes = self.said_by(peer);
                if !bytes.is_empty() {
                    has_moved = true;
                    self.receive(meter, peer, &bytes)?;
                }
            }
            for shard in 0..self.shards.len() {
                has_moved |= self.take_mail(meter, shard) > 0;
                has_moved |= self.turn(meter, shard)?;
            }
            if !has_moved {
                return Ok(());
            }
        }
        Err("the relay does not come to rest".to_owned())
    }

    /// Returns the counters of a shard.
    pub(super) fn stats(&self, shard: usize) -> &CoreStats {
        self.shards[shard].core.stats()
    }

    fn said_by(&mut self, peer: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Peer {
            session,
            events,
            is_deaf,
            ..
        } = &mut self.peers[peer];
        if !*is_deaf {
            session.transmit(&mut bytes, RECEIVE_MAX);
            events.extend(std::iter::from_fn(|| session.poll_event()));
        }
        bytes
    }

    fn compute(&mut self, shard: usize, job: Job) {
        let random = self.random();
        let result = job.run(&self.identity, random);
        self.shards[shard].core.computed(result, self.now);
    }

    /// Returns what nothing else here has got, the same in every run.
    fn random(&mut self) -> [u8; 32] {
        self.randoms += 1;
        let mut random = [77; 32];
        random[..8].copy_from_slice(&self.randoms.to_be_bytes());
        random
    }
}

/// What the data thread does with a core between what has happened and what is to be done.
pub(super) fn end_turn(core: &mut ShardCore<RingLease, SessionDirectory>, now: Now) {
    if core.next_deadline().is_some_and(|deadline| deadline <= now) {
        core.handle_timeout(now);
    }
    core.collect_ports(now);
    core.flush();
}

/// Receive memory: blocks like those of a ring.
#[derive(Debug, Default)]
struct Memory(Vec<LooseBlock>);

impl Memory {
    fn lease(&mut self, bytes: &[u8]) -> Result<RingLease, String> {
        if let Some(lease) = self.0.iter_mut().find_map(|block| block.fill(bytes)) {
            return Ok(lease);
        }
        let mut block = LooseBlock::new(BLOCK_BYTES)
            .map_err(|error: io::Error| format!("no receive memory: {error}"))?;
        let lease = block.fill(bytes);
        self.0.push(block);
        lease.ok_or_else(|| format!("{} bytes are more than a block has", bytes.len()))
    }
}

fn config(secret: &SecretKey, shard: u16, shards_count: u16) -> CoreConfig {
    CoreConfig {
        shard: ShardId(shard),
        shards_count,
        own_key: secret.public(),
        dmsg_key: None,
        proxies: Proxies::NONE,
        offer: Offer {
            capabilities: 0,
            streams_max: STREAMS_MAX,
            stream_window: WINDOW_INITIAL,
            keepalive_s: 30,
        },
        admission: AdmissionLimits::for_sockets(SOCKETS_MAX),
        queue: QueueLimits::default(),
        timeouts: Timeouts::default(),
        ports: PortsConfig::default().of_shard(shard, shards_count),
        mesh: MeshConfig::default(),
        hash_seed: 0x9e37_79b9_7f4a_7c15,
    }
}

/// Returns the secret key of a peer.
fn secret_of(peer: usize) -> SecretKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(peer as u64).to_be_bytes());
    SecretKey::from_seed(seed)
}

/// Size of a receive block of a ring that fills them incrementally.
const BLOCK_BYTES: u32 = 262_144;

/// Most bytes of a peer's that are received at once.
const RECEIVE_MAX: usize = 65_536;

/// More than any case sends on one stream.
const GRANT: u32 = 1 << 29;

const SOCKETS_MAX: u32 = 64;

/// Far more than anything here takes.
const TURNS_MAX: u32 = 1_000;

const UNIX_TIME_NS: u64 = 1_700_000_000_000_000_000;
