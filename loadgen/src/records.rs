//! End-to-end records of `--payload sealed`.
//!
//! Here: both directions of a stream, over bytes that arrive in any pieces. Not here: the stream handshake.
//!
//! The generator plays both peers, so a sealed run costs it two ciphers a byte; the relay's cost is the
//! same as with opaque payload, since it looks at neither.

use ringway_proto::kk::RecordKeys;
use ringway_proto::limits::RECORD_PREFIX;
use ringway_proto::record::{NativeAead, RecordError, RecordOpener, RecordSealer, record_len};

/// Both directions of one stream.
#[derive(Debug)]
pub(crate) struct Records {
    sealer: RecordSealer<NativeAead>,
    opener: RecordOpener<NativeAead>,
    /// Bytes of the record that is arriving.
    partial: Vec<u8>,
}

impl Records {
    pub(crate) fn new(keys: &RecordKeys) -> Self {
        Self {
            sealer: RecordSealer::new(NativeAead::new(&keys.seal)),
            opener: RecordOpener::new(NativeAead::new(&keys.open)),
            partial: Vec::new(),
        }
    }

    /// Appends `plain` as one record.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.sealer.seal(plain, out)
    }

    /// Takes bytes of the stream and calls `visit` with the plain bytes of each record that is whole.
    pub(crate) fn open(
        &mut self,
        mut bytes: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), RecordError> {
        while !bytes.is_empty() {
            let want = match record_len(&self.partial)? {
                None => RECORD_PREFIX,
                Some(len) => len,
            };
            let (now, later) = bytes.split_at(bytes.len().min(want - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            let Some(len) = record_len(&self.partial)? else {
                continue;
            };
            if self.partial.len() == len {
                visit(self.opener.open(&mut self.partial[RECORD_PREFIX..])?);
                self.partial.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Records, Records) {
        let (seal, open) = ([1; 32], [2; 32]);
        let here = RecordKeys { seal, open };
        let there = RecordKeys {
            seal: open,
            open: seal,
        };
        (Records::new(&here), Records::new(&there))
    }

    #[test]
    fn records_open_however_their_bytes_arrive() {
        let (mut here, mut there) = pair();
        let mut wire = Vec::new();
        for len in [0_usize, 1, 64, 3_000] {
            here.seal(&vec![7; len], &mut wire).unwrap();
        }
        for step in [1, 2, 3, 17, 5_000] {
            let (mut here, mut there) = pair();
            let mut again = Vec::new();
            for len in [0_usize, 1, 64, 3_000] {
                here.seal(&vec![7; len], &mut again).unwrap();
            }
            let mut lens = Vec::new();
            for piece in again.chunks(step) {
                there.open(piece, |plain| lens.push(plain.len())).unwrap();
            }
            assert_eq!(lens, [0, 1, 64, 3_000]);
        }
        let mut count = 0;
        there.open(&wire, |_| count += 1).unwrap();
        assert_eq!(count, 4);
    }

    #[test]
    fn a_changed_byte_is_found() {
        let (mut here, mut there) = pair();
        let mut wire = Vec::new();
        here.seal(b"hello", &mut wire).unwrap();
        wire[3] ^= 1;
        assert!(there.open(&wire, |_| {}).is_err());
    }
}
