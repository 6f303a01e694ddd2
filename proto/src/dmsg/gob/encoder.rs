//! Writing gobs.
//!
//! Here: definitions of types, once a stream, and values of them. Not here: which types there are; whoever
//! writes a value says them in the order in which Go sends them: the type itself, then those of its fields.
//!
//! Invariant: fields are written in the order of their numbers. A field that is zero is left out, but for
//! structs and arrays; items of lists never are.

use alloc::vec::Vec;

use super::TypeId;
use super::number::{write_bytes, write_float, write_int, write_uint};
use super::types::{KIND_ARRAY, KIND_BINARY_MARSHALER, KIND_MAP, KIND_SLICE, KIND_STRUCT};

/// A type as a stream defines it.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its number in the stream, from [`TypeId::FIRST`].
    pub id: TypeId,
    /// Its name, which nobody reads.
    pub name: &'static str,
    /// What its values look like.
    pub shape: Shape,
}

/// What values of a type look like.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Shape {
    /// `len` elements.
    Array {
        /// Their type.
        element: TypeId,
        /// How many.
        len: u16,
    },
    /// Bytes that the type makes of itself.
    BinaryMarshaler,
    /// Keys with elements.
    Map {
        /// The keys' type.
        key: TypeId,
        /// The elements' type.
        element: TypeId,
    },
    /// Any number of elements.
    Slice {
        /// Their type.
        element: TypeId,
    },
    /// Fields with names and types, numbered from 0.
    Struct(&'static [(&'static str, TypeId)]),
}

/// Writes the messages of one stream.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    defined: Vec<TypeId>,
}

impl Encoder {
    /// Returns an encoder at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            defined: Vec::new(),
        }
    }

    /// Appends a struct of the first of `types`, and before it those of them that the stream does not have.
    pub fn write_struct(
        &mut self,
        types: &[Definition],
        out: &mut Vec<u8>,
        fields: impl FnOnce(&mut StructWriter<'_>),
    ) {
        self.define(types, out);
        let of = types.first().map_or(TypeId(0), |first| first.id);
        write_message(out, |out| {
            write_int(of.0, out);
            write_struct(out, fields);
        });
    }

    /// Appends a value that is no struct, of a type that is known or among `types`, and before it those of
    /// them that the stream does not have.
    pub fn write_value(
        &mut self,
        types: &[Definition],
        of: TypeId,
        out: &mut Vec<u8>,
        value: impl FnOnce(ValueWriter<'_>),
    ) {
        self.define(types, out);
        write_message(out, |out| {
            write_int(of.0, out);
            out.push(0);
            value(ValueWriter { out });
        });
    }

    fn define(&mut self, types: &[Definition], out: &mut Vec<u8>) {
        for definition in types {
            if !self.defined.contains(&definition.id) {
                self.defined.push(definition.id);
                write_message(out, |out| definition.write(out));
            }
        }
    }
}

impl Definition {
    fn write(&self, out: &mut Vec<u8>) {
        write_int(-self.id.0, out);
        write_struct(out, |wire_type| match self.shape {
            Shape::Array { element, len } => wire_type.structure(KIND_ARRAY, |kind| {
                self.write_common(kind);
                kind.int(1, element.0);
                kind.int(2, i64::from(len));
            }),
            Shape::BinaryMarshaler => {
                wire_type.structure(KIND_BINARY_MARSHALER, |kind| self.write_common(kind));
            }
            Shape::Map { key, element } => wire_type.structure(KIND_MAP, |kind| {
                self.write_common(kind);
                kind.int(1, key.0);
                kind.int(2, element.0);
            }),
            Shape::Slice { element } => wire_type.structure(KIND_SLICE, |kind| {
                self.write_common(kind);
                kind.int(1, element.0);
            }),
            Shape::Struct(fields) => wire_type.structure(KIND_STRUCT, |kind| {
                self.write_common(kind);
                kind.list(1, fields, |(name, of), item| {
                    item.structure(|field| {
                        field.text(0, name);
                        field.int(1, of.0);
                    });
                });
            }),
        });
    }

    fn write_common(&self, kind: &mut StructWriter<'_>) {
        kind.structure(0, |common| {
            common.text(0, self.name);
            common.int(1, self.id.0);
        });
    }
}

/// Writes the fields of a struct, in the order of their numbers.
#[derive(Debug)]
pub struct StructWriter<'o> {
    out: &'o mut Vec<u8>,
    /// The number after the last field.
    next: u64,
}

