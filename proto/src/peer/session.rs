//! One session of a peer with a relay, from the first handshake byte to the end.
//!
//! Here: handshake, verdict, keep-alive, deadlines, and how a session ends. `session/opens.rs` has
//! the opens of both directions, [`Mux`] the streams. Not here: sockets and clocks.
//!
//! ```text
//!            message 2            verdict: accepted
//!   Greeting ---------> Admission ----------------> Open
//!       |                   |                         |
//!       '---- any error, refusal, eof, time-out ------+--> Closed
//! ```
//!
//! ```text
//! | phase \ event | message 2 | verdict | frames | deadline | eof |
//! |---|---|---|---|---|---|
//! | Greeting | send message 3 -> Admission | - | - | Closed (204) | Closed |
//! | Admission | - | accepted -> Open, else Closed | - | Closed (204) | Closed |
//! | Open | - | - | to the mux | ping; Closed (209) after the last | Closed |
//! | Closed | ignored | ignored | ignored | ignored | ignored |
//! ```
//!
//! The dmsg dialect has no verdict: a session stands behind message 3, but whether the relay thinks so too
//! shows in its frames. So a ping goes out behind message 3; in `Admission` frames go to the mux, the answer
//! to that ping is the acceptance, and a Go Away with a reason the refusal.
//!
//! Bytes that the relay sends behind message 2 or the verdict are taken in the same call. Streams
//! may be opened from `Admission` on: the relay keeps what comes behind message 3.
//!
//! Bound: `input` holds one handshake message or the verdict; the rest is bounded by [`Mux`], and
//! `pending` by the number of streams.

mod greeting;
mod opens;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::BytesMut;

use self::greeting::{Keys, PREFIX_LEN, Phase};
use self::opens::Pending;
use super::config::PeerConfig;
use super::error::{MuxError, SessionError, StreamError};
use super::event::PeerEvent;
use super::mux::{Mux, Side};
use super::stream::{State, StreamId};
use crate::dialect::Dialect;
use crate::dialect::peer::{Identity, Introduction, begin_handshake};
use crate::entry::PeerEntry;
use crate::frame::GoAwayCode;
use crate::handshake::{HandshakeError, Offer, Role};
use crate::key::PublicKey;
use crate::limits::PIPELINED_MAX;
use crate::time::Now;

/// The peer side of one session. See the module's documentation of [`peer`](super) for the calls a
/// driver makes and [`PeerEvent`] for what it gets.
#[derive(Debug)]
pub struct PeerSession {
    identity: Identity,
    public: PublicKey,
    relay: PublicKey,
    config: PeerConfig,
    phase: Phase,
    /// Handshake bytes that wait for the rest of their message.
    input: Vec<u8>,
    /// Handshake messages to send, ahead of the mux.
    output: Vec<u8>,
    mux: Mux,
    /// Bytes of frames that may still be sent before the verdict.
    admission_left: usize,
    pending: BTreeMap<StreamId, Pending>,
    /// When the entries of `pending` that wait for the other side give up.
    deadlines: BTreeSet<(Now, StreamId)>,
    /// Entries of `pending` that wait for the application.
    offered_count: u32,
    events: VecDeque<PeerEvent>,
    /// The end of the session, until it was polled.
    closing: Option<SessionError>,
    /// Wall clock minus `now`, ns.
    unix_offset_ns: u64,
    /// Latest time a caller gave.
    now: Now,
    started_at: Now,
    /// When bytes came last, or a keep-alive ping went out after that.
    heard_or_pinged_at: Now,
    /// Keep-alive pings since bytes came.
    missed: u32,
    stats: PeerStats,
}

/// Counters of one session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerStats {
    /// Opens of this side.
    pub opens: u64,
    /// Opens of this side that failed, for whatever reason.
    pub opens_refused: u64,
    /// Opens of other peers that reached the application.
    pub incoming: u64,
    /// Opens of other peers that this side refused before the application saw them: malformed, not
    /// for this key, stale, badly signed, or too many at a time.
    pub incoming_refused: u64,
}

impl PeerSession {
    /// Begins a session with `relay`; `random` is the ephemeral secret of the handshake and must be
    /// used once. `transmit` yields message 1.
    ///
    /// # Errors
    ///
    /// [`SessionError::PeerHandshake`] when the relay's key is no usable point or of another dialect than the
    /// identity, or the extensions are too long.
    pub fn connect(
        identity: impl Into<Identity>,
        relay: PublicKey,
        mut config: PeerConfig,
        random: [u8; 32],
        now: Now,
    ) -> Result<Self, SessionError> {
        let identity = identity.into();
        let mut extensions = config.extensions.clone();
        if config.role == Role::Peer
            && let Identity::Native(secret) = &identity
        {
            let entry = PeerEntry::sign(secret, &relay, config.unix_time_ns)
                .map_err(HandshakeError::PeerKey)?;
            extensions.push(entry.into());
        }
        let introduction = Introduction {
            role: config.role,
            extensions: &extensions,
            passphrase: config.passphrase.as_ref().map(|it| it.as_slice()),
        };
        let (initiator, output) = begin_handshake(&identity, &relay, &introduction, random)?;
        config.mux.dialect = identity.dialect();
        Ok(Self {
            public: identity.public(),
            identity,
            relay,
            phase: Phase::Greeting(Some(Box::new(initiator))),
            input: Vec::new(),
            output,
            mux: Mux::new(Side::Connecting, config.mux.clone(), now),
            admission_left: PIPELINED_MAX,
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            offered_count: 0,
            events: VecDeque::new(),
            closing: None,
            unix_offset_ns: config.unix_time_ns.wrapping_sub(now.as_nanos()),
            config,
            now,
            started_at: now,
            heard_or_pinged_at: now,
            missed: 0,
            stats: PeerStats::default(),
        })
    }

