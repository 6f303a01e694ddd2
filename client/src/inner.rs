//! What the tasks of a client share.
//!
//! Here: how the session with each relay stands, which relays need one, the counters. Not here: who
//! makes sessions (`supervisor`), who asks over them (`dial`), the choice itself (`selection`,
//! `routes`).
//!
//! Invariant: the table is never locked while a session or the listeners are, the other way round it
//! may be.
//! Invariant: a relay needs a session while it is kept or demanded; a session that is not needed is
//! let go only here, under the lock under which demands are made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway_proto::dialect::peer::Identity;
use ringway_proto::key::PublicKey;
use ringway_proto::time::Now;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{Config, RELAYS_MAX, RelayAddress};
use crate::error::SessionError;
use crate::listener::Listeners;
use crate::ports::Ports;
use crate::routes::{Plan, Routes};
use crate::selection::{RelaySet, Selection};
use crate::session::Session;
use crate::stats::Stats;
use crate::status::{SessionState, SessionStatus};

/// What the client's tasks share. Relays are numbers: their place in the configuration.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) config: Config,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) key: PublicKey,
    pub(crate) ports: Arc<Ports>,
    /// Where the clock of the routes starts.
    epoch: Instant,
    table: Mutex<Table>,
    watch: watch::Sender<Arc<[SessionStatus]>>,
    needed: watch::Sender<RelaySet>,
    is_stopped: watch::Sender<bool>,
    /// Sessions whose driver runs.
    live_count: watch::Sender<usize>,
}

/// What is behind the mutex.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) relays: Vec<Relay>,
    /// Sessions whose driver runs: those of `relays`, and those that finish their last streams.
    live: Vec<Arc<Session>>,
    selection: Selection,
    routes: Routes,
    stats: Stats,
}

/// One configured relay.
#[derive(Debug)]
pub(crate) struct Relay {
    address: RelayAddress,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) state: SessionState,
    error: Option<Arc<SessionError>>,
    /// Dials that wait for a session, or use one that is not kept.
    pub(crate) demands_count: u32,
    /// Attempts that failed and sessions that were lost, since the start.
    pub(crate) failures_count: u64,
}

// ---- What the supervisors report and ask ---------------------------------------------------------

impl Inner {
    pub(crate) fn new(identity: Identity, config: Config) -> Self {
        let relays = config.relays.iter().take(RELAYS_MAX).map(|relay| Relay {
            address: *relay,
            session: None,
            state: SessionState::Connecting,
            error: None,
            demands_count: 0,
            failures_count: 0,
        });
        let relays: Vec<_> = relays.collect();
        let kept_max = usize::try_from(config.sessions_min).unwrap_or(usize::MAX);
        let table = Table {
            live: Vec::new(),
            selection: Selection::new(relays.len(), kept_max),
            routes: Routes::new(config.entry_time),
            stats: Stats::default(),
            relays,
        };
        Self {
            key: identity.public(),
            identity,
            listeners: Arc::default(),
            ports: Ports::new(config.inside.as_ref()),
            epoch: Instant::now(),
            watch: watch::Sender::new(table.statuses().into()),
            needed: watch::Sender::new(table.needed()),
            table: Mutex::new(table),
            is_stopped: watch::Sender::new(false),
            live_count: watch::Sender::new(0),
            config,
        }
    }

    /// Notes that there is no session with a relay. An error stays until a session stands again.
    pub(crate) fn set_state(&self, relay: usize, state: SessionState) {
        self.change(|table| {
            if let Some(relay) = table.relays.get_mut(relay) {
                relay.state = state;
                relay.session = None;
            }
        });
    }

