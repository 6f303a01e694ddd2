//! The book of opens in a mesh: what each end saw, and what must be true of it.
//!
//! Here: the checks of streams, told by the protocol alone. Not here: relays and links (`checks`).
//!
//! An open may reach its destination twice, if the relay that was asked first is lost with the answer; the
//! opener hears of one of them.

use ringway_proto::reason::Reason;

use super::world::Mesh;
use crate::checks::State;
use crate::content::mismatch;
use crate::limits::nanos;
use crate::options::{MS, SECOND};

/// One end of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) client: usize,
    pub(super) state: State,
    pub(super) written: u64,
    pub(super) received: u64,
    pub(super) has_finished: bool,
    pub(super) has_seen_fin: bool,
}

/// Which end: the opener's, or that of the destination which was reached as this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Far(usize),
    Near,
}

/// One open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) source_port: u16,
    /// Bytes that the opener and the destination send.
    pub(super) bytes: [u64; 2],
    pub(super) is_refused: bool,
    /// The opener resets the stream once it has sent and received so many bytes.
    pub(super) reset_after: Option<u64>,
    /// Tried when faults have stopped.
    pub(super) is_probe: bool,
    pub(super) near: Option<End>,
    pub(super) far: Vec<End>,
    pub(super) started: Option<u64>,
    /// It could not be made.
    pub(super) is_void: bool,
}

impl End {
    pub(super) const fn new(client: usize) -> Self {
        Self {
            client,
            state: State::Opening,
            written: 0,
            received: 0,
            has_finished: false,
            has_seen_fin: false,
        }
    }

    const fn is_over(&self) -> bool {
        self.state.is_over()
    }
}

impl Open {
    pub(super) fn is_over(&self) -> bool {
        self.is_void
            || (self.near.is_some_and(|near| near.is_over()) && self.far.iter().all(End::is_over))
    }

    /// Returns whether everything that was planned has come to its end.
    pub(super) fn is_complete(&self) -> bool {
        let is_whole = |end: &End, out: u64, into: u64| {
            end.state == State::Done && end.written == out && end.received == into
        };
        let [there, back] = self.bytes;
        self.near.is_some_and(|near| is_whole(&near, there, back))
            && self.far.iter().any(|far| is_whole(far, back, there))
    }

    pub(super) fn end_mut(&mut self, side: Side) -> Option<&mut End> {
        match side {
            Side::Near => self.near.as_mut(),
            Side::Far(number) => self.far.get_mut(number),
        }
    }

    /// Returns the ends that a side may hear.
    fn others(&self, side: Side) -> Vec<End> {
        match side {
            Side::Near => self.far.clone(),
            Side::Far(_) => self.near.into_iter().collect(),
        }
    }
}

impl Side {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Near => 0,
            Self::Far(_) => 1,
        }
    }
}

/// Most times that an open may reach its destination: `FORWARD_TRIES_MAX` relays are asked.
const ARRIVALS_MAX: usize = ringway_proto::limits::FORWARD_TRIES_MAX;

impl Mesh {
    /// Bytes came out of a stream at one end.
    pub(super) fn check_bytes(&mut self, number: usize, side: Side, bytes: &[u8]) {
        let others = self.opens[number].others(side);
        let sent = others.iter().map(|end| end.written).max().unwrap_or(0);
        let Some(end) = self.opens[number].end_mut(side) else {
            return;
        };
        let at = end.received;
        end.received += bytes.len() as u64;
        self.counts.bytes += bytes.len() as u64;
        if at + bytes.len() as u64 > sent {
            self.fail(format!(
                "open {number}: {side:?} got more than the {sent} bytes sent"
            ));
        } else if let Some(at) = mismatch(number, 1 - side.index(), at, bytes) {
            self.fail(format!("open {number}: {side:?} got a wrong byte at {at}"));
        }
    }

    /// The other side's FIN came out of a stream.
    pub(super) fn check_fin(&mut self, number: usize, side: Side) {
        let others = self.opens[number].others(side);
        let Some(end) = self.opens[number].end_mut(side) else {
            return;
        };
        let received = end.received;
        let is_twice = std::mem::replace(&mut end.has_seen_fin, true);
        let is_right = |other: &End| other.has_finished && other.written == received;
        if is_twice || !others.iter().any(is_right) {
            self.fail(format!(
                "open {number}: {side:?} got FIN behind {received} bytes, twice or not sent there"
            ));
        }
    }

    /// An open has reached a destination: once, or again when a relay that had it was lost.
    pub(super) fn check_arrival(&mut self, number: usize, identity: usize) {
        let open = &self.opens[number];
        let arrivals = open.far.len() + 1;
        let is_right = open.to == identity && arrivals <= ARRIVALS_MAX;
        let has_excuse = !open.is_probe && self.has_faults();
        if !is_right || (arrivals > 1 && !has_excuse) {
            self.fail(format!(
                "open {number} reached key {identity} as arrival {arrivals}"
            ));
        }
    }

    /// An open was refused.
    pub(super) fn check_refusal(&mut self, number: usize, code: u16) {
        self.counts.opens_refused += 1;
        let is_silent = self.counts.lookups_wrong > 0;
        let open = &self.opens[number];
        let is_right = match Reason::from_code(code) {
            Some(Reason::NoListener) => open.is_refused,
            Some(Reason::DirectoryUnavailable) => is_silent,
            Some(Reason::DialTimeout | Reason::UnknownDestination) => true,
            Some(Reason::Draining | Reason::RefusedByDestination | Reason::RelayCapacity) => {
                self.has_faults() && !open.is_probe
            }
            _ => false,
        };
        if !is_right {
            self.fail(format!("open {number} was refused with {code}"));
        }
        self.check_answer_time(number);
    }

    /// An open was answered now.
    pub(super) fn check_answer_time(&mut self, number: usize) {
        let open = &self.opens[number];
        let (Some(started), Some(near)) = (open.started, open.near) else {
            return;
        };
        let is_roomy = self.options.socket_bytes > 60_000 && self.options.stream_bytes_max < 10_000;
        let took = self.now - started;
        let bound = nanos(self.options.timeouts.open) + SECOND + 8 * self.options.delay_max;
        if is_roomy && self.notes[near.client].hurt.is_none() && took > bound {
            self.fail(format!("open {number} was answered after {} ms", took / MS));
        }
    }

    /// A stream was reset at one end, and not by it.
    pub(super) fn check_reset(&mut self, number: usize) {
        let open = &self.opens[number];
        if open.is_probe || !(self.has_faults() || open.reset_after.is_some() || open.is_refused) {
            let ends = (open.near, &open.far);
            let sentence = format!("open {number} was reset for no reason: {ends:?}");
            self.fail(sentence);
        }
    }

    /// Returns whether something has happened to a peer, a link or a relay.
    pub(super) fn has_faults(&self) -> bool {
        let counts = &self.counts;
        let of_links = counts.links_cut + counts.links_reset + counts.links_delayed;
        let of_relays = counts.relays_killed + counts.relays_drained;
        let of_peers = counts.peers_moved + counts.vanished + counts.resets;
        of_links + of_relays + of_peers > 0
    }
}
