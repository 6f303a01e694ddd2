//! Conversations of Go's `net/rpc`, both sides of them, and wrong ones.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use ringway_proto::dmsg::gob::{Encoder, GobError, TypeId};
use ringway_proto::dmsg::rpc::{
    Asked, BidirectionalRoute, CALL_MESSAGE_MAX, CALLS_MAX, Client, ERROR_TEXT_MAX, EdgeRules,
    Failure, HOPS_MAX, Health, Hop, IDS_MAX, METHOD_MAX, RULE_MAX, RouteDescriptor, RouterCall,
    RouterGateway, RouterReply, RpcError, Rule, RuleKind, Server, Service, SetupCall, SetupGateway,
    SetupReply, TransportId,
};
use ringway_proto::key::{Address, PublicKey};
use ringway_proto::reason::Reason;
use ringway_proto::route::RouteId;

use crate::vectors;

/// What Go's `net/rpc` has said.
const RPC: &str = include_str!("../../testdata/dmsg_rpc.hex");

fn key(prefix: u8) -> PublicKey {
    PublicKey::dmsg(vectors::key(prefix))
}

fn descriptor() -> RouteDescriptor {
    RouteDescriptor {
        source: Address::new(key(2), 0xc000),
        destination: Address::new(key(3), 0x2c),
    }
}

fn transport(first: u8) -> TransportId {
    TransportId(std::array::from_fn(|position| {
        first.wrapping_add(u8::try_from(position).unwrap_or(0))
    }))
}

fn route(keep_alive: Duration) -> BidirectionalRoute {
    let mut middle = vectors::key(2);
    middle[32] = 1;
    let middle = PublicKey::dmsg(middle);
    let hop = |transport, from, to| Hop {
        transport,
        from,
        to,
    };
    BidirectionalRoute {
        descriptor: descriptor(),
        keep_alive,
        forward: vec![
            hop(transport(1), key(2), middle),
            hop(transport(0x80), middle, key(3)),
        ],
        reverse: vec![hop(TransportId::default(), key(3), key(2))],
    }
}

/// The route that has nothing.
fn no_route() -> BidirectionalRoute {
    let nobody = Address::new(PublicKey::dmsg([0; 33]), 0);
    BidirectionalRoute {
        descriptor: RouteDescriptor {
            source: nobody,
            destination: nobody,
        },
        keep_alive: Duration::ZERO,
        forward: Vec::new(),
        reverse: Vec::new(),
    }
}

const fn rule(id: u32, kind: RuleKind) -> Rule {
    Rule {
        id: RouteId(id),
        keep_alive: Duration::from_secs(30),
        kind,
    }
}

fn edge_rules() -> EdgeRules {
    EdgeRules {
        descriptor: descriptor(),
        forward: rule(
            3,
            RuleKind::Forward {
                descriptor: descriptor(),
                next: RouteId(4),
                transport: transport(1),
            },
        ),
        reverse: rule(
            5,
            RuleKind::Consume {
                descriptor: descriptor(),
            },
        ),
    }
}

fn intermediaries() -> Vec<Rule> {
    let passes = |id, next, first| {
        let kind = RuleKind::Intermediary {
            next: RouteId(next),
            transport: transport(first),
        };
        rule(id, kind)
    };
    vec![passes(1, 0x80, 1), passes(u32::MAX, 2, 0x80)]
}

/// Calls with what Go has replied to them.
type Talk<S> = Vec<(
    <S as Service>::Call,
    Result<<S as Service>::Reply, &'static str>,
)>;

fn setup_talk() -> Talk<SetupGateway> {
    let dial = |keep_alive| SetupCall::DialRouteGroup(route(keep_alive));
    let rules = || Ok(SetupReply::DialRouteGroup(edge_rules()));
    let health = Health {
        status: "OK".to_owned(),
        version: "1.0".to_owned(),
        commit: "c".to_owned(),
        date: "d".to_owned(),
    };
    vec![
        (SetupCall::HealthCheck, Ok(SetupReply::HealthCheck(health))),
        (dial(Duration::from_secs(30)), rules()),
        (
            SetupCall::DialRouteGroup(no_route()),
            Err("bidirectional route does not have forward hops"),
        ),
        (
            dial(Duration::from_nanos(1)),
            Err("long ".repeat(200).leak()),
        ),
        (dial(Duration::from_secs(3_600)), rules()),
    ]
}

