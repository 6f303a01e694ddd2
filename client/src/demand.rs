//! Sessions that a dial asks for.
//!
//! Here: the claim on a session, and waiting until one of several is decided. Not here: making it
//! (`supervisor`), which relays are asked (`dial`).
//!
//! Invariant: a relay's `demands_count` is the number of its demands that live.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use crate::inner::{Inner, Table};
use crate::session::Session;
use crate::status::SessionState;

/// A claim on a session with one relay: as long as it lives the session is made, and not let go.
#[derive(Debug)]
pub(crate) struct Demand {
    inner: Arc<Inner>,
    pub(crate) relay: usize,
    /// When the dial no longer waits for this one.
    until: Instant,
    /// The relay's count of failures when the claim began.
    failures_count: u64,
}

/// What became of a demand.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// No session could be made.
    Failed,
    /// There was none in time.
    Late,
    /// There is one.
    Ready(Arc<Session>),
}

impl Demand {
    pub(crate) fn new(inner: &Arc<Inner>, relay: usize, until: Instant) -> Self {
        let failures_count = inner.change(|table| match table.relays.get_mut(relay) {
            Some(one) => {
                one.demands_count += 1;
                one.failures_count
            }
            None => 0,
        });
        Self {
            inner: Arc::clone(inner),
            relay,
            until,
            failures_count,
        }
    }

    /// Waits until one of `demands` is decided, and takes it out of them; `None` when there is none.
    pub(crate) async fn next(demands: &mut Vec<Self>) -> Option<(Self, Outcome)> {
        let inner = Arc::clone(&demands.first()?.inner);
        let mut watch = inner.watch();
        loop {
            watch.mark_unchanged();
            if let Some((place, outcome)) = Self::first_decided(&inner, demands) {
                return Some((demands.remove(place), outcome));
            }
            let until = demands.iter().map(|demand| demand.until).min()?;
            // The sender is in `inner`: only the time can fail.
            drop(timeout_at(until, watch.changed()).await);
        }
    }

    fn first_decided(inner: &Inner, demands: &[Self]) -> Option<(usize, Outcome)> {
        let table = inner.lock();
        let now = Instant::now();
        demands
            .iter()
            .enumerate()
            .find_map(|(place, demand)| Some((place, demand.outcome(&table, now)?)))
    }

    fn outcome(&self, table: &Table, now: Instant) -> Option<Outcome> {
        if let Some(session) = table.session(self.relay) {
            return Some(Outcome::Ready(session));
        }
        let relay = table.relays.get(self.relay)?;
        if relay.failures_count != self.failures_count || relay.state == SessionState::Closed {
            Some(Outcome::Failed)
        } else {
            (self.until <= now).then_some(Outcome::Late)
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.inner.change(|table| {
            if let Some(relay) = table.relays.get_mut(self.relay) {
                relay.demands_count -= 1;
            }
        });
    }
}
