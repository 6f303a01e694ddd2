//! Plans that cannot work, refused with the sum that shows it.
//!
//! Here: descriptors, ports, memory, sizes. Not here: what the relay allows; it says so by itself.
//!
//! Sums of a run with S sessions on T threads from A source addresses:
//!
//! - descriptors: each ring's table holds ceil(S/T) sockets and the connections being made;
//! - 4-tuples: each of the source addresses has one port for each connection to the relay;
//! - memory: S * (session + kernel's socket) + streams * stream, against what is available.
//!
//! Source: docs/internals/uring.md F (9 KiB for both ends of an idle connection in the kernel, slot
//! limit a ring).

use std::fmt;
use std::fs;

use ringway_proto::limits::{RECORD_PAYLOAD_MAX, STREAMS_MAX, WINDOW_INITIAL, WINDOW_MAX};

use super::{
    DMSG_MESSAGE_MAX, End, Mode, Payload, Placement, Plan, PortChoice, RateLine, STANDING,
    Scenario, Shape, Target,
};
use crate::payload::HEAD_LEN;
use crate::process;
use crate::schedule::BACKLOG_MAX;
use crate::sources::PortRange;

/// What the host allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Open files of this process, which is also the most slots of one ring.
    pub files_max: u64,
    /// The ephemeral range.
    pub ports: PortRange,
    /// Memory that can be taken without swapping; `None` when the host does not say.
    pub memory_bytes: Option<u64>,
}

impl Host {
    /// Looks at this host.
    #[must_use]
    pub fn look() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        Self {
            files_max: files.unwrap_or(u64::MAX),
            ports: range
                .ok()
                .and_then(|text| range_of(&text))
                .unwrap_or(PORTS_DEFAULT),
            memory_bytes: process::available_bytes(),
        }
    }
}

