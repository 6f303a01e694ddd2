//! The live view as cells of a terminal.
//!
//! Here: which parts fit, and their lines. Not here: what they say (`live`).
//!
//! Parts are left out from the least to the most important until the rest fits; what room is left goes to
//! the throughput and to the remarks.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Gauge, Sparkline, Widget};

use super::View;
use crate::latency::Summary;
use crate::report::{float, format};
use crate::run::Progress;

/// A part of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Title,
    Target,
    Done,
    Rate,
    Rates,
    Counts,
    /// Of the last interval, and of the whole run beside it if the terminal is wide.
    Times,
    WholeTimes,
    Sockets,
    Server,
    Remarks,
}

/// Parts from top to bottom: how many lines each needs, and how important it is (0 is most).
const PARTS: [(Part, u16, u8); 11] = [
    (Part::Title, 1, 0),
    (Part::Target, 1, 8),
    (Part::Done, 1, 1),
    (Part::Rate, 1, 2),
    (Part::Rates, 1, 9),
    (Part::Counts, 1, 3),
    (Part::Times, 4, 4),
    (Part::WholeTimes, 4, 7),
    (Part::Sockets, 2, 5),
    (Part::Server, 1, 6),
    (Part::Remarks, 1, 10),
];

/// Lines of bars that are enough.
const BARS_MAX: u16 = 8;
/// Columns from which the times of the last interval and of the run stand side by side.
const WIDE: u16 = 118;
const NAME_WIDTH: u16 = 11;
const CELL_WIDTH: u16 = 9;
/// Before the second block of times.
const BLOCK_WIDTH: u16 = 60;

const KEYS: &str = "q ends the run";
const SOFT: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const BAR: Style = Style::new().fg(Color::Cyan);

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let inside = Rect {
            x: area.x + u16::from(area.width > 60),
            width: area.width.saturating_sub(2 * u16::from(area.width > 60)),
            ..area
        };
        let mut top = inside.y;
        for (part, height, has_gap) in fitting(inside) {
            top += u16::from(has_gap);
            let place = Rect {
                y: top,
                height,
                ..inside
            };
            self.part(part, place, buffer);
            top += height;
        }
    }
}

/// Returns the parts that fit, with their heights and whether an empty line stands before them.
fn fitting(area: Rect) -> Vec<(Part, u16, bool)> {
    let is_wide = area.width >= WIDE;
    let mut wanted: Vec<_> = PARTS
        .into_iter()
        .filter(|(part, _, _)| !(is_wide && *part == Part::WholeTimes))
        .collect();
    wanted.sort_by_key(|(_, _, rank)| *rank);
    let mut left = area.height;
    let mut chosen: Vec<Part> = Vec::new();
    for (part, height, _) in wanted {
        if height <= left {
            left -= height;
            chosen.push(part);
        }
    }
    let mut parts: Vec<(Part, u16, bool)> = PARTS
        .into_iter()
        .filter(|(part, _, _)| chosen.contains(part))
        .map(|(part, height, _)| (part, height, false))
        .collect();
    // First the gaps that make it readable, then bars, then remarks.
    for part in &mut parts {
        let begins = matches!(
            part.0,
            Part::Rate | Part::Times | Part::WholeTimes | Part::Sockets | Part::Remarks
        );
        if begins && left > 0 {
            part.2 = true;
            left -= 1;
        }
    }
    for (part, most) in [(Part::Rates, BARS_MAX - 1), (Part::Remarks, u16::MAX)] {
        if let Some(found) = parts.iter_mut().find(|(other, _, _)| *other == part) {
            let more = left.min(most);
            found.1 += more;
            left -= more;
        }
    }
    parts
}

impl View {
    fn part(&self, part: Part, place: Rect, buffer: &mut Buffer) {
        match part {
            Part::Title => self.title(place, buffer),
            Part::Target => Line::styled(self.target.as_str(), SOFT).render(place, buffer),
            Part::Done => {
                let (share, text) = self.done();
                Gauge::default()
                    .ratio(share)
                    .label(text)
                    .gauge_style(Style::new().fg(Color::Cyan).bg(Color::Black))
                    .render(place, buffer);
            }
            Part::Rate => self.rate().render(place, buffer),
            Part::Rates => self.rates(place, buffer),
            Part::Counts => self.counts().render(place, buffer),
            Part::Times => {
                times("last second", &self.last, place, buffer);
                if place.width >= WIDE {
                    let place = Rect {
                        x: place.x + BLOCK_WIDTH,
                        width: place.width - BLOCK_WIDTH,
                        ..place
                    };
                    times("whole run", &self.whole, place, buffer);
                }
            }
            Part::WholeTimes => times("whole run", &self.whole, place, buffer),
            Part::Sockets => self.sockets(place, buffer),
            Part::Server => self.server().render(place, buffer),
            Part::Remarks => {
                let lines = usize::from(place.height);
                let first = self.remarks.len().saturating_sub(lines);
                let shown = self.remarks.iter().skip(first);
                for (remark, row) in shown.zip(place.rows()) {
                    Line::raw(remark.as_str()).render(row, buffer);
                }
            }
        }
    }

    fn title(&self, place: Rect, buffer: &mut Buffer) {
        Line::styled(self.title.as_str(), STRONG).render(place, buffer);
        let width = u16::try_from(KEYS.len()).unwrap_or(u16::MAX);
        if usize::from(place.width) >= self.title.len() + KEYS.len() + 2 {
            let place = Rect {
                x: place.right() - width,
                width,
                ..place
            };
            Line::styled(KEYS, SOFT).render(place, buffer);
        }
    }

