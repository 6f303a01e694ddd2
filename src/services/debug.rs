//! Pages on which an operator looks into a running relay.
//!
//! Here: the routes, what their queries may say, and the answers to those that say something else. Not here:
//! what the pages say, and the listener: it must let in nobody but the operator.
//!
//! Nothing here touches the data plane but by asking the shards for snapshots, and by the signals of the
//! profile. A page whose making takes long is made on a thread that may wait.

pub(crate) mod cpu;
mod encode;
mod heap;
mod histograms;
mod shards;

use std::collections::BTreeMap;
use std::fmt::Display;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::control::pages::{self, Pages};

/// The parameters of a request, by name.
type Parameters = BTreeMap<String, String>;

/// Returns the pages.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/debug", get(|| async { INDEX }))
        .route("/debug/heap", get(heap_page))
        .route("/debug/histograms", get(histograms_page))
        .route("/debug/pprof/heap", get(heap_profile_page))
        .route("/debug/pprof/profile", get(profile_page))
        .route("/debug/shards", get(shards_page))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(pages)
}

async fn profile_page(Query(parameters): Query<Parameters>) -> Response {
    let wanted = match cpu::Wanted::of(&parameters) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    match cpu::profile(wanted).await {
        Ok(profile) => download("ringway-cpu.pb.gz", profile),
        Err(error @ cpu::CpuError::LocalBusy) => refuse(StatusCode::CONFLICT, error),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

async fn heap_profile_page(State(pages): State<Pages>) -> Response {
    let status = match std::fs::read_to_string(STATUS) {
        Ok(status) => status,
        Err(error) => {
            let why = format_args!("{STATUS}: {error}");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, why);
        }
    };
    let shards = pages::view(pages.shards).await;
    match heap::profile(&shards, &heap::document(&status)) {
        Ok(profile) => download("ringway-heap.pb.gz", profile),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Returns a file for a program that reads it.
fn download(name: &str, bytes: Vec<u8>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, bytes).into_response()
}

async fn heap_page() -> Response {
    match std::fs::read_to_string(STATUS) {
        Ok(status) => axum::Json(heap::document(&status)).into_response(),
        Err(error) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            format_args!("{STATUS}: {error}"),
        ),
    }
}

async fn shards_page(State(pages): State<Pages>, Query(parameters): Query<Parameters>) -> Response {
    let count = pages.shards.shards_count();
    let shards = pages::view(pages.shards).await;
    match parameters.get("text").map(String::as_str) {
        None | Some("0") => axum::Json(shards::document(&shards, count)).into_response(),
        Some("1") => shards::text(&shards).into_response(),
        Some(other) => refuse(
            StatusCode::BAD_REQUEST,
            format_args!("text={other}: 0 or 1 is possible"),
        ),
    }
}

async fn histograms_page(
    State(pages): State<Pages>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let wanted = match histograms::Wanted::of(&parameters) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let shards = pages::view(pages.shards).await;
    let relay = &pages.relay;
    let length = relay.started_at.elapsed();
    let sources = histograms::Sources {
        shards: &shards,
        setups: &pages.services.setups,
    };
    match histograms::text(wanted, sources, relay.started, length) {
        Some(text) => text.into_response(),
        None => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "no shard has answered: ask again",
        ),
    }
}

fn refuse(status: StatusCode, why: impl Display) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// What the kernel says of the process (`proc_pid_status(5)`).
const STATUS: &str = "/proc/self/status";

const INDEX: &str = "Ringway relay, debug pages\n\
    /debug/heap           memory of the process, JSON\n\
    /debug/histograms     ?format=hlog, or ?format=hgrm&name=handshake, open, setup, setup_wait, ...\n\
    /debug/pprof/heap     memory by owner, for `go tool pprof` and speedscope\n\
    /debug/pprof/profile  ?seconds=10&hz=99: CPU profile for `go tool pprof` and speedscope\n\
    /debug/shards         tables, queues and stalled turns of each shard, JSON; ?text=1 a table\n";

#[cfg(test)]
mod tests;
