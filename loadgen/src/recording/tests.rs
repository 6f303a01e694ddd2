//! What is written is what is read, and what cannot be read is named.

use std::io::Read;
use std::time::Duration;

use super::*;
use crate::intervals::Seen;

fn interval(second: u64, times: &[u64]) -> Interval {
    let mut latencies = Latencies::default();
    for micros in times {
        latencies.response.record(Duration::from_micros(*micros));
        latencies.service.record(Duration::from_micros(micros / 2));
    }
    Interval {
        start: Duration::from_secs(second),
        length: Duration::from_secs(1),
        latencies,
        messages: 7,
        rounds: u64::try_from(times.len()).unwrap(),
        seen: Seen {
            sessions: 3,
            relay: Some(ProcessSample {
                run_delay_ns: 5,
                cpu_ns: 5,
                user_ns: 4,
                system_ns: 3,
                rss_bytes: 2,
            }),
            ..Seen::default()
        },
        ..Interval::default()
    }
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_is_written_is_read_back() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("new/result");
    let mut recording = Recording::create(&directory, "a test").unwrap();
    let intervals = [interval(0, &[100, 200, 90_000_000]), interval(1, &[300])];
    let mut sum = Latencies::default();
    for interval in &intervals {
        recording.interval(interval).unwrap();
        sum.merge(&interval.latencies);
    }
    recording.finish("{\"schema\": \"x\"}", &sum).unwrap();
    let recorded = Recorded::read(&directory).unwrap();
    assert_eq!(recorded.run["schema"], "x");
    assert_eq!(recorded.intervals.len(), 2);
    let (row, latencies) = &recorded.intervals[1];
    assert!((row.start_seconds - 1.0).abs() < 1e-9);
    assert_eq!((row.messages, row.sessions), (7, 3));
    assert_eq!(row.relay.unwrap().rss_bytes, 2);
    assert_eq!(latencies.response.count(), 1);
    let whole = recorded.latencies();
    assert_eq!(whole.response.count(), 4);
    assert_eq!(whole.response.quantile(0.5), sum.response.quantile(0.5));
    assert_eq!(whole.service.quantile(1.0), sum.service.quantile(1.0));
    assert_eq!(whole.lag.count(), 0);
    assert!(directory.join("response.hgrm").exists());
    // Nothing was measured: no file that says so with zeros.
    assert!(!directory.join("lag.hgrm").exists());
}

#[test]
fn a_log_has_the_head_that_other_programs_look_for() {
    let home = tempfile::tempdir().unwrap();
    let mut recording = Recording::create(home.path(), "ringway-loadgen test").unwrap();
    recording.interval(&interval(0, &[1_000])).unwrap();
    recording.interval(&interval(1, &[1_000])).unwrap();
    let log = text(&home.path().join(LOG));
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "#[ringway-loadgen test]");
    assert_eq!(lines[1], "#[Histogram log format version 1.3]");
    assert!(lines[2].starts_with("#[StartTime: "), "{log}");
    assert!(lines[3].starts_with("#[BaseTime: "), "{log}");
    assert!(
        lines[5].starts_with("\"StartTimestamp\",\"Interval_Length\""),
        "{log}"
    );
    // Milliseconds.
    assert!(
        lines[6].starts_with("Tag=response,0.000,1.000,1.00"),
        "{log}"
    );
    assert!(
        lines[9].starts_with("Tag=response,1.000,1.000,1.00"),
        "{log}"
    );
    assert_eq!(lines.len(), 12);
}

#[test]
fn a_result_is_never_written_over() {
    let home = tempfile::tempdir().unwrap();
    drop(Recording::create(home.path(), "first").unwrap());
    let error = Recording::create(home.path(), "second").unwrap_err();
    assert!(matches!(error, RecordingError::Exists(_)), "{error}");
    let log = text(&home.path().join(LOG));
    assert!(log.is_empty() || log.contains("first"));
}

#[test]
fn a_run_that_was_killed_leaves_what_it_saw() {
    let home = tempfile::tempdir().unwrap();
    let mut recording = Recording::create(home.path(), "killed").unwrap();
    recording.interval(&interval(0, &[5])).unwrap();
    drop(recording);
    let recorded = Recorded::read(home.path()).unwrap();
    assert!(recorded.run.is_null());
    assert_eq!(recorded.intervals.len(), 1);
}

#[test]
fn files_that_are_none_are_named() {
    let home = tempfile::tempdir().unwrap();
    let mut recording = Recording::create(home.path(), "t").unwrap();
    recording.interval(&interval(0, &[5])).unwrap();
    drop(recording);
    let good = text(&home.path().join(LOG));
    for (name, content, word) in [
        (LOG, good.replace("Tag=response", "Tag=response,x"), LOG),
        (LOG, good.replace("HIST", "!!!!"), "base64"),
        (LOG, good.replace("HIST", "AAAA"), "does not open"),
        (LOG, String::new(), "0 intervals"),
        (ROWS, "{}\n".into(), "line 1"),
        (RUN, "{".into(), RUN),
    ] {
        let path = home.path().join(name);
        let before = fs::read(&path).ok();
        fs::write(&path, content).unwrap();
        let error = Recorded::read(home.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    assert!(Recorded::read(&home.path().join("nowhere")).is_err());
}

#[test]
fn a_full_disk_is_an_error_with_the_file() {
    let error = write(Path::new("/dev/full/run.json"), "x")
        .unwrap_err()
        .to_string();
    assert!(error.contains("/dev/full/run.json"), "{error}");
}