    /// Notes that an attempt failed, or that a session that stood was lost.
    pub(crate) fn failed(&self, relay: usize, state: SessionState, error: Arc<SessionError>) {
        self.change(|table| {
            let Some(one) = table.relays.get_mut(relay) else {
                return;
            };
            one.state = state;
            one.error = Some(error);
            one.failures_count += 1;
            if one.session.take().is_some() {
                table.stats.sessions_lost += 1;
                table.routes.relay_lost(relay);
            } else {
                table.stats.sessions_failed += 1;
            }
            table.selection.failed(relay);
        });
    }

    /// Takes a session that stands into service; `false` when the client was closed meanwhile.
    pub(crate) fn adopt(&self, relay: usize, session: &Arc<Session>) -> bool {
        self.change(|table| {
            if self.is_stopped() {
                return false;
            }
            table.stats.sessions_made += 1;
            if !table.selection.kept().contains(relay) {
                table.stats.sessions_on_demand += 1;
            }
            table.selection.admitted(relay);
            if let Some(relay) = table.relays.get_mut(relay) {
                relay.state = SessionState::Ready;
                relay.error = None;
                relay.session = Some(Arc::clone(session));
            }
            table.live.push(Arc::clone(session));
            self.live_count.send_replace(table.live.len());
            true
        })
    }

    /// Lets a session go that is not needed and has had no stream for a while; else returns after
    /// which time to ask again.
    pub(crate) fn try_reap(&self, relay: usize, session: &Arc<Session>) -> Result<(), Duration> {
        let idle_min = self.config.session_idle.max(SESSION_IDLE_MIN);
        self.change(|table| {
            if table.needed().contains(relay) {
                return Err(Duration::ZERO);
            }
            session.close_if_idle(idle_min)?;
            table.stats.sessions_reaped += 1;
            if let Some(relay) = table.relays.get_mut(relay) {
                relay.state = SessionState::OnDemand;
                relay.session = None;
            }
            Ok(())
        })
    }

    /// Notes a round trip to a relay.
    pub(crate) fn measured(&self, relay: usize, rtt: Duration) {
        self.change(|table| {
            table.stats.pings += 1;
            table.selection.measured(relay, rtt);
        });
    }

    /// Forgets a session whose driver has left.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut table = self.lock();
        table.live.retain(|one| !Arc::ptr_eq(one, session));
        self.live_count.send_replace(table.live.len());
    }

    pub(crate) fn is_needed(&self, relay: usize) -> bool {
        self.needed.borrow().contains(relay)
    }

    /// Completes when the relay needs a session, or needs none.
    pub(crate) async fn until_needed(&self, relay: usize, is_needed: bool) {
        let mut needed = self.needed.subscribe();
        // The sender is in `self`, so the wait does not fail.
        drop(
            needed
                .wait_for(|set| set.contains(relay) == is_needed)
                .await,
        );
    }

    /// Completes when the client is closed.
    pub(crate) async fn stopped(&self) {
        let mut is_stopped = self.is_stopped.subscribe();
        drop(is_stopped.wait_for(|is_stopped| *is_stopped).await);
    }

    pub(crate) fn record_payload_max(&self) -> usize {
        usize::try_from(self.config.record_payload_max).unwrap_or(usize::MAX)
    }
}

// ---- What dials and the client ask ---------------------------------------------------------------

impl Inner {
    /// Returns the order in which the relays are asked for a destination.
    pub(crate) fn plan(&self, destination: &PublicKey) -> Plan {
        let now = self.now();
        let mut table = self.lock();
        let by_distance = table.selection.by_distance();
        let plan = table.routes.plan(destination, &by_distance, now);
        table.stats.entry_hits += u64::from(plan.entry.is_some());
        table.stats.entry_misses += u64::from(plan.entry.is_none());
        table.stats.negative_hits += u64::from(plan.spared_count);
        plan
    }

    pub(crate) fn with_routes(&self, act: impl FnOnce(&mut Routes, Now)) {
        let now = self.now();
        act(&mut self.lock().routes, now);
    }

    pub(crate) fn count(&self, act: impl FnOnce(&mut Stats)) {
        act(&mut self.lock().stats);
    }

