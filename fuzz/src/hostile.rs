//! A peer with a valid session, in one dialect or the other, that sends what it likes.
//!
//! Here: the honest handshake, then frames with sealed objects that are right but for one thing. Not
//! here: the objects (`hostile/objects`), bytes without any form, which need no session (`shard_core`).
//!
//! Bound: it remembers the last [`REQUESTS_MAX`] requests and drops input past [`INPUT_BYTES_MAX`].

mod objects;

use arbitrary::Arbitrary;
use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Initiator;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg;
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{self, Role};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::sealed::{Opener, Sealer};

pub(crate) use self::objects::Damage;

/// What is wrong with a request.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// Marked as forwarded by a relay, where the dialect has a mark.
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

enum Stage {
    Message2(Box<Initiator>),
    Open(Box<Opener>),
    /// The relay broke off, or the bytes made no sense.
    Over,
    Verdict(Box<Opener>),
}

/// See the module.
pub(crate) struct Hostile {
    identity: Identity,
    stage: Stage,
    sealer: Option<Sealer>,
    input: Vec<u8>,
    output: Vec<u8>,
    requests: Vec<(u32, Vec<u8>)>,
    /// The last object that it has sealed.
    object: Vec<u8>,
}

impl Hostile {
    /// Begins a handshake.
    pub(crate) fn connect(identity: Identity, relay: &PublicKey, random: [u8; 32]) -> Self {
        let begun = match &identity {
            Identity::Dmsg(identity) => dmsg::handshake::Initiator::new(identity, relay, random)
                .map(|(initiator, message)| (Initiator::Dmsg(initiator), message)),
            Identity::Native(secret) => {
                handshake::Initiator::new(secret, relay, Role::Peer, &[], random)
                    .map(|(initiator, message)| (Initiator::Native(initiator), message))
            }
        };
        let (initiator, message_1) = begun.expect("the relay's key is a point");
        Self {
            identity,
            stage: Stage::Message2(Box::new(initiator)),
            sealer: None,
            input: Vec::new(),
            output: message_1,
            requests: Vec::new(),
            object: Vec::new(),
        }
    }

    /// Returns what it speaks.
    pub(crate) const fn dialect(&self) -> Dialect {
        self.identity.dialect()
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
        if let Some(plain) = objects::request(&self.identity, to, unix_ns, wrong) {
            self.open(stream, &plain);
        }
    }

    /// Asks for a stream with a request of which one byte is another.
    pub(crate) fn request_damaged(
        &mut self,
        stream: u32,
        to: Address,
        unix_ns: u64,
        damage: Damage,
    ) {
        if let Some(plain) = objects::damaged(&self.identity, to, unix_ns, damage) {
            self.open(stream, &plain);
        }
    }

    /// Asks where it comes from, as the dmsg dialect alone can.
    pub(crate) fn ask_address(&mut self, stream: u32, of: PublicKey, unix_ns: u64, place: bool) {
        if let Some(plain) = objects::address_request(&self.identity, of, unix_ns, place) {
            self.open(stream, &plain);
        }
    }

    /// Says that it is a server, as the dmsg dialect alone can.
    pub(crate) fn announce(&mut self, stream: u32, unix_ns: u64) {
        if let Some(plain) = objects::announcement(&self.identity, unix_ns) {
            self.open(stream, &plain);
        }
    }

    /// Opens a stream with an object of these bytes.
    pub(crate) fn open(&mut self, stream: u32, plain: &[u8]) {
        if self.seal(plain) {
            self.say_object(stream, Flags::SYN);
        }
    }

    /// Opens a stream with the object that it has sealed last.
    pub(crate) fn replay(&mut self, stream: u32) {
        if !self.object.is_empty() {
            self.say_object(stream, Flags::SYN);
        }
    }

    /// Answers the request that came last: with a right or a wrong hash, signed or not.
    pub(crate) fn answer(&mut self, reason_code: u16, has_hash: bool, is_signed: bool) {
        let Some((stream, request)) = self.requests.last() else {
            return;
        };
        let (stream, mut hash) = (*stream, self.dialect().request_hash(request));
        if !has_hash {
            hash.0[0] ^= 1;
        }
        let plain = objects::response(&self.identity, reason_code, hash, is_signed);
        if self.seal(&plain) {
            self.say_object(stream, Flags::ACK);
        }
    }

    fn seal(&mut self, plain: &[u8]) -> bool {
        let mut object = Vec::new();
        let Some(sealer) = &mut self.sealer else {
            return false;
        };
        let is_sealed = sealer.seal(plain, &mut object).is_ok();
        if is_sealed {
            self.object = object;
        }
        is_sealed
    }

    /// Sends the object at the head of a stream: in the dmsg dialect the flag comes in a frame before it.
    fn say_object(&mut self, stream: u32, flags: Flags) {
        let length = u32::try_from(self.object.len()).expect("a sealed object is short");
        let flags_at_head = match self.dialect() {
            Dialect::Dmsg => {
                let update = Header::window_update(stream, flags, 0);
                self.output.extend_from_slice(&update.encode());
                Flags::NONE
            }
            _ => flags,
        };
        let header = Header::data(stream, flags_at_head, length);
        self.output.extend_from_slice(&header.encode());
        self.output.extend_from_slice(&self.object);
    }

    /// Takes one message, object or frame off the input; returns whether one was there.
    fn take_one(&mut self) -> bool {
        let length = match &self.stage {
            Stage::Message2(_) => self.dialect().message_len(&self.input).ok().flatten(),
            Stage::Verdict(_) => self.dialect().object_len(&self.input).ok().flatten(),
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
                Ok((message_3, greeted)) => {
                    self.output.extend_from_slice(&message_3);
                    self.sealer = Some(greeted.sealer);
                    match self.dialect().has_verdict() {
                        true => Stage::Verdict(Box::new(greeted.opener)),
                        false => Stage::Open(Box::new(greeted.opener)),
                    }
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
        // In the dmsg dialect the frame that opens a stream is empty, and what does not open is no object.
        let may_be_request = match self.dialect() {
            Dialect::Dmsg => header.kind == FrameKind::Data,
            _ => header.flags.contains(Flags::SYN),
        };
        if may_be_request
            && let Some(object) = payload.get_mut(2..)
            && let Ok(plain) = opener.open(object)
        {
            let plain = plain.to_vec();
            self.requests.truncate(REQUESTS_MAX - 1);
            self.requests.push((header.stream_id, plain));
        }
    }
}

/// Requests it can still answer.
const REQUESTS_MAX: usize = 16;

/// Input it keeps: a window of one stream and a batch.
const INPUT_BYTES_MAX: usize = 1 << 20;
