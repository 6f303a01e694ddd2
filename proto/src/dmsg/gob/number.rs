//! Numbers of gob.
//!
//! Here: reading and writing them. Not here: which number is of which type.
//!
//! Below 128 a number is its own byte. Else `-n` as a byte and `n` bytes, big-endian. A signed one stands
//! shifted by a bit, complemented where it is negative; the lowest bit says so. A floating point number
//! stands with its bytes reversed, so that trailing zeros of the mantissa cost nothing.
//! Source: <https://pkg.go.dev/encoding/gob>, "Encoding Details".

use alloc::vec::Vec;

use super::GobError;
use crate::bytes::Reader;

/// Reads an unsigned number. One with leading zeros is read as Go does.
pub(super) fn read_uint(reader: &mut Reader<'_>) -> Result<u64, GobError> {
    let first = reader.u8().ok_or(GobError::PeerTruncated)?;
    if first < 0x80 {
        return Ok(u64::from(first));
    }
    let length = usize::from(first.wrapping_neg());
    if length > size_of::<u64>() {
        return Err(GobError::PeerNumber);
    }
    let bytes = reader.slice(length).ok_or(GobError::PeerTruncated)?;
    Ok(bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// Reads a signed number.
pub(super) fn read_int(reader: &mut Reader<'_>) -> Result<i64, GobError> {
    let shifted = read_uint(reader)?;
    let number = (shifted >> 1).cast_signed();
    Ok(if shifted & 1 == 0 { number } else { !number })
}

/// Reads a floating point number.
pub(super) fn read_float(reader: &mut Reader<'_>) -> Result<f64, GobError> {
    Ok(f64::from_bits(read_uint(reader)?.swap_bytes()))
}

/// Reads a count of bytes and the bytes.
pub(super) fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], GobError> {
    let length = read_uint(reader)?;
    let length = usize::try_from(length).map_err(|_| GobError::PeerTruncated)?;
    reader.slice(length).ok_or(GobError::PeerTruncated)
}

/// Reads a count of things that take at least `each` bytes; it is at most what the bytes left can hold.
pub(super) fn read_count(reader: &mut Reader<'_>, each: usize) -> Result<usize, GobError> {
    let have = read_uint(reader)?;
    let most = reader.len() / each;
    match usize::try_from(have) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(GobError::PeerCount {
            have,
            most: most as u64,
        }),
    }
}

/// Reads the step to the next field of a struct and returns that field's number, from 0; none at the end.
///
/// `next` is the number after the last field.
pub(super) fn read_field(reader: &mut Reader<'_>, next: &mut u64) -> Result<Option<u64>, GobError> {
    let step = read_uint(reader)?;
    if step == 0 {
        return Ok(None);
    }
    *next = next.checked_add(step).ok_or(GobError::PeerNumber)?;
    Ok(Some(*next - 1))
}

/// Writes an unsigned number.
pub(super) fn write_uint(number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    match bytes.get(zeros..) {
        None | Some([]) => out.push(0),
        Some([byte]) if *byte < 0x80 => out.push(*byte),
        Some(bytes) => {
            // One to eight bytes, so -1 to -8.
            out.extend(u8::try_from(bytes.len()).map(u8::wrapping_neg));
            out.extend_from_slice(bytes);
        }
    }
}

/// Writes a signed number.
pub(super) fn write_int(number: i64, out: &mut Vec<u8>) {
    let shifted = number.cast_unsigned() << 1;
    write_uint(if number < 0 { !shifted } else { shifted }, out);
}

/// Writes a floating point number.
pub(super) fn write_float(number: f64, out: &mut Vec<u8>) {
    write_uint(number.to_bits().swap_bytes(), out);
}

/// Writes a count of bytes and the bytes.
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_uint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn uint(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_uint(number, &mut out);
        out
    }

    fn int(number: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_int(number, &mut out);
        out
    }

    #[test]
    fn numbers_are_those_of_the_description() {
        // encoding/gob, "Encoding Details": 0, 7, 256, -129, and 17.0.
        assert_eq!(uint(0), [0]);
        assert_eq!(uint(7), [7]);
        assert_eq!(uint(256), [0xfe, 1, 0]);
        assert_eq!(int(-129), [0xfe, 1, 1]);
        let mut out = vec![];
        write_float(17.0, &mut out);
        assert_eq!(out, [0xfe, 0x31, 0x40]);
    }

    #[test]
    fn lengths_change_where_they_should() {
        assert_eq!(uint(0x7f), [0x7f]);
        assert_eq!(uint(0x80), [0xff, 0x80]);
        assert_eq!(
            uint(u64::MAX),
            [0xf8, 255, 255, 255, 255, 255, 255, 255, 255]
        );
        assert_eq!(int(-1), [1]);
        assert_eq!(int(i64::MIN), uint(u64::MAX));
    }

    #[test]
    fn leading_zeros_are_read_and_nine_bytes_are_not() {
        assert_eq!(read_uint(&mut Reader::new(&[0xfe, 0, 5])), Ok(5));
        let nine = [0xf7, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(
            read_uint(&mut Reader::new(&nine)),
            Err(GobError::PeerNumber)
        );
        assert_eq!(
            read_uint(&mut Reader::new(&[0x80])),
            Err(GobError::PeerNumber)
        );
    }

    #[test]
    fn a_field_past_the_last_number_is_refused() {
        let steps = [uint(u64::MAX), uint(1)].concat();
        let (mut reader, mut next) = (Reader::new(&steps), 0);
        assert_eq!(read_field(&mut reader, &mut next), Ok(Some(u64::MAX - 1)));
        assert_eq!(
            read_field(&mut reader, &mut next),
            Err(GobError::PeerNumber)
        );
    }

    #[test]
    fn a_count_is_at_most_what_the_bytes_left_can_hold() {
        let have = |bytes: &[u8], each| read_count(&mut Reader::new(bytes), each);
        assert_eq!(have(&[2, 0, 0], 1), Ok(2));
        assert_eq!(
            have(&[3, 0, 0], 1),
            Err(GobError::PeerCount { have: 3, most: 2 })
        );
        assert_eq!(
            have(&[2, 0, 0], 2),
            Err(GobError::PeerCount { have: 2, most: 1 })
        );
    }

    proptest! {
        #[test]
        fn every_number_roundtrips_and_ends_nowhere_else(number: u64, signed: i64, bits: u64) {
            for (bytes, number) in [(uint(number), number), (uint(number & 0x1ff), number & 0x1ff)] {
                prop_assert_eq!(read_uint(&mut Reader::new(&bytes)), Ok(number));
                for length in 0..bytes.len() {
                    let cut = read_uint(&mut Reader::new(&bytes[..length]));
                    prop_assert_eq!(cut, Err(GobError::PeerTruncated));
                }
            }
            prop_assert_eq!(read_int(&mut Reader::new(&int(signed))), Ok(signed));
            let mut out = Vec::new();
            write_float(f64::from_bits(bits), &mut out);
            let float = read_float(&mut Reader::new(&out)).unwrap();
            prop_assert_eq!(float.to_bits(), bits);
        }
    }
}
