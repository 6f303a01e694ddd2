//! What relays tell each other about their peers.
//!
//! The first stream of either side of a link exists from the beginning: on it the side sends peer sets, first
//! a whole one, then what changes. A relay tells another one on one link of all its shards', which claims
//! that place in the directory; when it ends another link takes it and begins with a whole set. What is
//! told lies in the directory that all shards share, so that the usual forward asks nobody.
//!
//! A shard on which a session begins or ends tells the shards that announce which key it was of, and they
//! look into the directory when they send: what they tell is true at that moment, whatever the order of
//! messages, and a later change brings another message. Changes that wait for the window or for the socket
//! are merged: of a peer that comes and goes a hundred times the other side hears the last word. A gap in
//! the numbers of the sets means that something was missed, and the other side is asked to begin anew;
//! until it does, what was told before is believed.
//!
//! Here: both ends of these streams. Not here: which relay a request is forwarded to (`forward`).
//!
//! Invariant: what a link has told is in the directory exactly as long as the link stands, but for a moment
//! after its end in which it is taken out piece by piece (`WITHDRAWALS_MAX` a turn).
//! Bound: `ANNOUNCED_MAX` peers a shard; one pending change a peer; sets that open requests
//! overtake stay inside the nonce window (asserted below).

use std::collections::{BTreeSet, VecDeque};

use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::key::{NATIVE_KEY_LEN, PublicKey};
use ringway_proto::limits::{
    ANNOUNCED_MAX, NONCE_WINDOW_BITS, PEER_SET_FIXED, PEER_SET_KEYS_MAX, SEALED_OVERHEAD,
    WINDOW_INITIAL,
};
use ringway_proto::peer_set::{PeerSet, RawKey};
use ringway_proto::reason::Reason;

use super::bridge::CREDIT_MAX;
use super::egress::DIRECT_BYTES_MAX;
use super::event::{Action, Directory, Holder, Message, Place, SessionKey, Slot, StreamKey};
use super::session::{LinkSide, Session};
use super::stream::{Piece, Stream, StreamState};
use super::{Cause, ShardCore, Violation};
use crate::lease::Lease;

/// What only a link has.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) side: LinkSide,
    /// The stream on which this side tells; set by `open_announcements`.
    announcing: Option<StreamKey>,
    announcer: Announcer,
    heard: Heard,
}

/// What this relay tells on the link.
#[derive(Debug)]
struct Announcer {
    /// Bytes that the other side allows.
    credit: u32,
    sequence: u64,
    /// This link is the one that its relay is told on.
    is_active: bool,
    is_anew: bool,
    /// The other side is to begin anew.
    asks_anew: bool,
    /// Peers of which the other side has not heard the last word.
    pending: BTreeSet<RawKey>,
}

/// What the other relay has told on the link.
#[derive(Debug, Default)]
struct Heard {
    /// Number of the next set; `None` before a set has begun and after a gap.
    expected: Option<u64>,
    keys: BTreeSet<PublicKey>,
    /// Bytes read since the last grant.
    unread: u32,
}

/// Peers of a link that has ended, on their way out of the directory.
#[derive(Debug)]
pub(super) struct Withdrawal {
    link: Place,
    keys: BTreeSet<PublicKey>,
}

impl LinkState {
    pub(super) fn new(side: LinkSide) -> Self {
        Self {
            side,
            announcing: None,
            announcer: Announcer {
                credit: WINDOW_INITIAL,
                sequence: 0,
                is_active: false,
                is_anew: false,
                asks_anew: false,
                pending: BTreeSet::new(),
            },
            heard: Heard::default(),
        }
    }
}

impl Announcer {
    fn has_work(&self) -> bool {
        self.is_anew || self.asks_anew || !self.pending.is_empty()
    }

