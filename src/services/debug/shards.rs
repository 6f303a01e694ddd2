//! What each shard holds and has waiting, and its stalled turns.
//!
//! Here: the rows, and the two forms of them. Not here: counting; meanings that `/metrics` has too are its.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::control::ShardView;

/// Name and version of the document; fields may be added, none changes its meaning or leaves.
const SCHEMA: &str = "ringway-debug-shards/1";

/// The document of `/debug/shards`.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    schema: &'static str,
    /// Shards there are; those that have not answered are missing below.
    shards_count: usize,
    shards: Vec<Shard>,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: u16,
    values: Map<String, Value>,
    /// Oldest first.
    stalls: Vec<Stall>,
}

#[derive(Debug, Serialize)]
struct Stall {
    began_ms: u64,
    took_us: u64,
    completions: u32,
    messages: u32,
    results: u32,
    had_timers: bool,
    has_trimmed: bool,
}

/// Returns the document.
pub(super) fn document(shards: &[ShardView], shards_count: usize) -> Document {
    let shard = |view: &ShardView| {
        let values = ROWS
            .iter()
            .map(|(name, read)| ((*name).to_owned(), Value::from(read(view))));
        Shard {
            shard: view.shard,
            values: values.collect(),
            stalls: stalls(view),
        }
    };
    Document {
        schema: SCHEMA,
        shards_count,
        shards: shards.iter().map(shard).collect(),
    }
}

/// Returns a table, one column a shard, and under it the stalled turns.
pub(super) fn text(shards: &[ShardView]) -> String {
    let mut out = String::new();
    let mut row = |name: &str, read: &dyn Fn(&ShardView) -> String| {
        let cells = shards.iter().map(|view| format!(" {:>12}", read(view)));
        let cells: String = cells.collect();
        out.push_str(&format!("{name:<28}{cells}\n"));
    };
    row("shard", &|view| view.shard.to_string());
    for (name, read) in ROWS {
        row(name, &|view| read(view).to_string());
    }
    for view in shards {
        for stall in stalls(view) {
            let written = writeln!(out, "stalled turn of shard {}: {stall:?}", view.shard);
            // A string takes everything.
            debug_assert!(written.is_ok());
        }
    }
    out
}

fn stalls(view: &ShardView) -> Vec<Stall> {
    let stall = |turn: &ringway_shards::set::StalledTurn| Stall {
        began_ms: turn.began_ms,
        took_us: turn.took_us,
        completions: turn.completions,
        messages: turn.messages,
        results: turn.results,
        had_timers: turn.had_timers,
        has_trimmed: turn.has_trimmed,
    };
    view.stalls.iter().map(stall).collect()
}

type Row = (&'static str, fn(&ShardView) -> u64);

/// Every row: what the core owns, what is with the kernel, what waits between threads, how turns go.
const ROWS: &[Row] = &[
    ("core_sockets", |v| v.audit.core.sockets),
    ("core_handshakes", |v| v.audit.core.handshakes),
    ("core_sources", |v| v.audit.core.sources),
    ("core_pipelined_bytes", |v| v.audit.core.pipelined_bytes),
    ("core_sessions", |v| v.audit.core.sessions),
    ("core_streams", |v| v.audit.core.streams),
    ("core_timers", |v| v.audit.core.timers),
    ("core_queued_bytes", |v| v.audit.core.queued_bytes),
    ("core_batches_in_flight", |v| v.audit.core.batches_in_flight),
    ("core_chunks", |v| v.audit.core.chunks),
    ("core_dials", |v| v.audit.core.dials),
    ("core_local_ports", |v| v.audit.core.local_ports),
    ("core_virtual_ports", |v| v.audit.core.virtual_ports),
    ("core_links", |v| v.audit.core.links),
    ("core_announced", |v| v.audit.core.announced),
    ("ring_descriptors", |v| v.audit.descriptors),
    ("ring_sends_in_flight", |v| v.audit.sends_in_flight),
    ("ring_connects_in_flight", |v| v.audit.connects_in_flight),
    ("ring_handovers_in_flight", |v| v.audit.hand_overs_in_flight),
    ("ring_receives_starved", |v| v.audit.receives_starved),
    ("ring_blocks_leased", |v| v.audit.blocks_leased),
    ("ring_zero_copy_bytes", |v| v.ring.zero_copy_bytes_current),
    ("ring_overflows", |v| v.ring.completions_overflowed),
    ("mailbox_messages", |v| v.audit.mailbox_messages),
    ("outbox_messages", |v| v.audit.outbox_messages),
    ("jobs", |v| v.audit.jobs),
    ("jobs_waiting", |v| v.data.jobs_waiting_current),
    ("jobs_stalled", |v| v.data.jobs_stalled),
    ("connections", |v| v.audit.connections),
    ("turns", |v| v.data.turns),
    ("turns_slept", |v| v.data.sleeps),
    ("turns_stalled", |v| v.data.turns_stalled),
    ("turn_longest_us", |v| v.data.turn_longest_us),
    ("trims", |v| v.data.trims),
];
