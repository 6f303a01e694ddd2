//! A bounded self test of the host, over its loopback.
//!
//! Here: what is measured, in which order, and what is checked afterwards. Not here: each measurement (its
//! file), the result (`report`), the comparison of two (`compare`), the settings beside it (`settings`).
//!
//! The measurements take turns in `ROUNDS` rounds, so that whatever else the host does meanwhile meets all of
//! them; how far the rounds of one run are apart tells how large a difference between two runs must be to
//! mean something.
//!
//! Bound: the duration, at most `CONNECTS_MAX` connections and a quarter of the ports to one destination, at
//! most the files that the limit leaves. Every connection is closed with a reset, so that none waits in
//! `TIME_WAIT`.
//! Invariant: only addresses of 127.0.0.0/8; nothing of the host is changed but the soft limit of this
//! process.

mod compare;
mod echo;
mod loopback;
mod ports;
mod remarks;
mod report;
mod settings;
mod storm;
mod wake;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::machine::Machine;
use crate::tcp::TcpSocket;
use crate::watch::{Ports, Snapshot, difference, float};
use report::Series;

pub use compare::{Change, Comparison, Outcome, compare};
pub use report::{Better, Metric, PortsTaken, Remark, Report, Storm};

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How long, all together.
    pub duration: Duration,
    /// Connections that a listener is to hold before they are accepted.
    pub backlog: u32,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The limit of open files leaves too few.
    #[error(
        "the limit of open files leaves {have}, the self test needs {needed}: raise it with `ulimit -n {limit}`, or \
         LimitNOFILE={limit} in the unit"
    )]
    LocalFiles {
        /// Files that are left.
        have: u64,
        /// Files that are needed.
        needed: u64,
        /// A limit that is enough.
        limit: u64,
    },
    /// The kernel refused a step.
    #[error("{step} over 127.0.0.1: {error}")]
    LocalStep {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A file with an earlier result is none.
    #[error("{0}")]
    LocalReport(String),
}

/// Measures the host.
///
/// # Errors
///
/// When there are too few files for it, or when the loopback does not carry a connection.
pub fn prove(trial: &Trial) -> Result<Report, ProveError> {
    let room = room(trial)?;
    let before = (Snapshot::read(), Machine::read_files().group.throttled);
    let started = Instant::now();
    let mut run = Run::default();
    for _ in 0..ROUNDS {
        run.round(trial.duration / ROUNDS, &room)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = (Snapshot::read(), Machine::read_files().group.throttled);
    let mut counters: BTreeMap<String, Option<u64>> = COUNTERS
        .iter()
        .map(|name| ((*name).to_owned(), difference(name, &before.0, &after.0)))
        .collect();
    let throttled = after.1.zip(before.1);
    let throttled = throttled.and_then(|(after, before)| after.checked_sub(before));
    counters.insert(THROTTLED.to_owned(), throttled);
    let mut report = Report {
        schema: report::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms: unix_ms(),
        seconds,
        settings: settings::read(),
        metrics: run.series.metrics(),
        storm: Storm {
            asked: trial.backlog.into(),
            limited_by: room.limited_by.to_owned(),
            is_cut_by_time: run.storm.unanswered == 0 && run.storm.tried < room.burst,
            ..run.storm
        },
        ports: PortsTaken {
            usable: room.usable,
            ..run.ports
        },
        counters,
        left_behind: left_behind(&run.listeners),
        remarks: Vec::new(),
    };
    report.remarks = remarks::remarks(&report);
    Ok(report)
}

/// How much of the host the self test may use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    /// Connections of one storm.
    burst: u64,
    /// What kept the storm below what was asked; empty when nothing did.
    limited_by: &'static str,
    /// Connections to one destination that are held at once.
    ports: u64,
    /// Ports of the range, if it could be read.
    usable: Option<u64>,
}

fn room(trial: &Trial) -> Result<Room, ProveError> {
    let files = files_left();
    let needed = FILES_MIN;
    if files < needed {
        return Err(ProveError::LocalFiles {
            have: files,
            needed,
            limit: FILES_LIMIT,
        });
    }
    Ok(share(
        trial.backlog.into(),
        files - FILES_SPARE,
        Ports::of_host().usable(),
    ))
}

/// Shares files and ports out; `files` are those left for connections.
fn share(asked: u64, files: u64, usable: Option<u64>) -> Room {
    let of_range = usable.map_or(u64::MAX, |usable| (usable / PORTS_SHARE).max(1));
    let limits = [
        (CONNECTS_MAX, "the most the self test opens"),
        (files, "the limit of open files"),
        (of_range, "a quarter of net.ipv4.ip_local_port_range"),
    ];
    let (burst, limited_by) = limits
        .into_iter()
        .filter(|(most, _)| *most < asked)
        .min_by_key(|(most, _)| *most)
        .unwrap_or((asked, ""));
    Room {
        burst,
        limited_by,
        // Both ends are held.
        ports: PORTS_HELD.min(of_range).min(files / 2),
        usable,
    }
}

/// Raises the soft limit of open files to the hard one and returns what is left of it.
fn files_left() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let limit = current.unwrap_or(u64::MAX);
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    limit.saturating_sub(u64::try_from(open).unwrap_or(u64::MAX))
}

