//! `kill -9` of a peer's process in the middle of its work, seen from the operator's side.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Relay, run};
use crate::tunnel::Tunnel;

/// What `ringway status --json` says about the relay's only shard.
fn shard(relay: &Relay) -> serde_json::Value {
    let arguments = ["status", "--admin", &relay.admin, "--json"];
    let status = run(relay.state.path(), &arguments);
    assert_eq!(status.code, Some(0), "{}", status.err);
    let value: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(value["consistency"]["ok"], true, "{value}");
    value["shards"][0].clone()
}

/// Waits until the relay holds this many sessions and streams, and a socket a session.
fn until(relay: &Relay, sessions: u64, streams: u64) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shard = shard(relay);
        let audit = &shard["audit"];
        let is_reached = audit["sessions"] == sessions
            && audit["streams"] == streams
            && audit["sockets"] == sessions
            && audit["handshakes"] == 0;
        if is_reached {
            return shard;
        }
        assert!(Instant::now() < deadline, "{sessions} sessions: {shard}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Remote end and state of every socket of the relay's port.
fn sockets(relay: &Relay) -> BTreeSet<(String, String)> {
    let address: SocketAddr = relay.address().parse().unwrap();
    let own = format!("0100007F:{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.get(1) == Some(&own.as_str()))
        .map(|row| (row[2].to_owned(), row[3].to_owned()))
        .collect()
}

/// A service that sends without end, and takes what comes.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut sender = stream.try_clone().unwrap();
                thread::spawn(move || while sender.write_all(&[7; 65_536]).is_ok() {});
                let mut reader = stream;
                while reader.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// Opens connections through the tunnel and moves bytes both ways on each.
fn busy(tunnel: &Tunnel, count: usize) -> Vec<TcpStream> {
    let mut streams: Vec<_> = (0..count).map(|_| tunnel.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&[1; 100_000]).unwrap();
        stream.read_exact(&mut [0; 100_000]).unwrap();
    }
    streams
}

/// Reads until the connection ends; it must not wait for anything.
fn ends(mut stream: TcpStream) {
    while stream.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {}
}

#[test]
fn a_killed_exposer_leaves_the_relay_one_session_and_no_stream() {
    let relay = Relay::start(&[]);
    // The listener, and perhaps connections of an earlier holder of the port.
    let before = sockets(&relay);
    let tunnel = Tunnel::over(relay, &endless());
    let streams = busy(&tunnel, 8);
    until(&tunnel.relay, 2, 16);
    tunnel.expose.signal("KILL");
    let shard = until(&tunnel.relay, 1, 0);
    // The kernel ends a dead process's connections: with a reset where something was unread.
    let gone = shard["sessions_lost"].as_u64().unwrap() + shard["sessions_left"].as_u64().unwrap();
    assert_eq!(gone, 1, "{shard}");
    streams.into_iter().for_each(ends);
    let Tunnel {
        relay,
        expose,
        forward,
        ..
    } = tunnel;
    assert_eq!(expose.finish().code, None);
    forward.signal("KILL");
    assert_eq!(forward.finish().code, None);
    until(&relay, 0, 0);
    assert!(sockets(&relay).is_subset(&before), "only the listener");
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn a_killed_forwarder_leaves_the_exposer_serving_the_next() {
    let relay = Relay::start(&[]);
    // The listener, and perhaps connections of an earlier holder of the port.
    let before = sockets(&relay);
    let tunnel = Tunnel::over(relay, &endless());
    let streams = busy(&tunnel, 8);
    until(&tunnel.relay, 2, 16);
    tunnel.forward.signal("KILL");
    until(&tunnel.relay, 1, 0);
    drop(streams);
    let Tunnel {
        relay,
        expose,
        forward,
        ..
    } = tunnel;
    assert_eq!(forward.finish().code, None);
    // The exposer is reachable as before.
    let pinged = run(
        relay.state.path(),
        &[
            "ping",
            "--relay",
            &relay.name,
            &exposed(&relay),
            "-c",
            "3",
            "-i",
            "1ms",
        ],
    );
    assert_eq!(pinged.code, Some(0), "{}", pinged.err);
    until(&relay, 1, 0);
    expose.signal("TERM");
    assert_eq!(expose.finish().code, Some(0));
    until(&relay, 0, 0);
    assert!(sockets(&relay).is_subset(&before), "only the listener");
    assert_eq!(relay.end().code, Some(0));
}

/// Returns the key of the exposer, which the relay's host keeps beside the relay's own.
fn exposed(relay: &Relay) -> String {
    let key_file = relay.state.path().join("ringway/expose-80.key");
    let shown = run(
        relay.state.path(),
        &["keygen", "--show", key_file.to_str().unwrap()],
    );
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    shown.out.trim().to_owned()
}
