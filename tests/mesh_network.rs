//! Three relays, each in a network of its own, on a bridge that a test cuts, heals and takes relays from.
//!
//! Here: the real binary, links that are really lost, a thousand forwarded streams byte for byte. Not here:
//! what a relay decides (`shards/src/core/tests/mesh.rs`), the registry (`tests/cli/registry.rs`).
//!
//! Nothing leaves the test's own namespaces, and everything in them ends with it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failure in a helper of a test fails the test"
)]

#[path = "support/namespace.rs"]
#[expect(dead_code, reason = "what other tests need of it")]
mod namespace;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringway_client::{
    Address, Client, Config, DialError, PublicKey, Refusal, RelayAddress, SecretKey,
};
use ringway_proto::reason::Reason;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longest wait for anything; only a bug meets it.
const DEADLINE: Duration = Duration::from_secs(60);

const RANGE: &str = "32768 60999";

/// A relay in a network namespace of its own.
struct Node {
    /// Its process, or the shell that becomes it.
    child: Child,
    number: u8,
    key: PublicKey,
}

/// Three relays at 10.9.0.1 to 10.9.0.3; the test is at 10.9.0.254.
struct Network {
    state: TempDir,
    nodes: Vec<Node>,
}

fn ip_of(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// Runs a command in the network of a process.
fn inside(pid: u32, script: &str) {
    sh(&format!("nsenter -t {pid} -n sh -ec '{script}'"));
}

impl Network {
    /// Builds the bridge and starts the relays; each names the two others.
    fn start() -> Self {
        sh(
            "ip link add bridge0 type bridge; ip addr add 10.9.0.254/24 dev bridge0; ip link set bridge0 up",
        );
        let state = tempfile::tempdir().unwrap();
        let keys: Vec<PublicKey> = (1..=3).map(|number| keygen(&state, number)).collect();
        let mut network = Self {
            state,
            nodes: Vec::new(),
        };
        for number in 1..=3_u8 {
            let node = network.start_node(number, &keys);
            network.nodes.push(node);
        }
        network
    }

    fn start_node(&self, number: u8, keys: &[PublicKey]) -> Node {
        let directory = self.state.path().display();
        let own = ip_of(number);
        let mut serve = format!(
            "exec {} serve --listen {own}:7100 --admin {own}:7180 --shards 2 --key-file {directory}/{number}.key \
             --state-dir {directory} --set limits.sessions_max=256 --set ports.sources={own}",
            env!("CARGO_BIN_EXE_ringway")
        );
        for (other, key) in (1..).zip(keys) {
            if other != number {
                write!(serve, " --link {key}@{}:7100", ip_of(other)).unwrap();
            }
        }
        // It has a network only when the test has given it one, and says so.
        let mut child = Command::new("unshare")
            .args([
                "-n",
                "sh",
                "-ec",
                &format!("echo new; read network; {serve}"),
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "new");
        let pid = child.id();
        sh(&format!(
            "ip link add port{number} type veth peer name inner{number}; ip link set port{number} master bridge0 up; \
             ip link set inner{number} netns {pid}"
        ));
        inside(
            pid,
            &format!(
                "ip link set lo up; ip addr add {own}/24 dev inner{number}; ip link set inner{number} up"
            ),
        );
        child.stdin.as_mut().unwrap().write_all(b"up\n").unwrap();
        assert!(lines.next().unwrap().unwrap().starts_with("listening"));
        // Nobody reads what else it prints; its four lines fit in the pipe.
        let key = keys[usize::from(number) - 1];
        Node { child, number, key }
    }

    fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// Lets no packet of a relay reach another one, or again; neither is told.
    fn set_cut(&self, one: u8, other: u8, is_cut: bool) {
        let action = if is_cut { "add" } else { "del" };
        for (from, to) in [(one, other), (other, one)] {
            let pid = self.node(from).child.id();
            inside(
                pid,
                &format!("ip route {action} blackhole {}/32", ip_of(to)),
            );
        }
    }

    /// Ends a relay as a crash does.
    fn kill(&mut self, number: u8) {
        let child = &mut self.nodes[usize::from(number) - 1].child;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn restart(&mut self, number: u8) {
        let keys: Vec<PublicKey> = self.nodes.iter().map(|node| node.key).collect();
        // Its half of the veth has gone with its namespace, and the other one with it, a moment later.
        let port = format!("/sys/class/net/port{number}");
        wait_until("the port of the dead relay goes", || {
            !std::path::Path::new(&port).exists()
        });
        self.nodes[usize::from(number) - 1] = self.start_node(number, &keys);
    }

    /// Returns one number of a relay's audit over all shards.
    fn audit(&self, number: u8, name: &str) -> u64 {
        let health: serde_json::Value = serde_json::from_str(&health(number)).unwrap();
        let shards = health["shards"].as_array().unwrap().iter();
        shards
            .map(|shard| shard["audit"][name].as_u64().unwrap())
            .sum()
    }

    /// Waits until each relay that lives has a link of either shard with each of `others` others.
    fn wait_for_links(&self, numbers: &[u8], others: u64) {
        for number in numbers {
            wait_until("links", || self.audit(*number, "links") >= 2 * others);
        }
    }

    /// Connects a party to a relay.
    async fn party(&self, number: u8, seed: u8) -> Client {
        let socket = SocketAddr::new(IpAddr::V4(ip_of(number)), 7_100);
        let relay = RelayAddress::new(self.node(number).key, socket);
        let config = Config {
            // A thousand streams come at once.
            backlog_max: 1_024,
            // A relay whose network has gone says nothing: this finds out.
            keepalive_interval: Duration::from_secs(2),
            backoff_max: Duration::from_secs(1),
            ..Config::new([relay])
        };
        Client::connect(SecretKey::from_seed([seed; 32]), config)
            .await
            .unwrap()
    }

    /// Connects a party to each relay; the first one reaches the others, which echo.
    async fn parties(&self) -> [Client; 3] {
        let second = self.party(2, 20).await;
        let third = self.party(3, 30).await;
        echo(&second);
        echo(&third);
        let near = self.party(1, 10).await;
        round_trip_at_last(&near, second.key(), &block(1, 200_000)).await;
        round_trip_at_last(&near, third.key(), &block(2, 200_000)).await;
        [near, second, third]
    }

    /// Ends the relays in good order; each has given everything back.
    fn finish(mut self) {
        for node in &mut self.nodes {
            let number = node.number;
            sh(&format!("kill -TERM {}", node.child.id()));
            let status = node.child.wait().unwrap();
            assert_eq!(status.code(), Some(0), "relay {number}");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            drop(node.child.kill());
            drop(node.child.wait());
        }
    }
}

/// Makes the key file of a relay.
fn keygen(state: &TempDir, number: u8) -> PublicKey {
    let path = state.path().join(format!("{number}.key"));
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("keygen")
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let key = text.split_whitespace().find(|word| word.len() == 64);
    key.unwrap().parse().unwrap()
}

fn health(number: u8) -> String {
    let mut stream = TcpStream::connect((ip_of(number), 7_180)).unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends back whatever comes in on port 80, stream by stream.
fn echo(party: &Client) {
    let listener = party.listen(80).unwrap();
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(stream);
                // Either end may die: that is what the test is about.
                drop(tokio::io::copy(&mut from, &mut to).await);
                drop(to.shutdown().await);
            });
        }
    });
}

