#![no_main]
//! Open requests, open responses and verdicts: what decodes encodes to the same bytes, and looking at
//! what does not decode does no harm.

use libfuzzer_sys::fuzz_target;
use ringway_proto::dialect::Dialect;
use ringway_proto::key::{SIGNATURE_LEN, SecretKey};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::verdict::Verdict;

fuzz_target!(|bytes: &[u8]| {
    let secret = SecretKey::from_seed([7; 32]);

    if let Ok(request) = OpenRequest::decode(bytes) {
        // All but the signature, which only the source can make.
        let body = bytes.len() - SIGNATURE_LEN;
        let again = request.encode(&secret).expect("what decoded encodes");
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

    if let Ok(response) = OpenResponse::decode(bytes) {
        let body = bytes.len() - SIGNATURE_LEN;
        let again = response.encode(&secret).expect("what decoded encodes");
        assert_eq!(again[..body], bytes[..body]);
        assert!(OpenResponse::verify(&again, &secret.public()).is_ok());
        assert!(Dialect::Native.decode_response(bytes).is_ok());
    }

    if let Ok(verdict) = Verdict::decode(bytes) {
        assert_eq!(verdict.encode()[..], *bytes);
    }
});
