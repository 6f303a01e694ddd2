//! The kernel's list of TCP sockets.
//!
//! Here: `/proc/net/tcp` and `/proc/net/tcp6` of the own network namespace, line by line. Not here: what a
//! count of them means (whoever reads).
//!
//! A connection that no process owns any more (`TIME_WAIT`, `FIN_WAIT`) is in the list as well; that is
//! why a leak of sockets is looked for here and not in a list of descriptors.
//!
//! Bound: one line of the list is held at a time.
//! Source: `Documentation/networking/proc_net_tcp.rst` and `include/net/tcp_states.h` of the kernel.

mod bound;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One TCP socket of the own network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSocket {
    /// The end at this socket; IPv4 inside IPv6 is written as IPv4.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The state by its name in the kernel, without `TCP_`.
    pub state: &'static str,
    /// Bytes that the other end has not acknowledged yet.
    pub send_queue: u32,
    /// Bytes that the program has not read yet; of a listening socket, connections that it has not accepted.
    pub receive_queue: u32,
}

impl TcpSocket {
    /// The state of a socket that waits for connections.
    pub const LISTEN: &str = "LISTEN";

    /// Reads the kernel's list and hands each socket to `see`. Not a snapshot: sockets come and go
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When the list cannot be read or is not one; the text names the file.
    pub fn for_each(mut see: impl FnMut(Self)) -> io::Result<()> {
        read("/proc/net/tcp", &mut see)?;
        match read("/proc/net/tcp6", &mut see) {
            // The host has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Hands the local end of each socket to `see` that holds a port and is connected to nobody; returns
    /// whether this kernel tells them (6.8 does).
    ///
    /// # Errors
    ///
    /// When the kernel refuses to answer.
    pub fn for_each_bound_only(see: impl FnMut(SocketAddr)) -> io::Result<bool> {
        bound::for_each(see)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = address(fields.next()?)?;
        let remote = address(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let state = usize::from(state).checked_sub(1)?;
        let (send, receive) = fields.next()?.split_once(':')?;
        let queue = |text| u32::from_str_radix(text, 16).ok();
        Some(Self {
            local,
            remote,
            state: STATES.get(state)?,
            send_queue: queue(send)?,
            receive_queue: queue(receive)?,
        })
    }
}

fn read(path: &str, see: &mut impl FnMut(TcpSocket)) -> io::Result<()> {
    let list = BufReader::new(File::open(path)?);
    lines(list, see).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

fn lines(list: impl BufRead, see: &mut impl FnMut(TcpSocket)) -> io::Result<()> {
    for line in list.lines().skip(1) {
        let line = line?;
        let socket = TcpSocket::parse(&line).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("no socket: '{line}'"))
        })?;
        see(socket);
    }
    Ok(())
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
    TcpSocket::LISTEN,
    "CLOSING",
    "NEW_SYN_RECV",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

    /// The sockets of a list of a host of little byte order, as the kernel printed it.
    #[cfg(target_endian = "little")]
    fn sockets(text: &str) -> io::Result<Vec<(String, String, &'static str)>> {
        let mut found = Vec::new();
        lines(format!("{HEAD}{text}").as_bytes(), &mut |socket| {
            let (local, remote) = (socket.local.to_string(), socket.remote.to_string());
            found.push((local, remote, socket.state));
        })?;
        Ok(found)
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_the_kernel_are_read() {
        let text = "\
   0: 0100007F:1BBC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0\n\
   1: 0100007F:1BBC 0200007F:C350 01 00000010:00000A00 00:00000000 00000000     0        0 2 1 0 20 4\n\
   2: 0100007F:1BBC 0100007F:C351 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n";
        let found = sockets(text).unwrap();
        let row = |remote: &str, state| ("127.0.0.1:7100".to_owned(), remote.to_owned(), state);
        let expected = [
            row("0.0.0.0:0", "LISTEN"),
            row("127.0.0.2:50000", "ESTABLISHED"),
            row("127.0.0.1:50001", "TIME_WAIT"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_waits_in_the_kernel_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut here = TcpStream::connect(address).unwrap();
        Write::write_all(&mut here, b"seven b").unwrap();
        let client = here.local_addr().unwrap();
        let waiting = || {
            let (mut accepts, mut unread) = (0, 0);
            TcpSocket::for_each(|socket| {
                if socket.local == address && socket.state == TcpSocket::LISTEN {
                    accepts = socket.receive_queue;
                } else if socket.local == address && socket.remote == client {
                    unread = socket.receive_queue;
                }
            })
            .unwrap();
            (accepts, unread)
        };
        assert_eq!(waiting(), (1, 7));
        let _there = listener.accept().unwrap();
        assert_eq!(waiting(), (0, 7));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_of_both_families_are_read() {
        let v6 = "   0: B80D0120000000000000000001000000:1BBC 00000000000000000000000002000000:C350 08 00000000:00000001";
        let [(local, remote, state)] = sockets(v6).unwrap().try_into().unwrap();
        assert_eq!(local, "[2001:db8::1]:7100");
        assert_eq!((remote.as_str(), state), ("[::2]:50000", "CLOSE_WAIT"));
        let mapped = "   0: 0000000000000000FFFF00000100007F:1BBC 0000000000000000FFFF00000100007F:C350 01 00000000:00000000";
        let [(local, ..)] = sockets(mapped).unwrap().try_into().unwrap();
        assert_eq!(local, "127.0.0.1:7100");
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_list_that_is_none_is_named() {
        for line in [
            "   0: 0100007F 0100007F:C350 01",
            "   0: 0100007F:1BBC 0100007F:C350",
            "   0: 0100007F:1BBC 0100007F:C350 00",
            "   0: 0100007F:1BBC 0100007F:C350 0D",
            "   0: 0100:1BBC 0100007F:C350 01 00000000:00000000",
            "   0: 0100007F:1BBC 0100007F:C350 01",
            "   0: 0100007F:1BBC 0100007F:C350 01 00000000",
            "",
        ] {
            let error = sockets(&format!("{line}\n")).unwrap_err();
            assert!(error.to_string().contains("no socket"), "{error}");
        }
    }

    #[test]
    fn both_ends_of_a_connection_of_this_host_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let here = TcpStream::connect(address).unwrap();
        let _there = listener.accept().unwrap();
        // The list is no snapshot: a socket can stand in it twice when others come and go meanwhile.
        let mut found = BTreeSet::new();
        let client = here.local_addr().unwrap();
        TcpSocket::for_each(|socket| {
            let ends = (socket.local, socket.remote);
            if ends == (address, client) || ends == (client, address) {
                found.insert((socket.local, socket.state));
            }
        })
        .unwrap();
        let both = [(address, "ESTABLISHED"), (client, "ESTABLISHED")];
        assert_eq!(found, BTreeSet::from(both));
    }
}
