//! Requests: how they are encoded, and how their completions are recognised.
//!
//! Here: the user data of an entry, the requests that refer to no memory. Not here: operations that
//! own memory (`sends`, `connects`), the queues (`setup`), the state of a socket (`files`).
//!
//! User data, 64 bits: `kind:8 | generation:24 | index:32`. The index is a slot, or the place in a table
//! of operations; the generation tells a completion of the slot's previous socket from one of its
//! present socket.

use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::squeue::Flags;
use io_uring::types::CancelBuilder;
use io_uring::types::DestinationSlot;
use io_uring::types::Fd;
use io_uring::types::Fixed;

use super::buffers::GROUP;

/// What an entry was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Accept,
    Cancel,
    Close,
    Connect,
    HandIn,
    HandOver,
    Install,
    Name,
    Receive,
    Send,
    Shutdown,
    Wake,
}

/// Decoded user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    /// 24 bits; see [`GENERATION_MASK`].
    pub(super) generation: u32,
    pub(super) index: u32,
}

/// The bits of a generation that fit in user data.
pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Tag {
    pub(super) const fn new(kind: Kind, generation: u32, index: u32) -> Self {
        Self {
            kind,
            generation: generation & GENERATION_MASK,
            index,
        }
    }

    pub(super) fn encode(self) -> u64 {
        let kind = match self.kind {
            Kind::Accept => 1,
            Kind::Cancel => 2,
            Kind::Close => 3,
            Kind::Connect => 4,
            Kind::Install => 5,
            Kind::Receive => 6,
            Kind::Send => 7,
            Kind::Wake => 8,
            Kind::Name => 9,
            Kind::HandIn => 10,
            Kind::HandOver => 11,
            Kind::Shutdown => 12,
        };
        (kind << 56) | (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// Returns nothing for user data that no entry of ours carries.
    pub(super) fn decode(user_data: u64) -> Option<Self> {
        let [kind, g2, g1, g0, index @ ..] = user_data.to_be_bytes();
        let kind = match kind {
            1 => Kind::Accept,
            2 => Kind::Cancel,
            3 => Kind::Close,
            4 => Kind::Connect,
            5 => Kind::Install,
            6 => Kind::Receive,
            7 => Kind::Send,
            8 => Kind::Wake,
            9 => Kind::Name,
            10 => Kind::HandIn,
            11 => Kind::HandOver,
            12 => Kind::Shutdown,
            _ => return None,
        };
        let generation = u32::from_be_bytes([0, g2, g1, g0]);
        Some(Self {
            kind,
            generation,
            index: u32::from_be_bytes(index),
        })
    }
}

/// A request that refers to no memory of this process: whatever its fields say, the kernel answers
/// with an error at worst.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plain {
    /// Accept into the file table until cancelled.
    Accept { listener: RawFd, tag: Tag },
    /// Cancel the operation with this tag.
    Cancel { tag: Tag },
    /// Close a slot of the file table.
    Close { slot: u32, generation: u32 },
    /// Put the socket of a slot into the file table of another ring, which is told with `user_data`.
    HandOver {
        ring: RawFd,
        slot: u32,
        generation: u32,
        user_data: u64,
    },
    /// Post a wake-up on another ring.
    Message { ring: RawFd },
    /// Receive into the provided buffers until the end of the stream or of the buffers.
    Receive { slot: u32, generation: u32 },
    /// End both directions of a connection, whoever else holds its socket.
    Shutdown { slot: u32 },
    /// Report each write to an eventfd.
    WatchWake { eventfd: RawFd },
}

impl Plain {
    /// Cancels, shutdowns and wake-ups report only failure.
    pub(super) const fn flags(self) -> Flags {
        match self {
            Self::Cancel { .. } | Self::Message { .. } | Self::Shutdown { .. } => {
                Flags::SKIP_SUCCESS
            }
            Self::Accept { .. }
            | Self::Close { .. }
            | Self::HandOver { .. }
            | Self::Receive { .. }
            | Self::WatchWake { .. } => Flags::empty(),
        }
    }

    pub(super) fn entry(self) -> Entry {
        match self {
            Self::Accept { listener, tag } => opcode::AcceptMulti::new(Fd(listener))
                .allocate_file_index(true)
                .build()
                .user_data(tag.encode()),
            Self::Cancel { tag } => {
                opcode::AsyncCancel2::new(CancelBuilder::user_data(tag.encode()))
                    .build()
                    .flags(self.flags())
                    .user_data(Tag::new(Kind::Cancel, tag.generation, tag.index).encode())
            }
            Self::Close { slot, generation } => opcode::Close::new(Fixed(slot))
                .build()
                .user_data(Tag::new(Kind::Close, generation, slot).encode()),
            Self::HandOver {
                ring,
                slot,
                generation,
                user_data,
            } => opcode::MsgRingSendFd::new(
                Fd(ring),
                Fixed(slot),
                DestinationSlot::auto_target(),
                user_data,
            )
            .build()
            .user_data(Tag::new(Kind::HandOver, generation, slot).encode()),
            Self::Message { ring } => {
                let wake = Tag::new(Kind::Wake, 0, 0).encode();
                opcode::MsgRingData::new(Fd(ring), 0, wake, None)
                    .build()
                    .flags(self.flags())
                    .user_data(Tag::new(Kind::Cancel, 0, 0).encode())
            }
            Self::Receive { slot, generation } => opcode::RecvMulti::new(Fixed(slot), GROUP)
                .build()
                .user_data(Tag::new(Kind::Receive, generation, slot).encode()),
            Self::Shutdown { slot } => opcode::Shutdown::new(Fixed(slot), SHUT_RDWR)
                .build()
                .flags(self.flags())
                .user_data(Tag::new(Kind::Shutdown, 0, slot).encode()),
            Self::WatchWake { eventfd } => opcode::PollAdd::new(Fd(eventfd), POLL_IN)
                .multi(true)
                .build()
                .user_data(Tag::new(Kind::Wake, 1, 0).encode()),
        }
    }
}

pub(super) fn index_of(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

pub(super) fn place_of(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// `POLLIN`.
const POLL_IN: u32 = 1;

/// Source: shutdown(2).
const SHUT_RDWR: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_survives_the_round_trip() {
        for kind in [
            Kind::Accept,
            Kind::Close,
            Kind::HandIn,
            Kind::HandOver,
            Kind::Name,
            Kind::Receive,
            Kind::Send,
            Kind::Shutdown,
            Kind::Wake,
        ] {
            for generation in [0, 1, GENERATION_MASK] {
                for index in [0, 1, u32::MAX] {
                    let tag = Tag::new(kind, generation, index);
                    assert_eq!(Tag::decode(tag.encode()), Some(tag));
                }
            }
        }
        assert_eq!(Tag::decode(0), None);
        assert_eq!(Tag::decode(u64::MAX), None);
    }

    #[test]
    fn generation_wraps_within_its_bits() {
        let tag = Tag::new(Kind::Receive, GENERATION_MASK + 1, 7);
        assert_eq!(tag.generation, 0);
        assert_eq!(Tag::decode(tag.encode()), Some(tag));
    }
}
