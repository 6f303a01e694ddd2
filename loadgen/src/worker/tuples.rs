//! Which local address and port each connection of one thread takes.
//!
//! Here: hosts in turn, ports by the kernel or by a book of our own. Not here: which hosts and ports there
//! are (`sources`), sockets.
//!
//! | who chooses the port | how | reach |
//! |---|---|---|
//! | the kernel | no port at the bind; `IP_LOCAL_PORT_RANGE`: the thread's slice | the host's range |
//! | this book | bind to address and port | any port |
//!
//! A port of the book is free again when its socket is closed, since the generator's sockets end with a
//! reset; one that ends with FIN rests as long as its `TIME_WAIT`.
//!
//! Invariant: two connections of one process never have the same 4-tuple: the slices of its threads are
//! disjoint.
//! Bound: a book of ports, some 32 KiB, for each host in use; `HOSTS_MAX` hosts.
//! Source: ip(7); docs/internals/uring.md H for what a connect costs by the share of ports in use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ringway_proto::ports::{PortPool, PortSet};
use ringway_proto::time::Now;
use ringway_shards::ring::ConnectOptions;

use crate::sources::{PortRange, Sources};

/// A local address that a connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    host: u64,
    port: u16,
}

/// How to make a connection.
#[derive(Debug)]
pub(super) struct Tuple<'a> {
    pub(super) options: &'a ConnectOptions,
    /// Number of its source.
    pub(super) host: u64,
    /// What it holds until it is closed.
    pub(super) claim: Option<Claim>,
}

/// No local address is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoTuple;

/// The local addresses of one thread.
pub(super) struct Tuples {
    options: ConnectOptions,
    sources: Sources,
    hosts: u64,
    next: u64,
    book: Option<Book>,
}

/// Ports that are chosen here.
struct Book {
    ports: PortSet,
    rest: Duration,
    pools: BTreeMap<u64, PortPool>,
}

impl Tuples {
    /// Returns the addresses of a thread: hosts in turn, ports of `ports` or of the host's range.
    ///
    /// With `is_own` the ports are chosen here. `options` says what all connections have in common.
    pub(super) fn new(
        sources: &Sources,
        ports: Option<PortRange>,
        is_own: bool,
        mut options: ConnectOptions,
    ) -> Self {
        let book = is_own.then(|| Book {
            ports: ports.map_or_else(PortSet::new, |range| {
                PortSet::range(range.first, range.last)
            }),
            rest: if options.closes_with_fin {
                TIME_WAIT
            } else {
                Duration::ZERO
            },
            pools: BTreeMap::new(),
        });
        if book.is_none() {
            options.port_range = ports.map(|range| (range.first, range.last));
        }
        Self {
            options,
            sources: sources.clone(),
            hosts: sources.count().min(HOSTS_MAX),
            next: 0,
            book,
        }
    }

    /// Returns how to make the next connection.
    pub(super) fn take(&mut self, now: Now) -> Result<Tuple<'_>, NoTuple> {
        let Some(book) = &mut self.book else {
            let host = self.next_host();
            self.options.source = self.source(host, 0);
            return Ok(Tuple {
                options: &self.options,
                host,
                claim: None,
            });
        };
        // A host without a free port is passed over, each once.
        for _ in 0..self.hosts.max(1) {
            let host = self.next;
            self.next = if host + 1 < self.hosts { host + 1 } else { 0 };
            let pool = book.pools.entry(host);
            let pool = pool.or_insert_with(|| PortPool::new(&book.ports, book.rest));
            if let Some(port) = pool.try_take(now) {
                self.options.source = self.source(host, port);
                return Ok(Tuple {
                    options: &self.options,
                    host,
                    claim: Some(Claim { host, port }),
                });
            }
        }
        Err(NoTuple)
    }

    /// Takes an address back whose socket is closed.
    pub(super) fn give(&mut self, claim: Claim, now: Now) {
        if let Some(pool) = self.pool(claim) {
            pool.give(claim.port, now);
        }
    }

    /// Takes an address back that somebody else on the host has; it is left alone for a while.
    pub(super) fn give_taken(&mut self, claim: Claim, now: Now) {
        if let Some(pool) = self.pool(claim) {
            pool.mark_foreign(claim.port);
            pool.give(claim.port, now);
        }
    }

    fn pool(&mut self, claim: Claim) -> Option<&mut PortPool> {
        self.book.as_mut()?.pools.get_mut(&claim.host)
    }

    fn next_host(&mut self) -> u64 {
        let host = self.next;
        self.next = if host + 1 < self.hosts { host + 1 } else { 0 };
        host
    }

    fn source(&self, host: u64, port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.sources.host(host)?, port))
    }
}

