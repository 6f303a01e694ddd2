//! The generator against a real relay in the same process.
//!
//! Here: every scenario for a short time, the conservation of messages, verified bytes, and a relay
//! that owns nothing afterwards. Not here: figures; no test depends on the speed of the machine. Peers
//! that misbehave stand in `relay/hostile.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringway_loadgen::plan::{
    Arrivals, Host, Mode, Pace, Payload, Plan, RelayAddress, Scenario, Shape, Target,
};
use ringway_loadgen::report::{Verdict, document};
use ringway_loadgen::run::{News, Outcome, RunError, run};
use ringway_loadgen::sources::Sources;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::SecretKey;
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_shards::set::{ShardSet, ShardSetConfig};

#[path = "relay/scenarios.rs"]
mod scenarios;

#[path = "relay/hostile.rs"]
mod hostile;

#[path = "relay/dmsg.rs"]
mod dmsg;

#[path = "relay/rogue.rs"]
mod rogue;

/// Starts a relay on a free port of the loopback.
fn relay(shards_count: u16) -> (ShardSet, RelayAddress) {
    relay_with(shards_count, |_| {})
}

/// The same with other settings.
fn relay_with(
    shards_count: u16,
    change: impl FnOnce(&mut ShardSetConfig),
) -> (ShardSet, RelayAddress) {
    let secret = SecretKey::from_seed([7; 32]);
    let identity = Arc::new(RelayIdentity::new(&secret));
    let mut config = ShardSetConfig {
        shards_count,
        ..ShardSetConfig::new(identity).with_sockets(1_023)
    };
    change(&mut config);
    let set = ShardSet::launch(&config).expect("a relay on a free port");
    let address = RelayAddress {
        key: secret.public(),
        socket: set.address(),
    };
    (set, address)
}

fn constant(rate: u64) -> Pace {
    Pace {
        shape: Shape::Constant(rate),
        arrivals: Arrivals::Even,
    }
}

fn plan(scenario: Scenario, relay: RelayAddress) -> Plan {
    let mut plan = Plan {
        sessions: 8,
        streams: 3,
        concurrency: 16,
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(400),
        relay_pid: Some(std::process::id()),
        ..Plan::new(scenario, Target::Relay(relay))
    };
    plan.traffic.verify = true;
    plan
}

fn carry_out(plan: &Plan) -> Result<Outcome, RunError> {
    assert_eq!(plan.check(&Host::look()), Ok(()));
    run(plan, &AtomicBool::new(false), &mut |_| {})
}

/// Runs the plan; returns the outcome after the checks that hold for every complete run.
fn complete(plan: &Plan) -> Outcome {
    let outcome = carry_out(plan).expect("a run");
    let tally = &outcome.tally;
    let failures: Vec<_> = tally.failures.iter().collect();
    assert_eq!(failures, [], "{:?}", plan.scenario);
    assert!(outcome.is_complete);
    assert_eq!(tally.messages_sent, tally.messages_received);
    assert_eq!(tally.partial_messages, 0);
    assert!(
        document(plan, &outcome, &ringway_loadgen::machine::Machine::look()).contains("schema")
    );
    outcome
}

