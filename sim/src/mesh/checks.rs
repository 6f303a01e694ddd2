//! What must hold for the relays of a mesh and their links.
//!
//! Here: laws between turns, what is told against who is there, who reaches whom when faults have stopped,
//! what is left at the end. Not here: streams (`book`).

use std::collections::{BTreeMap, BTreeSet};

use ringway_proto::key::PublicKey;
use ringway_proto::limits::{FORWARD_TRIES_MAX, SESSION_QUEUE_MAX};
use ringway_proto::reason::Reason;
use ringway_shards::core::{Directory, Holder};

use super::connects::Port;
use super::driver::Seat;
use super::event::Event;
use super::network::Owner;
use super::world::Mesh;
use crate::checks::State;
use crate::options::SECOND;

/// Longest time that what a link has told may be in the directory after the link: turns that come late.
const WITHDRAWN_NS_MAX: u64 = SECOND;

impl Mesh {
    /// Looks at a shard between two turns.
    pub(super) fn check_shard(&mut self, number: usize) {
        let shard = &self.shards[number];
        let (stats, audit) = (shard.core.stats(), shard.core.audit());
        let wanted = 2 * self.relays.len() as u64;
        let waiting = audit.sockets * u64::from(SESSION_QUEUE_MAX);
        let wrong = if let Some(law) = stats.broken_laws().into_iter().next() {
            Some(law)
        } else if stats.bytes_received != shard.received_bytes {
            let (counted, given) = (stats.bytes_received, shard.received_bytes);
            Some(format!("counted {counted} of {given} received bytes"))
        } else if stats.lookups_current != shard.questions {
            let (counted, asked) = (stats.lookups_current, shard.questions);
            Some(format!("counts {counted} questions, {asked} were asked"))
        } else if audit.timers > audit.sockets + audit.streams + audit.dials + wanted {
            Some(format!("more timers than owners: {audit:?}"))
        } else if audit.queued_bytes > waiting {
            Some(format!("too much waits: {audit:?}"))
        } else if shard.account.bytes() < 0 || shard.account.leases() < 0 {
            Some("receive memory was given back twice".into())
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.fail(format!("shard {number}: {wrong}"));
        }
    }

    /// Looks at what takes long, once a second.
    pub(super) fn look(&mut self) {
        self.at(SECOND, Event::Look);
        for relay in 0..self.relays.len() {
            if !self.relays[relay].is_up {
                continue;
            }
            let mut links = BTreeMap::new();
            for (key, holder) in self.relays[relay].directory.told() {
                let (shard, session) = (holder.link.shard, holder.link.session);
                let Some(is_settled) = self.stands(relay, &holder) else {
                    let link = holder.link;
                    return self.fail(format!(
                        "relay {relay} believes {link:?}, which has ended, of {key}"
                    ));
                };
                // Of a slot that was used before the last link only has a say.
                let link = links.entry((shard, session.slot)).or_insert(session);
                if is_settled && *link != session {
                    return self.fail(format!("relay {relay} believes {session:?} and {link:?}"));
                }
            }
        }
    }

    /// Returns whether what a link has told may be in the directory, and whether its slot has not been
    /// closed a moment ago; `None`: neither it nor one that has ended a moment ago has the slot.
    fn stands(&self, relay: usize, holder: &Holder) -> Option<bool> {
        let (place, slot) = (usize::from(holder.link.shard.0), holder.link.session.slot.0);
        let shard = self.relays[relay].shards.get(place)?;
        let shard = &self.shards[*shard];
        let closed_at = shard.closed_at.get(&slot).copied();
        let is_settled = closed_at.is_none_or(|at| self.now > at + WITHDRAWN_NS_MAX);
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(Seat::Wire(wire, side)) = shard.seats.get(index).copied() else {
            return (!is_settled).then_some(false);
        };
        let is_it = match self.wires[wire].ends[1 - side].owner {
            Owner::Shard(other) => self.key_of(self.shards[other].relay) == holder.relay,
            Owner::Party(_) | Owner::Peer(_) => false,
        };
        (is_it || !is_settled).then_some(is_settled)
    }

    /// Returns the key of a relay.
    fn key_of(&self, relay: usize) -> PublicKey {
        self.keys.relays[relay].public()
    }

    /// Returns whether two relays have a link, both by their own word.
    pub(super) fn are_linked(&self, left: usize, right: usize) -> bool {
        let knows = |own: usize, other: usize| {
            let key = self.key_of(other);
            self.relays[own].directory.announcer(&key).is_some()
        };
        knows(left, right) && knows(right, left)
    }

    /// When faults have stopped and time has passed: the links that must be there are, no others, and what
    /// was told is what is true.
    pub(super) fn check_links(&mut self) {
        let count = self.relays.len();
        for own in 0..count {
            for other in (0..count).filter(|other| *other != own) {
                let is_linked = self.are_linked(own, other);
                let wants = |own: usize, other: usize| {
                    let is_named = self.options.relays[own].names.contains(&other)
                        || self.relays[own].wanted.contains(&other);
                    is_named && self.options.allows(other, own)
                };
                let wanted = |own: usize, other: usize| {
                    self.relays[own].ever_wanted.contains(&other) && self.options.allows(other, own)
                };
                let must = wants(own, other) || wants(other, own);
                let may = wanted(own, other) || wanted(other, own);
                if (must && !is_linked) || (is_linked && !may) {
                    self.fail(format!(
                        "relays {own} and {other}: linked {is_linked}, must {must}"
                    ));
                }
            }
            self.check_told(own);
        }
    }

