//! The tasks `knee` and `diff` of the program, as a user calls them.
//!
//! Here: the built program, exit status, text and JSON; the counterpart is its own null server. Not here:
//! the machine's speed: each objective holds or fails by construction.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"))
}

fn call(line: &str) -> Output {
    let output = program().args(line.split_ascii_whitespace()).output();
    output.expect("the program starts")
}

fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::INT).expect("it runs");
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A null server of its own process.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(sockets: u32) -> Self {
        let mut child = program()
            .args(["null-server", "--listen", "127.0.0.1:0", "--sockets"])
            .arg(sockets.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening ");
        Self {
            address: address.expect("it listens").to_owned(),
            child,
        }
    }

    /// Calls `knee` with short windows.
    fn knee(&self, flags: &str, run: &str) -> Output {
        call(&self.line(flags, run))
    }

    fn line(&self, flags: &str, run: &str) -> String {
        format!(
            "knee --window 50ms --confirm 2 {flags} {run} --tcp {} --warmup 0s --lag-max 1000000",
            self.address
        )
    }

    fn end(mut self) {
        interrupt(&self.child);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    /// A test that fails leaves no server behind, which would also hold the output open.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const PING_PONG: &str = "plain --mode ping-pong --message-size 64 --connections 2";

#[test]
fn a_server_with_few_places_has_a_known_knee_over_sessions() {
    let server = Server::start(24);
    let home = tempfile::tempdir().unwrap();
    let json = home.path().join("knee.json");
    let done = server.knee(
        "--slo errors==0 --over sessions --from 2 --max 100",
        &format!(
            "idle --relay-pid {} --json {}",
            server.child.id(),
            json.display()
        ),
    );
    assert_eq!(done.status.code(), Some(0), "{}", errors(&done));
    assert!(text(&done).starts_with("knee: "), "{}", text(&done));
    let document: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(document["schema"], "ringway-loadgen-knee/1");
    assert_eq!(
        (&document["over"], &document["scenario"]),
        (&"sessions".into(), &"idle".into())
    );
    let knee = document["result"]["knee"].as_f64().unwrap();
    assert!((22.0..=26.0).contains(&knee), "{document:#}");
    // A line each, in words.
    let windows = document["windows"].as_array().unwrap();
    let lines: Vec<String> = errors(&done).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), windows.len(), "{lines:?}");
    assert!(
        lines[0].starts_with("window 1 (climb), sessions 2: met; "),
        "{}",
        lines[0]
    );
    // Whether the server closes before or after all stand is up to the scheduler; it is missed either way.
    let is_missed = |line: &String| line.contains("sessions 32: missed; ");
    assert!(lines.iter().any(is_missed), "{lines:?}");
    // The relay's process was looked at.
    assert!(windows[0]["relay_cores"].is_number(), "{document:#}");
    server.end();
}

#[test]
fn objectives_that_always_or_never_hold_have_no_knee() {
    let server = Server::start(64);
    let range = "--from 10 --max 40";
    let always = server.knee(&format!("--slo errors>=0 {range}"), PING_PONG);
    assert_eq!(always.status.code(), Some(1), "{}", errors(&always));
    assert!(text(&always).contains("raise --max"), "{}", text(&always));
    let lines = errors(&always);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(
        lines.contains("window 3 (climb), rate 40: met; held: errors>=0 (measured 0, bound 0)"),
        "{lines}"
    );
    let never = server.knee(
        &format!("--slo errors<0 {range}"),
        &format!("{PING_PONG} --json -"),
    );
    assert_eq!(never.status.code(), Some(1), "{}", errors(&never));
    let document: Value = serde_json::from_slice(&never.stdout).unwrap();
    assert_eq!(document["result"], Value::Null);
    assert!(
        document["conclusion"]
            .as_str()
            .unwrap()
            .contains("lower --from"),
        "{document:#}"
    );
    assert_eq!(document["windows"][0]["seen"], "missed");
    server.end();
}

#[test]
fn a_rate_that_the_objective_itself_bounds_is_the_knee() {
    let server = Server::start(64);
    // Rounds go by the clock: 40 in a window of 50 ms at 800 a second.
    let done = server.knee(
        "--slo rounds_per_second<800 --from 200 --max 3000 --resolution 10%",
        PING_PONG,
    );
    // A machine that is busy may do fewer, and then meets the objective up to the maximum.
    let said = text(&done);
    match done.status.code() {
        Some(0) => {
            assert!(
                said.starts_with("knee: ") && said.contains(" a second (95 % interval "),
                "{said}"
            );
            assert!(said.contains(" a core of the generator"), "{said}");
            assert!(!said.contains(" a core of the relay"), "{said}");
        }
        Some(1) => assert!(said.contains("raise --max"), "{said}"),
        other => panic!("{other:?}: {said}{}", errors(&done)),
    }
    server.end();
}

