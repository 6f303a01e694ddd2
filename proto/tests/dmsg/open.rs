//! The two objects that open a stream, and the announcement of a server: those of Go, ours, and wrong ones.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg::gob::{Encoder, GobError, TypeId};
use ringway_proto::dmsg::key::{SIGNATURE_LEN, SecretKey};
use ringway_proto::dmsg::open::{
    Geo, OpenError, PeerAnnounce, StreamRequest, StreamResponse, code,
};
use ringway_proto::key::{Address, KeyError, PublicKey, SecretKey as NativeSecret};
use ringway_proto::limits::{DMSG_GEO_TEXT_MAX, DMSG_OPEN_NOISE_MAX, DMSG_PLAIN_MAX};
use ringway_proto::reason::Reason;

use crate::vectors::{self, GOB};

/// Keys, hash and objects of Go's implementation of 2024.
const DMSG: &str = include_str!("../../testdata/dmsg.txt");

const TIMESTAMP: i64 = 1_700_000_000_123_456_789;

/// Returns what follows `label` on the first line that begins with it below the line `== section...`.
fn vector(section: &str, label: &str) -> Vec<u8> {
    let below = |line: &&str| {
        !line
            .strip_prefix("== ")
            .is_some_and(|s| s.starts_with(section))
    };
    let line = DMSG
        .lines()
        .skip_while(below)
        .find_map(|line| line.strip_prefix(label));
    vectors::hex(line.expect("a vector of this section"))
}

/// Returns the secret of a party of the vectors.
fn secret(party: &str) -> SecretKey {
    let line = DMSG.lines().find(|line| line.starts_with(party));
    let digits = line.and_then(|line| line.split_whitespace().nth(2));
    let bytes = vectors::hex(digits.expect("a secret key"));
    SecretKey::from_bytes(bytes.try_into().expect("32 bytes")).expect("a secret key")
}

fn source() -> SecretKey {
    secret("initiator-static")
}

fn destination() -> SecretKey {
    secret("responder-static")
}

fn request(noise: &[u8]) -> StreamRequest<'_> {
    StreamRequest {
        timestamp_ns: TIMESTAMP,
        source: Address::new(source().public(), 49_153),
        destination: Address::new(destination().public(), 80),
        wants_ip: false,
        wants_geo: false,
        noise,
    }
}

/// Puts a signature that nobody looks at before a gob.
fn unsigned(gob: &[u8]) -> Vec<u8> {
    [&[0; SIGNATURE_LEN][..], gob].concat()
}

fn body(signed: &[u8]) -> &[u8] {
    &signed[SIGNATURE_LEN..]
}

#[test]
fn a_request_of_2024_is_read_believed_and_written() {
    let section = "SignedObject(StreamRequest) ";
    let gob = vector(section, "gob ");
    let signed = [vector(section, "sig "), gob.clone()].concat();
    assert_eq!(signed.len(), 357);
    let noise = [0; 49];
    assert_eq!(StreamRequest::decode(&signed), Ok(request(&noise)));
    assert_eq!(StreamRequest::verify(&signed), Ok(()));
    let hash = vector(section, "hash(sig||gob) ");
    assert_eq!(StreamRequest::hash(&signed).0[..], hash);
    let ours = request(&noise).encode(&source()).unwrap();
    assert_eq!(body(&ours), gob);
    assert_eq!(StreamRequest::verify(&ours), Ok(()));

    let head = Dialect::Dmsg.decode_request(&signed).unwrap();
    assert_eq!(head.source, request(&noise).source);
    assert_eq!(head.destination, request(&noise).destination);
    assert_eq!(head.timestamp_ns, TIMESTAMP.unsigned_abs());
    assert!(!head.forwarded);
    assert!(Dialect::Dmsg.verify_request(&signed).is_ok());
    assert_eq!(Dialect::Dmsg.request_hash(&signed).0[..], hash);
    let mut marked = signed.clone();
    Dialect::Dmsg.mark_forwarded(&mut marked);
    assert_eq!(marked, signed);
}

