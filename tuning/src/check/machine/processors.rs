//! Verdicts on what runs the shards: the clock, pages of memory, processors.
//!
//! Here: whatever makes a thread of the relay wait that has work. Not here: what the network has, what
//! control groups take away (`memory`).

use super::{Check, mebibytes, option_text, unknown};
use crate::check::Target;
use crate::finding::Finding;
use crate::machine::{DAEMONS_OF_CLOCK, Machine};

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

pub(super) fn idle_states(machine: &Machine) -> Finding {
    let sleeps = &machine.cores.sleeps;
    let deepest = sleeps.last();
    let check = Check {
        name: "idle_states",
        measured: deepest.map_or_else(
            || "none to be seen, as on virtual machines".to_owned(),
            |(latency_us, name)| format!("down to {name}, {latency_us} us to wake"),
        ),
        needed: format!("at most {WAKE_MAX_US} us to wake"),
        why: "a core that has slept deeper adds the time it takes to wake to the first message after a pause",
    };
    match deepest {
        Some((latency_us, _)) if *latency_us > WAKE_MAX_US => check.warn(format!(
            "run `cpupower idle-set -D {}`; it saves less power",
            WAKE_MAX_US + 1
        )),
        _ => check.pass(),
    }
}

pub(super) fn energy(machine: &Machine) -> Finding {
    let values = &machine.cores.energy;
    // A number is energy_perf_bias, where 6 is "normal"; words are energy_performance_preference.
    let is_saving = |value: &String| match value.parse::<u64>() {
        Ok(bias) => bias > ENERGY_BIAS_MAX,
        Err(_) => matches!(value.as_str(), "power" | "balance_power"),
    };
    let check = Check {
        name: "energy",
        measured: match values.is_empty() {
            true => "no preference to be seen, as on virtual machines".to_owned(),
            false => values.join(" "),
        },
        needed: format!("a preference for speed, or a bias of at most {ENERGY_BIAS_MAX}"),
        why: "a processor that prefers to save raises its frequency late, after the burst that needed it",
    };
    match values.iter().any(is_saving) {
        true => check.warn("run `cpupower set -b 0`, or `x86_energy_perf_policy performance`"),
        false => check.pass(),
    }
}

pub(super) fn siblings(machine: &Machine, target: &Target) -> Finding {
    let (physical, threads) = (machine.cores.physical, machine.cores.threads);
    let shards = u64::from(target.shards);
    let check = Check {
        name: "smt",
        measured: physical
            .zip(threads)
            .map_or_else(unknown, |(physical, threads)| {
                format!("{physical} cores with {threads} threads")
            }),
        needed: format!("{shards} cores for {shards} shards"),
        why: "two shards on the threads of one core share its caches and units, and each is slower than alone",
    };
    match (physical, threads) {
        (Some(physical), Some(threads)) if threads > physical && shards > physical => {
            check.warn(format!(
                "start the relay with --shards {physical}, or measure that {shards} carry more here"
            ))
        }
        (Some(_), Some(_)) => check.pass(),
        _ => check.unknown("/sys/devices/system/cpu/*/topology/thread_siblings_list"),
    }
}

pub(super) fn time_sync(machine: &Machine) -> Finding {
    let process = &machine.process;
    let is_of_clock = |name: &&String| DAEMONS_OF_CLOCK.contains(&name.as_str());
    let daemon = process.daemons.iter().find(is_of_clock);
    let check = Check {
        name: "time_sync",
        measured: match (process.is_timesync_done, daemon) {
            (Some(true), _) => "a clock set by systemd-timesyncd".to_owned(),
            (_, Some(name)) => format!("{name} running"),
            (Some(false), None) => "a clock not yet set by systemd-timesyncd".to_owned(),
            (None, None) => unknown(),
        },
        needed: "a clock that is right within 120 s".to_owned(),
        why: "open requests carry the time, and a destination whose clock is further away refuses them",
    };
    match (process.is_timesync_done, daemon) {
        (Some(true), _) => check.pass(),
        (_, Some(name)) if name != TIMESYNC => check.pass(),
        (Some(false), _) => check.warn("see with `timedatectl timesync-status` whether its server answers"),
        _ => check.warn(
            "see with `timedatectl` or `chronyc tracking`: no daemon for it is to be seen here, and a container \
             does not show its host's",
        ),
    }
}

/// Longest time that a core may take to wake, us: twice what a round trip of 64 bytes takes on cores that
/// sleep lightly.
///
/// Source: docs/internals/uring.md, finding 2.
const WAKE_MAX_US: u64 = 100;

/// Largest `energy_perf_bias` that is no saving: "normal".
///
/// Source: Documentation/admin-guide/pm/intel_epb.rst.
const ENERGY_BIAS_MAX: u64 = 6;

/// The clock's daemon that tells whether it has done its work.
const TIMESYNC: &str = "systemd-timesyn";

/// What the kernel may swap before it drops what it can read again.
const SWAPPINESS_MAX: u64 = 10;