fn router_talk() -> Talk<RouterGateway> {
    let ids = |ids: &[u32]| ids.iter().copied().map(RouteId).collect::<Vec<_>>();
    vec![
        (
            RouterCall::ReserveIds(3),
            Ok(RouterReply::Reserved(ids(&[0, 0x7f, 0xfe]))),
        ),
        (
            RouterCall::ReserveIds(0),
            Ok(RouterReply::Reserved(Vec::new())),
        ),
        (RouterCall::ReserveIds(255), Err("failure code 4 (no ids)")),
        (
            RouterCall::AddIntermediaryRules(intermediaries()),
            Ok(RouterReply::Done(true)),
        ),
        (
            RouterCall::AddIntermediaryRules(Vec::new()),
            Ok(RouterReply::Done(false)),
        ),
        (
            RouterCall::AddEdgeRules(Box::new(edge_rules())),
            Err("failure code 1 (rules exist)"),
        ),
        (
            RouterCall::DelRules(ids(&[1, u32::MAX])),
            Ok(RouterReply::Done(true)),
        ),
    ]
}

/// Talks as Go's client has, and compares what goes out; then hears what Go's server has said.
fn asks_as_go_does<S: Service>(talk: Talk<S>, name: &str, piece: usize)
where
    S::Call: PartialEq,
    S::Reply: PartialEq,
{
    let (mut client, mut out) = (Client::<S>::new(), Vec::new());
    for (number, (call, _)) in (0..).zip(&talk) {
        assert_eq!(client.call(call, &mut out), Ok(number));
    }
    let asked = vectors::one(RPC, &format!("{name}: asked"));
    assert_eq!(out, asked);

    let mut replies = talk.into_iter().map(|(_, reply)| reply).zip(0..);
    let answered = vectors::one(RPC, &format!("{name}: answered"));
    for piece in answered.chunks(piece) {
        client.push(piece);
        while let Some(heard) = client.next_reply().expect("what Go says is heard") {
            let (expected, number) = replies.next().expect("no reply too many");
            assert_eq!(heard.number, number);
            assert_eq!(heard.reply, expected.map_err(Failure::parse));
        }
    }
    assert_eq!((replies.next(), client.waiting()), (None, 0));
}

/// Hears what Go's client has asked, answers as Go's server has, and compares what goes out.
fn answers_as_go_does<S: Service>(talk: Talk<S>, name: &str, piece: usize)
where
    S::Call: PartialEq,
{
    let (mut server, mut out) = (Server::<S>::new(), Vec::new());
    let mut talk = talk.into_iter();
    let asked = vectors::one(RPC, &format!("{name}: asked"));
    for piece in asked.chunks(piece) {
        server.push(piece);
        while let Some(Asked { id, call }) = server.next_call().expect("what Go says is heard") {
            let (expected, reply) = talk.next().expect("no call too many");
            assert_eq!(call, Ok(expected));
            server
                .reply(&id, reply.as_ref().map_err(|text| *text), &mut out)
                .expect("it is written");
        }
    }
    assert!(talk.next().is_none() && server.is_empty());
    assert_eq!(out, vectors::one(RPC, &format!("{name}: answered")));
}

#[test]
fn both_sides_of_route_setup_are_those_of_go() {
    for piece in [1, 7, usize::MAX] {
        asks_as_go_does::<SetupGateway>(setup_talk(), "setup", piece);
        answers_as_go_does::<SetupGateway>(setup_talk(), "setup", piece);
    }
}

#[test]
fn both_sides_of_a_hop_are_those_of_go() {
    for piece in [1, 7, usize::MAX] {
        asks_as_go_does::<RouterGateway>(router_talk(), "router", piece);
        answers_as_go_does::<RouterGateway>(router_talk(), "router", piece);
        let first = || router_talk().into_iter().take(1).collect();
        asks_as_go_does::<RouterGateway>(first(), "three ids", piece);
        answers_as_go_does::<RouterGateway>(first(), "three ids", piece);
    }
}

