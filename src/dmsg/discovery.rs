//! A relay's side of dmsg discoveries: it registers there, and reads who else is there.
//!
//! ```text
//!   sessions --changed--> registration, one a discovery --entries--> discoveries
//!   shards --ask--> lookups <--entries of clients--
//!                   servers <--entries of servers--
//! ```
//!
//! All of it runs on one thread of its own, and nothing in a relay waits for it: a change is noted, a
//! question is handed over, and the answer comes when there is one, at the latest after the time of a
//! request.
//!
//! Here: what a relay gives and gets. Not here: when an entry is written (`registration`), what is remembered
//! (`memory`), requests (`fetch`), the tasks (`service`); a discovery as a server (`discovery_server`).
//!
//! Invariant: the entry of a relay that ends is deleted, or lapses within two minutes.
//! Bound: one request at a time for the entry and one for the servers of each discovery, 64 for clients; each
//! ends within [`REQUEST_TIME`].
//! Source: docs/dmsg.md, the section on the discovery.

pub(crate) mod fetch;
pub(crate) mod memory;
pub(crate) mod numbers;
pub(crate) mod registration;
pub(crate) mod service;
pub(crate) mod url;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringway_proto::dmsg::entry::Entry;
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::key::PublicKey;
use tokio::sync::{mpsc, watch};

use crate::failure::Failure;
use numbers::DiscoveryNumbers;
use service::{Question, Service};
use url::DiscoveryUrl;

/// What a relay does with discoveries.
pub(crate) struct DiscoveryConfig {
    /// The discoveries: the relay registers with each, and a client is looked for in one after the other.
    pub(crate) urls: Vec<DiscoveryUrl>,
    /// The relay's key of the dmsg dialect.
    pub(crate) secret: SecretKey,
    /// What it says of itself; nothing if it only reads.
    pub(crate) published: Option<Published>,
    /// Whether it keeps the list of all servers, for the mesh.
    pub(crate) reads_servers: bool,
}

/// Longest time for a request, connecting and looking a name up included: ten times what a discovery on
/// another continent takes. A question about a client may wait so long.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// What a relay says of itself.
#[derive(Clone)]
pub(crate) struct Published {
    /// Where clients connect, `host:port`.
    pub(crate) address: String,
    /// The same of IPv6, where the relay has both; else empty.
    pub(crate) address_v6: String,
    /// The word that makes it official in discoveries that know one; else empty.
    pub(crate) word: String,
    /// Whether streams may be opened to the relay's own key: its entry then is a client's too, which is
    /// served by the relay itself.
    pub(crate) is_client: bool,
    /// Returns how many sessions the relay still takes. Called on the discoveries' thread; it must not wait.
    pub(crate) available: Arc<dyn Fn() -> u32 + Send + Sync>,
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has sessions with these servers.
    At(Arc<[PublicKey]>),
    /// No discovery has a client with this key.
    Nowhere,
    /// Nobody knows: no discovery has answered, or too many questions wait.
    Unavailable,
}

/// A server that a discovery has told of. Only its own session proves its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerPlace {
    /// Its key.
    pub(crate) key: PublicKey,
    /// Where it listens, `host:port`.
    pub(crate) address: String,
    /// The same of IPv6; empty if it has none.
    pub(crate) address_v6: String,
    /// Sessions that it still takes.
    pub(crate) available_sessions: i64,
}

impl ServerPlace {
    /// Returns the place of the server that an entry is of; none when it is of no server.
    pub(crate) fn of(entry: Entry) -> Option<Self> {
        let server = entry.server?;
        Some(Self {
            key: entry.key,
            address: server.address,
            address_v6: server.address_v6,
            available_sessions: server.available_sessions,
        })
    }
}

/// Discoveries that are kept in step. Dropping it ends that, and deletes the relay's entries.
#[derive(Debug)]
pub(crate) struct DiscoveryHandle {
    changed: watch::Sender<()>,
    questions: mpsc::Sender<Question>,
    servers: watch::Receiver<Arc<[ServerPlace]>>,
    numbers: Arc<DiscoveryNumbers>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to keep discoveries in step.
///
/// # Errors
///
/// [`Failure::Host`] when there is no thread or runtime.
pub(crate) fn start(
    config: DiscoveryConfig,
    numbers: Arc<DiscoveryNumbers>,
) -> Result<DiscoveryHandle, Failure> {
    let failure = |error| Failure::host("cannot start the thread of the discoveries", error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failure)?;
    let (service, ends) = Service::new(config, Arc::clone(&numbers), REQUEST_TIME);
    let thread = thread::Builder::new()
        .name("discoveries".to_owned())
        .spawn(move || {
            runtime.block_on(service.run());
            // Name look-ups run on threads that cannot be interrupted: they must not hold up the end.
            runtime.shutdown_background();
        })
        .map_err(failure)?;
    Ok(DiscoveryHandle {
        changed: ends.changed,
        questions: ends.questions,
        servers: ends.servers,
        numbers,
        stop: ends.stop,
        thread: Some(thread),
    })
}

impl DiscoveryHandle {
    /// Says that the relay takes more or fewer sessions than before. Costs next to nothing; discoveries are
    /// told once a second at most.
    pub(crate) fn changed(&self) {
        self.changed.send_replace(());
    }

    /// Asks where a client is. `answer` is called on the discoveries' thread, and must not wait; when this
    /// returns false it is not: too many questions wait.
    pub(crate) fn ask(&self, key: PublicKey, answer: impl FnOnce(Found) + Send + 'static) -> bool {
        let question = Question::Find {
            key,
            answer: Box::new(answer),
        };
        let is_taken = self.questions.try_send(question).is_ok();
        if !is_taken {
            self.numbers.refused.count();
        }
        is_taken
    }

    /// Says that a client is not where it was found: the next question about it goes to the discoveries.
    pub(crate) fn doubt(&self, key: PublicKey) {
        // A full queue means that there are questions enough: the answer lapses by itself soon.
        if self.questions.try_send(Question::Doubt(key)).is_err() {
            tracing::trace!(%key, "a doubt is lost");
        }
    }

    /// Returns the servers that the discoveries have, without this relay, and tells of changes.
    pub(crate) fn servers(&self) -> watch::Receiver<Arc<[ServerPlace]>> {
        self.servers.clone()
    }

    /// Returns what was counted.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> &Arc<DiscoveryNumbers> {
        &self.numbers
    }

    /// Begins the end: entries are deleted. Does not wait.
    pub(crate) fn leave(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for DiscoveryHandle {
    fn drop(&mut self) {
        self.leave();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the discoveries has panicked");
        }
    }
}

impl fmt::Debug for DiscoveryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryConfig")
            .field("urls", &self.urls)
            .field("published", &self.published)
            .field("reads_servers", &self.reads_servers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The word is a secret.
        f.debug_struct("Published")
            .field("address", &self.address)
            .field("address_v6", &self.address_v6)
            .field("is_client", &self.is_client)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
