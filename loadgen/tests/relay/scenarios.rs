//! Scenarios against a real relay: phases, groups that come later, asserts, sessions that come back.
//!
//! Here: what a scenario file does as a whole, and the runs that scenarios brought along. Not here: what is
//! wrong with a file (the library's own tests), network namespaces (`namespace`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway_loadgen::machine::Machine;
use ringway_loadgen::plan::{Plan, Scenario, Storm, Target};
use ringway_loadgen::report::Verdict;
use ringway_loadgen::run::run;
use ringway_loadgen::scenarios::{Played, ScenarioFile, Targets, Told, document, play, table};

use super::{complete, ends_clean, plan, relay, relay_with};

const TWO_PHASES: &str = r#"
question = "Does it?"
failure = "It does not."
warmup = "50ms"
lag_max = 1_000_000
asserts = [
    "errors == 0",
    "talk/first: messages_per_second > 0",
    "talk/second: messages_per_second > 0",
    "late/second: rounds_per_second > 0",
    "talk/second: service.max < 1000x first",
]
[[phase]]
name = "first"
time = "400ms"
[[phase]]
name = "second"
time = "400ms"
[[group]]
name = "talk"
run = "steady"
sessions = 4
mode = "ping-pong"
message_size = 64
verify = true
rate = 500
[[group]]
name = "late"
run = "handshakes"
phases = ["second"]
concurrency = 4
"#;

fn read(text: &str) -> ScenarioFile {
    ScenarioFile::read("test", text, &[]).expect("a scenario")
}

fn carry_out(scenario: &ScenarioFile, targets: &Targets) -> (Played, Vec<String>) {
    let mut told = Vec::new();
    let never = AtomicBool::new(false);
    let played = play(scenario, targets, None, &never, &mut |news| {
        told.push(match news {
            Told::Phase(name) => name.to_owned(),
            Told::Line(name, line) => format!("{name}: {line}"),
            Told::Progress(..) => return,
        });
    });
    (played.expect("it is carried out"), told)
}

fn targets(address: ringway_loadgen::plan::RelayAddress) -> Targets {
    Targets {
        relays: vec![address],
        ..Targets::default()
    }
}

#[test]
fn numbers_are_kept_by_group_and_phase() {
    let (set, address) = relay(2);
    let scenario = read(TWO_PHASES);
    let (played, told) = carry_out(&scenario, &targets(address));
    assert_eq!(told, ["first", "second"]);
    assert_eq!(played.verdict(), Verdict::Good, "{:?}", played.asserts);
    assert_eq!(played.asserts.len(), 5);
    let phases: Vec<Vec<usize>> = played
        .groups
        .iter()
        .map(|group| group.phases.keys().copied().collect())
        .collect();
    assert_eq!(phases, [vec![0, 1], vec![1]]);
    let [talk, late] = &played.groups[..] else {
        panic!("two groups");
    };
    let whole = talk.result.as_ref().expect("it ran");
    let parts: u64 = talk.phases.values().map(|sum| sum.messages).sum();
    assert_eq!(parts, whole.tally.messages);
    // Half of what is due in both phases is due in each, whatever the machine makes of it.
    assert!(talk.phases.values().all(|sum| sum.messages > 100));
    assert!(late.phases[&1].rounds > 0);
    let machine = Machine::look();
    let json = document(&scenario, &played, &machine);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["groups"][1]["phases"]["second"]["failures"], 0);
    assert_eq!(json["groups"][0]["run"]["scenario"], "steady");
    let text = table(&scenario, &played, &machine);
    assert!(text.contains("verdict        good"), "{text}");
    ends_clean(set);
}

#[test]
fn an_assert_that_does_not_hold_fails_the_scenario() {
    let (set, address) = relay(1);
    let text = TWO_PHASES.replace("\"errors == 0\"", "\"late: errors > 0\"");
    let scenario = read(&text);
    let (played, _) = carry_out(&scenario, &targets(address));
    assert_eq!(played.verdict(), Verdict::Failed);
    let text = table(&scenario, &played, &Machine::look());
    assert!(text.contains("FAILED: late: errors > 0"), "{text}");
    assert!(text.contains("It does not."), "{text}");
    ends_clean(set);
}

#[test]
fn a_group_that_cannot_begin_ends_the_others() {
    let (set, address) = relay(1);
    let mut nobody = address;
    nobody.socket = "127.0.0.1:1".parse().expect("an address");
    let text = TWO_PHASES.replace(
        "run = \"handshakes\"\nphases = [\"second\"]\nconcurrency = 4",
        "run = \"idle\"\ntarget = \"relay 2\"",
    );
    let text = text.replace("    \"late/second: rounds_per_second > 0\",\n", "");
    let scenario = read(&text);
    let targets = Targets {
        relays: vec![address, nobody],
        ..Targets::default()
    };
    let (played, told) = carry_out(&scenario, &targets);
    assert_eq!(played.verdict(), Verdict::Failed);
    let why = played.groups[1]
        .result
        .as_ref()
        .expect_err("nobody listens");
    assert!(why.contains("Connection refused"), "{why}");
    assert!(
        told.iter().any(|line| line.starts_with("late: 0 of 16")),
        "{told:?}"
    );
    // Half a run is no ground to judge on.
    assert!(played.asserts.is_empty());
    ends_clean(set);
}

