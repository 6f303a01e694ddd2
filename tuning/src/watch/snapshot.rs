//! The kernel's counters and fill levels at one moment.
//!
//! Here: which files are read. Not here: what a number means (`table`, `gauges`).
//!
//! A counter that is not in its file is not in the snapshot either, so that nobody takes it for 0.
//! `/proc/net` is that of the own network namespace; softnet, orphans and TCP memory are the whole host's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::gauges::GAUGES;
use super::table::{COUNTERS, File, Home};
use super::{Level, Ports};

/// What the kernel counted up to one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    counters: BTreeMap<&'static str, u64>,
    levels: BTreeMap<&'static str, Level>,
    /// Connections of this network namespace, without those in `TIME_WAIT`.
    pub sockets: Option<u64>,
    /// Ports in use, when the list of sockets was read at this moment.
    pub ports: Option<Ports>,
}

impl Snapshot {
    /// Reads the counters of this host, without the list of sockets.
    #[must_use]
    pub fn read() -> Self {
        Self::read_under(Path::new("/proc"))
    }

    pub(super) fn read_under(proc_root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(proc_root.join(path)).ok();
        let texts = [
            text("net/netstat").unwrap_or_default(),
            text("net/snmp").unwrap_or_default(),
        ];
        let softnet = text("net/softnet_stat").unwrap_or_default();
        let counter = |home| match home {
            Home::Table(File::Netstat, line) => Some((&texts[0], line)),
            Home::Table(File::Snmp, line) => Some((&texts[1], line)),
            Home::Softnet(_) => None,
        };
        let value = |name: &str, home: Home| match (counter(home), home) {
            (Some((text, line)), _) => in_table(text, line, name),
            (None, Home::Softnet(column)) => in_column(&softnet, column),
            (None, Home::Table(..)) => None,
        };
        let counters = COUNTERS
            .iter()
            .filter_map(|counter| Some((counter.name, value(counter.name, counter.home)?)));
        let levels = GAUGES
            .iter()
            .filter_map(|gauge| Some((gauge.name, (gauge.read)(&text)?)));
        Self {
            counters: counters.collect(),
            levels: levels.collect(),
            sockets: in_table(&texts[1], "Tcp", "CurrEstab"),
            ports: None,
        }
    }

    /// Returns whether not a single counter could be read.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.counters.is_empty()
    }

    /// Returns a counter by its kernel name; none when this kernel does not have it.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.get(name).copied()
    }

    pub(super) fn level(&self, name: &str) -> Option<Level> {
        self.levels.get(name).copied()
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, name: &'static str, value: Option<u64>) {
        match value {
            Some(value) => drop(self.counters.insert(name, value)),
            None => drop(self.counters.remove(name)),
        }
    }

    #[cfg(test)]
    pub(super) fn fill(&mut self, name: &'static str, now: u64, most: u64) {
        self.levels.insert(name, Level { now, most });
    }
}

/// Returns the number below a name: each protocol has a line of names and a line of numbers.
///
/// A number may be negative there (`MaxConn` is -1), which is no count.
fn in_table(text: &str, line: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// Returns the sum of a hexadecimal column over all cores; none without a core.
fn in_column(text: &str, column: usize) -> Option<u64> {
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    let sum: Option<u64> = text.lines().map(value).sum();
    sum.filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_brought_together() {
        let netstat = include_str!("../../testdata/netstat_watch.txt");
        let snmp = include_str!("../../testdata/snmp.txt");
        assert_eq!(in_table(netstat, "TcpExt", "PruneCalled"), Some(436));
        assert_eq!(in_table(netstat, "TcpExt", "ListenDrops"), Some(135));
        assert_eq!(in_table(netstat, "IpExt", "InMcastPkts"), Some(2));
        // The same name stands in two protocols.
        assert_eq!(in_table(snmp, "Udp", "InErrors"), Some(0));
        assert_eq!(in_table(snmp, "Tcp", "MaxConn"), None);
        assert_eq!(in_table(snmp, "Tcp", "InErrors"), None);
    }

    #[test]
    fn broken_tables_have_no_numbers() {
        for text in [
            "",
            "Tcp: A B\n",
            "Tcp: A B\nTcp: 1\n",
            "Tcp: B A\nTcp: x 1\n",
            "TcpExt: A B\nTcpExt: 1 2\n",
        ] {
            assert_eq!(in_table(text, "Tcp", "B"), None, "{text:?}");
        }
        for text in ["", "1\n", "1 zz\n", "1 2\n\n"] {
            assert_eq!(in_column(text, 1), None, "{text:?}");
        }
    }

    #[test]
    fn cores_are_summed() {
        let softnet = include_str!("../../testdata/softnet_stat.txt");
        assert_eq!(in_column(softnet, 1), Some(0x1f + 2));
        assert_eq!(in_column(softnet, 2), Some(0x58 + 0x45));
    }

    #[test]
    fn host_without_files_is_blind() {
        let root = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::read_under(root.path());
        assert!(snapshot.is_blind());
        assert_eq!(snapshot, Snapshot::default());
    }

    #[test]
    fn facts_come_from_the_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "net/netstat",
            include_str!("../../testdata/netstat_watch.txt"),
        );
        put("net/snmp", include_str!("../../testdata/snmp.txt"));
        put("net/sockstat", include_str!("../../testdata/sockstat.txt"));
        put("sys/net/ipv4/tcp_mem", "100 200 400\n");
        put("sys/net/ipv4/tcp_max_tw_buckets", "10\n");
        let snapshot = Snapshot::read_under(root.path());
        assert_eq!(snapshot.counter("ListenOverflows"), Some(129));
        assert_eq!(snapshot.counter("PassiveOpens"), Some(17_048_801));
        assert_eq!(snapshot.counter("softnet_dropped"), None);
        assert_eq!(
            snapshot.level("time_wait"),
            Some(Level { now: 7, most: 10 })
        );
        assert_eq!(
            snapshot.level("tcp_memory"),
            Some(Level {
                now: 285,
                most: 200
            })
        );
        assert_eq!(snapshot.level("orphans"), None);
        assert_eq!(snapshot.sockets, Some(0));
    }
}
