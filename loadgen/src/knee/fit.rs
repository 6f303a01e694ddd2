//! The knee and its interval from repeated windows at neighbouring values.
//!
//! Here: the estimate. Not here: which windows there are (`knee`).
//!
//! The knee is the value at which half of the windows meet the objective. The shares are made falling by
//! isotonic regression (pool adjacent violators), and the knee is where their line crosses one half. The
//! interval is a parametric bootstrap: the windows of each value are drawn again from the share
//! `(met + 1/2) / (windows + 1)`, which also lets values vary that all met or all missed, and the knee is
//! found again; its 2.5th and 97.5th percentile, one half step of the resolution further out, are the
//! ends. The half step stands for where the knee lies between two values.

use std::collections::BTreeMap;

/// Windows at one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Windows {
    met: u32,
    missed: u32,
}

impl Windows {
    /// Counts one.
    pub const fn count(&mut self, is_met: bool) {
        if is_met {
            self.met += 1;
        } else {
            self.missed += 1;
        }
    }

    /// Returns how many there were.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.met + self.missed
    }

    pub(super) const fn is_all_met(&self) -> bool {
        self.missed == 0
    }

    pub(super) const fn is_all_missed(&self) -> bool {
        self.met == 0
    }

    fn share(&self) -> f64 {
        f64::from(self.met) / f64::from(self.total().max(1))
    }
}

/// A knee.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Where half of the windows meet the objective.
    pub knee: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// Returns the estimate; `resolution` is the distance of neighbouring values as a share.
    #[must_use]
    pub fn of(windows: &BTreeMap<u64, Windows>, resolution: f64) -> Self {
        let values: Vec<f64> = windows.keys().map(|v| super::float(*v)).collect();
        let seen: Vec<Windows> = windows.values().copied().collect();
        let shares: Vec<f64> = seen.iter().map(Windows::share).collect();
        let knee = crossing(&values, &shares, resolution);
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut knees: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn: Vec<f64> = seen.iter().map(|w| draw(&mut random, *w)).collect();
                crossing(&values, &drawn, resolution)
            })
            .collect();
        knees.sort_by(f64::total_cmp);
        let at = |index: usize| knees.get(index).copied().unwrap_or(knee);
        let half = (1.0 + resolution).sqrt();
        Self {
            knee,
            low: at(RESAMPLES / 40).min(knee) / half,
            high: at(RESAMPLES - 1 - RESAMPLES / 40).max(knee) * half,
        }
    }

    /// Returns the estimate for values that were searched in units.
    #[must_use]
    pub fn in_units_of(self, unit: u64) -> Self {
        let unit = super::float(unit);
        Self {
            knee: self.knee * unit,
            low: self.low * unit,
            high: self.high * unit,
        }
    }

    /// Returns the median of value by cores over the windows at the knee that met the objective; `met` are
    /// pairs of value and cores. At the knee is what lies within its interval, else the nearest value.
    /// Windows that used no processor time say nothing.
    #[must_use]
    pub fn per_core(&self, met: &[(u64, f64)]) -> Option<f64> {
        let used: Vec<(f64, f64)> = met
            .iter()
            .filter(|(_, cores)| *cores > 0.0)
            .map(|(value, cores)| (super::float(*value), *cores))
            .collect();
        let distance = |value: f64| (value - self.knee).abs();
        let nearest = used.iter().map(|(value, _)| *value);
        let nearest = nearest.min_by(|x, y| distance(*x).total_cmp(&distance(*y)))?;
        let (low, high) = (self.low.min(nearest), self.high.max(nearest));
        let at_knee = used
            .iter()
            .filter(|(value, _)| (low..=high).contains(value));
        let mut each: Vec<f64> = at_knee.map(|(value, cores)| value / cores).collect();
        each.sort_by(f64::total_cmp);
        let middle = each.len() / 2;
        let above = each.get(middle)?;
        Some(if each.len() % 2 == 1 {
            *above
        } else {
            f64::midpoint(*each.get(middle.checked_sub(1)?)?, *above)
        })
    }
}

