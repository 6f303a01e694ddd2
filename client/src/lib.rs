//! Client library of Ringway for tokio.
//!
//! Here: sessions to relays, dialling and listening by public key, end-to-end encrypted streams.
//! Not here: the wire format and the state machines (`ringway-proto`), the relay.
//!
//! A [`Client`] keeps sessions with the nearest relays of its [`Config`]: one that ends is made again
//! after a jittered pause, and the next nearest relay stands in meanwhile. [`Client::dial`] opens a
//! [`Stream`] to a port of another party, over the relay that had it last or the nearest that has it,
//! with sessions made on demand; [`Client::listen`] takes streams from others. `docs/client.md` says
//! how relays are chosen; [`Client::stats`] counts it. A [`Router`] makes the party a hop of routes and opens
//! [`RouteStream`]s over paths of several parties; see `docs/routes.md`.
//!
//! A party is native, or speaks the dmsg dialect: its key decides, and its relays' and destinations' keys are
//! of the same one. Streams, listeners and pings are the same for both; routes are for native parties.
//!
//! One task per session owns the socket; streams reach the session's state under a mutex that is
//! never held over an await. Records are sealed and opened outside of that mutex, in the task that
//! reads or writes the stream.
//!
//! Bound: every queue, table and retry has its limit in [`Config`] or beside its declaration.
//! Source: docs/protocol.md.

#![forbid(unsafe_code)]

mod backoff;
mod client;
mod config;
mod demand;
mod dial;
mod echo;
mod error;
mod inner;
mod inside;
mod listener;
mod ports;
mod recent;
mod router;
mod routes;
mod selection;
mod session;
mod stats;
mod status;
mod stream;
mod supervisor;

pub use client::Client;
pub use config::{Config, RelayAddress, RelayAddressError};
pub use error::{
    AcceptError, ConnectError, DialError, ListenError, PingError, Refusal, SessionError,
    StreamError,
};
pub use inside::Inside;
pub use listener::Listener;
pub use ringway_proto::dialect::peer::Identity;
pub use ringway_proto::dmsg::key::SecretKey as DmsgSecretKey;
pub use ringway_proto::key::{Address, PublicKey, SecretKey};
pub use ringway_proto::reason::Reason;
pub use ringway_proto::record::NativeAead;
pub use router::{
    GroupStatus, PacketsDropped, RouteError, RouteListener, RoutePath, RoutePlan, RouteStream,
    Router, RouterConfig, RouterStats, RuleStatus,
};
pub use stats::{DialFailures, Stats};
pub use status::{SessionState, SessionStatus};
pub use stream::Stream;

/// Port of the echo service that [`Client::ping`] asks; see [`Config::answer_ping`].
pub const PING_PORT: u16 = 7;
