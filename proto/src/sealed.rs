//! Sealed objects: the few bytes of a session that the relay reads or writes itself.
//!
//! Here: sealing and opening with the session's two keys, in both dialects, which differ in where their
//! nonces begin and in how long an object may be. Not here: what the objects say.
//!
//! Layout, big-endian: `u16 length | u64 nonce | ciphertext | 16-byte tag`; the length counts what
//! follows it. Cipher: ChaCha20-Poly1305, nonce as Noise spells it (4 zero bytes, u64 little-endian).
//! Invariant: a sealer never uses a nonce twice; an opener never accepts one twice.
//! Source: docs/protocol.md section 4; docs/dmsg.md "Sealed objects"; Noise specification section 12.3.

use alloc::vec::Vec;
use core::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::limits::{DMSG_OBJECT_MAX, DMSG_PLAIN_MAX, SEALED_OBJECT_MAX, SEALED_PLAIN_MAX};
use crate::nonce::{NonceError, NonceWindow};
use crate::reason::Reason;

pub use crate::limits::SEALED_OVERHEAD;

/// Seals the objects of one direction, nonces counting from 0, in the dmsg dialect from 1.
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

    /// Returns a sealer of the dmsg dialect, which begins at nonce 1; a key is given to one sealer only.
    #[must_use]
    pub const fn dmsg(key: [u8; 32]) -> Self {
        Self { key, nonce: 1 }
    }

    /// Seals `plain` and appends the object with its length prefix to `out`. What makes objects keeps to the
    /// bound of its dialect; here is the longer one.
    ///
    /// # Errors
    ///
    /// [`SealedError::LocalTooLong`] and [`SealedError::LocalNoncesExhausted`]; `out` is unchanged.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealedError> {
        if plain.len() > PLAIN_MAX {
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

    /// Returns an opener of the dmsg dialect: it has seen no nonce, and takes nonce 0 for a replay.
    #[must_use]
    pub const fn dmsg(key: [u8; 32]) -> Self {
        Self {
            key,
            window: NonceWindow::from_one(),
        }
    }

    /// Opens `object`, which is without its length prefix, in place and returns the plain bytes. The bound of
    /// the dialect is that of [`object_len`] and [`dmsg_head`]; here is the longer one.
    ///
    /// The nonce is checked before any cryptography and marked only after the object opened.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`SealedError`]; the session ends with [`SealedError::reason`]. The
    /// window is unchanged, and `object` may be.
    pub fn open<'a>(&mut self, object: &'a mut [u8]) -> Result<&'a [u8], SealedError> {
        if object.len() > OBJECT_MAX - PREFIX_LEN {
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
    object_len_within(prefix, SEALED_OBJECT_MAX)
}

/// Returns what a stream of the dmsg dialect begins with, once the first two bytes are there.
///
/// # Errors
///
/// As for [`object_len`].
#[inline]
pub fn dmsg_head(prefix: &[u8]) -> Result<Option<DmsgHead>, SealedError> {
    if prefix.starts_with(&DMSG_PING) {
        return Ok(Some(DmsgHead::Ping));
    }
    let length = object_len_within(prefix, DMSG_OBJECT_MAX)?;
    Ok(length.map(DmsgHead::Object))
}

/// What a stream of the dmsg dialect begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmsgHead {
    /// A sealed object of so many bytes, its length prefix included.
    Object(usize),
    /// A ping, which is [`DMSG_PING`] and nothing else; the answer is the same bytes and the stream's end.
    Ping,
}

/// The two bytes of a ping by stream, as clients of 2026 send it: the length of an object that is none.
pub const DMSG_PING: [u8; PREFIX_LEN] = [0; PREFIX_LEN];

#[inline]
fn object_len_within(prefix: &[u8], max: usize) -> Result<Option<usize>, SealedError> {
    let Some(length) = prefix.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let have = usize::from(u16::from_be_bytes(*length));
    if have < NONCE_LEN + TAG_LEN {
        return Err(SealedError::PeerTooShort { have });
    }
    if PREFIX_LEN + have > max {
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
    /// The plain object is longer than any of a dialect.
    #[error("object of {have} bytes is longer than {PLAIN_MAX}")]
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

/// Longest object of any dialect, its length prefix included.
const OBJECT_MAX: usize = if SEALED_OBJECT_MAX > DMSG_OBJECT_MAX {
    SEALED_OBJECT_MAX
} else {
    DMSG_OBJECT_MAX
};

/// Longest plain object of any dialect.
const PLAIN_MAX: usize = OBJECT_MAX - SEALED_OVERHEAD;

const PREFIX_LEN: usize = 2;
const NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;
const _: () = assert!(PREFIX_LEN + NONCE_LEN + TAG_LEN == SEALED_OVERHEAD);
const _: () = assert!(PLAIN_MAX >= SEALED_PLAIN_MAX && PLAIN_MAX >= DMSG_PLAIN_MAX);
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
        let have = OBJECT_MAX - 1;
        let long = opener.open(&mut vec![0; have]).map(<[u8]>::len);
        assert_eq!(long, Err(SealedError::PeerTooLong { have }));
    }

    #[test]
    fn nonces_of_the_dmsg_dialect_begin_at_one() {
        let mut object = sealed(&mut Sealer::dmsg(KEY), b"plain");
        assert_eq!(object[2..10], 1_u64.to_be_bytes());
        let mut opener = Opener::dmsg(KEY);
        let mut zeroth = sealed(&mut Sealer::new(KEY), b"plain");
        assert_eq!(
            opener.open(&mut zeroth[2..]),
            Err(SealedError::PeerNonce(NonceError::PeerSeen))
        );
        assert_eq!(opener.open(&mut object[2..]), Ok(&b"plain"[..]));
    }

    #[test]
    fn streams_of_the_dmsg_dialect_begin_with_an_object_or_a_ping() {
        assert_eq!(dmsg_head(&[]), Ok(None));
        assert_eq!(dmsg_head(&[0]), Ok(None));
        assert_eq!(dmsg_head(&[0, 0]), Ok(Some(DmsgHead::Ping)));
        assert_eq!(dmsg_head(&[0, 0, 7]), Ok(Some(DmsgHead::Ping)));
        for have in [1, 23] {
            let short = dmsg_head(&[0, have]);
            let have = usize::from(have);
            assert_eq!(short, Err(SealedError::PeerTooShort { have }));
        }
        assert_eq!(dmsg_head(&[0, 24]), Ok(Some(DmsgHead::Object(26))));
        assert_eq!(
            dmsg_head(&[0x0f, 0xfe]),
            Ok(Some(DmsgHead::Object(DMSG_OBJECT_MAX)))
        );
        assert_eq!(
            dmsg_head(&[0x0f, 0xff]),
            Err(SealedError::PeerTooLong { have: 4_095 })
        );
        let plain = [3; DMSG_PLAIN_MAX];
        let object = sealed(&mut Sealer::dmsg(KEY), &plain);
        let head = Ok(Some(DmsgHead::Object(object.len())));
        assert_eq!(dmsg_head(&object), head);
        let mut body = object[2..].to_vec();
        assert_eq!(Opener::dmsg(KEY).open(&mut body), Ok(&plain[..]));
    }

    #[test]
    fn a_refused_seal_leaves_the_output_and_the_nonce() {
        let mut sealer = Sealer::new(KEY);
        let mut out = vec![1, 2, 3];
        let have = PLAIN_MAX + 1;
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
