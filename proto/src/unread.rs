//! Received bytes of a stream that were not consumed yet.
//!
//! Here: keeping them, and taking what is whole. Not here: what is whole (`record`, `route::message`,
//! `route::packet`).
//!
//! Bound: the owner takes all that is whole before it pushes more, so what is kept stays under one unit and
//! one push.

use alloc::vec::Vec;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Those before `start` are consumed.
    bytes: Vec<u8>,
    start: usize,
}

impl Unread {
    /// Returns none.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// Keeps bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Returns the bytes, to be changed in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Consumes the first `count` bytes and returns them; all of them where there are fewer.
    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        let end = self.start.saturating_add(count).min(self.bytes.len());
        let taken = self.start..end;
        self.start = end;
        self.bytes.get(taken).unwrap_or_default()
    }

    /// Returns how many there are.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_once_and_in_order() {
        let mut unread = Unread::new();
        unread.push(b"abc");
        assert_eq!(unread.take(2), b"ab");
        unread.push(b"de");
        unread.bytes_mut()[0] = b'C';
        assert_eq!((unread.bytes(), unread.len()), (&b"Cde"[..], 3));
        assert_eq!(unread.take(9), b"Cde");
        assert_eq!(unread.take(1), b"");
        assert_eq!(unread.len(), 0);
    }
}
