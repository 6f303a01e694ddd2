//! Two multiplexers back to back: data, windows, ends, limits, and every malformed frame.
//!
//! Here: what `peer::Mux` promises without a session. Not here: handshake and opens.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use core::time::Duration;

use proptest::prelude::*;
use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, GoAwayCode, HEADER_LEN, Header};
use ringway_proto::limits::{DRR_QUANTUM, STREAMS_MAX, WINDOW_INITIAL, WINDOW_MAX};
use ringway_proto::peer::{
    Mux, MuxConfig, MuxError, MuxEvent, OpenStreamError, Side, State, StreamError, StreamId,
};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

/// A connecting and an accepting side with a wire between them.
struct Pair {
    sides: [Mux; 2],
    now: Now,
    /// Bytes a turn carries.
    turn_bytes: usize,
    /// Lengths of the pieces in which a turn arrives, repeated.
    pieces: Vec<usize>,
    /// How long a turn takes.
    latency: Duration,
}

const A: usize = 0;
const B: usize = 1;

impl Pair {
    fn new() -> Self {
        Self::with(MuxConfig::default())
    }

    /// Two sides that speak a dialect.
    fn of(dialect: Dialect) -> Self {
        Self::with(MuxConfig {
            dialect,
            ..MuxConfig::default()
        })
    }

    fn with(config: MuxConfig) -> Self {
        let now = Now::default();
        let sides = [
            Mux::new(Side::Connecting, config.clone(), now),
            Mux::new(Side::Accepting, config, now),
        ];
        Self {
            sides,
            now,
            turn_bytes: 65_536,
            pieces: vec![usize::MAX],
            latency: Duration::ZERO,
        }
    }

    /// Carries one turn from a side to the other; returns how many bytes.
    fn carry(&mut self, from: usize) -> usize {
        let mut wire = Vec::new();
        let n = self.sides[from].transmit(&mut wire, self.turn_bytes);
        assert_eq!(n, wire.len());
        assert!(n <= self.turn_bytes);
        let mut rest = wire.as_slice();
        for piece in self.pieces.clone().into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            self.sides[1 - from].receive(now, self.now).unwrap();
            rest = later;
        }
        n
    }

    /// Carries until nothing is left to carry.
    fn settle(&mut self) {
        for _ in 0..1_000_000 {
            self.now = self.now + self.latency;
            if self.carry(A) + self.carry(B) == 0 {
                return;
            }
        }
        panic!("the pair never settles");
    }

    /// Opens a stream from one side and releases it on both.
    fn open(&mut self, from: usize) -> StreamId {
        let id = self.sides[from].open(b"request").unwrap();
        self.settle();
        let other = &mut self.sides[1 - from];
        assert_eq!(other.poll_setup(), Some(id));
        assert_eq!(read_all(other, id), b"request");
        other.acknowledge(id, b"response", false).unwrap();
        other.release(id, None);
        self.settle();
        let own = &mut self.sides[from];
        assert_eq!(own.poll_setup(), Some(id));
        assert_eq!(read_all(own, id), b"response");
        own.release(id, None);
        assert_eq!(own.state(id), Some(State::Open));
        id
    }

    /// Writes all of `bytes` from a side while the other reads; returns what was read.
    fn transfer(&mut self, from: usize, id: StreamId, bytes: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        let mut rest = bytes;
        while read.len() < bytes.len() {
            let n = self.sides[from].write(id, rest).unwrap();
            rest = &rest[n..];
            self.now = self.now + self.latency;
            let moved = self.carry(from) + self.carry(1 - from);
            let got = read_all(&mut self.sides[1 - from], id);
            assert!(n + moved + got.len() > 0, "transfer stands still");
            read.extend_from_slice(&got);
        }
        read
    }
}

fn read_all(mux: &mut Mux, id: StreamId) -> Vec<u8> {
    let mut out = Vec::new();
    let mut buffer = [0; 5_000];
    loop {
        let n = mux.read(id, &mut buffer).unwrap();
        if n == 0 {
            return out;
        }
        out.extend_from_slice(&buffer[..n]);
    }
}

