//! Tests of the records of a stream, dmsg dialect.

use std::vec;

use super::*;
use crate::reason::Reason;

const KEY: [u8; 32] = [4; 32];

fn sealer() -> RecordSealer<SoftAead> {
    RecordSealer::new(SoftAead::new(&KEY))
}

fn opener() -> RecordOpener<SoftAead> {
    RecordOpener::new(SoftAead::new(&KEY))
}

/// Returns so many records, each with its number as payload.
fn records(count: u8) -> Vec<Vec<u8>> {
    let mut sealer = sealer();
    let record = |number| {
        let mut out = Vec::new();
        sealer.seal(&[number], &mut out).map(|()| out)
    };
    (1..=count).map(record).collect::<Result<_, _>>().unwrap()
}

#[test]
fn records_open_in_any_pieces() {
    let plain: Vec<u8> = (0..=255).cycle().take(2 * DMSG_PAYLOAD_MAX + 9).collect();
    let mut wire = Vec::new();
    sealer().seal_all(&plain, &mut wire).unwrap();
    assert_eq!(
        wire.len(),
        2 * record_bytes(DMSG_PAYLOAD_MAX) + record_bytes(9)
    );
    assert_eq!(record_bytes(DMSG_PAYLOAD_MAX), 4_096);
    for piece in [1, 2, 3, 25, 26, 27, 4_095, 4_096, 4_097, wire.len()] {
        let mut opener = opener();
        let mut opened = Vec::new();
        for bytes in wire.chunks(piece) {
            opener.push(bytes);
            while let Some(payload) = opener.next_record().unwrap() {
                opened.extend_from_slice(payload);
            }
            assert!(opener.buffered() < 4_096);
        }
        assert_eq!(opened, plain);
        assert_eq!(opener.finish(), Ok(()));
    }
}

#[test]
fn nonces_count_from_one_in_plain_sight() {
    for (number, record) in (1_u64..).zip(records(3)) {
        assert_eq!(record[..2], 25_u16.to_be_bytes());
        assert_eq!(record[2..10], number.to_be_bytes());
    }
}

#[test]
fn replayed_and_reordered_records_are_refused_and_gaps_are_not() {
    let records = records(5);
    let mut opener = opener();
    let mut open = |number: usize| {
        let mut record = records[number - 1][RECORD_PREFIX..].to_vec();
        opener.open(&mut record).map(<[u8]>::to_vec)
    };
    assert_eq!(open(1), Ok(vec![1]));
    assert_eq!(open(1), Err(RecordError::PeerNonce { have: 1 }));
    assert_eq!(open(4), Ok(vec![4]));
    for old in 1..=4 {
        let have = u64::try_from(old).unwrap();
        let refused = open(old).unwrap_err();
        assert_eq!(refused, RecordError::PeerNonce { have });
        assert_eq!(refused.reason(), Reason::ProtocolError);
    }
    assert_eq!(open(5), Ok(vec![5]));
}

#[test]
fn changed_records_do_not_open_and_do_not_use_up_their_nonce() {
    let record = &records(1)[0];
    let mut opener = opener();
    for position in RECORD_PREFIX..record.len() {
        let mut forged = record[RECORD_PREFIX..].to_vec();
        forged[position - RECORD_PREFIX] ^= 1;
        let refused = opener.open(&mut forged).unwrap_err();
        let zeroth = RecordError::PeerNonce { have: 0 };
        assert!(refused == RecordError::PeerNotAuthentic || refused == zeroth);
    }
    let mut whole = record[RECORD_PREFIX..].to_vec();
    assert_eq!(opener.open(&mut whole), Ok(&[1][..]));
}

