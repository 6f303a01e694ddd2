//! A relay's side of discoveries, against this project's own discovery, and against ones that hang, fail or
//! go away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ringway_proto::dmsg::entry::Entry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle as Task;
use tokio::time::{Instant, sleep};

use super::numbers::SHOWN;
use super::*;
use crate::dmsg::discovery_server::Limits;
use crate::dmsg::discovery_server::api::lists::Lists;
use crate::dmsg::discovery_server::api::{self, Api};
use crate::dmsg::discovery_server::doors::Doors;
use crate::dmsg::discovery_server::embedded::{Bounds, Embedded};
use crate::dmsg::discovery_server::pages::About;
use crate::dmsg::discovery_server::rates::Rates;
use crate::dmsg::discovery_server::record::{Moment, Record};
use crate::dmsg::discovery_server::rules::Rules;
use crate::dmsg::discovery_server::store::{Store, Write};

/// Longest wait for anything; passing it is a failure, not a pace.
const PATIENCE: Duration = Duration::from_secs(60);

/// A discovery of this project on the loopback.
struct Host {
    api: Arc<Api<Embedded>>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: Task<()>,
    directory: TempDir,
}

impl Host {
    fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), tempfile::tempdir().unwrap())
    }

    fn start_at(address: SocketAddr, directory: TempDir) -> Self {
        let bounds = Bounds {
            clients_max: 99,
            servers_max: 99,
            bytes_max: 1 << 20,
        };
        let path = directory.path().join("entries");
        let api = Arc::new(Api {
            store: Embedded::open(path, bounds, Moment::now()).unwrap(),
            rules: Rules {
                takes_loopback: true,
                ..Rules::default()
            },
            whitelist: BTreeSet::new(),
            proxies: BTreeSet::new(),
            rates: Mutex::new(Rates::new(0)),
            has_seen_proxy: AtomicBool::new(false),
            lists: Lists::default(),
            numbers: Arc::default(),
            about: About {
                started: std::time::SystemTime::UNIX_EPOCH,
                started_at: std::time::Instant::now(),
                store: String::new(),
            },
        });
        let limits = Limits {
            connections_max: 99,
            connections_source_max: 99,
        };
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let doors = Doors::new(limits, Arc::clone(&api.numbers));
        let router = api::router(Arc::clone(&api));
        let serving = tokio::spawn(doors.serve(listener, router, stopped));
        Self {
            api,
            address,
            stop,
            serving,
            directory,
        }
    }

    fn url(&self) -> DiscoveryUrl {
        url(self.address)
    }

    async fn record(&self, key: PublicKey) -> Option<Arc<Record>> {
        self.api.store.read(key, Moment::now()).await.unwrap()
    }

    /// Puts an entry there, whatever stands.
    async fn put(&self, entry: Entry) {
        let before = self.record(entry.key).await;
        let write = Write {
            record: &Arc::new(Record::new(entry, None, None)),
            before: before.as_deref(),
            is_vouched: false,
            now: Moment::now(),
        };
        self.api.store.write(write).await.unwrap();
    }

    async fn close(self) -> TempDir {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
        self.api.store.close().await;
        self.directory
    }
}

/// A relay's side that runs in the test's runtime.
struct Relay {
    handle: DiscoveryHandle,
    available: Arc<AtomicU32>,
    running: Task<()>,
}

impl Relay {
    fn start(urls: Vec<DiscoveryUrl>, number: u8) -> Self {
        let available = Arc::new(AtomicU32::new(9));
        let read = Arc::clone(&available);
        let published = Published {
            address: "127.0.0.1:7100".to_owned(),
            address_v6: String::new(),
            word: String::new(),
            is_client: true,
            available: Arc::new(move || read.load(Ordering::Relaxed)),
        };
        let config = DiscoveryConfig {
            urls,
            secret: secret(number),
            published: Some(published),
            reads_servers: true,
        };
        let numbers = Arc::<DiscoveryNumbers>::default();
        // Long enough for a host that has other things to do, too.
        let request_time = Duration::from_secs(2);
        let (service, ends) = Service::new(config, Arc::clone(&numbers), request_time);
        let handle = DiscoveryHandle {
            changed: ends.changed,
            questions: ends.questions,
            servers: ends.servers,
            numbers,
            stop: ends.stop,
            thread: None,
        };
        Self {
            handle,
            available,
            running: tokio::spawn(service.run()),
        }
    }