#[test]
fn a_request_for_the_own_address_is_that_of_2024() {
    let gob = vector("SignedObject(StreamRequest, IPinfo)", "gob ");
    let lookup = StreamRequest {
        destination: Address::new(destination().public(), 1),
        wants_ip: true,
        ..request(&[])
    };
    assert_eq!(StreamRequest::decode(&unsigned(&gob)), Ok(lookup));
    assert_eq!(body(&lookup.encode(&source()).unwrap()), gob);
}

#[test]
fn responses_of_2024_are_read_and_written() {
    let hash = vector("SignedObject(StreamRequest) ", "hash(sig||gob) ");
    let hash = RequestHash(hash.try_into().unwrap());
    let accepted = StreamResponse::accept(hash, &[0; 49]);
    let ip = StreamResponse {
        ip: Some("127.0.0.1".parse().unwrap()),
        ..StreamResponse::accept(hash, &[])
    };
    for (section, response) in [
        ("SignedObject(StreamResponse) ", accepted),
        ("SignedObject(StreamResponse, IP", ip),
        (
            "SignedObject(StreamResponse, refused",
            StreamResponse::refuse(hash, 0),
        ),
    ] {
        let gob = vector(section, "gob ");
        assert_eq!(StreamResponse::decode(&unsigned(&gob)), Ok(response));
        let signed = response.encode(&destination()).unwrap();
        assert_eq!(body(&signed), gob, "{section}");
        assert_eq!(
            StreamResponse::verify(&signed, &destination().public()),
            Ok(())
        );
        assert!(StreamResponse::verify(&signed, &source().public()).is_err());

        let head = Dialect::Dmsg.decode_response(&signed).unwrap();
        assert_eq!(head.request_hash, hash);
        assert_eq!(head.is_accepted(), response.is_accepted);
        assert_eq!(head.reason_code, response.reason().code());
    }
    assert_eq!(
        StreamResponse::refuse(hash, 0).reason(),
        Reason::RefusedByDestination
    );
    assert_eq!(
        StreamResponse::refuse(hash, 306).reason(),
        Reason::NoListener
    );
    assert_eq!(
        StreamResponse::refuse(hash, 999).reason(),
        Reason::RefusedByDestination
    );
    assert_eq!(
        Dialect::Dmsg.encode_refusal(&hash, Reason::NoListener),
        None
    );
}

/// The request that Go's encoder was given.
fn of_go(noise: &[u8]) -> StreamRequest<'_> {
    StreamRequest {
        source: Address::new(PublicKey::dmsg(vectors::key(2)), 49_152),
        destination: Address::new(PublicKey::dmsg(vectors::key(3)), 36),
        ..request(noise)
    }
}

fn noise() -> Vec<u8> {
    (100..149).collect()
}

#[test]
fn requests_of_gos_encoder_are_read_and_written() {
    let noise = noise();
    let lookup = StreamRequest {
        destination: Address::new(PublicKey::dmsg(vectors::key(3)), 1),
        wants_ip: true,
        ..of_go(&[])
    };
    let place = StreamRequest {
        wants_geo: true,
        ..lookup
    };
    for (name, request) in [
        ("request of 2024", of_go(&noise)),
        ("request of 2024 for the address", lookup),
        ("request of 2026", of_go(&noise)),
        ("request of 2026 for the place", place),
        ("request with unknown fields", of_go(&noise)),
    ] {
        let signed = unsigned(&vectors::one(GOB, name));
        assert_eq!(StreamRequest::decode(&signed), Ok(request), "{name}");
    }
    let gob = vectors::one(GOB, "request of 2026 for the place");
    assert_eq!(body(&place.encode(&source()).unwrap()), gob);
}

