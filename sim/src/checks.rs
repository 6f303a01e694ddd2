//! What must hold, told by the protocol alone.
//!
//! Here: the book of opens with what either end saw, and the checks of streams, sessions and shards.
//! Not here: any knowledge of the core's inside.

use ringway_proto::limits::SESSION_QUEUE_MAX;
use ringway_proto::reason::Reason;

use crate::limits::nanos;
use crate::options::{MS, SECOND};
use crate::world::{Client, World};

/// Whom an open asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Adversary(usize),
    Nobody,
    Peer(usize),
    Relay,
}

/// What the destination answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Accept { delay: u64 },
    Never,
    Refuse(Reason),
}

/// When a side finishes its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Once the other side has.
    AfterOther,
    /// Right behind its bytes.
    AtOnce,
    /// Some time later.
    Later(u64),
    Never,
}

/// What is to become of an open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) answer: Answer,
    pub(crate) port: u16,
    /// Bytes that the opener and the destination send.
    pub(crate) bytes: [u64; 2],
    pub(crate) finish: [Finish; 2],
    /// Pause between the few bytes that each side writes at a time; 0: all at once.
    pub(crate) pace: [u64; 2],
    /// The side that resets the stream once it has sent and received so many bytes.
    pub(crate) reset: Option<(usize, u64)>,
    /// The opener gives up after this time if there is no answer.
    pub(crate) cancel: Option<u64>,
}

/// What one end of a stream knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Knows nothing of it.
    Unknown,
    /// Asked, or was asked.
    Opening,
    Open,
    /// Both directions ended in order.
    Done,
    Refused(u16),
    /// Reset by the other side or the relay.
    Reset,
    /// Reset by this side.
    ResetHere,
    /// The session ended.
    SessionOver,
}

impl State {
    pub(crate) const fn is_over(self) -> bool {
        !matches!(self, Self::Opening | Self::Open)
    }
}

/// One end of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) state: State,
    pub(crate) written: u64,
    pub(crate) received: u64,
    pub(crate) has_finished: bool,
    pub(crate) has_seen_fin: bool,
}

const UNKNOWN: End = End {
    state: State::Unknown,
    written: 0,
    received: 0,
    has_finished: false,
    has_seen_fin: false,
};

/// One open of an honest peer.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) identity: usize,
    pub(crate) source_port: u16,
    pub(crate) target: Target,
    pub(crate) plan: Plan,
    pub(crate) ends: [End; 2],
    /// The clients at its ends.
    pub(crate) clients: [Option<usize>; 2],
    pub(crate) started: Option<u64>,
    /// The destination had a session when the open began.
    pub(crate) was_there: bool,
    /// The fault that touched it, and when.
    pub(crate) hurt: Option<(&'static str, u64)>,
    /// It could not be made at all.
    pub(crate) is_void: bool,
    /// When something was last said on it.
    pub(crate) touched_at: Option<u64>,
    /// Longest silence before that.
    pub(crate) gap_max: u64,
}

impl Open {
    pub(crate) const fn new(identity: usize, source_port: u16, target: Target, plan: Plan) -> Self {
        Self {
            identity,
            source_port,
            target,
            plan,
            ends: [UNKNOWN; 2],
            clients: [None; 2],
            started: None,
            was_there: false,
            hurt: None,
            is_void: false,
            touched_at: None,
            gap_max: 0,
        }
    }

    pub(crate) fn involves(&self, client: usize) -> bool {
        self.clients.contains(&Some(client))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_void || (self.started.is_some() && self.ends.iter().all(|end| end.state.is_over()))
    }

    const fn is_with_adversary(&self) -> bool {
        matches!(self.target, Target::Adversary(_))
    }
}

impl World {
    /// Bytes came out of a stream at one end.
    pub(crate) fn check_bytes(&mut self, number: usize, side: usize, bytes: &[u8]) {
        let open = &self.opens[number];
        let from = 1 - side;
        let at = open.ends[side].received;
        let sent = open.ends[from].written;
        let wrong = if open.is_with_adversary() {
            None
        } else if at + bytes.len() as u64 > sent {
            Some(format!(
                "open {number}: side {side} got bytes beyond {sent}, which were not sent"
            ))
        } else {
            crate::content::mismatch(number, from, at, bytes)
                .map(|at| format!("open {number}: side {side} got a wrong byte at {at}"))
        };
        if let Some(wrong) = wrong {
            return self.fail(wrong);
        }
        self.counts.bytes += bytes.len() as u64;
        self.opens[number].ends[side].received += bytes.len() as u64;
    }

