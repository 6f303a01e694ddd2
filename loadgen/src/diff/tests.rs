//! Comparisons of results that are made up.
//!
//! Here: equal, shifted, noisy, short, coarse and broken results; how often intervals cover the truth and
//! noise is called a difference. Not here: runs (`tests/judge.rs`).

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::json;

use super::series::Series;
use super::*;

/// A server that is made up.
#[derive(Clone, Copy)]
struct Made {
    intervals: usize,
    values: usize,
    /// Standard deviation of the logarithm of an interval's level.
    spread: f64,
    /// Correlation of neighbouring levels.
    memory: f64,
    /// Share of intervals that take three times as long.
    stalls: f64,
    /// Stretches all times.
    scale: f64,
    digits: u8,
}

const MADE: Made = Made {
    intervals: 40,
    values: 200,
    spread: 0.05,
    memory: 0.0,
    stalls: 0.0,
    scale: 1.0,
    digits: 3,
};

fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

impl Made {
    fn histograms(self, seed: u64) -> Vec<Histogram<u64>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut level = normal(&mut random);
        let mut interval = || {
            let mut histogram = Histogram::new_with_bounds(1, 1 << 30, self.digits).unwrap();
            let stall = if random.f64() < self.stalls { 3.0 } else { 1.0 };
            let scale = self.scale * (self.spread * level).exp() * stall * 2_000.0;
            for _ in 0..self.values {
                let nanos = scale * (0.5 - (1.0 - random.f64()).ln());
                let nanos = Duration::from_secs_f64(nanos / 1e9).as_nanos();
                histogram.saturating_record(u64::try_from(nanos).unwrap());
            }
            let fresh = (1.0 - self.memory * self.memory).sqrt();
            level = self.memory * level + fresh * normal(&mut random);
            histogram
        };
        (0..self.intervals).map(|_| interval()).collect()
    }

    fn input(self, seed: u64) -> Input {
        let mut series = Series::default();
        self.histograms(seed)
            .iter()
            .for_each(|one| series.push(one));
        Input {
            path: "made".into(),
            tags: [("response".to_owned(), series)].into(),
            document: Some(json!({"verdict": "good"})),
        }
    }
}

fn diff(a: Made, b: Made, seed: u64) -> Diff {
    Diff::of(&a.input(2 * seed), &b.input(2 * seed + 1), 5.0).unwrap()
}

#[test]
fn equal_inputs_do_not_differ() {
    let input = MADE.input(1);
    let diff = Diff::of(&input, &input, 5.0).unwrap();
    assert_eq!(diff.tags[0].counts, [8_000, 8_000]);
    assert_eq!(diff.tags[0].intervals, [40, 40]);
    for row in &diff.tags[0].rows {
        assert!(row.percent.abs() < 1e-9 && !row.is_significant, "{row:?}");
    }
    assert_eq!(diff.verdict, Verdict::NotWorse);
    assert!(
        diff.worsenings.is_empty() && diff.warnings.is_empty(),
        "{diff}"
    );
}

#[test]
fn a_known_shift_is_found() {
    let slow = Made { scale: 1.2, ..MADE };
    let worse = diff(MADE, slow, 1);
    assert_eq!(worse.verdict, Verdict::Worse);
    assert!(worse.worsenings[0].contains("response.p50 by"), "{worse}");
    let [low, high] = worse.tags[0].rows[0].interval.unwrap();
    assert!(low < 20.0 && 20.0 < high, "{worse}");
    // An improvement is none.
    let better = diff(slow, MADE, 1);
    assert!(better.tags[0].rows[0].is_significant);
    assert_eq!(better.verdict, Verdict::NotWorse);
    // Nor is what the threshold bears.
    let borne = Diff::of(&MADE.input(2), &slow.input(3), 40.0).unwrap();
    assert_eq!(borne.verdict, Verdict::NotWorse);
}

#[test]
fn lag_is_never_a_worsening() {
    let lag = |scale, seed| {
        let mut input = Made { scale, ..MADE }.input(seed);
        let series = input.tags.remove("response").unwrap();
        input.tags.insert("lag".into(), series);
        input.tags.extend(MADE.input(9).tags);
        input
    };
    let diff = Diff::of(&lag(1.0, 1), &lag(2.0, 2), 5.0).unwrap();
    assert!(
        diff.tags
            .iter()
            .any(|tag| tag.tag == "lag" && tag.rows[0].is_significant)
    );
    assert_eq!(diff.verdict, Verdict::NotWorse, "{diff}");
}

/// Of `count` comparisons: how often the intervals of p50, p90 and p99 hold the true shift of 20 %.
fn covered(made: Made, count: u64) -> [u64; 3] {
    let mut covered = [0; 3];
    for seed in 0..count {
        let found = diff(made, Made { scale: 1.2, ..made }, seed);
        for (number, covered) in covered.iter_mut().enumerate() {
            let [low, high] = found.tags[0].rows[number].interval.unwrap();
            *covered += u64::from(low <= 20.0 && 20.0 <= high);
        }
    }
    covered
}

