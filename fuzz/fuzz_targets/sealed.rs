#![no_main]
//! Sealed objects delivered in any order, again, or damaged: an object opens exactly when it is whole,
//! new and inside the window. The model is a set of the nonces that opened.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_proto::limits::{NONCE_WINDOW_BITS, SEALED_PLAIN_MAX};
use ringway_proto::sealed::{Opener, Sealer, object_len};

#[derive(Arbitrary, Debug)]
struct Input {
    key: [u8; 32],
    objects: u16,
    plain_bytes: u16,
    deliveries: Vec<Delivery>,
    raw: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Delivery {
    Damaged { object: u16, at: u16, xor: u8 },
    Truncated { object: u16, bytes: u16 },
    Whole { object: u16 },
}

fuzz_target!(|input: Input| {
    let mut sealer = Sealer::new(input.key);
    let mut opener = Opener::new(input.key);
    let plain = vec![0x5a; usize::from(input.plain_bytes) % (SEALED_PLAIN_MAX + 1)];
    let objects: Vec<Vec<u8>> = (0..input.objects % 2_500)
        .map(|_| {
            let mut out = Vec::new();
            sealer
                .seal(&plain, &mut out)
                .expect("a plain object within its bound seals");
            assert_eq!(object_len(&out), Ok(Some(out.len())));
            out.drain(..2);
            out
        })
        .collect();

    let mut opened = BTreeSet::new();
    for delivery in input.deliveries.iter().take(4_000) {
        let (Delivery::Damaged { object, .. }
        | Delivery::Truncated { object, .. }
        | Delivery::Whole { object }) = delivery;
        if objects.is_empty() {
            break;
        }
        let index = usize::from(*object) % objects.len();
        let mut bytes = objects[index].clone();
        let is_whole = match delivery {
            Delivery::Damaged { at, xor, .. } => {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= xor;
                *xor == 0
            }
            Delivery::Truncated { bytes: cut, .. } => {
                let cut = usize::from(*cut) % (bytes.len() + 1);
                bytes.truncate(bytes.len() - cut);
                cut == 0
            }
            Delivery::Whole { .. } => true,
        };
        let nonce = index as u64;
        let newest = opened.last().map_or(0, |last: &u64| last + 1);
        let is_wanted = is_whole && !opened.contains(&nonce) && nonce + NONCE_WINDOW_BITS >= newest;
        match opener.open(&mut bytes) {
            Ok(got) => {
                assert!(is_wanted, "object {index} opened and should not");
                assert_eq!(got, plain);
                opened.insert(nonce);
            }
            Err(_) => assert!(!is_wanted, "object {index} did not open"),
        }
    }

    let mut raw = input.raw;
    assert!(
        opener.open(&mut raw).is_err(),
        "bytes without the key opened"
    );
});
