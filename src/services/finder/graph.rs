//! The transports that peers have announced.
//!
//! Here: one set a peer, its expiry, the bounds, whether a transport counts. Not here: searching (`search`).
//!
//! A transport counts while *both* its ends stand in the sets of their peers, with the larger of the two
//! latencies. One end alone would be enough to find more, and sooner; but then a single liar could name every
//! peer there is, at no latency, and draw all paths through itself. So it can only name peers that name it:
//! peers that really have a transport with it, or that lie with it and might as well be one peer. An honest
//! peer tells what it has measured, and the larger number counts: a liar can make a transport of its own
//! look worse than it is, which keeps paths away from it, and no transport better than the honest end of
//! it says. What is left to it is to drop what is sent over paths that it is rightly on, which no finder can
//! prevent and whoever uses several disjoint paths survives. It is consent as well: no path leads through a
//! peer that has not announced the hop before and the hop after it.
//!
//! Invariant: a key is remembered while it has a set or stands in one; ends are those of all sets together.
//! Bound: [`Limits`]; a set that does not fit is refused whole, by counters, before anything is changed.
//! Memory: [`END_BYTES`] an end, so twice that a transport, and [`KEY_BYTES`] a key.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::ROUTE_TRANSPORTS_MAX;
use ringway_proto::route::Transport;
use ringway_proto::time::Now;
use thiserror::Error;

/// How much a graph holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Peers with sets.
    pub(crate) peers_max: usize,
    /// Transports in the set of one peer; at most 65,535.
    pub(crate) transports_peer_max: usize,
    /// Transports in all sets, each end counted.
    pub(crate) ends_max: usize,
    /// Keys: of peers with sets, and of those that sets name.
    pub(crate) keys_max: usize,
}

impl Default for Limits {
    /// The peers of a large relay, each with a handful of transports: at most 16 MiB.
    fn default() -> Self {
        Self {
            peers_max: 16_384,
            transports_peer_max: ROUTE_TRANSPORTS_MAX,
            ends_max: 524_288,
            keys_max: 65_536,
        }
    }
}

/// Why a set of transports was not taken. Whatever the peer had announced before stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum AnnounceError {
    /// No room for the transports.
    #[error("the finder holds {have} ends of transports, {want} more do not fit into {max}")]
    LocalEndsFull {
        /// Ends of other peers' sets.
        have: usize,
        /// Transports in the set.
        want: usize,
        /// The bound.
        max: usize,
    },
    /// No room for the keys that the set names.
    #[error("the finder knows {have} keys, {want} new ones do not fit into {max}")]
    LocalKeysFull {
        /// Keys now.
        have: usize,
        /// Keys of the set that are new.
        want: usize,
        /// The bound.
        max: usize,
    },
    /// No room for another peer.
    #[error("the finder has sets of {max} peers, which is all it takes")]
    LocalPeersFull {
        /// The bound.
        max: usize,
    },
    /// The peer names itself.
    #[error("transports: a peer has no transport with itself")]
    PeerOwnKey,
    /// A key stands twice in the set.
    #[error("transports: a peer is named twice")]
    PeerRepeatedKey,
    /// The set is too large.
    #[error("transports: {want} in one set, at most {max}")]
    PeerTooManyTransports {
        /// Transports in the set.
        want: usize,
        /// The bound.
        max: usize,
    },
}

/// What peers have announced.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    limits: Limits,
    slots: HashMap<PublicKey, Slot>,
    nodes: Vec<Node>,
    /// Places in `nodes` that are free.
    free: Vec<Slot>,
    /// Peers with sets, those that expire first in front.
    expiries: BTreeSet<(Now, Slot)>,
    /// Ends of all sets.
    ends: usize,
}

/// Place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

#[derive(Debug)]
struct Node {
    key: PublicKey,
    /// Sets that name it.
    named: u32,
    announced: Option<Announced>,
}

/// The set of one peer.
#[derive(Debug)]
pub(super) struct Announced {
    expires_at: Now,
    /// By slot, to be looked up.
    ends: Box<[End]>,
    /// Places in `ends`, nearest first and then by key, to be searched.
    order: Box<[u16]>,
}

/// One end of a transport.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The peer at the other one.
    pub(super) peer: Slot,
    /// As this end has it.
    pub(super) latency_us: u32,
}

