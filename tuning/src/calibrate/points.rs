//! The plan against real relays: what it says of a load, and what is measured with that load.
//!
//! Here: the loads, and the comparison of memory and ports. Not here: the sums (`plan::load`).
//!
//! Units: bytes, ports.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use serde::Serialize;

use super::memory::{BULK_SESSIONS, Streams, bulk, linked, warm};
use super::programs::{Programs, Relay, slab};
use crate::plan::costs::Costs;
use crate::plan::load::{self, Load, Sum};
use crate::tcp::TcpSocket;

/// A load on real relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// What it is.
    pub name: &'static str,
    /// Shards of the relay.
    pub shards: u32,
    /// Sessions that stand.
    pub sessions: u32,
    /// Addresses they come from.
    pub sources: u32,
    /// Sessions with streams beside them, and the ends of streams of each.
    pub streaming: [u32; 2],
    /// Sessions on another relay that is linked with this one.
    pub far: u32,
    /// Connections a second that their own side closes, for five seconds.
    pub closed: u32,
}

/// One figure of a point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compared {
    /// What it is.
    pub what: &'static str,
    /// What the plan says.
    pub predicted: f64,
    /// What there was.
    pub measured: f64,
}

impl Compared {
    /// Returns by how much the plan is too high, as a share of what was measured.
    #[must_use]
    pub fn error(&self) -> f64 {
        let difference = self.predicted - self.measured;
        match difference == 0.0 {
            // Nothing was predicted, and nothing was there.
            true => 0.0,
            false => difference / self.measured,
        }
    }
}

/// Returns the loads that the plan is compared with.
#[must_use]
pub const fn points() -> [Point; 6] {
    const ONE: Point = Point {
        name: "8,000 sessions on one shard",
        shards: 1,
        sessions: 8_000,
        sources: 1,
        streaming: [0, 0],
        far: 0,
        closed: 0,
    };
    [
        ONE,
        Point {
            name: "15,000 sessions on one shard, from two addresses",
            sessions: 15_000,
            sources: 2,
            ..ONE
        },
        Point {
            name: "30,000 sessions on two shards, from four addresses",
            shards: 2,
            sessions: 30_000,
            sources: 4,
            ..ONE
        },
        Point {
            name: "8,000 sessions and 400 with 100 ends of streams each on two shards",
            shards: 2,
            streaming: [400, 100],
            ..ONE
        },
        Point {
            name: "6,000 sessions, and 8,000 on another relay, two shards each",
            shards: 2,
            sessions: 6_000,
            far: 8_000,
            ..ONE
        },
        Point {
            name: "6,000 sessions and 200 connections a second that their side closes",
            sessions: 6_000,
            closed: 200,
            ..ONE
        },
    ]
}

impl Point {
    /// Brings real relays to this load and compares.
    ///
    /// # Errors
    /// When a program cannot be started or fails.
    pub fn compare(&self, programs: &Programs, costs: &Costs) -> io::Result<Vec<Compared>> {
        let relays = match self.far {
            0 => vec![Relay::start(programs, self.shards, &[])?],
            _ => linked(programs, self.shards)?.into(),
        };
        let [relay, others @ ..] = &relays[..] else {
            return Err(io::Error::other("no relay was started"));
        };
        warm(programs, relay)?;
        relay.settled()?;
        let before = slab()?;
        let mut held = vec![self.hold(programs, relay, self.sessions)?];
        if let [other] = others {
            held.push(self.hold(programs, other, self.far)?);
            other.wait_for(self.far, &mut held)?;
        }
        let links = if self.far > 0 { self.shards } else { 0 };
        relay.wait_for(self.sessions + links, &mut held)?;
        let after_sessions = slab()?;
        let [streaming, _] = self.streaming;
        if streaming > 0 {
            let streams = Streams::of(relay, self.streaming);
            held.push(programs.hold(&[&streams.words()[..], &["--duration", "600s"]].concat())?);
            relay.wait_for(self.sessions + links + streaming, &mut held)?;
        }
        if self.closed > 0 {
            self.close(programs, relay)?;
        }
        // Traffic and what stands take their memory at the same time, as the plan adds them up.
        held.push(programs.hold(&bulk(relay))?);
        relay.wait_for(self.sessions + links + streaming + BULK_SESSIONS, &mut held)?;
        let memory = relay.settled()?;
        let mut compared = vec![Compared {
            what: "memory of the process, bytes",
            predicted: load::total(&load::terms(&self.load(), costs), Sum::ProcessMemory),
            measured: memory,
        }];
        // Both ends of each connection are on this host, and each relay's sessions are.
        compared.push(Compared {
            what: "kernel memory of sessions, bytes",
            predicted: f64::from(self.sessions + self.far) * costs.memory.socket.median,
            measured: (after_sessions - before) / 2.0,
        });
        compared.extend(self.ports(&relays)?);
        drop(held);
        Ok(compared)
    }

