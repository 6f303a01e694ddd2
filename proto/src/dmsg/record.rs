//! Frames of a stream between its two ends, dmsg dialect; here they are called records, as in the native one.
//!
//! Here: sealing, opening, and finding records in bytes that arrive in any pieces. Not here: the stream
//! below, the handshake that made the keys (`kk`), the ciphers (`crate::record`).
//!
//! Layout, big-endian: `u16 length | u64 nonce | ciphertext | 16-byte tag`; the length counts what follows
//! it, up to 4,094.
//! Invariant: nonces count from 1 and strictly increase. One may be left out: Go counts a record whose write
//! failed, and so whoever carries a stream can drop whole records unseen.
//! Bound: as in the native dialect, under one record and one push.
//! Source: docs/dmsg.md "Frames of a stream"; Noise specification section 12.3 for the nonce.

use alloc::vec::Vec;

use crate::limits::{
    DMSG_FRAME_MAX, DMSG_FRAME_OVERHEAD, DMSG_PAYLOAD_MAX, RECORD_PREFIX, RECORD_TAG,
};
use crate::unread::Unread;

pub use crate::record::{RecordAead, RecordError, SoftAead};

/// Seals the records of one direction.
#[derive(Debug)]
pub struct RecordSealer<A> {
    aead: A,
    nonce: u64,
}

impl<A: RecordAead> RecordSealer<A> {
    /// Returns a sealer at nonce 1; a key is given to one sealer only.
    pub const fn new(aead: A) -> Self {
        Self { aead, nonce: 1 }
    }

    /// Seals `plain` as one record and appends it to `out`.
    ///
    /// # Errors
    ///
    /// [`RecordError::LocalTooLong`] and [`RecordError::LocalNoncesExhausted`]; `out` is unchanged.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let too_long = RecordError::LocalTooLong { have: plain.len() };
        if plain.len() > DMSG_PAYLOAD_MAX {
            return Err(too_long);
        }
        let length = u16::try_from(DMSG_FRAME_OVERHEAD + plain.len()).map_err(|_| too_long)?;
        if self.nonce == u64::MAX {
            return Err(RecordError::LocalNoncesExhausted);
        }
        out.reserve(record_bytes(plain.len()));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(plain);
        let mut tag = [0; RECORD_TAG];
        self.aead
            .seal_in_place(self.nonce, &mut out[start..], &mut tag);
        out.extend_from_slice(&tag);
        self.nonce += 1;
        Ok(())
    }

    /// Cuts `plain` into records as long as they may be and appends them to `out`.
    ///
    /// # Errors
    ///
    /// As [`RecordSealer::seal`]; the records before the failed one are in `out`.
    pub fn seal_all(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        plain
            .chunks(DMSG_PAYLOAD_MAX)
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
    /// The highest nonce that opened.
    last: u64,
    unread: Unread,
}

impl<A: RecordAead> RecordOpener<A> {
    /// Returns an opener that has seen no record.
    pub const fn new(aead: A) -> Self {
        Self {
            aead,
            last: 0,
            unread: Unread::new(),
        }
    }

    /// Keeps bytes of the stream. The caller takes all records before it pushes more, so what is kept
    /// stays under one record and one push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.push(bytes);
    }

    /// Opens the next whole record among the bytes kept, `None` when there is none yet. A record may be
    /// empty.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`RecordError`]; reset the stream. Calling again gives an error again.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, RecordError> {
        let have = self.unread.bytes_mut();
        let Some(len) = record_len(have)? else {
            return Ok(None);
        };
        let Some(record) = have.get_mut(RECORD_PREFIX..len) else {
            return Ok(None);
        };
        let plain = open_next(&self.aead, &mut self.last, record)?.len();
        let opened = self.unread.take(len);
        Ok(opened.get(PLAIN_AT..PLAIN_AT + plain))
    }

    /// Opens `record`, which is the next one and without its length prefix, in place.
    ///
    /// # Errors
    ///
    /// As [`RecordOpener::next_record`].
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8], RecordError> {
        open_next(&self.aead, &mut self.last, record)
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
    RECORD_PREFIX + DMSG_FRAME_OVERHEAD + payload
}

/// Returns the length of the record that starts with `prefix`, its length prefix included, once the
/// prefix is there.
///
/// # Errors
///
/// [`RecordError::PeerTooShort`] and [`RecordError::PeerTooLong`], before a byte is buffered for it.
#[inline]
pub fn record_len(prefix: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(length) = prefix.first_chunk::<RECORD_PREFIX>() else {
        return Ok(None);
    };
    let have = usize::from(u16::from_be_bytes(*length));
    check_len(have)?;
    Ok(Some(RECORD_PREFIX + have))
}

const fn check_len(have: usize) -> Result<(), RecordError> {
    if have < DMSG_FRAME_OVERHEAD {
        return Err(RecordError::PeerTooShort { have });
    }
    if have > DMSG_FRAME_MAX {
        return Err(RecordError::PeerTooLong { have });
    }
    Ok(())
}

/// Opens one record and remembers its nonce.
fn open_next<'a, A: RecordAead>(
    aead: &A,
    last: &mut u64,
    record: &'a mut [u8],
) -> Result<&'a [u8], RecordError> {
    let have = record.len();
    check_len(have)?;
    let (nonce, sealed) = record
        .split_first_chunk_mut::<NONCE_LEN>()
        .ok_or(RecordError::PeerTooShort { have })?;
    let nonce = u64::from_be_bytes(*nonce);
    // Noise reserves the last nonce, so an honest sender never gets there.
    if nonce <= *last || nonce == u64::MAX {
        return Err(RecordError::PeerNonce { have: nonce });
    }
    let len = aead.open_in_place(nonce, sealed)?;
    *last = nonce;
    sealed.get(..len).ok_or(RecordError::PeerTooShort { have })
}

/// Bytes of a record's nonce.
pub(crate) const NONCE_LEN: usize = DMSG_FRAME_OVERHEAD - RECORD_TAG;

/// Where the payload begins in a record, its length prefix included.
const PLAIN_AT: usize = RECORD_PREFIX + NONCE_LEN;

const _: () = assert!(NONCE_LEN == 8);

#[cfg(test)]
mod tests;
