//! The container profile with a real kernel: applied in a network namespace of the test's own, and taken
//! back.
//!
//! Here: what a fake directory cannot say: which values the kernel takes, how it writes them, whether what it
//! wrote can be given back to it. Not here: files of a host, which a container has none of.

use std::collections::BTreeMap;
use std::process::Command;

/// In the namespace: every value, apply, every value, rollback, every value. Nothing outside of it is
/// written.
const STEPS: &str = r#"
set -eu
show() { for path in $(cd /proc/sys && ls -d net/core/* net/ipv4/tcp_* net/ipv4/ip_*); do
    [ -f "/proc/sys/$path" ] && [ -r "/proc/sys/$path" ] && printf '%s %s %s\n' "$1" "$path" "$(od -An -c "/proc/sys/$path" | tr -d '\n')" || :
done; }
echo 7101,9000-9010 > /proc/sys/net/ipv4/ip_local_reserved_ports
show before
"$TUNE" apply --profile container --shards 4 --target-sessions 1M --listen-port 20000 --rollback-file "$RECORD" --write >&2
show after
"$TUNE" rollback --rollback-file "$RECORD" >&2
show back
"#;

#[test]
fn kernel_takes_every_value_of_the_container_profile_and_takes_it_back() {
    let may_unshare = Command::new("unshare").args(["-rn", "true"]).output();
    if !may_unshare.is_ok_and(|out| out.status.success()) {
        println!("skipped: this host forbids `unshare -rn`, so there is no namespace to try it in");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let record = directory.path().join("rollback.json");
    let mut command = Command::new("unshare");
    command
        .args(["-rn", "sh", "-c", STEPS])
        .env("RECORD", &record);
    let out = command
        .env("TUNE", env!("CARGO_BIN_EXE_ringway-tune"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    let text = String::from_utf8(out.stdout).unwrap();
    let values = |when: &str| -> BTreeMap<String, String> {
        let of_then = text
            .lines()
            .filter_map(|line| line.strip_prefix(when)?.strip_prefix(' '));
        let pairs = of_then.filter_map(|line| line.split_once(' '));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (before, after, back) = (values("before"), values("after"), values("back"));
    let plain = |name: &str| after[name].replace(' ', "");
    assert_eq!(plain("net/ipv4/ip_local_port_range"), r"10240\t65535\n");
    assert_eq!(
        plain("net/ipv4/ip_local_reserved_ports"),
        r"7101,9000-9010,20000\n"
    );
    assert_eq!(plain("net/ipv4/tcp_rmem"), r"4096\t131072\t1048576\n");
    assert_eq!(plain("net/ipv4/tcp_slow_start_after_idle"), r"0\n");
    assert!(
        !errors.contains("skipped"),
        "the profile has a value that a namespace lacks: {errors}"
    );
    assert_eq!(before, back, "every value is as before, byte for byte");
    assert!(!record.exists(), "nothing is left to restore");
}
