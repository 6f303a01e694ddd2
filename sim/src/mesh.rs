//! Runs of two to four linked relays.
//!
//! ```text
//! workload under faults ---> calm: links and sessions come back ---> every pair is tried ---> the end
//! ```
//!
//! Peers live on different relays, move between them and open streams to each other. Links go through the
//! same kind of network as peers; they are cut in silence, reset and delayed, relays are killed and started
//! anew with an empty directory, drain, and are told to want other relays. A registry knows where peers are,
//! late, wrongly, or does not say. Each seed leaves kinds of fault out.
//!
//! Here: the phases of such a run. Not here: runs of one relay under tight limits (`run`).
//!
//! Bound: `CALM_NS` of virtual time after the last fault, `PROBES_NS` for the pairs, `END_NS` for the end.

mod book;
mod checks;
mod connects;
mod driver;
mod event;
mod faults;
mod network;
mod options;
mod peer;
mod registry;
mod routes;
mod world;

use book::Open;
use driver::Input;
use event::{Event, Fault};
use world::Mesh;

pub use routes::run_routes;

use crate::options::SECOND;
use crate::run::Outcome;

/// Time in which everything comes back: peers that have vanished are found after five intervals of 30 s
/// and what a held send adds, then links are made again within 30 s and a connect of 10 s.
const CALM_NS: u64 = 400 * SECOND;

/// Time for the pairs that are tried, one each second.
const PROBES_NS: u64 = 120 * SECOND;

/// Longest wait for the end of a shutdown.
const END_NS: u64 = 20 * SECOND;

/// Runs one seed with `relays` relays, or two to four.
#[must_use]
pub fn run_mesh(seed: u64, relays: Option<usize>, is_traced: bool) -> Outcome {
    let mut mesh = Mesh::new(seed, relays, is_traced);
    mesh.trace(|| format!("seed {seed}: {:?}", mesh.options));
    mesh.plan();
    let workload_end = mesh.now + mesh.options.workload_ns;
    mesh.run_until(workload_end, |_| false);
    mesh.calm();
    if mesh.failure.is_none() {
        mesh.check_opens();
        mesh.check_links();
    }
    mesh.probe();
    if mesh.failure.is_none() {
        mesh.check_opens();
        mesh.check_probes();
    }
    mesh.end();
    mesh.tally();
    Outcome {
        counts: mesh.counts,
        failure: mesh.failure,
        trace_hash: mesh.trace_hash,
    }
}

impl Mesh {
    fn plan(&mut self) {
        let span = self.options.workload_ns;
        for relay in 0..self.relays.len() {
            let delay = if self.rng.chance(70) {
                0
            } else {
                self.rng.skewed(0, span / 2)
            };
            self.at(delay, Event::Start { relay });
        }
        self.at(SECOND, Event::Look);
        for identity in 0..self.options.identities {
            let delay = self.rng.skewed(0, span);
            self.at(delay, Event::Join { identity });
        }
        for _ in 0..self.options.opens {
            let open = self.draw_open();
            self.opens.push(open);
            let delay = self.rng.below(span);
            let open = self.opens.len() - 1;
            self.at(delay, Event::Open { open });
        }
        let faults = self.options.faults;
        let kinds = [
            (faults.cuts, Fault::Cut),
            (faults.resets, Fault::Reset),
            (faults.delays, Fault::Delay),
            (faults.kills, Fault::Kill),
            (faults.drains, Fault::Drain),
            (faults.wants, Fault::Want),
            (faults.moves, Fault::Move),
            (faults.vanishes, Fault::Vanish),
            (faults.breaks, Fault::Break),
        ];
        for (count, fault) in kinds {
            for _ in 0..count {
                let delay = self.rng.below(span);
                self.at(delay, Event::Fault { fault });
            }
        }
    }

    /// Draws an open between any two peers.
    fn draw_open(&mut self) -> Open {
        let rng = &mut self.rng;
        let from = rng.index(self.options.identities);
        let most = self.options.stream_bytes_max;
        let bytes = [(); 2].map(|()| rng.skewed(0, most));
        let faults = self.options.faults;
        Open {
            from,
            to: rng.index(self.options.identities),
            source_port: 20_000 + u16::try_from(self.opens.len()).unwrap_or(0),
            bytes,
            is_refused: rng.chance(faults.refusal),
            reset_after: rng
                .chance(faults.stream_reset)
                .then(|| rng.skewed(0, bytes[0] + bytes[1])),
            is_probe: false,
            near: None,
            far: Vec::new(),
            started: None,
            is_void: false,
        }
    }

    /// Faults stop: relays that are down start, peers come back, and time passes.
    fn calm(&mut self) {
        self.is_calm = true;
        for relay in 0..self.relays.len() {
            self.at(0, Event::Start { relay });
        }
        for identity in 0..self.options.identities {
            self.at(10 * SECOND, Event::Join { identity });
        }
        self.run_until(self.now + CALM_NS, |_| false);
    }

    /// Every peer opens a stream to every other one.
    fn probe(&mut self) {
        let mut delay = 0;
        for from in 0..self.options.identities {
            for to in (0..self.options.identities).filter(|to| *to != from) {
                let mut open = self.draw_open();
                (open.from, open.to) = (from, to);
                open.bytes = [(); 2].map(|()| self.rng.skewed(0, 2_000));
                (open.is_refused, open.reset_after) = (false, None);
                open.is_probe = true;
                self.opens.push(open);
                let open = self.opens.len() - 1;
                self.at(delay, Event::Open { open });
                delay += SECOND;
            }
        }
        self.run_until(self.now + PROBES_NS, |mesh| {
            mesh.opens.iter().all(Open::is_over)
        });
    }

    /// Drain, shutdown, and what must be left: nothing.
    fn end(&mut self) {
        self.is_ending = true;
        for relay in 0..self.relays.len() {
            if self.rng.chance(60) {
                self.drain(relay);
            }
        }
        let pause = self.rng.skewed(0, 10 * SECOND);
        self.run_until(self.now + pause, |_| false);
        for relay in 0..self.relays.len() {
            for shard in self.relays[relay].shards.clone() {
                self.push(shard, Input::Shutdown);
            }
        }
        self.run_until(self.now + END_NS, |_| false);
        for relay in 0..self.relays.len() {
            if self.failure.is_none() {
                self.check_relay_end(relay);
            }
        }
    }
}
