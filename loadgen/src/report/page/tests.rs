//! The page of recordings of all kinds: whole, killed, hostile, a day long.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::intervals::{Interval, Seen};
use crate::latency::Latencies;
use crate::process::ProcessSample;
use crate::recording::condensed::{Column, Spread, bucket};
use crate::recording::{PAGE, Recording, RecordingError, Row, Sockets};

fn interval(second: u64) -> Interval {
    let mut latencies = Latencies::default();
    for micros in [100, 120, 90_000 + second] {
        latencies.response.record(Duration::from_micros(micros));
        latencies.service.record(Duration::from_micros(micros / 2));
    }
    Interval {
        start: Duration::from_secs(second),
        length: Duration::from_secs(1),
        latencies,
        messages: 3,
        bytes: 3_000,
        rounds: 1,
        seen: Seen {
            sessions: 5,
            failures: second * 2,
            relay: Some(ProcessSample {
                cpu_ns: second * 500_000_000,
                rss_bytes: 8_000_000,
                ..ProcessSample::default()
            }),
            ..Seen::default()
        },
    }
}

fn recording(directory: &Path, seconds: u64) -> Recording {
    let mut recording = Recording::create(directory, "t").unwrap();
    for second in 0..seconds {
        recording.interval(&interval(second)).unwrap();
    }
    recording
}

fn document() -> Value {
    json!({
        "schema": "ringway-loadgen/2", "scenario": "steady", "verdict": "failed",
        "machine": {"kernel": "6.1", "cpu": "A Processor", "cores": 2, "version": "0.1.0",
            "settings": {"net.ipv4.ip_local_port_range": "32768 60999"}},
        "plan": {"duration_seconds": 5.0, "message_bytes": 16384, "rate": "500", "ports": null},
        "figures": {"seconds": 5.0, "relay": {"cores": 0.5}},
        "failures": {"open: 301 no_listener": 12, "connect: refused": 3},
    })
}

fn made(directory: &Path, run: &Value, seconds: u64) -> String {
    let recording = recording(directory, seconds);
    recording
        .finish(&run.to_string(), &Latencies::default())
        .unwrap();
    fs::read_to_string(directory.join(PAGE)).unwrap()
}

#[test]
fn a_page_has_all_its_parts_and_needs_no_other_file() {
    let home = tempfile::tempdir().unwrap();
    let page = made(home.path(), &document(), 5);
    for part in [
        "<h1>steady</h1>",
        "15 things went wrong; most often (12): open: 301 no_listener",
        "Latency by percentile",
        "How many had which response time",
        "Messages and round trips a second",
        "Bytes a second",
        "Sockets were not counted",
        "28,232 local ports (32768 to 60999)",
        "Errors a second",
        "Processor time, in cores",
        "Resident memory",
        "A Processor",
        "16,384",
        "How to read this",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for other in ["<script", "http://", "https://", "src=", "@import", "url("] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(other), "{other}");
    }
    for tag in ["svg", "section", "figure", "table", "p", "div", "dl"] {
        let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
        let starts = [format!("{opened}>"), format!("{opened} ")];
        let starts: usize = starts.iter().map(|start| page.matches(start).count()).sum();
        assert_eq!(starts, page.matches(&closed).count(), "{tag}");
    }
    assert!(!page.contains("Asserts") && !page.contains("Ledger"));
}

#[test]
fn the_same_files_make_the_same_page() {
    let home = tempfile::tempdir().unwrap();
    let first = made(home.path(), &document(), 4);
    let again = page(&Condensed::read(home.path()).unwrap());
    assert!(first == again, "two pages");
}

