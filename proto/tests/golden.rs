//! Golden vectors: the bytes of every layout, compared with `proto/testdata/*.hex`.
//!
//! A file is a comment and one paragraph a case: `name: ...`, fields for people as `field: value`, at
//! last `hex: ...`, the bytes on the wire. Every case is made again from fixed keys and fixed ephemeral
//! secrets, and whole files are compared. A difference means that the wire has changed and deployed
//! peers will not understand it. When that is meant, write the files again and say in the commit which
//! version of the protocol it belongs to:
//! `RINGWAY_GOLDEN_WRITE=1 cargo test -p ringway-proto --test golden`.

use std::fmt::Write;
use std::path::Path;

use ringway_proto::dialect::RequestHash;
use ringway_proto::entry::{PeerEntry, RelayEntry};
use ringway_proto::frame::{Flags, GoAwayCode, Header};
use ringway_proto::handshake::{
    Extension, ExtensionKind, Initiator, Offer, RelayIdentity, Responder, Role,
};
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::kk::{KkInitiator, kk_respond};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::peer_set::PeerSet;
use ringway_proto::reason::Reason;
use ringway_proto::record::{RecordOpener, RecordSealer, SoftAead};
use ringway_proto::route::packet::{PacketHead, PacketKind, write_end};
use ringway_proto::route::{
    Announce, Find, FindBy, FoundPath, GroupName, HopReply, HopRequest, Message, Refusal, RouteId,
    Rule, RuleKind, SetUp, SetupReply, SetupRequest, Transport,
};
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::verdict::Verdict;
use serde::Serialize;
use serde::de::DeserializeOwned;

const PEER: SecretKey = SecretKey::from_seed([0x11; 32]);
const RELAY: SecretKey = SecretKey::from_seed([0x22; 32]);
const OTHER: SecretKey = SecretKey::from_seed([0x33; 32]);

#[test]
fn header() {
    let cases = [
        ("open a stream", Header::window_update(1, Flags::SYN, 0)),
        (
            "accept a stream and grant",
            Header::window_update(1, Flags::ACK, 65_536),
        ),
        ("data", Header::data(3, Flags::NONE, 16_384)),
        (
            "refusal of a relay",
            Header::data(5, Flags::ACK | Flags::FIN, 128),
        ),
        ("end of a half", Header::data(0x7fff_ffff, Flags::FIN, 0)),
        ("reset", Header::window_update(2, Flags::RST, 0)),
        (
            "all flags",
            Header::data(4, Flags::SYN | Flags::ACK | Flags::FIN | Flags::RST, 1),
        ),
        ("ping", Header::ping(Flags::SYN, 0x0102_0304)),
        ("answer to a ping", Header::ping(Flags::ACK, 0x0102_0304)),
        ("graceful end", Header::go_away(GoAwayCode::Normal)),
        ("protocol error", Header::go_away(GoAwayCode::ProtocolError)),
        ("internal error", Header::go_away(GoAwayCode::InternalError)),
    ];
    let mut file = Golden::new("12-byte yamux header: version, kind, flags, stream id, length");
    for (name, header) in cases {
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        file.case(name)
            .field("kind", format_args!("{:?}", header.kind))
            .field("flags", format_args!("{:?}", header.flags))
            .field("stream id", header.stream_id)
            .field("length", header.length)
            .hex(&bytes);
    }
    file.compare("header.hex");
}

#[test]
fn sealed() {
    let key = [0x44; 32];
    let (mut sealer, mut opener) = (Sealer::new(key), Opener::new(key));
    let mut file = Golden::new("sealed object: u16 length, u64 nonce, ciphertext, 16-byte tag");
    for (nonce, plain) in [&b""[..], b"\x10", b"a plain object"]
        .into_iter()
        .enumerate()
    {
        let mut object = Vec::new();
        sealer.seal(plain, &mut object).unwrap();
        assert_eq!(opener.open(&mut object[2..].to_vec()), Ok(plain));
        file.case(&format!("nonce {nonce}"))
            .field("key", hex(&key))
            .field("plain", hex(plain))
            .hex(&object);
    }
    file.compare("sealed.hex");
}

