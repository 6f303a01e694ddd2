//! Ephemeral ports of the opener.
//!
//! Here: the permit that gives a source port back when dropped. Not here: which port is free (proto's
//! `ports`, which the relay uses too), the ports of listeners.
//!
//! Invariant: a port is in use exactly as long as its permit lives, and rests for
//! `PORT_QUARANTINE_VIRTUAL` after that.
//! Bound: 16,384 ports, three bits each and 16 bytes for one that rests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringway_proto::limits::{EPHEMERAL_PORT_MIN, PORT_QUARANTINE_VIRTUAL};
use ringway_proto::ports::{PortPool, PortSet, PortUse};
use ringway_proto::time::Now;

use crate::inside::Inside;

/// The source ports of one client.
#[derive(Debug)]
pub(crate) struct Ports {
    pool: Mutex<PortPool>,
    epoch: Instant,
}

/// The right to use one source port.
#[derive(Debug)]
#[must_use = "a dropped permit gives its port back"]
pub(crate) struct PortPermit {
    ports: Arc<Ports>,
    port: u16,
}

impl Ports {
    /// Returns all ephemeral ports, or those of a client inside of its relay.
    pub(crate) fn new(inside: Option<&Inside>) -> Arc<Self> {
        let pool = match inside {
            Some(inside) => PortPool::new(&inside.ports, Duration::ZERO),
            None => {
                let ports = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX);
                PortPool::new(&ports, PORT_QUARANTINE_VIRTUAL)
            }
        };
        Arc::new(Self {
            pool: Mutex::new(pool),
            epoch: Instant::now(),
        })
    }

    /// Takes a free port; says how full the pool is when there is none.
    pub(crate) fn try_take(self: &Arc<Self>) -> Result<PortPermit, PortUse> {
        let mut pool = self.lock();
        match pool.try_take(self.now()) {
            Some(port) => Ok(PortPermit {
                ports: Arc::clone(self),
                port,
            }),
            None => Err(pool.usage()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PortPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now::ZERO + self.epoch.elapsed()
    }
}

impl PortPermit {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortPermit {
    fn drop(&mut self) {
        let now = self.ports.now();
        self.ports.lock().give(self.port, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::DialError;

    #[test]
    fn every_port_is_given_once_and_rests_before_it_comes_back() {
        let ports = Ports::new(None);
        let permits: Vec<PortPermit> = (0..16_384).filter_map(|_| ports.try_take().ok()).collect();
        let taken: Vec<u16> = permits.iter().map(PortPermit::port).collect();
        assert_eq!(taken, (EPHEMERAL_PORT_MIN..=u16::MAX).collect::<Vec<_>>());
        drop(permits);
        let usage = ports.lock().usage();
        assert_eq!((usage.in_use, usage.quarantined), (0, 16_384));
        let end = ports.now() + PORT_QUARANTINE_VIRTUAL;
        ports.lock().settle(end);
        assert!(ports.try_take().is_ok());
    }

    #[test]
    fn exhaustion_says_have_want_and_reason() {
        let ports = Ports::new(None);
        let _permits: Vec<PortPermit> = (0..16_384).filter_map(|_| ports.try_take().ok()).collect();
        let error = ports.try_take().map_err(DialError::ports).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no ephemeral port is free: 16384 of 16384 in use or in quarantine, 1 wanted (reason 401); \
             close streams, or dial more slowly"
        );
    }
}
