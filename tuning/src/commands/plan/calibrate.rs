//! `ringway-tune plan calibrate` and `plan verify`: the plan's constants and sums against real relays.
//!
//! Here: flags, progress, tables. Not here: the measurements (`ringway_tuning::calibrate`).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringway_tuning::calibrate::{self, Compared, Point, Programs};
use ringway_tuning::plan::costs::Costs;
use ringway_tuning::plan::numbers::short;
use serde::Serialize;

use crate::commands::{complain, end, named, print_json};

/// How often, and where the result goes.
#[derive(Debug, clap::Args)]
pub(super) struct Calibrate {
    /// Rounds; the plan takes the medians
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Where the constants are kept [default: costs.json in the state directory, where 'plan' finds them]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Directory of the programs ringway and ringway-loadgen [default: beside this one]
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

/// Which constants are compared.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Constants that 'plan calibrate' has written [default: those of this host if there are any, else
    /// those that come with the program]
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,

    /// Directory of the programs ringway and ringway-loadgen [default: beside this one]
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,

    /// Difference that is still called right, percent of what was measured
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    within: u32,

    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
}

impl Calibrate {
    /// Measures and writes the constants.
    pub(super) fn run(&self) -> ExitCode {
        match self.measure() {
            Ok(printed) => end(printed, false),
            Err(error) => {
                complain(format_args!("{error}"));
                ExitCode::from(1)
            }
        }
    }

    fn measure(&self) -> io::Result<io::Result<()>> {
        let path = match &self.output {
            Some(path) => path.clone(),
            None => Costs::path().ok_or_else(|| {
                io::Error::other(
                    "neither XDG_STATE_HOME nor HOME is set: say with --output where to write",
                )
            })?,
        };
        // Before minutes of measuring, not after them.
        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        if !directory.as_os_str().is_empty() {
            fs::create_dir_all(directory).map_err(|error| named(directory, &error))?;
        }
        let mut file = tempfile::NamedTempFile::new_in(match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        })
        .map_err(|error| named(directory, &error))?;
        let programs = Programs::find(self.programs.as_deref())?;
        if cfg!(debug_assertions) && self.programs.is_none() {
            complain(format_args!(
                "these programs are no release build: what they take of the processor is not what a release takes"
            ));
        }
        let costs = calibrate::costs(&programs, self.rounds, &mut |text| {
            complain(format_args!("{text}"));
        })?;
        serde_json::to_writer_pretty(&mut file, &costs)?;
        writeln!(file)?;
        file.as_file().sync_all()?;
        file.persist(&path)
            .map_err(|error| named(&path, &error.error))?;
        Ok(print_costs(&costs, &path))
    }
}

impl Verify {
    /// Measures and compares.
    pub(super) fn run(&self) -> ExitCode {
        match self.compare() {
            Ok((printed, is_off)) => end(printed, is_off),
            Err(error) => {
                complain(format_args!("{error}"));
                ExitCode::from(1)
            }
        }
    }

    fn compare(&self) -> io::Result<(io::Result<()>, bool)> {
        let costs = match &self.costs {
            Some(path) => Costs::read(path)?,
            None => Costs::of_this_host()?,
        };
        let programs = Programs::find(self.programs.as_deref())?;
        let mut rows = Vec::new();
        for point in calibrate::points() {
            complain(format_args!("{}", point.name));
            rows.push(Row {
                point,
                compared: point.compare(&programs, &costs)?,
            });
        }
        let within = f64::from(self.within) / 100.0;
        let is_right = |compared: &Compared| compared.error().abs() <= within;
        let is_off = rows
            .iter()
            .flat_map(|row| &row.compared)
            .any(|compared| !is_right(compared));
        let printed = match self.json {
            true => print_json(&rows),
            false => print_table(&rows, is_right),
        };
        Ok((printed, is_off))
    }
}

#[derive(Serialize)]
struct Row {
    point: Point,
    compared: Vec<Compared>,
}

fn print_costs(costs: &Costs, path: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, cost) in costs.named() {
        writeln!(
            out,
            "{name:<36} {:>10} [{}-{}]",
            short(cost.median),
            short(cost.least),
            short(cost.most)
        )?;
    }
    writeln!(out, "written to {}", path.display())?;
    out.flush()
}

fn print_table(rows: &[Row], is_right: impl Fn(&Compared) -> bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Row { point, compared } in rows {
        writeln!(out, "{}", point.name)?;
        for figure in compared {
            let verdict = match is_right(figure) {
                true => "right",
                false => "OFF  ",
            };
            writeln!(
                out,
                "  {verdict} {:<34} predicted {:>10}  measured {:>10}  {:>+6.1} %",
                figure.what,
                short(figure.predicted),
                short(figure.measured),
                figure.error() * 100.0
            )?;
        }
    }
    out.flush()
}
