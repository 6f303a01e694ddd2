//! `ringway-tune apply`: this host brought to a target.
//!
//! Here: what is shown of the changes. Not here: making and doing it (the library).

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringway_tuning::{Changes, FileChange, Root, Step, ValueChange};

use super::render::ProfileFlags;
use super::{end, fail};

/// Which settings, and whether they are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    profile: ProfileFlags,

    /// Do it: put what is there now into the rollback file, then write values and files
    #[arg(long, conflicts_with = "dry_run", help_heading = "Changes")]
    write: bool,

    /// Only show what would change; this is what happens without --write too
    #[arg(long, help_heading = "Changes")]
    dry_run: bool,

    #[command(flatten)]
    place: Place,
}

/// Where the host is, and what is kept for the way back.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// File that keeps what was there before
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/ringway-tune/rollback.json",
        help_heading = "Changes"
    )]
    rollback_file: PathBuf,

    /// Directory in place of /, such as an image of a host; the rollback file is in it as well
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/",
        help_heading = "Changes"
    )]
    root: PathBuf,
}

impl Place {
    pub(super) fn root(&self) -> Root {
        Root::new(&self.root)
    }

    pub(super) fn rollback_file(&self) -> PathBuf {
        self.root().at(&self.rollback_file)
    }
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  ringway-tune apply --profile connections --target-sessions 1M
  sudo ringway-tune apply --profile connections --target-sessions 1M --write
  sudo ringway-tune rollback

Values that are better than what is asked for stay as they are. Network cards, pages and processors are not
changed: that is what ringway-network.sh does, which is written with the other files.";

impl Apply {
    /// Shows the changes, and makes them with `--write`.
    pub(crate) fn run(&self) -> ExitCode {
        let tuning = match self.profile.tuning() {
            Ok(tuning) => tuning,
            Err(error) => return fail(&error),
        };
        let changes = Changes::read(&tuning, &self.place.root());
        let rollback_file = self.place.rollback_file();
        if !self.write || changes.is_done() {
            return end(print(&changes, Mood::Would, &rollback_file), false);
        }
        if let Err(error) = changes.write(&rollback_file) {
            return fail(&error);
        }
        end(print(&changes, Mood::Was, &rollback_file), false)
    }
}

/// Whether the lines say what would happen or what has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Was,
    Would,
}

fn print(changes: &Changes, mood: Mood, rollback_file: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for value in &changes.values {
        writeln!(out, "{}", value_line(value))?;
    }
    for file in &changes.files {
        writeln!(out, "{}", file_line(file, mood))?;
    }
    let end = match (changes.is_done(), mood) {
        (true, _) => "Nothing to change.".to_owned(),
        (false, Mood::Would) => {
            "Nothing was changed: this is a dry run. With --write it is done, as root.".to_owned()
        }
        (false, Mood::Was) => format!(
            "Done. What was there before is in {}; `ringway-tune rollback` restores it.{}",
            rollback_file.display(),
            next_steps(changes)
        ),
    };
    writeln!(out, "{end}")?;
    out.flush()
}

fn value_line(value: &ValueChange) -> String {
    let ValueChange {
        name,
        reason,
        step,
        obstacle,
        ..
    } = value;
    let obstacle = obstacle
        .as_ref()
        .map_or_else(String::new, |why| format!("\n  cannot be written: {why}"));
    match step {
        Step::Change { now, then, .. } => {
            format!("{name}: {} -> {then} ({reason}){obstacle}", shown(now))
        }
        Step::Keep { now, wanted } => format!("{name}: {}, fine: {wanted} is needed", shown(now)),
        Step::Skip { why } => format!("{name}: skipped: {why}"),
    }
}

/// Returns a value, or what stands for an empty one.
fn shown(words: &str) -> &str {
    match words.is_empty() {
        true => "none",
        false => words,
    }
}

fn file_line(file: &FileChange, mood: Mood) -> String {
    let name = file.path.display();
    if let Some(why) = &file.obstacle {
        return format!("{name}: cannot be written: {why}");
    }
    let what = match (file.is_same(), file.is_replacing(), mood) {
        (true, ..) => "is as it is to be",
        (false, true, Mood::Would) => "would be replaced",
        (false, false, Mood::Would) => "would be made",
        (false, true, Mood::Was) => "replaced",
        (false, false, Mood::Was) => "made",
    };
    format!("{name}: {what} ({} lines)", file.text.lines().count())
}

/// Returns what an operator has to do besides, where files were written.
fn next_steps(changes: &Changes) -> &'static str {
    match changes.files.is_empty() {
        true => "",
        false => {
            "\nThe unit's limits hold after `systemctl daemon-reload && systemctl restart ringway`, those of login \
             sessions after the next login.\nCards, pages and processors: run `ringway-network.sh INTERFACE` at each \
             start."
        }
    }
}
