//! Results: derived figures, and who gets them in which form.
//!
//! Here: the figures of an outcome. Not here: their text (`report::text`), JSON (`report::json`) and
//! page (`report::page`).
//!
//! Units: processor time a byte is given as seconds a gigabyte (10^9 bytes), a message as microseconds;
//! a message there and back crosses the relay twice and counts as two.

pub use self::findings::{round_line, window_line};
pub use self::json::document;
pub use self::ledger::{ledger_head, ledger_row};
pub use self::progress::progress_line;
pub use self::text::{line, table};

pub mod hgrm;
pub mod page;

pub(crate) mod format;

mod findings;
mod inside;
mod json;
mod ledger;
mod progress;
mod text;

use std::time::Duration;

use crate::plan::Plan;
use crate::run::Outcome;
use crate::tally::Tally;

/// Figures that follow from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Time that counted.
    pub seconds: f64,
    /// Stream bytes a second.
    pub bytes_per_second: f64,
    /// Messages a second.
    pub messages_per_second: f64,
    /// Handshakes, opens, setups or round trips a second.
    pub rounds_per_second: f64,
    /// The relay's.
    pub relay: Option<Cost>,
    /// The generator's own.
    pub generator: Cost,
    /// Resident memory that a session added to the relay.
    pub relay_bytes_per_session: Option<f64>,
    /// Whether a run without a clock was as fast as the generator's threads, which had no time left, and
    /// maybe not as fast as the server.
    pub is_generator_limit: bool,
}

/// What a process cost while it counted.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Cost {
    /// Processor seconds.
    pub cpu_seconds: f64,
    /// Processor seconds a second: 1 is a whole core.
    pub cores: f64,
    /// Processor seconds a gigabyte.
    pub seconds_per_gigabyte: Option<f64>,
    /// Processor microseconds a message.
    pub micros_per_message: Option<f64>,
    /// Processor microseconds a handshake, open, setup or round trip.
    pub micros_per_round: Option<f64>,
    /// Share of user time in percent, when there was enough to tell.
    pub user_percent: Option<u64>,
}

impl Figures {
    /// Returns the figures of an outcome.
    #[must_use]
    pub fn of(plan: &Plan, outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        let seconds = tally.measured.as_secs_f64().max(f64::MIN_POSITIVE);
        let cost = |cpu: Duration, user_percent| {
            let cpu = cpu.as_secs_f64();
            let per = |count: u64, scale: f64| (count > 0).then(|| cpu * scale / float(count));
            Cost {
                cpu_seconds: cpu,
                cores: cpu / seconds,
                seconds_per_gigabyte: per(tally.bytes, 1e9),
                micros_per_message: per(tally.messages, 1e6),
                micros_per_round: per(tally.rounds, 1e6),
                user_percent,
            }
        };
        let relay = outcome.relay.map(|relay| {
            cost(
                relay.end.cpu_since(&relay.start),
                relay.end.user_percent_since(&relay.start),
            )
        });
        // Where sessions come and go, or memory is the point of the findings, a share says nothing.
        let rss = outcome
            .relay
            .filter(|_| !plan.is_about_memory())
            .map(|relay| {
                let grown = float(relay.end.rss_bytes) - float(relay.before.rss_bytes);
                grown / f64::from(plan.sessions.max(1))
            });
        Self {
            seconds,
            bytes_per_second: float(tally.bytes) / seconds,
            messages_per_second: float(tally.messages) / seconds,
            rounds_per_second: float(tally.rounds) / seconds,
            relay,
            generator: cost(tally.cpu, None),
            relay_bytes_per_session: rss,
            is_generator_limit: plan.pace.is_none() && is_busy(plan, tally),
        }
    }
}

/// Returns whether the generator's threads had no time left.
pub(crate) fn is_busy(plan: &Plan, tally: &Tally) -> bool {
    let time = tally.measured * plan.placement.threads;
    let busy = tally.cpu.saturating_sub(tally.looked);
    !time.is_zero() && busy.as_secs_f64() > BUSY * time.as_secs_f64()
}

/// Share of their time after which threads have none left.
const BUSY: f64 = 0.9;

/// How a run ended; its number is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Complete, without failures, on time.
    Good,
    /// Something failed.
    Failed,
    /// The generator was late.
    Untrustworthy,
    /// Cut short.
    Interrupted,
}

impl Verdict {
    /// Returns the verdict on an outcome.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        if outcome.tally.failures.total() > 0 {
            Self::Failed
        } else if !outcome.is_complete {
            Self::Interrupted
        } else if !outcome.is_on_time {
            Self::Untrustworthy
        } else {
            Self::Good
        }
    }

    /// Returns the exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Untrustworthy => 3,
            Self::Interrupted => 130,
        }
    }

    /// Returns the word for JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed => "failed",
            Self::Untrustworthy => "untrustworthy",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Returns a count as a number to divide with; exact up to 2^53.
pub(crate) fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
    let float = count as f64;
    float
}
