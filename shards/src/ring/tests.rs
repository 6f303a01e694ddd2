//! Ring tests with real sockets on loopback.
//!
//! Each ends with the ring's accounts in balance; waits are bounded by a deadline that only a bug meets.

mod adopt;
mod cancel;
mod connect;
mod echo;
mod hand_over;
mod hangup;
mod trim;

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use super::*;
use crate::lease::Lease;

/// A ring with the listener, the completions it reported and the bytes it received.
struct Host {
    ring: Ring,
    completions: Vec<Completion>,
}

/// Returns a listener on a free port of the loopback.
fn listener() -> Listener {
    Listener::bind(&ListenOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        backlog: 4_096,
        congestion: None,
        closes_with_fin: false,
    })
    .unwrap()
}

impl Host {
    fn new(config: &RingConfig) -> Self {
        Self {
            ring: Ring::new(config).unwrap(),
            completions: Vec::new(),
        }
    }

    fn listening(config: &RingConfig) -> (Self, SocketAddr) {
        let mut host = Self::new(config);
        let listener = listener();
        let address = listener.address();
        host.ring.listen(listener);
        (host, address)
    }

    /// Turns until `done` has seen enough, handing each completion to it.
    fn until(&mut self, mut done: impl FnMut(&mut Ring, Option<Completion>) -> bool) {
        let deadline = clock() + DEADLINE;
        loop {
            assert!(
                clock() < deadline,
                "nothing more happens: {:?}",
                self.ring.numbers()
            );
            self.ring
                .turn(Wait::For(Duration::from_millis(1)), &mut self.completions)
                .unwrap();
            let mut is_done = done(&mut self.ring, None);
            for completion in self.completions.drain(..) {
                is_done |= done(&mut self.ring, Some(completion));
            }
            if is_done {
                return;
            }
        }
    }

    /// Accepts one connection.
    fn accept(&mut self) -> Slot {
        let mut accepted = None;
        self.until(|_, completion| {
            if let Some(Completion::Accepted { slot, .. }) = completion {
                assert!(accepted.is_none(), "one connection was made");
                accepted = Some(slot);
            }
            accepted.is_some()
        });
        accepted.unwrap()
    }

    /// Closes all sockets and checks the accounts.
    fn finish(mut self) {
        let slots: Vec<_> = self.ring.open_slots().collect();
        for slot in slots {
            self.ring.close(slot);
        }
        self.until(|ring, _| {
            // What went without a copy comes back a little later.
            ring.numbers().sockets_current == 0 && ring.numbers().zero_copy_bytes_current == 0
        });
        let numbers = self.ring.numbers();
        assert!(numbers.is_conserved(), "{numbers:?}");
        assert_eq!(numbers.sends_current, 0);
        assert_eq!(numbers.connects_current, 0);
    }
}

const DEADLINE: Duration = Duration::from_secs(20);

fn small() -> RingConfig {
    RingConfig {
        entries: 64,
        sockets_max: 64,
        ..RingConfig::default()
    }
}

/// As `small`, with sends without a copy.
fn zero_copying() -> RingConfig {
    RingConfig {
        zero_copy_min: Some(1_000),
        ..small()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the peer of these tests is an ordinary socket"
)]
fn peer(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn batch_of(bytes: Vec<u8>) -> Batch<RingLease> {
    let mut batch = Batch::new();
    batch.push_owned(bytes);
    batch
}

/// Byte number `at` of the flow of connection `token`.
fn pattern(token: u64, at: usize) -> u8 {
    let at = u64::try_from(at).unwrap();
    u8::try_from((token.wrapping_mul(31) + at * 7 + at / 251) % 251).unwrap()
}

fn flow(token: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| pattern(token, at)).collect()
}

fn place(slot: Slot) -> usize {
    usize::try_from(slot.0).unwrap()
}