/// Why a plan is refused. Every problem is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    /// One sentence each, with the sum and the way out.
    pub problems: Vec<String>,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problems.join("\n"))
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Checks the plan against `host`.
    ///
    /// # Errors
    /// [`PlanError`] with all problems; nothing was connected.
    pub fn check(&self, host: &Host) -> Result<(), PlanError> {
        let problems: Vec<String> = [
            self.check_dialect(),
            self.check_counts(),
            self.check_processes(),
            self.check_message(),
            self.check_window(),
            self.check_pace(),
            self.check_churn(),
            self.check_slow(),
            self.check_setups(),
            self.check_target(),
            self.check_files(host),
            self.check_sources(host),
            self.check_ports(host),
            self.check_memory(host),
        ]
        .into_iter()
        .flatten()
        .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(PlanError { problems })
        }
    }

    /// Returns the sockets that one thread may have open.
    #[must_use]
    pub fn sockets_per_thread(&self) -> u32 {
        let threads = self.placement.threads.max(1);
        let base = match self.scenario {
            Scenario::Plain => match self.target {
                // The kernel deals the proxy's connections out as it likes.
                Target::Proxy { .. } => self
                    .sessions
                    .saturating_add(self.sessions.div_ceil(threads)),
                Target::Relay(_) | Target::Tcp(_) => self.sessions.div_ceil(threads),
            },
            // One closes while the next connects.
            Scenario::Churn => self.concurrency.saturating_mul(2).saturating_add(STANDING),
            Scenario::Handshakes => self.concurrency.saturating_mul(2),
            Scenario::Evict | Scenario::Storm => self.sessions.div_ceil(threads).saturating_mul(2),
            Scenario::Slowloris => self.sessions.div_ceil(threads),
            // A pair stays together.
            Scenario::Idle
            | Scenario::Opens
            | Scenario::Setups
            | Scenario::SlowReader
            | Scenario::Steady => {
                let fast = (self.sessions / 2).div_ceil(threads);
                let slow = self.slow.pairs.div_ceil(threads);
                fast.saturating_add(slow).saturating_mul(2)
            }
        };
        base.saturating_add(SLOTS_SPARE)
    }

    fn check_counts(&self) -> Option<String> {
        let threads = self.placement.threads;
        if threads == 0 || self.sessions == 0 || self.concurrency == 0 {
            return Some("--threads, --sessions and --concurrency are at least 1".into());
        }
        let pairs = self.pairs();
        match self.scenario {
            Scenario::Opens | Scenario::Setups | Scenario::SlowReader | Scenario::Steady
                if !self.sessions.is_multiple_of(2) =>
            {
                Some(format!(
                    "--sessions {} is odd: half of the sessions dial the other half",
                    self.sessions
                ))
            }
            Scenario::Opens
            | Scenario::Plain
            | Scenario::Setups
            | Scenario::SlowReader
            | Scenario::Steady
                if pairs < threads =>
            {
                Some(format!(
                    "{pairs} pairs on {threads} threads leave a thread without work: lower --threads"
                ))
            }
            Scenario::Steady if self.streams == 0 || self.streams > STREAMS_MAX => Some(format!(
                "--streams {} a dialing session: the protocol allows 1 to {STREAMS_MAX}; add sessions",
                self.streams
            )),
            Scenario::Opens
                if self
                    .concurrency
                    .div_ceil(self.share(pairs, threads - 1).max(1))
                    > STREAMS_MAX =>
            {
                Some(format!(
                    "--concurrency {} needs more sessions",
                    self.concurrency
                ))
            }
            _ => None,
        }
    }

    fn check_processes(&self) -> Option<String> {
        let Placement {
            threads, processes, ..
        } = self.placement;
        if processes == 0 || processes > PROCESSES_MAX || !threads.is_multiple_of(processes) {
            return Some(format!(
                "{threads} threads in {processes} processes: 1 to {PROCESSES_MAX} of them, each with as \
                 many threads as the others"
            ));
        }
        let is_proxy = matches!(self.target, Target::Proxy { .. });
        (is_proxy && processes > 1).then(|| {
            format!(
                "--processes {processes} with --proxy: what one process sends would come out at another; \
                 use --threads"
            )
        })
    }

    fn check_message(&self) -> Option<String> {
        if !self.scenario.has_traffic() {
            return None;
        }
        let have = u64::from(self.traffic.message_bytes);
        let in_flight = self.traffic.in_flight;
        if in_flight == 0 || in_flight > IN_FLIGHT_MAX {
            return Some(format!("--in-flight {in_flight}: 1 to {IN_FLIGHT_MAX}"));
        }
        // Both sides send before they receive: more than buffers take would stand still for ever.
        let waiting = u64::from(in_flight) * have;
        if self.traffic.mode == Mode::PingPong && in_flight > 1 && waiting > IN_FLIGHT_BYTES_MAX {
            return Some(format!(
                "--in-flight {in_flight} x --message-size {have} = {waiting} bytes on their way on one stream: \
                 at most {IN_FLIGHT_BYTES_MAX}"
            ));
        }
        let min = u64::try_from(HEAD_LEN).unwrap_or(u64::MAX);
        let max = match self.traffic.payload {
            Payload::Opaque => MESSAGE_OPAQUE_MAX,
            Payload::Sealed if self.is_dmsg() => u64::from(DMSG_MESSAGE_MAX),
            Payload::Sealed => u64::try_from(RECORD_PAYLOAD_MAX).unwrap_or(u64::MAX),
        };
        if have < min {
            return Some(format!(
                "--message-size {have}: at least {min} bytes (sequence, due time, sending time)"
            ));
        }
        (have > max).then(|| {
            format!("--message-size {have}: at most {max} bytes, so that one frame holds a message")
        })
    }

    fn check_window(&self) -> Option<String> {
        let have = self.traffic.window_bytes;
        let is_fine = (WINDOW_INITIAL..=WINDOW_MAX).contains(&have);
        (!is_fine).then(|| {
            format!(
                "--window {have}: {WINDOW_INITIAL} to {WINDOW_MAX} bytes (the protocol's bounds)"
            )
        })
    }

    fn check_pace(&self) -> Option<String> {
        let shape = &self.pace.as_ref()?.shape;
        let needs_end = matches!(shape, Shape::Ramp { .. } | Shape::Step { .. });
        if shape.rate_max() == 0 {
            Some(format!("--rate {shape}: nothing would ever begin"))
        } else if needs_end && self.scenario == Scenario::Churn && self.churn.cycles.is_some() {
            Some(format!(
                "--rate {shape} goes from the start of a round to its end, which --cycles leaves open: use \
                 --duration"
            ))
        } else {
            self.rate_line().err()
        }
    }

    /// Returns how the rate goes over time; `None` when everything begins as fast as it can.
    ///
    /// # Errors
    /// A sentence when it cannot be followed.
    pub fn rate_line(&self) -> Result<Option<RateLine>, String> {
        let Some(pace) = &self.pace else {
            return Ok(None);
        };
        // Each round of a churn begins anew.
        let rounds = if self.scenario == Scenario::Churn {
            self.churn.rounds.max(1)
        } else {
            1
        };
        let line = pace.shape.line(self.warmup, self.duration / rounds);
        line.map(Some)
            .map_err(|why| format!("--rate {}: {why}", pace.shape))
    }

    fn check_churn(&self) -> Option<String> {
        if self.scenario != Scenario::Churn {
            return None;
        }
        let churn = &self.churn;
        let streams = self.concurrency.div_ceil(STANDING);
        if churn.rounds == 0 || churn.phases.is_empty() {
            Some("--rounds is at least 1, and --phases names at least one phase".into())
        } else if churn
            .cycles
            .is_some_and(|cycles| cycles < u64::from(churn.rounds))
        {
            Some(format!(
                "{} rounds of less than one cycle: raise --cycles or lower --rounds",
                churn.rounds
            ))
        } else if streams > STREAMS_MAX {
            Some(format!(
                "--concurrency {}: {streams} streams on each of the {STANDING} standing sessions of a \
                 thread, but the protocol allows {STREAMS_MAX}: lower it or add --threads",
                self.concurrency
            ))
        } else {
            None
        }
    }

    fn check_slow(&self) -> Option<String> {
        if self.scenario != Scenario::SlowReader {
            return None;
        }
        let slow = &self.slow;
        if slow.pairs == 0 || slow.windows < 2 {
            return Some(
                "--slow is at least 1, and --windows at least 2: one without, one with".into(),
            );
        }
        (slow.streams == 0 || slow.streams > STREAMS_MAX).then(|| {
            format!(
                "--slow-streams {}: the protocol allows 1 to {STREAMS_MAX}",
                slow.streams
            )
        })
    }

    /// The kernel's list of sockets is searched for the address that is connected to.
    fn check_target(&self) -> Option<String> {
        if matches!(self.target, Target::Tcp(_))
            && self.scenario == Scenario::Plain
            && self.traffic.mode == Mode::Bulk
        {
            return Some(
                "--mode bulk with --tcp: nobody counts what arrives; use ping-pong, and a server that sends \
                 everything back ('ringway-loadgen null-server')"
                    .into(),
            );
        }
        let is_connects = self.scenario == Scenario::Handshakes && self.target.is_plain();
        if self.churn.end == End::Peer && !is_connects {
            return Some(
                "--end peer: only 'connects' can wait for the other side to close first; a relay closes no \
                 healthy session"
                    .into(),
            );
        }
        let looks = matches!(self.scenario, Scenario::Churn | Scenario::Slowloris);
        let ip = self.target.socket().ip();
        (looks && ip.is_unspecified()).then(|| {
            format!(
                "--relay with {ip}: name the address itself, so that its sockets can be counted"
            )
        })
    }

    fn check_files(&self, host: &Host) -> Option<String> {
        let want = u64::from(self.sockets_per_thread()) + FILES_SPARE;
        (want > host.files_max).then(|| {
            format!(
                "{} sessions on {} thread(s): {} sockets a thread + {FILES_SPARE} other files = {want}, \
                 but the limit is {} open files: raise it ('ulimit -n {want}') or add --threads",
                self.sessions,
                self.placement.threads,
                self.sockets_per_thread(),
                host.files_max,
            )
        })
    }

    fn check_ports(&self, host: &Host) -> Option<String> {
        let connections = match self.scenario {
            Scenario::Churn | Scenario::Evict | Scenario::Handshakes => {
                u64::from(self.sockets_per_thread()) * u64::from(self.placement.threads)
            }
            _ => u64::from(self.sessions) + 2 * u64::from(self.slow.pairs),
        };
        let sources = self.placement.sources.count().max(1);
        let ports = self.placement.ports.unwrap_or(host.ports);
        let have = sources.saturating_mul(ports.count());
        (connections > have).then(|| {
            format!(
                "{connections} connections to one address: {sources} source address(es) x {} ports \
                 ({ports}) = {have}: name {} addresses with --src (127.0.0.2,127.0.0.3 or 127.0.0.0/24), or \
                 more ports with --ports and --port-choice own",
                ports.count(),
                connections.div_ceil(ports.count()),
            )
        })
    }

    fn check_sources(&self, host: &Host) -> Option<String> {
        let Placement {
            threads,
            sources,
            ports,
            port_choice,
            ..
        } = &self.placement;
        let target = self.target.socket().ip();
        if let Some(source) = sources.other_family(target) {
            return Some(format!(
                "--src {source} cannot reach {target}: name addresses of its family"
            ));
        }
        let Some(ports) = ports else {
            return (*port_choice == PortChoice::Own).then(|| {
                "--port-choice own: which ports? Name them with --ports, as 10000-65535".into()
            });
        };
        if *port_choice == PortChoice::Own && sources.is_empty() {
            return Some(
                "--port-choice own: from which address? Name it with --src, as 127.0.0.1".into(),
            );
        }
        let Host { ports: range, .. } = host;
        let is_inside = range.first <= ports.first && ports.last <= range.last;
        if *port_choice == PortChoice::Kernel && !is_inside {
            return Some(format!(
                "--ports {ports}: the kernel chooses only within net.ipv4.ip_local_port_range, {range}: \
                 name ports inside it, or take --port-choice own"
            ));
        }
        (ports.count() < u64::from(*threads)).then(|| {
            format!(
                "--ports {ports} are {} ports for {threads} threads: one each at least",
                ports.count()
            )
        })
    }

    fn check_memory(&self, host: &Host) -> Option<String> {
        let have = host.memory_bytes?;
        let sessions = u64::from(self.sessions) * (SESSION_BYTES + SOCKET_BYTES);
        let streams = u64::from(self.streams_total()) * STREAM_BYTES;
        let backlog = if self.pace.is_some() {
            BACKLOG_BYTES
        } else {
            0
        };
        let thread = THREAD_BYTES + backlog;
        // This process is one of them, or conducts them.
        let processes = u64::from(self.placement.processes) * PROCESS_BYTES;
        let want = sessions + streams + u64::from(self.placement.threads) * thread + processes;
        (want > have).then(|| {
            format!(
                "{} sessions x {} B + {} streams x {STREAM_BYTES} B + {} thread(s) x {} MiB \
                 + {} process(es) x {} MiB = {} MiB, but {} MiB are available: lower --sessions or --streams",
                self.sessions,
                SESSION_BYTES + SOCKET_BYTES,
                self.streams_total(),
                self.placement.threads,
                thread / MIB,
                self.placement.processes,
                PROCESS_BYTES / MIB,
                want / MIB,
                have / MIB,
            )
        })
    }
}

