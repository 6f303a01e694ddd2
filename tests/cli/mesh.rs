//! Relays that are linked: a service on one, whoever wants it on another.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Relay, run};
use crate::tunnel::{block, expose, forward};

/// Starts a relay that allows every other one and keeps links with those named.
fn linked(links: &[&str], further: &[&str]) -> Relay {
    linked_at("127.0.0.1:0", "1", links, further)
}

/// The same at an address, with so many shards.
fn linked_at(listen: &str, shards: &str, links: &[&str], further: &[&str]) -> Relay {
    let mut arguments = vec!["--set", "mesh.allowed=all"];
    for link in links {
        arguments.extend(["--link", link]);
    }
    arguments.extend(further);
    Relay::start_at(listen, shards, &arguments)
}

/// Returns what a relay's admin endpoint answers.
pub(crate) fn get(admin: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Returns one number of a relay's audit.
pub(crate) fn audit(relay: &Relay, name: &str) -> u64 {
    let health: serde_json::Value = serde_json::from_str(&get(&relay.admin, "/health")).unwrap();
    let shards = health["shards"].as_array().unwrap().iter();
    shards
        .map(|shard| shard["audit"][name].as_u64().unwrap())
        .sum()
}

/// Waits until a number of a relay's audit is as wanted.
pub(crate) fn wait_for(relay: &Relay, name: &str, is_right: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let have = audit(relay, name);
        if is_right(have) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name} of {} stays at {have}",
            relay.name
        );
        thread::yield_now();
    }
}

/// A TCP service that sends back what it was sent, twice, until it has served `count` connections.
pub(crate) fn twice(count: usize) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        for _ in 0..count {
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).unwrap();
            stream.write_all(&request).unwrap();
            stream.write_all(&request).unwrap();
        }
    });
    (address, thread)
}

/// Sends bytes and returns whether they came back twice; false when there was no way.
pub(crate) fn echo(address: &str, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let sent = stream
        .write_all(bytes)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    if sent.is_err() || stream.read_to_end(&mut answer).is_err() || answer.is_empty() {
        return false;
    }
    assert!(answer == [bytes, bytes].concat(), "the answer differs");
    true
}

#[test]
fn service_of_one_relay_is_reached_through_another() {
    let (service, thread) = twice(3);
    let first = linked(&[], &[]);
    // Two shards: whichever has the link.
    let second = linked_at("127.0.0.1:0", "2", &[&first.name], &[]);
    wait_for(&second, "links", |links| links >= 2);
    let (exposing, name) = expose(&first, &service);
    wait_for(&second, "announced", |peers| peers == 1);
    let (forwarding, address) = forward(&second, &name);
    for length in [1, 70_000, 5_000_000] {
        assert!(echo(&address, &block(1, length)), "{length} bytes");
    }
    thread.join().unwrap();
    // A peer that leaves is forgotten; the relays end clean, links and all.
    exposing.signal("TERM");
    assert_eq!(exposing.finish().code, Some(0));
    wait_for(&second, "announced", |peers| peers == 0);
    forwarding.signal("TERM");
    assert_eq!(forwarding.finish().code, Some(0));
    for relay in [second, first] {
        let finished = relay.end();
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
    }
}

#[test]
fn way_is_found_again_after_a_relay_was_killed() {
    let (service, thread) = twice(2);
    let hub = linked(&[], &[]);
    let state = tempfile::tempdir().unwrap();
    let key_file = state.path().join("relay.key");
    let key = ["--key-file", key_file.to_str().unwrap()];
    let far = linked(&[&hub.name], &key);
    wait_for(&hub, "links", |links| links == 1);
    let (exposing, name) = expose(&far, &service);
    wait_for(&hub, "announced", |peers| peers == 1);
    let (forwarding, address) = forward(&hub, &name);
    assert!(echo(&address, &block(1, 100_000)));
    // Killed: its links and what they told are gone at once, and nobody waits for an answer.
    let listen = far.name.split_once('@').unwrap().1.to_owned();
    far.process.signal("KILL");
    assert_eq!(far.process.finish().code, None);
    wait_for(&hub, "links", |links| links == 0);
    wait_for(&hub, "announced", |peers| peers == 0);
    assert!(!echo(&address, b"lost"));
    // Back under the same key and address, it finds the hub and its peers find it.
    let again = linked_at(&listen, "1", &[&hub.name], &key);
    wait_for(&hub, "links", |links| links == 1);
    wait_for(&hub, "announced", |peers| peers == 1);
    // Whoever was told that it is not there asks again a few seconds later.
    let deadline = Instant::now() + PATIENCE;
    while !echo(&address, &block(1, 100_000)) {
        assert!(Instant::now() < deadline, "the way is not found");
        thread::sleep(Duration::from_millis(50));
    }
    thread.join().unwrap();
    drop((exposing, forwarding));
    for relay in [again, hub] {
        assert_eq!(relay.end().code, Some(0));
    }
}

#[test]
fn relays_that_name_each_other_settle() {
    // The second one's address is known only when it runs: the first is started again to name it.
    let state = tempfile::tempdir().unwrap();
    let key_file = state.path().join("relay.key");
    let key = ["--key-file", key_file.to_str().unwrap()];
    let first = linked(&[], &key);
    let (name, listen) = (
        first.name.clone(),
        first.name.split_once('@').unwrap().1.to_owned(),
    );
    let second = linked_at("127.0.0.1:0", "2", &[&name], &[]);
    wait_for(&second, "links", |links| links >= 2);
    drop(first.end());
    let first = linked_at(&listen, "1", &[&second.name], &key);
    wait_for(&first, "links", |links| links >= 1);
    wait_for(&second, "links", |links| links >= 1);
    // Neither has closed a link that stood: that they stay so is shown with a clock that runs as it is told
    // (`core::tests::mesh`).
    for relay in [&first, &second] {
        let metrics = get(&relay.admin, "/metrics");
        let sum = |name: &str| {
            let lines = metrics
                .lines()
                .filter(|line| line.starts_with(&format!("{name}{{")));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum::<u64>()
        };
        assert_eq!(sum("ringway_links_closed_total"), 0);
    }
    for relay in [first, second] {
        assert_eq!(relay.end().code, Some(0));
    }
}

#[test]
fn wrong_meshes_are_refused_with_the_way_out() {
    let relay = Relay::start(&[]);
    let state = relay.state.path();
    for (arguments, code, word) in [
        (&["--link", "127.0.0.1:7100"][..], 2, "no '@'"),
        (&["--set", "mesh.allowed=some"], 2, "64 characters"),
        (&["--link", &relay.name, "--link", &relay.name], 2, "twice"),
    ] {
        let all = [&["serve", "--listen", "127.0.0.1:0"][..], arguments].concat();
        let finished = run(state, &all);
        assert_eq!(finished.code, Some(code), "{}", finished.err);
        assert!(finished.err.contains(word), "{}", finished.err);
    }
    assert_eq!(relay.end().code, Some(0));
}
