//! A peer with a valid session that sends what it likes.
//!
//! Here: the honest handshake, then frames with sealed objects that are right but for one thing. Not
//! here: bytes without any form, which need no session (`shard_core`).
//!
//! Bound: it remembers the last [`REQUESTS_MAX`] requests and drops input past [`INPUT_BYTES_MAX`].

use arbitrary::Arbitrary;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Initiator, Role, message_len};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::KkInitiator;
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::sealed::{Opener, Sealer, object_len};

/// What is wrong with a request.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// Marked as forwarded by a relay.
    Forwarded,
    /// Nothing.
    Nothing,
    /// The signature.
    Signature,
    /// Signed by this peer in the name of another.
    Source,
    /// Made long ago.
    Time,
    /// Cut off.
    Truncated,
}

#[derive(Debug)]
enum Stage {
    Message2(Box<Initiator>),
    Open(Box<Opener>),
    /// The relay broke off, or the bytes made no sense.
    Over,
    Verdict(Box<Opener>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hostile {
    secret: SecretKey,
    stage: Stage,
    sealer: Option<Sealer>,
    input: Vec<u8>,
    output: Vec<u8>,
    requests: Vec<(u32, Vec<u8>)>,
}

impl Hostile {
    /// Begins a handshake.
    pub(crate) fn connect(secret: SecretKey, relay: &PublicKey, random: [u8; 32]) -> Self {
        let (initiator, message_1) = Initiator::new(&secret, relay, Role::Peer, &[], random)
            .expect("the relay's key is a point");
        Self {
            secret,
            stage: Stage::Message2(Box::new(initiator)),
            sealer: None,
            input: Vec::new(),
            output: message_1,
            requests: Vec::new(),
        }
    }

    /// Takes bytes of the relay.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        if self.input.len() > INPUT_BYTES_MAX {
            self.input.clear();
            self.stage = Stage::Over;
        }
        // Bound: each round takes bytes of the input or ends.
        while self.take_one() {}
    }

    /// Returns what it has to say, up to `bytes_max`.
    pub(crate) fn transmit(&mut self, bytes_max: usize) -> Vec<u8> {
        let count = bytes_max.min(self.output.len());
        self.output.drain(..count).collect()
    }

    /// Says bytes of any kind, behind what it said before.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        if self.sealer.is_some() {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Asks for a stream.
    pub(crate) fn request(&mut self, stream: u32, to: Address, unix_ns: u64, wrong: Wrong) {
        let source = if matches!(wrong, Wrong::Source) {
            to.key
        } else {
            self.secret.public()
        };
        let Ok((_, noise)) = KkInitiator::new(&self.secret, &to.key, [8; 32]) else {
            return;
        };
        let request = OpenRequest {
            forwarded: matches!(wrong, Wrong::Forwarded),
            timestamp_ns: if matches!(wrong, Wrong::Time) {
                1
            } else {
                unix_ns
            },
            source: Address::new(source, PORT),
            destination: to,
            noise: &noise,
        };
        let mut plain = request
            .encode(&self.secret)
            .expect("a request with a KK message encodes");
        match wrong {
            Wrong::Signature => plain[20] ^= 1,
            Wrong::Truncated => plain.truncate(90),
            Wrong::Forwarded | Wrong::Nothing | Wrong::Source | Wrong::Time => {}
        }
        self.object(stream, Flags::SYN, &plain);
    }

    /// Answers the request that came last: with a right or a wrong hash, signed or not.
    pub(crate) fn answer(&mut self, reason_code: u16, has_hash: bool, is_signed: bool) {
        let Some((stream, request)) = self.requests.last() else {
            return;
        };
        let (stream, mut hash) = (*stream, OpenRequest::hash(request));
        if !has_hash {
            hash.0[0] ^= 1;
        }
        let response = OpenResponse {
            reason_code,
            request_hash: hash,
            noise: &[],
        };
        let mut plain = response
            .encode(&self.secret)
            .expect("a response without Noise encodes");
        if !is_signed && let Some(signature) = plain.last_chunk_mut::<64>() {
            *signature = [0; 64];
        }
        self.object(stream, Flags::ACK, &plain);
    }

    fn object(&mut self, stream: u32, flags: Flags, plain: &[u8]) {
        let mut object = Vec::new();
        let Some(sealer) = &mut self.sealer else {
            return;
        };
        if sealer.seal(plain, &mut object).is_err() {
            return;
        }
        let length = u32::try_from(object.len()).expect("a sealed object is short");
        let header = Header {
            kind: FrameKind::Data,
            flags,
            stream_id: stream,
            length,
        };
        self.output.extend_from_slice(&header.encode());
        self.output.extend_from_slice(&object);
    }

    /// Takes one message, object or frame off the input; returns whether one was there.
    fn take_one(&mut self) -> bool {
        let length = match &self.stage {
            Stage::Message2(_) => message_len(&self.input).ok().flatten(),
            Stage::Verdict(_) => object_len(&self.input).ok().flatten(),
            Stage::Open(_) => self
                .input
                .first_chunk::<HEADER_LEN>()
                .and_then(|head| Header::decode(head).ok())
                .map(|header| HEADER_LEN + header.payload_bytes() as usize),
            Stage::Over => None,
        };
        let Some(length) = length.filter(|length| self.input.len() >= *length) else {
            return false;
        };
        let mut taken: Vec<u8> = self.input.drain(..length).collect();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Message2(initiator) => match initiator.message_2(&taken[2..]) {
                Ok((message_3, established)) => {
                    self.output.extend_from_slice(&message_3);
                    self.sealer = Some(established.sealer);
                    Stage::Verdict(Box::new(established.opener))
                }
                Err(_) => Stage::Over,
            },
            Stage::Verdict(mut opener) => match opener.open(&mut taken[2..]) {
                Ok(_) => Stage::Open(opener),
                Err(_) => Stage::Over,
            },
            Stage::Open(mut opener) => {
                self.note_request(&mut opener, &mut taken);
                Stage::Open(opener)
            }
            Stage::Over => Stage::Over,
        };
        true
    }

    fn note_request(&mut self, opener: &mut Opener, frame: &mut [u8]) {
        let Some((head, payload)) = frame.split_first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        let Ok(header) = Header::decode(head) else {
            return;
        };
        if header.flags.contains(Flags::SYN)
            && let Some(object) = payload.get_mut(2..)
            && let Ok(plain) = opener.open(object)
        {
            let plain = plain.to_vec();
            self.requests.truncate(REQUESTS_MAX - 1);
            self.requests.push((header.stream_id, plain));
        }
    }
}

/// The source port of its requests: none that an honest peer of a run uses.
const PORT: u16 = 60_000;

/// Requests it can still answer.
const REQUESTS_MAX: usize = 16;

/// Input it keeps: a window of one stream and a batch.
const INPUT_BYTES_MAX: usize = 1 << 20;
