//! The two objects that open a stream, dmsg dialect, and the one by which a server says that it is one.
//!
//! Here: their fields, signatures and hash, and what a relay checks. Not here: sealing them, the Noise
//! messages inside, who decides.
//!
//! An object is `[65] signature | gob`; the signature covers the gob, the hash of a request both. Objects
//! come in two forms: those of 2024, and those of 2026 with more fields, which are written only when one of
//! these is set. Every field that is zero is absent, and fields nobody here has heard of are left out.
//! Bounds: [`DMSG_PLAIN_MAX`] for an object, [`DMSG_OPEN_NOISE_MAX`] for a Noise message.
//! Source: docs/dmsg.md "Open objects"; vectors of the Go implementation in `proto/testdata/dmsg.txt`.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::gob::{self, GobError, StructWriter, Value};
use super::key::{self, KEY_LEN, SIGNATURE_LEN, SecretKey, Signature};
use crate::dialect::{Dialect, RequestHash};
use crate::key::{Address, KeyError, PublicKey};
use crate::limits::{DMSG_GEO_TEXT_MAX, DMSG_OPEN_NOISE_MAX, DMSG_PLAIN_MAX};
use crate::reason::Reason;

pub use self::announce::PeerAnnounce;
pub use self::response::{Geo, StreamResponse};

mod announce;
pub mod code;
mod response;
mod types;

/// The first object on a stream: who wants to talk to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRequest<'a> {
    /// When it was made, nanoseconds since 1970.
    pub timestamp_ns: i64,
    /// Who asks.
    pub source: Address,
    /// Who is asked.
    pub destination: Address,
    /// Whether the source asks the relay for its own IP address; then the destination is the relay.
    pub wants_ip: bool,
    /// Whether it also asks where on earth that is; clients of 2026 do.
    pub wants_geo: bool,
    /// Noise KK message 1; empty when the relay is asked.
    pub noise: &'a [u8],
}

impl<'a> StreamRequest<'a> {
    /// Decodes a request and checks its fields as a server does. The signature is not verified.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`OpenError`].
    pub fn decode(signed: &'a [u8]) -> Result<Self, OpenError> {
        let (_, body) = split_signature(signed)?;
        let request = gob::decode(body, Self::read)?;
        request.check()?;
        Ok(request)
    }

    /// Verifies the signature of an encoded request by its source.
    ///
    /// # Errors
    ///
    /// What [`StreamRequest::decode`] returns, and [`OpenError::PeerSignature`].
    pub fn verify(signed: &[u8]) -> Result<(), OpenError> {
        let request = StreamRequest::decode(signed)?;
        verify(signed, &request.source.key)
    }

    /// Returns the hash that names an encoded request.
    #[must_use]
    pub fn hash(signed: &[u8]) -> RequestHash {
        RequestHash(key::hash(signed))
    }

    /// Encodes the request, signed with `secret`, which is the source's.
    ///
    /// # Errors
    ///
    /// [`OpenError::LocalNoiseLength`] and [`OpenError::LocalDialect`].
    pub fn encode(&self, secret: &SecretKey) -> Result<Vec<u8>, OpenError> {
        check_noise(self.noise)?;
        for address in [&self.source, &self.destination] {
            check_dialect(&address.key)?;
        }
        let types = if self.wants_geo {
            &types::REQUEST
        } else {
            &types::REQUEST_2024
        };
        // The field that is not in both forms stands before the last one.
        let last = if self.wants_geo { 5 } else { 4 };
        Ok(sign(secret, types, |fields| {
            fields.int(0, self.timestamp_ns);
            fields.structure(1, |address| write_address(&self.source, address));
            fields.structure(2, |address| write_address(&self.destination, address));
            fields.bool(3, self.wants_ip);
            if self.wants_geo {
                fields.bool(4, true);
            }
            fields.bytes(last, self.noise);
        }))
    }

