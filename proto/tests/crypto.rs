//! Property tests of what seals, signs and shakes hands: roundtrips, lengths, perturbed bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringway_proto::handshake::{
    Extension, ExtensionKind, HandshakeError, Initiator, Offer, RelayIdentity, Responder, Role,
};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::{KkError, KkInitiator, kk_respond};
use ringway_proto::limits::{
    OPEN_NOISE_MAX, OPEN_REQUEST_FIXED, OPEN_REQUEST_MAX, OPEN_RESPONSE_FIXED, OPEN_RESPONSE_MAX,
    SEALED_PLAIN_MAX,
};
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;
use ringway_proto::record::{RecordError, RecordOpener, RecordSealer, SoftAead, record_bytes};
use ringway_proto::sealed::{Opener, SEALED_OVERHEAD, SealedError, Sealer, object_len};

const PEER: SecretKey = SecretKey::from_seed([1; 32]);
const RELAY: SecretKey = SecretKey::from_seed([2; 32]);

/// What happens to bytes on their way.
#[derive(Clone, Debug)]
enum Harm {
    Change(Index, u8),
    Cut(Index),
    Lengthen(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), 1_u8..).prop_map(|(at, bits)| Harm::Change(at, bits)),
        any::<Index>().prop_map(Harm::Cut),
        vec(any::<u8>(), 1..40).prop_map(Harm::Lengthen),
    ]
}

impl Harm {
    /// Returns other bytes than `bytes`, which are not empty.
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Self::Change(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Lengthen(more) => bytes.extend_from_slice(more),
        }
        bytes
    }
}

fn offer() -> impl Strategy<Value = Offer> {
    (any::<u32>(), any::<u32>(), any::<u32>(), any::<u16>()).prop_map(
        |(capabilities, streams_max, stream_window, keepalive_s)| Offer {
            capabilities,
            streams_max,
            stream_window,
            keepalive_s,
        },
    )
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    let kind = prop_oneof![
        Just(ExtensionKind::Announcement),
        Just(ExtensionKind::WebSocketOrigin),
        Just(ExtensionKind::Passphrase),
    ];
    let extension = (kind, vec(any::<u8>(), 0..100));
    vec(
        extension.prop_map(|(kind, value)| Extension { kind, value }),
        0..8,
    )
}

fn address() -> impl Strategy<Value = Address> {
    (any::<[u8; 32]>(), any::<u16>())
        .prop_map(|(key, port)| Address::new(PublicKey::native(key), port))
}

proptest! {
    #[test]
    fn sealed_objects_roundtrip(
        key in any::<[u8; 32]>(),
        plains in vec(vec(any::<u8>(), 0..=SEALED_PLAIN_MAX), 1..8),
    ) {
        let (mut sealer, mut opener) = (Sealer::new(key), Opener::new(key));
        for plain in plains {
            let mut object = vec![0xee; 3];
            sealer.seal(&plain, &mut object).unwrap();
            let object = &mut object[3..];
            prop_assert_eq!(object.len(), SEALED_OVERHEAD + plain.len());
            prop_assert_eq!(object_len(object), Ok(Some(object.len())));
            prop_assert_eq!(opener.open(&mut object[2..]), Ok(plain.as_slice()));
        }
    }

    #[test]
    fn a_harmed_object_does_not_open_and_the_whole_one_still_does(
        plain in vec(any::<u8>(), 0..=SEALED_PLAIN_MAX),
        harm in harm(),
    ) {
        let (mut sealer, mut opener) = (Sealer::new([3; 32]), Opener::new([3; 32]));
        let mut object = Vec::new();
        sealer.seal(&plain, &mut object).unwrap();
        let mut harmed = harm.apply(&object[2..]);
        prop_assert!(opener.open(&mut harmed).is_err());
        prop_assert_eq!(opener.open(&mut object[2..]), Ok(plain.as_slice()));
    }

    #[test]
    fn any_bytes_are_no_sealed_object(mut bytes in vec(any::<u8>(), 0..600)) {
        let opened = Opener::new([3; 32]).open(&mut bytes).map(<[u8]>::len);
        let is_expected = matches!(
            opened,
            Err(SealedError::PeerNotAuthentic
                | SealedError::PeerNonce(_)
                | SealedError::PeerTooLong { .. }
                | SealedError::PeerTooShort { .. })
        );
        prop_assert!(is_expected, "{:?}", opened);
    }

    #[test]
    fn records_roundtrip_however_they_arrive(
        plain in vec(any::<u8>(), 0..4_000),
        payload_max in 1_usize..1_000,
        pieces in vec(1_usize..700, 1..20),
        harm in harm(),
    ) {
        let mut wire = Vec::new();
        let mut sealer = RecordSealer::new(SoftAead::new(&[4; 32]));
        sealer.seal_all(&plain, payload_max, &mut wire).unwrap();
        let expected: usize = plain.chunks(payload_max).map(|p| record_bytes(p.len())).sum();
        prop_assert_eq!(wire.len(), expected);
        prop_assert_eq!(receive(&wire, &pieces), (plain.clone(), Ok(())));
        if !wire.is_empty() {
            // What was harmed never gives other bytes, only fewer, and never in silence: a cut at a
            // boundary alone looks like an end.
            let (opened, end) = receive(&harm.apply(&wire), &pieces);
            prop_assert!(plain.starts_with(&opened));
            prop_assert!(end.is_err() || (opened.len() < plain.len()
                && opened.len().is_multiple_of(payload_max)));
        }
    }
}

