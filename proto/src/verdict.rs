//! The relay's answer to a handshake.
//!
//! Here: the plain object. Not here: sealing it, deciding it.
//!
//! Layout, big-endian: `u8 kind = 0x10 | u8 version = 1 | u16 reason | u32 retry after, ms`. It goes
//! sealed and raw on the connection, before the relay's first frame.
//! Source: docs/protocol.md section 2.

use core::time::Duration;

use thiserror::Error;

use crate::bytes::Reader;
use crate::limits::VERDICT_LEN;
use crate::reason::Reason;

/// Kind byte of a verdict.
pub const KIND_VERDICT: u8 = 0x10;

/// Whether the relay takes a session, and when to try again if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// [`Reason::Accepted`], or why not.
    pub reason: Reason,
    /// Milliseconds the peer should wait before it tries this relay again; 0 says nothing.
    pub retry_after_ms: u32,
}

impl Verdict {
    /// The session is accepted.
    pub const ACCEPTED: Self = Self {
        reason: Reason::Accepted,
        retry_after_ms: 0,
    };

    /// Decodes a plain verdict.
    ///
    /// # Errors
    ///
    /// [`VerdictError`]; the peer closes the connection.
    pub fn decode(plain: &[u8]) -> Result<Self, VerdictError> {
        let have = plain.len();
        let mut reader = Reader::new(plain);
        let (Some([kind, version]), Some(code), Some(retry_after_ms), true) = (
            reader.array(),
            reader.u16(),
            reader.u32(),
            reader.is_empty(),
        ) else {
            return Err(VerdictError::PeerLength { have });
        };
        if kind != KIND_VERDICT {
            return Err(VerdictError::PeerKind(kind));
        }
        if version != VERSION {
            return Err(VerdictError::PeerVersion(version));
        }
        let reason = Reason::from_code(code).ok_or(VerdictError::PeerReason(code))?;
        Ok(Self {
            reason,
            retry_after_ms,
        })
    }

    /// Returns the plain bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; VERDICT_LEN] {
        let [c1, c0] = self.reason.code().to_be_bytes();
        let [r3, r2, r1, r0] = self.retry_after_ms.to_be_bytes();
        [KIND_VERDICT, VERSION, c1, c0, r3, r2, r1, r0]
    }

    /// Returns whether the session is accepted.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self.reason, Reason::Accepted)
    }

    /// Returns how long to wait before the next try, if the relay said so.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        (self.retry_after_ms > 0).then(|| Duration::from_millis(u64::from(self.retry_after_ms)))
    }
}

/// Why bytes are no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// Another kind of object.
    #[error("object of kind {0:#04x} is no verdict")]
    PeerKind(u8),
    /// Another length.
    #[error("verdict of {have} bytes")]
    PeerLength {
        /// Bytes received.
        have: usize,
    },
    /// A reason this version does not know: a refusal for something newer than this peer.
    #[error("verdict with unknown reason {0}")]
    PeerReason(u16),
    /// Another version.
    #[error("verdict of version {0}")]
    PeerVersion(u8),
}

impl VerdictError {
    /// Returns the reason the connection is closed with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerVersion(_) => Reason::Version,
            Self::PeerKind(_) | Self::PeerLength { .. } | Self::PeerReason(_) => {
                Reason::ProtocolError
            }
        }
    }
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_roundtrips() {
        for reason in Reason::ALL {
            for retry_after_ms in [0, 1, u32::MAX] {
                let verdict = Verdict {
                    reason,
                    retry_after_ms,
                };
                assert_eq!(Verdict::decode(&verdict.encode()), Ok(verdict));
                assert_eq!(verdict.is_accepted(), reason == Reason::Accepted);
            }
        }
    }

    #[test]
    fn each_wrong_field_has_its_error() {
        let good = Verdict::ACCEPTED.encode();
        let with = |position: usize, byte: u8| {
            let mut bytes = good;
            bytes[position] = byte;
            Verdict::decode(&bytes)
        };
        assert_eq!(with(0, 1), Err(VerdictError::PeerKind(1)));
        assert_eq!(with(1, 2), Err(VerdictError::PeerVersion(2)));
        assert_eq!(with(3, 99), Err(VerdictError::PeerReason(99)));
        for have in (0..VERDICT_LEN).chain([9]) {
            let bytes = [good, good].concat();
            assert_eq!(
                Verdict::decode(&bytes[..have]),
                Err(VerdictError::PeerLength { have })
            );
        }
    }

    #[test]
    fn a_time_of_zero_says_nothing() {
        assert_eq!(Verdict::ACCEPTED.retry_after(), None);
        let verdict = Verdict {
            reason: Reason::Draining,
            retry_after_ms: 1_500,
        };
        assert_eq!(verdict.retry_after(), Some(Duration::from_millis(1_500)));
    }
}
