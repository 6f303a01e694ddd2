//! What a session tells its driver.
//!
//! Here: the events and the token of an incoming open. Not here: who raises them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::error::SessionError;
use super::stream::StreamId;
use crate::dialect::RequestHash;
use crate::handshake::Offer;
use crate::key::Address;
use crate::kk::RecordKeys;
use crate::reason::Reason;

/// Event of a [`Mux`](super::Mux).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MuxEvent {
    /// The remote side finished and all its bytes were read.
    Finished {
        /// The stream.
        stream: StreamId,
    },
    /// The remote side takes no new streams.
    GoAway {
        /// Its code: 0 graceful, 1 protocol error, 2 internal error.
        code: u32,
    },
    /// A ping that `ping` asked for was answered.
    Pong {
        /// The round trip.
        rtt: Duration,
    },
    /// Bytes came. Raised again only for bytes that came after it was polled.
    Readable {
        /// The stream.
        stream: StreamId,
    },
    /// The stream was reset, by the remote side or because the remote side broke its rules. It is
    /// gone, unread bytes included.
    Reset {
        /// The stream.
        stream: StreamId,
    },
    /// A write that was cut short can go on.
    Writable {
        /// The stream.
        stream: StreamId,
    },
}

/// Event of a [`PeerSession`](super::PeerSession).
///
/// A stream that the application has reset raises no more `Readable` and `Writable`; other events
/// that waited for it may still come and mean nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum PeerEvent {
    /// The session has ended: the last event, behind those of bytes that can still be read.
    Closed {
        /// Why.
        error: SessionError,
    },
    /// The remote side finished and all its bytes were read.
    Finished {
        /// The stream.
        stream: StreamId,
    },
    /// The relay takes no new streams; open ones finish.
    GoAway {
        /// Its code: 0 graceful, 1 protocol error, 2 internal error.
        code: u32,
    },
    /// Another peer asks for a stream: answer with `accept` or `refuse`.
    Incoming {
        /// The stream.
        stream: StreamId,
        /// Who asks; the signature over it was verified.
        source: Address,
        /// The port of ours that it asks for.
        port: u16,
        /// Hand it back to `accept` or `refuse`.
        request: IncomingRequest,
    },
    /// The destination accepted an open of ours.
    Opened {
        /// The stream.
        stream: StreamId,
        /// Keys of the records on the stream.
        keys: RecordKeys,
    },
    /// An open of ours failed; the stream is gone.
    OpenRefused {
        /// The stream.
        stream: StreamId,
        /// A number of `Reason`, or one that a newer relay knows: 305 also when the stream was
        /// reset before the answer, 302 when no answer came, 306 and 206 when the answer is no
        /// good.
        reason_code: u16,
    },
    /// A ping that `ping` asked for was answered.
    Pong {
        /// The round trip to the relay.
        rtt: Duration,
    },
    /// Bytes came. Raised again only for bytes that came after it was polled.
    Readable {
        /// The stream.
        stream: StreamId,
    },
    /// The relay admitted the session.
    Ready {
        /// What the relay offers.
        offer: Offer,
    },
    /// The relay turned the session away; `Closed` follows.
    Refused {
        /// Why.
        reason: Reason,
        /// When to come again, milliseconds; 0 when the relay named no time.
        retry_after_ms: u32,
    },
    /// The stream was reset and is gone, unread bytes included.
    Reset {
        /// The stream.
        stream: StreamId,
    },
    /// A write that was cut short can go on.
    Writable {
        /// The stream.
        stream: StreamId,
    },
}

impl From<MuxEvent> for PeerEvent {
    fn from(event: MuxEvent) -> Self {
        match event {
            MuxEvent::Finished { stream } => Self::Finished { stream },
            MuxEvent::GoAway { code } => Self::GoAway { code },
            MuxEvent::Pong { rtt } => Self::Pong { rtt },
            MuxEvent::Readable { stream } => Self::Readable { stream },
            MuxEvent::Reset { stream } => Self::Reset { stream },
            MuxEvent::Writable { stream } => Self::Writable { stream },
        }
    }
}

/// An open request of another peer that waits for an answer.
pub struct IncomingRequest(pub(super) Box<RequestParts>);

/// What an answer needs of its request.
pub(super) struct RequestParts {
    pub(super) hash: RequestHash,
    pub(super) source: Address,
    pub(super) noise: Vec<u8>,
}

impl IncomingRequest {
    /// Returns who asks.
    #[must_use]
    pub fn source(&self) -> Address {
        self.0.source
    }
}

impl fmt::Debug for IncomingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingRequest")
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}
