//! Files for every profile, the ones in `deploy`, and the script on a copy of `/sys`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::*;
use crate::check::Target;
use crate::profile::{PROFILES, Profile};

fn tuning(profile: &str) -> Tuning {
    let target = Target {
        shards: 8,
        sessions_max: 16_384,
        backlog: 4_096,
        listen_port: 7_100,
        congestion: Congestion::Automatic,
    };
    Profile::load(profile).unwrap().tune(&target).unwrap()
}

fn text(profile: &str, path: &str) -> String {
    let files = render(&tuning(profile));
    files
        .into_iter()
        .find(|file| file.path == path)
        .unwrap()
        .text
}

#[test]
fn every_value_has_unit_reason_source_and_version_above_it() {
    for (profile, _) in PROFILES {
        let tuning = tuning(profile);
        let files = render(&tuning);
        for setting in &tuning.settings {
            // As one line: comments are broken where the page ends.
            let words = |text: &str| {
                text.replace('#', "")
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let reason = words(&setting.reason);
            let said = format!(
                "Unit: {}. Source: {}. Since: ",
                setting.unit, setting.source
            );
            let is_said = |file: &RenderedFile| {
                words(&file.text).contains(&reason) && words(&file.text).contains(&said)
            };
            assert!(files.iter().any(is_said), "{profile}: {}", setting.name);
        }
        for file in files {
            for line in file.text.lines().filter(|line| line.starts_with('#')) {
                assert!(
                    line.len() <= 120 || line.contains(" --"),
                    "{}: {line}",
                    file.path
                );
            }
        }
    }
}

/// With `RINGWAY_BLESS=1` the files are written instead of compared.
#[test]
fn deploy_has_what_is_rendered_for_the_default_relay() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for path in ["sysctl.d/60-ringway.conf", "limits.d/60-ringway.conf"] {
        let wanted = text("connections", path);
        let path = deploy.join(path);
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        let have = fs::read_to_string(&path).unwrap();
        assert_eq!(have, wanted, "RINGWAY_BLESS=1 writes {}", path.display());
    }
    // The unit is written by hand and has more; what both have must be the same.
    let unit = fs::read_to_string(deploy.join("systemd/ringway.service")).unwrap();
    let drop_in = text("connections", "systemd/ringway.service.d/60-ringway.conf");
    let keys = drop_in
        .lines()
        .filter(|line| !line.starts_with(['#', '[']) && !line.is_empty());
    for line in keys {
        assert!(
            unit.lines().any(|other| other == line),
            "deploy/systemd/ringway.service: no {line}"
        );
    }
}

#[test]
fn what_the_kernel_computes_is_a_comment() {
    let text = text("connections", "sysctl.d/60-ringway.conf");
    assert!(
        text.contains("\n# net.ipv4.tcp_mem = 131072 131072 262144\n"),
        "{text}"
    );
    assert!(
        text.contains("\n-net.ipv4.tcp_allowed_congestion_control = reno cubic bbr\n"),
        "{text}"
    );
    assert!(text.contains("\nnet.core.somaxconn = 4096\n"), "{text}");
}

#[test]
fn containers_are_given_the_settings_in_three_forms() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("docker-run.sh");
    fs::write(&script, text("container", "container/docker-run.sh")).unwrap();
    let mut command = Command::new("sh");
    let out = command
        .arg(&script)
        .arg("IMAGE")
        .env("DOCKER", "echo")
        .output()
        .unwrap();
    let line = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.success()
            && line
                .starts_with("run --ulimit memlock=8388608:8388608 --ulimit nofile=131072:131072 "),
        "{line}"
    );
    assert!(
        line.contains("--sysctl net.ipv4.ip_local_port_range=10240 65535 "),
        "{line}"
    );
    assert!(
        line.ends_with(" IMAGE\n") && !line.contains("tw_buckets"),
        "{line}"
    );

    let compose = text("container", "container/compose.yaml");
    assert!(
        compose.contains("\n      net.core.somaxconn: \"4096\"\n"),
        "{compose}"
    );
    assert!(
        compose.contains("\n      nofile:\n        soft: 131072\n"),
        "{compose}"
    );
    let pod = text("container", "container/pod.yaml");
    assert!(
        pod.contains("\n      - name: net.core.somaxconn\n        value: \"4096\"\n"),
        "{pod}"
    );
    let flag = pod
        .lines()
        .find(|line| line.contains("--allowed-unsafe-sysctls"))
        .unwrap();
    assert!(
        flag.contains("somaxconn") && !flag.contains("syncookies"),
        "{flag}"
    );
}