    fn rate(&self) -> Line<'_> {
        let Some(rate) = self.rates.back() else {
            return Line::styled("not counting yet", SOFT);
        };
        let what = if self.progress.messages > 0 {
            "messages/s".to_owned()
        } else {
            format!("{}/s", self.rounds)
        };
        let mut spans = vec![
            Span::styled(format::short(float(*rate)), STRONG),
            Span::raw(format!(" {what}")),
        ];
        if self.bytes_per_second > 0.0 {
            let bytes = format::bytes(self.bytes_per_second);
            spans.push(Span::raw(format!("   {bytes}/s")));
        }
        if let Some(most) = self.rates.iter().max() {
            let most = format::short(float(*most));
            spans.push(Span::styled(format!("   at most {most}"), SOFT));
        }
        Line::from(spans)
    }

    fn rates(&self, place: Rect, buffer: &mut Buffer) {
        let columns = usize::from(place.width);
        let first = self.rates.len().saturating_sub(columns);
        let shown = self.rates.iter().skip(first).copied();
        Sparkline::default()
            .data(shown.collect::<Vec<u64>>())
            .style(BAR)
            .render(place, buffer);
    }

    fn counts(&self) -> Line<'_> {
        let Progress {
            sessions,
            streams,
            failures,
            ..
        } = self.progress;
        let mut spans = vec![Span::raw(format!("{} {sessions}   ", self.sessions))];
        if streams > 0 {
            spans.push(Span::raw(format!("streams {streams}   ")));
        }
        let style = if failures > 0 { BAD } else { Style::new() };
        spans.push(Span::styled(format!("failures {failures}"), style));
        Line::from(spans)
    }

    fn sockets(&self, place: Rect, buffer: &mut Buffer) {
        let mut rows = place.rows();
        let Some(ledger) = &self.seen.sockets else {
            let line = Line::styled("sockets    not counted", SOFT);
            rows.next()
                .into_iter()
                .for_each(|row| line.clone().render(row, buffer));
            return;
        };
        for (name, states) in [("generator", &ledger.generator), ("server", &ledger.relay)] {
            let Some(row) = rows.next() else { return };
            let mut counts: Vec<_> = states.iter().filter(|(_, count)| **count > 0).collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let texts = counts
                .into_iter()
                .map(|(state, count)| format!("{state} {count}"));
            let counts = as_fits(texts, usize::from(place.width.saturating_sub(NAME_WIDTH)));
            let name = Span::styled(format!("{name:<10} "), SOFT);
            Line::from(vec![name, Span::raw(counts)]).render(row, buffer);
        }
    }

    fn server(&self) -> Line<'_> {
        let Some(sample) = self.seen.relay else {
            let why = if self.has_process {
                "process    not seen yet"
            } else {
                "process    unknown: give --relay-pid to see its processor time and memory"
            };
            return Line::styled(why, SOFT);
        };
        let memory = format::bytes(float(sample.rss_bytes));
        let cores = self.cores.map_or_else(String::new, |cores| {
            format!("{} cores, ", format::plain(cores))
        });
        Line::from(vec![
            Span::styled(format!("{:<10} ", "process"), SOFT),
            Span::raw(format!("{cores}{memory}")),
        ])
    }
}

/// Says that something was left out.
const MORE: &str = " ...";

/// Returns as many texts as there is room for, each as a whole: half a number is another number.
fn as_fits(texts: impl Iterator<Item = String>, width: usize) -> String {
    let mut out = String::new();
    for text in texts {
        let gap = if out.is_empty() { "" } else { "  " };
        if out.len() + gap.len() + text.len() + MORE.len() > width {
            out.push_str(MORE);
            return out;
        }
        out.push_str(gap);
        out.push_str(&text);
    }
    if out.is_empty() {
        out.push_str("no sockets");
    }
    out
}

/// Draws a table of times: as many percentiles as there is room for.
fn times(title: &str, times: &[Option<Summary>; 3], place: Rect, buffer: &mut Buffer) {
    let is_narrow = place.width < NAME_WIDTH + 5 * CELL_WIDTH;
    let columns = |summary: &Summary| {
        let all = [
            ("50 %", summary.p50_ns),
            ("90 %", summary.p90_ns),
            ("99 %", summary.p99_ns),
            ("99.9 %", summary.p999_ns),
            ("maximum", summary.max_ns),
        ];
        let shown: Vec<(&str, u64)> = all
            .into_iter()
            .filter(|(name, _)| !is_narrow || !["90 %", "99.9 %"].contains(name))
            .collect();
        shown
    };
    let mut rows = place.rows();
    let Some(row) = rows.next() else { return };
    let Some(some) = times.iter().flatten().next() else {
        Line::styled(format!("{title}: no times"), SOFT).render(row, buffer);
        return;
    };
    let width = usize::from(CELL_WIDTH);
    let mut head = format!("{title:<11}").chars().take(11).collect::<String>();
    for (name, _) in columns(some) {
        head.push_str(&format!("{name:>width$}"));
    }
    Line::styled(head, SOFT).render(row, buffer);
    let named = ["response", "service", "lag"].into_iter().zip(times);
    let shown = named.filter_map(|(name, summary)| Some((name, summary.as_ref()?)));
    for ((name, summary), row) in shown.zip(rows) {
        let mut line = format!("{name:<11}");
        for (_, nanos) in columns(summary) {
            let text = format::nanos(float(nanos));
            line.push_str(&format!("{text:>width$}"));
        }
        Line::raw(line).render(row, buffer);
    }
}
