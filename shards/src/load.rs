//! How many connections each shard has, and which shard gets the next.
//!
//! Here: the counts that all shards share, the permit that stands for one connection, the choice. Not here:
//! how a connection gets to the shard that was chosen (`ring::arrivals`), cores (`placement`).
//!
//! One counter a shard, on a cache line of its own: its shard writes it for every connection, the others read
//! it when they have accepted one and write it when they hand one over. No lock, and no order between
//! the counters: a choice may be made by numbers that are a moment old, which costs a difference of one.
//!
//! Whoever chooses a shard adds to its count in the same step, by a comparison with the number that the
//! choice was made by, so two shards that choose at once never fill up the same gap twice.
//!
//! Invariant: a shard's count is the number of its permits; a permit that changes shards is counted from the
//! choice on by the shard that gets it. A hand-over never takes a shard's count past `connections_max`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

/// How new connections are shared out among the shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// To the shard with the fewest connections, whichever accepted it.
    #[default]
    Balanced,
    /// By the peer's address, so that one address always comes to the same shard.
    Hash,
    /// As the kernel deals them out among the listeners: by addresses and ports.
    Reuseport,
}

impl Placement {
    /// Every way there is.
    pub const ALL: [Self; 3] = [Self::Balanced, Self::Hash, Self::Reuseport];

    /// Returns its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Hash => "hash",
            Self::Reuseport => "reuseport",
        }
    }
}

/// The counts of all shards.
#[derive(Debug, Clone)]
pub(crate) struct Loads(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    shards: Box<[CachePadded<Load>]>,
    connections_max: u32,
}

#[derive(Debug, Default)]
struct Load {
    connections: AtomicU32,
    /// The shard takes nothing new for the moment.
    is_shut: AtomicBool,
}

/// What a shard says about its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    connections: u32,
    is_shut: bool,
}

/// One connection of one shard. Dropping it takes the connection off the shard's count.
#[derive(Debug)]
#[must_use = "a dropped permit is no connection"]
pub(crate) struct LoadPermit {
    counts: Arc<Counts>,
    shard: u16,
    is_passed_on: bool,
}

/// Memory of one permit.
pub(crate) const PERMIT_BYTES: usize = size_of::<Option<LoadPermit>>();

impl Loads {
    /// Returns counts for `shards` shards, each of which gets at most `connections_max` from others.
    pub(crate) fn new(shards: u16, connections_max: u32) -> Self {
        Self(Arc::new(Counts {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            connections_max,
        }))
    }

    /// Counts a connection that `shard` has already.
    pub(crate) fn enter(&self, shard: u16) -> LoadPermit {
        if let Some(load) = self.0.of(shard) {
            load.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.permit(shard)
    }

    /// Chooses a shard for a connection that `own` has accepted, and counts it there. Nothing when it is to
    /// stay.
    pub(crate) fn choose(&self, own: u16) -> Option<LoadPermit> {
        for _ in 0..CHOICES_MAX {
            let seen = self.0.shards.iter().map(|load| load.see());
            let (target, count) = least_loaded(own, seen, self.0.connections_max)?;
            let is_counted = self.0.of(target)?.connections.compare_exchange(
                count,
                count + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if is_counted.is_ok() {
                return Some(self.permit(target));
            }
        }
        None
    }

    /// Takes over a connection that another shard has counted for `own`.
    pub(crate) fn adopt(&self, own: u16) -> LoadPermit {
        self.permit(own)
    }

    /// Says whether `own` would take a connection now.
    pub(crate) fn set_shut(&self, own: u16, is_shut: bool) {
        if let Some(load) = self.0.of(own)
            && load.is_shut.load(Ordering::Relaxed) != is_shut
        {
            load.is_shut.store(is_shut, Ordering::Relaxed);
        }
    }

    /// Returns whether `own` has as many connections as it may get, those on their way to it included.
    pub(crate) fn is_full(&self, own: u16) -> bool {
        self.count(own) >= self.0.connections_max
    }

    /// Returns the connections of a shard, those on their way to it included.
    pub(crate) fn count(&self, shard: u16) -> u32 {
        self.0.of(shard).map_or(0, |load| load.see().connections)
    }

    fn permit(&self, shard: u16) -> LoadPermit {
        LoadPermit {
            counts: Arc::clone(&self.0),
            shard,
            is_passed_on: false,
        }
    }
}

impl Counts {
    fn of(&self, shard: u16) -> Option<&Load> {
        self.shards.get(usize::from(shard)).map(|load| &**load)
    }
}

impl Load {
    fn see(&self) -> Seen {
        Seen {
            connections: self.connections.load(Ordering::Relaxed),
            is_shut: self.is_shut.load(Ordering::Relaxed),
        }
    }
}

impl LoadPermit {
    /// Returns the shard that counts the connection.
    pub(crate) const fn shard(&self) -> u16 {
        self.shard
    }

    /// Leaves the count as it is for the shard that has the connection now, and adopts it.
    pub(crate) fn pass_on(mut self) {
        self.is_passed_on = true;
    }
}

impl Drop for LoadPermit {
    fn drop(&mut self) {
        if self.is_passed_on {
            return;
        }
        if let Some(load) = self.counts.of(self.shard) {
            load.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Returns the shard that a connection of `own` should go to, with its count; nothing when it should stay.
///
/// It moves only to a shard that is a run behind ([`RUN`]), takes connections and has room: of the emptiest
/// to one that has begun its run, and of equals to the nearest behind `own`, so that shards which choose at
/// once do not all choose the first.
fn least_loaded(
    own: u16,
    seen: impl Iterator<Item = Seen> + Clone,
    connections_max: u32,
) -> Option<(u16, u32)> {
    let here = seen.clone().nth(usize::from(own))?.connections;
    (0_u16..)
        .zip(seen)
        .filter(|(shard, load)| *shard != own && !load.is_shut)
        .filter(|(_, load)| load.connections < connections_max)
        .filter(|(_, load)| load.connections / RUN < here / RUN)
        .min_by_key(|(shard, load)| {
            let count = load.connections;
            // Those behind `own` first, then those before it.
            (count / RUN, RUN - count % RUN, shard.wrapping_sub(own))
        })
        .map(|(shard, load)| (shard, load.connections))
}

/// Connections that a shard gets one after the other before the next shard's turn: counts are compared in
/// whole runs.
///
/// Shards differ by a run at most while connections come. Peers that talk to each other often come one
/// after the other, and are not parted more often than by chance if connections go out in twos: compared one
/// by one, a burst from one listener alternates, which parted nearly all of a generator's pairs and cost 14 %
/// of processor time.
/// Source: docs/internals/uring.md J.
pub(crate) const RUN: u32 = 2;

/// How often a choice is made anew because another shard was faster; then the connection stays.
const CHOICES_MAX: u32 = 4;

#[cfg(test)]
mod tests;
