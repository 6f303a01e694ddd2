//! Fill levels that a watch looks at.
//!
//! Here: what may fill up, from where it is bad, what to say. Not here: counters (`table`).

use super::{Level, Ports, Sign, Snapshot, Weight};
use crate::parse;

/// Something with a limit.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) name: &'static str,
    /// Reads it, given a reader of files under `/proc`.
    pub(super) read: fn(&Reader<'_>) -> Option<Level>,
    files: &'static str,
    /// From how many per cent on it is bad.
    bad_percent: u64,
    what: &'static str,
    costs: &'static str,
    fix: &'static str,
}

/// Reads a file under `/proc`.
pub(super) type Reader<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Returns a sign for each level that is bad, or that is no longer told.
pub(super) fn signs(before: &Snapshot, after: &Snapshot) -> Vec<Sign> {
    let sign = |gauge: &Gauge| match (before.level(gauge.name), after.level(gauge.name)) {
        (Some(_), None) => Some(gone(gauge)),
        (_, Some(level)) if level.percent() >= gauge.bad_percent => Some(full(gauge, level)),
        _ => None,
    };
    let mut signs: Vec<Sign> = GAUGES.iter().filter_map(sign).collect();
    if let Some(ports) = &after.ports {
        signs.extend(fullest_class(ports));
        signs.extend(held_ports(ports));
    }
    signs
}

/// Returns a line for each level that this host does not tell.
pub(super) fn unknowns(snapshot: &Snapshot) -> Vec<String> {
    let is_missing = |gauge: &&Gauge| snapshot.level(gauge.name).is_none();
    let missing = GAUGES.iter().filter(is_missing);
    let line = |gauge: &Gauge| format!("{} (tried {})", gauge.name, gauge.files);
    missing.map(line).collect()
}

fn full(gauge: &Gauge, level: Level) -> Sign {
    let Level { now, most } = level;
    let percent = level.percent();
    at_level(
        gauge.name,
        level,
        format!(
            "{}: {now} of {most} ({percent} %): {}",
            gauge.what, gauge.costs
        ),
        gauge.fix.to_owned(),
    )
}

fn gone(gauge: &Gauge) -> Sign {
    Sign {
        name: gauge.name,
        weight: Weight::Unknown,
        delta: None,
        per_second: None,
        level: None,
        says: format!("it can no longer be read: tried {}", gauge.files),
        fix: String::new(),
    }
}

const fn at_level(name: &'static str, level: Level, says: String, fix: String) -> Sign {
    Sign {
        name,
        weight: Weight::Bad,
        delta: None,
        per_second: None,
        level: Some(level),
        says,
        fix,
    }
}

fn fullest_class(ports: &Ports) -> Option<Sign> {
    let (class, used) = ports.fullest()?;
    let level = Level {
        now: used.ports,
        most: ports.usable()?,
    };
    if level.percent() < PORTS_BAD_PERCENT {
        return None;
    }
    let (now, most, waiting) = (level.now, level.most, used.time_wait);
    let (source, target) = (class.source, class.target);
    Some(at_level(
        "ports",
        level,
        format!(
            "connections from {source} to {target} hold {now} of {most} ports ({} %), {waiting} of them in \
             TIME_WAIT: beyond the last port a new one fails with EADDRNOTAVAIL",
            level.percent()
        ),
        "give outgoing connections more source addresses, widen net.ipv4.ip_local_port_range, or spread them over \
         more destinations"
            .to_owned(),
    ))
}

/// Ports of sockets that are bound and connected to nobody are lost to every destination.
fn held_ports(ports: &Ports) -> Option<Sign> {
    let level = Level {
        now: ports.held?,
        most: ports.usable()?,
    };
    if level.percent() < HELD_BAD_PERCENT {
        return None;
    }
    Some(at_level(
        "ports_held",
        level,
        format!(
            "{} of {} ports are held by sockets that are bound and connected to nobody ({} %): no destination can \
             be reached from them",
            level.now,
            level.most,
            level.percent()
        ),
        "see with `ss -tanpB` (iproute2 6.8) which program binds before it connects; it wants \
         IP_BIND_ADDRESS_NO_PORT"
            .to_owned(),
    ))
}

