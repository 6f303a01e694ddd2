//! Lanes: payload through a pipe, between real sockets.

use super::*;

const HEADER: usize = ringway_proto::frame::HEADER_LEN;

/// A source and a target on one ring, the source in its lane.
struct Pair {
    host: Host,
    source: (TcpStream, Slot),
    target: (TcpStream, Slot),
}

impl Pair {
    fn new() -> Self {
        let (mut host, address) = Host::listening(&small());
        let source = (peer(address), host.accept());
        let target = (peer(address), host.accept());
        host.ring.receive(source.1);
        host.ring.receive(target.1);
        let mut pair = Self {
            host,
            source,
            target,
        };
        pair.enter();
        pair
    }

    fn enter(&mut self) {
        let source = self.source.1;
        self.host.ring.enter_lane(source);
        self.host.until(|_, completion| match completion {
            Some(Completion::LaneEntered { slot }) => slot == source,
            None => false,
            other => panic!("{other:?} before the lane stands"),
        });
    }

    /// Reads a header and collects `length` bytes behind it.
    fn collect(&mut self, length: u32) -> [u8; HEADER] {
        let (source, target) = (self.source.1, self.target.1);
        let mut header = None;
        self.host.until(|ring, _| {
            if header.is_none()
                && let LaneProgress::Done(found) = ring.lane_header(source)
            {
                header = Some(found);
            }
            header.is_some_and(|header| {
                let progress = ring.lane_collect(source, &header, length, target);
                assert!(
                    matches!(progress, LaneProgress::Blocked | LaneProgress::Done(())),
                    "{progress:?}"
                );
                progress == LaneProgress::Done(())
            })
        });
        header.unwrap()
    }

    fn send(&mut self, length: u32) {
        let mut batch = Batch::new();
        batch.push_piped(length + u32::try_from(HEADER).unwrap(), self.source.1.0);
        self.host.ring.send(self.target.1, batch);
    }

    /// Waits for the end of the send to the target.
    fn sent(&mut self) -> (Result<u32, i32>, Batch<RingLease>) {
        let target = self.target.1;
        let mut end = None;
        self.host.until(|_, completion| {
            if let Some(Completion::Sent {
                slot,
                batch,
                result,
            }) = completion
            {
                assert_eq!(slot, target);
                end = Some((result, batch));
            }
            end.is_some()
        });
        end.unwrap()
    }

    fn finish(self) {
        let Self {
            mut host,
            source,
            target,
        } = self;
        let open: Vec<_> = host.ring.open_slots().collect();
        for slot in open {
            host.ring.close(slot);
        }
        host.until(|ring, _| ring.numbers().sockets_current == 0);
        assert_eq!(host.ring.numbers().lanes_current, 0);
        for (mut peer, _) in [source, target] {
            // Nothing keeps a socket open that was closed.
            assert!(ended(&mut peer));
        }
        host.finish();
    }
}