/// Returns bytes that no other stream has.
fn block(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Sends bytes to an echo and compares what comes back.
async fn round_trip(from: &Client, to: PublicKey, bytes: &[u8]) -> Result<(), DialError> {
    let stream = from.dial(Address::new(to, 80)).await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut back = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            writer.write_all(bytes).await?;
            writer.shutdown().await
        },
        reader.read_to_end(&mut back)
    );
    sent.unwrap();
    read.unwrap();
    assert!(back == bytes, "{} bytes came back differently", bytes.len());
    Ok(())
}

/// The same, until there is a way.
async fn round_trip_at_last(from: &Client, to: PublicKey, bytes: &[u8]) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = round_trip(from, to, bytes).await {
        assert!(Instant::now() < deadline, "no way is found: {error}");
    }
}

fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(body);
}

#[test]
fn thousand_streams_are_forwarded_byte_for_byte_between_relays_that_name_each_other() {
    let name = "thousand_streams_are_forwarded_byte_for_byte_between_relays_that_name_each_other";
    namespace::inside(name, RANGE, || {
        let network = Network::start();
        network.wait_for_links(&[1, 2, 3], 2);
        run(async {
            let far = network.party(2, 20).await;
            echo(&far);
            let key = far.key();
            let near = network.party(1, 10).await;
            round_trip_at_last(&near, key, b"first").await;
            let mut streams = Vec::new();
            for seed in 0..1_000 {
                let near = near.clone();
                streams.push(tokio::spawn(async move {
                    let length = 1 + (seed as usize * 7_919) % 60_000;
                    round_trip(&near, key, &block(seed, length)).await.unwrap();
                }));
            }
            for stream in streams {
                stream.await.unwrap();
            }
            near.close().await;
            far.close().await;
        });
        for number in 1..=3 {
            wait_until("streams end", || {
                // Two of each link are there for announcements.
                network.audit(number, "streams") == 2 * network.audit(number, "links")
            });
        }
        network.finish();
    });
}