#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    // 95 % of 200 is 190, with a standard deviation of 3.
    for memory in [0.0, 0.5] {
        let made = Made { memory, ..MADE };
        for covered in covered(made, 200) {
            assert!((184..=199).contains(&covered), "{memory}: {covered} of 200");
        }
    }
    // A long memory within a short run is what no method knows about; it is documented.
    let drifts = Made {
        memory: 0.8,
        ..MADE
    };
    let [least, ..] = covered(drifts, 200);
    assert!((160..=190).contains(&least), "{least} of 200");
}

#[test]
fn noise_is_seldom_called_significant_at_any_percentile() {
    for made in [
        MADE,
        Made {
            memory: 0.5,
            ..MADE
        },
        Made {
            intervals: 10,
            values: 600,
            ..MADE
        },
        Made {
            intervals: 20,
            stalls: 0.1,
            ..MADE
        },
        Made {
            stalls: 0.1,
            ..MADE
        },
    ] {
        let is_false = |seed: &u64| {
            let rows = &diff(made, made, *seed).tags[0].rows;
            rows.iter().any(|row| row.is_significant)
        };
        let alarms = (0..200).filter(is_false).count();
        // 5 % of 200 is 10, with a standard deviation of 3.
        eprintln!(
            "CASE {} {} {}: {alarms}",
            made.intervals, made.memory, made.stalls
        );
        assert!(
            alarms <= 14,
            "{} intervals: {alarms} of 200",
            made.intervals
        );
    }
}

#[test]
fn a_minute_is_enough_to_find_a_tenth() {
    let made = Made {
        intervals: 60,
        ..MADE
    };
    let is_found = |seed: &u64| {
        let slower = Made { scale: 1.1, ..made };
        diff(made, slower, *seed).verdict == Verdict::Worse
    };
    let found = (0..50).filter(is_found).count();
    assert!(found >= 45, "{found} of 50");
}

#[test]
fn coarser_histograms_make_no_difference() {
    let coarse = Made { digits: 2, ..MADE };
    // The same times.
    let diff = Diff::of(&MADE.input(4), &coarse.input(4), 0.0).unwrap();
    for row in &diff.tags[0].rows {
        assert!(row.percent.abs() < 1e-9, "{row:?}");
    }
}

#[test]
fn too_few_intervals_are_no_verdict() {
    let short = Made {
        intervals: 7,
        ..MADE
    };
    let diff = diff(MADE, short, 1);
    assert_eq!(diff.verdict, Verdict::CannotJudge);
    assert_eq!(diff.verdict.status(), 3);
    assert!(diff.unjudged[0].contains("B 7"), "{diff}");
    let text = diff.to_string();
    assert!(text.contains("cannot be judged: response"), "{text}");
    assert!(text.contains("no verdict"), "{text}");
    let document = serde_json::to_value(&diff).unwrap();
    assert_eq!(document["verdict"], "cannot_judge");
    assert_eq!(document["tags"][0]["rows"][0]["interval"], Value::Null);
}

#[test]
fn a_worsening_is_told_even_if_other_times_are_too_few() {
    let with = |seed, scale| {
        let mut input = Made { scale, ..MADE }.input(seed);
        let few = Made {
            intervals: 3,
            ..MADE
        }
        .input(5)
        .tags
        .remove("response");
        input.tags.insert("service".into(), few.unwrap());
        input
    };
    let diff = Diff::of(&with(1, 1.0), &with(2, 2.0), 5.0).unwrap();
    assert_eq!(diff.verdict, Verdict::Worse);
    assert!(!diff.unjudged.is_empty());
}

#[test]
fn a_percentile_with_too_few_values_beyond_it_is_not_judged() {
    let few = Made { values: 20, ..MADE };
    let rows = &diff(few, few, 1).tags[0].rows;
    assert!(rows[0].interval.is_some());
    assert_eq!((rows[4].name, rows[4].interval), ("p99.99", None));
    assert_eq!(rows[4].unjudged, Some("too few values beyond it"));
    // One interval of ten has all the slow ones.
    let mut stalled = Made {
        intervals: 10,
        ..MADE
    }
    .histograms(3);
    for _ in 0..300 {
        stalled[4].record(900_000).unwrap();
    }
    let mut series = Series::default();
    stalled.iter().for_each(|one| series.push(one));
    let mut input = MADE.input(1);
    input.tags.insert("response".into(), series);
    let rows = &Diff::of(&MADE.input(8), &input, 5.0).unwrap().tags[0].rows;
    assert!(
        rows[2].percent > 100.0 && rows[2].interval.is_none(),
        "{:?}",
        rows[2]
    );
}

#[test]
fn times_that_are_all_equal_are_judged() {
    let constant = |nanos| {
        let mut series = Series::default();
        let mut histogram = Histogram::new_with_bounds(1, 1 << 30, 3).unwrap();
        histogram.record_n(nanos, 500).unwrap();
        (0..10).for_each(|_| series.push(&histogram));
        let mut input = MADE.input(1);
        input.tags.insert("response".into(), series);
        input
    };
    let same = Diff::of(&constant(5_000), &constant(5_000), 5.0).unwrap();
    assert_eq!(same.verdict, Verdict::NotWorse, "{same}");
    let more = Diff::of(&constant(5_000), &constant(6_000), 5.0).unwrap();
    assert_eq!(more.verdict, Verdict::Worse, "{more}");
}

