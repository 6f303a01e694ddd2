//! Percentiles as text: `.hgrm`, which the plotters of `HdrHistogram` read.
//!
//! Here: the format. Not here: files (`recording`).
//!
//! Values are milliseconds. Source of the format: `HdrHistogram` (Java),
//! `AbstractHistogram.outputPercentileDistribution`; its web page `plotFiles.html` takes these files.

use std::fmt::Write as _;

use crate::latency::Times;

/// Lines for each halving of the distance to 100 %.
const TICKS: u32 = 5;
const NANOS_PER_MILLI: f64 = 1e6;

/// Returns the text of a histogram.
#[must_use]
pub fn text(times: &Times) -> String {
    let histogram = times.histogram();
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for value in histogram.iter_quantiles(TICKS) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let millis = millis(value.value_iterated_to());
        // The last line has no distance to 100 %.
        let distance = if quantile < 1.0 {
            format!(" {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            String::new()
        };
        let _cannot_fail = writeln!(out, "{millis:12.3} {quantile:2.12} {total:10}{distance}");
    }
    let _cannot_fail = write!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / NANOS_PER_MILLI,
        histogram.stdev() / NANOS_PER_MILLI,
        millis(histogram.max()),
        histogram.len(),
        BUCKETS,
        SUB_BUCKETS,
    );
    out
}

/// Buckets and their parts, for three digits from 1 ns to a minute: the first bucket ends at 2,048 ns,
/// each next one doubles.
const BUCKETS: u32 = 26;
const SUB_BUCKETS: u32 = 2_048;

fn millis(nanos: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
    let nanos = nanos as f64;
    nanos / NANOS_PER_MILLI
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_end_with_all_values() {
        let mut times = Times::new();
        for value in 1..=1_000 {
            times.record(Duration::from_micros(value));
        }
        let text = text(&times);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "       Value     Percentile TotalCount 1/(1-Percentile)"
        );
        assert_eq!(
            lines[2],
            "       0.001 0.000000000000          1           1.00"
        );
        let last = lines.iter().rfind(|line| !line.starts_with('#')).unwrap();
        assert_eq!(*last, "       1.000 1.000000000000       1000");
        assert!(
            text.contains("#[Max     =        1.000, Total count    =         1000]"),
            "{text}"
        );
        // Half of the values are at most half a millisecond.
        assert!(
            text.contains("       0.500 0.500000000000        500           2.00"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_a_table_without_lines() {
        let text = text(&Times::new());
        assert!(text.contains("Total count    =            0"));
    }
}
