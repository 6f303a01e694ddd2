//! Which shard connections end up on, with real peers on loopback.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "support/peer.rs"]
mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ringway_shards::set::AdmissionLimits;
use ringway_shards::set::Placement;
use ringway_shards::set::ShardSet;
use ringway_shards::set::ShardSnapshot;

use support::Peer;
use support::admitted;
use support::check_ended;
use support::config;
use support::settled;
use support::until;

fn sessions(snapshots: &[ShardSnapshot]) -> Vec<u64> {
    let of_one = |shard: &ShardSnapshot| shard.stats.sessions_current;
    snapshots.iter().map(of_one).collect()
}

fn spread(counts: &[u64]) -> u64 {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

/// Waits until nobody is connected, and checks what the shards say of hand-overs; returns their number.
fn settled_to_zero(set: &ShardSet) -> u64 {
    let snapshots = settled(set, |snapshots| {
        snapshots.iter().all(|shard| shard.shard_audit.is_zero())
    });
    for shard in &snapshots {
        let ring = &shard.ring;
        assert!(ring.is_conserved(), "{ring:?}");
        let ended = ring.hand_overs + ring.hand_overs_failed;
        assert_eq!(ring.hand_overs_started, ended);
    }
    let sent: u64 = snapshots.iter().map(|shard| shard.ring.hand_overs).sum();
    let taken: u64 = snapshots.iter().map(|shard| shard.ring.hand_ins).sum();
    assert_eq!(sent, taken, "every connection has one shard");
    sent
}

#[test]
fn thousand_sessions_are_shared_out_evenly() {
    let set = ShardSet::launch(&config(3)).unwrap();
    let mut peers = admitted(set.address(), 500);
    settled(&set, |shards| sessions(shards).iter().sum::<u64>() == 500);
    for number in 500..1_000 {
        peers.push(Peer::connect(set.address(), number));
        if number % 16 == 0 {
            for peer in &mut peers {
                peer.pump();
            }
        }
    }
    until(&mut peers, |peers| {
        peers.iter().all(|peer| peer.session.is_ready())
    });
    let shards = settled(&set, |shards| sessions(shards).iter().sum::<u64>() == 1_000);
    let counts = sessions(&shards);
    assert!(spread(&counts) <= 2, "{counts:?}");
    drop(peers);
    assert!(settled_to_zero(&set) > 0, "chance alone is not so even");
    check_ended(set);
}

#[test]
fn emptied_shard_gets_the_next_sessions() {
    let set = ShardSet::launch(&config(2)).unwrap();
    let mut peers = admitted(set.address(), 60);
    settled(&set, |shards| sessions(shards).iter().sum::<u64>() == 60);
    // All peers of one shard leave: those whose key it has.
    let mut place = 0;
    peers.retain(|_| {
        let key = support::secret(place).public();
        place += 1;
        let place = ringway_shards::core::Directory::lookup(set.directory(), &key);
        place.unwrap().shard.0 == 0
    });
    let stayed = peers.len() as u64;
    settled(&set, |shards| sessions(shards) == [stayed, 0]);
    for number in 100..120 {
        peers.push(Peer::connect(set.address(), number));
    }
    until(&mut peers, |peers| {
        peers.iter().all(|peer| peer.session.is_ready())
    });
    settled(&set, |shards| sessions(shards) == [stayed, 20]);
    drop(peers);
    settled_to_zero(&set);
    check_ended(set);
}

#[test]
fn nearly_full_tables_take_everybody() {
    let mut config = config(3);
    config.admission = AdmissionLimits::for_sockets(20);
    config.ring.sockets_max = 21;
    let set = ShardSet::launch(&config).unwrap();
    let mut open = Vec::new();
    // One after the other: 54 of 60 places, so that no shard is full while another has room for two.
    for count in 1..=54 {
        open.push(connect(set.address()));
        settled(&set, |shards| {
            let sockets = shards.iter().map(|shard| shard.stats.sockets_current);
            sockets.sum::<u64>() == count
        });
    }
    let shards = settled(&set, |_| true);
    for shard in &shards {
        assert!((17..=20).contains(&shard.stats.sockets_current));
        assert_eq!(shard.ring.accepts_failed, 0);
        assert_eq!(shard.data.connections_current, shard.stats.sockets_current);
    }
    drop(open);
    settled_to_zero(&set);
    check_ended(set);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the peer of these tests is an ordinary socket"
)]
fn connect(relay: SocketAddr) -> TcpStream {
    TcpStream::connect(relay).unwrap()
}