/// The share of met windows when they are drawn again.
fn draw(random: &mut fastrand::Rng, seen: Windows) -> f64 {
    let total = seen.total().max(1);
    let share = (f64::from(seen.met) + 0.5) / f64::from(total + 1);
    let met: u32 = (0..total).map(|_| u32::from(random.f64() < share)).sum();
    f64::from(met) / f64::from(total)
}

/// Where the falling shares cross one half.
fn crossing(values: &[f64], shares: &[f64], resolution: f64) -> f64 {
    let fitted = falling(shares);
    let step = 1.0 + resolution;
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return 0.0;
    };
    // Outside, the line goes to certainty within one step.
    let points = std::iter::once((first / step, 1.0))
        .chain(values.iter().copied().zip(fitted))
        .chain(std::iter::once((last * step, 0.0)));
    let mut before = (first / step, 1.0);
    // The flat part at one half, if any, counts with its middle.
    let (mut low, mut high) = (None, last * step);
    for point in points {
        if low.is_none() && point.1 <= 0.5 {
            low = Some(between(before, point));
        }
        if point.1 < 0.5 {
            high = between(before, point);
            break;
        }
        before = point;
    }
    f64::midpoint(low.unwrap_or(high), high)
}

fn between(a: (f64, f64), b: (f64, f64)) -> f64 {
    let fall = a.1 - b.1;
    let part = if fall > 0.0 { (a.1 - 0.5) / fall } else { 0.0 };
    a.0 + (b.0 - a.0) * part
}

/// Pools neighbours until no share is above the one before it. All have equally many windows.
fn falling(shares: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, u32)> = Vec::new();
    for share in shares {
        let mut pool = (*share, 1);
        while let Some(last) =
            pools.pop_if(|last| last.0 / f64::from(last.1) < pool.0 / f64::from(pool.1))
        {
            pool = (pool.0 + last.0, pool.1 + last.1);
        }
        pools.push(pool);
    }
    let mut fitted = Vec::new();
    for (sum, count) in pools {
        fitted.extend((0..count).map(|_| sum / f64::from(count)));
    }
    fitted
}

/// Enough for the percentiles to stand still in their second digit.
const RESAMPLES: usize = 1_000;
/// The same windows give the same interval.
const SEED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_made_falling() {
        assert_eq!(falling(&[1.0, 0.4, 0.6, 0.0]), [1.0, 0.5, 0.5, 0.0]);
        assert_eq!(falling(&[0.0, 1.0]), [0.5, 0.5]);
    }

    #[test]
    fn a_core_carries_the_median_of_the_windows_at_the_knee() {
        let found = Estimate {
            knee: 100.0,
            low: 90.0,
            high: 110.0,
        };
        // The first and the last are not at the knee, and one used no time.
        let met = [
            (50, 5.0),
            (95, 1.0),
            (100, 2.0),
            (105, 0.5),
            (100, 0.0),
            (200, 0.1),
        ];
        assert_eq!(found.per_core(&met), Some(95.0));
        assert_eq!(found.per_core(&met[..3]), Some(72.5));
        assert_eq!(found.per_core(&met[5..]), Some(2_000.0));
        assert_eq!(found.per_core(&[]), None);
        assert_eq!(found.per_core(&[(100, 0.0)]), None);
    }

    #[test]
    fn the_knee_lies_where_half_of_the_windows_meet() {
        let knee = crossing(&[100.0, 110.0, 120.0], &[1.0, 0.5, 0.0], 0.1);
        assert!((knee - 110.0).abs() < 1e-9, "{knee}");
        assert!(crossing(&[100.0], &[0.0], 0.1) < 100.0);
        assert!(crossing(&[100.0], &[1.0], 0.1) > 100.0);
    }
}
