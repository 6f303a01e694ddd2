//! A recording in at most [`COLUMNS_MAX`] columns: what a page can show, however long the run was.
//!
//! Here: intervals added up to columns, their times sorted into buckets. Not here: files
//! (`recording::read`), pictures (`report::page`).
//!
//! Invariant: columns add up to the intervals that were read. Histograms of a column are added;
//! percentiles are never averaged.
//! Bound: memory does not grow with the run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;

use super::read::{self, Entry, Reader};
use super::{ROWS, RecordingError, Row};
use crate::latency::{Latencies, Times};
use crate::process::ProcessSample;
use crate::report::float;

/// Most columns: more than that are not told apart on a page.
pub const COLUMNS_MAX: u64 = 300;
/// Buckets of times that a factor of ten is divided into.
pub const BUCKETS_PER_DECADE: u32 = 12;
/// An interval that is shorter belongs to the one before: a rate over it says nothing.
const SECONDS_MIN: f64 = 0.25;

/// A recording in columns.
#[derive(Debug, Clone, Default)]
pub struct Condensed {
    /// `run.json`; null when the run did not come to its end.
    pub run: Value,
    /// When counting began, since the epoch.
    pub began: Option<Duration>,
    /// Intervals that were read.
    pub intervals: u64,
    /// Whether the last interval was not whole, and is left out.
    pub is_cut: bool,
    /// In the order of time.
    pub columns: Vec<Column>,
    /// All of it.
    pub latencies: Latencies,
}

/// One interval, or some that follow each other.
#[derive(Debug, Clone, Default)]
pub struct Column {
    /// Sums of what happened; of sockets the most there were; else what was seen last.
    pub row: Row,
    /// Things that went wrong in it.
    pub failures: u64,
    /// Processor seconds of the server a second.
    pub cores: Option<f64>,
    /// Response times.
    pub response: Spread,
    /// Service times.
    pub service: Spread,
}

/// Times of a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// Counts by bucket: see [`bucket_start`].
    pub buckets: BTreeMap<u32, u64>,
    /// Median, 99th percentile and maximum in nanoseconds, if there are values.
    pub marks: Option<[u64; 3]>,
}

impl Condensed {
    /// Reads a recording.
    ///
    /// # Errors
    /// [`RecordingError`] as [`super::Recorded::read`], and when there is not one interval.
    pub fn read(directory: &Path) -> Result<Self, RecordingError> {
        let run = read::run(directory)?;
        let mut reader = Reader::open(directory, !run.is_null())?;
        let each = read::rows_count(directory)?.div_ceil(COLUMNS_MAX).max(1);
        let mut builder = Builder::new(&run);
        while let Some(entry) = reader.next()? {
            builder.add(&entry, each);
        }
        builder.close();
        if builder.intervals == 0 {
            return Err(RecordingError::Content {
                path: directory.join(ROWS),
                why:
                    "it has not one whole interval: the run ended in its first second, or the file \
                      was cut; run again, or take the whole file"
                        .into(),
            });
        }
        Ok(Self {
            run,
            began: reader.began(),
            intervals: builder.intervals,
            is_cut: reader.is_cut(),
            columns: builder.columns,
            latencies: builder.sum,
        })
    }

    /// Returns the time that counted, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.columns
            .last()
            .map_or(0.0, |last| last.row.start_seconds + last.row.length_seconds)
    }

    /// Returns the sum of something over all columns.
    pub fn sum(&self, of: impl Fn(&Row) -> u64) -> u64 {
        self.columns
            .iter()
            .fold(0, |sum: u64, column| sum.saturating_add(of(&column.row)))
    }
}

/// Returns the shortest time of a bucket, in nanoseconds.
#[must_use]
pub fn bucket_start(bucket: u32) -> f64 {
    10_f64.powf(f64::from(bucket) / f64::from(BUCKETS_PER_DECADE))
}

