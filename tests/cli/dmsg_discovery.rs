//! `ringway dmsg-discovery` as clients of dmsg and operators meet it: the real program, real connections.
//!
//! Not here: who may write what, rule by rule (`src/dmsg/discovery_server/rules`).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use redis::Commands;
use ringway_proto::dmsg::entry::answer::Answer;
use ringway_proto::dmsg::entry::{Entry, Server as ServerPart};
use ringway_proto::dmsg::key::SecretKey;
use ringway_proto::key::PublicKey;

use crate::registry::Server;
use crate::support::{Finished, PATIENCE, Running, ringway, run};

/// A discovery on a free port.
struct Discovery {
    process: Running,
    address: String,
    store: String,
}

/// A status and a body.
type Told = (u16, String);

impl Discovery {
    /// Starts one whose state is in a directory.
    fn start(state: &Path, further: &[&str]) -> Self {
        Self::run(&mut ringway(state, &arguments(further)))
    }

    fn run(command: &mut Command) -> Self {
        let mut process = Running::start(command);
        let (listening, store) = (process.line(), process.line());
        let address = listening
            .strip_prefix("listening  http://")
            .unwrap()
            .to_owned();
        let store = store.strip_prefix("store      ").unwrap().to_owned();
        Self {
            process,
            address,
            store,
        }
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Told {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: discovery\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.say(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes and reads the answer to its end.
    fn say(&self, bytes: &[u8]) -> Told {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Who is refused early may be told before all was sent.
        drop(stream.write_all(bytes));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn get(&self, path: &str) -> Told {
        self.ask("GET", &format!("/dmsg-discovery/{path}"), b"")
    }

    fn post(&self, entry: &Entry) -> Told {
        self.ask("POST", "/dmsg-discovery/entry/", &entry.encode())
    }

    fn delete(&self, entry: &[u8]) -> Told {
        self.ask("DELETE", "/dmsg-discovery/entry", entry)
    }

    fn entry(&self, key: PublicKey) -> Option<Entry> {
        let (status, text) = self.get(&format!("entry/{key}"));
        match status {
            200 => Some(Entry::decode(text.as_bytes()).unwrap()),
            404 => None,
            _ => panic!("{status} {text}"),
        }
    }

    fn end(self, signal: &str) -> Finished {
        self.process.signal(signal);
        self.process.finish()
    }
}

fn arguments<'a>(further: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["dmsg-discovery", "--listen", "127.0.0.1:0"];
    // All of a test's writes come from one address.
    arguments.extend(["--allow-loopback", "--writes-per-s-max", "0"]);
    arguments.extend(further);
    arguments
}

fn told(answer: Answer) -> Told {
    let text = String::from_utf8(answer.encode()).unwrap();
    (answer.status(), text)
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

fn client(number: u8, sequence: u64) -> Entry {
    let key = secret(number).public();
    let mut entry = Entry::of_client(key, sequence, now_ns(), vec![secret(99).public()]);
    entry.client_type = if number == 1 {
        "visor".into()
    } else {
        String::new()
    };
    entry.sign(&secret(number));
    entry
}

fn server(number: u8, sequence: u64, available_sessions: i64) -> Entry {
    let server = ServerPart {
        address: "127.0.0.1:8081".to_owned(),
        available_sessions,
        ..ServerPart::default()
    };
    let key = secret(number).public();
    let mut entry = Entry::of_server(key, sequence, now_ns(), server);
    entry.sign(&secret(number));
    entry
}

fn keys(list: &str) -> Vec<PublicKey> {
    let entries: Vec<Entry> = serde_json::from_str(list).unwrap();
    entries.iter().map(|entry| entry.key).collect()
}

/// Goes through the API from the first entry to the last; the store does not matter.
fn whole_api(discovery: &Discovery) {
    assert_eq!(discovery.get("all_servers"), told(Answer::NoServers));
    assert_eq!(discovery.get("available_servers"), told(Answer::NoServers));
    assert_eq!(discovery.get("entries"), (200, "[]".to_owned()));
    assert_eq!(discovery.get("entry/x"), told(Answer::BadInput));
    let (one, two) = (secret(1).public(), secret(2).public());
    assert_eq!(discovery.entry(one), None);

    assert_eq!(discovery.post(&client(1, 7)), told(Answer::Written));
    let with_key = format!("/dmsg-discovery/entry/{two}?timeout=true");
    let second = client(2, 0);
    let posted = discovery.ask("POST", &with_key, &second.encode());
    assert_eq!(posted, told(Answer::Written));
    assert_eq!(discovery.entry(two), Some(second));
    assert_eq!(discovery.post(&client(1, 7)), told(Answer::WrongSequence));
    assert_eq!(discovery.post(&client(1, 6)), told(Answer::WrongSequence));
    assert_eq!(discovery.post(&client(1, 9)), told(Answer::Iterated));
    let mut early = client(1, 10);
    early.timestamp_ns -= 3_600_000_000_000;
    early.sign(&secret(1));
    assert_eq!(discovery.post(&early), told(Answer::WrongTime));
    let mut forged = client(1, 11);
    forged.sign(&secret(3));
    forged.key = one;
    assert_eq!(discovery.post(&forged), told(Answer::Unauthorized));
    assert_eq!(discovery.entry(one).unwrap().sequence, 9);

    assert_eq!(discovery.post(&server(3, 0, 5)), told(Answer::Written));
    assert_eq!(discovery.post(&server(4, 0, 0)), told(Answer::Written));
    assert_eq!(discovery.post(&server(5, 3, 9)), told(Answer::Written));
    let mut old = server(6, 0, 1);
    old.timestamp_ns -= 61_000_000_000;
    old.sign(&secret(6));
    assert_eq!(discovery.post(&old), told(Answer::Outdated));
    let shown = discovery.entry(secret(3).public()).unwrap();
    assert_eq!(shown.server.as_ref().unwrap().server_type, "official");
    let available = keys(&discovery.get("available_servers").1);
    assert_eq!(available, [secret(5).public(), secret(3).public()]);
    assert_eq!(keys(&discovery.get("all_servers").1).len(), 3);
    let visors: Vec<String> = serde_json::from_str(&discovery.get("visorEntries").1).unwrap();
    assert_eq!(visors, [one.to_string()]);

    // As Go does it: read, and send back.
    assert_eq!(discovery.delete(&shown.encode()), told(Answer::Deleted));
    assert_eq!(discovery.entry(secret(3).public()), None);
    assert_eq!(
        discovery.delete(&client(1, 8).encode()),
        told(Answer::WrongSequence)
    );
    assert_eq!(
        discovery.delete(&client(1, 10).encode()),
        told(Answer::Deleted)
    );
    assert_eq!(discovery.entry(one), None);
    assert_eq!(discovery.post(&client(1, 0)), told(Answer::Written), "anew");
}

#[test]
fn whole_api_is_served_from_a_file_and_what_stands_survives_a_kill_and_an_end() {
    let state = tempfile::tempdir().unwrap();
    let discovery = Discovery::start(state.path(), &[]);
    let file = state.path().join("ringway/discovery.jsonl");
    assert_eq!(discovery.store, format!("file {}", file.display()));
    whole_api(&discovery);
    let listed = discovery.get("entries").1;
    // Killed as a failing host does it: what was confirmed is there.
    discovery.process.signal("KILL");
    discovery.process.finish();
    let discovery = Discovery::start(state.path(), &[]);
    assert_eq!(discovery.get("entries").1, listed);
    assert_eq!(discovery.entry(secret(1).public()).unwrap().sequence, 0);
    assert_eq!(keys(&discovery.get("all_servers").1).len(), 2);
    assert_eq!(discovery.post(&server(5, 4, 1)), told(Answer::Iterated));
    let ended = discovery.end("INT");
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    let discovery = Discovery::start(state.path(), &[]);
    assert_eq!(discovery.entry(secret(5).public()).unwrap().sequence, 4);
    assert_eq!(discovery.end("TERM").code, Some(0));
}

#[test]
fn requests_that_are_none_are_refused_and_hurt_nobody() {
    let state = tempfile::tempdir().unwrap();
    let discovery = Discovery::start(state.path(), &[]);
    let place = "/dmsg-discovery/entry/";
    for body in [&b""[..], b"{", b"[]", b"\xff\xfe", b"{\"sequence\":-1}"] {
        assert_eq!(discovery.ask("POST", place, body), told(Answer::BadInput));
    }
    assert_eq!(discovery.ask("POST", place, b"{}"), told(Answer::NoVersion));
    let long = vec![b' '; 65_537];
    assert_eq!(discovery.ask("POST", place, &long), told(Answer::TooLong));
    // Without a length, and without an end before the limit.
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65_536], b"\r\n"].concat();
    let head = format!("POST {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunked = [head.as_bytes(), &chunk, &chunk].concat();
    assert_eq!(discovery.say(&chunked), told(Answer::TooLong));
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(discovery.say(head.as_bytes()).0, 431);
    assert_eq!(discovery.say(b"nonsense\r\n\r\n").0, 400);
    assert_eq!(discovery.ask("PUT", place, b"{}").0, 405);
    assert_eq!(discovery.post(&client(1, 0)), told(Answer::Written));
    let (_, page) = discovery.ask("GET", "/metrics", b"");
    for row in [
        "ringway_discovery_written_total 1",
        "ringway_discovery_invalid_total 8",
        "ringway_discovery_connections_current 1",
    ] {
        assert!(page.lines().any(|line| line == row), "{row}: {page}");
    }
    assert_eq!(discovery.end("TERM").code, Some(0));
}

#[test]
fn taken_ports_and_files_are_named_with_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let discovery = Discovery::start(state.path(), &[]);
    let second = run(
        state.path(),
        &["dmsg-discovery", "--listen", &discovery.address],
    );
    assert_eq!(second.code, Some(1));
    let wanted = format!("{} is in use", discovery.address);
    assert!(
        second.err.contains(&wanted) && second.err.contains("--listen"),
        "{}",
        second.err
    );
    let second = run(state.path(), &arguments(&[]));
    assert_eq!(second.code, Some(1));
    for part in ["discovery.jsonl", "--store", "another process has it"] {
        assert!(second.err.contains(part), "{}", second.err);
    }
    let broken = state.path().join("broken");
    fs::write(&broken, "{\n").unwrap();
    let store = format!("embedded:{}", broken.display());
    let refused = run(state.path(), &arguments(&["--store", &store]));
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("line 1") && refused.err.contains("Move it away"),
        "{}",
        refused.err
    );
    let refused = run(
        state.path(),
        &arguments(&["--store", "redis://127.0.0.1:1"]),
    );
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("redis at 127.0.0.1:1 does not answer"),
        "{}",
        refused.err
    );
    for (flag, value) in [
        ("--store", "http://x"),
        ("--official", "02"),
        ("--entry-timeout", "3"),
    ] {
        let refused = run(state.path(), &arguments(&[flag, value]));
        assert_eq!(refused.code, Some(2), "{}", refused.err);
    }
    let secret = ["--store", "rediss://me:secret@127.0.0.1:1"];
    let refused = run(state.path(), &arguments(&secret));
    assert!(
        refused.err.contains("--store") && !refused.err.contains("secret"),
        "{}",
        refused.err
    );
    assert_eq!(discovery.end("TERM").code, Some(0));
}

