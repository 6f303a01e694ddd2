//! Replay window over explicit nonces.
//!
//! Here: which nonces were seen among the last 1,024. Not here: opening what they came with.
//!
//! Invariant: bit `n % 1024` is set exactly when `n` is marked, for `next - 1024 <= n < next`; nothing
//! at or above `next` was ever marked. Open only what `check` accepts, mark only what opened.
//! Source: RFC 6479 for the ring of words; boringtun `noise/session.rs` for check then mark.

use thiserror::Error;

use crate::limits::NONCE_WINDOW_BITS;
use crate::reason::Reason;

/// The last [`NONCE_WINDOW_BITS`] nonces of one direction, in constant memory.
#[derive(Clone, Debug)]
pub struct NonceWindow {
    /// One more than the highest marked nonce; 0 while nothing is marked.
    next: u64,
    words: [u64; WORDS],
}

impl NonceWindow {
    /// Returns a window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: 0,
            words: [0; WORDS],
        }
    }

    /// Returns a window that has seen nonce 0, for a dialect that counts from 1.
    #[must_use]
    pub const fn from_one() -> Self {
        let mut words = [0; WORDS];
        words[0] = 1;
        Self { next: 1, words }
    }

    /// Records `nonce` as seen and moves the window up to it when it is the highest so far.
    ///
    /// # Panics
    ///
    /// When [`check`](Self::check) would refuse it: only what opened is marked, and only what passed
    /// the check is opened.
    #[inline]
    pub fn mark(&mut self, nonce: u64) {
        assert!(
            self.check(nonce).is_ok(),
            "marked a nonce that check refuses"
        );
        if nonce >= self.next {
            self.clear(self.next, nonce);
            self.next = nonce + 1;
        }
        self.words[word_index(nonce)] |= bit(nonce);
    }

    /// Returns whether an object with `nonce` may be opened.
    ///
    /// # Errors
    ///
    /// Each variant of [`NonceError`]; the session ends with [`NonceError::reason`].
    #[inline]
    pub const fn check(&self, nonce: u64) -> Result<(), NonceError> {
        if nonce >= self.next {
            // Noise reserves the last nonce, and `next` must stay representable.
            if nonce == u64::MAX {
                return Err(NonceError::PeerReserved);
            }
            return Ok(());
        }
        if self.next - nonce > NONCE_WINDOW_BITS {
            return Err(NonceError::PeerTooOld);
        }
        if self.words[word_index(nonce)] & bit(nonce) != 0 {
            return Err(NonceError::PeerSeen);
        }
        Ok(())
    }

    /// Clears the bits of `first..=last`, at most one round of the ring.
    fn clear(&mut self, first: u64, last: u64) {
        if last - first >= NONCE_WINDOW_BITS {
            self.words = [0; WORDS];
            return;
        }
        // Bound: at most WORDS + 1 steps, one a word touched.
        let mut at = first;
        while at <= last {
            let offset = at % 64;
            let count = (64 - offset).min(last - at + 1);
            let ones = u64::MAX >> (64 - count);
            self.words[word_index(at)] &= !(ones << offset);
            at += count;
        }
    }
}

impl Default for NonceWindow {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a nonce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NonceError {
    /// The nonce is the one Noise reserves.
    #[error("nonce is reserved")]
    PeerReserved,
    /// The nonce was seen before.
    #[error("nonce was seen before")]
    PeerSeen,
    /// The nonce lies below the window.
    #[error("nonce is older than the window")]
    PeerTooOld,
}

impl NonceError {
    /// Returns the reason the session ends with.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::PeerReserved => Reason::ProtocolError,
            Self::PeerSeen | Self::PeerTooOld => Reason::Replay,
        }
    }
}

/// Returns the place of `nonce` in the ring of words.
#[inline]
const fn word_index(nonce: u64) -> usize {
    // The two low bytes decide: the ring divides 2^16.
    let [.., high, low] = nonce.to_be_bytes();
    (((high as usize) << 8) | low as usize) / 64 % WORDS
}

