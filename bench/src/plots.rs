//! The figures as bars, one file for each group of figures.
//!
//! Here: bars of medians with their spread. Not here: what they mean (`report`).
//!
//! A drawing has no background of its own, and colours that can be read on a light page and on a dark one.

use std::fs;
use std::io;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Color, DrawingAreaErrorKind, IntoDrawingArea,
    IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::Results;
use crate::proxies::Contender;
use crate::report::short;

/// A file: its name, its title, and which figure it shows.
const PLOTS: [(&str, &str, &str); 6] = [
    (
        "bulk-cpu",
        "Processor seconds a GB, 16 streams of 16 KiB",
        "bulk: relay CPU",
    ),
    (
        "messages-cpu",
        "Processor nanoseconds a message of 64 B, 16 streams",
        "64 B messages: relay CPU",
    ),
    (
        "ping-pong-cpu",
        "Processor microseconds a message of 64 B, 64 streams there and back",
        "ping-pong 64: relay CPU",
    ),
    (
        "ping-pong-p50",
        "Round trip of 64 B alone, microseconds, median",
        "ping-pong 1: round trip p50",
    ),
    (
        "ping-pong-p999",
        "Round trip of 64 B on 64 streams, microseconds, 99.9 %",
        "ping-pong 64: round trip p99.9",
    ),
    (
        "idle-memory",
        "Bytes of memory an idle session or connection",
        "4,000 idle: memory of the process",
    ),
];

/// Draws what there is into `directory`, which is made if need be.
///
/// # Errors
/// When a file cannot be written.
pub fn write(results: &Results, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, title, figure) in PLOTS {
        let bars: Vec<Bar> = Contender::ALL
            .into_iter()
            .filter_map(|contender| Bar::of(results, figure, contender))
            .collect();
        if !bars.is_empty() {
            let text = svg(title, &bars).map_err(io::Error::other)?;
            fs::write(directory.join(format!("{name}.svg")), text)?;
        }
    }
    Ok(())
}

/// One contender.
#[derive(Debug, Clone, Copy)]
struct Bar {
    contender: Contender,
    median: f64,
    spread: (f64, f64),
}

impl Bar {
    fn of(results: &Results, figure: &str, contender: Contender) -> Option<Self> {
        let samples = results.find(figure, contender.name())?;
        Some(Self {
            contender,
            median: samples.median()?,
            spread: samples.spread()?,
        })
    }
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Returns a drawing of `bars`, one below the other.
fn svg(title: &str, bars: &[Bar]) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let mut text = String::new();
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let size = (WIDTH, TITLE + rows.saturating_mul(ROW));
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let largest = bars.iter().map(|bar| bar.spread.1).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&root)
            .margin_top(TITLE)
            .margin_left(LEFT)
            .margin_right(RIGHT)
            .build_cartesian_2d(0.0..largest.max(f64::MIN_POSITIVE), f64::from(rows)..0.0)?;
        root.draw(&Text::new(title, (8, place(TITLE / 2)), font(HPos::Left)))?;
        for (row, bar) in (0..rows).zip(bars) {
            draw(&mut chart, bar, f64::from(row))?;
            let middle = place(TITLE + ROW * row + ROW / 2);
            let name = (place(LEFT - 10), middle);
            root.draw(&Text::new(bar.contender.name(), name, font(HPos::Right)))?;
            let value = (place(WIDTH - RIGHT + 10), middle);
            root.draw(&Text::new(short(bar.median), value, font(HPos::Left)))?;
        }
        root.present()?;
    }
    Ok(text)
}

fn draw(chart: &mut Chart<'_>, bar: &Bar, row: f64) -> Drawn {
    let color = match bar.contender {
        Contender::Ringway => OURS,
        Contender::Pipe => FLOOR,
        _ => THEIRS,
    };
    let corners = [(0.0, row + 0.2), (bar.median, row + 0.8)];
    chart.draw_series([Rectangle::new(corners, color.filled())])?;
    let (from, to) = bar.spread;
    let line = vec![(from, row + 0.5), (to, row + 0.5)];
    chart.draw_series([PathElement::new(line, SPREAD.stroke_width(2))])?;
    for end in [from, to] {
        let tick = vec![(end, row + 0.35), (end, row + 0.65)];
        chart.draw_series([PathElement::new(tick, SPREAD.stroke_width(2))])?;
    }
    Ok(())
}

/// Returns how a text is set whose middle left or right is at its place.
fn font<'a>(side: HPos) -> TextStyle<'a> {
    let style = TextStyle::from(("sans-serif", 15).into_font());
    style.color(&TEXT).pos(Pos::new(side, VPos::Center))
}

/// Returns where something of so many drawing units is.
fn place(units: u32) -> i32 {
    i32::try_from(units).unwrap_or(i32::MAX)
}

/// Colours that are told apart by people who see few (Okabe and Ito), on a light page and on a dark one.
const OURS: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const FLOOR: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const THEIRS: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
const SPREAD: RGBColor = RGBColor(0x80, 0x80, 0x80);
const TEXT: RGBColor = RGBColor(0x80, 0x80, 0x80);

const WIDTH: u32 = 760;
/// Height of the title.
const TITLE: u32 = 36;
/// Height of a bar with the room around it.
const ROW: u32 = 34;
/// Room for the names of contenders.
const LEFT: u32 = 130;
/// Room for the medians.
const RIGHT: u32 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        for (_, _, figure) in PLOTS {
            for (contender, value) in [(Contender::Ringway, 1.5), (Contender::Haproxy, 3.25)] {
                for times in [0.9, 1.0, 1.2] {
                    results.push(figure, contender.name(), value * times);
                }
            }
        }
        results
    }

    #[test]
    fn every_plot_shows_a_figure_that_is_measured() {
        for (_, _, figure) in PLOTS {
            let mut all = crate::contest::figures();
            assert!(all.any(|it| it.name == figure), "{figure}");
        }
    }

    #[test]
    fn bars_have_names_medians_and_lengths() {
        let directory = std::env::temp_dir().join(format!("plots-{}", std::process::id()));
        write(&results(), &directory).unwrap();
        let text = fs::read_to_string(directory.join("bulk-cpu.svg")).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        for part in ["ringway", "HAProxy", "1.50", "3.25", "16 KiB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The longest spread ends at the right edge, bars are as long as their medians.
        let room = f64::from(WIDTH - LEFT - RIGHT);
        let longest = 3.25 * 1.2;
        let bars = text.lines().filter(|line| line.starts_with("<rect"));
        let widths = bars.filter_map(|line| line.split("width=\"").nth(1)?.split('"').next());
        let widths: Vec<f64> = widths.filter_map(|width| width.parse().ok()).collect();
        assert_eq!(widths.len(), 2, "{text}");
        for (value, width) in [1.5, 3.25].into_iter().zip(widths) {
            assert!((room * value / longest - width).abs() < 2.0, "{text}");
        }
    }

    #[test]
    fn nothing_measured_draws_nothing() {
        let directory = std::env::temp_dir().join(format!("no-plots-{}", std::process::id()));
        write(&Results::default(), &directory).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir_all(&directory).unwrap();
    }
}
