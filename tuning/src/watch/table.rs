//! The counters that a watch compares.
//!
//! Here: where each stands, when its difference is bad, what to say of it. Not here: fill levels (`gauges`).
//!
//! Source: `Documentation/networking/snmp_counter.rst` of the kernel; net/ipv4/proc.c for the names;
//! net/core/net-procfs.c for the columns of `softnet_stat`.

use std::time::Duration;

use super::{Sign, Snapshot, Weight, rate};

/// Where a counter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Lines of `/proc/net/netstat` and `/proc/net/snmp` with this name before the colon.
    Table(File, &'static str),
    /// A column of `/proc/net/softnet_stat`, the first is 0; summed over the cores.
    Softnet(usize),
}

/// A file with a line of names and a line of numbers for each protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    Netstat,
    Snmp,
}

impl Home {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Table(File::Netstat, _) => "/proc/net/netstat",
            Self::Table(File::Snmp, _) => "/proc/net/snmp",
            Self::Softnet(_) => "/proc/net/softnet_stat",
        }
    }
}

/// A counter and what its difference means.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) name: &'static str,
    pub(super) home: Home,
    judged: Judged,
    /// What happened, in words that a number can follow.
    what: &'static str,
    /// What it means and costs.
    costs: &'static str,
    fix: &'static str,
}

