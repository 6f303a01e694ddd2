//! Adversaries: after a valid handshake they speak what they like.
//!
//! Here: their moves, from valid opens to forged, replayed, torn and flooding frames. What they
//! read they understand just well enough to do harm. Not here: the handshake's own abuse (`stranger`).
//!
//! A move that breaks the protocol beyond doubt is noted: the relay has to end the session.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_proto::dialect::RequestHash;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Initiator, Role, message_len};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::{KkInitiator, kk_respond};
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{Opener, Sealer, object_len};

use crate::event::Event;
use crate::honest::UNIX_NS;
use crate::network::Way;
use crate::options::MS;
use crate::world::{Client, World};

/// An adversary's session.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts that a trace shows by name"
)]
pub(crate) struct Raw {
    number: usize,
    conn: usize,
    secret: Arc<SecretKey>,
    public: PublicKey,
    initiator: Option<Initiator>,
    keys: Option<(Sealer, Opener)>,
    is_live: bool,
    input: Vec<u8>,
    out: Vec<u8>,
    streams: BTreeMap<u32, RawStream>,
    next_id: u32,
    objects: Vec<Vec<u8>>,
    moves_left: u64,
    moves_mask: u64,
    reads: bool,
    pace: u64,
    is_over: bool,
    /// It has opened so many streams that the relay no longer looks at its requests.
    has_flooded: bool,
    /// It has broken the protocol: the relay must end the session.
    has_broken: Option<&'static str>,
}

/// What an adversary knows of a stream.
#[derive(Debug)]
struct RawStream {
    is_ours: bool,
    object: Vec<u8>,
    is_bridged: bool,
    /// An open that waits for our answer.
    offer: Option<(RequestHash, PublicKey, Vec<u8>)>,
    credit: u64,
}

impl World {
    /// Adds an adversary that connects now.
    pub(crate) fn add_adversary(&mut self) {
        let number = self.clients.len();
        self.clients.push(Client::Taken);
        let conn = self.connect(number);
        let last = crate::keys::IDENTITIES - 1;
        let identity = self.rng.size(crate::keys::ADVERSARY_FIRST, last);
        let (secret, public) = self.keys.peers[identity].clone();
        let random = self.rng.bytes_32();
        let begun = Initiator::new(&secret, &self.keys.relay_public, Role::Peer, &[], random);
        let Ok((initiator, out)) = begun else {
            return self.fail("no handshake can be begun".into());
        };
        let raw = Raw {
            number,
            conn,
            secret,
            public,
            initiator: Some(initiator),
            keys: None,
            is_live: false,
            input: Vec::new(),
            out,
            streams: BTreeMap::new(),
            next_id: 1,
            objects: Vec::new(),
            moves_left: self.rng.skewed(1, 200),
            moves_mask: self.rng.next_u64() | self.rng.next_u64(),
            reads: self.rng.chance(75),
            pace: self.rng.pick(&[0, 10_000, MS, 100 * MS], MS),
            is_over: false,
            has_flooded: false,
            has_broken: None,
        };
        self.counts.adversaries += 1;
        self.trace(|| format!("adversary {number} (key {identity}) connects as connection {conn}"));
        self.clients[number] = Client::Adversary(Box::new(raw));
        self.pump_later(number);
    }
}

