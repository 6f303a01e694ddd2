//! Links with servers of the dmsg dialect: this relay's own and theirs.

use ::core::net::SocketAddr;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::{Identities, Responder};
use ringway_proto::dmsg::open::{PeerAnnounce, StreamRequest, StreamResponse};
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::handshake::{Offer, RelayIdentity};
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{Opener, Sealer};

use super::super::harness::{Harness, dmsg_identity};
use super::client::{Client, Frame, public, relay, secret};
use crate::core::{AllowedRelays, ConnectFault, LookedUp, RelayAddress, Slot};

/// The server by hand has the key made from this byte.
const SERVER: u8 = 150;

/// A server that this relay has a link with, driven by hand.
struct Server {
    place: (usize, Slot),
    sealer: Sealer,
    opener: Opener,
}

impl Server {
    /// Answers the dial and the handshake of the harness's relay.
    fn answer(harness: &mut Harness) -> Self {
        harness.pass(Duration::from_secs(1));
        let connect = harness.connects.pop_front().expect("the relay dials");
        let slot = harness.stand(connect);
        let place = (connect.shard, slot);
        harness.run();
        let first = std::mem::take(&mut harness.far.get_mut(&place).unwrap().out);
        let offer = Offer {
            capabilities: 0,
            streams_max: 1,
            stream_window: 65_536,
            keepalive_s: 30,
        };
        let native = RelayIdentity::new(&super::super::harness::secret(1));
        let identities = Identities::new(native, Some(dmsg_identity(SERVER)));
        let begun = Responder::begin(Dialect::Dmsg, &identities, offer, [9; 32], &first[2..]);
        let (responder, second) = begun.unwrap();
        harness.inject_far(place, &second);
        harness.run();
        let mut out = std::mem::take(&mut harness.far.get_mut(&place).unwrap().out);
        let behind = out.split_off(2 + usize::from(u16::from_be_bytes([out[0], out[1]])));
        let established = responder.message_3(&out[2..]).unwrap();
        assert_eq!(established.key, relay());
        harness.far.get_mut(&place).unwrap().out = behind;
        Self {
            place,
            sealer: established.sealer,
            opener: established.opener,
        }
    }

    fn frames(&self, harness: &mut Harness) -> Vec<Frame> {
        let out = std::mem::take(&mut harness.far.get_mut(&self.place).unwrap().out);
        let mut rest = out.as_slice();
        let mut frames = Vec::new();
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let is_data = header.kind == FrameKind::Data;
            let length = if is_data { header.length as usize } else { 0 };
            frames.push(Frame {
                header,
                payload: behind[..length].to_vec(),
            });
            rest = &behind[length..];
        }
        frames
    }

    fn send(&self, harness: &mut Harness, header: Header, payload: &[u8]) {
        let frame = [&header.encode()[..], payload].concat();
        harness.inject_far(self.place, &frame);
        harness.run();
    }

    fn send_object(&mut self, harness: &mut Harness, id: u32, plain: &[u8]) {
        let mut object = Vec::new();
        self.sealer.seal(plain, &mut object).unwrap();
        let length = u32::try_from(object.len()).unwrap();
        self.send(harness, Header::data(id, Flags::NONE, length), &object);
    }

    fn unseal(&mut self, object: &[u8]) -> Vec<u8> {
        let mut object = object.to_vec();
        self.opener.open(&mut object[2..]).unwrap().to_vec()
    }
}

fn linked(shards: u16, announcement: Option<Vec<u8>>) -> Harness {
    Harness::with(shards, |config| {
        config.dmsg_key = Some(relay());
        config.mesh.announcement = announcement.clone();
        config.mesh.relays = vec![RelayAddress {
            key: public(SERVER),
            address: SocketAddr::from(([192, 0, 2, 9], 8081)),
        }];
    })
}

