//! Clients behind a proxy that says in a header where they come from.

use ::core::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringway_proto::dmsg::handshake::Initiator;
use ringway_proto::dmsg::open::StreamResponse;
use ringway_proto::frame::{Flags, Header};
use ringway_proto::limits::HANDSHAKE_TIMEOUT;
use ringway_proto::reason::Reason;

use super::super::harness::{Harness, dmsg_identity};
use super::client::{Client, relay};
use crate::core::{Prefix, Proxies, RecvEnd};

/// The one proxy that is listed.
const PROXY: [u8; 4] = [192, 0, 2, 1];
const STRANGER: [u8; 4] = [192, 0, 2, 2];
/// Whom the proxy speaks for.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const LINE: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 8081\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn harness() -> Harness {
    harness_with(50)
}

/// A relay with one shard, and so many handshakes for each source.
fn harness_with(handshakes_source_max: u32) -> Harness {
    Harness::with(1, |config| {
        config.dmsg_key = Some(relay());
        config.proxies = Proxies::Listed(vec![Prefix::new(PROXY.into(), 32).unwrap()]);
        config.admission.handshakes_source_max = handshakes_source_max;
    })
}

/// A header of version 2.
fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// One that names the client with this last byte of its address.
fn block_of(client: u8) -> Vec<u8> {
    let body = [203, 0, 113, client, 192, 0, 2, 1, 0x9c, 0x40, 0x1f, 0x91];
    block(0x21, 0x11, &body)
}

fn message_1() -> Vec<u8> {
    let begun = Initiator::new(&dmsg_identity(1), &relay(), [9; 32]);
    begun.unwrap().1
}

fn failed(harness: &Harness, reason: Reason) -> u64 {
    harness.cores[0].stats().handshakes_failed.of(reason)
}

/// Returns what the relay tells a client of its address.
fn told_address(harness: &mut Harness, client: &mut Client) -> Option<IpAddr> {
    let request = client.lookup(relay());
    client.start(harness, 1, &request);
    let frames = client.frames(harness);
    let response = client.unseal(&frames[1].payload);
    StreamResponse::decode(&response).unwrap().ip
}

#[test]
fn client_is_told_the_address_that_its_proxy_names() {
    let ipv6: IpAddr = "2001:db8::7".parse().unwrap();
    let body = [ipv6_bytes(ipv6).as_slice(), &[1; 16], &[1, 2, 3, 4]].concat();
    let fields = [
        &[203, 0, 113, 7, 1, 2, 3, 4, 5, 6, 7, 8][..],
        &[4, 1, 244],
        &[0; 500],
    ]
    .concat();
    let headers = [
        (LINE.to_vec(), CLIENT),
        (block_of(7), CLIENT),
        (block(0x21, 0x11, &fields), CLIENT),
        (block(0x21, 0x21, &body), ipv6),
    ];
    for (header, address) in headers {
        for piece_max in [1, 5, usize::MAX] {
            let mut harness = harness();
            harness.piece_max = piece_max;
            let wire = harness.connect_dmsg(0, PROXY);
            let mut client = Client::join_on(&mut harness, 1, wire, [&header, &[]]);
            assert_eq!(told_address(&mut harness, &mut client), Some(address));
            harness.assert_clean();
        }
    }
}

fn ipv6_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[test]
fn header_may_come_long_before_the_handshake_and_frames_right_behind_it() {
    let mut harness = harness();
    let wire = harness.connect_dmsg(0, PROXY);
    harness.inject(wire, LINE);
    harness.pass(Duration::from_secs(3));
    let syn = Header::window_update(1, Flags::SYN, 0).encode();
    let client = Client::join_on(&mut harness, 1, wire, [&[], &syn]);
    let acknowledged = Header::window_update(1, Flags::ACK, 0);
    assert_eq!(client.headers(&mut harness), [acknowledged]);
    harness.assert_clean();
}

#[test]
fn without_an_address_in_a_header_or_a_header_the_socket_counts() {
    let own = block(0x20, 0, &[]);
    for header in [&b"PROXY UNKNOWN\r\n"[..], &own, &[]] {
        let mut harness = harness();
        let wire = harness.connect_dmsg(0, PROXY);
        let mut client = Client::join_on(&mut harness, 1, wire, [header, &[]]);
        let told = told_address(&mut harness, &mut client);
        assert_eq!(told, Some(PROXY.into()));
        harness.assert_clean();
    }
}

#[test]
fn header_of_a_stranger_is_a_bad_handshake_at_its_signature() {
    let block = block_of(7);
    for (header, signature) in [(LINE, 6), (&block[..], SIGNATURE.len())] {
        let mut harness = harness();
        let wire = harness.connect_dmsg(0, STRANGER);
        harness.inject(wire, &header[..signature - 1]);
        harness.run();
        assert!(!harness.wires[wire].is_closed);
        harness.inject(wire, &header[signature - 1..signature]);
        harness.run();
        assert!(harness.wires[wire].is_closed);
        assert_eq!(failed(&harness, Reason::BadHandshake), 1);
        // All at once, with what would have been a handshake behind it.
        let wire = harness.connect_dmsg(0, STRANGER);
        harness.inject(wire, &[header, &message_1()].concat());
        harness.run();
        assert!(harness.wires[wire].is_closed);
        assert_eq!(failed(&harness, Reason::BadHandshake), 2);
        harness.assert_clean();
    }
}

