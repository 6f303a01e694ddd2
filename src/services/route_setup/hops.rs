//! Streams to the hops of routes: one each, shared by all setups of the shard.
//!
//! Here: opening, asking, the end of an idle one. Not here: what is asked (`run`).
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
use ringway_proto::route::{HopReply, HopRequest, Message, MessageReader, ROUTE_SETUP_PORT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::numbers::Numbers;

/// The hops of one shard.
#[derive(Clone, Debug)]
pub(super) struct Hops {
    client: Client,
    table: Arc<Table>,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Table(Mutex<HashMap<PublicKey, Hop>>);

/// The way to the task of a hop.
#[derive(Debug)]
struct Hop {
    asks: mpsc::Sender<Ask>,
    used: Instant,
}

/// A question on its way.
#[derive(Debug)]
struct Ask {
    request: HopRequest,
    answer: oneshot::Sender<Result<HopReply, HopError>>,
}

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

impl Hops {
    pub(super) fn new(client: Client, numbers: Arc<Numbers>) -> Self {
        Self {
            client,
            table: Arc::default(),
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
        request: HopRequest,
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

    fn find_or_open(&self, hop: PublicKey) -> mpsc::Sender<Ask> {
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
        let task = Task {
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

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Hop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one hop.
struct Task {
    hop: PublicKey,
    client: Client,
    table: Arc<Table>,
    numbers: Arc<Numbers>,
    own: mpsc::WeakSender<Ask>,
}

impl Task {
    async fn run(self, mut questions: mpsc::Receiver<Ask>) {
        let address = Address::new(self.hop, ROUTE_SETUP_PORT);
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
    async fn talk(&self, mut stream: Stream, questions: &mut mpsc::Receiver<Ask>) -> &'static str {
        let mut open: HashMap<u32, oneshot::Sender<Result<HopReply, HopError>>> = HashMap::new();
        let mut reader = MessageReader::new();
        let mut input = vec![0; READ_BYTES];
        let mut output = Vec::new();
        let mut next_id = 0_u32;
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
                    let mut next = ask;
                    while let Some(Ask { request, answer }) = next {
                        next_id = next_id.wrapping_add(1);
                        let message = Message { id: next_id, body: request };
                        if message.encode(&mut output).is_ok() {
                            open.insert(next_id, answer);
                        }
                        next = questions.try_recv().ok();
                    }
                    if stream.write_all(&output).await.is_err() {
                        break "it cannot be written";
                    }
                    output.clear();
                }
                heard = hear(&mut stream, &mut input, &mut reader, &mut open) => {
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

/// Reads once and hands answers over.
async fn hear(
    stream: &mut Stream,
    input: &mut [u8],
    reader: &mut MessageReader,
    open: &mut HashMap<u32, oneshot::Sender<Result<HopReply, HopError>>>,
) -> Result<(), &'static str> {
    match stream.read(input).await {
        Ok(0) => return Err("the hop has ended it"),
        Ok(count) => reader.push(input.get(..count).unwrap_or_default()),
        Err(_) => return Err("it broke"),
    }
    loop {
        match reader.next_message::<HopReply>() {
            Ok(Some(message)) => {
                // An answer that nobody waits for any more came too late.
                if let Some(answer) = open.remove(&message.id) {
                    drop(answer.send(Ok(message.body)));
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => return Err("the hop does not speak the protocol"),
        }
    }
}

/// Streams to hops that one shard holds.
const HOPS_MAX: usize = 512;

/// Questions that wait for one hop: those of all setups that a relay may have, twice.
const ASKS_MAX: usize = 64;

/// A stream without a question ends after this time: routes are set up in bursts, and a stream holds a port.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(5);

/// Bytes read at once.
const READ_BYTES: usize = 4_096;
