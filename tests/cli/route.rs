//! Routes over several parties of the command line and a relay that sets them up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Finished, PATIENCE, Relay, Running, ringway, run};
use crate::tunnel::{block, service};

/// A party that serves routes.
struct Hop {
    process: Running,
    key: String,
    control: String,
    state: TempDir,
}

impl Hop {
    fn start(relay: &Relay, further: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let via = [
            "route",
            "serve",
            "--relay",
            &relay.name,
            "--control",
            "127.0.0.1:0",
        ];
        let arguments = [&via[..], further].concat();
        let mut process = Running::start(&mut ringway(state.path(), &arguments));
        let word = |line: String| line.split_whitespace().nth(1).unwrap().to_owned();
        let (key, control) = (word(process.line()), word(process.line()));
        Self {
            process,
            key,
            control,
            state,
        }
    }

    /// Asks the party what it holds.
    fn ask(&self, arguments: &[&str]) -> Finished {
        let arguments = [&["route"], arguments, &["--control", &self.control]].concat();
        run(self.state.path(), &arguments)
    }

    fn stat(&self, name: &str) -> u64 {
        let stats = self.ask(&["stats", "--json"]);
        assert_eq!(stats.code, Some(0), "{}", stats.err);
        let stats: serde_json::Value = serde_json::from_str(&stats.out).unwrap();
        stats[name].as_u64().unwrap_or(0)
    }

    fn end(self) {
        self.process.signal("TERM");
        let finished = self.process.finish();
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
    }
}

/// Asks again until it is so.
fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not become so");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the key that a party of this state directory will have.
fn key_of(state: &TempDir, name: &str) -> String {
    let file = state.path().join(name);
    let made = run(state.path(), &["keygen", file.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    made.out.trim_end().to_owned()
}

#[test]
fn service_is_reached_over_two_hops_and_tables_are_empty_afterwards() {
    const LENGTH: usize = 3_000_001;
    let (address, thread) = service(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        assert!(request == block(1, LENGTH), "the request differs");
        stream.write_all(&block(2, LENGTH)).unwrap();
    });
    let relay = Relay::start(&[]);
    let hops = [Hop::start(&relay, &[]), Hop::start(&relay, &[])];
    let mut end = Hop::start(&relay, &["--listen-port", "80", "--to", &address]);
    let name = format!("{}:80", end.key);
    assert_eq!(
        end.process.line(),
        format!("delivering  {address} as {name}")
    );
    assert!(end.process.line().starts_with("next  "));

    let state = tempfile::tempdir().unwrap();
    let via = format!("{},{}", hops[0].key, hops[1].key);
    let dial = ["route", "dial", "--relay", &relay.name, "--via", &via];
    let arguments = [&dial[..], &["--listen", "127.0.0.1:0", &name]].concat();
    let mut dial = Running::start(&mut ringway(state.path(), &arguments));
    let line = dial.line();
    assert!(line.starts_with("forwarding  127.0.0.1:"), "{line}");
    let listen = line.split_whitespace().nth(1).unwrap();
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&block(1, LENGTH)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == block(2, LENGTH), "the answer differs");
    thread.join().unwrap();

    for hop in hops.iter().chain([&end]) {
        wait_until(|| hop.stat("rules") + hop.stat("groups") == 0);
        let ls = hop.ask(&["ls"]);
        assert_eq!(ls.out, format!("{}  0 rules, 0 groups\n", hop.key));
    }
    for hop in &hops {
        assert!(hop.stat("packets_forwarded") > 300);
        assert_eq!(hop.stat("hop_requests_refused.201"), 0);
    }
    dial.signal("TERM");
    assert_eq!(dial.finish().code, Some(0));
    hops.into_iter().for_each(Hop::end);
    end.end();
    assert_eq!(relay.end().code, Some(0));
}

