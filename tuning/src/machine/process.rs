//! What this process may hold, and what else runs on the host.
//!
//! Here: limits of the process beside open files, memory of the host, the daemons that matter. Not here: open
//! files (`host`), control groups (`group`).

use super::files::{Files, each_once};
use crate::host::Limit;
use crate::parse;

/// What is known of the process and its surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Version of the kernel.
    pub(crate) kernel: Option<(u32, u32)>,
    /// `RLIMIT_MEMLOCK`, bytes; the relay leaves the soft limit as it is.
    pub(crate) locked: Option<Limit>,
    /// Whether `CAP_NET_ADMIN` lets the process choose any congestion control.
    pub(crate) is_network_admin: bool,
    /// Whether `CAP_IPC_LOCK` of the host lifts that limit; one of a user namespace does not.
    pub(crate) is_lock_free: bool,
    /// `vm.max_map_count`.
    pub(crate) maps_max: Option<u64>,
    /// Memory of the host, bytes.
    pub(crate) memory: Option<u64>,
    /// What of it may be had without swapping, bytes.
    pub(crate) memory_available: Option<u64>,
    /// Daemons for the clock and for interrupts that run, as far as this process sees others.
    pub(crate) daemons: Vec<String>,
    /// Whether systemd-timesyncd has set the clock; `None` where it does not run.
    pub(crate) is_timesync_done: Option<bool>,
}

impl Process {
    pub(super) fn read(files: Files<'_>) -> Self {
        let limits = files.text("proc/self/limits").unwrap_or_default();
        let status = files.text("proc/self/status").unwrap_or_default();
        let capabilities = parse::capabilities(&status).unwrap_or(0);
        let has = |bit: u32| capabilities >> bit & 1 == 1;
        let users = files.text("proc/self/uid_map").unwrap_or_default();
        let memory = files.text("proc/meminfo").unwrap_or_default();
        let timesync = files.path("run/systemd/timesync");
        Self {
            kernel: files
                .text("proc/sys/kernel/osrelease")
                .and_then(|text| parse::release(&text)),
            locked: parse::limit(&limits, "Max locked memory")
                .map(|(soft, hard)| Limit { soft, hard }),
            is_network_admin: has(CAP_NET_ADMIN),
            is_lock_free: has(CAP_IPC_LOCK) && parse::is_whole_map(&users),
            maps_max: files.number("proc/sys/vm/max_map_count"),
            memory: parse::meminfo(&memory, "MemTotal"),
            memory_available: parse::meminfo(&memory, "MemAvailable"),
            daemons: daemons(files),
            is_timesync_done: timesync
                .is_dir()
                .then(|| timesync.join("synchronized").exists()),
        }
    }
}

fn daemons(files: Files<'_>) -> Vec<String> {
    let processes = files.names("proc").unwrap_or_default().into_iter();
    let numbered = processes.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    let names = numbered.filter_map(|name| files.word(&format!("proc/{name}/comm")));
    let is_known = |name: &str| name == BALANCER || DAEMONS_OF_CLOCK.contains(&name);
    each_once(names.filter(|name| is_known(name)))
}

/// Daemons that keep the clock, as the kernel cuts their names to 15 letters.
pub(crate) const DAEMONS_OF_CLOCK: [&str; 6] = [
    "chronyd",
    "ntpd",
    "openntpd",
    "phc2sys",
    "ptp4l",
    "systemd-timesyn",
];

/// The daemon that spreads interrupts.
const BALANCER: &str = "irqbalance";

// Source: capabilities(7), numbers in linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::Tree;

    const FILES: [(&str, &str); 8] = [
        ("proc/sys/kernel/osrelease", "6.18.44\n"),
        (
            "proc/self/limits",
            include_str!("../../testdata/limits.txt"),
        ),
        ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
        (
            "proc/self/uid_map",
            include_str!("../../testdata/uid_map.txt"),
        ),
        ("proc/meminfo", include_str!("../../testdata/meminfo.txt")),
        ("proc/77/comm", "chronyd\n"),
        ("proc/78/comm", "bash\n"),
        ("proc/sys/vm/max_map_count", "65530\n"),
    ];

    #[test]
    fn limits_and_memory_are_read() {
        let expected = Process {
            kernel: Some((6, 18)),
            locked: Some(Limit {
                soft: Some(8_388_608),
                hard: Some(8_388_608),
            }),
            is_network_admin: true,
            is_lock_free: true,
            maps_max: Some(65_530),
            memory: Some(24_670_512 * 1_024),
            memory_available: Some(23_096_832 * 1_024),
            daemons: vec!["chronyd".to_owned()],
            is_timesync_done: None,
        };
        assert_eq!(Process::read(Tree::new(&FILES).files()), expected);
    }

    #[test]
    fn capabilities_of_a_user_namespace_lift_no_limit() {
        let tree = Tree::new(&FILES);
        tree.put(
            "proc/self/uid_map",
            include_str!("../../testdata/uid_map_own.txt"),
        );
        assert!(!Process::read(tree.files()).is_lock_free);
        let tree = Tree::new(&FILES);
        tree.put(
            "proc/self/status",
            include_str!("../../testdata/status.txt"),
        );
        assert!(!Process::read(tree.files()).is_lock_free);
    }

    #[test]
    fn timesync_leaves_a_file_when_it_is_done() {
        let tree = Tree::new(&[("run/systemd/timesync/clock", "")]);
        assert_eq!(Process::read(tree.files()).is_timesync_done, Some(false));
        tree.put("run/systemd/timesync/synchronized", "");
        assert_eq!(Process::read(tree.files()).is_timesync_done, Some(true));
    }
}
