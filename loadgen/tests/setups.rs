//! Route setup against the real relay, as a process: routes that stand, and the names of what is refused.
//!
//! Here: runs of `setups`, with one thread, several, several processes and a clock; relays that set nothing
//! up, or not for everybody, or have no room. Not here: figures; no test depends on the speed of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_loadgen::machine::Machine;
use ringway_loadgen::plan::{Arrivals, Host, Pace, Plan, Scenario, Shape, Target};
use ringway_loadgen::report::{Figures, Verdict, document, line, table};
use ringway_loadgen::run::{News, Outcome, RunError, run};
use ringway_loadgen::servers::Server;
use ringway_proto::key::SecretKey;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ringway-loadgen");

/// A relay with a key of its own.
struct Relay {
    server: Server,
    _state: TempDir,
}

/// Returns the relay's program, which stands beside the generator; builds it if it does not.
fn relay_program() -> PathBuf {
    let program = Path::new(PROGRAM).with_file_name("ringway");
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "-p", "ringway", "--bin", "ringway"]);
        if program
            .parent()
            .is_some_and(|path| path.ends_with("release"))
        {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success());
    }
    program
}

fn relay(sets: &[&str]) -> Relay {
    let state = tempfile::tempdir().expect("a directory");
    let mut sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    sets.push("limits.sessions_max=512".to_owned());
    let server = Server::relay(&relay_program(), state.path(), &sets, false).expect("a relay");
    Relay {
        server,
        _state: state,
    }
}

#[test]
fn a_relay_that_is_started_speaks_dmsg_if_it_is_asked_to() {
    let state = tempfile::tempdir().expect("a directory");
    let sets = ["limits.sessions_max=512".to_owned()];
    let server = Server::relay(&relay_program(), state.path(), &sets, true).expect("a relay");
    let both = [server.relay, server.dmsg].map(|address| address.expect("an address"));
    assert_eq!(both.map(|address| address.key.as_bytes().len()), [32, 33]);
    for address in both {
        let plan = Plan {
            sessions: 4,
            duration: Duration::from_millis(300),
            admin: server.admin,
            ..Plan::new(Scenario::Opens, Target::Relay(address))
        };
        let outcome = run(&plan, &AtomicBool::new(false), &mut |_| {}).expect("a run");
        assert_eq!(Verdict::of(&outcome), Verdict::Good);
        assert!(outcome.tally.rounds > 0);
        let shown = table(&plan, &outcome, &Machine::look());
        assert_eq!(
            shown.starts_with("opens (dmsg): 64 at a time"),
            plan.is_dmsg()
        );
    }
}

fn plan(relay: &Relay) -> Plan {
    let address = relay.server.relay.expect("a relay says its key");
    Plan {
        sessions: 12,
        concurrency: 16,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(400),
        relay_pid: Some(relay.server.pid()),
        ..Plan::new(Scenario::Setups, Target::Relay(address))
    }
}

fn carry_out(plan: &Plan) -> Result<Outcome, RunError> {
    assert_eq!(plan.check(&Host::look()), Ok(()));
    run(plan, &AtomicBool::new(false), &mut |_| {})
}

/// Runs the plan; returns the outcome after the checks that hold when nothing is refused.
fn complete(plan: &Plan) -> Outcome {
    let outcome = carry_out(plan).expect("a run");
    let failures: Vec<_> = outcome.tally.failures.iter().collect();
    assert_eq!(failures, []);
    assert!(outcome.is_complete);
    assert!(outcome.tally.rounds > 0);
    let found = outcome.findings.setups.expect("findings");
    assert_eq!(found.problem(), None);
    assert!(found.setups >= outcome.tally.rounds);
    assert_eq!(
        found.asked.rules_added,
        found.setups * (2 * u64::from(plan.hops) - 1)
    );
    let latencies = &outcome.tally.latencies;
    assert_eq!(latencies.service.count(), outcome.tally.rounds);
    outcome
}

fn refusals(outcome: &Outcome) -> Vec<&str> {
    let failures = outcome.tally.failures.iter();
    failures.map(|(name, _)| name).collect()
}

#[test]
fn routes_stand_over_any_number_of_hops_and_cost_is_told() {
    let relay = relay(&["shards=2"]);
    for (hops, sessions, threads) in [(1, 2, 1), (3, 12, 2), (15, 30, 1)] {
        let mut plan = plan(&relay);
        (plan.hops, plan.sessions, plan.placement.threads) = (hops, sessions, threads);
        let outcome = complete(&plan);
        let figures = Figures::of(&plan, &outcome);
        assert!(
            figures
                .relay
                .expect("its process")
                .micros_per_round
                .is_some()
        );
        assert_eq!(outcome.tally.latencies.response.count(), 0);
        let machine = Machine::look();
        let json: Value = serde_json::from_str(&document(&plan, &outcome, &machine)).expect("JSON");
        assert_eq!(json["plan"]["hops"], hops);
        assert_eq!(json["plan"]["payload"], "sealed");
        let setups = outcome.findings.setups.expect("findings").setups;
        assert_eq!(json["findings"]["setups"]["setups"], setups);
        let text = table(&plan, &outcome, &machine);
        assert!(text.contains(" setups/s"), "{text}");
        assert!(text.contains(&format!("for {setups} setups")), "{text}");
        let line = line(&plan, &outcome);
        assert!(line.contains(&format!(" setups={setups} ")), "{line}");
    }
}