#[test]
fn operator_says_which_servers_are_official_and_what_is_taken() {
    let state = tempfile::tempdir().unwrap();
    let known = secret(3).public().to_string();
    let further = [
        "--official",
        &known,
        "--servers-max",
        "1",
        "--clients-max",
        "1",
    ];
    let mut command = ringway(state.path(), &arguments(&further));
    let discovery = Discovery::run(command.env("RINGWAY_DISCOVERY_AUTH", "open sesame"));
    let type_of = |number: u8| {
        let entry = discovery.entry(secret(number).public()).unwrap();
        entry.server.unwrap().server_type
    };
    let mut with_word = server(5, 0, 1);
    with_word.server.as_mut().unwrap().server_type = "open sesame".to_owned();
    with_word.sign(&secret(5));
    assert_eq!(discovery.post(&server(4, 0, 1)), told(Answer::Written));
    assert_eq!(discovery.post(&server(6, 0, 1)), told(Answer::Full));
    assert_eq!(discovery.post(&server(3, 0, 1)), told(Answer::Written));
    assert_eq!(discovery.post(&with_word), told(Answer::Written));
    let types = [3, 4, 5].map(type_of);
    assert_eq!(types, ["official", "community", "official"]);
    assert_eq!(discovery.post(&client(1, 0)), told(Answer::Written));
    assert_eq!(discovery.post(&client(2, 0)), told(Answer::Full));
    let stored = fs::read_to_string(state.path().join("ringway/discovery.jsonl")).unwrap();
    assert!(!stored.contains("sesame"));
    drop(discovery);
    // Without the flag for it, nobody listens on loopback.
    let strict = ["dmsg-discovery", "--listen", "127.0.0.1:0"];
    let discovery = Discovery::run(&mut ringway(state.path(), &strict));
    assert_eq!(discovery.post(&server(4, 1, 1)), told(Answer::Loopback));
}

