//! Verdicts on what decides how much a relay holds and how evenly it runs.
//!
//! Here: files of the host, TCP memory, queues, connection tracking. Below: rings (`rings`), memory and
//! control groups (`memory`), connections and ports (`connections`), their buffers (`buffers`), network cards
//! (`cards`), clock, pages and processors (`processors`). Not here: what a relay cannot start without (the
//! module above).
//!
//! None of it keeps a relay from starting, so a check fails only where the target cannot be reached.

mod buffers;
mod cards;
mod connections;
mod memory;
mod processors;
mod rings;

use super::builder::Check;
use super::{SPARE_SLOTS, Target, option_text, unknown};
use crate::finding::Finding;
use crate::machine::{Machine, PAGE_BYTES};

/// Judges the machine: first what the relay is made of and stands on, then what goes through it.
#[must_use]
pub fn judge_machine(machine: &Machine, target: &Target) -> Vec<Finding> {
    vec![
        rings::ring(machine),
        rings::memlock(machine, target),
        rings::map_count(machine, target),
        nr_open(machine, target),
        file_max(machine, target),
        memory::memory(machine, target),
        memory::group_memory(machine, target),
        memory::group_cores(machine, target),
        memory::throttling(machine),
        memory::tasks(machine, target),
        connections::backlog(machine, target),
        connections::listen_drops(machine),
        syn_queue(machine, target),
        connections::ports_taken(machine),
        connections::ports_bound(machine),
        connections::time_wait(machine),
        connections::fin_timeout(machine),
        orphans(machine, target),
        connections::table(machine, target),
        conntrack(machine, target),
        connections::tracking_table(machine, target),
        tcp_memory(machine, target),
        buffers::sizes(machine, target),
        buffers::shortage(machine),
        buffers::options(machine),
        buffers::unsent(machine),
        buffers::pacing(machine, target),
        idle_restart(machine),
        mtu_probing(machine),
        softnet(machine),
        cards::queues(machine, target),
        cards::interrupts(machine, target),
        cards::losses(machine),
        cards::mtu(machine),
        cards::reverse_path(machine),
        cards::firewall(machine),
        cards::keepalive(machine),
        processors::clock_source(machine),
        processors::time_sync(machine),
        processors::huge_pages(machine),
        processors::swap(machine),
        processors::numa(machine),
        processors::governor(machine),
        processors::idle_states(machine),
        processors::energy(machine),
        processors::siblings(machine, target),
    ]
}

fn nr_open(machine: &Machine, target: &Target) -> Finding {
    let needed = u64::from(target.sessions_max).saturating_add(SPARE_SLOTS);
    let check = Check {
        name: "nr_open",
        measured: option_text(machine.nr_open),
        needed: format!("{needed}"),
        why: "no limit of open files goes beyond it, and a ring's socket table no further than that",
    };
    match machine.nr_open {
        None => check.unknown("/proc/sys/fs/nr_open"),
        Some(value) if value < needed => check.fail(format!(
            "run `sysctl fs.nr_open={needed}`, or have more shards with fewer sessions each"
        )),
        Some(_) => check.pass(),
    }
}

fn file_max(machine: &Machine, target: &Target) -> Finding {
    let needed = sessions(target).saturating_add(FILES_SPARE);
    let left = machine.file_max.zip(machine.files_open);
    let left = left.map(|(most, open)| most.saturating_sub(open));
    let check = Check {
        name: "file_max",
        measured: left.map_or_else(unknown, |left| format!("{left} free")),
        needed: format!("{needed}"),
        why: "each session is an open file of the host, in a ring's table too; past it accepts fail with ENFILE",
    };
    match left {
        None => check.unknown("/proc/sys/fs/file-max and file-nr"),
        Some(left) if left < needed => {
            let open = machine.files_open.unwrap_or(0);
            check.fail(format!(
                "run `sysctl fs.file-max={}`",
                needed.saturating_add(open)
            ))
        }
        Some(_) => check.pass(),
    }
}

fn tcp_memory(machine: &Machine, target: &Target) -> Finding {
    let needed = sessions(target).saturating_mul(SESSION_TCP_BYTES);
    let check = Check {
        name: "tcp_mem",
        measured: machine
            .tcp_memory
            .map_or_else(unknown, |[_, pressure, end]| {
                format!(
                    "pressure at {}, end at {}",
                    mebibytes(pressure),
                    mebibytes(end)
                )
            }),
        needed: mebibytes(needed),
        why: "a page of buffer for each session at once; under pressure windows shrink, at the end segments are \
              dropped",
    };
    let pages = needed.div_ceil(PAGE_BYTES);
    let fix = || {
        let end = pages.saturating_mul(2);
        format!(
            "run `sysctl net.ipv4.tcp_mem=\"{pages} {pages} {end}\"` where there is that much memory"
        )
    };
    match machine.tcp_memory {
        None => check.unknown("/proc/sys/net/ipv4/tcp_mem"),
        // No failure: sessions that say nothing hold no page.
        Some([_, pressure, _]) if pressure < needed => check.warn(fix()),
        Some(_) => check.pass(),
    }
}

