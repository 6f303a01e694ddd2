//! Sealed objects: the few bytes of a session that the relay reads or writes itself.
//!
//! Here: sealing and opening with the session's two keys. Not here: what the objects say.
//!
//! Layout, big-endian: `u16 length | u64 nonce | ciphertext | 16-byte tag`; the length counts what
//! follows it. Cipher: ChaCha20-Poly1305, nonce as Noise spells it (4 zero bytes, u64 little-endian).
//! Invariant: a sealer never uses a nonce twice; an opener never accepts one twice.
//! Source: docs/protocol.md section 4; Noise specification section 12.3.

use alloc::vec::Vec;
use core::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::{SEALED_OBJECT_MAX, SEALED_PLAIN_MAX};
use crate::nonce::{NonceError, NonceWindow};
use crate::reason::Reason;

pub use crate::limits::SEALED_OVERHEAD;

/// Seals the objects of one direction, nonces counting from 0.
#[derive(ZeroizeOnDrop)]
pub struct Sealer {
    key: [u8; 32],
    nonce: u64,
}

impl Sealer {
    /// Returns a sealer that begins at nonce 0; a key is given to one sealer only.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self { key, nonce: 0 }
    }

    /// Seals `plain` and appends the object with its length prefix to `out`.
    ///
    /// # Errors
    ///
    /// [`SealedError::LocalTooLong`] and [`SealedError::LocalNoncesExhausted`]; `out` is unchanged.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealedError> {
        if plain.len() > SEALED_PLAIN_MAX {
            return Err(SealedError::LocalTooLong { have: plain.len() });
        }
        if self.nonce == u64::MAX {
            return Err(SealedError::LocalNoncesExhausted);
        }
        let length = u16::try_from(NONCE_LEN + plain.len() + TAG_LEN)
            .map_err(|_| SealedError::LocalTooLong { have: plain.len() })?;
        let start = out.len();
        out.reserve(SEALED_OVERHEAD + plain.len());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(plain);
        let sealed = ChaCha20Poly1305::new(Key::from_slice(&self.key)).encrypt_in_place_detached(
            &noise_nonce(self.nonce),
            &[],
            &mut out[start + PREFIX_LEN + NONCE_LEN..],
        );
        let Ok(tag) = sealed else {
            out.truncate(start);
            return Err(SealedError::LocalTooLong { have: plain.len() });
        };
        out.extend_from_slice(&tag);
        self.nonce += 1;
        Ok(())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("nonce", &self.nonce)
            .finish_non_exhaustive()
    }
}

/// Opens the objects of one direction, each nonce once.
pub struct Opener {
    key: [u8; 32],
    window: NonceWindow,
}

impl Opener {
    /// Returns an opener that has seen no nonce.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            window: NonceWindow::new(),
        }
    }

    /// Opens `object`, which is without its length prefix, in place and returns the plain bytes.
    ///
    /// The nonce is checked before any cryptography and marked only after the object opened.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`SealedError`]; the session ends with [`SealedError::reason`]. The
    /// window is unchanged, and `object` may be.
    pub fn open<'a>(&mut self, object: &'a mut [u8]) -> Result<&'a [u8], SealedError> {
        if object.len() > SEALED_OBJECT_MAX - PREFIX_LEN {
            return Err(SealedError::PeerTooLong { have: object.len() });
        }
        let have = object.len();
        let (nonce, sealed) = object
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(SealedError::PeerTooShort { have })?;
        let (ciphertext, tag) = sealed
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(SealedError::PeerTooShort { have })?;
        let nonce = u64::from_be_bytes(*nonce);
        self.window.check(nonce)?;
        ChaCha20Poly1305::new(Key::from_slice(&self.key))
            .decrypt_in_place_detached(
                &noise_nonce(nonce),
                &[],
                ciphertext,
                Tag::from_slice(tag.as_slice()),
            )
            .map_err(|_| SealedError::PeerNotAuthentic)?;
        self.window.mark(nonce);
        Ok(ciphertext)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ZeroizeOnDrop for Opener {}

/// Returns the length of the object that starts with `prefix`, its length prefix included, once the
/// prefix is there.
///
/// # Errors
///
/// [`SealedError::PeerTooShort`] and [`SealedError::PeerTooLong`], before a byte is buffered for it.
#[inline]
pub fn object_len(prefix: &[u8]) -> Result<Option<usize>, SealedError> {
    let Some(length) = prefix.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let have = usize::from(u16::from_be_bytes(*length));
    if have < NONCE_LEN + TAG_LEN {
        return Err(SealedError::PeerTooShort { have });
    }
    if PREFIX_LEN + have > SEALED_OBJECT_MAX {
        return Err(SealedError::PeerTooLong { have });
    }
    Ok(Some(PREFIX_LEN + have))
}

/// Why an object was not sealed or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealedError {
    /// Every nonce of the key is used; the session must end.
    #[error("every nonce of the session is used")]
    LocalNoncesExhausted,
    /// The plain object is longer than [`SEALED_PLAIN_MAX`].
    #[error("object of {have} bytes is longer than {SEALED_PLAIN_MAX}")]
    LocalTooLong {
        /// Bytes of the plain object.
        have: usize,
    },
    /// The nonce is refused.
    #[error(transparent)]
    PeerNonce(#[from] NonceError),
    /// The tag does not verify.
    #[error("sealed object is not authentic")]
    PeerNotAuthentic,
    /// The object is longer than any this protocol knows.
    #[error("sealed object of {have} bytes is too long")]
    PeerTooLong {
        /// Bytes after the length prefix.
        have: usize,
    },
    /// The object has no room for nonce and tag.
    #[error("sealed object of {have} bytes is too short")]
    PeerTooShort {
        /// Bytes after the length prefix.
        have: usize,
    },
}

