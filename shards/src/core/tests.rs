//! Tests of the shard core over in-memory wires.

mod admission;
mod dials;
mod dmsg;
mod forward;
mod harness;
mod lookup;
mod mesh;
mod own;
mod queues;
mod raw_link;
mod reapers;
mod simulated;

use std::time::Duration;

use proptest::prelude::*;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::peer::{PeerEvent, SessionError};
use ringway_proto::reason::Reason;

use self::harness::Harness;
use super::RecvEnd;

fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect()
}

fn refused_with(harness: &mut Harness, wire: usize) -> Option<u16> {
    harness
        .take_events(wire)
        .into_iter()
        .find_map(|event| match event {
            PeerEvent::OpenRefused { reason_code, .. } => Some(reason_code),
            _ => None,
        })
}

/// Two peers, on the shards given, with one bridge between them.
fn pair(shards: u16, first: usize, second: usize) -> (Harness, usize, usize) {
    let mut harness = Harness::new(shards);
    let a = harness.connect(1, first);
    let b = harness.connect(2, second);
    for wire in [a, b] {
        let events = harness.take_events(wire);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::Ready { .. })),
            "{events:?}"
        );
    }
    (harness, a, b)
}

#[test]
fn bytes_cross_one_shard_and_two() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        let bytes = pattern(1_000_000);
        assert_eq!(harness.transfer((a, from), (b, to), &bytes), bytes);
        assert_eq!(harness.transfer((b, to), (a, from), &bytes), bytes);
        harness.assert_clean();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_split_of_the_input_gives_the_same_bytes(
        piece_max in 1_usize..40,
        count in 1_usize..5_000,
        is_remote: bool,
    ) {
        let shards = if is_remote { 2 } else { 1 };
        let mut harness = Harness::new(shards);
        harness.piece_max = piece_max;
        let a = harness.connect(1, 0);
        let b = harness.connect(2, usize::from(is_remote));
        let (from, to) = harness.bridge(a, b, 2);
        let bytes = pattern(count);
        prop_assert_eq!(&harness.transfer((a, from), (b, to), &bytes), &bytes);
        prop_assert_eq!(&harness.transfer((b, to), (a, from), &bytes), &bytes);
        harness.assert_clean();
    }
}

#[test]
fn simultaneous_close_ends_bridge_once() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        harness.session(a).finish(from).unwrap();
        harness.session(b).finish(to).unwrap();
        harness.run();
        for core in &harness.cores {
            assert_eq!(core.audit().streams, 0);
        }
        for wire in [a, b] {
            let events = harness.take_events(wire);
            assert!(
                events
                    .iter()
                    .any(|event| matches!(event, PeerEvent::Finished { .. })),
                "{events:?}"
            );
        }
        harness.assert_clean();
    }
}

#[test]
fn half_close_lets_the_other_direction_finish() {
    let (mut harness, a, b) = pair(2, 0, 1);
    let (from, to) = harness.bridge(a, b, 2);
    harness.session(a).finish(from).unwrap();
    harness.run();
    let bytes = pattern(400_000);
    assert_eq!(harness.transfer((b, to), (a, from), &bytes), bytes);
    harness.session(b).finish(to).unwrap();
    harness.run();
    assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
    harness.assert_clean();
}

#[test]
fn refusals_name_their_reason() {
    let (mut harness, a, _) = pair(2, 0, 1);
    harness.open(a, 99, 80);
    harness.run();
    assert_eq!(
        refused_with(&mut harness, a),
        Some(Reason::UnknownDestination.code())
    );
    harness.open(a, 200, 80);
    harness.run();
    assert_eq!(
        refused_with(&mut harness, a),
        Some(Reason::NoListener.code())
    );
    harness.assert_clean();
}

#[test]
fn open_without_an_answer_ends_after_its_timeout() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        harness.open(a, 2, 80);
        harness.run();
        harness.pass(Duration::from_secs(6));
        assert_eq!(
            refused_with(&mut harness, a),
            Some(Reason::DialTimeout.code())
        );
        let events = harness.take_events(b);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::Reset { .. })),
            "{events:?}"
        );
        assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
        harness.assert_clean();
    }
}

