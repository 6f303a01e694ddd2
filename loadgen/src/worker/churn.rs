//! Cycles: connections that come to a phase of their life and are killed there.
//!
//! Here: when a cycle begins, what it does in each phase, what the standing sessions do for it, when a
//! round is over. Not here: connecting and the handshake (`setup`), opens (`open`), the rounds
//! (`run::rounds`).
//!
//! ```text
//!   idle -> connect --+-> message 1 --+-> message 3 --+-> verdict --+-> open -> echo --+
//!    ^                | connected     | handshake     | pipelined   | idle             | mid-frame
//!    |                v               v               v             | mid-open         | bridged
//!    +------------- closed <--------------------------+-------------+------------------+ half-closed
//! ```
//!
//! A kill that must come behind certain bytes waits until the kernel has taken them; on loopback they
//! are in the relay's receive queue then, in front of the reset.
//!
//! Invariant: `active` counts the cycles between their connect and their closed socket.
//! Bound: `concurrency` cycles at a time; memory does not depend on the number of cycles.

use std::sync::atomic::Ordering;

use ringway_proto::frame::{Flags, Header};

use super::session::{Part, Session, Stage, Step};
use super::{Worker, place};
use crate::plan::{KillPhase, STANDING, Scenario};
use crate::shared::{bump, unbump};

/// Bytes that go to the standing session and come back.
const ECHO_BYTES: u32 = 64;
/// First byte of a message that wants an echo.
const ECHO: u8 = 1;
/// First byte of a message that wants an echo, and the end of its direction behind it.
const ECHO_AND_END: u8 = 2;
/// Length of the frame that is never complete.
const FRAME_BYTES: u32 = 16_384;
/// What of it is sent: more than the relay copies, less than the frame.
const FRAME_PART_BYTES: usize = 5_000;
/// Failed cycles in a row after which a thread gives up: a relay that is gone fails them all at once.
const FAILED_IN_ROW_MAX: u32 = 1_000;

/// The cycles of a thread.
#[derive(Debug, Default)]
pub(super) struct Cycles {
    /// Sessions without a cycle.
    idle: Vec<u32>,
    /// The gate that was last seen.
    gate: u32,
    /// Cycles of this thread in the round.
    quota: u64,
    /// Cycles begun in the round.
    begun: u64,
    /// Cycles begun in the run; decides the phase of the next one.
    number: u64,
    active: u32,
    /// Streams of the standing sessions.
    streams: u32,
    failed_in_row: u32,
    is_exhausted: bool,
    is_settled: bool,
}

/// The present cycle of a session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cycle {
    pub(super) phase: KillPhase,
    /// Its place among the cycles of its phase.
    turn: u64,
    /// Killed as soon as everything is sent.
    pub(super) dies_when_sent: bool,
}

impl Cycles {
    pub(super) fn new(sessions: &[Session]) -> Self {
        let numbered = (0_u32..).zip(sessions);
        let churners = numbered.filter(|(_, session)| session.part == Part::Churner);
        Self {
            idle: churners.map(|(index, _)| index).collect(),
            ..Self::default()
        }
    }

    /// Returns whether nothing of a round is left.
    pub(super) const fn is_quiet(&self) -> bool {
        self.active == 0 && self.streams == 0
    }
}

impl Worker {
    /// Begins what may begin now, and tells the conductor how far the round is.
    pub(super) fn cycle_more(&mut self) {
        let gate = self.shared.gate();
        if gate != self.cycles.gate {
            self.enter_gate(gate);
        }
        if is_open(gate) {
            self.release_cycles();
            while self.cycles.begun < self.cycles.quota
                && self.due.is_any()
                && !self.quantum.is_spent()
            {
                let Some(index) = self.cycles.idle.pop() else {
                    break;
                };
                self.begin_cycle(place(index));
            }
        }
        self.report_round(gate);
    }

    fn enter_gate(&mut self, gate: u32) {
        let cycles = &mut self.cycles;
        cycles.gate = gate;
        cycles.begun = 0;
        cycles.is_exhausted = false;
        cycles.is_settled = false;
        self.due.start(None);
        if !is_open(gate) {
            return;
        }
        let churn = &self.plan.churn;
        let threads = u64::from(self.plan.placement.threads);
        let index = u64::from(self.index);
        let round = u64::from(gate / 2);
        cycles.quota = churn.cycles.map_or(u64::MAX, |total| {
            share(share(total, u64::from(churn.rounds), round), threads, index)
        });
        self.now = self.shared.now();
        let schedule = self.schedule(1, threads);
        self.due.start(schedule);
    }

    /// Notes which cycles are due by the clock.
    fn release_cycles(&mut self) {
        let waiting = u64::try_from(self.due.len()).unwrap_or(u64::MAX);
        let left = self.cycles.quota - self.cycles.begun - waiting;
        self.now = self.shared.now();
        let lag = &mut self.tally.latencies.lag;
        self.due.release(self.now, left, lag);
        if left == 0 {
            self.due.stop();
        }
    }

