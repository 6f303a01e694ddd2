//! Opens whose destination is at another relay.
//!
//! ```text
//!   opener        this relay                     relay that has said to have the destination
//!   request  ->   nobody here has the key:
//!                 ask one of its holders  ---->  request, flag "forwarded"
//!                                         <----  response, or a refusal of that relay's own
//!            <-   response; or ask one more holder; or refuse
//! ```
//!
//! The request travels as the opener has signed it, but for the flag that keeps the next relay from
//! forwarding it again: one hop, no loops. From the answer on a forwarded stream is a bridge like any other,
//! one of whose legs is a stream of a link.
//!
//! Here: who is asked, the second try, what is remembered. Not here: the legs (`open`, `bridge`), who has
//! which peers (`announce`).
//!
//! Invariant: an open is forwarded only while its opener's leg is `Asked` and has been promised nothing; so a
//! second relay takes over where the first has said no.
//! Bound: `FORWARD_TRIES_MAX` relays an open; `NEGATIVE_ANSWERS_MAX` answers remembered;
//! `REQUEST_CHECKS_MAX` signatures with the executor, `REQUESTS_WAITING_MAX` behind them.

use std::collections::{BTreeMap, VecDeque};

use ringway_proto::dialect::Wants;
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{
    FORWARD_TRIES_MAX, LOOKUPS_MAX, NEGATIVE_ANSWER_TIME, NEGATIVE_ANSWERS_MAX, REQUEST_CHECKS_MAX,
    REQUESTS_WAITING_MAX,
};
use ringway_proto::reason::Reason;
use ringway_proto::time::Now;

use super::ShardCore;
use super::bridge::GRANT_MAX;
use super::event::{
    Action, Directory, Holder, Job, LookedUp, Lookup, Place, SessionKey, Slot, Step, StreamKey,
};
use super::stream::{Other, StreamState};
use crate::lease::Lease;

/// What a relay keeps of an open while it asks others.
#[derive(Debug)]
pub(super) struct Forward {
    /// With the flag set.
    request: Vec<u8>,
    destination: PublicKey,
    /// Relays that were asked, the present one last.
    asked: Vec<PublicKey>,
    /// What the opener might send when the first one was asked; more of it is a promise of a relay's.
    credit: u32,
    /// Bytes the opener has granted beyond the initial window, to whoever comes to be its destination.
    window_extra: u32,
    /// The registry has been asked: once an open is enough.
    is_looked_up: bool,
}

impl Forward {
    /// Returns whether a second relay can take over where the first was asked: that has not granted the
    /// opener anything, which the second one has not either, and the opener has not granted more than one
    /// request may, which would end the link to the second one.
    const fn is_untouched(&self, credit: u32) -> bool {
        credit == self.credit && self.window_extra <= GRANT_MAX
    }

    /// The opener grants more while somebody is being asked.
    pub(super) const fn note_grant(&mut self, delta: u32) {
        self.window_extra = self.window_extra.saturating_add(delta);
    }
}

/// Relays that have said a moment ago that they do not have a destination.
#[derive(Debug, Default)]
pub(super) struct Negatives(BTreeMap<(PublicKey, PublicKey), Now>);

impl Negatives {
    fn note(&mut self, destination: PublicKey, relay: PublicKey, now: Now) {
        if self.0.len() >= NEGATIVE_ANSWERS_MAX {
            self.0.retain(|_, until| *until > now);
        }
        // A table that is full of fresh answers is no reason to ask less: it forgets nothing and learns
        // nothing.
        if self.0.len() < NEGATIVE_ANSWERS_MAX {
            let until = now + NEGATIVE_ANSWER_TIME;
            self.0.insert((destination, relay), until);
        }
    }

    fn has(&mut self, destination: &PublicKey, relay: &PublicKey, now: Now) -> bool {
        let pair = (*destination, *relay);
        match self.0.get(&pair) {
            Some(until) if *until > now => true,
            Some(_) => {
                self.0.remove(&pair);
                false
            }
            None => false,
        }
    }
}

/// Requests of other relays on their way through the executor.
#[derive(Debug, Default)]
pub(super) struct Checks {
    under_way: usize,
    /// With their links.
    waiting: VecDeque<(SessionKey, StreamKey, Vec<u8>)>,
    /// Requests of peers here, for the shard itself.
    own: VecDeque<(StreamKey, Vec<u8>)>,
}

