//! One setup, from its permit to its answer.
//!
//! Here: the order of the phases, the deadline, taking back. Not here: what the rules are (`plan`), the streams
//! (`hops`), who may begin (`gate`).
//!
//! ```text
//!   reserve on all hops at once --> rules of the hops between at once --> rule of the destination --> done
//!            |                              |                                    |
//!            '------------ one fails, or the deadline ---------------------------'
//!                                           v
//!                    hear who still reserves, release on all that have, refuse
//! ```
//!
//! Invariant: after a refusal no hop that answers holds an id of the setup. One that does not answer forgets it
//! by itself after `ROUTE_RESERVE_TIME`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ringway_client::{PublicKey, Reason};
use ringway_proto::route::{HopReply, HopRequest, Refusal, RouteId, Rule, SetUp, SetupReply};
use tokio::time::{Instant, timeout_at};

use super::hops::{HopError, Hops};
use super::numbers::{Numbers, Phase};
use super::plan::Plan;

/// What the hops hold for one setup.
pub(super) type Reserved = BTreeMap<PublicKey, Vec<RouteId>>;

/// Sets up the routes of `source`; what was reserved comes back with the answer, for whoever finds that nobody
/// takes it.
pub(super) async fn set_up(
    hops: &Hops,
    numbers: &Numbers,
    (source, request): (PublicKey, &SetUp),
    deadline: Instant,
) -> (SetupReply, Reserved) {
    let plan = Plan::new(source, request);
    let mut reserved = Reserved::new();
    match phases(hops, numbers, &plan, &mut reserved, deadline).await {
        Ok(forward_id) => {
            let reply = SetupReply::SetUp {
                forward_id,
                keep_alive_ms: request.keep_alive_ms(),
            };
            (reply, reserved)
        }
        Err(refusal) => {
            undo(hops, numbers, std::mem::take(&mut reserved)).await;
            (SetupReply::Refused(refusal), reserved)
        }
    }
}

async fn phases(
    hops: &Hops,
    numbers: &Numbers,
    plan: &Plan<'_>,
    reserved: &mut Reserved,
    deadline: Instant,
) -> Result<RouteId, Refusal> {
    let begun = Instant::now();
    let counts: BTreeMap<PublicKey, u8> = plan.counts().collect();
    let asks = counts
        .iter()
        .map(|(hop, count)| (*hop, HopRequest::Reserve { count: *count }));
    let outcome = ask_all(hops, asks, deadline, |hop, reply| match reply {
        HopReply::Reserved { ids } => {
            let want = counts.get(&hop).copied().unwrap_or_default();
            let is_enough = ids.len() == usize::from(want) && !ids.contains(&RouteId::NONE);
            reserved.insert(hop, ids);
            match is_enough {
                true => Ok(()),
                false => Err(wrong(hop, "has not reserved what it was asked for")),
            }
        }
        reply => unexpected(hop, reply),
    });
    outcome.await.map_err(|(refusal, silent)| {
        for _ in 0..silent {
            numbers.undone_blindly.add();
        }
        refusal
    })?;
    numbers.record(Phase::Reserve, begun.elapsed());

    let begun = Instant::now();
    let rules = plan
        .rules(reserved)
        .ok_or_else(|| Refusal::new(Reason::NoRoute, "the hops have not reserved enough ids"))?;
    let add = |(hop, rules): (PublicKey, Vec<Rule>)| (hop, HopRequest::AddRules { rules });
    let destination = plan.destination();
    for asks in [
        rules.between.into_iter().map(add).collect::<Vec<_>>(),
        vec![add((destination, rules.destination))],
    ] {
        let outcome = ask_all(hops, asks.into_iter(), deadline, |hop, reply| match reply {
            HopReply::Done => Ok(()),
            reply => unexpected(hop, reply),
        });
        outcome.await.map_err(|(refusal, _)| refusal)?;
    }
    numbers.record(Phase::Rules, begun.elapsed());
    Ok(rules.forward_id)
}

/// Asks hops at once and takes their answers. After the first failure it only hears the rest, for a while.
///
/// # Errors
///
/// The first failure, and how many hops had not answered in the end.
async fn ask_all(
    hops: &Hops,
    asks: impl Iterator<Item = (PublicKey, HopRequest)>,
    deadline: Instant,
    mut take: impl FnMut(PublicKey, HopReply) -> Result<(), Refusal>,
) -> Result<(), (Refusal, usize)> {
    let mut silent: Vec<PublicKey> = Vec::new();
    let mut under_way = FuturesUnordered::new();
    for (hop, request) in asks {
        silent.push(hop);
        under_way.push(async move { (hop, hops.ask(hop, request).await) });
    }
    let mut failure: Option<Refusal> = None;
    let mut until = deadline;
    loop {
        let (hop, answer) = match timeout_at(until, under_way.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(_) => {
                let late = silent.first().copied();
                failure.get_or_insert_with(|| {
                    let refusal = Refusal::new(Reason::RouteTimeout, "does not answer in time");
                    late.into_iter().fold(refusal, Refusal::with_hop)
                });
                break;
            }
        };
        silent.retain(|other| *other != hop);
        let outcome = match answer {
            Ok(reply) => take(hop, reply),
            Err(error) => {
                // It has nothing, or forgets it by itself.
                Err(unreachable(hop, &error))
            }
        };
        if let Err(refusal) = outcome
            && failure.is_none()
        {
            failure = Some(refusal);
            until = until.min(Instant::now() + UNDO_TIME);
        }
    }
    match failure {
        Some(refusal) => Err((refusal, silent.len())),
        None => Ok(()),
    }
}

/// Has the hops forget what they hold, as far as they answer.
pub(super) async fn undo(hops: &Hops, numbers: &Numbers, reserved: Reserved) {
    if reserved.is_empty() {
        return;
    }
    let begun = Instant::now();
    let asks = reserved
        .into_iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(hop, ids)| (hop, HopRequest::Release { ids }));
    let outcome = ask_all(hops, asks, begun + UNDO_TIME, |_, _| Ok(())).await;
    if let Err((refusal, silent)) = outcome {
        tracing::debug!(%refusal, silent, "a hop was not told to forget a route");
        for _ in 0..silent.max(1) {
            numbers.undone_blindly.add();
        }
    }
    numbers.record(Phase::Undo, begun.elapsed());
}

fn unexpected(hop: PublicKey, reply: HopReply) -> Result<(), Refusal> {
    match reply {
        HopReply::Refused(refusal) => {
            Err(Refusal::new(Reason::HopRefused, &refusal.to_string()).with_hop(hop))
        }
        HopReply::Done | HopReply::Reserved { .. } => {
            Err(wrong(hop, "answers something else than it was asked"))
        }
    }
}

fn wrong(hop: PublicKey, message: &str) -> Refusal {
    Refusal::new(Reason::HopRefused, message).with_hop(hop)
}

fn unreachable(hop: PublicKey, error: &HopError) -> Refusal {
    Refusal::new(Reason::HopUnreachable, &error.to_string()).with_hop(hop)
}

/// Longest time that a setup which has failed spends on what it leaves behind.
const UNDO_TIME: Duration = Duration::from_secs(1);