#[test]
fn close_with_an_armed_receive_and_a_stuck_send_reaches_the_peer() {
    let (mut host, address) = Host::listening(&small());
    for is_sending in [false, true] {
        let mut peer = peer(address);
        let slot = host.accept();
        host.ring.receive(slot);
        if is_sending {
            host.ring.send(slot, batch_of(vec![1; 32 << 20]));
        }
        host.until(|_, _| true);
        host.ring.close(slot);
        let mut was_sent = false;
        host.until(|_, completion| match completion {
            Some(Completion::Sent { result, .. }) => {
                assert!(is_sending);
                assert!(result.map_or(true, |count| count < 32 << 20), "{result:?}");
                was_sent = true;
                false
            }
            Some(Completion::Closed { slot: closed }) => {
                assert_eq!(closed, slot);
                assert_eq!(
                    was_sent, is_sending,
                    "the batch comes back before the close"
                );
                true
            }
            _ => false,
        });
        let mut bytes = [0; 65_536];
        let end = loop {
            match peer.read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    }
    assert_eq!(host.ring.numbers().closes_chased, 0);
    host.finish();
}

#[test]
fn send_larger_than_the_socket_buffer_completes_once_and_whole() {
    let (mut host, address) = Host::listening(&small());
    let peer = peer(address);
    let slot = host.accept();
    let len = 20_000_000;
    host.ring.send(slot, batch_of(flow(3, len)));
    host.until(|_, completion| {
        assert!(
            !matches!(completion, Some(Completion::Sent { .. })),
            "nobody has read yet"
        );
        completion.is_none()
    });
    let reader = thread::spawn(move || {
        let mut peer = peer;
        let mut bytes = vec![0; len];
        peer.read_exact(&mut bytes).unwrap();
        bytes
    });
    host.until(|_, completion| match completion {
        Some(Completion::Sent { result, batch, .. }) => {
            assert_eq!(result, Ok(u32::try_from(len).unwrap()));
            assert_eq!(batch.len(), len);
            true
        }
        _ => false,
    });
    assert!(
        reader.join().unwrap() == flow(3, len),
        "the bytes sent are the bytes received"
    );
    host.finish();
}

#[test]
fn peer_that_dies_mid_send_gives_a_short_count_or_an_error() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    let len = 20_000_000;
    host.ring.send(slot, batch_of(vec![5; len]));
    host.until(|_, _| true);
    peer.read_exact(&mut vec![0; 100_000]).unwrap();
    drop(peer);
    let (mut is_sent, mut is_ended) = (false, false);
    host.until(|_, completion| {
        match completion {
            Some(Completion::Sent { result, .. }) => {
                assert!(result.map_or(true, |count| usize::try_from(count).unwrap() < len));
                is_sent = true;
            }
            // The reset is an error for whichever operation meets it first, the end for the other.
            Some(Completion::ReceiveEnded { .. }) => {
                is_ended = true;
            }
            _ => {}
        }
        is_sent && is_ended
    });
    host.finish();
}

#[test]
fn starved_receive_goes_on_when_leases_come_back() {
    for incremental in [true, false] {
        let (mut host, address) = Host::listening(&RingConfig {
            blocks: 2,
            blocks_max: 2,
            block_bytes: 4_096,
            block_bytes_plain: 4_096,
            incremental,
            ..small()
        });
        let mut peer = peer(address);
        let slot = host.accept();
        host.ring.receive(slot);
        let len = 100_000;
        let writer = thread::spawn(move || {
            peer.write_all(&flow(9, len)).unwrap();
            peer
        });
        let mut held = Vec::new();
        let mut at = 0;
        let mut check = |lease: &RingLease| {
            assert!(
                lease
                    .bytes()
                    .iter()
                    .copied()
                    .eq((at..at + lease.len()).map(|at| pattern(9, at)))
            );
            at += lease.len();
            at
        };
        host.until(|ring, completion| {
            if let Some(Completion::Received { lease, .. }) = completion {
                check(&lease);
                held.push(lease);
            }
            ring.numbers().starved_current == 1
        });
        assert_eq!(host.ring.numbers().buffers.provided, 0);
        assert!(host.ring.numbers().receives_starved >= 1);
        // Give the leases back from another thread, as another shard would.
        let returner = thread::spawn(move || drop(held));
        host.until(|_, completion| match completion {
            Some(Completion::Received { lease, .. }) => check(&lease) == len,
            _ => false,
        });
        returner.join().unwrap();
        drop(writer.join().unwrap());
        host.finish();
    }
}

