//! Each counter and each level, quiet and not.

use super::table::COUNTERS;
use super::*;
use crate::tcp::TcpSocket;

const SECOND: Duration = Duration::from_secs(1);

/// A snapshot with every counter at 1,000 and every level empty.
fn calm() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for counter in COUNTERS {
        snapshot.set(counter.name, Some(1_000));
    }
    for gauge in gauges::GAUGES {
        snapshot.fill(gauge.name, 0, 1_000);
    }
    snapshot
}

/// Returns what becomes of the calm host when counters grow as told.
fn after(grown: &[(&'static str, u64)]) -> Vec<Sign> {
    let mut snapshot = calm();
    for (name, delta) in grown {
        snapshot.set(name, Some(1_000 + delta));
    }
    signs(&calm(), &snapshot, SECOND)
}

fn only(signs: &[Sign]) -> &Sign {
    let [sign] = signs else {
        panic!("not one sign: {signs:?}")
    };
    sign
}

#[test]
fn nothing_happened_is_no_sign() {
    assert_eq!(signs(&calm(), &calm(), SECOND), []);
}

#[test]
fn each_counter_has_a_verdict_and_bad_ones_a_fix() {
    let silent = ["ActiveOpens", "PassiveOpens", "OutSegs", "InSegs"];
    for counter in COUNTERS {
        let found = after(&[(counter.name, 40)]);
        if silent.contains(&counter.name) {
            assert_eq!(found, [], "{}", counter.name);
            continue;
        }
        let sign = only(&found);
        assert_eq!((sign.name, sign.delta), (counter.name, Some(40)));
        assert!(sign.says.contains(" 40 times in 1.0 s: "), "{sign:?}");
        if sign.weight == Weight::Bad {
            assert!(!sign.fix.is_empty(), "{sign:?}");
        }
    }
}

#[test]
fn rate_is_that_of_the_time_between() {
    let mut late = calm();
    late.set("ListenOverflows", Some(1_001));
    let found = signs(&calm(), &late, Duration::from_millis(250));
    let sign = only(&found);
    assert_eq!((sign.delta, sign.per_second), (Some(1), Some(4.0)));
    assert!(sign.says.contains("1 time in 0.2 s"), "{sign:?}");
}

#[test]
fn drop_that_is_an_overflow_is_said_once() {
    let found = after(&[("ListenOverflows", 312), ("ListenDrops", 312)]);
    assert_eq!(only(&found).name, "ListenOverflows");
    let found = after(&[("ListenOverflows", 312), ("ListenDrops", 315)]);
    let [_, drops] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((drops.name, drops.delta), ("ListenDrops", Some(3)));
}

#[test]
fn share_decides_between_bad_and_note() {
    let weight = |grown: &[(&'static str, u64)]| {
        let found = after(grown);
        only(&found).weight
    };
    for (again, sent, expected) in [
        (100, 10_000, Weight::Bad),
        (99, 10_000, Weight::Note),
        // Few events are no share, however little else went on.
        (9, 9, Weight::Note),
        (10, 0, Weight::Bad),
    ] {
        let grown = [("RetransSegs", again), ("OutSegs", sent)];
        assert_eq!(weight(&grown), expected, "{again} of {sent}");
    }
    assert_eq!(
        weight(&[("TCPSynRetrans", 10), ("ActiveOpens", 101)]),
        Weight::Note
    );
    assert_eq!(
        weight(&[("TCPSynRetrans", 10), ("ActiveOpens", 100)]),
        Weight::Bad
    );
}

#[test]
fn share_of_something_unknown_is_a_note() {
    let mut snapshot = calm();
    snapshot.set("RetransSegs", Some(9_000));
    snapshot.set("OutSegs", None);
    let mut before = calm();
    before.set("OutSegs", None);
    let found = signs(&before, &snapshot, SECOND);
    assert_eq!(only(&found).weight, Weight::Note);
}

#[test]
fn counter_that_went_back_is_unknown() {
    let mut reset = calm();
    reset.set("ListenOverflows", Some(5));
    let found = signs(&calm(), &reset, SECOND);
    let sign = only(&found);
    assert_eq!((sign.weight, sign.delta), (Weight::Unknown, None));
    assert!(sign.says.contains("from 1000 to 5 in /proc/net/netstat"));
}

#[test]
fn counter_that_vanished_is_unknown_and_one_that_was_never_there_is_said_at_the_start() {
    let mut without = calm();
    without.set("softnet_dropped", None);
    let found = signs(&calm(), &without, SECOND);
    let sign = only(&found);
    assert_eq!(sign.weight, Weight::Unknown);
    assert!(sign.says.contains("/proc/net/softnet_stat"), "{sign:?}");
    assert_eq!(signs(&without, &without, SECOND), []);
    assert_eq!(signs(&without, &calm(), SECOND), []);
    assert_eq!(
        unknowns(&without),
        ["softnet_dropped (not in /proc/net/softnet_stat)"]
    );
    assert_eq!(unknowns(&calm()), [""; 0]);
}

#[test]
fn each_unknown_names_the_file_that_was_tried() {
    let lines = unknowns(&Snapshot::default());
    assert_eq!(lines.len(), 3 + gauges::GAUGES.len());
    assert!(lines.iter().all(|line| line.contains("/proc/")));
}

#[test]
fn levels_are_bad_from_their_own_share_on() {
    for (name, bad) in [
        ("time_wait", 800),
        ("orphans", 250),
        ("tcp_memory", 800),
        ("conntrack", 800),
        ("files", 800),
    ] {
        let at = |now| {
            let mut snapshot = calm();
            snapshot.fill(name, now, 1_000);
            signs(&calm(), &snapshot, SECOND)
        };
        assert_eq!(at(bad - 1), [], "{name}");
        let found = at(bad);
        let sign = only(&found);
        assert_eq!((sign.name, sign.weight), (name, Weight::Bad));
        let level = Level {
            now: bad,
            most: 1_000,
        };
        assert_eq!(sign.level, Some(level));
        assert!(!sign.fix.is_empty());
    }
}

#[test]
fn level_without_room_is_full() {
    assert_eq!(Level { now: 0, most: 0 }.percent(), 100);
}

/// Returns ports of a range of 10, so many of them used to one destination.
fn ports_used(count: u16) -> Snapshot {
    let mut ports = Ports::new(Some((40_000, 40_009)), &[]);
    for n in 0..count {
        ports.add(&TcpSocket {
            local: ([10, 0, 0, 1], 40_000 + n).into(),
            remote: ([10, 9, 9, 9], 443).into(),
            state: "ESTABLISHED",
            send_queue: 0,
            receive_queue: 0,
        });
    }
    let mut snapshot = calm();
    snapshot.ports = Some(ports);
    snapshot
}

#[test]
fn fullest_class_of_ports_is_bad_from_four_fifths_on() {
    assert_eq!(signs(&calm(), &ports_used(7), SECOND), []);
    let found = signs(&calm(), &ports_used(8), SECOND);
    let sign = only(&found);
    assert_eq!((sign.name, sign.weight), ("ports", Weight::Bad));
    let says = "connections from 10.0.0.1 to 10.9.9.9:443 hold 8 of 10 ports (80 %)";
    assert!(sign.says.starts_with(says), "{sign:?}");
}

#[test]
fn ports_that_are_only_held_are_bad_from_a_tenth_on() {
    let held = |count| {
        let mut snapshot = ports_used(0);
        if let Some(ports) = &mut snapshot.ports {
            ports.held = count;
        }
        signs(&calm(), &snapshot, SECOND)
    };
    assert_eq!(held(Some(0)), []);
    assert_eq!(held(None), []);
    assert_eq!(only(&held(Some(1))).name, "ports_held");
}

#[test]
fn the_worst_comes_first() {
    let found = after(&[("AttemptFails", 3), ("TCPBacklogDrop", 1)]);
    let names: Vec<_> = found.iter().map(|sign| sign.name).collect();
    assert_eq!(names, ["TCPBacklogDrop", "AttemptFails"]);
}

#[test]
fn totals_add_up_and_remember_the_worst() {
    let interval = |signs| Interval {
        seconds: 1.0,
        flow: Flow {
            accepted_per_second: None,
            opened_per_second: None,
            segments_per_second: None,
            connections: None,
        },
        signs,
    };
    let mut totals = Totals::default();
    totals.add(&interval(after(&[("AttemptFails", 3)])));
    assert!(!totals.is_bad());
    totals.add(&interval(Vec::new()));
    totals.add(&interval(after(&[("ListenOverflows", 300)])));
    totals.add(&interval(after(&[("ListenOverflows", 12)])));
    totals.add(&interval(signs(&calm(), &ports_used(9), SECOND)));
    totals.add(&interval(signs(&calm(), &ports_used(8), SECOND)));
    assert!(totals.is_bad());
    assert_eq!((totals.intervals, totals.quiet), (6, 1));
    let [overflows, ports, fails] = totals.signs.as_slice() else {
        panic!("{totals:?}")
    };
    assert_eq!((overflows.count, overflows.intervals), (312, 2));
    assert!((overflows.per_second_max - 300.0).abs() < f64::EPSILON);
    assert_eq!(ports.level_max, Some(Level { now: 9, most: 10 }));
    assert_eq!((fails.name, fails.count), ("AttemptFails", 3));
}
