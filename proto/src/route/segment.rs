//! Segments: what the two ends of a route group say inside of packets.
//!
//! Here: their layout, and sealing them for the other end. Not here: which segment is sent when (the
//! client's `router`), the packet around it.
//!
//! Layout of a payload, big-endian: `u64 number | ciphertext | 16-byte tag`. The number counts the segments
//! of one direction and is the nonce; a segment that is sent again gets a new number.
//! Plain: `u64 offset | u64 acknowledged | u32 window | u32 stamp | u32 echo | u8 flags | data`.
//! Invariant: one number is sealed once with one key. Segments may be lost, doubled and reordered: all that
//! one says holds whenever it arrives.
//! Source: docs/routes.md.

use alloc::vec::Vec;
use core::ops::Range;

use blake2::{Blake2s256, Digest};
use thiserror::Error;

use super::GroupName;
use crate::bytes::Reader;
use crate::kk::RecordKeys;
use crate::limits::{RECORD_TAG, ROUTE_SEGMENT_DATA_MAX, ROUTE_SEGMENT_HEAD, ROUTE_SEGMENT_NUMBER};
use crate::reason::Reason;
use crate::record::{RecordAead, RecordError};

/// The head of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Place of the first byte of data in the stream of this direction.
    pub offset: u64,
    /// All bytes of the other direction before this place have arrived; the end counts as one byte.
    pub acknowledged: u64,
    /// Bytes from there on that may be sent.
    pub window: u32,
    /// Clock of the sender, milliseconds.
    pub stamp: u32,
    /// With [`Segment::HAS_ECHO`]: the stamp of a segment that this one answers.
    pub echo: u32,
    /// The flags below.
    pub flags: u8,
}

impl Segment {
    /// The direction ends behind the data.
    pub const FIN: u8 = 1;
    /// Both directions have ended, what has not arrived is lost.
    pub const RESET: u8 = 2;
    /// An answer is wanted at once.
    pub const PROBE: u8 = 4;
    /// The echo counts.
    pub const HAS_ECHO: u8 = 8;
    /// Later bytes have arrived, those from `acknowledged` on have not.
    pub const GAP: u8 = 16;

    /// Returns whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ROUTE_SEGMENT_HEAD] {
        let mut out = [0; ROUTE_SEGMENT_HEAD];
        let fields: [&[u8]; 6] = [
            &self.offset.to_be_bytes(),
            &self.acknowledged.to_be_bytes(),
            &self.window.to_be_bytes(),
            &self.stamp.to_be_bytes(),
            &self.echo.to_be_bytes(),
            &[self.flags],
        ];
        let bytes = fields.into_iter().flatten();
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        out
    }

    /// Decodes a plain segment; the data follow the head.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`SegmentError`].
    pub fn decode(plain: &[u8]) -> Result<Self, SegmentError> {
        Self::read(plain).ok_or(SegmentError::PeerLength { have: plain.len() })
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(plain);
        Some(Self {
            offset: reader.u64()?,
            acknowledged: reader.u64()?,
            window: reader.u32()?,
            stamp: reader.u32()?,
            echo: reader.u32()?,
            flags: reader.u8()?,
        })
    }
}

/// Returns the keys of a group: those of its handshake, bound to its name and ports.
#[must_use]
pub fn group_keys(
    keys: &RecordKeys,
    group: &GroupName,
    source_port: u16,
    destination_port: u16,
) -> RecordKeys {
    let bound = |key: &[u8; 32]| {
        let mut hash = Blake2s256::new();
        hash.update(CONTEXT);
        hash.update(key);
        hash.update(group.0);
        hash.update(source_port.to_be_bytes());
        hash.update(destination_port.to_be_bytes());
        hash.finalize().into()
    };
    RecordKeys {
        seal: bound(&keys.seal),
        open: bound(&keys.open),
    }
}

/// Seals the segments of one direction.
#[derive(Debug)]
pub struct SegmentSealer<A> {
    aead: A,
    number: u64,
}

impl<A: RecordAead> SegmentSealer<A> {
    /// Returns a sealer at number 0; a key is given to one sealer only.
    pub const fn new(aead: A) -> Self {
        Self { aead, number: 0 }
    }

