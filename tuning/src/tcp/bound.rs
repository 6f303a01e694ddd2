//! Sockets that hold a port and are connected to nobody.
//!
//! They are in no list of `/proc/net`: only `sock_diag` tells of them. A program that binds early and
//! connects late, or never, keeps ports from everybody this way, and nothing but this list shows it.
//!
//! Here: one request, its answers. Not here: what a count means (whoever reads).
//!
//! Bound: 32 KiB of answers at a time.
//! Source: `sock_diag(7)`; `TCP_BOUND_INACTIVE` in `include/net/tcp_states.h`, kernel 6.8.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket,
    socket_with,
};

/// Hands the local end of each such socket to `see`; false when this kernel does not tell.
pub(super) fn for_each(mut see: impl FnMut(SocketAddr)) -> io::Result<bool> {
    // One of our own must be among them: older kernels answer with an empty list.
    let own = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // On an address of its own: a host whose ports have run out has some left there.
    bind(&own, &SocketAddr::from((OWN, 0)))?;
    let own_address = SocketAddr::try_from(rustix::net::getsockname(&own)?)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut is_told = false;
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::NETLINK;
    let kind = SocketType::DGRAM;
    let diag = socket_with(family, kind, flags, Some(netlink::SOCK_DIAG))?;
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&diag, &request(family), SendFlags::empty(), &kernel)?;
        read_dump(&diag, &mut |local| {
            if local == own_address {
                is_told = true;
            } else {
                see(local);
            }
        })?;
    }
    Ok(is_told)
}

/// Reads answers until the last one.
fn read_dump(diag: &OwnedFd, see: &mut impl FnMut(SocketAddr)) -> io::Result<()> {
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
fn take_messages(mut bytes: &[u8], see: &mut impl FnMut(SocketAddr)) -> io::Result<bool> {
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
            _ => see(local_end(message).ok_or_else(wrong)?),
        }
        // Messages begin at multiples of four.
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Returns the local end of `struct inet_diag_msg`: family at 0, port at 4, address at 8.
fn local_end(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let is_v4 = u16::from(*message.first()?) == AddressFamily::INET.as_raw();
    let ip = if is_v4 {
        let octets: [u8; 4] = message.get(8..12)?.try_into().ok()?;
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        let octets: [u8; 16] = message.get(8..24)?.try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(SocketAddr::new(ip, port))
}

/// Returns `struct nlmsghdr` and `struct inet_diag_req_v2`: all sockets of a family that only hold a port.
#[expect(
    clippy::host_endian_bytes,
    reason = "netlink speaks the byte order of the host"
)]
fn request(family: AddressFamily) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    let len = u32::try_from(REQUEST_BYTES).unwrap_or(0);
    bytes[0..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes[16] = u8::try_from(family.as_raw()).unwrap_or(0);
    bytes[17] = PROTOCOL_TCP;
    bytes[20..24].copy_from_slice(&BOUND_INACTIVE.to_ne_bytes());
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

/// Where the own socket is bound: the last address of the loopback.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);
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
/// The bit of `TCP_BOUND_INACTIVE`.
const BOUND_INACTIVE: u32 = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_only_holds_a_port_is_found_until_it_is_closed() {
        let address = SocketAddr::from(([127, 0, 0, 93], 0));
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&bound, &address).unwrap();
        let local: SocketAddr = rustix::net::getsockname(&bound)
            .unwrap()
            .try_into()
            .unwrap();
        let count = || {
            let mut count = 0;
            let is_told = for_each(|seen| count += u32::from(seen == local)).unwrap();
            is_told.then_some(count)
        };
        // A kernel before 6.8 tells nothing, and that is said.
        let Some(found) = count() else { return };
        assert_eq!(found, 1);
        drop(bound);
        assert_eq!(count(), Some(0));
    }

    #[test]
    fn answers_that_are_none_are_errors() {
        let mut whole = request(AddressFamily::INET).to_vec();
        whole[4] = 3;
        whole[5] = 0;
        assert!(take_messages(&whole, &mut |_| {}).unwrap());
        for bytes in [&whole[..3], &whole[..20], &[0; 16][..]] {
            assert!(take_messages(bytes, &mut |_| {}).is_err());
        }
        // A message without an address in it.
        let mut short = request(AddressFamily::INET)[..20].to_vec();
        short[0] = 20;
        assert!(take_messages(&short, &mut |_| {}).is_err());
    }
}
