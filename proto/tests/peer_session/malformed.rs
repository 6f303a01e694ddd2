//! Bad objects of the relay or of the other peer, and what each leads to.

use ringway_proto::frame::{Flags, GoAwayCode, Header};
use ringway_proto::key::{Address, PublicKey, SecretKey};
use ringway_proto::kk::KkInitiator;
use ringway_proto::limits::OPEN_TIMEOUT;
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::peer::{AcceptError, PeerEvent, SessionError};
use ringway_proto::reason::Reason;

use crate::mirror::len_of;
use crate::world::{UNIX_NS, World, public, secret};
use crate::{SECOND, closed, refused};

/// A good request from peer 0 to peer 1, as the wire has it inside the seal.
fn request(from: &SecretKey, destination: PublicKey, timestamp_ns: u64) -> Vec<u8> {
    let (_, noise) = KkInitiator::new(from, &destination, [3; 32]).unwrap();
    OpenRequest {
        forwarded: false,
        timestamp_ns,
        source: Address {
            key: from.public(),
            port: 50_000,
        },
        destination: Address {
            key: destination,
            port: 7,
        },
        noise: &noise,
    }
    .encode(from)
    .unwrap()
}

/// Gives peer 1 a request and returns the reason of its refusal.
fn refusal_of(plain: &[u8]) -> Option<Reason> {
    let mut world = World::new();
    world.mirror.offer_request(1, plain);
    world.settle();
    if world.events[1].is_empty() {
        assert_eq!(world.peers[1].streams_count(), 0);
        assert_eq!(world.peers[1].stats().incoming_refused, 1);
        assert!(
            world.peers[1].is_ready(),
            "a bad request ends its stream only"
        );
        // The response went to a route that does not exist; ask the checks again for the reason.
        return Some(reason_of(plain));
    }
    world.incoming(1);
    None
}

/// Has peer 0 open with a relay that replaces its request, and returns what it is told.
fn reason_of(plain: &[u8]) -> Reason {
    let mut world = World::new();
    let id = world.mirror.offer_request(1, plain);
    world.carry_down(1);
    let mut wire = Vec::new();
    world.peers[1].transmit(&mut wire, 10_000);
    let (header, object) = wire.split_first_chunk::<12>().unwrap();
    let header = Header::decode(header).unwrap();
    assert_eq!(
        (header.stream_id, header.flags),
        (id, Flags::ACK | Flags::FIN)
    );
    let mut object = object[..usize::try_from(header.length).unwrap()].to_vec();
    let plain_response = world.mirror.open_from(1, &mut object);
    let response = OpenResponse::decode(&plain_response).unwrap();
    assert_eq!(response.request_hash, OpenRequest::hash(plain));
    OpenResponse::verify(&plain_response, &public(1)).unwrap();
    Reason::from_code(response.reason_code).unwrap()
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let (opener, destination) = (secret(0), public(1));
    let skew = 121_000_000_000;
    let good = request(&opener, destination, UNIX_NS);
    assert_eq!(refusal_of(&good), None);
    assert_eq!(
        refusal_of(&request(&opener, destination, UNIX_NS + 119_000_000_000)),
        None
    );

    let stale = request(&opener, destination, UNIX_NS - skew);
    assert_eq!(refusal_of(&stale), Some(Reason::StaleTimestamp));
    let early = request(&opener, destination, UNIX_NS + skew);
    assert_eq!(refusal_of(&early), Some(Reason::StaleTimestamp));
    let elsewhere = request(&opener, public(7), UNIX_NS);
    assert_eq!(refusal_of(&elsewhere), Some(Reason::UnknownDestination));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refusal_of(&forged), Some(Reason::BadSignature));
    let mut cut = good.clone();
    cut.pop();
    assert_eq!(refusal_of(&cut), Some(Reason::ProtocolError));
    assert_eq!(refusal_of(&[]), Some(Reason::ProtocolError));
    let mut newer = good;
    newer[1] = 2;
    assert_eq!(refusal_of(&newer), Some(Reason::Version));
}

#[test]
fn request_with_a_bad_noise_message_is_refused_at_accept() {
    let mut world = World::new();
    let from = secret(0);
    let plain = OpenRequest {
        forwarded: false,
        timestamp_ns: UNIX_NS,
        source: Address {
            key: from.public(),
            port: 50_000,
        },
        destination: Address {
            key: public(1),
            port: 7,
        },
        noise: &[5; 48],
    }
    .encode(&from)
    .unwrap();
    world.mirror.offer_request(1, &plain);
    world.settle();
    let (far, request) = world.incoming(1);
    let random = world.random();
    let result = world.peers[1].accept(far, request, random);
    assert!(matches!(result, Err(AcceptError::PeerHandshake)));
    assert_eq!(world.peers[1].streams_count(), 0);
}

#[test]
fn wall_clock_follows_the_session_and_can_be_corrected() {
    let mut world = World::new();
    let at_start = request(&secret(0), public(1), UNIX_NS);
    let later = request(&secret(0), public(1), UNIX_NS + 1_000_000_000_000);
    world.now = world.now + SECOND * 1_000;
    world.mirror.offer_request(1, &at_start);
    world.mirror.offer_request(1, &later);
    world.settle();
    let stats = world.peers[1].stats();
    assert_eq!(
        (stats.incoming, stats.incoming_refused),
        (1, 1),
        "the first is stale"
    );

    world.peers[1].set_unix_time(UNIX_NS, world.now);
    world.mirror.offer_request(1, &at_start);
    world.mirror.offer_request(1, &later);
    world.settle();
    let stats = world.peers[1].stats();
    assert_eq!(
        (stats.incoming, stats.incoming_refused),
        (2, 2),
        "the second is early"
    );
}

