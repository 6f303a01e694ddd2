//! Verdicts on connections before, during and after their life.
//!
//! Here: the listener's queue, ports for outgoing connections, tables that connections are looked up in. Not
//! here: their buffers (`buffers`), the way that their packets take (`paths`).

use super::{Check, option_text, sessions, unknown};
use crate::check::Target;
use crate::finding::Finding;
use crate::machine::Machine;
use crate::tcp::Listening;

pub(super) fn backlog(machine: &Machine, target: &Target) -> Finding {
    let port = target.listen_port;
    let all = machine.sockets.listeners.as_deref();
    let ours = all.map(|all| {
        let is_ours = |one: &&Listening| one.local.port() == port;
        all.iter().filter(is_ours).collect::<Vec<_>>()
    });
    let ours = ours.as_deref();
    let limit = ours.and_then(|ours| ours.iter().map(|one| one.limit).min());
    let fullest = ours.and_then(|ours| ours.iter().map(|one| one.waiting).max());
    let check = Check {
        name: "backlog",
        measured: match (ours, limit) {
            (None, _) => unknown(),
            (Some(_), None) => format!("no listener on port {port} yet"),
            (Some(ours), Some(limit)) => format!(
                "{} on port {port}, at most {limit} wait, now {}",
                match ours.len() {
                    1 => "1 listener".to_owned(),
                    count => format!("{count} listeners"),
                },
                fullest.unwrap_or(0)
            ),
        },
        needed: format!("tcp.backlog = {}", target.backlog),
        why: "a listener keeps the queue that it was made with; connections beyond it are dropped and tried again \
              after 1 s",
    };
    match (ours, limit, fullest) {
        (None, ..) => check.unknown("`ss -ltn` (sock_diag)"),
        (_, Some(limit), _) if limit < target.backlog => check.warn(format!(
            "see that net.core.somaxconn and tcp.backlog are {} at least, then start the relay anew",
            target.backlog
        )),
        (_, Some(limit), Some(waiting)) if waiting > limit / 2 => check.warn(
            "the relay does not keep up with accepting: see its metrics for what its data threads do, and give it more \
             shards",
        ),
        _ => check.pass(),
    }
}

pub(super) fn listen_drops(machine: &Machine) -> Finding {
    let (overflows, drops) = (machine.stack.listen_overflows, machine.stack.listen_drops);
    let check = Check {
        name: "listen_drops",
        measured: overflows
            .zip(drops)
            .map_or_else(unknown, |(overflows, drops)| {
                format!("{drops} dropped since the start, {overflows} of them at a full queue")
            }),
        needed: "0 dropped".to_owned(),
        why: "whoever was dropped here waited a second or more to come in; any listener of the host counts",
    };
    match (overflows, drops) {
        (Some(0), Some(0)) => check.pass(),
        (Some(_), Some(_)) => check.warn(
            "see with `nstat -az TcpExtListenDrops` whether it still grows; if so raise net.core.somaxconn and \
             tcp.backlog",
        ),
        _ => check.unknown("/proc/net/netstat"),
    }
}

pub(super) fn time_wait(machine: &Machine) -> Finding {
    let stack = &machine.stack;
    let waiting = stack.waiting;
    let overflows = stack.waiting_overflows.unwrap_or(0);
    let delay = stack
        .wait_reuse_delay_ms
        .map_or_else(String::new, |delay| format!(" after {delay} ms"));
    let check = Check {
        name: "time_wait",
        measured: format!(
            "{} waiting of {}, reuse {}{delay}, timestamps {}, {overflows} without room",
            option_text(waiting),
            option_text(stack.waiting_max),
            option_text(stack.wait_reuse),
            option_text(stack.timestamps),
        ),
        needed: "room, and ports that are used again".to_owned(),
        why: "who closes first keeps the port for 60 s; when most ports to a destination wait, connects fail with \
              EADDRNOTAVAIL, and what finds no room is closed without the wait",
    };
    let ports = stack
        .port_range
        .map_or(0, |(first, last)| u64::from(last - first) + 1);
    match (waiting, stack.waiting_max, stack.wait_reuse) {
        (None, ..) => check.unknown("/proc/net/sockstat"),
        (_, None, _) => check.unknown("/proc/sys/net/ipv4/tcp_max_tw_buckets"),
        (.., None) => check.unknown("/proc/sys/net/ipv4/tcp_tw_reuse"),
        (_, Some(most), _) if overflows > 0 => check.warn(format!(
            "run `sysctl net.ipv4.tcp_max_tw_buckets={}`",
            most.saturating_mul(2)
        )),
        (_, _, Some(1 | 2)) if stack.timestamps == Some(0) => {
            check.warn("run `sysctl net.ipv4.tcp_timestamps=1`: without them no port is used again")
        }
        (Some(waiting), _, Some(0 | 2)) if waiting > ports / 2 => {
            check.warn("run `sysctl net.ipv4.tcp_tw_reuse=1`")
        }
        _ => check.pass(),
    }
}

pub(super) fn fin_timeout(machine: &Machine) -> Finding {
    let value = machine.stack.fin_timeout_s;
    let check = Check {
        name: "fin_timeout",
        measured: value.map_or_else(unknown, |value| format!("{value} s")),
        needed: format!("at most {FIN_TIMEOUT_MAX_S} s"),
        why: "so long a socket that nobody holds stays in the kernel when its peer does not close, and counts as an \
              orphan",
    };
    match value {
        None => check.unknown("/proc/sys/net/ipv4/tcp_fin_timeout"),
        Some(value) if value > FIN_TIMEOUT_MAX_S => check.warn(format!(
            "run `sysctl net.ipv4.tcp_fin_timeout={FIN_TIMEOUT_MAX_S}`"
        )),
        Some(_) => check.pass(),
    }
}

