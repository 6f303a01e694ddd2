//! Reading a value along its type.
//!
//! Here: every kind of value, and skipping what nobody asked for. Not here: where a value begins (`decoder`).
//!
//! A value, or a field, is read once, by the method that takes it; what is not wanted has to be skipped, or
//! the rest is read from the wrong place.
//! Bound: nothing is allocated.

use core::ops::Range;

use super::number::{read_bytes, read_count, read_field, read_float, read_int, read_uint};
use super::types::{Kind, Types};
use super::{DEPTH_MAX, GobError, TypeId};
use crate::bytes::Reader;

/// A value that was not read yet.
#[derive(Debug)]
#[must_use = "a value is read or skipped"]
pub struct Value<'i, 'm> {
    types: &'i Types,
    reader: &'i mut Reader<'m>,
    of: TypeId,
}

impl<'i, 'm> Value<'i, 'm> {
    pub(super) const fn new(types: &'i Types, reader: &'i mut Reader<'m>, of: TypeId) -> Self {
        Self { types, reader, of }
    }

    /// Reads a boolean.
    ///
    /// # Errors
    ///
    /// [`GobError::PeerType`] and what is wrong with the bytes, as for all of these.
    pub fn bool(self) -> Result<bool, GobError> {
        self.expect(TypeId::BOOL)?;
        Ok(read_uint(self.reader)? != 0)
    }

    /// Reads a signed integer.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn int(self) -> Result<i64, GobError> {
        self.expect(TypeId::INT)?;
        read_int(self.reader)
    }

    /// Reads an unsigned integer into as many bits as there are.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`], and [`GobError::PeerRange`] when it does not fit.
    pub fn uint<T: TryFrom<u64>>(self) -> Result<T, GobError> {
        self.expect(TypeId::UINT)?;
        T::try_from(read_uint(self.reader)?).map_err(|_| GobError::PeerRange)
    }

    /// Reads a floating point number.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn float(self) -> Result<f64, GobError> {
        self.expect(TypeId::FLOAT)?;
        read_float(self.reader)
    }

    /// Reads bytes.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn bytes(self) -> Result<&'m [u8], GobError> {
        self.expect(TypeId::BYTES)?;
        read_bytes(self.reader)
    }

    /// Reads a text, which need not be UTF-8.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn text(self) -> Result<&'m [u8], GobError> {
        self.expect(TypeId::STRING)?;
        read_bytes(self.reader)
    }

    /// Reads what a type has made of itself.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn opaque(self) -> Result<&'m [u8], GobError> {
        match self.types.kind(self.of)? {
            Kind::Opaque => read_bytes(self.reader),
            _ => Err(GobError::PeerType(self.of)),
        }
    }

    /// Reads an array of bytes, each of which is a number of its own.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`], and [`GobError::PeerRange`] when it has another length or its numbers are no
    /// bytes.
    pub fn byte_array<const N: usize>(self) -> Result<[u8; N], GobError> {
        let Kind::Array { element, len } = *self.types.kind(self.of)? else {
            return Err(GobError::PeerType(self.of));
        };
        if element != TypeId::UINT {
            return Err(GobError::PeerType(element));
        }
        let reader = self.reader;
        let count = read_count(reader, 1)?;
        if count != N || usize::try_from(len) != Ok(N) {
            return Err(GobError::PeerRange);
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = u8::try_from(read_uint(reader)?).map_err(|_| GobError::PeerRange)?;
        }
        Ok(bytes)
    }

    /// Begins a list of at most `items_max` items.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`], and [`GobError::PeerCount`].
    pub fn list(self, items_max: usize) -> Result<List<'i, 'm>, GobError> {
        let Kind::Slice { element } = *self.types.kind(self.of)? else {
            return Err(GobError::PeerType(self.of));
        };
        let left = read_count(self.reader, 1)?;
        if left > items_max {
            return Err(GobError::PeerCount {
                have: left as u64,
                most: items_max as u64,
            });
        }
        Ok(List {
            types: self.types,
            reader: self.reader,
            of: element,
            left,
        })
    }

    /// Begins a struct.
    ///
    /// # Errors
    ///
    /// As for [`Value::bool`].
    pub fn fields(self) -> Result<Fields<'i, 'm>, GobError> {
        let Kind::Struct(fields) = self.types.kind(self.of)? else {
            return Err(GobError::PeerType(self.of));
        };
        Ok(Fields {
            types: self.types,
            reader: self.reader,
            fields: fields.clone(),
            next: 0,
        })
    }

    /// Leaves the value out, whatever it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes, and [`GobError::PeerDepth`].
    pub fn skip(self) -> Result<(), GobError> {
        skip(self.types, self.reader, self.of, DEPTH_MAX)
    }

    fn expect(&self, due: TypeId) -> Result<(), GobError> {
        if self.of == due {
            Ok(())
        } else {
            Err(GobError::PeerType(self.of))
        }
    }
}

