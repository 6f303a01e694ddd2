//! How control messages of routes stand on a stream.
//!
//! Here: length, version, number, and finding messages in bytes that arrive in any pieces. Not here: what
//! is asked and answered (`setup`, `hop`).
//!
//! Layout: `u32 big-endian length of the rest | u8 version = 1 | postcard of (u32 id, body)`. The asker
//! chooses the id, the reply repeats it; replies come in any order.
//! Invariant: a length over [`ROUTE_MESSAGE_MAX`] is refused before anything is kept for it.
//! Source: docs/routes.md; <https://postcard.jamesmunns.com/wire-format>.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::{ROUTE_MESSAGE_MAX, ROUTE_MESSAGE_PREFIX};
use crate::reason::Reason;
use crate::unread::Unread;

/// Version of the control messages.
pub const MESSAGE_VERSION: u8 = 1;

/// A request or a reply with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<B> {
    /// Chosen by the asker, repeated by the reply.
    pub id: u32,
    /// What is asked or answered.
    pub body: B,
}

impl<B: Serialize> Message<B> {
    /// Appends the message to `out`.
    ///
    /// # Errors
    ///
    /// [`MessageError::LocalTooLong`] and [`MessageError::BugBody`]; `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        // It fails for lists without a length and the like, which no body has.
        let wrong = MessageError::BugBody;
        let body = postcard::to_allocvec(&(self.id, &self.body)).map_err(|_| wrong)?;
        let have = body.len() + 1;
        if have > ROUTE_MESSAGE_MAX {
            return Err(MessageError::LocalTooLong { have });
        }
        let length = u32::try_from(have).map_err(|_| wrong)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.push(MESSAGE_VERSION);
        out.extend_from_slice(&body);
        Ok(())
    }
}

impl<B: DeserializeOwned> Message<B> {
    /// Decodes what follows the length.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (version, rest) = bytes.split_first().ok_or(MessageError::PeerEmpty)?;
        if *version != MESSAGE_VERSION {
            return Err(MessageError::PeerVersion(*version));
        }
        let wrong = |id| MessageError::PeerBody { id };
        let (id, rest) = postcard::take_from_bytes::<u32>(rest).map_err(|_| wrong(None))?;
        let (body, rest) = postcard::take_from_bytes(rest).map_err(|_| wrong(Some(id)))?;
        if rest.is_empty() {
            Ok(Self { id, body })
        } else {
            Err(wrong(Some(id)))
        }
    }
}

/// Returns the length of the message that begins `bytes`, prefix included, `None` when too few are there.
///
/// # Errors
///
/// [`MessageError::PeerTooLong`].
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, MessageError> {
    let Some(prefix) = bytes.first_chunk() else {
        return Ok(None);
    };
    let have = u32::from_be_bytes(*prefix);
    match usize::try_from(have) {
        Ok(length) if length <= ROUTE_MESSAGE_MAX => Ok(Some(ROUTE_MESSAGE_PREFIX + length)),
        _ => Err(MessageError::PeerTooLong { have }),
    }
}

/// Finds messages in the bytes of a stream.
///
/// [`push`](Self::push) what arrives, then take messages until there is none; so it keeps at most one
/// unfinished message and one push.
#[derive(Debug, Default)]
pub struct MessageReader {
    unread: Unread,
}

impl MessageReader {
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

    /// Returns the next whole message, `None` when there is none yet.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants. After [`MessageError::PeerBody`] the message is consumed: answer the id, go
    /// on. After the others end the stream.
    pub fn next_message<B: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<Message<B>>, MessageError> {
        let have = self.unread.bytes();
        let Some(length) = message_len(have)? else {
            return Ok(None);
        };
        let Some(bytes) = have.get(ROUTE_MESSAGE_PREFIX..length) else {
            return Ok(None);
        };
        let message = Message::decode(bytes);
        self.unread.take(length);
        message.map(Some)
    }

    /// Returns whether the stream may end here: no message is unfinished.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.unread.len() == 0
    }
}

/// Why bytes are no message, or a body does not become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The body cannot be written at all.
    #[error("a control message that cannot be written")]
    BugBody,
    /// The body is longer than a message may be.
    #[error("control message of {have} bytes, {ROUTE_MESSAGE_MAX} are allowed")]
    LocalTooLong {
        /// Bytes behind the length.
        have: usize,
    },
    /// Unknown kind, wrong field, too few or too many bytes.
    #[error("malformed control message")]
    PeerBody {
        /// Its number, when that could be read: it is answered with a refusal.
        id: Option<u32>,
    },
    /// No bytes at all.
    #[error("empty control message")]
    PeerEmpty,
    /// The length says more than a message may have.
    #[error("control message of {have} bytes announced, {ROUTE_MESSAGE_MAX} are allowed")]
    PeerTooLong {
        /// Bytes announced.
        have: u32,
    },
    /// Another version.
    #[error("control message of version {0}")]
    PeerVersion(u8),
}

impl MessageError {
    /// Returns the reason the request is refused or the stream ended with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerVersion(_) => Reason::Version,
            Self::BugBody
            | Self::LocalTooLong { .. }
            | Self::PeerBody { .. }
            | Self::PeerEmpty
            | Self::PeerTooLong { .. } => Reason::ProtocolError,
        }
    }
}
