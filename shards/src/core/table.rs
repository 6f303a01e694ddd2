//! Bounded tables: generational slots, and stream ids of one session.
//!
//! Here: [`SlotTable`] and [`IdTable`]. Not here: what they hold.
//!
//! Invariant: a key of a removed entry never finds the entry that took its place (the generation
//! differs). `IdTable` is at most half full, so a probe ends.

use super::event::StreamKey;

/// Table of values found by generational keys.
#[derive(Debug)]
pub(crate) struct SlotTable<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    live: u32,
    /// Generation of an entry that is new to the table: no key of a trimmed one has it.
    floor: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> SlotTable<T> {
    /// Memory of one entry, its place in the list of free ones included.
    pub(super) const ENTRY_BYTES: usize = size_of::<Entry<T>>() + size_of::<u32>();

    pub(crate) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            floor: 0,
        }
    }

    /// Stores `value`; gives it back when 2^32 entries exist.
    pub(crate) fn insert(&mut self, value: T) -> Result<StreamKey, T> {
        if let Some(index) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            entry.value = Some(value);
            self.live += 1;
            return Ok(StreamKey {
                index,
                generation: entry.generation,
            });
        }
        let Ok(index) = u32::try_from(self.entries.len()) else {
            return Err(value);
        };
        let generation = self.floor;
        self.entries.push(Entry {
            generation,
            value: Some(value),
        });
        self.live += 1;
        Ok(StreamKey { index, generation })
    }

    #[inline]
    pub(crate) fn get(&self, key: StreamKey) -> Option<&T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation == key.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: StreamKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, key: StreamKey) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.live -= 1;
        Some(value)
    }

    pub(crate) const fn len(&self) -> u32 {
        self.live
    }

    /// Gives back the memory of free entries behind the last one in use. Looks at every free one.
    pub(crate) fn trim(&mut self) {
        while let Some(last) = self.entries.pop_if(|entry| entry.value.is_none()) {
            self.floor = self.floor.max(last.generation);
        }
        let len = self.entries.len();
        self.entries.shrink_to_fit();
        self.free.retain(|index| (*index as usize) < len);
        self.free.shrink_to_fit();
    }

    /// Returns the keys of all entries.
    pub(crate) fn keys(&self) -> Vec<StreamKey> {
        let key = |(index, entry): (u32, &Entry<T>)| StreamKey {
            index,
            generation: entry.generation,
        };
        (0..)
            .zip(&self.entries)
            .filter(|(_, entry)| entry.value.is_some())
            .map(key)
            .collect()
    }
}

/// Stream ids of one session, found by open addressing.
///
/// Ids are chosen by peers, so the start of a probe depends on a random seed that they do not know.
/// Memory: nothing while empty, 12 bytes a place, at most 4,096 places at 2,048 streams.
#[derive(Debug, Default)]
pub(crate) struct IdTable {
    places: Vec<IdPlace>,
    len: u32,
}

/// One place; id 0 is the session itself in yamux and marks an empty place.
#[derive(Debug, Clone, Copy)]
struct IdPlace {
    id: u32,
    stream: StreamKey,
}

const EMPTY: IdPlace = IdPlace {
    id: 0,
    stream: StreamKey {
        index: 0,
        generation: 0,
    },
};
const PLACES_MIN: usize = 8;