#[test]
fn spare_blocks_are_allocated_up_to_the_bound_and_freed_again() {
    let (mut host, address) = Host::listening(&RingConfig {
        blocks: 4,
        blocks_max: 16,
        block_bytes: 4_096,
        ..small()
    });
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    let writer = thread::spawn(move || {
        peer.write_all(&[7; 16 * 4_096]).unwrap();
        peer
    });
    let mut held = Vec::new();
    let mut count = 0;
    host.until(|_, completion| {
        if let Some(Completion::Received { lease, .. }) = completion {
            count += lease.len();
            held.push(lease);
        }
        count == 16 * 4_096
    });
    assert_eq!(host.ring.numbers().buffers.blocks, 16);
    held.clear();
    host.until(|ring, _| ring.numbers().buffers.blocks <= 8);
    drop(writer.join().unwrap());
    host.finish();
}

#[test]
fn paused_accept_leaves_clients_in_the_backlog() {
    let (mut host, address) = Host::listening(&small());
    let first = peer(address);
    let slot = host.accept();
    host.ring.pause_accept();
    host.until(|_, _| true);
    let mut second = peer(address);
    second.write_all(b"early").unwrap();
    for _ in 0..20 {
        host.until(|_, completion| {
            assert!(!matches!(completion, Some(Completion::Accepted { .. })));
            completion.is_none()
        });
    }
    host.ring.close(slot);
    host.ring.resume_accept();
    let slot = host.accept();
    host.ring.receive(slot);
    host.until(|_, completion| match completion {
        Some(Completion::Received { lease, .. }) => lease.bytes() == b"early",
        _ => false,
    });
    drop(first);
    host.finish();
}

#[test]
fn full_table_refuses_one_client_and_recovers() {
    let (mut host, address) = Host::listening(&RingConfig {
        sockets_max: 2,
        ..small()
    });
    let peers: Vec<_> = (0..4).map(|_| peer(address)).collect();
    let mut slots = Vec::new();
    let mut has_failed = false;
    host.until(|_, completion| {
        match completion {
            Some(Completion::Accepted { slot, .. }) => slots.push(slot),
            Some(Completion::AcceptFailed { errno }) => {
                assert_eq!(errno, Errno::NFILE.raw_os_error());
                has_failed = true;
            }
            _ => {}
        }
        has_failed && slots.len() == 2
    });
    host.ring.close(slots[0]);
    let slot = host.accept();
    assert_eq!(slot, slots[0], "the slot is used again after its close");
    drop(peers);
    host.finish();
}

#[test]
fn refused_connect_holds_no_slot() {
    let listener = Listener::bind(&ListenOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        backlog: 1,
        congestion: None,
        closes_with_fin: false,
    })
    .unwrap();
    let address = listener.address();
    drop(listener);
    let mut host = Host::new(&small());
    host.ring
        .connect(address, &ConnectOptions::default(), 42)
        .unwrap();
    host.until(|_, completion| match completion {
        Some(Completion::ConnectFailed { token, errno }) => {
            assert_eq!((token, errno), (42, Errno::CONNREFUSED.raw_os_error()));
            true
        }
        _ => false,
    });
    host.finish();
}

#[test]
fn slots_are_reused_only_after_their_close() {
    // Three slots, many short connections: the kernel fills slots while their close is under way.
    let (mut server, address) = Host::listening(&RingConfig {
        sockets_max: 3,
        ..small()
    });
    let mut client = Host::new(&small());
    let mut is_open = [false; 3];
    let (mut started, mut ended, mut accepted) = (0, 0, 0);
    let deadline = clock() + DEADLINE;
    while ended < 2_000 {
        assert!(clock() < deadline, "{:?}", server.ring.numbers());
        while started < ended + 8 {
            client
                .ring
                .connect(address, &ConnectOptions::default(), started)
                .unwrap();
            started += 1;
        }
        client
            .ring
            .turn(
                Wait::For(Duration::from_micros(50)),
                &mut client.completions,
            )
            .unwrap();
        for completion in client.completions.drain(..) {
            match completion {
                Completion::Connected { slot, .. } => client.ring.receive(slot),
                Completion::ReceiveEnded { slot, .. } => client.ring.close(slot),
                Completion::Closed { .. } | Completion::ConnectFailed { .. } => ended += 1,
                _ => {}
            }
        }
        server
            .ring
            .turn(
                Wait::For(Duration::from_micros(50)),
                &mut server.completions,
            )
            .unwrap();
        for completion in server.completions.drain(..) {
            match completion {
                Completion::Accepted { slot, .. } => {
                    assert!(
                        !is_open[place(slot)],
                        "accepted into a slot that was not closed"
                    );
                    is_open[place(slot)] = true;
                    accepted += 1;
                    server.ring.receive(slot);
                    server.ring.send(slot, batch_of(vec![1; 10]));
                    server.ring.close(slot);
                }
                Completion::Sent { slot, .. } => assert!(is_open[place(slot)]),
                Completion::Closed { slot } => {
                    assert!(is_open[place(slot)], "closed twice");
                    is_open[place(slot)] = false;
                }
                _ => {}
            }
        }
    }
    assert!(accepted > 1_000, "{accepted}");
    assert_eq!(server.ring.numbers().closes_chased, 0);
    server.finish();
    client.finish();
}

