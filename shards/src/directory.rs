//! The session directory: which shard holds the session of a key.
//!
//! Here: the one structure all shards share, and that an older session never takes a newer one's place.
//! Not here: what becomes of the one that goes (`core`).
//!
//! Read for each open, written for each session: look-ups take no lock and write nothing shared. The
//! hash is keyed at random, so peers cannot choose keys that collide.
//!
//! Bound: one entry a session, so the sockets of all shards.

use std::sync::Arc;

use papaya::{Compute, HashMap, Operation};
use ringway_proto::key::PublicKey;

use crate::core::{Directory, Outdated, Place, Registration};

/// Map from key to session, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct SessionDirectory(Arc<HashMap<PublicKey, Registration>>);

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
    fn insert(
        &self,
        key: PublicKey,
        registration: Registration,
    ) -> Result<Option<Place>, Outdated> {
        let sessions = self.0.pin();
        let computed = sessions.compute(key, |entry| match entry {
            Some((_, there)) if registration.is_outdated_by(there) => Operation::Abort(Outdated),
            Some(_) | None => Operation::Insert(registration),
        });
        match computed {
            Compute::Aborted(outdated) => Err(outdated),
            Compute::Updated { old: (_, old), .. } => Ok(Some(old.place)),
            Compute::Inserted(..) | Compute::Removed(..) => Ok(None),
        }
    }

    fn remove(&self, key: &PublicKey, place: Place) {
        let removed = self
            .0
            .pin()
            .remove_if(key, |_, found| found.place == place)
            .is_ok();
        tracing::trace!(removed, "session leaves the directory");
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        self.0.pin().get(key).map(|found| found.place)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ringway_proto::time::Now;

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

    fn accepted(place: Place, at_ns: u64) -> Registration {
        Registration {
            place,
            accepted_at: Now::from_nanos(at_ns),
        }
    }

    #[test]
    fn replaced_session_cannot_remove_its_successor() {
        let directory = SessionDirectory::default();
        let (first, second) = (accepted(place(0, 1), 1), accepted(place(1, 2), 2));
        assert_eq!(directory.insert(key(1), first), Ok(None));
        assert_eq!(directory.insert(key(1), second), Ok(Some(place(0, 1))));
        directory.remove(&key(1), place(0, 1));
        assert_eq!(directory.lookup(&key(1)), Some(place(1, 2)));
        directory.remove(&key(1), place(1, 2));
        assert_eq!(directory.lookup(&key(1)), None);
        assert!(directory.is_empty());
    }

    #[test]
    fn older_connection_never_takes_the_place_of_a_newer_one() {
        let directory = SessionDirectory::default();
        let (older, newer) = (accepted(place(0, 1), 1), accepted(place(1, 2), 2));
        assert_eq!(directory.insert(key(1), newer), Ok(None));
        assert_eq!(directory.insert(key(1), older), Err(Outdated));
        assert_eq!(directory.lookup(&key(1)), Some(place(1, 2)));
        // Of two that came at once, the later to finish.
        let twin = accepted(place(0, 3), 2);
        assert_eq!(directory.insert(key(1), twin), Ok(Some(place(1, 2))));
        // Where there is nobody, the oldest is welcome.
        directory.remove(&key(1), place(0, 3));
        assert_eq!(directory.insert(key(1), older), Ok(None));
    }

    #[test]
    fn of_shards_that_insert_the_same_key_all_but_the_newest_are_told() {
        let directory = SessionDirectory::default();
        let count = 1_000;
        let threads: Vec<_> = (0..2)
            .map(|shard| {
                let directory = directory.clone();
                thread::spawn(move || {
                    let mut told = Vec::new();
                    for number in 0..count {
                        // Every third one is older than what came before it.
                        let at_ns = u64::from(if number % 3 == 0 { number / 2 } else { number });
                        let own = place(shard, number);
                        match directory.insert(key(9), accepted(own, at_ns)) {
                            Ok(Some(replaced)) => told.push(replaced),
                            Ok(None) => {}
                            Err(Outdated) => told.push(own),
                        }
                    }
                    told
                })
            })
            .collect();
        let mut told: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .map(|place| (place.shard.0, place.session.slot.0))
            .collect();
        let last = directory.lookup(&key(9)).unwrap();
        // The greatest time is that of number 998 (999 counts as 499).
        assert_eq!(last.session.slot.0, 998);
        told.push((last.shard.0, last.session.slot.0));
        told.sort_unstable();
        let expected: Vec<_> = (0..2)
            .flat_map(|shard| (0..count).map(move |slot| (shard, slot)))
            .collect();
        assert_eq!(told, expected);
    }
}
