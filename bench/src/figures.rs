//! Samples and what is said about them.
//!
//! Here: median and spread. Not here: what was measured.
//!
//! Rounds alternate between contenders, so that whatever else the machine does meets all of them; the
//! median of few rounds is steadier than their mean, and the spread says how much to believe.

use std::collections::BTreeMap;

use serde::Serialize;

/// The samples of one figure, a round each.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Samples {
    values: Vec<f64>,
}

impl Samples {
    /// Adds a round.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Returns the median; of an even number of samples the mean of the middle two.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            len if len % 2 == 1 => sorted.get(middle).copied(),
            _ => Some(f64::midpoint(
                *sorted.get(middle - 1)?,
                *sorted.get(middle)?,
            )),
        }
    }

    /// Returns the smallest and the largest sample.
    #[must_use]
    pub fn spread(&self) -> Option<(f64, f64)> {
        let smallest = self.values.iter().copied().min_by(f64::total_cmp)?;
        let largest = self.values.iter().copied().max_by(f64::total_cmp)?;
        Some((smallest, largest))
    }

    /// Returns the number of samples.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.values.len()
    }
}

/// All samples of a contest, by figure and contender.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Results {
    samples: BTreeMap<String, BTreeMap<String, Samples>>,
}

impl Results {
    /// Adds a sample.
    pub fn push(&mut self, figure: &str, contender: &str, value: f64) {
        let contenders = self.samples.entry(figure.to_owned()).or_default();
        contenders
            .entry(contender.to_owned())
            .or_default()
            .push(value);
    }

    /// Returns the samples of a figure.
    #[must_use]
    pub fn find(&self, figure: &str, contender: &str) -> Option<&Samples> {
        self.samples.get(figure)?.get(contender)
    }

    /// Returns the median of `a` over the median of `b`.
    #[must_use]
    pub fn ratio(&self, figure: &str, a: &str, b: &str) -> Option<f64> {
        let below = self.find(figure, b)?.median()?;
        let above = self.find(figure, a)?.median()?;
        (below > 0.0).then(|| above / below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        for value in values {
            samples.push(*value);
        }
        samples
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(samples(&[]).median(), None);
        assert_eq!(samples(&[3.0]).median(), Some(3.0));
        assert_eq!(samples(&[9.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(samples(&[4.0, 1.0, 2.0, 100.0]).median(), Some(3.0));
    }

    #[test]
    fn spread_is_smallest_and_largest() {
        assert_eq!(samples(&[]).spread(), None);
        assert_eq!(samples(&[2.0, 9.0, 1.0]).spread(), Some((1.0, 9.0)));
    }

    #[test]
    fn ratios_are_of_medians() {
        let mut results = Results::default();
        for (a, b) in [(1.0, 2.0), (3.0, 6.0), (100.0, 4.0)] {
            results.push("x", "a", a);
            results.push("x", "b", b);
        }
        assert_eq!(results.ratio("x", "a", "b"), Some(0.75));
        assert_eq!(results.ratio("x", "a", "c"), None);
        assert_eq!(results.ratio("y", "a", "b"), None);
    }
}
