//! Relays with a registry in Redis, real processes on the loopback.
//!
//! Here: a redis-server that each test starts on a free port, in a directory of its own. Not here: what is
//! believed of a registry (`src/registry/beliefs.rs`), links (`mesh`).
//!
//! Without redis-server the tests say so and pass.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Commands, Connection};
use tempfile::TempDir;

use crate::mesh::{echo, get, twice, wait_for};
use crate::support::{PATIENCE, Relay, run};
use crate::tunnel::{block, expose, expose_as, forward, forward_as};

/// A key that nobody here has: the first of RFC 8032 section 7.1.
const STRANGER: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// Between two attempts that `forward` tells of on its standard error, which nobody reads before its end.
const PAUSE: Duration = Duration::from_millis(250);

/// A redis-server of a test's own, killed with it.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Starts one; none where the host has no redis-server.
    pub(crate) fn start() -> Option<Self> {
        // A free port may be taken by somebody else before the server has it.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let directory = tempfile::tempdir().unwrap();
            let Ok(child) = spawn(directory.path(), port) else {
                // Past the capture of the test's output: whoever runs it is to see it.
                let why = "tests of the registry are NOT RUN: this host has no redis-server\n";
                std::io::stderr().write_all(why.as_bytes()).unwrap();
                return None;
            };
            let mut server = Self {
                child,
                directory,
                port,
            };
            if server.is_up() {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    /// Waits until it answers; false when it has ended.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut connection) = self.connect()
                && redis::cmd("PING").query::<String>(&mut connection).is_ok()
            {
                return true;
            }
            thread::yield_now();
        }
        false
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connect(&self) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    /// Kills it as a failing host does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.directory.path(), self.port).unwrap();
        assert!(self.is_up());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(directory: &Path, port: u16) -> std::io::Result<Child> {
    let port = port.to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", ""];
    Command::new("redis-server")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Starts a relay that asks the registry for every peer of another one.
fn asking(server: &Server, further: &[&str]) -> Relay {
    let registry = format!("mesh.registry={}", server.url());
    let fixed = [
        "mesh.allowed=all",
        "mesh.announce_peers=off",
        "mesh.lease=3s",
        &registry,
    ];
    let fixed = fixed.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = fixed.chain(further.iter().copied()).collect();
    Relay::start(&arguments)
}

/// Returns a metric, summed over shards.
fn metric(relay: &Relay, name: &str) -> u64 {
    let page = get(&relay.admin, "/metrics");
    let of_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    let values = page.lines().filter(of_it);
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Waits until a metric is as wanted.
fn wait_for_metric(relay: &Relay, name: &str, is_right: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let have = metric(relay, name);
        if is_right(have) {
            return;
        }
        let page = get(&relay.admin, "/metrics");
        let registry: Vec<&str> = page
            .lines()
            .filter(|line| {
                line.starts_with("ringway_registry") || line.starts_with("ringway_lookups")
            })
            .collect();
        assert!(
            Instant::now() < deadline,
            "{name} stays at {have}: {registry:#?}"
        );
        thread::yield_now();
    }
}

/// Sends bytes until they come back: what the registry says may have to be learned first.
fn echo_at_last(address: &str, bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while !echo(address, bytes) {
        assert!(Instant::now() < deadline, "no way is found");
        thread::sleep(PAUSE);
    }
}

#[test]
fn peer_that_no_link_has_told_of_is_found_in_the_registry() {
    let Some(server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    // Neither names the other: they find each other in the registry and keep links.
    let (first, second) = (asking(&server, &[]), asking(&server, &[]));
    wait_for(&first, "links", |links| links >= 1);
    wait_for(&second, "links", |links| links >= 1);
    let (exposing, name) = expose(&first, &service);
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers == 1);
    let (_forwarding, address) = forward(&second, &name);
    for length in [1, 70_000, 2_000_000] {
        assert!(echo(&address, &block(1, length)), "{length} bytes");
    }
    assert!(metric(&second, "ringway_lookups_found_total") >= 3);
    // What was answered is remembered until somebody tells of a change.
    let deadline = Instant::now() + PATIENCE;
    while metric(&second, "ringway_registry_hits_total") == 0 {
        assert!(echo(&address, b"again") && Instant::now() < deadline);
    }
    let health = get(&second.admin, "/health");
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["registry"]["up"], true);
    assert_eq!(health["registry"]["relays"], 2);
    let status = run(second.state.path(), &["status", "--admin", &second.admin]);
    assert!(status.out.contains("answers: 2 relays"), "{}", status.out);
    // It leaves: its place goes, and whoever asks hears at once that nobody is there.
    exposing.signal("TERM");
    assert_eq!(exposing.finish().code, Some(0));
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers < 2);
    wait_for_metric(&first, "ringway_registry_pending_current", |peers| {
        peers == 0
    });
    assert!(!echo(&address, b"nobody"));
    // A relay that ends gives its lease up: the other one sees it gone without waiting for it to lapse.
    assert_eq!(first.end().code, Some(0));
    wait_for_metric(&second, "ringway_registry_relays_current", |relays| {
        relays == 1
    });
    assert_eq!(second.end().code, Some(0));
}

