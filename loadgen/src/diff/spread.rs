//! 95 % intervals of differences between quantiles.
//!
//! Here: one quantile of two results. Not here: which differences are called significant (`diff`).
//!
//! 1. For each interval of a run: how many of its values lie at or below the quantile `Q` of the whole
//!    run, less how many would if it were like the whole. The sum of these is 0; how they vary tells how
//!    far the share below `Q` would move from run to run. Values of `Q`'s own bucket count in part, so
//!    that coarse buckets do not matter.
//! 2. Neighbouring intervals resemble each other: a stall or a noisy neighbour lasts longer than one. So
//!    the variance is taken at long waves only: the squared sums over the first `B` cosines, `B` = 0.4
//!    n^(2/3) (at least 4), which have `B` degrees of freedom by construction.
//! 3. The share `q` becomes a range of shares (on the logit scale, so that it stays between 0 and 1), and
//!    that a range of values: their quantiles, to the outer ends of their buckets.
//! 4. The ranges of both sides give that of the logarithm of their ratio: the squared distances of their
//!    ends add up. Student's quantile of Welch's degrees of freedom widens them.
//!
//! There is no interval where there is too little to tell: fewer than [`INTERVALS_MIN`] intervals; a
//! range of shares that leaves less than one value on a side; values beyond `Q` that come from the
//! equivalent of less than [`TAIL_INTERVALS_MIN`] intervals, as those of a single stall do.
//!
//! What holds: the interval is meant to cover the true difference in 95 of 100 comparisons when intervals
//! of the run are independent, and comes near that for autocorrelated ones as their number grows; no
//! interval of so few numbers is exact. Measured on made-up runs with a true shift of 20 % and log-normal
//! levels of intervals, 600 or 1,000 comparisons each, p50 to p99: independent, 10 to 300 intervals, 95 to
//! 97 %; neighbours correlated by 0.5 88 % at 10 intervals, 92 % at 20, 95 % from 40; by 0.8 70 % at 10,
//! 79 % at 20, 86 % at 40, 90 % at 60. Runs shorter than a minute cannot tell a slow drift of the machine
//! from a difference: run them in turn, and more than once.
//!
//! Why no bootstrap: with 40 intervals in ten blocks of four (200 comparisons each) its percentiles covered
//! 90 % of independent and 88 % of intervals correlated by 0.5; widened by Student's distribution 96 % and
//! 93 %. Resamples of few blocks vary less than runs do, and blocks of four are short for what is
//! correlated.
//! Source: Lazarus, Lewis, Stock, Watson, "HAR Inference" (2018) for 2; Woodruff (1952) for 3; Zou and
//! Donner (2008) for 4.

use std::f64::consts::PI;

use super::series::{Pair, Side, total};
use super::student;
use crate::report::float;

/// One quantile of two results.
pub(super) struct Spread {
    sides: [Share; 2],
    freedom: u32,
}

/// A quantile of one result, and how well it is known.
struct Share {
    quantile: f64,
    /// Logarithm of the value.
    value: f64,
    /// Standard error of the logit of the share.
    error: f64,
    /// Degrees of freedom of it.
    freedom: u32,
}

/// Why a quantile has no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooFew {
    /// Intervals.
    Intervals,
    /// Values beyond the quantile, or the intervals that they come from.
    Tail,
}

impl Spread {
    /// Looks at a quantile.
    pub(super) fn of(pair: &Pair, quantile: f64) -> Result<Self, TooFew> {
        let [a, b] = &pair.sides;
        let sides = [Share::of(a, quantile)?, Share::of(b, quantile)?];
        // How wide each is, roughly, decides how many degrees of freedom the difference has.
        let [(x, n), (y, m)] = [(a, &sides[0]), (b, &sides[1])].map(|(side, share)| {
            let width = share.range(side, 1.0).map_or(0.0, |[low, high]| high - low);
            (width * width, f64::from(share.freedom))
        });
        let welch = (x + y).powi(2) / (x * x / n + y * y / m);
        let least = sides[0].freedom.min(sides[1].freedom);
        let most = sides[0].freedom + sides[1].freedom;
        let freedom = (least..=most).rev().find(|n| f64::from(*n) <= welch);
        let spread = Self {
            sides,
            freedom: freedom.unwrap_or(least),
        };
        // Without its plain interval a quantile is not judged at all.
        spread
            .interval(pair, 0.05)
            .map(|_| spread)
            .ok_or(TooFew::Tail)
    }

