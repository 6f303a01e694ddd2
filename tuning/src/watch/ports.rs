//! Local ports in use, by the connections that share them.
//!
//! Connections of one source address to one destination must differ in their local port, so each such class
//! has the whole range of ports once. Another destination, or another source address, has the range again.
//!
//! Here: counting, over a list of any length. Not here: from where it is bad (`gauges`).
//!
//! Bound: `CLASSES_MAX` classes. When there are more, the smallest are forgotten (Misra and Gries): a class
//! that is left is counted too low by at most `Ports::undercount`, and one with more connections than that is
//! never missed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::parse;
use crate::tcp::TcpSocket;

/// Connections that must differ in their local port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Class {
    /// Local address.
    pub source: IpAddr,
    /// Address and port of the other end.
    pub target: SocketAddr,
}

/// What a class has in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Ports, which are connections.
    pub ports: u64,
    /// Those of them that are closed and wait.
    pub time_wait: u64,
}

/// Ports of the range for outgoing connections, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    range: Option<(u16, u16)>,
    reserved: u64,
    listening: BTreeSet<u16>,
    classes: BTreeMap<Class, Use>,
    /// Ports of the range that sockets hold which are connected to nobody; none when the kernel does not
    /// tell.
    pub held: Option<u64>,
    /// By how much a class may be counted too low.
    pub undercount: u64,
}

impl Ports {
    /// Counts the ports of this network namespace.
    ///
    /// # Errors
    ///
    /// When the list of sockets cannot be read; the text names the file.
    pub fn read() -> io::Result<Self> {
        let text = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
        let range = text("ip_local_port_range").and_then(|text| parse::port_range(&text));
        let reserved =
            text("ip_local_reserved_ports").map_or_else(Vec::new, |text| parse::port_list(&text));
        let mut ports = Self::new(range, &reserved);
        TcpSocket::for_each(|socket| ports.add(&socket))?;
        let mut held = 0;
        let is_told = TcpSocket::for_each_bound_only(|local| {
            held += u64::from(ports.is_within(local.port()));
        });
        // A kernel or a container that refuses this question still answers the other one.
        ports.held = is_told.unwrap_or(false).then_some(held);
        Ok(ports)
    }

