//! The kernel's TCP sockets of one relay, counted by state.
//!
//! A socket belongs to the relay's side when its local end is the relay's address and port, to the
//! generator's side when its remote end is.
//!
//! Here: the counts. Not here: the kernel's list (`ringway_tuning`), what a count means (`books`).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use ringway_tuning::TcpSocket;
use serde::{Deserialize, Serialize};

/// Sockets of one address by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Local end is the relay's address.
    pub relay: BTreeMap<&'static str, u64>,
    /// Remote end is the relay's address.
    pub generator: BTreeMap<&'static str, u64>,
    /// What waited for the relay in the kernel.
    pub queues: Queues,
}

/// What waits in the kernel for a program to take it, or for the other end to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Connections that it has not accepted.
    pub accepts: u64,
    /// Bytes that it has not read.
    pub unread_bytes: u64,
    /// Bytes that it has written and the other end has not acknowledged.
    pub unsent_bytes: u64,
}

impl Queues {
    /// Returns the larger of both, each by itself.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            accepts: self.accepts.max(other.accepts),
            unread_bytes: self.unread_bytes.max(other.unread_bytes),
            unsent_bytes: self.unsent_bytes.max(other.unsent_bytes),
        }
    }
}

impl Ledger {
    /// Reads the kernel's list.
    ///
    /// # Errors
    /// When the list cannot be read or is not one.
    pub fn take(relay: SocketAddr) -> io::Result<Self> {
        let mut ledger = Self::default();
        TcpSocket::for_each(|socket| ledger.count(&socket, relay))?;
        Ok(ledger)
    }

    /// Returns the sockets of the generator's side in a state.
    #[must_use]
    pub fn of_generator(&self, state: &str) -> u64 {
        self.generator.get(state).copied().unwrap_or(0)
    }

    /// Returns the sockets of the relay's side in a state.
    #[must_use]
    pub fn of_relay(&self, state: &str) -> u64 {
        self.relay.get(state).copied().unwrap_or(0)
    }

    pub(crate) fn count(&mut self, socket: &TcpSocket, relay: SocketAddr) {
        if socket.state == TcpSocket::LISTEN {
            let ip = socket.local.ip();
            let is_own = ip == relay.ip() || ip.is_unspecified();
            if is_own && socket.local.port() == relay.port() {
                self.queues.accepts += u64::from(socket.receive_queue);
            }
            return;
        }
        if socket.local == relay {
            self.queues.unread_bytes += u64::from(socket.receive_queue);
            self.queues.unsent_bytes += u64::from(socket.send_queue);
            *self.relay.entry(socket.state).or_default() += 1;
        } else if socket.remote == relay {
            *self.generator.entry(socket.state).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_are_counted_by_side_and_state() {
        let [relay, peer, other] = ["127.0.0.1:7100", "127.0.0.1:50000", "127.0.0.2:7100"]
            .map(|address| address.parse().unwrap());
        let mut ledger = Ledger::default();
        for (local, remote, state) in [
            (relay, "0.0.0.0:0".parse().unwrap(), TcpSocket::LISTEN),
            (relay, peer, "ESTABLISHED"),
            (peer, relay, "ESTABLISHED"),
            (relay, peer, "TIME_WAIT"),
            (other, peer, "TIME_WAIT"),
            (peer, relay, "FIN_WAIT2"),
        ] {
            let socket = TcpSocket {
                local,
                remote,
                state,
                receive_queue: 3,
                send_queue: 5,
            };
            ledger.count(&socket, relay);
        }
        assert_eq!(ledger.relay, [("ESTABLISHED", 1), ("TIME_WAIT", 1)].into());
        assert_eq!(
            ledger.generator,
            [("ESTABLISHED", 1), ("FIN_WAIT2", 1)].into()
        );
        assert_eq!(
            ledger.queues,
            Queues {
                accepts: 3,
                unread_bytes: 6,
                unsent_bytes: 10
            }
        );
        assert_eq!(ledger.of_relay("TIME_WAIT"), 1);
        assert_eq!(ledger.of_relay("LAST_ACK"), 0);
    }

    #[test]
    fn both_ends_of_a_connection_of_this_host_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _here = TcpStream::connect(address).unwrap();
        let _there = listener.accept().unwrap();
        let ledger = Ledger::take(address).unwrap();
        assert_eq!(ledger.relay, [("ESTABLISHED", 1)].into());
        assert_eq!(ledger.generator, [("ESTABLISHED", 1)].into());
    }
}
