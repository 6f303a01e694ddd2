//! The generator in the dmsg dialect against a relay that speaks it.
//!
//! Here: every scenario that can be in this dialect, for a short time. Not here: servers that misbehave
//! (`rogue`), figures; no test depends on the speed of the machine.

use ringway_loadgen::plan::{End, KillPhase, OpensTo, Storm};
use ringway_loadgen::scenarios::{ScenarioFile, Targets, play};
use ringway_proto::dmsg::handshake::Identity;
use ringway_proto::dmsg::key::SecretKey as DmsgSecret;
use ringway_shards::set::DmsgConfig;

use super::*;

/// Starts a relay that speaks both dialects; returns its address in the dmsg dialect, then the native one.
fn relay(shards_count: u16) -> (ShardSet, RelayAddress, RelayAddress) {
    relay_with(shards_count, |_| {})
}

/// The same with other settings.
fn relay_with(
    shards_count: u16,
    change: impl FnOnce(&mut ShardSetConfig),
) -> (ShardSet, RelayAddress, RelayAddress) {
    let identity = Arc::new(identity(7));
    let key = identity.public();
    let (set, native) = super::relay_with(shards_count, |config| {
        config.dmsg = Some(DmsgConfig::new(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            identity,
        ));
        change(config);
    });
    let socket = set.dmsg_address().expect("a relay of the dmsg dialect");
    (set, RelayAddress { key, socket }, native)
}

/// Returns the keys of a relay.
pub(super) fn identity(byte: u8) -> Identity {
    Identity::new(DmsgSecret::from_bytes([byte; 32]).expect("below the order of the curve"))
}

#[test]
fn sessions_and_streams_come_and_go_without_a_trace() {
    let (set, relay, _) = relay(2);
    for scenario in [Scenario::Handshakes, Scenario::Opens, Scenario::Idle] {
        for payload in [Payload::Sealed, Payload::Opaque] {
            let mut plan = plan(scenario, relay);
            plan.traffic.payload = payload;
            let outcome = complete(&plan);
            let has_rounds = outcome.tally.rounds > 0;
            assert_eq!(has_rounds, scenario != Scenario::Idle, "{scenario:?}");
            let text = document(&plan, &outcome, &ringway_loadgen::machine::Machine::look());
            assert!(text.contains("\"dialect\": \"dmsg\""), "{text}");
        }
    }
    ends_clean(set);
}

#[test]
fn first_bytes_may_be_held_back() {
    let (set, relay, _) = relay(1);
    let held = Duration::from_millis(20);
    for scenario in [Scenario::Handshakes, Scenario::Steady] {
        let mut plan = plan(scenario, relay);
        plan.dmsg.ping_after = held;
        let outcome = complete(&plan);
        if scenario == Scenario::Handshakes {
            let least = outcome.tally.latencies.service.summary().min_ns;
            assert!(u128::from(least) >= held.as_nanos(), "{least}");
        }
    }
    ends_clean(set);
}

#[test]
fn bulk_messages_arrive_unchanged_in_every_size_and_form() {
    let (set, relay, _) = relay(1);
    for (payload, sizes) in [
        (Payload::Sealed, &[24, 64, 1_000, 4_069, 4_070][..]),
        (Payload::Opaque, &[24, 64, 4_070, 16_384, 65_000]),
    ] {
        for message_bytes in sizes {
            let mut plan = plan(Scenario::Steady, relay);
            plan.duration = Duration::from_millis(100);
            plan.traffic.payload = payload;
            plan.traffic.message_bytes = *message_bytes;
            let outcome = complete(&plan);
            assert!(outcome.tally.messages > 0, "{payload:?} {message_bytes}");
        }
    }
    ends_clean(set);
}