impl Graph {
    /// Returns an empty one.
    #[cfg(test)]
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Sets the whole set of one peer in place of the one before; returns when it expires: after `ttl`, but
    /// not sooner than [`TTL_MIN`] and not later than [`TTL_MAX`].
    ///
    /// # Errors
    ///
    /// [`AnnounceError`]; nothing has changed.
    pub(crate) fn announce(
        &mut self,
        announcer: PublicKey,
        transports: &[Transport],
        ttl: Duration,
        now: Now,
    ) -> Result<Now, AnnounceError> {
        self.check(&announcer, transports)?;
        let expires_at = now + ttl.clamp(TTL_MIN, TTL_MAX);
        if transports.is_empty() {
            self.withdraw(&announcer);
            return Ok(expires_at);
        }
        let own = self.intern(announcer);
        let mut ends = Vec::with_capacity(transports.len());
        for transport in transports {
            let peer = self.intern(transport.peer);
            if let Some(node) = self.nodes.get_mut(peer.index()) {
                node.named += 1;
            }
            ends.push(End {
                peer,
                latency_us: transport.latency_us,
            });
        }
        // The new set first: what both name is not forgotten in between.
        self.take_out(own);
        ends.sort_unstable_by_key(|end| end.peer);
        let mut order: Vec<u16> = (0..).take(ends.len()).collect();
        order.sort_unstable_by_key(|place| {
            let end = ends.get(usize::from(*place));
            end.map(|end| (end.latency_us, self.key(end.peer)))
        });
        self.ends += ends.len();
        self.expiries.insert((expires_at, own));
        if let Some(node) = self.nodes.get_mut(own.index()) {
            node.announced = Some(Announced {
                expires_at,
                ends: ends.into_boxed_slice(),
                order: order.into_boxed_slice(),
            });
        }
        Ok(expires_at)
    }

    /// Takes a peer's set out; returns whether there was one.
    pub(crate) fn withdraw(&mut self, announcer: &PublicKey) -> bool {
        let Some(slot) = self.slots.get(announcer).copied() else {
            return false;
        };
        let was_there = self.take_out(slot);
        self.forget_unused(slot);
        was_there
    }

    /// Takes out the sets that have expired; returns how many.
    pub(crate) fn expire(&mut self, now: Now) -> usize {
        let mut count = 0;
        while let Some((expires_at, slot)) = self.expiries.first().copied() {
            if expires_at > now {
                break;
            }
            self.take_out(slot);
            self.forget_unused(slot);
            count += 1;
        }
        count
    }

    /// Returns how many peers have sets.
    pub(crate) fn peers_count(&self) -> usize {
        self.expiries.len()
    }

    /// Returns how many ends of transports all sets have.
    pub(crate) const fn ends_count(&self) -> usize {
        self.ends
    }

