//! What the host is set to, as far as the self test depends on it.
//!
//! Here: which values stand beside the numbers. Not here: what they should be (the checks).

use std::collections::BTreeMap;
use std::fs;
use std::thread::available_parallelism;

use crate::parse;

/// Returns the settings by name; none is one that could not be read.
pub(super) fn read() -> BTreeMap<String, Option<String>> {
    let read = |path: &str| fs::read_to_string(path).ok();
    // Lines and tabs of the kernel become single blanks.
    let plain = |text: String| parse::words(&text).join(" ");
    let sysctls = SYSCTLS.iter().map(|name| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        ((*name).to_owned(), read(&path).map(plain))
    });
    let files = FILES
        .iter()
        .map(|(name, path)| ((*name).to_owned(), read(path).map(plain)));
    let chosen = read(HUGE_PAGES).and_then(|text| parse::chosen(&text));
    let cores = available_parallelism().ok().map(|count| count.to_string());
    let limits = read("/proc/self/limits").unwrap_or_default();
    let nofile = parse::limit(&limits, "Max open files")
        .map(|(_, hard)| hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string()));
    sysctls
        .chain(files)
        .chain([
            ("cores".to_owned(), cores),
            ("nofile".to_owned(), nofile),
            ("transparent_hugepage".to_owned(), chosen),
        ])
        .collect()
}

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Values of sysctl by their names.
const SYSCTLS: &[&str] = &[
    "fs.file-max",
    "fs.nr_open",
    "kernel.numa_balancing",
    "kernel.osrelease",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_max",
    "vm.swappiness",
];

/// Other files with one value; the governor is that of the first core.
const FILES: &[(&str, &str)] = &[
    (
        "clocksource",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    ),
    (
        "cpuidle_driver",
        "/sys/devices/system/cpu/cpuidle/current_driver",
    ),
    (
        "cpu_governor",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    ),
    ("cgroup_cpu_max", "/sys/fs/cgroup/cpu.max"),
    ("timer_slack_ns", "/proc/self/timerslack_ns"),
];
