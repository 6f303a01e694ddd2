//! `--lan`: a relay and those who use it in two network namespaces with one cable between them.
//!
//! The test's process is in the first namespace, with the relays; the parties are in the second one. Every
//! packet stays in the two.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use tempfile::TempDir;

use crate::namespace::{inside, ip};
use crate::support::{Finished, PATIENCE, Running, ringway, run};
use crate::tunnel::block;

/// Local ports of the namespaces; more than the tests need.
const RANGE: &str = "40000 49999";

/// The second namespace; it ends with the value.
struct Far {
    holder: Child,
    state: TempDir,
}

impl Far {
    /// Makes the namespace and the cable: 10.77.0.1 here, 10.77.0.2 there.
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Before the line is there the process is still in the first namespace.
        let mut line = [0; 6];
        holder.stdout.take().unwrap().read_exact(&mut line).unwrap();
        let far = Self {
            holder,
            state: tempfile::tempdir().unwrap(),
        };
        let pid = far.holder.id().to_string();
        ip(&[
            "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &pid,
        ]);
        ip(&["addr", "add", "10.77.0.1/24", "dev", "near"]);
        ip(&["link", "set", "near", "up"]);
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", "10.77.0.2/24", "dev", "far"],
            &["link", "set", "far", "up"],
        ] {
            far.ip(arguments);
        }
        // The kernel says a moment later that the cable is in.
        let until = Instant::now() + PATIENCE;
        let is_up = || far.ip(&["link", "show", "far"]).contains("state UP");
        while !(is_up() && ip(&["link", "show", "near"]).contains("state UP")) {
            assert!(Instant::now() < until, "the cable stays out");
            thread::yield_now();
        }
        far
    }

    /// Runs `ip` there.
    fn ip(&self, arguments: &[&str]) -> String {
        let output = self.enter().arg("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "--"]);
        command
    }

    /// Returns a command there, with a state directory of the namespace.
    fn command(&self, arguments: &[&str]) -> Command {
        let there = ringway(self.state.path(), arguments);
        let mut command = self.enter();
        command.env_clear();
        command.envs(
            there
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.arg(there.get_program()).args(there.get_args());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        Finished::from(self.command(arguments).output().unwrap())
    }

    fn ping(&self, further: &[&str]) -> Finished {
        self.run(&[&["ping", "--lan", "-c", "1"], further].concat())
    }

    /// Forgets which relays have been used.
    fn forget(&self) {
        fs::remove_file(self.memory()).unwrap();
    }

    fn memory(&self) -> std::path::PathBuf {
        self.state.path().join("ringway/lan.json")
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A relay in the first namespace.
struct LanRelay {
    process: Running,
    /// `KEY@ADDRESS:PORT`.
    name: String,
    next: String,
}

impl LanRelay {
    fn start(state: &Path) -> Self {
        let arguments = ["serve", "--lan", "--admin", "off", "--shards", "1"];
        let further = ["--set", "limits.sessions_max=64"];
        let mut process = Running::start(&mut ringway(state, &[&arguments[..], &further].concat()));
        let [_, name, next, _]: [String; 4] = std::array::from_fn(|_| process.line());
        let name = name.split_whitespace().last().unwrap().to_owned();
        assert!(name.contains("@10.77.0.1:"), "{name}");
        Self {
            process,
            name,
            next,
        }
    }

    fn key(&self) -> &str {
        self.name.split_once('@').unwrap().0
    }

    fn end(self) {
        self.process.signal("TERM");
        assert_eq!(self.process.finish().code, Some(0));
    }
}

#[track_caller]
fn assert_over(ping: &Finished, relay: &str) {
    assert_eq!(ping.code, Some(0), "{} {}", ping.out, ping.err);
    assert!(
        ping.out.contains(&format!(" over {relay}\n")),
        "{} {}",
        ping.out,
        ping.err
    );
}

#[test]
fn bytes_pass_between_parties_that_were_told_no_address() {
    inside(
        "lan::bytes_pass_between_parties_that_were_told_no_address",
        RANGE,
        || {
            const LENGTH: usize = 300_001;
            let far = Far::new();
            let state = tempfile::tempdir().unwrap();
            let relay = LanRelay::start(state.path());
            assert!(
                relay.next.contains("ringway expose --lan --port"),
                "{}",
                relay.next
            );
            // The service is here, the one who asks for it there; both find the relay.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let service = listener.local_addr().unwrap().to_string();
            let serving = thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut request = Vec::new();
                stream.read_to_end(&mut request).unwrap();
                assert!(request == block(1, LENGTH), "the request differs");
                stream.write_all(&block(2, LENGTH)).unwrap();
            });
            let near_state = tempfile::tempdir().unwrap();
            let arguments = ["expose", "--lan", "--port", "80", "--to", &service];
            let mut expose = Running::start(&mut ringway(near_state.path(), &arguments));
            let name = expose.line().split_whitespace().last().unwrap().to_owned();
            let next = expose.line();
            assert!(next.contains("ringway forward --lan --listen"), "{next}");
            // Its port is reached from here over the cable.
            let arguments = ["forward", "--lan", "--listen", "10.77.0.2:0", "--to", &name];
            let mut forward = Running::start(&mut far.command(&arguments));
            let line = forward.line();
            let address = line.split_whitespace().nth(1).unwrap();
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&block(1, LENGTH)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer == block(2, LENGTH), "the answer differs");
            serving.join().unwrap();
            for process in [forward, expose] {
                process.signal("TERM");
                let finished = process.finish();
                assert_eq!(finished.code, Some(0), "{}", finished.err);
                // Whom it has trusted it says once.
                assert!(
                    finished
                        .err
                        .contains(&format!("{} is trusted from now on", relay.name))
                );
            }
            relay.end();
        },
    );
}

