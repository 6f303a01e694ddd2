//! End-to-end records of `--payload sealed`.
//!
//! Here: both directions of a stream, over bytes that arrive in any pieces. Not here: the stream handshake.
//!
//! The generator plays both peers, so a sealed run costs it two ciphers a byte; the relay's cost is the
//! same as with opaque payload, since it looks at neither.

use ringway_proto::dialect::Dialect;
use ringway_proto::dmsg;
use ringway_proto::kk::RecordKeys;
use ringway_proto::limits::RECORD_PREFIX;
use ringway_proto::record::{self, NativeAead, RecordError, RecordOpener, RecordSealer};

/// Both directions of one stream.
#[derive(Debug)]
pub(crate) struct Records {
    ends: Ends,
    /// Bytes of the record that is arriving.
    partial: Vec<u8>,
}

/// The sealer of one direction and the opener of the other.
#[derive(Debug)]
enum Ends {
    Native(RecordSealer<NativeAead>, RecordOpener<NativeAead>),
    Dmsg(
        dmsg::record::RecordSealer<NativeAead>,
        dmsg::record::RecordOpener<NativeAead>,
    ),
}

impl Records {
    pub(crate) fn new(dialect: Dialect, keys: &RecordKeys) -> Self {
        let (seal, open) = (NativeAead::new(&keys.seal), NativeAead::new(&keys.open));
        let ends = match dialect {
            Dialect::Dmsg => Ends::Dmsg(
                dmsg::record::RecordSealer::new(seal),
                dmsg::record::RecordOpener::new(open),
            ),
            _ => Ends::Native(RecordSealer::new(seal), RecordOpener::new(open)),
        };
        Self {
            ends,
            partial: Vec::new(),
        }
    }

    /// Appends `plain` as one record.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match &mut self.ends {
            Ends::Native(sealer, _) => sealer.seal(plain, out),
            Ends::Dmsg(sealer, _) => sealer.seal(plain, out),
        }
    }

    /// Takes bytes of the stream and calls `visit` with the plain bytes of each record that is whole.
    pub(crate) fn open(
        &mut self,
        mut bytes: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), RecordError> {
        while !bytes.is_empty() {
            let want = match self.record_len()? {
                None => RECORD_PREFIX,
                Some(len) => len,
            };
            let (now, later) = bytes.split_at(bytes.len().min(want - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            let Some(len) = self.record_len()? else {
                continue;
            };
            if self.partial.len() == len {
                let record = &mut self.partial[RECORD_PREFIX..];
                visit(match &mut self.ends {
                    Ends::Native(_, opener) => opener.open(record)?,
                    Ends::Dmsg(_, opener) => opener.open(record)?,
                });
                self.partial.clear();
            }
        }
        Ok(())
    }

    fn record_len(&self) -> Result<Option<usize>, RecordError> {
        match &self.ends {
            Ends::Native(..) => record::record_len(&self.partial),
            Ends::Dmsg(..) => dmsg::record::record_len(&self.partial),
        }
    }
}

/// Returns the bytes on the wire of a record with `payload` bytes.
pub(crate) const fn record_bytes(dialect: Dialect, payload: usize) -> usize {
    match dialect {
        Dialect::Dmsg => dmsg::record::record_bytes(payload),
        _ => record::record_bytes(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: [usize; 5] = [0, 1, 64, 3_000, 4_070];

    fn pair(dialect: Dialect) -> (Records, Records) {
        let (seal, open) = ([1; 32], [2; 32]);
        let here = RecordKeys { seal, open };
        let there = RecordKeys {
            seal: open,
            open: seal,
        };
        (Records::new(dialect, &here), Records::new(dialect, &there))
    }

    #[test]
    fn records_open_however_their_bytes_arrive() {
        for dialect in Dialect::ALL {
            for step in [1, 2, 3, 17, 5_000, 20_000] {
                let (mut here, mut there) = pair(dialect);
                let mut wire = Vec::new();
                for len in LENS {
                    let before = wire.len();
                    here.seal(&vec![7; len], &mut wire).unwrap();
                    assert_eq!(wire.len() - before, record_bytes(dialect, len));
                }
                let mut lens = Vec::new();
                for piece in wire.chunks(step) {
                    there.open(piece, |plain| lens.push(plain.len())).unwrap();
                }
                assert_eq!(lens, LENS, "{dialect:?} {step}");
            }
        }
    }

    #[test]
    fn a_changed_byte_is_found() {
        for dialect in Dialect::ALL {
            let (mut here, mut there) = pair(dialect);
            let mut wire = Vec::new();
            here.seal(b"hello", &mut wire).unwrap();
            wire[RECORD_PREFIX + 9] ^= 1;
            assert!(there.open(&wire, |_| {}).is_err());
        }
    }

    #[test]
    fn records_of_the_other_dialect_do_not_open() {
        for (dialect, other) in [
            (Dialect::Native, Dialect::Dmsg),
            (Dialect::Dmsg, Dialect::Native),
        ] {
            let (mut here, _) = pair(dialect);
            let (_, mut there) = pair(other);
            let mut wire = Vec::new();
            here.seal(&[7; 64], &mut wire).unwrap();
            assert!(there.open(&wire, |_| {}).is_err(), "{dialect:?}");
        }
    }
}
