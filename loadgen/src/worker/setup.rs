//! From nothing to a session, and back.
//!
//! Here: connecting, the handshake, the verdict, the end of a session. Not here: streams, what stands for the
//! verdict in the dmsg dialect (`patience`).
//!
//! ```text
//!   Idle -> Connecting -> Shaking -> Judged -> Live -> Closing -> Idle (handshakes, churn, slow) or Gone
//!                 '-----------'---------'--------^ any failure
//! ```

use std::sync::atomic::Ordering;

use ringway_proto::sealed::object_len;
use ringway_proto::time::Now;
use ringway_proto::verdict::Verdict;
use ringway_shards::ring::{ReceiveEnd, Slot};

use super::party::Party;
use super::quantum::Request;
use super::session::{Part, Session, Stage, Step, Stream};
use super::{Worker, place};
use crate::ledger::class_of;
use crate::plan::{End, KillPhase, Scenario, Target};
use crate::shared::{Phase, bump, unbump};

impl Worker {
    /// Begins sessions in their order, a few at a time.
    pub(super) fn connect_more(&mut self) {
        let concurrency = self.plan.concurrency.min(SETUP_CONCURRENCY_MAX);
        while self.connecting < concurrency && place(self.begun) < self.standing {
            let index = place(self.begun);
            self.begun += 1;
            let is_heir = self.plan.scenario == Scenario::Evict && !index.is_multiple_of(2);
            if is_heir || matches!(self.sessions[index].part, Part::Sink) {
                continue;
            }
            self.connect(index);
        }
    }

