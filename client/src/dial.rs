//! One dial: which relays are asked, one after the other, and for how long.
//!
//! Here: the two phases and their shares of the time. Not here: the order of the relays (`routes`,
//! `selection`), the open itself (`session`), making sessions (`supervisor`).
//!
//! ```text
//!   phase 1: relays with a session         phase 2: relays without one
//!   ask, ask, ..  in the plan's order ---> sessions made, two at a time; ask whichever stands first
//!      |    half of the time, if there is a phase 2      |    the rest
//!      '-------- reached, or refused by the destination -'
//! ```
//!
//! Opens go out one at a time: two relays may both have the destination, which would then get two
//! streams for one dial. Each relay gets half of what its phase has left while others wait.
//!
//! Invariant: a dial claims sessions with at most [`PHASE_RELAYS_MAX`] relays at once.
//! Bound: each relay is asked once, within `dial_timeout` in all.

use std::collections::VecDeque;
use std::sync::Arc;

use ringway_proto::key::Address;
use tokio::time::{Instant, timeout_at};

use crate::demand::{Demand, Outcome};
use crate::error::DialError;
use crate::inner::Inner;
use crate::routes::Plan;
use crate::selection::RelaySet;
use crate::session::{Opened, Session};
use crate::stream::Stream;

/// Opens a stream to a port of another party.
pub(crate) async fn dial(inner: &Arc<Inner>, destination: Address) -> Result<Stream, DialError> {
    let counted = Counted::begin(inner);
    let result = open(inner, destination).await;
    counted.end(result.as_ref().err());
    result
}

async fn open(inner: &Arc<Inner>, destination: Address) -> Result<Stream, DialError> {
    if inner.is_stopped() {
        return Err(DialError::LocalClosed);
    }
    if destination.key.dialect() != inner.key.dialect() {
        return Err(DialError::LocalDialect);
    }
    let plan = inner.plan(&destination.key);
    let failure = plan
        .refusal
        .map_or(DialError::LocalNoSession, DialError::Refused);
    if plan.order.is_empty() {
        // Nobody is asked, so no port is used, which would rest for a while.
        return Err(failure);
    }
    let permit = inner.ports.try_take().map_err(DialError::ports)?;
    let mut dial = Dial {
        inner,
        destination,
        source_port: permit.port(),
        asked: RelaySet::default(),
        failure,
        plan,
    };
    match dial.run().await? {
        Some(opened) => {
            let payload_max = inner.record_payload_max();
            Ok(Stream::dialled(opened, destination, permit, payload_max))
        }
        None if inner.is_stopped() => Err(DialError::LocalClosed),
        None => Err(dial.failure),
    }
}

/// A dial under way.
struct Dial<'a> {
    inner: &'a Arc<Inner>,
    destination: Address,
    source_port: u16,
    plan: Plan,
    asked: RelaySet,
    /// What says most of what failed so far.
    failure: DialError,
}

