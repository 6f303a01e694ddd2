//! Who gets in when there is not room for all.

use std::time::Duration;

use ringway_proto::handshake::{Initiator, Role};
use ringway_proto::key::SecretKey;
use ringway_proto::peer::PeerEvent;
use ringway_proto::reason::Reason;

use super::harness::{Harness, secret};
use crate::core::{Action, Job, RecvEnd};

fn failed(harness: &Harness, reason: Reason) -> u64 {
    harness.cores[0].stats().handshakes_failed.of(reason)
}

fn message_1(byte: u8) -> Vec<u8> {
    let (relay, secret): (SecretKey, SecretKey) = (secret(200), secret(byte));
    let random = [byte; 32];
    let begun = Initiator::new(&secret, &relay.public(), Role::Peer, &[], random);
    begun.unwrap().1
}

#[test]
fn sockets_that_never_finish_do_not_keep_others_out() {
    let mut harness = Harness::with(1, |config| config.admission.handshakes_max = 4);
    let silent: Vec<usize> = (0..4).map(|_| harness.connect_raw(0)).collect();
    for byte in 1..=3 {
        let honest = harness.connect(byte, 0);
        let events = harness.take_events(honest);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::Ready { .. })),
            "{events:?}"
        );
    }
    // Only the first newcomer found no place; the oldest made it one.
    assert!(harness.wires[silent[0]].is_closed);
    assert!(
        silent[1..]
            .iter()
            .all(|wire| !harness.wires[*wire].is_closed)
    );
    assert_eq!(harness.cores[0].stats().handshakes_shed, 1);
    assert_eq!(failed(&harness, Reason::TooManyHandshakes), 1);
    harness.pass(Duration::from_secs(6));
    assert_eq!(harness.cores[0].audit().handshakes, 0);
    harness.assert_clean();
}

#[test]
fn handshake_that_waits_longest_for_its_peer_goes_first() {
    let mut harness = Harness::with(1, |config| config.admission.handshakes_max = 3);
    let first = harness.connect_raw(0);
    let second = harness.connect_raw(0);
    let third = harness.connect_raw(0);
    // The first has sent its message and got an answer: it has waited least.
    harness.inject(first, &message_1(1));
    harness.run();
    for (gone, there) in [(second, third), (third, first)] {
        harness.connect_raw(0);
        harness.run();
        assert!(harness.wires[gone].is_closed);
        assert!(!harness.wires[there].is_closed);
    }
    harness.assert_clean();
}

#[test]
fn one_source_cannot_take_all_places() {
    let mut harness = Harness::with(1, |config| config.admission.handshakes_source_max = 3);
    for _ in 0..3 {
        harness.connect_from(0, [192, 0, 2, 9]);
    }
    let refused = harness.connect_from(0, [192, 0, 2, 9]);
    let other = harness.connect_from(0, [192, 0, 2, 10]);
    harness.run();
    assert!(harness.wires[refused].is_closed);
    assert!(!harness.wires[other].is_closed);
    assert_eq!(failed(&harness, Reason::TooManyHandshakes), 1);
    assert_eq!(harness.cores[0].stats().handshakes_shed, 0);
    assert_eq!(harness.cores[0].audit().sources, 2);
    harness.pass(Duration::from_secs(6));
    assert_eq!(harness.cores[0].audit().sources, 0);
    let again = harness.connect_from(0, [192, 0, 2, 9]);
    harness.run();
    assert!(!harness.wires[again].is_closed);
    harness.assert_clean();
}

#[test]
fn accept_pauses_before_the_table_is_full() {
    let mut harness = Harness::with(1, |config| config.admission.sockets_max = 5);
    let wires: Vec<usize> = (0..5).map(|_| harness.connect_raw(0)).collect();
    harness.run();
    assert!(!harness.is_accepting[0]);
    harness.end(wires[0], RecvEnd::Eof);
    assert!(harness.is_accepting[0]);
    harness.assert_clean();
}

