//! Records: what peers say to each other on an open stream.
//!
//! Here: sealing and opening with a counter that both sides keep, and finding records in bytes that
//! arrive in any pieces. Not here: the stream below, the handshake that made the keys.
//!
//! Layout, big-endian: `u16 length | ciphertext | 16-byte tag`; the length counts what follows it.
//! The nonce is the number of the record, from 0, each direction.
//! Invariant: records open in order or not at all; FIN inside a record is a truncation.
//! Source: docs/protocol.md section 5; Noise specification section 12.3 for the nonce.

use alloc::vec::Vec;
use core::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Tag};
use thiserror::Error;

use crate::limits::{RECORD_PAYLOAD_MAX, RECORD_PREFIX, RECORD_TAG};
use crate::reason::Reason;
use crate::sealed::noise_nonce;
use crate::unread::Unread;

#[cfg(feature = "aws-lc")]
pub use self::native::NativeAead;

#[cfg(feature = "aws-lc")]
mod native;

/// ChaCha20-Poly1305 with an empty associated text and the nonce as Noise spells it: 4 zero bytes,
/// then the number little-endian.
pub trait RecordAead {
    /// Encrypts `buf` in place and writes the tag.
    fn seal_in_place(&self, nonce: u64, buf: &mut [u8], tag: &mut [u8; RECORD_TAG]);

    /// Opens `buf`, ciphertext and tag, in place and returns the length of the plain bytes.
    ///
    /// # Errors
    ///
    /// [`RecordError::PeerNotAuthentic`]; what `buf` then holds must not be used.
    fn open_in_place(&self, nonce: u64, buf: &mut [u8]) -> Result<usize, RecordError>;
}

/// [`RecordAead`] in portable Rust, without a dependency on assembly. Wipes its key when dropped.
pub struct SoftAead(ChaCha20Poly1305);

impl SoftAead {
    /// Returns the cipher with this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(Key::from_slice(key)))
    }
}

impl RecordAead for SoftAead {
    /// # Panics
    ///
    /// When `buf` is longer than 256 GiB.
    fn seal_in_place(&self, nonce: u64, buf: &mut [u8], tag: &mut [u8; RECORD_TAG]) {
        let sealed = self
            .0
            .encrypt_in_place_detached(&noise_nonce(nonce), &[], buf)
            .expect("a record is shorter than the cipher's limit");
        tag.copy_from_slice(&sealed);
    }

    fn open_in_place(&self, nonce: u64, buf: &mut [u8]) -> Result<usize, RecordError> {
        let have = buf.len();
        let (ciphertext, tag) = buf
            .split_last_chunk_mut::<RECORD_TAG>()
            .ok_or(RecordError::PeerTooShort { have })?;
        let tag = Tag::from_slice(tag.as_slice());
        self.0
            .decrypt_in_place_detached(&noise_nonce(nonce), &[], ciphertext, tag)
            .map_err(|_| RecordError::PeerNotAuthentic)?;
        Ok(ciphertext.len())
    }
}

impl fmt::Debug for SoftAead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftAead(..)")
    }
}

/// Seals the records of one direction.
#[derive(Debug)]
pub struct RecordSealer<A> {
    aead: A,
    nonce: u64,
}

impl<A: RecordAead> RecordSealer<A> {
    /// Returns a sealer at record 0; a key is given to one sealer only.
    pub const fn new(aead: A) -> Self {
        Self { aead, nonce: 0 }
    }

    /// Seals `plain` as one record and appends it to `out`.
    ///
    /// # Errors
    ///
    /// [`RecordError::LocalTooLong`] and [`RecordError::LocalNoncesExhausted`]; `out` is unchanged.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let too_long = RecordError::LocalTooLong { have: plain.len() };
        let length = u16::try_from(plain.len() + RECORD_TAG).map_err(|_| too_long)?;
        if self.nonce == u64::MAX {
            return Err(RecordError::LocalNoncesExhausted);
        }
        out.reserve(record_bytes(plain.len()));
        out.extend_from_slice(&length.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(plain);
        let mut tag = [0; RECORD_TAG];
        self.aead
            .seal_in_place(self.nonce, &mut out[start..], &mut tag);
        out.extend_from_slice(&tag);
        self.nonce += 1;
        Ok(())
    }

    /// Seals `plain` as records of up to `payload_max` bytes and appends them to `out`.
    ///
    /// # Errors
    ///
    /// As [`RecordSealer::seal`]; the records before the failed one are in `out`.
    ///
    /// # Panics
    ///
    /// When `payload_max` is 0.
    pub fn seal_all(
        &mut self,
        plain: &[u8],
        payload_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        assert!(payload_max > 0, "records of no bytes would never end");
        plain
            .chunks(payload_max.min(RECORD_PAYLOAD_MAX))
            .try_for_each(|payload| self.seal(payload, out))
    }
}