#[test]
fn verdict() {
    let mut file = Golden::new("verdict, plain: kind 0x10, version 1, u16 reason, u32 retry after");
    for reason in Reason::ALL {
        let retry_after_ms = if reason == Reason::Accepted { 0 } else { 1_500 };
        let verdict = Verdict {
            reason,
            retry_after_ms,
        };
        assert_eq!(Verdict::decode(&verdict.encode()), Ok(verdict));
        file.case(reason.label())
            .field("reason", reason.code())
            .field("retry after ms", retry_after_ms)
            .hex(&verdict.encode());
    }
    file.compare("verdict.hex");
}

#[test]
fn peer_set() {
    let layout = "peer set, plain; offsets in docs/protocol.md section 6";
    let mut file = Golden::new(layout);
    let keys = [PEER, OTHER].map(|secret| *secret.public().as_bytes().first_chunk().unwrap());
    for (name, is_anew, sequence, appeared, gone) in [
        (
            "the set begins, nobody is there",
            true,
            0,
            &keys[..0],
            &keys[..0],
        ),
        ("the set begins", true, 0, &keys, &[]),
        ("one came, one went", false, 1, &keys[..1], &keys[1..]),
        ("one went", false, u64::MAX, &[], &keys[1..]),
    ] {
        let set = PeerSet::new(is_anew, sequence, appeared, gone).unwrap();
        assert_eq!(PeerSet::decode(&set.encode()), Ok(set));
        let asking = set.asking_anew();
        assert_eq!(PeerSet::decode(&asking.encode()), Ok(asking));
        file.case(name)
            .field("anew", is_anew)
            .field("sequence", sequence)
            .field("appeared", appeared.len())
            .field("gone", gone.len())
            .hex(&set.encode());
    }
    file.compare("peer_set.hex");
}

#[test]
fn entry() {
    let layout = "entries of a peer and of a relay; docs/protocol.md section 6";
    let mut file = Golden::new(layout);
    let sequence = 1_700_000_000_123_456_789;
    let entry = PeerEntry::sign(&PEER, &RELAY.public(), sequence).unwrap();
    assert_eq!(PeerEntry::decode(&entry.encode()), Ok(entry));
    assert_eq!(entry.verify(&PEER.public(), &RELAY.public()), Ok(()));
    file.case("of a peer")
        .field("relay", RELAY.public())
        .field("sequence", sequence)
        .hex(&entry.encode());
    for (name, address) in [
        ("of a relay that only dials out", None),
        ("of a relay", Some("192.0.2.1:7100")),
        ("of a relay with IPv6", Some("[2001:db8::1]:7100")),
    ] {
        let address = address.map(|address| address.parse().unwrap());
        let entry = RelayEntry::sign(&RELAY, sequence, address).unwrap();
        assert_eq!(RelayEntry::decode(entry.encoded()), Ok(entry.clone()));
        file.case(name)
            .field("epoch", sequence)
            .field("address", format_args!("{address:?}"))
            .hex(entry.encoded());
    }
    file.compare("entry.hex");
}

#[test]
fn open_request() {
    let mut file = Golden::new("open request, plain; offsets in docs/protocol.md section 4");
    for (name, forwarded, noise) in [
        ("no noise message", false, &[][..]),
        ("48 bytes of noise", false, &[0x55; 48]),
        ("forwarded", true, &[0x55; 48]),
    ] {
        let request = OpenRequest {
            forwarded,
            timestamp_ns: 1_700_000_000_123_456_789,
            source: Address::new(PEER.public(), 49_152),
            destination: Address::new(OTHER.public(), 80),
            noise,
        };
        let bytes = request.encode(&PEER).unwrap();
        assert_eq!(OpenRequest::decode(&bytes), Ok(request));
        assert_eq!(OpenRequest::verify(&bytes), Ok(()));
        // The table of docs/protocol.md, offset by offset.
        let n = noise.len();
        assert_eq!(bytes[..4], [1, 1, u8::from(forwarded), 0]);
        assert_eq!(bytes[4..12], request.timestamp_ns.to_be_bytes());
        assert_eq!(&bytes[12..44], PEER.public().as_bytes());
        assert_eq!(bytes[44..46], 49_152_u16.to_be_bytes());
        assert_eq!(&bytes[46..78], OTHER.public().as_bytes());
        assert_eq!(bytes[78..80], 80_u16.to_be_bytes());
        assert_eq!(usize::from(bytes[81]), n);
        assert_eq!(&bytes[82..82 + n], noise);
        assert_eq!(bytes.len(), 82 + n + 64);
        file.case(name)
            .field("source seed", hex(PEER.seed()))
            .field("forwarded", forwarded)
            .field("timestamp ns", request.timestamp_ns)
            .field("source", request.source)
            .field("destination", request.destination)
            .field("noise", hex(noise))
            .field("request hash", hex(&OpenRequest::hash(&bytes).0))
            .hex(&bytes);
    }
    file.compare("open_request.hex");
}