impl Dial<'_> {
    /// Asks the relays; an error when there is no use in asking more, `None` when all were asked.
    async fn run(&mut self) -> Result<Option<Opened>, DialError> {
        let until = Instant::now() + self.inner.config.dial_timeout;
        let sessions = self.inner.sessions_of(&self.plan.order);
        let mut with_session = RelaySet::default();
        for (relay, _) in &sessions {
            with_session.insert(*relay);
        }
        let has_further = !self
            .inner
            .further(&self.plan.order, with_session)
            .is_empty();
        let until_further = share(until, has_further);
        match self.ask_sessions(sessions, until_further).await? {
            None => self.ask_further(until).await,
            opened => Ok(opened),
        }
    }

    /// The first phase.
    async fn ask_sessions(
        &mut self,
        sessions: Vec<(usize, Arc<Session>)>,
        until: Instant,
    ) -> Result<Option<Opened>, DialError> {
        let mut left_count = sessions.len();
        for (relay, session) in sessions {
            left_count -= 1;
            let opened = self
                .ask(relay, &session, share(until, left_count > 0))
                .await?;
            if opened.is_some() {
                return Ok(opened);
            }
        }
        Ok(None)
    }

    /// The second phase.
    async fn ask_further(&mut self, until: Instant) -> Result<Option<Opened>, DialError> {
        let further = self.inner.further(&self.plan.order, self.asked);
        let mut further = VecDeque::from(further);
        let mut demands = Vec::with_capacity(PHASE_RELAYS_MAX);
        loop {
            while demands.len() < PHASE_RELAYS_MAX
                && let Some(relay) = further.pop_front()
            {
                let until = share(until, !further.is_empty());
                demands.push(Demand::new(self.inner, relay, until));
            }
            let Some((demand, outcome)) = Demand::next(&mut demands).await else {
                return Ok(None);
            };
            match outcome {
                Outcome::Failed => self.note(DialError::LocalNoSession),
                Outcome::Late => self.note(DialError::Timeout(self.inner.config.dial_timeout)),
                Outcome::Ready(session) => {
                    let has_others = !demands.is_empty() || !further.is_empty();
                    let until = share(until, has_others);
                    let opened = self.ask(demand.relay, &session, until).await?;
                    if opened.is_some() {
                        return Ok(opened);
                    }
                }
            }
        }
    }

    /// Asks one relay; an error when there is no use in asking another.
    async fn ask(
        &mut self,
        relay: usize,
        session: &Arc<Session>,
        until: Instant,
    ) -> Result<Option<Opened>, DialError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(DialError::LocalRandom)?;
        self.inner.count(|stats| stats.relays_asked += 1);
        let open = session.open(self.destination, self.source_port, random);
        let error = match timeout_at(until, open).await {
            Ok(Ok(opened)) => {
                self.on_reached(relay);
                return Ok(Some(opened));
            }
            Ok(Err(error)) if !error.is_worth_another_relay() => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => DialError::Timeout(self.inner.config.dial_timeout),
        };
        // A session that was let go in this moment may be made again.
        if !matches!(error, DialError::LocalNoSession) {
            self.asked.insert(relay);
            self.learn(relay, &error);
        }
        self.note(error);
        Ok(None)
    }

    fn on_reached(&self, relay: usize) {
        let key = &self.destination.key;
        self.inner
            .with_routes(|routes, now| routes.reached(key, relay, now));
        if self.plan.entry.is_some_and(|entry| entry != relay) {
            self.inner.count(|stats| stats.peers_moved += 1);
        }
    }

    /// Remembers what a relay's answer says about the destination.
    fn learn(&self, relay: usize, error: &DialError) {
        let key = &self.destination.key;
        self.inner.with_routes(|routes, now| match error {
            DialError::Refused(refusal) if refusal.is_not_there() => {
                routes.refused(key, relay, *refusal, now);
            }
            DialError::RelaySession(_) | DialError::Timeout(_) => routes.lost(key, relay),
            _ => {}
        });
    }

    /// Keeps the failure that says more: that there is no session says least, then that a relay does
    /// not have the destination.
    fn note(&mut self, error: DialError) {
        let is_not_there = |error: &DialError| error.refusal().is_some_and(|r| r.is_not_there());
        let says_less = match &self.failure {
            DialError::LocalNoSession => false,
            _ => matches!(error, DialError::LocalNoSession) || is_not_there(&error),
        };
        if !says_less {
            self.failure = error;
        }
    }
}

/// Returns until when the next relay may take: half of what is left if others wait.
fn share(until: Instant, has_others: bool) -> Instant {
    if !has_others {
        return until;
    }
    let now = Instant::now();
    now + until.saturating_duration_since(now) / 2
}

/// Counts one dial, as cancelled when it is dropped before its end.
struct Counted<'a> {
    inner: &'a Inner,
    is_over: bool,
}

impl<'a> Counted<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.count(|stats| stats.dials += 1);
        Self {
            inner,
            is_over: false,
        }
    }

    fn end(mut self, error: Option<&DialError>) {
        self.is_over = true;
        self.inner.count(|stats| match error {
            Some(error) => stats.dials_failed.count(error),
            None => stats.dials_reached += 1,
        });
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.inner.count(|stats| stats.dials_cancelled += 1);
        }
    }
}

/// Most relays that one dial has sessions made with at once.
///
/// One that is silent does not hold the dial up; more would have every dial to nobody run at all
/// relays like a storm.
const PHASE_RELAYS_MAX: usize = 2;
