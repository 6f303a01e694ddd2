//! The driver's side of outbound connections, and a book of ports of its own.
//!
//! Here: connects that wait for their outcome, dialed sockets, who was answered, which port is in use or
//! rests. Not here: bytes and ends of a dialed socket, which are those of any socket (`world`).
//!
//! Invariant: whoever asked is answered once; no port is used twice at a time, nor before its rest is over.
//! Bound: one entry for each operation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ringway_proto::limits::{PORT_ASIDE, PORT_QUARANTINE_LOCAL};
use ringway_proto::time::Now;
use ringway_shards::core::{ConnectFault, DialError, DialKey, Dialed, SessionKey};

use super::socket::{Party, Socket};
use super::{SHARDS, SLOTS, World, number, slot_of};

/// Connects that one shard makes at once.
pub(super) const DIALS_MAX: u32 = 3;

/// First port of the relay's range.
pub(super) const PORT_MIN: u16 = 40_000;

const ECANCELED: i32 = 125;
const ECONNREFUSED: i32 = 111;
const ENFILE: i32 = 23;

/// A connect that is with the driver.
#[derive(Clone, Copy)]
struct Connect {
    shard: usize,
    dial: DialKey,
    port: u16,
    is_cancelled: bool,
}

/// See the module.
#[derive(Default)]
pub(in crate::shard_core) struct Dials {
    /// Ports of each shard's slice.
    slice_ports: u16,
    connects: Vec<Connect>,
    /// Who was not answered yet.
    asked: BTreeSet<(usize, DialKey)>,
    /// Connections that stood once: the socket, its connection, the core's name for it.
    stood: Vec<(usize, u64, SessionKey)>,
    /// Ports that were used: until when they rest, or nothing while they are in use.
    ports: BTreeMap<u16, Option<Now>>,
}

impl Dials {
    pub(super) fn new(slice_ports: u16) -> Self {
        Self {
            slice_ports,
            ..Self::default()
        }
    }

    /// Returns the connects of a shard that are with the driver.
    pub(in crate::shard_core) fn connects_count(&self, shard: usize) -> u64 {
        self.connects.iter().filter(|it| it.shard == shard).count() as u64
    }

    /// Returns the dials of a shard that nobody has answered.
    pub(in crate::shard_core) fn asked_count(&self, shard: usize) -> u64 {
        self.asked.iter().filter(|(of, _)| *of == shard).count() as u64
    }

    /// Returns the ports of a shard in use.
    pub(in crate::shard_core) fn ports_count(&self, shard: usize) -> u64 {
        let of_shard = self
            .ports
            .iter()
            .filter(|(port, _)| self.shard_of(**port) == shard);
        of_shard.filter(|(_, until)| until.is_none()).count() as u64
    }

    /// A shard connects from this port.
    pub(super) fn connect(&mut self, shard: usize, dial: DialKey, port: u16, now: Now) {
        assert_eq!(self.shard_of(port), shard, "the port of another shard");
        match self.ports.insert(port, None) {
            Some(None) => panic_port("is used twice", port),
            Some(Some(until)) if until > now => panic_port("has not rested", port),
            Some(Some(_)) | None => {}
        }
        self.connects.push(Connect {
            shard,
            dial,
            port,
            is_cancelled: false,
        });
    }

    /// A shard takes a connect back.
    pub(super) fn cancel(&mut self, shard: usize, dial: DialKey) {
        for connect in &mut self.connects {
            if (connect.shard, connect.dial) == (shard, dial) {
                assert!(!connect.is_cancelled, "a connect is cancelled twice");
                connect.is_cancelled = true;
            }
        }
    }

    /// A shard answers whoever asked for a dial.
    pub(super) fn answer(&mut self, shard: usize, dial: DialKey) {
        assert!(self.asked.remove(&(shard, dial)), "an answer to nobody");
    }

    /// Nothing that was asked for is left.
    pub(in crate::shard_core) fn is_empty(&self) -> bool {
        self.connects.is_empty() && self.asked.is_empty()
    }

    fn rest(&mut self, port: u16, until: Now) {
        let before = self.ports.insert(port, Some(until));
        assert!(before == Some(None), "port {port} was not in use");
    }

    /// The shard whose slice a port is in.
    fn shard_of(&self, port: u16) -> usize {
        let at = port.checked_sub(PORT_MIN).expect("a port of the range");
        let shard = usize::from(at / self.slice_ports);
        assert!(shard < SHARDS, "port {port} is beyond the range");
        shard
    }

