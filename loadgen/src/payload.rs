//! Messages: what a run sends, and the proof that it arrived.
//!
//! Here: the layout of a message, its filling, and the receiver that checks it piece by piece. Not
//! here: frames and records around it.
//!
//! Layout, big-endian: `u64 sequence | u64 due, ns | u64 sent, ns | filling`. The sequence counts the
//! messages of one direction of one stream from 0, so one lost, repeated or reordered message is found
//! by the next one. The filling is a fixed text that starts at a place which the sequence decides;
//! `--verify` compares all of it, otherwise its length is what counts.
//!
//! Invariant: every byte received belongs to exactly one message at one position.

use ringway_proto::time::Now;

/// Bytes at the start of a message that say which one it is.
pub(crate) const HEAD_LEN: usize = 24;

/// Places where the filling may start; a prime, so that neighbours differ at any message size.
const ROTATION: u64 = 251;

/// First bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) due: Now,
    pub(crate) sent: Now,
}

impl Head {
    #[inline]
    pub(crate) fn encode(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.due.as_nanos().to_be_bytes());
        bytes[16..].copy_from_slice(&self.sent.as_nanos().to_be_bytes());
        bytes
    }

    #[inline]
    pub(crate) fn decode(bytes: &[u8; HEAD_LEN]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |place: usize| numbers.get(place).map_or(0, |n| u64::from_be_bytes(*n));
        Self {
            sequence: number(0),
            due: Now::from_nanos(number(1)),
            sent: Now::from_nanos(number(2)),
        }
    }
}

/// The filling of all messages of a run.
#[derive(Debug)]
pub(crate) struct Filling {
    text: Vec<u8>,
    message_bytes: usize,
}

impl Filling {
    /// Returns the filling for messages of `message_bytes`.
    ///
    /// # Panics
    /// When a message has no room for its head; the plan refuses such runs.
    pub(crate) fn new(message_bytes: usize) -> Self {
        assert!(message_bytes >= HEAD_LEN, "a message has room for its head");
        let rotation = usize::try_from(ROTATION).unwrap_or(0);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let text = (0..message_bytes + rotation)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        Self {
            text,
            message_bytes,
        }
    }

    /// Returns the bytes of a message with its head.
    pub(crate) const fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Returns what follows the head of message `sequence`.
    #[inline]
    pub(crate) fn of(&self, sequence: u64) -> &[u8] {
        let start = usize::try_from(sequence % ROTATION).unwrap_or(0);
        &self.text[start..start + self.message_bytes - HEAD_LEN]
    }
}

/// What is wrong with received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A message is not the next one.
    Sequence,
    /// The filling differs.
    Filling,
}

/// Puts the messages of one direction of a stream together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Bytes of the current message that are there.
    position: usize,
    head: [u8; HEAD_LEN],
    /// The next message.
    sequence: u64,
}

impl Assembler {
    /// Takes bytes and calls `visit` for each message that is whole.
    #[inline]
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        filling: &Filling,
        verify: bool,
        mut visit: impl FnMut(Head),
    ) -> Result<(), Mismatch> {
        let size = filling.message_bytes;
        // Most messages arrive whole, and side by side.
        while self.position == 0
            && let Some((message, later)) = bytes.split_at_checked(size)
            && let Some((head, text)) = message.split_first_chunk::<HEAD_LEN>()
        {
            if verify && text != filling.of(self.sequence) {
                return Err(Mismatch::Filling);
            }
            let head = Head::decode(head);
            if head.sequence != self.sequence {
                return Err(Mismatch::Sequence);
            }
            self.sequence += 1;
            bytes = later;
            visit(head);
        }
        while !bytes.is_empty() {
            if self.position < HEAD_LEN {
                let count = bytes.len().min(HEAD_LEN - self.position);
                let (now, later) = bytes.split_at(count);
                self.head[self.position..self.position + count].copy_from_slice(now);
                self.position += count;
                bytes = later;
            }
            if self.position >= HEAD_LEN {
                let count = bytes.len().min(size - self.position);
                let (now, later) = bytes.split_at(count);
                if verify {
                    let start = self.position - HEAD_LEN;
                    let expected = &filling.of(self.sequence)[start..start + count];
                    if now != expected {
                        return Err(Mismatch::Filling);
                    }
                }
                self.position += count;
                bytes = later;
                if self.position == size {
                    let head = Head::decode(&self.head);
                    if head.sequence != self.sequence {
                        return Err(Mismatch::Sequence);
                    }
                    self.sequence += 1;
                    self.position = 0;
                    visit(head);
                }
            }
        }
        Ok(())
    }

    /// Returns the messages that are complete.
    pub(crate) const fn messages(&self) -> u64 {
        self.sequence
    }

    /// Returns whether the last message is complete.
    pub(crate) const fn is_between_messages(&self) -> bool {
        self.position == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(filling: &Filling, sequence: u64) -> Vec<u8> {
        let head = Head {
            sequence,
            due: Now::from_nanos(5),
            sent: Now::from_nanos(6),
        };
        let mut bytes = head.encode().to_vec();
        bytes.extend_from_slice(filling.of(sequence));
        bytes
    }

    #[test]
    fn heads_survive_the_round_trip() {
        let head = Head {
            sequence: 1,
            due: Now::from_nanos(u64::MAX),
            sent: Now::from_nanos(3),
        };
        assert_eq!(Head::decode(&head.encode()), head);
    }

    #[test]
    fn messages_are_found_however_their_bytes_arrive() {
        for size in [HEAD_LEN, HEAD_LEN + 1, 64, 1_000] {
            let filling = Filling::new(size);
            let wire: Vec<u8> = (0..20).flat_map(|n| message(&filling, n)).collect();
            assert_eq!(wire.len(), 20 * size);
            for step in [1, 7, 23, 24, 25, 63, 64, 4_096] {
                let mut assembler = Assembler::default();
                let mut seen = Vec::new();
                for piece in wire.chunks(step) {
                    let pushed =
                        assembler.push(piece, &filling, true, |head| seen.push(head.sequence));
                    assert_eq!(pushed, Ok(()));
                }
                assert_eq!(seen, (0..20).collect::<Vec<_>>());
                assert!(assembler.is_between_messages());
                assert_eq!(assembler.messages(), 20);
            }
        }
    }

    #[test]
    fn a_lost_or_repeated_message_is_found() {
        let filling = Filling::new(64);
        let mut assembler = Assembler::default();
        let (first, third) = (message(&filling, 0), message(&filling, 2));
        assert_eq!(assembler.push(&first, &filling, false, |_| {}), Ok(()));
        let lost = assembler.push(&third, &filling, false, |_| {});
        assert_eq!(lost, Err(Mismatch::Sequence));
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(&first, &filling, true, |_| {}), Ok(()));
        assert!(assembler.push(&first, &filling, true, |_| {}).is_err());
    }

    #[test]
    fn verify_finds_any_changed_byte() {
        let filling = Filling::new(64);
        for place in HEAD_LEN..64 {
            let mut bytes = message(&filling, 0);
            bytes[place] ^= 1;
            let mut assembler = Assembler::default();
            let checked = assembler.push(&bytes, &filling, true, |_| {});
            assert_eq!(checked, Err(Mismatch::Filling));
            let mut assembler = Assembler::default();
            assert_eq!(assembler.push(&bytes, &filling, false, |_| {}), Ok(()));
        }
    }
}