    /// Waits until a number is as wanted.
    async fn wait(&self, is_right: impl Fn(&DiscoveryNumbers) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_right(self.handle.numbers()) {
            assert!(Instant::now() < deadline, "{:#?}", self.handle.numbers());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn find(&self, key: PublicKey) -> Found {
        let (sender, receiver) = oneshot::channel();
        let answer = |found| drop(sender.send(found));
        assert!(self.handle.ask(key, answer));
        receiver.await.unwrap()
    }

    async fn end(self) -> Arc<DiscoveryNumbers> {
        self.handle.leave();
        self.running.await.unwrap();
        Arc::clone(self.handle.numbers())
    }
}

fn url(address: SocketAddr) -> DiscoveryUrl {
    format!("http://{address}").parse().unwrap()
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

fn key(number: u8) -> PublicKey {
    secret(number).public()
}

fn client(number: u8, servers: &[u8]) -> Entry {
    let servers = servers.iter().map(|number| key(*number)).collect();
    let mut entry = Entry::of_client(key(number), 0, Moment::now().ns(), servers);
    entry.sign(&secret(number));
    entry
}

fn at(numbers: &[u8]) -> Found {
    Found::At(numbers.iter().map(|number| key(*number)).collect())
}

/// A port that answers every request with the same bytes, or not at all; it counts them.
async fn strange(answer: &'static str) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut bytes = [0; 4_096];
                // As much as has come at once is the request; how it ends does not matter.
                drop(stream.read(&mut bytes).await);
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn relay_registers_tells_changes_and_leaves_nothing_behind() {
    let host = Host::start();
    let relay = Relay::start(vec![host.url()], 1);
    relay
        .wait(|n| n.registered.read() == 1 && n.up.read() == 1)
        .await;
    let record = host.record(key(1)).await.unwrap();
    let server = record.entry().server.as_ref().unwrap();
    assert_eq!(record.available_sessions(), 9);
    assert_eq!(server.address, "127.0.0.1:7100");
    assert_eq!(record.entry().delegated_servers(), [key(1)]);
    relay.available.store(3, Ordering::Relaxed);
    for _ in 0..1_000 {
        relay.handle.changed();
    }
    relay.wait(|n| n.writes.read() == 2).await;
    let record = host.record(key(1)).await.unwrap();
    assert_eq!(
        (record.available_sessions(), record.entry().sequence),
        (3, 1)
    );
    // Told of a change that is none, it writes nothing.
    relay.handle.changed();
    assert_eq!(relay.find(key(1)).await, at(&[1]));
    let numbers = relay.end().await;
    assert_eq!(host.record(key(1)).await, None);
    assert_eq!((numbers.deleted.read(), numbers.writes.read()), (1, 2));
    assert_eq!((numbers.errors.read(), numbers.registered.read()), (0, 0));
    host.close().await;
}

#[tokio::test]
async fn sequence_follows_what_stands_and_a_second_relay_with_the_key_is_told_of() {
    let host = Host::start();
    let mut before = Entry::of_server(key(1), 50, 1, ringway_proto::dmsg::entry::Server::default());
    before.sign(&secret(1));
    host.put(before).await;
    let relay = Relay::start(vec![host.url()], 1);
    relay.wait(|n| n.registered.read() == 1).await;
    assert_eq!(host.record(key(1)).await.unwrap().entry().sequence, 51);
    // Somebody else writes a later one.
    let mut other = host.record(key(1)).await.unwrap().entry().clone();
    other.sequence = 90;
    other.timestamp_ns = Moment::now().ns();
    other.sign(&secret(1));
    host.put(other).await;
    relay.available.store(3, Ordering::Relaxed);
    relay.handle.changed();
    relay.wait(|n| n.writes.read() == 2).await;
    let numbers = relay.handle.numbers();
    assert_eq!((numbers.conflicts.read(), numbers.taken.read()), (1, 1));
    assert_eq!(host.record(key(1)).await.unwrap().entry().sequence, 91);
    // The other one is the last to write, and its entry stays.
    let mut other = host.record(key(1)).await.unwrap().entry().clone();
    other.sequence = 200;
    other.timestamp_ns = Moment::now().ns();
    other.sign(&secret(1));
    host.put(other).await;
    assert_eq!(relay.end().await.deleted.read(), 0);
    assert_eq!(host.record(key(1)).await.unwrap().entry().sequence, 200);
    host.close().await;
}

#[tokio::test]
async fn clients_and_servers_are_found_in_whichever_discovery_has_them() {
    let (first, second) = (Host::start(), Host::start());
    first.put(client(11, &[2, 3])).await;
    second.put(client(12, &[4])).await;
    second.put(client(13, &[])).await;
    let mut forged = client(14, &[4]);
    forged.sequence += 1;
    second.put(forged).await;
    let one = Relay::start(vec![first.url(), second.url()], 1);
    let two = Relay::start(vec![second.url()], 2);
    one.wait(|n| n.registered.read() == 2).await;
    two.wait(|n| n.registered.read() == 1).await;
    assert_eq!(one.find(key(11)).await, at(&[2, 3]));
    assert_eq!(one.find(key(11)).await, at(&[2, 3]));
    assert_eq!(one.find(key(12)).await, at(&[4]));
    for nowhere in [13, 14, 15] {
        assert_eq!(one.find(key(nowhere)).await, Found::Nowhere);
    }
    assert_eq!(two.find(key(11)).await, Found::Nowhere);
    let numbers = one.handle.numbers();
    let counts = [
        &numbers.asks,
        &numbers.hits,
        &numbers.found,
        &numbers.nowhere,
        &numbers.forged,
    ];
    assert_eq!(counts.map(|number| number.read()), [6, 1, 2, 3, 1]);
    // It has moved, and somebody has found out.
    first.put(client(11, &[5])).await;
    assert_eq!(one.find(key(11)).await, at(&[2, 3]));
    one.handle.doubt(key(11));
    assert_eq!(one.find(key(11)).await, at(&[5]));
    let three = Relay::start(vec![first.url(), second.url()], 3);
    three.wait(|n| n.servers.read() == 2).await;
    let servers = three.handle.servers().borrow().clone();
    let keys: BTreeSet<_> = servers.iter().map(|place| place.key).collect();
    assert_eq!(keys, BTreeSet::from([key(1), key(2)]));
    for relay in [one, two, three] {
        relay.end().await;
    }
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn discovery_that_goes_away_is_missed_by_nobody_and_found_again() {
    let host = Host::start();
    host.put(client(11, &[2])).await;
    let relay = Relay::start(vec![host.url()], 1);
    relay.wait(|n| n.registered.read() == 1).await;
    assert_eq!(relay.find(key(11)).await, at(&[2]));
    let address = host.address;
    let directory = host.close().await;
    relay.available.store(3, Ordering::Relaxed);
    relay.handle.changed();
    relay
        .wait(|n| n.up.read() == 0 && n.errors.read() >= 1)
        .await;
    assert_eq!(relay.find(key(11)).await, at(&[2]), "from memory");
    assert_eq!(relay.find(key(12)).await, Found::Unavailable);
    let host = Host::start_at(address, directory);
    relay
        .wait(|n| n.writes.read() == 2 && n.up.read() == 1)
        .await;
    assert_eq!(host.record(key(1)).await.unwrap().available_sessions(), 3);
    assert_eq!(relay.end().await.deleted.read(), 1);
    host.close().await;
}

#[tokio::test]
async fn answers_that_are_none_are_errors_and_hold_nobody_up() {
    const FAILS: &str = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n";
    const LIES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let host = Host::start();
    host.put(client(11, &[2])).await;
    for answer in [
        FAILS,
        LIES,
        "nonsense",
        "HTTP/1.1 200 OK\r\n\r\n{\"version\":",
    ] {
        let (address, _) = strange(answer).await;
        let relay = Relay::start(vec![url(address), host.url()], 1);
        relay
            .wait(|n| n.registered.read() == 1 && n.errors.read() >= 2)
            .await;
        assert_eq!(relay.find(key(11)).await, at(&[2]), "{answer}");
        // What one of them does not know the other one might.
        assert_eq!(relay.find(key(12)).await, Found::Unavailable, "{answer}");
        assert_eq!(relay.end().await.deleted.read(), 1);
    }
    host.close().await;
}

#[tokio::test]
async fn discovery_that_hangs_holds_up_itself_alone_and_nothing_for_long() {
    let host = Host::start();
    host.put(client(11, &[2])).await;
    let (address, requests) = strange("").await;
    let relay = Relay::start(vec![url(address), host.url()], 1);
    relay
        .wait(|n| n.registered.read() == 1 && n.servers.read() == 0)
        .await;
    relay
        .wait(|n| n.errors.read() >= 2 && n.up.read() == 1)
        .await;
    let before = requests.load(Ordering::Relaxed);
    assert_eq!(relay.find(key(11)).await, at(&[2]));
    assert_eq!(relay.find(key(12)).await, Found::Unavailable);
    let asked = requests.load(Ordering::Relaxed) - before;
    assert!(asked <= 2, "questions do not wait for it: {asked}");
    let numbers = relay.end().await;
    assert_eq!((numbers.deleted.read(), numbers.registered.read()), (1, 0));
    host.close().await;
}

#[tokio::test]
async fn more_questions_than_fit_are_refused_at_once_and_the_rest_answered_together() {
    let (address, requests) = strange("").await;
    let relay = Relay::start(vec![url(address)], 1);
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut taken = 0;
    for _ in 0..5_000 {
        let sender = sender.clone();
        let answer = move |found| drop(sender.send(found));
        taken += u64::from(relay.handle.ask(key(11), answer));
    }
    assert_eq!(taken, 4_096, "as many as the queue takes");
    for _ in 0..taken {
        assert_eq!(answers.recv().await, Some(Found::Unavailable));
    }
    let numbers = relay.handle.numbers();
    assert_eq!(
        (numbers.asks.read(), numbers.unavailable.read()),
        (4_096, 4_096)
    );
    assert_eq!(numbers.refused.read(), 904);
    assert!(
        requests.load(Ordering::Relaxed) < 9,
        "one look-up for all of them"
    );
    relay.end().await;
}

#[test]
fn handle_runs_a_thread_of_its_own_and_ends_with_it() {
    let config = DiscoveryConfig {
        urls: vec!["http://127.0.0.1:1".parse().unwrap()],
        secret: secret(1),
        published: None,
        reads_servers: false,
    };
    let handle = start(config, Arc::default()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    assert!(handle.ask(key(1), move |found| drop(sender.send(found))));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Found::Unavailable));
    assert_eq!(handle.numbers().errors.read(), 1);
    drop(handle);
}

#[test]
fn numbers_have_names_of_their_own() {
    let numbers = DiscoveryNumbers::default();
    let names: BTreeSet<_> = SHOWN.iter().map(|shown| shown.name).collect();
    assert_eq!(names.len(), SHOWN.len());
    assert!(SHOWN.iter().all(|shown| (shown.read)(&numbers) == 0));
}
