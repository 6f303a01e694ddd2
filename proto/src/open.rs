//! The two objects that open a stream, native dialect.
//!
//! Here: layout, signatures and hash of the request and its response. Not here: sealing them, the
//! Noise messages inside, who decides.
//!
//! Request: `kind 1, version 1, flags, 0 | u64 timestamp | source | destination | u16 n | Noise |
//! signature`. Response: `kind 2, version 1 | u16 reason | request hash | u16 n | Noise | signature`.
//! The forwarded flag counts as 0 in signature and hash, so that a relay may set it.
//! Source: docs/protocol.md section 4 (offsets there).

use alloc::vec::Vec;

use blake2::{Blake2s256, Digest};
use thiserror::Error;

use crate::bytes::Reader;
use crate::dialect::RequestHash;
use crate::dmsg;
use crate::key::{self, Address, KeyError, PublicKey, SIGNATURE_LEN, SecretKey};
use crate::limits::{OPEN_NOISE_MAX, OPEN_REQUEST_FIXED, OPEN_RESPONSE_FIXED};
use crate::reason::Reason;

/// Kind byte of an open request.
pub const KIND_REQUEST: u8 = 0x01;

/// Kind byte of an open response.
pub const KIND_RESPONSE: u8 = 0x02;

/// The first object on a stream: who wants to talk to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest<'a> {
    /// Whether a relay forwarded it; then no relay forwards it again.
    pub forwarded: bool,
    /// When it was made, nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// Who asks.
    pub source: Address,
    /// Who is asked.
    pub destination: Address,
    /// Noise KK message 1.
    pub noise: &'a [u8],
}

impl<'a> OpenRequest<'a> {
    /// Decodes a request. The signature is not verified.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`OpenError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, OpenError> {
        let mut reader = Reader::new(bytes);
        let [kind, version, flags, reserved] = reader.array().ok_or(OpenError::PeerLength)?;
        check_head(KIND_REQUEST, kind, version)?;
        if flags & !FLAG_FORWARDED != 0 || reserved != 0 {
            return Err(OpenError::PeerFlags { flags, reserved });
        }
        let timestamp_ns = reader.u64().ok_or(OpenError::PeerLength)?;
        let source = read_address(&mut reader)?;
        let destination = read_address(&mut reader)?;
        let noise = read_noise(&mut reader)?;
        read_signature(&mut reader)?;
        let forwarded = flags & FLAG_FORWARDED != 0;
        Ok(Self {
            forwarded,
            timestamp_ns,
            source,
            destination,
            noise,
        })
    }

    /// Verifies the signature of an encoded request by its source.
    ///
    /// # Errors
    ///
    /// What [`OpenRequest::decode`] returns, and [`OpenError::PeerSignature`].
    pub fn verify(bytes: &[u8]) -> Result<(), OpenError> {
        let request = OpenRequest::decode(bytes)?;
        let (body, signature) = split_signature(bytes)?;
        verify(&request.source.key, &signed_request(body), signature)
    }

    /// Returns the hash that names an encoded request, the forwarded flag taken as 0.
    #[must_use]
    pub fn hash(bytes: &[u8]) -> RequestHash {
        let (head, rest) = bytes.split_at(bytes.len().min(FLAGS_OFFSET));
        let mut hasher = Blake2s256::new_with_prefix(head);
        if let Some((_, rest)) = rest.split_first() {
            hasher.update([0]);
            hasher.update(rest);
        }
        RequestHash(hasher.finalize().into())
    }

    /// Sets the forwarded flag of an encoded request; hash and signature stay valid.
    ///
    /// # Panics
    ///
    /// When `bytes` is no request that decoded.
    pub fn mark_forwarded(bytes: &mut [u8]) {
        bytes[FLAGS_OFFSET] |= FLAG_FORWARDED;
    }

    /// Encodes the request, signed with `secret`, which is the source's.
    ///
    /// # Errors
    ///
    /// [`OpenError::LocalNoiseLength`] and [`OpenError::LocalDialect`].
    pub fn encode(&self, secret: &SecretKey) -> Result<Vec<u8>, OpenError> {
        let mut out = Vec::with_capacity(OPEN_REQUEST_FIXED + self.noise.len());
        out.extend_from_slice(&[KIND_REQUEST, VERSION, 0, 0]);
        out.extend_from_slice(&self.timestamp_ns.to_be_bytes());
        write_address(&self.source, &mut out)?;
        write_address(&self.destination, &mut out)?;
        write_noise(self.noise, &mut out)?;
        let signature = secret.sign(&signed_request(&out));
        out.extend_from_slice(&signature);
        if self.forwarded {
            Self::mark_forwarded(&mut out);
        }
        Ok(out)
    }
}

