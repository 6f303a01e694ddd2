//! Setting a path up, and finding another one when it is lost.
//!
//! Here: which paths are tried in what order. Not here: asking the relay (`setup`), noticing (`state`).
//!
//! The alternatives of the plan are tried first, then what the relay's finder knows without the hops of paths
//! that have failed, then with them: a hop may have been back in time. After the keep-alive time without a
//! path the group ends with [`RouteError::PathLost`].
//! Bound: one repair a group at a time, [`ROUTE_PATHS_MAX`] found paths a round, pauses that double.

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::{ROUTE_AVOID_MAX, ROUTE_PATHS_MAX};
use ringway_proto::route::check::check_path;
use ringway_proto::route::{Find, FindBy, FoundPath, GroupName, SetUp, SetupReply, SetupRequest};
use tokio::time::{Instant, sleep, timeout_at};

use super::RoutePath;
use super::error::RouteError;
use super::group::Path;
use super::setup::{ask, ask_finder};
use super::shared::Shared;
use super::state::random_u32;

/// What a group needs to get another path.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) relay: PublicKey,
    pub(crate) destination: PublicKey,
    pub(crate) ports: (u16, u16),
    pub(crate) keep_alive: Duration,
    pub(crate) first: RoutePath,
    pub(crate) alternatives: Vec<RoutePath>,
}

/// Sets a path up for a group and installs it.
pub(crate) async fn set_up(
    shared: &Arc<Shared>,
    name: GroupName,
    recipe: &Recipe,
    path: &RoutePath,
) -> Result<(), RouteError> {
    let result = try_set_up(shared, name, recipe, path).await;
    shared.with(|state, _| match &result {
        Ok(()) => state.stats.setups += 1,
        Err(error) => *state.stats.setups_failed.entry(error.code()).or_default() += 1,
    });
    result
}

async fn try_set_up(
    shared: &Arc<Shared>,
    name: GroupName,
    recipe: &Recipe,
    path: &RoutePath,
) -> Result<(), RouteError> {
    let key = shared.key();
    check_path("forward", &path.forward, &key, &recipe.destination)
        .and_then(|()| check_path("reverse", &path.reverse, &recipe.destination, &key))
        .map_err(RouteError::LocalPlan)?;
    let previous = path.reverse.iter().rev().nth(1).copied().unwrap_or(key);
    let next = path.forward.get(1).copied().unwrap_or(key);
    let own_id = shared
        .with(|state, _| state.table.own(name, previous, &mut random_u32))
        .map_err(RouteError::LocalPlan)?;
    let mut guard = OwnId {
        shared: Arc::clone(shared),
        id: Some(own_id),
    };
    let request = SetUp {
        destination: recipe.destination,
        forward: path.forward.clone(),
        reverse: path.reverse.clone(),
        source_port: recipe.ports.0,
        destination_port: recipe.ports.1,
        group: name,
        keep_alive_ms: u32::try_from(recipe.keep_alive.as_millis()).unwrap_or(0),
        reverse_id: own_id,
    };
    let reply = ask(shared, recipe.relay, SetupRequest::SetUp(request)).await?;
    let SetupReply::SetUp {
        forward_id,
        keep_alive_ms,
    } = reply
    else {
        return Err(RouteError::RelayProtocol(recipe.relay));
    };
    guard.id = None;
    let installed = Path {
        next,
        next_id: forward_id,
        own_id,
    };
    // A relay may want hops to forget sooner, never to keep what nobody asked it to keep.
    let keep_alive = Duration::from_millis(keep_alive_ms.into()).min(recipe.keep_alive);
    let terms = (path.forward.as_slice(), keep_alive);
    let is_there = shared.with(|state, fx| state.install_path(&name, installed, terms, fx));
    if is_there {
        Ok(())
    } else {
        Err(RouteError::LocalClosed)
    }
}

/// Gives the id of a way back to the table again, unless a path has it now.
struct OwnId {
    shared: Arc<Shared>,
    id: Option<ringway_proto::route::RouteId>,
}

impl Drop for OwnId {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.with(|state, _| state.table.release(id));
        }
    }
}

