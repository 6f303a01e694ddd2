//! Links: sessions between relays, and who is dialed when.
//!
//! ```text
//!   wanted relay:   waiting --timer--> dialing --connected--> Linking --verdict: accepted--> up
//!                      ^                  |                      |                           |
//!                      +----- failed -----+------- failed -------+-------- lost -------------+
//! ```
//!
//! A shard keeps at least one link with each relay that its configuration or the registry names, and dials
//! only while it has none, whoever began the one it has. So two relays that name each other come to rest:
//! neither closes a link that stands, and neither makes another. Waits grow with each failure and are
//! spread, so that a fleet does not come back to a relay all at once.
//!
//! A link is a session like any other afterwards, but for the ids of its streams (odd ones are those of the
//! side that began it), the count of them, and the time after which silence is suspicious. It is in no
//! directory of peers.
//!
//! Here: the wanted relays, the handshake that this relay begins, what stands. Not here: the one it answers
//! (`admission`), connects (`dial`), what goes over a link.
//!
//! Invariant: a wanted relay has a timer, an attempt, or a link; never two attempts.
//! Bound: `links_max` links and handshakes of links a shard; one attempt a wanted relay; the configuration
//! and the registry name `RELAYS_MAX` each.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_proto::dialect::Dialect;
use ringway_proto::dialect::handshake::Initiator;
use ringway_proto::entry::RelayEntry;
use ringway_proto::handshake::{Extension, ExtensionKind, HandshakeError};
use ringway_proto::key::PublicKey;
use ringway_proto::limits::{LINK_RETRY_MAX, LINK_RETRY_MIN};
use ringway_proto::reason::Reason;
use ringway_proto::sealed::{Opener, Sealer};
use ringway_proto::time::Now;
use ringway_proto::verdict::Verdict;

use super::admission::message_length;
use super::announce::{LinkState, Withdrawals};
use super::collect::{Taken, take};
use super::config::RelayAddress;
use super::dial::DialKey;
use super::event::{Action, Directory, Job, Progress, SessionKey, Slot, Step};
use super::open::object_length;
use super::session::{LinkSide, LinkStage, Linking, Live, Phase};
use super::timers::{Timer, TimerKey};
use super::{Cause, ShardCore};
use crate::lease::Lease;

/// The links of a shard and the relays it wants some with.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By number.
    wanted: Vec<Wanted>,
    /// Links that stand, by the other relay's key; no entry is empty.
    up: BTreeMap<PublicKey, Vec<SessionKey>>,
    /// Links that stand and handshakes of links.
    count: u32,
    /// Some link has something to announce.
    pub(super) are_announcing: bool,
    pub(super) withdrawals: Withdrawals,
}

/// A relay that the configuration names, or the registry.
#[derive(Debug)]
struct Wanted {
    relay: RelayAddress,
    by: WantedBy,
    attempt: Option<Attempt>,
    /// In a row.
    failures: u32,
    /// When to dial.
    timer: Option<TimerKey>,
}

/// Who wants a link with a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WantedBy {
    Configuration,
    /// Nobody any more: the place is free once its attempt is over.
    Nobody,
    Registry,
}

/// A link being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Dialing(DialKey),
    Shaking(SessionKey),
}

impl Links {
    pub(super) fn new(relays: &[RelayAddress]) -> Self {
        let wanted = relays
            .iter()
            .map(|relay| Wanted::new(*relay, WantedBy::Configuration));
        Self {
            wanted: wanted.collect(),
            up: BTreeMap::new(),
            count: 0,
            are_announcing: false,
            withdrawals: Withdrawals::new(),
        }
    }

    fn wanted_mut(&mut self, relay: u32) -> Option<&mut Wanted> {
        self.wanted.get_mut(usize::try_from(relay).ok()?)
    }

    /// Returns the number of a wanted relay.
    fn number_of(&self, key: &PublicKey) -> Option<u32> {
        let is_it = |wanted: &Wanted| wanted.relay.key == *key && wanted.by != WantedBy::Nobody;
        let place = self.wanted.iter().position(is_it)?;
        u32::try_from(place).ok()
    }

