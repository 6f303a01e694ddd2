//! What a peer may set, and the bounds that are its own.
//!
//! Here: settings with defaults and the memory each costs. Not here: bounds that both sides of the
//! wire share (`limits`).
//!
//! Sum: one session holds at most `streams_max` streams of about 300 bytes, `streams_max` initial
//! windows plus `window_growth_bytes_max` received and unread (only as far as the senders use
//! them), `send_queue_bytes_max` unsent, [`CONTROL_BYTES_MAX`] of control frames, [`EVENTS_MAX`]
//! events.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use zeroize::Zeroizing;

use crate::dialect::Dialect;
use crate::handshake::{Extension, Role};
use crate::limits;

/// Settings of a [`Mux`](super::Mux).
#[derive(Clone, Debug)]
pub struct MuxConfig {
    /// What the remote side speaks; a [`PeerSession`](super::PeerSession) sets its own.
    pub dialect: Dialect,
    /// Most streams at a time, both directions together.
    pub streams_max: u32,
    /// Receive window of a new stream; at least [`limits::WINDOW_INITIAL`], what is above it goes
    /// out with the SYN or the ACK.
    pub window_initial: u32,
    /// Largest receive window of a stream; at most [`limits::WINDOW_MAX`].
    pub window_max: u32,
    /// Sum of what the windows of all streams may grow beyond `window_initial`.
    pub window_growth_bytes_max: u32,
    /// Unsent bytes of one stream that [`Mux::write`](super::Mux::write) accepts.
    pub stream_send_bytes_max: u32,
    /// Unsent bytes of all streams that [`Mux::write`](super::Mux::write) accepts.
    pub send_queue_bytes_max: u32,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            dialect: Dialect::Native,
            streams_max: limits::STREAMS_MAX,
            window_initial: limits::WINDOW_INITIAL,
            window_max: limits::WINDOW_MAX,
            window_growth_bytes_max: WINDOW_GROWTH_BYTES_MAX,
            stream_send_bytes_max: STREAM_SEND_BYTES_MAX,
            send_queue_bytes_max: SEND_QUEUE_BYTES_MAX,
        }
    }
}

/// Settings of a [`PeerSession`](super::PeerSession).
#[derive(Clone)]
pub struct PeerConfig {
    /// Wall-clock time, ns since 1970, at the `now` that is given to `connect`.
    ///
    /// The session reads no clock; it derives the time of later opens from this and from `now`, and
    /// refuses open requests that are too far from it. Correct it with
    /// [`PeerSession::set_unix_time`](super::PeerSession::set_unix_time) when the host's clock is
    /// set.
    pub unix_time_ns: u64,
    /// What this party is to the relay. As the two below, the native dialect alone has a place for it.
    pub role: Role,
    /// Extensions sent in handshake message 3.
    pub extensions: Vec<Extension>,
    /// What a private relay asks for; message 3 proves that this side knows it.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
    /// Streams and windows; `streams_max` is lowered to the relay's offer.
    pub mux: MuxConfig,
    /// Opens of other peers that wait for `accept` or `refuse`; more are refused with reason 303.
    pub incoming_pending_max: u32,
    /// Time from `connect` to the verdict, in the dmsg dialect to the first answer of the relay.
    pub handshake_timeout: Duration,
    /// Time from `open` to the answer. Longer than the relay's own limits, so that its reason
    /// arrives before this side gives up.
    pub open_timeout: Duration,
    /// Time from a stream's SYN to its complete open request.
    pub request_timeout: Duration,
    /// Silence after which a ping goes out. The relay pings by itself as well, see its offer.
    pub keepalive_interval: Duration,
    /// Pings without any byte in return after which the session ends.
    pub keepalive_missed_max: u32,
}

impl PeerConfig {
    /// Returns the defaults for a session that starts at `unix_time_ns` (ns since 1970).
    #[must_use]
    pub fn new(unix_time_ns: u64) -> Self {
        Self {
            unix_time_ns,
            role: Role::Peer,
            extensions: Vec::new(),
            passphrase: None,
            mux: MuxConfig::default(),
            incoming_pending_max: INCOMING_PENDING_MAX,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            open_timeout: limits::DIAL_TIMEOUT + limits::OPEN_TIMEOUT,
            request_timeout: limits::OPEN_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_missed_max: limits::KEEPALIVE_MISSED_MAX,
        }
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("unix_time_ns", &self.unix_time_ns)
            .field("role", &self.role)
            .field("has_passphrase", &self.passphrase.is_some())
            .field("mux", &self.mux)
            .field("incoming_pending_max", &self.incoming_pending_max)
            .finish_non_exhaustive()
    }
}

/// Sum of window growth over all streams of a session.
///
/// Four streams can reach 16 MiB each. A reader that stops holds at most this much more than the
/// initial windows.
pub(super) const WINDOW_GROWTH_BYTES_MAX: u32 = 67_108_864;

/// Unsent bytes of one stream.
///
/// One batch of the relay: enough to fill a socket write, small enough that what the application
/// wrote is soon on its way. Queued bytes always fit in the stream's send window.
pub(super) const STREAM_SEND_BYTES_MAX: u32 = 262_144;

/// Unsent bytes of one session.
///
/// All of it may be sent at once (it is within the windows), so it drains as fast as the socket and
/// no stream can keep it from the others.
pub(super) const SEND_QUEUE_BYTES_MAX: u32 = 4_194_304;

/// Opens of other peers that wait for the application.
///
/// Each costs a slot and about 500 bytes; an application that accepts in time has a handful.
pub(super) const INCOMING_PENDING_MAX: u32 = 256;

/// Control frames that wait for the socket: pings' answers, resets, grants, open objects.
///
/// Holds 2,048 opens in one flight. A peer that makes us answer without reading the answers hits it
/// after 87,000 frames and loses the session.
pub(super) const CONTROL_BYTES_MAX: usize = 1_048_576;

/// Events that wait for `poll_event`. A stream has at most one of a kind, so only a driver that
/// does not poll between calls of `receive` meets this bound.
pub(super) const EVENTS_MAX: usize = 16_384;

/// Time between two measurements of the round trip while bytes arrive.
///
/// The windows' growth depends on it; paths change on this scale. 24 bytes each.
pub(super) const RTT_INTERVAL: Duration = Duration::from_secs(10);

/// Largest open time taken for a round trip of the whole path: a destination that thinks longer
/// before it accepts does not make its window grow.
pub(super) const PATH_RTT_MAX: Duration = Duration::from_millis(500);

/// Largest payload of one data frame when no other stream waits: four quanta.
///
/// A control frame waits behind at most this much (0.5 ms at 1 Gbit/s).
pub(super) const FRAME_PAYLOAD_MAX: u32 = 4 * limits::DRR_QUANTUM;
