//! How a server tells another one, whose client it is, that it has clients of its own.
//!
//! Here: the object. Not here: what a relay does with it (that requests may go back over the session).
//!
//! It stands where a request is due, on the first stream of a session, and is answered with a response that
//! the other server signs. Read as a request it has no source: `PeerSourceKey` is when to try it.
//! Source: docs/dmsg.md "Open objects"; public source of skycoin/skywire of June to September 2026. That
//! source does not have the type itself, only what fills and what reads these two fields.

use alloc::vec::Vec;

use super::types;
use super::{
    NULL_KEY, OpenError, check_dialect, gob, is_null, read_key, sign, split_signature, verify,
};
use crate::dmsg::gob::Value;
use crate::dmsg::key::SecretKey;
use crate::key::PublicKey;

/// A server's word that it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAnnounce {
    /// When it was made, nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// The server.
    pub source: PublicKey,
}

impl PeerAnnounce {
    /// Decodes an announcement and checks its fields. The signature is not verified.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`OpenError`].
    pub fn decode(signed: &[u8]) -> Result<Self, OpenError> {
        let (_, body) = split_signature(signed)?;
        let announce = gob::decode(body, Self::read)?;
        if is_null(&announce.source) {
            return Err(OpenError::PeerSourceKey);
        }
        if announce.timestamp_ns <= 0 {
            return Err(OpenError::PeerTimestamp(announce.timestamp_ns));
        }
        Ok(announce)
    }

    /// Verifies the signature of an encoded announcement by its source. Whether the session is the source's
    /// is for the caller to check.
    ///
    /// # Errors
    ///
    /// What [`PeerAnnounce::decode`] returns, and [`OpenError::PeerSignature`].
    pub fn verify(signed: &[u8]) -> Result<(), OpenError> {
        let announce = Self::decode(signed)?;
        verify(signed, &announce.source)
    }

    /// Encodes the announcement, signed with `secret`, which is the source's.
    ///
    /// # Errors
    ///
    /// [`OpenError::LocalDialect`].
    pub fn encode(&self, secret: &SecretKey) -> Result<Vec<u8>, OpenError> {
        check_dialect(&self.source)?;
        Ok(sign(secret, &types::ANNOUNCE, |fields| {
            fields.int(0, self.timestamp_ns);
            fields.opaque(1, self.source.as_bytes());
        }))
    }

    fn read(value: Value<'_, '_>) -> Result<Self, OpenError> {
        let mut announce = Self {
            timestamp_ns: 0,
            source: PublicKey::dmsg(NULL_KEY),
        };
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::ANNOUNCE_NAMES)? {
            match field.name {
                "Timestamp" => announce.timestamp_ns = field.value.int()?,
                _ => announce.source = read_key(field.value)?,
            }
        }
        Ok(announce)
    }
}
