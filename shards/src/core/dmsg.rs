//! What the core does for peers of the dmsg dialect and for no others.
//!
//! Here: pings of a stream's first bytes, ends of streams that a native peer takes as said, destinations of
//! the other dialect. Not here: what both dialects share, which asks [`Dialect`] where they differ.
//!
//! Go's yamux forgets a stream when both sides have ended it, or after minutes. So whoever ends one there is
//! answered, also where a native peer expects nothing.
//!
//! Source: docs/dmsg.md.

use ringway_proto::dialect::Dialect;
use ringway_proto::frame::{Flags, HEADER_LEN, Header};
use ringway_proto::key::PublicKey;
use ringway_proto::sealed::DMSG_PING;

use super::ShardCore;
use super::event::{Directory, Slot, StreamKey};
use crate::lease::Lease;

impl<L: Lease, D: Directory> ShardCore<L, D> {
    /// A stream's first bytes ask for themselves; with the answer the stream is over.
    pub(super) fn answer_ping(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let (slot, id) = (stream.session.slot, stream.id);
        let stats = &mut self.common.stats;
        stats.opens_pending -= 1;
        stats.opens_accepted += 1;
        stats.pings_answered += 1;
        stats.of_dialect_mut(Dialect::Dmsg).opens_accepted += 1;
        self.remove_stream(key);
        let length = u32::try_from(DMSG_PING.len()).unwrap_or(0);
        let mut frame = [0; HEADER_LEN + DMSG_PING.len()];
        Header::data(id, Flags::FIN, length).encode_into(&mut frame);
        self.push_control(slot, &frame);
    }

    /// Ends the relay's half of a stream whose peer has ended its own, or is about to.
    pub(super) fn end_unanswered(&mut self, slot: Slot, id: u32) {
        self.push_control(slot, &Header::window_update(id, Flags::FIN, 0).encode());
    }

    /// Returns whether a key that nobody has is the other dialect's spelling of one that somebody has: the
    /// x-coordinate of a dmsg key is as long as a native key.
    pub(super) fn speaks_otherwise(&self, key: &PublicKey) -> bool {
        match (key.dialect(), key.as_bytes()) {
            (Dialect::Native, bytes) => {
                let spelled = |sign: u8| {
                    let mut point = [sign; 33];
                    let rest = point.get_mut(1..)?;
                    (rest.len() == bytes.len()).then(|| rest.copy_from_slice(bytes))?;
                    Some(PublicKey::dmsg(point))
                };
                self.config.dmsg_key.is_some()
                    && [2, 3]
                        .into_iter()
                        .filter_map(spelled)
                        .any(|key| self.directory.lookup(&key).is_some())
            }
            (Dialect::Dmsg, [_, x @ ..]) => <[u8; 32]>::try_from(x)
                .is_ok_and(|x| self.directory.lookup(&PublicKey::native(x)).is_some()),
            _ => false,
        }
    }
}
