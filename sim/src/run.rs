//! One run: workload, faults, settling, the end.
//!
//! Here: what is planned for a run and its phases. Not here: who carries it out.
//!
//! ```text
//! workload ---> settle: every open comes to its end ---> drain, shutdown ---> nothing is left
//! ```
//!
//! Bound: `SETTLE_NS` of virtual time after the last plan, `END_NS` after the shutdown.

use ringway_proto::reason::Reason;

use crate::checks::{Answer, Finish, Open, Plan, Target};
use crate::dialects::Dialects;
use crate::driver::Input;
use crate::event::{Event, Fault, Join};
use crate::keys::ADVERSARY_FIRST;
use crate::limits::{Limits, nanos};
use crate::options::{Options, SECOND};
use crate::world::{Client, Counts, World};

/// Longest wait for what was planned: twice the time after which an idle bridge is reset, and the
/// keep-alive's.
const SETTLE_NS: u64 = 800 * SECOND;

/// Longest wait for the end of a shutdown: handshakes, lingering sockets, delays.
const END_NS: u64 = 20 * SECOND;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What happened in it.
    pub counts: Counts,
    /// What a checker found wrong, as a sentence.
    pub failure: Option<String>,
    /// Of every event and its time: the same for the same seed.
    pub trace_hash: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, is_traced: bool) -> Outcome {
    run_with(seed, Dialects::NATIVE, is_traced)
}

/// Runs one seed with honest peers of the dmsg dialect.
#[must_use]
pub fn run_dmsg(seed: u64, is_traced: bool) -> Outcome {
    run_with(seed, Dialects::draw(seed), is_traced)
}

fn run_with(seed: u64, dialects: Dialects, is_traced: bool) -> Outcome {
    let mut world = World::new(seed, dialects, is_traced);
    world.trace(|| format!("seed {seed}: {:?}", world.options));
    world.plan();
    let workload_end = world.now + world.options.workload_ns;
    world.run_until(workload_end, |_| false);
    let settled_at = world.now + SETTLE_NS;
    world.dismiss();
    world.run_until(settled_at, World::is_settled);
    if world.failure.is_none() {
        world.check_outcome();
    }
    if world.failure.is_none() {
        world.end();
    }
    world.tally();
    Outcome {
        counts: world.counts,
        failure: world.failure,
        trace_hash: world.trace_hash,
    }
}

impl World {
    fn plan(&mut self) {
        self.plan_dials();
        let span = self.options.workload_ns;
        for identity in 0..self.options.identities {
            let delay = if self.rng.chance(50) {
                0
            } else {
                self.rng.skewed(0, span)
            };
            self.at(
                delay,
                Event::Join {
                    kind: Join::Honest { identity },
                },
            );
        }
        for _ in 0..self.options.adversaries {
            let delay = self.rng.skewed(0, span);
            self.at(
                delay,
                Event::Join {
                    kind: Join::Adversary,
                },
            );
        }
        for _ in 0..self.options.strangers {
            let delay = self.rng.skewed(0, span);
            self.at(
                delay,
                Event::Join {
                    kind: Join::Stranger,
                },
            );
        }
        self.plan_limits();
        // Opens before the handshakes have ended are a case, but not the rule.
        let first = 10 * self.options.delay_max + 4 * self.options.compute_delay_max;
        for number in 0..self.options.opens {
            let port = 49_152 + u16::try_from(number % 16_000).unwrap_or(0);
            let open = self.draw_open(port);
            self.opens.push(open);
            let delay = self.rng.skewed(0, span) + if self.rng.chance(10) { 0 } else { first };
            self.at(delay, Event::Open { open: number });
        }
        let faults = self.options.faults;
        let kinds = [
            (faults.reset, Fault::Cut),
            (faults.vanish, Fault::Vanish),
            (faults.leave, Fault::Leave),
            (faults.kick, Fault::Kick),
            (faults.drain, Fault::Drain),
            (faults.shutdown, Fault::Shutdown),
        ];
        for (percent, fault) in kinds {
            if self.rng.chance(percent) {
                let delay = first + self.rng.skewed(0, span.max(SECOND));
                self.at(delay, Event::Fault { fault });
            }
        }
        if self.rng.chance(faults.replace) {
            for _ in 0..self.rng.range(1, 3) {
                let identity = self.rng.index(self.options.identities);
                let delay = self.rng.skewed(0, first + span);
                self.at(
                    delay,
                    Event::Join {
                        kind: Join::Honest { identity },
                    },
                );
            }
        }
    }

