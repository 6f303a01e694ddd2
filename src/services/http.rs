//! HTTP/1.1 over streams to the relay's key.
//!
//! Here: how many at once, how long a silent one may stay. Not here: who gets in (`door`), the pages
//! (`control::pages`), HTTP itself (hyper).
//!
//! Bound: [`STREAMS_MAX`] streams of one port and shard, [`HEAD_TIME`] for a request's head,
//! [`HEAD_BYTES_MAX`] for it; what is written waits in the stream's window.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ringway_client::Stream;
use tokio::sync::watch;

use super::door::{Door, Visit};
use super::{Stage, at_least};

/// Serves the pages until the relay drains; then what has begun is finished.
pub(super) async fn serve(door: Door, router: Router, stage: watch::Receiver<Stage>) {
    let talk = move |stream, visit, stage| connection(stream, visit, router.clone(), stage);
    door.serve(STREAMS_MAX, stage, talk).await;
}

/// One stream, from its first request to its end.
async fn connection(
    stream: Stream,
    visit: Visit,
    router: Router,
    mut stage: watch::Receiver<Stage>,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = at_least(&mut stage, Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, peer = %visit.key(), "HTTP over a stream ended");
    }
}

/// Streams that one port of one shard serves at once; more wait, and past the backlog are refused (305).
const STREAMS_MAX: usize = 256;

/// Longest time for the head of a request, the pause before it included.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Bytes of a request's head, and of what is read or written at once; hyper wants at least 8 KiB.
const HEAD_BYTES_MAX: usize = 16_384;
