//! Intervals of differences between percentiles, by a block bootstrap.
//!
//! Here: resampling. Not here: what is compared (`diff`).
//!
//! Neighbouring intervals of a run resemble each other: a stall or a noisy neighbour lasts longer than
//! one. Drawing single intervals would call such a stretch many independent observations and find
//! everything significant. So neighbours are added to blocks, and whole blocks are drawn. Few blocks
//! underestimate their spread: the interval is widened as Student's distribution is wider than a normal.

use hdrhistogram::Histogram;

use crate::report::float;

/// A block: values and how often each was seen.
type Block = Vec<(u64, u64)>;

/// Returns the 95 % intervals, in percent, of the difference of `b` to `a` at each quantile; none when
/// there are too few intervals to tell.
pub(super) fn intervals(
    a: &[Histogram<u64>],
    b: &[Histogram<u64>],
    quantiles: &[f64],
) -> Option<Vec<[f64; 2]>> {
    let (a, b) = (blocks(a)?, blocks(b)?);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut logs: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); quantiles.len()];
    let (one, other) = (Drawn::new(a), Drawn::new(b));
    for _ in 0..RESAMPLES {
        let (x, y) = (
            one.draw(&mut random, quantiles),
            other.draw(&mut random, quantiles),
        );
        for (log, (x, y)) in logs.iter_mut().zip(x.into_iter().zip(y)) {
            log.push((float(y.max(1)) / float(x.max(1))).ln());
        }
    }
    let few = float(one.blocks.min(other.blocks) as u64);
    let widen = (few / (few - 1.0)).sqrt() * (1.0 + 1.5 / (few - 1.0));
    let spans = logs.into_iter().map(|mut log| {
        log.sort_by(f64::total_cmp);
        let at = |index: usize| log.get(index).copied().unwrap_or(0.0);
        let (low, mid, high) = (
            at(RESAMPLES / 40),
            at(RESAMPLES / 2),
            at(RESAMPLES - 1 - RESAMPLES / 40),
        );
        [low, high].map(|end| ((mid + (end - mid) * widen).exp() - 1.0) * 100.0)
    });
    Some(spans.collect())
}

/// Adds neighbours; none when too few blocks are left.
fn blocks(intervals: &[Histogram<u64>]) -> Option<Vec<Block>> {
    let count = intervals.len();
    let root = (1..count).find(|n| n * n * n >= count).unwrap_or(1);
    let length = root.min(count / BLOCKS_MIN).max(count.div_ceil(BLOCKS_MAX));
    if count / length.max(1) < BLOCKS_MIN {
        return None;
    }
    let block = |part: &[Histogram<u64>]| {
        let mut values: Block = part
            .iter()
            .flat_map(|h| h.iter_recorded())
            .map(|v| (v.value_iterated_to(), v.count_at_value()))
            .collect();
        values.sort_unstable();
        values
    };
    Some(intervals.chunks(length).map(block).collect())
}

/// Blocks over the list of all values, so that a resample is a sum of counts.
struct Drawn {
    values: Vec<u64>,
    /// Values by place, their block, their count.
    cells: Vec<(usize, usize, u64)>,
    blocks: usize,
}

impl Drawn {
    fn new(blocks: Vec<Block>) -> Self {
        let mut values: Vec<u64> = blocks.iter().flatten().map(|cell| cell.0).collect();
        values.sort_unstable();
        values.dedup();
        let mut cells = Vec::new();
        for (number, block) in blocks.iter().enumerate() {
            for (value, count) in block {
                let place = values.binary_search(value).unwrap_or_else(|place| place);
                cells.push((place, number, *count));
            }
        }
        Self {
            values,
            cells,
            blocks: blocks.len(),
        }
    }

    fn draw(&self, random: &mut fastrand::Rng, quantiles: &[f64]) -> Vec<u64> {
        let mut weights = vec![0_u64; self.blocks];
        for _ in 0..self.blocks {
            weights[random.usize(..self.blocks)] += 1;
        }
        let mut counts = vec![0_u64; self.values.len()];
        for (place, block, count) in &self.cells {
            let more = weights[*block].saturating_mul(*count);
            counts[*place] = counts[*place].saturating_add(more);
        }
        let total: f64 = counts.iter().map(|count| float(*count)).sum();
        let mut found = Vec::with_capacity(quantiles.len());
        let mut before = 0.0;
        let mut cells = counts.iter().zip(&self.values).peekable();
        for quantile in quantiles {
            let want = (quantile * total).ceil().max(1.0);
            while let Some((count, _)) = cells.peek() {
                if before + float(**count) >= want {
                    break;
                }
                before += float(**count);
                cells.next();
            }
            let value = cells.peek().map(|(_, value)| **value);
            found.push(value.or_else(|| self.values.last().copied()).unwrap_or(0));
        }
        found
    }
}

/// Fewer blocks than this say nothing about their spread.
const BLOCKS_MIN: usize = 8;
/// More make a resample dearer, not better.
const BLOCKS_MAX: usize = 64;
/// Enough for a percentile of 2.5 %.
const RESAMPLES: usize = 400;
/// The same inputs give the same intervals.
const SEED: u64 = 1;
