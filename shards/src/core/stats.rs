//! Counters of one shard core, and the laws they obey.
//!
//! Here: plain integers that only the shard's own thread changes; a snapshot is a clone. Not here:
//! how they are published.
//!
//! Invariant: [`CoreStats::LAWS`], at any time between two calls of the core.

use ringway_proto::dialect::Dialect;
use ringway_proto::ports::PortUse;
use ringway_proto::reason::Reason;

/// One counter for each [`Reason`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByReason([u64; Reason::COUNT]);

impl Default for ByReason {
    fn default() -> Self {
        Self([0; Reason::COUNT])
    }
}

impl ByReason {
    /// Adds one.
    pub fn count(&mut self, reason: Reason) {
        self.0[reason.index()] += 1;
    }

    /// Returns the counter of `reason`.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason.index()]
    }

    /// Returns the sum over all reasons.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Counters since the shard started, and gauges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreStats {
    /// Sockets accepted or connected.
    pub sockets_opened: u64,
    /// Those of them that this relay connected, also when whoever asked had given up meanwhile.
    pub sockets_dialed: u64,
    /// Those of them that this relay has the other end of.
    pub sockets_attached: u64,
    /// Sockets whose close completed.
    pub sockets_closed: u64,
    /// Sockets open now, those being closed included.
    pub sockets_current: u64,
    /// Attached ones whose close completed.
    pub attached_closed: u64,
    /// Handshakes that did not become a session, by reason.
    pub handshakes_failed: ByReason,
    /// Handshakes in progress now.
    pub handshakes_current: u64,
    /// Handshakes that were given up for newer ones; they count among the failed as well.
    pub handshakes_shed: u64,
    /// Connections that ended before or in the handshake without an error of the protocol.
    pub handshakes_abandoned: u64,
    /// Handshakes that became sessions.
    pub sessions_opened: u64,
    /// Sessions now.
    pub sessions_current: u64,
    /// Sessions whose peer closed the connection.
    pub sessions_left: u64,
    /// Sessions whose connection broke.
    pub sessions_lost: u64,
    /// Sessions that the relay ended, by reason.
    pub sessions_closed: ByReason,
    /// Handshakes over attached sockets that became the relay's own session.
    pub own_sessions_opened: u64,
    /// Sessions of the relay with itself now; services are reached over them.
    pub own_sessions_current: u64,
    /// Those that have ended.
    pub own_sessions_ended: u64,
    /// Stream legs opened, by peers and towards peers.
    pub streams_opened: u64,
    /// Stream legs that ended.
    pub streams_closed: u64,
    /// Stream legs now.
    pub streams_current: u64,
    /// Legs that were reset by the relay, by reason.
    pub streams_reset: ByReason,
    /// Streams that peers opened towards other peers.
    pub opens_received: u64,
    /// Opens without an answer yet.
    pub opens_pending: u64,
    /// Opens that became bridges.
    pub opens_accepted: u64,
    /// Opens that the relay or the destination refused, by reason.
    pub opens_refused: ByReason,
    /// Opens that the opener gave up, by reset or by dying.
    pub opens_cancelled: u64,
    /// Data and window frames taken from peers.
    pub frames_received: u64,
    /// Bytes taken from sockets.
    pub bytes_received: u64,
    /// Bytes that the kernel accepted for sending.
    pub bytes_sent: u64,
    /// Stream payload forwarded between two legs, counted where it came in.
    pub payload_bytes_forwarded: u64,
    /// Gather sends that completed.
    pub sends_completed: u64,
    /// Gather sends that the kernel ended short and that went on with the rest.
    pub sends_short: u64,
    /// Times what waits was copied out of the receive memory.
    pub reliefs: u64,
    /// Messages taken from other shards' mailboxes.
    pub messages_received: u64,
    /// Outbound connections that were asked for.
    pub dials_received: u64,
    /// Those without an answer yet.
    pub dials_pending: u64,
    /// Those that stood.
    pub dials_connected: u64,
    /// Those refused before anything was asked of the kernel, by reason.
    pub dials_refused: ByReason,
    /// Those that the kernel or the target did not make, by reason.
    pub dials_failed: ByReason,
    /// Ports of a dial that somebody else on the host had.
    pub dial_ports_taken: u64,
    /// Connections now that this relay made.
    pub dialed_current: u64,
    /// Those that the far side closed.
    pub dialed_left: u64,
    /// Those that broke.
    pub dialed_lost: u64,
    /// Those that were hung up.
    pub dialed_hung_up: u64,
    /// Those that the relay ended, by reason.
    pub dialed_closed: ByReason,
    /// Links with other relays that stood.
    pub links_opened: u64,
    /// Links that stand.
    pub links_current: u64,
    /// Links that could not be made by this relay, by reason.
    pub links_failed: ByReason,
    /// Links that the other relay closed.
    pub links_left: u64,
    /// Links that broke.
    pub links_lost: u64,
    /// Links that this relay ended, by reason.
    pub links_closed: ByReason,
    /// Opens of peers that other relays were asked for, each relay counted.
    pub forwards_sent: u64,
    /// Those of them for which one relay had been asked in vain before.
    pub forwards_again: u64,
    /// Relays not asked because they had said a moment ago that they do not have the destination.
    pub forwards_spared: u64,
    /// Questions to the registry which relay has a peer.
    pub lookups_sent: u64,
    /// Those that wait for an answer.
    pub lookups_current: u64,
    /// Those that it answered with a relay.
    pub lookups_found: u64,
    /// Those that it knew nothing about.
    pub lookups_nowhere: u64,
    /// Those without an answer: the registry is down or slow, or too many were waiting.
    pub lookups_unavailable: u64,
    /// Answers with a relay that there is no link with.
    pub lookups_unlinked: u64,
    /// Opens that other relays have forwarded to this one.
    pub forwards_received: u64,
    /// Peer sets sent to other relays.
    pub peer_sets_sent: u64,
    /// Peer sets that other relays have sent.
    pub peer_sets_received: u64,
    /// Times a peer set was missed and the other relay asked to begin anew.
    pub peer_sets_missed: u64,
    /// Peers of other relays that links of this shard have told of.
    pub announced_current: u64,
    /// Peers of other relays beyond the bound of a link.
    pub announced_dropped: u64,
    /// Local TCP ports, over all source addresses.
    pub local_ports: PortUse,
    /// Ephemeral ports of the relay's own key.
    pub virtual_ports: PortUse,
    /// Streams whose first bytes asked for themselves and got them; they count among the accepted opens.
    pub pings_answered: u64,
    /// Requests of peers for their own address; they count among the accepted opens.
    pub addresses_answered: u64,
    /// What is counted by dialect as well, by [`Dialect::index`].
    pub dialects: [DialectStats; Dialect::ALL.len()],
}

