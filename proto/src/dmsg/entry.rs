//! Entries of a dmsg discovery: signed records of servers and clients, as JSON.
//!
//! A server signs where it listens and how many sessions it still takes, a client which servers it has
//! sessions with. The signature is over the compact JSON of the entry without the field `signature`, so that
//! the order of the fields and which empty ones are left out are part of the wire.
//!
//! Here: layout, signature, the rules that an entry obeys alone and towards the one before it. Not here: who
//! keeps entries and for how long; what a discovery answers (`answer`).
//!
//! Invariant: what [`Entry::decode`] takes is within the bounds below, and encodes to the bytes that its
//! signature is over. Fields that are not listed here are dropped before that, so an entry that was signed
//! with one of them does not verify.
//! Bound: [`ENTRY_LEN_MAX`] bytes, [`DELEGATED_MAX`] servers of a client, [`ADDRESS_LEN_MAX`] bytes of a
//! text.
//! Source: docs/dmsg.md, the section on entries.

pub mod answer;

mod host;
mod object;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::key::{self, SecretKey, Signature};
use crate::key::{KEY_LEN_MAX, KeyError, PublicKey};
use crate::reason::Reason;

/// Longest entry as JSON, in bytes.
///
/// A client's entry has 400 bytes and 69 for each of its servers.
pub const ENTRY_LEN_MAX: usize = 65_536;

/// Most servers that a client may name: as many as a discovery names to a client at once.
pub const DELEGATED_MAX: usize = 512;

/// Longest text of an address, and of a server's type, which is a passphrase on its way to the discovery; in
/// bytes.
pub const ADDRESS_LEN_MAX: usize = 256;

/// Longest text of a version, a type of clients or a protocol, in bytes.
pub const NAME_LEN_MAX: usize = 64;

/// How old a server's entry may be when it is written.
pub const AGE_MAX: Duration = Duration::from_secs(60);

/// How far ahead of the discovery's clock a server's may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(5);

/// How long a server's entry stands: two refreshes.
pub const SERVER_TIME: Duration = Duration::from_secs(120);

/// How often a server refreshes its entry.
pub const SERVER_REFRESH: Duration = Duration::from_secs(60);

/// The version that entries are written with.
pub const VERSION: &str = "0.0.1";

/// The type of a client that runs a visor; a discovery lists those apart.
pub const CLIENT_TYPE_VISOR: &str = "visor";

/// A party's record in a discovery. The fields stand in the order of the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`VERSION`], or another's.
    #[serde(default)]
    pub version: String,
    /// Greater in each entry of the party.
    #[serde(default)]
    pub sequence: u64,
    /// When it was signed, nanoseconds since 1970; not smaller in a later entry.
    #[serde(default, rename = "timestamp")]
    pub timestamp_ns: i64,
    /// Whose it is. Zeros when the field was missing.
    #[serde(default = "null_key", rename = "static", deserialize_with = "read_key")]
    pub key: PublicKey,
    /// What it is as a client.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::read_optional"
    )]
    pub client: Option<Client>,
    /// What kind of client; empty when it does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    /// What it is as a server.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "object::read_optional"
    )]
    pub server: Option<Server>,
    /// 130 hex digits; empty before it was signed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// How it multiplexes its sessions; empty for yamux. Entries of 2024 do not have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
}

/// A client's part of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The servers it has sessions with. None and an empty list are different texts (`null`, `[]`).
    #[serde(default, deserialize_with = "read_keys")]
    pub delegated_servers: Option<Vec<PublicKey>>,
}

/// A server's part of an entry. What is not marked otherwise is of 2024, and the fields of 2026 are empty
/// then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Where it listens: `host:port`, of IPv4 if there are two.
    #[serde(default)]
    pub address: String,
    /// The same of IPv6 (2026).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address_v6: String,
    /// Where it listens for QUIC (2026).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address_udp: String,
    /// The same of IPv6 (2026).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address_udp_v6: String,
    /// Where it listens for WebSocket, a URL (2026).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address_ws: String,
    /// Sessions that it still takes; below zero is none.
    #[serde(default, rename = "availableSessions")]
    pub available_sessions: i64,
    /// Whose it is: the discovery's passphrase when it is written, [`answer::OFFICIAL`] or
    /// [`answer::COMMUNITY`] when it is read.
    #[serde(
        default,
        rename = "serverType",
        skip_serializing_if = "String::is_empty"
    )]
    pub server_type: String,
    /// Whether it helps to find others without a discovery (2026).
    #[serde(default, skip_serializing_if = "is_false")]
    pub dht_bootstrap: bool,
}

impl Entry {
    /// Returns an entry of a server, not yet signed.
    #[must_use]
    pub fn of_server(key: PublicKey, sequence: u64, timestamp_ns: i64, server: Server) -> Self {
        Self {
            server: Some(server),
            ..Self::of_nobody(key, sequence, timestamp_ns)
        }
    }

