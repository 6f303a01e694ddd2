//! What a client counts.
//!
//! Here: the counters, and what a failed dial counts as. Not here: who counts.
//!
//! Invariant: a dial counts once as begun and, when it is over, once as reached, failed or cancelled;
//! so `dials = dials_reached + dials_failed.sum() + dials_cancelled` + dials under way. Likewise
//! `sessions_made = sessions_lost + sessions_reaped` + sessions that stand, until the client is closed.

use std::fmt;

use ringway_proto::reason::Reason;

use crate::error::DialError;

/// Counters of a [`Client`](crate::Client) since its start, and what it holds now.
///
/// All are numbers of events but for those that say so. `docs/client.md` explains the choices that
/// they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Dials begun. A ping of a peer is one.
    pub dials: u64,
    /// Dials that gave a stream.
    pub dials_reached: u64,
    /// Dials that failed, by what failed.
    pub dials_failed: DialFailures,
    /// Dials whose future was dropped before it was ready.
    pub dials_cancelled: u64,
    /// Opens sent: how often a relay was asked for a destination.
    pub relays_asked: u64,
    /// Dials that knew over which relay the destination was reached last.
    pub entry_hits: u64,
    /// Dials that did not know it.
    pub entry_misses: u64,
    /// Times that a relay was left out of a dial since it had just said not to have the destination.
    pub negative_hits: u64,
    /// Destinations remembered now, reached or not; at most 4,096.
    pub entries: u64,
    /// Dials that reached a destination over another relay than the last time.
    pub peers_moved: u64,
    /// Sessions admitted by their relay.
    pub sessions_made: u64,
    /// Those of them that only a dial had asked for.
    pub sessions_on_demand: u64,
    /// Attempts to make a session that failed.
    pub sessions_failed: u64,
    /// Sessions that ended without being let go: the relay ended them or went away.
    pub sessions_lost: u64,
    /// Sessions let go since they were not needed and idle.
    pub sessions_reaped: u64,
    /// Sessions that take streams now.
    pub sessions: u64,
    /// Round trips to relays that were measured.
    pub pings: u64,
}

/// Failed dials by what failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialFailures {
    /// This side: closed, out of ports, of streams, of randomness, or the key is unusable.
    pub local: u64,
    /// No relay that was not ruled out had a session or gave one.
    pub no_session: u64,
    /// Nobody listens on the port (301).
    pub no_listener: u64,
    /// Refused for another reason than those two.
    pub refused: u64,
    /// The session ended during the dial.
    pub session_lost: u64,
    /// No answer came in time.
    pub timeout: u64,
    /// No relay has the destination (101, 307).
    pub unknown_destination: u64,
}

impl DialFailures {
    /// Returns how many dials failed.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.local
            + self.no_session
            + self.no_listener
            + self.refused
            + self.session_lost
            + self.timeout
            + self.unknown_destination
    }

    pub(crate) fn count(&mut self, error: &DialError) {
        let counter = match error {
            DialError::LocalClosed
            | DialError::LocalDialect
            | DialError::LocalKey
            | DialError::LocalPorts { .. }
            | DialError::LocalQueue
            | DialError::LocalRandom(_)
            | DialError::LocalStreams => &mut self.local,
            DialError::LocalNoSession => &mut self.no_session,
            DialError::RelaySession(_) => &mut self.session_lost,
            DialError::Timeout(_) => &mut self.timeout,
            DialError::Refused(refusal) => match refusal.reason() {
                Some(Reason::NoListener) => &mut self.no_listener,
                _ if refusal.is_not_there() => &mut self.unknown_destination,
                _ => &mut self.refused,
            },
        };
        *counter += 1;
    }
}

impl fmt::Display for Stats {
    /// Writes all counters on one line, as `name=value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = &self.dials_failed;
        write!(
            f,
            "dials={} reached={} cancelled={} local={} no_session={} no_listener={} refused={} \
             session_lost={} timeout={} unknown_destination={} ",
            self.dials,
            self.dials_reached,
            self.dials_cancelled,
            failed.local,
            failed.no_session,
            failed.no_listener,
            failed.refused,
            failed.session_lost,
            failed.timeout,
            failed.unknown_destination,
        )?;
        write!(
            f,
            "relays_asked={} entry_hits={} entry_misses={} negative_hits={} entries={} peers_moved={} ",
            self.relays_asked,
            self.entry_hits,
            self.entry_misses,
            self.negative_hits,
            self.entries,
            self.peers_moved,
        )?;
        write!(
            f,
            "sessions={} sessions_made={} sessions_on_demand={} sessions_failed={} sessions_lost={} \
             sessions_reaped={} pings={}",
            self.sessions,
            self.sessions_made,
            self.sessions_on_demand,
            self.sessions_failed,
            self.sessions_lost,
            self.sessions_reaped,
            self.pings,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_dial_counts_once_under_its_reason() {
        let refused = |reason: Reason| DialError::Refused(reason.into());
        let mut failures = DialFailures::default();
        for error in [
            refused(Reason::UnknownDestination),
            refused(Reason::ForwardedTwice),
            refused(Reason::NoListener),
            refused(Reason::DialTimeout),
            DialError::LocalNoSession,
            DialError::LocalStreams,
            DialError::Timeout(std::time::Duration::ZERO),
        ] {
            failures.count(&error);
        }
        let expected = DialFailures {
            local: 1,
            no_session: 1,
            no_listener: 1,
            refused: 1,
            session_lost: 0,
            timeout: 1,
            unknown_destination: 2,
        };
        assert_eq!(failures, expected);
        assert_eq!(failures.sum(), 7);
    }

    #[test]
    fn the_line_has_every_counter() {
        let stats = Stats {
            dials: 12,
            pings: 34,
            ..Stats::default()
        };
        let line = stats.to_string();
        assert!(
            line.starts_with("dials=12 ") && line.ends_with(" pings=34"),
            "{line}"
        );
        assert_eq!(line.split(' ').count(), 23);
    }
}
