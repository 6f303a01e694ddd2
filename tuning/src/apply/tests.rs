//! A host in a directory: changed, taken back, and everything that can go wrong in between.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

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

    fn plan(&self, profile: &str) -> Plan {
        let tuning = Profile::load(profile).unwrap().tune(&target());
        Plan::read(&tuning.unwrap(), &self.root())
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

fn step_of(plan: &Plan, name: &str) -> Step {
    let mut values = plan.values.iter();
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
            let machine = Machine::read_under(&proc_root, &image.at("sys"));
            findings.extend(judge_machine(&machine, &target()));
            findings
        };
        let before = judged();
        image.plan(profile).write(&image.rollback_file()).unwrap();
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
        .plan("container")
        .write(&image.rollback_file())
        .unwrap();
    let host = Host::read_under(&image.at("proc"));
    let machine = Machine::read_under(&image.at("proc"), &image.at("sys"));
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
    let plan = image.plan("connections");
    let is_kept = |name: &str| matches!(step_of(&plan, name), Step::Keep { .. });
    // More connections, more buckets, a shorter timeout than asked for.
    for name in [
        "tcp_max_syn_backlog",
        "tcp_max_tw_buckets",
        "tcp_fin_timeout",
    ] {
        assert!(is_kept(&format!("net.ipv4.{name}")), "{name}");
    }
    let then = |name: &str| match step_of(&plan, name) {
        Step::Change { then, .. } => then,
        other => panic!("{name}: {other:?}"),
    };
    // Each number by itself; the host's names stay in the list.
    assert_eq!(then("net.ipv4.tcp_mem"), "1000000 1000000 8000000");
    assert_eq!(
        then("net.ipv4.tcp_allowed_congestion_control"),
        "reno bbr cubic"
    );
    let file = &plan.files[0];
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
    let plan = image.plan("latency");
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
        match step_of(&plan, name) {
            Step::Skip { why } => assert!(why.contains(expected), "{name}: {why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let text = &plan.files[0].text;
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
    let plan = image.plan("connections");
    assert_eq!(image.everything(), before, "reading a plan changes nothing");
    plan.write(&image.rollback_file()).unwrap();
    assert_ne!(image.everything(), before);
    assert_eq!(
        image.has("proc/sys/net/ipv4/ip_local_port_range"),
        "10240 65535\n"
    );
    assert!(
        image.plan("connections").is_done(),
        "a second plan has nothing to do"
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
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap();
    let before = image.everything();
    let error = image
        .plan("latency")
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
    image.plan("latency").write(&other).unwrap();
    let second = Rollback::read(&other, &image.root(), false).unwrap();
    assert_eq!(second.restore(false).left, Vec::<String>::new());
    assert_eq!(image.everything(), before);
}

#[test]
fn what_somebody_changed_since_is_left_unless_forced() {
    let image = Image::new();
    let before = image.everything();
    image
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap();
    image.put("proc/sys/vm/swappiness", "1\n");
    image.put("etc/sysctl.d/60-ringway.conf", "# mine\n");
    fs::remove_file(image.at("usr/local/sbin/ringway-network.sh")).unwrap();
    let restored = image.rollback(false).unwrap();
    let left = restored.left.join("\n");
    assert_eq!(restored.left.len(), 2, "{left}");
    assert!(
        left.contains(
            "vm.swappiness: somebody has set it to 1 since (the apply set 10, before it was 60)"
        ),
        "{left}"
    );
    assert!(
        left.contains("60-ringway.conf: somebody has changed it since"),
        "{left}"
    );
    assert_eq!(image.has("proc/sys/vm/swappiness"), "1\n");
    assert!(
        image.rollback_file().exists(),
        "the record stays while something is left"
    );
    let restored = image.rollback(true).unwrap();
    assert_eq!(restored.left, Vec::<String>::new());
    drop(fs::remove_dir_all(image.at("var")));
    assert_eq!(image.everything(), before);
}

#[test]
fn a_killed_apply_or_rollback_is_taken_back_from_any_step() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    let before = image.everything();
    image
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap();
    let record = fs::read(image.rollback_file()).unwrap();
    let after = image.everything();
    let values: Vec<_> = after.iter().filter(|(path, ..)| path.is_file()).collect();
    for stop in 0..values.len() {
        // The first `stop` files are as before, the others as after, and a file is half-written beside its place.
        for (index, (path, _, bytes)) in values.iter().enumerate() {
            let old = before.iter().find(|(other, ..)| other == path);
            match (index < stop, old) {
                (true, Some((_, _, old))) => fs::write(path, old).unwrap(),
                (true, None) if *path != image.rollback_file() => drop(fs::remove_file(path)),
                _ => fs::write(path, bytes).unwrap(),
            }
        }
        image.put("etc/sysctl.d/60-ringway.conf.ringway-tune.tmp", "half");
        let restored = image.rollback(false).unwrap();
        assert_eq!(restored.left, Vec::<String>::new(), "stopped after {stop}");
        assert_eq!(image.everything(), before, "stopped after {stop}");
        // Again from the state after the apply.
        for (path, mode, bytes) in &after {
            if mode & 0o170_000 == 0o040_000 {
                drop(fs::create_dir_all(path));
            } else {
                fs::write(path, bytes).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
        fs::write(image.rollback_file(), &record).unwrap();
    }
}

#[test]
fn failure_in_the_middle_takes_everything_back() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    // It can be opened and read, and every write ends with "no space left".
    let path = image.at("proc/sys/net/ipv4/tcp_rmem");
    let plan = image.plan("connections");
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    let values = |image: &Image| {
        VALUES
            .iter()
            .filter(|(name, _)| !name.ends_with("tcp_rmem"))
            .all(|(name, text)| image.has(&format!("proc/sys/{name}")) == *text)
    };
    let error = plan.write(&image.rollback_file()).unwrap_err();
    // The kernel's file itself is what cannot be put back here: that is said, with the way on.
    let text = error.to_string();
    assert!(matches!(error, ApplyError::Stuck { .. }), "{text}");
    assert!(
        text.contains("net.ipv4.tcp_rmem: cannot be set to 4096 131072 1048576"),
        "{text}"
    );
    assert!(
        text.contains("Run `ringway-tune rollback --rollback-file"),
        "{text}"
    );
    assert!(values(&image), "every other value is as it was");
    assert!(image.rollback_file().exists());
    fs::remove_file(&path).unwrap();
    image.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n");
    assert_eq!(image.rollback(false).unwrap().left, Vec::<String>::new());
}

#[test]
fn failure_that_can_be_taken_back_leaves_no_record() {
    let image = Image::new();
    fs::create_dir_all(image.at("var/lib/ringway-tune")).unwrap();
    let plan = image.plan("connections");
    // A directory where the last file goes, made after the plan looked.
    fs::create_dir_all(image.at("usr/local/sbin/ringway-network.sh.ringway-tune.tmp")).unwrap();
    fs::create_dir_all(image.at("etc/sysctl.d")).unwrap();
    image.put(
        "etc/systemd/system/ringway.service.d",
        "a file in place of the directory",
    );
    let error = plan.write(&image.rollback_file()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ringway.service.d/60-ringway.conf: cannot be written"),
        "{text}"
    );
    assert_eq!(image.has("proc/sys/vm/swappiness"), "60\n");
    assert!(!image.at("etc/sysctl.d/60-ringway.conf").exists());
}

#[test]
fn nothing_is_changed_where_something_cannot_be() {
    let image = Image::new();
    fs::create_dir_all(image.at("etc/sysctl.d/60-ringway.conf")).unwrap();
    let plan = image.plan("connections");
    let before = image.everything();
    let text = plan.write(&image.rollback_file()).unwrap_err().to_string();
    assert!(
        text.contains("nothing was changed")
            && text.contains("60-ringway.conf: is no regular file"),
        "{text}"
    );
    assert_eq!(image.everything(), before);

    // The record cannot be written: no room for it, nothing done.
    let image = Image::new();
    image.put("var", "a file in place of the directory");
    let before = image.everything();
    let error = image
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap_err();
    assert!(matches!(error, ApplyError::Record { .. }), "{error}");
    assert_eq!(image.everything(), before);
}

#[test]
fn obstacles_say_what_to_do() {
    for (error, fix) in [
        (io::ErrorKind::PermissionDenied, "run it as root"),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            "render --profile container",
        ),
        (io::ErrorKind::StorageFull, "make room"),
    ] {
        assert!(files::fix(&error.into()).contains(fix));
    }
}

#[test]
fn records_that_are_damaged_or_foreign_are_refused() {
    let image = Image::new();
    image
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap();
    let record = image.has("var/lib/ringway-tune/rollback.json");
    let before = image.everything();
    let refused = |text: &str, expected: &str| {
        image.put("var/lib/ringway-tune/rollback.json", text);
        let error = image.rollback(false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&record[..record.len() / 2], "is damaged");
    refused("", "is damaged");
    refused(
        &record.replace("\"format\": 1", "\"format\": 2"),
        "has the form 2, this program knows 1",
    );
    refused(
        &record.replace("host-1", "host-2"),
        "was written on another host (machine-id host-2, this one is host-1)",
    );
    image.put("var/lib/ringway-tune/rollback.json", &record);
    assert_eq!(image.everything(), before);
    let shared = fs::Permissions::from_mode(0o666);
    fs::set_permissions(image.rollback_file(), shared).unwrap();
    let error = image.rollback(true).unwrap_err().to_string();
    assert!(error.contains("others may write it"), "{error}");
}

#[test]
fn another_start_or_an_unknown_host_is_said() {
    let image = Image::new();
    image
        .plan("connections")
        .write(&image.rollback_file())
        .unwrap();
    image.put("proc/sys/kernel/random/boot_id", "start-2\n");
    fs::remove_file(image.at("etc/machine-id")).unwrap();
    let rollback = Rollback::read(&image.rollback_file(), &image.root(), false).unwrap();
    let notes = rollback.notes.join("\n");
    assert!(
        notes.contains("started again since") && notes.contains("machine-id could not be read"),
        "{notes}"
    );
    assert_eq!(rollback.profile(), "connections");
}