/// The items of a list that were not read yet.
#[derive(Debug)]
#[must_use = "a list is read to its end"]
pub struct List<'i, 'm> {
    types: &'i Types,
    reader: &'i mut Reader<'m>,
    of: TypeId,
    left: usize,
}

impl<'m> List<'_, 'm> {
    /// Returns the next item.
    pub fn next_item(&mut self) -> Option<Value<'_, 'm>> {
        self.left = self.left.checked_sub(1)?;
        Some(Value::new(self.types, self.reader, self.of))
    }

    /// Returns how many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left
    }

    /// Returns whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// The fields of a struct that were not read yet.
#[derive(Debug)]
#[must_use = "a struct is read to its end"]
pub struct Fields<'i, 'm> {
    types: &'i Types,
    reader: &'i mut Reader<'m>,
    fields: Range<usize>,
    next: u64,
}

/// A field that is there, so not zero, and its value.
#[derive(Debug)]
pub struct Field<'i, 'm> {
    /// Its name, one of those that were asked for.
    pub name: &'static str,
    /// Its value.
    pub value: Value<'i, 'm>,
}

impl<'m> Fields<'_, 'm> {
    /// Returns the next field with one of these names, the others left out; none at the end.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes, those left out included.
    pub fn next_field(
        &mut self,
        wanted: &[&'static str],
    ) -> Result<Option<Field<'_, 'm>>, GobError> {
        while let Some(number) = read_field(self.reader, &mut self.next)? {
            let (name, of) = self.types.field(&self.fields, number)?;
            if let Some(name) = wanted.iter().find(|wanted| wanted.as_bytes() == name) {
                return Ok(Some(Field {
                    name,
                    value: Value::new(self.types, self.reader, of),
                }));
            }
            skip(self.types, self.reader, of, DEPTH_MAX)?;
        }
        Ok(None)
    }
}

/// Leaves a value out; `depth_max` levels below it are allowed.
fn skip(
    types: &Types,
    reader: &mut Reader<'_>,
    of: TypeId,
    depth_max: u32,
) -> Result<(), GobError> {
    match of {
        TypeId::BOOL | TypeId::INT | TypeId::UINT | TypeId::FLOAT => {
            return read_uint(reader).map(|_| ());
        }
        TypeId::BYTES | TypeId::STRING => return read_bytes(reader).map(|_| ()),
        TypeId::COMPLEX => {
            read_uint(reader)?;
            return read_uint(reader).map(|_| ());
        }
        TypeId::INTERFACE => return skip_interface(reader),
        _ => {}
    }
    let depth_max = depth_max.checked_sub(1).ok_or(GobError::PeerDepth)?;
    match *types.kind(of)? {
        Kind::Array { element, len } => {
            let count = read_count(reader, 1)?;
            if i64::try_from(count) != Ok(len) {
                return Err(GobError::PeerRange);
            }
            (0..count).try_for_each(|_| skip(types, reader, element, depth_max))
        }
        Kind::Slice { element } => {
            let count = read_count(reader, 1)?;
            (0..count).try_for_each(|_| skip(types, reader, element, depth_max))
        }
        Kind::Map { key, element } => {
            let count = read_count(reader, 2)?;
            (0..count).try_for_each(|_| {
                skip(types, reader, key, depth_max)?;
                skip(types, reader, element, depth_max)
            })
        }
        Kind::Opaque => read_bytes(reader).map(|_| ()),
        Kind::Struct(ref fields) => {
            let mut next = 0;
            while let Some(number) = read_field(reader, &mut next)? {
                let (_, of) = types.field(fields, number)?;
                skip(types, reader, of, depth_max)?;
            }
            Ok(())
        }
    }
}

/// Leaves out `name | int type id | uint length | value`, or an empty name alone. Definitions of types come
/// in messages of their own before this one.
fn skip_interface(reader: &mut Reader<'_>) -> Result<(), GobError> {
    if read_bytes(reader)?.is_empty() {
        return Ok(());
    }
    let of = TypeId(read_int(reader)?);
    if of.0 < 0 {
        return Err(GobError::PeerType(of));
    }
    read_bytes(reader).map(|_| ())
}