/// When a difference is a sign.
#[derive(Debug, Clone, Copy)]
enum Judged {
    /// Always bad.
    Bad,
    /// Bad as far as another counter does not count the same event.
    Beyond(&'static str),
    /// Never more than a note.
    Note,
    /// Bad from a share of another counter on, in thousandths; below it a note.
    Share { of: &'static str, per_mille: u64 },
    /// Never a sign: others are compared with it.
    Silent,
}

/// Returns a sign for each counter that moved, or that cannot be compared.
pub(super) fn signs(before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Vec<Sign> {
    let sign = |counter| sign(counter, before, after, elapsed);
    COUNTERS.iter().filter_map(sign).collect()
}

/// Returns a line for each file with counters that this kernel does not have in it.
pub(super) fn unknowns(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for path in [
        "/proc/net/netstat",
        "/proc/net/snmp",
        "/proc/net/softnet_stat",
    ] {
        let missing: Vec<&str> = COUNTERS
            .iter()
            .filter(|counter| counter.home.path() == path)
            .map(|counter| counter.name)
            .filter(|name| snapshot.counter(name).is_none())
            .collect();
        if !missing.is_empty() {
            lines.push(format!("{} (not in {path})", missing.join(", ")));
        }
    }
    lines
}

fn sign(counter: &Counter, before: &Snapshot, after: &Snapshot, elapsed: Duration) -> Option<Sign> {
    let Counter {
        name,
        home,
        judged,
        what,
        costs,
        fix,
    } = counter;
    let delta = match (before.counter(name), after.counter(name)) {
        // It was missing before as well: that was said when the watch began.
        (None, _) => return None,
        (Some(old), Some(new)) if new >= old => new - old,
        (Some(old), new) => return Some(incomparable(name, *home, old, new)),
    };
    let counted = |other: &str| difference(other, before, after);
    let (delta, weight) = match *judged {
        Judged::Silent => return None,
        Judged::Bad => (delta, Weight::Bad),
        Judged::Note => (delta, Weight::Note),
        Judged::Beyond(other) => (
            delta.saturating_sub(counted(other).unwrap_or(0)),
            Weight::Bad,
        ),
        Judged::Share { of, per_mille } => {
            let all = counted(of).unwrap_or(u64::MAX);
            let is_share = delta.saturating_mul(1_000) >= all.saturating_mul(per_mille);
            let is_much = is_share && delta >= SHARE_COUNT_MIN;
            let weight = if is_much { Weight::Bad } else { Weight::Note };
            (delta, weight)
        }
    };
    if delta == 0 {
        return None;
    }
    let times = if delta == 1 { "time" } else { "times" };
    Some(Sign {
        name,
        weight,
        delta: Some(delta),
        per_second: Some(rate(delta, elapsed)),
        level: None,
        says: format!(
            "{what} {delta} {times} in {:.1} s: {costs}",
            elapsed.as_secs_f64()
        ),
        fix: (*fix).to_owned(),
    })
}

/// Returns how much a counter grew, when both snapshots have it and it did not go backwards.
pub(crate) fn difference(name: &str, before: &Snapshot, after: &Snapshot) -> Option<u64> {
    after.counter(name)?.checked_sub(before.counter(name)?)
}

fn incomparable(name: &'static str, home: Home, old: u64, new: Option<u64>) -> Sign {
    let path = home.path();
    let says = match new {
        None => format!("it is no longer in {path}: nothing is known of this interval"),
        Some(new) => format!(
            "it went back from {old} to {new} in {path}, so it was reset or has wrapped: nothing is known of this \
             interval"
        ),
    };
    Sign {
        name,
        weight: Weight::Unknown,
        delta: None,
        per_second: None,
        level: None,
        says,
        fix: String::new(),
    }
}

/// Events below which a share says nothing: one lost packet of a host at rest is no loss of 100 %.
const SHARE_COUNT_MIN: u64 = 10;

const EXT: Home = Home::Table(File::Netstat, "TcpExt");
const TCP: Home = Home::Table(File::Snmp, "Tcp");
const IP: Home = Home::Table(File::Snmp, "Ip");

/// Raising the ceiling of TCP memory is for a host that has the memory.
const FIX_MEMORY: &str =
    "raise net.ipv4.tcp_mem where the host has the memory, or lower limits.sessions_max";

/// The counters, in the order in which a connection meets them.
///
/// With 1 % of its segments lost, a connection over a round trip of 50 ms carries no more than 356 kB/s
/// (Mathis, for Reno: 1,460 bytes / 50 ms * 1.22 / sqrt(0.01)); a tenth of connects without an answer is no
/// chance.
pub(super) const COUNTERS: &[Counter] = &[
    Counter {
        name: "ListenOverflows",
        home: EXT,
        judged: Judged::Bad,
        what: "a listen queue overflowed",
        costs: "accepts do not keep up; each connection waits 1 s or longer until its SYN is sent again",
        fix: "raise tcp.backlog and net.core.somaxconn (the smaller one counts), or give the relay more shards",
    },
    Counter {
        name: "ListenDrops",
        home: EXT,
        judged: Judged::Beyond("ListenOverflows"),
        what: "a listener dropped a connection that its queue had room for",
        costs: "no memory, no route back, or a full queue of half-open connections; the peer tries again after 1 s",
        fix: "see TCPReqQFullDrop and the memory signs beside it; free memory, or raise net.ipv4.tcp_max_syn_backlog",
    },
    Counter {
        name: "TCPReqQFullDrop",
        home: EXT,
        judged: Judged::Bad,
        what: "a SYN was dropped because too many connections were half open",
        costs: "a flood, or more peers at once than the queue holds; without cookies honest ones are turned away",
        fix: "set net.ipv4.tcp_syncookies=1, and raise net.ipv4.tcp_max_syn_backlog and tcp.backlog",
    },
    Counter {
        name: "TCPReqQFullDoCookies",
        home: EXT,
        judged: Judged::Note,
        what: "a SYN was answered with a cookie because too many connections were half open",
        costs: "the connection works; it loses window scaling and SACK where the peer sends no timestamps",
        fix: "raise net.ipv4.tcp_max_syn_backlog and tcp.backlog if this is no flood",
    },
    Counter {
        name: "SyncookiesFailed",
        home: EXT,
        judged: Judged::Note,
        what: "an ACK came for a connection that nobody knows",
        costs: "late packets of closed connections, or forged ones",
        fix: "",
    },
    Counter {
        name: "TCPSynRetrans",
        home: EXT,
        judged: Judged::Share {
            of: "ActiveOpens",
            per_mille: 100,
        },
        what: "a SYN or its answer was sent again",
        costs: "the other end did not answer within 1 s: it is gone, full, or the path loses packets",
        fix: "see whether one destination is down; on the other host run the same watch for ListenOverflows",
    },
    Counter {
        name: "AttemptFails",
        home: TCP,
        judged: Judged::Note,
        what: "a connection was refused or given up before it stood",
        costs: "nobody listens there, or a peer went away in the middle of the handshake",
        fix: "",
    },
    Counter {
        name: "TCPTimeWaitOverflow",
        home: EXT,
        judged: Judged::Bad,
        what: "a closed connection found no room among those in TIME_WAIT",
        costs: "late packets of it can reach the next connection with the same ports",
        fix: "raise net.ipv4.tcp_max_tw_buckets",
    },
    Counter {
        name: "TCPMemoryPressures",
        home: EXT,
        judged: Judged::Bad,
        what: "all TCP buffers together came under memory pressure",
        costs: "windows shrink on every connection of the host, and throughput with them",
        fix: FIX_MEMORY,
    },
    Counter {
        name: "TCPAbortOnMemory",
        home: EXT,
        judged: Judged::Bad,
        what: "a connection was cut off for lack of TCP memory or because of too many orphans",
        costs: "what it had still to send is lost",
        fix: "raise net.ipv4.tcp_mem, or net.ipv4.tcp_max_orphans when many connections had just been closed",
    },
    Counter {
        name: "TCPAbortFailed",
        home: EXT,
        judged: Judged::Bad,
        what: "a reset could not be sent",
        costs: "no memory for one packet; the peer learns nothing and waits for its own timeout",
        fix: FIX_MEMORY,
    },
    Counter {
        name: "RcvPruned",
        home: EXT,
        judged: Judged::Bad,
        what: "received data was thrown away because a socket's buffer was over its limit",
        costs: "the sender sends it again, slower",
        fix: "raise the last number of net.ipv4.tcp_rmem; if memory signs stand beside it, net.ipv4.tcp_mem",
    },
    Counter {
        name: "PruneCalled",
        home: EXT,
        judged: Judged::Note,
        what: "a socket's receive buffer was packed together to make room",
        costs: "work for the processor; nothing is lost",
        fix: "",
    },
    Counter {
        name: "TCPBacklogDrop",
        home: EXT,
        judged: Judged::Bad,
        what: "a segment was dropped because its socket was busy and had too many waiting",
        costs: "the thread that owns the socket does not get to run; the sender waits for a timer",
        fix: "see softnet and the load of the cores: give the relay more shards, or take others off its cores",
    },
    Counter {
        name: "TCPAbortOnTimeout",
        home: EXT,
        judged: Judged::Note,
        what: "a connection was given up because its other end did not answer any more",
        costs: "peers went away without a word; many at once are a path that is down",
        fix: "",
    },
    Counter {
        name: "RetransSegs",
        home: TCP,
        judged: Judged::Share {
            of: "OutSegs",
            per_mille: 10,
        },
        what: "a segment was sent again",
        costs: "packets get lost; from 1 % of all segments on, connections over long paths are slow",
        fix: "look for drops on the way: `ip -s link`, `ethtool -S`, softnet beside this, then the provider",
    },
    Counter {
        name: "InErrs",
        home: TCP,
        judged: Judged::Bad,
        what: "a broken segment came in",
        costs: "bad checksums or lengths: a network card, a cable or a middle box damages packets",
        fix: "see `ethtool -S` for errors, and try with checksum offload off",
    },
    Counter {
        name: "InDiscards",
        home: IP,
        judged: Judged::Bad,
        what: "a packet that came in was dropped for lack of memory",
        costs: "its sender waits for a timer",
        fix: "free memory, or raise vm.min_free_kbytes",
    },
    Counter {
        name: "OutDiscards",
        home: IP,
        judged: Judged::Bad,
        what: "a packet to be sent was dropped on this host",
        costs: "the queue of the network card was full or a firewall refused it",
        fix: "see `tc -s qdisc` for drops, and the firewall's counters for its output rules",
    },
    Counter {
        name: "OutNoRoutes",
        home: IP,
        judged: Judged::Note,
        what: "there was no route for a packet",
        costs: "a destination of another family or network than the host has, or its route is gone",
        fix: "",
    },
    Counter {
        name: "IPReversePathFilter",
        home: EXT,
        judged: Judged::Bad,
        what: "a packet was dropped because answers to its sender would leave by another interface",
        costs: "peers behind that path cannot connect",
        fix: "set net.ipv4.conf.*.rp_filter to 2 (loose) where routing is not symmetric",
    },
    Counter {
        name: "softnet_dropped",
        home: Home::Softnet(1),
        judged: Judged::Bad,
        what: "a core dropped a packet because its queue was full",
        costs: "packets come faster than that core takes them; their senders wait for a timer",
        fix: "raise net.core.netdev_max_backlog, and spread the card's queues over more cores",
    },
    Counter {
        name: "softnet_squeezed",
        home: Home::Softnet(2),
        judged: Judged::Note,
        what: "a core had packets left when its share of time was used up",
        costs: "they wait for the next turn; thousands a second are a core at its limit",
        fix: "raise net.core.netdev_budget and net.core.netdev_budget_usecs",
    },
    silent("ActiveOpens", TCP),
    silent("PassiveOpens", TCP),
    silent("OutSegs", TCP),
    silent("InSegs", TCP),
];

const fn silent(name: &'static str, home: Home) -> Counter {
    Counter {
        name,
        home,
        judged: Judged::Silent,
        what: "",
        costs: "",
        fix: "",
    }
}
