//! The peer side of a session, without I/O.
//!
//! Here: [`Mux`], the stream multiplexer (frames, windows, fair sending), and [`PeerSession`],
//! which adds the handshake, the verdict, the sealed opens in both directions, keep-alive and
//! deadlines. Not here: sockets, clocks, randomness, the encryption of stream records (`record`).
//!
//! A driver owns the socket and the clock and repeats, in any order:
//!
//! 1. bytes came: [`PeerSession::receive`]; end of the TCP stream: [`PeerSession::eof`];
//! 2. [`PeerSession::next_deadline`] passed: [`PeerSession::handle_timeout`];
//! 3. after either, and after every call of the application: [`PeerSession::poll_event`] until
//!    `None`, then [`PeerSession::transmit`] while [`PeerSession::wants_transmit`].
//!
//! A session ends exactly once: with a [`PeerEvent::Closed`] that carries the [`SessionError`].
//! What `transmit` still yields afterwards (a Go Away) is worth sending before the socket is
//! closed.
//!
//! Invariant: no input makes a call panic; each malformed input has a named error with a `Reason`.
//! Bound: every table, queue and buffer has a limit in [`PeerConfig`] or beside its declaration.
//! Source: docs/protocol.md sections 2 to 4; hashicorp yamux spec.md.

mod chunks;
mod config;
mod error;
mod event;
mod mux;
mod session;
mod stream;
mod window;

pub use config::{MuxConfig, PeerConfig};
pub use error::{AcceptError, MuxError, OpenStreamError, SessionError, StreamError};
pub use event::{IncomingRequest, MuxEvent, PeerEvent};
pub use mux::{Mux, Side};
pub use session::{PeerSession, PeerStats};
pub use stream::{Action, State, StateEvent, StreamId};
