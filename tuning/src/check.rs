//! The verdicts.
//!
//! Here: one function a check, from facts and target to a [`Finding`]. Not here: reading the host.
//!
//! Every finding says what was measured, what is needed, what the difference costs, and the fix.

mod builder;
mod machine;

use crate::finding::{Finding, Verdict};
use crate::host::{Host, Limit};
use builder::Check;

pub use machine::judge_machine;
pub(crate) use machine::sessions as sessions_of;

/// What the relay is meant to hold and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Shards of the relay.
    pub shards: u32,
    /// Sessions each shard may hold.
    pub sessions_max: u32,
    /// Connections the kernel is to hold before the relay accepts them.
    pub backlog: u32,
    /// Port the relay listens on.
    pub listen_port: u16,
    /// Congestion control the relay asks for.
    pub congestion: Congestion,
}

/// Congestion control the relay asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Congestion {
    /// `cubic` where it may be used, else the host's default.
    Automatic,
    /// This one and no other.
    Named(String),
    /// The host's default.
    System,
}

/// Judges a host.
#[must_use]
pub fn judge(host: &Host, target: &Target) -> Vec<Finding> {
    vec![
        kernel(host),
        io_uring(host),
        nofile(host, target),
        somaxconn(host, target),
        ports(host, target),
        congestion(host, target),
    ]
}

/// Returns whether this host lets the process choose the congestion control `name`.
///
/// Source: tcp(7), `TCP_CONGESTION`: unprivileged processes choose among the allowed ones, those with
/// `CAP_NET_ADMIN` among all that are available.
#[must_use]
pub fn is_congestion_usable(host: &Host, name: &str) -> bool {
    let has = |names: &[String]| names.iter().any(|other| other == name);
    has(&host.congestion_allowed)
        || (host.has_capability(CAP_NET_ADMIN) && has(&host.congestion_available))
}

fn kernel(host: &Host) -> Finding {
    let check = |why| Check {
        name: "kernel",
        measured: version_text(host.kernel),
        needed: "6.1, better 6.12".to_owned(),
        why,
    };
    match host.kernel {
        None => check("the version could not be read").warn("see `uname -r`"),
        Some(version) if version < KERNEL_MIN => {
            check("the data plane needs DEFER_TASKRUN (6.1) and multishot receive (6.0)")
                .fail("boot a kernel of 6.1 or newer")
        }
        Some(version) if version < KERNEL_INCREMENTAL => {
            check("without incremental buffer rings (6.12) small reads take a whole buffer each")
                .warn("boot a kernel of 6.12 or newer for the full speed")
        }
        Some(_) => check("every feature of the data plane is there").pass(),
    }
}

fn io_uring(host: &Host) -> Finding {
    let is_member = host
        .io_uring_group
        .is_some_and(|group| group >= 0 && host.groups.contains(&group));
    let is_allowed = host.has_capability(CAP_SYS_ADMIN) || is_member;
    let check = |why| Check {
        name: "io_uring",
        measured: host.io_uring_disabled.map_or_else(
            || "no kernel.io_uring_disabled (before 6.6 there is none)".to_owned(),
            |value| format!("kernel.io_uring_disabled = {value}"),
        ),
        needed: "0, or 1 with the right to use it".to_owned(),
        why,
    };
    match host.io_uring_disabled {
        None | Some(0) => check("every process may make rings").pass(),
        Some(1) if is_allowed => check("this process may make rings").pass(),
        Some(1) => check(
            "only privileged processes and one group may make rings, and the relay is made of them",
        )
        .fail(
            "run `sysctl kernel.io_uring_disabled=0`, or put the relay's user into the group of \
             kernel.io_uring_group",
        ),
        Some(_) => check("no process may make rings, and the relay is made of them")
            .fail("run `sysctl kernel.io_uring_disabled=0`"),
    }
}

fn nofile(host: &Host, target: &Target) -> Finding {
    let process = files_of_process(target);
    let needed = nofile_needed(target);
    let check = Check {
        name: "nofile",
        measured: limit_text(host.nofile, |limit| limit.hard, "open files"),
        needed: format!("{needed}"),
        why: "the kernel allows a ring's socket table no more entries than this limit",
    };
    match host.nofile.map(|limit| limit.hard) {
        None => check.warn("see `ulimit -Hn`"),
        Some(Some(hard)) if hard < needed => check.fail(format!(
            "{}{}",
            host.setter.files_fix(needed),
            match hard.saturating_sub(SPARE_SLOTS) {
                sessions if hard >= process && sessions > 0 =>
                    format!(", or set limits.sessions_max to {sessions}"),
                _ => String::new(),
            }
        )),
        Some(_) => check.pass(),
    }
}

/// Returns the limit of open files that the relay needs.
///
/// Sockets live in the tables of the rings alone: the process needs descriptors for its fixed parts, and
/// every table as many slots as the limit says.
pub(crate) fn nofile_needed(target: &Target) -> u64 {
    let table = u64::from(target.sessions_max) + SPARE_SLOTS;
    table.max(files_of_process(target))
}

fn files_of_process(target: &Target) -> u64 {
    FILES_FIXED + FILES_PER_SHARD * u64::from(target.shards)
}