fn count(harness: &Harness, of: impl Fn(&crate::core::CoreStats) -> u64) -> u64 {
    harness.cores.iter().map(|core| of(core.stats())).sum()
}

#[test]
fn open_for_a_client_of_a_server_is_forwarded_as_it_was_signed() {
    for shards in [1, 3] {
        let mut harness = linked(shards, None);
        let mut server = Server::answer(&mut harness);
        assert_eq!(
            count(&harness, |s| s.links_current),
            1,
            "one for all shards"
        );
        assert_eq!(harness.connects.len(), 0);
        for shard in 0..usize::from(shards) {
            let byte = 1 + u8::try_from(shard).unwrap();
            let mut a = Client::join(&mut harness, byte, shard);
            let request = a.open(&mut harness, 1, public(77), 80);
            let frames = server.frames(&mut harness);
            let id = frames[0].header.stream_id;
            assert!(id % 2 == 1, "the side that has begun the link has odd ids");
            assert_eq!(server.unseal(&frames[1].payload), request);
            server.send(&mut harness, Header::window_update(id, Flags::ACK, 0), &[]);
            let response = StreamResponse::accept(StreamRequest::hash(&request), &[5; 49]);
            let response = response.encode(&secret(77)).unwrap();
            server.send_object(&mut harness, id, &response);
            let answer = a.frames(&mut harness);
            assert_eq!(a.unseal(&answer[1].payload), response);
            a.data(&mut harness, 1, b"over the link");
            assert_eq!(server.frames(&mut harness)[0].payload, b"over the link");
            server.send(&mut harness, Header::data(id, Flags::NONE, 4), b"back");
            assert_eq!(a.payload(&mut harness, 1), b"back");
        }
        harness.assert_clean();
    }
}

#[test]
fn server_without_the_client_is_not_asked_again_at_once() {
    let mut harness = linked(1, None);
    let server = Server::answer(&mut harness);
    let mut a = Client::join(&mut harness, 1, 0);
    a.open(&mut harness, 1, public(77), 80);
    let id = server.frames(&mut harness)[0].header.stream_id;
    server.send(&mut harness, Header::window_update(id, Flags::RST, 0), &[]);
    let reset = Header::window_update(1, Flags::RST, 0);
    assert_eq!(a.headers(&mut harness)[1], reset);
    server.frames(&mut harness);
    a.open(&mut harness, 3, public(77), 80);
    assert_eq!(server.frames(&mut harness).len(), 0);
    assert_eq!(count(&harness, |s| s.forwards_spared), 1);
    harness.pass(Duration::from_secs(6));
    server.frames(&mut harness);
    a.open(&mut harness, 5, public(77), 80);
    let id = server.frames(&mut harness)[0].header.stream_id;
    // The client itself has refused: it may listen on another port.
    server.send(&mut harness, Header::window_update(id, Flags::FIN, 0), &[]);
    a.open(&mut harness, 7, public(77), 81);
    let is_open = |frame: &Frame| frame.header.flags == Flags::SYN;
    assert!(server.frames(&mut harness).iter().any(is_open));
    harness.assert_clean();
}

