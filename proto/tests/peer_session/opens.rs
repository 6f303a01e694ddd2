//! Streams: opens and their answers, data, windows, ends.

use core::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::key::{Address, SecretKey};
use ringway_proto::limits::{DIAL_TIMEOUT, OPEN_TIMEOUT, WINDOW_INITIAL};
use ringway_proto::peer::{AcceptError, PeerEvent, StreamError};
use ringway_proto::reason::Reason;

use crate::world::{World, config};
use crate::{pattern, refused};

#[test]
fn accepted_open_gives_both_sides_the_same_keys() {
    for mut world in Dialect::ALL.map(World::of) {
        let near = world.open(0, 1, 1_234);
        world.settle();
        let event = world.take_event(1);
        let PeerEvent::Incoming {
            stream: far,
            source,
            port,
            request,
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!(
            source,
            Address {
                key: world.peers[0].public_key(),
                port: 50_000
            }
        );
        assert_eq!(port, 1_234);
        assert_eq!(world.peers[1].write(far, b"x"), Err(StreamError::NotOpen));
        assert_eq!(world.peers[0].write(near, b"x"), Err(StreamError::NotOpen));
        assert_eq!(
            world.peers[0].read(near, &mut [0]),
            Err(StreamError::NotOpen)
        );
        let random = world.random();
        let far_keys = world.peers[1].accept(far, request, random).unwrap();
        // Data right behind the response.
        world.peers[1].write(far, b"hello").unwrap();
        world.settle();
        let event = world.take_event(0);
        let PeerEvent::Opened { stream, keys } = event else {
            panic!("{event:?}")
        };
        assert_eq!(stream, near);
        assert_eq!((keys.seal, keys.open), (far_keys.open, far_keys.seal));
        assert!(matches!(world.take_event(0), PeerEvent::Readable { stream } if stream == near));
        assert_eq!(world.read_all(0, near), b"hello");
        let stats = (world.peers[0].stats(), world.peers[1].stats());
        assert_eq!(
            (stats.0.opens, stats.0.opens_refused, stats.1.incoming),
            (1, 0, 1)
        );
    }
}

#[test]
fn data_and_ends_travel_both_ways() {
    for mut world in Dialect::ALL.map(World::of) {
        let [(near, _), (far, _)] = world.join(0, 1);
        let data = pattern(1_000_000);
        assert_eq!(world.transfer((0, near), (1, far), &data), data);
        assert_eq!(world.transfer((1, far), (0, near), &data), data);
        world.peers[0].finish(near).unwrap();
        world.settle();
        assert!(
            matches!(world.events[1].pop(), Some(PeerEvent::Finished { stream }) if stream == far)
        );
        assert_eq!(world.transfer((1, far), (0, near), b"half"), b"half");
        world.peers[1].finish(far).unwrap();
        world.settle();
        assert!(
            matches!(world.events[0].pop(), Some(PeerEvent::Finished { stream }) if stream == near)
        );
        assert_eq!(
            (
                world.peers[0].streams_count(),
                world.peers[1].streams_count()
            ),
            (0, 0)
        );
    }
}

#[test]
fn reset_reaches_the_other_peer() {
    for mut world in Dialect::ALL.map(World::of) {
        let [(near, _), (far, _)] = world.join(0, 1);
        world.peers[0].write(near, b"lost").unwrap();
        world.peers[0].reset(near).unwrap();
        world.settle();
        assert!(matches!(world.take_event(1), PeerEvent::Reset { stream } if stream == far));
        assert_eq!(
            world.peers[1].read(far, &mut [0]),
            Err(StreamError::Unknown)
        );
        assert_eq!(world.peers[1].streams_count(), 0);
    }
}

#[test]
fn refusals_arrive_with_their_reason() {
    let mut world = World::new();
    let near = world.open(0, 1, 1);
    world.settle();
    let (far, request) = world.incoming(1);
    world.peers[1]
        .refuse(far, request, Reason::NoListener)
        .unwrap();
    world.settle();
    assert_eq!(
        refused(&world.take_event(0)),
        (near, Reason::NoListener.code())
    );

    let nobody = Address {
        key: SecretKey::from_seed([99; 32]).public(),
        port: 1,
    };
    let near = world.open_to(0, nobody);
    world.settle();
    assert_eq!(
        refused(&world.take_event(0)),
        (near, Reason::UnknownDestination.code())
    );
    assert_eq!(
        (
            world.peers[0].streams_count(),
            world.peers[1].streams_count()
        ),
        (0, 0)
    );
    assert_eq!(world.peers[0].stats().opens_refused, 2);
    assert!(world.events.iter().all(Vec::is_empty));
}

#[test]
fn open_without_an_answer_is_given_up() {
    for mut world in Dialect::ALL.map(World::of) {
        world.mirror.is_forwarding = false;
        let near = world.open(0, 1, 1);
        world.settle();
        world.advance(DIAL_TIMEOUT + OPEN_TIMEOUT);
        assert_eq!(
            refused(&world.take_event(0)),
            (near, Reason::DialTimeout.code())
        );
        assert_eq!(world.peers[0].streams_count(), 0);
    }
}

#[test]
fn open_reset_before_the_answer_is_refused() {
    let mut world = World::new();
    let near = world.open(0, 1, 1);
    world.settle();
    let (far, request) = world.incoming(1);
    world.peers[1].reset(far).unwrap();
    world.settle();
    assert_eq!(
        refused(&world.take_event(0)),
        (near, Reason::RefusedByDestination.code())
    );
    let random = world.random();
    assert!(matches!(
        world.peers[1].accept(far, request, random),
        Err(AcceptError::Unknown)
    ));
}

#[test]
fn opener_may_give_up_while_the_destination_thinks() {
    for mut world in Dialect::ALL.map(World::of) {
        let near = world.open(0, 1, 1);
        world.settle();
        let (far, request) = world.incoming(1);
        world.peers[0].reset(near).unwrap();
        world.settle();
        assert!(matches!(world.take_event(1), PeerEvent::Reset { stream } if stream == far));
        let refusal = world.peers[1].refuse(far, request, Reason::NoListener);
        assert_eq!(refusal, Err(AcceptError::Unknown));
        world.settle();
        assert!(world.events[0].is_empty());
    }
}

#[test]
fn pending_opens_are_bounded_and_refused_with_a_reason() {
    for dialect in Dialect::ALL {
        let mut world = World::empty_of(dialect);
        world.connect(config());
        let mut narrow = config();
        narrow.incoming_pending_max = 2;
        world.connect(narrow);
        world.settle();
        for _ in 0..3 {
            world.open(0, 1, 1);
        }
        world.settle();
        assert_eq!(world.events[1].len(), 1 + 2, "ready and two opens");
        let (_, reason) = refused(&world.events[0].pop().unwrap());
        let expected = match dialect {
            Dialect::Dmsg => Reason::RelayCapacity,
            _ => Reason::TooManyStreams,
        };
        assert_eq!(reason, expected.code());
        assert_eq!(world.peers[1].stats().incoming_refused, 1);
        // An answer makes room.
        world.events[1].remove(0);
        let (far, request) = world.incoming(1);
        world.peers[1]
            .refuse(far, request, Reason::NoListener)
            .unwrap();
        world.open(0, 1, 1);
        world.settle();
        assert_eq!(world.peers[1].stats().incoming, 3);
    }
}

#[test]
fn two_thousand_streams_work_at_a_time() {
    for (dialect, count) in [(Dialect::Native, 2_000), (Dialect::Dmsg, 1_000)] {
        many_streams(dialect, count);
    }
}

fn many_streams(dialect: Dialect, count: u32) {
    let mut world = World::empty_of(dialect);
    for _ in 0..2 {
        let mut config = config();
        config.incoming_pending_max = 2_048;
        world.connect(config);
    }
    world.settle();
    world.events.iter_mut().for_each(Vec::clear);
    // All in one flight: sealed objects must arrive in the order of their nonces.
    world.turn_bytes = 5_000;
    let near: Vec<_> = (0..count).map(|_| world.open(0, 1, 7)).collect();
    world.settle();
    let mut far = Vec::new();
    for event in core::mem::take(&mut world.events[1]) {
        let PeerEvent::Incoming {
            stream, request, ..
        } = event
        else {
            panic!("{event:?}")
        };
        let random = world.random();
        world.peers[1].accept(stream, request, random).unwrap();
        world.peers[1].write(stream, b"hello").unwrap();
        far.push(stream);
    }
    assert_eq!(far.len(), near.len());
    world.settle();
    let is_opened = |event: &&PeerEvent| matches!(event, PeerEvent::Opened { .. });
    assert_eq!(world.events[0].iter().filter(is_opened).count(), near.len());
    for &stream in &near {
        assert_eq!(world.read_all(0, stream), b"hello");
        world.peers[0]
            .write(stream, &stream.as_u32().to_be_bytes())
            .unwrap();
        world.peers[0].finish(stream).unwrap();
    }
    world.settle();
    for (n, &stream) in far.iter().enumerate() {
        assert_eq!(world.read_all(1, stream), near[n].as_u32().to_be_bytes());
        world.peers[1].finish(stream).unwrap();
    }
    world.poll(1);
    world.settle();
    assert_eq!(
        (
            world.peers[0].streams_count(),
            world.peers[1].streams_count()
        ),
        (0, 0)
    );
}

#[test]
fn slow_reader_stops_the_sender_at_its_window() {
    for mut world in Dialect::ALL.map(World::of) {
        let [(near, _), (far, _)] = world.join(0, 1);
        let before = world.mirror.legs[0].data_bytes;
        let data = pattern(2 << 20);
        let mut sent = 0;
        for _ in 0..100 {
            sent += world.peers[0].write(near, &data[sent..]).unwrap();
            world.settle();
        }
        let window = usize::try_from(WINDOW_INITIAL).unwrap();
        assert_eq!(world.mirror.legs[0].data_bytes - before, sent);
        assert_eq!(before + sent, window, "the open request counts");
        assert_eq!(world.peers[1].readable_bytes(far), sent);
        let read = world.read_all(1, far);
        assert_eq!(read, data[..sent]);
        world.settle();
        assert!(
            matches!(world.events[0].pop(), Some(PeerEvent::Writable { stream }) if stream == near)
        );
        assert_eq!(
            world.transfer((0, near), (1, far), &data[sent..]),
            data[sent..]
        );
    }
}

#[test]
fn window_grows_over_a_long_path() {
    for mut world in Dialect::ALL.map(World::empty_of) {
        world.latency = Duration::from_millis(20);
        world.turn_bytes = 64 << 20;
        world.connect(config());
        world.connect(config());
        world.settle();
        world.events.iter_mut().for_each(Vec::clear);
        let [(near, _), (far, _)] = world.join(0, 1);
        let data = pattern(1 << 20);
        let mut read = 0;
        // A reader that is always there: one window a round trip.
        for _ in 0..100 {
            world.peers[0].write(near, &data).unwrap();
            world.turn();
            read += world.read_all(1, far).len();
        }
        let window = world.peers[1].window_bytes(far).unwrap();
        assert!(
            window > WINDOW_INITIAL && read > 20 << 20,
            "{window} {read}"
        );
    }
}
