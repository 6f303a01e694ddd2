//! The clock as a value.
//!
//! Here: a monotonic instant that is handed in. Not here: reading any clock.
//!
//! Units: nanoseconds since an arbitrary epoch, u64 (584 years); arithmetic saturates.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A monotonic instant: nanoseconds since an epoch that only the caller knows.
///
/// Two values compare only when they come from the same clock.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(u64);

impl Now {
    /// The epoch itself: no instant is earlier.
    pub const ZERO: Self = Self(0);
    /// The end of time: a deadline that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the instant `nanos` nanoseconds after the epoch.
    #[inline]
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the epoch.
    #[inline]
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time since `earlier`, zero when `earlier` is later.
    #[inline]
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Now({:?})", Duration::from_nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_saturates_at_the_end_of_time() {
        assert_eq!(Now::MAX + Duration::from_nanos(1), Now::MAX);
        assert_eq!(Now::ZERO + Duration::MAX, Now::MAX);
        assert_eq!(
            Now::from_nanos(2) + Duration::from_nanos(3),
            Now::from_nanos(5)
        );
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let (early, late) = (Now::from_nanos(10), Now::from_nanos(25));
        assert_eq!(late.saturating_since(early), Duration::from_nanos(15));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
    }
}
