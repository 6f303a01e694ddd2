//! Peers that misbehave, against a real relay: killed, slow, never finished. The relay owns nothing
//! afterwards, and a run that finds otherwise says so.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use ringway_loadgen::plan::{End, KillPhase};

use super::*;

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
fn connections_killed_in_each_phase_leave_nothing_behind() {
    let (set, relay) = relay(1);
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
        let has_session =
            phase.is_bridged() || matches!(phase, KillPhase::Idle | KillPhase::MidOpen);
        let handshakes = outcome.tally.latencies.service.count();
        assert_eq!(handshakes, if has_session { 40 } else { 0 }, "{phase:?}");
    }
    ends_clean(set);
}

#[test]
fn rounds_of_all_phases_balance_the_books_whatever_the_end() {
    let (set, relay) = relay(2);
    for end in [End::Rst, End::Fin] {
        let mut plan = churn(relay, 161);
        plan.placement.threads = 2;
        plan.placement.sources = Sources::new(vec!["127.0.0.0/30".parse().unwrap()]);
        plan.churn.rounds = 2;
        plan.churn.end = end;
        let outcome = complete(&plan);
        assert_eq!(outcome.tally.rounds, 161);
        assert!(outcome.tally.cycles.iter().all(|count| *count >= 20));
        let churn = outcome.findings.churn.unwrap();
        let cycles: Vec<u64> = churn.rounds.iter().map(|round| round.cycles).collect();
        assert_eq!(cycles, [81, 80]);
        for round in &churn.rounds {
            assert_eq!(round.leftovers, Vec::<String>::new());
            // The standing sessions of two threads, and nothing else.
            assert_eq!(round.books.sockets.relay, [("ESTABLISHED", 8)].into());
        }
        assert!(
            outcome
                .findings
                .books_after
                .unwrap()
                .sockets
                .relay
                .is_empty()
        );
    }
    ends_clean(set);
}

#[test]
fn cycles_by_the_clock_count_from_when_they_were_due() {
    let (set, relay) = relay(1);
    let mut plan = churn(relay, 0);
    plan.churn.cycles = None;
    plan.pace = Some(constant(200));
    plan.churn.phases = vec![KillPhase::Idle];
    let outcome = complete(&plan);
    let latencies = &outcome.tally.latencies;
    assert!(latencies.response.count() > 0);
    assert_eq!(latencies.response.count(), outcome.tally.rounds);
    assert!(latencies.lag.count() >= outcome.tally.rounds);
    ends_clean(set);
}

#[test]
fn a_relay_that_is_not_there_ends_a_churn_at_once() {
    let relay = RelayAddress {
        key: SecretKey::from_seed([7; 32]).public(),
        socket: SocketAddr::from(([127, 7, 7, 7], 1)),
    };
    let error = carry_out(&churn(relay, 1_000_000)).unwrap_err();
    let RunError::Setup { failures, .. } = error else {
        panic!("{error}");
    };
    assert!(failures.iter().any(|(name, _)| name.starts_with("connect")));
}

/// Runs `plan` and ends the relay at the first news that `is_time` says yes to.
fn outlive(set: ShardSet, plan: &Plan, is_time: impl Fn(&News<'_>) -> bool) -> Outcome {
    let mut set = Some(set);
    let outcome = run(plan, &AtomicBool::new(false), &mut |news| {
        if is_time(&news)
            && let Some(set) = set.take()
        {
            for snapshot in set.shutdown() {
                assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
            }
        }
    })
    .expect("a partial outcome");
    assert!(!outcome.is_complete);
    assert_eq!(Verdict::of(&outcome), Verdict::Failed);
    let names: Vec<_> = outcome
        .tally
        .failures
        .iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.iter().any(|name| name.starts_with("given up")),
        "{names:?}"
    );
    outcome
}

#[test]
fn a_relay_that_dies_between_rounds_gives_a_failed_result() {
    let (set, relay) = relay(1);
    let mut plan = churn(relay, 1_000_000);
    plan.churn.rounds = 25_000;
    let outcome = outlive(set, &plan, |news| matches!(news, News::Round(_)));
    assert!(outcome.tally.rounds < 1_000_000);
}

#[test]
fn a_relay_that_dies_in_the_middle_gives_a_failed_result() {
    let (set, relay) = relay(1);
    let mut plan = churn(relay, 0);
    plan.churn.cycles = None;
    plan.duration = Duration::from_secs(3_600);
    let outcome = outlive(set, &plan, |news| matches!(news, News::Progress(_)));
    assert!(outcome.tally.rounds > 0);
}