#[test]
fn responses_of_gos_encoder_are_read_and_written() {
    let noise = noise();
    let hash = RequestHash(vectors::hash());
    let accepted = StreamResponse::accept(hash, &noise);
    let short = StreamResponse {
        ip: Some("192.0.2.1".parse().unwrap()),
        ..StreamResponse::accept(hash, &[])
    };
    let place = StreamResponse {
        ip: Some("2001:db8::1".parse().unwrap()),
        geo: Some(Geo {
            country: "FR",
            region: "IDF",
            latitude: 48.8566,
            longitude: 2.3522,
        }),
        ..short
    };
    let empty = StreamResponse::refuse(RequestHash([0; 32]), 0);
    for (name, response) in [
        ("response of 2024", accepted),
        (
            "response of 2024 that refuses",
            StreamResponse::refuse(hash, 306),
        ),
        ("response of 2024 with a short address", short),
        ("response of 2026", accepted),
        ("response of 2026 with the place", place),
        ("response without fields", empty),
    ] {
        let signed = unsigned(&vectors::one(GOB, name));
        assert_eq!(StreamResponse::decode(&signed), Ok(response), "{name}");
    }
    let gob = vectors::one(GOB, "response of 2026 with the place");
    assert_eq!(body(&place.encode(&destination()).unwrap()), gob);
}

#[test]
fn an_announcement_is_that_of_go_and_no_request() {
    let gob = vectors::one(GOB, "announcement of a server");
    let announce = PeerAnnounce {
        timestamp_ns: TIMESTAMP,
        source: PublicKey::dmsg(vectors::key(2)),
    };
    assert_eq!(PeerAnnounce::decode(&unsigned(&gob)), Ok(announce));
    assert_eq!(body(&announce.encode(&source()).unwrap()), gob);
    let error = StreamRequest::decode(&unsigned(&gob)).unwrap_err();
    assert_eq!(error, OpenError::PeerSourceKey);

    let own = PeerAnnounce {
        source: source().public(),
        ..announce
    };
    let signed = own.encode(&source()).unwrap();
    assert_eq!(PeerAnnounce::verify(&signed), Ok(()));
    let forged = own.encode(&destination()).unwrap();
    let forged = PeerAnnounce::verify(&forged).unwrap_err();
    assert_eq!(forged, OpenError::PeerSignature(KeyError::PeerSignature));
    // A request is no announcement.
    let request = request(&[]).encode(&source()).unwrap();
    assert_eq!(
        PeerAnnounce::decode(&request),
        Err(OpenError::PeerSourceKey)
    );
    let late = PeerAnnounce {
        timestamp_ns: 0,
        ..own
    };
    let late = late.encode(&source()).unwrap();
    assert_eq!(
        PeerAnnounce::decode(&late),
        Err(OpenError::PeerTimestamp(0))
    );
}

#[test]
fn each_missing_field_has_its_error_and_number() {
    let nobody = PublicKey::dmsg([0; 33]);
    let good = request(&[]);
    let (from, to) = (good.source, good.destination);
    let with_source = |source| StreamRequest { source, ..good };
    let with_destination = |destination| StreamRequest {
        destination,
        ..good
    };
    let at = |timestamp_ns| StreamRequest {
        timestamp_ns,
        ..good
    };
    let cases = [
        (
            with_source(Address::new(nobody, 1)),
            OpenError::PeerSourceKey,
            302,
        ),
        (
            with_source(Address::new(from.key, 0)),
            OpenError::PeerSourcePort,
            304,
        ),
        (
            with_destination(Address::new(nobody, 1)),
            OpenError::PeerDestinationKey,
            303,
        ),
        (
            with_destination(Address::new(to.key, 0)),
            OpenError::PeerDestinationPort,
            305,
        ),
        (at(0), OpenError::PeerTimestamp(0), 301),
        (at(-1), OpenError::PeerTimestamp(-1), 301),
        (at(i64::MIN), OpenError::PeerTimestamp(i64::MIN), 301),
    ];
    for (wrong, error, code) in cases {
        let signed = wrong.encode(&source()).unwrap();
        assert_eq!(StreamRequest::decode(&signed), Err(error));
        assert_eq!(StreamRequest::verify(&signed), Err(error));
        assert_eq!(error.code(), code);
        let seen = Dialect::Dmsg.decode_request(&signed).unwrap_err();
        assert_eq!(seen.reason(), error.reason());
    }
    assert_eq!(OpenError::PeerTimestamp(0).reason(), Reason::StaleTimestamp);
    assert_eq!(OpenError::PeerSourceKey.reason(), Reason::ProtocolError);
    for name in ["request without fields", "request from before 1970"] {
        let signed = unsigned(&vectors::one(GOB, name));
        assert_eq!(
            StreamRequest::decode(&signed),
            Err(OpenError::PeerSourceKey)
        );
    }
}

