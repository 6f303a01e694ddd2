//! One session of the generator, and its streams, as data.
//!
//! Here: the fields and what they mean. Not here: what happens to them (`setup`, `open`, `input`,
//! `output`).
//!
//! Invariant: a stream's index is in its session's `ready` once if and only if `is_ready`.

use std::collections::VecDeque;

use ringway_proto::dialect::RequestHash;
use ringway_proto::frame::HEADER_LEN;
use ringway_proto::key::PublicKey;
use ringway_proto::time::Now;
use ringway_shards::ring::Slot;

use super::churn::Cycle;
use super::ids::Ids;
use super::objects::Kk;
use super::party::{Crypto, Party, Shake};
use super::routes::RouteStream;
use super::tuples::Claim;
use crate::payload::{Assembler, Head};
use crate::records::Records;

/// What a session is in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Dials its partner.
    Dialer,
    /// Is dialed by its partner.
    Acceptor,
    /// Has no partner.
    Alone,
    /// Comes and is killed, again and again.
    Churner,
    /// Never finishes its handshake.
    Loiterer,
    /// A plain connection to the proxy.
    Client,
    /// A plain connection from the proxy.
    Sink,
}

/// How far a session is.
#[derive(Debug)]
pub(super) enum Step {
    /// Not connected.
    Idle,
    /// The socket connects.
    Connecting,
    /// Message 1 is sent.
    Shaking(Box<Shake>),
    /// Message 3 is sent, and the verdict is not here yet; in the dmsg dialect, which has none, the answer to
    /// a ping behind it.
    Judged,
    /// Frames flow.
    Live,
    /// The socket closes on our request.
    Closing,
    /// Over for good.
    Gone,
}

/// One session, or one plain connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) part: Part,
    pub(super) step: Step,
    pub(super) slot: Option<Slot>,
    /// The local address that the connection holds, where the generator chose it.
    pub(super) claim: Option<Claim>,
    /// Class of its present connection in the port ledger.
    pub(super) class: usize,
    /// Index of the other session of the pair.
    pub(super) partner: u32,
    pub(super) keys: Party,
    pub(super) key: PublicKey,
    /// When the present connection was begun.
    pub(super) started: Now,
    /// When its present connection was due, if there is a clock.
    pub(super) due: Option<Now>,
    /// Bytes of the handshake that are not a whole message yet.
    pub(super) early: Vec<u8>,
    pub(super) crypto: Option<Box<Crypto>>,
    /// The open request of opaque streams: the same for all streams to the partner for a while, also
    /// over several connections.
    pub(super) request: Option<Request>,
    /// Answers to the last requests, which the next ones probably equal.
    pub(super) responses: Vec<(RequestHash, Vec<u8>)>,
    pub(super) reader: Reader,
    /// Frames and handshake messages that go before all data.
    pub(super) control: Vec<u8>,
    /// Streams that may send, in turn.
    pub(super) ready: VecDeque<u32>,
    pub(super) next_id: u32,
    pub(super) dialed: Ids,
    pub(super) accepted: Ids,
    pub(super) is_sending: bool,
    pub(super) is_dirty: bool,
    /// Attempts of its present return that were refused (storm).
    pub(super) tries: u32,
    /// Whether it is taking the place of the other session of its key (evict).
    pub(super) is_heir: bool,
    /// What a churn does with the present connection.
    pub(super) cycle: Cycle,
    /// Bytes of message 1 that a trickle has sent.
    pub(super) trickled: usize,
    /// Present in sessions of slow pairs.
    pub(super) slow: Option<SlowState>,
}

/// What only a session of a slow pair has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlowState {
    /// Whether it does not read.
    pub(super) is_deaf: bool,
    /// Streams that it has granted.
    pub(super) granted: u32,
}

impl SlowState {
    /// Ends the deafness; returns whether there was one.
    pub(super) const fn take_deaf(&mut self) -> bool {
        std::mem::replace(&mut self.is_deaf, false)
    }
}

