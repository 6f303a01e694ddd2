//! Property tests of what seals and shakes hands in the dmsg dialect: roundtrips, perturbed bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringway_proto::dmsg::handshake::{
    Established, HandshakeError, Identity, Initiator, Responder, message_len,
};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::dmsg::kk::{KkError, KkInitiator, kk_respond};
use ringway_proto::dmsg::record::{
    RecordError, RecordOpener, RecordSealer, SoftAead, record_bytes, record_len,
};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{
    DMSG_HANDSHAKE_MESSAGE_MAX, DMSG_OBJECT_MAX, DMSG_PAYLOAD_MAX, DMSG_PLAIN_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{DmsgHead, Opener, SEALED_OVERHEAD, SealedError, Sealer, dmsg_head};

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

/// A party with any secret; few of the drawn ones are none.
fn identity() -> impl Strategy<Value = Identity> {
    any::<[u8; 32]>().prop_filter_map("no secret of the curve", |bytes| {
        SecretKey::from_bytes(bytes).ok().map(Identity::new)
    })
}

/// The party with this secret.
fn party(byte: u8) -> Identity {
    Identity::new(SecretKey::from_bytes([byte; 32]).expect("a secret of the curve"))
}

/// Bytes that begin like a key more often than chance has it.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let point = identity().prop_map(|it| it.public().as_bytes().to_vec());
    let with_point =
        (point, vec(any::<u8>(), 0..1_300)).prop_map(|(point, rest)| [point, rest].concat());
    let raw = vec(any::<u8>(), 0..DMSG_HANDSHAKE_MESSAGE_MAX + 10);
    prop_oneof![with_point, raw]
}

