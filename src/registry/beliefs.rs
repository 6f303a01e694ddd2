//! What a relay believes of a registry, and for how long.
//!
//! Here: a pure state machine: records, leases and the time go in, answers come out. Not here: the registry.
//!
//! Invariant: a place is believed only with the peer's signature, while its relay holds a lease with the
//! epoch that the place names; of a peer never an older place than one that is remembered, of a relay never
//! an older epoch than one that was seen. Bound: `ENTRIES_MAX` peers, `RELAYS_MAX` relays; the oldest
//! answer goes first. An epoch is forgotten with its relay, an hour after its lease was seen last.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::NEGATIVE_ANSWER_TIME;
use ringway_proto::time::Now;
use ringway_shards::set::LookedUp;

use super::{KnownRelay, PeerRecord};

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Beliefs {
    entries: HashMap<PublicKey, Remembered>,
    /// Keys of `entries` in the order in which they came, each with the number it came with: one that came
    /// again has a later place.
    order: VecDeque<(PublicKey, u64)>,
    arrivals: u64,
    relays: BTreeMap<PublicKey, Standing>,
    /// The registry may have lost everything a moment ago: what is missing in it is no news.
    is_unsettled: bool,
}

/// The answer to a question that was asked before.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    answer: LookedUp,
    /// Of the place, for the answer to stay true only while the relay lives.
    epoch: u64,
    /// Greatest one seen of this peer.
    sequence: u64,
    taken_at: Now,
    arrival: u64,
    /// It may have changed: good for no more than an answer while the registry is down.
    is_doubted: bool,
}

/// A relay as its last lease has it.
#[derive(Debug, Clone, Copy)]
struct Standing {
    epoch: u64,
    is_leased: bool,
    seen_at: Now,
}

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// The signature is not the peer's.
    Forged,
    /// A newer one was seen.
    RolledBack,
    /// Its relay holds no lease with that epoch.
    Orphaned,
}

impl Beliefs {
    /// Returns the answer that is remembered, if it is still fresh.
    pub(crate) fn answer(&self, peer: &PublicKey, now: Now) -> Option<LookedUp> {
        let found = self.entries.get(peer).filter(|found| !found.is_doubted)?;
        let time = match found.answer {
            LookedUp::At(relay) if self.is_leased(&relay, found.epoch) => ENTRY_TIME,
            LookedUp::Nowhere => NEGATIVE_ANSWER_TIME,
            LookedUp::At(_) | LookedUp::Unavailable => return None,
        };
        (now.saturating_since(found.taken_at) < time).then_some(found.answer)
    }

    /// Returns the place that is remembered, up to `STALE_TIME` old and even if it may have changed: the
    /// registry is down, and the relay that the place names says no if it is wrong.
    pub(crate) fn stale_answer(&self, peer: &PublicKey, now: Now) -> Option<LookedUp> {
        let found = self.entries.get(peer)?;
        let is_place = matches!(found.answer, LookedUp::At(_));
        let is_recent = now.saturating_since(found.taken_at) < STALE_TIME;
        (is_place && is_recent).then_some(found.answer)
    }

    /// Says whether the registry has come back less than a lease ago. Until then a lease or a place that is
    /// missing there may only not have been written again: what was believed before stays.
    pub(crate) const fn set_unsettled(&mut self, is_unsettled: bool) {
        self.is_unsettled = is_unsettled;
    }

    /// Takes in what the registry holds of a peer; returns the answer, and why the record is not it.
    pub(crate) fn take(
        &mut self,
        peer: PublicKey,
        record: Option<&PeerRecord>,
        now: Now,
    ) -> (LookedUp, Option<Disbelief>) {
        if record.is_none()
            && self.is_unsettled
            && let Some(before) = self.stale_answer(&peer, now)
        {
            return (before, None);
        }
        let known = self.entries.get(&peer).map_or(0, |found| found.sequence);
        let judged = record.map(|record| (record, self.judge(record, known)));
        let (answer, epoch, sequence, disbelief) = match judged {
            None => (LookedUp::Nowhere, 0, known, None),
            Some((record, None)) => {
                let sequence = record.entry.sequence;
                (LookedUp::At(record.relay), record.epoch, sequence, None)
            }
            Some((_, disbelief)) => (LookedUp::Nowhere, 0, known, disbelief),
        };
        self.remember(peer, answer, epoch, sequence, now);
        (answer, disbelief)
    }

