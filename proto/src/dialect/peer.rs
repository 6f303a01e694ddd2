//! A peer's side of handshakes and opens, whichever dialect it speaks.
//!
//! Here: one value for the identities of both dialects, the handshake that it begins, the opens that it makes
//! and answers. Not here: sessions and streams (`peer`), what a relay does (`handshake`), the messages and
//! objects themselves.
//!
//! Invariant: what an identity makes and takes is of its own dialect; a key of the other one is an error.
//! Source: docs/protocol.md sections 2 and 4; docs/dmsg.md "Handshake" and "Open objects".

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::handshake::Initiator;
use super::{Dialect, RequestHash};
use crate::dmsg;
use crate::dmsg::open::{StreamRequest, StreamResponse};
use crate::handshake::{self, Extension, HandshakeError, Role};
use crate::key::{Address, PublicKey, SecretKey};
use crate::kk::{self, RecordKeys};
use crate::open::{OpenError, OpenRequest, OpenResponse};
use crate::reason::Reason;

/// The keys of a peer, in the dialect that it speaks. Clones share them.
#[derive(Clone)]
pub enum Identity {
    /// Native dialect.
    Native(Arc<SecretKey>),
    /// dmsg dialect.
    Dmsg(Arc<dmsg::handshake::Identity>),
}

impl Identity {
    /// Returns the public key. Costs one scalar multiplication in the native dialect.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Native(secret) => secret.public(),
            Self::Dmsg(identity) => identity.public(),
        }
    }

    /// Returns the dialect.
    #[inline]
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::Native(_) => Dialect::Native,
            Self::Dmsg(_) => Dialect::Dmsg,
        }
    }

    /// Makes an open request to `destination` and returns it with what its answer is checked against;
    /// `random` is the ephemeral secret of the stream's handshake.
    ///
    /// # Errors
    ///
    /// [`KeyFault`] when the destination's key is no point, or of another dialect.
    pub(crate) fn request(
        &self,
        source: Address,
        destination: Address,
        timestamp_ns: u64,
        random: [u8; 32],
    ) -> Result<(Opening, Vec<u8>), KeyFault> {
        let (kk, plain) = match self {
            Self::Native(secret) => {
                let (kk, noise) = kk::KkInitiator::new(secret, &destination.key, random)?;
                let request = OpenRequest {
                    forwarded: false,
                    timestamp_ns,
                    source,
                    destination,
                    noise: &noise,
                };
                (Kk::Native(kk), request.encode(secret)?)
            }
            Self::Dmsg(identity) => {
                let (kk, noise) = dmsg::kk::KkInitiator::new(identity, &destination.key, random)?;
                let request = StreamRequest {
                    // Until the year 2262.
                    timestamp_ns: i64::try_from(timestamp_ns).unwrap_or(i64::MAX),
                    source,
                    destination,
                    wants_ip: false,
                    wants_geo: false,
                    noise: &noise,
                };
                (Kk::Dmsg(kk), request.encode(identity.secret())?)
            }
        };
        let opening = Opening {
            kk,
            hash: self.dialect().request_hash(&plain),
            destination: destination.key,
        };
        Ok((opening, plain))
    }

    /// Accepts a request with this Noise message and returns the response and the stream's keys; `random` is
    /// the ephemeral secret of the stream's handshake.
    ///
    /// # Errors
    ///
    /// [`KeyFault`] when the Noise message is no good: refuse the request.
    pub(crate) fn accept(
        &self,
        source: &PublicKey,
        noise: &[u8],
        request_hash: RequestHash,
        random: [u8; 32],
    ) -> Result<(Vec<u8>, RecordKeys), KeyFault> {
        match self {
            Self::Native(secret) => {
                let (noise, keys) = kk::kk_respond(secret, source, noise, random)?;
                let response = OpenResponse {
                    reason_code: Reason::Accepted.code(),
                    request_hash,
                    noise: &noise,
                };
                Ok((response.encode(secret)?, keys))
            }
            Self::Dmsg(identity) => {
                let (noise, keys) = dmsg::kk::kk_respond(identity, source, noise, random)?;
                let response = StreamResponse::accept(request_hash, &noise);
                Ok((response.encode(identity.secret())?, keys))
            }
        }
    }

    /// Returns the response that refuses a request in the destination's name.
    ///
    /// # Errors
    ///
    /// [`KeyFault`]: never, a refusal has no key.
    pub(crate) fn refuse(
        &self,
        request_hash: RequestHash,
        reason: Reason,
    ) -> Result<Vec<u8>, KeyFault> {
        match self {
            Self::Native(secret) => {
                let response = OpenResponse {
                    reason_code: reason.code(),
                    request_hash,
                    noise: &[],
                };
                Ok(response.encode(secret)?)
            }
            Self::Dmsg(identity) => {
                let code = dmsg::open::code::code(reason);
                let response = StreamResponse::refuse(request_hash, code);
                Ok(response.encode(identity.secret())?)
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.dialect()).finish()
    }
}

impl From<SecretKey> for Identity {
    fn from(secret: SecretKey) -> Self {
        Self::Native(Arc::new(secret))
    }
}

