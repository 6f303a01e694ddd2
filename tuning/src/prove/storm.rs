//! Many connections at once against a listener that accepts late.
//!
//! Here: the connects, how many the queue held, how long each took. Not here: what that means (`remarks`).
//!
//! A relay that has just started again meets its peers like this: all of them connect while it still does
//! something else, and whoever the queue does not hold waits a second or longer.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::loopback::{dial, listener, reset_at_end};
use super::{histogram, nanoseconds};
use crate::watch::float;

/// What the storms of one round came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) address: SocketAddr,
    /// Connections a second, each opened, accepted and reset.
    pub(super) per_second: Option<f64>,
    /// How long each connect took, nanoseconds.
    pub(super) times: Histogram<u32>,
    /// Connects of the largest storm.
    pub(super) tried: u64,
    /// Connections that waited in the queue at once, at most.
    pub(super) held: u64,
    /// Connects without an answer; each ends its storm.
    pub(super) unanswered: u64,
    /// The last storm ended before it was complete, for lack of time.
    is_cut_by_time: bool,
}

/// Makes storms of `burst` connections for a while; at least one.
pub(super) fn run(time: Duration, burst: u64) -> io::Result<Outcome> {
    let (listener, address) = listener(burst)?;
    listener.set_nonblocking(true)?;
    let mut outcome = Outcome {
        address,
        per_second: None,
        times: histogram()?,
        tried: 0,
        held: 0,
        unanswered: 0,
        is_cut_by_time: false,
    };
    let started = Instant::now();
    // What was opened must be accepted and closed, which takes about as long as half of the opening.
    let open_until = started + time * 2 / 3;
    let (mut count, mut spent, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    while count == 0 || started.elapsed() + longest < time {
        let storm_at = Instant::now();
        let held = outcome.storm(burst, open_until)?;
        accept(&listener, held)?;
        longest = longest.max(storm_at.elapsed());
        spent += storm_at.elapsed();
        count += 1;
        if outcome.unanswered > 0 || outcome.is_cut_by_time {
            break;
        }
    }
    // The wait for an answer that does not come is no measure of speed.
    if outcome.unanswered == 0 {
        outcome.per_second = Some(float(outcome.times.len()) / spent.as_secs_f64());
    }
    Ok(outcome)
}

impl Outcome {
    /// Opens connections until there are enough, time is up or nobody answers.
    fn storm(&mut self, burst: u64, until: Instant) -> io::Result<Vec<TcpStream>> {
        let mut held = Vec::new();
        let mut tried = 0;
        while tried < burst {
            let now = Instant::now();
            if now >= until && tried >= STORM_MIN {
                self.is_cut_by_time = true;
                break;
            }
            tried += 1;
            let Some(connection) = dial(self.address)? else {
                self.unanswered += 1;
                break;
            };
            self.times.saturating_record(nanoseconds(now.elapsed()));
            held.push(connection);
        }
        self.tried = self.tried.max(tried);
        let count = u64::try_from(held.len()).unwrap_or(u64::MAX);
        self.held = self.held.max(count);
        Ok(held)
    }
}

/// Accepts what waits and closes both ends of it.
fn accept(listener: &TcpListener, held: Vec<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((there, _)) => reset_at_end(&there)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    drop(held);
    Ok(())
}

/// Connects of each storm that are made however little time there is.
const STORM_MIN: u64 = 64;
