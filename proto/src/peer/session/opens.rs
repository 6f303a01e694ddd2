//! Opens of streams, in both directions.
//!
//! Here: requests sent and answered, requests received, checked and answered. Not here: the
//! objects' layout (`open`), the stream's keys (`kk`), frames.
//!
//! ```text
//!  ours:    open() -> Opening --response accepted--> released: Opened
//!                        |----response refused, malformed, reset, time-out--> OpenRefused
//!
//!  theirs:  SYN -> Requested --request good--> Offered --accept()--> released
//!                     |                           '-----refuse(), reset--> gone
//!                     '--request bad: refused; reset or time-out--> gone
//! ```
//!
//! ```text
//! | event \ state | Opening                    | Requested              | Offered        |
//! |---------------|----------------------------|------------------------|----------------|
//! | object        | Opened or OpenRefused      | Incoming, -> Offered   | kept for later |
//! | bad object    | OpenRefused 206, 306; RST  | refused, its reason    | -              |
//! | FIN           | OpenRefused 206; RST       | RST                    | kept for later |
//! | reset         | OpenRefused 305 or 310     | gone                   | Reset          |
//! | time-out      | OpenRefused 302; RST       | RST                    | -              |
//! | accept        | -                          | -                      | released       |
//! | refuse        | -                          | -                      | refused, gone  |
//! ```
//!
//! An object that does not open ends the session: it was sealed by the relay for this session.
//!
//! In the dmsg dialect only the destination can say why it refuses: a relay resets, or finishes, before a
//! byte of an answer, and both are reason 310. What this side refuses it resets behind its answer, so that a
//! relay of Go's, which does nothing with the answer, forgets the stream. A stream may also ask for its first
//! two bytes, which are zeros, and nothing else.
//!
//! Invariant: a stream is in `pending` exactly while the mux holds it in setup.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::config::PATH_RTT_MAX;
use super::super::error::{AcceptError, MuxError, OpenStreamError};
use super::super::event::{IncomingRequest, RequestParts};
use super::{Keys, PREFIX_LEN, PeerEvent, PeerSession, Phase, SessionError, StreamId};
use crate::dialect::peer::{self, Incoming, Refusal};
use crate::dialect::{Dialect, RequestHash};
use crate::key::Address;
use crate::kk::RecordKeys;
use crate::limits::OPEN_TIMESTAMP_SKEW_MAX;
use crate::open::OpenError;
use crate::reason::Reason;
use crate::sealed::{self, DMSG_PING};
use crate::time::Now;

/// An open that is under way.
#[derive(Debug)]
pub(super) enum Pending {
    /// Ours; waits for the response.
    Opening(Box<Opening>),
    /// Theirs; waits for the request until the deadline.
    Requested(Now),
    /// Theirs; waits for the application.
    Offered,
}

/// An open of ours and what its response is checked against.
#[derive(Debug)]
pub(super) struct Opening {
    opening: peer::Opening,
    sent_at: Now,
    deadline: Now,
}

impl PeerSession {
    /// Asks the relay for a stream to `destination`. `timestamp_ns` is the wall clock (ns since
    /// 1970), `random` the ephemeral secret of the stream's handshake and must be used once. The
    /// answer is an `Opened` or an `OpenRefused`.
    ///
    /// The deadline counts from the latest time that a call gave: a driver that has been idle calls
    /// `handle_timeout` first. Works from the relay's message 2 on; what is sent before the verdict
    /// travels right behind message 3.
    ///
    /// # Errors
    ///
    /// See [`OpenStreamError`]; nothing was sent.
    pub fn open(
        &mut self,
        destination: Address,
        source_port: u16,
        timestamp_ns: u64,
        random: [u8; 32],
    ) -> Result<StreamId, OpenStreamError> {
        self.mux.check_open()?;
        let Some(keys) = self.phase.keys() else {
            return Err(OpenStreamError::NotReady);
        };
        let source = Address::new(self.public, source_port);
        let (opening, plain) = self
            .identity
            .request(source, destination, timestamp_ns, random)
            .map_err(|_| OpenStreamError::LocalKey)?;
        let mut object = Vec::with_capacity(sealed::SEALED_OVERHEAD + plain.len());
        keys.sealer
            .seal(&plain, &mut object)
            .map_err(|_| OpenStreamError::GoingAway)?;
        let stream = self.mux.open(&object)?;
        let deadline = self.now + self.config.open_timeout;
        let opening = Opening {
            opening,
            sent_at: self.now,
            deadline,
        };
        self.pending
            .insert(stream, Pending::Opening(Box::new(opening)));
        self.deadlines.insert((deadline, stream));
        self.stats.opens += 1;
        Ok(stream)
    }

