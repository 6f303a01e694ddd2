//! The directory: which shard holds the session of a key, and which other relays do.
//!
//! Here: the one structure all shards share, and that an older session never takes a newer one's place.
//! Not here: what becomes of the one that goes (`core`).
//!
//! Read for each open, written for each session: look-ups take no lock and write nothing shared. The
//! hash is keyed at random, so peers cannot choose keys that collide.
//!
//! Bound: one entry a session, so the sockets of all shards; one for each peer that links have announced,
//! of `HOLDERS_MAX` holders.

use std::sync::Arc;

use papaya::{Compute, HashMap, Operation};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::HOLDERS_MAX;

use crate::core::{Directory, Holder, Outdated, Place, Registration, ShardId};

/// Map from key to session, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct SessionDirectory {
    here: Arc<HashMap<PublicKey, Registration>>,
    /// Peers of other relays.
    there: Arc<HashMap<PublicKey, Box<[Holder]>>>,
    /// The links on which other relays are told of the peers here.
    announcers: Arc<HashMap<PublicKey, Place>>,
}

impl SessionDirectory {
    /// Returns the number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.here.len()
    }

    /// Returns the number of peers that other relays have.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.there.len()
    }

    /// Returns whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.here.is_empty()
    }
}

impl Directory for SessionDirectory {
    fn insert(
        &self,
        key: PublicKey,
        registration: Registration,
    ) -> Result<Option<Place>, Outdated> {
        let sessions = self.here.pin();
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
            .here
            .pin()
            .remove_if(key, |_, found| found.place == place)
            .is_ok();
        tracing::trace!(removed, "session leaves the directory");
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        self.here.pin().get(key).map(|found| found.place)
    }

    fn keys(&self) -> Vec<PublicKey> {
        self.here.pin().keys().copied().collect()
    }

    fn claim_announcer(&self, relay: PublicKey, link: Place) -> bool {
        *self.announcers.pin().get_or_insert(relay, link) == link
    }

    fn drop_announcer(&self, relay: &PublicKey, link: Place) {
        let removed = self
            .announcers
            .pin()
            .remove_if(relay, |_, found| *found == link)
            .is_ok();
        tracing::trace!(removed, "another link is to announce");
    }

    fn announcers(&self) -> Vec<ShardId> {
        let mut shards: Vec<_> = self.announcers.pin().values().map(|l| l.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    fn hold(&self, key: PublicKey, holder: Holder) {
        let there = self.there.pin();
        let computed = there.compute(key, |entry| {
            let known = entry.map_or(&[][..], |(_, known)| known);
            if known.contains(&holder) || known.len() >= HOLDERS_MAX {
                return Operation::Abort(());
            }
            Operation::Insert(known.iter().copied().chain([holder]).collect())
        });
        let is_new = !matches!(computed, Compute::Aborted(()));
        tracing::trace!(is_new, "peer of another relay");
    }

    fn release(&self, key: &PublicKey, link: Place) {
        let there = self.there.pin();
        let computed = there.compute(*key, |entry| {
            let Some((_, known)) = entry else {
                return Operation::Abort(());
            };
            let left: Box<[Holder]> = known.iter().copied().filter(|h| h.link != link).collect();
            if left.is_empty() {
                Operation::Remove
            } else if left.len() == known.len() {
                Operation::Abort(())
            } else {
                Operation::Insert(left)
            }
        });
        let was_there = !matches!(computed, Compute::Aborted(()));
        tracing::trace!(was_there, "peer has left another relay");
    }

    fn holders(&self, key: &PublicKey) -> Vec<Holder> {
        let there = self.there.pin();
        there.get(key).map_or_else(Vec::new, |known| known.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ringway_proto::time::Now;

    use super::*;
    use crate::core::{SessionKey, Slot};

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
