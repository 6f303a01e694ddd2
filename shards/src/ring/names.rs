//! Where accepted connections come from.
//!
//! Here: asking the kernel for the address of a direct descriptor's peer. Not here: what limits follow
//! from it (`core::admission`).
//!
//! A multishot accept tells no addresses, and a direct descriptor is none for getpeername(2). So the ring
//! sends `SO_PEERNAME` as a socket command behind each accept; it completes within the submission. Where
//! the kernel has no such command (before 6.7) the address stays unknown.
//!
//! Invariant: the memory an answer is written to is owned by its boxed table entry from submission to
//! completion; growing the table moves no memory the kernel knows.
//! Source: `io_uring_enter(2)`, `IORING_OP_URING_CMD` with `SOCKET_URING_OP_GETSOCKOPT`; socket(7).

#![expect(
    unsafe_code,
    reason = "the kernel writes addresses; docs/internals/unsafe.md"
)]

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::Fixed;

use super::op::Kind;
use super::op::Tag;
use super::op::index_of;
use super::op::place_of;
use super::setup::Kernel;

/// A question in flight.
struct Question {
    slot: u32,
    is_in_flight: bool,
    /// A `sockaddr_in` or `sockaddr_in6`, written by the kernel.
    address: Box<[u8; ADDRESS_BYTES]>,
}

/// The questions in flight; at most one a slot.
pub(super) struct Names {
    table: Vec<Question>,
    idle: Vec<u32>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self {
            table: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Asks for the peer's address of the socket in `slot`; `is_ipv6` says which family its listener is.
    pub(super) fn ask(&mut self, kernel: &mut Kernel, slot: u32, generation: u32, is_ipv6: bool) {
        let index = self.idle.pop().unwrap_or_else(|| {
            self.table.push(Question {
                slot,
                is_in_flight: false,
                address: Box::new([0; ADDRESS_BYTES]),
            });
            index_of(self.table.len() - 1)
        });
        let question = &mut self.table[place_of(index)];
        question.slot = slot;
        question.is_in_flight = true;
        // More than the kernel has is an error to it, so the length is that of the family.
        let len = if is_ipv6 { IPV6_BYTES } else { IPV4_BYTES };
        let value = question.address.as_mut_ptr().cast();
        let entry =
            opcode::SetSockOpt::new(Fixed(slot), SOL_SOCKET, SO_PEERNAME, value, len).build();
        let entry = getting(entry).user_data(Tag::new(Kind::Name, generation, index).encode());
        // SAFETY: the boxed address stays in the table, unused, until `answered` on its completion.
        unsafe { kernel.push_entry(entry) };
    }

    /// Ends a question; returns its slot, and the address if the kernel told it.
    pub(super) fn answered(&mut self, index: u32, result: i32) -> Option<(u32, Option<IpAddr>)> {
        let question = self.table.get_mut(place_of(index))?;
        if !std::mem::take(&mut question.is_in_flight) {
            return None;
        }
        self.idle.push(index);
        let address = usize::try_from(result)
            .ok()
            .and_then(|len| question.address.get(..len))
            .and_then(parse);
        Some((question.slot, address))
    }

    /// Returns the questions in flight.
    pub(super) fn count(&self) -> usize {
        self.table.len() - self.idle.len()
    }

    /// Gives up the memory of all questions without freeing it.
    pub(super) fn leak(&mut self) {
        for question in self.table.drain(..) {
            Box::leak(question.address);
        }
        self.idle.clear();
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("count", &self.count())
            .finish()
    }
}

/// Turns the command that sets a socket option into the one that reads it; the crate has none.
fn getting(mut entry: Entry) -> Entry {
    let words = (&raw mut entry).cast::<u32>();
    // SAFETY: an entry is a `repr(C)` submission entry of 64 bytes; word 2 of it is `cmd_op`
    // (`struct io_uring_sqe`, offset 8).
    let command = unsafe { words.add(COMMAND_WORD) };
    // SAFETY: as above: aligned, in bounds, and `entry` is not borrowed otherwise.
    unsafe { command.write(SOCKET_URING_OP_GETSOCKOPT) };
    entry
}

/// Reads a `sockaddr`. Source: ip(7), ipv6(7).
fn parse(bytes: &[u8]) -> Option<IpAddr> {
    #[expect(clippy::host_endian_bytes, reason = "sa_family_t is in host order")]
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    match family {
        AF_INET => {
            let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        AF_INET6 => {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Source: `linux/io_uring.h`.
const SOCKET_URING_OP_GETSOCKOPT: u32 = 2;
/// Offset of `cmd_op` in a submission entry, in words of 32 bits.
const COMMAND_WORD: usize = 2;
/// Source: `asm-generic/socket.h`, which all architectures with `io_uring` of interest here use.
const SOL_SOCKET: u32 = 1;
/// Like getpeername(2), but also when the peer has gone already.
const SO_PEERNAME: u32 = 28;
/// Source: `linux/socket.h`.
const AF_INET: u16 = 2;
/// Source: `linux/socket.h`.
const AF_INET6: u16 = 10;
/// `sizeof(struct sockaddr_in)`.
const IPV4_BYTES: u32 = 16;
/// `sizeof(struct sockaddr_in6)`.
const IPV6_BYTES: u32 = 28;
const ADDRESS_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::host_endian_bytes, reason = "sa_family_t is in host order")]
    fn address_of(family: u16) -> [u8; ADDRESS_BYTES] {
        let mut bytes = [0; ADDRESS_BYTES];
        bytes[..2].copy_from_slice(&family.to_ne_bytes());
        bytes
    }

    #[test]
    fn addresses_are_read_by_their_family() {
        let mut bytes = address_of(AF_INET);
        bytes[4..8].copy_from_slice(&[192, 0, 2, 7]);
        assert_eq!(parse(&bytes[..16]), Some("192.0.2.7".parse().unwrap()));
        let mut bytes = address_of(AF_INET6);
        bytes[23] = 1;
        assert_eq!(parse(&bytes), Some("::1".parse().unwrap()));
        assert_eq!(parse(&bytes[..20]), None);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[1, 0, 0, 0]), None);
    }
}