    /// Returns those of `order` whose session takes streams.
    pub(crate) fn sessions_of(&self, order: &[usize]) -> Vec<(usize, Arc<Session>)> {
        let table = self.lock();
        order
            .iter()
            .filter_map(|relay| Some((*relay, table.session(*relay)?)))
            .collect()
    }

    /// Returns those of `order` with which a session may be made: not those that have just failed.
    pub(crate) fn further(&self, order: &[usize], asked: RelaySet) -> Vec<usize> {
        let table = self.lock();
        let may_be_made = |relay: usize| {
            table.relays.get(relay).is_some_and(|relay| {
                !matches!(
                    relay.state,
                    SessionState::Closed | SessionState::Waiting { .. }
                )
            })
        };
        order
            .iter()
            .copied()
            .filter(|relay| !asked.contains(*relay) && may_be_made(*relay))
            .collect()
    }

    /// Returns the session with the nearest relay that has one.
    pub(crate) fn nearest_session(&self) -> Option<(usize, Arc<Session>)> {
        let by_distance = self.lock().selection.by_distance();
        self.sessions_of(&by_distance).into_iter().next()
    }

    pub(crate) fn stop(&self, until: Option<Instant>) {
        self.listeners.close();
        let live = {
            let table = self.lock();
            self.is_stopped.send_replace(true);
            table.live.clone()
        };
        for session in live {
            session.close(until);
        }
    }

    /// Completes when no session's driver runs any more.
    pub(crate) async fn left(&self) {
        let mut live_count = self.live_count.subscribe();
        drop(live_count.wait_for(|count| *count == 0).await);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.is_stopped.borrow()
    }

    pub(crate) fn relays(&self) -> Vec<RelayAddress> {
        self.lock()
            .relays
            .iter()
            .map(|relay| relay.address)
            .collect()
    }

    pub(crate) fn statuses(&self) -> Vec<SessionStatus> {
        self.lock().statuses()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<[SessionStatus]>> {
        self.watch.subscribe()
    }

    pub(crate) fn stats(&self) -> Stats {
        let table = self.lock();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let with_session = table.relays.iter().filter(|one| one.session.is_some());
        Stats {
            entries: count(table.routes.len()),
            sessions: count(with_session.count()),
            ..table.stats
        }
    }

    /// Changes the table and tells everybody what follows.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.lock();
        let result = act(&mut table);
        let needed = table.needed();
        self.needed.send_if_modified(|before| {
            let is_other = *before != needed;
            *before = needed;
            is_other
        });
        self.watch.send_replace(table.statuses().into());
        result
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now::ZERO + self.epoch.elapsed()
    }
}

impl Table {
    /// Returns the session with a relay if it takes streams.
    pub(crate) fn session(&self, relay: usize) -> Option<Arc<Session>> {
        let session = self.relays.get(relay)?.session.as_ref()?;
        session.is_ready().then(|| Arc::clone(session))
    }

    fn needed(&self) -> RelaySet {
        let mut demanded = RelaySet::default();
        for (number, relay) in self.relays.iter().enumerate() {
            if relay.demands_count > 0 {
                demanded.insert(number);
            }
        }
        demanded.union(self.selection.kept())
    }

    fn statuses(&self) -> Vec<SessionStatus> {
        let numbered = self.relays.iter().enumerate();
        let status = |(number, relay): (usize, &Relay)| SessionStatus {
            relay: relay.address,
            state: relay.state,
            is_kept: self.selection.kept().contains(number),
            rtt: self.selection.rtt(number),
            streams_count: relay.session.as_ref().map_or(0, |one| one.streams_count()),
            error: relay.error.clone(),
        };
        numbered.map(status).collect()
    }
}

/// Shortest idle time that is respected: below it, a session would be looked at without pause.
const SESSION_IDLE_MIN: Duration = Duration::from_millis(10);