    /// Returns why a record is not to be believed of a peer whose place with the sequence `known` was seen.
    fn judge(&self, record: &PeerRecord, known: u64) -> Option<Disbelief> {
        if record.entry.sequence < known {
            Some(Disbelief::RolledBack)
        } else if !self.is_leased(&record.relay, record.epoch) {
            Some(Disbelief::Orphaned)
        } else if record.entry.verify(&record.peer, &record.relay).is_err() {
            Some(Disbelief::Forged)
        } else {
            None
        }
    }

    fn remember(&mut self, peer: PublicKey, answer: LookedUp, epoch: u64, sequence: u64, now: Now) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let remembered = Remembered {
            answer,
            epoch,
            sequence,
            taken_at: now,
            arrival,
            is_doubted: false,
        };
        self.entries.insert(peer, remembered);
        self.order.push_back((peer, arrival));
        while self.entries.len() > ENTRIES_MAX || self.order.len() > 2 * ENTRIES_MAX {
            let Some((oldest, arrival)) = self.order.pop_front() else {
                return;
            };
            if self
                .entries
                .get(&oldest)
                .is_some_and(|found| found.arrival == arrival)
            {
                self.entries.remove(&oldest);
            }
        }
    }

    /// The place of a peer has changed: the next question about it goes to the registry. What was seen last
    /// still keeps it from bringing back something older.
    pub(crate) fn doubt(&mut self, peer: &PublicKey) {
        if let Some(found) = self.entries.get_mut(peer) {
            found.is_doubted = true;
        }
    }

    /// Changes were missed: nothing that is remembered is certain.
    pub(crate) fn doubt_all(&mut self) {
        for found in self.entries.values_mut() {
            found.is_doubted = true;
        }
    }

    /// Takes in who holds a lease now; returns how many names an older epoch than one seen before, which is
    /// not believed.
    pub(crate) fn set_relays(&mut self, relays: &[KnownRelay], now: Now) -> u64 {
        let mut rolled_back = 0;
        if !self.is_unsettled {
            for standing in self.relays.values_mut() {
                standing.is_leased = false;
            }
        }
        for known in relays {
            let Some(epoch) = known.epoch else { continue };
            let is_full = self.relays.len() >= RELAYS_MAX;
            match self.relays.get_mut(&known.relay) {
                Some(standing) if standing.epoch > epoch => rolled_back += 1,
                None if is_full => {}
                _ => {
                    let standing = Standing {
                        epoch,
                        is_leased: true,
                        seen_at: now,
                    };
                    self.relays.insert(known.relay, standing);
                }
            }
        }
        self.relays.retain(|_, standing| {
            standing.is_leased || now.saturating_since(standing.seen_at) < EPOCH_TIME
        });
        rolled_back
    }

    /// Returns whether a relay holds a lease with this epoch.
    pub(crate) fn is_leased(&self, relay: &PublicKey, epoch: u64) -> bool {
        let standing = self.relays.get(relay);
        standing.is_some_and(|standing| standing.is_leased && standing.epoch == epoch)
    }

    /// Returns whether a place may be taken out because its relay is gone: another epoch has followed, or
    /// nobody has seen a lease of it for `grace`. A relay that was never seen counts as seen at `since`.
    pub(crate) fn is_orphan(
        &self,
        record: &PeerRecord,
        now: Now,
        since: Now,
        grace: Duration,
    ) -> bool {
        let seen_at = match self.relays.get(&record.relay) {
            Some(standing) if standing.is_leased => return standing.epoch > record.epoch,
            Some(standing) => standing.seen_at,
            None => since,
        };
        now.saturating_since(seen_at) > grace
    }

    /// Returns how many peers are remembered.
    pub(crate) fn entries_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many relays hold leases.
    pub(crate) fn relays_count(&self) -> usize {
        let standing = self.relays.values();
        standing.filter(|standing| standing.is_leased).count()
    }
}

/// How long a place is believed without asking again. Changes are told; this is for those that are not.
pub(crate) const ENTRY_TIME: Duration = Duration::from_secs(30);

/// How long a place is believed while the registry is down: as long as most repairs take. The relay that it
/// names says no if it is wrong.
pub(crate) const STALE_TIME: Duration = Duration::from_secs(600);

