//! Whole shards with real peers on loopback.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "support/peer.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use ringway_proto::key::Address;
use ringway_proto::key::PublicKey;
use ringway_proto::peer::PeerEvent;
use ringway_proto::peer::StreamId;
use ringway_proto::reason::Reason;
use ringway_shards::core::ShardId;
use ringway_shards::ring::ListenError;
use ringway_shards::ring::RingError;
use ringway_shards::set::LaunchError;
use ringway_shards::set::Lookup;
use ringway_shards::set::Resolver;
use ringway_shards::set::ShardSet;
use ringway_shards::set::ShardSetConfig;
use ringway_shards::set::ShardSnapshot;

use support::DEADLINE;
use support::Peer;
use support::admitted;
use support::check_ended;
use support::config;
use support::random;
use support::secret;
use support::settled;
use support::unix_time_ns;
use support::until;

/// Returns the public key of the peer with secret number `number`.
fn key(number: u16) -> PublicKey {
    secret(number).public()
}

/// Opens a stream from `source` to `target`, which accepts; returns both ends.
fn bridge(peers: &mut [Peer], source: usize, target: usize) -> (StreamId, StreamId) {
    let destination = Address {
        key: key(u16::try_from(target).unwrap()),
        port: 100,
    };
    let session = &mut peers[source].session;
    let stream = session
        .open(destination, 50_000, unix_time_ns(), random())
        .unwrap();
    let mut accepted = None;
    until(peers, |peers| {
        let place = peers[target]
            .events
            .iter()
            .position(|event| matches!(event, PeerEvent::Incoming { .. }));
        if let Some(place) = place
            && let PeerEvent::Incoming {
                stream, request, ..
            } = peers[target].events.remove(place)
        {
            peers[target]
                .session
                .accept(stream, request, [9; 32])
                .unwrap();
            accepted = Some(stream);
        }
        peers[source].events.iter().any(
            |event| matches!(event, PeerEvent::Opened { stream: opened, .. } if *opened == stream),
        )
    });
    (stream, accepted.unwrap())
}

/// Sends `len` bytes from one end to the other and checks them.
fn transfer(peers: &mut [Peer], from: (usize, StreamId), to: (usize, StreamId), len: usize) {
    let byte = |at: usize| u8::try_from((at * 7 + at / 253) % 251).unwrap();
    let bytes: Vec<_> = (0..len).map(byte).collect();
    let (mut sent, mut received) = (0, 0);
    let mut buffer = vec![0; 1 << 18];
    until(peers, |peers| {
        if sent < len {
            sent += peers[from.0].session.write(from.1, &bytes[sent..]).unwrap();
        }
        loop {
            let count = peers[to.0].session.read(to.1, &mut buffer).unwrap_or(0);
            if count == 0 {
                break;
            }
            assert!(
                buffer[..count] == bytes[received..received + count],
                "at {received}"
            );
            received += count;
        }
        received == len
    });
}

fn sessions_sum(snapshots: &[ShardSnapshot]) -> u64 {
    snapshots
        .iter()
        .map(|shard| shard.stats.sessions_current)
        .sum()
}

#[test]
fn peers_of_two_shards_exchange_bytes_both_ways() {
    let set = ShardSet::launch(&config(2)).unwrap();
    // The kernel deals clients out by a hash of their ports: now and then all to one shard.
    let mut count = 12_u16;
    let mut peers = admitted(set.address(), count);
    loop {
        let sessions = settled(&set, |snapshots| {
            sessions_sum(snapshots) == u64::from(count)
        });
        if sessions
            .iter()
            .all(|shard| shard.stats.sessions_current > 0)
        {
            break;
        }
        assert!(count < 40, "a listener gets no clients");
        count += 1;
        peers.push(Peer::connect(set.address(), count - 1));
        until(&mut peers, |peers| {
            peers.iter().all(|peer| peer.session.is_ready())
        });
    }
    let count = peers.len();
    let mut bridges = Vec::new();
    for source in 0..count {
        let target = (source + 1) % count;
        let (near, far) = bridge(&mut peers, source, target);
        bridges.push((source, near, target, far));
    }
    for (source, near, target, far) in &bridges {
        transfer(&mut peers, (*source, *near), (*target, *far), 3_000_000);
        transfer(&mut peers, (*target, *far), (*source, *near), 300_000);
    }
    let snapshots = set.snapshots(DEADLINE);
    assert!(
        snapshots
            .iter()
            .all(|shard| shard.stats.messages_received > 0)
    );
    assert!(
        snapshots
            .iter()
            .all(|shard| shard.stats.broken_laws().is_empty())
    );
    let forwarded: u64 = snapshots
        .iter()
        .map(|shard| shard.stats.payload_bytes_forwarded)
        .sum();
    assert!(forwarded >= 12 * 3_300_000, "{forwarded}");
    for (source, near, target, far) in bridges {
        peers[source].session.finish(near).unwrap();
        peers[target].session.finish(far).unwrap();
    }
    until(&mut peers, |peers| {
        peers.iter().all(|peer| peer.session.streams_count() == 0)
    });
    settled(&set, |snapshots| {
        snapshots.iter().all(|shard| shard.audit.streams == 0)
    });
    check_ended(set);
}

#[test]
fn storm_of_handshakes_is_served_and_leaves_nothing() {
    let set = ShardSet::launch(&config(2)).unwrap();
    for _ in 0..3 {
        let peers = admitted(set.address(), 300);
        settled(&set, |_| set.directory().len() == 300);
        drop(peers);
        settled(&set, |snapshots| {
            snapshots.iter().all(|shard| shard.audit.is_zero())
        });
    }
    let opened: u64 = set
        .snapshots(DEADLINE)
        .iter()
        .map(|shard| shard.stats.sessions_opened)
        .sum();
    assert_eq!(opened, 900);
    check_ended(set);
}