#[test]
fn sleeping_ring_is_woken_by_a_thread_and_by_a_ring() {
    let mut host = Host::new(&small());
    let waker = host.ring.waker();
    let (handle, mut other) = (host.ring.handle(), Host::new(&small()));
    other.ring.wake(&handle);
    other.until(|_, _| true);
    let mut wakes = 0;
    host.until(|_, completion| {
        wakes += u32::from(matches!(completion, Some(Completion::Woken)));
        wakes == 1
    });
    let thread = thread::spawn(move || {
        for _ in 0..3 {
            waker.wake();
        }
    });
    let before = clock();
    host.ring
        .turn(Wait::For(DEADLINE), &mut host.completions)
        .unwrap();
    assert!(clock() - before < DEADLINE / 2, "woken, not timed out");
    thread.join().unwrap();
    host.finish();
    other.finish();
}

#[test]
fn ring_dropped_with_operations_in_flight_closes_its_sockets() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    host.ring.send(slot, batch_of(vec![1; 32 << 20]));
    host.until(|_, _| true);
    drop(host);
    let mut sink = Vec::new();
    let end = peer.read_to_end(&mut sink).map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn batch_for_a_socket_that_is_not_open_comes_back() {
    let (mut host, address) = Host::listening(&small());
    let peer = peer(address);
    let slot = host.accept();
    host.ring.close(slot);
    host.ring.send(slot, batch_of(vec![1; 7]));
    assert!(host.ring.is_ready());
    let mut is_back = false;
    host.until(|_, completion| match completion {
        Some(Completion::Sent { batch, result, .. }) => {
            assert_eq!(
                (batch.len(), result),
                (7, Err(Errno::CANCELED.raw_os_error()))
            );
            is_back = true;
            false
        }
        Some(Completion::Closed { .. }) => {
            assert!(is_back, "before the close");
            true
        }
        _ => false,
    });
    drop(peer);
    host.finish();
}

#[test]
fn lease_outlives_its_ring() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    peer.write_all(b"keep this").unwrap();
    let slot = host.accept();
    host.ring.receive(slot);
    let mut kept = None;
    host.until(|_, completion| {
        if let Some(Completion::Received { lease, .. }) = completion {
            kept = Some(lease);
        }
        kept.is_some()
    });
    drop(host);
    let mut lease = kept.unwrap();
    let front = lease.split_to(5);
    lease.bytes_mut()[0] = b'T';
    assert_eq!(front.bytes(), b"keep ");
    assert_eq!(lease.bytes(), b"This");
    lease.advance(3);
    assert_eq!(lease.bytes(), b"s");
}

#[test]
fn table_beyond_the_descriptor_limit_is_refused_with_the_fix() {
    let have = rustix::process::getrlimit(Resource::Nofile)
        .current
        .unwrap();
    let sockets_max = u32::try_from(have + 1).unwrap();
    let error = Ring::new(&RingConfig {
        sockets_max,
        ..small()
    })
    .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RingError::FileLimit { .. }), "{text}");
    assert!(
        text.contains(&format!("{sockets_max} sockets")) && text.contains("LimitNOFILE"),
        "{text}"
    );
}

