//! What a relay tells clients of the dmsg dialect of where they are: behind `HAProxy`, by a header that a
//! test writes itself, from a database of places.
//!
//! Here: real sockets and processes. Not here: headers that are none (`proto/src/proxy/tests.rs`), files
//! that are none (`src/geo/tests.rs`).
//!
//! Without `HAProxy` the test that needs it says so and passes.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use ringway_proto::dmsg::handshake::{Identity, Initiator};
use ringway_proto::dmsg::key::{SecretKey, parse};
use ringway_proto::dmsg::open::{StreamRequest, StreamResponse};
use ringway_proto::frame::{Flags, FrameKind, HEADER_LEN, Header};
use ringway_proto::key::{Address, PublicKey};
use socket2::{Domain, Socket, Type};

use self::mmdb::{Value, Writer};
use crate::support::{PATIENCE, Relay, run};

#[expect(dead_code, reason = "kinds of values that no place here has")]
#[path = "../support/mmdb.rs"]
mod mmdb;

/// Where clients of the dmsg dialect connect, and the key of the relay there.
fn server(relay: &mut Relay) -> (PublicKey, SocketAddr) {
    let line = relay.process.line();
    let name = line.strip_prefix("dmsg").expect("the fifth line").trim();
    let (key, address) = name.split_once('@').unwrap();
    (parse(key).unwrap(), address.parse().unwrap())
}

fn start(further: &[&str]) -> Relay {
    let arguments = ["--set", "dmsg.listen=127.0.0.1:0"];
    Relay::start(&[&arguments, further].concat())
}

/// A place as a relay tells it.
type Place = (String, String, [f64; 2]);

