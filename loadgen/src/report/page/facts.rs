//! What the page says in words and tables: verdict, key figures, errors, asserts, ports, machine and plan.
//!
//! Here: `run.json` read with care. Not here: charts.
//!
//! `run.json` may be missing, older, newer or hostile: what is not there or not of its kind is left out, and
//! every text is escaped.

use std::fmt::Write as _;

use serde_json::Value;

use super::html;
use super::latency;
use crate::recording::condensed::Condensed;
use crate::report::float;
use crate::report::format::{self, escape};

/// Rows of a table that is made from a file.
const ROWS_MAX: usize = 200;
/// Characters of `run.json` that are shown.
const JSON_CHARS_MAX: usize = 100_000;

/// Returns the name of what was run, and in which dialect if that is not Ringway's own.
pub(super) fn scenario(run: &Value) -> String {
    match (run["scenario"].as_str(), run["dialect"].as_str()) {
        (Some(name), None | Some("native")) => name.to_owned(),
        (Some(name), Some(dialect)) => format!("{name} ({dialect})"),
        (None, _) if run.is_null() => "unfinished run".to_owned(),
        (None, _) => "unknown scenario".to_owned(),
    }
}

/// Returns what a round is called.
pub(super) fn rounds(run: &Value) -> &'static str {
    match run["scenario"].as_str() {
        Some("churn") => "cycles",
        Some("connects") => "connects",
        Some("evict") => "evictions",
        Some("handshakes") => "handshakes",
        Some("opens") => "opens",
        Some("plain" | "steady" | "slow-reader") => "round trips",
        Some("setups") => "setups",
        Some("storm") => "returns",
        _ => "rounds",
    }
}

/// Returns the verdict in plain words.
pub(super) fn verdict(condensed: &Condensed) -> String {
    let run = &condensed.run;
    let (class, title, text) = match run["verdict"].as_str() {
        _ if run.is_null() => (
            "warn",
            "The run did not come to its end".to_owned(),
            "It was killed, or still goes on: there is no run.json. This page is made from its intervals \
             alone, so it knows neither plan nor machine nor the reasons of errors."
                .to_owned(),
        ),
        Some("good") => (
            "good",
            "Good".to_owned(),
            "The run came to its planned end, nothing failed, and the generator kept its own schedule."
                .to_owned(),
        ),
        Some("failed") => ("bad", "Failed".to_owned(), reasons(run)),
        Some("untrustworthy") => (
            "bad",
            "Do not use these numbers".to_owned(),
            "The generator could not keep its own schedule: its lag (99 %) is too large a part of the \
             median response. Give it a core (--cpu), more --threads, or a lower --rate."
                .to_owned(),
        ),
        Some("interrupted") => (
            "warn",
            "Cut short".to_owned(),
            "The run was interrupted before its planned end: the result is partial.".to_owned(),
        ),
        Some(other) => ("warn", other.to_owned(), String::new()),
        None => ("warn", "No verdict".to_owned(), "run.json has none.".to_owned()),
    };
    let mut text = escape(&text);
    if condensed.is_cut {
        text += " The last interval was not written whole and is left out.";
    }
    format!(
        "<p class=\"verdict {class}\"><b>{}</b>{text}</p>\n",
        escape(&title)
    )
}

fn reasons(run: &Value) -> String {
    let mut reasons = counts(&run["failures"]);
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: u64 = reasons
        .iter()
        .fold(0, |sum, (_, count)| sum.saturating_add(*count));
    match reasons.first() {
        Some((name, count)) => format!(
            "{} things went wrong; most often ({}): {name}.",
            format::whole(total),
            format::whole(*count)
        ),
        None => "Something went wrong; run.json does not say what.".to_owned(),
    }
}

fn counts(object: &Value) -> Vec<(&str, u64)> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))
        .collect()
}

