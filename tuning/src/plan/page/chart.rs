//! A need that grows towards its limit, as SVG.
//!
//! Here: one drawing. Not here: what is drawn (`page`).
//!
//! A drawing has no background of its own, and colours that can be read on a light page and on a dark one.

use std::io;

use plotters::prelude::{
    ChartBuilder, Circle, Color, DashedLineSeries, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    IntoTextStyle, LineSeries, RGBColor, SVGBackend,
};

/// What is drawn.
#[derive(Debug)]
pub(super) struct Line {
    /// Sessions and need.
    pub(super) points: Vec<(f64, f64)>,
    /// What there is.
    pub(super) limit: f64,
    /// The plan.
    pub(super) mark: (f64, f64),
}

/// A drawing with the unit of its need.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) line: Line,
    pub(super) unit: fn(f64) -> String,
    /// What one step of the axis is a round number of: a gibibyte, a gigabit.
    pub(super) scale: f64,
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

    fn draw(&self, text: &mut String) -> Result<(), DrawingAreaErrorKind<io::Error>> {
        let scale = self.scale;
        let points: Vec<(f64, f64)> = self
            .line
            .points
            .iter()
            .map(|(sessions, need)| (*sessions, need / scale))
            .collect();
        let limit = self.line.limit / scale;
        let mark = (self.line.mark.0, self.line.mark.1 / scale);
        let most = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).fold(0.0, f64::max);
        let (right, high) = (most(|point| point.0), most(|point| point.1));
        // A limit far above the need would press it to the ground.
        let is_shown = limit <= high * 4.0;
        let top = if is_shown { high.max(limit) } else { high } * 1.1;
        let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin_top(12)
            .margin_right(36)
            .x_label_area_size(72)
            .y_label_area_size(128)
            .build_cartesian_2d(0.0..right.max(1.0), 0.0..top.max(1e-9))?;
        let style = ("sans-serif", 24)
            .into_font()
            .color(&TEXT)
            .into_text_style(&root);
        chart
            .configure_mesh()
            .x_desc("sessions of the relay")
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&|value| super::count(*value))
            .y_label_formatter(&|value| (self.unit)(*value * scale))
            .bold_line_style(GRID.mix(0.4))
            .light_line_style(GRID.mix(0.0))
            .axis_style(GRID)
            .label_style(style.clone())
            .axis_desc_style(style)
            .draw()?;
        chart.draw_series(LineSeries::new(
            points.iter().copied(),
            NEED.stroke_width(3),
        ))?;
        if is_shown {
            let ends = [(0.0, limit), (right, limit)];
            let style = LIMIT.stroke_width(3);
            chart.draw_series(DashedLineSeries::new(ends, 10, 6, style))?;
        }
        chart.draw_series([Circle::new(mark, 7, NEED.filled())])?;
        root.present()
    }
}

/// Units of the drawing.
const SIZE: (u32, u32) = (760, 400);

// Colours that people who see few colours can tell apart (Okabe and Ito).
const NEED: RGBColor = RGBColor(0x38, 0x8b, 0xc8);
const LIMIT: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const TEXT: RGBColor = RGBColor(0x80, 0x84, 0x88);
const GRID: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
