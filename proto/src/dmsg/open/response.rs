//! The answer to a request.
//!
//! Here: its fields, also those that a relay gives when it is asked itself. Not here: how fields are read and
//! written, and errors (`open`).
//!
//! A relay can accept nothing in the name of a destination and refuse nothing either: the opener believes
//! what the destination has signed. It resets what it refuses.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::types;
use super::{
    OpenError, check_noise, code, gob, read_geo_text, read_ip, read_noise, sign, split_signature,
    verify,
};
use crate::dialect::RequestHash;
use crate::dmsg::gob::{StructWriter, Value};
use crate::dmsg::key::SecretKey;
use crate::key::PublicKey;
use crate::limits::DMSG_GEO_TEXT_MAX;
use crate::reason::Reason;

/// The answer to a [`StreamRequest`](super::StreamRequest).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamResponse<'a> {
    /// Which request it answers.
    pub request_hash: RequestHash,
    /// Whether the open was accepted.
    pub is_accepted: bool,
    /// The address that the source has for the relay, when it asked for that.
    pub ip: Option<IpAddr>,
    /// Where on earth that is, when it asked for that as well.
    pub geo: Option<Geo<'a>>,
    /// Why it was not accepted; see [`code`].
    pub code: u16,
    /// Noise KK message 2; empty in a refusal and in an answer of a relay.
    pub noise: &'a [u8],
}

/// Where on earth something is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Geo<'a> {
    /// Code of the country, ISO 3166-1.
    pub country: &'a str,
    /// Code of the region, ISO 3166-2 without that of the country.
    pub region: &'a str,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

impl<'a> StreamResponse<'a> {
    /// Returns an answer that accepts, with Noise KK message 2.
    #[must_use]
    pub const fn accept(request_hash: RequestHash, noise: &'a [u8]) -> Self {
        Self {
            request_hash,
            is_accepted: true,
            ip: None,
            geo: None,
            code: 0,
            noise,
        }
    }

    /// Returns an answer that refuses with a number of [`code`].
    #[must_use]
    pub const fn refuse(request_hash: RequestHash, code: u16) -> Self {
        Self {
            is_accepted: false,
            code,
            ..Self::accept(request_hash, &[])
        }
    }

    /// Decodes a response. The signature is not verified.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`OpenError`].
    pub fn decode(signed: &'a [u8]) -> Result<Self, OpenError> {
        let (_, body) = split_signature(signed)?;
        gob::decode(body, Self::read)
    }

    /// Verifies the signature of an encoded response by `key`, the destination's.
    ///
    /// # Errors
    ///
    /// What [`StreamResponse::decode`] returns, and [`OpenError::PeerSignature`].
    pub fn verify(signed: &[u8], key: &PublicKey) -> Result<(), OpenError> {
        StreamResponse::decode(signed)?;
        verify(signed, key)
    }

    /// Encodes the response, signed with `secret`, which is the destination's.
    ///
    /// # Errors
    ///
    /// [`OpenError::LocalNoiseLength`] and [`OpenError::LocalGeo`].
    pub fn encode(&self, secret: &SecretKey) -> Result<Vec<u8>, OpenError> {
        check_noise(self.noise)?;
        let types = if let Some(geo) = &self.geo {
            geo.check()?;
            &types::RESPONSE
        } else {
            &types::RESPONSE_2024
        };
        Ok(sign(secret, types, |fields| {
            fields.byte_array(0, &self.request_hash.0);
            fields.bool(1, self.is_accepted);
            match self.ip {
                None => {}
                Some(IpAddr::V4(ip)) => fields.bytes(2, &ip.to_ipv6_mapped().octets()),
                Some(IpAddr::V6(ip)) => fields.bytes(2, &ip.octets()),
            }
            let next = match &self.geo {
                None => 3,
                Some(geo) => geo.write(fields),
            };
            fields.uint(next, u64::from(self.code));
            fields.bytes(next + 1, self.noise);
        }))
    }

    /// Returns the reason it gives: accepted, or why not.
    #[must_use]
    pub fn reason(&self) -> Reason {
        if self.is_accepted {
            Reason::Accepted
        } else {
            code::reason(self.code)
        }
    }

    fn read(value: Value<'_, 'a>) -> Result<Self, OpenError> {
        let mut response = Self::refuse(RequestHash([0; 32]), 0);
        let mut geo = Geo::default();
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::RESPONSE_NAMES)? {
            let value = field.value;
            match field.name {
                "ReqHash" => response.request_hash = RequestHash(value.byte_array()?),
                "Accepted" => response.is_accepted = value.bool()?,
                "IP" => response.ip = Some(read_ip(value)?),
                "GeoCountry" => geo.country = read_geo_text(value)?,
                "GeoRegion" => geo.region = read_geo_text(value)?,
                "GeoLat" => geo.latitude = value.float()?,
                "GeoLon" => geo.longitude = value.float()?,
                "ErrCode" => response.code = value.uint()?,
                _ => response.noise = read_noise(value)?,
            }
        }
        response.geo = (geo != Geo::default()).then_some(geo);
        Ok(response)
    }
}

impl Geo<'_> {
    fn check(&self) -> Result<(), OpenError> {
        for text in [self.country, self.region] {
            if text.len() > DMSG_GEO_TEXT_MAX {
                return Err(OpenError::LocalGeo { have: text.len() });
            }
        }
        Ok(())
    }

    /// Writes its fields and returns the number of the next one.
    fn write(&self, fields: &mut StructWriter<'_>) -> u64 {
        fields.text(3, self.country);
        fields.text(4, self.region);
        fields.float(5, self.latitude);
        fields.float(6, self.longitude);
        7
    }
}
