//! Asserts on the outcome of a run, written as text: `response.p99 < 5ms`.
//!
//! Here: the grammar `METRIC OP VALUE[UNIT]` or `METRIC OP FACTORx PHASE`, and whether an assert holds. Not
//! here: measuring, and what follows from an assert that does not hold.
//!
//! A metric that has no value in a run fails its assert: what was not measured was not kept.
//! Units: times in nanoseconds, shares in percent, everything else as it is counted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use self::measures::Measures;

mod measures;

/// One assert.
#[derive(Debug, Clone, PartialEq)]
pub struct Assert {
    text: String,
    metric: Metric,
    is: Relation,
    bound: Bound,
}

/// What is compared with.
#[derive(Debug, Clone, PartialEq)]
enum Bound {
    /// A number in the unit of the metric.
    Value(f64),
    /// So many times the same metric of another phase.
    Times(f64, String),
}

/// What came of an assert.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Checked {
    /// The assert as it was written.
    pub text: String,
    /// What was measured, in the unit of the metric; none when the run has no such value.
    pub measured: Option<f64>,
    /// What it was compared with; none when the other phase has no such value.
    pub bound: Option<f64>,
    /// Whether both are times, in nanoseconds.
    pub is_time: bool,
    /// Whether it held.
    pub has_held: bool,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.has_held { "held" } else { "FAILED" };
        match self.measured {
            Some(value) => {
                let show = |value| show(value, self.is_time);
                write!(f, "{word}: {} (measured {}", self.text, show(value))?;
                match self.bound {
                    Some(bound) => write!(f, ", bound {})", show(bound)),
                    None => write!(f, ", no bound)"),
                }
            }
            None => write!(f, "{word}: {} (no value)", self.text),
        }
    }
}

fn show(value: f64, is_time: bool) -> String {
    if !is_time {
        // Counts have no fraction.
        return format!("{:.*}", if value.fract() == 0.0 { 0 } else { 3 }, value);
    }
    for (size, unit) in [(1e9, "s"), (1e6, "ms"), (1e3, "us")] {
        if value >= size {
            return format!("{:.3} {unit}", value / size);
        }
    }
    format!("{value:.0} ns")
}

impl fmt::Display for Assert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Assert {
    /// Returns the phase that it compares with.
    #[must_use]
    pub fn beside(&self) -> Option<&str> {
        match &self.bound {
            Bound::Value(_) => None,
            Bound::Times(_, phase) => Some(phase),
        }
    }

    /// Returns what a run must have for the metric to have a value.
    #[must_use]
    pub fn need(&self) -> Need {
        match &self.metric {
            Metric::Time("response" | "lag", _) => Need::Pace,
            Metric::Number(name) if name.starts_with("relay.") => Need::RelayProcess,
            Metric::Number(name) if name.starts_with("ports.") => Need::Ports,
            Metric::Time(..) | Metric::ErrorsPercent | Metric::Number(_) => Need::Nothing,
        }
    }

    /// Compares with what a run measured; an assert that compares with a phase does not hold.
    #[must_use]
    pub fn check(&self, measures: &Measures<'_>) -> Checked {
        self.check_beside(measures, None)
    }

    /// Compares with what a run measured, and with what the other phase did.
    #[must_use]
    pub fn check_beside(&self, measures: &Measures<'_>, other: Option<&Measures<'_>>) -> Checked {
        let of = |measures| self.metric.measured(measures).filter(|v| v.is_finite());
        let measured = of(measures);
        let bound = match &self.bound {
            Bound::Value(value) => Some(*value),
            Bound::Times(factor, _) => other.and_then(of).map(|value| value * factor),
        };
        let has_held = match (measured, bound) {
            (Some(measured), Some(bound)) => self.is.holds(measured, bound),
            _ => false,
        };
        Checked {
            text: self.text.clone(),
            measured,
            bound,
            is_time: matches!(self.metric, Metric::Time(..)),
            has_held,
        }
    }
}

/// What a run must have for a metric to have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A rate: without one nothing is ever due.
    Pace,
    /// Somebody who counts ports.
    Ports,
    /// The id of the relay's process.
    RelayProcess,
}

