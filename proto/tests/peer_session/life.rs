//! Sessions: handshake, verdict, keep-alive, go away, the end.

use core::time::Duration;
use std::sync::Arc;

use ringway_proto::frame::{Flags, GoAwayCode, Header};
use ringway_proto::key::Address;
use ringway_proto::limits::{
    DIAL_TIMEOUT, HANDSHAKE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, PIPELINED_MAX,
};
use ringway_proto::peer::{
    MuxError, OpenStreamError, PeerConfig, PeerEvent, PeerSession, SessionError, StreamError,
    StreamId,
};
use ringway_proto::reason::Reason;
use ringway_proto::verdict::Verdict;

use crate::mirror::PASSPHRASE;
use crate::world::{UNIX_NS, World, config, public, secret};
use crate::{SECOND, closed};

#[test]
fn handshake_ends_with_the_offer() {
    let mut world = World::empty();
    world.mirror.offer.streams_max = 9;
    world.connect(config());
    world.settle();
    let PeerEvent::Ready { offer } = world.take_event(0) else {
        panic!("not ready")
    };
    assert_eq!(offer.streams_max, 9);
    assert!(world.peers[0].is_ready());
    assert_eq!(
        world.peers[0].rtt(),
        Some(Duration::ZERO),
        "measured at once"
    );
    assert_eq!(world.mirror.legs[0].key, Some(public(0)));
}

#[test]
fn refusal_says_why_and_when_to_come_again() {
    let mut world = World::empty();
    world.mirror.verdict = Verdict {
        reason: Reason::TooManySessions,
        retry_after_ms: 1_500,
    };
    world.connect(config());
    world.settle();
    let (reason, retry_after_ms) = (Reason::TooManySessions, 1_500);
    assert!(matches!(
        world.take_event(0),
        PeerEvent::Refused { reason: r, retry_after_ms: 1_500 } if r == reason
    ));
    let error = closed(&world.take_event(0));
    assert_eq!(
        error,
        SessionError::PeerRefused {
            reason,
            retry_after_ms
        }
    );
    assert!(error.is_retryable());
    assert_eq!(error.reason(), reason);
    assert_eq!(world.peers[0].receive(b"more", world.now), Err(error));
    assert_eq!(world.peers[0].next_deadline(), None);
}

#[test]
fn frames_may_travel_behind_message_3() {
    let mut world = World::new();
    let n = world.connect(config());
    let opening = (world.address(1, 80), world.unix_ns(), world.random());
    let early = world.peers[n].open(opening.0, 50_000, opening.1, opening.2);
    assert_eq!(early, Err(OpenStreamError::NotReady));
    world.carry_up(n);
    world.carry_down(n);
    assert!(!world.peers[n].is_ready(), "only message 2 came");
    let stream = world.open(n, 1, 80);
    world.carry_up(n);
    world.settle();
    assert!(matches!(world.take_event(n), PeerEvent::Ready { .. }));
    let (far, request) = world.incoming(1);
    assert_eq!(request.source().key, public(n));
    let random = world.random();
    world.peers[1].accept(far, request, random).unwrap();
    world.settle();
    assert!(matches!(world.take_event(n), PeerEvent::Opened { stream: s, .. } if s == stream));
}

#[test]
fn passphrase_reaches_the_relay_as_a_proof() {
    let mut world = World::empty();
    let mut config = config();
    config.passphrase = Some(PASSPHRASE.to_vec().into());
    world.connect(config);
    world.settle();
    assert!(matches!(world.take_event(0), PeerEvent::Ready { .. }));
    assert!(world.mirror.legs[0].knows_passphrase);
}

#[test]
fn handshake_has_a_deadline() {
    let mut world = World::empty();
    world.connect(config());
    assert_eq!(
        world.peers[0].next_deadline(),
        Some(world.now + HANDSHAKE_TIMEOUT)
    );
    world.advance(HANDSHAKE_TIMEOUT);
    let error = closed(&world.take_event(0));
    assert_eq!(error, SessionError::PeerHandshakeTimeout);
    assert_eq!(error.reason(), Reason::HandshakeTimeout);
    assert!(
        !world.peers[0].wants_transmit(),
        "message 1 is of no use now"
    );
}

