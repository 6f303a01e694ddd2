//! Outbound connections: every way in which a dial ends, and what it holds until then.

use ::core::net::SocketAddr;
use std::time::Duration;

use ringway_proto::limits::{DIAL_TIMEOUT, PORT_ASIDE};
use ringway_proto::reason::Reason;

use super::harness::{Connect, Harness, HeapLease};
use crate::core::{ConnectFault, DialError, DialKey, Dialed, RecvEnd, Slot};

const REST: Duration = Duration::from_secs(1);
const ECONNREFUSED: i32 = 111;

fn target() -> SocketAddr {
    "127.0.0.9:7100".parse().unwrap()
}

/// Dials, and takes what the core wants to be connected.
fn start(harness: &mut Harness) -> Connect {
    let dial = harness.cores[0].dial(target(), harness.now).unwrap();
    harness.run();
    let connect = harness.connects.pop_back().unwrap();
    assert_eq!((connect.dial, connect.target), (dial, target()));
    connect
}

/// Dials and lets the connection stand in `slot`.
fn establish(harness: &mut Harness, slot: u32) -> Dialed {
    let connect = start(harness);
    harness.cores[0].connected(connect.dial, Slot(slot), harness.now);
    harness.run();
    let (dial, outcome) = harness.dialed.pop().unwrap();
    assert_eq!(dial, connect.dial);
    let dialed = outcome.unwrap();
    assert_eq!(dialed.source, connect.source);
    dialed
}

fn refuse(harness: &mut Harness) -> DialError {
    let before = harness.connects.len();
    let error = harness.cores[0].dial(target(), harness.now).unwrap_err();
    harness.run();
    assert_eq!(harness.connects.len(), before, "a refused dial did work");
    assert_eq!(harness.dialed, []);
    error
}

fn fail(harness: &mut Harness, dial: DialKey, fault: ConnectFault) {
    harness.cores[0].connect_failed(dial, fault, harness.now);
    harness.run();
}

fn ports(harness: &Harness) -> (u64, u32) {
    let core = &harness.cores[0];
    let audit = core.audit();
    (audit.local_ports, core.stats().local_ports.quarantined)
}

#[test]
fn dial_holds_its_port_until_the_socket_is_closed() {
    let mut harness = Harness::new(1);
    let dialed = establish(&mut harness, 50);
    assert_eq!(harness.cores[0].audit().sockets, 1);
    assert_eq!(ports(&harness), (1, 0));
    harness.holds_closes = true;
    assert!(harness.cores[0].hang_up(dialed.place.session, harness.now));
    assert!(!harness.cores[0].hang_up(dialed.place.session, harness.now));
    harness.run();
    assert_eq!(harness.closes_held, [Slot(50)]);
    assert_eq!(ports(&harness), (1, 0), "the socket still has its port");
    harness.cores[0].closed(Slot(50));
    harness.run();
    assert_eq!(ports(&harness), (0, 1));
    harness.pass(REST);
    assert_eq!(ports(&harness), (0, 0));
    assert_eq!(harness.cores[0].stats().dialed_hung_up, 1);
    harness.assert_clean();
}

#[test]
fn rest_begins_with_the_turn_that_finds_the_port_however_long_the_shard_slept() {
    let mut harness = Harness::new(1);
    let dialed = establish(&mut harness, 50);
    harness.holds_closes = true;
    harness.cores[0].hang_up(dialed.place.session, harness.now);
    harness.run();
    // The report of a close has no time of its own, and the last input that had one is a minute old.
    harness.now = harness.now + Duration::from_secs(60);
    harness.cores[0].closed(Slot(50));
    harness.run();
    harness.cores[0].collect_ports(harness.now);
    assert_eq!(ports(&harness), (0, 1));
}

#[test]
fn exhausted_ports_are_refused_at_once_with_have_and_want() {
    let mut harness = Harness::new(1);
    let held: Vec<Dialed> = (0..8)
        .map(|slot| establish(&mut harness, 50 + slot))
        .collect();
    let error = refuse(&mut harness);
    assert_eq!(error.reason(), Reason::LocalPortsExhausted);
    assert!(
        error.to_string().starts_with(
            "local ports of 127.0.0.1 towards 127.0.0.9:7100 on shard 0: 8 of 8 in use or in \
             quarantine, 1 wanted"
        ),
        "{error}"
    );
    assert_eq!(harness.cores[0].stats().local_ports.refused, 1);
    harness.cores[0].hang_up(held[3].place.session, harness.now);
    harness.run();
    assert_eq!(refuse(&mut harness).reason(), Reason::LocalPortsExhausted);
    harness.pass(REST);
    let again = establish(&mut harness, 53);
    assert_eq!(again.source, held[3].source);
    harness.assert_clean();
}

