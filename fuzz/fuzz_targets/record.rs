#![no_main]
//! Records of a stream, in pieces of any size, damaged or cut short: what comes out is a prefix of what
//! went in, and an end inside a record is told from an end between two.

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_proto::limits::RECORD_PAYLOAD_MAX;
use ringway_proto::record::{RecordOpener, RecordSealer, SoftAead, record_bytes};

#[derive(Arbitrary, Debug)]
struct Input {
    key: [u8; 32],
    payloads: Vec<u16>,
    pieces: Vec<u16>,
    damage: Option<(u32, u8)>,
    cut: u32,
}

fuzz_target!(|input: Input| {
    let mut sealer = RecordSealer::new(SoftAead::new(&input.key));
    let mut opener = RecordOpener::new(SoftAead::new(&input.key));
    let payloads: Vec<Vec<u8>> = input
        .payloads
        .iter()
        .take(16)
        .zip(0_u8..)
        .map(|(bytes, fill)| vec![fill; usize::from(*bytes).min(RECORD_PAYLOAD_MAX)])
        .collect();
    let mut stream = Vec::new();
    let mut ends = vec![0];
    for payload in &payloads {
        sealer
            .seal(payload, &mut stream)
            .expect("a payload within its bound seals");
        ends.push(ends[ends.len() - 1] + record_bytes(payload.len()));
        assert_eq!(stream.len(), ends[ends.len() - 1]);
    }
    let mut is_damaged = false;
    if let Some((at, xor)) = input.damage
        && !stream.is_empty()
    {
        let at = at as usize % stream.len();
        stream[at] ^= xor;
        is_damaged = xor != 0;
    }
    stream.truncate(stream.len() - input.cut as usize % (stream.len() + 1));

    let mut expected = payloads.iter();
    let mut pieces = input.pieces.iter().cycle();
    let mut rest = stream.as_slice();
    while !rest.is_empty() {
        let bytes = pieces
            .next()
            .map_or(rest.len(), |piece| usize::from(*piece).max(1));
        let (piece, behind) = rest.split_at(bytes.min(rest.len()));
        rest = behind;
        opener.push(piece);
        loop {
            match opener.next_record() {
                Ok(Some(plain)) => {
                    assert_eq!(Some(plain), expected.next().map(Vec::as_slice));
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(is_damaged, "an untouched record did not open");
                    return;
                }
            }
        }
    }
    if !is_damaged {
        assert_eq!(opener.finish().is_ok(), ends.contains(&stream.len()));
    }
});
