//! What a relay does when its local ports run out, in a network of its own with 64 of them.
//!
//! Here: dials over both shards until the last port, the refusal, the return of the ports, ports that
//! others have. Not here: the bookkeeping (proto's and shards' own tests).
//!
//! Each test ends with the relay shut down, its audit at zero, and no `TIME_WAIT` left by it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failure in a helper of a test fails the test"
)]

#[path = "support/namespace.rs"]
mod namespace;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ringway_client::{Address, Client, Config, RelayAddress, SecretKey};
use ringway_proto::handshake::RelayIdentity;
use ringway_proto::reason::Reason;
use ringway_shards::core::{DialError, Dialed};
use ringway_shards::ports::{PortSet, PortsConfig};
use ringway_shards::set::{PendingDial, ShardSet, ShardSetConfig, ShardSnapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const RANGE: &str = "40000 40063";
const FIRST: u16 = 40_000;
const LAST: u16 = 40_063;

/// Ports of one shard at one source address.
const EACH: usize = 32;

/// Longest wait for anything; only a bug meets it.
const DEADLINE: Duration = Duration::from_secs(30);

struct Relay {
    set: ShardSet,
    secret: SecretKey,
}

impl Relay {
    fn start(sources: &[&str]) -> Self {
        let secret = SecretKey::from_seed([200; 32]);
        let sources = sources.iter().map(|source| source.parse().unwrap());
        let identity = Arc::new(RelayIdentity::new(&secret));
        let set = ShardSet::launch(&ShardSetConfig {
            shards_count: 2,
            listen: "127.0.0.1:7100".parse().unwrap(),
            ports: PortsConfig {
                sources: sources.collect(),
                range: PortSet::range(FIRST, LAST),
                quarantine: Duration::from_millis(300),
                dials_max: 256,
            },
            ..ShardSetConfig::new(identity).with_sockets(1_023)
        })
        .unwrap();
        Self { set, secret }
    }

    /// Asks for a connection without waiting for it.
    fn ask(&self, shard: usize, target: SocketAddr) -> PendingDial {
        // The queue of commands holds 64; whoever meets a full one asks again.
        let end = Instant::now() + DEADLINE;
        loop {
            match self.set.handles()[shard].dial(target) {
                Ok(answer) => return answer,
                Err(error) if Instant::now() > end => panic!("{error}"),
                Err(_) => thread::yield_now(),
            }
        }
    }

    fn dial(&self, shard: usize, target: SocketAddr) -> Result<Dialed, DialError> {
        let answer = self.ask(shard, target);
        answer.recv_timeout(DEADLINE).expect("an answer")
    }

    /// Dials `count` times on each shard, all at once.
    fn dial_all(&self, count: usize, target: SocketAddr) -> Vec<Dialed> {
        let mut answers = Vec::new();
        for shard in 0..2 {
            answers.extend((0..count).map(|_| self.ask(shard, target)));
        }
        answers
            .into_iter()
            .map(|answer| answer.recv_timeout(DEADLINE).expect("an answer").unwrap())
            .collect()
    }

    fn hang_up(&self, dialed: &Dialed) {
        let shard = usize::from(dialed.place.shard.0);
        let end = Instant::now() + DEADLINE;
        let answer = loop {
            match self.set.handles()[shard].hang_up(dialed.place.session) {
                Ok(answer) => break answer,
                Err(error) if Instant::now() > end => panic!("{error}"),
                Err(_) => thread::yield_now(),
            }
        };
        assert!(answer.recv_timeout(DEADLINE).expect("an answer"));
    }

    fn snapshots(&self) -> Vec<ShardSnapshot> {
        let snapshots = self.set.snapshots(DEADLINE);
        assert_eq!(snapshots.len(), 2);
        snapshots
    }

    /// Waits until every port has come back and rested.
    fn wait_for_ports(&self) {
        until("all ports to come back", || {
            self.snapshots().iter().all(|shard| {
                let ports = shard.stats.local_ports;
                ports.in_use == 0 && ports.quarantined == 0
            })
        });
    }

    /// Returns the connects that the rings have been asked for.
    fn connects(&self) -> u64 {
        let snapshots = self.snapshots();
        snapshots
            .iter()
            .map(|shard| shard.ring.connects_started)
            .sum()
    }

    /// Asserts that a further dial is refused, by name, and without a system call for it.
    fn assert_exhausted(&self, shard: usize, target: SocketAddr, text: &str) {
        let before = self.connects();
        let error = self.dial(shard, target).unwrap_err();
        assert_eq!(error.reason(), Reason::LocalPortsExhausted);
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(self.connects(), before, "the refusal cost a system call");
    }

    fn end(self) {
        for snapshot in self.set.shutdown() {
            assert!(snapshot.audit.is_zero(), "{:?}", snapshot.audit);
            assert_eq!(snapshot.stats.broken_laws(), Vec::<String>::new());
            assert_eq!(snapshot.ring.sockets_opened, snapshot.ring.sockets_closed);
        }
        let waiting: Vec<_> = namespace::sockets()
            .into_iter()
            .filter(|socket| socket.state == namespace::TIME_WAIT)
            .filter(|socket| (FIRST..=LAST).contains(&socket.local_port))
            .collect();
        assert!(waiting.is_empty(), "{waiting:?}");
    }
}

/// A server that takes connections and holds them until it is told to let go.
struct Target {
    address: SocketAddr,
    held: mpsc::Receiver<TcpStream>,
}

impl Target {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, held) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if sender.send(stream.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { address, held }
    }

    /// Takes the next `count` connections out of its hands.
    fn take(&self, count: usize) -> Vec<TcpStream> {
        (0..count)
            .map(|_| self.held.recv_timeout(DEADLINE).expect("a connection"))
            .collect()
    }
}

fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn sources_of(dialed: &[Dialed]) -> BTreeSet<SocketAddr> {
    let sources: BTreeSet<SocketAddr> = dialed.iter().map(|dialed| dialed.source).collect();
    assert_eq!(sources.len(), dialed.len(), "two connections from one port");
    let is_ours = |source: &SocketAddr| (FIRST..=LAST).contains(&source.port());
    assert!(sources.iter().all(is_ours), "{sources:?}");
    sources
}

/// Two peers of the relay that exchange bytes until the counter's owner stops them.
struct PingPong {
    runtime: tokio::runtime::Runtime,
    round_trips: Arc<AtomicU64>,
    clients: [Client; 2],
}

impl PingPong {
    fn start(relay: &Relay) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = RelayAddress::new(relay.secret.public(), relay.set.address());
        let round_trips = Arc::new(AtomicU64::new(0));
        let clients = runtime.block_on(async {
            let connect = async |seed| {
                let secret = SecretKey::from_seed([seed; 32]);
                Client::connect(secret, Config::new([address]))
                    .await
                    .unwrap()
            };
            let (a, b) = (connect(1).await, connect(2).await);
            let listener = b.listen(80).unwrap();
            let dial = a.dial(Address::new(b.key(), 80));
            let (here, there) = tokio::join!(dial, listener.accept());
            let (mut here, mut there) = (here.unwrap(), there.unwrap());
            tokio::spawn(async move {
                let mut word = [0; 8];
                while there.read_exact(&mut word).await.is_ok() {
                    if there.write_all(&word).await.is_err() {
                        return;
                    }
                }
            });
            let counter = Arc::clone(&round_trips);
            tokio::spawn(async move {
                loop {
                    let sent = counter.load(Ordering::Relaxed).to_be_bytes();
                    let mut word = [0; 8];
                    if here.write_all(&sent).await.is_err()
                        || here.read_exact(&mut word).await.is_err()
                    {
                        return;
                    }
                    assert_eq!(word, sent);
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
            [a, b]
        });
        Self {
            runtime,
            round_trips,
            clients,
        }
    }

    /// Asserts that the peers still hear from each other.
    fn assert_alive(&self) {
        let before = self.round_trips.load(Ordering::Relaxed);
        until("another round trip of the peers", || {
            self.round_trips.load(Ordering::Relaxed) > before + 10
        });
    }

    fn end(self) {
        self.runtime.block_on(async {
            for client in self.clients {
                client.close().await;
            }
        });
    }
}

#[test]
fn last_port_is_used_and_the_next_dial_refused_ten_times_over() {
    namespace::inside(
        "last_port_is_used_and_the_next_dial_refused_ten_times_over",
        // Until the peers are connected: theirs come from the same address.
        "50000 50999",
        || {
            let relay = Relay::start(&["127.0.0.1"]);
            let peers = PingPong::start(&relay);
            namespace::set_range(RANGE);
            let target = Target::start("127.0.0.9:9000");
            for round in 0..10 {
                let dialed = relay.dial_all(EACH, target.address);
                assert_eq!(sources_of(&dialed).len(), 2 * EACH);
                let far = target.take(2 * EACH);
                for shard in 0..2 {
                    let text = format!(
                        "local ports of 127.0.0.1 towards 127.0.0.9:9000 on shard {shard}: 32 of 32 in \
                         use or in quarantine, 1 wanted"
                    );
                    relay.assert_exhausted(shard, target.address, &text);
                }
                peers.assert_alive();
                // In turns: the relay hangs up, the far side closes.
                if round % 2 == 0 {
                    dialed.iter().for_each(|dialed| relay.hang_up(dialed));
                } else {
                    drop(far);
                }
                relay.wait_for_ports();
            }
            let snapshots = relay.snapshots();
            for shard in &snapshots {
                let ports = shard.stats.local_ports;
                assert_eq!((ports.total, ports.high_water, ports.refused), (32, 32, 10));
                assert_eq!(shard.stats.dial_ports_taken, 0);
                assert_eq!(shard.stats.dials_connected, 320);
                assert_eq!(shard.stats.dialed_hung_up, 160);
            }
            peers.end();
            relay.end();
        },
    );
}

#[test]
fn second_source_address_doubles_the_ports() {
    namespace::inside("second_source_address_doubles_the_ports", RANGE, || {
        let relay = Relay::start(&["127.0.0.1", "127.0.0.2"]);
        let target = Target::start("127.0.0.9:9000");
        let dialed = relay.dial_all(2 * EACH, target.address);
        let sources = sources_of(&dialed);
        for ip in ["127.0.0.1", "127.0.0.2"] {
            let ip: IpAddr = ip.parse().unwrap();
            let count = sources.iter().filter(|source| source.ip() == ip).count();
            assert_eq!(count, 2 * EACH);
        }
        // The far side sees the ports that the permits say.
        let seen: BTreeSet<SocketAddr> = target
            .take(4 * EACH)
            .iter()
            .map(|stream| stream.peer_addr().unwrap())
            .collect();
        assert_eq!(seen, sources);
        relay.assert_exhausted(1, target.address, "local ports of 127.0.0.");
        let error = relay.dial(0, "[::1]:9".parse().unwrap()).unwrap_err();
        assert!(matches!(error, DialError::LocalSource { .. }), "{error}");
        relay.end();
    });
}

#[test]
fn ports_of_other_programs_are_survived() {
    namespace::inside("ports_of_other_programs_are_survived", RANGE, || {
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), FIRST)).unwrap();
        let relay = Relay::start(&["127.0.0.1"]);
        let target = Target::start("127.0.0.9:9000");
        // Its port is the kernel's choice among the relay's.
        let other = TcpStream::connect(target.address).unwrap();
        let port = other.local_addr().unwrap().port();
        assert!((FIRST..=LAST).contains(&port) && port != FIRST);
        let mut dialed = Vec::new();
        for shard in 0..2 {
            loop {
                match relay.dial(shard, target.address) {
                    Ok(one) => dialed.push(one),
                    Err(error) => {
                        assert_eq!(error.reason(), Reason::LocalPortsExhausted, "{error}");
                        break;
                    }
                }
            }
        }
        let sources = sources_of(&dialed);
        assert_eq!(sources.len(), 2 * EACH - 2);
        let own: Vec<u16> = sources.iter().map(SocketAddr::port).collect();
        assert!(!own.contains(&port) && !own.contains(&FIRST));
        let snapshots = relay.snapshots();
        let taken: u64 = snapshots.iter().map(|s| s.stats.dial_ports_taken).sum();
        let aside: u32 = snapshots
            .iter()
            .map(|s| s.stats.local_ports.quarantined)
            .sum();
        assert_eq!((taken, aside), (2, 2));
        drop((listener, other));
        relay.end();
    });
}