#[test]
fn connects_under_way_are_bounded() {
    let mut harness = Harness::new(1);
    for _ in 0..3 {
        start(&mut harness);
    }
    let error = refuse(&mut harness);
    assert_eq!(
        error,
        DialError::LocalDials {
            shard: 0,
            have: 3,
            max: 3
        }
    );
    assert_eq!(error.reason(), Reason::RelayCapacity);
    assert_eq!(ports(&harness).0, 3);
}

#[test]
fn dials_leave_no_more_sockets_than_may_be() {
    let mut harness = Harness::with(1, |config| config.admission.sockets_max = 2);
    harness.connect_raw(0);
    let connect = start(&mut harness);
    assert!(matches!(
        refuse(&mut harness),
        DialError::LocalSockets {
            have: 2,
            max: 2,
            ..
        }
    ));
    fail(&mut harness, connect.dial, ConnectFault::Peer(ECONNREFUSED));
    harness.dialed.clear();
    start(&mut harness);
}

#[test]
fn refused_connect_is_told_and_gives_its_port_back() {
    let mut harness = Harness::new(1);
    let connect = start(&mut harness);
    fail(&mut harness, connect.dial, ConnectFault::Peer(ECONNREFUSED));
    let (dial, outcome) = harness.dialed.pop().unwrap();
    assert_eq!(dial, connect.dial);
    assert_eq!(
        outcome,
        Err(DialError::PeerRefused {
            target: target(),
            errno: ECONNREFUSED
        })
    );
    assert_eq!(ports(&harness), (0, 1));
    harness.assert_clean();
}

#[test]
fn port_that_somebody_else_has_is_put_aside_and_another_one_tried() {
    let mut harness = Harness::new(1);
    let first = start(&mut harness);
    fail(&mut harness, first.dial, ConnectFault::PortTaken);
    let second = harness.connects.pop_back().unwrap();
    assert_eq!(second.dial, first.dial);
    assert_ne!(second.source, first.source);
    assert_eq!(ports(&harness), (1, 1));
    harness.cores[0].connected(second.dial, Slot(50), harness.now);
    harness.run();
    let (_, outcome) = harness.dialed.pop().unwrap();
    assert_eq!(outcome.unwrap().source, second.source);
    harness.pass(REST);
    assert_eq!(
        ports(&harness),
        (1, 1),
        "it is put aside for longer than a rest"
    );
    harness.pass(PORT_ASIDE);
    assert_eq!(ports(&harness), (1, 0));
    harness.assert_clean();
}

#[test]
fn two_taken_ports_end_the_dial() {
    let mut harness = Harness::new(1);
    let connect = start(&mut harness);
    fail(&mut harness, connect.dial, ConnectFault::PortTaken);
    fail(&mut harness, connect.dial, ConnectFault::PortTaken);
    let (_, outcome) = harness.dialed.pop().unwrap();
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, DialError::LocalPortsTaken { tries: 2, .. }),
        "{error}"
    );
    assert_eq!(error.reason(), Reason::LocalPortsExhausted);
    assert_eq!(ports(&harness), (0, 2));
    assert_eq!(harness.cores[0].stats().dial_ports_taken, 2);
    harness.assert_clean();
}

#[test]
fn taken_port_with_no_other_left_is_the_refusal_of_the_budget() {
    let mut harness = Harness::new(1);
    for slot in 0..7 {
        establish(&mut harness, 50 + slot);
    }
    let connect = start(&mut harness);
    fail(&mut harness, connect.dial, ConnectFault::PortTaken);
    let (_, outcome) = harness.dialed.pop().unwrap();
    assert!(
        matches!(outcome, Err(DialError::LocalPorts(_))),
        "{outcome:?}"
    );
    harness.assert_clean();
}

