//! Settings brought to a host, and taken back.
//!
//! Here: what would change (`Changes`), the order in which it is done, what happens when a step fails. Not
//! here: how one value is compared (`step`), how a file is written (`files`), what is kept for the way back
//! (`record`), the way back (`undo`).
//!
//! Invariant: before the first change everything that was there is on disk. So whatever ends the program, a
//! rollback knows what to restore, and how far it came can be told by looking.

mod files;
mod record;
mod step;
mod undo;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::parse;
use crate::profile::{Kind, Rule, Setting, Tuning};
use crate::render::{self, RenderedFile};
pub(crate) use files::FileState;
use record::{FileRecord, Record, ValueRecord};
pub use step::Step;
pub use undo::{Restored, Rollback, RollbackError};

/// Where the files of a host are: `/`, or a directory with an image of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// Returns the host whose `/` is this directory.
    #[must_use]
    pub fn new(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref();
        // The way back may be taken from another working directory.
        let absolute = std::path::absolute(directory);
        Self(absolute.unwrap_or_else(|_| directory.to_owned()))
    }

    /// Returns where a file of the host is to be found.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns a file's text without white space around it, if it can be read.
    fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.at(path)).ok()?;
        Some(text.trim().to_owned())
    }
}

/// Why nothing was changed, or what was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// Some of what is to be written cannot be; nothing was changed.
    #[error("nothing was changed, since this cannot be written:\n  {}", .0.join("\n  "))]
    Refused(Vec<String>),
    /// An earlier apply has not been taken back; nothing was changed.
    #[error(
        "{} is there: an earlier apply has not been taken back. Nothing was changed. Run `ringway-tune rollback` first, \
         or keep that state and name another file with --rollback-file",
        .0.display()
    )]
    Recorded(PathBuf),
    /// What was there could not be put on disk; nothing was changed.
    #[error("nothing was changed, since {} cannot be written: {error}", path.display())]
    Record {
        /// The file for the way back.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A step failed, and all before it were taken back.
    #[error("{failure}. Everything before it was taken back: the host is as it was")]
    TakenBack {
        /// The step, and what the system said.
        failure: String,
    },
    /// A step failed, and so did the way back.
    #[error(
        "{failure}. Not everything could be taken back:\n  {}\nRun `ringway-tune rollback --rollback-file {}` when that \
         is mended",
        left.join("\n  "), path.display()
    )]
    Stuck {
        /// The step, and what the system said.
        failure: String,
        /// What is not as it was.
        left: Vec<String>,
        /// The file for the way back.
        path: PathBuf,
    },
}

/// What an apply does with one value of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueChange {
    /// Name of the sysctl.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What the profile needs it for.
    pub reason: String,
    /// What happens to it.
    pub step: Step,
    /// Why it could not be written now, with what to do.
    pub obstacle: Option<String>,
    is_list: bool,
}

/// What an apply does with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub path: PathBuf,
    /// What is to stand in it.
    pub text: String,
    /// Why it could not be written now, with what to do.
    pub obstacle: Option<String>,
    mode: u32,
    before: Option<FileState>,
}

impl FileChange {
    /// Whether the file is there, and is as it is to be.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let is_it = |state: &FileState| state.is(self.text.as_bytes(), self.mode);
        self.before.as_ref().is_some_and(is_it)
    }

    /// Whether there is a file with something else.
    #[must_use]
    pub fn is_replacing(&self) -> bool {
        self.before.is_some() && !self.is_same()
    }
}

/// What an apply does, before it does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The values, in the order in which they are written.
    pub values: Vec<ValueChange>,
    /// The files, written after the values.
    pub files: Vec<FileChange>,
    profile: String,
    root: Root,
}

impl Changes {
    /// Compares a host with a tuning. Reads, and tries which files could be written; changes nothing.
    #[must_use]
    pub fn read(tuning: &Tuning, root: &Root) -> Self {
        let kernel = root
            .text("/proc/sys/kernel/osrelease")
            .and_then(|text| parse::release(&text));
        let mut adjusted = tuning.clone();
        let installed = root.text(render::SYSCTL_FILE).unwrap_or_default();
        let is_in_file = |name: &str| {
            let start = format!("{name} = ");
            installed.lines().any(|line| line.starts_with(&start))
        };
        let mut values = Vec::new();
        for setting in &mut adjusted.settings {
            if setting.kind != Kind::Sysctl {
                continue;
            }
            let path = root.at(path_of(&setting.name));
            let step = step::step(setting, &path, kernel, root);
            let is_change = matches!(step, Step::Change { .. });
            values.push(ValueChange {
                name: setting.name.clone(),
                reason: setting.reason.clone(),
                obstacle: is_change.then(|| files::obstacle_of_value(&path)).flatten(),
                is_list: setting.rule == Rule::With,
                path,
                step: step.clone(),
            });
            adjust(setting, &step, is_in_file(&setting.name));
        }
        let rendered = render::render(&adjusted).into_iter();
        Self {
            values,
            files: rendered
                .filter_map(|file| file_change(file, root))
                .collect(),
            profile: tuning.profile.clone(),
            root: root.clone(),
        }
    }