impl StructWriter<'_> {
    /// Writes a boolean.
    pub fn bool(&mut self, field: u64, value: bool) {
        self.uint(field, u64::from(value));
    }

    /// Writes a signed integer.
    pub fn int(&mut self, field: u64, value: i64) {
        if value != 0 {
            self.begin(field).int(value);
        }
    }

    /// Writes an unsigned integer.
    pub fn uint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.begin(field).uint(value);
        }
    }

    /// Writes a floating point number.
    pub fn float(&mut self, field: u64, value: f64) {
        // Both zeros are zero, as Go compares them.
        if value != 0.0 {
            self.begin(field).float(value);
        }
    }

    /// Writes bytes.
    pub fn bytes(&mut self, field: u64, value: &[u8]) {
        if !value.is_empty() {
            self.begin(field).bytes(value);
        }
    }

    /// Writes a text.
    pub fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Writes what an array of bytes has made of itself; it is zero when all of them are.
    pub fn opaque(&mut self, field: u64, value: &[u8]) {
        if value.iter().any(|byte| *byte != 0) {
            self.begin(field).bytes(value);
        }
    }

    /// Writes an array of bytes, each of which is a number of its own.
    pub fn byte_array(&mut self, field: u64, value: &[u8]) {
        let out = self.begin(field).out;
        write_uint(value.len() as u64, out);
        for byte in value {
            write_uint(u64::from(*byte), out);
        }
    }

    /// Writes a list.
    pub fn list<T>(&mut self, field: u64, items: &[T], each: impl Fn(&T, ValueWriter<'_>)) {
        if !items.is_empty() {
            self.begin(field).list(items, each);
        }
    }

    /// Writes a struct.
    pub fn structure(&mut self, field: u64, fields: impl FnOnce(&mut StructWriter<'_>)) {
        self.begin(field).structure(fields);
    }

    /// Writes the step to a field.
    fn begin(&mut self, field: u64) -> ValueWriter<'_> {
        assert!(field >= self.next, "fields are written in their order");
        write_uint(field + 1 - self.next, self.out);
        self.next = field + 1;
        ValueWriter { out: self.out }
    }
}

/// Writes one value, zero or not.
#[derive(Debug)]
#[must_use = "a value is due"]
pub struct ValueWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl ValueWriter<'_> {
    /// Writes a boolean.
    pub fn bool(self, value: bool) {
        self.uint(u64::from(value));
    }

    /// Writes a signed integer.
    pub fn int(self, value: i64) {
        write_int(value, self.out);
    }

    /// Writes an unsigned integer.
    pub fn uint(self, value: u64) {
        write_uint(value, self.out);
    }

    /// Writes a floating point number.
    pub fn float(self, value: f64) {
        write_float(value, self.out);
    }

    /// Writes bytes, a text, or what a type has made of itself.
    pub fn bytes(self, value: &[u8]) {
        write_bytes(value, self.out);
    }

    /// Writes a list.
    pub fn list<T>(self, items: &[T], each: impl Fn(&T, ValueWriter<'_>)) {
        write_uint(items.len() as u64, self.out);
        for item in items {
            each(item, ValueWriter { out: self.out });
        }
    }

    /// Writes a struct.
    pub fn structure(self, fields: impl FnOnce(&mut StructWriter<'_>)) {
        write_struct(self.out, fields);
    }
}

fn write_struct(out: &mut Vec<u8>, fields: impl FnOnce(&mut StructWriter<'_>)) {
    let mut writer = StructWriter { out, next: 0 };
    fields(&mut writer);
    out.push(0);
}

/// Writes a message: its length, then what `body` writes.
fn write_message(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    body(&mut message);
    write_bytes(&message, out);
}
