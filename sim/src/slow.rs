//! Peers that read slowly or not at all, and streams that fall silent.
//!
//! Here: how a peer's pace changes, and plans of half-closed streams. Not here: when they happen
//! (`limits`), what the relay must do about them (`resources`).
//!
//! A peer that reads drops keeps its session, since it takes some; what its streams come to is open.
//! One that reads nothing loses its session once something waits for it.

use crate::checks::{Finish, Open, Plan};
use crate::event::Event;
use crate::options::{MS, SECOND};
use crate::world::{Client, World};

/// How a peer reads its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A few bytes, every so many nanoseconds.
    Drops(u64),
    Normal,
    /// Nothing.
    Still,
}

/// Most bytes that a peer reads at once at the pace of drops.
pub(crate) const DROP_BYTES_MAX: usize = 8;

/// Most bytes that a side writes at once when it talks slowly.
pub(crate) const TALK_BYTES_MAX: usize = 50;

impl World {
    /// Plans how a new peer will read.
    pub(crate) fn plan_pace(&mut self, client: usize) {
        let limits = self.options.limits;
        let span = self.options.workload_ns.max(SECOND);
        if limits.trickle > 0 && self.rng.chance(limits.trickle) {
            let stall_ns = crate::limits::nanos(limits.timeouts.send_stall);
            let interval = self.rng.range(100 * MS, (stall_ns / 2).min(5 * SECOND));
            let from = self.rng.skewed(0, span);
            let until = from + self.rng.range(20 * SECOND, 200 * SECOND);
            let pace = Pace::Drops(interval);
            self.at(from, Event::Slow { client, pace });
            let pace = Pace::Normal;
            self.at(until, Event::Slow { client, pace });
        } else if limits.stall > 0 && self.rng.chance(limits.stall) {
            let from = self.rng.skewed(0, span);
            let pace = Pace::Still;
            self.at(from, Event::Slow { client, pace });
        }
    }

    /// A peer reads at another pace from now on.
    pub(crate) fn change_pace(&mut self, client: usize, pace: Pace) {
        let Client::Honest(honest) = &mut self.clients[client] else {
            return;
        };
        if honest.is_over {
            return;
        }
        if !honest.is_ready && pace != Pace::Normal {
            // Handshakes have a time-out of their own: only sessions are slow here.
            return self.at(SECOND, Event::Slow { client, pace });
        }
        honest.pace = pace;
        let conn = honest.conn;
        self.trace(|| format!("client {client} reads at pace {pace:?}"));
        match pace {
            Pace::Drops(_) => {
                self.counts.readers_slow += 1;
                self.slow_down(client, "reads drops");
            }
            Pace::Normal => self.peer_readable(conn),
            Pace::Still => {
                self.counts.readers_stopped += 1;
                self.hurt(client, "reads nothing");
            }
        }
    }

    /// Notes that a client's streams may come to nothing, though its session must live.
    fn slow_down(&mut self, client: usize, why: &'static str) {
        if let Client::Honest(honest) = &mut self.clients[client] {
            honest.slow = Some(why);
            let identity = honest.identity;
            self.hurt_opens_to(identity, why);
        }
        let now = self.now;
        for open in self.opens.iter_mut().filter(|open| open.involves(client)) {
            open.hurt.get_or_insert((why, now));
        }
    }

    /// Lets one direction of a stream end at once, and the other fall silent or talk slowly.
    pub(crate) fn half_close(&mut self, plan: &mut Plan) {
        self.counts.half_closed += 1;
        let side = self.rng.index(2);
        plan.finish[side] = Finish::AtOnce;
        if self.rng.chance(50) {
            plan.finish[1 - side] = Finish::Never;
        } else {
            plan.finish[1 - side] = Finish::AtOnce;
            plan.bytes[1 - side] = self.rng.range(50, 300);
            // The relay counts whole seconds: up to one is missing.
            plan.pace[1 - side] = self.options.limits.silence_ns(true) / 4;
        }
    }
}

impl Open {
    /// Something was said on the stream.
    pub(crate) fn touch(&mut self, now: u64) {
        self.gap_max = self.gap_max(now);
        self.touched_at = Some(now);
    }

    /// Returns the longest silence so far, the present one included.
    pub(crate) fn gap_max(&self, now: u64) -> u64 {
        let since = self.touched_at.or(self.started).unwrap_or(now);
        self.gap_max.max(now - since)
    }
}
