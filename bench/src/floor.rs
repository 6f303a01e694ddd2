//! Loops that do nothing but what cannot be left out.
//!
//! Here: connections that are made and reset, a clock that is read, handshakes without sockets. Not here:
//! pinning, flags (`floor`, the program).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringway_proto::handshake::{HandshakeError, Initiator, Offer, RelayIdentity, Responder, Role};
use ringway_proto::key::SecretKey;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What came of [`connects`].
#[derive(Debug, Clone, Copy)]
pub struct Connects {
    /// Connections made and reset.
    pub count: u64,
    /// Time they took.
    pub took: Duration,
}

/// Makes connections to `server` and resets them for `time`, as fast as one thread can.
///
/// # Errors
/// The first call that fails.
pub fn connects(server: SocketAddr, time: Duration) -> io::Result<Connects> {
    let address = SockAddr::from(server);
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        for _ in 0..CONNECTS_BETWEEN_LOOKS {
            connect(server, &address)?;
            count += 1;
        }
    }
    Ok(Connects {
        count,
        took: begun.elapsed(),
    })
}

/// Makes `rate` connections a second to `server` for `time` and resets them; returns how late the thread
/// noticed that the next one was due.
///
/// # Errors
/// The first call that fails.
pub fn paced_connects(server: SocketAddr, rate: u64, time: Duration) -> io::Result<Clock> {
    let address = SockAddr::from(server);
    paced(rate, time, &mut Instant::now, |_, _, _| {
        connect(server, &address)
    })
}

/// Four blocking system calls: socket, `SO_LINGER`, connect, close.
fn connect(server: SocketAddr, address: &SockAddr) -> io::Result<()> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(address)
}

/// What came of [`clock`] and [`paced_connects`]: how late events were noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The median.
    pub p50: Duration,
    /// What 1 of 100 events exceeded.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

/// Reads a clock for `time` without pause and notes how late each of `rate` events a second is noticed,
/// which lie at equal distances. Each event is then worked on for `busy_percent` of that distance, as a
/// generator does whose load is so much of what it can.
pub fn clock(
    rate: u64,
    time: Duration,
    busy_percent: u32,
    mut now: impl FnMut() -> Instant,
) -> Clock {
    let busy = |now: &mut dyn FnMut() -> Instant, seen, gap: Duration| {
        let until = seen + gap * busy_percent / 100;
        while busy_percent > 0 && now() < until {}
        Ok::<(), Infallible>(())
    };
    let Ok(found) = paced(rate, time, &mut now, busy);
    found
}

/// Notes how late each of `rate` events a second is noticed, and does `work` for each: it is told the
/// clock, when the event was noticed, and the distance of events.
fn paced<E>(
    rate: u64,
    time: Duration,
    now: &mut dyn FnMut() -> Instant,
    mut work: impl FnMut(&mut dyn FnMut() -> Instant, Instant, Duration) -> Result<(), E>,
) -> Result<Clock, E> {
    let gap = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
    let events = time.as_nanos() / gap.as_nanos().max(1);
    let mut lags = Vec::new();
    let mut due = now();
    while u128::try_from(lags.len()).unwrap_or(u128::MAX) < events {
        let seen = now();
        if due > seen {
            continue;
        }
        lags.push(seen - due);
        due += gap;
        work(now, seen, gap)?;
    }
    lags.sort_unstable();
    let at = |percent: usize| {
        let place = (lags.len() * percent / 100).min(lags.len().saturating_sub(1));
        lags.get(place).copied().unwrap_or_default()
    };
    Ok(Clock {
        p50: at(50),
        p99: at(99),
        longest: at(100),
    })
}

/// What came of [`handshakes`]: time for each step of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handshakes {
    /// The relay's, from message 1 to message 2.
    pub message_1: Duration,
    /// The relay's, from message 3 to the session's keys.
    pub message_3: Duration,
    /// The peer's, all of it.
    pub peer: Duration,
}