/// Connects from one address to another, begins with `header`, and asks where that is.
fn ask(
    from: Ipv4Addr,
    to: SocketAddr,
    relay: PublicKey,
    header: &[u8],
) -> (Option<IpAddr>, Option<Place>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let secret = SecretKey::from_bytes([7; 32]).unwrap();
    let identity = Identity::new(secret.clone());
    let (initiator, first) = Initiator::new(&identity, &relay, [9; 32]).unwrap();
    stream.write_all(&[header, &first].concat()).unwrap();
    let second = read(&mut stream, 51);
    let (third, mut keys) = initiator.message_2(&second[2..]).unwrap();
    let request = StreamRequest {
        timestamp_ns: 1_700_000_000_000_000_000,
        source: Address::new(secret.public(), 49_152),
        destination: Address::new(relay, 1),
        wants_ip: true,
        wants_geo: true,
        noise: &[],
    };
    let mut object = Vec::new();
    let request = request.encode(&secret).unwrap();
    keys.sealer.seal(&request, &mut object).unwrap();
    let length = u32::try_from(object.len()).unwrap();
    let syn = Header::window_update(1, Flags::SYN, 0).encode();
    let data = Header::data(1, Flags::NONE, length).encode();
    let flight = [&third[..], &syn, &data, &object].concat();
    stream.write_all(&flight).unwrap();
    loop {
        let header = read(&mut stream, HEADER_LEN);
        let header = Header::decode(header.first_chunk().unwrap()).unwrap();
        if header.kind != FrameKind::Data {
            assert!(!header.flags.contains(Flags::RST), "refused");
            continue;
        }
        let mut object = read(&mut stream, header.length.try_into().unwrap());
        let plain = keys.opener.open(&mut object[2..]).unwrap();
        let response = StreamResponse::decode(plain).unwrap();
        let place = response.geo.map(|geo| {
            let degrees = [geo.latitude, geo.longitude];
            (geo.country.to_owned(), geo.region.to_owned(), degrees)
        });
        return (response.ip, place);
    }
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// `HAProxy` between the ports of a test's own and a relay, killed with it.
struct Haproxy(Child);

impl Haproxy {
    /// Starts one that adds headers as each of `options` says; returns where they listen, or none where the
    /// host has no `HAProxy`.
    fn start(
        directory: &Path,
        to: SocketAddr,
        options: &[&str],
    ) -> Option<(Self, Vec<SocketAddr>)> {
        // A free port may be taken by somebody else before it listens there.
        for _ in 0..5 {
            let free = options
                .iter()
                .map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
            let ports = free.map(|free| free.local_addr().unwrap());
            let ports: Vec<SocketAddr> = ports.collect();
            let path = directory.join("haproxy.cfg");
            fs::write(&path, configuration(&ports, to, options)).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&path);
            let streams = [Stdio::null(), Stdio::null()];
            let [out, err] = streams;
            let Ok(child) = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn() else {
                // Past the capture of the test's output: whoever runs it is to see it.
                let why = "test of the PROXY protocol is NOT RUN: this host has no haproxy\n";
                std::io::stderr().write_all(why.as_bytes()).unwrap();
                return None;
            };
            let mut haproxy = Self(child);
            if haproxy.is_up(&ports) {
                return Some((haproxy, ports));
            }
        }
        panic!("haproxy does not start");
    }

    /// Waits until it listens; false when it has ended.
    fn is_up(&mut self, ports: &[SocketAddr]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.0.try_wait().unwrap().is_some() {
                return false;
            }
            if ports.iter().all(|port| TcpStream::connect(port).is_ok()) {
                return true;
            }
            thread::yield_now();
        }
        false
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn configuration(ports: &[SocketAddr], to: SocketAddr, options: &[&str]) -> String {
    let mut text = "defaults\n  mode tcp\n".to_owned();
    for side in ["client", "connect", "server"] {
        text.push_str(&format!("  timeout {side} 60s\n"));
    }
    for (port, option) in ports.iter().zip(options) {
        text.push_str(&format!("listen to-{}\n  bind {port}\n", port.port()));
        text.push_str(&format!("  server relay {to} {option}\n"));
    }
    text
}

#[test]
fn client_behind_haproxy_is_told_its_own_address() {
    let mut relay = start(&["--set", "dmsg.proxy_protocol=127.0.0.1"]);
    let (key, to) = server(&mut relay);
    let directory = tempfile::tempdir().unwrap();
    let options = ["send-proxy", "send-proxy-v2", ""];
    let Some((_haproxy, ports)) = Haproxy::start(directory.path(), to, &options) else {
        return;
    };
    let client = Ipv4Addr::new(127, 0, 0, 2);
    let told = ports.iter().map(|port| ask(client, *port, key, &[]).0);
    let proxy = Ipv4Addr::LOCALHOST;
    let expected = [client, client, proxy].map(|address| Some(IpAddr::from(address)));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn client_is_told_its_place_by_the_address_in_its_header() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("places.mmdb");
    let place = Value::place("DE", "BE", [52.5, 13.4]);
    let file = Writer::new(6, 28).insert("203.0.113.0/24", &place).finish();
    fs::write(&path, file).unwrap();
    let database = format!("dmsg.geo_database={}", path.display());
    let proxies = "dmsg.proxy_protocol=127.0.0.0/30";
    let mut relay = start(&["--set", &database, "--set", proxies]);
    let (key, to) = server(&mut relay);
    let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 8081\r\n";
    let local = Ipv4Addr::LOCALHOST;
    let (address, place) = ask(local, to, key, header);
    assert_eq!(address, Some([203, 0, 113, 7].into()));
    let berlin = ("DE".to_owned(), "BE".to_owned(), [52.5, 13.4]);
    assert_eq!(place, Some(berlin));
    // Private addresses are nowhere.
    assert_eq!(ask(local, to, key, &[]), (Some(local.into()), None));
    // Nobody else may bring a header.
    let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, 4], 0));
    stranger.bind(&from.into()).unwrap();
    stranger.connect(&to.into()).unwrap();
    let mut stranger = TcpStream::from(stranger);
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    stranger.write_all(header).unwrap();
    let end = stranger.read(&mut [0; 64]);
    assert!(
        matches!(end, Ok(0))
            || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    );
    assert_eq!(relay.end().code, Some(0));
}

#[test]
fn start_without_its_database_is_refused_with_the_path() {
    let state = tempfile::tempdir().unwrap();
    let missing = state.path().join("missing.mmdb");
    let database = format!("dmsg.geo_database={}", missing.display());
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "off"];
    arguments.extend(["--set", "limits.sessions_max=64", "--set", &database]);
    let refused = run(
        state.path(),
        &[&arguments[..], &["--set", "dmsg.listen=127.0.0.1:0"]].concat(),
    );
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let path = missing.display().to_string();
    assert!(
        refused.err.contains(&path) && refused.err.contains("--set dmsg.geo_database=FILE"),
        "{}",
        refused.err
    );
}
