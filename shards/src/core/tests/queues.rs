//! What waits for slow receivers: its bounds, and whose share it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::peer::{PeerEvent, StreamId};
use ringway_proto::reason::Reason;

use super::harness::Harness;
use super::{pair, pattern};

/// Lets the destination grant far more than it will read, and then read nothing.
fn stop_reading(harness: &mut Harness, wire: usize, stream: StreamId) {
    let grant = Header::window_update(stream.as_u32(), Flags::NONE, 1 << 29).encode();
    harness.inject(wire, &grant);
    harness.run();
    harness.wires[wire].is_reading = false;
}

fn send(harness: &mut Harness, wire: usize, stream: StreamId, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap();
    let header = Header::data(stream.as_u32(), Flags::NONE, length).encode();
    harness.inject(wire, &[&header[..], payload].concat());
}

#[test]
fn slow_session_leaves_room_for_those_that_keep_up() {
    const SHARD_BYTES: u64 = 8 << 20;
    let mut harness = Harness::with(1, |config| {
        config.queue.session_bytes_max = 4 << 20;
        config.queue.shard_bytes_max = SHARD_BYTES;
    });
    let a = harness.connect(1, 0);
    let slow: Vec<_> = (10..20)
        .map(|byte| {
            let b = harness.connect(byte, 0);
            let (from, to) = harness.bridge(a, b, byte);
            stop_reading(&mut harness, b, to);
            from
        })
        .collect();
    let fast = harness.connect(3, 0);
    let (from, to) = harness.bridge(a, fast, 3);
    let payload = pattern(60_000);
    for round in 0..200 {
        for stream in &slow {
            send(&mut harness, a, *stream, &payload);
        }
        harness.run();
        let bytes = pattern(1_000 + round);
        assert_eq!(harness.transfer((a, from), (fast, to), &bytes), bytes);
        let queued_bytes = harness.cores[0].audit().queued_bytes;
        // A little beyond three quarters: each slow session may keep what every session may.
        assert!(queued_bytes <= SHARD_BYTES, "{queued_bytes} bytes wait");
    }
    let resets = harness.cores[0]
        .stats()
        .streams_reset
        .of(Reason::SlowConsumer);
    assert_eq!(resets, 20, "both legs of all slow streams");
    harness.assert_clean();
}

/// Sends to a session that does not read, more than may wait; returns the most that waited.
fn fill(session_bytes_max: u32, shard_bytes_max: u64) -> u64 {
    let mut harness = Harness::with(1, |config| {
        config.queue.session_bytes_max = session_bytes_max;
        config.queue.shard_bytes_max = shard_bytes_max;
    });
    let (a, b) = (harness.connect(1, 0), harness.connect(2, 0));
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    let payload = pattern(60_000);
    let mut queued_bytes_max = 0;
    for _ in 0..200 {
        send(&mut harness, a, from, &payload);
        harness.run();
        queued_bytes_max = harness.cores[0].audit().queued_bytes.max(queued_bytes_max);
    }
    harness.assert_clean();
    queued_bytes_max
}

#[test]
fn session_holds_no_more_than_its_bound_and_half_of_the_shared_part() {
    const MIB: u64 = 1 << 20;
    // Its own bound.
    let queued = fill(1 << 20, 64 * MIB);
    assert!((900_000..=MIB).contains(&queued), "{queued}");
    // Half of three quarters.
    let queued = fill(8 << 20, 8 * MIB);
    assert!(
        (3 * MIB - 100_000..=3 * MIB).contains(&queued),
        "{queued} bytes wait"
    );
}

#[test]
fn receiver_that_takes_a_little_is_slow_but_alive() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    send(&mut harness, a, from, &pattern(200_000));
    harness.run();
    // 5 kB in half a minute: below any rate that a time-out for the whole batch would allow.
    for _ in 0..4 {
        harness.wires[b].taken_bytes = 5_000;
        harness.pass(Duration::from_secs(31));
        assert!(!harness.wires[b].is_closed);
    }
    assert!(harness.wires[b].taken_bytes == 0, "the relay has asked");
    harness.pass(Duration::from_secs(62));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.sessions_closed.of(Reason::SlowConsumer), 1);
    assert!(harness.wires[b].is_closed);
    harness.assert_clean();
}

