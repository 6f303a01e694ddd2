//! Both ends of a bridge that close at the same time, in every order.

use std::sync::Barrier;
use std::thread;

use ringway_proto::frame::{Flags, Header};
use ringway_proto::reason::Reason;

use crate::raw::{Event, Raw};
use crate::relay::{DEADLINE, Relay};

const SESSIONS: usize = 200;
const STREAMS: usize = 50;

/// What one end of a bridge sends to close it: each must end the bridge together with any other.
const CLOSES: [fn(u32) -> Vec<u8>; 5] = [
    |id| Header::window_update(id, Flags::FIN, 0).encode().to_vec(),
    |id| Header::window_update(id, Flags::RST, 0).encode().to_vec(),
    |id| Header::data(id, Flags::FIN, 0).encode().to_vec(),
    |id| {
        let mut frames = Header::data(id, Flags::NONE, 3).encode().to_vec();
        frames.extend_from_slice(b"end");
        frames.extend_from_slice(&Header::window_update(id, Flags::FIN, 0).encode());
        frames
    },
    |id| {
        let mut frames = Header::window_update(id, Flags::FIN, 0).encode().to_vec();
        frames.extend_from_slice(&Header::window_update(id, Flags::RST, 0).encode());
        frames
    },
];

/// Opens `STREAMS` streams from each peer to the next one; returns each peer's ends in the order of
/// their bridges' numbers.
fn bridge_all(peers: &mut [Raw]) -> Vec<Vec<(usize, u32)>> {
    let mut ends = vec![Vec::new(); peers.len()];
    for source in 0..peers.len() {
        let target = (source + 1) % peers.len();
        let destination = peers[target].address();
        let request = peers[source].request(destination);
        let mut flight = Vec::new();
        for stream in 0..STREAMS {
            let (id, frames) = peers[source].sealed(&request);
            ends[source].push((source * STREAMS + stream, id));
            flight.extend_from_slice(&frames);
        }
        peers[source].send(&flight);
        let mut answers = Vec::new();
        for stream in 0..STREAMS {
            let (id, hash) = peers[target].asked();
            ends[target].push((source * STREAMS + stream, id));
            answers.extend_from_slice(&peers[target].acceptance(id, hash));
        }
        peers[target].send(&answers);
        for _ in 0..STREAMS {
            let event = peers[source].next();
            assert!(
                matches!(event, Event::Response(_, Reason::Accepted)),
                "{event:?}"
            );
        }
    }
    ends
}

/// All closes of one peer, in an order of its own.
fn closes_of(peer: usize, ends: &[(usize, u32)]) -> Vec<u8> {
    let mut flight = Vec::new();
    for place in 0..ends.len() {
        // One end begins with the first bridge, the other with the last.
        let (bridge, id) = ends[if peer.is_multiple_of(2) {
            place
        } else {
            ends.len() - 1 - place
        }];
        let pair = bridge % (CLOSES.len() * CLOSES.len());
        let is_opener = bridge / STREAMS == peer;
        let kind = if is_opener {
            pair / CLOSES.len()
        } else {
            pair % CLOSES.len()
        };
        flight.extend_from_slice(&CLOSES[kind](id));
    }
    flight
}

fn close_from_both_ends(shards_count: u16) {
    let relay = Relay::with_shards(shards_count);
    let mut peers: Vec<Raw> = (0..SESSIONS)
        .map(|number| Raw::admitted(&relay, u32::try_from(number).unwrap()))
        .collect();
    let ends = bridge_all(&mut peers);
    let legs = u64::try_from(2 * SESSIONS * STREAMS).unwrap();
    assert_eq!(relay.sum(|shard| shard.audit.streams), legs);
    let start = Barrier::new(2);
    let mut flights: Vec<_> = ends
        .iter()
        .enumerate()
        .map(|(peer, ends)| closes_of(peer, ends))
        .collect();
    // The ends of a bridge belong to neighbours, and neighbours to different threads.
    thread::scope(|scope| {
        for parity in 0..2 {
            let (start, flights) = (&start, &flights);
            let own: Vec<_> = peers
                .iter()
                .map(Raw::socket)
                .zip(flights)
                .skip(parity)
                .step_by(2)
                .collect();
            scope.spawn(move || {
                start.wait();
                for (mut socket, flight) in own {
                    std::io::Write::write_all(&mut socket, flight).unwrap();
                }
            });
        }
    });
    flights.clear();
    relay.until("open streams", 0, |shard| shard.audit.streams);
    assert_eq!(
        relay.sum(|shard| shard.stats.opens_accepted),
        legs / 2,
        "every bridge stood"
    );
    assert_eq!(
        relay.sum(|shard| shard.audit.sessions),
        200,
        "no session was hurt"
    );
    assert_eq!(
        relay.set.snapshots(DEADLINE).len(),
        usize::from(shards_count)
    );
    relay.check_books();
    // Both ends have closed: the sessions go on and can open again.
    let (first, rest) = peers.split_at_mut(1);
    let (near, far) = first[0].bridge(&mut rest[0]);
    first[0].write(near, b"alive");
    rest[0].expect(far, b"alive");
    drop(peers);
    relay.until_empty();
    relay.end();
}

#[test]
fn ten_thousand_bridges_closed_from_both_ends_at_once_are_gone_on_one_shard() {
    close_from_both_ends(1);
}

#[test]
fn ten_thousand_bridges_closed_from_both_ends_at_once_are_gone_across_two_shards() {
    close_from_both_ends(2);
}
