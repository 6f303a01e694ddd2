//! The local TCP ports of one shard: a budget for each source address.
//!
//! Here: which source address a dial takes. Not here: the budgets themselves (`ports`).
//!
//! Invariant: a permit's port belongs to exactly one source address, so two live sockets of the shard
//! never have the same source address and port.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use ringway_proto::time::Now;

use super::PortBudget;
use super::PortKind;
use super::PortPermit;
use super::PortRefusal;
use super::PortUse;
use super::ShardPorts;

/// Why no local port could be taken.
#[derive(Debug)]
pub(crate) enum NoSource {
    /// Every budget that would do is empty.
    Exhausted(PortRefusal),
    /// No source address is of the target's family.
    Family,
}

/// The budgets of one shard.
#[derive(Debug)]
pub(crate) struct LocalPorts {
    budgets: Vec<(Option<IpAddr>, PortBudget)>,
    /// The budget that the next dial tries first: source addresses take turns.
    next: usize,
    /// Lowest and highest port of the slice.
    bounds: (u16, u16),
}

impl LocalPorts {
    pub(crate) fn new(shard: u16, ports: &ShardPorts) -> Self {
        let budget = |source: &Option<IpAddr>| {
            let kind = PortKind::Local(*source);
            let budget = PortBudget::new(kind, shard, &ports.range, ports.quarantine);
            (*source, budget)
        };
        Self {
            budgets: ports.sources.iter().map(budget).collect(),
            next: 0,
            bounds: ports.range.bounds().unwrap_or((0, 0)),
        }
    }

    /// Takes a port to reach `target` from; returns the address to bind to.
    pub(crate) fn try_take(
        &mut self,
        target: SocketAddr,
        now: Now,
    ) -> Result<(SocketAddr, PortPermit), NoSource> {
        let count = self.budgets.len();
        let mut refusal: Option<PortRefusal> = None;
        for step in 0..count {
            let index = (self.next + step) % count;
            let Some((source, budget)) = self.budgets.get_mut(index) else {
                continue;
            };
            if source.is_some_and(|source| source.is_ipv4() != target.is_ipv4()) {
                continue;
            }
            match budget.try_take(now) {
                Ok(permit) => {
                    self.next = (index + 1) % count;
                    let address = source.unwrap_or_else(|| unspecified(target));
                    return Ok((SocketAddr::new(address, permit.port()), permit));
                }
                Err(error) => match &mut refusal {
                    None => refusal = Some(error),
                    Some(refusal) => {
                        refusal.others += 1;
                        refusal.usage.add(&error.usage);
                    }
                },
            }
        }
        let Some(mut refusal) = refusal else {
            return Err(NoSource::Family);
        };
        refusal.target = Some(target);
        Err(NoSource::Exhausted(refusal))
    }

    /// Puts a port aside that somebody else on the host has.
    pub(crate) fn put_aside(&mut self, permit: PortPermit, now: Now) {
        let mut budgets = self.budgets.iter_mut();
        let owner = budgets.find(|(_, budget)| budget.has_issued(&permit));
        if let Some((_, budget)) = owner {
            budget.put_aside(permit, now);
        }
    }

    /// Returns whether there is something to collect.
    pub(crate) fn is_due(&self, now: Now) -> bool {
        self.budgets.iter().any(|(_, budget)| budget.is_due(now))
    }

    pub(crate) fn collect(&mut self, now: Now) {
        for (_, budget) in &mut self.budgets {
            budget.collect(now);
        }
    }

    /// Returns how full all budgets are together.
    pub(crate) fn usage(&self) -> PortUse {
        let mut sum = PortUse::default();
        for (_, budget) in &self.budgets {
            sum.add(&budget.usage());
        }
        sum
    }

    /// Returns the lowest and the highest port of the slice.
    pub(crate) const fn bounds(&self) -> (u16, u16) {
        self.bounds
    }
}

/// Returns the address that leaves the choice of the source to the kernel.
const fn unspecified(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
