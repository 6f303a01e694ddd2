//! Verdicts on memory, and on what control groups allow.
//!
//! Here: the sum of what the target holds against the host and against the groups. Not here: TCP's own bounds
//! (`tcp_mem` in the module above).

use ringway_shards::memory::{
    KERNEL_SLOT_BYTES, KERNEL_SOCKET_BYTES, RECEIVE_REST_BYTES, SHARD_FIXED_BYTES, idle_session,
    sum,
};

use super::{Check, mebibytes, option_text, sessions, unknown};
use crate::check::Target;
use crate::finding::Finding;
use crate::machine::Machine;

pub(super) fn memory(machine: &Machine, target: &Target) -> Finding {
    let needed = needed_bytes(target);
    let (all, available) = (machine.process.memory, machine.process.memory_available);
    let text = |bytes: Option<u64>| bytes.map_or_else(unknown, mebibytes);
    let check = Check {
        name: "memory",
        measured: format!("{}, of it {} available", text(all), text(available)),
        needed: sum_text(target),
        why: "what idle sessions cost relay and kernel, queues that fill not counted; beyond it the kernel ends a \
              process, most likely the relay",
    };
    match (all, available) {
        (None, _) => check.unknown("/proc/meminfo"),
        (Some(all), _) if all < needed => check.fail(fewer("add memory", all, target)),
        (_, None) => check.unknown("/proc/meminfo"),
        (_, Some(left)) if left < needed => check.warn(fewer(
            "end what else holds memory here, unless it is the relay itself",
            left,
            target,
        )),
        _ => check.pass(),
    }
}

pub(super) fn group_memory(machine: &Machine, target: &Target) -> Finding {
    let group = &machine.group;
    let needed = needed_bytes(target);
    let kills = group.memory_kills.unwrap_or(0);
    let check = Check {
        name: "cgroup_memory",
        measured: match group.memory_max {
            None => format!("no limit to be seen, {kills} killed for it"),
            Some(most) => format!(
                "at most {}, now {}, stopped {} times, {kills} killed",
                mebibytes(most),
                group.memory_now.map_or_else(unknown, mebibytes),
                group.memory_stops.unwrap_or(0),
            ),
        },
        needed: sum_text(target),
        why: "a control group counts the kernel's memory for sockets too; at its limit buffers shrink, then a \
              process of it is killed",
    };
    match group.memory_max {
        Some(most) if most < needed => check.fail(fewer(
            "raise it (MemoryMax= in the unit, --memory of the container)",
            most,
            target,
        )),
        _ if kills > 0 => check.warn(
            "see `dmesg | grep -i oom` for who was killed, and raise the limit (MemoryMax= in the unit, --memory of \
             the container)",
        ),
        _ => check.pass(),
    }
}

pub(super) fn group_cores(machine: &Machine, target: &Target) -> Finding {
    let milli = machine.group.cores_milli;
    let shards = target.shards;
    let check = Check {
        name: "cgroup_cpu",
        measured: milli.map_or_else(
            || "no limit to be seen".to_owned(),
            |milli| format!("{}.{:02} cores", milli / 1_000, milli % 1_000 / 10),
        ),
        needed: format!("{shards} cores for {shards} shards"),
        why: "shards that use their common share up all stand still until the next period, some 100 ms",
    };
    match milli {
        Some(milli) if milli < u64::from(shards).saturating_mul(1_000) => check.warn(format!(
            "raise it (CPUQuota={}% in the unit, --cpus={shards} for the container), or start the relay with \
             --shards {}",
            u64::from(shards).saturating_mul(100),
            (milli / 1_000).max(1)
        )),
        _ => check.pass(),
    }
}

pub(super) fn throttling(machine: &Machine) -> Finding {
    let check = Check {
        name: "throttling",
        measured: machine.group.throttled.map_or_else(
            || "no limit of processor time to be seen".to_owned(),
            |count| format!("stopped {count} times"),
        ),
        needed: "never stopped".to_owned(),
        why: "a container that has used its share up stands still for the rest of each 100 ms",
    };
    match machine.group.throttled {
        Some(count) if count > 0 => check.warn(
            "raise the container's processor limit (cpu.max), or have no more shards than it allows cores",
        ),
        _ => check.pass(),
    }
}

pub(super) fn tasks(machine: &Machine, target: &Target) -> Finding {
    let most = machine.group.tasks_max;
    let needed = TASKS_FIXED + u64::from(target.shards).saturating_mul(TASKS_PER_SHARD);
    let check = Check {
        name: "tasks",
        measured: most.map_or_else(
            || "no limit to be seen".to_owned(),
            |most| option_text(Some(most)),
        ),
        needed: format!("{needed}"),
        why: "each shard has threads of its own, and a control group that allows no more keeps the relay from \
              starting",
    };
    match most {
        Some(most) if most < needed => check.fail(format!(
            "raise it (TasksMax={needed} in the unit, --pids-limit {needed} for the container)"
        )),
        _ => check.pass(),
    }
}