/// Connects and resets as fast as it can: at once, behind a few bytes, or a little later.
#[expect(
    clippy::disallowed_methods,
    reason = "the peer of these tests is an ordinary socket"
)]
fn storm(relay: SocketAddr, count: u32, is_over: &AtomicBool) {
    let mut open = std::collections::VecDeque::new();
    for number in 0..count {
        // The relay may go while the storm goes on.
        let Ok(mut socket) = TcpStream::connect(relay) else {
            break;
        };
        let is_set = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        assert!(is_set.is_ok());
        match number % 3 {
            0 => drop(socket),
            1 => drop(socket.write(b"\x00\x20nonsense")),
            _ => open.push_back(socket),
        }
        if open.len() > 20 {
            open.pop_front();
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
}

#[test]
fn storm_of_resets_under_hand_overs_leaves_nothing() {
    let set = ShardSet::launch(&config(3)).unwrap();
    // Sessions that must not notice.
    let mut peers = admitted(set.address(), 10);
    let never = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| storm(set.address(), 1_000, &never));
        }
    });
    let snapshots = settled(&set, |shards| {
        shards
            .iter()
            .map(|shard| shard.data.connections_current)
            .sum::<u64>()
            == 10
    });
    assert_eq!(sessions(&snapshots).iter().sum::<u64>(), 10);
    for peer in &mut peers {
        peer.pump();
    }
    assert!(peers.iter().all(|peer| !peer.is_eof));
    drop(peers);
    assert!(settled_to_zero(&set) > 0);
    let snapshots = settled(&set, |_| true);
    let opened: u64 = snapshots
        .iter()
        .map(|shard| shard.stats.sockets_opened)
        .sum();
    assert_eq!(opened, 3_010, "each connection was one shard's");
    check_ended(set);
}

#[test]
fn shutdown_and_drain_under_hand_overs_leave_nothing() {
    for round in 0..6 {
        let set = ShardSet::launch(&config(3)).unwrap();
        let (address, is_over) = (set.address(), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| storm(address, u32::MAX, &is_over));
            }
            settled(&set, |shards| {
                shards
                    .iter()
                    .map(|shard| shard.ring.hand_overs)
                    .sum::<u64>()
                    > 30
            });
            if round % 2 == 0 {
                set.drain();
                settled(&set, |shards| shards.iter().all(|shard| shard.is_drained));
            }
            check_all_ended(set);
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

/// As `check_ended`, and nothing is counted for any shard.
fn check_all_ended(set: ShardSet) {
    for snapshot in set.shutdown() {
        assert!(snapshot.shard_audit.is_zero(), "{:?}", snapshot.shard_audit);
        assert!(snapshot.ring.is_conserved(), "{:?}", snapshot.ring);
    }
}

#[test]
fn hash_keeps_the_sessions_of_one_address_together() {
    let mut config = config(3);
    config.placement = Placement::Hash;
    let set = ShardSet::launch(&config).unwrap();
    let peers = admitted(set.address(), 30);
    let shards = settled(&set, |shards| sessions(shards).iter().sum::<u64>() == 30);
    assert_eq!(
        sessions(&shards).iter().filter(|count| **count > 0).count(),
        1
    );
    drop(peers);
    assert_eq!(settled_to_zero(&set), 0);
    check_ended(set);
}

#[test]
fn reuseport_hands_nothing_over() {
    let mut config = config(2);
    config.placement = Placement::Reuseport;
    let set = ShardSet::launch(&config).unwrap();
    let peers = admitted(set.address(), 60);
    settled(&set, |shards| {
        let counted = shards
            .iter()
            .all(|shard| shard.data.connections_current == shard.stats.sockets_current);
        counted && sessions(shards).iter().sum::<u64>() == 60
    });
    drop(peers);
    assert_eq!(settled_to_zero(&set), 0);
    check_ended(set);
}