/// Returns the most important figures, large.
pub(super) fn tiles(condensed: &Condensed) -> String {
    let run = &condensed.run;
    let seconds = run["figures"]["seconds"]
        .as_f64()
        .unwrap_or_else(|| condensed.seconds());
    let rate = |count: u64| float(count) / seconds.max(f64::MIN_POSITIVE);
    let mut tiles = vec![("counted".to_owned(), format::seconds(seconds))];
    let messages = condensed.sum(|row| row.messages);
    let rounds_count = condensed.sum(|row| row.rounds);
    if messages > 0 {
        tiles.push(("messages a second".into(), format::short(rate(messages))));
    }
    if rounds_count > 0 && rounds_count != messages {
        let name = format!("{} a second", rounds(run));
        tiles.push((name, format::short(rate(rounds_count))));
    }
    let bytes = condensed.sum(|row| row.bytes);
    if bytes > 0 {
        tiles.push((
            "throughput".into(),
            format!("{}/s", format::bytes(rate(bytes))),
        ));
    }
    if let Some((name, times, _)) = latency::named(&condensed.latencies).first() {
        let summary = times.summary();
        for (mark, nanos) in [("median", summary.p50_ns), ("99 %", summary.p99_ns)] {
            tiles.push((format!("{name}, {mark}"), format::nanos(float(nanos))));
        }
    }
    if let Some(cores) = run["figures"]["relay"]["cores"].as_f64() {
        tiles.push(("cores of the server".into(), format::plain(cores)));
    }
    let failures = counts(&run["failures"])
        .iter()
        .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
    let seen = condensed
        .columns
        .last()
        .map_or(0, |column| column.row.failures);
    tiles.push(("errors".into(), format::whole(failures.max(seen))));
    // One row, or two that are as full.
    let beside = match tiles.len() {
        few if few <= 6 => few,
        many => many.div_ceil(2),
    };
    let mut out = format!("<div class=\"tiles\" style=\"--tiles: {beside}\">\n");
    for (name, value) in tiles {
        let (name, value) = (escape(&name), escape(&value));
        let _cannot_fail = writeln!(out, "<div><b>{value}</b><span>{name}</span></div>");
    }
    out + "</div>\n"
}

/// Returns the table of times.
pub(super) fn times(condensed: &Condensed) -> String {
    let rows: Vec<Vec<String>> = latency::named(&condensed.latencies)
        .into_iter()
        .map(|(name, times, _)| {
            let summary = times.summary();
            let mut row = vec![name.to_owned(), format::whole(summary.count)];
            let nanos = [
                summary.min_ns,
                summary.p50_ns,
                summary.p90_ns,
                summary.p99_ns,
                summary.p999_ns,
                summary.p9999_ns,
                summary.max_ns,
            ];
            row.extend(nanos.map(|nanos| format::nanos(float(nanos))));
            row
        })
        .collect();
    if rows.is_empty() {
        return html::sentence("No times were measured.");
    }
    let head = [
        "", "count", "minimum", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "maximum",
    ];
    html::table(&head, &rows)
}

/// Returns errors by reason; those that the run was about stand apart.
pub(super) fn failures(run: &Value) -> String {
    if run.is_null() {
        return html::sentence("The reasons of errors stand in run.json, which is missing.");
    }
    let mut out = match reasons_table(&run["failures"]) {
        Some(table) => table,
        None => html::sentence("Nothing failed."),
    };
    if let Some(table) = reasons_table(&run["expected"]) {
        let _cannot_fail = write!(out, "<h3>As expected, no errors of this run</h3>\n{table}");
    }
    out
}

fn reasons_table(object: &Value) -> Option<String> {
    let mut reasons = counts(object);
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rows: Vec<Vec<String>> = reasons
        .into_iter()
        .take(ROWS_MAX)
        .map(|(name, count)| vec![escape(name), format::whole(count)])
        .collect();
    (!rows.is_empty()).then(|| html::table(&["reason", "count"], &rows))
}

/// Returns the asserts of the run, if it had some.
pub(super) fn asserts(run: &Value) -> Option<String> {
    let asserts = run["asserts"]
        .as_array()
        .filter(|asserts| !asserts.is_empty())?;
    let rows: Vec<Vec<String>> = asserts
        .iter()
        .take(ROWS_MAX)
        .map(|assert| {
            let has_held = match assert["has_held"].as_bool() {
                Some(true) => "held",
                Some(false) => "<b>missed</b>",
                None => "unknown",
            };
            let text = escape(assert["text"].as_str().unwrap_or("?"));
            vec![
                text,
                escape(&scalar("", &assert["measured"])),
                has_held.to_owned(),
            ]
        })
        .collect();
    Some(html::table(&["assert", "measured", "result"], &rows))
}

/// Counts of a class of the ledger: field, head, and whether it is shown when all are zero.
const LEDGER: [(&str, &str, bool); 8] = [
    ("established", "established", true),
    ("time_wait", "TIME_WAIT", true),
    ("other", "other", false),
    ("bound_only", "bound", true),
    ("range", "range", true),
    ("addr_not_avail", "no port", true),
    ("addr_in_use", "in use", false),
    ("failed", "failed", false),
];

