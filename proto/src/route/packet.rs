//! Packets: what neighbours on routes send each other.
//!
//! Here: the head of a packet and finding packets in bytes that arrive in any pieces. Not here: what the
//! ends say inside (sealed for each other), which packets are forwarded (the client's `router`).
//!
//! Layout, big-endian: `u32 route id | u8 kind | u16 length | payload`. The id is the receiver's, but of
//! [`PacketKind::Gone`]: there it is the one the receiver has been sending to.
//! Source: docs/routes.md.

use alloc::vec::Vec;

use thiserror::Error;

use super::RouteId;
use crate::bytes::Reader;
use crate::limits::{ROUTE_PACKET_HEAD, ROUTE_PACKET_PAYLOAD_MAX};
use crate::reason::Reason;
use crate::unread::Unread;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketKind {
    /// Bytes of the group's stream, sealed from end to end.
    Data = 0,
    /// Nothing but acknowledgements, sealed as well; keeps the rules on the way.
    KeepAlive = 1,
    /// The route ends: each hop forgets its rule and passes it on. Payload: `u16 reason`.
    Close = 2,
    /// The handshake of the two ends.
    Handshake = 3,
    /// Against the direction of the route: there is no rule (any more) for an id that the receiver sends
    /// to. Payload: `u16 reason`.
    Gone = 4,
}

impl PacketKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 5] = [
        Self::Data,
        Self::KeepAlive,
        Self::Close,
        Self::Handshake,
        Self::Gone,
    ];

    /// Returns the wire's number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The head of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHead {
    /// The route.
    pub id: RouteId,
    /// What it is for.
    pub kind: PacketKind,
    /// Bytes of the payload.
    pub length: u16,
}

impl PacketHead {
    /// Returns the bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; ROUTE_PACKET_HEAD] {
        let [a, b, c, d] = self.id.0.to_be_bytes();
        let [high, low] = self.length.to_be_bytes();
        [a, b, c, d, self.kind.code(), high, low]
    }

    /// Decodes a head.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`PacketError`]; reset the stream.
    pub fn decode(bytes: &[u8; ROUTE_PACKET_HEAD]) -> Result<Self, PacketError> {
        let [id @ .., code, high, low] = *bytes;
        let id = RouteId(u32::from_be_bytes(id));
        let length = u16::from_be_bytes([high, low]);
        let is_kind = |kind: &PacketKind| kind.code() == code;
        let kind = PacketKind::ALL.into_iter().find(is_kind);
        let kind = kind.ok_or(PacketError::PeerKind(code))?;
        if usize::from(length) > ROUTE_PACKET_PAYLOAD_MAX {
            return Err(PacketError::PeerLength { have: length });
        }
        let is_end = matches!(kind, PacketKind::Close | PacketKind::Gone);
        if is_end && length != 2 {
            return Err(PacketError::PeerLength { have: length });
        }
        Ok(Self { id, kind, length })
    }
}

/// Appends a packet to `out`.
///
/// # Errors
///
/// [`PacketError::LocalTooLong`]; `out` is unchanged.
pub fn write_packet(
    id: RouteId,
    kind: PacketKind,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PacketError> {
    let too_long = PacketError::LocalTooLong {
        have: payload.len(),
    };
    let length = u16::try_from(payload.len()).map_err(|_| too_long)?;
    if payload.len() > ROUTE_PACKET_PAYLOAD_MAX {
        return Err(too_long);
    }
    out.extend_from_slice(&PacketHead { id, kind, length }.encode());
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a [`PacketKind::Close`] or [`PacketKind::Gone`] to `out`.
///
/// # Panics
///
/// Never; debug builds assert that it is one of the two kinds.
pub fn write_end(id: RouteId, kind: PacketKind, reason: Reason, out: &mut Vec<u8>) {
    debug_assert!(matches!(kind, PacketKind::Close | PacketKind::Gone));
    let length = 2;
    out.extend_from_slice(&PacketHead { id, kind, length }.encode());
    out.extend_from_slice(&reason.code().to_be_bytes());
}

/// Returns the number of the reason in the payload of a Close or Gone.
#[must_use]
pub fn end_reason(payload: &[u8]) -> Option<u16> {
    Reader::new(payload).u16()
}

/// Finds packets in the bytes of a stream.
///
/// [`push`](Self::push) what arrives, then take packets until there is none; so it keeps at most one
/// unfinished packet and one push.
#[derive(Debug, Default)]
pub struct PacketReader {
    unread: Unread,
}

impl PacketReader {
    /// Returns a reader at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            unread: Unread::new(),
        }
    }

    /// Keeps bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.push(bytes);
    }

    /// Returns the next whole packet, `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`PacketError`]; reset the stream. Calling again gives the error again.
    pub fn next_packet(&mut self) -> Result<Option<(PacketHead, &[u8])>, PacketError> {
        let Some((head, rest)) = self.unread.bytes().split_first_chunk() else {
            return Ok(None);
        };
        let head = PacketHead::decode(head)?;
        let length = usize::from(head.length);
        if rest.len() < length {
            return Ok(None);
        }
        let packet = self.unread.take(ROUTE_PACKET_HEAD + length);
        let payload = packet.get(ROUTE_PACKET_HEAD..).unwrap_or_default();
        Ok(Some((head, payload)))
    }

    /// Returns whether the stream may end here: no packet is unfinished.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.unread.len() == 0
    }
}

/// Why bytes are no packet, or a payload does not become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PacketError {
    /// More payload than a packet carries.
    #[error("packet payload of {have} bytes, {ROUTE_PACKET_PAYLOAD_MAX} are allowed")]
    LocalTooLong {
        /// Bytes of the payload.
        have: usize,
    },
    /// An undefined kind.
    #[error("packet of kind {0}")]
    PeerKind(u8),
    /// A length that the kind does not allow.
    #[error("packet with a payload of {have} bytes")]
    PeerLength {
        /// Bytes announced.
        have: u16,
    },
}

impl PacketError {
    /// Returns the reason the stream is reset with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::LocalTooLong { .. } | Self::PeerKind(_) | Self::PeerLength { .. } => {
                Reason::ProtocolError
            }
        }
    }
}