/// Returns whether the connection ends behind what is still to be read.
fn ended(peer: &mut TcpStream) -> bool {
    let mut bytes = [0; 65_536];
    loop {
        match peer.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn frames_go_through_the_pipe_whole_and_in_order() {
    let mut pair = Pair::new();
    for (token, length) in [(1, 65_536_u32), (2, 40_000), (3, 65_536)] {
        let bytes = flow(token, HEADER + usize::try_from(length).unwrap());
        let mut writer = pair.source.0.try_clone().unwrap();
        let written = bytes.clone();
        let writing = thread::spawn(move || writer.write_all(&written).unwrap());
        let header = pair.collect(length);
        assert_eq!(header, bytes[..HEADER]);
        pair.send(length);
        let total = u32::try_from(bytes.len()).unwrap();
        assert_eq!(pair.sent().0, Ok(total));
        let mut got = vec![0; bytes.len()];
        pair.target.0.read_exact(&mut got).unwrap();
        assert!(got == bytes);
        writing.join().unwrap();
        assert!(!pair.host.ring.is_lane_out(pair.source.1));
    }
    pair.finish();
}

#[test]
fn socket_that_has_left_its_lane_is_received_from_and_sent_to_as_before() {
    let mut pair = Pair::new();
    pair.source.0.write_all(&flow(1, HEADER + 33_000)).unwrap();
    pair.collect(33_000);
    pair.send(33_000);
    assert!(pair.sent().0.is_ok());
    pair.target.0.read_exact(&mut [0; HEADER + 33_000]).unwrap();
    let slot = pair.source.1;
    pair.host.ring.leave_lane(slot);
    pair.host.ring.receive(slot);
    // Long enough without bytes for a receive that does not wait to end.
    pair.host.until(|_, completion| {
        assert!(completion.is_none(), "{completion:?}");
        true
    });
    pair.source.0.write_all(b"again").unwrap();
    pair.host.until(|_, completion| match completion {
        Some(Completion::Received { slot: from, lease }) => {
            assert_eq!((from, lease.bytes()), (slot, b"again".as_slice()));
            true
        }
        None => false,
        other => panic!("{other:?}"),
    });
    // Both sockets are marked as not waiting now; a send of the ring waits all the same.
    let len = 20_000_000;
    for (number, socket) in [pair.source.1, pair.target.1].into_iter().enumerate() {
        pair.host.ring.send(socket, batch_of(flow(9, len)));
        pair.host.until(|_, _| true);
        let mut reader = if number == 0 {
            &pair.source.0
        } else {
            &pair.target.0
        }
        .try_clone()
        .unwrap();
        let reading = thread::spawn(move || {
            let mut got = vec![0; len];
            reader.read_exact(&mut got).unwrap();
            got
        });
        pair.host.until(|_, completion| match completion {
            Some(Completion::Sent { result, .. }) => {
                assert_eq!(result, Ok(u32::try_from(len).unwrap()));
                true
            }
            _ => false,
        });
        assert!(reading.join().unwrap() == flow(9, len));
    }
    pair.finish();
}

/// Fills the target's buffers with frames by the lane, until one gets stuck.
fn fill(pair: &mut Pair) -> usize {
    let mut whole = 0;
    loop {
        let mut writer = pair.source.0.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&flow(5, HEADER + 65_536)).unwrap());
        pair.collect(65_536);
        writing.join().unwrap();
        pair.send(65_536);
        let mut is_sent = false;
        for _ in 0..20 {
            pair.host.until(|_, completion| {
                is_sent |= matches!(completion, Some(Completion::Sent { .. }));
                true
            });
        }
        if !is_sent {
            return whole;
        }
        whole += 1;
    }
}

#[test]
fn send_that_gets_stuck_is_cancelled_and_goes_on() {
    let mut pair = Pair::new();
    let whole = fill(&mut pair);
    assert!(pair.host.ring.is_lane_out(pair.source.1));
    pair.host.ring.cancel_send(pair.target.1);
    let (result, mut batch) = pair.sent();
    batch.advance(usize::try_from(result.unwrap_or(0)).unwrap());
    assert!(!batch.is_empty());
    pair.host.ring.send(pair.target.1, batch);
    let mut reader = pair.target.0.try_clone().unwrap();
    let reading = thread::spawn(move || {
        for _ in 0..=whole {
            let mut got = vec![0; HEADER + 65_536];
            reader.read_exact(&mut got).unwrap();
            assert!(got == flow(5, HEADER + 65_536));
        }
    });
    assert!(pair.sent().0.is_ok());
    reading.join().unwrap();
    pair.finish();
}

#[test]
fn source_that_dies_leaves_its_frame_to_the_target() {
    let mut pair = Pair::new();
    let whole = fill(&mut pair);
    pair.host.ring.close(pair.source.1);
    let mut reader = pair.target.0.try_clone().unwrap();
    let reading = thread::spawn(move || {
        for _ in 0..=whole {
            let mut got = vec![0; HEADER + 65_536];
            reader.read_exact(&mut got).unwrap();
            assert!(got == flow(5, HEADER + 65_536));
        }
    });
    assert!(pair.sent().0.is_ok());
    reading.join().unwrap();
    pair.finish();
}

