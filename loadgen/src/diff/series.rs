//! The values of one tag of one result, interval by interval, on a grid that both results share.
//!
//! Here: counts by value, quantiles, and which of two ranges and precisions holds for both. Not here:
//! intervals of differences (`diff::spread`), files (`diff::read`).
//!
//! Histograms of other precision or range sort the same times into other buckets: 1,999 us may be "up to
//! 1,999" in one and "up to 2,047" in the other, which looks like a difference and is none. Buckets are
//! powers of two wide, so the buckets of the coarser histogram are unions of those of the finer one: both
//! are sorted into those of the coarser.
//!
//! Bound: 16 bytes a bucket with values and interval; an hour of three tags is some 200 MB at most.
//! Units: nanoseconds.

use hdrhistogram::Histogram;

/// A value that stands for its bucket (the largest that is in it), and how often it was seen.
type Cell = (u64, u64);

/// The intervals of one tag, in the order of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    intervals: Vec<Vec<Cell>>,
    shape: Option<Shape>,
}

/// Range and precision of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    low: u64,
    high: u64,
    digits: u8,
}

/// Two series on the same grid.
pub(super) struct Pair {
    /// Both.
    pub(super) sides: [Side; 2],
    /// What was lost by bringing them there, in a sentence.
    pub(super) warning: Option<String>,
}

/// One series on a grid.
pub(super) struct Side {
    /// By interval; none is empty.
    pub(super) intervals: Vec<Vec<Cell>>,
    /// All intervals added.
    pub(super) sum: Vec<Cell>,
    grid: Histogram<u64>,
}

impl Series {
    /// Appends an interval.
    pub(super) fn push(&mut self, histogram: &Histogram<u64>) {
        let shape = Shape {
            low: histogram.low(),
            high: histogram.high(),
            digits: histogram.sigfig(),
        };
        self.shape = Some(self.shape.map_or(shape, |known| Shape {
            low: known.low.max(shape.low),
            high: known.high.max(shape.high),
            digits: known.digits.min(shape.digits),
        }));
        let cells = histogram.iter_recorded();
        let cells = cells.map(|cell| (cell.value_iterated_to(), cell.count_at_value()));
        self.intervals.push(cells.collect());
    }

    /// Returns whether there is no value.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals.iter().all(Vec::is_empty)
    }

    /// Returns the largest value.
    fn largest(&self) -> u64 {
        let last = |cells: &Vec<Cell>| cells.last().map(|cell| cell.0);
        self.intervals.iter().filter_map(last).max().unwrap_or(0)
    }
}

impl Pair {
    /// Brings two series to the same grid; none when their ranges cannot be brought together.
    pub(super) fn of(a: &Series, b: &Series) -> Option<Self> {
        let (x, y) = (a.shape?, b.shape?);
        let (low, digits) = (x.low.max(y.low), x.digits.min(y.digits));
        let high = x.high.max(y.high).max(low.saturating_mul(2));
        let grid = Histogram::<u64>::new_with_bounds(low, high, digits).ok()?;
        // Whether the narrower range ended before the times did: it then counted them at its end.
        let (narrow, range) = if x.high < y.high { (a, x) } else { (b, y) };
        let has_ended = x.high != y.high
            && grid.highest_equivalent(narrow.largest()) >= grid.lowest_equivalent(range.high);
        let cap = if has_ended { range.high } else { u64::MAX };
        let warning = has_ended.then(|| {
            format!(
                "the range of one ends at {} ns and it has times at that end: longer times of the other \
                 count as that long too",
                range.high
            )
        });
        let side = |series: &Series| Side::new(series, &grid, cap);
        Some(Self {
            sides: [side(a), side(b)],
            warning,
        })
    }
}

impl Side {
    fn new(series: &Series, grid: &Histogram<u64>, cap: u64) -> Self {
        let bucket = |value: u64| grid.highest_equivalent(value.min(cap));
        let intervals = series.intervals.iter().filter(|cells| !cells.is_empty());
        let intervals =
            intervals.map(|cells| merged(cells.iter().map(|cell| (bucket(cell.0), cell.1))));
        let intervals: Vec<Vec<Cell>> = intervals.collect();
        let mut all: Vec<Cell> = intervals.iter().flatten().copied().collect();
        all.sort_unstable();
        Self {
            sum: merged(all.into_iter()),
            intervals,
            grid: grid.clone(),
        }
    }