/// Opens the records of one direction, however their bytes arrive.
///
/// Either [`push`](Self::push) the stream's bytes and take records with
/// [`next_record`](Self::next_record), or find them with [`record_len`] in a buffer of one's own and
/// [`open`](Self::open) them there; not both on one stream.
#[derive(Debug)]
pub struct RecordOpener<A> {
    aead: A,
    nonce: u64,
    unread: Unread,
}

impl<A: RecordAead> RecordOpener<A> {
    /// Returns an opener at record 0.
    pub const fn new(aead: A) -> Self {
        Self {
            aead,
            nonce: 0,
            unread: Unread::new(),
        }
    }

    /// Keeps bytes of the stream. The caller takes all records before it pushes more, so what is kept
    /// stays under one record and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.push(bytes);
    }

    /// Opens the next whole record among the bytes kept, `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`RecordError`]; reset the stream. Calling again gives the error again.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, RecordError> {
        let have = self.unread.bytes_mut();
        let Some(len) = record_len(have)? else {
            return Ok(None);
        };
        let Some(record) = have.get_mut(RECORD_PREFIX..len) else {
            return Ok(None);
        };
        let plain = open_next(&self.aead, &mut self.nonce, record)?.len();
        let opened = self.unread.take(len);
        Ok(opened.get(RECORD_PREFIX..RECORD_PREFIX + plain))
    }

    /// Opens `record`, which is the next one and without its length prefix, in place.
    ///
    /// # Errors
    ///
    /// As [`RecordOpener::next_record`].
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8], RecordError> {
        open_next(&self.aead, &mut self.nonce, record)
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    ///
    /// [`RecordError::PeerTruncated`] when a part of a record is kept.
    pub const fn finish(&self) -> Result<(), RecordError> {
        match self.buffered() {
            0 => Ok(()),
            have => Err(RecordError::PeerTruncated { have }),
        }
    }

    /// Returns how many bytes are kept that no record returned so far holds.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.unread.len()
    }
}

/// Returns the bytes on the wire of a record with `payload` bytes.
#[inline]
#[must_use]
pub const fn record_bytes(payload: usize) -> usize {
    RECORD_PREFIX + payload + RECORD_TAG
}

/// Returns the length of the record that starts with `prefix`, its length prefix included, once the
/// prefix is there.
///
/// # Errors
///
/// [`RecordError::PeerTooShort`].
#[inline]
pub fn record_len(prefix: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(length) = prefix.first_chunk::<RECORD_PREFIX>() else {
        return Ok(None);
    };
    let have = usize::from(u16::from_be_bytes(*length));
    if have < RECORD_TAG {
        return Err(RecordError::PeerTooShort { have });
    }
    Ok(Some(RECORD_PREFIX + have))
}

/// Why a record was not sealed or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Every nonce of the key is used; the stream must end.
    #[error("every nonce of the stream is used")]
    LocalNoncesExhausted,
    /// The payload is longer than that of any record of its dialect.
    #[error("payload of {have} bytes is longer than a record may have")]
    LocalTooLong {
        /// Bytes of the payload.
        have: usize,
    },
    /// The nonce is not higher than the one before, in the dialect where it is sent.
    #[error("nonce {have} of a record was seen before, or is reserved")]
    PeerNonce {
        /// The nonce.
        have: u64,
    },
    /// The tag does not verify.
    #[error("record is not authentic")]
    PeerNotAuthentic,
    /// The record is longer than any of its dialect.
    #[error("record of {have} bytes is too long")]
    PeerTooLong {
        /// Bytes after the length prefix.
        have: usize,
    },
    /// The record has no room for its tag.
    #[error("record of {have} bytes is too short")]
    PeerTooShort {
        /// Bytes after the length prefix.
        have: usize,
    },
    /// The stream ended inside a record.
    #[error("stream ended {have} bytes into a record")]
    PeerTruncated {
        /// Bytes of the unfinished record.
        have: usize,
    },
}

impl RecordError {
    /// Returns the reason the stream is reset with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::LocalNoncesExhausted
            | Self::LocalTooLong { .. }
            | Self::PeerNonce { .. }
            | Self::PeerNotAuthentic
            | Self::PeerTooLong { .. }
            | Self::PeerTooShort { .. }
            | Self::PeerTruncated { .. } => Reason::ProtocolError,
        }
    }
}

