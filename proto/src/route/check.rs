//! Which control messages are refused, and the words of a refusal.
//!
//! Here: rules that need nothing but the message and its sender; a relay and a peer use the same. Not here:
//! what depends on tables, trust or load.
//!
//! Bound: all checks are quadratic at most in [`ROUTE_HOPS_MAX`], linear in everything else.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::bounded::{self, cut};
use super::setup::{Announce, Find, SetUp, SetupRequest};
use super::{HopRequest, RouteId, Rule};
use crate::key::PublicKey;
use crate::limits::{
    ROUTE_AVOID_MAX, ROUTE_FIELD_TEXT_MAX, ROUTE_HOPS_MAX, ROUTE_IDS_MAX, ROUTE_KEEP_ALIVE,
    ROUTE_KEEP_ALIVE_MAX, ROUTE_KEEP_ALIVE_MIN, ROUTE_MESSAGE_TEXT_MAX, ROUTE_PATHS_MAX,
    ROUTE_TRANSPORTS_MAX,
};
use crate::reason::Reason;

/// Why a request about routes was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Number of the reason; a newer party may know more of them than [`Reason`].
    pub reason: u16,
    /// The hop that it is about.
    pub hop: Option<PublicKey>,
    /// Name of the field of the request that it is about, or empty.
    #[serde(deserialize_with = "bounded::text::<_, ROUTE_FIELD_TEXT_MAX>")]
    pub field: String,
    /// For people; or empty.
    #[serde(deserialize_with = "bounded::text::<_, ROUTE_MESSAGE_TEXT_MAX>")]
    pub message: String,
}

impl Refusal {
    /// Returns a refusal with this sentence, cut where it is too long for the wire.
    #[must_use]
    pub fn new(reason: Reason, message: &str) -> Self {
        Self {
            reason: reason.code(),
            hop: None,
            field: String::new(),
            message: String::from(cut(message, ROUTE_MESSAGE_TEXT_MAX)),
        }
    }

    /// Returns the same refusal about this field.
    #[must_use]
    pub fn with_field(mut self, field: &str) -> Self {
        self.field = String::from(cut(field, ROUTE_FIELD_TEXT_MAX));
        self
    }

    /// Returns the same refusal about this hop.
    #[must_use]
    pub const fn with_hop(mut self, hop: PublicKey) -> Self {
        self.hop = Some(hop);
        self
    }

    /// Returns the reason, `None` when this version does not know the number.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_code(self.reason)
    }

    fn field(field: &str, message: &str) -> Self {
        Self::new(Reason::BadRoute, message).with_field(field)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{reason}")?,
            None => write!(f, "{}", self.reason)?,
        }
        if let Some(hop) = self.hop {
            write!(f, ", hop {hop}")?;
        }
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl core::error::Error for Refusal {}

impl SetupRequest {
    /// Checks what `asker` asks a relay.
    ///
    /// # Errors
    ///
    /// The refusal to answer with; its field names what is wrong.
    pub fn check(&self, asker: &PublicKey) -> Result<(), Refusal> {
        match self {
            Self::SetUp(set_up) => set_up.check(asker),
            Self::Find(find) => find.check(asker),
            Self::Announce(announce) => announce.check(asker),
            Self::Withdraw => Ok(()),
        }
    }
}

impl SetUp {
    /// Checks the paths, their ends, the keep-alive time and the reverse id.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    pub fn check(&self, asker: &PublicKey) -> Result<(), Refusal> {
        if *asker == self.destination {
            return Err(Refusal::field("destination", "is the asker itself"));
        }
        check_path("forward", &self.forward, asker, &self.destination)?;
        check_path("reverse", &self.reverse, &self.destination, asker)?;
        if self.keep_alive_ms != 0 {
            check_keep_alive(self.keep_alive_ms)?;
        }
        check_id("reverse_id", self.reverse_id)
    }

    /// Returns the keep-alive time that was asked for, or the usual one.
    #[must_use]
    pub fn keep_alive_ms(&self) -> u32 {
        match self.keep_alive_ms {
            0 => millis(ROUTE_KEEP_ALIVE),
            asked => asked,
        }
    }
}

