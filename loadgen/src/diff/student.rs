//! Quantiles of Student's t distribution.
//!
//! Here: the distribution for whole degrees of freedom. Not here: what it is used for.
//!
//! Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

use std::f64::consts::PI;

/// Returns the value that a variable of this distribution exceeds in size with a probability of `alpha`;
/// 0 < `alpha` < 1, and at least 1 degree of freedom.
pub(super) fn two_sided(alpha: f64, freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, LARGEST);
    // Halved so often, the largest interval is shorter than 1e-12.
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if within(middle, freedom) < 1.0 - alpha {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The probability of a value between `-t` and `t`: a finite sum, other for odd than for even degrees.
fn within(t: f64, freedom: u32) -> f64 {
    let angle = (t / f64::from(freedom).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    if freedom == 1 {
        return 2.0 * angle / PI;
    }
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = term;
    let mut factor = if is_odd { 3 } else { 2 };
    while factor + 2 <= freedom {
        term *= cosine * cosine * f64::from(factor - 1) / f64::from(factor);
        sum += term;
        factor += 2;
    }
    if is_odd {
        2.0 / PI * (angle + sine * sum)
    } else {
        sine * sum
    }
}

/// Larger than any quantile that is asked for.
const LARGEST: f64 = 1e6;
/// See [`two_sided`].
const STEPS: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles_are_met() {
        // From the usual table.
        for (alpha, freedom, known) in [
            (0.05, 1, 12.706),
            (0.05, 2, 4.303),
            (0.05, 3, 3.182),
            (0.05, 4, 2.776),
            (0.05, 9, 2.262),
            (0.05, 30, 2.042),
            (0.01, 5, 4.032),
            (0.01, 10, 3.169),
            (0.05, 400, 1.966),
        ] {
            let found = two_sided(alpha, freedom);
            assert!((found - known).abs() < 6e-4, "{alpha} {freedom}: {found}");
        }
    }
}
