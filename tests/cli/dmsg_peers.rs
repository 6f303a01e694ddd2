//! Parties of the dmsg dialect made here: `curl`, `ping`, `expose` and `forward` with a relay of 66 digits.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::mesh::get;
use crate::support::{Relay, run};
use crate::tunnel::{Tunnel, block, service};

/// Starts a relay whose name is that of the dialect.
fn relay(shards: &str, further: &[&str]) -> Relay {
    let dmsg = [&["--set", "dmsg.listen=127.0.0.1:0"], further].concat();
    let mut relay = Relay::start_at("127.0.0.1:0", shards, &dmsg);
    let line = relay.process.line();
    let name = line.strip_prefix("dmsg").expect("the fifth line").trim();
    relay.name = name.to_owned();
    relay
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn health_over_dmsg_has_what_tools_of_skywire_read() {
    let discovery = "dmsg.discovery=http://127.0.0.1:1";
    let relay = relay("2", &["--set", discovery]);
    let key = relay.key().to_owned();
    assert_eq!(key.len(), 66);
    let target = format!("{}/health", relay.name);
    let health = run(relay.state.path(), &["curl", &target]);
    assert_eq!(health.code, Some(0), "{}", health.err);
    let (there, here) = (json(&health.out), json(&get(&relay.admin, "/health")));
    for field in ["service", "key", "listen", "pid", "started", "build_info"] {
        assert_eq!(there[field], here[field], "{field}");
    }
    assert_eq!(there["service_name"], "dmsg-server");
    assert_eq!(there["public_key"], key.as_str());
    assert_eq!(there["dmsg_address"], format!("{key}:80"));
    assert_eq!(there["dmsg_discovery"], "http://127.0.0.1:1");
    assert_eq!(there["started_at"], there["started"]);
    for shard in there["shards"].as_array().unwrap() {
        assert_eq!(shard["own_sessions"], 2, "one in each dialect");
    }
    let metrics = format!("{}/metrics", relay.name);
    let metrics = run(relay.state.path(), &["curl", &metrics]);
    assert!(metrics.out.contains("\nringway_own_sessions_current"));
    let stranger = format!("{}:81/debug/shards", relay.name);
    let stranger = run(relay.state.path(), &["curl", &stranger]);
    assert_eq!(stranger.code, Some(1));
    assert!(stranger.err.contains("reason 3"), "{}", stranger.err);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn a_service_is_exposed_and_reached_over_dmsg() {
    let sent = block(1, 3_000_001);
    let expected = sent.clone();
    let (address, serving) = service(move |mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard == expected, "the question differs");
        heard.reverse();
        stream.write_all(&heard).unwrap();
    });
    let tunnel = Tunnel::over(relay("2", &[]), &address);
    let mut stream = tunnel.connect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    back.reverse();
    assert!(back == sent, "the answer differs");
    serving.join().unwrap();
    let state = tunnel.relay.state.path().join("ringway");
    assert!(state.join("dmsg-expose-80.key").is_file());
    assert!(!state.join("expose-80.key").exists());
    tunnel.end();
}

#[test]
fn pings_reach_the_relay_and_parties_of_the_dialect() {
    let relay = relay("1", &[]);
    let state = relay.state.path();
    let own = run(state, &["ping", "-c", "2", "-i", "1ms", &relay.name]);
    assert_eq!(own.code, Some(0), "{}", own.err);
    assert!(own.out.contains("2 answered"), "{}", own.out);
    let (exposed, name) = crate::tunnel::expose(&relay, "127.0.0.1:9");
    let (key, _) = name.split_once(':').unwrap();
    let arguments = ["ping", "-c", "2", "-i", "1ms", "--relay", &relay.name, key];
    let party = run(state, &arguments);
    assert_eq!(party.code, Some(0), "{}", party.err);
    assert!(party.out.contains("2 answered"), "{}", party.out);
    exposed.signal("TERM");
    assert_eq!(exposed.finish().code, Some(0));
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn dialects_that_do_not_fit_are_named() {
    let relay = relay("1", &[]);
    let state = relay.state.path();
    let native = "ab".repeat(32);
    let cases = [
        (
            vec!["curl", "--relay", &relay.name, &native],
            "another dialect",
        ),
        (
            vec!["ping", "--relay", &relay.name, &native],
            "another dialect",
        ),
    ];
    for (arguments, expected) in cases {
        let finished = run(state, &arguments);
        assert_ne!(finished.code, Some(0), "{arguments:?}");
        assert!(finished.err.contains(expected), "{}", finished.err);
    }
    let arguments = ["route", "serve", "--relay", &relay.name];
    let finished = run(state, &arguments);
    assert_eq!(finished.code, Some(2), "{}", finished.err);
    assert!(finished.err.contains("66 digits"), "{}", finished.err);
    assert_eq!(relay.end().code, Some(0));
}
