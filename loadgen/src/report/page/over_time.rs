//! What happened when: throughput, sessions, sockets, errors, the server's processor time and memory.
//!
//! Here: one chart a subject, all over the same time. Not here: times (`page::latency`), drawing
//! (`page::chart`).

use std::collections::BTreeMap;
use std::fmt;

use plotters::prelude::RGBColor;

use super::axis::Axis;
use super::chart::{BLUE, Chart, GRAY, GREEN, Line, ORANGE, PURPLE, SKY, VERMILION};
use super::html;
use crate::recording::condensed::{Column, Condensed};
use crate::report::float;
use crate::report::format::{self, escape};

const HEIGHT: u32 = 400;

/// A value of each column, or none.
type Value = Box<dyn Fn(&Column) -> Option<f64>>;

/// A line over time.
pub(super) struct Series {
    name: String,
    color: RGBColor,
    value: Value,
}

impl Series {
    pub(super) fn new(
        name: &str,
        color: RGBColor,
        value: impl Fn(&Column) -> Option<f64> + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            color,
            value: Box::new(value),
        }
    }

    /// Returns the line: flat over each column, with a gap where a column says nothing.
    fn line(&self, columns: &[Column]) -> Line {
        let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut is_open = false;
        for column in columns {
            let Some(value) = (self.value)(column) else {
                is_open = false;
                continue;
            };
            if !is_open {
                parts.push(Vec::new());
                is_open = true;
            }
            let start = column.row.start_seconds;
            if let Some(part) = parts.last_mut() {
                part.push((start, value));
                part.push((start + column.row.length_seconds, value));
            }
        }
        Line {
            name: self.name.clone(),
            color: self.color,
            parts,
        }
    }

    fn most(&self, columns: &[Column]) -> Option<f64> {
        columns.iter().filter_map(&self.value).reduce(f64::max)
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Returns a chart of lines over time.
pub(super) fn chart(condensed: &Condensed, y: Axis, series: &[Series]) -> String {
    let chart = Chart {
        height: HEIGHT,
        x: Axis::time(condensed.seconds()),
        y,
        cells: Vec::new(),
        lines: series
            .iter()
            .map(|series| series.line(&condensed.columns))
            .collect(),
    };
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    html::chart(&format!("{} over time", names.join(", ")), &chart)
}

/// Returns a chart from zero under a title, which is HTML.
fn plain(
    condensed: &Condensed,
    title: &str,
    series: &[Series],
    is_whole: bool,
    text: fn(f64) -> String,
) -> String {
    let most = series
        .iter()
        .filter_map(|series| series.most(&condensed.columns))
        .fold(0.0, f64::max);
    let axis = Axis::linear(most, is_whole, text);
    format!("<h3>{title}</h3>\n{}", chart(condensed, axis, series))
}

fn rate(column: &Column, count: u64) -> Option<f64> {
    let seconds = column.row.length_seconds;
    (seconds > 0.0).then(|| float(count) / seconds)
}

/// Returns messages, rounds and bytes a second; `rounds` is what a round is called.
pub(super) fn throughput(condensed: &Condensed, rounds: &str) -> String {
    let [messages_count, bytes_count, rounds_count] = [
        condensed.sum(|row| row.messages),
        condensed.sum(|row| row.bytes),
        condensed.sum(|row| row.rounds),
    ];
    let mut counts = Vec::new();
    if messages_count > 0 {
        counts.push(Series::new("messages", BLUE, |column| {
            rate(column, column.row.messages)
        }));
    }
    // Where each message is a round trip, one line is enough.
    if rounds_count > 0 && rounds_count != messages_count {
        counts.push(Series::new(rounds, ORANGE, |column| {
            rate(column, column.row.rounds)
        }));
    }
    if counts.is_empty() {
        return html::sentence("Nothing was carried or made while it counted.");
    }
    let title = match (messages_count, rounds_count) {
        (_, 0) => "Messages a second".to_owned(),
        (0, _) => format!("{}{} a second", rounds[..1].to_uppercase(), &rounds[1..]),
        (messages, count) if messages == count => format!("Messages ({rounds}) a second"),
        _ => format!("Messages and {rounds} a second"),
    };
    let mut out = plain(condensed, &title, &counts, false, format::short);
    if bytes_count > 0 {
        let series = [Series::new("bytes", GREEN, |column| {
            rate(column, column.row.bytes)
        })];
        out += &plain(condensed, "Bytes a second", &series, false, |value| {
            format!("{}/s", format::bytes(value))
        });
    }
    out
}

/// Returns sessions and streams.
pub(super) fn sessions(condensed: &Condensed) -> String {
    let has_streams = condensed
        .columns
        .iter()
        .any(|column| column.row.streams > 0);
    let mut series = vec![Series::new("sessions or connections", BLUE, |column| {
        Some(f64::from(column.row.sessions))
    })];
    if has_streams {
        series.push(Series::new("streams", ORANGE, |column| {
            Some(f64::from(column.row.streams))
        }));
    }
    if series
        .iter()
        .all(|it| it.most(&condensed.columns) == Some(0.0))
    {
        return html::sentence("None was counted.");
    }
    // What comes and goes is counted when it comes.
    let title = match condensed.run["scenario"].as_str() {
        Some("churn" | "connects" | "handshakes" | "opens") => "Made since the start of the run",
        _ => "At the end of each interval",
    };
    plain(condensed, title, &series, true, format::short)
}

/// Returns sockets by state, of both sides.
pub(super) fn ports(condensed: &Condensed) -> String {
    let [server, generator] = [true, false].map(|is_server| states(condensed, is_server));
    if server.is_empty() && generator.is_empty() {
        return html::sentence(
            "Sockets were not counted: the kernel's list could not be read, or was too long to be read \
             each second.",
        );
    }
    let mut out = String::new();
    if condensed
        .columns
        .iter()
        .any(|column| column.row.sockets.is_none())
    {
        out += &html::sentence(
            "Where there is no line, sockets were not counted: the kernel's list was too long to be read \
             each second.",
        );
    }
    for (title, is_server, states) in [
        ("Generator's side (each is a local port)", false, generator),
        ("Server's side", true, server),
    ] {
        if states.is_empty() {
            out += &format!("<h3>{title}</h3>\n");
            out +=
                &html::sentence("No socket was seen: it is on another host, or they come and go.");
            continue;
        }
        let mut series: Vec<Series> = states
            .iter()
            .filter_map(|state| socket_series(state.clone(), is_server))
            .collect();
        if states.len() > series.len() {
            series.push(rest_series(is_server));
        }
        // A line that is alone has no legend.
        let title = match states.as_slice() {
            [state] => format!("{title}: {}", escape(state)),
            _ => title.to_owned(),
        };
        out += &plain(condensed, &title, &series, true, format::short);
    }
    out
}

/// Returns the states that were seen, the one with the most sockets first.
fn states(condensed: &Condensed, is_server: bool) -> Vec<String> {
    let mut most: BTreeMap<&str, u64> = BTreeMap::new();
    for column in &condensed.columns {
        for (state, count) in side(column, is_server).into_iter().flatten() {
            let known = most.entry(state).or_default();
            *known = (*known).max(*count);
        }
    }
    let mut states: Vec<(&str, u64)> = most.into_iter().filter(|(_, count)| *count > 0).collect();
    states.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    states
        .into_iter()
        .map(|(state, _)| state.to_owned())
        .collect()
}

fn side(column: &Column, is_server: bool) -> Option<&BTreeMap<String, u64>> {
    let sockets = column.row.sockets.as_ref()?;
    Some(if is_server {
        &sockets.relay
    } else {
        &sockets.generator
    })
}

/// Returns the colour of a state that has one of its own.
fn color(state: &str) -> Option<RGBColor> {
    Some(match state {
        "CLOSE_WAIT" => PURPLE,
        "ESTABLISHED" => BLUE,
        "FIN_WAIT1" => ORANGE,
        "FIN_WAIT2" => GREEN,
        "SYN_RECV" | "SYN_SENT" => SKY,
        "TIME_WAIT" => VERMILION,
        _ => return None,
    })
}

fn socket_series(state: String, is_server: bool) -> Option<Series> {
    let color = color(&state)?;
    let name = state.clone();
    Some(Series::new(&name, color, move |column| {
        side(column, is_server).map(|counts| float(counts.get(&state).copied().unwrap_or(0)))
    }))
}

fn rest_series(is_server: bool) -> Series {
    Series::new("other states", GRAY, move |column| {
        let rest = side(column, is_server)?
            .iter()
            .filter(|(state, _)| color(state).is_none());
        Some(rest.map(|(_, count)| float(*count)).sum())
    })
}

/// Returns errors a second.
pub(super) fn failures(condensed: &Condensed) -> String {
    if condensed.columns.iter().all(|column| column.failures == 0) {
        return html::sentence("No interval has an error.");
    }
    let series = [Series::new("errors", VERMILION, |column| {
        rate(column, column.failures)
    })];
    plain(condensed, "Errors a second", &series, false, format::short)
}

/// Returns the server's processor time and memory.
pub(super) fn server(condensed: &Condensed) -> String {
    let memory = |column: &Column| column.row.relay.map(|sample| float(sample.rss_bytes));
    if !condensed
        .columns
        .iter()
        .any(|column| memory(column).is_some())
    {
        return html::sentence(
            "Not measured: the run was not told the server's process (--relay-pid), or could not look \
             at it.",
        );
    }
    let cores = [Series::new("cores", BLUE, |column| column.cores)];
    let mut out = if cores[0].most(&condensed.columns).is_some() {
        plain(
            condensed,
            "Processor time, in cores",
            &cores,
            false,
            format::short,
        )
    } else {
        html::sentence("One look at the process is too few to tell its processor time.")
    };
    let memory = [Series::new("resident memory", GREEN, memory)];
    out += &plain(condensed, "Resident memory", &memory, false, format::bytes);
    out
}
