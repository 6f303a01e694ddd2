//! Long frames that go by a lane, and what becomes of a lane.

use std::time::Duration;

use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::peer::StreamId;
use ringway_proto::reason::Reason;

use super::harness::Harness;
use super::pattern;
use crate::core::{LaneLimits, LaneStep, LaneVerdict, RecvEnd, Slot};

const LENGTH: u32 = 40_000;

/// Two peers with a bridge between them, the first in its lane.
struct Setting {
    harness: Harness,
    wires: [usize; 2],
    slots: [Slot; 2],
    streams: [StreamId; 2],
}

impl Setting {
    fn new() -> Self {
        let mut harness = Harness::with(1, |config| config.lane = Some(LaneLimits::default()));
        let (a, b) = (harness.connect(1, 0), harness.connect(2, 0));
        let (from, to) = harness.bridge(a, b, 2);
        let mut setting = Self {
            slots: [harness.wires[a].slot, harness.wires[b].slot],
            wires: [a, b],
            streams: [from, to],
            harness,
        };
        let payload = pattern(60_000);
        for _ in 0..9 {
            setting.grant();
            setting.send(&payload);
            setting.read(60_000);
        }
        assert_eq!(setting.harness.lanes, [(0, setting.slots[0])]);
        assert_eq!(setting.next(), LaneStep::Header);
        setting.grant();
        setting
    }

    /// Lets the first peer send another window.
    fn grant(&mut self) {
        let grant = Header::window_update(self.streams[1].as_u32(), Flags::NONE, 200_000).encode();
        self.harness.inject(self.wires[1], &grant);
        self.harness.run();
    }

    fn send(&mut self, payload: &[u8]) {
        let header = self.data(u32::try_from(payload.len()).unwrap());
        self.harness
            .inject(self.wires[0], &[&header[..], payload].concat());
        self.harness.run();
    }

    fn data(&self, length: u32) -> [u8; HEADER_LEN] {
        Header::data(self.streams[0].as_u32(), Flags::NONE, length).encode()
    }

    /// Reads what has come to the second peer.
    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let (wire, stream) = (self.wires[1], self.streams[1]);
        let mut have = 0;
        while have < count {
            let more = self.harness.session(wire).read(stream, &mut bytes[have..]);
            let more = more.unwrap();
            assert!(more > 0, "{have} of {count} bytes came");
            have += more;
        }
        bytes
    }

    fn next(&mut self) -> LaneStep {
        let now = self.harness.now;
        self.harness.cores[0].lane_next(self.slots[0], now)
    }

    fn header(&mut self, header: [u8; HEADER_LEN]) -> LaneStep {
        let now = self.harness.now;
        self.harness.cores[0].lane_header(self.slots[0], header, now)
    }

    fn collected(&mut self) -> LaneVerdict {
        let now = self.harness.now;
        self.harness.cores[0].lane_collected(self.slots[0], now)
    }

    /// A long frame: its header goes in, the one that it leaves with comes out.
    fn long(&mut self) -> [u8; HEADER_LEN] {
        let header = self.data(LENGTH);
        match self.header(header) {
            LaneStep::Collect {
                header,
                length,
                target,
            } => {
                assert_eq!((length, target), (LENGTH, self.slots[1]));
                header
            }
            other => panic!("{other:?} of a long frame"),
        }
    }

    fn lanes(&self) -> u64 {
        self.harness.cores[0].audit().lanes
    }
}

#[test]
fn long_frame_leaves_as_one_send_behind_the_id_of_the_other_leg() {
    let mut setting = Setting::new();
    let before = setting.harness.cores[0].stats().clone();
    let payload = pattern(LENGTH as usize);
    let header = setting.long();
    setting.harness.piped = [&header[..], &payload].concat();
    assert_eq!(setting.collected(), LaneVerdict::Sent);
    let total = u64::from(LENGTH) + HEADER_LEN as u64;
    assert_eq!(setting.harness.cores[0].audit().queued_bytes, total);
    setting.harness.run();
    assert!(setting.read(LENGTH as usize) == payload);
    let stats = setting.harness.cores[0].stats();
    assert_eq!(stats.bytes_received - before.bytes_received, total);
    assert_eq!(stats.bytes_sent - before.bytes_sent, total);
    assert_eq!(stats.frames_received - before.frames_received, 1);
    let forwarded = stats.payload_bytes_forwarded - before.payload_bytes_forwarded;
    assert_eq!(
        (forwarded, stats.lane_bytes),
        (u64::from(LENGTH), u64::from(LENGTH))
    );
    assert_eq!(setting.next(), LaneStep::Header);
    setting.harness.assert_clean();
}

