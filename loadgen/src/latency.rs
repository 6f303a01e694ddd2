//! What a run measures about time: three histograms that add up over threads.
//!
//! Here: recording, merging, the percentiles that reports show. Not here: when a message counts.
//!
//! | histogram | from | to |
//! |---|---|---|
//! | response | when the message was due | when it (or its echo) had arrived |
//! | service | when it was handed to the socket | when it (or its echo) had arrived |
//! | lag | when it was due | when the generator looked at it |
//!
//! Response is what a user would have seen; service alone hides every wait before the send. Lag is the
//! generator's own error: a run whose lag is near its latencies measured itself.
//!
//! Histograms of threads are added; percentiles are never averaged.
//! Units: nanoseconds, 1 ns to 60 s, 3 significant digits; longer times count as 60 s and are shown.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use serde::{Deserialize, Serialize};

use crate::hlog;

/// Longest time a histogram tells apart: what is slower than a minute is stuck.
const LONGEST_NS: u64 = 60_000_000_000;

/// A histogram of times.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Packed", try_from = "Packed")]
pub struct Times {
    histogram: Histogram<u64>,
    saturated: u64,
}

impl Times {
    /// Returns a histogram without values.
    ///
    /// # Panics
    /// Never: the bounds are constants that the histogram takes.
    #[must_use]
    pub fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("constant bounds are valid");
        Self {
            histogram,
            saturated: 0,
        }
    }

    /// Returns the values of a histogram that was read back; what is longer than a minute counts as one.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let mut times = Self::new();
        times.add(histogram);
        times
    }

    /// Adds the values of a histogram that was read back; what is longer than a minute counts as one.
    pub fn add(&mut self, histogram: &Histogram<u64>) {
        for value in histogram.iter_recorded() {
            let nanos = value.value_iterated_to();
            self.histogram
                .saturating_record_n(nanos.clamp(1, LONGEST_NS), value.count_at_value());
        }
    }

    /// Returns the values of a histogram of microseconds.
    #[must_use]
    pub fn of_micros(histogram: &Histogram<u64>) -> Self {
        let mut times = Self::new();
        for value in histogram.iter_recorded() {
            let nanos = value.value_iterated_to().saturating_mul(1_000);
            times
                .histogram
                .saturating_record_n(nanos.clamp(1, LONGEST_NS), value.count_at_value());
        }
        times
    }

    /// Counts one time.
    #[inline]
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.saturated += u64::from(nanos > LONGEST_NS);
        self.histogram.saturating_record(nanos.max(1));
    }

    /// Adds the values of another histogram.
    ///
    /// # Panics
    /// Never: all histograms here have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("equal bounds add up");
        self.saturated += other.saturated;
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.histogram.reset();
        self.saturated = 0;
    }

    /// Returns how many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns the time that `quantile` (0 to 1) of the values do not exceed.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(quantile))
    }

    /// Returns the numbers a report shows.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        Summary {
            count: self.count(),
            saturated: self.saturated,
            min_ns: if self.count() == 0 {
                0
            } else {
                self.histogram.min()
            },
            mean_ns: self.histogram.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: self.histogram.max(),
        }
    }

    /// Returns the underlying histogram, for writers of other formats.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

impl Default for Times {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// A histogram in ten numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Values.
    pub count: u64,
    /// Values longer than the histogram tells apart.
    pub saturated: u64,
    /// Smallest.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Half of the values are at most this.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

/// The three histograms of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From due to done.
    pub response: Times,
    /// From sent to done.
    pub service: Times,
    /// From due to noticed.
    pub lag: Times,
}

impl Latencies {
    /// Returns the histograms that have values, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        let all = [
            ("response", &self.response),
            ("service", &self.service),
            ("lag", &self.lag),
        ];
        all.into_iter().filter(|(_, times)| times.count() > 0)
    }

    /// Adds what another thread measured.
    pub fn merge(&mut self, other: &Self) {
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.response.reset();
        self.service.reset();
        self.lag.reset();
    }

    /// Returns whether the generator kept its own schedule: the 99th percentile of its lag is at most
    /// `percent` of the median response, or under [`LAG_ALWAYS_FINE`].
    #[must_use]
    pub fn is_on_time(&self, percent: u32) -> bool {
        if self.lag.count() == 0 {
            return true;
        }
        let lag = self.lag.quantile(0.99);
        let allowed = self.response.quantile(0.5) * percent / 100;
        lag <= allowed.max(LAG_ALWAYS_FINE)
    }
}

