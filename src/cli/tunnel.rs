//! What `expose` and `forward` have in common: connections between TCP here and streams there.
//!
//! Here: the copy with exact half-closes, the bound on connections, counters, the watch over the
//! sessions, the end. Not here: who connects to whom.
//!
//! A connection ends as its other side does: FIN becomes FIN in each direction by itself, a reset or
//! a lost session becomes a reset, so neither side takes cut data for whole.
//! Bound: `connections_max` at once; each costs two buffers of 64 KiB and one socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ringway_client::{
    Client, Config, ConnectError, Identity, RelayAddress, RouteStream, SessionState, SessionStatus,
    Stream,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval, timeout};

use super::progress::Progress;
use super::runtime::Signals;
use crate::failure::Failure;
use crate::output::bytes_text;

/// A client, and the connections that run over it.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// The client.
    pub(super) client: Client,
    /// The line on the terminal.
    pub(super) progress: Progress,
    counters: Arc<Counters>,
    permits: Arc<Semaphore>,
    connections_max: u32,
}

/// Permission for one connection.
#[derive(Debug)]
pub(super) struct Pass {
    _permit: OwnedSemaphorePermit,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    to_tcp_bytes: AtomicU64,
    from_tcp_bytes: AtomicU64,
}

impl Tunnel {
    /// Starts a client; its sessions are made in the background.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] without relays. A relay that does not answer is no error: it is tried again.
    pub(super) fn start(
        identity: impl Into<Identity>,
        relays: &[RelayAddress],
        connections_max: u32,
    ) -> Result<Self, Failure> {
        start_logs();
        let config = Config::new(relays.iter().copied());
        let client = Client::start(identity, config).map_err(|error| match error {
            ConnectError::LocalNoRelay => Failure::Usage(format!("{error}; name one with --relay")),
            error => Failure::Usage(error.to_string()),
        })?;
        let permits = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self {
            client,
            progress: Progress::start(),
            counters: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
            connections_max,
        })
    }

    /// Waits for permission to take one more connection.
    pub(super) async fn pass(&self) -> Pass {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await {
                self.counters.connections.fetch_add(1, Ordering::Relaxed);
                return Pass {
                    _permit: permit,
                    counters: Arc::clone(&self.counters),
                };
            }
            // The semaphore is never closed, so this is never reached.
            tokio::task::yield_now().await;
        }
    }

    /// Tells people how the sessions and connections stand, for ever.
    pub(super) async fn watch(&self) {
        let mut watch = self.client.watch();
        let mut ticks = interval(SHOW_INTERVAL);
        let mut logs = interval(LOG_INTERVAL);
        logs.reset();
        let mut is_up: Vec<bool> = self.client.status().iter().map(|_| true).collect();
        loop {
            let statuses = Arc::clone(&watch.borrow_and_update());
            for (status, is_up) in statuses.iter().zip(&mut is_up) {
                self.tell(status, is_up);
            }
            if !self.progress.is_hidden() {
                self.progress.show(self.line(&statuses));
            }
            tokio::select! {
                _ = watch.changed() => {}
                _ = ticks.tick(), if !self.progress.is_hidden() => {}
                _ = logs.tick() => self.log(),
            }
        }
    }

    /// Waits for open connections after the first signal, at most until the second one or
    /// `timeout`, and says goodbye to the relays.
    pub(super) async fn finish(&self, signals: &mut Signals, drain_timeout: Duration) {
        let all = self.permits.acquire_many(self.connections_max);
        tokio::select! {
            _ = timeout(drain_timeout, all) => {}
            () = signals.next() => {}
        }
        self.log();
        // A third signal during the goodbye ends it; the kernel closes what is left.
        tokio::select! {
            () = self.client.close() => {}
            () = signals.next() => {}
        }
        self.progress.end();
    }

    /// Logs what the client has counted.
    fn log(&self) {
        tracing::debug!(stats = %self.client.stats(), "client");
    }

    /// Notes a session that went away or came back: the changes, not every attempt.
    fn tell(&self, status: &SessionStatus, is_up: &mut bool) {
        let relay = status.relay.socket;
        match (status.state, *is_up) {
            (SessionState::Waiting { .. }, true) => {
                *is_up = false;
                let why = status.error.as_ref().map_or_else(
                    || "session ended".to_owned(),
                    |error| crate::failure::chain(error.as_ref()),
                );
                self.progress
                    .note(&format!("ringway: relay {relay}: {why}; trying again"));
            }
            (SessionState::Ready, false) => {
                *is_up = true;
                self.progress
                    .note(&format!("ringway: relay {relay}: connected again"));
            }
            _ => {}
        }
    }

    fn line(&self, statuses: &[SessionStatus]) -> String {
        let up = statuses
            .iter()
            .filter(|status| status.state.is_ready())
            .count();
        let max = usize::try_from(self.connections_max).unwrap_or(usize::MAX);
        format!(
            "relays {up}/{} | connections {} open, {} in all | in {} | out {}",
            statuses.len(),
            max.saturating_sub(self.permits.available_permits()),
            self.counters.connections.load(Ordering::Relaxed),
            bytes_text(self.counters.to_tcp_bytes.load(Ordering::Relaxed)),
            bytes_text(self.counters.from_tcp_bytes.load(Ordering::Relaxed)),
        )
    }
}

