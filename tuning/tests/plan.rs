//! `ringway-tune plan` as a user runs it: what is printed, written, refused.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program with this home.
fn plan_at(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway-tune"))
        .arg("plan")
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .output()
        .expect("the program of this test has been built")
}

/// Runs the program with an own home, so that no constants of this host are found.
fn plan(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    plan_at(home.path(), arguments)
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A host that every test plans for, whatever host it runs on.
const HOST: [&str; 6] = ["--cores", "8", "--memory", "32GiB", "--open-files", "1M"];

#[test]
fn json_has_the_sums_of_the_table() {
    let demand = ["--sessions", "1M", "--gbit", "10", "--connects", "100"];
    let output = plan(&[&demand[..], &HOST[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let plan_json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan_json["demand"]["sessions"], 1_000_000);
    let relays = plan_json["fleet"]["relays"].as_u64().unwrap();
    let table = plan(&[&demand[..], &HOST[..]].concat());
    let table = String::from_utf8(table.stdout).unwrap();
    let first = format!("relays             {relays}\n");
    assert!(table.starts_with(&first), "{table}");
    let terms = plan_json["terms"].as_array().unwrap();
    let is_shown = |term: &serde_json::Value| table.contains(term["name"].as_str().unwrap());
    assert!(terms.len() > 10 && terms.iter().all(is_shown));
}

#[test]
fn page_is_written_beside_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plan.html");
    let output = plan(&[&HOST[..], &["--html", path.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let page = fs::read_to_string(path).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
}

#[test]
fn what_is_short_ends_with_one() {
    let output = plan(&[&HOST[..], &["--sessions", "100M", "--relays", "1"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("SHORT memory"));
}

#[test]
fn contradictions_and_wrong_values_end_with_two() {
    for (arguments, expected) in [
        (
            &["--sessions", "1k", "--connects", "2k"][..],
            "at most as many connects",
        ),
        (
            &["--relays", "1", "--forwarded", "10%"],
            "a forwarded share of 0",
        ),
        (&["--sessions", "1.5"], "a whole number of sessions"),
        (&["--sessions", "0"], "from 1 to 1G"),
        (&["--message-size", "32MiB"], "from 1B to 16MiB"),
        (&["--forwarded", "10"], "from 0% to 100%"),
        (&["--use-at-most", "100%"], "from 1% to 95%"),
        (&["--memory", "1KiB"], "from 64MiB"),
        (&["calibrate", "--rounds", "0"], "1..=100"),
    ] {
        let output = plan(arguments);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let unwritten = directory.path().join("costs.json");
    let output = unwritten.to_str().unwrap();
    let programs = ["calibrate", "--programs", "/nowhere", "--output", output];
    for (arguments, expected) in [
        (
            [&HOST[..], &["--html", "/nowhere/plan.html"]].concat(),
            "/nowhere/plan.html: ",
        ),
        (
            [&HOST[..], &["--html", "/dev/full"]].concat(),
            "/dev/full: ",
        ),
        (
            [&HOST[..], &["--costs", "/nowhere/costs.json"]].concat(),
            "/nowhere/costs.json: ",
        ),
        (
            programs.to_vec(),
            "no program /nowhere/ringway: build it with",
        ),
        (
            vec!["verify", "--programs", "/nowhere"],
            "say with --programs where it is",
        ),
        (
            vec!["verify", "--costs", "/nowhere/costs.json"],
            "/nowhere/costs.json: ",
        ),
    ] {
        let output = plan(&arguments);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(!unwritten.exists());
}

#[test]
fn constants_of_this_host_are_taken_when_there_are_any() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join(".local/state/ringway");
    fs::create_dir_all(&state).unwrap();
    let path = state.join("costs.json");
    let built_in = include_str!("../src/plan/costs.json");
    let own = built_in.replace("\"machine\": \"", "\"machine\": \"our own ");
    fs::write(&path, own).unwrap();
    let output = plan_at(home.path(), &HOST);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("measured on our own "), "{text}");
    fs::write(&path, "{").unwrap();
    let output = plan_at(home.path(), &HOST);
    assert_eq!(output.status.code(), Some(1));
    let said = error(&output);
    assert!(said.contains(path.to_str().unwrap()), "{said}");
}
