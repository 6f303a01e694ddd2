//! Two ends and a path that loses, doubles and changes: what is written is read, once and in order.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A segment on its way.
type OnTheWay = (Now, Segment, Vec<u8>);

struct Pair {
    now: Now,
    ends: [Flow; 2],
    /// What is on its way to each end; kept in order, as a path does.
    ways: [VecDeque<OnTheWay>; 2],
    written: [Vec<u8>; 2],
    read: [Vec<u8>; 2],
    /// A word of the plan for each segment that is sent.
    plan: Vec<u8>,
    sent_count: usize,
}

impl Pair {
    fn new(plan: Vec<u8>) -> Self {
        let flow = || Flow::new(KEEP_ALIVE, Now::ZERO);
        Self {
            now: Now::ZERO,
            ends: [flow(), flow()],
            ways: [VecDeque::new(), VecDeque::new()],
            written: [Vec::new(), Vec::new()],
            read: [Vec::new(), Vec::new()],
            plan,
            sent_count: 0,
        }
    }

    /// Writes, sends, loses, delivers and reads at one instant.
    fn turn(&mut self, data: &[&[u8]; 2], chunk: usize) {
        for (end, other) in [(0, 1), (1, 0)] {
            let rest = &data[end][self.written[end].len()..];
            let taken = self.ends[end].write(&rest[..rest.len().min(chunk)]);
            self.written[end].extend_from_slice(&rest[..taken]);
            if self.written[end].len() == data[end].len() {
                self.ends[end].finish();
            }
            while let Some((segment, range)) = self.ends[end].poll_segment(self.now) {
                let bytes = self.ends[end].data(&range).concat();
                self.send(other, segment, bytes);
            }
            let mut buf = vec![0; chunk];
            while let Some(n @ 1..) = self.ends[end].read(&mut buf) {
                self.read[end].extend_from_slice(&buf[..n]);
            }
        }
    }

    fn send(&mut self, to: usize, segment: Segment, bytes: Vec<u8>) {
        let word = self.plan.get(self.sent_count).copied().unwrap_or(255);
        self.sent_count += 1;
        let arrives = self.now + Duration::from_millis(10);
        match word {
            // Lost.
            0..40 => {}
            // Doubled.
            40..60 => {
                self.ways[to].push_back((arrives, segment, bytes.clone()));
                self.ways[to].push_back((arrives, segment, bytes));
            }
            // The path changes: what is on its way is lost, or comes on the old path, late.
            60..66 => {
                self.ways.iter_mut().for_each(VecDeque::clear);
                self.change();
            }
            66..72 => {
                self.ways[to].push_back((arrives + Duration::from_secs(1), segment, bytes));
                self.change();
            }
            _ => self.ways[to].push_back((arrives, segment, bytes)),
        }
    }

    fn change(&mut self) {
        let now = self.now;
        self.ends.iter_mut().for_each(|end| end.path_changed(now));
    }

