//! The directory: which shard holds the session of a key, and which other relays do.
//!
//! Here: the one structure all shards share, and that an older session never takes a newer one's place.
//! Not here: what becomes of the one that goes (`core`).
//!
//! Read for each open, written for each session: look-ups take no lock and write nothing shared. The
//! hash is keyed at random, so peers cannot choose keys that collide.
//!
//! Bound: one entry a session, so the sockets of all shards; one for each peer that links have announced,
//! of `HOLDERS_MAX` holders; `NEWS_MAX` changes that wait for a registry; `RELAYS_MAX` relays that have had
//! links.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;
use papaya::{Compute, HashMap, Operation};
use ringway_proto::dialect::Dialect;
use ringway_proto::entry::PeerEntry;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::HOLDERS_MAX;

use crate::core::{Directory, Holder, Outdated, Place, Registration, ShardId};

/// Map from key to session, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct SessionDirectory {
    here: Arc<HashMap<PublicKey, Here>>,
    /// Peers of other relays.
    there: Arc<HashMap<PublicKey, Box<[Holder]>>>,
    /// The links on which other relays are told of the peers here.
    announcers: Arc<HashMap<PublicKey, Place>>,
    /// Relays that links have stood with, and where they are.
    relays: Arc<HashMap<PublicKey, Option<SocketAddr>>>,
    /// What a registry has to hear of; absent without one.
    news: Option<Arc<News>>,
}

/// A session of this relay.
#[derive(Debug)]
struct Here {
    registration: Registration,
    /// Kept for a registry only.
    entry: Option<Box<PeerEntry>>,
}

/// Peers that have come or gone, for whoever tells the registry.
#[derive(Debug)]
struct News {
    keys: ArrayQueue<PublicKey>,
    /// Some key did not fit: everything is to be told anew.
    is_overrun: AtomicBool,
}

/// Peers that have come or gone since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Their keys, some more than once; whether one is there says [`SessionDirectory::entry_of`].
    pub keys: Vec<PublicKey>,
    /// More have changed than could be noted: all sessions are to be looked through.
    pub is_overrun: bool,
}

impl SessionDirectory {
    /// Returns a directory that keeps peers' entries and notes changes for a registry. Costs some 150 bytes a
    /// session.
    #[must_use]
    pub fn for_registry() -> Self {
        Self {
            news: Some(Arc::new(News {
                keys: ArrayQueue::new(NEWS_MAX),
                is_overrun: AtomicBool::new(false),
            })),
            ..Self::default()
        }
    }

    /// Takes at most `max` of the changes noted since the last call.
    #[must_use]
    pub fn take_changes(&self, max: usize) -> Changes {
        let Some(news) = &self.news else {
            return Changes::default();
        };
        // Before the keys: one that is lost meanwhile is told of the next time.
        let is_overrun = news.is_overrun.swap(false, Ordering::AcqRel);
        let keys = std::iter::from_fn(|| news.keys.pop()).take(max).collect();
        Changes { keys, is_overrun }
    }

    /// Returns the entry of a peer that has a session here and has signed one.
    #[must_use]
    pub fn entry_of(&self, key: &PublicKey) -> Option<PeerEntry> {
        let here = self.here.pin();
        here.get(key)?.entry.as_deref().copied()
    }

    /// Returns the relays that links have stood with, and where they are reached if that is known.
    #[must_use]
    pub fn relays(&self) -> Vec<(PublicKey, Option<SocketAddr>)> {
        let relays = self.relays.pin();
        relays.iter().map(|(key, at)| (*key, *at)).collect()
    }