#[test]
fn request_over_a_link_reaches_a_client_here_and_goes_no_further() {
    let mut harness = linked(2, None);
    let mut server = Server::answer(&mut harness);
    let mut b = Client::join(&mut harness, 2, 1);
    let stranger = Client::join(&mut harness, 3, 0);
    let request = stranger.signed(public(2), 80);
    server.send(&mut harness, Header::window_update(2, Flags::SYN, 0), &[]);
    server.send_object(&mut harness, 2, &request);
    let asked = b.frames(&mut harness);
    assert_eq!(b.unseal(&asked[1].payload), request);
    // Nobody here, and a server asks once.
    let elsewhere = stranger.signed(public(88), 80);
    server.send(&mut harness, Header::window_update(4, Flags::SYN, 0), &[]);
    server.frames(&mut harness);
    server.send_object(&mut harness, 4, &elsewhere);
    let reset = Header::window_update(4, Flags::RST, 0);
    assert_eq!(server.frames(&mut harness)[0].header, reset);
    assert_eq!(
        count(&harness, |s| s.opens_refused.of(Reason::ForwardedTwice)),
        1
    );
    // The client refuses, which is another word.
    b.send(&mut harness, Header::window_update(2, Flags::RST, 0), &[]);
    let end = Header::window_update(2, Flags::FIN, 0);
    assert!(
        server
            .frames(&mut harness)
            .iter()
            .any(|frame| frame.header == end)
    );
    // A forged one.
    let mut forged = request;
    forged[9] ^= 1;
    server.send(&mut harness, Header::window_update(6, Flags::SYN, 0), &[]);
    server.send_object(&mut harness, 6, &forged);
    assert_eq!(
        count(&harness, |s| s.opens_refused.of(Reason::BadSignature)),
        1
    );
    harness.assert_clean();
}

#[test]
fn dead_link_is_noticed_and_made_anew() {
    let mut harness = linked(1, None);
    let server = Server::answer(&mut harness);
    let (shard, slot) = server.place;
    let now = harness.now;
    harness.cores[shard].receive_ended(slot, crate::core::RecvEnd::Error(104), now);
    harness.run();
    assert_eq!(count(&harness, |s| s.links_current), 0);
    let server = Server::answer(&mut harness);
    let mut a = Client::join(&mut harness, 1, 0);
    a.open(&mut harness, 1, public(77), 80);
    assert_eq!(server.frames(&mut harness).len(), 2);
    // A silent one is, too.
    harness.pass(Duration::from_secs(60));
    assert_eq!(count(&harness, |s| s.links_closed.of(Reason::Idle)), 1);
    // It dials again; nobody is there any more.
    assert!(!harness.connects.is_empty());
    for connect in std::mem::take(&mut harness.connects) {
        harness.cores[0].connect_failed(connect.dial, ConnectFault::Peer(111), harness.now);
    }
    harness.assert_clean();
}

#[test]
fn discovery_says_which_server_to_ask() {
    let mut harness = Harness::with(1, |config| {
        config.dmsg_key = Some(relay());
        config.mesh.has_discovery = true;
    });
    let wanted = RelayAddress {
        key: public(SERVER),
        address: SocketAddr::from(([192, 0, 2, 9], 8081)),
    };
    let now = harness.now;
    harness.cores[0].want_relays(Dialect::Dmsg, &[wanted], now);
    let server = Server::answer(&mut harness);
    let mut a = Client::join(&mut harness, 1, 0);
    a.open(&mut harness, 1, public(77), 80);
    let (_, lookup) = harness.lookups.pop().unwrap();
    assert_eq!(lookup.key, public(77));
    harness.cores[0].looked_up(lookup, LookedUp::At(public(SERVER)), now);
    harness.run();
    let id = server.frames(&mut harness)[0].header.stream_id;
    // It is not there any more: the discovery is to be asked again.
    server.send(&mut harness, Header::window_update(id, Flags::RST, 0), &[]);
    assert_eq!(harness.doubts, [public(77)]);
    a.open(&mut harness, 3, public(78), 80);
    let (_, lookup) = harness.lookups.pop().unwrap();
    harness.cores[0].looked_up(lookup, LookedUp::Nowhere, now);
    harness.run();
    let reset = Header::window_update(3, Flags::RST, 0);
    assert!(a.headers(&mut harness).contains(&reset));
    harness.assert_clean();
}

fn announcement(byte: u8, source: PublicKey) -> Vec<u8> {
    let announcement = PeerAnnounce {
        timestamp_ns: 1_700_000_000_000_000_000,
        source,
    };
    announcement.encode(&secret(byte)).unwrap()
}