#[test]
fn receiver_of_many_short_sends_is_slow_but_alive() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    send(&mut harness, a, from, &pattern(200_000));
    harness.run();
    // No send is ever old enough to be looked at, and no ping gets through.
    for _ in 0..100 {
        harness.pass(Duration::from_secs(2));
        harness.take_short(b, 8);
        assert!(!harness.wires[b].is_closed);
    }
    harness.pass(Duration::from_secs(62));
    let stats = harness.cores[0].stats();
    assert_eq!(stats.sessions_closed.of(Reason::SlowConsumer), 1);
    harness.assert_clean();
}

#[test]
fn receiver_that_comes_back_gets_every_byte_in_order() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    let bytes = pattern(200_000);
    send(&mut harness, a, from, &bytes);
    harness.run();
    harness.wires[b].taken_bytes = 12_345;
    harness.pass(Duration::from_secs(31));
    harness.wires[b].is_reading = true;
    harness.deliver(b);
    harness.run();
    let mut received = vec![0; 300_000];
    let mut count = 0;
    while count < bytes.len() {
        let read = harness.session(b).read(to, &mut received[count..]).unwrap();
        assert!(read > 0, "{count} bytes came");
        count += read;
    }
    received.truncate(count);
    // Raw bytes rather than records: what was sent by hand is what arrives.
    assert_eq!(count, bytes.len());
    harness.assert_clean();
}

#[test]
fn short_receive_memory_is_relieved_on_every_shard() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let (mut harness, a, b) = pair(shards, 0, second);
        let (from, to) = harness.bridge(a, b, 2);
        stop_reading(&mut harness, b, to);
        for _ in 0..4 {
            send(&mut harness, a, from, &pattern(60_000));
            harness.run();
        }
        assert!(harness.alive.load(Ordering::Relaxed) > 0);
        harness.pass(Duration::from_millis(500));
        let now = harness.now;
        harness.cores[0].relieve(now);
        harness.run();
        assert_eq!(harness.alive.load(Ordering::Relaxed), 0, "leases are held");
        let queued: u64 = harness
            .cores
            .iter()
            .map(|core| core.audit().queued_bytes)
            .sum();
        assert!(queued > 240_000, "nothing was lost: {queued}");
        harness.wires[b].is_reading = true;
        harness.deliver(b);
        harness.run();
        let queued: u64 = harness
            .cores
            .iter()
            .map(|core| core.audit().queued_bytes)
            .sum();
        assert_eq!(queued, 0);
        let events = harness.take_events(b);
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, PeerEvent::Closed { .. })),
            "{events:?}"
        );
        harness.assert_clean();
    }
}

#[test]
fn empty_frames_do_not_fill_the_queue_of_a_slow_receiver() {
    let (mut harness, a, b) = pair(1, 0, 0);
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    let empty = Header::data(from.as_u32(), Flags::NONE, 0).encode();
    harness.inject(a, &empty.repeat(100_000));
    harness.run();
    assert_eq!(harness.cores[0].audit().queued_bytes, 0);
    harness.wires[b].is_reading = true;
    assert_eq!(harness.transfer((a, from), (b, to), b"data"), b"data");
    harness.assert_clean();
}

#[test]
fn session_that_asks_and_does_not_read_goes_when_the_shard_is_full() {
    let mut harness = Harness::with(1, |config| config.queue.shard_bytes_max = 300_000);
    let a = harness.connect(1, 0);
    let b = harness.connect(2, 0);
    let (from, to) = harness.bridge(a, b, 2);
    stop_reading(&mut harness, b, to);
    for _ in 0..10 {
        send(&mut harness, a, from, &pattern(60_000));
        harness.run();
    }
    let asker = harness.connect(3, 0);
    harness.wires[asker].is_reading = false;
    harness.wires[asker].session = None;
    let ping = Header::ping(Flags::SYN, 7).encode();
    for _ in 0..40 {
        harness.inject(asker, &ping.repeat(1_000));
        harness.run();
    }
    let stats = harness.cores[0].stats();
    assert_eq!(stats.sessions_closed.of(Reason::SlowConsumer), 1);
    let bytes = pattern(2_000);
    let c = harness.connect(4, 0);
    let (from, to) = harness.bridge(a, c, 4);
    assert_eq!(harness.transfer((a, from), (c, to), &bytes), bytes);
    harness.assert_clean();
}