    fn plan_limits(&mut self) {
        let limits = self.options.limits;
        self.counts.tight_limits += u64::from(limits != Limits::plenty());
        self.at(SECOND, Event::Look);
        for _ in 0..limits.flood {
            let delay = self.rng.below(limits.flood_ns + 1);
            let kind = Join::Idler;
            self.at(delay, Event::Join { kind });
        }
    }

    fn draw_open(&mut self, source_port: u16) -> Open {
        let Options {
            stream_bytes_max,
            identities,
            adversaries,
            faults,
            ..
        } = self.options;
        let open_timeout = self.options.limits.timeouts.open;
        let rng = &mut self.rng;
        let identity = rng.index(identities);
        let mut target = Target::Peer(rng.index(identities));
        let mut answer = Answer::Accept {
            delay: if rng.chance(70) {
                0
            } else {
                rng.skewed(0, SECOND.min(nanos(open_timeout) / 4))
            },
        };
        let mut cancel = None;
        if rng.chance(faults.odd_open) {
            match rng.below(6) {
                0 => target = Target::Nobody,
                1 => target = Target::Relay,
                2 => answer = Answer::Never,
                3 => answer = Answer::Refuse(Reason::NoListener),
                4 => answer = Answer::Refuse(Reason::RefusedByDestination),
                _ => cancel = Some(rng.skewed(0, SECOND)),
            }
        } else if adversaries > 0 && rng.chance(20) {
            target = Target::Adversary(rng.size(ADVERSARY_FIRST, crate::keys::IDENTITIES - 1));
        }
        let is_fast = rng.chance(80);
        let mut finish = [(); 2].map(|()| {
            if is_fast {
                Finish::AtOnce
            } else {
                Finish::Later(rng.skewed(0, 2 * SECOND))
            }
        });
        if rng.chance(30) {
            finish[rng.index(2)] = Finish::AfterOther;
        }
        let bytes = [(); 2].map(|()| rng.skewed(0, stream_bytes_max));
        let reset = rng
            .chance(faults.stream_reset)
            .then(|| (rng.index(2), rng.skewed(0, bytes[0] + bytes[1])));
        let port = u16::try_from(rng.range(1, 65_535)).unwrap_or(1);
        let mut plan = Plan {
            answer,
            port,
            bytes,
            finish,
            pace: [0; 2],
            reset,
            cancel,
        };
        let half_closed = self.options.limits.half_closed;
        let is_plain = reset.is_none() && cancel.is_none() && matches!(target, Target::Peer(_));
        if half_closed > 0 && is_plain && self.rng.chance(half_closed) {
            self.half_close(&mut plan);
        }
        Open::new(identity, source_port, target, plan)
    }

    pub(crate) fn join(&mut self, kind: Join) {
        if self.is_draining {
            return;
        }
        match kind {
            Join::Adversary => self.add_adversary(),
            Join::Idler => self.add_idler(),
            Join::Stranger => self.add_stranger(),
            Join::Honest { identity } => {
                let older: Vec<usize> = self.honest_of(identity);
                let number = self.add_honest(identity);
                if !older.is_empty() {
                    self.counts.replaced += 1;
                    self.hurt(number, "one of two sessions");
                }
                for client in older {
                    self.hurt(client, "replaced");
                }
            }
        }
    }

