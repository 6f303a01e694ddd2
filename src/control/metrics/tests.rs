//! The metrics: laws, names, and the text.

use super::*;
use crate::config::Config;

#[test]
fn buckets_are_cumulative_and_end_with_the_count() {
    let mut histogram = Histogram::<u32>::new_with_bounds(1, 60_000_000, 3).unwrap();
    for micros in [90, 240, 2_400, 70_000, 30_000_000] {
        histogram.record(micros).unwrap();
    }
    let counts: Vec<u64> = BUCKETS
        .iter()
        .map(|(bound, _)| histogram.count_between(0, *bound))
        .collect();
    assert_eq!(counts, [1, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]);
    for (micros, le) in BUCKETS {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let bound = micros as f64 / 1e6;
        assert!((le.parse::<f64>().unwrap() - bound).abs() < 1e-12);
    }
    assert!((seconds(&histogram) - 30.072_73).abs() < 0.05);
    let page = page(
        &[shard(3)],
        (None, None, &Shared::new(&Config::default())),
        0,
        false,
    );
    for line in [
        "_bucket{shard=\"3\",le=\"0.0001\"} 0",
        "_bucket{shard=\"3\",le=\"+Inf\"} 0",
        "_sum{shard=\"3\"} 0",
        "_count{shard=\"3\"} 0",
    ] {
        for name in ["ringway_open_seconds", "ringway_handshake_seconds"] {
            let line = format!("{name}{line}\n");
            assert!(page.contains(&line), "{line} is not in the page");
        }
    }
}

fn shard(number: u16) -> ShardView {
    let mut stats = CoreStats::default();
    stats.sockets_opened = 3;
    stats.sockets_current = 3;
    stats.sessions_closed.count(Reason::Idle);
    stats.sessions_opened = 1;
    ShardView {
        stats,
        ..ShardView::quiet(number)
    }
}

#[test]
fn page_has_one_help_and_one_type_a_metric() {
    let page = page(
        &[shard(0), shard(1)],
        (None, None, &Shared::new(&Config::default())),
        7,
        false,
    );
    for Metric { name, .. } in METRICS {
        assert_eq!(
            page.matches(&format!("# HELP {name} ")).count(),
            1,
            "{name}"
        );
        assert_eq!(
            page.matches(&format!("# TYPE {name} ")).count(),
            1,
            "{name}"
        );
    }
    assert!(
        page.contains("ringway_sockets_current{shard=\"1\"} 3\n"),
        "{page}"
    );
    assert!(
        page.contains("ringway_sessions_closed_total{shard=\"0\",reason=\"idle\"} 1\n"),
        "{page}"
    );
}

#[test]
fn names_follow_the_pattern() {
    for Metric { name, read, .. } in METRICS {
        assert!(name.starts_with("ringway_"));
        let suffix = match read {
            Read::Counter(_)
            | Read::CounterByDialect(_)
            | Read::CounterByReason(_)
            | Read::ShardCounter(_) => "_total",
            Read::Gauge(_) | Read::GaugeByDialect(_) | Read::ShardGauge(_) => "_current",
        };
        assert!(name.ends_with(suffix), "{name}");
    }
}

#[test]
fn every_law_stands_in_a_help_text() {
    let laws = CoreStats::LAWS.iter().map(|law| law.text);
    for text in laws.chain(SHARD_LAWS.iter().map(|law| law.text)) {
        let has_law = |metric: &Metric| metric.help.contains(text);
        assert!(METRICS.iter().any(has_law), "{text}");
    }
}

#[test]
fn connection_that_neither_went_nor_stayed_breaks_the_law_of_hand_overs() {
    let mut view = ShardView::quiet(0);
    view.ring.hand_overs_started = 4;
    view.ring.hand_overs = 2;
    view.ring.hand_overs_failed = 1;
    let law = &SHARD_LAWS[1];
    assert_eq!((law.sides)(&view), (4, 3));
    view.ring.hand_overs_current = 1;
    assert_eq!((law.sides)(&view), (4, 4));
}

#[test]
fn slot_that_was_neither_opened_nor_closed_breaks_the_law_of_the_ring() {
    let sides = |view: &ShardView| SHARD_LAWS.iter().map(|law| (law.sides)(view)).collect();
    let mut view = ShardView::quiet(0);
    view.ring.sockets_opened = 5;
    view.ring.sockets_closed = 4;
    view.ring.sockets_current = 1;
    let sound: Vec<(u64, u64)> = sides(&view);
    assert_eq!(sound, [(5, 5), (0, 0)]);
    view.ring.sockets_current = 2;
    let broken: Vec<(u64, u64)> = sides(&view);
    assert_eq!(broken, [(5, 6), (0, 0)]);
}
