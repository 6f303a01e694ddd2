//! Readers of the kernel's texts under `/proc`.
//!
//! Here: pure functions from text to numbers and names. Not here: which files are read.

/// Returns the single number of a sysctl file.
pub(crate) fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
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

/// Returns the available memory of `/proc/meminfo` in bytes.
///
/// Source: `proc_meminfo(5)`: free memory and what can be taken back without swapping.
pub(crate) fn memory_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Returns the effective capabilities of `/proc/PID/status` as a bit set.
pub(crate) fn capabilities(status: &str) -> Option<u64> {
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

/// Returns the groups of `/proc/PID/status`, the effective one first.
pub(crate) fn groups(status: &str) -> Vec<i64> {
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = line("Gid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    let further = line("Groups:").unwrap_or_default().split_whitespace();
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
        assert_eq!(groups(""), []);
    }

    #[test]
    fn numbers_and_words_ignore_line_ends() {
        assert_eq!(number("4096\n"), Some(4_096));
        assert_eq!(number("-1\n"), Some(-1));
        assert_eq!(number(""), None);
        assert_eq!(words("reno bbr cubic\n"), ["reno", "bbr", "cubic"]);
    }
}
