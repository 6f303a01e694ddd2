//! Payloads of the three handshake messages.
//!
//! Here: their layouts. Not here: the Noise messages around them.
//!
//! Layouts, big-endian. 1: `u8 version | u32 capabilities`. 2: `u8 version | u32 capabilities | u32
//! streams_max | u32 stream_window | u16 keepalive_s`. 3: `u8 role | [32] key | u16 n | n bytes of
//! extensions`, each `u16 type | u16 length | value`.
//! Source: docs/protocol.md section 2.

use alloc::vec::Vec;

use super::{CAPABILITIES, HandshakeError, VERSION};
use crate::bytes::Reader;
use crate::entry::{PeerEntry, RelayEntry};
use crate::key::{NATIVE_KEY_LEN, PublicKey};
use crate::limits::HANDSHAKE_MESSAGE_MAX;
use crate::noise::MESSAGE_OVERHEAD_MAX;

/// What a relay offers to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Capability bits; none is defined, unknown ones are ignored.
    pub capabilities: u32,
    /// Streams the session may have open.
    pub streams_max: u32,
    /// Initial window of a stream in bytes, each direction.
    pub stream_window: u32,
    /// Seconds of silence after which the relay sends a ping.
    pub keepalive_s: u16,
}

impl Offer {
    /// Decodes the payload of message 2.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, HandshakeError> {
        let mut reader = Reader::new(payload);
        check_version(&mut reader)?;
        let (Some(capabilities), Some(streams_max), Some(stream_window), Some(keepalive_s), true) = (
            reader.u32(),
            reader.u32(),
            reader.u32(),
            reader.u16(),
            reader.is_empty(),
        ) else {
            return Err(HandshakeError::PeerPayload);
        };
        Ok(Self {
            capabilities,
            streams_max,
            stream_window,
            keepalive_s,
        })
    }

    /// Encodes the payload of message 2.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OFFER_LEN);
        out.push(VERSION);
        out.extend_from_slice(&self.capabilities.to_be_bytes());
        out.extend_from_slice(&self.streams_max.to_be_bytes());
        out.extend_from_slice(&self.stream_window.to_be_bytes());
        out.extend_from_slice(&self.keepalive_s.to_be_bytes());
        out
    }
}

/// What the connecting party wants to be. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// A peer: opens and takes streams of its own.
    Peer = 0,
    /// A relay: the session is a link.
    Relay = 1,
}

impl Role {
    /// Returns the wire's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the role with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Peer),
            1 => Some(Self::Relay),
            _ => None,
        }
    }
}

/// Something a peer adds to its introduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub kind: ExtensionKind,
    /// Its bytes.
    pub value: Vec<u8>,
}

impl From<PeerEntry> for Extension {
    fn from(entry: PeerEntry) -> Self {
        Self {
            kind: ExtensionKind::Entry,
            value: entry.encode().to_vec(),
        }
    }
}

impl From<&RelayEntry> for Extension {
    fn from(entry: &RelayEntry) -> Self {
        Self {
            kind: ExtensionKind::Announcement,
            value: entry.encoded().to_vec(),
        }
    }
}

/// What an extension is. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ExtensionKind {
    /// Proof that the peer knows the passphrase of a private relay.
    Passphrase = 1,
    /// A relay's advertised address.
    Announcement = 2,
    /// The origin of a WebSocket; reserved.
    WebSocketOrigin = 3,
    /// A peer's signed word that it is at this relay (`entry`).
    Entry = 4,
}

impl ExtensionKind {
    /// Returns the wire's number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Returns the kind with this number.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Passphrase),
            2 => Some(Self::Announcement),
            3 => Some(Self::WebSocketOrigin),
            4 => Some(Self::Entry),
            _ => None,
        }
    }
}

/// Encodes the payload of message 1.
pub(super) const fn encode_hello() -> [u8; 5] {
    let [c3, c2, c1, c0] = CAPABILITIES.to_be_bytes();
    [VERSION, c3, c2, c1, c0]
}