/// What is counted by dialect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DialectStats {
    /// Handshakes that became sessions.
    pub sessions_opened: u64,
    /// Sessions now.
    pub sessions_current: u64,
    /// Streams that peers opened.
    pub opens_received: u64,
    /// Opens that became bridges, or that the relay has answered itself.
    pub opens_accepted: u64,
}

/// An equation between the counters of one shard.
#[derive(Debug, Clone, Copy)]
pub struct Law {
    /// The equation in the names of the counters.
    pub text: &'static str,
    /// Both sides.
    pub sides: fn(&CoreStats) -> (u64, u64),
}

impl CoreStats {
    /// Returns what is counted of a dialect.
    pub const fn of_dialect_mut(&mut self, dialect: Dialect) -> &mut DialectStats {
        &mut self.dialects[dialect.index()]
    }

    /// Every law. They hold for each shard by itself at any time.
    pub const LAWS: &[Law] = &[
        Law {
            text: "sockets_opened = sockets_closed + sockets_current",
            sides: |s| (s.sockets_opened, s.sockets_closed + s.sockets_current),
        },
        Law {
            text: "sockets_opened = handshakes_current + handshakes_abandoned + sum(handshakes_failed) + sessions_opened + own_sessions_opened + sockets_dialed",
            sides: |s| {
                let ended = s.handshakes_abandoned + s.handshakes_failed.sum();
                let became = s.sessions_opened + s.own_sessions_opened + s.sockets_dialed;
                (s.sockets_opened, s.handshakes_current + ended + became)
            },
        },
        Law {
            text: "sessions_opened = sessions_current + sessions_left + sessions_lost + sum(sessions_closed)",
            sides: |s| {
                let ended = s.sessions_left + s.sessions_lost + s.sessions_closed.sum();
                (s.sessions_opened, s.sessions_current + ended)
            },
        },
        Law {
            text: "sessions_current = sum(dialect_sessions_current)",
            sides: |s| {
                let by_dialect = s.dialects.iter().map(|of| of.sessions_current);
                (s.sessions_current, by_dialect.sum())
            },
        },
        Law {
            text: "own_sessions_opened = own_sessions_current + own_sessions_ended",
            sides: |s| {
                let ended = s.own_sessions_ended;
                (s.own_sessions_opened, s.own_sessions_current + ended)
            },
        },
        Law {
            text: "streams_opened = streams_current + streams_closed",
            sides: |s| (s.streams_opened, s.streams_current + s.streams_closed),
        },
        Law {
            text: "opens_received = opens_pending + opens_accepted + sum(opens_refused) + opens_cancelled",
            sides: |s| {
                let ended = s.opens_accepted + s.opens_refused.sum() + s.opens_cancelled;
                (s.opens_received, s.opens_pending + ended)
            },
        },
        Law {
            text: "dials_received = dials_pending + dials_connected + sum(dials_refused) + sum(dials_failed)",
            sides: |s| {
                let ended = s.dials_connected + s.dials_refused.sum() + s.dials_failed.sum();
                (s.dials_received, s.dials_pending + ended)
            },
        },
        Law {
            text: "dials_connected = dialed_current + dialed_left + dialed_lost + dialed_hung_up + sum(dialed_closed)",
            sides: |s| {
                let ended =
                    s.dialed_left + s.dialed_lost + s.dialed_hung_up + s.dialed_closed.sum();
                (s.dials_connected, s.dialed_current + ended)
            },
        },
        Law {
            text: "links_opened = links_current + links_left + links_lost + sum(links_closed)",
            sides: |s| {
                let ended = s.links_left + s.links_lost + s.links_closed.sum();
                (s.links_opened, s.links_current + ended)
            },
        },
        Law {
            text: "lookups_sent = lookups_current + lookups_found + lookups_nowhere + lookups_unavailable",
            sides: |s| {
                let ended = s.lookups_found + s.lookups_nowhere + s.lookups_unavailable;
                (s.lookups_sent, s.lookups_current + ended)
            },
        },
    ];

