//! The facts of the host.
//!
//! Here: which files are read, and what stands for a file that is not there. Not here: what a fact
//! means.

mod setter;

use std::fs;
use std::path::Path;

use crate::parse;
pub(crate) use setter::Setter;

/// Soft and hard value of a resource limit; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: Option<u64>,
    /// What the process may raise it to.
    pub hard: Option<u64>,
}

/// What this process finds on its host; `None` is a file that is missing or unreadable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Major and minor version of the kernel.
    pub kernel: Option<(u32, u32)>,
    /// Open files.
    pub nofile: Option<Limit>,
    /// `kernel.io_uring_disabled`: 0 everybody may, 1 only privileged and the group, 2 nobody.
    pub io_uring_disabled: Option<i64>,
    /// `kernel.io_uring_group`; -1 is none.
    pub io_uring_group: Option<i64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<i64>,
    /// First and last port for outgoing connections.
    pub port_range: Option<(u16, u16)>,
    /// Ports that are never taken for outgoing connections.
    pub ports_reserved: Vec<(u16, u16)>,
    /// Algorithms the kernel has.
    pub congestion_available: Vec<String>,
    /// Algorithms that unprivileged processes may choose.
    pub congestion_allowed: Vec<String>,
    /// The algorithm of sockets that choose none.
    pub congestion_default: Option<String>,
    /// Memory that processes may take without swapping, bytes: what the host or the control group of a
    /// container has left, whichever is less.
    pub memory_available: Option<u64>,
    /// Effective capabilities as a bit set.
    pub capabilities: u64,
    /// Groups of the process.
    pub groups: Vec<i64>,
    /// Who set the limits.
    pub(crate) setter: Setter,
}

impl Host {
    /// Reads the facts of this host and process.
    #[must_use]
    pub fn read() -> Self {
        let mut host = Self::read_under(Path::new("/proc"));
        let group = group_memory_left(Path::new("/sys/fs/cgroup"));
        host.memory_available = host.memory_available.into_iter().chain(group).min();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let marks = ["/.dockerenv", "/run/.containerenv"];
        let has_mark = marks.iter().any(|mark| Path::new(mark).exists());
        host.setter = Setter::of(&groups, has_mark);
        host
    }

    pub(crate) fn read_under(proc_root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(proc_root.join(path)).ok();
        let number = |path: &str| text(path).and_then(|text| parse::number(&text));
        let words = |path: &str| text(path).map_or_else(Vec::new, |text| parse::words(&text));
        let limits = text("self/limits").unwrap_or_default();
        let limit = |name| {
            let (soft, hard) = parse::limit(&limits, name)?;
            Some(Limit { soft, hard })
        };
        let status = text("self/status").unwrap_or_default();
        Self {
            kernel: text("sys/kernel/osrelease").and_then(|text| parse::release(&text)),
            nofile: limit("Max open files"),
            io_uring_disabled: number("sys/kernel/io_uring_disabled"),
            io_uring_group: number("sys/kernel/io_uring_group"),
            somaxconn: number("sys/net/core/somaxconn"),
            port_range: text("sys/net/ipv4/ip_local_port_range")
                .and_then(|text| parse::port_range(&text)),
            ports_reserved: text("sys/net/ipv4/ip_local_reserved_ports")
                .map_or_else(Vec::new, |text| parse::port_list(&text)),
            congestion_available: words("sys/net/ipv4/tcp_available_congestion_control"),
            congestion_allowed: words("sys/net/ipv4/tcp_allowed_congestion_control"),
            congestion_default: words("sys/net/ipv4/tcp_congestion_control")
                .into_iter()
                .next(),
            memory_available: text("meminfo")
                .and_then(|text| parse::meminfo(&text, "MemAvailable")),
            capabilities: parse::capabilities(&status).unwrap_or(0),
            groups: parse::groups(&status),
            setter: Setter::default(),
        }
    }

    pub(crate) const fn has_capability(&self, bit: u32) -> bool {
        self.capabilities >> bit & 1 == 1
    }
}

/// Returns what the control group at the root of this file system has left; `None` without a limit.
///
/// A container sees its own group there, and only there is a limit of its own to be read.
/// Source: kernel Documentation/admin-guide/cgroup-v2.rst, `memory.max` and `memory.current`.
fn group_memory_left(root: &Path) -> Option<u64> {
    let read = |name: &str| {
        let text = fs::read_to_string(root.join(name)).ok()?;
        parse::number::<u64>(&text)
    };
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_from_the_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("self/limits", include_str!("../testdata/limits.txt"));
        put("self/status", include_str!("../testdata/status.txt"));
        put("sys/kernel/osrelease", "6.12.3\n");
        put("sys/kernel/io_uring_disabled", "1\n");
        put("sys/net/core/somaxconn", "4096\n");
        put(
            "meminfo",
            "MemTotal:  9 kB\nMemAvailable:     23096832 kB\n",
        );
        put("sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        put(
            "sys/net/ipv4/tcp_available_congestion_control",
            "reno cubic\n",
        );
        put("sys/net/ipv4/tcp_congestion_control", "cubic\n");
        let host = Host::read_under(root.path());
        assert_eq!(host.kernel, Some((6, 12)));
        assert_eq!(
            host.nofile,
            Some(Limit {
                soft: Some(1_024),
                hard: Some(524_288)
            })
        );
        assert_eq!(host.io_uring_disabled, Some(1));
        assert_eq!(host.io_uring_group, None);
        assert_eq!(host.memory_available, Some(23_096_832 * 1_024));
        assert_eq!(host.congestion_default.as_deref(), Some("cubic"));
        assert!(host.congestion_allowed.is_empty());
        assert!(host.has_capability(10));
        assert!(!host.has_capability(12));
    }

    #[test]
    fn a_host_without_files_is_all_unknown() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Host::read_under(root.path()), Host::default());
    }

    #[test]
    fn limit_of_a_container_is_what_is_left_of_it() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        assert_eq!(group_memory_left(root.path()), None);
        put("memory.current", "300\n");
        put("memory.max", "max\n");
        assert_eq!(group_memory_left(root.path()), None);
        put("memory.max", "1000\n");
        assert_eq!(group_memory_left(root.path()), Some(700));
        put("memory.max", "200\n");
        assert_eq!(group_memory_left(root.path()), Some(0));
    }

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read();
        assert!(host.kernel.is_some() && host.nofile.is_some());
        assert!(host.memory_available > Some(0));
    }
}
