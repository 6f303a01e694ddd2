//! Entries: signed records of where a party is reachable.
//!
//! A peer signs which relay it has a session with and hands that over in its handshake; a relay signs where
//! it listens. Both stand in a registry that everybody in the fleet may read and write: the signature keeps
//! it from naming a relay that the peer never went to, the sequence from bringing back what was true once.
//!
//! Here: layouts and signatures. Not here: who keeps entries and for how long, which of two is newer for a
//! reader (`sequence` says so, the reader remembers).
//!
//! Layouts, big-endian. Of a peer: `u64 sequence | [64] signature`, the two keys being known where it stands.
//! Of a relay: `u8 version = 1 | [32] key | u64 epoch | u8 family | address | u16 port | [64] signature`; the
//! family is 0 (no address, no port: the relay only dials out), 4 or 6.
//! Source: docs/protocol.md section 6.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use crate::bytes::Reader;
use crate::key::{self, KeyError, NATIVE_KEY_LEN, PublicKey, SIGNATURE_LEN, SecretKey};
use crate::limits::PEER_ENTRY_LEN;
use crate::reason::Reason;

/// A peer's word on the relay it has a session with. Whether it is signed by the peer is unknown until
/// [`PeerEntry::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Greater in each entry of the peer's: nanoseconds since 1970 when it began the session.
    pub sequence: u64,
    signature: [u8; SIGNATURE_LEN],
}

impl PeerEntry {
    /// Returns the entry of the party with `secret` at `relay`.
    ///
    /// # Errors
    ///
    /// [`KeyError::LocalDialect`] when the relay's key is of another dialect.
    pub fn sign(secret: &SecretKey, relay: &PublicKey, sequence: u64) -> Result<Self, KeyError> {
        let text = peer_text(&secret.public(), relay, sequence)?;
        Ok(Self {
            sequence,
            signature: secret.sign(&text),
        })
    }

    /// Decodes an entry; it is not verified.
    ///
    /// # Errors
    ///
    /// [`EntryError::PeerLength`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut reader = Reader::new(bytes);
        let (Some(sequence), Some(signature), true) =
            (reader.u64(), reader.array(), reader.is_empty())
        else {
            return Err(EntryError::PeerLength { have: bytes.len() });
        };
        Ok(Self {
            sequence,
            signature,
        })
    }

    /// Returns the bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; PEER_ENTRY_LEN] {
        let mut out = [0; PEER_ENTRY_LEN];
        let (sequence, signature) = out.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        signature.copy_from_slice(&self.signature);
        out
    }

    /// Verifies that `peer` has said that it is at `relay`.
    ///
    /// # Errors
    ///
    /// [`EntryError::Key`]: the signature is another's, or a key is none.
    pub fn verify(&self, peer: &PublicKey, relay: &PublicKey) -> Result<(), EntryError> {
        let text = peer_text(peer, relay, self.sequence)?;
        Ok(key::verify(peer, &text, &self.signature)?)
    }
}

/// A relay's word on itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEntry {
    /// The relay.
    pub relay: PublicKey,
    /// Greater with each start of the relay: nanoseconds since 1970 when it started. What it wrote with an
    /// older one is void.
    pub epoch: u64,
    /// Where other relays reach it; none if it only dials out.
    pub address: Option<SocketAddr>,
    encoded: Vec<u8>,
}

impl RelayEntry {
    /// Returns the entry of the relay with `secret`.
    ///
    /// # Errors
    ///
    /// [`KeyError::LocalDialect`] when the key is of another dialect.
    pub fn sign(
        secret: &SecretKey,
        epoch: u64,
        address: Option<SocketAddr>,
    ) -> Result<Self, KeyError> {
        let relay = secret.public();
        let mut encoded = Vec::with_capacity(RELAY_ENTRY_LEN_MAX);
        encoded.push(VERSION);
        encoded.extend_from_slice(&relay.native_bytes()?);
        encoded.extend_from_slice(&epoch.to_be_bytes());
        match address {
            None => encoded.push(0),
            Some(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        encoded.push(4);
                        encoded.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        encoded.push(6);
                        encoded.extend_from_slice(&ip.octets());
                    }
                }
                encoded.extend_from_slice(&address.port().to_be_bytes());
            }
        }
        let signature = secret.sign(&relay_text(&encoded));
        encoded.extend_from_slice(&signature);
        Ok(Self {
            relay,
            epoch,
            address,
            encoded,
        })
    }

    /// Decodes an entry and verifies its signature.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`EntryError`], and [`EntryError::Key`] when the signature is another's.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let wrong = EntryError::PeerLength { have: bytes.len() };
        let mut reader = Reader::new(bytes);
        let version = reader.u8().ok_or(wrong)?;
        if version != VERSION {
            return Err(EntryError::PeerVersion(version));
        }
        let relay = PublicKey::native(reader.array::<NATIVE_KEY_LEN>().ok_or(wrong)?);
        let epoch = reader.u64().ok_or(wrong)?;
        let ip = match reader.u8().ok_or(wrong)? {
            0 => None,
            4 => Some(IpAddr::from(Ipv4Addr::from(
                reader.array::<4>().ok_or(wrong)?,
            ))),
            6 => Some(IpAddr::from(Ipv6Addr::from(
                reader.array::<16>().ok_or(wrong)?,
            ))),
            family => return Err(EntryError::PeerFamily(family)),
        };
        let address = match ip {
            None => None,
            Some(ip) => Some(SocketAddr::new(ip, reader.u16().ok_or(wrong)?)),
        };
        let signature: [u8; SIGNATURE_LEN] = reader.array().ok_or(wrong)?;
        if !reader.is_empty() {
            return Err(wrong);
        }
        let body = bytes.len() - SIGNATURE_LEN;
        let body = bytes.get(..body).unwrap_or_default();
        key::verify(&relay, &relay_text(body), &signature)?;
        Ok(Self {
            relay,
            epoch,
            address,
            encoded: bytes.to_vec(),
        })
    }

    /// Returns the bytes.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A key is none, or the signature does not verify.
    #[error("entry: {0}")]
    Key(#[from] KeyError),
    /// Unknown family of addresses.
    #[error("entry with address family {0}")]
    PeerFamily(u8),
    /// Too short or too long.
    #[error("entry of {have} bytes")]
    PeerLength {
        /// Bytes.
        have: usize,
    },
    /// Another version.
    #[error("entry of version {0}")]
    PeerVersion(u8),
}

