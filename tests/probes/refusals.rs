//! Every refusal of the relay and of the client library reaches the one who asked, with its reason.

use ringway_client::{Address, Client, Config, DialError, Refusal, RelayAddress, Stream};
use ringway_proto::frame::{Flags, Header};
use ringway_proto::handshake::Role;
use ringway_proto::open::{OpenRequest, OpenResponse};
use ringway_proto::reason::Reason;
use socket2::SockRef;

use crate::raw::{Begun, Event, Raw, is_reset, unix_time_ns};
use crate::relay::{Options, Relay, secret_of};

/// Opens with a request that was made by hand; returns the answer.
fn ask(peer: &mut Raw, plain: &[u8]) -> Reason {
    let (id, frames) = peer.sealed(plain);
    peer.send(&frames);
    peer.response(id)
}

/// Returns a request that is right but for one thing.
fn request(peer: &Raw, change: impl Fn(&mut OpenRequest<'_>), destination: Address) -> Vec<u8> {
    let mut request = OpenRequest {
        forwarded: false,
        timestamp_ns: unix_time_ns(),
        source: Address::new(peer.key(), 50_000),
        destination,
        noise: &[0x55; 48],
    };
    change(&mut request);
    request.encode(peer.secret()).unwrap()
}

#[test]
fn opens_the_relay_may_not_take_are_told_why_and_the_session_goes_on() {
    let relay = Relay::with_shards(2);
    let mut peer = Raw::admitted(&relay, 0);
    let target = Raw::admitted(&relay, 1);
    let there = target.address();
    let forged = request(&peer, |request| request.source = there, there);
    assert_eq!(ask(&mut peer, &forged), Reason::NotAllowed);
    let forwarded = request(&peer, |request| request.forwarded = true, there);
    assert_eq!(ask(&mut peer, &forwarded), Reason::ForwardedTwice);
    let to_itself = request(&peer, |_| {}, Address::new(relay.key(), 36));
    assert_eq!(ask(&mut peer, &to_itself), Reason::NoListener);
    let to_nobody = request(&peer, |_| {}, Address::new(secret_of(77).public(), 80));
    assert_eq!(ask(&mut peer, &to_nobody), Reason::UnknownDestination);
    // Not an open request at all, though honestly sealed.
    assert_eq!(ask(&mut peer, &[9; 40]), Reason::ProtocolError);
    assert_eq!(relay.sum(|shard| shard.stats.opens_refused.sum()), 5);
    assert_eq!(peer.ping(1), []);
    drop((peer, target));
    relay.until_empty();
    relay.end();
}

#[tokio::test]
async fn opens_a_destination_cannot_trust_are_told_why() {
    let relay = Relay::with_shards(2);
    let target = relay.client(1).await;
    let listener = target.listen(80).unwrap();
    let there = Address::new(target.key(), 80);
    let relay = tokio::task::spawn_blocking(move || {
        let mut peer = Raw::admitted(&relay, 0);
        let mut unsigned = request(&peer, |_| {}, there);
        *unsigned.last_mut().unwrap() ^= 1;
        assert_eq!(ask(&mut peer, &unsigned), Reason::BadSignature);
        let hour_ns = 3_600_000_000_000;
        let stale = request(&peer, |request| request.timestamp_ns -= hour_ns, there);
        assert_eq!(ask(&mut peer, &stale), Reason::StaleTimestamp);
        relay
    })
    .await
    .unwrap();
    drop(listener);
    target.close().await;
    relay.until_empty();
    relay.end();
}

#[test]
fn a_destination_s_own_refusal_arrives_unchanged() {
    let relay = Relay::with_shards(2);
    let mut peer = Raw::admitted(&relay, 0);
    let mut target = Raw::admitted(&relay, 1);
    for reason in [
        Reason::RefusedByDestination,
        Reason::NoListener,
        Reason::NoRoute,
    ] {
        let open = peer.open(target.address());
        let (id, hash) = target.asked();
        let frames = target.refusal(id, hash, reason);
        target.send(&frames);
        assert_eq!(peer.response(open), reason);
    }
    relay.until("streams", 0, |shard| shard.audit.streams);
    drop((peer, target));
    relay.until_empty();
    relay.end();
}

#[test]
fn streams_beyond_the_limit_of_either_session_are_told_303() {
    let mut options = Options::shards(1);
    options.streams_max = 4;
    let relay = Relay::start(options);
    let mut target = Raw::admitted(&relay, 0);
    let mut peers: Vec<_> = (1..4).map(|number| Raw::admitted(&relay, number)).collect();
    let mut near = Vec::new();
    for peer in &mut peers[..2] {
        near.push(peer.bridge(&mut target).0);
        near.push(peer.bridge(&mut target).0);
    }
    // The destination has four.
    let open = peers[2].open(target.address());
    assert_eq!(peers[2].response(open), Reason::TooManyStreams);
    // The first dialer has two and may have two more, with itself as the other end: not the third.
    let itself = peers[0].address();
    let (asks, _) = (peers[0].open(itself), peers[0].asked());
    let open = peers[0].open(itself);
    assert_eq!(peers[0].response(open), Reason::TooManyStreams);
    // What ends makes room.
    peers[0].send_frame(Header::window_update(asks, Flags::RST, 0));
    peers[0].send_frame(Header::window_update(near[0], Flags::RST, 0));
    while target.next() != Event::Reset(2) {}
    let (last, far) = peers[2].bridge(&mut target);
    peers[2].write(last, b"room");
    target.expect(far, b"room");
    drop((target, peers));
    relay.until_empty();
    relay.end();
}

#[test]
fn a_destination_that_does_not_read_costs_its_dialers_304_and_the_relay_a_bounded_queue() {
    const OPENS: u32 = 1_000;
    let relay = Relay::with_shards(1);
    let target = Raw::admitted(&relay, 0);
    SockRef::from(target.socket())
        .set_recv_buffer_size(4_096)
        .unwrap();
    let mut peer = Raw::admitted(&relay, 1);
    let request = peer.request(target.address());
    let mut is_refused = false;
    // The kernel takes some megabytes first; each round adds a quarter of one.
    for round in 0..100 {
        let (mut opens, mut resets) = (Vec::new(), Vec::new());
        for _ in 0..OPENS {
            let (id, frames) = peer.sealed(&request);
            opens.extend_from_slice(&frames);
            resets.extend_from_slice(&Header::window_update(id, Flags::RST, 0).encode());
        }
        peer.send(&opens);
        is_refused = peer
            .ping(2 * round)
            .iter()
            .any(|event| matches!(event, Event::Response(_, Reason::RelayCapacity)));
        peer.send(&resets);
        peer.ping(2 * round + 1);
        let queued = relay.sum(|shard| shard.audit.queued_bytes);
        assert!(queued < 2_000_000, "{queued} bytes wait");
        if is_refused {
            break;
        }
    }
    assert!(is_refused, "the queue has no bound");
    assert!(relay.opens_refused(Reason::RelayCapacity) > 0);
    // Others do not notice.
    let mut other = Raw::admitted(&relay, 2);
    let (near, far) = peer.bridge(&mut other);
    peer.write(near, b"still");
    other.expect(far, b"still");
    target.kill();
    drop((peer, other));
    relay.until_empty();
    relay.end();
}

#[test]
fn a_draining_relay_says_210_to_opens_handshakes_and_at_the_end() {
    let relay = Relay::with_shards(1);
    let mut peer = Raw::admitted(&relay, 0);
    let mut target = Raw::admitted(&relay, 1);
    let (near, far) = peer.bridge(&mut target);
    let mut begun = Begun::new(&relay, 2);
    begun.send();
    let (mut late, message_3) = begun.answered();
    relay.set.drain();
    assert_eq!(peer.next(), Event::GoAway(0));
    assert_eq!(target.next(), Event::GoAway(0));
    let open = peer.open(target.address());
    assert_eq!(peer.response(open), Reason::Draining);
    late.send(&message_3);
    assert_eq!(late.verdict().reason, Reason::Draining);
    late.shut_down();
    is_reset(&mut late.into_socket());
    // The bridge that stands goes on; the sessions end with it.
    peer.write(near, b"the rest");
    target.expect(far, b"the rest");
    peer.send_frame(Header::window_update(near, Flags::FIN, 0));
    target.send_frame(Header::window_update(far, Flags::FIN, 0));
    while !matches!(target.next(), Event::Finish(_)) {}
    while !matches!(peer.next(), Event::Finish(_)) {}
    for session in [peer, target] {
        assert_eq!(session.dismissed(), u32::from(Reason::Draining.code()));
    }
    relay.until("sockets", 0, |shard| shard.audit.sockets);
    assert!(relay.snapshots().iter().all(|shard| shard.is_drained));
    relay.end();
}

#[test]
fn keys_and_roles_that_are_not_admitted_are_told_201() {
    let relay = Relay::with_shards(1);
    let own = relay.secret().clone();
    for (secret, role) in [(secret_of(1), Role::Relay), (own, Role::Peer)] {
        let mut begun = Begun::with_secret(&relay, secret, role);
        begun.send();
        let (mut raw, message_3) = begun.answered();
        raw.send(&message_3);
        assert_eq!(raw.verdict().reason, Reason::NotAllowed);
        raw.shut_down();
        is_reset(&mut raw.into_socket());
    }
    let kicked = Raw::admitted(&relay, 2);
    assert!(relay.set.kick(kicked.key(), crate::relay::DEADLINE));
    assert_eq!(kicked.dismissed(), u32::from(Reason::NotAllowed.code()));
    assert_eq!(relay.handshakes_failed(Reason::NotAllowed), 2);
    relay.until_empty();
    relay.end();
}

#[tokio::test]
async fn the_client_library_carries_the_reason_of_a_refused_session() {
    let relay = Relay::with_shards(1);
    let address = RelayAddress::new(relay.key(), relay.address());
    // The relay's own key is not admitted as a peer.
    let refused = Client::connect(relay.secret().clone(), Config::new([address])).await;
    let refusal = refused.unwrap_err().refusal().unwrap();
    assert_eq!(refusal.reason(), Some(Reason::NotAllowed));
    assert!(refusal.to_string().contains("reason 201"), "{refusal}");
    relay.until_empty();
    relay.end();
}

fn reason_of(dialled: Result<Stream, DialError>) -> Option<Reason> {
    dialled.err()?.refusal().and_then(Refusal::reason)
}

#[tokio::test]
async fn the_client_library_carries_the_reason_of_a_full_destination() {
    let mut options = Options::shards(2);
    options.streams_max = 2;
    let relay = Relay::start(options);
    let config = Config {
        backlog_max: 1,
        ..Config::new([RelayAddress::new(relay.key(), relay.address())])
    };
    let target = Client::connect(secret_of(0), config).await.unwrap();
    let (dialer, other) = (relay.client(1).await, relay.client(2).await);
    let listener = target.listen(80).unwrap();
    let there = listener.address();
    let first = dialer.dial(there).await.unwrap();
    // Nobody has accepted it, and the queue of the listener holds one.
    let dialled = dialer.dial(there).await;
    assert_eq!(reason_of(dialled), Some(Reason::RefusedByDestination));
    let accepted = listener.accept().await.unwrap();
    let (second, again) = tokio::join!(dialer.dial(there), listener.accept());
    // Now the destination has as many streams as it may.
    assert_eq!(
        reason_of(other.dial(there).await),
        Some(Reason::TooManyStreams)
    );
    drop((first, accepted, second.unwrap(), again.unwrap(), listener));
    tokio::join!(dialer.close(), other.close(), target.close());
    relay.until_empty();
    relay.end();
}

/// A name, the code of the goodbye, and what is sent.
type Nonsense = (&'static str, u32, fn(&mut Raw) -> Vec<u8>);

#[test]
fn nonsense_in_a_session_ends_it_with_its_reason_and_spares_the_others() {
    let relay = Relay::with_shards(2);
    let mut witness = Raw::admitted(&relay, 0);
    let replay: fn(&mut Raw) -> Vec<u8> = |raw| {
        let request = raw.request(Address::new(secret_of(77).public(), 80));
        let (_, first) = raw.sealed(&request);
        let mut second = first.clone();
        // The same object again, on the next stream.
        for header in [0, 12] {
            second[header + 7] = 3;
        }
        [first, second].concat()
    };
    let forged: fn(&mut Raw) -> Vec<u8> = |raw| {
        let request = raw.request(Address::new(secret_of(77).public(), 80));
        let (_, mut frames) = raw.sealed(&request);
        *frames.last_mut().unwrap() ^= 1;
        frames
    };
    // A protocol error has the code that yamux gives it.
    let cases: [Nonsense; 6] = [
        ("replay", 207, replay),
        ("forged object", 1, forged),
        ("version 9", 1, |_| vec![9; 12]),
        ("even id", 1, |_| {
            Header::window_update(2, Flags::SYN, 0).encode().to_vec()
        }),
        ("unknown stream", 1, |_| {
            Header::data(99, Flags::NONE, 0).encode().to_vec()
        }),
        ("answer instead of request", 1, |raw| {
            let response = OpenResponse::encode_refusal(
                ringway_proto::dialect::RequestHash([0; 32]),
                Reason::NoListener,
            );
            let (_, mut frames) = raw.sealed(&response);
            // The answer itself is refused; nonsense behind it ends the session.
            frames.extend_from_slice(&[0xff; 12]);
            frames
        }),
    ];
    for (number, (name, code, flight)) in (1..).zip(cases) {
        let mut peer = Raw::admitted(&relay, number);
        let flight = flight(&mut peer);
        peer.send(&flight);
        assert_eq!(peer.dismissed(), code, "{name}");
        assert_eq!(witness.ping(number), [], "{name}");
    }
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::Replay)),
        1
    );
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::ProtocolError)),
        5
    );
    drop(witness);
    relay.until_empty();
    relay.end();
}