    fn read(value: Value<'_, 'a>) -> Result<Self, OpenError> {
        let nobody = Address::new(PublicKey::dmsg(NULL_KEY), 0);
        let mut request = Self {
            timestamp_ns: 0,
            source: nobody,
            destination: nobody,
            wants_ip: false,
            wants_geo: false,
            noise: &[],
        };
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::REQUEST_NAMES)? {
            match field.name {
                "Timestamp" => request.timestamp_ns = field.value.int()?,
                "SrcAddr" => request.source = read_address(field.value)?,
                "DstAddr" => request.destination = read_address(field.value)?,
                "IPinfo" => request.wants_ip = field.value.bool()?,
                "GeoInfo" => request.wants_geo = field.value.bool()?,
                _ => request.noise = read_noise(field.value)?,
            }
        }
        Ok(request)
    }

    /// Checks the fields in the order in which a server of dmsg does.
    fn check(&self) -> Result<(), OpenError> {
        if is_null(&self.source.key) {
            return Err(OpenError::PeerSourceKey);
        }
        if self.source.port == 0 {
            return Err(OpenError::PeerSourcePort);
        }
        if is_null(&self.destination.key) {
            return Err(OpenError::PeerDestinationKey);
        }
        if self.destination.port == 0 {
            return Err(OpenError::PeerDestinationPort);
        }
        if self.timestamp_ns <= 0 {
            return Err(OpenError::PeerTimestamp(self.timestamp_ns));
        }
        Ok(())
    }
}

/// Why an open object is not encoded, not decoded or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A key of another dialect has no place in these objects.
    #[error("address of another dialect")]
    LocalDialect,
    /// The Noise message is longer than [`DMSG_OPEN_NOISE_MAX`].
    #[error("noise message of {have} bytes is longer than {DMSG_OPEN_NOISE_MAX}")]
    LocalNoiseLength {
        /// Its bytes.
        have: usize,
    },
    /// The name of a country or region is longer than [`DMSG_GEO_TEXT_MAX`].
    #[error("name of a country or region of {have} bytes is longer than {DMSG_GEO_TEXT_MAX}")]
    LocalGeo {
        /// Its bytes.
        have: usize,
    },
    /// The request goes to nobody.
    #[error("open request without the key of its destination")]
    PeerDestinationKey,
    /// The request goes to no port.
    #[error("open request without the port of its destination")]
    PeerDestinationPort,
    /// The object behind the signature is none.
    #[error("open object: {0}")]
    PeerGob(#[from] GobError),
    /// An IP address is neither 4 nor 16 bytes long.
    #[error("open response with an IP address of {have} bytes")]
    PeerIpLength {
        /// Its bytes.
        have: usize,
    },
    /// A key has another length than [`KEY_LEN`].
    #[error("open object with a key of {have} bytes")]
    PeerKeyLength {
        /// Its bytes.
        have: usize,
    },
    /// Too few bytes for a signature and an object, or more than [`DMSG_PLAIN_MAX`].
    #[error("open object of {have} bytes")]
    PeerLength {
        /// Bytes.
        have: usize,
    },
    /// The Noise message is longer than [`DMSG_OPEN_NOISE_MAX`].
    #[error("noise message of {have} bytes is longer than {DMSG_OPEN_NOISE_MAX}")]
    PeerNoiseLength {
        /// Its bytes.
        have: usize,
    },
    /// The name of a country or region is no text, or is longer than [`DMSG_GEO_TEXT_MAX`].
    #[error("open response with a country or region that is no text")]
    PeerGeo,
    /// The signature, or the key it should be of, is bad.
    #[error("open object is not signed by its author")]
    PeerSignature(#[source] KeyError),
    /// The object comes from nobody.
    #[error("open object without the key of its source")]
    PeerSourceKey,
    /// The request comes from no port.
    #[error("open request without the port of its source")]
    PeerSourcePort,
    /// The object was made in 1970 or earlier.
    #[error("open object of {0} ns since 1970")]
    PeerTimestamp(i64),
}

impl OpenError {
    /// Returns the reason the open is refused with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerGob(error) => error.reason(),
            Self::PeerSignature(_) => Reason::BadSignature,
            Self::PeerTimestamp(_) => Reason::StaleTimestamp,
            Self::LocalDialect
            | Self::LocalNoiseLength { .. }
            | Self::LocalGeo { .. }
            | Self::PeerDestinationKey
            | Self::PeerDestinationPort
            | Self::PeerIpLength { .. }
            | Self::PeerKeyLength { .. }
            | Self::PeerLength { .. }
            | Self::PeerNoiseLength { .. }
            | Self::PeerGeo
            | Self::PeerSourceKey
            | Self::PeerSourcePort => Reason::ProtocolError,
        }
    }

    /// Returns the number that Go's implementation has for it.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::PeerSignature(_) => code::BAD_SIGNATURE,
            Self::PeerTimestamp(_) => code::TIMESTAMP,
            Self::PeerSourceKey => code::SOURCE_KEY,
            Self::PeerDestinationKey => code::DESTINATION_KEY,
            Self::PeerSourcePort => code::SOURCE_PORT,
            Self::PeerDestinationPort => code::DESTINATION_PORT,
            Self::LocalDialect
            | Self::LocalNoiseLength { .. }
            | Self::LocalGeo { .. }
            | Self::PeerGob(_)
            | Self::PeerIpLength { .. }
            | Self::PeerKeyLength { .. }
            | Self::PeerLength { .. }
            | Self::PeerNoiseLength { .. }
            | Self::PeerGeo => code::BAD_OBJECT,
        }
    }
}

