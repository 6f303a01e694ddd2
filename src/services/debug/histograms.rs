//! Histograms in the forms that tools of `HdrHistogram` read.
//!
//! Here: interval logs (`.hlog`) and percentile tables (`.hgrm`) of all shards together and of route setup.
//! Not here: JSON, which the admin endpoint has.
//!
//! Both count from the start of the relay. Units: microseconds.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::Parameters;
use crate::control::{ShardView, histograms};
use crate::services::route_setup::numbers::{Numbers, Phase};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The percentiles of one.
    Hgrm(Source),
    /// All, in one log, with tags.
    Hlog,
}

/// A histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// From accept to an established session.
    Handshake,
    /// From an open request to its answer.
    Open,
    /// A part of route setups.
    Setup(Phase),
}

/// Where histograms come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) shards: &'a [ShardView],
    pub(super) setups: &'a Numbers,
}

impl Source {
    fn all() -> impl Iterator<Item = Self> {
        let phases = Phase::ALL.into_iter().map(Self::Setup);
        [Self::Handshake, Self::Open].into_iter().chain(phases)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Open => "open",
            Self::Setup(phase) => phase.name(),
        }
    }

    /// Returns the sum over the relay; none if no shard has answered.
    fn sum(self, sources: Sources<'_>) -> Option<Histogram<u64>> {
        let recorders = sources.shards.iter().map(|view| &view.recorder);
        match self {
            Self::Handshake => histograms::sum(recorders.filter_map(|one| one.handshake_us())),
            Self::Open => histograms::sum(recorders.filter_map(|one| one.open_us())),
            // A phase that was never reached has an empty one.
            Self::Setup(phase) => sources
                .setups
                .phase_us(phase)
                .or_else(|| Histogram::new(3).ok()),
        }
    }
}

impl Wanted {
    /// Reads a query.
    pub(super) fn of(parameters: &Parameters) -> Result<Self, String> {
        let name = parameters.get("name").map(String::as_str);
        match parameters.get("format").map_or("hlog", String::as_str) {
            "hlog" => match name {
                None => Ok(Self::Hlog),
                Some(_) => Err("name: a log has all histograms, leave the name out".to_owned()),
            },
            "hgrm" => Source::all()
                .find(|source| Some(source.name()) == name)
                .map(Self::Hgrm)
                .ok_or_else(|| {
                    let names: Vec<_> = Source::all().map(Source::name).collect();
                    format!("name: format=hgrm needs one of {}", names.join(", "))
                }),
            _ => Err("format: hlog or hgrm is possible".to_owned()),
        }
    }
}

/// Returns the text; none if no shard has answered.
pub(super) fn text(
    wanted: Wanted,
    sources: Sources<'_>,
    started: SystemTime,
    length: Duration,
) -> Option<String> {
    match wanted {
        Wanted::Hgrm(source) => {
            let mut out = String::new();
            table(&mut out, &source.sum(sources)?).ok()?;
            Some(out)
        }
        Wanted::Hlog => log(sources, started, length),
    }
}

fn log(sources: Sources<'_>, started: SystemTime, length: Duration) -> Option<String> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut out, &mut serializer)
        .ok()?;
    for source in Source::all() {
        let sum = source.sum(sources)?;
        let tag = Tag::new(source.name());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_setups_are_tables_of_their_own() {
        let setups = Numbers::default();
        setups.record(Phase::Reserve, Duration::from_millis(5));
        let sources = Sources {
            shards: &[],
            setups: &setups,
        };
        for (phase, count) in [(Phase::Reserve, 1), (Phase::Rules, 0)] {
            let wanted = Wanted::Hgrm(Source::Setup(phase));
            let table = text(wanted, sources, SystemTime::UNIX_EPOCH, Duration::ZERO).unwrap();
            let says = format!("Total count    = {count:>12}]");
            assert!(table.contains(&says), "{table}");
        }
    }
}
