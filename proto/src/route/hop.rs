//! What a relay asks a hop of a route, and what the hop answers.
//!
//! Here: the messages on a stream to [`ROUTE_SETUP_PORT`](super::ROUTE_SETUP_PORT) of a peer. Not here:
//! framing (`message`), which of them are refused (`check`), the table that keeps rules (the client's `router`).
//!
//! A hop answers relays that its own user trusts and refuses all others with reason 201.
//! Variants stand in the order of their numbers on the wire; new ones come last.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::bounded;
use super::{GroupName, Refusal, RouteId};
use crate::key::PublicKey;

/// A question of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HopRequest {
    /// Reserve ids; those without a rule are free again after
    /// [`ROUTE_RESERVE_TIME`](crate::limits::ROUTE_RESERVE_TIME).
    Reserve {
        /// How many.
        count: u8,
    },
    /// Give reserved ids their rules. All or none.
    AddRules {
        /// The rules.
        #[serde(deserialize_with = "bounded::list")]
        rules: Vec<Rule>,
    },
    /// Forget ids and their rules; an unknown one is no error.
    Release {
        /// The ids.
        #[serde(deserialize_with = "bounded::list")]
        ids: Vec<RouteId>,
    },
}

/// What a hop does with packets of one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The id, reserved before.
    pub id: RouteId,
    /// Time without a packet after which the hop forgets the rule.
    pub keep_alive_ms: u32,
    /// The peer before the hop: packets of the id from any other peer are dropped.
    pub previous: PublicKey,
    /// What is done.
    pub kind: RuleKind,
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleKind {
    /// It goes on.
    Intermediary {
        /// To this peer.
        next: PublicKey,
        /// With this id.
        next_id: RouteId,
    },
    /// It has arrived.
    Destination {
        /// Name of its group.
        group: GroupName,
        /// Who set the group up.
        source: PublicKey,
        /// Port of the source.
        source_port: u16,
        /// Port of this peer that the group is for.
        destination_port: u16,
        /// First hop of the reverse route.
        next: PublicKey,
        /// Id of the reverse route there.
        next_id: RouteId,
    },
}

impl RuleKind {
    /// Returns the peer that packets go to, on or back, and their id there.
    #[must_use]
    pub const fn next(&self) -> (PublicKey, RouteId) {
        match *self {
            Self::Destination { next, next_id, .. } | Self::Intermediary { next, next_id } => {
                (next, next_id)
            }
        }
    }
}

/// An answer of a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HopReply {
    /// These ids are reserved.
    Reserved {
        /// As many as were asked for.
        #[serde(deserialize_with = "bounded::list")]
        ids: Vec<RouteId>,
    },
    /// Done.
    Done,
    /// Nothing was done.
    Refused(Refusal),
}
