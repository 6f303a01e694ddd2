//! Receive memory and a session directory on the heap, both of which can be counted.
//!
//! Here: what [`shard_core`](crate::shard_core) gives its cores in the place of a ring and of the shared
//! map. Not here: the rules of either; a lease here is a vector.
//!
//! Invariant: [`Memory::leased_bytes`] is the sum of the lengths of all leases that live.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringway_proto::entry::PeerEntry;
use ringway_proto::key::PublicKey;
use ringway_shards::core::{Directory, Holder, Outdated, Place, Registration, ShardId};
use ringway_shards::lease::Lease;

/// Counts the bytes of all leases that have not been dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<AtomicUsize>);

impl Memory {
    /// Returns a lease on a copy of `bytes`.
    pub(crate) fn lease(&self, bytes: &[u8]) -> HeapLease {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        HeapLease {
            bytes: bytes.to_vec(),
            memory: self.clone(),
        }
    }

    /// Returns the bytes under lease.
    pub(crate) fn leased_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A lease on heap memory.
#[derive(Debug)]
pub(crate) struct HeapLease {
    bytes: Vec<u8>,
    memory: Memory,
}

impl Lease for HeapLease {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.memory.0.fetch_sub(count, Ordering::Relaxed);
    }

    fn split_to(&mut self, count: usize) -> Self {
        let rest = self.bytes.split_off(count);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        Self {
            bytes,
            memory: self.memory.clone(),
        }
    }
}

impl Drop for HeapLease {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The session directory of all shards of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map(Arc<Mutex<BTreeMap<PublicKey, Registration>>>);

impl Map {
    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns whether no key is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Directory for Map {
    fn insert(
        &self,
        key: PublicKey,
        registration: Registration,
        _: Option<&PeerEntry>,
    ) -> Result<Option<Place>, Outdated> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map
            .get(&key)
            .is_some_and(|there| registration.is_outdated_by(there))
        {
            return Err(Outdated);
        }
        Ok(map.insert(key, registration).map(|older| older.place))
    }

    fn remove(&self, key: &PublicKey, place: Place) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.get(key).is_some_and(|there| there.place == place) {
            map.remove(key);
        }
    }

    fn lookup(&self, key: &PublicKey) -> Option<Place> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .map(|there| there.place)
    }

    fn keys(&self) -> Vec<PublicKey> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.keys().copied().collect()
    }

    // The cores of a run have no links.
    fn claim_announcer(&self, _: PublicKey, _: Place) -> bool {
        false
    }

    fn drop_announcer(&self, _: &PublicKey, _: Place) {}

    fn announcers(&self) -> Vec<ShardId> {
        Vec::new()
    }

    fn announcer(&self, _: &PublicKey) -> Option<Place> {
        None
    }

    fn note_relay(&self, _: PublicKey, _: Option<SocketAddr>) {}

    fn hold(&self, _: PublicKey, _: Holder) {}

    fn release(&self, _: &PublicKey, _: Place) {}

    fn holders(&self, _: &PublicKey) -> Vec<Holder> {
        Vec::new()
    }
}