proptest! {
    #[test]
    fn sealed_objects_roundtrip(
        key in any::<[u8; 32]>(),
        plains in vec(vec(any::<u8>(), 0..=DMSG_PLAIN_MAX), 1..8),
    ) {
        let (mut sealer, mut opener) = (Sealer::dmsg(key), Opener::dmsg(key));
        for (nonce, plain) in (1_u64..).zip(plains) {
            let mut object = vec![0xee; 3];
            sealer.seal(&plain, &mut object).unwrap();
            let object = &mut object[3..];
            prop_assert_eq!(object.len(), SEALED_OVERHEAD + plain.len());
            prop_assert_eq!(dmsg_head(object), Ok(Some(DmsgHead::Object(object.len()))));
            prop_assert_eq!(&object[2..10], nonce.to_be_bytes());
            prop_assert_eq!(opener.open(&mut object[2..]), Ok(plain.as_slice()));
        }
    }

    #[test]
    fn objects_open_once_in_any_order(order in Just((0..64_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let (mut sealer, mut opener) = (Sealer::dmsg([3; 32]), Opener::dmsg([3; 32]));
        let mut objects = Vec::new();
        for number in 0..64_u8 {
            let mut object = Vec::new();
            sealer.seal(&[number], &mut object).unwrap();
            objects.push(object.split_off(2));
        }
        for at in order {
            let plain = u8::try_from(at).unwrap();
            let mut object = objects[at].clone();
            prop_assert_eq!(opener.open(&mut object), Ok(&[plain][..]));
            let again = opener.open(&mut objects[at].clone()).map(<[u8]>::len);
            prop_assert_eq!(again.map_err(SealedError::reason), Err(Reason::Replay));
        }
    }

    #[test]
    fn a_harmed_object_does_not_open_and_the_whole_one_still_does(
        plain in vec(any::<u8>(), 0..=DMSG_PLAIN_MAX),
        harm in harm(),
    ) {
        let (mut sealer, mut opener) = (Sealer::dmsg([3; 32]), Opener::dmsg([3; 32]));
        let mut object = Vec::new();
        sealer.seal(&plain, &mut object).unwrap();
        let mut harmed = harm.apply(&object[2..]);
        prop_assert!(opener.open(&mut harmed).is_err());
        prop_assert_eq!(opener.open(&mut object[2..]), Ok(plain.as_slice()));
    }

    #[test]
    fn any_two_bytes_are_an_object_a_ping_or_an_error(prefix in any::<[u8; 2]>()) {
        let have = usize::from(u16::from_be_bytes(prefix));
        let head = dmsg_head(&prefix);
        match have {
            0 => prop_assert_eq!(head, Ok(Some(DmsgHead::Ping))),
            1..24 => prop_assert_eq!(head, Err(SealedError::PeerTooShort { have })),
            _ if have + 2 > DMSG_OBJECT_MAX => {
                prop_assert_eq!(head, Err(SealedError::PeerTooLong { have }));
            }
            _ => prop_assert_eq!(head, Ok(Some(DmsgHead::Object(have + 2)))),
        }
    }

    #[test]
    fn records_roundtrip_however_they_arrive(
        plain in vec(any::<u8>(), 0..20_000),
        pieces in vec(1_usize..7_000, 1..20),
        harm in harm(),
    ) {
        let mut wire = Vec::new();
        let mut sealer = RecordSealer::new(SoftAead::new(&[4; 32]));
        sealer.seal_all(&plain, &mut wire).unwrap();
        let expected: usize =
            plain.chunks(DMSG_PAYLOAD_MAX).map(|it| record_bytes(it.len())).sum();
        prop_assert_eq!(wire.len(), expected);
        prop_assert_eq!(receive(&wire, &pieces), (plain.clone(), Ok(())));
        if !wire.is_empty() {
            // What was harmed never gives other bytes, only fewer, and never in silence: a cut at a
            // boundary alone looks like an end.
            let (opened, end) = receive(&harm.apply(&wire), &pieces);
            prop_assert!(plain.starts_with(&opened));
            prop_assert!(end.is_err() || (opened.len() < plain.len()
                && opened.len().is_multiple_of(DMSG_PAYLOAD_MAX)));
        }
    }

    #[test]
    fn records_that_are_dropped_repeated_or_reordered_open_only_upwards(
        deliveries in vec(0_u8..20, 0..60),
    ) {
        let mut sealer = RecordSealer::new(SoftAead::new(&[4; 32]));
        let mut records = Vec::new();
        for number in 0..20_u8 {
            let mut record = Vec::new();
            sealer.seal(&[number], &mut record).unwrap();
            records.push(record.split_off(2));
        }
        let mut opener = RecordOpener::new(SoftAead::new(&[4; 32]));
        let mut next = 0;
        for number in deliveries {
            let mut record = records[usize::from(number)].clone();
            let opened = opener.open(&mut record).map(<[u8]>::to_vec);
            if number >= next {
                prop_assert_eq!(opened, Ok(vec![number]));
                next = number + 1;
            } else {
                let have = u64::from(number) + 1;
                prop_assert_eq!(opened, Err(RecordError::PeerNonce { have }));
            }
        }
    }

    #[test]
    fn any_bytes_are_no_records(bytes in vec(any::<u8>(), 0..9_000), pieces in vec(1_usize..999, 1..9)) {
        let (opened, end) = receive(&bytes, &pieces);
        prop_assert!(opened.is_empty());
        let is_expected = match record_len(&bytes) {
            Err(error) => end == Err(error),
            Ok(Some(len)) if len <= bytes.len() => matches!(
                end,
                Err(RecordError::PeerNotAuthentic | RecordError::PeerNonce { .. })
            ),
            Ok(_) if bytes.is_empty() => end.is_ok(),
            Ok(_) => end == Err(RecordError::PeerTruncated { have: bytes.len() }),
        };
        prop_assert!(is_expected, "{:?}", end);
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
    fn handshakes_agree_whoever_they_are(
        peer in identity(),
        relay in identity(),
        randoms in any::<[[u8; 32]; 2]>(),
        folds in any::<bool>(),
    ) {
        let started = Initiator::new(&peer, &relay.public(), randoms[0]);
        let (initiator, message_1) = started.unwrap();
        let mut responder = Responder::new(&relay, randoms[1]);
        let message_2 = responder.message_1(&message_1[2..]).unwrap();
        let (message_3, at_peer) = initiator.message_2(&message_2[2..]).unwrap();
        for (message, length) in [(&message_1, 51), (&message_2, 51), (&message_3, 67)] {
            prop_assert_eq!(message.len(), length);
            prop_assert_eq!(message_len(message), Ok(Some(length)));
        }
        if folds {
            responder = Box::new(responder).fold().unwrap().unfold(&relay).unwrap();
        }
        let at_relay = responder.message_3(&message_3[2..]).unwrap();
        prop_assert_eq!((at_relay.key, at_peer.key), (peer.public(), relay.public()));
        prop_assert_eq!(exchange(at_peer, at_relay), Ok(()));
    }

    #[test]
    fn relays_with_other_identities_do_not_answer(relay in identity(), other in identity()) {
        prop_assume!(relay.public() != other.public());
        let (initiator, message_1) = Initiator::new(&party(1), &relay.public(), [5; 32]).unwrap();
        let mut wrong = Responder::new(&other, [6; 32]);
        prop_assert_eq!(wrong.message_1(&message_1[2..]), Err(HandshakeError::PeerNoise));
        let mut right = Responder::new(&relay, [6; 32]);
        let message_2 = right.message_1(&message_1[2..]).unwrap();
        let (message_3, _) = initiator.message_2(&message_2[2..]).unwrap();
        prop_assert!(Box::new(wrong).fold().is_err());
        prop_assert!(right.message_3(&message_3[2..]).is_ok());
    }

    #[test]
    fn harmed_handshake_messages_are_the_peers_fault(harm in harm()) {
        let (peer, relay) = (party(1), party(2));
        let start = || Initiator::new(&peer, &relay.public(), [5; 32]).unwrap();
        let (initiator, message_1) = start();
        let responder = || Responder::new(&relay, [6; 32]);
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
    fn any_bytes_are_no_handshake_message(bytes in messages()) {
        let (peer, relay) = (party(1), party(2));
        let (initiator, message_1) = Initiator::new(&peer, &relay.public(), [5; 32]).unwrap();
        let mut responder = Responder::new(&relay, [6; 32]);
        let first = responder.message_1(&bytes).unwrap_err();
        responder.message_1(&message_1[2..]).unwrap();
        for error in [
            first,
            responder.message_3(&bytes).unwrap_err(),
            initiator.message_2(&bytes).unwrap_err(),
        ] {
            prop_assert_eq!(error.reason(), Reason::BadHandshake);
            prop_assert!(!matches!(error, HandshakeError::BugOutOfOrder));
        }
        let answered = kk_respond(&relay, &peer.public(), &bytes, [6; 32]);
        prop_assert_eq!(answered.unwrap_err(), KkError::PeerNoise);
        let (opener, _) = KkInitiator::new(&peer, &relay.public(), [5; 32]).unwrap();
        prop_assert_eq!(opener.finish(&bytes).unwrap_err(), KkError::PeerNoise);
    }

    #[test]
    fn any_key_begins_a_handshake_or_is_no_point(bytes in vec(any::<u8>(), 32), prefix in 0_u8..6) {
        let mut key = [prefix; 33];
        key[1..].copy_from_slice(&bytes);
        let key = PublicKey::dmsg(key);
        let started = Initiator::new(&party(1), &key, [5; 32]);
        let is_point = ringway_proto::dmsg::key::check(&key).is_ok();
        prop_assert_eq!(started.is_ok(), is_point);
        prop_assert!(!is_point || matches!(prefix, 2 | 3));
        let opened = KkInitiator::new(&party(1), &key, [5; 32]);
        prop_assert_eq!(opened.is_ok(), is_point);
    }

    #[test]
    fn stream_handshakes_agree_or_are_refused(
        one in identity(),
        two in identity(),
        randoms in any::<[[u8; 32]; 2]>(),
        harm in harm(),
    ) {
        let start = || KkInitiator::new(&one, &two.public(), randoms[0]).unwrap();
        let (opener, message_1) = start();
        let answered = kk_respond(&two, &one.public(), &message_1, randoms[1]);
        let (message_2, taken) = answered.unwrap();
        prop_assert_eq!(start().0.finish(&harm.apply(&message_2)).unwrap_err(), KkError::PeerNoise);
        let opened = opener.finish(&message_2).unwrap();
        prop_assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
        let refused = kk_respond(&two, &one.public(), &harm.apply(&message_1), randoms[1]);
        prop_assert_eq!(refused.unwrap_err(), KkError::PeerNoise);
    }
}

/// Both directions carry one object; neither side takes its own back.
fn exchange(mut peer: Established, mut relay: Established) -> Result<(), SealedError> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    peer.sealer.seal(b"up", &mut up)?;
    relay.sealer.seal(b"down", &mut down)?;
    assert!(peer.opener.open(&mut up[2..].to_vec()).is_err());
    assert!(relay.opener.open(&mut down[2..].to_vec()).is_err());
    assert_eq!(relay.opener.open(&mut up[2..])?, b"up");
    assert_eq!(peer.opener.open(&mut down[2..])?, b"down");
    Ok(())
}