#[test]
fn open_response() {
    let request_hash = RequestHash([0x66; 32]);
    let noise = [0x77; 48];
    let mut file = Golden::new("open response, plain; layout in docs/protocol.md section 4");
    for (name, reason, noise) in [
        ("accepted", Reason::Accepted, &noise[..]),
        (
            "refused by the destination",
            Reason::RefusedByDestination,
            &[],
        ),
    ] {
        let response = OpenResponse {
            reason_code: reason.code(),
            request_hash,
            noise,
        };
        let bytes = response.encode(&OTHER).unwrap();
        assert_eq!(OpenResponse::decode(&bytes), Ok(response));
        assert_eq!(OpenResponse::verify(&bytes, &OTHER.public()), Ok(()));
        file.case(name)
            .field("destination seed", hex(OTHER.seed()))
            .field("reason", reason.code())
            .field("request hash", hex(&request_hash.0))
            .field("noise", hex(noise))
            .hex(&bytes);
    }
    let refusal = OpenResponse::encode_refusal(request_hash, Reason::UnknownDestination);
    assert_eq!(refusal[..4], [2, 1, 0, 101]);
    assert_eq!(refusal[4..36], request_hash.0);
    assert_eq!(refusal[36..], [0; 2 + 64]);
    file.case("refused by a relay")
        .field("reason", Reason::UnknownDestination.code())
        .field("request hash", hex(&request_hash.0))
        .hex(&refusal);
    file.compare("open_response.hex");
}

#[test]
fn handshake() {
    let offer = Offer {
        capabilities: 0,
        streams_max: 2_048,
        stream_window: 262_144,
        keepalive_s: 30,
    };
    let announcement = Extension {
        kind: ExtensionKind::Announcement,
        value: b"203.0.113.7:443".to_vec(),
    };
    let mut file = Golden::new(
        "session handshake, each message with its u16 length, then one sealed object each way",
    );
    for (name, role, extensions, passphrase) in [
        ("peer", Role::Peer, &[][..], None),
        (
            "relay with announcement",
            Role::Relay,
            &[announcement],
            None,
        ),
        ("peer with passphrase", Role::Peer, &[], Some("open sesame")),
    ] {
        let started = Initiator::new(&PEER, &RELAY.public(), role, extensions, [0x88; 32]);
        let (mut initiator, message_1) = started.unwrap();
        if let Some(passphrase) = passphrase {
            initiator = initiator.with_passphrase(passphrase.as_bytes());
        }
        let mut responder = Responder::new(&RelayIdentity::new(&RELAY), offer, [0x99; 32]);
        let message_2 = responder.message_1(&message_1[2..]).unwrap();
        let (message_3, mut peer) = initiator.message_2(&message_2[2..]).unwrap();
        let mut relay = responder.message_3(&message_3[2..]).unwrap();
        assert_eq!(
            (relay.key, relay.role, peer.offer),
            (PEER.public(), role, offer)
        );
        let (mut up, mut down) = (Vec::new(), Vec::new());
        peer.sealer.seal(b"up", &mut up).unwrap();
        relay
            .sealer
            .seal(&Verdict::ACCEPTED.encode(), &mut down)
            .unwrap();
        assert_eq!(relay.opener.open(&mut up[2..].to_vec()), Ok(&b"up"[..]));
        file.case(&format!("{name}, message 1"))
            .field("peer seed", hex(PEER.seed()))
            .field("relay seed", hex(RELAY.seed()))
            .field("peer ephemeral", hex(&[0x88; 32]))
            .hex(&message_1);
        file.case(&format!("{name}, message 2"))
            .field("relay ephemeral", hex(&[0x99; 32]))
            .field("streams max", offer.streams_max)
            .field("stream window", offer.stream_window)
            .field("keepalive s", offer.keepalive_s)
            .hex(&message_2);
        file.case(&format!("{name}, message 3"))
            .field("role", role.code())
            .field("passphrase", passphrase.unwrap_or("none"))
            .hex(&message_3);
        file.case(&format!("{name}, sealed by the peer"))
            .field("plain", hex(b"up"))
            .hex(&up);
        file.case(&format!("{name}, sealed by the relay"))
            .field("plain", hex(&Verdict::ACCEPTED.encode()))
            .hex(&down);
    }
    file.compare("handshake.hex");
}

