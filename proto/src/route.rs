//! Routes: paths of peers that the control plane sets up, and what travels on them.
//!
//! Here: the numbers, names and ports that all parts of a route share. Not here: the messages that set one
//! up (`setup`, `hop`) and how they are framed (`message`), what is refused (`check`), the packets (`packet`)
//! and what the two ends say in them (`segment`).
//!
//! A peer asks a relay for a route on port [`ROUTE_SETUP_PORT`] of the relay; the relay asks each hop on
//! the same port of the hop; packets go from neighbour to neighbour on [`ROUTE_PACKET_PORT`].
//! Source: docs/routes.md.

use core::fmt;

use serde::{Deserialize, Serialize};

pub use self::check::Refusal;
pub use self::group_setup::GroupSetup;
pub use self::hop::{HopReply, HopRequest, Rule, RuleKind};
pub use self::message::{Message, MessageError, MessageReader};
pub use self::packet::{PacketError, PacketHead, PacketKind, PacketReader};
pub use self::setup::{
    Announce, Find, FindBy, FoundPath, SetUp, SetupReply, SetupRequest, Transport,
};

pub mod bounded;
pub mod check;
pub mod group_setup;
pub mod hop;
pub mod message;
pub mod packet;
pub mod plan;
pub mod segment;
pub mod setup;

/// Port of a relay where peers ask for routes, and of a peer where relays ask for rules.
pub const ROUTE_SETUP_PORT: u16 = 36;

/// Port of a peer where its neighbours on routes open the stream that carries packets.
pub const ROUTE_PACKET_PORT: u16 = 37;

/// Number of a rule in one peer's table; 0 is never given to a rule.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RouteId(pub u32);

impl RouteId {
    /// No rule.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Random name of a route group, which stays when its path changes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupName(pub [u8; 16]);

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
