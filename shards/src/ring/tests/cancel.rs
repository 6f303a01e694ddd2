//! Sends that are cancelled to see how far they came, and where connections come from.

use std::net::IpAddr;

use super::*;

/// Bytes that no socket buffer takes at once.
const MUCH: usize = 16 << 20;

#[test]
fn cancelled_send_tells_how_far_it_came_and_can_go_on() {
    cancel_until_sent(&small());
}

/// What the kernel still reads of it stays as it was, while its owner has a copy of the rest.
#[test]
fn cancelled_send_without_a_copy_can_go_on_as_well() {
    cancel_until_sent(&zero_copying());
}

/// Cancels a send again and again until all has arrived.
fn cancel_until_sent(config: &RingConfig) {
    let (mut host, address) = Host::listening(config);
    let mut peer = peer(address);
    let slot = host.accept();
    let bytes = flow(3, MUCH);
    host.ring.send(slot, batch_of(bytes.clone()));
    // The kernel fills the socket's buffers and then waits for the peer.
    host.until(|_, _| true);
    let mut done = 0;
    let mut cancels = 0;
    let mut is_over = false;
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        let mut buffer = vec![0; 65_536];
        while received.len() < MUCH {
            let count = peer.read(&mut buffer).unwrap();
            assert!(count > 0, "{} bytes came", received.len());
            received.extend_from_slice(&buffer[..count]);
        }
        received
    });
    while !is_over {
        host.ring.cancel_send(slot);
        cancels += 1;
        host.until(|ring, completion| {
            let Some(Completion::Sent {
                mut batch, result, ..
            }) = completion
            else {
                return false;
            };
            let count = match result {
                Ok(count) => usize::try_from(count).unwrap(),
                Err(errno) => {
                    assert_eq!(errno, Errno::CANCELED.raw_os_error());
                    0
                }
            };
            done += count;
            batch.advance(count);
            is_over = batch.is_empty();
            if !is_over {
                ring.send(slot, batch);
            }
            true
        });
    }
    assert_eq!(done, MUCH);
    assert!(cancels > 1, "the first cancel came before the end");
    assert_eq!(reader.join().unwrap(), bytes);
    host.finish();
}

#[test]
fn cancel_without_a_send_changes_nothing() {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.cancel_send(slot);
    host.ring.cancel_send(Slot(63));
    host.until(|_, _| true);
    host.ring.send(slot, batch_of(b"after".to_vec()));
    let mut buffer = [0; 5];
    host.until(|_, completion| matches!(completion, Some(Completion::Sent { result: Ok(5), .. })));
    peer.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"after");
    host.finish();
}

#[test]
fn accepted_connection_tells_its_address() {
    for listen in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
        let options = ListenOptions {
            address: listen.parse().unwrap(),
            backlog: 16,
            congestion: None,
            closes_with_fin: false,
        };
        let Ok(listener) = Listener::bind(&options) else {
            assert!(listen.contains(':'), "this host has IPv4");
            continue;
        };
        let port = listener.address().port();
        let mut host = Host::new(&small());
        host.ring.listen(listener);
        let targets: &[&str] = match listen {
            "127.0.0.1:0" => &["127.0.0.1"],
            "[::1]:0" => &["::1"],
            _ => &["::1", "127.0.0.1"],
        };
        for target in targets {
            let target: IpAddr = target.parse().unwrap();
            // One that has gone again is told as well.
            let peer = peer(SocketAddr::new(target, port));
            if listen == "127.0.0.1:0" {
                drop(peer);
            }
            let mut found = None;
            host.until(|_, completion| {
                if let Some(Completion::Accepted { address, .. }) = completion {
                    found = address;
                    return true;
                }
                false
            });
            let found = found.expect("this kernel tells addresses (Linux 6.7)");
            assert_eq!(
                crate::core::Source::of(found),
                crate::core::Source::of(target)
            );
        }
        host.finish();
    }
}

#[test]
fn receives_that_complete_while_their_socket_closes_give_their_memory_back() {
    let (mut host, address) = Host::listening(&small());
    for _ in 0..30 {
        let mut peer = peer(address);
        let slot = host.accept();
        host.ring.receive(slot);
        // Bytes are on their way while the close is: some receives end before the cancel, some after.
        let writer = thread::spawn(move || {
            let bytes = vec![7; 65_536];
            while peer.write_all(&bytes).is_ok() {}
        });
        host.until(|_, completion| matches!(completion, Some(Completion::Received { .. })));
        host.ring.close(slot);
        host.until(|_, completion| match completion {
            // What was received before the close is dropped here, by its drop.
            Some(Completion::Received { .. }) | None => false,
            other => matches!(other, Some(Completion::Closed { .. })),
        });
        writer.join().unwrap();
    }
    // A turn takes unused blocks back.
    host.until(|ring, _| ring.numbers().buffers.pinned == 0);
    host.finish();
}