    /// Goes to the next instant at which something happens. A dead path is replaced, as the router does.
    fn step(&mut self) {
        let arrivals = self.ways.iter().flatten().map(|(at, ..)| *at);
        let deadlines = self.ends.iter().map(Flow::deadline);
        let next = arrivals.chain(deadlines).min().expect("a deadline");
        self.now = next.max(self.now);
        for end in 0..2 {
            let (due, later) = std::mem::take(&mut self.ways[end])
                .into_iter()
                .partition::<VecDeque<_>, _>(|(at, ..)| *at <= self.now);
            self.ways[end] = later;
            for (_, segment, bytes) in due {
                self.ends[end].arrive(&segment, &bytes, self.now);
            }
            if self.ends[end].tick(self.now) {
                self.ends[end].path_changed(self.now);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.ends.iter().all(Flow::is_done)
    }
}

fn pattern(len: usize, salt: usize) -> Vec<u8> {
    let byte = |at: usize| u8::try_from((at * 31 + at / 251 + salt) % 256).expect("a byte");
    (0..len).map(byte).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_bytes_arrive_once_and_in_order(
        lens in (0_usize..3_000_000, 0_usize..400_000),
        plan in vec(any::<u8>(), 0..600),
        chunk in 1_000_usize..200_000,
    ) {
        let data = [pattern(lens.0, 1), pattern(lens.1, 2)];
        let mut pair = Pair::new(plan);
        for _ in 0..20_000 {
            pair.turn(&[&data[0], &data[1]], chunk);
            if pair.is_done() {
                break;
            }
            pair.step();
        }
        prop_assert!(pair.is_done(), "not done at {:?}", pair.now);
        prop_assert!(pair.read[1] == data[0]);
        prop_assert!(pair.read[0] == data[1]);
        // What is lost is repaired, not answered with everything again and again.
        let least = (lens.0 + lens.1) / chunk.min(16_000);
        prop_assert!(pair.sent_count < 4_000 + 4 * least, "{} segments", pair.sent_count);
    }

    #[test]
    fn any_segments_break_nothing(
        segments in vec((any::<u64>(), any::<u64>(), any::<u32>(), 0_u8..32, 0_usize..3), 1..40),
        written in 0_usize..2_000_000,
    ) {
        let mut flow = Flow::new(KEEP_ALIVE, Now::ZERO);
        flow.write(&pattern(written, 3));
        let mut buf = [0; 1_000];
        for (offset, acknowledged, window, flags, small) in segments {
            let [offset, acknowledged] = [offset, acknowledged].map(|at| match small {
                0 => at,
                1 => at % 64,
                _ => at % 2_000_000,
            });
            let segment = Segment { offset, acknowledged, window, stamp: 1, echo: 2, flags };
            flow.arrive(&segment, &pattern(64, 4), Now::ZERO);
            flow.read(&mut buf);
            while let Some((segment, range)) = flow.poll_segment(Now::ZERO) {
                if segment.has(Segment::RESET) {
                    break;
                }
                prop_assert_eq!(flow.data(&range).concat().len(), range.len());
            }
        }
    }
}

#[test]
fn a_silent_path_is_dead_within_half_of_the_keep_alive_time() {
    let mut flow = Flow::new(KEEP_ALIVE, Now::ZERO);
    flow.write(b"anybody?");
    let mut now = Now::ZERO;
    let mut probes_count = 0;
    loop {
        while flow.poll_segment(now).is_some() {
            probes_count += 1;
        }
        now = flow.deadline();
        if flow.tick(now) {
            break;
        }
    }
    let silence = now.saturating_since(Now::ZERO);
    assert!(silence <= KEEP_ALIVE / 2, "{silence:?}");
    assert!((3..8).contains(&probes_count), "{probes_count} segments");
}

#[test]
fn a_slow_path_has_as_many_probes_as_a_fast_one_before_it_is_dead() {
    let mut flow = Flow::new(KEEP_ALIVE, Now::ZERO);
    flow.write(b"anybody?");
    let (segment, _) = flow.poll_segment(Now::ZERO).expect("the bytes");
    let answer = Segment {
        echo: segment.stamp,
        flags: Segment::HAS_ECHO,
        ..Segment::default()
    };
    // A segment that was held up: twice the round trip and more until the first probe.
    let heard = Now::ZERO + Duration::from_secs(3);
    flow.arrive(&answer, &[], heard);
    let mut now = heard;
    let mut probes_count = 0;
    while !flow.tick(now) {
        while let Some((segment, _)) = flow.poll_segment(now) {
            probes_count += u32::from(segment.has(Segment::PROBE));
        }
        now = flow.deadline();
    }
    assert_eq!(probes_count, SILENT_MAX);
    let silence = now.saturating_since(heard);
    assert!(silence <= KEEP_ALIVE / 2, "{silence:?}");
}

#[test]
fn a_reader_that_stops_stops_the_writer_and_starts_it_again() {
    let data = pattern(5_000_000, 5);
    let mut flow = Flow::new(KEEP_ALIVE, Now::ZERO);
    let mut far = Flow::new(KEEP_ALIVE, Now::ZERO);
    let mut now = Now::ZERO;
    let mut written = 0;
    let mut read = Vec::new();
    for turn in 0..3_000 {
        written += flow.write(&data[written..]);
        while let Some((segment, range)) = flow.poll_segment(now) {
            let bytes = flow.data(&range).concat();
            far.arrive(&segment, &bytes, now);
        }
        if turn == 200 {
            let window = usize::try_from(ringway_proto::limits::ROUTE_WINDOW).expect("small");
            assert!(written <= 2 * window, "{written} were taken");
        }
        if turn >= 200 {
            let mut buf = [0; 10_000];
            let n = far.read(&mut buf).unwrap_or(0);
            read.extend_from_slice(&buf[..n]);
        }
        while let Some((segment, _)) = far.poll_segment(now) {
            flow.arrive(&segment, &[], now);
        }
        now = now + Duration::from_millis(1);
        flow.tick(now);
        far.tick(now);
    }
    assert!(read.len() > 4_000_000 && data.starts_with(&read));
}