#[test]
fn service_goes_on_without_the_registry_and_finds_back_when_it_has_lost_everything() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    let (first, second) = (asking(&server, &[]), asking(&server, &[]));
    wait_for(&second, "links", |links| links >= 1);
    let (_exposing, name) = expose(&first, &service);
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers >= 1);
    let (_forwarding, address) = forward(&second, &name);
    assert!(echo(&address, &block(1, 100_000)));
    // From here on to the end of the test nobody who asks for this peer is refused.
    let is_over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|seed| {
            let (address, is_over) = (address.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    assert!(echo(&address, &block(seed, 30_000)), "load");
                    count += 1;
                }
                count
            })
        })
        .collect();
    server.kill();
    // What was asked about before is served stale, peers of the relay itself know of nothing, and whoever is
    // unknown is refused rather than waited for.
    wait_for_metric(&second, "ringway_registry_up", |up| up == 0);
    for _ in 0..3 {
        assert!(echo(&address, &block(1, 100_000)), "stale");
    }
    assert!(metric(&second, "ringway_registry_stale_total") >= 1);
    let stranger = format!("{STRANGER}:80");
    let strangers = tempfile::tempdir().unwrap();
    let (_in_vain, nowhere) = forward_as(strangers.path(), &second, &stranger);
    // The first attempts may come before its session stands.
    let deadline = Instant::now() + PATIENCE;
    while metric(&second, "ringway_lookups_unavailable_total") == 0 {
        assert!(!echo(&nowhere, b"unknown") && Instant::now() < deadline);
        thread::sleep(PAUSE);
    }
    let local = tempfile::tempdir().unwrap();
    let (_exposing_here, here) = expose_as(local.path(), &second, &service);
    let (_forwarding_here, address_here) = forward_as(local.path(), &second, &here);
    assert!(
        echo(&address_here, &block(2, 100_000)),
        "local service goes on"
    );
    // Back, and empty: leases and places are written anew, those of the meantime too.
    server.restart();
    wait_for_metric(&first, "ringway_registry_up", |up| up == 1);
    wait_for_metric(&second, "ringway_registry_relays_current", |relays| {
        relays == 2
    });
    wait_for_metric(&second, "ringway_registry_peers_current", |peers| {
        peers >= 2
    });
    let (_back, address_back) = forward(&first, &here);
    echo_at_last(&address_back, &block(2, 100_000));
    // Past the lease in which what is missing is no news.
    wait_for_metric(&second, "ringway_registry_renewals_total", {
        let before = metric(&second, "ringway_registry_renewals_total");
        move |now| now > before + 4
    });
    is_over.store(true, Ordering::Relaxed);
    for load in load {
        assert!(load.join().unwrap() > 10);
    }
    for relay in [first, second] {
        assert_eq!(relay.end().code, Some(0));
    }
}

