//! The port ledger of a run: who holds which local ports towards whom.
//!
//! A TCP connection is named by four things: source address and port, destination address and port. All
//! connections with the same source address and the same destination are a *class*; a class has no more
//! connections, standing or in `TIME_WAIT`, than the source has ports. Running out is `EADDRNOTAVAIL` where
//! the kernel chooses the port and `EADDRINUSE` where somebody else does.
//!
//! Here: the rows and how they come about. Not here: the kernel's lists (`ringway_tuning`), their text
//! (`report`).
//!
//! Bound: [`CLASSES_MAX`] sources have a row of their own, the others share one.
//! Source: ip(7), `IP_BIND_ADDRESS_NO_PORT` and `IP_LOCAL_PORT_RANGE`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ringway_tuning::TcpSocket;
use serde::{Deserialize, Serialize};

use crate::latency::{Summary, Times};
use crate::plan::{Host, Plan};
use crate::sockets::Ledger;

/// Most sources with a row of their own.
pub const CLASSES_MAX: usize = 8;

/// What one thread, or all of them, saw of the connections of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassTally {
    /// Time from the connect to its completion.
    pub connects: Times,
    /// Connects that failed for want of a free port: `EADDRNOTAVAIL`.
    pub addr_not_avail: u64,
    /// Connects whose port somebody else has: `EADDRINUSE`.
    pub addr_in_use: u64,
    /// Connects that failed otherwise.
    pub failed: u64,
}

impl ClassTally {
    /// Adds another thread's numbers.
    pub fn merge(&mut self, other: &Self) {
        self.connects.merge(&other.connects);
        self.addr_not_avail += other.addr_not_avail;
        self.addr_in_use += other.addr_in_use;
        self.failed += other.failed;
    }
}

/// Returns the class of the source with this number.
pub(crate) fn class_of(host: u64) -> usize {
    usize::try_from(host).unwrap_or(usize::MAX).min(CLASSES_MAX)
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LedgerRow {
    /// Source address; `any` when the kernel chose it, `others` of those beyond [`CLASSES_MAX`].
    pub source: String,
    /// Destination.
    pub destination: SocketAddr,
    /// Connections that stood at the end of the time that counted.
    pub established: u64,
    /// Ports that waited then, in `TIME_WAIT` on this side.
    pub time_wait: u64,
    /// Sockets then in any other state but these two.
    pub other: u64,
    /// Sockets of the source that hold a port and are connected to nobody; nothing where the kernel does
    /// not tell (before 6.8).
    pub bound_only: Option<u64>,
    /// Ports that there are, those of all `others` together.
    pub range: u64,
    /// Connects without a free port.
    pub addr_not_avail: u64,
    /// Connects whose port somebody else had.
    pub addr_in_use: u64,
    /// Connects that failed otherwise.
    pub failed: u64,
    /// Time of the connects that succeeded.
    pub connect: Summary,
}

/// The kernel's sockets by class, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// By the class of their source: established, `TIME_WAIT`, other.
    counts: BTreeMap<usize, [u64; 3]>,
    /// All sockets of the destination.
    pub(crate) sockets: Ledger,
    bound_only: Option<BTreeMap<usize, u64>>,
}

impl Held {
    /// Reads the kernel's lists.
    ///
    /// # Errors
    /// When the list of sockets cannot be read.
    pub fn take(plan: &Plan) -> io::Result<Self> {
        let target = plan.target.socket();
        let classes = Classes::of(plan);
        let mut held = Self::default();
        TcpSocket::for_each(|socket| {
            held.sockets.count(&socket, target);
            if socket.remote == target
                && let Some(class) = classes.find(socket.local.ip())
            {
                let place = match socket.state {
                    "ESTABLISHED" => 0,
                    "TIME_WAIT" => 1,
                    _ => 2,
                };
                held.counts.entry(class).or_default()[place] += 1;
            }
        })?;
        let mut bound = BTreeMap::new();
        let listed = TcpSocket::for_each_bound_only(|local| {
            if let Some(class) = classes.find(local.ip()) {
                *bound.entry(class).or_default() += 1;
            }
        });
        held.bound_only = matches!(listed, Ok(true)).then_some(bound);
        Ok(held)
    }
}

/// Which class a source address is of.
struct Classes {
    by_address: BTreeMap<IpAddr, usize>,
    /// Sources beyond those with a row.
    has_others: bool,
    is_any: bool,
}

impl Classes {
    fn of(plan: &Plan) -> Self {
        let sources = &plan.placement.sources;
        let numbers = 0..u64::try_from(CLASSES_MAX).unwrap_or(u64::MAX);
        let named = numbers.map_while(|number| Some((sources.host(number)?, class_of(number))));
        Self {
            by_address: named.collect(),
            has_others: sources.count() > u64::try_from(CLASSES_MAX).unwrap_or(u64::MAX),
            is_any: sources.is_empty(),
        }
    }