    /// Takes received bytes, in any split.
    ///
    /// # Errors
    ///
    /// The error that ended the session, now or before. The driver sends what `transmit` still
    /// yields and closes the socket.
    pub fn receive(&mut self, mut bytes: &[u8], now: Now) -> Result<(), SessionError> {
        self.now = now;
        if !bytes.is_empty() {
            self.heard_or_pinged_at = now;
            self.missed = 0;
        }
        match self.try_receive(&mut bytes, now) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.close(error);
                Err(error)
            }
        }
    }

    /// Notes that the relay closed its direction of the TCP connection; the session is over.
    pub fn eof(&mut self, now: Now) {
        self.now = now;
        let is_between_frames =
            matches!(self.phase, Phase::Open(..)) && !self.mux.is_inside_frame();
        self.close(if is_between_frames {
            SessionError::PeerClosed
        } else {
            SessionError::PeerTruncated
        });
    }

    /// Does what is due: keep-alive, time-outs of the session and of opens. May be called at any
    /// time.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        match self.phase {
            Phase::Greeting(_) | Phase::Admission(..) => {
                if now >= self.started_at + self.config.handshake_timeout {
                    self.close(SessionError::PeerHandshakeTimeout);
                }
            }
            Phase::Open(..) => {
                if now >= self.keepalive_deadline() {
                    if self.missed >= self.config.keepalive_missed_max {
                        self.close(SessionError::PeerSilent);
                    } else {
                        self.missed += 1;
                        self.heard_or_pinged_at = now;
                        self.mux.probe(now);
                    }
                }
            }
            Phase::Closed(_) => {}
        }
        self.expire_opens();
    }

    /// Appends up to `bytes_max` pending bytes to `out`; returns how many.
    pub fn transmit(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> usize {
        let n = self.output.len().min(bytes_max);
        if n > 0 {
            out.extend_from_slice(&self.output[..n]);
            self.output.drain(..n);
            if !self.output.is_empty() {
                return n;
            }
            self.output = Vec::new();
        }
        let room = bytes_max - n;
        let sent = self.mux.transmit(out, room.min(self.mux_room()));
        if matches!(self.phase, Phase::Admission(..)) {
            self.admission_left -= sent;
        }
        n + sent
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        if let Some(event) = self.mux.poll_event() {
            return Some(event.into());
        }
        let error = self.closing.take()?;
        Some(PeerEvent::Closed { error })
    }

    /// Queues bytes on an open stream; returns how many were taken, bounded by the stream's window
    /// and the send queue. When fewer than given, a `Writable` follows.
    ///
    /// # Errors
    ///
    /// See [`StreamError`].
    pub fn write(&mut self, stream: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        self.mux.write(stream, bytes)
    }

    /// Reads received bytes and grants the sender as many; 0 when there are none now. The end is a
    /// `Finished`.
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when the stream is gone, [`StreamError::NotOpen`] while its open is
    /// under way.
    pub fn read(&mut self, stream: StreamId, out: &mut [u8]) -> Result<usize, StreamError> {
        self.check_open(stream)?;
        self.mux.read(stream, out)
    }

    /// Takes the next chunk of received bytes without copying it; see [`Mux::read_chunk`].
    ///
    /// # Errors
    ///
    /// As [`PeerSession::read`].
    pub fn read_chunk(&mut self, stream: StreamId) -> Result<Option<BytesMut>, StreamError> {
        self.check_open(stream)?;
        self.mux.read_chunk(stream)
    }

    /// Ends our direction of an open stream, behind what is queued.
    ///
    /// # Errors
    ///
    /// [`StreamError::Finished`] the second time, else as `write`.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), StreamError> {
        self.mux.finish(stream)
    }

    /// Resets a stream, open or not; it is gone at once.
    ///
    /// # Errors
    ///
    /// [`StreamError::Unknown`] when it was gone already.
    pub fn reset(&mut self, stream: StreamId) -> Result<(), StreamError> {
        self.remove_pending(stream);
        self.mux.reset(stream)
    }

    /// Sends a ping; the answer is a `Pong`.
    pub fn ping(&mut self, now: Now) {
        self.now = now;
        self.mux.ping(now);
    }

    /// Announces that this side takes and makes no new streams; open ones finish.
    pub fn go_away(&mut self) {
        self.mux.go_away();
    }

    /// Tells the session the wall clock, ns since 1970, when the host's clock was set.
    pub fn set_unix_time(&mut self, unix_time_ns: u64, now: Now) {
        self.unix_offset_ns = unix_time_ns.wrapping_sub(now.as_nanos());
    }

    /// Returns whether `transmit` has something to append.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.output.is_empty() || (self.mux_room() > 0 && self.mux.wants_transmit())
    }

    /// Returns when `handle_timeout` is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        let session = match self.phase {
            Phase::Greeting(_) | Phase::Admission(..) => {
                self.started_at + self.config.handshake_timeout
            }
            Phase::Open(..) => self.keepalive_deadline(),
            Phase::Closed(_) => return None,
        };
        let open = self.deadlines.first().map_or(session, |(at, _)| *at);
        Some(session.min(open))
    }

    /// Returns the last measured round trip to the relay.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.mux.rtt()
    }

    /// Returns this side's public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Returns the relay's public key.
    #[must_use]
    pub const fn relay(&self) -> PublicKey {
        self.relay
    }

    /// Returns the relay's offer, once its message 2 came; in the dmsg dialect, which has none, what relays
    /// that speak it are known to do.
    #[must_use]
    pub const fn offer(&self) -> Option<&Offer> {
        match &self.phase {
            Phase::Admission(_, offer) | Phase::Open(_, offer) => Some(offer),
            Phase::Greeting(_) | Phase::Closed(_) => None,
        }
    }

    /// Returns whether the relay has admitted the session and it has not ended.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Open(..))
    }

    /// Returns why the session ended, if it did.
    #[must_use]
    pub const fn error(&self) -> Option<SessionError> {
        match self.phase {
            Phase::Closed(error) => Some(error),
            Phase::Greeting(_) | Phase::Admission(..) | Phase::Open(..) => None,
        }
    }

    /// Returns the state of a stream, `None` when it is gone.
    #[must_use]
    pub fn stream_state(&self, stream: StreamId) -> Option<State> {
        self.mux.state(stream)
    }

    /// Returns how many streams there are, those being opened included.
    #[must_use]
    pub fn streams_count(&self) -> u32 {
        self.mux.streams_count()
    }

    /// Returns how many received bytes of a stream wait to be read.
    #[must_use]
    pub fn readable_bytes(&self, stream: StreamId) -> usize {
        self.mux.readable_bytes(stream)
    }

    /// Returns how many written bytes of a stream wait for `transmit`.
    #[must_use]
    pub fn unsent_bytes(&self, stream: StreamId) -> usize {
        self.mux.unsent_bytes(stream)
    }

    /// Returns the receive window of a stream.
    #[must_use]
    pub fn window_bytes(&self, stream: StreamId) -> Option<u32> {
        self.mux.window_bytes(stream)
    }

    /// Returns the session's counters.
    #[must_use]
    pub const fn stats(&self) -> PeerStats {
        self.stats
    }

    /// Ends the session, once.
    fn close(&mut self, error: SessionError) {
        let code = match (&self.phase, error) {
            (Phase::Closed(_), _) => return,
            (Phase::Greeting(_), _) => {
                self.output = Vec::new();
                None
            }
            (
                Phase::Admission(..) | Phase::Open(..),
                SessionError::PeerMux(MuxError::LocalEvents),
            ) => Some(GoAwayCode::InternalError),
            (
                Phase::Admission(..) | Phase::Open(..),
                SessionError::PeerMux(_)
                | SessionError::PeerSealed(_)
                | SessionError::PeerVerdict(_),
            ) => Some(GoAwayCode::ProtocolError),
            (Phase::Admission(..) | Phase::Open(..), _) => None,
        };
        self.mux.close(code);
        self.phase = Phase::Closed(error);
        self.closing = Some(error);
        self.input = Vec::new();
        self.pending.clear();
        self.deadlines.clear();
        self.offered_count = 0;
    }

    const fn dialect(&self) -> Dialect {
        self.identity.dialect()
    }

    fn keepalive_deadline(&self) -> Now {
        self.heard_or_pinged_at + self.config.keepalive_interval
    }

    fn unix_time_ns(&self) -> u64 {
        self.unix_offset_ns.wrapping_add(self.now.as_nanos())
    }

    /// Bytes of frames that the relay takes now: none before its message 2, and before the verdict no
    /// more than it keeps.
    const fn mux_room(&self) -> usize {
        match self.phase {
            Phase::Greeting(_) => 0,
            Phase::Admission(..) => self.admission_left,
            Phase::Open(..) | Phase::Closed(_) => usize::MAX,
        }
    }

    /// What a stream got before it was open is not the application's, also after the session's end.
    fn check_open(&self, stream: StreamId) -> Result<(), StreamError> {
        let is_possible = !self.pending.is_empty() || matches!(self.phase, Phase::Closed(_));
        if is_possible && self.mux.is_in_setup(stream) {
            return Err(StreamError::NotOpen);
        }
        Ok(())
    }
}