    /// The other side's FIN came out of a stream.
    pub(crate) fn check_fin(&mut self, number: usize, side: usize) {
        let open = &mut self.opens[number];
        let other = open.ends[1 - side];
        let received = open.ends[side].received;
        let is_twice = open.ends[side].has_seen_fin;
        open.ends[side].has_seen_fin = true;
        if open.is_with_adversary() {
            return;
        }
        if is_twice {
            self.fail(format!("open {number}: side {side} got two FINs"));
        } else if !other.has_finished {
            self.fail(format!(
                "open {number}: side {side} got a FIN that was not sent"
            ));
        } else if received != other.written {
            let written = other.written;
            self.fail(format!(
                "open {number}: side {side} got FIN after {received} of {written} bytes"
            ));
        }
    }

    /// An open has reached its destination, or was accepted: both speak the same.
    pub(crate) fn check_dialects(&mut self, number: usize) {
        if self.dialects.is_across(&self.opens[number]) {
            self.fail(format!("open {number} reached the other dialect"));
        }
    }

    /// An open of an honest peer was refused.
    pub(crate) fn check_refusal(&mut self, number: usize, code: u16) {
        self.counts.opens_refused += 1;
        let open = &self.opens[number];
        self.counts.opens_across += u64::from(self.dialects.is_across(open));
        if open.hurt.is_some() || self.is_draining || open.is_with_adversary() {
            return;
        }
        let told = |reason: Reason| code == self.dialects.told(open, reason);
        let is_right = match (open.target, open.plan.answer) {
            (Target::Peer(_), _) if self.dialects.is_across(open) => told(Reason::OtherDialect),
            (Target::Nobody, _) => told(Reason::UnknownDestination),
            (Target::Relay, _) => told(Reason::NoListener),
            (_, Answer::Refuse(reason)) => code == reason.code(),
            (_, Answer::Never) => told(Reason::DialTimeout),
            (_, Answer::Accept { .. }) => false,
        };
        let is_absent = !open.was_there && told(Reason::UnknownDestination);
        // A reset right behind the acceptance may arrive with it.
        let is_reset = (matches!(open.plan.reset, Some((1, _))) || self.is_queue_excuse(number))
            && told(Reason::RefusedByDestination);
        // The relay says 303; a destination that is full itself resets the stream, which is 305.
        // So does a peer with 256 opens unanswered.
        let is_full = (self.options.streams_max < 100 || self.options.opens > 250)
            && [Reason::TooManyStreams, Reason::RefusedByDestination]
                .iter()
                .any(|reason| told(*reason));
        let is_late = told(Reason::DialTimeout)
            && (self.options.is_slow_network() || self.is_answer_late(number));
        if !(is_right || is_absent || is_full || is_reset || is_late) {
            let target = open.target;
            let answer = open.plan.answer;
            self.fail(format!(
                "open {number} to {target:?} ({answer:?}) was refused with {code}"
            ));
        }
        self.check_answer_time(number);
    }

    /// An open of an honest peer was answered now.
    pub(crate) fn check_answer_time(&mut self, number: usize) {
        let open = &self.opens[number];
        let faults = &self.options.faults;
        if open.hurt.is_some() || faults.slow_socket > 0 || faults.lost_wake > 0 {
            return;
        }
        let Some(started) = open.started else { return };
        // Time-out, two ticks of the wheel, the network there and back, and what queues.
        let bound = nanos(self.options.limits.timeouts.open)
            + 300 * MS
            + 8 * self.options.delay_max
            + 200 * MS;
        let took = self.now - started;
        let is_small = self.options.piece_max > 1_000 && self.options.socket_bytes > 10_000;
        if is_small && took > bound && self.options.stream_bytes_max < 10_000 {
            self.fail(format!("open {number} was answered after {} ms", took / MS));
        }
    }

    /// A stream was reset at one end, and not by it.
    pub(crate) fn check_reset(&mut self, number: usize, side: usize) {
        let open = &self.opens[number];
        let plan = open.plan;
        let is_expected = open.hurt.is_some()
            || open.is_with_adversary()
            || plan.reset.is_some()
            || plan.cancel.is_some()
            || self.is_shut_down
            || (side == 1 && open.ends[1].state == State::Opening)
            || (side == 1 && self.has_timed_out(number))
            || matches!(open.ends[1 - side].state, State::Refused(_));
        if is_expected {
            return;
        }
        let excuse = if self.was_silent(number) {
            "silent for too long"
        } else if self.is_queue_excuse(number) {
            "too much waits"
        } else {
            return self.fail(format!(
                "open {number}: side {side} was reset for no reason"
            ));
        };
        let now = self.now;
        self.opens[number].hurt = Some((excuse, now));
    }

    /// Returns whether an honest answer may come too late for a short time-out.
    fn is_answer_late(&self, number: usize) -> bool {
        let Answer::Accept { delay } = self.opens[number].plan.answer else {
            return false;
        };
        let open_ns = nanos(self.options.limits.timeouts.open);
        let wakes = if self.options.faults.lost_wake > 0 {
            4
        } else {
            2
        };
        let is_starved = self.options.ring_bytes_max < i64::MAX;
        let expected = delay + 4 * self.options.delay_max + wakes * 200 * MS;
        open_ns < 5 * SECOND && (expected >= open_ns || is_starved)
    }