/// Opens one record and counts it.
fn open_next<'a, A: RecordAead>(
    aead: &A,
    nonce: &mut u64,
    record: &'a mut [u8],
) -> Result<&'a [u8], RecordError> {
    // Noise reserves the last nonce, so an honest sender never gets there.
    let next = nonce.checked_add(1).ok_or(RecordError::PeerNotAuthentic)?;
    let len = aead.open_in_place(*nonce, record)?;
    *nonce = next;
    Ok(&record[..len])
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const KEY: [u8; 32] = [4; 32];

    fn sealer() -> RecordSealer<SoftAead> {
        RecordSealer::new(SoftAead::new(&KEY))
    }

    fn opener() -> RecordOpener<SoftAead> {
        RecordOpener::new(SoftAead::new(&KEY))
    }

    #[test]
    fn records_open_in_any_pieces() {
        let plain: Vec<u8> = (0..200).collect();
        let mut wire = Vec::new();
        sealer().seal_all(&plain, 64, &mut wire).unwrap();
        assert_eq!(wire.len(), 3 * record_bytes(64) + record_bytes(8));
        for piece in 1..wire.len() {
            let mut opener = opener();
            let mut opened = Vec::new();
            for bytes in wire.chunks(piece) {
                opener.push(bytes);
                while let Some(payload) = opener.next_record().unwrap() {
                    opened.extend_from_slice(payload);
                }
            }
            assert_eq!(opened, plain);
            assert_eq!(opener.finish(), Ok(()));
        }
    }

    #[test]
    fn an_end_inside_a_record_is_a_truncation() {
        let mut wire = Vec::new();
        sealer().seal_all(&[1; 20], 10, &mut wire).unwrap();
        for end in 0..=wire.len() {
            let mut opener = opener();
            opener.push(&wire[..end]);
            while opener.next_record().unwrap().is_some() {}
            let have = end % record_bytes(10);
            let expected = if have == 0 {
                Ok(())
            } else {
                Err(RecordError::PeerTruncated { have })
            };
            assert_eq!(opener.finish(), expected);
        }
    }

    #[test]
    fn a_record_opens_in_place_in_a_buffer_of_ones_own() {
        let mut wire = Vec::new();
        sealer().seal(b"payload", &mut wire).unwrap();
        assert_eq!(record_len(&wire), Ok(Some(wire.len())));
        assert_eq!(
            opener().open(&mut wire[RECORD_PREFIX..]),
            Ok(&b"payload"[..])
        );
    }

    #[test]
    fn records_out_of_order_or_changed_do_not_open() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut sealer = sealer();
        sealer.seal(b"first", &mut first).unwrap();
        sealer.seal(b"second", &mut second).unwrap();
        let mut opener = opener();
        opener.push(&second);
        assert_eq!(opener.next_record(), Err(RecordError::PeerNotAuthentic));
        assert_eq!(opener.next_record(), Err(RecordError::PeerNotAuthentic));
        for position in RECORD_PREFIX..first.len() {
            let mut forged = first.clone();
            forged[position] ^= 0x80;
            let mut opener = self::opener();
            opener.push(&forged);
            assert_eq!(opener.next_record(), Err(RecordError::PeerNotAuthentic));
        }
    }

    #[test]
    fn the_longest_payload_fits_and_one_more_does_not() {
        let (mut sealer, mut opener) = (sealer(), opener());
        let mut wire = Vec::new();
        sealer
            .seal(&vec![3; RECORD_PAYLOAD_MAX], &mut wire)
            .unwrap();
        opener.push(&wire);
        assert_eq!(
            opener.next_record().unwrap().map(<[u8]>::len),
            Some(RECORD_PAYLOAD_MAX)
        );
        wire.clear();
        let have = RECORD_PAYLOAD_MAX + 1;
        let refused = sealer.seal(&vec![3; have], &mut wire);
        assert_eq!(refused, Err(RecordError::LocalTooLong { have }));
        assert!(wire.is_empty());
        sealer
            .seal_all(&vec![3; have], usize::MAX, &mut wire)
            .unwrap();
        assert_eq!(
            wire.len(),
            record_bytes(RECORD_PAYLOAD_MAX) + record_bytes(1)
        );
    }

    #[test]
    fn a_length_without_room_for_the_tag_is_refused_at_once() {
        assert_eq!(record_len(&[0]), Ok(None));
        assert_eq!(
            record_len(&[0, 15]),
            Err(RecordError::PeerTooShort { have: 15 })
        );
        assert_eq!(record_len(&[0, 16]), Ok(Some(18)));
        let mut opener = opener();
        opener.push(&[0, 15]);
        assert_eq!(
            opener.next_record(),
            Err(RecordError::PeerTooShort { have: 15 })
        );
        assert_eq!(
            opener.open(&mut [0; 15]),
            Err(RecordError::PeerTooShort { have: 15 })
        );
    }

    #[test]
    fn the_last_nonce_is_never_used() {
        let mut sealer = sealer();
        sealer.nonce = u64::MAX;
        let refused = sealer.seal(b"", &mut Vec::new());
        assert_eq!(refused, Err(RecordError::LocalNoncesExhausted));
        let mut opener = opener();
        opener.nonce = u64::MAX;
        assert_eq!(
            opener.open(&mut [0; 16]),
            Err(RecordError::PeerNotAuthentic)
        );
    }
}