/// A copy of what the script reads: a card with two queues, four processors.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        copy.put("ringway-network.sh", &text("latency", "ringway-network.sh"));
        copy.put("sys/devices/system/cpu/online", "0-2,33\n");
        for queue in [
            "rx-0/rps_cpus",
            "rx-1/rps_cpus",
            "tx-0/xps_cpus",
            "tx-1/xps_cpus",
        ] {
            copy.put(
                &format!("sys/class/net/eth0/queues/{queue}"),
                "00000000,00000000\n",
            );
        }
        for queue in ["rx-0", "rx-1"] {
            copy.put(
                &format!("sys/class/net/eth0/queues/{queue}/rps_flow_cnt"),
                "0\n",
            );
        }
        copy.put("proc/sys/net/core/rps_sock_flow_entries", "0\n");
        copy.put("proc/interrupts", " 40:  1  2  PCI-MSIX  0-edge  virtio3-config\n 41:  1  2  PCI-MSIX  virtio3-output.1\n");
        for irq in ["40", "41"] {
            copy.put(
                &format!("sys/class/net/eth0/device/msi_irqs/{irq}"),
                "msix\n",
            );
            copy.put(&format!("proc/irq/{irq}/smp_affinity_list"), "0-2,33\n");
        }
        copy.put(
            "sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        );
        copy.put(
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave\n",
        );
        copy
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn has(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn run(&self, arguments: &[&str]) -> (Output, String) {
        let mut command = Command::new("sh");
        command
            .arg(self.0.path().join("ringway-network.sh"))
            .args(arguments);
        let out = command.env("RINGWAY_ROOT", self.0.path()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned()
            + &String::from_utf8_lossy(&out.stderr);
        (out, text)
    }
}

#[test]
fn script_sets_queues_interrupts_pages_and_governor_once() {
    let copy = Copy::new();
    let (out, text) = copy.run(&["eth0"]);
    assert!(out.status.success(), "{text}");
    // Processors 0, 1, 2 and 33 in groups of 32 bits; two queues are fewer than four processors.
    assert_eq!(
        copy.has("sys/class/net/eth0/queues/rx-1/rps_cpus"),
        "00000002,00000007"
    );
    assert_eq!(
        copy.has("sys/class/net/eth0/queues/tx-0/xps_cpus"),
        "00000005"
    );
    assert_eq!(
        copy.has("sys/class/net/eth0/queues/tx-1/xps_cpus"),
        "00000002,00000002"
    );
    assert_eq!(
        copy.has("sys/class/net/eth0/queues/rx-0/rps_flow_cnt"),
        "16384"
    );
    assert_eq!(copy.has("proc/sys/net/core/rps_sock_flow_entries"), "32768");
    assert_eq!(copy.has("proc/irq/41/smp_affinity_list"), "1");
    assert_eq!(copy.has("proc/irq/40/smp_affinity_list"), "0-2,33");
    assert!(
        text.contains("interrupt 40 (virtio3-config): not a queue's"),
        "{text}"
    );
    assert!(text.contains("enabled: always -> madvise"), "{text}");
    assert_eq!(
        copy.has("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "performance"
    );
    assert!(
        text.contains("cpu33/cpufreq/scaling_governor: not there, skipped"),
        "{text}"
    );
    let (out, text) = copy.run(&["eth0"]);
    // The kernel would show [madvise]; the copy has the word itself.
    assert!(out.status.success() && !text.contains(" -> "), "{text}");
}

#[test]
fn script_in_a_dry_run_changes_nothing() {
    let copy = Copy::new();
    let (out, text) = copy.run(&["--dry-run", "eth0"]);
    assert!(
        out.status.success() && text.contains("-> madvise (dry run"),
        "{text}"
    );
    assert_eq!(
        copy.has("sys/kernel/mm/transparent_hugepage/enabled"),
        "[always] madvise never"
    );
    assert_eq!(
        copy.has("sys/class/net/eth0/queues/rx-0/rps_cpus"),
        "00000000,00000000"
    );
    assert_eq!(copy.has("proc/irq/41/smp_affinity_list"), "0-2,33");
}

#[test]
fn script_names_what_is_wrong() {
    let copy = Copy::new();
    let (out, text) = copy.run(&["eth1"]);
    assert!(
        out.status.code() == Some(2) && text.contains("no interface eth1; there is: eth0"),
        "{text}"
    );
    for arguments in [&["--fast"][..], &[]] {
        let (out, text) = copy.run(arguments);
        assert!(
            out.status.code() == Some(2) && text.starts_with("usage: "),
            "{text}"
        );
    }
}

#[test]
fn scripts_are_posix() {
    for (profile, _) in PROFILES {
        for file in render(&tuning(profile))
            .iter()
            .filter(|file| file.mode == 0o755)
        {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("script");
            fs::write(&path, &file.text).unwrap();
            let out = Command::new("sh").arg("-n").arg(&path).output().unwrap();
            assert!(out.status.success(), "{profile}: {}: {out:?}", file.path);
        }
    }
}
