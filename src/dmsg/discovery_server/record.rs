//! One entry as a store holds it.
//!
//! Here: the entry, its text as readers get it, who wrote it, how long it stands. Not here: whether it may be
//! written (`rules`).

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use ringway_proto::dmsg::entry::Entry;
use ringway_proto::key::PublicKey;

/// An entry that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    entry: Entry,
    json: Bytes,
    source: Option<IpAddr>,
    expires: Option<Moment>,
}

impl Record {
    /// Returns the record of an entry.
    pub(crate) fn new(entry: Entry, source: Option<IpAddr>, expires: Option<Moment>) -> Self {
        let json = entry.encode().into();
        Self::with_text(entry, json, source, expires)
    }

    /// Returns the record of an entry that somebody has written with this text.
    pub(crate) const fn with_text(
        entry: Entry,
        json: Bytes,
        source: Option<IpAddr>,
        expires: Option<Moment>,
    ) -> Self {
        Self {
            entry,
            json,
            source,
            expires,
        }
    }

    /// Returns the entry.
    pub(crate) const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Returns its text.
    pub(crate) const fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns whose it is.
    pub(crate) const fn key(&self) -> PublicKey {
        self.entry.key
    }

    /// Returns the address it was written from; none when nobody remembers.
    pub(crate) const fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Returns when it ends; none if it stands until it is deleted.
    pub(crate) const fn expires(&self) -> Option<Moment> {
        self.expires
    }

    /// Returns whether it stands at `now`.
    pub(crate) fn is_standing(&self, now: Moment) -> bool {
        self.expires.is_none_or(|end| now < end)
    }

    /// Returns the sessions that a server still takes; 0 for clients.
    pub(crate) fn available_sessions(&self) -> i64 {
        let server = self.entry.server.as_ref();
        server.map_or(0, |server| server.available_sessions)
    }

    /// Returns the memory that it takes, in bytes: the text, the keys again, and what is around them.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let keys = self.entry.delegated_servers().len() * KEY_BYTES;
        let bytes = self.json.len() + keys + FIXED_BYTES;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// A time of the wall clock, in nanoseconds since 1970.
///
/// Entries carry such times and stand beyond the life of a process, so it cannot be the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// Returns the time now.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, nanos))
    }

    /// Returns the time so many nanoseconds after 1970 began.
    #[cfg(test)]
    pub(crate) const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Returns the time so many milliseconds after 1970 began.
    pub(crate) const fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(NS_PER_MS))
    }

    /// Returns nanoseconds since 1970.
    pub(crate) const fn ns(self) -> i64 {
        self.0
    }

    /// Returns milliseconds since 1970.
    pub(crate) const fn ms(self) -> i64 {
        self.0 / NS_PER_MS
    }

    /// Returns the time so much later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// Returns how much later than `earlier` this is; zero if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let ns = self.0.saturating_sub(earlier.0);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

const NS_PER_MS: i64 = 1_000_000;

/// Bytes of a key in memory.
const KEY_BYTES: usize = 34;

/// Bytes of a record without its text and keys: the entry's own (368), short texts, the map's place for it.
const FIXED_BYTES: usize = 640;