    /// Returns an entry of a client, not yet signed.
    #[must_use]
    pub fn of_client(
        key: PublicKey,
        sequence: u64,
        timestamp_ns: i64,
        servers: Vec<PublicKey>,
    ) -> Self {
        let delegated_servers = Some(servers);
        Self {
            client: Some(Client { delegated_servers }),
            ..Self::of_nobody(key, sequence, timestamp_ns)
        }
    }

    fn of_nobody(key: PublicKey, sequence: u64, timestamp_ns: i64) -> Self {
        Self {
            version: VERSION.to_string(),
            sequence,
            timestamp_ns,
            key,
            client: None,
            client_type: String::new(),
            server: None,
            signature: String::new(),
            protocol: String::new(),
        }
    }

    /// Decodes an entry. Its signature is not verified, and it may lack what [`Entry::validate`] asks for.
    ///
    /// # Errors
    ///
    /// [`EntryError::PeerLength`], [`EntryError::PeerJson`], [`EntryError::PeerText`] and
    /// [`EntryError::PeerServers`].
    pub fn decode(json: &[u8]) -> Result<Self, EntryError> {
        if json.len() > ENTRY_LEN_MAX {
            return Err(EntryError::PeerLength { have: json.len() });
        }
        let read = serde_json::from_slice(json).map_err(|_| EntryError::PeerJson);
        let object::Object(entry): object::Object<Self> = read?;
        entry.check_bounds()?;
        Ok(entry)
    }

    /// Returns the compact JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Texts and numbers in memory: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Signs the entry for the party with `secret`, whose key becomes the entry's.
    pub fn sign(&mut self, secret: &SecretKey) {
        self.key = secret.public();
        self.signature = secret.sign(&self.signed_text()).to_string();
    }

    /// Verifies that the party has signed this entry.
    ///
    /// # Errors
    ///
    /// [`EntryError::Key`]: the signature is another's or none at all, or the key is none.
    pub fn verify(&self) -> Result<(), EntryError> {
        let signature: Signature = self.signature.parse()?;
        Ok(key::verify(&self.key, &self.signed_text(), &signature)?)
    }

    /// Verifies the entry that was read from `json`, which may have fields that are not known here: they
    /// count when a reader looks at the text as it stands, and a discovery hands it on so.
    ///
    /// # Errors
    ///
    /// As [`Entry::verify`] does.
    pub fn verify_text(&self, json: &[u8]) -> Result<(), EntryError> {
        let Err(error) = self.verify() else {
            return Ok(());
        };
        let member = format!(",\"signature\":\"{}\"", self.signature);
        let text = str::from_utf8(json).map_err(|_| error)?;
        let (before, behind) = text.split_once(&member).ok_or(error)?;
        let signature: Signature = self.signature.parse()?;
        let signed = [before.as_bytes(), behind.as_bytes()].concat();
        Ok(key::verify(&self.key, &signed, &signature)?)
    }

    /// Checks what every entry has to have.
    ///
    /// # Errors
    ///
    /// The `PeerNo*` variants of [`EntryError`].
    pub fn validate(&self) -> Result<(), EntryError> {
        if self.version.is_empty() {
            Err(EntryError::PeerNoVersion)
        } else if self.signature.is_empty() {
            Err(EntryError::PeerNoSignature)
        } else if self.key == null_key() {
            Err(EntryError::PeerNoKey)
        } else if self.client.is_none() && self.server.is_none() {
            Err(EntryError::PeerNoPart)
        } else if self.server.as_ref().is_some_and(|s| s.address.is_empty()) {
            Err(EntryError::PeerNoAddress)
        } else {
            Ok(())
        }
    }

    /// Checks when the entry was signed, `now_ns` being nanoseconds since 1970. Only servers refresh theirs,
    /// so a client's may have any age.
    ///
    /// # Errors
    ///
    /// [`EntryError::PeerAge`].
    pub fn validate_age(&self, now_ns: i64) -> Result<(), EntryError> {
        let age_ns = i128::from(now_ns) - i128::from(self.timestamp_ns);
        let is_timely = (-nanos(AHEAD_MAX)..=nanos(AGE_MAX)).contains(&age_ns);
        match self.client.is_some() || is_timely {
            true => Ok(()),
            false => Err(EntryError::PeerAge),
        }
    }

    /// Checks that the entry may take the place of `before`, the party's last.
    ///
    /// # Errors
    ///
    /// [`EntryError::PeerSequence`] and [`EntryError::PeerTime`].
    pub fn validate_after(&self, before: &Self) -> Result<(), EntryError> {
        if self.sequence <= before.sequence {
            let (have, before) = (self.sequence, before.sequence);
            Err(EntryError::PeerSequence { have, before })
        } else if self.timestamp_ns < before.timestamp_ns {
            Err(EntryError::PeerTime)
        } else {
            Ok(())
        }
    }