#[test]
fn another_key_cannot_sign() {
    let forged = request(b"noise").encode(&destination()).unwrap();
    let error = StreamRequest::verify(&forged).unwrap_err();
    assert_eq!(error, OpenError::PeerSignature(KeyError::PeerSignature));
    assert_eq!((error.reason(), error.code()), (Reason::BadSignature, 300));
    let seen = Dialect::Dmsg.verify_request(&forged).unwrap_err();
    assert_eq!(seen.reason(), Reason::BadSignature);
    let no_point = StreamRequest {
        source: Address::new(PublicKey::dmsg([5; 33]), 1),
        ..request(&[])
    };
    let no_point = StreamRequest::verify(&no_point.encode(&source()).unwrap());
    assert_eq!(
        no_point,
        Err(OpenError::PeerSignature(KeyError::PeerNotAPoint))
    );
}

#[test]
fn objects_of_any_other_length_are_refused() {
    let length = |signed: &[u8]| StreamRequest::decode(signed).unwrap_err();
    for have in [0, 1, SIGNATURE_LEN, DMSG_PLAIN_MAX + 1] {
        let refused = length(&vec![0; have]);
        assert_eq!(refused, OpenError::PeerLength { have });
        assert_eq!(refused.code(), 370);
    }
    let good = request(b"noise").encode(&source()).unwrap();
    for length in SIGNATURE_LEN + 1..good.len() {
        let cut = StreamRequest::decode(&good[..length]);
        assert_eq!(cut, Err(OpenError::PeerGob(GobError::PeerTruncated)));
    }
    let longer = StreamRequest::decode(&[&good[..], &[0]].concat()).map(|_| ());
    let trailing = GobError::PeerTrailing { have: 1 };
    assert_eq!(longer, Err(OpenError::PeerGob(trailing)));
    let response = StreamResponse::accept(RequestHash([9; 32]), b"noise");
    let good = response.encode(&source()).unwrap();
    for length in 0..good.len() {
        let cut = StreamResponse::decode(&good[..length]);
        assert!(cut.is_err(), "{length}");
        assert!(StreamResponse::verify(&good[..length], &source().public()).is_err());
    }
}

#[test]
fn what_is_too_long_is_neither_written_nor_read() {
    let longest = vec![0xff; DMSG_OPEN_NOISE_MAX];
    let have = DMSG_OPEN_NOISE_MAX + 1;
    let longer = vec![0xff; have];
    let signed = request(&longest).encode(&source()).unwrap();
    assert_eq!(StreamRequest::decode(&signed), Ok(request(&longest)));
    let error = OpenError::LocalNoiseLength { have };
    assert_eq!(request(&longer).encode(&source()), Err(error));

    let texts = [
        "x".repeat(DMSG_GEO_TEXT_MAX),
        "x".repeat(DMSG_GEO_TEXT_MAX + 1),
    ];
    let geo = Geo {
        country: &texts[0],
        region: &texts[0],
        latitude: 0.1,
        longitude: -0.1,
    };
    let response = StreamResponse {
        geo: Some(geo),
        ip: Some("2001:db8::ffff".parse().unwrap()),
        code: u16::MAX,
        ..StreamResponse::accept(RequestHash([0xff; 32]), &longest)
    };
    let signed = response.encode(&source()).unwrap();
    assert_eq!(StreamResponse::decode(&signed), Ok(response));
    assert!(signed.len() <= DMSG_PLAIN_MAX);
    let longer = StreamResponse {
        noise: &longer,
        ..response
    };
    assert_eq!(longer.encode(&source()), Err(error));
    let longer = StreamResponse {
        geo: Some(Geo {
            region: &texts[1],
            ..geo
        }),
        ..response
    };
    let have = DMSG_GEO_TEXT_MAX + 1;
    assert_eq!(longer.encode(&source()), Err(OpenError::LocalGeo { have }));
}