#[test]
fn newest_session_of_a_key_wins_on_whichever_shard() {
    let set = ShardSet::launch(&config(2)).unwrap();
    for _ in 0..5 {
        let mut peers = vec![
            Peer::connect(set.address(), 5),
            Peer::connect(set.address(), 5),
        ];
        until(&mut peers, |peers| {
            peers.iter().filter(|peer| peer.is_eof).count() == 1
        });
        settled(&set, |_| set.directory().len() == 1);
        drop(peers);
        settled(&set, |snapshots| {
            snapshots.iter().all(|shard| shard.audit.is_zero())
        });
    }
    check_ended(set);
}

/// A registry that takes no questions.
#[derive(Debug)]
struct Overwhelmed;

impl Resolver for Overwhelmed {
    fn look_up(&self, _: ShardId, _: Lookup) -> bool {
        false
    }
}

#[test]
fn open_whose_lookup_nobody_takes_is_refused_before_the_shard_sleeps() {
    let config = ShardSetConfig {
        resolver: Some(Arc::new(Overwhelmed)),
        ..config(1)
    };
    let set = ShardSet::launch(&config).unwrap();
    let mut peers = admitted(set.address(), 1);
    let nobody = Address {
        key: key(99),
        port: 100,
    };
    let stream = peers[0]
        .session
        .open(nobody, 50_000, unix_time_ns(), random())
        .unwrap();
    let mut reason_code = None;
    until(&mut peers, |peers| {
        reason_code = peers[0].events.iter().find_map(|event| match event {
            PeerEvent::OpenRefused {
                stream: refused,
                reason_code,
            } if *refused == stream => Some(*reason_code),
            _ => None,
        });
        reason_code.is_some()
    });
    // Not 302, with which the peer gives up by itself.
    assert_eq!(reason_code, Some(Reason::DirectoryUnavailable.code()));
    drop(peers);
    check_ended(set);
}

#[test]
fn drain_ends_idle_sessions_and_refuses_new_clients() {
    let set = ShardSet::launch(&config(1)).unwrap();
    let mut peers = admitted(set.address(), 4);
    let (near, far) = bridge(&mut peers, 0, 1);
    set.drain();
    until(&mut peers, |peers| peers[2].is_eof && peers[3].is_eof);
    transfer(&mut peers, (0, near), (1, far), 100_000);
    assert!(!set.snapshots(DEADLINE)[0].is_drained);
    peers[0].session.finish(near).unwrap();
    peers[1].session.finish(far).unwrap();
    until(&mut peers, |peers| peers[0].is_eof && peers[1].is_eof);
    settled(&set, |snapshots| snapshots[0].is_drained);
    assert!(
        std::net::TcpListener::bind(set.address()).is_ok(),
        "the listener is closed"
    );
    check_ended(set);
}

#[test]
fn shutdown_in_the_middle_of_a_transfer_leaves_nothing() {
    for shards_count in [1, 2] {
        let set = ShardSet::launch(&config(shards_count)).unwrap();
        let mut peers = admitted(set.address(), 6);
        let mut streams = Vec::new();
        for source in 0..6 {
            streams.push(bridge(&mut peers, source, (source + 1) % 6).0);
        }
        for (peer, stream) in peers.iter_mut().zip(streams) {
            peer.session.write(stream, &[1; 200_000]).unwrap();
            peer.pump();
        }
        check_ended(set);
    }
}

#[test]
fn kicked_peer_loses_its_session() {
    let set = ShardSet::launch(&config(2)).unwrap();
    let mut peers = admitted(set.address(), 3);
    assert!(set.kick(key(1), DEADLINE));
    until(&mut peers, |peers| peers[1].is_eof);
    assert!(!set.kick(key(1), DEADLINE));
    assert!(!peers[0].is_eof && !peers[2].is_eof);
    check_ended(set);
}

#[test]
fn idle_shard_does_not_wake_up() {
    let set = ShardSet::launch(&config(1)).unwrap();
    let peers = admitted(set.address(), 1);
    settled(&set, |snapshots| snapshots[0].stats.sessions_current == 1);
    std::thread::park_timeout(Duration::from_millis(50));
    let before = set.snapshots(DEADLINE)[0].data;
    std::thread::park_timeout(Duration::from_millis(500));
    let after = set.snapshots(DEADLINE)[0].data;
    assert!(after.turns - before.turns <= 4, "{before:?} {after:?}");
    drop(peers);
    check_ended(set);
}

#[test]
fn launch_errors_say_what_to_do() {
    let taken = ShardSet::launch(&config(1)).unwrap();
    let mut second = config(1);
    second.listen = taken.address();
    let error = ShardSet::launch(&second).unwrap_err();
    assert!(
        matches!(error, LaunchError::Listen(ListenError::AddressInUse { .. })),
        "{error}"
    );
    second.joins_address = true;
    check_ended(ShardSet::launch(&second).unwrap());
    check_ended(taken);
    let mut greedy = config(2);
    greedy.ring.sockets_max = u32::MAX / 2;
    let error = ShardSet::launch(&greedy).unwrap_err();
    assert!(
        matches!(
            error,
            LaunchError::Ring {
                source: RingError::FileLimit { .. },
                ..
            }
        ),
        "{error}"
    );
}