#[test]
fn relay_used_before_is_preferred_after_a_restart() {
    inside(
        "lan::relay_used_before_is_preferred_after_a_restart",
        RANGE,
        || {
            let far = Far::new();
            let [state, other_state] = [(), ()].map(|()| tempfile::tempdir().unwrap());
            let relay = LanRelay::start(state.path());
            let first = far.ping(&[]);
            assert_over(&first, &relay.name);
            assert!(
                first.err.contains("no relay has been used before"),
                "{}",
                first.err
            );
            let other = LanRelay::start(other_state.path());
            let name = relay.name.clone();
            relay.end();
            let relay = LanRelay::start(state.path());
            assert_eq!(relay.name, name, "the port is the one from before");
            let again = far.ping(&[]);
            assert_over(&again, &name);
            assert_eq!(again.err, "");
            // It is not there: another one is taken, and that is said.
            relay.end();
            let instead = far.ping(&[]);
            assert_over(&instead, &other.name);
            assert!(
                instead.err.contains(&format!("{name}, does not answer"))
                    && instead
                        .err
                        .contains(&format!("{} is trusted from now on", other.name)),
                "{}",
                instead.err
            );
            // A named key is never replaced.
            let key = name.split_once('@').unwrap().0;
            let pinned = far.ping(&["--lan-key", key]);
            assert_eq!(pinned.code, Some(1));
            assert!(
                pinned
                    .err
                    .contains(&format!("{key} does not answer on far")),
                "{}",
                pinned.err
            );
            other.end();
        },
    );
}