    /// Puts a relay of the registry into a free place; returns its number.
    fn add(&mut self, relay: RelayAddress) -> Option<u32> {
        let wanted = Wanted::new(relay, WantedBy::Registry);
        let place = match self.wanted.iter().position(Wanted::is_free) {
            Some(free) => {
                self.wanted[free] = wanted;
                free
            }
            None => {
                self.wanted.push(wanted);
                self.wanted.len() - 1
            }
        };
        u32::try_from(place).ok()
    }

    /// Returns every link.
    pub(super) fn all(&self) -> Vec<SessionKey> {
        self.up.values().flatten().copied().collect()
    }

    /// Returns the links that stand with a relay, the oldest first.
    pub(super) fn with(&self, relay: &PublicKey) -> &[SessionKey] {
        self.up.get(relay).map_or(&[], Vec::as_slice)
    }
}

impl Wanted {
    const fn new(relay: RelayAddress, by: WantedBy) -> Self {
        Self {
            relay,
            by,
            attempt: None,
            failures: 0,
            timer: None,
        }
    }

    fn is_free(&self) -> bool {
        self.by == WantedBy::Nobody && self.attempt.is_none()
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Sets the relays of a dialect that its registry names, besides those of the configuration. Those that
    /// it does not name any more are no longer dialed; their links stand.
    pub fn want_relays(&mut self, dialect: Dialect, relays: &[RelayAddress], now: Now) {
        self.now = now;
        let mut named: BTreeMap<_, _> = relays.iter().map(|r| (r.key, r.address)).collect();
        named.retain(|key, _| key.dialect() == dialect && !self.config.is_own(key));
        let of_dialect = |wanted: &&mut Wanted| wanted.relay.key.dialect() == dialect;
        for wanted in self.links.wanted.iter_mut().filter(of_dialect) {
            let RelayAddress { key, address } = wanted.relay;
            match wanted.by {
                WantedBy::Nobody => {}
                WantedBy::Configuration => drop(named.remove(&key)),
                WantedBy::Registry if named.get(&key) == Some(&address) => {
                    named.remove(&key);
                }
                WantedBy::Registry => {
                    wanted.by = WantedBy::Nobody;
                    self.wheel.cancel(&mut wanted.timer);
                }
            }
        }
        for (key, address) in named {
            let relay = RelayAddress { key, address };
            if let Some(number) = self.links.add(relay)
                && self.is_linked_here(&key)
                && self.links.with(&key).is_empty()
                && !self.is_draining
            {
                self.set_link_timer(number, Duration::ZERO);
            }
        }
    }

    /// Returns the wanted relays.
    pub(super) fn wanted_relays(&self) -> impl Iterator<Item = PublicKey> + '_ {
        let wanted = self.links.wanted.iter();
        wanted
            .filter(|wanted| wanted.by != WantedBy::Nobody)
            .map(|wanted| wanted.relay.key)
    }

    /// Returns whether a link with a relay is wanted.
    pub(super) fn is_wanted_relay(&self, key: &PublicKey) -> bool {
        self.links.number_of(key).is_some()
    }

    /// Sets the first timers: every wanted relay is dialed at once.
    pub(super) fn want_links(&mut self) {
        for relay in 0..u32::try_from(self.links.wanted.len()).unwrap_or(u32::MAX) {
            let wanted = self.links.wanted_mut(relay).map(|wanted| wanted.relay.key);
            if wanted.is_some_and(|key| self.is_linked_here(&key)) {
                self.set_link_timer(relay, Duration::ZERO);
            }
        }
    }

    fn set_link_timer(&mut self, relay: u32, wait: Duration) {
        let due = self.now + wait;
        if let Some(wanted) = self.links.wanted_mut(relay) {
            self.wheel.set(&mut wanted.timer, due, Timer::Link(relay));
        }
    }

    /// The timer of a wanted relay fired.
    pub(super) fn link_timeout(&mut self, relay: u32) {
        let links_max = self.config.mesh.links_max;
        let has_room = self.links.count < links_max;
        let Some(wanted) = self.links.wanted_mut(relay) else {
            return;
        };
        wanted.timer = None;
        let target = wanted.relay.address;
        if !has_room {
            return self.link_failed(relay, Reason::TooManySessions, None);
        }
        match self.dial_link(target, relay) {
            Ok(dial) => {
                if let Some(wanted) = self.links.wanted_mut(relay) {
                    wanted.attempt = Some(Attempt::Dialing(dial));
                }
            }
            Err(error) => self.link_failed(relay, error.reason(), None),
        }
    }