/// The answer to an [`OpenRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenResponse<'a> {
    /// 0 for accepted, else a [`Reason`]'s number; a number of a newer version is not an error.
    pub reason_code: u16,
    /// Which request it answers.
    pub request_hash: RequestHash,
    /// Noise KK message 2; empty in a refusal.
    pub noise: &'a [u8],
}

impl<'a> OpenResponse<'a> {
    /// Decodes a response. The signature is not verified.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`OpenError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, OpenError> {
        let mut reader = Reader::new(bytes);
        let [kind, version] = reader.array().ok_or(OpenError::PeerLength)?;
        check_head(KIND_RESPONSE, kind, version)?;
        let reason_code = reader.u16().ok_or(OpenError::PeerLength)?;
        let request_hash = RequestHash(reader.array().ok_or(OpenError::PeerLength)?);
        let noise = read_noise(&mut reader)?;
        read_signature(&mut reader)?;
        Ok(Self {
            reason_code,
            request_hash,
            noise,
        })
    }

    /// Verifies the signature of an encoded response by `key`, the destination's.
    ///
    /// # Errors
    ///
    /// What [`OpenResponse::decode`] returns, and [`OpenError::PeerSignature`].
    pub fn verify(bytes: &[u8], key: &PublicKey) -> Result<(), OpenError> {
        OpenResponse::decode(bytes)?;
        let (body, signature) = split_signature(bytes)?;
        verify(key, &signed_response(body), signature)
    }

    /// Returns whether an encoded response carries a signature: the destination's answers do, a
    /// relay's refusals do not and are trusted as much as the session they came over.
    #[must_use]
    pub fn is_signed(bytes: &[u8]) -> bool {
        split_signature(bytes).is_ok_and(|(_, signature)| *signature != [0; SIGNATURE_LEN])
    }

    /// Encodes the response, signed with `secret`, which is the destination's.
    ///
    /// # Errors
    ///
    /// [`OpenError::LocalNoiseLength`].
    pub fn encode(&self, secret: &SecretKey) -> Result<Vec<u8>, OpenError> {
        let mut out = self.encode_body()?;
        let signature = secret.sign(&signed_response(&out));
        out.extend_from_slice(&signature);
        Ok(out)
    }

    /// Returns a relay's refusal: no Noise message, a signature of zeros.
    #[must_use]
    pub fn encode_refusal(request_hash: RequestHash, reason: Reason) -> Vec<u8> {
        let mut out = Vec::with_capacity(OPEN_RESPONSE_FIXED);
        out.extend_from_slice(&[KIND_RESPONSE, VERSION]);
        out.extend_from_slice(&reason.code().to_be_bytes());
        out.extend_from_slice(&request_hash.0);
        out.extend_from_slice(&[0; 2 + SIGNATURE_LEN]);
        out
    }

    /// Returns whether the open was accepted.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.reason_code == Reason::Accepted.code()
    }

    fn encode_body(&self) -> Result<Vec<u8>, OpenError> {
        let mut out = Vec::with_capacity(OPEN_RESPONSE_FIXED + self.noise.len());
        out.extend_from_slice(&[KIND_RESPONSE, VERSION]);
        out.extend_from_slice(&self.reason_code.to_be_bytes());
        out.extend_from_slice(&self.request_hash.0);
        write_noise(self.noise, &mut out)?;
        Ok(out)
    }
}