#[test]
fn native_listener_knows_no_headers() {
    let mut harness = harness();
    let wire = harness.connect_from(0, PROXY);
    harness.inject(wire, LINE);
    harness.run();
    assert!(harness.wires[wire].is_closed);
    assert_eq!(failed(&harness, Reason::BadHandshake), 1);
    harness.assert_clean();
}

#[test]
fn header_that_is_none_is_a_bad_handshake() {
    let long = block(0x21, 0x11, &[0; 521]);
    let datagram = block(0x21, 0x12, &[0; 12]);
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
    for header in [
        &b"PROXY TCP4 203.0.113.7 192.0.2.1 40000\r\n"[..],
        &long[..16],
        &datagram[..16],
        &endless,
    ] {
        for piece_max in [1, usize::MAX] {
            let mut harness = harness();
            harness.piece_max = piece_max;
            let wire = harness.connect_dmsg(0, PROXY);
            harness.inject(wire, header);
            harness.run();
            assert!(harness.wires[wire].is_closed);
            assert_eq!(failed(&harness, Reason::BadHandshake), 1);
            harness.assert_clean();
        }
    }
}

#[test]
fn second_header_is_a_bad_handshake() {
    let mut harness = harness();
    let wire = harness.connect_dmsg(0, PROXY);
    harness.inject(wire, &[LINE, LINE].concat());
    harness.run();
    assert!(harness.wires[wire].is_closed);
    assert_eq!(failed(&harness, Reason::BadHandshake), 1);
    harness.assert_clean();
}

#[test]
fn time_of_a_header_is_part_of_the_handshakes() {
    let mut harness = harness();
    let [part, whole] = [0; 2].map(|_| harness.connect_dmsg(0, PROXY));
    harness.inject(part, &LINE[..20]);
    harness.pass(HANDSHAKE_TIMEOUT - Duration::from_secs(1));
    harness.inject(whole, LINE);
    harness.run();
    assert!(!harness.wires[part].is_closed && !harness.wires[whole].is_closed);
    harness.pass(Duration::from_secs(2));
    assert!(harness.wires[part].is_closed && harness.wires[whole].is_closed);
    assert_eq!(failed(&harness, Reason::HandshakeTimeout), 2);
    assert_eq!(harness.cores[0].audit().sources, 0);
    harness.assert_clean();
}

#[test]
fn connection_that_ends_in_its_header_leaves_nothing() {
    for end in [0, 1, 6, LINE.len()] {
        let mut harness = harness();
        let wire = harness.connect_dmsg(0, PROXY);
        harness.inject(wire, &LINE[..end]);
        harness.run();
        harness.end(wire, RecvEnd::Eof);
        let audit = harness.cores[0].audit();
        assert_eq!((audit.handshakes, audit.sources), (0, 0), "{end}");
        harness.assert_clean();
    }
}

#[test]
fn handshakes_behind_a_proxy_count_for_their_clients() {
    let mut harness = harness_with(2);
    let connect = |harness: &mut Harness, client: u8| {
        let wire = harness.connect_dmsg(0, PROXY);
        harness.inject(wire, &block_of(client));
        harness.run();
        wire
    };
    // More than the proxy itself might have, and two sources.
    let wires = [1, 1, 2, 2].map(|client| connect(&mut harness, client));
    assert!(wires.iter().all(|wire| !harness.wires[*wire].is_closed));
    assert_eq!(harness.cores[0].audit().sources, 2);
    // A client has its share and no more; others have theirs, among them those who come by themselves.
    let refused = connect(&mut harness, 1);
    assert!(harness.wires[refused].is_closed);
    assert_eq!(failed(&harness, Reason::TooManyHandshakes), 1);
    let other = connect(&mut harness, 3);
    let direct = harness.connect_dmsg(0, [203, 0, 113, 3]);
    harness.run();
    assert!(!harness.wires[other].is_closed && !harness.wires[direct].is_closed);
    assert_eq!(harness.cores[0].audit().sources, 3);
    let refused = harness.connect_dmsg(0, [203, 0, 113, 3]);
    harness.run();
    assert!(harness.wires[refused].is_closed);
    harness.pass(HANDSHAKE_TIMEOUT + Duration::from_secs(1));
    assert_eq!(harness.cores[0].audit().sources, 0);
    harness.assert_clean();
}

#[test]
fn proxy_at_its_own_limit_may_name_itself() {
    let mut harness = harness_with(2);
    let own = block(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 9, 1, 2, 3, 4]);
    let wires = [0; 2].map(|_| harness.connect_dmsg(0, PROXY));
    for wire in wires {
        harness.inject(wire, &own);
        harness.run();
        assert!(!harness.wires[wire].is_closed);
    }
    assert_eq!(harness.cores[0].audit().sources, 1);
    harness.assert_clean();
}

/// A message of 3,338 bytes begins as a header of version 2 does, and is told from one by its third byte.
#[test]
fn message_with_the_length_of_a_signature_is_none() {
    let mut harness = harness();
    harness.piece_max = 1;
    let wire = harness.connect_dmsg(0, STRANGER);
    let message = [&[0x0d, 0x0a, 0x02][..], &[7; 3_337]].concat();
    let (most, last) = message.split_at(message.len() - 1);
    harness.inject(wire, most);
    harness.run();
    assert!(!harness.wires[wire].is_closed);
    harness.inject(wire, last);
    harness.run();
    assert!(harness.wires[wire].is_closed);
    assert_eq!(failed(&harness, Reason::BadHandshake), 1);
    harness.assert_clean();
}