    /// Returns how many values there are.
    pub(super) fn count(&self) -> u64 {
        total(&self.sum)
    }

    /// Returns the largest value.
    pub(super) fn largest(&self) -> u64 {
        self.sum.last().map_or(0, |cell| cell.0)
    }

    /// Returns the value that the share `quantile` of all values does not exceed.
    pub(super) fn at(&self, quantile: f64) -> u64 {
        let want = (quantile * crate::report::float(self.count()))
            .ceil()
            .max(1.0);
        let mut before = 0;
        for (value, count) in &self.sum {
            before = u64::saturating_add(before, *count);
            if crate::report::float(before) >= want {
                return *value;
            }
        }
        self.largest()
    }

    /// Returns the smallest value of the bucket of `value`, at least 1.
    pub(super) fn lowest(&self, value: u64) -> u64 {
        self.grid.lowest_equivalent(value).max(1)
    }
}

/// Adds neighbours of the same value; the cells are sorted by value.
fn merged(cells: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let mut merged: Vec<Cell> = Vec::new();
    for (value, count) in cells {
        match merged.last_mut() {
            Some(last) if last.0 == value => last.1 = last.1.saturating_add(count),
            _ => merged.push((value, count)),
        }
    }
    merged
}

/// The values of cells.
pub(super) fn total(cells: &[Cell]) -> u64 {
    cells.iter().fold(0, |sum, cell| sum.saturating_add(cell.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(digits: u8, high: u64, values: &[u64]) -> Series {
        let mut histogram = Histogram::new_with_bounds(1, high, digits).unwrap();
        for value in values {
            histogram.saturating_record(*value);
        }
        let mut series = Series::default();
        series.push(&histogram);
        series
    }

    #[test]
    fn the_coarser_precision_holds_for_both() {
        let values: Vec<u64> = (1..5_000).map(|n| n * 977).collect();
        let (fine, coarse) = (series(3, 1 << 40, &values), series(2, 1 << 40, &values));
        for (a, b) in [(&fine, &coarse), (&coarse, &fine)] {
            let pair = Pair::of(a, b).unwrap();
            assert_eq!(pair.sides[0].sum, pair.sides[1].sum);
            assert_eq!(pair.warning, None);
            assert_eq!(pair.sides[0].count(), 4_999);
        }
    }

    #[test]
    fn a_wider_range_alone_changes_nothing() {
        let (a, b) = (
            series(3, 1 << 30, &[5, 7_777]),
            series(3, 1 << 40, &[5, 7_777]),
        );
        let pair = Pair::of(&a, &b).unwrap();
        assert_eq!(pair.sides[0].sum, pair.sides[1].sum);
        assert_eq!(pair.warning, None);
    }

    #[test]
    fn longer_times_of_a_wider_range_are_kept_unless_the_narrow_one_has_ended() {
        let (short, long) = (series(3, 1_000_000, &[900]), series(3, 1 << 40, &[1 << 35]));
        let pair = Pair::of(&short, &long).unwrap();
        assert!(pair.sides[1].largest() >= 1 << 35 && pair.warning.is_none());
        let ended = series(3, 1_000_000, &[900, 1 << 34]);
        for pair in [Pair::of(&ended, &long), Pair::of(&long, &ended)].map(Option::unwrap) {
            assert_eq!(pair.sides[0].largest(), pair.sides[1].largest());
            assert!(pair.warning.unwrap().contains("1000000 ns"));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_histogram() {
        let values: Vec<u64> = (1..1_000).map(|n| n * n * 31).collect();
        let histogram = {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).unwrap();
            values
                .iter()
                .for_each(|value| histogram.record(*value).unwrap());
            histogram
        };
        let one = series(3, 1 << 40, &values);
        let pair = Pair::of(&one, &one).unwrap();
        for quantile in [0.0, 0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let found = pair.sides[0].at(quantile);
            assert_eq!(found, histogram.value_at_quantile(quantile), "{quantile}");
        }
        assert!(Pair::of(&one, &Series::default()).is_none());
    }
}