/// Splits an object into its signature and what that covers.
fn split_signature(signed: &[u8]) -> Result<(&[u8; SIGNATURE_LEN], &[u8]), OpenError> {
    let wrong = OpenError::PeerLength { have: signed.len() };
    if signed.len() > DMSG_PLAIN_MAX {
        return Err(wrong);
    }
    signed
        .split_first_chunk()
        .filter(|(_, body)| !body.is_empty())
        .ok_or(wrong)
}

fn verify(signed: &[u8], author: &PublicKey) -> Result<(), OpenError> {
    let (signature, body) = split_signature(signed)?;
    key::verify(author, body, &Signature::from_bytes(*signature)).map_err(OpenError::PeerSignature)
}

/// Returns the object with these fields, signed.
fn sign(
    secret: &SecretKey,
    types: &[gob::Definition],
    fields: impl FnOnce(&mut StructWriter<'_>),
) -> Vec<u8> {
    let mut signed = Vec::from([0; SIGNATURE_LEN]);
    gob::Encoder::new().write_struct(types, &mut signed, fields);
    if let Some((head, body)) = signed.split_first_chunk_mut() {
        *head = *secret.sign(body).as_bytes();
    }
    signed
}

fn read_address(value: Value<'_, '_>) -> Result<Address, OpenError> {
    let mut address = Address::new(PublicKey::dmsg(NULL_KEY), 0);
    let mut fields = value.fields()?;
    while let Some(field) = fields.next_field(&types::ADDRESS_NAMES)? {
        match field.name {
            "PK" => address.key = read_key(field.value)?,
            _ => address.port = field.value.uint()?,
        }
    }
    Ok(address)
}

fn read_key(value: Value<'_, '_>) -> Result<PublicKey, OpenError> {
    let bytes = value.opaque()?;
    let key = <[u8; KEY_LEN]>::try_from(bytes);
    key.map(PublicKey::dmsg)
        .map_err(|_| OpenError::PeerKeyLength { have: bytes.len() })
}

fn read_noise<'a>(value: Value<'_, 'a>) -> Result<&'a [u8], OpenError> {
    let noise = value.bytes()?;
    if noise.len() > DMSG_OPEN_NOISE_MAX {
        return Err(OpenError::PeerNoiseLength { have: noise.len() });
    }
    Ok(noise)
}

/// Reads an address of 4 or 16 bytes; an IPv4 address in the form of 16 bytes is one of IPv4.
fn read_ip(value: Value<'_, '_>) -> Result<IpAddr, OpenError> {
    let bytes = value.bytes()?;
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes)
        .map(|bytes| Ipv6Addr::from(bytes).to_canonical())
        .map_err(|_| OpenError::PeerIpLength { have: bytes.len() })
}

fn read_geo_text<'a>(value: Value<'_, 'a>) -> Result<&'a str, OpenError> {
    core::str::from_utf8(value.text()?)
        .ok()
        .filter(|text| text.len() <= DMSG_GEO_TEXT_MAX)
        .ok_or(OpenError::PeerGeo)
}

fn write_address(address: &Address, fields: &mut StructWriter<'_>) {
    fields.opaque(0, address.key.as_bytes());
    fields.uint(1, u64::from(address.port));
}

const fn check_noise(noise: &[u8]) -> Result<(), OpenError> {
    if noise.len() > DMSG_OPEN_NOISE_MAX {
        return Err(OpenError::LocalNoiseLength { have: noise.len() });
    }
    Ok(())
}

fn check_dialect(key: &PublicKey) -> Result<(), OpenError> {
    if key.dialect() == Dialect::Dmsg {
        Ok(())
    } else {
        Err(OpenError::LocalDialect)
    }
}

fn is_null(key: &PublicKey) -> bool {
    *key == PublicKey::dmsg(NULL_KEY)
}

/// The key of nobody.
const NULL_KEY: [u8; KEY_LEN] = [0; KEY_LEN];