impl Find {
    /// Checks the destination and the numbers.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    pub fn check(&self, asker: &PublicKey) -> Result<(), Refusal> {
        if *asker == self.destination {
            return Err(Refusal::field("destination", "is the asker itself"));
        }
        let paths = usize::from(self.paths_max);
        if paths == 0 || paths > ROUTE_PATHS_MAX {
            let message = format!("{paths} paths, 1 to {ROUTE_PATHS_MAX} can be asked for");
            return Err(Refusal::field("paths_max", &message));
        }
        let hops = usize::from(self.hops_max);
        if hops == 1 || hops > ROUTE_HOPS_MAX {
            let message = format!("{hops} peers, a path has 2 to {ROUTE_HOPS_MAX}");
            return Err(Refusal::field("hops_max", &message));
        }
        check_count("avoid", self.avoid.len(), 0, ROUTE_AVOID_MAX)
    }

    /// Returns how many peers a path may have, both ends included.
    #[must_use]
    pub const fn hops_max(&self) -> usize {
        match self.hops_max {
            0 => ROUTE_HOPS_MAX,
            asked => asked as usize,
        }
    }
}

impl Announce {
    /// Checks how many transports there are, and that none leads to the asker.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    pub fn check(&self, asker: &PublicKey) -> Result<(), Refusal> {
        check_count("transports", self.transports.len(), 0, ROUTE_TRANSPORTS_MAX)?;
        if self.transports.iter().any(|one| one.peer == *asker) {
            return Err(Refusal::field(
                "transports",
                "one leads to the asker itself",
            ));
        }
        if self.ttl_ms == 0 {
            return Err(Refusal::field("ttl_ms", "is 0"));
        }
        Ok(())
    }
}

impl HopRequest {
    /// Checks what a relay asks `hop`.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    pub fn check(&self, hop: &PublicKey) -> Result<(), Refusal> {
        match self {
            Self::Reserve { count } => check_count("count", usize::from(*count), 1, ROUTE_IDS_MAX),
            Self::AddRules { rules } => {
                check_count("rules", rules.len(), 1, ROUTE_IDS_MAX)?;
                let is_twice = |(at, rule): (usize, &Rule)| {
                    let before = rules.get(..at).unwrap_or_default();
                    before.iter().any(|other| other.id == rule.id)
                };
                if rules.iter().enumerate().any(is_twice) {
                    return Err(Refusal::field("rules", "two rules have the same id"));
                }
                rules.iter().try_for_each(|rule| rule.check(hop))
            }
            Self::Release { ids } => check_count("ids", ids.len(), 1, ROUTE_IDS_MAX),
        }
    }
}

impl Rule {
    /// Checks that packets come from and go to another peer, and the ids and the time.
    ///
    /// # Errors
    ///
    /// The refusal to answer with.
    pub fn check(&self, hop: &PublicKey) -> Result<(), Refusal> {
        let (next, next_id) = self.kind.next();
        check_id("id", self.id)?;
        check_id("next_id", next_id)?;
        if next == *hop {
            return Err(Refusal::field("next", "is the hop itself"));
        }
        if self.previous == *hop {
            return Err(Refusal::field("previous", "is the hop itself"));
        }
        check_keep_alive(self.keep_alive_ms)
    }
}

/// Checks a path: its ends, its length, and that no peer stands on it twice.
///
/// # Errors
///
/// The refusal to answer with; it names `field`.
pub fn check_path(
    field: &str,
    path: &[PublicKey],
    first: &PublicKey,
    last: &PublicKey,
) -> Result<(), Refusal> {
    check_count(field, path.len(), 2, ROUTE_HOPS_MAX)?;
    if path.first() != Some(first) {
        let message = format!("does not begin at {first}");
        return Err(Refusal::field(field, &message));
    }
    if path.last() != Some(last) {
        let message = format!("does not end at {last}");
        return Err(Refusal::field(field, &message));
    }
    for (at, key) in path.iter().enumerate() {
        if path.iter().take(at).any(|other| other == key) {
            let message = format!("has {key} twice");
            return Err(Refusal::field(field, &message));
        }
    }
    Ok(())
}

fn check_count(field: &str, have: usize, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&have) {
        return Ok(());
    }
    let message = format!("has {have}, {min} to {max} are allowed");
    Err(Refusal::field(field, &message))
}

fn check_id(field: &str, id: RouteId) -> Result<(), Refusal> {
    if id == RouteId::NONE {
        return Err(Refusal::field(field, "is 0"));
    }
    Ok(())
}

fn check_keep_alive(keep_alive_ms: u32) -> Result<(), Refusal> {
    let (min, max) = (millis(ROUTE_KEEP_ALIVE_MIN), millis(ROUTE_KEEP_ALIVE_MAX));
    if (min..=max).contains(&keep_alive_ms) {
        return Ok(());
    }
    let message = format!("is {keep_alive_ms} ms, {min} to {max} are allowed");
    Err(Refusal::field("keep_alive_ms", &message))
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
