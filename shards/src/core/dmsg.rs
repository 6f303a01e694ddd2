//! What the core does for peers of the dmsg dialect and for no others.
//!
//! Here: pings of a stream's first bytes, ends of streams that a native peer takes as said, destinations of
//! the other dialect. Not here: what both dialects share, which asks [`Dialect`] where they differ.
//!
//! Go's yamux forgets a stream when both sides have ended it, or after minutes. So whoever ends one there is
//! answered, also where a native peer expects nothing.
//!
//! Source: docs/dmsg.md.

use ringway_proto::dialect::{Dialect, RequestHead, Wants};
use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::key::PublicKey;
use ringway_proto::reason::Reason;
use ringway_proto::sealed::DMSG_PING;

use super::ShardCore;
use super::announce::LinkState;
use super::config::AllowedRelays;
use super::event::{Action, Directory, Holder, Job, Place, SessionKey, Slot, Step, StreamKey};
use super::open::Ask;
use super::session::LinkSide;
use super::stream::{Other, StreamState};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A stream's first bytes ask for themselves; with the answer the stream is over.
    pub(super) fn answer_ping(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (slot, id) = (stream.session.slot, stream.id);
        let stats = &mut self.common.stats;
        stats.opens_pending -= 1;
        stats.opens_accepted += 1;
        stats.pings_answered += 1;
        stats.of_dialect_mut(Dialect::Dmsg).opens_accepted += 1;
        self.remove_stream(key);
        let length = u32::try_from(DMSG_PING.len()).unwrap_or(0);
        let mut frame = [0; HEADER_LEN + DMSG_PING.len()];
        Header::data(id, Flags::NONE, length).encode_into(&mut frame);
        self.push_control(slot, &frame);
        self.end_unanswered(slot, id);
    }

    /// Ends the relay's half of a stream whose peer has ended its own, or is about to.
    pub(super) fn end_unanswered(&mut self, slot: Slot, id: u32) {
        self.push_control(slot, &Header::window_update(id, Flags::FIN, 0).encode());
    }

    /// Returns whether a key that nobody has is the other dialect's spelling of one that somebody has: the
    /// x-coordinate of a dmsg key is as long as a native key.
    pub(super) fn speaks_otherwise(&self, key: &PublicKey) -> bool {
        match (key.dialect(), key.as_bytes()) {
            (Dialect::Native, bytes) => {
                let spelled = |sign: u8| {
                    let mut point = [sign; 33];
                    let rest = point.get_mut(1..)?;
                    (rest.len() == bytes.len()).then(|| rest.copy_from_slice(bytes))?;
                    Some(PublicKey::dmsg(point))
                };
                self.config.dmsg_key.is_some()
                    && [2, 3]
                        .into_iter()
                        .filter_map(spelled)
                        .any(|key| self.directory.lookup(&key).is_some())
            }
            (Dialect::Dmsg, [_, x @ ..]) => <[u8; 32]>::try_from(x)
                .is_ok_and(|x| self.directory.lookup(&PublicKey::native(x)).is_some()),
            _ => false,
        }
    }

    /// Returns what it means when the peer of a leg ends it before its answer. Between relays a reset says
    /// that there is no such client, an end that the client has refused. Servers of Go end in either case, so
    /// that alone is no reason not to ask them again.
    pub(super) fn refusal_of(&self, key: StreamKey, by: Flags) -> Reason {
        match self.is_of_server(key) && by == Flags::RST {
            true => Reason::UnknownDestination,
            false => Reason::RefusedByDestination,
        }
    }

    /// Refuses an open where only the destination may answer it.
    pub(super) fn end_refused(&mut self, key: StreamKey, reason: Reason) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (slot, id) = (stream.session.slot, stream.id);
        let is_unknown = matches!(reason, Reason::UnknownDestination | Reason::ForwardedTwice);
        let flags = match self.is_of_server(key) && !is_unknown {
            true => Flags::FIN,
            false => Flags::RST,
        };
        self.push_control(slot, &Header::window_update(id, flags, 0).encode());
    }

    /// Returns whether a leg is a stream of a link with a server.
    fn is_of_server(&self, key: StreamKey) -> bool {
        let stream = self.streams.get(key);
        let session = stream.and_then(|stream| self.sessions.get(stream.session.slot.0 as usize));
        let live = session.and_then(|session| session.live());
        live.is_some_and(|live| live.dialect() == Dialect::Dmsg && live.link.is_some())
    }

    /// A peer asks where it comes from; the executor signs the answer.
    pub(super) fn answer_address(&mut self, key: StreamKey, head: &RequestHead) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (session, opening) = (stream.session, stream.opening.as_ref());
        let Some(hash) = opening.map(|opening| opening.hash) else {
            return;
        };
        // Only who is asked can sign the answer.
        if !self.config.is_own(&head.destination.key) {
            return self.refuse(key, Reason::UnknownDestination);
        }
        let live = self.live_mut(session.slot);
        let Some(address) = live.and_then(|live| live.address.as_deref().copied()) else {
            return self.refuse(key, Reason::RelayCapacity);
        };
        let step = Step::AnswerAddress {
            stream: key,
            hash,
            address,
            wants_place: head.wants == Wants::Address { place: true },
        };
        let job = Job { session, step };
        self.common.actions.push_back(Action::Compute(job));
    }

    /// The answer is signed; with it the stream is over.
    pub(super) fn address_answered(&mut self, key: StreamKey, response: Option<&[u8]>) {
        let is_waiting = self
            .streams
            .get(key)
            .is_some_and(|stream| stream.state == StreamState::Asked);
        if !is_waiting {
            return;
        }
        let Some(response) = response else {
            return self.refuse(key, Reason::RelayCapacity);
        };
        let stats = &mut self.common.stats;
        stats.opens_accepted += 1;
        stats.addresses_answered += 1;
        stats.of_dialect_mut(Dialect::Dmsg).opens_accepted += 1;
        self.finish_open(key, response, Flags::FIN);
        self.remove_stream(key);
    }

    /// Returns whether a key is that of a server that this relay has links with, or is told to have.
    pub(super) fn is_known_relay(&self, key: &PublicKey) -> bool {
        let is_listed = match &self.config.mesh.allowed {
            AllowedRelays::Listed(keys) => keys.contains(key),
            // Whoever connects would be a server, and could speak for others.
            AllowedRelays::All => false,
        };
        is_listed || self.is_wanted_relay(key)
    }

    /// Returns the servers to ask for a client that no discovery knows where to find: those that this relay
    /// has begun links with.
    pub(super) fn servers(&self, client: &PublicKey) -> Vec<Holder> {
        if client.dialect() != Dialect::Dmsg || self.config.mesh.has_discovery {
            return Vec::new();
        }
        let holder = |relay: PublicKey| {
            let link = self.directory.announcer(&relay)?;
            Some(Holder { relay, link })
        };
        let servers = self.wanted_relays();
        servers
            .filter(|relay| relay.dialect() == Dialect::Dmsg)
            .filter_map(holder)
            .collect()
    }

    /// Returns whether this shard makes the link with a relay. Of a key a server has one session, so one
    /// shard makes it for all.
    pub(super) fn is_linked_here(&self, key: &PublicKey) -> bool {
        if key.dialect().has_verdict() {
            return true;
        }
        let sum = key.as_bytes().iter().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        sum % u64::from(self.config.shards_count.max(1)) == u64::from(self.config.shard.0)
    }

    /// A link with a server stands: every shard may ask it, if this relay has begun it. The other side of
    /// one that it has accepted takes no streams unless it says so.
    pub(super) fn offer_link(&mut self, relay: &PublicKey, session: SessionKey) {
        let live = self.live_mut(session.slot);
        if live.and_then(|live| live.side()) != Some(LinkSide::Begun) {
            return;
        }
        let shard = self.config.shard;
        self.directory
            .claim_announcer(*relay, Place { shard, session });
        let Some(announcement) = self.config.mesh.announcement.clone() else {
            return;
        };
        let ask = Ask {
            origin: Other::None,
            origin_id: 0,
            hash: Dialect::Dmsg.request_hash(&announcement),
            window_extra: 0,
        };
        let is_sent = self.ask(session, &announcement, ask).is_ok();
        tracing::debug!(is_sent, "told a server of the dmsg dialect of this relay");
    }

    /// A peer says that it is a server: it may be given requests for its clients if it may say so.
    pub(super) fn take_announcement(
        &mut self,
        key: StreamKey,
        server: PublicKey,
        announcement: &[u8],
    ) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let session = stream.session;
        let peer = self.live_mut(session.slot).map(|live| live.key);
        let may_announce = match &self.config.mesh.announcing {
            AllowedRelays::All => true,
            AllowedRelays::Listed(keys) => keys.contains(&server),
        };
        if peer != Some(server) || !(may_announce || self.is_known_relay(&server)) {
            return self.refuse(key, Reason::NotAllowed);
        }
        let step = Step::CheckAnnouncement {
            stream: key,
            hash: Dialect::Dmsg.request_hash(announcement),
            announcement: announcement.to_vec(),
        };
        let job = Job { session, step };
        self.common.actions.push_back(Action::Compute(job));
    }

    /// The executor has looked at a server's word.
    pub(super) fn announcement_checked(&mut self, key: StreamKey, response: Option<&[u8]>) {
        let Some(stream) = self
            .streams
            .get(key)
            .filter(|stream| stream.state == StreamState::Asked)
        else {
            return;
        };
        let session = stream.session;
        let Some(response) = response else {
            return self.refuse(key, Reason::BadSignature);
        };
        if let Err(reason) = self.become_link(session) {
            return self.refuse(key, reason);
        }
        // It takes requests for its clients.
        let shard = self.config.shard;
        if let Some(server) = self.live_mut(session.slot).map(|live| live.key) {
            self.directory
                .claim_announcer(server, Place { shard, session });
        }
        let stats = &mut self.common.stats;
        stats.opens_accepted += 1;
        stats.of_dialect_mut(Dialect::Dmsg).opens_accepted += 1;
        self.finish_open(key, response, Flags::FIN);
        self.remove_stream(key);
    }

    /// Returns whether a session is a link. One of a server that this relay has come to know of meanwhile
    /// becomes one when it is first used as such.
    pub(super) fn is_link_now(&mut self, slot: Slot) -> bool {
        let Some(session) = self.sessions.get(slot.0 as usize) else {
            return false;
        };
        let key = session.key(slot);
        let Some(live) = session.live() else {
            return false;
        };
        let (peer, is_link) = (live.key, live.link.is_some());
        is_link
            || peer.dialect() == Dialect::Dmsg
                && self.is_known_relay(&peer)
                && self.become_link(key).is_ok()
    }

    /// Makes a link of a session whose peer is a server.
    fn become_link(&mut self, session: SessionKey) -> Result<(), Reason> {
        let shard = self.config.shard;
        let place = Place { shard, session };
        let Some(live) = self.live_mut(session.slot) else {
            return Err(Reason::UnknownDestination);
        };
        let key = live.key;
        if live.link.is_none() {
            if self.links_are_full() {
                return Err(Reason::TooManySessions);
            }
            if let Some(live) = self.live_mut(session.slot) {
                live.link = Some(Box::new(LinkState::new(LinkSide::Accepted)));
            }
            // It is no destination itself; its clients are reached through it.
            self.directory.remove(&key, place);
            self.link_up(key, session);
        }
        Ok(())
    }

    /// A link with a server has ended.
    pub(super) fn withdraw_link(&self, relay: &PublicKey, session: SessionKey) {
        let shard = self.config.shard;
        self.directory
            .drop_announcer(relay, Place { shard, session });
    }
}
