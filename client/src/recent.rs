//! A map that forgets what was not used for longest.
//!
//! Here: the bound and the order of use. Not here: what the values mean, times.
//!
//! Invariant: `values` and `order` have the same keys, each under its latest number.
//! Bound: `entries_max` entries, two small tables; a use costs O(log n).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `entries_max` values; a new one takes the place of the least recently used.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    values: HashMap<K, (u64, V)>,
    /// When each key was used last, as a number that only grows.
    order: BTreeMap<u64, K>,
    next_use: u64,
    entries_max: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            values: HashMap::new(),
            order: BTreeMap::new(),
            // No use has the number 0, which a new entry starts with.
            next_use: 1,
            entries_max: entries_max.max(1),
        }
    }

    /// Returns the value of `key`, which counts as a use.
    pub(crate) fn used(&mut self, key: &K) -> Option<&mut V> {
        let (last_use, value) = self.values.get_mut(key)?;
        self.order.remove(last_use);
        self.order.insert(self.next_use, *key);
        *last_use = self.next_use;
        self.next_use += 1;
        Some(value)
    }

    /// Returns the value of `key`, an empty one if there is none; counts as a use.
    pub(crate) fn used_or_new(&mut self, key: K) -> &mut V {
        if !self.values.contains_key(&key) {
            while self.values.len() >= self.entries_max
                && let Some((_, oldest)) = self.order.pop_first()
            {
                self.values.remove(&oldest);
            }
        }
        let (last_use, value) = self.values.entry(key).or_default();
        self.order.remove(last_use);
        self.order.insert(self.next_use, key);
        *last_use = self.next_use;
        self.next_use += 1;
        value
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((last_use, _)) = self.values.remove(key) {
            self.order.remove(&last_use);
        }
    }

    /// Forgets what `is_kept` says no to.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&mut V) -> bool) {
        let order = &mut self.order;
        self.values.retain(|_, (last_use, value)| {
            let is_kept = is_kept(value);
            if !is_kept {
                order.remove(last_use);
            }
            is_kept
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut recent = Recent::new(2);
        *recent.used_or_new('a') = 1;
        *recent.used_or_new('b') = 2;
        assert_eq!(recent.used(&'a'), Some(&mut 1));
        *recent.used_or_new('c') = 3;
        assert_eq!(recent.used(&'b'), None);
        assert_eq!(recent.used(&'a'), Some(&mut 1));
        recent.retain(|value| *value != 1);
        assert_eq!(recent.used(&'a'), None);
        assert_eq!(recent.len(), 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Remove(u8),
        Retain(u8),
        Use(u8),
        UseOrNew(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..12_u8;
        prop_oneof![
            1 => key.clone().prop_map(Step::Remove),
            1 => key.clone().prop_map(Step::Retain),
            2 => key.clone().prop_map(Step::Use),
            4 => key.prop_map(Step::UseOrNew),
        ]
    }

    proptest! {
        /// The model is a list in order of use.
        #[test]
        fn it_is_a_list_in_order_of_use(steps in prop::collection::vec(step(), 0..200)) {
            let mut recent = Recent::new(5);
            let mut model: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Remove(key) => {
                        recent.remove(&key);
                        model.retain(|one| *one != key);
                    }
                    Step::Retain(key) => {
                        recent.retain(|value| *value != key);
                        model.retain(|one| *one != key);
                    }
                    Step::Use(key) => {
                        let is_there = model.contains(&key);
                        prop_assert_eq!(recent.used(&key).copied(), is_there.then_some(key));
                        if is_there {
                            model.retain(|one| *one != key);
                            model.push(key);
                        }
                    }
                    Step::UseOrNew(key) => {
                        *recent.used_or_new(key) = key;
                        model.retain(|one| *one != key);
                        model.push(key);
                        if model.len() > 5 {
                            model.remove(0);
                        }
                    }
                }
                let order: Vec<u8> = recent.order.values().copied().collect();
                prop_assert_eq!(&order, &model);
                prop_assert_eq!(recent.values.len(), model.len());
            }
        }
    }
}