#[test]
fn full_disk_is_told_and_takes_nothing_from_those_who_ask() {
    let state = tempfile::tempdir().unwrap();
    // A file of this process may have 1,024 bytes and no more: what a full disk does, for one process.
    let program = ringway(state.path(), &arguments(&[]));
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .env_clear()
        .env("XDG_STATE_HOME", state.path());
    let discovery = Discovery::run(&mut shell);
    for number in 1..=9 {
        assert_eq!(discovery.post(&client(number, 0)), told(Answer::Written));
    }
    for number in 1..=9 {
        assert!(discovery.entry(secret(number).public()).is_some());
    }
    let (status, health) = discovery.ask("GET", "/health", b"");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["ready"]), (200, &false.into()));
    assert!(
        health["error"]
            .as_str()
            .unwrap()
            .contains("discovery.jsonl"),
        "{health}"
    );
    assert_eq!(discovery.end("TERM").code, Some(0));
    let files = fs::read_dir(state.path().join("ringway")).unwrap();
    assert_eq!(files.count(), 1, "nothing is left beside the file");
    // With room again it starts from what was written last.
    let discovery = Discovery::start(state.path(), &[]);
    assert_eq!(discovery.post(&client(9, 1)).0, 200);
}

#[test]
fn whole_api_is_served_from_redis_and_two_discoveries_are_one() {
    let Some(mut redis) = Server::start() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let url = redis.url();
    let first = Discovery::start(state.path(), &["--store", &url, "--entry-timeout", "0s"]);
    let second = Discovery::start(state.path(), &["--store", &url, "--clients-max", "2"]);
    assert!(
        first.store.starts_with("redis at 127.0.0.1:"),
        "{}",
        first.store
    );
    whole_api(&first);
    assert_eq!(second.entry(secret(1).public()).unwrap().sequence, 0);
    assert_eq!(second.post(&client(1, 0)), told(Answer::WrongSequence));
    assert_eq!(second.post(&client(1, 1)), told(Answer::Iterated));
    assert_eq!(first.entry(secret(1).public()).unwrap().sequence, 1);
    assert_eq!(second.post(&client(9, 0)), told(Answer::Full));

    // As the Go implementation has it, so that either takes over from the other.
    let mut connection = redis.connect().unwrap();
    let (one, two) = (
        secret(1).public().to_string(),
        secret(2).public().to_string(),
    );
    let stored: String = connection.get(&one).unwrap();
    assert_eq!(stored, first.get(&format!("entry/{one}")).1);
    let left =
        |connection: &mut redis::Connection, key: &str| -> i64 { connection.ttl(key).unwrap() };
    let of_server = left(&mut connection, &secret(5).public().to_string());
    assert!((1..=120).contains(&of_server), "{of_server} s");
    let of_brief = left(&mut connection, &two);
    assert!(
        (121..=180).contains(&of_brief),
        "{of_brief} s, ?timeout=true"
    );
    let clients: Vec<String> = connection.smembers("clients").unwrap();
    assert_eq!(clients.len(), 2);
    let visors: Vec<String> = connection.smembers("visorClients").unwrap();
    assert_eq!(visors, std::slice::from_ref(&one));
    // One that Redis has lost is no longer listed after the next cleaning, and can be written anew.
    let _: () = connection.del(&two).unwrap();
    assert_eq!(second.entry(secret(2).public()), None);

    redis.kill();
    assert_eq!(first.get(&format!("entry/{one}")), told(Answer::Down));
    assert_eq!(first.post(&client(1, 2)), told(Answer::Down));
    let (_, health) = first.ask("GET", "/health", b"");
    assert!(health.contains("\"ready\":false"), "{health}");
    redis.restart();
    let deadline = Instant::now() + PATIENCE;
    while first.post(&client(1, 0)) != told(Answer::Written) {
        assert!(Instant::now() < deadline);
    }
    let ended = first.end("TERM");
    assert_eq!(ended.code, Some(0));
    for said in ["the store does not answer", "the store answers again"] {
        assert_eq!(ended.err.matches(said).count(), 1, "{}", ended.err);
    }
    assert_eq!(second.end("INT").code, Some(0));
}
