//! yamux frame headers.
//!
//! Here: the 12 bytes before every frame. Not here: payload, windows, what a frame does to a stream.
//!
//! Layout, big-endian: `u8 version = 0 | u8 kind | u16 flags | u32 stream id | u32 length`.
//! Invariant: every `Header` encodes, and decoding gives the same value back.
//! Source: hashicorp/yamux spec.md; docs/protocol.md section 3.

use core::fmt;
use core::ops::BitOr;

use thiserror::Error;

use crate::reason::Reason;

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 12;

/// Where the stream id starts in a header: a forwarded frame has only these four bytes rewritten.
pub const STREAM_ID_OFFSET: usize = 4;

/// Where the length starts in a header.
pub const LENGTH_OFFSET: usize = 8;

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// What the frame is.
    pub kind: FrameKind,
    /// What it does to the stream's state.
    pub flags: Flags,
    /// The stream, odd when the connecting side opened it; 0 for the session.
    pub stream_id: u32,
    /// Data: payload bytes that follow. Window update: bytes granted. Ping: opaque value. Go away: code.
    pub length: u32,
}

impl Header {
    /// Returns the header of a data frame with `length` payload bytes behind it.
    #[inline]
    #[must_use]
    pub const fn data(stream_id: u32, flags: Flags, length: u32) -> Self {
        Self {
            kind: FrameKind::Data,
            flags,
            stream_id,
            length,
        }
    }

    /// Returns a window update that grants `delta` bytes.
    #[inline]
    #[must_use]
    pub const fn window_update(stream_id: u32, flags: Flags, delta: u32) -> Self {
        Self {
            kind: FrameKind::WindowUpdate,
            flags,
            stream_id,
            length: delta,
        }
    }

    /// Returns a ping request (`Flags::SYN`) or its answer (`Flags::ACK`).
    #[inline]
    #[must_use]
    pub const fn ping(flags: Flags, value: u32) -> Self {
        Self {
            kind: FrameKind::Ping,
            flags,
            stream_id: 0,
            length: value,
        }
    }

    /// Returns a go away.
    #[inline]
    #[must_use]
    pub const fn go_away(code: GoAwayCode) -> Self {
        Self {
            kind: FrameKind::GoAway,
            flags: Flags::NONE,
            stream_id: 0,
            length: code.code(),
        }
    }

    /// Decodes a header.
    ///
    /// # Errors
    ///
    /// Each variant of [`FrameError`]; the session ends, since the next frame cannot be found.
    #[inline]
    pub const fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [
            version,
            kind,
            flags_1,
            flags_0,
            s3,
            s2,
            s1,
            s0,
            l3,
            l2,
            l1,
            l0,
        ] = *bytes;
        let head = u32::from_be_bytes([version, kind, flags_1, flags_0]);
        // One branch for the three checks: version 0, kind 0 to 3, the four defined flags.
        if head & !HEAD_DEFINED != 0 {
            return Err(FrameError::of(
                version,
                kind,
                u16::from_be_bytes([flags_1, flags_0]),
            ));
        }
        let kind = match kind & 3 {
            0 => FrameKind::Data,
            1 => FrameKind::WindowUpdate,
            2 => FrameKind::Ping,
            _ => FrameKind::GoAway,
        };
        Ok(Self {
            kind,
            flags: Flags(u16::from_be_bytes([flags_1, flags_0])),
            stream_id: u32::from_be_bytes([s3, s2, s1, s0]),
            length: u32::from_be_bytes([l3, l2, l1, l0]),
        })
    }

    /// Returns stream and length if these bytes are the header of a data frame without flags.
    ///
    /// Nearly every frame is one, and its first four bytes are zeros: one comparison finds it.
    #[inline]
    #[must_use]
    pub const fn plain_data(bytes: &[u8; HEADER_LEN]) -> Option<(u32, u32)> {
        let [h3, h2, h1, h0, s3, s2, s1, s0, l3, l2, l1, l0] = *bytes;
        if u32::from_be_bytes([h3, h2, h1, h0]) != 0 {
            return None;
        }
        let stream_id = u32::from_be_bytes([s3, s2, s1, s0]);
        Some((stream_id, u32::from_be_bytes([l3, l2, l1, l0])))
    }

    /// Returns the header's bytes.
    #[inline]
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let [f1, f0] = self.flags.0.to_be_bytes();
        let [s3, s2, s1, s0] = self.stream_id.to_be_bytes();
        let [l3, l2, l1, l0] = self.length.to_be_bytes();
        [0, self.kind.code(), f1, f0, s3, s2, s1, s0, l3, l2, l1, l0]
    }

    /// Writes the header to the first [`HEADER_LEN`] bytes of `out`.
    ///
    /// # Panics
    ///
    /// When `out` is shorter.
    #[inline]
    pub fn encode_into(self, out: &mut [u8]) {
        out[..HEADER_LEN].copy_from_slice(&self.encode());
    }

    /// Returns the bytes of payload behind this header.
    #[inline]
    #[must_use]
    pub const fn payload_bytes(self) -> u32 {
        match self.kind {
            FrameKind::Data => self.length,
            FrameKind::GoAway | FrameKind::Ping | FrameKind::WindowUpdate => 0,
        }
    }
}

