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

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{
    ROUTE_NEIGHBOURS_MAX, ROUTE_PACKET_HEAD, ROUTE_PACKET_PAYLOAD_MAX, ROUTE_RULES_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::route::packet::{end_reason, write_end, write_packet};
use ringway_proto::route::{
    GroupName, HopReply, HopRequest, PacketHead, PacketKind, Refusal, RouteId, RuleKind, segment,
};
use ringway_proto::time::Now;
use tokio::sync::mpsc;

use super::error::RouteError;
use super::group::{Group, Identity, Path, Side};
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
        if let Some(neighbour) = self.neighbours.get_mut(from) {
            neighbour.used_at = fx.now;
        }
        if head.kind == PacketKind::Gone {
            return self.gone(from, head.id, fx);
        }
        let entry = match self.table.arrive(head.id, from, fx.now) {
            Ok(entry) => entry.clone(),
            Err(unknown) => return self.unknown(from, head, unknown, fx),
        };
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
            if let Some(entry) = self.table.release(id) {
                self.end_upwards(id, &entry, fx);
                self.path_gone(id, Some(&entry), fx);
            }
        }
        let is_on = |group: &Group| {
            let path = group.path.as_ref();
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
    fn end_downwards(&mut self, entry: &Entry, reason: Reason, fx: &mut Effects) {
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

    /// Takes the path from a group whose id is not in the table any more.
    fn path_gone(&mut self, id: RouteId, entry: Option<&Entry>, fx: &mut Effects) {
        let name = match entry {
            Some(Entry::Own { group, .. }) => *group,
            Some(Entry::Rule { rule, .. }) => match &rule.kind {
                RuleKind::Destination { group, .. } => *group,
                RuleKind::Intermediary { .. } => return,
            },
            Some(Entry::Reserved { .. }) | None => return,
        };
        let group = self.groups.get(&name);
        if group.is_some_and(|group| group.path.is_some_and(|path| path.own_id == id)) {
            self.path_lost(&name, fx);
        }
    }

    /// The path of a group is dead: its opener looks for another one, its taker waits for that.
    pub(crate) fn path_lost(&mut self, name: &GroupName, fx: &mut Effects) {
        self.close_path(name, Reason::HopUnreachable, fx);
        if let Some(group) = self.groups.get_mut(name)
            && let Side::Opener {
                is_repairing,
                handshake,
            } = &mut group.side
            && group.error.is_none()
        {
            if handshake.is_some() || self.is_closed {
                let error = RouteError::PeerRefused(Reason::HopUnreachable.code());
                group.fail(error, &mut fx.wakes);
            } else if !*is_repairing {
                *is_repairing = true;
                fx.repair.push(*name);
            }
        }
    }

    /// Takes a group's path away and tells the hops of its forward direction.
    pub(crate) fn close_path(&mut self, name: &GroupName, reason: Reason, fx: &mut Effects) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        if let Some(path) = group.path.take() {
            self.table.release(path.own_id);
            if self.neighbours.contains_key(&path.next) {
                self.send_end(&path.next, path.next_id, PacketKind::Close, reason, fx);
            }
        }
    }

    /// Gives a group of this peer its path; what was not acknowledged is sent on it.
    pub(crate) fn install_path(
        &mut self,
        name: &GroupName,
        path: Path,
        forward: &[PublicKey],
        fx: &mut Effects,
    ) -> bool {
        let Some(group) = self.groups.get_mut(name) else {
            self.table.release(path.own_id);
            return false;
        };
        group.path = Some(path);
        group.forward = forward.to_vec();
        if let Side::Opener {
            is_repairing,
            handshake,
        } = &mut group.side
        {
            *is_repairing = false;
            if let Some(opening) = handshake {
                opening.retry_at = fx.now;
            }
        }
        if group.keys.is_some() {
            group.reroutes += 1;
            self.stats.reroutes += 1;
            group.flow.path_changed(fx.now);
        }
        self.tick_group(name, fx);
        true
    }

    /// A handshake has arrived: the first makes the group.
    fn handshake(
        &mut self,
        kind: &RuleKind,
        id: RouteId,
        message: &[u8],
        keep_alive_ms: u32,
        fx: &mut Effects,
    ) {
        let RuleKind::Destination {
            group: name,
            source,
            source_port,
            destination_port,
            next,
            next_id,
        } = *kind
        else {
            return;
        };
        let answer = match self.groups.get(&name) {
            Some(group) => group.answer_again(message),
            None => {
                let peer = Address::new(source, source_port);
                let times = (Duration::from_millis(keep_alive_ms.into()), fx.now);
                match self.take_group(peer, (name, destination_port), message, times) {
                    Ok(answer) => answer,
                    Err(reason) => {
                        self.table.release(id);
                        self.send_end(&next, next_id, PacketKind::Close, reason, fx);
                        return;
                    }
                }
            }
        };
        let Some(answer) = answer else {
            self.stats.dropped.not_authentic += 1;
            return;
        };
        self.stats.packets_delivered += 1;
        if let Some(group) = self.groups.get_mut(&name)
            && group.path.is_none()
        {
            let own_id = id;
            group.path = Some(Path {
                next,
                next_id,
                own_id,
            });
        }
        self.send(&next, next_id, PacketKind::Handshake, &answer, fx);
    }

    fn take_group(
        &mut self,
        peer: Address,
        (name, port): (GroupName, u16),
        message: &[u8],
        times: (Duration, Now),
    ) -> Result<Option<Vec<u8>>, Reason> {
        let listener = self.listeners.get(&port).ok_or(Reason::NoListener)?;
        if self.groups.len() >= self.groups_max {
            return Err(Reason::RefusedByDestination);
        }
        let place = listener.clone().try_reserve_owned();
        let place = place.map_err(|_| Reason::RefusedByDestination)?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| Reason::RefusedByDestination)?;
        let Some(mut group) =
            Group::taker(&self.identity, peer, (name, port), message, random, times)
        else {
            return Ok(None);
        };
        let mut message = None;
        if let Side::Taker { answer, permit, .. } = &mut group.side {
            message = Some(answer.message.clone());
            *permit = Some(place);
        }
        self.groups.insert(name, group);
        Ok(message)
    }

    /// A packet of a group that ends here.
    fn deliver(&mut self, name: GroupName, head: PacketHead, payload: &[u8], fx: &mut Effects) {
        self.stats.packets_delivered += 1;
        match head.kind {
            PacketKind::Close => self.deliver_close(name, head.id, payload, fx),
            PacketKind::Handshake => {
                if let Some(group) = self.groups.get_mut(&name)
                    && group.arrive_answer(&name, payload, fx.now)
                {
                    self.pump(&name, fx);
                }
            }
            PacketKind::Data | PacketKind::KeepAlive => {
                self.deliver_segment(name, head.id, payload, fx);
            }
            // Taken before: it goes against the direction.
            PacketKind::Gone => {}
        }
    }

    fn deliver_close(&mut self, name: GroupName, id: RouteId, payload: &[u8], fx: &mut Effects) {
        let entry = self.table.release(id);
        let code = end_reason(payload).unwrap_or_default();
        let Some(group) = self.groups.get_mut(&name) else {
            // The group is over here: the way back ends with the way.
            if let Some(entry) = entry {
                self.end_downwards(&entry, Reason::Accepted, fx);
            }
            return;
        };
        let is_current = group.path.is_some_and(|path| path.own_id == id);
        if let Side::Opener { handshake, .. } = &group.side {
            if handshake.is_some() {
                group.fail(RouteError::PeerRefused(code), &mut fx.wakes);
            } else if is_current {
                self.path_lost(&name, fx);
            }
            return;
        }
        if is_current {
            self.close_path(&name, Reason::Accepted, fx);
        } else if let Some(entry) = entry {
            self.end_downwards(&entry, Reason::Accepted, fx);
        }
        let is_over = |group: &Group| group.is_dropped && code == Reason::Accepted.code();
        if self.groups.get(&name).is_some_and(is_over) {
            self.forget(&name, fx);
        }
    }

    fn deliver_segment(&mut self, name: GroupName, id: RouteId, payload: &[u8], fx: &mut Effects) {
        let Some(group) = self.groups.get_mut(&name) else {
            self.stats.dropped.not_authentic += 1;
            return;
        };
        let mut payload = payload.to_vec();
        let opened = group
            .keys
            .as_ref()
            .map(|keys| segment::open(&keys.opener, &mut payload));
        let Some(Ok(opened)) = opened else {
            self.stats.dropped.not_authentic += 1;
            return;
        };
        if let Side::Taker {
            permit, number_max, ..
        } = &mut group.side
        {
            if let Some(permit) = permit.take() {
                fx.accepted.push((permit, name));
            }
            if number_max.is_none_or(|max| opened.number > max) {
                *number_max = Some(opened.number);
                self.follow(&name, id, fx.now);
            }
        }
        let Some(group) = self.groups.get_mut(&name) else {
            return;
        };
        let data = payload.get(opened.data).unwrap_or_default();
        let arrived = group.flow.arrive(&opened.segment, data, fx.now);
        if arrived.is_reset {
            group.fail(RouteError::PeerReset, &mut fx.wakes);
            self.close_path_of_opener(&name, fx);
            return;
        }
        if arrived.is_readable {
            fx.wakes.extend(group.read_waker.take());
        }
        if arrived.is_writable {
            fx.wakes.extend(group.write_waker.take());
        }
        if group.is_dropped {
            group.flow.discard();
        }
        self.pump(&name, fx);
    }

    /// A taker answers on the way back of the rule on which the newest segment has come.
    fn follow(&mut self, name: &GroupName, id: RouteId, now: Now) {
        let rule = self.table.entries().find(|(one, _)| *one == id);
        let Some((_, Entry::Rule { rule, .. })) = rule else {
            return;
        };
        let (next, next_id) = rule.kind.next();
        let path = Path {
            next,
            next_id,
            own_id: id,
        };
        if let Some(group) = self.groups.get_mut(name)
            && group.path != Some(path)
        {
            if group.path.is_some() || group.reroutes > 0 {
                group.reroutes += 1;
            }
            group.path = Some(path);
            group.flow.path_changed(now);
        }
    }

    /// The opener ends a group; its taker is told on the way.
    fn close_path_of_opener(&mut self, name: &GroupName, fx: &mut Effects) {
        let Some(group) = self.groups.get(name) else {
            return;
        };
        let (is_opener, is_dropped) = (group.is_opener(), group.is_dropped);
        if is_opener {
            self.close_path(name, Reason::Accepted, fx);
        }
        if is_dropped {
            self.forget(name, fx);
        }
    }

    /// Sends what a group has to send, as far as there is room.
    pub(crate) fn pump(&mut self, name: &GroupName, fx: &mut Effects) {
        loop {
            let Some(group) = self.groups.get_mut(name) else {
                return;
            };
            let Some(path) = group.path else {
                return;
            };
            if group.error.is_some() {
                return;
            }
            let Some(keys) = &mut group.keys else {
                return;
            };
            let neighbour = self.neighbours.get(&path.next);
            let room = neighbour.map_or(usize::MAX, |one| one.room(path.next_id));
            if room < ROUTE_PACKET_HEAD + ROUTE_PACKET_PAYLOAD_MAX {
                return;
            }
            let Some((segment, range)) = group.flow.poll_segment(fx.now) else {
                break;
            };
            let mut payload = Vec::with_capacity(ROUTE_PACKET_PAYLOAD_MAX);
            let data = group.flow.data(&range);
            if keys.sealer.seal(&segment, data, &mut payload).is_err() {
                group.fail(RouteError::PeerReset, &mut fx.wakes);
                return;
            }
            let is_reset = segment.has(segment::Segment::RESET);
            let kind = if range.is_empty() {
                PacketKind::KeepAlive
            } else {
                PacketKind::Data
            };
            self.send(&path.next, path.next_id, kind, &payload, fx);
            if is_reset {
                self.close_path_of_opener(name, fx);
                return;
            }
        }
        let is_done = |group: &Group| group.is_opener() && group.flow.is_done();
        if self.groups.get(name).is_some_and(is_done) {
            self.close_path_of_opener(name, fx);
        }
    }

    /// Sends for the groups that send to a neighbour: there is room again.
    pub(crate) fn pump_to(&mut self, neighbour: &PublicKey, fx: &mut Effects) {
        let is_on = |group: &Group| group.path.is_some_and(|path| path.next == *neighbour);
        for name in self.groups_where(is_on) {
            self.pump(&name, fx);
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
        let is_used = |key: &PublicKey| {
            let is_on = |group: &Group| group.path.is_some_and(|path| path.next == *key);
            !self.table.touching(key).is_empty() || self.groups.values().any(is_on)
        };
        let idle = self.neighbours.iter().filter(|(_, one)| is_idle(one));
        let idle: Vec<_> = idle
            .map(|(key, _)| *key)
            .filter(|key| !is_used(key))
            .collect();
        for key in idle {
            if let Some(neighbour) = self.neighbours.remove(&key) {
                neighbour.wake.notify_one();
            }
        }
    }

    fn tick_group(&mut self, name: &GroupName, fx: &mut Effects) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let path = group.path;
        match &mut group.side {
            Side::Opener {
                handshake: Some(opening),
                ..
            } => {
                if let Some(path) = path
                    && opening.retry_at <= fx.now
                {
                    opening.retry_at = fx.now + HANDSHAKE_RETRY;
                    let message = opening.message.clone();
                    let (next, id) = (path.next, path.next_id);
                    self.send(&next, id, PacketKind::Handshake, &message, fx);
                }
                return;
            }
            Side::Opener { .. } => {
                if path.is_some() && group.error.is_none() && group.flow.tick(fx.now) {
                    self.path_lost(name, fx);
                    return;
                }
            }
            Side::Taker { .. } => {
                group.flow.tick(fx.now);
                let silence = fx.now.saturating_since(group.flow.heard_at());
                if silence >= group.keep_alive {
                    let is_waiting = matches!(
                        &group.side,
                        Side::Taker {
                            permit: Some(_),
                            ..
                        }
                    );
                    if group.is_dropped || is_waiting {
                        return self.forget(name, fx);
                    }
                    if !group.flow.is_done() {
                        let error = RouteError::PathLost(group.keep_alive);
                        group.fail(error, &mut fx.wakes);
                    }
                }
            }
        }
        self.pump(name, fx);
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

    /// Nobody holds the stream of a group any more.
    pub(crate) fn dropped(&mut self, name: &GroupName, fx: &mut Effects) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.is_dropped = true;
        if group.error.is_some() || group.is_opener() && group.flow.is_done() {
            self.close_path(name, Reason::Accepted, fx);
            return self.forget(name, fx);
        }
        if group.flow.is_finished() {
            group.flow.discard();
            self.pump(name, fx);
            let is_over = |group: &Group| !group.is_opener() && group.path.is_none();
            let is_done = |group: &Group| group.flow.is_done() || group.flow.is_received();
            if self
                .groups
                .get(name)
                .is_some_and(|one| is_over(one) && is_done(one))
            {
                self.forget(name, fx);
            }
            return;
        }
        group.flow.reset();
        self.pump(name, fx);
        self.close_path_of_opener(name, fx);
        self.forget(name, fx);
    }

    /// Forgets a group; its rules of a taker stay until the opener closes them, or expire.
    pub(crate) fn forget(&mut self, name: &GroupName, fx: &mut Effects) {
        if let Some(group) = self.groups.remove(name) {
            fx.groups.push(group);
        }
        for id in self.table.of_group(name) {
            let is_own = |entry: &Entry| matches!(entry, Entry::Own { .. });
            if self
                .table
                .entries()
                .any(|(one, entry)| one == id && is_own(entry))
            {
                self.table.release(id);
            }
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

    fn groups_where(&self, is_meant: impl Fn(&Group) -> bool) -> Vec<GroupName> {
        let meant = self.groups.iter().filter(|(_, group)| is_meant(group));
        meant.map(|(name, _)| *name).collect()
    }

    fn send_end(
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

    fn send(
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

    /// Takes a stream with a neighbour into service, `None` when there is one already.
    pub(crate) fn adopt(&mut self, neighbour: &PublicKey, now: Now) -> Option<u64> {
        let has_room = self.neighbours.len() < ROUTE_NEIGHBOURS_MAX;
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

/// Time after which a handshake without an answer is sent again.
const HANDSHAKE_RETRY: Duration = Duration::from_secs(1);