#[test]
fn an_error_stays() {
    let records = records(2);
    let mut opener = opener();
    opener.push(&records[1]);
    assert_eq!(opener.next_record(), Ok(Some(&[2][..])));
    opener.push(&records[0]);
    for _ in 0..2 {
        let refused = opener.next_record();
        assert_eq!(refused, Err(RecordError::PeerNonce { have: 1 }));
    }
    let mut opener = self::opener();
    let mut forged = records[0].clone();
    forged[12] ^= 1;
    opener.push(&forged);
    for _ in 0..2 {
        assert_eq!(opener.next_record(), Err(RecordError::PeerNotAuthentic));
    }
}

#[test]
fn an_end_inside_a_record_is_a_truncation() {
    let wire = records(2).concat();
    for end in 0..=wire.len() {
        let mut opener = opener();
        opener.push(&wire[..end]);
        while opener.next_record().unwrap().is_some() {}
        let have = end % record_bytes(1);
        let expected = if have == 0 {
            Ok(())
        } else {
            Err(RecordError::PeerTruncated { have })
        };
        assert_eq!(opener.finish(), expected);
    }
}

#[test]
fn lengths_outside_the_bounds_are_refused_at_once() {
    assert_eq!(record_len(&[]), Ok(None));
    assert_eq!(record_len(&[0]), Ok(None));
    for (prefix, have) in [([0, 0], 0), ([0, 23], 23)] {
        let short = Err(RecordError::PeerTooShort { have });
        assert_eq!(record_len(&prefix), short);
        let mut opener = opener();
        opener.push(&prefix);
        assert_eq!(
            opener.next_record(),
            Err(RecordError::PeerTooShort { have })
        );
        assert_eq!(
            opener.open(&mut vec![0; have]),
            Err(RecordError::PeerTooShort { have })
        );
    }
    assert_eq!(record_len(&[0, 24]), Ok(Some(26)));
    assert_eq!(record_len(&[0x0f, 0xfe]), Ok(Some(4_096)));
    for prefix in [[0x0f, 0xff], [0xff, 0xff]] {
        let have = usize::from(u16::from_be_bytes(prefix));
        let mut opener = opener();
        opener.push(&prefix);
        let long = RecordError::PeerTooLong { have };
        assert_eq!(opener.next_record(), Err(long));
        assert_eq!(opener.open(&mut vec![0; have]), Err(long));
    }
}

#[test]
fn empty_records_are_records() {
    let mut wire = Vec::new();
    let mut sealer = sealer();
    sealer.seal(b"", &mut wire).unwrap();
    sealer.seal(b"text", &mut wire).unwrap();
    let mut opener = opener();
    opener.push(&wire);
    assert_eq!(opener.next_record(), Ok(Some(&b""[..])));
    assert_eq!(opener.next_record(), Ok(Some(&b"text"[..])));
    assert_eq!(opener.next_record(), Ok(None));
}

#[test]
fn the_longest_payload_fits_and_one_more_does_not() {
    let mut wire = vec![7];
    let mut sealer = sealer();
    let have = DMSG_PAYLOAD_MAX + 1;
    let refused = sealer.seal(&vec![3; have], &mut wire);
    assert_eq!(refused, Err(RecordError::LocalTooLong { have }));
    assert_eq!(wire, [7]);
    sealer.seal_all(&vec![3; have], &mut wire).unwrap();
    assert_eq!(
        wire.len(),
        1 + record_bytes(DMSG_PAYLOAD_MAX) + record_bytes(1)
    );
}

#[test]
fn the_last_nonce_is_never_used() {
    let mut sealer = sealer();
    sealer.nonce = u64::MAX - 1;
    let mut wire = Vec::new();
    sealer.seal(b"last", &mut wire).unwrap();
    let refused = sealer.seal(b"", &mut Vec::new());
    assert_eq!(refused, Err(RecordError::LocalNoncesExhausted));
    let mut opener = opener();
    let mut reserved = [0; 24];
    reserved[..8].fill(0xff);
    assert_eq!(
        opener.open(&mut reserved),
        Err(RecordError::PeerNonce { have: u64::MAX })
    );
    assert_eq!(opener.open(&mut wire[RECORD_PREFIX..]), Ok(&b"last"[..]));
}
