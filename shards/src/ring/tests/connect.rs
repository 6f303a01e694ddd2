//! Outbound connections: the port that was asked for, failures, cancels; what a connect costs.

use std::net::TcpListener;

use ringway_proto::time::Now;

use super::*;
use crate::ports::PortBudget;
use crate::ports::PortKind;
use crate::ports::PortSet;

/// Returns options that bind to `source`.
fn from(source: SocketAddr) -> ConnectOptions {
    ConnectOptions {
        source: Some(source),
        port_range: Some((1_024, 65_535)),
        ..ConnectOptions::default()
    }
}

/// Returns an address of 127.0.0.3 whose port is free.
fn free_source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    listener.local_addr().unwrap()
}

fn failure(host: &mut Host) -> (u64, i32) {
    let mut failed = None;
    host.until(|_, completion| {
        if let Some(Completion::ConnectFailed { token, errno }) = completion {
            failed = Some((token, errno));
        }
        failed.is_some()
    });
    failed.unwrap()
}

#[test]
fn connection_comes_from_exactly_the_port_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let source = free_source();
    let mut host = Host::new(&small());
    // The same port again as soon as the last one is closed: nothing of it lingers.
    for token in 0..5 {
        host.ring.connect(target, &from(source), token).unwrap();
        let mut connected = None;
        host.until(|_, completion| {
            if let Some(Completion::Connected { slot, .. }) = completion {
                connected = Some(slot);
            }
            connected.is_some()
        });
        let (_stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, source);
        host.ring.close(connected.unwrap());
        host.until(|ring, _| ring.numbers().sockets_current == 0);
    }
    assert_eq!(host.ring.numbers().connects_started, 5);
    host.finish();
}

#[test]
fn failed_connect_is_reported_when_its_port_is_free_again() {
    let target = free_source();
    let source = free_source();
    let mut host = Host::new(&small());
    host.ring.connect(target, &from(source), 7).unwrap();
    assert_eq!(failure(&mut host), (7, Errno::CONNREFUSED.raw_os_error()));
    assert_eq!(host.ring.numbers().sockets_current, 0);
    // Without SO_REUSEADDR a bind tells whether anything has the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    host.finish();
}

#[test]
fn port_of_another_socket_is_refused_by_the_kernel() {
    let listener = TcpListener::bind("127.0.0.3:0").unwrap();
    let source = listener.local_addr().unwrap();
    let mut host = Host::new(&small());
    let error = host
        .ring
        .connect(free_source(), &from(source), 1)
        .unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::ADDRINUSE));
    host.finish();
}

/// Returns a listener whose queue is full: the kernel drops what comes, and a connect hears nothing.
fn black_hole() -> (socket2::Socket, Vec<socket2::Socket>, SocketAddr) {
    let tcp = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = tcp();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..8 {
        let socket = tcp();
        if socket
            .connect_timeout(&address, Duration::from_millis(200))
            .is_err()
        {
            return (listener, queued, address.as_socket().unwrap());
        }
        queued.push(socket);
    }
    panic!("the queue of a listener never fills");
}

#[test]
fn connect_that_hears_nothing_can_be_given_up() {
    let (_listener, _queued, target) = black_hole();
    let mut host = Host::new(&small());
    for token in 0..3 {
        host.ring
            .connect(target, &from(free_source()), token)
            .unwrap();
    }
    // Before anything was submitted, and while it is under way.
    host.ring.cancel_connect(0);
    assert_eq!(failure(&mut host), (0, Errno::CANCELED.raw_os_error()));
    host.until(|ring, _| ring.numbers().sockets_current == 2);
    host.ring.cancel_connect(1);
    assert_eq!(failure(&mut host), (1, Errno::CANCELED.raw_os_error()));
    // One that nobody knows changes nothing.
    host.ring.cancel_connect(77);
    // Closing the socket of a connect ends it as well.
    let slots: Vec<_> = host.ring.open_slots().collect();
    assert_eq!(slots.len(), 1);
    host.ring.close(slots[0]);
    assert_eq!(failure(&mut host), (2, Errno::CANCELED.raw_os_error()));
    host.finish();
}

