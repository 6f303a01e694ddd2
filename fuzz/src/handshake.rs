//! Session handshakes with one message damaged or replaced: the handshake ends with a reason, and an
//! untouched one ends with the right key on both sides.
//!
//! Here: also that the keys of an untouched handshake fit each other and only in their own direction, and
//! that a passphrase is proven exactly by who knows it. Not here: the objects under those keys (`sealed`).
//!
//! Invariant: no changed handshake is accepted, no untouched one refused.

use arbitrary::Arbitrary;
use ringway_proto::handshake::{
    Established, Initiator, InitiatorEstablished, Offer, RelayIdentity, Responder, Role,
    message_len,
};
use ringway_proto::key::SecretKey;
use ringway_proto::reason::Reason;
use ringway_proto::verdict::Verdict;

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    peer: [u8; 32],
    relay: [u8; 32],
    ephemerals: [[u8; 32]; 2],
    which: u8,
    change: Change,
    passphrases: [u8; 2],
}

/// What happens to a message on its way.
#[derive(Arbitrary, Debug)]
pub(crate) enum Change {
    Bit { at: u16, xor: u8 },
    Cut { bytes: u16 },
    Whole { message: Vec<u8> },
    Nothing,
}

impl Change {
    /// Changes a message without its length prefix; returns whether it is another one now.
    pub(crate) fn apply(&self, message: &mut Vec<u8>) -> bool {
        let before = message.clone();
        match self {
            Self::Bit { at, xor } => {
                if !message.is_empty() {
                    let at = usize::from(*at) % message.len();
                    message[at] ^= xor;
                }
            }
            Self::Cut { bytes } => {
                message.truncate(message.len() - usize::from(*bytes) % (message.len() + 1));
            }
            Self::Whole { message: other } => message.clone_from(other),
            Self::Nothing => {}
        }
        *message != before
    }
}

/// Takes one handshake, as a structured input.
///
/// # Panics
///
/// When a changed handshake is accepted, an untouched one refused, or the keys do not fit.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        shake_hands(&input);
    }
}

fn shake_hands(input: &Input) {
    let peer = SecretKey::from_seed(input.peer);
    let secret = SecretKey::from_seed(input.relay);
    let relay = RelayIdentity::new(&secret);
    let offer = Offer {
        capabilities: 0,
        streams_max: 2_048,
        stream_window: 262_144,
        keepalive_s: 30,
    };
    let [random_peer, random_relay] = input.ephemerals;
    let which = input.which % 3;

    // The top bit of an X25519 key is ignored by both sides, so flipping it is not always noticed at
    // once; the handshake hash covers the bytes as sent, so it is noticed by message 3 at the latest.
    let mut is_changed = false;
    let (mut initiator, message_1) =
        Initiator::new(&peer, &relay.public(), Role::Peer, &[], random_peer)
            .expect("the relay's key is a point");
    let [proven, asked] = input.passphrases.map(|byte| [byte % 3]);
    if proven != [0] {
        initiator = initiator.with_passphrase(&proven);
    }
    let mut message_1 = without_prefix(message_1);
    if which == 0 {
        is_changed |= input.change.apply(&mut message_1);
    }
    let mut responder = Responder::new(&relay, offer, random_relay);
    let Ok(message_2) = responder.message_1(&message_1) else {
        assert!(is_changed, "an untouched message 1 was refused");
        return;
    };
    let mut message_2 = without_prefix(message_2);
    if which == 1 {
        is_changed |= input.change.apply(&mut message_2);
    }
    let Ok((message_3, ours)) = initiator.message_2(&message_2) else {
        assert!(is_changed, "an untouched message 2 was refused");
        return;
    };
    assert_eq!(ours.offer, offer);
    let mut message_3 = without_prefix(message_3);
    if which == 2 {
        is_changed |= input.change.apply(&mut message_3);
    }
    match responder.message_3(&message_3) {
        Ok(theirs) => {
            assert!(!is_changed, "a changed handshake was accepted");
            assert_eq!(theirs.key, peer.public());
            assert_eq!(theirs.role, Role::Peer);
            assert_eq!(
                theirs.knows_passphrase(&asked),
                proven == asked && proven != [0]
            );
            exchange(ours, theirs);
        }
        Err(error) => {
            assert!(is_changed, "an untouched message 3 was refused: {error}");
            assert_ne!(error.reason(), Reason::Accepted);
            assert!(error.reason().code() >= 200, "{error}");
        }
    }
}

/// Both directions carry one object; neither side takes its own back.
fn exchange(mut ours: InitiatorEstablished, mut theirs: Established) {
    let mut down = Vec::new();
    theirs
        .sealer
        .seal(&Verdict::ACCEPTED.encode(), &mut down)
        .expect("a verdict is short enough to seal");
    let mut up = Vec::new();
    ours.sealer
        .seal(b"up", &mut up)
        .expect("two bytes are short enough to seal");
    let (down, up) = (&down[2..], &up[2..]);
    assert!(ours.opener.open(&mut up.to_vec()).is_err(), "reflected");
    assert!(theirs.opener.open(&mut down.to_vec()).is_err(), "reflected");
    assert_eq!(theirs.opener.open(&mut up.to_vec()), Ok(&b"up"[..]));
    assert_eq!(
        ours.opener.open(&mut down.to_vec()),
        Ok(&Verdict::ACCEPTED.encode()[..])
    );
    assert!(theirs.opener.open(&mut up.to_vec()).is_err(), "replayed");
    assert!(ours.opener.open(&mut down.to_vec()).is_err(), "replayed");
}

fn without_prefix(mut message: Vec<u8>) -> Vec<u8> {
    assert_eq!(message_len(&message), Ok(Some(message.len())));
    message.split_off(2)
}
