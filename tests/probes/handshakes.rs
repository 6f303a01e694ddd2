//! Handshakes that are nonsense, late, interrupted, or that come with everything else behind them.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use ringway_client::Address;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::limits::{HANDSHAKE_TIMEOUT, PIPELINED_MAX};
use ringway_proto::reason::Reason;
use socket2::{Domain, Socket, Type};

use crate::raw::{Begun, Event, Raw, connect, is_reset};
use crate::relay::{Options, Relay, secret_of};

/// Points of small order, with the all-zero one: whoever sends them knows the shared secret.
/// Source: <https://cr.yp.to/ecdh.html#validate>.
const SMALL_ORDER: [[u8; 32]; 4] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

/// A byte through the relay, as a proof that it serves.
fn serves(relay: &Relay) {
    let mut first = Raw::admitted(relay, 900);
    let mut second = Raw::admitted(relay, 901);
    let (near, far) = first.bridge(&mut second);
    first.write(near, b"well");
    second.expect(far, b"well");
}

fn prefixed(length: u16, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], body].concat()
}

/// First flights that are no message 1.
fn garbage(relay: &Relay) -> Vec<Vec<u8>> {
    let good = Begun::new(relay, 1).message_1;
    let mut flights = vec![
        vec![0xff; 55],
        prefixed(53, &[0; 53]),
        prefixed(53, &[0xff; 53]),
    ];
    for point in SMALL_ORDER {
        let mut flight = good.clone();
        flight[2..34].copy_from_slice(&point);
        flights.push(flight);
    }
    for length in [0, 1, 47, 1_024, 1_025, u16::MAX] {
        flights.push(prefixed(length, &vec![0x42; usize::from(length)]));
    }
    for (position, bit) in [(2, 1), (33, 0x40), (34, 1), (54, 0x80)] {
        let mut flight = good.clone();
        flight[position] ^= bit;
        flights.push(flight);
    }
    flights
}

#[test]
fn garbage_instead_of_message_1_is_reset_and_counted_and_hurts_nobody() {
    let relay = Relay::with_shards(1);
    let flights = garbage(&relay);
    for (flight, count) in flights.iter().zip(1..) {
        let mut socket = connect(relay.address());
        // The relay may have closed before the last of a long flight was written.
        if let Err(error) = socket.write_all(flight) {
            assert!(matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ));
        }
        relay.until("failed handshakes", count, |shard| {
            shard.stats.handshakes_failed.of(Reason::BadHandshake)
        });
        let start = flight.get(..8);
        assert!(is_reset(&mut socket), "{start:02x?}");
    }
    let failed = relay.sum(|shard| shard.stats.handshakes_failed.sum());
    assert_eq!(failed, u64::try_from(flights.len()).unwrap());
    relay.until_empty();
    serves(&relay);
    relay.end();
}

#[test]
fn a_bit_flipped_anywhere_in_message_3_is_reset_and_counted() {
    let relay = Relay::with_shards(1);
    let mut count = 0;
    for position in (2..).step_by(3) {
        let mut begun = Begun::new(&relay, 2);
        begun.send();
        let (mut raw, mut message_3) = begun.answered();
        let Some(byte) = message_3.get_mut(position) else {
            break;
        };
        *byte ^= 1 << (position % 8);
        raw.send(&message_3);
        assert!(is_reset(&mut raw.into_socket()), "byte {position}");
        count += 1;
    }
    assert!(count > 30, "message 3 has some hundred bytes");
    assert_eq!(relay.handshakes_failed(Reason::BadHandshake), count);
    assert_eq!(relay.sum(|shard| shard.stats.sessions_opened), 0);
    serves(&relay);
    relay.end();
}

#[test]
fn connections_that_do_not_end_their_handshake_are_closed_and_counted() {
    let mut options = Options::shards(1);
    options.timeouts.handshake = HANDSHAKE_TIMEOUT;
    let relay = Relay::start(options);
    let silent = connect(relay.address());
    let mut begun = Begun::new(&relay, 3);
    begun.socket.write_all(&begun.message_1[..40]).unwrap();
    let mut greeted = Begun::new(&relay, 4);
    greeted.send();
    let (mut dripping, message_3) = greeted.answered();
    dripping.send(&message_3[..message_3.len() - 1]);
    for mut socket in [silent, begun.socket, dripping.into_socket()] {
        assert!(is_reset(&mut socket));
    }
    assert_eq!(relay.handshakes_failed(Reason::HandshakeTimeout), 3);
    relay.until_empty();
    serves(&relay);
    relay.end();
}

/// Sends message 3 with `flight` right behind it, in pieces of `piece` bytes.
fn pipelined(relay: &Relay, number: u32, piece: usize, flight: fn(&mut Raw) -> Vec<u8>) -> Raw {
    let mut begun = Begun::new(relay, number);
    begun.send();
    let (mut raw, mut bytes) = begun.answered();
    bytes.extend_from_slice(&flight(&mut raw));
    for part in bytes.chunks(piece) {
        raw.send(part);
    }
    assert_eq!(raw.verdict().reason, Reason::Accepted);
    raw
}