#[test]
fn named_key_is_found_among_others_and_a_relay_that_moves_is_found_again() {
    inside(
        "lan::named_key_is_found_among_others_and_a_relay_that_moves_is_found_again",
        RANGE,
        || {
            let far = Far::new();
            let [state, other_state] = [(), ()].map(|()| tempfile::tempdir().unwrap());
            let relay = LanRelay::start(state.path());
            let other = LanRelay::start(other_state.path());
            let pinned = far.ping(&["--lan-key", other.key()]);
            assert_over(&pinned, &other.name);
            assert_eq!(pinned.err, "");
            let text = fs::read_to_string(far.memory()).unwrap();
            assert!(
                text.contains(other.key()) && !text.contains(relay.key()),
                "{text}"
            );
            // Its port is taken while it is away, so it comes back at another one.
            let before = other.name.clone();
            other.end();
            let _holder = TcpListener::bind(before.split_once('@').unwrap().1).unwrap();
            let other = LanRelay::start(other_state.path());
            assert_ne!(other.name, before);
            let moved = far.ping(&[]);
            assert_over(&moved, &other.name);
            assert_eq!(moved.err, "");
            relay.end();
            other.end();
        },
    );
}

/// Somebody who announces the key of a relay at a port of his own, and counts who comes.
struct Impostor {
    daemon: ServiceDaemon,
    callers: Arc<AtomicU32>,
}