impl Pass {
    /// Joins a TCP connection and a stream until both directions have ended.
    ///
    /// # Errors
    ///
    /// What broke the connection; both sides are reset then.
    pub(super) async fn join(self, tcp: TcpStream, mut stream: impl Far) -> io::Result<()> {
        let mut counted = Counted {
            tcp,
            counters: &self.counters,
        };
        let outcome = match counted.tcp.set_nodelay(true) {
            Ok(()) => {
                copy_bidirectional_with_sizes(&mut counted, &mut stream, COPY_BYTES, COPY_BYTES)
                    .await
            }
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            reset(&counted.tcp);
            stream.reset();
        }
        outcome.map(drop)
    }
}

/// The other end of a connection: a stream over a relay or over a route.
pub(super) trait Far: AsyncRead + AsyncWrite + Unpin {
    /// Ends it at once: the other side gets an error.
    fn reset(&mut self);
}

impl Far for Stream {
    fn reset(&mut self) {
        Self::reset(self);
    }
}

impl Far for RouteStream {
    fn reset(&mut self) {
        Self::reset(self);
    }
}

/// Logs to standard error for who asks for it with `RINGWAY_LOG`, such as `RINGWAY_LOG=debug`.
pub(super) fn start_logs() {
    if std::env::var_os(LOG_VARIABLE).is_some() {
        let logs = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_env(LOG_VARIABLE))
            .with_writer(io::stderr);
        // It fails only when logs have been started, and then they are there.
        drop(logs.try_init());
    }
}

/// Makes the close of a connection a reset, so that its other side does not take it for an end.
pub(super) fn reset(tcp: &TcpStream) {
    // A socket that cannot be told is closed by the kernel in the ordinary way.
    drop(SockRef::from(tcp).set_linger(Some(Duration::ZERO)));
}

/// A TCP connection whose bytes are counted as they pass.
#[derive(Debug)]
struct Counted<'a> {
    tcp: TcpStream,
    counters: &'a Counters,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(context, buffer);
        let count = u64::try_from(buffer.filled().len() - before).unwrap_or(0);
        self.counters
            .from_tcp_bytes
            .fetch_add(count, Ordering::Relaxed);
        outcome
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = outcome {
            let count = u64::try_from(count).unwrap_or(0);
            self.counters
                .to_tcp_bytes
                .fetch_add(count, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// Smallest and largest number of connections at once.
pub(super) const CONNECTIONS_RANGE: std::ops::RangeInclusive<i64> = 1..=65_535;

/// Connections at once by default: 128 MiB of buffers.
pub(super) const CONNECTIONS_MAX: u32 = 1_024;

/// Buffer of each direction of a connection: four records of the default size.
const COPY_BYTES: usize = 65_536;

/// Says what is logged, as `log.level` of a relay does.
pub(super) const LOG_VARIABLE: &str = "RINGWAY_LOG";

/// Time between two lines of counters in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Time between two updates of the line on the terminal.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);