#[test]
fn target_that_is_closed_gives_its_batch_back_first_and_the_lane_goes_on() {
    let mut pair = Pair::new();
    fill(&mut pair);
    let target = pair.target.1;
    pair.host.ring.close(target);
    let mut was_sent = false;
    pair.host.until(|_, completion| match completion {
        Some(Completion::Sent { slot, .. }) => {
            was_sent = true;
            assert_eq!(slot, target);
            false
        }
        Some(Completion::Closed { slot }) => slot == target,
        _ => false,
    });
    assert!(was_sent, "the batch comes back before the close");
    assert!(ended(&mut pair.target.0));
    // The lane has a pipe for the next frame, which nobody will take.
    pair.source.0.write_all(&flow(6, HEADER + 1_000)).unwrap();
    pair.collect(1_000);
    assert_eq!(pair.host.ring.lane_read_out(pair.source.1).len(), 1_000);
    pair.finish();
}

#[test]
fn source_that_dies_inside_a_frame_ends_the_lane() {
    for is_reset in [false, true] {
        let mut pair = Pair::new();
        pair.source.0.write_all(&flow(1, HEADER + 10_000)).unwrap();
        let (source, target) = (pair.source.1, pair.target.1);
        let mut is_read = false;
        for _ in 0..50 {
            pair.host.until(|ring, _| {
                is_read = is_read || matches!(ring.lane_header(source), LaneProgress::Done(_));
                let progress = ring.lane_collect(source, &[0; HEADER], 65_536, target);
                assert_eq!(progress, LaneProgress::Blocked);
                true
            });
        }
        if is_reset {
            socket2::SockRef::from(&pair.source.0)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        let other = pair.source.0.try_clone().unwrap();
        let gone = std::mem::replace(
            &mut pair.source.0,
            peer(pair.host.ring.listen_address().unwrap()),
        );
        drop((other, gone));
        pair.source.1 = pair.host.accept();
        pair.host.until(|ring, _| {
            matches!(
                ring.lane_collect(source, &[0; HEADER], 65_536, target),
                LaneProgress::Ended(_)
            )
        });
        pair.host.ring.leave_lane(source);
        pair.finish();
    }
}

#[test]
fn what_a_pipe_holds_can_be_read_or_thrown_away() {
    let mut pair = Pair::new();
    let bytes = flow(1, HEADER + 2_000);
    pair.source.0.write_all(&bytes).unwrap();
    pair.collect(2_000);
    let read = pair.host.ring.lane_read_out(pair.source.1);
    assert!(read == bytes[HEADER..]);
    pair.source.0.write_all(&bytes).unwrap();
    pair.collect(2_000);
    pair.host.ring.lane_discard(pair.source.1);
    pair.source.0.write_all(&bytes).unwrap();
    pair.collect(2_000);
    pair.send(2_000);
    assert!(pair.sent().0.is_ok());
    pair.finish();
}

#[test]
fn bytes_are_received_to_the_length_in_a_lane() {
    let mut pair = Pair::new();
    pair.source.0.write_all(&flow(1, 100)).unwrap();
    let source = pair.source.1;
    let mut got = Vec::new();
    for count in [30, 70] {
        pair.host.ring.receive_once(source, count);
        let before = got.len();
        let count = usize::try_from(count).unwrap();
        pair.host.until(|ring, completion| {
            if let Some(Completion::Received { slot, lease }) = completion {
                assert_eq!(slot, source);
                got.extend_from_slice(lease.bytes());
                let left = before + count - got.len();
                ring.receive_once(source, u32::try_from(left).unwrap());
            }
            got.len() == before + count
        });
    }
    assert!(got == flow(1, 100));
    pair.finish();
}

#[test]
fn lanes_have_a_bound_and_are_refused_beyond_it() {
    let (mut host, address) = Host::listening(&small());
    let mut peers = Vec::new();
    let (mut entered, mut refused) = (0, 0);
    for _ in 0..40 {
        peers.push(peer(address));
        let slot = host.accept();
        host.ring.receive(slot);
        host.ring.enter_lane(slot);
        host.until(|_, completion| match completion {
            Some(Completion::LaneEntered { .. }) => {
                entered += 1;
                true
            }
            Some(Completion::LaneRefused { .. }) => {
                refused += 1;
                true
            }
            _ => false,
        });
    }
    assert_eq!((entered, refused), (32, 8));
    host.finish();
}
