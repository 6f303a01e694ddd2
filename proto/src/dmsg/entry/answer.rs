//! What a discovery answers: a status of HTTP and a sentence that clients know by heart.
//!
//! Here: the one list of both, and the JSON around them. Not here: HTTP.
//!
//! Invariant: clients tell answers apart by the sentence alone, so none may change. The last ones are this
//! project's own; a client that does not know them takes them for [`Answer::Unexpected`].
//! Source: docs/dmsg.md, the section on the discovery.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::EntryError;

/// Type of a server that the discovery's operator knows.
pub const OFFICIAL: &str = "official";

/// Type of any other server.
pub const COMMUNITY: &str = "community";

macro_rules! answers {
    ($($status:literal $name:ident $text:literal)+) => {
        /// An answer of a discovery that is no entry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Answer {
            $(#[doc = $text] $name,)+
        }

        impl Answer {
            /// Every answer.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the status of HTTP.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)+
                }
            }

            /// Returns the sentence.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

answers! {
    200 Written "wrote a new entry"
    200 Iterated "wrote new entry iteration"
    200 Deleted "deleted entry"
    400 BadInput "error bad input"
    401 Unauthorized "invalid signature"
    404 NotFound "entry of public key is not found"
    404 NoServers "no delegated dmsg servers available for remote"
    422 NoVersion "entry validation error: entry has no version"
    422 NoSignature "entry validation error: entry has no signature"
    422 NoKey "entry validation error: entry Keys is nil"
    422 NoPart "entry validation error: entry has neither client or server field"
    422 NoAddress "entry validation error: server address cannot be empty"
    422 Loopback "entry validation error: advertising localhost listening address is not allowed in production mode"
    422 Outdated "entry validation error: advertised entry has outdated timestamp"
    422 WrongSequence "entry validation error: sequence field of new entry is not sequence of old entry + 1"
    422 WrongTime "entry validation error: advertised entry timestamp is not greater than previous"
    500 Unexpected "something unexpected happened"
    408 Slow "the request did not come in time"
    413 TooLong "the request is longer than this discovery takes"
    422 Bounds "entry validation error: a field is longer than this discovery takes"
    429 TooMany "too many writes from this address: try again later"
    503 Full "this discovery is full: try again later"
    503 Down "the store of this discovery does not answer: try again later"
}

impl Answer {
    /// Returns the JSON of the answer.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let message = Message {
            code: self.status(),
            message: self.text().to_string(),
        };
        // Texts and numbers in memory: there is nothing that could fail.
        serde_json::to_vec(&message).unwrap_or_default()
    }

    /// Returns the answer that a discovery gave; none when the JSON is something else, or the sentence not
    /// one of these.
    #[must_use]
    pub fn decode(json: &[u8]) -> Option<Self> {
        let message: Message = serde_json::from_slice(json).ok()?;
        Self::ALL
            .iter()
            .copied()
            .find(|answer| answer.text() == message.message)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status(), self.text())
    }
}

impl From<EntryError> for Answer {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Key(_) => Self::Unauthorized,
            EntryError::PeerAge => Self::Outdated,
            EntryError::PeerJson => Self::BadInput,
            EntryError::PeerLength { .. } => Self::TooLong,
            EntryError::PeerNoAddress => Self::NoAddress,
            EntryError::PeerNoKey => Self::NoKey,
            EntryError::PeerNoPart => Self::NoPart,
            EntryError::PeerNoSignature => Self::NoSignature,
            EntryError::PeerNoVersion => Self::NoVersion,
            EntryError::PeerSequence { .. } => Self::WrongSequence,
            EntryError::PeerServers { .. } | EntryError::PeerText { .. } => Self::Bounds,
            EntryError::PeerTime => Self::WrongTime,
        }
    }
}

/// An answer on the wire.
#[derive(Serialize, Deserialize)]
struct Message {
    #[serde(default)]
    code: u16,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_told_by_its_sentence() {
        for answer in Answer::ALL.iter().copied() {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        let text = br#"{"message":"wrote a new entry","code":200,"more":[]}"#;
        assert_eq!(Answer::decode(text), Some(Answer::Written));
    }

    #[test]
    fn answer_is_the_json_of_the_wire() {
        let text = r#"{"code":404,"message":"entry of public key is not found"}"#;
        assert_eq!(Answer::NotFound.encode(), text.as_bytes());
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for json in [
            &b""[..],
            b"{",
            b"null",
            b"[]",
            br#"{"code":200}"#,
            br#"{"message":"x"}"#,
        ] {
            assert_eq!(Answer::decode(json), None);
        }
    }
}