impl EntryError {
    /// Returns the reason with the wire's number.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Key(error) => error.reason(),
            Self::PeerVersion(_) => Reason::Version,
            Self::PeerFamily(_) | Self::PeerLength { .. } => Reason::ProtocolError,
        }
    }
}

/// Version byte of a relay's entry.
const VERSION: u8 = 1;

/// Bytes of the longest entry of a relay.
const RELAY_ENTRY_LEN_MAX: usize = 1 + NATIVE_KEY_LEN + 8 + 1 + 16 + 2 + SIGNATURE_LEN;

/// Returns what a peer signs.
fn peer_text(peer: &PublicKey, relay: &PublicKey, sequence: u64) -> Result<Vec<u8>, KeyError> {
    let mut text = Vec::with_capacity(PEER_CONTEXT.len() + 2 * NATIVE_KEY_LEN + 8);
    text.extend_from_slice(PEER_CONTEXT);
    text.extend_from_slice(&peer.native_bytes()?);
    text.extend_from_slice(&relay.native_bytes()?);
    text.extend_from_slice(&sequence.to_be_bytes());
    Ok(text)
}

/// Returns what a relay signs.
fn relay_text(body: &[u8]) -> Vec<u8> {
    [RELAY_CONTEXT, body].concat()
}

/// What a signature of a peer's entry begins with, so that no signature of another object is one.
const PEER_CONTEXT: &[u8] = b"ringway/1 entry";

/// The same of a relay's entry.
const RELAY_CONTEXT: &[u8] = b"ringway/1 relay";

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: SecretKey = SecretKey::from_seed([1; 32]);
    const RELAY: SecretKey = SecretKey::from_seed([2; 32]);
    const OTHER: SecretKey = SecretKey::from_seed([3; 32]);

    #[test]
    fn peer_entry_is_believed_of_its_peer_at_its_relay_alone() {
        let entry = PeerEntry::sign(&PEER, &RELAY.public(), 7).unwrap();
        let entry = PeerEntry::decode(&entry.encode()).unwrap();
        assert_eq!(entry.verify(&PEER.public(), &RELAY.public()), Ok(()));
        let forged = Err(EntryError::Key(KeyError::PeerSignature));
        assert_eq!(entry.verify(&PEER.public(), &OTHER.public()), forged);
        assert_eq!(entry.verify(&OTHER.public(), &RELAY.public()), forged);
        let later = PeerEntry {
            sequence: 8,
            ..entry
        };
        assert_eq!(later.verify(&PEER.public(), &RELAY.public()), forged);
    }

    #[test]
    fn every_bit_of_a_relay_entry_is_signed() {
        for address in [None, "192.0.2.1:7".parse().ok(), "[::1]:65535".parse().ok()] {
            let entry = RelayEntry::sign(&RELAY, 9, address).unwrap();
            assert_eq!(RelayEntry::decode(entry.encoded()), Ok(entry.clone()));
            for bit in 0..entry.encoded().len() * 8 {
                let mut bytes = entry.encoded().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(RelayEntry::decode(&bytes).is_err(), "{address:?} {bit}");
            }
            for end in 0..entry.encoded().len() {
                assert!(RelayEntry::decode(&entry.encoded()[..end]).is_err());
            }
            let longer = [entry.encoded(), &[0]].concat();
            assert!(RelayEntry::decode(&longer).is_err());
        }
    }

    #[test]
    fn peer_entry_of_another_length_is_none() {
        let entry = PeerEntry::sign(&PEER, &RELAY.public(), 7).unwrap().encode();
        for end in 0..entry.len() {
            let have = end;
            let wrong = Err(EntryError::PeerLength { have });
            assert_eq!(PeerEntry::decode(&entry[..end]), wrong);
        }
    }
}
