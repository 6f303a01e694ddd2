//! Bounded pools of port numbers: a bitmap, and a rest after each use.
//!
//! Here: [`PortSet`], which is cut into disjoint slices, and [`PortPool`], which gives ports out one by
//! one. Not here: sockets, the permit that stands for a port, threads, clocks.
//!
//! ```text
//!        try_take              give                 the rest is over
//! free ------------> in use ------------> resting ------------------> free
//!                      |    mark_foreign, give                           ^
//!                      +-----------------------> aside ------------------+
//! ```
//!
//! Invariant: a port of a pool is in exactly one of the four states.
//! Bound: taking looks at 18 words at most, whatever is in use; giving at none. A pool holds two bits a
//! port of its span, and 16 bytes a port that rests.
//! Source: docs/internals/uring.md, ports: own bookkeeping is flat at any fill.

mod set;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use core::time::Duration;

use crate::limits::PORT_ASIDE;
use crate::time::Now;

pub use self::set::PortSet;

/// Port numbers that are given out one at a time.
#[derive(Debug)]
pub struct PortPool {
    /// The port of the first bit.
    first: u16,
    /// One bit a port, set while it is free.
    free: Box<[u64]>,
    /// One bit a word of `free` that is not zero.
    summary: Box<[u64]>,
    /// One bit a port, set while it is in use.
    used: Box<[u64]>,
    /// One bit a port in use that somebody else on the host was found to have.
    foreign: Box<[u64]>,
    /// Where the search starts: a port comes again only after all others had their turn.
    cursor: usize,
    rest: Duration,
    /// Ports that rest, by the end of their rest.
    resting: VecDeque<(Now, u16)>,
    /// Ports put aside, by the end of that.
    aside: VecDeque<(Now, u16)>,
    usage: PortUse,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortUse {
    /// Ports of the pool.
    pub total: u32,
    /// Ports in use.
    pub in_use: u32,
    /// Most ports in use at once so far.
    pub high_water: u32,
    /// Ports that rest after their use, or are put aside.
    pub quarantined: u32,
    /// Requests that found no port.
    pub refused: u64,
}

impl PortUse {
    /// Adds the use of another pool. The sum of two high-water marks is an upper bound of their sum's.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.in_use += other.in_use;
        self.high_water += other.high_water;
        self.quarantined += other.quarantined;
        self.refused += other.refused;
    }
}

impl PortPool {
    /// Returns a pool of `ports`, each of which rests for `rest` after its use.
    #[must_use]
    pub fn new(ports: &PortSet, rest: Duration) -> Self {
        let (first, last) = ports.bounds().unwrap_or((0, 0));
        let words = usize::from(last - first) / 64 + 1;
        let mut pool = Self {
            first,
            free: vec![0; words].into_boxed_slice(),
            summary: vec![0; words.div_ceil(64)].into_boxed_slice(),
            used: vec![0; words].into_boxed_slice(),
            foreign: vec![0; words].into_boxed_slice(),
            cursor: 0,
            rest,
            resting: VecDeque::new(),
            aside: VecDeque::new(),
            usage: PortUse {
                total: ports.len(),
                ..PortUse::default()
            },
        };
        for port in ports.iter() {
            pool.set_free(port);
        }
        pool
    }

    /// Takes a free port; none when all are in use or rest.
    pub fn try_take(&mut self, now: Now) -> Option<u16> {
        self.settle(now);
        let Some(offset) = self.find() else {
            self.usage.refused += 1;
            return None;
        };
        self.take(offset);
        self.cursor = offset + 1;
        Some(self.port_of(offset))
    }

    /// Takes this port if it is a free one of the pool.
    pub fn try_take_port(&mut self, port: u16, now: Now) -> bool {
        self.settle(now);
        let offset = port.checked_sub(self.first).map(usize::from);
        let is_free = |offset: &usize| {
            let word = self.free.get(offset / 64);
            word.is_some_and(|word| word & (1 << (offset % 64)) != 0)
        };
        let Some(offset) = offset.filter(is_free) else {
            self.usage.refused += 1;
            return false;
        };
        self.take(offset);
        true
    }