#[test]
fn links_that_are_cut_are_noticed_and_made_again_and_the_third_relay_goes_on() {
    let name = "links_that_are_cut_are_noticed_and_made_again_and_the_third_relay_goes_on";
    namespace::inside(name, RANGE, || {
        let network = Network::start();
        network.wait_for_links(&[1, 2, 3], 2);
        run(async {
            let [near, second, third] = network.parties().await;
            // A stream that is open over the link when it is cut.
            let mut open = near.dial(Address::new(second.key(), 80)).await.unwrap();
            open.write_all(b"before").await.unwrap();
            let mut back = [0; 6];
            open.read_exact(&mut back).await.unwrap();
            network.set_cut(1, 2, true);
            wait_until("the cut is noticed", || network.audit(1, "announced") == 1);
            let lost = open.read(&mut back).await;
            assert!(lost.is_err(), "a stream of a lost link ends: {lost:?}");
            // One hop: nobody forwards what was forwarded, not even the relay that both have links with.
            let refused = round_trip(&near, second.key(), b"cut").await;
            let reason = refused.unwrap_err().refusal().and_then(Refusal::reason);
            assert_eq!(reason, Some(Reason::UnknownDestination));
            round_trip(&near, third.key(), &block(3, 200_000))
                .await
                .unwrap();
            network.set_cut(1, 2, false);
            network.wait_for_links(&[1, 2], 2);
            round_trip_at_last(&near, second.key(), &block(4, 200_000)).await;
            for party in [near, second, third] {
                party.close().await;
            }
        });
        network.finish();
    });
}

#[test]
fn relay_that_is_killed_takes_its_own_peers_alone_and_is_linked_again() {
    let name = "relay_that_is_killed_takes_its_own_peers_alone_and_is_linked_again";
    namespace::inside(name, RANGE, || {
        let mut network = Network::start();
        network.wait_for_links(&[1, 2, 3], 2);
        run(async {
            let [near, second, third] = network.parties().await;
            network.kill(3);
            wait_until("the death is noticed", || {
                network.audit(1, "announced") == 1
            });
            assert!(round_trip(&near, third.key(), b"dead").await.is_err());
            round_trip(&near, second.key(), &block(3, 200_000))
                .await
                .unwrap();
            network.restart(3);
            network.wait_for_links(&[1, 2, 3], 2);
            // Its peer comes back by itself.
            round_trip_at_last(&near, third.key(), &block(4, 200_000)).await;
            for party in [near, second, third] {
                party.close().await;
            }
        });
        network.finish();
    });
}
