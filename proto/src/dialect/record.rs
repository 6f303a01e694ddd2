//! Records of a stream, whichever dialect its ends speak.
//!
//! Here: one value for the sealers and the openers of both dialects. Not here: layouts and nonces
//! (`crate::record`, `dmsg::record`), the handshake that made the keys.

use alloc::vec::Vec;

use super::Dialect;
use crate::dmsg::record as dmsg;
use crate::limits::{DMSG_PAYLOAD_MAX, RECORD_PAYLOAD_MAX};
use crate::record as native;

pub use crate::record::{RecordAead, RecordError};

impl Dialect {
    /// Returns the longest payload of a record.
    #[inline]
    #[must_use]
    pub const fn record_payload_max(self) -> usize {
        match self {
            Self::Native => RECORD_PAYLOAD_MAX,
            Self::Dmsg => DMSG_PAYLOAD_MAX,
        }
    }

    /// Returns the length of the record that starts with `prefix`, its length prefix included, once the
    /// prefix is there.
    ///
    /// # Errors
    ///
    /// [`RecordError::PeerTooShort`] and [`RecordError::PeerTooLong`], before a byte is buffered for it.
    #[inline]
    pub fn record_len(self, prefix: &[u8]) -> Result<Option<usize>, RecordError> {
        match self {
            Self::Native => native::record_len(prefix),
            Self::Dmsg => dmsg::record_len(prefix),
        }
    }
}

/// Seals the records of one direction.
#[derive(Debug)]
pub enum RecordSealer<A> {
    /// Native dialect.
    Native(native::RecordSealer<A>),
    /// dmsg dialect.
    Dmsg(dmsg::RecordSealer<A>),
}

impl<A: RecordAead> RecordSealer<A> {
    /// Returns a sealer that has sealed nothing; a key is given to one sealer only.
    pub const fn new(dialect: Dialect, aead: A) -> Self {
        match dialect {
            Dialect::Native => Self::Native(native::RecordSealer::new(aead)),
            Dialect::Dmsg => Self::Dmsg(dmsg::RecordSealer::new(aead)),
        }
    }

    /// Seals `plain`, of at most [`RECORD_PAYLOAD_MAX`] bytes, in as few records as it takes and appends them
    /// to `out`: one in the native dialect, one for each 4,070 bytes in that of dmsg.
    ///
    /// # Errors
    ///
    /// [`RecordError::LocalTooLong`] and [`RecordError::LocalNoncesExhausted`].
    #[inline]
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match self {
            Self::Native(sealer) => sealer.seal(plain, out),
            Self::Dmsg(sealer) => sealer.seal_all(plain, out),
        }
    }
}

/// Opens the records of one direction.
#[derive(Debug)]
pub enum RecordOpener<A> {
    /// Native dialect.
    Native(native::RecordOpener<A>),
    /// dmsg dialect.
    Dmsg(dmsg::RecordOpener<A>),
}

impl<A: RecordAead> RecordOpener<A> {
    /// Returns an opener that has seen no record.
    pub const fn new(dialect: Dialect, aead: A) -> Self {
        match dialect {
            Dialect::Native => Self::Native(native::RecordOpener::new(aead)),
            Dialect::Dmsg => Self::Dmsg(dmsg::RecordOpener::new(aead)),
        }
    }

    /// Opens `record`, which is the next one and without its length prefix, in place, and returns the plain
    /// bytes, which are a part of it.
    ///
    /// # Errors
    ///
    /// The `Peer*` variants of [`RecordError`]; reset the stream.
    #[inline]
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8], RecordError> {
        match self {
            Self::Native(opener) => opener.open(record),
            Self::Dmsg(opener) => opener.open(record),
        }
    }

    /// Returns how far into a record, its length prefix not counted, the plain bytes begin.
    #[inline]
    #[must_use]
    pub const fn plain_at(&self) -> usize {
        match self {
            Self::Native(_) => 0,
            Self::Dmsg(_) => dmsg::NONCE_LEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::limits::RECORD_PREFIX;
    use crate::record::SoftAead;

    #[test]
    fn a_record_opens_where_it_is_and_its_plain_bytes_are_found_in_it() {
        for dialect in Dialect::ALL {
            let mut sealer = RecordSealer::new(dialect, SoftAead::new(&[4; 32]));
            let mut opener = RecordOpener::new(dialect, SoftAead::new(&[4; 32]));
            for plain in [vec![7], vec![9; dialect.record_payload_max()]] {
                let mut wire = Vec::new();
                sealer.seal(&plain, &mut wire).unwrap();
                assert_eq!(dialect.record_len(&wire), Ok(Some(wire.len())));
                let record = &mut wire[RECORD_PREFIX..];
                assert_eq!(opener.open(record).unwrap(), plain);
                let at = opener.plain_at();
                assert_eq!(record[at..at + plain.len()], plain);
            }
        }
    }

    #[test]
    fn what_is_longer_than_a_record_is_cut_or_refused() {
        for (dialect, records) in [(Dialect::Native, 1), (Dialect::Dmsg, 17)] {
            let mut sealer = RecordSealer::new(dialect, SoftAead::new(&[4; 32]));
            let plain: Vec<u8> = (0..=255).cycle().take(RECORD_PAYLOAD_MAX).collect();
            let mut wire = Vec::new();
            sealer.seal(&plain, &mut wire).unwrap();
            let mut opener = RecordOpener::new(dialect, SoftAead::new(&[4; 32]));
            let (mut rest, mut opened, mut count) = (wire.as_mut_slice(), Vec::new(), 0);
            while let Some(len) = dialect.record_len(rest).unwrap() {
                let (record, behind) = rest.split_at_mut(len);
                opened.extend_from_slice(opener.open(&mut record[RECORD_PREFIX..]).unwrap());
                rest = behind;
                count += 1;
            }
            assert!(opened == plain, "{dialect:?}");
            assert_eq!(count, records);
        }
        let mut native = RecordSealer::new(Dialect::Native, SoftAead::new(&[4; 32]));
        let too_long = vec![0; RECORD_PAYLOAD_MAX + 1];
        let refused = native.seal(&too_long, &mut Vec::new());
        assert!(matches!(refused, Err(RecordError::LocalTooLong { .. })));
    }

    #[test]
    fn records_of_one_dialect_are_none_of_the_other() {
        for (ours, theirs) in [
            (Dialect::Native, Dialect::Dmsg),
            (Dialect::Dmsg, Dialect::Native),
        ] {
            let mut wire = Vec::new();
            let mut sealer = RecordSealer::new(ours, SoftAead::new(&[4; 32]));
            sealer
                .seal(b"forty bytes of which not one is a nonce.", &mut wire)
                .unwrap();
            let mut opener = RecordOpener::new(theirs, SoftAead::new(&[4; 32]));
            assert!(opener.open(&mut wire[RECORD_PREFIX..]).is_err());
        }
    }
}
