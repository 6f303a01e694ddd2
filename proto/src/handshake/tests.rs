//! Tests of the session handshake.

use std::vec;

use super::*;

const PEER: SecretKey = SecretKey::from_seed([1; 32]);
const RELAY: SecretKey = SecretKey::from_seed([2; 32]);
const OTHER: SecretKey = SecretKey::from_seed([3; 32]);
const OFFER: Offer = Offer {
    capabilities: 0,
    streams_max: 2_048,
    stream_window: 262_144,
    keepalive_s: 30,
};

fn initiator(extensions: &[Extension]) -> (Initiator, Vec<u8>) {
    Initiator::new(&PEER, &RELAY.public(), Role::Peer, extensions, [4; 32]).unwrap()
}

fn responder() -> Responder {
    Responder::new(&RelayIdentity::new(&RELAY), OFFER, [5; 32])
}

/// Runs a handshake whose message 3 carries `introduction`, whatever that says.
fn introduce(introduction: Vec<u8>) -> Result<Established, HandshakeError> {
    let (mut initiator, first) = initiator(&[]);
    initiator.introduction = introduction;
    let mut responder = responder();
    let second = responder.message_1(&first[2..])?;
    let (third, _) = initiator.message_2(&second[2..])?;
    responder.message_3(&third[2..])
}

fn introduction() -> Vec<u8> {
    payload::encode_introduction(Role::Peer, &PEER.public(), &[]).unwrap()
}

fn announcement(length: usize) -> Extension {
    Extension {
        kind: ExtensionKind::Announcement,
        value: vec![8; length],
    }
}

#[test]
fn both_sides_agree_on_keys_and_on_who_they_are() {
    let extensions = [announcement(12)];
    let (initiator, first) = initiator(&extensions);
    assert_eq!(message_len(&first), Ok(Some(first.len())));
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    assert_eq!(message_len(&second), Ok(Some(second.len())));
    let (third, mut peer) = initiator.message_2(&second[2..]).unwrap();
    assert_eq!(message_len(&third), Ok(Some(third.len())));
    let mut relay = responder.message_3(&third[2..]).unwrap();
    assert_eq!(peer.offer, OFFER);
    assert_eq!((relay.key, relay.role), (PEER.public(), Role::Peer));
    assert_eq!(relay.extensions, extensions);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    peer.sealer.seal(b"up", &mut up).unwrap();
    relay.sealer.seal(b"down", &mut down).unwrap();
    assert_eq!(relay.opener.open(&mut up[2..]), Ok(&b"up"[..]));
    assert_eq!(peer.opener.open(&mut down[2..]), Ok(&b"down"[..]));
}

#[test]
fn relay_introduces_itself_as_one() {
    let own = RelayIdentity::new(&PEER);
    let (initiator, first) =
        Initiator::of_relay(&own, &RELAY.public(), &[announcement(6)], [4; 32]).unwrap();
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    let (third, mut link) = initiator.message_2(&second[2..]).unwrap();
    let mut relay = responder.message_3(&third[2..]).unwrap();
    assert_eq!((relay.key, relay.role), (PEER.public(), Role::Relay));
    assert_eq!(relay.extensions, [announcement(6)]);
    let mut up = Vec::new();
    link.sealer.seal(b"up", &mut up).unwrap();
    assert_eq!(relay.opener.open(&mut up[2..]), Ok(&b"up"[..]));
}

#[test]
fn folded_responder_goes_on_where_it_stopped() {
    let (initiator, first) = initiator(&[]);
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    let (third, mut peer) = initiator.message_2(&second[2..]).unwrap();
    let folded = Box::new(responder).fold().unwrap();
    assert!(size_of_val(&folded) < 100, "{}", size_of_val(&folded));
    assert!(matches!(
        folded.unfold(&RelayIdentity::new(&OTHER)),
        Err(HandshakeError::PeerNoise)
    ));
    let responder = folded.unfold(&RelayIdentity::new(&RELAY)).unwrap();
    let mut relay = responder.message_3(&third[2..]).unwrap();
    assert_eq!(relay.key, PEER.public());
    let mut object = Vec::new();
    relay.sealer.seal(b"verdict", &mut object).unwrap();
    assert_eq!(peer.opener.open(&mut object[2..]).unwrap(), b"verdict");
}

