//! The session directory: which shard holds the session of a key.
//!
//! Here: the one structure all shards share. Not here: what a newer session does to an older one
//! (`core`).
//!
//! Read for each open, written for each session: look-ups take no lock and write nothing shared. The
//! hash is keyed at random, so peers cannot choose keys that collide.
//!
//! Bound: one entry a session, so the sockets of all shards.

use std::sync::Arc;

use papaya::HashMap;
use ringway_proto::key::PublicKey;

use crate::core::Directory;
use crate::core::Place;

/// Map from key to place, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct SessionDirectory(Arc<HashMap<PublicKey, Place>>);

impl SessionDirectory {
    /// Returns the number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Directory for SessionDirectory {
    fn insert(&self, key: PublicKey, place: Place) -> Option<Place> {
        self.0.pin().insert(key, place).copied()
    }

    fn remove(&self, key: &PublicKey, place: Place) {
        let removed = self
            .0
            .pin()
            .remove_if(key, |_, found| *found == place)
            .is_ok();
        tracing::trace!(removed, "session leaves the directory");
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        self.0.pin().get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::core::{SessionKey, ShardId, Slot};

    fn key(byte: u8) -> PublicKey {
        PublicKey::native([byte; 32])
    }

    fn place(shard: u16, slot: u32) -> Place {
        let session = SessionKey {
            slot: Slot(slot),
            generation: 0,
        };
        Place {
            shard: ShardId(shard),
            session,
        }
    }

    #[test]
    fn older_session_cannot_remove_the_newer() {
        let directory = SessionDirectory::default();
        assert_eq!(directory.insert(key(1), place(0, 1)), None);
        assert_eq!(directory.insert(key(1), place(1, 2)), Some(place(0, 1)));
        directory.remove(&key(1), place(0, 1));
        assert_eq!(directory.lookup(&key(1)), Some(place(1, 2)));
        directory.remove(&key(1), place(1, 2));
        assert_eq!(directory.lookup(&key(1)), None);
        assert!(directory.is_empty());
    }

    #[test]
    fn of_shards_that_insert_the_same_key_each_place_is_replaced_once() {
        let directory = SessionDirectory::default();
        let count = 1_000;
        let threads: Vec<_> = (0..2)
            .map(|shard| {
                let directory = directory.clone();
                thread::spawn(move || {
                    (0..count)
                        .filter_map(|slot| directory.insert(key(9), place(shard, slot)))
                        .map(|replaced| (replaced.shard.0, replaced.session.slot.0))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut replaced: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let last = directory.lookup(&key(9)).unwrap();
        replaced.push((last.shard.0, last.session.slot.0));
        replaced.sort_unstable();
        let expected: Vec<_> = (0..2)
            .flat_map(|shard| (0..count).map(move |slot| (shard, slot)))
            .collect();
        assert_eq!(replaced, expected);
    }
}
