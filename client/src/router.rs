//! Routes: streams over paths of peers that a relay sets up.
//!
//! Here: what a program asks of a router. Not here: the wire (`ringway_proto::route`), what is behind it:
//! the rules (`table`), the groups (`group`, `flow`), the tasks (`hops`, `packets`, `setup`, `repair`,
//! `announce`).
//!
//! Source: docs/routes.md.

mod announce;
mod error;
mod flow;
mod group;
mod hops;
mod neighbour;
mod packets;
mod repair;
mod setup;
mod shared;
mod state;
mod stats;
mod stream;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{
    EPHEMERAL_PORT_MIN, ROUTE_ANNOUNCE_TTL, ROUTE_GROUPS_MAX, ROUTE_KEEP_ALIVE,
    ROUTE_NEIGHBOUR_IDLE, ROUTE_SETUP_TIMEOUT,
};
use ringway_proto::route::{
    Find, FoundPath, GroupName, ROUTE_PACKET_PORT, ROUTE_SETUP_PORT, RuleKind,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub use self::error::RouteError;
pub use self::stats::{GroupStatus, PacketsDropped, RouterStats, RuleStatus};
pub use self::stream::{RouteListener, RouteStream};

use self::group::Group;
use self::repair::Recipe;
use self::shared::Shared;
use self::state::{State, random_u32};
use self::table::Entry;
use crate::client::Client;
use crate::error::ListenError;

/// Settings of a [`Router`].
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Keys that may ask this peer for rules, all others are refused with 201; empty for those of the
    /// relays that the client is configured with.
    pub setup_relays: Vec<PublicKey>,
    /// Relays that are told which peers this one can reach; empty for none.
    pub announce_to: Vec<PublicKey>,
    /// Peers that are announced though there is no packet stream with them yet.
    pub neighbours: Vec<PublicKey>,
    /// Time for which an announcement counts; it is renewed after a third of it.
    pub announce_ttl: Duration,
    /// Time without a packet after which the hops of routes of this peer forget them. A path is taken for
    /// dead after half of it at the latest, and the stream ends when there is no other one after the whole.
    pub keep_alive: Duration,
    /// Most route groups that end here; each holds up to 2 MiB in each direction.
    pub groups_max: usize,
    /// Groups that wait in one [`RouteListener`]; more are refused with 305.
    pub backlog_max: usize,
    /// Time without a packet and without a rule after which the stream with a neighbour is let go.
    pub neighbour_idle: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            setup_relays: Vec::new(),
            announce_to: Vec::new(),
            neighbours: Vec::new(),
            announce_ttl: ROUTE_ANNOUNCE_TTL,
            keep_alive: ROUTE_KEEP_ALIVE,
            groups_max: ROUTE_GROUPS_MAX,
            backlog_max: BACKLOG_MAX,
            neighbour_idle: ROUTE_NEIGHBOUR_IDLE,
        }
    }
}

/// The two directions of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    /// Every peer from the opener to the destination, both included.
    pub forward: Vec<PublicKey>,
    /// Every peer from the destination to the opener, both included.
    pub reverse: Vec<PublicKey>,
}

impl RoutePath {
    /// Returns the path that goes back as it goes forth.
    #[must_use]
    pub fn both_ways(forward: Vec<PublicKey>) -> Self {
        let reverse = forward.iter().rev().copied().collect();
        Self { forward, reverse }
    }
}

/// What is dialled, and how.
#[derive(Clone, Debug)]
pub struct RoutePlan {
    /// Relay that sets the routes up.
    pub relay: PublicKey,
    /// The path to begin with; the destination is its last peer.
    pub path: RoutePath,
    /// Port of the destination.
    pub port: u16,
    /// Further paths, tried in this order when one fails; after them the relay's finder is asked.
    pub alternatives: Vec<RoutePath>,
}

