//! What a shard may hold, and for how long.
//!
//! Here: the books of each shard's driver, and the checks of bounds, shedding, stuck sends and receive
//! memory. Not here: streams and sessions (`checks`), the limits themselves (`limits`).
//!
//! Known to the checks: the limits, what the driver did, the counters and the audit. Not the core's
//! inside.

use std::collections::{BTreeMap, VecDeque};

use ringway_proto::dialect::Dialect;
use ringway_proto::limits::SESSION_QUEUE_SMALL;
use ringway_proto::peer::SessionError;
use ringway_proto::reason::Reason;
use ringway_shards::core::Source;

use crate::checks::Target;
use crate::event::Event;
use crate::keys::IDENTITIES;
use crate::limits::nanos;
use crate::options::{MS, SECOND};
use crate::world::{Client, World};

/// What the driver of a shard remembers for the checks.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Connections that the kernel has accepted.
    pub(crate) accepted: u64,
    /// Of these, those the core has not heard of yet.
    pub(crate) accepts_pending: u64,
    /// When connections were accepted that the core had the choice to refuse.
    accepts: VecDeque<u64>,
    /// Handshakes that may have been put at the end of those that wait for their peers.
    pub(crate) pushed: u64,
    /// The same when the turn began.
    pub(crate) pushed_before_turn: u64,
    /// Handshakes with the executor.
    pub(crate) jobs: u64,
    /// Most bytes that waited after a turn.
    pub(crate) queued_peak: u64,
    /// When the shard was last seen with all the sessions it may have.
    full_at: Option<u64>,
    /// Since when receives wait for memory.
    pub(crate) starved_since: Option<u64>,
    /// Since when more than half of the receive memory is out.
    pub(crate) short_since: Option<u64>,
    /// When the shard was asked to relieve it since then, with distance.
    pub(crate) reliefs: Vec<u64>,
    /// Clients that were told 203.
    refused_seen: u64,
}

/// Longest time that receives may wait for memory: looks at all sessions 50 ms apart, a cancel, and mail
/// to the other shards and back.
const STARVED_NS_MAX: u64 = 2 * SECOND;

/// Time between two requests for relief that count: more than mail, wake-ups that get lost and
/// cancelled sends take.
const RELIEFS_APART: u64 = 500 * MS;

/// Requests for relief after which none of the old bytes may be left: one finds a send too young, one
/// is on its way to the other shards while they have just looked.
const RELIEFS_ENOUGH: usize = 3;

/// Accepts that are remembered.
const ACCEPTS_KEPT: usize = 300;

/// Bytes that a session may have behind a send in flight before its bound is looked at.
const DIRECT_BYTES_MAX: u64 = 65_536;

/// Most control bytes that wait for a session: the answers after which an asker is cut off, the resets
/// and grants of all its streams; once in flight and once behind.
const CONTROL_BYTES_MAX: u64 = 2 * (1_572_864 + 131_072);

impl World {
    /// The kernel accepts a connection.
    pub(crate) fn note_accept(&mut self, shard: usize) {
        let now = self.now;
        let rate = u64::from(self.options.limits.accepts_per_s_max);
        let book = &mut self.shards[shard].book;
        book.accepted += 1;
        book.accepts_pending += 1;
        if book.accepts_pending > 1 {
            // The core has not seen the one before: nobody could have stopped this one.
            return;
        }
        book.accepts.push_back(now);
        if book.accepts.len() > ACCEPTS_KEPT {
            book.accepts.pop_front();
        }
        let is_over = (1..).zip(book.accepts.iter().rev()).any(|(count, from)| {
            // One for the end of the span, one for the turn between accept and core.
            count > 2 + rate.saturating_mul(now - from + SECOND) / SECOND
        });
        if is_over {
            self.fail(format!("shard {shard} accepts more than {rate} a second"));
        }
    }

    /// A receive finds no memory.
    pub(crate) fn note_starved(&mut self, shard: usize) {
        let now = self.now;
        let since = *self.shards[shard].book.starved_since.get_or_insert(now);
        if now - since > STARVED_NS_MAX {
            let bytes = self.shards[shard].account.bytes();
            self.fail(format!(
                "shard {shard} has had no receive memory for {} ms: {bytes} bytes are out",
                (now - since) / MS
            ));
        }
    }

