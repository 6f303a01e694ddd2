//! Runs of several processes: one result, and nobody left behind whoever dies.
//!
//! Here: the built program with `--processes`, against its own null server and a relay in this process.
//! Not here: figures; no test depends on the speed of the machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringway_loadgen::recording::Recorded;
use ringway_loadgen::servers::Server;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::SecretKey;
use ringway_shards::set::{ShardSet, ShardSetConfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringway-loadgen");

fn program(line: &str) -> Command {
    let mut program = Command::new(PROGRAM);
    program.args(line.split_ascii_whitespace());
    program
}

/// Runs the program to its end; the machine may be busy, so that lag is none of our business.
fn call(line: &str) -> Output {
    let output = program(line).args(["--lag-max", "1000000"]).output();
    output.expect("the program starts")
}

fn null_server() -> Server {
    Server::null(Path::new(PROGRAM), 1, 1_024, false).expect("a server")
}

fn document(output: &Output) -> Value {
    let parsed = serde_json::from_slice(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(parsed.is_ok(), "{parsed:?}: {errors}");
    parsed.unwrap_or_default()
}

fn start(line: &str) -> Child {
    let mut program = program(line);
    program.stdin(Stdio::null()).stdout(Stdio::piped());
    program
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Returns the processes that `parent` has started, as soon as there are so many.
fn children(parent: &Child, count: usize) -> Vec<Pid> {
    let file = format!("/proc/{0}/task/{0}/children", parent.id());
    wait_for("no sign of its processes", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<Pid> = text
            .split_ascii_whitespace()
            .filter_map(|word| Pid::from_raw(word.parse().ok()?))
            .collect();
        (pids.len() == count).then_some(pids)
    })
}

/// Waits until a process of a run has made its connections.
fn wait_for_connections(pid: Pid, count: usize) {
    let listed = format!("/proc/{}/net/tcp", pid.as_raw_nonzero());
    wait_for("no sign of its connections", || {
        let text = fs::read_to_string(&listed).unwrap_or_default();
        let established = text.lines().filter(|line| line.contains(" 01 "));
        (established.count() >= count).then_some(())
    });
}

fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // One that nobody waits for stays as a zombie.
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Looks again and again, for a minute at most.
fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let looks = (0..6_000).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        look()
    });
    looks.expect(what)
}

#[test]
fn histograms_of_processes_add_up_to_one_result() {
    let server = null_server();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let output = call(&format!(
        "plain --tcp {} --mode ping-pong --message-size 64 --verify --processes 3 --threads 2 \
         --connections 13 --duration 1500ms --warmup 50ms --rate 600 --json - --out {}",
        server.address,
        out.display()
    ));
    assert!(output.status.success(), "{output:?}");
    let run = document(&output);
    assert_eq!(run["plan"]["processes"], 3);
    assert_eq!(run["plan"]["threads"], 6);
    assert_eq!(run["verdict"], "good");
    // A connect for each connection, whoever made it.
    assert_eq!(run["ledger"][0]["connect"]["count"], 13);
    assert_eq!(run["ledger"][0]["established"], 13);
    let rounds = run["latencies"]["service"]["count"].as_u64().unwrap();
    let recorded = Recorded::read(&out).unwrap();
    // Open loop: what was due in the time that counts, of all processes together. On a host that is busy
    // that time is longer than was asked for.
    let counted = recorded
        .intervals
        .iter()
        .map(|(interval, _)| interval.length_seconds);
    let due = counted.sum::<f64>() * 600.0;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let share = rounds as f64 / due;
    assert!((0.66..=1.34).contains(&share), "{rounds} of {due}");
    assert_eq!(recorded.latencies().service.count(), rounds);
    assert_eq!(
        recorded.latencies().lag.count(),
        run["latencies"]["lag"]["count"].as_u64().unwrap()
    );
    assert_eq!(recorded.intervals[0].0.sessions, 13);
}