fn range_of(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_ascii_whitespace();
    format!("{}-{}", numbers.next()?, numbers.next()?)
        .parse()
        .ok()
}

/// Largest opaque message: a frame, and a quarter of the window both sides start with.
const MESSAGE_OPAQUE_MAX: u64 = 65_536;
/// Messages of a stream on their way at most.
const IN_FLIGHT_MAX: u32 = 1 << 16;
/// Bytes of a stream on their way at most: what a null server keeps for one connection.
const IN_FLIGHT_BYTES_MAX: u64 = 2 << 20;
/// Slots beyond the sessions: connections that are being closed.
const SLOTS_SPARE: u32 = 64;
/// Descriptors beyond the sockets of a ring: standard streams, rings, eventfds, sockets being made.
const FILES_SPARE: u64 = 64;
/// A session of the generator with its tables and buffers.
const SESSION_BYTES: u64 = 2_048;
/// Both ends of an idle loopback connection in the kernel (docs/internals/uring.md F).
const SOCKET_BYTES: u64 = 9_216;
/// A stream of the generator.
const STREAM_BYTES: u64 = 512;
/// Most events a second over all threads: a thread looks at the clock for each of them.
pub(super) const RATE_MAX: u64 = 100_000_000;
/// A thread: receive memory, histograms, buffers.
const THREAD_BYTES: u64 = 8 * MIB;
/// A process beside its sessions: 8.6 MiB were resident with one thread and 4 connections.
const PROCESS_BYTES: u64 = 16 * MIB;
/// Most processes of a run: some on each core of a large machine.
pub const PROCESSES_MAX: u32 = 1_024;
/// The range that Linux starts with.
const PORTS_DEFAULT: PortRange = PortRange {
    first: 32_768,
    last: 60_999,
};
/// Events of a thread that are due and wait, at most.
const BACKLOG_BYTES: u64 = BACKLOG_MAX as u64 * 8;
const MIB: u64 = 1_048_576;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::*;
    use super::*;
    use crate::sources::Sources;

    const HOST: Host = Host {
        files_max: 20_000,
        ports: PORTS_DEFAULT,
        memory_bytes: Some(1_073_741_824),
    };

    fn plan() -> Plan {
        let target = Target::Proxy {
            connect: "127.0.0.1:1".parse().unwrap(),
            listen: "127.0.0.1:2".parse().unwrap(),
        };
        Plan {
            sessions: 16,
            streams: 4,
            duration: Duration::from_secs(1),
            ..Plan::new(Scenario::Steady, target)
        }
    }

    fn sources(text: &str) -> Sources {
        Sources::new(vec![text.parse().unwrap()])
    }

    fn problem(plan: &Plan) -> String {
        plan.check(&HOST).unwrap_err().to_string()
    }

    #[test]
    fn a_small_plan_is_fine() {
        assert_eq!(plan().check(&HOST), Ok(()));
    }

    #[test]
    fn too_many_descriptors_are_refused_with_the_sum() {
        let mut plan = plan();
        plan.sessions = 20_000;
        let text = problem(&plan);
        assert!(text.contains("20064 sockets a thread + 64 other files = 20128"));
        plan.placement.threads = 2;
        assert_eq!(plan.check(&HOST), Ok(()));
    }

    #[test]
    fn too_many_ports_are_refused_with_the_addresses_needed() {
        let mut plan = plan();
        plan.sessions = 60_000;
        plan.placement.threads = 4;
        plan.streams = 1;
        assert!(problem(&plan).contains("name 3 addresses with --src"));
        plan.placement.sources = sources("127.0.0.0/29");
        assert_eq!(plan.check(&HOST), Ok(()));
    }

    #[test]
    fn ports_that_cannot_be_had_are_refused() {
        let mut plan = plan();
        plan.placement.port_choice = PortChoice::Own;
        assert!(problem(&plan).contains("which ports?"));
        plan.placement.ports = "10000-65535".parse().ok();
        assert!(problem(&plan).contains("from which address?"));
        plan.placement.sources = sources("127.0.0.1");
        assert_eq!(plan.check(&HOST), Ok(()));
        plan.placement.port_choice = PortChoice::Kernel;
        assert!(problem(&plan).contains("within net.ipv4.ip_local_port_range, 32768-60999"));
        plan.placement.ports = "40000-40003".parse().ok();
        assert!(problem(&plan).contains("1 source address(es) x 4 ports (40000-40003) = 4"));
        plan.placement.sources = sources("127.0.0.0/29");
        assert_eq!(plan.check(&HOST), Ok(()));
        plan.placement.threads = 5;
        assert!(problem(&plan).contains("4 ports for 5 threads"));
        plan.placement.sources = sources("fd00::/64");
        assert!(problem(&plan).contains("cannot reach 127.0.0.1"));
    }

    #[test]
    fn too_much_memory_is_refused_with_the_sum() {
        let mut plan = plan();
        plan.sessions = 2_000;
        plan.streams = 2_048;
        let text = problem(&plan);
        assert!(text.contains("2048000 streams x 512 B"), "{text}");
    }

    #[test]
    fn every_problem_is_listed() {
        let mut plan = plan();
        plan.sessions = 3;
        plan.traffic.message_bytes = 8;
        plan.traffic.window_bytes = 1;
        let problems = plan.check(&HOST).unwrap_err().problems;
        assert_eq!(problems.len(), 3);
    }

    #[test]
    fn churns_that_cannot_be_counted_are_refused() {
        let mut plan = plan();
        plan.scenario = Scenario::Churn;
        assert_eq!(plan.check(&HOST), Ok(()));
        plan.churn.cycles = Some(2);
        plan.churn.rounds = 3;
        assert!(problem(&plan).contains("lower --rounds"));
        plan.churn.rounds = 0;
        assert!(problem(&plan).contains("--rounds is at least 1"));
        plan.churn = Churn::default();
        plan.concurrency = 4 * STREAMS_MAX + 1;
        assert!(problem(&plan).contains("2049 streams on each"));
        plan.concurrency = 1;
        plan.target = Target::Proxy {
            connect: "0.0.0.0:1".parse().unwrap(),
            listen: "127.0.0.1:2".parse().unwrap(),
        };
        assert!(problem(&plan).contains("name the address itself"));
    }

    #[test]
    fn slow_readers_need_windows_to_compare() {
        let mut plan = plan();
        plan.scenario = Scenario::SlowReader;
        assert!(problem(&plan).contains("--slow is at least 1"));
        plan.slow.pairs = 1;
        assert_eq!(plan.check(&HOST), Ok(()));
        plan.slow.windows = 1;
        assert!(problem(&plan).contains("--windows at least 2"));
        plan.slow.windows = 2;
        plan.slow.streams = 0;
        assert!(problem(&plan).contains("--slow-streams 0"));
    }

    #[test]
    fn ten_thousand_loiterers_fit_one_process_and_one_address() {
        let mut plan = plan();
        plan.scenario = Scenario::Slowloris;
        plan.sessions = 10_000;
        assert_eq!(plan.check(&HOST), Ok(()));
        plan.sessions = 30_000;
        let text = problem(&plan);
        assert!(text.contains("open files"), "{text}");
        assert!(text.contains("name 2 addresses with --src"), "{text}");
    }

    #[test]
    fn sessions_are_dealt_out_completely() {
        let mut plan = plan();
        for threads in 1..9 {
            plan.placement.threads = threads;
            for total in 0..40 {
                let sum: u32 = (0..threads).map(|index| plan.share(total, index)).sum();
                assert_eq!(sum, total);
            }
        }
    }

    #[test]
    fn the_port_range_is_read() {
        assert_eq!(range_of("32768\t60999\n"), Some(PORTS_DEFAULT));
        assert_eq!(range_of("x"), None);
    }
}
