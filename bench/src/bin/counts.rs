//! `counts`: instructions of the relay's hot paths, held against a baseline.
//!
//! Here: flags, order of the steps, status. Not here: cases, counting, comparison (`ringway_bench::counts`).

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringway_bench::counts::TOLERANCE_PERCENT;
use ringway_bench::counts::baseline::Baseline;
use ringway_bench::counts::callgrind::{Callgrind, Tools};
use ringway_bench::counts::cases::{CASES, Case};
use ringway_bench::counts::verdict::{Comparison, other_tools};
use ringway_bench::report;

/// The relay's allocator: what it does belongs to the paths.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Count the instructions of the relay's hot paths and compare them with the committed ones.
///
/// Runs each case under callgrind (package valgrind). Prints a Markdown table to standard output. Ends with
/// status 1 when a case needs more than its baseline and the tolerance, or has none.
#[derive(Debug, Parser)]
#[command(name = "counts")]
struct Flags {
    /// Cases to count; all if none is named
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// List the cases
    #[arg(long)]
    list: bool,
    /// Make the present counts the baseline
    #[arg(long)]
    bless: bool,
    /// Most that a case may need beyond its baseline
    #[arg(long, value_name = "PERCENT", default_value_t = TOLERANCE_PERCENT, value_parser = percent)]
    tolerance: f64,
    /// The committed counts
    #[arg(long, value_name = "FILE", default_value = BASELINE, hide_default_value = true)]
    baseline: PathBuf,
    /// Perform a case, for callgrind to count
    #[arg(long, value_name = "CASE", hide = true)]
    perform: Option<String>,
}

/// A case with its operation and its count.
type Counted = (&'static str, &'static str, f64);

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            tell(&format!("counts: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<bool, String> {
    if let Some(name) = &flags.perform {
        let performed = named(name)?.perform()?;
        let text = serde_json::to_string(&performed).map_err(|error| error.to_string())?;
        return report::print(&format!("{text}\n")).map(|()| true);
    }
    if flags.list {
        let names = CASES
            .iter()
            .map(|case| format!("{:<20}{}", case.name, case.operation));
        return report::print(&(names.collect::<Vec<_>>().join("\n") + "\n")).map(|()| true);
    }
    if cfg!(debug_assertions) {
        return Err("this is no release build, whose code is counted: cargo run --release".into());
    }
    let cases = if flags.cases.is_empty() {
        CASES.to_vec()
    } else {
        let cases = flags.cases.iter().map(|name| named(name));
        cases.collect::<Result<_, _>>()?
    };
    let are_all = flags.cases.is_empty();
    // Before the work, so that a file that is no good says so at once.
    let baseline = match Baseline::read(&flags.baseline) {
        Ok(baseline) => Some(baseline),
        Err(_) if flags.bless && are_all => None,
        Err(why) => return Err(why),
    };
    let (counted, tools) = count(&cases)?;
    let comparison = Comparison::new(baseline.as_ref(), &counted, are_all, flags.tolerance);
    report::print(&format!("{}\n", comparison.to_string().trim_end()))?;
    if flags.bless {
        bless(flags, baseline, &counted, tools)?;
        return Ok(true);
    }
    for line in comparison.advice() {
        tell(&line);
    }
    if let Some(other) = baseline.and_then(|baseline| other_tools(&baseline.tools, &tools)) {
        tell(&other);
    }
    Ok(comparison.has_passed())
}

/// Counts the cases, one after the other.
fn count(cases: &[Case]) -> Result<(Vec<Counted>, Tools), String> {
    let callgrind = Callgrind::find()?;
    let program = std::env::current_exe().map_err(|error| format!("no path of mine: {error}"))?;
    let mut counted = Vec::new();
    let mut processor = String::new();
    for (number, case) in (1..).zip(cases) {
        progress(&format!("{number} of {}: {}", cases.len(), case.name));
        let count = callgrind.count(&program, case.name)?;
        counted.push((case.name, case.operation, count.instructions));
        processor = count.processor;
    }
    progress("");
    Ok((counted, callgrind.tools(processor)))
}

/// Writes the baseline: that of the cases that were counted.
fn bless(
    flags: &Flags,
    before: Option<Baseline>,
    counted: &[Counted],
    tools: Tools,
) -> Result<(), String> {
    let kept = before.filter(|_| !flags.cases.is_empty());
    if let Some(other) = kept
        .as_ref()
        .and_then(|kept| other_tools(&kept.tools, &tools))
    {
        return Err(format!("{other}; bless all cases, not some"));
    }
    let mut instructions = kept.map(|kept| kept.instructions).unwrap_or_default();
    instructions.extend(
        counted
            .iter()
            .map(|(name, _, count)| ((*name).to_owned(), *count)),
    );
    let baseline = Baseline {
        tools,
        instructions,
    };
    baseline.write(&flags.baseline)?;
    tell(&format!("blessed: {}", flags.baseline.display()));
    Ok(())
}

fn named(name: &str) -> Result<Case, String> {
    Case::named(name).ok_or_else(|| format!("no case '{name}'; --list names them"))
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        Ok(_) => Err("between 0 and 100".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Shows how it goes, to whoever watches.
fn progress(line: &str) {
    if io::stderr().is_terminal() {
        drop(write!(io::stderr().lock(), "\r\x1b[K{line}"));
    }
}

/// Prints one line to standard error; a closed standard error leaves nobody to tell.
fn tell(line: &str) {
    progress("");
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// The committed counts, in the tree that this was built from.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.json");