    /// A relay believes of each other one exactly what is true, if it has a link with it.
    fn check_told(&mut self, own: usize) {
        let told: BTreeSet<(PublicKey, PublicKey)> = self.relays[own]
            .directory
            .told()
            .into_iter()
            .map(|(key, holder)| (holder.relay, key))
            .collect();
        let mut truth = BTreeSet::new();
        for other in 0..self.relays.len() {
            let tells = self.options.relays[other].announces_peers && own != other;
            if tells && self.are_linked(own, other) {
                let keys = self.relays[other].directory.keys();
                truth.extend(keys.into_iter().map(|key| (self.key_of(other), key)));
            }
        }
        if told != truth {
            self.fail(format!(
                "relay {own} was told of {} peers, {} are there: {told:?}, {truth:?}",
                told.len(),
                truth.len()
            ));
        }
    }

    /// Everything that was opened has come to an end.
    pub(super) fn check_opens(&mut self) {
        let hanging = self.opens.iter().position(|open| !open.is_over());
        if let Some(number) = hanging {
            let open = &self.opens[number];
            self.fail(format!("open {number} hangs: {open:?}"));
        }
    }

    /// Of the pairs tried at the end exactly those have reached each other that can.
    pub(super) fn check_probes(&mut self) {
        for number in 0..self.opens.len() {
            let open = &self.opens[number];
            if !open.is_probe {
                continue;
            }
            let at = [open.from, open.to].map(|identity| {
                let session = self.session_of(identity);
                session.map(|session| self.notes[session].relay)
            });
            let [Some(from), Some(to)] = at else {
                return self.fail(format!("open {number}: a peer has no session"));
            };
            let is_known = self.options.relays[to].announces_peers || self.options.has_registry;
            let can = from == to || (self.are_linked(from, to) && is_known);
            let unknown = State::Refused(Reason::UnknownDestination.code());
            let is_unknown = open.near.is_some_and(|near| near.state == unknown);
            let is_complete = open.is_complete();
            self.counts.probes += 1;
            self.counts.probes_reached += u64::from(is_complete);
            if is_complete != can || is_unknown == can {
                let ends = (open.near, &open.far);
                let sentence = format!(
                    "open {number} from relay {from} to relay {to}, which can be reached: {can}: {ends:?}"
                );
                return self.fail(sentence);
            }
        }
    }

    /// After the end of a relay nothing of it is left.
    pub(super) fn check_relay_end(&mut self, number: usize) {
        let mut wrong = None;
        for shard in &self.relays[number].shards {
            let entry = &self.shards[*shard];
            let (stats, audit) = (entry.core.stats(), entry.core.audit());
            let (bytes, leases) = (entry.account.bytes(), entry.account.leases());
            if !audit.is_zero() || !entry.core.is_drained() {
                wrong = Some(format!("shard {shard} still owns {audit:?}"));
            } else if stats.sockets_opened != stats.sockets_closed || stats.opens_pending != 0 {
                wrong = Some(format!("shard {shard} has lost a socket or an open"));
            } else if bytes != 0 || leases != 0 || !entry.is_idle() {
                wrong = Some(format!(
                    "shard {shard} keeps {leases} leases, {bytes} bytes or a slot"
                ));
            }
        }
        let relay = &self.relays[number];
        let (here, there) = (relay.directory.len(), relay.directory.told().len());
        let announcers = relay.directory.announcers().len();
        if here + there + announcers > 0 {
            wrong = Some(format!(
                "relay {number} keeps {here}, {there}, {announcers} keys"
            ));
        }
        let is_held =
            |(relay, port): (&(usize, _), &Port)| relay.0 == number && matches!(port, Port::Taken);
        if self.ports.iter().any(is_held) {
            wrong = Some(format!("relay {number} keeps local ports"));
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Adds up what the shards of all lives counted.
    pub(super) fn tally(&mut self) {
        let mut sent_by = vec![(0, 0); self.relays.len()];
        let mut received = 0;
        for shard in &self.shards {
            let stats = shard.core.stats();
            let counts = &mut self.counts;
            counts.links_opened += stats.links_opened;
            counts.peer_sets += stats.peer_sets_sent;
            counts.forwards_again += stats.forwards_again;
            let (sent, again) = &mut sent_by[shard.relay];
            *sent += stats.forwards_sent;
            // The registry may name another one behind the first.
            *again += stats.forwards_again + stats.lookups_found;
            received += stats.forwards_received;
        }
        let sent: u64 = sent_by.iter().map(|(sent, _)| sent).sum();
        self.counts.forwards = sent;
        self.counts.relays += self.relays.len() as u64;
        if received > sent {
            self.fail(format!("{received} of {sent} forwards were received"));
        }
        // What came over a link is not forwarded: only opens of a relay's own peers are.
        for (relay, (sent, again)) in sent_by.into_iter().enumerate() {
            let opens = self.relays[relay].opens;
            let most = (opens + again).min(opens * FORWARD_TRIES_MAX as u64);
            if sent > most {
                self.fail(format!(
                    "relay {relay} has forwarded {opens} opens {sent} times"
                ));
            }
        }
    }
}
