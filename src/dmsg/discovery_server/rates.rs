//! How often one source may write.
//!
//! Here: a bucket of tokens for each source. Not here: what a source is (`api` says whom it believes).
//!
//! Invariant: within any time `t`, a source is allowed at most `BURST * rate + rate * t` writes.
//! Bound: [`SOURCES_MAX`] sources, 48 bytes each. Beyond them all are forgotten: whoever has so many
//! addresses is held up by none of this, and everybody else must not be either.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Rates {
    per_s: u32,
    sources: HashMap<IpAddr, Bucket>,
}

/// Writes that a source has left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In thousandths of a write, as of `at`.
    left: u64,
    at: Instant,
}

impl Rates {
    /// Returns buckets that fill with `per_s` writes a second; 0 allows everything.
    pub(crate) fn new(per_s: u32) -> Self {
        Self {
            per_s,
            sources: HashMap::new(),
        }
    }

    /// Takes one write of a source; false when it has none left.
    pub(crate) fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.per_s == 0 {
            return true;
        }
        let (per_s, full) = (self.per_s, self.full());
        let source = neighbourhood(source);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            self.forget_idle(now);
        }
        let new = Bucket {
            left: full,
            at: now,
        };
        let bucket = self.sources.entry(source).or_insert(new);
        *bucket = bucket.filled(per_s, full, now);
        match bucket.left.checked_sub(WRITE) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }

    /// Forgets sources whose buckets are full; all of them when there would still be too many.
    pub(crate) fn forget_idle(&mut self, now: Instant) {
        let (per_s, full) = (self.per_s, self.full());
        self.sources
            .retain(|_, bucket| bucket.filled(per_s, full, now).left < full);
        if self.sources.len() >= SOURCES_MAX {
            self.sources.clear();
        }
    }

    fn full(&self) -> u64 {
        u64::from(self.per_s) * BURST * WRITE
    }
}

impl Bucket {
    fn filled(self, per_s: u32, full: u64, now: Instant) -> Self {
        let time = now.saturating_duration_since(self.at).min(FILL_TIME);
        // Milliseconds times writes a second are thousandths of a write.
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let added = ms.saturating_mul(u64::from(per_s));
        Self {
            left: full.min(self.left.saturating_add(added)),
            // What is less than a millisecond is not lost.
            at: match time == FILL_TIME {
                true => now,
                false => self.at + Duration::from_millis(ms),
            },
        }
    }
}

/// Returns what counts as one source: an IPv4 address, or the /64 network that one host of IPv6 has.
fn neighbourhood(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// One write, in what buckets hold.
const WRITE: u64 = 1_000;

/// Writes at once after a pause, in seconds of the rate.
const BURST: u64 = 10;

/// After so long a bucket is full in any case.
const FILL_TIME: Duration = Duration::from_secs(BURST);

/// Sources that are remembered.
const SOURCES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn source(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn burst_is_allowed_and_then_the_rate() {
        let mut rates = Rates::new(2);
        let start = Instant::now();
        let mut count = |at_ms, source| {
            let now = start + Duration::from_millis(at_ms);
            (0..1_000).take_while(|_| rates.take(source, now)).count()
        };
        assert_eq!(count(0, source(1)), 20);
        assert_eq!(count(0, source(2)), 20, "of each source");
        assert_eq!(count(499, source(1)), 0);
        assert_eq!(count(500, source(1)), 1);
        assert_eq!(count(2_000, source(1)), 3);
        assert_eq!(count(3_600_000, source(1)), 20);
    }

    #[test]
    fn no_rate_allows_everything() {
        let mut rates = Rates::new(0);
        let now = Instant::now();
        assert!((0..100_000).all(|_| rates.take(source(1), now)));
        assert!(rates.sources.is_empty());
    }

    #[test]
    fn one_host_of_ipv6_is_one_source() {
        let ip = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }

    #[test]
    fn sources_are_bounded_and_idle_ones_go_first() {
        let mut rates = Rates::new(1);
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        for number in 0..100 {
            rates.take(source(number), start);
        }
        rates.take(source(1_000), later);
        rates.forget_idle(later);
        assert_eq!(rates.sources.len(), 1);
        let many = u32::try_from(2 * SOURCES_MAX).unwrap();
        for number in 0..many {
            assert!(rates.take(source(number), later), "nobody is kept out");
            assert!(rates.sources.len() <= SOURCES_MAX);
        }
    }

    proptest! {
        /// However the requests come, no source gets more than its burst and its rate.
        #[test]
        fn source_never_gets_more_than_its_rate(
            per_s in 1_u32..50,
            gaps_us in prop::collection::vec(0_u64..400_000, 1..200),
        ) {
            let mut rates = Rates::new(per_s);
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0_u128);
            for gap_us in gaps_us {
                now += Duration::from_micros(gap_us);
                taken += u128::from(rates.take(source(1), now));
                let allowed = u128::from(per_s) * (10_000_000 + (now - start).as_micros());
                prop_assert!(taken * 1_000_000 <= allowed, "{taken} at {per_s}/s");
            }
        }
    }
}