    /// Whether the host has it all.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_changed = |value: &ValueChange| matches!(value.step, Step::Change { .. });
        !self.values.iter().any(is_changed) && self.files.iter().all(FileChange::is_same)
    }

    /// Does it: first puts what is there now into `rollback_file`, then writes values, then files.
    ///
    /// # Errors
    ///
    /// Says what was changed: nothing, nothing any more, or what exactly.
    pub fn write(&self, rollback_file: &Path) -> Result<(), ApplyError> {
        let blocked = self.obstacles();
        if !blocked.is_empty() {
            return Err(ApplyError::Refused(blocked));
        }
        let record = self.record();
        record
            .create(rollback_file)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => ApplyError::Recorded(rollback_file.to_owned()),
                _ => ApplyError::Record {
                    path: rollback_file.to_owned(),
                    error,
                },
            })?;
        let Err(failure) = self.write_all(&record) else {
            return Ok(());
        };
        // Nobody had time to change anything since, so what is not as before is ours, half-written or not.
        let restored = undo::restore(&record, true);
        match restored.left.is_empty() {
            true => match record::remove(rollback_file) {
                Ok(()) => Err(ApplyError::TakenBack { failure }),
                Err(error) => Err(ApplyError::Stuck {
                    failure,
                    left: vec![format!(
                        "{} cannot be removed: {error}",
                        rollback_file.display()
                    )],
                    path: rollback_file.to_owned(),
                }),
            },
            false => Err(ApplyError::Stuck {
                failure,
                left: restored.left,
                path: rollback_file.to_owned(),
            }),
        }
    }

    fn obstacles(&self) -> Vec<String> {
        let values = self
            .values
            .iter()
            .map(|value| (&value.path, &value.obstacle));
        let files = self.files.iter().map(|file| (&file.path, &file.obstacle));
        let line = |(path, obstacle): (&PathBuf, &Option<String>)| {
            Some(format!("{}: {}", path.display(), obstacle.as_ref()?))
        };
        values.chain(files).filter_map(line).collect()
    }

    fn record(&self) -> Record {
        let value = |value: &ValueChange| match &value.step {
            Step::Change { before, then, .. } => Some(ValueRecord {
                name: value.name.clone(),
                path: value.path.clone(),
                before: before.clone(),
                after: then.clone(),
                is_list: value.is_list,
            }),
            Step::Keep { .. } | Step::Skip { .. } => None,
        };
        let changed = self.files.iter().filter(|file| !file.is_same());
        let files: Vec<FileRecord> = changed
            .map(|file| FileRecord {
                path: file.path.clone(),
                before: file.before.clone(),
                after: file.text.clone(),
                after_mode: file.mode,
                new_directories: files::missing_directories(&file.path),
            })
            .collect();
        let values = self.values.iter().filter_map(value).collect();
        Record::new(&self.profile, &self.root, values, files)
    }

    fn write_all(&self, record: &Record) -> Result<(), String> {
        for value in &record.values {
            files::write_value(&value.path, &format!("{}\n", value.after))
                .and_then(|()| value.confirm())
                .map_err(|error| {
                    format!("{}: cannot be set to {}: {error}", value.name, value.after)
                })?;
        }
        for file in &record.files {
            let state = FileState::of_text(&file.after, file.after_mode);
            files::write_file(&file.path, &state)
                .map_err(|error| format!("{}: cannot be written: {error}", file.path.display()))?;
        }
        Ok(())
    }
}

/// Gives a setting the value that the host has after the apply, so that the file keeps it over a restart.
fn adjust(setting: &mut Setting, step: &Step, is_in_file: bool) {
    match step {
        Step::Change { then, .. } => {
            setting.value.clone_from(then);
            setting.is_comment_because = None;
        }
        // What the kernel computed itself it computes again, with more memory perhaps. What an earlier apply
        // has set it does not.
        Step::Keep { now, .. } if setting.is_comment_because.is_some() && !is_in_file => {
            let why = format!("This host has {now} of its own, which does.");
            setting.is_comment_because = Some(why);
        }
        Step::Keep { now, .. } => {
            setting.value.clone_from(now);
            setting.is_comment_because = None;
        }
        Step::Skip { why } => setting.is_comment_because = Some(format!("Not set here: {why}.")),
    }
}

fn file_change(file: RenderedFile, root: &Root) -> Option<FileChange> {
    let path = root.at(file.installed?);
    let (before, unreadable) = match FileState::read(&path) {
        Ok(before) => (before, None),
        Err(problem) => (None, Some(problem)),
    };
    let mut change = FileChange {
        text: file.text,
        mode: file.mode,
        before,
        obstacle: unreadable,
        path,
    };
    if change.obstacle.is_none() && !change.is_same() {
        change.obstacle = files::obstacle_of_file(&change.path);
    }
    Some(change)
}

/// Returns the file of a sysctl.
fn path_of(name: &str) -> PathBuf {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let below: String = name.chars().map(swap).collect();
    Path::new("/proc/sys").join(below)
}

#[cfg(test)]
mod tests;
