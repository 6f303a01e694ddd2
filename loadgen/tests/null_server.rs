//! The generator against its own null server, and against servers that are no good.
//!
//! Here: plain connections. Not here: the relay (`relay`), figures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringway_loadgen::null_server::NullServer;
use ringway_loadgen::plan::{Arrivals, End, Host, Mode, Pace, Plan, Scenario, Shape, Target};
use ringway_loadgen::recording::Recorded;
use ringway_loadgen::report::{Verdict, document};
use ringway_loadgen::run::{Outcome, run};

/// A server that ends with its owner.
struct Served {
    address: SocketAddr,
    interrupt: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<(), String>>>,
}

impl Served {
    fn start(threads: u32) -> Self {
        let interrupt = Arc::new(AtomicBool::new(false));
        let server = NullServer {
            listen: "127.0.0.1:0".parse().expect("an address"),
            threads,
            cpus: Vec::new(),
            sockets_max: 1_024,
            closes: false,
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        let flag = Arc::clone(&interrupt);
        let thread = thread::spawn(move || {
            server.run(&flag, |address| {
                sender.send(address).expect("the test waits");
            })
        });
        Self {
            address: receiver.recv().expect("the server listens"),
            interrupt,
            thread: Some(thread),
        }
    }

    fn end(mut self) {
        self.interrupt.store(true, Ordering::Release);
        let ended = self
            .thread
            .take()
            .expect("it runs")
            .join()
            .expect("no panic");
        assert_eq!(ended, Ok(()));
    }
}

fn plan(scenario: Scenario, server: SocketAddr) -> Plan {
    let mut plan = Plan {
        sessions: 32,
        concurrency: 16,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(300),
        lag_percent_max: 1_000,
        ..Plan::new(scenario, Target::Tcp(server))
    };
    plan.traffic.mode = Mode::PingPong;
    plan.traffic.message_bytes = 64;
    plan.traffic.verify = true;
    plan.placement.threads = 2;
    plan
}

fn carry_out(plan: &Plan) -> Outcome {
    plan.check(&Host::look()).expect("a possible plan");
    run(plan, &AtomicBool::new(false), &mut |_| {}).expect("a result")
}

#[test]
fn messages_come_back_changed_by_nothing() {
    let server = Served::start(2);
    for message_bytes in [24, 64, 5_000, 65_536] {
        let mut plan = plan(Scenario::Plain, server.address);
        plan.traffic.message_bytes = message_bytes;
        let outcome = carry_out(&plan);
        assert_eq!(Verdict::of(&outcome), Verdict::Good, "{:?}", outcome.tally);
        assert!(outcome.tally.rounds > 0);
        assert_eq!(outcome.tally.messages_sent, outcome.tally.messages_received);
    }
    server.end();
}

#[test]
fn connections_come_and_go_by_the_clock_or_as_fast_as_they_can() {
    let server = Served::start(1);
    for (pace, end) in [
        (None, End::Rst),
        (None, End::Fin),
        (
            Some(Pace {
                shape: Shape::Constant(200),
                arrivals: Arrivals::Poisson,
            }),
            End::Rst,
        ),
    ] {
        let mut plan = plan(Scenario::Handshakes, server.address);
        plan.churn.end = end;
        plan.pace = pace;
        let outcome = carry_out(&plan);
        // On a busy machine the generator may be late, and says so.
        assert!(
            matches!(
                Verdict::of(&outcome),
                Verdict::Good | Verdict::Untrustworthy
            ),
            "{:?}",
            outcome.tally
        );
        assert!(outcome.tally.rounds > 0);
        let text = document(&plan, &outcome, &ringway_loadgen::machine::Machine::look());
        assert!(text.contains("\"scenario\": \"connects\""), "{text}");
    }
    server.end();
}

#[test]
fn plain_connections_stand() {
    let server = Served::start(1);
    let outcome = carry_out(&plan(Scenario::Idle, server.address));
    assert_eq!(Verdict::of(&outcome), Verdict::Good);
    server.end();
}

#[test]
fn a_server_that_closes_or_lies_is_reported() {
    for lies in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let server = thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                thread::spawn(move || {
                    let mut message = [0; 64];
                    while lies && socket.read_exact(&mut message).is_ok() {
                        // One bit of what is compared.
                        message[40] ^= 1;
                        if socket.write_all(&message).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let outcome = run(
            &plan(Scenario::Plain, address),
            &AtomicBool::new(false),
            &mut |_| {},
        );
        let names: Vec<String> = match outcome {
            Ok(outcome) => {
                assert_eq!(Verdict::of(&outcome), Verdict::Failed);
                outcome
                    .tally
                    .failures
                    .iter()
                    .map(|(name, _)| name.to_owned())
                    .collect()
            }
            Err(error) => vec![error.to_string()],
        };
        if lies {
            assert!(
                names.iter().any(|name| name.contains("changed on the way")),
                "{names:?}"
            );
        } else {
            assert!(!names.is_empty());
        }
        is_over.store(true, Ordering::Release);
        drop(TcpStream::connect(address));
        server.join().unwrap();
    }
}

#[test]
fn bulk_without_a_counting_end_is_refused() {
    let mut plan = plan(Scenario::Plain, "127.0.0.1:9".parse().unwrap());
    plan.traffic.mode = Mode::Bulk;
    let error = plan.check(&Host::look()).unwrap_err().to_string();
    assert!(error.contains("null-server"), "{error}");
}

#[test]
fn a_recorded_run_adds_up_and_is_not_written_over() {
    let server = Served::start(1);
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    let json = home.path().join("run.json");
    let call = |rate: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"));
        command
            .args(["plain", "--mode", "ping-pong", "--message-size", "64"])
            .args(["--tcp", &server.address.to_string()])
            .args(["--rate", rate, "--duration", "1500ms", "--warmup", "100ms"])
            .args(["--lag-max", "100000", "--out"])
            .arg(&out)
            .arg("--json")
            .arg(&json);
        command.output().unwrap()
    };
    let done = call("burst:200,2000,300ms,50ms");
    // On a busy machine the generator may have been late; its files are the same.
    assert!(matches!(done.status.code(), Some(0 | 3)), "{done:?}");
    let recorded = Recorded::read(&out).unwrap();
    assert_eq!(recorded.run["schema"], "ringway-loadgen/2");
    assert_eq!(recorded.run["plan"]["rate"], "burst:200,2000,300ms,50ms");
    // One interval of a second, one of what was left, one of what came while the run drained.
    assert!(
        recorded.intervals.len() >= 2,
        "{}",
        recorded.intervals.len()
    );
    let rounds: u64 = recorded.intervals.iter().map(|(row, _)| row.rounds).sum();
    assert_eq!(recorded.run["counts"]["rounds"], rounds);
    let latencies = recorded.latencies();
    let written = &recorded.run["latencies"]["response"];
    assert_eq!(written["count"], latencies.response.count());
    assert_eq!(written["p99_ns"], latencies.response.summary().p99_ns);
    let files = [json.clone(), out.join("run.json")];
    let written = files.map(|path| std::fs::read_to_string(path).unwrap());
    assert!(written[0] == written[1], "two documents");
    let again = call("10");
    assert_eq!(again.status.code(), Some(2));
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("holds a result already"), "{said}");
    server.end();
}
