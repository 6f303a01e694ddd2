//! Property tests of the wire of routes: control messages, packets, and what is refused.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{
    ROUTE_FIELD_TEXT_MAX, ROUTE_HOPS_MAX, ROUTE_IDS_MAX, ROUTE_MESSAGE_MAX, ROUTE_MESSAGE_PREFIX,
    ROUTE_MESSAGE_TEXT_MAX, ROUTE_PACKET_PAYLOAD_MAX, ROUTE_TRANSPORTS_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::route::message::MESSAGE_VERSION;
use ringway_proto::route::packet::{end_reason, write_end, write_packet};
use ringway_proto::route::{
    Announce, Find, FindBy, FoundPath, GroupName, HopReply, HopRequest, Message, MessageError,
    MessageReader, PacketError, PacketKind, PacketReader, Refusal, RouteId, Rule, RuleKind, SetUp,
    SetupReply, SetupRequest, Transport,
};

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey::native)
}

fn keys() -> impl Strategy<Value = Vec<PublicKey>> {
    vec(key(), 0..20)
}

fn id() -> impl Strategy<Value = RouteId> {
    any::<u32>().prop_map(RouteId)
}

fn group() -> impl Strategy<Value = GroupName> {
    any::<[u8; 16]>().prop_map(GroupName)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let texts = (".{0,16}", ".{0,64}");
    (any::<u16>(), option::of(key()), texts).prop_map(|(reason, hop, (field, message))| Refusal {
        reason,
        hop,
        field,
        message,
    })
}

fn transport() -> impl Strategy<Value = Transport> {
    (key(), any::<u32>()).prop_map(|(peer, latency_us)| Transport { peer, latency_us })
}

prop_compose! {
    fn set_up()(
        destination in key(),
        forward in keys(),
        reverse in keys(),
        ports in any::<(u16, u16)>(),
        group in group(),
        keep_alive_ms in any::<u32>(),
        reverse_id in id(),
    ) -> SetUp {
        let (source_port, destination_port) = ports;
        SetUp {
            destination,
            forward,
            reverse,
            source_port,
            destination_port,
            group,
            keep_alive_ms,
            reverse_id,
        }
    }
}

fn find() -> impl Strategy<Value = Find> {
    let by = prop_oneof![Just(FindBy::Latency), Just(FindBy::Hops)];
    (key(), any::<(u8, u8)>(), by, keys()).prop_map(|(destination, (paths, hops), by, avoid)| {
        Find {
            destination,
            paths_max: paths,
            hops_max: hops,
            by,
            avoid,
        }
    })
}

fn setup_request() -> impl Strategy<Value = SetupRequest> {
    let announce = (vec(transport(), 0..20), any::<u32>())
        .prop_map(|(transports, ttl_ms)| Announce { transports, ttl_ms });
    prop_oneof![
        set_up().prop_map(SetupRequest::SetUp),
        find().prop_map(SetupRequest::Find),
        announce.prop_map(SetupRequest::Announce),
        Just(SetupRequest::Withdraw),
    ]
}

