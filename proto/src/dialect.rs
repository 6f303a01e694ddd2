//! What differs between dialects, behind one value.
//!
//! Here: a dialect's key length and its open objects as the shards see them. Not here: the layouts
//! themselves (`open`), frames and bridging (the same for all dialects).
//!
//! Source: docs/protocol.md, first table.

pub mod handshake;
pub mod peer;
pub mod place;
pub mod record;

use alloc::vec::Vec;

use crate::dmsg::open::{PeerAnnounce, StreamRequest, StreamResponse};
use crate::key::{Address, PublicKey};
use crate::open::{OpenError, OpenRequest, OpenResponse};
use crate::reason::Reason;
use crate::sealed::{self, DMSG_PING, DmsgHead, SealedError};

/// A family of keys, handshake and open objects that travels over the same frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// ed25519 keys, Noise over X25519, the fixed layouts of docs/protocol.md.
    #[default]
    Native,
    /// secp256k1 keys, the objects of Skywire's dmsg (docs/dmsg.md).
    Dmsg,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 2] = [Self::Native, Self::Dmsg];

    /// Returns the position in [`Dialect::ALL`], for arrays of counters.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Native => 0,
            Self::Dmsg => 1,
        }
    }

    /// Returns the value of the metric label `dialect`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dmsg => "dmsg",
        }
    }

    /// Returns the length of a public key in bytes.
    #[inline]
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Native => 32,
            Self::Dmsg => 33,
        }
    }

    /// Decodes what a relay needs of a plain open request. The signature is not verified.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the stream is refused with its reason.
    pub fn decode_request(self, plain: &[u8]) -> Result<RequestHead, OpenError> {
        match self {
            Self::Dmsg => {
                let request = StreamRequest::decode(plain)?;
                Ok(RequestHead {
                    source: request.source,
                    destination: request.destination,
                    forwarded: false,
                    timestamp_ns: request.timestamp_ns.unsigned_abs(),
                    wants: if request.wants_ip {
                        Wants::Address {
                            place: request.wants_geo,
                        }
                    } else {
                        Wants::Stream
                    },
                })
            }
            Self::Native => {
                let OpenRequest {
                    forwarded,
                    timestamp_ns,
                    source,
                    destination,
                    noise: _,
                } = OpenRequest::decode(plain)?;
                Ok(RequestHead {
                    source,
                    destination,
                    forwarded,
                    timestamp_ns,
                    wants: Wants::Stream,
                })
            }
        }
    }

    /// Returns the relay that says of itself, where a request was due, that it is one; `None` for anything
    /// else and in dialects whose handshake says so. The signature is not verified.
    #[must_use]
    pub fn decode_announcement(self, plain: &[u8]) -> Option<PublicKey> {
        match self {
            Self::Native => None,
            Self::Dmsg => Some(PeerAnnounce::decode(plain).ok()?.source),
        }
    }

    /// Verifies the source's signature on a plain open request.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the stream is refused with its reason.
    pub fn verify_request(self, plain: &[u8]) -> Result<(), OpenError> {
        match self {
            Self::Native => OpenRequest::verify(plain),
            Self::Dmsg => Ok(StreamRequest::verify(plain)?),
        }
    }

    /// Returns the hash that names a plain open request, whether it was forwarded or not.
    #[must_use]
    pub fn request_hash(self, plain: &[u8]) -> RequestHash {
        match self {
            Self::Native => OpenRequest::hash(plain),
            Self::Dmsg => StreamRequest::hash(plain),
        }
    }

    /// Decodes what a relay needs of a plain open response. The signature is not verified.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the stream is reset.
    pub fn decode_response(self, plain: &[u8]) -> Result<ResponseHead, OpenError> {
        match self {
            Self::Dmsg => {
                let response = StreamResponse::decode(plain)?;
                Ok(ResponseHead {
                    reason_code: response.reason().code(),
                    request_hash: response.request_hash,
                })
            }
            Self::Native => {
                let OpenResponse {
                    reason_code,
                    request_hash,
                    noise: _,
                } = OpenResponse::decode(plain)?;
                Ok(ResponseHead {
                    reason_code,
                    request_hash,
                })
            }
        }
    }

    /// Returns the plain open response with which a relay refuses a request; `None` where a relay cannot say
    /// no but by a reset, since only the destination may sign a response.
    #[must_use]
    pub fn encode_refusal(self, request: &RequestHash, reason: Reason) -> Option<Vec<u8>> {
        match self {
            Self::Native => Some(OpenResponse::encode_refusal(*request, reason)),
            Self::Dmsg => None,
        }
    }

    /// Sets the forwarded mark of a plain open request, where the dialect has one; its signature stays valid.
    ///
    /// # Panics
    ///
    /// When `plain` is no request that decoded.
    pub fn mark_forwarded(self, plain: &mut [u8]) {
        match self {
            Self::Native => OpenRequest::mark_forwarded(plain),
            Self::Dmsg => {}
        }
    }

    /// Returns the length of the sealed object that starts with `prefix`, its length prefix included, once
    /// the prefix is there.
    ///
    /// # Errors
    ///
    /// [`SealedError::PeerTooShort`] and [`SealedError::PeerTooLong`], before a byte is buffered for it.
    pub fn object_len(self, prefix: &[u8]) -> Result<Option<usize>, SealedError> {
        match self {
            Self::Native => sealed::object_len(prefix),
            Self::Dmsg => Ok(sealed::dmsg_head(prefix)?.map(|head| match head {
                DmsgHead::Object(len) => len,
                DmsgHead::Ping => DMSG_PING.len(),
            })),
        }
    }

    /// Returns whether a request that has come over a link may be somebody else's than the relay's.
    #[inline]
    #[must_use]
    pub const fn is_forwarded(self, head: &RequestHead) -> bool {
        match self {
            Self::Native => head.forwarded,
            // The wire has no mark.
            Self::Dmsg => true,
        }
    }

    /// Returns whether these bytes, where an object was due, ask for the same bytes back.
    #[inline]
    #[must_use]
    pub fn is_ping(self, object: &[u8]) -> bool {
        match self {
            Self::Native => false,
            Self::Dmsg => object == DMSG_PING,
        }
    }

    /// Returns whether a side acknowledges a stream as soon as the other one has opened it. Where not, a peer
    /// does so with its answer, and a relay passes the destination's word on, with the window that comes with
    /// it.
    #[inline]
    #[must_use]
    pub const fn acknowledges_at_once(self) -> bool {
        match self {
            Self::Native => false,
            // A Go client gives its session up when one stream is not acknowledged for 20 s.
            Self::Dmsg => true,
        }
    }

    /// Returns whether the end of a direction has a frame of its own, behind the last bytes.
    #[inline]
    #[must_use]
    pub const fn ends_apart(self) -> bool {
        match self {
            Self::Native => false,
            // Go's yamux tells its reader of an end before it keeps the bytes of the same frame.
            Self::Dmsg => true,
        }
    }

    /// Returns whether a relay verifies the signature of every request, not only of forwarded ones.
    #[inline]
    #[must_use]
    pub const fn checks_every_request(self) -> bool {
        match self {
            Self::Native => false,
            // A Go client of 2024 gives its session up for one request that does not verify.
            Self::Dmsg => true,
        }
    }

    /// Returns whether a peer refuses requests whose timestamp is far from its own clock.
    #[inline]
    #[must_use]
    pub const fn checks_timestamps(self) -> bool {
        match self {
            Self::Native => true,
            // Go's clients only ask that there is one: their clocks are not known to be right.
            Self::Dmsg => false,
        }
    }

    /// Returns whether the stream ids that one side opens strictly increase.
    #[inline]
    #[must_use]
    pub const fn stream_ids_are_monotonic(self) -> bool {
        match self {
            Self::Native => true,
            Self::Dmsg => false,
        }
    }
}

/// What a relay reads of an open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Who asks.
    pub source: Address,
    /// Who is asked.
    pub destination: Address,
    /// Whether a relay forwarded it; then no relay forwards it again. A request of dmsg does not say: it was
    /// forwarded when the session it came over is not its source's.
    pub forwarded: bool,
    /// When it was made, nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// What it asks for.
    pub wants: Wants,
}

/// What an open request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A stream to the destination.
    Stream,
    /// The address that the relay sees the source at, and with `place` where on earth that is.
    Address {
        /// Whether that is asked for.
        place: bool,
    },
}

/// What a relay reads of an open response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 0 for accepted, else a [`Reason`]'s number; a number of a newer version is not an error.
    pub reason_code: u16,
    /// Which request it answers.
    pub request_hash: RequestHash,
}

impl ResponseHead {
    /// Returns whether the open was accepted.
    #[inline]
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.reason_code == Reason::Accepted.code()
    }
}

/// The name of an open request: the hash of its bytes with the forwarded mark taken as unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHash(pub [u8; 32]);