    /// A shard has been asked to relieve its receive memory. What came before it ran short must not be
    /// there any more some time after it was asked repeatedly: what waited was copied, on the other
    /// shards as well; what was in flight was cancelled, or has gone.
    pub(crate) fn note_short(&mut self, shard: usize) {
        let now = self.now;
        // A send that moves all the time, a little each time, is not cancelled.
        let has_loophole = self.options.faults.short_send > 0;
        let entry = &mut self.shards[shard];
        let since = *entry.book.short_since.get_or_insert(now);
        let reliefs = &mut entry.book.reliefs;
        if reliefs
            .last()
            .is_none_or(|last| now - last >= RELIEFS_APART)
        {
            reliefs.push(now);
        }
        let has_had_time = reliefs
            .get(RELIEFS_ENOUGH - 1)
            .is_some_and(|at| now - at >= RELIEFS_APART);
        let oldest = entry.account.oldest();
        if has_had_time && !has_loophole && oldest.is_some_and(|born| born < since) {
            let bytes = entry.account.bytes();
            self.fail(format!(
                "shard {shard} holds bytes for {} ms though its memory is short: {bytes} are out",
                (now - oldest.unwrap_or(now)) / MS
            ));
        }
    }

    /// Notes that a shard has no room for another session; within a turn one may come and go.
    pub(crate) fn note_full(&mut self, shard: usize) {
        let limits = self.options.limits;
        let sessions_max = limits.sessions_max.unwrap_or(self.options.sockets_max);
        let entry = &mut self.shards[shard];
        if entry.core.stats().sessions_current >= u64::from(sessions_max) {
            entry.book.full_at = Some(self.now);
        }
    }

    /// Looks at what a shard holds between two turns.
    pub(crate) fn check_holdings(&mut self, shard: usize) {
        self.note_full(shard);
        let limits = self.options.limits;
        let sessions_max = limits.sessions_max.unwrap_or(self.options.sockets_max);
        let ring_bytes_max = self.options.ring_bytes_max;
        // A key that has a session on another shard brings it along.
        let brought = if self.shards.len() > 1 {
            IDENTITIES as u64
        } else {
            0
        };
        let bound = self.queued_bytes_bound(shard);
        let entry = &mut self.shards[shard];
        let audit = entry.core.audit();
        let book = &mut entry.book;
        book.queued_peak = book.queued_peak.max(audit.queued_bytes);
        if entry.account.bytes() < ring_bytes_max {
            book.starved_since = None;
        }
        // One that just came in while all places are with the executor, and the next ones of its kind.
        let handshakes_max = u64::from(self.options.handshakes_max) + book.jobs + 1;
        let wrong = if audit.timers > audit.sockets + audit.streams + audit.dials {
            Some(format!("more timers than owners: {audit:?}"))
        } else if audit.handshakes > handshakes_max {
            Some(format!(
                "{} of {handshakes_max} handshakes",
                audit.handshakes
            ))
        } else if audit.sources > audit.handshakes {
            Some(format!("sources without handshakes: {audit:?}"))
        } else if audit.sessions > u64::from(sessions_max) + brought {
            Some(format!("{} of {sessions_max} sessions", audit.sessions))
        } else if audit.pipelined_bytes > limits.pipelined_bytes_max {
            Some(format!("{} bytes ahead of verdicts", audit.pipelined_bytes))
        } else if audit.queued_bytes > bound {
            Some(format!("{} bytes wait, bound {bound}", audit.queued_bytes))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.fail(format!("shard {shard}: {wrong}"));
        }
    }

    /// Returns the bytes that may wait on a shard: its bound and what one receive adds while it is not
    /// reached, or the same of all its sessions if that is less; and control frames, which are never
    /// refused but to those who ask without reading.
    fn queued_bytes_bound(&self, shard: usize) -> u64 {
        let audit = self.shards[shard].core.audit();
        let receive = 2 * 65_536;
        let control = if self.options.adversaries > 0 {
            audit.sockets * CONTROL_BYTES_MAX
        } else {
            // Request, answer, acknowledgement, grants, resets of each open on both legs; verdicts, pings.
            self.options.opens as u64 * 4_096 + audit.sockets * 4_096
        };
        let limits = self.options.limits.queue;
        let session = u64::from(limits.session_bytes_max.max(SESSION_QUEUE_SMALL));
        let sessions = audit.sockets * (session + DIRECT_BYTES_MAX + receive);
        limits
            .shard_bytes_max
            .saturating_add(receive)
            .min(sessions)
            .saturating_add(control)
    }

