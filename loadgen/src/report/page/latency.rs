//! Times: percentiles of the whole run, and how they lay over it.
//!
//! Here: the axis of nines, the heat map and its colours, the percentiles of each column. Not here: drawing
//! (`page::chart`).

use plotters::prelude::RGBColor;

use super::axis::Axis;
use super::chart::{BLUE, Cell, Chart, GRAY, GREEN, Line, ORANGE, VERMILION};
use super::html;
use super::over_time::{self, Series};
use crate::latency::{Latencies, Times};
use crate::recording::condensed::{Column, Condensed, Spread, bucket_start};
use crate::report::{float, format};

/// From few to many; even steps of lightness (viridis). `page/style.css` turns them round in the dark.
pub(super) const HEAT: [RGBColor; 10] = [
    RGBColor(0xbd, 0xdf, 0x26),
    RGBColor(0x7a, 0xd1, 0x51),
    RGBColor(0x44, 0xbf, 0x70),
    RGBColor(0x22, 0xa8, 0x84),
    RGBColor(0x21, 0x91, 0x8c),
    RGBColor(0x2a, 0x78, 0x8e),
    RGBColor(0x35, 0x5f, 0x8d),
    RGBColor(0x41, 0x44, 0x87),
    RGBColor(0x48, 0x24, 0x75),
    RGBColor(0x44, 0x01, 0x54),
];

/// Points of a line for each nine.
const POINTS_PER_NINE: u32 = 40;
const HEIGHT: u32 = 640;

/// Returns the three histograms by name, as far as they have values.
pub(super) fn named(latencies: &Latencies) -> Vec<(&'static str, &Times, RGBColor)> {
    [
        ("response", &latencies.response, BLUE),
        ("service", &latencies.service, ORANGE),
        ("lag", &latencies.lag, GRAY),
    ]
    .into_iter()
    .filter(|(_, times, _)| times.count() > 0)
    .collect()
}

/// Returns the percentiles of the run.
pub(super) fn percentiles(latencies: &Latencies) -> String {
    let named = named(latencies);
    let most = named.iter().map(|(_, times, _)| times.count()).max();
    let Some(most) = most else {
        return html::sentence("No times were measured.");
    };
    let summaries = named
        .iter()
        .map(|(name, times, _)| (*name, times.summary()));
    // Most lags are nanoseconds that nobody needs to see.
    let lows = summaries.clone().map(|(name, it)| match name {
        "lag" => it.p90_ns,
        _ => it.min_ns,
    });
    let high = summaries.map(|(_, it)| it.max_ns).max().unwrap_or(1);
    let y = Axis::times(float(lows.min().unwrap_or(1)), float(high));
    let lines = named.iter().map(|(name, times, color)| Line {
        name: (*name).to_owned(),
        color: *color,
        parts: vec![
            points(times)
                .into_iter()
                .filter(|(_, time)| *time >= y.low())
                .collect(),
        ],
    });
    let chart = Chart {
        height: HEIGHT,
        x: Axis::nines(float(most).log10()),
        lines: lines.collect(),
        y,
        cells: Vec::new(),
    };
    html::chart("Latency by percentile", &chart)
}

/// Returns the line of a histogram up to the percentile that its count can tell.
fn points(times: &Times) -> Vec<(f64, f64)> {
    let end = float(times.count()).log10().max(2.0);
    let step = 1.0 / f64::from(POINTS_PER_NINE);
    let mut points: Vec<(f64, f64)> = (0..12 * POINTS_PER_NINE)
        .map(|number| f64::from(number) * step)
        .take_while(|nines| *nines < end)
        .map(|nines| (nines, 1.0 - 10_f64.powf(-nines)))
        .map(|(nines, quantile)| (nines, logarithm(times.quantile(quantile).as_nanos())))
        .collect();
    points.push((end, logarithm(times.quantile(1.0).as_nanos())));
    points
}

fn logarithm(nanos: u128) -> f64 {
    float(u64::try_from(nanos).unwrap_or(u64::MAX).max(1)).log10()
}