    fn begin_cycle(&mut self, index: usize) {
        let phases = &self.plan.churn.phases;
        let kinds = u64::try_from(phases.len()).unwrap_or(1).max(1);
        let turn = usize::try_from(self.cycles.number % kinds).unwrap_or(0);
        self.sessions[index].cycle = Cycle {
            phase: phases.get(turn).copied().unwrap_or_default(),
            turn: self.cycles.number / kinds,
            dies_when_sent: false,
        };
        self.sessions[index].due = self.due.take();
        self.cycles.number += 1;
        self.cycles.begun += 1;
        self.cycles.active += 1;
        self.connect(index);
    }

    fn report_round(&mut self, gate: u32) {
        let is_through = self.cycles.begun >= self.cycles.quota && self.cycles.active == 0;
        if is_open(gate) && is_through && !self.cycles.is_exhausted {
            self.cycles.is_exhausted = true;
            bump(&self.shared.workers_exhausted);
        }
        if gate > 0 && !is_open(gate) && self.cycles.is_quiet() && !self.cycles.is_settled {
            self.cycles.is_settled = true;
            bump(&self.shared.workers_settled);
        }
    }

    /// Returns whether the session is killed in this phase by the present cycle.
    pub(super) fn dies_in(&self, index: usize, phase: KillPhase) -> bool {
        let session = &self.sessions[index];
        session.part == Part::Churner && session.cycle.phase == phase
    }

    /// Kills the session once its bytes are sent.
    pub(super) fn kill_when_sent(&mut self, index: usize) {
        self.sessions[index].cycle.dies_when_sent = true;
        self.mark_dirty(index);
    }

    /// Kills the session: the cycle did what it should.
    pub(super) fn kill(&mut self, index: usize) {
        match self.sessions[index].step {
            Step::Connecting | Step::Shaking(_) | Step::Judged => self.connecting -= 1,
            Step::Closing | Step::Gone | Step::Idle => return,
            Step::Live => {}
        }
        self.tally.cycles[self.sessions[index].cycle.phase.place()] += 1;
        self.tally.rounds += 1;
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        self.cycles.failed_in_row = 0;
        self.end_session(index);
    }

    /// The cycle of a session ended in another way, which was counted as a failure already.
    pub(super) fn on_cycle_failed(&mut self) {
        self.tally.cycles_failed += 1;
        self.cycles.failed_in_row += 1;
        if self.cycles.failed_in_row >= FAILED_IN_ROW_MAX {
            self.give_up();
        }
    }

    /// Ends the run early: what follows would only fail.
    pub(super) fn give_up(&self) {
        self.shared.is_given_up.store(true, Ordering::Release);
    }

    /// The socket of a cycle is closed, or was never made.
    pub(super) fn on_cycle_closed(&mut self, index: usize) {
        self.cycles.active -= 1;
        self.cycles
            .idle
            .push(u32::try_from(index).unwrap_or(u32::MAX));
    }

    pub(super) fn on_cycle_live(&mut self, index: usize) {
        let session = &self.sessions[index];
        let cycle = session.cycle;
        self.tally.timed(session.due, session.started, self.now);
        let opened = match cycle.phase {
            // The last bytes of a pipelined cycle are on their way; it dies with them.
            KillPhase::Connected | KillPhase::Handshake | KillPhase::Pipelined => return,
            KillPhase::Idle => return self.kill(index),
            KillPhase::MidOpen => {
                self.kill_when_sent(index);
                self.open_stream(index)
            }
            KillPhase::Bridged | KillPhase::HalfClosed | KillPhase::MidFrame => {
                self.open_stream(index)
            }
        };
        if let Err(name) = opened {
            self.drop_session(index, name);
        }
    }

    /// A stream of a cycle is bridged: ask for an echo.
    pub(super) fn on_cycle_open(&mut self, index: usize, id: u32) {
        let cycle = self.sessions[index].cycle;
        if !cycle.phase.is_bridged() {
            return;
        }
        let wants_end = cycle.phase == KillPhase::HalfClosed && ends_at_acceptor(cycle);
        let word = if wants_end { ECHO_AND_END } else { ECHO };
        self.send_data(index, Header::data(id, Flags::NONE, ECHO_BYTES), word);
    }

