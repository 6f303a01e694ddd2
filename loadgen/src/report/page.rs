//! A result as a page: one HTML file that needs no other.
//!
//! Here: its parts and their order. Not here: reading the recording (`recording::condensed`), charts,
//! tables and words (`page/`).
//!
//! Invariant: the page follows from the files alone, so the same files make the same page, byte by byte.
//! Bound: some hundred columns, whatever the length of the run: at most a few MB.

use std::time::{Duration, UNIX_EPOCH};

use super::format::escape;
use crate::recording::condensed::{COLUMNS_MAX, Condensed};

mod axis;
mod chart;
mod facts;
mod html;
mod latency;
mod over_time;

const STYLE: &str = include_str!("page/style.css");

/// Returns the page of a recording.
#[must_use]
pub fn page(condensed: &Condensed) -> String {
    let run = &condensed.run;
    let scenario = escape(&facts::scenario(run));
    let ports = [
        facts::range(run),
        over_time::ports(condensed),
        facts::ledger(run).map_or_else(String::new, |table| {
            format!("<h3>Ledger of ports</h3>\n{table}")
        }),
    ];
    let mut parts = vec![
        ("Times of the whole run", facts::times(condensed)),
        (
            "Latency by percentile",
            latency::percentiles(&condensed.latencies),
        ),
        ("Latency over time", latency::over_time(condensed)),
        (
            "Throughput",
            over_time::throughput(condensed, facts::rounds(run)),
        ),
        ("Sessions and streams", over_time::sessions(condensed)),
        ("Ports", ports.concat()),
        (
            "Errors",
            facts::failures(run) + &over_time::failures(condensed),
        ),
        ("Server", over_time::server(condensed)),
        ("What it was measured on", facts::setting(run)),
        ("How to read this", guide(condensed)),
    ];
    if let Some(asserts) = facts::asserts(run) {
        parts.insert(0, ("Asserts", asserts));
    }
    let sections: String = parts
        .iter()
        .map(|(title, content)| html::section(title, content))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{scenario} - ringway-loadgen</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{scenario}</h1>\n<p class=\"sub\">{}</p>\n{}{}{sections}{}</main>\n</body>\n</html>\n",
        escape(&subtitle(condensed)),
        facts::verdict(condensed),
        facts::tiles(condensed),
        facts::source(run),
    )
}

/// Returns when, on what and by what.
fn subtitle(condensed: &Condensed) -> String {
    let machine = &condensed.run["machine"];
    let word = |name: &str| machine[name].as_str().map(str::to_owned);
    // What humantime cannot show is after the year 9999.
    let began = condensed
        .began
        .filter(|began| *began < Duration::from_secs(253_402_300_000))
        .map(|began| {
            let began = humantime::format_rfc3339_seconds(UNIX_EPOCH + began).to_string();
            format!("began {}", began.replace('T', " ").replace('Z', " UTC"))
        });
    let parts = [
        began,
        word("kernel").map(|kernel| format!("Linux {kernel}")),
        word("cpu"),
        machine["cores"]
            .as_u64()
            .map(|cores| format!("{cores} cores")),
        word("version").map(|version| format!("ringway-loadgen {version}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn guide(condensed: &Condensed) -> String {
    let columns = condensed.columns.len();
    let each = condensed.intervals.div_ceil(COLUMNS_MAX);
    let merged = if each > 1 {
        format!(
            " The run has {} intervals; up to {each} of them are one of the {columns} columns of the charts, \
             added up: a count of sockets is the most there were.",
            condensed.intervals
        )
    } else {
        String::new()
    };
    format!(
        "<p><b>Response</b> is the time from when something was due by the clock to when it was done. It is \
         what a user would have waited, and it grows without limit when the server cannot keep up with the \
         rate.</p>\n\
         <p><b>Service</b> is the time from when it was handed to the socket to when it was done. It hides \
         every wait before that, so it looks good where users suffer; compare it with response to see the \
         queue between the two.</p>\n\
         <p><b>Lag</b> is the time from when it was due to when the generator looked at it: the generator's \
         own error. Where it comes near the response, the run has measured the generator.</p>\n\
         <p>A run at full speed has nothing that is due, so it has a service time alone.</p>\n\
         <p>The axis of percentiles has equal room for each nine: from 99 % to 99.9 % is as far as from \
         99.9 % to 99.99 %. A line ends at its slowest value. Latency axes are logarithmic, and so are the \
         colours of the heat map: a single slow message is as visible as a thousand.</p>\n\
         <p>Percentiles are never averaged: histograms are added, over threads, intervals and columns.{merged} \
         Values come from <code>latency.hlog</code> (HdrHistogram log, nanoseconds) and \
         <code>intervals.jsonl</code> beside this page.</p>\n"
    )
}

#[cfg(test)]
mod tests;
