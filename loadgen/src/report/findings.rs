//! What only some scenarios find, as text.
//!
//! Here: the lines for people and the `name=value` pairs. Not here: the values (`findings`).

use super::text::{bytes, put};
use crate::findings::{
    ChurnFindings, Findings, Round, SlowReaderFindings, SlowlorisFindings, Window,
};
use crate::sockets::Ledger;

/// Returns one round of a churn as one line.
#[must_use]
pub fn round_line(round: &Round) -> String {
    let mut out = format!(
        "round {}: {} cycles in {:.1} s ({:.0}/s), settled after {:.1} s",
        round.number,
        round.cycles,
        round.seconds,
        rate(round.cycles, round.seconds),
        round.settle_seconds
    );
    if let Some(rss) = round.books.rss_bytes {
        put(&mut out, format_args!(", relay {} KiB", rss / 1_024));
    }
    if let Some(files) = round.books.files {
        put(&mut out, format_args!(" and {files} descriptors"));
    }
    put(
        &mut out,
        format_args!(", sockets of {}", sockets(&round.books.sockets)),
    );
    for leftover in &round.leftovers {
        put(&mut out, format_args!("; LEFT OVER: {leftover}"));
    }
    out
}

/// Returns one window as one line.
#[must_use]
pub fn window_line(number: u32, window: &Window) -> String {
    let kind = if window.is_slow {
        "with slow readers"
    } else {
        "without"
    };
    let rate = bytes(window.bytes_per_second());
    let mut out = format!("window {number}, {kind}: {rate}/s");
    if let Some(rss) = window.rss_bytes {
        put(&mut out, format_args!(", relay {} KiB", rss / 1_024));
    }
    out
}

/// Appends the findings as lines of a table.
pub(super) fn table(out: &mut String, findings: &Findings) {
    if let Some(churn) = &findings.churn {
        churn_table(out, churn);
    }
    if let Some(slowloris) = &findings.slowloris {
        slowloris_table(out, slowloris);
    }
    if let Some(slow) = &findings.slow_reader {
        slow_table(out, slow);
    }
    if let Some(found) = &findings.setups {
        put(
            out,
            format_args!(
                "hops           {} ids reserved, {} rules added, {} ids released, for {} setups\n",
                found.asked.ids_reserved,
                found.asked.rules_added,
                found.asked.ids_released,
                found.setups
            ),
        );
    }
    if let (Some(before), Some(after)) = (&findings.books_before, &findings.books_after) {
        if let (Some(before), Some(after)) = (before.files, after.files) {
            put(
                out,
                format_args!("descriptors    {before} before, {after} after\n"),
            );
        }
        put(
            out,
            format_args!("sockets        {} after\n", sockets(&after.sockets)),
        );
    }
}

/// Appends the findings as `name=value`.
pub(super) fn line(out: &mut String, findings: &Findings) {
    if let Some(churn) = &findings.churn {
        put(out, format_args!(" cycles_failed={}", churn.cycles_failed));
        for (phase, count) in &churn.cycles {
            put(
                out,
                format_args!(" cycles_{}={count}", phase.replace('-', "_")),
            );
        }
        put(
            out,
            format_args!(
                " rounds={} streams_accepted={} streams_reset={}",
                churn.rounds.len(),
                churn.streams_accepted,
                churn.streams_reset
            ),
        );
    }
    if let Some(slowloris) = &findings.slowloris {
        put(
            out,
            format_args!(
                " open_most={} open_at_end={}",
                slowloris.open_most, slowloris.open_at_end
            ),
        );
        if let Some(each) = slowloris.rss_bytes_per_socket {
            put(out, format_args!(" relay_bytes_per_socket={each:.0}"));
        }
        for (kind, found) in &slowloris.kinds {
            for (name, count) in &found.ends {
                put(
                    out,
                    format_args!(" {kind}_{}={count}", name.replace(' ', "_")),
                );
            }
            let (p50, max) = (found.life.p50_ns, found.life.max_ns);
            put(
                out,
                format_args!(" {kind}_life_p50_ns={p50} {kind}_life_max_ns={max}"),
            );
        }
    }
    if let Some(slow) = &findings.slow_reader {
        put(
            out,
            format_args!(
                " bytes_per_second_off={:.0} bytes_per_second_on={:.0} ratio={:.3}",
                slow.bytes_per_second_off, slow.bytes_per_second_on, slow.ratio
            ),
        );
    }
    if let Some(found) = &findings.setups {
        put(
            out,
            format_args!(
                " setups={} ids_reserved={} rules_added={} ids_released={}",
                found.setups,
                found.asked.ids_reserved,
                found.asked.rules_added,
                found.asked.ids_released
            ),
        );
    }
}

