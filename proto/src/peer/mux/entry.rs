//! One entry of the stream table.
//!
//! Here: what the mux keeps of a stream, and the marks that keep its queues free of doubles. Not
//! here: what is done with them.

use core::time::Duration;

use super::super::chunks::Chunks;
use super::super::error::StreamError;
use super::super::stream::State;
use super::super::window::RecvWindow;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) state: State,
    pub(super) flags: StreamFlags,
    /// What `write` may still queue: the send window less what is queued.
    pub(super) send_left: u32,
    pub(super) recv: RecvWindow,
    pub(super) received: Chunks,
    pub(super) unsent: Chunks,
    /// Round trip of the whole path, as far as the owner knows it.
    pub(super) path_rtt: Option<Duration>,
}

/// Facts about a stream, as bits: each of the marks that keep the queues free of doubles.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamFlags(pub(super) u16);

impl StreamFlags {
    /// The id is in `active`.
    pub(super) const ACTIVE: u16 = 1;
    /// The id is in `blocked`.
    pub(super) const BLOCKED: u16 = 1 << 1;
    /// The id is in `setup`.
    pub(super) const SETUP_QUEUED: u16 = 1 << 2;
    /// The owner has not released the stream yet.
    pub(super) const SETUP: u16 = 1 << 3;
    /// A `Readable` waits to be polled.
    pub(super) const READABLE: u16 = 1 << 4;
    /// A `Writable` waits to be polled.
    pub(super) const WRITABLE: u16 = 1 << 5;
    /// A write was cut short.
    pub(super) const WANTS_WRITE: u16 = 1 << 6;
    /// FIN is to be sent behind the queue.
    pub(super) const FIN_PENDING: u16 = 1 << 7;
    /// `Finished` was raised.
    pub(super) const FINISHED: u16 = 1 << 8;
    /// `Finished` was polled.
    pub(super) const FINISHED_POLLED: u16 = 1 << 9;
    /// The ACK of a stream of the remote side has been queued.
    pub(super) const ACKNOWLEDGED: u16 = 1 << 10;

    pub(super) fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    pub(super) fn clear(&mut self, bit: u16) {
        self.0 &= !bit;
    }

    /// Sets the bit; returns whether it was clear.
    pub(super) fn try_set(&mut self, bit: u16) -> bool {
        let was_clear = !self.has(bit);
        self.0 |= bit;
        was_clear
    }
}

impl Stream {
    pub(super) fn check_writable(&self) -> Result<(), StreamError> {
        match self.state {
            State::Open | State::RemoteClosed if !self.flags.has(StreamFlags::SETUP) => Ok(()),
            State::LocalClosed | State::Closed => Err(StreamError::Finished),
            State::Open | State::RemoteClosed | State::Opening | State::Offered => {
                Err(StreamError::NotOpen)
            }
        }
    }
}
