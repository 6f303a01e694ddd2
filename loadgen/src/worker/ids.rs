//! From stream ids to streams, for ids that grow.
//!
//! Here: the table of one session and one direction. Not here: the streams.
//!
//! A session's ids count up by two, so a queue with a base serves as a table: the oldest live id is in
//! front, a look-up is a subtraction.
//!
//! Go's yamux takes an id and sends it in two steps, so two streams that a dmsg server opens at the same time
//! may come in either order.
//!
//! Bound: ids between the oldest live stream and the newest, at most [`SPAN_MAX`].

use std::collections::VecDeque;

/// Most ids between the oldest live stream and the newest.
const SPAN_MAX: u32 = 1_048_576;

/// Live streams by id.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// Half the id of the first entry.
    base: u32,
    entries: VecDeque<Option<u32>>,
}

impl Ids {
    /// Adds a stream; false when the id is not greater than all before, or too far from the oldest.
    pub(super) fn insert(&mut self, id: u32, stream: u32) -> bool {
        let number = id / 2;
        if self.entries.is_empty() {
            if number < self.base {
                return false;
            }
            self.base = number;
        }
        let end = self.end();
        if number < end || number - self.base >= SPAN_MAX {
            return false;
        }
        for _ in end..number {
            self.entries.push_back(None);
        }
        self.entries.push_back(Some(stream));
        true
    }

    /// Adds a stream in whichever order ids come; false when one with this id lives, or it is too far from
    /// the others.
    pub(super) fn insert_anywhere(&mut self, id: u32, stream: u32) -> bool {
        let number = id / 2;
        if number >= self.end() {
            return self.insert(id, stream);
        }
        if self.end() - number.min(self.base) > SPAN_MAX {
            return false;
        }
        while number < self.base {
            self.entries.push_front(None);
            self.base -= 1;
        }
        let entry = usize::try_from(number - self.base)
            .ok()
            .and_then(|place| self.entries.get_mut(place));
        match entry {
            Some(entry @ None) => {
                *entry = Some(stream);
                true
            }
            _ => false,
        }
    }

    /// Returns the stream with this id.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        let place = (id / 2).checked_sub(self.base)?;
        *self.entries.get(usize::try_from(place).ok()?)?
    }

    /// Removes a stream.
    pub(super) fn remove(&mut self, id: u32) -> Option<u32> {
        let place = usize::try_from((id / 2).checked_sub(self.base)?).ok()?;
        let stream = self.entries.get_mut(place)?.take()?;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.base += 1;
        }
        Some(stream)
    }

    /// Removes all streams and returns them.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        self.base = self.end();
        self.entries.drain(..).flatten().collect()
    }

    fn end(&self) -> u32 {
        let len = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.base.saturating_add(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_until_they_are_removed() {
        let mut ids = Ids::default();
        for number in 0..100 {
            assert!(ids.insert(number * 2 + 1, number));
        }
        assert_eq!(ids.find(51), Some(25));
        for number in 0..99 {
            assert_eq!(ids.remove(number * 2 + 1), Some(number));
            assert_eq!(ids.find(number * 2 + 1), None);
        }
        assert_eq!(ids.entries.len(), 1);
        assert_eq!(ids.find(199), Some(99));
        assert_eq!(ids.find(201), None);
    }

    #[test]
    fn an_id_is_never_used_twice() {
        let mut ids = Ids::default();
        assert!(ids.insert(7, 1));
        assert!(!ids.insert(7, 2));
        assert!(!ids.insert(5, 2));
        assert_eq!(ids.remove(7), Some(1));
        assert!(!ids.insert(7, 2));
        assert!(ids.insert(9, 2));
    }

    #[test]
    fn ids_of_go_may_overtake_each_other() {
        let mut ids = Ids::default();
        for number in [3, 1, 2, 7, 5, 4, 6] {
            assert!(ids.insert_anywhere(number * 2, number), "{number}");
        }
        for number in 1..8 {
            assert_eq!(ids.find(number * 2), Some(number));
            assert!(!ids.insert_anywhere(number * 2, 9), "{number}");
        }
        for number in 1..8 {
            assert_eq!(ids.remove(number * 2), Some(number));
        }
        // Below all that ever lived, and too far below.
        assert!(ids.insert_anywhere(0, 0));
        assert_eq!((ids.find(0), ids.find(2)), (Some(0), None));
        let mut far = Ids::default();
        assert!(far.insert_anywhere(2 * SPAN_MAX + 2, 1));
        assert!(!far.insert_anywhere(0, 2));
        assert!(far.insert_anywhere(4, 3));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ids = Ids::default();
        assert!(ids.insert(2, 1));
        assert!(ids.insert(2_000, 2));
        assert_eq!(ids.find(1_000), None);
        assert!(!ids.insert(u32::MAX - 1, 3));
        assert_eq!(ids.drain(), [1, 2]);
        assert_eq!(ids.find(2), None);
    }
}
