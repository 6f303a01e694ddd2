//! What a relay tells another about its peers.
//!
//! Here: the plain object. Not here: sealing it, which stream it goes on, what becomes of it.
//!
//! Layout, big-endian: `u8 kind = 0x11 | u8 version = 1 | u8 flags | u8 0 | u64 sequence | u16 appeared |
//! u16 gone | keys that appeared, 32 bytes each | keys that are gone`. Flag bit 0: what was told before on
//! this stream is void, the set begins anew. Flag bit 1: the other side is asked to begin its set anew,
//! because a part of it was missed.
//! Bound: [`PEER_SET_KEYS_MAX`] keys an object.
//! Source: docs/protocol.md section 6.

use alloc::vec::Vec;

use thiserror::Error;

use crate::bytes::Reader;
use crate::key::{NATIVE_KEY_LEN, PublicKey};
use crate::limits::{PEER_SET_FIXED, PEER_SET_KEYS_MAX};
use crate::reason::Reason;

/// Kind byte of a peer set.
pub const KIND_PEER_SET: u8 = 0x11;

/// A key as the object holds it.
pub type RawKey = [u8; NATIVE_KEY_LEN];

/// Keys whose sessions a relay has now, and keys whose sessions it has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSet<'a> {
    /// The set begins anew: what was told before is void.
    pub is_anew: bool,
    /// The other side's set is to begin anew: a part of it was missed.
    pub wants_anew: bool,
    /// Counts the objects of a stream from 0; a gap means that something was missed.
    pub sequence: u64,
    appeared: &'a [RawKey],
    gone: &'a [RawKey],
}

impl<'a> PeerSet<'a> {
    /// Returns a set of these keys.
    ///
    /// # Errors
    ///
    /// [`PeerSetError::LocalKeys`].
    pub const fn new(
        is_anew: bool,
        sequence: u64,
        appeared: &'a [RawKey],
        gone: &'a [RawKey],
    ) -> Result<Self, PeerSetError> {
        let have = appeared.len() + gone.len();
        if have > PEER_SET_KEYS_MAX {
            return Err(PeerSetError::LocalKeys { have });
        }
        Ok(Self {
            is_anew,
            wants_anew: false,
            sequence,
            appeared,
            gone,
        })
    }

    /// Returns the same set with the question for the other side's.
    #[must_use]
    pub const fn asking_anew(mut self) -> Self {
        self.wants_anew = true;
        self
    }

    /// Decodes a plain peer set.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants; the link ends.
    pub fn decode(plain: &'a [u8]) -> Result<Self, PeerSetError> {
        let wrong = PeerSetError::PeerLength { have: plain.len() };
        let mut reader = Reader::new(plain);
        let [kind, version, flags, reserved] = reader.array().ok_or(wrong)?;
        if kind != KIND_PEER_SET {
            return Err(PeerSetError::PeerKind(kind));
        }
        if version != VERSION {
            return Err(PeerSetError::PeerVersion(version));
        }
        if flags & !(FLAG_ANEW | FLAG_WANTS_ANEW) != 0 || reserved != 0 {
            return Err(PeerSetError::PeerFlags { flags, reserved });
        }
        let sequence = reader.u64().ok_or(wrong)?;
        let counts = [reader.u16().ok_or(wrong)?, reader.u16().ok_or(wrong)?];
        let [appeared, gone] = counts.map(usize::from);
        if appeared + gone > PEER_SET_KEYS_MAX {
            return Err(wrong);
        }
        let appeared = reader.slice(appeared * NATIVE_KEY_LEN).ok_or(wrong)?;
        let gone = reader.slice(gone * NATIVE_KEY_LEN).ok_or(wrong)?;
        if !reader.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            is_anew: flags & FLAG_ANEW != 0,
            wants_anew: flags & FLAG_WANTS_ANEW != 0,
            sequence,
            appeared: appeared.as_chunks().0,
            gone: gone.as_chunks().0,
        })
    }

    /// Returns the plain bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let keys = self.appeared.len() + self.gone.len();
        let mut out = Vec::with_capacity(PEER_SET_FIXED + keys * NATIVE_KEY_LEN);
        let mut flags = if self.is_anew { FLAG_ANEW } else { 0 };
        if self.wants_anew {
            flags |= FLAG_WANTS_ANEW;
        }
        out.extend_from_slice(&[KIND_PEER_SET, VERSION, flags, 0]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        for list in [self.appeared, self.gone] {
            // Bounded by `PEER_SET_KEYS_MAX`.
            let count = u16::try_from(list.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&count.to_be_bytes());
        }
        for key in self.appeared.iter().chain(self.gone) {
            out.extend_from_slice(key);
        }
        out
    }

    /// Returns the keys whose sessions the relay has now.
    pub fn appeared(&self) -> impl Iterator<Item = PublicKey> + 'a {
        self.appeared.iter().map(|key| PublicKey::native(*key))
    }

    /// Returns the keys whose sessions it has no more.
    pub fn gone(&self) -> impl Iterator<Item = PublicKey> + 'a {
        self.gone.iter().map(|key| PublicKey::native(*key))
    }
}

