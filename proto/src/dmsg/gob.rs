//! The encoding of Go values (`encoding/gob`), as far as dmsg uses it.
//!
//! A stream is a sequence of messages `uint length | int type id | ...`. A negative id defines a type, any
//! other one is followed by a value of it. Values name neither fields nor lengths, so they are read along
//! their type; ids differ from process to process, so fields are found by their names.
//!
//! Here: numbers (`number`), the types of a stream (`types`), reading values along them (`value`), streams
//! (`decoder`), writing (`encoder`). Not here: what the values mean (`open`, `rpc`).
//!
//! Invariant: a value takes at least one byte, so no count makes a reader work or hold more than the message
//! has bytes.
//! Bounds: [`TYPES_MAX`], [`FIELDS_MAX`] and [`NAMES_MAX`] for a stream, [`DEPTH_MAX`] for a value.
//! Source: <https://pkg.go.dev/encoding/gob>, "Encoding Details"; golden vectors of Go's own encoder in
//! `proto/testdata/dmsg_gob.hex`.

use core::fmt;

use thiserror::Error;

use crate::reason::Reason;

pub use self::decoder::{Decoder, decode, message_range};
pub use self::encoder::{Definition, Encoder, Shape, StructWriter, ValueWriter};
pub use self::value::{Field, Fields, List, Value};

mod decoder;
mod encoder;
mod number;
mod types;
mod value;

/// Number of a type in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub i64);

impl TypeId {
    /// A boolean.
    pub const BOOL: Self = Self(1);
    /// A signed integer of any width.
    pub const INT: Self = Self(2);
    /// An unsigned integer of any width.
    pub const UINT: Self = Self(3);
    /// A floating point number, always of 64 bits.
    pub const FLOAT: Self = Self(4);
    /// Bytes.
    pub const BYTES: Self = Self(5);
    /// A text, which need not be UTF-8.
    pub const STRING: Self = Self(6);
    /// Two floating point numbers.
    pub const COMPLEX: Self = Self(7);
    /// A value with the name of its type.
    pub const INTERFACE: Self = Self(8);
    /// The first id that a stream gives to a type; those below are known beforehand or reserved.
    pub const FIRST: Self = Self(64);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why bytes are no gob, or not the value that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GobError {
    /// A list has more items than bytes are left, or than are allowed.
    #[error("gob with a list of {have} items, at most {most} can be")]
    PeerCount {
        /// Items announced.
        have: u64,
        /// What is allowed here.
        most: u64,
    },
    /// The definition of a type is none, or has an id that cannot be given.
    #[error("gob with a malformed definition of type {0}")]
    PeerDefinition(TypeId),
    /// The value is nested deeper than [`DEPTH_MAX`].
    #[error("gob nested deeper than {DEPTH_MAX}")]
    PeerDepth,
    /// A field that the type does not have.
    #[error("gob with field {field} of a struct of {fields}")]
    PeerField {
        /// Its number, from 0.
        field: u64,
        /// How many there are.
        fields: usize,
    },
    /// A number takes more bytes than 64 bits have.
    #[error("gob with a number of more than 64 bits")]
    PeerNumber,
    /// A value does not fit where it belongs.
    #[error("gob with a value that does not fit its field")]
    PeerRange,
    /// The message is longer than allowed.
    #[error("gob message of {have} bytes, {most} are allowed")]
    PeerTooLong {
        /// Bytes announced.
        have: u64,
        /// What is allowed here.
        most: usize,
    },
    /// Bytes follow the value.
    #[error("gob with {have} bytes behind the value")]
    PeerTrailing {
        /// How many.
        have: usize,
    },
    /// The bytes end inside of a value.
    #[error("gob that ends too early")]
    PeerTruncated,
    /// The value has another type than the one that was due.
    #[error("gob with a value of type {0} where another was due")]
    PeerType(TypeId),
    /// A type is defined that is defined already.
    #[error("gob that defines type {0} twice")]
    PeerTypeAgain(TypeId),
    /// The stream has more types, fields or names than are kept.
    #[error("gob with more types than are kept")]
    PeerTypesMax,
    /// A type that was not defined.
    #[error("gob with a value of type {0}, which is not defined")]
    PeerTypeUnknown(TypeId),
}

impl GobError {
    /// Returns the reason that whoever sent it is refused with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        Reason::ProtocolError
    }
}

/// Most types that a stream may define.
///
/// A message of dmsg has up to three, a conversation of route setup about twelve. Costs some 40 bytes each.
pub const TYPES_MAX: usize = 64;

/// Most fields of all types of a stream together.
pub const FIELDS_MAX: usize = 512;

/// Most bytes of the names of all fields of a stream together.
pub const NAMES_MAX: usize = 8_192;

/// Deepest nesting of a value that is skipped.
///
/// Skipping recurses, and a type may contain itself; the deepest value of dmsg has four levels.
pub const DEPTH_MAX: u32 = 16;
