//! Memory of the process.
//!
//! Here: the numbers of the kernel, and a profile by owner: what each shard counts of what it holds, times
//! the size of each, in the format of pprof. Not here: a profile by stack, which an allocator that samples
//! would be needed for; why there is none stands in docs/decisions.md.
//!
//! Source: `proc_pid_status(5)`, whose numbers are KiB.

use std::io;
use std::time::{Duration, SystemTime};

use ringway_shards::memory::{self, Term};
use serde::Serialize;

use super::encode::{self, Kind, Line, Profile, Stack};
use crate::control::ShardView;

/// Name and version of the document; fields may be added, none changes its meaning or leaves.
const SCHEMA: &str = "ringway-heap/1";

/// The document of `/debug/heap`. What the kernel does not say is null.
#[derive(Debug, Serialize)]
pub(super) struct Heap {
    schema: &'static str,
    /// In memory now.
    rss_bytes: Option<u64>,
    /// The most that was.
    rss_bytes_peak: Option<u64>,
    /// Of what is in memory, that which no file stands behind: heap, stacks, receive memory.
    anonymous_bytes: Option<u64>,
    /// Address space.
    virtual_bytes: Option<u64>,
}

/// Returns the numbers of `/proc/self/status`.
pub(super) fn document(status: &str) -> Heap {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib: u64 = line?
            .strip_prefix(':')?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?;
        kib.checked_mul(1_024)
    };
    Heap {
        schema: SCHEMA,
        rss_bytes: bytes("VmRSS"),
        rss_bytes_peak: bytes("VmHWM"),
        anonymous_bytes: bytes("RssAnon"),
        virtual_bytes: bytes("VmSize"),
    }
}

/// Returns the memory of the process by owner: shard, holder, what it is; what nobody counts is on its own,
/// so that all of it is what the kernel says.
///
/// # Errors
///
/// None but what compressing into memory may report.
pub(super) fn profile(shards: &[ShardView], heap: &Heap) -> io::Result<Vec<u8>> {
    let mut stacks: Vec<Stack> = Vec::new();
    for view in shards {
        let shard = format!("shard {}", view.shard);
        let terms = memory::held(&view.audit);
        let some = terms.iter().filter(|term| term.count > 0);
        stacks.extend(some.map(|term| of_term(&shard, term)));
    }
    let counted: u64 = stacks.iter().map(|stack| stack.bytes).sum();
    let rest = heap.anonymous_bytes.unwrap_or(0).saturating_sub(counted);
    if rest > 0 {
        let rest_of = "threads, pools, control plane, services, what the allocator keeps";
        stacks.push(stack(&["the process", rest_of], 1, rest));
    }
    encode::gzip(&Profile {
        kind: Kind::Heap,
        stacks,
        started: SystemTime::now(),
        duration: Duration::ZERO,
        period: Duration::ZERO,
    })
}

fn of_term(shard: &str, term: &Term) -> Stack {
    stack(&[shard, term.holder, term.name], term.count, term.bytes())
}

/// Returns a stack of owners, the outermost first.
fn stack(owners: &[&str], count: u64, bytes: u64) -> Stack {
    let line = |owner: &&str| {
        vec![Line {
            function: (*owner).to_owned(),
            system_name: (*owner).to_owned(),
            file: String::new(),
            line: 0,
        }]
    };
    Stack {
        frames: owners.iter().rev().map(line).collect(),
        thread: owners
            .first()
            .map_or_else(String::new, |owner| (*owner).to_owned()),
        count,
        bytes,
    }
}
