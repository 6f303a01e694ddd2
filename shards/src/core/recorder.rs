//! Latency histograms of one shard.
//!
//! Here: `HdrHistogram`s that only the shard's thread writes. Not here: how they are exported.
//!
//! Units: microseconds, 1 us to 60 s, three significant digits; longer values count as 60 s. Memory:
//! about 100 KiB each.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// What a shard times: from accept to session, from open request to answer.
#[derive(Clone)]
pub struct Recorder {
    handshake_us: Option<Histogram<u32>>,
    open_us: Option<Histogram<u32>>,
}

const LOWEST_US: u64 = 1;
const HIGHEST_US: u64 = 60_000_000;
const DIGITS: u8 = 3;

impl Default for Recorder {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(LOWEST_US, HIGHEST_US, DIGITS).ok();
        Self {
            handshake_us: histogram(),
            open_us: histogram(),
        }
    }
}

impl fmt::Debug for Recorder {
    /// How much was recorded: the thousands of counts of a histogram tell nobody anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |histogram: &Option<Histogram<u32>>| histogram.as_ref().map(Histogram::len);
        f.debug_struct("Recorder")
            .field("handshakes", &count(&self.handshake_us))
            .field("opens", &count(&self.open_us))
            .finish()
    }
}

impl Recorder {
    /// Returns the histogram of accept to session, microseconds.
    #[must_use]
    pub const fn handshake_us(&self) -> Option<&Histogram<u32>> {
        self.handshake_us.as_ref()
    }

    /// Returns the histogram of open request to answer, microseconds.
    #[must_use]
    pub const fn open_us(&self) -> Option<&Histogram<u32>> {
        self.open_us.as_ref()
    }

    pub(super) fn handshake(&mut self, elapsed: Duration) {
        record(&mut self.handshake_us, elapsed);
    }

    pub(super) fn open(&mut self, elapsed: Duration) {
        record(&mut self.open_us, elapsed);
    }
}

fn record(histogram: &mut Option<Histogram<u32>>, elapsed: Duration) {
    if let Some(histogram) = histogram {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(HIGHEST_US);
        histogram.saturating_record(micros);
    }
}
