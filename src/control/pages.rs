//! The pages that tell what the relay is and does, read-only.
//!
//! Here: the routes. The same ones are served on the admin endpoint (`admin`) and over the overlay, on port
//! 80 of the relay's key (`services`). Not here: what the pages say (`health`, `metrics`, `histograms`).
//!
//! Nothing here names a peer: whoever has a session may read them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::health::{self, Health, RegistryState};
use super::histograms::Histograms;
use super::{Relay, Shards, metrics};
use crate::services::Shared;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    /// The relay.
    pub(crate) relay: Arc<Relay>,
    /// Its shards.
    pub(crate) shards: Arc<dyn Shards>,
    /// What its services share.
    pub(crate) services: Arc<Shared>,
}

/// Returns the pages.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/health", get(health_page))
        .route("/histograms", get(histograms_page))
        .route("/metrics", get(metrics_page))
        .route("/api", get(|| async { axum::Json(API) }))
        .route("/api/limits", get(limits_page))
        .route("/api/registry", get(registry_page))
        .route("/api/shards", get(shards_page))
        .route("/api/shards/{shard}", get(shard_page))
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
    let Pages {
        relay,
        shards,
        services,
    } = pages;
    let shards_count = shards.shards_count();
    let (view, round_trips) = tokio::join!(view(shards), services.probes.round_trips());
    health::health(&relay, &view, shards_count, &round_trips)
}

async fn histograms_page(State(pages): State<Pages>) -> impl IntoResponse {
    let shards = view(pages.shards).await;
    axum::Json(Histograms::of(&shards, &pages.services.setups))
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    let Pages {
        relay,
        shards,
        services,
    } = pages;
    let uptime_s = relay.started_at.elapsed().as_secs();
    let registry = relay.registry.as_ref().map(|view| &*view.numbers);
    let discoveries = relay.discoveries.as_ref().map(|all| &*all.numbers);
    let page = metrics::page(
        &view(shards).await,
        (registry, discoveries, &services),
        uptime_s,
        relay.is_draining(),
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        page,
    )
}

async fn limits_page(State(pages): State<Pages>) -> impl IntoResponse {
    axum::Json(health::limits(&pages.relay))
}

async fn registry_page(State(pages): State<Pages>) -> Response {
    match &pages.relay.registry {
        Some(view) => axum::Json(RegistryState::from(view)).into_response(),
        None => missing("this relay has no registry (mesh.registry)".to_owned()),
    }
}

async fn shards_page(State(pages): State<Pages>) -> impl IntoResponse {
    axum::Json(snapshot(pages).await.shards)
}

async fn shard_page(State(pages): State<Pages>, Path(number): Path<String>) -> Response {
    let count = pages.shards.shards_count();
    let shards = snapshot(pages).await.shards;
    let mut shards = shards.into_iter();
    match shards.find(|shard| shard.shard.to_string() == number) {
        Some(shard) => axum::Json(shard).into_response(),
        None => missing(format!(
            "there is no shard {number:?}, or it does not answer: expected a number below {count}"
        )),
    }
}

/// Why a page of the API has nothing to show.
#[derive(Debug, Serialize)]
struct Problem {
    error: String,
}

fn missing(error: String) -> Response {
    (StatusCode::NOT_FOUND, axum::Json(Problem { error })).into_response()
}

/// Asks the shards on a thread that may wait.
pub(crate) async fn view(shards: Arc<dyn Shards>) -> Vec<super::ShardView> {
    let asked = tokio::task::spawn_blocking(move || shards.view()).await;
    // It fails only when the runtime ends, and then nobody reads the answer.
    asked.unwrap_or_default()
}

const INDEX: &str = "Ringway relay\n/health      state, JSON\n/histograms  latencies, HdrHistogram in JSON\n/metrics     counters, Prometheus text\n/api         parts of the state, JSON\n";

/// Pages of the API.
const API: [&str; 4] = [
    "/api/limits",
    "/api/registry",
    "/api/shards",
    "/api/shards/NUMBER",
];