    /// Returns the range of this network namespace with nothing in use.
    pub(crate) fn of_host() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
        let range = text("ip_local_port_range").and_then(|text| parse::port_range(&text));
        let reserved =
            text("ip_local_reserved_ports").map_or_else(Vec::new, |text| parse::port_list(&text));
        Self::new(range, &reserved)
    }

    pub(super) fn new(range: Option<(u16, u16)>, reserved: &[(u16, u16)]) -> Self {
        let is_reserved = |port: &u16| {
            let is_within = |(first, last): &(u16, u16)| (*first..=*last).contains(port);
            reserved.iter().any(is_within)
        };
        let taken = range.map_or(0, |(first, last)| {
            (first..=last).filter(is_reserved).count()
        });
        Self {
            range,
            reserved: u64::try_from(taken).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// Counts a socket of the kernel's list, in which those that listen come first.
    ///
    /// Source: `Documentation/networking/proc_net_tcp.rst`.
    pub(super) fn add(&mut self, socket: &TcpSocket) {
        let port = socket.local.port();
        if !self.is_within(port) {
            return;
        }
        if socket.state == TcpSocket::LISTEN {
            self.listening.insert(port);
        }
        // What a listener accepted shares the listener's port and takes none.
        if self.listening.contains(&port) || socket.remote.port() == 0 {
            return;
        }
        let class = Class {
            source: socket.local.ip(),
            target: socket.remote,
        };
        if !self.classes.contains_key(&class) && self.classes.len() >= CLASSES_MAX {
            self.forget_one_of_each();
            return;
        }
        let used = self.classes.entry(class).or_default();
        used.ports += 1;
        used.time_wait += u64::from(socket.state == TIME_WAIT);
    }

    /// Returns how many ports an outgoing connection may have; none when the range is unknown.
    #[must_use]
    pub fn usable(&self) -> Option<u64> {
        let (first, last) = self.range?;
        Some((u64::from(last - first) + 1).saturating_sub(self.reserved))
    }

    /// Returns the class with the most ports in use.
    #[must_use]
    pub fn fullest(&self) -> Option<(&Class, &Use)> {
        self.classes.iter().max_by_key(|(_, used)| used.ports)
    }

    fn is_within(&self, port: u16) -> bool {
        self.range
            .is_some_and(|(first, last)| (first..=last).contains(&port))
    }

    fn forget_one_of_each(&mut self) {
        self.undercount += 1;
        self.classes.retain(|_, used| {
            used.ports -= 1;
            used.time_wait = used.time_wait.min(used.ports);
            used.ports > 0
        });
    }
}

/// Classes that are counted apart: 400 KiB. Of a million connections each class with 250 or more is found.
const CLASSES_MAX: usize = 4_096;

const TIME_WAIT: &str = "TIME_WAIT";

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, state: &'static str) -> TcpSocket {
        TcpSocket {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            state,
            send_queue: 0,
            receive_queue: 0,
        }
    }

    #[test]
    fn each_source_and_destination_has_the_range_once() {
        let mut ports = Ports::new(Some((40_000, 40_063)), &[]);
        for (local, remote, state) in [
            ("10.0.0.1:40000", "10.9.9.9:443", "ESTABLISHED"),
            ("10.0.0.1:40001", "10.9.9.9:443", TIME_WAIT),
            ("10.0.0.2:40000", "10.9.9.9:443", "ESTABLISHED"),
            ("10.0.0.1:40000", "10.9.9.9:444", "ESTABLISHED"),
            // Not of the range.
            ("10.0.0.1:39999", "10.9.9.9:443", "ESTABLISHED"),
            ("10.0.0.1:40064", "10.9.9.9:443", "ESTABLISHED"),
        ] {
            ports.add(&socket(local, remote, state));
        }
        assert_eq!((ports.classes.len(), ports.usable()), (3, Some(64)));
        let (class, used) = ports.fullest().unwrap();
        assert_eq!(class.source.to_string(), "10.0.0.1");
        assert_eq!(class.target.to_string(), "10.9.9.9:443");
        assert_eq!((used.ports, used.time_wait), (2, 1));
    }

    #[test]
    fn what_a_listener_accepted_takes_no_port() {
        let mut ports = Ports::new(Some((40_000, 40_063)), &[]);
        ports.add(&socket("0.0.0.0:40007", "0.0.0.0:0", TcpSocket::LISTEN));
        ports.add(&socket("10.0.0.1:40007", "10.9.9.9:5", "ESTABLISHED"));
        assert_eq!(ports.fullest(), None);
    }

    #[test]
    fn reserved_ports_are_not_usable_and_no_range_is_unknown() {
        let reserved = [(40_000, 40_009), (40_005, 40_010), (50_000, 50_100)];
        let ports = Ports::new(Some((40_000, 40_063)), &reserved);
        assert_eq!(ports.usable(), Some(53));
        let mut ports = Ports::new(None, &reserved);
        ports.add(&socket("10.0.0.1:40000", "10.9.9.9:443", "ESTABLISHED"));
        assert_eq!((ports.usable(), ports.fullest()), (None, None));
    }

    #[test]
    fn full_class_is_found_among_more_than_are_kept() {
        let mut ports = Ports::new(Some((1_024, 65_535)), &[]);
        let small = u64::try_from(CLASSES_MAX * 2).unwrap();
        for n in 0..small {
            let place = u16::try_from(n).unwrap();
            let remote = format!("10.1.{}.{}:443", place >> 8, place & 255);
            ports.add(&socket("10.0.0.1:2000", &remote, "ESTABLISHED"));
            let local = format!("10.0.0.1:{}", 2_000 + place);
            ports.add(&socket(&local, "10.9.9.9:443", "ESTABLISHED"));
        }
        assert!(ports.classes.len() <= CLASSES_MAX);
        let (class, used) = ports.fullest().unwrap();
        assert_eq!(class.target.to_string(), "10.9.9.9:443");
        assert!(used.ports <= small && used.ports + ports.undercount >= small);
        assert!(ports.undercount < small / 100, "{}", ports.undercount);
    }
}
