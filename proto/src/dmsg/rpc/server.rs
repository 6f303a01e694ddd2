//! The side that is asked.
//!
//! Here: one conversation, from bytes to calls and from replies to bytes. Not here: carrying calls out.
//!
//! What is asked wrongly is refused in the words of Go's server, which Go's clients read; the conversation
//! goes on. What cannot be read at all ends it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use super::message::{Head, Values};
use super::{RpcError, Service, types};
use crate::dmsg::gob::Encoder;

/// One conversation, asked.
///
/// [`push`](Self::push) what arrives, then take calls until there is none; so it keeps at most one unfinished
/// message and one push. Each call is replied to once, in any order.
pub struct Server<S> {
    values: Values,
    head: Option<Head>,
    encoder: Encoder,
    service: PhantomData<S>,
}

/// A call, and its id for the reply.
#[derive(Debug)]
pub struct Asked<C> {
    /// For the reply.
    pub id: CallId,
    /// What is asked, or why it cannot be carried out: reply with its text.
    pub call: Result<C, Refused>,
}

/// Which call a reply is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallId {
    method: String,
    number: u64,
}

/// A call that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub error: RpcError,
    /// The same for the asker, as Go's server says it.
    pub text: String,
}

impl<S: Service> Server<S> {
    /// Returns a conversation at its start.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            values: Values::new(),
            head: None,
            encoder: Encoder::new(),
            service: PhantomData,
        }
    }

    /// Keeps bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.values.push(bytes);
    }

    /// Returns the next whole call, none when there is none yet.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants: end the stream.
    pub fn next_call(&mut self) -> Result<Option<Asked<S::Call>>, RpcError> {
        if self.head.is_none() {
            self.head = self.values.next(Head::read)?;
        }
        let Some(head) = &self.head else {
            return Ok(None);
        };
        let (service, method) = split(&head.method);
        let read = self.values.next_any(|value| {
            if service == Some(S::NAME) {
                S::read_call(method, value)
            } else {
                value.skip()?;
                Err(RpcError::PeerMethod)
            }
        });
        let Some(call) = read? else {
            return Ok(None);
        };
        let call = call.map_err(|error| Refused {
            error,
            text: refusal::<S>(&head.method, error),
        });
        let id = CallId {
            method: head.method.clone(),
            number: head.number,
        };
        self.head = None;
        Ok(Some(Asked { id, call }))
    }

    /// Appends the reply to a call: an answer, or why there is none.
    ///
    /// # Errors
    ///
    /// The `Local*` variants: `out` is unchanged, reply with an error.
    pub fn reply(
        &mut self,
        id: &CallId,
        reply: Result<&S::Reply, &str>,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError> {
        let mut head = Head {
            method: id.method.clone(),
            number: id.number,
            error: String::new(),
        };
        match reply {
            Ok(reply) => {
                // Copies, so that nothing is half written when the answer cannot be.
                let mut encoder = self.encoder.clone();
                let mut bytes = Vec::new();
                head.write_reply(&mut encoder, &mut bytes);
                S::write_reply(reply, &mut encoder, &mut bytes)?;
                self.encoder = encoder;
                out.extend_from_slice(&bytes);
            }
            Err(error) => {
                // An empty text would be an answer.
                head.error = String::from(if error.is_empty() { "?" } else { error });
                head.write_reply(&mut self.encoder, out);
                self.encoder
                    .write_struct(&[types::INVALID_REQUEST], out, |_| {});
            }
        }
        Ok(())
    }

    /// Returns whether the stream may end here: no call is unfinished.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty() && self.head.is_none()
    }
}

impl<S: Service> Default for Server<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// Splits at the last dot.
fn split(service_method: &str) -> (Option<&str>, &str) {
    match service_method.rsplit_once('.') {
        Some((service, method)) => (Some(service), method),
        None => (None, service_method),
    }
}

/// Returns the words in which Go's server refuses.
fn refusal<S: Service>(service_method: &str, error: RpcError) -> String {
    match (error, split(service_method).0) {
        (RpcError::PeerMethod, None) => {
            format!("rpc: service/method request ill-formed: {service_method}")
        }
        (RpcError::PeerMethod, Some(service)) if service == S::NAME => {
            format!("rpc: can't find method {service_method}")
        }
        (RpcError::PeerMethod, Some(_)) => format!("rpc: can't find service {service_method}"),
        (error, _) => error.to_string(),
    }
}