/// Returns the ledger of ports, if the run kept one.
pub(super) fn ledger(run: &Value) -> Option<String> {
    let ledger = run["ledger"]
        .as_array()
        .filter(|ledger| !ledger.is_empty())?;
    let has_some = |field| ledger.iter().any(|class| class[field].as_u64() > Some(0));
    let counts = LEDGER
        .into_iter()
        .filter(|(field, _, is_always)| *is_always || has_some(*field));
    let counts: Vec<(&str, &str)> = counts.map(|(field, head, _)| (field, head)).collect();
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), format::whole);
    let time = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |nanos| escape(&format::nanos(nanos)))
    };
    let rows: Vec<Vec<String>> = ledger
        .iter()
        .take(ROWS_MAX)
        .map(|class| {
            let connect = &class["connect"];
            let ends = [&class["source"], &class["destination"]].map(|end| scalar("", end));
            let mut row = vec![escape(&ends.join(" to "))];
            row.extend(counts.iter().map(|(field, _)| number(&class[*field])));
            row.push(number(&connect["count"]));
            row.extend(["p50_ns", "p99_ns", "max_ns"].map(|field| time(&connect[field])));
            row
        })
        .collect();
    let mut head = vec!["source to destination"];
    head.extend(counts.iter().map(|(_, head)| *head));
    head.extend(["connects", "50 %", "99 %", "maximum"]);
    Some(html::table(&head, &rows))
}

/// Returns how many local ports there are, in a sentence.
pub(super) fn range(run: &Value) -> String {
    let (text, separator) = match run["plan"]["ports"].as_str() {
        Some(ports) => (ports, '-'),
        None => (
            run["machine"]["settings"]["net.ipv4.ip_local_port_range"]
                .as_str()
                .unwrap_or(""),
            ' ',
        ),
    };
    let ends = text.split_once(separator).and_then(|(first, last)| {
        Some((
            first.trim().parse::<u16>().ok()?,
            last.trim().parse::<u16>().ok()?,
        ))
    });
    match ends {
        Some((first, last)) if first <= last => format!(
            "<p>Each source address has {} local ports ({first} to {last}) for one server address and \
             port.</p>\n",
            format::whole(u64::from(last - first) + 1)
        ),
        _ => String::new(),
    }
}

/// Returns machine and plan.
pub(super) fn setting(run: &Value) -> String {
    if run.is_null() {
        return html::sentence("Machine and plan stand in run.json, which is missing.");
    }
    let mut out = String::new();
    for (title, field) in [("Machine", "machine"), ("Plan", "plan")] {
        let mut pairs = Vec::new();
        flatten(&run[field], "", &mut pairs);
        if !pairs.is_empty() {
            let _cannot_fail = write!(out, "<h3>{title}</h3>\n{}", html::facts(&pairs));
        }
    }
    if out.is_empty() {
        return html::sentence("run.json tells neither machine nor plan.");
    }
    out
}

/// Returns all of `run.json`, folded away.
pub(super) fn source(run: &Value) -> String {
    if run.is_null() {
        return String::new();
    }
    let text = serde_json::to_string_pretty(run).unwrap_or_default();
    let mut out = String::from("<details><summary>run.json</summary><pre>");
    for (place, c) in text.chars().enumerate() {
        if place == JSON_CHARS_MAX {
            out.push_str("\n...");
            break;
        }
        format::escape_char(&mut out, c);
    }
    out + "</pre></details>\n"
}

/// Appends the values of an object, those of its objects as well.
fn flatten(object: &Value, prefix: &str, pairs: &mut Vec<(String, String)>) {
    for (name, value) in object.as_object().into_iter().flatten() {
        if pairs.len() >= ROWS_MAX {
            return;
        }
        match value {
            Value::Null => {}
            Value::Object(_) if prefix.len() < 100 => {
                // The settings' names say where they belong.
                let prefix = match name.as_str() {
                    "settings" => String::new(),
                    name => format!("{prefix}{name} "),
                };
                flatten(value, &prefix, pairs);
            }
            value => {
                let text = scalar(name, value);
                if !text.is_empty() {
                    let name = match prefix {
                        "" if name.contains('.') => name.clone(),
                        _ => name.trim_end_matches("_seconds").replace('_', " "),
                    };
                    pairs.push((format!("{prefix}{name}"), text));
                }
            }
        }
    }
}

/// Returns a value as a text; its name may tell its unit.
fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if name.ends_with("_seconds") => format::seconds(value),
            Some(value) if number.is_f64() => format::plain(value),
            _ => number
                .as_u64()
                .filter(|_| name.ends_with("_bytes"))
                .map_or_else(|| number.to_string(), format::whole),
        },
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let texts: Vec<String> = values.iter().take(20).map(|it| scalar(name, it)).collect();
            texts.join(", ")
        }
        Value::Null => "-".into(),
        Value::Object(_) => String::new(),
    }
}
