//! From the first byte to the verdict.
//!
//! Here: the phases of a session and the messages that move it from one to the next. Not here: what
//! ends it, and frames.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use super::super::config::EVENTS_MAX;
use super::super::error::MuxError;
use super::{PeerEvent, PeerSession, SessionError};
use crate::dialect::handshake::Initiator;
use crate::handshake::Offer;
use crate::limits::{KEEPALIVE_INTERVAL, WINDOW_INITIAL};
use crate::reason::Reason;
use crate::sealed::{self, Opener, Sealer};
use crate::time::Now;
use crate::verdict::Verdict;

/// Where the session is; see the diagram.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waits for message 2; empty while it is taken.
    Greeting(Option<Box<Initiator>>),
    /// Waits for the verdict, or for what tells that there would be none against the session.
    Admission(Box<Keys>, Offer),
    /// Frames flow.
    Open(Box<Keys>, Offer),
    /// Over.
    Closed(SessionError),
}

/// The session's keys for sealed objects.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

impl PeerSession {
    pub(super) fn try_receive(&mut self, bytes: &mut &[u8], now: Now) -> Result<(), SessionError> {
        let dialect = self.dialect();
        loop {
            match &self.phase {
                Phase::Greeting(_) => {
                    let len_of = |prefix: &[u8]| dialect.message_len(prefix);
                    let Some(message) = self.take_message(bytes, len_of)? else {
                        return Ok(());
                    };
                    self.on_message_2(&message[PREFIX_LEN..], now)?;
                }
                Phase::Admission(..) if dialect.has_verdict() => {
                    let Some(object) = self.take_message(bytes, sealed::object_len)? else {
                        return Ok(());
                    };
                    self.on_verdict(object, now)?;
                }
                Phase::Admission(..) => {
                    self.mux.receive(bytes, now)?;
                    *bytes = &[];
                    self.on_sign()?;
                    if !self.is_ready() {
                        return Ok(());
                    }
                }
                Phase::Open(..) => {
                    self.mux.receive(bytes, now)?;
                    self.handle_setups()?;
                    return if self.events.len() > EVENTS_MAX {
                        Err(MuxError::LocalEvents.into())
                    } else {
                        Ok(())
                    };
                }
                Phase::Closed(error) => return Err(*error),
            }
        }
    }

    /// Collects one length-prefixed message; `None` until it is whole. Takes nothing behind it.
    fn take_message<E>(
        &mut self,
        bytes: &mut &[u8],
        len_of: impl Fn(&[u8]) -> Result<Option<usize>, E>,
    ) -> Result<Option<Vec<u8>>, SessionError>
    where
        SessionError: From<E>,
    {
        loop {
            let wanted = len_of(&self.input)?.unwrap_or(PREFIX_LEN);
            let (part, rest) = bytes.split_at(bytes.len().min(wanted - self.input.len()));
            self.input.extend_from_slice(part);
            *bytes = rest;
            if self.input.len() < wanted {
                return Ok(None);
            }
            if wanted > PREFIX_LEN {
                return Ok(Some(mem::take(&mut self.input)));
            }
        }
    }

    fn on_message_2(&mut self, message: &[u8], now: Now) -> Result<(), SessionError> {
        let Phase::Greeting(initiator) = &mut self.phase else {
            return Ok(());
        };
        let Some(initiator) = initiator.take() else {
            return Ok(());
        };
        let (message_3, greeted) = initiator.message_2(message)?;
        self.output.extend_from_slice(&message_3);
        let offer = greeted.offer.unwrap_or(Offer {
            capabilities: 0,
            streams_max: self.config.mux.streams_max,
            stream_window: WINDOW_INITIAL,
            keepalive_s: DMSG_KEEPALIVE_S,
        });
        self.mux.limit_streams(offer.streams_max);
        let keys = Keys {
            sealer: greeted.sealer,
            opener: greeted.opener,
        };
        self.phase = Phase::Admission(Box::new(keys), offer);
        if !self.dialect().has_verdict() {
            self.mux.probe(now);
        }
        Ok(())
    }

    fn on_verdict(&mut self, mut object: Vec<u8>, now: Now) -> Result<(), SessionError> {
        let Phase::Admission(keys, _) = &mut self.phase else {
            return Ok(());
        };
        let verdict = Verdict::decode(keys.opener.open(&mut object[PREFIX_LEN..])?)?;
        if !verdict.is_accepted() {
            return Err(self.refused(verdict));
        }
        self.admit();
        // The first round trip steers the windows.
        self.mux.probe(now);
        Ok(())
    }

    /// Looks at what frames came where there is no verdict.
    fn on_sign(&mut self) -> Result<(), SessionError> {
        let reason = self
            .mux
            .remote_going_away()
            .and_then(|code| Reason::from_code(u16::try_from(code).ok()?))
            .filter(|reason| *reason != Reason::Accepted);
        if let Some(reason) = reason {
            return Err(self.refused(Verdict {
                reason,
                retry_after_ms: 0,
            }));
        }
        if self.mux.rtt().is_some() {
            self.admit();
        }
        Ok(())
    }

    fn admit(&mut self) {
        match mem::replace(&mut self.phase, Phase::Greeting(None)) {
            Phase::Admission(keys, offer) => {
                self.events.push_back(PeerEvent::Ready { offer });
                self.phase = Phase::Open(keys, offer);
            }
            other => self.phase = other,
        }
    }

    fn refused(&mut self, verdict: Verdict) -> SessionError {
        let Verdict {
            reason,
            retry_after_ms,
        } = verdict;
        self.events.push_back(PeerEvent::Refused {
            reason,
            retry_after_ms,
        });
        SessionError::PeerRefused {
            reason,
            retry_after_ms,
        }
    }
}

/// What a relay of the dmsg dialect does about silence, seconds: Go's yamux and Ringway alike.
const DMSG_KEEPALIVE_S: u16 = 30;
const _: () = assert!(KEEPALIVE_INTERVAL.as_secs() == DMSG_KEEPALIVE_S as u64);

/// Bytes of the length before a handshake message or a sealed object.
pub(super) const PREFIX_LEN: usize = 2;
