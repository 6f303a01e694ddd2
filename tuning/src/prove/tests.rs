//! How much a run may use, what it says, and that it leaves nothing behind.

use super::report::SCHEMA;
use super::*;

fn metric(name: &str, better: Better, slices: &[f64]) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: "us".to_owned(),
        better,
        what: "a number".to_owned(),
        slices: slices.to_vec(),
    }
}

/// A result about which there is nothing to say.
fn calm() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        version: "1".to_owned(),
        unix_ms: 0,
        seconds: 5.0,
        settings: BTreeMap::from([("net.core.somaxconn".to_owned(), Some("128".to_owned()))]),
        metrics: vec![
            metric("ping_p50", Better::Lower, &[10.0, 11.0, 12.0]),
            metric("ping_p999", Better::Lower, &[50.0, 60.0, 900.0]),
            metric("wake_p99", Better::Lower, &[90.0, 100.0, 999.0]),
        ],
        storm: Storm {
            asked: 4_096,
            tried: 4_096,
            held: 4_096,
            ..Storm::default()
        },
        ports: PortsTaken {
            taken: 1_000,
            usable: Some(28_232),
            is_exhausted: false,
        },
        counters: BTreeMap::from([("ListenOverflows".to_owned(), Some(0))]),
        left_behind: Some(0),
        remarks: Vec::new(),
    }
}

/// Returns the one remark about a changed result.
fn remark(change: impl FnOnce(&mut Report)) -> Remark {
    let mut report = calm();
    change(&mut report);
    let [remark] = remarks::remarks(&report).try_into().unwrap();
    remark
}

#[test]
fn calm_host_has_no_remarks() {
    assert_eq!(remarks::remarks(&calm()), []);
    assert!(!calm().is_bad());
}

#[test]
fn full_queue_is_bad_and_the_fix_is_the_smaller_limit() {
    let full = |somaxconn: Option<&str>| {
        remark(|report| {
            report.storm.held = 129;
            report.storm.unanswered = 5;
            let value = somaxconn.map(str::to_owned);
            report
                .settings
                .insert("net.core.somaxconn".to_owned(), value);
        })
    };
    let small = full(Some("128"));
    assert!(small.is_bad && small.fix.contains("net.core.somaxconn=4096"));
    assert!(small.says.contains("held 129 of the 4096"), "{small:?}");
    let other = full(Some("4096"));
    assert!(other.is_bad && other.fix.contains("ListenDrops"));
    let unknown = full(None);
    assert!(unknown.says.contains("somaxconn = unknown"), "{unknown:?}");
}

#[test]
fn exhausted_ports_and_sockets_that_stay_are_bad() {
    let found = remark(|report| report.ports.is_exhausted = true);
    assert!(found.is_bad && found.says.contains("connection 1001 to one destination"));
    let found = remark(|report| report.left_behind = Some(3));
    assert!(found.is_bad && found.says.starts_with("3 sockets"));
    let found = remark(|report| report.left_behind = None);
    assert!(!found.is_bad && found.says.contains("unknown"));
}

#[test]
fn smaller_storm_says_why() {
    let found = remark(|report| {
        report.storm.tried = 100;
        report.storm.limited_by = "the limit of open files".to_owned();
    });
    assert!(!found.is_bad);
    assert!(
        found.says.contains("100 connections, not 4096: the limit"),
        "{found:?}"
    );
    let found = remark(|report| {
        report.storm.tried = 100;
        report.storm.is_cut_by_time = true;
    });
    assert!(found.says.contains("time was up"), "{found:?}");
}

#[test]
fn times_are_noted_and_not_bad() {
    for (name, slices) in [
        ("wake_p99", [1_001.0; 3]),
        ("ping_p999", [300.0; 3]),
        ("ping_p50", [10.0, 12.0, 17.0]),
    ] {
        let found = remark(|report| {
            let metric = report.metrics.iter_mut().find(|m| m.name == name);
            metric.unwrap().slices = slices.to_vec();
        });
        assert!(!found.is_bad, "{name}: {found:?}");
    }
}

#[test]
fn counters_are_told_and_unknown_is_not_zero() {
    let found = remark(|report| {
        report.counters.insert("RetransSegs".to_owned(), None);
        report.counters.insert("ListenDrops".to_owned(), Some(7));
    });
    assert!(!found.is_bad);
    assert!(
        found.says.ends_with("ListenDrops 7, RetransSegs unknown"),
        "{found:?}"
    );
    let found = remark(|report| {
        report.counters.insert(THROTTLED.to_owned(), Some(2));
    });
    assert!(found.says.contains("stopped 2 times"), "{found:?}");
}

#[test]
fn storm_takes_no_more_than_the_host_can_miss() {
    let limited = |asked, files, usable| {
        let room = share(asked, files, usable);
        (room.burst, room.limited_by.split(' ').next_back())
    };
    assert_eq!(limited(4_096, 10_000, Some(28_232)), (4_096, Some("")));
    assert_eq!(limited(4_096, 96, Some(28_232)), (96, Some("files")));
    let (burst, by) = limited(4_096, 10_000, Some(64));
    assert_eq!((burst, by), (16, Some("net.ipv4.ip_local_port_range")));
    assert_eq!(limited(65_535, 99_999, None), (CONNECTS_MAX, Some("opens")));
    assert_eq!(share(1, 96, Some(28_232)).ports, 48);
    assert_eq!(share(1, 10_000, Some(64)).ports, 16);
    assert_eq!(share(1, 10_000, Some(1)).ports, 1);
    assert_eq!(share(1, 10_000, None).ports, PORTS_HELD);
}

