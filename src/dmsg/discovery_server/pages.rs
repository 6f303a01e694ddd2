//! Pages of a discovery for operators: `/health` and `/metrics`.
//!
//! Here: what they say. Not here: counting.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::api::Api;
use super::numbers::{Numbers, SHOWN};
use super::store::Store;
use crate::control::metrics::{heading, line, write_shown};
use crate::control::{COMMIT, VERSION};

/// What stays the same for the life of a discovery.
#[derive(Debug)]
pub(crate) struct About {
    /// When it started, for people.
    pub(crate) started: SystemTime,
    /// When it started, for the uptime.
    pub(crate) started_at: Instant,
    /// Where entries are, for people; no secret.
    pub(crate) store: String,
}

/// Returns the routes.
pub(super) fn routes<S: Store>() -> Router<Arc<Api<S>>> {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/health", get(health::<S>))
        .route("/metrics", get(metrics::<S>))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
}

/// State of a discovery. The first two fields are those that clients and monitors of dmsg read.
#[derive(Debug, Serialize)]
struct Health {
    build_info: BuildInfo,
    started_at: String,
    store: String,
    /// Whether the store answered when it was asked last, and keeps what it is told.
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    servers: u64,
    clients: u64,
}

#[derive(Debug, Serialize)]
struct BuildInfo {
    version: &'static str,
    commit: &'static str,
    date: &'static str,
}

async fn health<S: Store>(State(api): State<Arc<Api<S>>>) -> Response {
    let error = api.store.complaint();
    let health = Health {
        build_info: BuildInfo {
            version: VERSION,
            commit: COMMIT,
            date: "unknown",
        },
        started_at: humantime::format_rfc3339_seconds(api.about.started).to_string(),
        store: api.about.store.clone(),
        ready: error.is_none(),
        error,
        servers: api.numbers.servers.read(),
        clients: api.numbers.clients.read(),
    };
    // Entries are served whatever the file says: load balancers must not take the last discovery away.
    axum::Json(health).into_response()
}

async fn metrics<S: Store>(State(api): State<Arc<Api<S>>>) -> Response {
    let is_ready = api.store.complaint().is_none();
    let page = page(
        &api.numbers,
        api.about.started_at.elapsed().as_secs(),
        is_ready,
    );
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

fn page(numbers: &Numbers, uptime_s: u64, is_ready: bool) -> String {
    let mut out = String::with_capacity(8_192);
    let mut gauge = |name: &str, help: &str, value: u64| {
        heading(&mut out, name, help, "gauge");
        line(&mut out, format_args!("{name} {value}"));
    };
    gauge("ringway_uptime_seconds", "Time since the start.", uptime_s);
    gauge(
        "ringway_discovery_store_ready",
        "1 while the store answers and keeps what it is told.",
        is_ready.into(),
    );
    // What dashboards of dmsg show.
    let (servers, clients) = (numbers.servers.read(), numbers.clients.read());
    gauge(
        "dmsg_discovery_servers_count",
        "Servers that stand.",
        servers,
    );
    gauge(
        "dmsg_discovery_clients_count",
        "Clients that stand.",
        clients,
    );
    write_shown(&mut out, SHOWN, numbers);
    out
}

const INDEX: &str = "\
Ringway discovery for dmsg
/dmsg-discovery/entry/KEY          an entry; POST to .../entry/ writes, DELETE of .../entry deletes one
/dmsg-discovery/entries            keys of clients
/dmsg-discovery/visorEntries       keys of visors
/dmsg-discovery/available_servers  servers that take sessions
/dmsg-discovery/all_servers        all servers
/health                            state, JSON
/metrics                           counters, Prometheus text
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_every_number_once() {
        let numbers = Numbers::default();
        numbers.servers.set(7);
        let page = page(&numbers, 3, true);
        for shown in SHOWN {
            let start = format!("{} ", shown.name);
            let rows = page.lines().filter(|line| line.starts_with(&start));
            assert_eq!(rows.count(), 1, "{}", shown.name);
        }
        assert!(
            page.contains("\ndmsg_discovery_servers_count 7\n"),
            "{page}"
        );
        assert!(page.contains("\nringway_discovery_store_ready 1\n"));
    }
}
