//! What a discovery asks of the place that keeps its entries.
//!
//! Here: the questions. Not here: the two places (`embedded`, `redis`), which entry may be written (`rules`).
//!
//! Invariant: an entry is replaced or taken out only if it is still the one that the caller has judged, so
//! two requests for one key cannot both win.
//! Bound: every call ends within [`super::STEP_TIME`], and holds no lock while it waits.

use std::future::Future;
use std::sync::Arc;

use ringway_proto::key::PublicKey;
use thiserror::Error;

use super::record::{Moment, Record};

/// What has become of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stands.
    Done,
    /// Something else stands there by now: judge again.
    Changed,
    /// There is no room.
    Full,
}

/// How many entries there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Of servers.
    pub(crate) servers: u64,
    /// Of clients.
    pub(crate) clients: u64,
}

/// Which keys a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every client's.
    Clients,
    /// Every visor's.
    Visors,
}

/// An entry to write.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    /// As it shall stand.
    pub(crate) record: &'a Arc<Record>,
    /// What stood when it was judged.
    pub(crate) before: Option<&'a Record>,
    /// Whether it is taken however many there are.
    pub(crate) is_vouched: bool,
    /// When.
    pub(crate) now: Moment,
}

/// A place for entries.
pub(crate) trait Store: Send + Sync + 'static {
    /// Returns what stands of a party.
    fn read(
        &self,
        key: PublicKey,
        now: Moment,
    ) -> impl Future<Output = Result<Option<Arc<Record>>, StoreError>> + Send;

    /// Writes an entry, if what stands is what was judged.
    fn write(&self, write: Write<'_>) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Takes an entry out, if it is the one that stands.
    fn remove(&self, record: &Record) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Returns every server that stands, in any order.
    fn servers(
        &self,
        now: Moment,
    ) -> impl Future<Output = Result<Vec<Arc<Record>>, StoreError>> + Send;

    /// Returns keys, in any order.
    fn keys(
        &self,
        which: Which,
        now: Moment,
    ) -> impl Future<Output = Result<Vec<PublicKey>, StoreError>> + Send;

    /// Takes out what has expired, and counts what is left.
    fn clean(&self, now: Moment) -> impl Future<Output = Result<Counts, StoreError>> + Send;

    /// Returns a number that changes with what stands, as far as this process knows.
    fn generation(&self) -> u64;

    /// Returns whether others may change what stands unseen.
    fn is_shared(&self) -> bool;

    /// Returns what is wrong with it although it answers, for people.
    fn complaint(&self) -> Option<String>;

    /// Ends it: what is still to be kept is kept, within a bounded time.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Why a store has no answer.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// Redis says no, or does not answer.
    #[error("redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// It took too long.
    #[error("redis: no answer within {0:?}")]
    Slow(std::time::Duration),
    /// What it holds of a party is no entry.
    #[error("redis: what stands under {0} is no entry: delete it")]
    Foreign(PublicKey),
    /// A connection was refused a moment ago.
    #[error("redis: not asked again so soon after a failure")]
    Resting,
}
