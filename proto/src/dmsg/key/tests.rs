//! Tests of keys and signatures of the dmsg dialect.

use std::format;
use std::string::ToString;

use proptest::prelude::*;
use secp256k1::constants::CURVE_ORDER;

use super::*;
use crate::reason::Reason;

/// Public keys of the secrets 1, 2 and 3. Source: SEC 2 section 2.4.1 for the first, the generator.
const KEYS: [&str; 3] = [
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
    "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
];

fn secret(number: u8) -> SecretKey {
    let mut bytes = [0; SECRET_LEN];
    bytes[SECRET_LEN - 1] = number;
    SecretKey::from_bytes(bytes).unwrap()
}

/// Returns `minuend - subtrahend`, both big-endian, when that is not negative.
fn subtract(minuend: &[u8; 32], subtrahend: &[u8; 32]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrows = false;
    for at in (0..32).rev() {
        let (once, first) = minuend[at].overflowing_sub(subtrahend[at]);
        let (twice, second) = once.overflowing_sub(u8::from(borrows));
        difference[at] = twice;
        borrows = first || second;
    }
    assert!(!borrows);
    difference
}

#[test]
fn public_keys_are_those_of_the_curve() {
    for (number, text) in (1..).zip(KEYS) {
        assert_eq!(secret(number).public().to_string(), text);
        assert_eq!(parse(text), Ok(secret(number).public()));
    }
}

#[test]
fn signatures_are_those_of_rfc_6979() {
    // Published with several libraries: secret 1, SHA-256 of the text.
    let signature = secret(1).sign(b"Satoshi Nakamoto");
    let text = signature.to_string();
    assert_eq!(
        &text[..128],
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
         2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    );
    assert!(["00", "01"].contains(&&text[128..]));
    assert_eq!(
        verify(&secret(1).public(), b"Satoshi Nakamoto", &signature),
        Ok(())
    );
}

#[test]
fn secrets_outside_the_order_are_refused() {
    let below = {
        let mut bytes = CURVE_ORDER;
        bytes[31] -= 1;
        bytes
    };
    assert!(SecretKey::from_bytes(below).is_ok());
    for bytes in [[0; 32], CURVE_ORDER, [0xff; 32]] {
        let refused = SecretKey::from_bytes(bytes).unwrap_err();
        assert_eq!(refused, KeyError::LocalSecret);
        assert_eq!(refused.reason(), Reason::BadHandshake);
    }
}

#[test]
fn the_higher_s_is_refused() {
    let good = secret(2).sign(b"text");
    let mut bytes = *good.as_bytes();
    let s: [u8; 32] = bytes[S_AT..RECOVERY_AT].try_into().unwrap();
    bytes[S_AT..RECOVERY_AT].copy_from_slice(&subtract(&CURVE_ORDER, &s));
    bytes[RECOVERY_AT] ^= 1;
    // The same signature to whoever does not look at the order of the two.
    let recovery = RecoveryId::from_u8_masked(bytes[RECOVERY_AT]);
    let high = RecoverableSignature::from_compact(&bytes[..RECOVERY_AT], recovery).unwrap();
    let by = high.recover(Message::from_digest(hash(b"text"))).unwrap();
    assert_eq!(PublicKey::dmsg(by.serialize()), secret(2).public());
    let refused = verify(&secret(2).public(), b"text", &Signature::from_bytes(bytes));
    assert_eq!(refused, Err(KeyError::PeerSignature));
}

#[test]
fn signatures_of_others_over_other_texts_and_with_other_numbers_are_refused() {
    let (key, good) = (secret(1).public(), secret(1).sign(b"text"));
    assert_eq!(verify(&key, b"text", &good), Ok(()));
    assert_eq!(verify(&key, b"Text", &good), Err(KeyError::PeerSignature));
    assert_eq!(
        verify(&secret(2).public(), b"text", &good),
        Err(KeyError::PeerSignature)
    );
    for recovery in 0..=u8::MAX {
        let mut bytes = *good.as_bytes();
        let is_same = bytes[RECOVERY_AT] == recovery;
        bytes[RECOVERY_AT] = recovery;
        let verified = verify(&key, b"text", &Signature::from_bytes(bytes));
        assert_eq!(verified.is_ok(), is_same, "{recovery}");
    }
    assert_eq!(KeyError::PeerSignature.reason(), Reason::BadSignature);
}