#[test]
fn kernel_chooses_the_source_where_none_is_configured() {
    namespace::inside(
        "kernel_chooses_the_source_where_none_is_configured",
        RANGE,
        || {
            let relay = Relay::start(&[]);
            let targets = [Target::start("127.0.0.9:9000"), Target::start("[::1]:9000")];
            let mut dialed = Vec::new();
            for target in &targets {
                let count = EACH / 2;
                dialed.extend(relay.dial_all(count, target.address));
                for stream in target.take(2 * count) {
                    let port = stream.peer_addr().unwrap().port();
                    assert!(dialed.iter().any(|dialed| dialed.source.port() == port));
                }
            }
            // One budget for both families.
            let text = "local ports towards [::1]:9000 on shard 0: 32 of 32 in use";
            relay.assert_exhausted(0, targets[1].address, text);
            relay.end();
        },
    );
}

#[test]
fn refused_silent_and_interrupted_dials_give_their_ports_back() {
    namespace::inside(
        "refused_silent_and_interrupted_dials_give_their_ports_back",
        RANGE,
        || {
            let relay = Relay::start(&["127.0.0.1"]);
            let nobody: SocketAddr = "127.0.0.9:9".parse().unwrap();
            let error = relay.dial(0, nobody).unwrap_err();
            assert!(
                matches!(error, DialError::PeerRefused { errno: 111, .. }),
                "{error}"
            );
            assert_eq!(error.reason(), Reason::RefusedByDestination);
            // A listener whose queue is full drops what comes: nothing is heard of a connect.
            let hole = black_hole();
            let error = relay.dial(0, hole.address).unwrap_err();
            assert!(matches!(error, DialError::PeerSilent { .. }), "{error}");
            relay.wait_for_ports();
            // Nobody waits any more: the connection that came about is closed again.
            let target = Target::start("127.0.0.9:9000");
            drop(relay.ask(1, target.address));
            let [mut stream] = target.take(1).try_into().unwrap();
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
            relay.wait_for_ports();
            // A shutdown does not wait for a connect.
            let pending = relay.ask(0, hole.address);
            until("the dial to be under way", || {
                relay.snapshots()[0].audit.dials == 1
            });
            let Relay { set, secret } = relay;
            let snapshots = set.shutdown();
            let answer = pending.recv_timeout(DEADLINE).expect("an answer");
            assert_eq!(answer, Err(DialError::LocalDraining));
            assert!(snapshots.iter().all(|shard| shard.audit.is_zero()));
            drop(secret);
        },
    );
}

