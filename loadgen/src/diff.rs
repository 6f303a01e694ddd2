//! Two results side by side: what differs, and whether by more than chance.
//!
//! Here: the comparison and its verdict. Not here: files (`diff::read`), resolutions (`diff::series`),
//! intervals (`diff::spread`), machines and plans (`diff::surroundings`), the text (`diff::text`).
//!
//! Histograms of intervals are added before percentiles are taken; percentiles are never averaged. Lag is
//! shown, but is the generator's own and never a worsening of the server.
//!
//! Each percentile has a 95 % interval of its own. Several of those together call noise a difference more
//! often than one does, hence a difference is significant by Holm's correction over all percentiles of
//! response and service: the chance that anything of two equal servers is called significant is at most
//! 5 % for a whole comparison, as far as the intervals hold what they promise (`diff::spread`).
//! Measured on made-up runs, five percentiles of one tag, 600 or 1,000 comparisons each: 2 to 4 % for
//! independent intervals of a second and, from 20 intervals on, for neighbours correlated by 0.5 (6 % at 10
//! intervals). Neighbours correlated by 0.8 break the promise: 24 % at 10 intervals, 14 % at 20, 9 % at 40,
//! 5 % at 60. The tests repeat it in small, 200 comparisons each, and allow 7 %.
//! Units: nanoseconds; differences in percent of the first result.

use serde::Serialize;
use serde_json::Value;

pub use self::read::{Input, ReadError};
use self::series::Pair;
use self::spread::{INTERVALS_MIN, Spread, TooFew};

mod read;
mod series;
mod spread;
mod student;
mod surroundings;
mod text;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// What follows from it.
    pub verdict: Verdict,
    /// Percent that a worsening may have.
    pub threshold_percent: f64,
    /// By tag of the histograms.
    pub tags: Vec<TagDiff>,
    /// Figures of the documents that both have.
    pub figures: Vec<FigureDiff>,
    /// What makes the two hard to compare.
    pub warnings: Vec<String>,
    /// Why something could not be judged.
    pub unjudged: Vec<String>,
    /// Significant worsenings beyond the threshold.
    pub worsenings: Vec<String>,
}

/// What follows from a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There was too little to tell.
    CannotJudge,
    /// Nothing is significantly worse by more than the threshold.
    NotWorse,
    /// Something is.
    Worse,
}

/// The histograms of one tag.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TagDiff {
    /// `response`, `service` or `lag`.
    pub tag: String,
    /// Values of both.
    pub counts: [u64; 2],
    /// Intervals of both that have values.
    pub intervals: [usize; 2],
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
    /// Its 95 % interval; none for the maximum and where there is too little to tell.
    pub interval: Option<[f64; 2]>,
    /// Why there is none.
    pub unjudged: Option<&'static str>,
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

impl Verdict {
    /// Returns the exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::NotWorse => 0,
            Self::Worse => 1,
            Self::CannotJudge => 3,
        }
    }
}

impl Diff {
    /// Compares `b` with `a`; worsenings up to `threshold` percent are not told.
    ///
    /// # Errors
    /// A sentence when there is nothing that both have.
    pub fn of(a: &Input, b: &Input, threshold: f64) -> Result<Self, ReadError> {
        let mut diff = Self {
            verdict: Verdict::CannotJudge,
            threshold_percent: threshold,
            tags: Vec::new(),
            figures: Vec::new(),
            warnings: Vec::new(),
            unjudged: Vec::new(),
            worsenings: Vec::new(),
        };
        diff.surroundings(a, b);
        diff.times(a, b);
        if diff.tags.is_empty() && diff.figures.is_empty() {
            return Err(ReadError {
                file: b.path.clone(),
                why: format!(
                    "it has nothing in common with {}: compare runs of the same scenario",
                    a.path.display()
                ),
            });
        }
        if !diff.tags.iter().any(TagDiff::is_judged) && diff.unjudged.is_empty() {
            diff.unjudged.push(
                "figures alone do not tell chance from change: compare directories that --out wrote".into(),
            );
        }
        diff.verdict = if !diff.worsenings.is_empty() {
            Verdict::Worse
        } else if diff.unjudged.is_empty() {
            Verdict::NotWorse
        } else {
            Verdict::CannotJudge
        };
        Ok(diff)
    }

