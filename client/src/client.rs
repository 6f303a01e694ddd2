//! The client: which sessions there are, and which of them a dial takes.
//!
//! Here: the public face and the state that its sessions share. Not here: how a session is made and
//! kept (`supervisor`), what happens on it (`session`).
//!
//! Invariant: `inner` is never locked while a session or the listeners are, the other way round it
//! may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::reason::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::PING_PORT;
use crate::config::{Config, RELAYS_MAX, RelayAddress};
use crate::echo;
use crate::error::{ConnectError, DialError, ListenError, PingError, Refusal, SessionError};
use crate::listener::{Listener, Listeners};
use crate::ports::Ports;
use crate::session::Session;
use crate::status::{SessionState, SessionStatus};
use crate::stream::Stream;
use crate::supervisor::supervise;

/// A party's access to its relays. Clones share the sessions.
///
/// When the last clone and the last [`Listener`] have gone, the sessions take no new streams and end
/// with the streams they have; [`Client::close`] ends them now.
///
/// ```
/// use ringway_client::{Address, Client, Config, SecretKey};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shards/relay.rs"));
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let relay = start_relay(1);
/// # let config = Config::new([relay.address]);
/// let alice = Client::connect(SecretKey::from_seed([1; 32]), config.clone()).await?;
/// let bob = Client::connect(SecretKey::from_seed([2; 32]), config).await?;
/// let listener = bob.listen(80)?;
///
/// let mut to_bob = alice.dial(Address::new(bob.key(), 80)).await?;
/// to_bob.write_all(b"hello").await?;
/// to_bob.shutdown().await?;
///
/// let mut from_alice = listener.accept().await?;
/// assert_eq!(from_alice.peer().key, alice.key());
/// let mut text = String::new();
/// from_alice.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # from_alice.shutdown().await?;
/// alice.close().await;
/// # drop(relay);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the client when the last clone goes.
#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
}

/// What the client's tasks share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) identity: Arc<SecretKey>,
    pub(crate) config: Config,
    pub(crate) listeners: Arc<Listeners>,
    key: PublicKey,
    ports: Arc<Ports>,
    table: Mutex<Table>,
    watch: watch::Sender<Arc<[SessionStatus]>>,
    is_stopped: watch::Sender<bool>,
    /// Sessions whose driver runs.
    live_count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Table {
    relays: Vec<Relay>,
    /// Sessions whose driver runs: those of `relays`, and those that finish their last streams.
    live: Vec<Arc<Session>>,
}

/// One configured relay.
#[derive(Debug)]
struct Relay {
    address: RelayAddress,
    session: Option<Arc<Session>>,
    state: SessionState,
    error: Option<Arc<SessionError>>,
}