/// Why an open object is not encoded, not decoded or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A key of another dialect has no place in this layout.
    #[error("address of another dialect")]
    LocalDialect,
    /// The Noise message is longer than [`OPEN_NOISE_MAX`].
    #[error("noise message of {have} bytes is longer than {OPEN_NOISE_MAX}")]
    LocalNoiseLength {
        /// Its bytes.
        have: usize,
    },
    /// An object of the dmsg dialect is none.
    #[error(transparent)]
    PeerDmsg(#[from] dmsg::open::OpenError),
    /// An undefined flag or the reserved byte is set.
    #[error("open request with flags {flags:#04x}, reserved {reserved:#04x}")]
    PeerFlags {
        /// The flags.
        flags: u8,
        /// The reserved byte.
        reserved: u8,
    },
    /// Another kind of object.
    #[error("object of kind {0:#04x} where an open object was due")]
    PeerKind(u8),
    /// Too few or too many bytes.
    #[error("open object has the wrong length")]
    PeerLength,
    /// The Noise message is longer than [`OPEN_NOISE_MAX`].
    #[error("noise message of {0} bytes is longer than {OPEN_NOISE_MAX}")]
    PeerNoiseLength(u16),
    /// The signature, or the key it should be of, is bad.
    #[error("open object is not signed by its author")]
    PeerSignature(#[source] KeyError),
    /// Another version.
    #[error("open object of version {0}")]
    PeerVersion(u8),
}

impl OpenError {
    /// Returns the reason the open is refused with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerDmsg(error) => error.reason(),
            Self::PeerSignature(_) => Reason::BadSignature,
            Self::PeerVersion(_) => Reason::Version,
            Self::LocalDialect
            | Self::LocalNoiseLength { .. }
            | Self::PeerFlags { .. }
            | Self::PeerKind(_)
            | Self::PeerLength
            | Self::PeerNoiseLength(_) => Reason::ProtocolError,
        }
    }
}

const fn check_head(expected: u8, kind: u8, version: u8) -> Result<(), OpenError> {
    if kind != expected {
        return Err(OpenError::PeerKind(kind));
    }
    if version != VERSION {
        return Err(OpenError::PeerVersion(version));
    }
    Ok(())
}

fn read_address(reader: &mut Reader<'_>) -> Result<Address, OpenError> {
    let key = reader.array().ok_or(OpenError::PeerLength)?;
    let port = reader.u16().ok_or(OpenError::PeerLength)?;
    Ok(Address::new(PublicKey::native(key), port))
}

fn read_noise<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], OpenError> {
    let length = reader.u16().ok_or(OpenError::PeerLength)?;
    if usize::from(length) > OPEN_NOISE_MAX {
        return Err(OpenError::PeerNoiseLength(length));
    }
    reader
        .slice(usize::from(length))
        .ok_or(OpenError::PeerLength)
}

/// Reads the signature, which ends the object.
fn read_signature(reader: &mut Reader<'_>) -> Result<(), OpenError> {
    reader
        .array::<SIGNATURE_LEN>()
        .ok_or(OpenError::PeerLength)?;
    if reader.is_empty() {
        Ok(())
    } else {
        Err(OpenError::PeerLength)
    }
}

fn write_address(address: &Address, out: &mut Vec<u8>) -> Result<(), OpenError> {
    let key = address
        .key
        .native_bytes()
        .map_err(|_| OpenError::LocalDialect)?;
    out.extend_from_slice(&key);
    out.extend_from_slice(&address.port.to_be_bytes());
    Ok(())
}

fn write_noise(noise: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
    let error = OpenError::LocalNoiseLength { have: noise.len() };
    if noise.len() > OPEN_NOISE_MAX {
        return Err(error);
    }
    let length = u16::try_from(noise.len()).map_err(|_| error)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(noise);
    Ok(())
}

fn split_signature(bytes: &[u8]) -> Result<(&[u8], &[u8; SIGNATURE_LEN]), OpenError> {
    bytes.split_last_chunk().ok_or(OpenError::PeerLength)
}

/// Returns what a request's signature covers: context, then the body with flags taken as 0.
fn signed_request(body: &[u8]) -> Vec<u8> {
    let mut message = [REQUEST_CONTEXT, body].concat();
    if let Some(flags) = message.get_mut(REQUEST_CONTEXT.len() + FLAGS_OFFSET) {
        *flags = 0;
    }
    message
}

/// Returns what a response's signature covers: context, then the body.
fn signed_response(body: &[u8]) -> Vec<u8> {
    [RESPONSE_CONTEXT, body].concat()
}

fn verify(
    key: &PublicKey,
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), OpenError> {
    key::verify(key, message, signature).map_err(OpenError::PeerSignature)
}

const VERSION: u8 = 1;
const FLAGS_OFFSET: usize = 2;
const FLAG_FORWARDED: u8 = 1;
const REQUEST_CONTEXT: &[u8] = b"ringway/1 open";
const RESPONSE_CONTEXT: &[u8] = b"ringway/1 open-ok";

#[cfg(test)]
mod tests;
