//! HTTP/1.1 over streams to the relay's key.
//!
//! Here: who gets in, how many at once, how long a silent one may stay. Not here: the pages
//! (`control::pages`), HTTP itself (hyper).
//!
//! Bound: [`STREAMS_MAX`] streams of one port and shard, [`PEER_STREAMS_MAX`] of one peer, [`HEAD_TIME`] for a
//! request's head, [`HEAD_BYTES_MAX`] for it; what is written waits in the stream's window.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
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
struct Visit {
    visits: Arc<Visits>,
    key: PublicKey,
}

impl Door {
    /// Takes streams to `port` of those that `allowed` lets in; others are refused with reason 201, and who has
    /// too many with reason 303.
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

    /// Waits for the next stream; none comes when the client is closed.
    async fn next(&self) -> Option<(Stream, Visit)> {
        let stream = self.listener.accept().await.ok()?;
        let visit = Visit::of(&self.visits, stream.peer().key);
        Some((stream, visit))
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

/// Serves the pages until the relay drains; then what has begun is finished.
pub(super) async fn serve(door: Door, router: Router, mut stage: watch::Receiver<Stage>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            next = door.next(), if connections.len() < STREAMS_MAX => {
                let Some((stream, visit)) = next else { break };
                connections.spawn(connection(stream, visit, router.clone(), stage.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = at_least(&mut stage, Stage::Draining) => break,
        }
    }
    drop(door);
    while connections.join_next().await.is_some() {}
}

/// One stream, from its first request to its end.
async fn connection(
    stream: Stream,
    visit: Visit,
    router: Router,
    mut stage: watch::Receiver<Stage>,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = at_least(&mut stage, Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, peer = %visit.key, "HTTP over a stream ended");
    }
}

/// Streams that one port of one shard serves at once; more wait, and past the backlog are refused (305).
const STREAMS_MAX: usize = 256;

/// Of these, the streams of one peer, so that nobody keeps all others out.
const PEER_STREAMS_MAX: usize = 16;

/// Longest time for the head of a request, the pause before it included.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Bytes of a request's head, and of what is read or written at once; hyper wants at least 8 KiB.
const HEAD_BYTES_MAX: usize = 16_384;

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
