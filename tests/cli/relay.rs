//! `serve`, `status`, `ping`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Relay, Running, ringway, run};

#[test]
fn first_start_makes_a_key_and_says_three_lines() {
    let relay = Relay::start(&[]);
    let key_file = relay.state.path().join("ringway/relay.key");
    assert_eq!(
        fs::metadata(&key_file).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let [listening, name, next, capacity] = &relay.greeting;
    assert!(
        listening.starts_with("listening  127.0.0.1:"),
        "{listening}"
    );
    assert!(name.starts_with("relay      "), "{name}");
    assert!(
        next.contains(&format!("ringway expose --relay {} --port 80", relay.name)),
        "{next}"
    );
    assert!(
        capacity.starts_with(
            "capacity   64 sessions (1 shard x 64; stopped by limits.sessions_max), up to "
        ),
        "{capacity}"
    );
    let shown = run(relay.state.path(), &["keygen", "--show"]);
    assert_eq!(shown.out.trim(), relay.key());
    let finished = relay.end();
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert_eq!(finished.out, "", "four lines and no more");
}

#[test]
fn key_stays_the_same_over_restarts() {
    let relay = Relay::start(&[]);
    let path = relay.state.path().join("ringway/relay.key");
    let copy = relay.state.path().join("copy.key");
    fs::copy(path, &copy).unwrap();
    let again = Relay::start(&["--key-file", copy.to_str().unwrap()]);
    assert_eq!(again.key(), relay.key());
}

#[test]
fn second_start_says_who_holds_the_key_in_one_line() {
    let relay = Relay::start(&[]);
    let second = run(
        relay.state.path(),
        &["serve", "--listen", "127.0.0.1:0", "--admin", "off"],
    );
    assert_eq!(second.code, Some(1));
    assert_eq!(second.err.lines().count(), 1, "{}", second.err);
    let pid = format!("process {}", relay.process.pid());
    assert!(
        second.err.contains(&pid) && second.err.contains("--state-dir"),
        "{}",
        second.err
    );
}

#[test]
fn taken_addresses_are_named_with_the_flag() {
    let relay = Relay::start(&[]);
    let other = tempfile::tempdir().unwrap();
    let listen = run(
        other.path(),
        &["serve", "--listen", relay.address(), "--admin", "off"],
    );
    assert_eq!(listen.code, Some(1), "{}", listen.out);
    for part in [relay.address(), "is in use", "ss -ltnp", "--listen"] {
        assert!(listen.err.contains(part), "{part} in {}", listen.err);
    }
    let admin = run(
        other.path(),
        &["serve", "--listen", "127.0.0.1:0", "--admin", &relay.admin],
    );
    assert_eq!(admin.code, Some(1));
    for part in [relay.admin.as_str(), "is in use", "ss -ltnp", "--admin"] {
        assert!(admin.err.contains(part), "{part} in {}", admin.err);
    }
}

#[test]
fn interrupt_ends_like_terminate_and_so_does_a_closed_input() {
    let relay = Relay::start(&[]);
    relay.process.signal("INT");
    assert_eq!(relay.process.finish().code, Some(0));
    // Standard input is /dev/null: it ends at once, after the four lines.
    let relay = Relay::start(&["--until-stdin-closes"]);
    assert_eq!(relay.process.finish().code, Some(0));
}

#[test]
fn status_reads_a_running_relay() {
    let relay = Relay::start(&[]);
    let status = run(relay.state.path(), &["status", "--admin", &relay.admin]);
    assert_eq!(status.code, Some(0), "{}", status.err);
    assert!(
        status.out.contains(&relay.name) && status.out.contains("state   ready"),
        "{}",
        status.out
    );
    assert!(
        status.out.contains("13 of 13 counter laws hold"),
        "{}",
        status.out
    );
    let json = run(
        relay.state.path(),
        &["status", "--admin", &relay.admin, "--json"],
    );
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["service"], "ringway-relay");
    assert_eq!(value["limits"]["shard_sessions_max"], 64);
    let admin = relay.admin.clone();
    assert_eq!(relay.end().code, Some(0));
    let state = tempfile::tempdir().unwrap();
    let gone = run(state.path(), &["status", "--admin", &admin]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("ringway serve"), "{}", gone.err);
}

#[test]
fn ping_measures_relay_and_peer() {
    let relay = Relay::start(&[]);
    let itself = run(
        relay.state.path(),
        &["ping", &relay.name, "-c", "3", "-i", "1ms"],
    );
    assert_eq!(itself.code, Some(0), "{}", itself.err);
    assert!(
        itself.out.contains("--- 3 sent, 3 answered, 0 lost"),
        "{}",
        itself.out
    );
    assert!(
        itself.out.contains("round trip min/median/p99/max = "),
        "{}",
        itself.out
    );

    // Any peer answers on its port 7.
    let arguments = [
        "expose",
        "--relay",
        &relay.name,
        "--port",
        "80",
        "--to",
        "127.0.0.1:9",
    ];
    let mut peer = Running::start(&mut ringway(relay.state.path(), &arguments));
    let line = peer.line();
    let key = line
        .split_whitespace()
        .last()
        .unwrap()
        .split_once(':')
        .unwrap()
        .0;
    let arguments = ["ping", "--relay", &relay.name, key, "-c", "3", "-i", "1ms"];
    let answered = run(relay.state.path(), &arguments);
    assert_eq!(answered.code, Some(0), "{}", answered.err);
    assert!(answered.out.contains("3 answered"), "{}", answered.out);
    peer.signal("TERM");
    assert_eq!(peer.finish().code, Some(0));
    let gone = run(
        relay.state.path(),
        &["ping", "--relay", &relay.name, key, "-c", "1"],
    );
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("reason 101"), "{}", gone.err);
}

#[test]
fn demo_moves_bytes_and_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let demo = run(state.path(), &["demo", "--duration", "200ms"]);
    assert_eq!(demo.code, Some(0), "{}\n{}", demo.out, demo.err);
    assert!(demo.out.contains("leak audit   0\n"), "{}", demo.out);
    assert!(demo.out.contains("all laws hold"), "{}", demo.out);
}
