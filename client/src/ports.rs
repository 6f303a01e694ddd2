//! Ephemeral ports of the opener.
//!
//! Here: which source ports are in use, and the permit that gives one back when dropped. Not here:
//! the ports of listeners.
//!
//! Invariant: a port is in use exactly as long as its permit lives.
//! Bound: 16,384 ports, one bit each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_proto::limits::EPHEMERAL_PORT_MIN;

/// The source ports of one client.
#[derive(Debug)]
pub(crate) struct Ports {
    table: Mutex<Table>,
}

/// The right to use one source port.
#[derive(Debug)]
pub(crate) struct PortPermit {
    ports: Arc<Ports>,
    port: u16,
}

#[derive(Debug)]
struct Table {
    /// One bit a port, set when it is in use.
    words: Box<[u64]>,
    /// Where the search starts: a port comes back only after all others had their turn.
    cursor: usize,
}

impl Ports {
    pub(crate) fn new() -> Arc<Self> {
        let table = Table {
            words: vec![0; WORDS].into_boxed_slice(),
            cursor: 0,
        };
        Arc::new(Self {
            table: Mutex::new(table),
        })
    }

    /// Takes a free port; `None` when all are in use.
    pub(crate) fn try_take(self: &Arc<Self>) -> Option<PortPermit> {
        let port = self.lock().take()?;
        Some(PortPermit {
            ports: Arc::clone(self),
            port,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self) -> Option<u16> {
        // One step more than there are words: the first word is searched from the cursor, and once
        // more as a whole.
        for step in 0..=WORDS {
            let index = (self.cursor / 64 + step) % WORDS;
            let before = if step == 0 {
                (1 << (self.cursor % 64)) - 1
            } else {
                0
            };
            let free = !(self.words[index] | before);
            if free == 0 {
                continue;
            }
            let bit = free.trailing_zeros();
            self.words[index] |= 1 << bit;
            let offset = index * 64 + usize::try_from(bit).ok()?;
            self.cursor = (offset + 1) % PORTS;
            return Some(EPHEMERAL_PORT_MIN + u16::try_from(offset).ok()?);
        }
        None
    }

    fn give(&mut self, port: u16) {
        let offset = usize::from(port - EPHEMERAL_PORT_MIN);
        self.words[offset / 64] &= !(1 << (offset % 64));
    }
}

impl PortPermit {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PortPermit {
    fn drop(&mut self) {
        self.ports.lock().give(self.port);
    }
}

const PORTS: usize = 16_384;
const WORDS: usize = PORTS / 64;

const _: () = assert!(PORTS == 65_536 - 49_152 && EPHEMERAL_PORT_MIN == 49_152);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_given_once_and_comes_back() {
        let ports = Ports::new();
        let mut permits: Vec<PortPermit> = (0..PORTS).filter_map(|_| ports.try_take()).collect();
        let mut taken: Vec<u16> = permits.iter().map(PortPermit::port).collect();
        taken.dedup();
        assert_eq!(taken, (EPHEMERAL_PORT_MIN..=u16::MAX).collect::<Vec<_>>());
        assert!(ports.try_take().is_none());

        let freed = permits.swap_remove(77).port();
        assert_eq!(ports.try_take().map(|permit| permit.port()), Some(freed));
    }

    #[test]
    fn a_port_rests_until_the_others_had_their_turn() {
        let ports = Ports::new();
        let first = ports.try_take().map(|permit| permit.port());
        let second = ports.try_take().map(|permit| permit.port());
        assert_ne!(first, second);
    }
}
