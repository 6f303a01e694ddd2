//! One end of the byte stream of a route group: a state machine without I/O.
//!
//! Here: what is sent when, and when the path is taken for dead. Not here: the two halves (`sending`,
//! `receiving`), sealing, packets, which path there is.
//!
//! A path keeps the order of what it carries, so a segment behind a gap means that one was dropped: the
//! receiver says so ([`Segment::GAP`]) and the sender begins again from the gap with half its window. So it
//! does when nothing is heard for too long, and, as with a new stream, after a change of path. The receiver
//! keeps what came behind a gap, so nothing that arrived is sent twice for long.
//!
//! An end that waits for an answer probes, each time twice as late, up to a tenth of the keep-alive time.
//! After [`SILENT_MAX`] probes in vain the path is dead; that is after half of the keep-alive time at most.
//! An end that has nothing to say probes every quarter of it.
//! Source: RFC 5681 for the window, RFC 6298 for the timer, RFC 7323 for the stamps.

mod receiving;
mod sending;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use ringway_proto::route::segment::Segment;
use ringway_proto::time::Now;

use self::receiving::Receiving;
use self::sending::{Piece, Sending};

/// The state of one end.
#[derive(Debug)]
pub(crate) struct Flow {
    keep_alive: Duration,
    sending: Sending,
    receiving: Receiving,
    /// Smoothed round trip and its deviation.
    round_trip: Option<(Duration, Duration)>,
    /// Probes since something was heard.
    silent_count: u32,
    /// A probe was sent and nothing heard since.
    is_probing: bool,
    is_probe_due: bool,
    retry_at: Option<Now>,
    probe_at: Now,
    heard_at: Now,
    is_reset: bool,
}

/// What a segment that arrived has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// There are bytes to read, or the end.
    pub(crate) is_readable: bool,
    /// There is room to write.
    pub(crate) is_writable: bool,
    /// The other end has reset the stream.
    pub(crate) is_reset: bool,
}

impl Flow {
    /// Returns the state at the start, with rules that live for `keep_alive` without a packet.
    pub(crate) fn new(keep_alive: Duration, now: Now) -> Self {
        Self {
            keep_alive,
            sending: Sending::new(),
            receiving: Receiving::new(),
            round_trip: None,
            silent_count: 0,
            is_probing: false,
            is_probe_due: false,
            retry_at: None,
            probe_at: now + keep_alive / KEEP_ALIVE_PARTS,
            heard_at: now,
            is_reset: false,
        }
    }

