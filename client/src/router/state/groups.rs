//! What happens to the groups that end at this peer.
//!
//! Here: their handshakes, their packets, their paths, what they send. Not here: rules of others, the
//! neighbours (`state`), the parts of a group (`group`).

use std::time::Duration;

use ringway_proto::key::{Address, PublicKey};
use ringway_proto::limits::{ROUTE_PACKET_HEAD, ROUTE_PACKET_PAYLOAD_MAX};
use ringway_proto::reason::Reason;
use ringway_proto::route::packet::end_reason;
use ringway_proto::route::{GroupName, PacketHead, PacketKind, RouteId, RuleKind, segment};
use ringway_proto::time::Now;

use super::{Effects, State};
use crate::router::error::RouteError;
use crate::router::group::{Group, Path, Side};
use crate::router::table::Entry;

impl State {
    /// Gives a group of this peer its path; what was not acknowledged is sent on it.
    pub(crate) fn install_path(
        &mut self,
        name: &GroupName,
        path: Path,
        (forward, keep_alive): (&[PublicKey], Duration),
        fx: &mut Effects,
    ) -> bool {
        let Some(group) = self.groups.get_mut(name) else {
            self.table.release(path.own_id);
            return false;
        };
        group.path = Some(path);
        group.forward = forward.to_vec();
        group.keep_alive = keep_alive;
        group.flow.set_keep_alive(keep_alive);
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
    pub(super) fn handshake(
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
    pub(super) fn deliver(
        &mut self,
        name: GroupName,
        head: PacketHead,
        payload: &[u8],
        fx: &mut Effects,
    ) {
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
            // The destination's own answers; all others are of hops.
            let own = [Reason::NoListener, Reason::RefusedByDestination];
            let is_refused = own.iter().any(|reason| reason.code() == code);
            if handshake.is_some() && is_refused {
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

    pub(super) fn tick_group(&mut self, name: &GroupName, fx: &mut Effects) {
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
                    // The opener ends a group when it has everything; that news may be lost.
                    let is_over = group.flow.is_finished() && group.flow.is_received();
                    if !is_over {
                        let error = RouteError::PathLost(group.keep_alive);
                        group.fail(error, &mut fx.wakes);
                    }
                }
            }
        }
        self.pump(name, fx);
    }

    /// Ends a group at once; its stream is still held.
    pub(crate) fn reset(&mut self, name: &GroupName, fx: &mut Effects) {
        if let Some(group) = self.groups.get_mut(name) {
            group.flow.reset();
        }
        self.pump(name, fx);
        self.close_path_of_opener(name, fx);
        if let Some(group) = self.groups.get_mut(name) {
            group.fail(RouteError::LocalFinished, &mut fx.wakes);
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

    /// The path of a group is dead: its opener looks for another one, its taker waits for that.
    pub(crate) fn path_lost(&mut self, name: &GroupName, fx: &mut Effects) {
        self.close_path(name, Reason::HopUnreachable, fx);
        if let Some(group) = self.groups.get_mut(name)
            && let Side::Opener { is_repairing, .. } = &mut group.side
            && group.error.is_none()
            && !self.is_closed
            && !*is_repairing
        {
            *is_repairing = true;
            fx.repair.push(*name);
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

    /// Takes the path from a group whose id is not in the table any more.
    pub(super) fn path_gone(&mut self, id: RouteId, entry: Option<&Entry>, fx: &mut Effects) {
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

    /// A taker cannot answer on this path any more; it waits for the opener's next one.
    pub(super) fn way_back_gone(&mut self, id: RouteId) {
        for group in self.groups.values_mut() {
            group.path.take_if(|path| path.own_id == id);
        }
    }
}

/// Time after which a handshake without an answer is sent again.
const HANDSHAKE_RETRY: Duration = Duration::from_secs(1);