#[test]
fn echoes_come_back_through_two_shards() {
    let (set, relay, _) = relay(2);
    for payload in [Payload::Opaque, Payload::Sealed] {
        let mut plan = plan(Scenario::Steady, relay);
        plan.sessions = 32;
        plan.placement.threads = 2;
        plan.traffic.mode = Mode::PingPong;
        plan.traffic.payload = payload;
        plan.traffic.message_bytes = 64;
        let outcome = complete(&plan);
        assert!(outcome.tally.rounds > 0);
        assert!(outcome.tally.messages_received.is_multiple_of(2));
    }
    ends_clean(set);
}

#[test]
fn handshakes_and_opens_begin_by_the_clock() {
    let (set, relay, _) = relay(1);
    for scenario in [Scenario::Handshakes, Scenario::Opens] {
        let mut plan = plan(scenario, relay);
        plan.pace = Some(constant(100));
        let outcome = complete(&plan);
        let latencies = &outcome.tally.latencies;
        assert!(latencies.response.count() > 0, "{scenario:?}");
        assert_eq!(latencies.response.count(), latencies.service.count());
        assert!(latencies.lag.count() > 0);
    }
    ends_clean(set);
}

#[test]
fn opens_to_nobody_are_refused_at_once_and_that_is_what_counts() {
    let (set, dmsg, native) = relay(2);
    for relay in [dmsg, native] {
        for payload in [Payload::Sealed, Payload::Opaque] {
            let mut plan = plan(Scenario::Opens, relay);
            plan.opens_to = OpensTo::Nobody;
            plan.traffic.payload = payload;
            plan.pace = Some(constant(200));
            let outcome = complete(&plan);
            let tally = &outcome.tally;
            assert!(tally.rounds > 0);
            // Those that ended behind the time that counts are in neither.
            assert!(tally.latencies.response.count() >= tally.rounds);
        }
    }
    ends_clean(set);
}

#[test]
fn connections_killed_in_each_phase_leave_nothing_behind() {
    let (set, relay, _) = relay(1);
    for phase in KillPhase::ALL {
        let mut plan = churn(relay, 40);
        plan.churn.phases = vec![phase];
        let outcome = complete(&plan);
        assert_eq!(outcome.tally.cycles[phase.place()], 40, "{phase:?}");
        let accepted = outcome.tally.streams_accepted;
        assert_eq!(accepted, outcome.tally.streams_reset);
        if phase.is_bridged() {
            assert_eq!(accepted, 40, "{phase:?}");
        } else if phase != KillPhase::Pipelined {
            assert_eq!(accepted, 0, "{phase:?}");
        }
    }
    ends_clean(set);
}

#[test]
fn rounds_of_all_phases_balance_the_books_whatever_the_end() {
    let (set, relay, _) = relay(2);
    for end in [End::Rst, End::Fin] {
        let mut plan = churn(relay, 161);
        plan.placement.threads = 2;
        plan.placement.sources = Sources::new(vec!["127.0.0.0/30".parse().unwrap()]);
        plan.churn.rounds = 2;
        plan.churn.end = end;
        let outcome = complete(&plan);
        assert_eq!(outcome.tally.rounds, 161);
        for round in &outcome.findings.churn.unwrap().rounds {
            assert_eq!(round.leftovers, Vec::<String>::new());
            // The standing sessions of two threads, and nothing else.
            assert_eq!(round.books.sockets.relay, [("ESTABLISHED", 8)].into());
        }
    }
    ends_clean(set);
}

fn churn(relay: RelayAddress, cycles: u64) -> Plan {
    let mut plan = plan(Scenario::Churn, relay);
    plan.concurrency = 8;
    plan.warmup = Duration::ZERO;
    // Other tests of this process have descriptors too.
    plan.relay_pid = None;
    plan.churn.cycles = Some(cycles);
    plan
}

#[test]
fn fast_pairs_go_on_while_others_stop_reading() {
    let (set, relay, _) = relay(2);
    let mut plan = plan(Scenario::SlowReader, relay);
    plan.streams = 1;
    plan.relay_pid = None;
    plan.slow.pairs = 2;
    plan.slow.windows = 3;
    let outcome = complete(&plan);
    let found = outcome.findings.slow_reader.unwrap();
    assert!(found.windows.iter().all(|window| window.bytes > 0));
    assert!(found.ratio > 0.0);
    ends_clean(set);
}