    /// Compares the documents.
    fn surroundings(&mut self, a: &Input, b: &Input) {
        if let (Some(x), Some(y)) = (&a.document, &b.document) {
            self.warnings = surroundings::warnings(x, y);
            self.figures = FIGURES.iter().filter_map(|at| figure(at, x, y)).collect();
            if a.tags.is_empty() || b.tags.is_empty() {
                let times = LATENCIES.iter().filter_map(|at| figure(at, x, y));
                self.figures.extend(times);
            }
            return;
        }
        let without = [("A", a), ("B", b)].into_iter();
        for (name, _) in without.filter(|(_, input)| input.document.is_none()) {
            self.warnings.push(format!(
                "{name} has no run.json: machines and plans are not compared"
            ));
        }
    }

    /// Compares the times of all tags.
    fn times(&mut self, a: &Input, b: &Input) {
        let mut compared = Vec::new();
        for (tag, x) in &a.tags {
            let y = b.tags.get(tag);
            let has_times = [!x.is_empty(), y.is_some_and(|y| !y.is_empty())];
            match (has_times, y.and_then(|y| Pair::of(x, y))) {
                ([true, true], Some(pair)) => compared.push(Compared::new(tag, pair)),
                ([true, true], None) => self.warnings.push(format!(
                    "the ranges of the times '{tag}' have nothing in common"
                )),
                ([true, false], _) => self.warnings.push(format!("only A has times '{tag}'")),
                _ => {}
            }
        }
        for (tag, y) in &b.tags {
            if !y.is_empty() && a.tags.get(tag).is_none_or(series::Series::is_empty) {
                self.warnings.push(format!("only B has times '{tag}'"));
            }
        }
        let (own, server): (Vec<_>, Vec<_>) = compared.into_iter().partition(|it| it.tag == LAG);
        for family in [server, own] {
            let significant = holm(&family);
            for (number, one) in family.iter().enumerate() {
                let is_significant = |row: usize| significant.contains(&(number, row));
                self.warnings.extend(one.pair.warning.clone());
                self.add(one.rows(is_significant));
            }
        }
    }

    /// Takes the times of a tag.
    fn add(&mut self, tag: TagDiff) {
        if tag.tag != LAG {
            let threshold = self.threshold_percent;
            let worse = tag.rows.iter();
            let worse = worse.filter(|row| row.is_significant && row.percent > threshold);
            let worse =
                worse.map(|row| format!("{}.{} by {:.1} %", tag.tag, row.name, row.percent));
            self.worsenings.extend(worse);
            if !tag.is_judged() {
                let [a, b] = tag.intervals;
                let why = if a.min(b) < INTERVALS_MIN {
                    format!(
                        "A has {a} intervals and B {b}, and at least {INTERVALS_MIN} of each are needed: run \
                         longer (an interval is a second)"
                    )
                } else {
                    "too few times, or most of them in a few intervals: run longer, or with more load".into()
                };
                self.unjudged.push(format!("{}: {why}", tag.tag));
            }
        }
        self.tags.push(tag);
    }
}

impl TagDiff {
    fn is_judged(&self) -> bool {
        self.tag != LAG && self.rows.iter().any(|row| row.interval.is_some())
    }
}

/// One tag, before it is known what is significant.
struct Compared {
    tag: String,
    pair: Pair,
    /// By percentile.
    spreads: Vec<Result<Spread, TooFew>>,
}

impl Compared {
    fn new(tag: &str, pair: Pair) -> Self {
        let spreads = QUANTILES.iter().map(|(_, at)| Spread::of(&pair, *at));
        Self {
            tag: tag.to_owned(),
            spreads: spreads.collect(),
            pair,
        }
    }

