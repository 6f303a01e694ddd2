//! Two peers and a relay in memory: the whole life of sessions and streams.
//!
//! Here: what `peer::PeerSession` promises. `life` has sessions, `opens` streams of both dialects,
//! `malformed` every bad object, `dmsg` what that dialect does otherwise, `splits` what holds for all
//! inputs. Not here: frames alone (`peer_mux`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod dmsg;
mod life;
mod malformed;
mod mirror;
mod opens;
mod splits;
mod world;

use core::time::Duration;

use ringway_proto::peer::{PeerEvent, SessionError, StreamId};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

pub(crate) fn refused(event: &PeerEvent) -> (StreamId, u16) {
    match event {
        PeerEvent::OpenRefused {
            stream,
            reason_code,
        } => (*stream, *reason_code),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn closed(event: &PeerEvent) -> SessionError {
    match event {
        PeerEvent::Closed { error } => *error,
        other => panic!("{other:?}"),
    }
}
