//! The route finder: which paths of peers lead from one peer to another.
//!
//! ```text
//!   peers --announce, withdraw--> graph --ends that both sides have announced--> search --paths--> asker
//! ```
//!
//! Here: the service that the relay calls. Not here: what is known (`graph`), how it is searched
//! (`search`), the messages and the streams they come on (`route_setup`).
//!
//! No clock and no I/O: `now` is handed in.

pub(crate) mod graph;
pub(crate) mod numbers;
pub(crate) mod search;

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::route::Transport;
use ringway_proto::time::Now;

#[cfg(test)]
use graph::Limits;
use graph::{AnnounceError, Graph};
use numbers::Numbers;
use search::{Found, Want};

/// What a relay knows of transports, and has counted.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    graph: Graph,
    numbers: Arc<Numbers>,
}

impl Finder {
    /// Returns one that knows nothing yet.
    #[cfg(test)]
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            graph: Graph::new(limits),
            numbers: Arc::default(),
        }
    }

    /// Sets the whole set of transports of one peer, who is known by its session; returns until when it
    /// stands. An empty set is as good as a withdrawal.
    ///
    /// # Errors
    ///
    /// [`AnnounceError`]: tell the peer; what it had announced before stands.
    pub(crate) fn announce(
        &mut self,
        announcer: PublicKey,
        transports: &[Transport],
        ttl: Duration,
        now: Now,
    ) -> Result<Now, AnnounceError> {
        self.expire(now);
        let announced = self.graph.announce(announcer, transports, ttl, now);
        match announced {
            Ok(_) => self.numbers.announced.count(),
            Err(_) => self.numbers.refused.count(),
        }
        self.gauge();
        announced
    }

    /// Takes out what a peer has announced; returns whether there was something.
    pub(crate) fn withdraw(&mut self, announcer: &PublicKey) -> bool {
        let was_there = self.graph.withdraw(announcer);
        if was_there {
            self.numbers.withdrawn.count();
        }
        self.gauge();
        was_there
    }

    /// Finds paths.
    pub(crate) fn find(
        &self,
        source: &PublicKey,
        destination: &PublicKey,
        want: (Want, &[PublicKey]),
        now: Now,
    ) -> Found {
        let found = search::find(&self.graph, source, destination, want, now);
        let numbers = &self.numbers;
        numbers.finds.count();
        numbers.visits.add(u64::from(found.visits));
        if found.paths.is_empty() {
            numbers.nowhere.count();
        }
        if !found.is_complete {
            numbers.cut.count();
        }
        found
    }

    /// Takes out what has expired; returns how many peers it was of. Call it now and then: what has expired
    /// is used no more in any case, but holds its memory until then.
    pub(crate) fn expire(&mut self, now: Now) -> usize {
        let count = self.graph.expire(now);
        self.numbers
            .expired
            .add(u64::try_from(count).unwrap_or(u64::MAX));
        self.gauge();
        count
    }

    /// Returns what was counted, for whoever shows it.
    pub(crate) fn numbers(&self) -> Arc<Numbers> {
        Arc::clone(&self.numbers)
    }

    fn gauge(&self) {
        self.numbers.peers.set(self.graph.peers_count());
        self.numbers.ends.set(self.graph.ends_count());
        self.numbers.keys.set(self.graph.keys_count());
        self.numbers.memory_bytes.set(self.graph.memory_bytes());
    }
}

#[cfg(test)]
mod tests;