#[test]
fn listen_errors_name_the_address_and_the_fix() {
    let bind = |address: &str, congestion: Option<&str>| {
        Listener::bind(&ListenOptions {
            address: address.parse().unwrap(),
            backlog: 1,
            congestion: congestion.map(str::to_owned),
            closes_with_fin: false,
        })
    };
    let error = bind("192.0.2.1:0", None).unwrap_err();
    assert!(
        matches!(error, ListenError::AddressUnknown { .. }),
        "{error}"
    );
    let error = bind("127.0.0.1:0", Some("absent")).unwrap_err();
    assert!(error.to_string().contains("tcp_absent"), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bind(&taken.local_addr().unwrap().to_string(), None).unwrap_err();
    assert!(matches!(error, ListenError::AddressInUse { .. }), "{error}");
}

#[test]
fn end_of_stream_is_reported_as_such() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    peer.write_all(b"last words").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let mut count = 0;
    host.until(|_, completion| match completion {
        Some(Completion::Received { lease, .. }) => {
            count += lease.len();
            false
        }
        Some(Completion::ReceiveEnded { end, .. }) => {
            assert_eq!((end, count), (ReceiveEnd::Eof, 10));
            true
        }
        _ => false,
    });
    host.finish();
}

/// Not a test of behaviour: prints what a close costs while many receives are armed.
#[test]
#[ignore = "a measurement; run with --ignored --nocapture"]
fn cost_of_a_close_among_many_armed_receives() {
    let config = RingConfig {
        sockets_max: 9_000,
        ..RingConfig::default()
    };
    let (mut server, address) = Host::listening(&config);
    let mut client = Host::new(&config);
    for batch in 0..9 {
        for token in 0..900 {
            client
                .ring
                .connect(address, &ConnectOptions::default(), token)
                .unwrap();
        }
        let mut connected = 0;
        client.until(|_, completion| {
            connected += u32::from(matches!(completion, Some(Completion::Connected { .. })));
            connected == 900
        });
        server.until(|ring, completion| {
            if let Some(Completion::Accepted { slot, .. }) = completion {
                ring.receive(slot);
            }
            ring.numbers().sockets_current == 900 * (batch + 1)
        });
    }
    let slots: Vec<_> = server.ring.open_slots().collect();
    let before = clock();
    for slot in &slots {
        server.ring.close(*slot);
    }
    server.until(|ring, _| ring.numbers().sockets_current == 0);
    println!(
        "{:?} a close, {} sockets",
        (clock() - before) / 8_100,
        slots.len()
    );
    client.finish();
}

#[test]
fn stopped_receive_leaves_bytes_in_the_kernel_until_it_is_asked_for_again() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    peer.write_all(b"before").unwrap();
    let mut before = 0;
    host.until(|_, completion| {
        if let Some(Completion::Received { lease, .. }) = completion {
            before += lease.len();
        }
        before == 6
    });
    host.ring.stop_receive(slot);
    host.until(|_, completion| match completion {
        Some(Completion::ReceiveEnded { end, .. }) => {
            assert_eq!(end, ReceiveEnd::Error(Errno::CANCELED.raw_os_error()));
            true
        }
        _ => false,
    });
    peer.write_all(b"after").unwrap();
    // Stopping what does not receive is no news, and turns bring nothing.
    host.ring.stop_receive(slot);
    let mut turns = 0;
    host.until(|_, completion| {
        assert!(!matches!(completion, Some(Completion::Received { .. })));
        turns += 1;
        turns == 5
    });
    host.ring.receive(slot);
    let mut after = Vec::new();
    host.until(|_, completion| {
        if let Some(Completion::Received { lease, .. }) = completion {
            after.extend_from_slice(lease.bytes());
        }
        after == b"after"
    });
    host.finish();
}

#[test]
fn close_ends_with_fin_where_a_socket_asks_for_it() {
    for closes_with_fin in [true, false] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut host = Host::new(&small());
        let options = ConnectOptions {
            closes_with_fin,
            ..ConnectOptions::default()
        };
        let target = listener.local_addr().unwrap();
        host.ring.connect(target, &options, 0).unwrap();
        let mut slot = None;
        host.until(|_, completion| {
            if let Some(Completion::Connected {
                slot: connected, ..
            }) = completion
            {
                slot = Some(connected);
            }
            slot.is_some()
        });
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        host.ring.close(slot.unwrap());
        host.until(|ring, _| ring.numbers().sockets_current == 0);
        match peer.read(&mut [0; 16]) {
            Ok(0) => assert!(closes_with_fin),
            Err(error) => {
                assert_eq!(Errno::from_io_error(&error), Some(Errno::CONNRESET));
                assert!(!closes_with_fin);
            }
            Ok(count) => panic!("{count} bytes that nobody sent"),
        }
        host.finish();
    }
}
