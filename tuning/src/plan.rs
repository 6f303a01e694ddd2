//! A plan: from what is asked for to relays, cores, memory, ports.
//!
//! Here: the demand and what is wrong with one, the plan as a whole. Not here: what things cost (`costs`),
//! the sums of one relay (`load`), its limits (`limits`), several relays (`fleet`), how it is shown
//! (`text`, `page`).
//!
//! Invariant: a plan is a function of demand, costs and room; it reads nothing.

pub mod costs;
pub mod fleet;
pub mod limits;
pub mod load;
pub mod numbers;
pub mod page;
pub mod text;

use std::time::Duration;

use serde::Serialize;

use costs::Costs;
use fleet::Fleet;
use limits::{Limit, Room};
use load::Term;

/// What is asked for, of all relays together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Demand {
    /// Sessions that stand at a time.
    pub sessions: u64,
    /// Ends of streams that each session has open at a time, on the average.
    pub streams: f64,
    /// Payload that peers send, bits a second.
    pub bits: f64,
    /// Bytes of a message.
    pub message: u32,
    /// Messages of a session that come together, so that one wake-up serves them.
    pub together: f64,
    /// Sessions that come, and as many that go, a second.
    pub connects: f64,
    /// Streams that are opened a second; none: each session that comes opens its share.
    pub opens: Option<f64>,
    /// Share of streams whose peers are on different relays; none: peers are anywhere.
    pub forwarded: Option<f64>,
    /// Share of peers that do not read what comes.
    pub slow: f64,
    /// Round trip between relay and peers.
    pub round_trip: Duration,
    /// Time in which all peers of a relay come back after it has died.
    pub returning: Duration,
    /// Relays; none: as few as carry it.
    pub relays: Option<u32>,
    /// Relays that may be away at a time while the others carry everything.
    pub spare: u32,
}

impl Demand {
    /// Returns what contradicts what, if anything does.
    ///
    /// # Errors
    /// With what was asked for, why that cannot be, and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let sessions = whole(self.sessions);
        if self.connects > sessions {
            return Err(format!(
                "{} connects a second with {sessions} sessions leave each less than a second: expected at most as \
                 many connects a second as sessions",
                self.connects
            ));
        }
        if self.relays == Some(1) && self.forwarded.is_some_and(|share| share > 0.0) {
            return Err(
                "one relay forwards nothing: expected a forwarded share of 0, or more relays"
                    .to_owned(),
            );
        }
        if self.relays.is_some_and(|relays| self.spare >= relays) {
            return Err(format!(
                "{} spare relays of {} leave none: expected more relays or fewer spare ones",
                self.spare,
                self.relays.unwrap_or(0)
            ));
        }
        if self.bits > 0.0 && self.streams <= 0.0 {
            return Err(
                "traffic without streams: expected some streams for each session, such as 1"
                    .to_owned(),
            );
        }
        let each = self.bits / 8.0 / f64::from(self.message) / sessions;
        if each > MESSAGES_MAX {
            return Err(format!(
                "{each:.0} messages a second from each session: expected at most {MESSAGES_MAX}; more sessions, less \
                 traffic or larger messages"
            ));
        }
        Ok(())
    }

    /// Returns the streams that are opened a second.
    pub(crate) fn opens(&self) -> f64 {
        self.opens.unwrap_or(self.connects * self.streams / 2.0)
    }
}

/// A demand with what carries it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// What was asked for.
    pub demand: Demand,
    /// What a host has.
    pub room: Room,
    /// What things cost.
    pub costs: Costs,
    /// All relays together.
    pub fleet: Fleet,
    /// What the fullest relay needs, while the spare ones are away.
    pub terms: Vec<Term>,
    /// The same against what there is.
    pub limits: Vec<Limit>,
}

impl Plan {
    /// Makes the plan.
    ///
    /// # Errors
    /// When the demand contradicts itself, or no number of relays carries it; the text says what is short.
    pub fn of(demand: Demand, costs: Costs, room: Room) -> Result<Self, String> {
        demand.check()?;
        let fleet = Fleet::of(&demand, &costs, &room)?;
        let terms = load::terms(&fleet.load, &costs);
        let limits = limits::limits(&fleet.load, &costs, &room);
        Ok(Self {
            demand,
            room,
            costs,
            fleet,
            terms,
            limits,
        })
    }

    /// Returns whether some resource is short, as it can be when the number of relays was given.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.limits.iter().any(Limit::is_exceeded)
    }
}

/// Returns a count as a number of a sum, exact up to 2^53.
pub(crate) fn whole(count: u64) -> f64 {
    count as f64
}

/// Most messages a second from one session: a stream of 64-byte messages at a core's full speed has some 15
/// million (docs/benchmarks.md).
const MESSAGES_MAX: f64 = 15e6;

#[cfg(test)]
mod tests;
