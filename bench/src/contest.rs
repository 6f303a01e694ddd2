//! The contest: cases, contenders, rounds.
//!
//! Here: what is compared and how often. Not here: how it is shown (`report`).
//!
//! Both contenders do the same work: bytes come in on one TCP connection and leave on another, through
//! one process on one core, driven by the same generator on another core. Ours reads and rewrites a
//! 12-byte header a message and keeps windows; `HAProxy` forwards plain bytes. Rounds alternate, so that
//! every disturbance meets both.

use std::time::Duration;

use serde_json::Value;

use crate::figures::Results;
use crate::programs::{Programs, Proxy, Relay};

/// Name of our relay in results.
pub const OURS: &str = "ringway";
/// Name of the other one.
pub const THEIRS: &str = "haproxy";

/// What a contest is.
#[derive(Debug, Clone)]
pub struct Contest {
    /// Rounds of every case.
    pub rounds: u32,
    /// Time that counts in each.
    pub time: Duration,
    /// Whether `HAProxy` takes part.
    pub has_haproxy: bool,
    /// Cores of the relay, then of the load; with fewer than two everything shares one.
    pub cores: Vec<u32>,
}

/// One figure of a case.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Case and figure.
    pub name: &'static str,
    /// Where it stands in the generator's JSON.
    pub pointer: &'static str,
    /// What it is multiplied with.
    pub scale: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// A kind of load.
struct Case {
    name: &'static str,
    /// Arguments for our relay; empty where only the relay as such is looked at.
    ours: &'static [&'static str],
    /// Arguments for a plain proxy; empty where it has nothing of the kind.
    theirs: &'static [&'static str],
    shards: usize,
    figures: &'static [Figure],
}

const fn figure(
    name: &'static str,
    pointer: &'static str,
    scale: f64,
    unit: &'static str,
) -> Figure {
    Figure {
        name,
        pointer,
        scale,
        unit,
    }
}

const CPU_BYTE: &str = "/figures/relay/seconds_per_gigabyte";
const CPU_MESSAGE: &str = "/figures/relay/micros_per_message";
const CPU_ROUND: &str = "/figures/relay/micros_per_round";
const CORES: &str = "/figures/relay/cores";
const BYTES: &str = "/figures/bytes_per_second";
const ROUNDS: &str = "/figures/rounds_per_second";
const P50: &str = "/latencies/service/p50_ns";
const P99: &str = "/latencies/service/p99_ns";
const P999: &str = "/latencies/service/p999_ns";

const CASES: &[Case] = &[
    Case {
        name: "bulk",
        ours: &["steady", "--sessions", "32", "--message-size", "16384"],
        theirs: &["plain", "--connections", "16", "--message-size", "16384"],
        shards: 1,
        figures: &[
            figure("bulk: relay CPU", CPU_BYTE, 1.0, "s/GB"),
            figure("bulk: throughput", BYTES, 1e-9, "GB/s"),
        ],
    },
    Case {
        name: "ping-pong, 1 stream",
        ours: &[
            "steady",
            "--sessions",
            "2",
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
            "--spin",
        ],
        theirs: &[
            "plain",
            "--connections",
            "1",
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
            "--spin",
        ],
        shards: 1,
        figures: &[
            figure("ping-pong 1: round trip p50", P50, 1e-3, "us"),
            figure("ping-pong 1: round trip p99", P99, 1e-3, "us"),
            figure("ping-pong 1: round trip p99.9", P999, 1e-3, "us"),
            figure("ping-pong 1: relay CPU", CPU_MESSAGE, 1.0, "us/message"),
        ],
    },
    Case {
        name: "ping-pong, 64 streams",
        ours: &[
            "steady",
            "--sessions",
            "128",
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
            "--spin",
        ],
        theirs: &[
            "plain",
            "--connections",
            "64",
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
            "--spin",
        ],
        shards: 1,
        figures: &[
            figure("ping-pong 64: round trip p50", P50, 1e-3, "us"),
            figure("ping-pong 64: round trip p99", P99, 1e-3, "us"),
            figure("ping-pong 64: round trip p99.9", P999, 1e-3, "us"),
            figure("ping-pong 64: relay CPU", CPU_MESSAGE, 1.0, "us/message"),
            figure(
                "ping-pong 64: round trips",
                ROUNDS,
                1e-3,
                "thousand a second",
            ),
        ],
    },
    Case {
        name: "handshakes",
        ours: &["handshakes"],
        theirs: &[],
        shards: 1,
        figures: &[
            figure("handshakes: a second", ROUNDS, 1.0, "/s"),
            figure("handshakes: relay CPU", CPU_ROUND, 1.0, "us each"),
        ],
    },
    Case {
        name: "opens",
        ours: &["opens"],
        theirs: &[],
        shards: 1,
        figures: &[
            figure("opens: a second", ROUNDS, 1.0, "/s"),
            figure("opens: relay CPU", CPU_ROUND, 1.0, "us each"),
        ],
    },
    Case {
        name: "idle",
        ours: &["idle", "--sessions", "1000"],
        theirs: &[],
        shards: 1,
        figures: &[figure(
            "1,000 idle sessions: relay CPU",
            CORES,
            100.0,
            "% of a core",
        )],
    },
    Case {
        name: "bulk, two shards",
        ours: &["steady", "--sessions", "32", "--message-size", "16384"],
        theirs: &["plain", "--connections", "16", "--message-size", "16384"],
        shards: 2,
        figures: &[
            figure("bulk, two cores: relay CPU", CPU_BYTE, 1.0, "s/GB"),
            figure("bulk, two cores: throughput", BYTES, 1e-9, "GB/s"),
        ],
    },
];

