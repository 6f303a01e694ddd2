//! Telling relays which peers this one can reach.
//!
//! Here: measuring and announcing, again and again. Not here: what a relay's finder makes of it.
//!
//! Announced are the neighbours of the configuration and those with a packet stream, each when it answers a
//! ping. Half of the round trip is the latency. While the set changes it is announced often, later after a
//! third of the time for which it counts.
//! Bound: [`ROUTE_TRANSPORTS_MAX`] transports, [`PINGS_MAX`] pings at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::ROUTE_TRANSPORTS_MAX;
use ringway_proto::route::{Announce, SetupReply, SetupRequest, Transport};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::setup::ask_finder;
use super::shared::Shared;

/// Announces until the router is stopped.
pub(crate) async fn announce(shared: Arc<Shared>, neighbours: Vec<PublicKey>, ttl: Duration) {
    let mut known = BTreeSet::new();
    let mut pause = PAUSE_FIRST;
    loop {
        let round = async {
            let transports = measure(&shared, &neighbours).await;
            let reached: BTreeSet<_> = transports.iter().map(|one| one.peer).collect();
            for relay in &shared.announce_to {
                tell(&shared, *relay, transports.clone(), ttl).await;
            }
            // Neighbours that start at the same time are there soon.
            pause = if reached == known {
                pause * 2
            } else {
                PAUSE_FIRST
            };
            known = reached;
            pause = pause.min(ttl / TTL_PARTS);
            sleep(pause).await;
        };
        tokio::select! {
            () = round => {}
            () = shared.stopped() => return,
        }
    }
}

async fn tell(shared: &Arc<Shared>, relay: PublicKey, transports: Vec<Transport>, ttl: Duration) {
    let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
    let request = SetupRequest::Announce(Announce { transports, ttl_ms });
    match ask_finder(shared, relay, request).await {
        Ok(SetupReply::Announced { .. }) => {
            shared.with(|state, _| state.stats.announcements += 1);
        }
        Ok(_) => tracing::debug!(%relay, "a relay answered an announcement with something else"),
        Err(error) => tracing::debug!(%relay, %error, "a relay took no announcement"),
    }
}

async fn measure(shared: &Arc<Shared>, neighbours: &[PublicKey]) -> Vec<Transport> {
    let with_stream = shared.with(|state, _| state.neighbours.keys().copied().collect::<Vec<_>>());
    let all: BTreeSet<_> = neighbours.iter().copied().chain(with_stream).collect();
    let mut waiting = all.into_iter().take(ROUTE_TRANSPORTS_MAX);
    let mut pings = JoinSet::new();
    let mut transports = Vec::new();
    loop {
        while pings.len() < PINGS_MAX
            && let Some(peer) = waiting.next()
        {
            let client = shared.client.clone();
            pings.spawn(async move { (peer, client.ping(peer).await) });
        }
        let Some(done) = pings.join_next().await else {
            return transports;
        };
        if let Ok((peer, Ok(rtt))) = done {
            let latency_us = u32::try_from((rtt / 2).as_micros()).unwrap_or(u32::MAX);
            transports.push(Transport { peer, latency_us });
        }
    }
}

/// Says that nothing that was announced counts any more.
pub(crate) async fn withdraw(shared: &Arc<Shared>, relays: &[PublicKey]) {
    for relay in relays {
        if let Err(error) = ask_finder(shared, *relay, SetupRequest::Withdraw).await {
            tracing::debug!(%relay, %error, "a relay took no withdrawal");
        }
    }
}

/// Pause after an announcement of other peers than before; each one of the same peers doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// An announcement is renewed this often in its time.
const TTL_PARTS: u32 = 3;

/// Pings under way at a time.
const PINGS_MAX: usize = 16;