    /// Takes the next set out of what is pending.
    fn next_set(&mut self, directory: &impl Directory) -> Vec<u8> {
        let mut appeared = Vec::new();
        let mut gone = Vec::new();
        while appeared.len() + gone.len() < PEER_SET_KEYS_MAX
            && let Some(key) = self.pending.pop_first()
        {
            let is_here = directory.lookup(&PublicKey::native(key)).is_some();
            if is_here { &mut appeared } else { &mut gone }.push(key);
        }
        let is_anew = std::mem::take(&mut self.is_anew);
        let set = PeerSet::new(is_anew, self.sequence, &appeared, &gone);
        self.sequence += 1;
        let Ok(set) = set else { return Vec::new() };
        if std::mem::take(&mut self.asks_anew) {
            set.asking_anew().encode()
        } else {
            set.encode()
        }
    }
}

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// Puts the two streams of a new link into its table; false when the shard has no room for them.
    pub(super) fn open_announcements(&mut self, session: SessionKey) -> bool {
        let slot = session.slot;
        let now = self.now;
        let Some(side) = self.live_mut(slot).and_then(|live| live.side()) else {
            return false;
        };
        let mut insert = |side: LinkSide, state| {
            let id = side.announcing_id();
            self.insert_stream(slot, id, Stream::opening(session, id, state, now))
        };
        let own = insert(side, StreamState::Announcing);
        let theirs = insert(side.other(), StreamState::Hearing);
        if let Some(link) = self.link_mut(slot) {
            link.announcing = own;
        }
        own.is_some() && theirs.is_some()
    }

    fn link_mut(&mut self, slot: Slot) -> Option<&mut LinkState> {
        self.live_mut(slot)?.link.as_deref_mut()
    }

    pub(super) fn is_of_link(&self, key: StreamKey) -> bool {
        self.streams.get(key).is_some_and(|stream| {
            matches!(stream.state, StreamState::Announcing | StreamState::Hearing)
        })
    }

    /// Makes a link with a relay the one that it is told on, if no shard has such a link.
    pub(super) fn choose_announcer(&mut self, relay: &PublicKey) {
        let Some(session) = self.links.with(relay).first().copied() else {
            return;
        };
        let shard = self.config.shard;
        let link = Place { shard, session };
        if !self.directory.claim_announcer(*relay, link) {
            return;
        }
        if let Some(state) = self.link_mut(session.slot)
            && !std::mem::replace(&mut state.announcer.is_active, true)
        {
            self.begin_set(session.slot);
        }
    }

    /// Lets the set of a link begin anew.
    pub(super) fn begin_set(&mut self, slot: Slot) {
        let is_active = self
            .link_mut(slot)
            .is_some_and(|link| link.announcer.is_active);
        if !is_active || !self.config.mesh.announces_peers {
            return;
        }
        // A set that begins anew does not speak of those who are gone.
        let pending = self.directory.keys().iter().filter_map(raw).collect();
        if let Some(link) = self.link_mut(slot) {
            link.announcer.pending = pending;
            link.announcer.is_anew = true;
            self.links.are_announcing = true;
        }
    }

    /// A session of a peer has begun or ended here: tells the shards that announce.
    pub(super) fn announce(&mut self, key: &PublicKey) {
        if !self.config.mesh.announces_peers || raw(key).is_none() {
            return;
        }
        for shard in self.directory.announcers() {
            if shard == self.config.shard {
                self.peer_changed(key);
            } else {
                let message = Message::PeerChanged {
                    key: Box::new(*key),
                };
                self.common.actions.push_back(Action::Message {
                    target: shard,
                    message,
                });
            }
        }
    }

    /// A session of a peer has begun or ended on some shard.
    pub(super) fn peer_changed(&mut self, key: &PublicKey) {
        let Some(key) = raw(key) else { return };
        for session in self.links.all() {
            if let Some(link) = self.link_mut(session.slot)
                && link.announcer.is_active
            {
                link.announcer.pending.insert(key);
                self.links.are_announcing = true;
            }
        }
    }

    /// The other side reads: it allows `delta` more bytes.
    pub(super) fn announcing_granted(
        &mut self,
        key: StreamKey,
        delta: u32,
    ) -> Result<(), Violation> {
        let Some(slot) = self.streams.get(key).map(|stream| stream.session.slot) else {
            return Ok(());
        };
        let Some(link) = self.link_mut(slot) else {
            return Ok(());
        };
        let credit = link.announcer.credit.saturating_add(delta);
        if credit > CREDIT_MAX {
            return Err(Violation(Reason::ProtocolError));
        }
        link.announcer.credit = credit;
        self.links.are_announcing = true;
        Ok(())
    }

    /// Sends what is pending, as far as windows and sockets allow, and takes out what ended links have told.
    pub(super) fn flush_announcements(&mut self) {
        self.withdraw_some();
        if !std::mem::take(&mut self.links.are_announcing) {
            return;
        }
        for session in self.links.all() {
            let is_left = self.send_sets(session.slot);
            self.links.are_announcing |= is_left;
        }
    }

    /// Sends sets on one link; returns whether some wait for the next turn. What waits for the other side's
    /// window is not among them.
    fn send_sets(&mut self, slot: Slot) -> bool {
        for _ in 0..SETS_MAX {
            if self.is_congested(slot) {
                return true;
            }
            let session = self.sessions.get_mut(slot.0 as usize);
            let Some(live) = session.and_then(Session::live_mut) else {
                return false;
            };
            let Some(link) = live.link.as_mut() else {
                return false;
            };
            let Some(announcing) = link.announcing else {
                return false;
            };
            if !link.announcer.has_work() || link.announcer.credit < SET_BYTES_MAX {
                return false;
            }
            let set = link.announcer.next_set(&self.directory);
            let id = link.side.announcing_id();
            let mut frame = vec![0; HEADER_LEN];
            if live.sealer.seal(&set, &mut frame).is_err() {
                return false;
            }
            let length = u32::try_from(frame.len() - HEADER_LEN).unwrap_or(u32::MAX);
            Header::data(id, Flags::NONE, length).encode_into(&mut frame);
            link.announcer.credit = link.announcer.credit.saturating_sub(length);
            self.common.stats.peer_sets_sent += 1;
            if self.push_stream(announcing, Piece::Owned(frame)).is_err() {
                // A set is lost with its number: the other side notices the gap and asks.
                return true;
            }
        }
        true
    }

    /// A set has come in.
    pub(super) fn hear(
        &mut self,
        slot: Slot,
        key: StreamKey,
        mut object: Vec<u8>,
    ) -> Result<(), Violation> {
        let shard = self.config.shard;
        let session = self.sessions.get_mut(slot.0 as usize);
        let Some(session) = session else {
            return Ok(());
        };
        let link_key = session.key(slot);
        let Some(live) = session.live_mut() else {
            return Ok(());
        };
        let holder = Holder {
            relay: live.key,
            link: Place {
                shard,
                session: link_key,
            },
        };
        let length = u32::try_from(object.len()).unwrap_or(u32::MAX);
        let sealed = object.get_mut(2..).unwrap_or_default();
        let plain = live
            .opener
            .open(sealed)
            .map_err(|error| Violation(error.reason()))?;
        let set = PeerSet::decode(plain).map_err(|error| Violation(error.reason()))?;
        let Some(link) = live.link.as_mut() else {
            return Ok(());
        };
        self.common.stats.peer_sets_received += 1;
        let told_by_all = self.common.stats.announced_current;
        let room = u64::from(ANNOUNCED_MAX).saturating_sub(told_by_all);
        let told = link.heard.take(&set, holder, room, &self.directory);
        if told.is_gap {
            link.announcer.asks_anew = true;
            self.links.are_announcing = true;
        }
        let stats = &mut self.common.stats;
        stats.peer_sets_missed += u64::from(told.is_gap);
        stats.announced_current = stats.announced_current + told.came - told.went;
        stats.announced_dropped += told.dropped;
        link.heard.unread += length;
        let unread = link.heard.unread;
        if unread >= WINDOW_INITIAL / 4 {
            link.heard.unread = 0;
            if let Some(stream) = self.streams.get_mut(key) {
                stream.credit = stream.credit.saturating_add(unread);
            }
            self.push_grant(key, unread);
        }
        if set.wants_anew {
            self.begin_set(slot);
        }
        Ok(())
    }

    /// Ends both streams of a link: what it has told is no longer true, and another link of whichever shard
    /// tells the other relay what this one did.
    pub(super) fn end_announcements(
        &mut self,
        relay: &PublicKey,
        session: SessionKey,
        state: LinkState,
    ) {
        let own = self.config.shard;
        let link = Place {
            shard: own,
            session,
        };
        let keys = state.heard.keys;
        if !keys.is_empty() {
            self.links.withdrawals.push_back(Withdrawal { link, keys });
        }
        if !state.announcer.is_active {
            return;
        }
        self.directory.drop_announcer(relay, link);
        self.choose_announcer(relay);
        self.tell_others(|| Message::AnnouncerGone {
            relay: Box::new(*relay),
        });
    }

    /// Takes some of what ended links have told out of the directory.
    fn withdraw_some(&mut self) {
        let mut left = WITHDRAWALS_MAX;
        while left > 0
            && let Some(withdrawal) = self.links.withdrawals.front_mut()
        {
            let Some(key) = withdrawal.keys.pop_first() else {
                self.links.withdrawals.pop_front();
                continue;
            };
            self.directory.release(&key, withdrawal.link);
            self.common.stats.announced_current -= 1;
            left -= 1;
        }
    }

    /// Returns whether `flush` has something to do that nothing else will wake the shard for.
    pub(super) fn is_withdrawing(&self) -> bool {
        !self.links.withdrawals.is_empty()
    }

    /// Ends a link that the shard has no room for.
    pub(super) fn refuse_link(&mut self, session: SessionKey) {
        self.end_session(session, Cause::Reason(Reason::RelayCapacity), true);
    }
}