/// What the rounds have brought so far.
#[derive(Debug, Default)]
struct Run {
    series: Series,
    storm: Storm,
    ports: PortsTaken,
    /// Addresses of the listeners there were, which nothing may be connected with in the end.
    listeners: Vec<SocketAddr>,
}

impl Run {
    fn round(&mut self, time: Duration, room: &Room) -> Result<(), ProveError> {
        let part = |tenths: u32| time * tenths / 10;
        let storm = storm::run(part(3), room.burst).map_err(step("storm of connections"))?;
        self.take_storm(&storm);
        let echo = echo::run(part(2)).map_err(step("round trips"))?;
        self.listeners.push(echo.address);
        let micros = |quantile| micros(&echo.times, quantile);
        self.series.push("ping_p50", micros(0.5));
        self.series.push("ping_p99", micros(0.99));
        self.series.push("ping_p999", micros(0.999));
        let bulk = echo::run_bulk(part(2)).map_err(step("bulk transfer"))?;
        self.listeners.push(bulk.address);
        self.series.push("bulk", Some(bulk.bytes_per_second / 1e6));
        self.series.push("bulk_cpu", bulk.cpu_seconds_per_gigabyte);
        let ports = ports::run(part(1), room.ports).map_err(step("ports"))?;
        self.take_ports(&ports);
        let late = wake::run(part(2)).map_err(step("wake-ups"))?;
        self.series.push("wake_p50", self::micros(&late, 0.5));
        self.series.push("wake_p99", self::micros(&late, 0.99));
        Ok(())
    }

    fn take_storm(&mut self, storm: &storm::Outcome) {
        self.listeners.push(storm.address);
        self.series.push("connects", storm.per_second);
        self.series.push("connect_p50", micros(&storm.times, 0.5));
        self.series.push("connect_p99", micros(&storm.times, 0.99));
        self.storm.tried = self.storm.tried.max(storm.tried);
        self.storm.held = self.storm.held.max(storm.held);
        self.storm.unanswered += storm.unanswered;
    }

    fn take_ports(&mut self, ports: &ports::Outcome) {
        self.listeners.push(ports.address);
        self.series.push("port", ports.micros_each);
        self.ports.taken = self.ports.taken.max(ports.taken);
        self.ports.is_exhausted |= ports.is_exhausted;
    }
}

/// Returns how many sockets of the host still name one of the listeners; none when the list cannot be read.
fn left_behind(listeners: &[SocketAddr]) -> Option<u64> {
    let count = || {
        let mut count = 0;
        let is_ours = |end: &SocketAddr| listeners.contains(end);
        TcpSocket::for_each(|socket| {
            count += u64::from(is_ours(&socket.local) || is_ours(&socket.remote));
        })
        .ok()?;
        Some(count)
    };
    // Another core may still be at work on the last reset.
    if count()? > 0 {
        thread::sleep(SETTLE);
    }
    count()
}

fn step(step: &'static str) -> impl Fn(io::Error) -> ProveError {
    move |error| ProveError::LocalStep { step, error }
}

/// Returns a quantile of nanoseconds in microseconds; none without a value.
fn micros(times: &Histogram<u32>, quantile: f64) -> Option<f64> {
    (!times.is_empty()).then(|| float(times.value_at_quantile(quantile)) / 1e3)
}

/// Returns an empty histogram of nanoseconds.
fn histogram() -> io::Result<Histogram<u32>> {
    Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3).map_err(io::Error::other)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Rounds of a run.
///
/// That all five of one run lie above all five of another happens once in 126 times by chance (2 in 10 over
/// 5), if nothing differs.
const ROUNDS: u32 = 5;

/// Longest time that is told apart, nanoseconds: a minute.
const NANOSECONDS_MAX: u64 = 60_000_000_000;

/// Most connections of one storm: twice the usual backlog, 3 KiB of kernel memory each on both ends.
const CONNECTS_MAX: u64 = 8_192;

/// Connections to one destination that are held at once: enough to time the search for a port.
const PORTS_HELD: u64 = 1_000;

/// Which part of the ports to one destination is taken at most, so that a live host does not miss them.
const PORTS_SHARE: u64 = 4;

/// Files for anything but connections: listeners, lists of the kernel.
const FILES_SPARE: u64 = 32;

/// Fewest files for a self test that says something: 32 to spare and 96 for connections.
const FILES_MIN: u64 = 128;

/// A limit of open files that is enough for the usual backlog.
const FILES_LIMIT: u64 = 8_192;

/// How long the last resets may take.
const SETTLE: Duration = Duration::from_millis(100);

/// Counters of the kernel whose differences stand in the result.
const COUNTERS: &[&str] = &[
    "ListenOverflows",
    "ListenDrops",
    "TCPSynRetrans",
    "RetransSegs",
    "TCPTimeWaitOverflow",
    "TCPAbortOnMemory",
    "softnet_dropped",
];

/// Times the control group was stopped for using its share of processors up.
const THROTTLED: &str = "nr_throttled";

#[cfg(test)]
mod tests;
