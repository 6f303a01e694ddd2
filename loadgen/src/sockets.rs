//! The kernel's list of TCP sockets, counted by state.
//!
//! Here: `/proc/net/tcp` and `/proc/net/tcp6` of the own network namespace, read and counted for one
//! address. Not here: what a count means (`books`).
//!
//! A socket belongs to the relay's side when its local end is the relay's address and port, to the
//! generator's side when its remote end is. A connection that no process owns any more (`TIME_WAIT`,
//! `FIN_WAIT`) is in the list as well; that is why this is read and not a list of descriptors.
//!
//! Bound: one line of the list is held at a time.
//! Source: `Documentation/networking/proc_net_tcp.rst` and `include/net/tcp_states.h` of the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Serialize;

/// Sockets of one address by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Local end is the relay's address.
    pub relay: BTreeMap<&'static str, u64>,
    /// Remote end is the relay's address.
    pub generator: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Reads the kernel's list.
    ///
    /// # Errors
    /// When the list cannot be read or is not one.
    pub fn take(relay: SocketAddr) -> io::Result<Self> {
        let mut ledger = Self::default();
        ledger.read("/proc/net/tcp", relay)?;
        match ledger.read("/proc/net/tcp6", relay) {
            // The host has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ledger),
            result => result.map(|()| ledger),
        }
    }

    /// Returns the sockets of the relay's side in a state.
    #[must_use]
    pub fn of_relay(&self, state: &str) -> u64 {
        self.relay.get(state).copied().unwrap_or(0)
    }

    fn read(&mut self, path: &str, relay: SocketAddr) -> io::Result<()> {
        let list = BufReader::new(File::open(path)?);
        self.count(list, relay)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    }

    fn count(&mut self, list: impl BufRead, relay: SocketAddr) -> io::Result<()> {
        for line in list.lines().skip(1) {
            let line = line?;
            let socket = Socket::read(&line).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("no socket: '{line}'"))
            })?;
            if socket.state == LISTEN {
                continue;
            }
            if socket.local == relay {
                *self.relay.entry(socket.state).or_default() += 1;
            } else if socket.remote == relay {
                *self.generator.entry(socket.state).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: &'static str,
}

impl Socket {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = address(fields.next()?)?;
        let remote = address(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let state = usize::from(state).checked_sub(1)?;
        Some(Self {
            local,
            remote,
            state: STATES.get(state)?,
        })
    }
}

/// Reads `0100007F:1BBC`. IPv4 inside IPv6 becomes IPv4, so that a relay on `[::]` is found too.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(host)?)),
        32 => {
            let mut octets = [0; 16];
            for (place, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(host.get(place * 8..place * 8 + 8)?)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Returns the four bytes of an address that the kernel prints as a number of its own byte order.
#[expect(
    clippy::host_endian_bytes,
    reason = "the kernel prints the bytes of the address as a host number"
)]
fn word(text: &str) -> Option<[u8; 4]> {
    Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
}

const LISTEN: &str = "LISTEN";

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
    LISTEN,
    "CLOSING",
    "NEW_SYN_RECV",
];

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

    /// The list of a host of little byte order, as the kernel printed it.
    #[cfg(target_endian = "little")]
    fn count(lines: &str, relay: &str) -> io::Result<Ledger> {
        let mut ledger = Ledger::default();
        let list = format!("{HEAD}{lines}");
        ledger.count(list.as_bytes(), relay.parse().unwrap())?;
        Ok(ledger)
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_are_counted_by_side_and_state() {
        let lines = "\
   0: 0100007F:1BBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0\n\
   1: 0100007F:1BBC 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4\n\
   2: 0100007F:C350 0100007F:1BBC 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4\n\
   3: 0100007F:1BBC 0100007F:C351 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n\
   4: 0200007F:1BBC 0100007F:C352 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n\
   5: 0100007F:C353 0100007F:1BBC 05 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n";
        let ledger = count(lines, "127.0.0.1:7100").unwrap();
        assert_eq!(ledger.relay, [("ESTABLISHED", 1), ("TIME_WAIT", 1)].into());
        assert_eq!(
            ledger.generator,
            [("ESTABLISHED", 1), ("FIN_WAIT2", 1)].into()
        );
        assert_eq!(ledger.of_relay("TIME_WAIT"), 1);
        assert_eq!(ledger.of_relay("LAST_ACK"), 0);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_of_both_families_are_read() {
        let v6 =
            "   0: B80D0120000000000000000001000000:1BBC 00000000000000000000000002000000:C350 08";
        let ledger = count(v6, "[2001:db8::1]:7100").unwrap();
        assert_eq!(ledger.of_relay("CLOSE_WAIT"), 1);
        let mapped =
            "   0: 0000000000000000FFFF00000100007F:1BBC 0000000000000000FFFF00000100007F:C350 01";
        let ledger = count(mapped, "127.0.0.1:7100").unwrap();
        assert_eq!(ledger.of_relay("ESTABLISHED"), 1);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_list_that_is_none_is_named() {
        for line in [
            "   0: 0100007F 0100007F:C350 01",
            "   0: 0100007F:1BBC 0100007F:C350",
            "   0: 0100007F:1BBC 0100007F:C350 00",
            "   0: 0100007F:1BBC 0100007F:C350 0D",
            "   0: 0100:1BBC 0100007F:C350 01",
            "",
        ] {
            let error = count(&format!("{line}\n"), "127.0.0.1:7100").unwrap_err();
            assert!(error.to_string().contains("no socket"), "{error}");
        }
    }

    #[test]
    fn both_ends_of_a_connection_of_this_host_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _here = TcpStream::connect(address).unwrap();
        let _there = listener.accept().unwrap();
        let ledger = Ledger::take(address).unwrap();
        assert_eq!(ledger.relay, [("ESTABLISHED", 1)].into());
        assert_eq!(ledger.generator, [("ESTABLISHED", 1)].into());
    }
}
