//! The program in network namespaces: ports that run out at a known number.
//!
//! Here: whole scenarios of the program with `--netns`. Where this machine makes no namespaces for everybody
//! (a container, a hardened kernel), the tests check that the program says so.

use std::process::{Command, Output};

use serde_json::Value;

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Runs a scenario; `None` where there are no namespaces, which the program then has said.
fn scenario(arguments: &[&str]) -> Option<(i32, Value)> {
    let can = Command::new("unshare").args(["-rn", "true"]).output();
    let can = can.is_ok_and(|output| output.status.success());
    let mut all = vec!["run"];
    all.extend(arguments);
    all.extend(["--netns", "--json", "-"]);
    let output = loadgen(&all);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code().expect("an exit status");
    if !can {
        assert_ne!(status, 0, "{complaints}");
        return None;
    }
    let document = serde_json::from_slice(&output.stdout);
    Some((status, document.expect("a document on standard output")))
}

#[test]
fn one_destination_has_as_many_connections_as_there_are_ports() {
    let Some((status, document)) = scenario(&[
        "one-destination",
        "--netns-ports",
        "40000-40255",
        "--time-scale",
        "0.5",
        "--set",
        "connects.rate=600",
    ]) else {
        return;
    };
    // 256 ports, of which the server may have one; the assert of the file wants a thousand.
    assert_eq!(status, 1, "{document:#}");
    let ledger = &document["groups"][0]["run"]["ledger"][0];
    let connects = ledger["connect"]["count"].as_u64().expect("a count");
    assert!((255..=256).contains(&connects), "{ledger}");
    assert_eq!(ledger["range"], 256);
    assert_eq!(ledger["time_wait"].as_u64(), Some(connects));
    let refused = ledger["addr_not_avail"].as_u64().expect("a count");
    assert!(refused > 0, "{ledger}");
    let expected = &document["groups"][0]["run"]["expected"];
    let names: Vec<&String> = expected.as_object().expect("names").keys().collect();
    assert!(
        names[0].contains("Cannot assign requested address"),
        "{names:?}"
    );
}

#[test]
fn a_second_destination_has_the_same_ports_once_more() {
    let Some((status, document)) = scenario(&["two-destinations", "--time-scale", "0.3"]) else {
        return;
    };
    assert_eq!(status, 0, "{document:#}");
    assert_eq!(document["verdict"], "good");
}

#[test]
fn the_side_that_closes_first_keeps_the_port() {
    let Some((status, document)) = scenario(&["close-styles", "--time-scale", "0.5"]) else {
        return;
    };
    assert_eq!(status, 0, "{document:#}");
}

#[test]
fn scenarios_are_listed_and_printed() {
    let output = loadgen(&["scenarios"]);
    let list = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && list.lines().count() >= 17,
        "{list}"
    );
    for line in list.lines() {
        let name = line.split_ascii_whitespace().next().expect("a name");
        let file = loadgen(&["scenarios", name]);
        let file = String::from_utf8(file.stdout).expect("text");
        assert!(file.starts_with("question = "), "{name}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_the_way_out() {
    for (arguments, word) in [
        (&["run", "nothing"][..], "session-death"),
        (&["run", "missing.toml"], "missing.toml"),
        (&["run", "steady"], "--start"),
        (
            &["run", "steady", "--start", "--ringway", "/nonexistent"],
            "--ringway",
        ),
        (&["run", "drain", "--relay", "x"], "KEY@ADDRESS"),
        (
            &["run", "steady", "--start", "--set", "traffic.sessions=3"],
            "odd",
        ),
        (&["run", "steady", "--start", "--time-scale", "0"], "0.01"),
        (&["run", "steady", "--netns-ports", "1-2"], "--netns"),
        (&["scenarios", "nothing"], "session-death"),
    ] {
        let output = loadgen(arguments);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaints}");
        assert!(complaints.contains(word), "{arguments:?}: {complaints}");
    }
}