/// Finds another path for a group, or ends it.
pub(crate) async fn repair(shared: Arc<Shared>, name: GroupName) {
    let found = shared.with(|state, fx| {
        let group = state.groups.get(&name)?;
        // The other end waits as long, from when it heard something last.
        let silence = fx.now.saturating_since(group.flow.heard_at());
        let left = group.keep_alive.saturating_sub(silence);
        Some((group.recipe.clone()?, left.max(group.keep_alive / 2)))
    });
    let Some((recipe, left)) = found else {
        return;
    };
    let until = Instant::now() + left;
    let trying = try_paths(&shared, name, &recipe);
    let result = tokio::select! {
        result = timeout_at(until, trying) => result,
        () = shared.stopped() => Ok(Err(RouteError::LocalClosed)),
    };
    let error = match result {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => RouteError::PathLost(recipe.keep_alive),
    };
    shared.with(|state, fx| {
        state.stats.reroutes_failed += 1;
        let is_dropped = state.groups.get_mut(&name).is_some_and(|group| {
            group.fail(error, &mut fx.wakes);
            group.is_dropped
        });
        if is_dropped {
            state.dropped(&name, fx);
        }
    });
}

async fn try_paths(
    shared: &Arc<Shared>,
    name: GroupName,
    recipe: &Recipe,
) -> Result<(), RouteError> {
    let lost = shared.with(|state, _| {
        let group = state.groups.get(&name);
        group.map(|group| group.forward.clone()).unwrap_or_default()
    });
    let hops_of = |path: &[PublicKey]| -> Vec<PublicKey> {
        let between = path.len().saturating_sub(2);
        path.iter().skip(1).take(between).copied().collect()
    };
    let mut avoid = hops_of(&lost);
    let mut pause = PAUSE_FIRST;
    let mut round = 0_u32;
    loop {
        for path in candidates(shared, recipe, &avoid, (&lost, round)).await {
            match set_up(shared, name, recipe, &path).await {
                Ok(()) => return Ok(()),
                Err(RouteError::LocalClosed) => return Err(RouteError::LocalClosed),
                Err(error) => {
                    tracing::debug!(group = %name, %error, "a path cannot be set up");
                    if let RouteError::RelayRefused(refusal) = &error {
                        avoid.extend(refusal.hop.filter(|hop| !avoid.contains(hop)));
                        avoid.truncate(ROUTE_AVOID_MAX);
                    }
                }
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        round += 1;
    }
}

/// Returns the paths of one round.
async fn candidates(
    shared: &Arc<Shared>,
    recipe: &Recipe,
    avoid: &[PublicKey],
    (lost, round): (&[PublicKey], u32),
) -> Vec<RoutePath> {
    let is_other = |path: &&RoutePath| path.forward != lost;
    let alternatives = recipe.alternatives.iter().chain([&recipe.first]);
    let mut paths: Vec<_> = alternatives.filter(is_other).cloned().collect();
    // Every other round a hop that has failed gets another chance.
    let avoid = if round % 2 == 0 { avoid } else { &[] };
    let find = Find {
        destination: recipe.destination,
        paths_max: u8::try_from(ROUTE_PATHS_MAX).unwrap_or(u8::MAX),
        hops_max: 0,
        by: FindBy::Latency,
        avoid: avoid.to_vec(),
    };
    if let Ok(mut found) = find_paths(shared, recipe.relay, find).await {
        // A relay need not mind what is to be avoided.
        found.retain(|path| !path.hops.iter().any(|hop| avoid.contains(hop)));
        paths.extend(
            found
                .into_iter()
                .map(|path| RoutePath::both_ways(path.hops)),
        );
    }
    if round % 2 == 1 {
        paths.push(recipe.first.clone());
    }
    paths.dedup();
    paths
}

/// Asks a relay for paths.
pub(crate) async fn find_paths(
    shared: &Arc<Shared>,
    relay: PublicKey,
    find: Find,
) -> Result<Vec<FoundPath>, RouteError> {
    match ask_finder(shared, relay, SetupRequest::Find(find)).await? {
        SetupReply::Paths { paths } => Ok(paths),
        _ => Err(RouteError::RelayProtocol(relay)),
    }
}

/// Pause after the first round of paths.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);
