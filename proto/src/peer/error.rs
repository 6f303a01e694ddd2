//! What can go wrong in a session and in its streams.
//!
//! Here: the errors, by whose fault they are, and the reason each stands for. Not here: reactions.
//!
//! Invariant: every error is `Copy` and its `reason` is total.

use thiserror::Error;

use super::stream::StreamId;
use crate::frame::FrameError;
use crate::handshake::HandshakeError;
use crate::reason::Reason;
use crate::sealed::SealedError;
use crate::verdict::VerdictError;

/// The remote side broke the rules of the multiplexer: the session ends with Go Away 1.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum MuxError {
    /// Control frames come faster than the remote side reads their answers.
    #[error("remote side floods control frames")]
    PeerFlood,
    /// A frame header is malformed.
    #[error("frame header: {0}")]
    PeerFrame(#[from] FrameError),
    /// A ping, go away or stream frame carries flags or a stream id that it may not carry.
    #[error("frame of stream {stream} carries flags {flags:#06x} that make no sense")]
    PeerFrameMeaningless {
        /// The header's stream id.
        stream: StreamId,
        /// The header's flags.
        flags: u16,
    },
    /// A SYN names a stream of our parity, or one that is not above all before it.
    #[error("stream {stream} cannot be opened by the remote side")]
    PeerStreamReused {
        /// The header's stream id.
        stream: StreamId,
    },
    /// A frame without SYN names a stream that was never opened.
    #[error("stream {stream} was never opened")]
    PeerStreamUnknown {
        /// The header's stream id.
        stream: StreamId,
    },
    /// A data frame is longer than the window.
    #[error("stream {stream} got {have} bytes in a window of {want}")]
    PeerWindowExceeded {
        /// The stream.
        stream: StreamId,
        /// Length of the frame.
        have: u32,
        /// What was left of the window.
        want: u32,
    },
    /// A grant makes the window larger than 2^32 - 1 bytes.
    #[error("window of stream {stream} overflows")]
    PeerWindowOverflow {
        /// The stream.
        stream: StreamId,
    },
    /// The application does not take its events.
    #[error("more events than the limit wait to be polled")]
    LocalEvents,
}

impl MuxError {
    /// Returns the reason that names this error on the wire and in metrics.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerFrame(error) => error.reason(),
            Self::PeerFlood
            | Self::PeerFrameMeaningless { .. }
            | Self::PeerStreamReused { .. }
            | Self::PeerStreamUnknown { .. }
            | Self::PeerWindowExceeded { .. }
            | Self::PeerWindowOverflow { .. } => Reason::ProtocolError,
            Self::LocalEvents => Reason::SlowConsumer,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SessionError {
    /// The relay closed the connection between two frames.
    #[error("relay closed the session")]
    PeerClosed,
    /// The Noise handshake failed.
    #[error("handshake: {0}")]
    PeerHandshake(#[from] HandshakeError),
    /// The session was not established in time.
    #[error("handshake did not end in time")]
    PeerHandshakeTimeout,
    /// The relay broke the rules of the multiplexer.
    #[error("frames: {0}")]
    PeerMux(#[from] MuxError),
    /// The verdict refused the session. Retry after the given time; zero means the relay named
    /// none.
    #[error("relay refused the session: {reason}")]
    PeerRefused {
        /// Why.
        reason: Reason,
        /// When to come again, milliseconds.
        retry_after_ms: u32,
    },
    /// A sealed object does not open or was seen before.
    #[error("sealed object: {0}")]
    PeerSealed(#[from] SealedError),
    /// Nothing was heard for too long.
    #[error("relay is silent")]
    PeerSilent,
    /// The connection ended inside the handshake or inside a frame.
    #[error("connection was cut")]
    PeerTruncated,
    /// The verdict does not decode.
    #[error("verdict: {0}")]
    PeerVerdict(#[from] VerdictError),
}

impl SessionError {
    /// Returns the reason that names this error in metrics and logs; 0 when the relay closed the
    /// session in good order.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerClosed => Reason::Accepted,
            Self::PeerHandshake(error) => error.reason(),
            Self::PeerHandshakeTimeout => Reason::HandshakeTimeout,
            Self::PeerMux(error) => error.reason(),
            Self::PeerRefused { reason, .. } => reason,
            Self::PeerSealed(error) => error.reason(),
            Self::PeerSilent => Reason::Idle,
            Self::PeerTruncated => Reason::ProtocolError,
            Self::PeerVerdict(error) => error.reason(),
        }
    }

    /// Whether a new session to the same relay may succeed without any change on this side.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::PeerClosed
            | Self::PeerHandshakeTimeout
            | Self::PeerMux(_)
            | Self::PeerSealed(_)
            | Self::PeerSilent
            | Self::PeerTruncated
            | Self::PeerVerdict(_) => true,
            Self::PeerHandshake(_) => false,
            Self::PeerRefused { reason, .. } => !matches!(
                reason,
                Reason::NotAllowed | Reason::Version | Reason::Replaced
            ),
        }
    }
}

/// Why a stream cannot be opened now. Nothing was sent.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum OpenStreamError {
    /// The session has ended.
    #[error("session is closed")]
    Closed,
    /// One side sent Go Away: open streams finish, new ones need a new session.
    #[error("session takes no new streams")]
    GoingAway,
    /// The destination's key or this identity cannot be used.
    #[error("key cannot be used")]
    LocalKey,
    /// Too many control bytes wait for the socket; try again after `transmit`.
    #[error("send buffer is full")]
    LocalQueue,
    /// All streams are in use; try again after one has ended.
    #[error("{have} of {want} streams are open")]
    LocalStreams {
        /// Open streams.
        have: u32,
        /// The limit.
        want: u32,
    },
    /// The session has used all its stream ids; a new session has new ones.
    #[error("stream ids of the session are used up")]
    LocalStreamIds,
    /// The handshake has not come far enough.
    #[error("session is not established yet")]
    NotReady,
}

impl OpenStreamError {
    /// Returns the reason that names this error in metrics.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Closed | Self::GoingAway => Reason::Draining,
            Self::LocalKey => Reason::BadSignature,
            Self::LocalQueue => Reason::RelayCapacity,
            Self::LocalStreams { .. } | Self::LocalStreamIds => Reason::TooManyStreams,
            Self::NotReady => Reason::BadHandshake,
        }
    }
}

/// Why an incoming open can be neither accepted nor refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The session has ended.
    #[error("session is closed")]
    Closed,
    /// The Noise message of the request is bad; the stream was refused with reason 306.
    #[error("stream handshake of the request is bad")]
    PeerHandshake,
    /// The stream is gone or waits for no answer.
    #[error("stream waits for no answer")]
    Unknown,
}

/// Why a stream cannot be read or written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum StreamError {
    /// The session has ended; only what was received before can still be read.
    #[error("session is closed")]
    Closed,
    /// This side has finished the stream.
    #[error("stream is finished")]
    Finished,
    /// The stream is not open yet.
    #[error("stream is not open yet")]
    NotOpen,
    /// There is no such stream: it was reset, or both sides have finished.
    #[error("stream is gone")]
    Unknown,
}
