//! A relay in memory, for tests of the peer side, in one dialect or the other.
//!
//! Here: handshake, verdict, bridging of opens and frames between peers, without any limit or check
//! of its own; and hooks to send peers what a good relay never would. Not here: the real relay.
//!
//! Works on whole frames. Routes are never removed: late frames are carried to who ignores them.

use std::collections::BTreeMap;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::{Identities, Responder};
use ringway_proto::dmsg;
use ringway_proto::frame::{Flags, FrameKind, GoAwayCode, HEADER_LEN, Header};
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::{PublicKey, SecretKey};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::verdict::Verdict;

/// What a private relay would ask for.
pub(crate) const PASSPHRASE: &[u8] = b"open sesame";

/// The relay, with a leg for each connection.
pub(crate) struct Mirror {
    dialect: Dialect,
    identities: Identities,
    pub(crate) legs: Vec<Leg>,
    pub(crate) offer: Offer,
    /// The verdict for the next handshakes; a dialect without one says Go Away with its reason.
    pub(crate) verdict: Verdict,
    /// Whether opens reach their destination; if not they wait for ever.
    pub(crate) is_forwarding: bool,
    /// Changes an open request or response on its way.
    pub(crate) tamper: Option<fn(&mut Vec<u8>)>,
}

/// One connection.
pub(crate) struct Leg {
    phase: Phase,
    input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    pub(crate) key: Option<PublicKey>,
    pub(crate) sealer: Option<Sealer>,
    opener: Option<Opener>,
    next_id: u32,
    routes: BTreeMap<u32, Route>,
    /// Whether the peer proved that it knows `PASSPHRASE`.
    pub(crate) knows_passphrase: bool,
    /// Go Away codes the peer sent.
    pub(crate) go_aways: Vec<u32>,
    /// Payload bytes of data frames the peer sent.
    pub(crate) data_bytes: usize,
}

enum Phase {
    Message1,
    Message3(Box<Responder>),
    Frames,
    /// Hears nothing any more.
    Deaf,
}

/// Where the frames of a stream go.
struct Route {
    leg: usize,
    id: u32,
    stage: Stage,
    held: Vec<u8>,
}

#[derive(PartialEq)]
enum Stage {
    Request,
    Response,
    Data,
}

impl Mirror {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let native = RelayIdentity::new(&SecretKey::from_seed([200; 32]));
        let secret = dmsg::key::SecretKey::from_bytes([200; 32]).unwrap();
        let dmsg = dmsg::handshake::Identity::new(secret);
        Self {
            dialect,
            identities: Identities::new(native, Some(dmsg.into())),
            legs: Vec::new(),
            offer: Offer {
                capabilities: 0,
                streams_max: 2_048,
                stream_window: 262_144,
                keepalive_s: 30,
            },
            verdict: Verdict {
                reason: Reason::Accepted,
                retry_after_ms: 0,
            },
            is_forwarding: true,
            tamper: None,
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        match (self.dialect, self.identities.dmsg()) {
            (Dialect::Dmsg, Some(identity)) => identity.public(),
            _ => self.identities.public(),
        }
    }

    pub(crate) fn accept(&mut self) -> usize {
        self.legs.push(Leg {
            phase: Phase::Message1,
            input: Vec::new(),
            output: Vec::new(),
            key: None,
            sealer: None,
            opener: None,
            next_id: 2,
            routes: BTreeMap::new(),
            knows_passphrase: false,
            go_aways: Vec::new(),
            data_bytes: 0,
        });
        self.legs.len() - 1
    }

    pub(crate) fn receive(&mut self, leg: usize, bytes: &[u8]) {
        self.legs[leg].input.extend_from_slice(bytes);
        while self.step(leg) {}
    }

    /// Seals `plain` for a peer, as a whole object.
    pub(crate) fn seal(&mut self, leg: usize, plain: &[u8]) -> Vec<u8> {
        let mut object = Vec::new();
        self.legs[leg]
            .sealer
            .as_mut()
            .unwrap()
            .seal(plain, &mut object)
            .unwrap();
        object
    }

    /// Opens an object of a peer.
    pub(crate) fn open_from(&mut self, leg: usize, object: &mut [u8]) -> Vec<u8> {
        self.legs[leg]
            .opener
            .as_mut()
            .unwrap()
            .open(&mut object[2..])
            .unwrap()
            .to_vec()
    }

