//! Leases on heap that are counted.
//!
//! Here: receive memory as the core sees it, with an account that knows what is out. Not here: the
//! kernel's buffers (`ringway_shards::ring`).
//!
//! Invariant: `outstanding` is the sum of the lengths handed out and not yet given up; it is zero
//! when no lease is left. Every lease owns its bytes, so two can never overlap.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ringway_shards::lease::Lease;

/// What one shard's receive memory has handed out.
#[derive(Debug, Default)]
pub(crate) struct Account {
    bytes: AtomicI64,
    leases: AtomicI64,
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
    account: Arc<Account>,
}

impl SimLease {
    pub(crate) fn new(bytes: Vec<u8>, account: &Arc<Account>) -> Self {
        account.change(bytes.len(), 1, 1);
        Self {
            bytes,
            start: 0,
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
        Self::new(head, &self.account)
    }
}

impl Drop for SimLease {
    fn drop(&mut self) {
        self.account.change(self.len(), 1, -1);
        self.bytes.fill(0xdd);
    }
}
