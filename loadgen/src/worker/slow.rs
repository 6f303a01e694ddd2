//! Sessions that stop reading.
//!
//! Here: when slow pairs come, fall deaf, hear again and go; what the relay did to them. Not here: the
//! fast pairs, which are those of every run with messages (`open`, `input`, `output`); the windows
//! (`run::windows`).
//!
//! ```text
//!   gate even:  connect both -> dialer opens its streams -> acceptor grants 16 MiB each, stops reading
//!   gate odd:   acceptor reads again, to learn what the relay did; both close
//! ```
//!
//! Whatever the relay does to a slow pair is no failure: it is counted by name.

use std::time::Duration;

use ringway_proto::limits::WINDOW_MAX;
use ringway_proto::time::Now;
use ringway_shards::ring::ReceiveEnd;
use rustix::io::Errno;

use super::session::{Part, SlowState, Stage, Step};
use super::setup::later;
use super::{Worker, place};
use crate::shared::{bump, unbump};

/// Window that a slow reader grants: the largest there is.
pub(super) const SLOW_WINDOW: u32 = WINDOW_MAX;
/// Time in which a slow reader reads again before it closes. What waits for it is some 50 MiB at most.
const HEAR_TIME: Duration = Duration::from_secs(2);

/// The slow pairs of a thread.
#[derive(Debug, Default)]
pub(super) struct SlowPairs {
    gate: u32,
    /// When those that read again are closed.
    close_at: Option<Now>,
}

impl Worker {
    /// Follows the gate.
    pub(super) fn slow_more(&mut self) {
        let gate = self.shared.gate();
        if gate != self.slow.gate {
            self.slow.gate = gate;
            self.now = self.shared.now();
            if is_slow_window(gate) {
                self.begin_slow();
            } else {
                self.hear_again();
            }
        }
        if self.slow.close_at.is_some_and(|at| self.now >= at) {
            self.slow.close_at = None;
            for index in self.standing..self.sessions.len() {
                self.close_session(index);
            }
        }
    }

    fn begin_slow(&mut self) {
        self.slow.close_at = None;
        for index in self.standing..self.sessions.len() {
            if matches!(self.sessions[index].step, Step::Idle) {
                bump(&self.shared.slow_open);
                self.connect(index);
            }
        }
    }

    fn hear_again(&mut self) {
        self.slow.close_at = Some(later(self.now, HEAR_TIME));
        for session in &mut self.sessions[self.standing..] {
            let was_deaf = session.slow.as_mut().is_some_and(SlowState::take_deaf);
            if let Some(slot) = session.slot.filter(|_| was_deaf) {
                unbump(&self.shared.slow_deaf);
                self.ring.receive(slot);
            }
        }
    }

    /// A slow session stands; with both of them the dialer opens its streams.
    pub(super) fn on_slow_live(&mut self, index: usize) {
        let partner = place(self.sessions[index].partner);
        if !matches!(self.sessions[partner].step, Step::Live) {
            return;
        }
        let is_dialer = self.sessions[index].part == Part::Dialer;
        let dialer = if is_dialer { index } else { partner };
        for _ in 0..self.plan.slow.streams {
            if let Err(name) = self.open_stream(dialer) {
                self.drop_session(dialer, name);
                return;
            }
        }
    }

    /// The slow reader has granted; with its last stream it stops reading.
    pub(super) fn on_slow_granted(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if let (Some(slow), Some(slot)) = (&mut session.slow, session.slot) {
            slow.granted += 1;
            if slow.granted < self.plan.slow.streams {
                return;
            }
            self.ring.stop_receive(slot);
        }
    }

    /// The slow dialer may send: as fast as its credit allows.
    pub(super) fn on_slow_open(&mut self, stream: u32) {
        self.streams[place(stream)].due = u64::MAX;
        self.wake_stream(stream);
    }

    pub(super) fn on_slow_reset(&mut self, stream: u32) {
        let entry = &self.streams[place(stream)];
        let (index, id, is_dialer) = (place(entry.session), entry.id, entry.is_dialer);
        if is_dialer && matches!(entry.stage, Stage::Asked(_)) {
            self.opening = self.opening.saturating_sub(1);
        }
        let side = self.slow_side(index);
        self.tally
            .slow_ends
            .count(&format!("stream reset, seen by the {side}"));
        let session = &mut self.sessions[index];
        if is_dialer {
            session.dialed.remove(id);
        } else {
            session.accepted.remove(id);
        }
        self.release_stream(stream);
    }

    /// Counts what happened to a slow session.
    pub(super) fn on_slow_ended(&mut self, index: usize, name: &str) {
        let side = self.slow_side(index);
        self.tally
            .slow_ends
            .count(&format!("{name}, seen by the {side}"));
    }

    pub(super) fn on_slow_receive_ended(&mut self, index: usize, end: ReceiveEnd) {
        let canceled = Errno::CANCELED.raw_os_error();
        let session = &mut self.sessions[index];
        if end == ReceiveEnd::Error(canceled) {
            if let Some(slow) = &mut session.slow {
                slow.is_deaf = true;
            }
            bump(&self.shared.slow_deaf);
            return;
        }
        let name = match end {
            ReceiveEnd::Eof => "session closed".to_owned(),
            ReceiveEnd::Error(errno) => format!("session: {}", Errno::from_raw_os_error(errno)),
        };
        self.drop_session(index, &name);
    }

    /// A slow session's socket is gone.
    pub(super) fn on_slow_closed(&mut self, index: usize) {
        unbump(&self.shared.slow_open);
        let slow = self.sessions[index].slow.as_mut();
        if slow.is_some_and(SlowState::take_deaf) {
            unbump(&self.shared.slow_deaf);
        }
    }

    pub(super) fn slow_side(&self, index: usize) -> &'static str {
        match self.sessions[index].part {
            Part::Dialer => "sender",
            _ => "slow reader",
        }
    }
}

/// Gates of windows with slow pairs are even; window 0, without them, has gate 1.
const fn is_slow_window(gate: u32) -> bool {
    gate > 0 && gate.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_window_is_slow() {
        let gates: Vec<bool> = (0..5).map(is_slow_window).collect();
        assert_eq!(gates, [false, false, true, false, true]);
    }
}