#[test]
fn a_run_that_was_killed_has_a_page_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    drop(recording(home.path(), 3));
    let rows = home.path().join("intervals.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    // In the middle of its last line.
    fs::write(&rows, &text[..text.len() - 20]).unwrap();
    let condensed = Condensed::read(home.path()).unwrap();
    assert_eq!((condensed.intervals, condensed.is_cut), (2, true));
    let page = page(&condensed);
    for part in [
        "did not come to its end",
        "was not written whole",
        "which is missing",
        "Latency by percentile",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn files_cannot_put_anything_into_the_page() {
    let home = tempfile::tempdir().unwrap();
    let bad = "</script><script>alert('1')</script>\"<img src=x onerror=alert(1)>";
    let run = json!({
        "scenario": bad, "verdict": bad,
        "failures": {bad: 3, "many": u64::MAX, "more": u64::MAX},
        "machine": {"cpu": bad, "kernel": bad, bad: bad, "settings": {bad: {bad: [bad, {bad: bad}]}}},
        "plan": {bad: bad, "rate": [bad], "ports": bad},
        "asserts": [{"text": bad, "measured": bad, "has_held": false}, bad, 7],
        "ledger": [{"source": bad, "destination": {bad: bad}, "connect": {"p50_ns": bad}}, null],
        "figures": bad, "relay": {"start": bad},
    });
    let page = made(home.path(), &run, 2);
    for word in ["<script", "<img", "onerror=alert(1)>\"", "'1'"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("&lt;script&gt;"));
    assert!(page.contains("<b>missed</b>"));
    // The same in the states of sockets, which come from another file.
    let sockets = Sockets {
        relay: [(bad.to_owned(), 3)].into(),
        generator: [(bad.to_owned(), 3), ("TIME_WAIT".to_owned(), u64::MAX)].into(),
    };
    let mut condensed = Condensed::read(home.path()).unwrap();
    condensed.columns[0].row.sockets = Some(sockets);
    let page = super::page(&condensed);
    assert!(!page.contains("<script") && page.contains("TIME_WAIT"));
    // The other column has none.
    assert!(page.contains("Where there is no line, sockets were not counted"));
}

#[test]
fn numbers_that_make_no_sense_are_drawn_somewhere() {
    let home = tempfile::tempdir().unwrap();
    drop(recording(home.path(), 3));
    let rows = home.path().join("intervals.jsonl");
    let text = fs::read_to_string(&rows).unwrap();
    for (from, to) in [
        ("\"length_seconds\":1.0", "\"length_seconds\":1e308"),
        ("\"length_seconds\":1.0", "\"length_seconds\":-1e308"),
        ("\"length_seconds\":1.0", "\"length_seconds\":0.0"),
        ("\"messages\":3", "\"messages\":18446744073709551615"),
        ("\"failures\":2", "\"failures\":18446744073709551615"),
        (
            "\"rss_bytes\":8000000",
            "\"rss_bytes\":18446744073709551615",
        ),
        ("\"cpu_ns\":500000000", "\"cpu_ns\":18446744073709551615"),
    ] {
        let changed = text.replace(from, to);
        assert!(changed != text, "{from}");
        fs::write(&rows, changed).unwrap();
        let page = page(&Condensed::read(home.path()).unwrap());
        assert!(page.contains("</html>"), "{to}");
    }
}

#[test]
fn asserts_and_a_ledger_are_tables() {
    let home = tempfile::tempdir().unwrap();
    let mut run = document();
    run["expected"] = json!({"open: 403 refused": 40});
    run["asserts"] = json!([{"text": "p99 < 5ms", "measured": "90.1 ms", "has_held": true}]);
    run["ledger"] = json!([{"source": "127.0.0.1", "destination": "127.0.0.1:7100", "established": 12,
        "time_wait": 1234, "bound_only": 0, "range": 28232, "addr_not_avail": 7,
        "addr_in_use": 3, "failed": 0,
        "connect": {"p50_ns": 50_000, "p99_ns": 90_000, "max_ns": 1_000_000, "count": 5_000}}]);
    let page = made(home.path(), &run, 2);
    for part in [
        "p99 &lt; 5ms",
        "<td>90.1 ms</td><td>held</td>",
        "127.0.0.1 to 127.0.0.1:7100",
        "<td>1,234</td>",
        "<td>50 \u{b5}s</td>",
        "in use",
        "As expected",
        "open: 403 refused",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Zeros that say nothing take no room.
    assert!(!page.contains("<th scope=\"col\">failed"));
}

#[test]
fn a_day_is_a_page_of_some_megabytes() {
    let buckets =
        (bucket(10_000)..bucket(60_000_000_000)).zip((1..).map(|count: u64| count * count));
    let spread = Spread {
        buckets: buckets.collect(),
        marks: Some([1_000, 1_000_000, 60_000_000_000]),
    };
    let columns = (0..COLUMNS_MAX).map(|number| Column {
        row: Row {
            start_seconds: crate::report::float(number * 288),
            length_seconds: 288.0,
            messages: number * 1_000,
            ..Row::default()
        },
        response: spread.clone(),
        ..Column::default()
    });
    let mut condensed = Condensed {
        columns: columns.collect(),
        intervals: 86_400,
        ..Condensed::default()
    };
    condensed
        .latencies
        .response
        .record(Duration::from_millis(1));
    let page = page(&condensed);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("up to 288 of them"));
}

#[test]
fn intervals_are_added_up_to_columns() {
    let home = tempfile::tempdir().unwrap();
    let seconds = COLUMNS_MAX * 2 + 1;
    let mut recording = recording(home.path(), seconds);
    let mut rest = interval(seconds);
    rest.length = Duration::from_millis(3);
    recording.interval(&rest).unwrap();
    drop(recording);
    let condensed = Condensed::read(home.path()).unwrap();
    assert_eq!(condensed.intervals, seconds + 1);
    assert_eq!(condensed.columns.len(), 201);
    assert_eq!(condensed.sum(|row| row.messages), 3 * (seconds + 1));
    assert_eq!(condensed.latencies.response.count(), 3 * (seconds + 1));
    let counts = condensed
        .columns
        .iter()
        .flat_map(|column| column.response.buckets.values());
    assert_eq!(counts.sum::<u64>(), 3 * (seconds + 1));
    let failures = condensed.columns.iter().map(|column| column.failures);
    assert_eq!(failures.sum::<u64>(), seconds * 2);
    let column = &condensed.columns[7];
    assert!((column.row.length_seconds - 3.0).abs() < 1e-9, "{column:?}");
    assert!((column.cores.unwrap() - 0.5).abs() < 1e-9, "{column:?}");
    assert!((condensed.seconds() - 601.003).abs() < 1e-6);
}

#[test]
fn what_is_no_recording_is_refused_with_the_fix() {
    let home = tempfile::tempdir().unwrap();
    let error = Condensed::read(home.path()).unwrap_err();
    assert!(matches!(error, RecordingError::Nothing(_)), "{error}");
    assert!(error.to_string().contains("--out"), "{error}");
    let error = Condensed::read(&home.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    drop(recording(home.path(), 0));
    let error = Condensed::read(home.path()).unwrap_err().to_string();
    assert!(
        error.contains("intervals.jsonl") && error.contains("first second"),
        "{error}"
    );
}

#[test]
fn files_of_two_runs_are_told_apart() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(recording(one.path(), 4));
    let mut recording = Recording::create(other.path(), "t").unwrap();
    for second in [0, 2, 3, 4] {
        recording.interval(&interval(second)).unwrap();
    }
    drop(recording);
    let name = "intervals.jsonl";
    fs::copy(other.path().join(name), one.path().join(name)).unwrap();
    let error = Condensed::read(one.path()).unwrap_err().to_string();
    assert!(error.contains("not of one run"), "{error}");
}

#[test]
fn a_run_that_ended_may_miss_nothing() {
    for (file, keep) in [("intervals.jsonl", 2), ("latency.hlog", 2), ("run.json", 2)] {
        let home = tempfile::tempdir().unwrap();
        made(home.path(), &document(), 4);
        let path = home.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() * keep / 3]).unwrap();
        let error = Condensed::read(home.path()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("cut"), "{error}");
    }
}

#[test]
fn nothing_measured_is_a_sentence_instead_of_a_chart() {
    let condensed = Condensed {
        columns: vec![Column::default()],
        ..Condensed::default()
    };
    let page = page(&condensed);
    assert!(!page.contains("<svg"), "{page}");
    for part in [
        "No times were measured",
        "Nothing was carried",
        "--relay-pid",
        "No interval has an error",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
