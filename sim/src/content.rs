//! What streams carry: bytes that say where they belong.
//!
//! Here: the pattern of one direction of one stream. Not here: who writes and compares it.

use crate::rng::mix;

/// Fills `out` with the bytes of a direction from `position` on.
pub(crate) fn fill(open: usize, side: usize, position: u64, out: &mut [u8]) {
    let key = mix((open as u64) << 1 | side as u64);
    let mut at = position;
    let mut rest = out;
    while !rest.is_empty() {
        let word = mix(key ^ (at >> 3)).to_be_bytes();
        let skip = usize::try_from(at & 7).unwrap_or(0);
        let count = rest.len().min(8 - skip);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&word[skip..skip + count]);
        at += count as u64;
        rest = later;
    }
}

/// Returns the position of the first byte that does not belong there.
pub(crate) fn mismatch(open: usize, side: usize, position: u64, bytes: &[u8]) -> Option<u64> {
    let mut expected = vec![0; bytes.len()];
    fill(open, side, position, &mut expected);
    let at = expected
        .iter()
        .zip(bytes)
        .position(|(left, right)| left != right)?;
    Some(position + at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_does_not_depend_on_the_split() {
        let mut whole = vec![0; 1_000];
        fill(3, 1, 17, &mut whole);
        let mut parts = vec![0; 1_000];
        for (index, part) in parts.chunks_mut(7).enumerate() {
            fill(3, 1, 17 + 7 * index as u64, part);
        }
        assert_eq!(whole, parts);
        assert_eq!(mismatch(3, 1, 17, &whole), None);
        whole[500] ^= 1;
        assert_eq!(mismatch(3, 1, 17, &whole), Some(517));
        assert!(mismatch(3, 0, 17, &parts).is_some());
    }
}
