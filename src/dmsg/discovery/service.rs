//! The tasks that keep discoveries in step with a relay.
//!
//! Here: what they share, their start and their end. Not here: the relay's entry (`keeper`), the list of
//! servers (`servers`), questions about clients (`lookups`).
//!
//! A discovery that hangs holds up its own entry and nobody else's; once it has failed, questions are not
//! held up by it for [`REST_TIME`] either.
//!
//! Bound: [`LEAVE_TIME`] for the end.

mod keeper;
mod lookups;
mod servers;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::key::PublicKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::fetch::{FetchError, Fetcher};
use super::numbers::DiscoveryNumbers;
use super::{DiscoveryConfig, Published, ServerPlace};
use crate::key_file;
use keeper::Keeper;
use lookups::Lookups;
pub(super) use lookups::Question;

/// The service.
pub(super) struct Service {
    shared: Arc<Shared>,
    published: Option<Published>,
    reads_servers: bool,
    changed: watch::Receiver<()>,
    questions: mpsc::Receiver<Question>,
    servers: watch::Sender<Arc<[ServerPlace]>>,
    stop: watch::Receiver<bool>,
}

/// The other ends of what the service listens to.
pub(super) struct Ends {
    pub(super) changed: watch::Sender<()>,
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) servers: watch::Receiver<Arc<[ServerPlace]>>,
    pub(super) stop: watch::Sender<bool>,
}

/// What all tasks use.
struct Shared {
    discoveries: Vec<Discovery>,
    secret: SecretKey,
    own: PublicKey,
    numbers: Arc<DiscoveryNumbers>,
}

/// One discovery, and how it stands with it.
struct Discovery {
    fetcher: Fetcher,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    answers: bool,
    failed_at: Option<Instant>,
    is_registered: bool,
}

impl Service {
    /// Returns a service that does not run yet, and gives each request so long.
    pub(super) fn new(
        config: DiscoveryConfig,
        numbers: Arc<DiscoveryNumbers>,
        request_time: Duration,
    ) -> (Self, Ends) {
        let (of_changes, changed) = watch::channel(());
        let (of_questions, questions) = mpsc::channel(lookups::QUESTIONS_MAX);
        let (servers, of_servers) = watch::channel(Arc::from([]));
        let (of_stop, stop) = watch::channel(false);
        let discovery = |url| Discovery {
            fetcher: Fetcher::new(url, request_time),
            standing: Mutex::default(),
        };
        let shared = Shared {
            discoveries: config.urls.into_iter().map(discovery).collect(),
            own: config.secret.public(),
            secret: config.secret,
            numbers,
        };
        let service = Self {
            shared: Arc::new(shared),
            published: config.published,
            reads_servers: config.reads_servers,
            changed,
            questions,
            servers,
            stop,
        };
        let ends = Ends {
            changed: of_changes,
            questions: of_questions,
            servers: of_servers,
            stop: of_stop,
        };
        (service, ends)
    }

    /// Runs until it is told to stop, or its handle is gone; entries are deleted then.
    pub(super) async fn run(mut self) {
        let mut keepers = JoinSet::new();
        for number in 0..self.shared.discoveries.len() {
            if let Some(published) = &self.published {
                let keeper = Keeper::new(Arc::clone(&self.shared), published.clone(), number);
                keepers.spawn(keeper.keep(self.changed.clone(), self.stop.clone()));
            }
        }
        let mut readers = JoinSet::new();
        if self.reads_servers {
            readers.spawn(servers::keep(Arc::clone(&self.shared), self.servers));
        }
        readers.spawn(Lookups::new(Arc::clone(&self.shared)).run(self.questions));
        told_to_stop(&mut self.stop).await;
        // Nobody answers after this: a question that waits is the asker's to give up.
        readers.shutdown().await;
        let ended = async { while keepers.join_next().await.is_some() {} };
        if timeout(LEAVE_TIME, ended).await.is_err() {
            tracing::warn!("this relay's entry stands in a discovery until it lapses");
        }
        self.shared.numbers.registered.set(0);
    }
}

/// Waits until the service is to end; a handle that is gone says so too.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|is_stopping| *is_stopping).await);
}

impl Shared {
    /// Notes whether a discovery has answered. One that says no is there.
    fn note<T>(&self, discovery: &Discovery, outcome: &Result<T, FetchError>) {
        let answers = match outcome {
            Ok(_) => true,
            Err(error) => error.answer().is_some_and(|answer| answer.status() < 500),
        };
        if !answers {
            self.numbers.errors.count();
        }
        let mut standing = discovery.standing();
        standing.answers = answers;
        standing.failed_at = (!answers).then(Instant::now);
        drop(standing);
        let up = self.discoveries.iter().filter(|it| it.standing().answers);
        self.numbers.up.set(up.count());
    }

    /// Notes whether the relay's entry stands in a discovery.
    fn set_registered(&self, discovery: &Discovery, is_registered: bool) {
        discovery.standing().is_registered = is_registered;
        let standing = self.discoveries.iter();
        let registered = standing.filter(|it| it.standing().is_registered);
        self.numbers.registered.set(registered.count());
    }
}

impl Discovery {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether it has failed a moment ago.
    fn is_resting(&self, now: Instant) -> bool {
        let failed_at = self.standing().failed_at;
        failed_at.is_some_and(|at| now.saturating_duration_since(at) < REST_TIME)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

/// Returns a random number; relays are only to differ by it.
fn chance() -> u32 {
    key_file::random().map_or(0, u32::from_be_bytes)
}

/// How long nobody waits for a discovery that has just failed.
const REST_TIME: Duration = Duration::from_secs(5);

/// Longest time for deleting the relay's entries.
const LEAVE_TIME: Duration = Duration::from_secs(4);