/// Pushes `wire` in pieces and returns what opened and how it ended.
fn receive(wire: &[u8], pieces: &[usize]) -> (Vec<u8>, Result<(), RecordError>) {
    let mut opener = RecordOpener::new(SoftAead::new(&[4; 32]));
    let (mut opened, mut rest) = (Vec::new(), wire);
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        opener.push(now);
        loop {
            match opener.next_record() {
                Ok(Some(payload)) => opened.extend_from_slice(payload),
                Ok(None) => break,
                Err(error) => return (opened, Err(error)),
            }
        }
        if later.is_empty() {
            break;
        }
        rest = later;
    }
    let end = opener.finish();
    (opened, end)
}

proptest! {
    // Each case costs several scalar multiplications.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn open_requests_roundtrip(
        forwarded in any::<bool>(),
        timestamp_ns in any::<u64>(),
        port in any::<u16>(),
        destination in address(),
        noise in vec(any::<u8>(), 0..=OPEN_NOISE_MAX),
        harm in harm(),
    ) {
        let source = Address::new(PEER.public(), port);
        let request = OpenRequest { forwarded, timestamp_ns, source, destination, noise: &noise };
        let bytes = request.encode(&PEER).unwrap();
        prop_assert_eq!(bytes.len(), OPEN_REQUEST_FIXED + noise.len());
        prop_assert!(bytes.len() <= OPEN_REQUEST_MAX);
        prop_assert_eq!(OpenRequest::decode(&bytes), Ok(request));
        prop_assert_eq!(OpenRequest::verify(&bytes), Ok(()));
        let harmed = harm.apply(&bytes);
        // Only the forwarded flag may change on the way.
        let only_forwarded = OpenRequest::hash(&harmed) == OpenRequest::hash(&bytes)
            && harmed[2] ^ bytes[2] == 1;
        prop_assert_eq!(OpenRequest::verify(&harmed).is_ok(), only_forwarded);
    }

    #[test]
    fn open_responses_roundtrip(
        reason_code in any::<u16>(),
        hash in any::<[u8; 32]>(),
        noise in vec(any::<u8>(), 0..=OPEN_NOISE_MAX),
        harm in harm(),
    ) {
        let request_hash = ringway_proto::dialect::RequestHash(hash);
        let response = OpenResponse { reason_code, request_hash, noise: &noise };
        let bytes = response.encode(&PEER).unwrap();
        prop_assert_eq!(bytes.len(), OPEN_RESPONSE_FIXED + noise.len());
        prop_assert!(bytes.len() <= OPEN_RESPONSE_MAX);
        prop_assert_eq!(OpenResponse::decode(&bytes), Ok(response));
        prop_assert_eq!(OpenResponse::verify(&bytes, &PEER.public()), Ok(()));
        prop_assert!(OpenResponse::verify(&harm.apply(&bytes), &PEER.public()).is_err());
    }

    #[test]
    fn handshakes_agree_whatever_they_carry(
        seeds in any::<[[u8; 32]; 4]>(),
        offer in offer(),
        is_relay in any::<bool>(),
        extensions in extensions(),
    ) {
        let [peer, relay, random_1, random_2] = seeds;
        let (peer, relay) = (SecretKey::from_seed(peer), SecretKey::from_seed(relay));
        let role = if is_relay { Role::Relay } else { Role::Peer };
        let started = Initiator::new(&peer, &relay.public(), role, &extensions, random_1);
        let (initiator, message_1) = started.unwrap();
        let mut responder = Responder::new(&RelayIdentity::new(&relay), offer, random_2);
        let message_2 = responder.message_1(&message_1[2..]).unwrap();
        let (message_3, mut at_peer) = initiator.message_2(&message_2[2..]).unwrap();
        let encoded: usize = extensions.iter().map(|extension| 4 + extension.value.len()).sum();
        let lengths = (message_1.len(), message_2.len(), message_3.len());
        prop_assert_eq!(lengths, (55, 65, 101 + encoded));
        let mut at_relay = responder.message_3(&message_3[2..]).unwrap();
        prop_assert_eq!((at_relay.key, at_relay.role), (peer.public(), role));
        prop_assert_eq!(&at_relay.extensions, &extensions);
        prop_assert_eq!(at_peer.offer, offer);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        at_peer.sealer.seal(b"up", &mut up).unwrap();
        at_relay.sealer.seal(b"down", &mut down).unwrap();
        prop_assert_eq!(at_relay.opener.open(&mut up[2..]), Ok(&b"up"[..]));
        prop_assert_eq!(at_peer.opener.open(&mut down[2..]), Ok(&b"down"[..]));
    }

    #[test]
    fn harmed_handshake_messages_are_the_peers_fault(harm in harm()) {
        let offer =
            Offer { capabilities: 0, streams_max: 1, stream_window: 1, keepalive_s: 1 };
        let start = || {
            let role = Role::Peer;
            Initiator::new(&PEER, &RELAY.public(), role, &[], [5; 32]).unwrap()
        };
        let (initiator, message_1) = start();
        let responder = || Responder::new(&RelayIdentity::new(&RELAY), offer, [6; 32]);
        let mut whole = responder();
        let message_2 = whole.message_1(&message_1[2..]).unwrap();
        let (message_3, _) = initiator.message_2(&message_2[2..]).unwrap();
        for error in [
            responder().message_1(&harm.apply(&message_1[2..])).unwrap_err(),
            start().0.message_2(&harm.apply(&message_2[2..])).unwrap_err(),
            whole.message_3(&harm.apply(&message_3[2..])).unwrap_err(),
        ] {
            let is_expected =
                matches!(error, HandshakeError::PeerNoise | HandshakeError::PeerLength { .. });
            prop_assert!(is_expected, "{:?}", error);
            prop_assert_eq!(error.reason(), Reason::BadHandshake);
        }
    }

    #[test]
    fn any_bytes_are_no_handshake_message(bytes in vec(any::<u8>(), 0..1_100)) {
        let offer =
            Offer { capabilities: 0, streams_max: 1, stream_window: 1, keepalive_s: 1 };
        let mut responder = Responder::new(&RelayIdentity::new(&RELAY), offer, [6; 32]);
        prop_assert!(responder.message_1(&bytes).is_err());
        let started = Initiator::new(&PEER, &RELAY.public(), Role::Peer, &[], [5; 32]);
        prop_assert!(started.unwrap().0.message_2(&bytes).is_err());
        let answered = kk_respond(&RELAY, &PEER.public(), &bytes, [6; 32]);
        prop_assert_eq!(answered.unwrap_err(), KkError::PeerNoise);
    }

    #[test]
    fn stream_handshakes_agree_or_are_refused(
        seeds in any::<[[u8; 32]; 4]>(),
        harm in harm(),
    ) {
        let [one, two, random_1, random_2] = seeds;
        let (one, two) = (SecretKey::from_seed(one), SecretKey::from_seed(two));
        let start = || KkInitiator::new(&one, &two.public(), random_1).unwrap();
        let (opener, message_1) = start();
        let answered = kk_respond(&two, &one.public(), &message_1, random_2);
        let (message_2, taken) = answered.unwrap();
        prop_assert_eq!(start().0.finish(&harm.apply(&message_2)).unwrap_err(), KkError::PeerNoise);
        let opened = opener.finish(&message_2).unwrap();
        prop_assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
        let refused = kk_respond(&two, &one.public(), &harm.apply(&message_1), random_2);
        prop_assert_eq!(refused.unwrap_err(), KkError::PeerNoise);
    }
}