fn sockstat(read: &Reader<'_>, name: &str) -> Option<u64> {
    parse::sockstat(&read("net/sockstat")?, "TCP", name)
}

fn number(read: &Reader<'_>, path: &str) -> Option<u64> {
    parse::number(&read(path)?)
}

fn time_wait(read: &Reader<'_>) -> Option<Level> {
    Some(Level {
        now: sockstat(read, "tw")?,
        most: number(read, "sys/net/ipv4/tcp_max_tw_buckets")?,
    })
}

fn orphans(read: &Reader<'_>) -> Option<Level> {
    Some(Level {
        now: sockstat(read, "orphan")?,
        most: number(read, "sys/net/ipv4/tcp_max_orphans")?,
    })
}

/// In pages, against the pressure level of `tcp_mem`.
fn tcp_memory(read: &Reader<'_>) -> Option<Level> {
    let [_, pressure, _] = parse::three(&read("sys/net/ipv4/tcp_mem")?)?;
    Some(Level {
        now: sockstat(read, "mem")?,
        most: pressure,
    })
}

fn conntrack(read: &Reader<'_>) -> Option<Level> {
    Some(Level {
        now: number(read, "sys/net/netfilter/nf_conntrack_count")?,
        most: number(read, "sys/net/netfilter/nf_conntrack_max")?,
    })
}

fn files(read: &Reader<'_>) -> Option<Level> {
    Some(Level {
        now: parse::files_open(&read("sys/fs/file-nr")?)?,
        most: number(read, "sys/fs/file-max")?,
    })
}

/// The fill levels; ports are judged apart, by class.
pub(super) const GAUGES: &[Gauge] = &[
    Gauge {
        name: "time_wait",
        read: time_wait,
        files: "/proc/net/sockstat and /proc/sys/net/ipv4/tcp_max_tw_buckets",
        bad_percent: 80,
        what: "connections in TIME_WAIT",
        costs: "at the limit closed connections are forgotten at once, and their late packets meet new ones",
        fix: "raise net.ipv4.tcp_max_tw_buckets",
    },
    Gauge {
        name: "orphans",
        read: orphans,
        files: "/proc/net/sockstat and /proc/sys/net/ipv4/tcp_max_orphans",
        // Source: Linux 6.18, net/ipv4/tcp_timer.c, tcp_out_of_resources: an orphan whose peer does not take
        // data counts up to four times.
        bad_percent: 25,
        what: "closed connections that still have something to send",
        costs: "from a quarter of the limit on the kernel may reset those whose peer is slow, and their data is lost",
        fix: "raise net.ipv4.tcp_max_orphans",
    },
    Gauge {
        name: "tcp_memory",
        read: tcp_memory,
        files: "/proc/net/sockstat and /proc/sys/net/ipv4/tcp_mem",
        bad_percent: 80,
        what: "pages of TCP buffers before memory pressure",
        costs: "under pressure windows shrink on every connection; at the end of tcp_mem segments are dropped",
        fix: "raise net.ipv4.tcp_mem where the host has the memory, or lower limits.sessions_max",
    },
    Gauge {
        name: "conntrack",
        read: conntrack,
        files: "/proc/sys/net/netfilter/nf_conntrack_count and nf_conntrack_max; without the module there are none",
        bad_percent: 80,
        what: "tracked connections",
        costs: "when the table is full, new connections are dropped without a word to the peer",
        fix: "exempt the relay's port from tracking (NOTRACK), or raise net.netfilter.nf_conntrack_max",
    },
    Gauge {
        name: "files",
        read: files,
        files: "/proc/sys/fs/file-nr and /proc/sys/fs/file-max",
        bad_percent: 80,
        what: "open files of the host",
        costs: "at the limit accepts fail with ENFILE",
        fix: "raise fs.file-max",
    },
];

/// From how many per cent of the range on a class of ports is bad: searching for a free one gets slow, and
/// one more destination that is down fills the rest.
const PORTS_BAD_PERCENT: u64 = 80;

/// From how many per cent of the range on ports that are only held are bad: they are missing everywhere.
const HELD_BAD_PERCENT: u64 = 10;