    /// Sends a peer a frame.
    pub(crate) fn push(&mut self, leg: usize, header: Header, payload: &[u8]) {
        let output = &mut self.legs[leg].output;
        output.extend_from_slice(&header.encode());
        output.extend_from_slice(payload);
    }

    /// Opens a stream to a peer with a request that no peer made, or one that was changed.
    pub(crate) fn offer_request(&mut self, leg: usize, plain: &[u8]) -> u32 {
        let object = self.seal(leg, plain);
        let id = self.legs[leg].next_id;
        self.legs[leg].next_id += 2;
        self.push(leg, Header::window_update(id, Flags::SYN, 0), &[]);
        self.push(leg, Header::data(id, Flags::NONE, len_of(&object)), &object);
        id
    }

    fn step(&mut self, leg: usize) -> bool {
        match self.legs[leg].phase {
            Phase::Message1 => {
                let Some(message) = self.legs[leg].take_message(self.dialect) else {
                    return false;
                };
                let (dialect, offer) = (self.dialect, self.offer);
                let random = [leg_byte(leg); 32];
                let begun = Responder::begin(dialect, &self.identities, offer, random, &message);
                let (responder, answer) = begun.unwrap();
                self.legs[leg].output.extend_from_slice(&answer);
                self.legs[leg].phase = Phase::Message3(Box::new(responder));
            }
            Phase::Message3(_) => {
                let Some(message) = self.legs[leg].take_message(self.dialect) else {
                    return false;
                };
                self.admit(leg, &message);
            }
            Phase::Frames => {
                let Some((header, payload)) = self.legs[leg].take_frame() else {
                    return false;
                };
                self.on_frame(leg, header, &payload);
            }
            Phase::Deaf => return false,
        }
        true
    }

    fn admit(&mut self, leg: usize, message: &[u8]) {
        let verdict = self.verdict;
        let entry = &mut self.legs[leg];
        let Phase::Message3(responder) = std::mem::replace(&mut entry.phase, Phase::Frames) else {
            panic!("no handshake under way");
        };
        let (key, sealer, opener) = match *responder {
            Responder::Native(responder) => {
                let mut established = responder.message_3(message).unwrap();
                entry.knows_passphrase = established.knows_passphrase(PASSPHRASE);
                let sealed = established
                    .sealer
                    .seal(&verdict.encode(), &mut entry.output);
                sealed.unwrap();
                (established.key, established.sealer, established.opener)
            }
            Responder::Dmsg(responder) => {
                let established = responder.message_3(message).unwrap();
                if !verdict.is_accepted() {
                    let mut refusal = Header::go_away(GoAwayCode::Normal);
                    refusal.length = verdict.reason.code().into();
                    entry.output.extend_from_slice(&refusal.encode());
                    entry.phase = Phase::Deaf;
                }
                (established.key, established.sealer, established.opener)
            }
        };
        entry.key = Some(key);
        entry.sealer = Some(sealer);
        entry.opener = Some(opener);
    }

    fn on_frame(&mut self, leg: usize, header: Header, payload: &[u8]) {
        self.legs[leg].data_bytes += payload.len();
        match header.kind {
            FrameKind::Ping if header.flags == Flags::SYN => {
                self.push(leg, Header::ping(Flags::ACK, header.length), &[]);
            }
            FrameKind::Ping => {}
            FrameKind::GoAway => self.legs[leg].go_aways.push(header.length),
            FrameKind::Data | FrameKind::WindowUpdate => self.on_stream_frame(leg, header, payload),
        }
    }

