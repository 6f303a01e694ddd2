//! What a router knows: its table, its neighbours, the groups that end here.
//!
//! Here: what a packet, a request of a relay, a stream that was lost and the time do to it. Not here: the
//! parts themselves, the tasks that do I/O.
//!
//! All is behind one mutex ([`Shared::with`]), which is held for one batch of packets at most and never over
//! an await. What must happen outside of it stands in [`Effects`].
//!
//! Invariant: a packet goes to a neighbour only for a rule, or for a group that ends here.
//! Bound: the table, the groups and the neighbours have the limits of the configuration.

mod groups;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use ringway_proto::key::PublicKey;
use ringway_proto::limits::{ROUTE_NEIGHBOURS_MAX, ROUTE_PACKET_HEAD, ROUTE_RULES_MAX};
use ringway_proto::reason::Reason;
use ringway_proto::route::packet::{write_end, write_packet};
use ringway_proto::route::{
    GroupName, HopReply, HopRequest, PacketHead, PacketKind, Refusal, RouteId, RuleKind,
};
use ringway_proto::time::Now;
use tokio::sync::mpsc;

use super::error::RouteError;
use super::group::{Group, Identity};
use super::neighbour::Neighbour;
use super::stats::RouterStats;
use super::stream::RouteStream;
use super::table::{Entry, Table, Unknown};

/// The state of a router.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) key: PublicKey,
    identity: Identity,
    pub(crate) table: Table,
    pub(crate) groups: BTreeMap<GroupName, Group>,
    pub(crate) groups_max: usize,
    pub(crate) neighbours: BTreeMap<PublicKey, Neighbour>,
    pub(crate) neighbour_idle: Duration,
    generation: u64,
    pub(crate) listeners: BTreeMap<u16, mpsc::Sender<RouteStream>>,
    pub(crate) stats: RouterStats,
    pub(crate) is_closed: bool,
}

/// What is to be done once the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// When the act is done.
    pub(crate) now: Now,
    pub(crate) wakes: Vec<Waker>,
    /// Neighbours to which a stream is to be opened, with its generation.
    pub(crate) connect: Vec<(PublicKey, u64)>,
    /// Groups that need another path.
    pub(crate) repair: Vec<GroupName>,
    /// Groups whose stream goes to its listener.
    pub(crate) accepted: Vec<(mpsc::OwnedPermit<RouteStream>, GroupName)>,
    /// Groups that are over: they may hold what locks again when dropped.
    pub(crate) groups: Vec<Group>,
}