#[test]
fn black_hole_is_told_in_time_and_holds_its_port_until_the_driver_lets_go() {
    let mut harness = Harness::new(1);
    let connect = start(&mut harness);
    harness.pass(DIAL_TIMEOUT + Duration::from_secs(1));
    let (_, outcome) = harness.dialed.pop().unwrap();
    assert_eq!(outcome.unwrap_err().reason(), Reason::DialTimeout);
    assert_eq!(harness.cancelled, [connect.dial]);
    assert_eq!(ports(&harness), (1, 0));
    assert_eq!(harness.cores[0].audit().dials, 1);
    fail(&mut harness, connect.dial, ConnectFault::Peer(125));
    assert_eq!(harness.dialed, [], "answered twice");
    assert_eq!(ports(&harness), (0, 1));
    harness.assert_clean();
}

#[test]
fn connection_that_stands_after_it_was_given_up_is_closed() {
    let mut harness = Harness::new(1);
    let connect = start(&mut harness);
    harness.pass(DIAL_TIMEOUT + Duration::from_secs(1));
    harness.dialed.clear();
    harness.cores[0].connected(connect.dial, Slot(50), harness.now);
    harness.run();
    assert_eq!(harness.dialed, []);
    assert_eq!(harness.cores[0].audit().sockets, 0);
    assert_eq!(ports(&harness), (0, 1));
    harness.assert_clean();
}

#[test]
fn far_side_that_leaves_breaks_or_speaks_first_ends_the_connection() {
    let mut harness = Harness::new(1);
    for slot in 50..53 {
        establish(&mut harness, slot);
    }
    let now = harness.now;
    harness.cores[0].receive_ended(Slot(50), RecvEnd::Eof, now);
    harness.cores[0].receive_ended(Slot(51), RecvEnd::Error(104), now);
    let lease = HeapLease::new(b"hello", &harness.alive);
    harness.cores[0].received(Slot(52), lease, now);
    harness.run();
    let stats = harness.cores[0].stats();
    assert_eq!((stats.dialed_left, stats.dialed_lost), (1, 1));
    assert_eq!(stats.dialed_closed.of(Reason::ProtocolError), 1);
    assert_eq!(ports(&harness), (0, 3));
    harness.assert_clean();
}

#[test]
fn drain_ends_dials_and_dialed_connections() {
    let mut harness = Harness::new(1);
    establish(&mut harness, 50);
    let connect = start(&mut harness);
    let now = harness.now;
    harness.cores[0].drain(now);
    harness.run();
    let (dial, outcome) = harness.dialed.pop().unwrap();
    assert_eq!(
        (dial, outcome),
        (connect.dial, Err(DialError::LocalDraining))
    );
    assert_eq!(harness.cancelled, [connect.dial]);
    assert!(!harness.cores[0].is_drained());
    assert_eq!(refuse(&mut harness), DialError::LocalDraining);
    fail(&mut harness, connect.dial, ConnectFault::Peer(125));
    assert!(harness.cores[0].is_drained());
    assert!(harness.cores[0].audit().is_zero());
}

#[test]
fn old_name_of_a_connection_does_not_hang_up_its_successor() {
    let mut harness = Harness::new(1);
    let old = establish(&mut harness, 50);
    harness.cores[0].hang_up(old.place.session, harness.now);
    harness.run();
    let new = establish(&mut harness, 50);
    assert!(!harness.cores[0].hang_up(old.place.session, harness.now));
    assert!(harness.cores[0].hang_up(new.place.session, harness.now));
    harness.run();
    harness.assert_clean();
}

#[test]
fn virtual_ports_are_bounded_and_counted() {
    let mut harness = Harness::new(2);
    let now = harness.now;
    let mut held = Vec::new();
    for _ in 0..8_192 {
        held.push(harness.cores[1].take_virtual_port(now).unwrap());
    }
    assert!(held.iter().all(|permit| permit.port() >= 57_344));
    let refusal = harness.cores[1].take_virtual_port(now).unwrap_err();
    assert_eq!(refusal.reason(), Reason::VirtualPortsExhausted);
    assert_eq!(harness.cores[1].audit().virtual_ports, 8_192);
    drop(held);
    harness.assert_clean();
    assert_eq!(harness.cores[1].stats().virtual_ports.quarantined, 8_192);
}

#[test]
fn number_of_a_dial_is_the_dial_again() {
    let mut harness = Harness::new(1);
    let first = start(&mut harness);
    fail(&mut harness, first.dial, ConnectFault::Local(24));
    harness.dialed.clear();
    let second = start(&mut harness);
    assert_ne!(first.dial, second.dial);
    for dial in [first.dial, second.dial] {
        assert_eq!(DialKey::from_token(dial.token()), dial);
    }
}
