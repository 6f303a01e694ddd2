//! What honest peers wrote and must read.
//!
//! Here: one entry for each open of an honest peer, with the bytes of both directions. Every byte is told
//! by its entry, its direction and its place, so one that is lost, doubled, swapped or of another stream
//! is found where it is read. Not here: streams with a peer that has sent bytes of its own choice.
//!
//! Bound: one entry for each operation.

use ringway_proto::peer::StreamId;
use ringway_proto::reason::Reason;

/// The end of a stream at one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) stream: StreamId,
    /// The entry; nothing when the opener is not honest.
    pub(super) entry: Option<usize>,
    /// 0 for the opener.
    pub(super) side: usize,
}

#[derive(Debug, Default)]
struct Entry {
    /// The destination is of the other dialect.
    is_across: bool,
    /// The connections at both ends, by their number in the run.
    ends: [Option<u64>; 2],
    written: [u64; 2],
    read: [u64; 2],
}

/// All opens of honest peers.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: Vec<Entry>,
}

impl Book {
    /// Returns the source port that names the next open.
    pub(super) fn next_port(&self) -> u16 {
        PORT_MIN + u16::try_from(self.entries.len()).expect("an input has fewer operations")
    }

    /// Notes an open by a connection, to its own dialect or to the other one.
    pub(super) fn opened(&mut self, connection: u64, is_across: bool) -> usize {
        self.entries.push(Entry {
            is_across,
            ends: [Some(connection), None],
            ..Entry::default()
        });
        self.entries.len() - 1
    }

    /// Notes that a connection accepted the open with this source port.
    pub(super) fn accepted(&mut self, port: u16, connection: u64) -> Option<usize> {
        let index = usize::from(port.checked_sub(PORT_MIN)?);
        let entry = self.entries.get_mut(index)?;
        assert!(entry.ends[1].is_none(), "one open arrived twice");
        assert!(!entry.is_across, "an open reached the other dialect");
        entry.ends[1] = Some(connection);
        Some(index)
    }

    /// Checks that an open may have been accepted.
    pub(super) fn answered(&self, end: End) {
        let entry = end.entry.and_then(|index| self.entries.get(index));
        assert!(
            entry.is_none_or(|entry| !entry.is_across),
            "somebody of the other dialect has accepted"
        );
    }

    /// Checks that an open may have been refused for this reason.
    pub(super) fn refused(&self, end: End, reason_code: u16) {
        let entry = end.entry.and_then(|index| self.entries.get(index));
        assert!(
            entry.is_none_or(|entry| entry.is_across) || reason_code != Reason::OtherDialect.code(),
            "no such key in the other dialect"
        );
    }

    /// Returns the bytes that were read and found right.
    #[cfg(test)]
    pub(super) fn arrived_bytes(&self) -> u64 {
        self.entries.iter().flat_map(|entry| entry.read).sum()
    }

    /// Returns the next bytes of one side.
    pub(super) fn bytes(&self, end: End, count: usize) -> Vec<u8> {
        let Some(index) = end.entry else {
            return vec![0; count];
        };
        let from = self.entries[index].written[end.side];
        (from..)
            .take(count)
            .map(|at| byte(index, end.side, at))
            .collect()
    }

    /// Notes that the peer took so many of them.
    pub(super) fn wrote(&mut self, end: End, count: usize) {
        if let Some(index) = end.entry {
            self.entries[index].written[end.side] += count as u64;
        }
    }

    /// Checks bytes that one side read; `is_honest` tells of a connection whether it is.
    pub(super) fn read(&mut self, end: End, bytes: &[u8], is_honest: impl Fn(u64) -> bool) {
        let Some(index) = end.entry else {
            return;
        };
        let entry = &mut self.entries[index];
        let from = 1 - end.side;
        let at = entry.read[end.side];
        entry.read[end.side] += bytes.len() as u64;
        if !entry.ends.iter().all(|end| end.is_some_and(&is_honest)) {
            return;
        }
        assert!(
            entry.read[end.side] <= entry.written[from],
            "open {index}: bytes that nobody wrote"
        );
        for (at, got) in (at..).zip(bytes) {
            assert_eq!(*got, byte(index, from, at), "open {index}: byte {at}");
        }
    }
}

/// The byte of one direction of one open at one place; 251 is prime to every size of a piece.
fn byte(index: usize, side: usize, at: u64) -> u8 {
    let place = u8::try_from(at % 251).expect("below 251");
    let stream = u8::try_from((index * 2 + side) % 251).expect("below 251");
    place.wrapping_add(stream.wrapping_mul(7))
}

/// Source port of the first open.
const PORT_MIN: u16 = 10_000;
