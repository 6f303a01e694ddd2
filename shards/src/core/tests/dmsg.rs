//! Clients of the dmsg dialect, driven by hand as a Go client behaves.

mod client;
mod links;
mod proxied;

use std::time::Duration;

use ringway_proto::dmsg::open::StreamResponse;
use ringway_proto::frame::{Flags, FrameKind, Header};
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;

use self::client::{Client, public, relay};
use super::harness::Harness;
use crate::core::RecvEnd;
use crate::core::forward::OWN_CHECKS_TURN;

fn harness(shards: u16) -> Harness {
    Harness::with(shards, |config| config.dmsg_key = Some(relay()))
}

/// Two clients with one bridge between them; its stream has id 1 at the first and 2 at the second.
fn bridged(harness: &mut Harness, first: usize, second: usize) -> (Client, Client) {
    let mut a = Client::join(harness, 1, first);
    let mut b = Client::join(harness, 2, second);
    let request = a.open(harness, 1, public(2), 80);
    let asked = b.frames(harness);
    assert_eq!(asked[0].header, Header::window_update(2, Flags::SYN, 0));
    assert_eq!(
        b.unseal(&asked[1].payload),
        request,
        "as the opener signed it"
    );
    b.send(harness, Header::window_update(2, Flags::ACK, 0), &[]);
    b.answer(harness, 2, &request, true);
    let answer = a.frames(harness);
    assert_eq!(answer[0].header, Header::window_update(1, Flags::ACK, 0));
    let response = a.unseal(&answer[1].payload);
    assert!(StreamResponse::decode(&response).unwrap().is_accepted);
    assert!(StreamResponse::verify(&response, &public(2)).is_ok());
    (a, b)
}

fn opens_refused(harness: &Harness, reason: Reason) -> u64 {
    harness.cores[0].stats().opens_refused.of(reason)
}

#[test]
fn stream_crosses_one_shard_and_two_with_windows_and_half_close() {
    for (shards, second) in [(1, 0), (2, 1)] {
        let mut harness = harness(shards);
        let (a, b) = bridged(&mut harness, 0, second);
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        a.data(&mut harness, 1, &bytes);
        assert_eq!(b.payload(&mut harness, 2), bytes);
        // What the receiver grants reaches the sender as it is.
        b.send(
            &mut harness,
            Header::window_update(2, Flags::NONE, 131_072),
            &[],
        );
        let grant = Header::window_update(1, Flags::NONE, 131_072);
        assert_eq!(a.headers(&mut harness), [grant]);
        a.send(&mut harness, Header::window_update(1, Flags::FIN, 0), &[]);
        let fin = Header::window_update(2, Flags::FIN, 0);
        assert_eq!(b.headers(&mut harness), [fin]);
        b.data(&mut harness, 2, b"the other half goes on");
        assert_eq!(a.payload(&mut harness, 1), b"the other half goes on");
        b.send(&mut harness, fin, &[]);
        assert_eq!(
            a.headers(&mut harness),
            [Header::window_update(1, Flags::FIN, 0)]
        );
        let streams: u64 = harness.cores.iter().map(|core| core.audit().streams).sum();
        assert_eq!(streams, 0);
        harness.assert_clean();
    }
}

#[test]
fn stream_is_acknowledged_before_its_request_and_refused_by_a_reset() {
    let mut harness = harness(1);
    let mut a = Client::join(&mut harness, 1, 0);
    a.send(&mut harness, Header::window_update(1, Flags::SYN, 0), &[]);
    let acknowledged = Header::window_update(1, Flags::ACK, 0);
    assert_eq!(a.headers(&mut harness), [acknowledged]);
    a.request(&mut harness, 1, public(9), 80);
    let reset = Header::window_update(1, Flags::RST, 0);
    assert_eq!(a.headers(&mut harness), [reset]);
    assert_eq!(opens_refused(&harness, Reason::UnknownDestination), 1);
    harness.assert_clean();
}

#[test]
fn frames_right_behind_message_3_are_taken() {
    let mut harness = harness(1);
    let syn = Header::window_update(1, Flags::SYN, 0).encode();
    let a = Client::join_with(&mut harness, 1, 0, &syn);
    assert_eq!(
        a.headers(&mut harness),
        [Header::window_update(1, Flags::ACK, 0)]
    );
    harness.assert_clean();
}

#[test]
fn newest_session_of_a_key_wins() {
    let mut harness = harness(2);
    let older = Client::join(&mut harness, 1, 0);
    harness.pass(Duration::from_millis(500));
    let newer = Client::join(&mut harness, 1, 1);
    let away = older.headers(&mut harness);
    assert_eq!(away[0].kind, FrameKind::GoAway);
    let mut b = Client::join(&mut harness, 2, 0);
    b.open(&mut harness, 1, public(1), 80);
    assert_eq!(
        newer.headers(&mut harness)[0],
        Header::window_update(2, Flags::SYN, 0)
    );
    let closed = &harness.cores[0].stats().sessions_closed;
    assert_eq!(closed.of(Reason::Replaced), 1);
    harness.assert_clean();
}