fn somaxconn(host: &Host, target: &Target) -> Finding {
    let backlog = i64::from(target.backlog);
    let check = Check {
        name: "somaxconn",
        measured: option_text(host.somaxconn),
        needed: format!("tcp.backlog = {backlog}"),
        why: "a reconnect storm longer than the kernel's queue is dropped and retried after 1 s",
    };
    match host.somaxconn {
        None => check.warn("see `sysctl net.core.somaxconn`"),
        Some(value) if value < backlog => check.warn(format!(
            "run `sysctl net.core.somaxconn={backlog}`, or lower tcp.backlog"
        )),
        Some(_) => check.pass(),
    }
}

fn ports(host: &Host, target: &Target) -> Finding {
    let port = target.listen_port;
    let is_within = |(first, last): &(u16, u16)| (*first..=*last).contains(&port);
    let is_reserved = host.ports_reserved.iter().any(is_within);
    let (verdict, why, fix) = match &host.port_range {
        None => (
            Verdict::Warn,
            "the range could not be read".to_owned(),
            "see `sysctl net.ipv4.ip_local_port_range`".to_owned(),
        ),
        Some(range) if port != 0 && is_within(range) && !is_reserved => (
            Verdict::Warn,
            format!("an outgoing connection may hold port {port} when the relay starts"),
            format!(
                "run `sysctl net.ipv4.ip_local_reserved_ports={port}`, or listen below the range"
            ),
        ),
        Some((first, last)) if u32::from(last - first) + 1 < PORTS_MIN => (
            Verdict::Warn,
            "outgoing connections to one address run out of ports early".to_owned(),
            "run `sysctl net.ipv4.ip_local_port_range=\"32768 60999\"`".to_owned(),
        ),
        Some(_) => (
            Verdict::Pass,
            "outgoing connections have ports and leave the relay its own".to_owned(),
            String::new(),
        ),
    };
    Finding {
        check: "port_range",
        verdict,
        measured: host
            .port_range
            .map_or_else(unknown, |(first, last)| format!("{first} to {last}")),
        needed: format!("{PORTS_MIN} ports, the relay's own not among them"),
        why,
        fix,
    }
}

fn congestion(host: &Host, target: &Target) -> Finding {
    let default = host.congestion_default.as_deref().unwrap_or("unknown");
    let is_there = |name: &str| host.congestion_available.iter().any(|other| other == name);
    let (wanted, is_strict) = match &target.congestion {
        Congestion::Automatic => ("cubic", false),
        Congestion::Named(name) => (name.as_str(), true),
        Congestion::System => (default, false),
    };
    let is_usable = wanted == default || is_congestion_usable(host, wanted);
    let fix = match (is_usable, is_there(wanted)) {
        (true, _) => String::new(),
        (false, true) => format!(
            "run `sysctl net.ipv4.tcp_allowed_congestion_control=\"{} {wanted}\"`, or give the relay \
             CAP_NET_ADMIN",
            host.congestion_allowed.join(" ")
        ),
        (false, false) => {
            format!("run `modprobe tcp_{wanted}`, or set tcp.congestion to \"system\"")
        }
    };
    let why = match is_usable {
        true => format!("connections of the relay use {wanted}"),
        false if is_strict => format!("this process may not choose {wanted}"),
        false => format!(
            "this process may not choose {wanted}, so {default} is used; bbr costs 1.4 to 2.2 times \
             the CPU on a LAN"
        ),
    };
    Finding {
        check: "congestion",
        verdict: match (is_usable, is_strict) {
            (true, _) => Verdict::Pass,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Warn,
        },
        measured: format!(
            "default {default}, allowed {}, available {}",
            list_text(&host.congestion_allowed),
            list_text(&host.congestion_available)
        ),
        needed: wanted.to_owned(),
        why,
        fix,
    }
}

fn version_text(version: Option<(u32, u32)>) -> String {
    version.map_or_else(unknown, |(major, minor)| format!("{major}.{minor}"))
}

fn limit_text(limit: Option<Limit>, pick: fn(&Limit) -> Option<u64>, unit: &str) -> String {
    match limit.as_ref().map(pick) {
        None => unknown(),
        Some(None) => "unlimited".to_owned(),
        Some(Some(value)) => format!("{value} {unit}"),
    }
}

fn option_text(value: Option<impl ToString>) -> String {
    value.map_or_else(unknown, |value| value.to_string())
}

/// What stands for a fact that could not be read.
pub(crate) fn unknown() -> String {
    "unknown".to_owned()
}

fn list_text(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(" "),
    }
}

/// Oldest kernel the data plane runs on: `IORING_SETUP_DEFER_TASKRUN`.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// First kernel with incremental provided buffer rings.
const KERNEL_INCREMENTAL: (u32, u32) = (6, 12);

/// Descriptors of the process besides sessions: standard streams, admin, key, control runtime.
const FILES_FIXED: u64 = 64;

/// Descriptors of each shard besides sessions: rings, event descriptors, listener.
const FILES_PER_SHARD: u64 = 16;

/// Slots of each ring's socket table that stay free.
const SPARE_SLOTS: u64 = 1;

/// Ports for outgoing connections under which a host is short: a quarter of the usual range.
const PORTS_MIN: u32 = 8_192;

// Source: capabilities(7), numbers in linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

#[cfg(test)]
mod tests;
