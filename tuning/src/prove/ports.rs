//! Connections to one destination at once, each with a port of its own.
//!
//! Here: opening a bounded number, how long the search for a port takes. Not here: how many there may be
//! (`super::share`): a live host must not run out of ports for a test.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::loopback::{dial, listener, reset_at_end, silence};
use crate::watch::float;

/// What one round came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) address: SocketAddr,
    /// Connections that were held at once.
    pub(super) taken: u64,
    /// Time of each, its accept included, microseconds.
    pub(super) micros_each: Option<f64>,
    /// There was no further port.
    pub(super) is_exhausted: bool,
}

/// Opens `count` connections, or as many as there is time for, and closes them.
pub(super) fn run(time: Duration, count: u64) -> io::Result<Outcome> {
    let (listener, address) = listener(1)?;
    let started = Instant::now();
    // Closing takes about a third of the time.
    let until = started + time * 2 / 3;
    let mut held = Vec::new();
    let (mut taken, mut is_exhausted) = (0, false);
    while taken < count && (taken < TAKEN_MIN || Instant::now() < until) {
        match dial(address) {
            Ok(Some(here)) => {
                let (there, _) = listener.accept()?;
                reset_at_end(&there)?;
                held.push((here, there));
                taken += 1;
            }
            Ok(None) => return Err(silence()),
            Err(error) if error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error()) => {
                is_exhausted = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let took = started.elapsed();
    drop(held);
    Ok(Outcome {
        address,
        taken,
        micros_each: (taken > 0).then(|| took.as_secs_f64() * 1e6 / float(taken)),
        is_exhausted,
    })
}

/// Connections that are made however little time there is.
const TAKEN_MIN: u64 = 32;
