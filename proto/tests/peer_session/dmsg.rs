//! What the dmsg dialect does otherwise: no verdict, resets for refusals, an acknowledgement for every
//! stream.

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::peer::Identity;
use ringway_proto::dmsg;
use ringway_proto::dmsg::open::{StreamRequest, StreamResponse};
use ringway_proto::frame::{Flags, FrameKind, GoAwayCode, HEADER_LEN, Header};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::HANDSHAKE_TIMEOUT;
use ringway_proto::peer::{
    MuxError, OpenStreamError, PeerEvent, PeerSession, SessionError, StreamId,
};
use ringway_proto::reason::Reason;
use ringway_proto::verdict::Verdict;

use crate::mirror::len_of;
use crate::world::{UNIX_NS, World, config, dmsg_secret, public};
use crate::{closed, refused};

fn world() -> World {
    World::of(Dialect::Dmsg)
}

fn identity(n: usize) -> dmsg::handshake::Identity {
    dmsg::handshake::Identity::new(dmsg_secret(n))
}

/// A request of peer `from`, as the wire has it inside the seal.
fn request(from: usize, destination: PublicKey, timestamp_ns: i64) -> Vec<u8> {
    let own = identity(from);
    let (_, noise) = dmsg::kk::KkInitiator::new(&own, &destination, [3; 32]).unwrap();
    let request = StreamRequest {
        timestamp_ns,
        source: Address::new(own.public(), 50_000),
        destination: Address::new(destination, 7),
        wants_ip: false,
        wants_geo: false,
        noise: &noise,
    };
    request.encode(own.secret()).unwrap()
}

/// Takes what a peer has to send apart.
fn frames(peer: &mut PeerSession) -> Vec<(Header, Vec<u8>)> {
    let mut wire = Vec::new();
    peer.transmit(&mut wire, usize::MAX);
    let mut frames = Vec::new();
    let mut rest = wire.as_slice();
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(header).unwrap();
        let (payload, next) = behind.split_at(header.payload_bytes().try_into().unwrap());
        frames.push((header, payload.to_vec()));
        rest = next;
    }
    frames
}

/// Kind, flags and stream of frames.
fn heads(frames: &[(Header, Vec<u8>)]) -> Vec<(FrameKind, Flags, u32)> {
    let head = |(header, _): &(Header, Vec<u8>)| (header.kind, header.flags, header.stream_id);
    frames.iter().map(head).collect()
}

#[test]
fn session_stands_when_the_ping_behind_message_3_is_answered() {
    let mut world = World::empty_of(Dialect::Dmsg);
    world.connect(config());
    world.carry_up(0);
    world.carry_down(0);
    assert!(!world.peers[0].is_ready(), "only message 2 came");
    let mut wire = Vec::new();
    world.peers[0].transmit(&mut wire, 1_000);
    let (message_3, ping) = wire.split_at(2 + 65);
    assert_eq!(message_3[..2], [0, 65]);
    let ping = Header::decode(ping.first_chunk().unwrap()).unwrap();
    assert_eq!((ping.kind, ping.flags), (FrameKind::Ping, Flags::SYN));
    world.mirror.receive(0, &wire);
    world.settle();
    let PeerEvent::Ready { offer } = world.take_event(0) else {
        panic!("not ready")
    };
    assert_eq!(offer.streams_max, config().mux.streams_max);
    assert_eq!((offer.stream_window, offer.keepalive_s), (262_144, 30));
    assert!(world.peers[0].rtt().is_some(), "measured at once");
    let key = world.peers[0].public_key();
    assert_eq!(world.mirror.legs[0].key, Some(key));
    assert_eq!(key, identity(0).public());
}

#[test]
fn a_go_away_with_a_reason_refuses_the_session() {
    let mut world = World::empty_of(Dialect::Dmsg);
    world.mirror.verdict = Verdict {
        reason: Reason::TooManySessions,
        retry_after_ms: 0,
    };
    world.connect(config());
    world.settle();
    let (reason, retry_after_ms) = (Reason::TooManySessions, 0);
    assert!(matches!(
        world.take_event(0),
        PeerEvent::Refused { reason: r, .. } if r == reason
    ));
    let events = std::mem::take(&mut world.events[0]);
    let expected = SessionError::PeerRefused {
        reason,
        retry_after_ms,
    };
    assert_eq!(closed(events.last().unwrap()), expected);
}

#[test]
fn a_plain_go_away_before_the_session_stands_is_no_refusal() {
    let mut world = World::empty_of(Dialect::Dmsg);
    world.connect(config());
    world.carry_up(0);
    world.carry_down(0);
    let farewell = Header::go_away(GoAwayCode::Normal).encode();
    world.peers[0].receive(&farewell, world.now).unwrap();
    world.peers[0].eof(world.now);
    assert_eq!(world.peers[0].error(), Some(SessionError::PeerTruncated));
}