fn events(mux: &mut Mux) -> Vec<MuxEvent> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Frames that `mux` has to send.
fn frames(mux: &mut Mux) -> Vec<Header> {
    let mut wire = Vec::new();
    while mux.transmit(&mut wire, 1 << 20) > 0 {}
    let mut headers = Vec::new();
    let mut rest = wire.as_slice();
    while let Some((header, tail)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(header).unwrap();
        rest = &tail[usize::try_from(header.payload_bytes()).unwrap()..];
        headers.push(header);
    }
    assert!(rest.is_empty());
    headers
}

#[test]
fn data_flows_both_ways_and_half_close_ends_each() {
    for mut pair in Dialect::ALL.map(Pair::of) {
        let id = pair.open(A);
        let data = pattern(1_000_000);
        assert_eq!(pair.transfer(A, id, &data), data);
        assert_eq!(pair.transfer(B, id, &data), data);

        pair.sides[A].write(id, b"last").unwrap();
        pair.sides[A].finish(id).unwrap();
        assert_eq!(pair.sides[A].finish(id), Err(StreamError::Finished));
        assert_eq!(pair.sides[A].write(id, b"x"), Err(StreamError::Finished));
        pair.settle();
        events(&mut pair.sides[A]);
        let b = &mut pair.sides[B];
        assert!(
            !events(b).contains(&MuxEvent::Finished { stream: id }),
            "bytes are unread"
        );
        assert_eq!(read_all(b, id), b"last");
        assert_eq!(events(b), [MuxEvent::Finished { stream: id }]);

        assert_eq!(
            pair.transfer(B, id, &data),
            data,
            "the other half still works"
        );
        pair.sides[B].finish(id).unwrap();
        pair.settle();
        assert!(events(&mut pair.sides[A]).contains(&MuxEvent::Finished { stream: id }));
        assert_eq!(
            (pair.sides[A].streams_count(), pair.sides[B].streams_count()),
            (0, 0)
        );
        assert_eq!(pair.sides[A].read(id, &mut [0]), Err(StreamError::Unknown));
    }
}

#[test]
fn fin_rides_on_the_last_data_frame() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    pair.sides[A].write(id, b"last").unwrap();
    pair.sides[A].finish(id).unwrap();
    assert_eq!(
        frames(&mut pair.sides[A]),
        [Header::data(id.as_u32(), Flags::FIN, 4)]
    );
}

#[test]
fn fin_has_a_frame_of_its_own_in_dmsg() {
    let mut pair = Pair::of(Dialect::Dmsg);
    let id = pair.open(A);
    pair.sides[A].write(id, b"last").unwrap();
    pair.sides[A].finish(id).unwrap();
    let expected = [
        Header::data(id.as_u32(), Flags::NONE, 4),
        Header::window_update(id.as_u32(), Flags::FIN, 0),
    ];
    assert_eq!(frames(&mut pair.sides[A]), expected);
    assert!(!pair.sides[A].wants_transmit());
}

#[test]
fn reset_ends_both_sides_and_late_frames_are_ignored() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    pair.sides[B].write(id, b"late").unwrap();
    pair.sides[A].write(id, b"never read").unwrap();
    pair.carry(A);
    pair.sides[A].reset(id).unwrap();
    assert_eq!(pair.sides[A].reset(id), Err(StreamError::Unknown));
    pair.settle();
    assert_eq!(events(&mut pair.sides[B]), [MuxEvent::Reset { stream: id }]);
    assert_eq!(pair.sides[B].state(id), None);
    assert_eq!(events(&mut pair.sides[A]), []);
}

