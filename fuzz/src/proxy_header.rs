//! Headers of the PROXY protocol: however bytes come in pieces, they begin with the same header, with none,
//! or with a wrong one.
//!
//! Here: also that nothing is waited for beyond the longest header, and that what a header says is in its
//! bytes alone. Not here: whose headers are believed (`shards/src/core/proxied.rs`).

use ringway_proto::limits::PROXY_HEADER_MAX;
use ringway_proto::proxy::{Beginning, Origin, read};
use ringway_proto::reason::Reason;

/// Takes what a connection brings, byte by byte.
///
/// # Panics
///
/// When more bytes change what was known, or nothing is known for too long.
pub fn run(bytes: &[u8]) {
    let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
    let whole = read(bytes);
    let mut is_known = false;
    for end in 0..=bytes.len() {
        match read(&bytes[..end]) {
            Ok(Beginning::Part | Beginning::Unclear) => {
                assert!(!is_known, "what was known at {end} bytes is not any more");
                assert!(end < PROXY_HEADER_MAX, "{end} bytes and nothing is known");
            }
            Ok(beginning) => {
                is_known = true;
                assert_eq!(whole, Ok(beginning), "{end}");
            }
            Err(error) => {
                is_known = true;
                assert_eq!(error.reason(), Reason::BadHandshake);
                assert!(whole.is_err(), "{whole:?} after {error}");
            }
        }
    }
    if let Ok(Beginning::Header { len, origin }) = whole {
        let (header, _) = bytes.split_at(len);
        let again = [header, &[0xff; 64]].concat();
        assert_eq!(read(&again), whole, "of other bytes behind it");
        if let Origin::Address(address) = origin {
            assert_eq!(address.ip(), address.ip().to_canonical());
        }
    }
}

/// Bytes of an input that are looked at: twice the longest header, each length once.
const BYTES_MAX: usize = 2 * PROXY_HEADER_MAX;
