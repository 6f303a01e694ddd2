//! Charts: axes, lines and cells as SVG.
//!
//! Here: one drawing. Not here: what is drawn (`page::over_time`, `page::latency`).
//!
//! Colours stand in the drawing as those of a light page; the style sheet replaces each in the dark. All
//! charts have the same width and margins, so that equal times stand one below the other.
//! Units: drawing units, of which a page shows two as one pixel: they are whole numbers.

use plotters::prelude::{
    AreaSeries, ChartBuilder, Color, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    IntoTextStyle, PathElement, RGBColor, Rectangle, SVGBackend,
};

use super::axis::Axis;

/// Colours that people who see few colours can tell apart (Okabe and Ito); `page/style.css` has those for
/// the dark.
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
pub(super) const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
pub(super) const SKY: RGBColor = RGBColor(0x56, 0xb4, 0xe9);
pub(super) const PURPLE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
pub(super) const GRAY: RGBColor = RGBColor(0x6b, 0x6b, 0x6b);
const TEXT: RGBColor = RGBColor(0x4a, 0x4a, 0x4a);
const AXIS: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const GRID_MINOR: RGBColor = RGBColor(0xf0, 0xf0, 0xf0);

const WIDTH: u32 = 1_840;
const LEFT: u32 = 150;
const BOTTOM: u32 = 56;
const RIGHT: u32 = 56;
const TOP: u32 = 20;
/// Makes texts of 12 pixels.
const FONT_SIZE: u32 = 30;
const LINE_WIDTH: u32 = 4;

/// A line in a chart.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) color: RGBColor,
    /// Parts without a gap.
    pub(super) parts: Vec<Vec<(f64, f64)>>,
}

/// A rectangle in a chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) from: (f64, f64),
    pub(super) to: (f64, f64),
    pub(super) color: RGBColor,
}

/// A chart.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) height: u32,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) cells: Vec<Cell>,
    pub(super) lines: Vec<Line>,
}

impl Chart {
    /// Returns the drawing.
    pub(super) fn svg(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        match self.draw(&mut text) {
            Ok(()) => text,
            Err(error) => format!("<p>cannot draw: {error}</p>"),
        }
    }

    fn draw(&self, text: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let root = SVGBackend::with_string(text, (WIDTH, self.height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(TOP)
            .margin_right(RIGHT)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let font = ("sans-serif", FONT_SIZE)
            .into_font()
            .color(&TEXT)
            .into_text_style(&root);
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .light_line_style(GRID_MINOR.stroke_width(2))
            .axis_style(AXIS.stroke_width(2))
            .label_style(font)
            .draw()?;
        chart.draw_series(
            self.cells
                .iter()
                .map(|cell| Rectangle::new([cell.from, cell.to], cell.color.filled())),
        )?;
        let is_alone = self.lines.len() == 1 && self.cells.is_empty();
        for line in &self.lines {
            for part in &line.parts {
                if is_alone {
                    let area = line.color.mix(0.15);
                    chart.draw_series(AreaSeries::new(part.clone(), self.y.low(), area))?;
                }
                let stroke = line.color.stroke_width(LINE_WIDTH);
                chart.draw_series([PathElement::new(part.clone(), stroke)])?;
            }
        }
        root.present()
    }
}

/// Returns a colour as CSS writes it.
pub(super) fn css(color: RGBColor) -> String {
    let RGBColor(red, green, blue) = color;
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(parts: Vec<Vec<(f64, f64)>>) -> Chart {
        Chart {
            height: 400,
            x: Axis::time(10.0),
            y: Axis::linear(5.0, true, |at| format!("{at:.0} <&>")),
            cells: Vec::new(),
            lines: vec![Line {
                name: "a".into(),
                color: BLUE,
                parts,
            }],
        }
    }

    #[test]
    fn a_drawing_has_its_lines_and_ticks_and_no_open_text() {
        let svg = chart(vec![
            vec![(0.0, 1.0), (5.0, 1.0)],
            vec![(6.0, 2.0), (7.0, 2.0)],
        ])
        .svg();
        assert!(
            svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        let lines = svg.matches(&format!("stroke=\"{}\"", css(BLUE))).count();
        assert_eq!(lines, 2, "{svg}");
        assert!(svg.contains("5 &lt;&amp;&gt;"), "{svg}");
        assert!(svg.contains("10 s"), "{svg}");
    }

    #[test]
    fn what_lies_outside_stays_in_the_frame() {
        let svg = chart(vec![vec![(-1e300, -1e300), (1e300, 1e300)]]).svg();
        assert!(!svg.contains("2147483647"), "{svg}");
    }

    /// A colour that the style sheet does not know would stay as it is in the dark.
    #[test]
    fn the_style_sheet_knows_all_colours() {
        let sheet = include_str!("style.css");
        let lines = [BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GRAY];
        for color in lines.into_iter().chain([TEXT, AXIS, GRID, GRID_MINOR]) {
            assert!(sheet.contains(&css(color)), "{}", css(color));
        }
    }
}
