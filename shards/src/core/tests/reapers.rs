//! What ends by itself, and what its end gives back.

use std::time::Duration;

use ringway_proto::peer::PeerEvent;
use ringway_proto::reason::Reason;

use super::harness::Harness;
use super::pair;

fn resets(harness: &Harness, reason: Reason) -> u64 {
    let of = |core: &super::harness::Core| core.stats().streams_reset.of(reason);
    harness.cores.iter().map(of).sum()
}

#[test]
fn silent_half_closed_bridge_ends_before_a_whole_one() {
    for (shards, second) in [(1, 0), (2, 1)] {
        for is_opener in [true, false] {
            let (mut harness, a, b) = pair(shards, 0, second);
            let (from, to) = harness.bridge(a, b, 2);
            let (wire, stream) = if is_opener { (a, from) } else { (b, to) };
            harness.session(wire).finish(stream).unwrap();
            harness.run();
            harness.pass(Duration::from_secs(55));
            assert_eq!(resets(&harness, Reason::Idle), 0);
            harness.pass(Duration::from_secs(10));
            assert!(resets(&harness, Reason::Idle) > 0);
            assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
            for (wire, stream) in [(a, from), (b, to)] {
                let events = harness.take_events(wire);
                let is_told = |event: &PeerEvent| matches!(event, PeerEvent::Reset { stream: s } if *s == stream);
                assert!(events.iter().any(is_told), "{events:?}");
            }
            harness.assert_clean();
        }
    }
}

#[test]
fn half_closed_bridge_lives_as_long_as_its_other_direction_moves() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        harness.session(a).finish(from).unwrap();
        harness.run();
        for _ in 0..10 {
            harness.pass(Duration::from_secs(50));
            assert_eq!(harness.transfer((b, to), (a, from), b"more"), b"more");
        }
        harness.session(b).finish(to).unwrap();
        harness.run();
        assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
        assert_eq!(resets(&harness, Reason::Idle), 0);
        harness.assert_clean();
    }
}

#[test]
fn what_has_ended_leaves_no_timer() {
    let (mut harness, a, b) = pair(2, 0, 1);
    let before: Vec<u64> = harness
        .cores
        .iter()
        .map(|core| core.audit().timers)
        .collect();
    for _ in 0..200 {
        let opened = harness.open(a, 77, 80);
        harness.run();
        let (from, to) = harness.bridge(a, b, 2);
        harness.session(a).finish(from).unwrap();
        harness.session(b).finish(to).unwrap();
        harness.run();
        assert_ne!(opened, from);
    }
    let after: Vec<u64> = harness
        .cores
        .iter()
        .map(|core| core.audit().timers)
        .collect();
    assert_eq!(before, after);
    for _ in 0..20 {
        let wire = harness.connect_raw(0);
        harness.end(wire, crate::core::RecvEnd::Error(104));
    }
    assert_eq!(harness.cores[0].audit().timers, after[0]);
    harness.assert_clean();
}

#[test]
fn silent_peer_goes_after_its_pings_whatever_else_sets_its_timer() {
    let mut harness = Harness::with(1, |config| {
        config.timeouts.keepalive = Duration::from_secs(2);
        config.timeouts.send_stall = Duration::from_secs(1);
    });
    let wire = harness.connect(1, 0);
    harness.wires[wire].session = None;
    harness.pass(Duration::from_millis(7_500));
    assert!(
        !harness.wires[wire].is_closed,
        "it still has a ping to answer"
    );
    harness.pass(Duration::from_millis(2_500));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.sessions_closed.of(Reason::Idle), 1);
    harness.assert_clean();
}
