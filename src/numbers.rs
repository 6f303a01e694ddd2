//! Counters and gauges that one task changes and others read, and how `/metrics` shows them.
//!
//! Here: one number, and the row of a page for it. Not here: what is counted (the `numbers` of the
//! registry, of route setup, of the finder), what shards count (`control::metrics::table`).

use std::sync::atomic::{AtomicU64, Ordering};

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    /// Counts one.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    /// Counts several.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one from a gauge.
    pub(crate) fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, value: usize) {
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the number.
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of the numbers in `N` as `/metrics` shows it.
pub(crate) struct Shown<N> {
    /// Name of the metric.
    pub(crate) name: &'static str,
    /// `counter` or `gauge`.
    pub(crate) kind: &'static str,
    /// Its help.
    pub(crate) help: &'static str,
    /// Its value.
    pub(crate) read: fn(&N) -> u64,
}

impl<N> Shown<N> {
    /// Returns one that only grows.
    pub(crate) const fn counter(
        name: &'static str,
        help: &'static str,
        read: fn(&N) -> u64,
    ) -> Self {
        let kind = "counter";
        Self {
            name,
            kind,
            help,
            read,
        }
    }

    /// Returns one that grows and shrinks.
    pub(crate) const fn gauge(name: &'static str, help: &'static str, read: fn(&N) -> u64) -> Self {
        let kind = "gauge";
        Self {
            name,
            kind,
            help,
            read,
        }
    }
}
