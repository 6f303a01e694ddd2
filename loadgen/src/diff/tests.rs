//! Comparisons of logs that are made up.
//!
//! Here: equal, shifted, noisy and broken logs. Not here: runs.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::*;

/// A log of 40 intervals whose level wanders; `scale` stretches all times.
fn log(seed: u64, scale: f64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(UNIX_EPOCH);
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).unwrap();
    for second in 0..40 {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        let level = 1.0 + 0.1 * random.f64();
        for _ in 0..300 {
            let nanos = scale * level * 100_000.0 * (1.0 - (1.0 - random.f64()).ln());
            let nanos = Duration::from_secs_f64(nanos / 1e9).as_nanos();
            histogram.record(u64::try_from(nanos).unwrap()).unwrap();
        }
        let start = Duration::from_secs(second);
        let tag = Tag::new("response");
        writer
            .write_histogram(&histogram, start, Duration::from_secs(1), tag)
            .unwrap();
    }
    drop(writer);
    bytes
}

fn input(bytes: &[u8]) -> Result<Input, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latency.hlog");
    std::fs::write(&path, bytes).unwrap();
    Input::read(&path)
}

fn diff(a: &[u8], b: &[u8]) -> Diff {
    Diff::of(&input(a).unwrap(), &input(b).unwrap(), 5.0).unwrap()
}

#[test]
fn equal_inputs_do_not_differ() {
    let diff = diff(&log(1, 1.0), &log(1, 1.0));
    assert_eq!(diff.tags[0].counts, [12_000, 12_000]);
    for row in &diff.tags[0].rows {
        assert!(row.percent.abs() < 1e-9 && !row.is_significant, "{row:?}");
    }
    assert!(diff.worsenings.is_empty() && diff.warnings.is_empty());
}

#[test]
fn a_known_shift_is_found() {
    let worse = diff(&log(1, 1.0), &log(2, 1.2));
    assert!(
        worse.worsenings.iter().any(|w| w.contains("p50")),
        "{worse}"
    );
    let [low, high] = worse.tags[0].rows[0].interval.unwrap();
    assert!(low < 20.0 && 20.0 < high, "{worse}");
    assert!(diff(&log(1, 1.2), &log(2, 1.0)).worsenings.is_empty());
}

#[test]
fn noise_is_seldom_called_significant() {
    let (mut significant, mut all) = (0, 0);
    for seed in 0..60 {
        let diff = diff(&log(2 * seed, 1.0), &log(2 * seed + 1, 1.0));
        for row in diff.tags[0].rows.iter().take(3) {
            all += 1;
            significant += u32::from(row.is_significant);
        }
    }
    assert!(significant <= 18, "{significant} of {all}");
}

#[test]
fn broken_files_are_named() {
    let good = log(1, 1.0);
    for (bytes, word) in [
        (&b""[..], "empty"),
        (&good[..good.len() / 2 - 7], "interval"),
        (b"\x7fELF\0\0\xff\xff", "interval"),
        (b"#[comment]\n", "no interval"),
    ] {
        let error = input(bytes).unwrap_err().to_string();
        assert!(error.contains("latency.hlog: "), "{error}");
        assert!(error.contains(word), "{error}");
    }
    let error = Input::read(Path::new("/nowhere/a.hlog")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/a.hlog"));
}

#[test]
fn huge_files_are_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.hlog");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(read::FILE_BYTES_MAX + 1).unwrap();
    assert!(Input::read(&path).unwrap_err().why.contains("at most"));
}

#[test]
fn machines_plans_and_figures_are_compared() {
    let read = |kernel: &str, sessions: u32, rate: f64| {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::json!({
            "schema": "ringway-loadgen/2",
            "machine": {"kernel": kernel},
            "plan": {"sessions": sessions},
            "figures": {"rounds_per_second": rate},
        });
        std::fs::write(dir.path().join("run.json"), text.to_string()).unwrap();
        Input::read(dir.path()).unwrap()
    };
    let diff = Diff::of(&read("6.1", 2, 100.0), &read("6.2", 4, 50.0), 5.0).unwrap();
    assert_eq!(diff.figures[0].ratio, Some(0.5));
    assert_eq!(diff.warnings.len(), 2, "{diff}");
    assert!(
        diff.to_string().contains("machine.kernel differs"),
        "{diff}"
    );
}