/// Checks that the relay owns nothing once everybody has gone.
fn ends_clean(set: ShardSet) {
    for _ in 0..500 {
        let snapshots = set.snapshots(Duration::from_secs(5));
        if snapshots.iter().all(|snapshot| snapshot.audit.is_zero()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for snapshot in set.shutdown() {
        assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
        assert!(snapshot.ring.is_conserved());
        assert_eq!(snapshot.ring.sockets_current, 0);
    }
}

#[test]
fn bulk_messages_arrive_unchanged_in_every_size_and_form() {
    let (set, relay) = relay(1);
    for payload in [Payload::Opaque, Payload::Sealed] {
        for message_bytes in [24, 64, 1_000, 4_096, 16_384, 65_000] {
            let mut plan = plan(Scenario::Steady, relay);
            plan.duration = Duration::from_millis(100);
            plan.traffic.payload = payload;
            plan.traffic.message_bytes = message_bytes;
            let outcome = complete(&plan);
            assert!(outcome.tally.messages > 0, "{payload:?} {message_bytes}");
        }
    }
    ends_clean(set);
}

#[test]
fn echoes_come_back_through_two_shards() {
    let (set, relay) = relay(2);
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
fn due_messages_are_all_accounted_for() {
    let (set, relay) = relay(1);
    for mode in [Mode::Bulk, Mode::PingPong] {
        let mut plan = plan(Scenario::Steady, relay);
        plan.traffic.mode = mode;
        plan.traffic.message_bytes = 200;
        plan.pace = Some(constant(2_000));
        let outcome = complete(&plan);
        let latencies = &outcome.tally.latencies;
        assert_eq!(latencies.response.count(), latencies.service.count());
        assert!(latencies.lag.count() > 0);
    }
    ends_clean(set);
}

#[test]
fn handshakes_and_opens_begin_by_the_clock() {
    let (set, relay) = relay(1);
    for scenario in [Scenario::Handshakes, Scenario::Opens] {
        for arrivals in [Arrivals::Even, Arrivals::Poisson] {
            let mut plan = plan(scenario, relay);
            plan.pace = Some(Pace {
                shape: "ramp:50..150".parse().unwrap(),
                arrivals,
            });
            let outcome = complete(&plan);
            let tally = &outcome.tally;
            // 150 a second at most, with room for chance; as fast as it goes would be thousands.
            let most = 60 + tally.measured.as_millis() / 5;
            let rounds = u128::from(tally.rounds);
            assert!(
                (1..=most).contains(&rounds),
                "{scenario:?} {arrivals:?}: {rounds}"
            );
            let latencies = &tally.latencies;
            assert_eq!(latencies.response.count(), latencies.service.count());
            assert!(latencies.lag.count() > 0);
        }
    }
    ends_clean(set);
}

#[test]
fn large_windows_are_granted_and_used() {
    let (set, relay) = relay(1);
    let mut plan = plan(Scenario::Steady, relay);
    plan.traffic.window_bytes = 4 * WINDOW_INITIAL;
    complete(&plan);
    ends_clean(set);
}

#[test]
fn sessions_and_streams_come_and_go_without_a_trace() {
    let (set, relay) = relay(2);
    for scenario in [Scenario::Handshakes, Scenario::Opens, Scenario::Idle] {
        let outcome = complete(&plan(scenario, relay));
        let has_rounds = outcome.tally.rounds > 0;
        assert_eq!(has_rounds, scenario != Scenario::Idle, "{scenario:?}");
        assert!(outcome.relay.is_some());
    }
    ends_clean(set);
}

#[test]
fn a_relay_with_another_key_is_named() {
    let (set, mut relay) = relay(1);
    relay.key = SecretKey::from_seed([8; 32]).public();
    let error = carry_out(&plan(Scenario::Steady, relay)).unwrap_err();
    let RunError::Setup { failures, .. } = error else {
        panic!("{error}");
    };
    assert!(failures.total() > 0);
    ends_clean(set);
}

#[test]
fn nobody_listening_is_named() {
    // Port 1 of an address that nothing here uses: a port that was free a moment ago may be another
    // test's relay by now.
    let relay = RelayAddress {
        key: SecretKey::from_seed([7; 32]).public(),
        socket: SocketAddr::from(([127, 7, 7, 7], 1)),
    };
    let error = carry_out(&plan(Scenario::Idle, relay)).unwrap_err();
    let RunError::Setup { failures, what } = error else {
        panic!("{error}");
    };
    assert!(what.contains("sessions"), "{what}");
    assert!(failures.iter().any(|(name, _)| name.starts_with("connect")));
}

#[test]
fn an_interrupt_gives_a_partial_result() {
    let (set, relay) = relay(1);
    let mut plan = plan(Scenario::Steady, relay);
    plan.duration = Duration::from_secs(3_600);
    let interrupt = AtomicBool::new(false);
    // Setting up may take longer than the first report on a busy machine.
    let outcome = run(&plan, &interrupt, &mut |news| {
        if let News::Progress(progress) = news {
            interrupt.store(progress.messages > 0, std::sync::atomic::Ordering::Release);
        }
    })
    .unwrap();
    assert!(!outcome.is_complete);
    assert_eq!(Verdict::of(&outcome), Verdict::Interrupted);
    assert_eq!(outcome.tally.messages_sent, outcome.tally.messages_received);
    ends_clean(set);
}
