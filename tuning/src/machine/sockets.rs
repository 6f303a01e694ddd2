//! Sockets of the host, counted.
//!
//! Here: who listens and with what queue, how many ports of the range are taken. Not here: the lists (`tcp`).
//!
//! Not a snapshot: sockets come and go while they are counted.
//! Bound: [`CLASSES_MAX`] pairs of a source and a destination are told apart; what comes later is not
//! counted.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::tcp::{Listening, TcpSocket};

/// What the sockets of the own network namespace come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// Sockets that wait for connections; `None` when the kernel did not tell.
    pub(crate) listeners: Option<Vec<Listening>>,
    /// Ports of the range; `None` when the kernel did not tell.
    pub(crate) ports: Option<Ports>,
    /// Ports of the range held by sockets that are connected to nobody; `None` when this kernel does not
    /// tell.
    pub(crate) ports_bound_only: Option<u64>,
}

/// Ports of the range that connections hold, those of `TIME_WAIT` included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Connections that were made from here.
    pub(crate) taken: u64,
    /// The source and the destination between which most are taken, and how many; `None` when none is.
    pub(crate) busiest: Option<(IpAddr, SocketAddr, u64)>,
}

impl Sockets {
    pub(super) fn read(range: Option<(u16, u16)>) -> Self {
        let listeners = listeners().ok();
        let range = range.map(|(first, last)| first..=last);
        let ports = range.clone().zip(listeners.as_ref());
        let ports = ports.and_then(|(range, listeners)| {
            let mut count = Count::new(listeners);
            let seen = TcpSocket::for_each(|socket| {
                if range.contains(&socket.local.port()) {
                    count.see(&socket);
                }
            });
            seen.ok().map(|()| count.ports())
        });
        let ports_bound_only = range.and_then(|range| {
            let mut count = 0;
            let is_told = TcpSocket::for_each_bound_only(|local| {
                count += u64::from(range.contains(&local.port()));
            });
            is_told.ok()?.then_some(count)
        });
        Self {
            listeners,
            ports,
            ports_bound_only,
        }
    }
}

fn listeners() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    TcpSocket::for_each_listening(|listening| found.push(listening))?;
    Ok(found)
}

/// Counts the connections that hold a port of their own.
struct Count {
    /// Connections from these ports came in: all share the port of their listener.
    accepting: HashSet<u16>,
    taken: u64,
    classes: HashMap<(IpAddr, SocketAddr), u64>,
}

impl Count {
    fn new(listeners: &[Listening]) -> Self {
        Self {
            accepting: listeners.iter().map(|one| one.local.port()).collect(),
            taken: 0,
            classes: HashMap::new(),
        }
    }

    fn see(&mut self, socket: &TcpSocket) {
        let is_incoming = self.accepting.contains(&socket.local.port());
        if is_incoming || socket.state == TcpSocket::LISTEN {
            return;
        }
        self.taken += 1;
        let class = (socket.local.ip(), socket.remote);
        if self.classes.len() < CLASSES_MAX || self.classes.contains_key(&class) {
            *self.classes.entry(class).or_default() += 1;
        }
    }

    fn ports(self) -> Ports {
        // Of equals the smallest, so that the same sockets give the same answer.
        let order = |((ip, to), count): &((IpAddr, SocketAddr), u64)| {
            (*count, std::cmp::Reverse((*ip, *to)))
        };
        let busiest = self.classes.into_iter().max_by_key(order);
        Ports {
            taken: self.taken,
            busiest: busiest.map(|((ip, to), count)| (ip, to, count)),
        }
    }
}

/// Pairs of source and destination that are told apart: some 8 MiB while they are counted.
const CLASSES_MAX: usize = 65_536;

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
    fn ports_are_counted_by_where_they_lead() {
        let listening = Listening {
            local: "0.0.0.0:40000".parse().unwrap(),
            waiting: 0,
            limit: 128,
        };
        let mut count = Count::new(&[listening]);
        for (local, remote, state) in [
            ("10.0.0.1:40000", "10.0.0.9:50000", "ESTABLISHED"),
            ("10.0.0.1:41000", "0.0.0.0:0", "LISTEN"),
            ("10.0.0.1:40001", "10.0.0.2:443", "ESTABLISHED"),
            ("10.0.0.1:40002", "10.0.0.2:443", "TIME_WAIT"),
            ("10.0.0.1:40002", "10.0.0.3:443", "ESTABLISHED"),
            ("10.0.0.7:40002", "10.0.0.2:443", "ESTABLISHED"),
        ] {
            count.see(&socket(local, remote, state));
        }
        let ports = count.ports();
        assert_eq!(ports.taken, 4);
        let (from, to, count) = ports.busiest.unwrap();
        assert_eq!((from.to_string(), count), ("10.0.0.1".to_owned(), 2));
        assert_eq!(to.to_string(), "10.0.0.2:443");
        assert_eq!(Count::new(&[]).ports(), Ports::default());
    }

    #[test]
    fn a_connection_of_this_host_holds_a_port() {
        let listener = std::net::TcpListener::bind("127.0.0.94:0").unwrap();
        let address = listener.local_addr().unwrap();
        let here = std::net::TcpStream::connect(address).unwrap();
        let port = here.local_addr().unwrap().port();
        let sockets = Sockets::read(Some((port, port)));
        let ports = sockets.ports.unwrap();
        assert!(ports.taken >= 1, "{ports:?}");
        let listeners = sockets.listeners.unwrap();
        assert!(listeners.iter().any(|one| one.local == address));
        assert_eq!(Sockets::read(None).ports, None);
    }
}
