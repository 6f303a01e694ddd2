//! How cost grows with what stands on a relay.
//!
//! Here: sessions or streams that stand and say nothing, step by step more of them, and what a message, an
//! open and a round trip cost beside them. Not here: flags, the table (`growth`, the program).
//!
//! All steps of a round run against one relay, so that nothing but the number differs between them. What the
//! relay does for those that stand, one keep-alive in 30 s each, is measured by itself and taken off: a
//! message costs the same whether anybody pays for keep-alives or not.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::figures::{Results, Samples};
use crate::programs::{Program, Programs, Relay};

/// What stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Sessions without a stream.
    Sessions,
    /// Streams of few sessions, [`STREAMS_MAX`] of each at most.
    Streams,
}

/// Streams of one session; the relay's default limit is 2,048.
pub const STREAMS_MAX: u32 = 2_000;

impl Standing {
    /// Returns what it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Streams => "streams",
        }
    }
}

impl Standing {
    /// Returns how many of it the relay counts for one: a stream has a leg to either party.
    const fn legs(self) -> u64 {
        match self {
            Self::Sessions => 1,
            Self::Streams => 2,
        }
    }
}

/// A measurement of one kind.
#[derive(Debug, Clone)]
pub struct Growth {
    /// What stands.
    pub standing: Standing,
    /// How many of it in each step, ascending.
    pub steps: Vec<u32>,
    /// Relays one after the other.
    pub rounds: u32,
    /// Time that counts in each measurement.
    pub time: Duration,
    /// Shards of the relay, all on the first core; a ring has no more sockets than the limit on open files
    /// allows.
    pub shards: usize,
    /// Core of the relay, core of the load.
    pub cores: [u32; 2],
}

/// Figures of a step, with their units.
pub const FIGURES: [(&str, &str); 10] = [
    (MESSAGE, "us"),
    (OPEN, "us"),
    (P50, "us"),
    (P99, "us"),
    (LAG, "us"),
    (REST, "% of a core"),
    (EACH, "B"),
    (KERNEL, "B"),
    (UP, "a second"),
    (DOWN, "a second"),
];

const MESSAGE: &str = "relay CPU a message of 64 B, 64 ping-pong streams";
const OPEN: &str = "relay CPU an open";
const P50: &str = "round trip p50 at 5,000 a second";
const P99: &str = "round trip p99 at 5,000 a second";
const LAG: &str = "of that the generator's own lag, p99";
const REST: &str = "relay CPU for what stands";
const EACH: &str = "memory of the relay for each";
const KERNEL: &str = "kernel memory (slab) for each, both ends of its socket";
const UP: &str = "made";
const DOWN: &str = "shed, by all leaving at once";

/// Round trips a second of the paced measurement: far below what a core can.
const PACE: &str = "5000";
/// Sockets of one generator thread.
const SOCKETS_MAX: u32 = 15_000;
/// Longest time without one more session or stream.
const STALL_TIME: Duration = Duration::from_secs(60);

/// Where the relay answers questions; the network is private.
const ADMIN: &str = "127.0.0.1:7180";

