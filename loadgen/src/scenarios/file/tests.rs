//! Tests of scenario files: every one that comes with the program, and what is wrong with others.

use super::*;
use crate::plan::{Host, Scenario, Shape};
use crate::scenarios::{BUILT_IN, Targets};
use crate::sources::PortRange;

const SMALL: &str = r#"
question = "Does it?"
failure = "It does not."
asserts = ["one/b: response.p99 < 3x a", "errors == 0"]
[[phase]]
name = "a"
time = "2s"
[[phase]]
name = "b"
time = "3s"
[[phase]]
name = "c"
time = "4s"
[[group]]
name = "one"
run = "steady"
phases = ["a", "b"]
rate = "ramp:1..100"
[[group]]
name = "two"
run = "connects"
phases = ["b"]
end = "fin"
"#;

fn wrong(text: &str) -> String {
    ScenarioFile::read("x", text, &[]).unwrap_err().join("\n")
}

fn targets() -> Targets {
    let relay: crate::plan::RelayAddress = format!("{}@127.0.0.1:7100", "3b".repeat(32))
        .parse()
        .unwrap();
    Targets {
        relays: vec![relay; 2],
        twin: None,
        tcp: vec!["127.0.0.1:7200".parse().unwrap(); 3],
        pid: Some(1),
        admin: None,
    }
}

#[test]
fn every_scenario_that_comes_with_the_program_makes_plans_that_work() {
    let host = Host {
        files_max: 20_000,
        ports: PortRange {
            first: 32_768,
            last: 60_999,
        },
        memory_bytes: None,
    };
    for (name, text) in BUILT_IN {
        let scenario = ScenarioFile::read(name, text, &[]).unwrap();
        assert!(!scenario.asserts.is_empty(), "{name} asserts nothing");
        for group in &scenario.groups {
            let time = Duration::from_secs(10);
            let plan = group.plan(&targets(), 1, Duration::ZERO, time).unwrap();
            assert_eq!(plan.check(&host), Ok(()), "{name}");
        }
    }
}

#[test]
fn groups_have_their_phases() {
    let scenario = ScenarioFile::read("x", SMALL, &[]).unwrap();
    let spans: Vec<_> = scenario
        .groups
        .iter()
        .map(|group| scenario.span(group))
        .collect();
    assert_eq!(spans, [(0, 2), (1, 2)]);
    assert!(scenario.needs_relay() && scenario.needs_tcp());
    let plan = scenario.groups[0].plan(&targets(), 7, Duration::ZERO, Duration::from_secs(5));
    let plan = plan.unwrap();
    assert_eq!((plan.scenario, plan.seed), (Scenario::Steady, 7));
    assert!(matches!(plan.pace.unwrap().shape, Shape::Ramp { .. }));
}

#[test]
fn a_group_may_have_processes_with_threads_each() {
    let sets = ["one.processes=3".to_owned(), "one.threads=2".to_owned()];
    let scenario = ScenarioFile::read("x", SMALL, &sets).unwrap();
    let plan = scenario.groups[0].plan(&targets(), 7, Duration::ZERO, Duration::from_secs(5));
    let placement = plan.unwrap().placement;
    assert_eq!((placement.processes, placement.threads), (3, 6));
    assert_eq!(placement.threads_text(), "6 threads of 3 processes");
}

