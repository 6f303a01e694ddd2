//! A hostile relay: what it sends neither breaks a peer nor makes it keep more than its limits allow.
//!
//! A session that was admitted, in one dialect or the other, then frames and bytes of the relay's choice, in
//! pieces of its choice.
//!
//! Here: also that no request reaches the application that its source did not sign for this key and, in the
//! native dialect, this hour, that no open succeeds (the relay cannot answer for the destination), and that
//! the first error stays. Not here: the relay's side (`shard_core`), damaged handshakes (`handshake`).
//!
//! Bound: 400 operations an input; each gives at most one frame.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::{Identities, Responder};
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg;
use ringway_proto::dmsg::open::StreamRequest;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::KkInitiator;
use ringway_proto::limits::{STREAMS_MAX, WINDOW_MAX};
use ringway_proto::open::OpenRequest;
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession, StreamId};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::Sealer;
use ringway_proto::time::Now;
use ringway_proto::verdict::Verdict;

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    operations: Vec<Operation>,
    piece: u8,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Data {
        stream: u8,
        flags: u8,
        bytes: u16,
    },
    Eof,
    Finish {
        which: u8,
    },
    Header {
        kind: u8,
        flags: u16,
        stream: u32,
        length: u32,
    },
    Incoming {
        stream: u8,
        port: u16,
        wrong: Wrong,
    },
    Open {
        port: u16,
    },
    Raw {
        bytes: Vec<u8>,
    },
    Read {
        which: u8,
        bytes: u16,
    },
    Reset {
        which: u8,
    },
    Sealed {
        stream: u8,
        plain: Vec<u8>,
    },
    Tick {
        ms: u16,
    },
    Write {
        which: u8,
        bytes: u16,
    },
}

/// What is wrong with a request that the relay passes on.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Destination,
    Nothing,
    Signature,
    Time,
}

const UNIX_NS: u64 = 1_700_000_000_000_000_000;

/// Takes what a native relay does, as a structured input.
///
/// # Panics
///
/// When the session holds too much, believes the relay what only a peer can say, or forgets its error.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        serve(Dialect::Native, &input);
    }
}

/// Takes what a relay of the dmsg dialect does, as a structured input.
///
/// # Panics
///
/// As [`run`].
pub fn run_dmsg(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        serve(Dialect::Dmsg, &input);
    }
}

fn serve(dialect: Dialect, input: &Input) {
    let mut run = Run::admitted(dialect, input.piece);
    for operation in input.operations.iter().take(400) {
        if run.peer.error().is_some() {
            break;
        }
        run.step(operation);
    }
    run.peer.eof(run.now);
    run.settle();
    assert!(
        run.peer.error().is_some(),
        "a session outlived its connection"
    );
    let error = run.peer.error();
    run.receive(&Header::ping(Flags::SYN, 1).encode());
    run.settle();
    assert_eq!(run.peer.error(), error, "the first error stays");
}

struct Run {
    peer: PeerSession,
    sealer: Sealer,
    source: Identity,
    destination: PublicKey,
    streams: Vec<StreamId>,
    now: Now,
    piece: usize,
    answered: u8,
    honest_count: u64,
}

