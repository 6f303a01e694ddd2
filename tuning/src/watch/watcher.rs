//! A watch in progress.
//!
//! Here: one interval after the other, and how often the list of sockets is read. Not here: waiting (whoever
//! calls), verdicts (the module above).
//!
//! Bound: reading the list of sockets uses at most a tenth of the time; it takes some 6 us a socket (18,000
//! of them 116 ms, AMD EPYC, Linux 6.18).

use std::time::{Duration, Instant};

use serde::Serialize;

use super::table::difference;
use super::{Ports, Sign, Snapshot, Weight, rate, signs};

/// Compares the kernel's counters again and again.
#[derive(Debug)]
pub struct Watcher {
    before: Snapshot,
    taken_at: Instant,
    ports_due_at: Instant,
}

/// What one interval showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    /// How long it was, seconds.
    pub seconds: f64,
    /// What went on.
    pub flow: Flow,
    /// What is worth saying, the worst first.
    pub signs: Vec<Sign>,
}

/// How busy the own network namespace was; none is a counter that could not be compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// Connections that others opened, a second.
    pub accepted_per_second: Option<f64>,
    /// Connections that this host opened or tried to, a second.
    pub opened_per_second: Option<f64>,
    /// Segments in and out, a second.
    pub segments_per_second: Option<f64>,
    /// Connections that stand.
    pub connections: Option<u64>,
}

impl Watcher {
    /// Begins a watch with what the kernel has counted so far.
    #[must_use]
    pub fn begin() -> Self {
        let now = Instant::now();
        Self {
            before: Snapshot::read(),
            taken_at: now,
            ports_due_at: now,
        }
    }

    /// Returns the snapshot that the next interval is compared with.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.before
    }

    /// Ends an interval and begins the next.
    pub fn take(&mut self) -> Interval {
        let mut after = Snapshot::read();
        let now = Instant::now();
        let mut failed = None;
        if now >= self.ports_due_at {
            match Ports::read() {
                Ok(ports) => after.ports = Some(ports),
                Err(error) => failed = Some(unreadable(&error)),
            }
            let took = now.elapsed();
            self.ports_due_at = now + took * PORTS_PAUSE;
        }
        let elapsed = now - self.taken_at;
        let mut signs = signs(&self.before, &after, elapsed);
        signs.extend(failed);
        let flow = flow(&self.before, &after, elapsed);
        self.before = after;
        self.taken_at = now;
        Interval {
            seconds: elapsed.as_secs_f64(),
            flow,
            signs,
        }
    }
}

fn flow(before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Flow {
    let count = |name| difference(name, before, after);
    let per_second = |name| Some(rate(count(name)?, elapsed));
    let segments = count("InSegs")
        .zip(count("OutSegs"))
        .map(|(received, sent)| received.saturating_add(sent));
    Flow {
        accepted_per_second: per_second("PassiveOpens"),
        opened_per_second: per_second("ActiveOpens"),
        segments_per_second: segments.map(|count| rate(count, elapsed)),
        connections: after.sockets,
    }
}

fn unreadable(error: &std::io::Error) -> Sign {
    Sign {
        name: "ports",
        weight: Weight::Unknown,
        delta: None,
        per_second: None,
        level: None,
        says: format!("the list of sockets could not be read, so ports are not counted: {error}"),
        fix: String::new(),
    }
}

/// How many times as long as reading the list took it is not read again.
const PORTS_PAUSE: u32 = 10;
