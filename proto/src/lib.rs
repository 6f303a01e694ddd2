//! Wire format and state machines of Ringway, without I/O.
//!
//! Here: keys, the session handshake, frames, sealed objects, the open of a stream, end-to-end
//! records, control messages and packets of routes, limits and reasons. Not here: sockets, clocks,
//! threads, random sources.
//!
//! Bytes and [`time::Now`] go in, bytes and deadlines come out. The crate is `no_std` with `alloc`,
//! so the compiler keeps it that way; randomness is handed in by the caller.
//! Source: docs/protocol.md.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod dialect;
pub mod dmsg;
pub mod entry;
pub mod frame;
pub mod handshake;
pub mod key;
pub mod kk;
pub mod limits;
pub mod nonce;
pub mod open;
pub mod peer;
pub mod peer_set;
pub mod ports;
pub mod proxy;
pub mod reason;
pub mod record;
pub mod route;
pub mod sealed;
pub mod time;
pub mod verdict;

mod agreement;
mod bytes;
mod noise;
mod unread;