#[test]
fn values_are_overridden() {
    let sets = [
        "one.rate=5",
        "two.end=rst",
        "b.time=9s",
        "seed=3",
        "one.sessions=4",
    ];
    let sets = sets.map(str::to_owned);
    let mut scenario = ScenarioFile::read("x", SMALL, &sets).unwrap();
    assert_eq!((scenario.seed, scenario.phases[1].time.as_secs()), (3, 9));
    let plan = scenario.groups[0]
        .plan(&targets(), 1, Duration::ZERO, Duration::ZERO)
        .unwrap();
    assert_eq!(plan.pace.unwrap().shape, Shape::Constant(5));
    assert_eq!(plan.sessions, 4);
    scenario.scale(0.5);
    assert_eq!(scenario.phases[0].time.as_secs(), 1);
    for (set, word) in [
        ("nobody.rate=5", "nobody"),
        ("rate=5", "GROUP.KEY"),
        ("one.rate", "KEY=VALUE"),
        ("one.speed=5", "speed"),
        ("one.rate=fast", "rate"),
    ] {
        let read = ScenarioFile::read("x", SMALL, &[set.to_owned()]);
        let planned = read.and_then(|file| {
            let plan = file.groups[0].plan(&targets(), 1, Duration::ZERO, Duration::ZERO);
            plan.map_err(|why| vec![why])
        });
        let why = planned.unwrap_err().join("\n");
        assert!(why.contains(word), "{set}: {why}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (from, to, word) in [
        ("question = \"Does it?\"", "", "question"),
        ("failure = \"It does not.\"", "failure = \" \"", "failure"),
        ("time = \"2s\"", "time = \"0s\"", "no time"),
        ("time = \"2s\"", "time = \"soon\"", "soon"),
        ("run = \"steady\"", "run = \"swift\"", "slowloris"),
        (
            "run = \"steady\"",
            "run = \"steady\"\nkill = [\"idle\"]",
            "means nothing",
        ),
        (
            "run = \"steady\"",
            "run = \"steady\"\ntarget = \"tcp\"",
            "does not go",
        ),
        (
            "run = \"steady\"",
            "run = \"steady\"\ntarget = \"relay 0\"",
            "relay 0",
        ),
        ("run = \"steady\"", "run = \"steady\"\nspeed = 3", "speed"),
        (
            "phases = [\"a\", \"b\"]",
            "phases = [\"b\", \"a\"]",
            "follow each other",
        ),
        (
            "phases = [\"a\", \"b\"]",
            "phases = []",
            "follow each other",
        ),
        ("name = \"two\"", "name = \"one\"", "twice"),
        ("name = \"two\"", "name = \"t/o\"", "no name"),
        ("one/b: response", "three/b: response", "three"),
        ("one/b: response", "one/c: response", "'c'"),
        ("one/b: response", "one: response", "GROUP/PHASE"),
        ("errors == 0", "errors = 0", "operator"),
        ("end = \"fin\"", "end = \"soft\"", "rst"),
        ("[[phase]]", "[[phase", "x:"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let why = wrong(&SMALL.replacen(from, to, 1));
        assert!(why.contains(word), "{from} -> {to}: {why}");
    }
}

#[test]
fn a_missing_target_is_named_with_its_flag() {
    let scenario = ScenarioFile::read("x", SMALL, &[]).unwrap();
    let none = Targets::default();
    for (group, flag) in scenario.groups.iter().zip(["--relay", "--tcp"]) {
        let why = group
            .plan(&none, 1, Duration::ZERO, Duration::ZERO)
            .unwrap_err();
        assert!(why.contains(flag), "{why}");
    }
}

/// The generator of the curve.
const DMSG: &str =
    "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:7101";

#[test]
fn groups_load_the_relays_of_their_dialect() {
    let text = SMALL.replace(
        "run = \"steady\"",
        "run = \"steady\"\ndialect = \"dmsg\"\nping_after = \"20ms\"\npatience = \"2s\"",
    );
    let scenario = ScenarioFile::read("x", &text, &[]).unwrap();
    assert!(scenario.needs_dmsg());
    let plan = |targets: &Targets| {
        scenario.groups[0].plan(targets, 1, Duration::ZERO, Duration::from_secs(1))
    };
    let why = plan(&targets()).unwrap_err();
    assert!(why.contains("target 1 of the dmsg dialect"), "{why}");
    let mut both = targets();
    both.relays.push(DMSG.parse().unwrap());
    let plan = plan(&both).unwrap();
    assert!(plan.is_dmsg());
    assert_eq!(plan.dmsg.ping_after, Duration::from_millis(20));
    assert_eq!(plan.dmsg.patience, Duration::from_secs(2));
    // Groups with plain connections have none.
    assert_eq!(scenario.groups[1].dialect, None);
}

#[test]
fn a_file_has_one_dialect_for_all_groups_that_say_nothing() {
    let sets = ["dialect=dmsg".to_owned()];
    let scenario = ScenarioFile::read("x", SMALL, &sets).unwrap();
    assert!(scenario.needs_dmsg());
    assert_eq!(scenario.groups[1].dialect, None);
    let sets = ["dialect=dmsg".to_owned(), "one.dialect=native".to_owned()];
    let scenario = ScenarioFile::read("x", SMALL, &sets).unwrap();
    assert!(!scenario.needs_dmsg());
    // Without a word the key of the relay decides.
    let scenario = ScenarioFile::read("x", SMALL, &[]).unwrap();
    let only = Targets {
        relays: vec![DMSG.parse().unwrap()],
        ..Targets::default()
    };
    let plan = scenario.groups[0].plan(&only, 1, Duration::ZERO, Duration::from_secs(1));
    assert!(plan.unwrap().is_dmsg());
    for (set, word) in [
        ("dialect=latin", "native, dmsg"),
        ("two.dialect=dmsg", "plain connections"),
        ("two.patience=1s", "plain connections"),
        ("one.to=nobody", "means nothing"),
    ] {
        let why = ScenarioFile::read("x", SMALL, &[set.to_owned()]).unwrap_err();
        assert!(why.join("").contains(word), "{set}: {why:?}");
    }
}

#[test]
fn scenarios_that_come_with_the_program_work_in_the_dmsg_dialect_or_say_why_not() {
    let host = Host::look();
    let relay = DMSG.parse().unwrap();
    let targets = Targets {
        relays: vec![relay; 2],
        ..targets()
    };
    let mut refused = Vec::new();
    for (name, text) in BUILT_IN {
        let sets = ["dialect=dmsg".to_owned()];
        let scenario = ScenarioFile::read(name, text, &sets).unwrap();
        let time = Duration::from_secs(10);
        let plans = scenario.groups.iter().map(|group| {
            let plan = group.plan(&targets, 1, Duration::ZERO, time).unwrap();
            plan.check(&host)
        });
        for problem in plans.filter_map(Result::err) {
            let text = problem.to_string();
            assert!(text.contains("dmsg dialect"), "{name}: {text}");
            refused.push(name);
        }
    }
    refused.dedup();
    assert_eq!(refused, ["evict", "mesh-forward", "setup-flood"]);
}
