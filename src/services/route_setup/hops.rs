//! Streams to the hops of routes: one each, shared by all setups of the shard.
//!
//! Here: opening, asking, the end of an idle one. Not here: what is asked (`run`) and how it is said
//! (`conversation`).
//!
//! A hop's stream is opened by the first question and has a task of its own; questions of several setups go
//! over it at once and are told apart by their ids. It ends when it was idle for [`IDLE_TIME`], when its
//! hop breaks the protocol, and when there are more than [`HOPS_MAX`].
//!
//! Bound: [`HOPS_MAX`] streams a shard, [`ASKS_MAX`] questions waiting for one; each question ends with its
//! setup.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_client::{Address, Client, PublicKey, Stream};
use ringway_proto::route::HopReply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::conversation::Conversation;
use super::numbers::Numbers;

/// The hops of one shard in one dialect.
pub(super) struct Hops<C: Conversation> {
    client: Client,
    table: Arc<Table<C::Request>>,
    numbers: Arc<Numbers>,
}

impl<C: Conversation> Clone for Hops<C> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            table: Arc::clone(&self.table),
            numbers: Arc::clone(&self.numbers),
        }
    }
}

struct Table<R>(Mutex<HashMap<PublicKey, Hop<R>>>);

/// The way to the task of a hop.
struct Hop<R> {
    asks: mpsc::Sender<Ask<R>>,
    used: Instant,
}

/// A question on its way.
struct Ask<R> {
    request: R,
    answer: Waiting,
}

/// Who waits for an answer.
type Waiting = oneshot::Sender<Result<HopReply, HopError>>;

/// Why a hop has not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HopError {
    /// Its stream ended, or said something that is no answer.
    #[error("its stream ended: {0}")]
    Ended(String),
    /// No stream could be opened.
    #[error("{0}")]
    Unreachable(String),
}

impl<C: Conversation> Hops<C> {
    pub(super) fn new(client: Client, numbers: Arc<Numbers>) -> Self {
        Self {
            client,
            table: Arc::new(Table(Mutex::default())),
            numbers,
        }
    }

    /// Asks a hop, over the stream that there is or a new one.
    ///
    /// # Errors
    ///
    /// See [`HopError`].
    ///
    /// # Cancel
    ///
    /// The hop may carry out what it was asked; its answer is dropped.
    pub(super) async fn ask(
        &self,
        hop: PublicKey,
        request: C::Request,
    ) -> Result<HopReply, HopError> {
        // A stream that ends just now is no reason to fail: once more, over a new one.
        for is_last in [false, true] {
            let (answer, answered) = oneshot::channel();
            let asks = self.find_or_open(hop);
            let ask = Ask {
                request: request.clone(),
                answer,
            };
            if asks.send(ask).await.is_err() {
                continue;
            }
            match answered.await {
                Ok(outcome) => return outcome,
                Err(_) if is_last => break,
                Err(_) => {}
            }
        }
        Err(HopError::Ended("again and again".to_owned()))
    }

    fn find_or_open(&self, hop: PublicKey) -> mpsc::Sender<Ask<C::Request>> {
        let now = Instant::now();
        let mut table = self.table.lock();
        if let Some(found) = table.get_mut(&hop)
            && !found.asks.is_closed()
        {
            found.used = now;
            return found.asks.clone();
        }
        if table.len() >= HOPS_MAX {
            let oldest = table.iter().min_by_key(|(_, hop)| hop.used);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                // Its task answers what it was asked, then ends.
                table.remove(&oldest);
            }
        }
        let (asks, questions) = mpsc::channel(ASKS_MAX);
        let own = asks.downgrade();
        table.insert(
            hop,
            Hop {
                asks: asks.clone(),
                used: now,
            },
        );
        let task = Task::<C> {
            hop,
            client: self.client.clone(),
            table: Arc::clone(&self.table),
            numbers: Arc::clone(&self.numbers),
            own,
        };
        tokio::spawn(task.run(questions));
        asks
    }
}