/// Returns the heat map, then the percentiles below it.
pub(super) fn over_time(condensed: &Condensed) -> String {
    let latencies = &condensed.latencies;
    let (name, of): (_, fn(&Column) -> &Spread) = if latencies.response.count() > 0 {
        ("response", |column| &column.response)
    } else if latencies.service.count() > 0 {
        ("service", |column| &column.service)
    } else {
        return html::sentence("No times were measured.");
    };
    let marks: [(&str, RGBColor, usize); 3] = [
        ("maximum", VERMILION, 2),
        ("99 %", BLUE, 1),
        ("median", GREEN, 0),
    ];
    let series = marks.map(|(mark, color, place)| {
        Series::new(mark, color, move |column| {
            let nanos = of(column).marks?[place];
            Some(logarithm(u128::from(nanos)))
        })
    });
    let spans = condensed
        .columns
        .iter()
        .filter_map(|column| of(column).marks);
    let (low, high) = spans.fold((u64::MAX, 1), |(low, high), marks| {
        (low.min(marks[0]), high.max(marks[2]))
    });
    let axis = Axis::times(float(low), float(high));
    let lines = over_time::chart(condensed, axis, &series);
    format!(
        "<h3>How many had which {name} time</h3>\n{}<h3>Median, 99 % and maximum {name} time</h3>\n{lines}",
        heat(condensed, of)
    )
}

fn heat(condensed: &Condensed, of: fn(&Column) -> &Spread) -> String {
    let columns = || condensed.columns.iter().map(|column| (column, of(column)));
    let buckets = || columns().flat_map(|(_, spread)| &spread.buckets);
    let (Some(low), Some(high), Some(most)) = (
        buckets().map(|(bucket, _)| *bucket).min(),
        buckets().map(|(bucket, _)| *bucket).max(),
        buckets().map(|(_, count)| *count).max(),
    ) else {
        return html::sentence("No times were measured.");
    };
    let mut cells: Vec<Cell> = Vec::new();
    for (column, spread) in columns() {
        let start = column.row.start_seconds;
        let end = start + column.row.length_seconds;
        let first = cells.len();
        for (bucket, count) in &spread.buckets {
            let (bottom, top) = (
                bucket_start(*bucket).log10(),
                bucket_start(bucket + 1).log10(),
            );
            let color = HEAT[level(*count, most)];
            // Neighbours of one colour are one rectangle.
            match cells[first..].last_mut() {
                Some(cell) if cell.color == color && (cell.to.1 - bottom).abs() < 1e-9 => {
                    cell.to.1 = top;
                }
                _ => cells.push(Cell {
                    from: (start, bottom),
                    to: (end, top),
                    color,
                }),
            }
        }
    }
    let chart = Chart {
        height: HEIGHT,
        x: Axis::time(condensed.seconds()),
        y: Axis::times(bucket_start(low), bucket_start(high + 1)),
        cells,
        lines: Vec::new(),
    };
    legend(most) + &html::figure("Latency over time as a heat map", &chart.svg())
}

/// Returns the colour of a count, of which the largest is `most`: each colour is the same factor more.
fn level(count: u64, most: u64) -> usize {
    let share = if most <= 1 {
        1.0
    } else {
        float(count.max(1)).ln() / float(most).ln()
    };
    let last = HEAT.len() - 1;
    (0..last)
        .find(|level| share < float(u64::try_from(level + 1).unwrap_or(1)) / float(10))
        .unwrap_or(last)
}

fn legend(most: u64) -> String {
    if most <= 1 {
        return html::sentence("Each cell has one.");
    }
    let swatches: String = HEAT
        .iter()
        .map(|color| format!("<i class=\"{}\"></i>", html::class(*color)))
        .collect();
    format!(
        "<p class=\"legend heat\"><span>1</span>{swatches}<span>{} in one cell; each colour is {} times \
         the one before</span></p>\n",
        format::whole(most),
        format::plain(float(most).powf(0.1))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_have_the_ends_of_the_colours() {
        assert_eq!((level(1, 1_000_000), level(1_000_000, 1_000_000)), (0, 9));
        assert_eq!(level(1_000, 1_000_000), 5);
        assert_eq!(level(1, 1), 9);
        assert_eq!(level(0, 0), 9);
    }

    #[test]
    fn a_line_ends_where_its_count_does() {
        let mut times = Times::new();
        for value in 1..=1_000 {
            times.record(std::time::Duration::from_micros(value));
        }
        let points = points(&times);
        let (nines, log) = points[points.len() - 1];
        assert!((nines - 3.0).abs() < 1e-9, "{nines}");
        assert!((log - 6.0).abs() < 1e-3, "{log}");
        assert!(
            points
                .windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
        );
    }

    #[test]
    fn the_style_sheet_knows_all_colours() {
        let sheet = include_str!("style.css");
        for color in HEAT {
            assert!(
                sheet.contains(&format!(".{}", html::class(color))),
                "{color:?}"
            );
        }
    }
}
