//! Secrets are wiped when dropped and never printed.
//!
//! That the bytes are gone cannot be seen from safe code; that each type promises it can, and so can
//! the wiping itself where it may be asked for.

use std::fmt::Debug;

use ringway_proto::dmsg;
use ringway_proto::handshake::{Initiator, Offer, RelayIdentity, Responder, Role};
use ringway_proto::key::SecretKey;
use ringway_proto::kk::{KkInitiator, RecordKeys};
use ringway_proto::peer::PeerConfig;
use ringway_proto::record::{RecordSealer, SoftAead};
use ringway_proto::sealed::{Opener, Sealer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Compiles only for types that wipe themselves.
const fn is_wiped_on_drop<T: ZeroizeOnDrop>() {}

const _: () = is_wiped_on_drop::<SecretKey>();
const _: () = is_wiped_on_drop::<dmsg::key::SecretKey>();
const _: () = is_wiped_on_drop::<RecordKeys>();
const _: () = is_wiped_on_drop::<Sealer>();
const _: () = is_wiped_on_drop::<Opener>();

/// A secret that shows in any form of text: 0xa5 is 165.
const SECRET: [u8; 32] = [0xa5; 32];

fn shows_no_secret(value: &impl Debug) {
    let text = format!("{value:?} {value:#?}").to_lowercase();
    for form in ["a5a5", "165, 165", "165,\n", "\\xa5"] {
        assert!(!text.contains(form), "{text}");
    }
}

#[test]
fn keys_are_all_zero_after_wiping() {
    let mut secret = SecretKey::from_seed(SECRET);
    secret.zeroize();
    assert_eq!(*secret.seed(), [0; 32]);
    let mut keys = RecordKeys {
        seal: SECRET,
        open: SECRET,
    };
    keys.zeroize();
    assert_eq!((keys.seal, keys.open), ([0; 32], [0; 32]));
}

#[test]
#[should_panic(expected = "165")]
fn a_secret_that_is_printed_is_found() {
    shows_no_secret(&SECRET);
}

#[test]
fn nothing_that_holds_a_secret_prints_it() {
    let secret = SecretKey::from_seed(SECRET);
    let other = SecretKey::from_seed([1; 32]);
    let relay = RelayIdentity::new(&secret);
    let offer = Offer {
        capabilities: 0,
        streams_max: 1,
        stream_window: 1,
        keepalive_s: 1,
    };
    shows_no_secret(&secret);
    shows_no_secret(&relay);
    let (_, hello) = Initiator::new(&other, &relay.public(), Role::Peer, &[], [2; 32]).unwrap();
    let mut responder = Box::new(Responder::new(&relay, offer, SECRET));
    shows_no_secret(&responder);
    responder.message_1(&hello[2..]).unwrap();
    shows_no_secret(&responder.fold().unwrap());
    let (initiator, _) = Initiator::new(&secret, &other.public(), Role::Peer, &[], SECRET).unwrap();
    shows_no_secret(&initiator.with_passphrase(&SECRET));
    shows_no_secret(
        &KkInitiator::new(&secret, &other.public(), SECRET)
            .unwrap()
            .0,
    );
    shows_no_secret(&RecordKeys {
        seal: SECRET,
        open: SECRET,
    });
    shows_no_secret(&Sealer::new(SECRET));
    shows_no_secret(&Opener::new(SECRET));
    shows_no_secret(&RecordSealer::new(SoftAead::new(&SECRET)));
    let mut config = PeerConfig::new(0);
    config.passphrase = Some(Zeroizing::new(SECRET.to_vec()));
    shows_no_secret(&config);
}

#[test]
fn nothing_of_the_dmsg_dialect_that_holds_a_secret_prints_it() {
    let secret = dmsg::key::SecretKey::from_bytes(SECRET).unwrap();
    shows_no_secret(&secret);
    let own = dmsg::handshake::Identity::new(secret);
    shows_no_secret(&own);
    let other = dmsg::key::SecretKey::from_bytes([1; 32]).unwrap();
    let other = dmsg::handshake::Identity::new(other);
    let started = dmsg::handshake::Initiator::new(&other, &own.public(), [2; 32]);
    let (_, hello) = started.unwrap();
    let mut responder = Box::new(dmsg::handshake::Responder::new(&own, SECRET));
    shows_no_secret(&responder);
    responder.message_1(&hello[2..]).unwrap();
    shows_no_secret(&responder.fold().unwrap());
    let started = dmsg::handshake::Initiator::new(&own, &other.public(), SECRET);
    shows_no_secret(&started.unwrap().0);
    let started = dmsg::kk::KkInitiator::new(&own, &other.public(), SECRET);
    shows_no_secret(&started.unwrap().0);
    shows_no_secret(&Sealer::dmsg(SECRET));
    shows_no_secret(&Opener::dmsg(SECRET));
    let sealer = dmsg::record::RecordSealer::new(SoftAead::new(&SECRET));
    shows_no_secret(&sealer);
}