    /// Accepts an incoming open and returns the keys of its records. `random` is the ephemeral
    /// secret of the stream's handshake and must be used once.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]; the stream is gone in every case.
    pub fn accept(
        &mut self,
        stream: StreamId,
        request: IncomingRequest,
        random: [u8; 32],
    ) -> Result<RecordKeys, AcceptError> {
        self.take_offered(stream)?;
        let parts = request.0;
        let source = &parts.source.key;
        let answer = self
            .identity
            .accept(source, &parts.noise, parts.hash, random);
        let Ok((response, keys)) = answer else {
            self.answer_no(stream, parts.hash, Reason::BadSignature);
            return Err(AcceptError::PeerHandshake);
        };
        if !self.answer(stream, &response, false) {
            return Err(AcceptError::Closed);
        }
        self.mux.release(stream, None);
        Ok(keys)
    }

    /// Refuses an incoming open; the stream is gone.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Unknown`] when it was gone already, [`AcceptError::Closed`] when the session
    /// is.
    pub fn refuse(
        &mut self,
        stream: StreamId,
        request: IncomingRequest,
        reason: Reason,
    ) -> Result<(), AcceptError> {
        self.take_offered(stream)?;
        self.answer_no(stream, request.0.hash, reason);
        Ok(())
    }

    /// Looks at every stream in setup on which something happened.
    pub(super) fn handle_setups(&mut self) -> Result<(), SessionError> {
        while let Some(stream) = self.mux.poll_setup() {
            if self.mux.is_flooded() {
                return Err(MuxError::PeerFlood.into());
            }
            self.handle_setup(stream)?;
        }
        Ok(())
    }

    /// Gives up the opens whose time has come.
    pub(super) fn expire_opens(&mut self) {
        while let Some((at, stream)) = self.deadlines.first().copied() {
            if at > self.now {
                break;
            }
            self.fail_open(stream, Reason::DialTimeout);
        }
    }

    /// Forgets the open of a stream; returns it.
    pub(super) fn remove_pending(&mut self, stream: StreamId) -> Option<Pending> {
        let pending = self.pending.remove(&stream)?;
        match &pending {
            Pending::Opening(opening) => {
                self.deadlines.remove(&(opening.deadline, stream));
            }
            Pending::Requested(deadline) => {
                self.deadlines.remove(&(*deadline, stream));
            }
            Pending::Offered => self.offered_count -= 1,
        }
        Some(pending)
    }

    fn handle_setup(&mut self, stream: StreamId) -> Result<(), SessionError> {
        let Some(state) = self.mux.state(stream) else {
            self.on_setup_reset(stream);
            return Ok(());
        };
        match self.pending.get(&stream) {
            Some(Pending::Offered) => return Ok(()),
            Some(Pending::Opening(_) | Pending::Requested(_)) => {}
            None => {
                let deadline = self.now + self.config.request_timeout;
                self.pending.insert(stream, Pending::Requested(deadline));
                self.deadlines.insert((deadline, stream));
            }
        }
        let Some(mut object) = self.take_object(stream)? else {
            if state.is_remote_closed() {
                let has_begun = self.mux.readable_bytes(stream) > 0;
                self.fail_open(stream, self.reason_of_end(has_begun));
            }
            return Ok(());
        };
        if self.dialect().is_ping(&object) {
            self.answer_ping(stream);
            return Ok(());
        }
        let Some(keys) = self.phase.keys() else {
            return Ok(());
        };
        let plain = keys.opener.open(&mut object[PREFIX_LEN..])?;
        match self.remove_pending(stream) {
            Some(Pending::Opening(opening)) => self.on_response(stream, *opening, plain),
            Some(Pending::Requested(_)) => self.on_request(stream, plain),
            Some(Pending::Offered) | None => {}
        }
        Ok(())
    }

