//! Two rings that exchange flows of bytes: everything sent comes back, in order, to its sender.

use super::*;

/// The serving side of [`echo`]: sends every range back by reference.
struct Echo {
    host: Host,
    /// Ranges each socket still has to return.
    queues: Vec<VecDeque<RingLease>>,
    is_sending: Vec<bool>,
    /// Bytes of batches that the kernel has let go of.
    released: usize,
}

impl Echo {
    fn turn(&mut self) {
        let Host { ring, completions } = &mut self.host;
        ring.turn(Wait::For(Duration::from_micros(100)), completions)
            .unwrap();
        for completion in completions.drain(..) {
            match completion {
                Completion::Accepted { slot, .. } => ring.receive(slot),
                Completion::Received { slot, lease } => self.queues[place(slot)].push_back(lease),
                Completion::Sent { slot, .. } => self.is_sending[place(slot)] = false,
                Completion::ReceiveEnded { slot, .. } => ring.close(slot),
                Completion::Closed { slot } => {
                    self.queues[place(slot)].clear();
                    self.is_sending[place(slot)] = false;
                }
                Completion::Released { batch } => self.released += batch.len(),
                other => assert!(matches!(other, Completion::Woken), "{other:?}"),
            }
        }
        for (slot, queue) in (0..).zip(&mut self.queues) {
            if self.is_sending[place(Slot(slot))] || queue.is_empty() {
                continue;
            }
            let mut batch = Batch::new();
            for lease in queue.drain(..) {
                batch.push_lease(lease);
            }
            self.is_sending[place(Slot(slot))] = true;
            ring.send(Slot(slot), batch);
        }
    }

    /// Waits until every client has gone.
    fn finish(self, sockets: u64) {
        let Self {
            mut host,
            mut released,
            queues,
            ..
        } = self;
        drop(queues);
        host.until(|ring, completion| {
            match completion {
                Some(Completion::ReceiveEnded { slot, .. }) => ring.close(slot),
                Some(Completion::Released { batch }) => released += batch.len(),
                _ => {}
            }
            let numbers = ring.numbers();
            numbers.sockets_closed == sockets && numbers.zero_copy_bytes_current == 0
        });
        let numbers = host.ring.numbers();
        assert_eq!(numbers.zero_copy_sends > 0, released > 0);
        assert!(
            numbers.zero_copy_copied <= numbers.zero_copy_sends,
            "{numbers:?}"
        );
        let buffers = host.ring.numbers().buffers;
        assert_eq!(
            buffers.provided + buffers.pinned + buffers.idle,
            buffers.blocks
        );
        host.finish();
    }
}

/// Each client sends a flow of its own and checks that exactly it comes back.
fn echo(config: &RingConfig, sockets: u64, len: usize) {
    let (host, address) = Host::listening(config);
    let slots = usize::try_from(config.sockets_max).unwrap();
    let queues = (0..slots).map(|_| VecDeque::new()).collect();
    let mut server = Echo {
        host,
        queues,
        is_sending: vec![false; slots],
        released: 0,
    };
    let mut client = Host::new(config);
    for token in 0..sockets {
        client
            .ring
            .connect(address, &ConnectOptions::default(), token)
            .unwrap();
    }
    let mut tokens = vec![0; slots];
    let mut received = vec![0_usize; slots];
    let mut finished = 0;
    let deadline = clock() + DEADLINE;
    while finished < sockets {
        assert!(
            clock() < deadline,
            "{:?} {:?}",
            server.host.ring.numbers(),
            client.ring.numbers()
        );
        server.turn();
        client
            .ring
            .turn(
                Wait::For(Duration::from_micros(100)),
                &mut client.completions,
            )
            .unwrap();
        for completion in client.completions.drain(..) {
            match completion {
                Completion::Connected { slot, token } => {
                    tokens[place(slot)] = token;
                    client.ring.receive(slot);
                    client.ring.send(slot, batch_of(flow(token, len)));
                }
                Completion::Received { slot, lease } => {
                    let (token, start) = (tokens[place(slot)], received[place(slot)]);
                    received[place(slot)] += lease.len();
                    let expected = (start..received[place(slot)]).map(|at| pattern(token, at));
                    assert!(
                        lease.bytes().iter().copied().eq(expected),
                        "bytes of another flow"
                    );
                    if received[place(slot)] == len {
                        client.ring.close(slot);
                    }
                }
                Completion::Sent { result, .. } => {
                    assert_eq!(result, Ok(u32::try_from(len).unwrap()));
                }
                Completion::Closed { .. } => finished += 1,
                Completion::Released { .. } => {}
                other => assert!(matches!(other, Completion::Woken), "{other:?}"),
            }
        }
    }
    assert_eq!(client.ring.numbers().sockets_opened, sockets);
    client.finish();
    server.finish(sockets);
}

#[test]
fn a_thousand_sockets_echo_and_close() {
    let config = RingConfig {
        sockets_max: 1_100,
        ..RingConfig::default()
    };
    echo(&config, 1_000, 3_000);
}

#[test]
fn bulk_is_echoed_by_reference_in_both_kinds_of_blocks() {
    for incremental in [true, false] {
        echo(
            &RingConfig {
                incremental,
                ..small()
            },
            8,
            4_000_000,
        );
    }
}

#[test]
fn sends_without_a_copy_carry_the_same_bytes() {
    echo(&zero_copying(), 8, 4_000_000);
    let tiny = RingConfig {
        entries: 4,
        blocks: 4,
        blocks_max: 64,
        block_bytes: 4_096,
        ..zero_copying()
    };
    echo(&tiny, 50, 40_000);
}

#[test]
fn ring_that_polls_network_cards_carries_the_same_bytes() {
    let config = RingConfig {
        napi: Some(Duration::from_micros(10)),
        ..small()
    };
    match Ring::new(&config) {
        Ok(_) => echo(&config, 8, 1_000_000),
        Err(RingError::Unsupported { since, .. }) => assert_eq!(since, "6.9"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn echo_survives_tiny_blocks_and_queues() {
    for incremental in [true, false] {
        let config = RingConfig {
            entries: 4,
            blocks: 4,
            blocks_max: 64,
            block_bytes: 4_096,
            block_bytes_plain: 4_096,
            incremental,
            ..small()
        };
        echo(&config, 50, 40_000);
    }
}