#[test]
fn accept_pauses_while_the_executor_has_its_fill() {
    let mut harness = Harness::with(1, |config| config.admission.handshakes_max = 4);
    for byte in 1..=4 {
        let wire = harness.connect_raw(0);
        harness.inject(wire, &message_1(byte));
    }
    harness.connect_raw(0);
    // Nobody waits for a peer but the newcomer: none is shed for another.
    assert_eq!(harness.cores[0].stats().handshakes_shed, 0);
    let mut is_paused = false;
    let mut jobs = Vec::new();
    while let Some(action) = harness.cores[0].poll_action() {
        match action {
            Action::Compute(job) => jobs.push(job),
            Action::PauseAccept => is_paused = true,
            _ => {}
        }
    }
    assert_eq!((is_paused, jobs.len()), (true, 4));
    harness.compute(0, jobs);
    harness.run();
    assert!(harness.is_accepting[0]);
    harness.assert_clean();
}

/// Takes what the core wants computed; all else it wants is forgotten.
fn jobs(harness: &mut Harness) -> Vec<Job> {
    let actions = std::iter::from_fn(|| harness.cores[0].poll_action());
    let job = |action| match action {
        Action::Compute(job) => Some(job),
        _ => None,
    };
    actions.filter_map(job).collect()
}

#[test]
fn result_for_a_peer_that_left_before_a_trim_reaches_nobody() {
    let mut harness = Harness::new(1);
    let first = harness.connect_raw(0);
    harness.inject(first, &message_1(1));
    let late = jobs(&mut harness);
    harness.end(first, RecvEnd::Eof);
    harness.cores[0].trim();
    harness.use_slots_again();
    let second = harness.connect_raw(0);
    harness.inject(second, &message_1(2));
    let own = jobs(&mut harness);
    assert_eq!((late.len(), own.len()), (1, 1));
    harness.compute(0, late);
    harness.run();
    assert!(
        harness.wires[second].raw.is_empty(),
        "an answer to somebody else"
    );
    harness.compute(0, own);
    harness.run();
    assert!(!harness.wires[second].raw.is_empty() && !harness.wires[second].is_closed);
    harness.pass(Duration::from_secs(6));
    harness.assert_clean();
}

#[test]
fn burst_that_the_executor_had_leaves_no_more_handshakes_than_there_may_be() {
    let mut harness = Harness::with(1, |config| config.admission.handshakes_max = 2);
    for byte in 1..=6 {
        // One turn: the kernel has accepted them all before it can be told to stop.
        let wire = harness.connect_raw(0);
        harness.inject(wire, &message_1(byte));
    }
    assert_eq!(harness.cores[0].audit().handshakes, 6);
    harness.run();
    assert_eq!(harness.cores[0].audit().handshakes, 2);
    assert_eq!(harness.cores[0].stats().handshakes_shed, 4);
    assert!(harness.is_accepting[0]);
    harness.assert_clean();
}

#[test]
fn accept_is_no_faster_than_its_rate() {
    let mut harness = Harness::with(1, |config| config.admission.accepts_per_s_max = 20);
    let mut accepted = 0;
    while harness.is_accepting[0] {
        harness.connect_raw(0);
        harness.run();
        accepted += 1;
        assert!(accepted <= 20, "a second's worth at once, no more");
    }
    assert_eq!(accepted, 20);
    // The core asks to be woken when it may go on.
    let due = harness.cores[0].next_deadline().unwrap();
    assert!(due <= harness.now + Duration::from_millis(60), "{due:?}");
    harness.now = due;
    harness.cores[0].handle_timeout(due);
    harness.run();
    assert!(harness.is_accepting[0]);
    harness.assert_clean();
}

#[test]
fn full_relay_says_so_and_when_to_come_back() {
    let mut harness = Harness::with(1, |config| config.admission.sessions_max = 1);
    let first = harness.connect(1, 0);
    let second = harness.connect(2, 0);
    let events = harness.take_events(second);
    let told = events.iter().find_map(|event| match event {
        PeerEvent::Refused {
            reason,
            retry_after_ms,
        } => Some((*reason, *retry_after_ms)),
        _ => None,
    });
    let (reason, retry_after_ms) = told.expect("a verdict");
    assert_eq!(reason, Reason::TooManySessions);
    assert!(
        (5_000..30_000).contains(&retry_after_ms),
        "{retry_after_ms}"
    );
    assert_eq!(failed(&harness, Reason::TooManySessions), 1);
    // The key that is here may come back at any time.
    let again = harness.connect(1, 0);
    harness.pass(Duration::from_secs(2));
    assert!(harness.wires[first].is_closed);
    assert!(!harness.wires[again].is_closed);
    assert_eq!(harness.cores[0].stats().sessions_current, 1);
    harness.assert_clean();
}

