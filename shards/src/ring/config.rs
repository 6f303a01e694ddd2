//! A ring's settings, errors and numbers.
//!
//! Here: plain values, and how errors of the kernel become texts an operator can act on. Not here: the
//! ring.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::buffers::BufferNumbers;

/// Settings of a ring.
#[derive(Debug, Clone)]
pub struct RingConfig {
    /// Requests one submission may hold. Not a limit on operations in flight.
    pub entries: u32,
    /// Sockets the file table holds. At most `RLIMIT_NOFILE`, which counts for each ring anew.
    pub sockets_max: u32,
    /// Blocks lent to the kernel at a time, a power of two.
    pub blocks: u16,
    /// Most blocks, those that leases hold included.
    pub blocks_max: u16,
    /// Bytes of a block that the kernel fills piece by piece (6.12).
    pub block_bytes: u32,
    /// Bytes of a block that takes one receive only, on older kernels.
    pub block_bytes_plain: u32,
    /// Whether to use the newer kind of blocks if the kernel has them.
    pub incremental: bool,
    /// Sends of at least so many bytes go without a copy (`IORING_OP_SENDMSG_ZC`, 6.1); `None`: never. The
    /// kernel then holds the memory until the peer's host has acknowledged it, and copies all the same where
    /// the way is not through a network card that can gather, as over loopback.
    pub zero_copy_min: Option<u32>,
    /// How long a turn that waits polls the network card's queues before it sleeps
    /// (`IORING_REGISTER_NAPI`, 6.9); `None`: not at all. In whole microseconds.
    pub napi: Option<Duration>,
}

impl Default for RingConfig {
    /// 32 blocks of 256 KiB: the fastest of the sizes measured; 1,024 at most, 256 MiB.
    /// Source: docs/internals/uring.md B and D.
    fn default() -> Self {
        Self {
            entries: 1_024,
            sockets_max: 16_384,
            blocks: 32,
            blocks_max: 1_024,
            block_bytes: 262_144,
            block_bytes_plain: 65_536,
            incremental: true,
            zero_copy_min: None,
            napi: None,
        }
    }
}

/// Why a ring could not be made or driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// `io_uring` is switched off for this process.
    #[error(
        "io_uring is disabled for this process: set kernel.io_uring_disabled=0 (or add the group of \
         kernel.io_uring_group), and allow io_uring_setup, io_uring_enter and io_uring_register in the \
         container's seccomp profile"
    )]
    Disabled,
    /// The file table would exceed the limit of open files.
    #[error(
        "a table of {want} sockets exceeds the limit of {have} open files: raise it to {want} \
         (LimitNOFILE= or 'ulimit -n'), or lower the sockets per shard"
    )]
    FileLimit {
        /// Slots asked for.
        want: u64,
        /// The soft limit.
        have: u64,
    },
    /// A system call failed.
    #[error("{operation} failed")]
    Local {
        /// The call.
        operation: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The kernel refused memory.
    #[error(
        "no memory for a ring: raise the memlock limit, 216 KiB a shard (LimitMEMLOCK= or 'ulimit -l')"
    )]
    Memory,
    /// The kernel is too old.
    #[error("the kernel has no {feature}: Linux {since} or later is needed")]
    Unsupported {
        /// What is missing.
        feature: &'static str,
        /// The first version with it.
        since: &'static str,
    },
}

impl RingError {
    pub(super) const fn local(operation: &'static str, source: io::Error) -> Self {
        Self::Local { operation, source }
    }

    pub(super) fn from_setup(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::PERM | Errno::NOSYS | Errno::ACCESS) => Self::Disabled,
            Some(Errno::NOMEM) => Self::Memory,
            Some(Errno::INVAL) => Self::Unsupported {
                feature: "IORING_SETUP_SINGLE_ISSUER and IORING_SETUP_DEFER_TASKRUN",
                since: "6.1",
            },
            _ => Self::local("io_uring_setup", source),
        }
    }

    pub(super) fn from_napi(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::INVAL | Errno::OPNOTSUPP) => Self::Unsupported {
                feature: "IORING_REGISTER_NAPI, which poll.napi asks for",
                since: "6.9",
            },
            _ => Self::local("registering the polling of network cards", source),
        }
    }

    pub(super) fn from_buffer_ring(source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::INVAL) => Self::Unsupported {
                feature: "IORING_REGISTER_PBUF_RING",
                since: "5.19",
            },
            Some(Errno::NOMEM) => Self::Memory,
            _ => Self::local("registering the buffer ring", source),
        }
    }
}

/// Counters and gauges of a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingNumbers {
    /// Sockets that entered the file table.
    pub sockets_opened: u64,
    /// Sockets that left it.
    pub sockets_closed: u64,
    /// Sockets in it, those being closed included.
    pub sockets_current: u64,
    /// Sends in flight.
    pub sends_current: u64,
    /// Sends that went without a copy of ours.
    pub zero_copy_sends: u64,
    /// Of these, sends that the kernel had to copy itself: the way there cannot do without.
    pub zero_copy_copied: u64,
    /// Bytes that the kernel reads, or may still read again, of such sends.
    pub zero_copy_bytes_current: u64,
    /// Outbound connections asked for: each is a socket and some system calls.
    pub connects_started: u64,
    /// Outbound connections being made.
    pub connects_current: u64,
    /// Turns.
    pub turns: u64,
    /// Completions handled.
    pub completions: u64,
    /// Completions the kernel had to keep aside because its queue was full. None was lost.
    pub completions_overflowed: u64,
    /// Completions of a socket that is gone.
    pub completions_stale: u64,
    /// Receives that ended for want of a block and were started again.
    pub receives_starved: u64,
    /// Receives that wait for a block now.
    pub starved_current: u64,
    /// Hand-overs asked for.
    pub hand_overs_started: u64,
    /// Of these, sockets that another ring has taken.
    pub hand_overs: u64,
    /// Of these, sockets that no other ring has taken.
    pub hand_overs_failed: u64,
    /// Hand-overs under way.
    pub hand_overs_current: u64,
    /// Sockets that other rings have handed over to this one.
    pub hand_ins: u64,
    /// Accepts that failed.
    pub accepts_failed: u64,
    /// Wake-ups received.
    pub wakes: u64,
    /// Closes whose operations had to be cancelled twice.
    pub closes_chased: u64,
    /// Receive memory.
    pub buffers: BufferNumbers,
}

impl RingNumbers {
    /// Returns whether `opened = closed + current`.
    #[must_use]
    pub const fn is_conserved(&self) -> bool {
        self.sockets_opened == self.sockets_closed + self.sockets_current
    }
}
