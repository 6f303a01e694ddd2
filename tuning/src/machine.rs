//! Facts of the host that decide how much a relay can hold and how evenly it runs.
//!
//! Here: which files are read, as whoever runs the program; no file needs root. Not here: what a relay cannot
//! start without (`host`), what a fact means (`check`).
//!
//! `None` is a file that is missing, unreadable or not understood; the checks say so instead of guessing.

use std::fs;
use std::path::Path;

use crate::parse;

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
    /// Periods in which the control group of this process was stopped for using its share of processors up.
    pub throttled: Option<u64>,
}

impl Machine {
    /// Reads the facts.
    #[must_use]
    pub fn read() -> Self {
        Self::read_under(Path::new("/proc"), Path::new("/sys"))
    }

    pub(crate) fn read_under(proc_root: &Path, sys_root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(proc_root.join(path)).ok();
        let number = |path: &str| parse::number(&text(path)?);
        let sys_text = |path: &str| fs::read_to_string(sys_root.join(path)).ok();
        let pages = |pages: [u64; 3]| pages.map(|count| count.saturating_mul(PAGE_BYTES));
        Self {
            nr_open: number("sys/fs/nr_open"),
            file_max: number("sys/fs/file-max"),
            files_open: text("sys/fs/file-nr").and_then(|text| parse::files_open(&text)),
            tcp_memory: text("sys/net/ipv4/tcp_mem")
                .and_then(|text| parse::three(&text))
                .map(pages),
            orphans_max: number("sys/net/ipv4/tcp_max_orphans"),
            orphans: text("net/sockstat").and_then(|text| parse::sockstat(&text, "TCP", "orphan")),
            syncookies: number("sys/net/ipv4/tcp_syncookies"),
            syn_backlog: number("sys/net/ipv4/tcp_max_syn_backlog"),
            slow_start_after_idle: number("sys/net/ipv4/tcp_slow_start_after_idle"),
            mtu_probing: number("sys/net/ipv4/tcp_mtu_probing"),
            softnet_dropped: text("net/softnet_stat")
                .and_then(|text| parse::softnet_dropped(&text)),
            conntrack_max: number("sys/net/netfilter/nf_conntrack_max"),
            conntrack_count: number("sys/net/netfilter/nf_conntrack_count"),
            clock_source: sys_text(CLOCK_SOURCE).map(|text| text.trim().to_owned()),
            huge_pages: sys_text("kernel/mm/transparent_hugepage/enabled")
                .and_then(|text| parse::chosen(&text)),
            swap: text("meminfo").and_then(|text| parse::meminfo(&text, "SwapTotal")),
            swappiness: number("sys/vm/swappiness"),
            numa_nodes: sys_text("devices/system/node/online")
                .and_then(|text| parse::list_count(&text)),
            numa_balancing: number("sys/kernel/numa_balancing"),
            governors: governors(&sys_root.join("devices/system/cpu")),
            throttled: sys_text("fs/cgroup/cpu.stat")
                .and_then(|text| parse::named(&text, "nr_throttled")),
        }
    }
}

/// Returns the governors of all cores, sorted, each once.
fn governors(cpu_root: &Path) -> Vec<String> {
    let entries = fs::read_dir(cpu_root).into_iter().flatten().flatten();
    let texts = entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("cpufreq/scaling_governor")).ok());
    let mut names: Vec<String> = texts.map(|text| text.trim().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

const CLOCK_SOURCE: &str = "devices/system/clocksource/clocksource0/current_clocksource";

/// Bytes of a page, which `tcp_mem` counts; larger ones only make the sums err on the safe side.
pub(crate) const PAGE_BYTES: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_from_the_files() {
        let root = tempfile::tempdir().unwrap();
        let (proc_root, sys_root) = (root.path().join("proc"), root.path().join("sys"));
        let put = |root: &Path, path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (path, text) in [
            ("sys/fs/nr_open", "1048576\n"),
            ("sys/fs/file-max", "2466174\n"),
            ("sys/fs/file-nr", "456\t0\t2466174\n"),
            ("sys/net/ipv4/tcp_mem", "287898\t383866\t575796\n"),
            ("net/sockstat", include_str!("../testdata/sockstat.txt")),
            (
                "net/softnet_stat",
                include_str!("../testdata/softnet_stat.txt"),
            ),
            ("meminfo", include_str!("../testdata/meminfo.txt")),
            ("sys/vm/swappiness", "60\n"),
        ] {
            put(&proc_root, path, text);
        }
        for (path, text) in [
            (CLOCK_SOURCE, "tsc\n"),
            (
                "kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
            ("devices/system/node/online", "0-1\n"),
            (
                "devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "schedutil\n",
            ),
            (
                "devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "schedutil\n",
            ),
            (
                "fs/cgroup/cpu.stat",
                "usage_usec 12\nnr_periods 9\nnr_throttled 3\n",
            ),
        ] {
            put(&sys_root, path, text);
        }
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
            throttled: Some(3),
            ..Machine::default()
        };
        assert_eq!(Machine::read_under(&proc_root, &sys_root), expected);
    }

    #[test]
    fn host_without_files_is_all_unknown() {
        let root = tempfile::tempdir().unwrap();
        let read = Machine::read_under(root.path(), root.path());
        assert_eq!(read, Machine::default());
    }

    #[test]
    fn this_host_can_be_read() {
        let machine = Machine::read();
        assert!(machine.nr_open.is_some() && machine.orphans.is_some());
    }
}
