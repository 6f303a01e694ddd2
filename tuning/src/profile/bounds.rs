//! What the kernel, systemd and the script accept.
//!
//! Here: names and bounds that are known. Not here: how two values go together (`contradictions`).
//!
//! A sysctl that is not in the table may have any value: nothing is known about it, and the kernel says the
//! rest.

use super::{Kind, Rule, Setting};

/// Returns the name as the rest of the program writes it, or what is wrong with it.
pub(super) fn known_name(kind: Kind, name: &str) -> Result<String, String> {
    let is_one_of = |all: &[&str]| match all.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "there is none of this name: expected {}",
            all.join(", ")
        )),
    };
    match kind {
        Kind::Device => is_one_of(&DEVICES.map(|(name, _)| name)),
        Kind::Limit => is_one_of(&["memlock", "nofile"]),
        Kind::Sysctl => sysctl_name(name),
        Kind::Unit => {
            match !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                true => Ok(name.to_owned()),
                false => Err("expected a key of [Service] such as TasksMax".to_owned()),
            }
        }
    }
}

/// Returns a sysctl's name with dots between its parts.
///
/// Source: sysctl.d(5): dots and slashes stand for each other, and the first one says which parts the name.
fn sysctl_name(name: &str) -> Result<String, String> {
    let is_with_slashes = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('/'));
    let swap = |letter| match letter {
        '.' if is_with_slashes => '/',
        '/' if is_with_slashes => '.',
        other => other,
    };
    let name: String = name.chars().map(swap).collect();
    let is_part = |part: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte);
        !part.is_empty() && part.bytes().all(is_letter) && !part.split('/').any(str::is_empty)
    };
    match name.contains('.') && name.split('.').all(is_part) {
        true => Ok(name),
        false => Err("expected a name such as net.core.somaxconn".to_owned()),
    }
}

/// Whether each network namespace has this sysctl of its own, and may write it.
///
/// Source: Linux 6.18: what `ls /proc/sys/net` shows after `unshare -rn`, and what may be written there.
pub(super) fn is_of_namespace(name: &str) -> bool {
    if HOST_ALONE.contains(&name) {
        return false;
    }
    let is_of_core = NAMESPACE_CORE.contains(&name);
    is_of_core || name.starts_with("net.ipv4.") || name.starts_with("net.ipv6.")
}

/// Returns what is wrong with a value.
pub(super) fn problem(setting: &Setting) -> Option<String> {
    let Setting {
        name, value, rule, ..
    } = setting;
    let words: Vec<&str> = value.split(' ').collect();
    match setting.kind {
        Kind::Device => {
            let (_, accepted) = DEVICES.iter().find(|(device, _)| device == name)?;
            let is_count = accepted.is_empty() && value.parse::<u32>().is_ok();
            let expected = match accepted.is_empty() {
                true => "a number".to_owned(),
                false => accepted.join(" or "),
            };
            (!is_count && !accepted.contains(&value.as_str()))
                .then(|| format!("\"{value}\": expected {expected}"))
        }
        Kind::Limit => number_problem(value, 1, NR_OPEN_MAX),
        Kind::Unit => value.is_empty().then(|| "expected a value".to_owned()),
        Kind::Sysctl if *rule == Rule::With => None,
        Kind::Sysctl => {
            let bounds = SYSCTLS.iter().find(|(known, ..)| known == name);
            let Some((_, count, least, most)) = bounds else {
                let is_number = |word: &&str| word.parse::<i64>().is_ok();
                let is_compared = *rule != Rule::Exactly;
                return (is_compared && !words.iter().all(is_number))
                    .then(|| format!("\"{value}\": {} needs whole numbers", rule.label()));
            };
            if words.len() != *count {
                return Some(format!("\"{value}\": expected {count} numbers"));
            }
            words
                .iter()
                .find_map(|word| number_problem(word, *least, *most))
        }
    }
}

