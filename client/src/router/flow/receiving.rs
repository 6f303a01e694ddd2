//! The receiving half of a flow: bytes in order, and those that came behind a gap.
//!
//! Here: putting them in order, the window, what the other end is told. Not here: timers.
//!
//! Bound: [`ROUTE_WINDOW`] bytes to read, and as much behind gaps in [`PIECES_MAX`] pieces.

use std::collections::{BTreeMap, VecDeque};

use ringway_proto::limits::ROUTE_WINDOW;
use ringway_proto::route::segment::Segment;

use super::sending::length;

/// What the other end has sent.
#[derive(Debug)]
pub(super) struct Receiving {
    readable: VecDeque<u8>,
    /// The place that is to arrive next; the end counts as one byte.
    expected: u64,
    behind: BTreeMap<u64, Vec<u8>>,
    behind_bytes: u64,
    end: Option<u64>,
    told_limit: u64,
    answer: Option<Answer>,
}

/// A segment that is owed to the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub(super) echo: Option<u32>,
    pub(super) is_gap: bool,
}

impl Receiving {
    pub(super) fn new() -> Self {
        Self {
            readable: VecDeque::new(),
            expected: 0,
            behind: BTreeMap::new(),
            behind_bytes: 0,
            end: None,
            told_limit: u64::from(ROUTE_WINDOW),
            answer: None,
        }
    }

    /// Takes the data of a segment; returns whether there is more to read, or the end.
    pub(super) fn arrive(&mut self, segment: &Segment, data: &[u8]) -> bool {
        let before = self.expected;
        let is_behind = segment.offset > self.expected;
        let is_fin = segment.has(Segment::FIN);
        if !data.is_empty() || is_fin || segment.has(Segment::PROBE) {
            let answer = self.answer.get_or_insert_default();
            answer.echo.get_or_insert(segment.stamp);
            answer.is_gap |= is_behind && (is_fin || !data.is_empty());
        }
        let end = segment.offset.saturating_add(length(data.len()));
        if end > self.limit() || self.end.is_some_and(|known| end > known) {
            return false;
        }
        if is_fin && self.end.is_none() && end >= self.expected {
            self.end = Some(end);
            let is_before = |at: u64, bytes: &[u8]| at + length(bytes.len()) <= end;
            self.behind.retain(|at, bytes| is_before(*at, bytes));
        }
        if is_behind {
            self.keep(segment.offset, data);
        } else {
            self.take(segment.offset, data);
            self.take_behind();
        }
        if self.end == Some(self.expected) {
            self.expected += 1;
        }
        self.expected != before
    }

    /// Copies bytes to the reader; `None` when there are none yet, 0 at the end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.readable.is_empty() {
            return self.is_done().then_some(0);
        }
        let mut n = 0;
        let (first, second) = self.readable.as_slices();
        for part in [first, second] {
            let rest = buf.get_mut(n..).unwrap_or_default();
            let len = part.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..len), part.get(..len)) {
                to.copy_from_slice(from);
                n += len;
            }
        }
        self.readable.drain(..n);
        // The other end may be waiting for room: it is told when half of the window is free again.
        let half = u64::from(ROUTE_WINDOW) / 2;
        let left = self.told_limit.saturating_sub(self.expected);
        let is_worth = self.end.is_none() && left < half;
        if is_worth && self.limit() - self.told_limit >= half {
            self.answer.get_or_insert_default();
        }
        Some(n)
    }

    /// Forgets what can be read.
    pub(super) fn discard(&mut self) {
        if !self.readable.is_empty() && self.end.is_none() {
            self.answer.get_or_insert_default();
        }
        self.readable.clear();
    }

    /// Returns what the other end is told of this half, and takes the answer that is owed.
    pub(super) fn tell(&mut self) -> (u64, u32, Option<Answer>) {
        self.told_limit = self.limit();
        let window = u32::try_from(self.told_limit - self.expected.min(self.told_limit));
        (
            self.expected,
            window.unwrap_or(u32::MAX),
            self.answer.take(),
        )
    }

    pub(super) const fn is_answer_due(&self) -> bool {
        self.answer.is_some()
    }

    /// Whether everything has arrived, the end too.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.expected > end)
    }

    /// How far the other end may send.
    fn limit(&self) -> u64 {
        self.expected + u64::from(ROUTE_WINDOW) - length(self.readable.len())
    }

    fn take(&mut self, offset: u64, data: &[u8]) {
        let known = usize::try_from(self.expected - offset).unwrap_or(usize::MAX);
        if let Some(new) = data.get(known..) {
            self.readable.extend(new);
            self.expected += length(new.len());
        }
    }

    fn take_behind(&mut self) {
        while let Some(piece) = self.behind.first_entry() {
            if *piece.key() > self.expected {
                return;
            }
            let (offset, data) = piece.remove_entry();
            self.behind_bytes -= length(data.len());
            self.take(offset, &data);
        }
    }

    fn keep(&mut self, offset: u64, data: &[u8]) {
        let bytes = length(data.len());
        let has_room =
            self.behind.len() < PIECES_MAX && self.behind_bytes + bytes <= u64::from(ROUTE_WINDOW);
        let known = self.behind.get(&offset).map_or(0, Vec::len);
        if has_room && data.len() > known {
            self.behind_bytes += bytes - length(known);
            self.behind.insert(offset, data.to_vec());
        }
    }
}

/// Most pieces kept behind gaps; more are dropped and come again.
const PIECES_MAX: usize = 1_024;