#[test]
fn setups_begin_by_the_clock() {
    let relay = relay(&["shards=1"]);
    let mut plan = plan(&relay);
    plan.pace = Some(Pace {
        shape: Shape::Constant(60),
        arrivals: Arrivals::Even,
    });
    let outcome = complete(&plan);
    let latencies = &outcome.tally.latencies;
    assert_eq!(latencies.response.count(), latencies.service.count());
    assert!(latencies.lag.count() > 0);
    // 60 a second at most; as fast as it goes would be hundreds.
    let most = 10 + outcome.tally.measured.as_millis() * 60 / 1_000;
    let rounds = u128::from(outcome.tally.rounds);
    assert!(rounds <= most, "{rounds} of {most}");
}

#[test]
fn several_processes_have_one_result() {
    let relay = relay(&["shards=1"]);
    let address = String::from(relay.server.relay.expect("a relay says its key"));
    let output = Command::new(PROGRAM)
        .args(["setups", "--relay", &address, "--sessions", "12"])
        .args(["--duration", "300ms", "--processes", "2", "--json", "-"])
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["verdict"], "good", "{json}");
    let found = &json["findings"]["setups"];
    let setups = found["setups"].as_u64().expect("a number");
    assert!(setups > 0);
    assert_eq!(found["rules_added"], 5 * setups);
}

#[test]
fn relay_that_sets_nothing_up_is_named() {
    let nobody = SecretKey::from_seed([9; 32]).public();
    let keys = format!("services.route_setup={nobody}");
    for (set, name) in [
        (
            "services.enable_route_setup=off",
            "open refused: 301 no_listener",
        ),
        (keys.as_str(), "open refused: 201 not_allowed"),
    ] {
        let relay = relay(&["shards=1", set]);
        let error = carry_out(&plan(&relay)).expect_err("no stream can be opened");
        let RunError::Setup { what, failures } = error else {
            panic!("{error}");
        };
        assert!(what.contains("streams: some failed"), "{what}");
        assert!(
            failures.iter().any(|(have, _)| have == name),
            "{failures:?}"
        );
    }
}

#[test]
fn setups_that_find_no_room_are_refused_by_name_and_leave_nothing() {
    let relay = relay(&[
        "shards=1",
        "services.setups_max=1",
        "services.setups_waiting_max=0",
    ]);
    let mut plan = plan(&relay);
    let outcome = carry_out(&plan).expect("a run");
    assert_eq!(refusals(&outcome), ["setup refused: 501 route_busy"]);
    assert_eq!(Verdict::of(&outcome), Verdict::Failed);
    // One at a time has its turn, and a refused one has asked no hop.
    let found = outcome.findings.setups.expect("findings");
    assert!(found.setups > 0);
    assert_eq!(found.problem(), None);

    plan.expects = vec!["501 route_busy".to_owned()];
    let outcome = carry_out(&plan).expect("a run");
    assert_eq!(Verdict::of(&outcome), Verdict::Good);
    assert!(outcome.expected.total() > 0);
}

#[test]
fn hops_that_are_no_peers_of_the_relay_are_named() {
    // The hops stand at another relay, which this one has no link with.
    let near = relay(&["shards=1", "services.setup_timeout=1s"]);
    let far = relay(&["shards=1"]);
    let mut plan = plan(&near);
    plan.far = far.server.relay;
    let outcome = carry_out(&plan).expect("a run");
    assert_eq!(refusals(&outcome), ["setup refused: 503 hop_unreachable"]);
    assert_eq!(outcome.tally.rounds, 0);
}

#[test]
fn relay_that_dies_ends_setups_by_name() {
    let relay = relay(&["shards=1"]);
    let mut plan = plan(&relay);
    // One asker: of several, those whose end is not known yet ask in the place of the ones that are lost.
    (plan.hops, plan.sessions) = (1, 2);
    plan.duration = Duration::from_secs(3_600);
    plan.relay_pid = None;
    let pid = i32::try_from(relay.server.pid())
        .ok()
        .and_then(Pid::from_raw);
    let interrupt = AtomicBool::new(false);
    let outcome = run(&plan, &interrupt, &mut |news| match news {
        News::Progress(progress) if progress.failures > 0 => {
            interrupt.store(true, Ordering::Release);
        }
        News::Progress(progress) if progress.rounds > 0 => {
            kill_process(pid.expect("a process"), Signal::KILL).expect("it is there");
        }
        _ => {}
    });
    let outcome = outcome.expect("a run");
    let names = refusals(&outcome);
    // As many as were in progress.
    let lost = outcome.tally.failures.iter();
    let lost = lost.filter(|(name, _)| *name == "setup: its stream ended");
    assert_eq!(lost.map(|(_, count)| count).sum::<u64>(), 16, "{names:?}");
    assert!(
        names.iter().any(|name| name.starts_with("session: ")),
        "{names:?}"
    );
}
