//! One session: the phases of its life and what it owns in each.
//!
//! ```text
//!   Free --accepted--> Handshake --verdict--> Live --end, told--> Lingering --> Closing --> Free
//!                          |                    |                                  ^
//!                          +--- refused: Lingering; failed ------------------------+
//!   Free --connected--> Dialed --far side, hang-up, drain--> Closing --> Free
//! ```
//!
//! Here: the data of a session and its frame parser's state. Not here: the transitions (`admission`,
//! `ending`) and what frames mean (`dispatch`).
//!
//! Invariant: the generation changes when a session ends, so every key, job, timer and message that
//! names the old session finds nothing.
//! Memory: an idle live session holds this struct, the boxed [`Live`], an [`IdTable`] and its timer; its
//! egress is freed when it drains.

use ringway_proto::frame::HEADER_LEN;
use ringway_proto::handshake::{FoldedResponder, Responder};
use ringway_proto::key::PublicKey;
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::time::Now;

use super::egress::Egress;
use super::event::{SessionKey, Slot, StreamKey};
use super::source::Source;
use super::table::IdTable;
use super::timers::TimerKey;
use crate::ports::PortPermit;

/// A slot of the session table.
#[derive(Debug)]
pub(super) struct Session<L> {
    pub(super) generation: u32,
    pub(super) phase: Phase<L>,
    /// What waits to be sent; allocated on first use.
    pub(super) egress: Option<Box<Egress<L>>>,
    /// Every socket that is not being closed has one, but for those that this relay has dialed.
    pub(super) timer: Option<TimerKey>,
    /// The local port of a socket that this relay has connected; goes with the socket.
    pub(super) permit: Option<PortPermit>,
}

#[derive(Debug)]
pub(super) enum Phase<L> {
    /// No socket.
    Free,
    /// Socket open that this relay has connected.
    Dialed,
    /// Socket open, peer not yet known.
    Handshake(Box<Handshake<L>>),
    /// Session established.
    Live(Box<Live>),
    /// Session over; what was queued for the peer still leaves, until the peer closes or the timer
    /// fires.
    Lingering,
    /// The driver was told to close the socket.
    Closing,
}

/// A handshake in progress.
#[derive(Debug)]
pub(super) struct Handshake<L> {
    pub(super) accepted_at: Now,
    pub(super) source: Source,
    pub(super) stage: Stage,
    /// Its place among those that wait for their peer; `None` while the executor has it.
    pub(super) waiting: Option<Links>,
    /// The message being collected, with its length prefix.
    pub(super) collected: Vec<u8>,
    /// What the peer sent right behind message 3.
    pub(super) pipelined: Vec<L>,
    pub(super) pipelined_bytes: usize,
}

/// Neighbours in the list of handshakes that wait for their peer (`waiting`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links {
    pub(super) older: Option<Slot>,
    pub(super) newer: Option<Slot>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Collecting message 1.
    Message1,
    /// The executor computes message 2.
    Computing1,
    /// Collecting message 3.
    Message3(Box<Responder>),
    /// The same, for a peer that lets the relay wait.
    Message3Folded(Box<FoldedResponder>),
    /// The executor authenticates the peer.
    Computing3,
}

impl Stage {
    /// Returns whether the next bytes belong to a handshake message.
    pub(super) const fn is_collecting(&self) -> bool {
        match self {
            Self::Message1 | Self::Message3(_) | Self::Message3Folded(_) => true,
            Self::Computing1 | Self::Computing3 => false,
        }
    }
}

/// An established session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) key: PublicKey,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) parser: Parser,
    pub(super) ids: IdTable,
    /// Highest stream id the peer has opened (odd).
    pub(super) peer_id_last: u32,
    /// Next stream id the relay opens (even).
    pub(super) own_id_next: u32,
    /// When bytes last came, or else a sign that the peer takes some.
    pub(super) heard_at: Now,
    pub(super) pings_missed: u32,
    /// The peer has said Go Away: open no streams towards it.
    pub(super) peer_is_leaving: bool,
    /// The relay has said Go Away 0: no new streams, the session ends with the last one.
    pub(super) is_draining: bool,
    /// It stands in the list of draining sessions without a stream.
    pub(super) is_emptied: bool,
}

/// Where the frame parser stands between two receives.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parser {
    /// The first bytes of a header that is not complete.
    pub(super) header: [u8; HEADER_LEN],
    pub(super) header_len: u8,
    /// Payload bytes of the current Data frame still to come.
    pub(super) remaining: u32,
    /// The stream they belong to; `None`: a stream that is gone, the bytes are skipped.
    pub(super) stream: Option<StreamKey>,
    /// The frame carried FIN: the stream ends after its last byte.
    pub(super) is_last: bool,
}

impl<L> Session<L> {
    pub(super) const fn free() -> Self {
        Self {
            generation: 0,
            phase: Phase::Free,
            egress: None,
            timer: None,
            permit: None,
        }
    }

    pub(super) const fn key(&self, slot: Slot) -> SessionKey {
        SessionKey {
            slot,
            generation: self.generation,
        }
    }

    pub(super) fn handshake_mut(&mut self) -> Option<&mut Handshake<L>> {
        match &mut self.phase {
            Phase::Handshake(handshake) => Some(handshake),
            Phase::Free | Phase::Dialed | Phase::Live(_) | Phase::Lingering | Phase::Closing => {
                None
            }
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            Phase::Free
            | Phase::Dialed
            | Phase::Handshake(_)
            | Phase::Lingering
            | Phase::Closing => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.phase {
            Phase::Live(live) => Some(live),
            Phase::Free
            | Phase::Dialed
            | Phase::Handshake(_)
            | Phase::Lingering
            | Phase::Closing => None,
        }
    }
}