    fn on_stream_frame(&mut self, leg: usize, header: Header, payload: &[u8]) {
        let id = header.stream_id;
        if header.flags.contains(Flags::SYN) {
            let stage = Stage::Request;
            let route = Route {
                leg: usize::MAX,
                id: 0,
                stage,
                held: Vec::new(),
            };
            self.legs[leg].routes.insert(id, route);
            if self.dialect.acknowledges_at_once() {
                self.push(leg, Header::window_update(id, Flags::ACK, 0), &[]);
            }
        }
        let Some(route) = self.legs[leg].routes.get_mut(&id) else {
            return;
        };
        if route.stage == Stage::Data || header.kind == FrameKind::WindowUpdate {
            self.forward(leg, header, payload);
            return;
        }
        route.held.extend_from_slice(payload);
        let Some(len) = self.dialect.object_len(&route.held).unwrap() else {
            return;
        };
        if route.held.len() < len {
            return;
        }
        let rest = route.held.split_off(len);
        let mut object = std::mem::take(&mut route.held);
        let is_request = route.stage == Stage::Request;
        route.stage = Stage::Data;
        let opener = self.legs[leg].opener.as_mut().unwrap();
        let mut plain = opener.open(&mut object[2..]).unwrap().to_vec();
        if let Some(tamper) = self.tamper {
            tamper(&mut plain);
        }
        if is_request {
            self.bridge(leg, id, &plain);
            return;
        }
        self.answer(leg, header, &plain, &rest);
    }

    /// Passes a response on, and what followed it in the same frame.
    fn answer(&mut self, leg: usize, header: Header, plain: &[u8], rest: &[u8]) {
        let id = header.stream_id;
        let (other, other_id) = (
            self.legs[leg].routes[&id].leg,
            self.legs[leg].routes[&id].id,
        );
        let object = self.seal(other, plain);
        let head = self.dialect.decode_response(plain);
        let is_refusal = head.is_ok_and(|head| !head.is_accepted());
        if self.dialect.ends_apart() && is_refusal {
            // The destination resets, which a bridge would carry on ahead of the answer.
            self.legs[leg].routes.remove(&id);
            let answer = Header::data(other_id, Flags::NONE, len_of(&object));
            self.push(other, answer, &object);
            self.push(other, Header::window_update(other_id, Flags::FIN, 0), &[]);
            return;
        }
        let flags = if rest.is_empty() {
            header.flags
        } else {
            Flags::NONE
        };
        self.push(
            other,
            Header::data(other_id, flags, len_of(&object)),
            &object,
        );
        if !rest.is_empty() {
            self.push(
                other,
                Header::data(other_id, header.flags, len_of(rest)),
                rest,
            );
        }
    }

    fn bridge(&mut self, leg: usize, id: u32, plain: &[u8]) {
        if !self.is_forwarding {
            return;
        }
        let head = self.dialect.decode_request(plain).unwrap();
        let destination = self
            .legs
            .iter()
            .position(|l| l.key == Some(head.destination.key));
        let Some(other) = destination else {
            let hash = self.dialect.request_hash(plain);
            let reason = Reason::UnknownDestination;
            match self.dialect.encode_refusal(&hash, reason) {
                Some(refusal) => {
                    let object = self.seal(leg, &refusal);
                    let flags = Flags::ACK | Flags::FIN;
                    self.push(leg, Header::data(id, flags, len_of(&object)), &object);
                }
                None => self.push(leg, Header::window_update(id, Flags::RST, 0), &[]),
            }
            return;
        };
        let other_id = self.offer_request(other, plain);
        let back = Route {
            leg,
            id,
            stage: Stage::Response,
            held: Vec::new(),
        };
        self.legs[other].routes.insert(other_id, back);
        if let Some(route) = self.legs[leg].routes.get_mut(&id) {
            route.leg = other;
            route.id = other_id;
        }
    }

    fn forward(&mut self, leg: usize, mut header: Header, payload: &[u8]) {
        let Some(route) = self.legs[leg].routes.get(&header.stream_id) else {
            return;
        };
        if route.leg == usize::MAX {
            return;
        }
        let (other, id) = (route.leg, route.id);
        header.stream_id = id;
        self.push(other, header, payload);
    }
}

impl Leg {
    fn take_message(&mut self, dialect: Dialect) -> Option<Vec<u8>> {
        let len = dialect.message_len(&self.input).unwrap()?;
        (self.input.len() >= len).then(|| self.input.drain(..len).skip(2).collect())
    }

    fn take_frame(&mut self) -> Option<(Header, Vec<u8>)> {
        let header = Header::decode(self.input.first_chunk::<HEADER_LEN>()?).unwrap();
        let len = HEADER_LEN + usize::try_from(header.payload_bytes()).unwrap();
        (self.input.len() >= len)
            .then(|| (header, self.input.drain(..len).skip(HEADER_LEN).collect()))
    }
}

fn leg_byte(leg: usize) -> u8 {
    100 + u8::try_from(leg).unwrap()
}

pub(crate) fn len_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}
