//! The registry: which relays a fleet has, and which of them has which peer.
//!
//! ```text
//!   shards --changes--> service --writes, leases-->  backend: a file of this relay, or Redis
//!   shards --questions-> service <--records, relays--
//!          <--answers--          --relays to link with--> shards
//! ```
//!
//! A peer's place is written once and never renewed: it names the relay and that relay's epoch. What is
//! renewed is one lease a relay. A reader believes a place while the relay holds its lease with that epoch,
//! so a relay that dies takes all its peers with it, and the traffic of a fleet at rest grows with its
//! relays, not with its peers.
//!
//! Whoever can write to a registry is not trusted: places are signed by the peers, leases by the relays,
//! and neither an older place nor an older epoch is believed once a newer one was seen.
//!
//! Here: what a backend has to do. Not here: when it is done (`service`), what is believed (`beliefs`),
//! what is still to be written (`updates`), the backends (`embedded`, `redis`).

pub(crate) mod beliefs;
pub(crate) mod embedded;
pub(crate) mod numbers;
pub(crate) mod redis;
pub(crate) mod service;
pub(crate) mod start;
pub(crate) mod updates;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use ringway_proto::entry::{PeerEntry, RelayEntry};
use ringway_proto::key::PublicKey;
use thiserror::Error;

/// Where a peer is, as a registry holds it; nothing of it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerRecord {
    /// The peer.
    pub(crate) peer: PublicKey,
    /// The relay it has a session with.
    pub(crate) relay: PublicKey,
    /// The epoch of that relay when it wrote this.
    pub(crate) epoch: u64,
    /// The peer's signature under it.
    pub(crate) entry: PeerEntry,
}

/// A relay that may be dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownRelay {
    /// Its key.
    pub(crate) relay: PublicKey,
    /// Its epoch, if it holds a lease.
    pub(crate) epoch: Option<u64>,
    /// Where it listens; absent if it only dials out.
    pub(crate) address: Option<SocketAddr>,
}

/// One peer's place to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// It is here.
    Put {
        /// The peer.
        peer: PublicKey,
        /// Its word on it.
        entry: PeerEntry,
    },
    /// It is here no more: what this relay has written goes, what another one has written stays.
    Remove {
        /// The peer.
        peer: PublicKey,
    },
}

impl Update {
    /// Returns whose place it is.
    pub(crate) const fn peer(&self) -> PublicKey {
        match self {
            Self::Put { peer, .. } | Self::Remove { peer } => *peer,
        }
    }
}

/// What renewing the lease found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It had lapsed, or the registry has lost what it held: peers are to be written anew.
    Lapsed,
    /// It stood.
    Stood,
    /// A relay with the same key that started later holds it.
    Taken,
}

/// Peers whose places have changed somewhere.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// The peers.
    pub(crate) peers: Vec<PublicKey>,
    /// Some were missed: whatever is remembered may be out of date.
    pub(crate) are_incomplete: bool,
}

/// A backend.
pub(crate) trait Registry: Send + 'static {
    /// What a connection is.
    type Session: Session;

    /// Connects. Bounded in time by the backend.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, RegistryError>> + Send;
}

/// A connection to a registry. Every call is bounded in time; after an error the connection is dropped and
/// made again, so a call that is cut short need not leave it usable.
pub(crate) trait Session: Send + 'static {
    /// Renews this relay's lease.
    fn renew(
        &mut self,
        own: &RelayEntry,
        lease: Duration,
    ) -> impl Future<Output = Result<Lease, RegistryError>> + Send;

    /// Gives the lease up: the relay is ending.
    fn leave(&mut self, own: &RelayEntry)
    -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Returns the relays that hold leases, or are remembered.
    fn relays(&mut self) -> impl Future<Output = Result<Vec<KnownRelay>, RegistryError>> + Send;

    /// Notes relays that links have stood with, where the backend has no other source of them.
    fn remember(
        &mut self,
        relays: &[(PublicKey, Option<SocketAddr>)],
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Writes places of this relay's peers.
    fn write(
        &mut self,
        own: &RelayEntry,
        updates: &[Update],
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Returns what is held of some peers, in their order.
    fn find(
        &mut self,
        peers: &[PublicKey],
    ) -> impl Future<Output = Result<Vec<Option<PeerRecord>>, RegistryError>> + Send;

    /// Returns some of all records, others each time, for this relay to find those whose relay is gone;
    /// none while another relay of the fleet does so.
    fn scan(
        &mut self,
        own: &RelayEntry,
    ) -> impl Future<Output = Result<Vec<PeerRecord>, RegistryError>> + Send;

    /// Takes records out, unless they have changed; returns how many it were.
    fn reap(
        &mut self,
        records: &[PeerRecord],
    ) -> impl Future<Output = Result<u64, RegistryError>> + Send;

    /// Returns what has changed since the last call.
    fn take_notices(&mut self) -> Notices;
}

/// Why a registry could not do something.
#[derive(Debug, Error)]
pub(crate) enum RegistryError {
    /// Redis says no, or does not answer.
    #[error("{0}")]
    Redis(#[from] ::redis::RedisError),
    /// The connection for notices is gone.
    #[error("the connection for notices has ended")]
    Notices,
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
}

/// Updates written at once, questions asked at once.
pub(crate) const BATCH_MAX: usize = 512;