#[test]
fn what_makes_no_sense_is_refused_before_the_first_connect() {
    // Nobody listens there: a connection would fail in another way.
    let nobody = "--tcp 127.0.0.1:1";
    for (line, word) in [
        (
            format!("--slo errors==0 --from 1 --max 9 idle {nobody}"),
            "idle has no rate",
        ),
        (
            format!("--slo errors==0 --from 9 --max 1 connects {nobody}"),
            "--from",
        ),
        (
            format!("--slo errors==0 --over sessions --from 1 --max 9 connects {nobody}"),
            "no sessions",
        ),
        (
            format!("--slo errors==0 --from 1 --max 9 connects {nobody} --rate ramp:1..9"),
            "one constant rate",
        ),
        (
            format!("--slo errors=0 --from 1 --max 9 connects {nobody}"),
            "operator",
        ),
        (
            format!("--slo errors==0 --over sessions --from 1 --max 4000000000 idle {nobody}"),
            "sessions 4000000000: ",
        ),
    ] {
        let refused = call(&format!("knee {line}"));
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{line}: {}",
            errors(&refused)
        );
        assert!(
            errors(&refused).contains(word),
            "{line}: {}",
            errors(&refused)
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let failed = call(
        "knee --slo errors==0 --over sessions --from 1 --max 9 idle --tcp 127.0.0.1:1 --warmup 0s",
    );
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        errors(&failed).contains("whether the server is there"),
        "{}",
        errors(&failed)
    );
}

#[test]
fn an_interrupt_ends_a_knee_with_130() {
    let server = Server::start(64);
    let line = server.line(
        "--slo errors>=0 --from 1 --max 1000000 --factor 1.01",
        PING_PONG,
    );
    let mut child = program()
        .args(line.split_ascii_whitespace())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // It has begun.
    lines.next().unwrap().unwrap();
    interrupt(&child);
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("interrupted after "), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    server.end();
}

/// Records a short run in `out`.
fn record(server: &Server, out: &Path) {
    let done = call(&format!(
        "{PING_PONG} --tcp {} --rate 200 --duration 200ms --warmup 0s --lag-max 1000000 --out {}",
        server.address,
        out.display()
    ));
    assert!(done.status.success(), "{}", errors(&done));
}

#[test]
fn short_runs_are_compared_without_a_verdict() {
    let server = Server::start(64);
    let home = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| home.path().join(name));
    record(&server, &a);
    record(&server, &b);
    server.end();
    let (a, b) = (a.display(), b.display());
    for inputs in [
        format!("{a} {b}"),
        format!("{a}/latency.hlog {b}"),
        format!("{a}/run.json {b}/run.json"),
    ] {
        let done = call(&format!("diff {inputs}"));
        assert_eq!(done.status.code(), Some(3), "{}", errors(&done));
        assert!(
            text(&done).contains("cannot be judged: "),
            "{}",
            text(&done)
        );
        assert!(text(&done).contains("no verdict"), "{}", text(&done));
    }
    let done = call(&format!("diff {a} {b} --json -"));
    assert_eq!(done.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["schema"], "ringway-loadgen-diff/1");
    assert_eq!(document["diff"]["verdict"], "cannot_judge");
    assert!(
        document["diff"]["unjudged"][0]
            .as_str()
            .unwrap()
            .contains("intervals")
    );
}

#[test]
fn inputs_that_are_none_are_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let empty = home.path().join("empty.hlog");
    std::fs::write(&empty, "").unwrap();
    for (input, word) in [
        ("/nowhere/x", "/nowhere/x: there is no such file"),
        (
            home.path().to_str().unwrap(),
            "neither latency.hlog nor run.json",
        ),
        (empty.to_str().unwrap(), "empty.hlog: it is empty"),
        (env!("CARGO_BIN_EXE_ringway-loadgen"), "line 1: "),
    ] {
        let refused = call(&format!("diff {input} {input}"));
        assert_eq!(refused.status.code(), Some(2), "{}", errors(&refused));
        assert!(errors(&refused).contains(word), "{}", errors(&refused));
    }
    let help = text(&call("diff --help"));
    assert!(help.contains("3    cannot be judged"), "{help}");
}