#[test]
fn kk() {
    let (opener, message_1) = KkInitiator::new(&PEER, &OTHER.public(), [0xaa; 32]).unwrap();
    let answered = kk_respond(&OTHER, &PEER.public(), &message_1, [0xbb; 32]);
    let (message_2, taken) = answered.unwrap();
    let opened = opener.finish(&message_2).unwrap();
    assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
    let mut file =
        Golden::new("stream handshake, Noise messages as they stand in the open objects");
    file.case("message 1")
        .field("opener seed", hex(PEER.seed()))
        .field("destination seed", hex(OTHER.seed()))
        .field("opener ephemeral", hex(&[0xaa; 32]))
        .hex(&message_1);
    file.case("message 2")
        .field("destination ephemeral", hex(&[0xbb; 32]))
        .hex(&message_2);
    file.case("key of the opener's records").hex(&opened.seal);
    file.case("key of the destination's records")
        .hex(&opened.open);
    file.compare("kk.hex");
}

#[test]
fn record() {
    let key = [0xcc; 32];
    let mut sealer = RecordSealer::new(SoftAead::new(&key));
    let mut opener = RecordOpener::new(SoftAead::new(&key));
    let mut file = Golden::new("record: u16 length, ciphertext, 16-byte tag; nonce = its number");
    for (number, payload) in [&b""[..], b"a payload", &[0xdd; 100]]
        .into_iter()
        .enumerate()
    {
        let mut bytes = Vec::new();
        sealer.seal(payload, &mut bytes).unwrap();
        opener.push(&bytes);
        assert_eq!(opener.next_record(), Ok(Some(payload)));
        file.case(&format!("record {number}"))
            .field("key", hex(&key))
            .field("payload", hex(payload))
            .hex(&bytes);
    }
    file.compare("record.hex");
}

#[test]
fn route_setup() {
    let [peer, other, relay] = [PEER, OTHER, RELAY].map(|secret| secret.public());
    let group = GroupName([0x77; 16]);
    let mut file = Golden::new("control messages of routes between a peer and a relay's port 36");
    let set_up = SetUp {
        destination: other,
        forward: vec![peer, relay, other],
        reverse: vec![other, peer],
        source_port: 50_000,
        destination_port: 80,
        group,
        keep_alive_ms: 0,
        reverse_id: RouteId(5),
    };
    let find = Find {
        destination: other,
        paths_max: 2,
        hops_max: 0,
        by: FindBy::Latency,
        avoid: vec![relay],
    };
    let transport = Transport {
        peer: other,
        latency_us: 1_500,
    };
    let announce = Announce {
        transports: vec![transport],
        ttl_ms: 60_000,
    };
    for (name, body) in [
        ("set up", SetupRequest::SetUp(set_up)),
        ("find", SetupRequest::Find(find)),
        ("announce", SetupRequest::Announce(announce)),
        ("withdraw", SetupRequest::Withdraw),
    ] {
        file.message(name, &Message { id: 300, body });
    }
    let refusal = Refusal::new(Reason::HopRefused, "too many rules").with_hop(other);
    let path = FoundPath {
        hops: vec![peer, other],
        latency_us: 1_500,
    };
    let stands = SetupReply::SetUp {
        forward_id: RouteId(7),
        keep_alive_ms: 30_000,
    };
    for (name, body) in [
        ("reply, the routes stand", stands),
        ("reply, refused", SetupReply::Refused(refusal)),
        ("reply, paths", SetupReply::Paths { paths: vec![path] }),
        (
            "reply, announced",
            SetupReply::Announced { expires_ms: 60_000 },
        ),
        ("reply, done", SetupReply::Done),
        ("reply, elsewhere", SetupReply::Elsewhere { relay }),
    ] {
        file.message(name, &Message { id: 300, body });
    }
    file.compare("route_setup.hex");
}