#[test]
fn wrong_requests_end_in_their_reasons_and_reach_nobody() {
    let mut harness = harness(1);
    let mut a = Client::join(&mut harness, 1, 0);
    let b = Client::join(&mut harness, 2, 0);
    let reset = |id| Header::window_update(id, Flags::RST, 0);
    // Signed by another key than it names.
    let mut forged = a.signed(public(2), 80);
    forged[3] ^= 1;
    a.start(&mut harness, 1, &forged);
    assert_eq!(a.headers(&mut harness)[1], reset(1));
    assert_eq!(opens_refused(&harness, Reason::BadSignature), 1);
    // Of another source.
    let other = b.signed(public(2), 80);
    a.start(&mut harness, 3, &other);
    assert_eq!(a.headers(&mut harness)[1], reset(3));
    assert_eq!(opens_refused(&harness, Reason::NotAllowed), 1);
    // Not a gob.
    a.start(&mut harness, 5, &[7; 200]);
    assert_eq!(a.headers(&mut harness)[1], reset(5));
    assert_eq!(b.headers(&mut harness), []);
    let stats = harness.cores[0].stats();
    assert_eq!((stats.opens_refused.sum(), stats.sessions_current), (3, 2));
    harness.assert_clean();
}

#[test]
fn requests_that_a_turn_does_not_get_to_are_due_at_once() {
    let mut harness = harness(1);
    let mut a = Client::join(&mut harness, 1, 0);
    for id in (1..).step_by(2).take(OWN_CHECKS_TURN as usize + 1) {
        let object = a.seal(&a.signed(public(9), 80));
        let length = u32::try_from(object.len()).unwrap();
        let headers = [
            Header::window_update(id, Flags::SYN, 0).encode(),
            Header::data(id, Flags::NONE, length).encode(),
        ];
        harness.inject(a.wire, &[&headers.concat()[..], &object].concat());
    }
    let now = harness.now;
    for left in [1, 0] {
        let core = &mut harness.cores[0];
        assert_eq!(
            core.next_deadline(),
            Some(now),
            "a shard may not sleep on it"
        );
        core.flush();
        let refused = u64::from(OWN_CHECKS_TURN) + 1 - left;
        assert_eq!(opens_refused(&harness, Reason::UnknownDestination), refused);
    }
    let due = harness.cores[0].next_deadline();
    assert!(due.is_none_or(|due| due > now));
    harness.run();
    harness.assert_clean();
}

#[test]
fn replayed_object_ends_the_session() {
    let mut harness = harness(1);
    let mut a = Client::join(&mut harness, 1, 0);
    let plain = a.signed(public(9), 80);
    let object = a.seal(&plain);
    a.start_sealed(&mut harness, 1, &object);
    a.start_sealed(&mut harness, 3, &object);
    let closed = &harness.cores[0].stats().sessions_closed;
    assert_eq!(closed.of(Reason::Replay), 1);
    harness.assert_clean();
}

#[test]
fn ping_of_a_stream_comes_back_and_ends_it() {
    let mut harness = harness(1);
    let a = Client::join(&mut harness, 1, 0);
    a.send(&mut harness, Header::window_update(1, Flags::SYN, 0), &[]);
    a.headers(&mut harness);
    a.data(&mut harness, 1, &[0, 0]);
    let frames = a.frames(&mut harness);
    assert_eq!(frames[0].header, Header::data(1, Flags::NONE, 2));
    assert_eq!(frames[0].payload, [0, 0]);
    assert_eq!(frames[1].header, Header::window_update(1, Flags::FIN, 0));
    assert_eq!(harness.cores[0].stats().pings_answered, 1);
    assert_eq!(harness.cores[0].audit().streams, 0);
    harness.assert_clean();
}

#[test]
fn peer_learns_its_own_address_from_the_relay_alone() {
    let mut harness = harness(1);
    let mut a = Client::join(&mut harness, 1, 0);
    let request = a.lookup(relay());
    a.start(&mut harness, 1, &request);
    let frames = a.frames(&mut harness);
    let response = a.unseal(&frames[1].payload);
    assert_eq!(frames[1].header.flags, Flags::NONE);
    assert_eq!(frames[2].header, Header::window_update(1, Flags::FIN, 0));
    assert!(StreamResponse::verify(&response, &relay()).is_ok());
    let response = StreamResponse::decode(&response).unwrap();
    assert_eq!(response.ip, Some([192, 0, 2, 1].into()));
    // Another server's word is not ours to give.
    let request = a.lookup(public(9));
    a.start(&mut harness, 3, &request);
    let reset = Header::window_update(3, Flags::RST, 0);
    assert_eq!(a.headers(&mut harness)[1], reset);
    assert_eq!(harness.cores[0].stats().addresses_answered, 1);
    harness.assert_clean();
}

