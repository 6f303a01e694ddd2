//! Facts of the host that decide how much a relay can hold and how evenly it runs.
//!
//! Here: which files are read, as whoever runs the program; no file needs root. Below: settings of TCP
//! (`stack`), its sockets (`sockets`), network cards (`cards`), control groups (`group`), processors
//! (`cores`), the process and its host (`process`). Not here: what a relay cannot start without (`host`),
//! what a fact means (`check`).
//!
//! `None` is a file that is missing, unreadable or not understood; the checks say so instead of guessing.

mod cards;
mod cores;
mod files;
mod group;
mod process;
mod sockets;
mod stack;

use std::net::UdpSocket;
use std::path::Path;

use ringway_shards::probe::{self, Feature};

use crate::parse;
use files::{Files, each_once};

pub(crate) use cards::Card;
pub(crate) use cores::Cores;
pub(crate) use group::Group;
pub(crate) use process::{DAEMONS_OF_CLOCK, Process};
#[cfg(test)]
pub(crate) use sockets::Ports;
pub(crate) use sockets::Sockets;
pub(crate) use stack::Stack;

/// What this process finds on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// `fs.nr_open`: the highest limit of open files that a process can be given.
    pub nr_open: Option<u64>,
    /// `fs.file-max`: open files of the whole host.
    pub file_max: Option<u64>,
    /// Open files of the whole host now.
    pub files_open: Option<u64>,
    /// `net.ipv4.tcp_mem` in bytes: memory of all TCP buffers that is fine, is pressure, is the end.
    pub tcp_memory: Option<[u64; 3]>,
    /// `net.ipv4.tcp_max_orphans`.
    pub orphans_max: Option<u64>,
    /// Sockets that nobody holds and that are not closed yet.
    pub orphans: Option<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when the queue is full, 2 always.
    pub syncookies: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_slow_start_after_idle`.
    pub slow_start_after_idle: Option<u64>,
    /// `net.ipv4.tcp_mtu_probing`: 0 never, 1 after a black hole, 2 always.
    pub mtu_probing: Option<u64>,
    /// Packets that the cores dropped since the start because their queue was full.
    pub softnet_dropped: Option<u64>,
    /// `net.netfilter.nf_conntrack_max`; none when connections are not tracked.
    pub conntrack_max: Option<u64>,
    /// Connections that are tracked now.
    pub conntrack_count: Option<u64>,
    /// Where the kernel reads the time.
    pub clock_source: Option<String>,
    /// What `transparent_hugepage/enabled` says: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Swap space, bytes.
    pub swap: Option<u64>,
    /// `vm.swappiness`.
    pub swappiness: Option<u64>,
    /// Nodes of memory.
    pub numa_nodes: Option<u64>,
    /// `kernel.numa_balancing`.
    pub numa_balancing: Option<u64>,
    /// Frequency governors of the cores, each once; empty where the host has none, as virtual ones.
    pub governors: Vec<String>,
    /// Settings and counters of TCP.
    pub(crate) stack: Stack,
    /// Listeners and ports.
    pub(crate) sockets: Sockets,
    /// Network cards; `None` when they cannot be listed.
    pub(crate) cards: Option<Vec<Card>>,
    /// Limits of control groups.
    pub(crate) group: Group,
    /// Processors.
    pub(crate) cores: Cores,
    /// The process and its host.
    pub(crate) process: Process,
    /// What a ring of this kernel can do, tried; empty when it was not.
    pub(crate) features: Vec<Feature>,
    /// Whether the loopback is up: in a fresh network namespace it is not, and some features cannot be tried.
    pub(crate) is_loopback_up: bool,
}

impl Machine {
    /// Reads the files, counts the sockets and tries the rings.
    #[must_use]
    pub fn read() -> Self {
        let files = Self::read_files();
        Self {
            sockets: Sockets::read(files.stack.port_range),
            features: probe::features(),
            is_loopback_up: is_loopback_up(),
            ..files
        }
    }

    /// Reads the files alone, which takes some milliseconds whatever the host has open: sockets and rings
    /// stay unknown.
    #[must_use]
    pub fn read_files() -> Self {
        Self::read_under(Files(Path::new("/")))
    }

    /// Reads the files below another root, such as a test's; sockets and rings are not looked at.
    #[cfg(test)]
    pub(crate) fn read_at(root: &Path) -> Self {
        Self::read_under(Files(root))
    }

    fn read_under(files: Files<'_>) -> Self {
        let text = |path: &str| files.text(&format!("proc/{path}"));
        let number = |path: &str| files.number(&format!("proc/sys/{path}"));
        let pages = |pages: [u64; 3]| pages.map(|count| count.saturating_mul(PAGE_BYTES));
        Self {
            nr_open: number("fs/nr_open"),
            file_max: number("fs/file-max"),
            files_open: text("sys/fs/file-nr").and_then(|text| parse::files_open(&text)),
            tcp_memory: files.three("proc/sys/net/ipv4/tcp_mem").map(pages),
            orphans_max: number("net/ipv4/tcp_max_orphans"),
            orphans: text("net/sockstat").and_then(|text| parse::sockstat(&text, "TCP", "orphan")),
            syncookies: number("net/ipv4/tcp_syncookies"),
            syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
            slow_start_after_idle: number("net/ipv4/tcp_slow_start_after_idle"),
            mtu_probing: number("net/ipv4/tcp_mtu_probing"),
            softnet_dropped: text("net/softnet_stat")
                .and_then(|text| parse::softnet_dropped(&text)),
            conntrack_max: number("net/netfilter/nf_conntrack_max"),
            conntrack_count: number("net/netfilter/nf_conntrack_count"),
            clock_source: files.word(CLOCK_SOURCE),
            huge_pages: files.text(HUGE_PAGES).and_then(|text| parse::chosen(&text)),
            swap: text("meminfo").and_then(|text| parse::meminfo(&text, "SwapTotal")),
            swappiness: number("vm/swappiness"),
            numa_nodes: files.text(NODES).and_then(|text| parse::list_count(&text)),
            numa_balancing: number("kernel/numa_balancing"),
            governors: governors(files),
            stack: Stack::read(files),
            cards: cards::read(files),
            group: Group::read(files),
            cores: Cores::read(files),
            process: Process::read(files),
            ..Self::default()
        }
    }
}

/// Returns whether packets of this host to itself have a way; sends none.
fn is_loopback_up() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0");
    socket.is_ok_and(|socket| socket.connect("127.0.0.1:9").is_ok())
}

/// Returns the governors of all cores, sorted, each once.
fn governors(files: Files<'_>) -> Vec<String> {
    let cores = files.cores().into_iter();
    each_once(cores.filter_map(|core| files.word(&format!("{core}/cpufreq/scaling_governor"))))
}

const CLOCK_SOURCE: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
const HUGE_PAGES: &str = "sys/kernel/mm/transparent_hugepage/enabled";
const NODES: &str = "sys/devices/system/node/online";

/// Bytes of a page, which `tcp_mem` counts; larger ones only make the sums err on the safe side.
pub(crate) const PAGE_BYTES: u64 = 4_096;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Files of a host that is none.
    pub(super) struct Tree(TempDir);

    impl Tree {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                tree.put(path, text);
            }
            tree
        }

        pub(super) fn put(&self, path: &str, text: &str) {
            let path = self.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        pub(super) fn root(&self) -> &Path {
            self.0.path()
        }

        pub(super) fn files(&self) -> Files<'_> {
            Files(self.root())
        }
    }

    #[test]
    fn facts_come_from_the_files() {
        let tree = Tree::new(&[
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/fs/file-max", "2466174\n"),
            ("proc/sys/fs/file-nr", "456\t0\t2466174\n"),
            ("proc/sys/net/ipv4/tcp_mem", "287898\t383866\t575796\n"),
            (
                "proc/net/sockstat",
                include_str!("../testdata/sockstat.txt"),
            ),
            (
                "proc/net/softnet_stat",
                include_str!("../testdata/softnet_stat.txt"),
            ),
            ("proc/meminfo", include_str!("../testdata/meminfo.txt")),
            ("proc/sys/vm/swappiness", "60\n"),
            (CLOCK_SOURCE, "tsc\n"),
            (HUGE_PAGES, "always [madvise] never\n"),
            (NODES, "0-1\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "schedutil\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "schedutil\n",
            ),
            ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
        ]);
        let read = Machine::read_under(tree.files());
        let expected = Machine {
            nr_open: Some(1_048_576),
            file_max: Some(2_466_174),
            files_open: Some(456),
            tcp_memory: Some([1_179_230_208, 1_572_315_136, 2_358_460_416]),
            orphans: Some(2),
            softnet_dropped: Some(0x1f + 2),
            clock_source: Some("tsc".to_owned()),
            huge_pages: Some("madvise".to_owned()),
            swap: Some(2_097_148 * 1_024),
            swappiness: Some(60),
            numa_nodes: Some(2),
            governors: vec!["schedutil".to_owned()],
            stack: Stack {
                waiting: Some(7),
                ..Stack::default()
            },
            process: Process {
                memory: Some(24_670_512 * 1_024),
                memory_available: Some(23_096_832 * 1_024),
                ..Process::default()
            },
            ..Machine::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn host_without_files_is_all_unknown() {
        let read = Machine::read_under(Tree::new(&[]).files());
        assert_eq!(read, Machine::default());
    }

    #[test]
    fn this_host_can_be_read() {
        let machine = Machine::read();
        assert!(machine.nr_open.is_some() && machine.orphans.is_some());
        assert!(!machine.features.is_empty());
    }
}