fn churn_table(out: &mut String, churn: &ChurnFindings) {
    let phases: Vec<String> = churn
        .cycles
        .iter()
        .map(|(phase, count)| format!("{phase} {count}"))
        .collect();
    put(out, format_args!("cycles         {}\n", phases.join(", ")));
    put(
        out,
        format_args!(
            "ended else     {} cycles; streams of standing sessions: {} accepted, {} reset\n",
            churn.cycles_failed, churn.streams_accepted, churn.streams_reset
        ),
    );
    for round in &churn.rounds {
        put(out, format_args!("{}\n", round_line(round)));
    }
}

fn slowloris_table(out: &mut String, found: &SlowlorisFindings) {
    for (kind, lives) in &found.kinds {
        let ends: Vec<String> = lives
            .ends
            .iter()
            .map(|(name, count)| format!("{count} by {name}"))
            .collect();
        let seconds = |nanos: u64| super::float(nanos) / 1e9;
        put(
            out,
            format_args!(
                "{kind:<14} {} connected, ended {}; lived {:.2} s (min) {:.2} s (median) {:.2} s (max)\n",
                lives.connected,
                if ends.is_empty() {
                    "none".into()
                } else {
                    ends.join(", ")
                },
                seconds(lives.life.min_ns),
                seconds(lives.life.p50_ns),
                seconds(lives.life.max_ns),
            ),
        );
    }
    put(
        out,
        format_args!(
            "open           {} at most, {} at the end\n",
            found.open_most, found.open_at_end
        ),
    );
    if let (Some(plateau), Some(each)) = (found.rss_plateau_bytes, found.rss_bytes_per_socket) {
        put(
            out,
            format_args!(
                "plateau        {} KiB, {each:.0} B a socket\n",
                plateau / 1_024
            ),
        );
    }
}

fn slow_table(out: &mut String, found: &SlowReaderFindings) {
    for (number, window) in (1..).zip(&found.windows) {
        put(out, format_args!("{}\n", window_line(number, window)));
    }
    put(
        out,
        format_args!(
            "medians        {}/s without, {}/s with slow readers: {:.1} %\n",
            bytes(found.bytes_per_second_off),
            bytes(found.bytes_per_second_on),
            found.ratio * 100.0
        ),
    );
    for (title, counts) in [
        ("slow ends", &found.ends),
        ("relay closed", &found.relay_sessions_closed),
        ("relay reset", &found.relay_streams_reset),
    ] {
        for (name, count) in counts {
            put(out, format_args!("{title:<14} {count} x {name}\n"));
        }
    }
}

/// Returns both sides of a ledger as words.
fn sockets(ledger: &Ledger) -> String {
    let side = |counts: &std::collections::BTreeMap<&str, u64>| {
        let mut out = String::new();
        for (state, count) in counts {
            let comma = if out.is_empty() { "" } else { ", " };
            put(&mut out, format_args!("{comma}{count} {state}"));
        }
        if out.is_empty() {
            "none".to_owned()
        } else {
            out
        }
    };
    format!(
        "the relay: {}, of the generator: {}",
        side(&ledger.relay),
        side(&ledger.generator)
    )
}

fn rate(count: u64, seconds: f64) -> f64 {
    super::float(count) / seconds.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::Books;

    #[test]
    fn a_round_is_one_line_with_its_leftovers() {
        let mut books = Books {
            rss_bytes: Some(2_048),
            files: Some(30),
            ..Books::default()
        };
        books.sockets.relay.insert("ESTABLISHED", 4);
        let round = Round {
            number: 2,
            cycles: 100,
            seconds: 2.0,
            settle_seconds: 0.1,
            books,
            leftovers: vec!["audit sessions: 5 instead of 4".into()],
        };
        assert_eq!(
            round_line(&round),
            "round 2: 100 cycles in 2.0 s (50/s), settled after 0.1 s, relay 2 KiB and 30 descriptors, \
             sockets of the relay: 4 ESTABLISHED, of the generator: none; \
             LEFT OVER: audit sessions: 5 instead of 4"
        );
    }

    #[test]
    fn windows_and_medians_are_shown() {
        let window = |is_slow, bytes| Window {
            is_slow,
            seconds: 1.0,
            bytes,
            rss_bytes: None,
        };
        let findings = Findings {
            slow_reader: Some(SlowReaderFindings::of(vec![
                window(false, 2_000_000),
                window(true, 1_000_000),
            ])),
            ..Findings::default()
        };
        let (mut text, mut pairs) = (String::new(), String::new());
        table(&mut text, &findings);
        line(&mut pairs, &findings);
        assert!(
            text.contains("window 2, with slow readers: 1.00 MB/s"),
            "{text}"
        );
        assert!(text.contains("50.0 %"), "{text}");
        assert!(pairs.contains("ratio=0.500"), "{pairs}");
    }
}
