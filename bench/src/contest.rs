//! The contest: cases, contenders, rounds.
//!
//! Here: what is compared and how often. Not here: how it is shown (`report`, `plots`).
//!
//! All contenders do the same work: bytes come in on one TCP connection and leave on another, through one
//! process on one core, driven by the same generator on another core. Ours reads and rewrites a 12-byte
//! header a message and keeps windows; the others forward plain bytes. They take turns within each round,
//! and who begins changes from round to round, so that every disturbance meets all of them.

use std::time::Duration;

use serde_json::Value;

use crate::figures::Results;
use crate::programs::Programs;
use crate::proxies::{Contender, Installed};

/// What a contest is.
#[derive(Debug, Clone)]
pub struct Contest {
    /// Rounds of every case.
    pub rounds: u32,
    /// Time that counts in each.
    pub time: Duration,
    /// Who takes part, of those that are installed.
    pub contenders: Vec<Contender>,
    /// What is installed.
    pub installed: Installed,
    /// Parts of the names of cases to run; all if empty.
    pub only: Vec<String>,
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
    load: Load,
    shards: usize,
    figures: &'static [Figure],
}

/// What contenders are asked to do. Where they are compared, both sides of the comparison come from the same
/// entry.
enum Load {
    /// Messages over so many streams: of a pair of sessions each through our relay, of a connection each
    /// through a proxy, which forwards to the generator.
    Messages {
        streams: u32,
        flags: &'static [&'static str],
    },
    /// So many sessions, or connections through a proxy to a null server, that say nothing.
    Idle(u32),
    /// What only our relay has.
    Ours(&'static [&'static str]),
    /// Connections that go at once, through a proxy to a null server.
    Theirs(&'static [&'static str]),
}

/// What a contender is measured with.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    /// Arguments of the generator.
    arguments: Vec<String>,
    /// A null server is what the contender forwards to; else it is the generator.
    has_null_server: bool,
}

impl Load {
    /// Returns what `contender` is measured with; nothing where it has nothing of the kind.
    fn run_of(&self, contender: Contender) -> Option<Run> {
        let is_ours = contender == Contender::Ringway;
        let run = |words: &[&str], count: Option<(&str, u32)>, flags: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            let count = count.map(|(flag, count)| [flag.to_owned(), count.to_string()]);
            let flags = flags.iter().map(|flag| (*flag).to_owned());
            Some(Run {
                arguments: words
                    .chain(count.into_iter().flatten())
                    .chain(flags)
                    .collect(),
                has_null_server: !is_ours && !matches!(self, Self::Messages { .. }),
            })
        };
        match *self {
            Self::Messages { streams, flags } if is_ours => {
                run(&["steady"], Some(("--sessions", 2 * streams)), flags)
            }
            Self::Messages { streams, flags } => {
                run(&["plain"], Some(("--connections", streams)), flags)
            }
            Self::Idle(sessions) => run(&["idle"], Some(("--sessions", sessions)), &[]),
            Self::Ours(words) if is_ours => run(words, None, &[]),
            Self::Theirs(words) if !is_ours => run(words, None, &[]),
            Self::Ours(_) | Self::Theirs(_) => None,
        }
    }
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
const MEMORY: &str = "/figures/relay_bytes_per_session";
const MESSAGES: &str = "/figures/messages_per_second";
const BYTES: &str = "/figures/bytes_per_second";
const ROUNDS: &str = "/figures/rounds_per_second";
const P50: &str = "/latencies/service/p50_ns";
const P99: &str = "/latencies/service/p99_ns";
const P999: &str = "/latencies/service/p999_ns";

const BULK: Load = Load::Messages {
    streams: 16,
    flags: &["--message-size", "16384"],
};

const fn ping_pong(streams: u32) -> Load {
    Load::Messages {
        streams,
        flags: &["--mode", "ping-pong", "--message-size", "64", "--spin"],
    }
}

