//! The relay under test, in this process.
//!
//! Here: starting it with the limits a probe needs, waiting for what it says of itself, the checks at
//! its end. Not here: peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ringway_client::{Client, Config, PublicKey, RelayAddress, SecretKey};
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::limits::STREAMS_MAX;
use ringway_proto::reason::Reason;
use ringway_shards::core::{Directory as _, ShardId};
use ringway_shards::set::{
    AdmissionLimits, Placement, ShardSet, ShardSetConfig, ShardSnapshot, Timeouts,
};

use crate::raw::Raw;
use crate::sockets::Sockets;

/// Longest wait for anything; only a bug meets it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two looks at something that has to become true.
const PAUSE: Duration = Duration::from_millis(2);

/// What a probe sets; the rest is as an operator gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) shards_count: u16,
    pub(crate) placement: Placement,
    pub(crate) admission: AdmissionLimits,
    pub(crate) timeouts: Timeouts,
    pub(crate) streams_max: u32,
}

impl Options {
    pub(crate) fn shards(shards_count: u16) -> Self {
        Self {
            shards_count,
            placement: Placement::default(),
            admission: AdmissionLimits::for_sockets(4_096),
            timeouts: Timeouts {
                // Handshakes run at a low priority: on a machine that others load they may wait.
                handshake: DEADLINE,
                ..Timeouts::default()
            },
            streams_max: STREAMS_MAX,
        }
    }
}

/// A relay in this process.
pub(crate) struct Relay {
    pub(crate) set: ShardSet,
    pub(crate) sockets: Sockets,
    secret: SecretKey,
}

impl Relay {
    pub(crate) fn start(options: Options) -> Self {
        raise_descriptor_limit();
        let secret = SecretKey::from_seed([201; 32]);
        let identity = Arc::new(RelayIdentity::new(&secret));
        let mut config = ShardSetConfig::new(identity).with_sockets(options.admission.sockets_max);
        config.shards_count = options.shards_count;
        config.placement = options.placement;
        config.admission = options.admission;
        config.timeouts = options.timeouts;
        config.offer.streams_max = options.streams_max;
        let set = ShardSet::launch(&config).unwrap();
        let sockets = Sockets::of(set.address());
        Self {
            set,
            sockets,
            secret,
        }
    }

    pub(crate) fn with_shards(shards_count: u16) -> Self {
        Self::start(Options::shards(shards_count))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.set.address()
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.secret.public()
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// Connects the peer with this number whose session lands on `shard`: another attempt comes from another
    /// port and so to another listener. Where shards are balanced, it must not be the fullest by two.
    pub(crate) fn peer_on(&self, shard: u16, number: u32) -> Raw {
        for _ in 0..100 {
            let peer = Raw::admitted(self, number);
            let place = self.set.directory().lookup(&peer.key()).unwrap();
            if place.shard == ShardId(shard) {
                return peer;
            }
        }
        panic!("100 connections and none on shard {shard}");
    }

    /// Connects a party of the client library.
    pub(crate) async fn client(&self, number: u32) -> Client {
        let relay = RelayAddress::new(self.key(), self.address());
        let config = Config {
            handshake_timeout: DEADLINE,
            ..Config::new([relay])
        };
        Client::connect(secret_of(number), config).await.unwrap()
    }

    /// Returns a snapshot of every shard.
    pub(crate) fn snapshots(&self) -> Vec<ShardSnapshot> {
        let snapshots = self.set.snapshots(DEADLINE);
        assert_eq!(
            snapshots.len(),
            self.set.handles().len(),
            "a shard is stuck"
        );
        snapshots
    }

    /// Returns the sum of a number over the shards.
    pub(crate) fn sum(&self, number: impl Fn(&ShardSnapshot) -> u64) -> u64 {
        self.snapshots().iter().map(number).sum()
    }

    /// Waits until the sum of a number over the shards is `wanted`.
    pub(crate) fn until(&self, what: &str, wanted: u64, number: impl Fn(&ShardSnapshot) -> u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let have = self.sum(&number);
            if have == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: {have} does not become {wanted}; {:?}",
                self.snapshots()
            );
            thread::sleep(PAUSE);
        }
    }

    /// Waits until the relay holds nothing but its listeners, in its own books and in the kernel's.
    pub(crate) fn until_empty(&self) {
        self.until("owned in all", 0, |shard| {
            let audit = &shard.audit;
            audit.sockets
                + audit.handshakes
                + audit.sessions
                + audit.streams
                + audit.queued_bytes
                + audit.batches_in_flight
                + audit.chunks
                + shard.shard_audit.connections
        });
        assert!(self.snapshots().iter().all(|shard| shard.audit.is_zero()));
        self.check_books();
        assert!(self.set.directory().is_empty());
        self.sockets.until_only(&["LISTEN"]);
    }

    /// Checks what holds at any time.
    pub(crate) fn check_books(&self) {
        for shard in self.snapshots() {
            assert_eq!(shard.stats.broken_laws(), Vec::<String>::new());
            assert!(shard.ring.is_conserved(), "{:?}", shard.ring);
        }
    }

    /// Returns how many handshakes failed for a reason.
    pub(crate) fn handshakes_failed(&self, reason: Reason) -> u64 {
        self.sum(|shard| shard.stats.handshakes_failed.of(reason))
    }

    /// Returns how many opens were refused for a reason.
    pub(crate) fn opens_refused(&self, reason: Reason) -> u64 {
        self.sum(|shard| shard.stats.opens_refused.of(reason))
    }

    /// Shuts down and checks that nothing is left, whatever was open.
    pub(crate) fn end(self) {
        let directory = self.set.directory().clone();
        let shards = self.set.handles().len();
        let snapshots = self.set.shutdown();
        assert_eq!(snapshots.len(), shards, "a shard did not end well");
        for shard in snapshots {
            assert!(shard.audit.is_zero(), "{:?}", shard.audit);
            assert_eq!(shard.stats.broken_laws(), Vec::<String>::new());
            assert_eq!(shard.ring.sockets_opened, shard.ring.sockets_closed);
            assert_eq!(shard.ring.sends_current, 0);
        }
        assert!(directory.is_empty());
        self.sockets.until_only(&[]);
    }
}

/// Returns the secret of the peer with this number.
pub(crate) fn secret_of(number: u32) -> SecretKey {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_seed(seed)
}

/// Takes the whole of the hard limit: the probes hold thousands of sockets in one process.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