impl Client {
    /// Begins to make sessions, and waits until one stands.
    ///
    /// The others, and those that end, are made in the background for as long as the client lives.
    ///
    /// # Errors
    ///
    /// [`ConnectError::LocalNoRelay`], and [`ConnectError::Relay`] when every relay was tried once in
    /// vain. Use [`Client::start`] and [`Client::ready`] to go on trying.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(identity: SecretKey, config: Config) -> Result<Self, ConnectError> {
        let client = Self::start(identity, config)?;
        let mut watch = client.watch();
        let is_decided = |all: &Arc<[SessionStatus]>| {
            all.iter().any(|one| one.state.is_ready()) || all.iter().all(|one| one.error.is_some())
        };
        // The sender is in `client`, so there always is a decision.
        let statuses = watch.wait_for(is_decided).await.map(|all| Arc::clone(&all));
        let statuses = statuses.unwrap_or_else(|_| Arc::new([]));
        if statuses.iter().any(|one| one.state.is_ready()) {
            return Ok(client);
        }
        let telling = statuses
            .iter()
            .filter_map(|one| Some((one.relay, one.error.clone()?)))
            .max_by_key(|(_, error)| error.telling());
        match telling {
            Some((relay, error)) => Err(ConnectError::Relay { relay, error }),
            None => Err(ConnectError::LocalNoRelay),
        }
    }

    /// Begins to make sessions and waits for none.
    ///
    /// # Errors
    ///
    /// [`ConnectError::LocalNoRelay`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(identity: SecretKey, config: Config) -> Result<Self, ConnectError> {
        if config.relays.is_empty() {
            return Err(ConnectError::LocalNoRelay);
        }
        let inner = Arc::new(Inner::new(identity, config));
        for (index, relay) in inner.relays().into_iter().enumerate() {
            tokio::spawn(supervise(Arc::clone(&inner), index, relay));
        }
        if inner.config.answer_ping {
            echo::start(&inner.listeners, inner.key);
        }
        Ok(Self {
            handle: Arc::new(Handle { inner }),
        })
    }

    /// Waits until at least one session stands.
    ///
    /// # Errors
    ///
    /// [`DialError::LocalClosed`].
    pub async fn ready(&self) -> Result<(), DialError> {
        let is_ready = |one: &SessionStatus| one.state.is_ready();
        let is_closed = |one: &SessionStatus| one.state == SessionState::Closed;
        let mut watch = self.watch();
        let decided = watch
            .wait_for(|all| all.iter().any(is_ready) || all.iter().all(is_closed))
            .await
            .map_err(|_| DialError::LocalClosed)?;
        if decided.iter().any(is_ready) {
            Ok(())
        } else {
            Err(DialError::LocalClosed)
        }
    }

    /// Opens a stream to a port of another party.
    ///
    /// Over the relay with the shortest round trip; over the next one too if the first does not know
    /// the destination, is full, or does not answer in half of the time.
    ///
    /// # Errors
    ///
    /// See [`DialError`]. A refusal comes after one round trip, with its reason.
    ///
    /// # Cancel
    ///
    /// Dropping the future takes the open back.
    pub async fn dial(&self, destination: Address) -> Result<Stream, DialError> {
        let inner = &self.handle.inner;
        if inner.is_stopped() {
            return Err(DialError::LocalClosed);
        }
        let permit = inner.ports.try_take().map_err(DialError::ports)?;
        let dial_timeout = inner.config.dial_timeout;
        let deadline = Instant::now() + dial_timeout;
        let sessions = inner.sessions_by_rtt();
        let mut tries_left = sessions.len().min(DIAL_RELAYS_MAX);
        let mut failure = DialError::LocalNoSession;
        for session in sessions.into_iter().take(DIAL_RELAYS_MAX) {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = if tries_left > 1 { left / 2 } else { left };
            tries_left -= 1;
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(DialError::LocalRandom)?;
            let open = session.open(destination, permit.port(), random);
            let error = match timeout_at(Instant::now() + share, open).await {
                Ok(Ok(opened)) => {
                    let payload_max = inner.record_payload_max();
                    return Ok(Stream::dialled(opened, destination, permit, payload_max));
                }
                Ok(Err(error)) if !error.is_worth_another_relay() => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => DialError::Timeout(dial_timeout),
            };
            failure = more_telling(failure, error);
        }
        Err(failure)
    }

    /// Takes streams that others open to `port` of this party.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn listen(&self, port: u16) -> Result<Listener, ListenError> {
        let inner = &self.handle.inner;
        let backlog_max = inner.config.backlog_max;
        let listener = Listener::bind(&inner.listeners, inner.key, port, backlog_max)?;
        Ok(listener.keeping(self.clone()))
    }

    /// Measures the round trip to the nearest relay.
    ///
    /// # Errors
    ///
    /// See [`PingError`].
    pub async fn ping_relay(&self) -> Result<Duration, PingError> {
        let inner = &self.handle.inner;
        let session = inner
            .sessions_by_rtt()
            .into_iter()
            .next()
            .ok_or(PingError::LocalNoSession)?;
        match timeout(inner.config.dial_timeout, session.ping()).await {
            Ok(Ok(rtt)) => Ok(rtt),
            Ok(Err(_)) => Err(match session.error() {
                Some(error) => PingError::RelaySession(error),
                None => PingError::LocalNoSession,
            }),
            Err(_) => Err(PingError::Timeout(inner.config.dial_timeout)),
        }
    }

    /// Measures the round trip to another party: opens a stream to its echo service, then sends a
    /// few bytes and waits for them. The open does not count.
    ///
    /// # Errors
    ///
    /// See [`PingError`]. [`PingError::Dial`] with reason 301 when the party does not answer pings.
    pub async fn ping(&self, key: PublicKey) -> Result<Duration, PingError> {
        let dial_timeout = self.handle.inner.config.dial_timeout;
        let mut stream = self.dial(Address::new(key, PING_PORT)).await?;
        let mut sent = [0; PING_BYTES];
        getrandom::fill(&mut sent).map_err(DialError::LocalRandom)?;
        let mut echoed = [0; PING_BYTES];
        let started = Instant::now();
        let exchange = async {
            stream.write_all(&sent).await?;
            stream.read_exact(&mut echoed).await
        };
        match timeout(dial_timeout, exchange).await {
            Ok(Ok(_)) if echoed != sent => Err(PingError::PeerNoEcho),
            Ok(Ok(_)) => {
                let rtt = started.elapsed();
                // The time is taken; how the stream ends does not matter.
                drop(stream.shutdown().await);
                Ok(rtt)
            }
            Ok(Err(error)) => Err(PingError::PeerStream(error)),
            Err(_) => Err(PingError::Timeout(dial_timeout)),
        }
    }

    /// Ends all sessions in good order.
    ///
    /// Takes and makes no new streams, and waits until what was written has left and until streams
    /// that were shut down have ended on the other side too, at most
    /// [`Config::close_timeout`]. Streams that are open then are reset.
    pub async fn close(&self) {
        let inner = &self.handle.inner;
        inner.stop(Some(Instant::now() + inner.config.close_timeout));
        let mut live_count = inner.live_count.subscribe();
        // The sender is in `inner`, so the wait does not fail.
        drop(live_count.wait_for(|count| *count == 0).await);
    }

    /// Returns the public key of this party.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.handle.inner.key
    }

    /// Returns how the session to each relay stands now, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<SessionStatus> {
        self.handle.inner.lock().statuses()
    }

    /// Returns a channel with the same, as of the last time that a session's state changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<[SessionStatus]>> {
        self.handle.inner.watch.subscribe()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.stop(None);
    }
}

