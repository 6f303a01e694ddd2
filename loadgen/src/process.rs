//! Threads of the generator and its host.
//!
//! Here: the processor time of the calling thread and its core, the memory that is free. Not here: looks at
//! other processes (`ringway_tuning`), anything the relay says about itself.

use std::fs;
use std::io;
use std::time::Duration;

pub use ringway_tuning::ProcessSample;

/// Returns the processor time of the calling thread, zero where the kernel does not count it.
#[must_use]
pub fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(first_number(&text).unwrap_or(0))
}

/// Returns the memory that programs can still take without swapping.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field_kib(&text, "MemAvailable:").map(|kib| kib * 1_024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    first_number(line)
}

/// Pins the calling thread to a core.
///
/// # Errors
/// When there is no such core, or this process may not use it.
pub fn pin(cpu: u32) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    let place = usize::try_from(cpu).unwrap_or(usize::MAX);
    // An empty set is refused by the kernel.
    if place < rustix::thread::CpuSet::MAX_CPU {
        set.set(place);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
