//! One socket, accepted or dialed, seen from the network.
//!
//! Here: who is at the other end, the send in flight, what the kernel does with it. Not here: when it
//! completes (`drive`).

use ringway_proto::peer::PeerSession;
use ringway_shards::batch::Batch;

use super::super::book::End;
use crate::hostile::Hostile;
use crate::memory::HeapLease;

/// Who is at the other end.
pub(super) enum Party {
    Honest(Box<PeerSession>),
    Hostile(Box<Hostile>),
    /// Nobody who speaks by itself.
    Nobody,
}

/// See the module.
pub(super) struct Socket {
    pub(super) party: Party,
    /// The number of the connection in the run.
    pub(super) connection: u64,
    /// Streams of an honest party.
    pub(super) ends: Vec<End>,
    pub(super) sending: Option<Batch<HeapLease>>,
    /// Sends do not complete.
    pub(super) is_held: bool,
    /// The core has asked for the close.
    pub(super) is_closing: bool,
    pub(super) is_receiving: bool,
    /// The port that the relay dialed it from.
    pub(super) port: Option<u16>,
    pub(super) send_bytes_max: usize,
}

impl Socket {
    pub(super) const fn new(party: Party, connection: u64) -> Self {
        Self {
            party,
            connection,
            ends: Vec::new(),
            sending: None,
            is_held: false,
            is_closing: false,
            is_receiving: true,
            port: None,
            send_bytes_max: usize::MAX,
        }
    }

    /// Returns one of the streams of the party.
    pub(super) fn end(&self, which: u8) -> Option<End> {
        let count = self.ends.len();
        (count > 0).then(|| self.ends[usize::from(which) % count])
    }
}