/// Why bytes are no peer set, or keys do not become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerSetError {
    /// More keys than an object holds.
    #[error("{have} keys in one peer set, {PEER_SET_KEYS_MAX} fit")]
    LocalKeys {
        /// Keys.
        have: usize,
    },
    /// An undefined flag or the reserved byte is set.
    #[error("peer set with flags {flags:#04x}, reserved {reserved:#04x}")]
    PeerFlags {
        /// The flags.
        flags: u8,
        /// The reserved byte.
        reserved: u8,
    },
    /// Another kind of object.
    #[error("object of kind {0:#04x} is no peer set")]
    PeerKind(u8),
    /// Another length than the counts say, or more keys than an object holds.
    #[error("peer set of {have} bytes has the wrong length")]
    PeerLength {
        /// Bytes received.
        have: usize,
    },
    /// Another version.
    #[error("peer set of version {0}")]
    PeerVersion(u8),
}

impl PeerSetError {
    /// Returns the reason the link ends with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerVersion(_) => Reason::Version,
            Self::LocalKeys { .. }
            | Self::PeerFlags { .. }
            | Self::PeerKind(_)
            | Self::PeerLength { .. } => Reason::ProtocolError,
        }
    }
}

const VERSION: u8 = 1;
const FLAG_ANEW: u8 = 1;
const FLAG_WANTS_ANEW: u8 = 2;

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn set<'a>(is_anew: bool, appeared: &'a [RawKey], gone: &'a [RawKey]) -> PeerSet<'a> {
        PeerSet::new(is_anew, 7, appeared, gone).unwrap()
    }

    #[test]
    fn sets_of_all_sizes_roundtrip() {
        let bytes = 0..=u8::try_from(PEER_SET_KEYS_MAX).unwrap();
        let keys: Vec<RawKey> = bytes.map(|byte| [byte; 32]).collect();
        for appeared in 0..keys.len() {
            let (appeared, gone) = keys[..PEER_SET_KEYS_MAX].split_at(appeared);
            for is_anew in [false, true] {
                let set = set(is_anew, appeared, gone);
                assert_eq!(PeerSet::decode(&set.encode()), Ok(set));
                let asking = set.asking_anew();
                assert_eq!(PeerSet::decode(&asking.encode()), Ok(asking));
                assert_eq!(set.appeared().count(), appeared.len());
                assert!(
                    set.gone()
                        .eq(gone.iter().map(|key| PublicKey::native(*key)))
                );
            }
        }
        assert_eq!(
            PeerSet::new(false, 0, &keys, &[]),
            Err(PeerSetError::LocalKeys { have: keys.len() })
        );
    }

    #[test]
    fn each_wrong_field_has_its_error() {
        let good = set(true, &[[1; 32]], &[[2; 32]]).encode();
        let with = |position: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[position] = byte;
            PeerSet::decode(&bytes).map(|_| ()).unwrap_err()
        };
        let have = good.len();
        assert_eq!(with(0, 0x10), PeerSetError::PeerKind(0x10));
        assert_eq!(with(1, 2), PeerSetError::PeerVersion(2));
        let flags = |flags, reserved| PeerSetError::PeerFlags { flags, reserved };
        assert_eq!(with(2, 5), flags(5, 0));
        assert_eq!(with(3, 1), flags(1, 1));
        assert_eq!(with(13, 2), PeerSetError::PeerLength { have });
        assert_eq!(with(14, 255), PeerSetError::PeerLength { have });
        for have in (0..have).chain([have + 1]) {
            let bytes = [good.clone(), vec![0]].concat();
            let error = PeerSet::decode(&bytes[..have]);
            assert_eq!(error, Err(PeerSetError::PeerLength { have }));
        }
    }
}
