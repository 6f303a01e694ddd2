//! Has a session with one relay whenever the relay needs one.
//!
//! Here: making a session, measuring, letting it go, pausing, again. Not here: what happens on it, and
//! which relays need one (`inner`).
//!
//! ```text
//!   OnDemand -- needed --> Connecting --- admitted ---> Ready -- not needed, idle --> OnDemand
//!                 not needed |     ^                      |
//!   OnDemand <---------------|   pause over, needed     ended, or the relay takes no new streams
//!                          error   |                      |
//!                            '-> Waiting <----------------'  (the old session's last streams go on)
//! ```
//!
//! Bound: one attempt at a time; pauses as `backoff` says, at least what the relay asked for.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::limits::RECORD_PAYLOAD_MAX;
use ringway_proto::peer::{MuxConfig, PeerConfig, PeerSession};
use ringway_proto::time::Now;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::config::RelayAddress;
use crate::error::SessionError;
use crate::inner::Inner;
use crate::inside::Socket;
use crate::session::{Driver, Session, SessionParts, unix_time_ns};
use crate::status::SessionState;

/// A session that stands, not yet in service.
struct Made {
    session: Arc<Session>,
    driver: Driver<Socket>,
    over: oneshot::Receiver<()>,
}

/// How a session that stood came to its end.
enum End {
    /// The relay ended it, or takes no new streams.
    Lost(Arc<SessionError>),
    /// It was let go.
    Reaped,
    /// The client was closed.
    Stopped,
}

/// Has a session with `relay` when it needs one, until the client is closed.
pub(crate) async fn supervise(inner: Arc<Inner>, index: usize, relay: RelayAddress) {
    tokio::select! {
        biased;
        () = inner.stopped() => {}
        () = keep(&inner, index, relay) => {}
    }
    inner.set_state(index, SessionState::Closed);
}

/// Makes sessions for ever, or until the client is closed between two steps.
async fn keep(inner: &Arc<Inner>, index: usize, relay: RelayAddress) {
    let mut backoff = Backoff::new(inner.config.backoff_min, inner.config.backoff_max);
    let mut failures_count: u32 = 0;
    loop {
        if !inner.is_needed(index) {
            inner.set_state(index, SessionState::OnDemand);
            inner.until_needed(index, true).await;
        }
        inner.set_state(index, SessionState::Connecting);
        let made = tokio::select! {
            made = make(inner, relay) => made,
            () = inner.until_needed(index, false) => continue,
        };
        let error = match made {
            Ok(made) => {
                tracing::debug!(%relay, "session stands");
                let since = Instant::now();
                let end = serve(inner, index, made).await;
                failures_count = 0;
                if since.elapsed() >= STOOD_MIN || matches!(end, End::Reaped) {
                    backoff.reset();
                }
                match end {
                    End::Lost(error) => error,
                    End::Reaped => {
                        tracing::debug!(%relay, "session let go");
                        continue;
                    }
                    End::Stopped => return,
                }
            }
            Err(error) => error,
        };
        failures_count = failures_count.saturating_add(1);
        if error.is_lasting() {
            backoff.saturate();
        }
        let asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
        let pause = asked + backoff.pause(random_u32());
        tracing::debug!(%relay, %error, ?pause, "no session with the relay");
        let state = SessionState::Waiting {
            failures_count,
            pause,
        };
        inner.failed(index, state, error);
        sleep(pause).await;
    }
}

/// Puts a session into service and waits until it takes no new streams.
async fn serve(inner: &Arc<Inner>, index: usize, made: Made) -> End {
    let Made {
        session,
        driver,
        over,
    } = made;
    if !inner.adopt(index, &session) {
        return End::Stopped;
    }
    let (owner, driven) = (Arc::clone(inner), Arc::clone(&session));
    tokio::spawn(async move {
        driver.run().await;
        owner.forget(&driven);
    });
    tokio::select! {
        biased;
        // The sender is in the session and speaks before it goes.
        _ = over => End::Lost(
            session
                .error()
                .unwrap_or_else(|| Arc::new(SessionError::LocalClosed)),
        ),
        () = reap(inner, index, &session) => End::Reaped,
        never = measure(inner, index, &session) => match never {},
    }
}

