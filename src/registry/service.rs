//! The task that keeps a registry and this relay in step.
//!
//! Here: when what is done. Not here: what is believed, what is still to be written, the backend.
//!
//! The data plane waits for none of it. A shard hands a question over and goes on; with the registry down
//! the answer is what was true before, or that there is none. Changes of sessions are picked up at each
//! tick, merged, and written when the registry takes them.
//!
//! Bound: `QUESTIONS_MAX` questions wait; a question is answered within the time that a backend gives one
//! call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::entry::RelayEntry;
use ringway_proto::key::PublicKey;
use ringway_proto::time::Now;
use ringway_shards::core::{Directory as _, ShardId};
use ringway_shards::directory::SessionDirectory;
use ringway_shards::set::{AllowedRelays, LookedUp, Lookup, RelayAddress, Resolver, ShardHandle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::beliefs::{Beliefs, Disbelief};
use super::numbers::Numbers;
use super::updates::Updates;
use super::{BATCH_MAX, KnownRelay, Lease, Registry, RegistryError, Session};

/// A question and the shard that it is of.
pub(crate) type Question = (ShardId, Lookup);

/// Takes shards' questions.
pub(crate) struct Questions(mpsc::Sender<Question>);

impl Questions {
    /// Returns the place for questions, and where they come out.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Question>) {
        let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
        (Arc::new(Self(sender)), receiver)
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Questions")
    }
}

impl Resolver for Questions {
    fn look_up(&self, shard: ShardId, lookup: Lookup) -> bool {
        self.0.try_send((shard, lookup)).is_ok()
    }
}

/// What the service is made of.
pub(crate) struct Parts<R> {
    pub(crate) registry: R,
    /// What this relay says of itself.
    pub(crate) own: RelayEntry,
    /// How often changes are looked for.
    pub(crate) tick: Duration,
    /// How long a lease lasts.
    pub(crate) lease: Duration,
    pub(crate) allowed: AllowedRelays,
    /// Relays that the configuration names.
    pub(crate) configured: Vec<PublicKey>,
    pub(crate) directory: SessionDirectory,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) numbers: Arc<Numbers>,
}

type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, RegistryError>> + Send>>;

struct Service<R: Registry> {
    parts: Parts<R>,
    started: Instant,
    session: Option<R::Session>,
    beliefs: Beliefs,
    updates: Updates,
    /// Failures in a row.
    failures: u32,
    connect_at: Instant,
    renew_at: Instant,
    scan_at: Instant,
    remember_at: Instant,
    /// When to write everything once more: a relay that took this one's places for orphans may have removed
    /// what was written right after the lease had lapsed.
    rewrite_at: Option<Instant>,
    /// Since when leases are seen.
    connected_at: Now,
    /// Relays the shards were told to dial.
    wanted: Vec<RelayAddress>,
}

/// Keeps the registry until `stop` comes or its sender goes; gives the lease up then.
pub(crate) async fn run<R: Registry + Clone + Sync>(parts: Parts<R>, stop: oneshot::Receiver<()>) {
    let mut service = Service::new(parts);
    let mut stop = stop;
    let mut ticks = interval(service.parts.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connecting: Option<Connecting<R::Session>> = None;
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => break,
            made = wait_for(&mut connecting) => {
                connecting = None;
                service.connected(made).await;
            }
            // No more come when no shard has the other end.
            Some(question) = service.parts.questions.recv() => service.answer(question).await,
            _ = ticks.tick() => service.tick().await,
        }
        if service.session.is_none() && connecting.is_none() && Instant::now() >= service.connect_at
        {
            let registry = service.parts.registry.clone();
            connecting = Some(Box::pin(async move { registry.connect().await }));
        }
    }
    service.leave().await;
}

/// Waits for a connection being made; for ever if there is none.
async fn wait_for<S>(connecting: &mut Option<Connecting<S>>) -> Result<S, RegistryError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

impl<R: Registry> Service<R> {
    fn new(parts: Parts<R>) -> Self {
        let now = Instant::now();
        Self {
            parts,
            started: now,
            session: None,
            beliefs: Beliefs::default(),
            updates: Updates::default(),
            failures: 0,
            connect_at: now,
            renew_at: now,
            scan_at: now,
            remember_at: now,
            rewrite_at: None,
            connected_at: Now::ZERO,
            wanted: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now::ZERO + self.started.elapsed()
    }

    /// A connection stands, or could not be made.
    async fn connected(&mut self, made: Result<R::Session, RegistryError>) {
        match made {
            Ok(session) => {
                if self.failures > 0 {
                    tracing::warn!("the registry answers again");
                }
                self.session = Some(session);
                self.parts.numbers.connects.count();
                self.parts.numbers.up.set(1);
                // What was told while nobody listened is unknown, and so is what is left of our own.
                self.beliefs.doubt_all();
                self.renew_at = Instant::now();
                self.connected_at = self.now();
                self.tick().await;
            }
            Err(error) => self.failed(&error),
        }
    }

    /// The registry did not do what it was asked.
    fn failed(&mut self, error: &RegistryError) {
        let wait = RETRY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX);
        if self.failures == 0 {
            tracing::warn!(%error, "the registry does not answer; peers of relays without a link are not found");
        } else {
            tracing::debug!(%error, ?wait, "the registry still does not answer");
        }
        self.session = None;
        self.failures = self.failures.saturating_add(1);
        self.connect_at = Instant::now() + wait;
        self.parts.numbers.errors.count();
        self.parts.numbers.up.set(0);
    }

