//! The admin endpoint: HTTP on an address of the operator's choice, read-only.
//!
//! Here: the routes, and the reader that `ringway status` uses. Not here: what the pages say.
//!
//! It runs on the control thread; a slow or hostile HTTP client delays other HTTP clients, never the
//! data plane.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::health::{self, Health};
use super::histograms::Histograms;
use super::{Relay, Shards, metrics};
use crate::failure::Failure;

/// What the pages are made from.
#[derive(Clone)]
struct Pages {
    relay: Arc<Relay>,
    shards: Arc<dyn Shards>,
}

/// Binds the endpoint, so that a taken address is known before anything else starts.
///
/// # Errors
///
/// [`Failure::Host`] with the address and the flag that changes it.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Failure::listen(address, "--admin ADDRESS:PORT (or off)", error))
}

/// Serves until the future is dropped.
///
/// # Errors
///
/// The I/O error that ended it.
pub(crate) async fn serve(
    listener: TcpListener,
    relay: Arc<Relay>,
    shards: Arc<dyn Shards>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router(Pages { relay, shards })).await
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/health", get(health_page))
        .route("/histograms", get(histograms_page))
        .route("/metrics", get(metrics_page))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(pages)
}

async fn health_page(State(pages): State<Pages>) -> Response {
    let health = snapshot(pages).await;
    // Load balancers look at the status alone: a relay that drains or counts wrongly is not healthy.
    let status = match health.ready && health.consistency.ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, axum::Json(health)).into_response()
}

async fn snapshot(pages: Pages) -> Health {
    let Pages { relay, shards } = pages;
    let shards_count = shards.shards_count();
    health::health(&relay, &view(shards).await, shards_count)
}

async fn histograms_page(State(pages): State<Pages>) -> impl IntoResponse {
    axum::Json(Histograms::of(&view(pages.shards).await))
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    let Pages { relay, shards } = pages;
    let uptime_s = relay.started_at.elapsed().as_secs();
    let registry = relay.registry.as_ref().map(|view| &*view.numbers);
    let page = metrics::page(&view(shards).await, registry, uptime_s, relay.is_draining());
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        page,
    )
}

/// Asks the shards on a thread that may wait.
pub(crate) async fn view(shards: Arc<dyn Shards>) -> Vec<super::ShardView> {
    let asked = tokio::task::spawn_blocking(move || shards.view()).await;
    // It fails only when the runtime ends, and then nobody reads the answer.
    asked.unwrap_or_default()
}

/// Asks a relay's admin endpoint for its health.
///
/// # Errors
///
/// [`Failure::Host`] when it does not answer, [`Failure::Check`] when the answer is not a relay's.
pub(crate) fn fetch(address: SocketAddr) -> Result<Health, Failure> {
    let body = request(address).map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                ": no relay has its admin endpoint there. Start one with `ringway serve`, or name \
                 the address with --admin"
            }
            _ => "",
        };
        Failure::host(format!("cannot ask {address}{fix}"), error)
    })?;
    serde_json::from_str(&body).map_err(|error| {
        Failure::host(
            format!("{address} answers, but not as a relay does: name another with --admin"),
            error,
        )
    })
}

fn request(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, FETCH_TIMEOUT)?;
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    stream.set_write_timeout(Some(FETCH_TIMEOUT))?;
    let head = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is no HTTP",
        )),
    }
}

/// Longest wait for one step of asking a relay on this host or network.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer that is read: 256 shards take under 1 MiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

const INDEX: &str = "Ringway relay\n/health      state, JSON\n/histograms  latencies, HdrHistogram in JSON\n/metrics     counters, Prometheus text\n";
