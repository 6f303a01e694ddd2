//! The way back.
//!
//! Here: each value and file becomes what it was, unless somebody else has changed it since. Not here: what
//! was kept (`record`).
//!
//! Invariant: what is as before is left alone, so a rollback that was killed is simply run again.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Root;
use super::files::{self, FileState};
use super::record::{self, FileRecord, Record, ValueRecord};
use super::step::words;

/// Why a rollback changed nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// It cannot be read.
    #[error("{} {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// It was written on another host.
    #[error(
        "{} was written on another host (machine-id {wrote}, this one is {here}); nothing was changed. Run it there, or \
         with --force here",
        path.display()
    )]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// Number of the host that wrote it.
        wrote: String,
        /// Number of this host.
        here: String,
    },
}

/// What a rollback came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was put back, or was as before already: one line each.
    pub done: Vec<String>,
    /// What is not as it was, each with why.
    pub left: Vec<String>,
}

/// A record that can be taken back.
#[derive(Debug)]
pub struct Rollback {
    record: Record,
    path: PathBuf,
    /// What an operator should know before: another start of the host, a host without a number.
    pub notes: Vec<String>,
}

impl Rollback {
    /// Reads the record of an apply.
    ///
    /// # Errors
    ///
    /// Where it is not there, damaged, or of another host (unless `is_forced`).
    pub fn read(path: &Path, root: &Root, is_forced: bool) -> Result<Self, RollbackError> {
        let record = Record::read(path).map_err(|problem| RollbackError::Unreadable {
            path: path.to_owned(),
            problem,
        })?;
        let mut notes = Vec::new();
        match (&record.host, record::host_of(root)) {
            (Some(wrote), Some(here)) if *wrote != here && !is_forced => {
                return Err(RollbackError::OtherHost {
                    path: path.to_owned(),
                    wrote: wrote.clone(),
                    here,
                });
            }
            (Some(_), Some(_)) => {}
            _ => notes.push(
                "it is unknown whether this is the host that was changed: /etc/machine-id could not be read".to_owned(),
            ),
        }
        match (&record.boot, record::boot_of(root)) {
            (Some(wrote), Some(now)) if *wrote != now => notes.push(
                "the host has been started again since: values become those from before the apply, not those of a \
                 fresh start"
                    .to_owned(),
            ),
            _ => {}
        }
        Ok(Self {
            record,
            path: path.to_owned(),
            notes,
        })
    }

    /// Returns the profile that was applied.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.record.profile
    }

    /// Puts everything back, and removes the record when nothing is left.
    #[must_use]
    pub fn restore(&self, is_forced: bool) -> Restored {
        let mut restored = restore(&self.record, is_forced);
        if restored.left.is_empty()
            && let Err(error) = record::remove(&self.path)
        {
            restored.left.push(format!(
                "{} cannot be removed: {error}",
                self.path.display()
            ));
        }
        restored
    }
}

/// Puts everything back in the opposite order. With `is_forced` also what somebody else has changed since.
pub(super) fn restore(record: &Record, is_forced: bool) -> Restored {
    let files = record
        .files
        .iter()
        .rev()
        .map(|file| file_back(file, is_forced));
    let mut ends: Vec<Result<String, String>> = files.collect();
    let values = record.values.iter().rev();
    ends.extend(values.map(|value| value_back(value, is_forced)));
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for end in ends {
        match end {
            Ok(line) => done.push(line),
            Err(line) => left.push(line),
        }
    }
    Restored { done, left }
}

fn value_back(value: &ValueRecord, is_forced: bool) -> Result<String, String> {
    let ValueRecord {
        name, path, before, ..
    } = value;
    let read = || {
        let problem = |error: std::io::Error| {
            format!("{name}: cannot be read: {error}{}", files::fix(&error))
        };
        files::read_value(path).map_err(problem)
    };
    let now = read()?;
    if now == *before {
        return Ok(format!("{name}: {}, as it was", words(&now)));
    }
    if !value.is_after(&now) && !is_forced {
        return Err(format!(
            "{name}: somebody has set it to {} since (the apply set {}, before it was {}): left so, --force restores it",
            words(&now),
            value.after,
            words(before)
        ));
    }
    files::write_value(path, before).map_err(|error| {
        format!(
            "{name}: cannot be set to {}: {error}{}",
            words(before),
            files::fix(&error)
        )
    })?;
    let again = read()?;
    match again == *before {
        true => Ok(format!("{name}: {} -> {}", words(&now), words(&again))),
        false => Err(format!(
            "{name}: the kernel made \"{}\" of \"{}\"",
            words(&again),
            words(before)
        )),
    }
}

fn file_back(file: &FileRecord, is_forced: bool) -> Result<String, String> {
    let name = file.path.display();
    let now = FileState::read(&file.path).map_err(|problem| format!("{name}: {problem}"))?;
    if now == file.before {
        // What a killed apply left beside it, and the directories it had made.
        sweep(file).map_err(|problem| format!("{name}: {problem}"))?;
        return Ok(format!("{name}: as it was"));
    }
    let is_ours = |state: &FileState| state.is(file.after.as_bytes(), file.after_mode);
    if !now.as_ref().is_some_and(is_ours) && !is_forced {
        let what = match now {
            None => "removed",
            Some(_) => "changed",
        };
        return Err(format!(
            "{name}: somebody has {what} it since: left so, --force restores what was before the apply"
        ));
    }
    let put = match &file.before {
        Some(before) => files::write_file(&file.path, before),
        None => files::remove_file(&file.path),
    };
    put.map_err(|error| format!("{name}: cannot be restored: {error}{}", files::fix(&error)))?;
    sweep(file).map_err(|problem| format!("{name}: {problem}"))?;
    Ok(match file.before {
        Some(_) => format!("{name}: restored"),
        None => format!("{name}: removed, there was none"),
    })
}

/// Removes what an apply made besides the file: its unfinished copy, and directories that nobody else uses.
fn sweep(file: &FileRecord) -> Result<(), String> {
    let beside = files::beside(&file.path);
    if beside.exists() {
        fs::remove_file(&beside)
            .map_err(|error| format!("{} cannot be removed: {error}", beside.display()))?;
    }
    for directory in &file.new_directories {
        // One that is not empty has become somebody else's too.
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(())
}