    /// Takes stream bytes of either side.
    pub(super) fn on_cycle_bytes(&mut self, index: usize, stream: u32, bytes: &[u8]) {
        let entry = &mut self.streams[place(stream)];
        let before = entry.taken_bytes;
        if before == 0
            && let Some(word) = bytes.first()
        {
            entry.word = *word;
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        entry.taken_bytes = before.saturating_add(count);
        if before >= ECHO_BYTES || entry.taken_bytes < ECHO_BYTES {
            return;
        }
        let (id, is_dialer) = (entry.id, entry.is_dialer);
        if is_dialer {
            self.on_cycle_echo(index, id);
            return;
        }
        let is_last = entry.word == ECHO_AND_END;
        // Go takes the end of a stream in before the bytes of the same frame.
        let flags = if is_last && !self.is_dmsg {
            Flags::FIN
        } else {
            Flags::NONE
        };
        self.send_data(index, Header::data(id, flags, ECHO_BYTES), ECHO);
        if is_last && self.is_dmsg {
            self.send_fin(stream);
        }
    }

    fn on_cycle_echo(&mut self, index: usize, id: u32) {
        let cycle = self.sessions[index].cycle;
        match cycle.phase {
            KillPhase::Bridged => self.kill(index),
            KillPhase::MidFrame => {
                let head = Header::data(id, Flags::NONE, FRAME_BYTES).encode();
                let control = &mut self.sessions[index].control;
                control.extend_from_slice(&head);
                control.resize(control.len() + FRAME_PART_BYTES, ECHO);
                self.kill_when_sent(index);
            }
            KillPhase::HalfClosed if !ends_at_acceptor(cycle) => {
                let fin = if self.is_dmsg {
                    Header::window_update(id, Flags::FIN, 0)
                } else {
                    Header::data(id, Flags::FIN, 0)
                };
                let fin = fin.encode();
                self.sessions[index].control.extend_from_slice(&fin);
                self.kill_when_sent(index);
            }
            _ => {}
        }
    }

    /// One direction has ended. The standing session keeps the other one open: the relay has to notice
    /// the death of the dialer by itself.
    pub(super) fn on_cycle_fin(&mut self, stream: u32) {
        let entry = &self.streams[place(stream)];
        let index = place(entry.session);
        let is_open = matches!(entry.stage, Stage::Open);
        if entry.is_dialer {
            if is_open && self.dies_in(index, KillPhase::HalfClosed) {
                self.kill(index);
            } else if matches!(entry.stage, Stage::Asked(_)) && self.is_dmsg {
                self.on_cut(stream, "closed");
            } else {
                self.drop_session(index, "stream: ended too early");
            }
        } else if self.is_dmsg {
            // Go ends both directions with the first one, and keeps a stream until its peer has ended it too;
            // a second end would end the session.
            if !matches!(entry.stage, Stage::Ending) {
                self.send_fin(stream);
            }
            self.on_cycle_reset(stream);
        }
    }

    /// A stream died: what a standing session waits for, and a cycle does not.
    pub(super) fn on_cycle_reset(&mut self, stream: u32) {
        let entry = &self.streams[place(stream)];
        let (index, id, is_dialer) = (place(entry.session), entry.id, entry.is_dialer);
        if is_dialer {
            self.drop_session(index, "stream: reset");
            return;
        }
        self.tally.streams_reset += 1;
        self.sessions[index].accepted.remove(id);
        self.release_stream(stream);
        self.on_standing_streams_gone(1);
    }

    pub(super) fn on_standing_stream(&mut self) {
        self.tally.streams_accepted += 1;
        self.cycles.streams += 1;
        bump(&self.shared.streams_up);
    }

    pub(super) fn on_standing_streams_gone(&mut self, count: usize) {
        for _ in 0..count {
            self.cycles.streams -= 1;
            unbump(&self.shared.streams_up);
        }
    }

    /// Appends a Data frame whose payload is `word` again and again.
    fn send_data(&mut self, index: usize, header: Header, word: u8) {
        let control = &mut self.sessions[index].control;
        control.extend_from_slice(&header.encode());
        control.resize(control.len() + place(header.length), word);
        self.mark_dirty(index);
    }

    /// Returns whether a session of a churn stands over the whole run.
    pub(super) fn is_standing(&self, index: usize) -> bool {
        self.plan.scenario == Scenario::Churn && self.sessions[index].part == Part::Acceptor
    }
}

/// Returns the partner of a cycle's session.
pub(super) const fn standing_partner(own: u32) -> u32 {
    own % STANDING
}

/// In turn the dialer and the acceptor end their direction.
const fn ends_at_acceptor(cycle: Cycle) -> bool {
    cycle.turn % 2 == 1
}

/// Gates of rounds are odd; the even ones between them are closed.
const fn is_open(gate: u32) -> bool {
    gate % 2 == 1
}

/// Returns how many of `total` things the part `index` of `parts` gets.
const fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + if index < total % parts { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_and_threads_share_all_cycles() {
        for (total, rounds, threads) in [(1_000_000, 10, 2), (17, 3, 4), (5, 5, 3)] {
            let mut sum = 0;
            for round in 0..rounds {
                for thread in 0..threads {
                    sum += share(share(total, rounds, round), threads, thread);
                }
            }
            assert_eq!(sum, total);
        }
    }

    #[test]
    fn half_closed_cycles_end_both_directions_in_turn() {
        let cycle = |turn| Cycle {
            turn,
            ..Cycle::default()
        };
        assert!(!ends_at_acceptor(cycle(0)));
        assert!(ends_at_acceptor(cycle(1)));
    }
}