    /// Takes as many of `bytes` as there is room for.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        self.sending.write(bytes)
    }

    /// Ends this direction behind what was written.
    pub(crate) fn finish(&mut self) {
        self.sending.finish();
    }

    /// Copies bytes that have arrived in order; `None` when there are none yet, 0 at the end.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        self.receiving.read(buf)
    }

    /// Forgets what has arrived and is not read.
    pub(crate) fn discard(&mut self) {
        self.receiving.discard();
    }

    /// Says that the stream is over, whatever was on its way: the next segment tells the other end.
    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
    }

    /// Asks for an answer with the next segment.
    pub(crate) fn probe(&mut self) {
        self.is_probe_due = true;
    }

    /// Goes by another keep-alive time: that of a new path.
    pub(crate) fn set_keep_alive(&mut self, keep_alive: Duration) {
        self.keep_alive = keep_alive;
    }

    /// Takes a segment of the other end.
    pub(crate) fn arrive(&mut self, segment: &Segment, data: &[u8], now: Now) -> Arrived {
        self.heard_at = now;
        self.silent_count = 0;
        self.is_probing = false;
        if segment.has(Segment::RESET) {
            return Arrived {
                is_reset: true,
                ..Arrived::default()
            };
        }
        if segment.has(Segment::HAS_ECHO) {
            let millis = stamp(now).wrapping_sub(segment.echo);
            self.measured(Duration::from_millis(millis.into()));
        }
        let acknowledged = segment.acknowledged;
        let more = self.sending.acknowledge(acknowledged, segment.window);
        if segment.has(Segment::GAP) {
            self.sending.gap(acknowledged);
        }
        let is_readable = self.receiving.arrive(segment, data);
        self.retry_at = None;
        self.arm(now);
        Arrived {
            is_readable,
            is_writable: more > 0,
            is_reset: false,
        }
    }

    /// Begins again on a new path.
    pub(crate) fn path_changed(&mut self, now: Now) {
        self.sending.path_changed();
        self.round_trip = None;
        self.silent_count = 0;
        self.heard_at = now;
        self.is_probe_due = true;
        self.retry_at = None;
    }

    /// Does what is due; returns whether the path has been silent for too long.
    pub(crate) fn tick(&mut self, now: Now) -> bool {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.silent_count += 1;
            self.is_probe_due = true;
            self.sending.silence();
        }
        if self.probe_at <= now {
            self.probe_at = now + self.keep_alive / KEEP_ALIVE_PARTS;
            self.is_probe_due = true;
        }
        let silence = now.saturating_since(self.heard_at);
        let is_long = self.silent_count > SILENT_MAX || silence >= self.keep_alive / 2;
        self.silent_count > 0 && is_long
    }

    /// Returns the next segment and the place of its data, `None` when there is nothing to send now.
    pub(crate) fn poll_segment(&mut self, now: Now) -> Option<(Segment, Range<usize>)> {
        let stamp = stamp(now);
        if self.is_reset {
            let flags = Segment::RESET;
            let segment = Segment {
                stamp,
                flags,
                ..Segment::default()
            };
            return Some((segment, 0..0));
        }
        let piece = self.sending.poll();
        if piece.is_none() && !self.is_probe_due && !self.receiving.is_answer_due() {
            return None;
        }
        let nothing = Piece {
            offset: self.sending.offset(),
            range: 0..0,
            is_fin: false,
        };
        let piece = piece.unwrap_or(nothing);
        let (acknowledged, window, answer) = self.receiving.tell();
        let mut segment = Segment {
            offset: piece.offset,
            acknowledged,
            window,
            stamp,
            echo: 0,
            flags: if piece.is_fin { Segment::FIN } else { 0 },
        };
        if self.is_probe_due {
            segment.flags |= Segment::PROBE;
            self.is_probe_due = false;
            self.is_probing = true;
        }
        if let Some(answer) = answer {
            segment.flags |= if answer.is_gap { Segment::GAP } else { 0 };
            segment.flags |= answer.echo.map_or(0, |_| Segment::HAS_ECHO);
            segment.echo = answer.echo.unwrap_or(0);
        }
        self.probe_at = now + self.keep_alive / KEEP_ALIVE_PARTS;
        self.arm(now);
        Some((segment, piece.range))
    }

    /// Returns the data of a segment that was just polled.
    pub(crate) fn data(&self, range: &Range<usize>) -> [&[u8]; 2] {
        self.sending.data(range)
    }

    /// Returns when [`Flow::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Now {
        let dead_at = (self.silent_count > 0).then(|| self.heard_at + self.keep_alive / 2);
        let first = self.retry_at.into_iter().chain(dead_at).min();
        first.map_or(self.probe_at, |at| at.min(self.probe_at))
    }

    /// Whether this direction was ended here.
    pub(crate) const fn is_finished(&self) -> bool {
        self.sending.is_finished()
    }

    /// Whether both ends have everything, and know it of each other as far as this end can tell.
    pub(crate) fn is_done(&self) -> bool {
        self.sending.is_done() && self.receiving.is_done() && !self.receiving.is_answer_due()
    }

    /// Whether everything has arrived, the end too.
    pub(crate) fn is_received(&self) -> bool {
        self.receiving.is_done()
    }

    /// Returns when something was heard last.
    pub(crate) const fn heard_at(&self) -> Now {
        self.heard_at
    }

    /// Returns the smoothed round trip, once it was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|(smoothed, _)| smoothed)
    }

    /// Arms the timer when an answer is to come and it is not armed.
    fn arm(&mut self, now: Now) {
        let is_waiting =
            self.sending.is_under_way() || self.sending.is_blocked() || self.is_probing;
        if !is_waiting {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            let doubled = self.retry_time() * 2_u32.pow(self.silent_count.min(SILENT_MAX));
            // All waits fit into half of the keep-alive time, however slow the path seems.
            let most = self.keep_alive / (2 * (SILENT_MAX + 1));
            self.retry_at = Some(now + doubled.min(most));
        }
    }

    fn retry_time(&self) -> Duration {
        let measured = self.round_trip.map(|(smoothed, off)| smoothed + 4 * off);
        measured.unwrap_or(RETRY_FIRST).clamp(RETRY_MIN, RETRY_MAX)
    }

    fn measured(&mut self, sample: Duration) {
        let sample = sample.min(RETRY_MAX);
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smoothed, off)) => {
                let error = smoothed.abs_diff(sample);
                ((smoothed * 7 + sample) / 8, (off * 3 + error) / 4)
            }
        });
    }
}

/// The clock of segments: milliseconds, which wrap after 49 days.
fn stamp(now: Now) -> u32 {
    u32::try_from(now.as_nanos() / 1_000_000 % (1 << 32)).unwrap_or(0)
}

/// Probes in vain after which a path is dead.
///
/// Five waits, each twice as long as the one before: at least 6 s with [`RETRY_MIN`].
const SILENT_MAX: u32 = 4;

/// An end without anything to say does so this often in a keep-alive time.
const KEEP_ALIVE_PARTS: u32 = 4;

/// Wait for an answer before a round trip was measured.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Shortest wait for an answer.
///
/// Source: the delay of a busy host or a queue on the way; RFC 6298 has 1 s, Linux 200 ms.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// Longest wait for an answer.
const RETRY_MAX: Duration = Duration::from_secs(10);