#[test]
fn what_nobody_knows_is_refused_in_the_words_of_go() {
    let (mut server, mut out) = (Server::<SetupGateway>::new(), Vec::new());
    server.push(&vectors::one(RPC, "unknown: asked"));
    let mut texts = Vec::new();
    while let Some(Asked { id, call }) = server.next_call().unwrap() {
        let health = SetupReply::HealthCheck(Health {
            status: "OK".to_owned(),
            version: "1.0".to_owned(),
            commit: "c".to_owned(),
            date: "d".to_owned(),
        });
        let reply = match call {
            Ok(call) => {
                assert_eq!(call, SetupCall::HealthCheck);
                Ok(&health)
            }
            Err(refused) => {
                assert_eq!(refused.error, RpcError::PeerMethod);
                texts.push(refused.text);
                Err(texts.last().unwrap().as_str())
            }
        };
        server.reply(&id, reply, &mut out).unwrap();
    }
    assert_eq!(
        texts,
        [
            "rpc: can't find method SetupRPCGateway.Capabilities",
            "rpc: can't find service TransportGateway.AddTransport",
            "rpc: service/method request ill-formed: Nothing",
        ]
    );
    assert_eq!(out, vectors::one(RPC, "unknown: answered"));
}

/// Returns the head of a call, number 7.
fn head(method: &str, encoder: &mut Encoder, out: &mut Vec<u8>) {
    use ringway_proto::dmsg::gob::{Definition, Shape};
    let fields = &[
        ("ServiceMethod", TypeId::STRING),
        ("Seq", TypeId::UINT),
        ("Error", TypeId::STRING),
    ];
    let head = Definition {
        id: TypeId(100),
        name: "",
        shape: Shape::Struct(fields),
    };
    encoder.write_struct(&[head], out, |fields| {
        fields.text(0, method);
        fields.uint(1, 7);
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_and_the_next_call_heard() {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    head("RPCGateway.ReserveIDs", &mut encoder, &mut out);
    encoder.write_value(&[], TypeId::UINT, &mut out, |value| value.uint(256));
    head("RPCGateway.ReserveIDs", &mut encoder, &mut out);
    encoder.write_value(&[], TypeId::INT, &mut out, |value| value.int(1));
    head("RPCGateway.ReserveIDs", &mut encoder, &mut out);
    encoder.write_value(&[], TypeId::UINT, &mut out, |value| value.uint(1));
    let mut server = Server::<RouterGateway>::new();
    server.push(&out);
    let mut next = || server.next_call().unwrap().map(|asked| asked.call);
    let refused = next().unwrap().unwrap_err();
    assert_eq!(refused.error, RpcError::PeerGob(GobError::PeerRange));
    assert!(!refused.text.is_empty());
    let refused = next().unwrap().unwrap_err();
    let of = GobError::PeerType(TypeId::INT);
    assert_eq!(refused.error, RpcError::PeerGob(of));
    assert_eq!(next().unwrap(), Ok(RouterCall::ReserveIds(1)));
    assert!(next().is_none());
}

#[test]
fn what_cannot_be_read_ends_the_conversation_and_stays_so() {
    let mut out = Vec::new();
    head(&"x".repeat(METHOD_MAX + 1), &mut Encoder::new(), &mut out);
    let have = METHOD_MAX + 1;
    let long = u32::try_from(CALL_MESSAGE_MAX + 1).unwrap().to_be_bytes();
    let cases = [
        (out, RpcError::PeerMethodLength { have }),
        // A message that is too long, one that is no number, a definition of nothing, a head that is a
        // number.
        (
            [&[0xfc][..], &long].concat(),
            RpcError::PeerGob(GobError::PeerTooLong {
                have: CALL_MESSAGE_MAX as u64 + 1,
                most: CALL_MESSAGE_MAX,
            }),
        ),
        (vec![0x80], RpcError::PeerGob(GobError::PeerNumber)),
        (
            vec![2, 0x7f, 0],
            RpcError::PeerGob(GobError::PeerDefinition(TypeId(64))),
        ),
        (
            vec![3, 6, 0, 1],
            RpcError::PeerGob(GobError::PeerTypeUnknown(TypeId::UINT)),
        ),
    ];
    for (bytes, error) in cases {
        let mut server = Server::<RouterGateway>::new();
        let mut client = Client::<RouterGateway>::new();
        server.push(&bytes);
        client.push(&bytes);
        for _ in 0..2 {
            assert_eq!(server.next_call().unwrap_err(), error);
            assert_eq!(client.next_reply().unwrap_err(), error);
            server.push(&vectors::one(RPC, "router: asked"));
            client.push(&vectors::one(RPC, "router: answered"));
        }
        assert_eq!(error.reason(), Reason::ProtocolError);
    }
}

#[test]
fn a_reply_to_no_call_ends_the_conversation() {
    let mut client = Client::<RouterGateway>::new();
    client.push(&vectors::one(RPC, "router: answered"));
    for _ in 0..2 {
        assert_eq!(client.next_reply().unwrap_err(), RpcError::PeerNumber(0));
    }
    // The same reply twice.
    let mut client = Client::<RouterGateway>::new();
    let mut server = Server::<RouterGateway>::new();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    client.call(&RouterCall::ReserveIds(1), &mut asked).unwrap();
    server.push(&asked);
    let id = server.next_call().unwrap().unwrap().id;
    for _ in 0..2 {
        let done = RouterReply::Reserved(vec![RouteId(1)]);
        server.reply(&id, Ok(&done), &mut answered).unwrap();
    }
    client.push(&answered);
    assert!(client.next_reply().unwrap().unwrap().reply.is_ok());
    assert_eq!(client.next_reply().unwrap_err(), RpcError::PeerNumber(0));
}

#[test]
fn an_answer_of_another_kind_ends_the_conversation() {
    let mut client = Client::<RouterGateway>::new();
    let mut server = Server::<RouterGateway>::new();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    client.call(&RouterCall::ReserveIds(1), &mut asked).unwrap();
    server.push(&asked);
    let id = server.next_call().unwrap().unwrap().id;
    server
        .reply(&id, Ok(&RouterReply::Done(true)), &mut answered)
        .unwrap();
    client.push(&answered);
    let of = GobError::PeerTypeUnknown(TypeId::BOOL);
    assert_eq!(client.next_reply().unwrap_err(), RpcError::PeerGob(of));
    assert_eq!(client.next_reply().unwrap_err(), RpcError::PeerGob(of));
}

#[test]
fn replies_come_in_any_order() {
    let mut client = Client::<RouterGateway>::new();
    let mut server = Server::<RouterGateway>::new();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for count in 1..=3 {
        client
            .call(&RouterCall::ReserveIds(count), &mut asked)
            .unwrap();
    }
    server.push(&asked);
    let mut ids: Vec<_> = std::iter::from_fn(|| server.next_call().unwrap())
        .map(|asked| asked.id)
        .collect();
    ids.reverse();
    for (number, id) in (10..).zip(&ids) {
        let ids = RouterReply::Reserved(vec![RouteId(number)]);
        server.reply(id, Ok(&ids), &mut answered).unwrap();
    }
    client.push(&answered);
    let heard: Vec<_> = std::iter::from_fn(|| client.next_reply().unwrap())
        .map(|heard| (heard.number, heard.reply))
        .collect();
    let reserved = |id| Ok(RouterReply::Reserved(vec![RouteId(id)]));
    assert_eq!(
        heard,
        [(2, reserved(10)), (1, reserved(11)), (0, reserved(12))]
    );
}

#[test]
fn an_error_is_cut_and_never_empty() {
    let mut client = Client::<RouterGateway>::new();
    let mut server = Server::<RouterGateway>::new();
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        client.call(&RouterCall::ReserveIds(1), &mut asked).unwrap();
    }
    server.push(&asked);
    for text in ["x".repeat(ERROR_TEXT_MAX + 1), String::new()] {
        let id = server.next_call().unwrap().unwrap().id;
        server.reply(&id, Err(&text), &mut answered).unwrap();
    }
    client.push(&answered);
    let mut next = || client.next_reply().unwrap().unwrap().reply.unwrap_err();
    assert_eq!(next().message, "x".repeat(ERROR_TEXT_MAX));
    assert_eq!(next().message, "?");
}

#[test]
fn calls_and_lists_have_bounds() {
    let mut client = Client::<RouterGateway>::new();
    let mut out = Vec::new();
    for _ in 0..CALLS_MAX {
        client.call(&RouterCall::ReserveIds(1), &mut out).unwrap();
    }
    let before = out.clone();
    let refused = client.call(&RouterCall::ReserveIds(1), &mut out);
    assert_eq!(refused, Err(RpcError::LocalCalls));
    assert_eq!(RpcError::LocalCalls.reason(), Reason::RouteBusy);
    assert_eq!(out, before);

    let list = |have, most| Err(RpcError::LocalList { have, most });
    let mut client = Client::<RouterGateway>::new();
    let many = vec![intermediaries()[0]; IDS_MAX + 1];
    let rules = client.call(&RouterCall::AddIntermediaryRules(many), &mut out);
    assert_eq!(rules, list(IDS_MAX + 1, IDS_MAX));
    let many = vec![RouteId(1); IDS_MAX + 1];
    let ids = client.call(&RouterCall::DelRules(many), &mut out);
    assert_eq!(ids, list(IDS_MAX + 1, IDS_MAX));
    let mut long = route(Duration::ZERO);
    long.reverse = vec![long.reverse[0]; HOPS_MAX + 1];
    let mut client = Client::<SetupGateway>::new();
    let hops = client.call(&SetupCall::DialRouteGroup(long.clone()), &mut out);
    assert_eq!(hops, list(HOPS_MAX + 1, HOPS_MAX));
    assert_eq!(out, before);
    // Nothing of what was refused is left: the next call is the first one.
    let mut server = Server::<SetupGateway>::new();
    long.reverse.pop();
    let call = SetupCall::DialRouteGroup(long);
    let mut out = Vec::new();
    assert_eq!(client.call(&call, &mut out), Ok(0));
    server.push(&out);
    assert_eq!(server.next_call().unwrap().unwrap().call, Ok(call));
}

#[test]
fn keys_of_the_other_dialect_have_no_place() {
    let native = Address::new(PublicKey::native([1; 32]), 1);
    let descriptor = RouteDescriptor {
        source: native,
        destination: native,
    };
    assert_eq!(descriptor.encode(), Err(RpcError::LocalDialect));
    let rule = rule(1, RuleKind::Consume { descriptor });
    assert_eq!(rule.encode(), Err(RpcError::LocalDialect));
    let mut wrong = route(Duration::ZERO);
    wrong.forward[1].to = native.key;
    let mut out = Vec::new();
    let call = SetupCall::DialRouteGroup(wrong);
    let refused = Client::<SetupGateway>::new().call(&call, &mut out);
    assert_eq!((refused, out), (Err(RpcError::LocalDialect), Vec::new()));
    // A reply that cannot be written leaves the conversation as it was.
    let mut server = Server::<SetupGateway>::new();
    server.push(&vectors::one(RPC, "setup: asked"));
    let id = server.next_call().unwrap().unwrap().id;
    let rules = SetupReply::DialRouteGroup(EdgeRules {
        descriptor,
        ..edge_rules()
    });
    let mut out = Vec::new();
    let refused = server.reply(&id, Ok(&rules), &mut out);
    assert_eq!((refused, &*out), (Err(RpcError::LocalDialect), &[][..]));
}

#[test]
fn a_route_leads_from_end_to_end() {
    let good = route(Duration::ZERO);
    assert_eq!(good.check(), Ok(()));
    let wrong = |change: fn(&mut BidirectionalRoute)| {
        let mut route = good.clone();
        change(&mut route);
        route.check().unwrap_err()
    };
    assert_eq!(wrong(|r| r.forward.clear()), RpcError::PeerRouteForward);
    assert_eq!(wrong(|r| r.reverse.clear()), RpcError::PeerRouteReverse);
    assert_eq!(wrong(|r| r.forward[0].from = key(3)), RpcError::PeerRoute);
    assert_eq!(wrong(|r| r.forward[0].to = key(3)), RpcError::PeerRoute);
    assert_eq!(wrong(|r| r.forward[1].to = key(2)), RpcError::PeerRoute);
    assert_eq!(wrong(|r| r.reverse[0].to = key(3)), RpcError::PeerRoute);
    assert_eq!(
        wrong(|r| r.descriptor = r.descriptor.inverted()),
        RpcError::PeerRoute
    );
    assert_eq!(no_route().check(), Err(RpcError::PeerRouteForward));
    assert_eq!(RpcError::PeerRoute.reason(), Reason::BadRoute);
    let text = RpcError::PeerRouteForward.to_string();
    assert_eq!(text, "bidirectional route does not have forward hops");
}

#[test]
fn a_rule_has_the_bytes_of_skywire() {
    let EdgeRules {
        forward, reverse, ..
    } = edge_rules();
    let intermediary = intermediaries()[0];
    let ends = [&vectors::key(2)[..], &vectors::key(3), &[0xc0, 0, 0, 0x2c]].concat();
    let keep_alive = 30_000_000_000_u64.to_be_bytes();
    let consume = [&keep_alive[..], &[0, 0, 0, 0, 5], &ends].concat();
    let next = [&[0, 0, 0, 4][..], &transport(1).0, &[0; 17]].concat();
    let forward_bytes = [&keep_alive[..], &[1, 0, 0, 0, 3], &ends, &next].concat();
    let next = [&[0, 0, 0, 0x80][..], &transport(1).0, &[0; 17]].concat();
    let passes = [&keep_alive[..], &[2, 0, 0, 0, 1], &next].concat();
    assert_eq!(
        [consume.len(), forward_bytes.len(), passes.len()],
        [83, 120, 50]
    );
    for (rule, bytes, least) in [
        (reverse, consume, 83),
        (forward, forward_bytes, 103),
        (intermediary, passes, 33),
    ] {
        assert_eq!(rule.encode(), Ok(bytes.clone()));
        assert_eq!(Rule::decode(&bytes), Ok(rule));
        let longest = [&bytes[..], &vec![9; RULE_MAX - bytes.len()]].concat();
        assert_eq!(Rule::decode(&longest), Ok(rule));
        let have = RULE_MAX + 1;
        let longer = Rule::decode(&[&longest[..], &[9]].concat());
        assert_eq!(longer, Err(RpcError::PeerRuleLength { have }));
        for have in 0..bytes.len() {
            let cut = Rule::decode(&bytes[..have]);
            let short = RpcError::PeerRuleLength { have };
            assert_eq!(cut, if have < least { Err(short) } else { Ok(rule) });
        }
        let mut unknown = bytes;
        unknown[8] = 3;
        assert_eq!(Rule::decode(&unknown), Err(RpcError::PeerRuleKind(3)));
    }
}

#[test]
fn a_transport_is_written_as_uuids_are() {
    let text = transport(0xf0).to_string();
    assert_eq!(text, "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff");
}

fn any_key() -> impl Strategy<Value = PublicKey> {
    any::<([u8; 32], u8)>().prop_map(|(bytes, prefix)| {
        let mut key = [prefix; 33];
        key[1..].copy_from_slice(&bytes);
        PublicKey::dmsg(key)
    })
}

fn any_descriptor() -> impl Strategy<Value = RouteDescriptor> {
    let address = || (any_key(), any::<u16>()).prop_map(|(key, port)| Address::new(key, port));
    (address(), address()).prop_map(|(source, destination)| RouteDescriptor {
        source,
        destination,
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let next = || {
        (
            any::<u32>().prop_map(RouteId),
            any::<[u8; 16]>().prop_map(TransportId),
        )
    };
    let kind = prop_oneof![
        any_descriptor().prop_map(|descriptor| RuleKind::Consume { descriptor }),
        (any_descriptor(), next()).prop_map(|(descriptor, (next, transport))| {
            RuleKind::Forward {
                descriptor,
                next,
                transport,
            }
        }),
        next().prop_map(|(next, transport)| RuleKind::Intermediary { next, transport }),
    ];
    (any::<u32>(), any::<u64>(), kind).prop_map(|(id, nanos, kind)| Rule {
        id: RouteId(id),
        keep_alive: Duration::from_nanos(nanos),
        kind,
    })
}

fn any_hops() -> impl Strategy<Value = Vec<Hop>> {
    let hop = (any::<[u8; 16]>(), any_key(), any_key()).prop_map(|(id, from, to)| Hop {
        transport: TransportId(id),
        from,
        to,
    });
    vec(hop, 0..5)
}

fn any_setup() -> impl Strategy<Value = (SetupCall, SetupReply)> {
    let nanos = 0..u64::MAX / 2;
    let call = (any_descriptor(), nanos, any_hops(), any_hops()).prop_map(
        |(descriptor, nanos, forward, reverse)| {
            SetupCall::DialRouteGroup(BidirectionalRoute {
                descriptor,
                keep_alive: Duration::from_nanos(nanos),
                forward,
                reverse,
            })
        },
    );
    let reply =
        (any_descriptor(), any_rule(), any_rule()).prop_map(|(descriptor, forward, reverse)| {
            SetupReply::DialRouteGroup(EdgeRules {
                descriptor,
                forward,
                reverse,
            })
        });
    (call, reply)
}

fn any_router() -> impl Strategy<Value = (RouterCall, RouterReply)> {
    let ids = || vec(any::<u32>().prop_map(RouteId), 0..9);
    let done = any::<bool>().prop_map(RouterReply::Done);
    let edge = (any_descriptor(), any_rule(), any_rule()).prop_map(|(descriptor, f, r)| {
        RouterCall::AddEdgeRules(Box::new(EdgeRules {
            descriptor,
            forward: f,
            reverse: r,
        }))
    });
    let rules = vec(any_rule(), 0..5).prop_map(RouterCall::AddIntermediaryRules);
    let with_done = prop_oneof![edge, rules, ids().prop_map(RouterCall::DelRules)];
    prop_oneof![
        (with_done, done),
        (
            any::<u8>().prop_map(RouterCall::ReserveIds),
            ids().prop_map(RouterReply::Reserved)
        ),
    ]
}

/// Lets both sides talk in pieces; each hears what the other one has said.
fn talk<S: Service>(talk: &[(S::Call, S::Reply)], piece: usize)
where
    S::Call: PartialEq,
    S::Reply: PartialEq,
{
    let (mut client, mut server) = (Client::<S>::new(), Server::<S>::new());
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for (call, _) in talk {
        client.call(call, &mut asked).expect("it is written");
    }
    let mut calls = talk.iter();
    for piece in asked.chunks(piece) {
        server.push(piece);
        while let Some(asked) = server.next_call().expect("what the client says is heard") {
            let (call, reply) = calls.next().expect("no call too many");
            assert_eq!(asked.call.as_ref(), Ok(call));
            server
                .reply(&asked.id, Ok(reply), &mut answered)
                .expect("it is written");
        }
    }
    let mut replies = talk.iter();
    for piece in answered.chunks(piece) {
        client.push(piece);
        while let Some(heard) = client.next_reply().expect("what the server says is heard") {
            assert_eq!(
                heard.reply.as_ref(),
                Ok(&replies.next().expect("no reply too many").1)
            );
        }
    }
    assert_eq!((calls.len(), replies.len(), client.waiting()), (0, 0, 0));
    assert!(server.is_empty());
}

/// Hears bytes to their end or to the first error; whatever they are, there is an end.
fn hear<S: Service>(bytes: &[u8], piece: usize) {
    let (mut server, mut client) = (Server::<S>::new(), Client::<S>::new());
    let mut heard = 0;
    for piece in bytes.chunks(piece) {
        server.push(piece);
        client.push(piece);
        while let Ok(Some(asked)) = server.next_call() {
            heard += 1;
            if let Err(refused) = asked.call {
                assert_ne!(refused.error.reason(), Reason::Accepted);
                let mut out = Vec::new();
                server
                    .reply(&asked.id, Err(&refused.text), &mut out)
                    .expect("it is written");
            }
        }
        while let Ok(Some(_)) = client.next_reply() {
            heard += 1;
        }
    }
    assert!(heard <= bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_asked_and_answered_is_heard(
        setup in vec(any_setup(), 0..4),
        router in vec(any_router(), 0..6),
        piece in 1_usize..50,
    ) {
        talk::<SetupGateway>(&setup, piece);
        talk::<RouterGateway>(&router, piece);
    }

    #[test]
    fn a_rule_roundtrips(rule in any_rule(), bytes in vec(any::<u8>(), 0..150)) {
        prop_assert_eq!(Rule::decode(&rule.encode().unwrap()), Ok(rule));
        if let Ok(rule) = Rule::decode(&bytes) {
            let again = rule.encode().unwrap();
            let both = again.len().min(bytes.len()).min(103);
            let spare = if let RuleKind::Intermediary { .. } = rule.kind { 33 } else { both };
            prop_assert_eq!(&again[..both.min(spare)], &bytes[..both.min(spare)]);
        }
    }

    #[test]
    fn any_bytes_are_heard_or_end_the_conversation(
        bytes in vec(any::<u8>(), 0..200),
        at: prop::sample::Index,
        change: u8,
        piece in 1_usize..100,
    ) {
        for (_, said) in vectors::all(RPC) {
            let at = at.index(said.len());
            let mut changed = said.clone();
            changed[at] ^= change;
            for bytes in [&bytes, &changed, &[&said[..at], &bytes].concat()] {
                hear::<SetupGateway>(bytes, piece);
                hear::<RouterGateway>(bytes, piece);
            }
        }
    }
}