#[test]
fn both_sides_of_an_open_that_fails_are_let_go() {
    // The opener gives up, resets, or goes; the destination refuses, resets, ends, goes, or says nothing.
    for end in 0..8 {
        let mut harness = harness(1);
        let mut a = Client::join(&mut harness, 1, 0);
        let mut b = Client::join(&mut harness, 2, 0);
        let request = a.open(&mut harness, 1, public(2), 80);
        a.headers(&mut harness);
        b.headers(&mut harness);
        let (fin, reset) = (Flags::FIN, Flags::RST);
        match end {
            0 => a.send(&mut harness, Header::window_update(1, fin, 0), &[]),
            1 => a.send(&mut harness, Header::window_update(1, reset, 0), &[]),
            2 => harness.end(a.wire, RecvEnd::Eof),
            3 => b.answer(&mut harness, 2, &request, false),
            4 => b.send(&mut harness, Header::window_update(2, reset, 0), &[]),
            5 => b.send(&mut harness, Header::window_update(2, fin, 0), &[]),
            6 => harness.end(b.wire, RecvEnd::Error(104)),
            _ => harness.pass(Duration::from_secs(10)),
        }
        let ended = |header: &Header| header.flags.intersects(fin.union(reset));
        if end != 2 {
            let headers = a.headers(&mut harness);
            assert_eq!(
                headers.iter().filter(|h| ended(h)).count(),
                usize::from(end != 1)
            );
        }
        if end != 6 {
            let headers = b.headers(&mut harness);
            assert_eq!(
                headers.iter().filter(|h| ended(h)).count(),
                usize::from(end != 4),
                "{end}"
            );
        }
        assert_eq!(harness.cores[0].audit().streams, 0, "{end}");
        assert_eq!(harness.cores[0].stats().opens_pending, 0, "{end}");
        harness.assert_clean();
    }
}

#[test]
fn dialects_never_meet_and_the_refusal_says_so() {
    let mut harness = harness(1);
    let mut client = Client::join(&mut harness, 1, 0);
    let peer = harness.connect(2, 0);
    // The x-coordinate of the client's key as a native key, and the native key as an x-coordinate.
    let x = *public(1).as_bytes().last_chunk().unwrap();
    let stream = harness.open_key(peer, PublicKey::native(x));
    harness.run();
    assert_eq!(
        super::refused_with(&mut harness, peer),
        Some(Reason::OtherDialect.code()),
        "{stream:?}"
    );
    let native = *super::harness::secret(2)
        .public()
        .as_bytes()
        .first_chunk::<32>()
        .unwrap();
    let mut point = [2; 33];
    point[1..].copy_from_slice(&native);
    client.open(&mut harness, 1, PublicKey::dmsg(point), 80);
    let reset = Header::window_update(1, Flags::RST, 0);
    assert_eq!(client.headers(&mut harness)[1], reset);
    assert_eq!(opens_refused(&harness, Reason::OtherDialect), 2);
    harness.assert_clean();
}

#[test]
fn sessions_and_opens_are_counted_by_dialect() {
    let mut harness = harness(1);
    bridged(&mut harness, 0, 0);
    harness.connect(3, 0);
    let [native, dmsg] = harness.cores[0].stats().dialects;
    assert_eq!((native.sessions_current, dmsg.sessions_current), (1, 2));
    assert_eq!((dmsg.opens_received, dmsg.opens_accepted), (1, 1));
    assert_eq!((native.opens_received, native.opens_accepted), (0, 0));
    harness.assert_clean();
}

#[test]
fn silent_client_is_asked_and_then_let_go() {
    let mut harness = harness(1);
    let a = Client::join(&mut harness, 1, 0);
    harness.pass(Duration::from_secs(31));
    let ping = a.headers(&mut harness)[0];
    assert_eq!((ping.kind, ping.flags), (FrameKind::Ping, Flags::SYN));
    a.send(&mut harness, Header::ping(Flags::ACK, ping.length), &[]);
    a.send(&mut harness, Header::ping(Flags::SYN, 77), &[]);
    assert_eq!(a.headers(&mut harness), [Header::ping(Flags::ACK, 77)]);
    harness.pass(Duration::from_secs(200));
    let closed = &harness.cores[0].stats().sessions_closed;
    assert_eq!(closed.of(Reason::Idle), 1);
    harness.assert_clean();
}

#[test]
fn stream_that_finds_no_room_is_acknowledged_all_the_same() {
    let mut harness = Harness::with(1, |config| {
        config.dmsg_key = Some(relay());
        config.admission.streams_max = 1;
    });
    let a = Client::join(&mut harness, 1, 0);
    for id in [1, 3] {
        a.send(&mut harness, Header::window_update(id, Flags::SYN, 0), &[]);
    }
    let answers = [(1, Flags::ACK), (3, Flags::ACK), (3, Flags::RST)];
    let expected = answers.map(|(id, flags)| Header::window_update(id, flags, 0));
    assert_eq!(a.headers(&mut harness), expected);
    assert_eq!(opens_refused(&harness, Reason::RelayCapacity), 1);
    harness.assert_clean();
}
