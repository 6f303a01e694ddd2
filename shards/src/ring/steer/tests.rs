//! Tests of the program with real listeners, and what the other way to balance by a program would cost.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Instant;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

use super::*;
use crate::ring::ListenOptions;

fn group(address: &str, count: usize) -> Vec<Listener> {
    let mut address: SocketAddr = address.parse().unwrap();
    let mut listeners = Vec::new();
    for _ in 0..count {
        let listener = Listener::bind(&ListenOptions {
            address,
            backlog: 1_024,
            congestion: None,
            closes_with_fin: false,
        })
        .unwrap();
        listener.socket().set_nonblocking(true).unwrap();
        address = listener.address();
        listeners.push(listener);
    }
    listeners
}

fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let stream = Type::STREAM;
    let socket = Socket::new(Domain::for_address(to), stream, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Returns who has connected to each listener.
fn accepted(listeners: &[Listener]) -> Vec<Vec<IpAddr>> {
    let of_one = |listener: &Listener| {
        std::iter::from_fn(|| {
            let (_, from) = listener.socket().accept().ok()?;
            Some(from.as_socket().unwrap().ip())
        })
        .collect()
    };
    listeners.iter().map(of_one).collect()
}

/// What the program says, in Rust.
fn place_of(from: IpAddr, count: u32) -> u32 {
    let word = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().unwrap());
    let source = match from {
        IpAddr::V4(address) => word(&address.octets()),
        IpAddr::V6(address) => word(&address.octets()) ^ word(&address.octets()[4..]),
    };
    (source.wrapping_mul(MIX) >> 16) % count
}

#[test]
fn one_address_always_comes_to_the_same_listener() {
    let listeners = group("127.0.0.1:0", 3);
    steer_by_source(&listeners).unwrap();
    let to = listeners[0].address();
    let mut open = Vec::new();
    for last in 1..=40 {
        let from = IpAddr::from([127, 0, 0, last]);
        open.extend((0..4).map(|_| connect(from, to)));
    }
    let mut sum = 0;
    for (place, sources) in (0..).zip(accepted(&listeners)) {
        // The place in the group is the order in which they were bound.
        assert!(sources.iter().all(|from| place_of(*from, 3) == place));
        assert!(sources.len() >= 20, "{} of 160", sources.len());
        sum += sources.len();
    }
    assert_eq!(sum, 160);
}

#[test]
fn peers_of_both_families_are_steered() {
    let listeners = group("[::]:0", 4);
    steer_by_source(&listeners).unwrap();
    let port = listeners[0].address().port();
    let six: IpAddr = "::1".parse().unwrap();
    let four = IpAddr::from([127, 0, 0, 9]);
    let _open: Vec<_> = (0..20)
        .map(|number| match number % 2 {
            0 => connect(six, SocketAddr::new(six, port)),
            _ => connect(four, SocketAddr::from(([127, 0, 0, 1], port))),
        })
        .collect();
    for (place, sources) in (0..).zip(accepted(&listeners)) {
        for from in sources {
            assert_eq!(place_of(from.to_canonical(), 4), place, "{from}");
        }
    }
}

#[test]
fn addresses_spread_over_the_places() {
    for count in [2, 3, 8] {
        let mut sums = vec![0_u32; count as usize];
        for number in 0..10_000_u32 {
            let from = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            sums[place_of(from, count) as usize] += 1;
        }
        let (least, most) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
        assert!(most - least < 10_000 / count / 10, "{sums:?}");
    }
}

/// `random % 1,000` against the bounds of the weights.
fn by_weight(weights: &[u32]) -> Vec<libc::sock_filter> {
    const RANDOM: u32 = 0xffff_f000 + 56;
    const IS_AT_LEAST: u16 = 0x35;
    const RETURN_VALUE: u16 = 0x06;
    let mut program = vec![plain(LOAD, RANDOM), plain(MODULO, 1_000)];
    let mut bound = 0;
    for (place, weight) in (0..).zip(weights) {
        bound += weight;
        program.push(jump(IS_AT_LEAST, bound, 1, 0));
        program.push(plain(RETURN_VALUE, place));
    }
    program.push(plain(RETURN_VALUE, 0));
    program
}

/// Not a test of behaviour: prints what it costs to give the group another program, and how even it gets.
#[test]
#[ignore = "a measurement; run with --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn cost_of_balance_by_weights() {
    let listeners = group("127.0.0.1:0", 2);
    let to = listeners[0].address();
    let rounds = 2_000;
    let before = Instant::now();
    for round in 0..rounds {
        let weight = 400 + round % 200;
        attach(&listeners[0], &by_weight(&[weight, 1_000 - weight])).unwrap();
    }
    println!("{:?} a new program", before.elapsed() / rounds);
    for every in [10_u32, 100, 1_000] {
        let mut counts = [0_u32; 2];
        let mut most = 0;
        for _ in 0..10_000 / every {
            // As much more for the emptier one as it lacks.
            let lead = (i64::from(counts[0]) - i64::from(counts[1])) * 500 / i64::from(every);
            let weight = u32::try_from((500 - lead).clamp(0, 1_000)).unwrap();
            attach(&listeners[0], &by_weight(&[weight, 1_000 - weight])).unwrap();
            let open: Vec<_> = (0..every).map(|_| connect(to.ip(), to)).collect();
            for (count, sources) in counts.iter_mut().zip(accepted(&listeners)) {
                *count += u32::try_from(sources.len()).unwrap();
            }
            drop(open);
            most = most.max(counts[0].abs_diff(counts[1]));
        }
        println!(
            "a new program each {every} of 10,000 connections: {counts:?}, {most} apart at most"
        );
    }
}
