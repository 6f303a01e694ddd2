//! The side that asks.
//!
//! Here: one conversation, from calls to bytes and from bytes to replies. Not here: time; whoever waits too
//! long ends the stream.
//!
//! Bound: [`CALLS_MAX`] calls wait for replies.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::message::{Head, Values};
use super::{CALLS_MAX, Failure, RpcError, Service};
use crate::dmsg::gob::Encoder;

/// One conversation, asking.
///
/// [`push`](Self::push) what arrives, then take replies until there is none; so it keeps at most one
/// unfinished message and one push.
pub struct Client<S> {
    values: Values,
    head: Option<Head>,
    encoder: Encoder,
    next_number: u64,
    /// Methods of calls without a reply, by number.
    waiting: BTreeMap<u64, &'static str>,
    service: PhantomData<S>,
}

/// The reply to a call.
#[derive(Debug)]
pub struct Answered<R> {
    /// What [`Client::call`] has returned.
    pub number: u64,
    /// The answer, or why there is none.
    pub reply: Result<R, Failure>,
}

impl<S: Service> Client<S> {
    /// Returns a conversation at its start.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            values: Values::new(),
            head: None,
            encoder: Encoder::new(),
            next_number: 0,
            waiting: BTreeMap::new(),
            service: PhantomData,
        }
    }

    /// Appends a call and returns its number, which the reply has as well.
    ///
    /// # Errors
    ///
    /// The `Local*` variants: `out` is unchanged.
    pub fn call(&mut self, call: &S::Call, out: &mut Vec<u8>) -> Result<u64, RpcError> {
        if self.waiting.len() >= CALLS_MAX {
            return Err(RpcError::LocalCalls);
        }
        let (number, method) = (self.next_number, S::method(call));
        let head = Head {
            method: format!("{}.{method}", S::NAME),
            number,
            error: String::new(),
        };
        let mut encoder = self.encoder.clone();
        let mut bytes = Vec::new();
        head.write_call(&mut encoder, &mut bytes);
        S::write_call(call, &mut encoder, &mut bytes)?;
        self.encoder = encoder;
        out.extend_from_slice(&bytes);
        self.next_number += 1;
        self.waiting.insert(number, method);
        Ok(number)
    }

    /// Keeps bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.values.push(bytes);
    }

    /// Returns the next whole reply, none when there is none yet.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: end the stream.
    pub fn next_reply(&mut self) -> Result<Option<Answered<S::Reply>>, RpcError> {
        if self.head.is_none() {
            self.head = self.values.next(Head::read)?;
        }
        let Some(head) = &self.head else {
            return Ok(None);
        };
        let number = head.number;
        let method = self.waiting.get(&number);
        let method = *method.ok_or(RpcError::PeerNumber(number))?;
        let is_error = !head.error.is_empty();
        let reply = self.values.next(|value| {
            if is_error {
                value.skip()?;
                Ok(None)
            } else {
                S::read_reply(method, value).map(Some)
            }
        });
        let Some(reply) = reply? else {
            return Ok(None);
        };
        let reply = reply.ok_or_else(|| Failure::parse(&head.error));
        self.head = None;
        self.waiting.remove(&number);
        Ok(Some(Answered { number, reply }))
    }

    /// Returns how many calls have no reply.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl<S: Service> Default for Client<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("head", &self.head)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}
