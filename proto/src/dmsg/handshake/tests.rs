//! Tests of the session handshake of the dmsg dialect.

use std::vec;

use super::*;
use crate::key::KeyError;
use crate::nonce::NonceError;
use crate::reason::Reason;
use crate::sealed::SealedError;

fn identity(byte: u8) -> Identity {
    Identity::new(SecretKey::from_bytes([byte; 32]).unwrap())
}

fn peer() -> Identity {
    identity(1)
}

fn relay() -> Identity {
    identity(2)
}

fn other() -> Identity {
    identity(3)
}

fn initiator() -> (Initiator, Vec<u8>) {
    Initiator::new(&peer(), &relay().public(), [4; 32]).unwrap()
}

fn responder() -> Responder {
    Responder::new(&relay(), [5; 32])
}

/// Returns the initiator's state without the value around it.
fn initiator_state() -> HandshakeState {
    let own = peer();
    let setup = Setup {
        pattern: Pattern::Xk,
        secret: own.ready(),
        remote: Some(&relay().public()),
        random: [4; 32],
    };
    setup.build(Side::Initiator).unwrap()
}

fn message_with(state: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    noise::write(state, payload, &mut message).unwrap();
    message
}

fn exchange(mut peer: Established, mut relay: Established) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    peer.sealer.seal(b"up", &mut up).unwrap();
    relay.sealer.seal(b"down", &mut down).unwrap();
    let refused = Err(SealedError::PeerNotAuthentic);
    assert_eq!(peer.opener.open(&mut up[2..].to_vec()), refused);
    assert_eq!(relay.opener.open(&mut down[2..].to_vec()), refused);
    assert_eq!(relay.opener.open(&mut up[2..].to_vec()), Ok(&b"up"[..]));
    assert_eq!(peer.opener.open(&mut down[2..].to_vec()), Ok(&b"down"[..]));
    let replayed = Err(SealedError::PeerNonce(NonceError::PeerSeen));
    assert_eq!(relay.opener.open(&mut up[2..]), replayed);
    assert_eq!(peer.opener.open(&mut down[2..]), replayed);
}

#[test]
fn both_sides_agree_on_keys_and_on_who_they_are() {
    let (initiator, first) = initiator();
    assert_eq!(message_len(&first), Ok(Some(2 + 49)));
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    assert_eq!(message_len(&second), Ok(Some(2 + 49)));
    let (third, at_peer) = initiator.message_2(&second[2..]).unwrap();
    assert_eq!(message_len(&third), Ok(Some(2 + 65)));
    assert_eq!((first.len(), second.len(), third.len()), (51, 51, 67));
    let at_relay = responder.message_3(&third[2..]).unwrap();
    assert_eq!(at_relay.key, peer().public());
    assert_eq!(at_peer.key, relay().public());
    exchange(at_peer, at_relay);
}

#[test]
fn payloads_of_any_length_are_ignored() {
    let longest = DMSG_HANDSHAKE_MESSAGE_MAX - 49;
    for length in [1, 1_184, longest] {
        let mut state = initiator_state();
        let first = message_with(&mut state, &vec![7; length]);
        let mut responder = responder();
        let second = responder.message_1(&first).unwrap();
        // The answer is empty: no post-quantum key is known here.
        assert_eq!(second.len(), 2 + 49);
        assert_eq!(noise::read(&mut state, &second[2..]), Ok(vec![]));
        let third = message_with(&mut state, &vec![8; length.min(longest - 16)]);
        let at_relay = responder.message_3(&third).unwrap();
        assert_eq!(at_relay.key, peer().public());
    }
    let first = message_with(&mut initiator_state(), &vec![7; longest + 1]);
    let have = DMSG_HANDSHAKE_MESSAGE_MAX + 1;
    let refused = responder().message_1(&first);
    assert_eq!(refused, Err(HandshakeError::PeerLength { have }));
}

#[test]
fn folded_responder_goes_on_where_it_stopped() {
    let (initiator, first) = initiator();
    let mut responder = responder();
    let second = responder.message_1(&first[2..]).unwrap();
    let (third, at_peer) = initiator.message_2(&second[2..]).unwrap();
    let folded = Box::new(responder).fold().unwrap();
    assert!(size_of_val(&folded) <= 64, "{}", size_of_val(&folded));
    assert!(matches!(
        folded.unfold(&other()),
        Err(HandshakeError::PeerNoise)
    ));
    let responder = folded.unfold(&relay()).unwrap();
    let at_relay = responder.message_3(&third[2..]).unwrap();
    assert_eq!(at_relay.key, peer().public());
    exchange(at_peer, at_relay);
}

#[test]
fn responder_without_message_1_cannot_be_folded() {
    assert!(Box::new(responder()).fold().is_err());
}