/// A peer's part in routes: it serves relays as a hop, and opens and takes route groups.
///
/// Clones share everything. When the last clone has gone, or with [`Router::stop`], routes end.
#[derive(Clone, Debug)]
pub struct Router {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Router {
    /// Listens on ports 36 and 37 of the client, which is a native party, and serves what comes there.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(client: Client, config: RouterConfig) -> Result<Self, ListenError> {
        let secret = client.native_secret().ok_or(ListenError::LocalDialect)?;
        let hops = client.listen(ROUTE_SETUP_PORT)?;
        let packets = client.listen(ROUTE_PACKET_PORT)?;
        let configured = client.status().into_iter().map(|one| one.relay.key);
        let setup_relays: BTreeSet<_> = if config.setup_relays.is_empty() {
            configured.collect()
        } else {
            config.setup_relays.iter().copied().collect()
        };
        let state = State::new(
            client.key(),
            secret,
            config.groups_max,
            config.neighbour_idle,
        );
        let shared = Arc::new(Shared::new(client, state, &config));
        tokio::spawn(hops::serve(Arc::clone(&shared), hops, setup_relays));
        tokio::spawn(packets::serve(Arc::clone(&shared), packets));
        tokio::spawn(tick(Arc::clone(&shared)));
        if !config.announce_to.is_empty() {
            tokio::spawn(announce::announce(
                Arc::clone(&shared),
                config.neighbours,
                config.announce_ttl,
            ));
        }
        let handle = Arc::new(Handle { shared });
        Ok(Self { handle })
    }

    /// Opens a route group to a port of the last peer of the plan's path.
    ///
    /// The relay is asked for the plan's path, then for its alternatives, until one stands; then the two
    /// ends shake hands over it.
    ///
    /// # Errors
    ///
    /// See [`RouteError`]; of several paths that failed, the error of the first.
    ///
    /// # Cancel
    ///
    /// Dropping the future undoes what was set up.
    pub async fn dial(&self, plan: RoutePlan) -> Result<RouteStream, RouteError> {
        let shared = &self.handle.shared;
        let key = plan.path.forward.last().copied();
        let key = key.unwrap_or_else(|| shared.key());
        let peer = Address::new(key, plan.port);
        let local_port = EPHEMERAL_PORT_MIN.saturating_add(random_port());
        let recipe = Recipe {
            relay: plan.relay,
            destination: key,
            ports: (local_port, plan.port),
            keep_alive: shared.keep_alive,
            first: plan.path,
            alternatives: plan.alternatives,
        };
        let (name, is_open) = shared.open_group(peer, local_port, recipe.clone())?;
        // Resets the group when the dial fails or is given up.
        let stream = RouteStream::new(Arc::clone(shared), name, peer, local_port);
        let mut first_error = None;
        for path in [&recipe.first].into_iter().chain(&recipe.alternatives) {
            match repair::set_up(shared, name, &recipe, path).await {
                Ok(()) => {
                    first_error = None;
                    break;
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        match timeout(ROUTE_SETUP_TIMEOUT, is_open).await {
            Ok(Ok(Ok(()))) => Ok(stream),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(RouteError::LocalClosed),
            Err(_) => Err(RouteError::Timeout(ROUTE_SETUP_TIMEOUT)),
        }
    }

    /// Takes route groups that others open to `port` of this party.
    ///
    /// Ports of routes are apart from those of [`Client::listen`].
    ///
    /// # Errors
    ///
    /// [`RouteError::LocalPort`] and [`RouteError::LocalClosed`].
    pub fn listen(&self, port: u16) -> Result<RouteListener, RouteError> {
        let shared = &self.handle.shared;
        let (sender, receiver) = mpsc::channel(shared.backlog_max.clamp(1, BACKLOG_LIMIT));
        shared.with(|state, _| {
            if state.is_closed {
                return Err(RouteError::LocalClosed);
            }
            if state.listeners.contains_key(&port) {
                return Err(ListenError::LocalPortInUse { port }.into());
            }
            state.listeners.insert(port, sender);
            Ok(())
        })?;
        Ok(RouteListener::new(Arc::clone(shared), port, receiver))
    }

    /// Asks a relay for paths from this peer.
    ///
    /// # Errors
    ///
    /// The `Relay*` variants of [`RouteError`], and its [`Timeout`](RouteError::Timeout).
    pub async fn find(&self, relay: PublicKey, find: Find) -> Result<Vec<FoundPath>, RouteError> {
        repair::find_paths(&self.handle.shared, relay, find).await
    }

    /// Returns the public key of this party.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.handle.shared.key()
    }

    /// Returns what was counted since the start, and what there is now.
    #[must_use]
    pub fn stats(&self) -> RouterStats {
        self.handle.shared.with(|state, _| {
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            let is_reserved = |entry: &Entry| matches!(entry, Entry::Reserved { .. });
            let is_rule = |entry: &Entry| matches!(entry, Entry::Rule { .. });
            let entries = || state.table.entries().map(|(_, entry)| entry);
            RouterStats {
                rules: count(entries().filter(|one| is_rule(one)).count()),
                reserved: count(entries().filter(|one| is_reserved(one)).count()),
                groups: count(state.groups.len()),
                neighbours: count(state.neighbours.len()),
                ..state.stats.clone()
            }
        })
    }

    /// Returns every entry of the table, rules and reserved ids.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        self.handle.shared.with(|state, _| {
            let entries = state.table.entries();
            entries.map(|(id, entry)| rule_status(id, entry)).collect()
        })
    }

    /// Returns every group that ends here.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.handle.shared.with(|state, _| {
            let groups = state.groups.iter();
            groups
                .map(|(name, group)| group_status(*name, group))
                .collect()
        })
    }

    /// Ends all routes in good order: the other ends, the hops and the relays that were announced to are
    /// told. Waits until that has left, at most for a second.
    pub async fn stop(&self) {
        let shared = &self.handle.shared;
        shared.with(|state, fx| state.close(fx));
        let left = async {
            let is_left =
                || shared.with(|state, _| state.neighbours.values().all(|one| one.is_empty()));
            while !is_left() {
                sleep(TICK).await;
            }
            // What was taken from a queue is written next.
            sleep(TICK).await;
        };
        let withdrawn = announce::withdraw(shared, &shared.announce_to);
        drop(timeout(STOP_TIMEOUT, async { tokio::join!(left, withdrawn) }).await);
        shared.stop();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(|state, fx| state.close(fx));
        self.shared.stop();
    }
}

