//! Bridges: two legs joined, and every way in which they part.
//!
//! | event on one leg | this leg | the other leg |
//! |---|---|---|
//! | FIN, other direction open | half closed | FIN behind its data |
//! | FIN, other direction closed | removed | FIN behind its data, then removed |
//! | RST | removed | RST, removed |
//! | session dies | removed | RST, removed |
//! | queue at its bound | RST, removed | RST, removed (reason 208) |
//! | silent for the bridge's time-out, shorter once half closed | RST, removed | RST, removed (reason 209) |
//!
//! Here: grants, ends and the stream timer. Not here: payload (`dispatch`), opens (`open`).
//!
//! Invariant: a leg is removed exactly once: removal takes it out of the table, and what names it
//! afterwards finds nothing. A leg on another shard is told by a message that FIFO order puts behind
//! its data.

use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::config::Timeouts;
use super::event::{Action, Directory, Message, ShardId, Slot, StreamKey};
use super::stream::{Other, Piece, Stream, StreamState};
use super::timers::Timer;
use super::{ShardCore, Violation};
use crate::lease::Lease;

/// Largest sum of grants outstanding for one direction. yamux has no bound; this one keeps the
/// arithmetic far from overflow and is 64 times the largest window a peer of ours uses.
pub(super) const CREDIT_MAX: u32 = 1 << 30;

