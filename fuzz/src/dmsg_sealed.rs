//! Objects and records of the dmsg dialect, delivered in any order, again, damaged, cut, or in pieces: an
//! object opens exactly when it is whole, new and inside the window, a record when it is whole and higher
//! than all before.
//!
//! Here: also what a stream begins with. Not here: the keys (`dmsg_handshake`), what the objects say.
//!
//! Invariant: no byte that was not sealed comes out, nothing comes out twice.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use ringway_proto::dmsg::record::{RecordOpener, RecordSealer, SoftAead, record_bytes, record_len};
use ringway_proto::limits::{DMSG_OBJECT_MAX, DMSG_PAYLOAD_MAX, DMSG_PLAIN_MAX, NONCE_WINDOW_BITS};
use ringway_proto::sealed::{DmsgHead, Opener, Sealer, dmsg_head};

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    plain: u8,
    deliveries: Vec<Delivery>,
    payloads: Vec<u16>,
    pieces: Vec<u16>,
    damage: Option<(u32, u8)>,
    cut: u32,
    raw: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Delivery {
    Damaged { object: u16, at: u16, xor: u8 },
    Truncated { object: u16, bytes: u16 },
    Whole { object: u16 },
}

impl Delivery {
    /// Returns what arrives, whose number of the table it was, and whether it is whole.
    fn of(&self, table: &[Vec<u8>]) -> (Vec<u8>, usize, bool) {
        let (Self::Damaged { object, .. }
        | Self::Truncated { object, .. }
        | Self::Whole { object }) = self;
        let index = usize::from(*object) % table.len();
        let mut bytes = table[index].clone();
        let is_whole = match self {
            Self::Damaged { at, xor, .. } => {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= xor;
                *xor == 0
            }
            Self::Truncated { bytes: cut, .. } => {
                let cut = usize::from(*cut) % (bytes.len() + 1);
                bytes.truncate(bytes.len() - cut);
                cut == 0
            }
            Self::Whole { .. } => true,
        };
        (bytes, index, is_whole)
    }
}

/// Takes deliveries of objects and records and a stream of records, as a structured input.
///
/// # Panics
///
/// When something opens that should not, or does not open and should.
pub fn run(bytes: &[u8]) {
    if let Some(input) = structured::<Input>(bytes) {
        let table = &tables()[usize::from(input.plain) % PLAIN_BYTES.len()];
        deliver_objects(&input, table);
        deliver_records(&input, table);
        carry(&input);
        begin(&input.raw);
    }
}

fn deliver_objects(input: &Input, table: &Table) {
    let mut opener = Opener::dmsg(KEY);
    // Nonce 0 counts as seen.
    let mut opened = BTreeSet::from([0_u64]);
    for delivery in input.deliveries.iter().take(4_000) {
        let (mut bytes, index, is_whole) = delivery.of(&table.objects);
        let nonce = index as u64 + 1;
        let newest = opened.last().map_or(0, |last| last + 1);
        let is_wanted = is_whole && !opened.contains(&nonce) && nonce + NONCE_WINDOW_BITS >= newest;
        match opener.open(&mut bytes) {
            Ok(got) => {
                assert!(is_wanted, "object {nonce} opened and should not");
                assert_eq!(got, table.plain);
                opened.insert(nonce);
            }
            Err(_) => assert!(!is_wanted, "object {nonce} did not open"),
        }
    }
    // Chance does not make a tag.
    assert!(opener.open(&mut input.raw.clone()).is_err());
}

fn deliver_records(input: &Input, table: &Table) {
    let mut opener = RecordOpener::new(SoftAead::new(&KEY));
    let mut last = 0;
    for delivery in input.deliveries.iter().take(4_000) {
        let (mut bytes, index, is_whole) = delivery.of(&table.records);
        let nonce = index as u64 + 1;
        let is_wanted = is_whole && nonce > last;
        match opener.open(&mut bytes) {
            Ok(got) => {
                assert!(is_wanted, "record {nonce} opened and should not");
                assert_eq!(got, table.plain);
                last = nonce;
            }
            Err(_) => assert!(!is_wanted, "record {nonce} did not open"),
        }
    }
    assert!(opener.open(&mut input.raw.clone()).is_err());
}

