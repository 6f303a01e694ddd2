//! What can go wrong on routes, by whose fault.
//!
//! Here: the errors of the public interface. Not here: the reactions.

use std::io;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::route;
use thiserror::Error;

use crate::error::{DialError, ListenError};

/// Why a route could not be set up, or ended.
///
/// Reads and writes return it inside an [`io::Error`].
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The router was stopped or dropped.
    #[error("router was stopped")]
    LocalClosed,
    /// This direction was shut down.
    #[error("stream was shut down")]
    LocalFinished,
    /// As many groups end here as may.
    #[error("{have} route groups end here already")]
    LocalGroups {
        /// Groups.
        have: usize,
    },
    /// The destination's key cannot be used.
    #[error("key of the destination cannot be used")]
    LocalKey,
    /// The plan is not well formed, or the table has no room.
    #[error("route: {0}")]
    LocalPlan(#[source] route::Refusal),
    /// A port has a listener already, or the client was closed.
    #[error("{0}")]
    LocalPort(#[from] ListenError),
    /// The system gave no randomness.
    #[error("no randomness: {0}")]
    LocalRandom(#[source] getrandom::Error),
    /// The destination ended the route before it was open.
    #[error("destination refused the route: {}", Reason::from_code(*.0).map_or("a reason that this version does not know", Reason::text))]
    PeerRefused(u16),
    /// The other end has reset the stream.
    #[error("stream was reset")]
    PeerReset,
    /// The path is lost, and no other one was found.
    #[error("path is lost and none was found in {0:?}")]
    PathLost(Duration),
    /// The relay refused.
    #[error("relay refused: {0}")]
    RelayRefused(#[source] route::Refusal),
    /// The relay answered something else than was asked.
    #[error("relay {0} broke the protocol of routes")]
    RelayProtocol(PublicKey),
    /// The relay's service cannot be reached.
    #[error("route setup at relay {relay}: {error}")]
    RelayUnreachable {
        /// The relay.
        relay: PublicKey,
        /// What went wrong.
        #[source]
        error: DialError,
    },
    /// The stream to the relay's service ended before the answer.
    #[error("relay {0} ended the stream before its answer")]
    RelayLost(PublicKey),
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl RouteError {
    /// Returns the reason that came over the wire, if one did.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::LocalPlan(refusal) | Self::RelayRefused(refusal) => refusal.reason(),
            Self::PeerRefused(code) => Reason::from_code(*code),
            _ => None,
        }
    }

    /// Returns the number that a failed setup counts under; 0 without a reason.
    pub(crate) fn code(&self) -> u16 {
        self.reason().map_or(0, Reason::code)
    }
}

impl From<RouteError> for io::Error {
    fn from(error: RouteError) -> Self {
        let kind = match &error {
            RouteError::LocalFinished => io::ErrorKind::BrokenPipe,
            RouteError::PeerReset => io::ErrorKind::ConnectionReset,
            RouteError::PathLost(_) | RouteError::Timeout(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
