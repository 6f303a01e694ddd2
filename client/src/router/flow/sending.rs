//! The sending half of a flow: bytes until they are acknowledged, and how many may be on their way.
//!
//! Here: the window of the receiver, the congestion window, beginning again. Not here: timers.
//!
//! Invariant: `acknowledged <= next <= sent_max <= end`; what lies before `acknowledged` is forgotten.
//! The end of the stream counts as one byte.

use std::collections::VecDeque;
use std::ops::Range;

use ringway_proto::limits::{ROUTE_SEGMENT_DATA_MAX, ROUTE_WINDOW};

/// What this end has written.
#[derive(Debug)]
pub(super) struct Sending {
    bytes: VecDeque<u8>,
    written: u64,
    acknowledged: u64,
    next: u64,
    sent_max: u64,
    is_finished: bool,
    /// How far the other end allows.
    limit: u64,
    congestion: u64,
    slow_start_max: u64,
    /// A gap before this place has been dealt with.
    recovered: u64,
}

/// The next piece to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    /// Where its bytes lie, for [`Sending::data`].
    pub(super) range: Range<usize>,
    pub(super) is_fin: bool,
}

impl Sending {
    pub(super) fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            written: 0,
            acknowledged: 0,
            next: 0,
            sent_max: 0,
            is_finished: false,
            limit: u64::from(ROUTE_WINDOW),
            congestion: CONGESTION_FIRST,
            slow_start_max: u64::MAX,
            recovered: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.is_finished {
            return 0;
        }
        let taken = self.room().min(bytes.len());
        self.bytes.extend(bytes.iter().take(taken));
        self.written += length(taken);
        taken
    }

    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Takes an acknowledgement and a window; returns how many bytes are new.
    pub(super) fn acknowledge(&mut self, to: u64, window: u32) -> u64 {
        if to < self.acknowledged || to > self.sent_max {
            return 0;
        }
        let more = to - self.acknowledged;
        let bytes = usize::try_from(more).unwrap_or(usize::MAX);
        self.bytes.drain(..bytes.min(self.bytes.len()));
        self.acknowledged = to;
        self.next = self.next.max(to);
        self.limit = self.limit.max(to.saturating_add(window.into()));
        let growth = if self.congestion < self.slow_start_max {
            more
        } else {
            more.saturating_mul(length(ROUTE_SEGMENT_DATA_MAX)) / self.congestion
        };
        self.congestion = (self.congestion + growth).min(2 * u64::from(ROUTE_WINDOW));
        more
    }

    /// Takes the news that bytes behind `acknowledged` were lost.
    pub(super) fn gap(&mut self, acknowledged: u64) {
        let is_new = acknowledged >= self.recovered && acknowledged < self.sent_max;
        if is_new && acknowledged == self.acknowledged {
            self.halve();
            self.congestion = self.slow_start_max;
            self.again();
        }
    }

    /// Begins again after a silence.
    pub(super) fn silence(&mut self) {
        if self.is_under_way() {
            self.halve();
            self.congestion = CONGESTION_MIN;
            self.again();
        }
    }

    /// Begins again on a path of which nothing is known.
    pub(super) fn path_changed(&mut self) {
        self.congestion = CONGESTION_FIRST;
        self.slow_start_max = u64::MAX;
        self.again();
    }

    /// Returns what to send now, and counts it as sent.
    pub(super) fn poll(&mut self) -> Option<Piece> {
        let until = self.limit.min(self.acknowledged + self.congestion);
        let segment_max = self.next + length(ROUTE_SEGMENT_DATA_MAX);
        let behind = until.min(self.written).min(segment_max).max(self.next);
        let is_fin = self.is_finished && self.next <= self.written && behind == self.written;
        let count = usize::try_from(behind - self.next).unwrap_or(0);
        if count == 0 && !is_fin {
            return None;
        }
        let from = usize::try_from(self.next - self.acknowledged).unwrap_or(0);
        let piece = Piece {
            offset: self.next,
            range: from..from + count,
            is_fin,
        };
        self.next = behind + u64::from(is_fin);
        self.sent_max = self.sent_max.max(self.next);
        Some(piece)
    }

    /// Returns the bytes of a piece; nothing may have come between.
    pub(super) fn data(&self, range: &Range<usize>) -> [&[u8]; 2] {
        let (first, second) = self.bytes.as_slices();
        let part = |slice: &[u8], at: usize| {
            let start = range.start.saturating_sub(at).min(slice.len());
            start..range.end.saturating_sub(at).min(slice.len())
        };
        let (a, b) = (part(first, 0), part(second, first.len()));
        [
            first.get(a).unwrap_or_default(),
            second.get(b).unwrap_or_default(),
        ]
    }

    /// Where the next byte stands that is sent.
    pub(super) fn offset(&self) -> u64 {
        self.next.min(self.written)
    }

    pub(super) fn room(&self) -> usize {
        let window = usize::try_from(ROUTE_WINDOW).unwrap_or(usize::MAX);
        window.saturating_sub(self.bytes.len())
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether something was sent and not acknowledged.
    pub(super) const fn is_under_way(&self) -> bool {
        self.next > self.acknowledged
    }

    /// Whether the other end has no room for what there is to send.
    pub(super) const fn is_blocked(&self) -> bool {
        self.next < self.written && self.next >= self.limit
    }

    /// Whether all that was written and the end were acknowledged.
    pub(super) const fn is_done(&self) -> bool {
        self.is_finished && self.acknowledged > self.written
    }

    fn halve(&mut self) {
        self.slow_start_max = (self.congestion / 2).max(CONGESTION_MIN);
    }

    fn again(&mut self) {
        self.next = self.acknowledged;
        self.recovered = self.sent_max;
    }
}

pub(super) fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Bytes on their way at the start: ten segments.
///
/// Source: RFC 6928.
const CONGESTION_FIRST: u64 = 163_840;

/// Least bytes on their way: two full segments.
const CONGESTION_MIN: u64 = 32_768;
