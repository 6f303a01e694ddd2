//! What a registry is still to be told of this relay's peers.
//!
//! Here: which peers differ from what was written, merged: of one that comes and goes a hundred times the
//! registry hears the last word. Not here: writing.
//!
//! Invariant: a peer that is neither here nor written waits for nothing.
//! Bound: one place a peer that is here or written, so at most twice the relay's sessions.

use std::collections::{BTreeMap, BTreeSet};

use ringway_proto::entry::PeerEntry;
use ringway_proto::key::PublicKey;

use super::Update;

/// Peers as the registry has them, and those to look at again.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// Sequence of the entry that was written, for each peer.
    written: BTreeMap<PublicKey, u64>,
    pending: BTreeSet<PublicKey>,
}

impl Updates {
    /// A peer has come or gone; `entry` is what it has signed if it is here.
    pub(crate) fn note(&mut self, peer: PublicKey, entry: Option<&PeerEntry>) {
        let written = self.written.get(&peer).copied();
        if written == entry.map(|entry| entry.sequence) {
            self.pending.remove(&peer);
        } else {
            self.pending.insert(peer);
        }
    }

    /// Changes were missed: looks at all peers that are here or written.
    pub(crate) fn note_all(&mut self, here: impl IntoIterator<Item = PublicKey>) {
        // Of those that wait, some may have gone without a word.
        self.pending.clear();
        self.pending.extend(self.written.keys());
        self.pending.extend(here);
    }

    /// The registry has lost what was written.
    pub(crate) fn lose(&mut self, here: impl IntoIterator<Item = PublicKey>) {
        self.written.clear();
        self.pending.clear();
        self.pending.extend(here);
    }

    /// Takes the next updates, as many as `max`.
    pub(crate) fn take(
        &mut self,
        max: usize,
        entry_of: impl Fn(&PublicKey) -> Option<PeerEntry>,
    ) -> Vec<Update> {
        let mut updates = Vec::new();
        while updates.len() < max
            && let Some(peer) = self.pending.pop_first()
        {
            let written = self.written.get(&peer).copied();
            match (entry_of(&peer), written) {
                (Some(entry), written) if written != Some(entry.sequence) => {
                    updates.push(Update::Put { peer, entry });
                }
                (None, Some(_)) => updates.push(Update::Remove { peer }),
                (Some(_) | None, _) => {}
            }
        }
        updates
    }

    /// The updates have been written.
    pub(crate) fn done(&mut self, updates: &[Update]) {
        for update in updates {
            match update {
                Update::Put { peer, entry } => self.written.insert(*peer, entry.sequence),
                Update::Remove { peer } => self.written.remove(peer),
            };
        }
    }

    /// They have not, or nobody knows: they are to be written again.
    pub(crate) fn failed(&mut self, updates: &[Update]) {
        for update in updates {
            let peer = update.peer();
            self.pending.insert(peer);
            // It may have arrived or not, so it counts as written, with a sequence that no entry has: a
            // removal too, or a peer that comes back with the same entry would be taken for written.
            self.written.insert(peer, UNKNOWN);
        }
    }

    /// Returns how many peers wait.
    pub(crate) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Returns how many peers the registry has of this relay.
    pub(crate) fn written_count(&self) -> usize {
        self.written.len()
    }
}

