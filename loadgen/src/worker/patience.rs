//! Who waits for an answer, and for how long; pings that are held back.
//!
//! Here: what a dmsg server may leave without an answer, and the first sign of life of a session. Not here:
//! handshakes (`setup`), opens (`open`).
//!
//! A native relay ends what takes too long, and tells why. A dmsg server of 2024 answers an open that it
//! cannot carry out with nothing at all; so here the generator gives up as clients do, and says so by name.
//!
//! The dialect has no verdict. A session stands once message 3 is sent, and the generator counts it when a
//! ping behind message 3 is answered: the first sign that the server thinks so too.
//!
//! Invariant: deadlines stand in the order in which they come, since all of a kind have the same length.
//! Bound: an entry leaves when it is over and no older one waits, at the latest after the patience of the
//! plan.

use std::collections::VecDeque;
use std::time::Duration;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::time::Now;

use super::session::{Part, Stage, Step};
use super::setup::later;
use super::{Worker, place};
use crate::plan::{Plan, Scenario};

/// Value of the ping that asks for a sign of life.
const SIGN: u32 = 1;
/// What waits so long at the end of a run was not just begun: it is hanging.
const HANGS_AFTER: Duration = Duration::from_secs(1);

/// What waits.
#[derive(Debug)]
pub(super) struct Patience {
    time: Duration,
    ping_after: Duration,
    sessions: VecDeque<Waiting>,
    streams: VecDeque<Asking>,
    pings: VecDeque<Waiting>,
}

/// A session at a moment of one of its connections.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    until: Now,
    session: usize,
    /// When the connection was begun: names it.
    begun: Now,
}

/// A stream that was asked for.
#[derive(Debug, Clone, Copy)]
struct Asking {
    until: Now,
    stream: u32,
    /// When it was asked for: names it.
    begun: Now,
}

impl Patience {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            time: plan.dmsg.patience,
            ping_after: plan.dmsg.ping_after,
            sessions: VecDeque::new(),
            streams: VecDeque::new(),
            pings: VecDeque::new(),
        }
    }

    /// Returns when the next ping is due.
    pub(super) fn next_ping(&self) -> Option<Now> {
        self.pings.front().map(|ping| ping.until)
    }
}

impl Worker {
    /// A handshake begins: it must come to an end.
    pub(super) fn await_session(&mut self, index: usize) {
        if self.is_dmsg {
            let waiting = self.waiting(index, self.patience.time);
            self.patience.sessions.push_back(waiting);
        }
    }

    /// A stream was asked for: somebody must answer.
    pub(super) fn await_stream(&mut self, stream: u32, begun: Now) {
        if self.is_dmsg {
            self.patience.streams.push_back(Asking {
                until: later(begun, self.patience.time),
                stream,
                begun,
            });
        }
    }

    /// Message 3 is in the session's buffer: asks for a sign of life behind it, at once or later.
    pub(super) fn ask_for_sign(&mut self, index: usize) {
        if self.patience.ping_after.is_zero() {
            self.send_ping(index);
        } else {
            let waiting = self.waiting(index, self.patience.ping_after);
            self.patience.pings.push_back(waiting);
        }
    }

    /// Returns whether a ping's answer is the sign of life of a session that was not counted yet.
    pub(super) fn is_sign(&self, index: usize, value: u32) -> bool {
        value == SIGN && self.is_dmsg && matches!(self.sessions[index].step, Step::Judged)
    }

    /// Sends the pings that are due, and gives up what has waited too long.
    pub(super) fn look_at_patience(&mut self) {
        while let Some(ping) = self.patience.pings.front().copied() {
            if ping.until > self.now {
                break;
            }
            self.patience.pings.pop_front();
            if self.is_shaking(ping) {
                self.send_ping(ping.session);
            }
        }
        while let Some(waiting) = self.patience.sessions.front().copied() {
            let is_over = !self.is_shaking(waiting);
            if !is_over && waiting.until > self.now {
                break;
            }
            self.patience.sessions.pop_front();
            if !is_over {
                let name = format!("handshake: no answer in {:?}", self.patience.time);
                self.drop_session(waiting.session, &name);
            }
        }
        while let Some(asking) = self.patience.streams.front().copied() {
            let is_over = !self.is_asking(asking);
            if !is_over && asking.until > self.now {
                break;
            }
            self.patience.streams.pop_front();
            if !is_over {
                self.give_stream_up(asking.stream);
            }
        }
    }

    /// Counts a session without an answer when the run is over.
    pub(super) fn count_hanging_session(&mut self, index: usize) {
        if self.is_hanging(self.sessions[index].started) {
            self.fail("handshake: no answer until the end");
        }
    }

    /// Counts a stream without an answer when the run is over.
    pub(super) fn count_hanging_stream(&mut self, stream: u32) {
        let Stage::Asked(asked) = &self.streams[place(stream)].stage else {
            return;
        };
        if self.is_hanging(asked.started) {
            self.fail("open: no answer until the end");
        }
    }

    /// Returns whether what was begun then ought to have come to an end.
    fn is_hanging(&self, begun: Now) -> bool {
        // In the others a session may be in the middle of something when they end.
        let is_quiet = matches!(
            self.plan.scenario,
            Scenario::Handshakes | Scenario::Idle | Scenario::Opens | Scenario::Steady
        );
        self.is_dmsg && is_quiet && self.now.saturating_since(begun) >= HANGS_AFTER
    }

    /// Nobody has answered an open.
    fn give_stream_up(&mut self, stream: u32) {
        let entry = &self.streams[place(stream)];
        let (index, id) = (place(entry.session), entry.id);
        let reset = Header::window_update(id, Flags::RST, 0).encode();
        self.sessions[index].control.extend_from_slice(&reset);
        self.mark_dirty(index);
        let name = format!("open: no answer in {:?}", self.patience.time);
        if self.sessions[index].part == Part::Churner {
            self.drop_session(index, &name);
            return;
        }
        self.opening = self.opening.saturating_sub(1);
        if self.sessions[index].is_slow() {
            self.on_slow_ended(index, &name);
        } else {
            self.fail(&name);
        }
        self.sessions[index].dialed.remove(id);
        self.release_stream(stream);
    }

    fn send_ping(&mut self, index: usize) {
        let ping = Header::ping(Flags::SYN, SIGN).encode();
        self.sessions[index].control.extend_from_slice(&ping);
        self.mark_dirty(index);
    }

    fn waiting(&self, index: usize, time: Duration) -> Waiting {
        Waiting {
            until: later(self.now, time),
            session: index,
            begun: self.sessions[index].started,
        }
    }

    fn is_shaking(&self, waiting: Waiting) -> bool {
        let session = &self.sessions[waiting.session];
        let is_shaking = matches!(session.step, Step::Judged | Step::Shaking(_));
        is_shaking && session.started == waiting.begun
    }

    fn is_asking(&self, asking: Asking) -> bool {
        let stage = &self.streams[place(asking.stream)].stage;
        matches!(stage, Stage::Asked(asked) if asked.started == asking.begun)
    }
}