    /// Returns whether the relay has given up an open whose destination has answered.
    fn has_timed_out(&self, number: usize) -> bool {
        let open = &self.opens[number];
        let open_ns = nanos(self.options.limits.timeouts.open);
        open.ends[0].state == State::Opening
            && open
                .started
                .is_some_and(|started| self.now - started >= open_ns)
    }

    /// Returns whether nothing was said on a stream for so long that the relay may end it. Half the
    /// time-out: the relay counts whole seconds, and sees later what the ends say.
    fn was_silent(&self, number: usize) -> bool {
        let open = &self.opens[number];
        let is_half_closed = open.ends.iter().any(|end| end.has_finished);
        let limit = self.options.limits.silence_ns(is_half_closed);
        open.gap_max(self.now) >= limit / 2
    }

    /// Looks at a shard between two turns.
    pub(crate) fn check_shard(&mut self, shard: usize) {
        let entry = &self.shards[shard];
        let stats = entry.core.stats();
        let broken = stats.broken_laws();
        let audit = entry.core.audit();
        let received = (stats.bytes_received, entry.received_bytes);
        if let Some(law) = broken.first() {
            return self.fail(format!("shard {shard}: {law}"));
        }
        if received.0 != received.1 {
            let (counted, given) = received;
            return self.fail(format!(
                "shard {shard}: counted {counted} of {given} received bytes"
            ));
        }
        let bound = audit.sockets * u64::from(SESSION_QUEUE_MAX);
        if audit.queued_bytes > bound {
            let queued = audit.queued_bytes;
            return self.fail(format!("shard {shard}: {queued} bytes wait, bound {bound}"));
        }
        if entry.account.bytes() < 0 || entry.account.leases() < 0 {
            self.fail(format!(
                "shard {shard}: receive memory was given back twice"
            ));
        }
    }

    /// Everything that no fault has touched must have come to the end that was planned.
    pub(crate) fn check_outcome(&mut self) {
        let mut wrong = None;
        for (number, open) in self.opens.iter().enumerate() {
            if open.is_void {
                continue;
            }
            if !open.is_over() {
                wrong = Some(format!(
                    "open {number} hangs: {:?} and {:?}, hurt {:?}, {:?}",
                    open.ends, open.plan, open.hurt, open.target
                ));
                break;
            }
            let states = open.ends.map(|end| end.state);
            let is_clean = open.hurt.is_none()
                && !self.is_draining
                && matches!(open.target, Target::Peer(_))
                && matches!(open.plan.answer, Answer::Accept { .. })
                && open.plan.reset.is_none()
                && open.plan.cancel.is_none()
                && !open.plan.finish.contains(&Finish::Never)
                && !matches!(states[0], State::Refused(_));
            let is_complete = states == [State::Done; 2]
                && (0..2).all(|side| {
                    open.ends[side].written == open.plan.bytes[side]
                        && open.ends[1 - side].received == open.plan.bytes[side]
                });
            if is_clean && !is_complete {
                wrong = Some(format!(
                    "open {number} was not completed: {:?}, plan {:?}",
                    open.ends, open.plan
                ));
                break;
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// After the end nothing may be left.
    pub(crate) fn check_end(&mut self) {
        let mut wrong = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let audit = shard.core.audit();
            let stats = shard.core.stats();
            if !audit.is_zero() {
                wrong.push(format!("shard {number} still owns {audit:?}"));
            }
            if !shard.core.is_drained() {
                wrong.push(format!("shard {number} is not drained"));
            }
            if stats.sockets_opened != stats.sockets_closed {
                wrong.push(format!("shard {number} has lost a socket"));
            }
            if stats.opens_pending != 0 {
                wrong.push(format!(
                    "shard {number} has {} opens pending",
                    stats.opens_pending
                ));
            }
            if shard.account.bytes() != 0 || shard.account.leases() != 0 {
                let (bytes, leases) = (shard.account.bytes(), shard.account.leases());
                wrong.push(format!(
                    "shard {number} leaks {leases} leases with {bytes} bytes"
                ));
            }
            if shard.slots.iter().any(Option::is_some) || !shard.is_idle() {
                wrong.push(format!("shard {number} has sockets or inputs left"));
            }
        }
        wrong.extend(self.dials_left());
        if self.directory.len() != 0 {
            wrong.push(format!("the directory keeps {} keys", self.directory.len()));
        }
        for (number, client) in self.clients.iter().enumerate() {
            if let Client::Honest(honest) = client
                && !honest.is_over
                && !self.conns[honest.conn].is_silent
            {
                wrong.push(format!(
                    "client {number} was never told that its session is over"
                ));
            }
        }
        if let Some(first) = wrong.into_iter().next() {
            self.fail(first);
        }
    }
}