/// A histogram on its way to another process: format V2 of `HdrHistogram`, in base64.
#[derive(Serialize, Deserialize)]
struct Packed {
    histogram: String,
    saturated: u64,
}

impl From<Times> for Packed {
    fn from(times: Times) -> Self {
        let mut bytes = Vec::new();
        // Writing to memory does not fail, and counts of 64 bits have room for any run.
        let written = V2Serializer::new().serialize(&times.histogram, &mut bytes);
        debug_assert!(written.is_ok(), "{written:?}");
        Self {
            histogram: STANDARD.encode(bytes),
            saturated: times.saturated,
        }
    }
}

impl TryFrom<Packed> for Times {
    type Error = String;

    fn try_from(packed: Packed) -> Result<Self, String> {
        let bytes = STANDARD.decode(&packed.histogram);
        let bytes = bytes.map_err(|error| error.to_string())?;
        let histogram = hlog::unpack(&bytes)?;
        if (histogram.high(), histogram.sigfig()) != (LONGEST_NS, 3) {
            return Err("its range is not that of a run".into());
        }
        Ok(Self {
            histogram,
            saturated: packed.saturated,
        })
    }
}

/// Lag that is the cost of looking at the clock once a turn rather than an overload.
pub const LAG_ALWAYS_FINE: Duration = Duration::from_micros(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(value: u64) -> Duration {
        Duration::from_micros(value)
    }

    #[test]
    fn merging_equals_recording_in_one_place() {
        let (mut a, mut b, mut all) = (Times::new(), Times::new(), Times::new());
        for value in 1..=1_000 {
            let target = if value % 3 == 0 { &mut a } else { &mut b };
            target.record(micros(value));
            all.record(micros(value));
        }
        a.merge(&b);
        assert_eq!(a.summary(), all.summary());
        assert_eq!(a.count(), 1_000);
    }

    #[test]
    fn a_merge_is_not_an_average_of_percentiles() {
        let (mut fast, mut slow) = (Times::new(), Times::new());
        for _ in 0..990 {
            fast.record(micros(10));
        }
        for _ in 0..10 {
            slow.record(micros(1_000));
        }
        fast.merge(&slow);
        let p50 = fast.quantile(0.5).as_micros();
        assert!((9..=10).contains(&p50), "p50 {p50}");
        assert!(fast.quantile(0.995) >= micros(999));
    }

    #[test]
    fn times_beyond_the_range_are_counted_and_shown() {
        let mut times = Times::new();
        times.record(Duration::from_secs(61));
        times.record(Duration::ZERO);
        let summary = times.summary();
        assert_eq!((summary.count, summary.saturated), (2, 1));
        assert_eq!(summary.min_ns, 1);
    }

    #[test]
    fn a_histogram_reaches_another_process_unchanged() {
        let mut times = Times::new();
        for value in [0, 1, 999, 1_000_000, 70_000_000] {
            times.record(micros(value));
        }
        for times in [times, Times::new()] {
            let text = serde_json::to_string(&times).unwrap();
            let again: Times = serde_json::from_str(&text).unwrap();
            assert!(again == times);
            assert_eq!(again.summary(), times.summary());
        }
    }

    #[test]
    fn a_histogram_of_another_range_is_refused() {
        let other: Histogram<u64> = Histogram::new_with_bounds(1, 1_000_000, 2).unwrap();
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&other, &mut bytes).unwrap();
        for text in [STANDARD.encode(bytes), "??".to_owned(), String::new()] {
            let packed = Packed {
                histogram: text,
                saturated: 0,
            };
            assert!(Times::try_from(packed).is_err());
        }
    }

    #[test]
    fn lag_near_the_latency_makes_a_run_untrustworthy() {
        let mut latencies = Latencies::default();
        assert!(latencies.is_on_time(25));
        for _ in 0..100 {
            latencies.response.record(micros(1_000));
            latencies.lag.record(micros(100));
        }
        assert!(latencies.is_on_time(25));
        for _ in 0..100 {
            latencies.lag.record(micros(400));
        }
        assert!(!latencies.is_on_time(25));
    }

    #[test]
    fn a_lag_of_microseconds_is_always_fine() {
        let mut latencies = Latencies::default();
        latencies.response.record(micros(20));
        latencies.lag.record(micros(15));
        assert!(latencies.is_on_time(25));
    }
}
