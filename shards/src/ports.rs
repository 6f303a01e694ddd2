//! Port budgets: how many ports a shard may use, and the permits that stand for them.
//!
//! Here: [`PortBudget`], [`PortPermit`], [`PortRefusal`]; how a relay's ports are shared out among its
//! shards ([`PortsConfig`]); the local ports of one shard (`local`). Not here: bitmaps (proto's `ports`),
//! sockets (`ring`), who dials (`core`).
//!
//! A permit may be dropped on any thread, and the drop neither blocks nor fails: it sets two bits of an
//! atomic bitmap that the owner of the budget collects. The port's quarantine begins when it does.
//!
//! Invariant: a port is given out again only after its permit was dropped, collected and has rested.
//! Slices of two shards are disjoint (`PortSet::slice`).
//! Bound: one bit a port for returns; collecting looks only at words that have some.

mod local;

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringway_proto::limits::DIALS_MAX;
use ringway_proto::limits::EPHEMERAL_PORT_MIN;
use ringway_proto::limits::LOCAL_PORT_MAX;
use ringway_proto::limits::LOCAL_PORT_MIN;
use ringway_proto::limits::PORT_QUARANTINE_LOCAL;
use ringway_proto::limits::PORT_QUARANTINE_VIRTUAL;
use ringway_proto::ports::PortPool;
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

pub use ringway_proto::ports::PortSet;
pub use ringway_proto::ports::PortUse;

pub(crate) use self::local::LocalPorts;
pub(crate) use self::local::NoSource;

/// The ports of a whole relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortsConfig {
    /// Addresses to dial from, each with a budget of its own; empty leaves the choice to the kernel, and
    /// one budget serves whatever it chooses.
    pub sources: Vec<IpAddr>,
    /// Local ports that the relay may dial from, at each source address.
    pub range: PortSet,
    /// Rest of a local port after its socket has closed.
    pub quarantine: Duration,
    /// Outbound connections that one shard makes at once.
    pub dials_max: u32,
}

impl Default for PortsConfig {
    /// The kernel's default range, its choice of source address.
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            range: PortSet::range(LOCAL_PORT_MIN, LOCAL_PORT_MAX),
            quarantine: PORT_QUARANTINE_LOCAL,
            dials_max: DIALS_MAX,
        }
    }
}

impl PortsConfig {
    /// Returns what shard number `shard` of `shards_count` may use.
    #[must_use]
    pub fn of_shard(&self, shard: u16, shards_count: u16) -> ShardPorts {
        let slice = self.range.slice(shard, shards_count);
        let sources = if self.sources.is_empty() {
            vec![None]
        } else {
            self.sources.iter().copied().map(Some).collect()
        };
        ShardPorts {
            sources,
            range: slice,
            virtual_range: PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX).slice(shard, shards_count),
            quarantine: self.quarantine,
            dials_max: self.dials_max,
        }
    }
}

/// The ports of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPorts {
    /// Source addresses; `None` is the kernel's choice.
    pub sources: Vec<Option<IpAddr>>,
    /// The shard's slice of the local range, the same at every source address.
    pub range: PortSet,
    /// The shard's slice of the ephemeral range of the relay's own key.
    pub virtual_range: PortSet,
    /// Rest of a local port.
    pub quarantine: Duration,
    /// Outbound connections made at once.
    pub dials_max: u32,
}

/// Which ports a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortKind {
    /// Local TCP ports of a source address; `None` is whichever the kernel chooses.
    Local(Option<IpAddr>),
    /// Ephemeral ports of the relay's own key, for streams that it opens itself.
    Virtual,
}

impl fmt::Display for PortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(Some(source)) => write!(f, "local ports of {source}"),
            Self::Local(None) => f.write_str("local ports"),
            Self::Virtual => f.write_str("virtual ports of the relay's key"),
        }
    }
}

/// No port is free. Costs no system call to find out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{}", self.sentence())]
pub struct PortRefusal {
    /// The budget, the first of them where several source addresses were tried.
    pub kind: PortKind,
    /// Further source addresses that were tried too.
    pub others: u32,
    /// Where the connection was to go, for local ports.
    pub target: Option<SocketAddr>,
    /// The shard whose slice it is.
    pub shard: u16,
    /// How full the budgets are.
    pub usage: PortUse,
    /// Ports asked for.
    pub want: u32,
}

impl PortRefusal {
    /// Returns the reason that a dialer is told.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.kind {
            PortKind::Local(_) => Reason::LocalPortsExhausted,
            PortKind::Virtual => Reason::VirtualPortsExhausted,
        }
    }

    fn sentence(&self) -> String {
        let Self {
            kind,
            others,
            target,
            shard,
            usage,
            want,
        } = self;
        let more = match others {
            0 => String::new(),
            others => format!(" and {others} more source addresses"),
        };
        let towards = target.map_or_else(String::new, |target| format!(" towards {target}"));
        let taken = usage.in_use + usage.quarantined;
        let total = usage.total;
        let fix = match kind {
            PortKind::Local(_) => {
                ": wait for one to come back, or add ports.sources or widen ports.range"
            }
            PortKind::Virtual => ": wait for one to come back",
        };
        format!(
            "{kind}{more}{towards} on shard {shard}: {taken} of {total} in use or in quarantine, {want} wanted{fix}"
        )
    }
}

/// The right to use one port. Dropping it gives the port back, from any thread.
#[must_use = "a dropped permit gives its port back"]
pub struct PortPermit {
    returns: Arc<Returns>,
    port: u16,
}

impl PortPermit {
    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortPermit {
    fn drop(&mut self) {
        self.returns.set(self.port);
    }
}

impl fmt::Debug for PortPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortPermit({})", self.port)
    }
}