    fn note_change(&self, key: PublicKey) {
        // Registries know peers of the native dialect.
        if key.dialect() != Dialect::Native {
            return;
        }
        if let Some(news) = &self.news
            && news.keys.push(key).is_err()
        {
            news.is_overrun.store(true, Ordering::Release);
        }
    }

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
        entry: Option<&PeerEntry>,
    ) -> Result<Option<Place>, Outdated> {
        let entry = entry.filter(|_| self.news.is_some());
        let sessions = self.here.pin();
        let computed = sessions.compute(key, |found| match found {
            Some((_, there)) if registration.is_outdated_by(&there.registration) => {
                Operation::Abort(Outdated)
            }
            Some(_) | None => Operation::Insert(Here {
                registration,
                entry: entry.copied().map(Box::new),
            }),
        });
        let replaced = match computed {
            Compute::Aborted(outdated) => return Err(outdated),
            Compute::Updated { old: (_, old), .. } => Some(old.registration.place),
            Compute::Inserted(..) | Compute::Removed(..) => None,
        };
        self.note_change(key);
        Ok(replaced)
    }

    fn remove(&self, key: &PublicKey, place: Place) {
        let removed = self
            .here
            .pin()
            .remove_if(key, |_, found| found.registration.place == place)
            .is_ok_and(|removed| removed.is_some());
        if removed {
            self.note_change(*key);
        }
        tracing::trace!(removed, "session leaves the directory");
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        let here = self.here.pin();
        here.get(key).map(|found| found.registration.place)
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

    fn announcer(&self, relay: &PublicKey) -> Option<Place> {
        self.announcers.pin().get(relay).copied()
    }

    fn note_relay(&self, relay: PublicKey, address: Option<SocketAddr>) {
        let relays = self.relays.pin();
        let is_known = relays.get(&relay).is_some();
        // A relay that dials this one without saying where it is may have said so before. Whoever may make
        // links may have any number of keys.
        if is_known && address.is_some() || !is_known && relays.len() < RELAYS_MAX {
            relays.insert(relay, address);
        }
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

/// Relays that are noted, for whoever remembers them: as many as a registry's reader believes in.
const RELAYS_MAX: usize = 4_096;

/// Changes that wait for the registry: the sessions of four full shards come at once. Costs 2.6 MB.
const NEWS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::thread;

    use ringway_proto::key::SecretKey;
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
        assert_eq!(directory.insert(key(1), first, None), Ok(None));
        assert_eq!(
            directory.insert(key(1), second, None),
            Ok(Some(place(0, 1)))
        );
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
        assert_eq!(directory.insert(key(1), newer, None), Ok(None));
        assert_eq!(directory.insert(key(1), older, None), Err(Outdated));
        assert_eq!(directory.lookup(&key(1)), Some(place(1, 2)));
        // Of two that came at once, the later to finish.
        let twin = accepted(place(0, 3), 2);
        assert_eq!(directory.insert(key(1), twin, None), Ok(Some(place(1, 2))));
        // Where there is nobody, the oldest is welcome.
        directory.remove(&key(1), place(0, 3));
        assert_eq!(directory.insert(key(1), older, None), Ok(None));
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
                        match directory.insert(key(9), accepted(own, at_ns), None) {
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

    #[test]
    fn registry_hears_of_every_change_and_finds_the_entry_of_whoever_is_there() {
        let directory = SessionDirectory::for_registry();
        let secret = SecretKey::from_seed([7; 32]);
        let (peer, relay) = (secret.public(), key(3));
        let entry = PeerEntry::sign(&secret, &relay, 5).unwrap();
        let (first, second) = (accepted(place(0, 1), 1), accepted(place(1, 2), 2));
        assert_eq!(directory.insert(peer, first, Some(&entry)), Ok(None));
        assert_eq!(directory.entry_of(&peer), Some(entry));
        // The newer session has signed nothing.
        assert_eq!(directory.insert(peer, second, None), Ok(Some(place(0, 1))));
        assert_eq!(directory.entry_of(&peer), None);
        // Changes nothing, and is no news.
        directory.remove(&peer, place(0, 1));
        directory.remove(&peer, place(1, 2));
        let told = directory.take_changes(usize::MAX);
        assert_eq!(told.keys, vec![peer; 3]);
        assert!(!told.is_overrun);
        assert_eq!(directory.take_changes(usize::MAX), Changes::default());
    }

    #[test]
    fn changes_that_do_not_fit_are_owned_up_to_once() {
        let directory = SessionDirectory::for_registry();
        for number in 0..=u32::try_from(NEWS_MAX).unwrap() {
            let newer = accepted(place(0, number), u64::from(number));
            assert!(directory.insert(key(1), newer, None).is_ok());
        }
        let first = directory.take_changes(usize::MAX);
        assert!(first.is_overrun && first.keys.len() == NEWS_MAX);
        assert_eq!(directory.take_changes(usize::MAX), Changes::default());
    }

    #[test]
    fn without_a_registry_no_entry_is_kept() {
        let directory = SessionDirectory::default();
        let secret = SecretKey::from_seed([7; 32]);
        let entry = PeerEntry::sign(&secret, &key(3), 5).unwrap();
        let session = accepted(place(0, 1), 1);
        assert_eq!(
            directory.insert(secret.public(), session, Some(&entry)),
            Ok(None)
        );
        assert_eq!(directory.entry_of(&secret.public()), None);
        assert_eq!(directory.take_changes(usize::MAX), Changes::default());
    }

    #[test]
    fn known_address_of_a_relay_is_not_forgotten() {
        let directory = SessionDirectory::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 7));
        directory.note_relay(key(1), None);
        assert_eq!(directory.relays(), [(key(1), None)]);
        directory.note_relay(key(1), Some(address));
        directory.note_relay(key(1), None);
        assert_eq!(directory.relays(), [(key(1), Some(address))]);
    }

    #[test]
    fn relays_with_ever_new_keys_are_noted_up_to_a_bound() {
        let directory = SessionDirectory::default();
        let address = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let known = key(1);
        directory.note_relay(known, address(7));
        for number in 0..u32::try_from(2 * RELAYS_MAX).unwrap() {
            let mut bytes = [9; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            directory.note_relay(PublicKey::native(bytes), address(7));
        }
        assert_eq!(directory.relays().len(), RELAYS_MAX);
        // Who is known may move all the same.
        directory.note_relay(known, address(8));
        assert!(directory.relays().contains(&(known, address(8))));
    }
}