#[test]
fn relay_that_is_asked_by_another_one_asks_no_third() {
    let Some(server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    let state = tempfile::tempdir().unwrap();
    let registry = format!("mesh.registry={}", server.url());
    let start = |further: &[&str]| {
        let fixed = ["--set", "mesh.lease=3s", "--set", &registry];
        Relay::start(&[&fixed[..], further].concat())
    };
    // In a row: the outer ones have links with the middle one alone, and the middle one knows of all peers.
    let middle = start(&["--set", "mesh.allowed=all"]);
    let allowed = format!("mesh.allowed={}", middle.key());
    let (near, far) = (start(&["--set", &allowed]), start(&["--set", &allowed]));
    for outer in [&near, &far] {
        wait_for(outer, "links", |links| links >= 1);
    }
    let mut redis = server.connect().unwrap();
    let (exposing, name) = expose_as(state.path(), &middle, &service);
    let key = format!("ringway:peer:{}", name.split_once(':').unwrap().0);
    wait_for_metric(&middle, "ringway_registry_peers_current", |peers| {
        peers == 1
    });
    let old: Vec<u8> = redis.get(&key).unwrap();
    exposing.signal("TERM");
    assert_eq!(exposing.finish().code, Some(0));
    wait_for_metric(&middle, "ringway_registry_peers_current", |peers| {
        peers == 0
    });
    let (_exposing, _) = expose_as(state.path(), &far, &service);
    wait_for_metric(&far, "ringway_registry_peers_current", |peers| peers == 1);
    wait_for(&middle, "announced", |peers| peers == 1);
    wait_for(&near, "announced", |peers| peers == 0);
    // The near relay has seen no newer place, and asks the middle one, which would know the way.
    let _: () = redis.set(&key, old).unwrap();
    let (_forwarding, address) = forward(&near, &name);
    let deadline = Instant::now() + PATIENCE;
    let refused = |relay: &Relay| {
        let page = get(&relay.admin, "/metrics");
        page.contains("ringway_opens_refused_total{shard=\"0\",reason=\"forwarded_twice\"}")
    };
    while !refused(&middle) {
        assert!(!echo(&address, b"two hops") && Instant::now() < deadline);
        thread::sleep(PAUSE);
    }
    assert_eq!(metric(&middle, "ringway_forwards_sent_total"), 0);
    assert_eq!(metric(&far, "ringway_forwards_received_total"), 0);
    for relay in [near, far, middle] {
        assert_eq!(relay.end().code, Some(0));
    }
}

#[test]
fn of_two_relays_with_one_key_the_later_holds_the_lease() {
    let Some(server) = Server::start() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let files = ["first.key", "second.key"].map(|name| state.path().join(name));
    let made = run(state.path(), &["keygen", files[0].to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    std::fs::copy(&files[0], &files[1]).unwrap();
    let [first, second] = files.map(|file| {
        let relay = asking(&server, &["--key-file", file.to_str().unwrap()]);
        wait_for_metric(&relay, "ringway_registry_renewals_total", |renewals| {
            renewals >= 1
        });
        relay
    });
    let mut redis = server.connect().unwrap();
    let key = format!("ringway:relay:{}", second.key());
    let lease: Vec<u8> = redis.get(&key).unwrap();
    // Both go on renewing, and what stands there is the later one's.
    wait_for_metric(&first, "ringway_registry_taken_total", |taken| taken >= 3);
    assert_eq!(redis.get::<_, Vec<u8>>(&key).unwrap(), lease);
    let earlier = first.end();
    assert_eq!(earlier.code, Some(0));
    assert!(
        earlier.err.contains("give each a key of its own"),
        "{}",
        earlier.err
    );
    assert_eq!(redis.get::<_, Vec<u8>>(&key).unwrap(), lease);
    assert_eq!(metric(&second, "ringway_registry_taken_total"), 0);
    assert_eq!(second.end().code, Some(0));
    assert!(
        !redis.exists::<_, bool>(&key).unwrap(),
        "it has given its lease up"
    );
}

#[test]
fn lease_that_its_relay_has_not_signed_is_replaced() {
    let Some(server) = Server::start() else {
        return;
    };
    let relay = asking(&server, &[]);
    wait_for_metric(&relay, "ringway_registry_renewals_total", |renewals| {
        renewals >= 1
    });
    let mut redis = server.connect().unwrap();
    let key = format!("ringway:relay:{}", relay.key());
    let lease: Vec<u8> = redis.get(&key).unwrap();
    let _: () = redis.set(&key, vec![0xff; 120]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while redis.get::<_, Vec<u8>>(&key).unwrap() != lease {
        assert!(Instant::now() < deadline, "the lie stays");
        thread::yield_now();
    }
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn registry_that_hangs_delays_nobody_but_who_asks_it() {
    let Some(server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    let relay = asking(&server, &[]);
    wait_for_metric(&relay, "ringway_registry_up", |up| up == 1);
    let signal = |name: &str| {
        let pid = server.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    };
    signal("STOP");
    // Admission, opens and bytes of peers that are here take their usual way; the relay says what is wrong.
    let state = tempfile::tempdir().unwrap();
    let (_exposing, name) = expose_as(state.path(), &relay, &service);
    let (_forwarding, address) = forward(&relay, &name);
    for _ in 0..20 {
        assert!(echo(&address, &block(1, 10_000)));
    }
    wait_for_metric(&relay, "ringway_registry_up", |up| up == 0);
    assert!(metric(&relay, "ringway_registry_pending_current") >= 1);
    signal("CONT");
    wait_for_metric(&relay, "ringway_registry_up", |up| up == 1);
    wait_for_metric(&relay, "ringway_registry_peers_current", |peers| peers >= 1);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn places_of_a_killed_relay_are_believed_no_more_and_taken_out() {
    let Some(server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    let (first, second) = (asking(&server, &[]), asking(&server, &[]));
    wait_for(&second, "links", |links| links >= 1);
    let state = tempfile::tempdir().unwrap();
    let (exposing, name) = expose_as(state.path(), &first, &service);
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers == 1);
    let (_forwarding, address) = forward(&second, &name);
    assert!(echo(&address, b"there"));
    first.process.signal("KILL");
    assert_eq!(first.process.finish().code, None);
    drop(exposing);
    // Its lease lapses, nobody renews it.
    wait_for_metric(&second, "ringway_registry_relays_current", |relays| {
        relays == 1
    });
    assert!(!echo(&address, b"gone"));
    let mut redis = server.connect().unwrap();
    // Nobody asks for its lease for ever either.
    let deadline = Instant::now() + PATIENCE;
    while redis.scard::<_, u64>("ringway:relays").unwrap() > 1 {
        assert!(
            Instant::now() < deadline,
            "the dead relay stays in the list"
        );
        thread::yield_now();
    }
    let key = format!("ringway:peer:{}", name.split_once(':').unwrap().0);
    wait_for_metric(&second, "ringway_registry_reaped_total", |reaped| {
        reaped >= 1
    });
    assert!(!redis.exists::<_, bool>(&key).unwrap());
    // The peer comes to another relay: its place there is newer.
    let (_exposing, again) = expose_as(state.path(), &second, &service);
    assert_eq!(again, name);
    echo_at_last(&address, b"moved");
    assert_eq!(second.end().code, Some(0));
}

#[test]
fn registry_that_lies_is_not_believed() {
    let Some(server) = Server::start() else {
        return;
    };
    let (service, _thread) = twice(usize::MAX);
    let (first, second) = (asking(&server, &[]), asking(&server, &[]));
    let third = asking(&server, &[]);
    for relay in [&first, &second, &third] {
        wait_for(relay, "links", |links| links >= 2);
    }
    let state = tempfile::tempdir().unwrap();
    let mut redis = server.connect().unwrap();
    let (exposing, name) = expose_as(state.path(), &first, &service);
    let key = format!("ringway:peer:{}", name.split_once(':').unwrap().0);
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers == 1);
    let old: Vec<u8> = redis.get(&key).unwrap();
    drop(exposing);
    wait_for_metric(&first, "ringway_registry_peers_current", |peers| peers == 0);
    let (_exposing, _) = expose_as(state.path(), &second, &service);
    wait_for_metric(&second, "ringway_registry_peers_current", |peers| {
        peers == 1
    });
    let (_forwarding, address) = forward(&third, &name);
    echo_at_last(&address, b"moved");
    let lie = |redis: &mut Connection, value: &[u8]| {
        let told: Vec<u8> = name
            .split_once(':')
            .unwrap()
            .0
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        let _: () = redis.set(&key, value).unwrap();
        let before = metric(&third, "ringway_registry_notices_total");
        let _: () = redis.publish("ringway:changes", told).unwrap();
        wait_for_metric(&third, "ringway_registry_notices_total", |now| now > before);
    };
    // What was true once.
    lie(&mut redis, &old);
    assert!(!echo(&address, b"rolled back"));
    assert!(metric(&third, "ringway_registry_rolled_back_total") >= 1);
    // A place that the peer has not signed: the sequence is greater, the relay lives.
    let mut forged = old;
    forged[..16].copy_from_slice(b"7fffffffffffffff");
    lie(&mut redis, &forged);
    // Whoever was refused does not ask again for 5 s (docs/client.md).
    let deadline = Instant::now() + PATIENCE;
    while metric(&third, "ringway_registry_forged_total") == 0 {
        assert!(!echo(&address, b"forged"));
        assert!(Instant::now() < deadline);
        thread::sleep(PAUSE);
    }
    // Nonsense.
    lie(&mut redis, b"nonsense");
    assert!(!echo(&address, b"nonsense"));
    for relay in [third, second, first] {
        assert_eq!(relay.end().code, Some(0));
    }
}

#[test]
fn relay_starts_and_serves_while_its_registry_is_down() {
    let (service, _thread) = twice(usize::MAX);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let registry = format!("mesh.registry=redis://127.0.0.1:{port}");
    let relay = Relay::start(&["--set", "mesh.allowed=all", "--set", &registry]);
    let (_exposing, name) = expose(&relay, &service);
    let (_forwarding, address) = forward(&relay, &name);
    assert!(echo(&address, &block(1, 100_000)));
    wait_for_metric(&relay, "ringway_registry_errors_total", |errors| {
        errors >= 1
    });
    let finished = relay.end();
    assert_eq!(finished.code, Some(0));
    assert!(
        finished.err.contains("the registry does not answer"),
        "{}",
        finished.err
    );
}

#[test]
fn wrong_registries_are_refused_without_telling_the_password() {
    let state = tempfile::tempdir().unwrap();
    for (value, word) in [
        (
            "mesh.registry=http://:secret@127.0.0.1",
            "no address of a Redis",
        ),
        ("mesh.registry=mysql", "no address of a Redis"),
        ("mesh.lease=1s", "too short"),
        (
            "mesh.announce=0.0.0.0:7100",
            "no address that others can reach",
        ),
        ("mesh.announce_peers=yes", "neither"),
    ] {
        let finished = run(state.path(), &["serve", "--set", value]);
        assert_eq!(finished.code, Some(2), "{value}: {}", finished.err);
        assert!(finished.err.contains(word), "{value}: {}", finished.err);
        assert!(!finished.err.contains("secret"), "{}", finished.err);
    }
}

#[test]
fn relay_that_starts_again_dials_those_it_knew() {
    let state = tempfile::tempdir().unwrap();
    let key_file = state.path().join("relay.key");
    let key = ["--key-file", key_file.to_str().unwrap()];
    let hub = Relay::start(&["--set", "mesh.allowed=all"]);
    let allowed = format!("mesh.allowed={}", hub.key());
    let named = [&key[..], &["--set", &allowed, "--link", &hub.name]].concat();
    let first = Relay::start(&named);
    wait_for(&first, "links", |links| links == 1);
    let file = state.path().join("fleet.json");
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains(hub.key())) {
        assert!(Instant::now() < deadline, "the hub is not remembered");
        thread::yield_now();
    }
    assert_eq!(first.end().code, Some(0));
    wait_for(&hub, "links", |links| links == 0);
    // Nothing but the file names the hub now.
    let again = Relay::start(&[&key[..], &["--set", &allowed]].concat());
    wait_for(&again, "links", |links| links == 1);
    assert_eq!(again.end().code, Some(0));
    // Whoever may not be linked with is not dialed, whatever the file says.
    let other = format!("mesh.allowed={}", "ab".repeat(32));
    let strict = Relay::start(&[&key[..], &["--set", &other]].concat());
    wait_for_metric(&strict, "ringway_registry_renewals_total", |renewals| {
        renewals >= 1
    });
    assert_eq!(metric(&strict, "ringway_dials_received_total"), 0);
    for relay in [strict, hub] {
        assert_eq!(relay.end().code, Some(0));
    }
}