/// Hosts in use of prefixes with more: 65,536 of them have four billion 4-tuples to one target.
const HOSTS_MAX: u64 = 65_536;

/// How long a port rests whose connection this end has closed first, with a second to spare.
/// Source: `TCP_TIMEWAIT_LEN` of the kernel, 60 s.
const TIME_WAIT: Duration = Duration::from_secs(61);

#[cfg(test)]
mod tests {
    use super::*;

    fn tuples(sources: &[&str], ports: Option<&str>, is_own: bool) -> Tuples {
        let sources = sources.iter().map(|text| text.parse().unwrap()).collect();
        let ports = ports.map(|text| text.parse().unwrap());
        Tuples::new(
            &Sources::new(sources),
            ports,
            is_own,
            ConnectOptions::default(),
        )
    }

    fn take(tuples: &mut Tuples) -> (String, Option<Claim>) {
        let Tuple { options, claim, .. } = tuples.take(Now::ZERO).unwrap();
        let source = options.source.map(|source| source.to_string());
        (source.unwrap_or_default(), claim)
    }

    #[test]
    fn the_kernel_chooses_unless_told_otherwise() {
        let mut free = tuples(&[], None, false);
        let Tuple { options, claim, .. } = free.take(Now::ZERO).unwrap();
        assert_eq!(
            (options.source, options.port_range, claim),
            (None, None, None)
        );
        let mut bound = tuples(&["127.0.0.2", "127.0.0.4/31"], Some("20000-20999"), false);
        for wanted in ["127.0.0.2:0", "127.0.0.4:0", "127.0.0.5:0", "127.0.0.2:0"] {
            assert_eq!(take(&mut bound), (wanted.to_owned(), None));
        }
        let options = bound.take(Now::ZERO).unwrap().options;
        assert_eq!(options.port_range, Some((20_000, 20_999)));
    }

    #[test]
    fn the_book_gives_each_address_once_and_again_when_it_is_back() {
        let mut tuples = tuples(&["127.0.0.2", "127.0.0.3"], Some("20000-20001"), true);
        let mut taken: Vec<_> = (0..4).map(|_| take(&mut tuples)).collect();
        let mut names: Vec<_> = taken.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 4, "{taken:?}");
        assert_eq!(tuples.take(Now::ZERO).unwrap_err(), NoTuple);
        let (name, claim) = taken.remove(2);
        tuples.give(claim.unwrap(), Now::ZERO);
        assert_eq!(take(&mut tuples).0, name);
    }

    #[test]
    fn an_address_of_somebody_else_is_left_alone_for_a_while() {
        let mut tuples = tuples(&["127.0.0.2"], Some("20000-20000"), true);
        let (_, claim) = take(&mut tuples);
        tuples.give_taken(claim.unwrap(), Now::ZERO);
        assert_eq!(tuples.take(Now::ZERO).unwrap_err(), NoTuple);
        let later = Now::ZERO + Duration::from_secs(60);
        assert!(tuples.take(later).is_ok());
    }

    #[test]
    fn a_port_that_ends_with_fin_rests_as_long_as_time_wait() {
        let sources = Sources::new(vec!["127.0.0.2".parse().unwrap()]);
        let options = ConnectOptions {
            closes_with_fin: true,
            ..ConnectOptions::default()
        };
        let ports = "20000-20000".parse().ok();
        let mut tuples = Tuples::new(&sources, ports, true, options);
        let (_, claim) = take(&mut tuples);
        tuples.give(claim.unwrap(), Now::ZERO);
        assert!(tuples.take(Now::ZERO + Duration::from_secs(60)).is_err());
        assert!(tuples.take(Now::ZERO + Duration::from_secs(61)).is_ok());
    }
}