async fn tick(shared: Arc<Shared>) {
    loop {
        let pause = shared.with(|state, fx| {
            state.tick(fx);
            if state.groups.is_empty() {
                TICK_IDLE
            } else {
                TICK
            }
        });
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.stopped() => return,
        }
    }
}

fn rule_status(id: ringway_proto::route::RouteId, entry: &Entry) -> RuleStatus {
    let (kind, next, group) = match entry {
        Entry::Own { group, .. } => ("own", None, Some(*group)),
        Entry::Reserved { .. } => ("reserved", None, None),
        Entry::Rule { rule, .. } => match &rule.kind {
            RuleKind::Intermediary { .. } => ("intermediary", Some(rule.kind.next()), None),
            RuleKind::Destination { group, .. } => {
                ("destination", Some(rule.kind.next()), Some(*group))
            }
        },
    };
    RuleStatus {
        id,
        kind,
        previous: entry.previous(),
        next,
        group,
    }
}

fn group_status(name: GroupName, group: &Group) -> GroupStatus {
    GroupStatus {
        name,
        peer: group.peer,
        local_port: group.local_port,
        is_opener: group.is_opener(),
        forward: group.forward.clone(),
        has_path: group.path.is_some(),
        reroutes: group.reroutes,
        rtt: group.flow.round_trip(),
    }
}

/// Returns a number for a source port: it only tells groups of one peer apart.
fn random_port() -> u16 {
    let [_, _, high, low] = random_u32().to_be_bytes();
    u16::from_be_bytes([high, low]) % (u16::MAX - EPHEMERAL_PORT_MIN)
}

/// Time between two looks at the clocks of groups.
const TICK: Duration = Duration::from_millis(20);

/// The same when there is no group.
const TICK_IDLE: Duration = Duration::from_millis(500);

/// Longest wait for the news of a stop to leave.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Groups that wait in a listener.
const BACKLOG_MAX: usize = 64;

/// Largest backlog whatever the configuration says.
const BACKLOG_LIMIT: usize = 65_536;