#[test]
fn messages_out_of_order_are_a_bug() {
    let (_, first) = initiator();
    let mut responder = responder();
    assert_eq!(
        self::responder().message_3(&[2; 65]).unwrap_err(),
        HandshakeError::BugOutOfOrder
    );
    responder.message_1(&first[2..]).unwrap();
    let again = responder.message_1(&first[2..]);
    assert_eq!(again, Err(HandshakeError::BugOutOfOrder));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (_, first) = initiator();
    let mut responder = responder();
    responder.message_1(&first[2..]).unwrap();
    let text = std::format!("{responder:?} {:?}", relay());
    assert!(
        !text.contains("5, 5, 5") && !text.contains("2, 2, 2"),
        "{text}"
    );
    let folded = Box::new(responder).fold().unwrap();
    assert_eq!(std::format!("{folded:?}"), "FoldedResponder { .. }");
}

#[test]
fn another_relay_cannot_answer() {
    let (_, first) = initiator();
    let mut responder = Responder::new(&other(), [5; 32]);
    assert_eq!(
        responder.message_1(&first[2..]),
        Err(HandshakeError::PeerNoise)
    );
    let (initiator, _) = initiator();
    let (_, to_other) = Initiator::new(&peer(), &other().public(), [4; 32]).unwrap();
    let mut responder = Responder::new(&other(), [5; 32]);
    let second = responder.message_1(&to_other[2..]).unwrap();
    assert_eq!(
        initiator.message_2(&second[2..]).unwrap_err(),
        HandshakeError::PeerNoise
    );
}

#[test]
fn an_ephemeral_key_that_is_no_point_is_refused() {
    let (_, first) = initiator();
    let mut off_the_curve = first[2..].to_vec();
    off_the_curve[..33].fill(0);
    (off_the_curve[0], off_the_curve[32]) = (2, 5);
    let mut uncompressed = first[2..].to_vec();
    uncompressed[0] = 4;
    for message in [&[0; 49][..], &[0xff; 49], &off_the_curve, &uncompressed] {
        let error = responder().message_1(message).unwrap_err();
        assert_eq!(error, HandshakeError::PeerNoise);
        assert_eq!(error.reason(), Reason::BadHandshake);
        let (initiator, _) = initiator();
        let refused = initiator.message_2(message).unwrap_err();
        assert_eq!(refused, HandshakeError::PeerNoise);
    }
}

#[test]
fn a_responder_goes_on_behind_a_message_that_failed() {
    let (initiator, first) = initiator();
    let mut responder = responder();
    assert!(responder.message_1(&[0xff; 49]).is_err());
    assert!(Box::new(self::responder()).fold().is_err());
    let second = responder.message_1(&first[2..]).unwrap();
    let (third, _) = initiator.message_2(&second[2..]).unwrap();
    assert!(responder.message_3(&third[2..]).is_ok());
}

#[test]
fn a_relay_key_that_is_no_point_is_refused_before_anything_is_sent() {
    let new = |relay| Initiator::new(&peer(), &relay, [4; 32]).unwrap_err();
    assert_eq!(
        new(PublicKey::dmsg([0; 33])),
        HandshakeError::PeerKey(KeyError::PeerNotAPoint)
    );
    assert_eq!(
        new(PublicKey::native([9; 32])),
        HandshakeError::PeerKey(KeyError::LocalDialect)
    );
}

#[test]
fn random_bytes_that_are_no_secret_make_a_handshake_all_the_same() {
    for random in [[0; 32], [0xff; 32]] {
        let own = peer();
        let (initiator, first) = Initiator::new(&own, &relay().public(), random).unwrap();
        let mut responder = Responder::new(&relay(), random);
        let second = responder.message_1(&first[2..]).unwrap();
        let (third, at_peer) = initiator.message_2(&second[2..]).unwrap();
        exchange(at_peer, responder.message_3(&third[2..]).unwrap());
    }
}

#[test]
fn lengths_outside_the_bounds_are_refused_before_anything_is_read() {
    assert_eq!(message_len(&[]), Ok(None));
    assert_eq!(message_len(&[0]), Ok(None));
    for have in [0, 48] {
        let length = message_len(&[0, have]);
        let have = usize::from(have);
        assert_eq!(length, Err(HandshakeError::PeerLength { have }));
    }
    assert_eq!(message_len(&[0, 49]), Ok(Some(51)));
    assert_eq!(message_len(&[0x0f, 0xfe]), Ok(Some(4_096)));
    for prefix in [[0x0f, 0xff], [0xff, 0xff]] {
        let have = usize::from(u16::from_be_bytes(prefix));
        let length = message_len(&prefix);
        assert_eq!(length, Err(HandshakeError::PeerLength { have }));
    }
    let short = responder().message_1(&[2; 48]);
    assert_eq!(short, Err(HandshakeError::PeerLength { have: 48 }));
    let (initiator, _) = initiator();
    let none = initiator.message_2(&[]).unwrap_err();
    assert_eq!(none, HandshakeError::PeerLength { have: 0 });
}
