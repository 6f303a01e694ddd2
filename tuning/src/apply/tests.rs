//! A host in a directory: changed and taken back.

mod failures;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::check::{Congestion, Target, judge, judge_machine};
use crate::finding::Verdict;
use crate::host::Host;
use crate::machine::Machine;
use crate::profile::Profile;

/// A host whose every value is too small, and whose files are in a directory.
struct Image(tempfile::TempDir);

/// What the kernel says before an apply.
const VALUES: &[(&str, &str)] = &[
    ("fs/nr_open", "1024\n"),
    ("fs/file-max", "1000\n"),
    ("fs/file-nr", "456\t0\t1000\n"),
    ("kernel/io_uring_disabled", "2\n"),
    ("kernel/numa_balancing", "1\n"),
    ("kernel/osrelease", "6.12.3\n"),
    ("kernel/random/boot_id", "start-1\n"),
    ("net/core/netdev_max_backlog", "10\n"),
    ("net/core/somaxconn", "128\n"),
    ("net/ipv4/ip_local_port_range", "1024\t2048\n"),
    ("net/ipv4/ip_local_reserved_ports", "\n"),
    ("net/ipv4/tcp_allowed_congestion_control", "reno bbr\n"),
    (
        "net/ipv4/tcp_available_congestion_control",
        "reno bbr cubic\n",
    ),
    ("net/ipv4/tcp_congestion_control", "bbr\n"),
    ("net/ipv4/tcp_fin_timeout", "20\n"),
    ("net/ipv4/tcp_max_orphans", "10\n"),
    ("net/ipv4/tcp_max_syn_backlog", "65536\n"),
    ("net/ipv4/tcp_max_tw_buckets", "9000000\n"),
    ("net/ipv4/tcp_mem", "1\t2\t8000000\n"),
    ("net/ipv4/tcp_mtu_probing", "0\n"),
    ("net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ("net/ipv4/tcp_syncookies", "0\n"),
    ("net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("net/netfilter/nf_conntrack_max", "262144\n"),
    ("net/netfilter/nf_conntrack_count", "9\n"),
    ("vm/swappiness", "60\n"),
];

impl Image {
    fn new() -> Self {
        let image = Self(tempfile::tempdir().unwrap());
        for (path, text) in VALUES {
            image.put(&format!("proc/sys/{path}"), text);
        }
        image.put(
            "proc/meminfo",
            "MemTotal: 64000000 kB\nSwapTotal: 2097148 kB\n",
        );
        image.put("proc/net/softnet_stat", "00000001 00000000\n");
        image.put("sys/devices/system/node/online", "0-1\n");
        image.put("etc/machine-id", "host-1\n");
        image
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn has(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn root(&self) -> Root {
        Root::new(self.0.path())
    }

    fn changes(&self, profile: &str) -> Changes {
        let tuning = Profile::load(profile).unwrap().tune(&target());
        Changes::read(&tuning.unwrap(), &self.root())
    }

    fn rollback_file(&self) -> PathBuf {
        self.at("var/lib/ringway-tune/rollback.json")
    }

    fn rollback(&self, is_forced: bool) -> Result<Restored, RollbackError> {
        let rollback = Rollback::read(&self.rollback_file(), &self.root(), is_forced)?;
        Ok(rollback.restore(is_forced))
    }

    /// Every file of the host with mode and bytes, to compare before and after.
    fn everything(&self) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let (mut found, mut waiting) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
                let is_directory = path.is_dir();
                let bytes = if is_directory {
                    Vec::new()
                } else {
                    fs::read(&path).unwrap()
                };
                if is_directory {
                    waiting.push(path.clone());
                }
                found.push((path, mode, bytes));
            }
        }
        found.sort();
        found
    }
}

fn target() -> Target {
    Target {
        shards: 4,
        sessions_max: 250_000,
        backlog: 4_096,
        listen_port: 7_100,
        congestion: Congestion::Automatic,
    }
}

fn step_of(changes: &Changes, name: &str) -> Step {
    let mut values = changes.values.iter();
    values
        .find(|value| value.name == name)
        .unwrap()
        .step
        .clone()
}

#[test]
fn what_is_applied_satisfies_every_check_of_the_target() {
    for profile in ["connections", "latency", "throughput"] {
        let image = Image::new();
        image.put("proc/sys/net/ipv4/tcp_max_syn_backlog", "16\n");
        let judged = || {
            let proc_root = image.at("proc");
            let mut findings = judge(&Host::read_under(&proc_root), &target());
            let machine = Machine::read_at(&image.at(""));
            findings.extend(judge_machine(&machine, &target()));
            findings
        };
        let before = judged();
        image
            .changes(profile)
            .write(&image.rollback_file())
            .unwrap();
        let after = judged();
        for check in [
            "io_uring",
            "somaxconn",
            "port_range",
            "congestion",
            "nr_open",
            "file_max",
            "tcp_mem",
            "orphans",
            "syn_queue",
            "conntrack",
            "idle_restart",
            "mtu_probing",
            "swap",
            "numa",
        ] {
            let verdict = |all: &[crate::Finding]| {
                let found = all.iter().find(|finding| finding.check == check);
                found.unwrap().verdict
            };
            assert_ne!(verdict(&before), Verdict::Pass, "{check} has nothing to do");
            assert_eq!(verdict(&after), Verdict::Pass, "{profile}: {check}");
        }
        // And no check that comes later asks for a sysctl that the profiles do not set.
        for finding in after
            .iter()
            .filter(|finding| finding.verdict != Verdict::Pass)
        {
            assert!(!finding.fix.contains("sysctl "), "{profile}: {finding:?}");
        }
        // The limit that the unit is given is the one that is asked for.
        let unit = image.has("etc/systemd/system/ringway.service.d/60-ringway.conf");
        assert!(unit.contains("\nLimitNOFILE=250001\n"), "{unit}");
    }
}

#[test]
fn container_profile_satisfies_the_checks_of_its_namespace() {
    let image = Image::new();
    image
        .changes("container")
        .write(&image.rollback_file())
        .unwrap();
    let host = Host::read_under(&image.at("proc"));
    let machine = Machine::read_at(&image.at(""));
    let findings = [judge(&host, &target()), judge_machine(&machine, &target())].concat();
    for check in [
        "somaxconn",
        "port_range",
        "syn_queue",
        "idle_restart",
        "mtu_probing",
    ] {
        let found = findings.iter().find(|finding| finding.check == check);
        assert_eq!(found.unwrap().verdict, Verdict::Pass, "{found:?}");
    }
    assert!(
        !image.at("etc/sysctl.d").exists(),
        "a container gets no files"
    );
}

#[test]
fn better_values_stay_and_the_file_says_so() {
    let image = Image::new();
    let changes = image.changes("connections");
    let is_kept = |name: &str| matches!(step_of(&changes, name), Step::Keep { .. });
    // More connections, more buckets, a shorter timeout than asked for.
    for name in [
        "tcp_max_syn_backlog",
        "tcp_max_tw_buckets",
        "tcp_fin_timeout",
    ] {
        assert!(is_kept(&format!("net.ipv4.{name}")), "{name}");
    }
    let then = |name: &str| match step_of(&changes, name) {
        Step::Change { then, .. } => then,
        other => panic!("{name}: {other:?}"),
    };
    // Each number by itself; the host's names stay in the list.
    assert_eq!(then("net.ipv4.tcp_mem"), "1000000 1000000 8000000");
    assert_eq!(
        then("net.ipv4.tcp_allowed_congestion_control"),
        "reno bbr cubic"
    );
    let file = &changes.files[0];
    assert!(
        file.text
            .contains("\nnet.ipv4.tcp_max_syn_backlog = 65536\n"),
        "{}",
        file.text
    );
    assert!(
        file.text
            .contains("\nnet.ipv4.tcp_mem = 1000000 1000000 8000000\n"),
        "{}",
        file.text
    );
    assert!(
        file.text.contains("has 9000000 of its own"),
        "{}",
        file.text
    );
}

#[test]
fn what_a_kernel_lacks_is_skipped_with_the_reason() {
    let image = Image::new();
    image.put("proc/sys/kernel/osrelease", "5.10.0\n");
    fs::remove_file(image.at("proc/sys/kernel/io_uring_disabled")).unwrap();
    fs::remove_file(image.at("proc/sys/net/netfilter/nf_conntrack_max")).unwrap();
    fs::remove_file(image.at("proc/sys/net/ipv4/tcp_available_congestion_control")).unwrap();
    image.put("proc/sys/net/ipv4/tcp_max_orphans", "plenty\n");
    image.put("proc/meminfo", "MemTotal: 1000 kB\n");
    let changes = image.changes("latency");
    for (name, expected) in [
        ("kernel.io_uring_disabled", "before 6.6 every process"),
        ("net.netfilter.nf_conntrack_max", "not loaded"),
        ("net.ipv4.tcp_notsent_lowat", "(5.10) does not show it"),
        (
            "net.ipv4.tcp_allowed_congestion_control",
            "available_congestion_control cannot be read",
        ),
        ("net.ipv4.tcp_max_orphans", "\"plenty\", expected numbers"),
        ("net.ipv4.tcp_mem", "lower the target"),
    ] {
        match step_of(&changes, name) {
            Step::Skip { why } => assert!(why.contains(expected), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let text = &changes.files[0].text;
    assert!(
        text.contains("\n# kernel.io_uring_disabled = 0\n"),
        "{text}"
    );
}

#[test]
fn rollback_restores_every_byte_and_mode() {
    let image = Image::new();
    // One file was there, with bytes that are no text and a mode of its own; one directory was not.
    let limits = image.at("etc/security/limits.d/60-ringway.conf");
    image.put("etc/security/limits.d/60-ringway.conf", "");
    fs::write(&limits, b"# \xff\n").unwrap();
    fs::set_permissions(&limits, fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    let before = image.everything();
    let changes = image.changes("connections");
    assert_eq!(
        image.everything(),
        before,
        "reading what would change changes nothing"
    );
    changes.write(&image.rollback_file()).unwrap();
    assert_ne!(image.everything(), before);
    assert_eq!(
        image.has("proc/sys/net/ipv4/ip_local_port_range"),
        "10240 65535\n"
    );
    assert!(
        image.changes("connections").is_done(),
        "a second look has nothing to do"
    );
    let restored = image.rollback(false).unwrap();
    assert_eq!(restored.left, Vec::<String>::new());
    assert_eq!(image.everything(), before);
    let again = image.rollback(false).unwrap_err().to_string();
    assert!(
        again.contains("is not there: nothing was applied"),
        "{again}"
    );
}

#[test]
fn second_apply_leaves_the_first_ones_record_alone() {
    let image = Image::new();
    image
        .changes("connections")
        .write(&image.rollback_file())
        .unwrap();
    let before = image.everything();
    let error = image
        .changes("latency")
        .write(&image.rollback_file())
        .unwrap_err();
    assert!(matches!(error, ApplyError::Recorded(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("Run `ringway-tune rollback` first"),
        "{error}"
    );
    assert_eq!(image.everything(), before);
    // With a record of its own it may; both are taken back in the opposite order.
    let other = image.at("latency.json");
    image.changes("latency").write(&other).unwrap();
    let second = Rollback::read(&other, &image.root(), false).unwrap();
    assert_eq!(second.restore(false).left, Vec::<String>::new());
    assert_eq!(image.everything(), before);
}
