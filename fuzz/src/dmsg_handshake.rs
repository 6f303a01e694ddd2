//! Handshakes of the dmsg dialect, of sessions and of streams, with one message damaged or replaced: the
//! handshake ends with a reason, and an untouched one ends with the right key on both sides.
//!
//! Here: also that a folded responder goes on where it stopped, and that what no message was made for is
//! never accepted. Not here: the objects and records under those keys (`dmsg_sealed`).
//!
//! Invariant: no changed handshake is accepted, no untouched one refused.

use arbitrary::Arbitrary;
use ringway_proto::dmsg::handshake::{Established, Identity, Initiator, Responder, message_len};
use ringway_proto::dmsg::key::{SecretKey, hash};
use ringway_proto::dmsg::kk::{KkError, KkInitiator, kk_respond};
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;

use crate::handshake::Change;
use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    secrets: [[u8; 32]; 2],
    ephemerals: [[u8; 32]; 2],
    is_folded: bool,
    which: u8,
    change: Change,
    key: [u8; 33],
    raw: Vec<u8>,
}

/// Takes one handshake of each kind, as a structured input.
///
/// # Panics
///
/// When a changed handshake is accepted, an untouched one refused, or the keys do not fit.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        let parties = input.secrets.map(identity);
        open_session(&input, &parties);
        open_stream(&input, &parties);
        refuse(&input, &parties);
    }
}

fn identity(bytes: [u8; 32]) -> Identity {
    // Few bytes are no secret; their hash is one.
    let secret = SecretKey::from_bytes(bytes).or_else(|_| SecretKey::from_bytes(hash(&bytes)));
    Identity::new(secret.expect("a hash below the order of the curve"))
}

fn open_session(input: &Input, [peer, relay]: &[Identity; 2]) {
    let mut is_changed = false;
    let mut carry = |number: u8, message: Vec<u8>| {
        assert_eq!(message_len(&message), Ok(Some(message.len())));
        let mut message = message[2..].to_vec();
        if input.which % 3 == number {
            is_changed |= input.change.apply(&mut message);
        }
        (message, is_changed)
    };
    let [random_peer, random_relay] = input.ephemerals;
    let (initiator, message_1) =
        Initiator::new(peer, &relay.public(), random_peer).expect("the relay's key is a point");
    let (message_1, is_changed) = carry(0, message_1);
    let mut responder = Responder::new(relay, random_relay);
    let Ok(message_2) = responder.message_1(&message_1) else {
        assert!(is_changed, "an untouched message 1 was refused");
        return;
    };
    assert!(!is_changed, "a changed message 1 was accepted");
    if input.is_folded {
        let folded = Box::new(responder).fold().expect("message 1 was taken");
        responder = folded.unfold(relay).expect("message 1 was taken before");
    }
    let (message_2, is_changed) = carry(1, message_2);
    let Ok((message_3, ours)) = initiator.message_2(&message_2) else {
        assert!(is_changed, "an untouched message 2 was refused");
        return;
    };
    assert!(!is_changed, "a changed message 2 was accepted");
    let (message_3, is_changed) = carry(2, message_3);
    match responder.message_3(&message_3) {
        Ok(theirs) => {
            assert!(!is_changed, "a changed message 3 was accepted");
            assert_eq!(
                (theirs.key, ours.key),
                (peer.public(), relay.public()),
                "the wrong party was authenticated"
            );
            exchange(ours, theirs);
        }
        Err(error) => {
            assert!(is_changed, "an untouched message 3 was refused: {error}");
            assert_eq!(error.reason(), Reason::BadHandshake);
        }
    }
}

/// Both directions carry one object; neither side takes its own back.
fn exchange(mut ours: Established, mut theirs: Established) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    ours.sealer
        .seal(b"up", &mut up)
        .expect("two bytes are short enough to seal");
    theirs
        .sealer
        .seal(b"down", &mut down)
        .expect("four bytes are short enough to seal");
    let (up, down) = (&up[2..], &down[2..]);
    assert!(ours.opener.open(&mut up.to_vec()).is_err(), "reflected");
    assert!(theirs.opener.open(&mut down.to_vec()).is_err(), "reflected");
    assert_eq!(theirs.opener.open(&mut up.to_vec()), Ok(&b"up"[..]));
    assert_eq!(ours.opener.open(&mut down.to_vec()), Ok(&b"down"[..]));
    assert!(theirs.opener.open(&mut up.to_vec()).is_err(), "replayed");
    assert!(ours.opener.open(&mut down.to_vec()).is_err(), "replayed");
}

fn open_stream(input: &Input, [one, two]: &[Identity; 2]) {
    let [random_one, random_two] = input.ephemerals;
    let (opener, mut message_1) =
        KkInitiator::new(one, &two.public(), random_one).expect("the other's key is a point");
    let is_changed = input.which.is_multiple_of(2) && input.change.apply(&mut message_1);
    let Ok((mut message_2, taken)) = kk_respond(two, &one.public(), &message_1, random_two) else {
        assert!(is_changed, "an untouched stream handshake was refused");
        return;
    };
    assert!(!is_changed, "a changed stream handshake was answered");
    let is_changed = !input.which.is_multiple_of(2) && input.change.apply(&mut message_2);
    match opener.finish(&message_2) {
        Ok(opened) => {
            assert!(!is_changed, "a changed answer was accepted");
            assert_eq!((opened.seal, opened.open), (taken.open, taken.seal));
        }
        Err(error) => {
            assert!(is_changed, "an untouched answer was refused: {error}");
            assert_eq!(error, KkError::PeerNoise);
        }
    }
}

/// Bytes that nobody made with the keys are refused, by every value that takes a message.
fn refuse(input: &Input, [own, other]: &[Identity; 2]) {
    let (raw, [random, _]) = (&input.raw, input.ephemerals);
    assert!(Responder::new(own, random).message_1(raw).is_err());
    assert!(kk_respond(own, &other.public(), raw, random).is_err());
    let key = PublicKey::dmsg(input.key);
    match Initiator::new(own, &key, random) {
        Ok((initiator, _)) => assert!(initiator.message_2(raw).is_err()),
        Err(error) => assert_eq!(error.reason(), Reason::BadHandshake),
    }
    if let Ok((opener, _)) = KkInitiator::new(own, &key, random) {
        assert!(opener.finish(raw).is_err());
    }
}