#[test]
fn bad_handshake_messages_have_named_errors() {
    for bytes in [vec![0xff, 0xff], [[0, 100].as_slice(), &[1; 100]].concat()] {
        let mut world = World::empty();
        world.connect(config());
        let error = world.peers[0].receive(&bytes, world.now).unwrap_err();
        assert!(matches!(error, SessionError::PeerHandshake(_)), "{error}");
        assert_eq!(error.reason(), Reason::BadHandshake);
        assert!(!world.peers[0].wants_transmit());
    }
}

#[test]
fn wrong_relay_key_ends_the_handshake() {
    let mut world = World::new();
    let secret = Arc::new(secret(5));
    let peer = PeerSession::connect(secret, public(77), config(), [1; 32], world.now).unwrap();
    let leg = world.mirror.accept();
    world.peers.push(peer);
    world.events.push(Vec::new());
    let mut wire = Vec::new();
    world.peers[leg].transmit(&mut wire, 1_000);
    // The relay cannot read message 1; whatever it answers is no message 2.
    let result = world.peers[leg].receive(&[[0, 48].as_slice(), &[9; 48]].concat(), world.now);
    assert!(matches!(result, Err(SessionError::PeerHandshake(_))));
}

#[test]
fn bad_verdict_ends_the_session_with_a_go_away() {
    let mut world = World::empty();
    world.connect(config());
    world.carry_up(0);
    world.carry_down(0);
    // A sealed object that no key opens.
    let object = [[0, 30].as_slice(), &[0; 30]].concat();
    let error = world.peers[0].receive(&object, world.now).unwrap_err();
    assert!(matches!(error, SessionError::PeerSealed(_)), "{error}");
    world.carry_up(0);
    assert_eq!(
        world.mirror.legs[0].go_aways,
        [GoAwayCode::ProtocolError.code()]
    );
}

#[test]
fn end_of_the_connection_is_clean_between_frames_only() {
    let mut world = World::new();
    let [(near, _), (far, _)] = world.join(0, 1);
    world.peers[1].write(far, b"kept").unwrap();
    world.settle();
    world.peers[0].eof(world.now);
    world.poll(0);
    let last = world.events[0].pop().unwrap();
    assert_eq!(closed(&last), SessionError::PeerClosed);
    assert_eq!(world.read_all(0, near), b"kept");
    assert_eq!(world.peers[0].write(near, b"x"), Err(StreamError::Closed));

    world.peers[1].receive(&[0, 0], world.now).unwrap();
    world.peers[1].eof(world.now);
    assert_eq!(world.peers[1].error(), Some(SessionError::PeerTruncated));
    world.poll(1);
    world.peers[1].eof(world.now);
    assert!(world.peers[1].poll_event().is_none(), "a session ends once");
}

#[test]
fn silent_relay_is_pinged_and_then_given_up() {
    let mut world = World::new();
    world.advance(KEEPALIVE_INTERVAL);
    assert!(world.peers[0].wants_transmit(), "a ping");
    world.settle();
    world.advance(KEEPALIVE_TIMEOUT.saturating_sub(SECOND));
    assert!(world.peers[0].error().is_none());
    world.advance(SECOND);
    let error = closed(&world.take_event(0));
    assert_eq!(
        (error, error.reason()),
        (SessionError::PeerSilent, Reason::Idle)
    );
}

#[test]
fn late_timer_still_gives_the_relay_time_to_answer() {
    let mut world = World::new();
    // The host slept: every deadline is long past when the driver comes back.
    world.now = world.now + KEEPALIVE_TIMEOUT * 10;
    for _ in 0..10 {
        world.peers[0].handle_timeout(world.now);
    }
    assert!(world.peers[0].error().is_none());
    world.settle();
    assert!(world.peers[0].is_ready());
}

#[test]
fn answered_pings_keep_a_session_for_ever() {
    let mut world = World::new();
    for _ in 0..100 {
        world.advance(KEEPALIVE_INTERVAL);
        world.settle();
    }
    assert!(world.peers.iter().all(PeerSession::is_ready));
    assert!(world.events.iter().all(Vec::is_empty));
}

