//! `expose` and `forward`: TCP bytes from end to end through a relay.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::support::{PATIENCE, Relay, Running, ringway};

/// A relay with both ends of a tunnel.
pub(crate) struct Tunnel {
    pub(crate) relay: Relay,
    pub(crate) expose: Running,
    pub(crate) forward: Running,
    /// Where `forward` listens.
    address: String,
}

impl Tunnel {
    fn to(service: &str) -> Self {
        Self::over(Relay::start(&[]), service)
    }

    pub(crate) fn over(relay: Relay, service: &str) -> Self {
        let (expose, name) = expose(&relay, service);
        let (forward, address) = forward(&relay, &name);
        Self {
            relay,
            expose,
            forward,
            address,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Ends everything in order and checks that all were quiet and ended well.
    pub(crate) fn end(self) {
        for process in [self.forward, self.expose] {
            process.signal("TERM");
            let finished = process.finish();
            assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
        }
        let finished = self.relay.end();
        assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
    }
}

/// Makes the service reachable through a relay; returns the process and its name.
pub(crate) fn expose(relay: &Relay, service: &str) -> (Running, String) {
    expose_as(relay.state.path(), relay, service)
}

/// The same with the key in a state directory.
pub(crate) fn expose_as(state: &Path, relay: &Relay, service: &str) -> (Running, String) {
    let via = ["expose", "--relay", &relay.name];
    let arguments = [&via[..], &["--port", "80", "--to", service]].concat();
    let mut expose = Running::start(&mut ringway(state, &arguments));
    let line = expose.line();
    assert!(
        line.starts_with(&format!("exposing  {service} as ")),
        "{line}"
    );
    let name = line.split_whitespace().last().unwrap().to_owned();
    assert!(expose.line().starts_with("next "));
    (expose, name)
}

/// Brings a service to a TCP port through a relay; returns the process and the port's address.
pub(crate) fn forward(relay: &Relay, name: &str) -> (Running, String) {
    forward_as(relay.state.path(), relay, name)
}

/// The same with the key in a state directory.
pub(crate) fn forward_as(state: &Path, relay: &Relay, name: &str) -> (Running, String) {
    let via = ["forward", "--relay", &relay.name];
    let arguments = [&via[..], &["--listen", "127.0.0.1:0", "--to", name]].concat();
    let mut forward = Running::start(&mut ringway(state, &arguments));
    let line = forward.line();
    assert!(line.starts_with("forwarding  127.0.0.1:"), "{line}");
    let address = line.split_whitespace().nth(1).unwrap().to_owned();
    (forward, address)
}

pub(crate) fn service(serve: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        serve(stream);
    });
    (address, thread)
}

pub(crate) fn block(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn bytes_and_half_closes_pass_in_both_directions() {
    const LENGTH: usize = 3_000_001;
    // The service answers only after it has seen the end of the request: a half-close must pass.
    let (address, thread) = service(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        assert!(request == block(1, LENGTH), "the request differs");
        stream.write_all(&block(2, LENGTH)).unwrap();
    });
    let tunnel = Tunnel::to(&address);
    let mut stream = tunnel.connect();
    stream.write_all(&block(1, LENGTH)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == block(2, LENGTH), "the answer differs");
    thread.join().unwrap();
    tunnel.end();
}

#[test]
fn reset_arrives_as_a_reset_and_not_as_an_end() {
    let (address, thread) = service(|stream| {
        // Data that nobody reads makes the kernel close with a reset.
        let mut first = [0; 1];
        stream.peek(&mut first).unwrap();
    });
    let tunnel = Tunnel::to(&address);
    let mut stream = tunnel.connect();
    stream.write_all(b"unread").unwrap();
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    thread.join().unwrap();
    tunnel.end();
}

#[test]
fn service_that_is_down_is_named_and_the_tunnel_lives() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let tunnel = Tunnel::to(&address);
    let mut stream = tunnel.connect();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    tunnel.expose.signal("TERM");
    let finished = tunnel.expose.finish();
    assert_eq!(finished.code, Some(0));
    assert!(
        finished
            .err
            .contains(&format!("cannot connect to {address}")),
        "{}",
        finished.err
    );
}

#[test]
fn second_tunnel_with_the_same_key_is_told_which_process_has_it() {
    let tunnel = Tunnel::to("127.0.0.1:9");
    let state = tunnel.relay.state.path();
    let arguments = [
        "expose",
        "--relay",
        &tunnel.relay.name,
        "--port",
        "80",
        "--to",
        "127.0.0.1:9",
    ];
    let second = crate::support::run(state, &arguments);
    assert_eq!(second.code, Some(1));
    let pid = format!("process {}", tunnel.expose.pid());
    assert!(
        second.err.contains(&pid) && second.err.contains("--key-file"),
        "{}",
        second.err
    );
    tunnel.end();
}
