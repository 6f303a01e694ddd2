//! `ringway-tune prove`: what this host does on its loopback, before and after a change.
//!
//! Here: the flags, the table, the file. Not here: measuring and comparing (the library).

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ringway_tuning::prove::{Change, Comparison, Outcome, Remark, Report, Trial, compare, prove};
use serde::Serialize;

use super::{complain, end, print_json};

/// How long to measure, and what to do with the result.
#[derive(Debug, clap::Args)]
pub(crate) struct Prove {
    /// Time for all measurements together, such as 5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,

    /// Connections a listener is to hold before they are accepted, as tcp.backlog of the relay
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=65_535)
    )]
    backlog: u32,

    /// Write the result as JSON to this file, to compare with later
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// Compare with the result in this file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    against: Option<PathBuf>,

    /// Print JSON in place of the table
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune prove --output before.json
  ringway-tune prove --against before.json
  ringway-tune prove --duration 20s --backlog 16384 --json

Needs no relay and uses 127.0.0.1 alone; every connection is closed with a reset and leaves no port behind.
A difference counts when it is larger than the spread of both runs. Exits with 1 when the queue of a listener
overflowed, ports ran out, sockets stayed behind or the test could not be made.";

impl Prove {
    /// Measures, compares and prints.
    pub(crate) fn run(&self) -> ExitCode {
        match self.measure() {
            Ok((report, comparison)) => {
                let printed = match self.json {
                    true => print_json(&Printed {
                        report: &report,
                        comparison: comparison.as_ref(),
                    }),
                    false => print_table(&report, comparison.as_ref()),
                };
                let is_written = self.write(&report);
                end(printed, report.is_bad() || !is_written)
            }
            Err(error) => {
                complain(format_args!("{error}"));
                ExitCode::from(1)
            }
        }
    }

    fn measure(&self) -> Result<(Report, Option<Comparison>), ringway_tuning::prove::ProveError> {
        // A file that is none is known before the time is spent.
        let before = self.against.as_deref().map(Report::load).transpose()?;
        let report = prove(&Trial {
            duration: self.duration,
            backlog: self.backlog,
        })?;
        let comparison = before.map(|before| compare(&before, &report));
        Ok((report, comparison))
    }

    fn write(&self, report: &Report) -> bool {
        let Some(path) = &self.output else {
            return true;
        };
        let written = serde_json::to_vec_pretty(report)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(path, bytes));
        if let Err(error) = &written {
            complain(format_args!("cannot write {}: {error}", path.display()));
        }
        written.is_ok()
    }
}

/// The result and what it is compared with, in one object that `--against` reads as well.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
}

fn print_table(report: &Report, comparison: Option<&Comparison>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match comparison {
        Some(comparison) => print_comparison(&mut out, comparison)?,
        None => print_numbers(&mut out, report)?,
    }
    let (storm, ports) = (&report.storm, &report.ports);
    let usable = ports
        .usable
        .map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    writeln!(
        out,
        "\nqueue: {} of {} connections held before the first accept, {} without an answer\n\
         ports: {} held to one destination at once, the range has {usable}",
        storm.held, storm.asked, storm.unanswered, ports.taken
    )?;
    for Remark { is_bad, says, fix } in &report.remarks {
        let weight = if *is_bad { "BAD " } else { "note" };
        writeln!(out, "{weight}  {says}")?;
        if !fix.is_empty() {
            writeln!(out, "      fix: {fix}")?;
        }
    }
    out.flush()
}

fn print_numbers(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:>10} {:>10} {:>10}  {:<5} {:.1} s in rounds",
        "", "median", "lowest", "highest", "", report.seconds
    )?;
    for metric in &report.metrics {
        let (low, high) = metric.range();
        writeln!(
            out,
            "{:<12} {:>10} {:>10} {:>10}  {:<5} {}",
            metric.name,
            short(metric.median()),
            short(low),
            short(high),
            metric.unit,
            metric.what
        )?;
    }
    Ok(())
}

fn print_comparison(out: &mut impl Write, comparison: &Comparison) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:>10} {:>10} {:>7}",
        "", "before", "after", "ratio"
    )?;
    for change in &comparison.changes {
        let Change {
            name,
            unit,
            before,
            after,
            ratio,
            outcome,
        } = change;
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let word = match outcome {
            Outcome::Better => "better",
            Outcome::Same => "within the spread",
            Outcome::Worse => "WORSE",
        };
        writeln!(
            out,
            "{name:<12} {:>10} {:>10} {ratio:>7}  {unit:<5} {word}",
            short(*before),
            short(*after)
        )?;
    }
    if comparison.settings.is_empty() {
        writeln!(out, "\nno setting differs between the two runs")?;
    } else {
        writeln!(out, "\nsettings that differ:")?;
    }
    let value = |value: &Option<String>| {
        let text = value.as_ref().map(|text| text.escape_debug().to_string());
        text.unwrap_or_else(|| "unknown".to_owned())
    };
    for (name, before, after) in &comparison.settings {
        let name = name.escape_debug();
        writeln!(out, "  {name}: {} -> {}", value(before), value(after))?;
    }
    for note in &comparison.notes {
        writeln!(out, "note  {note}")?;
    }
    Ok(())
}

/// Returns a number with three digits or more.
fn short(value: f64) -> String {
    match value {
        0.0..1.0 => format!("{value:.3}"),
        1.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Reads how long to measure.
fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (DURATION_MIN..=DURATION_MAX).contains(&time) {
        true => Ok(time),
        false => Err("expected 1s to 60s".to_owned()),
    }
}

/// A round of a fifth of it has 20 ms for its shortest measurement.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// It loads two cores, which a live host does without for so long.
const DURATION_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(duration("1s").unwrap(), DURATION_MIN);
        assert_eq!(duration("1m").unwrap(), DURATION_MAX);
        for text in ["5", "999ms", "61s", "", "x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [(0.25, "0.250"), (9.96, "10.0"), (99.0, "99.0")];
        for (value, text) in cases.into_iter().chain([(38_123.4, "38123")]) {
            assert_eq!(short(value), text);
        }
    }
}