#[test]
fn connections_that_never_shake_hands_are_ended_by_the_relay() {
    let time = Duration::from_millis(500);
    let (set, relay, _) = relay_with(1, |config| config.timeouts.handshake = time);
    let mut plan = plan(Scenario::Slowloris, relay);
    plan.sessions = 9;
    plan.relay_pid = None;
    plan.duration = Duration::from_secs(60);
    let outcome = complete(&plan);
    let found = outcome.findings.slowloris.unwrap();
    assert_eq!((found.open_most, found.open_at_end), (9, 0));
    for (kind, lives) in found.kinds {
        assert_eq!((lives.connected, lives.life.count), (3, 3), "{kind}");
    }
    ends_clean(set);
}

#[test]
fn sessions_come_back_after_each_storm() {
    let (set, relay, _) = relay(2);
    let mut plan = Plan {
        sessions: 60,
        concurrency: 60,
        // Far more time after the second storm than a busy machine needs for 60 handshakes.
        duration: Duration::from_millis(5_900),
        ..plan(Scenario::Storm, relay)
    };
    plan.storm = Storm {
        spread: Duration::from_millis(50),
        every: Some(Duration::from_millis(3_000)),
    };
    let outcome = complete(&plan);
    assert_eq!(outcome.tally.rounds, 120);
    ends_clean(set);
}

#[test]
fn sessions_that_are_too_many_are_refused_by_name() {
    let (set, relay, _) = relay_with(1, |config| config.admission.sessions_max = 4);
    let error = carry_out(&plan(Scenario::Idle, relay)).unwrap_err();
    let RunError::Setup { failures, .. } = error else {
        panic!("{error}");
    };
    let refused = "session refused: 203 too_many_sessions";
    assert!(
        failures.iter().any(|(name, _)| name == refused),
        "{failures:?}"
    );
    ends_clean(set);
}

#[test]
fn a_relay_with_another_key_is_named() {
    let (set, mut relay, _) = relay(1);
    relay.key = identity(8).public();
    let error = carry_out(&plan(Scenario::Steady, relay)).unwrap_err();
    let RunError::Setup { failures, .. } = error else {
        panic!("{error}");
    };
    let named = failures
        .iter()
        .any(|(name, _)| name.starts_with("handshake, behind message 1"));
    assert!(named, "{failures:?}");
    ends_clean(set);
}

const BOTH: &str = r#"
question = "Do both dialects get along?"
failure = "One of them has errors."
warmup = "50ms"
lag_max = 1_000_000
asserts = [
    "errors == 0",
    "ours: messages_per_second > 0",
    "theirs: messages_per_second > 0",
    "nobody: rounds_per_second > 0",
]
[[phase]]
name = "only"
time = "400ms"
[[group]]
name = "ours"
run = "steady"
dialect = "native"
sessions = 4
verify = true
[[group]]
name = "theirs"
run = "steady"
dialect = "dmsg"
sessions = 4
verify = true
[[group]]
name = "nobody"
run = "opens"
dialect = "dmsg"
to = "nobody"
payload = "opaque"
sessions = 2
"#;

#[test]
fn groups_of_both_dialects_load_one_relay() {
    let (set, dmsg, native) = relay(2);
    let scenario = ScenarioFile::read("both", BOTH, &[]).expect("a scenario");
    let targets = Targets {
        relays: vec![native, dmsg],
        twin: Some(dmsg),
        ..Targets::default()
    };
    let never = AtomicBool::new(false);
    let played = play(&scenario, &targets, None, &never, &mut |_| {}).expect("it is carried out");
    assert_eq!(played.verdict(), Verdict::Good, "{:?}", played.asserts);
    let spoken = played.groups.iter().map(|group| group.plan.is_dmsg());
    assert_eq!(spoken.collect::<Vec<_>>(), [false, true, true]);
    ends_clean(set);
}