/// An admin listener whose relay owns one more session every time it is asked.
fn leaking_admin(is_over: &Arc<AtomicBool>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("loopback");
    let is_over = Arc::clone(is_over);
    let server = thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            if is_over.load(Ordering::Acquire) {
                return;
            }
            let mut stream = stream.expect("loopback");
            let mut asked = [0; 1_024];
            assert!(stream.read(&mut asked).expect("loopback") > 0);
            let body = format!(
                "{{\"consistency\":{{\"ok\":true,\"laws\":[]}},\"shards\":[{{\"audit\":{{\"sessions\":{count}}},\
                 \"sessions_closed\":{{}},\"streams_reset\":{{}}}}]}}"
            );
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .expect("loopback");
        }
    });
    (address, server)
}

#[test]
fn a_leak_is_named_and_fails_the_run() {
    let (set, relay) = relay(1);
    let is_over = Arc::new(AtomicBool::new(false));
    let (admin, server) = leaking_admin(&is_over);
    let mut plan = churn(relay, 8);
    plan.admin = Some(admin);
    let outcome = carry_out(&plan).unwrap();
    is_over.store(true, Ordering::Release);
    drop(std::net::TcpStream::connect(admin));
    server.join().unwrap();
    assert_eq!(Verdict::of(&outcome), Verdict::Failed);
    let names: Vec<_> = outcome
        .tally
        .failures
        .iter()
        .map(|(name, _)| name)
        .collect();
    for start in [
        "left over after round 1: audit sessions",
        "left over after the run: audit sessions",
    ] {
        assert!(
            names.iter().any(|name| name.starts_with(start)),
            "{names:?}"
        );
    }
    ends_clean(set);
}

#[test]
fn connections_that_never_shake_hands_are_ended_by_the_relay() {
    let (set, relay) = relay(1);
    let mut plan = plan(Scenario::Slowloris, relay);
    plan.sessions = 9;
    plan.relay_pid = None;
    plan.duration = Duration::from_secs(60);
    let outcome = complete(&plan);
    let found = outcome.findings.slowloris.unwrap();
    assert_eq!((found.open_most, found.open_at_end), (9, 0));
    assert_eq!(found.kinds.len(), 3);
    for (kind, lives) in found.kinds {
        assert_eq!((lives.connected, lives.life.count), (3, 3), "{kind}");
        assert_eq!(lives.ends.values().sum::<u64>(), 3, "{kind}");
    }
    ends_clean(set);
}

#[test]
fn connections_that_are_held_for_ever_fail_the_run() {
    // Accepts nothing and closes nothing: the kernel completes connections by itself.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = RelayAddress {
        key: SecretKey::from_seed([7; 32]).public(),
        socket: listener.local_addr().unwrap(),
    };
    let mut plan = plan(Scenario::Slowloris, relay);
    plan.sessions = 3;
    plan.relay_pid = None;
    plan.duration = Duration::from_millis(300);
    // Short enough that no relay had to end them.
    assert_eq!(Verdict::of(&carry_out(&plan).unwrap()), Verdict::Good);
    plan.duration = Duration::from_millis(7_050);
    let outcome = carry_out(&plan).unwrap();
    assert_eq!(outcome.findings.slowloris.as_ref().unwrap().open_at_end, 3);
    assert_eq!(Verdict::of(&outcome), Verdict::Failed);
}

#[test]
fn fast_pairs_go_on_while_others_stop_reading() {
    let (set, relay) = relay(2);
    let mut plan = plan(Scenario::SlowReader, relay);
    plan.streams = 1;
    plan.relay_pid = None;
    plan.slow.pairs = 2;
    plan.slow.windows = 3;
    let (sender, windows) = mpsc::channel();
    let outcome = run(&plan, &AtomicBool::new(false), &mut |news| {
        if let News::Window(number, window) = news {
            sender.send((number, window.is_slow)).unwrap();
        }
    })
    .unwrap();
    drop(sender);
    let failures: Vec<_> = outcome.tally.failures.iter().collect();
    assert_eq!(failures, []);
    let seen: Vec<_> = windows.iter().collect();
    assert_eq!(seen, [(1, false), (2, true), (3, false)]);
    let found = outcome.findings.slow_reader.unwrap();
    assert!(found.windows.iter().all(|window| window.bytes > 0));
    assert!(found.ratio > 0.0);
    ends_clean(set);
}