#[test]
fn server_that_announces_itself_is_given_requests_for_its_clients() {
    let mut harness = Harness::with(2, |config| {
        config.dmsg_key = Some(relay());
        config.mesh.announcing = AllowedRelays::Listed([public(SERVER)].into());
    });
    let mut server = Client::join(&mut harness, SERVER, 0);
    server.start(&mut harness, 1, &announcement(SERVER, public(SERVER)));
    let frames = server.frames(&mut harness);
    let response = server.unseal(&frames[1].payload);
    assert!(StreamResponse::verify(&response, &relay()).is_ok());
    assert!(StreamResponse::decode(&response).unwrap().is_accepted);
    assert_eq!(count(&harness, |s| s.links_current), 1);
    // It speaks for others now.
    let b = Client::join(&mut harness, 2, 1);
    let stranger = Client::join(&mut harness, 3, 0);
    server.start(&mut harness, 3, &stranger.signed(public(2), 80));
    assert_eq!(b.headers(&mut harness).len(), 2);
    harness.assert_clean();
}

#[test]
fn nobody_else_becomes_a_server() {
    let mut harness = Harness::with(1, |config| {
        config.dmsg_key = Some(relay());
        config.mesh.announcing = AllowedRelays::Listed([public(SERVER)].into());
    });
    let mut client = Client::join(&mut harness, 1, 0);
    // Not listed; of another key; not signed by it.
    client.start(&mut harness, 1, &announcement(1, public(1)));
    client.start(&mut harness, 3, &announcement(1, public(SERVER)));
    let mut server = Client::join(&mut harness, SERVER, 0);
    server.start(&mut harness, 1, &announcement(1, public(SERVER)));
    let refused = |reason| count(&harness, |s| s.opens_refused.of(reason));
    assert_eq!(refused(Reason::NotAllowed), 2);
    assert_eq!(refused(Reason::BadSignature), 1);
    assert_eq!(count(&harness, |s| s.links_current), 0);
    harness.assert_clean();
}

#[test]
fn relay_announces_itself_on_the_first_stream_of_a_link() {
    let own = announcement(200, relay());
    let mut harness = linked(1, Some(own.clone()));
    let mut server = Server::answer(&mut harness);
    let frames = server.frames(&mut harness);
    assert_eq!(frames[0].header, Header::window_update(1, Flags::SYN, 0));
    assert_eq!(server.unseal(&frames[1].payload), own);
    server.send(&mut harness, Header::window_update(1, Flags::ACK, 0), &[]);
    let response = StreamResponse::accept(StreamRequest::hash(&own), &[]);
    let response = response.encode(&secret(SERVER)).unwrap();
    server.send_object(&mut harness, 1, &response);
    let end = Header::window_update(1, Flags::FIN, 0);
    assert_eq!(server.frames(&mut harness)[0].header, end);
    assert_eq!(count(&harness, |s| s.streams_current), 0);
    harness.assert_clean();
}

#[test]
fn server_that_was_unknown_when_it_came_speaks_for_others_once_it_is_known() {
    let mut harness = Harness::with(1, |config| config.dmsg_key = Some(relay()));
    let mut server = Client::join(&mut harness, SERVER, 0);
    let b = Client::join(&mut harness, 2, 0);
    let stranger = Client::join(&mut harness, 3, 0);
    let request = stranger.signed(public(2), 80);
    server.start(&mut harness, 1, &request);
    assert_eq!(
        count(&harness, |s| s.opens_refused.of(Reason::NotAllowed)),
        1
    );
    let wanted = RelayAddress {
        key: public(SERVER),
        address: SocketAddr::from(([192, 0, 2, 9], 8081)),
    };
    let now = harness.now;
    harness.cores[0].want_relays(Dialect::Dmsg, &[wanted], now);
    server.start(&mut harness, 3, &request);
    assert_eq!(b.headers(&mut harness).len(), 2);
    assert_eq!(count(&harness, |s| s.links_current), 1);
    harness.assert_clean();
}
