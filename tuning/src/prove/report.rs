//! The result of a self test, as it stands in a file.
//!
//! Here: the format, reading it again, medians and spread. Not here: comparing two (`compare`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ProveError;

/// Everything one run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Name and version of this format.
    pub schema: String,
    /// Version of the tool.
    pub version: String,
    /// When it was made, milliseconds since 1970 UTC.
    pub unix_ms: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// What the host was set to; null is what could not be read.
    pub settings: BTreeMap<String, Option<String>>,
    /// The numbers.
    pub metrics: Vec<Metric>,
    /// The storm of connections.
    pub storm: Storm,
    /// The connections to one destination.
    pub ports: PortsTaken,
    /// What the kernel counted meanwhile, for all programs; null is what could not be compared.
    pub counters: BTreeMap<String, Option<u64>>,
    /// Sockets of the self test that are still there; null when the list could not be read.
    pub left_behind: Option<u64>,
    /// What the numbers mean.
    pub remarks: Vec<Remark>,
}

/// One number, measured once a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Stable name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// In words.
    pub what: String,
    /// One value a round.
    pub slices: Vec<f64>,
}

/// Which way a number is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// How the storms went, all rounds together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storm {
    /// Connections the listener was to hold.
    pub asked: u64,
    /// Connections of the largest storm.
    pub tried: u64,
    /// Connections that waited in the queue at once, at most.
    pub held: u64,
    /// Connects that got no answer.
    pub unanswered: u64,
    /// What kept the storm smaller than asked; empty when nothing did.
    pub limited_by: String,
    /// No storm was complete before its time was up.
    pub is_cut_by_time: bool,
}

/// Ports that were held to one destination, all rounds together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsTaken {
    /// Held at once, at most.
    pub taken: u64,
    /// Ports of the host's range; null when it could not be read.
    pub usable: Option<u64>,
    /// There was no further port.
    pub is_exhausted: bool,
}

/// What some of the numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Peers of a relay on this host would notice it.
    pub is_bad: bool,
    /// The verdict in words.
    pub says: String,
    /// What to do; empty when nothing is.
    pub fix: String,
}

impl Report {
    /// Reads an earlier result.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no result of this format.
    pub fn load(path: &Path) -> Result<Self, ProveError> {
        let wrong = |what: String| ProveError::LocalReport(format!("{}: {what}", path.display()));
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(REPORT_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let what = "no result of `ringway-tune prove --output`";
        let head: Head = serde_json::from_str(text).map_err(|error| format!("{what}: {error}"))?;
        if head.schema != SCHEMA {
            let found = head.schema.escape_debug();
            return Err(format!(
                "its schema is \"{found}\", this version reads \"{SCHEMA}\""
            ));
        }
        let report: Self =
            serde_json::from_str(text).map_err(|error| format!("{what}: {error}"))?;
        match report.metrics.iter().find(|metric| !metric.is_sound()) {
            Some(metric) => Err(format!(
                "{what}: the values of \"{}\" are none",
                metric.name.escape_debug()
            )),
            None => Ok(report),
        }
    }

    /// Returns whether peers of a relay on this host would notice something.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.remarks.iter().any(|remark| remark.is_bad)
    }
}

impl Metric {
    /// Returns the median of the rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.slices.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
        if sorted.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        }
    }

    /// Returns the lowest and the highest round.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        let low = self.slices.iter().copied().fold(f64::INFINITY, f64::min);
        (low, self.slices.iter().copied().fold(0.0, f64::max))
    }

    fn is_sound(&self) -> bool {
        let is_measure = |value: &f64| value.is_finite() && *value >= 0.0;
        !self.slices.is_empty() && self.slices.iter().all(is_measure)
    }
}

/// Values by name, one more a round.
#[derive(Debug, Default)]
pub(super) struct Series(BTreeMap<&'static str, Vec<f64>>);

impl Series {
    /// Adds what a round measured; nothing where it could not.
    pub(super) fn push(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.entry(name).or_default().push(value);
        }
    }

    /// Returns the numbers that were measured, in the order of the table.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let metric = |(name, unit, better, what): &(&str, &str, Better, &str)| {
            Some(Metric {
                name: (*name).to_owned(),
                unit: (*unit).to_owned(),
                better: *better,
                what: (*what).to_owned(),
                slices: self.0.get(name)?.clone(),
            })
        };
        METRICS.iter().filter_map(metric).collect()
    }
}

/// Name and version of the format.
pub(super) const SCHEMA: &str = "ringway-tune-prove/1";

/// Most of a file that is read: a result has some 8 KiB.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// The numbers, by name.
const METRICS: &[(&str, &str, Better, &str)] = &[
    (
        "connects",
        "1/s",
        Better::Higher,
        "connections opened, accepted and reset",
    ),
    (
        "connect_p50",
        "us",
        Better::Lower,
        "one connect, half are faster",
    ),
    (
        "connect_p99",
        "us",
        Better::Lower,
        "one connect, 99 % are faster",
    ),
    (
        "ping_p50",
        "us",
        Better::Lower,
        "round trip of 64 bytes, half are faster",
    ),
    (
        "ping_p99",
        "us",
        Better::Lower,
        "round trip of 64 bytes, 99 % are faster",
    ),
    (
        "ping_p999",
        "us",
        Better::Lower,
        "round trip of 64 bytes, 99.9 % are faster",
    ),
    (
        "bulk",
        "MB/s",
        Better::Higher,
        "bytes through one connection",
    ),
    (
        "bulk_cpu",
        "s/GB",
        Better::Lower,
        "processor time of both ends of it",
    ),
    (
        "port",
        "us",
        Better::Lower,
        "one more connection to the same destination",
    ),
    (
        "wake_p50",
        "us",
        Better::Lower,
        "woken too late from a sleep of 1 ms, half are less late",
    ),
    (
        "wake_p99",
        "us",
        Better::Lower,
        "woken too late from a sleep of 1 ms, 99 % are less late",
    ),
];