/// Dials over a route with standard input and output as its ends.
fn dial_with_neighbours(
    relay: &Relay,
    key_file: &std::path::Path,
    neighbours: &[String],
    to: &str,
) -> std::process::Child {
    let file = key_file.to_str().unwrap();
    let mut arguments = vec!["route", "dial", "--relay", &relay.name, "--key-file", file];
    for neighbour in neighbours {
        arguments.extend(["--neighbour", neighbour]);
    }
    arguments.extend(["--keep-alive", "4s", to]);
    ringway(key_file.parent().unwrap(), &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn path_is_found_when_all_have_announced_each_other_and_a_dead_hop_is_gone_around() {
    let relay = Relay::start(&[]);
    let states = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let keys = [0, 1, 2, 3].map(|party| key_of(&states[party], "party.key"));
    // 0 reaches 3 over 1 or over 2.
    let neighbours = [[1, 2], [0, 3], [0, 3], [1, 2]];
    let serve = |party: usize, further: &[&str]| {
        let file = states[party].path().join("party.key");
        let [one, two] = neighbours[party].map(|other| keys[other].as_str());
        let own = [
            "--key-file",
            file.to_str().unwrap(),
            "--neighbour",
            one,
            "--neighbour",
            two,
        ];
        Hop::start(&relay, &[&own[..], further].concat())
    };
    let mut hops = vec![serve(1, &[]), serve(2, &[])];
    let end = serve(3, &["--listen-port", "7000"]);
    let asker = serve(0, &[]);
    wait_until(|| {
        let found = asker.ask(&["find", &keys[3], "--json"]);
        let paths: serde_json::Value = serde_json::from_str(&found.out).unwrap_or_default();
        paths.as_array().is_some_and(|paths| paths.len() == 2)
    });
    let found = asker.ask(&["find", &keys[3], "--hops"]);
    assert_eq!(found.out.lines().count(), 2);
    for line in found.out.lines() {
        let path = line.split_whitespace().next_back().unwrap();
        let hops: Vec<_> = path.split(',').collect();
        assert_eq!(hops.len(), 3);
        assert_eq!((hops[0], hops[2]), (&keys[0][..], &keys[3][..]));
    }
    let nowhere = asker.ask(&["find", &"ab".repeat(32)]);
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("no path"), "{}", nowhere.err);
    asker.end();

    // The same key dials now, and announces its neighbours itself.
    let file = states[0].path().join("party.key");
    let to = format!("{}:7000", keys[3]);
    let mut dial = dial_with_neighbours(&relay, &file, &keys[1..3], &to);
    let (mut there, mut back) = (dial.stdin.take().unwrap(), dial.stdout.take().unwrap());
    there.write_all(b"first").unwrap();
    let mut echoed = [0; 5];
    back.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"first");
    let on_path = hops.iter().position(|hop| hop.stat("rules") > 0).unwrap();
    hops.remove(on_path).process.signal("KILL");
    let data = block(7, 2_000_000);
    let sent = data.clone();
    let writer = thread::spawn(move || there.write_all(&sent).unwrap());
    let mut echoed = vec![0; data.len()];
    back.read_exact(&mut echoed).unwrap();
    assert!(echoed == data, "the echo differs");
    writer.join().unwrap();
    assert!(dial.wait().unwrap().success());
    assert!(hops[0].stat("packets_forwarded") > 200);
    end.end();
    hops.into_iter().for_each(Hop::end);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn hop_refuses_relays_that_it_was_not_told_to_trust() {
    let relay = Relay::start(&[]);
    let hop = Hop::start(
        &relay,
        &["--allow-setup", &"ab".repeat(32), "--listen-port", "7000"],
    );
    let state = tempfile::tempdir().unwrap();
    let to = format!("{}:7000", hop.key);
    let dial = ["route", "dial", "--relay", &relay.name, "--direct", &to];
    let refused = run(state.path(), &dial);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("relay refused"), "{}", refused.err);
    assert!(hop.stat("hop_requests_refused.201") > 0);
    hop.end();
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn wrong_uses_say_what_is_expected() {
    let state = tempfile::tempdir().unwrap();
    let asked = run(state.path(), &["route", "ls", "--control", "127.0.0.1:1"]);
    assert_eq!(asked.code, Some(1));
    assert!(asked.err.contains("route serve"), "{}", asked.err);
    let to_alone = ["route", "serve", "--to", "127.0.0.1:1"];
    assert_eq!(run(state.path(), &to_alone).code, Some(2));
    let no_port = ["route", "dial", &"ab".repeat(32)];
    assert_eq!(run(state.path(), &no_port).code, Some(2));
}