#[test]
fn slow_reader_stops_the_sender_at_the_window() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    let data = pattern(1 << 20);
    let mut sent = 0;
    for _ in 0..100 {
        sent += pair.sides[A].write(id, &data[sent..]).unwrap();
        pair.settle();
    }
    // The request's seven bytes were read but half a window was not: they are not granted again.
    let window = usize::try_from(WINDOW_INITIAL).unwrap() - b"request".len();
    assert_eq!(sent, window);
    assert_eq!(pair.sides[B].readable_bytes(id), window);
    assert_eq!(pair.sides[A].write(id, &data), Ok(0));
    events(&mut pair.sides[A]);

    assert_eq!(read_all(&mut pair.sides[B], id), data[..window]);
    pair.settle();
    assert_eq!(
        events(&mut pair.sides[A]),
        [MuxEvent::Writable { stream: id }]
    );
    assert_eq!(pair.transfer(A, id, &data[window..]), data[window..]);
}

#[test]
fn window_grows_where_it_holds_the_sender_back() {
    // A long path; a short one whose processes take a millisecond. That a slow link keeps its window
    // is tested beside the arithmetic: here a turn would also be the round trip of every ping.
    for (latency_ms, turn_ms) in [(20, 20), (0, 1)] {
        let mut pair = Pair::new();
        pair.turn_bytes = 64 << 20;
        pair.latency = Duration::from_millis(latency_ms);
        let id = pair.open(A);
        pair.sides[B].ping(pair.now);
        pair.settle();
        let data = pattern(1 << 20);
        let mut read = 0;
        while read < 64 << 20 {
            pair.sides[A].write(id, &data).unwrap();
            pair.now = pair.now + Duration::from_millis(turn_ms);
            pair.carry(A);
            pair.carry(B);
            read += read_all(&mut pair.sides[B], id).len();
        }
        let window = pair.sides[B].window_bytes(id).unwrap();
        assert!(window > WINDOW_INITIAL, "{window}");
        assert!(window <= WINDOW_MAX);
    }
}

#[test]
fn window_growth_of_all_streams_is_bounded() {
    let growth_max = WINDOW_INITIAL * 3;
    let mut pair = Pair::with(MuxConfig {
        window_growth_bytes_max: growth_max,
        ..MuxConfig::default()
    });
    pair.latency = Duration::from_millis(20);
    pair.turn_bytes = 64 << 20;
    let ids: Vec<_> = (0..4).map(|_| pair.open(A)).collect();
    pair.sides[B].ping(pair.now);
    pair.settle();
    for _ in 0..10 {
        for &id in &ids {
            pair.transfer(A, id, &pattern(1 << 20));
        }
    }
    let grown = |pair: &Pair| -> u32 {
        ids.iter()
            .filter_map(|&id| pair.sides[B].window_bytes(id))
            .map(|w| w - WINDOW_INITIAL)
            .sum()
    };
    assert_eq!(grown(&pair), growth_max);
    // What a stream grew by is free for others when it ends.
    pair.sides[B].reset(ids[0]).unwrap();
    for _ in 0..10 {
        pair.transfer(A, ids[3], &pattern(1 << 20));
    }
    assert_eq!(grown(&pair), growth_max);
}

#[test]
fn initial_window_above_the_default_travels_with_syn_and_ack() {
    let config = MuxConfig {
        window_initial: 2 * WINDOW_INITIAL,
        ..MuxConfig::default()
    };
    let mut pair = Pair::with(config);
    for from in [A, B] {
        let id = pair.open(from);
        for side in [A, B] {
            let mut sent = 0;
            for _ in 0..10 {
                sent += pair.sides[side].write(id, &pattern(1 << 20)).unwrap();
                pair.settle();
            }
            assert!(sent > usize::try_from(WINDOW_INITIAL).unwrap());
            assert!(sent <= usize::try_from(2 * WINDOW_INITIAL).unwrap());
        }
    }
}