/// Sequence of an entry that may or may not have been written: peers sign the time, which was never 0.
const UNKNOWN: u64 = 0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use ringway_proto::key::SecretKey;

    use super::*;

    fn peer(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    fn entry(number: u8, sequence: u64) -> PeerEntry {
        let relay = SecretKey::from_seed([99; 32]).public();
        PeerEntry::sign(&peer(number), &relay, sequence).unwrap()
    }

    #[test]
    fn peer_that_comes_back_after_a_removal_of_unknown_fate_is_written_again() {
        let mut updates = Updates::default();
        let (key, signed) = (peer(2).public(), entry(2, 5));
        updates.note(key, Some(&signed));
        let batch = updates.take(9, |_| Some(signed));
        updates.done(&batch);
        updates.note(key, None);
        let batch = updates.take(9, |_| None);
        assert_eq!(batch, [Update::Remove { peer: key }]);
        updates.failed(&batch);
        updates.note(key, Some(&signed));
        let put = Update::Put {
            peer: key,
            entry: signed,
        };
        assert_eq!(updates.take(9, |_| Some(signed)), [put]);
    }

    #[test]
    fn peer_that_has_come_and_gone_meanwhile_is_never_written() {
        let mut updates = Updates::default();
        let (key, signed) = (peer(1).public(), entry(1, 5));
        updates.note(key, Some(&signed));
        updates.note(key, None);
        assert_eq!(updates.pending_count(), 0);
        assert_eq!(updates.take(9, |_| None), []);
    }

    #[test]
    fn lost_registry_gets_everything_again() {
        let mut updates = Updates::default();
        let (key, signed) = (peer(1).public(), entry(1, 5));
        updates.note(key, Some(&signed));
        let batch = updates.take(9, |_| Some(signed));
        updates.done(&batch);
        updates.note_all([key]);
        assert_eq!(updates.take(9, |_| Some(signed)), [], "it is written");
        updates.lose([key]);
        assert_eq!(updates.take(9, |_| Some(signed)), batch);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Come(u8, u64),
        Go(u8),
        Overrun,
        Write {
            size: usize,
            arrives: bool,
            is_told: bool,
        },
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_u8, 1..9_u64).prop_map(|(number, sequence)| Step::Come(number, sequence)),
            3 => (0..4_u8).prop_map(Step::Go),
            1 => Just(Step::Overrun),
            1 => Just(Step::Lose),
            4 => (1..4_usize, any::<bool>(), any::<bool>())
                .prop_map(|(size, arrives, is_told)| Step::Write { size, arrives, is_told }),
        ]
    }

    proptest! {
        /// Whatever comes, goes, gets lost or is told of too late: once all has been written, the registry
        /// has exactly who is here.
        #[test]
        fn registry_comes_to_have_exactly_who_is_here(steps in prop::collection::vec(step(), 0..60)) {
            let mut updates = Updates::default();
            let mut here: BTreeMap<PublicKey, PeerEntry> = BTreeMap::new();
            let mut registry: BTreeMap<PublicKey, PeerEntry> = BTreeMap::new();
            let write = |registry: &mut BTreeMap<_, _>, batch: &[Update]| {
                for update in batch {
                    match update {
                        Update::Put { peer, entry } => registry.insert(*peer, *entry),
                        Update::Remove { peer } => registry.remove(peer),
                    };
                }
            };
            for step in steps {
                match step {
                    Step::Come(number, sequence) => {
                        let (key, entry) = (peer(number).public(), entry(number, sequence));
                        here.insert(key, entry);
                        updates.note(key, Some(&entry));
                    }
                    Step::Go(number) => {
                        here.remove(&peer(number).public());
                        updates.note(peer(number).public(), None);
                    }
                    // A change was missed, and somebody says so.
                    Step::Overrun => {
                        here.remove(&peer(0).public());
                        updates.note_all(here.keys().copied());
                    }
                    Step::Lose => {
                        registry.clear();
                        updates.lose(here.keys().copied());
                    }
                    Step::Write { size, arrives, is_told } => {
                        let batch = updates.take(size, |key| here.get(key).copied());
                        if arrives {
                            write(&mut registry, &batch);
                        }
                        if arrives && is_told {
                            updates.done(&batch);
                        } else {
                            updates.failed(&batch);
                        }
                    }
                }
                prop_assert!(updates.pending_count() <= here.len() + updates.written_count());
            }
            while updates.pending_count() > 0 {
                let batch = updates.take(2, |key| here.get(key).copied());
                write(&mut registry, &batch);
                updates.done(&batch);
            }
            prop_assert_eq!(registry, here);
        }
    }
}