    /// Appends a sealed segment to `out`; its data are `data`, one slice after the other.
    ///
    /// # Errors
    ///
    /// The `Local*` variants of [`SegmentError`]; `out` is unchanged.
    pub fn seal(
        &mut self,
        segment: &Segment,
        data: [&[u8]; 2],
        out: &mut Vec<u8>,
    ) -> Result<(), SegmentError> {
        let have = data.iter().map(|part| part.len()).sum();
        if have > ROUTE_SEGMENT_DATA_MAX {
            return Err(SegmentError::LocalTooLong { have });
        }
        if self.number == u64::MAX {
            return Err(SegmentError::LocalNumbersExhausted);
        }
        out.extend_from_slice(&self.number.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(&segment.encode());
        data.iter().for_each(|part| out.extend_from_slice(part));
        let mut tag = [0; RECORD_TAG];
        let plain = out.get_mut(start..).unwrap_or_default();
        self.aead.seal_in_place(self.number, plain, &mut tag);
        out.extend_from_slice(&tag);
        self.number += 1;
        Ok(())
    }
}

/// A segment that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub number: u64,
    /// Its head.
    pub segment: Segment,
    /// Where its data lie in the payload.
    pub data: Range<usize>,
}

/// Opens a payload in place.
///
/// # Errors
///
/// The `Peer*` variants of [`SegmentError`]: drop the packet.
pub fn open<A: RecordAead>(aead: &A, payload: &mut [u8]) -> Result<Opened, SegmentError> {
    let have = payload.len();
    let wrong = SegmentError::PeerLength { have };
    let (number, sealed) = payload.split_first_chunk_mut().ok_or(wrong)?;
    let number = u64::from_be_bytes(*number);
    let plain_len = aead.open_in_place(number, sealed)?;
    let plain = sealed.get(..plain_len).ok_or(wrong)?;
    let segment = Segment::decode(plain)?;
    let data = ROUTE_SEGMENT_NUMBER + ROUTE_SEGMENT_HEAD..ROUTE_SEGMENT_NUMBER + plain_len;
    Ok(Opened {
        number,
        segment,
        data,
    })
}

/// Why bytes are no segment, or a segment is not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Every number was used.
    #[error("numbers of segments are exhausted")]
    LocalNumbersExhausted,
    /// More data than a segment carries.
    #[error("segment with {have} bytes, {ROUTE_SEGMENT_DATA_MAX} are allowed")]
    LocalTooLong {
        /// Bytes of data.
        have: usize,
    },
    /// Too few bytes.
    #[error("segment of {have} bytes is too short")]
    PeerLength {
        /// Bytes received.
        have: usize,
    },
    /// It does not open.
    #[error("segment: {0}")]
    PeerSealed(#[from] RecordError),
}

impl SegmentError {
    /// Returns the reason that the packet counts under.
    #[must_use]
    pub const fn reason(self) -> Reason {
        Reason::ProtocolError
    }
}

const CONTEXT: &[u8] = b"ringway/1 route group";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SoftAead;

    const SEGMENT: Segment = Segment {
        offset: 1,
        acknowledged: 2,
        window: 3,
        stamp: 4,
        echo: 5,
        flags: Segment::FIN | Segment::HAS_ECHO,
    };

    #[test]
    fn segments_open_in_any_order_and_not_when_changed() {
        let key = [7; 32];
        let mut sealer = SegmentSealer::new(SoftAead::new(&key));
        let aead = SoftAead::new(&key);
        let mut payloads = [Vec::new(), Vec::new()];
        for payload in &mut payloads {
            sealer.seal(&SEGMENT, [b"da", b"ta"], payload).unwrap();
        }
        for (number, payload) in [(1, &payloads[1]), (0, &payloads[0]), (1, &payloads[1])] {
            let mut payload = payload.clone();
            let opened = open(&aead, &mut payload).unwrap();
            assert_eq!((opened.number, opened.segment), (number, SEGMENT));
            assert_eq!(&payload[opened.data], b"data");
        }
        for position in 0..payloads[0].len() {
            let mut changed = payloads[0].clone();
            changed[position] ^= 1;
            assert!(open(&aead, &mut changed).is_err());
            assert!(open(&aead, &mut payloads[0].clone()[..position]).is_err());
        }
        let long = [0; ROUTE_SEGMENT_DATA_MAX];
        let refused = sealer.seal(&SEGMENT, [&long, &[0]], &mut payloads[0]);
        assert!(matches!(refused, Err(SegmentError::LocalTooLong { .. })));
    }

    #[test]
    fn keys_depend_on_name_and_ports() {
        let keys = RecordKeys {
            seal: [1; 32],
            open: [2; 32],
        };
        let bound = |name, source, destination| {
            let bound = group_keys(&keys, &GroupName([name; 16]), source, destination);
            [bound.seal, bound.open]
        };
        let all = [
            bound(1, 2, 3),
            bound(9, 2, 3),
            bound(1, 9, 3),
            bound(1, 2, 9),
        ]
        .concat();
        for (position, key) in all.iter().enumerate() {
            assert!(!all[..position].contains(key));
        }
        assert_eq!(bound(1, 2, 3), bound(1, 2, 3));
    }
}