/// Replaces the stream id of an encoded header in place.
#[inline]
pub fn rewrite_stream_id(header: &mut [u8; HEADER_LEN], stream_id: u32) {
    header[STREAM_ID_OFFSET..LENGTH_OFFSET].copy_from_slice(&stream_id.to_be_bytes());
}

/// What a frame is. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Bytes of a stream.
    Data = 0,
    /// More bytes allowed on a stream.
    WindowUpdate = 1,
    /// A question of the session, answered at once.
    Ping = 2,
    /// The session takes no new streams.
    GoAway = 3,
}

impl FrameKind {
    /// Returns the wire's number.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// The flags of a frame: any union of `SYN`, `ACK`, `FIN` and `RST`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Opens a stream, asks a ping.
    pub const SYN: Self = Self(1);
    /// Acknowledges an open, answers a ping.
    pub const ACK: Self = Self(2);
    /// Ends the sender's half of a stream.
    pub const FIN: Self = Self(4);
    /// Ends a stream at once, both halves.
    pub const RST: Self = Self(8);

    /// Returns the flags with these bits, or `None` when one of them is undefined.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !FLAGS_DEFINED == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Returns the wire's bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns whether no flag is set.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether all of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether any of `other` is set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the flags set in either.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the flags of `self` that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for (flag, name) in [
            (Self::SYN, "SYN"),
            (Self::ACK, "ACK"),
            (Self::FIN, "FIN"),
            (Self::RST, "RST"),
        ] {
            if self.contains(flag) {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

/// Why a session takes no new streams. The numbers are the wire's; from 100 on a code is the number of
/// a [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum GoAwayCode {
    /// A graceful end: open streams finish.
    Normal = 0,
    /// The other side broke the protocol.
    ProtocolError = 1,
    /// This side failed.
    InternalError = 2,
}

impl GoAwayCode {
    /// Returns the wire's number.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns the code with this number.
    #[inline]
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Normal),
            1 => Some(Self::ProtocolError),
            2 => Some(Self::InternalError),
            _ => None,
        }
    }
}

/// Why 12 bytes are not a header. All mean that the peer does not speak this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// An undefined flag is set.
    #[error("frame flags {0:#06x} are not defined")]
    PeerFlags(u16),
    /// The kind is not defined.
    #[error("frame kind {0} is not defined")]
    PeerKind(u8),
    /// The version is not 0.
    #[error("frame version {0} is not 0")]
    PeerVersion(u8),
}

impl FrameError {
    /// Returns the reason the session ends with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerFlags(_) | Self::PeerKind(_) | Self::PeerVersion(_) => Reason::ProtocolError,
        }
    }

    /// Names the first field that is wrong.
    #[cold]
    const fn of(version: u8, kind: u8, flags: u16) -> Self {
        if version != 0 {
            Self::PeerVersion(version)
        } else if kind > FrameKind::GoAway.code() {
            Self::PeerKind(kind)
        } else {
            Self::PeerFlags(flags)
        }
    }
}