    /// The connection for a link stands: begins its handshake.
    pub(super) fn begin_link(&mut self, slot: Slot, relay: u32) {
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        let key = session.key(slot);
        session.phase = Phase::Linking(Box::new(Linking {
            relay,
            stage: LinkStage::Computing,
            collected: Vec::new(),
        }));
        self.links.count += 1;
        let Some(wanted) = self.links.wanted_mut(relay) else {
            return;
        };
        wanted.attempt = Some(Attempt::Shaking(key));
        let announcement = self.config.mesh.entry.as_ref().map(Extension::from);
        let step = Step::LinkHello {
            relay: wanted.relay.key,
            extensions: announcement.into_iter().collect(),
        };
        let job = Job { session: key, step };
        self.common.actions.push_back(Action::Compute(job));
        self.set_session_timer(slot, self.now + self.config.timeouts.handshake);
    }

    pub(super) fn is_linking(&self, slot: Slot) -> bool {
        let session = self.sessions.get(slot.0 as usize);
        session.is_some_and(|session| matches!(session.phase, Phase::Linking(_)))
    }

    fn linking_mut(&mut self, slot: Slot) -> Option<&mut Linking> {
        match &mut self.sessions.get_mut(slot.0 as usize)?.phase {
            Phase::Linking(linking) => Some(linking),
            _ => None,
        }
    }

    /// The executor has finished a step of a handshake that this relay began.
    pub(super) fn link_computed(
        &mut self,
        session: SessionKey,
        outcome: Result<Progress, HandshakeError>,
    ) {
        let slot = session.slot;
        let (stage, message) = match outcome {
            Ok(Progress::LinkHello { initiator, message }) => {
                (LinkStage::Message2(initiator), message)
            }
            Ok(Progress::LinkAnswer { keys, message }) => {
                if !self.has_verdict(slot) {
                    self.push_control(slot, &message);
                    return self.link_stands(slot, *keys);
                }
                (LinkStage::Verdict(keys), message)
            }
            Ok(
                Progress::AddressAnswered { .. }
                | Progress::AnnouncementChecked { .. }
                | Progress::Established(_)
                | Progress::Reply { .. }
                | Progress::RequestChecked { .. },
            ) => return,
            Err(error) => {
                return self.end_linking(slot, Cause::Reason(error.reason()), None);
            }
        };
        if let Some(linking) = self.linking_mut(slot) {
            linking.stage = stage;
            self.push_control(slot, &message);
        }
    }

    /// Bytes of a relay whose link is being made.
    pub(super) fn collect_link(&mut self, slot: Slot, mut lease: L) {
        let Some(linking) = self.linking_mut(slot) else {
            return;
        };
        let taken = match &linking.stage {
            // It is our turn to speak.
            LinkStage::Computing => Err(Reason::ProtocolError),
            LinkStage::Message2(initiator) => {
                let dialect = match **initiator {
                    Initiator::Native(_) => Dialect::Native,
                    Initiator::Dmsg(_) => Dialect::Dmsg,
                };
                let length = |prefix: &[u8]| message_length(dialect, prefix);
                take(&mut linking.collected, lease.bytes(), length)
            }
            LinkStage::Verdict(_) => {
                let length = |prefix: &[u8]| object_length(Dialect::Native, prefix);
                take(&mut linking.collected, lease.bytes(), length)
            }
        };
        let Taken { bytes, is_complete } = match taken {
            Ok(taken) => taken,
            Err(reason) => return self.end_linking(slot, Cause::Reason(reason), None),
        };
        lease.advance(bytes);
        if !is_complete {
            return;
        }
        let mut collected = std::mem::take(&mut linking.collected);
        match std::mem::replace(&mut linking.stage, LinkStage::Computing) {
            LinkStage::Computing => {}
            LinkStage::Message2(initiator) => {
                if !lease.is_empty() {
                    let cause = Cause::Reason(Reason::BadHandshake);
                    return self.end_linking(slot, cause, None);
                }
                collected.drain(..2);
                let step = Step::LinkAnswer {
                    initiator,
                    message: collected,
                };
                let session = self.sessions[slot.0 as usize].key(slot);
                let job = Job { session, step };
                self.common.actions.push_back(Action::Compute(job));
            }
            LinkStage::Verdict(keys) => {
                self.take_verdict(slot, *keys, &mut collected);
                if !lease.is_empty() {
                    self.take_received(slot, lease);
                }
            }
        }
    }

