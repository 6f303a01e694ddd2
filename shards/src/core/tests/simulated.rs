//! What the simulator found, each as a small case of its own.

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::limits::WINDOW_INITIAL;
use ringway_proto::peer::{PeerConfig, PeerEvent, PeerSession};
use ringway_proto::reason::Reason;

use super::harness::{Harness, secret};
use super::{pair, pattern};

fn has_ended(harness: &mut Harness, wire: usize, wanted: u32) -> bool {
    let events = harness.take_events(wire);
    events
        .iter()
        .any(|event| matches!(event, PeerEvent::GoAway { code } if *code == wanted))
}

#[test]
fn bytes_behind_message_3_are_counted_once() {
    let mut harness = Harness::new(1);
    let relay = secret(200).public();
    let config = PeerConfig::new(1_700_000_000_000_000_000);
    let identity = Arc::new(secret(1));
    let mut session = PeerSession::connect(identity, relay, config, [9; 32], harness.now).unwrap();
    let wire = harness.connect_raw(0);
    let mut out = Vec::new();
    session.transmit(&mut out, 1_000);
    harness.inject(wire, &out);
    harness.run();
    let message_2 = std::mem::take(&mut harness.wires[wire].raw);
    session.receive(&message_2, harness.now).unwrap();
    out.clear();
    session.transmit(&mut out, 1_000);
    out.extend_from_slice(&Header::ping(Flags::SYN, 1).encode());
    harness.inject(wire, &out);
    harness.run();
    let stats = harness.cores[0].stats();
    assert_eq!(stats.sessions_opened, 1);
    assert_eq!(stats.bytes_received, harness.handed_in);
    harness.assert_clean();
}

#[test]
fn data_on_stream_zero_never_reaches_another_session() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let c = harness.connect(3, 0);
    // The first stream of the shard is a victim's; the offender has streams of its own.
    harness.bridge(a, b, 2);
    harness.bridge(c, b, 2);
    let mut frame = Header::data(0, Flags::NONE, 6).encode().to_vec();
    frame.extend_from_slice(b"forged");
    harness.inject(c, &frame);
    harness.run();
    assert!(has_ended(&mut harness, c, 1));
    let events = harness.take_events(b);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, PeerEvent::Readable { .. })),
        "{events:?}"
    );
    harness.assert_clean();
}

#[test]
fn window_that_cannot_be_ends_only_the_session_that_grants_it() {
    for (shards, second) in [(1, 0), (2, 1)] {
        for delta in [u32::MAX, u32::MAX - WINDOW_INITIAL, 1 << 30] {
            // With the SYN of an open.
            let (mut harness, a, b) = pair(shards, 0, second);
            let syn = Header::window_update(9, Flags::SYN, delta).encode();
            harness.inject(a, &syn);
            harness.run();
            assert!(has_ended(&mut harness, a, 1), "{delta}");
            assert!(harness.session(b).error().is_none());
            harness.assert_clean();
            // With the ACK of a destination.
            let (mut harness, a, b) = pair(shards, 0, second);
            harness.open(a, 2, 80);
            harness.run();
            let ack = Header::window_update(2, Flags::ACK, delta).encode();
            harness.inject(b, &ack);
            harness.run();
            assert!(has_ended(&mut harness, b, 1), "{delta}");
            assert!(harness.session(a).error().is_none());
            harness.assert_clean();
            // On a bridge.
            let (mut harness, a, b) = pair(shards, 0, second);
            let (_, to) = harness.bridge(a, b, 2);
            let grant = Header::window_update(to.as_u32(), Flags::NONE, delta).encode();
            harness.inject(b, &grant);
            harness.run();
            assert!(has_ended(&mut harness, b, 1), "{delta}");
            assert!(harness.session(a).error().is_none());
            harness.assert_clean();
        }
    }
}

#[test]
fn drain_lets_the_last_bytes_of_the_last_stream_leave() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        harness.session(b).finish(to).unwrap();
        harness.run();
        for shard in 0..harness.cores.len() {
            let now = harness.now;
            harness.cores[shard].drain(now);
        }
        harness.run();
        // Data and FIN come in one turn: the stream is over before they have left.
        let bytes = pattern(30_000);
        assert_eq!(harness.session(a).write(from, &bytes), Ok(bytes.len()));
        harness.session(a).finish(from).unwrap();
        harness.run();
        let mut received = vec![0; bytes.len()];
        let mut count = 0;
        while let Ok(more @ 1..) = harness.session(b).read(to, &mut received[count..]) {
            count += more;
        }
        assert_eq!(received, bytes);
        harness.run();
        let events = harness.take_events(b);
        assert!(
            events
                .iter()
                .any(|event| matches!(event, PeerEvent::Finished { .. })),
            "{events:?}"
        );
        harness.pass(Duration::from_secs(2));
        assert!(harness.cores.iter().all(super::harness::Core::is_drained));
    }
}

#[test]
fn peer_that_asks_without_reading_is_cut_off() {
    let (mut harness, a, _) = pair(1, 0, 0);
    harness.wires[a].is_reading = false;
    for id in 0..200_000 {
        let syn = Header::window_update(2 * id + 1, Flags::SYN, 0).encode();
        harness.inject(a, &syn);
    }
    harness.run();
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
fn grants_of_many_streams_wait_as_one_frame_a_stream() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let streams: Vec<_> = (0..20).map(|_| harness.bridge(a, b, 2).1).collect();
    harness.wires[a].is_reading = false;
    for _ in 0..500 {
        for stream in &streams {
            let grant = Header::window_update(stream.as_u32(), Flags::NONE, 3).encode();
            harness.inject(b, &grant);
        }
    }
    harness.run();
    harness.wires[a].is_reading = true;
    let sent = harness.cores[0].stats().bytes_sent;
    harness.deliver(a);
    harness.run();
    // The frame that was in flight, and one update a stream.
    let frames = (harness.cores[0].stats().bytes_sent - sent) / 12;
    assert!(frames <= 2 * 20, "{frames} frames");
    harness.assert_clean();
}

#[test]
fn burst_of_opens_in_one_turn_is_not_taken_for_a_peer_that_does_not_read() {
    let (mut harness, a, b) = pair(1, 0, 0);
    for _ in 0..1_000 {
        harness.open(a, 2, 80);
    }
    harness.run();
    let incoming = harness
        .take_events(b)
        .into_iter()
        .filter(|event| matches!(event, PeerEvent::Incoming { .. }))
        .count();
    // What the peer's own bound on unanswered opens lets through; the relay refuses none.
    assert_eq!(incoming, 256);
    let refused = &harness.cores[0].stats().opens_refused;
    assert_eq!(refused.of(Reason::RelayCapacity), 0);
    harness.assert_clean();
}
