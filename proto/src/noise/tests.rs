//! Tests of the Noise set-up against published vectors.

use std::string::{String, ToString};
use std::vec::Vec;

use serde_json::Value;

use super::*;
use crate::record::{RecordAead, RecordOpener, RecordSealer, SoftAead};
use crate::sealed::{Opener, Sealer};

/// XK and KK cases of snow 0.10.0's own test vectors; the file says where they come from.
const VECTORS: &str = include_str!("../../testdata/noise-vectors.json");

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
            .unwrap()
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| (digit(pair[0]) << 4) | digit(pair[1]))
        .collect()
}

fn field(case: &Value, name: &str) -> Vec<u8> {
    case[name].as_str().map(hex).unwrap_or_default()
}

fn key(case: &Value, name: &str) -> [u8; 32] {
    field(case, name).try_into().unwrap()
}

fn side(case: &Value, side: Side) -> HandshakeState {
    let own = if side == Side::Initiator {
        "init"
    } else {
        "resp"
    };
    let name = |part: &str| [own, part].join("_");
    let remote = case
        .get(name("remote_static"))
        .map(|_| key(case, &name("remote_static")));
    let setup = Setup {
        pattern: case["protocol_name"].as_str().unwrap(),
        prologue: &field(case, &name("prologue")),
        secret: &Arc::new(Secret::new(&key(case, &name("static")))),
        remote: remote.as_ref(),
        random: key(case, &name("ephemeral")),
    };
    setup.build(side).unwrap()
}

fn cases() -> Vec<Value> {
    let document: Value = serde_json::from_str(VECTORS).unwrap();
    document["vectors"].as_array().unwrap().clone()
}

/// A case whose handshake is done.
struct Run {
    initiator: HandshakeState,
    responder: HandshakeState,
    /// Payload and ciphertext of every message.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many of them the handshake took.
    used: usize,
}

fn run(case: &Value) -> Run {
    let (mut sender, mut receiver) = (side(case, Side::Initiator), side(case, Side::Responder));
    let messages: Vec<_> = case["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (field(message, "payload"), field(message, "ciphertext")))
        .collect();
    let mut used = 0;
    while !sender.is_handshake_finished() {
        let (payload, ciphertext) = &messages[used];
        let mut written = Vec::new();
        write(&mut sender, payload, &mut written).unwrap();
        assert_eq!(&written, ciphertext);
        assert_eq!(&read(&mut receiver, ciphertext).unwrap(), payload);
        core::mem::swap(&mut sender, &mut receiver);
        used += 1;
    }
    let (initiator, responder) = if sender.is_initiator() {
        (sender, receiver)
    } else {
        (receiver, sender)
    };
    Run {
        initiator,
        responder,
        messages,
        used,
    }
}

#[test]
fn the_vectors_cover_both_patterns_twice() {
    let names: Vec<String> = cases()
        .iter()
        .map(|case| case["protocol_name"].as_str().unwrap().to_string())
        .collect();
    for pattern in [XK, KK] {
        assert_eq!(names.iter().filter(|name| *name == pattern).count(), 2);
    }
}

#[test]
fn handshakes_are_those_of_the_vectors() {
    for case in cases() {
        let Run {
            initiator,
            responder,
            ..
        } = run(&case);
        assert_eq!(
            initiator.get_handshake_hash(),
            responder.get_handshake_hash()
        );
        if case.get("handshake_hash").is_some() {
            assert_eq!(
                initiator.get_handshake_hash(),
                field(&case, "handshake_hash")
            );
        }
    }
}

#[test]
fn sealers_and_records_make_the_transport_messages_of_the_vectors() {
    for case in cases() {
        let Run {
            initiator,
            responder,
            messages,
            used,
        } = run(&case);
        let keys = split(initiator).unwrap();
        assert_eq!(*keys, *split(responder).unwrap());
        let both = [keys.0, keys.1];
        let mut sealers = both.map(Sealer::new);
        let mut openers = both.map(Opener::new);
        let mut records = both.map(|key| RecordSealer::new(SoftAead::new(&key)));
        let mut readers = both.map(|key| RecordOpener::new(SoftAead::new(&key)));
        let mut counts = [0; 2];
        for (position, (payload, ciphertext)) in messages.iter().enumerate().skip(used) {
            // The sides take turns; the first key is the initiator's.
            let from = position % 2;
            let (mut object, mut record) = (Vec::new(), Vec::new());
            sealers[from].seal(payload, &mut object).unwrap();
            assert_eq!(&object[2 + 8..], ciphertext);
            assert_eq!(openers[from].open(&mut object[2..]), Ok(&payload[..]));
            records[from].seal(payload, &mut record).unwrap();
            assert_eq!(&record[2..], ciphertext);
            readers[from].push(&record);
            assert_eq!(readers[from].next_record(), Ok(Some(&payload[..])));
            let mut in_place = ciphertext.clone();
            let aead = SoftAead::new(&both[from]);
            assert_eq!(
                aead.open_in_place(counts[from], &mut in_place),
                Ok(payload.len())
            );
            counts[from] += 1;
        }
        assert!(counts[0] + counts[1] >= 2);
    }
}

#[test]
fn randomness_is_drawn_once_and_in_full() {
    let mut random = OneDraw(Some(Zeroizing::new([3; 32])));
    let mut drawn = [0; 32];
    assert_eq!(random.try_fill_bytes(&mut drawn), Ok(()));
    assert_eq!(drawn, [3; 32]);
    assert_eq!(random.try_fill_bytes(&mut drawn), Err(snow::Error::Rng));
    let mut random = OneDraw(Some(Zeroizing::new([3; 32])));
    assert_eq!(random.try_fill_bytes(&mut [0; 31]), Err(snow::Error::Rng));
    let resolver = HandedIn {
        random: Cell::new(Some(Zeroizing::new([3; 32]))),
        secret: Arc::new(Secret::new(&[4; 32])),
    };
    assert_eq!(
        resolver.resolve_rng().unwrap().try_fill_bytes(&mut drawn),
        Ok(())
    );
    let again = resolver.resolve_rng().unwrap().try_fill_bytes(&mut drawn);
    assert_eq!(again, Err(snow::Error::Rng));
}

#[test]
fn points_of_small_order_give_no_shared_secret() {
    // RFC 7748 section 6.1; the list is that of curve25519-dalek's tests: orders 1, 2, 4 and 8.
    let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let mut one = [0; 32];
    one[0] = 1;
    let mut dh = X25519::new(&Arc::new(Secret::new(&[4; 32])));
    dh.set(&[9; 32]);
    for point in [[0; 32], one, hex(order_8).try_into().unwrap()] {
        let mut out = [0; 56];
        assert_eq!(dh.dh(&point, &mut out), Err(snow::Error::Dh));
    }
}

#[test]
fn a_handshake_that_is_not_finished_has_no_keys() {
    let case = &cases()[0];
    assert_eq!(split(side(case, Side::Initiator)), Err(NoiseFault::Bug));
}