#[test]
fn route_hop() {
    let [peer, other] = [PEER, OTHER].map(|secret| secret.public());
    let mut file = Golden::new("control messages of routes between a relay and a peer's port 36");
    let intermediary = RuleKind::Intermediary {
        next: other,
        next_id: RouteId(9),
    };
    let destination = RuleKind::Destination {
        group: GroupName([0x77; 16]),
        source: peer,
        source_port: 50_000,
        destination_port: 80,
        next: other,
        next_id: RouteId(9),
    };
    let rule = |kind| Rule {
        id: RouteId(7),
        keep_alive_ms: 30_000,
        previous: peer,
        kind,
    };
    let add = |kind| HopRequest::AddRules {
        rules: vec![rule(kind)],
    };
    let ids = vec![RouteId(7), RouteId(0x0102_0304)];
    let release = HopRequest::Release { ids: ids.clone() };
    for (name, body) in [
        ("reserve", HopRequest::Reserve { count: 2 }),
        ("add a rule, the packets go on", add(intermediary)),
        ("add a rule, the packets have arrived", add(destination)),
        ("release", release),
    ] {
        file.message(name, &Message { id: 1, body });
    }
    let refusal = Refusal::new(Reason::NotAllowed, "").with_field("");
    for (name, body) in [
        ("reply, reserved", HopReply::Reserved { ids }),
        ("reply, done", HopReply::Done),
        ("reply, refused", HopReply::Refused(refusal)),
    ] {
        file.message(name, &Message { id: 1, body });
    }
    file.compare("route_hop.hex");
}

#[test]
fn route_packet() {
    let mut file = Golden::new("packet head: u32 route id, u8 kind, u16 length; ends with reason");
    let id = RouteId(0x0102_0304);
    for kind in PacketKind::ALL {
        let mut bytes = Vec::new();
        match kind {
            PacketKind::Close | PacketKind::Gone => write_end(id, kind, Reason::Idle, &mut bytes),
            PacketKind::Data | PacketKind::Handshake | PacketKind::KeepAlive => {
                let length = 0x0506;
                let head = PacketHead { id, kind, length };
                assert_eq!(PacketHead::decode(&head.encode()), Ok(head));
                bytes.extend_from_slice(&head.encode());
            }
        }
        file.case(&format!("{kind:?}"))
            .field("id", id)
            .field("kind", kind.code())
            .hex(&bytes);
    }
    file.compare("route_packet.hex");
}

/// The text of one golden file.
struct Golden {
    text: String,
}

impl Golden {
    fn new(about: &str) -> Self {
        Self {
            text: format!("# {about}\n"),
        }
    }

    fn case(&mut self, name: &str) -> &mut Self {
        self.line("\nname", name)
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.line(name, value)
    }

    fn message<B>(&mut self, name: &str, message: &Message<B>)
    where
        B: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone,
    {
        let mut bytes = Vec::new();
        assert_eq!(message.encode(&mut bytes), Ok(()));
        assert_eq!(Message::decode(&bytes[4..]), Ok(message.clone()));
        self.case(name).field("id", message.id).hex(&bytes);
    }

    fn hex(&mut self, bytes: &[u8]) {
        self.line("hex", hex(bytes));
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        let line = format!("{name}: {value}");
        self.text.push_str(line.trim_end_matches(' '));
        self.text.push('\n');
        self
    }

    fn compare(&self, file: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(file);
        if std::env::var_os("RINGWAY_GOLDEN_WRITE").is_some() {
            std::fs::write(&path, &self.text).expect("the golden file can be written");
        }
        let kept = std::fs::read_to_string(&path).expect("the golden file can be read");
        assert_eq!(
            kept, self.text,
            "the wire has changed: {file}, see the head of proto/tests/golden.rs"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}
