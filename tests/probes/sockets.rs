//! What the kernel holds of a relay's port.
//!
//! Here: the TCP states of the sockets whose local end is the relay's. Not here: the other ends, which
//! belong to the peers.
//!
//! Source: proc(5), `/proc/net/tcp`; `include/net/tcp_states.h` for the numbers.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use crate::relay::{DEADLINE, PAUSE};

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

/// Returns how many sockets with the relay's port as their own there are in each state.
pub(crate) fn states(relay: SocketAddr) -> BTreeMap<&'static str, usize> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    count(&table, relay.port())
}

/// Waits until the relay's sockets are in no other than these states.
pub(crate) fn until_only(relay: SocketAddr, allowed: &[&str]) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let states = states(relay);
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

/// Reads rows such as `0: 0100007F:1BBC 00000000:0000 0A ...`.
fn count(table: &str, port: u16) -> BTreeMap<&'static str, usize> {
    let mut states = BTreeMap::new();
    for row in table.lines().skip(1) {
        let mut fields = row.split_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let local_port = local.rsplit_once(':').map(|(_, port)| port).unwrap();
        if u16::from_str_radix(local_port, 16).unwrap() == port {
            let number = usize::from_str_radix(state, 16).unwrap();
            *states.entry(STATES[number - 1]).or_default() += 1;
        }
    }
    states
}

#[test]
fn rows_of_the_kernel_are_read_by_local_port_and_state() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
        0: 0100007F:1BBC 00000000:0000 0A 00000000:00000000\n\
        1: 0100007F:1BBC 0100007F:C350 06 00000000:00000000\n\
        2: 0100007F:1BBC 0100007F:C351 06 00000000:00000000\n\
        3: 0100007F:C350 0100007F:1BBC 05 00000000:00000000\n";
    let found = count(table, 0x1bbc);
    assert_eq!(found, BTreeMap::from([("LISTEN", 1), ("TIME_WAIT", 2)]));
}

#[test]
fn a_socket_that_is_held_open_is_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held = std::net::TcpStream::connect(address).unwrap();
    let accepted = listener.accept().unwrap();
    let expected = BTreeMap::from([("ESTABLISHED", 1), ("LISTEN", 1)]);
    assert_eq!(states(address), expected);
    drop((held, accepted, listener));
}