#[test]
fn two_thousand_streams_share_the_session_fairly() {
    let mut pair = Pair::new();
    let ids: Vec<_> = (0..2_000).map(|_| pair.open(A)).collect();
    let data = pattern(2_000);
    for &id in &ids {
        assert_eq!(pair.sides[A].write(id, &data), Ok(data.len()));
    }
    pair.settle();
    for &id in &ids {
        assert_eq!(read_all(&mut pair.sides[B], id), data);
        assert_eq!(pair.sides[B].write(id, &data), Ok(data.len()));
        pair.sides[B].finish(id).unwrap();
        pair.sides[A].finish(id).unwrap();
    }
    pair.settle();
    for &id in &ids {
        assert_eq!(read_all(&mut pair.sides[A], id), data);
    }
    assert_eq!(
        events(&mut pair.sides[A]).len(),
        2_000,
        "finished, once each"
    );
    events(&mut pair.sides[B]);
    assert_eq!(
        (pair.sides[A].streams_count(), pair.sides[B].streams_count()),
        (0, 0)
    );
}

#[test]
fn streams_take_turns_and_control_frames_go_first() {
    let mut pair = Pair::new();
    let ids = [pair.open(A), pair.open(A), pair.open(A)];
    for &id in &ids {
        pair.sides[A].write(id, &pattern(50_000)).unwrap();
    }
    pair.sides[A].ping(pair.now);
    let frames = frames(&mut pair.sides[A]);
    assert_eq!(frames[0], Header::ping(Flags::SYN, 1));
    let turns: Vec<_> = frames[1..7]
        .iter()
        .map(|frame| (frame.stream_id, frame.length))
        .collect();
    let expected: Vec<_> = ids
        .iter()
        .chain(&ids)
        .map(|id| (id.as_u32(), DRR_QUANTUM))
        .collect();
    assert_eq!(turns, expected);
}

#[test]
fn session_queue_is_bounded_and_wakes_its_writers() {
    let queue_max = 100_000;
    let config = MuxConfig {
        send_queue_bytes_max: queue_max,
        ..MuxConfig::default()
    };
    let mut pair = Pair::with(config);
    let ids: Vec<_> = (0..5).map(|_| pair.open(A)).collect();
    let data = pattern(60_000);
    let taken: Vec<_> = ids
        .iter()
        .map(|&id| pair.sides[A].write(id, &data).unwrap())
        .collect();
    assert_eq!(taken, [60_000, 40_000, 0, 0, 0]);
    pair.settle();
    let woken: Vec<_> = events(&mut pair.sides[A])
        .into_iter()
        .filter_map(|event| match event {
            MuxEvent::Writable { stream } => Some(stream),
            _ => None,
        })
        .collect();
    assert_eq!(woken, ids[1..]);
}

#[test]
fn any_room_for_output_makes_progress() {
    for turn_bytes in [1, 2, 11, 12, 13, 14, 500, 1_035, 1_036, 1_037] {
        let mut pair = Pair::new();
        let id = pair.open(A);
        pair.turn_bytes = turn_bytes;
        let data = pattern(3_000);
        assert_eq!(pair.transfer(A, id, &data), data, "{turn_bytes}");
        pair.sides[A].finish(id).unwrap();
        pair.settle();
        assert!(events(&mut pair.sides[B]).contains(&MuxEvent::Finished { stream: id }));
    }
}

#[test]
fn chunks_are_handed_out_without_a_copy() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    let data = pattern(40_000);
    pair.sides[A].write(id, &data).unwrap();
    pair.settle();
    let mut read = Vec::new();
    while let Some(mut chunk) = pair.sides[B].read_chunk(id).unwrap() {
        chunk[0] ^= 0;
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, data);
}

#[test]
fn ping_measures_the_round_trip_once_for_all_who_ask() {
    let mut pair = Pair::new();
    pair.latency = Duration::from_millis(7);
    pair.sides[A].ping(pair.now);
    pair.sides[A].ping(pair.now);
    pair.settle();
    let rtt = Duration::from_millis(7);
    assert_eq!(events(&mut pair.sides[A]), [MuxEvent::Pong { rtt }]);
    assert_eq!(pair.sides[A].rtt(), Some(rtt));
    pair.sides[A].probe(pair.now);
    pair.settle();
    assert_eq!(events(&mut pair.sides[A]), [], "a probe is nobody's event");
}