#[test]
fn bytes_ahead_of_verdicts_are_bounded_on_the_shard() {
    let mut harness = Harness::with(1, |config| config.admission.pipelined_bytes_max = 50_000);
    let mut wires = Vec::new();
    for byte in 1..=2 {
        let (relay, secret) = (secret(200), secret(byte));
        let begun = Initiator::new(&secret, &relay.public(), Role::Peer, &[], [byte; 32]);
        let (initiator, message) = begun.unwrap();
        let wire = harness.connect_raw(0);
        harness.inject(wire, &message);
        harness.run();
        let answer = std::mem::take(&mut harness.wires[wire].raw);
        wires.push((wire, initiator.message_2(&answer[2..]).unwrap().0));
    }
    for (wire, message) in &wires {
        harness.inject(*wire, &[message.as_slice(), &[0; 30_000]].concat());
    }
    assert_eq!(harness.cores[0].audit().pipelined_bytes, 30_000);
    assert_eq!(failed(&harness, Reason::TooManyHandshakes), 1);
    harness.run();
    assert!(harness.wires[wires[1].0].is_closed);
    assert_eq!(harness.cores[0].audit().pipelined_bytes, 0);
    harness.assert_clean();
}

/// A peer that has sent message 1 and holds its message 3 back.
fn half_way(harness: &mut Harness, byte: u8) -> (usize, Vec<u8>) {
    let (relay, secret) = (secret(200), secret(byte));
    let begun = Initiator::new(&secret, &relay.public(), Role::Peer, &[], [byte; 32]);
    let (initiator, message) = begun.unwrap();
    let wire = harness.connect_raw(0);
    harness.inject(wire, &message);
    harness.run();
    let answer = std::mem::take(&mut harness.wires[wire].raw);
    (wire, initiator.message_2(&answer[2..]).unwrap().0)
}

#[test]
fn peer_that_answers_late_gets_its_session_all_the_same() {
    let mut harness = Harness::new(1);
    for (byte, seconds) in [(1, 0), (2, 2), (3, 4)] {
        let (wire, message_3) = half_way(&mut harness, byte);
        harness.pass(Duration::from_secs(seconds));
        harness.inject(wire, &message_3);
        harness.run();
        assert_eq!(harness.cores[0].stats().sessions_current, u64::from(byte));
    }
    let (late, message_3) = half_way(&mut harness, 4);
    harness.pass(Duration::from_secs(6));
    assert!(harness.wires[late].is_closed);
    assert_eq!(failed(&harness, Reason::HandshakeTimeout), 1);
    drop(message_3);
    harness.assert_clean();
}

#[test]
fn peers_beyond_those_kept_at_hand_finish_as_well() {
    let count = 1_030;
    let mut harness = Harness::with(1, |config| {
        config.admission = crate::core::AdmissionLimits {
            handshakes_source_max: 2_000,
            ..crate::core::AdmissionLimits::for_sockets(2_000)
        };
    });
    // One key after the other: what counts is how many wait.
    for _ in 0..count - 1 {
        harness.connect_raw(0);
    }
    let (wire, message_3) = half_way(&mut harness, 1);
    harness.inject(wire, &message_3);
    harness.run();
    assert_eq!(harness.cores[0].stats().sessions_current, 1);
    harness.assert_clean();
}

#[test]
fn streams_of_all_sessions_together_are_bounded() {
    let mut harness = Harness::with(1, |config| config.admission.streams_max = 5);
    let a = harness.connect(1, 0);
    let b = harness.connect(2, 0);
    let bridges: Vec<_> = (0..2).map(|_| harness.bridge(a, b, 2)).collect();
    // One leg is left: the opener's; the destination's finds no place.
    harness.open(a, 2, 80);
    harness.run();
    assert_eq!(
        super::refused_with(&mut harness, a),
        Some(Reason::RelayCapacity.code())
    );
    assert_eq!(harness.cores[0].audit().streams, 4);
    harness.session(a).reset(bridges[0].0).unwrap();
    harness.run();
    harness.bridge(a, b, 2);
    harness.assert_clean();
}