    /// Returns whether a server says that it listens on this host only, or on no host.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        let server = self.server.as_ref();
        server.is_some_and(|server| host::is_loopback(&server.address))
    }

    /// Returns whether it is a visor's.
    #[must_use]
    pub fn is_visor(&self) -> bool {
        self.client_type == CLIENT_TYPE_VISOR
    }

    /// Returns the servers that a client names.
    #[must_use]
    pub fn delegated_servers(&self) -> &[PublicKey] {
        let client = self.client.as_ref();
        client.map_or(&[], |client| {
            client.delegated_servers.as_deref().unwrap_or_default()
        })
    }

    /// Returns what the signature is over.
    fn signed_text(&self) -> Vec<u8> {
        let unsigned = Self {
            signature: String::new(),
            ..self.clone()
        };
        unsigned.encode()
    }

    fn check_bounds(&self) -> Result<(), EntryError> {
        let servers = self.delegated_servers().len();
        if servers > DELEGATED_MAX {
            return Err(EntryError::PeerServers { have: servers });
        }
        check_text("version", &self.version, NAME_LEN_MAX)?;
        check_text("client_type", &self.client_type, NAME_LEN_MAX)?;
        check_text("protocol", &self.protocol, NAME_LEN_MAX)?;
        check_text("signature", &self.signature, ADDRESS_LEN_MAX)?;
        let Some(server) = &self.server else {
            return Ok(());
        };
        let texts = [
            ("address", &server.address),
            ("address_v6", &server.address_v6),
            ("address_udp", &server.address_udp),
            ("address_udp_v6", &server.address_udp_v6),
            ("address_ws", &server.address_ws),
            ("serverType", &server.server_type),
        ];
        texts
            .into_iter()
            .try_for_each(|(field, text)| check_text(field, text, ADDRESS_LEN_MAX))
    }
}

/// Reads a key of the dmsg dialect as its users write it: 66 hex digits of either case.
///
/// # Errors
///
/// As [`key::parse`] does.
pub fn parse_key(text: &str) -> Result<PublicKey, KeyError> {
    key::parse(&text.to_ascii_lowercase())
}

/// Why an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The signature or the key is none, or the signature is another's.
    #[error("entry: {0}")]
    Key(#[from] KeyError),
    /// A server's entry was signed too long ago, or in the future.
    #[error("entry was signed more than 60 s ago or more than 5 s ahead of the clock here")]
    PeerAge,
    /// No JSON, or not of this form.
    #[error("entry is no JSON of an entry")]
    PeerJson,
    /// Longer than [`ENTRY_LEN_MAX`].
    #[error("entry of {have} bytes")]
    PeerLength {
        /// Bytes.
        have: usize,
    },
    /// A server without an address.
    #[error("entry of a server without address")]
    PeerNoAddress,
    /// No key, or the one of zeros.
    #[error("entry without key")]
    PeerNoKey,
    /// Neither a client's nor a server's.
    #[error("entry of neither a client nor a server")]
    PeerNoPart,
    /// Not signed.
    #[error("entry without signature")]
    PeerNoSignature,
    /// No version.
    #[error("entry without version")]
    PeerNoVersion,
    /// Not newer than the one that stands.
    #[error("entry with sequence {have} after one with {before}")]
    PeerSequence {
        /// Of the entry.
        have: u64,
        /// Of the one that stands.
        before: u64,
    },
    /// More servers than [`DELEGATED_MAX`].
    #[error("entry of a client with {have} servers")]
    PeerServers {
        /// Servers.
        have: usize,
    },
    /// A text is too long, or has control characters, which no two programs write alike.
    #[error("entry whose {field} is too long or has control characters")]
    PeerText {
        /// Name of the field.
        field: &'static str,
    },
    /// Signed before the one that stands.
    #[error("entry that was signed before the one that stands")]
    PeerTime,
}

impl EntryError {
    /// Returns the reason with the wire's number.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Key(error) => error.reason(),
            Self::PeerNoSignature => Reason::BadSignature,
            Self::PeerSequence { .. } => Reason::Replay,
            Self::PeerAge | Self::PeerTime => Reason::StaleTimestamp,
            Self::PeerJson
            | Self::PeerLength { .. }
            | Self::PeerNoAddress
            | Self::PeerNoKey
            | Self::PeerNoPart
            | Self::PeerNoVersion
            | Self::PeerServers { .. }
            | Self::PeerText { .. } => Reason::ProtocolError,
        }
    }
}

/// Returns the key of nobody, which stands where none was given.
const fn null_key() -> PublicKey {
    PublicKey::dmsg([0; KEY_LEN_MAX])
}

/// Reads a key; a text of zeros, or of nothing, is the key of nobody.
fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
    let text = String::deserialize(deserializer)?;
    key_of(&text).map_err(serde::de::Error::custom)
}

fn read_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<PublicKey>>, D::Error> {
    let Some(texts) = Option::<Vec<String>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let keys: Result<_, _> = texts.iter().map(|text| key_of(text)).collect();
    keys.map(Some).map_err(serde::de::Error::custom)
}

fn key_of(text: &str) -> Result<PublicKey, KeyError> {
    match text.bytes().all(|digit| digit == b'0') {
        true => Ok(null_key()),
        false => parse_key(text),
    }
}

fn check_text(field: &'static str, text: &str, len_max: usize) -> Result<(), EntryError> {
    match text.len() <= len_max && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(EntryError::PeerText { field }),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field over by reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
