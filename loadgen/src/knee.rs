//! The knee of a server: the highest rate, or count of sessions, that still meets an objective.
//!
//! Here: the search, without a clock. Not here: runs (`main`), the objective (`assert`), the estimate
//! from what the confirmation saw (`knee::fit`).
//!
//! | state | met | missed |
//! |---|---|---|
//! | climb | next value by the factor; at the maximum the search ends | again; twice: halve |
//! | halve | the middle is the new lower end | the middle is the new upper end |
//! | confirm | counted | counted; afterwards rates at a bad edge are added |
//!
//! An untrustworthy window says nothing about the server: it is repeated, and after
//! [`UNTRUSTWORTHY_MAX`] in a row the search ends. Noise makes single answers wrong: the halving only
//! finds the place, the knee comes from repeated windows around it.

use std::collections::BTreeMap;

use crate::report::float;

pub use self::fit::{Estimate, Windows};

mod fit;

/// What a search is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// First value.
    pub from: u64,
    /// Largest value that is tried.
    pub max: u64,
    /// Factor of the climb.
    pub factor: f64,
    /// Distance of neighbouring values at the end, as a share: 0.05 is 5 %.
    pub resolution: f64,
    /// Windows at each value around the candidate.
    pub confirm: u32,
}

/// What one window showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The objective was met.
    Met,
    /// It was missed.
    Missed,
    /// The generator was late.
    Untrustworthy,
}

impl Seen {
    /// Returns the word for JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Untrustworthy => "untrustworthy",
        }
    }
}

/// How a search ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// The first value misses already.
    FirstMisses,
    /// The knee.
    Found(Estimate),
    /// The maximum still meets the objective: the knee is above it.
    MaximumMeets,
    /// The generator could not keep its schedule at this value.
    Untrustworthy(u64),
}

/// A search.
#[derive(Debug, Clone)]
pub struct Search {
    limits: Limits,
    state: State,
    probes: u32,
    late: u32,
}

#[derive(Debug, Clone)]
enum State {
    Climb {
        value: u64,
        met: Option<u64>,
        has_missed: bool,
    },
    Halve {
        met: u64,
        missed: u64,
    },
    Confirm {
        windows: BTreeMap<u64, Windows>,
        added: u32,
    },
    Ended(End),
}

impl Limits {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), String> {
        if self.from == 0 || self.from > self.max {
            return Err("--from must be at least 1 and at most --max".into());
        }
        if !(self.factor > 1.0 && self.factor <= 100.0) {
            return Err("--factor must be above 1 and at most 100".into());
        }
        if !(self.resolution >= 0.001 && self.resolution <= 0.5) {
            return Err("--resolution must be from 0.1% to 50%".into());
        }
        if !(1..=1_000).contains(&self.confirm) {
            return Err("--confirm must be from 1 to 1000".into());
        }
        Ok(())
    }
}

impl Search {
    /// Returns a search at its beginning.
    ///
    /// # Errors
    /// See [`Limits::check`].
    pub fn new(limits: Limits) -> Result<Self, String> {
        limits.check()?;
        Ok(Self {
            limits,
            state: State::Climb {
                value: limits.from,
                met: None,
                has_missed: false,
            },
            probes: 0,
            late: 0,
        })
    }

    /// Returns the value to try next; none when the search has ended.
    #[must_use]
    pub fn next_value(&self) -> Option<u64> {
        match &self.state {
            State::Climb { value, .. } => Some(*value),
            State::Halve { met, missed } => Some(middle(*met, *missed)),
            State::Confirm { windows, .. } => windows
                .iter()
                .filter(|(_, seen)| seen.total() < self.limits.confirm)
                .min_by_key(|(_, seen)| seen.total())
                .map(|(value, _)| *value),
            State::Ended(_) => None,
        }
    }

