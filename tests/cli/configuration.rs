//! Configuration and flags that are wrong.

use std::fs;

use crate::support::{Relay, ringway, run};

#[test]
fn every_problem_of_every_source_is_named_at_once() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("relay.toml");
    fs::write(&file, "lisen = \"x\"\nshards = 0\n[drain]\ntimeout = 5\n").unwrap();
    let file = file.to_str().unwrap();
    let mut command = ringway(
        state.path(),
        &["serve", "--config", file, "--listen", "7100"],
    );
    let output = command.env("RINGWAY_TCP_BACKLOG", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    for part in [
        "the configuration has 5 problems",
        "did you mean listen?",
        "shards (",
        "accepted: \"auto\" or 1 to 256",
        "drain.timeout (",
        "has no unit",
        "tcp.backlog (RINGWAY_TCP_BACKLOG): 0 is too small",
        "listen (--listen): ",
    ] {
        assert!(err.contains(part), "{part} in\n{err}");
    }
}

#[test]
fn check_config_accepts_and_refuses() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("relay.toml");
    let name = file.to_str().unwrap();
    fs::write(&file, "[log]\nformat = \"json\"\n").unwrap();
    let good = run(state.path(), &["check-config", name]);
    assert_eq!(good.code, Some(0), "{}", good.err);
    let lines: Vec<&str> = good.out.lines().collect();
    assert_eq!(lines[0], format!("{name}: ok"));
    assert!(lines[1].starts_with("capacity   "), "{}", lines[1]);
    assert_eq!(lines.len(), 2);
    fs::write(&file, "[log]\nformat = \"xml\"\n").unwrap();
    let bad = run(state.path(), &["check-config", name]);
    assert_eq!(bad.code, Some(2));
    assert!(
        bad.err.contains("log.format") && bad.err.contains("\"text\" or \"json\""),
        "{}",
        bad.err
    );
    fs::write(
        &file,
        b"listen = \"127.0.0.1:7100\"\n[log]\nformat = \"\xfftext\"\n",
    )
    .unwrap();
    let no_text = run(state.path(), &["check-config", name]);
    assert_eq!(no_text.code, Some(2), "{}", no_text.err);
    assert!(
        no_text.err.contains("line 3: the byte 0xff is no UTF-8"),
        "{}",
        no_text.err
    );
    let missing = run(state.path(), &["check-config", "/nonexistent/relay.toml"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("/nonexistent/relay.toml"),
        "{}",
        missing.err
    );
    let keys = run(state.path(), &["check-config", "--keys"]);
    assert!(
        keys.out.contains("limits.sessions_max = \"auto\""),
        "{}",
        keys.out
    );
}

#[test]
fn file_reaches_the_relay() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("relay.toml");
    fs::write(&file, "[limits]\nstreams_max = 7\n").unwrap();
    let relay = Relay::start(&["--config", file.to_str().unwrap()]);
    let json = run(state.path(), &["status", "--admin", &relay.admin, "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["limits"]["session_streams_max"], 7);
}

#[test]
fn wrong_flags_are_usage_errors() {
    let state = tempfile::tempdir().unwrap();
    let key = "ab".repeat(32);
    let to = format!("{key}:80");
    for (arguments, part) in [
        (vec!["serve", "--bogus"], "--bogus"),
        (vec!["serve", "--set", "x"], "KEY=VALUE"),
        (vec!["bogus"], "bogus"),
        (vec!["ping", "xyz"], "64 lower-case hex digits"),
        (vec!["ping", &key], "--relay KEY@HOST:PORT"),
        (
            vec!["expose", "--port", "80", "--to", "127.0.0.1:1"],
            "--relay",
        ),
        (
            vec![
                "expose",
                "--relay",
                "x",
                "--port",
                "80",
                "--to",
                "127.0.0.1:1",
            ],
            "no '@'",
        ),
        (
            vec!["expose", "--port", "0", "--to", "127.0.0.1:1"],
            "--port",
        ),
        (
            vec!["expose", "--port", "80", "--to", "8080"],
            "127.0.0.1:8080",
        ),
        (
            vec!["forward", "--listen", "9000", "--to", &to],
            "IP address is missing",
        ),
        (
            vec!["forward", "--listen", "127.0.0.1:0", "--to", &key],
            "colon and a port",
        ),
        (vec!["demo", "--duration", "5"], "no unit"),
    ] {
        let finished = run(state.path(), &arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        assert!(finished.err.contains(part), "{part} in {}", finished.err);
        assert_eq!(finished.out, "", "{arguments:?}");
    }
}