pub(super) fn ports_taken(machine: &Machine) -> Finding {
    let all = machine.stack.port_range;
    let all = all.map(|(first, last)| u64::from(last - first) + 1);
    let ports = machine.sockets.ports.as_ref();
    let busiest = ports.and_then(|ports| ports.busiest);
    let check = Check {
        name: "ports_taken",
        measured: ports.map_or_else(unknown, |ports| match busiest {
            None => format!("{} ports taken", ports.taken),
            Some((from, to, count)) => {
                format!(
                    "{} ports taken, {count} of them from {from} to {to}",
                    ports.taken
                )
            }
        }),
        needed: all.map_or_else(unknown, |all| {
            format!("at most half of {all} to a destination")
        }),
        why: "past half of the range a connect looks through it for long, and at its end it fails with EADDRNOTAVAIL",
    };
    match (all, ports, busiest) {
        (None, ..) => check.unknown("/proc/sys/net/ipv4/ip_local_port_range"),
        (_, None, _) => check.unknown("/proc/net/tcp or sock_diag"),
        (Some(all), _, Some((from, to, count))) if count > all / 2 => check.warn(format!(
            "see with `ss -tanp src {from} dst {to}` whose they are; give the relay ports of its own \
             (net.ipv4.ip_local_reserved_ports and ports.range)"
        )),
        _ => check.pass(),
    }
}

pub(super) fn ports_bound(machine: &Machine) -> Finding {
    let count = machine.sockets.ports_bound_only;
    let check = Check {
        name: "ports_bound",
        measured: count.map_or_else(
            || "not told (kernels before 6.8 do not)".to_owned(),
            |count| format!("{count} ports held without a connection"),
        ),
        needed: format!("at most {BOUND_ONLY_MAX}"),
        why: "a program that binds and does not connect takes a port from everybody and to every destination; \
              many of them are a leak",
    };
    match count {
        // No list shows them on such a kernel, so nobody can do anything about it.
        None => check.pass(),
        Some(count) if count > BOUND_ONLY_MAX => {
            check.warn("see with `ss -tanp state bound-inactive` (iproute2 6.8) whose they are, and end that program")
        }
        Some(_) => check.pass(),
    }
}

pub(super) fn table(machine: &Machine, target: &Target) -> Finding {
    let sessions = sessions(target);
    let entries = machine.stack.table_entries;
    let check = Check {
        name: "ehash",
        measured: match entries {
            None => "not told (kernels before 6.1 do not)".to_owned(),
            Some(entries) if entries < 0 => {
                format!("{} places, shared with the host", entries.unsigned_abs())
            }
            Some(entries) => format!("{entries} places"),
        },
        needed: format!("{}", sessions.div_ceil(CHAIN_MAX)),
        why: "each packet looks its connection up; with fewer places than connections it walks through a chain of \
              them",
    };
    match entries {
        // Only the kernel's log of its start has it there.
        None => check.pass(),
        Some(entries) if entries.unsigned_abs() < sessions.div_ceil(CHAIN_MAX) => check.warn(
            match entries < 0 {
                false => format!(
                    "boot with thash_entries={}",
                    sessions.next_power_of_two()
                ),
                true => format!(
                    "run `sysctl net.ipv4.tcp_child_ehash_entries={}` on the host before the container's network is \
                     made, or boot with thash_entries= of it",
                    sessions.next_power_of_two()
                ),
            },
        ),
        Some(_) => check.pass(),
    }
}

pub(super) fn tracking_table(machine: &Machine, target: &Target) -> Finding {
    let sessions = sessions(target);
    let buckets = machine.stack.tracking_buckets;
    // Each connection stands in it twice, once for each direction.
    let needed = sessions.saturating_mul(2).div_ceil(TRACKING_CHAIN_MAX);
    let check = Check {
        name: "conntrack_hash",
        measured: buckets.map_or_else(
            || "no table to be seen".to_owned(),
            |buckets| format!("{buckets} places"),
        ),
        needed: format!("{needed}, or no tracking"),
        why: "each packet of a tracked connection looks it up, in a chain that grows with what does not fit",
    };
    match buckets {
        Some(buckets) if buckets < needed => check.warn(format!(
            "exempt the relay's port from tracking (NOTRACK), or run `echo {} > \
             /sys/module/nf_conntrack/parameters/hashsize`",
            needed.next_power_of_two()
        )),
        _ => check.pass(),
    }
}

/// The kernel's own default of `tcp_fin_timeout`, s.
const FIN_TIMEOUT_MAX_S: u64 = 60;

/// Ports without a connection that programs may hold for a moment.
const BOUND_ONLY_MAX: u64 = 500;

/// Connections to a place of the table: two cost a few cache misses a packet more, and the kernel makes no
/// more places than 524,288 by itself.
///
/// Source: Linux 6.18, net/ipv4/tcp.c, `tcp_init`.
const CHAIN_MAX: u64 = 2;

/// Entries to a place of the tracking table; by default the kernel allows as many entries as places.
const TRACKING_CHAIN_MAX: u64 = 4;

#[cfg(test)]
mod tests;