/// What an assert is about.
#[derive(Debug, Clone, PartialEq)]
enum Metric {
    Time(&'static str, Part),
    ErrorsPercent,
    Number(&'static str),
}

/// Which number of a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Min,
    Mean,
    Quantile(f64),
    Max,
}

impl Metric {
    fn measured(&self, measures: &Measures<'_>) -> Option<f64> {
        match self {
            Self::Time(name, part) => {
                let times = measures.times(name)?;
                let summary = times.summary();
                Some(match part {
                    Part::Min => crate::report::float(summary.min_ns),
                    Part::Mean => summary.mean_ns,
                    Part::Max => crate::report::float(summary.max_ns),
                    Part::Quantile(quantile) => times.quantile(*quantile).as_secs_f64() * 1e9,
                })
            }
            Self::ErrorsPercent => measures.errors_percent(),
            Self::Number(name) => measures.number(name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Unequal,
}

impl Relation {
    /// Longer ones first: `<=` begins with `<`.
    const ALL: [(&'static str, Self); 6] = [
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn holds(self, measured: f64, value: f64) -> bool {
        let order = measured.total_cmp(&value);
        match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Unequal => order.is_ne(),
        }
    }
}

impl FromStr for Assert {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let at = text
            .find(['<', '>', '=', '!'])
            .ok_or_else(|| format!("'{text}' has no < <= > >= == !=: write METRIC OP VALUE"))?;
        let (name, rest) = text.split_at(at);
        let found = Relation::ALL
            .iter()
            .find_map(|(sign, is)| rest.strip_prefix(sign).map(|rest| (*is, rest)));
        let (is, value) =
            found.ok_or_else(|| format!("'{text}': its operator is none of < <= > >= == !="))?;
        let (number, unit) = split_unit(value.trim())
            .ok_or_else(|| format!("'{text}': '{}' is no number", value.trim()))?;
        let metric = metric(name.trim(), unit == "%")?;
        if let Some(phase) = unit.strip_prefix("x ") {
            let bound = Bound::Times(number, phase.trim().to_owned());
            let text = text.to_owned();
            return Ok(Self {
                text,
                metric,
                is,
                bound,
            });
        }
        let scale = scale(&metric, unit).ok_or_else(|| {
            let fit = match metric {
                Metric::Time(..) => "ns, us, ms or s",
                Metric::ErrorsPercent | Metric::Number("errors") => "% or none",
                Metric::Number(_) => "k, M, KiB, MiB or none",
            };
            format!("'{text}': the unit '{unit}' does not fit: write {fit}")
        })?;
        Ok(Self {
            text: text.to_owned(),
            metric,
            is,
            bound: Bound::Value(number * scale),
        })
    }
}

fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '+')))
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: f64 = digits.replace('_', "").parse().ok()?;
    Some((number, unit.trim()))
}

fn metric(name: &str, is_share: bool) -> Result<Metric, String> {
    if name == "errors" && is_share {
        return Ok(Metric::ErrorsPercent);
    }
    if let Some(known) = NUMBERS.iter().find(|known| **known == name) {
        return Ok(Metric::Number(known));
    }
    let unknown = || {
        format!(
            "'{name}' is no metric; those are {} each with .min, .mean, .p50 to .p9999 or .max, and {}",
            TIMES.join(", "),
            NUMBERS.join(", ")
        )
    };
    let (times, part) = name.split_once('.').ok_or_else(unknown)?;
    let times = TIMES.iter().find(|known| **known == times);
    let times = times.ok_or_else(unknown)?;
    let part = match part {
        "min" => Part::Min,
        "mean" => Part::Mean,
        "max" => Part::Max,
        _ => Part::Quantile(quantile(part).ok_or_else(unknown)?),
    };
    Ok(Metric::Time(times, part))
}

/// Reads `p99`, `p99.95`, and `p999` as 99.9.
fn quantile(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('p')?;
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent: f64 = match digits {
        "999" => 99.9,
        "9999" => 99.99,
        _ if is_plain => digits.parse().ok()?,
        _ => return None,
    };
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn scale(metric: &Metric, unit: &str) -> Option<f64> {
    let units: &[(&str, f64)] = match metric {
        Metric::Time(..) => &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)],
        Metric::ErrorsPercent => &[("%", 1.0)],
        Metric::Number("errors") => &[("", 1.0), ("k", 1e3), ("M", 1e6)],
        Metric::Number(_) => &[
            ("", 1.0),
            ("k", 1e3),
            ("M", 1e6),
            ("KiB", 1_024.0),
            ("MiB", 1_048_576.0),
        ],
    };
    let found = units.iter().find(|(name, _)| *name == unit);
    found.map(|(_, scale)| *scale)
}

/// Histograms, then other names for response (with a pace) or service (without).
const TIMES: [&str; 7] = [
    "response",
    "service",
    "lag",
    "open",
    "handshake",
    "connect",
    "message",
];

