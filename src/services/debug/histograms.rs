//! Histograms in the forms that tools of `HdrHistogram` read.
//!
//! Here: interval logs (`.hlog`) and percentile tables (`.hgrm`) of all shards together. Not here: JSON,
//! which the admin endpoint has.
//!
//! Both count from the start of the relay. Units: microseconds.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use ringway_shards::core::Recorder;

use super::Parameters;
use crate::control::{ShardView, histograms};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// The percentiles of one.
    Hgrm(&'static Source),
    /// All, in one log, with tags.
    Hlog,
}

/// A histogram of the recorder.
#[derive(Debug)]
pub(super) struct Source {
    name: &'static str,
    read: fn(&Recorder) -> Option<&Histogram<u32>>,
}

static SOURCES: [Source; 2] = [
    Source {
        name: "handshake",
        read: Recorder::handshake_us,
    },
    Source {
        name: "open",
        read: Recorder::open_us,
    },
];

impl Wanted {
    /// Reads a query.
    pub(super) fn of(parameters: &Parameters) -> Result<Self, String> {
        let name = parameters.get("name").map(String::as_str);
        match parameters.get("format").map_or("hlog", String::as_str) {
            "hlog" => match name {
                None => Ok(Self::Hlog),
                Some(_) => Err("name: a log has all histograms, leave the name out".to_owned()),
            },
            "hgrm" => SOURCES
                .iter()
                .find(|source| Some(source.name) == name)
                .map(Self::Hgrm)
                .ok_or_else(|| "name: handshake or open is needed with format=hgrm".to_owned()),
            _ => Err("format: hlog or hgrm is possible".to_owned()),
        }
    }
}

/// Returns the text; none if no shard has answered.
pub(super) fn text(
    wanted: &Wanted,
    shards: &[ShardView],
    started: SystemTime,
    length: Duration,
) -> Option<String> {
    match wanted {
        Wanted::Hgrm(source) => {
            let mut out = String::new();
            table(&mut out, &sum(source, shards)?).ok()?;
            Some(out)
        }
        Wanted::Hlog => log(shards, started, length),
    }
}

fn sum(source: &Source, shards: &[ShardView]) -> Option<Histogram<u64>> {
    histograms::sum(
        shards
            .iter()
            .filter_map(|view| (source.read)(&view.recorder)),
    )
}

fn log(shards: &[ShardView], started: SystemTime, length: Duration) -> Option<String> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut out, &mut serializer)
        .ok()?;
    for source in &SOURCES {
        let sum = sum(source, shards)?;
        let tag = Tag::new(source.name);
        writer
            .write_histogram(&sum, Duration::ZERO, length, tag)
            .ok()?;
    }
    String::from_utf8(out).ok()
}

/// Writes the table as `outputPercentileDistribution` of the Java library does.
pub(super) fn table(out: &mut String, histogram: &Histogram<u64>) -> fmt::Result {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut seen = 0;
    for step in histogram.iter_quantiles(TICKS) {
        seen += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to(), step.quantile_iterated_to());
        let left = 1.0 - quantile;
        match left > 0.0 {
            true => {
                let inverse = 1.0 / left;
                writeln!(
                    out,
                    "{value:>12}.000 {quantile:.12} {seen:>10} {inverse:>14.2}"
                )?;
            }
            false => writeln!(out, "{value:>12}.000 {quantile:.12} {seen:>10}")?,
        }
    }
    let (mean, deviation) = (histogram.mean(), histogram.stdev());
    let (max, count) = (histogram.max(), histogram.len());
    writeln!(
        out,
        "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]"
    )?;
    writeln!(
        out,
        "#[Max     = {max:>8}.000, Total count    = {count:>12}]"
    )
}

/// Rows for each halving of what is left, as the Java library has by default.
const TICKS: u32 = 5;