    /// Begins every session that is over.
    pub(super) fn connect_again(&mut self) {
        if self.connecting >= self.plan.concurrency {
            return;
        }
        for index in 0..self.sessions.len() {
            if !self.due.is_any() || self.quantum.is_spent() {
                return;
            }
            if matches!(self.sessions[index].step, Step::Idle) {
                self.sessions[index].due = self.due.take();
                self.connect(index);
            }
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        let token = u64::try_from(index).unwrap_or(u64::MAX);
        let now = self.shared.now();
        let session = &mut self.sessions[index];
        session.started = now;
        session.step = Step::Connecting;
        self.connecting += 1;
        let Ok(tuple) = self.tuples.take(now) else {
            // As the kernel calls it.
            return self.on_connect_failed(token, EADDRNOTAVAIL);
        };
        session.claim = tuple.claim;
        session.class = class_of(tuple.host);
        let target = match (&self.plan.far, session.part) {
            (Some(far), Part::Acceptor) => far.socket,
            _ => self.target,
        };
        self.quantum.spend(Request::Connect);
        if let Err(error) = self.ring.connect(target, tuple.options, token) {
            let errno = error.raw_os_error().unwrap_or(0);
            self.on_connect_failed(token, errno);
        }
    }

    /// The socket of a session is gone: its local address is free, unless somebody else has it.
    fn give_back(&mut self, index: usize, is_taken: bool) {
        if let Some(claim) = self.sessions[index].claim.take() {
            let now = self.shared.now();
            if is_taken {
                self.tuples.give_taken(claim, now);
            } else {
                self.tuples.give(claim, now);
            }
        }
    }

    pub(super) fn on_connect_failed(&mut self, token: u64, errno: i32) {
        self.connecting -= 1;
        self.tally.failures.count_errno("connect", errno);
        self.note_failure();
        let Ok(index) = usize::try_from(token) else {
            return;
        };
        self.give_back(index, matches!(errno, EADDRINUSE | EADDRNOTAVAIL));
        let class = self.tally.class(self.sessions[index].class);
        match errno {
            EADDRNOTAVAIL => class.addr_not_avail += 1,
            EADDRINUSE => class.addr_in_use += 1,
            _ => class.failed += 1,
        }
        self.sessions[index].step = self.after_life(index);
        if self.sessions[index].part == Part::Churner {
            self.on_cycle_failed();
            self.on_cycle_closed(index);
        } else if self.sessions[index].is_slow() {
            self.on_slow_closed(index);
        } else if self.is_stormy() {
            self.on_storm_refused(index);
            self.on_storm_closed(index);
        }
    }

    /// Returns what a session is when its connection is over.
    fn after_life(&self, index: usize) -> Step {
        let session = &self.sessions[index];
        let scenario = self.plan.scenario;
        let is_reborn = matches!(
            scenario,
            Scenario::Evict | Scenario::Handshakes | Scenario::Storm
        ) || session.part == Part::Churner
            || session.is_slow();
        if is_reborn { Step::Idle } else { Step::Gone }
    }

    pub(super) fn on_connected(&mut self, slot: Slot, token: u64) {
        let Ok(index) = usize::try_from(token) else {
            return;
        };
        self.bind_slot(slot, index);
        let session = &self.sessions[index];
        let took = self.now.saturating_since(session.started);
        self.tally.class(session.class).connects.record(took);
        if self.sessions[index].is_plain() {
            self.connecting -= 1;
            if self.plan.scenario == Scenario::Plain {
                self.plain_up(index);
            } else {
                // A connection is all there is to a plain session without messages.
                self.sessions[index].step = Step::Live;
                self.on_live(index);
            }
            return;
        }
        if self.sessions[index].part == Part::Loiterer {
            self.on_loiter_connected(index);
            return;
        }
        if self.dies_in(index, KillPhase::Connected) {
            self.kill(index);
            return;
        }
        if let Err(name) = self.send_hello(index) {
            self.drop_session(index, name);
        }
    }

    /// A connection that the proxy made to us.
    pub(super) fn on_accepted(&mut self, slot: Slot) {
        let index = self.sessions.len();
        self.sessions
            .push(Session::new(Part::Sink, 0, Party::nobody()));
        self.bind_slot(slot, index);
        self.plain_up(index);
    }

    fn bind_slot(&mut self, slot: Slot, index: usize) {
        let session = &mut self.sessions[index];
        session.slot = Some(slot);
        if let Some(entry) = self.by_slot.get_mut(place(slot.0)) {
            *entry = u32::try_from(index).unwrap_or(u32::MAX);
        }
        self.ring.receive(slot);
    }

    /// A plain connection is one stream without frames.
    fn plain_up(&mut self, index: usize) {
        let session = u32::try_from(index).unwrap_or(u32::MAX);
        let is_dialer = self.sessions[index].part == Part::Client;
        let stream = Stream::new(session, 0, is_dialer, Stage::Open, u32::MAX);
        let stream = self.insert_stream(stream);
        self.sessions[index].reader.stream = Some(stream);
        self.sessions[index].step = Step::Live;
        if is_dialer {
            self.add_sender(stream);
            bump(&self.shared.streams_up);
        }
        bump(&self.shared.sessions_up);
    }

    fn send_hello(&mut self, index: usize) -> Result<(), &'static str> {
        let relay = match (self.plan.target, &self.plan.far, self.sessions[index].part) {
            (Target::Relay(_), Some(far), Part::Acceptor) => *far,
            (Target::Relay(relay), ..) => relay,
            _ => return Err("no relay to talk to"),
        };
        let session = &mut self.sessions[index];
        let (shake, message) = session.keys.shake(&relay.key)?;
        session.step = Step::Shaking(Box::new(shake));
        session.control.extend_from_slice(&message);
        self.mark_dirty(index);
        self.await_session(index);
        if self.dies_in(index, KillPhase::Handshake) {
            self.kill_when_sent(index);
        }
        Ok(())
    }