/// Returns the bucket of a time in nanoseconds.
#[must_use]
pub fn bucket(nanos: u64) -> u32 {
    let place = float(nanos.max(1)).log10() * f64::from(BUCKETS_PER_DECADE);
    // The largest number of 64 bits is in bucket 231.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 231"
    )]
    let place = place as u32;
    place
}

/// Adds intervals up to columns.
#[derive(Default)]
struct Builder {
    intervals: u64,
    columns: Vec<Column>,
    sum: Latencies,
    /// Of the present column.
    present: Latencies,
    /// Things that had gone wrong before it.
    failures: u64,
    /// The server's process at the end of the column before, and when that was.
    process: Option<(ProcessSample, f64)>,
}

impl Builder {
    fn new(run: &Value) -> Self {
        let sample = |field: &str| serde_json::from_value(run["relay"][field].clone()).ok();
        Self {
            process: sample("start").map(|sample| (sample, 0.0)),
            ..Self::default()
        }
    }

    fn add(&mut self, entry: &Entry, each: u64) {
        let is_new = self.columns.is_empty()
            || self.intervals.is_multiple_of(each) && entry.row.length_seconds >= SECONDS_MIN;
        self.intervals += 1;
        if is_new {
            self.close();
            self.columns.push(Column {
                row: entry.row.clone(),
                ..Column::default()
            });
        } else if let Some(column) = self.columns.last_mut() {
            extend(&mut column.row, &entry.row);
        }
        if let (None, Some(sample)) = (self.process, entry.row.relay) {
            self.process = Some((sample, end(&entry.row)));
        }
        let [response, service, lag] = &entry.histograms;
        let present = &mut self.present;
        for (times, histogram) in [
            (&mut present.response, response),
            (&mut present.service, service),
            (&mut present.lag, lag),
        ] {
            times.add(histogram);
        }
    }

    /// Takes the figures of the present column.
    fn close(&mut self) {
        let Some(column) = self.columns.last_mut() else {
            return;
        };
        column.failures = column.row.failures.saturating_sub(self.failures);
        self.failures = column.row.failures;
        let now = end(&column.row);
        if let (Some((before, then)), Some(sample)) = (self.process, column.row.relay) {
            let cpu = sample.cpu_since(&before).as_secs_f64();
            column.cores = (now > then).then(|| cpu / (now - then));
            self.process = Some((sample, now));
        }
        column.response = Spread::of(&self.present.response);
        column.service = Spread::of(&self.present.service);
        self.sum.merge(&self.present);
        self.present.reset();
    }
}

impl Spread {
    fn of(times: &Times) -> Self {
        let mut buckets = BTreeMap::new();
        let histogram: &Histogram<u64> = times.histogram();
        for value in histogram.iter_recorded() {
            *buckets
                .entry(bucket(value.value_iterated_to()))
                .or_default() += value.count_at_value();
        }
        let marks = (times.count() > 0).then(|| {
            let at = |quantile| histogram.value_at_quantile(quantile);
            [at(0.5), at(0.99), histogram.max()]
        });
        Self { buckets, marks }
    }
}

fn end(row: &Row) -> f64 {
    row.start_seconds + row.length_seconds
}

/// Adds the interval that follows.
fn extend(row: &mut Row, next: &Row) {
    row.length_seconds = (end(next) - row.start_seconds).max(row.length_seconds);
    row.messages = row.messages.saturating_add(next.messages);
    row.bytes = row.bytes.saturating_add(next.bytes);
    row.rounds = row.rounds.saturating_add(next.rounds);
    row.sessions = next.sessions;
    row.streams = next.streams;
    row.failures = next.failures;
    row.relay = next.relay.or(row.relay);
    let Some(seen) = &next.sockets else {
        return;
    };
    let sockets = row.sockets.get_or_insert_default();
    for (all, more) in [
        (&mut sockets.relay, &seen.relay),
        (&mut sockets.generator, &seen.generator),
    ] {
        for (state, count) in more {
            let most = all.entry(state.clone()).or_default();
            *most = (*most).max(*count);
        }
    }
}
