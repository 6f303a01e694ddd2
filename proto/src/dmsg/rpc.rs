//! Go's `net/rpc` as far as route setup of Skywire uses it.
//!
//! Each direction of a stream is one stream of gobs. A call is two values, `{ServiceMethod, Seq}` and what is
//! asked; its reply is two as well, `{ServiceMethod, Seq, Error}` and what is answered, or a struct without
//! fields when there is an error. Replies come in any order.
//!
//! ```text
//! peer    -- SetupRPCGateway.DialRouteGroup(BidirectionalRoute) -> EdgeRules -->  setup node, port 36
//!  any hop  <-- RPCGateway.ReserveIDs, AddIntermediaryRules, AddEdgeRules, DelRules --  setup node; port 136
//! ```
//!
//! Here: both sides of both services as values, bytes in and bytes out, and what hops are asked for a route
//! (`plan`). Not here: streams, who may ask, in which order hops are asked (`crate::route::group_setup`).
//!
//! Bounds: [`CALL_MESSAGE_MAX`] for a message, [`CALLS_MAX`] for calls without a reply, and those of `gob`
//! for the types of a stream.
//! Source: docs/dmsg.md "Calls of route setup"; golden conversations of Go's own `net/rpc` in
//! `proto/testdata/dmsg_rpc.hex`.

use alloc::vec::Vec;
use core::fmt;

use thiserror::Error;

use super::gob::{Encoder, GobError, Value};
use crate::reason::Reason;

pub use self::client::{Answered, Client};
pub use self::failure::Failure;
pub use self::plan::{RULE_KEEP_ALIVE_MAX, RoutePlan, hop_reply};
pub use self::route::{BidirectionalRoute, EdgeRules, Hop, RouteDescriptor, TransportId};
pub use self::router::{RouterCall, RouterGateway, RouterReply};
pub use self::rule::{RULE_MAX, Rule, RuleKind};
pub use self::server::{Asked, CallId, Refused, Server};
pub use self::setup::{Health, SetupCall, SetupGateway, SetupReply};

mod client;
mod failure;
mod message;
mod plan;
mod route;
mod router;
mod rule;
mod server;
mod setup;
mod types;

/// A set of calls under one name.
pub trait Service {
    /// What can be asked.
    type Call: fmt::Debug;
    /// What can be answered.
    type Reply: fmt::Debug;
    /// The name before the dot.
    const NAME: &'static str;

    /// Returns the method of a call, the name behind the dot.
    fn method(call: &Self::Call) -> &'static str;

    /// Writes what is asked.
    ///
    /// # Errors
    ///
    /// The `Local*` variants of [`RpcError`]; nothing was written.
    fn write_call(
        call: &Self::Call,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError>;

    /// Reads what a method is asked.
    ///
    /// # Errors
    ///
    /// [`RpcError::PeerMethod`] when there is no such method, and what is wrong with the value.
    fn read_call(method: &str, value: Value<'_, '_>) -> Result<Self::Call, RpcError>;

    /// Writes what is answered.
    ///
    /// # Errors
    ///
    /// The `Local*` variants of [`RpcError`]; nothing was written.
    fn write_reply(
        reply: &Self::Reply,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) -> Result<(), RpcError>;

    /// Reads what a method has answered.
    ///
    /// # Errors
    ///
    /// As for [`Service::read_call`].
    fn read_reply(method: &str, value: Value<'_, '_>) -> Result<Self::Reply, RpcError>;
}

/// Why a message is not written, or not what was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RpcError {
    /// A key of another dialect has no place in these calls.
    #[error("route with a key of another dialect")]
    LocalDialect,
    /// More hops, rules or ids than one call may have.
    #[error("call with a list of {have}, {most} are allowed")]
    LocalList {
        /// How many.
        have: usize,
        /// What is allowed.
        most: usize,
    },
    /// As many calls as may be have no reply yet.
    #[error("{CALLS_MAX} calls wait for replies")]
    LocalCalls,
    /// What is asked or answered is no gob, or another value than the one that was due.
    #[error("call: {0}")]
    PeerGob(#[from] GobError),
    /// A key has another length.
    #[error("route with a key of {have} bytes")]
    PeerKeyLength {
        /// Its bytes.
        have: usize,
    },
    /// There is no such method.
    #[error("call of a method that does not exist")]
    PeerMethod,
    /// The name of a method is longer than [`METHOD_MAX`].
    #[error("call of a method with a name of {have} bytes")]
    PeerMethodLength {
        /// Its bytes.
        have: usize,
    },
    /// A reply to a call that was not made, or that was replied to.
    #[error("reply to call {0}, which waits for none")]
    PeerNumber(u64),
    /// The two routes do not lead from the source to the destination and back.
    #[error("bidirectional route has an invalid route description")]
    PeerRoute,
    /// One of the routes comes to a visor twice.
    #[error("bidirectional route comes to a visor twice")]
    PeerRouteLoop,
    /// There are no hops to the destination.
    #[error("bidirectional route does not have forward hops")]
    PeerRouteForward,
    /// There are no hops back.
    #[error("bidirectional route does not have reverse hops")]
    PeerRouteReverse,
    /// A rule is too short or too long for its kind.
    #[error("rule of {have} bytes")]
    PeerRuleLength {
        /// Its bytes.
        have: usize,
    },
    /// A kind of rules that is not known.
    #[error("rule of unknown kind {0}")]
    PeerRuleKind(u8),
    /// The name of a transport has another length than 16.
    #[error("route over a transport with a name of {have} bytes")]
    PeerTransportLength {
        /// Its bytes.
        have: usize,
    },
}

impl RpcError {
    /// Returns the reason a call is refused with, or its stream ended.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::LocalCalls => Reason::RouteBusy,
            Self::PeerGob(error) => error.reason(),
            Self::LocalDialect
            | Self::LocalList { .. }
            | Self::PeerKeyLength { .. }
            | Self::PeerRoute
            | Self::PeerRouteForward
            | Self::PeerRouteLoop
            | Self::PeerRouteReverse
            | Self::PeerRuleKind(_)
            | Self::PeerRuleLength { .. }
            | Self::PeerTransportLength { .. } => Reason::BadRoute,
            Self::PeerMethod | Self::PeerMethodLength { .. } | Self::PeerNumber(_) => {
                Reason::ProtocolError
            }
        }
    }
}

/// Port of a setup node where peers ask for routes.
pub const SETUP_PORT: u16 = 36;

/// Port of a peer where setup nodes ask for rules.
pub const ROUTER_PORT: u16 = 136;

/// Longest message of a conversation, without its length.
///
/// The longest one that is of use is a route of twice [`HOPS_MAX`] hops: 9 KiB.
pub const CALL_MESSAGE_MAX: usize = 65_536;

/// Most calls of one conversation without a reply.
pub const CALLS_MAX: usize = 32;

/// Longest name of a service and a method.
pub const METHOD_MAX: usize = 128;

/// Longest text of an error; the rest is cut off.
pub const ERROR_TEXT_MAX: usize = 1_024;

/// Most hops of one direction of a route: what visors of Skywire set as their own bound.
///
/// Source: docs/dmsg.md "Calls of route setup".
pub const HOPS_MAX: usize = 50;

/// Most ids or rules in one call: what the number of ids to reserve can say.
pub const IDS_MAX: usize = 255;
