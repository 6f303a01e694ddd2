//! Gobs of any kind, and conversations of route setup made of them: read in pieces, along their types or left
//! out, and what was understood says the same when it is written and read again.
//!
//! Here: one gob, a stream of them, both sides of both services. Not here: signed objects (`dmsg_open`).
//!
//! Invariant: what cannot be left out cannot be read; a conversation that has failed stays so.

use std::time::Duration;

use arbitrary::Arbitrary;
use ringway_proto::dmsg::gob::{Decoder, GobError, decode, message_range};
use ringway_proto::dmsg::rpc::{
    Asked, BidirectionalRoute, CALL_MESSAGE_MAX, Client, EdgeRules, IDS_MAX, RouteDescriptor,
    RouterCall, RouterGateway, RouterReply, Rule, Server, Service, SetupCall, SetupGateway,
    SetupReply,
};
use ringway_proto::route::RouteId;

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    piece: u8,
    bytes: Vec<u8>,
}

/// Runs one input. See the module's page for what must hold.
pub fn run(bytes: &[u8]) {
    // Bare bytes as well: committed vectors are inputs as they stand.
    hear(bytes, usize::MAX);
    if let Some(input) = structured::<Input>(bytes) {
        hear(&input.bytes, usize::from(input.piece).max(1));
    }
}

fn hear(bytes: &[u8], piece: usize) {
    one(bytes);
    stream(bytes);
    asked::<SetupGateway>(bytes, piece);
    asked::<RouterGateway>(bytes, piece);
    answered::<SetupGateway>(bytes, piece, &setup_calls());
    answered::<RouterGateway>(bytes, piece, &router_calls());
}

/// Reads bytes as the one gob that they are, as everything that they may be.
fn one(bytes: &[u8]) {
    let skipped: Result<(), GobError> = decode(bytes, |value| value.skip());
    let flat = [
        decode(bytes, |value| value.bool().map(|_| ())),
        decode(bytes, |value| value.int().map(|_| ())),
        decode(bytes, |value| value.uint::<u16>().map(|_| ())),
        decode(bytes, |value| value.float().map(|_| ())),
        decode(bytes, |value| value.text().map(|_| ())),
        decode(bytes, |value| value.bytes().map(|_| ())),
        decode(bytes, |value| value.opaque().map(|_| ())),
        decode(bytes, |value| value.byte_array::<32>().map(|_| ())),
        decode(bytes, |value| {
            let mut list = value.list(usize::MAX)?;
            while let Some(item) = list.next_item() {
                item.skip()?;
            }
            Ok::<_, GobError>(())
        }),
        decode(bytes, |value| {
            let mut fields = value.fields()?;
            while let Some(field) = fields.next_field(&["A", "Seq", "Timestamp"])? {
                field.value.skip()?;
            }
            Ok(())
        }),
    ];
    let read = flat.iter().filter(|read| read.is_ok()).count();
    assert!(read <= 1, "a value of two types");
    // Items and fields are each left out from the top, so a reader gets one level deeper.
    assert!(
        read == 0 || skipped.is_ok() || skipped == Err(GobError::PeerDepth),
        "read, but not left out"
    );
}

/// Reads bytes as a stream.
fn stream(bytes: &[u8]) {
    let (mut decoder, mut rest) = (Decoder::new(), bytes);
    while let Ok(Some(range)) = message_range(rest, CALL_MESSAGE_MAX) {
        assert!(range.end - range.start <= CALL_MESSAGE_MAX);
        let (Some(message), Some(after)) = (rest.get(range.clone()), rest.get(range.end..)) else {
            return;
        };
        assert!(after.len() < rest.len());
        rest = after;
        let read = if Decoder::is_definition(message) {
            decoder.define(message)
        } else {
            decoder.read(message, |value| value.skip())
        };
        if read.is_err() && Decoder::is_definition(message) {
            return;
        }
    }
}

/// Hears bytes as the side that is asked.
fn asked<S: Service<Call: PartialEq>>(bytes: &[u8], piece: usize) {
    let mut server = Server::<S>::new();
    for piece in bytes.chunks(piece) {
        server.push(piece);
        loop {
            match server.next_call() {
                Ok(Some(Asked { id, call })) => {
                    let mut out = Vec::new();
                    match call {
                        Ok(call) => said_again::<S>(&call),
                        Err(refused) => {
                            let text: Result<&S::Reply, &str> = Err(&refused.text);
                            server
                                .reply(&id, text, &mut out)
                                .expect("a text is written");
                            assert!(!out.is_empty() && !refused.text.is_empty());
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(server.next_call().err(), Some(error));
                    return;
                }
            }
        }
    }
}

/// A call that was understood says the same when it is asked anew.
fn said_again<S: Service<Call: PartialEq>>(call: &S::Call) {
    let mut out = Vec::new();
    let number = Client::<S>::new().call(call, &mut out);
    assert_eq!(number, Ok(0), "what was read can be written");
    let mut server = Server::<S>::new();
    server.push(&out);
    let asked = server.next_call().expect("it was written here");
    assert_eq!(asked.expect("it is whole").call.as_ref(), Ok(call));
    assert!(server.is_empty());
}

/// Hears bytes as the side that has asked everything there is to ask.
fn answered<S: Gateway>(bytes: &[u8], piece: usize, calls: &[S::Call]) {
    let mut client = Client::<S>::new();
    let mut asked = Vec::new();
    for call in calls {
        client.call(call, &mut asked).expect("a call is written");
    }
    let mut replies = 0;
    for piece in bytes.chunks(piece) {
        client.push(piece);
        loop {
            match client.next_reply() {
                Ok(Some(answered)) => {
                    replies += 1;
                    assert_eq!(client.waiting() + replies, calls.len());
                    if let Ok(reply) = &answered.reply {
                        S::check(reply);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(client.next_reply().err(), Some(error));
                    return;
                }
            }
        }
    }
}

/// What holds for the answers of a service.
trait Gateway: Service {
    fn check(reply: &Self::Reply);
}

impl Gateway for SetupGateway {
    fn check(reply: &SetupReply) {
        match reply {
            SetupReply::DialRouteGroup(rules) => {
                let EdgeRules {
                    forward, reverse, ..
                } = rules;
                for rule in [forward, reverse] {
                    let bytes = rule.encode().expect("keys of this dialect");
                    assert_eq!(Rule::decode(&bytes).as_ref(), Ok(rule));
                }
            }
            SetupReply::HealthCheck(health) => assert!(health.status.len() <= 128),
        }
    }
}

impl Gateway for RouterGateway {
    fn check(reply: &RouterReply) {
        if let RouterReply::Reserved(ids) = reply {
            assert!(ids.len() <= IDS_MAX);
        }
    }
}

fn setup_calls() -> Vec<SetupCall> {
    let route = BidirectionalRoute {
        descriptor: RouteDescriptor::decode(&[0; 70]),
        keep_alive: Duration::ZERO,
        forward: Vec::new(),
        reverse: Vec::new(),
    };
    vec![SetupCall::HealthCheck, SetupCall::DialRouteGroup(route)]
}

fn router_calls() -> Vec<RouterCall> {
    vec![
        RouterCall::ReserveIds(1),
        RouterCall::DelRules(vec![RouteId(1)]),
        RouterCall::AddIntermediaryRules(Vec::new()),
    ]
}