impl State {
    pub(crate) fn new(
        key: PublicKey,
        identity: Identity,
        groups_max: usize,
        neighbour_idle: Duration,
    ) -> Self {
        Self {
            key,
            identity,
            table: Table::new(ROUTE_RULES_MAX),
            groups: BTreeMap::new(),
            groups_max,
            neighbours: BTreeMap::new(),
            neighbour_idle,
            generation: 0,
            listeners: BTreeMap::new(),
            stats: RouterStats::default(),
            is_closed: false,
        }
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Does what a relay asks.
    pub(crate) fn hop_request(&mut self, request: HopRequest, fx: &mut Effects) -> HopReply {
        let done = match request.check(&self.key) {
            Ok(()) => self.hop_request_checked(request, fx),
            Err(refusal) => Err(refusal),
        };
        match done {
            Ok(reply) => {
                self.stats.hop_requests += 1;
                reply
            }
            Err(refusal) => {
                let counted = self.stats.hop_requests_refused.entry(refusal.reason);
                *counted.or_default() += 1;
                HopReply::Refused(refusal)
            }
        }
    }

    fn hop_request_checked(
        &mut self,
        request: HopRequest,
        fx: &mut Effects,
    ) -> Result<HopReply, Refusal> {
        if self.is_closed {
            return Err(Refusal::new(Reason::Draining, "this peer is leaving"));
        }
        match request {
            HopRequest::Reserve { count } => {
                self.expire(fx);
                let ids = self.table.reserve(count.into(), fx.now, &mut random_u32)?;
                Ok(HopReply::Reserved { ids })
            }
            HopRequest::AddRules { rules } => {
                for rule in &rules {
                    self.check_destination(&rule.kind)?;
                }
                self.table.add(rules, fx.now)?;
                Ok(HopReply::Done)
            }
            HopRequest::Release { ids } => {
                for id in ids {
                    let is_own = |entry: &Entry| matches!(entry, Entry::Own { .. });
                    let entry = self.table.entries().find(|(one, _)| *one == id);
                    if entry.is_some_and(|(_, entry)| !is_own(entry)) {
                        let released = self.table.release(id);
                        self.path_gone(id, released.as_ref(), fx);
                    }
                }
                Ok(HopReply::Done)
            }
        }
    }

    /// A destination takes new groups for ports with a listener, and new paths of its own groups.
    fn check_destination(&self, kind: &RuleKind) -> Result<(), Refusal> {
        let RuleKind::Destination {
            group,
            source,
            destination_port,
            ..
        } = kind
        else {
            return Ok(());
        };
        let refused = |reason, message: &str| Err(Refusal::new(reason, message));
        match self.groups.get(group) {
            Some(known) if known.is_opener() || known.peer.key != *source => {
                refused(Reason::HopRefused, "the group is another one's")
            }
            Some(_) => Ok(()),
            None if !self.listeners.contains_key(destination_port) => {
                refused(Reason::NoListener, "nobody listens on that port")
            }
            None if self.groups.len() >= self.groups_max => {
                refused(Reason::HopRefused, "as many groups end here as may")
            }
            None => Ok(()),
        }
    }

    /// Takes a packet of a neighbour.
    pub(crate) fn packet(
        &mut self,
        from: &PublicKey,
        head: PacketHead,
        payload: &[u8],
        fx: &mut Effects,
    ) {
        if head.kind == PacketKind::Gone {
            return self.gone(from, head.id, fx);
        }
        let entry = match self.table.arrive(head.id, from, fx.now) {
            Ok(entry) => entry.clone(),
            Err(unknown) => return self.unknown(from, head, unknown, fx),
        };
        // What has no rule keeps nothing: a stranger's stream is let go.
        if let Some(neighbour) = self.neighbours.get_mut(from) {
            neighbour.used_at = fx.now;
        }
        match entry {
            Entry::Reserved { .. } => {}
            Entry::Own { group, .. } => self.deliver(group, head, payload, fx),
            Entry::Rule { rule, .. } => match rule.kind {
                RuleKind::Intermediary { next, next_id } => {
                    if head.kind == PacketKind::Close {
                        self.table.release(head.id);
                    }
                    let sent = self.send(&next, next_id, head.kind, payload, fx);
                    if sent {
                        self.stats.packets_forwarded += 1;
                        let bytes = u64::from(head.length);
                        self.stats.bytes_forwarded += bytes;
                    }
                }
                RuleKind::Destination { .. } if head.kind == PacketKind::Handshake => {
                    self.handshake(&rule.kind, head.id, payload, rule.keep_alive_ms, fx);
                }
                RuleKind::Destination { group, .. } => {
                    self.deliver(group, head, payload, fx);
                }
            },
        }
    }

    fn unknown(&mut self, from: &PublicKey, head: PacketHead, unknown: Unknown, fx: &mut Effects) {
        match unknown {
            Unknown::Id => self.stats.dropped.unknown_id += 1,
            Unknown::Neighbour => self.stats.dropped.wrong_neighbour += 1,
        }
        // An answer to each would answer answers; and a neighbour without a stream back is not sought.
        if head.kind != PacketKind::Close && self.neighbours.contains_key(from) {
            self.send_end(from, head.id, PacketKind::Gone, Reason::NoRoute, fx);
        }
    }

    /// A neighbour has no rule for what this peer sends to it.
    fn gone(&mut self, from: &PublicKey, next_id: RouteId, fx: &mut Effects) {
        for id in self.table.sending_to(from, next_id) {
            // The way to a destination stays when the way back has gone: its end comes on the way itself.
            if self.table.is_destination(id) {
                self.way_back_gone(id);
            } else if let Some(entry) = self.table.release(id) {
                self.end_upwards(id, &entry, fx);
            }
        }
        let is_on = |group: &Group| {
            let path = group.path.as_ref().filter(|_| group.is_opener());
            path.is_some_and(|path| (path.next, path.next_id) == (*from, next_id))
        };
        for name in self.groups_where(is_on) {
            self.path_lost(&name, fx);
        }
    }

    /// Tells the neighbour before that there is no rule any more.
    fn end_upwards(&mut self, id: RouteId, entry: &Entry, fx: &mut Effects) {
        if let Some(previous) = entry.previous()
            && self.neighbours.contains_key(&previous)
        {
            self.send_end(&previous, id, PacketKind::Gone, Reason::HopUnreachable, fx);
        }
    }

    /// Tells the neighbour behind that nothing comes any more.
    pub(super) fn end_downwards(&mut self, entry: &Entry, reason: Reason, fx: &mut Effects) {
        if let Entry::Rule { rule, .. } = entry {
            let (next, next_id) = rule.kind.next();
            if self.neighbours.contains_key(&next) {
                self.send_end(&next, next_id, PacketKind::Close, reason, fx);
            }
        }
    }

    /// The stream with a neighbour is lost: all routes over it end, on both sides of this peer.
    pub(crate) fn neighbour_lost(
        &mut self,
        neighbour: &PublicKey,
        generation: u64,
        fx: &mut Effects,
    ) {
        let is_this = |one: &Neighbour| one.generation == generation;
        if !self.neighbours.get(neighbour).is_some_and(is_this) {
            return;
        }
        self.neighbours.remove(neighbour);
        for id in self.table.touching(neighbour) {
            let Some(entry) = self.table.release(id) else {
                continue;
            };
            if entry.previous() == Some(*neighbour) {
                self.end_downwards(&entry, Reason::HopUnreachable, fx);
            } else {
                self.end_upwards(id, &entry, fx);
            }
            self.path_gone(id, Some(&entry), fx);
        }
        let is_on = |group: &Group| group.path.is_some_and(|path| path.next == *neighbour);
        for name in self.groups_where(is_on) {
            self.path_lost(&name, fx);
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, fx: &mut Effects) {
        self.expire(fx);
        let now = fx.now;
        for name in self.groups_where(|group| group.deadline() <= now) {
            self.tick_group(&name, fx);
        }
        let idle = self.neighbour_idle;
        let is_idle =
            |one: &Neighbour| one.is_empty() && fx.now.saturating_since(one.used_at) >= idle;
        let idle = self.neighbours.iter().filter(|(_, one)| is_idle(one));
        let idle: Vec<_> = idle
            .map(|(key, _)| *key)
            .filter(|key| !self.is_used(key))
            .collect();
        for key in idle {
            if let Some(neighbour) = self.neighbours.remove(&key) {
                neighbour.wake.notify_one();
            }
        }
    }

    fn expire(&mut self, fx: &mut Effects) {
        if self.table.deadline().is_none_or(|at| at > fx.now) {
            return;
        }
        for (id, entry) in self.table.expire(fx.now) {
            self.end_upwards(id, &entry, fx);
            self.end_downwards(&entry, Reason::Idle, fx);
            self.path_gone(id, Some(&entry), fx);
        }
    }

    /// Ends everything: the other ends and the hops are told.
    pub(crate) fn close(&mut self, fx: &mut Effects) {
        self.listeners.clear();
        for name in self.groups_where(|_| true) {
            if let Some(group) = self.groups.get_mut(&name) {
                group.flow.reset();
            }
            self.pump(&name, fx);
            self.close_path(&name, Reason::Accepted, fx);
            if let Some(group) = self.groups.get_mut(&name) {
                group.fail(RouteError::LocalClosed, &mut fx.wakes);
            }
        }
        let ids: Vec<_> = self.table.entries().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(entry) = self.table.release(id) {
                self.end_upwards(id, &entry, fx);
                self.end_downwards(&entry, Reason::Draining, fx);
            }
        }
        self.is_closed = true;
    }

    pub(super) fn groups_where(&self, is_meant: impl Fn(&Group) -> bool) -> Vec<GroupName> {
        let meant = self.groups.iter().filter(|(_, group)| is_meant(group));
        meant.map(|(name, _)| *name).collect()
    }

    pub(super) fn send_end(
        &mut self,
        to: &PublicKey,
        id: RouteId,
        kind: PacketKind,
        reason: Reason,
        fx: &mut Effects,
    ) {
        let mut packet = Vec::with_capacity(ROUTE_PACKET_HEAD + 2);
        write_end(id, kind, reason, &mut packet);
        self.push(to, id, packet, fx);
    }

    pub(super) fn send(
        &mut self,
        to: &PublicKey,
        id: RouteId,
        kind: PacketKind,
        payload: &[u8],
        fx: &mut Effects,
    ) -> bool {
        let mut packet = Vec::with_capacity(ROUTE_PACKET_HEAD + payload.len());
        // Payloads come from packets or are made to fit in one.
        let is_written = write_packet(id, kind, payload, &mut packet).is_ok();
        is_written && self.push(to, id, packet, fx)
    }

    fn push(&mut self, to: &PublicKey, id: RouteId, packet: Vec<u8>, fx: &mut Effects) -> bool {
        if !self.neighbours.contains_key(to) {
            if self.neighbours.len() >= ROUTE_NEIGHBOURS_MAX || self.is_closed {
                self.stats.dropped.neighbours += 1;
                return false;
            }
            let generation = self.adopt(to, fx.now);
            fx.connect.extend(generation.map(|one| (*to, one)));
        }
        let neighbour = self.neighbours.get_mut(to);
        let is_pushed = neighbour.is_some_and(|one| one.push(id, packet, fx.now));
        if !is_pushed {
            self.stats.dropped.queue += 1;
        }
        is_pushed
    }

    /// Whether a route leads to or from a neighbour.
    pub(crate) fn is_used(&self, neighbour: &PublicKey) -> bool {
        let is_on = |group: &Group| group.path.is_some_and(|path| path.next == *neighbour);
        !self.table.touching(neighbour).is_empty() || self.groups.values().any(is_on)
    }

    /// Takes a stream with a neighbour into service, `None` when there is one already, or no room.
    ///
    /// Anybody may open one: those without a route get half of the places at most.
    pub(crate) fn adopt(&mut self, neighbour: &PublicKey, now: Now) -> Option<u64> {
        let places = match self.is_used(neighbour) {
            true => ROUTE_NEIGHBOURS_MAX,
            false => ROUTE_NEIGHBOURS_MAX / 2,
        };
        let has_room = self.neighbours.len() < places;
        if self.neighbours.contains_key(neighbour) || !has_room || self.is_closed {
            return None;
        }
        self.generation += 1;
        let new = Neighbour::new(self.generation, now);
        self.neighbours.insert(*neighbour, new);
        Some(self.generation)
    }
}

/// Returns a number that nobody guesses; without randomness 0, which the table does not give out.
pub(crate) fn random_u32() -> u32 {
    getrandom::u32().unwrap_or(0)
}