#[test]
fn go_away_refuses_new_streams_and_leaves_the_open_ones() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    pair.sides[B].go_away();
    pair.sides[B].go_away();
    pair.settle();
    assert_eq!(events(&mut pair.sides[A]), [MuxEvent::GoAway { code: 0 }]);
    assert_eq!(pair.sides[A].open(b"no"), Err(OpenStreamError::GoingAway));
    assert_eq!(pair.sides[B].open(b"no"), Err(OpenStreamError::GoingAway));
    assert_eq!(pair.transfer(A, id, b"still"), b"still");
}

#[test]
fn stream_opened_against_a_go_away_is_reset() {
    let mut pair = Pair::new();
    let id = pair.sides[A].open(b"crossing").unwrap();
    pair.sides[B].go_away();
    pair.settle();
    assert_eq!(pair.sides[A].poll_setup(), Some(id));
    assert_eq!(pair.sides[A].state(id), None);
    assert_eq!(pair.sides[B].streams_count(), 0);
}

#[test]
fn stream_limit_holds_on_both_sides() {
    let mut pair = Pair::new();
    pair.sides[B].limit_streams(1);
    pair.open(A);
    let second = pair.sides[A].open(b"too many").unwrap();
    pair.settle();
    assert_eq!(pair.sides[A].poll_setup(), Some(second));
    assert_eq!(
        pair.sides[A].state(second),
        None,
        "reset by the remote side"
    );
    assert_eq!(
        pair.sides[B].open(b""),
        Err(OpenStreamError::LocalStreams { have: 1, want: 1 })
    );
    assert_eq!(
        OpenStreamError::LocalStreams { have: 1, want: 1 }.reason(),
        Reason::TooManyStreams
    );
}

#[test]
fn streams_in_setup_raise_no_events_until_released() {
    let mut pair = Pair::new();
    let id = pair.sides[A].open(b"request").unwrap();
    pair.settle();
    assert_eq!(events(&mut pair.sides[B]), []);
    assert_eq!(pair.sides[B].write(id, b"x"), Err(StreamError::NotOpen));
    assert_eq!(pair.sides[A].write(id, b"x"), Err(StreamError::NotOpen));
    pair.sides[B].acknowledge(id, b"", false).unwrap();
    pair.sides[B].release(id, None);
    assert_eq!(
        events(&mut pair.sides[B]),
        [MuxEvent::Readable { stream: id }]
    );
}

#[test]
fn data_after_fin_resets_the_stream_and_not_the_session() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    let mut wire = Vec::new();
    wire.extend_from_slice(&Header::data(id.as_u32(), Flags::FIN, 1).encode());
    wire.push(1);
    wire.extend_from_slice(&Header::data(id.as_u32(), Flags::NONE, 1).encode());
    wire.push(2);
    pair.sides[B].receive(&wire, pair.now).unwrap();
    assert_eq!(events(&mut pair.sides[B]), [MuxEvent::Reset { stream: id }]);
    pair.settle();
    assert_eq!(events(&mut pair.sides[A]), [MuxEvent::Reset { stream: id }]);
}

