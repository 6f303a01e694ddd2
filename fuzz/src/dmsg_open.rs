//! Open requests, open responses and announcements of the dmsg dialect: what decodes is written with the same
//! fields, what its maker signed verifies, and no change of it does.
//!
//! Here: the input twice, once as the bytes of an object and once as the fields of an honest one and a change
//! of it. Not here: how they travel (`dmsg_sealed`), gob itself (`dmsg_gob`).
//!
//! Invariant: a request names who and where, and a time; the codes of what is refused are Go's.

use std::net::IpAddr;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::dmsg::open::{
    Geo, OpenError, PeerAnnounce, StreamRequest, StreamResponse, code,
};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{DMSG_GEO_TEXT_MAX, DMSG_OPEN_NOISE_MAX, DMSG_PLAIN_MAX};

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Honest {
    timestamp_ns: i64,
    ports: [u16; 2],
    key: [u8; 33],
    wants: [bool; 2],
    is_accepted: bool,
    code: u16,
    hash: [u8; 32],
    ip: Option<[u8; 16]>,
    place: Option<(String, String, u64, u64)>,
    at: u16,
    xor: u8,
    cut: u8,
    noise: Vec<u8>,
}

/// Takes the bytes of an object; also, as a structured input, an honest object and its change.
///
/// # Panics
///
/// When a round trip loses something, or a change of a signed object verifies.
pub fn run(bytes: &[u8]) {
    // Vectors of gobs are objects without a signature.
    let unsigned = [&[0; 65][..], bytes].concat();
    for bytes in [bytes, &unsigned] {
        raw_request(bytes);
        raw_response(bytes);
        raw_announcement(bytes);
    }
    if let Some(honest) = structured::<Honest>(bytes) {
        signed_request(&honest);
        signed_response(&honest);
    }
}

fn secret() -> &'static SecretKey {
    static SECRET: OnceLock<SecretKey> = OnceLock::new();
    SECRET.get_or_init(|| SecretKey::from_bytes([7; 32]).expect("a secret key"))
}

fn raw_request(bytes: &[u8]) {
    let request = match StreamRequest::decode(bytes) {
        Ok(request) => request,
        Err(error) => {
            assert_eq!(StreamRequest::verify(bytes), Err(error));
            let seen = Dialect::Dmsg.decode_request(bytes).expect_err("as here");
            assert_eq!(seen.reason(), error.reason());
            assert!(code::CODES.iter().any(|(code, ..)| *code == error.code()));
            return;
        }
    };
    assert!(bytes.len() <= DMSG_PLAIN_MAX && request.noise.len() <= DMSG_OPEN_NOISE_MAX);
    assert!(request.timestamp_ns > 0 && request.source.port > 0 && request.destination.port > 0);
    let again = request.encode(secret()).expect("what decoded encodes");
    assert_eq!(StreamRequest::decode(&again), Ok(request));
    let head = Dialect::Dmsg.decode_request(bytes).expect("as here");
    assert_eq!(head.source, request.source);
    assert_eq!(head.destination, request.destination);
    // The announcement of a server has no destination, a request no source of its kind.
    assert!(PeerAnnounce::decode(&again).is_err());
}

fn raw_response(bytes: &[u8]) {
    let Ok(response) = StreamResponse::decode(bytes) else {
        assert!(StreamResponse::verify(bytes, &secret().public()).is_err());
        assert!(Dialect::Dmsg.decode_response(bytes).is_err());
        return;
    };
    let again = response.encode(secret()).expect("what decoded encodes");
    let is_number = response
        .geo
        .is_none_or(|geo| !geo.latitude.is_nan() && !geo.longitude.is_nan());
    if is_number {
        assert_eq!(StreamResponse::decode(&again), Ok(response));
    }
    let key = secret().public();
    assert_eq!(StreamResponse::verify(&again, &key), Ok(()));
    let head = Dialect::Dmsg.decode_response(bytes).expect("as here");
    assert_eq!(head.is_accepted(), response.is_accepted);
    assert_eq!(head.request_hash, response.request_hash);
}

fn raw_announcement(bytes: &[u8]) {
    let Ok(announce) = PeerAnnounce::decode(bytes) else {
        assert!(PeerAnnounce::verify(bytes).is_err());
        return;
    };
    let again = announce.encode(secret()).expect("what decoded encodes");
    assert_eq!(PeerAnnounce::decode(&again), Ok(announce));
}

fn signed_request(honest: &Honest) {
    let [from, to] = honest.ports;
    let request = StreamRequest {
        timestamp_ns: honest.timestamp_ns,
        source: Address::new(secret().public(), from),
        destination: Address::new(PublicKey::dmsg(honest.key), to),
        wants_ip: honest.wants[0],
        wants_geo: honest.wants[1],
        noise: &honest.noise,
    };
    let bytes = match request.encode(secret()) {
        Ok(bytes) => bytes,
        Err(error) => {
            let have = honest.noise.len();
            assert!(have > DMSG_OPEN_NOISE_MAX);
            assert_eq!(error, OpenError::LocalNoiseLength { have });
            return;
        }
    };
    let is_whole = honest.timestamp_ns > 0 && from > 0 && to > 0 && honest.key != [0; 33];
    let changed = honest.change(&bytes);
    assert_eq!(StreamRequest::verify(&bytes).is_ok(), is_whole);
    assert_eq!(
        StreamRequest::verify(&changed).is_ok(),
        is_whole && changed == bytes,
        "a changed request verifies"
    );
    if is_whole {
        assert_eq!(StreamRequest::decode(&bytes), Ok(request));
    }
}

fn signed_response(honest: &Honest) {
    let response = StreamResponse {
        request_hash: RequestHash(honest.hash),
        is_accepted: honest.is_accepted,
        ip: honest.ip.map(|ip| IpAddr::from(ip).to_canonical()),
        geo: honest
            .place
            .as_ref()
            .map(|(country, region, north, east)| Geo {
                country,
                region,
                latitude: f64::from_bits(*north),
                longitude: f64::from_bits(*east),
            }),
        code: honest.code,
        noise: &honest.noise,
    };
    let Ok(bytes) = response.encode(secret()) else {
        let is_long = |text: &str| text.len() > DMSG_GEO_TEXT_MAX;
        let geo = response.geo.unwrap_or_default();
        assert!(
            honest.noise.len() > DMSG_OPEN_NOISE_MAX || is_long(geo.country) || is_long(geo.region),
            "a response does not encode"
        );
        return;
    };
    assert!(bytes.len() <= DMSG_PLAIN_MAX);
    let key = secret().public();
    assert_eq!(StreamResponse::verify(&bytes, &key), Ok(()));
    let changed = honest.change(&bytes);
    assert_eq!(
        StreamResponse::verify(&changed, &key).is_ok(),
        changed == bytes,
        "a changed response verifies"
    );
}

impl Honest {
    /// Returns the object with one byte changed and its end cut off, or with neither.
    fn change(&self, bytes: &[u8]) -> Vec<u8> {
        let mut changed = bytes.to_vec();
        let at = usize::from(self.at) % changed.len();
        changed[at] ^= self.xor;
        changed.truncate(changed.len().saturating_sub(usize::from(self.cut / 4)));
        changed
    }
}
