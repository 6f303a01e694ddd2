//! Connections that change rings: two real rings, real peers.

use std::sync::mpsc;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use super::*;

/// A ring that accepts with choice, and one that gets what it hands over.
fn pair(target: &RingConfig) -> (Host, Host, SocketAddr) {
    let mut source = Host::new(&small());
    let listener = listener();
    let address = listener.address();
    source.ring.listen_with_choice(listener);
    (source, Host::new(target), address)
}

/// Turns both rings until `done`, which sees every completion and whose it is.
fn both_until(
    source: &mut Host,
    target: &mut Host,
    mut done: impl FnMut(&mut Ring, &mut Ring, Option<(Side, Completion)>) -> bool,
) {
    let deadline = clock() + DEADLINE;
    loop {
        assert!(
            clock() < deadline,
            "nothing more happens: {:?} {:?}",
            source.ring.numbers(),
            target.ring.numbers()
        );
        for host in [&mut *source, &mut *target] {
            let wait = Wait::For(Duration::from_millis(1));
            host.ring.turn(wait, &mut host.completions).unwrap();
        }
        let mut is_done = done(&mut source.ring, &mut target.ring, None);
        for (side, host) in [(Side::Source, 0), (Side::Target, 1)] {
            let completions = match host {
                0 => std::mem::take(&mut source.completions),
                _ => std::mem::take(&mut target.completions),
            };
            for completion in completions {
                is_done |= done(&mut source.ring, &mut target.ring, Some((side, completion)));
            }
        }
        if is_done {
            return;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// Waits for a connection.
fn arrived(source: &mut Host) -> Slot {
    let mut arrived = None;
    source.until(|_, completion| {
        if let Some(Completion::Arrived { slot }) = completion {
            arrived = Some(slot);
        }
        arrived.is_some()
    });
    arrived.unwrap()
}

/// Hands the next connection over; returns its slot in the target.
fn handed_over(source: &mut Host, target: &mut Host) -> Slot {
    let slot = arrived(source);
    source.ring.hand_over(slot, &target.ring.handle());
    let (mut there, mut is_gone) = (None, false);
    both_until(source, target, |source, _, completion| {
        match completion {
            Some((Side::Source, Completion::HandedOver { slot: gone })) => {
                assert_eq!(gone, slot);
                is_gone = true;
            }
            Some((Side::Target, Completion::Accepted { slot, address, .. })) => {
                assert_eq!(address, Some("127.0.0.1".parse().unwrap()));
                there = Some(slot);
            }
            Some((Side::Source, Completion::Closed { slot })) => {
                panic!("{slot:?} is no longer ours to close");
            }
            _ => {}
        }
        is_gone && there.is_some() && source.numbers().sockets_current == 0
    });
    there.unwrap()
}

/// Waits for `ring` to say why the hand-over failed.
fn failure(source: &mut Host) -> (Slot, i32) {
    let mut failed = None;
    source.until(|_, completion| {
        if let Some(Completion::HandOverFailed { slot, errno }) = completion {
            failed = Some((slot, errno));
        }
        failed.is_some()
    });
    failed.unwrap()
}

/// Sends bytes both ways through `host`.
fn talk(host: &mut Host, slot: Slot, peer: &mut TcpStream, len: usize) {
    peer.write_all(&flow(1, len)).unwrap();
    host.ring.receive(slot);
    let mut received = 0;
    host.until(|_, completion| {
        if let Some(Completion::Received { lease, .. }) = completion {
            assert_eq!(
                lease.bytes(),
                &flow(1, len)[received..received + lease.len()]
            );
            received += lease.len();
        }
        received == len
    });
    host.ring.send(slot, batch_of(flow(2, len)));
    host.until(|_, completion| matches!(completion, Some(Completion::Sent { .. })));
    let mut bytes = vec![0; len];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, flow(2, len));
}

#[test]
fn connection_handed_over_carries_bytes_both_ways() {
    let (mut source, mut target, address) = pair(&small());
    let mut peer = peer(address);
    // These wait in the socket while it changes hands.
    peer.write_all(b"early").unwrap();
    let slot = handed_over(&mut source, &mut target);
    target.ring.receive(slot);
    target.until(|_, completion| match completion {
        Some(Completion::Received { lease, .. }) => lease.bytes() == b"early",
        _ => false,
    });
    let numbers = source.ring.numbers();
    assert_eq!((numbers.hand_overs_started, numbers.hand_overs), (1, 1));
    assert_eq!(target.ring.numbers().hand_ins, 1);
    talk(&mut target, slot, &mut peer, 50_000);
    // Linger zero acts on the last reference: neither the close nor the end of the first ring resets.
    source.finish();
    talk(&mut target, slot, &mut peer, 50_000);
    drop(peer);
    target.until(|_, completion| {
        matches!(
            completion,
            Some(Completion::ReceiveEnded {
                end: ReceiveEnd::Eof,
                ..
            })
        )
    });
    target.finish();
}

#[test]
fn full_target_leaves_the_connection_where_it_is() {
    let table = |sockets_max| RingConfig {
        sockets_max,
        ..small()
    };
    let (mut source, mut target, address) = pair(&table(2));
    let kept: Vec<_> = (0..2)
        .map(|_| {
            let peer = peer(address);
            (handed_over(&mut source, &mut target), peer)
        })
        .collect();
    let mut peer = peer(address);
    let slot = arrived(&mut source);
    source.ring.hand_over(slot, &target.ring.handle());
    // The answer comes from the target's own thread, which is this one.
    assert_eq!(failure(&mut source), (slot, Errno::NFILE.raw_os_error()));
    source.ring.keep(slot);
    source.until(|_, completion| matches!(completion, Some(Completion::Accepted { .. })));
    talk(&mut source, slot, &mut peer, 1_000);
    let numbers = source.ring.numbers();
    assert_eq!(
        (
            numbers.hand_overs,
            numbers.hand_overs_failed,
            numbers.sockets_current
        ),
        (2, 1, 1)
    );
    assert!(numbers.is_conserved() && target.ring.numbers().is_conserved());
    assert_eq!(target.ring.numbers().sockets_current, 2);
    assert!(target.ring.is_nearly_full() && !source.ring.is_nearly_full());
    drop(kept);
    source.finish();
    target.finish();
}

#[test]
fn ring_that_is_gone_takes_nothing() {
    let (mut source, target, address) = pair(&small());
    let dropped = target.ring.handle();
    drop(target);
    // Of a thread that has ended, too.
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(Ring::new(&small()).unwrap().handle()).unwrap());
    thread.join().unwrap();
    let ended = receiver.recv().unwrap();
    for (handle, errno) in [(dropped, Errno::NFILE), (ended, Errno::OWNERDEAD)] {
        let mut peer = peer(address);
        let slot = arrived(&mut source);
        source.ring.hand_over(slot, &handle);
        assert_eq!(failure(&mut source), (slot, errno.raw_os_error()));
        source.ring.keep(slot);
        source.until(|_, completion| matches!(completion, Some(Completion::Accepted { .. })));
        talk(&mut source, slot, &mut peer, 1_000);
        source.ring.close(slot);
        source.until(|ring, _| ring.numbers().sockets_current == 0);
    }
    source.finish();
}

#[test]
fn ring_is_no_target_for_itself() {
    let (mut source, target, address) = pair(&small());
    let _peer = peer(address);
    let slot = arrived(&mut source);
    source.ring.hand_over(slot, &source.ring.handle());
    assert_eq!(failure(&mut source), (slot, Errno::INVAL.raw_os_error()));
    // Nobody has decided yet: it may be closed as well.
    source.ring.close(slot);
    source.until(|_, completion| matches!(completion, Some(Completion::Closed { .. })));
    source.finish();
    target.finish();
}

#[test]
fn dropped_ring_leaves_the_port_of_its_listener() {
    for _ in 0..20 {
        let (mut source, target, address) = pair(&small());
        source.until(|_, _| true);
        drop((source, target));
        assert_eq!(
            Listener::check_unused(address).map_err(|error| error.to_string()),
            Ok(())
        );
    }
}

/// Starts as many hand-overs as there are peers, and submits them.
fn in_flight(
    source: &mut Host,
    target: &Host,
    address: SocketAddr,
    count: usize,
) -> Vec<TcpStream> {
    let peers: Vec<_> = (0..count).map(|_| peer(address)).collect();
    let mut slots = Vec::new();
    source.until(|_, completion| {
        if let Some(Completion::Arrived { slot }) = completion {
            slots.push(slot);
        }
        slots.len() == count
    });
    for slot in slots {
        source.ring.hand_over(slot, &target.ring.handle());
    }
    source.ring.turn(Wait::No, &mut source.completions).unwrap();
    peers
}

fn is_reset(peer: &mut TcpStream) -> bool {
    let end = peer.read(&mut [0; 8]).map_err(|error| error.kind());
    end == Err(io::ErrorKind::ConnectionReset)
}

#[test]
fn target_dropped_under_hand_overs_resets_what_it_has() {
    for turns in 0..3 {
        let (mut source, mut target, address) = pair(&small());
        let mut peers = in_flight(&mut source, &target, address, 20);
        for _ in 0..turns {
            target.ring.turn(Wait::No, &mut target.completions).unwrap();
        }
        drop(target);
        let mut ended = 0;
        source.until(|ring, completion| {
            match completion {
                Some(Completion::HandedOver { .. }) => ended += 1,
                Some(Completion::HandOverFailed { slot, .. }) => {
                    ended += 1;
                    ring.close(slot);
                }
                _ => {}
            }
            ended == 20 && ring.numbers().sockets_current == 0
        });
        assert!(peers.iter_mut().all(is_reset), "nobody hangs");
        let numbers = source.ring.numbers();
        assert_eq!(numbers.hand_overs_current, 0);
        assert_eq!(numbers.hand_overs + numbers.hand_overs_failed, 20);
        source.finish();
    }
}

#[test]
fn source_dropped_under_hand_overs_loses_none_that_has_arrived() {
    let (mut source, mut target, address) = pair(&small());
    let mut peers = in_flight(&mut source, &target, address, 20);
    drop(source);
    let mut slots = Vec::new();
    // What was sent before the end arrives now or has arrived.
    target.until(|ring, completion| {
        if let Some(Completion::Accepted { slot, .. }) = completion {
            slots.push(slot);
        }
        slots.len() == usize::try_from(ring.numbers().hand_ins).unwrap()
    });
    let here = slots.len();
    for slot in slots {
        target.ring.close(slot);
    }
    target.until(|ring, _| ring.numbers().sockets_current == 0);
    assert!(peers.iter_mut().all(is_reset), "{here} of 20 have arrived");
    target.finish();
}

#[test]
fn socket_closed_on_its_way_is_reported_once() {
    let (mut source, mut target, address) = pair(&small());
    let mut peers = in_flight(&mut source, &target, address, 10);
    let slots: Vec<_> = source.ring.open_slots().collect();
    for slot in slots {
        source.ring.close(slot);
    }
    let (mut gone, mut there) = (0, 0);
    both_until(&mut source, &mut target, |source, target, completion| {
        match completion {
            Some((Side::Source, Completion::HandedOver { .. } | Completion::Closed { .. })) => {
                gone += 1;
            }
            Some((Side::Target, Completion::Accepted { slot, .. })) => {
                there += 1;
                target.close(slot);
            }
            _ => {}
        }
        let left = source.numbers().sockets_current + target.numbers().sockets_current;
        left == 0 && there == target.numbers().hand_ins
    });
    assert_eq!((gone, there), (10, 10));
    assert!(peers.iter_mut().all(is_reset));
    source.finish();
    target.finish();
}

/// More connections than the target has slots, which it closes at once: slots change hands while they are
/// still being closed, hand-overs fail now and then, and half of the peers reset in between.
#[test]
fn storm_through_a_small_table_leaves_nothing() {
    let (mut source, mut target, address) = pair(&RingConfig {
        sockets_max: 3,
        ..small()
    });
    let handle = target.ring.handle();
    let (mut made, mut ended) = (0_u32, 0_u32);
    let mut peers = VecDeque::new();
    let mut holds = VecDeque::new();
    both_until(&mut source, &mut target, |source, target, completion| {
        match completion {
            None => {
                for _ in 0..2.min(600 - made) {
                    let peer = peer(address);
                    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
                    made += 1;
                    if made % 2 == 0 {
                        peers.push_back(peer);
                    }
                }
                while peers.len() > 8 {
                    peers.pop_front();
                }
                while holds.len() > 1 {
                    if let Some(slot) = holds.pop_front() {
                        target.close(slot);
                    }
                }
                if made == 600 {
                    peers.clear();
                    holds.drain(..).for_each(|slot| target.close(slot));
                }
            }
            Some((Side::Source, Completion::Arrived { slot })) => source.hand_over(slot, &handle),
            Some((Side::Source, Completion::HandOverFailed { slot, .. })) => source.keep(slot),
            Some((Side::Source, Completion::Accepted { slot, .. })) => source.close(slot),
            Some((Side::Source, Completion::Closed { .. })) => ended += 1,
            Some((Side::Target, Completion::Accepted { slot, .. })) => {
                target.receive(slot);
                holds.push_back(slot);
            }
            Some((Side::Target, Completion::Closed { .. })) => ended += 1,
            _ => {}
        }
        assert!(source.numbers().is_conserved() && target.numbers().is_conserved());
        ended == 600
    });
    let (from, to) = (source.ring.numbers(), target.ring.numbers());
    assert_eq!(from.hand_overs, to.hand_ins);
    assert_eq!(from.hand_overs + from.hand_overs_failed, 600);
    assert!(from.hand_overs > 100, "{from:?}");
    assert_eq!((from.sockets_current, to.sockets_current), (0, 0));
    source.finish();
    target.finish();
}

/// Processor time of the calling thread.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

/// Lets `count` connections come in groups; returns the processor time of this thread for one of them.
fn arrivals(count: u32, group: u32, target: Option<&RingHandle>) -> Duration {
    let (mut source, _, address) = pair(&small());
    let mut spent = Duration::ZERO;
    for _ in 0..count / group {
        let open: Vec<_> = (0..group).map(|_| peer(address)).collect();
        let before = busy();
        let mut ended = 0;
        while ended < group {
            source
                .ring
                .turn(Wait::Forever, &mut source.completions)
                .unwrap();
            for completion in source.completions.drain(..) {
                match (completion, target) {
                    (Completion::Arrived { slot }, None) => source.ring.keep(slot),
                    (Completion::Arrived { slot }, Some(target)) => {
                        source.ring.hand_over(slot, target);
                    }
                    (Completion::Accepted { .. } | Completion::HandedOver { .. }, _) => ended += 1,
                    _ => {}
                }
            }
        }
        // The closes of the slots here go with the next turn.
        source.ring.turn(Wait::No, &mut source.completions).unwrap();
        source.completions.clear();
        spent += busy() - before;
        let slots: Vec<_> = source.ring.open_slots().collect();
        for slot in slots {
            source.ring.close(slot);
        }
        source.until(|ring, _| ring.numbers().sockets_current == 0);
        drop(open);
    }
    spent / count
}

/// Not a test of behaviour: prints what a hand-over costs on both threads.
#[test]
#[ignore = "a measurement; run with --ignored --nocapture"]
fn cost_of_a_hand_over() {
    for group in [1, 50] {
        let count = 4_000;
        let kept = arrivals(count, group, None);
        let (sender, receiver) = mpsc::channel();
        let (stop, is_stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut target = Host::new(&RingConfig {
                sockets_max: 5_000,
                ..small()
            });
            sender
                .send((target.ring.handle(), target.ring.waker()))
                .unwrap();
            let mut accepted = 0;
            let mut spent = Duration::ZERO;
            while is_stopped.try_recv().is_err() {
                target
                    .ring
                    .turn(Wait::Forever, &mut target.completions)
                    .unwrap();
                for completion in target.completions.drain(..) {
                    accepted += u32::from(matches!(completion, Completion::Accepted { .. }));
                }
                spent = busy();
            }
            (accepted, spent)
        });
        let (handle, waker) = receiver.recv().unwrap();
        let given = arrivals(count, group, Some(&handle));
        stop.send(()).unwrap();
        waker.wake();
        let (accepted, spent) = thread.join().unwrap();
        assert_eq!(accepted, count);
        println!(
            "{group} at a time: kept {kept:?}; handed over {given:?} here, {:?} there",
            spent / count
        );
    }
}