    /// Reads the object at the head of a stream once it is whole.
    fn take_object(&mut self, stream: StreamId) -> Result<Option<Vec<u8>>, SessionError> {
        let mut prefix = [0; PREFIX_LEN];
        let have = self.mux.peek(stream, &mut prefix);
        let Some(len) = self.dialect().object_len(&prefix[..have])? else {
            return Ok(None);
        };
        if self.mux.readable_bytes(stream) < len {
            return Ok(None);
        }
        let mut object = vec![0; len];
        Ok(self.mux.read(stream, &mut object).ok().map(|_| object))
    }

    fn on_response(&mut self, stream: StreamId, opening: Opening, plain: &[u8]) {
        let rtt = self.now.saturating_since(opening.sent_at);
        match opening.opening.finish(plain) {
            Ok(keys) => {
                self.events.push_back(PeerEvent::Opened { stream, keys });
                self.mux.release(stream, Some(self.path_rtt(rtt)));
            }
            Err(Refusal::Answered(reason_code)) => {
                self.forget_refused(stream);
                self.push_refused(stream, reason_code);
            }
            Err(Refusal::Malformed(reason)) => self.drop_opening(stream, reason),
        }
    }

    fn on_request(&mut self, stream: StreamId, plain: &[u8]) {
        let hash = self.dialect().request_hash(plain);
        match self.check_request(plain) {
            Ok((source, port, noise)) => {
                self.pending.insert(stream, Pending::Offered);
                self.offered_count += 1;
                self.stats.incoming += 1;
                let request = IncomingRequest(Box::new(RequestParts {
                    hash,
                    source,
                    noise,
                }));
                self.events.push_back(PeerEvent::Incoming {
                    stream,
                    source,
                    port,
                    request,
                });
            }
            Err(reason) => {
                self.stats.incoming_refused += 1;
                self.answer_no(stream, hash, reason);
            }
        }
    }

    /// Checks an incoming request, the costly signature last.
    fn check_request(&self, plain: &[u8]) -> Result<(Address, u16, Vec<u8>), Reason> {
        let dialect = self.dialect();
        let request = dialect.decode_incoming(plain);
        let request = request.map_err(OpenError::reason)?;
        if request.destination.key != self.public {
            return Err(Reason::UnknownDestination);
        }
        if self.offered_count >= self.config.incoming_pending_max {
            return Err(Reason::TooManyStreams);
        }
        let skew = request.timestamp_ns.abs_diff(self.unix_time_ns());
        if dialect.checks_timestamps() && Duration::from_nanos(skew) > OPEN_TIMESTAMP_SKEW_MAX {
            return Err(Reason::StaleTimestamp);
        }
        dialect.verify_request(plain).map_err(OpenError::reason)?;
        let Incoming {
            source,
            destination,
            noise,
            ..
        } = request;
        Ok((source, destination.port, noise))
    }

    /// A stream in setup was reset by the relay.
    fn on_setup_reset(&mut self, stream: StreamId) {
        match self.remove_pending(stream) {
            Some(Pending::Opening(_)) => {
                let reason = match self.dialect() {
                    Dialect::Native => Reason::RefusedByDestination,
                    Dialect::Dmsg => Reason::Unexplained,
                };
                self.push_refused(stream, reason.code());
            }
            Some(Pending::Offered) => self.events.push_back(PeerEvent::Reset { stream }),
            Some(Pending::Requested(_)) | None => {}
        }
    }

