//! Which of the listeners of one address the kernel gives a connection to.
//!
//! Here: a program of thirteen instructions that chooses by the peer's address. Not here: hand-overs between
//! rings (`arrivals`), which need no program.
//!
//! The program sees the SYN and returns a place in the group of listeners, which are in the order in which
//! they began to listen. It runs in the kernel (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5) and asks for no
//! privilege. IPv4 peers are told apart by their address, IPv6 peers by the first 64 bits of it, as
//! `core::Source` does. When a listener closes, the last one moves to its place; a result beyond the group is
//! dealt out by the kernel.
//!
//! Source: socket(7); `net/core/sock_reuseport.c`; `linux/filter.h` for the instructions.

#![expect(
    unsafe_code,
    reason = "an option of socket(7) that no safe wrapper has; docs/internals/unsafe.md"
)]

use std::io;
use std::os::fd::AsRawFd;

use super::socket::Listener;

/// Lets the peer's address choose among `listeners`, which are all that listen on their address, in the order
/// in which they were bound.
///
/// # Errors
/// When the kernel takes no such program; it goes on dealing connections out by addresses and ports.
pub fn steer_by_source(listeners: &[Listener]) -> io::Result<()> {
    let Some(first) = listeners.first() else {
        return Ok(());
    };
    let count = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
    attach(first, &by_source(count))
}

/// Gives the group of a listener its program.
fn attach(listener: &Listener, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_ptr().cast_mut(),
    };
    let value = &raw const program;
    // SAFETY: the kernel copies header and instructions during the call, and writes to neither; both live
    // on the caller's stack or behind its reference.
    let result = unsafe {
        libc::setsockopt(
            listener.socket().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            value.cast(),
            PROGRAM_BYTES,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `high(source * odd) % count`, where `source` is the IPv4 address, or both halves of the first 64 bits of
/// an IPv6 address laid over each other.
const fn by_source(count: u32) -> [libc::sock_filter; 13] {
    [
        plain(LOAD_BYTE, NETWORK),
        plain(SHIFT_RIGHT, 4),
        jump(IS_EQUAL, 4, 0, 2),
        plain(LOAD, NETWORK + 12),
        plain(JUMP, 4),
        plain(LOAD, NETWORK + 8),
        plain(TO_X, 0),
        plain(LOAD, NETWORK + 12),
        plain(XOR_X, 0),
        plain(MULTIPLY, MIX),
        plain(SHIFT_RIGHT, 16),
        plain(MODULO, count),
        plain(RETURN, 0),
    ]
}

const fn plain(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_LD | BPF_B | BPF_ABS`.
const LOAD_BYTE: u16 = 0x30;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IS_EQUAL: u16 = 0x15;
/// `BPF_MISC | BPF_TAX`.
const TO_X: u16 = 0x07;
/// `BPF_ALU | BPF_MUL | BPF_K`.
const MULTIPLY: u16 = 0x24;
/// `BPF_ALU | BPF_RSH | BPF_K`.
const SHIFT_RIGHT: u16 = 0x74;
/// `BPF_ALU | BPF_MOD | BPF_K`.
const MODULO: u16 = 0x94;
/// `BPF_ALU | BPF_XOR | BPF_X`.
const XOR_X: u16 = 0xac;
/// `BPF_RET | BPF_A`.
const RETURN: u16 = 0x16;

/// `SKF_NET_OFF`: offsets from here on count from the IP header.
const NETWORK: u32 = 0xfff0_0000;

/// 2^32 divided by the golden ratio: neighbours end up far apart. Source: Knuth, volume 3, section 6.4.
const MIX: u32 = 0x9e37_79b1;

/// Source: `asm-generic/socket.h`, which all architectures with `io_uring` of interest here use.
const SO_ATTACH_REUSEPORT_CBPF: libc::c_int = 51;

/// `sizeof(struct sock_fprog)`.
#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const PROGRAM_BYTES: libc::socklen_t = size_of::<libc::sock_fprog>() as libc::socklen_t;

#[cfg(test)]
mod tests;