    /// The other relay has decided.
    fn take_verdict(&mut self, slot: Slot, mut keys: (Sealer, Opener), object: &mut [u8]) {
        let sealed = object.get_mut(2..).unwrap_or_default();
        let verdict = keys
            .1
            .open(sealed)
            .map_err(|error| error.reason())
            .and_then(|plain| Verdict::decode(plain).map_err(|error| error.reason()));
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(reason) => return self.end_linking(slot, Cause::Reason(reason), None),
        };
        if !verdict.is_accepted() {
            let cause = Cause::Reason(verdict.reason);
            return self.end_linking(slot, cause, verdict.retry_after());
        }
        self.link_stands(slot, keys);
    }

    /// Returns whether the relay that a link is being made with will say whether it takes it.
    fn has_verdict(&mut self, slot: Slot) -> bool {
        let relay = self.linking_mut(slot).map(|linking| linking.relay);
        let wanted = relay.and_then(|relay| self.links.wanted_mut(relay));
        wanted.is_none_or(|wanted| wanted.relay.key.dialect().has_verdict())
    }

    /// The handshake of a link that this relay began has ended well.
    fn link_stands(&mut self, slot: Slot, keys: (Sealer, Opener)) {
        let now = self.now;
        let Some(relay) = self.linking_mut(slot).map(|linking| linking.relay) else {
            return;
        };
        let Some(wanted) = self.links.wanted_mut(relay) else {
            return;
        };
        wanted.attempt = None;
        let RelayAddress { key, address } = wanted.relay;
        self.directory.note_relay(key, Some(address));
        // Its handshake is over; `link_up` counts it again.
        self.links.count -= 1;
        let Some(session) = self.sessions.get_mut(slot.0 as usize) else {
            return;
        };
        let live = Live::new(key, Some(LinkSide::Begun), keys, now);
        session.phase = Phase::Live(Box::new(live));
        let session = session.key(slot);
        self.link_up(key, session);
        self.set_keepalive_timer(slot);
    }

    /// Ends a link that is being made.
    pub(super) fn end_linking(&mut self, slot: Slot, cause: Cause, retry_after: Option<Duration>) {
        let Some(relay) = self.linking_mut(slot).map(|linking| linking.relay) else {
            return;
        };
        self.links.count -= 1;
        // The connection is one that this relay has dialed, whatever was to become of it.
        self.end_dialed(slot, cause);
        self.link_failed(relay, reason_of(cause), retry_after);
    }

    /// A link could not be made: it is tried again later.
    pub(super) fn link_failed(&mut self, relay: u32, reason: Reason, after: Option<Duration>) {
        self.common.stats.links_failed.count(reason);
        let seed = self.config.hash_seed;
        let now = self.now;
        let is_over = self.is_draining;
        let Some(wanted) = self.links.wanted_mut(relay) else {
            return;
        };
        wanted.attempt = None;
        let wait = retry_wait(wanted.failures, seed ^ u64::from(relay), now);
        wanted.failures = wanted.failures.saturating_add(1);
        let key = wanted.relay.key;
        let is_wanted = wanted.by != WantedBy::Nobody;
        // One that the other relay began may stand by now.
        if is_wanted && !is_over && self.links.with(&key).is_empty() {
            self.set_link_timer(relay, after.map_or(wait, |after| after.max(wait)));
        }
    }

    /// Returns whether the shard has as many links as it may.
    pub(super) const fn links_are_full(&self) -> bool {
        self.links.count >= self.config.mesh.links_max
    }

    /// Decides whether a relay may have another link.
    pub(super) fn admit_link(&self, key: &PublicKey) -> Reason {
        let sessions_max = u64::from(self.config.admission.sessions_max);
        let has_room = self.links.count < self.config.mesh.links_max
            && self.common.stats.sessions_current < sessions_max;
        // A server of the dmsg dialect was looked up before it got here.
        if key.dialect().has_verdict() && !self.config.mesh.allows(key) {
            Reason::NotAllowed
        } else if !has_room {
            Reason::TooManySessions
        } else {
            Reason::Accepted
        }
    }

    /// Notes what a relay that has begun a link says of itself.
    pub(super) fn note_announcement(&self, relay: PublicKey, extensions: &[Extension]) {
        let announcement = extensions
            .iter()
            .find(|extension| extension.kind == ExtensionKind::Announcement);
        let entry = announcement.and_then(|found| RelayEntry::decode(&found.value).ok());
        let own = entry.filter(|entry| entry.relay == relay);
        self.directory
            .note_relay(relay, own.and_then(|entry| entry.address));
    }

    /// A link stands.
    pub(super) fn link_up(&mut self, key: PublicKey, session: SessionKey) {
        self.links.count += 1;
        self.common.stats.links_opened += 1;
        self.common.stats.links_current += 1;
        self.links.up.entry(key).or_default().push(session);
        if let Some(relay) = self.links.number_of(&key)
            && let Some(wanted) = self.links.wanted_mut(relay)
        {
            wanted.failures = 0;
            self.wheel.cancel(&mut wanted.timer);
        }
        if key.dialect() != Dialect::Native {
            self.offer_link(&key, session);
        } else if self.open_announcements(session) {
            self.choose_announcer(&key);
        } else {
            self.refuse_link(session);
        }
    }

    /// A link has ended.
    pub(super) fn link_down(
        &mut self,
        key: PublicKey,
        session: SessionKey,
        link: LinkState,
        cause: Cause,
    ) {
        self.links.count -= 1;
        let stats = &mut self.common.stats;
        stats.links_current -= 1;
        match cause {
            Cause::Left => stats.links_left += 1,
            Cause::Lost => stats.links_lost += 1,
            Cause::Reason(reason) => stats.links_closed.count(reason),
        }
        if link.side == LinkSide::Begun {
            self.count_dialed_end(cause);
        }
        if let Some(up) = self.links.up.get_mut(&key) {
            up.retain(|other| *other != session);
            if up.is_empty() {
                self.links.up.remove(&key);
            }
        }
        if key.dialect() == Dialect::Native {
            self.end_announcements(&key, session, link);
        } else {
            self.withdraw_link(&key, session);
        }
        let Some(relay) = self.links.number_of(&key) else {
            return;
        };
        let (seed, now) = (self.config.hash_seed, self.now);
        let is_idle = self
            .links
            .wanted_mut(relay)
            .is_some_and(|wanted| wanted.attempt.is_none() && wanted.timer.is_none());
        if is_idle
            && !self.is_draining
            && self.is_linked_here(&key)
            && self.links.with(&key).is_empty()
        {
            self.set_link_timer(relay, retry_wait(0, seed ^ u64::from(relay), now));
        }
    }

    /// Returns every link that stands.
    #[cfg(test)]
    pub(super) fn links_for_tests(&self) -> Vec<SessionKey> {
        self.links.all()
    }

    /// Gives up every wanted relay: the relay is ending.
    pub(super) fn forget_links(&mut self) {
        for wanted in &mut self.links.wanted {
            self.wheel.cancel(&mut wanted.timer);
        }
    }
}