    /// Returns how many keys are remembered.
    pub(crate) fn keys_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns about how much memory all of it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let slots = self.slots.capacity() * (size_of::<(PublicKey, Slot)>() + 1);
        let nodes = self.nodes.capacity() * size_of::<Node>();
        let free = self.free.capacity() * size_of::<Slot>();
        let expiries = self.expiries.len() * 2 * size_of::<(Now, Slot)>();
        slots + nodes + free + expiries + self.ends * END_BYTES
    }

    /// Returns the place of a key.
    pub(super) fn slot(&self, key: &PublicKey) -> Option<Slot> {
        self.slots.get(key).copied()
    }

    /// Returns the key at a place.
    pub(super) fn key(&self, slot: Slot) -> Option<PublicKey> {
        self.nodes.get(slot.index()).map(|node| node.key)
    }

    /// Returns a peer's set, if it has one that has not expired.
    pub(super) fn announced(&self, slot: Slot, now: Now) -> Option<&Announced> {
        let announced = self.nodes.get(slot.index())?.announced.as_ref()?;
        (announced.expires_at > now).then_some(announced)
    }

    /// Returns the latency of a transport that counts: the larger of what its two ends say.
    pub(super) fn latency_us(&self, one: Slot, other: Slot, now: Now) -> Option<u32> {
        let there = self.announced(one, now)?.latency_us(other)?;
        let back = self.announced(other, now)?.latency_us(one)?;
        Some(there.max(back))
    }

    /// Says why a set cannot be taken, as far as possible without looking into it.
    fn check(&self, announcer: &PublicKey, transports: &[Transport]) -> Result<(), AnnounceError> {
        let Limits {
            peers_max,
            transports_peer_max,
            ends_max,
            keys_max,
        } = self.limits;
        let want = transports.len();
        if want > transports_peer_max.min(usize::from(u16::MAX)) {
            return Err(AnnounceError::PeerTooManyTransports {
                want,
                max: transports_peer_max,
            });
        }
        let own = self.slots.get(announcer);
        let before = own
            .and_then(|slot| self.nodes.get(slot.index())?.announced.as_ref())
            .map(|announced| announced.ends.len());
        if before.is_none() && want > 0 && self.peers_count() >= peers_max {
            return Err(AnnounceError::LocalPeersFull { max: peers_max });
        }
        let have = self.ends - before.unwrap_or(0);
        if have + want > ends_max {
            return Err(AnnounceError::LocalEndsFull {
                have,
                want,
                max: ends_max,
            });
        }
        let have = self.keys_count();
        if have + want >= keys_max {
            // It may not fit: only now the keys are looked up, no more than one set may have.
            let is_new = |key: &PublicKey| !self.slots.contains_key(key);
            let named = transports.iter().filter(|named| is_new(&named.peer));
            let new = named.count() + usize::from(own.is_none());
            if have + new > keys_max {
                return Err(AnnounceError::LocalKeysFull {
                    have,
                    want: new,
                    max: keys_max,
                });
            }
        }
        check_keys(announcer, transports)
    }

    fn intern(&mut self, key: PublicKey) -> Slot {
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let node = Node {
            key,
            named: 0,
            announced: None,
        };
        let free = self.free.pop();
        let slot = match free {
            Some(slot) => slot,
            // Bound: `keys_max`, far below 2^32.
            None => Slot(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)),
        };
        match self.nodes.get_mut(slot.index()) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        self.slots.insert(key, slot);
        slot
    }

    /// Takes a set out, but leaves its peer's key.
    fn take_out(&mut self, slot: Slot) -> bool {
        let node = self.nodes.get_mut(slot.index());
        let Some(announced) = node.and_then(|node| node.announced.take()) else {
            return false;
        };
        self.expiries.remove(&(announced.expires_at, slot));
        self.ends -= announced.ends.len();
        for end in &announced.ends {
            if let Some(node) = self.nodes.get_mut(end.peer.index()) {
                node.named -= 1;
            }
            self.forget_unused(end.peer);
        }
        true
    }

    /// Forgets a key that has no set and stands in none.
    fn forget_unused(&mut self, slot: Slot) {
        let Some(node) = self.nodes.get(slot.index()) else {
            return;
        };
        if node.named == 0 && node.announced.is_none() && self.slots.remove(&node.key).is_some() {
            self.free.push(slot);
        }
    }
}

impl Slot {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Announced {
    /// Returns the end that is the `place`th nearest.
    pub(super) fn nearest(&self, place: usize) -> Option<End> {
        let place = self.order.get(place)?;
        self.ends.get(usize::from(*place)).copied()
    }

    fn latency_us(&self, peer: Slot) -> Option<u32> {
        let place = self.ends.binary_search_by_key(&peer, |end| end.peer).ok()?;
        self.ends.get(place).map(|end| end.latency_us)
    }
}

fn check_keys(announcer: &PublicKey, transports: &[Transport]) -> Result<(), AnnounceError> {
    let mut keys: Vec<&PublicKey> = transports.iter().map(|named| &named.peer).collect();
    keys.sort_unstable();
    if keys.binary_search(&announcer).is_ok() {
        return Err(AnnounceError::PeerOwnKey);
    }
    match keys.windows(2).any(|pair| pair.first() == pair.last()) {
        true => Err(AnnounceError::PeerRepeatedKey),
        false => Ok(()),
    }
}

/// Memory of one end: slot and latency, and its place in the order.
pub(crate) const END_BYTES: usize = size_of::<End>() + size_of::<u16>();

/// Memory of one key, about: its node, its place in the table, its expiry.
#[cfg(test)]
pub(crate) const KEY_BYTES: usize = 200;

/// Shortest life of a set: an announcement costs the relay more than its life.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);

/// Longest life of a set: so long may paths lead over a peer that is gone.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(600);
