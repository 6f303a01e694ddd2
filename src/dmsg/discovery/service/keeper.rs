//! The relay's entry in one discovery.
//!
//! Here: writing it when `registration` says so, what goes wrong, deleting it at the end. Not here: when it
//! is due.
//!
//! Invariant: what is deleted is what this relay has written; the entry of another one with the same key
//! stays.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_proto::dmsg::entry::answer::Answer;
use ringway_proto::dmsg::entry::{Client, Entry, SERVER_TIME, Server};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Discovery, Shared, chance, told_to_stop};
use crate::dmsg::discovery::Published;
use crate::dmsg::discovery::fetch::FetchError;
use crate::dmsg::discovery::registration::{Next, Registration, Step};

/// Keeps the entry.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    published: Published,
    /// Which discovery.
    number: usize,
    registration: Registration,
    /// Time of the entry that was sent last, nanoseconds since 1970.
    sent_ns: Option<i64>,
    /// Time of the one that was confirmed last.
    confirmed_ns: i64,
}

impl Keeper {
    /// Returns one that has written nothing yet.
    pub(super) const fn new(shared: Arc<Shared>, published: Published, number: usize) -> Self {
        Self {
            shared,
            published,
            number,
            registration: Registration::new(),
            sent_ns: None,
            confirmed_ns: 0,
        }
    }

    /// Keeps the entry until the service ends, and deletes it then.
    pub(super) async fn keep(
        mut self,
        mut changed: watch::Receiver<()>,
        mut stop: watch::Receiver<bool>,
    ) {
        let shared = Arc::clone(&self.shared);
        let Some(discovery) = shared.discoveries.get(self.number) else {
            return;
        };
        loop {
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop) => break,
                () = self.step(discovery, &mut changed) => {}
            }
            let is_registered = self.registration.is_standing(SERVER_TIME, Instant::now());
            shared.set_registered(discovery, is_registered);
        }
        if self.sent_ns.is_some() {
            self.delete(discovery).await;
        }
    }

    /// Does what is due, or waits for it.
    async fn step(&mut self, discovery: &Discovery, changed: &mut watch::Receiver<()>) {
        let available = (self.published.available)();
        match self.registration.poll(available, Instant::now()) {
            Step::Read => self.read(discovery).await,
            Step::Write(next) => self.write(discovery, next, available).await,
            Step::Wait(until) => {
                tokio::select! {
                    () = sleep_until(until) => {}
                    // Its sender ends no sooner than the service.
                    _ = changed.changed() => sleep(SETTLE_TIME).await,
                }
            }
        }
    }

    async fn read(&mut self, discovery: &Discovery) {
        let outcome = discovery.fetcher.entry(self.shared.own).await;
        self.shared.note(discovery, &outcome);
        match outcome {
            Ok(found) => {
                let stands = found.map(|read| (read.entry.sequence, read.entry.timestamp_ns));
                self.look_for_another(discovery, stands);
                self.registration.found(stands);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Says so when somebody else writes entries of this key.
    fn look_for_another(&self, discovery: &Discovery, stands: Option<(u64, i64)>) {
        if stands.is_some_and(|(_, at_ns)| self.is_anothers(at_ns)) {
            self.shared.numbers.taken.count();
            tracing::warn!(
                url = %discovery.fetcher.url(),
                "another relay writes entries with this relay's key: each needs a key of its own"
            );
        }
    }

    /// Returns whether an entry of this key, signed then, was written by somebody else since this relay began
    /// to write.
    fn is_anothers(&self, at_ns: i64) -> bool {
        let is_others = |sent_ns| at_ns > self.confirmed_ns && at_ns != sent_ns;
        self.sent_ns.is_some_and(is_others)
    }

    async fn write(&mut self, discovery: &Discovery, next: Next, available: u32) {
        let entry = self.entry(next, Some(available));
        self.sent_ns = Some(entry.timestamp_ns);
        let outcome = discovery.fetcher.write(&entry).await;
        self.shared.note(discovery, &outcome);
        let numbers = &self.shared.numbers;
        let now = Instant::now();
        let Err(error) = outcome else {
            numbers.writes.count();
            self.confirmed_ns = entry.timestamp_ns;
            if self.registration.failures() > 0 {
                tracing::warn!(url = %discovery.fetcher.url(), "registered with the discovery again");
            }
            let what = (next, entry.timestamp_ns, available);
            self.registration.written(what, now, chance());
            return;
        };
        match error.answer() {
            Some(Answer::WrongSequence | Answer::WrongTime) => {
                numbers.conflicts.count();
                if self.registration.conflicted(now, chance()) {
                    tracing::warn!(%error, "something else stands there each time; trying later");
                }
                return;
            }
            Some(Answer::Outdated) => {
                numbers.rejected.count();
                numbers.clock.count();
                tracing::warn!(
                    %error,
                    "the clock here and the discovery's differ by more than 5 s: set it (timedatectl set-ntp true)"
                );
            }
            Some(answer) if answer.status() < 500 => numbers.rejected.count(),
            Some(_) | None => {}
        }
        self.failed(&error);
    }

    fn failed(&mut self, error: &FetchError) {
        if self.registration.failures() == 0 {
            tracing::warn!(%error, "not registered with the discovery; trying again");
        } else {
            tracing::debug!(%error, "still not registered with the discovery");
        }
        self.registration.failed(Instant::now(), chance());
    }

    /// Deletes the entry, if it is this relay's.
    async fn delete(&self, discovery: &Discovery) {
        let found = discovery.fetcher.entry(self.shared.own).await;
        self.shared.note(discovery, &found);
        let stands = match found {
            Ok(Some(read)) if !self.is_anothers(read.entry.timestamp_ns) => read.entry,
            // It has lapsed, or another relay has this key.
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "this relay's entry stands until it lapses");
                return;
            }
        };
        let next = Next {
            sequence: stands.sequence.saturating_add(1),
            timestamp_ns_min: stands.timestamp_ns,
        };
        // A newer one, signed anew: discoveries change what they store, so that it could not be deleted with
        // itself.
        let outcome = discovery.fetcher.delete(&self.entry(next, None)).await;
        self.shared.note(discovery, &outcome);
        match outcome {
            Ok(()) => self.shared.numbers.deleted.count(),
            Err(error) => tracing::warn!(%error, "this relay's entry stands until it lapses"),
        }
    }

    /// Returns the relay's entry, signed now; without a number it takes no sessions.
    fn entry(&self, next: Next, available: Option<u32>) -> Entry {
        let Published {
            address,
            address_v6,
            word,
            is_client,
            available: _,
        } = &self.published;
        let server = Server {
            address: address.clone(),
            address_v6: address_v6.clone(),
            available_sessions: available.unwrap_or(0).into(),
            server_type: word.clone(),
            ..Server::default()
        };
        let own = self.shared.own;
        let timestamp_ns = now_ns().max(next.timestamp_ns_min);
        let client = is_client.then(|| Client {
            delegated_servers: Some(vec![own]),
        });
        let mut entry = Entry {
            client,
            ..Entry::of_server(own, next.sequence, timestamp_ns, server)
        };
        entry.sign(&self.shared.secret);
        entry
    }
}

/// Sessions come and go in bursts: how long the rest of one is waited for.
const SETTLE_TIME: Duration = Duration::from_millis(20);

/// Returns nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}
