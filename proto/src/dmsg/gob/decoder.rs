//! Streams of gobs: messages, and the definitions among them.
//!
//! Here: where a message ends, and reading one. Not here: keeping the bytes of a stream (`rpc`).
//!
//! A message is `uint length | int type id | ...`. One with a negative id defines a type and is read by
//! itself. Any other one is a value; a value that is no struct has a 0 before it.
//! Invariant: a type is defined once and stays for the life of the stream, as Go's encoder sends it.

use core::ops::Range;

use super::number::{read_int, read_uint};
use super::types::{Kind, Types};
use super::value::Value;
use super::{GobError, TypeId};
use crate::bytes::Reader;

/// Reads the messages of one stream, in their order.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    types: Types,
}

impl Decoder {
    /// Returns a decoder at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            types: Types::new(),
        }
    }

    /// Returns whether a message, without its length, defines a type.
    #[must_use]
    pub fn is_definition(message: &[u8]) -> bool {
        read_int(&mut Reader::new(message)).is_ok_and(|id| id < 0)
    }

    /// Takes a message, without its length, that defines a type.
    ///
    /// # Errors
    ///
    /// The variants of [`GobError`]; values of the stream that come behind are unreadable.
    pub fn define(&mut self, message: &[u8]) -> Result<(), GobError> {
        let mut reader = Reader::new(message);
        // The smallest number has no opposite; it is no id either.
        let id = read_int(&mut reader)?.checked_neg().unwrap_or(0);
        self.types.define(TypeId(id), &mut reader)?;
        at_end(&reader)
    }

    /// Reads a message, without its length, that is a value, with `read`.
    ///
    /// # Errors
    ///
    /// What `read` returns, and the variants of [`GobError`]; the next message may be read none the less.
    pub fn read<'m, T, E: From<GobError>>(
        &self,
        message: &'m [u8],
        read: impl FnOnce(Value<'_, 'm>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut reader = Reader::new(message);
        let of = TypeId(read_int(&mut reader)?);
        let is_struct = matches!(self.types.kind(of), Ok(Kind::Struct(_)));
        if !is_struct && read_uint(&mut reader)? != 0 {
            return Err(GobError::PeerRange.into());
        }
        let read = read(Value::new(&self.types, &mut reader, of))?;
        at_end(&reader)?;
        Ok(read)
    }
}

/// Reads the one value of a stream that ends behind it.
///
/// # Errors
///
/// What `read` returns, and the variants of [`GobError`].
pub fn decode<'m, T, E: From<GobError>>(
    mut stream: &'m [u8],
    read: impl FnOnce(Value<'_, 'm>) -> Result<T, E>,
) -> Result<T, E> {
    let mut decoder = Decoder::new();
    let message = loop {
        let range = message_range(stream, usize::MAX)?.ok_or(GobError::PeerTruncated)?;
        let rest = stream.get(range.end..).ok_or(GobError::PeerTruncated)?;
        let message = stream.get(range).ok_or(GobError::PeerTruncated)?;
        stream = rest;
        if !Decoder::is_definition(message) {
            break message;
        }
        decoder.define(message)?;
    };
    at_end(&Reader::new(stream))?;
    decoder.read(message, read)
}

/// Returns where the message stands that begins `bytes`; its end may lie behind them. None when they are too
/// few to say.
///
/// # Errors
///
/// [`GobError::PeerTooLong`] when it has more than `bytes_max`, before a byte is kept for it, and
/// [`GobError::PeerNumber`].
pub fn message_range(bytes: &[u8], bytes_max: usize) -> Result<Option<Range<usize>>, GobError> {
    let mut reader = Reader::new(bytes);
    let have = match read_uint(&mut reader) {
        Err(GobError::PeerTruncated) => return Ok(None),
        have => have?,
    };
    let start = bytes.len() - reader.len();
    usize::try_from(have)
        .ok()
        .filter(|length| *length <= bytes_max)
        .and_then(|length| start.checked_add(length))
        .map(|end| Some(start..end))
        .ok_or(GobError::PeerTooLong {
            have,
            most: bytes_max,
        })
}

fn at_end(reader: &Reader<'_>) -> Result<(), GobError> {
    match reader.len() {
        0 => Ok(()),
        have => Err(GobError::PeerTrailing { have }),
    }
}