fn number_problem(word: &str, least: i64, most: i64) -> Option<String> {
    let is_within = word
        .parse()
        .is_ok_and(|number: i64| (least..=most).contains(&number));
    (!is_within).then(|| format!("{word} is not within what the kernel takes: {least} to {most}"))
}

/// Highest `fs.nr_open` of a 64-bit kernel. Source: Linux 6.18, fs/file.c, `sysctl_nr_open_max`.
const NR_OPEN_MAX: i64 = 2_147_483_584;

/// Greatest int of the kernel.
const INT_MAX: i64 = 2_147_483_647;

/// Sysctls with the count of their numbers, and least and most of each.
///
/// Source: the tables of Linux 6.18: `kernel/sysctl.c`, `net/core/sysctl_net_core.c`,
/// `net/ipv4/sysctl_net_ipv4.c`.
const SYSCTLS: &[(&str, usize, i64, i64)] = &[
    ("fs.file-max", 1, 0, i64::MAX),
    ("fs.nr_open", 1, 64, NR_OPEN_MAX),
    ("kernel.io_uring_disabled", 1, 0, 2),
    ("kernel.numa_balancing", 1, 0, 4),
    ("net.core.netdev_budget", 1, 1, INT_MAX),
    ("net.core.netdev_max_backlog", 1, 1, INT_MAX),
    ("net.core.somaxconn", 1, 0, INT_MAX),
    ("net.ipv4.ip_local_port_range", 2, 1, 65_535),
    ("net.ipv4.tcp_autocorking", 1, 0, 1),
    ("net.ipv4.tcp_fin_timeout", 1, 1, INT_MAX),
    ("net.ipv4.tcp_max_orphans", 1, 0, INT_MAX),
    ("net.ipv4.tcp_max_syn_backlog", 1, 0, INT_MAX),
    ("net.ipv4.tcp_max_tw_buckets", 1, 0, INT_MAX),
    ("net.ipv4.tcp_mem", 3, 0, i64::MAX),
    ("net.ipv4.tcp_mtu_probing", 1, 0, 2),
    ("net.ipv4.tcp_notsent_lowat", 1, 0, 4_294_967_295),
    ("net.ipv4.tcp_rmem", 3, 1, INT_MAX),
    ("net.ipv4.tcp_slow_start_after_idle", 1, 0, 1),
    ("net.ipv4.tcp_syncookies", 1, 0, 2),
    ("net.ipv4.tcp_wmem", 3, 1, INT_MAX),
    ("net.netfilter.nf_conntrack_max", 1, 0, INT_MAX),
    ("vm.swappiness", 1, 0, 200),
];

/// Names below `net.ipv4` that only the host's own namespace has or may write.
const HOST_ALONE: &[&str] = &[
    "net.ipv4.fib_sync_mem",
    "net.ipv4.inet_peer_maxttl",
    "net.ipv4.inet_peer_minttl",
    "net.ipv4.inet_peer_threshold",
    "net.ipv4.ipfrag_secret_interval",
    "net.ipv4.tcp_allowed_congestion_control",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_available_ulp",
    "net.ipv4.tcp_ehash_entries",
    "net.ipv4.tcp_low_latency",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_hash_entries",
    "net.ipv4.udp_mem",
];

/// Names below `net.core` that each namespace may write.
const NAMESPACE_CORE: &[&str] = &[
    "net.core.optmem_max",
    "net.core.somaxconn",
    "net.core.txrehash",
];

/// What the script sets, and the words it takes; none is a number.
const DEVICES: [(&str, &[&str]); 6] = [
    (
        "governor",
        &[
            "performance",
            "schedutil",
            "ondemand",
            "powersave",
            "conservative",
        ],
    ),
    ("huge_pages", &["always", "madvise", "never"]),
    ("irq", &["on", "off"]),
    ("rfs_entries", &[]),
    ("rps", &["on", "off"]),
    ("xps", &["on", "off"]),
];