#[test]
fn every_scenario_of_the_relay_takes_processes() {
    let secret = SecretKey::from_seed([7; 32]);
    let set = ShardSet::launch(&ShardSetConfig {
        shards_count: 2,
        ..ShardSetConfig::new(Arc::new(RelayIdentity::new(&secret))).with_sockets(1_023)
    })
    .expect("a relay on a free port");
    let relay = format!("{}@{}", secret.public(), set.address());
    for (run, rounds) in [
        (
            "steady --sessions 8 --streams 2 --verify --duration 300ms",
            None,
        ),
        ("opens --sessions 8 --duration 300ms", None),
        ("handshakes --concurrency 4 --duration 300ms", None),
        ("idle --sessions 9 --duration 100ms", None),
        ("evict --keys 4 --concurrency 2 --duration 300ms", None),
        ("storm --sessions 8 --duration 2s", Some(8)),
        ("churn --cycles 400 --rounds 2 --concurrency 8", Some(400)),
        (
            "slow-reader --pairs 4 --slow 2 --windows 2 --window-time 200ms",
            None,
        ),
    ] {
        let output = call(&format!("{run} --relay {relay} --processes 2 --json -"));
        let document = document(&output);
        assert_eq!(document["verdict"], "good", "{run}: {document}");
        assert_eq!(document["plan"]["processes"], 2);
        match rounds {
            Some(rounds) => assert_eq!(document["counts"]["rounds"], rounds, "{run}"),
            None if run.starts_with("idle") => {}
            None => {
                let done =
                    ["rounds", "messages"].map(|name| document["counts"][name].as_u64().unwrap());
                assert!(done[0] + done[1] > 0, "{run}: {document}");
            }
        }
    }
    for snapshot in set.shutdown() {
        assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
    }
}

#[test]
fn a_process_that_is_killed_ends_the_run_and_is_named() {
    let server = null_server();
    let run = start(&format!(
        "idle --tcp {} --sessions 8 --processes 2 --duration 60s",
        server.address
    ));
    let members = children(&run, 2);
    wait_for_connections(members[0], 16);
    kill_process(members[1], Signal::KILL).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("process 2 of 2"), "{errors}");
    assert!(errors.contains("signal: 9"), "{errors}");
    assert!(is_gone(members[0]));
}

#[test]
fn a_conductor_that_is_killed_leaves_no_process_behind() {
    let server = null_server();
    let mut run = start(&format!(
        "idle --tcp {} --sessions 8 --processes 2 --duration 60s",
        server.address
    ));
    let members = children(&run, 2);
    wait_for_connections(members[0], 16);
    run.kill().unwrap();
    run.wait().unwrap();
    wait_for("no sign of their end", || {
        members.iter().all(|pid| is_gone(*pid)).then_some(())
    });
}

#[test]
fn an_interrupt_gives_the_partial_result_of_all() {
    let server = null_server();
    let run = start(&format!(
        "plain --tcp {} --mode ping-pong --message-size 64 --connections 4 --processes 2 --duration 60s \
         --warmup 0s --json -",
        server.address
    ));
    let members = children(&run, 2);
    wait_for_connections(members[0], 8);
    // Some of the time that counts.
    thread::sleep(Duration::from_millis(500));
    let pid = i32::try_from(run.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let document = document(&output);
    assert_eq!(document["verdict"], "interrupted");
    assert!(document["counts"]["rounds"].as_u64().unwrap() > 0);
    assert!(members.iter().all(|pid| is_gone(*pid)));
}

#[test]
fn processes_that_make_no_sense_are_refused_before_the_first_connection() {
    for (flags, word) in [
        (
            "plain --proxy 127.0.0.1:1 --listen 127.0.0.1:2 --processes 2",
            "--proxy",
        ),
        ("idle --tcp 127.0.0.1:1 --processes 0", "--processes"),
        ("idle --tcp 127.0.0.1:1 --processes 99999", "--processes"),
        (
            "plain --tcp 127.0.0.1:1 --mode ping-pong --connections 3 --processes 4",
            "4 threads",
        ),
    ] {
        let output = call(flags);
        assert_eq!(output.status.code(), Some(2), "{flags}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(word), "{errors}");
    }
}

#[test]
fn nobody_to_connect_to_is_told_once_with_its_reason() {
    let output = call("idle --tcp 127.0.0.1:1 --sessions 8 --processes 2");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("0 of 8 sessions: some failed"), "{errors}");
    assert!(errors.contains("refused"), "{errors}");
}