#[test]
fn incomplete_request_is_reset_at_its_deadline() {
    let mut world = World::new();
    world
        .mirror
        .push(1, Header::window_update(2, Flags::SYN, 0), &[]);
    world
        .mirror
        .push(1, Header::data(2, Flags::NONE, 3), &[0, 200, 1]);
    world.settle();
    assert_eq!(world.peers[1].streams_count(), 1);
    world.advance(OPEN_TIMEOUT);
    assert_eq!(world.peers[1].streams_count(), 0);
    assert!(world.peers[1].is_ready());
    assert!(world.events[1].is_empty());
}

#[test]
fn request_cut_by_a_fin_is_reset() {
    let mut world = World::new();
    world
        .mirror
        .push(1, Header::window_update(2, Flags::SYN, 0), &[]);
    world
        .mirror
        .push(1, Header::data(2, Flags::FIN, 3), &[0, 200, 1]);
    world.settle();
    assert_eq!(world.peers[1].streams_count(), 0);
    assert_eq!(world.peers[1].stats().incoming_refused, 1);
}

#[test]
fn object_that_does_not_open_ends_the_session() {
    let mut world = World::new();
    let mut object = world
        .mirror
        .seal(1, &request(&secret(0), public(1), UNIX_NS));
    *object.last_mut().unwrap() ^= 1;
    world
        .mirror
        .push(1, Header::window_update(2, Flags::SYN, 0), &[]);
    world
        .mirror
        .push(1, Header::data(2, Flags::NONE, len_of(&object)), &object);
    world.settle();
    let error = closed(&world.take_event(1));
    assert!(matches!(error, SessionError::PeerSealed(_)));
    assert_eq!(error.reason(), Reason::ProtocolError);
    assert_eq!(
        world.mirror.legs[1].go_aways,
        [GoAwayCode::ProtocolError.code()]
    );
}

#[test]
fn object_of_impossible_length_ends_the_session() {
    for prefix in [[0, 3], [0xff, 0xff]] {
        let mut world = World::new();
        world
            .mirror
            .push(1, Header::data(2, Flags::SYN, 2), &prefix);
        world.settle();
        assert!(matches!(
            closed(&world.take_event(1)),
            SessionError::PeerSealed(_)
        ));
    }
}

#[test]
fn replayed_object_ends_the_session() {
    let mut world = World::new();
    let object = world
        .mirror
        .seal(1, &request(&secret(0), public(1), UNIX_NS));
    for id in [2, 4] {
        world
            .mirror
            .push(1, Header::data(id, Flags::SYN, len_of(&object)), &object);
    }
    world.settle();
    assert!(matches!(world.take_event(1), PeerEvent::Incoming { .. }));
    let error = closed(&world.take_event(1));
    assert_eq!(error.reason(), Reason::Replay);
}

/// Opens with a relay that changes the response; returns the reason the opener reports.
fn response_changed_by(tamper: fn(&mut Vec<u8>)) -> Reason {
    let mut world = World::new();
    let near = world.open(0, 1, 7);
    world.settle();
    let (far, request) = world.incoming(1);
    let random = world.random();
    world.peers[1].accept(far, request, random).unwrap();
    world.mirror.tamper = Some(tamper);
    world.settle();
    let (stream, reason_code) = refused(&world.take_event(0));
    assert_eq!(stream, near);
    assert!(
        world.peers[0].is_ready(),
        "a bad response ends its stream only"
    );
    assert_eq!(world.peers[0].streams_count(), 0);
    assert!(
        matches!(world.take_event(1), PeerEvent::Reset { stream } if stream == far),
        "the destination learns that the stream is gone"
    );
    Reason::from_code(reason_code).unwrap()
}

#[test]
fn bad_responses_refuse_the_stream() {
    // Another request's hash.
    assert_eq!(
        response_changed_by(|plain| plain[4] ^= 1),
        Reason::ProtocolError
    );
    // A signature that is not the destination's.
    let forged: fn(&mut Vec<u8>) = |plain| *plain.last_mut().unwrap() ^= 1;
    assert_eq!(response_changed_by(forged), Reason::BadSignature);
    // Too short.
    assert_eq!(
        response_changed_by(|plain| plain.truncate(20)),
        Reason::ProtocolError
    );
    // Another kind of object.
    assert_eq!(
        response_changed_by(|plain| plain[0] = 1),
        Reason::ProtocolError
    );
    // A noise message that the destination did not make, hence signed wrongly.
    assert_eq!(
        response_changed_by(|plain| plain[45] ^= 1),
        Reason::BadSignature
    );
}

#[test]
fn response_cut_by_a_fin_is_refused() {
    let mut world = World::new();
    world.mirror.is_forwarding = false;
    let near = world.open(0, 1, 7);
    world.settle();
    world.mirror.push(
        0,
        Header::data(near.as_u32(), Flags::ACK | Flags::FIN, 2),
        &[0, 200],
    );
    world.settle();
    assert_eq!(
        refused(&world.take_event(0)),
        (near, Reason::ProtocolError.code())
    );
}

#[test]
fn reason_of_a_newer_relay_is_passed_on() {
    let mut world = World::new();
    world.mirror.tamper = None;
    let near = world.open(0, 1, 7);
    world.settle();
    let (far, request) = world.incoming(1);
    world.peers[1]
        .refuse(far, request, Reason::NoListener)
        .unwrap();
    // An unsigned refusal with an unknown number.
    world.mirror.tamper = Some(|plain| {
        plain[2..4].copy_from_slice(&999_u16.to_be_bytes());
        let len = plain.len();
        plain[len - 64..].fill(0);
    });
    world.settle();
    assert_eq!(refused(&world.take_event(0)), (near, 999));
}