#[test]
fn a_relay_that_is_silent_behind_message_3_is_given_up() {
    let mut world = World::empty_of(Dialect::Dmsg);
    world.connect(config());
    world.carry_up(0);
    world.carry_down(0);
    world.advance(HANDSHAKE_TIMEOUT);
    assert_eq!(
        closed(&world.take_event(0)),
        SessionError::PeerHandshakeTimeout
    );
}

#[test]
fn garbage_at_each_stage_has_a_named_error() {
    // In place of message 2: too long a length, and bytes that no relay sealed.
    for bytes in [vec![0xff, 0xff], [[0, 49].as_slice(), &[2; 49]].concat()] {
        let mut world = World::empty_of(Dialect::Dmsg);
        world.connect(config());
        let error = world.peers[0].receive(&bytes, world.now).unwrap_err();
        assert_eq!(error.reason(), Reason::BadHandshake);
        assert!(!world.peers[0].wants_transmit());
    }
    // Behind message 3, and once the session stands.
    for stage in [1, 3] {
        let mut world = World::empty_of(Dialect::Dmsg);
        world.connect(config());
        for _ in 0..stage {
            world.carry_up(0);
            world.carry_down(0);
        }
        let error = world.peers[0].receive(&[9; 12], world.now).unwrap_err();
        assert!(matches!(error, SessionError::PeerMux(_)), "{error}");
        assert_eq!(error.reason(), Reason::ProtocolError);
        let sent = frames_behind_handshake(&mut world.peers[0]);
        let last = sent.last().copied();
        let code = GoAwayCode::ProtocolError.code();
        assert_eq!(
            last,
            Some(Header {
                length: code,
                ..Header::go_away(GoAwayCode::Normal)
            })
        );
    }
}

/// Headers of what a peer has to send, message 3 left out if that is among it.
fn frames_behind_handshake(peer: &mut PeerSession) -> Vec<Header> {
    let mut wire = Vec::new();
    peer.transmit(&mut wire, usize::MAX);
    let frames = wire
        .strip_prefix(&[0, 65])
        .map_or(&wire[..], |it| &it[65..]);
    let (headers, rest) = frames.as_chunks::<HEADER_LEN>();
    assert!(rest.is_empty());
    headers
        .iter()
        .map(|it| Header::decode(it).unwrap())
        .collect()
}

#[test]
fn keys_of_the_other_dialect_are_refused_by_name() {
    let mut world = world();
    let native: Identity = crate::world::secret(3).into();
    for (identity, relay) in [
        (Identity::from(dmsg_secret(3)), public(9)),
        (native, world.mirror.public()),
    ] {
        let begun = PeerSession::connect(identity, relay, config(), [1; 32], world.now);
        let error = begun.unwrap_err();
        assert!(error.to_string().contains("another dialect"), "{error}");
    }
    let random = world.random();
    let native = Address::new(public(9), 80);
    let open = world.peers[0].open(native, 50_000, UNIX_NS, random);
    assert_eq!(open, Err(OpenStreamError::LocalKey));
}

#[test]
fn every_stream_is_acknowledged_at_once_also_one_that_finds_no_room() {
    let mut world = World::empty_of(Dialect::Dmsg);
    let mut narrow = config();
    narrow.mux.streams_max = 1;
    world.connect(narrow);
    world.settle();
    for id in [4, 2] {
        let syn = Header::window_update(id, Flags::SYN, 0).encode();
        world.peers[0].receive(&syn, world.now).unwrap();
    }
    let update = FrameKind::WindowUpdate;
    let expected = [
        (update, Flags::ACK, 4),
        (update, Flags::ACK, 2),
        (update, Flags::RST, 2),
    ];
    assert_eq!(heads(&frames(&mut world.peers[0])), expected);
    assert_eq!(world.peers[0].streams_count(), 1);
}

#[test]
fn streams_may_come_out_of_turn_but_not_twice() {
    let mut world = world();
    for id in [6, 2, 4] {
        let syn = Header::window_update(id, Flags::SYN, 0).encode();
        world.peers[0].receive(&syn, world.now).unwrap();
    }
    assert_eq!(world.peers[0].streams_count(), 3);
    let again = Header::window_update(2, Flags::SYN, 0).encode();
    let error = world.peers[0].receive(&again, world.now).unwrap_err();
    let reused = MuxError::PeerStreamReused {
        stream: StreamId::new(2),
    };
    assert_eq!(error, SessionError::PeerMux(reused));
}

