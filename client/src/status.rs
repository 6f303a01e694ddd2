//! What a client says about its sessions.
//!
//! Here: the values of [`Client::status`](crate::Client::status) and
//! [`Client::watch`](crate::Client::watch). Not here: who changes them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::RelayAddress;
use crate::error::SessionError;

/// How one session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// The client was closed.
    Closed,
    /// The connection or the handshake is under way.
    Connecting,
    /// No session is held; a dial that needs one has it made.
    OnDemand,
    /// The relay admitted the session.
    Ready,
    /// The session ended or could not be made; it is tried again.
    Waiting {
        /// Failures since a session last stood.
        failures_count: u32,
        /// Length of the pause that has begun.
        pause: Duration,
    },
}

impl SessionState {
    /// Whether streams can be opened.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// One relay at the time of asking.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The relay.
    pub relay: RelayAddress,
    /// How the session stands.
    pub state: SessionState,
    /// Whether the session is to be held: the relay is one of the nearest, stands in for one of them,
    /// or was never tried.
    pub is_kept: bool,
    /// Round trip to the relay, smoothed over the last measurements, also of earlier sessions.
    pub rtt: Option<Duration>,
    /// Streams that are open.
    pub streams_count: u32,
    /// What the last attempt or session ended with.
    pub error: Option<Arc<SessionError>>,
}
