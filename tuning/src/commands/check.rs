//! `ringway-tune check`: this host against what a relay is meant to hold.
//!
//! Here: the table. Not here: the target's flags (`target`), the checks (the library).

use std::io::{self, Write};
use std::process::ExitCode;

use ringway_tuning::{Finding, Verdict, survey};

use super::target::TargetFlags;
use super::{end, print_json};

/// What the host is judged by, and how the findings are printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    target: TargetFlags,

    /// Print one JSON array in place of the table
    #[arg(long, help_heading = "Output")]
    json: bool,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune check
  ringway-tune check --target-sessions 1M
  ringway-tune check --shards 4 --sessions-max 100000 --json

Exits with 1 when a check fails. Limits are those of this process: run it as the relay's user, in the
relay's service.";

impl Check {
    /// Judges the host and prints the findings.
    pub(crate) fn run(&self) -> ExitCode {
        let findings = survey(&self.target.target());
        let printed = match self.json {
            true => print_json(&findings),
            false => print_table(&findings),
        };
        let is_failed = findings
            .iter()
            .any(|finding| finding.verdict == Verdict::Fail);
        end(printed, is_failed)
    }
}

fn print_table(findings: &[Finding]) -> io::Result<()> {
    let width =
        |pick: fn(&Finding) -> &str| findings.iter().map(|f| pick(f).len()).max().unwrap_or(0);
    let check_width = width(|finding| finding.check);
    let needed_width = width(|finding| &finding.needed);
    let mut out = io::stdout().lock();
    for Finding {
        check,
        verdict,
        measured,
        needed,
        why,
        fix,
    } in findings
    {
        writeln!(
            out,
            "{verdict}  {check:<check_width$}  needs {needed:<needed_width$}  has {measured}"
        )?;
        if *verdict != Verdict::Pass {
            writeln!(out, "      why: {why}\n      fix: {fix}")?;
        }
    }
    out.flush()
}
