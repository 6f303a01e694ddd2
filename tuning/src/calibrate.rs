//! Measures what things cost a relay on this host, and how far the plan's sums are from what real relays
//! take.
//!
//! Here: the rounds and what they come to. Not here: single measurements (`memory`, `processor`, `points`),
//! what is made of the costs (`plan`).
//!
//! Bound: two relays and one generator at a time, all on 127.0.0.1; a round takes about a minute.

mod memory;
mod points;
mod processor;
mod programs;

use std::io;

use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::plan::costs::{Costs, Measured, MemoryCosts, ProcessorCosts};
use memory::MemoryRound;
use processor::ProcessorRound;

pub use points::{Compared, Point, points};
pub use programs::Programs;

/// Measures all costs in so many rounds; says to `tell` what is under way.
///
/// # Errors
/// When a program cannot be started or fails; the text says what it said.
pub fn costs(programs: &Programs, rounds: u32, tell: &mut dyn FnMut(&str)) -> io::Result<Costs> {
    let sessions = sessions()?;
    let (mut memory, mut processor) = (Vec::new(), Vec::new());
    let mut machine = Value::Null;
    for round in 1..=rounds {
        tell(&format!(
            "round {round} of {rounds}: memory, {sessions} sessions"
        ));
        memory.push(MemoryRound::measure(programs, sessions)?);
        tell(&format!("round {round} of {rounds}: processor"));
        let (measured, described) = ProcessorRound::measure(programs)?;
        processor.push(measured);
        machine = described;
    }
    let word = |name: &str| match &machine[name] {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    let of_memory = |pick: fn(&MemoryRound) -> f64| measured(memory.iter().map(pick));
    let of_processor = |pick: fn(&ProcessorRound) -> f64| measured(processor.iter().map(pick));
    Ok(Costs {
        schema: Costs::SCHEMA.to_owned(),
        machine: format!(
            "Linux {}, {}, {} cores",
            word("kernel"),
            word("cpu"),
            word("cores")
        ),
        relay: word("version"),
        memory: MemoryCosts {
            program: of_memory(|round| round.program)?,
            shard: of_memory(|round| round.shard)?,
            traffic: of_memory(|round| round.traffic)?,
            busy: of_memory(|round| round.busy)?,
            session: of_memory(|round| round.session)?,
            stream: of_memory(|round| round.stream)?,
            announced: of_memory(|round| round.announced)?,
            socket: of_memory(|round| round.socket)?,
        },
        processor: ProcessorCosts {
            handshake_us: of_processor(|round| round.handshake_us)?,
            open_us: of_processor(|round| round.open_us)?,
            wake_us: of_processor(|round| round.wake_us)?,
            message_us: of_processor(|round| round.message_us)?,
            byte_ns: of_processor(|round| round.byte_ns)?,
            keepalive_us: of_processor(|round| round.keepalive_us)?,
            forward_ratio: of_processor(|round| round.forward_ratio)?,
        },
    })
}

fn measured(samples: impl Iterator<Item = f64>) -> io::Result<Measured> {
    // What comes out below nothing is noise of the host, and more rounds make it rarer.
    let samples: Vec<f64> = samples.map(|sample| sample.max(0.0)).collect();
    Measured::of(&samples).ok_or_else(|| io::Error::other("no round was measured"))
}

/// Returns how many sessions are measured: enough for pages and tables to even out, as far as open files
/// allow.
fn sessions() -> io::Result<u32> {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let room = u32::try_from(files).unwrap_or(u32::MAX);
    let room = room.saturating_sub(FILES_SPARE);
    match room {
        0..SESSIONS_LEAST => Err(io::Error::other(format!(
            "the limit of open files is {files}: {} are needed to measure {SESSIONS_LEAST} sessions",
            SESSIONS_LEAST + FILES_SPARE
        ))),
        _ => Ok(room.min(SESSIONS)),
    }
}

/// Sessions of a measurement.
const SESSIONS: u32 = 18_000;

/// Fewest for which pages of memory do not blur what one takes.
const SESSIONS_LEAST: u32 = 2_000;

/// Sockets beside them: those of streams, and what a relay keeps free.
const FILES_SPARE: u32 = 1_024;