/// What a set has changed.
#[derive(Debug, Default)]
struct Told {
    came: u64,
    went: u64,
    dropped: u64,
    is_gap: bool,
}

impl Heard {
    /// Takes a set in, with room for so many more peers.
    fn take(
        &mut self,
        set: &PeerSet<'_>,
        holder: Holder,
        room: u64,
        directory: &impl Directory,
    ) -> Told {
        let mut told = Told::default();
        if set.is_anew {
            // What is still there comes again in this set and those behind it.
            for key in std::mem::take(&mut self.keys) {
                directory.release(&key, holder.link);
                told.went += 1;
            }
            self.expected = Some(set.sequence);
        }
        let Some(expected) = self.expected else {
            return told;
        };
        if set.sequence != expected {
            self.expected = None;
            told.is_gap = true;
            return told;
        }
        // Behind the last number there is none: whatever comes next is a gap.
        self.expected = expected.checked_add(1);
        for key in set.gone() {
            if self.keys.remove(&key) {
                directory.release(&key, holder.link);
                told.went += 1;
            }
        }
        for key in set.appeared() {
            if told.came >= room + told.went {
                told.dropped += 1;
            } else if self.keys.insert(key) {
                directory.hold(key, holder);
                told.came += 1;
            }
        }
        told
    }
}

