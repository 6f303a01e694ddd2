//! Verdicts on what runs the shards: the clock, pages of memory, processors.
//!
//! Here: whatever makes a thread of the relay wait that has work. Not here: what the network has.

use super::{Check, mebibytes};
use crate::check::{option_text, unknown};
use crate::finding::Finding;
use crate::machine::Machine;

pub(super) fn clock_source(machine: &Machine) -> Finding {
    let check = Check {
        name: "clock",
        measured: machine.clock_source.clone().unwrap_or_else(unknown),
        needed: "one that is read without the kernel".to_owned(),
        why: "the relay reads the time each turn; from hpet or acpi_pm that is a system call of a microsecond",
    };
    match machine.clock_source.as_deref() {
        None => check.unknown("/sys/devices/system/clocksource"),
        Some("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies") => check.warn(
            "see with `dmesg | grep -i tsc` why the kernel does not trust the processor's own clock",
        ),
        Some(_) => check.pass(),
    }
}

pub(super) fn huge_pages(machine: &Machine) -> Finding {
    let check = Check {
        name: "huge_pages",
        measured: machine.huge_pages.clone().unwrap_or_else(unknown),
        needed: "madvise or never".to_owned(),
        why: "with always the kernel makes 2 MiB of what needs 4 KiB, and stops threads while it looks for them",
    };
    match machine.huge_pages.as_deref() {
        None => check.unknown("/sys/kernel/mm/transparent_hugepage/enabled"),
        Some("always") => {
            check.warn("run `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`")
        }
        Some(_) => check.pass(),
    }
}

pub(super) fn swap(machine: &Machine) -> Finding {
    let check = Check {
        name: "swap",
        measured: machine.swap.map_or_else(unknown, |bytes| {
            format!(
                "{}, swappiness {}",
                mebibytes(bytes),
                option_text(machine.swappiness)
            )
        }),
        needed: format!("none, or swappiness of at most {SWAPPINESS_MAX}"),
        why: "a shard that waits for a page from a disk lets all of its sessions wait",
    };
    match (machine.swap, machine.swappiness) {
        (None, _) => check.unknown("/proc/meminfo"),
        (Some(0), _) => check.pass(),
        (Some(_), None) => check.unknown("/proc/sys/vm/swappiness"),
        (Some(_), Some(value)) if value > SWAPPINESS_MAX => check.warn(format!(
            "run `swapoff -a`, or `sysctl vm.swappiness={SWAPPINESS_MAX}`"
        )),
        (Some(_), Some(_)) => check.pass(),
    }
}

pub(super) fn numa(machine: &Machine) -> Finding {
    let check = Check {
        name: "numa",
        measured: format!(
            "{} nodes, balancing {}",
            option_text(machine.numa_nodes),
            option_text(machine.numa_balancing)
        ),
        needed: "one node, or balancing 0".to_owned(),
        why: "balancing unmaps pages to see who uses them, and the relay's threads are bound to their cores anyway",
    };
    match (machine.numa_nodes, machine.numa_balancing) {
        // A kernel without nodes has neither file.
        (None | Some(0 | 1), _) | (_, Some(0)) => check.pass(),
        (Some(_), None) => check.unknown("/proc/sys/kernel/numa_balancing"),
        (Some(_), Some(_)) => check.warn("run `sysctl kernel.numa_balancing=0`"),
    }
}

pub(super) fn governor(machine: &Machine) -> Finding {
    let is_slow = |name: &String| !matches!(name.as_str(), "performance" | "schedutil");
    let check = Check {
        name: "governor",
        measured: match machine.governors.is_empty() {
            true => "none, as on virtual machines".to_owned(),
            false => machine.governors.join(" "),
        },
        needed: "performance, or schedutil".to_owned(),
        why: "a core that sleeps between messages begins each burst at its lowest frequency",
    };
    match machine.governors.iter().any(is_slow) {
        true => check.warn("run `cpupower frequency-set -g performance`"),
        false => check.pass(),
    }
}

pub(super) fn throttling(machine: &Machine) -> Finding {
    let check = Check {
        name: "throttling",
        measured: machine.throttled.map_or_else(
            || "no limit of processor time to be seen".to_owned(),
            |count| format!("stopped {count} times"),
        ),
        needed: "never stopped".to_owned(),
        why: "a container that has used its share up stands still for the rest of each 100 ms",
    };
    match machine.throttled {
        Some(count) if count > 0 => check.warn(
            "raise the container's processor limit (cpu.max), or have no more shards than it allows cores",
        ),
        _ => check.pass(),
    }
}

/// What the kernel may swap before it drops what it can read again.
const SWAPPINESS_MAX: u64 = 10;