    fn load(&self) -> Load {
        let [streaming, ends] = self.streaming;
        Load {
            sessions: f64::from(self.sessions + streaming + BULK_SESSIONS),
            streams: f64::from(streaming * ends / 2),
            payload: 0.0,
            message: 64.0,
            together: 1.0,
            connects: 0.0,
            opens: 0.0,
            forwarded: 0.0,
            links: if self.far > 0 { 1.0 } else { 0.0 },
            announced: f64::from(self.far),
            registry: 0.0,
            slow: 0.0,
            round_trip: 0.0,
            // Generator and relay share the cores, so that about one is the relay's.
            busy: 1.0,
            shards: f64::from(self.shards),
            sessions_max: 0.0,
        }
    }

    fn hold(
        &self,
        programs: &Programs,
        relay: &Relay,
        sessions: u32,
    ) -> io::Result<super::programs::Held> {
        let sources: Vec<String> = (0..self.sources)
            .map(|at| format!("127.0.0.{}", at + 2))
            .collect();
        programs.hold(&[
            "idle",
            "--relay",
            &relay.name,
            "--sessions",
            &sessions.to_string(),
            "--src",
            &sources.join(","),
            "--threads",
            &sessions.div_ceil(THREAD_SESSIONS).to_string(),
            "--duration",
            "600s",
        ])
    }

    /// Opens connections that this side closes.
    fn close(&self, programs: &Programs, relay: &Relay) -> io::Result<()> {
        programs
            .generate(&[
                "connects",
                "--tcp",
                &relay.address.to_string(),
                "--end",
                "fin",
                "--rate",
                &self.closed.to_string(),
                "--src",
                CLOSING,
                "--warmup",
                "0s",
                "--duration",
                "5s",
            ])
            .map(drop)
    }

    /// Compares the ports of the peers and those that the relays took themselves.
    fn ports(&self, relays: &[Relay]) -> io::Result<Vec<Compared>> {
        let mut by_source: BTreeMap<IpAddr, f64> = BTreeMap::new();
        let (mut links, mut resting) = (0.0, 0.0);
        let closing: Option<IpAddr> = CLOSING.parse().ok();
        TcpSocket::for_each(|socket| {
            let is_here = relays.iter().any(|relay| relay.address == socket.remote);
            match (is_here, socket.state) {
                (true, "TIME_WAIT") if Some(socket.local.ip()) == closing => resting += 1.0,
                // Links have the address of the relay itself.
                (true, "ESTABLISHED")
                    if relays
                        .iter()
                        .any(|relay| relay.address.ip() == socket.local.ip()) =>
                {
                    links += 1.0;
                }
                (true, "ESTABLISHED") => *by_source.entry(socket.local.ip()).or_default() += 1.0,
                _ => {}
            }
        })?;
        let fullest = by_source.values().copied().fold(0.0, f64::max);
        let mut compared = vec![Compared {
            what: "ports of a source address",
            predicted: f64::from(self.sessions + self.far) / f64::from(self.sources),
            measured: fullest,
        }];
        if self.far > 0 {
            compared.push(Compared {
                what: "ports of links",
                predicted: f64::from(self.shards),
                measured: links,
            });
        }
        if self.closed > 0 {
            compared.push(Compared {
                what: "ports that rest after that",
                predicted: 0.0,
                measured: resting,
            });
        }
        Ok(compared)
    }
}

/// The address that connections come from which their side closes.
const CLOSING: &str = "127.0.0.99";

/// Sessions of a generator's thread, whose ring has a table of its own.
const THREAD_SESSIONS: u32 = 15_000;
