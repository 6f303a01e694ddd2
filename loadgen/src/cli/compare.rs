//! Flags of the tasks that judge runs: `knee` and `diff`.
//!
//! Here: flags and the checks of their words. Not here: the search (`knee`), the comparison (`diff`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Command;
use crate::assert::{Assert, Need};
use crate::knee::Limits;
use crate::plan::{Arrivals, Pace, Plan, Scenario, Shape};

/// Flags of `knee`.
#[derive(Debug, Args)]
#[command(after_help = KNEE_STATUS)]
pub struct KneeFlags {
    /// Objective that a window must meet, such as 'response.p99 < 5ms' or 'errors == 0'; all of several
    #[arg(long, value_name = "ASSERT", required = true)]
    pub slo: Vec<Assert>,
    /// What is raised
    #[arg(long, value_enum, default_value_t = Over::Rate)]
    pub over: Over,
    /// First value; it should meet the objective
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
    /// Time that counts in each window, instead of the run's --duration
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Windows at each value around the candidate
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    confirm: u32,
    /// The run of each window, such as 'plain --tcp ...'; its --json gets the result of the search
    #[command(subcommand)]
    pub command: Command,
}

/// What a search raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// Events a second; a constant --rate of the run is replaced, its --arrivals are kept.
    Rate,
    /// Sessions, or connections, that stand.
    Sessions,
}

impl Over {
    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Sessions => "sessions",
        }
    }
}

