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
use crate::handshake::{self, Initiator, Offer};
use crate::sealed::{self, Opener, Sealer};
use crate::time::Now;
use crate::verdict::Verdict;

/// Where the session is; see the diagram.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waits for message 2; empty while it is taken.
    Greeting(Option<Box<Initiator>>),
    /// Waits for the verdict.
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
        loop {
            match &self.phase {
                Phase::Greeting(_) => {
                    let Some(message) = self.take_message(bytes, handshake::message_len)? else {
                        return Ok(());
                    };
                    self.on_message_2(&message[PREFIX_LEN..])?;
                }
                Phase::Admission(..) => {
                    let Some(object) = self.take_message(bytes, sealed::object_len)? else {
                        return Ok(());
                    };
                    self.on_verdict(object, now)?;
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
        len_of: fn(&[u8]) -> Result<Option<usize>, E>,
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

    fn on_message_2(&mut self, message: &[u8]) -> Result<(), SessionError> {
        let Phase::Greeting(initiator) = &mut self.phase else {
            return Ok(());
        };
        let Some(initiator) = initiator.take() else {
            return Ok(());
        };
        let (message_3, established) = initiator.message_2(message)?;
        self.output.extend_from_slice(&message_3);
        let offer = established.offer;
        self.mux.limit_streams(offer.streams_max);
        let keys = Keys {
            sealer: established.sealer,
            opener: established.opener,
        };
        self.phase = Phase::Admission(Box::new(keys), offer);
        Ok(())
    }

    fn on_verdict(&mut self, mut object: Vec<u8>, now: Now) -> Result<(), SessionError> {
        let Phase::Admission(keys, offer) = &mut self.phase else {
            return Ok(());
        };
        let verdict = Verdict::decode(keys.opener.open(&mut object[PREFIX_LEN..])?)?;
        if !verdict.is_accepted() {
            let Verdict {
                reason,
                retry_after_ms,
            } = verdict;
            self.events.push_back(PeerEvent::Refused {
                reason,
                retry_after_ms,
            });
            return Err(SessionError::PeerRefused {
                reason,
                retry_after_ms,
            });
        }
        let offer = *offer;
        self.events.push_back(PeerEvent::Ready { offer });
        let before = mem::replace(&mut self.phase, Phase::Greeting(None));
        if let Phase::Admission(keys, _) = before {
            self.phase = Phase::Open(keys, offer);
        }
        // The first round trip steers the windows.
        self.mux.probe(now);
        Ok(())
    }
}

/// Bytes of the length before a handshake message or a sealed object.
pub(super) const PREFIX_LEN: usize = 2;