impl Run {
    /// Returns a session after an honest handshake.
    fn admitted(dialect: Dialect, piece: u8) -> Self {
        let native = RelayIdentity::new(&SecretKey::from_seed([1; 32]));
        let relay = identity(dialect, 1);
        let identities = match &relay {
            Identity::Dmsg(identity) => Identities::new(native, Some(Arc::clone(identity))),
            Identity::Native(_) => Identities::from(native),
        };
        let destination = identity(dialect, 2);
        let now = Now::from_nanos(1_000_000_000);
        let mut peer = PeerSession::connect(
            destination.clone(),
            relay.public(),
            PeerConfig::new(UNIX_NS),
            [3; 32],
            now,
        )
        .expect("the relay's key is a point");
        let offer = Offer {
            capabilities: 0,
            streams_max: 64,
            stream_window: 262_144,
            keepalive_s: 30,
        };
        let (message_1, _) = next_message(dialect, &mut peer);
        let begun = Responder::begin(dialect, &identities, offer, [4; 32], &message_1);
        let (responder, message_2) = begun.expect("message 1 is the peer's own");
        peer.receive(&message_2, now).expect("message 2 is honest");
        let (message_3, behind) = next_message(dialect, &mut peer);
        let established = responder
            .message_3(&message_3)
            .expect("message 3 is the peer's own");
        let mut sealer = established.sealer;
        let mut verdict = Vec::new();
        if dialect.has_verdict() {
            sealer
                .seal(&Verdict::ACCEPTED.encode(), &mut verdict)
                .expect("a verdict is short enough to seal");
        } else {
            let ping = behind.first_chunk::<HEADER_LEN>();
            let ping = ping.expect("a ping is behind message 3");
            let ping = Header::decode(ping).expect("the ping is the peer's own");
            verdict.extend_from_slice(&Header::ping(Flags::ACK, ping.length).encode());
        }
        peer.receive(&verdict, now).expect("the verdict is honest");
        assert!(peer.is_ready());
        Self {
            peer,
            sealer,
            source: identity(dialect, 5),
            destination: destination.public(),
            streams: Vec::new(),
            now,
            piece: usize::from(piece).max(1),
            answered: 0,
            honest_count: 0,
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Data {
                stream,
                flags,
                bytes,
            } => {
                let flags = Flags::from_bits(u16::from(flags & 15)).unwrap_or_default();
                let header = Header::data(u32::from(*stream), flags, u32::from(*bytes));
                self.receive(&header.encode());
                self.receive(&vec![0xa5; usize::from(*bytes)]);
            }
            Operation::Eof => self.peer.eof(self.now),
            Operation::Finish { which } => {
                if let Some(stream) = self.stream(*which) {
                    _ = self.peer.finish(stream);
                }
            }
            Operation::Header {
                kind,
                flags,
                stream,
                length,
            } => {
                let [f1, f0] = flags.to_be_bytes();
                let mut bytes = vec![0, *kind, f1, f0];
                bytes.extend_from_slice(&stream.to_be_bytes());
                bytes.extend_from_slice(&length.to_be_bytes());
                self.receive(&bytes);
            }
            Operation::Incoming {
                stream,
                port,
                wrong,
            } => {
                self.incoming(u32::from(*stream) * 2 + 2, *port, *wrong);
            }
            Operation::Open { port } => {
                let destination = Address::new(self.source.public(), *port);
                if let Ok(stream) = self.peer.open(destination, 50_000, UNIX_NS, [6; 32]) {
                    self.streams.push(stream);
                }
            }
            Operation::Raw { bytes } => self.receive(bytes),
            Operation::Read { which, bytes } => {
                if let Some(stream) = self.stream(*which) {
                    _ = self.peer.read(stream, &mut vec![0; usize::from(*bytes)]);
                }
            }
            Operation::Reset { which } => {
                if let Some(stream) = self.stream(*which) {
                    _ = self.peer.reset(stream);
                }
            }
            Operation::Sealed { stream, plain } => {
                let mut object = Vec::new();
                if self.sealer.seal(plain, &mut object).is_ok() {
                    self.object(u32::from(*stream), Flags::NONE, &object);
                }
            }
            Operation::Tick { ms } => {
                self.now = self.now + Duration::from_millis(u64::from(*ms));
                self.peer.handle_timeout(self.now);
            }
            Operation::Write { which, bytes } => {
                if let Some(stream) = self.stream(*which) {
                    _ = self.peer.write(stream, &vec![0xc3; usize::from(*bytes)]);
                }
            }
        }
        self.settle();
    }

    /// A request of another party that the relay passes on, or its forgery.
    fn incoming(&mut self, stream: u32, port: u16, wrong: Wrong) {
        let destination = match wrong {
            Wrong::Destination => self.source.public(),
            Wrong::Nothing | Wrong::Signature | Wrong::Time => self.destination,
        };
        let mut object = Vec::new();
        let mut plain = self.request(Address::new(destination, port), wrong == Wrong::Time);
        if wrong == Wrong::Signature {
            // In one dialect it is the last of the object, in the other the first.
            let at = match self.source {
                Identity::Native(_) => plain.len() - 1,
                Identity::Dmsg(_) => 7,
            };
            plain[at] ^= 1;
        }
        self.honest_count += u64::from(wrong == Wrong::Nothing);
        if self.sealer.seal(&plain, &mut object).is_ok() {
            self.object(stream, Flags::SYN, &object);
        }
    }