impl KneeFlags {
    /// Returns where the search goes, in units of [`KneeFlags::unit`].
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            from: self.from.div_ceil(self.unit()),
            max: self.max / self.unit(),
            factor: self.factor,
            resolution: self.resolution / 100.0,
            confirm: self.confirm,
        }
    }

    /// Returns what all values are multiples of: sessions that exchange something come in pairs.
    #[must_use]
    pub fn unit(&self) -> u64 {
        let scenario = self.command.plan().scenario;
        let is_paired = matches!(
            scenario,
            Scenario::Opens | Scenario::Setups | Scenario::Steady
        );
        if self.over == Over::Sessions && is_paired {
            2
        } else {
            1
        }
    }

    /// Checks everything that is known before the first connection but the plans' own sums.
    ///
    /// # Errors
    /// A sentence that names the flag.
    pub fn check(&self) -> Result<(), String> {
        let plan = self.command.plan();
        self.limits().check()?;
        self.check_scenario(&plan)?;
        if self.window.is_zero() {
            return Err("--window must be longer than 0".into());
        }
        if self.over == Over::Sessions && u32::try_from(self.max).is_err() {
            return Err(format!(
                "--max {}: there are at most {} sessions",
                self.max,
                u32::MAX
            ));
        }
        if self.command.out().is_some() {
            return Err(
                "--out records one run, and a knee is many: use --json for its result".into(),
            );
        }
        if let Some(pace) = plan
            .pace
            .as_ref()
            .filter(|pace| !matches!(pace.shape, Shape::Constant(_)))
        {
            return Err(format!(
                "--rate {}: each window of a knee has one constant rate; leave --rate out{}",
                pace.shape,
                if self.over == Over::Sessions {
                    ", or give a number"
                } else {
                    ""
                }
            ));
        }
        self.slo
            .iter()
            .try_for_each(|slo| self.check_slo(slo, &plan))
    }

    fn check_scenario(&self, plan: &Plan) -> Result<(), String> {
        let name = plan.name();
        match (self.over, plan.scenario) {
            (Over::Rate, Scenario::Idle | Scenario::Storm) => Err(format!(
                "{name} has no rate that could be raised, only sessions: use --over sessions"
            )),
            (_, Scenario::Slowloris | Scenario::SlowReader) => Err(format!(
                "{name} has neither a rate nor sessions that could be raised: it compares on its own terms; \
                 search the knee of another scenario"
            )),
            (Over::Sessions, Scenario::Churn | Scenario::Handshakes) => Err(format!(
                "{name} has no sessions that stand, they come and go: use --over rate"
            )),
            (_, Scenario::Churn) if plan.churn.cycles.is_some() => Err(
                "--cycles: a window of a knee has a length (--window) and no count; leave --cycles out".into(),
            ),
            _ => Ok(()),
        }
    }

    fn check_slo(&self, slo: &Assert, plan: &Plan) -> Result<(), String> {
        if let Some(phase) = slo.beside() {
            return Err(format!(
                "--slo '{slo}' compares with phase '{phase}', and a knee has none: give a number"
            ));
        }
        // Sessions of a storm are due by its own clock.
        let has_pace =
            self.over == Over::Rate || plan.pace.is_some() || plan.scenario == Scenario::Storm;
        match slo.need() {
            Need::Pace if !has_pace => Err(format!(
                "--slo '{slo}': without a rate nothing is ever due and there is no such time; use \
                 'service...', or give the run a --rate"
            )),
            Need::RelayProcess if plan.relay_pid.is_none() => {
                Err(format!("--slo '{slo}': the run needs --relay-pid for it"))
            }
            Need::Ports => Err(format!("--slo '{slo}': a knee does not count ports")),
            _ => Ok(()),
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
            Over::Sessions => {
                let sessions = u32::try_from(value).unwrap_or(u32::MAX);
                // No bound, unless it was given.
                if plan.scenario == Scenario::Storm && plan.concurrency == plan.sessions {
                    plan.concurrency = sessions;
                }
                plan.sessions = sessions;
            }
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
The search climbs by --factor until a value misses the objective twice, halves the distance to the last
value that met it, and then runs --confirm windows at each of five neighbouring values. Each window is a
whole run of --warmup and --window, and a line on standard error. A window whose sessions or streams
cannot all be made misses the objective.

Example:
  ringway-loadgen knee --slo 'response.p99 < 5ms' --slo 'errors < 0.1%' --from 1000 --max 1000000 \
      plain --tcp 127.0.0.1:7200 --mode ping-pong --message-size 64

Exit status:
  0    the knee was found
  1    there is none between --from and --max, or a window could not be run
  2    the flags or the plan make no sense; nothing was connected
  3    the generator could not keep its own schedule: the knee is not the server's
  130  interrupted; there is no result";

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

    /// Checks `knee` with `flags` before the run that it wraps.
    fn check(flags: &str, run: &str) -> Result<(), String> {
        let line = format!("x knee --from 10 --max 99 {flags} {run}");
        match Cli::try_parse_from(line.split_ascii_whitespace())
            .unwrap()
            .task
        {
            Task::Knee(flags) => flags.check(),
            _ => panic!("no knee"),
        }
    }

    #[test]
    fn what_has_nothing_to_raise_is_refused() {
        let relay = format!("--relay {}@127.0.0.1:1", "3b".repeat(32));
        let tcp = "--tcp 127.0.0.1:1";
        let (slo, sessions) = ("--slo errors==0", "--slo errors==0 --over sessions");
        for (flags, run, word) in [
            (slo, format!("idle {tcp}"), "idle has no rate"),
            (slo, format!("slowloris {relay}"), "slowloris has neither"),
            (
                slo,
                format!("slow-reader {relay}"),
                "slow-reader has neither",
            ),
            (
                sessions,
                format!("slow-reader {relay}"),
                "slow-reader has neither",
            ),
            (
                sessions,
                format!("connects {tcp}"),
                "connects has no sessions",
            ),
            (
                sessions,
                format!("handshakes {relay}"),
                "handshakes has no sessions",
            ),
            (sessions, format!("churn {relay}"), "churn has no sessions"),
            (slo, format!("churn {relay} --cycles 9"), "--cycles"),
            (
                slo,
                format!("plain {tcp} --rate ramp:1..9"),
                "--rate ramp:1..9",
            ),
            (
                sessions,
                format!("plain {tcp} --rate burst:1,9,2s,1s"),
                "or give a number",
            ),
            (slo, format!("plain {tcp} --out /nowhere"), "--out"),
            (
                "--slo errors==0 --window 0s",
                format!("plain {tcp}"),
                "--window",
            ),
            (
                "--slo errors==0 --confirm 0",
                format!("plain {tcp}"),
                "--confirm",
            ),
            ("--slo relay.cores<1", format!("plain {tcp}"), "--relay-pid"),
            (
                "--slo ports.time_wait<1",
                format!("connects {tcp}"),
                "ports",
            ),
            (
                "--slo response.p99<1s --over sessions",
                format!("plain {tcp}"),
                "service",
            ),
        ] {
            let error = check(flags, &run).unwrap_err();
            assert!(error.contains(word), "{flags} {run}: {error}");
        }
    }

    #[test]
    fn an_objective_beside_another_phase_is_refused() {
        let line = [
            "x",
            "knee",
            "--slo",
            "service.p99 < 2x before",
            "--from",
            "1",
            "--max",
            "9",
            "plain",
            "--tcp",
            "127.0.0.1:1",
        ];
        let Task::Knee(flags) = Cli::try_parse_from(line).unwrap().task else {
            panic!("no knee");
        };
        assert!(flags.check().unwrap_err().contains("phase 'before'"));
    }

    #[test]
    fn what_can_be_raised_is_accepted() {
        let relay = format!("--relay {}@127.0.0.1:1", "3b".repeat(32));
        let tcp = "--tcp 127.0.0.1:1";
        let (slo, sessions) = ("--slo errors==0", "--slo errors==0 --over sessions");
        for (flags, run) in [
            (slo, format!("churn {relay}")),
            (slo, format!("evict {relay}")),
            (slo, format!("setups {relay}")),
            (sessions, format!("storm {relay}")),
            (slo, format!("connects {tcp}")),
            (slo, format!("plain {tcp} --rate 5 --arrivals poisson")),
            (sessions, format!("idle {tcp}")),
            (sessions, format!("plain {tcp} --rate 5")),
            (sessions, format!("steady {relay}")),
            ("--slo relay.cores<1", format!("plain {tcp} --relay-pid 1")),
        ] {
            assert_eq!(check(flags, &run), Ok(()), "{flags} {run}");
        }
    }

    #[test]
    fn sessions_in_pairs_are_searched_pair_by_pair() {
        let relay = format!("{}@127.0.0.1:1", "3b".repeat(32));
        let line = format!(
            "x knee --slo errors==0 --over sessions --from 3 --max 9 steady --relay {relay}"
        );
        let Task::Knee(flags) = Cli::try_parse_from(line.split_ascii_whitespace())
            .unwrap()
            .task
        else {
            panic!("no knee");
        };
        assert_eq!(
            (flags.unit(), flags.limits().from, flags.limits().max),
            (2, 2, 4)
        );
        assert_eq!(flags.plan(6).sessions, 6);
    }

    #[test]
    fn shares_are_read() {
        assert_eq!(percent("5%"), Ok(5.0));
        for text in ["x", "-1%", "NaN", "5%%"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
