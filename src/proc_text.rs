//! Readers of `/proc` texts that the binary needs.
//!
//! Here: pure parsers, tested with real texts. Not here: the host checks (`ringway-tuning` has its own).

/// Returns the process that holds a lock on the file with this inode, from `/proc/locks`.
///
/// Source: `proc_locks(5)`: number, kind, mode, access, pid, `major:minor:inode`, range. Lines of
/// waiting processes have an arrow in second place.
pub(crate) fn lock_holder(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|number| number.ends_with(':'))?;
        words.next().filter(|kind| *kind != "->")?;
        let pid = words.nth(2)?.parse().ok()?;
        let held: u64 = words.next()?.rsplit(':').next()?.parse().ok()?;
        (held == inode).then_some(pid)
    })
}

/// Returns the CPU time of a thread in nanoseconds, from `/proc/PID/task/TID/schedstat`.
///
/// Source: kernel Documentation/scheduler/sched-stats.rst: time on the CPU, time waiting, slices.
pub(crate) fn schedstat_nanos(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Returns the first and the last port, from `/proc/sys/net/ipv4/ip_local_port_range`.
pub(crate) fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    let range = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Returns the ranges, from `/proc/sys/net/ipv4/ip_local_reserved_ports`: numbers and ranges with a dash,
/// separated by commas.
pub(crate) fn reserved_ports(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_holder_is_found_by_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4242 00:21:77 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 4300 00:21:77 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 911 08:01:1234 0 EOF\n";
        assert_eq!(lock_holder(locks, 77), Some(4242));
        assert_eq!(lock_holder(locks, 1234), Some(911));
        assert_eq!(lock_holder(locks, 5), None);
        assert_eq!(lock_holder("garbage\n1:\n", 5), None);
    }

    #[test]
    fn port_ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(port_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(port_range("9 8"), None);
        assert_eq!(port_range("9"), None);
        assert_eq!(
            reserved_ports("8080,9000-9002\n"),
            [(8_080, 8_080), (9_000, 9_002)]
        );
        assert_eq!(reserved_ports("\n"), []);
    }

    #[test]
    fn schedstat_starts_with_the_time_on_the_cpu() {
        assert_eq!(schedstat_nanos("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(schedstat_nanos(""), None);
    }
}