#[test]
fn responder_without_message_1_cannot_be_folded() {
    assert!(Box::new(responder()).fold().is_err());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (_, first) = initiator(&[]);
    let mut responder = responder();
    responder.message_1(&first[2..]).unwrap();
    let text = std::format!("{responder:?}");
    assert!(!text.contains("[5, 5, 5"), "{text}");
    let folded = Box::new(responder).fold().unwrap();
    assert_eq!(std::format!("{folded:?}"), "FoldedResponder { .. }");
}

#[test]
fn another_relay_cannot_answer() {
    let (_, first) = initiator(&[]);
    let mut other = Responder::new(&RelayIdentity::new(&OTHER), OFFER, [5; 32]);
    assert_eq!(other.message_1(&first[2..]), Err(HandshakeError::PeerNoise));
}

#[test]
fn a_key_that_was_not_authenticated_is_refused() {
    let claim = |key: &PublicKey| {
        introduce(payload::encode_introduction(Role::Peer, key, &[]).unwrap()).unwrap_err()
    };
    assert_eq!(claim(&OTHER.public()), HandshakeError::PeerKeyMismatch);
    let small = claim(&PublicKey::native([0; 32]));
    assert_eq!(small, HandshakeError::PeerKey(KeyError::PeerSmallOrder));
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let no_point = claim(&PublicKey::native(no_point));
    assert_eq!(no_point, HandshakeError::PeerKey(KeyError::PeerNotAPoint));
    for error in [HandshakeError::PeerKeyMismatch, small, no_point] {
        assert_eq!(error.reason(), Reason::BadHandshake);
    }
}

#[test]
fn an_ephemeral_key_of_small_order_is_refused() {
    let zeros = responder().message_1(&[0; 53]);
    assert_eq!(zeros, Err(HandshakeError::PeerNoise));
    let (initiator, _) = initiator(&[]);
    assert_eq!(
        initiator.message_2(&[0; 63]).unwrap_err(),
        HandshakeError::PeerNoise
    );
}

#[test]
fn a_relay_key_that_is_no_point_is_refused_before_anything_is_sent() {
    let relay = PublicKey::native([0; 32]);
    let refused = Initiator::new(&PEER, &relay, Role::Peer, &[], [4; 32]).unwrap_err();
    assert_eq!(refused, HandshakeError::PeerKey(KeyError::PeerSmallOrder));
}

#[test]
fn another_version_is_named() {
    let mut initiator = initiator_state();
    let first = write(&mut initiator, &[2, 0, 0, 0, 0]).unwrap();
    let error = responder().message_1(&first[2..]).unwrap_err();
    assert_eq!(error, HandshakeError::PeerVersion(2));
    assert_eq!(error.reason(), Reason::Version);
}

#[test]
fn malformed_hellos_are_refused() {
    for payload in [&[][..], &[1], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0]] {
        let first = write(&mut initiator_state(), payload).unwrap();
        let refused = responder().message_1(&first[2..]);
        assert_eq!(refused, Err(HandshakeError::PeerPayload));
    }
}

