//! Sets of port numbers, and how they are shared out.
//!
//! Here: ranges, holes, slices. Not here: which port is in use (`ports`).
//!
//! Invariant: the slices of one set are disjoint, of equal size, and leave out fewer ports than there
//! are slices: slice `i` of `n` has the members number `i * (len / n)` to `(i + 1) * (len / n) - 1`.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

/// A set of port numbers: one bit each, 8 KiB. Port 0 is never in it, since it names no port.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet {
    words: Box<[u64]>,
}

const WORDS: usize = 1_024;

impl PortSet {
    /// Returns the set without a port.
    #[must_use]
    pub fn new() -> Self {
        Self {
            words: vec![0; WORDS].into_boxed_slice(),
        }
    }

    /// Returns the ports from `first` to `last`, both included.
    #[must_use]
    pub fn range(first: u16, last: u16) -> Self {
        let mut set = Self::new();
        for port in first..=last {
            set.insert(port);
        }
        set
    }

    /// Adds a port.
    pub fn insert(&mut self, port: u16) {
        if port != 0 {
            self.words[usize::from(port / 64)] |= 1 << (port % 64);
        }
    }

    /// Takes a port out.
    pub fn remove(&mut self, port: u16) {
        self.words[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    /// Returns whether the port is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.words[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }

    /// Returns the number of ports.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Returns whether the set has no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns the ports in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (1..=u16::MAX).filter(|port| self.contains(*port))
    }

    /// Returns the lowest and the highest port.
    #[must_use]
    pub fn bounds(&self) -> Option<(u16, u16)> {
        let first = self.iter().next()?;
        let last = (first..=u16::MAX).rev().find(|port| self.contains(*port))?;
        Some((first, last))
    }

    /// Returns slice number `index` of `count`.
    #[must_use]
    pub fn slice(&self, index: u16, count: u16) -> Self {
        let each = self.len() / u32::from(count.max(1));
        let start = each * u32::from(index);
        let mut slice = Self::new();
        for (number, port) in (0..).zip(self.iter()) {
            if index < count && (start..start + each).contains(&number) {
                slice.insert(port);
            }
        }
        slice
    }
}

impl Default for PortSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSet({self})")
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bounds() {
            None => f.write_str("no ports"),
            Some((first, last)) => write!(f, "{} ports of {first}-{last}", self.len()),
        }
    }
}