    /// Does what is due.
    async fn tick(&mut self) {
        self.take_changes();
        let outcome = self.keep_in_step().await;
        match outcome {
            Ok(()) => {}
            Err(error) => self.failed(&error),
        }
        let numbers = &self.parts.numbers;
        numbers.pending.set(self.updates.pending_count());
        numbers.written.set(self.updates.written_count());
        numbers.remembered.set(self.beliefs.entries_count());
        numbers.relays.set(self.beliefs.relays_count());
    }

    /// Notes which sessions have begun and ended.
    fn take_changes(&mut self) {
        let directory = &self.parts.directory;
        let changes = directory.take_changes(CHANGES_MAX);
        for peer in changes.keys {
            self.updates.note(peer, directory.entry_of(&peer).as_ref());
        }
        if changes.is_overrun {
            self.updates.note_all(directory.keys());
        }
    }

    async fn keep_in_step(&mut self) -> Result<(), RegistryError> {
        let now = Instant::now();
        let time = self.now();
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let notices = session.take_notices();
        if notices.are_incomplete {
            return Err(RegistryError::Notices);
        }
        let heard = u64::try_from(notices.peers.len()).unwrap_or(u64::MAX);
        self.parts.numbers.notices.add(heard);
        for peer in &notices.peers {
            self.beliefs.doubt(peer);
        }
        if now >= self.renew_at {
            self.renew_at = now + self.parts.lease / 3;
            self.renew(time).await?;
        }
        if self.rewrite_at.is_some_and(|due| now >= due) {
            self.rewrite_at = None;
            self.updates.lose(self.parts.directory.keys());
        }
        self.write().await?;
        if now >= self.scan_at {
            self.scan_at = now + SCAN_INTERVAL;
            self.reap().await?;
        }
        if now >= self.remember_at
            && let Some(session) = &mut self.session
        {
            self.remember_at = now + REMEMBER_INTERVAL;
            let mut relays = self.parts.directory.relays();
            relays.retain(|(key, _)| is_allowed(&self.parts.allowed, key));
            session.remember(&relays).await?;
        }
        self.failures = 0;
        Ok(())
    }