impl Growth {
    /// Runs all rounds; `tell` gets a line before each measurement. The samples of a step stand under its
    /// number.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn run(&self, programs: &Programs, tell: &mut dyn FnMut(&str)) -> Result<Results, String> {
        let mut results = Results::default();
        for round in 1..=self.rounds {
            let round = format!("round {round} of {}", self.rounds);
            self.round(programs, &round, &mut results, tell)?;
        }
        Ok(results)
    }

    fn round(
        &self,
        programs: &Programs,
        round: &str,
        results: &mut Results,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        let relay = programs.relay_with(&self.cores[..1], self.shards, ADMIN)?;
        let what = self.standing.name();
        let start = Memory::of(relay.program.pid())?;
        let mut holders = Vec::new();
        let mut stand = 0;
        for step in &self.steps {
            let more = step.saturating_sub(stand);
            tell(&format!("{round}: {step} {what}"));
            let begun = Instant::now();
            holders.extend(self.hold(programs, &relay, more, holders.len())?);
            self.wait(programs, *step)?;
            let up = f64::from(more) / begun.elapsed().as_secs_f64();
            stand = (*step).max(stand);
            let mut note = |figure: &str, value: f64| results.push(figure, &key(*step), value);
            note(UP, up);
            let memory = Memory::of(relay.program.pid())?;
            note(EACH, each(start.process, memory.process, stand));
            note(KERNEL, each(start.kernel, memory.kernel, stand));
            let rest = self.rest(relay.program.pid())?;
            note(REST, rest * 100.0);
            for (figure, value) in self.measure(programs, &relay, rest)? {
                note(figure, value);
            }
        }
        tell(&format!("{round}: none"));
        let begun = Instant::now();
        drop(holders);
        self.wait(programs, 0)?;
        let down = f64::from(stand) / begun.elapsed().as_secs_f64();
        results.push(DOWN, &key(stand), down);
        Ok(())
    }

    /// Starts generators that make `count` more and hold them until they are dropped.
    fn hold(
        &self,
        programs: &Programs,
        relay: &Relay,
        count: u32,
        before: usize,
    ) -> Result<Vec<Program>, String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let loads: Vec<Vec<String>> = match self.standing {
            _ if count == 0 => Vec::new(),
            Standing::Sessions => {
                let threads = count.div_ceil(SOCKETS_MAX).to_string();
                let count = count.to_string();
                vec![words(&[
                    "idle",
                    "--sessions",
                    &count,
                    "--threads",
                    &threads,
                ])]
            }
            Standing::Streams => shares(count)
                .into_iter()
                .map(|(pairs, streams)| {
                    let (pairs, streams) = (pairs.to_string(), streams.to_string());
                    let load = ["steady", "--pairs", &pairs, "--streams", &streams];
                    // Something has to be sent by a load: a message a second over all of it.
                    words(&[&load[..], &["--rate", "1", "--message-size", "64"]].concat())
                })
                .collect(),
        };
        let mut holders = Vec::new();
        for (number, mut load) in (before..).zip(loads) {
            // A source has no more connections to one address than there are ports.
            let first = number * 32 % 224;
            load.extend(["--src".into(), format!("127.0.1.{first}/27")]);
            load.extend(["--relay".into(), relay.name.clone()]);
            load.extend(["--cpu".into(), self.cores[1].to_string()]);
            load.extend(words(&["--concurrency", "8", "--duration", "3600s"]));
            holders.push(programs.start_load(&load)?);
        }
        Ok(holders)
    }

    /// Waits until so many stand.
    fn wait(&self, programs: &Programs, count: u32) -> Result<(), String> {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        loop {
            let now = self.standing_now(&programs.status(ADMIN)?)?;
            let missing = now.abs_diff(u64::from(count));
            if missing == 0 {
                return Ok(());
            }
            if missing != last {
                (last, since) = (missing, Instant::now());
            } else if since.elapsed() > STALL_TIME {
                let what = self.standing.name();
                return Err(format!("the relay has {now} {what} and not {count}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn standing_now(&self, status: &Value) -> Result<u64, String> {
        let shards = status.get("shards").and_then(Value::as_array);
        let each = shards.into_iter().flatten();
        let here = each.filter_map(|shard| shard.get(self.standing.name())?.as_u64());
        let (count, sum) = here.fold((0, 0), |(count, sum), it| (count + 1, sum + it));
        if count == self.shards {
            Ok(sum / self.standing.legs())
        } else {
            Err("the relay's status does not tell what stands on each shard".into())
        }
    }

    /// Returns the cores that the relay uses for what stands.
    fn rest(&self, pid: u32) -> Result<f64, String> {
        let (before, begun) = (cpu(pid)?, Instant::now());
        std::thread::sleep(self.time);
        let used = cpu(pid)?.saturating_sub(before);
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
    }

    /// Measures beside what stands, which takes `rest` cores by itself.
    fn measure(
        &self,
        programs: &Programs,
        relay: &Relay,
        rest: f64,
    ) -> Result<Vec<(&'static str, f64)>, String> {
        let pairs = ["steady", "--sessions", "128", "--mode", "ping-pong"];
        let small = ["--message-size", "64"];
        let full = self.load(programs, relay, &[&pairs[..], &small].concat())?;
        let opens = self.load(programs, relay, &["opens", "--sessions", "128"])?;
        // The generator shares its core with those that hold what stands; its lag is a figure of its own.
        let paced = ["--rate", PACE, "--spin", "--lag-max", "10000"];
        let paced = self.load(programs, relay, &[&pairs[..], &small, &paced].concat())?;
        Ok(vec![
            (MESSAGE, net(&full, "messages_per_second", 2.0, rest)?),
            (OPEN, net(&opens, "rounds_per_second", 1.0, rest)?),
            (P50, number(&paced, "/latencies/response/p50_ns")? / 1e3),
            (P99, number(&paced, "/latencies/response/p99_ns")? / 1e3),
            (LAG, number(&paced, "/latencies/lag/p99_ns")? / 1e3),
        ])
    }

    fn load(&self, programs: &Programs, relay: &Relay, load: &[&str]) -> Result<Value, String> {
        let mut load: Vec<String> = load.iter().map(|word| (*word).to_owned()).collect();
        load.extend(["--relay".into(), relay.name.clone()]);
        load.extend(["--relay-pid".into(), relay.program.pid().to_string()]);
        load.extend(["--cpu".into(), self.cores[1].to_string()]);
        load.extend(["--duration".into(), format!("{}ms", self.time.as_millis())]);
        load.extend(["--warmup".into(), "500ms".into()]);
        programs.load(&load)
    }
}

/// Returns the name that a step's samples stand under.
#[must_use]
pub fn key(step: u32) -> String {
    step.to_string()
}

/// Returns the samples of a step.
#[must_use]
pub fn find<'a>(results: &'a Results, figure: &str, step: u32) -> Option<&'a Samples> {
    results.find(figure, &key(step))
}

/// Shares streams out: pairs with [`STREAMS_MAX`] each, then one with the rest.
fn shares(count: u32) -> Vec<(u32, u32)> {
    let (full, rest) = (count / STREAMS_MAX, count % STREAMS_MAX);
    let both = [(full, STREAMS_MAX), (u32::from(rest > 0), rest)];
    both.into_iter().filter(|(pairs, _)| *pairs > 0).collect()
}

/// Returns microseconds of the relay for each of what the generator counted, without `rest`. `times` is how
/// often one passes the relay.
fn net(document: &Value, rate: &str, times: f64, rest: f64) -> Result<f64, String> {
    let cores = number(document, "/figures/relay/cores")?;
    let rate = number(document, &format!("/figures/{rate}"))? * times;
    if rate > 0.0 {
        Ok((cores - rest).max(0.0) * 1e6 / rate)
    } else {
        Err("nothing went through the relay".into())
    }
}

fn number(document: &Value, pointer: &str) -> Result<f64, String> {
    let found = document.pointer(pointer).and_then(Value::as_f64);
    found.ok_or_else(|| format!("the generator's result has no {pointer}"))
}

fn each(before: u64, now: u64, count: u32) -> f64 {
    let bytes = i32::try_from(now.saturating_sub(before) / 1_024).unwrap_or(i32::MAX);
    f64::from(bytes) * 1_024.0 / f64::from(count.max(1))
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Resident memory of the process.
    process: u64,
    /// What the kernel has in slabs, for everybody.
    kernel: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self, String> {
        Ok(Self {
            process: kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")?,
            kernel: kilobytes("/proc/meminfo", "Slab:")?,
        })
    }
}

fn kilobytes(path: &str, name: &str) -> Result<u64, String> {
    let text = read(Path::new(path))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let number = lines.find_map(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    let number = number.ok_or_else(|| format!("{path} has no {name}"))?;
    Ok(number * 1_024)
}

/// Returns the processor time of all threads of a process (`/proc/PID/task/*/schedstat`, first field, ns).
fn cpu(pid: u32) -> Result<Duration, String> {
    let tasks = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
    let mut sum = 0;
    for entry in entries.flatten() {
        let text = read(&entry.path().join("schedstat"))?;
        let first = text.split_ascii_whitespace().next();
        sum += first.and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_shared_out_over_sessions() {
        assert_eq!(shares(1), [(1, 1)]);
        assert_eq!(shares(2_000), [(1, 2_000)]);
        assert_eq!(shares(99_999), [(49, 2_000), (1, 1_999)]);
        assert_eq!(shares(0), []);
    }

    #[test]
    fn what_stands_is_taken_off() {
        let document = serde_json::json!({ "figures": {
            "relay": { "cores": 0.75 }, "messages_per_second": 50_000.0, "rounds_per_second": 0.0,
        }});
        let found = net(&document, "messages_per_second", 2.0, 0.25).unwrap();
        assert!((found - 5.0).abs() < 1e-9, "{found}");
        assert!(net(&document, "rounds_per_second", 1.0, 0.25).is_err());
        assert!(net(&document, "opens_per_second", 1.0, 0.25).is_err());
    }

    #[test]
    fn standing_is_the_sum_of_all_shards() {
        let mut growth = Growth {
            standing: Standing::Sessions,
            steps: vec![1],
            rounds: 1,
            time: Duration::from_secs(1),
            shards: 2,
            cores: [0, 1],
        };
        let status = serde_json::json!({ "shards": [{ "sessions": 3 }, { "sessions": 4 }] });
        assert_eq!(growth.standing_now(&status), Ok(7));
        growth.standing = Standing::Streams;
        let legs = serde_json::json!({ "shards": [{ "streams": 3 }, { "streams": 5 }] });
        assert_eq!(growth.standing_now(&legs), Ok(4));
        growth.standing = Standing::Sessions;
        let status = serde_json::json!({ "shards": [{ "sessions": 3 }, {}] });
        assert!(growth.standing_now(&status).is_err());
    }

    #[test]
    fn this_process_has_memory_and_used_a_processor() {
        let pid = std::process::id();
        assert!(Memory::of(pid).unwrap().process > 100_000);
        assert!(!cpu(pid).unwrap().is_zero());
        assert!(kilobytes("/proc/meminfo", "Nothing:").is_err());
    }
}