    /// An open ends without an answer of the other side, or without a good one.
    fn fail_open(&mut self, stream: StreamId, reason: Reason) {
        match self.remove_pending(stream) {
            Some(Pending::Opening(_)) => self.drop_opening(stream, reason),
            Some(Pending::Requested(_)) => {
                self.stats.incoming_refused += 1;
                self.mux.abort(stream);
            }
            Some(Pending::Offered) | None => {}
        }
    }

    fn drop_opening(&mut self, stream: StreamId, reason: Reason) {
        self.mux.abort(stream);
        self.push_refused(stream, reason.code());
    }

    fn push_refused(&mut self, stream: StreamId, reason_code: u16) {
        self.stats.opens_refused += 1;
        self.events.push_back(PeerEvent::OpenRefused {
            stream,
            reason_code,
        });
    }

    fn take_offered(&mut self, stream: StreamId) -> Result<(), AcceptError> {
        if matches!(self.phase, Phase::Closed(_)) {
            return Err(AcceptError::Closed);
        }
        if !matches!(self.pending.get(&stream), Some(Pending::Offered)) {
            return Err(AcceptError::Unknown);
        }
        self.remove_pending(stream);
        Ok(())
    }

    /// Sends the response to a request. Returns whether it went out; if not the stream is reset.
    fn answer(&mut self, stream: StreamId, response: &[u8], is_last: bool) -> bool {
        let mut object = Vec::new();
        let is_sealed = self
            .phase
            .keys()
            .is_some_and(|keys| keys.sealer.seal(response, &mut object).is_ok());
        let is_sent = is_sealed && self.mux.acknowledge(stream, &object, is_last).is_ok();
        if !is_sent {
            self.mux.abort(stream);
        }
        is_sent
    }

    /// Refuses a request; the stream is gone.
    fn answer_no(&mut self, stream: StreamId, request_hash: RequestHash, reason: Reason) {
        let is_last = match self.dialect() {
            Dialect::Native => true,
            Dialect::Dmsg => false,
        };
        if let Ok(response) = self.identity.refuse(request_hash, reason) {
            self.answer(stream, &response, is_last);
        }
        self.mux.abort(stream);
    }

    /// The remote side asks for the bytes it sent, and for nothing else.
    fn answer_ping(&mut self, stream: StreamId) {
        if let Some(Pending::Opening(_)) = self.remove_pending(stream) {
            return self.drop_opening(stream, Reason::ProtocolError);
        }
        if self.mux.acknowledge(stream, &DMSG_PING, true).is_err() {
            self.mux.abort(stream);
        }
    }

    /// An open of ours was refused: the remote side has finished or is about to.
    fn forget_refused(&mut self, stream: StreamId) {
        match self.dialect() {
            Dialect::Native => self.mux.forget(stream),
            // Whoever ends a stream there waits for the other end.
            Dialect::Dmsg => {
                self.mux.abort(stream);
            }
        }
    }

    /// What the end of a stream means whose answer is not whole.
    fn reason_of_end(&self, has_begun: bool) -> Reason {
        match self.dialect() {
            Dialect::Dmsg if !has_begun => Reason::Unexplained,
            Dialect::Dmsg | Dialect::Native => Reason::ProtocolError,
        }
    }

    /// The round trip to the other peer: what the open took, unless it was long because the
    /// destination thought, and never less than two legs like ours.
    fn path_rtt(&self, open: Duration) -> Duration {
        let legs = self.mux.rtt().unwrap_or_default() * 2;
        open.min(PATH_RTT_MAX).max(legs)
    }
}

impl Phase {
    /// The keys, while the session is neither before its handshake nor over.
    fn keys(&mut self) -> Option<&mut Keys> {
        match self {
            Self::Admission(keys, _) | Self::Open(keys, _) => Some(keys),
            Self::Greeting(_) | Self::Closed(_) => None,
        }
    }
}