    fn find(&self, address: IpAddr) -> Option<usize> {
        if self.is_any {
            return Some(0);
        }
        let own = self.by_address.get(&address).copied();
        own.or_else(|| self.has_others.then_some(CLASSES_MAX))
    }
}

/// Returns the rows: one for each class that a connect was tried in.
#[must_use]
pub fn rows(
    plan: &Plan,
    tallies: &[ClassTally],
    held: Option<&Held>,
    host: &Host,
) -> Vec<LedgerRow> {
    let sources = &plan.placement.sources;
    let ports = plan.placement.ports.unwrap_or(host.ports).count();
    let tried = tallies.iter().enumerate().filter(|(_, tally)| {
        tally.connects.count() + tally.addr_not_avail + tally.addr_in_use + tally.failed > 0
    });
    let row = |(class, tally): (usize, &ClassTally)| {
        let is_rest = class == CLASSES_MAX;
        let source = if sources.is_empty() {
            "any".to_owned()
        } else if is_rest {
            "others".to_owned()
        } else {
            let address = sources.host(u64::try_from(class).unwrap_or(u64::MAX));
            address.map_or_else(String::new, |address| address.to_string())
        };
        let hosts = if is_rest {
            sources.count() - u64::try_from(CLASSES_MAX).unwrap_or(0)
        } else {
            1
        };
        let [established, time_wait, other] = held
            .and_then(|held| held.counts.get(&class).copied())
            .unwrap_or_default();
        let bound_only = held.and_then(|held| held.bound_only.as_ref());
        LedgerRow {
            source,
            destination: plan.target.socket(),
            established,
            time_wait,
            other,
            bound_only: bound_only.map(|bound| bound.get(&class).copied().unwrap_or(0)),
            range: ports.saturating_mul(hosts),
            addr_not_avail: tally.addr_not_avail,
            addr_in_use: tally.addr_in_use,
            failed: tally.failed,
            connect: tally.connects.summary(),
        }
    };
    tried.map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::plan::{Scenario, Target};
    use crate::sources::{PortRange, Sources};

    fn plan(target: SocketAddr, sources: &[&str]) -> Plan {
        let mut plan = Plan::new(Scenario::Idle, Target::Tcp(target));
        let sources = sources.iter().map(|text| text.parse().unwrap());
        plan.placement.sources = Sources::new(sources.collect());
        plan
    }

    const HOST: Host = Host {
        files_max: 1_024,
        ports: PortRange {
            first: 40_000,
            last: 40_999,
        },
        memory_bytes: None,
    };

    fn tally(micros: u64) -> ClassTally {
        let mut tally = ClassTally::default();
        tally.connects.record(Duration::from_micros(micros));
        tally
    }

    #[test]
    fn sockets_are_counted_by_their_source() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let _here = [(); 2].map(|()| TcpStream::connect(target).unwrap());
        let plan = plan(target, &["127.0.0.1", "127.0.0.77"]);
        let held = Held::take(&plan).unwrap();
        let rows = rows(&plan, &[tally(5), tally(9)], Some(&held), &HOST);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].established, rows[1].established), (2, 0));
        assert_eq!(rows[1].source, "127.0.0.77");
        assert_eq!((rows[0].range, rows[0].connect.count), (1_000, 1));
    }

    #[test]
    fn a_class_that_was_not_tried_has_no_row() {
        let target = "127.0.0.1:1".parse().unwrap();
        let plan = plan(target, &["127.0.0.1", "127.0.0.2"]);
        let mut failed = ClassTally::default();
        assert!(rows(&plan, &[failed.clone()], None, &HOST).is_empty());
        failed.addr_not_avail = 3;
        let rows = rows(&plan, &[ClassTally::default(), failed], None, &HOST);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].source.as_str(), rows[0].addr_not_avail),
            ("127.0.0.2", 3)
        );
    }

    #[test]
    fn many_sources_share_the_last_row() {
        let target: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let plan = plan(target, &["127.0.1.0/24"]);
        let classes = Classes::of(&plan);
        assert_eq!(classes.find("127.0.1.8".parse().unwrap()), Some(7));
        assert_eq!(
            classes.find("127.0.1.9".parse().unwrap()),
            Some(CLASSES_MAX)
        );
        let tallies = vec![tally(1); CLASSES_MAX + 1];
        let rows = rows(&plan, &tallies, None, &HOST);
        let last = rows.last().unwrap();
        assert_eq!((last.source.as_str(), last.range), ("others", 246_000));
        assert_eq!(last.bound_only, None);
    }
}