impl From<Arc<SecretKey>> for Identity {
    fn from(secret: Arc<SecretKey>) -> Self {
        Self::Native(secret)
    }
}

impl From<dmsg::key::SecretKey> for Identity {
    fn from(secret: dmsg::key::SecretKey) -> Self {
        Self::Dmsg(Arc::new(dmsg::handshake::Identity::new(secret)))
    }
}

impl From<Arc<dmsg::handshake::Identity>> for Identity {
    fn from(identity: Arc<dmsg::handshake::Identity>) -> Self {
        Self::Dmsg(identity)
    }
}

/// A key or a Noise message cannot be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyFault;

impl From<kk::KkError> for KeyFault {
    fn from(_: kk::KkError) -> Self {
        Self
    }
}

impl From<OpenError> for KeyFault {
    fn from(_: OpenError) -> Self {
        Self
    }
}

impl From<dmsg::open::OpenError> for KeyFault {
    fn from(_: dmsg::open::OpenError) -> Self {
        Self
    }
}

/// Begins a handshake with `relay` and returns it with message 1; `random` is the ephemeral secret. The dmsg
/// dialect has no place for an introduction.
///
/// # Errors
///
/// As for [`handshake::Initiator::new`].
pub(crate) fn begin_handshake(
    identity: &Identity,
    relay: &PublicKey,
    introduction: &Introduction<'_>,
    random: [u8; 32],
) -> Result<(Initiator, Vec<u8>), HandshakeError> {
    match identity {
        Identity::Native(secret) => {
            let Introduction {
                role,
                extensions,
                passphrase,
            } = *introduction;
            let (mut initiator, message) =
                handshake::Initiator::new(secret, relay, role, extensions, random)?;
            if let Some(passphrase) = passphrase {
                initiator = initiator.with_passphrase(passphrase);
            }
            Ok((Initiator::Native(initiator), message))
        }
        Identity::Dmsg(identity) => {
            let (initiator, message) = dmsg::handshake::Initiator::new(identity, relay, random)?;
            Ok((Initiator::Dmsg(initiator), message))
        }
    }
}

/// What a peer says of itself in message 3.
#[derive(Clone, Copy)]
pub(crate) struct Introduction<'a> {
    pub(crate) role: Role,
    pub(crate) extensions: &'a [Extension],
    pub(crate) passphrase: Option<&'a [u8]>,
}

/// What the response to an open request is checked against.
#[derive(Debug)]
pub(crate) struct Opening {
    kk: Kk,
    hash: RequestHash,
    destination: PublicKey,
}

#[derive(Debug)]
enum Kk {
    Native(kk::KkInitiator),
    Dmsg(dmsg::kk::KkInitiator),
}

impl Opening {
    /// Takes a plain response and returns the stream's keys.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(crate) fn finish(self, plain: &[u8]) -> Result<RecordKeys, Refusal> {
        let malformed = |reason| Refusal::Malformed(reason);
        let dialect = self.destination.dialect();
        let head = dialect.decode_response(plain);
        let head = head.map_err(|error| malformed(error.reason()))?;
        if head.request_hash != self.hash {
            return Err(malformed(Reason::ProtocolError));
        }
        match self.kk {
            Kk::Native(kk) => {
                // A relay's refusal is not signed.
                if !head.is_accepted() {
                    return Err(Refusal::Answered(head.reason_code));
                }
                OpenResponse::verify(plain, &self.destination)
                    .map_err(|error| malformed(error.reason()))?;
                let response =
                    OpenResponse::decode(plain).map_err(|error| malformed(error.reason()))?;
                kk.finish(response.noise)
            }
            Kk::Dmsg(kk) => {
                StreamResponse::verify(plain, &self.destination)
                    .map_err(|error| malformed(error.reason()))?;
                if !head.is_accepted() {
                    return Err(Refusal::Answered(head.reason_code));
                }
                let response =
                    StreamResponse::decode(plain).map_err(|error| malformed(error.reason()))?;
                kk.finish(response.noise)
            }
        }
        .map_err(|error| malformed(error.reason()))
    }
}

/// Why an open of ours failed when a response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The relay or the destination refused, with the number of a reason.
    Answered(u16),
    /// The response is no good.
    Malformed(Reason),
}

/// What an incoming open request says.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) timestamp_ns: u64,
    pub(crate) noise: Vec<u8>,
}

impl Dialect {
    /// Decodes an incoming open request. The signature is not verified.
    pub(crate) fn decode_incoming(self, plain: &[u8]) -> Result<Incoming, OpenError> {
        match self {
            Self::Native => {
                let request = OpenRequest::decode(plain)?;
                Ok(Incoming {
                    source: request.source,
                    destination: request.destination,
                    timestamp_ns: request.timestamp_ns,
                    noise: request.noise.to_vec(),
                })
            }
            Self::Dmsg => {
                let request = StreamRequest::decode(plain)?;
                Ok(Incoming {
                    source: request.source,
                    destination: request.destination,
                    timestamp_ns: request.timestamp_ns.unsigned_abs(),
                    noise: request.noise.to_vec(),
                })
            }
        }
    }
}