impl Impostor {
    fn start(key: &str, wrong: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind("10.77.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let callers = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&callers);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                // What it says is no proof.
                drop(stream.unwrap().write_all(&[0; 256]));
            }
        });
        let right = [("key", key), ("v", "1")];
        let texts = right.into_iter().chain(wrong);
        let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let texts: HashMap<String, String> = texts.collect();
        let name = format!("impostor-{port}");
        let daemon = ServiceDaemon::new().unwrap();
        daemon.disable_interface(IfKind::All).unwrap();
        daemon
            .enable_interface(IfKind::Name("near".to_owned()))
            .unwrap();
        let events = daemon.monitor().unwrap();
        let mut service = ServiceInfo::new(
            "_ringway._tcp.local.",
            &name,
            &format!("{name}.local."),
            "10.77.0.1",
            port,
            texts,
        )
        .unwrap();
        service.set_requires_probe(false);
        daemon.register(service).unwrap();
        let is_sent = |event| matches!(event, mdns_sd::DaemonEvent::Announce(..));
        while !is_sent(events.recv_timeout(PATIENCE).unwrap()) {}
        Self { daemon, callers }
    }

    fn callers(&self) -> u32 {
        self.callers.load(Ordering::SeqCst)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let ended = self.daemon.shutdown().unwrap();
        ended.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn announcement_of_a_known_key_at_another_address_impersonates_nobody() {
    inside(
        "lan::announcement_of_a_known_key_at_another_address_impersonates_nobody",
        RANGE,
        || {
            let far = Far::new();
            let state = tempfile::tempdir().unwrap();
            let relay = LanRelay::start(state.path());
            assert_over(&far.ping(&[]), &relay.name);
            let impostor = Impostor::start(relay.key(), None);
            assert_over(&far.ping(&[]), &relay.name);
            // Nothing is remembered of where it was: only the announcements tell.
            far.forget();
            assert_over(&far.ping(&["--lan-key", relay.key()]), &relay.name);
            // The relay is away, and the impostor alone says that it is here.
            let (key, name) = (relay.key().to_owned(), relay.name.clone());
            relay.end();
            let before = impostor.callers();
            let alone = far.ping(&[]);
            assert_eq!(alone.code, Some(1), "{} {}", alone.out, alone.err);
            assert!(
                alone.err.contains("no relay answers on far"),
                "{}",
                alone.err
            );
            assert!(
                impostor.callers() > before,
                "the announcement was never looked at"
            );
            let text = fs::read_to_string(far.memory()).unwrap();
            let address = name.split_once('@').unwrap().1;
            assert!(text.contains(&key) && text.contains(address), "{text}");
        },
    );
}

#[test]
fn malformed_announcements_are_skipped() {
    inside("lan::malformed_announcements_are_skipped", RANGE, || {
        let far = Far::new();
        let key = "ab".repeat(32);
        let wrong = [("v", "2"), ("key", "no key"), ("key", &key[1..])];
        let start = |value| Impostor::start(&key, Some(value));
        let impostors = wrong.map(start);
        let state = tempfile::tempdir().unwrap();
        let relay = LanRelay::start(state.path());
        assert_over(&far.ping(&[]), &relay.name);
        for (impostor, value) in impostors.iter().zip(wrong) {
            assert_eq!(impostor.callers(), 0, "{value:?}");
        }
        relay.end();
    });
}

#[test]
fn relay_that_goes_says_so() {
    inside("lan::relay_that_goes_says_so", RANGE, || {
        let _far = Far::new();
        let daemon = ServiceDaemon::new().unwrap();
        let events = daemon.browse("_ringway._tcp.local.").unwrap();
        let state = tempfile::tempdir().unwrap();
        let relay = LanRelay::start(state.path());
        let name = loop {
            if let ServiceEvent::ServiceResolved(found) = events.recv_timeout(PATIENCE).unwrap() {
                assert_eq!(found.get_property_val_str("key"), Some(relay.key()));
                assert_eq!(found.get_property_val_str("v"), Some("1"));
                break found.fullname.clone();
            }
        };
        relay.end();
        // Without a goodbye the announcement would stand longer than anybody waits here.
        loop {
            if let ServiceEvent::ServiceRemoved(_, gone) = events.recv_timeout(PATIENCE).unwrap() {
                assert_eq!(gone, name);
                break;
            }
        }
        daemon.shutdown().unwrap().recv_timeout(PATIENCE).unwrap();
    });
}

#[test]
fn host_without_a_private_address_is_told_what_to_do() {
    inside(
        "lan::host_without_a_private_address_is_told_what_to_do",
        RANGE,
        || {
            let state = tempfile::tempdir().unwrap();
            for arguments in [&["serve", "--lan"][..], &["ping", "--lan"]] {
                let finished = run(state.path(), arguments);
                assert_eq!(finished.code, Some(1));
                for part in [
                    "no network interface",
                    "--lan-interface",
                    "--listen",
                    "--relay",
                ] {
                    assert!(finished.err.contains(part), "{}", finished.err);
                }
            }
        },
    );
}

#[test]
fn lan_stands_alone() {
    let state = tempfile::tempdir().unwrap();
    let config = state.path().join("relay.toml");
    fs::write(&config, "\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let config = config.to_str().unwrap();
    let relay = format!("{}@127.0.0.1:1", "ab".repeat(32));
    let serve = ["serve", "--lan", "--admin", "off"];
    for (arguments, part) in [
        (
            [&serve[..], &["--listen", "127.0.0.1:0"]].concat(),
            "--listen",
        ),
        (
            [&serve[..], &["--config", config]].concat(),
            "relay.toml:2 sets listen",
        ),
        (
            [&serve[..], &["--set", "listen=127.0.0.1:0"]].concat(),
            "--set sets listen",
        ),
        (vec!["serve", "--lan-interface", "eth0"], "--lan"),
        (vec!["ping", "--lan", "--relay", &relay], "--relay"),
        (vec!["ping", "--lan", &relay], "give its key alone"),
        (vec!["ping"], "required"),
    ] {
        let finished = run(state.path(), &arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        assert!(
            finished.err.contains(part),
            "{arguments:?}: {}",
            finished.err
        );
    }
}

#[test]
fn deployment_lets_only_its_own_keys_be_found() {
    let state = tempfile::tempdir().unwrap();
    let key = "ab".repeat(32);
    let lab = format!(r#"{{"name": "lab", "relays": ["{key}@a.invalid:7100"]}}"#);
    let other = "cd".repeat(32);
    for arguments in [
        &["serve", "--lan", "--admin", "off"][..],
        &["ping", "--lan"],
        &["ping", "--lan", "--lan-key", &other],
        &["expose", "--lan", "--port", "80", "--to", "127.0.0.1:1"],
    ] {
        let mut command = ringway(state.path(), arguments);
        let finished = Finished::from(command.env("RINGWAY_DEPLOY", &lab).output().unwrap());
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.err);
        let part = "--lan would go outside of the deployment lab";
        assert!(finished.err.contains(part), "{}", finished.err);
    }
}