impl Raw {
    /// Whether it broke the protocol and the relay let it.
    pub(crate) fn is_tolerated(&self, world: &World) -> Option<&'static str> {
        let conn = &world.conns[self.conn];
        let has_left = conn.is_reset_at_relay || conn.is_closed_by_peer || conn.has_waited;
        let has_arrived = self.out.is_empty() && conn.up.is_empty();
        self.has_broken.filter(|_| !has_left && has_arrived)
    }

    pub(crate) fn limit_moves(&mut self, moves_max: u64) {
        self.moves_left = self.moves_left.min(moves_max);
    }

    pub(crate) fn leave(&mut self, world: &mut World) {
        self.is_over = true;
        let with_reset = world.rng.chance(50);
        world.peer_close(self.conn, with_reset);
    }

    pub(crate) fn transmit(&mut self, world: &mut World) {
        if self.is_over {
            return;
        }
        while !self.out.is_empty() {
            let count = world
                .rng
                .size(1, self.out.len().min(world.options.piece_max * 2));
            let taken = world.write(self.conn, Way::Up, &self.out[..count]);
            self.out.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    pub(crate) fn read(&mut self, world: &mut World) {
        if self.is_over {
            return;
        }
        let conn = &mut world.conns[self.conn];
        if (conn.is_reset_at_peer || conn.down.has_fin) && conn.down.arrived() == 0 {
            self.is_over = true;
            world.peer_close(self.conn, false);
            return;
        }
        if self.is_live && !self.reads {
            return;
        }
        let bytes = conn.down.read(usize::MAX);
        self.input.extend_from_slice(&bytes);
        world.progress_send(self.conn);
        if self.understand(world).is_none() {
            // What the relay says makes no sense to it: it talks on.
            self.input.clear();
        }
        self.transmit(world);
    }

    /// Takes messages and frames apart; `None` when something is not as it should be.
    fn understand(&mut self, world: &mut World) -> Option<()> {
        if let Some(initiator) = self.initiator.take() {
            let Some(total) = message_len(&self.input)
                .ok()?
                .filter(|len| *len <= self.input.len())
            else {
                self.initiator = Some(initiator);
                return Some(());
            };
            let (message_3, established) = initiator.message_2(&self.input[2..total]).ok()?;
            self.input.drain(..total);
            self.out.extend_from_slice(&message_3);
            self.keys = Some((established.sealer, established.opener));
            world.at(
                0,
                Event::Adversary {
                    client: self.number,
                },
            );
        }
        if !self.is_live {
            let Some(total) = object_len(&self.input)
                .ok()?
                .filter(|len| *len <= self.input.len())
            else {
                return Some(());
            };
            let mut object: Vec<u8> = self.input.drain(..total).collect();
            self.keys.as_mut()?.1.open(&mut object[2..]).ok()?;
            self.is_live = true;
        }
        while let Some(header) = self.input.first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).ok()?;
            let length = usize::try_from(header.payload_bytes()).ok()?;
            if self.input.len() < HEADER_LEN + length {
                break;
            }
            let payload: Vec<u8> = self
                .input
                .drain(..HEADER_LEN + length)
                .skip(HEADER_LEN)
                .collect();
            self.frame(header, &payload)?;
        }
        Some(())
    }

    fn frame(&mut self, header: Header, payload: &[u8]) -> Option<()> {
        let id = header.stream_id;
        if matches!(header.kind, FrameKind::Ping | FrameKind::GoAway) {
            return Some(());
        }
        if header.flags.contains(Flags::SYN) {
            self.streams.insert(id, RawStream::new(false));
        }
        if header.flags.contains(Flags::RST) {
            self.streams.remove(&id);
            return Some(());
        }
        let stream = self.streams.get_mut(&id)?;
        if header.kind == FrameKind::WindowUpdate {
            stream.credit += u64::from(header.length);
            return Some(());
        }
        if stream.is_bridged || stream.offer.is_some() {
            // Grants what it was sent, more or less.
            let grant = Header::window_update(id, Flags::NONE, header.length);
            self.out.extend_from_slice(&grant.encode());
            return Some(());
        }
        stream.object.extend_from_slice(payload);
        let total = object_len(&stream.object).ok()??;
        if stream.object.len() < total {
            return Some(());
        }
        let mut object = std::mem::take(&mut stream.object);
        let plain = self.keys.as_mut()?.1.open(&mut object[2..total]).ok()?;
        if stream.is_ours {
            stream.is_bridged = OpenResponse::decode(plain).ok()?.is_accepted();
            if !stream.is_bridged {
                self.streams.remove(&id);
            }
        } else {
            let request = OpenRequest::decode(plain).ok()?;
            stream.offer = Some((
                OpenRequest::hash(plain),
                request.source.key,
                request.noise.to_vec(),
            ));
        }
        Some(())
    }

    /// Makes one move and plans the next.
    pub(crate) fn step(&mut self, world: &mut World) {
        if self.is_over {
            return;
        }
        if self.keys.is_none() {
            // Dismissed before its handshake was over.
            return self.leave(world);
        }
        if self.moves_left == 0 || self.has_broken.is_some() || world.is_draining {
            if self.has_broken.is_none() || world.rng.chance(10) {
                self.leave(world);
            }
            return;
        }
        self.moves_left -= 1;
        if world.rng.chance(2) {
            // What it was granted and sent from now on stays with the relay.
            self.reads = false;
        }
        if self.out.len() < 1_000_000 {
            // A move that ends the session ends the adversary's game: seldom.
            let is_harsh = world.rng.chance(8);
            let kind = if is_harsh {
                world.rng.range(BREAKS_FIRST, MOVES - 1)
            } else {
                world.rng.below(BREAKS_FIRST)
            };
            if self.moves_mask & (1 << kind) != 0 {
                let length = self.out.len();
                self.make_move(world, kind);
                world.counts.adversary_moves += 1;
                world.trace(|| {
                    let bytes = &self.out[length..];
                    let shown = &bytes[..bytes.len().min(40)];
                    format!("adversary {}: move {kind}: {shown:02x?}", self.number)
                });
            }
            self.transmit(world);
        }
        let delay = world.rng.skewed(0, self.pace);
        world.at(
            delay,
            Event::Adversary {
                client: self.number,
            },
        );
    }

    fn make_move(&mut self, world: &mut World, kind: u64) {
        match kind {
            0..=3 => self.open(world, kind),
            4..=6 => self.answer(world, kind),
            7..=13 => self.stream_frame(world, kind),
            14..=18 => self.flood(world, kind),
            19..=20 => self.odd_syn(world, kind),
            _ => self.break_protocol(world, kind),
        }
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut object = Vec::new();
        if let Some((sealer, _)) = &mut self.keys {
            // Too long a plain text seals to nothing.
            let _is_short_enough = sealer.seal(plain, &mut object);
        }
        self.objects.push(object.clone());
        object
    }

    fn push(&mut self, header: Header, payload: &[u8]) {
        self.out.extend_from_slice(&header.encode());
        self.out.extend_from_slice(payload);
    }

    /// Opens a stream: in order, badly signed, with nonsense in it, torn or for someone else.
    fn open(&mut self, world: &mut World, kind: u64) {
        let id = self.next_id;
        self.next_id += 2 * u32::try_from(world.rng.skewed(1, 5)).unwrap_or(1);
        let identity = world.rng.index(world.options.identities + 1);
        let identity = if identity == world.options.identities {
            10
        } else {
            identity
        };
        let key = world.keys.peers[identity].1;
        let random = world.rng.bytes_32();
        let Ok((_, noise)) = KkInitiator::new(&self.secret, &key, random) else {
            return;
        };
        let port = u16::try_from(world.rng.below(65_536)).unwrap_or(0);
        let source_key = if kind == 1 { key } else { self.public };
        let request = OpenRequest {
            forwarded: kind == 1 && world.rng.chance(50),
            timestamp_ns: UNIX_NS + world.now * world.rng.pick(&[1, 1, 1, 3], 1),
            source: Address::new(source_key, port),
            destination: Address::new(key, port),
            noise: &noise,
        };
        let Ok(mut plain) = request.encode(&self.secret) else {
            return;
        };
        if kind == 2 {
            let at = world.rng.index(plain.len());
            plain[at] ^= 1 << world.rng.below(8);
            plain.truncate(world.rng.size(0, plain.len()));
        }
        let object = self.seal(&plain);
        let extra = world.rng.pick(
            &[0, 0, 1, 1 << 20, 1 << 30, u32::MAX - 262_144, u32::MAX],
            0,
        );
        self.push(Header::window_update(id, Flags::SYN, extra), &[]);
        let mut parts: Vec<&[u8]> = vec![&object];
        if kind == 3 {
            let (first, second) = object.split_at(world.rng.index(object.len()));
            parts = vec![first, second];
        }
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(0);
            self.push(Header::data(id, Flags::NONE, length), part);
        }
        let mut stream = RawStream::new(true);
        stream.credit = stream.credit.saturating_sub(object.len() as u64);
        self.streams.insert(id, stream);
        if world.rng.chance(10) {
            // Bytes before the answer.
            self.push(Header::data(id, Flags::NONE, 5), b"early");
        }
    }

    /// Answers an open: in order, with nonsense, with a window that cannot be.
    fn answer(&mut self, world: &mut World, kind: u64) {
        let offered = self
            .streams
            .iter()
            .find(|(_, stream)| stream.offer.is_some());
        let Some(id) = offered.map(|(id, _)| *id) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some((mut hash, source, noise)) = stream.offer.take() else {
            return;
        };
        stream.is_bridged = true;
        let random = world.rng.bytes_32();
        let noise = kk_respond(&self.secret, &source, &noise, random).map(|(noise, _)| noise);
        let mut noise = noise.unwrap_or_default();
        if kind == 5 {
            hash.0[0] ^= 1;
        }
        if kind == 6 {
            noise = vec![7; world.rng.size(0, 100)];
        }
        let reason_code = world
            .rng
            .pick(&[0, 0, 0, Reason::NoListener.code(), 999], 0);
        let response = OpenResponse {
            reason_code,
            request_hash: hash,
            noise: &noise,
        };
        let Ok(plain) = response.encode(&self.secret) else {
            return;
        };
        let object = self.seal(&plain);
        let extra = world.rng.pick(&[0, 0, 1, 1 << 29, u32::MAX], 0);
        if world.rng.chance(80) {
            self.push(Header::window_update(id, Flags::ACK, extra), &[]);
        }
        let flags = world
            .rng
            .pick(&[Flags::NONE, Flags::ACK, Flags::FIN], Flags::NONE);
        let length = u32::try_from(object.len()).unwrap_or(0);
        self.push(Header::data(id, flags, length), &object);
    }

    /// A frame on a stream of its own that is allowed, though seldom wise.
    fn stream_frame(&mut self, world: &mut World, kind: u64) {
        let Some(id) = self.any_stream(world) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match kind {
            7 | 8 => {
                let size = usize::try_from(stream.credit.min(40_000)).unwrap_or(0);
                let size = world.rng.size(0, size);
                stream.credit -= size as u64;
                let length = u32::try_from(size).unwrap_or(0);
                let flags = world
                    .rng
                    .pick(&[Flags::NONE, Flags::NONE, Flags::ACK], Flags::NONE);
                self.push(Header::data(id, flags, length), &vec![0x5a; size]);
            }
            9 => {
                let delta = world
                    .rng
                    .pick(&[0, 1, 1_000, 1 << 20, 1 << 30, u32::MAX], 1);
                let flags = world
                    .rng
                    .pick(&[Flags::NONE, Flags::NONE, Flags::ACK], Flags::NONE);
                self.push(Header::window_update(id, flags, delta), &[]);
            }
            10 => {
                self.streams.remove(&id);
                self.push(Header::window_update(id, Flags::FIN, 0), &[]);
            }
            11 => {
                self.streams.remove(&id);
                self.push(Header::data(id, Flags::RST, 3), b"rst");
            }
            12 => {
                self.streams.remove(&id);
                self.push(
                    Header::window_update(id, Flags::RST | Flags::FIN | Flags::ACK, 9),
                    &[],
                );
            }
            _ => {
                // A header, and the payload much later or never.
                let length = u32::try_from(stream.credit.min(500)).unwrap_or(0);
                stream.credit -= u64::from(length);
                let sent = world.rng.index(usize::try_from(length).unwrap_or(0));
                self.push(Header::data(id, Flags::NONE, length), &vec![0x3c; sent]);
                self.moves_left = 0;
            }
        }
    }

    /// Many small frames, with or without reading what they cause.
    fn flood(&mut self, world: &mut World, kind: u64) {
        let count = world.rng.skewed(1, 2_000);
        self.has_flooded |= matches!(kind, 17 | 18);
        let id = self.any_stream(world);
        for number in 0..count {
            match (kind, id) {
                (14, _) => self.push(Header::ping(Flags::SYN, 7), &[]),
                (15, Some(id)) => self.push(Header::window_update(id, Flags::NONE, 1), &[]),
                (16, Some(id)) => self.push(Header::data(id, Flags::NONE, 0), &[]),
                (17, _) => {
                    let id = self.next_id;
                    self.next_id += 2;
                    self.push(Header::window_update(id, Flags::SYN, 0), &[]);
                    if number % 3 == 0 {
                        self.push(Header::window_update(id, Flags::RST, 0), &[]);
                    }
                }
                (18, _) => {
                    let id = self.next_id;
                    self.next_id += 2;
                    let plain = vec![0; 100];
                    let object = self.seal(&plain);
                    self.objects.clear();
                    let length = u32::try_from(object.len()).unwrap_or(0);
                    self.push(Header::data(id, Flags::SYN, length), &object);
                }
                _ => return,
            }
        }
    }

    /// SYN in unusual company.
    fn odd_syn(&mut self, world: &mut World, kind: u64) {
        let id = self.next_id;
        self.next_id += 2;
        let flags = world.rng.pick(
            &[Flags::FIN, Flags::RST, Flags::ACK, Flags::NONE],
            Flags::NONE,
        );
        if kind == 19 {
            self.push(Header::window_update(id, flags | Flags::SYN, 1), &[]);
        } else {
            self.push(Header::data(id, flags | Flags::SYN, 1), &[0]);
        }
    }

    /// Breaks the protocol beyond doubt, or nearly.
    fn break_protocol(&mut self, world: &mut World, kind: u64) {
        let unknown = self.next_id + 100;
        let header = |kind, flags, stream_id, length| {
            Header {
                kind,
                flags,
                stream_id,
                length,
            }
            .encode()
            .to_vec()
        };
        let (none, data, window) = (Flags::NONE, FrameKind::Data, FrameKind::WindowUpdate);
        let (mut bytes, what) = match kind {
            21 => (vec![1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "a bad version"),
            22 => (vec![0, 9, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "a bad kind"),
            23 => (vec![0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0], "a bad flag"),
            24 => (header(data, none, 0, 4), "data on stream 0"),
            25 => (header(window, none, 0, 4), "a window on stream 0"),
            26 => (
                header(data, none, unknown, 4),
                "data on a stream that never was",
            ),
            27 => (
                header(window, none, 1_000_000, 4),
                "a window on a stream that never was",
            ),
            28 => (
                header(window, Flags::SYN, 2, 0),
                "a SYN with an id of the relay",
            ),
            29 if self.next_id > 1 => {
                let syn = header(window, Flags::SYN, self.next_id - 2, 0);
                ([syn.clone(), syn].concat(), "a SYN twice")
            }
            _ => return self.break_more(world, kind),
        };
        if matches!(kind, 24 | 26) {
            bytes.extend_from_slice(b"data");
        }
        self.out.extend_from_slice(&bytes);
        self.has_broken = Some(what);
    }

    fn break_more(&mut self, world: &mut World, kind: u64) {
        let stream = self.any_stream(world);
        let is_skipped = self.has_flooded || world.options.streams_max < 100;
        match (kind, stream) {
            (30, _) => {
                let Some(object) = self.objects.first().cloned() else {
                    return;
                };
                let id = self.next_id;
                let length = u32::try_from(object.len()).unwrap_or(0);
                self.push(Header::data(id, Flags::SYN, length), &object);
                self.next_id += 2;
                self.has_broken = (!is_skipped).then_some("an object twice");
            }
            (31, _) => {
                let id = self.next_id;
                self.next_id += 2;
                let mut object = self.seal(&[0; 150]);
                let last = object.len() - 1;
                object[last] ^= 1;
                let length = u32::try_from(object.len()).unwrap_or(0);
                self.push(Header::data(id, Flags::SYN, length), &object);
                self.has_broken = (!is_skipped).then_some("a forged object");
            }
            (32, Some(id)) => {
                let length = WINDOW_INITIAL * 9;
                self.push(Header::data(id, Flags::NONE, length), &[1; 1_000]);
                self.moves_left = 0;
            }
            (33, _) => {
                let size = world.rng.size(1, 500);
                for _ in 0..size {
                    let byte = u8::try_from(world.rng.below(256)).unwrap_or(0);
                    self.out.push(byte);
                }
                self.moves_left = 0;
            }
            (34, _) => {
                let code = world.rng.pick(&[0, 1, 2, 202, u32::MAX], 0);
                let frame = Header {
                    kind: FrameKind::GoAway,
                    flags: Flags::NONE,
                    stream_id: 0,
                    length: code,
                };
                self.push(frame, &[]);
            }
            (35, _) => self.leave(world),
            _ => {}
        }
    }

    fn any_stream(&self, world: &mut World) -> Option<u32> {
        let index = world.rng.index(self.streams.len());
        self.streams.keys().nth(index).copied()
    }
}

impl RawStream {
    fn new(is_ours: bool) -> Self {
        Self {
            is_ours,
            object: Vec::new(),
            is_bridged: false,
            offer: None,
            credit: u64::from(WINDOW_INITIAL),
        }
    }
}

/// Kinds of move.
const MOVES: u64 = 36;

/// The first kind that breaks the protocol.
const BREAKS_FIRST: u64 = 21;
