#![no_main]
//! Session handshakes with one message damaged or replaced: the handshake ends with a reason, and an
//! untouched one ends with the right key on both sides.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_proto::handshake::{Initiator, Offer, RelayIdentity, Responder, Role, message_len};
use ringway_proto::key::SecretKey;

#[derive(Arbitrary, Debug)]
struct Input {
    peer: [u8; 32],
    relay: [u8; 32],
    ephemerals: [[u8; 32]; 2],
    which: u8,
    change: Change,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Bit { at: u16, xor: u8 },
    Cut { bytes: u16 },
    Whole { message: Vec<u8> },
    Nothing,
}

impl Change {
    /// Changes a message without its length prefix; returns whether it is another one now.
    fn apply(&self, message: &mut Vec<u8>) -> bool {
        let before = message.clone();
        match self {
            Self::Bit { at, xor } => {
                let at = usize::from(*at) % message.len();
                message[at] ^= xor;
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

fuzz_target!(|input: Input| {
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

    // The top bit of an X25519 key is ignored by both sides, so flipping it is not always noticed at
    // once; the handshake hash covers the bytes as sent, so it is noticed by message 3 at the latest.
    let mut is_changed = false;
    let Ok((initiator, message_1)) =
        Initiator::new(&peer, &relay.public(), Role::Peer, &[], random_peer)
    else {
        return;
    };
    let mut message_1 = without_prefix(message_1);
    if input.which % 3 == 0 {
        is_changed |= input.change.apply(&mut message_1);
    }
    let mut responder = Responder::new(&relay, offer, random_relay);
    let Ok(message_2) = responder.message_1(&message_1) else {
        assert!(is_changed, "an untouched message 1 was refused");
        return;
    };
    let mut message_2 = without_prefix(message_2);
    if input.which % 3 == 1 {
        is_changed |= input.change.apply(&mut message_2);
    }
    let Ok((message_3, established)) = initiator.message_2(&message_2) else {
        assert!(is_changed, "an untouched message 2 was refused");
        return;
    };
    assert_eq!(established.offer, offer);
    let mut message_3 = without_prefix(message_3);
    if input.which % 3 == 2 {
        is_changed |= input.change.apply(&mut message_3);
    }
    match responder.message_3(&message_3) {
        Ok(established) => {
            assert!(!is_changed, "a changed handshake was accepted");
            assert_eq!(established.key, peer.public());
        }
        Err(error) => {
            assert!(is_changed, "an untouched message 3 was refused: {error}");
            assert!(error.reason().code() >= 200);
        }
    }
});

fn without_prefix(mut message: Vec<u8>) -> Vec<u8> {
    assert_eq!(message_len(&message), Ok(Some(message.len())));
    message.split_off(2)
}
