//! Whatever stands on the streams of route setup and of routes: read in pieces, checked, carried out.
//!
//! Here: messages of all four kinds and packets come out or are errors, what came out says the same when it
//! is written and read again, a request that passes its check ends as a setup that leaves nothing
//! undecided, whatever hops answer. Not here: streams, tables of hops.
//!
//! Bound: the readers hold at most one unfinished message and one piece.

use arbitrary::Arbitrary;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{ROUTE_HOPS_MAX, ROUTE_MESSAGE_MAX, ROUTE_MESSAGE_PREFIX};
use ringway_proto::reason::Reason;
use ringway_proto::route::{
    GroupSetup, HopReply, HopRequest, Message, MessageError, MessageReader, PacketReader, Refusal,
    SetUp, SetupReply, SetupRequest,
};
use ringway_proto::time::Now;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::structured;

#[derive(Arbitrary, Debug)]
struct Input {
    piece: u8,
    answers: Vec<u8>,
    bytes: Vec<u8>,
}

/// Runs one input. See the module's page for what must hold.
pub fn run(bytes: &[u8]) {
    // Bare bytes as well: committed messages are inputs as they stand.
    read_all(bytes, usize::MAX, &[]);
    let Some(input) = structured::<Input>(bytes) else {
        return;
    };
    read_all(
        &input.bytes,
        usize::from(input.piece).max(1),
        &input.answers,
    );
}

fn read_all(bytes: &[u8], piece: usize, answers: &[u8]) {
    read::<SetupRequest>(bytes, piece, |request| asked(request, answers));
    read::<SetupReply>(bytes, piece, |_| {});
    read::<HopRequest>(bytes, piece, |request| {
        // Any verdict will do, as long as there is one.
        drop(request.check(&key(1)));
    });
    read::<HopReply>(bytes, piece, |_| {});
    let mut reader = PacketReader::new();
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Ok(Some((head, payload))) = reader.next_packet() {
            assert_eq!(usize::from(head.length), payload.len());
        }
    }
}

/// Reads messages in pieces; each says the same when it is written and read again.
fn read<B>(bytes: &[u8], piece: usize, mut take: impl FnMut(B))
where
    B: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug,
{
    let mut reader = MessageReader::new();
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        loop {
            match reader.next_message::<B>() {
                Ok(Some(message)) => {
                    let mut written = Vec::new();
                    // What was read with longer numbers than needed is never longer when it is written.
                    message.encode(&mut written).expect("it was short enough");
                    assert!(written.len() <= ROUTE_MESSAGE_PREFIX + ROUTE_MESSAGE_MAX);
                    let again = Message::<B>::decode(&written[ROUTE_MESSAGE_PREFIX..]);
                    let again = again.expect("it was written here");
                    assert_eq!(again, message);
                    take(again.body);
                }
                Ok(None) => break,
                Err(MessageError::PeerBody { .. }) => {}
                Err(_) => return,
            }
        }
    }
}

/// Checks a request, and carries out a setup that passes.
fn asked(request: SetupRequest, answers: &[u8]) {
    let SetupRequest::SetUp(set_up) = request else {
        drop(request.check(&key(1)));
        return;
    };
    // Whoever the path begins with may have asked.
    let Some(source) = set_up.forward.first().copied() else {
        return;
    };
    if set_up.check(&source).is_err() {
        return;
    }
    assert!(set_up.forward.len() <= ROUTE_HOPS_MAX);
    set_up_with(source, set_up, answers);
}

fn set_up_with(source: PublicKey, set_up: SetUp, answers: &[u8]) {
    let mut now = Now::ZERO;
    let mut setup = GroupSetup::new(source, set_up, Now::from_nanos(1_000));
    let mut answers = answers.iter().copied();
    let mut next_id = 0_u32;
    let mut asks = 0;
    while !setup.is_over() {
        let mut is_quiet = true;
        while let Some(ask) = setup.poll_ask() {
            asks += 1;
            assert!(asks <= 8 * ROUTE_HOPS_MAX, "it asks without end");
            let answer = match answers.next().unwrap_or(0) % 6 {
                0 | 1 => Ok(match &ask.request {
                    HopRequest::Reserve { count } => {
                        let ids = (0..*count).map(|_| {
                            next_id += 1;
                            ringway_proto::route::RouteId(next_id)
                        });
                        HopReply::Reserved { ids: ids.collect() }
                    }
                    HopRequest::AddRules { .. } | HopRequest::Release { .. } => HopReply::Done,
                }),
                2 => Ok(HopReply::Done),
                3 => Ok(HopReply::Reserved { ids: Vec::new() }),
                4 => Err(Refusal::new(Reason::HopUnreachable, "")),
                _ => continue,
            };
            is_quiet = false;
            setup.answered(ask.number, answer, now);
        }
        if is_quiet && !setup.is_over() {
            now = setup.next_deadline().expect("it is not over");
            setup.handle_timeout(now);
        }
    }
    assert!(matches!(
        setup.reply(),
        SetupReply::SetUp { .. } | SetupReply::Refused(_)
    ));
}

fn key(byte: u8) -> PublicKey {
    PublicKey::native([byte; 32])
}
