//! What the tasks of a router share.
//!
//! Here: the lock, what follows from an act under it, the clock, the end. Not here: the state itself.
//!
//! Invariant: wakers, streams and tasks are handled only when the lock is free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::route::GroupName;
use ringway_proto::time::Now;
use tokio::sync::watch;
use tokio::time::Instant;

use super::RouterConfig;
use super::error::RouteError;
use super::group::{Group, IsOpen};
use super::packets;
use super::repair::{self, Recipe};
use super::setup::Setups;
use super::state::{Effects, State};
use super::stream::RouteStream;
use crate::client::Client;

/// Shared by the router, its tasks and its streams.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) setups: Setups,
    pub(crate) keep_alive: Duration,
    pub(crate) backlog_max: usize,
    pub(crate) announce_to: Vec<PublicKey>,
    epoch: Instant,
    state: Mutex<State>,
    is_stopped: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(client: Client, state: State, config: &RouterConfig) -> Self {
        Self {
            client,
            setups: Setups::default(),
            keep_alive: config.keep_alive,
            backlog_max: config.backlog_max,
            announce_to: config.announce_to.clone(),
            epoch: Instant::now(),
            state: Mutex::new(state),
            is_stopped: watch::Sender::new(false),
        }
    }

    /// Makes a group of this peer, which has no path yet.
    pub(crate) fn open_group(
        self: &Arc<Self>,
        peer: Address,
        local_port: u16,
        recipe: Recipe,
    ) -> Result<(GroupName, IsOpen), RouteError> {
        let mut random = [0; 48];
        getrandom::fill(&mut random).map_err(RouteError::LocalRandom)?;
        let (Some(name), Some(ephemeral)) = (random.first_chunk(), random.last_chunk()) else {
            return Err(RouteError::LocalClosed);
        };
        let name = GroupName(*name);
        self.with(|state, fx| {
            let have = state.groups.len();
            if state.is_closed {
                return Err(RouteError::LocalClosed);
            }
            if have >= state.groups_max {
                return Err(RouteError::LocalGroups { have });
            }
            let times = (self.keep_alive, fx.now);
            let identity = state.identity();
            let (mut group, is_open) =
                Group::opener(identity, peer, local_port, *ephemeral, times)?;
            group.recipe = Some(Arc::new(recipe));
            state.groups.insert(name, group);
            Ok((name, is_open))
        })
    }

    /// Runs `act` on the state, then what follows from it.
    pub(crate) fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut fx = Effects {
            now: self.now(),
            ..Effects::default()
        };
        let result = act(&mut self.lock(), &mut fx);
        self.carry_out(fx);
        result
    }

    fn carry_out(self: &Arc<Self>, fx: Effects) {
        for waker in fx.wakes {
            waker.wake();
        }
        for (permit, name) in fx.accepted {
            let stream = self.with(|state, _| {
                let group = state.groups.get(&name)?;
                Some((group.peer, group.local_port))
            });
            if let Some((peer, local_port)) = stream {
                let shared = Arc::clone(self);
                permit.send(RouteStream::new(shared, name, peer, local_port));
            }
        }
        for (key, generation) in fx.connect {
            tokio::spawn(packets::connect(Arc::clone(self), key, generation));
        }
        for name in fx.repair {
            tokio::spawn(repair::repair(Arc::clone(self), name));
        }
        drop(fx.groups);
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.client.key()
    }

    pub(crate) fn stop(&self) {
        self.is_stopped.send_replace(true);
    }

    /// Completes when the router is stopped.
    pub(crate) async fn stopped(&self) {
        let mut is_stopped = self.is_stopped.subscribe();
        // The sender is in `self`, so the wait does not fail.
        drop(is_stopped.wait_for(|is_stopped| *is_stopped).await);
    }

    fn now(&self) -> Now {
        Now::ZERO + self.epoch.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
