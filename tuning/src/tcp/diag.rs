//! The kernel's list of sockets over netlink.
//!
//! Here: one request for the TCP sockets in some states, its answers. Not here: which states, what a count
//! means (`bound`, `listening`).
//!
//! Bound: 32 KiB of answers at a time.
//! Source: `sock_diag(7)`; `struct inet_diag_msg` of `linux/inet_diag.h`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// What the kernel tells of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) local: SocketAddr,
    /// Of a listening socket: connections that it has not accepted.
    pub(super) receive_queue: u32,
    /// Of a listening socket: how many of these there may be.
    pub(super) send_queue: u32,
}

/// Hands each TCP socket of both families to `see` whose state is among the bits.
pub(super) fn dump(states: u32, see: &mut impl FnMut(Told)) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::NETLINK;
    let kind = SocketType::DGRAM;
    let diag = socket_with(family, kind, flags, Some(netlink::SOCK_DIAG))?;
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let kernel = SocketAddrNetlink::new(0, 0);
        let request = request(family, states);
        sendto(&diag, &request, SendFlags::empty(), &kernel)?;
        read_dump(&diag, see)?;
    }
    Ok(())
}

/// Reads answers until the last one.
fn read_dump(diag: &OwnedFd, see: &mut impl FnMut(Told)) -> io::Result<()> {
    let mut buffer = vec![0_u8; ANSWER_BYTES];
    loop {
        let (_, count) = recv(diag, buffer.as_mut_slice(), RecvFlags::empty())?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if take_messages(bytes, see)? {
            return Ok(());
        }
    }
}

/// Takes the messages of one answer; true when the dump is over.
fn take_messages(mut bytes: &[u8], see: &mut impl FnMut(Told)) -> io::Result<bool> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no answer of sock_diag");
    while !bytes.is_empty() {
        let len = usize::try_from(u32_at(bytes, 0).ok_or_else(wrong)?).map_err(|_| wrong())?;
        let kind = u16_at(bytes, 4).ok_or_else(wrong)?;
        if len < HEAD_BYTES {
            return Err(wrong());
        }
        let message = bytes.get(HEAD_BYTES..len).ok_or_else(wrong)?;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = u32_at(message, 0).ok_or_else(wrong)?;
                // A negative errno; 0 would be an acknowledgement, which was not asked for.
                let errno = i32::try_from(code.wrapping_neg()).unwrap_or(0);
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => see(told(message).ok_or_else(wrong)?),
        }
        // Messages begin at multiples of four.
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Reads `struct inet_diag_msg`: family at 0, port at 4, address at 8, queues at 56 and 60.
fn told(message: &[u8]) -> Option<Told> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let is_v4 = u16::from(*message.first()?) == AddressFamily::INET.as_raw();
    let ip = if is_v4 {
        let octets: [u8; 4] = message.get(8..12)?.try_into().ok()?;
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        let octets: [u8; 16] = message.get(8..24)?.try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(Told {
        local: SocketAddr::new(ip, port),
        receive_queue: u32_at(message, 56)?,
        send_queue: u32_at(message, 60)?,
    })
}

/// Returns `struct nlmsghdr` and `struct inet_diag_req_v2`: all sockets of a family in these states.
#[expect(
    clippy::host_endian_bytes,
    reason = "netlink speaks the byte order of the host"
)]
fn request(family: AddressFamily, states: u32) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    let len = u32::try_from(REQUEST_BYTES).unwrap_or(0);
    bytes[0..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[16] = u8::try_from(family.as_raw()).unwrap_or(0);
    bytes[17] = PROTOCOL_TCP;
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes
}

#[expect(
    clippy::host_endian_bytes,
    reason = "netlink speaks the byte order of the host"
)]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[expect(
    clippy::host_endian_bytes,
    reason = "netlink speaks the byte order of the host"
)]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// `struct nlmsghdr`.
const HEAD_BYTES: usize = 16;
/// With `struct inet_diag_req_v2` behind it.
const REQUEST_BYTES: usize = HEAD_BYTES + 56;
/// The kernel fills at most 32 KiB at a time.
const ANSWER_BYTES: usize = 32_768;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x301;
const PROTOCOL_TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_errors() {
        let mut whole = request(AddressFamily::INET, 1).to_vec();
        whole[4] = 3;
        whole[5] = 0;
        assert!(take_messages(&whole, &mut |_| {}).unwrap());
        for bytes in [&whole[..3], &whole[..20], &[0; 16][..]] {
            assert!(take_messages(bytes, &mut |_| {}).is_err());
        }
        // A message without an address in it.
        let mut short = request(AddressFamily::INET, 1)[..20].to_vec();
        short[0] = 20;
        assert!(take_messages(&short, &mut |_| {}).is_err());
    }
}
