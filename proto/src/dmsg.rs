//! The dmsg dialect: what clients of Skywire's dmsg speak.
//!
//! Here: keys, handshakes, open objects, frames of streams, discovery entries, route setup calls. Not here:
//! yamux frames and sealed objects, which both dialects share (`frame`, `sealed`).
//!
//! Source: docs/dmsg.md; vectors of the Go implementation in proto/testdata/dmsg.txt.

pub mod entry;
pub mod gob;
pub mod handshake;
pub mod key;
pub mod kk;
pub mod open;
pub mod record;
pub mod rpc;

mod noise;
