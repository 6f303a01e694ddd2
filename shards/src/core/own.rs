//! The relay as a peer of its own: the session over which its services are reached, and reach peers.
//!
//! ```text
//!   services of the relay <== socket pair ==> a session of this shard <== bridges ==> sessions of peers
//! ```
//!
//! The driver attaches one end of a socket pair. From there on it is a session as any other, with the
//! handshake, the windows and the bounds of a peer's; only that its key is the relay's, that no directory
//! has it, and that each shard has one for each dialect that the relay has a key of: a stream towards the
//! relay's key ends on the shard that it came to. Streams that the relay opens have their source ports from
//! the shard's slice of that key's ephemeral range, and the permit goes with the stream.
//!
//! Here: which session it is, the ports. Not here: what the services do, who attaches it.
//!
//! Invariant: nobody who came over a network gets a session of a key of the relay, whatever he knows.
//! Bound: one such session a shard and dialect, the newest; one port a stream that it has opened.

use std::collections::BTreeMap;

use ringway_proto::dialect::Dialect;
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::config::CoreConfig;
use super::event::{Arrival, Directory, Place, SessionKey, Slot, StreamKey};
use super::session::{Live, Session};
use super::source::Source;
use super::{Cause, ShardCore};
use crate::lease::Lease;
use crate::ports::{PortBudget, PortPermit, PortSet, PortUse};

/// The relay's own sessions of one shard.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// By dialect.
    sessions: [Option<SessionKey>; Dialect::ALL.len()],
    /// Ports of the streams that the relay has opened.
    ports: BTreeMap<StreamKey, PortPermit>,
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// One end of a socket pair stands in `slot`, whose other end the relay's services have; they speak
    /// `dialect`.
    ///
    /// # Panics
    /// When the slot holds a socket: the driver reported one twice or lost a close.
    pub fn attached(&mut self, slot: Slot, dialect: Dialect, now: Now) {
        self.now = now;
        self.claim(slot);
        if let Some(session) = self.sessions.get_mut(slot.0 as usize) {
            session.is_attached = true;
        }
        self.common.stats.sockets_attached += 1;
        if self.is_draining {
            self.common.stats.handshakes_failed.count(Reason::Draining);
            return self.close(slot);
        }
        let arrival = Arrival {
            dialect,
            source: Source::UNKNOWN,
            address: None,
        };
        self.begin_handshake(slot, arrival);
    }

    /// Returns whether a key and a socket belong together: a key of the relay to an attached one, all other
    /// keys to those that were accepted.
    pub(super) fn may_have(&self, slot: Slot, key: &PublicKey) -> bool {
        let session = self.sessions.get(slot.0 as usize);
        let is_attached = session.is_some_and(|session| session.is_attached);
        is_attached == self.config.is_own(key)
    }

    /// A session of the relay's own stands; it takes the place of the one before.
    pub(super) fn own_up(&mut self, session: SessionKey) {
        self.common.stats.own_sessions_opened += 1;
        self.common.stats.own_sessions_current += 1;
        let of_slot = self.sessions.get(session.slot.0 as usize);
        let dialect = of_slot
            .and_then(Session::live)
            .map(Live::dialect)
            .unwrap_or_default();
        let place = &mut self.own.sessions[dialect.index()];
        if let Some(older) = place.replace(session) {
            self.end_session(older, Cause::Reason(Reason::Replaced), true);
        }
    }

    /// A session of the relay's own has ended.
    pub(super) fn own_down(&mut self, session: SessionKey) {
        self.common.stats.own_sessions_current -= 1;
        self.common.stats.own_sessions_ended += 1;
        for place in &mut self.own.sessions {
            place.take_if(|own| *own == session);
        }
    }

    /// Asks a service of this relay, at its key of this dialect.
    pub(super) fn ask_own(&mut self, key: StreamKey, dialect: Dialect, request: &[u8]) {
        let Some(session) = self.own.sessions[dialect.index()] else {
            return self.refuse(key, Reason::NoListener);
        };
        let place = Place {
            shard: self.config.shard,
            session,
        };
        self.ask_at(key, place, request);
    }

    /// Takes the source port of a stream that the relay opens with its key of a dialect; it comes back with
    /// the stream.
    ///
    /// # Errors
    /// [`Reason::VirtualPortsExhausted`] when the port is none of the shard's slice, in use, or at rest.
    pub(super) fn take_own_port(
        &mut self,
        key: StreamKey,
        dialect: Dialect,
        port: u16,
    ) -> Result<(), Reason> {
        let now = self.now;
        let permit = self.virtual_ports.of_mut(dialect).try_take_port(port, now);
        self.note_ports();
        let permit = permit.map_err(|refusal| refusal.reason())?;
        self.own.ports.insert(key, permit);
        Ok(())
    }

    /// A stream is gone; if the relay had opened it, its port comes back.
    pub(super) fn give_own_port(&mut self, key: StreamKey) {
        if !self.own.ports.is_empty() && self.own.ports.remove(&key).is_some() {
            let now = self.now;
            self.virtual_ports.collect(now);
            self.note_ports();
        }
    }
}

/// The shard's slices of the ephemeral ranges of the relay's keys.
#[derive(Debug)]
pub(super) struct VirtualPorts([PortBudget; Dialect::ALL.len()]);

impl VirtualPorts {
    /// Returns a slice for each key that the relay has.
    pub(super) fn new(config: &CoreConfig) -> Self {
        Self(Dialect::ALL.map(|dialect| {
            let has_key = dialect == Dialect::Native || config.dmsg_key.is_some();
            let none = PortSet::default();
            let slice = if has_key {
                &config.ports.virtual_range
            } else {
                &none
            };
            PortBudget::of_virtual_ports(config.shard.0, slice)
        }))
    }

    pub(super) fn of_mut(&mut self, dialect: Dialect) -> &mut PortBudget {
        &mut self.0[dialect.index()]
    }

    /// Returns whether there is something to [collect](Self::collect).
    pub(super) fn is_due(&self, now: Now) -> bool {
        self.0.iter().any(|budget| budget.is_due(now))
    }

    /// Takes in the ports whose permits were dropped, and frees those whose rest is over.
    pub(super) fn collect(&mut self, now: Now) {
        for budget in &mut self.0 {
            budget.collect(now);
        }
    }

    /// Returns how full they are, all together.
    pub(super) fn usage(&self) -> PortUse {
        let mut usage = PortUse::default();
        for budget in &self.0 {
            usage.add(&budget.usage());
        }
        usage
    }
}