    /// Returns the sockets now that this relay has the other end of, those being closed included.
    #[must_use]
    pub const fn attached_current(&self) -> u64 {
        self.sockets_attached - self.attached_closed
    }

    /// Returns the laws that do not hold, each as a sentence; none in a correct relay.
    #[must_use]
    pub fn broken_laws(&self) -> Vec<String> {
        let sides = Self::LAWS.iter().map(|law| (law.text, (law.sides)(self)));
        sides
            .filter(|(_, (left, right))| left != right)
            .map(|(law, (left, right))| format!("{law}: {left} is not {right}"))
            .collect()
    }
}

/// Everything a core owns at this moment. After a drain every field is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Sockets not yet closed.
    pub sockets: u64,
    /// Handshakes in progress.
    pub handshakes: u64,
    /// Sources of handshakes in progress.
    pub sources: u64,
    /// Bytes kept behind handshakes.
    pub pipelined_bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Stream legs.
    pub streams: u64,
    /// Timers.
    pub timers: u64,
    /// Bytes waiting to be sent or in flight.
    pub queued_bytes: u64,
    /// Batches with the driver.
    pub batches_in_flight: u64,
    /// Chunks in batches.
    pub chunks: u64,
    /// Connects that are with the driver.
    pub dials: u64,
    /// Local TCP ports in use; those that only rest are not.
    pub local_ports: u64,
    /// Ephemeral ports of the relay's own key in use.
    pub virtual_ports: u64,
    /// Links that stand.
    pub links: u64,
    /// Sessions of the relay with itself.
    pub own_sessions: u64,
    /// Peers of other relays that links have told of.
    pub announced: u64,
}

impl Audit {
    /// Returns whether nothing is owned.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_law_can_be_broken_and_is_named() {
        let mut broken = CoreStats::default();
        assert_eq!(broken.broken_laws(), Vec::<String>::new());
        broken.sockets_opened = 3;
        broken.sessions_opened = 1;
        broken.dialects[Dialect::Dmsg.index()].sessions_current = 1;
        broken.own_sessions_opened = 1;
        broken.streams_opened = 1;
        broken.opens_received = 1;
        broken.dials_received = 1;
        broken.dials_connected = 2;
        broken.links_opened = 1;
        broken.lookups_sent = 1;
        let named = broken.broken_laws();
        assert_eq!(named.len(), CoreStats::LAWS.len());
        for (law, named) in CoreStats::LAWS.iter().zip(&named) {
            assert!(named.starts_with(law.text), "{named}");
        }
    }
}