fn raw(key: &PublicKey) -> Option<RawKey> {
    let bytes = key.as_bytes();
    (bytes.len() == NATIVE_KEY_LEN).then(|| bytes.first_chunk().copied())?
}

/// Sets sent on one link in one turn: 384 peers.
const SETS_MAX: usize = 32;

/// Peers taken out of the directory in one turn: some 200 us.
const WITHDRAWALS_MAX: usize = 1_024;

/// Bytes that the other side's window must allow before a set is made: no fewer than the longest one has on
/// the wire.
const SET_BYTES_MAX: u32 = 512;

const _: () = assert!(
    SEALED_OVERHEAD + PEER_SET_FIXED + PEER_SET_KEYS_MAX * NATIVE_KEY_LEN <= SET_BYTES_MAX as usize
);

// Sets are made only while a session keeps up. Those in its batch, a key each at least, stay inside the
// window of nonces while open requests overtake them.
const _: () = assert!(
    ((DIRECT_BYTES_MAX / (HEADER_LEN + SEALED_OVERHEAD + PEER_SET_FIXED + NATIVE_KEY_LEN)) as u64)
        < NONCE_WINDOW_BITS
);

/// Links of ended sessions whose peers are still in the directory.
pub(super) type Withdrawals = VecDeque<Withdrawal>;