#[test]
fn the_end_of_a_direction_has_a_frame_of_its_own() {
    let mut world = world();
    let [(near, _), _] = world.join(0, 1);
    world.peers[0].write(near, b"the last words").unwrap();
    world.peers[0].finish(near).unwrap();
    let sent = frames(&mut world.peers[0]);
    let id = near.as_u32();
    let expected = [
        (FrameKind::Data, Flags::NONE, id),
        (FrameKind::WindowUpdate, Flags::FIN, id),
    ];
    assert_eq!(heads(&sent), expected);
    assert_eq!(sent[0].1, b"the last words");
}

#[test]
fn a_refusal_says_why_and_resets_the_stream() {
    let mut world = world();
    let id = world
        .mirror
        .offer_request(1, &request(0, identity(1).public(), 1));
    world.carry_down(1);
    let (far, incoming) = world.incoming(1);
    world.peers[1]
        .refuse(far, incoming, Reason::NoListener)
        .unwrap();
    let mut sent = frames(&mut world.peers[1]);
    let update = FrameKind::WindowUpdate;
    let expected = [
        (update, Flags::ACK, id),
        (FrameKind::Data, Flags::NONE, id),
        (update, Flags::RST, id),
    ];
    assert_eq!(heads(&sent), expected);
    let plain = world.mirror.open_from(1, &mut sent[1].1);
    StreamResponse::verify(&plain, &identity(1).public()).unwrap();
    let response = StreamResponse::decode(&plain).unwrap();
    assert_eq!(response.reason(), Reason::NoListener);

    let near = world.open(0, 1, 1);
    world.settle();
    let (far, incoming) = world.incoming(1);
    world.peers[1]
        .refuse(far, incoming, Reason::NoListener)
        .unwrap();
    world.settle();
    let expected = (near, Reason::NoListener.code());
    assert_eq!(refused(&world.take_event(0)), expected);
    assert!(world.events.iter().all(Vec::is_empty));
    assert!(world.peers.iter().all(|peer| peer.streams_count() == 0));
}

#[test]
fn a_refusal_without_words_is_unexplained() {
    let mut world = world();
    let nobody = Address::new(identity(40).public(), 1);
    let near = world.open_to(0, nobody);
    world.settle();
    let unexplained = Reason::Unexplained.code();
    assert_eq!(refused(&world.take_event(0)), (near, unexplained));

    // A server of Go finishes instead.
    world.mirror.is_forwarding = false;
    let near = world.open(0, 1, 1);
    world.settle();
    let finish = Header::window_update(near.as_u32(), Flags::FIN, 0);
    world.mirror.push(0, finish, &[]);
    world.settle();
    assert_eq!(refused(&world.take_event(0)), (near, unexplained));

    let near = world.open(0, 1, 1);
    world.settle();
    let cut = Header::data(near.as_u32(), Flags::FIN, 2);
    world.mirror.push(0, cut, &[0, 200]);
    world.settle();
    let cut = Reason::ProtocolError.code();
    assert_eq!(refused(&world.take_event(0)), (near, cut));
    assert_eq!(world.peers[0].streams_count(), 0);
}

/// Gives peer 1 a request and returns why it refused it.
fn refusal_of(plain: &[u8]) -> Option<Reason> {
    let mut world = world();
    world.mirror.offer_request(1, plain);
    world.carry_down(1);
    if !world.events[1].is_empty() {
        world.incoming(1);
        return None;
    }
    assert_eq!(world.peers[1].streams_count(), 0);
    assert_eq!(world.peers[1].stats().incoming_refused, 1);
    assert!(world.peers[1].is_ready(), "only the stream has ended");
    let mut sent = frames(&mut world.peers[1]);
    assert_eq!(sent.pop().unwrap().0.flags, Flags::RST);
    let plain_response = world.mirror.open_from(1, &mut sent.pop().unwrap().1);
    let response = StreamResponse::decode(&plain_response).unwrap();
    assert_eq!(response.request_hash, StreamRequest::hash(plain));
    StreamResponse::verify(&plain_response, &identity(1).public()).unwrap();
    Some(response.reason())
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let own = identity(1).public();
    let good = request(0, own, 1);
    assert_eq!(refusal_of(&good), None, "clocks of others do not matter");
    let elsewhere = request(0, identity(7).public(), 1);
    assert_eq!(refusal_of(&elsewhere), Some(Reason::UnknownDestination));
    let mut forged = good.clone();
    forged[3] ^= 1;
    assert_eq!(refusal_of(&forged), Some(Reason::BadSignature));
    assert_eq!(refusal_of(&good[..200]), Some(Reason::ProtocolError));
    assert_eq!(refusal_of(&[]), Some(Reason::ProtocolError));
    let never = request(0, own, 0);
    assert_eq!(refusal_of(&never), Some(Reason::StaleTimestamp));
}

