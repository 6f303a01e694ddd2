//! Sockets that wait for connections, with the queue that each has in use.
//!
//! `/proc/net/tcp` has the connections that wait and not how many may: a listener keeps the limit that it was
//! made with, whatever the settings say by now.
//!
//! Here: the list. Not here: how the kernel is asked (`diag`), what is long enough (whoever reads).
//!
//! Source: `sock_diag(7)`: of a listening socket `idiag_rqueue` is the backlog now, `idiag_wqueue` its limit.

use std::io;
use std::net::SocketAddr;

use super::diag;

/// A socket that waits for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Where it waits; IPv4 inside IPv6 is written as IPv4.
    pub(crate) local: SocketAddr,
    /// Connections that are made and not accepted yet.
    pub(crate) waiting: u32,
    /// How many of these there may be.
    pub(crate) limit: u32,
}

/// Hands each to `see`.
pub(super) fn for_each(mut see: impl FnMut(Listening)) -> io::Result<()> {
    diag::dump(LISTEN, &mut |socket| {
        see(Listening {
            local: socket.local,
            waiting: socket.receive_queue,
            limit: socket.send_queue,
        });
    })
}

/// The bit of `TCP_LISTEN`.
const LISTEN: u32 = 1 << 10;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

    use super::*;

    #[test]
    fn a_listener_tells_its_queue_and_its_limit() {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::from(([127, 0, 0, 95], 0))).unwrap();
        listen(&listener, 7).unwrap();
        let local: SocketAddr = getsockname(&listener).unwrap().try_into().unwrap();
        let _waits = TcpStream::connect(local).unwrap();
        let mut found = Vec::new();
        for_each(|listening| {
            if listening.local == local {
                found.push((listening.waiting, listening.limit));
            }
        })
        .unwrap();
        assert_eq!(found, [(1, 7)]);
    }
}
