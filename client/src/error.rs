//! What can go wrong, by whose fault.
//!
//! Here: the errors of the public interface. Not here: the reactions.
//!
//! `Local*` is this side (a limit, a setting, a client that was closed), `Relay*` the relay, `Peer*`
//! the other end of a stream. A refusal carries the number that came over the wire and its sentence.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::handshake::HandshakeError;
use ringway_proto::key::KeyError;
use ringway_proto::peer;
use ringway_proto::ports::PortUse;
use ringway_proto::reason::Reason;
use thiserror::Error;

use crate::config::RelayAddress;

/// The reason that came with a refusal.
///
/// A newer relay may know reasons that this library does not; the number is kept in any case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal {
    code: u16,
}

impl Refusal {
    /// Returns the refusal with this number.
    #[must_use]
    pub const fn from_code(code: u16) -> Self {
        Self { code }
    }

    /// Returns the number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.code
    }

    /// Returns the reason, if this library knows it.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        Reason::from_code(self.code)
    }

    /// Whether a relay says that it does not have the destination.
    pub(crate) fn is_not_there(self) -> bool {
        matches!(
            self.reason(),
            Some(Reason::UnknownDestination | Reason::ForwardedTwice)
        )
    }

    /// Returns a sentence for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.reason()
            .map_or("A reason that this version does not know.", Reason::text)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::from_code(reason.code())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (reason {})",
            self.text().trim_end_matches('.'),
            self.code
        )
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "Refusal({reason})"),
            None => write!(f, "Refusal({})", self.code),
        }
    }
}

/// Why a session to a relay could not be made, or ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The client was closed or dropped.
    #[error("client was closed")]
    LocalClosed,
    /// The relay's key or the identity cannot be used.
    #[error("key cannot be used: {0}")]
    LocalKey(#[source] KeyError),
    /// The system gave no randomness.
    #[error("no randomness: {0}")]
    LocalRandom(#[source] getrandom::Error),
    /// The relay ended the session; with a reason when it gave one.
    #[error("relay ended the session{}", .0.map_or_else(String::new, |refusal| format!(": {refusal}")))]
    RelayClosed(Option<Refusal>),
    /// The TCP connection was not made in time.
    #[error("relay did not answer the connect within {0:?}")]
    RelayConnectTimeout(Duration),
    /// The Noise handshake failed: this is not the relay with that key.
    #[error("handshake with the relay failed: {0}")]
    RelayHandshake(#[source] HandshakeError),
    /// The relay ended the connection inside the handshake. A relay with another key than the one in
    /// its address does this: it cannot read the first message.
    #[error("relay ended the connection inside the handshake (is its key the right one?)")]
    RelayHandshakeCut,
    /// The connection stands, but the relay's verdict did not come in time.
    #[error("relay did not end the handshake within {0:?}")]
    RelayHandshakeTimeout(Duration),
    /// The connection broke.
    #[error("connection to the relay broke: {0}")]
    RelayLost(#[source] io::Error),
    /// The relay broke the protocol.
    #[error("relay broke the protocol: {0}")]
    RelayProtocol(#[source] peer::SessionError),
    /// The relay turned the session away.
    #[error("relay refused the session: {refusal}")]
    RelayRefused {
        /// Why.
        refusal: Refusal,
        /// When to come again, if the relay named a time.
        retry_after: Option<Duration>,
    },
    /// Nothing was heard from the relay for too long.
    #[error("relay is silent")]
    RelaySilent,
    /// The TCP connection could not be made.
    #[error("relay cannot be reached: {0}")]
    RelayUnreachable(#[source] io::Error),
}

impl SessionError {
    /// Returns the relay's reason, if it gave one.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::RelayClosed(refusal) => *refusal,
            Self::RelayRefused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Returns when the relay asked to be tried again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RelayRefused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns how much the error says when several relays failed: the farther the attempt came, the
    /// more.
    pub(crate) const fn telling(&self) -> u8 {
        match self {
            Self::RelayRefused { .. } => 4,
            Self::LocalKey(_) | Self::RelayHandshake(_) | Self::RelayProtocol(_) => 3,
            Self::RelayHandshakeCut | Self::RelayHandshakeTimeout(_) => 2,
            Self::RelayClosed(_) | Self::RelayLost(_) | Self::RelaySilent => 2,
            Self::RelayConnectTimeout(_) | Self::RelayUnreachable(_) => 1,
            Self::LocalClosed | Self::LocalRandom(_) => 0,
        }
    }

    /// Whether making the session again soon would do harm or lead nowhere: the relay does not admit
    /// this key, or a newer session of it has taken over.
    pub(crate) fn is_lasting(&self) -> bool {
        let lasting = [Reason::NotAllowed, Reason::Replaced, Reason::Version];
        self.refusal()
            .and_then(Refusal::reason)
            .is_some_and(|reason| lasting.contains(&reason))
    }
}

/// Why a client has no session to begin with.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The key of a relay is of another dialect than that of the client.
    #[error(
        "{relay} speaks another dialect than this party's key: keys and relays of 66 digits (dmsg) go together, \
         and so do those of 64 (native)"
    )]
    LocalDialect {
        /// The relay.
        relay: RelayAddress,
    },
    /// The configuration names no relay.
    #[error("no relay is configured")]
    LocalNoRelay,
    /// No relay gave a session; this is what the most telling attempt met.
    #[error("{relay}: {error}")]
    Relay {
        /// The relay.
        relay: RelayAddress,
        /// What went wrong.
        #[source]
        error: Arc<SessionError>,
    },
}

impl ConnectError {
    /// Returns the relay's reason, if it gave one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::LocalDialect { .. } | Self::LocalNoRelay => None,
            Self::Relay { error, .. } => error.refusal(),
        }
    }
}