    /// Takes the free port at this place.
    fn take(&mut self, offset: usize) {
        let (word, bit) = (offset / 64, 1 << (offset % 64));
        self.free[word] &= !bit;
        if self.free[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.used[word] |= bit;
        self.usage.in_use += 1;
        self.usage.high_water = self.usage.high_water.max(self.usage.in_use);
    }

    /// Takes a port back; it rests from `now` on.
    ///
    /// # Panics
    /// When the port is not in use: it was given back twice, or came from elsewhere.
    pub fn give(&mut self, port: u16, now: Now) {
        let (word, bit) = self.place(port);
        assert!(self.used[word] & bit != 0, "a port came back twice");
        self.used[word] &= !bit;
        self.usage.in_use -= 1;
        self.usage.quarantined += 1;
        if self.foreign[word] & bit == 0 {
            self.resting.push_back((now + self.rest, port));
        } else {
            self.foreign[word] &= !bit;
            self.aside.push_back((now + PORT_ASIDE, port));
        }
    }

    /// Notes that somebody else on the host has this port, which is in use here: once given back, it is
    /// put aside for `PORT_ASIDE`.
    ///
    /// # Panics
    /// When the port is not in use.
    pub fn mark_foreign(&mut self, port: u16) {
        let (word, bit) = self.place(port);
        assert!(self.used[word] & bit != 0, "the port is not in use");
        self.foreign[word] |= bit;
    }

    /// Returns whether the rest of a port is over: [`PortPool::settle`] has something to do.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        let is_over = |(end, _): &(Now, u16)| *end <= now;
        self.resting.front().is_some_and(is_over) || self.aside.front().is_some_and(is_over)
    }

    /// Frees the ports whose rest is over.
    pub fn settle(&mut self, now: Now) {
        // Each queue is in the order of its ends, since each has one length of rest.
        while let Some((end, port)) = self.resting.front().copied()
            && end <= now
        {
            self.resting.pop_front();
            self.usage.quarantined -= 1;
            self.set_free(port);
        }
        while let Some((end, port)) = self.aside.front().copied()
            && end <= now
        {
            self.aside.pop_front();
            self.usage.quarantined -= 1;
            self.set_free(port);
        }
    }

    /// Returns how full the pool is, as of the last call that was given a time.
    #[must_use]
    pub const fn usage(&self) -> PortUse {
        self.usage
    }

    /// Returns the lowest port of the span and the words of its bitmap.
    #[must_use]
    pub const fn span(&self) -> (u16, usize) {
        (self.first, self.free.len())
    }

    /// Finds a free port at or behind the cursor, around the end if need be.
    fn find(&self) -> Option<usize> {
        let (word, bit) = (self.cursor / 64, self.cursor % 64);
        if let Some(free) = self.free.get(word) {
            let behind = free & (u64::MAX << bit);
            if behind != 0 {
                return Some(word * 64 + lowest(behind));
            }
        }
        let word = self
            .next_word(word + 1)
            .or_else(|| self.next_word(0))
            .filter(|word| self.free[*word] != 0)?;
        Some(word * 64 + lowest(self.free[word]))
    }

    /// Finds a word with a free port at or behind `from`.
    fn next_word(&self, from: usize) -> Option<usize> {
        let start = from / 64;
        let words = self.summary.get(start..)?;
        for (index, summary) in (start..).zip(words) {
            let behind = if index == start {
                summary & (u64::MAX << (from % 64))
            } else {
                *summary
            };
            if behind != 0 {
                return Some(index * 64 + lowest(behind));
            }
        }
        None
    }

    fn set_free(&mut self, port: u16) {
        let (word, bit) = self.place(port);
        self.free[word] |= bit;
        self.summary[word / 64] |= 1 << (word % 64);
    }

    fn place(&self, port: u16) -> (usize, u64) {
        assert!(port >= self.first, "the port is not of this pool");
        let offset = usize::from(port - self.first);
        assert!(
            offset / 64 < self.free.len(),
            "the port is not of this pool"
        );
        (offset / 64, 1 << (offset % 64))
    }

    fn port_of(&self, offset: usize) -> u16 {
        self.first + u16::try_from(offset).unwrap_or(u16::MAX)
    }
}

fn lowest(word: u64) -> usize {
    usize::try_from(word.trailing_zeros()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