    fn rows(&self, is_significant: impl Fn(usize) -> bool) -> TagDiff {
        let [a, b] = &self.pair.sides;
        let rows = QUANTILES.iter().zip(&self.spreads).enumerate();
        let rows = rows.map(|(number, ((name, quantile), spread))| {
            let nanos = [a.at(*quantile), b.at(*quantile)];
            Row {
                name,
                nanos,
                percent: percent(nanos),
                interval: spread
                    .as_ref()
                    .ok()
                    .and_then(|it| it.interval(&self.pair, ALPHA)),
                unjudged: spread.as_ref().err().map(|why| match why {
                    TooFew::Intervals => "too few intervals",
                    TooFew::Tail => "too few values beyond it",
                }),
                is_significant: is_significant(number),
            }
        });
        let most = [a.largest(), b.largest()];
        let last = Row {
            name: "max",
            nanos: most,
            percent: percent(most),
            interval: None,
            unjudged: Some("one value says nothing about chance"),
            is_significant: false,
        };
        TagDiff {
            tag: self.tag.clone(),
            counts: [a.count(), b.count()],
            intervals: [a.intervals.len(), b.intervals.len()],
            rows: rows.chain([last]).collect(),
        }
    }
}

/// Returns the tags and percentiles, by number, that are significant by Holm's step-down procedure.
///
/// The most certain of `m` differences must be so at 5 % / m, the next at 5 % / (m - 1), and so on up to
/// the first that is not. An interval at a smaller share contains that of a larger one, so it is enough
/// to know for each difference up to which divisor its interval leaves 0 out.
/// Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
fn holm(family: &[Compared]) -> Vec<(usize, usize)> {
    let mut divisors = Vec::new();
    let judged = family.iter().enumerate().flat_map(|(number, one)| {
        let spreads = one.spreads.iter().enumerate();
        spreads
            .filter_map(move |(row, spread)| Some((number, row, &one.pair, spread.as_ref().ok()?)))
    });
    let judged: Vec<_> = judged.collect();
    let all = u32::try_from(judged.len()).unwrap_or(u32::MAX);
    for (number, row, pair, spread) in judged {
        let leaves_zero_out = |divisor: &u32| {
            let interval = spread.interval(pair, ALPHA / f64::from(*divisor));
            interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0)
        };
        let divisor = (1..=all).take_while(leaves_zero_out).last().unwrap_or(0);
        divisors.push((divisor, (number, row)));
    }
    divisors.sort_by_key(|(divisor, _)| std::cmp::Reverse(*divisor));
    let needed = (1..=all).rev();
    let pairs = divisors.into_iter().zip(needed);
    pairs
        .take_while(|((divisor, _), needed)| divisor >= needed)
        .map(|((_, place), _)| place)
        .collect()
}

fn percent(nanos: [u64; 2]) -> f64 {
    let [a, b] = nanos.map(|nanos| crate::report::float(nanos.max(1)));
    (b / a - 1.0) * 100.0
}

fn figure(at: &str, a: &Value, b: &Value) -> Option<FigureDiff> {
    let values = [a.pointer(at)?.as_f64()?, b.pointer(at)?.as_f64()?];
    let name = at.trim_start_matches('/').trim_start_matches("figures/");
    Some(FigureDiff {
        name: name.trim_start_matches("latencies/").replace('/', "."),
        values,
        ratio: (values[0] != 0.0).then(|| values[1] / values[0]),
    })
}

/// The generator's own times.
const LAG: &str = "lag";
/// Share of noise that may be called a difference.
const ALPHA: f64 = 0.05;

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

/// Times of a document, for results without logs.
const LATENCIES: [&str; 8] = [
    "/latencies/response/p50_ns",
    "/latencies/response/p99_ns",
    "/latencies/response/p999_ns",
    "/latencies/response/max_ns",
    "/latencies/service/p50_ns",
    "/latencies/service/p99_ns",
    "/latencies/service/p999_ns",
    "/latencies/service/max_ns",
];

#[cfg(test)]
mod tests;