    /// Returns the ends of the difference, in percent, that are wrong with a probability of `alpha`; none
    /// when there are too few values for ends that far out.
    pub(super) fn interval(&self, pair: &Pair, alpha: f64) -> Option<[f64; 2]> {
        let times = student::two_sided(alpha, self.freedom);
        let [a, b] = &pair.sides;
        let [x, y] = &self.sides;
        let ([x_low, x_high], [y_low, y_high]) = (x.range(a, times)?, y.range(b, times)?);
        let difference = y.value - x.value;
        let below = (y.value - y_low).hypot(x_high - x.value);
        let above = (y_high - y.value).hypot(x.value - x_low);
        let percent = |log: f64| (log.exp() - 1.0) * 100.0;
        Some([percent(difference - below), percent(difference + above)])
    }
}

impl Share {
    fn of(side: &Side, quantile: f64) -> Result<Self, TooFew> {
        if side.intervals.len() < INTERVALS_MIN {
            return Err(TooFew::Intervals);
        }
        let value = side.at(quantile);
        let count = float(side.count());
        let counts = side.intervals.iter().map(|cells| {
            let to = cells.partition_point(|cell| cell.0 <= value);
            let below = cells.partition_point(|cell| cell.0 < value);
            [
                float(total(&cells[..below])),
                float(total(&cells[..to])),
                float(total(cells)),
            ]
        });
        let counts: Vec<[f64; 3]> = counts.collect();
        let below: f64 = counts.iter().map(|count| count[0]).sum();
        let to: f64 = counts.iter().map(|count| count[1]).sum();
        // The part of the quantile's own bucket that belongs below it.
        let part = ((quantile * count - below) / (to - below).max(1.0)).clamp(0.0, 1.0);
        let within = |[below, to, _]: [f64; 3]| below + part * (to - below);
        let tail: Vec<f64> = counts.iter().map(|c| c[2] - within(*c)).collect();
        let squares: f64 = tail.iter().map(|beyond| beyond * beyond).sum();
        let is_spread = tail.iter().sum::<f64>().powi(2) >= TAIL_INTERVALS_MIN * squares;
        if squares <= 0.0 || !is_spread {
            return Err(TooFew::Tail);
        }
        let moves: Vec<f64> = counts
            .iter()
            .map(|c| within(*c) - quantile * c[2])
            .collect();
        let (variance, freedom) = long_waves(&moves);
        let error = (variance * float(moves.len() as u64)).sqrt() / count;
        Ok(Self {
            quantile,
            value: float(value.max(1)).ln(),
            error: error / (quantile * (1.0 - quantile)),
            freedom,
        })
    }

    /// Returns the logarithms of the values `times` standard errors below and above; none where that
    /// leaves less than one value beyond.
    fn range(&self, side: &Side, times: f64) -> Option<[f64; 2]> {
        let logit = (self.quantile / (1.0 - self.quantile)).ln();
        let share = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        let low = share(logit - times * self.error);
        let high = share(logit + times * self.error);
        let one = 1.0 / float(side.count());
        if low < one || high > 1.0 - one {
            return None;
        }
        let bottom = side.lowest(side.at(low));
        Some([float(bottom).ln(), float(side.at(high).max(1)).ln()])
    }
}

/// Returns the variance of an interval at long waves, and its degrees of freedom.
fn long_waves(moves: &[f64]) -> (f64, u32) {
    let n = float(moves.len() as u64);
    let want = (0.4 * n.powf(2.0 / 3.0)).round();
    let waves = (WAVES_MIN..WAVES_MAX).find(|waves| f64::from(*waves) >= want);
    let waves = waves.unwrap_or(WAVES_MAX);
    let mut sum = 0.0;
    for wave in 1..=waves {
        let terms = (0..).zip(moves).map(|(place, part): (u32, &f64)| {
            part * (PI * f64::from(wave) * (f64::from(place) + 0.5) / n).cos()
        });
        sum += terms.sum::<f64>().powi(2) * 2.0 / n;
    }
    (sum / f64::from(waves), waves)
}

/// Fewer intervals say nothing about how they vary.
pub(super) const INTERVALS_MIN: usize = 8;
/// Intervals that the values beyond a quantile must come from, as if each had equally many: with one
/// stall in ten or twenty intervals, false alarms fell from 10 % of comparisons to 2 %.
const TAIL_INTERVALS_MIN: f64 = 4.0;
/// Fewer waves need ends so far out that nothing is ever found.
const WAVES_MIN: u32 = 4;
/// Some four hours of seconds; more waves narrow the interval by less than 1 %.
const WAVES_MAX: u32 = 250;