/// Ways to give a socket its local port.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Nothing is said: the kernel looks through the host's range.
    Kernel,
    /// `IP_BIND_ADDRESS_NO_PORT`, `IP_LOCAL_PORT_RANGE`, bind to the address.
    Range,
    /// The port of a permit, bound exactly, and the two options as the relay sets them.
    Permit,
}

/// Not a test of behaviour: prints what a connect costs by the share of ports in use. Needs a network of
/// its own with the range 20000 to 23999 (docs/internals/uring.md has the command).
#[test]
#[ignore = "a measurement; run with --ignored --nocapture in a namespace"]
fn cost_of_a_connect_by_ports_in_use() {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    assert_eq!(
        range.trim(),
        "20000\t23999",
        "not in a namespace of its own"
    );
    for _ in 0..3 {
        for way in [Way::Kernel, Way::Range, Way::Permit] {
            measure(way);
        }
    }
}

fn measure(way: Way) {
    const PORTS: usize = 4_000;
    let options = ListenOptions {
        address: "127.0.0.9:9000".parse().unwrap(),
        backlog: 4_096,
        congestion: None,
        closes_with_fin: false,
    };
    // Its queue holds them all: nobody accepts.
    let listener = Listener::bind(&options).unwrap();
    let target = listener.address();
    let address = "127.0.0.1".parse().unwrap();
    let kind = PortKind::Local(Some(address));
    let ports = PortSet::range(20_000, 23_999);
    let mut budget = PortBudget::new(kind, 0, &ports, Duration::ZERO);
    let mut sockets = Vec::new();
    let mut permits = Vec::new();
    let mut costs_ns = Vec::new();
    while sockets.len() < PORTS {
        let before = clock();
        let connected = match way {
            Way::Kernel => connect(target, &ConnectOptions::default()),
            Way::Range => connect(
                target,
                &ConnectOptions {
                    source: Some(SocketAddr::new(address, 0)),
                    port_range: Some((20_000, 23_999)),
                    ..ConnectOptions::default()
                },
            ),
            Way::Permit => {
                let permit = budget.try_take(Now::ZERO).unwrap();
                let source = SocketAddr::new(address, permit.port());
                permits.push(permit);
                let options = ConnectOptions {
                    port_range: Some((20_000, 23_999)),
                    ..from(source)
                };
                connect(target, &options)
            }
        };
        sockets.push(connected.unwrap());
        costs_ns.push((clock() - before).as_nanos());
    }
    let before = clock();
    let refused_ns = match way {
        Way::Kernel => elapsed_of_err(before, connect(target, &ConnectOptions::default())),
        Way::Range => elapsed_of_err(before, connect(target, &from(SocketAddr::new(address, 0)))),
        Way::Permit => elapsed_of_err(before, budget.try_take(Now::ZERO)),
    };
    print!("{way:?}:");
    for (from, to) in [(0, 10), (45, 55), (95, 98), (98, 100)] {
        let mut part = costs_ns[PORTS * from / 100..PORTS * to / 100].to_vec();
        part.sort_unstable();
        let at = |percent: usize| part[(part.len() - 1) * percent / 100];
        print!("  {from}-{to} %: p50 {} p99 {} ns", at(50), at(99));
    }
    println!("  refused in {refused_ns} ns");
}

/// Returns the time since `before`, of something that must have failed.
fn elapsed_of_err<T, E>(before: Instant, result: Result<T, E>) -> u128 {
    let elapsed = clock() - before;
    assert!(result.is_err());
    elapsed.as_nanos()
}

fn connect(target: SocketAddr, options: &ConnectOptions) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::from(socket::outbound(target, options)?);
    socket.connect(&target.into())?;
    Ok(socket)
}