/// Decodes the payload of message 1 and returns the capabilities.
pub(super) fn decode_hello(payload: &[u8]) -> Result<u32, HandshakeError> {
    let mut reader = Reader::new(payload);
    check_version(&mut reader)?;
    let (Some(capabilities), true) = (reader.u32(), reader.is_empty()) else {
        return Err(HandshakeError::PeerPayload);
    };
    Ok(capabilities)
}

/// Encodes the payload of message 3.
pub(super) fn encode_introduction(
    role: Role,
    key: &PublicKey,
    extensions: &[Extension],
) -> Result<Vec<u8>, HandshakeError> {
    let mut out = Vec::with_capacity(INTRODUCTION_FIXED);
    out.push(role.code());
    out.extend_from_slice(&key.native_bytes()?);
    out.extend_from_slice(&[0; 2]);
    for extension in extensions {
        append(&mut out, extension.kind, &extension.value)?;
    }
    Ok(out)
}

/// Appends the token that proves knowledge of a passphrase to the payload of message 3.
pub(super) fn append_passphrase(out: &mut Vec<u8>, token: &[u8; 32]) -> Result<(), HandshakeError> {
    append(out, ExtensionKind::Passphrase, token)
}

/// Decodes the payload of message 3; extensions of unknown types are skipped.
pub(super) fn decode_introduction(
    payload: &[u8],
) -> Result<(Role, [u8; NATIVE_KEY_LEN], Vec<Extension>), HandshakeError> {
    let mut reader = Reader::new(payload);
    let role = reader.u8().ok_or(HandshakeError::PeerPayload)?;
    let key = reader.array().ok_or(HandshakeError::PeerPayload)?;
    let length = reader.u16().ok_or(HandshakeError::PeerPayload)?;
    let encoded = reader
        .slice(usize::from(length))
        .ok_or(HandshakeError::PeerPayload)?;
    if !reader.is_empty() {
        return Err(HandshakeError::PeerPayload);
    }
    let role = Role::from_code(role).ok_or(HandshakeError::PeerRole(role))?;
    Ok((role, key, decode_extensions(encoded)?))
}

fn decode_extensions(encoded: &[u8]) -> Result<Vec<Extension>, HandshakeError> {
    let mut reader = Reader::new(encoded);
    let mut extensions = Vec::new();
    // Bound: four bytes or more a step, at most HANDSHAKE_MESSAGE_MAX in all.
    while !reader.is_empty() {
        let (Some(code), Some(length)) = (reader.u16(), reader.u16()) else {
            return Err(HandshakeError::PeerPayload);
        };
        let value = reader
            .slice(usize::from(length))
            .ok_or(HandshakeError::PeerPayload)?;
        if let Some(kind) = ExtensionKind::from_code(code) {
            extensions.push(Extension {
                kind,
                value: value.to_vec(),
            });
        }
    }
    Ok(extensions)
}

/// Appends an extension to an introduction and corrects its length field.
fn append(out: &mut Vec<u8>, kind: ExtensionKind, value: &[u8]) -> Result<(), HandshakeError> {
    let have = out.len() - INTRODUCTION_FIXED + 4 + value.len();
    let error = HandshakeError::LocalExtensions { have };
    if INTRODUCTION_FIXED + have > HANDSHAKE_MESSAGE_MAX - MESSAGE_OVERHEAD_MAX {
        return Err(error);
    }
    let value_len = u16::try_from(value.len()).map_err(|_| error)?;
    let all_len = u16::try_from(have).map_err(|_| error)?;
    out.extend_from_slice(&kind.code().to_be_bytes());
    out.extend_from_slice(&value_len.to_be_bytes());
    out.extend_from_slice(value);
    out[INTRODUCTION_FIXED - 2..INTRODUCTION_FIXED].copy_from_slice(&all_len.to_be_bytes());
    Ok(())
}

fn check_version(reader: &mut Reader<'_>) -> Result<(), HandshakeError> {
    match reader.u8() {
        Some(VERSION) => Ok(()),
        Some(version) => Err(HandshakeError::PeerVersion(version)),
        None => Err(HandshakeError::PeerPayload),
    }
}

const OFFER_LEN: usize = 15;
/// Bytes of an introduction without extensions: role, key, extension length.
const INTRODUCTION_FIXED: usize = 1 + NATIVE_KEY_LEN + 2;