#[test]
fn difference_counts_when_all_rounds_lie_apart() {
    let outcome = |better, before: &[f64], after: &[f64]| {
        let with = |slices| Report {
            metrics: vec![metric("n", better, slices)],
            ..calm()
        };
        let comparison = compare(&with(before), &with(after));
        let [change] = comparison.changes.try_into().unwrap();
        change.outcome
    };
    let (low, high) = ([1.0, 2.0, 3.0], [3.5, 4.0, 9.0]);
    assert_eq!(outcome(Better::Higher, &low, &high), Outcome::Better);
    assert_eq!(outcome(Better::Higher, &high, &low), Outcome::Worse);
    assert_eq!(outcome(Better::Lower, &low, &high), Outcome::Worse);
    assert_eq!(outcome(Better::Lower, &high, &low), Outcome::Better);
    assert_eq!(outcome(Better::Lower, &low, &[3.0, 9.0]), Outcome::Same);
}

#[test]
fn comparison_has_medians_settings_and_what_makes_it_doubtful() {
    let mut after = calm();
    after.version = "2".to_owned();
    after.seconds = 20.0;
    after.storm.asked = 8_192;
    after
        .settings
        .insert("net.core.somaxconn".to_owned(), Some("4096".to_owned()));
    after.settings.insert("vm.swappiness".to_owned(), None);
    after.metrics.remove(1);
    after.metrics[0].slices = vec![22.0];
    let found = compare(&calm(), &after);
    assert_eq!(
        found.settings,
        [(
            "net.core.somaxconn".to_owned(),
            Some("128".to_owned()),
            Some("4096".to_owned())
        )]
    );
    let ping = found.changes.first().unwrap();
    assert_eq!((ping.ratio, ping.outcome), (Some(2.0), Outcome::Worse));
    let [version, time, backlog, missing] = found.notes.as_slice() else {
        panic!("{:?}", found.notes)
    };
    assert!(version.contains("version 1") && time.contains("--duration"));
    assert!(backlog.contains("--backlog 4096") && missing.contains("only the earlier"));
    let same = compare(&calm(), &calm());
    assert!(same.notes.is_empty() && same.settings.is_empty());
    assert!(same.changes.iter().all(|c| c.outcome == Outcome::Same));
}

#[test]
fn medians_and_ranges_are_those_of_the_rounds() {
    let of = |slices: &[f64]| {
        let metric = metric("n", Better::Lower, slices);
        (metric.median(), metric.range())
    };
    assert_eq!(of(&[3.0, 1.0, 2.0]), (2.0, (1.0, 3.0)));
    assert_eq!(of(&[4.0, 1.0]), (2.5, (1.0, 4.0)));
    assert_eq!(of(&[7.0]), (7.0, (7.0, 7.0)));
}

#[test]
fn result_comes_back_from_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("before.json");
    std::fs::write(&path, serde_json::to_vec(&calm()).unwrap()).unwrap();
    assert_eq!(Report::load(&path).unwrap(), calm());
    let error = Report::load(&directory.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("none: "), "{error}");
}

#[test]
fn files_that_are_no_result_are_named() {
    let good = serde_json::to_string(&calm()).unwrap();
    for (text, says) in [
        (String::new(), "no result of"),
        ("{}".to_owned(), "missing field `schema`"),
        (good.replace("prove/1", "prove/2"), "its schema is"),
        (
            good.replace("\"slices\":[10.0,", "\"slices\":[-1.0,"),
            "\"ping_p50\" are none",
        ),
        (
            good.replace("\"slices\":[10.0,11.0,12.0]", "\"slices\":[]"),
            "\"ping_p50\" are none",
        ),
        (good.replace("\"lower\"", "\"sideways\""), "unknown variant"),
        (good.chars().take(200).collect(), "no result of"),
    ] {
        let error = Report::parse(&text).unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn queue_that_is_shorter_than_the_storm_is_seen() {
    let (listener, address) = loopback::listener(4).unwrap();
    let mut held = Vec::new();
    let unanswered = loop {
        match loopback::dial(address).unwrap() {
            Some(connection) => held.push(connection),
            None => break true,
        }
        assert!(held.len() < 100);
    };
    // The kernel holds one more than was asked for.
    assert!(unanswered && held.len() == 5, "{}", held.len());
    drop((held, listener));
    assert_eq!(left_behind(&[address]), Some(0));
}

#[test]
fn self_test_measures_everything_and_leaves_nothing_behind() {
    let trial = Trial {
        duration: Duration::from_secs(1),
        backlog: 64,
    };
    let report = prove(&trial).unwrap();
    let names: Vec<&str> = report.metrics.iter().map(|m| m.name.as_str()).collect();
    for name in ["connects", "ping_p999", "bulk", "port", "wake_p99"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let rounds = usize::try_from(ROUNDS).unwrap();
    assert!(report.metrics.iter().all(|m| m.slices.len() == rounds));
    assert_eq!((report.storm.held, report.storm.unanswered), (64, 0));
    assert!(report.ports.taken >= 32 && report.left_behind == Some(0));
    assert!(report.settings.contains_key("net.core.somaxconn"));
    let again = Report::parse(&serde_json::to_string(&report).unwrap());
    assert_eq!(again.unwrap().storm, report.storm);
}