fn setup_reply() -> impl Strategy<Value = SetupReply> {
    let path = (keys(), any::<u64>()).prop_map(|(hops, latency_us)| FoundPath { hops, latency_us });
    prop_oneof![
        (id(), any::<u32>()).prop_map(|(forward_id, keep_alive_ms)| SetupReply::SetUp {
            forward_id,
            keep_alive_ms
        }),
        refusal().prop_map(SetupReply::Refused),
        vec(path, 0..4).prop_map(|paths| SetupReply::Paths { paths }),
        any::<u32>().prop_map(|expires_ms| SetupReply::Announced { expires_ms }),
        Just(SetupReply::Done),
        key().prop_map(|relay| SetupReply::Elsewhere { relay }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let intermediary =
        (key(), id()).prop_map(|(next, next_id)| RuleKind::Intermediary { next, next_id });
    let destination = (group(), key(), any::<(u16, u16)>(), (key(), id())).prop_map(
        |(group, source, (source_port, destination_port), (next, next_id))| RuleKind::Destination {
            group,
            source,
            source_port,
            destination_port,
            next,
            next_id,
        },
    );
    let kind = prop_oneof![intermediary, destination];
    (id(), any::<u32>(), key(), kind).prop_map(|(id, keep_alive_ms, previous, kind)| Rule {
        id,
        keep_alive_ms,
        previous,
        kind,
    })
}

fn hop_request() -> impl Strategy<Value = HopRequest> {
    prop_oneof![
        any::<u8>().prop_map(|count| HopRequest::Reserve { count }),
        vec(rule(), 0..20).prop_map(|rules| HopRequest::AddRules { rules }),
        vec(id(), 0..20).prop_map(|ids| HopRequest::Release { ids }),
    ]
}

fn hop_reply() -> impl Strategy<Value = HopReply> {
    prop_oneof![
        vec(id(), 0..20).prop_map(|ids| HopReply::Reserved { ids }),
        Just(HopReply::Done),
        refusal().prop_map(HopReply::Refused),
    ]
}

/// Writes, reads back in pieces of `step` bytes, and reads every cut and one perturbed form.
macro_rules! roundtrip {
    ($body:ty, $message:expr, $step:expr, $position:expr, $bits:expr) => {{
        let message = $message;
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        let mut reader = MessageReader::new();
        let mut read = Vec::new();
        for piece in [&bytes[..], &bytes[..]].concat().chunks($step) {
            reader.push(piece);
            while let Some(message) = reader.next_message::<$body>().unwrap() {
                read.push(message);
            }
        }
        prop_assert!(reader.is_empty());
        prop_assert_eq!(&read, &vec![message.clone(), message.clone()]);
        let body = &bytes[ROUTE_MESSAGE_PREFIX..];
        for end in 0..body.len() {
            prop_assert!(Message::<$body>::decode(&body[..end]).is_err());
        }
        let more = [body, &[0]].concat();
        let error = MessageError::PeerBody {
            id: Some(message.id),
        };
        prop_assert_eq!(Message::<$body>::decode(&more), Err(error));
        let mut perturbed = body.to_vec();
        let position = $position % perturbed.len();
        perturbed[position] ^= $bits;
        if let Ok(other) = Message::<$body>::decode(&perturbed) {
            let mut again = Vec::new();
            other.encode(&mut again).unwrap();
            prop_assert_eq!(
                Message::<$body>::decode(&again[ROUTE_MESSAGE_PREFIX..]),
                Ok(other)
            );
        }
    }};
}

proptest! {
    #[test]
    fn messages_roundtrip_in_any_pieces_and_not_when_cut(
        requests in (setup_request(), hop_request()),
        replies in (setup_reply(), hop_reply()),
        id in any::<u32>(),
        (step, position, bits) in (1_usize..300, any::<usize>(), 1_u8..),
    ) {
        let (body, hop) = requests;
        roundtrip!(SetupRequest, Message { id, body }, step, position, bits);
        roundtrip!(HopRequest, Message { id, body: hop }, step, position, bits);
        let (body, hop) = replies;
        roundtrip!(SetupReply, Message { id, body }, step, position, bits);
        roundtrip!(HopReply, Message { id, body: hop }, step, position, bits);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = [&[MESSAGE_VERSION][..], &bytes].concat();
        let keys_held = |paths: &[FoundPath]| paths.iter().map(|path| path.hops.len()).sum::<usize>();
        if let Ok(Message { body: SetupReply::Paths { paths }, .. }) = Message::decode(&bytes) {
            prop_assert!(keys_held(&paths) * 32 <= bytes.len());
        }
        if let Ok(Message { body: HopReply::Reserved { ids }, .. }) = Message::decode(&bytes) {
            prop_assert!(ids.len() <= bytes.len());
        }
        for request in [Message::<SetupRequest>::decode(&bytes).map(|_| ()),
            Message::<HopRequest>::decode(&bytes).map(|_| ())] {
            if let Err(error) = request {
                prop_assert_eq!(error.reason(), Reason::ProtocolError);
            }
        }
    }

    #[test]
    fn any_stream_of_bytes_ends_in_packets_or_an_error(
        bytes in vec(prop_oneof![0_u8..5, any::<u8>()], 0..600),
        step in 1_usize..200,
    ) {
        let mut reader = PacketReader::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Ok(Some((head, payload))) = reader.next_packet() {
                prop_assert_eq!(usize::from(head.length), payload.len());
            }
        }
    }

    #[test]
    fn packets_roundtrip_in_any_pieces(
        packets in vec((id(), 0_usize..3, vec(any::<u8>(), 0..300), any::<bool>()), 1..20),
        step in 1_usize..500,
    ) {
        let kinds = [PacketKind::Data, PacketKind::KeepAlive, PacketKind::Handshake];
        let mut bytes = Vec::new();
        for (id, kind, payload, ends) in &packets {
            write_packet(*id, kinds[*kind], payload, &mut bytes).unwrap();
            let end = if *ends { PacketKind::Close } else { PacketKind::Gone };
            write_end(*id, end, Reason::Idle, &mut bytes);
        }
        let mut reader = PacketReader::new();
        let mut read = Vec::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some((head, payload)) = reader.next_packet().unwrap() {
                read.push((head.id, head.kind, payload.to_vec()));
            }
        }
        prop_assert!(reader.is_empty());
        let expected = packets.iter().flat_map(|(id, kind, payload, ends)| {
            let end = if *ends { PacketKind::Close } else { PacketKind::Gone };
            let code = Reason::Idle.code().to_be_bytes().to_vec();
            assert_eq!(end_reason(&code), Some(Reason::Idle.code()));
            [(*id, kinds[*kind], payload.clone()), (*id, end, code)]
        });
        prop_assert_eq!(read, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_path_is_taken_when_it_is_simple_and_joins_the_ends(
        path in vec((0_u8..24).prop_map(|byte| PublicKey::native([byte; 32])), 0..20),
        first in 0_u8..24,
        last in 0_u8..24,
    ) {
        let [first, last] = [first, last].map(|byte| PublicKey::native([byte; 32]));
        let mut unique = path.clone();
        unique.sort_unstable();
        unique.dedup();
        let is_good = (2..=ROUTE_HOPS_MAX).contains(&path.len())
            && unique.len() == path.len()
            && path.first() == Some(&first)
            && path.last() == Some(&last);
        let checked = ringway_proto::route::check::check_path("forward", &path, &first, &last);
        prop_assert_eq!(checked.is_ok(), is_good);
        if let Err(refusal) = checked {
            prop_assert_eq!(refusal.reason(), Some(Reason::BadRoute));
            prop_assert_eq!(refusal.field.as_str(), "forward");
        }
    }

    #[test]
    fn refusals_are_cut_to_the_wire(message in ".{0,400}", field in ".{0,100}") {
        let refusal = Refusal::new(Reason::HopRefused, &message).with_field(&field);
        prop_assert!(refusal.message.len() <= ROUTE_MESSAGE_TEXT_MAX);
        prop_assert!(refusal.field.len() <= ROUTE_FIELD_TEXT_MAX);
        prop_assert!(message.starts_with(&refusal.message) && field.starts_with(&refusal.field));
        let mut bytes = Vec::new();
        let body = HopReply::Refused(refusal);
        Message { id: 1, body: body.clone() }.encode(&mut bytes).unwrap();
        prop_assert_eq!(Message::decode(&bytes[4..]), Ok(Message { id: 1, body }));
    }
}

fn numbered(byte: u8) -> PublicKey {
    PublicKey::native([byte; 32])
}

fn good_set_up() -> SetUp {
    SetUp {
        destination: numbered(3),
        forward: vec![numbered(1), numbered(2), numbered(3)],
        reverse: vec![numbered(3), numbered(4), numbered(1)],
        source_port: 50_000,
        destination_port: 80,
        group: GroupName([7; 16]),
        keep_alive_ms: 0,
        reverse_id: RouteId(9),
    }
}

#[test]
fn each_wrong_field_of_a_setup_is_named() {
    let asker = numbered(1);
    let good = good_set_up();
    assert_eq!(good.check(&asker), Ok(()));
    assert_eq!(good.keep_alive_ms(), 30_000);
    let field = |change: &dyn Fn(&mut SetUp)| {
        let mut changed = good.clone();
        change(&mut changed);
        let refusal = changed.check(&asker).unwrap_err();
        assert_eq!(refusal.reason(), Some(Reason::BadRoute));
        assert!(!refusal.message.is_empty());
        refusal.field
    };
    assert_eq!(field(&|one| one.destination = asker), "destination");
    assert_eq!(field(&|one| one.forward = vec![asker]), "forward");
    assert_eq!(field(&|one| one.forward.reverse()), "forward");
    assert_eq!(field(&|one| one.forward[1] = asker), "forward");
    assert_eq!(field(&|one| one.reverse = vec![]), "reverse");
    assert_eq!(field(&|one| one.reverse.reverse()), "reverse");
    assert_eq!(field(&|one| one.reverse[1] = numbered(3)), "reverse");
    assert_eq!(field(&|one| one.keep_alive_ms = 999), "keep_alive_ms");
    assert_eq!(field(&|one| one.keep_alive_ms = 600_001), "keep_alive_ms");
    assert_eq!(field(&|one| one.reverse_id = RouteId::NONE), "reverse_id");
    let long = (0..=u8::try_from(ROUTE_HOPS_MAX).unwrap()).map(numbered);
    let long: Vec<_> = [asker].into_iter().chain(long.skip(4)).collect();
    let long = [
        long,
        vec![numbered(70), numbered(71), numbered(72), numbered(3)],
    ]
    .concat();
    assert_eq!(long.len(), ROUTE_HOPS_MAX + 2);
    assert_eq!(field(&|one| one.forward.clone_from(&long)), "forward");
}

#[test]
fn each_wrong_field_of_the_other_requests_is_named() {
    let me = numbered(1);
    let find = |paths_max, hops_max, destination| {
        SetupRequest::Find(Find {
            destination: numbered(destination),
            paths_max,
            hops_max,
            by: FindBy::Hops,
            avoid: vec![],
        })
    };
    let announce = |count: usize, peer, ttl_ms| {
        let transport = Transport {
            peer: numbered(peer),
            latency_us: 5,
        };
        SetupRequest::Announce(Announce {
            transports: vec![transport; count],
            ttl_ms,
        })
    };
    assert_eq!(find(8, 0, 2).check(&me), Ok(()));
    assert_eq!(announce(ROUTE_TRANSPORTS_MAX, 2, 1).check(&me), Ok(()));
    for (request, field) in [
        (find(0, 0, 2), "paths_max"),
        (find(9, 0, 2), "paths_max"),
        (find(1, 1, 2), "hops_max"),
        (find(1, 17, 2), "hops_max"),
        (find(1, 2, 1), "destination"),
        (announce(ROUTE_TRANSPORTS_MAX + 1, 2, 1), "transports"),
        (announce(1, 1, 1), "transports"),
        (announce(1, 2, 0), "ttl_ms"),
    ] {
        assert_eq!(request.check(&me).unwrap_err().field, field);
    }
    let rule = |id, previous, next, next_id, keep_alive_ms| Rule {
        id: RouteId(id),
        keep_alive_ms,
        previous: numbered(previous),
        kind: RuleKind::Intermediary {
            next: numbered(next),
            next_id: RouteId(next_id),
        },
    };
    let good = rule(1, 2, 3, 4, 1_000);
    let add = |rules: Vec<Rule>| HopRequest::AddRules { rules };
    assert_eq!(add(vec![good.clone()]).check(&me), Ok(()));
    for (request, field) in [
        (HopRequest::Reserve { count: 0 }, "count"),
        (HopRequest::Reserve { count: 17 }, "count"),
        (HopRequest::Release { ids: vec![] }, "ids"),
        (add(vec![]), "rules"),
        (add(vec![good.clone(); 2]), "rules"),
        (add(vec![good; ROUTE_IDS_MAX + 1]), "rules"),
        (add(vec![rule(0, 2, 3, 4, 1_000)]), "id"),
        (add(vec![rule(1, 1, 3, 4, 1_000)]), "previous"),
        (add(vec![rule(1, 2, 1, 4, 1_000)]), "next"),
        (add(vec![rule(1, 2, 3, 0, 1_000)]), "next_id"),
        (add(vec![rule(1, 2, 3, 4, 0)]), "keep_alive_ms"),
    ] {
        assert_eq!(request.check(&me).unwrap_err().field, field);
    }
}

#[test]
fn lengths_versions_and_counts_are_not_trusted() {
    let mut reader = MessageReader::new();
    let have = u32::try_from(ROUTE_MESSAGE_MAX + 1).unwrap();
    reader.push(&have.to_be_bytes());
    let refused = reader.next_message::<SetupReply>();
    assert_eq!(refused, Err(MessageError::PeerTooLong { have }));

    let decode = Message::<SetupReply>::decode;
    assert_eq!(decode(&[]), Err(MessageError::PeerEmpty));
    assert_eq!(decode(&[2, 0]), Err(MessageError::PeerVersion(2)));
    assert_eq!(MessageError::PeerVersion(2).reason(), Reason::Version);
    assert_eq!(decode(&[1]), Err(MessageError::PeerBody { id: None }));
    // Four thousand million paths, none of which follows.
    let huge = [1, 5, 2, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(decode(&huge), Err(MessageError::PeerBody { id: Some(5) }));

    let body = HopReply::Refused(Refusal {
        reason: 504,
        hop: None,
        field: String::new(),
        message: "x".repeat(ROUTE_MESSAGE_TEXT_MAX + 1),
    });
    let mut bytes = Vec::new();
    Message { id: 5, body }.encode(&mut bytes).unwrap();
    let refused = Message::<HopReply>::decode(&bytes[ROUTE_MESSAGE_PREFIX..]);
    assert_eq!(refused, Err(MessageError::PeerBody { id: Some(5) }));

    let transport = Transport {
        peer: numbered(1),
        latency_us: u32::MAX,
    };
    let body = |count| {
        SetupRequest::Announce(Announce {
            transports: vec![transport; count],
            ttl_ms: u32::MAX,
        })
    };
    let mut bytes = vec![9];
    let most = body(ROUTE_TRANSPORTS_MAX);
    assert_eq!(Message { id: 1, body: most }.encode(&mut bytes), Ok(()));
    let mut bytes = vec![9];
    let refused = Message {
        id: 1,
        body: body(2_000),
    }
    .encode(&mut bytes);
    assert!(matches!(refused, Err(MessageError::LocalTooLong { .. })));
    assert_eq!(bytes, [9]);
}

#[test]
fn a_malformed_body_leaves_the_messages_behind_it() {
    let mut reader = MessageReader::new();
    reader.push(&[0, 0, 0, 3, 1, 5, 99, 0, 0, 0, 3, 1, 6, 4]);
    let refused = reader.next_message::<SetupReply>();
    assert_eq!(refused, Err(MessageError::PeerBody { id: Some(5) }));
    let next = reader.next_message::<SetupReply>();
    assert_eq!(
        next,
        Ok(Some(Message {
            id: 6,
            body: SetupReply::Done
        }))
    );
}

#[test]
fn packets_that_no_kind_allows_are_refused() {
    let read = |bytes: &[u8]| {
        let mut reader = PacketReader::new();
        reader.push(bytes);
        reader.next_packet().map(|packet| packet.is_some())
    };
    assert_eq!(read(&[0, 0, 0, 1, 5, 0, 0]), Err(PacketError::PeerKind(5)));
    assert_eq!(read(&[0, 0, 0, 1, 2, 0, 2, 0, 0]), Ok(true));
    let wrong = PacketError::PeerLength { have: 3 };
    assert_eq!(read(&[0, 0, 0, 1, 2, 0, 3, 0, 0]), Err(wrong));
    assert_eq!(read(&[0, 0, 0, 1, 4, 0, 3, 0, 0]), Err(wrong));
    let have = u16::try_from(ROUTE_PACKET_PAYLOAD_MAX + 1).unwrap();
    let [high, low] = have.to_be_bytes();
    let refused = read(&[0, 0, 0, 1, 0, high, low]);
    assert_eq!(refused, Err(PacketError::PeerLength { have }));

    let mut out = vec![9];
    let payload = vec![0; ROUTE_PACKET_PAYLOAD_MAX + 1];
    let refused = write_packet(RouteId(1), PacketKind::Data, &payload, &mut out);
    assert!(matches!(refused, Err(PacketError::LocalTooLong { .. })));
    assert_eq!(out, [9]);
}
