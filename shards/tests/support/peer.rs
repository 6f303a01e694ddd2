//! A peer on an ordinary socket, and a set of shards to connect to.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use ringway_proto::handshake::Offer;
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::key::SecretKey;
use ringway_proto::peer::PeerConfig;
use ringway_proto::peer::PeerEvent;
use ringway_proto::peer::PeerSession;
use ringway_proto::time::Now;
use ringway_shards::core::MeshConfig;
use ringway_shards::ports::PortsConfig;
use ringway_shards::ring::RingConfig;
use ringway_shards::set::AdmissionLimits;
use ringway_shards::set::BACKLOG_DEFAULT;
use ringway_shards::set::Placement;
use ringway_shards::set::QueueLimits;
use ringway_shards::set::SPIN_DEFAULT;
use ringway_shards::set::ShardSet;
use ringway_shards::set::ShardSetConfig;
use ringway_shards::set::Timeouts;

/// Longest wait for anything; only a bug meets it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Settings of a small relay on a free port.
pub(crate) fn config(shards_count: u16) -> ShardSetConfig {
    ShardSetConfig {
        resolver: None,
        has_services: false,
        shards_count,
        cores: Vec::new(),
        placement: Placement::Balanced,
        listen: "127.0.0.1:0".parse().unwrap(),
        joins_address: false,
        backlog: BACKLOG_DEFAULT,
        congestion: None,
        spin: SPIN_DEFAULT,
        admission: AdmissionLimits::for_sockets(1_023),
        queue: QueueLimits::default(),
        timeouts: Timeouts::default(),
        identity: Arc::new(RelayIdentity::new(&relay_secret())),
        dmsg: None,
        offer: Offer {
            capabilities: 0,
            streams_max: 256,
            stream_window: 262_144,
            keepalive_s: 30,
        },
        ports: PortsConfig::default(),
        mesh: MeshConfig::default(),
        ring: RingConfig {
            sockets_max: 1_024,
            ..RingConfig::default()
        },
    }
}

fn relay_secret() -> SecretKey {
    SecretKey::from_seed([77; 32])
}

#[expect(
    clippy::disallowed_methods,
    reason = "the peer of these tests lives in real time"
)]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// A connected peer.
pub(crate) struct Peer {
    socket: TcpStream,
    pub(crate) session: PeerSession,
    pub(crate) events: Vec<PeerEvent>,
    out: Vec<u8>,
    epoch: Instant,
    pub(crate) is_eof: bool,
}

impl Peer {
    /// Connects the peer with secret number `number` and starts its handshake.
    #[expect(
        clippy::disallowed_methods,
        reason = "the peer of these tests is an ordinary socket in real time"
    )]
    pub(crate) fn connect(relay: SocketAddr, number: u16) -> Self {
        let epoch = clock();
        let socket = TcpStream::connect(relay).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        let config = PeerConfig::new(unix_time_ns());
        let session = PeerSession::connect(
            Arc::new(secret(number)),
            relay_secret().public(),
            config,
            random(),
            Now::ZERO,
        )
        .unwrap();
        Self {
            socket,
            session,
            events: Vec::new(),
            out: Vec::new(),
            epoch,
            is_eof: false,
        }
    }

    /// Moves bytes both ways without blocking; returns whether any moved.
    pub(crate) fn pump(&mut self) -> bool {
        let now = Now::ZERO + self.epoch.elapsed();
        let mut has_moved = false;
        let mut bytes = [0; 65_536];
        for _ in 0..8 {
            match self.socket.read(&mut bytes) {
                Ok(0) => {
                    if !self.is_eof {
                        self.is_eof = true;
                        self.session.eof(now);
                    }
                    break;
                }
                Ok(count) => {
                    has_moved = true;
                    // An error is reported again as the last event.
                    if self.session.receive(&bytes[..count], now).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    if !self.is_eof {
                        self.is_eof = true;
                        self.session.eof(now);
                    }
                    break;
                }
            }
        }
        if self.session.next_deadline().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
        if self.out.len() < 1 << 20 {
            self.session.transmit(&mut self.out, 1 << 20);
        }
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => {
                    has_moved = true;
                    self.out.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.out.clear();
                }
            }
        }
        has_moved
    }
}

/// Returns the wall-clock time in nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "opens carry the wall-clock time")]
pub(crate) fn unix_time_ns() -> u64 {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    u64::try_from(wall.as_nanos()).unwrap()
}

pub(crate) fn secret(number: u16) -> SecretKey {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_seed(seed)
}

pub(crate) fn random() -> [u8; 32] {
    let mut random = [0; 32];
    getrandom::fill(&mut random).unwrap();
    random
}

/// Pumps all peers until `done`.
pub(crate) fn until(peers: &mut [Peer], mut done: impl FnMut(&mut [Peer]) -> bool) {
    let deadline = clock() + DEADLINE;
    while !done(peers) {
        let mut has_moved = false;
        for peer in &mut *peers {
            has_moved |= peer.pump();
        }
        if !has_moved {
            let last: Vec<_> = peers.iter().map(|peer| peer.events.last()).collect();
            assert!(clock() < deadline, "nothing more happens: {last:?}");
            thread::park_timeout(Duration::from_micros(200));
        }
    }
}

/// Connects peers `0..count` and waits until each is admitted.
pub(crate) fn admitted(relay: SocketAddr, count: u16) -> Vec<Peer> {
    let mut peers = Vec::with_capacity(usize::from(count));
    for number in 0..count {
        peers.push(Peer::connect(relay, number));
        // Making a peer costs its cryptography: on a busy machine the handshakes of the first must not
        // wait for the last.
        if number % 16 == 0 {
            for peer in &mut peers {
                peer.pump();
            }
        }
    }
    until(&mut peers, |peers| {
        peers.iter().all(|peer| peer.session.is_ready())
    });
    peers
}

/// Waits until the shards' snapshots satisfy `done`.
pub(crate) fn settled(
    set: &ShardSet,
    done: impl Fn(&[ringway_shards::set::ShardSnapshot]) -> bool,
) -> Vec<ringway_shards::set::ShardSnapshot> {
    let deadline = clock() + DEADLINE;
    loop {
        let snapshots = set.snapshots(DEADLINE);
        if done(&snapshots) {
            return snapshots;
        }
        assert!(clock() < deadline, "{snapshots:?}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Checks that a set that was shut down owns nothing and its accounts balance.
pub(crate) fn check_ended(set: ShardSet) {
    let shards = set.handles().len();
    let directory = set.directory().clone();
    let snapshots = set.shutdown();
    assert_eq!(snapshots.len(), shards);
    for snapshot in snapshots {
        assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
        assert_eq!(snapshot.stats.broken_laws(), Vec::<String>::new());
        assert!(snapshot.ring.is_conserved(), "{:?}", snapshot.ring);
        assert_eq!(snapshot.ring.sockets_current, 0);
        assert_eq!(snapshot.ring.sends_current, 0);
        assert_eq!(snapshot.ring.closes_chased, 0);
        assert_eq!(snapshot.data.outbox_current, 0);
    }
    assert!(directory.is_empty());
}