impl Inner {
    fn new(identity: SecretKey, config: Config) -> Self {
        let relays = config.relays.iter().take(RELAYS_MAX).map(|relay| Relay {
            address: *relay,
            session: None,
            state: SessionState::Connecting,
            error: None,
        });
        let table = Table {
            relays: relays.collect(),
            live: Vec::new(),
        };
        Self {
            key: identity.public(),
            identity: Arc::new(identity),
            listeners: Arc::default(),
            ports: Ports::new(),
            watch: watch::Sender::new(table.statuses().into()),
            table: Mutex::new(table),
            is_stopped: watch::Sender::new(false),
            live_count: watch::Sender::new(0),
            config,
        }
    }

    /// Notes how a session stands. An error stays until a session stands again.
    pub(crate) fn set_state(
        &self,
        index: usize,
        state: SessionState,
        error: Option<Arc<SessionError>>,
    ) {
        let mut table = self.lock();
        if let Some(relay) = table.relays.get_mut(index) {
            relay.state = state;
            relay.error = error.or_else(|| relay.error.take());
            if !state.is_ready() {
                relay.session = None;
            }
        }
        self.watch.send_replace(table.statuses().into());
    }

    /// Takes a session that stands into service; `false` when the client was closed meanwhile.
    pub(crate) fn adopt(&self, index: usize, session: &Arc<Session>) -> bool {
        let mut table = self.lock();
        if self.is_stopped() {
            return false;
        }
        if let Some(relay) = table.relays.get_mut(index) {
            relay.state = SessionState::Ready;
            relay.error = None;
            relay.session = Some(Arc::clone(session));
        }
        table.live.push(Arc::clone(session));
        self.live_count.send_replace(table.live.len());
        self.watch.send_replace(table.statuses().into());
        true
    }

    /// Forgets a session whose driver has left.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut table = self.lock();
        table.live.retain(|one| !Arc::ptr_eq(one, session));
        self.live_count.send_replace(table.live.len());
    }

    /// Completes when the client is closed.
    pub(crate) async fn stopped(&self) {
        let mut is_stopped = self.is_stopped.subscribe();
        drop(is_stopped.wait_for(|is_stopped| *is_stopped).await);
    }

    pub(crate) fn record_payload_max(&self) -> usize {
        usize::try_from(self.config.record_payload_max).unwrap_or(usize::MAX)
    }

    fn stop(&self, until: Option<Instant>) {
        self.listeners.close();
        let live = {
            let table = self.lock();
            self.is_stopped.send_replace(true);
            table.live.clone()
        };
        for session in live {
            session.close(until);
        }
    }

    fn is_stopped(&self) -> bool {
        *self.is_stopped.borrow()
    }

    fn relays(&self) -> Vec<RelayAddress> {
        self.lock()
            .relays
            .iter()
            .map(|relay| relay.address)
            .collect()
    }

    /// Returns the sessions that take streams, the nearest relay first.
    fn sessions_by_rtt(&self) -> Vec<Arc<Session>> {
        let sessions: Vec<_> = self
            .lock()
            .relays
            .iter()
            .filter_map(|relay| relay.session.clone())
            .collect();
        let mut sessions: Vec<_> = sessions
            .into_iter()
            .filter(|session| session.is_ready())
            .map(|session| (session.rtt().unwrap_or(Duration::MAX), session))
            .collect();
        sessions.sort_by_key(|(rtt, _)| *rtt);
        sessions.into_iter().map(|(_, session)| session).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn statuses(&self) -> Vec<SessionStatus> {
        self.relays.iter().map(Relay::status).collect()
    }
}

impl Relay {
    fn status(&self) -> SessionStatus {
        let session = self.session.as_ref();
        SessionStatus {
            relay: self.address,
            state: self.state,
            rtt: session.and_then(|session| session.rtt()),
            streams_count: session.map_or(0, |session| session.streams_count()),
            error: self.error.clone(),
        }
    }
}

/// Returns the failure that says more: that a relay does not know the destination says least.
fn more_telling(before: DialError, after: DialError) -> DialError {
    let unknown = Some(Refusal::from(Reason::UnknownDestination));
    match before {
        DialError::LocalNoSession => after,
        _ if after.refusal() == unknown => before,
        _ => after,
    }
}

/// Most relays one dial tries.
///
/// A third would cost the dialler another time-out where the first two did not know the destination.
const DIAL_RELAYS_MAX: usize = 2;

/// Bytes of a ping's echo.
const PING_BYTES: usize = 16;