/// Returns what the target holds when every session is idle, in process and kernel together, bytes.
fn needed_bytes(target: &Target) -> u64 {
    let of_sessions = sessions(target).saturating_mul(session_bytes());
    of_sessions.saturating_add(u64::from(target.shards).saturating_mul(shard_bytes()))
}

fn sum_text(target: &Target) -> String {
    format!(
        "{}: {} sessions of {} bytes, {} shards of {}",
        mebibytes(needed_bytes(target)),
        sessions(target),
        session_bytes(),
        target.shards,
        mebibytes(shard_bytes())
    )
}

/// What to do where there are only so many bytes: get more, or hold fewer sessions.
fn fewer(more: &str, bytes: u64, target: &Target) -> String {
    let fixed = u64::from(target.shards).saturating_mul(shard_bytes());
    let fit = bytes.saturating_sub(fixed) / session_bytes();
    match fit / u64::from(target.shards.max(1)) {
        0 => format!(
            "{more}: not even a session for each of {} shards fits",
            target.shards
        ),
        each => format!("{more}, or set limits.sessions_max to {each}"),
    }
}

const fn session_bytes() -> u64 {
    sum(&idle_session()) + KERNEL_SOCKET_BYTES + KERNEL_SLOT_BYTES
}

const fn shard_bytes() -> u64 {
    SHARD_FIXED_BYTES + RECEIVE_REST_BYTES
}

/// Threads of a relay beside its shards: the control runtime with its pool.
const TASKS_FIXED: u64 = 64;

/// Threads of a shard: data, service, runtime of the services; one to spare.
const TASKS_PER_SHARD: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::machine::tests::assert_verdict;
    use crate::check::tests::target;
    use crate::finding::Verdict;

    #[test]
    fn memory_is_enough_for_idle_sessions() {
        let needed = needed_bytes(&target());
        for (all, left, verdict) in [
            (Some(needed), Some(needed), Verdict::Pass),
            (Some(needed), Some(needed - 1), Verdict::Warn),
            (Some(needed - 1), Some(1), Verdict::Fail),
            (Some(needed), None, Verdict::Warn),
            (None, None, Verdict::Warn),
        ] {
            assert_verdict("memory", verdict, |m| {
                (m.process.memory, m.process.memory_available) = (all, left);
            });
        }
        // The fix fits: half of the sessions in half of what they need.
        let half = needed_bytes(&Target {
            sessions_max: 8_192,
            ..target()
        });
        let found = assert_verdict("memory", Verdict::Fail, |m| {
            m.process.memory = Some(half);
        });
        assert_eq!(found.fix, "add memory, or set limits.sessions_max to 8192");
    }

    #[test]
    fn group_counts_sockets_too() {
        let needed = needed_bytes(&target());
        assert_verdict("cgroup_memory", Verdict::Pass, |m| {
            m.group.memory_max = Some(needed);
        });
        let found = assert_verdict("cgroup_memory", Verdict::Fail, |m| {
            m.group.memory_max = Some(needed - 1);
            m.group.memory_now = Some(5 << 20);
        });
        assert!(
            found.measured.contains("now 5 MiB, stopped 0 times"),
            "{found:?}"
        );
        let found = assert_verdict("cgroup_memory", Verdict::Warn, |m| {
            m.group.memory_kills = Some(2);
        });
        assert!(found.measured.contains("2 killed"), "{found:?}");
        let found = assert_verdict("cgroup_memory", Verdict::Fail, |m| {
            m.group.memory_max = Some(1 << 20);
        });
        assert!(found.fix.contains("not even a session"), "{found:?}");
    }

    #[test]
    fn group_lets_every_shard_run() {
        assert_verdict("cgroup_cpu", Verdict::Pass, |m| {
            m.group.cores_milli = Some(8_000);
        });
        let found = assert_verdict("cgroup_cpu", Verdict::Warn, |m| {
            m.group.cores_milli = Some(1_550);
        });
        assert_eq!(found.measured, "1.55 cores");
        assert!(found.fix.contains("CPUQuota=800%"), "{found:?}");
        assert!(found.fix.ends_with("--shards 1"), "{found:?}");
        assert_verdict("tasks", Verdict::Pass, |m| m.group.tasks_max = Some(96));
        let found = assert_verdict("tasks", Verdict::Fail, |m| m.group.tasks_max = Some(95));
        assert!(found.fix.contains("TasksMax=96"), "{found:?}");
    }
}