/// The flag bits yamux defines.
const FLAGS_DEFINED: u16 = 0xf;
/// The bits that may be set in the first four bytes of a header.
const HEAD_DEFINED: u32 = 0x0003_000f;
const _: () = assert!(HEAD_DEFINED & 0xffff == FLAGS_DEFINED as u32);
const _: () = assert!(size_of::<Header>() == HEADER_LEN);

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn every_first_four_bytes_decode_exactly_when_defined() {
        for kind in 0..=u8::MAX {
            for bits in 0..=u16::MAX {
                let [f1, f0] = bits.to_be_bytes();
                let bytes = [0, kind, f1, f0, 0, 0, 0, 1, 0, 0, 0, 2];
                let decoded = Header::decode(&bytes);
                assert_eq!(decoded.is_ok(), kind <= 3 && bits <= 15);
                let is_plain = decoded.is_ok() && kind == 0 && bits == 0;
                assert_eq!(Header::plain_data(&bytes), is_plain.then_some((1, 2)));
                if let Ok(header) = decoded {
                    assert_eq!(header.encode(), bytes);
                }
            }
        }
    }

    #[test]
    fn the_first_wrong_field_is_named() {
        let decode = |head: [u8; 4]| {
            let mut bytes = [0; HEADER_LEN];
            bytes[..4].copy_from_slice(&head);
            Header::decode(&bytes)
        };
        assert_eq!(decode([1, 9, 0xff, 0]), Err(FrameError::PeerVersion(1)));
        assert_eq!(decode([0, 4, 0xff, 0]), Err(FrameError::PeerKind(4)));
        assert_eq!(decode([0, 3, 0, 0x10]), Err(FrameError::PeerFlags(0x10)));
        assert_eq!(FrameError::PeerKind(4).reason(), Reason::ProtocolError);
    }

    #[test]
    fn rewriting_the_stream_id_touches_nothing_else() {
        let header = Header::data(3, Flags::SYN | Flags::FIN, 77);
        let mut bytes = header.encode();
        rewrite_stream_id(&mut bytes, 0xdead_beef);
        assert_eq!(
            Header::decode(&bytes),
            Ok(Header {
                stream_id: 0xdead_beef,
                ..header
            })
        );
    }

    #[test]
    fn encoding_into_a_longer_buffer_leaves_the_rest() {
        let mut out = [0xaa; HEADER_LEN + 2];
        Header::ping(Flags::ACK, 9).encode_into(&mut out);
        assert_eq!(out[..HEADER_LEN], Header::ping(Flags::ACK, 9).encode());
        assert_eq!(out[HEADER_LEN..], [0xaa; 2]);
    }

    #[test]
    fn only_data_frames_have_a_payload() {
        assert_eq!(Header::data(1, Flags::NONE, 5).payload_bytes(), 5);
        assert_eq!(Header::window_update(1, Flags::NONE, 5).payload_bytes(), 0);
        assert_eq!(Header::ping(Flags::SYN, 5).payload_bytes(), 0);
        assert_eq!(
            Header::go_away(GoAwayCode::ProtocolError).payload_bytes(),
            0
        );
    }

    #[test]
    fn flags_are_sets() {
        let both = Flags::SYN | Flags::FIN;
        assert!(both.contains(Flags::SYN) && both.contains(both) && !both.contains(Flags::ACK));
        assert!(both.intersects(Flags::FIN | Flags::RST) && !both.intersects(Flags::ACK));
        assert_eq!(both.without(Flags::SYN), Flags::FIN);
        assert!(Flags::NONE.is_empty() && !both.is_empty());
        assert_eq!(Flags::from_bits(5), Some(both));
        assert_eq!(Flags::from_bits(16), None);
        assert_eq!(format!("{both:?}"), "{SYN, FIN}");
    }

    #[test]
    fn go_away_codes_roundtrip() {
        for code in 0..3 {
            assert_eq!(
                GoAwayCode::from_code(code).map(GoAwayCode::code),
                Some(code)
            );
        }
        assert_eq!(GoAwayCode::from_code(3), None);
    }
}
