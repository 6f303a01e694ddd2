//! Tests of the Noise set-up against the vectors of the Go implementation.

use std::vec::Vec;

use super::*;
use crate::noise::{read, split, write};

const VECTORS: &str = include_str!("../../../testdata/dmsg.txt");

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        let digit = char::from(byte).to_digit(16);
        digit.and_then(|it| u8::try_from(it).ok()).unwrap()
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| (digit(pair[0]) << 4) | digit(pair[1]))
        .collect()
}

/// Returns the last word of the first line that starts so, behind the head of a section.
fn last_word(section: &str, start: &str) -> Vec<u8> {
    let (_, within) = VECTORS.split_once(section).unwrap();
    let line = within.lines().find(|line| line.starts_with(start)).unwrap();
    hex(line.split_whitespace().last().unwrap())
}

fn secret(name: &str) -> [u8; SECRET_LEN] {
    let line = VECTORS.lines().find(|line| line.starts_with(name)).unwrap();
    hex(line.split_whitespace().nth(2).unwrap())
        .try_into()
        .unwrap()
}

fn ready(name: &str) -> Arc<Secret> {
    Arc::new(Secret::new(SecretKey::from_bytes(secret(name)).unwrap()))
}

fn sides(pattern: Pattern) -> [HandshakeState; 2] {
    let names = ["initiator", "responder"];
    let statics = names.map(|name| ready(&[name, "-static"].concat()));
    let publics = [statics[1].public(), statics[0].public()];
    let knows = [true, pattern == Pattern::Kk];
    [Side::Initiator, Side::Responder].map(|side| {
        let at = usize::from(side == Side::Responder);
        let setup = Setup {
            pattern,
            secret: &statics[at],
            remote: knows[at].then_some(&publics[at]),
            random: secret(&[names[at], "-ephemeral"].concat()),
        };
        setup.build(side).unwrap()
    })
}

#[test]
fn handshakes_are_those_of_the_vectors() {
    for (pattern, count) in [(Pattern::Xk, 3), (Pattern::Kk, 2)] {
        let (section, _) = pattern.names();
        let [mut sender, mut receiver] = sides(pattern);
        for number in 1..=count {
            let expected = last_word(section, &std::format!("msg{number} "));
            let mut message = Vec::new();
            write(&mut sender, &[], &mut message).unwrap();
            assert_eq!(message, expected, "{section} message {number}");
            assert_eq!(read(&mut receiver, &expected), Ok(Vec::new()));
            core::mem::swap(&mut sender, &mut receiver);
        }
        let hash = last_word(section, "handshake_hash");
        assert_eq!(sender.get_handshake_hash(), hash);
        assert_eq!(receiver.get_handshake_hash(), hash);
        assert_eq!(*split(sender).unwrap(), *split(receiver).unwrap());
    }
}

#[test]
fn shared_secret_is_the_hash_of_the_point_and_a_zero() {
    let expected = last_word("", "DH(");
    let (one, other) = (ready("initiator-static"), ready("responder-static"));
    for shared in [one.agree(other.public), other.agree(one.public)] {
        assert_eq!(shared.unwrap().as_slice(), expected);
    }
    assert_eq!(expected[SHARED_LEN], 0);
}

#[test]
fn what_is_no_point_shares_nothing() {
    let secret = ready("initiator-static");
    let mut off_the_curve = [0; KEY_LEN];
    (off_the_curve[0], off_the_curve[32]) = (3, 5);
    let mut uncompressed = secret.public;
    uncompressed[0] = 4;
    for point in [[0; KEY_LEN], [0xff; KEY_LEN], off_the_curve, uncompressed] {
        assert!(secret.agree(point).is_none());
        let mut dh = Secp256k1 {
            known: Arc::clone(&secret),
            secret: None,
        };
        dh.set(secret.key.bytes());
        let mut out = [7; 56];
        assert_eq!(dh.dh(&point, &mut out), Err(snow::Error::Dh));
        assert_eq!(out, [7; 56]);
    }
}

#[test]
fn ephemeral_secrets_are_the_random_bytes_unless_those_are_none() {
    let random = secret("initiator-ephemeral");
    assert_eq!(Secret::ephemeral(&random).key.bytes(), &random);
    for none in [[0; SECRET_LEN], [0xff; SECRET_LEN]] {
        let key = Secret::ephemeral(&none).key;
        assert_eq!(key.bytes(), &hash(&none));
    }
}

#[test]
fn a_secret_that_was_not_handed_in_is_not_taken() {
    let known = ready("initiator-static");
    let mut dh = Secp256k1 {
        known,
        secret: None,
    };
    dh.set(&secret("responder-static"));
    assert_eq!((dh.pubkey(), dh.privkey()), (&[0; 33][..], &[0; 32][..]));
    let mut out = [0; 56];
    let point = ready("responder-static").public;
    assert_eq!(dh.dh(&point, &mut out), Err(snow::Error::Dh));
}