impl IdTable {
    /// Memory of one place.
    pub(super) const PLACE_BYTES: usize = size_of::<IdPlace>();

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, id: u32, seed: u64) -> Option<StreamKey> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = start(id, seed, mask);
        loop {
            let place = self.places.get(at)?;
            // Emptiness first: a peer may ask for id 0, which marks an empty place.
            if place.id == 0 {
                return None;
            }
            if place.id == id {
                return Some(place.stream);
            }
            at = (at + 1) & mask;
        }
    }

    /// Stores an id that is not in the table.
    pub(crate) fn insert(&mut self, id: u32, stream: StreamKey, seed: u64) {
        assert!(id != 0, "stream id 0 is the session");
        if (self.len as usize + 1) * 2 > self.places.len() {
            let count = (self.places.len() * 2).max(PLACES_MIN);
            let old = std::mem::replace(&mut self.places, vec![EMPTY; count]);
            for place in old.into_iter().filter(|place| place.id != 0) {
                self.put(place, seed);
            }
        }
        self.put(IdPlace { id, stream }, seed);
        self.len += 1;
    }

    /// Removes an id and closes the gap, so that no tombstones pile up.
    pub(crate) fn remove(&mut self, id: u32, seed: u64) -> Option<StreamKey> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = start(id, seed, mask);
        while self.places[at].id != id || id == 0 {
            if self.places[at].id == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
        let stream = self.places[at].stream;
        let mut gap = at;
        let mut probe = (at + 1) & mask;
        while self.places[probe].id != 0 {
            let home = start(self.places[probe].id, seed, mask);
            // The entry may move into the gap only if the gap lies between its home and its place.
            if (probe.wrapping_sub(home) & mask) >= (probe.wrapping_sub(gap) & mask) {
                self.places[gap] = self.places[probe];
                gap = probe;
            }
            probe = (probe + 1) & mask;
        }
        self.places[gap] = EMPTY;
        self.len -= 1;
        if self.len == 0 {
            self.places = Vec::new();
        }
        Some(stream)
    }

    /// Empties the table into a list.
    pub(crate) fn take_all(&mut self) -> Vec<StreamKey> {
        self.len = 0;
        std::mem::take(&mut self.places)
            .into_iter()
            .filter(|place| place.id != 0)
            .map(|place| place.stream)
            .collect()
    }

    fn put(&mut self, entry: IdPlace, seed: u64) {
        let mask = self.places.len() - 1;
        let mut at = start(entry.id, seed, mask);
        while self.places[at].id != 0 {
            at = (at + 1) & mask;
        }
        self.places[at] = entry;
    }
}

/// Multiplicative hashing with a secret odd factor (Dietzfelbinger et al. 1997).
#[inline]
// The cast is exact: masked to the table size on the next line.
fn start(id: u32, seed: u64, mask: usize) -> usize {
    let mixed = u64::from(id).wrapping_mul(seed | 1);
    (mixed >> 32) as usize & mask
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn key(index: u32) -> StreamKey {
        StreamKey {
            index,
            generation: 7,
        }
    }

    #[test]
    fn removed_key_does_not_find_its_successor() {
        let mut table = SlotTable::new();
        let first = table.insert('a').unwrap();
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert('b').unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&'b'));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn trimmed_table_finds_no_successor_by_an_old_key() {
        let mut table = SlotTable::new();
        let keys: Vec<_> = (0..100).map(|n| table.insert(n).unwrap()).collect();
        for key in keys.iter().filter(|key| key.index != 3) {
            table.remove(*key);
        }
        table.trim();
        assert_eq!((table.entries.len(), table.entries.capacity()), (4, 4));
        assert_eq!((table.get(keys[3]), table.len()), (Some(&3), 1));
        let new: Vec<_> = (0..100).map(|n| table.insert(n).unwrap()).collect();
        for key in &keys {
            assert!(!new.contains(key) && (key.index == 3 || table.get(*key).is_none()));
        }
        assert!(
            new.iter()
                .zip(0..)
                .all(|(key, n)| table.get(*key) == Some(&n))
        );
    }

    #[test]
    fn id_zero_finds_nothing() {
        let mut table = IdTable::default();
        table.insert(1, key(0), 7);
        assert_eq!(table.get(0, 7), None);
        assert_eq!(table.remove(0, 7), None);
        assert_eq!(table.len(), 1);
    }

    /// What `memory` counts for a session with all of its streams.
    #[test]
    fn id_table_of_a_full_session_has_two_to_four_places_a_stream() {
        let mut table = IdTable::default();
        for id in 1..=ringway_proto::limits::STREAMS_MAX {
            table.insert(id, key(id), 7);
        }
        let streams = ringway_proto::limits::STREAMS_MAX as usize;
        assert_eq!(table.places.len(), (2 * streams).next_power_of_two());
        table.insert(u32::MAX, key(0), 7);
        assert_eq!(table.places.len(), 4 * streams);
    }

    proptest! {
        #[test]
        fn id_table_behaves_like_a_map(
            seed: u64,
            operations in proptest::collection::vec((any::<bool>(), 1_u32..200), 0..400),
        ) {
            let mut table = IdTable::default();
            let mut model = std::collections::BTreeMap::new();
            for (insert, id) in operations {
                if insert {
                    if model.insert(id, key(id)).is_none() {
                        table.insert(id, key(id), seed);
                    }
                } else {
                    prop_assert_eq!(table.remove(id, seed), model.remove(&id));
                }
                prop_assert_eq!(table.len() as usize, model.len());
                for id in 1..200 {
                    prop_assert_eq!(table.get(id, seed), model.get(&id).copied());
                }
            }
            let mut all = table.take_all();
            all.sort();
            let mut expected: Vec<_> = model.into_values().collect();
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }
}