impl Session {
    pub(super) fn new(part: Part, partner: u32, keys: Party) -> Self {
        let key = match part {
            // They never show an identity; the point multiplication is saved.
            Part::Client | Part::Loiterer | Part::Sink => PublicKey::native([0; 32]),
            Part::Acceptor | Part::Alone | Part::Churner | Part::Dialer => keys.public(),
        };
        Self {
            part,
            step: Step::Idle,
            slot: None,
            claim: None,
            class: 0,
            partner,
            keys,
            key,
            started: Now::ZERO,
            due: None,
            early: Vec::new(),
            crypto: None,
            request: None,
            responses: Vec::new(),
            reader: Reader::default(),
            control: Vec::new(),
            ready: VecDeque::new(),
            next_id: 1,
            dialed: Ids::default(),
            accepted: Ids::default(),
            is_sending: false,
            is_dirty: false,
            tries: 0,
            is_heir: false,
            cycle: Cycle::default(),
            trickled: 0,
            slow: None,
        }
    }

    /// Returns whether the session is of a slow pair.
    pub(super) const fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.part, Part::Client | Part::Sink)
    }

    /// Forgets everything of the last connection.
    pub(super) fn reset(&mut self) {
        self.slot = None;
        self.early.clear();
        self.crypto = None;
        self.reader = Reader::default();
        self.control.clear();
        self.ready.clear();
        self.next_id = 1;
        self.dialed = Ids::default();
        self.accepted = Ids::default();
        self.is_sending = false;
        self.is_heir = false;
        self.slow = self.slow.map(|_| SlowState::default());
    }
}

/// An encoded open request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) made: Now,
}

/// Where in a session's frames the next byte belongs.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) header: [u8; HEADER_LEN],
    /// Bytes of `header` that are there.
    pub(super) have: usize,
    /// Payload bytes of the present frame that are still to come.
    pub(super) left: u32,
    /// Stream of the present frame; `None` when nobody wants its payload.
    pub(super) stream: Option<u32>,
    pub(super) is_fin: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            header: [0; HEADER_LEN],
            have: 0,
            left: 0,
            stream: None,
            is_fin: false,
        }
    }
}

/// How far a stream is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Dialed; the answer is not here yet.
    Asked(Box<Asked>),
    /// Accepted at the frame level; the request is not here yet.
    Asking(Vec<u8>),
    /// Messages flow.
    Open,
    /// FIN is sent, the other side's is not here yet.
    Ending,
}

/// A dialed stream.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) object: Vec<u8>,
    pub(super) hash: RequestHash,
    /// Absent with opaque payload.
    pub(super) kk: Option<Kk>,
    pub(super) started: Now,
}

/// One stream of a session; in plain runs, the one that a connection is.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) session: u32,
    pub(super) id: u32,
    pub(super) is_dialer: bool,
    pub(super) stage: Stage,
    /// Bytes we may still send.
    pub(super) credit: u32,
    /// Bytes received since the last grant.
    pub(super) ungranted: u32,
    /// Messages due and not sent.
    pub(super) due: u64,
    /// When they were due, if there is a clock.
    pub(super) due_times: VecDeque<Now>,
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages on their way there or back.
    pub(super) waiting: u32,
    pub(super) is_ready: bool,
    /// Messages to send back.
    pub(super) echoes: VecDeque<Head>,
    pub(super) assembler: Assembler,
    pub(super) records: Option<Box<Records>>,
    /// Bytes received in a churn.
    pub(super) taken_bytes: u32,
    /// First byte received in a churn: what its dialer wants.
    pub(super) word: u8,
    /// Present in open streams of route setup.
    pub(super) route: Option<Box<RouteStream>>,
    pub(super) pace: Pace,
}

/// Whether a stream counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Its messages are measured.
    Fast,
    /// It belongs to a slow pair; what is sent on it is lost.
    Slow,
}

impl Stream {
    pub(super) fn new(session: u32, id: u32, is_dialer: bool, stage: Stage, credit: u32) -> Self {
        Self {
            session,
            id,
            is_dialer,
            stage,
            credit,
            ungranted: 0,
            due_times: VecDeque::new(),
            due: 0,
            sent: 0,
            waiting: 0,
            is_ready: false,
            echoes: VecDeque::new(),
            assembler: Assembler::default(),
            records: None,
            taken_bytes: 0,
            word: 0,
            route: None,
            pace: Pace::Fast,
        }
    }

    /// Returns whether the stream is of a slow pair.
    #[inline]
    pub(super) const fn is_slow(&self) -> bool {
        matches!(self.pace, Pace::Slow)
    }
}
