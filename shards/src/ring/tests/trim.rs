//! A ring that gives memory back while sockets stand and leases are out.

use super::*;

/// Receives on `slot` until `count` bytes are there; returns their leases.
fn receive(host: &mut Host, slot: Slot, count: usize) -> Vec<RingLease> {
    let mut leases: Vec<RingLease> = Vec::new();
    host.until(|_, completion| {
        if let Some(Completion::Received { slot: of, lease }) = completion {
            assert_eq!(of, slot);
            leases.push(lease);
        }
        leases.iter().map(RingLease::len).sum::<usize>() >= count
    });
    leases
}

fn bytes_of(leases: &[RingLease]) -> Vec<u8> {
    leases.iter().flat_map(RingLease::bytes).copied().collect()
}

#[test]
fn what_is_leased_stays_and_what_comes_later_is_whole() {
    let (mut host, address) = Host::listening(&small());
    let sent: Vec<u8> = (0..400_000).map(|at| pattern(5, at)).collect();
    let mut near = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    near.write_all(&sent[..100]).unwrap();
    let kept = receive(&mut host, slot, 100);
    for round in 0..3 {
        // More than a block, so that blocks are half filled, full and given back by now.
        let (first, rest) = (sent.clone(), near.try_clone().unwrap());
        let sender = thread::spawn(move || (&rest).write_all(&first).unwrap());
        let leases = receive(&mut host, slot, sent.len());
        sender.join().unwrap();
        host.ring.trim();
        assert!(bytes_of(&leases) == sent, "round {round}");
        drop(leases);
        host.ring.trim();
    }
    assert_eq!(bytes_of(&kept), sent[..100], "held over all of it");
    drop(kept);
    host.finish();
}

#[test]
fn sockets_come_and_go_as_before() {
    let (mut host, address) = Host::listening(&small());
    for round in 0..3 {
        let come = |_| (peer(address), host.accept());
        let (peers, slots): (Vec<_>, Vec<_>) = (0..40).map(come).unzip();
        for slot in &slots {
            host.ring.send(*slot, batch_of(vec![round; 300]));
        }
        let mut sent = 0;
        host.until(|_, completion| {
            if let Some(Completion::Sent { result, .. }) = completion {
                assert_eq!(result, Ok(300));
                sent += 1;
            }
            sent == slots.len()
        });
        for mut near in peers {
            let mut bytes = [0; 300];
            near.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [round; 300]);
        }
        // All but the last one leave.
        for slot in &slots[..slots.len() - 1] {
            host.ring.close(*slot);
        }
        let left = u64::from(round) + 1;
        host.until(|ring, _| ring.numbers().sockets_current == left);
        host.ring.trim();
    }
    host.finish();
}