#[inline]
const fn bit(nonce: u64) -> u64 {
    1 << (nonce % 64)
}

const WORDS: usize = 16;
const _: () = assert!(WORDS as u64 * 64 == NONCE_WINDOW_BITS);
const _: () = assert!((1 << 16) % (WORDS * 64) == 0);
const _: () = assert!(size_of::<NonceWindow>() == 8 * (WORDS + 1));

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(nonces: impl IntoIterator<Item = u64>) -> NonceWindow {
        let mut window = NonceWindow::new();
        nonces.into_iter().for_each(|nonce| window.mark(nonce));
        window
    }

    #[test]
    fn a_nonce_is_accepted_once() {
        let window = marked([0, 1, 5]);
        assert_eq!(
            [0, 1, 5].map(|nonce| window.check(nonce)),
            [Err(NonceError::PeerSeen); 3]
        );
        assert_eq!([2, 3, 4, 6].map(|nonce| window.check(nonce)), [Ok(()); 4]);
    }

    #[test]
    fn the_window_reaches_back_exactly_its_bits() {
        let window = marked([NONCE_WINDOW_BITS]);
        assert_eq!(window.check(0), Err(NonceError::PeerTooOld));
        assert_eq!(window.check(1), Ok(()));
    }

    #[test]
    fn a_window_from_one_never_accepts_zero() {
        let mut window = NonceWindow::from_one();
        assert_eq!(window.check(0), Err(NonceError::PeerSeen));
        for nonce in [2, 1, NONCE_WINDOW_BITS - 1] {
            assert_eq!(window.check(nonce), Ok(()));
            window.mark(nonce);
            assert_eq!(window.check(0), Err(NonceError::PeerSeen));
        }
        window.mark(NONCE_WINDOW_BITS);
        assert_eq!(window.check(0), Err(NonceError::PeerTooOld));
        assert_eq!(window.check(3), Ok(()));
    }

    #[test]
    fn checking_changes_nothing() {
        let window = marked([7]);
        for nonce in [8, 8, 0, 0, u64::MAX - 1] {
            assert_eq!(window.check(nonce), Ok(()));
        }
    }

    #[test]
    fn a_jump_forgets_what_it_passes_and_nothing_else() {
        for jump in [1, 63, 64, 65, 1_023, 1_024, 1_025, 1 << 40] {
            let mut window = marked(0..1_024);
            let top = 1_023 + jump;
            window.mark(top);
            for nonce in top.saturating_sub(1_023)..top {
                let was_seen = nonce < 1_024;
                assert_eq!(
                    window.check(nonce).is_err(),
                    was_seen,
                    "jump {jump} nonce {nonce}"
                );
            }
        }
    }

    #[test]
    fn the_reserved_nonce_is_refused_and_its_neighbour_is_not() {
        let mut window = NonceWindow::new();
        assert_eq!(window.check(u64::MAX), Err(NonceError::PeerReserved));
        window.mark(u64::MAX - 1);
        assert_eq!(window.check(u64::MAX), Err(NonceError::PeerReserved));
        assert_eq!(window.check(u64::MAX - 1), Err(NonceError::PeerSeen));
        assert_eq!(window.check(u64::MAX - 2), Ok(()));
    }

    #[test]
    #[should_panic(expected = "marked a nonce that check refuses")]
    fn marking_what_check_refuses_is_a_bug() {
        let _window = marked([3, 3]);
    }

    #[test]
    fn replays_end_the_session_as_replays() {
        assert_eq!(NonceError::PeerSeen.reason(), Reason::Replay);
        assert_eq!(NonceError::PeerTooOld.reason(), Reason::Replay);
        assert_eq!(NonceError::PeerReserved.reason(), Reason::ProtocolError);
    }
}
