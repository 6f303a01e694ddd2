//! One leg of a bridge: a stream between a peer and this relay.
//!
//! ```text
//!   opener's leg:       Collecting --request--> Asked --answer--> Bridged --both FIN--> Flushing
//!   destination's leg:                 Answering --response--> Bridged --both FIN--> Flushing
//!   every state: RST, session death, limits -> removed at once
//!   the two of a link (`announce`): Announcing, Hearing -> removed with it
//! ```
//!
//! Here: the data of a leg. Not here: the transitions (`open` up to the answer, `bridge` after it).
//!
//! Invariant: `credit` is what the other leg's peer has granted less what this leg's peer has sent, so
//! what may wait in the relay for one direction never exceeds what its receiver allowed.
//! Units: bytes.

use std::collections::VecDeque;

use ringway_proto::dialect::RequestHash;
use ringway_proto::frame::HEADER_LEN;
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::time::Now;

use super::event::{SessionKey, ShardId, StreamKey};
use super::forward::Forward;
use super::seconds_of;
use super::timers::TimerKey;

#[derive(Debug)]
pub(super) struct Stream<L> {
    pub(super) session: SessionKey,
    /// Id on the wire of this leg.
    pub(super) id: u32,
    pub(super) state: StreamState,
    pub(super) other: Other,
    /// Id on the wire of the other leg; 0 while unknown.
    pub(super) other_id: u32,
    /// Bytes the peer of this leg may still send.
    pub(super) credit: u32,
    /// Bytes granted to this leg's peer and not yet announced to it.
    pub(super) unannounced: u32,
    /// The peer has sent FIN.
    pub(super) has_ended_in: bool,
    /// FIN was queued to the peer.
    pub(super) has_ended_out: bool,
    /// The stream stands in its session's backlog.
    pub(super) is_in_backlog: bool,
    /// Deficit round robin: bytes it may take this round; may be negative by one piece.
    pub(super) deficit: i64,
    /// Frames waiting behind a congested session, in order.
    pub(super) queue: VecDeque<Piece<L>>,
    /// Second of the last frame in either direction.
    pub(super) touched_s: u32,
    /// State of the open; freed when the stream is bridged.
    pub(super) opening: Option<Box<Opening>>,
    /// One leg of each open and of each bridge has one: the opener's, then the destination's.
    pub(super) timer: Option<TimerKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamState {
    /// Opener's leg: the request is not complete yet.
    Collecting,
    /// Opener's leg: waiting for the destination's answer.
    Asked,
    /// Destination's leg: its response is not complete yet.
    Answering,
    /// Forwarding.
    Bridged,
    /// Over; only the queue is still to be sent.
    Flushing,
    /// This relay's end of the stream on which it tells another one who its peers are.
    Announcing,
    /// The other relay's end of its own.
    Hearing,
}

/// The other leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// Not known yet, or gone.
    None,
    /// On this shard.
    Local {
        stream: StreamKey,
        session: SessionKey,
    },
    /// On another shard.
    Remote { shard: ShardId, stream: StreamKey },
}

/// What is needed only until the answer.
#[derive(Debug)]
pub(super) struct Opening {
    /// The sealed object being collected, with its length prefix.
    pub(super) object: Vec<u8>,
    pub(super) hash: RequestHash,
    /// Bytes granted beyond the initial window before the other leg was known.
    pub(super) window_extra: u32,
    /// An ACK went to the opener.
    pub(super) is_acknowledged: bool,
    /// Present while other relays are asked.
    pub(super) forward: Option<Box<Forward>>,
    pub(super) started: Now,
}

/// Whole frames that must not be torn apart.
#[derive(Debug)]
pub(super) enum Piece<L> {
    /// Frames by reference.
    Leased(L),
    /// Frames copied out of the receive memory.
    Owned(Vec<u8>),
    /// One frame whose payload is by reference.
    Headed {
        header: [u8; HEADER_LEN],
        payload: L,
    },
}

impl<L> Stream<L> {
    /// Returns a leg whose open begins now.
    pub(super) fn opening(session: SessionKey, id: u32, state: StreamState, now: Now) -> Self {
        Self {
            session,
            id,
            state,
            other: Other::None,
            other_id: 0,
            credit: WINDOW_INITIAL,
            unannounced: 0,
            has_ended_in: false,
            has_ended_out: false,
            is_in_backlog: false,
            deficit: 0,
            queue: VecDeque::new(),
            touched_s: seconds_of(now),
            opening: Some(Box::new(Opening {
                object: Vec::new(),
                hash: RequestHash([0; 32]),
                window_extra: 0,
                is_acknowledged: false,
                forward: None,
                started: now,
            })),
            timer: None,
        }
    }
}

impl<L: crate::lease::Lease> Piece<L> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leased(lease) => lease.len(),
            Self::Owned(bytes) => bytes.len(),
            Self::Headed { payload, .. } => HEADER_LEN + payload.len(),
        }
    }

    /// Copies the piece out of the receive memory, if it lies there.
    pub(super) fn copy_out(&mut self) {
        let bytes = match self {
            Self::Leased(lease) => lease.bytes().to_vec(),
            Self::Headed { header, payload } => [header.as_slice(), payload.bytes()].concat(),
            Self::Owned(_) => return,
        };
        *self = Self::Owned(bytes);
    }

    pub(super) fn leased_bytes(&self) -> usize {
        match self {
            Self::Leased(lease) => lease.len(),
            Self::Headed { payload, .. } => payload.len(),
            Self::Owned(_) => 0,
        }
    }
}
