//! The command in a network of its own, where the test may set what the host is short of.
//!
//! Here: that a real shortage is seen and named, and how the command ends. Not here: each verdict (the
//! library's tests).
//!
//! Invariant: settings are changed inside the namespace only, which ends with its command.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure in a helper of a test fails the test"
)]

use std::process::Command;

/// Set by people whose host allows no namespaces, and who accept that these tests prove nothing there.
const WITHOUT: &str = "RINGWAY_NO_NETNS";

/// Runs a shell script in a new namespace with the loopback up and in a directory of its own; `$TUNE` is the
/// command. Returns what it printed; none when this host has no namespaces.
fn inside(script: &str) -> Option<String> {
    if std::env::var_os(WITHOUT).is_some() {
        println!("NOT RUN, because {WITHOUT} is set: this host has no network namespaces");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["-r", "-n", "--", "sh", "-c"])
        .arg(format!("ip link set lo up || exit 1; {script}"))
        .env("TUNE", env!("CARGO_BIN_EXE_ringway-tune"))
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success(),
        "{said}\nif 'unshare -rn' did not work: allow it, or set {WITHOUT}=1 to go without this test"
    );
    Some(said)
}

#[test]
fn short_queue_is_proven_watched_and_compared() {
    let Some(said) = inside(
        "echo 16 > /proc/sys/net/core/somaxconn
         $TUNE watch --interval 200ms > watched & watcher=$!
         until test -s watched; do sleep 0.05; done
         $TUNE prove --duration 1s --output before.json; echo first $?
         kill -TERM $watcher; wait $watcher; echo watch $?
         cat watched
         echo 4096 > /proc/sys/net/core/somaxconn
         $TUNE prove --duration 1s --backlog 64 --against before.json; echo second $?",
    ) else {
        return;
    };
    for words in [
        "held 17 of the 4096 connections",
        "first 1",
        "BAD      ListenOverflows: a listen queue overflowed",
        "fix: raise tcp.backlog and net.core.somaxconn",
        "of them quiet",
        "watch 1",
        "net.core.somaxconn: 16 -> 4096",
        "the earlier run was made with --backlog 4096, this one with 64",
        "second 0",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn few_ports_are_watched_and_not_used_up() {
    let Some(said) = inside(
        "echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range
         $TUNE prove --duration 1s; echo prove $?
         $TUNE watch --interval 100ms --count 2 --json; echo watch $?",
    ) else {
        return;
    };
    for words in [
        "16 held to one destination at once, the range has 64",
        "the storm had 16 connections, not 4096: a quarter of net.ipv4.ip_local_port_range",
        "prove 0",
        "\"schema\":\"ringway-tune-watch/1\"",
        "\"is_bad\":false",
        "watch 0",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let objects: Vec<&str> = said.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(objects.len(), 4, "{said}");
    for line in objects {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn network_without_a_loopback_is_no_result() {
    let Some(said) = inside("ip link set lo down; $TUNE prove --duration 1s; echo prove $?") else {
        return;
    };
    assert!(said.contains("prove 1"), "{said}");
    let words = "round trips over 127.0.0.1: nobody answers: see with `ip link show lo`";
    assert!(said.contains(words), "{said}");
}
