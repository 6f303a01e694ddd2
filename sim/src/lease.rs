//! Leases on heap that are counted.
//!
//! Here: receive memory as the core sees it, with an account that knows what is out. Not here: the
//! kernel's buffers (`ringway_shards::ring`).
//!
//! Invariant: `outstanding` is the sum of the lengths handed out and not yet given up; it is zero
//! when no lease is left. Every lease owns its bytes, so two can never overlap.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringway_shards::lease::Lease;

/// What one shard's receive memory has handed out.
#[derive(Debug, Default)]
pub(crate) struct Account {
    bytes: AtomicI64,
    leases: AtomicI64,
    /// Leases that are out, by the time at which their bytes came.
    births: Mutex<BTreeMap<u64, u64>>,
}

impl Account {
    /// Bytes that are out.
    pub(crate) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Leases that are out, empty ones included.
    pub(crate) fn leases(&self) -> i64 {
        self.leases.load(Ordering::Relaxed)
    }

    /// Returns when the oldest bytes came of which a lease is out.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        births.first_key_value().map(|(born, _)| *born)
    }

    fn add(&self, born: u64) {
        let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        *births.entry(born).or_default() += 1;
    }

    fn remove(&self, born: u64) {
        let mut births = self.births.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = births.get_mut(&born) {
            *count -= 1;
            if *count == 0 {
                births.remove(&born);
            }
        }
    }

    fn change(&self, bytes: usize, leases: i64, sign: i64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bytes.fetch_add(bytes * sign, Ordering::Relaxed);
        self.leases.fetch_add(leases * sign, Ordering::Relaxed);
    }
}

/// A range of received bytes.
#[derive(Debug)]
pub(crate) struct SimLease {
    bytes: Vec<u8>,
    start: usize,
    born: u64,
    account: Arc<Account>,
}

impl SimLease {
    /// Returns a lease on bytes that came at `born`.
    pub(crate) fn new(bytes: Vec<u8>, born: u64, account: &Arc<Account>) -> Self {
        account.change(bytes.len(), 1, 1);
        account.add(born);
        Self {
            bytes,
            start: 0,
            born,
            account: Arc::clone(account),
        }
    }
}

impl Lease for SimLease {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advanced beyond the end of a lease");
        self.account.change(count, 0, -1);
        self.start += count;
    }

    fn split_to(&mut self, count: usize) -> Self {
        assert!(count <= self.len(), "split beyond the end of a lease");
        let head = self.bytes()[..count].to_vec();
        self.start += count;
        self.account.change(count, 0, -1);
        Self::new(head, self.born, &self.account)
    }
}

impl Drop for SimLease {
    fn drop(&mut self) {
        self.account.change(self.len(), 1, -1);
        self.account.remove(self.born);
        self.bytes.fill(0xdd);
    }
}
