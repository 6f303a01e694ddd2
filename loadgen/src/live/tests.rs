//! The view on terminals of all sizes.

use std::path::Path;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::plan::{Arrivals, Pace, Shape};
use crate::sockets::Ledger;

fn plan() -> Plan {
    let target = Target::Tcp("127.0.0.1:7299".parse().unwrap());
    let mut plan = Plan::new(Scenario::Plain, target);
    plan.sessions = 16;
    plan.duration = Duration::from_secs(60);
    plan.pace = Some(Pace {
        shape: Shape::Constant(5_000),
        arrivals: Arrivals::Poisson,
    });
    plan
}

fn interval(second: u64) -> Interval {
    let mut latencies = Latencies::default();
    for micros in 50..150 {
        latencies
            .response
            .record(Duration::from_micros(micros * (1 + second % 3)));
        latencies.service.record(Duration::from_micros(micros));
        latencies.lag.record(Duration::from_nanos(micros));
    }
    Interval {
        start: Duration::from_secs(second),
        length: Duration::from_secs(1),
        latencies,
        messages: 4_000 + 400 * (second % 5),
        bytes: 256_000,
        rounds: 4_000 + 400 * (second % 5),
        seen: Seen {
            sessions: 16,
            relay: Some(ProcessSample {
                cpu_ns: second * 250_000_000,
                rss_bytes: 12_300_000,
                ..ProcessSample::default()
            }),
            sockets: Some(Ledger {
                relay: [("ESTABLISHED", 16)].into(),
                generator: [("ESTABLISHED", 16), ("TIME_WAIT", 1_204)].into(),
                ..Ledger::default()
            }),
            ..Seen::default()
        },
    }
}

fn running() -> View {
    let mut view = View::new(&plan());
    view.hear(&News::Progress(Progress {
        sessions: 16,
        streams: 16,
        messages: 90_000,
        rounds: 90_000,
        failures: 3,
        ..Progress::default()
    }));
    for second in 0..30 {
        view.hear(&News::Interval(&interval(second)));
    }
    view.remark("--out: disk full; the run goes on without its files".into());
    view
}

/// Returns the lines of a terminal of this size.
fn shown(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| frame.render_widget(view, frame.area()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(width.max(1)));
    rows.map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    })
    .collect()
}

#[test]
fn pictures_are_the_ones_that_were_looked_at() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/live/snapshots");
    for (width, height) in [(40, 10), (80, 24), (160, 50)] {
        let picture = shown(&running(), width, height).join("\n") + "\n";
        let path = directory.join(format!("{width}x{height}.txt"));
        if std::env::var_os("RINGWAY_BLESS").is_some() {
            std::fs::write(&path, &picture).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            known == picture,
            "{} is not what is drawn; look at this and run again with RINGWAY_BLESS=1:\n{picture}",
            path.display()
        );
    }
}

#[test]
fn every_size_is_drawn_without_a_panic() {
    for view in [View::new(&plan()), running()] {
        for width in 0..130 {
            for height in [0, 1, 2, 3, 5, 7, 9, 12, 17, 23, 24, 60] {
                let lines = shown(&view, width, height);
                assert!(lines.len() <= usize::from(height), "{width}x{height}");
            }
        }
    }
}

#[test]
fn the_smallest_terminals_keep_what_matters_most() {
    let text = shown(&running(), 40, 4).join("\n");
    for part in ["plain", "30 s of 60 s", "messages/s", "failures 3"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn before_it_counts_the_view_says_what_it_waits_for() {
    let mut view = View::new(&plan());
    let text = shown(&view, 80, 24).join("\n");
    assert!(text.contains("setting up: 0 of"), "{text}");
    assert!(text.contains("not counting yet"), "{text}");
    view.hear(&News::Progress(Progress {
        sessions: 16,
        streams: 16,
        ..Progress::default()
    }));
    let text = shown(&view, 80, 24).join("\n");
    assert!(text.contains("warming up"), "{text}");
    view.end_early();
    let text = shown(&view, 80, 24).join("\n");
    assert!(text.contains("ending early"), "{text}");
}

#[test]
fn cycles_are_counted_instead_of_time() {
    let target = Target::Tcp("127.0.0.1:7299".parse().unwrap());
    let mut plan = Plan::new(Scenario::Churn, target);
    plan.churn.cycles = Some(1_000);
    let mut view = View::new(&plan);
    view.hear(&News::Interval(&interval(0)));
    view.hear(&News::Progress(Progress {
        rounds: 250,
        ..Progress::default()
    }));
    let (share, text) = view.done();
    assert!((share - 0.25).abs() < 1e-9);
    assert_eq!(text, "250 of 1000 cycles in 1 s");
}

#[test]
fn memory_is_bounded() {
    let mut view = View::new(&plan());
    for second in 0..1_000 {
        view.hear(&News::Interval(&interval(second)));
        view.remark("x".into());
    }
    assert_eq!(
        (view.rates.len(), view.remarks.len()),
        (RATES_MAX, REMARKS_MAX)
    );
}