#[test]
fn malformed_introductions_are_refused() {
    let good = introduction();
    for length in 0..good.len() {
        let refused = introduce(good[..length].to_vec()).unwrap_err();
        assert_eq!(refused, HandshakeError::PeerPayload);
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(introduce(longer).unwrap_err(), HandshakeError::PeerPayload);
    let mut role = good;
    role[0] = 2;
    assert_eq!(introduce(role).unwrap_err(), HandshakeError::PeerRole(2));
}

#[test]
fn extensions_of_unknown_types_are_skipped() {
    let encoded = |extensions: &[u8]| {
        let mut out = introduction();
        let length = u8::try_from(extensions.len()).unwrap();
        *out.last_mut().unwrap() = length;
        out.extend_from_slice(extensions);
        introduce(out).map(|relay| relay.extensions)
    };
    assert_eq!(
        encoded(&[0, 9, 0, 1, 7, 0, 2, 0, 2, 8, 8]),
        Ok(vec![announcement(2)])
    );
    assert_eq!(encoded(&[0, 9, 0, 0]), Ok(vec![]));
    assert_eq!(encoded(&[0, 9, 0, 1]), Err(HandshakeError::PeerPayload));
    assert_eq!(encoded(&[0, 9, 0]), Err(HandshakeError::PeerPayload));
}

#[test]
fn extensions_that_do_not_fit_are_refused_before_anything_is_sent() {
    let new = |length| {
        Initiator::new(
            &PEER,
            &RELAY.public(),
            Role::Relay,
            &[announcement(length)],
            [4; 32],
        )
    };
    let room = HANDSHAKE_MESSAGE_MAX - noise::MESSAGE_OVERHEAD_MAX - introduction().len() - 4;
    let (initiator, first) = new(room).unwrap();
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    let (third, _) = initiator.message_2(&second[2..]).unwrap();
    assert_eq!(third.len(), 2 + HANDSHAKE_MESSAGE_MAX);
    assert_eq!(responder.message_3(&third[2..]).unwrap().role, Role::Relay);
    let refused = new(room + 1).unwrap_err();
    assert_eq!(refused, HandshakeError::LocalExtensions { have: room + 5 });
}

#[test]
fn only_the_passphrase_is_accepted() {
    let run = |passphrase: Option<&[u8]>| {
        let (mut initiator, first) = initiator(&[]);
        if let Some(passphrase) = passphrase {
            initiator = initiator.with_passphrase(passphrase);
        }
        let mut responder = responder();
        let second = responder.message_1(&first[2..]).unwrap();
        let (third, _) = initiator.message_2(&second[2..]).unwrap();
        responder.message_3(&third[2..]).unwrap()
    };
    let relay = run(Some(b"open sesame"));
    assert!(relay.knows_passphrase(b"open sesame"));
    assert!(!relay.knows_passphrase(b"open barley"));
    assert!(!run(None).knows_passphrase(b"open sesame"));
}

#[test]
fn messages_out_of_order_are_a_bug_not_a_panic() {
    let (_, first) = initiator(&[]);
    let mut responder = responder();
    responder.message_1(&first[2..]).unwrap();
    assert_eq!(
        responder.message_1(&first[2..]),
        Err(HandshakeError::BugOutOfOrder)
    );
    let fresh = Responder::new(&RelayIdentity::new(&RELAY), OFFER, [5; 32]);
    assert_eq!(
        fresh.message_3(&first[2..]).unwrap_err(),
        HandshakeError::BugOutOfOrder
    );
}

#[test]
fn changed_and_cut_messages_are_refused() {
    let (_, first) = initiator(&[]);
    let mut responder_2 = responder();
    let second = responder_2.message_1(&first[2..]).unwrap();
    for position in 2..first.len() {
        let mut forged = first.clone();
        forged[position] ^= 1;
        assert!(responder().message_1(&forged[2..]).is_err());
        assert!(responder().message_1(&first[2..position]).is_err());
    }
    for position in 2..second.len() {
        let mut forged = second.clone();
        forged[position] ^= 1;
        assert!(initiator(&[]).0.message_2(&forged[2..]).is_err());
        assert!(initiator(&[]).0.message_2(&second[2..position]).is_err());
    }
}

#[test]
fn lengths_outside_the_bounds_are_refused_before_anything_is_read() {
    assert_eq!(message_len(&[]), Ok(None));
    assert_eq!(message_len(&[4]), Ok(None));
    assert_eq!(
        message_len(&[0, 0]),
        Err(HandshakeError::PeerLength { have: 0 })
    );
    assert_eq!(message_len(&[4, 0]), Ok(Some(1_026)));
    assert_eq!(
        message_len(&[4, 1]),
        Err(HandshakeError::PeerLength { have: 1_025 })
    );
    let long = responder().message_1(&[0; 1_025]);
    assert_eq!(long, Err(HandshakeError::PeerLength { have: 1_025 }));
}

fn initiator_state() -> HandshakeState {
    let setup = Setup {
        pattern: XK,
        prologue: PROLOGUE,
        secret: &Arc::new(Secret::new(&PEER.x25519())),
        remote: Some(&RELAY.public().to_x25519().unwrap()),
        random: [4; 32],
    };
    setup.build(Side::Initiator).unwrap()
}