#[test]
fn death_of_a_session_resets_its_bridges_and_refuses_its_opens() {
    for (shards, second) in [(1, 0), (2, 1)] {
        for end in [RecvEnd::Eof, RecvEnd::Error(104)] {
            let (mut harness, a, b) = pair(shards, 0, second);
            let (from, _) = harness.bridge(a, b, 2);
            let pending = harness.open(a, 2, 81);
            harness.run();
            harness.end(b, end);
            let events = harness.take_events(a);
            assert!(
                events
                    .iter()
                    .any(|event| matches!(event, PeerEvent::Reset { stream } if *stream == from)),
                "{events:?}"
            );
            assert!(events.iter().any(|event| matches!(
                event,
                PeerEvent::OpenRefused { stream, reason_code: 101 } if *stream == pending
            )));
            assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
            harness.assert_clean();
        }
    }
}

#[test]
fn newest_session_wins_on_one_shard_and_on_two() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let mut harness = Harness::new(shards);
        let old = harness.connect(1, 0);
        let new = harness.connect(1, second);
        let events = harness.take_events(old);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::GoAway { code: 202 })),
            "{events:?}"
        );
        let caller = harness.connect(2, 0);
        harness.bridge(caller, new, 1);
        let replaced: u64 = harness
            .cores
            .iter()
            .map(|core| core.stats().sessions_closed.of(Reason::Replaced))
            .sum();
        assert_eq!(replaced, 1);
        harness.assert_clean();
    }
}

#[test]
fn connection_that_was_accepted_before_does_not_replace_the_one_behind_it() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let mut harness = Harness::new(shards);
        // Its handshake comes to its end only when the peer has another session.
        let old = harness.connect_raw(0);
        harness.pass(Duration::from_millis(1));
        let new = harness.connect(1, second);
        harness.pass(Duration::from_millis(1));
        harness.shake_hands(1, old);
        let events = harness.take_events(old);
        let is_told = |event: &PeerEvent| {
            let PeerEvent::Closed { error } = event else {
                return false;
            };
            *error
                == SessionError::PeerRefused {
                    reason: Reason::Replaced,
                    retry_after_ms: 0,
                }
        };
        assert!(events.iter().any(is_told), "{events:?}");
        let events = harness.take_events(new);
        let is_ready = |event: &PeerEvent| matches!(event, PeerEvent::Ready { .. });
        assert!(events.iter().all(is_ready), "{events:?}");
        let caller = harness.connect(2, 0);
        harness.bridge(caller, new, 1);
        let stats = harness.cores[0].stats();
        assert_eq!(stats.handshakes_failed.of(Reason::Replaced), 1);
        for core in &harness.cores {
            assert_eq!(core.stats().sessions_closed.of(Reason::Replaced), 0);
        }
        harness.end(old, RecvEnd::Eof);
        // With the newer one gone there is nobody to yield to.
        let late = harness.connect_raw(0);
        harness.pass(Duration::from_millis(1));
        let newest = harness.connect(1, second);
        harness.end(newest, RecvEnd::Eof);
        harness.shake_hands(1, late);
        harness.bridge(caller, late, 1);
        harness.assert_clean();
    }
}

#[test]
fn silent_handshake_ends_after_five_seconds() {
    let mut harness = Harness::new(1);
    let wire = harness.connect_raw(0);
    harness.pass(Duration::from_secs(4));
    assert!(!harness.wires[wire].is_closed);
    harness.pass(Duration::from_secs(2));
    assert!(harness.wires[wire].is_closed);
    assert_eq!(
        harness.cores[0]
            .stats()
            .handshakes_failed
            .of(Reason::HandshakeTimeout),
        1
    );
    harness.assert_clean();
}

#[test]
fn bad_handshakes_end_at_once() {
    for bytes in [
        vec![0xff; 64],
        vec![0, 0],
        vec![4, 1],
        [vec![0, 60], vec![7; 60]].concat(),
    ] {
        let mut harness = Harness::new(1);
        let wire = harness.connect_raw(0);
        harness.inject(wire, &bytes);
        harness.run();
        assert!(harness.wires[wire].is_closed, "{bytes:?}");
        assert_eq!(
            harness.cores[0]
                .stats()
                .handshakes_failed
                .of(Reason::BadHandshake),
            1
        );
        harness.assert_clean();
    }
}

