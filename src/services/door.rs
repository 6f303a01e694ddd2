//! Who may open streams to a port of the relay's key, and how many.
//!
//! Here: the key set of the port, the count of each peer's streams, taking them until the relay drains. Not
//! here: what is done with them.
//!
//! Bound: [`PEER_STREAMS_MAX`] streams of a peer; of all peers as many as the port's service takes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use ringway_client::{Client, ListenError, Listener, PublicKey, Reason, Stream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Stage, at_least};

/// Says of a key whether it may use a port.
pub(super) type Allowed = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// A port of the relay's key on one shard.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    visits: Arc<Visits>,
}

/// Streams of each peer.
#[derive(Debug, Default)]
struct Visits(Mutex<HashMap<PublicKey, usize>>);

/// The place of one stream.
#[derive(Debug)]
pub(super) struct Visit {
    visits: Arc<Visits>,
    key: PublicKey,
}

impl Door {
    /// Takes streams to `port` of those that `allowed` lets in; others are refused with reason 201, and who
    /// has too many with reason 303.
    ///
    /// # Errors
    ///
    /// As [`Client::listen_for`] has them.
    pub(super) fn open(client: &Client, port: u16, allowed: Allowed) -> Result<Self, ListenError> {
        let visits = Arc::new(Visits::default());
        let counted = Arc::clone(&visits);
        let listener = client.listen_for(port, move |key| {
            if !allowed(key) {
                Err(Reason::NotAllowed)
            } else if counted.count(key) >= PEER_STREAMS_MAX {
                Err(Reason::TooManyStreams)
            } else {
                Ok(())
            }
        })?;
        Ok(Self { listener, visits })
    }

    /// Gives each stream to `talk`, with the stage, `streams_max` of them at once, until the relay drains or
    /// the client is closed; then those that there are go on to their end.
    pub(super) async fn serve<T>(
        self,
        streams_max: usize,
        mut stage: watch::Receiver<Stage>,
        talk: impl Fn(Stream, Visit, watch::Receiver<Stage>) -> T,
    ) where
        T: Future<Output = ()> + Send + 'static,
    {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if streams.len() < streams_max => {
                    let Ok(stream) = accepted else { break };
                    let visit = Visit::of(&self.visits, stream.peer().key);
                    streams.spawn(talk(stream, visit, stage.clone()));
                }
                Some(_) = streams.join_next(), if !streams.is_empty() => {}
                () = at_least(&mut stage, Stage::Draining) => break,
            }
        }
        drop((self, talk));
        while streams.join_next().await.is_some() {}
    }
}

impl Visits {
    fn count(&self, key: &PublicKey) -> usize {
        self.lock().get(key).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PublicKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    fn of(visits: &Arc<Visits>, key: PublicKey) -> Self {
        *visits.lock().entry(key).or_insert(0) += 1;
        Self {
            visits: Arc::clone(visits),
            key,
        }
    }

    /// Returns whose stream it is.
    pub(super) const fn key(&self) -> PublicKey {
        self.key
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.visits.lock();
        if let Some(count) = visits.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                visits.remove(&self.key);
            }
        }
    }
}

/// Streams of one peer to one port of a shard, so that nobody keeps all others out.
const PEER_STREAMS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_counted_for_each_peer_and_leave_nothing() {
        let visits = Arc::new(Visits::default());
        let key = |byte| PublicKey::native([byte; 32]);
        let first: Vec<_> = (0..3).map(|_| Visit::of(&visits, key(1))).collect();
        let second = Visit::of(&visits, key(2));
        assert_eq!((visits.count(&key(1)), visits.count(&key(2))), (3, 1));
        drop(first);
        assert_eq!((visits.count(&key(1)), visits.count(&key(2))), (0, 1));
        drop(second);
        assert!(visits.lock().is_empty());
    }
}
