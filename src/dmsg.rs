//! What this program does for Skywire's dmsg beside relaying: its discovery.
//!
//! Here: a discovery as a server (`discovery_server`), and a relay's side of one (`discovery`). Not here: the
//! wire (`ringway_proto::dmsg`), sessions and streams, which relays bridge as in the native dialect.
//!
//! Source: docs/dmsg.md.

pub(crate) mod discovery;
pub(crate) mod discovery_server;