#[test]
fn violations_end_only_the_offending_session() {
    let frame = |header: Header| header.encode().to_vec();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("version", vec![1; 12]),
        ("never opened", frame(Header::data(9, Flags::NONE, 0))),
        ("even id", frame(Header::window_update(8, Flags::SYN, 0))),
        ("stream zero", frame(Header::data(0, Flags::NONE, 0))),
        (
            "same id twice",
            [
                Header::window_update(9, Flags::SYN, 0),
                Header::window_update(9, Flags::SYN, 0),
            ]
            .map(frame)
            .concat(),
        ),
        ("over window", {
            let syn = frame(Header::window_update(9, Flags::SYN, 0));
            [syn, frame(Header::data(9, Flags::NONE, WINDOW_INITIAL + 1))].concat()
        }),
        ("bad object", {
            let syn = frame(Header::window_update(9, Flags::SYN, 0));
            let mut object = vec![0, 100];
            object.resize(102, 7);
            [syn, frame(Header::data(9, Flags::NONE, 102)), object].concat()
        }),
        ("oversized object", {
            let syn = frame(Header::window_update(9, Flags::SYN, 0));
            [
                syn,
                frame(Header::data(9, Flags::NONE, 2)),
                vec![0xff, 0xff],
            ]
            .concat()
        }),
    ];
    for (name, bytes) in cases {
        let (mut harness, a, b) = pair(2, 0, 0);
        let bad = harness.connect(3, 0);
        let (from, to) = harness.bridge(a, b, 2);
        harness.inject(bad, &bytes);
        harness.run();
        let events = harness.take_events(bad);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::GoAway { .. })),
            "{name}: {events:?}"
        );
        assert_eq!(harness.cores[0].stats().sessions_closed.sum(), 1, "{name}");
        let bytes = pattern(100_000);
        assert_eq!(
            harness.transfer((a, from), (b, to), &bytes),
            bytes,
            "{name}"
        );
        harness.pass(Duration::from_secs(2));
        assert!(harness.wires[bad].is_closed, "{name}");
        harness.assert_clean();
    }
}

#[test]
fn frames_for_a_stream_that_is_gone_are_ignored() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (from, _) = harness.bridge(a, b, 2);
    harness.session(a).reset(from).unwrap();
    harness.run();
    let late = [
        Header::data(from.as_u32(), Flags::NONE, 3)
            .encode()
            .to_vec(),
        b"abc".to_vec(),
        Header::window_update(from.as_u32(), Flags::FIN, 5)
            .encode()
            .to_vec(),
        Header::window_update(from.as_u32(), Flags::RST, 0)
            .encode()
            .to_vec(),
    ]
    .concat();
    harness.inject(a, &late);
    harness.run();
    assert_eq!(harness.cores[0].stats().sessions_current, 2);
    harness.assert_clean();
}

#[test]
fn keystroke_does_not_wait_behind_a_bulk_stream() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (bulk, _) = harness.bridge(a, b, 2);
    let (key, key_there) = harness.bridge(a, b, 2);
    harness.wires[b].is_reading = false;
    harness.session(a).write(bulk, &pattern(250_000)).unwrap();
    harness.run();
    harness.session(a).write(key, b"k").unwrap();
    harness.run();
    // The first send is in flight; of what waits, the keystroke has to leave in the next one.
    harness.wires[b].is_reading = true;
    harness.deliver(b);
    let shard = &mut harness.cores[0];
    shard.flush();
    let Some(super::Action::Send { slot, batch }) = shard.poll_action() else {
        panic!("a second send")
    };
    let mut bytes = Vec::new();
    batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
    let header = Header::data(key_there.as_u32(), Flags::NONE, 1).encode();
    let at = bytes.windows(12).position(|window| window == header);
    assert!(
        at.is_some_and(|at| at < 150_000),
        "keystroke at {at:?} of {}",
        bytes.len()
    );
    harness.cores[0].sent(slot, batch, Err(104), harness.now);
    harness.run();
    harness.assert_clean();
}