/// How long the epoch of a relay without a lease is remembered.
const EPOCH_TIME: Duration = Duration::from_secs(3_600);

/// Peers remembered; 150 bytes each.
const ENTRIES_MAX: usize = 65_536;

/// Relays of a fleet.
pub(crate) const RELAYS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use ringway_proto::entry::PeerEntry;
    use ringway_proto::key::SecretKey;

    use super::*;

    const PEER: SecretKey = SecretKey::from_seed([1; 32]);
    const RELAY: SecretKey = SecretKey::from_seed([2; 32]);
    const OTHER: SecretKey = SecretKey::from_seed([3; 32]);

    fn at(seconds: u64) -> Now {
        Now::ZERO + Duration::from_secs(seconds)
    }

    fn record(relay: &SecretKey, epoch: u64, sequence: u64) -> PeerRecord {
        PeerRecord {
            peer: PEER.public(),
            relay: relay.public(),
            epoch,
            entry: PeerEntry::sign(&PEER, &relay.public(), sequence).unwrap(),
        }
    }

    fn leased(relay: &SecretKey, epoch: u64) -> KnownRelay {
        KnownRelay {
            relay: relay.public(),
            epoch: Some(epoch),
            address: None,
        }
    }

    #[test]
    fn place_is_believed_while_its_relay_holds_its_lease() {
        let mut beliefs = Beliefs::default();
        let orphan = Some(Disbelief::Orphaned);
        let place = record(&RELAY, 10, 5);
        let taken = beliefs.take(PEER.public(), Some(&place), at(0));
        assert_eq!(taken, (LookedUp::Nowhere, orphan));
        assert_eq!(beliefs.set_relays(&[leased(&RELAY, 10)], at(0)), 0);
        let here = LookedUp::At(RELAY.public());
        assert_eq!(
            beliefs.take(PEER.public(), Some(&place), at(0)),
            (here, None)
        );
        assert_eq!(beliefs.answer(&PEER.public(), at(29)), Some(here));
        assert_eq!(beliefs.answer(&PEER.public(), at(30)), None);
        // The relay has started anew: its peers are not with it until they come back.
        assert_eq!(beliefs.set_relays(&[leased(&RELAY, 11)], at(1)), 0);
        assert_eq!(beliefs.answer(&PEER.public(), at(1)), None);
        let taken = beliefs.take(PEER.public(), Some(&place), at(1));
        assert_eq!(taken, (LookedUp::Nowhere, orphan));
        // Its lease has lapsed.
        assert_eq!(beliefs.set_relays(&[], at(2)), 0);
        let taken = beliefs.take(PEER.public(), Some(&record(&RELAY, 11, 6)), at(2));
        assert_eq!(taken, (LookedUp::Nowhere, orphan));
    }

    #[test]
    fn forged_place_is_not_believed() {
        let mut beliefs = Beliefs::default();
        beliefs.set_relays(&[leased(&RELAY, 1), leased(&OTHER, 1)], at(0));
        let mut forged = record(&RELAY, 1, 5);
        forged.relay = OTHER.public();
        let taken = beliefs.take(PEER.public(), Some(&forged), at(0));
        assert_eq!(taken, (LookedUp::Nowhere, Some(Disbelief::Forged)));
    }

    #[test]
    fn registry_cannot_bring_back_an_older_place_or_epoch() {
        let mut beliefs = Beliefs::default();
        beliefs.set_relays(&[leased(&RELAY, 1), leased(&OTHER, 4)], at(0));
        let newer = record(&OTHER, 4, 6);
        let there = LookedUp::At(OTHER.public());
        assert_eq!(beliefs.take(PEER.public(), Some(&newer), at(0)).0, there);
        beliefs.doubt(&PEER.public());
        assert_eq!(beliefs.answer(&PEER.public(), at(0)), None);
        let older = record(&RELAY, 1, 5);
        let taken = beliefs.take(PEER.public(), Some(&older), at(1));
        assert_eq!(taken, (LookedUp::Nowhere, Some(Disbelief::RolledBack)));
        // Nor when the relay of the newer place is gone, and not after a missing record either.
        beliefs.take(PEER.public(), None, at(2));
        let taken = beliefs.take(PEER.public(), Some(&older), at(3));
        assert_eq!(taken.1, Some(Disbelief::RolledBack));
        assert_eq!(beliefs.set_relays(&[leased(&OTHER, 3)], at(4)), 1);
        assert!(!beliefs.is_leased(&OTHER.public(), 3));
    }

    #[test]
    fn stale_places_are_served_for_a_while_and_never_a_no() {
        let mut beliefs = Beliefs::default();
        beliefs.set_relays(&[leased(&RELAY, 1)], at(0));
        let here = LookedUp::At(RELAY.public());
        beliefs.take(PEER.public(), Some(&record(&RELAY, 1, 5)), at(0));
        assert_eq!(beliefs.stale_answer(&PEER.public(), at(599)), Some(here));
        assert_eq!(beliefs.stale_answer(&PEER.public(), at(600)), None);
        beliefs.take(OTHER.public(), None, at(0));
        assert_eq!(
            beliefs.answer(&OTHER.public(), at(4)),
            Some(LookedUp::Nowhere)
        );
        assert_eq!(beliefs.answer(&OTHER.public(), at(5)), None);
        assert_eq!(beliefs.stale_answer(&OTHER.public(), at(1)), None);
        // Doubted, it is better than nothing, but no more.
        beliefs.doubt_all();
        assert_eq!(beliefs.answer(&PEER.public(), at(1)), None);
        assert_eq!(beliefs.stale_answer(&PEER.public(), at(1)), Some(here));
    }

    #[test]
    fn what_was_believed_outlives_a_registry_that_has_lost_it_until_that_is_settled() {
        let mut beliefs = Beliefs::default();
        let here = LookedUp::At(RELAY.public());
        beliefs.set_relays(&[leased(&RELAY, 1)], at(0));
        beliefs.take(PEER.public(), Some(&record(&RELAY, 1, 5)), at(0));
        beliefs.doubt_all();
        beliefs.set_unsettled(true);
        beliefs.set_relays(&[], at(1));
        assert_eq!(beliefs.take(PEER.public(), None, at(1)), (here, None));
        assert_eq!(
            beliefs.take(OTHER.public(), None, at(1)),
            (LookedUp::Nowhere, None)
        );
        // What does stand there is news all the same.
        beliefs.set_relays(&[leased(&RELAY, 2)], at(2));
        assert!(!beliefs.is_leased(&RELAY.public(), 1));
        beliefs.set_unsettled(false);
        beliefs.set_relays(&[], at(20));
        assert_eq!(
            beliefs.take(PEER.public(), None, at(20)),
            (LookedUp::Nowhere, None)
        );
    }

    #[test]
    fn place_is_an_orphan_once_its_relay_is_surely_gone() {
        let mut beliefs = Beliefs::default();
        let grace = Duration::from_secs(30);
        let place = record(&RELAY, 10, 5);
        let mut is_orphan = |relays: &[KnownRelay], seconds| {
            beliefs.set_relays(relays, at(seconds));
            beliefs.is_orphan(&place, at(seconds), at(1), grace)
        };
        assert!(!is_orphan(&[], 31), "it may be about to write its lease");
        assert!(is_orphan(&[], 32));
        assert!(!is_orphan(&[leased(&RELAY, 10)], 40));
        assert!(!is_orphan(&[], 70), "it may be renewing its lease");
        assert!(is_orphan(&[], 71));
        assert!(!is_orphan(&[leased(&RELAY, 10)], 80));
        assert!(is_orphan(&[leased(&RELAY, 11)], 81));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut beliefs = Beliefs::default();
        let key = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            PublicKey::native(bytes)
        };
        for number in 0..ENTRIES_MAX {
            beliefs.take(key(number), None, at(0));
        }
        // Asked about again, it is among the newest.
        for _ in 0..3 * ENTRIES_MAX {
            beliefs.take(key(0), None, at(1));
        }
        assert!(beliefs.order.len() <= 2 * ENTRIES_MAX);
        beliefs.take(key(ENTRIES_MAX), None, at(1));
        beliefs.take(key(ENTRIES_MAX + 1), None, at(1));
        assert!(beliefs.entries_count() <= ENTRIES_MAX);
        assert_eq!(beliefs.answer(&key(0), at(1)), Some(LookedUp::Nowhere));
        assert_eq!(beliefs.answer(&key(1), at(1)), None);
    }
}