/// Why a dial gave no stream.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// The client was closed.
    #[error("client was closed")]
    LocalClosed,
    /// The destination's key is of another dialect than this party's: no relay joins the two.
    #[error(
        "key of the destination is of another dialect (64 digits: native, 66: dmsg) than this party's"
    )]
    LocalDialect,
    /// The destination's key cannot be used.
    #[error("key of the destination cannot be used")]
    LocalKey,
    /// No session stands; wait with [`Client::ready`](crate::Client::ready).
    #[error("no session to any relay")]
    LocalNoSession,
    /// Too many opens wait for the socket; try again a little later.
    #[error("too many opens wait to be sent")]
    LocalQueue,
    /// All ephemeral ports are in use or rest after their use: reason 401.
    #[error(
        "no ephemeral port is free: {taken} of {total} in use or in quarantine, 1 wanted (reason {}); \
         close streams, or dial more slowly",
        Reason::VirtualPortsExhausted.code()
    )]
    LocalPorts {
        /// Ports in use or in quarantine.
        taken: u32,
        /// Ports of the key.
        total: u32,
    },
    /// The system gave no randomness.
    #[error("no randomness: {0}")]
    LocalRandom(#[source] getrandom::Error),
    /// The sessions have as many streams as they may.
    #[error("sessions have as many streams as they may")]
    LocalStreams,
    /// The relay or the destination refused.
    #[error("dial was refused: {0}")]
    Refused(Refusal),
    /// The session ended while the dial was under way.
    #[error("session ended while dialling: {0}")]
    RelaySession(#[source] Arc<SessionError>),
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl DialError {
    /// Returns the error of a dial that found no source port.
    pub(crate) const fn ports(usage: PortUse) -> Self {
        Self::LocalPorts {
            taken: usage.in_use + usage.quarantined,
            total: usage.total,
        }
    }

    /// Returns the reason that came over the wire, if one did.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }

    /// Whether another relay may succeed where this one did not.
    pub(crate) fn is_worth_another_relay(&self) -> bool {
        match self {
            Self::Refused(refusal) => match refusal.reason() {
                // The destination's own answers: it would say the same over any relay.
                Some(
                    Reason::NoListener
                    | Reason::RefusedByDestination
                    | Reason::BadSignature
                    | Reason::StaleTimestamp,
                ) => false,
                _ => true,
            },
            // No session: this one was just let go.
            Self::LocalNoSession
            | Self::LocalQueue
            | Self::LocalStreams
            | Self::RelaySession(_)
            | Self::Timeout(_) => true,
            Self::LocalClosed
            | Self::LocalDialect
            | Self::LocalKey
            | Self::LocalPorts { .. }
            | Self::LocalRandom(_) => false,
        }
    }
}

/// Why a port cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Routes are of the native dialect, and the client's key is of another.
    #[error("routes are for native parties: this one's key is of the dmsg dialect")]
    LocalDialect,
    /// The client was closed.
    #[error("client was closed")]
    LocalClosed,
    /// Another listener of this client has the port. Port 7 is taken unless
    /// [`Config::answer_ping`](crate::Config::answer_ping) is off.
    #[error("port {port} has a listener already")]
    LocalPortInUse {
        /// The port.
        port: u16,
    },
}

/// Why a listener gives no more streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The client was closed.
    #[error("client was closed")]
    LocalClosed,
}

/// Why a ping has no time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PingError {
    /// The stream to the echo service could not be opened.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// No session stands.
    #[error("no session to any relay")]
    LocalNoSession,
    /// The stream broke before the echo came.
    #[error("stream broke: {0}")]
    PeerStream(#[source] io::Error),
    /// What came back is not what was sent.
    #[error("the port does not echo")]
    PeerNoEcho,
    /// The session ended before the answer came.
    #[error("session ended: {0}")]
    RelaySession(#[source] Arc<SessionError>),
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Why a stream cannot be read or written any more.
///
/// Reads and writes return it inside an [`io::Error`]; take it out with
/// [`io::Error::downcast`] or [`io::Error::get_ref`].
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// This side has shut its direction down.
    #[error("stream was shut down")]
    LocalFinished,
    /// A record does not open: somebody on the path changed it.
    #[error("record of the stream does not open")]
    PeerRecord,
    /// The other side reset the stream, or a relay did because a session ended.
    #[error("stream was reset")]
    PeerReset,
    /// The other side finished inside a record: what it wrote last is missing.
    #[error("stream ended inside a record")]
    PeerTruncated,
    /// The session under the stream ended.
    #[error("session ended: {0}")]
    RelaySession(#[source] Arc<SessionError>),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::LocalFinished => io::ErrorKind::BrokenPipe,
            StreamError::PeerRecord => io::ErrorKind::InvalidData,
            StreamError::PeerReset => io::ErrorKind::ConnectionReset,
            StreamError::PeerTruncated => io::ErrorKind::UnexpectedEof,
            StreamError::RelaySession(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