/// Feeds one frame, with its payload, to a side that has one open stream (1).
fn feed(header: [u8; HEADER_LEN], payload: usize) -> MuxError {
    let mut pair = Pair::new();
    assert_eq!(pair.open(A), StreamId::new(1));
    let mut wire = header.to_vec();
    wire.resize(HEADER_LEN + payload, 0);
    pair.sides[B].receive(&wire, pair.now).unwrap_err()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table, one entry a malformed frame"
)]
fn malformed_frames_have_named_errors() {
    let one = StreamId::new(1);
    let meaningless = |stream: u32, flags: Flags| MuxError::PeerFrameMeaningless {
        stream: StreamId::new(stream),
        flags: flags.bits(),
    };
    let over = WINDOW_INITIAL + 1;
    let none = Flags::NONE;
    let mut ping_of_stream = Header::ping(Flags::SYN, 1);
    ping_of_stream.stream_id = 5;
    let mut go_away_syn = Header::go_away(GoAwayCode::Normal);
    go_away_syn.flags = Flags::SYN;
    let cases = [
        (
            Header::data(1, none, over),
            MuxError::PeerWindowExceeded {
                stream: one,
                have: over,
                want: WINDOW_INITIAL - u32::try_from(b"request".len()).unwrap(),
            },
        ),
        (
            Header::data(1, Flags::SYN, 0),
            MuxError::PeerStreamReused { stream: one },
        ),
        (
            Header::data(4, Flags::SYN, 0),
            MuxError::PeerStreamReused {
                stream: StreamId::new(4),
            },
        ),
        (
            Header::data(3, none, 1),
            MuxError::PeerStreamUnknown {
                stream: StreamId::new(3),
            },
        ),
        (
            Header::window_update(3, none, 1),
            MuxError::PeerStreamUnknown {
                stream: StreamId::new(3),
            },
        ),
        (
            Header::window_update(2, Flags::RST, 0),
            MuxError::PeerStreamUnknown {
                stream: StreamId::new(2),
            },
        ),
        (
            Header::window_update(1, none, u32::MAX),
            MuxError::PeerWindowOverflow { stream: one },
        ),
        (Header::data(0, none, 1), meaningless(0, none)),
        (
            Header::data(3, Flags::SYN | Flags::ACK, 0),
            meaningless(3, Flags::SYN | Flags::ACK),
        ),
        (ping_of_stream, meaningless(5, Flags::SYN)),
        (Header::ping(none, 1), meaningless(0, none)),
        (
            Header::ping(Flags::SYN | Flags::ACK, 1),
            meaningless(0, Flags::SYN | Flags::ACK),
        ),
        (go_away_syn, meaningless(0, Flags::SYN)),
    ];
    for (header, expected) in cases {
        let error = feed(header.encode(), 1);
        assert_eq!(error, expected);
        assert_eq!(error.reason(), Reason::ProtocolError);
    }
    for position in [0, 1, 2] {
        let mut header = Header::data(1, none, 0).encode();
        header[position] = 0x70;
        assert!(matches!(feed(header, 0), MuxError::PeerFrame(_)));
    }
}

#[test]
fn frame_for_a_gone_stream_is_discarded_within_reason() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    pair.sides[B].reset(id).unwrap();
    let mut wire = Header::data(id.as_u32(), Flags::NONE, 10).encode().to_vec();
    wire.extend_from_slice(&[0; 10]);
    pair.sides[B].receive(&wire, pair.now).unwrap();
    let huge = Header::data(id.as_u32(), Flags::NONE, WINDOW_MAX + 1).encode();
    assert!(pair.sides[B].receive(&huge, pair.now).is_err());
}

#[test]
fn flood_of_pings_ends_the_session() {
    let mut pair = Pair::new();
    let ping = Header::ping(Flags::SYN, 1).encode();
    let mut result = Ok(());
    for _ in 0..100_000 {
        result = pair.sides[B].receive(&ping, pair.now);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(MuxError::PeerFlood));
}

#[test]
fn events_nobody_polls_end_the_session() {
    let mut pair = Pair::new();
    let mut result = Ok(());
    for id in (1..200_000).step_by(2) {
        let syn = Header::window_update(id, Flags::SYN, 0).encode();
        let rst = Header::window_update(id, Flags::RST, 0).encode();
        let b = &mut pair.sides[B];
        b.receive(&syn, pair.now).unwrap();
        while let Some(id) = b.poll_setup() {
            b.release(id, None);
        }
        result = b.receive(&rst, pair.now);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(MuxError::LocalEvents));
}

#[test]
fn open_is_refused_when_streams_or_ids_are_used_up() {
    let mut mux = Mux::new(Side::Connecting, MuxConfig::default(), Now::default());
    for _ in 0..STREAMS_MAX {
        mux.open(b"request").unwrap();
    }
    let full = OpenStreamError::LocalStreams {
        have: STREAMS_MAX,
        want: STREAMS_MAX,
    };
    assert_eq!(mux.open(b"request"), Err(full));
}

