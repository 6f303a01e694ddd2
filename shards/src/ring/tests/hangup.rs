//! Connections that end right behind their last bytes.
//!
//! Two wake-ups are then one for the kernel. Before Linux 7.0 and the stable kernels with its commit
//! a68ed2df7213 a receive missed the second one, and the first test here says so.

use super::*;

/// Sends bytes and ends the connection, both between two turns of the host.
fn ends_behind_bytes(end: impl FnOnce(&TcpStream), wanted: &[ReceiveEnd]) {
    let (mut host, address) = Host::listening(&small());
    let mut peer = peer(address);
    let slot = host.accept();
    host.ring.receive(slot);
    host.until(|_, _| true);
    peer.write_all(b"last words").unwrap();
    end(&peer);
    drop(peer);
    let mut bytes = 0;
    let mut ended = None;
    host.until(|_, completion| {
        match completion {
            Some(Completion::Received { lease, .. }) => bytes += lease.len(),
            Some(Completion::ReceiveEnded { end, .. }) => {
                assert_eq!(ended.replace(end), None, "one end");
            }
            _ => {}
        }
        ended.is_some()
    });
    assert_eq!(bytes, 10);
    assert!(wanted.contains(&ended.unwrap()), "{ended:?}");
    host.finish();
}

fn reset(peer: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(peer, Some(Duration::ZERO)).unwrap();
}

const ECONNRESET: ReceiveEnd = ReceiveEnd::Error(104);

#[test]
fn reset_behind_bytes_of_the_same_turn_is_seen() {
    ends_behind_bytes(reset, &[ECONNRESET]);
}

#[test]
fn end_behind_bytes_of_the_same_turn_is_seen() {
    ends_behind_bytes(|_| {}, &[ReceiveEnd::Eof]);
}

#[test]
fn sockets_that_hang_up_while_they_are_closed_leave_nothing() {
    let (mut host, address) = Host::listening(&small());
    for round in 0..200 {
        let mut peer = peer(address);
        let slot = host.accept();
        host.ring.receive(slot);
        if round % 2 == 0 {
            host.until(|_, _| true);
        }
        peer.write_all(b"last words").unwrap();
        if round % 3 == 0 {
            reset(&peer);
        }
        let close_first = round % 5 == 0;
        if close_first {
            host.ring.close(slot);
        }
        drop(peer);
        if !close_first {
            if round % 7 == 0 {
                host.until(|_, _| true);
            }
            host.ring.close(slot);
        }
        host.until(|ring, _| ring.numbers().sockets_current == 0);
    }
    assert_eq!(host.ring.numbers().closes_chased, 0);
    host.finish();
}
