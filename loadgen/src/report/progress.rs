//! How a run goes, in one line.
//!
//! Here: the text. Not here: how often it is shown (the program).

use std::time::Duration;

use super::{float, format};
use crate::run::Progress;

/// Returns where a run is after `elapsed`: what stands, and what was done a second since `before`, which
/// was `span` ago.
#[must_use]
pub fn progress_line(
    elapsed: Duration,
    before: &Progress,
    now: &Progress,
    span: Duration,
) -> String {
    let rate = |now: u64, before: u64| {
        float(now.saturating_sub(before)) / span.as_secs_f64().max(f64::MIN_POSITIVE)
    };
    let mut parts = vec![format!("{} sessions", now.sessions)];
    if now.streams > 0 {
        parts.push(format!("{} streams", now.streams));
    }
    if now.messages > 0 {
        let messages = format::short(rate(now.messages, before.messages));
        let bytes = format::bytes(rate(now.bytes, before.bytes));
        parts.push(format!("{messages} messages/s, {bytes}/s"));
    }
    if now.rounds > 0 && now.rounds != now.messages {
        let rounds = format::short(rate(now.rounds, before.rounds));
        parts.push(format!("{rounds} rounds/s"));
    }
    parts.push(format!("{} failures", now.failures));
    let elapsed = format::seconds(elapsed.as_secs_f64().round().max(1.0));
    format!("{elapsed}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happens_is_told() {
        let now = Progress {
            sessions: 16,
            rounds: 30_000,
            failures: 2,
            ..Progress::default()
        };
        let before = Progress {
            rounds: 10_000,
            ..Progress::default()
        };
        let span = Duration::from_secs(10);
        assert_eq!(
            progress_line(Duration::from_millis(19_800), &before, &now, span),
            "20 s: 16 sessions, 2k rounds/s, 2 failures"
        );
        let now = Progress {
            streams: 8,
            messages: 100_000,
            bytes: 6_400_000,
            ..now
        };
        assert_eq!(
            progress_line(Duration::from_secs(4_000), &before, &now, span),
            "1 h 6 min: 16 sessions, 8 streams, 10k messages/s, 640 kB/s, 2k rounds/s, 2 failures"
        );
    }
}