/// Returns all figures, in the order of the report.
pub fn figures() -> impl Iterator<Item = &'static Figure> {
    CASES.iter().flat_map(|case| case.figures)
}

impl Contest {
    /// Runs all rounds; `tell` gets a line before each.
    ///
    /// # Errors
    /// The first thing that went wrong: a comparison with holes would mislead.
    pub fn run(&self, programs: &Programs, tell: &mut dyn FnMut(&str)) -> Result<Results, String> {
        let mut results = Results::default();
        for round in 1..=self.rounds {
            for case in CASES {
                let line = format!("round {round} of {}: {}", self.rounds, case.name);
                if case.shards > self.cores.len() {
                    continue;
                }
                // Who begins changes from round to round.
                for turn in 0..2 {
                    if (turn + round).is_multiple_of(2) {
                        tell(&format!("{line}, {OURS}"));
                        self.ours(programs, case, &mut results)?;
                    } else if self.has_haproxy && !case.theirs.is_empty() {
                        tell(&format!("{line}, {THEIRS}"));
                        self.theirs(programs, case, &mut results)?;
                    }
                }
            }
        }
        Ok(results)
    }

    fn ours(&self, programs: &Programs, case: &Case, results: &mut Results) -> Result<(), String> {
        let relay: Relay = programs.relay(self.relay_cores(case))?;
        let mut arguments = self.common(case, relay.program.pid());
        arguments.extend(["--relay".into(), relay.name]);
        let document = programs.load(&with(case.ours, arguments))?;
        note(results, case, OURS, &document)
    }

    fn theirs(
        &self,
        programs: &Programs,
        case: &Case,
        results: &mut Results,
    ) -> Result<(), String> {
        let proxy: Proxy = programs.haproxy(self.relay_cores(case), PORTS)?;
        let mut arguments = self.common(case, proxy.program.pid());
        let [connect, listen] = PORTS.map(|port| format!("127.0.0.1:{port}"));
        arguments.extend(["--proxy".into(), connect, "--listen".into(), listen]);
        let document = programs.load(&with(case.theirs, arguments))?;
        note(results, case, THEIRS, &document)
    }

    fn relay_cores(&self, case: &Case) -> &[u32] {
        &self.cores[..case.shards.min(self.cores.len())]
    }

    fn common(&self, case: &Case, pid: u32) -> Vec<String> {
        let mut arguments = vec![
            "--duration".to_owned(),
            format!("{}ms", self.time.as_millis()),
            "--warmup".to_owned(),
            "500ms".to_owned(),
            "--relay-pid".to_owned(),
            pid.to_string(),
        ];
        // On two cores a relay with two shards leaves none for the load, which then may use both.
        let free = self.cores.get(case.shards).or_else(|| match case.shards {
            1 => self.cores.last(),
            _ => None,
        });
        if let Some(core) = free {
            arguments.extend(["--cpu".to_owned(), core.to_string()]);
        }
        arguments
    }
}

/// Where `HAProxy` listens and forwards to; the namespace is private, so they are free.
const PORTS: [u16; 2] = [7_300, 7_301];

fn with(first: &[&str], rest: Vec<String>) -> Vec<String> {
    let first = first.iter().map(|argument| (*argument).to_owned());
    first.chain(rest).collect()
}

fn note(
    results: &mut Results,
    case: &Case,
    contender: &str,
    document: &Value,
) -> Result<(), String> {
    for figure in case.figures {
        let value = document
            .pointer(figure.pointer)
            .and_then(Value::as_f64)
            .ok_or_else(|| format!("{}: no {} in the result", case.name, figure.pointer))?;
        results.push(figure.name, contender, value * figure.scale);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_figures_are_unique() {
        let names: std::collections::BTreeSet<_> = figures().map(|figure| figure.name).collect();
        assert_eq!(names.len(), figures().count());
    }

    #[test]
    fn contenders_get_the_same_load() {
        for case in CASES.iter().filter(|case| !case.theirs.is_empty()) {
            // Everything behind the number of sessions or connections.
            assert_eq!(case.ours[3..], case.theirs[3..], "{}", case.name);
            let sessions: u32 = case.ours[2].parse().unwrap();
            let connections: u32 = case.theirs[2].parse().unwrap();
            assert_eq!(sessions, connections * 2);
        }
    }

    #[test]
    fn missing_figures_are_an_error() {
        let mut results = Results::default();
        let document = serde_json::json!({"figures": {"relay": null}});
        assert!(note(&mut results, &CASES[0], OURS, &document).is_err());
    }

    #[test]
    fn load_keeps_off_the_core_of_the_relay() {
        let contest = Contest {
            rounds: 1,
            time: Duration::from_secs(1),
            has_haproxy: false,
            cores: vec![0, 1],
        };
        let pinned = contest.common(&CASES[0], 1);
        assert_eq!(pinned[pinned.len() - 2..], ["--cpu", "1"]);
        let free = contest.common(&CASES[CASES.len() - 1], 1);
        assert!(!free.contains(&"--cpu".to_owned()));
    }
}
