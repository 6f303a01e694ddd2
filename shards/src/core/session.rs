//! One session: the phases of its life and what it owns in each.
//!
//! ```text
//!   Free --accepted--> Handshake --verdict--> Live --end, told--> Lingering --> Closing --> Free
//!                          |                    |                                  ^
//!                          +--- refused: Lingering; failed ------------------------+
//!   Free --connected--> Dialed --far side, hang-up, drain--> Closing --> Free
//!   Free --connected--> Linking --verdict of the other relay--> Live
//! ```
//!
//! Here: the data of a session and its frame parser's state. Not here: the transitions (`admission`,
//! `ending`) and what frames mean (`dispatch`).
//!
//! Invariant: the generation changes when a session ends, so every key, job, timer and message that
//! names the old session finds nothing.
//! Memory: an idle live session holds this struct, the boxed [`Live`], an [`IdTable`] and its timer; its
//! egress is freed when it drains.

use ::core::net::IpAddr;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::{FoldedResponder, Initiator, Responder};
use ringway_proto::frame::HEADER_LEN;
use ringway_proto::key::PublicKey;
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::time::Now;

use super::announce::LinkState;
use super::config::CoreConfig;
use super::egress::Egress;
use super::event::{Arrival, SessionKey, Slot, StreamKey};
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
    /// The socket is one of a pair: the relay itself has the other one.
    pub(super) is_attached: bool,
}

#[derive(Debug)]
pub(super) enum Phase<L> {
    /// No socket.
    Free,
    /// Socket open that this relay has connected.
    Dialed,
    /// Socket open that this relay has connected to make a link of it.
    Linking(Box<Linking>),
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
    pub(super) arrival: Arrival,
    pub(super) stage: Stage,
    /// Its place among those that wait for their peer; `None` while the executor has it.
    pub(super) waiting: Option<Links>,
    /// The message being collected, with its length prefix, or a header before the first one.
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
    /// Collecting a proxy's header, unless there is none.
    Header,
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
            Self::Header | Self::Computing1 | Self::Computing3 => false,
        }
    }
}

/// The handshake of a link that this relay began.
#[derive(Debug)]
pub(super) struct Linking {
    /// Number of the relay among those wanted.
    pub(super) relay: u32,
    pub(super) stage: LinkStage,
    /// The message or object being collected, with its length prefix.
    pub(super) collected: Vec<u8>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum LinkStage {
    /// The executor computes message 1 or 3.
    Computing,
    /// Collecting message 2.
    Message2(Box<Initiator>),
    /// Collecting the verdict.
    Verdict(Box<(Sealer, Opener)>),
}

/// Who began a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkSide {
    /// The other relay.
    Accepted,
    /// This relay.
    Begun,
}

impl LinkSide {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Accepted => Self::Begun,
            Self::Begun => Self::Accepted,
        }
    }

    /// Returns the id of the stream on which the side tells who its peers are.
    pub(super) const fn announcing_id(self) -> u32 {
        match self {
            Self::Accepted => 2,
            Self::Begun => 1,
        }
    }
}

/// An established session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) key: PublicKey,
    /// What only a link has; sessions of peers are none.
    pub(super) link: Option<Box<LinkState>>,
    /// Where the peer comes from, where its dialect lets it ask.
    pub(super) address: Option<Box<IpAddr>>,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) parser: Parser,
    pub(super) ids: IdTable,
    /// Highest stream id the peer has opened: odd, but on a link that this relay began.
    pub(super) peer_id_last: u32,
    /// Next stream id the relay opens: even, but on a link that it began.
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
    /// Returns a slot without a socket; `generation` is one that no key of an earlier session here has.
    pub(super) const fn free(generation: u32) -> Self {
        Self {
            generation,
            phase: Phase::Free,
            egress: None,
            timer: None,
            permit: None,
            is_attached: false,
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
            Phase::Free
            | Phase::Dialed
            | Phase::Linking(_)
            | Phase::Live(_)
            | Phase::Lingering
            | Phase::Closing => None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.phase {
            Phase::Live(live) => Some(live),
            Phase::Free
            | Phase::Dialed
            | Phase::Linking(_)
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
            | Phase::Linking(_)
            | Phase::Handshake(_)
            | Phase::Lingering
            | Phase::Closing => None,
        }
    }
}

impl Live {
    /// Returns the state of a session that begins at `now`; streams of a peer have odd ids, unless this
    /// relay has begun the session.
    pub(super) fn new(
        key: PublicKey,
        link: Option<LinkSide>,
        keys: (Sealer, Opener),
        now: Now,
    ) -> Self {
        let (sealer, opener) = keys;
        let (peer_id_last, own_id_next) = match (link, key.dialect()) {
            (Some(side), Dialect::Native) => {
                // The first stream of either side is there from the beginning (`announce`).
                (side.other().announcing_id(), side.announcing_id() + 2)
            }
            (Some(LinkSide::Begun), _) => (0, 1),
            (Some(LinkSide::Accepted) | None, _) => (0, 2),
        };
        Self {
            key,
            link: link.map(|side| Box::new(LinkState::new(side))),
            address: None,
            sealer,
            opener,
            parser: Parser::default(),
            ids: IdTable::default(),
            peer_id_last,
            own_id_next,
            heard_at: now,
            pings_missed: 0,
            peer_is_leaving: false,
            is_draining: false,
            is_emptied: false,
        }
    }

    /// Returns what the peer speaks.
    pub(super) const fn dialect(&self) -> Dialect {
        self.key.dialect()
    }

    /// Returns which side of a link it is, if it is one.
    pub(super) fn side(&self) -> Option<LinkSide> {
        self.link.as_ref().map(|link| link.side)
    }

    /// Returns how many streams may be open at a time.
    pub(super) fn streams_max(&self, config: &CoreConfig) -> u32 {
        match self.link {
            None => config.offer.streams_max,
            Some(_) => config.mesh.link_streams_max,
        }
    }

    /// Returns the streams that somebody has opened.
    pub(super) fn streams_count(&self) -> u32 {
        let has_own = self.link.is_some() && self.dialect() == Dialect::Native;
        self.ids.len().saturating_sub(if has_own { 2 } else { 0 })
    }

    /// Returns whether a stream of this id is one that the peer opens.
    pub(super) fn is_of_peer(&self, id: u32) -> bool {
        id.is_multiple_of(2) == (self.side() == Some(LinkSide::Begun))
    }
}