#[test]
fn an_interrupt_ends_all_groups() {
    let (set, address) = relay(1);
    let mut scenario = read(TWO_PHASES);
    scenario.scale(1_000.0);
    scenario.warmup = Duration::ZERO;
    let interrupt = AtomicBool::new(false);
    let played = play(
        &scenario,
        &targets(address),
        None,
        &interrupt,
        &mut |news| {
            if matches!(news, Told::Phase("first")) {
                interrupt.store(true, Ordering::Release);
            }
        },
    );
    assert_eq!(played.expect("it began").verdict(), Verdict::Interrupted);
    ends_clean(set);
}

#[test]
fn a_group_writes_its_files() {
    let (set, address) = relay(1);
    let scenario = read(TWO_PHASES);
    let out = tempfile::tempdir().expect("a directory");
    let never = AtomicBool::new(false);
    let play = || {
        play(
            &scenario,
            &targets(address),
            Some(out.path()),
            &never,
            &mut |_| {},
        )
    };
    play().expect("it is carried out");
    for group in ["talk", "late"] {
        let recorded = ringway_loadgen::recording::Recorded::read(&out.path().join(group));
        let recorded = recorded.expect("a recording");
        assert_eq!(recorded.run["schema"], "ringway-loadgen/2");
        let last = recorded.intervals.last().map(|(row, _)| row.phase);
        assert_eq!(last, Some(1));
    }
    // What is there already is not written over.
    let again = play().expect_err("it exists").to_string();
    assert!(again.contains("holds a result"), "{again}");
    ends_clean(set);
}

#[test]
fn sessions_come_back_after_each_storm() {
    let (set, address) = relay(2);
    let mut plan = Plan {
        sessions: 60,
        concurrency: 60,
        // Two storms, and far more time after the second than a busy machine needs for 60 handshakes: who is
        // not back at the end of the plan is a failure.
        duration: Duration::from_millis(3_900),
        ..plan(Scenario::Storm, address)
    };
    plan.storm = Storm {
        spread: Duration::from_millis(50),
        every: Some(Duration::from_millis(2_000)),
    };
    plan.placement.threads = 2;
    let outcome = complete(&plan);
    assert_eq!(outcome.tally.rounds, 120);
    assert_eq!(outcome.tally.latencies.response.count(), 120);
    ends_clean(set);
}

/// All at once are more handshakes than the relay has in progress: it would shed the rest.
#[test]
fn a_storm_without_bound_is_set_up_all_the_same() {
    let (set, address) = relay_with(1, |config| config.admission.handshakes_max = 300);
    let mut plan = Plan {
        sessions: 900,
        concurrency: 900,
        duration: Duration::from_millis(200),
        ..plan(Scenario::Storm, address)
    };
    // Due again after the end, but for a few: the storm itself is not what is looked at.
    plan.storm.spread = Duration::from_secs(60);
    let outcome = run(&plan, &AtomicBool::new(false), &mut |_| {}).expect("a run");
    let failures: Vec<_> = outcome.tally.failures.iter().collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].0, "storm: a session was not back at the end");
    ends_clean(set);
}

#[test]
fn a_session_that_does_not_come_back_is_a_failure() {
    let (set, address) = relay(1);
    let mut plan = Plan {
        sessions: 3,
        duration: Duration::from_millis(200),
        ..plan(Scenario::Storm, address)
    };
    // Due again after the end: whether the seed lets one come back before, not all of them do.
    plan.storm.spread = Duration::from_secs(60);
    let outcome = run(&plan, &AtomicBool::new(false), &mut |_| {}).expect("a run");
    let failures: Vec<_> = outcome.tally.failures.iter().collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].0, "storm: a session was not back at the end");
    ends_clean(set);
}

#[test]
fn the_older_session_of_a_key_is_told_that_it_is_replaced() {
    let (set, address) = relay(2);
    let plan = Plan {
        sessions: 10,
        concurrency: 4,
        ..plan(Scenario::Evict, address)
    };
    let outcome = complete(&plan);
    assert!(outcome.tally.rounds >= 10, "{}", outcome.tally.rounds);
    assert_eq!(
        outcome.tally.latencies.service.count(),
        outcome.tally.rounds
    );
    ends_clean(set);
}

#[test]
fn what_a_plan_expects_is_no_failure() {
    let mut plan = Plan::new(
        Scenario::Idle,
        Target::Tcp("127.0.0.1:1".parse().expect("an address")),
    );
    plan.sessions = 3;
    plan.expects = vec!["connect: Connection refused".to_owned()];
    let outcome = run(&plan, &AtomicBool::new(false), &mut |_| {}).expect("a run");
    assert_eq!(Verdict::of(&outcome), Verdict::Good);
    assert_eq!(outcome.expected.total(), 3);
    assert_eq!(outcome.ledger[0].failed, 3);
}
