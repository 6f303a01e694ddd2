//! The types that a stream of gobs has defined.
//!
//! Here: reading definitions and keeping them. Not here: values (`value`), when a definition comes
//! (`decoder`).
//!
//! A definition is a struct of which one field is set, the kind: 0 array, 1 slice, 2 struct, 3 map, 4 to 6
//! for types that encode themselves. That is a struct again: field 0 `{name, id}`, which says nothing new,
//! then by kind the ids of the elements, a length, or the fields `{name, id}`. Types may name types that are
//! defined later, or themselves.
//! Bounds: [`TYPES_MAX`], [`FIELDS_MAX`], [`NAMES_MAX`]; checked before anything is kept.

use alloc::vec::Vec;
use core::ops::Range;

use super::number::{read_bytes, read_count, read_field, read_int};
use super::{FIELDS_MAX, GobError, NAMES_MAX, TYPES_MAX, TypeId};
use crate::bytes::Reader;

/// What values of a type look like.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// As many elements as the type says.
    Array {
        /// Their type.
        element: TypeId,
        /// How many.
        len: i64,
    },
    /// Keys with elements.
    Map {
        /// The keys' type.
        key: TypeId,
        /// The elements' type.
        element: TypeId,
    },
    /// What the type makes of itself: bytes.
    Opaque,
    /// Any number of elements.
    Slice {
        /// Their type.
        element: TypeId,
    },
    /// Fields; where they stand in [`Types`].
    Struct(Range<usize>),
}

/// Name and type of a field.
#[derive(Clone, Debug)]
struct Named {
    name: Range<usize>,
    of: TypeId,
}

/// See the module's page.
#[derive(Clone, Debug, Default)]
pub(super) struct Types {
    defined: Vec<(TypeId, Kind)>,
    fields: Vec<Named>,
    names: Vec<u8>,
}

impl Types {
    pub(super) const fn new() -> Self {
        Self {
            defined: Vec::new(),
            fields: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Reads the definition of `id` and keeps it.
    pub(super) fn define(&mut self, id: TypeId, reader: &mut Reader<'_>) -> Result<(), GobError> {
        if id < TypeId::FIRST || i32::try_from(id.0).is_err() {
            return Err(GobError::PeerDefinition(id));
        }
        if self.kind(id).is_ok() {
            return Err(GobError::PeerTypeAgain(id));
        }
        if self.defined.len() >= TYPES_MAX {
            return Err(GobError::PeerTypesMax);
        }
        let wrong = GobError::PeerDefinition(id);
        let mut next = 0;
        let kind = read_field(reader, &mut next)?.ok_or(wrong)?;
        let kind = self.read_kind(kind, reader)?.ok_or(wrong)?;
        if read_field(reader, &mut next)?.is_some() {
            return Err(wrong);
        }
        self.defined.push((id, kind));
        Ok(())
    }

    /// Returns what values of a type look like that the stream has defined.
    pub(super) fn kind(&self, id: TypeId) -> Result<&Kind, GobError> {
        self.defined
            .iter()
            .find(|(defined, _)| *defined == id)
            .map(|(_, kind)| kind)
            .ok_or(GobError::PeerTypeUnknown(id))
    }

    /// Returns name and type of a field of a struct.
    pub(super) fn field(
        &self,
        fields: &Range<usize>,
        number: u64,
    ) -> Result<(&[u8], TypeId), GobError> {
        let named = usize::try_from(number)
            .ok()
            .and_then(|number| self.fields.get(fields.clone())?.get(number))
            .ok_or_else(|| GobError::PeerField {
                field: number,
                fields: fields.len(),
            })?;
        let name = self.names.get(named.name.clone()).unwrap_or_default();
        Ok((name, named.of))
    }

    /// Reads what stands in the field of a kind; none if there is no such kind or no such field in it.
    fn read_kind(&mut self, kind: u64, reader: &mut Reader<'_>) -> Result<Option<Kind>, GobError> {
        let mut fields = 0..0;
        let mut numbers = [0; 2];
        let mut next = 0;
        while let Some(field) = read_field(reader, &mut next)? {
            match (kind, field) {
                (0..=6, 0) => skip_common(reader)?,
                (KIND_STRUCT, 1) => fields = self.read_fields(reader)?,
                (KIND_ARRAY | KIND_SLICE | KIND_MAP, 1) => numbers[0] = read_int(reader)?,
                (KIND_ARRAY | KIND_MAP, 2) => numbers[1] = read_int(reader)?,
                _ => return Ok(None),
            }
        }
        let [first, second] = numbers;
        Ok(Some(match kind {
            KIND_ARRAY => Kind::Array {
                element: TypeId(first),
                len: second,
            },
            KIND_SLICE => Kind::Slice {
                element: TypeId(first),
            },
            KIND_STRUCT => Kind::Struct(fields),
            KIND_MAP => Kind::Map {
                key: TypeId(first),
                element: TypeId(second),
            },
            4..=6 => Kind::Opaque,
            _ => return Ok(None),
        }))
    }

    fn read_fields(&mut self, reader: &mut Reader<'_>) -> Result<Range<usize>, GobError> {
        // The end of the struct at least.
        let count = read_count(reader, 1)?;
        let start = self.fields.len();
        if count > FIELDS_MAX - start.min(FIELDS_MAX) {
            return Err(GobError::PeerTypesMax);
        }
        for _ in 0..count {
            let (name, of) = read_named(reader)?;
            let from = self.names.len();
            if name.len() > NAMES_MAX - from.min(NAMES_MAX) {
                return Err(GobError::PeerTypesMax);
            }
            self.names.extend_from_slice(name);
            self.fields.push(Named {
                name: from..self.names.len(),
                of,
            });
        }
        Ok(start..self.fields.len())
    }
}

/// Reads `{name, id}`; what is missing is empty or 0, and no such type is ever defined.
fn read_named<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], TypeId), GobError> {
    let (mut name, mut of) = (&[][..], TypeId(0));
    let mut next = 0;
    while let Some(field) = read_field(reader, &mut next)? {
        match field {
            0 => name = read_bytes(reader)?,
            1 => of = TypeId(read_int(reader)?),
            _ => return Err(GobError::PeerField { field, fields: 2 }),
        }
    }
    Ok((name, of))
}

/// Reads the name and the id that every kind repeats.
fn skip_common(reader: &mut Reader<'_>) -> Result<(), GobError> {
    read_named(reader).map(|_| ())
}

pub(super) const KIND_ARRAY: u64 = 0;
pub(super) const KIND_SLICE: u64 = 1;
pub(super) const KIND_STRUCT: u64 = 2;
pub(super) const KIND_MAP: u64 = 3;
pub(super) const KIND_BINARY_MARSHALER: u64 = 5;
