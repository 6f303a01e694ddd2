//! What things cost in processor time, measured.
//!
//! Here: one relay of one shard at its limit with one kind of work after the other. Not here: starting it
//! (`programs`), memory (`memory`).
//!
//! Relay and generator have a core each where there are two. What is counted is the relay's own time, so the
//! generator's speed decides only how busy the relay is.

use std::io;

use serde_json::Value;

use super::memory::linked;
use super::programs::{Programs, Relay, figure};

/// One round of processor time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessorRound {
    pub(super) handshake_us: f64,
    pub(super) open_us: f64,
    pub(super) wake_us: f64,
    pub(super) message_us: f64,
    pub(super) byte_ns: f64,
    pub(super) keepalive_us: f64,
    pub(super) forward_ratio: f64,
}

impl ProcessorRound {
    /// Measures all of it once; returns the generator's description of the machine as well.
    pub(super) fn measure(programs: &Programs) -> io::Result<(Self, Value)> {
        let relay = Relay::start(programs, 1, &[])?;
        let run = |words: &[&str]| {
            let pid = relay.pid();
            let common = [
                "--relay",
                &relay.name,
                "--relay-pid",
                &pid,
                "--duration",
                "2s",
            ];
            programs.generate(&[words, &common].concat())
        };
        let handshakes = run(&["handshakes"])?;
        let opens = run(&["opens"])?;
        let small = ["steady", "--sessions", "32", "--message-size", "64"];
        let small = figure(&run(&small)?, MESSAGE)?;
        let large = ["steady", "--sessions", "32", "--message-size", "16384"];
        let large = figure(&run(&large)?, MESSAGE)?;
        let alone = [
            "steady",
            "--sessions",
            "128",
            "--mode",
            "ping-pong",
            "--message-size",
            "64",
        ];
        let alone = figure(&run(&alone)?, MESSAGE)?;
        let costs = Costs::solve(small, large, alone);
        let machine = handshakes.get("machine").cloned().unwrap_or_default();
        let round = Self {
            handshake_us: figure(&handshakes, ROUND)?,
            open_us: figure(&opens, ROUND)?,
            wake_us: costs.wake_us,
            message_us: costs.message_us,
            byte_ns: costs.byte_us * 1_000.0,
            keepalive_us: keepalive(programs)?,
            forward_ratio: forward_ratio(programs)?,
        };
        Ok((round, machine))
    }
}

/// What a message costs, taken apart.
struct Costs {
    wake_us: f64,
    message_us: f64,
    byte_us: f64,
}

impl Costs {
    /// Takes apart what messages of 64 bytes cost in bulk and alone, and messages of 16 KiB in bulk.
    fn solve(small: f64, large: f64, alone: f64) -> Self {
        let byte_us = ((large - small) / (LARGE - SMALL)).max(0.0);
        let message_us = (small - SMALL * byte_us).max(0.0);
        Self {
            wake_us: (alone - small).max(0.0),
            message_us,
            byte_us,
        }
    }
}

/// Returns what a sign of life costs, with one a second from each of many sessions.
fn keepalive(programs: &Programs) -> io::Result<f64> {
    let relay = Relay::start(programs, 1, &["--set", "limits.keepalive=1s"])?;
    let result = programs.generate(&[
        "idle",
        "--relay",
        &relay.name,
        "--relay-pid",
        &relay.pid(),
        "--sessions",
        "2000",
        "--warmup",
        "2s",
        "--duration",
        "5s",
    ])?;
    let seconds = figure(&result, "figures.seconds")?;
    let busy = figure(&result, "figures.relay.cpu_seconds")?;
    Ok(busy * 1e6 / seconds / 2_000.0)
}

/// Returns what a forwarded byte costs each of two relays, as a multiple of a local one.
fn forward_ratio(programs: &Programs) -> io::Result<f64> {
    let [near, far] = linked(programs, 1)?;
    let run = |more: &[&str]| -> io::Result<[f64; 2]> {
        let looks = || Ok::<_, io::Error>([near.sample()?, far.sample()?]);
        let before = looks()?;
        let common = ["steady", "--relay", &near.name, "--sessions", "16"];
        let load = [
            "--message-size",
            "16384",
            "--duration",
            "2s",
            "--warmup",
            "0s",
        ];
        let result = programs.generate(&[&common[..], &load[..], more].concat())?;
        let after = looks()?;
        let bytes = figure(&result, "counts.bytes")?;
        let busy = |index: usize| {
            let pair = after.get(index).zip(before.get(index));
            pair.map_or(0.0, |(after, before)| after.cpu_since(before).as_secs_f64())
        };
        Ok([busy(0) / bytes, busy(1) / bytes])
    };
    let [local, _] = run(&[])?;
    let [sender, receiver] = run(&["--far", &far.name])?;
    Ok((sender + receiver) / 2.0 / local)
}

const ROUND: &str = "figures.relay.micros_per_round";
const MESSAGE: &str = "figures.relay.micros_per_message";

/// Bytes of the messages that are compared.
const SMALL: f64 = 64.0;
const LARGE: f64 = 16_384.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_of_a_message_is_taken_apart() {
        // 2 us a message and 0.5 ns a byte; alone 7 us more.
        let costs = Costs::solve(2.0 + 0.032, 2.0 + 8.192, 9.0 + 0.032);
        assert!((costs.byte_us - 0.0005).abs() < 1e-9);
        assert!((costs.message_us - 2.0).abs() < 1e-6);
        assert!((costs.wake_us - 7.0).abs() < 1e-6);
    }

    #[test]
    fn noise_makes_nothing_cheaper_than_free() {
        let costs = Costs::solve(3.0, 2.0, 1.0);
        assert!(costs.byte_us >= 0.0 && costs.message_us >= 0.0 && costs.wake_us >= 0.0);
    }
}
