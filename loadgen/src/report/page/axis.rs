//! Axes: what they span, where their ticks stand and what those say.
//!
//! Here: ticks at round values. Not here: drawing (`page::chart`).
//!
//! Values of logarithmic axes are logarithms (base 10); those of the axis of nines are -log10(1 - q).

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::report::format;

/// One axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
    /// Lines without a text.
    minor: Vec<f64>,
}

impl Axis {
    /// Returns an axis of time, in seconds from zero.
    pub(super) fn time(high: f64) -> Self {
        let high = high.clamp(1e-3, 1e9);
        let steps = STEPS.into_iter().chain([864_000.0, 8_640_000.0]);
        let step = steps
            .into_iter()
            .find(|step| high / step <= 10.0)
            .unwrap_or(1e8);
        Self {
            low: 0.0,
            high,
            ticks: multiples(0.0, high, step)
                .map(|at| (at, clock(at, step)))
                .collect(),
            minor: Vec::new(),
        }
    }

    /// Returns an axis from zero to at least `most`, with ticks that `text` writes; of whole numbers if
    /// `is_whole`.
    pub(super) fn linear(most: f64, is_whole: bool, text: impl Fn(f64) -> String) -> Self {
        let most = most.clamp(1e-6, 1e21);
        let rough = most / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|digit| digit * decade)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let step = if is_whole { step.max(1.0) } else { step };
        let high = (most / step).ceil() * step;
        Self {
            low: 0.0,
            high,
            ticks: multiples(0.0, high, step)
                .map(|at| (at, text(at)))
                .collect(),
            minor: Vec::new(),
        }
    }

    /// Returns a logarithmic axis of times in nanoseconds; its values are logarithms.
    pub(super) fn times(least: f64, most: f64) -> Self {
        let (low, high) = (step_below(least.max(1.0)), step_above(most.max(2.0)));
        let (low, high) = (low.log10(), high.log10().max(low.log10() + 0.3));
        let digits: &[u32] = match high - low {
            span if span <= 2.2 => &[1, 2, 5],
            span if span <= 4.2 => &[1, 3],
            _ => &[1],
        };
        let mut axis = Self {
            low,
            high,
            ticks: Vec::new(),
            minor: Vec::new(),
        };
        for decade in 0..=20_i32 {
            for digit in 1..10 {
                let value = f64::from(digit) * 10_f64.powi(decade);
                let at = value.log10();
                if at < low - 1e-9 || at > high + 1e-9 {
                    continue;
                }
                if digits.contains(&digit) {
                    axis.ticks.push((at, format::nanos(value)));
                } else {
                    axis.minor.push(at);
                }
            }
        }
        axis
    }

    /// Returns an axis of percentiles, of at least two nines.
    pub(super) fn nines(most: f64) -> Self {
        let high = most.clamp(2.0, 12.0);
        let mut ticks = vec![(0.5_f64.log10().abs(), "50 %".to_owned())];
        // With many nines there is no room for both.
        if high < 6.0 {
            ticks.push((0.0, "0 %".to_owned()));
        }
        for nines in (1..=12_u32).filter(|nines| f64::from(*nines) <= high + 1e-9) {
            let text = match nines {
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                more => {
                    let digits = usize::try_from(more - 2).unwrap_or(0);
                    format!("99.{} %", "9".repeat(digits))
                }
            };
            ticks.push((f64::from(nines), text));
        }
        Self {
            low: 0.0,
            high,
            ticks,
            minor: Vec::new(),
        }
    }

    pub(super) const fn low(&self) -> f64 {
        self.low
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, at: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| (tick - at).abs() < 1e-9);
        tick.map_or_else(String::new, |(_, text)| text.clone())
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (first, last) = (f64::from(limit.0), f64::from(limit.1));
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        #[expect(clippy::cast_possible_truncation, reason = "between two pixels")]
        let place = (first + share * (last - first)).round() as i32;
        place
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return self.minor.clone();
        }
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// Distances of ticks in seconds that people count in.
const STEPS: [f64; 20] = [
    0.000_5, 0.005, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0,
    1_800.0, 3_600.0, 7_200.0, 14_400.0, 86_400.0,
];

fn clock(at: f64, step: f64) -> String {
    if at == 0.0 {
        return "0".into();
    }
    if step >= 3_600.0 {
        return format!("{:.0} h", at / 3_600.0);
    }
    if step >= 60.0 && at < 3_600.0 {
        return format!("{:.0} min", at / 60.0);
    }
    if at >= 3_600.0 {
        let minutes = (at % 3_600.0 / 60.0).round();
        return format!("{:.0}:{minutes:02.0} h", (at / 3_600.0).floor());
    }
    if step >= 30.0 {
        return format!("{:.0}:{:02.0} min", (at / 60.0).floor(), at % 60.0);
    }
    if at < 1.0 {
        return format::nanos(at * 1e9);
    }
    format!("{} s", format::plain(at))
}

/// Returns the multiples of a step in a range; at most a hundred.
fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..100_u32)
        .map(move |number| low + f64::from(number) * step)
        .take_while(move |at| *at <= high * (1.0 + 1e-9))
}

/// Returns the largest of 1, 2, 5, 10, ... that is at most `value`.
fn step_below(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digits = [5.0, 2.0, 1.0].into_iter().map(|digit| digit * decade);
    digits
        .into_iter()
        .find(|step| *step <= value * (1.0 + 1e-9))
        .unwrap_or(decade)
}

/// Returns the smallest of 1, 2, 5, 10, ... that is at least `value`.
fn step_above(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * decade);
    digits
        .into_iter()
        .find(|step| *step >= value * (1.0 - 1e-9))
        .unwrap_or(decade * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_stand_at_round_values() {
        assert_eq!(
            texts(&Axis::time(10.2)),
            ["0", "2 s", "4 s", "6 s", "8 s", "10 s"]
        );
        assert_eq!(texts(&Axis::time(250.0))[1], "0:30 min");
        assert_eq!(texts(&Axis::time(86_400.0))[1], "4 h");
        assert_eq!(texts(&Axis::time(9_000.0))[6], "1:30 h");
        let counts = Axis::linear(930.0, true, format::short);
        assert_eq!(texts(&counts), ["0", "200", "400", "600", "800", "1k"]);
        assert_eq!(texts(&Axis::linear(1.0, true, format::short)), ["0", "1"]);
        let nines = Axis::nines(4.3);
        assert_eq!(
            texts(&nines),
            ["50 %", "0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
    }

    #[test]
    fn times_have_few_ticks_however_far_they_reach() {
        assert_eq!(
            texts(&Axis::times(110_000.0, 1_900_000.0)),
            ["100 \u{b5}s", "200 \u{b5}s", "500 \u{b5}s", "1 ms", "2 ms"]
        );
        for most in [1.0, 50.0, 1e6, 6e10, 1.8e19] {
            let axis = Axis::times(1.0, most);
            assert!((2..=21).contains(&axis.ticks.len()), "{axis:?}");
            assert!(axis.high > axis.low);
        }
    }

    #[test]
    fn what_makes_no_sense_still_has_an_axis() {
        for value in [0.0, -5.0, f64::MAX, f64::INFINITY] {
            for axis in [
                Axis::time(value),
                Axis::linear(value, false, format::short),
                Axis::nines(value),
            ] {
                assert!(axis.high > axis.low && axis.ticks.len() <= 100, "{axis:?}");
                assert_eq!(
                    axis.map(&value, (0, 100)).clamp(0, 100),
                    axis.map(&value, (0, 100))
                );
            }
        }
    }
}
