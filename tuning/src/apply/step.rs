//! What one value of the kernel becomes.
//!
//! Here: the host's value and the profile's, compared by the rule. Not here: writing it.

use std::io;
use std::path::Path;

use super::{Root, files};
use crate::machine::PAGE_BYTES;
use crate::parse;
use crate::profile::{Rule, Setting};

/// What an apply does with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is written.
    Change {
        /// The kernel's text, byte for byte.
        before: String,
        /// The same as words with one space between two.
        now: String,
        /// The new words.
        then: String,
    },
    /// The host has what is needed.
    Keep {
        /// The host's words.
        now: String,
        /// What is needed, with its rule.
        wanted: String,
    },
    /// It cannot be set, and is left out.
    Skip {
        /// Why.
        why: String,
    },
}

/// Compares a setting with the host.
pub(super) fn step(
    setting: &Setting,
    path: &Path,
    kernel: Option<(u32, u32)>,
    root: &Root,
) -> Step {
    let before = match files::read_value(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = setting.absence(kernel);
            return Step::Skip { why };
        }
        Err(error) => {
            let why = format!("its value cannot be read from {}: {error}", path.display());
            return Step::Skip { why };
        }
    };
    let now = words(&before);
    match wanted(setting, &now, root) {
        Err(why) => Step::Skip { why },
        Ok(then) if then == now => Step::Keep {
            now,
            wanted: format!("{} {}", setting.rule.label(), setting.value),
        },
        Ok(then) => Step::Change { before, now, then },
    }
}

/// Returns what the value is to be; the host's own where that does.
fn wanted(setting: &Setting, now: &str, root: &Root) -> Result<String, String> {
    let value = &setting.value;
    match setting.rule {
        Rule::Exactly => Ok(value.clone()),
        Rule::AtLeast if setting.name == TCP_MEMORY => {
            let then = compared(now, value, i128::max)?;
            // What the host has already is its own affair.
            match then == now {
                true => Ok(then),
                false => within_memory(then, root),
            }
        }
        Rule::AtLeast => compared(now, value, i128::max),
        Rule::AtMost => compared(now, value, i128::min),
        Rule::With if setting.name == ALLOWED_CONGESTION => with_names(now, value, root),
        Rule::With => with_ports(now, value),
    }
}

/// Returns the better of both, number by number.
fn compared(now: &str, value: &str, better: fn(i128, i128) -> i128) -> Result<String, String> {
    let numbers = |text: &str| -> Option<Vec<i128>> {
        text.split_whitespace()
            .map(|word| word.parse().ok())
            .collect()
    };
    let (Some(has), Some(needs)) = (numbers(now), numbers(value)) else {
        return Err(format!(
            "the host says \"{now}\", expected numbers as in {value}"
        ));
    };
    if has.len() != needs.len() {
        return Err(format!(
            "the host says \"{now}\", expected as many numbers as in {value}"
        ));
    }
    let both = has.into_iter().zip(needs);
    let all: Vec<String> = both.map(|(a, b)| better(a, b).to_string()).collect();
    Ok(all.join(" "))
}

/// Returns the pages of TCP, unless they are more than the host has: it would run out before TCP does.
fn within_memory(then: String, root: &Root) -> Result<String, String> {
    const MEMORY: &str = "/proc/meminfo";
    let total = root
        .text(MEMORY)
        .and_then(|text| parse::meminfo(&text, "MemTotal"));
    let total = total.ok_or_else(|| {
        format!("{MEMORY} cannot be read, so it is not known whether {then} pages fit")
    })?;
    let pressure = then.split(' ').nth(1).and_then(parse::number::<u64>);
    let bytes = pressure.map(|pages| pages.saturating_mul(PAGE_BYTES));
    match bytes {
        Some(bytes) if bytes <= total => Ok(then),
        _ => Err(format!(
            "{then} pages are more than the {} MiB of memory that this host has: lower the target",
            total >> 20
        )),
    }
}

/// Returns the list with the names that it lacks; the kernel refuses the whole list for one that it does not
/// have.
fn with_names(now: &str, value: &str, root: &Root) -> Result<String, String> {
    const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let available = root.text(AVAILABLE).ok_or_else(|| {
        format!("{AVAILABLE} cannot be read, so it is not known what may be listed")
    })?;
    let mut names: Vec<&str> = now.split_whitespace().collect();
    for name in value.split_whitespace() {
        if !names.contains(&name) && available.split_whitespace().any(|has| has == name) {
            names.push(name);
        }
    }
    Ok(names.join(" "))
}

/// Returns the list with the ports that it lacks, the way the kernel writes it: sorted, neighbours joined.
///
/// Source: Documentation/networking/ip-sysctl.rst, `ip_local_reserved_ports`.
fn with_ports(now: &str, value: &str) -> Result<String, String> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for part in now.split([',', ' ']).chain(value.split([',', ' '])) {
        if part.is_empty() {
            continue;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse().ok().zip(last.parse().ok());
        ranges.push(
            range.ok_or_else(|| {
                format!("\"{part}\" is no port: expected such as 7100 or 8000-8010")
            })?,
        );
    }
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    let text = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    Ok(joined.iter().map(text).collect::<Vec<_>>().join(","))
}

/// Returns a text as words with one space between two.
pub(super) fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const TCP_MEMORY: &str = "net.ipv4.tcp_mem";
const ALLOWED_CONGESTION: &str = "net.ipv4.tcp_allowed_congestion_control";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_one_by_one() {
        let least = |now, value| compared(now, value, i128::max);
        assert_eq!(least("5 1 9", "4 4 4").unwrap(), "5 4 9");
        assert_eq!(
            least("9223372036854775807", "1").unwrap(),
            "9223372036854775807"
        );
        assert_eq!(compared("60", "10", i128::min).unwrap(), "10");
        assert!(least("1 2", "1").unwrap_err().contains("as many numbers"));
        assert!(least("max", "1").unwrap_err().contains("expected numbers"));
    }

    #[test]
    fn ports_are_joined_as_the_kernel_joins_them() {
        for (now, value, then) in [
            ("", "7100", "7100"),
            ("7100", "7100", "7100"),
            ("8000-8010,22", "7100", "22,7100,8000-8010"),
            ("7099,7101-7200", "7100", "7099-7200"),
            ("65535", "7100", "7100,65535"),
            ("1-100", "50", "1-100"),
        ] {
            assert_eq!(with_ports(now, value).unwrap(), then);
        }
        assert!(with_ports("x", "7100").unwrap_err().contains("is no port"));
    }
}