#[test]
fn scalars_outside_the_order_are_no_signature() {
    let key = secret(1).public();
    let good = *secret(1).sign(b"text").as_bytes();
    for (at, scalar) in [
        (0, [0; 32]),
        (0, CURVE_ORDER),
        (0, [0xff; 32]),
        (S_AT, [0; 32]),
    ] {
        let mut bytes = good;
        bytes[at..at + 32].copy_from_slice(&scalar);
        let refused = verify(&key, b"text", &Signature::from_bytes(bytes));
        assert_eq!(refused, Err(KeyError::PeerSignature));
    }
}

#[test]
fn keys_that_are_no_points_are_refused() {
    let signature = secret(1).sign(b"text");
    // 5^3 + 7 is no square; the other one is not below the prime of the field.
    let mut off_the_curve = [0; 33];
    (off_the_curve[0], off_the_curve[32]) = (2, 5);
    let mut too_high = [0xff; 33];
    too_high[0] = 3;
    let mut uncompressed = [4; 33];
    uncompressed[1..].copy_from_slice(&secret(1).public().as_bytes()[1..]);
    for key in [[0; 33], off_the_curve, too_high, uncompressed] {
        let key = PublicKey::dmsg(key);
        assert_eq!(check(&key), Err(KeyError::PeerNotAPoint), "{key}");
        assert_eq!(
            verify(&key, b"text", &signature),
            Err(KeyError::PeerNotAPoint)
        );
        assert_eq!(parse(&key.to_string()), Err(KeyError::PeerNotAPoint));
    }
    let native = PublicKey::native([1; 32]);
    assert_eq!(check(&native), Err(KeyError::LocalDialect));
    assert_eq!(
        verify(&native, b"text", &signature),
        Err(KeyError::LocalDialect)
    );
}

#[test]
fn a_key_and_a_signature_have_one_text() {
    for text in [&KEYS[0][1..], &KEYS[0][2..], "", &format!("{}00", KEYS[0])] {
        assert_eq!(parse(text), Err(KeyError::TextLengthDmsg));
    }
    assert_eq!(parse(&KEYS[0].to_uppercase()), Err(KeyError::TextDigit));
    assert_eq!(parse(&KEYS[0].replace('b', "g")), Err(KeyError::TextDigit));
    let signature = secret(3).sign(b"");
    let text = signature.to_string();
    assert_eq!(text.parse(), Ok(signature));
    assert_eq!(format!("{signature:?}"), text);
    let json = serde_json::to_string(&signature).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
    assert!(serde_json::from_str::<Signature>("\"00\"").is_err());
    let upper = text.to_uppercase().parse::<Signature>();
    assert_eq!(upper, Err(KeyError::TextDigit));
    assert_eq!(
        text[2..].parse::<Signature>(),
        Err(KeyError::TextLengthSignature)
    );
}

#[test]
fn secrets_are_not_printed_and_can_be_stored() {
    assert_eq!(format!("{:?}", secret(1)), "SecretKey(..)");
    let again = SecretKey::from_bytes(*secret(7).bytes()).unwrap();
    assert_eq!(again.public(), secret(7).public());
}

proptest! {
    // Each case costs several scalar multiplications.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_verifies_and_nothing_else(
        bytes in any::<[u8; 32]>(),
        message in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..SIGNATURE_LEN,
        bits in 1_u8..,
    ) {
        let secret = SecretKey::from_bytes(bytes);
        prop_assume!(secret.is_ok());
        let (secret, key) = secret.map(|it| (it.clone(), it.public())).unwrap();
        let signature = secret.sign(&message);
        prop_assert_eq!(signature, secret.sign(&message));
        prop_assert_eq!(verify(&key, &message, &signature), Ok(()));
        let mut harmed = *signature.as_bytes();
        prop_assert!(harmed[S_AT] < 0x80 && harmed[RECOVERY_AT] < 4);
        harmed[at] ^= bits;
        let harmed = Signature::from_bytes(harmed);
        prop_assert_eq!(verify(&key, &message, &harmed), Err(KeyError::PeerSignature));
        prop_assert_eq!(parse(&key.to_string()), Ok(key));
    }

    #[test]
    fn any_bytes_are_nobodys_signature(bytes in proptest::collection::vec(any::<u8>(), 65..=65)) {
        let bytes: [u8; SIGNATURE_LEN] = bytes.try_into().unwrap();
        let refused = verify(&secret(1).public(), b"text", &Signature::from_bytes(bytes));
        prop_assert_eq!(refused, Err(KeyError::PeerSignature));
    }
}
