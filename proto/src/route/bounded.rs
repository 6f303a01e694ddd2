//! Lists and texts of control messages, read without trusting their counts.
//!
//! Here: `deserialize_with` functions. Not here: which bound belongs to which field (`check`,
//! `setup`, `hop`).
//!
//! Bound: memory is asked for as items arrive, never by a count on the wire, so a message makes its reader
//! hold at most a small multiple of its own bytes ([`crate::limits::ROUTE_MESSAGE_MAX`]).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Reads a list.
///
/// # Errors
///
/// What an item's reader returns, and when there are fewer items than the count says.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(ListVisitor(PhantomData))
}

/// Reads a text of at most `N` bytes.
///
/// # Errors
///
/// When it is longer or no UTF-8.
pub fn text<'de, D, const N: usize>(deserializer: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(TextVisitor::<N>)
}

/// Returns the start of `text` that fits in `bytes_max`, cut between two characters.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=bytes_max.min(text.len())).rev().find(fits);
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }
}

struct TextVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for TextVisitor<N> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {N} bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        if text.len() > N {
            return Err(E::invalid_length(text.len(), &self));
        }
        Ok(String::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 9), "abc");
        assert_eq!(cut("a\u{e9}b", 2), "a");
        assert_eq!(cut("\u{e9}", 1), "");
        assert_eq!(cut("", 0), "");
    }
}