/// Makes `count` handshakes in memory: what they cost without sockets, threads and queues.
///
/// # Errors
/// When two sides of this version do not understand each other.
pub fn handshakes(count: u32) -> Result<Handshakes, HandshakeError> {
    let relay = SecretKey::from_seed([1; 32]);
    let identity = RelayIdentity::new(&relay);
    let peer = SecretKey::from_seed([2; 32]);
    let offer = Offer {
        capabilities: 0,
        streams_max: 2_048,
        stream_window: 262_144,
        keepalive_s: 30,
    };
    let mut sum = Handshakes::default();
    for _ in 0..count {
        let begun = Instant::now();
        let (initiator, message_1) =
            Initiator::new(&peer, &relay.public(), Role::Peer, &[], [3; 32])?;
        let begun_1 = Instant::now();
        let mut responder = Responder::new(&identity, offer, [4; 32]);
        let message_2 = responder.message_1(&message_1[PREFIX_LEN..])?;
        let ended_1 = Instant::now();
        let (message_3, _) = initiator.message_2(&message_2[PREFIX_LEN..])?;
        let begun_3 = Instant::now();
        responder.message_3(&message_3[PREFIX_LEN..])?;
        let ended_3 = Instant::now();
        sum.message_1 += ended_1 - begun_1;
        sum.message_3 += ended_3 - begun_3;
        sum.peer += (begun_1 - begun) + (begun_3 - ended_1);
    }
    Ok(Handshakes {
        message_1: sum.message_1 / count.max(1),
        message_3: sum.message_3 / count.max(1),
        peer: sum.peer / count.max(1),
    })
}

/// Bytes of a message's length in front of it.
const PREFIX_LEN: usize = 2;

/// Reading the clock is then a thousandth of the loop.
const CONNECTS_BETWEEN_LOOKS: u32 = 64;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Accepts while `made` connects; returns how many connections came, and one more.
    fn accepted(made: impl FnOnce(SocketAddr)) -> u64 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let accepting = {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut count = 0;
                while !is_over.load(Ordering::Acquire) {
                    drop(listener.accept());
                    count += 1;
                }
                listener.set_nonblocking(true).unwrap();
                while listener.accept().is_ok() {
                    count += 1;
                }
                count
            })
        };
        made(address);
        is_over.store(true, Ordering::Release);
        // One more connection, so that it looks.
        drop(std::net::TcpStream::connect(address));
        accepting.join().unwrap()
    }

    #[test]
    fn connections_are_made_and_counted() {
        accepted(|address| {
            let made = connects(address, Duration::from_millis(1)).unwrap();
            assert!(made.count >= 64 && made.took >= Duration::from_millis(1));
        });
    }

    #[test]
    fn paced_connections_are_as_many_as_the_rate_says() {
        let count = accepted(|address| {
            paced_connects(address, 1_000, Duration::from_millis(50)).unwrap();
        });
        // A connection that was reset before it was accepted is accepted all the same.
        assert_eq!(count, 50 + 1);
    }

    #[test]
    fn nobody_to_connect_to_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(connects(address, Duration::from_millis(1)).is_err());
        assert!(paced_connects(address, 10, Duration::from_millis(100)).is_err());
    }

    #[test]
    fn handshakes_come_to_their_end() {
        let found = handshakes(2).unwrap();
        assert!(!found.message_1.is_zero() && !found.message_3.is_zero());
        assert!(!found.peer.is_zero());
    }

    #[test]
    fn a_stop_delays_every_event_within_it() {
        // A clock that stands for 0.2 s once and else goes on by 1 us a look.
        let (start, mut looks) = (Instant::now(), 0_u32);
        let mut stopped = |busy_percent| {
            looks = 0;
            // An event each 100 us.
            clock(10_000, Duration::from_secs(10), busy_percent, || {
                looks += 1;
                let stop = if looks > 500 { 200_000 } else { 0 };
                start + Duration::from_micros(u64::from(looks) + stop)
            })
        };
        let found = stopped(0);
        assert!(found.p50 <= Duration::from_micros(1));
        // 2,000 of 100,000 events were due within the stop: half of them more than 0.1 s before its end.
        assert_eq!(found.p99.as_millis() / 10, 10);
        assert!(found.longest >= Duration::from_millis(199));
        // At half load 4,000 are late until all has been done, 50 us less each: 1,000 by more than 0.15 s.
        let found = stopped(50);
        assert_eq!(found.p99.as_millis() / 10, 15);
    }
}