    /// Returns whether a shard has a port that is neither used nor rests.
    fn has_port(&self, shard: usize, now: Now) -> bool {
        let first = PORT_MIN + self.slice_ports * number(shard);
        (first..first + self.slice_ports).any(|port| match self.ports.get(&port) {
            Some(Some(until)) => *until <= now,
            Some(None) => false,
            None => true,
        })
    }
}

impl World {
    /// Somebody asks a shard for a connection.
    pub(super) fn dial(&mut self, shard: usize, is_v6: bool) {
        let target = if is_v6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, 7_100))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 7_100))
        };
        let promised = self.sockets_count(shard) + self.dials.connects_count(shard);
        match self.cores[shard].dial(target, self.now) {
            Ok(dial) => assert!(self.dials.asked.insert((shard, dial)), "a key twice"),
            Err(DialError::LocalDials { have, .. }) => {
                assert_eq!(have, DIALS_MAX, "refused below the limit");
                assert_eq!(self.dials.connects_count(shard), u64::from(have));
            }
            Err(DialError::LocalSockets { .. }) => assert_eq!(promised, SLOTS as u64),
            Err(DialError::LocalPorts(_)) => {
                assert!(!self.dials.has_port(shard, self.now), "a port is free");
            }
            Err(error) => assert_eq!(error, DialError::LocalDraining),
        }
    }

    /// The driver learns what became of one of the connects.
    pub(super) fn connect_outcome(&mut self, which: u8, outcome: u8) {
        let count = self.dials.connects.len();
        if count > 0 {
            let index = usize::from(which) % count;
            match outcome % 4 {
                0 => self.fail_connect(index, ConnectFault::PortTaken),
                1 => self.fail_connect(index, ConnectFault::Peer(ECONNREFUSED)),
                _ => self.connected(index),
            }
        }
    }

    /// Cancelled connects of a shard come to their end; returns whether there was one.
    pub(super) fn end_cancelled(&mut self, shard: usize) -> bool {
        let mut connects = self.dials.connects.iter();
        let found = connects.position(|it| it.shard == shard && it.is_cancelled);
        if let Some(index) = found {
            self.fail_connect(index, ConnectFault::Peer(ECANCELED));
        }
        found.is_some()
    }

    fn fail_connect(&mut self, index: usize, fault: ConnectFault) {
        let Connect {
            shard, dial, port, ..
        } = self.dials.connects.swap_remove(index);
        let rest = match fault {
            ConnectFault::PortTaken => PORT_ASIDE,
            ConnectFault::Local(_) | ConnectFault::Peer(_) => PORT_QUARANTINE_LOCAL,
        };
        self.dials.rest(port, self.now + rest);
        self.cores[shard].connect_failed(dial, fault, self.now);
    }

    fn connected(&mut self, index: usize) {
        let Connect { shard, dial, .. } = self.dials.connects[index];
        let mut slots = (shard * SLOTS)..(shard + 1) * SLOTS;
        let Some(socket) = slots.find(|slot| self.sockets[*slot].is_none()) else {
            // Connections that were accepted meanwhile hold all slots.
            return self.fail_connect(index, ConnectFault::Local(ENFILE));
        };
        let Connect { port, .. } = self.dials.connects.swap_remove(index);
        let mut made = Socket::new(Party::Nobody, self.connect(false, None));
        made.port = Some(port);
        self.sockets[socket] = Some(made);
        self.cores[shard].connected(dial, slot_of(socket), self.now);
    }

    /// A dial has become a connection.
    pub(super) fn dialed(&mut self, shard: usize, dialed: &Dialed) {
        let session = dialed.place.session;
        let socket = shard * SLOTS + session.slot.0 as usize;
        let connection = self.sockets[socket].as_ref().map(|it| it.connection);
        let connection = connection.expect("a dial ends in a socket");
        self.dials.stood.push((socket, connection, session));
    }

    /// Whoever asked for a connection has had enough of it, or of one that ended long ago.
    pub(super) fn hang_up(&mut self, which: u8) {
        let count = self.dials.stood.len();
        if count > 0 {
            let (socket, connection, session) = self.dials.stood[usize::from(which) % count];
            let stands = self.sockets[socket]
                .as_ref()
                .is_some_and(|it| it.connection == connection && !it.is_closing);
            let hung_up = self.cores[socket / SLOTS].hang_up(session, self.now);
            assert_eq!(hung_up, stands, "hung up what is not there, or not what is");
        }
    }

    /// The socket at this place is gone.
    pub(super) fn rest_port(&mut self, port: u16) {
        self.dials.rest(port, self.now + PORT_QUARANTINE_LOCAL);
    }
}

#[expect(clippy::panic, reason = "the failure that libFuzzer looks for")]
fn panic_port(what: &str, port: u16) -> ! {
    panic!("port {port} {what}")
}
