//! Readers of the kernel's texts under `/proc`.
//!
//! Here: pure functions from text to numbers and names. Not here: which files are read.

use std::str::FromStr;

/// Returns the single number of a file, as of a sysctl.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// Returns the number behind a name, of a file with a name and a number a line.
pub(crate) fn named(text: &str, name: &str) -> Option<u64> {
    number(entry(text, name, ' ')?)
}

/// Returns what stands behind `name` and `mark`, in the first line that begins so.
fn entry<'a>(text: &'a str, name: &str, mark: char) -> Option<&'a str> {
    let rest = |line: &'a str| line.strip_prefix(name)?.strip_prefix(mark);
    text.lines().find_map(rest)
}

/// Returns the names of a sysctl file that lists words.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Returns major and minor version of a kernel release such as `6.12.3-amd64`.
pub(crate) fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Returns first and last port of `ip_local_port_range`.
///
/// Source: Documentation/networking/ip-sysctl.rst.
pub(crate) fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_whitespace();
    let range = (ports.next()?.parse().ok()?, ports.next()?.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Returns the ranges of `ip_local_reserved_ports`, such as `7100,8000-8010`.
pub(crate) fn port_list(text: &str) -> Vec<(u16, u16)> {
    let item = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.trim().split(',').filter_map(item).collect()
}

/// Returns soft and hard value of one line of `/proc/PID/limits`; `None` inside is "unlimited".
///
/// Source: `proc_pid_limits(5)`; the name of the limit fills 26 columns.
pub(crate) fn limit(limits: &str, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let line = limits.lines().find(|line| line.starts_with(name))?;
    let mut values = line.get(name.len()..)?.split_whitespace();
    let mut value = || match values.next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    Some((value()?, value()?))
}

/// Returns a line of `/proc/meminfo` in bytes, such as `MemAvailable`: free memory and what can be taken back
/// without swapping.
///
/// Source: `proc_meminfo(5)`.
pub(crate) fn meminfo(text: &str, name: &str) -> Option<u64> {
    let kibibytes: u64 = number(entry(text, name, ':')?.trim().strip_suffix("kB")?)?;
    kibibytes.checked_mul(1_024)
}

/// Returns the three numbers of a sysctl file such as `tcp_mem`.
pub(crate) fn three(text: &str) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text
        .split_whitespace()
        .map(|word| word.parse().ok())
        .collect();
    numbers?.try_into().ok()
}

/// Returns the open files of `/proc/sys/fs/file-nr`: allocated, and not free again.
///
/// Source: Documentation/admin-guide/sysctl/fs.rst.
pub(crate) fn files_open(text: &str) -> Option<u64> {
    let [allocated, free, _] = three(text)?;
    Some(allocated.saturating_sub(free))
}

/// Returns a number of `/proc/net/sockstat`: the line of a protocol has names and numbers in turns.
pub(crate) fn sockstat(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let words = entry(text, protocol, ':')?.split_whitespace();
    words.skip_while(|word| *word != name).nth(1)?.parse().ok()
}

/// Returns the packets dropped by all cores: the second column of `/proc/net/softnet_stat`, hexadecimal.
///
/// Source: Linux 6.18, net/core/net-procfs.c, `softnet_seq_show`.
pub(crate) fn softnet_dropped(text: &str) -> Option<u64> {
    let column = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let dropped: Option<u64> = text.lines().map(column).sum();
    // No core, no count.
    dropped.filter(|_| !text.is_empty())
}

/// Returns the word in brackets of a file that lists choices, such as `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// Returns how many numbers a list such as `0-3,8` has.
pub(crate) fn list_count(text: &str) -> Option<u64> {
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.trim().split(',').map(count).sum()
}

/// Returns the effective capabilities of `/proc/PID/status` as a bit set.
pub(crate) fn capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(entry(status, "CapEff", ':')?.trim(), 16).ok()
}

/// Returns the groups of `/proc/PID/status`, the effective one first.
pub(crate) fn groups(status: &str) -> Vec<i64> {
    let ids = |name| {
        entry(status, name, ':')
            .unwrap_or_default()
            .split_whitespace()
    };
    let effective = ids("Gid").nth(1).and_then(|id| id.parse().ok());
    let further = ids("Groups");
    effective
        .into_iter()
        .chain(further.filter_map(|id| id.parse().ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_takes_two_numbers() {
        assert_eq!(release("6.12.3-amd64\n"), Some((6, 12)));
        assert_eq!(release("6.1-rc3"), Some((6, 1)));
        assert_eq!(release("linux"), None);
    }

    #[test]
    fn ports_are_ranges() {
        assert_eq!(port_range("32768\t60999\n"), Some((32_768, 60_999)));
        assert_eq!(port_range("5 4"), None);
        assert_eq!(port_range("1"), None);
        assert_eq!(port_list("\n"), []);
        assert_eq!(
            port_list("7100,8000-8010\n"),
            [(7_100, 7_100), (8_000, 8_010)]
        );
    }

    #[test]
    fn limits_know_unlimited() {
        let text = include_str!("../testdata/limits.txt");
        assert_eq!(
            limit(text, "Max open files"),
            Some((Some(1_024), Some(524_288)))
        );
        assert_eq!(
            limit(text, "Max locked memory"),
            Some((Some(8_388_608), Some(8_388_608)))
        );
        assert_eq!(limit(text, "Max cpu time"), Some((None, None)));
        assert_eq!(limit(text, "Max nothing"), None);
    }

    #[test]
    fn status_gives_capabilities_and_groups() {
        let text = include_str!("../testdata/status.txt");
        assert_eq!(capabilities(text), Some(0x0400));
        assert_eq!(groups(text), [1_000, 27, 1_000]);
        assert_eq!(capabilities(""), None);
        assert!(groups("").is_empty());
    }

    #[test]
    fn lines_that_are_something_else_give_nothing() {
        let sockets = include_str!("../testdata/sockstat.txt");
        assert_eq!(sockstat(sockets, "TCP", "tw"), Some(7));
        assert_eq!(sockstat(sockets, "TCP", "memory"), None);
        assert_eq!(sockstat(sockets, "SCTP", "inuse"), None);
        assert_eq!(sockstat("TCP: inuse", "TCP", "inuse"), None);
        assert_eq!(softnet_dropped("17168ac6\n"), None);
        assert_eq!(softnet_dropped("1 zz\n"), None);
        assert_eq!(softnet_dropped(""), None);
        assert_eq!(meminfo("MemFree: 3 kB\n", "MemFree"), Some(3_072));
        assert_eq!(meminfo("MemFree: 3 MB\n", "MemFree"), None);
        assert_eq!(meminfo("MemFreeing: 3 kB\n", "MemFree"), None);
        assert_eq!(
            (three("1 2"), three("1 2 x"), three("")),
            (None, None, None)
        );
        assert_eq!(files_open("10 4 99\n"), Some(6));
        assert_eq!((chosen("always"), chosen("a [b")), (None, None));
        assert_eq!(list_count("0-3,8\n"), Some(5));
        assert_eq!((list_count("3-1"), list_count("")), (None, None));
        assert_eq!(
            named("nr_periods 9\nnr_throttled x\n", "nr_throttled"),
            None
        );
    }

    #[test]
    fn numbers_and_words_ignore_line_ends() {
        assert_eq!(number("4096\n"), Some(4_096));
        assert_eq!(number("-1\n"), Some(-1));
        assert_eq!(number::<u64>("-1\n"), None);
        assert_eq!(number::<i64>(""), None);
        assert_eq!(words("reno bbr cubic\n"), ["reno", "bbr", "cubic"]);
    }
}
