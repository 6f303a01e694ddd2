//! Property tests of what needs no cryptography: headers, verdicts, prefixes, text forms.

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::dialect::{Dialect, RequestHash};
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header, rewrite_stream_id};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{
    HANDSHAKE_MESSAGE_MAX, OPEN_NOISE_MAX, OPEN_RESPONSE_FIXED, RECORD_MAX, SEALED_OBJECT_MAX,
    VERDICT_LEN,
};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;
use ringway_proto::verdict::Verdict;
use ringway_proto::{handshake, record, sealed};

fn header() -> impl Strategy<Value = Header> {
    let kind = prop_oneof![
        Just(FrameKind::Data),
        Just(FrameKind::WindowUpdate),
        Just(FrameKind::Ping),
        Just(FrameKind::GoAway),
    ];
    let flags = (0_u16..16).prop_filter_map("defined flags", Flags::from_bits);
    (kind, flags, any::<u32>(), any::<u32>()).prop_map(|(kind, flags, stream_id, length)| Header {
        kind,
        flags,
        stream_id,
        length,
    })
}

proptest! {
    #[test]
    fn a_header_roundtrips(header in header(), stream_id in any::<u32>()) {
        let mut bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Ok(header));
        rewrite_stream_id(&mut bytes, stream_id);
        prop_assert_eq!(Header::decode(&bytes), Ok(Header { stream_id, ..header }));
    }

    #[test]
    fn bytes_that_decode_as_a_header_encode_to_themselves(bytes in any::<[u8; HEADER_LEN]>()) {
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn a_perturbed_header_decodes_to_itself_or_not_at_all(
        header in header(),
        position in 0..HEADER_LEN,
        bits in 1_u8..,
    ) {
        let mut bytes = header.encode();
        bytes[position] ^= bits;
        if let Ok(decoded) = Header::decode(&bytes) {
            prop_assert_ne!(decoded, header);
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn bytes_that_decode_as_a_verdict_encode_to_themselves(
        bytes in vec(any::<u8>(), 0..12),
        code in 0_u16..600,
        retry in any::<u32>(),
    ) {
        let near = [&[0x10, 1][..], &code.to_be_bytes(), &retry.to_be_bytes()].concat();
        prop_assert_eq!(Verdict::decode(&near).is_ok(), Reason::from_code(code).is_some());
        for bytes in [bytes, near] {
            if let Ok(verdict) = Verdict::decode(&bytes) {
                prop_assert_eq!(verdict.encode().to_vec(), bytes.clone());
                prop_assert_eq!(bytes.len(), VERDICT_LEN);
            }
        }
    }

    #[test]
    fn length_prefixes_are_bounded_and_need_two_bytes(bytes in vec(any::<u8>(), 0..6)) {
        let object = sealed::object_len(&bytes);
        let message = handshake::message_len(&bytes);
        let record = record::record_len(&bytes);
        if let [high, low, ..] = *bytes.as_slice() {
            let total = 2 + usize::from(u16::from_be_bytes([high, low]));
            for (len, max) in [
                (object.ok().flatten(), SEALED_OBJECT_MAX),
                (message.ok().flatten(), 2 + HANDSHAKE_MESSAGE_MAX),
                (record.ok().flatten(), 2 + RECORD_MAX),
            ] {
                prop_assert!(len.is_none_or(|len| len == total && len <= max));
            }
        } else {
            prop_assert_eq!((object, message, record), (Ok(None), Ok(None), Ok(None)));
        }
    }

    #[test]
    fn any_bytes_decode_as_open_objects_or_give_an_error(
        kind in 1_u8..3,
        rest in vec(any::<u8>(), 0..500),
    ) {
        for bytes in [rest.clone(), [&[kind, 1, 0, 0][..], &rest].concat()] {
            let request = OpenRequest::decode(&bytes);
            prop_assert_eq!(Dialect::Native.decode_request(&bytes).err(), request.err());
            let response = OpenResponse::decode(&bytes);
            prop_assert_eq!(Dialect::Native.decode_response(&bytes).err(), response.err());
            for noise in [request.map(|r| r.noise).ok(), response.map(|r| r.noise).ok()] {
                prop_assert!(noise.is_none_or(|noise| noise.len() <= OPEN_NOISE_MAX));
            }
            prop_assert!(OpenRequest::verify(&bytes).is_err());
        }
    }

    #[test]
    fn a_refusal_has_one_length(hash in any::<[u8; 32]>(), index in 0..Reason::COUNT) {
        let (hash, reason) = (RequestHash(hash), Reason::ALL[index]);
        let bytes = Dialect::Native.encode_refusal(&hash, reason).unwrap();
        prop_assert_eq!(bytes.len(), OPEN_RESPONSE_FIXED);
        let head = Dialect::Native.decode_response(&bytes).unwrap();
        prop_assert_eq!((head.reason_code, head.request_hash), (reason.code(), hash));
    }

    #[test]
    fn an_address_has_one_text(key in any::<[u8; 32]>(), port in any::<u16>()) {
        let address = Address::new(PublicKey::native(key), port);
        let text = address.to_string();
        prop_assert_eq!(text.len(), 65 + port.to_string().len());
        prop_assert_eq!(text.parse::<Address>(), Ok(address));
        prop_assert_eq!(address.key.to_string().parse::<PublicKey>(), Ok(address.key));
    }

    #[test]
    fn text_that_parses_is_the_text_of_what_it_parses_to(text in "[0-9a-fA-F:]{0,70}|.{0,80}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string(), text);
        } else if let Ok(key) = text.parse::<PublicKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}