impl SealedError {
    /// Returns the reason the session ends with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerNonce(error) => error.reason(),
            Self::LocalNoncesExhausted | Self::LocalTooLong { .. } => Reason::RelayCapacity,
            Self::PeerNotAuthentic | Self::PeerTooLong { .. } | Self::PeerTooShort { .. } => {
                Reason::ProtocolError
            }
        }
    }
}

/// Returns the nonce as Noise spells it for ChaCha20-Poly1305.
#[inline]
pub(crate) fn noise_nonce(nonce: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    Nonce::from(bytes)
}

const PREFIX_LEN: usize = 2;
const NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;
const _: () = assert!(PREFIX_LEN + NONCE_LEN + TAG_LEN == SEALED_OVERHEAD);
// A session keeps one of each for its life: 208 bytes of cryptographic state.
const _: () = assert!(size_of::<Sealer>() == 40);
const _: () = assert!(size_of::<Opener>() == 168);

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sealed(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(plain, &mut out).unwrap();
        out
    }

    #[test]
    fn an_object_opens_once_and_its_length_is_known_from_two_bytes() {
        let (mut sealer, mut opener) = (Sealer::new(KEY), Opener::new(KEY));
        for plain in [&b""[..], b"one", &[9; SEALED_PLAIN_MAX]] {
            let object = sealed(&mut sealer, plain);
            assert_eq!(object.len(), SEALED_OVERHEAD + plain.len());
            assert_eq!(object_len(&object[..2]), Ok(Some(object.len())));
            let mut body = object[2..].to_vec();
            assert_eq!(opener.open(&mut body), Ok(plain));
            let mut again = object[2..].to_vec();
            let replayed = Err(SealedError::PeerNonce(NonceError::PeerSeen));
            assert_eq!(opener.open(&mut again), replayed);
        }
    }

    #[test]
    fn objects_may_overtake_each_other_within_the_window() {
        let mut sealer = Sealer::new(KEY);
        let mut objects: Vec<_> = (0..8).map(|n| sealed(&mut sealer, &[n])).collect();
        let mut opener = Opener::new(KEY);
        for n in [3, 0, 7, 1, 6, 2, 5, 4] {
            assert_eq!(opener.open(&mut objects[usize::from(n)][2..]), Ok(&[n][..]));
        }
    }

    #[test]
    fn a_forged_object_does_not_use_up_its_nonce() {
        let (mut sealer, mut opener) = (Sealer::new(KEY), Opener::new(KEY));
        let object = sealed(&mut sealer, b"plain");
        for position in 2 + 8..object.len() {
            let mut forged = object[2..].to_vec();
            forged[position - 2] ^= 1;
            assert_eq!(opener.open(&mut forged), Err(SealedError::PeerNotAuthentic));
        }
        assert_eq!(opener.open(&mut object[2..].to_vec()), Ok(&b"plain"[..]));
    }

    #[test]
    fn another_nonce_does_not_open_it() {
        let mut object = sealed(&mut Sealer::new(KEY), b"plain");
        object[9] ^= 1;
        let opened = Opener::new(KEY).open(&mut object[2..]).map(<[u8]>::len);
        assert_eq!(opened, Err(SealedError::PeerNotAuthentic));
    }

    #[test]
    fn lengths_outside_the_bounds_are_refused_before_anything_is_read() {
        assert_eq!(object_len(&[]), Ok(None));
        assert_eq!(object_len(&[0]), Ok(None));
        assert_eq!(
            object_len(&[0, 23]),
            Err(SealedError::PeerTooShort { have: 23 })
        );
        assert_eq!(object_len(&[0, 24]), Ok(Some(26)));
        assert_eq!(
            object_len(&[0xff, 0xff]),
            Err(SealedError::PeerTooLong { have: 0xffff })
        );
        let mut opener = Opener::new(KEY);
        let short = opener.open(&mut [0; 23]).map(<[u8]>::len);
        assert_eq!(short, Err(SealedError::PeerTooShort { have: 23 }));
        let have = SEALED_OBJECT_MAX - 1;
        let long = opener.open(&mut vec![0; have]).map(<[u8]>::len);
        assert_eq!(long, Err(SealedError::PeerTooLong { have }));
    }

    #[test]
    fn a_refused_seal_leaves_the_output_and_the_nonce() {
        let mut sealer = Sealer::new(KEY);
        let mut out = vec![1, 2, 3];
        let have = SEALED_PLAIN_MAX + 1;
        let refused = sealer.seal(&vec![0; have], &mut out);
        assert_eq!(refused, Err(SealedError::LocalTooLong { have }));
        assert_eq!(out, [1, 2, 3]);
        sealer.nonce = u64::MAX;
        assert_eq!(
            sealer.seal(b"", &mut out),
            Err(SealedError::LocalNoncesExhausted)
        );
        assert_eq!(out, [1, 2, 3]);
        sealer.nonce = u64::MAX - 1;
        assert_eq!(sealer.seal(b"", &mut out), Ok(()));
    }

    #[test]
    fn the_reason_says_whether_it_was_a_replay() {
        assert_eq!(
            SealedError::from(NonceError::PeerSeen).reason(),
            Reason::Replay
        );
        assert_eq!(
            SealedError::PeerNotAuthentic.reason(),
            Reason::ProtocolError
        );
    }
}
