//! What a whole watch came to.
//!
//! Here: sums over intervals. Not here: how they are printed.

use serde::Serialize;

use super::{Interval, Level, Sign, Weight};

/// Everything a watch has seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Intervals, the quiet ones too.
    pub intervals: u64,
    /// Those of them without a sign.
    pub quiet: u64,
    /// One entry a sign, the worst first, then in the order in which they were first seen.
    pub signs: Vec<Total>,
}

/// What became of one sign.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Total {
    /// Name of the sign.
    pub name: &'static str,
    /// The heaviest that was seen.
    pub weight: Weight,
    /// Intervals with the sign.
    pub intervals: u64,
    /// Sum of all differences; 0 for fill levels and for what is unknown.
    pub count: u64,
    /// The highest rate a second.
    pub per_second_max: f64,
    /// The highest level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_max: Option<Level>,
    /// What to do.
    pub fix: String,
}

impl Totals {
    /// Adds an interval.
    pub fn add(&mut self, interval: &Interval) {
        self.intervals += 1;
        self.quiet += u64::from(interval.signs.is_empty());
        for sign in &interval.signs {
            match self.signs.iter_mut().find(|total| total.name == sign.name) {
                Some(total) => total.add(sign),
                None => self.signs.push(Total::of(sign)),
            }
        }
        self.signs
            .sort_by_key(|total| std::cmp::Reverse(total.weight));
    }

    /// Returns whether anything bad was seen.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.signs.iter().any(|total| total.weight == Weight::Bad)
    }
}

impl Total {
    fn of(sign: &Sign) -> Self {
        Self {
            name: sign.name,
            weight: sign.weight,
            intervals: 1,
            count: sign.delta.unwrap_or(0),
            per_second_max: sign.per_second.unwrap_or(0.0),
            level_max: sign.level,
            fix: sign.fix.clone(),
        }
    }

    fn add(&mut self, sign: &Sign) {
        self.intervals += 1;
        self.weight = self.weight.max(sign.weight);
        self.count = self.count.saturating_add(sign.delta.unwrap_or(0));
        self.per_second_max = self.per_second_max.max(sign.per_second.unwrap_or(0.0));
        let levels = self.level_max.into_iter().chain(sign.level);
        self.level_max = levels.max_by_key(|level| level.now);
        if self.fix.is_empty() {
            self.fix.clone_from(&sign.fix);
        }
    }
}