#[test]
fn ping_measures_the_round_trip() {
    let mut world = World::new();
    world.latency = Duration::from_millis(3);
    world.peers[0].ping(world.now);
    world.settle();
    assert!(matches!(world.take_event(0), PeerEvent::Pong { rtt } if rtt == world.latency));
}

#[test]
fn go_away_of_the_relay_stops_opens_and_not_streams() {
    let mut world = World::new();
    let [(near, _), (far, _)] = world.join(0, 1);
    world
        .mirror
        .push(0, Header::go_away(GoAwayCode::Normal), &[]);
    world.settle();
    assert!(matches!(world.take_event(0), PeerEvent::GoAway { code: 0 }));
    let (timestamp, random) = (world.unix_ns(), world.random());
    let destination = world.address(1, 1);
    let open = world.peers[0].open(destination, 50_000, timestamp, random);
    assert_eq!(open, Err(OpenStreamError::GoingAway));
    assert_eq!(world.transfer((0, near), (1, far), b"still"), b"still");
    world.peers[1].go_away();
    world.settle();
    assert_eq!(world.mirror.legs[1].go_aways, [0]);
}

#[test]
fn malformed_frame_ends_the_session_with_a_go_away() {
    let mut world = World::new();
    world.join(0, 1);
    world.mirror.push(0, Header::data(99, Flags::NONE, 1), &[0]);
    world.settle();
    let error = SessionError::PeerMux(MuxError::PeerStreamUnknown {
        stream: StreamId::new(99),
    });
    assert_eq!(closed(&world.take_event(0)), error);
    assert_eq!(error.reason(), Reason::ProtocolError);
    assert_eq!(
        world.mirror.legs[0].go_aways,
        [GoAwayCode::ProtocolError.code()]
    );
    assert!(!world.peers[0].wants_transmit());
}

/// The defaults hold together.
#[test]
fn default_config_is_within_the_limits() {
    let config = PeerConfig::new(UNIX_NS);
    assert!(
        config.open_timeout > DIAL_TIMEOUT,
        "the relay's reason arrives first"
    );
    assert!(config.incoming_pending_max <= config.mux.streams_max);
}

#[test]
fn no_more_is_sent_before_the_verdict_than_the_relay_keeps() {
    let mut world = World::empty();
    world.connect(config());
    world.peers[0].ping(world.now);
    world.carry_up(0);
    assert!(!world.peers[0].wants_transmit(), "only message 1 so far");
    let random = world.random();
    let message_2: Vec<_> = world.mirror.legs[0].output.drain(..).collect();
    world.peers[0].receive(&message_2, world.now).unwrap();
    let unix_ns = world.unix_ns();
    for port in 0..400 {
        let destination = Address::new(public(1), 80);
        world.peers[0]
            .open(destination, port, unix_ns, random)
            .unwrap();
    }
    let mut wire = Vec::new();
    while world.peers[0].wants_transmit() {
        assert!(world.peers[0].transmit(&mut wire, 10_000) > 0);
    }
    let message_3 = 2 + usize::from(u16::from_be_bytes([wire[0], wire[1]]));
    assert_eq!(wire.len(), message_3 + PIPELINED_MAX);
    world.mirror.receive(0, &wire);
    world.settle();
    assert!(matches!(world.take_event(0), PeerEvent::Ready { .. }));
    assert!(!world.peers[0].wants_transmit(), "the rest has followed");
}

#[test]
fn what_came_before_a_stream_was_open_is_never_read() {
    let mut world = World::new();
    let (random, unix_ns) = (world.random(), world.unix_ns());
    let destination = Address::new(public(1), 80);
    let stream = world.peers[0]
        .open(destination, 50_000, unix_ns, random)
        .unwrap();
    world.carry_up(0);
    // The first half of an answer, and then the end.
    let answer = Header::data(stream.as_u32(), Flags::ACK, 50).encode();
    world.peers[0].receive(&answer, world.now).unwrap();
    world.peers[0].receive(&[0, 100, 7, 7], world.now).unwrap();
    world.peers[0].eof(world.now);
    let mut out = [0; 50];
    assert_eq!(
        world.peers[0].read(stream, &mut out),
        Err(StreamError::NotOpen)
    );
    assert!(world.peers[0].read_chunk(stream).is_err());
}
