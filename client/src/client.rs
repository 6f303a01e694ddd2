//! The client's public face.
//!
//! Here: what a program asks of a client. Not here: the state that its tasks share (`inner`), which
//! relays a dial asks (`dial`), how a session is made and kept (`supervisor`).

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::dialect::peer::Identity;
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::reason::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::PING_PORT;
use crate::config::Config;
use crate::dial::dial;
use crate::echo::{self, Probe};
use crate::error::{ConnectError, DialError, ListenError, PingError};
use crate::inner::Inner;
use crate::listener::Listener;
use crate::stats::Stats;
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

impl Client {
    /// Begins to make sessions, and waits until one stands. The identity is a [`SecretKey`], or one of the
    /// dmsg dialect for relays that speak that.
    ///
    /// The others, and those that end, are made in the background for as long as the client lives;
    /// when all were tried, sessions stay with the [`Config::sessions_min`] nearest relays.
    ///
    /// # Errors
    ///
    /// [`ConnectError::LocalNoRelay`], [`ConnectError::LocalDialect`], and [`ConnectError::Relay`] when every
    /// relay was tried once in vain. Use [`Client::start`] and [`Client::ready`] to go on trying.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(
        identity: impl Into<Identity>,
        config: Config,
    ) -> Result<Self, ConnectError> {
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
    /// [`ConnectError::LocalNoRelay`] and [`ConnectError::LocalDialect`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(identity: impl Into<Identity>, config: Config) -> Result<Self, ConnectError> {
        let identity = identity.into();
        if config.relays.is_empty() {
            return Err(ConnectError::LocalNoRelay);
        }
        let dialect = identity.dialect();
        if let Some(relay) = config.relays.iter().find(|it| it.key.dialect() != dialect) {
            return Err(ConnectError::LocalDialect { relay: *relay });
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
    /// First over the relays with a session: the one over which the destination was reached last, then
    /// the nearest. If none of them has the destination, takes it or answers in its share of the time,
    /// sessions with the other relays are made, two at a time. A relay that has just said not to have
    /// the destination is not asked again for 5 s.
    ///
    /// # Errors
    ///
    /// See [`DialError`].
    ///
    /// # Cancel
    ///
    /// Dropping the future takes the open back, and sessions that are being made for it.
    pub async fn dial(&self, destination: Address) -> Result<Stream, DialError> {
        dial(&self.handle.inner, destination).await
    }

    /// Takes streams that others open to `port` of this party.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn listen(&self, port: u16) -> Result<Listener, ListenError> {
        let inner = &self.handle.inner;
        let backlog_max = inner.config.backlog_max;
        let listener = Listener::bind(&inner.listeners, inner.key, port, backlog_max, None)?;
        Ok(listener.keeping(self.clone()))
    }

    /// As [`Client::listen`], for those that `admit` lets in; others are refused with its reason. It is
    /// asked at each open, so what it says may change.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn listen_for(
        &self,
        port: u16,
        admit: impl Fn(&PublicKey) -> Result<(), Reason> + Send + Sync + 'static,
    ) -> Result<Listener, ListenError> {
        let inner = &self.handle.inner;
        let backlog_max = inner.config.backlog_max;
        let admit = Some(Arc::new(admit) as _);
        let listener = Listener::bind(&inner.listeners, inner.key, port, backlog_max, admit)?;
        Ok(listener.keeping(self.clone()))
    }

    /// Measures the round trip to the nearest relay.
    ///
    /// # Errors
    ///
    /// See [`PingError`].
    pub async fn ping_relay(&self) -> Result<Duration, PingError> {
        let inner = &self.handle.inner;
        let (relay, session) = inner.nearest_session().ok_or(PingError::LocalNoSession)?;
        match timeout(inner.config.dial_timeout, session.ping()).await {
            Ok(Ok(rtt)) => {
                inner.measured(relay, rtt);
                Ok(rtt)
            }
            Ok(Err(_)) => Err(match session.error() {
                Some(error) => PingError::RelaySession(error),
                None => PingError::LocalNoSession,
            }),
            Err(_) => Err(PingError::Timeout(inner.config.dial_timeout)),
        }
    }

    /// Measures the round trip to another party: opens a stream to its echo service, then sends a
    /// few bytes and waits for them. The open does not count. In the dmsg dialect it is that dialect's own
    /// ping of port 7.
    ///
    /// # Errors
    ///
    /// See [`PingError`]. [`PingError::Dial`] with reason 301 when the party does not answer pings.
    pub async fn ping(&self, key: PublicKey) -> Result<Duration, PingError> {
        let dial_timeout = self.handle.inner.config.dial_timeout;
        let mut stream = self.dial(Address::new(key, PING_PORT)).await?;
        let Probe { question, answer } =
            Probe::new(key.dialect()).map_err(DialError::LocalRandom)?;
        let mut heard = vec![0; answer.len()];
        let started = Instant::now();
        let exchange = async {
            stream.write_all(&question).await?;
            stream.read_exact(&mut heard).await
        };
        match timeout(dial_timeout, exchange).await {
            Ok(Ok(_)) if heard != answer => Err(PingError::PeerNoEcho),
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
        inner.left().await;
    }

    /// Returns the public key of this party.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.handle.inner.key
    }

    /// Returns the secret key, of a native party.
    pub(crate) fn native_secret(&self) -> Option<Arc<SecretKey>> {
        match &self.handle.inner.identity {
            Identity::Native(secret) => Some(Arc::clone(secret)),
            Identity::Dmsg(_) => None,
        }
    }

    /// Returns what the client has counted since its start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.inner.stats()
    }

    /// Returns how the session to each relay stands now, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<SessionStatus> {
        self.handle.inner.statuses()
    }

    /// Returns a channel with the same, as of the last time that a session's state or a distance changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<[SessionStatus]>> {
        self.handle.inner.watch()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.stop(None);
    }
}