/// Opens with a relay that changes the response; returns the reason the opener reports.
fn response_changed_by(tamper: fn(&mut Vec<u8>)) -> Reason {
    let mut world = world();
    let near = world.open(0, 1, 7);
    world.settle();
    let (far, incoming) = world.incoming(1);
    let random = world.random();
    world.peers[1].accept(far, incoming, random).unwrap();
    world.mirror.tamper = Some(tamper);
    world.settle();
    let (stream, reason_code) = refused(&world.take_event(0));
    assert_eq!(stream, near);
    assert!(world.peers[0].is_ready(), "only the stream has ended");
    assert_eq!(world.peers[0].streams_count(), 0);
    let reset = world.take_event(1);
    assert!(matches!(reset, PeerEvent::Reset { stream } if stream == far));
    Reason::from_code(reason_code).unwrap()
}

/// Signs a response anew, after a change to it.
fn signed_anew(by: usize, plain: &mut Vec<u8>, change: impl Fn(&mut StreamResponse<'_>)) {
    let signed = plain.clone();
    let mut response = StreamResponse::decode(&signed).unwrap();
    change(&mut response);
    *plain = response.encode(identity(by).secret()).unwrap();
}

#[test]
fn bad_responses_refuse_the_stream() {
    let of_another_request: fn(&mut Vec<u8>) =
        |plain| signed_anew(1, plain, |response| response.request_hash.0[0] ^= 1);
    assert_eq!(
        response_changed_by(of_another_request),
        Reason::ProtocolError
    );
    let of_another_peer: fn(&mut Vec<u8>) = |plain| signed_anew(0, plain, |_| {});
    assert_eq!(response_changed_by(of_another_peer), Reason::BadSignature);
    let changed: fn(&mut Vec<u8>) = |plain| *plain.iter_mut().nth_back(9).unwrap() ^= 1;
    assert_eq!(response_changed_by(changed), Reason::BadSignature);
    let cut: fn(&mut Vec<u8>) = |plain| plain.truncate(70);
    assert_eq!(response_changed_by(cut), Reason::ProtocolError);
    let without_keys: fn(&mut Vec<u8>) =
        |plain| signed_anew(1, plain, |response| response.noise = &[5; 49]);
    assert_eq!(response_changed_by(without_keys), Reason::BadHandshake);
    // A refusal that the destination did not sign is none of its own.
    let refusal: fn(&mut Vec<u8>) = |plain| {
        signed_anew(0, plain, |response| {
            response.is_accepted = false;
            response.code = 306;
        });
    };
    assert_eq!(response_changed_by(refusal), Reason::BadSignature);
}

#[test]
fn an_object_seen_before_or_too_long_ends_the_session() {
    let mut world = world();
    let object = world.mirror.seal(1, &request(0, identity(1).public(), 1));
    for id in [2, 4] {
        let header = Header::data(id, Flags::SYN, len_of(&object));
        world.mirror.push(1, header, &object);
    }
    world.settle();
    assert!(matches!(world.take_event(1), PeerEvent::Incoming { .. }));
    let error = closed(&world.take_event(1));
    assert_eq!(error.reason(), Reason::Replay);

    for prefix in [[0, 3], [0x10, 0]] {
        let mut world = self::world();
        let header = Header::data(2, Flags::SYN, 2);
        world.mirror.push(1, header, &prefix);
        world.settle();
        let error = closed(&world.take_event(1));
        assert!(matches!(error, SessionError::PeerSealed(_)), "{error}");
    }
}

#[test]
fn a_stream_that_asks_for_its_first_bytes_gets_them() {
    let mut world = world();
    world
        .mirror
        .push(1, Header::window_update(2, Flags::SYN, 0), &[]);
    world
        .mirror
        .push(1, Header::data(2, Flags::NONE, 2), &[0, 0]);
    world.carry_down(1);
    let sent = frames(&mut world.peers[1]);
    let update = FrameKind::WindowUpdate;
    let expected = [
        (update, Flags::ACK, 2),
        (FrameKind::Data, Flags::NONE, 2),
        (update, Flags::FIN, 2),
    ];
    assert_eq!(heads(&sent), expected);
    assert_eq!(sent[1].1, [0, 0]);
    assert_eq!(world.peers[1].streams_count(), 0);
    assert!(world.events[1].is_empty());
    // The other end of it, and it is forgotten on both sides.
    world
        .mirror
        .push(1, Header::window_update(2, Flags::FIN, 0), &[]);
    world.settle();
    assert!(world.peers[1].is_ready());
}