const fn reason_of(cause: Cause) -> Reason {
    match cause {
        Cause::Left | Cause::Lost => Reason::RefusedByDestination,
        Cause::Reason(reason) => reason,
    }
}

/// Returns how long to wait after `failures` failures in a row: twice as long each time, less up to half of
/// it by chance, which `seed` and the time stand for.
fn retry_wait(failures: u32, seed: u64, now: Now) -> Duration {
    let longest = LINK_RETRY_MIN
        .saturating_mul(1 << failures.min(16))
        .min(LINK_RETRY_MAX);
    // The high half of a product with an odd constant (2^64 divided by the golden ratio) is as good as
    // random.
    let mixed = (seed ^ now.as_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let half = longest / 2;
    let share = u32::try_from(mixed % 1_024).unwrap_or(0);
    longest - half * share / 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread() {
        for failures in 0..40 {
            let longest = (LINK_RETRY_MIN * 2_u32.pow(failures.min(10))).min(LINK_RETRY_MAX);
            let waits: Vec<Duration> = (0..200)
                .map(|n| retry_wait(failures, n, Now::from_nanos(n * 7_919)))
                .collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*least >= longest / 2 && *most <= longest, "{failures}");
            assert!(
                *most - *least > longest / 4,
                "spread over more than a quarter"
            );
        }
    }
}
