//! Peers that freeze: their sockets stand, their kernel acknowledges, and they say nothing any more.
//!
//! A relay of this kind that was measured noticed nothing for 30 s, then closed first and kept the ports
//! of the dead in `FIN_WAIT2` and `TIME_WAIT`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringway_client::{Address, Stream};
use ringway_proto::frame::{Flags, Header};
use ringway_proto::reason::Reason;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;

use crate::raw::{Event, Raw};
use crate::relay::{Options, Relay};

/// Silence after which the relay asks: four times as much ends a session.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// `ringway expose` in a process of its own; killed when dropped.
struct Exposer {
    child: Child,
    address: Address,
    _state: tempfile::TempDir,
}

impl Exposer {
    fn start(relay: &Relay, service: &TcpListener) -> Self {
        let state = tempfile::tempdir().unwrap();
        let key = state.path().join("expose.key");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringway"))
            .env_clear()
            .arg("expose")
            .args(["--relay", &format!("{}@{}", relay.key(), relay.address())])
            .args(["--port", "80", "--key-file", key.to_str().unwrap()])
            .args(["--to", &service.local_addr().unwrap().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let line = std::io::BufRead::lines(std::io::BufReader::new(out)).next();
        let line = line.unwrap().unwrap();
        let address = line.split_whitespace().last().unwrap().parse().unwrap();
        Self {
            child,
            address,
            _state: state,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Exposer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn options() -> Options {
    let mut options = Options::shards(2);
    options.timeouts.keepalive = KEEPALIVE;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_were_stopped_are_reaped_and_leave_no_port() {
    const PROCESSES: u64 = 6;
    let relay = Relay::start(options());
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let exposers: Vec<_> = (0..PROCESSES)
        .map(|_| Exposer::start(&relay, &service))
        .collect();
    let dialer = relay.client(0).await;
    let mut streams: Vec<Stream> = Vec::new();
    for exposer in &exposers {
        streams.push(dialer.dial(exposer.address).await.unwrap());
    }
    assert_eq!(relay.sum(|shard| shard.audit.sessions), PROCESSES + 1);
    for exposer in &exposers {
        exposer.signal(Signal::STOP);
    }
    relay.until("sessions", 1, |shard| shard.audit.sessions);
    relay.until("sockets", 1, |shard| shard.audit.sockets);
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::Idle)),
        PROCESSES
    );
    // The one that answers lives, and hears that its streams are gone.
    relay.sockets.until_only(&["LISTEN", "ESTABLISHED"]);
    for mut stream in streams {
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    relay.until("streams", 0, |shard| shard.audit.streams);
    assert!(dialer.status()[0].state.is_ready());
    // Whoever wakes up comes back as if new.
    exposers[0].signal(Signal::CONT);
    relay.until("sessions", 2, |shard| shard.audit.sessions);
    drop(exposers);
    dialer.close().await;
    relay.until_empty();
    relay.end();
}

#[test]
fn sockets_that_are_never_read_or_written_are_reaped_and_told_209() {
    let relay = Relay::start(options());
    let mut frozen: Vec<_> = (0..100)
        .map(|number| Raw::admitted(&relay, number))
        .collect();
    for pair in frozen.chunks_mut(2) {
        let (opener, taker) = pair.split_at_mut(1);
        opener[0].bridge(&mut taker[0]);
    }
    assert_eq!(relay.sum(|shard| shard.audit.streams), 100);
    // All sockets still exist on the peers' side.
    relay.until_empty();
    assert_eq!(
        relay.sum(|shard| shard.stats.sessions_closed.of(Reason::Idle)),
        100
    );
    drop(frozen);
    relay.end();
}

#[test]
fn a_bridge_without_a_byte_is_reset_at_both_ends_and_its_sessions_stay() {
    let mut options = Options::shards(2);
    options.timeouts.bridge_idle = Duration::from_secs(4);
    options.timeouts.half_closed = Duration::from_secs(2);
    let relay = Relay::start(options);
    let mut opener = Raw::admitted(&relay, 0);
    let mut taker = Raw::admitted(&relay, 1);
    let whole = opener.bridge(&mut taker);
    let half = opener.bridge(&mut taker);
    opener.write(whole.0, b"the last");
    taker.expect(whole.1, b"the last");
    opener.send_frame(Header::window_update(half.0, Flags::FIN, 0));
    assert_eq!(taker.next(), Event::Finish(half.1));
    // Each end hears of both, whichever goes first.
    for (peer, ids) in [
        (&mut opener, [whole.0, half.0]),
        (&mut taker, [whole.1, half.1]),
    ] {
        let mut gone = [peer.next(), peer.next()];
        gone.sort_by_key(|event| *event != Event::Reset(ids[0]));
        assert_eq!(gone, ids.map(Event::Reset));
    }
    relay.until("streams", 0, |shard| shard.audit.streams);
    let reset = relay.sum(|shard| shard.stats.streams_reset.of(Reason::Idle));
    assert!(reset >= 2, "{reset} legs were reset as idle");
    let (near, far) = opener.bridge(&mut taker);
    opener.write(near, b"anew");
    taker.expect(far, b"anew");
    drop((opener, taker));
    relay.until_empty();
    relay.end();
}
