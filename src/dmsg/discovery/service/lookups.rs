//! Questions where a client is.
//!
//! Here: asking memory, then discoveries; answering all who ask about one client together. Not here: what is
//! remembered (`memory`).
//!
//! Invariant: every question that was taken is answered, unless the service ends.
//! Bound: [`QUESTIONS_MAX`] questions in the queue and as many that wait for answers, [`LOOKUPS_MAX`] clients
//! that are looked for at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ringway_proto::key::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Discovery, Shared};
use crate::dmsg::discovery::Found;
use crate::dmsg::discovery::fetch::FetchError;
use crate::dmsg::discovery::memory::Memory;

/// What is asked of the service.
pub(in crate::dmsg::discovery) enum Question {
    /// A client is not where it was found.
    Doubt(PublicKey),
    /// Where is a client?
    Find {
        /// The client.
        key: PublicKey,
        /// Takes the answer.
        answer: Callback,
    },
}

/// Takes an answer.
type Callback = Box<dyn FnOnce(Found) + Send>;

/// The questions that wait.
pub(super) struct Lookups {
    shared: Arc<Shared>,
    memory: Memory,
    /// Who waits for which client.
    waiting: HashMap<PublicKey, Vec<Callback>>,
    waiting_count: usize,
    /// Clients that are to be looked for.
    queue: VecDeque<PublicKey>,
    running: JoinSet<(PublicKey, Found)>,
}

impl Lookups {
    /// Returns one that nobody has asked yet.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            memory: Memory::default(),
            waiting: HashMap::new(),
            waiting_count: 0,
            queue: VecDeque::new(),
            running: JoinSet::new(),
        }
    }

    /// Answers, for ever.
    pub(super) async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        loop {
            tokio::select! {
                Some(question) = questions.recv() => self.take(question),
                Some(outcome) = self.running.join_next(), if !self.running.is_empty() => {
                    // A task that has panicked has aborted the process, or is a test's.
                    if let Ok((key, found)) = outcome {
                        self.found(key, &found);
                    }
                }
                else => return,
            }
            while self.running.len() < LOOKUPS_MAX
                && let Some(key) = self.queue.pop_front()
            {
                let shared = Arc::clone(&self.shared);
                self.running
                    .spawn(async move { (key, look_up(&shared, key).await) });
            }
            let remembered = self.memory.len();
            self.shared.numbers.remembered.set(remembered);
        }
    }

    fn take(&mut self, question: Question) {
        let (key, answer) = match question {
            Question::Doubt(key) => return self.memory.forget(&key),
            Question::Find { key, answer } => (key, answer),
        };
        let numbers = &self.shared.numbers;
        numbers.asks.count();
        if let Some(found) = self.memory.answer(&key, Instant::now()) {
            numbers.hits.count();
            return answer(found);
        }
        if self.waiting_count >= QUESTIONS_MAX {
            numbers.unavailable.count();
            return answer(Found::Unavailable);
        }
        self.waiting_count += 1;
        let waiting = self.waiting.entry(key).or_default();
        if waiting.is_empty() {
            self.queue.push_back(key);
        }
        waiting.push(answer);
    }

    /// A client was looked for.
    fn found(&mut self, key: PublicKey, found: &Found) {
        let now = Instant::now();
        self.memory.take(key, found, now);
        let stale = match found {
            Found::Unavailable => self.memory.stale_answer(&key, now),
            Found::At(_) | Found::Nowhere => None,
        };
        let numbers = &self.shared.numbers;
        let (found, counter) = match (stale, found) {
            (Some(stale), _) => (stale, &numbers.stale),
            (None, Found::At(servers)) => (Found::At(Arc::clone(servers)), &numbers.found),
            (None, Found::Nowhere) => (Found::Nowhere, &numbers.nowhere),
            (None, Found::Unavailable) => (Found::Unavailable, &numbers.unavailable),
        };
        let waiting = self.waiting.remove(&key).unwrap_or_default();
        self.waiting_count -= waiting.len();
        for answer in waiting {
            counter.count();
            answer(found.clone());
        }
    }
}

/// Asks one discovery after the other, those that answered last first.
async fn look_up(shared: &Shared, key: PublicKey) -> Found {
    let (rested, resting): (Vec<_>, Vec<_>) = shared
        .discoveries
        .iter()
        .partition(|discovery| !discovery.is_resting(Instant::now()));
    let (mut up, down): (Vec<_>, Vec<_>) = rested
        .into_iter()
        .partition(|discovery| discovery.standing().answers);
    up.extend(down);
    let mut is_known = resting.is_empty() && !up.is_empty();
    for discovery in up {
        match ask(shared, discovery, key).await {
            Ok(Some(found)) => return found,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, %key, "a client is looked for elsewhere");
                is_known = false;
            }
        }
    }
    match is_known {
        true => Found::Nowhere,
        false => Found::Unavailable,
    }
}

/// Asks one discovery; none when it has no client with this key.
async fn ask(
    shared: &Shared,
    discovery: &Discovery,
    key: PublicKey,
) -> Result<Option<Found>, FetchError> {
    let outcome = discovery.fetcher.entry(key).await;
    shared.note(discovery, &outcome);
    let Some(read) = outcome? else {
        return Ok(None);
    };
    let servers = read.entry.delegated_servers();
    // Without servers it is nowhere, whoever says so.
    if servers.is_empty() {
        return Ok(None);
    }
    // A server's type is changed by the discovery, so that what is a server as well cannot be verified here.
    if read.entry.server.is_none() && read.entry.verify_text(&read.json).is_err() {
        shared.numbers.forged.count();
        return Ok(None);
    }
    Ok(Some(Found::At(servers.into())))
}

/// Questions that wait to be looked at, and questions that wait for answers.
pub(super) const QUESTIONS_MAX: usize = 4_096;

/// Clients that are looked for at once.
const LOOKUPS_MAX: usize = 64;
