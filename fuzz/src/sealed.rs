//! Sealed objects delivered in any order, again, or damaged: an object opens exactly when it is whole,
//! new and inside the window.
//!
//! Here: the model, a set of the nonces that opened. Not here: the window by itself
//! (`proto/tests/model_nonce.rs`), what the objects say (`open_objects`).
//!
//! Invariant: only what opened is marked, so a damaged copy never uses up the place of the whole one.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use ringway_proto::limits::{NONCE_WINDOW_BITS, SEALED_PLAIN_MAX};
use ringway_proto::sealed::{Opener, Sealer, object_len};

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    plain: u8,
    deliveries: Vec<Delivery>,
    raw: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Delivery {
    Damaged { object: u16, at: u16, xor: u8 },
    Truncated { object: u16, bytes: u16 },
    Whole { object: u16 },
}

/// Takes deliveries of sealed objects, as a structured input.
///
/// # Panics
///
/// When an object opens that should not, or does not open and should.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        deliver(input);
    }
}

fn deliver(input: Input) {
    let table = &objects()[usize::from(input.plain) % PLAIN_BYTES.len()];
    let (plain, objects) = (&table.plain, &table.objects);
    let mut opener = Opener::new(KEY);

    let mut opened = BTreeSet::new();
    for delivery in input.deliveries.iter().take(4_000) {
        let (Delivery::Damaged { object, .. }
        | Delivery::Truncated { object, .. }
        | Delivery::Whole { object }) = delivery;
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
                assert_eq!(got, plain.as_slice());
                opened.insert(nonce);
            }
            Err(_) => assert!(!is_wanted, "object {index} did not open"),
        }
    }

    // Chance does not make a tag.
    let mut raw = input.raw;
    assert!(
        opener.open(&mut raw).is_err(),
        "bytes without the key opened"
    );
}

/// Objects under one key, in the order of their nonces.
struct Table {
    plain: Vec<u8>,
    objects: Vec<Vec<u8>>,
}

/// Returns the tables, one for each of [`PLAIN_BYTES`]. They are constants, made once: to seal them for
/// each input would leave 8 inputs a second.
fn objects() -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut tables = Vec::new();
        for bytes in PLAIN_BYTES {
            let plain = vec![0x5a; bytes];
            let mut sealer = Sealer::new(KEY);
            let objects = (0..OBJECTS).map(|_| {
                let mut out = Vec::new();
                sealer
                    .seal(&plain, &mut out)
                    .expect("a plain object within its bound seals");
                assert_eq!(object_len(&out), Ok(Some(out.len())));
                out.split_off(2)
            });
            let objects = objects.collect();
            tables.push(Table { plain, objects });
        }
        tables
    })
}

const KEY: [u8; 32] = [0x4b; 32];

/// Bytes of plain text: none, an open request without Noise, the most.
const PLAIN_BYTES: [usize; 3] = [0, 150, SEALED_PLAIN_MAX];

/// Objects of a table: more than two windows.
const OBJECTS: usize = 2_500;