/// Lets the session go once it is not needed and idle.
async fn reap(inner: &Inner, index: usize, session: &Arc<Session>) {
    loop {
        inner.until_needed(index, false).await;
        match inner.try_reap(index, session) {
            Ok(()) => return,
            Err(pause) => sleep(pause).await,
        }
    }
}

/// Measures the round trip to the relay from time to time.
async fn measure(inner: &Inner, index: usize, session: &Arc<Session>) -> Infallible {
    let mut pings_count = FIRST_PINGS;
    loop {
        let mut shortest: Option<Duration> = None;
        for _ in 0..pings_count {
            if let Ok(Ok(rtt)) = timeout(PING_TIMEOUT, session.ping()).await {
                shortest = Some(shortest.map_or(rtt, |before| before.min(rtt)));
            }
        }
        if let Some(rtt) = shortest {
            inner.measured(index, rtt);
        }
        pings_count = 1;
        sleep(inner.config.keepalive_interval.max(MEASURE_INTERVAL_MIN)).await;
    }
}

/// Connects and shakes hands, within the handshake timeout in all.
async fn make(inner: &Arc<Inner>, relay: RelayAddress) -> Result<Made, Arc<SessionError>> {
    let limit = inner.config.handshake_timeout;
    let started = Instant::now();
    let socket = timeout(limit, connect(inner, relay))
        .await
        .map_err(|_| SessionError::RelayConnectTimeout(limit))?
        .map_err(SessionError::RelayUnreachable)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(SessionError::LocalRandom)?;
    let config = peer_config(inner, limit.saturating_sub(started.elapsed()));
    let identity = inner.identity.clone();
    let peer = PeerSession::connect(identity, relay.key, config, random, Now::ZERO)
        .map_err(SessionError::RelayProtocol)?;
    let (over, when_over) = oneshot::channel();
    let session = Session::new(SessionParts {
        relay,
        epoch: Instant::now(),
        peer,
        listeners: Arc::clone(&inner.listeners),
        handshake_timeout: limit,
        record_payload_max: inner.record_payload_max().clamp(1, RECORD_PAYLOAD_MAX),
        over,
    });
    let mut driver = Driver::new(Arc::clone(&session), socket);
    driver.run_until_ready().await?;
    Ok(Made {
        session,
        driver,
        over: when_over,
    })
}

async fn connect(inner: &Inner, relay: RelayAddress) -> io::Result<Socket> {
    if let Some(inside) = &inner.config.inside {
        return inside.connect().map(Socket::Pair);
    }
    let socket = TcpStream::connect(relay.socket).await?;
    socket.set_nodelay(true)?;
    Ok(Socket::Tcp(socket))
}

fn peer_config(inner: &Inner, handshake_timeout: Duration) -> PeerConfig {
    let config = &inner.config;
    let defaults = PeerConfig::new(unix_time_ns().unwrap_or_default());
    PeerConfig {
        mux: MuxConfig {
            streams_max: config.streams_max,
            window_max: config.window_max,
            ..defaults.mux
        },
        incoming_pending_max: INCOMING_PENDING_MAX,
        handshake_timeout,
        keepalive_interval: config.keepalive_interval,
        ..defaults
    }
}

/// Returns four random bytes for the jitter, zeros if the system has none.
fn random_u32() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// Pings of a new session, of which the shortest counts: the first may wait for the handshakes of
/// other sessions.
const FIRST_PINGS: u32 = 3;

/// A relay that answers later is not measured.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest time between two measurements: each is a packet on a link that may be metered.
const MEASURE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Opens that may wait inside the proto session: more than one read of the socket can hold. They are
/// answered right after it.
const INCOMING_PENDING_MAX: u32 = 1_024;

/// A session that stood this long was no failure: the next pause is short again.
const STOOD_MIN: Duration = Duration::from_secs(10);

/// Longest pause that a relay may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