#[test]
fn session_without_a_lane_asks_again_after_a_pause() {
    let mut setting = Setting::new();
    let now = setting.harness.now;
    setting.harness.cores[0].lane_left(setting.slots[0], true, now);
    assert_eq!(setting.lanes(), 0);
    assert_eq!(setting.harness.cores[0].stats().lanes_refused, 1);
    assert_eq!(setting.next(), LaneStep::Leave);
    setting.harness.lanes.clear();
    let payload = pattern(60_000);
    for pause in [0, 6] {
        setting.harness.pass(Duration::from_secs(pause));
        assert!(setting.harness.lanes.is_empty());
        for _ in 0..10 {
            setting.grant();
            setting.send(&payload);
            setting.read(60_000);
        }
    }
    assert_eq!(setting.harness.lanes, [(0, setting.slots[0])]);
    setting.harness.assert_clean();
}

#[test]
fn other_frames_are_taken_as_ever_and_end_the_lane_when_they_are_many() {
    let mut setting = Setting::new();
    let ping = Header::ping(Flags::SYN, 7).encode();
    for _ in 0..40 {
        assert_eq!(
            setting.header(ping),
            LaneStep::Header,
            "control frames cost nothing"
        );
    }
    let payload = pattern(100);
    let header = setting.data(100);
    for _ in 0..6 {
        assert_eq!(setting.header(header), LaneStep::Bytes(100));
        setting.harness.inject(setting.wires[0], &payload[..60]);
        assert_eq!(setting.next(), LaneStep::Bytes(40));
        setting.harness.inject(setting.wires[0], &payload[60..]);
        setting.harness.run();
        assert!(setting.read(100) == payload);
        setting.next();
    }
    assert_eq!((setting.next(), setting.lanes()), (LaneStep::Leave, 0));
    setting.harness.assert_clean();
}

#[test]
fn long_frame_beyond_the_credit_ends_the_session() {
    let mut setting = Setting::new();
    let header = setting.data(1 << 24);
    assert_eq!(setting.header(header), LaneStep::Leave);
    let closed = &setting.harness.cores[0].stats().sessions_closed;
    assert_eq!((closed.of(Reason::ProtocolError), setting.lanes()), (1, 0));
    setting.harness.assert_clean();
}

#[test]
fn busy_target_is_waited_for_and_then_the_payload_is_queued() {
    let mut setting = Setting::new();
    setting.harness.wires[setting.wires[1]].is_reading = false;
    setting.send(&pattern(1_000));
    let payload = pattern(LENGTH as usize);
    setting.long();
    assert_eq!(setting.collected(), LaneVerdict::Wait);
    setting.harness.now = setting.harness.now + Duration::from_millis(2);
    assert_eq!(setting.collected(), LaneVerdict::Read);
    let now = setting.harness.now;
    setting.harness.cores[0].lane_read(setting.slots[0], payload.clone(), now);
    assert_eq!(setting.next(), LaneStep::Header);
    setting.harness.wires[setting.wires[1]].is_reading = true;
    setting.harness.deliver(setting.wires[1]);
    setting.harness.run();
    setting.read(1_000);
    assert!(setting.read(LENGTH as usize) == payload);
    setting.harness.assert_clean();
}

#[test]
fn what_does_not_fit_in_the_pipe_is_received_as_ever() {
    let mut setting = Setting::new();
    let payload = pattern(LENGTH as usize);
    setting.long();
    let now = setting.harness.now;
    setting.harness.cores[0].lane_read(setting.slots[0], payload[..10_000].to_vec(), now);
    assert_eq!(setting.next(), LaneStep::Bytes(LENGTH - 10_000));
    setting.harness.inject(setting.wires[0], &payload[10_000..]);
    setting.harness.run();
    assert!(setting.read(LENGTH as usize) == payload);
    setting.harness.assert_clean();
}

#[test]
fn death_of_either_end_inside_a_frame_leaves_nothing() {
    for victim in 0..2 {
        let mut setting = Setting::new();
        setting.long();
        setting.harness.end(setting.wires[victim], RecvEnd::Eof);
        assert_eq!(setting.collected(), LaneVerdict::Discard);
        let expected = if victim == 0 {
            LaneStep::Leave
        } else {
            LaneStep::Header
        };
        assert_eq!(setting.next(), expected);
        assert_eq!(setting.lanes(), u64::from(victim == 1));
        setting.harness.assert_clean();
    }
}

#[test]
fn target_that_dies_with_a_frame_in_flight_gives_its_books_back() {
    let mut setting = Setting::new();
    setting.long();
    setting.harness.wires[setting.wires[1]].is_reading = false;
    assert_eq!(setting.collected(), LaneVerdict::Sent);
    setting.harness.run();
    setting.harness.end(setting.wires[1], RecvEnd::Error(104));
    let audit = setting.harness.cores[0].audit();
    assert_eq!((audit.queued_bytes, audit.batches_in_flight), (0, 0));
    setting.harness.assert_clean();
}