/// Metrics that are one number.
const NUMBERS: [&str; 13] = [
    "errors",
    "messages_per_second",
    "rounds_per_second",
    "bytes_per_second",
    "relay.cores",
    "relay.bytes_per_session",
    "generator.cores",
    "ports.time_wait",
    "ports.established",
    "ports.fin_wait",
    "ports.close_wait",
    "ports.bound_only",
    "ports.addr_not_avail",
];

/// Named numbers that something else counted, such as a ledger of ports.
pub type Numbers = BTreeMap<&'static str, f64>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::latency::Latencies;

    fn check(text: &str, has_pace: bool) -> Checked {
        let mut latencies = Latencies::default();
        for n in 1..=1_000 {
            latencies.service.record(Duration::from_micros(n));
            latencies.response.record(Duration::from_micros(2 * n));
        }
        let numbers = Numbers::from([
            ("errors", 2.0),
            ("rounds_per_second", 12_000.0),
            ("ports.time_wait", 0.0),
        ]);
        let measures = Measures::new(&latencies, has_pace, Some(998), numbers);
        text.parse::<Assert>().unwrap().check(&measures)
    }

    #[test]
    fn asserts_hold_or_not() {
        for (text, has_held) in [
            ("response.p99 < 5ms", true),
            ("response.p99<1980us", false),
            ("service.p50 <= 501us", true),
            ("service.p99.5 > 0.98ms", true),
            ("service.max >= 1ms", true),
            ("service.min == 1us", true),
            ("errors < 0.2%", false),
            ("errors <= 0.2%", true),
            ("errors == 2", true),
            ("errors != 2", false),
            ("rounds_per_second >= 10_000", true),
            ("rounds_per_second >= 12.1k", false),
            ("ports.time_wait == 0", true),
        ] {
            let checked = check(text, true);
            assert_eq!(checked.has_held, has_held, "{checked}");
        }
    }

    #[test]
    fn needs_are_known() {
        for (text, need) in [
            ("response.p99 < 1s", Need::Pace),
            ("service.p99 < 1s", Need::Nothing),
            ("open.p99 < 1s", Need::Nothing),
            ("errors < 1%", Need::Nothing),
            ("relay.cores < 1", Need::RelayProcess),
            ("ports.time_wait < 1", Need::Ports),
        ] {
            assert_eq!(text.parse::<Assert>().unwrap().need(), need, "{text}");
        }
    }

    #[test]
    fn other_names_follow_the_pace() {
        let (paced, fast) = (check("open.p50 < 1s", true), check("open.p50 < 1s", false));
        assert!(paced.measured > fast.measured);
    }

    #[test]
    fn what_was_not_measured_fails() {
        for text in ["lag.p99 < 1s", "relay.cores < 9", "ports.fin_wait >= 0"] {
            let checked = check(text, true);
            assert_eq!((checked.measured, checked.has_held), (None, false));
            assert!(checked.to_string().contains("no value"));
        }
    }

    #[test]
    fn a_phase_is_compared_with_another() {
        let times = |micros| {
            let mut latencies = Latencies::default();
            latencies.service.record(Duration::from_micros(micros));
            latencies
        };
        let (calm, storm) = (times(100), times(290));
        let measures = |latencies| Measures::new(latencies, false, None, Numbers::new());
        let assert: Assert = "service.p50 < 3x calm".parse().unwrap();
        assert_eq!(assert.beside(), Some("calm"));
        let checked = assert.check_beside(&measures(&storm), Some(&measures(&calm)));
        assert!(checked.has_held, "{checked}");
        let assert: Assert = "service.p50 < 2.5x calm".parse().unwrap();
        let checked = assert.check_beside(&measures(&storm), Some(&measures(&calm)));
        assert!(!checked.has_held, "{checked}");
        // Without the other phase nothing is kept.
        assert!(!assert.check(&measures(&calm)).has_held);
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("", "METRIC OP VALUE"),
            ("response.p99", "METRIC OP VALUE"),
            ("response.p99 = 5ms", "operator"),
            ("response.p99 < fast", "no number"),
            ("response.p99 < 5", "unit"),
            ("response.p99 < 5%", "unit"),
            ("response.p101 < 5ms", "ports.time_wait"),
            ("response.pinf < 5ms", "no metric"),
            ("speed < 5", "rounds_per_second"),
            ("ports.none == 0", "ports.established"),
            ("relay.cores < 5ms", "unit"),
            ("errors < 1..2%", "no number"),
            ("errors < 1 < 2", "unit"),
        ] {
            let error = text.parse::<Assert>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