    /// Renews the lease and reads those of others.
    async fn renew(&mut self, now: Now) -> Result<(), RegistryError> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let since = now.saturating_since(self.connected_at);
        self.beliefs.set_unsettled(since < self.parts.lease);
        let lease = session.renew(&self.parts.own, self.parts.lease).await?;
        let numbers = &self.parts.numbers;
        numbers.renewals.count();
        match lease {
            Lease::Stood => {}
            Lease::Lapsed => {
                numbers.lapses.count();
                self.updates.lose(self.parts.directory.keys());
                self.rewrite_at = Some(Instant::now() + self.parts.lease);
            }
            Lease::Taken => {
                if numbers.taken.read() == 0 {
                    tracing::error!(
                        "another relay runs with this relay's key and started later: give each a key of its own"
                    );
                }
                numbers.taken.count();
            }
        }
        let relays = session.relays().await?;
        numbers
            .rolled_back
            .add(self.beliefs.set_relays(&relays, now));
        self.want(&relays);
        Ok(())
    }

    /// Tells the shards which relays to dial.
    fn want(&mut self, relays: &[KnownRelay]) {
        let own = self.parts.own.relay;
        let mut wanted: Vec<RelayAddress> = relays
            .iter()
            .filter(|known| {
                let is_believed = known
                    .epoch
                    .is_none_or(|epoch| self.beliefs.is_leased(&known.relay, epoch));
                is_believed
                    && known.relay != own
                    && is_allowed(&self.parts.allowed, &known.relay)
                    && !self.parts.configured.contains(&known.relay)
            })
            .filter_map(|known| {
                let address = known.address?;
                Some(RelayAddress {
                    key: known.relay,
                    address,
                })
            })
            .collect();
        wanted.sort_by_key(|relay| relay.key);
        wanted.truncate(WANTED_MAX);
        if wanted == self.wanted {
            return;
        }
        let mut are_told = true;
        for shard in &self.parts.shards {
            are_told &= shard.want_relays(Dialect::Native, wanted.clone()).is_ok();
        }
        // A shard that is too busy is told the next time, with the others.
        if are_told {
            self.wanted = wanted;
        }
    }

    /// Writes what waits, as much as one tick may.
    async fn write(&mut self) -> Result<(), RegistryError> {
        for _ in 0..BATCHES_MAX {
            let directory = &self.parts.directory;
            let updates = self
                .updates
                .take(BATCH_MAX, |peer| directory.entry_of(peer));
            let Some(session) = &mut self.session else {
                return Ok(());
            };
            if updates.is_empty() {
                return Ok(());
            }
            if let Err(error) = session.write(&self.parts.own, &updates).await {
                self.updates.failed(&updates);
                return Err(error);
            }
            self.updates.done(&updates);
            let count = u64::try_from(updates.len()).unwrap_or(u64::MAX);
            self.parts.numbers.writes.add(count);
        }
        Ok(())
    }

    /// Looks through some of all places for those whose relay is gone.
    async fn reap(&mut self) -> Result<(), RegistryError> {
        let now = self.now();
        let grace = self.parts.lease * 2;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let mut orphans = session.scan(&self.parts.own).await?;
        orphans.retain(|record| {
            self.beliefs
                .is_orphan(record, now, self.connected_at, grace)
        });
        let reaped = session.reap(&orphans).await?;
        self.parts.numbers.reaped.add(reaped);
        Ok(())
    }

    /// Answers a question and those behind it.
    async fn answer(&mut self, first: Question) {
        let mut questions = vec![first];
        while questions.len() < BATCH_MAX
            && let Ok(question) = self.parts.questions.try_recv()
        {
            questions.push(question);
        }
        let now = self.now();
        let is_down = u64::from(self.session.is_none());
        questions.retain(|question| match self.beliefs.answer(&question.1.key, now) {
            Some(answer) => {
                self.parts.numbers.hits.count();
                self.parts.numbers.stale.add(is_down);
                give(&self.parts.shards, question, answer);
                false
            }
            None => true,
        });
        if questions.is_empty() {
            return;
        }
        let peers: Vec<PublicKey> = questions.iter().map(|question| question.1.key).collect();
        let found = match &mut self.session {
            Some(session) => session.find(&peers).await,
            None => return self.answer_without(&questions),
        };
        match found {
            Ok(found) => {
                for (question, record) in questions.iter().zip(found) {
                    let (answer, disbelief) =
                        self.beliefs.take(question.1.key, record.as_ref(), now);
                    self.note(disbelief);
                    give(&self.parts.shards, question, answer);
                }
            }
            Err(error) => {
                self.failed(&error);
                self.answer_without(&questions);
            }
        }
    }

    /// Answers while the registry is down.
    fn answer_without(&self, questions: &[Question]) {
        let now = self.now();
        for question in questions {
            let stale = self.beliefs.stale_answer(&question.1.key, now);
            if stale.is_some() {
                self.parts.numbers.hits.count();
                self.parts.numbers.stale.count();
            }
            let answer = stale.unwrap_or(LookedUp::Unavailable);
            give(&self.parts.shards, question, answer);
        }
    }

    fn note(&self, disbelief: Option<Disbelief>) {
        let numbers = &self.parts.numbers;
        match disbelief {
            None => {}
            Some(Disbelief::Forged) => numbers.forged.count(),
            Some(Disbelief::RolledBack) => numbers.rolled_back.count(),
            Some(Disbelief::Orphaned) => numbers.orphaned.count(),
        }
    }

    /// Gives the lease up, so that nobody asks this relay any more.
    async fn leave(&mut self) {
        // Nobody answers after this: a question that waits is the shards' to give up.
        self.parts.questions.close();
        if let Some(session) = &mut self.session {
            match timeout(LEAVE_TIMEOUT, session.leave(&self.parts.own)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease in the registry stands until it lapses");
                }
                Err(_) => tracing::warn!("the lease in the registry stands until it lapses"),
            }
        }
        while let Ok(question) = self.parts.questions.try_recv() {
            give(&self.parts.shards, &question, LookedUp::Unavailable);
        }
    }
}

/// Tells a shard.
fn give(shards: &[ShardHandle], question: &Question, answer: LookedUp) {
    let (shard, lookup) = question;
    if let Some(handle) = shards.get(usize::from(shard.0)) {
        handle.answer(*lookup, answer);
    }
}

fn is_allowed(allowed: &AllowedRelays, relay: &PublicKey) -> bool {
    match allowed {
        AllowedRelays::All => true,
        AllowedRelays::Listed(keys) => keys.contains(relay),
    }
}

/// Changes looked at in a tick.
const CHANGES_MAX: usize = 65_536;

/// Batches written in a tick, so that questions do not wait behind a whole relay's peers.
const BATCHES_MAX: usize = 4;

/// How often some places are looked through: a hundred thousand in 200 s.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// How often links are looked at for relays to remember.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(1);

/// Questions of all shards that wait; more are refused with 102.
const QUESTIONS_MAX: usize = 4_096;

/// Relays of a registry that each shard keeps links with; `mesh.links_max` is what it has of them.
const WANTED_MAX: usize = 1_024;

/// First wait after a failure; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the end of the lease.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