/// A listener that accepts nothing and whose queue is full.
struct Hole {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

fn black_hole() -> Hole {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: SocketAddr = "127.0.0.8:9000".parse().unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    // From another address, so that none of the relay's ports are in use.
    let queued = (0..8).filter_map(|number| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
        let source = SocketAddr::from(([127, 0, 0, 7], 50_000 + number));
        socket.bind(&source.into()).ok()?;
        let patience = Duration::from_millis(200);
        socket.connect_timeout(&address.into(), patience).ok()?;
        Some(TcpStream::from(socket))
    });
    Hole {
        address,
        _queued: queued.collect(),
        _listener: listener,
    }
}

#[test]
fn relay_command_shares_the_hosts_range_out_and_shows_it() {
    namespace::inside(
        "relay_command_shares_the_hosts_range_out_and_shows_it",
        RANGE,
        || {
            let state = tempfile::tempdir().unwrap();
            let mut relay = Command::new(env!("CARGO_BIN_EXE_ringway"))
                .args([
                    "serve",
                    "--shards",
                    "2",
                    "--until-stdin-closes",
                    "--state-dir",
                ])
                .arg(state.path())
                .args(["--set", "ports.sources=127.0.0.1,127.0.0.2"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = relay.stdout.take().unwrap();
            let mut line = [0; 1];
            assert_eq!(output.read(&mut line).unwrap(), 1, "the relay has started");
            let page = get("127.0.0.1:7180", "/metrics");
            for shard in 0..2 {
                for (name, value) in [
                    ("ringway_local_ports_budget_current", 2 * EACH),
                    ("ringway_local_ports_current", 0),
                    ("ringway_virtual_ports_budget_current", 8_192),
                ] {
                    let line = format!("{name}{{shard=\"{shard}\"}} {value}\n");
                    assert!(page.contains(&line), "{line}in\n{page}");
                }
            }
            let health = get("127.0.0.1:7180", "/health");
            assert!(
                health.contains("\"local_ports\":{\"budget\":64,"),
                "{health}"
            );
            drop(relay.stdin.take());
            assert!(relay.wait().unwrap().success());
        },
    );
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: relay\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