/// Ports of dropped permits that their budget has not collected yet.
struct Returns {
    first: u16,
    /// One bit a port.
    words: Box<[AtomicU64]>,
    /// One bit a word that may have some.
    summary: Box<[AtomicU64]>,
    /// Some may have come back since the last look, which there is one of in each turn.
    has_some: AtomicBool,
}

impl Returns {
    fn new(first: u16, words: usize) -> Self {
        let zeros = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            first,
            words: zeros(words),
            summary: zeros(words.div_ceil(64)),
            has_some: AtomicBool::new(false),
        }
    }

    fn set(&self, port: u16) {
        let offset = usize::from(port - self.first);
        let word = offset / 64;
        // The bit first: whoever sees the summary's bit finds it, and so on. A summary bit that comes
        // after its bit was collected already costs one look.
        self.words[word].fetch_or(1 << (offset % 64), Ordering::Release);
        self.summary[word / 64].fetch_or(1 << (word % 64), Ordering::Release);
        // A swap and no store, so that whoever sees the last of several drops sees them all.
        self.has_some.swap(true, Ordering::Release);
    }

    fn has_some(&self) -> bool {
        self.has_some.load(Ordering::Relaxed)
    }

    /// Gives every returned port to `take`.
    fn collect(&self, mut take: impl FnMut(u16)) {
        if !self.has_some() || !self.has_some.swap(false, Ordering::Acquire) {
            return;
        }
        for (index, summary) in self.summary.iter().enumerate() {
            if summary.load(Ordering::Relaxed) == 0 {
                continue;
            }
            for word in bits(summary.swap(0, Ordering::Acquire)) {
                let word = index * 64 + word;
                for bit in bits(self.words[word].swap(0, Ordering::Acquire)) {
                    let offset = u16::try_from(word * 64 + bit).unwrap_or(u16::MAX);
                    take(self.first + offset);
                }
            }
        }
    }
}

/// Returns the places of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = usize::try_from(word.trailing_zeros()).ok()?;
        if word == 0 {
            return None;
        }
        word &= word - 1;
        Some(place)
    })
}

/// A bounded number of ports and who has them.
pub struct PortBudget {
    kind: PortKind,
    shard: u16,
    pool: PortPool,
    returns: Arc<Returns>,
}

impl PortBudget {
    /// Returns a budget of `ports` whose ports rest for `rest` after their use.
    #[must_use]
    pub fn new(kind: PortKind, shard: u16, ports: &PortSet, rest: Duration) -> Self {
        let pool = PortPool::new(ports, rest);
        let (first, words) = pool.span();
        Self {
            kind,
            shard,
            pool,
            returns: Arc::new(Returns::new(first, words)),
        }
    }

    /// Returns the budget of the shard's slice of the ephemeral range of the relay's own key.
    #[must_use]
    pub fn of_virtual_ports(shard: u16, ports: &PortSet) -> Self {
        Self::new(PortKind::Virtual, shard, ports, PORT_QUARANTINE_VIRTUAL)
    }

    /// Takes a port.
    ///
    /// # Errors
    /// [`PortRefusal`] when none is free: tell whoever asked, at once, with its reason.
    pub fn try_take(&mut self, now: Now) -> Result<PortPermit, PortRefusal> {
        self.collect(now);
        let Some(port) = self.pool.try_take(now) else {
            return Err(self.refusal());
        };
        Ok(PortPermit {
            returns: Arc::clone(&self.returns),
            port,
        })
    }

    /// Takes this port, for somebody who has chosen it himself.
    ///
    /// # Errors
    /// [`PortRefusal`] when it is not free, or not of this budget.
    pub fn try_take_port(&mut self, port: u16, now: Now) -> Result<PortPermit, PortRefusal> {
        self.collect(now);
        if !self.pool.try_take_port(port, now) {
            return Err(self.refusal());
        }
        Ok(PortPermit {
            returns: Arc::clone(&self.returns),
            port,
        })
    }

    /// Returns whether there is something to [collect](Self::collect).
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.returns.has_some() || self.pool.is_due(now)
    }

    /// Takes in the ports whose permits were dropped, and frees those whose rest is over.
    pub fn collect(&mut self, now: Now) {
        let Self { pool, returns, .. } = self;
        returns.collect(|port| pool.give(port, now));
        pool.settle(now);
    }

    /// Puts a port aside for a while that somebody else on the host has.
    ///
    /// # Panics
    /// When the permit is one of another budget.
    pub fn put_aside(&mut self, permit: PortPermit, now: Now) {
        assert!(
            self.has_issued(&permit),
            "the permit is one of another budget"
        );
        self.pool.mark_foreign(permit.port);
        drop(permit);
        self.collect(now);
    }

    /// Returns whether the permit is one of this budget.
    #[must_use]
    pub fn has_issued(&self, permit: &PortPermit) -> bool {
        Arc::ptr_eq(&self.returns, &permit.returns)
    }

    /// Returns how full the budget is, as of the last call that was given a time.
    #[must_use]
    pub const fn usage(&self) -> PortUse {
        self.pool.usage()
    }

    /// Returns which ports it counts.
    #[must_use]
    pub const fn kind(&self) -> PortKind {
        self.kind
    }

    /// Returns the error of a request that finds no port now.
    const fn refusal(&self) -> PortRefusal {
        PortRefusal {
            kind: self.kind,
            others: 0,
            target: None,
            shard: self.shard,
            usage: self.pool.usage(),
            want: 1,
        }
    }
}

impl fmt::Debug for PortBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortBudget")
            .field("kind", &self.kind)
            .field("shard", &self.shard)
            .field("usage", &self.pool.usage())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