    /// Returns how the search ended.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Returns what is being done, as a word.
    #[must_use]
    pub const fn phase(&self) -> &'static str {
        match self.state {
            State::Climb { .. } => "climb",
            State::Halve { .. } => "halve",
            State::Confirm { .. } => "confirm",
            State::Ended(_) => "end",
        }
    }

    /// Returns how many windows there were.
    #[must_use]
    pub const fn probes(&self) -> u32 {
        self.probes
    }

    /// Takes what the window at [`Search::next_value`] showed.
    pub fn observe(&mut self, seen: Seen) {
        let Some(value) = self.next_value() else {
            return;
        };
        self.probes += 1;
        let is_met = match seen {
            Seen::Untrustworthy => {
                self.late += 1;
                if self.late >= UNTRUSTWORTHY_MAX {
                    self.state = State::Ended(End::Untrustworthy(value));
                }
                return;
            }
            Seen::Met => true,
            Seen::Missed => false,
        };
        self.late = 0;
        let limits = self.limits;
        match &mut self.state {
            State::Climb {
                met, has_missed, ..
            } => {
                let (met, has_missed) = (*met, *has_missed);
                self.state = climbed(&limits, value, met, has_missed, is_met);
            }
            State::Halve { met, missed } => {
                *(if is_met { met } else { missed }) = value;
            }
            State::Confirm { windows, .. } => {
                windows.entry(value).or_default().count(is_met);
            }
            State::Ended(_) => {}
        }
        self.settle();
    }

    /// Leaves a state that has nothing left to try.
    fn settle(&mut self) {
        let limits = self.limits;
        match &mut self.state {
            State::Halve { met, missed } if is_close(*met, *missed, limits.resolution) => {
                let values = (-2..=2).map(|step| stepped(&limits, *met, step));
                self.state = State::Confirm {
                    windows: values.map(|value| (value, Windows::default())).collect(),
                    added: 0,
                };
            }
            State::Confirm { windows, added }
                if windows.values().all(|w| w.total() >= limits.confirm) =>
            {
                let more = (*added < ADDED_MAX)
                    .then(|| beyond_edge(&limits, windows))
                    .flatten();
                if let Some(value) = more {
                    *added += 1;
                    windows.insert(value, Windows::default());
                } else {
                    let estimate = Estimate::of(windows, limits.resolution);
                    self.state = State::Ended(End::Found(estimate));
                }
            }
            _ => {}
        }
    }
}

/// The state after a window of the climb.
fn climbed(limits: &Limits, value: u64, met: Option<u64>, has_missed: bool, is_met: bool) -> State {
    match (is_met, met) {
        (true, _) if value >= limits.max => State::Ended(End::MaximumMeets),
        (true, _) => State::Climb {
            value: scaled(value, limits.factor).max(value + 1).min(limits.max),
            met: Some(value),
            has_missed: false,
        },
        (false, _) if !has_missed => State::Climb {
            value,
            met,
            has_missed: true,
        },
        (false, None) => State::Ended(End::FirstMisses),
        (false, Some(met)) => State::Halve { met, missed: value },
    }
}

/// The value behind an edge whose windows are on the wrong side, if there is one.
fn beyond_edge(limits: &Limits, windows: &BTreeMap<u64, Windows>) -> Option<u64> {
    let (low, low_seen) = windows.first_key_value()?;
    let (high, high_seen) = windows.last_key_value()?;
    let beyond = if !low_seen.is_all_met() {
        stepped(limits, *low, -1)
    } else if !high_seen.is_all_missed() {
        stepped(limits, *high, 1)
    } else {
        return None;
    };
    (!windows.contains_key(&beyond)).then_some(beyond)
}

/// `value` some steps of the resolution further, at least 1 each.
fn stepped(limits: &Limits, value: u64, steps: i32) -> u64 {
    let far = scaled(value, (1.0 + limits.resolution).powi(steps));
    let least = value.saturating_add_signed(i64::from(steps));
    let far = if steps < 0 {
        far.min(least)
    } else {
        far.max(least)
    };
    far.clamp(1, limits.max)
}

fn is_close(met: u64, missed: u64, resolution: f64) -> bool {
    missed <= met.saturating_add(1) || missed <= scaled(met, 1.0 + resolution)
}

/// The geometric middle, which lies strictly between values that are not neighbours.
fn middle(met: u64, missed: u64) -> u64 {
    let (low, high) = (met.min(missed), met.max(missed));
    let root = scaled(low, (float(high) / float(low.max(1))).sqrt());
    root.clamp(low.saturating_add(1), high.saturating_sub(1).max(low + 1))
}

fn scaled(value: u64, factor: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast clips, and factors are positive"
    )]
    let scaled = (float(value) * factor).round() as u64;
    scaled
}

/// Windows in a row in which the generator may be late.
pub const UNTRUSTWORTHY_MAX: u32 = 3;
/// Values that may be added to a confirmation whose edge is on the wrong side of the knee.
const ADDED_MAX: u32 = 16;

#[cfg(test)]
mod tests;
