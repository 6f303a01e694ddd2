//! Open requests, open responses, verdicts and peer sets: what decodes encodes to the same bytes, what its
//! maker signed verifies, and no change of it does.
//!
//! Here: the input twice, once as the bytes of an object and once as the fields of an honest one and a
//! change of it. Not here: how they travel (`sealed`), what a relay does with them (`shard_core`).
//!
//! Invariant: the forwarded flag is the only bit of a request that a relay can change.

use arbitrary::Arbitrary;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::key::{Address, NATIVE_KEY_LEN, SIGNATURE_LEN, SecretKey};
use ringway_proto::limits::{OPEN_NOISE_MAX, PEER_SET_FIXED, PEER_SET_KEYS_MAX};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::peer_set::PeerSet;
use ringway_proto::reason::Reason;
use ringway_proto::verdict::Verdict;

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Honest {
    is_forwarded: bool,
    timestamp_ns: u64,
    ports: [u16; 2],
    reason_code: u16,
    hash: [u8; 32],
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
    let secret = SecretKey::from_seed([7; 32]);
    raw_request(bytes, &secret);
    raw_response(bytes, &secret);
    if let Ok(verdict) = Verdict::decode(bytes) {
        assert_eq!(verdict.encode()[..], *bytes);
        assert_eq!(verdict.is_accepted(), verdict.reason == Reason::Accepted);
        assert_eq!(verdict.retry_after().is_some(), verdict.retry_after_ms > 0);
    }
    if let Ok(set) = PeerSet::decode(bytes) {
        assert_eq!(set.encode()[..], *bytes);
        let keys = set.appeared().count() + set.gone().count();
        assert_eq!(bytes.len(), PEER_SET_FIXED + keys * NATIVE_KEY_LEN);
        assert!(keys <= PEER_SET_KEYS_MAX);
    }
    if let Some(honest) = structured::<Honest>(bytes) {
        signed_request(&honest, &secret);
        signed_response(&honest, &secret);
    }
}

fn raw_request(bytes: &[u8], secret: &SecretKey) {
    let Ok(request) = OpenRequest::decode(bytes) else {
        assert!(OpenRequest::verify(bytes).is_err());
        assert!(Dialect::Native.decode_request(bytes).is_err());
        return;
    };
    // All but the signature, which only the source can make.
    let body = bytes.len() - SIGNATURE_LEN;
    let again = request.encode(secret).expect("what decoded encodes");
    assert_eq!(again[..body], bytes[..body]);

    let hash = OpenRequest::hash(bytes);
    let is_valid = OpenRequest::verify(bytes).is_ok();
    let mut forwarded = bytes.to_vec();
    OpenRequest::mark_forwarded(&mut forwarded);
    assert_eq!(OpenRequest::hash(&forwarded), hash);
    assert_eq!(OpenRequest::verify(&forwarded).is_ok(), is_valid);
    assert!(OpenRequest::decode(&forwarded).is_ok_and(|request| request.forwarded));

    let head = Dialect::Native
        .decode_request(bytes)
        .expect("the seam decodes the same");
    assert_eq!(head.source, request.source);
    assert_eq!(head.destination, request.destination);
}

fn raw_response(bytes: &[u8], secret: &SecretKey) {
    let Ok(response) = OpenResponse::decode(bytes) else {
        assert!(OpenResponse::verify(bytes, &secret.public()).is_err());
        assert!(Dialect::Native.decode_response(bytes).is_err());
        return;
    };
    let body = bytes.len() - SIGNATURE_LEN;
    let again = response.encode(secret).expect("what decoded encodes");
    assert_eq!(again[..body], bytes[..body]);
    assert!(OpenResponse::verify(&again, &secret.public()).is_ok());
    assert!(Dialect::Native.decode_response(bytes).is_ok());
}

fn signed_request(honest: &Honest, secret: &SecretKey) {
    let [from, to] = honest.ports;
    let request = OpenRequest {
        forwarded: honest.is_forwarded,
        timestamp_ns: honest.timestamp_ns,
        source: Address::new(secret.public(), from),
        destination: Address::new(SecretKey::from_seed([8; 32]).public(), to),
        noise: &honest.noise,
    };
    let Ok(bytes) = request.encode(secret) else {
        assert!(
            honest.noise.len() > OPEN_NOISE_MAX,
            "a request does not encode"
        );
        return;
    };
    assert_eq!(OpenRequest::decode(&bytes), Ok(request));
    assert_eq!(OpenRequest::verify(&bytes), Ok(()));
    let changed = honest.change(&bytes);
    // Byte 2 holds the flags, and their lowest bit is the forwarded flag.
    let mut expected = bytes.clone();
    expected[2] ^= 1;
    assert_eq!(
        OpenRequest::verify(&changed).is_ok(),
        changed == bytes || changed == expected,
        "a changed request verifies"
    );
}

fn signed_response(honest: &Honest, secret: &SecretKey) {
    let response = OpenResponse {
        reason_code: honest.reason_code,
        request_hash: RequestHash(honest.hash),
        noise: &honest.noise,
    };
    let key = secret.public();
    let Ok(bytes) = response.encode(secret) else {
        assert!(
            honest.noise.len() > OPEN_NOISE_MAX,
            "a response does not encode"
        );
        return;
    };
    assert_eq!(OpenResponse::decode(&bytes), Ok(response));
    assert_eq!(OpenResponse::verify(&bytes, &key), Ok(()));
    assert!(OpenResponse::is_signed(&bytes));
    let changed = honest.change(&bytes);
    assert_eq!(
        OpenResponse::verify(&changed, &key).is_ok(),
        changed == bytes,
        "a changed response verifies"
    );
    let other = SecretKey::from_seed([9; 32]).public();
    assert!(OpenResponse::verify(&bytes, &other).is_err());

    let refusal = OpenResponse::encode_refusal(response.request_hash, Reason::Draining);
    assert!(!OpenResponse::is_signed(&refusal));
    assert!(OpenResponse::verify(&refusal, &key).is_err());
    assert!(OpenResponse::decode(&refusal).is_ok_and(|refusal| !refusal.is_accepted()));
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
