//! Collecting messages and objects that say their length, from bytes as they come.
//!
//! Here: the loop. Not here: which lengths are allowed (the functions that read them know), what is
//! collected.
//!
//! Bound: what the length function allows; it is asked before a byte is kept for it.

use ringway_proto::reason::Reason;

/// What became of some input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes of it that belong to what is being collected.
    pub(super) bytes: usize,
    /// Whether that is complete.
    pub(super) is_complete: bool,
}

/// Moves bytes from `input` to `collected` until that is complete. `length` returns the length of what begins
/// with the bytes it is given, prefix included, once it can be read.
///
/// # Errors
/// What `length` says of a length that is not allowed.
pub(super) fn take(
    collected: &mut Vec<u8>,
    input: &[u8],
    length: impl Fn(&[u8]) -> Result<Option<usize>, Reason>,
) -> Result<Taken, Reason> {
    let mut bytes = 0;
    loop {
        let total = length(collected)?;
        let wanted = total.unwrap_or(PREFIX_LEN) - collected.len();
        if wanted == 0 {
            return Ok(Taken {
                bytes,
                is_complete: true,
            });
        }
        let rest = input.get(bytes..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Taken {
                bytes,
                is_complete: false,
            });
        }
        let count = wanted.min(rest.len());
        collected.extend_from_slice(&rest[..count]);
        bytes += count;
    }
}

/// Bytes of the length prefix of handshake messages and sealed objects.
const PREFIX_LEN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// A length prefix that counts itself, of at most 9.
    fn length(prefix: &[u8]) -> Result<Option<usize>, Reason> {
        let Some(length) = prefix.first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > 9 {
            return Err(Reason::ProtocolError);
        }
        Ok(Some(length))
    }

    #[test]
    fn any_split_collects_the_same_and_leaves_what_is_behind() {
        let input = [0, 5, 7, 8, 9, 1, 2];
        for cut in 0..=input.len() {
            let mut collected = Vec::new();
            let first = take(&mut collected, &input[..cut], length).unwrap();
            assert_eq!(first.is_complete, cut >= 5);
            assert_eq!(first.bytes, cut.min(5));
            if !first.is_complete {
                let second = take(&mut collected, &input[cut..], length).unwrap();
                assert_eq!((second.is_complete, second.bytes), (true, 5 - cut));
            }
            assert_eq!(collected, input[..5]);
        }
    }

    #[test]
    fn length_that_is_not_allowed_is_refused_before_its_bytes_are_kept() {
        let mut collected = Vec::new();
        let error = take(&mut collected, &[0, 10, 1, 2, 3], length);
        assert_eq!((error, collected.len()), (Err(Reason::ProtocolError), 2));
    }
}
