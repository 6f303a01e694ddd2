//! Two results side by side: what differs, and whether by more than chance.
//!
//! Here: the comparison and its text. Not here: files (`diff::read`), intervals (`diff::bootstrap`).
//!
//! Histograms of intervals are added before percentiles are taken; percentiles are never averaged. A
//! difference counts as significant when its 95 % interval does not contain 0. Lag is shown, but is the
//! generator's own and never a worsening of the relay.
//! Units: nanoseconds; differences in percent of the first result.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

pub use self::read::{Input, ReadError};

mod bootstrap;
mod read;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// By tag of the histograms.
    pub tags: Vec<TagDiff>,
    /// Figures of the documents that both have.
    pub figures: Vec<FigureDiff>,
    /// What makes the two hard to compare.
    pub warnings: Vec<String>,
    /// Significant worsenings beyond the threshold.
    pub worsenings: Vec<String>,
}

/// The histograms of one tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TagDiff {
    /// `response`, `service` or `lag`.
    pub tag: String,
    /// Values of both.
    pub counts: [u64; 2],
    /// Percentiles, and the maximum.
    pub rows: Vec<Row>,
}

/// One percentile of both results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Both values.
    pub nanos: [u64; 2],
    /// Difference in percent.
    pub percent: f64,
    /// Its 95 % interval; none for the maximum and where there are too few intervals.
    pub interval: Option<[f64; 2]>,
    /// Whether chance alone hardly explains it.
    pub is_significant: bool,
}

/// One figure of both documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FigureDiff {
    /// Its place in the document.
    pub name: String,
    /// Both values.
    pub values: [f64; 2],
    /// The second divided by the first.
    pub ratio: Option<f64>,
}

impl Diff {
    /// Compares `b` with `a`; worsenings up to `threshold` percent are not told.
    ///
    /// # Errors
    /// A sentence when there is nothing that both have.
    pub fn of(a: &Input, b: &Input, threshold: f64) -> Result<Self, ReadError> {
        let mut diff = Self {
            tags: Vec::new(),
            figures: Vec::new(),
            warnings: Vec::new(),
            worsenings: Vec::new(),
        };
        for (tag, ours) in &a.tags {
            let Some(theirs) = b.tags.get(tag) else {
                diff.warnings.push(format!("only A has times '{tag}'"));
                continue;
            };
            let tag_diff = compare(tag, ours, theirs);
            for row in tag_diff
                .rows
                .iter()
                .filter(|row| tag != "lag" && row.is_significant && row.percent > threshold)
            {
                diff.worsenings
                    .push(format!("{tag}.{} by {:.1} %", row.name, row.percent));
            }
            diff.tags.push(tag_diff);
        }
        for tag in b.tags.keys().filter(|tag| !a.tags.contains_key(*tag)) {
            diff.warnings.push(format!("only B has times '{tag}'"));
        }
        if let (Some(a), Some(b)) = (&a.document, &b.document) {
            diff.figures = FIGURES.iter().filter_map(|at| figure(at, a, b)).collect();
            for at in ["/scenario", "/machine", "/plan"] {
                differences(at, a.pointer(at), b.pointer(at), &mut diff.warnings);
            }
        }
        if diff.tags.is_empty() && diff.figures.is_empty() {
            return Err(ReadError {
                file: b.path.clone(),
                why: format!("it has nothing in common with {}", a.path.display()),
            });
        }
        Ok(diff)
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for tag in &self.tags {
            let [a, b] = tag.counts;
            writeln!(f, "{:<10} {a} and {b} values", tag.tag)?;
            for row in &tag.rows {
                let micros = row.nanos.map(|nanos| crate::report::float(nanos) / 1e3);
                write!(
                    f,
                    "  {:<8} {:>12.1} us {:>12.1} us {:>+8.2} %",
                    row.name, micros[0], micros[1], row.percent
                )?;
                if let Some([low, high]) = row.interval {
                    write!(f, " [{low:+.2} .. {high:+.2}]")?;
                }
                let mark = if row.is_significant {
                    " significant"
                } else {
                    ""
                };
                writeln!(f, "{mark}")?;
            }
        }
        for figure in &self.figures {
            let [a, b] = figure.values;
            let ratio = figure
                .ratio
                .map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
            writeln!(f, "{:<36} {a:>16.3} {b:>16.3} {ratio:>8}", figure.name)?;
        }
        if self.worsenings.is_empty() {
            writeln!(f, "no significant worsening beyond the threshold")?;
        }
        for worsening in &self.worsenings {
            writeln!(f, "WORSE: {worsening}")?;
        }
        Ok(())
    }
}

fn compare(tag: &str, a: &read::Intervals, b: &read::Intervals) -> TagDiff {
    let (sum_a, sum_b) = (a.sum(), b.sum());
    let spans = bootstrap::intervals(a.histograms(), b.histograms(), &QUANTILES.map(|q| q.1));
    let rows = QUANTILES
        .iter()
        .enumerate()
        .map(|(place, (name, quantile))| {
            let nanos = [
                sum_a.value_at_quantile(*quantile),
                sum_b.value_at_quantile(*quantile),
            ];
            let interval = spans.as_ref().and_then(|spans| spans.get(place).copied());
            Row {
                name,
                nanos,
                percent: percent(nanos),
                interval,
                is_significant: nanos[0] != nanos[1]
                    && interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0),
            }
        });
    let most = [sum_a.max(), sum_b.max()];
    let last = Row {
        name: "max",
        nanos: most,
        percent: percent(most),
        interval: None,
        is_significant: false,
    };
    TagDiff {
        tag: tag.to_owned(),
        counts: [sum_a.len(), sum_b.len()],
        rows: rows.chain([last]).collect(),
    }
}

fn percent(nanos: [u64; 2]) -> f64 {
    let [a, b] = nanos.map(|nanos| crate::report::float(nanos.max(1)));
    (b / a - 1.0) * 100.0
}

fn figure(at: &str, a: &Value, b: &Value) -> Option<FigureDiff> {
    let values = [a.pointer(at)?.as_f64()?, b.pointer(at)?.as_f64()?];
    Some(FigureDiff {
        name: at.trim_start_matches("/figures/").replace('/', "."),
        values,
        ratio: (values[0] != 0.0).then(|| values[1] / values[0]),
    })
}

/// Appends a warning for each field that differs; one that a side lacks is none.
fn differences(at: &str, a: Option<&Value>, b: Option<&Value>, warnings: &mut Vec<String>) {
    let (Some(a), Some(b)) = (a, b) else { return };
    if let (Some(fields), Value::Object(_)) = (a.as_object(), b) {
        for (name, value) in fields {
            // Two levels deep, the plan of a churn included.
            if value.is_object() {
                continue;
            }
            differences(&format!("{at}/{name}"), Some(value), b.get(name), warnings);
        }
    } else if a != b {
        let name = at.trim_start_matches('/').replace('/', ".");
        warnings.push(format!("{name} differs: {a} and {b}"));
    }
}

/// What is compared of each tag.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Figures of a document, by their place.
const FIGURES: [&str; 12] = [
    "/figures/bytes_per_second",
    "/figures/messages_per_second",
    "/figures/rounds_per_second",
    "/figures/relay/cores",
    "/figures/relay/seconds_per_gigabyte",
    "/figures/relay/micros_per_message",
    "/figures/relay/micros_per_round",
    "/figures/relay_bytes_per_session",
    "/figures/generator/cores",
    "/figures/generator/seconds_per_gigabyte",
    "/figures/generator/micros_per_message",
    "/figures/generator/micros_per_round",
];

#[cfg(test)]
mod tests;