/// The bytes of a log.
fn log(seed: u64) -> Vec<u8> {
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_start_time(UNIX_EPOCH);
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).unwrap();
    for (second, histogram) in (0..).zip(&MADE.histograms(seed)) {
        let (start, tag) = (Duration::from_secs(second), Tag::new("response"));
        writer
            .write_histogram(histogram, start, Duration::from_secs(1), tag)
            .unwrap();
    }
    drop(writer);
    bytes
}

/// Reads a file of a directory, after writing it.
fn input(name: &str, bytes: &[u8]) -> Result<Input, ReadError> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(name);
    fs::write(&path, bytes).unwrap();
    Input::read(&path)
}

#[test]
fn logs_directories_and_documents_are_read() {
    let home = tempfile::tempdir().unwrap();
    let document = json!({
        "schema": "ringway-loadgen/2",
        "figures": {"rounds_per_second": 100.0},
        "latencies": {"response": {"p99_ns": 5}},
    });
    fs::write(home.path().join("run.json"), document.to_string()).unwrap();
    let only_document = Input::read(home.path()).unwrap();
    assert!(only_document.tags.is_empty() && only_document.document.is_some());
    fs::write(home.path().join("latency.hlog"), log(1)).unwrap();
    let both = Input::read(home.path()).unwrap();
    assert_eq!(both.tags.len(), 1);
    let alone = Input::read(&home.path().join("latency.hlog")).unwrap();
    assert!(alone.document.is_none());
    let single = Input::read(&home.path().join("run.json")).unwrap();
    let diff = Diff::of(&both, &alone, 5.0).unwrap();
    assert_eq!(
        diff.warnings,
        ["B has no run.json: machines and plans are not compared"]
    );
    // Without logs there are the times of the documents, and no verdict.
    let diff = Diff::of(&both, &single, 5.0).unwrap();
    assert!(
        diff.figures
            .iter()
            .any(|figure| figure.name == "response.p99_ns")
    );
    assert_eq!(diff.verdict, Verdict::CannotJudge);
    assert!(diff.unjudged[0].contains("--out"), "{diff}");
    let error = Diff::of(&alone, &only_document, 5.0).unwrap_err();
    assert!(error.why.contains("nothing in common"), "{error}");
}

#[test]
fn inputs_that_are_none_are_named_with_what_to_do() {
    let good = log(1);
    let other = br#"{"schema": "ringway-loadgen-knee/1"}"#;
    for (name, bytes, words) in [
        ("latency.hlog", &b""[..], &["empty", "--out"][..]),
        (
            "latency.hlog",
            &good[..good.len() / 2 - 7],
            &["line ", "cut short"],
        ),
        (
            "latency.hlog",
            b"\x7fELF\0\0\xff\xff",
            &["line 1", "interval log"],
        ),
        ("latency.hlog", b"#[comment]\n", &["no interval", "--out"]),
        ("run.json", b"{\"schema\": ", &["no JSON"]),
        ("run.json", b"{}", &["schema", "--json"]),
        ("run.json", other, &["'ringway-loadgen-knee/1'", "--json"]),
    ] {
        let error = input(name, bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: ")), "{error}");
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
    let error = Input::read(Path::new("/nowhere/a.hlog"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/a.hlog: there is no such file"),
        "{error}"
    );
    let home = tempfile::tempdir().unwrap();
    let error = Input::read(home.path()).unwrap_err().to_string();
    assert!(
        error.contains("neither latency.hlog nor run.json"),
        "{error}"
    );
    assert!(
        Input::read(Path::new("/dev/zero"))
            .unwrap_err()
            .why
            .contains("no file")
    );
}

#[test]
fn huge_documents_are_given_up() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("run.json");
    fs::write(&path, "{").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(read::DOCUMENT_BYTES_MAX + 2).unwrap();
    assert!(Input::read(&path).unwrap_err().why.contains("more than"));
}

#[test]
fn machines_plans_and_figures_are_compared() {
    let read = |kernel: &str, sessions: u32, rate: f64| {
        let text = json!({
            "schema": "ringway-loadgen/2",
            "machine": {"kernel": kernel},
            "plan": {"sessions": sessions},
            "figures": {"rounds_per_second": rate},
        });
        input("run.json", text.to_string().as_bytes()).unwrap()
    };
    let diff = Diff::of(&read("6.1", 2, 100.0), &read("6.2", 4, 50.0), 5.0).unwrap();
    assert_eq!(diff.figures[0].ratio, Some(0.5));
    assert_eq!(
        diff.warnings,
        [
            "different kernel: A 6.1, B 6.2",
            "different plan, sessions: A 2, B 4"
        ]
    );
}
