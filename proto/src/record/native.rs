//! `ChaCha20-Poly1305` of stream records through AWS-LC.
//!
//! Here: one direction's key. Not here: the record format, the order of nonces.
//!
//! AWS-LC is vectorised; the figures of both implementations on a given machine come from
//! `cargo run --release -p ringway-client --example record_throughput`.

use core::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{RecordAead, RecordError};
use crate::limits::RECORD_TAG;
use crate::sealed::noise_nonce;

/// Record encryption by AWS-LC, for one direction of one stream.
///
/// AWS-LC overwrites the key when it is dropped (`OPENSSL_free`).
///
/// ```
/// use ringway_proto::record::{NativeAead, RecordOpener, RecordSealer};
///
/// let mut sealer = RecordSealer::new(NativeAead::new(&[7; 32]));
/// let mut opener = RecordOpener::new(NativeAead::new(&[7; 32]));
/// let mut wire = Vec::new();
/// sealer.seal(b"hello", &mut wire)?;
/// opener.push(&wire);
/// assert_eq!(opener.next_record()?, Some(&b"hello"[..]));
/// # Ok::<(), ringway_proto::record::RecordError>(())
/// ```
pub struct NativeAead {
    key: LessSafeKey,
}

impl NativeAead {
    /// Returns the cipher with this key.
    ///
    /// # Panics
    ///
    /// Never: the algorithm's keys are 32 bytes long.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key is 32 bytes long");
        Self {
            key: LessSafeKey::new(key),
        }
    }
}

impl RecordAead for NativeAead {
    /// # Panics
    ///
    /// When `buf` is longer than 256 GiB.
    fn seal_in_place(&self, nonce: u64, buf: &mut [u8], tag: &mut [u8; RECORD_TAG]) {
        let sealed = self
            .key
            .seal_in_place_separate_tag(native_nonce(nonce), Aad::empty(), buf)
            .expect("a record is shorter than the cipher's limit");
        tag.copy_from_slice(sealed.as_ref());
    }

    fn open_in_place(&self, nonce: u64, buf: &mut [u8]) -> Result<usize, RecordError> {
        let have = buf.len();
        if have < RECORD_TAG {
            return Err(RecordError::PeerTooShort { have });
        }
        self.key
            .open_in_place(native_nonce(nonce), Aad::empty(), buf)
            .map(|plain| plain.len())
            .map_err(|_| RecordError::PeerNotAuthentic)
    }
}

impl fmt::Debug for NativeAead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NativeAead(..)")
    }
}

/// Returns the nonce as AWS-LC takes it.
fn native_nonce(nonce: u64) -> Nonce {
    Nonce::assume_unique_for_key(noise_nonce(nonce).into())
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::record::SoftAead;

    #[test]
    fn the_native_and_the_portable_cipher_agree_both_ways() {
        let (native, soft) = (NativeAead::new(&[9; 32]), SoftAead::new(&[9; 32]));
        for len in [0, 1, 15, 16, 17, 255, 1_024, 16_384] {
            let plain: Vec<u8> = (0..=255).cycle().take(len).collect();
            let nonce = 0x0102_0304_0506_0708 + u64::try_from(len).expect("small");
            let (mut a, mut b) = (plain.clone(), plain.clone());
            let (mut tag_a, mut tag_b) = ([0; RECORD_TAG], [0; RECORD_TAG]);
            native.seal_in_place(nonce, &mut a, &mut tag_a);
            soft.seal_in_place(nonce, &mut b, &mut tag_b);
            assert_eq!((&a, tag_a), (&b, tag_b));
            a.extend_from_slice(&tag_a);
            b.extend_from_slice(&tag_b);
            assert_eq!(native.open_in_place(nonce, &mut b), Ok(len));
            assert_eq!(soft.open_in_place(nonce, &mut a), Ok(len));
            assert_eq!((&a[..len], &b[..len]), (&plain[..], &plain[..]));
        }
    }

    #[test]
    fn changed_and_short_records_do_not_open() {
        let aead = NativeAead::new(&[1; 32]);
        let mut buf = b"text".to_vec();
        let mut tag = [0; RECORD_TAG];
        aead.seal_in_place(0, &mut buf, &mut tag);
        buf.extend_from_slice(&tag);
        buf[0] ^= 1;
        assert_eq!(
            aead.open_in_place(0, &mut buf.clone()),
            Err(RecordError::PeerNotAuthentic)
        );
        buf[0] ^= 1;
        assert_eq!(
            aead.open_in_place(1, &mut buf.clone()),
            Err(RecordError::PeerNotAuthentic)
        );
        assert_eq!(
            aead.open_in_place(0, &mut buf[..3]),
            Err(RecordError::PeerTooShort { have: 3 })
        );
    }
}