    /// Returns a request of the source, as the wire has it inside the seal.
    fn request(&self, destination: Address, is_stale: bool) -> Vec<u8> {
        let source = Address::new(self.source.public(), 50_001);
        match &self.source {
            Identity::Native(secret) => {
                let (_, noise) = KkInitiator::new(secret, &self.destination, [8; 32])
                    .expect("the peer's key is a point");
                let request = OpenRequest {
                    forwarded: false,
                    timestamp_ns: if is_stale { UNIX_NS / 2 } else { UNIX_NS },
                    source,
                    destination,
                    noise: &noise,
                };
                request.encode(secret)
            }
            Identity::Dmsg(identity) => {
                let begun = dmsg::kk::KkInitiator::new(identity, &self.destination, [8; 32]);
                let (_, noise) = begun.expect("the peer's key is a point");
                let request = StreamRequest {
                    timestamp_ns: i64::from(!is_stale),
                    source,
                    destination,
                    wants_ip: false,
                    wants_geo: false,
                    noise: &noise,
                };
                request.encode(identity.secret()).map_err(Into::into)
            }
        }
        .expect("a request with a KK message encodes")
    }

    fn object(&mut self, stream: u32, flags: Flags, object: &[u8]) {
        let length = u32::try_from(object.len()).expect("a sealed object is short");
        let header = Header {
            kind: FrameKind::Data,
            flags,
            stream_id: stream,
            length,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(object);
        self.receive(&bytes);
    }

    fn receive(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece) {
            if self.peer.receive(piece, self.now).is_err() {
                return;
            }
        }
    }

    /// Takes what the peer has to say and checks what it holds.
    fn settle(&mut self) {
        let mut out = Vec::new();
        while self.peer.transmit(&mut out, 65_536) > 0 {
            out.clear();
        }
        // Bound: events come from input, which is bounded.
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Incoming {
                    stream,
                    request,
                    source,
                    ..
                } => {
                    assert_eq!(source.key, self.source.public(), "a forged source");
                    self.answered = self.answered.wrapping_add(1);
                    if self.answered.is_multiple_of(4) {
                        _ = self.peer.refuse(stream, request, Reason::NoListener);
                    } else if self.peer.accept(stream, request, [9; 32]).is_ok() {
                        self.streams.push(stream);
                    }
                }
                PeerEvent::Opened { .. } => forged_answer(),
                PeerEvent::OpenRefused { reason_code, .. } => assert_ne!(reason_code, 0),
                _ => {}
            }
        }
        assert!(
            self.peer.stats().incoming <= self.honest_count,
            "a request that nobody signed for this key"
        );
        assert!(
            self.peer.streams_count() <= 2 * STREAMS_MAX,
            "more streams than the limit"
        );
        for stream in &self.streams {
            assert!(
                self.peer.readable_bytes(*stream) <= WINDOW_MAX as usize,
                "held past the window"
            );
        }
    }

    fn stream(&self, which: u8) -> Option<StreamId> {
        let count = self.streams.len();
        (count > 0).then(|| self.streams[usize::from(which) % count])
    }
}

#[expect(clippy::panic, reason = "the failure that libFuzzer looks for")]
fn forged_answer() -> ! {
    panic!("the relay answered for the destination")
}

fn identity(dialect: Dialect, byte: u8) -> Identity {
    match dialect {
        Dialect::Dmsg => dmsg::key::SecretKey::from_bytes([byte; 32])
            .expect("small numbers are scalars of the curve")
            .into(),
        _ => SecretKey::from_seed([byte; 32]).into(),
    }
}

/// Returns the handshake message the peer wants to send, without its length prefix, and what is behind it.
fn next_message(dialect: Dialect, peer: &mut PeerSession) -> (Vec<u8>, Vec<u8>) {
    let mut out = Vec::new();
    peer.transmit(&mut out, 65_536);
    let length = dialect.message_len(&out).expect("the length is allowed");
    let behind = out.split_off(length.expect("the message has a prefix"));
    (out.split_off(2), behind)
}