    /// Looks at what takes long, once a second.
    pub(crate) fn look(&mut self) {
        self.at(SECOND, Event::Look);
        let now = self.now;
        let limits = self.options.limits;
        let (stuck_max, silent_max) = (limits.stuck_ns_max(), limits.silent_ns_max());
        let mut floods: BTreeMap<(usize, Source), u32> = BTreeMap::new();
        let mut wrong = None;
        for (number, conn) in self.conns.iter().enumerate() {
            if conn.slot.is_none() || conn.is_closing || conn.accepted_at == 0 {
                continue;
            }
            if conn
                .stuck_since
                .is_some_and(|since| now - since > stuck_max)
            {
                wrong = Some(format!(
                    "connection {number} has taken nothing for {stuck_max} ns and lives"
                ));
            }
            if conn.is_silent && now.saturating_sub(conn.heard_at) > silent_max {
                wrong = Some(format!(
                    "connection {number} vanished {silent_max} ns ago and lives"
                ));
            }
            if let Client::Stranger(stranger) = &self.clients[conn.client]
                && stranger.is_idle()
            {
                let source = self.source_of(number);
                *floods.entry((conn.shard, source)).or_default() += 1;
            }
        }
        let source_max = limits.handshakes_source_max;
        if floods.values().any(|count| *count > source_max) {
            wrong = Some(format!("more than {source_max} handshakes of one source"));
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// The relay closes a connection whose peer has no verdict: was there a reason?
    pub(crate) fn check_turned_away(&mut self, conn: usize) {
        let entry = &self.conns[conn];
        let client = entry.client;
        let is_early = matches!(&self.clients[client], Client::Honest(honest) if !honest.is_ready);
        if !is_early {
            return;
        }
        let limits = self.options.limits;
        let book = &self.shards[entry.shard].book;
        let has_gone = entry.is_reset_at_relay || entry.up.has_fin || entry.is_silent;
        let is_late = nanos(limits.timeouts.handshake) < 5 * SECOND
            && self.now - entry.accepted_at >= nanos(limits.timeouts.handshake);
        let is_crowd = entry.accepted_at == self.now && self.is_crowded(conn);
        // Everything that came behind it, and what the executor has, fill the places.
        let behind = book.pushed - entry.pushed_at + book.jobs + 1;
        let is_shed = behind >= u64::from(self.options.handshakes_max);
        let is_ahead = limits.pipelined_bytes_max < 1_000_000;
        let has_verdict = entry.sends > 1;
        if has_gone || has_verdict || self.is_draining {
            return;
        }
        if !(is_late || is_crowd || is_shed || is_ahead) {
            return self.fail(format!(
                "client {client} was turned away for no reason: {behind} others behind it"
            ));
        }
        self.hurt(client, "handshake given up");
    }

    /// Returns whether the source of a connection has all the handshakes it may have.
    fn is_crowded(&self, conn: usize) -> bool {
        let (shard, source) = (self.conns[conn].shard, self.source_of(conn));
        let others = (0..self.conns.len()).filter(|other| {
            let entry = &self.conns[*other];
            *other != conn
                && entry.shard == shard
                && entry.slot.is_some()
                && !entry.is_closing
                && self.source_of(*other) == source
        });
        others.count() >= usize::try_from(self.options.limits.handshakes_source_max).unwrap_or(0)
    }

    /// Returns whether a session may end although its peer reads: what the relay sent is with the peer's
    /// host, so that nothing tells the relay how slowly it is read, and its pings wait there unanswered.
    pub(crate) fn is_behind_pings(&self, conn: usize) -> bool {
        let keepalive = nanos(self.options.limits.timeouts.keepalive);
        self.conns[conn].silent_ns(self.now) >= 4 * keepalive
    }

    /// A client was told why it gets no session. Returns whether that was right.
    pub(crate) fn check_refused(
        &mut self,
        conn: usize,
        identity: usize,
        error: SessionError,
    ) -> bool {
        let SessionError::PeerRefused {
            reason: Reason::TooManySessions,
            retry_after_ms,
        } = error
        else {
            return false;
        };
        let slack = 2 * self.options.delay_max + self.options.completion_delay_max + 2 * SECOND;
        let book = &mut self.shards[self.conns[conn].shard].book;
        book.refused_seen += 1;
        let was_full = book.full_at.is_some_and(|at| self.now - at <= slack);
        // The dmsg dialect has no word for a time.
        let says_when = match self.dialects.of(identity) {
            Dialect::Dmsg => retry_after_ms == 0,
            _ => (5_000..30_000).contains(&retry_after_ms),
        };
        if !says_when {
            self.fail(format!(
                "a full relay says come back in {retry_after_ms} ms"
            ));
        }
        was_full
    }

    /// A session was told 202: its key must have a connection that was accepted after it, or with it.
    pub(crate) fn check_replaced(&mut self, conn: usize, identity: usize) {
        let accepted_at = self.conns[conn].accepted_at;
        let is_newer = |other: &Client| {
            matches!(other, Client::Honest(other) if other.identity == identity
                && other.conn != conn
                && self.conns[other.conn].accepted_at >= accepted_at)
        };
        if !self.clients.iter().any(is_newer) {
            self.fail(format!(
                "connection {conn} was told 202, and its key has no newer one"
            ));
        }
    }

    /// Returns whether bytes that wait may have cost a shard's streams and sessions: its own bound was
    /// near.
    pub(crate) fn was_shard_full(&self) -> bool {
        let limits = self.options.limits;
        limits.has_tight_queue()
            && self
                .shards
                .iter()
                .any(|shard| shard.book.queued_peak >= limits.queue.shard_bytes_max / 2)
    }

    /// Returns whether a stream may be reset because too much waits for one of its ends.
    pub(crate) fn is_queue_excuse(&self, number: usize) -> bool {
        if !self.options.limits.has_tight_queue() {
            return false;
        }
        let open = &self.opens[number];
        let Target::Peer(target) = open.target else {
            return true;
        };
        // Adversaries send what they like to whom they like.
        self.options.adversaries > 0
            || self.was_shard_full()
            || [open.identity, target]
                .iter()
                .any(|identity| self.planned_bytes(*identity) > u64::from(SESSION_QUEUE_SMALL))
    }

    /// Returns the bytes that all opens can send to a peer, frames included.
    fn planned_bytes(&self, identity: usize) -> u64 {
        // A frame for each piece, which may be a byte.
        let factor = if self.options.piece_max < 1_000 {
            13
        } else {
            2
        };
        let towards = |open: &crate::checks::Open| {
            let to_target = open.target == Target::Peer(identity);
            let to_opener = open.identity == identity;
            u64::from(to_target) * open.plan.bytes[0] + u64::from(to_opener) * open.plan.bytes[1]
        };
        let bytes: u64 = self.opens.iter().map(towards).sum();
        factor * bytes + self.opens.len() as u64 * 2_000
    }

    /// Adds up what the shards counted, and compares it with what was seen.
    pub(crate) fn tally(&mut self) {
        let mut wrong = None;
        for (number, shard) in self.shards.iter().enumerate() {
            let stats = shard.core.stats();
            let counts = &mut self.counts;
            counts.handshakes_shed += stats.handshakes_shed;
            let refused = stats.handshakes_failed.of(Reason::TooManySessions);
            counts.sessions_refused += refused;
            counts.slow_consumers += stats.sessions_closed.of(Reason::SlowConsumer);
            counts.slow_consumers += stats.streams_reset.of(Reason::SlowConsumer);
            counts.idle_resets += stats.streams_reset.of(Reason::Idle);
            let shed = stats.handshakes_shed;
            let failed = stats.handshakes_failed.of(Reason::TooManyHandshakes);
            if shard.book.accepts_pending == 0
                && stats.sockets_opened - stats.sockets_dialed != shard.book.accepted
            {
                wrong = Some(format!(
                    "shard {number} counts {} of {} accepted sockets",
                    stats.sockets_opened, shard.book.accepted
                ));
            }
            if shed > failed || shard.book.refused_seen > refused {
                wrong = Some(format!(
                    "shard {number}: {shed} shed of {failed} failed, {refused} refused of {} seen",
                    shard.book.refused_seen
                ));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }
}