/// Carries records in pieces; what comes out is a prefix of what went in.
fn carry(input: &Input) {
    let mut sealer = RecordSealer::new(SoftAead::new(&KEY));
    let payloads: Vec<Vec<u8>> = input
        .payloads
        .iter()
        .take(16)
        .zip(0_u8..)
        .map(|(bytes, fill)| vec![fill; usize::from(*bytes) % (DMSG_PAYLOAD_MAX + 1)])
        .collect();
    let (mut stream, mut ends) = (Vec::new(), vec![0]);
    for payload in &payloads {
        sealer
            .seal(payload, &mut stream)
            .expect("a payload within its bound seals");
        ends.push(stream.len());
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
    let mut opener = RecordOpener::new(SoftAead::new(&KEY));
    let mut expected = payloads.iter();
    let mut pieces = input.pieces.iter().cycle();
    let mut rest = stream.as_slice();
    while !rest.is_empty() {
        let piece = pieces
            .next()
            .map_or(rest.len(), |it| usize::from(*it).max(1));
        let (now, later) = rest.split_at(piece.min(rest.len()));
        rest = later;
        opener.push(now);
        loop {
            match opener.next_record() {
                Ok(Some(plain)) => assert_eq!(Some(plain), expected.next().map(Vec::as_slice)),
                Ok(None) => break,
                Err(error) => {
                    assert!(is_damaged, "an untouched record did not open: {error}");
                    return;
                }
            }
        }
        assert!(opener.buffered() < record_bytes(DMSG_PAYLOAD_MAX));
    }
    assert!(is_damaged || opener.finish().is_ok() == ends.contains(&stream.len()));
}

/// Reads what a stream begins with.
fn begin(raw: &[u8]) {
    match dmsg_head(raw) {
        Ok(None) => assert!(raw.len() < 2),
        Ok(Some(DmsgHead::Ping)) => assert!(raw.starts_with(&[0, 0])),
        Ok(Some(DmsgHead::Object(len))) => assert!((26..=DMSG_OBJECT_MAX).contains(&len)),
        Err(_) => assert!(raw.len() >= 2),
    }
    if let Ok(Some(len)) = record_len(raw) {
        assert!((record_bytes(0)..=record_bytes(DMSG_PAYLOAD_MAX)).contains(&len));
    }
}

/// Objects and records under one key, without their lengths, in the order of their nonces.
struct Table {
    plain: Vec<u8>,
    objects: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

/// Returns the tables, one for each of [`PLAIN_BYTES`]: constants, made once.
fn tables() -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| PLAIN_BYTES.map(table).into())
}

fn table((bytes, count): (usize, u16)) -> Table {
    let plain = vec![0x5a; bytes];
    let mut sealer = Sealer::dmsg(KEY);
    let mut record_sealer = RecordSealer::new(SoftAead::new(&KEY));
    let (mut objects, mut records) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (mut object, mut record) = (Vec::new(), Vec::new());
        sealer
            .seal(&plain, &mut object)
            .expect("a plain object within its bound seals");
        record_sealer
            .seal(&plain, &mut record)
            .expect("a payload within its bound seals");
        // Both are framed alike, and under one key they would be the same bytes.
        assert_eq!(object, record);
        objects.push(object.split_off(2));
        records.push(record.split_off(2));
    }
    Table {
        plain,
        objects,
        records,
    }
}

const KEY: [u8; 32] = [0x4b; 32];

/// Bytes of plain text (none, an open request, the most) and how many objects: more than two windows of the
/// short ones.
const PLAIN_BYTES: [(usize, u16); 3] = [(0, 2_500), (357, 1_200), (DMSG_PLAIN_MAX, 100)];
