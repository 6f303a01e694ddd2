//! Ports of this party that others may open streams to.
//!
//! Here: which port has a listener, and the listener's queue. Not here: the answer on the wire.
//!
//! A stream is accepted on the wire before it waits in the queue, and it has its place there before
//! it is accepted.
//! Bound: `backlog_max` streams a listener; at most 65,536 listeners.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::reason::Reason;
use tokio::sync::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

use crate::client::Client;
use crate::error::{AcceptError, ListenError};
use crate::stream::Stream;

/// Takes streams that other parties open to one port.
///
/// Dropping it frees the port; streams that still wait in it are reset.
///
/// ```
/// use ringway_client::{Address, Client, Config, SecretKey};
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shards/relay.rs"));
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let relay = start_relay(1);
/// # let config = Config::new([relay.address]);
/// # let client = Client::connect(SecretKey::from_seed([3; 32]), config).await?;
/// let listener = client.listen(80)?;
/// assert_eq!(listener.address(), Address::new(client.key(), 80));
/// // A party may dial itself.
/// let (dialled, accepted) = tokio::join!(client.dial(listener.address()), listener.accept());
/// assert_eq!(accepted?.peer().port, dialled?.local_port());
/// # drop(relay);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    address: Address,
    streams: Mutex<Receiver<Stream>>,
    listeners: Arc<Listeners>,
    /// Keeps the client alive; the echo service does not.
    _client: Option<Client>,
}

impl Listener {
    pub(crate) fn bind(
        listeners: &Arc<Listeners>,
        key: PublicKey,
        port: u16,
        backlog_max: u32,
        admit: Option<Admit>,
    ) -> Result<Self, ListenError> {
        let backlog_max = usize::try_from(backlog_max).unwrap_or(usize::MAX);
        let (sender, receiver) = mpsc::channel(backlog_max.clamp(1, BACKLOG_LIMIT));
        listeners.insert(port, Queue { sender, admit })?;
        Ok(Self {
            address: Address::new(key, port),
            streams: Mutex::new(receiver),
            listeners: Arc::clone(listeners),
            _client: None,
        })
    }

    /// Keeps `client` alive as long as the listener.
    pub(crate) fn keeping(mut self, client: Client) -> Self {
        self._client = Some(client);
        self
    }

    /// Waits for the next stream. Several tasks may wait; each stream goes to one of them.
    ///
    /// # Errors
    ///
    /// [`AcceptError::LocalClosed`] once the client was closed and no stream waits.
    ///
    /// # Cancel
    ///
    /// Dropping the future loses no stream.
    pub async fn accept(&self) -> Result<Stream, AcceptError> {
        self.streams
            .lock()
            .await
            .recv()
            .await
            .ok_or(AcceptError::LocalClosed)
    }

    /// Returns the address that others dial.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.remove(self.address.port);
    }
}

/// Says of a key whether it may open streams to a port, or why not.
pub(crate) type Admit = Arc<dyn Fn(&PublicKey) -> Result<(), Reason> + Send + Sync>;

/// Where the streams to one port go.
#[derive(Clone)]
struct Queue {
    sender: Sender<Stream>,
    /// Who may open them, if not everybody.
    admit: Option<Admit>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("sender", &self.sender)
            .field("is_limited", &self.admit.is_some())
            .finish()
    }
}

/// The listeners of one client.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    table: StdMutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    ports: HashMap<u16, Queue>,
    is_closed: bool,
}

/// Why an open finds no place, and the queue that has none. The queue is for dropping where no lock is
/// held: its last sender drops the streams that came after the receiver had gone.
#[derive(Debug)]
pub(crate) struct NoPlace {
    reason: Reason,
    _queue: Option<Sender<Stream>>,
}

impl NoPlace {
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }
}

impl Listeners {
    /// Takes a place in the queue of `port` for a stream of `source`.
    pub(crate) fn try_reserve(
        &self,
        port: u16,
        source: &PublicKey,
    ) -> Result<OwnedPermit<Stream>, NoPlace> {
        let Some(Queue { sender, admit }) = self.lock().ports.get(&port).cloned() else {
            return Err(NoPlace {
                reason: Reason::NoListener,
                _queue: None,
            });
        };
        if let Some(Err(reason)) = admit.map(|admit| admit(source)) {
            return Err(NoPlace {
                reason,
                _queue: Some(sender),
            });
        }
        sender.try_reserve_owned().map_err(|error| match error {
            TrySendError::Closed(sender) => NoPlace {
                reason: Reason::NoListener,
                _queue: Some(sender),
            },
            TrySendError::Full(sender) => NoPlace {
                reason: Reason::RefusedByDestination,
                _queue: Some(sender),
            },
        })
    }

    /// Takes no listeners any more and ends those there are.
    pub(crate) fn close(&self) {
        let ports = {
            let mut table = self.lock();
            table.is_closed = true;
            std::mem::take(&mut table.ports)
        };
        drop(ports);
    }

    fn insert(&self, port: u16, queue: Queue) -> Result<(), ListenError> {
        let mut table = self.lock();
        if table.is_closed {
            return Err(ListenError::LocalClosed);
        }
        match table.ports.entry(port) {
            Entry::Occupied(_) => Err(ListenError::LocalPortInUse { port }),
            Entry::Vacant(entry) => {
                entry.insert(queue);
                Ok(())
            }
        }
    }

    fn remove(&self, port: u16) {
        let queue = self.lock().ports.remove(&port);
        drop(queue);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Largest backlog of a listener whatever the configuration says: what all sessions may open.
const BACKLOG_LIMIT: usize = 65_536;