fn orphans(machine: &Machine, target: &Target) -> Finding {
    let needed = sessions(target);
    let now = machine.orphans.map_or_else(unknown, |now| now.to_string());
    let check = Check {
        name: "orphans",
        measured: format!("at most {}, now {now}", option_text(machine.orphans_max)),
        needed: format!("{needed}"),
        why: "when a relay ends, its sockets are closed at once; beyond this many the kernel resets them and what \
              they had still to send is lost",
    };
    match machine.orphans_max {
        None => check.unknown("/proc/sys/net/ipv4/tcp_max_orphans"),
        Some(most) if most < needed => {
            check.warn(format!("run `sysctl net.ipv4.tcp_max_orphans={needed}`"))
        }
        Some(_) => check.pass(),
    }
}

fn syn_queue(machine: &Machine, target: &Target) -> Finding {
    let backlog = u64::from(target.backlog);
    let check = Check {
        name: "syn_queue",
        measured: format!(
            "syncookies {}, queue {}",
            option_text(machine.syncookies),
            option_text(machine.syn_backlog)
        ),
        needed: format!("syncookies 1, or a queue of {backlog}"),
        why: "without cookies a flood of half-open connections keeps honest peers out",
    };
    match (machine.syncookies, machine.syn_backlog) {
        (None, _) => check.unknown("/proc/sys/net/ipv4/tcp_syncookies"),
        (Some(0), None) => check.unknown("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        (Some(0), Some(queue)) if queue < backlog => check.warn(format!(
            "run `sysctl net.ipv4.tcp_syncookies=1 net.ipv4.tcp_max_syn_backlog={backlog}`"
        )),
        _ => check.pass(),
    }
}

fn softnet(machine: &Machine) -> Finding {
    let check = Check {
        name: "softnet",
        measured: machine
            .softnet_dropped
            .map_or_else(unknown, |count| format!("{count} dropped since the start")),
        needed: "0 dropped".to_owned(),
        why: "a core that gets packets faster than it takes them drops them, and their senders wait for a timer",
    };
    match machine.softnet_dropped {
        None => check.unknown("/proc/net/softnet_stat"),
        Some(0) => check.pass(),
        Some(_) => check.warn(
            "run `sysctl net.core.netdev_max_backlog=10000`, and spread the card's queues over more cores",
        ),
    }
}

fn conntrack(machine: &Machine, target: &Target) -> Finding {
    let sessions = sessions(target);
    let needed = sessions.saturating_mul(2);
    let now = machine
        .conntrack_count
        .map_or_else(unknown, |now| now.to_string());
    let check = Check {
        name: "conntrack",
        measured: machine.conntrack_max.map_or_else(
            || "no table to be seen".to_owned(),
            |most| format!("at most {most}, now {now}"),
        ),
        needed: format!("{needed}, or no tracking"),
        why: "each session stands in the table of connections, and a dead one for up to five days; when it is \
              full, new ones are dropped",
    };
    let fix = || {
        format!(
            "exempt the relay's port from tracking (NOTRACK), or run `sysctl \
             net.netfilter.nf_conntrack_max={needed}`"
        )
    };
    match machine.conntrack_max {
        Some(most) if most < sessions => check.fail(fix()),
        Some(most) if most < needed => check.warn(fix()),
        // Without the module there is no file; a namespace may hide it as well.
        _ => check.pass(),
    }
}

fn idle_restart(machine: &Machine) -> Finding {
    let check = Check {
        name: "idle_restart",
        measured: option_text(machine.slow_start_after_idle),
        needed: "0".to_owned(),
        why: "with 1 a connection that was quiet for a moment begins again with ten segments a round trip",
    };
    match machine.slow_start_after_idle {
        None => check.unknown("/proc/sys/net/ipv4/tcp_slow_start_after_idle"),
        Some(0) => check.pass(),
        Some(_) => check.warn("run `sysctl net.ipv4.tcp_slow_start_after_idle=0`"),
    }
}

fn mtu_probing(machine: &Machine) -> Finding {
    let check = Check {
        name: "mtu_probing",
        measured: option_text(machine.mtu_probing),
        needed: "1".to_owned(),
        why: "with 0 a path that drops large packets without a word stalls its sessions until they time out",
    };
    match machine.mtu_probing {
        None => check.unknown("/proc/sys/net/ipv4/tcp_mtu_probing"),
        Some(0) => check.warn("run `sysctl net.ipv4.tcp_mtu_probing=1`"),
        Some(_) => check.pass(),
    }
}

/// Returns the sessions of all shards together.
pub(crate) fn sessions(target: &Target) -> u64 {
    u64::from(target.shards).saturating_mul(u64::from(target.sessions_max))
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1 << 10))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Files that the rest of the host may still open.
const FILES_SPARE: u64 = 16_384;

/// TCP memory of a session that is sending or receiving, at the least: the kernel counts whole pages.
///
/// Source: Linux 6.18, `sk_mem_pages`.
const SESSION_TCP_BYTES: u64 = PAGE_BYTES;

#[cfg(test)]
mod tests;