/// Returns an unsigned object of one field, read as both objects.
fn field(
    name: &'static str,
    of: TypeId,
    write: impl Fn(&mut ringway_proto::dmsg::gob::StructWriter<'_>),
) -> [Option<OpenError>; 2] {
    use ringway_proto::dmsg::gob::{Definition, Shape};
    let types = [
        Definition {
            id: TypeId(64),
            name: "",
            shape: Shape::Struct(vec![(name, of)].leak()),
        },
        Definition {
            id: TypeId(65),
            name: "",
            shape: Shape::BinaryMarshaler,
        },
        Definition {
            id: TypeId(66),
            name: "",
            shape: Shape::Struct(&[("PK", TypeId(65))]),
        },
    ];
    let mut gob = Vec::new();
    Encoder::new().write_struct(&types, &mut gob, write);
    let signed = unsigned(&gob);
    [
        StreamRequest::decode(&signed).err(),
        StreamResponse::decode(&signed).err(),
    ]
}

#[test]
fn fields_that_are_wrong_have_their_errors() {
    let bytes = TypeId::BYTES;
    let have = DMSG_OPEN_NOISE_MAX + 1;
    let noise = field("NoiseMsg", bytes, |f| f.bytes(0, &vec![1; have]));
    assert_eq!(noise, [Some(OpenError::PeerNoiseLength { have }); 2]);
    for have in [1, 3, 5, 15, 17] {
        let ip = field("IP", bytes, |f| f.bytes(0, &vec![1; have]));
        assert_eq!(ip[1], Some(OpenError::PeerIpLength { have }));
    }
    for have in [32, 34] {
        let key = field("DstAddr", TypeId(66), |f| {
            f.structure(0, |address| address.opaque(0, &vec![1; have]));
        });
        assert_eq!(key[0], Some(OpenError::PeerKeyLength { have }));
    }
    let text = TypeId::STRING;
    for wrong in [&vec![b'x'; DMSG_GEO_TEXT_MAX + 1][..], &[0xff]] {
        let region = field("GeoRegion", text, |f| f.bytes(0, wrong));
        assert_eq!(region[1], Some(OpenError::PeerGeo));
    }
    let code = field("ErrCode", TypeId::UINT, |f| f.uint(0, 0x1_0000));
    assert_eq!(code[1], Some(OpenError::PeerGob(GobError::PeerRange)));
    let time = field("Timestamp", TypeId::UINT, |f| f.uint(0, 1));
    let of = GobError::PeerType(TypeId::UINT);
    assert_eq!(time[0], Some(OpenError::PeerGob(of)));
    assert_eq!(OpenError::PeerGob(of).reason(), Reason::ProtocolError);
}

#[test]
fn keys_of_the_other_dialect_have_no_place() {
    let native = NativeSecret::from_seed([1; 32]).public();
    let good = request(&[]);
    let from = StreamRequest {
        source: Address::new(native, 1),
        ..good
    };
    let to = StreamRequest {
        destination: Address::new(native, 1),
        ..good
    };
    for request in [from, to] {
        assert_eq!(request.encode(&source()), Err(OpenError::LocalDialect));
    }
    let announce = PeerAnnounce {
        timestamp_ns: 1,
        source: native,
    };
    assert_eq!(announce.encode(&source()), Err(OpenError::LocalDialect));
}

#[test]
fn the_document_lists_the_numbers() {
    let document = include_str!("../../../docs/dmsg.md");
    for (number, reason, text) in code::CODES {
        let row = format!("| {number} | {text} | {} |", reason.code());
        assert!(document.lines().any(|line| line == row), "no row {row}");
    }
}

#[test]
fn numbers_are_listed_once_and_have_reasons() {
    for (position, (number, reason, text)) in code::CODES.into_iter().enumerate() {
        assert!(
            code::CODES[..position]
                .iter()
                .all(|(other, ..)| *other < number)
        );
        assert_eq!(code::reason(number), reason);
        assert!(!text.is_empty());
    }
    for reason in Reason::ALL {
        let number = code::code(reason);
        let is_listed = code::CODES.iter().any(|(listed, ..)| *listed == number);
        assert_eq!(is_listed, reason != Reason::Accepted, "{reason}");
    }
    for reason in [
        Reason::BadSignature,
        Reason::StaleTimestamp,
        Reason::NotAllowed,
        Reason::NoListener,
        Reason::UnknownDestination,
        Reason::RelayCapacity,
        Reason::ProtocolError,
        Reason::RefusedByDestination,
    ] {
        assert_eq!(code::reason(code::code(reason)), reason);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_roundtrips_and_no_change_of_it_verifies(
        timestamp_ns in 1_i64..,
        ports in any::<[u16; 2]>(),
        wants: [bool; 2],
        noise in vec(any::<u8>(), 0..200),
        at: prop::sample::Index,
        change in 1_u8..,
    ) {
        let request = StreamRequest {
            timestamp_ns,
            source: Address::new(source().public(), ports[0].max(1)),
            destination: Address::new(destination().public(), ports[1].max(1)),
            wants_ip: wants[0],
            wants_geo: wants[1],
            noise: &noise,
        };
        let mut signed = request.encode(&source()).unwrap();
        prop_assert_eq!(StreamRequest::decode(&signed), Ok(request));
        prop_assert_eq!(StreamRequest::verify(&signed), Ok(()));
        let hash = StreamRequest::hash(&signed);
        let at = at.index(signed.len());
        signed[at] ^= change;
        prop_assert!(StreamRequest::verify(&signed).is_err());
        prop_assert_ne!(StreamRequest::hash(&signed), hash);
    }

    #[test]
    fn a_response_roundtrips_and_no_change_of_it_verifies(
        hash: [u8; 32],
        is_accepted: bool,
        ip in proptest::option::of(any::<IpAddr>()),
        texts in proptest::option::of(["[A-Z]{1,3}", "\\PC{0,16}"]),
        degrees in [-180.0..180.0, -180.0..180.0],
        code: u16,
        noise in vec(any::<u8>(), 0..200),
        at: prop::sample::Index,
        change in 1_u8..,
    ) {
        let response = StreamResponse {
            request_hash: RequestHash(hash),
            is_accepted,
            // Addresses of IPv4 have one form here.
            ip: ip.map(|ip| ip.to_canonical()),
            geo: texts.as_ref().map(|[country, region]| Geo {
                country,
                region,
                latitude: degrees[0],
                longitude: degrees[1],
            }),
            code,
            noise: &noise,
        };
        let mut signed = response.encode(&destination()).unwrap();
        prop_assert_eq!(StreamResponse::decode(&signed), Ok(response));
        let key = destination().public();
        prop_assert_eq!(StreamResponse::verify(&signed, &key), Ok(()));
        let at = at.index(signed.len());
        signed[at] ^= change;
        prop_assert!(StreamResponse::verify(&signed, &key).is_err());
    }

    #[test]
    fn any_bytes_are_an_object_or_refused(
        bytes in vec(any::<u8>(), 0..300),
        at: prop::sample::Index,
    ) {
        let mut behind = request(b"noise").encode(&source()).unwrap();
        behind.truncate(at.index(behind.len()));
        behind.extend_from_slice(&bytes);
        for signed in [bytes, behind] {
            if let Err(error) = StreamRequest::decode(&signed) {
                prop_assert_ne!(error.reason(), Reason::Accepted);
                prop_assert!((300..=370).contains(&error.code()));
            }
            prop_assert!(StreamRequest::verify(&signed).is_err());
            prop_assert!(StreamResponse::verify(&signed, &source().public()).is_err());
            prop_assert!(PeerAnnounce::verify(&signed).is_err());
        }
    }
}
