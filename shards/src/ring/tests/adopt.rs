//! Sockets of a pair in this process: they carry bytes as accepted ones do, and are closed as such.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn adopted_socket_carries_bytes_and_is_closed_once() {
    // Sends of a kilobyte and more would go without a copy, which such sockets refuse.
    let config = RingConfig {
        zero_copy_min: Some(1_024),
        ..small()
    };
    let mut host = Host::new(&config);
    for token in [7, 8] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        host.ring.adopt(theirs.into(), token);
        let mut adopted = None;
        host.until(|_, completion| {
            if let Some(Completion::Connected { slot, token: found }) = completion {
                assert_eq!(found, token);
                adopted = Some(slot);
            }
            adopted.is_some()
        });
        let slot = adopted.unwrap();
        host.ring.receive(slot);
        ours.write_all(b"question").unwrap();
        let mut received = Vec::new();
        host.until(|_, completion| {
            if let Some(Completion::Received { lease, .. }) = completion {
                received.extend_from_slice(lease.bytes());
            }
            received.len() == 8
        });
        assert_eq!(received, b"question");

        let answer = vec![42; 100_000];
        let mut batch = Batch::new();
        batch.push_owned(answer.clone());
        host.ring.send(slot, batch);
        let mut sent = None;
        host.until(|_, completion| {
            if let Some(Completion::Sent { result, .. }) = completion {
                sent = Some(result);
            }
            sent.is_some()
        });
        assert_eq!(sent, Some(Ok(100_000)));
        let mut heard = vec![0; answer.len()];
        ours.read_exact(&mut heard).unwrap();
        assert_eq!(heard, answer);

        drop(ours);
        let mut has_ended = false;
        host.until(|ring, completion| {
            if let Some(Completion::ReceiveEnded { slot, .. }) = completion {
                ring.close(slot);
                has_ended = true;
            }
            has_ended && ring.numbers().sockets_current == 0
        });
    }
    let numbers = host.ring.numbers();
    assert_eq!((numbers.sockets_opened, numbers.sockets_closed), (2, 2));
    assert_eq!(numbers.zero_copy_sends, 0);
    host.finish();
}

#[test]
fn full_table_takes_no_socket_and_says_so() {
    let mut host = Host::new(&RingConfig {
        sockets_max: 1,
        ..small()
    });
    let pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
    let mut ours = Vec::new();
    for (token, (mine, theirs)) in (0..).zip(pairs) {
        host.ring.adopt(theirs.into(), token);
        ours.push(mine);
    }
    let mut failed = None;
    let mut slot_taken = None;
    host.until(|_, completion| {
        match completion {
            Some(Completion::ConnectFailed { token, .. }) => failed = Some(token),
            Some(Completion::Connected { slot, .. }) => slot_taken = Some(slot),
            _ => {}
        }
        failed.is_some() && slot_taken.is_some()
    });
    // Its other end is closed with it: whoever waits there learns of it.
    let refused = usize::try_from(failed.unwrap()).unwrap();
    assert_eq!(ours[refused].read(&mut [0; 1]).unwrap(), 0);
    host.ring.close(slot_taken.unwrap());
    host.until(|ring, _| ring.numbers().sockets_current == 0);
    host.finish();
}
