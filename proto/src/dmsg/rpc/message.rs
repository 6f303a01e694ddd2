//! Heads of calls and replies, and finding values in the bytes of a stream.
//!
//! Here: what both sides share. Not here: what is asked and answered.
//!
//! Invariant: an error in a length, a definition or a head stays; behind one in what is asked the next call
//! is read.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::{CALL_MESSAGE_MAX, ERROR_TEXT_MAX, METHOD_MAX, RpcError, types};
use crate::dmsg::gob::{Decoder, Encoder, Value, message_range};
use crate::route::bounded::cut;
use crate::unread::Unread;

/// The values of one direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Values {
    unread: Unread,
    decoder: Decoder,
    failure: Option<RpcError>,
}

impl Values {
    pub(super) const fn new() -> Self {
        Self {
            unread: Unread::new(),
            decoder: Decoder::new(),
            failure: None,
        }
    }

    /// Keeps bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unread.push(bytes);
    }

    /// Returns whether the stream may end here.
    pub(super) const fn is_empty(&self) -> bool {
        self.unread.len() == 0
    }

    /// Reads the next value, without which what comes behind makes no sense; none when it is not there yet.
    pub(super) fn next<T>(
        &mut self,
        read: impl FnOnce(Value<'_, '_>) -> Result<T, RpcError>,
    ) -> Result<Option<T>, RpcError> {
        let value = self.next_any(read)?.transpose();
        value.map_err(|error| self.fail(error))
    }

    /// Reads the next value, which may be wrong; none when it is not there yet.
    pub(super) fn next_any<T>(
        &mut self,
        read: impl FnOnce(Value<'_, '_>) -> Result<T, RpcError>,
    ) -> Result<Option<Result<T, RpcError>>, RpcError> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        let Some(range) = self.define_all().map_err(|error| self.fail(error))? else {
            return Ok(None);
        };
        let end = range.end;
        let message = self.unread.bytes().get(range).unwrap_or_default();
        let value = self.decoder.read(message, read);
        self.unread.take(end);
        Ok(Some(value))
    }

    /// Takes the definitions before the next value and returns where that stands; none when it is not there
    /// yet.
    fn define_all(&mut self) -> Result<Option<Range<usize>>, RpcError> {
        loop {
            let have = self.unread.bytes();
            let Some(range) = message_range(have, CALL_MESSAGE_MAX)? else {
                return Ok(None);
            };
            let Some(message) = have.get(range.clone()) else {
                return Ok(None);
            };
            if !Decoder::is_definition(message) {
                return Ok(Some(range));
            }
            self.decoder.define(message)?;
            self.unread.take(range.end);
        }
    }

    const fn fail(&mut self, error: RpcError) -> RpcError {
        self.failure = Some(error);
        error
    }
}

/// What stands before what is asked or answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Service and method, with a dot between them.
    pub(super) method: String,
    /// Number of the call, which the reply repeats.
    pub(super) number: u64,
    /// Why there is no answer; empty in calls.
    pub(super) error: String,
}

impl Head {
    pub(super) fn read(value: Value<'_, '_>) -> Result<Self, RpcError> {
        let mut head = Self {
            method: String::new(),
            number: 0,
            error: String::new(),
        };
        let mut fields = value.fields()?;
        while let Some(field) = fields.next_field(&types::HEAD_NAMES)? {
            match field.name {
                "ServiceMethod" => {
                    let method = field.value.text()?;
                    if method.len() > METHOD_MAX {
                        return Err(RpcError::PeerMethodLength { have: method.len() });
                    }
                    head.method = String::from_utf8_lossy(method).into_owned();
                }
                "Seq" => head.number = field.value.uint()?,
                _ => head.error = text(field.value.text()?, ERROR_TEXT_MAX),
            }
        }
        Ok(head)
    }

    pub(super) fn write_call(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.write_struct(&[types::REQUEST], out, |fields| {
            fields.text(0, &self.method);
            fields.uint(1, self.number);
        });
    }

    pub(super) fn write_reply(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.write_struct(&[types::RESPONSE], out, |fields| {
            fields.text(0, &self.method);
            fields.uint(1, self.number);
            fields.text(2, cut(&self.error, ERROR_TEXT_MAX));
        });
    }
}

/// Returns the start of a text that fits in `bytes_max`; what is no UTF-8 is replaced.
pub(super) fn text(bytes: &[u8], bytes_max: usize) -> String {
    let start = bytes.get(..bytes_max).unwrap_or(bytes);
    String::from(cut(&String::from_utf8_lossy(start), bytes_max))
}