/// Largest grant of one frame. What goes beyond it would overflow the window of an honest peer on the
/// other leg, which ends its session: it has to end here, at the one that sent it.
pub(super) const GRANT_MAX: u32 = CREDIT_MAX - WINDOW_INITIAL;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// The peer of `key` grants `delta` bytes: pass it to the peer of the other leg.
    pub(super) fn on_grant(&mut self, key: StreamKey, delta: u32) -> Result<(), Violation> {
        if delta > GRANT_MAX {
            return Err(Violation(Reason::ProtocolError));
        }
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        if delta == 0 || stream.has_ended_out {
            return Ok(());
        }
        stream.touched_s = now_s;
        if stream.state == StreamState::Announcing {
            return self.announcing_granted(key, delta);
        }
        if let Some(forward) = stream.opening.as_mut().and_then(|o| o.forward.as_mut()) {
            forward.note_grant(delta);
        }
        match stream.other {
            Other::Local { stream: other, .. } => self.granted(other, delta),
            Other::Remote {
                shard,
                stream: other,
            } => {
                let message = Message::Grant {
                    stream: other,
                    delta,
                };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {
                if let Some(opening) = stream.opening.as_mut() {
                    // Both terms are below 2^30.
                    opening.window_extra += delta;
                    if opening.window_extra > GRANT_MAX {
                        return Err(Violation(Reason::ProtocolError));
                    }
                }
            }
        }
        Ok(())
    }

    /// The other leg's peer has granted `delta` bytes: announce them on this leg.
    pub(super) fn granted(&mut self, key: StreamKey, delta: u32) {
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.state == StreamState::Flushing || stream.has_ended_in {
            return;
        }
        stream.touched_s = now_s;
        let sum = stream
            .credit
            .checked_add(delta)
            .filter(|sum| *sum <= CREDIT_MAX);
        let Some(sum) = sum else {
            self.break_bridge(key, Reason::ProtocolError);
            return;
        };
        stream.credit = sum;
        self.push_grant(key, delta);
    }

    /// The peer of `key` sends no more data.
    pub(super) fn on_fin(&mut self, key: StreamKey) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        match stream.state {
            // Nothing was said yet, so there is nothing to finish: the open is given up.
            StreamState::Collecting | StreamState::Asked => {
                let (other, slot, id) = (stream.other, stream.session.slot, stream.id);
                let dialect = self.dialect_of(key);
                self.cancel_open(other);
                self.remove_stream(key);
                if dialect == Some(Dialect::Dmsg) {
                    self.end_unanswered(slot, id);
                }
            }
            StreamState::Answering => {
                let refusal = self.refusal_of(key, Flags::FIN);
                self.abort_open(key, refusal);
            }
            StreamState::Announcing | StreamState::Flushing | StreamState::Hearing => {
                return Err(Violation(Reason::ProtocolError));
            }
            StreamState::Bridged => {
                if stream.has_ended_in {
                    return Err(Violation(Reason::ProtocolError));
                }
                stream.has_ended_in = true;
                match stream.other {
                    Other::Local { stream: other, .. } => self.finish(other),
                    Other::Remote {
                        shard,
                        stream: other,
                    } => {
                        let message = Message::Finish { stream: other };
                        self.common.actions.push_back(Action::Message {
                            target: shard,
                            message,
                        });
                    }
                    Other::None => {}
                }
                self.on_half_closed(key);
                self.end_if_finished(key);
            }
        }
        Ok(())
    }

    /// The other leg has no more data: FIN behind what is queued.
    pub(super) fn finish(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.has_ended_out {
            return;
        }
        stream.has_ended_out = true;
        let frame = Header::window_update(stream.id, Flags::FIN, 0).encode();
        if self.push_stream(key, Piece::Owned(frame.to_vec())).is_err() {
            self.break_bridge(key, Reason::SlowConsumer);
            return;
        }
        self.on_half_closed(key);
        self.end_if_finished(key);
    }

    /// One direction of a bridge has ended: from now on a shorter silence ends it. The timer is that of
    /// the destination's leg, which sees what comes and goes on both.
    fn on_half_closed(&mut self, key: StreamKey) {
        let due = self.now + self.bridge_timeout(true);
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.timer.is_some() {
            self.wheel.set(&mut stream.timer, due, Timer::Stream(key));
        }
    }

    /// Returns the longest silence of a bridge.
    pub(super) fn bridge_timeout(&self, is_half_closed: bool) -> Duration {
        let Timeouts {
            half_closed,
            bridge_idle,
            ..
        } = self.config.timeouts;
        if is_half_closed {
            half_closed.min(bridge_idle)
        } else {
            bridge_idle
        }
    }

    fn end_if_finished(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if !stream.has_ended_in || !stream.has_ended_out {
            return;
        }
        if stream.queue.is_empty() {
            self.remove_stream(key);
            return;
        }
        stream.state = StreamState::Flushing;
        // A peer that does not take the rest stalls its session's send, which has a timer.
        self.wheel.cancel(&mut stream.timer);
        let (slot, id) = (stream.session.slot, stream.id);
        self.forget_id(slot, id);
    }

    /// Removes a stream that only had its queue left.
    pub(super) fn remove_flushed(&mut self, key: StreamKey, is_forced: bool) {
        let is_over = self.streams.get(key).is_some_and(|stream| {
            stream.state == StreamState::Flushing && (is_forced || stream.queue.is_empty())
        });
        if is_over {
            self.drop_queue(key);
            // Its timer ended when it began to flush.
            self.streams.remove(key);
            self.count_stream_closed();
            self.give_own_port(key);
        }
    }

    /// The peer of `key` has reset the stream.
    pub(super) fn on_reset(&mut self, key: StreamKey) {
        let refusal = self.refusal_of(key, Flags::RST);
        self.lose_leg(key, refusal);
    }

    /// The session of `key` has died.
    pub(super) fn orphan(&mut self, key: StreamKey) {
        self.lose_leg(key, Reason::UnknownDestination);
    }

    /// Removes a leg whose peer has given it up, and tells the other one. `refusal` is what an opener
    /// hears whose destination is lost before its answer.
    fn lose_leg(&mut self, key: StreamKey, refusal: Reason) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (state, other) = (stream.state, stream.other);
        self.remove_stream(key);
        match state {
            StreamState::Announcing | StreamState::Hearing => {}
            StreamState::Collecting | StreamState::Asked => self.cancel_open(other),
            StreamState::Answering => self.fail_origin(other, refusal),
            StreamState::Bridged | StreamState::Flushing => {
                self.reset_other(other, Reason::Accepted);
            }
        }
    }

    /// Ends both legs for a reason of the relay's own.
    pub(super) fn break_bridge(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        if stream.state != StreamState::Bridged {
            return self.abort_open(key, reason);
        }
        let other = stream.other;
        self.reset_stream(key, reason);
        self.reset_other(other, reason);
    }

    /// Sends RST on a leg and removes it. `Accepted` as reason: passed on, not of the relay's making.
    pub(super) fn reset_stream(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (slot, id) = (stream.session.slot, stream.id);
        if reason != Reason::Accepted {
            self.common.stats.streams_reset.count(reason);
        }
        self.remove_stream(key);
        self.push_control(slot, &Header::window_update(id, Flags::RST, 0).encode());
    }

    /// Resets the other leg, here or on its shard.
    pub(super) fn reset_other(&mut self, other: Other, reason: Reason) {
        match other {
            Other::Local { stream, .. } => self.reset_stream(stream, reason),
            Other::Remote { shard, stream } => {
                let message = Message::Reset { stream };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
            Other::None => {}
        }
    }

    /// Another shard's leg was reset or has died.
    pub(super) fn reset_from_there(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        match stream.state {
            StreamState::Asked => self.refuse(key, Reason::RefusedByDestination),
            StreamState::Announcing | StreamState::Flushing | StreamState::Hearing => {}
            StreamState::Answering | StreamState::Bridged | StreamState::Collecting => {
                self.reset_stream(key, Reason::Accepted);
            }
        }
    }

    /// Takes a stream out of every table; its queue is dropped.
    pub(super) fn remove_stream(&mut self, key: StreamKey) -> Option<Stream<L>> {
        self.drop_queue(key);
        let mut stream = self.streams.remove(key)?;
        self.wheel.cancel(&mut stream.timer);
        self.count_stream_closed();
        self.give_own_port(key);
        if stream.state != StreamState::Flushing {
            self.forget_id(stream.session.slot, stream.id);
        }
        Some(stream)
    }

    fn forget_id(&mut self, slot: Slot, id: u32) {
        let seed = self.config.hash_seed;
        let is_draining = self.is_draining;
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        live.ids.remove(id, seed);
        if live.streams_count() == 0 && (live.is_draining || is_draining) {
            self.note_emptied(slot);
        }
    }

    const fn count_stream_closed(&mut self) {
        self.common.stats.streams_closed += 1;
        self.common.stats.streams_current -= 1;
    }

    /// A stream's timer fired: an open without answer, or a bridge that may be idle.
    pub(super) fn stream_timeout(&mut self, key: StreamKey) {
        let now_s = self.now_s();
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.timer = None;
        let is_half_closed = stream.has_ended_in != stream.has_ended_out;
        let (state, other, touched_s) = (stream.state, stream.other, stream.touched_s);
        match state {
            StreamState::Collecting | StreamState::Asked => {
                self.abort_open(key, Reason::DialTimeout);
            }
            StreamState::Announcing
            | StreamState::Answering
            | StreamState::Flushing
            | StreamState::Hearing => {}
            StreamState::Bridged => {
                let other_s = match other {
                    Other::Local { stream: other, .. } => {
                        self.streams.get(other).map_or(0, |other| other.touched_s)
                    }
                    Other::None | Other::Remote { .. } => 0,
                };
                let idle_s = now_s.saturating_sub(touched_s.max(other_s));
                let idle = Duration::from_secs(u64::from(idle_s));
                match self.bridge_timeout(is_half_closed).checked_sub(idle) {
                    Some(left) if !left.is_zero() => {
                        self.set_stream_timer(key, self.now + left);
                    }
                    _ => self.break_bridge(key, Reason::Idle),
                }
            }
        }
    }

    pub(super) fn set_stream_timer(&mut self, key: StreamKey, due: Now) {
        if let Some(stream) = self.streams.get_mut(key) {
            self.wheel.set(&mut stream.timer, due, Timer::Stream(key));
        }
    }

    /// A message of another shard.
    pub fn message(&mut self, source: ShardId, message: Message<L>, now: Now) {
        self.now = now;
        self.common.stats.messages_received += 1;
        match message {
            Message::Acknowledged { stream, delta } => self.acknowledged(stream, delta),
            Message::AnnouncerGone { relay } => self.choose_announcer(&relay),
            Message::Answered { stream, response } => self.answered(stream, &response),
            Message::Evict { session } => {
                self.end_session(session, super::Cause::Reason(Reason::Replaced), true);
            }
            Message::Finish { stream } => self.finish(stream),
            Message::Frames { stream, range } => self.frames_from_there(stream, range),
            Message::Grant { stream, delta } => self.granted(stream, delta),
            Message::Open(open) => self.asked_from(source, *open),
            Message::OpenFailed { stream, reason } => self.refuse(stream, reason),
            Message::Opened {
                stream,
                other,
                other_id,
            } => {
                self.opened_there(source, stream, other, other_id);
            }
            Message::PeerChanged { key } => self.peer_changed(&key),
            Message::Piece { stream, range } => self.piece_from_there(stream, range),
            Message::Relieve => {
                if now >= self.common.relieve_at {
                    self.relieve_here();
                }
            }
            Message::Reset { stream } => self.reset_from_there(stream),
        }
    }
}
