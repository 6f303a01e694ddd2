//! Records of a stream, in pieces of any size, damaged or cut short: what comes out is a prefix of what
//! went in, and an end inside a record is told from an end between two.
//!
//! Here: also that the opener holds at most one record more than the piece it was given. Not here: the
//! keys (`handshake`), the stream below (`peer_session`).
//!
//! Invariant: no byte that was not sealed comes out, nothing comes out twice.

use arbitrary::Arbitrary;
use ringway_proto::limits::{RECORD_MAX, RECORD_PAYLOAD_MAX, RECORD_PREFIX};
use ringway_proto::record::{RecordOpener, RecordSealer, SoftAead, record_bytes};

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    key: [u8; 32],
    payloads: Vec<u16>,
    pieces: Vec<u16>,
    damage: Option<(u32, u8)>,
    cut: u32,
}

/// Takes one stream of records, as a structured input.
///
/// # Panics
///
/// When something comes out that did not go in, or an untouched record does not open.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        carry(&input);
    }
}

fn carry(input: &Input) {
    let mut sealer = RecordSealer::new(SoftAead::new(&input.key));
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

    let has_opened = open_pieces(input, &stream, &payloads, is_damaged);
    if let Some(opener) = has_opened {
        assert_eq!(opener.finish().is_ok(), ends.contains(&stream.len()));
    }
}

/// Opens the stream in the pieces of the input; returns the opener when nothing was damaged.
fn open_pieces(
    input: &Input,
    stream: &[u8],
    payloads: &[Vec<u8>],
    is_damaged: bool,
) -> Option<RecordOpener<SoftAead>> {
    let mut opener = RecordOpener::new(SoftAead::new(&input.key));
    let mut expected = payloads.iter();
    let mut pieces = input.pieces.iter().cycle();
    let mut rest = stream;
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
                    return None;
                }
            }
        }
        assert!(
            opener.buffered() < RECORD_PREFIX + RECORD_MAX,
            "a whole record is held back"
        );
    }
    (!is_damaged).then_some(opener)
}
