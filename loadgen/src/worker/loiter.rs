//! Connections that never finish their handshake.
//!
//! Here: what each kind sends, how long the relay lets it live and how it ends. Not here: connecting
//! (`setup`), the sum over threads (`run::loiters`).
//!
//! All connections of a thread send the same message 1: the relay cannot know, and the generator saves
//! a key a connection.
//!
//! Invariant: message 1 of a trickle is never complete.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringway_proto::time::Now;
use ringway_shards::ring::ReceiveEnd;
use rustix::io::Errno;

use super::Worker;
use super::party::Party;
use super::session::{Part, Step};
use super::setup::later;
use crate::plan::{Loiter, Plan, Scenario, Target};
use crate::shared::bump;
use crate::tally::LoiterTally;

/// Time between two bytes of a trickle.
const TRICKLE_TIME: Duration = Duration::from_secs(1);

/// What a thread's loiterers share.
#[derive(Debug, Default)]
pub(super) struct Loiters {
    message_1: Vec<u8>,
    next_byte: Now,
}

impl Loiters {
    pub(super) fn new(plan: &Plan, now: Now) -> Result<Self, &'static str> {
        let (Scenario::Slowloris, Target::Relay(relay)) = (plan.scenario, plan.target) else {
            return Ok(Self::default());
        };
        let (_, message_1) = Party::new(relay.key.dialect())?.shake(&relay.key)?;
        Ok(Self {
            message_1,
            next_byte: now,
        })
    }
}

impl Worker {
    /// Connects more, and sends the bytes that are due.
    pub(super) fn loiter_more(&mut self) {
        self.connect_more();
        self.now = self.shared.now();
        if self.now < self.loiters.next_byte {
            return;
        }
        self.loiters.next_byte = later(self.now, TRICKLE_TIME);
        for index in 0..self.sessions.len() {
            let is_live = matches!(self.sessions[index].step, Step::Live);
            if is_live && Loiter::of(index).0 == Loiter::Trickle {
                self.trickle(index);
            }
        }
    }

    fn trickle(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let sent = session.trickled;
        let last = self.loiters.message_1.len().saturating_sub(1);
        if let Some(byte) = self.loiters.message_1.get(sent).filter(|_| sent < last) {
            session.control.push(*byte);
            session.trickled += 1;
            self.mark_dirty(index);
        }
    }

    pub(super) fn on_loiter_connected(&mut self, index: usize) {
        self.connecting -= 1;
        bump(&self.shared.sessions_up);
        let (kind, place) = Loiter::of(index);
        self.loiter_tally(place).connected += 1;
        let now = self.shared.now();
        let session = &mut self.sessions[index];
        session.step = Step::Live;
        session.started = now;
        match kind {
            Loiter::Silent => {}
            Loiter::Trickle => self.trickle(index),
            Loiter::Half => {
                session.control.extend_from_slice(&self.loiters.message_1);
                self.mark_dirty(index);
            }
        }
    }

    /// The relay ended a connection, seen by a receive or by a send.
    pub(super) fn on_loiter_ended(&mut self, index: usize, end: ReceiveEnd) {
        let session = &self.sessions[index];
        if session.part != Part::Loiterer || !matches!(session.step, Step::Live) {
            return;
        }
        let life = self.now.saturating_since(session.started);
        let name = match end {
            ReceiveEnd::Eof => "end of stream".to_owned(),
            ReceiveEnd::Error(errno) if Errno::from_raw_os_error(errno) == Errno::CONNRESET => {
                "reset".to_owned()
            }
            ReceiveEnd::Error(errno) => Errno::from_raw_os_error(errno).to_string(),
        };
        let tally = self.loiter_tally(Loiter::of(index).1);
        tally.ends.count(&name);
        tally.life.record(life);
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        self.end_session(index);
    }

    fn loiter_tally(&mut self, kind: usize) -> &mut LoiterTally {
        if self.tally.loiters.is_empty() {
            self.tally.loiters = vec![LoiterTally::default(); Loiter::ALL.len()];
        }
        &mut self.tally.loiters[kind]
    }
}