#[test]
fn a_hundred_of_a_hundred_peers_that_speak_before_the_verdict_are_served() {
    let relay = Relay::with_shards(2);
    let mut target = Raw::admitted(&relay, 0);
    for number in 1..=100 {
        // All at once, in two parts, or byte by byte.
        let piece = [usize::MAX, 150, 1][usize::try_from(number % 3).unwrap()];
        let mut peer = pipelined(&relay, number, piece, |raw| {
            let request = raw.request(Address::new(secret_of(0).public(), 80));
            let (_, mut frames) = raw.sealed(&request);
            frames.extend_from_slice(&Header::ping(Flags::SYN, 99).encode());
            frames
        });
        let far = target.accept();
        let (mut is_answered, mut is_opened) = (false, false);
        while !is_answered || !is_opened {
            match peer.next() {
                Event::Pong(99) => is_answered = true,
                Event::Response(1, Reason::Accepted) => is_opened = true,
                event => panic!("{event:?}"),
            }
        }
        peer.write(1, b"early bird");
        target.expect(far, b"early bird");
    }
    relay.check_books();
    drop(target);
    relay.until_empty();
    relay.end();
}

#[test]
fn a_full_flight_behind_message_3_is_kept_to_the_last_byte() {
    let relay = Relay::with_shards(1);
    let mut peer = pipelined(&relay, 1, usize::MAX, |raw| {
        let request = raw.request(Address::new(secret_of(77).public(), 80));
        let mut flight = Vec::new();
        loop {
            let (_, frames) = raw.sealed(&request);
            if flight.len() + frames.len() > PIPELINED_MAX {
                return flight;
            }
            flight.extend_from_slice(&frames);
        }
    });
    // 24 bytes of headers, 26 of sealing, 82 + 48 + 64 of request.
    let opens = u32::try_from(PIPELINED_MAX / (24 + 26 + 194)).unwrap();
    for open in 0..opens {
        assert_eq!(peer.response(1 + 2 * open), Reason::UnknownDestination);
    }
    drop(peer);
    relay.until_empty();
    relay.end();
}

#[test]
fn a_crowd_that_never_finishes_makes_room_for_the_newest_and_holds_up_nobody() {
    const HANDSHAKES: u32 = 64;
    let mut options = Options::shards(1);
    options.admission.handshakes_max = HANDSHAKES;
    options.timeouts.handshake = Duration::from_secs(3_600);
    let relay = Relay::start(options);
    let mut first = Raw::admitted(&relay, 0);
    let mut second = Raw::admitted(&relay, 1);
    let greeted: Vec<_> = (2..2 + HANDSHAKES)
        .map(|number| {
            let mut begun = Begun::new(&relay, number);
            begun.send();
            begun.answered().0
        })
        .collect();
    relay.until("handshakes", u64::from(HANDSHAKES), |shard| {
        shard.audit.handshakes
    });
    // As many again take the places of those that have waited longest, not those of sessions.
    let silent: Vec<_> = (0..HANDSHAKES).map(|_| connect(relay.address())).collect();
    for raw in greeted {
        assert!(is_reset(&mut raw.into_socket()));
    }
    for _ in 0..50 {
        let (near, far) = first.bridge(&mut second);
        first.write(near, b"through");
        second.expect(far, b"through");
    }
    // Who talks gets in, though every place is taken.
    let mut third = Raw::admitted(&relay, 100);
    assert_eq!(third.ping(3), []);
    assert_eq!(
        relay.handshakes_failed(Reason::TooManyHandshakes),
        u64::from(HANDSHAKES) + 1
    );
    drop((silent, first, second, third));
    relay.until_empty();
    relay.end();
}

#[test]
fn one_source_can_not_take_every_handshake() {
    let mut options = Options::shards(1);
    options.admission.handshakes_source_max = 8;
    options.timeouts.handshake = Duration::from_secs(3_600);
    let relay = Relay::start(options);
    let silent: Vec<_> = (0..8).map(|_| connect(relay.address())).collect();
    relay.until("handshakes", 8, |shard| shard.audit.handshakes);
    assert!(is_reset(&mut connect(relay.address())));
    assert_eq!(relay.handshakes_failed(Reason::TooManyHandshakes), 1);
    // Another address of the loopback net is another source.
    let elsewhere = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source: SocketAddr = "127.0.0.2:0".parse().unwrap();
    elsewhere.bind(&source.into()).unwrap();
    elsewhere.connect(&relay.address().into()).unwrap();
    relay.until("handshakes", 9, |shard| shard.audit.handshakes);
    drop(silent);
    relay.until("handshakes", 1, |shard| shard.audit.handshakes);
    serves(&relay);
    drop(elsewhere);
    relay.until_empty();
    relay.end();
}

#[test]
fn opens_overtake_a_thousand_handshakes_that_wait_for_their_cryptography() {
    let relay = Relay::with_shards(1);
    let mut peer = Raw::admitted(&relay, 0);
    // Which thread runs when is the kernel's choice, so one round may show nothing; if opens stood
    // behind handshakes, no round ever would.
    let has_overtaken = (0..10).any(|round| {
        let mut crowd: Vec<_> = (0..1_000)
            .map(|number| Begun::new(&relay, 1_000 * (round + 1) + number))
            .collect();
        for begun in &mut crowd {
            begun.send();
        }
        let last = crowd.last().unwrap().socket.try_clone().unwrap();
        last.set_nonblocking(true).unwrap();
        let open = peer.open(Address::new(secret_of(77).public(), 80));
        assert_eq!(peer.response(open), Reason::UnknownDestination);
        // The answer to the last message 1 has not come yet.
        let overtook = last.peek(&mut [0]).is_err();
        last.set_nonblocking(false).unwrap();
        drop((last, crowd));
        relay.until("sessions and sockets", 2, |shard| {
            shard.audit.sessions + shard.audit.sockets
        });
        overtook
    });
    assert!(has_overtaken);
    drop(peer);
    relay.until_empty();
    relay.end();
}