#[test]
fn reader_that_never_reads_is_reset_with_208_and_others_do_not_notice() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let c = harness.connect(3, 0);
    let (from, to) = harness.bridge(a, b, 2);
    let (other_from, other_to) = harness.bridge(a, c, 3);
    // The reader grants more than the relay is ready to hold, and then does not read.
    let grant = Header::window_update(to.as_u32(), Flags::NONE, 1 << 29).encode();
    harness.inject(b, &grant);
    harness.run();
    harness.wires[b].is_reading = false;
    let payload = pattern(65_536);
    let header = Header::data(from.as_u32(), Flags::NONE, 65_536).encode();
    for _ in 0..600 {
        harness.inject(a, &[&header[..], &payload].concat());
    }
    harness.run();
    assert_eq!(
        harness.cores[0]
            .stats()
            .streams_reset
            .of(Reason::SlowConsumer),
        2,
        "both legs"
    );
    assert!(
        harness.cores[0].audit().queued_bytes < 1_000_000,
        "{:?}",
        harness.cores[0].audit()
    );
    let events = harness.take_events(a);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, PeerEvent::Reset { stream } if *stream == from)),
        "{events:?}"
    );
    let bytes = pattern(300_000);
    assert_eq!(
        harness.transfer((a, other_from), (c, other_to), &bytes),
        bytes
    );
    // And the socket that takes nothing for 30 s goes as well.
    harness.pass(Duration::from_secs(70));
    assert_eq!(
        harness.cores[0]
            .stats()
            .sessions_closed
            .of(Reason::SlowConsumer),
        1
    );
    harness.assert_clean();
}

#[test]
fn idle_bridge_and_silent_peer_are_reaped() {
    let (mut harness, a, b) = pair(2, 0, 1);
    harness.bridge(a, b, 2);
    harness.pass(Duration::from_secs(310));
    assert!(harness.cores.iter().all(|core| core.audit().streams == 0));
    assert_eq!(
        harness
            .cores
            .iter()
            .map(|core| core.stats().sessions_current)
            .sum::<u64>(),
        2
    );
    // A peer that answers nothing, not even pings.
    harness.wires[a].session = None;
    harness.pass(Duration::from_secs(130));
    let idle: u64 = harness
        .cores
        .iter()
        .map(|core| core.stats().sessions_closed.of(Reason::Idle))
        .sum();
    assert_eq!(idle, 1);
    harness.assert_clean();
}

#[test]
fn active_bridge_is_not_idle_even_if_only_one_side_talks() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        for _ in 0..8 {
            harness.pass(Duration::from_secs(100));
            assert_eq!(
                harness.transfer((a, from), (b, to), b"still here"),
                b"still here"
            );
        }
        harness.assert_clean();
    }
}

#[test]
fn drain_lets_streams_finish_and_refuses_new_ones() {
    let (mut harness, a, b) = pair(2, 0, 1);
    let c = harness.connect(3, 0);
    let (from, to) = harness.bridge(a, b, 2);
    for shard in 0..2 {
        let now = harness.now;
        harness.cores[shard].drain(now);
    }
    harness.run();
    let events = harness.take_events(c);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, PeerEvent::GoAway { code: 210 })),
        "{events:?}"
    );
    let bytes = pattern(50_000);
    assert_eq!(harness.transfer((a, from), (b, to), &bytes), bytes);
    harness.session(a).finish(from).unwrap();
    harness.session(b).finish(to).unwrap();
    harness.run();
    harness.pass(Duration::from_secs(2));
    for core in &harness.cores {
        assert!(core.is_drained(), "{:?}", core.audit());
        assert!(core.audit().is_zero(), "{:?}", core.audit());
    }
}

#[test]
fn peer_can_dial_itself() {
    let mut harness = Harness::new(1);
    let a = harness.connect(1, 0);
    let opened = harness.open(a, 1, 80);
    harness.run();
    let accepted = harness.accept(a);
    harness.run();
    let bytes = pattern(200_000);
    assert_eq!(harness.transfer((a, opened), (a, accepted), &bytes), bytes);
    harness.end(a, RecvEnd::Eof);
    harness.assert_clean();
}
