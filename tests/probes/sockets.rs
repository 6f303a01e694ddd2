//! What the kernel holds of a relay's port.
//!
//! Here: the TCP states of the sockets whose local end is the relay's. Not here: the other ends, which
//! belong to the peers.
//!
//! The kernel may give a listener a port that has connections of an earlier one in `TIME_WAIT`: those
//! that are there before the first peer are not the relay's.
//! Source: proc(5), `/proc/net/tcp`; `include/net/tcp_states.h` for the numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::relay::DEADLINE;

/// Names of the states, from number 1 on.
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// Pause between two looks: each walks through every socket of the host.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets of one listener's port.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The local end as the kernel writes it, such as `0100007F:1BBC`.
    local: String,
    /// Remote ends that were there before.
    strangers: BTreeSet<String>,
}

impl Sockets {
    /// Begins with a listener of IPv4 that no peer has connected to yet.
    pub(crate) fn of(listener: SocketAddr) -> Self {
        let SocketAddr::V4(listener) = listener else {
            panic!("/proc/net/tcp is of IPv4");
        };
        #[expect(
            clippy::host_endian_bytes,
            reason = "the kernel prints the bytes of the address as a number of the host"
        )]
        let ip = u32::from_ne_bytes(listener.ip().octets());
        let local = format!("{ip:08X}:{:04X}", listener.port());
        let strangers = rows(&table(), &local)
            .filter(|(_, state)| *state != "LISTEN")
            .map(|(remote, _)| remote.to_owned())
            .collect();
        Self { local, strangers }
    }

    /// Returns how many sockets there are in each state.
    pub(crate) fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for (remote, state) in rows(&table(), &self.local) {
            if !self.strangers.contains(remote) {
                *states.entry(state).or_default() += 1;
            }
        }
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

fn table() -> String {
    fs::read_to_string("/proc/net/tcp").unwrap()
}

/// Returns remote end and state of each row such as `0: 0100007F:1BBC 00000000:0000 0A ...`.
fn rows<'a>(table: &'a str, local: &'a str) -> impl Iterator<Item = (&'a str, &'static str)> {
    table.lines().skip(1).filter_map(move |row| {
        let mut fields = row.split_whitespace().skip(1);
        let (own, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let number = usize::from_str_radix(state, 16).unwrap();
        (own == local).then(|| (remote, STATES[number - 1]))
    })
}

#[test]
fn rows_of_the_kernel_are_read_by_local_end_and_state() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
        0: 0100007F:1BBC 00000000:0000 0A 00000000:00000000\n\
        1: 0100007F:1BBC 0100007F:C350 06 00000000:00000000\n\
        2: 0200007F:1BBC 0100007F:C351 06 00000000:00000000\n\
        3: 0100007F:C350 0100007F:1BBC 05 00000000:00000000\n";
    let found: Vec<_> = rows(table, "0100007F:1BBC").collect();
    let expected = [("00000000:0000", "LISTEN"), ("0100007F:C350", "TIME_WAIT")];
    assert_eq!(found, expected);
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