    /// Takes bytes of the handshake; true when the session is live and `rest` holds frames.
    pub(super) fn on_early(
        &mut self,
        index: usize,
        bytes: &[u8],
        rest: &mut Vec<u8>,
    ) -> Result<bool, &'static str> {
        let session = &mut self.sessions[index];
        session.early.extend_from_slice(bytes);
        let dialect = session.keys.dialect();
        if matches!(session.step, Step::Shaking(_)) {
            let len = dialect.message_len(&session.early);
            let len = len.map_err(|_| "handshake: message length")?;
            let Some(len) = len.filter(|len| session.early.len() >= *len) else {
                return Ok(false);
            };
            let Step::Shaking(shake) = std::mem::replace(&mut session.step, Step::Judged) else {
                return Ok(false);
            };
            let (message, crypto) = shake.message_2(&session.early[2..len])?;
            session.early.drain(..len);
            session.control.extend_from_slice(&message);
            session.crypto = Some(Box::new(crypto));
            self.mark_dirty(index);
            if self.dies_in(index, KillPhase::Pipelined) {
                self.open_stream(index)?;
                self.kill_when_sent(index);
            } else if !dialect.has_verdict() {
                self.ask_for_sign(index);
            }
        }
        if dialect.has_verdict() {
            return self.on_verdict(index, rest);
        }
        // Frames may follow message 2; the sign of life will be among them.
        *rest = std::mem::take(&mut self.sessions[index].early);
        Ok(true)
    }

    fn on_verdict(&mut self, index: usize, rest: &mut Vec<u8>) -> Result<bool, &'static str> {
        let session = &mut self.sessions[index];
        let len = object_len(&session.early).map_err(|_| "handshake: verdict length")?;
        let Some(len) = len.filter(|len| session.early.len() >= *len) else {
            return Ok(false);
        };
        let Some(crypto) = &mut session.crypto else {
            return Ok(false);
        };
        let plain = crypto.opener.open(&mut session.early[2..len]);
        let verdict = plain
            .map_err(|_| "handshake: verdict does not open")
            .and_then(|plain| Verdict::decode(plain).map_err(|_| "handshake: unknown verdict"))?;
        if !verdict.is_accepted() {
            self.on_session_refused(index, verdict.reason.code());
            return Ok(false);
        }
        session.early.drain(..len);
        *rest = std::mem::take(&mut session.early);
        self.on_established(index);
        Ok(!matches!(self.sessions[index].step, Step::Closing))
    }

    /// The relay has said no to a session, and why.
    pub(super) fn on_session_refused(&mut self, index: usize, code: u16) {
        self.tally.failures.count_reason("session refused", code);
        self.note_failure();
        self.connecting -= 1;
        if self.sessions[index].part == Part::Churner {
            self.on_cycle_failed();
        } else if self.is_stormy() {
            self.on_storm_refused(index);
        }
        self.end_session(index);
    }

    /// The session stands, as far as can be known.
    pub(super) fn on_established(&mut self, index: usize) {
        self.sessions[index].step = Step::Live;
        self.connecting -= 1;
        self.on_live(index);
    }

    fn on_live(&mut self, index: usize) {
        if self.sessions[index].part == Part::Churner {
            self.on_cycle_live(index);
            return;
        }
        if self.sessions[index].is_slow() {
            self.on_slow_live(index);
            return;
        }
        bump(&self.shared.sessions_up);
        match self.plan.scenario {
            Scenario::Handshakes => {
                let session = &self.sessions[index];
                self.tally.timed(session.due, session.started, self.now);
                self.tally.rounds += 1;
                self.shared.rounds.fetch_add(1, Ordering::Relaxed);
                if self.plan.churn.end != End::Peer {
                    self.end_session(index);
                }
            }
            Scenario::Evict => self.on_evict_live(index),
            Scenario::Storm => self.on_storm_live(index),
            Scenario::Idle if self.plan.is_mute => self.sessions[index].started = self.now,
            _ => {}
        }
    }

    pub(super) fn on_receive_ended(&mut self, slot: Slot, end: ReceiveEnd) {
        let Some(index) = self.session_of(slot) else {
            return;
        };
        if matches!(self.sessions[index].step, Step::Closing) {
            return;
        }
        if self.phase == Phase::Close {
            self.end_session(index);
            return;
        }
        if self.sessions[index].part == Part::Loiterer {
            self.on_loiter_ended(index, end);
            return;
        }
        if self.is_evictable(index) {
            self.on_evicted_silently(index);
            return;
        }
        let is_awaited = self.plan.churn.end == End::Peer && end == ReceiveEnd::Eof;
        if is_awaited && self.plan.scenario == Scenario::Handshakes {
            self.end_session(index);
            return;
        }
        if self.plan.is_mute && matches!(self.sessions[index].step, Step::Live) {
            self.on_mute_ended(index);
        }
        if self.sessions[index].is_slow() {
            self.on_slow_receive_ended(index, end);
            return;
        }
        let when = match self.sessions[index].step {
            Step::Shaking(_) if self.is_dmsg => "handshake, behind message 1",
            // The usual end of a session whose first bytes came too early.
            Step::Judged if self.is_dmsg => "handshake, behind message 3 (see --ping-after)",
            _ => "session",
        };
        let name = match end {
            ReceiveEnd::Eof => format!("{when}: closed by the other side"),
            ReceiveEnd::Error(errno) => {
                let error = rustix::io::Errno::from_raw_os_error(errno);
                format!("{when}: {error}")
            }
        };
        self.drop_session(index, &name);
    }

    /// Ends a session that something went wrong with, and counts its streams as lost.
    pub(super) fn drop_session(&mut self, index: usize, name: &str) {
        let step = &self.sessions[index].step;
        match step {
            Step::Connecting | Step::Shaking(_) | Step::Judged => self.connecting -= 1,
            Step::Closing | Step::Gone | Step::Idle => return,
            Step::Live => {}
        }
        if self.sessions[index].is_slow() {
            self.on_slow_ended(index, name);
        } else {
            self.fail(name);
        }
        if self.sessions[index].part == Part::Churner {
            self.on_cycle_failed();
        } else if self.is_stormy() {
            self.on_storm_refused(index);
        } else if self.is_standing(index) {
            self.give_up();
        }
        self.end_session(index);
    }

    pub(super) fn end_session(&mut self, index: usize) {
        let is_expected =
            self.sessions[index].part == Part::Churner || self.sessions[index].is_slow();
        let is_standing = self.is_standing(index);
        let session = &mut self.sessions[index];
        let mut streams = session.dialed.drain();
        streams.append(&mut session.accepted.drain());
        session.cycle.dies_when_sent = false;
        session.ready.clear();
        session.step = Step::Closing;
        let slot = session.slot;
        if is_standing {
            self.on_standing_streams_gone(streams.len());
        }
        for stream in streams {
            if matches!(self.streams[place(stream)].stage, Stage::Asked(_)) {
                self.opening = self.opening.saturating_sub(1);
            }
            if self.phase < Phase::Close && !is_expected {
                self.fail("stream: its session ended");
            } else if self.phase == Phase::Close {
                self.count_hanging_stream(stream);
            }
            self.release_stream(stream);
        }
        if let Some(slot) = slot {
            self.ring.close(slot);
        }
    }

    /// Closes a session at the end of the run.
    pub(super) fn close_session(&mut self, index: usize) {
        match self.sessions[index].step {
            Step::Judged | Step::Shaking(_) => {
                self.connecting -= 1;
                self.count_hanging_session(index);
                self.end_session(index);
            }
            Step::Live => self.end_session(index),
            // The socket's completion is still to come; then it is closed.
            Step::Connecting | Step::Closing | Step::Idle | Step::Gone => {}
        }
    }

    pub(super) fn on_closed(&mut self, slot: Slot) {
        let Some(index) = self.session_of(slot) else {
            return;
        };
        if let Some(entry) = self.by_slot.get_mut(place(slot.0)) {
            *entry = u32::MAX;
        }
        if self.sessions[index].is_slow() {
            self.on_slow_closed(index);
        }
        self.give_back(index, false);
        self.sessions[index].reset();
        self.sessions[index].step = self.after_life(index);
        if self.sessions[index].part == Part::Churner {
            self.on_cycle_closed(index);
        } else if self.is_stormy() {
            self.on_storm_closed(index);
        }
    }

    /// The relay has ended a session that showed no sign of life: its end is what was waited for.
    fn on_mute_ended(&mut self, index: usize) {
        let started = self.sessions[index].started;
        self.tally.timed(None, started, self.now);
        self.tally.rounds += 1;
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        unbump(&self.shared.sessions_up);
    }
}

/// Handshakes of a thread at a time before anything is measured. A storm may have no bound of its own, and
/// what a relay sheds then would never stand.
///
/// A shard on a host without a free core computes 50 steps of handshakes a second at least: 100 handshakes of
/// two steps are done in 4 s, and each has 5.
const SETUP_CONCURRENCY_MAX: u32 = 100;

const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;

/// Returns 32 random bytes for one handshake.
pub(super) fn random() -> Result<[u8; 32], &'static str> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| "no randomness")?;
    Ok(bytes)
}

/// Returns nanoseconds since 1970.
pub(super) fn unix_time_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Returns the moment `time` after `now`.
pub(super) fn later(now: Now, time: std::time::Duration) -> Now {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Now::from_nanos(now.as_nanos().saturating_add(nanos))
}

/// Returns whether something made at `made` is older than `seconds`.
pub(super) fn is_older(made: Now, now: Now, seconds: u64) -> bool {
    now.saturating_since(made).as_secs() >= seconds
}