#[test]
fn close_still_yields_control_frames_and_a_go_away() {
    let mut pair = Pair::new();
    let id = pair.open(A);
    pair.sides[A].write(id, b"dropped").unwrap();
    pair.sides[B].write(id, b"kept").unwrap();
    pair.carry(B);
    pair.sides[A].close(Some(GoAwayCode::ProtocolError));
    assert_eq!(
        frames(&mut pair.sides[A]),
        [Header::go_away(GoAwayCode::ProtocolError)]
    );
    assert!(!pair.sides[A].wants_transmit());
    assert_eq!(pair.sides[A].write(id, b"x"), Err(StreamError::Closed));
    assert_eq!(pair.sides[A].open(b"x"), Err(OpenStreamError::Closed));
    assert_eq!(read_all(&mut pair.sides[A], id), b"kept");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the splits, what is read is what was written.
    #[test]
    fn any_split_delivers_the_same_bytes(
        pieces in prop::collection::vec(1_usize..3_000, 1..20),
        turn_bytes in 1_usize..40_000,
        lengths in prop::collection::vec(0_usize..60_000, 1..6),
        dialect in prop::sample::select(&Dialect::ALL),
    ) {
        let mut pair = Pair::of(dialect);
        pair.pieces = pieces;
        let ids: Vec<_> = (0..3).map(|n| pair.open(n % 2)).collect();
        pair.turn_bytes = turn_bytes;
        for (n, &len) in lengths.iter().enumerate() {
            let data = pattern(len);
            let read = pair.transfer(n % 2, ids[n % ids.len()], &data);
            prop_assert!(read == data);
        }
        // The end comes behind the last bytes, and once.
        for (&id, &len) in ids.iter().zip(&lengths) {
            let data = pattern(len.min(20_000));
            prop_assert_eq!(pair.sides[A].write(id, &data), Ok(data.len()));
            pair.sides[A].finish(id).unwrap();
            pair.settle();
            prop_assert!(read_all(&mut pair.sides[B], id) == data);
            let finished = MuxEvent::Finished { stream: id };
            let count = |mux: &mut Mux| events(mux).iter().filter(|it| **it == finished).count();
            prop_assert_eq!(count(&mut pair.sides[B]), 1);
            pair.sides[B].finish(id).unwrap();
            pair.settle();
            prop_assert_eq!(count(&mut pair.sides[A]), 1);
        }
    }

    /// No sequence of frames makes a side panic, and windows are never exceeded unnoticed.
    #[test]
    fn arbitrary_frames_never_panic(
        frames in prop::collection::vec(
            (0_u8..5, 0_u16..32, 0_u32..8, prop::collection::vec(any::<u8>(), 0..40)),
            0..200,
        ),
        piece in 1_usize..64,
        dialect in prop::sample::select(&Dialect::ALL),
    ) {
        let mut pair = Pair::of(dialect);
        pair.open(A);
        pair.open(B);
        let mut wire = Vec::new();
        for (kind, flags, stream, payload) in frames {
            let len = u32::try_from(payload.len()).unwrap();
            wire.extend_from_slice(&[0, kind]);
            wire.extend_from_slice(&flags.to_be_bytes());
            wire.extend_from_slice(&stream.to_be_bytes());
            wire.extend_from_slice(&len.to_be_bytes());
            if kind == 0 {
                wire.extend_from_slice(&payload);
            }
        }
        let b = &mut pair.sides[B];
        for bytes in wire.chunks(piece) {
            if b.receive(bytes, pair.now).is_err() {
                b.close(Some(GoAwayCode::ProtocolError));
                break;
            }
            while let Some(id) = b.poll_setup() {
                b.release(id, None);
            }
            while b.poll_event().is_some() {}
        }
        let mut out = Vec::new();
        while b.transmit(&mut out, 1_000) > 0 {}
    }
}
