//! What a turn of a ring reports.
//!
//! Here: the names of what can happen to a socket. Not here: when it does.

use std::net::IpAddr;

use super::buffers::RingLease;
use crate::batch::Batch;

/// Place of a socket in the ring's file table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// What a turn found.
#[derive(Debug)]
pub enum Completion {
    /// A client connected to the listener. Call [`Ring::receive`](super::Ring::receive) to hear from it.
    Accepted {
        /// Its socket.
        slot: Slot,
        /// Where it comes from; unknown before Linux 6.7.
        address: Option<IpAddr>,
        /// Number of the listener that took it, in the ring that did.
        listener: u8,
    },
    /// A client connected to a listener of [`Ring::listen_with_choice`](super::Ring::listen_with_choice).
    /// Say where it goes: [`Ring::keep`](super::Ring::keep) or
    /// [`Ring::hand_over`](super::Ring::hand_over).
    Arrived {
        /// Its socket.
        slot: Slot,
    },
    /// Accepting failed once; the ring goes on by itself.
    AcceptFailed {
        /// What the kernel said. `ENFILE`: the table is full, and the client was dropped.
        errno: i32,
    },
    /// The socket is closed and nothing of it is in flight. Last word on this use of the slot.
    Closed {
        /// The slot.
        slot: Slot,
    },
    /// An outbound connection stands.
    Connected {
        /// Its socket.
        slot: Slot,
        /// As given to [`Ring::connect`](super::Ring::connect).
        token: u64,
    },
    /// An outbound connection failed. Its socket is closed: neither slot nor port is held for it.
    ConnectFailed {
        /// As given to [`Ring::connect`](super::Ring::connect).
        token: u64,
        /// What the kernel said.
        errno: i32,
    },
    /// Another ring has handed a connection over; `Accepted` follows.
    HandedIn {
        /// Its socket, in this ring.
        slot: Slot,
    },
    /// The connection is the other ring's. Last word on this use of the slot.
    HandedOver {
        /// What was its slot.
        slot: Slot,
    },
    /// The other ring does not take the connection, which waits as after `Arrived`.
    HandOverFailed {
        /// Its socket.
        slot: Slot,
        /// What the kernel said. `ENFILE`: the other table is full. `EOWNERDEAD`: the other thread is gone.
        errno: i32,
    },
    /// Bytes arrived.
    Received {
        /// The socket.
        slot: Slot,
        /// The bytes.
        lease: RingLease,
    },
    /// No more bytes will arrive.
    ReceiveEnded {
        /// The socket.
        slot: Slot,
        /// Why.
        end: ReceiveEnd,
    },
    /// The kernel has let go of a batch that it sent without a copy; its `Sent` came before.
    Released {
        /// What was sent.
        batch: Batch<RingLease>,
    },
    /// A send ended; the batch comes back as it was given, or its
    /// [`stand_in`](Batch::stand_in) while the kernel still reads it: `Released` follows then.
    Sent {
        /// The socket.
        slot: Slot,
        /// What was to be sent, not advanced.
        batch: Batch<RingLease>,
        /// Bytes sent, or an errno. Fewer bytes than the batch holds: an error came in between, and
        /// the next send will meet it.
        result: Result<u32, i32>,
    },
    /// Another ring or thread woke this one.
    Woken,
}

/// Why receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer closed its side.
    Eof,
    /// The kernel reported this errno.
    Error(i32),
}