impl<R> Table<R> {
    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Hop<R>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one hop.
struct Task<C: Conversation> {
    hop: PublicKey,
    client: Client,
    table: Arc<Table<C::Request>>,
    numbers: Arc<Numbers>,
    own: mpsc::WeakSender<Ask<C::Request>>,
}

impl<C: Conversation> Task<C> {
    async fn run(self, mut questions: mpsc::Receiver<Ask<C::Request>>) {
        let address = Address::new(self.hop, C::PORT);
        match self.client.dial(address).await {
            Ok(stream) => {
                self.numbers.hops_opened.count();
                self.numbers.hops_current.count();
                let end = self.talk(stream, &mut questions).await;
                self.numbers.hops_current.sub();
                tracing::debug!(hop = %self.hop, end, "stream to a hop ended");
                self.forget();
            }
            Err(error) => {
                self.forget();
                questions.close();
                while let Some(Ask { answer, .. }) = questions.recv().await {
                    // Who asked may have given up.
                    drop(answer.send(Err(HopError::Unreachable(error.to_string()))));
                }
            }
        }
    }

    /// Takes the hop out of the table, unless another task has its place by now.
    fn forget(&self) {
        let mut table = self.table.lock();
        let is_own = match (table.get(&self.hop), self.own.upgrade()) {
            (Some(found), Some(own)) => found.asks.same_channel(&own),
            _ => false,
        };
        if is_own {
            table.remove(&self.hop);
        }
    }

    /// Asks and hears until the stream ends; returns why it did.
    async fn talk(
        &self,
        mut stream: Stream,
        questions: &mut mpsc::Receiver<Ask<C::Request>>,
    ) -> &'static str {
        let mut open: HashMap<u64, Waiting> = HashMap::new();
        let mut conversation = C::default();
        let mut input = vec![0; READ_BYTES];
        let mut output = Vec::new();
        let mut idle_since = Instant::now();
        let mut is_closed = false;
        let end = loop {
            if is_closed && open.is_empty() {
                break "replaced";
            }
            tokio::select! {
                ask = questions.recv(), if !is_closed => {
                    // Nobody can ask any more; who has asked still waits for an answer.
                    is_closed = ask.is_none();
                    let asked = ask_all(ask, questions, &mut conversation, &mut open, &mut output);
                    if let Err(end) = asked {
                        break end;
                    }
                    if stream.write_all(&output).await.is_err() {
                        break "it cannot be written";
                    }
                    output.clear();
                }
                heard = hear(&mut stream, &mut input, &mut conversation, &mut open) => {
                    if let Err(end) = heard {
                        break end;
                    }
                    idle_since = Instant::now();
                    // Who has given up meanwhile keeps nothing open.
                    open.retain(|_, answer| !answer.is_closed());
                }
                () = sleep_until(idle_since + IDLE_TIME) => {
                    open.retain(|_, answer| !answer.is_closed());
                    if open.is_empty() {
                        break "idle";
                    }
                    idle_since = Instant::now();
                }
            }
        };
        self.forget();
        questions.close();
        for (_, answer) in open {
            drop(answer.send(Err(HopError::Ended(end.to_owned()))));
        }
        drop(stream.shutdown().await);
        end
    }
}

/// Asks what is to be asked now. Questions that are dropped on the way are asked again over a new stream.
fn ask_all<C: Conversation>(
    first: Option<Ask<C::Request>>,
    questions: &mut mpsc::Receiver<Ask<C::Request>>,
    conversation: &mut C,
    open: &mut HashMap<u64, Waiting>,
    output: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mut next = first;
    while let Some(Ask { request, answer }) = next {
        let number = conversation.ask(&request, output)?;
        open.insert(number, answer);
        next = questions.try_recv().ok();
    }
    Ok(())
}

/// Reads once and hands answers over.
async fn hear<C: Conversation>(
    stream: &mut Stream,
    input: &mut [u8],
    conversation: &mut C,
    open: &mut HashMap<u64, Waiting>,
) -> Result<(), &'static str> {
    match stream.read(input).await {
        Ok(0) => return Err("the hop has ended it"),
        Ok(count) => conversation.push(input.get(..count).unwrap_or_default()),
        Err(_) => return Err("it broke"),
    }
    while let Some((number, reply)) = conversation.next_answer()? {
        // An answer that nobody waits for any more came too late.
        if let Some(answer) = open.remove(&number) {
            drop(answer.send(Ok(reply)));
        }
    }
    Ok(())
}

/// Streams to hops that one shard holds.
const HOPS_MAX: usize = 512;

/// Questions that wait for one hop: those of all setups that a relay may have, twice.
const ASKS_MAX: usize = 64;

/// A stream without a question ends after this time: routes are set up in bursts, and a stream holds a port.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(5);

/// Bytes read at once.
const READ_BYTES: usize = 4_096;
