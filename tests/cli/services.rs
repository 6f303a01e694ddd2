//! Services on the relay's own key: its state over the overlay, from here and from another relay.

use std::process::{Command, Stdio};

use crate::mesh::{get, wait_for};
use crate::support::{Relay, ringway, run};
use crate::tunnel::forward;

/// Reads a page over the overlay.
fn curl(relay: &Relay, arguments: &[&str]) -> crate::support::Finished {
    let mut all = vec!["curl"];
    all.extend(arguments);
    run(relay.state.path(), &all)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn state_is_the_same_over_the_overlay_and_on_the_admin_endpoint() {
    let relay = Relay::start_at("127.0.0.1:0", "2", &[]);
    let health = curl(&relay, &[&format!("{}/health", relay.name)]);
    assert_eq!(health.code, Some(0), "{}", health.err);
    let (there, here) = (json(&health.out), json(&get(&relay.admin, "/health")));
    for field in ["service", "key", "listen", "pid", "started", "limits"] {
        assert_eq!(there[field], here[field], "{field}");
    }
    assert_eq!(there["ready"], true);
    assert_eq!(there["consistency"]["ok"], true);
    let shards = there["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 2);
    for shard in shards {
        assert!(shard["round_trip_us"].as_u64().is_some(), "{shard}");
        assert_eq!(shard["own_sessions"], 1);
    }
    let metrics = curl(&relay, &[&format!("{}/metrics", relay.name)]).out;
    assert!(metrics.contains("\nringway_own_sessions_current{shard=\"1\"} 1\n"));
    let limits = curl(
        &relay,
        &[
            "--relay",
            &relay.name,
            &format!("{}/api/limits", relay.key()),
        ],
    );
    assert_eq!(json(&limits.out), here["limits"]);
    let one = curl(&relay, &[&format!("{}/api/shards/1", relay.name)]);
    assert_eq!(json(&one.out)["shard"], 1);
    for (page, word) in [("/api/shards/2", "below 2"), ("/nonsense", "/metrics")] {
        let missing = curl(&relay, &["-i", &format!("{}{page}", relay.name)]);
        assert_eq!(missing.code, Some(1));
        assert!(missing.out.starts_with("HTTP/1.1 404"), "{}", missing.out);
        assert!(missing.out.contains(word), "{}", missing.out);
        assert!(missing.err.contains("404"), "{}", missing.err);
    }
    let head = curl(&relay, &["-I", &format!("{}/metrics", relay.name)]).out;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"));
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn state_is_read_through_another_relay_and_by_any_http_client() {
    let first = Relay::start(&["--set", "mesh.allowed=all"]);
    let second = Relay::start(&["--set", "mesh.allowed=all", "--link", &first.name]);
    wait_for(&first, "links", |links| links > 0);
    let health = curl(
        &second,
        &["--relay", &second.name, &format!("{}/health", first.key())],
    );
    assert_eq!(health.code, Some(0), "{}", health.err);
    assert_eq!(json(&health.out)["key"], first.key());

    let service = format!("{}:80", first.key());
    let (tunnel, listen) = forward(&second, &service);
    let page = get(&listen, "/health");
    assert_eq!(json(&page)["key"], first.key());
    drop(tunnel);
    // The streams of both have left nothing.
    for relay in [&first, &second] {
        wait_for(relay, "streams", |streams| streams <= 4);
    }
    assert_eq!(second.end().code, Some(0));
    assert_eq!(first.end().code, Some(0));
}

#[test]
fn port_81_answers_the_keys_of_its_set_and_no_others() {
    let state = tempfile::tempdir().unwrap();
    let key_file = state.path().join("admin.key");
    let made = run(state.path(), &["keygen", key_file.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let key = made
        .out
        .split_whitespace()
        .find(|word| word.len() == 64)
        .unwrap()
        .to_owned();
    let relay = Relay::start(&["--set", &format!("services.debug={key}")]);
    let own = ["--key-file", key_file.to_str().unwrap()];
    let page = |path: &str| {
        [&own[..], &[&format!("{}:81{path}", relay.name)]]
            .concat()
            .join(" ")
    };
    let ask = |path: &str| {
        let arguments = page(path);
        let arguments: Vec<&str> = arguments.split(' ').collect();
        curl(&relay, &arguments)
    };
    let shards = ask("/debug/shards?text=1");
    assert_eq!(shards.code, Some(0), "{}", shards.err);
    assert!(shards.out.contains("core_sessions"), "{}", shards.out);
    let log = ask("/debug/histograms");
    assert!(log.out.contains("Tag=handshake,"), "{}", log.out);
    for path in ["/debug/pprof/heap", "/debug/pprof/profile?seconds=1"] {
        let file = state.path().join("profile.pb.gz");
        let mut arguments = vec!["-o", file.to_str().unwrap()];
        let target = page(path);
        arguments.extend(target.split(' '));
        let got = curl(&relay, &arguments);
        assert_eq!(got.code, Some(0), "{path}: {}", got.err);
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes[..2], [0x1f, 0x8b], "{path} is compressed");
    }
    let wrong = ask("/debug/pprof/profile?seconds=0");
    assert!(wrong.out.contains("seconds=0"), "{}", wrong.out);
    let stranger = curl(&relay, &[&format!("{}:81/debug/shards", relay.name)]);
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.err.contains("reason 201"), "{}", stranger.err);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn services_can_be_off_and_then_nobody_listens() {
    let relay = Relay::start(&[
        "--set",
        "services.http=off",
        "--set",
        "services.enable_route_setup=off",
    ]);
    let refused = curl(&relay, &[&format!("{}/health", relay.name)]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("reason 301"), "{}", refused.err);
    let health = json(&get(&relay.admin, "/health"));
    assert_eq!(health["ready"], true);
    assert_eq!(health["shards"][0]["own_sessions"], 0);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn draining_relay_finishes_what_its_services_have_begun() {
    let relay = Relay::start(&[]);
    let health = curl(&relay, &[&format!("{}/health", relay.name)]);
    assert_eq!(health.code, Some(0));
    relay.process.signal("TERM");
    let finished = relay.process.finish();
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
}

#[test]
fn wrong_uses_say_what_is_expected() {
    let state = tempfile::tempdir().unwrap();
    let key = "ab".repeat(32);
    let cases = [
        (vec!["curl"], "required"),
        (vec!["curl", "nonsense/health"], "64 lower-case hex digits"),
        (vec!["curl", &key], "no relay is named"),
    ];
    for (arguments, expected) in cases {
        let finished = run(state.path(), &arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        assert!(finished.err.contains(expected), "{}", finished.err);
    }
    let nobody = format!("{key}@127.0.0.1:1/health");
    let finished = run(state.path(), &["curl", &nobody]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.err.contains("no session"), "{}", finished.err);
}

#[test]
fn answer_goes_to_a_file_and_a_full_disk_is_named() {
    let relay = Relay::start(&[]);
    let path = relay.state.path().join("metrics.txt");
    let target = format!("{}/metrics", relay.name);
    let written = curl(&relay, &["-o", path.to_str().unwrap(), &target]);
    assert_eq!((written.code, written.out.as_str()), (Some(0), ""));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("ringway_uptime_seconds"));
    let full = curl(&relay, &["-o", "/dev/full", &target]);
    assert_eq!(full.code, Some(1));
    assert!(full.err.contains("cannot write the answer"), "{}", full.err);
    // A reader that has read enough is no failure.
    let mut command = ringway(relay.state.path(), &["curl", &target]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert!(Command::new("true").status().unwrap().success());
}
