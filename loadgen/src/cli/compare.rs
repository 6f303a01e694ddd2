//! Flags of the tasks that judge runs: `knee` and `diff`.
//!
//! Here: flags and the checks of their words. Not here: the search (`knee`), the comparison (`diff`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Command;
use crate::assert::Assert;
use crate::knee::Limits;
use crate::plan::{Arrivals, Pace, Plan, Shape};

/// Flags of `knee`.
#[derive(Debug, Args)]
#[command(after_help = KNEE_STATUS)]
pub struct KneeFlags {
    /// Objective that a window must meet, such as 'response.p99 < 5ms'; all of several
    #[arg(long, value_name = "ASSERT", required = true)]
    pub slo: Vec<Assert>,
    /// What is raised
    #[arg(long, value_enum, default_value_t = Over::Rate)]
    pub over: Over,
    /// First value
    #[arg(long, value_name = "NUMBER")]
    from: u64,
    /// Largest value
    #[arg(long, value_name = "NUMBER")]
    max: u64,
    /// Factor of the climb
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    factor: f64,
    /// Distance of neighbouring values at the end
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    resolution: f64,
    /// Time that counts in each window
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Windows at each value around the candidate
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    confirm: u32,
    /// The run of each window; its --json gets the result of the search
    #[command(subcommand)]
    pub command: Command,
}

/// What a search raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// Events a second.
    Rate,
    /// Sessions, or connections.
    Sessions,
}

impl KneeFlags {
    /// Returns where the search goes.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            from: self.from,
            max: self.max,
            factor: self.factor,
            resolution: self.resolution / 100.0,
            confirm: self.confirm,
        }
    }

    /// Returns the plan of a window at `value`.
    #[must_use]
    pub fn plan(&self, value: u64) -> Plan {
        let mut plan = self.command.plan();
        plan.duration = self.window;
        match self.over {
            Over::Rate => {
                let arrivals = plan.pace.map_or(Arrivals::Even, |pace| pace.arrivals);
                let shape = Shape::Constant(value);
                plan.pace = Some(Pace { shape, arrivals });
            }
            Over::Sessions => plan.sessions = u32::try_from(value).unwrap_or(u32::MAX),
        }
        plan
    }
}

/// Flags of `diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_STATUS)]
pub struct DiffFlags {
    /// The result to compare with: a directory of --out, a latency.hlog, or a file of --json
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// The result that may be worse, in any of these forms
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Worsening of a percentile that is borne even if it is significant
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub threshold: f64,
    /// Write the comparison as JSON to this file ('-' for standard output)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Reads `5%` or `5`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
    number
        .ok()
        .filter(|number| (0.0..=1_000.0).contains(number))
        .ok_or_else(|| format!("'{text}' is no share from 0% to 1000%"))
}

const KNEE_STATUS: &str = "\
Exit status:
  0    the knee was found
  1    there is none between --from and --max, or a window could not be run
  2    the flags or the plan make no sense; nothing was connected
  3    the generator could not keep its own schedule: the knee is not the relay's
  130  interrupted";

const DIFF_STATUS: &str = "\
A and B are each a directory that --out wrote, its latency.hlog alone, or a file that --json wrote. Only
logs tell chance from change; from two files of --json figures are shown and nothing is judged.

A difference is significant when chance alone explains it in less than 5 % of comparisons of equal
servers, with a correction for the number of percentiles that are looked at. Runs of less than a minute
cannot tell a slow drift of the machine from a difference.

Exit status:
  0    nothing is significantly worse by more than --threshold
  1    something is
  2    the flags make no sense, an input cannot be read, or the two have nothing in common
  3    cannot be judged: there are too few intervals (8 of a second each are the least) or times";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Task};

    #[test]
    fn a_knee_wraps_a_run() {
        let line = [
            "x",
            "knee",
            "--slo",
            "connect.p99 < 5ms",
            "--from",
            "10",
            "--max",
            "99",
            "--window",
            "2s",
            "connects",
            "--tcp",
            "127.0.0.1:1",
            "--duration",
            "9s",
        ];
        let Task::Knee(flags) = Cli::try_parse_from(line).unwrap().task else {
            panic!("no knee");
        };
        let plan = flags.plan(50);
        assert_eq!(plan.duration, Duration::from_secs(2));
        assert_eq!(plan.pace.unwrap().shape, Shape::Constant(50));
        assert!((flags.limits().resolution - 0.05).abs() < 1e-9);
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(percent("5%"), Ok(5.0));
        for text in ["x", "-1%", "NaN", "5%%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
