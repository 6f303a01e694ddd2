//! Pauses between attempts to make a session again.
//!
//! Here: the exponential bound and the jitter. Not here: waiting, randomness (handed in).
//!
//! The pause is uniform between zero and a bound that doubles with each failure ("full jitter"): the
//! peers of a relay that died come back spread over the bound instead of all at once.
//!
//! Invariant: `bound_min <= bound <= bound_max`.
//! Source: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// The pauses of one relay.
#[derive(Debug)]
pub(crate) struct Backoff {
    bound: Duration,
    bound_min: Duration,
    bound_max: Duration,
}

impl Backoff {
    pub(crate) fn new(bound_min: Duration, bound_max: Duration) -> Self {
        let bound_min = bound_min.min(bound_max);
        Self {
            bound: bound_min,
            bound_min,
            bound_max,
        }
    }

    /// Returns the next pause, a share `random / 2^32` of the bound, and doubles the bound.
    pub(crate) fn pause(&mut self, random: u32) -> Duration {
        let pause_ns = (self.bound.as_nanos() * u128::from(random)) >> u32::BITS;
        let pause = Duration::from_nanos(u64::try_from(pause_ns).unwrap_or(u64::MAX));
        self.bound = self.bound.saturating_mul(2).min(self.bound_max);
        pause
    }

    /// Starts again from the smallest bound: a session has stood.
    pub(crate) fn reset(&mut self) {
        self.bound = self.bound_min;
    }

    /// Goes to the largest bound: coming back soon would do harm.
    pub(crate) fn saturate(&mut self) {
        self.bound = self.bound_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bound_doubles_up_to_its_limit() {
        let mut backoff = Backoff::new(MS * 100, MS * 1_000);
        let pauses: Vec<u128> = (0..6)
            .map(|_| backoff.pause(u32::MAX).as_millis())
            .collect();
        assert_eq!(pauses, [99, 199, 399, 799, 999, 999]);
        backoff.reset();
        assert_eq!(backoff.pause(u32::MAX / 2).as_millis(), 49);
    }

    #[test]
    fn pause_may_be_zero_and_never_reaches_the_bound() {
        let mut backoff = Backoff::new(MS, MS);
        assert_eq!(backoff.pause(0), Duration::ZERO);
        assert!(backoff.pause(u32::MAX) < MS);
        backoff.saturate();
        assert!(backoff.pause(u32::MAX) < MS);
    }
}