impl Checks {
    /// Gives back what a flood of requests has needed.
    pub(super) fn trim(&mut self) {
        self.waiting.shrink_to_fit();
        self.own.shrink_to_fit();
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A request is believed only when its signature says so: it has come over a link, signed by somebody
    /// else than the relay it came from, or its destination would end its session for a wrong one.
    ///
    /// What comes over links goes to the executor, since that takes as long as a handshake's step. A peer's
    /// own request is looked at by the shard, a few a turn: on a core without time left the executor would
    /// let all opens wait (a third of them a second, measured).
    pub(super) fn check_request(&mut self, slot: Slot, stream: StreamKey, request: &[u8]) {
        let Some(session) = self.sessions.get(slot.0 as usize) else {
            return;
        };
        let is_link = session.live().is_some_and(|live| live.link.is_some());
        self.common.stats.forwards_received += u64::from(is_link);
        if self.checks.waiting.len() + self.checks.own.len() >= REQUESTS_WAITING_MAX {
            return self.refuse(stream, Reason::RelayCapacity);
        }
        if !is_link {
            return self.checks.own.push_back((stream, request.to_vec()));
        }
        let session = session.key(slot);
        let request = request.to_vec();
        self.checks.waiting.push_back((session, stream, request));
        self.start_checks();
    }

    /// Looks at some of the requests that wait for the shard itself.
    pub(super) fn check_own(&mut self) {
        let mut left = OWN_CHECKS_TURN;
        while left > 0
            && let Some((stream, request)) = self.checks.own.pop_front()
        {
            // Whose stream has gone meanwhile costs nothing.
            let Some(dialect) = self.dialect_of(stream) else {
                continue;
            };
            left -= 1;
            let is_valid = dialect.verify_request(&request).is_ok();
            self.request_checked(stream, &request, is_valid);
        }
    }

    /// Returns whether requests wait for the next turn.
    pub(super) fn has_own_checks(&self) -> bool {
        !self.checks.own.is_empty()
    }

    /// Hands waiting requests to the executor, as many as it may have.
    fn start_checks(&mut self) {
        while self.checks.under_way < REQUEST_CHECKS_MAX
            && let Some((session, stream, request)) = self.checks.waiting.pop_front()
        {
            let live = self.live_mut(session.slot);
            let Some(dialect) = live.map(|live| live.dialect()) else {
                continue;
            };
            // Whose stream has gone meanwhile costs the executor nothing.
            if self.streams.get(stream).is_none() {
                continue;
            }
            self.checks.under_way += 1;
            let step = Step::CheckRequest {
                dialect,
                stream,
                request,
            };
            let job = Job { session, step };
            self.common.actions.push_back(Action::Compute(job));
        }
    }

    /// The executor has done with a request, whatever became of its link meanwhile.
    pub(super) fn end_check(&mut self) {
        self.checks.under_way -= 1;
        self.start_checks();
    }

    /// The executor has looked at the signature of a request.
    pub(super) fn request_checked(&mut self, key: StreamKey, request: &[u8], is_valid: bool) {
        let Some(stream) = self
            .streams
            .get(key)
            .filter(|stream| stream.state == StreamState::Asked)
        else {
            return;
        };
        let slot = stream.session.slot;
        let Some(live) = self.live_mut(slot) else {
            return;
        };
        let (dialect, is_link) = (live.dialect(), live.link.is_some());
        if !is_valid {
            return self.refuse(key, Reason::BadSignature);
        }
        if is_link && self.link_streams_count() >= u64::from(self.config.mesh.forwarded_streams_max)
        {
            return self.refuse(key, Reason::RelayCapacity);
        }
        match dialect.decode_request(request) {
            Ok(head) if head.wants != Wants::Stream => self.answer_address(key, &head),
            Ok(head) => self.route(key, request, &head.destination.key, !is_link),
            Err(error) => self.refuse(key, error.reason()),
        }
    }

    /// Asks another relay for a destination that has no session here.
    pub(super) fn forward_request(
        &mut self,
        key: StreamKey,
        request: &[u8],
        destination: &PublicKey,
    ) {
        // Most opens to nobody end here, before anything is kept of them.
        let is_known = !self.directory.holders(destination).is_empty()
            || self.has_link_to(destination)
            || !self.servers(destination).is_empty();
        let has_directory = self.config.mesh.has_directory_of(destination.dialect());
        if !is_known && !has_directory {
            return self.refuse(key, Reason::UnknownDestination);
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_mut() else {
            return;
        };
        let mut request = request.to_vec();
        destination.dialect().mark_forwarded(&mut request);
        opening.forward = Some(Box::new(Forward {
            request,
            destination: *destination,
            asked: Vec::new(),
            credit: stream.credit,
            window_extra: opening.window_extra,
            is_looked_up: false,
        }));
        if self.ask_holder(key) {
            return;
        }
        if let Err(reason) = self.look_up(key) {
            self.refuse(key, reason);
        }
    }

    /// Asks the registry where the destination of an open is, once.
    fn look_up(&mut self, key: StreamKey) -> Result<(), Reason> {
        let has_room = self.common.stats.lookups_current < u64::from(LOOKUPS_MAX);
        let forward = self.forward_mut(key).ok_or(Reason::UnknownDestination)?;
        let destination = forward.destination;
        let was_looked_up = std::mem::replace(&mut forward.is_looked_up, true);
        if was_looked_up || !self.config.mesh.has_directory_of(destination.dialect()) {
            return Err(Reason::UnknownDestination);
        }
        let lookup = Lookup {
            stream: key,
            key: destination,
        };
        self.common.stats.lookups_sent += 1;
        if !has_room {
            self.common.stats.lookups_unavailable += 1;
            return Err(Reason::DirectoryUnavailable);
        }
        self.common.stats.lookups_current += 1;
        self.common.actions.push_back(Action::LookUp(lookup));
        Ok(())
    }

    /// The registry has answered. Once for each [`Action::LookUp`].
    pub fn looked_up(&mut self, lookup: Lookup, answer: LookedUp, now: Now) {
        self.now = now;
        let stats = &mut self.common.stats;
        stats.lookups_current -= 1;
        match answer {
            LookedUp::At(_) => stats.lookups_found += 1,
            LookedUp::Nowhere => stats.lookups_nowhere += 1,
            LookedUp::Unavailable => stats.lookups_unavailable += 1,
        }
        let key = lookup.stream;
        // Without an opener, or given up in favour of its time-out, the open is gone.
        let Some(forward) = self.forward_mut(key) else {
            return;
        };
        let relay = match answer {
            LookedUp::At(relay) => relay,
            LookedUp::Nowhere => return self.refuse(key, Reason::UnknownDestination),
            LookedUp::Unavailable => return self.refuse(key, Reason::DirectoryUnavailable),
        };
        let is_asked = forward.asked.contains(&relay);
        if let Some(place) = self.directory.lookup(&lookup.key) {
            // It has come here meanwhile.
            return self.ask_arrived(key, place);
        }
        if is_asked || self.negatives.has(&lookup.key, &relay, now) {
            return self.refuse(key, Reason::UnknownDestination);
        }
        let Some(link) = self.link_to(&relay, self.directory.announcer(&relay)) else {
            self.common.stats.lookups_unlinked += 1;
            return self.refuse(key, Reason::UnknownDestination);
        };
        if !self.ask_relay(key, relay, link) {
            self.refuse(key, Reason::RelayCapacity);
        }
    }

    /// Asks a session of this relay in place of another relay.
    fn ask_arrived(&mut self, key: StreamKey, place: Place) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let Some(opening) = stream.opening.as_mut() else {
            return;
        };
        let Some(forward) = opening.forward.take() else {
            return;
        };
        opening.window_extra = forward.window_extra;
        self.ask_at(key, place, &forward.request);
    }

    fn forward_mut(&mut self, key: StreamKey) -> Option<&mut Forward> {
        let opening = self.streams.get_mut(key)?.opening.as_mut()?;
        opening.forward.as_deref_mut()
    }

    /// Returns whether another relay is being asked for the destination of an open.
    pub(super) fn is_forwarding(&self, key: StreamKey) -> bool {
        let stream = self.streams.get(key);
        let opening = stream.and_then(|stream| stream.opening.as_ref());
        opening.is_some_and(|opening| opening.forward.is_some())
    }

    /// A relay that was asked has said no, or is gone; returns whether another one is asked instead.
    pub(super) fn forward_on(&mut self, key: StreamKey, reason: Reason) -> bool {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(key) else {
            return false;
        };
        let (is_waiting, credit) = (stream.state == StreamState::Asked, stream.credit);
        let Some(forward) = stream.opening.as_mut().and_then(|o| o.forward.as_mut()) else {
            return false;
        };
        let is_untouched = is_waiting && forward.is_untouched(credit);
        let Some(asked) = forward.asked.last().copied() else {
            return false;
        };
        if reason == Reason::UnknownDestination {
            self.negatives.note(forward.destination, asked, now);
            if forward.is_looked_up {
                let key = forward.destination;
                self.common.actions.push_back(Action::Doubt { key });
            }
        }
        if !is_untouched || !is_worth_another(reason) || forward.asked.len() >= FORWARD_TRIES_MAX {
            return false;
        }
        stream.other = Other::None;
        let is_asked = self.ask_holder(key);
        self.common.stats.forwards_again += u64::from(is_asked);
        is_asked || self.look_up(key).is_ok()
    }

    /// Asks the next relay that has said to have the destination; false when there is none.
    fn ask_holder(&mut self, key: StreamKey) -> bool {
        let now = self.now;
        let Some(stream) = self.streams.get(key) else {
            return false;
        };
        let opening = stream.opening.as_ref();
        let Some(forward) = opening.and_then(|opening| opening.forward.as_ref()) else {
            return false;
        };
        let destination = forward.destination;
        let asked = forward.asked.clone();
        let mut holders = self.directory.holders(&destination);
        holders.retain(|holder| !asked.contains(&holder.relay));
        // The services of another relay are at that relay.
        if let Some(link) = self.link_to(&destination, self.directory.announcer(&destination))
            && !asked.contains(&destination)
        {
            holders.push(Holder {
                relay: destination,
                link,
            });
        }
        let servers = self.servers(&destination).into_iter();
        holders.extend(servers.filter(|holder| !asked.contains(&holder.relay)));
        let before = holders.len();
        holders.retain(|holder| !self.negatives.has(&destination, &holder.relay, now));
        self.common.stats.forwards_spared += (before - holders.len()) as u64;
        // The directory knows them in the order in which they told: the last one is where the peer came last.
        let Some(holder) = holders.last().copied() else {
            return false;
        };
        let Some(link) = self.link_to(&holder.relay, Some(holder.link)) else {
            return false;
        };
        self.ask_relay(key, holder.relay, link)
    }

    /// Asks a relay; false when too many streams are on links already.
    fn ask_relay(&mut self, key: StreamKey, relay: PublicKey, link: Place) -> bool {
        if self.link_streams_count() >= u64::from(self.config.mesh.forwarded_streams_max) {
            return false;
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return false;
        };
        let Some(opening) = stream.opening.as_mut() else {
            return false;
        };
        let Some(forward) = opening.forward.as_mut() else {
            return false;
        };
        forward.asked.push(relay);
        opening.window_extra = forward.window_extra;
        let request = forward.request.clone();
        self.common.stats.forwards_sent += 1;
        self.ask_at(key, link, &request);
        true
    }

    /// Returns the link to reach a relay by: of this shard's own the one with the fewest streams, else the
    /// one that is known to stand on some shard.
    fn link_to(&self, relay: &PublicKey, known: Option<Place>) -> Option<Place> {
        let streams = |slot: Slot| {
            let session = self.sessions.get(slot.0 as usize);
            session
                .and_then(|session| session.live())
                .map_or(u32::MAX, |live| live.streams_count())
        };
        let own = self.links.with(relay).iter();
        let own = own.min_by_key(|link| streams(link.slot)).map(|link| Place {
            shard: self.config.shard,
            session: *link,
        });
        own.or(known)
    }

    fn has_link_to(&self, relay: &PublicKey) -> bool {
        self.link_to(relay, self.directory.announcer(relay))
            .is_some()
    }

    /// Returns the streams on all links.
    fn link_streams_count(&self) -> u64 {
        let links = self.links.all().into_iter();
        let lives = links.filter_map(|link| self.sessions.get(link.slot.0 as usize)?.live());
        lives.map(|live| u64::from(live.streams_count())).sum()
    }
}

/// Signatures that a shard verifies itself in a turn. A refused open costs 42 us in all
/// (docs/benchmarks.md), so eight of them take less than half a millisecond of it.
pub(super) const OWN_CHECKS_TURN: u32 = 8;

/// Returns what a refusal of another relay means to the opener: that it was asked by a relay is our business.
pub(super) const fn of_another_relay(reason: Reason) -> Reason {
    match reason {
        Reason::ForwardedTwice => Reason::UnknownDestination,
        reason => reason,
    }
}

/// Returns whether another relay may do better than one that refuses for this reason.
const fn is_worth_another(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownDestination
            | Reason::Draining
            | Reason::TooManyStreams
            | Reason::RelayCapacity
            | Reason::NotAllowed
            | Reason::RefusedByDestination
    )
}

#[cfg(test)]
mod tests {
    use ringway_proto::key::SecretKey;

    use super::*;

    #[test]
    fn second_relay_is_not_asked_for_more_than_a_request_may_grant() {
        let mut forward = Forward {
            request: Vec::new(),
            destination: SecretKey::from_seed([1; 32]).public(),
            asked: Vec::new(),
            credit: 1_000,
            window_extra: 0,
            is_looked_up: false,
        };
        assert!(forward.is_untouched(1_000) && !forward.is_untouched(1_001));
        forward.note_grant(GRANT_MAX);
        assert!(forward.is_untouched(1_000));
        for _ in 0..8 {
            forward.note_grant(GRANT_MAX);
            assert!(!forward.is_untouched(1_000));
        }
    }
}