    fn honest_of(&self, identity: usize) -> Vec<usize> {
        let is_it = |client: &Client| matches!(client, Client::Honest(honest) if honest.identity == identity && !honest.is_over);
        (0..self.clients.len())
            .filter(|number| is_it(&self.clients[*number]))
            .collect()
    }

    /// A fault happens to one of the honest sessions, or to the relay.
    pub(crate) fn inject(&mut self, fault: Fault) {
        let identity = self.rng.index(self.options.identities);
        let victim = self.honest_of(identity).first().copied();
        let conn = victim.and_then(|victim| match &self.clients[victim] {
            Client::Honest(honest) => Some((victim, honest.conn)),
            _ => None,
        });
        self.trace(|| format!("fault: {fault:?} of client {victim:?}"));
        match (fault, conn) {
            (Fault::Drain, _) => {
                self.counts.drains += 1;
                self.drain();
            }
            (Fault::Shutdown, _) => {
                self.counts.shutdowns += 1;
                self.shut_down();
            }
            (Fault::Cut, Some((victim, conn))) => {
                self.counts.resets += 1;
                self.hurt(victim, "connection cut");
                self.cut(conn);
            }
            (Fault::Vanish, Some((victim, conn))) => {
                self.counts.vanished += 1;
                self.hurt(victim, "vanished");
                self.conns[conn].is_silent = true;
            }
            (Fault::Leave, Some((victim, conn))) => {
                self.counts.leaves += 1;
                self.hurt(victim, "left");
                if self.rng.chance(50) {
                    self.fin(conn, crate::network::Way::Up);
                } else {
                    let with_reset = self.rng.chance(50);
                    self.with_honest(victim, |honest, world| honest.leave(world, with_reset));
                }
            }
            (Fault::Kick, Some((victim, _))) => {
                self.counts.kicks += 1;
                self.hurt(victim, "kicked");
                let key = self.keys.of(identity, self.dialects.of(identity));
                for shard in 0..self.shards.len() {
                    self.push(shard, Input::Kick(key));
                }
            }
            (Fault::Cut | Fault::Kick | Fault::Leave | Fault::Vanish, None) => {}
        }
    }

    fn drain(&mut self) {
        self.is_draining = true;
        for shard in 0..self.shards.len() {
            self.push(shard, Input::Drain);
        }
    }

    fn shut_down(&mut self) {
        self.is_draining = true;
        self.is_shut_down = true;
        for shard in 0..self.shards.len() {
            self.push(shard, Input::Shutdown);
        }
    }

    /// The adversaries have had their time.
    fn dismiss(&mut self) {
        for client in 0..self.clients.len() {
            let delay = self.rng.skewed(0, 10 * SECOND);
            if let Client::Adversary(raw) = &mut self.clients[client] {
                raw.limit_moves(50);
                self.at(delay + 20 * SECOND, Event::Adversary { client });
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.opens.iter().all(Open::is_over) && self.dials.is_over()
    }

    /// Returns what an adversary has sent that the relay should not have let pass.
    fn tolerated(&self) -> Option<&'static str> {
        self.clients.iter().find_map(|client| match client {
            Client::Adversary(raw) => raw.is_tolerated(self),
            _ => None,
        })
    }

    /// Drain, shutdown, and what must be left: nothing.
    fn end(&mut self) {
        // What an adversary broke must have had its answer, some time after it arrived.
        self.run_until(self.now + 5 * SECOND, |_| false);
        if self.tolerated().is_some() {
            self.run_until(self.now + 5 * SECOND, |_| false);
        }
        let tolerated = self.tolerated();
        if let Some(what) = tolerated {
            self.fail(format!("an adversary sent {what} and kept its session"));
        }
        if self.rng.chance(60) {
            self.drain();
            let pause = self.rng.skewed(0, 10 * SECOND);
            self.run_until(self.now + pause, |_| false);
        }
        if self.failure.is_none() {
            self.shut_down();
            self.run_until(self.now + END_NS, |_| false);
        }
        if self.failure.is_none() {
            self.check_end();
        }
    }
}
