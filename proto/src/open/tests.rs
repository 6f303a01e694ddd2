//! Tests of the open objects.

use std::vec;

use super::*;
use crate::dialect::Dialect;

const SOURCE: SecretKey = SecretKey::from_seed([1; 32]);
const DESTINATION: SecretKey = SecretKey::from_seed([2; 32]);

fn request(noise: &[u8]) -> OpenRequest<'_> {
    OpenRequest {
        forwarded: false,
        timestamp_ns: 1_700_000_000_000_000_000,
        source: Address::new(SOURCE.public(), 49_152),
        destination: Address::new(DESTINATION.public(), 80),
        noise,
    }
}

fn response(noise: &[u8]) -> OpenResponse<'_> {
    OpenResponse {
        reason_code: 0,
        request_hash: RequestHash([3; 32]),
        noise,
    }
}

#[test]
fn a_request_roundtrips_with_any_noise_length() {
    for length in [0, 1, 48, OPEN_NOISE_MAX] {
        let noise = vec![5; length];
        let bytes = request(&noise).encode(&SOURCE).unwrap();
        assert_eq!(bytes.len(), OPEN_REQUEST_FIXED + length);
        assert_eq!(OpenRequest::decode(&bytes), Ok(request(&noise)));
        assert_eq!(OpenRequest::verify(&bytes), Ok(()));
    }
    let have = OPEN_NOISE_MAX + 1;
    let refused = request(&vec![5; have]).encode(&SOURCE);
    assert_eq!(refused, Err(OpenError::LocalNoiseLength { have }));
}

#[test]
fn forwarding_keeps_signature_and_hash() {
    let mut bytes = request(b"noise").encode(&SOURCE).unwrap();
    let hash = OpenRequest::hash(&bytes);
    Dialect::Native.mark_forwarded(&mut bytes);
    assert_eq!(OpenRequest::hash(&bytes), hash);
    assert_eq!(OpenRequest::verify(&bytes), Ok(()));
    assert!(Dialect::Native.decode_request(&bytes).unwrap().forwarded);
    let forwarded = OpenRequest {
        forwarded: true,
        ..request(b"noise")
    };
    assert_eq!(forwarded.encode(&SOURCE).unwrap(), bytes);
}

#[test]
fn any_other_changed_bit_breaks_request_or_signature() {
    let good = request(b"noise").encode(&SOURCE).unwrap();
    let hash = OpenRequest::hash(&good);
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= if position == FLAGS_OFFSET { 2 } else { 1 };
        assert!(OpenRequest::verify(&bytes).is_err(), "byte {position}");
        assert!(position == FLAGS_OFFSET || OpenRequest::hash(&bytes) != hash);
    }
}

#[test]
fn another_key_cannot_sign_for_the_source() {
    let bytes = request(b"noise").encode(&DESTINATION).unwrap();
    let error = OpenRequest::verify(&bytes).unwrap_err();
    assert_eq!(error, OpenError::PeerSignature(KeyError::PeerSignature));
    assert_eq!(error.reason(), Reason::BadSignature);
}

#[test]
fn a_signature_of_a_request_is_none_of_a_response() {
    // Same key, same body: only the context differs.
    let body = b"body";
    let signature = SOURCE.sign(&signed_request(body));
    assert!(verify(&SOURCE.public(), &signed_request(body), &signature).is_ok());
    assert!(verify(&SOURCE.public(), &signed_response(body), &signature).is_err());
}

#[test]
fn every_other_length_is_refused() {
    let request = request(b"noise").encode(&SOURCE).unwrap();
    let response = response(b"noise").encode(&DESTINATION).unwrap();
    for length in 0..request.len() {
        let decoded = OpenRequest::decode(&request[..length]);
        assert_eq!(decoded, Err(OpenError::PeerLength), "{length}");
    }
    for length in 0..response.len() {
        let decoded = OpenResponse::decode(&response[..length]);
        assert_eq!(decoded, Err(OpenError::PeerLength), "{length}");
    }
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    assert_eq!(
        OpenRequest::decode(&longer(&request)),
        Err(OpenError::PeerLength)
    );
    assert_eq!(
        OpenResponse::decode(&longer(&response)),
        Err(OpenError::PeerLength)
    );
}

#[test]
fn each_wrong_field_has_its_error() {
    let good = request(b"").encode(&SOURCE).unwrap();
    let with = |position: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[position] = byte;
        OpenRequest::decode(&bytes).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(OpenError::PeerKind(2)));
    assert_eq!(with(1, 2), Err(OpenError::PeerVersion(2)));
    assert_eq!(
        with(2, 2),
        Err(OpenError::PeerFlags {
            flags: 2,
            reserved: 0
        })
    );
    assert_eq!(
        with(3, 1),
        Err(OpenError::PeerFlags {
            flags: 0,
            reserved: 1
        })
    );
    assert_eq!(with(80, 1), Err(OpenError::PeerLength));
    assert_eq!(with(80, 2), Err(OpenError::PeerNoiseLength(512)));
    assert_eq!(OpenError::PeerVersion(2).reason(), Reason::Version);
}

#[test]
fn a_response_roundtrips_and_verifies_by_the_destination_only() {
    let bytes = response(b"noise").encode(&DESTINATION).unwrap();
    assert_eq!(bytes.len(), OPEN_RESPONSE_FIXED + 5);
    assert_eq!(OpenResponse::decode(&bytes), Ok(response(b"noise")));
    assert!(OpenResponse::is_signed(&bytes));
    assert_eq!(OpenResponse::verify(&bytes, &DESTINATION.public()), Ok(()));
    assert!(OpenResponse::verify(&bytes, &SOURCE.public()).is_err());
    for position in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[position] ^= 1;
        assert!(
            OpenResponse::verify(&forged, &DESTINATION.public()).is_err(),
            "{position}"
        );
    }
}

#[test]
fn a_relays_refusal_is_unsigned_and_names_the_request() {
    let request = request(b"noise").encode(&SOURCE).unwrap();
    let hash = Dialect::Native.request_hash(&request);
    for reason in Reason::ALL {
        let bytes = Dialect::Native.encode_refusal(&hash, reason).unwrap();
        assert_eq!(bytes.len(), OPEN_RESPONSE_FIXED);
        let head = Dialect::Native.decode_response(&bytes).unwrap();
        assert_eq!((head.reason_code, head.request_hash), (reason.code(), hash));
        assert_eq!(head.is_accepted(), reason == Reason::Accepted);
        assert!(!OpenResponse::is_signed(&bytes));
        assert!(OpenResponse::verify(&bytes, &DESTINATION.public()).is_err());
    }
}

#[test]
fn an_unknown_reason_is_kept() {
    let unknown = OpenResponse {
        reason_code: 999,
        ..response(b"")
    };
    let bytes = unknown.encode(&DESTINATION).unwrap();
    assert_eq!(OpenResponse::decode(&bytes), Ok(unknown));
    assert!(!unknown.is_accepted());
}

#[test]
fn hashing_never_panics() {
    let mut hashes: Vec<_> = (0..6)
        .map(|length| OpenRequest::hash(&vec![1; length]))
        .collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 6);
}