const CASES: &[Case] = &[
    Case {
        name: "bulk",
        load: BULK,
        shards: 1,
        figures: &[
            figure("bulk: relay CPU", CPU_BYTE, 1.0, "s/GB"),
            figure("bulk: throughput", BYTES, 1e-9, "GB/s"),
        ],
    },
    Case {
        name: "messages of 64 B",
        load: Load::Messages {
            streams: 16,
            flags: &["--message-size", "64"],
        },
        shards: 1,
        figures: &[
            figure("64 B messages: relay CPU", CPU_MESSAGE, 1e3, "ns/message"),
            figure("64 B messages: a second", MESSAGES, 1e-6, "million"),
        ],
    },
    Case {
        name: "ping-pong, 1 stream",
        load: ping_pong(1),
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
        load: ping_pong(64),
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
        load: Load::Ours(&["handshakes"]),
        shards: 1,
        figures: &[
            figure("handshakes: a second", ROUNDS, 1.0, "/s"),
            figure("handshakes: relay CPU", CPU_ROUND, 1.0, "us each"),
        ],
    },
    Case {
        name: "opens",
        load: Load::Ours(&["opens"]),
        shards: 1,
        figures: &[
            figure("stream opens: a second", ROUNDS, 1.0, "/s"),
            figure("stream opens: relay CPU", CPU_ROUND, 1.0, "us each"),
        ],
    },
    Case {
        name: "connections",
        load: Load::Theirs(&["connects", "--concurrency", "16"]),
        shards: 1,
        figures: &[
            figure("proxied connections: a second", ROUNDS, 1.0, "/s"),
            figure("proxied connections: relay CPU", CPU_ROUND, 1.0, "us each"),
        ],
    },
    Case {
        name: "idle",
        load: Load::Idle(4_000),
        shards: 1,
        figures: &[
            figure("4,000 idle: relay CPU", CORES, 100.0, "% of a core"),
            figure(
                "4,000 idle: memory of the process",
                MEMORY,
                1.0,
                "B a session or connection",
            ),
        ],
    },
    Case {
        name: "bulk, two shards",
        load: BULK,
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
        let cases: Vec<&Case> = CASES.iter().filter(|case| self.wants(case)).collect();
        if cases.is_empty() {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            return Err(format!(
                "--only names no case; there are: {}",
                names.join("; ")
            ));
        }
        let mut results = Results::default();
        for round in 0..self.rounds {
            for case in &cases {
                for contender in self.in_turn(round) {
                    let Some(run) = case.run_of(contender) else {
                        continue;
                    };
                    let of = self.rounds;
                    let (name, who) = (case.name, contender.name());
                    tell(&format!("round {} of {of}: {name}, {who}", round + 1));
                    let document = self.measure(programs, case, contender, run)?;
                    note(&mut results, case, contender, &document)?;
                }
            }
        }
        Ok(results)
    }

    fn wants(&self, case: &Case) -> bool {
        let is_named = self.only.iter().any(|part| case.name.contains(part));
        case.shards <= self.cores.len() && (is_named || self.only.is_empty())
    }

    /// Returns who takes part; who begins changes from round to round.
    fn in_turn(&self, round: u32) -> impl Iterator<Item = Contender> {
        let here = self.contenders.iter().copied();
        let mut here: Vec<_> = here.filter(|it| self.installed.has(*it)).collect();
        let count = here.len().max(1);
        here.rotate_left(usize::try_from(round).unwrap_or(0) % count);
        here.into_iter()
    }

    /// Starts a contender, runs the generator, returns what it found.
    fn measure(
        &self,
        programs: &Programs,
        case: &Case,
        contender: Contender,
        run: Run,
    ) -> Result<Value, String> {
        let cores = self.relay_cores(case);
        let Run {
            mut arguments,
            has_null_server,
        } = run;
        if contender == Contender::Ringway {
            let relay = programs.relay(cores)?;
            arguments.extend(self.common(case, relay.program.pid()));
            arguments.extend(["--relay".into(), relay.name]);
            return programs.load(&arguments);
        }
        let core = self.cores.last().copied().unwrap_or(0);
        let _behind = has_null_server
            .then(|| programs.null_server(PORTS[1], core))
            .transpose()?;
        let proxy = programs.proxy(contender, &self.installed, cores, PORTS)?;
        arguments.extend(self.common(case, proxy.pid()));
        let [connect, listen] = PORTS.map(|port| format!("127.0.0.1:{port}"));
        if has_null_server {
            arguments.extend(["--tcp".into(), connect]);
        } else {
            arguments.extend(["--proxy".into(), connect, "--listen".into(), listen]);
        }
        programs.load(&arguments)
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

/// Where a proxy listens and forwards to; the namespace is private, so they are free.
const PORTS: [u16; 2] = [7_300, 7_301];

impl Case {
    /// Returns what `contender` is measured with; nothing where it does not take part.
    fn run_of(&self, contender: Contender) -> Option<Run> {
        let run = self.load.run_of(contender);
        run.filter(|_| contender.takes_cores(self.shards))
    }
}

fn note(
    results: &mut Results,
    case: &Case,
    contender: Contender,
    document: &Value,
) -> Result<(), String> {
    for figure in case.figures {
        let value = document
            .pointer(figure.pointer)
            .and_then(Value::as_f64)
            .ok_or_else(|| format!("{}: no {} in the result", case.name, figure.pointer))?;
        results.push(figure.name, contender.name(), value * figure.scale);
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
        for case in CASES {
            let runs = [Contender::Ringway, Contender::Haproxy].map(|it| case.run_of(it));
            if let ([Some(ours), Some(theirs)], Load::Messages { .. }) = (&runs, &case.load) {
                // Everything behind the number of sessions or connections.
                let (ours, theirs) = (&ours.arguments, &theirs.arguments);
                assert_eq!(ours[3..], theirs[3..], "{}", case.name);
                let sessions: u32 = ours[2].parse().unwrap();
                let connections: u32 = theirs[2].parse().unwrap();
                assert_eq!(sessions, connections * 2);
            }
        }
    }

    #[test]
    fn missing_figures_are_an_error() {
        let mut results = Results::default();
        let document = serde_json::json!({"figures": {"relay": null}});
        assert!(note(&mut results, &CASES[0], Contender::Ringway, &document).is_err());
    }

    fn contest() -> Contest {
        Contest {
            rounds: 1,
            time: Duration::from_secs(1),
            contenders: Contender::ALL.to_vec(),
            installed: Installed::default(),
            only: Vec::new(),
            cores: vec![0, 1],
        }
    }

    #[test]
    fn load_keeps_off_the_core_of_the_relay() {
        let pinned = contest().common(&CASES[0], 1);
        assert_eq!(pinned[pinned.len() - 2..], ["--cpu", "1"]);
        let free = contest().common(&CASES[CASES.len() - 1], 1);
        assert!(!free.contains(&"--cpu".to_owned()));
    }

    #[test]
    fn who_begins_changes_and_who_is_missing_is_left_out() {
        let contest = contest();
        let begins: Vec<_> = (0..3)
            .filter_map(|round| contest.in_turn(round).next())
            .collect();
        assert_eq!(
            begins,
            [Contender::Ringway, Contender::Pipe, Contender::Ringway]
        );
    }

    #[test]
    fn nginx_has_one_core_and_handshakes_are_ours() {
        let of = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
        let takes = |name: &str, contender| of(name).run_of(contender).is_some();
        assert!(!takes("bulk, two shards", Contender::Nginx));
        assert!(takes("bulk", Contender::Nginx));
        assert!(!takes("handshakes", Contender::Haproxy));
        assert!(!takes("connections", Contender::Ringway));
    }

    #[test]
    fn a_run_is_what_the_generator_is_called_with() {
        let words = |name: &str, contender| {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            let run = case.run_of(contender).unwrap();
            (run.arguments.join(" "), run.has_null_server)
        };
        assert_eq!(
            words("bulk", Contender::Ringway),
            ("steady --sessions 32 --message-size 16384".into(), false)
        );
        assert_eq!(
            words("ping-pong, 1 stream", Contender::Pipe),
            (
                "plain --connections 1 --mode ping-pong --message-size 64 --spin".into(),
                false
            )
        );
        assert_eq!(
            words("idle", Contender::Nginx),
            ("idle --sessions 4000".into(), true)
        );
    }
}
