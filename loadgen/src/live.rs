//! A run on a terminal while it goes on.
//!
//! Here: what is shown, and how news change it. Not here: how it is drawn (`live::draw`), the terminal and
//! its keys (the program).
//!
//! The view is a value: the same news make the same picture.
//! Bound: 400 rates and 100 remarks.

use std::collections::VecDeque;
use std::time::Duration;

use crate::intervals::{Interval, Seen};
use crate::latency::{Latencies, Summary};
use crate::plan::{Plan, Scenario, Target};
use crate::process::ProcessSample;
use crate::report::{float, round_line, window_line};
use crate::run::{News, Progress};

mod draw;

/// Rates that are kept: as many as a wide terminal has columns.
const RATES_MAX: usize = 400;
/// Remarks that are kept.
const REMARKS_MAX: usize = 100;

/// What a terminal shows of a run.
#[derive(Debug, Clone)]
pub struct View {
    title: String,
    target: String,
    /// What sessions are counted as.
    sessions: &'static str,
    /// What a round is called.
    rounds: &'static str,
    /// Sessions and streams that are wanted before it counts.
    wanted: [u32; 2],
    /// Whether the server's process is looked at.
    has_process: bool,
    /// Time that is to count, or rounds.
    length: Length,
    /// Time that has counted; none before that.
    counted: Option<Duration>,
    progress: Progress,
    /// What was done a second, the last one last.
    rates: VecDeque<u64>,
    bytes_per_second: f64,
    /// Response, service and lag of the last interval, then of all.
    last: [Option<Summary>; 3],
    whole: [Option<Summary>; 3],
    latencies: Latencies,
    seen: Seen,
    cores: Option<f64>,
    process: Option<(ProcessSample, Duration)>,
    remarks: VecDeque<String>,
    is_ending: bool,
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Rounds(u64),
    Time(Duration),
}

impl View {
    /// Returns the view of a run that has not begun.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let rate = match (&plan.pace, plan.scenario) {
            (Some(pace), _) => format!(", {} a second ({})", pace.shape, pace.arrivals.name()),
            (None, Scenario::Idle | Scenario::Slowloris) => String::new(),
            (None, _) => ", full speed".to_owned(),
        };
        let target = match plan.target {
            Target::Proxy { connect, listen } => format!("{connect} to {listen}"),
            Target::Relay(_) | Target::Tcp(_) => plan.target.socket().to_string(),
        };
        let rounds = match plan.scenario {
            Scenario::Churn => "cycles",
            Scenario::Evict => "evictions",
            Scenario::Storm => "returns",
            Scenario::Handshakes | Scenario::Opens | Scenario::Setups => plan.name(),
            _ => "round trips",
        };
        let length = match (plan.scenario, plan.churn.cycles) {
            (Scenario::Churn, Some(cycles)) => Length::Rounds(cycles),
            _ => Length::Time(plan.duration),
        };
        Self {
            title: format!("{}{rate}", plan.title()),
            target: format!("{target}, {}", plan.placement.threads_text()),
            // Those that come and go are counted when they come.
            sessions: match plan.scenario {
                Scenario::Churn | Scenario::Handshakes => "sessions made",
                _ => "sessions",
            },
            rounds,
            wanted: [plan.sessions_standing(), plan.streams_total()],
            has_process: plan.relay_pid.is_some(),
            length,
            counted: None,
            progress: Progress::default(),
            rates: VecDeque::new(),
            bytes_per_second: 0.0,
            last: [None; 3],
            whole: [None; 3],
            latencies: Latencies::default(),
            seen: Seen::default(),
            cores: None,
            process: None,
            remarks: VecDeque::new(),
            is_ending: false,
        }
    }

    /// Takes news in.
    pub fn hear(&mut self, news: &News<'_>) {
        match news {
            News::Interval(interval) => self.add(interval),
            News::Progress(progress) => self.progress = *progress,
            News::Round(round) => self.remark(round_line(round)),
            News::Window(number, window) => self.remark(window_line(*number, window)),
        }
    }

    /// Adds a line that stays.
    pub fn remark(&mut self, line: String) {
        if self.remarks.len() == REMARKS_MAX {
            self.remarks.pop_front();
        }
        self.remarks.push_back(line);
    }

    /// Says that the run is about to end early.
    pub const fn end_early(&mut self) {
        self.is_ending = true;
    }

    /// Returns the lines that stay, the oldest first.
    pub fn remarks(&self) -> impl Iterator<Item = &str> {
        self.remarks.iter().map(String::as_str)
    }

    fn add(&mut self, interval: &Interval) {
        let end = interval.start + interval.length;
        self.counted = Some(end);
        let seconds = interval.length.as_secs_f64();
        // What comes while the run drains is no rate.
        if seconds >= SECONDS_MIN {
            let done = if interval.messages > 0 {
                interval.messages
            } else {
                interval.rounds
            };
            if self.rates.len() == RATES_MAX {
                self.rates.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is at most some 10^9"
            )]
            self.rates.push_back((float(done) / seconds).round() as u64);
            self.bytes_per_second = float(interval.bytes) / seconds;
        }
        self.last = summaries(&interval.latencies);
        self.latencies.merge(&interval.latencies);
        self.whole = summaries(&self.latencies);
        if let Some(sample) = interval.seen.relay {
            let span = self
                .process
                .map(|(before, then)| (sample.cpu_since(&before), end.saturating_sub(then)));
            self.cores = span
                .filter(|(_, span)| !span.is_zero())
                .map(|(cpu, span)| cpu.as_secs_f64() / span.as_secs_f64());
            self.process = Some((sample, end));
        }
        self.seen = interval.seen.clone();
    }

    /// Returns how much of the run is done, from 0 to 1, and that in words.
    fn done(&self) -> (f64, String) {
        if self.is_ending {
            return (
                1.0,
                "ending early: waiting for what is on its way".to_owned(),
            );
        }
        let Some(counted) = self.counted else {
            let [sessions, streams] = self.wanted;
            let have = u64::from(self.progress.sessions) + u64::from(self.progress.streams);
            let want = u64::from(sessions) + u64::from(streams);
            if have < want {
                let share = float(have) / float(want);
                return (
                    share,
                    format!("setting up: {have} of {want} sessions and streams"),
                );
            }
            return (0.0, "warming up".to_owned());
        };
        let seconds = |time: Duration| crate::report::format::seconds(time.as_secs_f64().round());
        match self.length {
            Length::Rounds(rounds) => {
                let have = self.progress.rounds.min(rounds);
                let share = float(have) / float(rounds.max(1));
                let text = format!("{have} of {rounds} {} in {}", self.rounds, seconds(counted));
                (share.min(1.0), text)
            }
            Length::Time(whole) => {
                let share = counted.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE);
                let left = whole.saturating_sub(counted);
                let text = format!(
                    "{} of {}, {} left",
                    seconds(counted),
                    seconds(whole),
                    seconds(left)
                );
                (share.min(1.0), text)
            }
        }
    }
}

/// An interval that is shorter has no rate.
const SECONDS_MIN: f64 = 0.25;

fn summaries(latencies: &Latencies) -> [Option<Summary>; 3] {
    [&latencies.response, &latencies.service, &latencies.lag]
        .map(|times| (times.count() > 0).then(|| times.summary()))
}

#[cfg(test)]
mod tests;
