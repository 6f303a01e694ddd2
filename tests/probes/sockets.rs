//! What the kernel holds of a relay's port.
//!
//! Here: the TCP states of the sockets whose local end is the relay's. Not here: the other ends, which
//! belong to the peers.
//!
//! The kernel may give a listener a port that has connections of an earlier one in `TIME_WAIT`: those
//! that are there before the first peer are not the relay's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ringway_tuning::TcpSocket;

use crate::relay::DEADLINE;

/// Pause between two looks: each walks through every socket of the host.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets of one listener's port.
#[derive(Debug)]
pub(crate) struct Sockets {
    listener: SocketAddr,
    /// Remote ends that were there before.
    strangers: BTreeSet<SocketAddr>,
}

impl Sockets {
    /// Begins with a listener that no peer has connected to yet.
    pub(crate) fn of(listener: SocketAddr) -> Self {
        let mut strangers = BTreeSet::new();
        for_each(listener, |socket| {
            if socket.state != TcpSocket::LISTEN {
                strangers.insert(socket.remote);
            }
        });
        Self {
            listener,
            strangers,
        }
    }

    /// Returns how many sockets there are in each state.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for_each(self.listener, |socket| {
            if !self.strangers.contains(&socket.remote) {
                *states.entry(socket.state).or_default() += 1;
            }
        });
        states
    }

    /// Waits until the sockets are in no other than these states.
    pub(crate) fn until_only(&self, allowed: &[&str]) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let states = self.states();
            if states.keys().all(|state| allowed.contains(state)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the relay's port has {states:?}, allowed are {allowed:?}"
            );
            thread::sleep(PAUSE);
        }
    }
}

fn for_each(listener: SocketAddr, mut see: impl FnMut(TcpSocket)) {
    TcpSocket::for_each(|socket| {
        if socket.local == listener {
            see(socket);
        }
    })
    .unwrap();
}

#[test]
fn a_socket_that_is_held_open_is_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = Sockets::of(address);
    let held = std::net::TcpStream::connect(address).unwrap();
    let accepted = listener.accept().unwrap();
    let expected = BTreeMap::from([("ESTABLISHED", 1), ("LISTEN", 1)]);
    assert_eq!(sockets.states(), expected);
    drop((held, accepted, listener));
}
